"""Rows over a cache: the arrays of a run of their graph, and one step. Knows no ids' meaning, and not how graphs divide the work."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.cache import Cache, Layout
from edgenlp.errors import BundleError, TooLongError
from edgenlp.language_model import DecoderGraph, DecoderRows
from edgenlp.session import Binding, Session, Tensor

__all__ = ["Cached", "CachedRows", "Run", "layouts"]

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

_PAST, _PRESENT = "past_key_values.", "present."
_AGAIN = "export the bundle again"


class Cached(DecoderGraph):
    """What a graph with a cache says of itself.

    Args:
        session: Per layer its inputs are `past_key_values.N.key` and `.value` [rows, heads, capacity, size], which come out as
            `present.N.*` in the same memory; its outputs are `logits` [rows, columns] and perhaps `hidden` [rows, width].
        longest: Most tokens of a row.

    Attributes:
        past: Names of the cache's inputs.
        layouts: Of its buffers.
    """

    def __init__(self, session: Session, *, longest: int) -> None:
        self.past = [name for name in session.inputs if name.startswith(_PAST)]
        presents = [name.replace(_PAST, _PRESENT) for name in self.past]
        columns = session.outputs["logits"].shape[-1] if "logits" in session.outputs else None
        if not self.past or not isinstance(columns, int) or any(name not in session.outputs for name in presents):
            raise BundleError(f"the graph is no decoder with a cache; {_AGAIN}")
        width = session.outputs["hidden"].shape[-1] if "hidden" in session.outputs else None
        hidden_width = width if isinstance(width, int) else None
        super().__init__(session, longest=longest, columns=columns, hidden_width=hidden_width)
        self.layouts = layouts(session, self.past)

    def cache(self, rows: int, capacity: int | None, *, most: int | None, hidden: bool) -> Cache:
        """An empty one; see `edgenlp.language_model.CausalLM.start`."""
        return Cache(self.layouts, rows, *self.bounds(rows, capacity, most=most, hidden=hidden, remedy=_AGAIN))


def layouts(session: Session, names: Sequence[str]) -> list[Layout]:
    """Of the buffers of these names, those that the graph has."""
    return [_layout(session.inputs[name]) for name in names if name in session.inputs]


def _layout(item: Tensor) -> Layout:
    if len(item.shape) != 4 or not isinstance(item.shape[1], int) or not isinstance(item.shape[3], int):
        raise BundleError(f"the graph's {item.name} has shape {list(item.shape)}; {_AGAIN}")
    return Layout(item.name, item.shape[1], item.shape[3], item.dtype)


class CachedRows(DecoderRows[Cached, Cache]):
    """A batch of rows under way, and its steps; arguments are those of `DecoderRows`."""

    def __init__(self, graph: Cached, cache: Cache, *, hidden: bool) -> None:
        super().__init__(graph, cache, hidden=hidden)
        self._step: Run | None = None

    def step(self, tokens: Integers) -> Floats:
        """Append one id to every row: `tokens` [rows] to logits [rows, columns], a buffer that the next step writes over."""
        run, lengths = self._step, self.cache.lengths
        if run is None or run.batch != len(lengths):
            run = self._step = self._run_of_steps()
        longest = int(lengths.max())
        if longest >= self.cache.capacity:
            raise TooLongError(f"the cache holds {self.cache.capacity} tokens, and a row has as many; start with more")
        run.ids[:, 0] = tokens
        run.positions[:, 0] = lengths
        run.ends[:] = lengths
        run.total[0] = longest + 1
        run.binding.run()
        lengths += 1
        if run.hidden is not None:
            self.hidden = [row[None].copy() for row in run.hidden]
        return run.logits

    def _run_of_steps(self) -> "Run":
        """What steps of all rows run with."""
        rows = self.cache.rows
        run = Run(self._graph.session, self.cache, slice(0, rows), 1, rows, self._hidden_width, self._more())
        run.rows[:] = np.arange(rows)
        return run

    def _more(self) -> Mapping[str, NDArray[Any]]:
        """Inputs of a step beside those of every run."""
        return {}


class Run:
    """The arrays of runs of one shape over neighbouring rows, bound once.

    Args:
        session: The graph.
        cache: Where the rows are held.
        rows: Which.
        width: New ids of each.
        wanted: How many of the flattened positions logits are wanted of.
        hidden_width: Of the hidden states, None where they are not wanted.
        more: Further inputs by name.
    """

    def __init__(
        self,
        session: Session,
        cache: Cache,
        rows: slice,
        width: int,
        wanted: int,
        hidden_width: int | None,
        more: Mapping[str, NDArray[Any]],
    ) -> None:
        self.batch = rows.stop - rows.start
        self.ids = np.zeros((self.batch, width), np.int64)
        self.positions = np.zeros((self.batch, width), np.int64)
        self.rows = np.zeros(wanted, np.int64)
        self.ends = np.zeros(self.batch, np.int32)
        self.total = np.zeros(1, np.int32)
        self.logits = np.empty((wanted, int(str(session.outputs["logits"].shape[-1]))), np.float32)
        self.hidden = np.empty((wanted, hidden_width), np.float32) if hidden_width is not None else None
        self.binding = binding = Binding(session)
        named = {
            "input_ids": self.ids,
            "position_ids": self.positions,
            "rows": self.rows,
            "seqlens_k": self.ends,
            "total_sequence_length": self.total,
            **more,
        }
        for name, array in named.items():
            if name in session.inputs:
                binding.input(name, array)
        for name, buffer in cache.buffers.items():
            part = buffer[rows]
            binding.input(name, part)
            binding.output(name.replace(_PAST, _PRESENT), part)
        binding.output("logits", self.logits)
        if self.hidden is not None:
            binding.output("hidden", self.hidden)
