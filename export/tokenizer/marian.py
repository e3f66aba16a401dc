"""`tokenizer.json` from Marian's files: a SentencePiece model for each side and a vocabulary. Knows no other class.

`MarianTokenizer` of transformers 4.57 has no fast form: it segments with the SentencePiece model of the side and looks
each piece up in `vocab.json`, which numbers the pieces of both sides. A Unigram model numbers its pieces by their
place, so its list is `vocab.json` in order, with the scores of one side. Where the two differ:

* A token of the other side gets a name that no text holds: it keeps its id and is never found.
* A run of characters that the model does not know is one piece, and is looked up like the others. Such runs are put
  between two private characters, and the tokens that consist of such characters are named so too.
* A piece that `vocab.json` lacks comes behind it, since leaving it out would change how a text is cut. So **ids from
  the vocabulary's size up stand for the unknown token**.
"""

import re
from pathlib import Path

from edgenlp.errors import CheckpointError, UnsupportedError

from .draft import Document, Draft, Roles, document, replace
from .files import Settings, read_vocab_json
from .pieces import SPACE, precompiled
from .sentencepiece import Algorithm, Kind, SentencePieceModel, read_sentencepiece
from .tokens import Special

__all__ = ["build_source", "build_target", "marian_size", "marian_template"]


def build_source(path: Path, settings: Settings, roles: Roles) -> Document:
    """The side that is translated: `source.spm` and `vocab.json`."""
    return _build(path, path.with_name("vocab.json"), roles)


def build_target(path: Path, settings: Settings, roles: Roles) -> Document:
    """The side that is translated into: `target.spm`, with a vocabulary of its own where `separate_vocabs` says so."""
    return _build(path, path.with_name(_target_vocabulary(settings)), roles)


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
    spm, vocabulary = read_sentencepiece(path), read_vocab_json(vocab_path)
    _check(path, spm, vocab_path, vocabulary)
    unk = _content(roles["unk"])
    if unk not in vocabulary:
        raise CheckpointError(f"{vocab_path} lacks the unknown token {unk!r}; take the file from the same checkpoint")
    codes = [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]
    kept = {_content(token) for token in roles.values()} | set(codes)
    runs = _Runs(spm, vocabulary)
    vocab = _scored(spm, vocabulary, kept, runs)
    parts: list[Document] = precompiled(spm)
    if spm.squeezes_spaces:
        parts += [replace(old, new, regex=True) for old, new in ((" {2,}", " "), ("^ +", ""), (f"[ {SPACE}]+$", ""))]
    if spm.dummy_prefix:
        parts.append({"type": "Prepend", "prepend": SPACE})
    parts += [replace(" ", SPACE), *runs.normalizers()]
    decoders = [*(replace(char, "") for char in (" ", *runs.ends)), replace(SPACE, " "), {"type": "Fuse"}]
    decoders.append({"type": "Strip", "content": " ", "start": 1000, "stop": 0})  # all of them
    return document(
        {"type": "Unigram", "unk_id": vocabulary[unk], "vocab": vocab, "byte_fallback": spm.byte_fallback},
        normalizer={"type": "Sequence", "normalizers": parts},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": decoders},
        added_tokens=[{"content": token, "normalized": False, "special": False} for token in codes],
    )


def _check(path: Path, spm: SentencePieceModel, vocab_path: Path, vocabulary: dict[str, int]) -> None:
    if spm.algorithm is not Algorithm.UNIGRAM or spm.whitespace_as_suffix or not spm.escapes_spaces:
        place = "behind" if spm.whitespace_as_suffix else "before"
        raise UnsupportedError(
            f"{path} is a SentencePiece {spm.algorithm.name.lower()} model with the space {place} a word; Marian's"
            f" tokenizer is supported for unigram models that write it as {SPACE} before a word"
        )
    if max(vocabulary.values()) != len(vocabulary) - 1:
        raise CheckpointError(
            f"{vocab_path} gives ids up to {max(vocabulary.values())} to {len(vocabulary)} tokens, expected one id"
            " after the other; take the file from the checkpoint"
        )


class _Runs:
    """Runs of unknown characters, and the two private characters that they are put between."""

    def __init__(self, spm: SentencePieceModel, vocabulary: dict[str, int]) -> None:
        self._known = {char for piece in spm.pieces if piece.kind is Kind.NORMAL for char in piece.text}
        used = self._known.union(*vocabulary)
        self.ends = [char for char in map(chr, range(0xE000, 0xF900)) if char not in used][:2]
        self._bytes = spm.byte_fallback  # unknown characters then become bytes, and nothing is looked up

    def normalizers(self) -> list[Document]:
        if self._bytes:
            return []
        unknown = f"[^{''.join(map(re.escape, sorted(self._known)))}]"
        bounds = (f"(?<!{unknown})(?={unknown})", f"(?<={unknown})(?!{unknown})")
        return [replace(bound, end, regex=True) for bound, end in zip(bounds, self.ends, strict=True)]

    def name(self, token: str) -> str:
        """The name of a token for which the model has no piece."""
        if self._bytes or self._known.intersection(token):
            return f"{token} "  # once spaces are written "▁", no text holds a space
        return token.join(self.ends)


def _content(token: Special | None) -> str:
    return str(token) if token is None or isinstance(token, str) else token.content


def _scored(
    spm: SentencePieceModel, vocabulary: dict[str, int], kept: set[str], runs: _Runs
) -> list[tuple[str, float]]:
    """The pieces in the order of their ids, then those that the vocabulary lacks; special tokens keep their names."""
    normal = [piece.score for piece in spm.pieces if piece.kind is Kind.NORMAL] or [0.0]
    lowest, highest = min(normal), max(normal)
    scores = {}
    for piece in spm.pieces:
        if piece.kind is Kind.NORMAL:
            scores[piece.text] = piece.score
        elif piece.kind is Kind.USER_DEFINED:  # wins over every other piece (`Model::EncodeOptimized` of sentencepiece)
            scores[piece.text] = len(piece.text) * highest - 0.1
        elif piece.kind is Kind.BYTE:
            scores[piece.text] = lowest
    listed = [
        (token if token in scores or token in kept else runs.name(token), scores.get(token, lowest))
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
    ]
    return listed + [(text, score) for text, score in scores.items() if text not in vocabulary]
