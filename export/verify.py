"""The bundle's answers against the checkpoint's. Knows how a forward pass goes, and nothing of graphs.

The reference is written in plain numpy and shares the names of the checkpoint's tensors with the graph writer, nothing else.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle
from edgenlp.decoder import Decoder
from edgenlp.encode import Encoder
from edgenlp.errors import VerificationError
from edgenlp.logits import log_softmax
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .checkpoint import Checkpoint
from .families.bert import relative_buckets
from .families.parts import Decoder as DecoderBody
from .families.parts import Dense, Head, Layer, Norm, RelativeBias
from .families.parts import Encoder as Body
from .quantize import SCHEMES
from .reference_decoder import forward_decoder

__all__ = ["Window", "cache_scales", "check", "compare", "forward", "measure"]

Floats = NDArray[np.float32]
_SAMPLE = Path(__file__).with_name("sample.txt")
_LONGEST = 64  # tokens of one text: enough for every part of the graph to take part


class Window(NamedTuple):
    """One text: its ids and type ids."""

    ids: list[int]
    type_ids: list[int]


def measure(
    folder: Path, bundle: Bundle, checkpoint: Checkpoint, body: Body | DecoderBody, head: Head
) -> dict[str, float]:
    """Run real text through the bundle in `folder` and through the reference; see `compare` for what comes back.

    Of a decoder also `perplexity` and `reference_perplexity`: how surprised the bundle and the checkpoint are by the text.
    """
    tokens = Tokens(folder / bundle.tokenizer.file, bundle.tokenizer)
    if isinstance(body, DecoderBody):
        return _measure_decoder(folder, bundle, checkpoint, body, tokens)
    lines = _SAMPLE.read_text(encoding="utf-8").splitlines()
    texts: list[str | tuple[str, str]] = [*lines, (lines[0], lines[1]), (lines[2], lines[3])]
    longest = min(bundle.window, _LONGEST)
    encoded = [windows[0] for windows in tokens.encode(texts, max_length=longest, truncation="longest_first")]
    windows = [
        Window(list(item.ids), list(item.type_ids) if bundle.tokenizer.type_ids else [0] * len(item))
        for item in encoded
    ]
    windows = [window for window in windows if window.ids]
    rows = [sorted({0, len(window.ids) // 2, len(window.ids) - 1}) for window in windows]
    expected = forward(checkpoint, body, head, windows, rows)
    checkpoint.release()
    encoder = Encoder(Session(folder / bundle.graphs["encoder"]), window=bundle.window, tokens=256)
    found = encoder(windows, rows=rows)
    (output,) = encoder.outputs
    figures = compare([item[output] for item in found], expected)
    if head.kind == "hidden-states":
        del figures["agreement"]  # the largest component of a vector is no answer
    return {**figures, "texts": len(windows), "tokens": sum(len(window.ids) for window in windows)}


def _measure_decoder(
    folder: Path, bundle: Bundle, checkpoint: Checkpoint, body: DecoderBody, tokens: Tokens
) -> dict[str, float]:
    lines = _SAMPLE.read_text(encoding="utf-8").splitlines()
    longest = min(bundle.window, _LONGEST)
    encoded = tokens.encode(lines, max_length=longest, truncation="longest_first")
    texts = [list(windows[0].ids) for windows in encoded if windows[0].ids]
    expected = forward_decoder(checkpoint, body, texts)
    checkpoint.release()
    decoder = Decoder(Session(folder / bundle.graphs["decoder"]), window=bundle.window, tokens=256)
    found = decoder.start(len(texts), longest).read(texts, every=True)
    return {
        **compare(found, expected),
        "perplexity": _perplexity(found, texts),
        "reference_perplexity": _perplexity(expected, texts),
        "texts": len(texts),
        "tokens": sum(map(len, texts)),
    }


def cache_scales(folder: Path, bundle: Bundle, body: DecoderBody) -> dict[str, Floats]:
    """What a step of int8 keys and values must be worth, channel by channel, for real text to fit: name to [heads * size].

    Read off the cache of the float graph in `folder`, with a tenth to spare. A rotation moves a key between two channels, which
    therefore share the larger scale.
    """
    tokens = Tokens(folder / bundle.tokenizer.file, bundle.tokenizer)
    lines = _SAMPLE.read_text(encoding="utf-8").splitlines()
    decoder = Decoder(Session(folder / bundle.graphs["decoder"]), window=bundle.window, tokens=256)
    largest: dict[str, Floats] = {}
    for windows in tokens.encode(lines, max_length=min(bundle.window, _LONGEST), truncation="longest_first"):
        if not windows[0].ids:
            continue
        sequences = decoder.start(1, len(windows[0].ids))
        sequences.read([windows[0].ids])
        for name, held in sequences.cache.state().items():
            found = np.abs(held).max(axis=1)
            largest[name] = np.maximum(found, largest.get(name, found))
    for number, block in enumerate(body.blocks):
        if block.attention.rotary:
            found, pairs = largest[f"past_key_values.{number}.key"], len(block.attention.rotary.frequencies)
            found[:, : 2 * pairs] = np.tile(np.maximum(found[:, :pairs], found[:, pairs : 2 * pairs]), 2)
    return {name: np.maximum(found, 1e-6).reshape(-1) * np.float32(1.1 / 127) for name, found in largest.items()}


def _perplexity(logits: Sequence[Floats], texts: Sequence[Sequence[int]]) -> float:
    """Exponential of the mean surprise, in nats, at each token after the first of a text."""
    surprises = [
        -log_softmax(rows[:-1])[np.arange(len(ids) - 1), ids[1:]] for rows, ids in zip(logits, texts, strict=True)
    ]
    mean = float(np.concatenate(surprises).mean(dtype=np.float64))
    return float(f"{math.exp(min(mean, 700)):.4g}")


def compare(found: Sequence[Floats], expected: Sequence[Floats]) -> dict[str, float]:
    """How far arrays are from the ones expected.

    Returns:
        `max_difference` and `mean_difference` of elements; `relative_error`, the root mean square of the difference over the
        standard deviation of what was expected; `cosine`, the lowest between two rows; `agreement`, the share of rows whose
        largest column is the same.
    """
    left = np.concatenate([np.atleast_2d(array) for array in found]).astype(np.float64)
    right = np.concatenate([np.atleast_2d(array) for array in expected]).astype(np.float64)
    difference = np.abs(left - right)
    spread = max(float(right.std()), 1e-12)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1) / np.maximum(lengths, 1e-24)
    figures = {
        "max_difference": difference.max(),
        "mean_difference": difference.mean(),
        "relative_error": math.sqrt((difference**2).mean()) / spread,
        "cosine": cosines.min(),
        "agreement": (left.argmax(axis=1) == right.argmax(axis=1)).mean(),
    }
    return {name: float(f"{float(value):.4g}") for name, value in figures.items()}  # four digits: the rest is noise


def check(figures: dict[str, float], precision: str, tolerance: float | None) -> None:
    """Refuse a bundle that is too far from its checkpoint.

    Args:
        figures: From `measure`.
        precision: Name of the scheme.
        tolerance: Largest relative error; None for the scheme's own.

    Raises:
        VerificationError: It is too far, or not even a number.
    """
    limit = SCHEMES[precision].tolerance if tolerance is None else tolerance
    error = figures["relative_error"]
    if not error <= limit:  # also where it is not a number
        raise VerificationError(
            f"the {precision} bundle's answers are {error:.3g} of their spread away from the checkpoint's, {limit:g} is allowed;"
            " choose a higher precision, keep sensitive tensors with --keep fp32=PATTERN, or allow more with --tolerance"
        )


def forward(
    checkpoint: Checkpoint, body: Body, head: Head, windows: Sequence[Window], rows: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        body: What the encoder consists of.
        head: What stands on it.
        windows: Ids and type ids of each text.
        rows: Per text the positions that a masked LM projects.

    Returns:
        Per text: [columns] of a head on the first token, [len(rows), columns] of a masked LM, else [tokens, columns].
    """
    model = _Reference(checkpoint)
    lengths = [len(window.ids) for window in windows]
    ends = np.cumsum(lengths)
    x = model.embed(body, windows)  # [all tokens, hidden]
    for layer in body.layers:
        x = model.layer(x, layer, body.bias, ends)
        checkpoint.release()
    starts = ends - lengths
    if head.first_token:
        x, parts = x[starts], np.arange(1, len(windows))
    elif head.kind == "masked-lm":
        x = x[np.concatenate([start + np.asarray(wanted) for start, wanted in zip(starts, rows, strict=True)])]
        parts = np.cumsum([len(wanted) for wanted in rows])[:-1]
    else:
        parts = ends[:-1]
    for step in head.steps:
        x = (
            model.dense(x, step)
            if isinstance(step, Dense)
            else model.norm(x, step)
            if isinstance(step, Norm)
            else _activate(x, step)
        )
    if head.tied:
        x = x @ model.tensor(head.tied).T + (model.tensor(head.tied_bias) if head.tied_bias else np.float32(0))
    return [part[0] if head.first_token else part for part in np.split(x, parts)]


