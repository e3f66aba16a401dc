"""Small random checkpoints of an encoder and a decoder put together: knows the folder that EncoderDecoderModel.save_pretrained leaves.

`write_composite` writes what transformers 4.57.6 would: `config.json` with both configs, `generation_config.json`, the weights
and the files of the encoder's tokenizer, whose vocabulary the decoder shares. `write_classifier` does so for BART as a classifier.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from checkpoint_architectures import ARCHITECTURES
from checkpoint_tensors import Layer, Tensor, encoder, head_tensors, write_safetensors
from checkpoints import NLI, write_checkpoint
from decoder_architectures import DECODERS
from decoder_tensors import Cuts
from seq2seq_checkpoints import write_seq2seq
from tokenizer_folders import write_json

__all__ = ["COMPOSED_DECODERS", "write_classifier", "write_composite"]

COMPOSED_DECODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "gpt2")
# Architecture of the encoder to the ids that its tokenizer begins, ends and pads a text with.
_SPECIAL = {"albert": (2, 3, 0), "camembert": (5, 6, 1)}
_BERT_SPECIAL, _ROBERTA_SPECIAL = (2, 3, 0), (0, 2, 1)
_CLASSES = {"roberta": "RobertaForCausalLM", "xlm-roberta": "XLMRobertaForCausalLM", "bert": "BertLMHeadModel"}
_SPECIAL_KEYS = ("bos_token_id", "eos_token_id", "pad_token_id")


def write_composite(
    folder: Path,
    *,
    encoder: str,
    decoder: str,
    seed: int,
    config: Mapping[str, Any] | None = None,
    encoder_config: Mapping[str, Any] | None = None,
    decoder_config: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
    shared: bool = False,
    head: str = "absent",
    pruned_heads: Mapping[str, Sequence[int]] | None = None,
    decoder_pruned_heads: Mapping[str, Sequence[int]] | None = None,
    ffn_widths: Sequence[int] | None = None,
    gain: float | None = None,
    dtype: str = "float32",
    shards: int = 1,
    generation: Mapping[str, Any] | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint into `folder`, made if need be.

    Every argument is plain JSON, so that a golden answer can say which checkpoint it belongs to.

    Args:
        folder: Where the files go.
        encoder: One of `checkpoints.ARCHITECTURES`.
        decoder: One of `COMPOSED_DECODERS`.
        seed: Seeds the weights.
        config: Changes of `config.json`; a key with the value None is taken out.
        encoder_config: Changes of its part "encoder", by BERT's names of keys.
        decoder_config: Changes of its part "decoder".
        left_out: Keys that neither part has, so that transformers takes its own defaults.
        shared: Whether encoder and decoder share their weights (tie_encoder_decoder), which are then stored as the decoder's.
        head: The language modelling head: "absent" (tied, as transformers saves it), "copied" (tied and stored twice) or "untied".
        pruned_heads: Layer of the encoder to the heads that were cut out.
        decoder_pruned_heads: The same of the decoder's self-attention.
        ffn_widths: Inner width of each of the decoder's layers.
        gain: Standard deviation of a matrix times the root of its columns; None for one with which greedy text varies.
        dtype: How weights are stored: "float32", "float16", "bfloat16".
        shards: Number of weight files.
        generation: Changes of `generation_config.json`; a key with the value None is taken out.
        tokenizer_config: Changes of `tokenizer_config.json`.

    Returns:
        `folder`.
    """
    write_checkpoint(
        folder, encoder, "encoder", seed=seed, config=encoder_config, tokenizer_config=tokenizer_config,
        pruned_heads=pruned_heads,
    )  # fmt: skip
    (folder / "model.safetensors").unlink()
    reads = json.loads((folder / "config.json").read_text("utf-8"))
    writes = _decoder_config(decoder, reads, decoder_config or {})
    if head == "untied":
        writes["tie_word_embeddings"] = False
    if decoder_pruned_heads:
        writes["pruned_heads"] = {layer: list(heads) for layer, heads in decoder_pruned_heads.items()}
    widths = (reads.get("hidden_size", reads.get("dim")), writes.get("hidden_size", writes.get("n_embd")))

    read = _encoder_tensors(encoder, reads, pruned_heads or {})
    written = _decoder_tensors(decoder, writes, head, decoder_pruned_heads or {}, ffn_widths)
    if shared:
        base = f"decoder.{ARCHITECTURES[decoder].names.prefix}."
        there = {tensor.name for tensor in written}
        read = [tensor for tensor in read if base + tensor.name.removeprefix("encoder.") not in there]
    tensors = [*read, *written]
    if widths[0] != widths[1]:
        tensors.append(Tensor("enc_to_dec_proj.weight", (widths[1], widths[0]), "matrix"))
        tensors.append(Tensor("enc_to_dec_proj.bias", (widths[1],), "bias"))
    usual = 2.0 if decoder == "gpt2" else 0.8
    write_safetensors(folder, tensors, seed=seed, gain=usual if gain is None else gain, dtype=dtype, shards=shards)

    start, end, padding = _special(encoder)
    ids = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": padding}
    parts = ({key: value for key, value in part.items() if key not in left_out} for part in (reads, writes))
    facts = {
        "architectures": ["EncoderDecoderModel"],
        "model_type": "encoder-decoder",
        "is_encoder_decoder": True,
        "transformers_version": "4.57.6",
        "dtype": dtype,
        **({"tie_encoder_decoder": True} if shared else {}),
        **ids,
        **dict(zip(("encoder", "decoder"), parts, strict=True)),
        **(config or {}),
    }
    write_json(folder / "config.json", {key: value for key, value in facts.items() if value is not None})
    options = {"_from_model_config": True, "transformers_version": "4.57.6", **ids, **(generation or {})}
    write_json(folder / "generation_config.json", {key: value for key, value in options.items() if value is not None})
    return folder


