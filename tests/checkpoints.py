"""Small random checkpoints, the same bytes every time: knows the folder that `save_pretrained` leaves, not its readers.

`write_checkpoint` writes what transformers 4.57.6 would for the eight BERT-type encoders: `config.json`,
`model.safetensors`, the tokenizer's files and, for a sentence-transformers folder, its extra files. Weights are scaled
so that activations stay of order one and outputs are well spread: a wrong mask or a wrong activation function shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from checkpoint_architectures import ARCHITECTURES
from checkpoint_tensors import Tensor, encoder, head_tensors, write_safetensors
from tokenizer_folders import ALBERT, TOKENIZERS, byte_fallback, byte_level, unigram, word_piece, write_json

__all__ = ["ARCHITECTURES", "ENTITIES", "HEADS", "NLI", "max_tokens", "write_checkpoint"]

HEADS = {
    "sequence_classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    "masked_lm": "ForMaskedLM",
    "encoder": "Model",
    "sentence_transformer": "Model",
}
NLI = ("contradiction", "neutral", "entailment")
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
_LABELS = {"sequence_classification": NLI, "token_classification": ENTITIES}
_SIZES: dict[str, dict[str, int]] = {
    "small": {},
    "base": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
    },
}
_DISTILBERT_KEYS = {
    "hidden_size": "dim",
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "intermediate_size": "hidden_dim",
}
# Architecture to the class that its tokenizer_config.json names.
_TOKENIZER_CLASSES = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "electra": "ElectraTokenizer",
    "albert": "AlbertTokenizer",
    "mpnet": "MPNetTokenizer",
}
# Ids of each class's tokenizer, the ones that it adds by itself included.
_VOCABULARY = {
    "RobertaTokenizer": 1800,
    "XLMRobertaTokenizer": 1502,
    "CamembertTokenizer": 1505,
    "AlbertTokenizer": 1502,
    "LlamaTokenizer": 1702,
}
_WORDPIECE = 1800


def write_checkpoint(
    folder: Path,
    architecture: str,
    head: str,
    *,
    seed: int,
    size: str = "small",
    labels: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    shards: int = 1,
    gain: float = 1.0,
    tied: str = "absent",
    position_ids: bool = False,
    stored_layers: Sequence[int] | None = None,
    pruned_heads: Mapping[str, Sequence[int]] | None = None,
    ffn_widths: Sequence[int] | None = None,
    pooling: Mapping[str, Any] | None = None,
    normalize: bool = False,
    prompts: Mapping[str, str] | None = None,
) -> Path:
    """Write a checkpoint into `folder`, made if need be.

    Every argument is plain JSON, so that a golden answer can say which checkpoint it belongs to.

    Args:
        folder: Where the files go.
        architecture: One of `ARCHITECTURES`.
        head: One of `HEADS`.
        seed: Seeds the weights.
        size: "small", or "base" for the real size of bert-base.
        labels: Names of the labels; None for NLI's, or for those of entities.
        config: Changes of `config.json`; a key with the value None is taken out.
        tokenizer: Class of the tokenizer, where it is another than the architecture's own.
        tokenizer_config: Changes of `tokenizer_config.json`.
        dtype: How weights are stored: "float32", "float16", "bfloat16".
        shards: Number of weight files.
        gain: Standard deviation of a matrix times the root of its columns.
        tied: The masked LM's decoder: "absent", "copied" or "untied".
        position_ids: Store the buffer of positions, as old versions did.
        stored_layers: Numbers of the layers in the weights, where they are not those of the config.
        pruned_heads: Layer to the heads that were cut out.
        ffn_widths: Inner width of each layer.
        pooling: `1_Pooling/config.json` of a sentence-transformers folder, beside the width.
        normalize: Add the sentence-transformers module `2_Normalize`.
        prompts: Prompts of a sentence-transformers folder.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = ARCHITECTURES[architecture]
    tokenizer_class = tokenizer or _TOKENIZER_CLASSES[architecture]
    names = labels or _LABELS.get(head, ())
    facts = _config(architecture, head, size, names, {"torch_dtype": dtype, **(config or {})})
    facts.setdefault("vocab_size", _VOCABULARY.get(tokenizer_class, _WORDPIECE))
    if pruned_heads:
        facts["pruned_heads"] = {layer: list(heads) for layer, heads in pruned_heads.items()}
    if tied == "untied":
        facts["tie_word_embeddings"] = False

    bare = head in ("encoder", "sentence_transformer")
    tensors = encoder(
        kind.names,
        facts,
        pooler=bare or (kind.names.pools and head == "sequence_classification"),
        stored_layers=stored_layers,
        pruned_heads={int(layer): heads for layer, heads in (pruned_heads or {}).items()},
        ffn_widths=ffn_widths,
    )
    if position_ids:
        tensors.append(Tensor("embeddings.position_ids", (1, int(facts["max_position_embeddings"])), "range"))
    if not bare:
        tensors = [replace(tensor, name=f"{kind.names.prefix}.{tensor.name}") for tensor in tensors]
        tensors += head_tensors(kind.names, facts, head, labels=len(names), tied=tied)
    write_safetensors(folder, tensors, seed=seed, gain=gain, dtype=dtype, shards=shards)
    write_json(folder / "config.json", facts)
    _write_tokenizer(folder, tokenizer_class, max_tokens(architecture, facts), tokenizer_config or {})
    if head == "sentence_transformer":
        width = int(facts.get("hidden_size", facts.get("dim")))
        _write_modules(folder, width, max_tokens(architecture, facts), pooling or {}, normalize, prompts)
    return folder


