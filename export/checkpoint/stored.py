"""Where one tensor lies in a file, and how to look at it there. Knows bytes and bounds; refuses to know formats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import CheckpointError

# The dtype's name (as torch spells it) -> how its bits lie in a file, always little-endian. numpy has no bfloat16: its
# 16 bits are the upper half of a float32, and are widened on reading.
DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "float64": np.dtype("<f8"),
        "float32": np.dtype("<f4"),
        "float16": np.dtype("<f2"),
        "bfloat16": np.dtype("<u2"),
        "int64": np.dtype("<i8"),
        "int32": np.dtype("<i4"),
        "int16": np.dtype("<i2"),
        "int8": np.dtype("i1"),
        "uint64": np.dtype("<u8"),
        "uint32": np.dtype("<u4"),
        "uint16": np.dtype("<u2"),
        "uint8": np.dtype("u1"),
        "bool": np.dtype("?"),
    }
)

MAX_RANK = 32  # numpy 1's limit; a weight has four dimensions at most
MAX_BYTES = 2**62  # above this numpy's own arithmetic on sizes overflows


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor inside a file. Made by `place`, which checks it: the bytes it names lie inside the file.

    Attributes:
        file: the file that holds it.
        dtype: a key of `DTYPES`.
        shape: the size of each dimension.
        strides: the step of each dimension in bytes.
        start: where its first element begins, in bytes from the start of the file.
        end: one past its last byte; equal to `start` if it has no elements.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    end: int

    def view(self, content: NDArray[np.uint8]) -> NDArray[Any]:
        """The tensor, read-only: a view of `content` (the file, mapped), or a float32 copy if it is bfloat16.

        Raises:
            CheckpointError: the file has become shorter since it was opened.
        """
        if self.end > content.size:
            raise CheckpointError(f"{self.file} was cut short while it was being read. Fetch it again.")
        bits: NDArray[Any]
        if self.start == self.end:
            bits = np.zeros(self.shape, DTYPES[self.dtype])
        else:
            bits = np.ndarray(self.shape, DTYPES[self.dtype], buffer=content, offset=self.start, strides=self.strides)
        if self.dtype == "bfloat16":
            wide = bits.astype(np.uint32, order="C")
            wide <<= 16
            bits = wide.view(np.float32)
        bits.flags.writeable = False
        return bits


def place(
    file: Path, name: str, *, dtype: str, shape: Sequence[Any], strides: Sequence[Any] | None, offset: int, room: range
) -> Stored:
    """Check a tensor that a file describes, and say where it lies.

    Args:
        file: the file that holds it.
        name: the tensor's name, for messages.
        dtype: a key of `DTYPES`.
        shape: the size of each dimension; anything that is no plausible size is an error.
        strides: the step of each dimension, in elements; None means row after row.
        offset: where its first element begins, in elements from the start of `room`.
        room: the bytes of the file that it may touch; the caller has checked that they lie inside the file.

    Raises:
        CheckpointError: a size or step is negative, absurd or no integer, or the tensor reaches outside its room.
    """
    width = DTYPES[dtype].itemsize
    what = f"{file}: tensor {name[:200]!r}"
    if len(shape) > MAX_RANK:
        raise CheckpointError(f"{what} has {len(shape)} dimensions, expected {MAX_RANK} at most. The file is damaged.")
    if strides is None:
        strides = _row_after_row(shape)
    if len(strides) != len(shape):
        raise CheckpointError(f"{what} has {len(shape)} sizes but {len(strides)} strides. The file is damaged.")
    for number in (*shape, *strides, offset):
        # bool is an int to Python, but not a size.
        if type(number) is not int or not 0 <= number < MAX_BYTES:
            raise CheckpointError(f"{what} has an impossible size, stride or offset. The file is damaged or hostile.")
    if math.prod(max(size, 1) for size in shape) * width >= MAX_BYTES:
        raise CheckpointError(f"{what} has an impossible shape. The file is damaged or hostile.")
    reach = 0 if 0 in shape else 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    start = room.start + offset * width
    end = start + reach * width
    if end > room.stop:
        raise CheckpointError(
            f"{what} needs {end - room.start:,} bytes, but {len(room):,} are stored for it. "
            "The file is damaged: fetch it again."
        )
    steps = tuple(step * width if size > 1 else width for size, step in zip(shape, strides, strict=True))
    return Stored(file, dtype, tuple(shape), steps, start, end)


def _row_after_row(shape: Sequence[Any]) -> list[Any]:
    """Strides in elements of an array without gaps, last dimension fastest. Sizes that are no integers pass through."""
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size if type(size) is int else 1
    return strides[::-1]
