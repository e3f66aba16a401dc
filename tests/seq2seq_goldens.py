"""The recorded answers of transformers for encoder-decoders: their checkpoints, inputs and options. Runs no model."""

import itertools
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from composite_checkpoints import write_composite
from goldens import GOLDENS
from numpy.typing import NDArray
from seq2seq_checkpoints import SEQ2SEQ, VOCABULARY, write_seq2seq

__all__ = [
    "BEAMS",
    "CALLS",
    "ENDS",
    "GREEDY",
    "MODELS",
    "OLD",
    "Golden",
    "case_of",
    "kept",
    "load_answers",
    "load_seq2seq",
    "prefixes_of",
    "sources_of",
    "targets_of",
    "write_case",
]

_SOURCES = (1, 6, 17, 40)  # the last is farther than every table of relative positions tells apart
_TARGETS = (1, 3, 12, 30)  # the token before the target apart
_PREFIXES = (0, 2, 5, 1)
_COLUMNS = 4  # kept of each row
_SMALLEST = 5  # the first id that is no special token

Json = dict[str, Any]

# Random weights seldom end a text: more tokens do than usual.
ENDS = list(range(11, 335, 29))
GREEDY: Json = {"max_new_tokens": 24, "no_repeat_ngram_size": 2}  # without, random weights write loops
BEAMS: Json = {"num_beams": 4, "num_return_sequences": 2, "max_new_tokens": 16, "eos_token_id": ENDS}


def _case(architecture: str, **values: Any) -> Json:
    return {"architecture": architecture, **values}


def _config(architecture: str, **config: Any) -> Json:
    return _case(architecture, config=config)


def _put(encoder: str, decoder: str, **values: Any) -> Json:
    return {"encoder": encoder, "decoder": decoder, **values}


_PAIRS = (
    ("bert", "bert"),
    ("roberta", "roberta"),
    ("bert", "gpt2"),
    ("roberta", "gpt2"),
    ("distilbert", "bert"),
    ("electra", "roberta"),
    ("xlm-roberta", "camembert"),
    ("albert", "bert"),
    ("mpnet", "roberta"),
)
_PRUNED = {
    "encoder.0": [1],
    "encoder.1": [0, 3],
    "decoder.0": [2],
    "decoder.2": [0, 1],
    "cross.0": [3],
    "cross.1": [0, 2],
}
_WIDTHS = {"encoder": [40, 96, 72], "decoder": [24, 56, 96]}