class _Reference:
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def tensor(self, name: str) -> Floats:
        return np.asarray(self._checkpoint.tensor(name), np.float32)

    def dense(self, x: Floats, part: Dense) -> Floats:
        y = x @ self.tensor(part.weight).T
        return y + self.tensor(part.bias) if part.bias else y

    def norm(self, x: Floats, part: Norm) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + part.eps) * self.tensor(str(part.weight))
        result: Floats = scaled + self.tensor(part.bias) if part.bias else scaled
        return result

    def embed(self, body: Body, windows: Sequence[Window]) -> Floats:
        tokens = np.concatenate([np.asarray(window.ids) for window in windows])
        places = np.concatenate([_places(np.asarray(window.ids), body) for window in windows])
        x = np.asarray(self._checkpoint.tensor(body.words)[tokens], np.float32) + self.tensor(body.positions)[places]
        if body.types:
            table = self.tensor(body.types)
            kinds = np.concatenate([np.asarray(window.type_ids) for window in windows])
            x = x + table[kinds if len(table) > 1 else 0]
        x = self.norm(x, body.norm)
        return self.dense(x, body.projection) if body.projection else x

    def layer(self, x: Floats, layer: Layer, bias: RelativeBias | None, ends: NDArray[np.int64]) -> Floats:
        part = layer.attention
        q, k, v = (self.dense(x, d) for d in (part.query, part.key, part.value))
        texts = zip(np.split(q, ends[:-1]), np.split(k, ends[:-1]), np.split(v, ends[:-1]), strict=True)
        table = self.tensor(bias.table) if bias else None
        mixed = np.concatenate([_attend(*text, part.heads, bias, table) for text in texts])
        x = self.norm(x + self.dense(mixed, part.output), layer.attention_norm)
        return self.norm(
            x + self.dense(_activate(self.dense(x, layer.up), layer.activation), layer.down), layer.ffn_norm
        )


