"""Runs a script of cells as a notebook is run, here or into a notebook with its answers. Knows no task; needs no Jupyter.

    python models/course/cells.py    course.py beside it becomes course.ipynb

A cell begins with a line "# %%", or "# %% [markdown]" where it is text. What stands before the first one is left out. A notebook is
JSON of nbformat 4.5 (its schema: jupyter/nbformat).
"""

import ast
import contextlib
import io
import json
import pprint
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgenlp import EdgeNLPError

_MARK = "# %%"
_TEXT = f"{_MARK} [markdown]"
_COLUMNS = 100


@dataclass(frozen=True)
class Cell:
    """A part of the script; `text` where it is Markdown."""

    source: str
    text: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        printed: On stdout.
        warned: Messages of warnings.
        value: Of the last line, where that is an expression; else None.
        error: That edgenlp raised on purpose, or that a cell before it had ended too early for this one; the rest was not run.
    """

    printed: str = ""
    warned: Sequence[str] = field(default_factory=tuple)
    value: Any = None
    error: EdgeNLPError | NameError | None = None


def cells_of(script: str) -> list[Cell]:
    """The cells of a script."""
    found: list[tuple[bool, list[str]]] = []
    for line in script.splitlines():
        if line.rstrip() in (_MARK, _TEXT):
            found.append((line.rstrip() == _TEXT, []))
        elif found:
            text, lines = found[-1]
            lines.append(line.removeprefix("#").removeprefix(" ") if text else line)
    return [Cell("\n".join(lines).strip("\n"), text) for text, lines in found]


def run(cell: Cell, names: dict[str, Any]) -> Outcome:
    """Run a cell of code.

    Args:
        cell: The cell.
        names: Variables of the cells before it, to which its own are added.
    """
    tree = ast.parse(cell.source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = error = None
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            exec(compile(tree, "cell", "exec"), names)  # the script beside this one, not somebody's input
            if last is not None:
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        except (EdgeNLPError, NameError) as raised:
            error = raised
    return Outcome(printed.getvalue(), [str(item.message) for item in warned], value, error)


def runs(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome | None]]:
    """Run cells in order; text has no outcome."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells:
        yield cell, None if cell.text else run(cell, names)


def play(script: str | Path) -> int:
    """Show a script's cells and what they come to, one after the other."""
    for cell, outcome in runs(cells_of(Path(script).read_text(encoding="utf-8"))):
        if outcome is None:
            print("\n" + "\n\n".join(map(_wrapped, cell.source.split("\n\n"))))
            continue
        print("\n" + textwrap.indent(cell.source, "    ") + "\n")
        for message in outcome.warned:
            print(_wrapped(f"warning: {message}"))
        print(outcome.printed, end="")
        if outcome.value is not None:
            print(_shown(outcome.value))
        if outcome.error is not None:
            print(_wrapped(f"{type(outcome.error).__name__}: {outcome.error}"))
    return 0


def notebook(script: str | Path) -> dict[str, Any]:
    """A script's cells with what they came to, as the JSON of a notebook."""
    made: list[dict[str, Any]] = []
    count = 0
    for number, (cell, outcome) in enumerate(runs(cells_of(Path(script).read_text(encoding="utf-8")))):
        facts: dict[str, Any] = {
            "id": f"cell-{number}",
            "metadata": {},
            "source": cell.source.splitlines(keepends=True),
        }
        if outcome is None:
            made.append({"cell_type": "markdown", **facts})
            continue
        count += 1
        if outcome.error is not None:  # Jupyter goes on after such a cell
            facts["metadata"] = {"tags": ["raises-exception"]}
        made.append({"cell_type": "code", **facts, "execution_count": count, "outputs": _outputs(outcome, count)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _outputs(outcome: Outcome, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    told = "".join(f"warning: {message}\n" for message in outcome.warned)
    for name, text in (("stderr", told), ("stdout", outcome.printed)):
        if text:
            found.append({"output_type": "stream", "name": name, "text": text.splitlines(keepends=True)})
    if outcome.value is not None:
        text = _shown(outcome.value).splitlines(keepends=True)
        found.append(
            {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": {"text/plain": text}}
        )
    if outcome.error is not None:
        kind, said = type(outcome.error).__name__, str(outcome.error)
        found.append({"output_type": "error", "ename": kind, "evalue": said, "traceback": [f"{kind}: {said}"]})
    return found


def _shown(value: Any) -> str:
    return pprint.pformat(value, width=_COLUMNS, sort_dicts=False)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _COLUMNS, break_on_hyphens=False) or line


def main() -> None:
    """Write the notebook."""
    script = Path(__file__).with_name("course.py")
    target = script.with_suffix(".ipynb")
    target.write_text(json.dumps(notebook(script), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
