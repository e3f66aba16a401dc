"""Keys and values that a graph gives back longer, held between two runs. Knows arrays and lengths, no graph and no ids.

All rows of an array end at its last position: what a row has read is its last `lengths[row]` positions, before them are zeros. So a
step of all rows needs nothing moved, and no row has a gap, whatever it measures distances by. Two sets of memory are written in
turn: what one run gives is what the next one takes, where it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError

__all__ = ["Past", "Spec"]

Array = NDArray[Any]
Integers = NDArray[np.integer[Any]]

_SPARE = 32  # positions that new memory has beyond those needed, so that not every step asks for more


@dataclass(frozen=True)
class Spec:
    """One array: its shape, in which `batch` and `time` are the axes of rows and positions, and its dtype."""

    name: str
    shape: tuple[int, ...]
    batch: int
    time: int
    dtype: Any

    def sized(self, rows: int, positions: int) -> tuple[int, ...]:
        """The shape with so many rows and positions."""
        sizes = {self.batch: rows, self.time: positions}
        return tuple(sizes.get(axis, size) for axis, size in enumerate(self.shape))

    def at(self, row: int | slice, positions: slice) -> tuple[int | slice, ...]:
        """Index of a row's positions."""
        places = {self.batch: row, self.time: positions}
        return tuple(places.get(axis, slice(None)) for axis in range(len(self.shape)))


class Past:
    """What a batch of rows has read.

    Args:
        specs: Of the arrays.
        rows: Rows to begin with.
        most: Most rows that there will ever be.
        capacity: Most positions of a row.

    Attributes:
        arrays: Name to array; C-contiguous, `width` positions long.
        lengths: [rows] positions that each row holds.
        width: Positions of the arrays, those of the longest row.
        capacity: Most positions of a row.
        most: Most rows.
    """

    def __init__(self, specs: Sequence[Spec], rows: int, most: int, capacity: int) -> None:
        self.specs = specs
        self.lengths: NDArray[np.int64] = np.zeros(rows, np.int64)
        self.width = 0
        self.capacity = capacity
        self.most = most
        self._memory: list[dict[str, Array]] = [{}, {}]  # flat; the arrays lie in the first
        self.arrays: dict[str, Array] = {item.name: np.zeros(item.sized(rows, 0), item.dtype) for item in specs}

    @property
    def rows(self) -> int:
        """Rows that are under way."""
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all memory, used or not."""
        return sum(flat.nbytes for memory in self._memory for flat in memory.values())

    def room(self, rows: int, width: int) -> dict[str, Array]:
        """Arrays of that size in the memory that is free: what the next run, or the next copy, is written into."""
        free = self._memory[1]
        found = {}
        for item in self.specs:
            shape = item.sized(rows, width)
            size = int(np.prod(shape))
            if item.name not in free or free[item.name].size < size:
                free[item.name] = np.empty(max(1, int(np.prod(item.sized(rows, width + _SPARE)))), item.dtype)
            found[item.name] = free[item.name][:size].reshape(shape)
        return found

    def grow(self, arrays: Mapping[str, Array], counts: Integers) -> None:
        """Go on with what a run wrote into `room`: behind the positions so far, those of counts[row] new tokens, then anything."""
        width = next(iter(arrays.values())).shape[self.specs[0].time]
        begins, ends = self.width - self.lengths, self.width + counts
        self._take(dict(arrays), self.lengths + counts, width)
        if (ends != width).any():
            self._move(np.arange(self.rows), begins, ends)

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone.

        Raises:
            InputError: A parent does not exist, or there are more rows than there may be.
        """
        chosen = np.asarray(parents, np.int64)
        if len(chosen) > self.most or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < self.rows):
            raise InputError(f"cannot go on with rows {chosen.tolist()} of {self.rows}; there is room for {self.most}")
        if len(chosen) == self.rows and (chosen == np.arange(self.rows)).all():
            return
        lengths = self.lengths[chosen]
        self._move(chosen, self.width - lengths, np.full(len(chosen), self.width))

    def rewind(self, lengths: Sequence[int] | Integers) -> None:
        """Keep the first lengths[row] positions of each row.

        Raises:
            InputError: A row holds fewer.
        """
        wanted = np.asarray(lengths, np.int64)
        if wanted.shape != self.lengths.shape or (wanted < 0).any() or (wanted > self.lengths).any():
            raise InputError(f"cannot rewind rows of {self.lengths.tolist()} positions to {wanted.tolist()}")
        if (wanted != self.lengths).any():
            begins = self.width - self.lengths
            self._move(np.arange(self.rows), begins, begins + wanted)

    def part(self, rows: Integers) -> "Past":
        """A copy of these rows alone."""
        lengths = self.lengths[rows]
        part = Past(self.specs, len(rows), len(rows), self.capacity)
        part._take(_moved(self.specs, self.arrays, rows, self.width - lengths, np.full(len(rows), self.width)), lengths)
        return part

    def join(self, parts: Sequence[tuple[Integers, "Past"]]) -> None:
        """Put back what became of `part`s: every row is in one of them."""
        lengths = np.zeros_like(self.lengths)
        for rows, part in parts:
            lengths[rows] = part.lengths
        width = int(lengths.max())
        room = self.room(self.rows, width)
        for rows, part in parts:
            for place, row in enumerate(rows.tolist()):
                begin = width - int(part.lengths[place])
                for item in self.specs:
                    room[item.name][item.at(row, slice(0, begin))] = 0
                    own = part.arrays[item.name][item.at(place, slice(part.width - int(part.lengths[place]), None))]
                    room[item.name][item.at(row, slice(begin, None))] = own
        self._take(room, lengths, width)

    def state(self, row: int = 0) -> dict[str, Array]:
        """A copy of what a row holds: name to array [what stands before the positions, length, what stands behind]."""
        held = slice(self.width - int(self.lengths[row]), None)
        found = {}
        for item in self.specs:
            before, behind = _around(item)
            found[item.name] = self.arrays[item.name][item.at(row, held)].reshape(before, -1, behind).copy()
        return found

    def restore(self, state: Mapping[str, Array], row: int = 0) -> None:
        """Put back what `state` gave.

        Raises:
            InputError: It comes from another graph, or is longer than the capacity.
        """
        lengths = {array.shape[1] for array in state.values() if array.ndim == 3}
        fits = set(state) == {item.name for item in self.specs} and len(lengths) == 1 and max(lengths) <= self.capacity
        if not fits or any(
            state[item.name].dtype != item.dtype or state[item.name].shape[::2] != _around(item) for item in self.specs
        ):
            raise InputError(
                "the saved state belongs to another model, or is longer than the window; begin a new conversation"
            )
        length = lengths.pop()
        part = Past(self.specs, 1, 1, self.capacity)
        arrays = {item.name: state[item.name].reshape(item.sized(1, length)).copy() for item in self.specs}
        part._take(arrays, np.array([length]), length)
        others = np.delete(np.arange(self.rows), row)
        self.join([(np.array([row]), part), *([(others, self.part(others))] if len(others) else [])])

    def _take(self, arrays: dict[str, Array], lengths: NDArray[np.int64], width: int | None = None) -> None:
        """Go on with arrays that lie in the free memory, or in memory of their own."""
        self._memory.reverse()
        self.arrays, self.lengths = arrays, lengths
        self.width = int(lengths.max(initial=0)) if width is None else width

    def _move(self, rows: Integers, begins: Integers, ends: Integers) -> None:
        """Row i goes on as the positions from begins[i] to ends[i] of row rows[i]."""
        lengths = ends - begins
        room = self.room(len(rows), int(lengths.max(initial=0)))
        self._take(_moved(self.specs, self.arrays, rows, begins, ends, room), lengths)


