"""Any tokenizer of a checkpoint to one `tokenizer.json` and the facts beside it. Knows no model, no task and no bundle.

The result gives the ids that transformers 4.57 gives when it opens the same folder: what its tokenizer classes change
at load time (case, prefix spaces, special tokens that a file forgot ...) is changed here, once, in the file.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Tokenizer

from edgenlp.bundle import Vocabulary
from edgenlp.errors import CheckpointError, UnsupportedError

from .checks import check_document
from .classes import CLASSES, MODEL_TYPES, TokenizerClass
from .draft import Document, Draft
from .files import Settings, read_json, read_settings
from .marian import build_target, marian_size, shares_sides
from .tokens import ROLES, AddedToken, Special, content, tokens_to_add
from .vocab import update_prefix_space

__all__ = ["class_of", "convert_target_tokenizer", "convert_tokenizer"]

_UNLIMITED = 10**20  # `LARGE_INTEGER` of transformers: a longer `model_max_length` means that there is none
_PARTS = (
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
)


def convert_tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[str, Vocabulary]:
    """The text of a `tokenizer.json` for the checkpoint in `folder`, and the facts beside it.

    Truncation and padding are taken out: they are the caller's. The same folder gives the same text.

    Args:
        folder: The checkpoint, with `tokenizer.json`, or with the vocabulary files of its tokenizer class.
        config: Its `config.json`; names the class where `tokenizer_config.json` does not.

    Raises:
        CheckpointError: A file is missing, broken or contradicts another.
        UnsupportedError: The tokenizer class has no conversion.
    """
    settings = read_settings(folder)
    return _convert(settings, *class_of(settings, config))


def convert_target_tokenizer(folder: Path, config: Mapping[str, Any]) -> tuple[str, Vocabulary] | None:
    """The same for the language translated into, None where both languages share one tokenizer.

    Raises:
        CheckpointError: A file is missing, broken or contradicts another.
        UnsupportedError: The tokenizer class has no conversion.
    """
    settings = read_settings(folder)
    name, row = class_of(settings, config)
    if name != "MarianTokenizer" or shares_sides(settings):
        return None
    row = replace(row, file="target.spm", build=build_target, size=partial(marian_size, target=True))
    text, facts = _convert(settings, name, row)
    return text, replace(facts, file="target_tokenizer.json")


def class_of(settings: Settings, config: Mapping[str, Any]) -> tuple[str, TokenizerClass]:
    """The tokenizer's class, by name without "Fast"; any class will do for a `tokenizer.json`.

    As `AutoTokenizer.from_pretrained` chooses it; an encoder-decoder made of two models has the encoder's.

    Raises:
        CheckpointError: The name is none.
        UnsupportedError: The class has no conversion.
    """
    named = settings.values.get("tokenizer_class") or config.get("tokenizer_class")
    if not named and config.get("model_type") == "encoder-decoder" and isinstance(config.get("encoder"), dict):
        config = config["encoder"]
    named = named or MODEL_TYPES.get(str(config.get("model_type")), "PreTrainedTokenizerFast")
    if not isinstance(named, str):
        raise settings.error("tokenizer_class", named, "a class name")
    name = named.removesuffix("Fast")
    row = CLASSES.get(name)
    if row is not None:
        return name, row
    if not (settings.folder / "tokenizer.json").is_file():
        raise UnsupportedError(
            f"{settings.folder}: there is no conversion for {named}; supported are {', '.join(CLASSES)}, and every"
            " class that writes a tokenizer.json: if transformers has a fast form of it, open the folder with"
            " AutoTokenizer and save_pretrained it"
        )
    return name, CLASSES["PreTrainedTokenizer"]


def _convert(settings: Settings, name: str, row: TokenizerClass) -> tuple[str, Vocabulary]:
    ready, path = settings.folder / "tokenizer.json", _vocabulary_file(settings, row)
    if settings.flag("split_special_tokens", False):
        raise UnsupportedError(f"{settings.folder}: split_special_tokens is not supported; set it to false")
    builds = path is not None and (not ready.is_file() or row.slow_only or _ignores_ready(settings, row))
    if not builds and not ready.is_file():
        wanted = f"tokenizer.json or {row.file} (for a {name})" if row.file else "tokenizer.json"
        raise CheckpointError(
            f"{settings.folder} holds no tokenizer: expected {wanted}; copy the tokenizer's files there"
        )
    roles = _roles(settings, row, slow=builds)
    if builds and path is not None and row.build is not None:
        document, source = row.build(path, settings, roles), path
    else:
        document, source = _ready(ready), ready
        if "pad" not in row.roles and "pad_token" not in settings.values and document["padding"] is not None:
            roles["pad"] = document["padding"]["pad_token"]
    draft = Draft(settings, roles, document)
    specials = [*([token] for token in roles.values() if token is not None), row.additional(settings), _extra(settings)]
    decoder = {} if row.renames else settings.decoder
    draft.added.add(tokens_to_add(decoder, specials, draft.added.contents()))
    if builds and row.template is not None:
        document["post_processor"] = row.template(draft)
    if row.update is not None:
        row.update(draft)
    update_prefix_space(draft, row.prefix_space)
    facts = _facts(draft, row, built=builds)
    return _written(draft, source), facts


def _vocabulary_file(settings: Settings, row: TokenizerClass) -> Path | None:
    """The file to build from; a SentencePiece model may also be called tokenizer.model, as transformers allows."""
    if row.file is None:
        return None
    names = [row.file, "tokenizer.model"] if row.file.endswith(".model") else [row.file]
    return next((settings.folder / name for name in names if (settings.folder / name).is_file()), None)


def _ignores_ready(settings: Settings, row: TokenizerClass) -> bool:
    """Whether the settings make the class start from its vocabulary file although there is a `tokenizer.json`."""
    asked = row.rebuilds and settings.values.get("add_prefix_space") is not None
    renamed = any(
        content(settings.special(f"{role}_token", row.roles[role])) != row.roles[role] for role in row.renames
    )
    return asked or renamed or settings.flag("from_slow", False)


def _roles(settings: Settings, row: TokenizerClass, *, slow: bool) -> dict[str, Special | None]:
    """The special token of each role, marked as the class marks it.

    A token that the slow class makes is copied before it becomes special, which settles where it is looked for: its
    flags are settled here too.
    """
    flags = row.slow_flags if slow else row.flags
    roles: dict[str, Special | None] = {}
    for role in ROLES:
        token = settings.special(f"{role}_token", row.roles.get(role))
        marks = flags.get(role, flags.get("*") if role in row.roles else None)
        if isinstance(token, str) and marks is not None:
            token = AddedToken(token, **marks)
        roles[role] = token.settled() if slow and isinstance(token, AddedToken) else token
    return roles


def _extra(settings: Settings) -> list[Special]:
    """The model's own special tokens (`extra_special_tokens`: by name in transformers 4, a list in 5)."""
    extra = settings.values.get("extra_special_tokens") or []
    tokens = list(extra.values()) if isinstance(extra, dict) else extra
    if not isinstance(tokens, list) or not all(isinstance(token, str | AddedToken) for token in tokens):
        raise settings.error("extra_special_tokens", extra, "tokens by name")
    return tokens


