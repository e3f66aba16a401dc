"""Record what transformers 4.57.6 computes on the checkpoints of modernbert_checkpoints.py: eager, float32, one window at a time.

Run by hand: python tests/record_modernbert.py. Needs torch and transformers.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from goldens import GOLDENS, Json
from modernbert_checkpoints import CALLS, CASES, kept, rows_of, windows_of, write_modernbert
from record_tasks import plain
from recording import CLASSES, VERSIONS, loaded, outputs, record
from safetensors.torch import load_file
from torch import nn


def load(folder: Path, case: Json) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over but a third layer that the config drops."""
    write_modernbert(folder, **case)
    stored = case.get("stored_layers")
    if case.get("ffn_widths") or case.get("heads") or stored in ([0, 2], [1, 2, 3]):
        return by_hand(folder, case)
    return loaded(folder, case, dropped="layers.2." if stored else None, attn_implementation="eager")


def by_hand(folder: Path, case: Json) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width or heads, or some of its layers only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    model = CLASSES[case["head"]].from_config(config, attn_implementation="eager")
    body = getattr(model, "model", model)
    if stored := case.get("stored_layers"):
        body.layers = nn.ModuleList(body.layers[number] for number in stored)
        for place, number in enumerate(stored):
            weights = {key.replace(f"layers.{number}.", f"layers.{place}."): value for key, value in weights.items()}
    hidden, size = config.hidden_size, config.hidden_size // config.num_attention_heads
    for number, width in enumerate(case.get("ffn_widths", ())):
        part = body.layers[number].mlp
        part.Wi, part.Wo = nn.Linear(hidden, 2 * width, bias=False), nn.Linear(width, hidden, bias=False)
    for number, heads in enumerate(case.get("heads", ())):
        part = body.layers[number].attn
        part.num_heads, part.all_head_size = heads, heads * size
        part.Wqkv = nn.Linear(hidden, 3 * heads * size, bias=False)
        part.Wo = nn.Linear(heads * size, hidden, bias=False)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def outputs_of(model: nn.Module, name: str) -> np.ndarray:
    """What is kept of a case's outputs."""
    return kept(name, outputs(model, CASES[name]["head"], windows_of(name), rows_of(name), typed=False))


def answer(task: str, folder: Path, args: list[Any], kwargs: Json) -> Any:
    pipe = transformers.pipeline(task, model=str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    return plain(pipe(*args, **kwargs))


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arrays = {f"{number:03}": found for number, found in enumerate(record(CASES, load, outputs_of))}
    answers = []
    for task, name, args, kwargs in CALLS:
        with tempfile.TemporaryDirectory() as place:
            answers.append(answer(task, write_modernbert(Path(place), **CASES[name]), args, kwargs))
        print(task, name, str(answers[-1])[:200])
    np.savez_compressed(GOLDENS / "modernbert.npz", **arrays)
    found = {"versions": VERSIONS, "cases": list(CASES), "answers": answers}
    (GOLDENS / "modernbert.json").write_text(json.dumps(found, ensure_ascii=False, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