MODELS: Mapping[str, Json] = {
    **{name: _case(name) for name in SEQ2SEQ},
    # depths, cuts and missing layers
    "t5, four and one": _config("t5", num_layers=4, num_decoder_layers=1),
    "t5, one and four": _config("t5", num_layers=1, num_decoder_layers=4),
    "umt5, one and two": _config("umt5", num_layers=1, num_decoder_layers=2),
    "marian, six heads": _config("marian", d_model=96, encoder_attention_heads=6, decoder_attention_heads=3),
    "t5, pruned heads": _case("t5", pruned_heads={"encoder.0": [1], "encoder.1": [0, 3]}),
    "bart, pruned heads": _case("bart", pruned_heads=_PRUNED),
    "pegasus, pruned heads": _case("pegasus", pruned_heads=_PRUNED),
    "t5-gated, narrow layers": _case("t5-gated", ffn_widths=_WIDTHS),
    "marian, narrow layers": _case("marian", ffn_widths=_WIDTHS),
    "bart, missing layers": _case("bart", config={"encoder_layers": 3}, stored_layers={"encoder": [0, 2], "decoder": [0, 2]}),
    "t5, missing layer": _case("t5", config={"num_decoder_layers": 3}, stored_layers={"decoder": [0, 2]}),
    # sizes of heads
    "t5, heads of 4": _config("t5", d_kv=4),
    "t5, heads of 24": _config("t5", d_kv=24, num_heads=5),
    "m2m_100, heads of 4": _config("m2m_100", d_model=32, encoder_attention_heads=8, decoder_attention_heads=8),
    "bart, heads of 12": _config("bart", d_model=48),
    # words, heads and biases
    "t5, untied": _case("t5", head="untied", gain=2.5),
    "t5, tied and stored": _case("t5", head="copied", words=["shared", "encoder", "decoder"]),
    "bart, untied": _case("bart", head="untied", words=["shared", "encoder", "decoder"]),
    "marian, tied and stored": _case("marian", head="copied", words=["shared", "encoder", "decoder"], tables=True),
    "bart, no bias": _case("bart", logits_bias=False),
    "bart, no prefix": _case("bart", prefix=False),
    "m2m_100, no prefix": _case("m2m_100", prefix=False),
    # numbers and functions
    "t5, other buckets": _config("t5", relative_attention_num_buckets=8, relative_attention_max_distance=64),
    "t5, few keys": _case(
        "t5", left_out=["feed_forward_proj", "layer_norm_epsilon", "relative_attention_max_distance", "tie_word_embeddings"]
    ),
    "t5, as wide inside": _config("t5", d_kv=8, num_heads=8, layer_norm_epsilon=0.1),
    "bart, scaled": _config("bart", scale_embedding=True, activation_function="relu"),
    "bart, few keys": _case("bart", left_out=["activation_function", "scale_embedding"]),
    "marian, relu": _config("marian", activation_function="relu", scale_embedding=False),
    "pegasus, computed positions": _case("pegasus", tables=False),
    "m2m_100, padding inside": _config("m2m_100", encoder_layers=1, decoder_layers=2),
    # stored
    "t5, bfloat16": _case("t5", dtype="bfloat16"),
    "mbart, float16": _case("mbart", dtype="float16"),
    "bart, three files": _case("bart", shards=3),
    # put together
    **{f"{reads} to {writes}": _put(reads, writes) for reads, writes in _PAIRS},
    "electra to electra": _put("electra", "electra", decoder_config={"embedding_size": 32}),
    "bert to bert, shared": _put("bert", "bert", shared=True),
    "bert to bert, two widths": _put(
        "bert", "bert", decoder_config={"hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 80}
    ),
    "bert to gpt2, two widths": _put("bert", "gpt2", decoder_config={"n_embd": 64, "n_head": 4}),
    "bert to bert, untied": _put("bert", "bert", head="untied"),
    "roberta to roberta, shared": _put("roberta", "roberta", shared=True),
}  # fmt: skip


class Golden(NamedTuple):
    """What transformers answered: `hidden` and `logits` as `kept` keeps them, new ids of the texts, and scores of the beams."""

    hidden: NDArray[np.float32]
    logits: NDArray[np.float32]
    greedy: list[list[int]]
    beams: list[list[list[int]]]
    scores: list[list[float]]


class Call(NamedTuple):
    """Options of one generation with a case's checkpoint; `prefixed`: targets that begin with `prefixes_of`."""

    case: str
    options: Json
    prefixed: bool = False


def _beams() -> dict[str, Call]:
    """Every way to stop early with every length penalty and number of beams, one architecture after the other."""
    names = itertools.cycle(["t5", "bart", "marian", "mbart", "m2m_100", "pegasus", "umt5"])
    ways = itertools.product((4, 8), (False, True, "never"), (0.8, 1.0, 2.0))
    return {
        f"{beams} beams, early_stopping {early}, length_penalty {penalty}": Call(
            next(names),
            {
                "num_beams": beams,
                "early_stopping": early,
                "length_penalty": penalty,
                "num_return_sequences": 4,
                "max_new_tokens": 14,
                "eos_token_id": ENDS,
            },
        )
        for beams, early, penalty in ways
    }


_FOUR = {"num_beams": 4, "max_new_tokens": 16, "num_return_sequences": 4}

CALLS: Mapping[str, Call] = {
    **_beams(),
    "forced_bos_token_id": Call("mbart", {"forced_bos_token_id": 13, "max_new_tokens": 20}),
    "forced_bos_token_id, beams": Call("mbart", {"forced_bos_token_id": 13, "eos_token_id": ENDS, **_FOUR}),
    "forced_bos_token_id, m2m_100": Call("m2m_100", {"forced_bos_token_id": 300, "max_new_tokens": 20}),
    "forced_eos_token_id": Call("bart", {"max_new_tokens": 7}),
    "forced_eos_token_id, beams": Call("bart", {**_FOUR, "max_new_tokens": 7}),
    "as a summary": Call(
        "bart",
        {
            "num_beams": 4,
            "length_penalty": 2.0,
            "early_stopping": True,
            "no_repeat_ngram_size": 3,
            "min_length": 12,
            "max_length": 24,
            "eos_token_id": ENDS,
        },
    ),
    "no_repeat_ngram_size": Call("t5", {"no_repeat_ngram_size": 2, "max_new_tokens": 30}),
    "min_length": Call("pegasus", {"min_length": 15, "eos_token_id": ENDS, "max_new_tokens": 24}),
    "min_length, beams": Call("pegasus", {"min_length": 9, "eos_token_id": ENDS, **_FOUR}),
    "bad_words_ids": Call("marian", {"bad_words_ids": [[383], [40], [50, 51], [60, 61, 62]], "max_new_tokens": 24}),
    "bad_words_ids, beams": Call("marian", {"bad_words_ids": [[383], [40], [50, 51]], "eos_token_id": ENDS, **_FOUR}),
    "repetition_penalty": Call("t5", {"repetition_penalty": 1.7, "max_new_tokens": 24}),
    "repetition_penalty, beams": Call("umt5", {"repetition_penalty": 1.4, "eos_token_id": ENDS, **_FOUR}),
    "encoder_no_repeat_ngram_size": Call("blenderbot", {"encoder_no_repeat_ngram_size": 1, "max_new_tokens": 24}),
    "encoder_no_repeat_ngram_size, beams": Call("t5", {"encoder_no_repeat_ngram_size": 1, "eos_token_id": ENDS, **_FOUR}),
    "encoder_repetition_penalty": Call("bart", {"encoder_repetition_penalty": 2.0, "max_new_tokens": 24}),
    "encoder_repetition_penalty, beams": Call("marian", {"encoder_repetition_penalty": 1.8, "eos_token_id": ENDS, **_FOUR}),
    "prefix": Call("bart", {"max_new_tokens": 20}, prefixed=True),
    "prefix, relative": Call("t5", {"max_new_tokens": 20, "no_repeat_ngram_size": 2}, prefixed=True),
    "prefix, beams": Call("marian", {"eos_token_id": ENDS, **_FOUR}, prefixed=True),
    "prefix, relative, beams": Call("umt5", {"eos_token_id": ENDS, **_FOUR, "length_penalty": 2.0}, prefixed=True),
    "prefix, separate vocabularies": Call("marian-separate", {"eos_token_id": ENDS, **_FOUR}, prefixed=True),
    "prefix, max_length": Call("m2m_100", {"max_length": 12, "num_beams": 2}, prefixed=True),
}  # fmt: skip

_GROUPS = {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7, "max_new_tokens": 14, "eos_token_id": ENDS}

# What transformers 4.53.3 is the last to do by itself
OLD: Mapping[str, Call] = {
    "groups": Call("t5", {**_GROUPS, "num_return_sequences": 4}),
    "groups, bart": Call("bart", {**_GROUPS, "num_return_sequences": 2, "early_stopping": True}),
    "groups of one": Call("marian", {**_GROUPS, "num_beam_groups": 4, "num_return_sequences": 4, "length_penalty": 2.0}),
    "groups of eight": Call("mbart", {**_GROUPS, "num_beams": 8, "num_return_sequences": 3, "no_repeat_ngram_size": 2}),
    "groups, prefix": Call("umt5", {**_GROUPS, "num_return_sequences": 4}, prefixed=True),
    "contrastive": Call("t5", {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 20}),
    "contrastive, prefix": Call("bart", {"penalty_alpha": 0.5, "top_k": 5, "max_new_tokens": 16}, prefixed=True),
}  # fmt: skip


def write_case(folder: Path, **case: Any) -> Path:
    """Write the checkpoint of a case, with the arguments of `write_seq2seq` or of `write_composite`."""
    return write_seq2seq(folder, **case) if "architecture" in case else write_composite(folder, **case)


def _columns(name: str) -> tuple[int, int]:
    """Ids of sources and of targets."""
    case = MODELS[name]
    if "architecture" not in case:
        return 1000, 1000
    config = {**SEQ2SEQ[case["architecture"]].config, **case.get("config", {})}
    return VOCABULARY, min(VOCABULARY, config.get("decoder_vocab_size", VOCABULARY))


def _drawn(name: str, lengths: Sequence[int], salt: int, most: int) -> list[list[int]]:
    stream = np.random.RandomState([zlib.crc32(name.encode()), salt])
    return [[int(number) for number in stream.randint(_SMALLEST, most - 2, length)] for length in lengths]


def sources_of(name: str) -> list[list[int]]:
    """The ids that are read."""
    sources = _drawn(name, _SOURCES, 0, _columns(name)[0])
    if name.endswith("padding inside"):
        sources[1][2] = sources[3][0] = sources[3][7] = 1
    return sources


def targets_of(name: str, start: int) -> list[list[int]]:
    """The ids whose logits are kept, behind the token before every target."""
    return [[start, *ids] for ids in _drawn(name, _TARGETS, 1, _columns(name)[1])]


def prefixes_of(name: str, start: int) -> list[list[int]]:
    """The ids that texts begin with, where they do."""
    return [[start, *ids] for ids in _drawn(name, _PREFIXES, 2, _columns(name)[1])]


def kept(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A few columns of every row, others in each row: float32 [all rows, columns]."""
    rows = np.concatenate(arrays).astype(np.float32)
    first = 37 * np.arange(len(rows))[:, None]
    return np.take_along_axis(rows, (first + 59 * np.arange(_COLUMNS)) % rows.shape[1], axis=1)


def _recorded() -> Json:
    read: Json = json.loads((GOLDENS / "seq2seq.json").read_text("utf-8"))
    return read


def case_of(name: str) -> Json:
    """The arguments of `write_case`; the seed is the recorder's, which looks for text without ties."""
    return {**MODELS[name], "seed": _recorded()["cases"][name]["seed"]}


def load_seq2seq() -> dict[str, Golden]:
    """Case to its recorded answers."""
    with np.load(GOLDENS / "seq2seq.npz") as arrays:
        return {
            name: Golden(
                arrays[f"{row['key']} hidden"], arrays[f"{row['key']} logits"], row["greedy"], row["beams"], row["scores"]
            )
            for name, row in _recorded()["cases"].items()
        }  # fmt: skip


def load_answers() -> dict[str, Json]:
    """Name of each of `CALLS` and `OLD` to `ids` per source and sequence, and `scores` where there are beams."""
    recorded = _recorded()
    return {**recorded["calls"], **recorded["old"]}
