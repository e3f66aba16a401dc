"""Prompt lookup: guess the next tokens from what the row already holds, and let the model check all guesses in one run.

Knows ids and scores, no text. The text is that of greedy search or sampling, token for token: only the number of runs differs. The
method is Saxena 2023, "Prompt Lookup Decoding"; what is guessed follows transformers' PromptLookupCandidateGenerator.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.greedy import Chooser, append
from edgenlp.decode.rows import Ends, Finish, Floats, Row, Sequences, Written, closed_up

__all__ = ["guess", "write_ahead"]

Ids = NDArray[np.int64]


def guess(ids: Ids, count: int, longest: int, eos: Sequence[int] = ()) -> Ids:
    """What followed the last time that the row's last tokens came up.

    Args:
        ids: The row, prompt and what was written.
        count: Most tokens guessed.
        longest: Tokens that must match, at first; fewer are tried after that.
        eos: End tokens: nothing from one on is guessed.

    Returns:
        At most `count` ids, perhaps none.
    """
    for size in range(min(longest, len(ids) - 1), 0, -1):
        begins = np.arange(len(ids) - size)  # of what has something behind it
        matches = np.ones(len(begins), bool)
        for offset, token in enumerate(ids[-size:]):
            matches &= ids[begins + offset] == token
        if matches.any():
            begin = int(matches.argmax()) + size
            found = ids[begin : begin + count]
            ends = np.isin(found, eos)
            return found[: int(ends.argmax())] if ends.any() else found
    return ids[:0]


def write_ahead(
    sequences: Sequences,
    rows: Sequence[Row],
    logits: Floats,
    *,
    ends: Ends,
    choose: Chooser,
    count: int,
    longest: int,
) -> Iterator[list[Written]]:
    """`edgenlp.decode.greedy.write`, several tokens per run where the guesses are right.

    Args:
        sequences: One row each, which has read its prompt.
        rows: At least one.
        logits: [rows, columns] after the prompts.
        ends: When rows end.
        choose: From logits to tokens.
        count: Most tokens guessed per run (prompt_lookup_num_tokens).
        longest: Most tokens that must match (max_matching_ngram_size).
    """
    under_way = list(rows)
    guesses = [np.zeros(0, np.int64)] * len(under_way)
    checked = [values[None] for values in logits]  # per row [1 + guesses, columns]
    while True:
        now = ends.now() if ends.now else None
        step = [
            _accept(row, guessed, values, ends=ends, now=now, choose=choose)
            for row, guessed, values in zip(under_way, guesses, checked, strict=True)
        ]
        sequences.rewind(
            [min(row.length - 1, int(read)) for row, read in zip(under_way, sequences.lengths, strict=True)]
        )
        yield step
        kept = [place for place, row in enumerate(under_way) if row.finish is None]
        if not kept:
            return
        if len(kept) < len(under_way):
            kept = closed_up(kept)
            sequences.select(kept)
            under_way = [under_way[place] for place in kept]
        # of the room that is left, the last token is the model's own
        guesses = [guess(row.read, min(count, row.limit - row.length - 1), longest, ends.eos) for row in under_way]
        feeds = [[int(row.ids[row.length - 1]), *own.tolist()] for row, own in zip(under_way, guesses, strict=True)]
        checked = sequences.read(feeds, every=True)


def _accept(row: Row, guessed: Ids, logits: Floats, *, ends: Ends, now: Finish | None, choose: Chooser) -> Written:
    """Append what the model writes after each guess, as long as the guesses are what it writes."""
    tokens: list[int] = []
    for place in range(len(guessed) + 1):
        (token,), scores = choose([row], logits[place : place + 1])
        tokens.append(token)
        # what ends all rows ends this one after its last token of the step only
        last = place == len(guessed) or token != guessed[place]
        if append(row, token, scores[0], ends, now if last else None) or last:
            break
    return Written(row.prompt, row.place, tuple(tokens), row.finish)
