"""Small random checkpoints of encoder-decoders, the same bytes every time: knows the folder that `save_pretrained` leaves.

`write_seq2seq` writes what transformers 4.57.6 would: `config.json`, `generation_config.json`, `model.safetensors` and
the files of a tokenizer of 384 ids. Weights are scaled so that logits spread over a few units and greedy text varies.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from checkpoint_tensors import Tensor, write_safetensors
from edgenlp_export.tokenizer import convert_tokenizer
from edgenlp_export.tokenizer.sentencepiece import Kind, SentencePieceModel, read_sentencepiece
from seq2seq_architectures import SEQ2SEQ, VOCABULARY, Architecture
from seq2seq_tensors import SIDES, Cuts
from tokenizer_folders import T5, TOKENIZERS, model_bytes, with_heads, write_json

__all__ = ["SEQ2SEQ", "VOCABULARY", "write_seq2seq"]

_GENERATION = (
    "bos_token_id",
    "decoder_start_token_id",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "pad_token_id",
)
_WORDS = {"shared": "shared", "encoder": "encoder.embed_tokens", "decoder": "decoder.embed_tokens"}


def write_seq2seq(
    folder: Path,
    *,
    architecture: str,
    seed: int,
    config: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
    gain: float | None = None,
    dtype: str = "float32",
    shards: int = 1,
    words: Sequence[str] | None = None,
    head: str | None = None,
    prefix: bool = True,
    tables: bool | None = None,
    logits_bias: bool = True,
    stored_layers: Mapping[str, Sequence[int]] | None = None,
    pruned_heads: Mapping[str, Sequence[int]] | None = None,
    ffn_widths: Mapping[str, Sequence[int]] | None = None,
    generation: Mapping[str, Any] | None = None,
    tokenizer: str | None = None,
    tokenizer_config: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint into `folder`, made if need be.

    Every argument is plain JSON, so that a golden answer can say which checkpoint it belongs to.

    Args:
        folder: Where the files go.
        architecture: One of `SEQ2SEQ`.
        seed: Seeds the weights.
        config: Changes of `config.json`.
        left_out: Keys that it does not have, so that transformers takes its own defaults.
        gain: Standard deviation of a matrix times the root of its columns; None for the architecture's own.
        dtype: How weights are stored: "float32", "float16", "bfloat16".
        shards: Number of weight files.
        words: Where the word table is stored: "shared", "encoder", "decoder"; tables of one checkpoint are alike, unless the
            class and config say that encoder and decoder do not share them. None for what transformers stores.
        head: The language modelling head: "absent" (tied, as transformers saves it), "copied" (tied and stored twice) or
            "untied"; None for what the config says.
        prefix: Whether names begin with the base model's, as in a model with a head; without, head and bias are absent.
        tables: Whether Marian's and Pegasus' tables of positions are stored, of random values; None for what transformers does.
        logits_bias: Whether there is a bias of the logits, where the class has one.
        stored_layers: Side to the numbers of the layers in the weights, where they are not those of the config.
        pruned_heads: "encoder.0", "decoder.0", "cross.0" to the heads that were cut out; a T5's config names those of the encoder.
        ffn_widths: Side to the inner width of each layer.
        generation: Changes of `generation_config.json`.
        tokenizer: Class of the tokenizer, where it is another than the architecture's own; one of
            T5, Bart, Blenderbot, MBart, MBart50, Nllb, Pegasus, Marian, M2M100 with "Tokenizer", or PreTrainedTokenizerFast.
        tokenizer_config: Changes of `tokenizer_config.json`.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = SEQ2SEQ[architecture]
    facts: dict[str, Any] = {
        "architectures": [kind.name],
        "model_type": kind.model_type,
        "transformers_version": "4.57.6",
        "dtype": dtype,
        "vocab_size": VOCABULARY,
        **kind.config,
        **(config or {}),
    }
    if pruned_heads and "d_kv" in facts:
        cut = {key.removeprefix("encoder."): list(heads) for key, heads in pruned_heads.items() if "encoder." in key}
        facts["pruned_heads"] = cut
    if head == "untied":
        facts["tie_word_embeddings"] = False
    sizes, facts = facts, {key: value for key, value in facts.items() if key not in left_out}

    tensors = _words(kind, sizes, words, head or ("absent" if _tied(sizes) else "untied"))
    for side in SIDES:
        stored = tables if tables is not None else kind.tables
        tensors += _under(f"{kind.base}{side}.", kind.kin.around(sizes, tables=stored))
        cuts = _cuts(sizes, side, (stored_layers or {}).get(side), pruned_heads or {}, (ffn_widths or {}).get(side))
        for number, cut in cuts.items():
            path = f"{kind.base}{side}.{kind.layers.format(number)}"
            tensors += _under(path, kind.kin.layer(sizes, side, number, cut))
    if kind.logits_bias and logits_bias:
        tensors.append(Tensor("final_logits_bias", (1, _columns(sizes)), "bias"))
    if not prefix:
        body = [item for item in tensors if item.name not in ("lm_head.weight", "final_logits_bias")]
        tensors = [replace(item, name=item.name.removeprefix(kind.base)) for item in body]
    write_safetensors(folder, tensors, seed=seed, gain=kind.gain if gain is None else gain, dtype=dtype, shards=shards)
    write_json(folder / "config.json", facts)
    said = {key: facts[key] for key in _GENERATION if key in facts}
    write_json(
        folder / "generation_config.json",
        {"_from_model_config": True, **said, "transformers_version": "4.57.6", **kind.generation, **(generation or {})},
    )
    _write_tokenizer(folder, tokenizer or kind.tokenizer, sizes, tokenizer_config or {})
    return folder


def _tied(config: Mapping[str, Any]) -> bool:
    return bool(config.get("tie_word_embeddings", True))


def _columns(config: Mapping[str, Any]) -> int:
    """Of the logits."""
    shared = config.get("share_encoder_decoder_embeddings", True)
    return int(config["vocab_size" if shared else "decoder_vocab_size"])


def _under(path: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [replace(tensor, name=path + tensor.name) for tensor in tensors]


def _words(kind: Architecture, config: Mapping[str, Any], stored: Sequence[str] | None, head: str) -> list[Tensor]:
    """Word tables and the head."""
    separate = not config.get("share_encoder_decoder_embeddings", True)
    own = separate or (kind.own_words and not _tied(config))
    shape = (int(config["vocab_size"]), int(config["d_model"]))
    first = f"{kind.base}{'decoder.embed_tokens' if separate else 'shared'}.weight"
    # Scaled up, and added to what is never normalized, words have to be small for text to vary
    drawn = "bias" if config.get("scale_embedding") and kind.kin.final_norm else "matrix"
    tensors = [
        Tensor(f"{kind.base}{_WORDS[place]}.weight", shape, drawn, draw=None if own else first)
        for place in stored or (SIDES if separate else ("shared",))
    ]
    if head != "absent":
        draw = first if head == "copied" else None
        tensors.append(Tensor("lm_head.weight", (_columns(config), shape[1]), drawn if draw else "matrix", draw=draw))
    return tensors


def _cuts(
    config: Mapping[str, Any],
    side: str,
    stored: Sequence[int] | None,
    heads: Mapping[str, Sequence[int]],
    widths: Sequence[int] | None,
) -> dict[int, Cuts]:
    """Number to cuts of each layer of a side."""
    keys = ("encoder_layers", "num_layers") if side == "encoder" else ("decoder_layers", "num_decoder_layers")
    count = next(int(config[key]) for key in keys if config.get(key) is not None)
    return {
        layer: Cuts(
            tuple(heads.get(f"{side}.{layer}", ())),
            tuple(heads.get(f"cross.{layer}", ())) if side == "decoder" else (),
            None if widths is None else widths[place],
        )
        for place, layer in enumerate(range(count) if stored is None else stored)
    }


def _write_tokenizer(folder: Path, name: str, config: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """The files of a tokenizer of class `name` with as many ids as the model."""
    values = {"tokenizer_class": name, "model_max_length": 128}
    if name in ("BartTokenizer", "BlenderbotTokenizer"):
        _write_byte_level(folder)
    elif name == "MarianTokenizer":
        values |= _write_marian(folder, config)
    elif name == "M2M100Tokenizer":
        values |= _write_m2m(folder)
    elif name == "PreTrainedTokenizerFast":
        values |= _write_generic(folder, config)
    else:
        file, heads, others = _PIECES[name]
        _write_pieces(folder / file, VOCABULARY - others, heads)
    write_json(folder / "tokenizer_config.json", {**values, **changes})


# Class to its vocabulary's file, the pieces that this begins with (its own three if there are none), and how many ids are no pieces:
# <extra_id_N>; one more than in the model, 25, 52 and 202 languages and <mask>; <mask_1> and its like
_PIECES = {
    "T5Tokenizer": ("spiece.model", T5, 100),
    "MBartTokenizer": ("sentencepiece.bpe.model", None, 1 + 25 + 1),
    "MBart50Tokenizer": ("sentencepiece.bpe.model", None, 1 + 52 + 1),
    "NllbTokenizer": ("sentencepiece.bpe.model", None, 1 + 202 + 1),
    "PegasusTokenizer": ("spiece.model", T5, 103),
}
_M2M_LANGUAGES, _M2M_UNUSED = 100, 8


def _pieces(count: int, skipped: int = 0) -> SentencePieceModel:
    """A model of `count` pieces: letters, and the first other ones behind `skipped` that are left out."""
    model = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model")
    normal = model.pieces[3:]
    letters = [piece for piece in normal if len(piece.text) == 1 and (piece.text.isascii() or piece.text == "▁")]
    others = [piece for piece in normal if len(piece.text) > 1][skipped:]
    pieces = (*model.pieces[:3], *letters, *others[: count - 3 - len(letters)])
    return SentencePieceModel(**{**vars(model), "pieces": pieces})


def _write_pieces(path: Path, count: int, heads: Sequence[tuple[str, Kind]] | None) -> None:
    model = _pieces(count)
    path.write_bytes(model_bytes(with_heads(model, heads) if heads else model))


def _write_byte_level(folder: Path) -> None:
    source = TOKENIZERS / "bytelevel"
    ids = json.loads((source / "vocab.json").read_text("utf-8"))
    ids = {token: number for token, number in ids.items() if number < VOCABULARY}
    first, *merges = (source / "merges.txt").read_text("utf-8").splitlines()
    merges = [line for line in merges if line.replace(" ", "") in ids]
    write_json(folder / "vocab.json", ids)
    (folder / "merges.txt").write_text("\n".join([first, *merges, ""]), "utf-8")


def _write_marian(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Two sides, whose pieces are the same but for a few; padding has the same id in both vocabularies."""
    source, target = _pieces(300), _pieces(300, skipped=20)
    (folder / "source.spm").write_bytes(model_bytes(source))
    (folder / "target.spm").write_bytes(model_bytes(target))
    own, other = ([piece.text for piece in model.pieces[3:]] for model in (source, target))
    values: dict[str, Any] = {"source_lang": "en", "target_lang": "fr"}
    pad = int(config["pad_token_id"])
    if config.get("share_encoder_decoder_embeddings", True):
        tables = {"vocab.json": ([*own, *other], int(config["vocab_size"]))}
    else:
        values["separate_vocabs"] = True
        sizes = (int(config["vocab_size"]), int(config["decoder_vocab_size"]))
        tables = {"vocab.json": (own, sizes[0]), "target_vocab.json": (other, sizes[1])}
    for file, (texts, size) in tables.items():
        names = list(dict.fromkeys(["</s>", "<unk>", *texts]))
        names += [f">>{number:03d}<<" for number in range(size - 1 - len(names))]
        names.insert(pad, "<pad>")
        write_json(folder / file, {token: number for number, token in enumerate(names)})
    return values


