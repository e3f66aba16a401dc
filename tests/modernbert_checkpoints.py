"""Small random ModernBERT checkpoints, the cases that are recorded on them, and their inputs. Knows no answer and runs no model.

The folders are what transformers 4.57.6 saves. The tokenizer is built as ModernBERT's is: byte-level BPE in NFC with its special
tokens at the end, a mask that takes the spaces before it, and the class PreTrainedTokenizerFast.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint_tensors import Tensor, write_safetensors
from goldens import Json, Window, chosen_rows
from tokenizer_folders import TOKENIZERS, write_json
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

__all__ = ["CALLS", "CASES", "HEADS", "kept", "rows_of", "windows_of", "write_modernbert"]

HEADS = {
    "encoder": "ModernBertModel",
    "masked_lm": "ModernBertForMaskedLM",
    "question_answering": "ModernBertForQuestionAnswering",
    "sequence_classification": "ModernBertForSequenceClassification",
    "token_classification": "ModernBertForTokenClassification",
}
_LABELS = {
    "sequence_classification": ("contradiction", "neutral", "entailment"),
    "token_classification": ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
}
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "[unused0]")
_CONFIG: Json = {
    "attention_bias": False,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_pooling": "cls",
    "decoder_bias": True,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "hidden_activation": "gelu",
    "hidden_size": 32,
    "intermediate_size": 40,
    "local_attention": 8,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-5,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "transformers_version": "4.57.6",
}
_BIASES = {"attention_bias": True, "classifier_bias": True, "mlp_bias": True, "norm_bias": True}


def write_modernbert(
    folder: Path,
    head: str,
    *,
    seed: int,
    config: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    gain: float = 1.0,
    copied: bool = False,
    stored_layers: Sequence[int] | None = None,
    ffn_widths: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    left_out: Sequence[str] = (),
) -> Path:
    """Write a checkpoint into `folder`, made if need be; every argument is plain JSON.

    Args:
        folder: Where the files go.
        head: One of `HEADS`.
        seed: Seeds the weights.
        config: Changes of `config.json`; a key with the value None is taken out.
        dtype: How weights are stored.
        gain: Standard deviation of a matrix times the root of its columns.
        copied: Store the masked LM's tied decoder a second time.
        stored_layers: Numbers of the layers in the weights, where they are not those of the config.
        ffn_widths: Inner width of each layer.
        heads: Heads that are left of each layer.
        left_out: Tensors that are not stored.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = _write_tokenizer(folder)
    facts = {"architectures": [HEADS[head]], "vocab_size": vocabulary, **_CONFIG, **(config or {})}
    facts |= {f"{role}_token_id": vocabulary - len(_SPECIAL) + place for role, place in _ROLES.items()}
    labels = _LABELS.get(head, ())
    if labels:
        facts["id2label"] = {str(number): label for number, label in enumerate(labels)}
        facts["label2id"] = {label: number for number, label in enumerate(labels)}
    facts = {key: value for key, value in facts.items() if value is not None}
    tensors = _body(facts, "" if head == "encoder" else "model.", stored_layers, ffn_widths, heads)
    tensors += _head(facts, head, len(labels) or 2, copied)
    tensors = [tensor for tensor in tensors if tensor.name not in left_out]
    write_safetensors(folder, tensors, seed=seed, gain=gain, dtype=dtype)
    write_json(folder / "config.json", facts)
    return folder


_ROLES = {"cls": 1, "bos": 1, "sep": 2, "eos": 2, "pad": 3}


def _linear(name: str, out: int, width: int, bias: bool) -> list[Tensor]:
    weight = Tensor(f"{name}.weight", (out, width), "matrix")
    return [weight, Tensor(f"{name}.bias", (out,), "bias")] if bias else [weight]


def _norm(name: str, facts: Json) -> list[Tensor]:
    shape = (int(facts["hidden_size"]),)
    weight = Tensor(f"{name}.weight", shape, "scale")
    return [weight, Tensor(f"{name}.bias", shape, "bias")] if facts["norm_bias"] else [weight]


