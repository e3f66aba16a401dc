"""How likely a language model finds given ids. Knows ids and log-probabilities, no text."""

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Model, Sequences
from edgenlp.errors import InputError, TooLongError
from edgenlp.logits import log_softmax, softmax

__all__ = ["Ranked", "Scored", "rank", "score"]

_NUMBERS = 1 << 24  # logits that are held at once: 64 MiB


class Scored(TypedDict):
    """A text's likelihood; natural logarithms."""

    logprob: float
    tokens: int
    mean: float
    perplexity: float
    token_logprobs: list[float]


class Ranked(TypedDict):
    """A choice's likelihood after a prompt; `probability` among the choices."""

    choice: str
    index: int
    logprob: float
    mean: float
    tokens: int
    probability: float


def score(model: Model, ids: Sequence[int], long_input: str) -> Scored:
    """The likelihood of `ids`, the first of which nothing precedes.

    Args:
        model: Starts sequences.
        ids: Of a text.
        long_input: "error", "truncate", or "stride": windows that overlap by half.

    Raises:
        TooLongError: There are more ids than the window holds, and `long_input` is "error".
    """
    window = model.window
    if len(ids) > window and long_input == "error":
        raise TooLongError(
            f"the text is {len(ids)} tokens long, the model's window is {window}; give long_input='stride' or 'truncate'"
        )
    found: list[float] = []
    if len(ids) > 1:
        found += _logprobs(model.start(1, min(len(ids), window)), ids[:window], 1)
    if long_input == "stride":
        half = window // 2
        while len(found) + 1 < len(ids):
            done = len(found) + 1
            begin = done - half
            found += _logprobs(model.start(1, window), ids[begin : begin + window], half)
    total = math.fsum(found)
    mean = total / len(found) if found else 0.0
    return Scored(
        logprob=total, tokens=len(found), mean=mean, perplexity=math.exp(min(-mean, 700.0)), token_logprobs=found
    )


def rank(
    model: Model,
    context: Sequence[int],
    ids: Sequence[Sequence[int]],
    choices: Sequence[str],
    *,
    by: str,
    bos: int | None,
) -> list[Ranked]:
    """The choices, the likeliest first.

    Where a choice is joined to the prompt's last token, all choices are scored from there on: they stay comparable.

    Args:
        model: Starts sequences.
        context: The prompt's ids.
        ids: Per choice those of the prompt with it.
        choices: Their texts.
        by: "logprob" or "mean".
        bos: Put in front where nothing precedes the choices.

    Raises:
        InputError: A choice adds no token, or nothing precedes it.
        TooLongError: A choice does not fit the window.
    """
    shared = min(_common(context, row) for row in ids)
    if shared == 0:
        if bos is None:
            raise InputError(
                "nothing precedes the choices, and the model has no bos token to begin with; give a prompt"
            )
        ids, shared = [[bos, *row] for row in ids], 1
    for row, choice in zip(ids, choices, strict=True):
        if len(row) <= shared:
            raise InputError(f"the choice {choice!r} adds no token to the prompt; give a text")
        if len(row) > model.window:
            raise TooLongError(
                f"prompt and choice are {len(row)} tokens long, the model's window is {model.window}; shorten the prompt"
            )
    sequences = model.start(1, max(map(len, ids)))
    if shared > 1:
        sequences.read([list(ids[0][: shared - 1])])
    found = []
    for number, (row, choice) in enumerate(zip(ids, choices, strict=True)):
        sequences.rewind([shared - 1])
        own = _logprobs(sequences, row[shared - 1 :], 1)
        total = math.fsum(own)
        found.append(
            Ranked(choice=choice, index=number, logprob=total, mean=total / len(own), tokens=len(own), probability=0.0)
        )
    values = np.array([item["mean"] if by == "mean" else item["logprob"] for item in found])
    for item, share in zip(found, softmax(values[None])[0], strict=True):
        item["probability"] = float(share)
    order = sorted(range(len(found)), key=lambda index: (-values[index], index))
    return [found[index] for index in order]


def _logprobs(sequences: Sequences, ids: Sequence[int], start: int) -> list[float]:
    """Log-probabilities of ids[start:], each after those before it; reads all of `ids` but the last."""
    most = max(1, _NUMBERS // sequences.columns)
    found: list[float] = []
    for begin in range(0, len(ids) - 1, most):
        part = list(ids[begin : min(begin + most, len(ids) - 1)])
        logits: NDArray[Any] = sequences.read([part], every=True)[0]
        following = np.array(ids[begin + 1 : begin + 1 + len(part)])
        chosen = log_softmax(logits.astype(np.float64))[np.arange(len(part)), following]
        found += chosen.tolist()
    return found[start - 1 :]


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the beginning that both share."""
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )
