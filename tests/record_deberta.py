"""Record what transformers 4.57.6 computes on the checkpoints of deberta_checkpoints.py, in float32, one window at a time.

Beside them the rows of distances, and answers of pipelines.
Run by hand: python tests/record_deberta.py. Needs torch, transformers and sentencepiece.
"""

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from deberta_checkpoints import CALLS, CASES, DISTANCES, rows_of, windows_of, write_deberta
from deberta_goldens import kept
from goldens import GOLDENS
from recording import CLASSES, VERSIONS, loaded, outputs, record
from safetensors.torch import load_file
from torch import nn
from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position


def load(folder: Path, case: Mapping[str, Any]) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over."""
    write_deberta(folder, **case)
    stored, widths = case.get("stored_layers"), case.get("ffn_widths")
    if not stored and not widths:
        return loaded(folder, case)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = min(config.num_hidden_layers, len(stored or widths))
    model = CLASSES[case["head"]].from_config(config)
    for layer, width in zip(model.base_model.encoder.layer, widths or (), strict=False):
        layer.intermediate.dense = nn.Linear(config.hidden_size, width)
        layer.output.dense = nn.Linear(width, config.hidden_size)
    weights = {}
    for name, value in load_file(folder / "model.safetensors").items():
        before, layer, after = name.partition(".layer.")
        number, _, rest = after.partition(".")
        if layer and stored:
            place = stored.index(int(number))
            if place >= config.num_hidden_layers:
                continue
            name = f"{before}{layer}{place}.{rest}"
        weights[name] = value
    model.load_state_dict(weights, strict=True)
    return model.eval()


def outputs_of(model: nn.Module, name: str) -> np.ndarray:
    """What is kept of a case's outputs."""
    return kept(name, outputs(model, CASES[name]["head"], windows_of(name), rows_of(name), typed=True))


def distances(buckets: int, farthest: int, length: int) -> list[int]:
    """What transformers makes of the distances from the last of `length` tokens to all."""
    tokens = torch.zeros(1, length, 1)
    found = build_relative_position(tokens, tokens, bucket_size=buckets, max_position=farthest)[0]
    if not torch.equal(found, -found.T):
        raise SystemExit("buckets are not odd")
    return found[-1].tolist()


def calls(root: Path) -> list[dict[str, Any]]:
    answered = []
    for number, (task, checkpoint, args, kwargs) in enumerate(CALLS):
        folder = write_deberta(root / str(number), **checkpoint)
        pipe = transformers.pipeline(task, model=str(folder), device="cpu")
        result = json.loads(json.dumps(pipe(*args, **kwargs), default=float))
        answered.append({"task": task, "checkpoint": checkpoint, "args": args, "kwargs": kwargs, "result": result})
        print(task, str(result)[:200])
    return answered


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    arrays = {f"{number:02}": found for number, found in enumerate(record(CASES, load, outputs_of))}
    with tempfile.TemporaryDirectory() as place:
        answered = calls(Path(place))
    np.savez_compressed(GOLDENS / "deberta.npz", **arrays)
    found = {
        "versions": VERSIONS,
        "cases": list(CASES),
        "distances": [distances(*case) for case in DISTANCES],
        "calls": answered,
    }
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    (GOLDENS / "deberta.json").write_text(
        text.replace('{"task"', '\n{"task"').replace('"distances"', '\n"distances"') + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
