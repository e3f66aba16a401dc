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
from safetensors.torch import load_file
from torch import nn

CLASSES = {
    "sequence_classification": transformers.ModernBertForSequenceClassification,
    "token_classification": transformers.ModernBertForTokenClassification,
    "question_answering": transformers.ModernBertForQuestionAnswering,
    "masked_lm": transformers.ModernBertForMaskedLM,
    "encoder": transformers.ModernBertModel,
}


def load(folder: Path, case: Json) -> nn.Module:
    """The model, with every tensor of the file in its place and none left over."""
    factory = CLASSES[case["head"]]
    stored = case.get("stored_layers")
    if case.get("ffn_widths") or case.get("heads") or stored in ([0, 2], [1, 2, 3]):
        return by_hand(folder, case, factory)
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    model, report = factory.from_pretrained(folder, output_loading_info=True, **options)
    extra = [key for key in report["unexpected_keys"] if not (stored and "layers.2." in key)]
    if report["missing_keys"] or extra or report["mismatched_keys"]:
        raise SystemExit(f"{case}: {report}")
    return model


def by_hand(folder: Path, case: Json, factory: Any) -> nn.Module:
    """A model that from_pretrained cannot make: layers of unequal width or heads, or some of its layers only."""
    config = transformers.AutoConfig.from_pretrained(folder)
    weights = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    model = factory._from_config(config, attn_implementation="eager")
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


def run(model: nn.Module, name: str) -> list[np.ndarray]:
    """Per window what `Encoder` has to give."""
    rows, results = rows_of(name), []
    for place, window in enumerate(windows_of(name)):
        ids = torch.tensor([window.ids])
        with torch.no_grad():
            output = model(input_ids=ids, attention_mask=torch.ones_like(ids))
        match CASES[name]["head"]:
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


def answer(task: str, folder: Path, args: list[Any], kwargs: Json) -> Any:
    pipe = transformers.pipeline(task, model=str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"})
    return plain(pipe(*args, **kwargs))


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    arrays = {}
    for number, (name, case) in enumerate(CASES.items()):
        with tempfile.TemporaryDirectory() as place:
            model = load(write_modernbert(Path(place), **case), case)
            arrays[f"{number:03}"] = kept(name, run(model, name))
        print(name, arrays[f"{number:03}"].shape, arrays[f"{number:03}"].std())
    answers = []
    for task, name, args, kwargs in CALLS:
        with tempfile.TemporaryDirectory() as place:
            answers.append(answer(task, write_modernbert(Path(place), **CASES[name]), args, kwargs))
        print(task, name, str(answers[-1])[:200])
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    np.savez_compressed(GOLDENS / "modernbert.npz", **arrays)
    found = {"versions": versions, "cases": list(CASES), "answers": answers}
    (GOLDENS / "modernbert.json").write_text(json.dumps(found, ensure_ascii=False, indent=0) + "\n", "utf-8")


if __name__ == "__main__":
    main()
