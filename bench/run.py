"""Times several engines side by side on one checkpoint. Knows no engine, no workload, and how to time neither.

An engine is an adapter file in `engines/`, a workload a file in `workloads/`; `worker.py` brings the two together in a
process of their own, with an interpreter of their own where packages conflict.

Speed on a user's machine decides whether a model can run there at all, and a number alone says little: processes of the
same program differ by up to 1.3x on shared hardware, engines differ in what they skip, and a wrong answer can be quick.
So:

  * every engine gets the same checkpoint, the same inputs, the same number of threads;
  * first the machine's limits are measured (see `limits.py`): a time can be read as a share of what is possible;
  * every engine's answers are compared with fp32 PyTorch's before anything is timed;
  * engines take turns: each round starts every engine once in a fresh process, a different one first each time; a
    process warms up, then times each case for a second or more and reports its median;
  * the result is the median over the rounds, with the fastest and the slowest: gaps within that range mean nothing.

A workload may have several models (`--models`): they are compared one after the other, limits measured once.

The result is a JSON file, a Markdown table and a plot. The very last line of stdout is one compact JSON document with
all of the same data; progress goes to stderr.

    python bench/run.py encoder --engines edgenlp,torch,optimum,openvino,ctranslate2 --rounds 5 --threads 2
    python bench/run.py encoder --engines edgenlp,edgenlp:precision=fp32,openvino:hint=f32 --cases 1x16,1x128
    python bench/run.py encoder --models deberta-v3-small,modernbert-base,longformer-base --cases 1x128,8x128,1x2048
    python bench/run.py encoder --engines edgenlp,optimum --python optimum=/opt/peers/bin/python --out /tmp/trial
    python bench/run.py decoder --models gpt2,qwen2-0.5b --rounds 2
    python bench/run.py decoder --quick
    python bench/run.py seq2seq --models marian-74m --rounds 3
"""

import argparse
import datetime
import hashlib
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import checkpoints
import encoder_checkpoints
import limits
import machine
import report
import seq2seq_checkpoints

BENCH = Path(__file__).resolve().parent
SETTINGS = ("warmup", "calls", "seconds", "tokens", "budget")  # what a worker is told of how long to time
REFERENCE = "torch"  # the engine whose answers are right
SHAPES = [
    *checkpoints.SIZES,
    *encoder_checkpoints.ENCODERS,
    *checkpoints.DECODERS,
    *seq2seq_checkpoints.SEQ2SEQ,
]


class Failed(Exception):
    """A worker ended with an error; the text is the end of what it printed."""


def say(text: str) -> None:
    """Tell the person who waits, on stderr."""
    print(text, file=sys.stderr, flush=True)


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: threads pinned in every library, nothing fetched, nothing reported home."""
    pinned = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **dict.fromkeys(pinned, str(threads)), **quiet}


def start(command: list[str], threads: int, timeout: float) -> dict:
    """Run one of our scripts in a fresh process and return the JSON of its last line of stdout."""
    try:
        done = subprocess.run(
            command, env=environment(threads), capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no answer within {timeout:.0f} s") from error
    if done.returncode:
        raise Failed("\n".join(done.stderr.strip().splitlines()[-5:]) or f"exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_limits(arguments: argparse.Namespace) -> dict:
    """Measure the machine's limits in a process of its own."""
    command = [interpreter(arguments, "limits"), str(BENCH / "limits.py"), "--threads", str(arguments.threads)]
    return start(command, 1, arguments.timeout)


def interpreter(arguments: argparse.Namespace, name: str) -> str:
    """Return the interpreter for an engine, or for `limits`: its own `--python`, the common one, or this one."""
    pythons = [text.rpartition("=") for text in arguments.python]
    default = next((path for known, _, path in reversed(pythons) if not known), sys.executable)
    return {known: path for known, _, path in pythons}.get(name, default)


