"""Small random DeBERTa checkpoints, the same bytes every time: knows the folder that `save_pretrained` leaves, not its readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint_tensors import Tensor, write_safetensors
from checkpoints import ENTITIES, HEADS, NLI
from goldens import Window, chosen_rows
from tokenizer_folders import DEBERTA, byte_level, unigram, write_json

__all__ = ["CALLS", "CASES", "DISTANCES", "FAMILIES", "VOCABULARY", "rows_of", "windows_of", "write_deberta"]

VOCABULARY = 1502  # of the small SentencePiece model, with the mask that its tokenizer adds
_TOKENIZERS = {"deberta-v2": "DebertaV2Tokenizer", "deberta": "DebertaTokenizer"}
FAMILIES = {"deberta-v2": "DebertaV2", "deberta": "Deberta"}
_LABELS = {"sequence_classification": NLI, "token_classification": ENTITIES}
# As microsoft/deberta-v3-base has it, but small
_CONFIG: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-7,
    "max_position_embeddings": 64,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "position_buckets": 16,
    "relative_attention": True,
    "share_att_key": True,
    "type_vocab_size": 0,
}
_OLD = {"share_att_key": None, "norm_rel_ebd": None, "position_buckets": None, "pos_att_type": ["c2p", "p2c"]}


def write_deberta(
    folder: Path,
    head: str,
    *,
    seed: int,
    architecture: str = "deberta-v2",
    config: Mapping[str, Any] | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    new_head: bool = False,
    untied: bool = False,
    stored_layers: Sequence[int] | None = None,
    ffn_widths: Sequence[int] | None = None,
) -> Path:
    """Write a checkpoint into `folder`, made if need be. Every argument is plain JSON.

    Args:
        folder: Where the files go.
        head: One of `checkpoints.HEADS`.
        seed: Seeds the weights.
        architecture: One of `FAMILIES`.
        config: Changes of `config.json`; a key with the value None is taken out.
        tokenizer_config: Changes of `tokenizer_config.json`.
        dtype: How weights are stored.
        new_head: Store the masked LM's head as Microsoft's own code does (`legacy: false`).
        untied: Store a decoder of the masked LM's own.
        stored_layers: Numbers of the layers in the weights, where they are not those of the config.
        ffn_widths: Inner width of each layer.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = _LABELS.get(head, ())
    facts: dict[str, Any] = {
        "architectures": [FAMILIES[architecture] + HEADS[head]],
        "model_type": architecture,
        "torch_dtype": dtype,
        "transformers_version": "4.57.6",
        "vocab_size": VOCABULARY if architecture == "deberta-v2" else 1800,
        **_CONFIG,
        **(_OLD if architecture == "deberta" else {}),
    }
    if names:
        facts["id2label"] = {str(number): label for number, label in enumerate(names)}
        facts["label2id"] = {label: number for number, label in enumerate(names)}
    facts |= {"legacy": False} if new_head else {}
    # 4.57 ties the wrong layer of the new head, and then cannot load it; the words' table is its last matrix all the same
    facts |= {"tie_word_embeddings": False} if untied or new_head else {}
    facts = {key: value for key, value in {**facts, **(config or {})}.items() if value is not None}
    prefix = "" if head == "encoder" else "deberta."
    tensors = _body(facts, prefix, stored_layers, ffn_widths) + _head(facts, head, len(names), new_head, untied)
    write_safetensors(folder, tensors, seed=seed, gain=1.0, dtype=dtype)
    write_json(folder / "config.json", facts)
    _write_tokenizer(folder, architecture, facts, tokenizer_config or {})
    return folder


def _write_tokenizer(folder: Path, architecture: str, facts: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """The files of its tokenizer: of v2 and v3 nothing but the SentencePiece model."""
    if architecture == "deberta-v2":
        unigram(folder, "spm.model", DEBERTA)
    else:
        byte_level(folder)
        words = json.loads((folder / "vocab.json").read_text("utf-8"))
        own = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
        write_json(folder / "vocab.json", {own.get(word, word): number for word, number in words.items()})
    settings = {"model_max_length": facts["max_position_embeddings"], "tokenizer_class": _TOKENIZERS[architecture]}
    write_json(folder / "tokenizer_config.json", {**settings, **changes})


def _linear(name: str, out: int, width: int, *, bias: bool = True) -> list[Tensor]:
    tensors = [Tensor(f"{name}.weight", (out, width), "matrix")]
    return [*tensors, Tensor(f"{name}.bias", (out,), "bias")] if bias else tensors


def _norm(name: str, size: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (size,), "scale"), Tensor(f"{name}.bias", (size,), "bias")]