def _write_m2m(folder: Path) -> dict[str, Any]:
    """M2M100's vocabulary, which numbers the pieces; languages follow."""
    size = VOCABULARY - _M2M_LANGUAGES - _M2M_UNUSED
    model = _pieces(size - 1)
    (folder / "sentencepiece.bpe.model").write_bytes(model_bytes(model))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(piece.text for piece in model.pieces[3:])]
    write_json(folder / "vocab.json", {token: number for number, token in enumerate(names)})
    return {"src_lang": "en", "tgt_lang": "fr"}


def _write_generic(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer.json alone, which puts </s> behind a text; its special tokens have the config's ids."""
    roles = {"bos": "<s>", "pad": "<pad>", "eos": "</s>"}
    ids = {int(config[f"{role}_token_id"]): token for role, token in roles.items() if f"{role}_token_id" in config}
    heads = [(ids[number], Kind.CONTROL) for number in sorted(ids)] + [("<unk>", Kind.UNKNOWN)]
    _write_pieces(folder / "spiece.model", VOCABULARY + 3 - len(heads), heads)
    names = {f"{role}_token": token for role, token in roles.items() if token in ids.values()} | {"unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "legacy": False})
    (folder / "tokenizer.json").write_text(convert_tokenizer(folder, {})[0], "utf-8")
    (folder / "spiece.model").unlink()
    return names