def _body(
    facts: Json,
    prefix: str,
    stored: Sequence[int] | None,
    widths: Sequence[int] | None,
    heads: Sequence[int] | None,
) -> list[Tensor]:
    hidden, size = int(facts["hidden_size"]), int(facts["hidden_size"]) // int(facts["num_attention_heads"])
    tensors = [Tensor(f"{prefix}embeddings.tok_embeddings.weight", (int(facts["vocab_size"]), hidden), "matrix")]
    tensors += _norm(f"{prefix}embeddings.norm", facts)
    for place, number in enumerate(range(int(facts["num_hidden_layers"])) if stored is None else stored):
        path = f"{prefix}layers.{number}."
        inner = widths[place] if widths else int(facts["intermediate_size"])
        outer = size * (heads[place] if heads else int(facts["num_attention_heads"]))
        tensors += _norm(f"{path}attn_norm", facts) if number else []
        tensors += _linear(f"{path}attn.Wqkv", 3 * outer, hidden, facts["attention_bias"])
        tensors += _linear(f"{path}attn.Wo", hidden, outer, facts["attention_bias"])
        tensors += _norm(f"{path}mlp_norm", facts)
        tensors += _linear(f"{path}mlp.Wi", 2 * inner, hidden, facts["mlp_bias"])
        tensors += _linear(f"{path}mlp.Wo", hidden, inner, facts["mlp_bias"])
    return tensors + _norm(f"{prefix}final_norm", facts)


def _head(facts: Json, head: str, labels: int, copied: bool) -> list[Tensor]:
    if head == "encoder":
        return []
    hidden, vocabulary = int(facts["hidden_size"]), int(facts["vocab_size"])
    tensors = _linear("head.dense", hidden, hidden, facts["classifier_bias"]) + _norm("head.norm", facts)
    if head != "masked_lm":
        return tensors + _linear("classifier", labels, hidden, True)
    if facts["decoder_bias"]:
        tensors.append(Tensor("decoder.bias", (vocabulary,), "bias"))
    if copied or not facts["tie_word_embeddings"]:
        table = "model.embeddings.tok_embeddings.weight" if copied else None
        tensors.append(Tensor("decoder.weight", (vocabulary, hidden), "matrix", draw=table))
    return tensors


def _write_tokenizer(folder: Path) -> int:
    """The tokenizer's files; the number of its ids."""
    place = TOKENIZERS / "bytelevel"
    tokenizer = Tokenizer(models.BPE.from_file(str(place / "vocab.json"), str(place / "merges.txt")))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken("  ", normalized=True), AddedToken("|||EMAIL_ADDRESS|||", normalized=True)])
    tokenizer.add_special_tokens([AddedToken(name, lstrip=name == "[MASK]", normalized=False) for name in _SPECIAL])
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0", special_tokens=list(ids.items())
    )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    added = json.loads(tokenizer.to_str())["added_tokens"]
    settings = {
        "added_tokens_decoder": {str(item.pop("id")): item for item in added},
        "clean_up_tokenization_spaces": True,
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 512,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "[UNK]",
    }
    write_json(folder / "tokenizer_config.json", settings)
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "pad", "sep", "unk")}
    mask = {"content": "[MASK]", "lstrip": True, "normalized": False, "rstrip": False, "single_word": False}
    write_json(folder / "special_tokens_map.json", {**roles, "mask_token": mask})
    return int(tokenizer.get_vocab_size())


def _case(head: str, seed: int, **values: Any) -> Json:
    return {"head": head, "seed": seed, **values}


def _configured(head: str, seed: int, **config: Any) -> Json:
    return _case(head, seed, config=config)


