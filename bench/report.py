"""A result of `run.py` as a Markdown page and a plot. Knows the JSON and nothing else: no engine, workload or machine.

Markdown needs the standard library only; the plot needs matplotlib, and is left out where there is none.

    python bench/report.py bench/results/NAME.json      writes NAME.md and NAME.png beside it
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import machine

OURS = "edgenlp"  # drawn in colour


def number(value: float) -> str:
    """Return about three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def row(cells: list[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table(heading: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table, numbers to the right."""
    return [row(heading), row(["---", *["---:"] * (len(heading) - 1)]), *map(row, rows)]


def timed(result: dict) -> list[dict]:
    """Return the engines that finished."""
    return [entry for entry in result["engines"] if "failed" not in entry]


def fastest(result: dict, case: str, measure: str) -> float:
    """Return the slowest round of the engine with the best right median: whoever has a round below it ties."""
    right = [entry["cases"][case][measure] for entry in timed(result) if not entry["wrong"]]
    return min(right, key=lambda value: value["median"])["high"] if right else 0.0


def times(result: dict, measure: str) -> list[str]:
    """Return the main table: a row per engine, a column per case, then the machine's limits."""
    cases = list(result["cases"])
    ties = {case: fastest(result, case, measure) for case in cases}
    rows = []
    for entry in timed(result):
        cells = [entry["label"] + " (wrong)" * entry["wrong"]]
        for case in cases:
            value = entry["cases"][case][measure]
            median = number(value["median"])
            best = value["low"] <= ties[case] and not entry["wrong"]
            cells.append(f"{f'**{median}**' if best else median} ({number(value['low'])}–{number(value['high'])})")
        rows.append(cells)
    for bound in next(iter(result["bounds"].values()), {}).get(measure, {}):
        rows.append([f"*limit, {bound}*", *(number(result["bounds"][case][measure][bound]) for case in cases)])
    return table(["", *cases], rows)


def shares(result: dict, measure: str) -> list[str]:
    """Return every engine's share of the machine's limit: the first bound, which allows the shortest times."""
    bound = next(iter(next(iter(result["bounds"].values()))[measure]))
    rows = []
    for entry in timed(result):
        each = [
            (result["bounds"][case][measure][bound], entry["cases"][case][measure]["median"])
            for case in result["cases"]
        ]
        rows.append([entry["label"], *(f"{100 * least / median:.0f}%" for least, median in each)])
    return table([f"share of the {bound} limit", *result["cases"]], rows)


def facts(result: dict) -> list[str]:
    """Return the table of what is not speed: checks, load, memory, disk."""
    heading = ["", *result["checks"].values(), "load, ms", "peak memory, MiB", "on disk, MB", "prepared in, s"]
    rows = []
    for entry in timed(result):
        peak = number(entry["peak_mb"]["median"]) if entry["peak_mb"] else "?"
        checks = [f"{entry['checks'][name]:.3g}" for name in result["checks"]]
        rest = [number(entry["load_ms"]["median"]), peak, number(entry["disk_mb"]), number(entry["prepare_s"])]
        rows.append([entry["label"], *checks, *rest])
    return table(heading, rows)


def markdown(result: dict) -> str:
    """Return the whole page, without the plot."""
    settings = result["settings"]
    lines = [f"# {result['workload']}: {result['checkpoint']['name']}", ""]
    lines += [f"{machine.sentence(result['machine'])}.", ""]
    lines += [
        f"Threads: {settings['threads']}. Rounds: {settings['rounds']}, engines taking turns, each in a process of its "
        f"own that warms up ({settings['warmup']} calls per case), then times at least {settings['calls']} calls and "
        f"{settings['seconds']:g} s per case. Taken {result['taken']}, revision {result['revision'] or 'unknown'}.",
        "",
    ]
    if result["machine"].get("load_before", 0) > 0.3:
        lines += [f"**The machine was busy before the run (load {result['machine']['load_before']}).**", ""]
    for measure, meaning in result["measures"].items():
        lines += [
            f"{meaning}: median of the rounds (lowest–highest). Bold: the fastest, and all whose range meets its.",
            "",
        ]
        lines += [*times(result, measure), ""]
        if result["bounds"] and timed(result):
            lines += [*shares(result, measure), ""]
    lines += [*facts(result), ""]
    lines += [f"* {case}: {meaning}" for case, meaning in result["cases"].items()]
    lines += ["* load: imports and opening the model, files in the page cache; peak memory: of the whole process"]
    lines += [f"* {text}" for text in result["explained"]]
    for entry in result["engines"]:
        if "failed" in entry:
            lines += [f"* **{entry['label']}** failed: {entry['failed'].splitlines()[-1]}"]
            continue
        versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
        options = ", ".join(f"{key}={value}" for key, value in entry["options"].items())
        lines += [f"* **{entry['label']}** ({options}): {entry['note']}. {versions}."]
    return "\n".join(lines) + "\n"


def plot(result: dict, measure: str, file: Path) -> None:
    """Draw one panel per case: a bar per engine, a whisker over its rounds, a line at the machine's limit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries, cases = timed(result), list(result["cases"])
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(
        figsize=(max(8.4, 4.2 * columns), 0.9 + rows * (1.0 + 0.34 * len(entries))), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for panel in list(panels)[len(cases) :]:
        panel.set_visible(False)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # keeps the limit's line out of the numbers
    for panel, case in zip(figure.axes, cases, strict=False):
        values = [entry["cases"][case][measure] for entry in entries]
        medians = [value["median"] for value in values]
        whiskers = [
            [value["median"] - value["low"] for value in values],
            [value["high"] - value["median"] for value in values],
        ]
        ours = [entry["label"].split(":")[0] == OURS for entry in entries]
        colours = ["#1f6f8b" if mine else "#b8c0c6" for mine in ours]
        panel.barh(range(len(entries)), medians, height=0.66, color=colours, zorder=2)
        panel.errorbar(
            medians, range(len(entries)), xerr=whiskers, fmt="none", ecolor="#30363a", elinewidth=1, capsize=2, zorder=3
        )
        right = max(value["high"] for value in values)
        for place, (entry, value) in enumerate(zip(entries, values, strict=True)):
            text = number(value["median"]) + " (wrong)" * entry["wrong"]
            panel.text(
                value["high"] + 0.02 * right, place, text, va="center", fontsize=8, color="#30363a", bbox=box, zorder=5
            )
        for bound, least in list(result["bounds"].get(case, {}).get(measure, {}).items())[:1]:
            panel.axvline(
                least, color="#c0392b", linestyle="--", linewidth=1, zorder=4, label=f"machine's limit, {bound}"
            )
        panel.set_title(f"{case}: {result['cases'][case]}", fontsize=9, loc="left")
        panel.set_xlim(0, 1.2 * right)
        panel.tick_params(labelsize=8, length=0)
        panel.grid(axis="x", color="#e6e9eb", zorder=0)
        panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
    figure.axes[0].set_yticks(range(len(entries)), [entry["label"].replace(":", "\n") for entry in entries])
    figure.axes[0].invert_yaxis()  # shared: the first engine on top everywhere
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower right", fontsize=8, frameon=False)
    cpu, settings = result["machine"]["cpu"], result["settings"]
    figure.suptitle(
        f"{result['measures'][measure]}; median, fastest and slowest round of {settings['rounds']}\n"
        f"{result['checkpoint']['name']}\n{cpu}, threads: {settings['threads']}",
        fontsize=10, x=0.01, ha="left",
    )  # fmt: skip
    figure.savefig(file)


def write(result: dict, file: Path) -> None:
    """Write the JSON, and beside it the page and the plots; the first measure's plot has the page's name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    page = markdown(result)
    if timed(result) and importlib.util.find_spec("matplotlib"):
        for order, measure in enumerate(result["measures"]):
            picture = file.with_suffix(".png") if not order else file.with_name(f"{file.stem}-{measure}.png")
            plot(result, measure, picture)
            page += f"\n![{result['measures'][measure]}]({picture.name})\n"
    else:
        print("no plot: matplotlib is missing; `python bench/report.py FILE.json` draws it later", file=sys.stderr)
    file.with_suffix(".md").write_text(page, encoding="utf-8")


def main() -> None:
    """Write page and plots of each result named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    for file in parser.parse_args().results:
        write(json.loads(file.read_text(encoding="utf-8")), file)
        print(file.with_suffix(".md"))


if __name__ == "__main__":
    main()