class Bench:
    """One comparison: which workload and checkpoint, which interpreters, how long.

    Args:
        arguments: the parsed command line.
        checkpoint: folder of the checkpoint.
        cases: the cases that are timed.
    """

    def __init__(self, arguments: argparse.Namespace, checkpoint: Path, cases: list[str]) -> None:
        self.arguments = arguments
        self.checkpoint = checkpoint
        self.cases = cases
        self.reference = arguments.cache / f"reference-{os.getpid()}.npz"

    def worker(self, action: str, label: str, *flags: str) -> dict:
        """Run one action of `worker.py` for the engine that a label names."""
        engine, _, options = label.partition(":")
        command = [
            interpreter(self.arguments, engine),
            str(BENCH / "worker.py"),
            action,
            self.arguments.workload,
            engine,
        ]
        command += ["--options", options, "--checkpoint", str(self.checkpoint)]
        command += ["--threads", str(self.arguments.threads), *flags]
        return start(command, self.arguments.threads, self.arguments.timeout)

    def prepare(self, label: str) -> dict:
        """Prepare an engine's model, or find it prepared."""
        say(f"prepare {label}")
        return self.worker("prepare", label, "--cache", str(self.arguments.cache / "prepared"))

    def answer(self) -> None:
        """Write the reference's answers, those of `REFERENCE`."""
        prepared = self.prepare(REFERENCE)["prepared"]
        self.worker("answer", REFERENCE, "--prepared", prepared, "--reference", str(self.reference))

    def time(self, label: str, prepared: str) -> dict:
        """Load, check and time an engine once."""
        effort = self.arguments
        flags = ["--prepared", prepared, "--reference", str(self.reference), "--cases", ",".join(self.cases)]
        for name in SETTINGS:
            flags += [f"--{name}", str(getattr(effort, name))]
        return self.worker("time", label, *flags)


def rounds(bench: Bench, labels: list[str]) -> list[dict]:
    """Prepare every engine, run the rounds, return one entry per engine; one that fails is left out from there on."""
    entries: dict[str, dict] = {label: {"label": label, "runs": []} for label in labels}

    def attempt(label: str, step: str, *details: str) -> dict | None:
        try:
            return getattr(bench, step)(label, *details)
        except Failed as error:
            entries[label]["failed"] = f"{step}\n{error}"
            say(f"FAILED {label}: {error}")
            return None

    for label in labels:
        entries[label].update(attempt(label, "prepare") or {})
    for number in range(bench.arguments.rounds):
        for place in range(len(labels)):
            label = labels[(place + number) % len(labels)]
            if "failed" in entries[label]:
                continue
            say(f"round {number + 1} of {bench.arguments.rounds}: {label}")
            if run := attempt(label, "time", entries[label]["prepared"]):
                entries[label]["runs"].append(run)
    return list(entries.values())


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, lowest and highest of one value per round."""
    return {"median": round(statistics.median(values), 4), "low": min(values), "high": max(values)}


def summary(entry: dict, workload: ModuleType, share: Callable[[str, dict, dict], float | None] | None) -> dict:
    """Fold an engine's rounds into one entry of the result, less its prepared folder, a path of this machine."""
    runs = entry["runs"]
    kept = {key: value for key, value in entry.items() if key not in ("runs", "prepared")}
    if "failed" in kept or not runs:
        return kept
    checks = next((run["checks"] for run in runs if workload.wrong(run["checks"])), runs[0]["checks"])
    cases: dict[str, dict[str, Any]] = {}
    for case, measures in runs[0]["cases"].items():
        cases[case] = {}
        for name in measures:
            each = [run["cases"][case][name] for run in runs]
            cases[case][name] = {
                **spread([one["median"] for one in each]),
                "min": min(one["min"] for one in each),  # the best single call
                "calls": sum(one["calls"] for one in each),
            }
    shares = {case: share(case, kept, measures) for case, measures in cases.items()} if share else None
    peaks = [run["peak_mb"] for run in runs if run["peak_mb"] is not None]
    return {
        **kept,
        "checks": checks,
        "wrong": workload.wrong(checks),
        "load_ms": spread([run["load_ms"] for run in runs]),
        "peak_mb": spread(peaks) if peaks else None,
        "cases": cases,
        **({"shares": shares} if shares else {}),
    }


