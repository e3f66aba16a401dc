"""Activations in plain numpy, as exact as float32 allows. Knows no layer."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["activate"]

Floats = NDArray[np.float32]


def activate(x: Floats, kind: str) -> Floats:
    """One of the activations of `parts.ACTIVATIONS`, element by element."""
    if kind == "gelu":
        return x * np.float32(0.5) * (1 + _erf(np.atleast_2d(x / np.float32(math.sqrt(2)))).reshape(x.shape))
    if kind == "gelu_tanh":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        return np.asarray(np.float32(0.5) * x * (1 + np.tanh(inner)), np.float32)
    if kind == "relu":
        return np.maximum(x, 0)
    if kind == "tanh":
        return np.tanh(x)
    # by tanh, which has no exponential that could overflow
    half = x * np.float32(0.851 if kind == "quick_gelu" else 0.5)
    sigmoid: Floats = np.float32(0.5) * (1 + np.tanh(half))
    return sigmoid if kind == "sigmoid" else x * sigmoid


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
