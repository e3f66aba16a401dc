"""Contrastive search: of the likeliest tokens the one whose meaning is least like what is there. Knows ids, scores and hidden states.

Su et al. 2022, "A Contrastive Framework for Neural Text Generation"; the steps are those of transformers 4.53's
`_contrastive_search`, which later releases left out.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from edgenlp.decode.greedy import Chooser, append
from edgenlp.decode.rows import Ends, Floats, Row, Sequences, Written
from edgenlp.errors import BundleError
from edgenlp.logits import best, softmax, unit

__all__ = ["contrast"]


def contrast(
    sequences: Sequences,
    rows: Sequence[Row],
    logits: Floats,
    *,
    ends: Ends,
    choose: Chooser,
    alpha: float,
    candidates: int,
) -> Iterator[list[Written]]:
    """Write all rows to their ends; yields what each step wrote.

    A token's value is (1 - alpha) p - alpha c: its probability, and its cosine to the nearest token before it, both of the last
    hidden states (transformers' `_ranking_fast`).

    Args:
        sequences: One row each, started with hidden=True, which has read its prompt; there is room for `candidates` times as many.
        rows: At least one.
        logits: [rows, columns] after the prompts.
        ends: When rows end.
        choose: Its processors are applied; the choice is made here.
        alpha: penalty_alpha, from 0 to 1.
        candidates: top_k, tokens that are looked at.
    """
    under_way = list(rows)
    count = min(candidates, logits.shape[1])
    if not sequences.hidden:
        raise BundleError(
            "the graph gives no hidden states, which contrastive search compares; export the bundle again"
        )
    seen = [_Seen(row.limit, states) for row, states in zip(under_way, sequences.hidden, strict=True)]
    while True:
        choose.look(under_way, logits)
        scores = choose.scores(under_way, logits)
        probabilities = softmax(scores)
        options = np.stack([best(row, count) for row in probabilities])  # [rows, count]
        sequences.select([place for place in range(len(under_way)) for _ in range(count)])
        following = sequences.step(options.ravel())
        hidden = np.concatenate(sequences.hidden or []).reshape(len(under_way), count, -1)
        picks = [
            seen[place].pick(probabilities[place, options[place]], hidden[place], alpha)
            for place in range(len(under_way))
        ]
        tokens = [int(options[place, pick]) for place, pick in enumerate(picks)]
        choose.keep(under_way, scores, tokens)
        now = ends.now() if ends.now else None
        step = [
            Written(row.prompt, row.place, (token,), append(row, token, scores[place], ends, now))
            for place, (row, token) in enumerate(zip(under_way, tokens, strict=True))
        ]
        yield step
        kept = [place for place, row in enumerate(under_way) if row.finish is None]
        chosen = [place * count + picks[place] for place in kept] or [picks[0]]
        sequences.select(chosen)
        if not kept:
            return
        logits = following[chosen]
        under_way = [under_way[place] for place in kept]
        seen = [seen[place] for place in kept]


class _Seen:
    """Directions of the hidden states of a row's tokens."""

    def __init__(self, limit: int, states: Floats) -> None:
        self._states = np.empty((limit, states.shape[1]), np.float32)
        self._states[: len(states)] = unit(states)
        self._count = len(states)

    def pick(self, probabilities: Floats, states: Floats, alpha: float) -> int:
        """The place of the best candidate, which is then one of those seen.

        Args:
            probabilities: [candidates].
            states: [candidates, H].
            alpha: Weight of the likeness.
        """
        directions = unit(states)
        likeness = (self._states[: self._count] @ directions.T).max(axis=0)
        choice = int(((1 - alpha) * probabilities - alpha * likeness).argmax())
        self._states[self._count] = directions[choice]
        self._count += 1
        return choice
