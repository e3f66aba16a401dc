"""Record what the pipelines of transformers 4.57.6 answer to the calls of task_calls.py, or how they fail.

Run by hand: python tests/record_tasks.py [TASK ...]. Needs torch and transformers.
"""

import itertools
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from checkpoints import write_checkpoint
from goldens import GOLDENS, Json
from task_calls import calls

_DIGITS = 7
_CLOSE = 2e-5  # scores nearer than this, relatively, may come in either order


def plain(value: Any) -> Any:
    """`value` as JSON, floats to seven digits."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{float(value):.{_DIGITS}g}")
    return int(value) if isinstance(value, np.integer) else value


def ties(value: Any) -> bool:
    """Whether neighbouring answers have almost the same score."""
    if isinstance(value, Mapping):
        scores = value.get("scores", [])
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "score" in item for item in value):
        scores = [item["score"] for item in value] if "index" not in value[0] else []
    else:
        return isinstance(value, list) and any(map(ties, value))
    return any(abs(a - b) <= _CLOSE * abs(a) for a, b in itertools.pairwise(scores) if a != b)


def answer(task: str, folder: Path, call: Json) -> Json:
    """{"result"} or {"error"}."""
    try:
        options = {"attn_implementation": "eager"}
        pipe = transformers.pipeline(task, model=str(folder), device="cpu", model_kwargs=options, **call["init"])
        return {"result": plain(pipe(*json.loads(json.dumps(call["args"])), **json.loads(json.dumps(call["kwargs"]))))}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # whatever it raises is the answer; a panic of tokenizers is no Exception
        return {"error": f"{type(error).__name__}: {str(error)[:120]}"}


def record(task: str, found: list[Json], root: Path) -> None:
    cases = []
    for call in found:
        folder = root / f"{abs(hash(json.dumps(call['checkpoint'])))}"
        if not folder.exists():
            write_checkpoint(folder, **call["checkpoint"])
        given = answer(task, folder, call)
        if "error" in given:
            print(task, call["init"], str(call["args"])[:80], str(call["kwargs"])[:150], given["error"])
        if "result" in given and ties(given["result"]):
            print("TIE", task, call)
        cases.append({**call, "task": task, **given})
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    head = json.dumps(versions)
    (GOLDENS / "tasks" / f"{task}.json").write_text(f'{{"versions":{head},"cases":[\n{lines}\n]}}\n', "utf-8")
    print(task, len(cases), sum("error" in case for case in cases))


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    (GOLDENS / "tasks").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        for task, found in calls().items():
            if task in sys.argv[1:] or len(sys.argv) == 1:
                record(task, found, Path(root))


if __name__ == "__main__":
    main()
