"""Arrays to choices, in pure numpy. Knows no text, no graph and no task."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "POOLINGS",
    "best",
    "best_sums",
    "cosine",
    "log_softmax",
    "pool",
    "quantize_embeddings",
    "sigmoid",
    "softmax",
    "unit",
]

Floats = NDArray[np.float32]

_DEEP = 64  # columns that `best_sums` looks at together


def softmax(x: Floats, axis: int = -1) -> Floats:
    """Probabilities along `axis`; the maximum is subtracted first, so that no exponential overflows."""
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return result


def log_softmax(x: Floats, axis: int = -1) -> Floats:
    """Logarithm of `softmax`, exact where the probability itself would round to zero."""
    shifted = x - x.max(axis=axis, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return result


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), elementwise, without overflow on either side."""
    exponentials = np.exp(-np.abs(x))
    result: Floats = np.where(x >= 0, 1, exponentials) / (1 + exponentials)
    return result


def best(scores: NDArray[Any], count: int | None) -> NDArray[np.intp]:
    """Indices of the `count` highest of `scores` [N], the highest first; of equals the first index wins.

    Args:
        scores: One score per candidate.
        count: How many; None, or more than there are, for all.
    """
    if count is None or count >= len(scores):
        return np.argsort(-scores, kind="stable")
    if count == 0:
        return np.empty(0, np.intp)
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    candidates = np.flatnonzero(scores >= threshold)  # more than `count` where scores tie
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


def best_sums(scores: Floats, added: Floats, count: int) -> tuple[NDArray[np.intp], Floats]:
    """The `count` highest of scores [rows, columns] plus added [rows], the highest first; of equals the first in row order wins.

    Rows are folded into a few dozen strips of columns: the highest sums are in places where the strips' maxima are among the highest,
    and the rest is looked at once.

    Returns:
        Their indices in the flattened table, and the sums.
    """
    rows, columns = scores.shape
    width = columns // _DEEP
    if width <= count:
        total = (scores + added[:, None]).ravel()
        chosen = best(total, count)
        return chosen, total[chosen]
    folded = scores[:, : width * _DEEP].reshape(rows, _DEEP, width)
    peaks = (folded.max(axis=1) + added[:, None]).ravel()
    threshold = np.partition(peaks, len(peaks) - count)[len(peaks) - count]
    row, place = np.divmod(np.flatnonzero(peaks >= threshold), width)
    own = (row[:, None] * columns + place[:, None] + width * np.arange(_DEEP)).ravel()
    rest = (columns * np.arange(rows)[:, None] + np.arange(width * _DEEP, columns)).ravel()
    places = np.sort(np.concatenate([own, rest]))
    sums: Floats = scores.ravel()[places] + added[places // columns]
    chosen = best(sums, count)
    return places[chosen], sums[chosen]


POOLINGS = ("cls", "last", "max", "mean", "mean_sqrt_len", "weighted_mean")


def pool(hidden: Floats, mode: str, *, skip: int = 0) -> Floats:
    """One vector [H] of the token vectors `hidden` [tokens, H] of one text, padding already cut off.

    The modes are those of sentence-transformers' `Pooling` module; "weighted_mean" weighs token i (from 1) by i,
    "mean_sqrt_len" divides the sum by the square root of the number of tokens.

    Args:
        hidden: A vector per token.
        mode: One of `POOLINGS`.
        skip: How many leading tokens (a prompt's) take no part. They still count in the weights of "weighted_mean", and
            "cls" is the first token even so, as in sentence-transformers.

    Raises:
        KeyError: `mode` is none of `POOLINGS`.
    """
    kept = hidden[:1] if mode == "cls" else hidden[skip:]
    if not len(kept):
        return np.zeros(hidden.shape[-1], np.float32)
    if mode == "weighted_mean":
        weights = np.arange(skip + 1, len(hidden) + 1, dtype=np.float32)
        weighted: Floats = weights @ kept / weights.sum()
        return weighted
    pooled: dict[str, Callable[[], Floats]] = {
        "cls": lambda: kept[0],
        "last": lambda: kept[-1],
        "max": lambda: kept.max(axis=0),
        "mean": lambda: kept.mean(axis=0),
        "mean_sqrt_len": lambda: kept.sum(axis=0) / np.float32(np.sqrt(len(kept))),
    }
    return pooled[mode]()


def unit(vectors: Floats) -> Floats:
    """`vectors` [..., H] scaled to length 1; a zero vector stays zero (torch.nn.functional.normalize, eps 1e-12)."""
    result: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return result


def cosine(left: Floats, right: Floats) -> Floats:
    """Cosine of the angles between each of `left` [N, H] and each of `right` [M, H]: [N, M], from -1 to 1."""
    result: Floats = unit(np.atleast_2d(left)) @ unit(np.atleast_2d(right)).T
    return result


def quantize_embeddings(vectors: Floats, precision: str) -> NDArray[Any]:
    """Smaller forms of embeddings `vectors` [..., H].

    Args:
        vectors: Embeddings.
        precision: "float32" as they are; "int8" each component times 127 over the vector's largest magnitude, so that
            the direction, and with it the cosine, is kept; "ubinary" one bit per component (positive or not), packed
            eight to a byte, as uint8; "binary" the same bytes minus 128, as int8 (sentence-transformers'
            `quantize_embeddings`).
    """
    if precision == "float32":
        return vectors
    if precision == "int8":
        largest = np.maximum(np.abs(vectors).max(axis=-1, keepdims=True), 1e-12)
        scaled: Floats = np.rint(vectors * (127 / largest))
        return scaled.astype(np.int8)
    bits: NDArray[np.uint8] = np.packbits(vectors > 0, axis=-1)
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
