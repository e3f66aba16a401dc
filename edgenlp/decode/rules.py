"""The single rules about what may come next: penalties, bans, forced ids. Knows no option, no order and no model.

A rule sees the ids of each row without padding, the scores [rows, columns] of what may come next, and for each row the number
of its prompt. Rows may come, go and multiply between calls: nothing is kept per row, only per prompt. Scores are changed in
place where that is possible, and the array that is returned counts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Floats, Rows
from edgenlp.errors import InputError
from edgenlp.logits import log_softmax

__all__ = [
    "Diversity",
    "Processor",
    "Unconditional",
    "allowed",
    "bias",
    "decay",
    "finite",
    "forced",
    "guidance",
    "no_repeat",
    "not_before",
    "penalty",
    "suppressed",
    "suppressed_at",
    "users",
]

Ids = NDArray[np.int64]
# What the model says without the prompt, for the same rows: (ids, prompt's number of each row) to logits [rows, columns].
# transformers reads `negative_prompt_ids`, or the last token of the prompt, and then every new token.
Unconditional = Callable[[Rows, Sequence[int]], Floats]

_LARGEST = float(np.finfo(np.float32).max)


class Processor(Protocol):
    """One rule about what may come next."""

    def __call__(self, ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        """The scores [rows, columns] after the rule; may change `scores` itself.

        Args:
            ids: Per row its prompt and what was written, [tokens].
            scores: Logits or log-probabilities.
            owners: Per row the number of its prompt in the call.
        """


def guidance(scale: float, unconditional: Unconditional) -> Processor:
    """Classifier-free guidance (Sanchez et al. 2023): away from what the model says without the prompt."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        without = log_softmax(unconditional(ids, owners))
        guided = log_softmax(scores)
        guided -= without
        guided *= np.float32(scale)
        guided += without
        return guided

    return process


def bias(pairs: Sequence[tuple[tuple[int, ...], float]]) -> Processor:
    """Adds a bias to the last id of a sequence where the others have just been written.

    As in transformers a sequence of n ids counts only in a row of at least n ids, though n - 1 would do.
    """
    single = {ids[0]: np.float32(bias) for ids, bias in pairs if len(ids) == 1}
    single_ids, single_biases = np.array(list(single), np.int64), np.array(list(single.values()), np.float32)
    longer: dict[int, list[tuple[tuple[int, ...], int, np.float32]]] = {}  # by the id that must be the row's last
    for ids, bias in dict(pairs).items():
        if len(ids) > 1:
            longer.setdefault(ids[-2], []).append((ids[:-1], ids[-1], np.float32(bias)))

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        found: list[tuple[int, int, np.float32]] = []
        if longer:
            for number, row in enumerate(ids):
                sums: dict[int, np.float32] = {}
                for prefix, last, bias in longer.get(int(row[-1]), ()) if len(row) else ():
                    if len(prefix) < len(row) and tuple(row[-len(prefix) :].tolist()) == prefix:
                        sums[last] = sums.get(last, single.get(last, np.float32(0))) + bias
                # transformers sums the biases before it adds them: so does this, for the last bit
                found += [(number, last, scores[number, last] + total) for last, total in sums.items()]
        scores[:, single_ids] += single_biases
        for number, last, score in found:
            scores[number, last] = score
        return scores

    return process


def penalty(strength: float, sources: Rows | None) -> Processor:
    """Divides a positive score of an id that was read by `strength`, and multiplies a negative one (Keskar et al. 2019).

    Args:
        strength: Above 1 against, below 1 for repetition.
        sources: Per prompt the ids it applies to; None for all ids of the row.
    """
    factor = np.float32(strength)

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(scores):
            read = ids[number] if sources is None else sources[owners[number]]
            known = row[read]
            row[read] = np.where(known < 0, known * factor, known / factor)
        return scores

    return process


def no_repeat(size: int, sources: Rows | None) -> Processor:
    """Bans the id that would complete a run of `size` ids that is there already (Paulus et al. 2017).

    Args:
        size: Of the run.
        sources: Per prompt where runs are looked for; None for the row itself.
    """

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            if len(row) + 1 >= size:
                read = row if sources is None else sources[owners[number]]
                scores[number, _continuations(read, row, size)] = -np.inf
        return scores

    return process


def _continuations(read: Ids, row: Ids, size: int) -> Ids:
    """Ids that follow in `read` [tokens] wherever the last size - 1 ids of `row` [tokens] stand."""
    if size == 1:
        return read
    if len(read) < size:
        return read[:0]
    # The ends of the runs, few of them, are found at once; their other ids are compared there only.
    ends = np.flatnonzero(read[size - 2 : -1] == row[-1]) + (size - 2)
    for back in range(1, size - 1):
        if not len(ends):
            break
        ends = ends[read[ends - back] == row[-1 - back]]
    return read[ends + 1]


