"""One pass of a decoder: ids to logits, with what was read before in the cache. Knows no text, and not how a token is chosen."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.cache import Cache, Layout
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.session import Binding, Session

__all__ = ["CachedSequences", "Decoder"]

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

_PAST, _PRESENT = "past_key_values.", "present."
# Tokens of a row from which the graph for prompts reads them: of an empty row, and of one that goes on, where a few tokens may be
# steps that were guessed ahead, which must come out as steps do.
_PROMPT, _MORE = 4, 33
_INPUTS = {"input_ids", "position_ids", "rows", "seqlens_k", "total_sequence_length"}


class Decoder:
    """A decoder graph; many batches may be under way in it at once.

    Args:
        session: The graph. Its inputs are `input_ids` [batch, sequence], `seqlens_k` [batch] (tokens of each row after the run, less
            one), `total_sequence_length` [1] (the longest row's), `rows` [rows] (positions in the flattened batch whose logits are
            wanted), perhaps `position_ids` [batch, sequence], and per layer `past_key_values.N.key` and `.value` [batch, heads,
            capacity, size], which come out as `present.N.*` in the same memory.
        window: Most tokens of a sequence.
        tokens: Most tokens, padding included, of one run.
        prompt: A second graph over the same cache for long runs, None to read prompts with the first.
    """

    def __init__(self, session: Session, *, window: int, tokens: int, prompt: Session | None = None) -> None:
        self.session = session
        self.prompt = prompt or session
        self.window = window
        self.tokens = tokens
        past = [name for name in session.inputs if name.startswith(_PAST)]
        if unknown := sorted(set(session.inputs) - _INPUTS - set(past)):
            raise BundleError(f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp")
        presents = [name.replace(_PAST, _PRESENT) for name in past]
        columns = session.outputs["logits"].shape[-1] if "logits" in session.outputs else None
        if not past or not isinstance(columns, int) or any(name not in session.outputs for name in presents):
            raise BundleError("the graph is no decoder with a cache; export the bundle again")
        self.columns = columns
        width = session.outputs["hidden"].shape[-1] if "hidden" in session.outputs else None
        self.hidden_width = width if isinstance(width, int) else None
        self.layouts = [_layout(session, name) for name in past]
        if [_layout(self.prompt, name) for name in past if name in self.prompt.inputs] != self.layouts:
            raise BundleError(
                "the graph for prompts has another cache than the graph for steps; export the bundle again"
            )

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "CachedSequences":
        """Begin a batch of empty sequences; their cache is allocated here, and nowhere else.

        Args:
            rows: How many.
            capacity: Most tokens of each; None for the window.
            most: Most rows that `select` may make of them.
            hidden: Whether `hidden` is kept.

        Raises:
            TooLongError: The capacity is beyond the window.
            BundleError: Hidden states are wanted, and the graph gives none.
        """
        if hidden and self.hidden_width is None:
            raise BundleError(
                "the graph gives no hidden states, which contrastive search compares; export the bundle again"
            )
        size = self.window if capacity is None else capacity
        if size > self.window:
            raise TooLongError(f"{size} tokens are asked for, the model's window is {self.window}")
        return CachedSequences(self, Cache(self.layouts, rows, max(rows, most or 0), max(1, size)), hidden=hidden)


class CachedSequences:
    """A batch of sequences under way in a decoder-only graph (`edgenlp.decode.rows.Sequences`).

    Args:
        decoder: The graph.
        cache: Empty, or with what a conversation left.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, decoder: Decoder, cache: Cache, *, hidden: bool = False) -> None:
        self.cache = cache
        self.hidden: list[Floats] = []
        self._decoder = decoder
        self._hidden_width = decoder.hidden_width if hidden else None
        self._step: _Run | None = None
        self._runs = 0

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
        return self._decoder.columns

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """Append at least one id to every row.

        Empty rows are read side by side, others one by one, all in runs of a bounded number of tokens.

        Args:
            ids: Per row, of any lengths.
            every: Whether the logits after each id are wanted.

        Returns:
            Logits [rows, columns] after the last id of each row, or with `every` per row [ids, columns].

        Raises:
            TooLongError: A row does not fit the cache.
        """
        counts = np.array([len(item) for item in ids])
        self._check(counts)
        if (counts == 1).all() and (self.lengths > 0).all():
            logits = self.step(np.array([item[0] for item in ids])).copy()
            return [row[None] for row in logits] if every else logits
        found: list[list[Floats]] = [[] for _ in ids]
        hidden: list[list[Floats]] = [[] for _ in ids]
        for rows, begin, end in self._plan(counts):
            members = range(rows.start, rows.stop)
            parts = [ids[row][begin : min(end, len(ids[row]))] for row in members]
            wanted = [range(len(part)) if every or self._hidden_width else range(len(part))[-1:] for part in parts]
            logits, states = self._run(rows, parts, wanted)
            place = 0
            for row, kept in zip(members, wanted, strict=True):
                found[row].append(logits[place : place + len(kept)])
                if states is not None:
                    hidden[row].append(states[place : place + len(kept)])
                place += len(kept)
        if self._hidden_width:
            self.hidden = [np.concatenate(parts) for parts in hidden]
        if every:
            return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in found]
        return np.stack([parts[-1][-1] for parts in found])

    def step(self, tokens: Integers) -> Floats:
        """Append one id to every row: `tokens` [rows] to logits [rows, columns], a buffer that the next step writes over."""
        run = self._step
        lengths = self.cache.lengths
        if run is None or run.batch != len(lengths):
            run = self._step = _Run(
                self._decoder.session, self.cache, slice(0, len(lengths)), 1, len(lengths), self._hidden_width
            )
            run.rows[:] = np.arange(len(lengths))
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

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""
        self.cache.select(parents)

    def rewind(self, lengths: Sequence[int] | Integers) -> None:
        """Forget all but the first lengths[row] tokens of each row."""
        self.cache.rewind(lengths)

    def _check(self, counts: NDArray[np.int64]) -> None:
        if len(counts) != self.cache.rows or not len(counts) or counts.min() < 1:
            raise InputError(f"{self.cache.rows} rows need at least one id each, found {counts.tolist()}")
        if (most := int((self.lengths + counts).max())) > self.capacity:
            raise TooLongError(f"a row of {most} tokens does not fit the cache of {self.capacity}; start with more")

    def _plan(self, counts: NDArray[np.int64]) -> Iterator[tuple[slice, int, int]]:
        """Runs: neighbouring rows, and the tokens of each that are read.

        Attention over several new tokens and a filled cache takes one row at a time; so does a text beyond the bound on a run.
        """
        most = self._decoder.tokens
        row = 0
        while row < len(counts):
            end = row + 1
            if self.lengths[row] == 0 and counts[row] <= most:
                low = high = counts[row]
                while end < len(counts) and self.lengths[end] == 0:
                    low, high = min(low, counts[end]), max(high, counts[end])
                    if high * (end + 1 - row) > most or high - low > max(8, high // 4):
                        break  # beyond the bound, or too much padding
                    end += 1
                yield slice(row, end), 0, int(counts[row:end].max())
            else:
                for begin in range(0, int(counts[row]), most):
                    yield slice(row, end), begin, begin + most
            row = end

    def _run(
        self, rows: slice, parts: Sequence[Sequence[int]], wanted: Sequence[range]
    ) -> tuple[Floats, Floats | None]:
        """Append `parts` to `rows`; logits and hidden states of the tokens `wanted` of each."""
        counts = np.array([len(part) for part in parts])
        width = int(counts.max())
        begins = not self.cache.lengths[rows].any()
        session = self._decoder.prompt if width >= (_PROMPT if begins else _MORE) else self._decoder.session
        run = _Run(session, self.cache, rows, width, sum(map(len, wanted)), self._hidden_width)
        lengths = self.cache.lengths[rows]
        for place, part in enumerate(parts):
            run.ids[place, : len(part)] = part
        run.positions[:] = lengths[:, None] + np.arange(width)
        run.rows[:] = [width * place + index for place, kept in enumerate(wanted) for index in kept]
        run.ends[:] = lengths + counts - 1
        run.total[0] = int((lengths + counts).max())
        run.binding.run()
        lengths += counts
        return run.logits, run.hidden


class _Run:
    """The arrays of runs of one shape over neighbouring rows, bound once."""

    def __init__(
        self, session: Session, cache: Cache, rows: slice, width: int, wanted: int, hidden_width: int | None
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


def _layout(session: Session, name: str) -> Layout:
    item = session.inputs[name]
    if len(item.shape) != 4 or not isinstance(item.shape[1], int) or not isinstance(item.shape[3], int):
        raise BundleError(f"the graph's {name} has shape {list(item.shape)}; export the bundle again")
    return Layout(name, item.shape[1], item.shape[3], item.dtype)
