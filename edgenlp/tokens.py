"""Text to ids and back. The one room that imports `tokenizers`; knows no graph and no task.

An `Encoding` is one input of the model: ids, type ids, character offsets into the original text, word and sequence numbers. A text
longer than the window becomes several of them.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import tokenizers
from tokenizers import Encoding, Tokenizer
from tokenizers.processors import ByteLevel

from edgenlp.bundle import Vocabulary
from edgenlp.errors import BundleError, InputError

__all__ = ["Encoding", "Tokens", "Truncation", "as_text", "clean_text"]

Truncation = Literal["longest_first", "only_first", "only_second"]
Text = str | tuple[str, str] | list[str]


class Tokens:
    """A tokenizer, safe to share between threads: truncation is an argument, never a setting.

    Args:
        file: `tokenizer.json`.
        facts: What the bundle says of it.

    Raises:
        BundleError: The file is not a tokenizer.
    """

    def __init__(self, file: Path, facts: Vocabulary) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            version = tokenizers.__version__
            raise BundleError(
                f"{file} cannot be read by tokenizers {version} ({error}); export the bundle again"
            ) from error
        self.facts = facts
        # Special tokens are added after truncation, by the post-processor itself: it is taken out so that it runs once, not twice.
        self._template = self._tokenizer.post_processor or ByteLevel(trim_offsets=False)
        self._tokenizer.post_processor = None
        self._special = {index for index, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(
        self,
        texts: Sequence[Text],
        *,
        max_length: int | None = None,
        stride: int | None = None,
        truncation: Truncation | None = None,
        special_tokens: bool = True,
    ) -> list[list[Encoding]]:
        """The windows of each text: one, unless the text is longer than `max_length` and a `stride` is given.

        Args:
            texts: Strings, pairs of strings (a tuple), or texts already split into words (a list).
            max_length: Most tokens of a window, special tokens included; None for no limit.
            stride: Tokens that neighbouring windows share; None keeps the first window only.
            truncation: What is cut: "longest_first" both of a pair evenly, "only_first", "only_second"; None cuts nothing.
            special_tokens: Whether to add the model's own ([CLS], [SEP], <s> …).

        Raises:
            InputError: A text is no text, or the part that must stay whole leaves no room for the other.
        """
        pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
        encoded = iter(self._encode_raw([self._prepared(part) for pair in pairs for part in pair]))
        windows = []
        for pair in pairs:
            parts = [next(encoded) for _ in pair]
            if truncation is not None and max_length is not None:
                room = max_length - (self._template.num_special_tokens_to_add(len(parts) == 2) if special_tokens else 0)
                self._truncate(parts, room, stride or 0, truncation)
            # Each window is put together by itself: the template marks the second text in the first window only
            cuts = [[part, *part.overflowing] if stride is not None else [part] for part in parts]
            together = itertools.product(*cuts) if len(cuts) == 2 else ((cut, None) for cut in cuts[0])
            windows.append([self._template.process(first, second, special_tokens) for first, second in together])
        return windows

    def _prepared(self, text: str | list[str]) -> str | list[str]:
        if self.facts.joins_words and isinstance(text, list):
            return [word if index == 0 or word.startswith(" ") else " " + word for index, word in enumerate(text)]
        return text

    def _encode_raw(self, texts: list[str | list[str]]) -> list[Encoding]:
        """Ids without special tokens; several texts at once use several threads."""
        results: list[Encoding | None] = [None] * len(texts)
        for split in (False, True):
            where = [index for index, text in enumerate(texts) if isinstance(text, list) == split]
            for index in where:
                _check(texts[index])
            group: list[Any] = [texts[index] for index in where]
            if len(group) == 1:  # a single text is not worth waking the tokenizer's own threads
                encodings = [self._tokenizer.encode(group[0], is_pretokenized=split, add_special_tokens=False)]
            else:
                encodings = self._tokenizer.encode_batch(group, is_pretokenized=split, add_special_tokens=False)
            for index, encoding in zip(where, encodings, strict=True):
                results[index] = encoding
        return [result for result in results if result is not None]

    def _truncate(self, parts: list[Encoding], room: int, stride: int, truncation: Truncation) -> None:
        """Cut `parts` (one or two) to `room` tokens in all, as `tokenizers` itself would."""
        lengths = [len(part) for part in parts]
        if sum(lengths) <= room:
            return
        if len(parts) == 1 or truncation == "only_first":
            kept = [room - sum(lengths[1:]), *lengths[1:]]
        elif truncation == "only_second":
            kept = [lengths[0], room - lengths[0]]
        else:
            kept = _share(lengths, room)
        for part, length, count in zip(parts, lengths, kept, strict=True):
            if count == length:
                continue
            if count <= 0 or stride >= count:
                raise InputError(
                    f"no room: the window leaves {max(count, 0)} tokens for a text of {length}, with an overlap of {stride};"
                    " shorten the other text, or give a larger max_length or a smaller stride"
                )
            part.truncate(count, stride=stride, direction=self.facts.truncation_side)

    def ids(self, encoding: Encoding) -> list[int]:
        """What the model reads of an encoding: its ids, the unknown token's for pieces that the vocabulary has not.

        A SentencePiece model may know pieces that the model was never given (Marian's); their ids begin at the vocabulary's size.
        """
        ids: list[int] = encoding.ids
        unknown, size = self.facts.special.get("unk"), self.facts.size
        if unknown is None or max(ids, default=0) < size:
            return ids
        return [token if token < size else unknown[1] for token in ids]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False, clean_up: bool | None = None) -> str:
        """The text of `ids`.

        Args:
            ids: Token ids.
            skip_special_tokens: Leave out the model's own tokens.
            clean_up: Remove spaces before punctuation and English contractions; None for the tokenizer's default.
        """
        # Left out here: from 0.23 on, tokenizers itself no longer skips special tokens that it normalizes
        shown = [token for token in ids if not (skip_special_tokens and token in self._special)]
        text: str = self._tokenizer.decode(shown, skip_special_tokens=False)
        return clean_text(text) if (self.facts.clean_up if clean_up is None else clean_up) else text

    def without_special(self, ids: Iterable[int]) -> list[int]:
        """`ids` without the model's own tokens."""
        return [token for token in ids if token not in self._special]

    @property
    def decoder_steps(self) -> tuple[str, ...]:
        """What turns pieces into text, step by step, as `tokenizer.json` names it ("ByteLevel", "Metaspace" …)."""
        if self._tokenizer.decoder is None:
            return ()
        state = json.loads(self._tokenizer.decoder.__getstate__())
        steps = state["decoders"] if state["type"] == "Sequence" else [state]
        return tuple(str(step["type"]) for step in steps)

    def serialized(self) -> str:
        """`tokenizer.json` as it was read, for libraries that build their own tables from it."""
        return str(self._tokenizer.to_str())

    def join(self, pieces: Sequence[str]) -> str:
        """The text of tokens given as the vocabulary writes them (`convert_tokens_to_string` of transformers)."""
        decoder = self._tokenizer.decoder
        text: str = decoder.decode(list(pieces)) if decoder is not None else " ".join(pieces)
        return text

    def token_to_id(self, token: str) -> int | None:
        """The id of `token`, None where the vocabulary does not hold it."""
        return self._tokenizer.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """The token of `token_id`, None where there is none."""
        return self._tokenizer.id_to_token(token_id)

    def special_id(self, role: str) -> int | None:
        """The id of the special token with this role ("mask", "cls" …), None where the tokenizer has none."""
        return self.facts.special[role][1] if role in self.facts.special else None

    def special_token(self, role: str) -> str | None:
        """The special token with this role, None where the tokenizer has none."""
        return self.facts.special[role][0] if role in self.facts.special else None

    def special_count(self, *, pair: bool = False) -> int:
        """How many special tokens are added to one text, or to a pair."""
        count: int = self._template.num_special_tokens_to_add(pair)
        return count

    @property
    def marks_continuations(self) -> bool:
        """Whether a token that continues a word is written with a prefix (WordPiece's "##")."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))


def as_text(value: object, what: str = "the text") -> str:
    """`value` itself if it is a text that can be tokenized.

    Raises:
        InputError: It is not a string, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise InputError(f"{what} must be a string, found {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds half of a surrogate pair (U+{ord(value[error.start]):04X}) at character {error.start}, which is no"
            " character; mend it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from error
    return value


def _check(text: str | list[str]) -> None:
    for part in text if isinstance(text, list) else [text]:
        as_text(part)


def _share(lengths: Sequence[int], room: int) -> list[int]:
    """How two texts share `room` tokens when the longest is cut first (`truncate_encodings` of tokenizers)."""
    short, long = min(lengths), max(lengths)
    if 2 * short > room:
        kept = (room // 2, room - room // 2)
    else:
        kept = (short, min(long, room - short))
    return list(kept) if lengths[0] <= lengths[1] else [kept[1], kept[0]]


def clean_text(text: str) -> str:
    """`clean_up_tokenization` of transformers: the same replacements in the same order."""
    for before in (" .", " ?", " !", " ,"):
        text = text.replace(before, before[1:])
    text = text.replace(" ' ", "'")
    for before in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(before, before[1:])
    return text