def max_tokens(architecture: str, config: Mapping[str, Any]) -> int:
    """Most tokens that the positions in `config` allow."""
    return int(config["max_position_embeddings"]) - ARCHITECTURES[architecture].offset


def _config(
    architecture: str, head: str, size: str, labels: Sequence[str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    kind = ARCHITECTURES[architecture]
    facts: dict[str, Any] = {
        "architectures": [kind.name + HEADS[head]],
        "model_type": architecture,
        "transformers_version": "4.57.6",
        **kind.config,
    }
    if labels:
        facts["id2label"] = {str(number): label for number, label in enumerate(labels)}
        facts["label2id"] = {label: number for number, label in enumerate(labels)}
    for key, value in {**_SIZES[size], **changes}.items():
        own = _DISTILBERT_KEYS.get(key, key) if architecture == "distilbert" else key
        facts[own] = value
    return {key: value for key, value in facts.items() if value is not None}


def _write_tokenizer(folder: Path, name: str, length: int, changes: Mapping[str, Any]) -> None:
    """The files of a tokenizer of class `name`."""
    own: dict[str, Any] = {}
    match name:
        case "RobertaTokenizer":
            byte_level(folder)
        case "XLMRobertaTokenizer" | "CamembertTokenizer":
            unigram(folder, "sentencepiece.bpe.model")
        case "AlbertTokenizer":
            unigram(folder, "spiece.model", ALBERT)
        case "LlamaTokenizer":
            byte_fallback(folder)
            own = {
                "pad_token": "[PAD]",
                "mask_token": "<mask>",
                "legacy": False,
                "add_eos_token": True,
                "padding_side": "right",
            }
        case "MPNetTokenizer":  # its special tokens lie where RoBERTa's do, since it counts positions as RoBERTa does
            words = (TOKENIZERS / "wordpiece" / "vocab.txt").read_text("utf-8").split("\n")
            lines = ["<s>", "<pad>", "</s>", "[UNK]", *words[5:-1], "<mask>", ""]
            (folder / "vocab.txt").write_text("\n".join(lines), "utf-8")
        case _:
            word_piece(folder)
    settings = {"tokenizer_class": name, "model_max_length": length, **own, **changes}
    write_json(folder / "tokenizer_config.json", settings)


def _write_modules(
    folder: Path,
    width: int,
    length: int,
    pooling: Mapping[str, Any],
    normalize: bool,
    prompts: Mapping[str, str] | None,
) -> None:
    """The files that sentence-transformers adds."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][: 3 if normalize else 2]
    rows = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", rows)
    for path, _ in modules[1:]:
        (folder / path).mkdir(exist_ok=True)
    modes = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": not pooling, "pooling_mode_max_tokens": False}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes, **pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    about = {"prompts": dict(prompts or {}), "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", about)
