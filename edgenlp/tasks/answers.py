"""What is written from sources: sequences and how likely they are. Knows ids and log-probabilities, no text."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgenlp.decode.generate import generate
from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Generated
from edgenlp.language_model import Reading
from edgenlp.logits import log_softmax
from edgenlp.tasks.scoring import Scored
from edgenlp.tasks.sources import Source

__all__ = ["Answer", "alternatives", "scored", "written"]

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Answer:
    """One sequence that was written.

    Attributes:
        ids: All of it, the token before every answer included.
        new: How many of `ids` were chosen by the model.
        item: How the last of them came about.
        score: Sum of the log-probabilities of the new ids, over their number to the power of length_penalty (of beams
            transformers' `sequences_scores`); None where no log-probabilities were kept.
    """

    ids: tuple[int, ...]
    new: int
    item: Generated
    score: float | None


@dataclass(frozen=True)
class _Head:
    """A likely first token: `source` is its source's number, `ids` end with it."""

    source: int
    ids: tuple[int, ...]
    logprob: float


def written(reading: Reading, sources: Sequence[Source], writing: Generation, decode: Decode) -> list[list[Answer]]:
    """Per source its num_return_sequences answers; of beams the best first."""
    found = _generated(reading, [source.first for source in sources], sources, writing, decode)
    return [
        [
            Answer((*source.first, *item.ids), len(item.ids), item, _likelihood(item, writing.length_penalty))
            for item in items
        ]
        for source, items in zip(sources, found, strict=True)
    ]


def alternatives(
    reading: Reading, sources: Sequence[Source], writing: Generation, count: int, decode: Decode
) -> list[list[Answer]]:
    """Per source the answers that begin with its `count` likeliest next tokens, the likeliest answer first.

    The search that `writing` asks for goes on with each of them. Its length limits count them as tokens that it wrote.
    """
    found: list[list[Answer]] = [[] for _ in sources]
    going: dict[tuple[int, int], list[_Head]] = {}
    for head in _heads(reading, sources, writing, count, decode):
        token = head.ids[-1]
        least, most = writing.span(len(head.ids) - 1, reading.window)
        ends = token in writing.eos_token_id
        if ends or len(head.ids) >= most:
            item = Generated((token,), "eos" if ends else "length", score=head.logprob)
            found[head.source].append(Answer(head.ids, 1, item, head.logprob))
        else:
            going.setdefault((least, most), []).append(head)
    for (least, most), heads in going.items():
        rest = dataclasses.replace(
            writing,
            max_length=most,
            max_new_tokens=None,
            min_length=least,
            min_new_tokens=None,
            explicit=writing.explicit | {"max_length"},
        )
        rows = [head.source for head in heads]
        items = _generated(reading.of(rows), [head.ids for head in heads], [sources[row] for row in rows], rest, decode)
        for head, (item, *_) in zip(heads, items, strict=True):
            score = _likelihood(item, writing.length_penalty, head.logprob)
            found[head.source].append(Answer((*head.ids, *item.ids), len(item.ids) + 1, item, score))
    return [sorted(answers, key=lambda answer: -(answer.score or 0.0)) for answers in found]


def scored(logprobs: list[float]) -> Scored:
    """The likelihood of tokens from that of each."""
    total = math.fsum(logprobs)
    mean = total / len(logprobs) if logprobs else 0.0
    return Scored(
        logprob=total,
        tokens=len(logprobs),
        mean=mean,
        perplexity=math.exp(min(-mean, 700.0)),
        token_logprobs=logprobs,
    )


def _heads(reading: Reading, sources: Sequence[Source], writing: Generation, count: int, decode: Decode) -> list[_Head]:
    """The likeliest next tokens of each source, as the processors of the call leave them."""
    one = dataclasses.replace(
        writing,
        num_beams=1,
        num_beam_groups=1,
        diversity_penalty=0.0,
        do_sample=False,
        penalty_alpha=0.0,
        prompt_lookup_num_tokens=None,
        output_scores=True,
        stopping_criteria=(_at_once,),
    )
    found = []
    for number, (item, *_) in enumerate(
        _generated(reading, [source.first for source in sources], sources, one, decode)
    ):
        for scores in (item.scores or ())[:1]:  # none where the call was cancelled
            logprobs = log_softmax(scores[None].astype(np.float64))[0]
            likeliest = [int(token) for token in np.argsort(-logprobs, kind="stable")[:count]]
            found += [
                _Head(number, (*sources[number].first, token), float(logprobs[token]))
                for token in likeliest
                if np.isfinite(logprobs[token])
            ]
    return found


def _generated(
    reading: Reading,
    prompts: Sequence[Sequence[int]],
    sources: Sequence[Source],
    writing: Generation,
    decode: Decode,
) -> list[list[Generated]]:
    return generate(
        reading,
        [list(prompt) for prompt in prompts],
        writing,
        decode=decode,
        sources=[np.array(source.ids, np.int64) for source in sources],
    )


def _likelihood(item: Generated, penalty: float, before: float | None = None) -> float | None:
    """The score of an answer; `before` is the log-probability of a token that it goes on from."""
    size = len(item.ids)
    if item.score is not None and before is None:
        return item.score
    if item.score is not None:
        total = item.score * math.pow(size, penalty)
    elif item.logprobs is not None:
        total = math.fsum(item.logprobs)
    else:
        return None
    if before is not None:
        total, size = total + before, size + 1
    return total / math.pow(max(1, size), penalty)


def _at_once(ids: Any, scores: Any) -> bool:
    return True
