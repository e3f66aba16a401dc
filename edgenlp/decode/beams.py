"""Beam search and beam sampling: several continuations of each prompt side by side. Knows ids and scores, no text.

The search is transformers 4.57's `_beam_search`, one prompt at a time: what a prompt gives does not depend on which others are
under way. All prompts' beams are rows of one batch; a prompt whose search has ended leaves it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Collect, Ends, Finish, Floats, Generated, Process, Sequences, closed_up
from edgenlp.logits import best, best_sums

__all__ = ["BeamPlan", "History", "Search", "go_on", "search"]

Ids = NDArray[np.int64]
_NEVER = np.float32(-1e9)  # transformers' stand-in for minus infinity: it takes part in sums

# Draws so many of the candidates with these scores [N], without replacement, for the prompt of that number.
Draw = Callable[[Floats, int, int], NDArray[np.intp]]


@dataclass(frozen=True)
class BeamPlan:
    """Options of a search; the names are GenerationConfig's.

    Attributes:
        keep: Sequences returned.
        collect: Which arrays of each step are kept.
    """

    num_beams: int
    keep: int
    length_penalty: float
    early_stopping: bool | str
    collect: Collect


class History:
    """Arrays of every step of one prompt's beams, and how a sequence is followed through them."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect
        self._scores: list[Floats] = []
        self._logits: list[Floats] = []

    def add(self, scores: Floats, logits: Floats) -> None:
        """Keep one step's arrays [beams, columns]."""
        if self._collect.scores or self._collect.logprobs:
            self._scores.append(scores.copy())
        if self._collect.logits:
            self._logits.append(logits.copy())

    def generated(self, ids: Ids, path: Ids, finish: Finish, score: float) -> Generated:
        """The sequence `ids` [n], whose id i was chosen in row path[i] of step i."""
        new = tuple(int(token) for token in ids)
        collect = self._collect
        return Generated(
            new,
            finish,
            score,
            scores=tuple(self._scores[step][row] for step, row in enumerate(path)) if collect.scores else None,
            logits=tuple(self._logits[step][row] for step, row in enumerate(path)) if collect.logits else None,
            logprobs=tuple(float(self._scores[step][row, new[step]]) for step, row in enumerate(path))
            if collect.logprobs
            else None,
        )


@dataclass(frozen=True)
class _Ended:
    """A hypothesis among the best that have ended; `finish` is None where there is none yet."""

    ids: Ids
    path: Ids
    finish: Finish | None


class Search:
    """The beams of one prompt.

    Attributes:
        plan: Options of the search.
        number: Number of the prompt.
        ids: [beams, limit] of the running beams; `length` ids of each are there.
        scores: [beams] sums of log-probabilities.
        parents: Per running beam the row that it came from in the last step.
        over: Whether the search has ended.
    """

    def __init__(self, prompt: Sequence[int], *, number: int, limit: int, plan: BeamPlan) -> None:
        count = plan.num_beams
        self.plan = plan
        self.number = number
        self.limit = limit
        self.start = self.length = len(prompt)
        self.ids = np.zeros((count, limit), np.int64)
        self.ids[:, : self.start] = prompt
        self._paths = np.zeros((count, limit - self.start), np.int64)
        self.scores = np.full(count, _NEVER, np.float32)
        self.scores[0] = 0  # all beams are alike: only the first is continued in the first step
        self.parents = np.zeros(count, np.intp)
        nothing = np.zeros(0, np.int64)
        self._ended = [_Ended(nothing, nothing, None)] * count
        self._ended_scores = np.full(count, _NEVER, np.float32)
        self._improvable = True
        self.over = False
        self.history = History(plan.collect)

    @property
    def rows(self) -> list[Ids]:
        """Ids of each running beam, views."""
        return [row[: self.length] for row in self.ids]

    @property
    def tokens(self) -> Ids:
        """The last id of each running beam."""
        return self.ids[:, self.length - 1]

    def advance(self, scores: Floats, ends: Ends, now: Finish | None, draw: Draw | None) -> None:
        """One step.

        Args:
            scores: Processed log-probabilities [beams, columns].
            ends: When a candidate ends.
            now: Why all end at this moment, if they do.
            draw: Draws the candidates; None to take the best.
        """
        count, columns = scores.shape
        most = max(2, 1 + len(ends.eos)) * count  # enough that `count` go on even where every beam's best ends it
        if draw:
            total = (scores + self.scores[:, None]).ravel()
            chosen = _drawn(total, most, draw, self.number)
            values: Floats = total[chosen]
        else:
            chosen, values = best_sums(scores, self.scores, most)
        parents, tokens = np.divmod(chosen, columns)
        finishes = self._finishes(parents, tokens, ends, now)
        hits = np.array([finish is not None for finish in finishes])
        self._end(values, parents, tokens, finishes, hits)
        running: Floats = values + hits.astype(np.float32) * _NEVER
        order = best(running, count)
        order = order[_in_place(parents[order].tolist())]
        self.parents = parents[order]
        self.ids = self.ids[self.parents]
        self.ids[:, self.length] = tokens[order]
        self._paths = self._paths[self.parents]
        self._paths[:, self.length - self.start] = self.parents
        self.scores = running[order]
        self.length += 1
        self._judge(bool(hits.all()))

    def _finishes(
        self, parents: NDArray[np.intp], tokens: NDArray[np.intp], ends: Ends, now: Finish | None
    ) -> list[Finish | None]:
        """Why each candidate ends."""
        everyone: Finish | None = "length" if self.length + 1 >= self.limit else now
        finishes = [everyone] * len(tokens)
        if ends.one is not None:
            candidate = np.empty(self.length + 1, np.int64)
            for place, (parent, token) in enumerate(zip(parents, tokens, strict=True)):
                candidate[:-1] = self.ids[parent, : self.length]
                candidate[-1] = token
                finishes[place] = ends.one(candidate, None) or everyone
        for place, token in enumerate(tokens.tolist()):
            if token in ends.eos:
                finishes[place] = "eos"
        return finishes

    def _end(
        self,
        values: Floats,
        parents: NDArray[np.intp],
        tokens: NDArray[np.intp],
        finishes: list[Finish | None],
        hits: NDArray[np.bool_],
    ) -> None:
        """Let candidates that end, if they are among the best, take their places among the best that have ended."""
        plan = self.plan
        taken = hits & (np.arange(len(hits)) < plan.num_beams)
        if not taken.any():
            return
        final = values / np.float32(float(self.length + 1 - self.start) ** plan.length_penalty)
        full = all(item.finish for item in self._ended) and plan.early_stopping is True
        final += (
            np.float32(full) * _NEVER + np.float32(not self._improvable) * _NEVER + (~taken).astype(np.float32) * _NEVER
        )
        merged = np.concatenate([self._ended_scores, final])
        order = best(merged, plan.num_beams)
        self._ended = [
            self._ended[place]
            if place < plan.num_beams
            else self._candidate(
                place - plan.num_beams, parents, tokens, finishes if taken[place - plan.num_beams] else None
            )
            for place in order
        ]
        self._ended_scores = merged[order]

    def _candidate(
        self, place: int, parents: NDArray[np.intp], tokens: NDArray[np.intp], finishes: list[Finish | None] | None
    ) -> _Ended:
        parent = parents[place]
        return _Ended(
            np.append(self.ids[parent, self.start : self.length], tokens[place]),
            np.append(self._paths[parent, : self.length - self.start], parent),
            finishes[place] if finishes else None,
        )

    def _judge(self, stuck: bool) -> None:
        """Whether the search is over: nothing can get better, enough have ended, or nothing can go on."""
        plan = self.plan
        longest = plan.early_stopping == "never" and plan.length_penalty > 0
        length = (self.limit if longest else self.length) - self.start
        possible = self.scores.max() / np.float32(float(length) ** plan.length_penalty)
        ended = np.array([item.finish is not None for item in self._ended])
        worst = np.where(ended, self._ended_scores.min(), _NEVER)
        self._improvable = self._improvable and bool((possible > worst).any())
        enough = bool(ended.all()) and plan.early_stopping is True
        self.over = not self._improvable or enough or stuck

    def results(self) -> list[Generated]:
        """The best `keep` sequences, the best first."""
        return [
            self.history.generated(item.ids, item.path, item.finish or "length", float(score))
            for item, score in list(zip(self._ended, self._ended_scores, strict=True))[: self.plan.keep]
        ]


