"""Which bundle a name means, and which one a task uses by default. Knows the installed package `edgenlp_models`, and no network."""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from edgenlp.errors import BundleError, InputError

__all__ = ["Default", "default_for", "defaults", "find", "installed"]

_PACKAGE = "edgenlp_models"
_FILE = "defaults.json"
_KINDS: Mapping[str, tuple[type, ...]] = {
    "model": (str, type(None)),
    "why": (str,),
    "score": (int, float),
    "metric": (str,),
    "on": (str,),
    "licence": (str,),
}


class Default(TypedDict, total=False):
    """What `edgenlp-models` states about one task; "model" and "why" are always there.

    Keys:
        model: Name of the bundle; None where no model ships for the task.
        why: Why this one, or why none.
        score: Its accuracy, measured on the bundle that ships.
        metric: What `score` is ("span F1, %").
        on: The data set it was measured on.
        licence: Of the model.
    """

    model: str | None
    why: str
    score: float
    metric: str
    on: str
    licence: str


def find(model: str | os.PathLike[str]) -> Path:
    """The folder of a bundle, from its path or from the name of one that `edgenlp-models` installed.

    Raises:
        BundleError: There is neither.
    """
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"model must be a path or a name, found {type(model).__name__}")
    if "\0" in str(model):
        raise BundleError(f"{str(model)!r} is no path; give the folder that `edgenlp export` wrote")
    folder = Path(model)
    if folder.exists():
        return folder
    names = installed()
    if str(model) in names:
        return names[str(model)]
    known = (
        f"installed are {', '.join(sorted(names))}"
        if names
        else "none is installed by name: pip install edgenlp-models"
    )
    raise BundleError(f"there is no folder {str(model)!r}, and no installed model of that name ({known})")


def default_for(task: str) -> Path:
    """The folder of the bundle that `task` uses when none is named.

    Raises:
        BundleError: No installed model serves the task; the message says why, and what to do.
    """
    row = defaults().get(task)
    if row is not None and row["model"] is not None:
        folder = installed().get(row["model"])
        if folder is None:
            raise BundleError(
                f"the default model of {task}, {row['model']}, is not among the installed ones: install edgenlp-models anew"
            )
        return folder
    if row is not None:
        why = row["why"]
    else:
        why = "edgenlp-models holds none" if _package_folder() else "pip install edgenlp-models brings some"
    raise BundleError(
        f"{task} has no default model ({why}); name one with model= or --model, a folder that `edgenlp export CHECKPOINT FOLDER` wrote"
    )


def defaults() -> Mapping[str, Default]:
    """Task to its default, as `edgenlp-models` states it; empty where that is not installed.

    Raises:
        BundleError: What it states cannot be read; keys that this version does not know are passed over.
    """
    folder = _package_folder()
    if folder is None:
        return {}
    try:
        rows = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {folder / _FILE} ({error}); install edgenlp-models anew") from error
    if not isinstance(rows, dict):
        raise BundleError(f"{folder / _FILE} must hold an object, task to default; install edgenlp-models anew")
    return {task: _checked(folder / _FILE, task, row) for task, row in rows.items()}


def installed() -> dict[str, Path]:
    """Name to folder of every bundle that `edgenlp-models` installed."""
    folder = _package_folder()
    return {path.parent.name: path.parent for path in folder.glob("*/edgenlp.json")} if folder else {}


def _checked(file: Path, task: str, row: Any) -> Default:
    if not isinstance(row, dict):
        raise BundleError(f"{file}: {task} must be an object, found {type(row).__name__}; install edgenlp-models anew")
    for key, kinds in _KINDS.items():
        if key in ("model", "why") and key not in row:
            raise BundleError(f'{file}: {task} lacks "{key}"; install edgenlp-models anew')
        if key in row and (not isinstance(row[key], kinds) or isinstance(row[key], bool)):
            raise BundleError(f'{file}: "{key}" of {task} cannot be {row[key]!r}; install edgenlp-models anew')
    return cast(Default, row)


def _package_folder() -> Path | None:
    try:
        package = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError:
        return None
    return Path(str(package.__file__)).parent
