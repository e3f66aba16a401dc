"""The bundle's answers against the checkpoint's. Knows what is measured and how far off it may be; nothing of graphs and layers."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle
from edgenlp.decoder import Decoder
from edgenlp.encode import Encoder
from edgenlp.encoder_decoder import EncoderDecoder
from edgenlp.errors import VerificationError
from edgenlp.logits import log_softmax
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .checkpoint import Checkpoint
from .families import parts
from .quantize import SCHEMES
from .reference import READING, Window, forward_classifier, forward_decoder, forward_seq2seq
from .sample import LINES, sample_ids, sample_pairs, split_pairs

__all__ = ["cache_scales", "check", "compare", "measure"]

Floats = NDArray[np.float32]
_LOGITS = 1 << 24  # of a decoder compared at a time, at most: a quarter of a million words take less text
_MASKED = -1e6  # a logit below it is not meant to be chosen, ever
_LONGEST = 64  # tokens of one text: enough for every part of most graphs to take part
_LONGEST_CUT = 1024  # of the one text that is long enough for a graph to cut it into blocks


def measure(
    folder: Path,
    bundle: Bundle,
    checkpoint: Checkpoint,
    body: parts.Body,
    head: parts.Head,
) -> dict[str, float]:
    """Run real text through the bundle in `folder` and through the reference; see `compare` for what comes back.

    Where a graph cuts long texts into blocks, one text is as long as that takes, up to `_LONGEST_CUT` tokens.
    Of a model that writes also `perplexity` and `reference_perplexity`: how surprised the bundle and the checkpoint are by the text.
    An encoder-decoder writes what it reads.
    """
    tokens = Tokens(folder / bundle.tokenizer.file, bundle.tokenizer)
    if isinstance(body, parts.Decoder):
        return _measure_decoder(folder, bundle, checkpoint, body, tokens)
    if isinstance(body, parts.EncoderDecoder) and head.kind == "seq2seq-lm":
        return _measure_seq2seq(folder, bundle, checkpoint, body, tokens)
    texts: list[str | tuple[str, str]] = [*LINES, (LINES[0], LINES[1]), (LINES[2], LINES[3])]
    longest = min(bundle.window, _LONGEST)
    encoded = [windows[0] for windows in tokens.encode(texts, max_length=longest, truncation="longest_first")]
    least = body.cut_from if isinstance(body, parts.InBlocks) else 0
    if max(map(len, encoded)) < least <= min(bundle.window, _LONGEST_CUT):
        encoded.append(tokens.encode([" ".join([*LINES] * 3)], max_length=least, truncation="longest_first")[0][0])
    windows = [
        Window(list(item.ids), list(item.type_ids) if bundle.tokenizer.type_ids else [0] * len(item))
        for item in encoded
    ]
    windows = [window for window in windows if window.ids]
    rows = [sorted({0, len(window.ids) // 2, len(window.ids) - 1}) for window in windows]
    if isinstance(body, parts.EncoderDecoder):
        expected = forward_classifier(checkpoint, body, head, [window.ids for window in windows])
    else:
        expected = READING[type(body)](checkpoint, body, head, windows, rows)
    checkpoint.release()
    encoder = Encoder(Session(folder / bundle.graphs["encoder"]), window=bundle.window, tokens=256)
    found = encoder(windows, rows=rows)
    (output,) = encoder.outputs
    figures = compare([item[output] for item in found], expected)
    if head.kind == "hidden-states":
        del figures["agreement"]  # the largest component of a vector is no answer
    return {**figures, "texts": len(windows), "tokens": sum(len(window.ids) for window in windows)}


def _measure_decoder(
    folder: Path, bundle: Bundle, checkpoint: Checkpoint, body: parts.Decoder, tokens: Tokens
) -> dict[str, float]:
    longest = min(bundle.window, _LONGEST)
    columns = checkpoint.shape(body.head.weight if body.head else body.words)[0]
    texts = sample_ids(tokens, LINES, longest, most=max(2 * longest, _LOGITS // columns))
    expected = forward_decoder(checkpoint, body, texts)
    checkpoint.release()
    found = {}
    for role, name in bundle.graphs.items():
        decoder = Decoder(Session(folder / name), window=bundle.window, tokens=256)
        found[role] = decoder.start(len(texts), longest).read(texts, every=True)
    figures = {
        **compare(found["decoder"], expected),
        "perplexity": _perplexity(found["decoder"], texts),
        "reference_perplexity": _perplexity(expected, texts),
        "texts": len(texts),
        "tokens": sum(map(len, texts)),
    }
    if "prompt" in found:
        figures["prompt_relative_error"] = compare(found["prompt"], expected)["relative_error"]
        figures["prompt_perplexity"] = _perplexity(found["prompt"], texts)
    return figures


def _measure_seq2seq(
    folder: Path, bundle: Bundle, checkpoint: Checkpoint, body: parts.EncoderDecoder, tokens: Tokens
) -> dict[str, float]:
    decoder, facts = body.decoder, bundle.target_tokenizer
    window = bundle.target_window or bundle.window
    longest = min(window, _LONGEST)
    columns = checkpoint.shape(decoder.head.weight if decoder.head else decoder.words)[0]
    sources, targets = sample_pairs(
        tokens,
        Tokens(folder / facts.file, facts) if facts else tokens,
        split_pairs(LINES),
        start=body.start,
        longest=min(bundle.window, _LONGEST),
        target_longest=longest,
        most=max(2 * longest, _LOGITS // columns),
    )
    expected = forward_seq2seq(checkpoint, body, sources, targets)
    checkpoint.release()
    sessions = (Session(folder / bundle.graphs[role]) for role in ("encoder", "decoder"))
    model = EncoderDecoder(*sessions, window=bundle.window, target_window=window, tokens=256)
    found = model.read(sources).start(len(sources), longest).read(targets, every=True)
    return {
        **compare(found, expected),
        "texts": len(targets),
        "tokens": sum(map(len, targets)),
    }


def cache_scales(folder: Path, bundle: Bundle, body: parts.Decoder) -> dict[str, Floats]:
    """What a step of int8 keys and values must be worth, channel by channel, for real text to fit: name to [heads * size].

    Read off the cache of the float graph in `folder`, with a tenth to spare. A rotation moves a key between two channels, which
    therefore share the larger scale.
    """
    tokens = Tokens(folder / bundle.tokenizer.file, bundle.tokenizer)
    decoder = Decoder(Session(folder / bundle.graphs["decoder"]), window=bundle.window, tokens=256)
    largest: dict[str, Floats] = {}
    for ids in sample_ids(tokens, LINES, min(bundle.window, _LONGEST)):
        sequences = decoder.start(1, len(ids))
        sequences.read([ids])
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
        largest column is the same. Columns that both sides mask (`final_logits_bias` of Marian) count for `agreement` only.
    """
    left = np.concatenate([np.atleast_2d(array) for array in found]).astype(np.float64)
    right = np.concatenate([np.atleast_2d(array) for array in expected]).astype(np.float64)
    agreement = (left.argmax(axis=1) == right.argmax(axis=1)).mean()
    masked = (left < _MASKED).all(axis=0) & (right < _MASKED).all(axis=0)
    left, right = left[:, ~masked], right[:, ~masked]
    difference = np.abs(left - right)
    spread = max(float(right.std()), 1e-12)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1) / np.maximum(lengths, 1e-24)
    figures = {
        "max_difference": difference.max(),
        "mean_difference": difference.mean(),
        "relative_error": math.sqrt((difference**2).mean()) / spread,
        "cosine": cosines.min(),
        "agreement": agreement,
    }
    return {name: float(f"{float(value):.4g}") for name, value in figures.items()}  # four digits: the rest is noise


def check(figures: dict[str, float], precision: str, tolerance: float | None, *, graph: str = "") -> None:
    """Refuse a bundle that is too far from its checkpoint.

    Args:
        figures: From `measure`.
        precision: Name of the scheme.
        tolerance: Largest relative error; None for the scheme's own.
        graph: "prompt_" for the figures of the graph that reads prompts.

    Raises:
        VerificationError: It is too far, or not even a number.
    """
    limit = SCHEMES[precision].tolerance if tolerance is None else tolerance
    error = figures[f"{graph}relative_error"]
    if not error <= limit:  # also where it is not a number
        raise VerificationError(
            f"the {precision} bundle's answers are {error:.3g} of their spread away from the checkpoint's, {limit:g} is allowed;"
            " choose a higher precision, keep sensitive tensors with --keep fp32=PATTERN, or allow more with --tolerance"
        )
