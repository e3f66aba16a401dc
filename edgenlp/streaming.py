"""Token ids to pieces of text, as they come. Knows how text is put together from tokens, and nothing of models.

Pieces are never taken back, and together they are exactly what decoding all ids at once gives. For that, some text waits:

* bytes of a character that is not whole yet; of a byte-fallback tokenizer the whole run of byte tokens, because one bad
  byte makes every byte of its run unreadable;
* with clean-up of spaces, a space that a following "." or "n't" would swallow;
* the beginning of what may become a stop string;
* the last user-perceived character (grapheme cluster), unless nothing can join it any more: a combining mark, a vowel
  sign, an emoji's skin tone, the second half of a flag or the rest of a Hangul syllable may follow. White space and
  punctuation do not wait, so a finished sentence is shown at once.

Time is linear in the length of the text: no token is decoded more than a fixed number of times.
"""

import codecs
import queue
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from edgenlp.clusters import joins
from edgenlp.errors import InputError
from edgenlp.tokens import Tokens, clean_text

__all__ = ["TextIteratorStreamer", "TextPieces", "TextStreamer"]

_CONTEXT = 4  # ids before the new ones, so that none of these counts as the first of a text
_UNDECIDED = " n'vr"  # what may stand between the first space of a clean-up rule and its last character
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


class _Raw(Protocol):
    """Ids without special tokens to text without clean-up."""

    def start(self, ids: list[int]) -> str: ...

    def push(self, ids: list[int]) -> str: ...

    def finish(self) -> str: ...