_SEQUENCE, _TOKEN, _SPANS = "sequence_classification", "token_classification", "question_answering"
_LINEAR = {"rope_type": "linear", "factor": 2.0}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
# Name to the arguments of `write_modernbert`
CASES: dict[str, Json] = {
    **{head: _case(head, number) for number, head in enumerate(HEADS)},
    "mean": _configured(_SEQUENCE, 10, classifier_pooling="mean"),
    "all biases": _configured("masked_lm", 11, **_BIASES),
    "all biases, spans": _configured(_SPANS, 12, **_BIASES),
    "all biases, first token": _configured(_SEQUENCE, 13, **_BIASES),
    "untied decoder": _configured("masked_lm", 14, tie_word_embeddings=False),
    "untied decoder without bias": _configured("masked_lm", 15, tie_word_embeddings=False, decoder_bias=False),
    "decoder stored twice": _case("masked_lm", 16, copied=True),
    "tied decoder without bias": _configured("masked_lm", 17, decoder_bias=False),
    "relu and silu": _configured(_TOKEN, 18, hidden_activation="relu", classifier_activation="silu"),
    "tanh": _configured("encoder", 19, hidden_activation="gelu_pytorch_tanh"),
    "last layer local": _configured(_SEQUENCE, 20, num_hidden_layers=3),
    "last layer local, mean": _configured(_SEQUENCE, 21, num_hidden_layers=3, classifier_pooling="mean"),
    "all global": _configured("encoder", 22, global_attn_every_n_layers=1),
    "every second global": _configured("encoder", 23, global_attn_every_n_layers=2),
    "odd window": _configured("encoder", 24, local_attention=7),
    "window of one": _configured("encoder", 25, local_attention=1),
    "real window": _configured("encoder", 26, local_attention=128),
    "one theta": _configured("encoder", 27, local_rope_theta=None, global_rope_theta=500.0),
    "other thetas": _configured("encoder", 28, local_rope_theta=50.0, global_rope_theta=300.0),
    "linear scaling": _configured("encoder", 29, rope_scaling=_LINEAR),
    "yarn": _configured(_SEQUENCE, 30, rope_scaling=_YARN),
    "wide norms": _configured("encoder", 31, norm_eps=0.01),
    "one layer": _configured(_SEQUENCE, 32, num_hidden_layers=1),
    "one head": _configured("encoder", 33, num_attention_heads=1),
    "heads of two": _configured("encoder", 42, num_attention_heads=16),
    "heads of six": _configured("encoder", 43, hidden_size=24, num_attention_heads=4),
    "real heads": _configured("encoder", 34, hidden_size=128, num_attention_heads=2, local_attention=16),
    "float16": _case(_SEQUENCE, 35, dtype="float16"),
    "bfloat16": _case("masked_lm", 36, dtype="bfloat16"),
    "narrow layers": _case(_SPANS, 37, ffn_widths=[24, 40, 16, 56]),
    "pruned heads": _case("encoder", 38, heads=[3, 1, 4, 2]),
    "fewer layers": _case(_TOKEN, 39, config={"num_hidden_layers": 2}, stored_layers=[0, 1, 2]),
    "missing layer": _case(_SEQUENCE, 40, config={"num_hidden_layers": 3}, stored_layers=[0, 2]),
    "missing first layer": _case("encoder", 41, stored_layers=[1, 2, 3]),
}
_LENGTHS = (1, 3, 8, 9, 17, 64)
_LONG_LENGTHS = (2, 128, 129, 300)
_CHOSEN, _WIDE = 32, 12  # columns that are kept of a vocabulary and of hidden states


def windows_of(name: str) -> list[Window]:
    """The inputs of case `name`."""
    stream = np.random.RandomState(CASES[name]["seed"])
    lengths = _LONG_LENGTHS if name == "real window" else _LENGTHS
    texts = [[int(number) for number in stream.randint(0, 1500, length)] for length in lengths]
    return [Window(ids, [0] * len(ids)) for ids in texts]


def rows_of(name: str) -> list[list[int]] | None:
    """`chosen_rows` of case `name`."""
    return chosen_rows(CASES[name]["head"], windows_of(name))


def kept(name: str, outputs: Sequence[np.ndarray]) -> np.ndarray:
    """What is compared: float32 [some rows of all windows, columns]; of long texts every fifth row."""
    rows = [np.atleast_2d(output) for output in outputs]
    found = np.concatenate([item[:: 5 if len(item) > 64 else 1] for item in rows]).astype(np.float32)
    if CASES[name]["head"] == "masked_lm":
        return found[:, :: max(1, found.shape[1] // _CHOSEN)]
    return found[:, :_WIDE]


_TEXTS = [
    "All human beings are born free.",
    "",
    "Où habitent-ils ? e\u0301 ﬁne",
    "two  spaces, someone|||EMAIL_ADDRESS|||x",
]
_MASKED = [
    "All human [MASK] are born free.",
    "[MASK] human beings",
    "the end [MASK]",
    "human   [MASK]beings",
    "human[MASK] beings [MASK] .",
    "a\n[MASK]",
]
_STORY = "Angela Merkel lives in Berlin, and O'Neil does not. " * 6
# Task, the case whose checkpoint it runs on, positional and keyword arguments
CALLS: list[tuple[str, str, list[Any], Json]] = [
    *(("fill-mask", "masked_lm", [text], {"top_k": 3}) for text in _MASKED),
    ("fill-mask", "masked_lm", [_MASKED[0]], {"targets": ["h", "a", "t"]}),
    ("text-classification", "sequence_classification", [_TEXTS], {"top_k": None}),
    ("text-classification", "mean", [_TEXTS], {"top_k": None}),
    ("text-classification", "mean", [{"text": _TEXTS[0], "text_pair": _TEXTS[2]}], {}),
    ("zero-shot-classification", "sequence_classification", [_STORY], {"candidate_labels": ["law", "towns"]}),
    ("token-classification", "token_classification", [[_TEXTS[0], _STORY]], {"aggregation_strategy": "simple"}),
    ("question-answering", "question_answering", [], {"question": "Where does she live?", "context": _STORY, "top_k": 3}),
    ("feature-extraction", "encoder", [_TEXTS[2]], {}),
]  # fmt: skip
