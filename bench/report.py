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


def winners(result: dict, case: str, measure: str) -> list[str]:
    """Return the engines with the best right median, or with a round that meets the worst round of that one."""
    right = {entry["label"]: entry["cases"][case][measure] for entry in timed(result) if not entry["wrong"]}
    if not right:
        return []
    if measure in result.get("higher", ()):
        least = max(right.values(), key=lambda value: value["median"])["low"]
        return [label for label, value in right.items() if value["high"] >= least]
    most = min(right.values(), key=lambda value: value["median"])["high"]
    return [label for label, value in right.items() if value["low"] <= most]


def times(result: dict, measure: str) -> list[str]:
    """Return the main table: a row per engine, a column per case, then the machine's limits."""
    cases = list(result["cases"])
    best = {case: winners(result, case, measure) for case in cases}
    rows = []
    for entry in timed(result):
        cells = [entry["label"] + " (wrong)" * entry["wrong"]]
        for case in cases:
            value = entry["cases"][case][measure]
            median = number(value["median"])
            shown = f"**{median}**" if entry["label"] in best[case] else median
            span = f" ({number(value['low'])}–{number(value['high'])})" if value["low"] < value["high"] else ""
            cells.append(shown + span)
        rows.append(cells)
    for bound in next(iter(result["bounds"].values()), {}).get(measure, {}):
        rows.append([f"*limit, {bound}*", *(number(result["bounds"][case][measure][bound]) for case in cases)])
    return table(["", *cases], rows)


def shares(result: dict, measure: str) -> list[str]:
    """Return every engine's share of the machine's limit.

    Engines that told what they read have a share of their own; else it is of the first bound, which allows the most.
    """
    if any("shares" in entry for entry in timed(result)):
        if measure != next(iter(result["measures"])):
            return []
        heading = result.get("share", "share of the bandwidth limit")
        rows = [(entry["label"], list(entry["shares"].values())) for entry in timed(result)]
    else:
        bounds = {case: result["bounds"][case].get(measure) for case in result["cases"]}
        if not all(bounds.values()):
            return []
        name = next(iter(next(iter(bounds.values()))))
        heading = f"share of the {name} limit"
        rows = [
            (entry["label"], [bounds[case][name] / entry["cases"][case][measure]["median"] for case in bounds])
            for entry in timed(result)
        ]
    percent = [[label, *("?" if value is None else f"{100 * value:.0f}%" for value in each)] for label, each in rows]
    return table([heading, *result["cases"]], percent)


def fewer(result: dict) -> list[str]:
    """Return a line that names the cases in which an engine wrote fewer tokens than asked for."""
    asked = result["settings"].get("tokens")
    found = []
    for entry in timed(result):
        told = {case: values["tokens"]["median"] for case, values in entry["cases"].items() if "tokens" in values}
        if short := [f"{case} {count:.0f}" for case, count in told.items() if count < asked]:
            found.append(f"{entry['label']} ({', '.join(short)})")
    if not found:
        return []
    budget = result["settings"]["budget"]
    return [f"* new tokens: {asked}; fewer where they would take more than {budget:g} s: {'; '.join(found)}"]


def facts(result: dict) -> list[str]:
    """Return the table of what is not speed: checks, load, memory, disk."""
    reads = any("read_mb" in entry for entry in timed(result))
    heading = ["", *result["checks"].values(), "load, ms", "peak memory, MiB", "on disk, MB", "prepared in, s"]
    heading += ["read per step, MB"] * reads
    rows = []
    for entry in timed(result):
        peak = number(entry["peak_mb"]["median"]) if entry["peak_mb"] else "?"
        checks = [f"{value:.3g}" if (value := entry["checks"][name]) is not None else "?" for name in result["checks"]]
        rest = [number(entry["load_ms"]["median"]), peak, number(entry["disk_mb"]), number(entry["prepare_s"])]
        rows.append(
            [entry["label"], *checks, *rest, *[number(entry["read_mb"]) if "read_mb" in entry else "?"] * reads]
        )
    return table(heading, rows)


def models(result: dict) -> list[dict]:
    """Return the results of the models in a document: those of several, or the document itself."""
    return result.get("models", [result])  # a list of one while the others are still to come


def section(result: dict) -> list[str]:
    """Return the tables of one model."""
    lines: list[str] = []
    for measure, meaning in result["measures"].items():
        lines += [
            f"{meaning}: median of the rounds (lowest–highest). Bold: the best, and all whose range meets its.",
            "",
        ]
        lines += [*times(result, measure), ""]
        if result["bounds"] and timed(result) and (each := shares(result, measure)):
            lines += [*each, ""]
    lines += [*facts(result), ""]
    lines += fewer(result)
    lines += [
        f"* **{entry['label']}** took no part: {entry['failed'].splitlines()[-1]}"
        for entry in result["engines"]
        if "failed" in entry
    ]
    return lines


def markdown(document: dict) -> str:
    """Return the whole page, without the plots: what was done, the tables of each model, what they mean, the engines."""
    results = models(document)
    first, settings = results[0], results[0]["settings"]
    several = "models" in document
    title = f"{len(results)} models" if several else first["checkpoint"]["name"]
    lines = [f"# {first['workload']}: {title}", ""]
    lines += [f"{machine.sentence(first['machine'])}.", ""]
    effort = f"{settings['calls']} calls and {settings['seconds']:g} s" if settings["seconds"] else "one call"
    lines += [
        f"Threads: {settings['threads']}. Rounds: {settings['rounds']}, engines taking turns, each in a process of its "
        f"own that warms up ({settings['warmup']} calls per case), then times at least {effort} per case. "
        f"Taken {first['taken']}, revision {first['revision'] or 'unknown'}.",
        "",
    ]
    if first["machine"].get("load_before", 0) > 0.3:
        lines += [f"**The machine was busy before the run (load {first['machine']['load_before']}).**", ""]
    for result in results:
        if several:
            lines += [f"## {result['checkpoint']['name']}", ""]
        lines += [*section(result), ""]
    lines += ["## How to read this", ""] if several else []
    lines += [f"* {case}: {meaning}" for case, meaning in first["cases"].items()]
    lines += ["* load: imports and opening the model, files in the page cache; peak memory: of the whole process"]
    lines += [f"* {text}" for text in first["explained"]]
    told = {entry["label"]: entry for result in results for entry in timed(result)}
    for entry in told.values():
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


def write(document: dict, file: Path) -> None:
    """Write the JSON, and beside it the page and the plots.

    One model's first measure has the plot with the page's name; with several models the name says model and measure,
    and only the first two measures are drawn.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    page = markdown(document)
    results = models(document)
    if not importlib.util.find_spec("matplotlib"):
        print("no plot: matplotlib is missing; `python bench/report.py FILE.json` draws it later", file=sys.stderr)
        results = []
    for place, result in enumerate(results):
        if not timed(result):
            continue
        for order, measure in enumerate(list(result["measures"])[:2]):
            picture = file.with_suffix(".png")
            if "models" in document:
                picture = file.with_name(f"{file.stem}-{place + 1}-{measure}.png")
            elif order:
                picture = file.with_name(f"{file.stem}-{measure}.png")
            plot(result, measure, picture)
            page += f"\n![{result['checkpoint']['name']}: {result['measures'][measure]}]({picture.name})\n"
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
