"""Small random checkpoints of decoders, the same bytes every time: knows the folder that `save_pretrained` leaves.

`write_decoder` writes what transformers 4.57.6 would: `config.json`, `generation_config.json`, `model.safetensors` and
the files of a tokenizer of 384 ids. Weights are scaled so that logits spread over a few units and greedy text varies.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from checkpoint_tensors import Tensor, write_safetensors
from decoder_architectures import DECODERS, Architecture
from decoder_tensors import Cuts, number_of
from edgenlp_export.tokenizer import convert_tokenizer
from edgenlp_export.tokenizer.sentencepiece import SentencePieceModel, read_sentencepiece
from tokenizer_folders import GEMMA, TOKENIZERS, model_bytes, with_heads, write_json

__all__ = ["DECODERS", "VOCABULARY", "buffers_of", "write_decoder"]

VOCABULARY = 384
_BYTES = 256
# Class of the tokenizer to the ids of its special tokens, as they stand in the config.
_BYTE_LEVEL = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
_SPECIAL = {
    "GPT2Tokenizer": _BYTE_LEVEL,
    "Qwen2Tokenizer": _BYTE_LEVEL,
    "LlamaTokenizer": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    "GemmaTokenizer": {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
}


def write_decoder(
    folder: Path,
    *,
    architecture: str,
    seed: int,
    config: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
    gain: float | None = None,
    dtype: str = "float32",
    shards: int = 1,
    head: str | None = None,
    prefix: bool = True,
    buffers: bool = False,
    stored_layers: Sequence[int] | None = None,
    pruned_heads: Mapping[str, Sequence[int]] | None = None,
    ffn_widths: Sequence[int] | None = None,
    generation: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint into `folder`, made if need be.

    Every argument is plain JSON, so that a golden answer can say which checkpoint it belongs to.

    Args:
        folder: Where the files go.
        architecture: One of `DECODERS`.
        seed: Seeds the weights.
        config: Changes of `config.json`.
        left_out: Keys that it does not have, so that transformers takes its own defaults.
        gain: Standard deviation of a matrix times the root of its columns; None for the architecture's own.
        dtype: How weights are stored: "float32", "float16", "bfloat16".
        shards: Number of weight files.
        head: The language modelling head: "absent" (tied, as transformers saves it), "copied" (tied and stored twice) or
            "untied"; None for what the config says.
        prefix: Whether names begin with the base model's, as in a model with a head; without, the head is absent.
        buffers: Store the masks and frequencies that old versions did; their values are random, for nobody may use them.
        stored_layers: Numbers of the layers in the weights, where they are not those of the config.
        pruned_heads: Layer to the heads that were cut out (GPT-2 and GPT).
        ffn_widths: Inner width of each layer.
        generation: Changes of `generation_config.json`.
        tokenizer: Class of the tokenizer, where it is another than the architecture's own.
        tokenizer_config: Changes of `tokenizer_config.json`.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = DECODERS[architecture]
    name = tokenizer or kind.tokenizer
    special = _SPECIAL[name]
    facts: dict[str, Any] = {
        "architectures": [kind.name],
        "model_type": architecture,
        "transformers_version": "4.57.6",
        "torch_dtype": dtype,
        "vocab_size": VOCABULARY,
        **kind.config,
        **special,
        **(config or {}),
    }
    if pruned_heads:
        facts["pruned_heads"] = {layer: list(heads) for layer, heads in pruned_heads.items()}
    if head == "untied":
        facts["tie_word_embeddings"] = False
    facts = {key: value for key, value in facts.items() if key not in left_out}

    count = number_of(facts, "num_hidden_layers", "num_layers", "n_layer")
    layers = range(count) if stored_layers is None else stored_layers
    heads = {int(layer): tuple(numbers) for layer, numbers in (pruned_heads or {}).items()}
    cuts = {
        layer: Cuts(heads.get(layer, ()), None if ffn_widths is None else ffn_widths[place])
        for place, layer in enumerate(layers)
    }
    tensors = _tensors(kind, facts, cuts, head or _head(facts), prefix)
    if buffers:
        tensors += [Tensor(name, shape, "bias") for name, shape in buffers_of(architecture, layers, prefix).items()]
    write_safetensors(folder, tensors, seed=seed, gain=kind.gain if gain is None else gain, dtype=dtype, shards=shards)
    write_json(folder / "config.json", facts)
    ids = {key: facts[key] for key in special if key in facts}
    write_json(
        folder / "generation_config.json",
        {"_from_model_config": True, "transformers_version": "4.57.6", **ids, **(generation or {})},
    )
    _write_tokenizer(folder, name, tokenizer_config or {})
    return folder


def buffers_of(architecture: str, layers: Sequence[int], prefix: bool = True) -> dict[str, tuple[int, ...]]:
    """Name to shape of what old versions of transformers stored beside the weights."""
    kind = DECODERS[architecture]
    base = kind.base if prefix else _short(kind.base)
    return {base + kind.layers.format(layer) + name: shape for layer in layers for name, shape in kind.buffers.items()}


def _head(config: Mapping[str, Any]) -> str:
    return "absent" if config.get("tie_word_embeddings", True) else "untied"


def _short(base: str) -> str:
    """The base's name inside itself: "model.decoder." becomes "decoder."."""
    return base.partition(".")[2]


