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
        # zeros are pages that the system hands out when they are first written: capacity that is not used costs nothing
        self.buffers: dict[str, NDArray[Any]] = {
            item.name: np.zeros((most, item.heads, capacity, item.size), item.dtype) for item in layouts
        }
        self.lengths = np.zeros(rows, np.int64)
        self.capacity = capacity
        self.most = most
        # Rows of one family began as copies of one row, and are equal in the first `_base` positions: those are never copied again.
        self._family = np.arange(most)
        self._base = np.zeros(most, np.int64)

    @property
    def rows(self) -> int:
        """Rows that are under way."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers, used or not."""
        return sum(buffer.nbytes for buffer in self.buffers.values())

    def select(self, parents: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone.

        Raises:
            InputError: A parent does not exist, or there are more rows than the buffers hold.
        """
        chosen = np.asarray(parents, np.int64)
        if len(chosen) > self.most or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < self.rows):
            raise InputError(f"cannot go on with rows {chosen.tolist()} of {self.rows}; there is room for {self.most}")
        own = np.arange(len(chosen))
        alone = np.bincount(self._family[: self.rows], minlength=self.most) == 1
        single = np.flatnonzero(alone[self._family[: self.rows]])
        self._base[self._family[single]] = self.lengths[single]
        changed = own[chosen != own]
        if len(changed):
            family = np.where(changed < self.rows, self._family[changed], -1)
            related = family == self._family[chosen[changed]]
            begins = np.where(related, self._base[self._family[chosen[changed]]], 0)
            self._copy(changed, chosen[changed], begins)
        self._family[: len(chosen)] = self._family[chosen]
        self.lengths = self.lengths[chosen]

    def _copy(self, rows: NDArray[np.int64], parents: NDArray[np.int64], begins: NDArray[np.int64]) -> None:
        """Positions from `begins` on of `parents`, as they were, to `rows`."""
        spans = np.stack([begins, self.lengths[parents]], axis=1)
        groups = [(span, (spans == span).all(axis=1)) for span in np.unique(spans, axis=0) if span[0] < span[1]]
        for buffer in self.buffers.values():
            # everything is read before anything is written: a parent may be a child too
            copies = [buffer[parents[members], :, begin:end] for (begin, end), members in groups]
            for ((begin, end), members), copy in zip(groups, copies, strict=True):
                buffer[rows[members], :, begin:end] = copy

    def rewind(self, lengths: Sequence[int] | NDArray[np.integer[Any]]) -> None:
        """Keep the first lengths[row] positions of each row.

        Raises:
            InputError: A row holds fewer.
        """
        wanted = np.asarray(lengths, np.int64)
        if wanted.shape != self.lengths.shape or (wanted < 0).any() or (wanted > self.lengths).any():
            raise InputError(f"cannot rewind rows of {self.lengths.tolist()} positions to {wanted.tolist()}")
        self.lengths = wanted.copy()
        np.minimum.at(self._base, self._family[: self.rows], wanted)

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
        self._family[row] = np.setdiff1d(np.arange(self.most), np.delete(self._family[: self.rows], row))[0]
        for name, buffer in self.buffers.items():
            buffer[row, :, : self.lengths[row]] = state[name]
