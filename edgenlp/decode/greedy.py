"""Greedy search and sampling: one token at a time for each sequence. Knows ids and scores, no text."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Collect, Ends, Finish, Floats, Process, Row, Sequences, Written, closed_up
from edgenlp.decode.sampling import log_probabilities

__all__ = ["Chooser", "append", "write"]

# Draws a token for each row from its scores [rows, columns].
Draw = Callable[[Sequence[Row], Floats], NDArray[np.int64]]


class Chooser:
    """From logits to the next token of each row.

    Args:
        process: The processors; None where there are none.
        draw: Draws a token per row; None to take the best.
        collect: What is kept in the rows.
    """

    def __init__(
        self,
        process: Process | None,
        draw: Draw | None,
        collect: Collect,
    ) -> None:
        self._process = process
        self._draw = draw
        self._collect = collect

    def __call__(self, rows: Sequence[Row], logits: Floats) -> tuple[list[int], Floats]:
        """The tokens, and the scores [rows, columns] that they were chosen from; `logits` may be overwritten."""
        self.look(rows, logits)
        scores = self.scores(rows, logits)
        tokens: list[int] = (self._draw(rows, scores) if self._draw else scores.argmax(axis=1)).tolist()
        self.keep(rows, scores, tokens)
        return tokens, scores

    def look(self, rows: Sequence[Row], logits: Floats) -> None:
        """Note the model's logits, if they are asked for, before anything changes them."""
        if self._collect.logits:
            for row, values in zip(rows, logits, strict=True):
                row.logits.append(values.copy())

    def scores(self, rows: Sequence[Row], logits: Floats) -> Floats:
        """What the processors make of logits [rows, columns]."""
        if self._process is None:
            return logits
        return self._process([row.read for row in rows], logits, [row.prompt for row in rows])

    def keep(self, rows: Sequence[Row], scores: Floats, tokens: Sequence[int]) -> None:
        """Note what was asked for of one step."""
        if self._collect.scores:
            for row, values in zip(rows, scores, strict=True):
                row.scores.append(values.copy())
        if self._collect.logprobs:
            for row, value in zip(rows, log_probabilities(scores, np.array(tokens)), strict=True):
                row.logprobs.append(float(value))


def append(row: Row, token: int, scores: Floats, ends: Ends, now: Finish | None) -> Finish | None:
    """Append a token to a row, and note why that ends it, if it does.

    Args:
        row: It goes on until now.
        token: The new id.
        scores: [columns] that it was chosen from.
        ends: When rows end.
        now: Why all end at this moment, if they do.
    """
    row.ids[row.length] = token
    row.length += 1
    if token in ends.eos:
        row.finish = "eos"
    elif ends.one is not None and (found := ends.one(row.read, scores)):
        row.finish = found
    else:
        row.finish = "length" if row.length >= row.limit else now
    return row.finish


def write(
    sequences: Sequences, rows: Sequence[Row], logits: Floats, *, ends: Ends, choose: Chooser
) -> Iterator[list[Written]]:
    """Write all rows to their ends; yields what each step wrote. Rows that have ended leave the batch.

    Args:
        sequences: One row each, which has read its prompt.
        rows: At least one.
        logits: [rows, columns] after the prompts.
        ends: When rows end.
        choose: From logits to tokens.
    """
    under_way = list(rows)
    while True:
        tokens, scores = choose(under_way, logits)
        now = ends.now() if ends.now else None
        step = [
            Written(row.prompt, row.place, (token,), append(row, token, scores[place], ends, now))
            for place, (row, token) in enumerate(zip(under_way, tokens, strict=True))
        ]
        yield step
        kept = [place for place, row in enumerate(under_way) if row.finish is None]
        if not kept:
            return
        if len(kept) < len(under_way):
            kept = closed_up(kept)
            sequences.select(kept)
            under_way = [under_way[place] for place in kept]
            tokens = [tokens[place] for place in kept]
        logits = sequences.step(np.array(tokens))
