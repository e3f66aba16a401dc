"""Labels of tokens to entities. Knows "B-" and "I-" labels and the ways to aggregate; knows no tokenizer, no model."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "STRATEGIES",
    "Entity",
    "EntityGroup",
    "Mark",
    "Token",
    "group_marks",
    "mark_tokens",
    "mark_words",
    "merge_overlaps",
]

Floats = NDArray[np.float32]

STRATEGIES = ("none", "simple", "first", "average", "max")


class Entity(TypedDict):
    """One token, as the strategy "none" gives it; `start` and `end` are characters of the text."""

    entity: str
    score: float
    index: int
    word: str
    start: int
    end: int


class EntityGroup(TypedDict):
    """One entity of any number of tokens; `start` and `end` are characters of the text."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class Token(NamedTuple):
    """A token of the text itself, not one that the model's template adds."""

    place: int  # in its window
    piece: str  # as the vocabulary writes it
    start: int  # character of the text
    end: int
    continues: bool  # the word of the token before it


class Mark(NamedTuple):
    """A token, or the tokens of a word, with the likeliest label."""

    label: str
    score: np.float32
    tokens: Sequence[Token]


def mark_tokens(tokens: Iterable[Token], scores: Floats, labels: Sequence[str]) -> list[Mark]:
    """One mark per token.

    Args:
        tokens: In order.
        scores: Probabilities [tokens of the window, labels].
        labels: Name of each column.
    """
    best = scores.argmax(axis=-1)
    return [Mark(labels[best[token.place]], scores[token.place, best[token.place]], (token,)) for token in tokens]


def mark_words(tokens: Iterable[Token], scores: Floats, labels: Sequence[str], strategy: str) -> list[Mark]:
    """One mark per word: a token that continues belongs to the word before it.

    Args:
        tokens: In order.
        scores: Probabilities [tokens of the window, labels].
        labels: Name of each column.
        strategy: Whose scores stand for the word's: "first" its first token's, "max" those of its token that is surest
            of any label, "average" the mean over its tokens.
    """
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.continues:
            words[-1].append(token)
        else:
            words.append([token])
    marks = []
    for word in words:
        rows = scores[[token.place for token in word]]  # [tokens of the word, labels]
        if strategy == "average":
            row = rows.mean(axis=0)
        else:
            row = rows[0 if strategy == "first" else rows.max(axis=1).argmax()]
        best = int(row.argmax())
        marks.append(Mark(labels[best], row[best], word))
    return marks


def group_marks(
    marks: Iterable[Mark], ignored: frozenset[str], join: Callable[[Sequence[str]], str], *, words: bool
) -> list[EntityGroup]:
    """Entities from neighbouring marks of one label: "B-" begins a new one, all else continues (`group_entities`).

    Args:
        marks: In order.
        ignored: Names of entities to leave out.
        join: Tokens to text.
        words: Whether marks are words. Then each is joined by itself, and their texts once more, as transformers does.
    """
    groups: list[list[Mark]] = []
    for mark in marks:
        begins, tag = _tag(mark.label)
        if groups and not begins and tag == _tag(groups[-1][-1].label)[1]:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    entities = []
    for group in groups:
        name = group[0].label.split("-", 1)[-1]
        if name in ignored:
            continue
        pieces = [[token.piece for token in mark.tokens] for mark in group]
        word = join([join(own) for own in pieces] if words else [own[0] for own in pieces])
        score = float(np.mean([mark.score for mark in group]))
        start, end = group[0].tokens[0].start, group[-1].tokens[-1].end
        entities.append(EntityGroup(entity_group=name, score=score, word=word, start=start, end=end))
    return entities


def merge_overlaps(entities: Iterable[Any]) -> list[Any]:
    """Of entities that overlap, found in neighbouring windows, the longest; of equally long ones the surest.

    The rule of `aggregate_overlapping_entities`: each is compared with the one kept last, in the order of their starts.
    """
    kept: list[Any] = []
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        if not kept or not kept[-1]["start"] <= entity["start"] < kept[-1]["end"]:
            kept.append(entity)
        elif _weight(entity) > _weight(kept[-1]):
            kept[-1] = entity
    return kept


def _weight(entity: Any) -> tuple[int, float]:
    return entity["end"] - entity["start"], entity["score"]


def _tag(label: str) -> tuple[bool, str]:
    """Whether `label` begins an entity, and its name without "B-" or "I-"."""
    return label.startswith("B-"), label[2:] if label.startswith(("B-", "I-")) else label
