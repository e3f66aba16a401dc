"""One engine in one process: prepare it, or load, warm up, check and time it once. Knows no rounds and no other engine.

`run.py` starts it with the engine's own interpreter. What engines print goes to stderr; stdout gets one line of JSON.
To try an adapter by hand:

    python bench/worker.py prepare encoder torch --checkpoint /tmp/distilbert --cache /tmp/prepared
    python bench/worker.py time encoder torch --checkpoint /tmp/distilbert --prepared PATH --threads 2
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np


def peak_memory() -> float | None:
    """Return the process's largest resident set in MiB, None where the system does not tell.

    On Linux from VmHWM: getrusage's ru_maxrss survives exec and so would count the parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return None


def settle(options: str, engine: ModuleType) -> dict[str, str]:
    """Return all of an engine's options, `KEY=VALUE:KEY=VALUE` over its defaults; raise on what it does not know."""
    chosen = {key: values[0] for key, values in engine.OPTIONS.items()}
    for pair in filter(None, options.split(":")):
        key, _, value = pair.partition("=")
        if value not in engine.OPTIONS.get(key, ()):
            known = "; ".join(f"{name}={'|'.join(values)}" for name, values in engine.OPTIONS.items())
            raise SystemExit(f"{pair!r} is no option of {engine.__name__}; it has {known}")
        chosen[key] = value
    return chosen


def versions(engine: ModuleType) -> dict[str, str]:
    """Return Python's and the engine's packages' versions, and a digest of sources that change under one version."""
    found = {"python": platform.python_version()}
    for package in engine.PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a checkout on PYTHONPATH; a package truly missing fails later
            found[package] = "not installed"
    for package in getattr(engine, "SOURCES", ()):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{sys.executable} has no package {package}")
        sources = sorted(Path(spec.origin).parent.rglob("*.py"))
        found[f"{package} source"] = digest(b"".join(file.read_bytes() for file in sources))
    return found


def digest(data: bytes) -> str:
    """Return sixteen hexadecimal digits that stand for `data`."""
    return hashlib.sha256(data).hexdigest()[:16]


def prepare(workload: str, engine: ModuleType, checkpoint: Path, cache: Path, options: dict[str, str]) -> dict:
    """Prepare the engine's model; return where it is, its size and what it cost.

    A folder made before is used again while checkpoint, versions, sources and adapter are the same, else made anew.
    """
    packages = versions(engine)
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(checkpoint.iterdir())]
    made_from = digest(json.dumps([files, packages]).encode() + Path(engine.__file__ or "").read_bytes())
    place = digest(json.dumps([workload, str(checkpoint.resolve()), options]).encode())
    folder = cache / f"{engine.__name__.removeprefix('engines.')}-{place}"
    record = folder.with_suffix(".json")
    known = json.loads(record.read_text()) if record.exists() else {}
    if known.get("made_from") != made_from:
        record.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.perf_counter()
        getattr(engine, f"prepare_{workload}")(checkpoint, folder, options)
        known = {"made_from": made_from, "prepare_s": round(time.perf_counter() - start, 2)}
        record.write_text(json.dumps(known))  # last: a folder that has a record is whole
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    told = getattr(engine, f"facts_{workload}", lambda *_: {})(folder, config, options)
    return {
        **told,
        "prepared": str(folder),
        "prepare_s": known["prepare_s"],
        "disk_mb": round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 2),
        "options": options,
        "versions": packages,
        "note": engine.NOTE,
    }


def answer(workload: ModuleType, call, inputs: dict, config: dict) -> dict[str, np.ndarray]:
    """Return what is compared with the reference's: the workload's own probe or else every case's answer."""
    if hasattr(workload, "probe"):
        return workload.probe(call, config)
    return {case: workload.measure(call, given)[0] for case, given in inputs.items()}


def time_cases(workload: ModuleType, call, inputs: dict, effort: argparse.Namespace) -> dict:
    """Warm up, then time case after case; return per case the timed values."""
    cases = {}
    for case, given in inputs.items():
        for _ in range(effort.warmup - 1):  # the checked call was the first
            workload.measure(call, given)
        values: dict[str, list[float]] = {}
        calls, end = 0, time.perf_counter() + effort.seconds
        while calls < effort.calls or time.perf_counter() < end:
            calls += 1
            for name, value in workload.measure(call, given)[1].items():
                values.setdefault(name, []).append(value)
        cases[case] = {
            name: {"median": round(statistics.median(each), 4), "min": round(min(each), 4), "calls": calls}
            for name, each in values.items()
        }
    return cases


def check(workload: ModuleType, call, inputs: dict, config: dict, reference: Path) -> dict:
    """Return how far the engine's answers are from the reference's."""
    with np.load(reference) as arrays:
        right = {case: arrays[case] for case in arrays.files}
    return workload.check(right, answer(workload, call, inputs, config))


def main() -> dict:
    """Do what the command line says and return it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("prepare", "answer", "time"))
    parser.add_argument("workload")
    parser.add_argument("engine")
    parser.add_argument("--options", default="", help="KEY=VALUE:KEY=VALUE")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="prepare: folder of prepared models")
    parser.add_argument("--prepared", type=Path, help="answer, time: the folder that prepare named")
    parser.add_argument("--reference", type=Path, help="answer: file to write; time: file to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", default="", help="time: comma-separated; all if left out")
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--calls", type=int, default=5, help="time: at least so many calls per case")
    parser.add_argument("--seconds", type=float, default=1.0, help="time: and at least so long per case")
    parser.add_argument("--tokens", type=int, default=128, help="time, decoder and seq2seq: new tokens")
    parser.add_argument(
        "--budget", type=float, default=3.0, help="time, decoder: seconds of steps that a case may take"
    )
    job = parser.parse_args()

    workload = importlib.import_module(f"workloads.{job.workload}")
    engine = importlib.import_module(f"engines.{job.engine}")
    if not hasattr(engine, f"load_{job.workload}"):
        raise SystemExit(
            f"{job.engine} takes no part in {job.workload}: engines/{job.engine}.py has no load_{job.workload}"
        )
    options = settle(job.options, engine)
    if job.action == "prepare":
        return prepare(job.workload, engine, job.checkpoint, job.cache, options)

    config = json.loads((job.checkpoint / "config.json").read_text(encoding="utf-8"))
    inputs = workload.inputs(config)
    start = time.perf_counter()
    call = getattr(engine, f"load_{job.workload}")(job.prepared, job.threads, options)
    load = time.perf_counter() - start
    if job.action == "answer":
        np.savez(job.reference, **answer(workload, call, inputs, config))
        return {"reference": str(job.reference)}
    chosen = {case: inputs[case] for case in job.cases.split(",")} if job.cases else inputs
    if hasattr(workload, "time_cases"):  # the check comes last: what it needs beside the timed model is not the model's
        cases = workload.time_cases(call, chosen, config, job, peak_memory)
        peak = peak_memory()
        checks = check(workload, call, chosen, config, job.reference)
    else:
        checks = check(workload, call, chosen, config, job.reference)  # and the first warm-up
        cases = time_cases(workload, call, chosen, job)
        peak = peak_memory()
    return {"load_ms": round(load * 1e3, 1), "peak_mb": peak, "checks": checks, "cases": cases}


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)  # whatever a library prints, or its C++ does
        print(json.dumps(main(), separators=(",", ":")), file=stdout)