class TextPieces:
    """The text that follows a prompt, piece by piece.

    Args:
        tokens: The tokenizer.
        prompt: Ids that come before; their own text is no part of the pieces.
        skip_special_tokens: Leave out the model's own tokens.
        clean_up: Remove spaces before punctuation and English contractions; None for the tokenizer's default.
        stop: Strings at which the text ends; neither they nor what follows is part of the pieces.

    Attributes:
        stopped: The stop string that ended the text, None before.
    """

    def __init__(
        self,
        tokens: Tokens,
        prompt: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        clean_up: bool | None = None,
        stop: Sequence[str] = (),
    ) -> None:
        self._tokens = tokens
        self._skip = skip_special_tokens
        self._cleans = tokens.facts.clean_up if clean_up is None else clean_up
        self._raw: _Raw = _Bytes(tokens) if tokens.decoder_steps == ("ByteLevel",) else _Window(tokens)
        self._stop = tuple(text for text in stop if text)
        self.stopped: str | None = None
        self._spaced = ""  # waits for clean-up
        self._open = ""  # may be the beginning of a stop string
        self._last = ""  # the last character
        # a prompt's text is measured by itself, as transformers does: clean-up across the border belongs to what follows
        own = self._shown(prompt)
        self._drop = len(tokens.decode(own, clean_up=self._cleans))
        self._dropped(self._cleaned(self._raw.start(own)))

    def push(self, ids: Iterable[int]) -> str:
        """The text that `ids` make certain; may be empty."""
        if self.stopped is not None:
            return ""
        return self._whole(self._stopping(self._dropped(self._cleaned(self._raw.push(self._shown(ids))))))

    def finish(self) -> str:
        """The text that was held back; nothing may be pushed afterwards."""
        if self.stopped is not None:
            return ""
        text = self._spaced + self._raw.finish()
        text = self._stopping(self._dropped(clean_text(text) if self._cleans else text))
        return self._last + text + self._open

    def _shown(self, ids: Iterable[int]) -> list[int]:
        return self._tokens.without_special(ids) if self._skip else list(ids)

    def _cleaned(self, text: str) -> str:
        if not self._cleans:
            return text
        text = self._spaced + text
        # A rule of clean-up starts at a space, and what it needs after that ends with a character that is none of these
        safe = len(text.rstrip(_UNDECIDED))
        space = text.find(" ", safe)
        cut = len(text) if space < 0 else space
        self._spaced = text[cut:]
        return clean_text(text[:cut])

    def _dropped(self, text: str) -> str:
        if not self._drop:
            return text
        kept = text[self._drop :]
        self._drop = max(0, self._drop - len(text))
        return kept

    def _stopping(self, text: str) -> str:
        if not self._stop:
            return text
        text = self._open + text
        found = [(place, stop) for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            place, self.stopped = min(found)
            self._open = ""
            return text[:place]
        held = max(_overlap(text, stop) for stop in self._stop)
        self._open = text[len(text) - held :]
        return text[: len(text) - held]

    def _whole(self, text: str) -> str:
        text = self._last + text
        cut = len(text) if self.stopped is not None else _boundary(text)
        self._last = text[cut:]
        return text[:cut]


class _Bytes:
    """Byte-level BPE: every token is a string of bytes (`ByteLevel` of tokenizers)."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        # replaces what can be no character as soon as that is certain, by the same rule as tokenizers' own decoder
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def start(self, ids: list[int]) -> str:
        return self.push(ids)

    def push(self, ids: list[int]) -> str:
        pieces = (self._tokens.id_to_token(token) or "" for token in ids)
        return self._decoder.decode(b"".join(_as_bytes(piece) for piece in pieces))

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Window:
    """Any other tokenizer: the new ids are decoded after a few old ones, whose text is taken off."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._byte_tokens = "ByteFallback" in tokens.decoder_steps
        self._before: list[int] = []
        self._held: list[int] = []

    def start(self, ids: list[int]) -> str:
        closed = self._closed(ids)
        self._before, self._held = self._context(ids[:closed]), ids[closed:]
        return self._decode(ids[:closed])

    def push(self, ids: list[int]) -> str:
        if not ids:
            return ""
        self._held += ids
        closed = self._closed(ids) + len(self._held) - len(ids)
        # where the new ids are bytes throughout, so was everything held before them
        return self._take(closed) if self._closed(ids) else ""

    def finish(self) -> str:
        return self._take(len(self._held)) if self._held else ""

    def _take(self, count: int) -> str:
        base, text = self._decode(self._before), self._decode(self._before + self._held[:count])
        self._before = self._context(self._before + self._held[:count])
        del self._held[:count]
        return text[len(base) :]

    def _closed(self, ids: list[int]) -> int:
        """How many of `ids` belong to no run of byte tokens that is still open."""
        count = len(ids)
        while self._byte_tokens and count and _BYTE.fullmatch(self._tokens.id_to_token(ids[count - 1]) or ""):
            count -= 1
        return count

    def _context(self, ids: list[int]) -> list[int]:
        return ids[-_CONTEXT:] if self._decode(ids[-_CONTEXT:]) else ids

    def _decode(self, ids: list[int]) -> str:
        return self._tokens.decode(ids, clean_up=False) if ids else ""


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level BPE writes bytes: a printable byte is itself, the others follow from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_LETTERS = _byte_letters()


def _as_bytes(piece: str) -> bytes:
    try:
        return bytes([_LETTERS[letter] for letter in piece])
    except KeyError:  # an added token, written as plain text
        return piece.encode()


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that `stop` begins with."""
    return next(size for size in range(min(len(text), len(stop) - 1), -1, -1) if text.endswith(stop[:size]))


def _boundary(text: str) -> int:
    """Where the last character begins that something may still join; the end of the text where nothing can."""
    if not text or not _may_grow(text[-1]):
        return len(text)
    start = len(text) - 1
    while start and joins(text[:start], text[start]):
        start -= 1
    return start


def _may_grow(letter: str) -> bool:
    if letter.isspace():
        return letter == "\r"
    # digits, # and * may become keycaps; no mark is set on other ASCII signs
    return not letter.isascii() or letter.isalnum() or letter in "#*"


class TextStreamer:
    """Writes text as it is generated: the `streamer=` of transformers (`put` gets ids, `end` nothing).

    Args:
        tokens: The tokenizer, `pipe.tokens`.
        skip_prompt: Leave out the prompt, which `put` gets first.
        skip_special_tokens: Leave out the model's own tokens.
        clean_up_tokenization_spaces: Remove spaces before punctuation; None for the tokenizer's default.
        write: Gets each piece of text; None writes to stdout, with a newline at the end.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        skip_prompt: bool = False,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._tokens = tokens
        self._skip_prompt = skip_prompt
        self._skip_special = skip_special_tokens
        self._clean_up = clean_up_tokenization_spaces
        self._write = write
        self._pieces: TextPieces | None = None

    def put(self, value: Any) -> None:
        """Take ids: first those of the prompt, then one after the other.

        Raises:
            InputError: There are several rows.
        """
        shape = value.shape
        if len(shape) > 1 and shape[0] > 1:
            raise InputError(f"a text streamer takes one text at a time, found {shape[0]}; stream each by itself")
        ids = (value[0] if len(shape) > 1 else value).tolist()
        if self._pieces is None:
            prompt = ids if self._skip_prompt else ()
            self._pieces = TextPieces(
                self._tokens, prompt, skip_special_tokens=self._skip_special, clean_up=self._clean_up
            )
            ids = [] if self._skip_prompt else ids
        if text := self._pieces.push(ids):
            self.on_finalized_text(text)

    def end(self) -> None:
        """Hand over what was held back; the next `put` begins another text."""
        rest = self._pieces.finish() if self._pieces is not None else ""
        self._pieces = None
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Gets every piece of text, the last one with `stream_end`."""
        if self._write is not None:
            self._write(text)
            return
        sys.stdout.write(text + ("\n" if stream_end else ""))
        sys.stdout.flush()


class TextIteratorStreamer(TextStreamer):
    """An iterator over pieces of text that another thread generates.

    Args:
        tokens: The tokenizer, `pipe.tokens`.
        skip_prompt: Leave out the prompt.
        timeout: Seconds to wait for a piece before `queue.Empty` is raised; None waits as long as it takes.
        skip_special_tokens: Leave out the model's own tokens.
        clean_up_tokenization_spaces: Remove spaces before punctuation; None for the tokenizer's default.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        skip_prompt: bool = False,
        timeout: float | None = None,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> None:
        super().__init__(
            tokens,
            skip_prompt=skip_prompt,
            skip_special_tokens=skip_special_tokens,
            clean_up_tokenization_spaces=clean_up_tokenization_spaces,
        )
        self._timeout = timeout
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Put a piece into the queue."""
        if text:
            self._queue.put(text)
        if stream_end:
            self._queue.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = self._queue.get(timeout=self._timeout)
        if piece is None:
            raise StopIteration
        return piece
