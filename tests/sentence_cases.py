"""Calls of sentence-transformers' `encode` whose answers are recorded, and the folders they run on. Runs no model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoints import write_checkpoint
from tokenizer_folders import write_json

__all__ = ["CALLS", "FOLDERS", "SENTENCES", "load_sentences", "write_sentence_folder"]

Json = dict[str, Any]

_FILE = Path(__file__).parent / "data" / "goldens" / "sentences.json"
_PROMPTS = {"query": "query: ", "passage": "passage: "}
_LONG = " ".join(["All human beings are born free and equal in dignity and rights."] * 8)
SENTENCES = [
    "All human beings are born free and equal in dignity and rights.",
    "  Où habitent-ils ?  À Besançon…  ",
    "人人生而自由，在尊严和权利上一律平等。",
    "I ♥ 🇫🇷!",
    "",
    "a",
    _LONG,
]


def _folder(architecture: str, seed: int, *, transformer: Mapping[str, Any] | None = None, **values: Any) -> Json:
    """`transformer` are changes of sentence_bert_config.json; the rest are arguments of `write_checkpoint`."""
    checkpoint = {"architecture": architecture, "head": "sentence_transformer", "seed": seed, **values}
    return {"checkpoint": checkpoint, "transformer": dict(transformer or {})}


def _pooling(*modes: str, include_prompt: bool = True) -> Json:
    flags = {f"pooling_mode_{mode}": True for mode in modes}
    return {**flags, "include_prompt": include_prompt}


FOLDERS: Mapping[str, Json] = {
    "bert, mean, unit": _folder("bert", 2000, normalize=True, prompts=_PROMPTS, transformer={"max_seq_length": 24}),
    "bert, cls": _folder("bert", 2001, pooling=_pooling("cls_token"), transformer={"max_seq_length": 24}),
    "bert, max": _folder("bert", 2002, pooling=_pooling("max_tokens")),
    "bert, last": _folder("bert", 2003, pooling=_pooling("lasttoken"), normalize=True),
    "bert, weighted mean": _folder("bert", 2004, pooling=_pooling("weightedmean_tokens")),
    "bert, mean of square root": _folder("bert", 2005, pooling=_pooling("mean_sqrt_len_tokens")),
    "bert, three modes": _folder(
        "bert", 2006, pooling=_pooling("mean_tokens", "max_tokens", "cls_token"), prompts=_PROMPTS, normalize=True
    ),
    "bert, prompt left out": _folder(
        "bert", 2007, pooling=_pooling("mean_tokens", include_prompt=False), prompts=_PROMPTS
    ),
    "bert, prompt left out of the maximum": _folder(
        "bert", 2008, pooling=_pooling("max_tokens", "lasttoken", include_prompt=False), prompts=_PROMPTS
    ),
    "bert, lowercased": _folder(
        "bert", 2009, tokenizer_config={"do_lower_case": False}, transformer={"do_lower_case": True}
    ),
    "distilbert, mean": _folder("distilbert", 2010),
    "roberta, mean": _folder("roberta", 2011, normalize=True, prompts=_PROMPTS),
    "roberta, prompt left out": _folder(
        "roberta", 2012, pooling=_pooling("mean_tokens", include_prompt=False), prompts=_PROMPTS
    ),
    "xlm-roberta, mean": _folder("xlm-roberta", 2013, normalize=True, prompts=_PROMPTS),
    "albert, mean": _folder("albert", 2014),
    "electra, cls": _folder("electra", 2015, pooling=_pooling("cls_token")),
    "mpnet, mean": _folder("mpnet", 2016, normalize=True),
    "camembert, weighted mean": _folder("camembert", 2017, pooling=_pooling("weightedmean_tokens")),
}
# Arguments of `encode`, by the names of sentence-transformers.
_PLAIN: Sequence[Json] = ({},)
_PROMPTED: Sequence[Json] = ({"prompt_name": "query"}, {"prompt_name": "passage"}, {"prompt": "Represent: "})
_SMALLER: Sequence[Json] = (
    {"truncate_dim": 8},
    {"truncate_dim": 8, "normalize_embeddings": True},
    {"normalize_embeddings": True},
    {"precision": "binary"},
    {"precision": "ubinary"},
)
CALLS: Mapping[str, Sequence[Json]] = {
    name: [
        *_PLAIN,
        *(_PROMPTED if "prompts" in folder["checkpoint"] else ()),
        *(_SMALLER if name in ("bert, mean, unit", "bert, cls") else ()),
    ]
    for name, folder in FOLDERS.items()
}


def write_sentence_folder(folder: Path, name: str) -> Path:
    """Write the sentence-transformers folder `name` of `FOLDERS`."""
    given = FOLDERS[name]
    write_checkpoint(folder, **given["checkpoint"])
    path = folder / "sentence_bert_config.json"
    write_json(path, json.loads(path.read_text("utf-8")) | given["transformer"])
    return folder


def load_sentences() -> list[Json]:
    """What sentence-transformers answered to `SENTENCES`: {"folder", "kwargs", "result": one vector per sentence}."""
    cases: list[Json] = json.loads(_FILE.read_text("utf-8"))["cases"]
    return cases
