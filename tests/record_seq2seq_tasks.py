"""Record what the pipelines of transformers 4.57.6 answer to the calls of seq2seq_task_cases.py, or how they fail.

Run by hand: python tests/record_seq2seq_tasks.py. Needs torch, transformers and sentencepiece.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from seq2seq_checkpoints import write_seq2seq
from seq2seq_task_cases import ANSWERS, CALLS, MODELS

Json = dict[str, Any]


def plain(value: Any) -> Any:
    """`value` as JSON: tensors as lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def answer(folder: Path, call: Json) -> Json:
    """{"result"} or {"error"}."""
    copied = json.loads(json.dumps(call))
    try:
        options = {"attn_implementation": "eager"}
        pipe = transformers.pipeline(
            copied["task"], model=str(folder), device="cpu", model_kwargs=options, **copied["init"]
        )
        return {"result": plain(pipe(copied["inputs"], **copied["options"]))}
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it raises is the answer
        return {"error": f"{type(error).__name__}: {str(error)[:160]}"}


def main() -> None:
    """Record every call."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    found = []
    with tempfile.TemporaryDirectory() as place:
        for name, arguments in MODELS.items():
            write_seq2seq(Path(place, name), **arguments)
        for number, call in enumerate(CALLS):
            found.append(answer(Path(place, call["model"]), call))
            print(number, call["model"], json.dumps(found[-1], ensure_ascii=False)[:200])
    lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
    ANSWERS.write_text(
        f'{{"transformers": "{transformers.__version__}", "answers": [\n{lines}\n]}}\n', encoding="utf-8"
    )


if __name__ == "__main__":
    main()
