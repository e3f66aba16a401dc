"""What sampling does to the scores of one row before it draws: temperature and the cuts. Knows no history and no option but its own.

The meanings and the order are those of transformers' `LogitsWarper`s. A row is narrowed once to the ids that are left, in
rising order, and each following cut works on those few only: an id of score minus infinity has no part in any of the sums.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Floats
from edgenlp.decode.sampling import highest
from edgenlp.logits import best, log_softmax

__all__ = ["Warp", "warp"]

Places = NDArray[np.intp]
# Scores [n] to the places that are kept, rising; None for all.
Cut = Callable[[Floats], Places | None]

_BLOCKS = 1024


def warp(options: Generation) -> "Warp | None":
    """The warpers that `options` asks for, in transformers' order; None where there are none."""
    if not options.do_sample:
        return Warp(renormalize=True) if options.renormalize_logits else None
    o, kept = options, options.kept
    cuts: list[Cut] = []
    if o.top_k:
        cuts.append(_top_k(max(o.top_k, kept)))
    if o.top_p < 1:
        cuts.append(_top_p(o.top_p, kept))
    if o.min_p is not None:
        cuts.append(_min_p(o.min_p, kept))
    if o.typical_p < 1:
        cuts.append(_typical(o.typical_p, kept))
    if o.epsilon_cutoff:
        cuts.append(_epsilon(o.epsilon_cutoff, kept))
    if o.eta_cutoff:
        cuts.append(_eta(o.eta_cutoff, kept))
    if not cuts and o.temperature == 1 and not o.renormalize_logits:
        return None
    return Warp(cuts, temperature=o.temperature, renormalize=o.renormalize_logits)


class Warp:
    """All warpers of a call as one processor, the last.

    Args:
        cuts: In order.
        temperature: Scores are divided by it first.
        renormalize: End with log-probabilities.
    """

    def __init__(self, cuts: Sequence[Cut] = (), *, temperature: float = 1.0, renormalize: bool = False) -> None:
        self._cuts = tuple(cuts)
        self._temperature = np.float32(temperature)
        self._renormalize = renormalize

    def __call__(self, ids: Any, scores: Floats, owners: Any, /) -> Floats:
        """Scores [rows, columns] after the warpers, in place; what is cut away has minus infinity."""
        for row in scores:
            kept, values = self.narrow(row)
            if kept is None:
                row[:] = values
            else:
                row[:] = -np.inf
                row[kept] = values
        return scores

    def narrow(self, row: Floats) -> tuple[Places | None, Floats]:
        """The ids that are left of `row` [columns], rising, and their scores after the warpers; None for all ids.

        `row` itself is divided by the temperature.

        Raises:
            InputError: There is nothing to choose from, or a score that is no number.
        """
        highest(row)
        if self._temperature != 1:
            with np.errstate(over="ignore"):  # remove_invalid_values leaves the smallest number there is
                row /= self._temperature
        places: Places | None = None
        values = row
        for cut in self._cuts:
            kept = cut(values)
            if kept is not None:
                places = kept if places is None else places[kept]
                values = values[kept]
        if self._renormalize:
            values = log_softmax(values)
        return places, values


def _top_k(count: int) -> Cut:
    """The `count` highest, and all that equal the last of them (Fan et al. 2018)."""

    def cut(scores: Floats) -> Places | None:
        if count >= len(scores):
            return None
        bound = _bound(scores, count)
        candidates = np.flatnonzero(scores >= bound if bound > -np.inf else scores > bound)
        if len(candidates) <= count:
            return candidates
        pool = scores[candidates]
        kept: Places = candidates[pool >= np.partition(pool, len(pool) - count)[len(pool) - count]]
        return kept

    return cut


def _bound(scores: Floats, count: int) -> np.float32:
    """A score that at least `count` of `scores` reach: the count-th of the maxima of blocks, which are fast to find."""
    if len(scores) < 2 * _BLOCKS or count > _BLOCKS // 4:
        return np.float32(-np.inf)
    rows = len(scores) // _BLOCKS
    maxima = scores[: rows * _BLOCKS].reshape(rows, _BLOCKS).max(axis=0)
    return np.float32(np.partition(maxima, _BLOCKS - count)[_BLOCKS - count])


