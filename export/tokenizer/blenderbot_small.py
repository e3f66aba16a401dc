"""`tokenizer.json` from the files of the small Blenderbot: BPE that marks the pieces that go on ("th@@"). Knows no other class.

`BlenderbotSmallTokenizer` of transformers 4.57 has no fast form that its files would fit. It splits at spaces, before
. , ! ? ( ) and around ', takes everything in lower case, and writes each piece but a word's last with "@@". The
tokenizers library marks a word's last piece instead, so the tokens are renamed: "th@@" is "th", and "the" "the</w>". A
piece that `vocab.json` lacks comes behind it: **ids from the vocabulary's size up stand for the unknown token**.
"""

import re
from pathlib import Path

from edgenlp.errors import CheckpointError

from .draft import Document, Draft, Roles, document, replace
from .files import Settings, read_merges, read_vocab_json
from .tokens import content

__all__ = ["blenderbot_small_size", "blenderbot_small_template", "build_blenderbot_small"]

_END = "</w>"
_MORE = "@@"
_SPACES = r"\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000"  # \s of Python's regex
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}]"


def build_blenderbot_small(path: Path, settings: Settings, roles: Roles) -> Document:
    """`vocab.json` and the `merges.txt` beside it.

    Raises:
        CheckpointError: One of the files is broken, or the vocabulary has gaps or no unknown token.
    """
    vocabulary, joins = read_vocab_json(path), read_merges(path.with_name("merges.txt"))
    special = {content(token) for token in roles.values() if token is not None}
    unknown = content(roles["unk"])
    if unknown not in vocabulary or max(vocabulary.values()) != len(vocabulary) - 1:
        raise CheckpointError(
            f"{path} lacks the unknown token {unknown!r} or some of the ids up to {max(vocabulary.values())}; take the"
            " file from the checkpoint"
        )
    vocab = {_renamed(token, special): index for token, index in vocabulary.items()}
    for left, right in joins:
        for part in (left, right, left + right):
            vocab.setdefault(part, len(vocab))
    return document(
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": _END,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": joins,
        },
        normalizer={"type": "Sequence", "normalizers": _normalizers()},
        pre_tokenizer={"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False},
        decoder={"type": "Sequence", "decoders": _decoders(special)},
    )


def _renamed(token: str, special: set[str]) -> str:
    if token in special:
        return token
    return token.removesuffix(_MORE) if token.endswith(_MORE) and token != _MORE else token + _END


def _normalizers() -> list[Document]:
    """A line end right behind a word is the word __newln__, save behind an apostrophe, which drops it."""
    return [
        replace(rf"(?<=[^{_SPACES}'])\n", " __newln__ ", regex=True),
        replace(rf"[{_SPACES}]+", " ", regex=True),
        *(replace(mark, f" {mark}") for mark in ".,!?()"),
        replace("'", " ' "),
        replace(rf"(?<={_CASED}|{_CASED}\p{{M}})Σ(?!\p{{M}}*{_CASED})", "ς", regex=True),  # as Python ends a word
        {"type": "Lowercase"},
    ]


def _decoders(special: set[str]) -> list[Document]:
    """What `" ".join(tokens).replace("@@ ", "").strip()` gives, from the tokens' new names."""
    names = "|".join(rf"\A{re.escape(token)}" for token in sorted(special))
    return [
        replace(rf"(?<={names})\z", _END, regex=True),
        replace(rf"(?<!{_END})\z", f"{_MORE} ", regex=True),
        replace(rf"{_END}\z", " ", regex=True),
        {"type": "Fuse"},
        replace(r"\A +| +\z", "", regex=True),  # a Strip panics at the end of an empty text
        replace(f"{_MORE} ", ""),
    ]


def blenderbot_small_template(draft: Draft) -> Document:
    """Nothing around a text, and nothing between the texts of a pair (`build_inputs_with_special_tokens`)."""
    return draft.template(["$A"], ["$A", "$B"])


def blenderbot_small_size(draft: Draft) -> int:
    """How many ids the model has: those of the vocabulary."""
    return len(read_vocab_json(draft.settings.folder / "vocab.json"))
