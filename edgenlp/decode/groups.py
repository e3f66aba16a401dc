"""Diverse beam search: groups of beams, each penalised for what the groups before it have just chosen. Knows ids and scores, no text.

The search is transformers 4.53's `_group_beam_search` with its `BeamSearchScorer` (later releases left it out), one prompt at a time;
the method is that of Vijayakumar et al. 2016, "Diverse Beam Search".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.beams import BeamPlan, History, go_on
from edgenlp.decode.processors import Diversity
from edgenlp.decode.rows import Ends, Finish, Floats, Generated, Process, Sequences
from edgenlp.errors import InputError
from edgenlp.logits import best_sums

__all__ = ["GroupSearch", "search_groups"]

Ids = NDArray[np.int64]
_NEVER = -1e9


@dataclass(frozen=True)
class _Hypothesis:
    score: float
    ids: Ids
    path: Ids
    finish: Finish


class _Group:
    """A group's running scores and the best of what has ended in it."""

    def __init__(self, size: int, plan: BeamPlan) -> None:
        self._size = size
        self._plan = plan
        self.scores = np.full(size, _NEVER, np.float32)
        self.scores[0] = 0
        self.ended: list[_Hypothesis] = []
        self._worst = 1e9
        self.done = False

    def add(self, total: float, ids: Ids, path: Ids, finish: Finish, *, length: int) -> None:
        """Keep a hypothesis of `length` new ids, an end token counted, if it is among the best."""
        score = total / length**self._plan.length_penalty
        if len(self.ended) == self._size and score <= self._worst:
            return
        self.ended.append(_Hypothesis(score, ids, path, finish))
        if len(self.ended) > self._size:
            del self.ended[min(range(len(self.ended)), key=lambda place: self.ended[place].score)]
        self._worst = min(item.score for item in self.ended)

    def judge(self, highest: float, length: int, limit: int) -> None:
        """Note whether nothing that runs can get better than what has ended.

        Args:
            highest: The best sum of log-probabilities in this step.
            length: New ids so far, this step's counted.
            limit: Most new ids.
        """
        if self.done or len(self.ended) < self._size:
            return
        plan = self._plan
        longest = plan.early_stopping == "never" and plan.length_penalty > 0
        attainable = highest / (limit if longest else length) ** plan.length_penalty
        self.done = plan.early_stopping is True or self._worst >= attainable