def _top_p(mass: float, least: int) -> Cut:
    """The fewest of the likeliest whose probabilities reach `mass` together (Holtzman et al. 2019).

    Of equal scores at the border those with the lower ids stay; in transformers the order of a sort decides that torch leaves
    open, and that differs between processors.
    """
    rest = np.float32(1 - mass)

    def cut(scores: Floats) -> Places | None:
        probabilities = _softmax(scores)
        # Whatever is below rest / n is below it even with all others that are: no need to sort those.
        candidates = np.flatnonzero(probabilities * len(scores) > rest * np.float32(0.99))
        if len(candidates) <= least:
            return _likeliest(scores, least)
        order = candidates[np.argsort(-scores[candidates], kind="stable")[::-1]]
        chosen = probabilities[order].astype(np.float64)
        below = max(0.0, float(probabilities.sum(dtype=np.float64) - chosen.sum()))
        stays = (below + np.cumsum(chosen)).astype(np.float32) > rest
        stays[-least:] = True
        return np.sort(order[stays])

    return cut


def _min_p(share: float, least: int) -> Cut:
    """All that have at least `share` of the probability of the likeliest (Nguyen et al. 2024)."""
    factor = np.float32(share)

    def cut(scores: Floats) -> Places | None:
        probabilities = _softmax(scores)
        kept = np.flatnonzero(probabilities >= factor * probabilities.max())
        return kept if len(kept) >= least else _likeliest(scores, least)

    return cut


def _typical(mass: float, least: int) -> Cut:
    """Those whose information is nearest to the row's entropy, until they have `mass` together (Meister et al. 2022)."""

    def cut(scores: Floats) -> Places | None:
        scores, alive = _alive(scores)
        logarithms = log_softmax(scores)
        probabilities = np.exp(logarithms)
        entropy = -np.sum(logarithms * probabilities)
        distances = np.abs(-logarithms - entropy)
        # All that are likelier than half of the rest spread over n lie within `reach`, and have more than `mass`.
        reach = max(entropy, np.log(2 * len(scores) / (1 - mass)) - entropy) * np.float32(1.0001)
        candidates = np.flatnonzero(distances <= reach)
        order = candidates[np.argsort(distances[candidates], kind="stable")]
        sums = np.cumsum(probabilities[order], dtype=np.float64).astype(np.float32)
        last = min(int(np.count_nonzero(sums < np.float32(mass))), len(order) - 1)
        stays = distances[order] <= distances[order[last]]
        stays[:least] = True
        kept = np.sort(order[stays])
        return kept if alive is None else alive[kept]

    return cut


def _epsilon(epsilon: float, least: int) -> Cut:
    """All that have a probability of at least `epsilon` (Hewitt et al. 2022)."""
    floor = np.float32(epsilon)

    def cut(scores: Floats) -> Places | None:
        return _at_least(scores, _softmax(scores), floor, least)

    return cut


def _eta(epsilon: float, least: int) -> Cut:
    """As `_epsilon`, with a floor that falls with the row's entropy: min(epsilon, sqrt(epsilon) * exp(-entropy))."""
    floor = np.float32(epsilon)

    def cut(scores: Floats) -> Places | None:
        alive, places = _alive(scores)
        logarithms = log_softmax(alive)
        probabilities = np.exp(logarithms)
        entropy = -np.sum(logarithms * probabilities)
        kept = _at_least(alive, probabilities, min(floor, np.sqrt(floor) * np.exp(-entropy)), least)
        return kept if places is None else places[kept]

    return cut


def _at_least(scores: Floats, probabilities: Floats, floor: np.float32, least: int) -> Places:
    """Where `probabilities` reach `floor`, or the score is among the `least` highest or equals the last of those."""
    kept = np.flatnonzero(probabilities >= floor)
    if len(kept) >= least:
        return kept
    threshold = np.sort(scores)[-min(least, len(scores))]
    return np.flatnonzero((scores >= threshold) & (scores > -np.inf))


def _likeliest(scores: Floats, count: int) -> Places:
    """Places of the `count` highest, rising."""
    return np.sort(best(scores, count))


def _softmax(scores: Floats) -> Floats:
    exponentials: Floats = np.exp(scores - scores.max())
    exponentials /= exponentials.sum()
    return exponentials


def _alive(scores: Floats) -> tuple[Floats, Places | None]:
    """The scores that are not minus infinity, and their places; None for all."""
    if scores.min() > -np.inf:
        return scores, None
    places = np.flatnonzero(scores > -np.inf)
    return scores[places], places
