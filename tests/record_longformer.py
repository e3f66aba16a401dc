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
from record_models import CLASSES
from record_tasks import answer, ties
from safetensors.torch import load_file
from torch import nn


def load(folder: Path, case: Json) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over but a third layer that the config drops."""
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


def by_hand(folder: Path, case: Json, factory: Any) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width, or the layers 0 and 2 only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    if case.get("stored_layers"):
        config.num_hidden_layers, config.attention_window = 2, config.attention_window[::2]
        weights = {key.replace(".layer.2.", ".layer.1."): value for key, value in weights.items()}
    model = factory.from_config(config, attn_implementation="eager")
    for layer, width in zip(model.base_model.encoder.layer, case.get("ffn_widths", ()), strict=False):
        layer.intermediate.dense = nn.Linear(config.hidden_size, width)
        layer.output.dense = nn.Linear(width, config.hidden_size)
    missing, extra = model.load_state_dict(weights, strict=False)
    tied = ("lm_head.decoder.weight", "lm_head.decoder.bias")
    if extra or set(missing) - set(tied):
        raise SystemExit(f"{case}: {missing}, {extra}")
    model.tie_weights()
    return model.eval()


def run(model: nn.Module, name: str) -> list[np.ndarray]:
    """Per window what `Encoder` has to give."""
    case, rows, results = MODELS[name], rows_of(name), []
    for place, window in enumerate(windows_of(name)):
        feed = {"input_ids": torch.tensor([window.ids])}
        if "tokenizer" in case:
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
    arrays, names = {}, {}
    for number, (name, case) in enumerate(MODELS.items()):
        with tempfile.TemporaryDirectory() as place:
            model = load(write_longformer(Path(place), **case), case)
            arrays[f"{number:03}"] = kept(name, run(model, name))
        names[f"{number:03}"] = name
        print(name, arrays[f"{number:03}"].shape, arrays[f"{number:03}"].std())
    np.savez_compressed(GOLDENS / "longformer.npz", **arrays)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    text = json.dumps({"versions": versions, "cases": names, "results": results()}, ensure_ascii=False)
    (GOLDENS / "longformer.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
