"""Exact match and F1 of answers, as SQuAD's own script counts (Rajpurkar et al., 2016). Knows texts, no spans."""

import collections
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora

__all__ = ["call", "f1", "figures", "read", "words_of"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


def read(path: Path) -> list[corpora.Question]:
    """Questions with their contexts and answers."""
    return corpora.questions(path)


def figures(task: Any, items: Sequence[corpora.Question]) -> dict[str, float]:
    """F1 and exact match in percent, of the nearest of a question's answers each."""
    found = task(({"question": item.question, "context": item.context} for item in items), batch_size=1)
    shared = exact = 0.0
    for answer, item in zip(found, items, strict=True):
        ours, theirs = words_of(answer["answer"]), [words_of(text) for text, _ in item.answers]
        shared += max(f1(ours, other) for other in theirs)
        exact += ours in theirs
    return {"F1": 100 * shared / len(items), "exact": 100 * exact / len(items)}


def words_of(text: str) -> list[str]:
    """Small letters, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_MARKS)).split()


def f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Of two answers' words."""
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def call(_: Any, item: corpora.Question) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [], {"question": item.question, "context": item.context}
