"""Which row of its table DeBERTa takes for a distance. Knows no tensor and no graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .deberta_parts import Distances

__all__ = ["rows_of_distances"]


def rows_of_distances(distances: NDArray[Any], part: Distances) -> NDArray[np.int64]:
    """Row of each distance i - j from a query at i to a key at j; it never falls where the distance grows.

    make_log_bucket_position and the clamp behind it of transformers' DeBERTa-v2, whose float32 this keeps, because a rounding decides
    in which bucket a distance falls. Queries and keys take the same row: the keys' is that of -(j - i), and buckets are odd in it.

    Args:
        distances: Integers of any shape.
        part: How they are told apart.
    """
    near = part.buckets // 2
    if not near:
        return np.asarray(np.clip(distances + part.span, 0, 2 * part.span - 1), np.int64)
    away = np.maximum(np.abs(distances), near)
    share = _logarithm(away / near) / _logarithm(np.asarray((part.farthest - 1) / near))
    far = np.ceil(share * np.float32(near - 1)) + near
    buckets = np.where(np.abs(distances) <= near, distances, np.sign(distances) * far).astype(np.int64)
    return np.asarray(np.clip(buckets + part.span, 0, 2 * part.span - 1), np.int64)


def _logarithm(ratio: NDArray[Any]) -> NDArray[np.float32]:
    """The natural one in float32; by way of float64, because float32's own differs by a bit between machines."""
    return np.asarray(np.log(ratio.astype(np.float32).astype(np.float64)), np.float32)