def write_classifier(
    folder: Path,
    *,
    architecture: str = "bart",
    seed: int,
    labels: Sequence[str] = NLI,
    config: Mapping[str, Any] | None = None,
    gain: float = 1.5,
    **options: Any,
) -> Path:
    """Write a BartForSequenceClassification or MBartForSequenceClassification into `folder`, made if need be.

    Args:
        folder: Where the files go.
        architecture: "bart" or "mbart".
        seed: Seeds the weights.
        labels: Names of the labels.
        config: Changes of `config.json`.
        gain: Standard deviation of a matrix times the root of its columns.
        options: As of `seq2seq_checkpoints.write_seq2seq`; one file of float32 only.

    Returns:
        `folder`.
    """
    names = {"bart": "BartForSequenceClassification", "mbart": "MBartForSequenceClassification"}
    facts = {
        "architectures": [names[architecture]],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
        **(config or {}),
    }
    write_seq2seq(
        folder,
        architecture=architecture,
        seed=seed,
        config=facts,
        gain=gain,
        logits_bias=False,
        head="absent",
        **options,
    )
    (folder / "generation_config.json").unlink()  # which only models that write are saved with
    width = int(json.loads((folder / "config.json").read_text("utf-8"))["d_model"])
    head = [
        Tensor("classification_head.dense.weight", (width, width), "matrix"),
        Tensor("classification_head.dense.bias", (width,), "bias"),
        Tensor("classification_head.out_proj.weight", (len(labels), width), "matrix"),
        Tensor("classification_head.out_proj.bias", (len(labels),), "bias"),
    ]
    aside = folder / "head"
    aside.mkdir()
    write_safetensors(aside, head, seed=seed, gain=gain)
    _append(folder / "model.safetensors", aside / "model.safetensors")
    (aside / "model.safetensors").unlink()
    aside.rmdir()
    return folder


def _append(file: Path, other: Path) -> None:
    """Add the tensors of another safetensors file."""
    header: dict[str, Any] = {}
    content = b""
    for each in (file, other):
        data = each.read_bytes()
        size = 8 + int.from_bytes(data[:8], "little")
        for name, facts in json.loads(data[8:size]).items():
            if "data_offsets" in facts:
                facts["data_offsets"] = [len(content) + offset for offset in facts["data_offsets"]]
            header[name] = facts
        content += data[size:]
    table = json.dumps(header, separators=(",", ":")).encode()
    table += b" " * (-len(table) % 8)
    file.write_bytes(len(table).to_bytes(8, "little") + table + content)


def _special(architecture: str) -> tuple[int, int, int]:
    """Begin, end and padding of the architecture's tokenizer."""
    offset = ARCHITECTURES[architecture].offset
    return _SPECIAL.get(architecture, _ROBERTA_SPECIAL if offset else _BERT_SPECIAL)


