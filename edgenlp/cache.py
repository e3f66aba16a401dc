"""Keys and values between two steps: allocated once, then written in place. Knows arrays and lengths, no graph and no ids.

Every layer has one buffer of keys and one of values, [rows, heads, capacity, head size]. What a row holds is its first `lengths[row]`
positions; the rest is never read, so that forgetting a tail costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError

__all__ = ["Cache", "Layout"]


@dataclass(frozen=True)
class Layout:
    """One buffer of a layer: its name in the graph, heads, head size and dtype."""

    name: str
    heads: int
    size: int
    dtype: Any


class Cache:
    """The buffers of a batch of sequences.

    Args:
        layouts: The graph's buffers.
        rows: Rows to begin with.
        most: Most rows that there will ever be.
        capacity: Most positions of a row.

    Attributes:
        buffers: Name to array [most, heads, capacity, size].
        lengths: [rows] positions that each row holds.
        capacity: Most positions of a row.
        most: Most rows.
    """

    def __init__(self, layouts: Sequence[Layout], rows: int, most: int, capacity: int) -> None:
        alike: dict[tuple[int, int, Any], list[Layout]] = {}
        for item in layouts:
            alike.setdefault((item.heads, item.size, np.dtype(item.dtype)), []).append(item)
        # Buffers of a shape are one array, so that a row is copied in one go. Zeros are pages that the system hands out when they are
        # first written: capacity that is not used costs nothing.
        self._blocks = [
            np.zeros((len(items), most, heads, capacity, size), dtype) for (heads, size, dtype), items in alike.items()
        ]
        named = {
            item.name: block[place]
            for block, items in zip(self._blocks, alike.values(), strict=True)
            for place, item in enumerate(items)
        }
        self.buffers: dict[str, NDArray[Any]] = {item.name: named[item.name] for item in layouts}
        self.lengths = np.zeros(rows, np.int64)
        self.capacity = capacity
        self.most = most
        # How many positions of each two rows are known to be equal: these are never copied.
        self._common = np.zeros((most, most), np.int64)

    @property
    def rows(self) -> int:
        """Rows that are under way."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, used or not."""
        return sum(block.nbytes for block in self._blocks)

    def select(self, parents: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone.

        Raises:
            InputError: A parent does not exist, or there are more rows than the buffers hold.
        """
        chosen = np.asarray(parents, np.int64)
        if len(chosen) > self.most or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < self.rows):
            raise InputError(f"cannot go on with rows {chosen.tolist()} of {self.rows}; there is room for {self.most}")
        changed = np.flatnonzero(chosen != np.arange(len(chosen)))
        if len(changed):
            self._copy(changed, chosen[changed])
        common = np.where(chosen[:, None] == chosen, self.lengths[chosen], self._common[chosen[:, None], chosen])
        self._common[:] = 0
        self._common[: len(chosen), : len(chosen)] = common
        self.lengths = self.lengths[chosen]

    def _copy(self, rows: NDArray[np.int64], parents: NDArray[np.int64]) -> None:
        """What `parents` hold, as it was, to `rows`, but for what these hold already."""
        begins, ends = self._common[rows, parents], self.lengths[parents]
        spans = list(zip(rows.tolist(), parents.tolist(), begins.tolist(), ends.tolist(), strict=True))
        children = set(rows.tolist())
        for block in self._blocks:
            # a parent that is a child too is read before it is written
            early = [
                block[:, parent, :, begin:end].copy() if parent in children else None for _, parent, begin, end in spans
            ]
            for (row, parent, begin, end), kept in zip(spans, early, strict=True):
                if begin < end:
                    block[:, row, :, begin:end] = block[:, parent, :, begin:end] if kept is None else kept

    def rewind(self, lengths: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Keep the first lengths[row] positions of each row.

        Raises:
            InputError: A row holds fewer.
        """
        wanted = np.asarray(lengths, np.int64)
        if wanted.shape != self.lengths.shape or (wanted < 0).any() or (wanted > self.lengths).any():
            raise InputError(f"cannot rewind rows of {self.lengths.tolist()} positions to {wanted.tolist()}")
        self.lengths = wanted.copy()
        held = self._common[: self.rows, : self.rows]
        np.minimum(held, np.minimum(wanted[:, None], wanted), out=held)

    def state(self, row: int = 0) -> dict[str, NDArray[Any]]:
        """A copy of what a row holds: name to array [heads, length, size]."""
        return {name: buffer[row, :, : self.lengths[row]].copy() for name, buffer in self.buffers.items()}

    def restore(self, state: Mapping[str, NDArray[Any]], row: int = 0) -> None:
        """Put back what `state` gave.

        Raises:
            InputError: It comes from another graph, or is longer than the capacity.
        """
        lengths = {array.shape[1] for array in state.values() if array.ndim == 3}
        fits = set(state) == set(self.buffers) and len(lengths) == 1 and max(lengths) <= self.capacity
        for name, buffer in self.buffers.items():
            if not fits or state[name].dtype != buffer.dtype or state[name].shape[::2] != buffer.shape[1::2]:
                raise InputError(
                    "the saved state belongs to another model, or is longer than the window; begin a new conversation"
                )
        self.lengths[row] = lengths.pop()
        self._common[row] = self._common[:, row] = 0
        for name, buffer in self.buffers.items():
            buffer[row, :, : self.lengths[row]] = state[name]
