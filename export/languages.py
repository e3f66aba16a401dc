"""The languages that a checkpoint's tokenizer names: codes, ids, and where the source's stands. Knows no model and no text.

Only classes whose input says which language it is in have them (mBART, mBART-50, M2M-100, NLLB of transformers 4.57).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgenlp.bundle import Languages, Vocabulary
from edgenlp.errors import CheckpointError

from .tokenizer.codes import MBART, MBART50, NLLB
from .tokenizer.convert import class_of
from .tokenizer.files import Settings, read_settings
from .tokenizer.m2m100 import language_codes
from .tokenizer.tokens import content

__all__ = ["read_languages"]


def read_languages(
    folder: Path, config: Mapping[str, Any], vocabulary: Vocabulary, tokenizer_text: str
) -> Languages | None:
    """The languages of the tokenizer in `folder`, None where its class has none.

    Args:
        folder: Where the tokenizer's files are.
        config: The checkpoint's `config.json`.
        vocabulary: Facts about the converted tokenizer.
        tokenizer_text: The converted `tokenizer.json`.

    Raises:
        CheckpointError: The source or target language that the settings name is none of them.
        UnsupportedError: The tokenizer's class has no conversion.
    """
    settings = read_settings(folder)
    found = _tokens(settings, class_of(settings, config)[0])
    if found is None:
        return None
    tokens, source, before = found
    known = _known(tokenizer_text, vocabulary.size)
    ids = {code: known[token] for code, token in tokens.items() if token in known}
    target = settings.values.get("tgt_lang")
    for key, code in (("src_lang", source), ("tgt_lang", target)):
        if code is not None and code not in ids:
            raise CheckpointError(
                f"{folder}: the tokenizer setting {key!r} is {code!r}, which is none of its languages: {_listed(ids)};"
                " correct tokenizer_config.json"
            )
    return Languages(ids=ids, source=source, target=target, before=before)


def _tokens(settings: Settings, name: str) -> tuple[dict[str, str], str, bool] | None:
    """Code to token, the source language, and whether its token stands before the text; None without languages."""
    if name == "MBartTokenizer":
        return _same(MBART), settings.text("src_lang", "en_XX"), False
    if name == "MBart50Tokenizer":
        return _same(MBART50), settings.text("src_lang", "en_XX"), True
    if name == "M2M100Tokenizer":
        codes = language_codes(settings)
        return {code: f"__{code}__" for code in codes}, settings.text("src_lang", "en"), True
    if name == "NllbTokenizer":
        listed = settings.specials("additional_special_tokens") or []
        codes = (*NLLB, *(content(token) for token in listed if _is_code(content(token))))
        return _same(codes), settings.text("src_lang", "eng_Latn"), not settings.flag("legacy_behaviour", False)
    return None


def _same(codes: Iterable[str]) -> dict[str, str]:
    return {code: code for code in codes}


def _is_code(token: str) -> bool:
    """Whether `token` is written like a language of NLLB: "fra_Latn"; checkpoints may add such."""
    language, _, script = token.partition("_")
    return language.isalpha() and language.islower() and len(script) == 4 and script.isalpha() and script.istitle()


def _known(tokenizer_text: str, size: int) -> dict[str, int]:
    """Token to id, below `size`; a name that no text holds ends in a space (see tokenizer/lookup.py)."""
    document = json.loads(tokenizer_text)
    vocab = document["model"]["vocab"]
    pairs = vocab.items() if isinstance(vocab, dict) else ((piece, index) for index, (piece, _) in enumerate(vocab))
    known = {piece.removesuffix(" "): index for piece, index in pairs if index < size}
    return known | {token["content"]: token["id"] for token in document["added_tokens"]}


def _listed(ids: Mapping[str, int]) -> str:
    return ", ".join(ids) or "the vocabulary holds none"
