"""Record what transformers 4.57.6 computes on the checkpoints of longformer_checkpoints.py: eager, float32, one window at a time.

Run by hand: python tests/record_longformer.py. Needs torch and transformers.
"""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from goldens import GOLDENS, Json
from longformer_checkpoints import CALLS, MODELS, kept, rows_of, windows_of, write_longformer
from record_tasks import answer, ties
from recording import CLASSES, VERSIONS, loaded, outputs, record
from safetensors.torch import load_file
from torch import nn


def load(folder: Path, case: Json) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over but a third layer that the config drops."""
    write_longformer(folder, **case)
    stored = case.get("stored_layers")
    if case.get("ffn_widths") or stored == [0, 2]:
        return by_hand(folder, case)
    return loaded(folder, case, dropped=".layer.2." if stored else None, attn_implementation="eager")


def by_hand(folder: Path, case: Json) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, or the layers 0 and 2 only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if case.get("stored_layers"):
        config.num_hidden_layers, config.attention_window = 2, config.attention_window[::2]
        weights = {key.replace(".layer.2.", ".layer.1."): value for key, value in weights.items()}
    model = CLASSES[case["head"]].from_config(config, attn_implementation="eager")
    for layer, width in zip(model.base_model.encoder.layer, case.get("ffn_widths", ()), strict=False):
        layer.intermediate.dense = nn.Linear(config.hidden_size, width)
        layer.output.dense = nn.Linear(width, config.hidden_size)
    missing, extra = model.load_state_dict(weights, strict=False)
    tied = ("lm_head.decoder.weight", "lm_head.decoder.bias")
    if extra or set(missing) - set(tied):
        raise SystemExit(f"{case}: {missing}, {extra}")
    model.tie_weights()
    return model.eval()


def outputs_of(model: nn.Module, name: str) -> np.ndarray:
    """What is kept of a case's outputs."""
    case = MODELS[name]
    return kept(name, outputs(model, case["head"], windows_of(name), rows_of(name), typed="tokenizer" in case))


def results() -> list[Any]:
    """What pipelines answer to `CALLS`."""
    found = []
    with tempfile.TemporaryDirectory() as root:
        for call in CALLS:
            folder = Path(root, str(call["checkpoint"]["seed"]) + call["checkpoint"]["head"])
            if not folder.exists():
                write_longformer(folder, **call["checkpoint"])
            given = answer(call["task"], folder, call)
            if "error" in given:
                raise SystemExit(f"{call['task']} {str(call['args'])[:100]}: {given['error']}")
            if ties(given["result"]):
                print("TIE", call["task"], str(call["args"])[:80], call["kwargs"])
            found.append(given["result"])
    return found


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    arrays = {f"{number:03}": found for number, found in enumerate(record(MODELS, load, outputs_of))}
    np.savez_compressed(GOLDENS / "longformer.npz", **arrays)
    names = dict(zip(arrays, MODELS, strict=True))
    text = json.dumps({"versions": VERSIONS, "cases": names, "results": results()}, ensure_ascii=False)
    (GOLDENS / "longformer.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
