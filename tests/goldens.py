"""The recorded answers of transformers 4.57.6: their checkpoints and inputs, and how they are read. Runs no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from checkpoints import ARCHITECTURES

__all__ = ["GOLDENS", "MODELS", "Window", "chosen_rows", "kept", "load_models", "load_tasks", "rows_of", "windows_of"]

GOLDENS = Path(__file__).parent / "data" / "goldens"
LENGTHS = (1, 3, 17, 64)
_SMALLEST_VOCABULARY = 1500
_TYPED = ("bert", "electra", "albert")  # whose tokenizers give type ids
_CHOSEN = 48  # columns of a masked LM's vocabulary that are kept
_WIDE = 24  # columns of hidden states that are kept

Json = dict[str, Any]


class Window(NamedTuple):
    """What `Encoder` takes."""

    ids: list[int]
    type_ids: list[int]


def _case(architecture: str, head: str, seed: int, **values: Any) -> Json:
    return {"architecture": architecture, "head": head, "seed": seed, **values}


def _models() -> dict[str, Json]:
    """Name to the arguments of `write_checkpoint`."""
    heads = ("sequence_classification", "token_classification", "question_answering", "masked_lm", "encoder")
    cases: dict[str, Json] = {}
    for number, architecture in enumerate(ARCHITECTURES):
        for place, head in enumerate(heads):
            cases[f"{architecture}, {head}"] = _case(architecture, head, 100 * number + place)
        seed = 100 * number + 50
        pruned = {"0": [0]} if architecture == "albert" else {"0": [1], "1": [0, 3]}
        if architecture != "mpnet":  # whose relative bias transformers does not prune: such a model cannot run
            cases[f"{architecture}, pruned heads"] = _case(
                architecture, "sequence_classification", seed, pruned_heads=pruned
            )
        cases[f"{architecture}, untied decoder"] = _case(architecture, "masked_lm", seed + 1, tied="untied")
        relu = {"activation" if architecture == "distilbert" else "hidden_act": "relu"}
        cases[f"{architecture}, relu"] = _case(architecture, "token_classification", seed + 2, config=relu)
        if architecture != "albert":
            cases[f"{architecture}, narrow layers"] = _case(
                architecture, "question_answering", seed + 3, ffn_widths=[24, 40, 56][: _layers(architecture)]
            )
            cases[f"{architecture}, fewer layers"] = _case(
                architecture, "token_classification", seed + 4, config={"num_hidden_layers": 2}, stored_layers=[0, 1, 2]
            )
            cases[f"{architecture}, missing layer"] = _case(
                architecture, "sequence_classification", seed + 5, config={"num_hidden_layers": 3}, stored_layers=[0, 2]
            )
    sequence = "sequence_classification"
    multi = {"problem_type": "multi_label_classification"}
    cases |= {
        "bert, multi-label": _case("bert", sequence, 901, config=multi),
        "bert, regression": _case("bert", sequence, 902, labels=["score"], config={"problem_type": "regression"}),
        "roberta, one label": _case("roberta", sequence, 903, labels=["score"]),
        "bert, float16": _case("bert", sequence, 904, dtype="float16"),
        "bert, bfloat16": _case("bert", sequence, 905, dtype="bfloat16"),
        "roberta, bfloat16 masked": _case("roberta", "masked_lm", 906, dtype="bfloat16"),
        "bert, three files": _case("bert", "token_classification", 907, shards=3),
        "bert, decoder stored twice": _case("bert", "masked_lm", 908, tied="copied", position_ids=True),
        "roberta, decoder stored twice": _case("roberta", "masked_lm", 909, tied="copied", position_ids=True),
        "bert, gelu_new": _case("bert", "encoder", 910, config={"hidden_act": "gelu_new"}),
        "bert, silu": _case("bert", "encoder", 911, config={"hidden_act": "silu"}),
        "bert, one type": _case("bert", "question_answering", 912, config={"type_vocab_size": 1}),
        "bert, wide norms": _case("bert", "encoder", 913, config={"layer_norm_eps": 0.01}),
        "electra, one width": _case("electra", "masked_lm", 914, config={"embedding_size": 32}),
        "albert, one width": _case("albert", "masked_lm", 915, config={"embedding_size": 32}),
        "albert, two groups of two": _case(
            "albert", "encoder", 916, config={"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 4}
        ),
        "roberta, padding inside": _case("roberta", "encoder", 917),
        "mpnet, padding inside": _case("mpnet", "token_classification", 918),
        "bert, one layer, one head": _case(
            "bert", sequence, 919, config={"num_hidden_layers": 1, "num_attention_heads": 1}
        ),
        "bert, base size": _case("bert", sequence, 920, size="base"),
    }
    return cases


def _layers(architecture: str) -> int:
    config = ARCHITECTURES[architecture].config
    return int(config.get("num_hidden_layers", config.get("n_layers")))


MODELS: Mapping[str, Json] = _models()


def windows_of(name: str) -> list[Window]:
    """The inputs of case `name`; type ids are 1 in the second half where the tokenizer gives any."""
    case = MODELS[name]
    base = case.get("size") == "base"
    stream = np.random.RandomState(case["seed"])
    typed = case["architecture"] in _TYPED and case.get("config", {}).get("type_vocab_size") != 1
    windows = []
    for length in (5, 128) if base else LENGTHS:
        ids = [int(number) for number in stream.randint(7, 30000 if base else _SMALLEST_VOCABULARY, length)]
        if name.endswith("padding inside") and length > 1:
            ids[1] = 1
        windows.append(Window(ids, [int(typed and 2 * place >= length) for place in range(length)]))
    return windows


def rows_of(name: str) -> list[list[int]] | None:
    """`chosen_rows` of case `name`."""
    return chosen_rows(MODELS[name]["head"], windows_of(name))


def chosen_rows(head: str, windows: Sequence[Window]) -> list[list[int]] | None:
    """The positions of each window whose outputs are kept, for a masked LM; None for other heads."""
    if head != "masked_lm":
        return None
    return [sorted({0, len(window.ids) // 2, len(window.ids) - 1}) for window in windows]


def kept(name: str, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """What is compared: float32 [all rows of all windows, columns]."""
    head = MODELS[name]["head"]
    rows = np.concatenate([np.atleast_2d(output) for output in outputs]).astype(np.float32)
    if head == "masked_lm":
        return rows[:, :: max(1, rows.shape[1] // _CHOSEN)]
    return rows[:, :_WIDE] if head == "encoder" else rows


def load_models() -> dict[str, np.ndarray]:
    """Case to its recorded outputs."""
    names = json.loads((GOLDENS / "models.json").read_text("utf-8"))["cases"]
    with np.load(GOLDENS / "models.npz") as arrays:
        return {name: arrays[key] for key, name in names.items()}


def load_tasks() -> list[Json]:
    """All recorded calls of pipelines."""
    cases: list[Json] = []
    for path in sorted((GOLDENS / "tasks").glob("*.json")):
        cases += json.loads(path.read_text("utf-8"))["cases"]
    return cases
