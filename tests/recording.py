"""What recorders of encoders share: transformers' classes, models with every tensor in its place, and their outputs. Writes no file.

Needs torch and transformers.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from goldens import Json, Window
from torch import nn

__all__ = ["CLASSES", "VERSIONS", "loaded", "outputs", "record"]

VERSIONS = {"transformers": transformers.__version__, "torch": torch.__version__}
CLASSES = {
    "sequence_classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
    "masked_lm": transformers.AutoModelForMaskedLM,
    "encoder": transformers.AutoModel,
}


def loaded(folder: Path, case: Mapping[str, Any], *, dropped: str | None = None, **options: Any) -> nn.Module:
    """The model in float32, with every tensor of the file in its place and none left over but those with `dropped` in their names."""
    factory = CLASSES[case["head"]]
    model, report = factory.from_pretrained(folder, output_loading_info=True, dtype=torch.float32, **options)
    extra = [key for key in report["unexpected_keys"] if not (dropped and dropped in key)]
    if report["missing_keys"] or extra or report["mismatched_keys"]:
        raise SystemExit(f"{case}: {report}")
    return model.eval()


def outputs(
    model: nn.Module, head: str, windows: Sequence[Window], rows: Sequence[Sequence[int]] | None, *, typed: bool
) -> list[np.ndarray]:
    """Per window what `Encoder` has to give; with `typed` the model gets type ids."""
    results = []
    for place, window in enumerate(windows):
        feed = {"input_ids": torch.tensor([window.ids])}
        if typed:
            feed["token_type_ids"] = torch.tensor([window.type_ids])
        with torch.no_grad():
            output = model(**feed, attention_mask=torch.ones_like(feed["input_ids"]))
        match head:
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


def record(
    cases: Mapping[str, Json], load: Callable[[Path, Json], nn.Module], answer: Callable[[nn.Module, str], np.ndarray]
) -> list[np.ndarray]:
    """Per case what `answer` makes of the model, by the case's name, that `load` makes in an empty folder."""
    arrays = []
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as place:
            arrays.append(answer(load(Path(place), case), name))
        print(name, arrays[-1].shape, arrays[-1].std())
    return arrays
