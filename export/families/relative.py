"""Buckets of relative positions (Raffel et al., 2019). Knows no tensor and no graph."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["relative_buckets"]


def relative_buckets(
    distances: NDArray[Any], buckets: int, farthest: int, *, both_ways: bool = True
) -> NDArray[np.int64]:
    """Bucket of each distance j - i from a query at i to a key at j: exact for the nearer half of the buckets, then logarithmic.

    T5Attention._relative_position_bucket and MPNetEncoder.relative_position_bucket of transformers, whose float32 this keeps, because
    a rounding decides on which side of a border a distance falls.

    Args:
        distances: Integers of any shape.
        buckets: How many there are.
        farthest: Distance from which on all are alike.
        both_ways: Whether each direction has half of the buckets (encoders); else they are all for keys at or before the query
            (decoders), and later ones share its own.
    """
    own = buckets // 2 if both_ways else buckets
    exact = own // 2
    away = np.abs(distances) if both_ways else np.maximum(-distances, 0)
    ratio = np.maximum(away, 1).astype(np.float32) / np.float32(exact)
    logarithm = np.log(ratio.astype(np.float64)).astype(np.float32)  # float32's own differs by a bit between machines
    beyond = logarithm / np.float32(math.log(farthest / exact)) * np.float32(own - exact)
    far = np.minimum(exact + beyond.astype(np.int64), own - 1)
    first = np.where(distances > 0, own, 0) if both_ways else 0
    result: NDArray[np.int64] = first + np.where(away < exact, away, far)
    return result
