"""Tables of sines and cosines (Vaswani et al., 2017). Knows no tensor and no graph."""

import numpy as np
from numpy.typing import NDArray

from .parts import Sinusoids

__all__ = ["table"]


def table(sinusoids: Sinusoids, rows: int) -> NDArray[np.float32]:
    """Rows 0 to `rows` - 1 as float32 [rows, width], width being twice the number of frequencies.

    Angles, sines and cosines are float64 (MarianSinusoidalPositionalEmbedding of transformers). Where all frequencies are float32
    numbers, angles are rounded to float32 in between (M2M100SinusoidalPositionalEmbedding).
    """
    frequencies = np.asarray(sinusoids.frequencies, np.float64)
    angles = np.arange(rows, dtype=np.float64)[:, None] * frequencies
    if (frequencies == frequencies.astype(np.float32)).all():
        angles = angles.astype(np.float32).astype(np.float64)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
