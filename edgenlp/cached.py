"""Rows over a cache: the arrays of a run of their graph, and one step. Knows no ids' meaning, and not how graphs divide the work."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.cache import Cache, Layout
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.session import Binding, LogSoftmax, Session, Tensor

__all__ = ["Cached", "CachedRows", "Run", "layouts"]

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

_PAST, _PRESENT = "past_key_values.", "present."
_AGAIN = "export the bundle again"


class Cached:
    """What a graph with a cache says of itself.

    Args:
        session: Per layer its inputs are `past_key_values.N.key` and `.value` [rows, heads, capacity, size], which come out as
            `present.N.*` in the same memory; its outputs are `logits` [rows, columns] and perhaps `hidden` [rows, width].
        longest: Most tokens of a row.

    Attributes:
        past: Names of the cache's inputs.
        layouts: Of its buffers.
        columns: Of the logits.
        hidden_width: Width of the hidden states, None where the graph gives none.
    """

    def __init__(self, session: Session, *, longest: int) -> None:
        self.session = session
        self.longest = longest
        self.past = [name for name in session.inputs if name.startswith(_PAST)]
        presents = [name.replace(_PAST, _PRESENT) for name in self.past]
        columns = session.outputs["logits"].shape[-1] if "logits" in session.outputs else None
        if not self.past or not isinstance(columns, int) or any(name not in session.outputs for name in presents):
            raise BundleError(f"the graph is no decoder with a cache; {_AGAIN}")
        self.columns = columns
        width = session.outputs["hidden"].shape[-1] if "hidden" in session.outputs else None
        self.hidden_width = width if isinstance(width, int) else None
        self.layouts = layouts(session, self.past)

    @functools.cached_property
    def log_softmax(self) -> Session:
        """What turns logits into log-probabilities, made when it is first needed."""
        return LogSoftmax.like(self.session)

    def cache(self, rows: int, capacity: int | None, *, most: int | None, hidden: bool) -> Cache:
        """An empty cache; see `start` of the models.

        Raises:
            TooLongError: The capacity is beyond the window.
            BundleError: Hidden states are wanted, and the graph gives none.
        """
        if hidden and self.hidden_width is None:
            raise BundleError(f"the graph gives no hidden states, which contrastive search compares; {_AGAIN}")
        size = self.longest if capacity is None else capacity
        if size > self.longest:
            raise TooLongError(f"{size} tokens are asked for, the model's window is {self.longest}")
        return Cache(self.layouts, rows, max(rows, most or 0), max(1, size))


def layouts(session: Session, names: Sequence[str]) -> list[Layout]:
    """Of the buffers of these names, those that the graph has."""
    return [_layout(session.inputs[name]) for name in names if name in session.inputs]


def _layout(item: Tensor) -> Layout:
    if len(item.shape) != 4 or not isinstance(item.shape[1], int) or not isinstance(item.shape[3], int):
        raise BundleError(f"the graph's {item.name} has shape {list(item.shape)}; {_AGAIN}")
    return Layout(item.name, item.shape[1], item.shape[3], item.dtype)


class CachedRows:
    """A batch of rows under way, and its steps.

    Args:
        graph: What takes them.
        cache: Where they are held.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, graph: Cached, cache: Cache, *, hidden: bool) -> None:
        self.cache = cache
        self.hidden: list[Floats] = []
        self._graph = graph
        self._hidden_width = graph.hidden_width if hidden else None
        self._step: Run | None = None
        self._log_softmax: LogSoftmax | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows] tokens that each row has read."""
        return self.cache.lengths

    @property
    def capacity(self) -> int:
        """Most tokens of a row."""
        return self.cache.capacity

    @property
    def columns(self) -> int:
        """Columns of the logits."""
        return self._graph.columns

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

    def log_softmax(self, logits: Floats) -> Floats:
        """Log-probabilities of logits [rows, columns], in a buffer that the next call writes over."""
        if self._log_softmax is None:
            self._log_softmax = LogSoftmax(self._graph.log_softmax)
        return self._log_softmax(logits)

    def rewind(self, lengths: Sequence[int] | Integers) -> None:
        """Forget all but the first lengths[row] tokens of each row."""
        self.cache.rewind(lengths)

    def _run_of_steps(self) -> "Run":
        """What steps of all rows run with."""
        rows = self.cache.rows
        run = Run(self._graph.session, self.cache, slice(0, rows), 1, rows, self._hidden_width, self._more())
        run.rows[:] = np.arange(rows)
        return run

    def _more(self) -> Mapping[str, NDArray[Any]]:
        """Inputs of a step beside those of every run."""
        return {}

    def _check(self, counts: NDArray[np.int64]) -> None:
        """Refuse numbers of ids [rows] that cannot be appended."""
        if len(counts) != self.cache.rows or not len(counts) or counts.min() < 1:
            raise InputError(f"{self.cache.rows} rows need at least one id each, found {counts.tolist()}")
        if (most := int((self.lengths + counts).max())) > self.capacity:
            raise TooLongError(f"a row of {most} tokens does not fit the cache of {self.capacity}; start with more")


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
