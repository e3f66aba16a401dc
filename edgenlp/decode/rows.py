"""What the loops share: the model as they see it, a sequence while it is written, and what is left of it. Knows no option."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Collect",
    "Ends",
    "Finish",
    "Floats",
    "Generated",
    "Model",
    "Process",
    "Row",
    "Rows",
    "Sequences",
    "Written",
    "closed_up",
]

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Rows = Sequence[Ids]  # per row the prompt and what was written, without padding

# "eos": an end token; "length": the most tokens; "stop": a stop string; "time": max_time; "user": a criterion of the caller's;
# "cancelled": the caller gave up.
Finish = Literal["eos", "length", "stop", "time", "user", "cancelled"]

# The processors: ids of each row, scores [rows, columns] and number of each row's prompt to new scores, in place or not.
Process = Callable[[Rows, Floats, Sequence[int]], Floats]


class Sequences(Protocol):
    """A batch of sequences under way."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens read so far, [rows]."""

    @property
    def columns(self) -> int:
        """Columns of the logits."""

    @property
    def hidden(self) -> list[Any] | None:
        """Last hidden states [n, H] of each row's ids just read, where started with hidden=True."""

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """Append at least one id to every row.

        Args:
            ids: Per row, of any lengths.
            every: Whether the logits after each id are wanted.

        Returns:
            The logits after the last id of each row, [rows, columns]; with `every` the logits after each id, per row an array
            [len(ids[row]), columns]. The arrays are the caller's.

        Raises:
            TooLongError: A row does not fit.
        """

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """Append one id to every row; the logits [rows, columns], in a buffer that the next step overwrites."""

    def log_softmax(self, logits: Floats) -> Floats:
        """Log-probabilities of logits [rows, columns], in a buffer that the next call may overwrite."""

    def select(self, parents: Sequence[int]) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""

    def rewind(self, lengths: Sequence[int]) -> None:
        """Keep the first lengths[row] ids of each row."""


class Model(Protocol):
    """What starts sequences."""

    @property
    def window(self) -> int:
        """Most tokens of a sequence."""

    @property
    def columns(self) -> int:
        """Columns of the logits."""

    def start(self, rows: int, capacity: int, *, most: int | None = None, hidden: bool = False) -> Sequences:
        """Empty sequences: `rows` to begin with, `most` at any time, `capacity` tokens each."""


@dataclass(frozen=True)
class Ends:
    """When a sequence ends, but for its length.

    Attributes:
        eos: End tokens, in the order given.
        one: Why a row of ids [tokens] ends by what its text says, or by the scores [columns] of its last id (None in beam search);
            None where nothing of the kind was asked for.
        now: Why all rows end at this moment, if they do; None where there is neither a time limit nor a way to cancel.
    """

    eos: tuple[int, ...] = ()
    one: Callable[[Ids, Floats | None], Finish | None] | None = None
    now: Callable[[], Finish | None] | None = None


class Written(NamedTuple):
    """What one step wrote of one sequence.

    Attributes:
        prompt: Number of its prompt.
        place: Number of the sequence among those of its prompt.
        tokens: New ids, at least one; several where prompt lookup guessed right.
        finish: Why the sequence ended, or None where it goes on.
    """

    prompt: int
    place: int
    tokens: tuple[int, ...]
    finish: Finish | None


@dataclass(frozen=True)
class Collect:
    """Which arrays of each step are kept; see `Generated`."""

    scores: bool = False
    logits: bool = False
    logprobs: bool = False


@dataclass(frozen=True)
class Generated:
    """A finished sequence.

    Attributes:
        ids: New ids, an end token included; the prompt is not.
        finish: Why it ended.
        score: Sum of the log-probabilities over the length to the power of the length penalty (transformers'
            `sequences_scores`); None without beams.
        scores: With output_scores, per id the processed scores [columns] that it was chosen from.
        logits: With output_logits, per id the model's logits [columns].
        logprobs: With output_logprobs, per id the logarithm of its probability among the processed scores; of beams as
            transformers' `compute_transition_scores` gives it, which does not normalise them again.
    """

    ids: tuple[int, ...]
    finish: Finish
    score: float | None = None
    scores: tuple[Floats, ...] | None = None
    logits: tuple[Floats, ...] | None = None
    logprobs: tuple[float, ...] | None = None


class Row:
    """A sequence while it is written.

    Args:
        ids: The prompt.
        prompt: Number of the prompt.
        place: Number of the sequence among those of its prompt.
        limit: Most ids in all.

    Attributes:
        ids: Buffer [limit]; the first `length` ids are there.
        start: Length of the prompt.
        finish: Why it ended; None while it goes on.
        scores, logits, logprobs: What was collected; see `Generated`.
    """

    __slots__ = ("finish", "ids", "length", "limit", "logits", "logprobs", "place", "prompt", "scores", "start")

    def __init__(self, ids: Sequence[int] | Ids, *, prompt: int, place: int, limit: int) -> None:
        self.ids = np.zeros(limit, np.int64)
        self.ids[: len(ids)] = ids
        self.start = self.length = len(ids)
        self.prompt = prompt
        self.place = place
        self.limit = limit
        self.finish: Finish | None = None
        self.scores: list[Floats] = []
        self.logits: list[Floats] = []
        self.logprobs: list[float] = []

    @property
    def read(self) -> Ids:
        """The prompt and what was written, a view."""
        return self.ids[: self.length]

    def generated(self, collect: Collect) -> Generated:
        """What is left of it once it has ended."""
        return Generated(
            ids=tuple(self.ids[self.start : self.length].tolist()),
            finish=self.finish or "cancelled",
            scores=tuple(self.scores) if collect.scores else None,
            logits=tuple(self.logits) if collect.logits else None,
            logprobs=tuple(self.logprobs) if collect.logprobs else None,
        )


def closed_up(kept: Sequence[int]) -> list[int]:
    """The rows `kept`, ascending, in an order in which as many as can be stay where they are: the last ones fill what is left free."""
    count = len(kept)
    last = iter([place for place in kept if place >= count])
    stay = {place for place in kept if place < count}
    return [place if place in stay else next(last) for place in range(count)]
