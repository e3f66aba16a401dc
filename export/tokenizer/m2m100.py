"""`tokenizer.json` from M2M-100's files: a SentencePiece model, a `vocab.json` and the languages behind it. Knows no other class.

`M2M100Tokenizer` of transformers 4.57 numbers the tokens of its languages ("__fr__") from the vocabulary's end on; the
model has a few more rows, of words that were made up to fill it (`num_madeup_words`).
"""

from pathlib import Path

from .codes import M2M100
from .draft import Document, Draft, Roles
from .files import Settings
from .lookup import read_lookup
from .tokens import content

__all__ = ["build_m2m100", "language_codes", "m2m100_size", "update_m2m100"]


def build_m2m100(path: Path, settings: Settings, roles: Roles) -> Document:
    """The pieces of `vocab.json`, the languages, and nothings for the words made up.

    Languages that the settings do not list as special tokens have ids, and are text like any other.
    """
    lookup = read_lookup(path, path.with_name("vocab.json"), content(roles["unk"]))
    listed = {content(token) for token in settings.specials("additional_special_tokens") or []}
    listed |= {token.content for token in settings.decoder.values()}
    languages = [f"__{code}__" for code in language_codes(settings)]
    names = [token if token in listed or not lookup.is_unigram else f"{token} " for token in languages]
    names += [" " * (2 + index) for index in range(settings.count("num_madeup_words", 8))]
    return lookup.document(kept=listed | {content(token) for token in roles.values()}, more=names)


def language_codes(settings: Settings) -> tuple[str, ...]:
    """The codes of the list that the settings name.

    Raises:
        CheckpointError: There is no such list.
    """
    name = settings.text("language_codes", "m2m100")
    if name not in M2M100:
        raise settings.error("language_codes", name, " or ".join(map(repr, M2M100)))
    return M2M100[name]


def m2m100_size(draft: Draft) -> int:
    """How many ids the vocabulary and the languages have."""
    return 1 + max(draft.id(_token(draft, code)) for code in language_codes(draft.settings))


def update_m2m100(draft: Draft) -> None:
    """Put the source language's token before each text, and </s> behind it.

    Raises:
        CheckpointError: The source language is none of the list.
    """
    code, eos = draft.settings.text("src_lang", "en"), draft.required("eos")
    if code not in language_codes(draft.settings):
        raise draft.settings.error("src_lang", code, f"one of {', '.join(language_codes(draft.settings))}")
    before = _token(draft, code)
    draft.document["post_processor"] = draft.template([before, "$A", eos], [before, "$A", "$B", eos])


def _token(draft: Draft, code: str) -> str:
    token = f"__{code}__"
    return token if draft.added.id(token) is not None else f"{token} "
