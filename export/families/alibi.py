"""Attention with linear biases (Press et al., 2021): the slopes of heads and the biases of positions. Knows no tensor."""

import math

import numpy as np
from numpy.typing import NDArray

from .parts import SelfAttention

__all__ = ["biases", "slopes"]

Floats = NDArray[np.float32]


def slopes(heads: int) -> tuple[float, ...]:
    """The slopes of `heads` heads (build_alibi_tensor of transformers' modeling_bloom and modeling_falcon).

    A power of two p has 2^(-8/p), 2^(-16/p)…; other numbers take the rest from every other slope of the next power.
    """
    power = 2 ** math.floor(math.log2(heads))
    first = np.float32(2 ** (-8 / power)).item()
    between = np.float32(2 ** (-4 / power)).item()
    exact = [first ** (i + 1) for i in range(power)] + [between ** (2 * i + 1) for i in range(heads - power)]
    return tuple(np.asarray(exact, np.float32).tolist())


def biases(attention: SelfAttention, window: int) -> Floats:
    """What is added to the scaled scores of every key's position, float32 [heads, window].

    Falcon rounds the unscaled slopes, and their products with the positions, to bfloat16.
    """
    assert attention.alibi is not None
    places = np.arange(window, dtype=np.float32)
    scaled = np.asarray(attention.alibi.slopes, np.float32)
    if not attention.alibi.rounded:
        return scaled[:, None] * places
    plain = _bfloat16(scaled / np.float32(attention.scale))
    # bfloat16 times an integer: torch converts the integer to bfloat16, multiplies in float32 and rounds
    return _bfloat16(plain[:, None] * _bfloat16(places)) * np.float32(attention.scale)


def _bfloat16(values: Floats) -> Floats:
    """Rounded to bfloat16, ties to even, kept in float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return rounded.astype(np.uint32).view(np.float32)
