"""`tokenizer.json` from Marian's files: a SentencePiece model for each side and a vocabulary. Knows no other class.

`MarianTokenizer` of transformers 4.57 takes a language code off the beginning of a text (">>fra<< ..."), segments the
rest with the SentencePiece model of the side and looks the code and the pieces up in `vocab.json`, which numbers the
pieces of both sides. A code anywhere else is text like any other, so codes are no added tokens: the normalizer marks the
one at the beginning.
"""

import re
from pathlib import Path

from edgenlp.errors import UnsupportedError

from .draft import Document, Draft, Roles, replace
from .files import Settings, read_vocab_json
from .lookup import read_lookup
from .pieces import SPACE
from .tokens import content

__all__ = ["build_source", "build_target", "marian_size", "marian_template", "shares_sides"]


def build_source(path: Path, settings: Settings, roles: Roles) -> Document:
    """The side that is translated: `source.spm` and `vocab.json`."""
    return _build(path, path.with_name("vocab.json"), roles)


def build_target(path: Path, settings: Settings, roles: Roles) -> Document:
    """The side that is translated into: `target.spm`, with a vocabulary of its own where `separate_vocabs` says so."""
    return _build(path, path.with_name(_target_vocabulary(settings)), roles)


def shares_sides(settings: Settings) -> bool:
    """Whether one tokenizer serves both sides: there is no other model, and no other vocabulary."""
    target = settings.folder / "target.spm"
    if not target.is_file():
        return True
    source = settings.folder / "source.spm"
    same = source.is_file() and source.read_bytes() == target.read_bytes()
    return same and not settings.flag("separate_vocabs", False)


def marian_template(draft: Draft) -> Document:
    """A </s>, and A B </s>."""
    eos = draft.required("eos")
    return draft.template(["$A", eos], ["$A", "$B", eos])


def marian_size(draft: Draft, *, target: bool = False) -> int:
    """How many ids the model has: those of the side's vocabulary.

    Raises:
        UnsupportedError: The tokenizer has special tokens that the vocabulary lacks.
    """
    path = draft.settings.folder / (_target_vocabulary(draft.settings) if target else "vocab.json")
    size = len(read_vocab_json(path))
    for role in draft.roles:
        token = draft.token(role)
        if token is not None and draft.id(token) >= size:
            raise UnsupportedError(f"{path} lacks the {role} token {token!r}; a Marian vocabulary must hold it")
    return size


def _target_vocabulary(settings: Settings) -> str:
    return "target_vocab.json" if settings.flag("separate_vocabs", False) else "vocab.json"


def _build(path: Path, vocab_path: Path, roles: Roles) -> Document:
    lookup = read_lookup(path, vocab_path, content(roles["unk"]))
    if not lookup.is_unigram:
        raise UnsupportedError(f"{path} is no SentencePiece unigram model; Marian's tokenizer is supported for those")
    codes = [token for token in lookup.vocabulary if re.fullmatch(r">>[^<]+<<", token)]
    start, other = lookup.marks
    names = {code: SPACE + lookup.mangled(start + code) for code in codes}
    names[other] = SPACE + other  # what stands for a code that the vocabulary lacks
    known = "|".join(re.escape(code[2:]) for code in sorted(codes)) or r"(?!)"
    # ">>" is replaced by itself and a mark: tokenizers 0.22 loses its way when nothing at the very beginning is replaced
    before = [replace(rf"\A>>(?={known})", f"{start}>>", regex=True), replace(r"\A>>(?m:.*?)<<", other, regex=True)]
    lengths = sorted({len(code) for code in codes})
    ends = [rf"\A{SPACE}{other}", *(rf"\A{SPACE}{start}>>[^<]{{{length - 4}}}<<" for length in lengths)]
    rest = f"(?=[^ {SPACE}])" if lookup.squeezes else r"(?!\z)"
    prefixed = [replace(f"(?<={'|'.join(ends)}){rest}", SPACE, regex=True)]  # the rest is a text of its own
    kept = {content(token) for token in roles.values()}
    return lookup.document(kept=kept, names=names, before=before, prefixed=prefixed)
