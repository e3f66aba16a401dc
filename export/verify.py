"""The bundle's answers against the checkpoint's. The reference is a forward pass in plain numpy, which shares the checkpoint's names
with the graph writer and nothing else.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle
from edgenlp.encode import Encoder
from edgenlp.errors import VerificationError
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .checkpoint import Checkpoint
from .families.bert import relative_buckets
from .families.parts import Dense, Head, Layer, Norm
from .families.parts import Encoder as Body
from .quantize import SCHEMES

__all__ = ["check", "compare", "forward", "measure"]

Floats = NDArray[np.float32]
_SAMPLE = Path(__file__).with_name("sample.txt")
_LONGEST = 96  # tokens of one text: enough for every part of the graph to take part


class _Window(NamedTuple):
    ids: list[int]
    type_ids: list[int]


def measure(folder: Path, bundle: Bundle, checkpoint: Checkpoint, body: Body, head: Head) -> dict[str, float]:
    """Run real text through the bundle in `folder` and through the reference; see `compare` for what comes back."""
    tokens = Tokens(folder / bundle.tokenizer.file, bundle.tokenizer)
    lines = _SAMPLE.read_text(encoding="utf-8").splitlines()
    texts: list[str | tuple[str, str]] = [*lines, (lines[0], lines[1]), (lines[2], lines[3])]
    longest = min(bundle.window, _LONGEST)
    encoded = [windows[0] for windows in tokens.encode(texts, max_length=longest, truncation="longest_first")]
    windows = [_Window(list(item.ids), list(item.type_ids) if bundle.tokenizer.type_ids else [0] * len(item)) for item in encoded]
    windows = [window for window in windows if window.ids]
    rows = [sorted({0, len(window.ids) // 2, len(window.ids) - 1}) for window in windows]
    encoder = Encoder(Session(folder / bundle.graphs["encoder"]), window=bundle.window, tokens=512)
    found = encoder(windows, rows=rows)
    reference = _Reference(checkpoint, body, head)
    expected = [reference(window, chosen) for window, chosen in zip(windows, rows, strict=True)]
    (output,) = encoder.outputs
    figures = compare([item[output] for item in found], expected)
    return {**figures, "texts": len(windows), "tokens": sum(len(window.ids) for window in windows)}


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


class _Reference:
    """The forward pass of one text, in float32."""

    def __init__(self, checkpoint: Checkpoint, body: Body, head: Head) -> None:
        self._checkpoint = checkpoint
        self._body = body
        self._head = head

    def __call__(self, window: _Window, rows: Sequence[int]) -> Floats:
        return forward(self._checkpoint, self._body, self._head, window.ids, window.type_ids, rows)


def forward(
    checkpoint: Checkpoint, body: Body, head: Head, ids: Sequence[int], type_ids: Sequence[int], rows: Sequence[int]
) -> Floats:
    """Outputs of one text: [columns] of a first-token head, [len(rows), columns] of a masked LM, else [tokens, columns]."""

    def tensor(name: str) -> Floats:
        return np.asarray(checkpoint.tensor(name), np.float32)

    def dense(x: Floats, part: Dense) -> Floats:
        y = x @ tensor(part.weight).T
        return y + tensor(part.bias) if part.bias else y

    def norm(x: Floats, part: Norm) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + part.eps) * tensor(part.weight)
        result: Floats = scaled + tensor(part.bias) if part.bias else scaled
        return result

    def attend(x: Floats, layer: Layer, bias: Floats | float) -> Floats:
        part = layer.attention
        shape = (len(x), part.heads, part.head_size)
        q, k, v = (dense(x, d).reshape(shape).transpose(1, 0, 2) for d in (part.query, part.key, part.value))
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(part.head_size)) + bias
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ v
        return dense(mixed.transpose(1, 0, 2).reshape(len(x), -1), part.output)

    tokens = np.asarray(ids)
    places = np.arange(len(tokens))
    if body.skipped_id is not None:
        real = tokens != body.skipped_id
        places = np.cumsum(real) * real + body.first_position - 1
    x = np.asarray(checkpoint.tensor(body.words)[tokens], np.float32) + tensor(body.positions)[places]
    if body.types:
        x = x + tensor(body.types)[np.asarray(type_ids)]
    x = norm(x, body.norm)
    x = dense(x, body.projection) if body.projection else x
    bias: Floats | float = 0.0
    if body.bias:
        apart = np.arange(len(x))[None, :] - np.arange(len(x))[:, None]
        bias = tensor(body.bias.table)[relative_buckets(apart, body.bias.buckets, body.bias.farthest)].transpose(2, 0, 1)
    for layer in body.layers:
        x = norm(x + attend(x, layer, bias), layer.attention_norm)
        x = norm(x + dense(_activate(dense(x, layer.up), layer.activation), layer.down), layer.ffn_norm)
    x = x[0] if head.first_token else x[list(rows)] if head.kind == "masked-lm" else x
    for step in head.steps:
        x = dense(x, step) if isinstance(step, Dense) else norm(x, step) if isinstance(step, Norm) else _activate(x, step)
    if head.tied:
        x = x @ tensor(head.tied).T + (tensor(head.tied_bias) if head.tied_bias else np.float32(0))
    return x


def _activate(x: Floats, kind: str) -> Floats:
    if kind == "gelu":
        return np.asarray(x * 0.5 * (1 + _erf(x / math.sqrt(2))), np.float32)
    if kind == "gelu_tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), np.float32)
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "tanh":
        return np.tanh(x)
    sigmoid = 1 / (1 + np.exp(-(x * 1.702 if kind == "quick_gelu" else x)))
    return np.asarray(sigmoid if kind == "sigmoid" else x * sigmoid, np.float32)


def _erf(x: NDArray[Any]) -> NDArray[np.float64]:
    """The error function to 1.2e-7, by Numerical Recipes' Chebyshev fit of erfc (Press et al., 2nd edition, section 6.2)."""
    z = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.5 * z)
    series = (1.48851587, -0.82215223, 0.17087277)
    inner = -1.13520398 + t * (series[0] + t * (series[1] + t * series[2]))
    inner = 0.37409196 + t * (0.09678418 + t * (-0.18628806 + t * (0.27886807 + t * inner)))
    erfc = t * np.exp(-z * z - 1.26551223 + t * (1.00002368 + t * inner))
    return np.where(x >= 0, 1 - erfc, erfc - 1)