def not_before(least: Sequence[int], eos: Ids) -> Processor:
    """No end of sequence in a row that is shorter than `least` tokens (per prompt)."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            if len(row) < least[owners[number]]:
                scores[number, eos] = -np.inf
        return scores

    return process


def allowed(allow: Callable[[int, Any], Any]) -> Processor:
    """Only what `allow`(prompt's number, ids) returns."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            few = np.asarray(allow(int(owners[number]), row.copy()))
            if few.ndim != 1 or not len(few) or few.dtype.kind not in "iu":
                raise InputError(
                    f"prefix_allowed_tokens_fn must return a list of at least one id, found {few.tolist()!r} for prompt "
                    f"{owners[number]} after {len(row)} tokens; where nothing may follow, return the end token's id"
                )
            if few.min() < 0 or few.max() >= scores.shape[1]:
                raise InputError(
                    f"prefix_allowed_tokens_fn returned ids from {few.min()} to {few.max()}, and the model scores the "
                    f"ids 0 to {scores.shape[1] - 1}"
                )
            kept = scores[number, few]
            scores[number] = -np.inf
            scores[number, few] = kept
        return scores

    return process


def forced(lengths: Sequence[int], only: Ids) -> Processor:
    """Nothing but the ids `only` in a row that has exactly lengths[prompt] tokens."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            if len(row) == lengths[owners[number]]:
                scores[number] = -np.inf
                scores[number, only] = 0
        return scores

    return process


def finite(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
    """NaN becomes 0; the infinities become the largest and the smallest number."""
    np.nan_to_num(scores, copy=False, nan=0.0, posinf=_LARGEST, neginf=-_LARGEST)
    return scores


def decay(settings: tuple[int, float], starts: Sequence[int], eos: Ids) -> Processor:
    """Raises the end of sequence by |score| * (factor ** n - 1), n tokens after the start of the rule.

    Unlike transformers', an end that is banned stays so: minus infinity plus infinity is not a number there.
    """
    begin, growth = settings

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            steps = len(row) - starts[owners[number]] - begin
            if steps > 0:
                score = scores[number, eos]
                # the power overflows after some hundred tokens: then the end is certain
                factor = np.float32(1e30 if steps * math.log2(growth) > 99 else growth**steps - 1)
                with np.errstate(over="ignore"):
                    raised = score + np.where(np.isfinite(score), np.abs(score), np.float32(0)) * factor
                scores[number, eos] = np.minimum(raised, np.float32(_LARGEST))
        return scores

    return process


def suppressed(banned: Ids) -> Processor:
    """No id of `banned`."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        scores[:, banned] = -np.inf
        return scores

    return process


def suppressed_at(lengths: Sequence[int], banned: Ids) -> Processor:
    """No id of `banned` in a row that has exactly lengths[prompt] tokens."""

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        for number, row in enumerate(ids):
            if len(row) == lengths[owners[number]]:
                scores[number, banned] = -np.inf
        return scores

    return process


def users(call: Callable[[Any, Any], Any]) -> Processor:
    """A processor of the caller's, which takes (ids of each row, scores) and whose answer is checked."""
    name = getattr(call, "__name__", type(call).__name__)

    def process(ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        answer = np.asarray(call(ids, scores))
        if answer.shape != scores.shape or answer.dtype.kind != "f":
            raise InputError(
                f"the logits_processor {name} must return scores of the shape {scores.shape}, found {answer.dtype} {answer.shape}"
            )
        return np.require(answer, np.float32, ["C", "W"])

    return process


class Diversity:
    """Takes from the score of a token what earlier groups of beams chose in the same step (Vijayakumar et al. 2016, Hamming).

    Args:
        penalty: Per beam of an earlier group that chose the token.

    Attributes:
        chosen: Per prompt the ids [beams] that the earlier groups have chosen in this step. The search empties and fills it.
    """

    def __init__(self, penalty: float) -> None:
        self._penalty = np.float32(penalty)
        self.chosen: dict[int, Sequence[int] | Ids] = {}

    def __call__(self, ids: Rows, scores: Floats, owners: Sequence[int], /) -> Floats:
        """See `Processor`."""
        for row, owner in zip(scores, owners, strict=True):
            tokens, counts = np.unique(np.asarray(self.chosen.get(owner, ()), np.int64), return_counts=True)
            row[tokens] -= self._penalty * counts.astype(np.float32)
        return scores