def _in_place(parents: Sequence[int]) -> list[int]:
    """The order of children in which as many as can be are where their parent was: the others have to be copied."""
    places: list[int | None] = [None] * len(parents)
    others = []
    for child, parent in enumerate(parents):
        if places[parent] is None:
            places[parent] = child
        else:
            others.append(child)
    rest = iter(others)
    return [next(rest) if child is None else child for child in places]


def _drawn(total: Floats, count: int, draw: Draw, number: int) -> NDArray[np.intp]:
    """Draw `count` candidates; where fewer have a probability, what is left makes up the number, as impossible as it is."""
    chosen = draw(total, count, number)
    if len(chosen) == count:
        return chosen
    others = np.setdiff1d(np.arange(len(total)), chosen)
    return np.concatenate([chosen, others[best(total[others], count - len(chosen))]])


def search(
    sequences: Sequences,
    searches: Sequence[Search],
    logits: Floats,
    *,
    ends: Ends,
    process: Process | None,
    draw: Draw | None,
) -> Iterator[None]:
    """Run the searches to their ends; yields after every step.

    Args:
        sequences: One row per search, which has read its prompt; there is room for `num_beams` times as many.
        searches: Not yet begun.
        logits: [searches, columns] after the prompts.
        ends: When candidates end.
        process: The processors; None where there are none.
        draw: See `Search.advance`.
    """
    under_way = list(searches)
    count = len(under_way[0].scores)
    sequences.select([place for place in range(len(under_way)) for _ in range(count)])
    logits = np.repeat(logits, count, axis=0)
    while True:
        scores = sequences.log_softmax(logits)
        if process:
            rows = [row for item in under_way for row in item.rows]
            scores = process(rows, scores, [item.number for item in under_way for _ in range(count)])
        now = ends.now() if ends.now else None
        for place, item in enumerate(under_way):
            own = slice(place * count, (place + 1) * count)
            item.history.add(scores[own], logits[own])
            item.advance(scores[own], ends, now, draw)
        yield
        under_way, logits = go_on(sequences, under_way)
        if not under_way:
            return


class _Searching(Protocol):
    """What a search says of itself after a step; see `Search`."""

    parents: NDArray[np.intp]
    over: bool

    @property
    def tokens(self) -> Ids:
        """Last token of each running beam."""


S = TypeVar("S", bound=_Searching)


def go_on(sequences: Sequences, under_way: Sequence[S]) -> tuple[list[S], Floats]:
    """Let the beams of searches that are not over take their step: those searches, and the logits of their beams."""
    kept = closed_up([place for place, item in enumerate(under_way) if not item.over])
    if not kept:
        return [], np.empty((0, sequences.columns), np.float32)
    count = len(under_way[0].parents)
    parents = [place * count + int(parent) for place in kept for parent in under_way[place].parents]
    going = [under_way[place] for place in kept]
    sequences.select(parents)
    return going, sequences.step(np.concatenate([item.tokens for item in going]))