def _moved(
    specs: Sequence[Spec],
    arrays: Mapping[str, Array],
    rows: Integers,
    begins: Integers,
    ends: Integers,
    room: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """Positions begins[i] to ends[i] of row rows[i] as row i of arrays as long as the longest, zeros before them."""
    lengths = ends - begins
    width = int(lengths.max(initial=0))
    whole = bool(len(rows)) and not begins.any() and (ends == arrays[specs[0].name].shape[specs[0].time]).all()
    found = {}
    for item in specs:
        source = arrays[item.name]
        target = np.empty(item.sized(len(rows), width), item.dtype) if room is None else room[item.name]
        if whole:
            np.take(source, rows, axis=item.batch, out=target, mode="clip")  # other modes would go through a buffer
        else:
            for place, (row, begin, end) in enumerate(zip(rows.tolist(), begins.tolist(), ends.tolist(), strict=True)):
                target[item.at(place, slice(0, width - (end - begin)))] = 0
                target[item.at(place, slice(width - (end - begin), None))] = source[item.at(row, slice(begin, end))]
        found[item.name] = target
    return found


def _around(item: Spec) -> tuple[int, int]:
    """How many numbers of one row stand before the axis of the positions, and behind."""
    sizes = [1 if axis == item.batch else size for axis, size in enumerate(item.shape)]
    return int(np.prod(sizes[: item.time])), int(np.prod(sizes[item.time + 1 :]))
