"""A traced encoder's answers against PyTorch's, or against the graph it was made from. Knows arrays, no layers and no schemes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenlp.encode import padded
from edgenlp.errors import BundleError, UnsupportedError
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from ..sample import LINES
from ..verify import compare

__all__ = ["Question", "answers_of", "compare_answers", "questions", "run_batches", "run_single"]

Floats = NDArray[np.float32]
_LONGEST = 64  # tokens of one text, as for hand-written graphs
_EDGES = (1, 2, 3, 7)  # tokens of texts cut short: a trace that holds lengths fixed goes wrong here first
_TOGETHER = 5  # windows of one run
_MASKED = -1e5  # a logit below it is not meant to be chosen, ever


class Question(NamedTuple):
    """One window that is asked (`edgenlp.encode.Window`)."""

    ids: list[int]
    type_ids: list[int]


def questions(tokens: Tokens, lengths: Sequence[int], *, type_ids: bool) -> list[Question]:
    """Windows of real text: lines, pairs, pieces of a few tokens, and texts of exactly the `lengths`, widest first, at the end."""
    texts: list[str | tuple[str, str]] = [*LINES, (LINES[0], LINES[1]), (LINES[2], LINES[3])]
    longest = min(lengths[-1], _LONGEST)
    encoded = [windows[0] for windows in tokens.encode(texts, max_length=longest, truncation="longest_first")]
    asked = [
        Question(list(item.ids), list(item.type_ids) if type_ids else [0] * len(item)) for item in encoded if len(item)
    ]
    whole = [number for item in asked for number in item.ids]
    asked += [Question(asked[0].ids[:length], asked[0].type_ids[:length]) for length in _EDGES if length < longest]
    full = [(whole * (1 + length // len(whole)))[:length] for length in lengths if length <= 2048]
    return [*asked, *(Question(ids, [0] * len(ids)) for ids in full)]


def rows_of(window: Question) -> list[int]:
    """Positions that a masked language model is asked of."""
    return sorted({0, len(window.ids) // 2, len(window.ids) - 1})


def answers_of(values: Floats, window: Question, head: str) -> Floats:
    """What is compared of an answer: of a masked language model the chosen rows."""
    return values[rows_of(window)] if head == "masked-lm" else values


def run_single(path: Path, windows: Sequence[Question], head: str) -> list[Floats | None]:
    """What the graph of an exporter, as it is, answers: one window at a time, nothing padded; None where it fails."""
    session = Session(path)
    found: list[Floats | None] = []
    for window in windows:
        ids = np.array([window.ids])
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.array([window.type_ids]),
            "position_ids": np.arange(ids.shape[1])[None],
        }
        try:
            outputs = session.run({name: feed[name] for name in session.inputs if name in feed})
        except BundleError:
            found.append(None)
            continue
        if head == "question-answering":
            both = [outputs[name][0] for name in ("start_logits", "end_logits") if name in outputs]
            found.append(np.stack(both, -1) if len(both) == 2 else None)
        else:
            name = "last_hidden_state" if head == "hidden-states" else "logits"
            found.append(outputs[name][0] if name in outputs else None)
    if all(item is None for item in found):
        raise UnsupportedError(
            f"{path} cannot be run on any text, or gives nothing that {head} is; trace it again for this --task"
        )
    return found


def run_batches(session: Session, windows: Sequence[Question], head: str) -> list[Floats]:
    """What a bundle's graph answers: windows of very different lengths in one run, padded."""
    order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
    count = -(-len(order) // _TOGETHER)
    found: dict[int, Floats] = {}
    for first in range(count):
        members = order[first::count]
        found |= dict(zip(members, _run(session, [windows[index] for index in members], head), strict=True))
    return [found[index] for index in range(len(windows))]


def _run(session: Session, windows: Sequence[Question], head: str) -> list[Floats]:
    lengths = np.array([len(item.ids) for item in windows])
    width = int(lengths.max())
    feed: dict[str, Any] = {"input_ids": padded([item.ids for item in windows], lengths, width), "lengths": lengths}
    feed["token_type_ids"] = padded([item.type_ids for item in windows], lengths, width)
    rows = [rows_of(item) for item in windows]
    feed["rows"] = np.concatenate([np.array(own) + width * place for place, own in enumerate(rows)])
    (output,) = session.run({name: feed[name] for name in session.inputs}).values()
    if head == "masked-lm":
        return np.split(output, np.cumsum([len(own) for own in rows])[:-1])
    if head == "sequence-classification":
        return list(output)
    return [row[:length] for row, length in zip(output, lengths, strict=True)]


def compare_answers(found: Sequence[Floats], expected: Sequence[Floats]) -> dict[str, float]:
    """As `export.verify.compare`; what both sides rule out by a very low logit counts as equal."""
    left, right = [], []
    for one, other in zip(found, expected, strict=True):
        low = (one < _MASKED) & (other < _MASKED)
        left.append(np.where(low, 0, one))
        right.append(np.where(low, 0, other))
    return compare(left, right)
