"""Which bundle a name means, and which one a task uses by default. Knows the installed package `edgenlp_models`, and no network."""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgenlp.errors import BundleError, InputError

__all__ = ["default_for", "defaults", "find"]

_PACKAGE = "edgenlp_models"


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
    names = _installed()
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
        BundleError: No installed model serves the task.
    """
    rows = defaults()
    if task not in rows:
        why = "edgenlp-models holds none yet" if _package_folder() else "pip install edgenlp-models brings some"
        raise BundleError(f"{task} has no default model ({why}); name one: pipeline({task!r}, model=FOLDER)")
    return _installed()[rows[task]["model"]]


def defaults() -> Mapping[str, Mapping[str, Any]]:
    """Task to its default: `{"model": name, "why": reason}`, as `edgenlp-models` states it; empty where that is not installed."""
    folder = _package_folder()
    if folder is None:
        return {}
    rows: Mapping[str, Mapping[str, Any]] = json.loads((folder / "defaults.json").read_text(encoding="utf-8"))
    return rows


def _installed() -> dict[str, Path]:
    folder = _package_folder()
    return {path.parent.name: path.parent for path in folder.glob("*/edgenlp.json")} if folder else {}


def _package_folder() -> Path | None:
    try:
        package = importlib.import_module(_PACKAGE)
    except ModuleNotFoundError:
        return None
    return Path(str(package.__file__)).parent
