"""Compares what cleans and fuses traced graphs, on several architectures. Knows no tool, no engine and no graph from inside.

edgenlp traces the architectures that it writes no graph for, cleans the trace with a few passes of its own, and writes it anew with
merged products and the precision asked for. Others clean and fuse graphs, too. What a tool is worth is what it still changes after
onnxruntime has optimized the graph for itself, as it does whenever it loads one. So, per architecture (`cleaners_models.py`):

    raw           the trace as optimum-onnx leaves it
    clean         after edgenlp's passes
    ours          and written as a bundle's graph, in float32
    TOOL+ours     the tool between cleaning and writing, where a pass of the export would be
    ours+TOOL     the tool on the graph that was written

and of each (`cleaning.py`): nodes in the file, nodes that are left when onnxruntime has optimized it, bytes, the greatest difference
from the raw trace's answers, and, where the writer still has to hold it in 8 bits, how many int8 products and float ones come of it.
What fails is told. This file runs every step in a process of its own, takes times if asked to, and writes tables and result.

Needs torch and `edgenlp[trace]` in one environment with onnxslim, colorama (which onnxslim does not declare), onnxscript and sympy;
onnxruntime brings its optimizer.

    python bench/cleaners.py                                         compare; nothing is timed
    python bench/cleaners.py --times --cache FOLDER                  and take times; minutes where the cache holds the graphs
    python bench/cleaners.py --models convbert,gptj --tools ort,slim
"""

import argparse
import collections
import datetime
import importlib.metadata
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cleaning
import machine
import report
import run
from cleaners_models import MODELS, make, timed_feed

WARMUP, SECONDS, CALLS = 5, 0.3, 15  # of a timed process; the last two at least
HEADING = [
    "variant",
    "nodes",
    "optimized",
    "in int8",
    "products (float)",
    "MB",
    "difference",
    "ragged",
    "ms",
    "int8 ms",
]


# In a worker's process


def work(action: str, model: str, place: Path, *rest: str) -> dict:
    """Do what a worker is told."""
    if action == "make":
        make(model, place)
        return {}
    if action == "build":
        return cleaning.build(model, place, *rest)
    return take(model, place, int(rest[0]))


def take(model: str, path: Path, threads: int) -> dict:
    """Return the median milliseconds of a call."""
    from edgenlp.session import Session

    session = Session(path, threads=threads, spinning="running")
    feed = timed_feed(session.inputs, model)
    values: list[float] = []
    for _ in range(WARMUP):
        session.run(feed)
    end = time.perf_counter() + SECONDS
    while len(values) < CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(feed)
        values.append(time.perf_counter() - start)
    return {"ms": round(statistics.median(values) * 1e3, 4)}


# The comparison


def worker(threads: int, *words: str) -> dict:
    """Run one action of this file in a process of its own; what fails is told as such."""
    try:
        return run.start([sys.executable, str(Path(__file__).resolve()), "--worker", *words], threads, 600)
    except run.Failed as error:
        return {"failed": str(error).splitlines()[-1][:300]}


