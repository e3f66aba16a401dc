"""Figures as tables of Markdown, and where they are kept. Knows results, and no way to find them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rows import Row
from scores import SCORES

__all__ = ["PRECISIONS", "complaints", "kept_scores", "replaced", "tables"]

PRECISIONS = ("fp32", "int8", "int4", "shipped")
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


def tables(results: Mapping[str, Any], rows: Mapping[str, Row]) -> str:
    """What was measured, and what each model was made from.

    Args:
        results: Name to result, as `__main__` writes them.
        rows: The list of models; results of others are left out.
    """
    measured = [
        ["task", "model", "parameters", "MB", "measured on", *PRECISIONS[:3], "**shipped**", "ms a call", "cold start, ms"]
    ]  # fmt: skip
    made = [["model", "licence", "data", "made by", "on", "in"]]
    for row in rows.values():
        if row.name not in results:
            continue
        measured += _lines(row, results[row.name])
        made.append(
            [
                f"**{row.name}**" if row.ships else row.name,
                row.licence,
                row.data,
                f"`{row.recipe}`",
                row.hardware,
                row.time,
            ]
        )
    return f"{_markdown(measured, right={2, 3, 9, 10})}\n\n{_markdown(made)}"


def complaints(results: Mapping[str, Any], rows: Mapping[str, Row]) -> list[str]:
    """What quantization costs too much of, a line each."""
    found = []
    for row in rows.values():
        for name in row.scores if row.ships and row.name in results else ():
            exact, shipped = (
                _first(results[row.name]["precisions"][key]["scores"][name]) for key in ("fp32", "shipped")
            )
            score = SCORES[name]
            if (lost := score.lost(exact, shipped)) > score.most:
                unit = "%" if score.lower_is_better else "points"
                found.append(f"{row.name}: {score.on}: the shipped bundle is {lost:.2f} {unit} worse than fp32")
    return found


def replaced(page: str, text: str) -> str:
    """The page with `text` between the two markers.

    Raises:
        ValueError: It does not have them.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page must hold the lines {_BEGIN} and {_END}; the tables go between them")
    return f"{before}{begin}\n{text}\n{end}{after}"


def kept_scores(defaults: dict[str, Any], results: Mapping[str, Any], rows: Mapping[str, Row]) -> dict[str, Any]:
    """`defaults.json` with the measured scores of the models that it names."""
    for default in defaults.values():
        name = default.get("model")
        if name in results and name in rows:
            score = SCORES[rows[name].scores[0]]
            value = _first(results[name]["precisions"]["shipped"]["scores"][rows[name].scores[0]])
            default |= {"score": round(value, 2), "metric": score.metric, "on": score.on}
            default["licence"] = rows[name].licence
    return defaults


def _lines(row: Row, result: Mapping[str, Any]) -> list[list[str]]:
    shipped = result["precisions"]["shipped"]
    name = f"**{row.name}**" if row.ships else row.name
    about = [
        row.task if row.of is None else "",
        name,
        f"{result['parameters'] / 1e6:.1f} M",
        f"{shipped['mb']:.1f}",
    ]
    times = [f"{shipped['ms']:.1f}", str(shipped["cold_ms"])] if "ms" in shipped else ["", ""]
    lines = []
    for place, key in enumerate(row.scores):
        figures = [result["precisions"][precision]["scores"][key] for precision in PRECISIONS]
        others = list(figures[0])[1:]
        metric = " / ".join([SCORES[key].metric, *others])
        cells = [_cell(values) for values in figures]
        cells[-1] = f"**{cells[-1]}**"
        lines.append(
            [
                *(about if not place else [""] * 4),
                f"{SCORES[key].on}: {metric}",
                *cells,
                *(times if not place else ["", ""]),
            ]
        )
    return lines


def _cell(figures: Mapping[str, float]) -> str:
    return " / ".join(f"{value:.2f}" for value in figures.values())


def _first(figures: Mapping[str, float]) -> float:
    return next(iter(figures.values()))


def _markdown(lines: Sequence[Sequence[str]], right: frozenset[int] | set[int] = frozenset()) -> str:
    rule = ["---:" if place in right else "---" for place in range(len(lines[0]))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [lines[0], rule, *lines[1:]])