def _places(ids: NDArray[np.int64], body: Body) -> NDArray[np.int64]:
    """Rows of the position table that the tokens of one text take."""
    if body.skipped_id is None:
        return np.arange(len(ids))
    real = ids != body.skipped_id
    places: NDArray[np.int64] = np.cumsum(real) * real + body.first_position - 1
    return places


def _attend(q: Floats, k: Floats, v: Floats, heads: int, bias: RelativeBias | None, table: Floats | None) -> Floats:
    """Softmax(q k^T / sqrt(size) + bias) v of one text, all [tokens, heads * size]."""
    q, k, v = (array.reshape(len(array), heads, -1).transpose(1, 0, 2) for array in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))
    if bias is not None and table is not None:
        apart = np.arange(q.shape[1])[None, :] - np.arange(q.shape[1])[:, None]
        scores = scores + table[relative_buckets(apart, bias.buckets, bias.farthest)].transpose(2, 0, 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Floats = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1)


def _activate(x: Floats, kind: str) -> Floats:
    if kind == "gelu":
        return x * np.float32(0.5) * (1 + _erf(np.atleast_2d(x / np.float32(math.sqrt(2)))).reshape(x.shape))
    if kind == "gelu_tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), np.float32)
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "tanh":
        return np.tanh(x)
    sigmoid = 1 / (1 + np.exp(-(x * 1.702 if kind == "quick_gelu" else x)))
    return np.asarray(sigmoid if kind == "sigmoid" else x * sigmoid, np.float32)


def _erf(x: Floats) -> Floats:
    """The error function to 1.2e-7, by Numerical Recipes' Chebyshev fit of erfc (Press et al., 2nd edition, section 6.2)."""
    result = np.empty_like(x)
    for row, out in zip(x, result, strict=True):  # row by row: it needs several copies, in float64
        z = np.abs(row.astype(np.float64))
        t = 1 / (1 + 0.5 * z)
        series = np.polynomial.polynomial.polyval(t, _ERFC)
        erfc = t * np.exp(-z * z + series)
        out[...] = np.where(row >= 0, 1 - erfc, erfc - 1)
    return result


_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip
