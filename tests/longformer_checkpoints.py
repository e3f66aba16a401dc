"""Small random Longformer checkpoints, the texts they read and the calls of pipelines: knows no answer and runs no model.

As checkpoints.py: what `save_pretrained` of transformers 4.57.6 writes, the same bytes every time. Windows are small, so that
short texts fill several blocks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint_architectures import ARCHITECTURES
from checkpoint_tensors import Tensor, encoder, head_tensors, write_safetensors
from checkpoints import ENTITIES, HEADS, NLI
from goldens import GOLDENS, Json, Window, chosen_rows
from tokenizer_folders import DATA, byte_level, word_piece, write_json

__all__ = ["CALLS", "MODELS", "kept", "load_calls", "load_models", "rows_of", "windows_of", "write_longformer"]

_ROBERTA = ARCHITECTURES["roberta"]
_NAMES = replace(_ROBERTA.names, prefix="longformer")
_CONFIG = {
    **{key: value for key, value in _ROBERTA.config.items() if key not in ("classifier_dropout", "use_cache")},
    "attention_window": 8,
    "max_position_embeddings": 258,
    "num_hidden_layers": 3,
    "onnx_export": False,
    "sep_token_id": 2,
}
_LABELS = {"sequence_classification": NLI, "token_classification": ENTITIES}
_LENGTHS = (1, 3, 17, 49, 130, 256)
_QUESTIONS = (2, 1, 5, 12, 4, 40)  # tokens before the first separator, in texts of at least five tokens


def write_longformer(
    folder: Path,
    head: str,
    *,
    seed: int,
    config: Mapping[str, Any] | None = None,
    tokenizer: str = "LongformerTokenizer",
    dtype: str = "float32",
    tied: str = "absent",
    stored_layers: Sequence[int] | None = None,
    ffn_widths: Sequence[int] | None = None,
    pruned: Sequence[int] = (),
    gain: float = 1.0,
) -> Path:
    """Write a checkpoint into `folder`; arguments as those of `write_checkpoint`, but for `pruned`: heads cut out of layer 0."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = _LABELS.get(head, ())
    facts: Json = {
        "architectures": ["Longformer" + HEADS[head]],
        "model_type": "longformer",
        "transformers_version": "4.57.6",
        **_CONFIG,
        "torch_dtype": dtype,
        "vocab_size": 1800,
        **(config or {}),
    }
    if labels:
        facts["id2label"] = {str(number): label for number, label in enumerate(labels)}
        facts["label2id"] = {label: number for number, label in enumerate(labels)}
    if tied == "untied":
        facts["tie_word_embeddings"] = False
    bare = head == "encoder"
    tensors = encoder(
        _NAMES,
        facts,
        pooler=bare,
        stored_layers=stored_layers,
        ffn_widths=ffn_widths,
        pruned_heads={0: pruned} if pruned else None,
    )
    projections = ("query", "key", "value")
    for tensor in [item for item in tensors if item.name.rpartition(".")[0].endswith(projections)]:
        module, _, kind = tensor.name.rpartition(".")
        tensors.append(Tensor(f"{module}_global.{kind}", tensor.shape, tensor.kind, tensor.keep))
    if not bare:
        tensors = [replace(tensor, name=f"longformer.{tensor.name}") for tensor in tensors]
        tensors += head_tensors(_NAMES, facts, head, labels=len(labels), tied=tied)
    write_safetensors(folder, tensors, seed=seed, gain=gain, dtype=dtype)
    write_json(folder / "config.json", facts)
    (word_piece if tokenizer == "BertTokenizer" else byte_level)(folder)
    length = int(facts["max_position_embeddings"]) - int(facts["pad_token_id"]) - 1
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer, "model_max_length": length})
    return folder


def _models() -> dict[str, Json]:
    """Name to the arguments of `write_longformer`."""
    heads = ("sequence_classification", "token_classification", "question_answering", "masked_lm", "encoder")
    several = {"attention_window": [8, 16, 4]}
    cases: dict[str, Json] = {}
    for place, head in enumerate(heads):
        cases[head] = {"head": head, "seed": 3000 + place}
        cases[f"{head}, windows"] = {"head": head, "seed": 3010 + place, "config": several}
        cases[f"{head}, wide"] = {"head": head, "seed": 3020 + place, "config": {"attention_window": 512}}
        cases[f"{head}, narrow"] = {"head": head, "seed": 3030 + place, "ffn_widths": [24, 40, 56]}
    two = {"num_hidden_layers": 2, "attention_window": [8, 4]}
    typed = {"pad_token_id": 0, "sep_token_id": 3, "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    cases |= {
        "small windows": {"head": "encoder", "seed": 3100, "config": {"attention_window": 4}},
        "fewer layers": {"head": "token_classification", "seed": 3101, "config": two, "stored_layers": [0, 1, 2]},
        "missing layer": {"head": "question_answering", "seed": 3102, "config": several, "stored_layers": [0, 2]},
        "one layer": {"head": "sequence_classification", "seed": 3103, "config": {"num_hidden_layers": 1}},
        "padding inside": {"head": "question_answering", "seed": 3104},
        "relu": {"head": "masked_lm", "seed": 3105, "config": {"hidden_act": "relu"}},
        "untied decoder": {"head": "masked_lm", "seed": 3106, "tied": "untied"},
        "decoder stored twice": {"head": "masked_lm", "seed": 3107, "tied": "copied"},
        "float16": {"head": "question_answering", "seed": 3108, "dtype": "float16"},
        "bfloat16": {"head": "sequence_classification", "seed": 3109, "dtype": "bfloat16"},
        "types": {"head": "question_answering", "seed": 3110, "config": typed, "tokenizer": "BertTokenizer"},
    }
    return cases


MODELS: Mapping[str, Json] = _models()


def windows_of(name: str) -> list[Window]:
    """The inputs of case `name`; of question answering, pairs with three separators, as transformers insists."""
    case = MODELS[name]
    stream = np.random.RandomState(case["seed"])
    parting = case.get("config", {}).get("sep_token_id", 2)
    padding = case.get("config", {}).get("pad_token_id", 1)
    asks, windows = case["head"] == "question_answering", []
    for length, end in zip(_LENGTHS, _QUESTIONS, strict=True):
        length = max(length, 5) if asks else length
        ids = [int(number) for number in stream.randint(7, 1500, length)]
        if asks:
            ids[end] = ids[min(end + 1, length - 2)] = ids[-1] = parting
        if name == "padding inside":
            ids[0 : length - 2 : 14] = [padding] * len(ids[0 : length - 2 : 14])
        typed = "tokenizer" in case
        windows.append(Window(ids, [int(typed and place > end) for place in range(length)]))
    return windows


def rows_of(name: str) -> list[list[int]] | None:
    """`chosen_rows` of case `name`."""
    return chosen_rows(MODELS[name]["head"], windows_of(name))


def kept(name: str, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """What is compared: float32 [rows, columns]; of outputs per token every third row and the last eight."""
    head = MODELS[name]["head"]
    if head not in ("masked_lm", "sequence_classification"):
        outputs = [np.concatenate([array[:-8:3], array[-8:]]) for array in outputs]
    rows = np.concatenate([np.atleast_2d(output) for output in outputs]).astype(np.float32)
    return rows[:, ::37] if head == "masked_lm" else rows[:, :8]


def load_models() -> dict[str, np.ndarray]:
    """Case to its recorded outputs."""
    names = json.loads((GOLDENS / "longformer.json").read_text("utf-8"))["cases"]
    with np.load(GOLDENS / "longformer.npz") as arrays:
        return {name: arrays[key] for key, name in names.items()}


_LINES = [line.strip() for line in (DATA / "udhr_sample.txt").read_text("utf-8").split("\n") if line.strip()]
_LONG = " ".join(_LINES[:4])  # English, some 500 tokens of the small vocabulary
_PLACES = {"max_position_embeddings": 514, "attention_window": [8, 16, 8]}


def _calls() -> list[Json]:
    """Calls of pipelines: {"task", "checkpoint", "args", "kwargs"}."""
    asking = {"head": "question_answering", "seed": 3200, "config": _PLACES, "gain": 1.5}
    classes = {"head": "sequence_classification", "seed": 3201, "config": _PLACES}
    entities = {"head": "token_classification", "seed": 3202, "config": _PLACES}
    masked, body = ({"head": head, "seed": 3203, "config": _PLACES} for head in ("masked_lm", "encoder"))
    who, long = {"question": "Who is born free?", "context": _LINES[0]}, {"question": "What?", "context": _LONG * 3}
    found = [("question-answering", asking, who, options) for options in ({}, {"top_k": 3}, {"max_answer_len": 3})]
    for options in (
        {},
        {"top_k": 5},
        {"max_seq_len": 512},
        {"max_seq_len": 512, "doc_stride": 256, "top_k": 3},
        {"max_seq_len": 100, "doc_stride": 20},
        {"handle_impossible_answer": True, "align_to_words": False},
    ):
        found.append(("question-answering", asking, long, options))
    found += [("question-answering", asking, [who, long, {**who, "question": "Which rights has everyone?"}], {})]
    for text in (_LINES[0], "a", [_LINES[1], _LONG[:700], _LINES[2]]):
        found += [
            ("text-classification", classes, text, {"top_k": None}),
            ("token-classification", entities, text, {"aggregation_strategy": "simple"}),
        ]
    found += [
        ("text-classification", classes, {"text": _LINES[0], "text_pair": _LINES[1]}, {"top_k": None}),
        ("text-classification", classes, _LONG * 3, {"truncation": True}),
        ("zero-shot-classification", classes, _LINES[0], {"candidate_labels": ["law", "cooking", "the sea"]}),
        ("token-classification", entities, _LONG * 2, {"stride": 100, "aggregation_strategy": "first"}),
        ("fill-mask", masked, "All human beings are <mask> free.", {}),
        ("fill-mask", masked, f"{_LONG[:900]} <mask>", {"top_k": 2}),
        ("feature-extraction", body, "All human beings are born free.", {}),
    ]
    return [
        {"task": task, "checkpoint": checkpoint, "init": {}, "args": [value], "kwargs": options}
        for task, checkpoint, value, options in found
    ]


CALLS = _calls()


def load_calls() -> list[Json]:
    """The calls with what transformers answered."""
    results = json.loads((GOLDENS / "longformer.json").read_text("utf-8"))["results"]
    return [{**call, "result": result} for call, result in zip(CALLS, results, strict=True)]
