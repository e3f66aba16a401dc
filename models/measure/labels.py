"""Accuracy of text classification, of one text or of two. Knows labels, no tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora

__all__ = ["by_name", "by_number", "call_pair", "call_text", "read_pairs", "read_texts"]


def read_texts(path: Path) -> list[tuple[str, int]]:
    """Texts and numbers of their labels."""
    return corpora.labelled(path)


def read_pairs(path: Path) -> list[tuple[dict[str, str], str]]:
    """Pairs as the pipeline takes them, and names of their labels."""
    return [({"text": text, "text_pair": pair}, label) for text, pair, label in corpora.pairs(path)]


def by_number(task: Any, items: Sequence[tuple[str, int]]) -> dict[str, float]:
    """Accuracy where a label is known by its place in the model's list."""
    names = task.bundle.head.labels
    if len(names) != len({label for _, label in items}):
        raise ValueError(f"the model's labels are {', '.join(names)}; the file's {sorted({item[1] for item in items})}")
    return _accuracy(task, [(text, names[label].lower()) for text, label in items])


def by_name(task: Any, items: Sequence[tuple[dict[str, str], str]]) -> dict[str, float]:
    """Accuracy where a label is known by its name, small letters or capitals."""
    names = {name.lower() for name in task.bundle.head.labels}
    if missing := sorted({label for _, label in items} - names):
        raise ValueError(f"the model has no label {', '.join(missing)}; it has {', '.join(sorted(names))}")
    return _accuracy(task, items)


def call_text(_: Any, item: tuple[str, int]) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [item[0]], {}


def call_pair(_: Any, item: tuple[dict[str, str], str]) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [item[0]], {}


def _accuracy(task: Any, items: Sequence[tuple[Any, str]]) -> dict[str, float]:
    found = task((text for text, _ in items), truncation=True, batch_size=1)
    right = [answer["label"].lower() == label for answer, (_, label) in zip(found, items, strict=True)]
    return {"accuracy": 100 * sum(right) / len(right)}