def compare(model: str, folder: Path, tools: list[str]) -> dict[str, dict]:
    """Return what is told of every variant of a model's graph."""
    if not (folder / "traced" / "model.onnx").exists():
        run.say(f"trace {model}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if failed := worker(1, "make", model, str(folder)).get("failed"):
            return {"raw": {"failed": failed}}
    variants: dict[str, dict] = {}
    for tool in ("", *tools):
        run.say(f"{model}: {tool or 'ours'}")
        record = folder / f"{tool or 'ours'}.json"
        found = json.loads(record.read_text()) if record.exists() else worker(1, "build", model, str(folder), tool)
        record.write_text(json.dumps(found))
        names = (f"{tool}+ours", f"ours+{tool}") if tool else ("ours",)
        variants |= dict.fromkeys(names, found) if "failed" in found else found
    return variants


def time_all(results: dict[str, dict], cache: Path, threads: int, rounds: int) -> None:
    """Take times in turns; of graphs of which onnxruntime makes the same operators one is timed, for all of them."""
    for model, variants in results.items():
        alike: dict[tuple, list[tuple[Path, dict]]] = collections.defaultdict(list)
        for name, told in variants.items():
            path = cache / model / f"{name}.onnx"
            small = cleaning.small_of(path)
            for precision, file, facts in (("fp32", path, told), ("int8", small, told.get("int8", {}))):
                if "operators" in facts:
                    alike[precision, *sorted(facts["operators"].items())].append((file, facts))
        timed = list(alike.values())
        values: list[list[float]] = [[] for _ in timed]
        run.say(f"time {model}: {', '.join(group[0][0].stem for group in timed)}")
        for number in range(rounds):
            for place in range(len(timed)):
                chosen = (place + number) % len(timed)
                found = worker(threads, "time", model, str(timed[chosen][0][0]), str(threads))
                values[chosen] += [found["ms"]] if "ms" in found else []
        for group, each in zip(timed, values, strict=True):
            for _, facts in group:
                facts |= {"ms": run.spread(each), "timed": group[0][0].stem} if each else {}


# The result


def cells(name: str, told: dict) -> list[str]:
    """Return a variant's row of the table."""
    if "failed" in told:
        return [name, f"failed: {told['failed']}", *[""] * (len(HEADING) - 2)]
    small = told.get("int8", {})
    times = [facts.get("ms") for facts in (told, small)]
    return [
        name,
        str(told["nodes"]),
        str(told["optimized"]),
        str(small.get("optimized", "")),
        f"{small['products']} ({small['float matrices']})" if small else "",
        f"{told['bytes'] / 1e6:.2f}",
        *(f"{told['difference'][group]:.1e}" for group in ("alone", "ragged")),
        *(f"{ms['median']:.3f} ({ms['low']:.3f} to {ms['high']:.3f})" if ms else "" for ms in times),
    ]


def markdown(result: dict) -> str:
    """Return the tables."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = [f"# Traced graphs, cleaned: {result['taken'][:10]}", "", versions, ""]
    for model, variants in result["models"].items():
        rows = [cells(name, told) for name, told in variants.items()]
        lines += [f"## {model}", "", *report.table(HEADING, rows), ""]
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Return what the command line asks for; raise on a model or tool that is not known."""
    tools = cleaning.TOOLS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated; all if left out")
    parser.add_argument("--tools", default=cleaning.DEFAULT, help=f"of {', '.join(tools)} (default {cleaning.DEFAULT})")
    parser.add_argument("--times", action="store_true", help="take times, too")
    parser.add_argument("--threads", type=int, default=2, help="of a timed process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--cache", type=Path, help="folder of the graphs; what is there is not made again, so empty it after a change"
    )
    parser.add_argument("--out", type=Path, default=run.BENCH / "results", help="folder of the results")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    job = parser.parse_args()
    job.models, job.tools = job.models.split(","), list(filter(None, job.tools.split(",")))
    if unknown := [name for name in job.models if name not in MODELS] + [
        name for name in job.tools if name not in tools
    ]:
        raise SystemExit(f"no {', '.join(unknown)}; there are {', '.join(MODELS)} and {', '.join(tools)}")
    return job


def main() -> int:
    """Compare, and time where asked to."""
    job = arguments()
    if job.worker:
        with os.fdopen(os.dup(1), "w") as stdout:
            os.dup2(2, 1)  # whatever a tool prints
            action, model, place, *rest = job.worker
            print(json.dumps(work(action, model, Path(place), *rest), separators=(",", ":")), file=stdout)
        return 0
    facts = machine.describe()
    versions = {name: importlib.metadata.version(name) for name in cleaning.PACKAGES}
    with tempfile.TemporaryDirectory() as temporary:
        cache = (job.cache or Path(temporary)).resolve()
        results = {model: compare(model, cache / model, job.tools) for model in job.models}
        if job.times:
            time_all(results, cache, job.threads, job.rounds)
    result = {
        "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": run.revision(),
        "machine": facts,
        "versions": versions,
        "settings": {"threads": job.threads, "rounds": job.rounds, "timed": job.times},
        "models": results,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)|cpu|processor|@.*", "", facts["cpu"].lower())).strip("-")
    job.out.mkdir(parents=True, exist_ok=True)
    file = job.out / f"{result['taken'][:10]}-cleaners-{slug}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