class GroupSearch:
    """The groups of one prompt.

    Args:
        prompt: Its ids.
        number: Number of the prompt.
        limit: Most ids in all.
        plan: Options of the search.
        groups: How many; divides `plan.num_beams`.
        pad: What a group that is done goes on with.
    """

    def __init__(
        self, prompt: Sequence[int], *, number: int, limit: int, plan: BeamPlan, groups: int, pad: int
    ) -> None:
        count = plan.num_beams
        self.plan = plan
        self.number = number
        self._limit = limit
        self._pad = pad
        self._start = self.length = len(prompt)
        self.ids = np.zeros((count, limit), np.int64)
        self.ids[:, : self._start] = prompt
        self._paths = np.zeros((count, limit - self._start), np.int64)
        self.size = count // groups
        self.groups = [_Group(self.size, plan) for _ in range(groups)]
        self.parents = np.arange(count)
        self.tokens = np.zeros(count, np.int64)
        self.over = False
        self.history = History(plan.collect)

    def rows(self, group: int) -> list[Ids]:
        """Ids of each beam of a group, views."""
        return [row[: self.length] for row in self.ids[group * self.size : (group + 1) * self.size]]

    def chosen(self, group: int) -> Ids:
        """What the groups before `group` have chosen in this step."""
        return self.tokens[: group * self.size]

    def advance(self, number: int, scores: Floats, eos: Sequence[int]) -> None:
        """Choose how one group goes on.

        Args:
            number: Of the group.
            scores: Processed log-probabilities [size, columns] of its beams.
            eos: End tokens.
        """
        group = self.groups[number]
        first = number * self.size
        own = slice(first, first + self.size)
        if group.done:
            group.scores[:] = 0
            self.tokens[own] = self._pad
            self.parents[own] = first
            return
        chosen, totals = best_sums(scores, group.scores, max(2, 1 + len(eos)) * self.size)
        place = 0
        for rank, candidate in enumerate(chosen):
            parent, token = divmod(int(candidate), scores.shape[1])
            parent += first
            if token in eos:
                if rank < self.size:
                    length = self.length + 1 - self._start
                    ids = np.append(self.ids[parent, self._start : self.length], eos[0])
                    group.add(float(totals[rank]), ids, self._path(parent, parent), "eos", length=length)
                continue
            group.scores[place] = totals[rank]
            self.tokens[first + place] = token
            self.parents[first + place] = parent
            place += 1
            if place == self.size:
                break
        if place < self.size:
            raise InputError(
                "more end tokens than candidates: eos_token_id names one token several times; name it once"
            )
        group.judge(float(totals[0]), self.length + 1 - self._start, self._limit - self._start)

    def _path(self, beam: int, *more: int) -> Ids:
        return np.append(self._paths[beam, : self.length - self._start], more).astype(np.int64)

    def commit(self, ends: Ends, now: Finish | None) -> None:
        """Append what all groups have chosen, and see whether the search is over."""
        self.ids = self.ids[self.parents]
        self.ids[:, self.length] = self.tokens
        self._paths = self._paths[self.parents]
        self._paths[:, self.length - self._start] = self.parents
        self.length += 1
        finish: Finish | None = "length" if self.length >= self._limit else now
        if finish is None and ends.one is not None:
            reasons = [ends.one(row[: self.length], None) for row in self.ids]
            finish = reasons[0] if all(reasons) else None
        if finish:
            self._close(finish)
        self.over = finish is not None or all(group.done for group in self.groups)

    def _close(self, finish: Finish) -> None:
        """What still runs takes part in the choice of the best."""
        for number, group in enumerate(self.groups):
            if group.done:
                continue
            for place in range(self.size):
                beam = number * self.size + place
                ids = self.ids[beam, self._start : self.length].copy()
                group.add(float(group.scores[place]), ids, self._path(beam), finish, length=self.length - self._start)

    def results(self) -> list[Generated]:
        """The best `keep` sequences of all groups, the best first; of equals the later one, as in transformers."""
        ended = [item for group in self.groups for item in group.ended]
        order = sorted(range(len(ended)), key=lambda place: (ended[place].score, place), reverse=True)
        return [
            self.history.generated(item.ids, item.path, item.finish, float(np.float32(item.score)))
            for item in (ended[place] for place in order[: self.plan.keep])
        ]


def search_groups(
    sequences: Sequences,
    searches: Sequence[GroupSearch],
    logits: Floats,
    *,
    ends: Ends,
    process: Process,
    diversity: Diversity,
) -> Iterator[None]:
    """Run the searches to their ends; yields after every step.

    The arguments are those of `edgenlp.decode.beams.search`; `diversity`, one of the processors, is told what groups choose.
    """
    under_way = list(searches)
    count = len(under_way[0].ids)
    size = under_way[0].size
    sequences.select([place for place in range(len(under_way)) for _ in range(count)])
    logits = np.repeat(logits, count, axis=0)
    while True:
        scores = sequences.log_softmax(logits).reshape(len(under_way), count, -1)
        for group in range(count // size):
            own = slice(group * size, (group + 1) * size)
            rows = [row for item in under_way for row in item.rows(group)]
            numbers = [item.number for item in under_way for _ in range(size)]
            diversity.chosen = {item.number: item.chosen(group) for item in under_way}
            part = process(rows, scores[:, own].reshape(len(rows), -1), numbers)
            part = part.reshape(len(under_way), size, -1)
            for item, own_scores in zip(under_way, part, strict=True):
                item.advance(group, own_scores, ends.eos)
            scores[:, own] = part
        now = ends.now() if ends.now else None
        for place, item in enumerate(under_way):
            item.history.add(scores[place], logits[place * count : (place + 1) * count])
            item.commit(ends, now)
        yield
        under_way, logits = go_on(sequences, under_way)
        if not under_way:
            return
