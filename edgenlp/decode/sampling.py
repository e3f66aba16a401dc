"""Seeded draws of ids from scores. Knows no option, no history and no model.

The numbers come from Philox 4x64-10 (Salmon et al. 2011) as numpy's bit generator gives them, which is the same on every
platform and in every version of numpy. A stream belongs to a seed and to the number of the returned sequence among those of
its prompt, not to a row of the batch: a prompt is answered alike alone, in a batch, and wherever it stands there. An id is
found by the inverse of the cumulative distribution in float64, in the order of the ids, with one number per id.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Floats
from edgenlp.errors import InputError

__all__ = ["Stream", "draw", "draw_several", "highest", "log_probabilities"]

_AHEAD = 64  # numbers fetched at once


class Narrows(Protocol):
    """What `Warp.narrow` does."""

    def narrow(self, row: Floats) -> tuple[NDArray[np.intp] | None, Floats]:
        """The ids that are left, rising, or None for all; and their scores."""


class Stream:
    """Numbers from 0 to below 1, in steps of 2**-53, that depend on `seed` and `number` only.

    Args:
        seed: From 0 to 2**64 - 1.
        number: Of the returned sequence among those of its prompt, from 0.
    """

    def __init__(self, seed: int, number: int) -> None:
        self._bits = np.random.Philox(key=np.array([seed, number], np.uint64))
        self._ahead: list[float] = []

    def next(self) -> float:
        """The next number."""
        if not self._ahead:
            raw = self._bits.random_raw(_AHEAD) >> np.uint64(11)
            self._ahead = (raw * 2.0**-53)[::-1].tolist()
        return self._ahead.pop()


def draw(scores: Floats, streams: Sequence[Stream], *, warp: Narrows | None = None) -> NDArray[np.int64]:
    """One id per row, drawn with the probabilities softmax(scores).

    Args:
        scores: [rows, columns]; minus infinity is never drawn.
        streams: Per row; each gives one number.
        warp: Applied to each row first, without writing the cut ids back; the rows are divided by its temperature.

    Returns:
        [rows].

    Raises:
        InputError: A row has no id to draw from, or scores that are no numbers.
    """
    tokens = np.empty(len(scores), np.int64)
    for number, row in enumerate(scores):
        places, values = (None, row) if warp is None else warp.narrow(row)
        sums = np.cumsum(_weights(values))
        place = int(np.searchsorted(sums, streams[number].next() * sums[-1], side="right"))
        tokens[number] = place if places is None else places[place]
    return tokens


def draw_several(scores: Floats, count: int, stream: Stream) -> NDArray[np.intp]:
    """Up to `count` places, all different, one after the other with the probabilities of those that are left.

    That is torch.multinomial without replacement. Drawing with replacement and passing over what was drawn before has the
    same distribution; the sums are renewed in between, so that a place that has nearly all of the probability holds
    nothing up.

    Args:
        scores: [N]; minus infinity is never drawn.
        count: How many; fewer come back where fewer have a probability above 0 in float64.
        stream: Gives as many numbers as it takes, the same for the same scores.

    Returns:
        Places in the order in which they were drawn.

    Raises:
        InputError: There is nothing to draw from, or scores that are no numbers.
    """
    weights = _weights(scores)
    places = np.flatnonzero(weights)
    weights = weights[places]
    chosen: list[int] = []
    left = np.ones(len(places), bool)
    while len(chosen) < count and left.any():
        sums = np.cumsum(np.where(left, weights, 0.0))
        for _ in range(count - len(chosen)):
            place = int(np.searchsorted(sums, stream.next() * sums[-1], side="right"))
            if left[place]:
                left[place] = False
                chosen.append(place)
    return places[chosen]


def log_probabilities(scores: Floats, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of the probability of tokens[row] under softmax(scores[row]), computed in float64: [rows]."""
    shifted = scores.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(tokens)), tokens]
    result: NDArray[np.float64] = chosen - np.log(np.exp(shifted).sum(axis=1))
    return result


def highest(scores: Floats) -> float:
    """The highest of `scores` [N].

    Raises:
        InputError: It is minus infinity, so that nothing can be chosen; or infinity or NaN, so that nothing is a probability.
    """
    top = float(scores.max())
    if top == -math.inf:
        raise InputError(
            "no id is left to choose: bans and constraints (bad_words_ids, suppress_tokens, prefix_allowed_tokens_fn, "
            "logits_processor ...) have removed all; relax one of them"
        )
    if not math.isfinite(top):
        raise InputError(
            f"the highest score is {top}; set remove_invalid_values=True, or check logits_processor and sequence_bias"
        )
    return top


def _weights(scores: Floats) -> NDArray[np.float64]:
    """Probabilities times a constant, [N]."""
    weights: NDArray[np.float64] = np.exp(scores.astype(np.float64) - highest(scores))
    return weights
