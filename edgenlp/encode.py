"""One pass of an encoder: windows to batches to rows. Knows no text and no task.

Padding is wasted work, so windows are sorted by length and cut into the runs that cost least; memory is bounded by a budget of
tokens per run, whatever comes in.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import BundleError, TooLongError
from edgenlp.session import Session

__all__ = ["Encoder", "Window", "padded", "plan"]

Rows = dict[str, NDArray[Any]]
R = TypeVar("R")

# What starting one run costs, in tokens: a run of few tokens is bound by the number of its nodes, not by arithmetic.
_RUN_COST = 24


class Window(Protocol):
    """What the encoder needs of a tokenizer's `Encoding`."""

    @property
    def ids(self) -> list[int]:
        """Token ids."""

    @property
    def type_ids(self) -> list[int]:
        """0 for the first text, 1 for the second."""


class Encoder:
    """Runs windows through an encoder graph.

    Args:
        session: The graph. Inputs it may have: `input_ids` and `token_type_ids` [batch, sequence], `lengths` [batch], and
            `rows` [rows], positions in the flattened batch whose outputs are wanted.
        window: Most tokens of one window.
        tokens: Most tokens, padding included, of one run.
    """

    def __init__(self, session: Session, *, window: int, tokens: int) -> None:
        self._session = session
        self._window = window
        self._tokens = tokens
        known = {"input_ids", "token_type_ids", "lengths", "rows"}
        if unknown := sorted(set(session.inputs) - known):
            raise BundleError(f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp")
        self._wants_rows = "rows" in session.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what each window gives."""
        return tuple(self._session.outputs)

    def __call__(
        self,
        windows: Sequence[Window],
        *,
        rows: Sequence[Sequence[int]] | None = None,
        batch_size: int | None = None,
        each: Callable[[int, Rows], R] | None = None,
    ) -> list[Any]:
        """The outputs of every window, in the order given.

        Args:
            windows: At least one token each.
            rows: Per window the positions wanted, for a graph that projects only those.
            batch_size: Most windows in one run; None for as many as the budget of tokens holds.
            each: Called with a window's number and outputs as soon as they are there; what it returns is kept instead of them, so
                that large outputs need not be.

        Returns:
            Per window a dict of arrays: [columns] of outputs per text, [length, columns] of outputs per token, [wanted, columns]
            of outputs per row; or what `each` returned.

        Raises:
            TooLongError: A window is longer than the model's.
        """
        ids = [window.ids for window in windows]
        lengths = [len(item) for item in ids]
        if (longest := max(lengths, default=0)) > self._window:
            raise TooLongError(
                f"the input is {longest} tokens long, the model takes {self._window}; shorten it, or pass"
                " long_input='truncate' or long_input='stride'"
            )
        results: list[Any] = [None] * len(windows)
        for members in plan(lengths, self._tokens, batch_size):
            batch = [ids[index] for index in members]
            types = [windows[index].type_ids for index in members] if "token_type_ids" in self._session.inputs else None
            wanted = [rows[index] for index in members] if rows is not None else None
            outputs = self._run(batch, types, wanted)
            for place, index in enumerate(members):
                own = self._own(outputs, place, lengths[index], wanted)
                results[index] = each(index, own) if each else own
        return results

    def _run(self, ids: list[list[int]], types: list[list[int]] | None, rows: list[Sequence[int]] | None) -> Rows:
        lengths = np.array([len(item) for item in ids])
        width = int(lengths.max())
        feed: Rows = {"input_ids": padded(ids, lengths, width), "lengths": lengths}
        if types is not None:
            feed["token_type_ids"] = padded(types, lengths, width)
        if self._wants_rows:
            wanted = rows if rows is not None else [range(len(item)) for item in ids]
            feed["rows"] = np.concatenate(
                [np.asarray(item, np.int64) + width * place for place, item in enumerate(wanted)]
            )
        return self._session.run(feed)

    def _own(self, outputs: Rows, place: int, length: int, rows: list[Sequence[int]] | None) -> Rows:
        """Cut one window's share out of a run's outputs, by the names of their leading dimensions."""
        own: Rows = {}
        for name, array in outputs.items():
            shape = self._session.outputs[name].shape
            if shape[0] == "rows":
                if rows is None:
                    raise BundleError(
                        "the graph gives chosen rows only, and none were chosen; name the positions wanted"
                    )
                start = sum(len(item) for item in rows[:place])
                own[name] = array[start : start + len(rows[place])]
            elif len(shape) > 1 and shape[1] == "sequence":
                own[name] = array[place, :length]
            else:
                own[name] = array[place]
        return own


def plan(lengths: Sequence[int], tokens: int, most: int | None = None) -> list[list[int]]:
    """Group inputs into runs so that the least is computed: padded tokens plus a fixed cost per run.

    Sorted by length, the best cut into consecutive runs is found exactly, by dynamic programming over where the last run begins.
    The longest come first, so that memory is claimed once.

    Args:
        lengths: Tokens of each input.
        tokens: Most tokens, padding included, of a run; an input longer than that runs alone.
        most: Most inputs in a run.

    Returns:
        Indices of the inputs of each run.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    cost = [0.0]
    begin = [0]
    for end in range(1, len(order) + 1):
        width = max(1, lengths[order[end - 1]])
        fits = max(1, min(most or end, tokens // width))
        options = range(max(0, end - fits), end)
        start = min(options, key=lambda first: cost[first] + width * (end - first))
        cost.append(cost[start] + width * (end - start) + _RUN_COST)
        begin.append(start)
    runs = []
    end = len(order)
    while end:
        runs.append(order[begin[end] : end])
        end = begin[end]
    return runs


def padded(rows: list[list[int]], lengths: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Rows of unequal length as one array [batch, width]; what fills the rest is never looked at."""
    if (lengths == width).all():
        return np.array(rows, dtype=np.int64)
    array = np.zeros((len(rows), width), np.int64)
    array[np.arange(width) < lengths[:, None]] = np.concatenate(rows)
    return array
