"""Record what transformers 4.57.6 computes on the checkpoints of goldens.py: eager, float32, one window at a time.

Run by hand: python tests/record_models.py. Needs torch and transformers.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from checkpoints import write_checkpoint
from goldens import GOLDENS, MODELS, kept, rows_of, windows_of
from safetensors.torch import load_file
from torch import nn

CLASSES = {
    "sequence_classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
    "masked_lm": transformers.AutoModelForMaskedLM,
    "encoder": transformers.AutoModel,
}


def load(folder: Path, case: dict[str, Any]) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over."""
    factory = CLASSES[case["head"]]
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    stored = case.get("stored_layers")
    if case.get("ffn_widths") or stored == [0, 2]:
        return by_hand(folder, case, factory)
    model, report = factory.from_pretrained(folder, output_loading_info=True, **options)
    extra = [key for key in report["unexpected_keys"] if not (stored and ".layer.2." in key)]
    if report["missing_keys"] or extra or report["mismatched_keys"]:
        raise SystemExit(f"{case}: {report}")
    return model


def by_hand(folder: Path, case: dict[str, Any], factory: Any) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, or the layers 0 and 2 only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if case.get("stored_layers"):
        setattr(config, "n_layers" if config.model_type == "distilbert" else "num_hidden_layers", 2)
        weights = {key.replace(".layer.2.", ".layer.1."): value for key, value in weights.items()}
    model = factory.from_config(config, attn_implementation="eager")
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


def run(model: nn.Module, name: str) -> list[np.ndarray]:
    """Per window what `Encoder` has to give."""
    case = MODELS[name]
    rows = rows_of(name)
    typed = case["architecture"] in ("bert", "electra", "albert")
    results = []
    for place, window in enumerate(windows_of(name)):
        feed = {"input_ids": torch.tensor([window.ids])}
        if typed:
            feed["token_type_ids"] = torch.tensor([window.type_ids])
        with torch.no_grad():
            output = model(**feed, attention_mask=torch.ones_like(feed["input_ids"]))
        match case["head"]:
            case "question_answering":
                values = torch.stack([output.start_logits[0], output.end_logits[0]], -1)
            case "encoder":
                values = output.last_hidden_state[0]
            case "masked_lm":
                values = output.logits[0][rows[place]]
            case _:
                values = output.logits[0]
        results.append(values.numpy())
    return results


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arrays = {}
    names = {}
    for number, (name, case) in enumerate(MODELS.items()):
        with tempfile.TemporaryDirectory() as place:
            model = load(write_checkpoint(Path(place), **case), case)
            arrays[f"{number:03}"] = kept(name, run(model, name))
        names[f"{number:03}"] = name
        print(name, arrays[f"{number:03}"].shape, arrays[f"{number:03}"].std())
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    np.savez_compressed(GOLDENS / "models.npz", **arrays)
    (GOLDENS / "models.json").write_text(json.dumps({"versions": versions, "cases": names}, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
