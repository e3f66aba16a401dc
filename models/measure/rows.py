"""The list of models, `models/models.json`, read and checked. Knows what a row must say, and measures nothing."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["Row", "read_rows"]


@dataclass(frozen=True)
class Row:
    """A model.

    Attributes:
        name: The bundle's name.
        task: Pipeline that it is for.
        checkpoint: Folder's name in the recipes' output.
        scores: Names of `scores.SCORES`; the first is the one that stands beside the model everywhere.
        export: Arguments of `edgenlp_export.export` that make the bundle which ships ("precision", "keep", ...).
        licence: Of the model.
        data: What it learned from, with licences.
        recipe: File that makes it.
        hardware: That it was made on.
        time: That making it took.
        of: Name of the teacher, where this is a smaller variant of another row.
        ships: Whether `--ship` writes it.
    """

    name: str
    task: str
    checkpoint: str
    scores: tuple[str, ...]
    export: dict[str, Any]
    licence: str
    data: str
    recipe: str
    hardware: str
    time: str
    of: str | None = None
    ships: bool = True


_TEXTS = ("task", "checkpoint", "licence", "data", "recipe", "hardware", "time")


def read_rows(path: Path, known: tuple[str, ...]) -> dict[str, Row]:
    """Name to row, variants right behind what they are of.

    Args:
        path: A JSON object, name to row.
        known: Names of scores.

    Raises:
        ValueError: The file cannot be read as that; the row and what is wrong with it are named.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} must hold an object, name to row, with one row at least")
    rows = {name: _row(path, name, values, known) for name, values in found.items()}
    for row in rows.values():
        if row.of is not None and (row.of not in rows or rows[row.of].of is not None):
            raise ValueError(f"{path}: {row.name} is of {row.of!r}, which must be a row that is of no other")
    firsts = [row for row in rows.values() if row.of is None]
    return {row.name: row for first in firsts for row in [first, *(r for r in rows.values() if r.of == first.name)]}


def _row(path: Path, name: str, values: Any, known: tuple[str, ...]) -> Row:
    def wrong(text: str) -> ValueError:
        return ValueError(f"{path}: {name}: {text}")

    if not isinstance(values, dict):
        raise wrong("a row must be an object")
    names = {field.name for field in fields(Row)} - {"name"}
    if unknown := sorted(set(values) - names):
        raise wrong(f"{', '.join(unknown)} is no key; there are {', '.join(sorted(names))}")
    if missing := sorted(names - {"of", "ships"} - set(values)):
        raise wrong(f"{', '.join(missing)} missing")
    if texts := [key for key in _TEXTS if not isinstance(values[key], str) or not values[key]]:
        raise wrong(f"{', '.join(texts)} must be text")
    scores = values["scores"]
    if not isinstance(scores, list) or not scores or any(score not in known for score in scores):
        raise wrong(f"scores must be a list of some of {', '.join(known)}; found {scores!r}")
    if not isinstance(values["export"], dict) or "precision" not in values["export"]:
        raise wrong('export must be an object of export\'s arguments, with a "precision" at least')
    return Row(name=name, **{**values, "scores": tuple(scores)})
