"""What all models that write have in common, however their graphs hold keys and values. Runs no graph, and chooses no token.

Graphs that `edgenlp_export` writes itself update keys and values in place (`edgenlp.decoder`, `edgenlp.encoder_decoder`); those that
were traced give them back longer (`edgenlp.growing`). What uses a model sees no difference: it has a `CausalLM` or a `Seq2SeqLM`.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Model, Sequences
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.session import LogSoftmax, Session

__all__ = [
    "CausalLM",
    "DecoderGraph",
    "DecoderRows",
    "HeldSequences",
    "KeyValues",
    "Reading",
    "Seq2SeqLM",
    "counted_sources",
]

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]


class KeyValues(Protocol):
    """Keys and values of a batch of rows (`edgenlp.cache.Cache`, `edgenlp.growing.past.Past`)."""

    lengths: NDArray[np.int64]
    capacity: int

    @property
    def rows(self) -> int:
        """Rows that are under way."""

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""

    def rewind(self, lengths: Sequence[int] | Integers) -> None:
        """Keep the first lengths[row] positions of each row."""

    def state(self, row: int = 0) -> dict[str, NDArray[Any]]:
        """A copy of what a row holds: name to array, whose second axis is that of the positions."""

    def restore(self, state: Mapping[str, NDArray[Any]], row: int = 0) -> None:
        """Put back what `state` gave."""


class HeldSequences(Sequences, Protocol):
    """Sequences whose keys and values can be saved."""

    @property
    def cache(self) -> KeyValues:
        """What the rows have read."""

    @property
    def capacity(self) -> int:
        """Most tokens of a row."""


class CausalLM(Model, Protocol):
    """A decoder-only model; many batches may be under way in it at once."""

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> HeldSequences:
        """Begin a batch of empty sequences; what holds them is allocated for it.

        Args:
            rows: How many.
            capacity: Most tokens of each; None for the window.
            most: Most rows that `select` may make of them.
            hidden: Whether `hidden` is kept.

        Raises:
            TooLongError: The capacity is beyond the window.
            BundleError: Hidden states are wanted, and the graph gives none.
        """


class Seq2SeqLM(Protocol):
    """An encoder-decoder; many sources may be under way in it at once."""

    @property
    def window(self) -> int:
        """Most tokens of a source."""

    @property
    def target_window(self) -> int:
        """Most tokens of a target."""

    @property
    def columns(self) -> int:
        """Columns of the logits."""

    def read(self, sources: Sequence[Sequence[int]], *, batch_size: int | None = None) -> "Reading":
        """Run the encoder.

        Args:
            sources: Ids, at least one each, of any lengths.
            batch_size: Most sources in one run; None for as many as the budget of tokens holds.

        Raises:
            InputError: There is no source, or one is empty.
            TooLongError: A source is longer than the window.
        """

    def targets(
        self, reading: "Reading", capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> HeldSequences:
        """Begin a target for each of `reading.sources`; see `Reading.start`."""


class Reading:
    """Sources that were read: what targets are written from (`edgenlp.decode.rows.Model`).

    Args:
        model: What read them.
        held: Name of each of the decoder's inputs to a cross-attention to keys or values of all sources.
        lengths: [sources] tokens of each.
        of: Source of each sequence that will be started; None for one sequence to each source.

    Attributes:
        sources: `of`.
    """

    def __init__(
        self,
        model: Seq2SeqLM,
        held: Mapping[str, NDArray[Any]],
        lengths: NDArray[np.int32],
        of: Integers | None = None,
    ) -> None:
        self.model = model
        self.held = held
        self.lengths = lengths
        self.sources: Integers = np.arange(len(lengths)) if of is None else of

    @property
    def window(self) -> int:
        """Most tokens of a target."""
        return self.model.target_window

    @property
    def columns(self) -> int:
        """Columns of the logits."""
        return self.model.columns

    def of(self, rows: Sequence[int]) -> "Reading":
        """The same, with sequence i writing from source rows[i].

        Raises:
            InputError: There is no such source.
        """
        chosen = np.asarray(rows, np.int64)
        if not len(chosen) or not 0 <= chosen.min() <= chosen.max() < len(self.lengths):
            raise InputError(f"cannot write from sources {chosen.tolist()}: {len(self.lengths)} were read")
        return Reading(self.model, self.held, self.lengths, chosen)

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> HeldSequences:
        """Begin targets, one for each source or for each that `of` named: as `CausalLM.start`.

        Raises:
            InputError: There are not so many.
            TooLongError: The capacity is beyond the window.
            BundleError: Hidden states are wanted, and the graph gives none.
        """
        if rows != len(self.sources):
            raise InputError(f"{rows} targets are asked for, there are sources for {len(self.sources)}")
        return self.model.targets(self, capacity, most=most, hidden=hidden)


def counted_sources(sources: Sequence[Sequence[int]], window: int) -> NDArray[np.int32]:
    """[sources] tokens of each; see `Seq2SeqLM.read` for what is refused."""
    counts = [len(ids) for ids in sources]
    if not counts or min(counts) < 1:
        raise InputError("a source has no tokens: there is nothing to read; give text")
    if (longest := max(counts)) > window:
        raise TooLongError(
            f"the input is {longest} tokens long, the model takes {window}; shorten it, or pass"
            " long_input='truncate' or long_input='stride'"
        )
    return np.array(counts, np.int32)


class DecoderGraph:
    """What a decoder's graph says of itself.

    Args:
        session: The graph.
        longest: Most tokens of a row.
        columns: Of the logits.
        hidden_width: Width of the hidden states, None where the graph gives none.
    """

    def __init__(self, session: Session, *, longest: int, columns: int, hidden_width: int | None) -> None:
        self.session = session
        self.longest = longest
        self.columns = columns
        self.hidden_width = hidden_width

    @functools.cached_property
    def log_softmax(self) -> Session:
        """What turns logits into log-probabilities, made when it is first needed."""
        return LogSoftmax.like(self.session)

    def bounds(
        self, rows: int, capacity: int | None, *, most: int | None, hidden: bool, remedy: str
    ) -> tuple[int, int]:
        """Most rows of a batch, and most tokens of each; see `CausalLM.start`, `remedy` is for where hidden states are missing."""
        if hidden and self.hidden_width is None:
            raise BundleError(f"the graph gives no hidden states, which contrastive search compares; {remedy}")
        size = self.longest if capacity is None else capacity
        if size > self.longest:
            raise TooLongError(f"{size} tokens are asked for, the model's window is {self.longest}")
        return max(rows, most or 0), max(1, size)


Graph = TypeVar("Graph", bound=DecoderGraph)
Held = TypeVar("Held", bound=KeyValues)


class DecoderRows(Generic[Graph, Held]):
    """A batch of rows under way in a decoder's graph; how they are read and stepped is for the kind of graph to say.

    Args:
        graph: What takes them.
        cache: Where they are held: empty, or with what a conversation left.
        hidden: Whether hidden states are kept.

    Attributes:
        hidden: Per row the last hidden states [n, width] of the ids just read, where they are kept.
    """

    def __init__(self, graph: Graph, cache: Held, *, hidden: bool) -> None:
        self.cache = cache
        self.hidden: list[Floats] = []
        self._graph = graph
        self._hidden_width = graph.hidden_width if hidden else None
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

    def log_softmax(self, logits: Floats) -> Floats:
        """Log-probabilities of logits [rows, columns], in a buffer that the next call writes over."""
        if self._log_softmax is None:
            self._log_softmax = LogSoftmax(self._graph.log_softmax)
        return self._log_softmax(logits)

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""
        self.cache.select(parents)

    def rewind(self, lengths: Sequence[int] | Integers) -> None:
        """Forget all but the first lengths[row] tokens of each row."""
        self.cache.rewind(lengths)

    def _check(self, counts: NDArray[np.int64]) -> None:
        """Refuse numbers of ids [rows] that cannot be appended."""
        if len(counts) != self.cache.rows or not len(counts) or counts.min() < 1:
            raise InputError(f"{self.cache.rows} rows need at least one id each, found {counts.tolist()}")
        if (most := int((self.lengths + counts).max())) > self.capacity:
            raise TooLongError(f"a row of {most} tokens does not fit the cache of {self.capacity}; start with more")
