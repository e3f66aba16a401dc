"""Texts to labels with scores. Knows what the columns of a sequence classifier's logits mean."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError
from edgenlp.logits import best, sigmoid, softmax
from edgenlp.model import Model
from edgenlp.tasks.task import Task, check_choice, check_count, cut, options, stream
from edgenlp.tokens import as_text

__all__ = ["FUNCTIONS", "Label", "TextClassification", "function_of"]

Floats = NDArray[np.float32]
_UNSET: Any = object()


class Label(TypedDict):
    """One label of a text."""

    label: str
    score: float


FUNCTIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "none": lambda logits: logits,
}


class TextClassification(Task):
    """`pipeline("text-classification")`, also called "sentiment-analysis"."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        # transformers nests a text's result one deeper where `top_k` was given to the pipeline and not to the call
        self._top_k = self.defaults.pop("top_k", _UNSET)
        if self._top_k is not _UNSET:
            self.defaults.pop("return_all_scores", None)

    @options
    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = _UNSET,
        return_all_scores: bool | None = None,
        function_to_apply: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        padding: bool | str | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Label texts, or pairs of texts.

        Args:
            inputs: A text, a pair `{"text": ..., "text_pair": ...}`, a list of either, or any iterable of either.
            top_k: How many labels, the likeliest first; None for all. Unset: the likeliest alone.
            return_all_scores: The old name of `top_k`: True for all labels in the model's order, False for the likeliest.
            function_to_apply: "softmax", "sigmoid" or "none" on the logits; None (or "default") for what the model was trained with.
            truncation: True, "longest_first", "only_first" or "only_second" cuts what is longer than `max_length`.
            max_length: Most tokens; None for the model's window.
            padding: Accepted for transformers' sake; batches are padded as little as they can be, whatever it says.
            long_input: "error" (the default), "truncate", or "stride": overlapping windows, their scores averaged by tokens.
            batch_size: Most texts in one run of the model.

        Returns:
            As transformers 4.57: a text gives `[{"label", "score"}]`, with `top_k` a list of `top_k` labels; a pair gives
            `{"label", "score"}`; a list gives a list of these without the outer list; an iterable gives an iterator.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: A text is longer than the window and is to be neither truncated nor strided.
        """
        legacy = top_k is _UNSET and self._top_k is _UNSET
        if return_all_scores is None and self.bundle.head.all_scores:
            return_all_scores = True
        if top_k is not _UNSET:
            count = top_k
        elif return_all_scores is not None:
            count = None if return_all_scores else 1
        else:
            count = 1 if self._top_k is _UNSET else self._top_k
        check_count("top_k", count, optional=True)
        function = function_of(self, function_to_apply)
        window = cut(self.model, long_input, "error", truncation=truncation, max_length=max_length)
        labels = self.bundle.head.labels

        def step(texts: list[Any]) -> list[Any]:
            scores = self._scores([_as_input(text) for text in texts], function, window, batch_size)
            if legacy and count == 1:
                return [Label(label=labels[int(row.argmax())], score=float(row.max())) for row in scores]
            orders = [range(len(row)) if legacy else best(row, count) for row in scores]
            pairs = zip(orders, scores, strict=True)
            return [[Label(label=labels[index], score=float(row[index])) for index in order] for order, row in pairs]

        result = stream(inputs, lambda value: isinstance(value, str | Mapping), step, batch_size=batch_size)
        return [result] if isinstance(inputs, str) and top_k is _UNSET else result

    def _scores(
        self,
        texts: list[str | tuple[str, str]],
        function: Callable[[Floats], Floats],
        window: dict[str, Any],
        batch_size: int | None,
    ) -> list[Floats]:
        """Scores [labels] of each text, averaged over its windows by their tokens."""
        split = self.tokens.encode(texts, **window)
        rows = self.encoder([item for group in split for item in group], batch_size=batch_size)
        logits = iter(function(row["logits"]) for row in rows)
        return [np.average([next(logits) for _ in group], axis=0, weights=list(map(len, group))) for group in split]


def function_of(task: Task, asked: str | None) -> Callable[[Floats], Floats]:
    """The function from logits to scores: the one asked for, else what the head was trained with."""
    head = task.bundle.head
    if asked is not None and str(asked).lower() != "default":
        check_choice("function_to_apply", str(asked).lower(), FUNCTIONS)
        return FUNCTIONS[str(asked).lower()]
    if head.problem == "regression":
        return FUNCTIONS["none"]
    if head.problem == "multi_label_classification" or len(head.labels) == 1:
        return sigmoid
    return softmax


def _as_input(value: Any) -> str | tuple[str, str]:
    if isinstance(value, Mapping):
        if not set(value) <= {"text", "text_pair"} or "text" not in value:
            raise InputError(
                f'a pair is {{"text": ..., "text_pair": ...}}, found the keys {", ".join(map(str, value))}'
            )
        text = as_text(value["text"], "text")
        return text if not value.get("text_pair") else (text, as_text(value["text_pair"], "text_pair"))
    # transformers still takes the old form of a pair, [["text", "text_pair"]]
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and len(value[0]) == 2:
        return as_text(value[0][0], "text"), as_text(value[0][1], "text_pair")
    if isinstance(value, list | tuple):
        raise InputError('to send a pair of texts, send {"text": "My text", "text_pair": "My pair"}')
    return as_text(value)
