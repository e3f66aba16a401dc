"""Record what transformers 4.57.6 computes on the checkpoints of goldens.py: eager, float32, one window at a time.

Run by hand: python tests/record_models.py. Needs torch and transformers.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from checkpoints import write_checkpoint
from goldens import GOLDENS, MODELS, kept, rows_of, windows_of
from recording import CLASSES, VERSIONS, loaded, outputs, record
from safetensors.torch import load_file
from torch import nn


def load(folder: Path, case: dict[str, Any]) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over but a third layer that the config drops."""
    write_checkpoint(folder, **case)
    stored = case.get("stored_layers")
    if case.get("ffn_widths") or stored == [0, 2]:
        return by_hand(folder, case)
    return loaded(folder, case, dropped=".layer.2." if stored else None, attn_implementation="eager")


def by_hand(folder: Path, case: dict[str, Any]) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, or the layers 0 and 2 only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if case.get("stored_layers"):
        setattr(config, "n_layers" if config.model_type == "distilbert" else "num_hidden_layers", 2)
        weights = {key.replace(".layer.2.", ".layer.1."): value for key, value in weights.items()}
    model = CLASSES[case["head"]].from_config(config, attn_implementation="eager")
    for number, width in enumerate(case.get("ffn_widths", ())):
        layer = layers_of(model)[number]
        hidden = config.hidden_size
        if config.model_type == "distilbert":
            layer.ffn.lin1, layer.ffn.lin2 = nn.Linear(hidden, width), nn.Linear(width, hidden)
        else:
            layer.intermediate.dense, layer.output.dense = nn.Linear(hidden, width), nn.Linear(width, hidden)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def layers_of(model: nn.Module) -> nn.ModuleList:
    base = model.base_model
    return base.transformer.layer if hasattr(base, "transformer") else base.encoder.layer


def answer(model: nn.Module, name: str) -> np.ndarray:
    """What is kept of a case's outputs."""
    case = MODELS[name]
    typed = case["architecture"] in ("bert", "electra", "albert")
    return kept(name, outputs(model, case["head"], windows_of(name), rows_of(name), typed=typed))


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arrays = {f"{number:03}": found for number, found in enumerate(record(MODELS, load, answer))}
    np.savez_compressed(GOLDENS / "models.npz", **arrays)
    names = dict(zip(arrays, MODELS, strict=True))
    (GOLDENS / "models.json").write_text(json.dumps({"versions": VERSIONS, "cases": names}, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
