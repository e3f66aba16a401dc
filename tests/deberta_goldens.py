"""What is kept of DeBERTa's outputs, and how the recorded answers of transformers 4.57.6 are read. Runs no model."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from deberta_checkpoints import CASES
from goldens import GOLDENS

__all__ = ["kept", "load_answers", "load_outputs"]


def kept(name: str, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """What is compared: float32 [all rows of all windows, columns]."""
    rows = np.concatenate([np.atleast_2d(output) for output in outputs]).astype(np.float32)
    head = CASES[name]["head"]
    if head == "masked_lm":
        return rows[:, ::32]
    return rows[::3, ::2] if head == "encoder" else rows


def load_outputs() -> dict[str, np.ndarray]:
    """Case to its recorded outputs."""
    names = load_answers()["cases"]
    with np.load(GOLDENS / "deberta.npz") as arrays:
        return {name: arrays[f"{number:02}"] for number, name in enumerate(names)}


def load_answers() -> dict[str, Any]:
    """Names of the cases, rows of distances and calls of pipelines."""
    found: dict[str, Any] = json.loads((GOLDENS / "deberta.json").read_text("utf-8"))
    return found
