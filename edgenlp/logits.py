"""Arrays to choices, in pure numpy. Knows no text, no graph and no task."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["POOLINGS", "best", "cosine", "log_softmax", "pool", "quantize_embeddings", "sigmoid", "softmax", "unit"]

Floats = NDArray[np.float32]


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
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    candidates = np.flatnonzero(scores >= threshold)  # more than `count` where scores tie
    return candidates[np.argsort(-scores[candidates], kind="stable")][:count]


POOLINGS = ("cls", "last", "max", "mean", "mean_sqrt_len", "weighted_mean")


def pool(hidden: Floats, mode: str) -> Floats:
    """One vector [H] of the token vectors `hidden` [tokens, H] of one text, padding already cut off.

    The modes are those of sentence-transformers' `Pooling` module; "weighted_mean" weighs token i (from 1) by i, "mean_sqrt_len"
    divides the sum by the square root of the number of tokens.

    Raises:
        KeyError: `mode` is none of `POOLINGS`.
    """
    if not len(hidden):
        return np.zeros(hidden.shape[-1], np.float32)
    count = len(hidden)
    if mode == "weighted_mean":
        weights = np.arange(1, count + 1, dtype=np.float32)
        return weights @ hidden / weights.sum()
    pooled: dict[str, Floats] = {
        "cls": hidden[0],
        "last": hidden[-1],
        "max": hidden.max(axis=0),
        "mean": hidden.mean(axis=0),
        "mean_sqrt_len": hidden.sum(axis=0) / np.float32(np.sqrt(count)),
    }
    return pooled[mode]


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
        precision: "float32" as they are; "int8" each component times 127 over the vector's largest magnitude, so that the
            direction, and with it the cosine, is kept; "ubinary" one bit per component (positive or not), packed eight to a byte, as
            uint8; "binary" the same bytes minus 128, as int8 (sentence-transformers' `quantize_embeddings`).
    """
    if precision == "float32":
        return vectors
    if precision == "int8":
        largest = np.maximum(np.abs(vectors).max(axis=-1, keepdims=True), 1e-12)
        return np.rint(vectors * (127 / largest)).astype(np.int8)
    bits = np.packbits(vectors > 0, axis=-1)
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