def _decoder_config(decoder: str, reads: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's part of config.json, with the encoder's vocabulary."""
    vocabulary = {"vocab_size": reads["vocab_size"], "is_decoder": True, "add_cross_attention": True}
    if decoder == "gpt2":
        special = dict(zip(_SPECIAL_KEYS, _special(reads["model_type"]), strict=True))
        return {"architectures": ["GPT2LMHeadModel"], "model_type": decoder, **DECODERS["gpt2"].config,
                **special, **vocabulary, **changes}  # fmt: skip
    kind = ARCHITECTURES[decoder]
    name = _CLASSES.get(decoder, f"{kind.name}ForCausalLM")
    return {"architectures": [name], "model_type": decoder, **kind.config, **vocabulary, **changes}


def _encoder_tensors(architecture: str, config: Mapping[str, Any], pruned: Mapping[str, Sequence[int]]) -> list[Tensor]:
    names = ARCHITECTURES[architecture].names
    heads = {int(layer): numbers for layer, numbers in pruned.items()}
    return _under("encoder.", encoder(names, config, pooler=True, pruned_heads=heads))


def _decoder_tensors(
    architecture: str,
    config: Mapping[str, Any],
    head: str,
    pruned: Mapping[str, Sequence[int]],
    ffn_widths: Sequence[int] | None,
) -> list[Tensor]:
    heads = {int(layer): tuple(numbers) for layer, numbers in pruned.items()}
    if architecture == "gpt2":
        return _gpt2_tensors(config, head, heads, ffn_widths)
    kind = ARCHITECTURES[architecture]
    base = f"{kind.names.prefix}."
    body = encoder(kind.names, config, pooler=False, pruned_heads=heads, ffn_widths=ffn_widths)
    for number in range(int(config["num_hidden_layers"])):
        body += _cross(kind.names.layer, kind.names.layer.path.format(number), int(config["hidden_size"]))
    return _under(
        "decoder.", [*_under(base, body), *head_tensors(kind.names, config, "masked_lm", labels=0, tied=head)]
    )


def _cross(names: Layer, path: str, width: int) -> list[Tensor]:
    """A BERT layer's cross-attention, which is named as its self-attention is."""
    tensors = []
    for name in (names.query, names.key, names.value, names.out):
        place = path + name.replace("attention.", "crossattention.", 1)
        tensors += [Tensor(f"{place}.weight", (width, width), "matrix"), Tensor(f"{place}.bias", (width,), "bias")]
    place = path + names.norm1.replace("attention.", "crossattention.", 1)
    return [*tensors, Tensor(f"{place}.weight", (width,), "scale"), Tensor(f"{place}.bias", (width,), "bias")]


def _gpt2_tensors(
    config: Mapping[str, Any], head: str, pruned: Mapping[int, tuple[int, ...]], ffn_widths: Sequence[int] | None
) -> list[Tensor]:
    kind = DECODERS["gpt2"]
    width, rows = int(config["n_embd"]), int(config["vocab_size"])
    words = Tensor("transformer.wte.weight", (rows, width), "matrix")
    tensors = [words, *_under("transformer.", kind.around(config))]
    for layer in range(int(config["n_layer"])):
        cuts = Cuts(pruned.get(layer, ()), None if ffn_widths is None else ffn_widths[layer])
        path = f"transformer.h.{layer}."
        tensors += _under(path, kind.layer(config, cuts))
        for name, columns in (("c_attn", 2 * width), ("q_attn", width), ("c_proj", width)):
            place = f"{path}crossattention.{name}"
            tensors += [
                Tensor(f"{place}.weight", (width, columns), "matrix"),
                Tensor(f"{place}.bias", (columns,), "bias"),
            ]
        norm = f"{path}ln_cross_attn"
        tensors += [Tensor(f"{norm}.weight", (width,), "scale"), Tensor(f"{norm}.bias", (width,), "bias")]
    if head != "absent":
        draw = words.name if head == "copied" else None
        tensors.append(Tensor("lm_head.weight", (rows, width), "matrix", draw=draw))
    return _under("decoder.", tensors)


def _under(prefix: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors with a longer name."""
    return [replace(tensor, name=prefix + tensor.name, draw=tensor.draw and prefix + tensor.draw) for tensor in tensors]
