"""Masked texts to the likeliest tokens. Knows what a masked language model's columns mean: the vocabulary."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import BundleError, InputError
from edgenlp.logits import best, softmax
from edgenlp.model import Model
from edgenlp.tasks.task import Task, check_choice, check_count, cut, options, stream
from edgenlp.tokens import Encoding, as_text

__all__ = ["FillMask", "Filling"]

_TOKENIZER_OPTIONS = ("add_special_tokens", "max_length", "padding", "truncation")

Choice = list[tuple[int, float]]


class Filling(TypedDict):
    """One token for one mask."""

    score: float
    token: int
    token_str: str
    sequence: str


@dataclass(frozen=True)
class Masked:
    """A text with masks.

    Attributes:
        ids: Of the whole text.
        masks: Where in `ids` the masks are.
        windows: What is run.
        rows: Per window the positions wanted.
        order: Per mask its window, and its place among the rows of that window.
    """

    ids: list[int]
    masks: list[int]
    windows: list[Encoding]
    rows: list[list[int]]
    order: list[tuple[int, int]]


class FillMask(Task):
    """`pipeline("fill-mask")`."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        mask = self.tokens.special_id("mask")
        if mask is None:
            raise BundleError(
                f"the tokenizer of {self.bundle.name} defines no mask token; give a masked language model"
            )
        self._mask = mask

    @options
    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = None,
        targets: str | Sequence[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Fill the masks of texts.

        Args:
            inputs: A text with at least one mask token, a list or any iterable of such texts.
            top_k: How many tokens per mask, the likeliest first; None for 5.
            targets: Tokens to choose from. One that is not in the vocabulary is replaced by its first sub-token, with a
                warning.
            tokenizer_kwargs: `truncation`, `max_length` and `add_special_tokens`; `padding` is accepted and changes
                nothing.
            long_input: "error" (the default), "truncate", or "stride": overlapping windows, each mask filled where it
                stands furthest from an edge.
            batch_size: Most texts in one run of the model.

        Returns:
            As transformers 4.57: per text a list of `{"score", "token", "token_str", "sequence"}`, or with several
            masks a list of such lists. A list of one text gives what that text gives; a longer list a list, an iterable
            an iterator.

        Raises:
            InputError: A text has no mask, or an option cannot be used.
            TooLongError: A text is longer than the window and is to be neither truncated nor strided.
        """
        check_count("top_k", top_k, least=0, optional=True)
        allowed = None if targets is None else self._target_ids([targets] if isinstance(targets, str) else targets)
        given = tokenizer_kwargs or {}
        for name in given:
            check_choice("a key of tokenizer_kwargs", name, _TOKENIZER_OPTIONS)
        window = cut(
            self.model, long_input, "error", truncation=given.get("truncation"), max_length=given.get("max_length")
        )
        window["special_tokens"] = bool(given.get("add_special_tokens", True))
        count = 5 if top_k is None else top_k

        def step(texts: list[Any]) -> list[Any]:
            masked = self._masked([_as_input(text) for text in texts], window)
            choices = self._choose(masked, allowed, count, batch_size)
            return [self._filled(item, found) for item, found in zip(masked, choices, strict=True)]

        result = stream(inputs, lambda value: isinstance(value, str), step, batch_size=batch_size)
        return result[0] if isinstance(inputs, list) and len(inputs) == 1 and isinstance(result, list) else result

    def _target_ids(self, targets: Sequence[str]) -> NDArray[np.intp]:
        """The ids of `targets`, each once."""
        if not isinstance(targets, list | tuple | set | frozenset):
            raise InputError(f"targets must be a string or a list of strings, found {type(targets).__name__}")
        ids = []
        for target in targets:
            found = self.tokens.token_to_id(as_text(target, "a target"))
            if found is None:
                pieces = self.tokens.encode([target], max_length=1, truncation="longest_first", special_tokens=False)[
                    0
                ][0].ids
                remedy = f"replaced by {self.tokens.id_to_token(pieces[0])!r}" if pieces else "left out"
                warnings.warn(f"the target {target!r} is not in the model's vocabulary: {remedy}", stacklevel=4)
                if not pieces:
                    continue
                found = pieces[0]
            ids.append(found)
        if not ids:
            raise InputError("at least one target must be given that the tokenizer can make a token of")
        return np.array(sorted(set(ids)))

    def _masked(self, texts: list[str], window: dict[str, Any]) -> list[Masked]:
        """Find the masks of each text, and the window that each is read in."""
        split = self.tokens.encode(texts, **window)
        result = []
        for text, windows in zip(texts, split, strict=True):
            # the windows overlap, so the text's own ids are not theirs put together
            whole = (
                windows[0]
                if len(windows) == 1
                else self.tokens.encode([text], special_tokens=window["special_tokens"])[0][0]
            )
            masks = [place for place, token in enumerate(whole.ids) if token == self._mask]
            if not masks:
                own = self.tokens.special_token("mask")
                other = next((sign for sign in ("<mask>", "[MASK]") if sign != own and sign in text), None)
                hint = f": this model's mask is {own}, not {other}" if other else ""
                raise InputError(f"no mask token ({own}) found on the input {text[:80]!r}{hint}")
            rows: list[list[int]] = [[] for _ in windows]
            order = []
            for place in masks:
                index, row = (0, place) if len(windows) == 1 else _innermost(windows, whole.offsets[place], self._mask)
                order.append((index, len(rows[index])))
                rows[index].append(row)
            result.append(Masked(whole.ids, masks, windows, rows, order))
        return result

    def _choose(
        self, masked: list[Masked], allowed: NDArray[np.intp] | None, count: int, batch_size: int | None
    ) -> list[list[Choice]]:
        """Per text and mask the best tokens with their probabilities over the whole vocabulary."""

        def choose(index: int, outputs: dict[str, NDArray[np.float32]]) -> list[Choice]:
            choices = []
            for logits in outputs["logits"]:
                scores = softmax(logits)
                if allowed is not None:
                    scores = scores[allowed]
                found = best(scores, count)
                choices.append(
                    [(int(item if allowed is None else allowed[item]), float(scores[item])) for item in found]
                )
            return choices

        # windows without a mask are never run
        wanted = [
            (window, rows) for item in masked for window, rows in zip(item.windows, item.rows, strict=True) if rows
        ]
        # a row is as long as the vocabulary: `each` reduces it at once
        results = iter(
            self.encoder(
                [pair[0] for pair in wanted], rows=[pair[1] for pair in wanted], batch_size=batch_size, each=choose
            )
        )
        answers = []
        for item in masked:
            windows = [next(results) if rows else [] for rows in item.rows]
            answers.append([windows[index][place] for index, place in item.order])
        return answers

    def _filled(self, text: Masked, choices: list[Choice]) -> list[Filling] | list[list[Filling]]:
        pad = self.tokens.special_id("pad")
        single = len(text.masks) == 1
        result = []
        for place, choice in zip(text.masks, choices, strict=True):
            row = []
            for token, score in choice:
                ids = [token if index == place else other for index, other in enumerate(text.ids)]
                # the other masks are special tokens too: where there are any, nothing special is left out
                sequence = self.tokens.decode([other for other in ids if other != pad], skip_special_tokens=single)
                row.append(Filling(score=score, token=token, token_str=self.tokens.decode([token]), sequence=sequence))
            result.append(row)
        return result[0] if single else result


def _as_input(value: Any) -> str:
    # transformers takes a text in a list of its own for that text, and of several such texts forgets all but the first
    return as_text(value[0] if isinstance(value, list) and len(value) == 1 else value)


def _innermost(windows: Sequence[Encoding], offsets: tuple[int, int], mask: int) -> tuple[int, int]:
    """Which window holds the mask at these character offsets furthest from an edge, and its row there."""
    found = [
        (min(row, len(window) - 1 - row), -index, row)
        for index, window in enumerate(windows)
        for row, token in enumerate(window.ids)
        if token == mask and window.offsets[row] == offsets
    ]
    _, index, row = max(found)
    return -index, row
