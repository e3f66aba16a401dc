"""What an encoder's head answers, in plain numpy. Knows no body, no graph and no session."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..families.parts import Head
from .blocks import Blocks, Floats

__all__ = ["Window", "answers"]


class Window(NamedTuple):
    """One text: its ids and type ids."""

    ids: list[int]
    type_ids: list[int]


def answers(
    model: Blocks, x: Floats, head: Head, windows: Sequence[Window], rows: Sequence[Sequence[int]]
) -> list[Floats]:
    """The head's part of the forward pass.

    Args:
        model: What computes layers.
        x: What the body gives, tokens of all texts side by side [tokens, width].
        head: What stands on it.
        windows: Ids and type ids of each text.
        rows: Per text the positions that a masked LM projects.

    Returns:
        Per text: [columns] of a head on the first token, [len(rows), columns] of a masked LM, else [tokens, columns].
    """
    lengths = [len(window.ids) for window in windows]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    if head.first_token:
        x, parts = x[starts], np.arange(1, len(windows))
    elif head.kind == "masked-lm":
        x = x[np.concatenate([start + np.asarray(wanted) for start, wanted in zip(starts, rows, strict=True)])]
        parts = np.cumsum([len(wanted) for wanted in rows])[:-1]
    else:
        parts = ends[:-1]
    x = model.steps(x, head.steps)
    if head.tied:
        x = x @ model.tensor(head.tied).T + (model.tensor(head.tied_bias) if head.tied_bias else np.float32(0))
    return [part[0] if head.first_token else part for part in np.split(x, parts)]
