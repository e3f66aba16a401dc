"""Texts to the ids that an encoder-decoder reads, and what its answer begins with, as a call asks for. Runs no model."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgenlp.bundle import Languages
from edgenlp.decode.options import Generation
from edgenlp.errors import InputError, TooLongError
from edgenlp.model import Model
from edgenlp.tasks.passages import Passage, passages
from edgenlp.tasks.task import cut
from edgenlp.tokens import Tokens, as_text

__all__ = ["Direction", "Order", "Source", "beginning", "language", "longest", "parts_of", "sources_of"]

_SHARE = 8  # windows that overlap share an eighth


@dataclass(frozen=True)
class Direction:
    """From what language into which.

    Attributes:
        name: Of the task, as the checkpoint's own options call it ("translation_en_to_fr").
        source: Id of the language's token in what is read, None where there is none.
        target: Id of the token that what is written begins with, None where the checkpoint's own options say it.
    """

    name: str
    source: int | None = None
    target: int | None = None


@dataclass(frozen=True)
class Order:
    """What one call asks for.

    Attributes:
        given: All options, those of `pipeline(...)` and of the call.
        writing: Of generation.
        tensors: Whether ids are returned instead of text.
        prefix: Before every text.
        source: Id of the source language's token, None where there is none.
        plain: Ids that every answer begins with.
        first: Ids that this one begins with: the same, or those of `target_prefix` after them.
        alternatives: How many of the tokens that may come next are gone on with; None for no such thing.
        most: `max_length`, where somebody has chosen one.
    """

    given: Mapping[str, Any]
    writing: Generation
    tensors: bool
    prefix: str
    source: int | None
    plain: tuple[int, ...]
    first: tuple[int, ...]
    alternatives: int | None
    most: int | None

    @property
    def clean_up(self) -> bool:
        """Whether spaces before punctuation go; unless asked for they stay, whatever the tokenizer's own default."""
        return bool(self.given.get("clean_up_tokenization_spaces"))

    @property
    def hidden_stops(self) -> tuple[str, ...]:
        """Stop strings that are no part of the answer."""
        return () if self.given.get("keep_stop") in (None, True) else self.writing.stop_strings

    @property
    def strides(self) -> bool:
        """Whether a text that is too long is answered in parts."""
        return self.given.get("long_input") == "stride"


@dataclass(frozen=True)
class Source:
    """What is read for one answer.

    Attributes:
        ids: Read by the encoder.
        first: What the answer begins with.
        after: White space between this part of a text and the next one.
    """

    ids: list[int]
    first: tuple[int, ...]
    after: str = ""


def longest(model: Model) -> int:
    """Most tokens of a part of a text: those of the window, or fewer where the tokenizer was declared for fewer."""
    return min(model.bundle.window, model.bundle.tokenizer.max_length or model.bundle.window)


def sources_of(model: Model, texts: Sequence[str], order: Order, *, whole: bool = True) -> list[Source]:
    """What is read for each text.

    Args:
        model: Has the tokenizer and the window.
        texts: Without prefix.
        order: Has the prefix, the language and what is cut.
        whole: Whether a text beyond the window is an error.

    Raises:
        InputError: A text is none, or has no tokens.
        TooLongError: A text is longer than the window, and was to be neither cut nor answered in parts.
    """
    truncation = order.given.get("truncation")
    window: dict[str, Any] = {"max_length": None, "stride": None, "truncation": None}
    if not order.strides:
        window = cut(model, order.given.get("long_input"), "error", truncation=getattr(truncation, "value", truncation))
    encoded = model.tokens.encode([order.prefix + as_text(text) for text in texts], **window)
    found = []
    for windows in encoded:
        ids = list(windows[0].ids)
        if not ids:
            raise InputError("the text has no tokens, and the tokenizer adds none of its own; give a text")
        if whole and len(ids) > model.bundle.window:
            raise TooLongError(
                f"the text is {len(ids)} tokens long, the model reads at most {model.bundle.window}; shorten it, or give"
                " long_input='truncate' or 'stride'"
            )
        languages = model.bundle.languages
        if order.source is not None and languages is not None:
            ids[0 if languages.before else -1] = order.source  # it stands where the template has another one's
        found.append(Source(ids, order.first))
    return found


def parts_of(model: Model, text: str, order: Order, *, overlaps: bool = False) -> list[Passage]:
    """A text in parts that fit the window with prefix and special tokens.

    Args:
        model: Has the tokenizer and the window.
        text: Without prefix.
        order: Has the prefix.
        overlaps: Whether neighbours share sentences.

    Raises:
        InputError: The prefix leaves no room.
    """
    tokens = model.tokens
    room = longest(model) - len(tokens.encode([order.prefix])[0][0].ids)
    if room < 1:
        raise InputError(
            f"the prefix {order.prefix!r} leaves no room for a text in a window of {longest(model)} tokens"
        )

    def count(texts: Sequence[str]) -> list[int]:
        return [len(windows[0].ids) for windows in tokens.encode(texts, special_tokens=False)]

    return passages(text, room, count, overlap=room // _SHARE if overlaps else 0)


def beginning(tokens: Tokens, text: Any, writing: Generation, columns: int) -> list[int]:
    """The ids of what an answer is to begin with.

    Args:
        tokens: Of what is written.
        text: Without special tokens.
        writing: Knows the end tokens.
        columns: How many ids the model can write.

    Raises:
        InputError: The vocabulary does not hold it, or it would end the answer.
    """
    ids: list[int] = tokens.encode([as_text(text, "target_prefix")], special_tokens=False)[0][0].ids
    unknown = tokens.special_id("unk")
    for token in ids:
        if token in writing.eos_token_id:
            raise InputError(
                f"target_prefix {text!r} holds {tokens.id_to_token(token)!r}, which ends a text; leave it out"
            )
        if token == unknown or token >= columns:
            raise InputError(
                f"target_prefix {text!r} cannot be written with the model's vocabulary:"
                f" {tokens.id_to_token(token)!r} stands for a part of it; give another beginning"
            )
    return ids


def language(languages: Languages, code: Any, option: str) -> int:
    """The id of a language's token.

    Raises:
        InputError: There is no such language; the nearest ones and all known ones are named.
    """
    if isinstance(code, str) and code in languages.ids:
        return languages.ids[code]
    text = str(code)
    known = sorted(languages.ids)
    near = (
        difflib.get_close_matches(text, known, 3) or [item for item in known if text and item.startswith(text[:2])][:3]
    )
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise InputError(f"{option}={code!r} is no language of this model; {hint}it knows {', '.join(known)}")
