"""Texts to the ids that an encoder-decoder reads, as a call asks for: prefix, language, window. Runs no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgenlp.errors import InputError, TooLongError
from edgenlp.model import Model
from edgenlp.tasks.orders import Order
from edgenlp.tasks.passages import Passage, passages
from edgenlp.tasks.task import cut
from edgenlp.tokens import as_text

__all__ = ["Source", "longest", "parts_of", "sources_of"]

_SHARE = 8  # windows that overlap share an eighth


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
        ids = list(model.tokens.ids(windows[0]))
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