def _tensors(
    kind: Architecture, config: Mapping[str, Any], cuts: Mapping[int, Cuts], head: str, prefix: bool
) -> list[Tensor]:
    base = kind.base if prefix else _short(kind.base)
    # OPT's words may be narrower than its layers.
    width = number_of(config, "word_embed_proj_dim", "hidden_size", "n_embd")
    shape = (int(config["vocab_size"]), width)
    words = Tensor(f"{base}{kind.words}.weight", shape, "bias" if kind.faint else "matrix")
    tensors = [words, *(replace(tensor, name=base + tensor.name) for tensor in kind.around(config))]
    for layer, cut in cuts.items():
        path = base + kind.layers.format(layer)
        tensors += [replace(tensor, name=path + tensor.name) for tensor in kind.layer(config, cut)]
    if head != "absent":
        copied = head == "copied"
        draw = words.name if copied else None
        tensors.append(Tensor(f"{kind.head}.weight", shape, words.kind if copied else "matrix", draw=draw))
    if kind.head_bias:
        tensors.append(Tensor(f"{kind.head}.bias", shape[:1], "bias"))
    return tensors


def _write_tokenizer(folder: Path, name: str, changes: Mapping[str, Any]) -> None:
    """The files of a tokenizer of class `name` with `VOCABULARY` ids: the first ones of the committed vocabularies."""
    if name in ("GPT2Tokenizer", "Qwen2Tokenizer"):
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        _write_byte_level(folder)
        if name == "Qwen2Tokenizer":  # which is only read from tokenizer.json
            write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", **named})
            (folder / "tokenizer.json").write_text(convert_tokenizer(folder, {})[0], "utf-8")
    else:
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "legacy": False}
        if name == "GemmaTokenizer":
            named |= {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
        _write_byte_fallback(folder, gemma=name == "GemmaTokenizer")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": name, "model_max_length": 128, **named, **changes})


def _write_byte_level(folder: Path) -> None:
    source = TOKENIZERS / "bytelevel"
    ids = json.loads((source / "vocab.json").read_text("utf-8"))
    ids = {token: number for token, number in ids.items() if number < VOCABULARY}
    first, *merges = (source / "merges.txt").read_text("utf-8").splitlines()
    merges = [line for line in merges if line.replace(" ", "") in ids]
    write_json(folder / "vocab.json", ids)
    (folder / "merges.txt").write_text("\n".join([first, *merges, ""]), "utf-8")


def _write_byte_fallback(folder: Path, *, gemma: bool) -> None:
    model = read_sentencepiece(TOKENIZERS / "bpe" / "bpe.model")
    if gemma:
        model = with_heads(model, GEMMA)
    fixed = len(GEMMA) + 1 + _BYTES if gemma else 4 + _BYTES
    # The last pieces are single characters: merged pieces mean something only where their characters are pieces too.
    letters = [piece for piece in model.pieces[fixed:] if piece.text.isascii() and len(piece.text) == 1]
    letters.append(next(piece for piece in model.pieces[fixed:] if piece.text == "▁"))
    known = {piece.text for piece in letters}
    merged = [piece for piece in model.pieces[fixed:] if len(piece.text) > 1 and set(piece.text) <= known]
    room = VOCABULARY - fixed - len(letters)
    pieces = (*model.pieces[:fixed], *merged[:room], *letters)
    (folder / "tokenizer.model").write_bytes(model_bytes(SentencePieceModel(**{**vars(model), "pieces": pieces})))