def _body(
    config: Mapping[str, Any], prefix: str, stored: Sequence[int] | None, widths: Sequence[int] | None
) -> list[Tensor]:
    hidden, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    narrow = int(config.get("embedding_size", hidden))
    path = f"{prefix}embeddings"
    tensors = [Tensor(f"{path}.word_embeddings.weight", (vocabulary, narrow), "matrix")]
    if config.get("position_biased_input", True):
        shape = (int(config["max_position_embeddings"]), narrow)
        tensors.append(Tensor(f"{path}.position_embeddings.weight", shape, "matrix"))
    if config["type_vocab_size"]:
        shape = (int(config["type_vocab_size"]), narrow)
        tensors.append(Tensor(f"{path}.token_type_embeddings.weight", shape, "matrix"))
    if narrow != hidden:
        tensors += _linear(f"{path}.embed_proj", hidden, narrow, bias=False)
    tensors += _norm(f"{path}.LayerNorm", hidden)
    for place, number in enumerate(range(int(config["num_hidden_layers"])) if stored is None else stored):
        inner = int(config["intermediate_size"]) if widths is None else widths[place]
        tensors += _layer(config, f"{prefix}encoder.layer.{number}.", inner)
    if config.get("relative_attention"):
        reach = int(config["max_relative_positions"])
        reach = int(config["max_position_embeddings"]) if reach < 1 else reach
        buckets = 0 if config["model_type"] == "deberta" else max(int(config.get("position_buckets", -1)), 0)
        span = buckets or reach
        tensors.append(Tensor(f"{prefix}encoder.rel_embeddings.weight", (2 * span, hidden), "matrix"))
    if "layer_norm" in str(config.get("norm_rel_ebd", "none")):
        tensors += _norm(f"{prefix}encoder.LayerNorm", hidden)
    if width := int(config.get("conv_kernel_size", 0)):
        shape = (hidden, hidden // int(config.get("conv_groups", 1)), width)
        path = f"{prefix}encoder.conv"
        tensors += [Tensor(f"{path}.conv.weight", shape, "matrix"), Tensor(f"{path}.conv.bias", (hidden,), "bias")]
        tensors += _norm(f"{path}.LayerNorm", hidden)
    return tensors


def _layer(config: Mapping[str, Any], path: str, inner: int) -> list[Tensor]:
    hidden, own = int(config["hidden_size"]), f"{path}attention.self."
    scores = config.get("pos_att_type") or ()
    far = bool(config.get("relative_attention"))
    if config["model_type"] == "deberta":
        tensors = _linear(f"{own}in_proj", 3 * hidden, hidden, bias=False)
        tensors += [Tensor(f"{own}{name}_bias", (hidden,), "bias") for name in "qv"]
        tensors += _linear(f"{own}pos_proj", hidden, hidden, bias=False) if far and "c2p" in scores else []
        tensors += _linear(f"{own}pos_q_proj", hidden, hidden) if far and "p2c" in scores else []
    else:
        tensors = [
            tensor for name in ("query", "key", "value") for tensor in _linear(f"{own}{name}_proj", hidden, hidden)
        ]
        if far and not config.get("share_att_key", False):
            tensors += _linear(f"{own}pos_key_proj", hidden, hidden) if "c2p" in scores else []
            tensors += _linear(f"{own}pos_query_proj", hidden, hidden) if "p2c" in scores else []
    tensors += _linear(f"{path}attention.output.dense", hidden, hidden)
    tensors += _norm(f"{path}attention.output.LayerNorm", hidden)
    tensors += _linear(f"{path}intermediate.dense", inner, hidden) + _linear(f"{path}output.dense", hidden, inner)
    return tensors + _norm(f"{path}output.LayerNorm", hidden)


def _head(config: Mapping[str, Any], head: str, labels: int, new: bool, untied: bool) -> list[Tensor]:
    hidden, vocabulary = int(config["hidden_size"]), int(config["vocab_size"])
    narrow = int(config.get("embedding_size", hidden))
    match head:
        case "sequence_classification":
            return _linear("pooler.dense", hidden, hidden) + _linear("classifier", labels, hidden)
        case "token_classification":
            return _linear("classifier", labels, hidden)
        case "question_answering":
            return _linear("qa_outputs", 2, hidden)
        case "masked_lm" if new:
            path = "lm_predictions.lm_head"
            tensors = _linear(f"{path}.dense", hidden, hidden) + _norm(f"{path}.LayerNorm", hidden)
            return [*tensors, Tensor(f"{path}.bias", (vocabulary,), "bias")]
        case "masked_lm":
            path = "cls.predictions"
            tensors = _linear(f"{path}.transform.dense", narrow, hidden) + _norm(f"{path}.transform.LayerNorm", narrow)
            tensors.append(Tensor(f"{path}.bias", (vocabulary,), "bias"))
            table = Tensor(f"{path}.decoder.weight", (vocabulary, narrow), "matrix")
            return [*tensors, table] if untied else tensors
    return []


def _cases() -> dict[str, dict[str, Any]]:
    """Name to the arguments of `write_deberta`."""
    classifier, encoder = "sequence_classification", "encoder"
    changes: dict[str, tuple[str, dict[str, Any]]] = {
        **{
            head: (head, {})
            for head in (classifier, "token_classification", "question_answering", "masked_lm", encoder)
        },
        "own projections": (encoder, {"share_att_key": False}),
        "c2p only": (encoder, {"pos_att_type": ["c2p"], "share_att_key": False}),
        "p2c only": (encoder, {"pos_att_type": "p2c"}),
        "p2c only, classifier": (classifier, {"pos_att_type": ["p2c"], "share_att_key": False}),
        "c2p only, classifier": (classifier, {"pos_att_type": "c2p"}),
        "no scores": (encoder, {"pos_att_type": []}),
        "no distances": (classifier, {"relative_attention": False, "norm_rel_ebd": None}),
        "no buckets": (encoder, {"position_buckets": -1}),
        "few distances": (encoder, {"position_buckets": None, "max_relative_positions": 12, "share_att_key": False}),
        "few buckets": (classifier, {"position_buckets": 6, "max_relative_positions": 30}),
        "many buckets": (encoder, {"position_buckets": 100, "max_relative_positions": 128}),
        "rows as they are": (encoder, {"norm_rel_ebd": "none"}),
        "positions and types": (encoder, {"position_biased_input": True, "type_vocab_size": 2}),
        "one type": (classifier, {"type_vocab_size": 1}),
        "narrow embeddings": (
            "masked_lm",
            {"embedding_size": 16, "position_biased_input": True, "type_vocab_size": 2, "hidden_act": "relu"},
        ),
        "convolution": (encoder, {"conv_kernel_size": 3, "conv_act": "gelu"}),
        "wide convolution": ("masked_lm", {"conv_kernel_size": 5, "conv_groups": 2}),
        "one layer, convolution": (classifier, {"conv_kernel_size": 3, "num_hidden_layers": 1}),
        "one layer": (classifier, {"num_hidden_layers": 1, "pooler_hidden_act": "tanh"}),
        "wide norms": (encoder, {"layer_norm_eps": 0.01}),
    }
    cases: dict[str, dict[str, Any]] = {}
    for number, (name, (head, config)) in enumerate(changes.items()):
        cases[name] = {"head": head, "seed": 3000 + number, "config": config}
    cases |= {
        "new head": {"head": "masked_lm", "seed": 3100, "new_head": True},
        "untied decoder": {"head": "masked_lm", "seed": 3101, "untied": True},
        "unequal layers": {"head": "question_answering", "seed": 3102, "ffn_widths": [24, 40]},
        "missing layer": {
            "head": "token_classification", "seed": 3103, "config": {"num_hidden_layers": 3}, "stored_layers": [0, 2],
        },
        "fewer layers": {"head": "token_classification", "seed": 3104, "stored_layers": [0, 1, 2]},
        "float16": {"head": classifier, "seed": 3105, "dtype": "float16"},
    }  # fmt: skip
    old: dict[str, tuple[str, dict[str, Any]]] = {
        "first": (encoder, {}),
        "first, classifier": (classifier, {"position_biased_input": True, "type_vocab_size": 2}),
        "first, few distances": ("token_classification", {"max_relative_positions": 12}),
        "first, c2p only": ("masked_lm", {"pos_att_type": "c2p"}),
        "first, p2c only, classifier": (classifier, {"pos_att_type": ["p2c"]}),
        "first, three scores": ("question_answering", {"pos_att_type": ["c2p", "p2c", "p2p"]}),
        "first, no distances": (encoder, {"relative_attention": False, "position_biased_input": True}),
        "first, as if newer": (encoder, {"position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "none"}),
    }
    for number, (name, (head, config)) in enumerate(old.items()):
        cases[name] = {"head": head, "seed": 3150 + number, "architecture": "deberta", "config": config}
    return cases


CASES: Mapping[str, Mapping[str, Any]] = _cases()


# Buckets, farthest distance, tokens: as base and small models have them, and as the cases here
DISTANCES = ((256, 512, 512), (256, 512, 1300), (16, 64, 64), (6, 30, 64), (100, 128, 64), (-1, -1, 40), (32, 100, 300))
_TEXTS = ["Angela Merkel lives in Berlin, and O'Neil doesn't.", "I ♥ 🇫🇷 and 人人生而自由", "a", "  two  spaces \t tab"]
_SPAN = {"question": "Where does Angela Merkel live?", "context": _TEXTS[0]}
_LONG: dict[str, Any] = {"max_position_embeddings": 128, "position_buckets": 24, "share_att_key": False}


def _calls() -> list[tuple[str, dict[str, Any], list[Any], dict[str, Any]]]:
    """Task, arguments of `write_deberta`, and what the pipeline is called with."""
    classifier = {"head": "sequence_classification", "seed": 3200, "config": {"type_vocab_size": 2, **_LONG}}
    tagger = {"head": "token_classification", "seed": 3201, "config": _LONG}
    reader = {"head": "question_answering", "seed": 3202, "config": {**_LONG, "conv_kernel_size": 3}}
    masked = {"head": "masked_lm", "seed": 3203, "config": _LONG, "new_head": True}
    first = {
        "architecture": "deberta",
        "head": "sequence_classification",
        "seed": 3205,
        "config": {"type_vocab_size": 2},
    }
    recalled = {"architecture": "deberta", "head": "masked_lm", "seed": 3206}
    labels = ["politics", "a city", "travel"]
    return [
        ("text-classification", classifier, [_TEXTS], {"top_k": None}),
        ("text-classification", classifier, [{"text": _TEXTS[0], "text_pair": _TEXTS[1]}], {}),
        ("zero-shot-classification", classifier, [_TEXTS[0], labels], {}),
        ("zero-shot-classification", classifier, [_TEXTS[:2], labels], {"multi_label": True}),
        ("token-classification", tagger, [_TEXTS], {}),
        ("token-classification", tagger, [_TEXTS[:2]], {"aggregation_strategy": "average"}),
        ("question-answering", reader, [], {**_SPAN, "top_k": 3}),
        ("fill-mask", masked, ["Angela [MASK] lives in Berlin."], {"top_k": 4}),
        ("text-classification", first, [_TEXTS], {"top_k": None}),
        ("text-classification", first, [{"text": _TEXTS[0], "text_pair": _TEXTS[1]}], {"top_k": None}),
        ("fill-mask", recalled, ["Angela [MASK] lives in Berlin."], {"top_k": 4}),
        ("feature-extraction", {"head": "encoder", "seed": 3204, "config": _LONG}, ["a Berlin"], {}),
    ]


CALLS = _calls()


def windows_of(name: str) -> list[Window]:
    """The inputs of case `name`: one token, a few, as many as its window; type ids are 1 in the second half where there are any."""
    case = CASES[name]
    typed = case.get("config", {}).get("type_vocab_size", 0) > 1
    stream = np.random.RandomState(case["seed"])
    windows = []
    for length in (1, 3, 17, 64):
        ids = [int(number) for number in stream.randint(5, 1500, length)]
        windows.append(Window(ids, [int(typed and 2 * place >= length) for place in range(length)]))
    return windows


def rows_of(name: str) -> list[list[int]] | None:
    """`chosen_rows` of case `name`."""
    return chosen_rows(CASES[name]["head"], windows_of(name))
