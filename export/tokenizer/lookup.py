"""`tokenizer.json` of SentencePiece pieces that a `vocab.json` numbers. Knows neither tokenizer class nor language.

Marian and M2M-100 have no fast form in transformers: they segment with a SentencePiece model and look each piece up in
`vocab.json`, which holds other pieces than the model does. Where the two differ:

* A token that no segmentation yields gets a name that no text holds: it keeps its id and is never found.
* A run of characters that the model does not know is one piece, and is looked up like the others.
* A piece that `vocab.json` lacks comes behind it, since leaving it out would change how a text is cut. So **ids from
  the vocabulary's size up stand for the unknown token**.

A Unigram model numbers its pieces by their place, so its list is `vocab.json` in order, with the model's scores; unknown
runs are put between two private characters, and the tokens that consist of such characters are named so too. A BPE model
numbers them freely; an unknown run that is no token becomes one private character, which it does not hold.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgenlp.errors import CheckpointError, UnsupportedError

from .charsmap import rule_of
from .draft import Document, document, replace
from .files import read_vocab_json
from .pieces import SPACE, merges, precompiled
from .sentencepiece import Algorithm, Kind, SentencePieceModel, read_sentencepiece

__all__ = ["Lookup", "read_lookup"]

Scored = list[tuple[str, float]]


def read_lookup(path: Path, vocab_path: Path, unk: str) -> "Lookup":
    """Read a SentencePiece model and the vocabulary that numbers its pieces.

    Raises:
        CheckpointError: One of them is broken, or the vocabulary lacks the unknown token.
        UnsupportedError: The model is of a kind that cannot be converted exactly.
    """
    spm, vocabulary = read_sentencepiece(path), read_vocab_json(vocab_path)
    own = [piece.text for piece in spm.pieces if piece.kind is Kind.USER_DEFINED]
    if (
        spm.algorithm not in (Algorithm.UNIGRAM, Algorithm.BPE)
        or spm.whitespace_as_suffix
        or not spm.escapes_spaces
        or not spm.dummy_prefix
        or (spm.algorithm is Algorithm.BPE and (own or spm.byte_fallback))
    ):
        place = "behind" if spm.whitespace_as_suffix else "before"
        raise UnsupportedError(
            f"{path} is a SentencePiece {spm.algorithm.name.lower()} model with the space {place} a word,"
            f" {'one' if spm.dummy_prefix else 'none'} before the text, {len(own)} pieces of its user's and"
            f" {'' if spm.byte_fallback else 'no '}bytes for unknown characters; beside a vocab.json, models that write"
            f" {SPACE} before each word, the first too, are supported: unigram, and bpe without either of the others"
        )
    if max(vocabulary.values()) != len(vocabulary) - 1:
        raise CheckpointError(
            f"{vocab_path} gives ids up to {max(vocabulary.values())} to {len(vocabulary)} tokens, expected one id"
            " after the other; take the file from the checkpoint"
        )
    if unk not in vocabulary:
        raise CheckpointError(f"{vocab_path} lacks the unknown token {unk!r}; take the file from the same checkpoint")
    return Lookup(spm, vocabulary, unk)


class Lookup:
    """A SentencePiece model and a vocabulary, ready to be written.

    Attributes:
        vocabulary: Token to id, without gaps.
        marks: Two private characters that are in no piece and no token, for whoever wants to mark places in a text.
    """

    def __init__(self, spm: SentencePieceModel, vocabulary: Mapping[str, int], unk: str) -> None:
        self._spm = spm
        self._unk = unk
        self.vocabulary = vocabulary
        known = {char for piece in spm.pieces if piece.kind is Kind.NORMAL for char in piece.text}
        used = known.union(*vocabulary)
        private = [char for char in map(chr, range(0xE000, 0xF900)) if char not in used]
        self._ends, self.marks = private[:2], (private[2], private[3])
        self._known = known.union(self.marks)
        self._unknown = f"[^{''.join(map(re.escape, sorted(self._known)))}]"

    def mangled(self, text: str) -> str:
        """`text` with its unknown runs put between the private characters, as the normalizer of a Unigram model does."""
        if self._spm.byte_fallback:
            return text
        return re.sub(f"{self._unknown}+", lambda run: run[0].join(self._ends), text)

    @property
    def is_unigram(self) -> bool:
        """Whether the model is one of scores, not of merges."""
        return self._spm.algorithm is Algorithm.UNIGRAM

    @property
    def squeezes(self) -> bool:
        """Whether the model drops outer spaces and makes inner runs one."""
        return self._spm.squeezes_spaces

    def document(
        self,
        *,
        kept: frozenset[str] | set[str],
        more: Sequence[str] = (),
        names: Mapping[str, str] | None = None,
        before: Sequence[Document] = (),
        prefixed: Sequence[Document] = (),
    ) -> Document:
        """The `tokenizer.json`, its post-processor still missing.

        Args:
            kept: Tokens that keep their name, since they are cut out of the text before it is segmented.
            more: Tokens behind those of the vocabulary, under the names that they are to have.
            names: Other names of tokens, pieces by themselves; a token that the vocabulary lacks comes behind.
            before: Normalizers before the model's own.
            prefixed: Normalizers after a space was put before the text, and before spaces are written "▁".
        """
        parts: list[Document] = [*before, *self._joined(), *precompiled(self._spm)]
        if self._spm.squeezes_spaces:
            squeeze = ((" {2,}", " "), (r"\A +", ""), (rf"[ {SPACE}]+\z", ""))
            parts += [replace(old, new, regex=True) for old, new in squeeze]
        parts += [{"type": "Prepend", "prepend": SPACE}, *prefixed, replace(" ", SPACE), *self._runs()]
        dropped = (" ", *self._ends, *(SPACE + mark for mark in self.marks))
        decoders = [*(replace(char, "") for char in dropped), replace(SPACE, " "), {"type": "Fuse"}]
        decoders.append(replace(r"\A +| +\z", "", regex=True))  # a Strip panics at the end of an empty text
        model = self._unigram(kept, more, names or {}) if self.is_unigram else self._bpe(kept, more)
        return document(
            model,
            normalizer={"type": "Sequence", "normalizers": parts},
            pre_tokenizer=None,
            decoder={"type": "Sequence", "decoders": decoders},
        )

    def _joined(self) -> list[Document]:
        """Normalizers that put characters together as the model's own rules do, where the library would not.

        It applies the rules to a letter with all its marks at once, and then takes the shortest rule that fits and drops
        the marks that are left; from six bytes on it applies them to each character by itself. So it misses letters with
        two marks, and pairs of characters of three bytes each: vowel signs, kana.
        """
        found: dict[str, str] = {}
        if not self._spm.charsmap:
            return []
        for char in map(chr, range(0x00C0, 0xFFFF)):
            parts = unicodedata.decomposition(char).split()
            if len(parts) != 2 or parts[0].startswith("<"):
                continue
            pair, apart = "".join(chr(int(code, 16)) for code in parts), unicodedata.normalize("NFD", char)
            if not self._known.intersection(apart if len(pair.encode()) == 6 else char):
                continue
            for text in (pair, apart):
                missed = len(text) > 2 or len(text.encode()) == 6
                if missed and rule_of(self._spm.charsmap, text) == char:
                    found[text] = char
        return [replace(text, found[text]) for text in sorted(found, key=lambda text: (-len(text), text))]

    def _runs(self) -> list[Document]:
        unknown = self._unknown
        if self._spm.byte_fallback:  # unknown characters then become bytes, and nothing is looked up
            return []
        if self.is_unigram:
            bounds = (f"(?<!{unknown})(?={unknown})", f"(?<={unknown})(?!{unknown})")
            return [replace(bound, end, regex=True) for bound, end in zip(bounds, self._ends, strict=True)]
        runs = [re.escape(token) for token in self._unknown_tokens()]
        listed = f"(?!(?:{'|'.join(runs)})(?!{unknown}))" if runs else ""
        return [replace(f"(?<!{unknown}){listed}{unknown}+", self._ends[0], regex=True)]

    def _unknown_tokens(self) -> list[str]:
        """Tokens of the vocabulary that are nothing but characters that the model does not know."""
        return [token for token in self.vocabulary if token and not self._known.intersection(token)]

    def _name(self, token: str) -> str:
        """The name of a token for which the model has no piece."""
        if self._spm.byte_fallback or self._known.intersection(token):
            return f"{token} "  # once spaces are written "▁", no text holds a space
        return self.mangled(token) if self.is_unigram else token

    def _ordered(self) -> list[str]:
        return sorted(self.vocabulary, key=self.vocabulary.__getitem__)

    def _unigram(self, kept: frozenset[str] | set[str], more: Sequence[str], names: Mapping[str, str]) -> Document:
        normal = [piece.score for piece in self._spm.pieces if piece.kind is Kind.NORMAL] or [0.0]
        lowest, highest = min(normal), max(normal)
        scores = {}
        for piece in self._spm.pieces:
            if piece.kind is Kind.NORMAL:
                scores[piece.text] = piece.score
            elif piece.kind is Kind.USER_DEFINED:  # wins over every other piece (`Model::EncodeOptimized`)
                scores[piece.text] = len(piece.text) * highest - 0.1
            elif piece.kind is Kind.BYTE:
                scores[piece.text] = lowest
        vocab: Scored = []
        for token in self._ordered():
            name = names.get(token, token if token in scores or token in kept else self._name(token))
            vocab.append((name, scores.get(token, lowest)))
        vocab += [(token, lowest) for token in more]
        vocab += [(text, score) for text, score in scores.items() if text not in self.vocabulary]
        vocab += [(name, lowest) for token, name in names.items() if token not in self.vocabulary]
        return {
            "type": "Unigram",
            "unk_id": self.vocabulary[self._unk],
            "vocab": vocab,
            "byte_fallback": self._spm.byte_fallback,
        }

    def _bpe(self, kept: frozenset[str] | set[str], more: Sequence[str]) -> Document:
        scores = {piece.text: piece.score for piece in self._spm.pieces if piece.kind is Kind.NORMAL}
        named = {token: token if token in scores or token in kept else self._name(token) for token in self._ordered()}
        vocab = {name: self.vocabulary[token] for token, name in named.items()}
        joins = merges({text: index for index, text in enumerate(scores)}, scores)
        behind = [*more, *(text for text in scores if text not in self.vocabulary)]
        for token in sorted(self._unknown_tokens(), key=len, reverse=True):
            if len(token) > 1 and token not in kept:  # letter by letter, from the left
                parts = [(token[:end], token[end]) for end in range(1, len(token))]
                joins += [part for part in parts if part not in joins]
                behind += [text for part in parts for text in part if text not in vocab]
        for text in dict.fromkeys(behind):
            vocab.setdefault(text, len(vocab))
        return {
            "type": "BPE",
            "dropout": None,
            "unk_token": self._unk,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": joins,
        }
