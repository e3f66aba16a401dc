"""Draws what `models/measure` found: accuracy against size and against time, of every model in every precision. Measures nothing.

    python models/measure DATA CHECKPOINTS
    python bench/quality.py

reads bench/results/models.json and writes models.png beside it. A pair of panels is one task; colours are a model and its smaller
variants, shapes are precisions. Up and to the left is better everywhere: axes of perplexities are turned round.
"""

import argparse
import json
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "models.json"
SHAPES = {"fp32": ("o", 34), "int8": ("s", 32), "int4": ("^", 40), "shipped": ("*", 130)}
COLOURS = ("#1f6f8b", "#d9822b", "#7a4fa3", "#4f8a3c", "#b03a48")
INK, GRID = "#30363a", "#e6e9eb"
PAIRS = 2  # tasks side by side


def groups(results: dict) -> list[list[str]]:
    """Return the names of each model that is a task's own, with those of its variants."""
    firsts = [name for name, result in results.items() if not result["of"]]
    return [[first, *(name for name, result in results.items() if result["of"] == first)] for first in firsts]


def points(result: dict, measure: str) -> dict[str, tuple[float, float]]:
    """Return precision to (megabytes or milliseconds, score), of those that have both."""
    score = next(iter(result["measured"]))
    return {
        name: (found[measure], next(iter(found["scores"][score].values())))
        for name, found in result["precisions"].items()
        if measure in found
    }


def draw(panel, results: dict, names: list[str], measure: str) -> list:
    """Draw one panel and return what names its models: (text, x, y, colour)."""
    labels = []
    for colour, name in zip(COLOURS, names, strict=False):
        found = points(results[name], measure)
        if measure == "mb":
            steps = sorted(value for precision, value in found.items() if precision != "shipped")
            panel.plot(*zip(*steps, strict=True), color=colour, linewidth=0.8, alpha=0.4, zorder=2)
        for precision, (across, up) in found.items():
            shape, size = SHAPES[precision]
            star = {"facecolor": "white", "linewidth": 1.3, "zorder": 5} if precision == "shipped" else {"zorder": 4}
            panel.scatter(across, up, marker=shape, s=size, **{"facecolor": colour, "edgecolor": colour, **star})
        if "shipped" in found:
            labels.append((name, *found["shipped"], colour))
    panel.set_xscale("log")
    panel.tick_params(labelsize=8, length=0, which="both")
    panel.grid(color=GRID, zorder=0, which="major")
    panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
    return labels


def ticks(panel) -> None:
    """Give a logarithmic axis a handful of round numbers within its range, as plain figures."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = panel.get_xlim()
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8)):
        places = [step * 10.0**power for power in range(-3, 6) for step in steps if low <= step * 10.0**power <= high]
        if len(places) >= 3:
            break
    panel.xaxis.set_major_locator(FixedLocator(places))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def widen(panel, *, lower: bool) -> None:
    """Let the upright axis span two points at least (of perplexities a twentieth), so that small differences look small."""
    low, high = sorted(panel.get_ylim())
    middle, half = (low + high) / 2, max((high - low) / 2, (0.025 * (low + high) / 2) if lower else 1.0)
    panel.set_ylim(*((middle + half, middle - half) if lower else (middle - half, middle + half)))


def write_names(figure, panel, labels: list) -> None:
    """Write each name near its star, where it covers neither a mark nor another name, and stays within the panel."""
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    frame = panel.get_window_extent(renderer)
    taken = []
    for marks in panel.collections:
        for across, up in panel.transData.transform(marks.get_offsets()):
            half = 0.5 * marks.get_sizes()[0] ** 0.5 * figure.dpi / 72 + 1
            taken.append(Bbox.from_extents(across - half, up - half, across + half, up + half))
    for name, across, up, colour in labels:
        best = None
        for radius in (9, 14, 20, 28, 38, 50, 64):
            for right, above in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
                text = panel.annotate(
                    name, (across, up), (radius * right, radius * above), textcoords="offset points", fontsize=7.5,
                    color=colour, ha={1: "left", 0: "center", -1: "right"}[right],
                    va={1: "bottom", 0: "center", -1: "top"}[above], zorder=3,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                )  # fmt: skip
                box = text.get_window_extent(renderer)
                inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
                if inside and not any(box.overlaps(other) for other in taken):
                    best = box
                    break
                text.remove()
            if best is not None:
                taken.append(best)
                break
        else:
            print(f"{name}: no room for its name", file=sys.stderr)


def plot(results: dict, file: Path) -> None:
    """Draw all tasks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tasks = groups(results)
    pairs = min(PAIRS, len(tasks))
    rows = -(-len(tasks) // pairs)
    figure = Figure(figsize=(7.2 * pairs, 1.3 + 2.75 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.12)
    panels = figure.subplots(rows, 2 * pairs, squeeze=False)
    for panel in panels.flat[2 * len(tasks) :]:
        panel.set_visible(False)
    named = []
    for place, names in enumerate(tasks):
        row, column = divmod(place, pairs)
        own = panels[row, 2 * column : 2 * column + 2]
        first = results[names[0]]
        measured = next(iter(first["measured"].values()))
        for panel, measure, words in zip(own, ("mb", "ms"), ("MB on disk", "ms a call"), strict=True):
            if not all(points(results[name], measure) for name in names):
                panel.set_visible(False)
                continue
            named.append((panel, draw(panel, results, names, measure)))
            panel.margins(0.16, 0.2)
            panel.set_xlabel(words, fontsize=8, color=INK)
            widen(panel, lower=measured["lower"])
            ticks(panel)
        own[0].set_title(f"{first['task']}: {measured['on']}", fontsize=9.5, loc="left", color=INK)
        own[0].set_ylabel(measured["metric"], fontsize=8, color=INK)
    marks = [
        Line2D([], [], linestyle="", marker=shape, markersize=size**0.5, markeredgecolor=INK,
               markerfacecolor="white" if name == "shipped" else INK, label=name)
        for name, (shape, size) in SHAPES.items()
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower left", ncols=4, fontsize=8.5, frameon=False)
    machines = sorted({result["machine"].split(";")[0].split(" (")[0] for result in results.values()})
    figure.suptitle(
        "Accuracy against size and time of a call; up and to the left is better\n" + "; ".join(machines),
        fontsize=10.5, x=0.01, ha="left", color=INK,
    )  # fmt: skip
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # names must not move what they were fitted to
    for panel, labels in named:
        write_names(figure, panel, labels)
    figure.savefig(file)


def main() -> None:
    """Draw the results named, or those of the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS, metavar="RESULT.json")
    file = parser.parse_args().results
    if not file.is_file():
        parser.exit(1, f"{file} is not there; python models/measure DATA CHECKPOINTS writes it\n")
    plot(json.loads(file.read_text(encoding="utf-8")), file.with_suffix(".png"))
    print(file.with_suffix(".png"))


if __name__ == "__main__":
    main()
