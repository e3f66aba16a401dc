"""One pass of a traced decoder: ids to logits, with keys and values that come back longer. Knows no text, and chooses no token.

Graphs that `edgenlp_export` writes itself update a cache in place (`edgenlp.decoder`); a graph that was traced takes what was read
as inputs and gives it back, longer, as outputs. Rows of unequal lengths share a run with padding on both sides: what they have read
ends where the new ids begin, and their new ids begin there. So every row stands without a gap, and no query sees nothing at all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.encode import plan
from edgenlp.errors import BundleError
from edgenlp.growing.facts import Crossing, Growing, Grows
from edgenlp.growing.past import Past, Spec
from edgenlp.language_model import DecoderGraph, DecoderRows
from edgenlp.session import Binding, Session, Tensor

__all__ = ["GrowingDecoder", "GrowingGraph", "GrowingRows", "spec"]

Array = NDArray[Any]
Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

_AGAIN = "export the bundle again"
# Numbers that the logits of one run may have, 64 MiB: a traced graph gives those of every token it reads.
_LOGITS = 1 << 24


class GrowingGraph(DecoderGraph):
    """What a traced decoder's graph says of itself.

    Args:
        session: The graph.
        facts: What its inputs and outputs are.
        longest: Most tokens of a row.
        tokens: Most tokens, padding included, of one run.

    Attributes:
        specs: Of keys and values.

    Raises:
        BundleError: The graph has not the inputs and outputs that the facts name, or others beside.
    """

    def __init__(self, session: Session, facts: Growing, *, longest: int, tokens: int) -> None:
        self.facts = facts
        self.tokens = tokens
        known = {facts.ids, facts.mask, facts.positions, facts.cache_positions, facts.source_mask}
        known |= {item.past for item in facts.caches} | {item.taken for item in facts.crossings}
        if unknown := sorted(set(session.inputs) - known):
            raise BundleError(f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp")
        if missing := sorted(known - set(session.inputs) - {None}, key=str):
            raise BundleError(f"the graph has no input {missing[0]!r}, which edgenlp.json names; {_AGAIN}")
        given = [facts.logits, *(item.present for item in facts.caches), *filter(None, [facts.hidden])]
        if missing := [name for name in given if name not in session.outputs]:
            raise BundleError(f"the graph has no output {missing[0]!r}, which edgenlp.json names; {_AGAIN}")
        self.specs = [spec(item, session.inputs[item.past], session.outputs[item.present]) for item in facts.caches]
        columns = _last(session.outputs[facts.logits])
        hidden_width = _last(session.outputs[facts.hidden]) if facts.hidden else None
        super().__init__(session, longest=longest, columns=columns, hidden_width=hidden_width)

    def cache(self, rows: int, capacity: int | None, *, most: int | None, hidden: bool) -> Past:
        """An empty one; see `edgenlp.language_model.CausalLM.start`."""
        remedy = "leave out penalty_alpha"
        return Past(self.specs, rows, *self.bounds(rows, capacity, most=most, hidden=hidden, remedy=remedy))


class GrowingDecoder(GrowingGraph):
    """A traced decoder-only graph (`edgenlp.language_model.CausalLM`).

    Args:
        session: The graph.
        facts: What its inputs and outputs are.
        window: Most tokens of a sequence.
        tokens: Most tokens, padding included, of one run.
    """

    def __init__(self, session: Session, facts: Growing, *, window: int, tokens: int) -> None:
        super().__init__(session, facts, longest=window, tokens=tokens)
        self.window = window

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "GrowingRows":
        """Begin a batch of empty sequences; see `edgenlp.language_model.CausalLM`."""
        return GrowingRows(self, self.cache(rows, capacity, most=most, hidden=hidden), hidden=hidden)


class GrowingRows(DecoderRows[GrowingGraph, Past]):
    """A batch of rows under way in a traced graph (`edgenlp.decode.rows.Sequences`); arguments are those of `DecoderRows`."""

    def __init__(self, graph: GrowingGraph, cache: Past, *, hidden: bool) -> None:
        super().__init__(graph, cache, hidden=hidden)
        self._logits: Floats | None = None

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """Append at least one id to every row, in runs of a bounded number of tokens; see `edgenlp.decode.rows.Sequences`."""
        counts = np.array([len(item) for item in ids])
        self._check(counts)
        given = [np.asarray(item, np.int64) for item in ids]
        found: list[list[Floats]] = [[] for _ in ids]
        hidden: list[list[Floats]] = [[] for _ in ids]

        def keep(rows: Integers, begin: int, parts: Integers, logits: Floats, states: Floats | None) -> None:
            for place, row in enumerate(rows.tolist()):
                part = int(parts[place])
                if every:
                    found[row].append(logits[place, :part].copy())
                elif part and begin + part == counts[row]:
                    found[row].append(logits[place, part - 1].copy())
                if states is not None:
                    hidden[row].append(states[place, :part].copy())

        self._in_groups(self._groups(counts), given, keep)
        if self._hidden_width is not None:
            self.hidden = [np.concatenate(parts) for parts in hidden]
        return [np.concatenate(parts) for parts in found] if every else np.stack([parts[0] for parts in found])

    def step(self, tokens: Integers) -> Floats:
        """Append one id to every row: `tokens` [rows] to logits [rows, columns], a buffer that the next step writes over."""
        ids = np.ascontiguousarray(tokens, np.int64)[:, None]
        counts = np.ones(len(ids), np.int64)
        self._check(counts)
        shape = (len(ids), 1, self.columns)
        if self._logits is None or self._logits.shape != shape:
            self._logits = np.empty(shape, np.float32)
        buffer = self._logits
        if self._graph.facts.ragged or (self.lengths == self.lengths[0]).all():
            states = self._run(self.cache, np.arange(len(ids)), ids, counts, buffer)
            if states is not None:
                self.hidden = [row.copy() for row in states]
            return buffer[:, 0]
        hidden: list[Floats] = [np.empty(0, np.float32)] * len(ids)

        def keep(rows: Integers, begin: int, parts: Integers, logits: Floats, states: Floats | None) -> None:
            buffer[rows] = logits
            for place, row in enumerate(rows.tolist() if states is not None else []):
                hidden[row] = states[place].copy() if states is not None else hidden[row]

        self._in_groups(self._groups(counts), list(ids), keep)
        if self._hidden_width is not None:
            self.hidden = hidden
        return buffer[:, 0]

    def _more(self, rows: Integers) -> Mapping[str, Array]:
        """Inputs of these rows beside those of every run."""
        return {}

    def _groups(self, counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Rows that are run together; every row is in one group."""
        alike: dict[Any, list[int]] = {}
        for row, (length, count) in enumerate(zip(self.lengths.tolist(), counts.tolist(), strict=True)):
            # empty rows would be run with padding as long as what others have read
            alike.setdefault(length > 0 if self._graph.facts.ragged else (length, count), []).append(row)
        groups = []
        for rows in alike.values():
            longest = int(self.lengths[rows].max() + counts[rows].max())
            # side by side they may be longer than any of them, and than the graph can take
            most = None if longest <= self._graph.longest else 1
            for members in plan(counts[rows].tolist(), self._graph.tokens, most):
                groups.append(np.array(sorted(rows[member] for member in members)))
        return groups

    def _in_groups(
        self,
        groups: Sequence[NDArray[np.int64]],
        ids: Sequence[NDArray[np.int64]],
        keep: Callable[[Integers, int, Integers, Floats, Floats | None], None],
    ) -> None:
        """Append ids to the rows of each group, in pieces; `keep` gets the rows, the piece's beginning, its ids, logits and states."""
        parts = []
        for rows in groups:
            part = self.cache if len(groups) == 1 else self.cache.part(rows)
            bound = min(self._graph.tokens, _LOGITS // self.columns) // len(rows)
            width = max(1, min(bound, self._graph.facts.width or bound))
            for begin in range(0, max(len(ids[row]) for row in rows), width):
                pieces = [ids[row][begin : begin + width] for row in rows]
                counts = np.array([len(piece) for piece in pieces])
                padded = np.zeros((len(rows), int(counts.max())), np.int64)
                for place, piece in enumerate(pieces):
                    padded[place, : len(piece)] = piece
                logits = np.empty((*padded.shape, self.columns), np.float32)
                keep(rows, begin, counts, logits, self._run(part, rows, padded, counts, logits))
            parts.append((rows, part))
        if len(groups) > 1:
            self.cache.join(parts)

    def _run(
        self, past: Past, rows: Integers, ids: NDArray[np.int64], counts: NDArray[np.int64], logits: Floats
    ) -> Floats | None:
        """Append the first counts[row] of ids [rows, new] to `past`, which holds `rows`; the hidden states, if they are kept."""
        facts, session = self._graph.facts, self._graph.session
        count, new = ids.shape
        begins, columns = past.width - past.lengths, np.arange(past.width + new)
        feed: dict[str, Array] = {facts.ids: ids, **self._more(rows)}
        if facts.mask is not None:
            feed[facts.mask] = (columns >= begins[:, None]) & (columns < past.width + counts[:, None])
        if facts.positions is not None:
            # of padding that of the last token, for tables end somewhere
            behind = np.minimum(np.arange(new), np.maximum(counts - 1, 0)[:, None])
            feed[facts.positions] = (
                np.maximum(past.lengths[:, None] + behind - (counts == 0)[:, None], 0) + facts.first_position
            )
        if facts.cache_positions is not None:
            feed[facts.cache_positions] = columns[past.width :]
        room = past.room(count, past.width + new)
        states = np.empty((count, new, self._hidden_width), np.float32) if self._hidden_width is not None else None
        binding = Binding(session)
        for name, array in feed.items():
            binding.input(name, np.ascontiguousarray(array, session.inputs[name].dtype))
        for item in facts.caches:
            binding.input(item.past, past.arrays[item.past])
            binding.output(item.present, room[item.past])
        binding.output(facts.logits, logits)
        if states is not None and facts.hidden is not None:
            binding.output(facts.hidden, states)
        binding.run()
        past.grow(room, counts)
        return states


def spec(item: Grows | Crossing, given: Tensor, returned: Tensor) -> Spec:
    """The array that `given` takes, and `returned` gives with as many numbers on its other axes.

    Raises:
        BundleError: They do not fit each other, or what edgenlp.json says of them.
    """
    axes = {item.batch, item.time}
    shape = tuple(0 if axis in axes else size for axis, size in enumerate(given.shape))
    sizes = tuple(size for size in shape if isinstance(size, int))
    others = [
        (one, other)
        for axis, (one, other) in enumerate(zip(given.shape, returned.shape, strict=False))
        if axis not in axes and isinstance(other, int)
    ]
    fits = max(axes) < len(shape) == len(sizes) == len(returned.shape) and given.dtype == returned.dtype
    if not fits or any(one != other for one, other in others):
        raise BundleError(
            f"the graph's {given.name} {list(given.shape)} and {returned.name} {list(returned.shape)} are not what"
            f" edgenlp.json says; {_AGAIN}"
        )
    return Spec(given.name, sizes, item.batch, item.time, given.dtype)


def _last(item: Tensor) -> int:
    """The number of an output's columns."""
    if len(item.shape) != 3 or not isinstance(item.shape[2], int):
        raise BundleError(f"the graph's {item.name} has shape {list(item.shape)}; {_AGAIN}")
    return item.shape[2]
