"""What one call and a cold start take, in fresh processes with the preset that users get. Knows calls as JSON, no task."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["TIMES", "timed"]

TIMES = ("ms", "cold_ms")

_PROCESSES = 3
_LEAST, _MOST, _SECONDS = 5, 50, 5.0  # calls of a process; none begins after so many seconds
# argv: the task, the bundle, a file of calls.
_PROGRAM = f"""
import json, sys, time, warnings
warnings.simplefilter("ignore")
with open(sys.argv[3], encoding="utf-8") as stream:
    calls = json.load(stream)
import edgenlp
task = edgenlp.pipeline(sys.argv[1], model=sys.argv[2])
task(*calls[0][0], **calls[0][1])
print("answered", flush=True)
begun, taken = time.perf_counter(), []
for number, (values, options) in enumerate(calls[:3] + calls[1:]):
    if len(taken) >= {_LEAST} and time.perf_counter() - begun > {_SECONDS}:
        break
    start = time.perf_counter()
    task(*values, **options)
    if number >= 3:
        taken.append(time.perf_counter() - start)
print(json.dumps(taken), flush=True)
"""


def timed(task: str, bundle: Path, calls: list[tuple[list[Any], dict[str, Any]]]) -> dict[str, float]:
    """Milliseconds of a call ("ms"), and from starting Python to its first answer ("cold_ms"); medians of three processes.

    Args:
        task: The pipeline.
        bundle: Its folder.
        calls: Arguments of calls; one after another is made and timed, after a few to warm up.

    Raises:
        ValueError: A process failed; the end of its complaint is told.
    """
    each, cold = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "calls.json"
        file.write_text(json.dumps(calls[: _MOST + 1]), encoding="utf-8")
        for _ in range(_PROCESSES):
            start = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, task, str(bundle), str(file)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as child:
                assert child.stdout is not None
                first = child.stdout.readline()
                cold.append(time.perf_counter() - start)
                rest, errors = child.communicate()
            if first != "answered\n" or child.returncode:
                raise ValueError(f"{bundle} cannot be timed: {(errors.strip().splitlines() or ['no answer'])[-1]}")
            each.append(statistics.median(json.loads(rest) or [cold[-1]]))
    return {"ms": round(1000 * statistics.median(each), 2), "cold_ms": round(1000 * statistics.median(cold))}