def _ready(path: Path) -> Document:
    """A `tokenizer.json`, in the form that the library itself writes."""
    given = read_json(path)
    try:
        check_document(given)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}); download the file again") from error
    document: Document = json.loads(_opened(path, json.dumps(given)).to_str())
    return {part: document[part] for part in _PARTS}


def _opened(path: Path, text: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(text)
    except BaseException as error:  # a bare Exception, or a panic, which is not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(
            f"{path} is no tokenizer that tokenizers {tokenizers.__version__} can read ({error}); download the file"
            " again, or save it anew with transformers' save_pretrained"
        ) from error


def _written(draft: Draft, source: Path) -> str:
    """The text of the finished file, tried out."""
    records = draft.added.records()
    draft.document.update(truncation=None, padding=None, added_tokens=records)
    text = json.dumps(draft.document, ensure_ascii=False, separators=(",", ":"))
    opened = _opened(source, text)
    for record in records:
        if opened.token_to_id(record["content"]) != record["id"]:
            raise CheckpointError(
                f"{source}: the added token {record['content']!r} has id {record['id']} and would become"
                f" {opened.token_to_id(record['content'])}; the vocabulary leaves ids out: fill the gaps with unused"
                " tokens"
            )
    return text


def _facts(draft: Draft, row: TokenizerClass, *, built: bool) -> Vocabulary:
    settings = draft.settings
    tokens = {role: draft.token(role) for role in ROLES}
    length = settings.number("model_max_length", settings.number("max_len", row.max_length))
    truncation = draft.document["truncation"]
    side = settings.text("truncation_side", truncation["direction"].lower() if truncation is not None else "right")
    if side not in ("right", "left"):
        raise settings.error("truncation_side", side, '"right" or "left"')
    inputs = settings.values.get("model_input_names")
    if inputs is not None and not isinstance(inputs, list):
        raise settings.error("model_input_names", inputs, "a list of names")
    return Vocabulary(
        file="tokenizer.json",
        size=draft.added.size() if row.size is None or not built else row.size(draft),
        max_length=int(length) if length is not None and 0 < length <= _UNLIMITED else None,
        special={role: (token, draft.id(token)) for role, token in tokens.items() if token is not None},
        type_ids=row.type_ids if inputs is None else "token_type_ids" in inputs,
        truncation_side=side,
        clean_up=settings.flag("clean_up_tokenization_spaces", row.clean_up and built),
        joins_words=_joins_words(draft.document["pre_tokenizer"]),
    )


def _joins_words(part: Document | None) -> bool:
    """Whether the pre-tokenizer is byte-level and puts no space before a word."""
    if part is None:
        return False
    if part["type"] == "Sequence":
        return any(_joins_words(inner) for inner in part["pretokenizers"])
    return part["type"] == "ByteLevel" and not part["add_prefix_space"]