def revision() -> str | None:
    """Return the commit of this checkout, with `+` where files differ from it; None outside of one."""
    git = ["git", "-C", str(BENCH)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + "+" * bool(dirty.stdout.strip())


def find_checkpoint(arguments: argparse.Namespace, model: str) -> tuple[Path, str]:
    """Return the checkpoint's folder and what to call it; a random one is written into the cache when first needed."""
    if arguments.checkpoint:
        return arguments.checkpoint, arguments.checkpoint.resolve().name
    writer, sources = checkpoints.write, (BENCH / "checkpoints.py").read_bytes()
    for module, own in ((encoder_checkpoints, "ENCODERS"), (seq2seq_checkpoints, "SEQ2SEQ")):
        if model in getattr(module, own):
            writer, sources = module.write, sources + Path(str(module.__file__)).read_bytes()
    source = hashlib.sha256(sources).hexdigest()[:8]
    folder = arguments.cache / "checkpoints" / f"{model}-{source}"
    if not folder.exists():
        say(f"write {model}")
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        writer(unfinished, model).rename(folder)
    if model not in checkpoints.SIZES:
        return folder, f"random weights, {model}'s shape"
    sizes = checkpoints.SIZES[model]
    return folder, f"random weights, DistilBERT, {sizes['n_layers']} layers of {sizes['dim']} ({model})"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgenlp-bench"
    known = [file.stem for file in sorted((BENCH / "workloads").glob("[a-z]*.py"))]
    parser.add_argument("workload", choices=known)
    parser.add_argument(
        "--engines", help="NAME[:option=value]..., comma-separated; if left out the workload's own list"
    )
    parser.add_argument("--rounds", type=int, help="5 for encoder, 3 for decoder and seq2seq if left out")
    parser.add_argument("--threads", type=int, default=machine.cores().get("physical", 1))
    parser.add_argument("--cases", default="", help="comma-separated; all if left out")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint folder, in place of random weights")
    parser.add_argument(
        "--models",
        "--size",
        help=f"shapes of the random weights: {', '.join(SHAPES)}",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[ENGINE=]PATH",
        help="interpreter of one engine (or of `limits`), or of all others; may be repeated",
    )
    parser.add_argument(
        "--cache", type=Path, default=cache, help=f"folder of checkpoints and prepared models (default {cache})"
    )
    parser.add_argument(
        "--out", type=Path, default=BENCH / "results", help="folder of the results (default bench/results)"
    )
    parser.add_argument("--name", help="file name of the results, without suffix")
    parser.add_argument("--warmup", type=int, help="untimed calls per case and process (encoder 3, others 1)")
    parser.add_argument("--calls", type=int, help="timed calls per case and process, at least (encoder 5, others 1)")
    parser.add_argument(
        "--seconds", type=float, help="timed seconds per case and process, at least (encoder, seq2seq 1)"
    )
    parser.add_argument("--tokens", type=int, help="new tokens (decoder 128, seq2seq 64)")
    parser.add_argument(
        "--budget", type=float, help="decoder: seconds of steps per case, after which a slow engine writes fewer tokens"
    )
    parser.add_argument("--quick", action="store_true", help="one round of few cases: a look, not a result")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a process is given up")
    parser.add_argument("--no-limits", action="store_true", help="do not measure the machine's limits")
    return parser.parse_args()


def bad(entry: dict) -> bool:
    """Return whether an engine failed or answered wrongly; that it does not know a model is neither."""
    failed = entry.get("failed", "")
    return bool(entry.get("wrong") or (failed and not failed.splitlines()[-1].startswith("NotImplementedError")))


def settle(arguments: argparse.Namespace, workload: ModuleType) -> None:
    """Fill in what the command line left out, from the workload's defaults, and check the names."""
    chosen = {"models": ",".join(workload.MODELS), "engines": ",".join(workload.ENGINES), "tokens": 0, "budget": 0.0}
    chosen |= {**workload.DEFAULTS, **(workload.QUICK if arguments.quick else {})}
    chosen["cases"] = chosen.get("cases", ",".join(workload.CASES))
    for key, value in chosen.items():
        if getattr(arguments, key) in (None, ""):
            setattr(arguments, key, value)
    known = {"cases": workload.CASES, "models": SHAPES}
    for key, names in known.items():
        if unknown := [name for name in getattr(arguments, key).split(",") if name not in names]:
            raise SystemExit(f"no {key} {', '.join(unknown)} in {arguments.workload}; there are {', '.join(names)}")


def compare(arguments: argparse.Namespace, workload: ModuleType, model: str, measured: dict | None) -> dict:
    """Compare the engines on one model; return everything that is known of it."""
    # 1) What is compared, and what the machine could do at best
    folder, name = find_checkpoint(arguments, model)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inputs = workload.inputs(config)
    cases = [case for case in arguments.cases.split(",") if case in inputs]  # others are longer than the model's window
    bounds = {case: workload.limits(config, inputs[case], measured) for case in cases} if measured else {}

    def share(case: str, entry: dict, measures: dict) -> float | None:
        return workload.share(config, inputs[case], measured, entry, measures)

    # 2) The rounds
    say(f"{arguments.workload}: {name}")
    bench = Bench(arguments, folder, cases)
    try:
        bench.answer()
        entries = rounds(bench, arguments.engines.split(","))
    except Failed as error:
        raise SystemExit(f"cannot begin: {error}") from error
    finally:
        bench.reference.unlink(missing_ok=True)

    # 3) The result
    share_of = share if measured and hasattr(workload, "share") else None
    settings = ("threads", "rounds", *(key for key in SETTINGS if key in workload.DEFAULTS))
    return {
        "checkpoint": {"name": name, "config": config},
        "settings": {key: getattr(arguments, key) for key in settings},
        "cases": {case: workload.CASES[case] for case in cases},
        "measures": workload.MEASURES,
        "higher": workload.HIGHER,
        "checks": workload.CHECKS,
        "explained": workload.EXPLAINED,
        **({"share": workload.SHARE} if hasattr(workload, "SHARE") else {}),
        "limits": measured,
        "bounds": bounds,
        "engines": [summary(entry, workload, share_of) for entry in entries],
    }


def main() -> int:
    """Compare; return 1 where an engine failed or gave wrong answers, else 0."""
    arguments = parse()
    workload = importlib.import_module(f"workloads.{arguments.workload}")
    settle(arguments, workload)
    facts = machine.describe()
    print(f"{machine.sentence(facts)}\n")
    if facts.get("load_before", 0) > 0.3:
        say(f"WARNING: the machine is busy (load {facts['load_before']}): these times will not be worth keeping")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    measured = None
    if not arguments.no_limits:  # before anything is measured against them
        try:
            measured = measure_limits(arguments)
        except Failed as error:
            raise SystemExit(f"cannot begin: {error}") from error
        print(f"{limits.table(measured)}\n")
    slug = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(\w+\)|cpu|processor|@.*", "", facts["cpu"].lower())).strip("-")
    head = {
        "workload": arguments.workload,
        "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "machine": facts,
    }
    file = arguments.out / f"{arguments.name or '-'.join((head['taken'][:10], arguments.workload, slug))}.json"
    models = ["given"] if arguments.checkpoint else arguments.models.split(",")
    results: list[dict] = []
    for model in models:
        results.append({**head, **compare(arguments, workload, model, measured)})
        whole = {**head, "models": results} if len(models) > 1 else results[0]
        report.write(whole, file)  # after every model: an hour's work is not lost to the last one
    print(report.markdown(whole))
    print(json.dumps(whole, separators=(",", ":")))
    return int(any(bad(entry) for result in results for entry in result["engines"]))


if __name__ == "__main__":
    sys.exit(main())
