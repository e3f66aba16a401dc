"""F1 of whole entities over words, as the script of CoNLL's shared tasks (conlleval) counts. Knows tags, no tokens."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora

__all__ = ["call", "entities", "figures", "read"]

Sentence = tuple[list[str], list[str]]


def read(path: Path) -> list[Sentence]:
    """Words and tags."""
    return corpora.conll(path)


def figures(task: Any, items: Sequence[Sentence]) -> dict[str, float]:
    """F1, precision and recall in percent; a word's tag is that of its first token."""
    known = {label[2:] for label in task.bundle.head.labels}
    if not known & {tag[2:] for _, tags in items for tag in tags if tag != "O"}:
        raise ValueError(f"none of the model's labels is the file's; it has {', '.join(task.bundle.head.labels)}")
    found = task(
        (words for words, _ in items), is_split_into_words=True, aggregation_strategy="none", ignore_labels=[],
        batch_size=1,
    )  # fmt: skip
    ours = [entities(_tags(words, tokens)) for (words, _), tokens in zip(items, found, strict=True)]
    theirs = [entities(tags) for _, tags in items]
    right = sum(len(own & other) for own, other in zip(ours, theirs, strict=True))
    guessed, wanted = sum(map(len, ours)), sum(map(len, theirs))
    return {
        "F1": 200 * right / max(1, guessed + wanted),
        "precision": 100 * right / max(1, guessed),
        "recall": 100 * right / max(1, wanted),
    }


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Kind, first word and the word behind the last of each entity; an I- that continues nothing begins one."""
    found, open_since, kind = set(), 0, ""
    for place, tag in enumerate([*tags, "O"]):
        if kind and tag != f"I-{kind}":
            found.add((kind, open_since, place))
            kind = ""
        if tag != "O" and not kind:
            open_since, kind = place, tag[2:]
    return found


def call(_: Any, item: Sentence) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [" ".join(item[0])], {"aggregation_strategy": "simple"}


def _tags(words: Sequence[str], tokens: Sequence[Any]) -> list[str]:
    """Tags of words, from tokens whose `start` counts in the words with spaces between; a word without a token is none."""
    begins = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))[:-1]
    tags = [""] * len(words)
    for token in tokens:
        word = bisect.bisect_right(begins, token["start"]) - 1
        tags[word] = tags[word] or token["entity"]
    return [tag or "O" for tag in tags]
