"""Rank correlation of sentence similarity with people's judgement. Knows vectors, no model."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["call", "figures", "ranks", "read"]


def read(path: Path) -> list[tuple[str, str, float]]:
    """Sentence, sentence, score; no header."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [(left, right, float(score)) for left, right, score in csv.reader(stream)]


def figures(task: Any, items: Sequence[tuple[str, str, float]]) -> dict[str, float]:
    """Spearman's correlation times 100."""
    left, right = (
        np.stack(task.encode([item[column] for item in items], normalize=True, batch_size=1)) for column in (0, 1)
    )
    given = ranks((left * right).sum(axis=1)), ranks(np.array([score for *_, score in items]))
    return {"Spearman": 100 * float(np.corrcoef(*given)[0, 1])}


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = np.arange(len(values))
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.bincount(group, place) / counts)[group]


def call(_: Any, item: tuple[str, str, float]) -> tuple[list[Any], dict[str, Any]]:
    """One call: two sentences compared."""
    return [item[0], [item[1]]], {}
