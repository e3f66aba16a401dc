"""Texts to labels chosen by the caller, with scores. Knows entailment: does a text entail "This example is LABEL."?"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError
from edgenlp.logits import softmax
from edgenlp.model import Model
from edgenlp.tasks.task import Task, cut, options, stream
from edgenlp.tokens import as_text

__all__ = ["LabelledSequence", "ZeroShotClassification"]

# Pairs tokenized and run at once: labels multiply the texts of a chunk, and memory must stay bounded.
_PAIRS = 4096

Floats = NDArray[np.float32]


class LabelledSequence(TypedDict):
    """One text with all its labels, the likeliest first."""

    sequence: str
    labels: list[str]
    scores: list[float]


class ZeroShotClassification(Task):
    """`pipeline("zero-shot-classification")`."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        found = self.bundle.head.entailment
        if found is None:
            names = ", ".join(self.bundle.head.labels)
            message = f"no label of {self.bundle.name} means entailment (it has {names}); the last one is taken for it"
            warnings.warn(message, stacklevel=3)
        self._entailment = -1 if found is None else found
        # transformers' rule: the first column, unless that one is entailment
        self._contradiction = -1 if self._entailment == 0 else 0

    @options
    def __call__(
        self,
        sequences: Any,
        candidate_labels: Any = None,
        *,
        hypothesis_template: str = "This example is {}.",
        multi_label: bool = False,
        multi_class: bool | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Score labels for texts.

        Args:
            sequences: A text, a list or any iterable of texts.
            candidate_labels: A list of labels, a string of labels with commas between, or a list of such lists, one per
                text.
            hypothesis_template: Sentence with {} where the label goes.
            multi_label: Whether several labels may hold: each is then scored on its own, entailment against
                contradiction.
            multi_class: The old name of `multi_label`.
            long_input: "truncate" (the default; only the text is cut, never the hypothesis), "error", or "stride":
                overlapping windows, their logits averaged by tokens.
            batch_size: Most pairs of text and label in one run of the model.

        Returns:
            As transformers 4.57: `{"sequence", "labels", "scores"}`, the likeliest label first; a list gives a list of
            these, an iterable an iterator.

        Raises:
            InputError: A text is empty, there is no label, or the template has no place for it.
            TooLongError: `long_input` is "error" and a pair is longer than the window.
        """
        if multi_class is not None:
            warnings.warn("multi_class= is an old option; use multi_label=", stacklevel=3)
            multi_label = multi_class
        if not isinstance(hypothesis_template, str):
            raise InputError(f"hypothesis_template must be a string, found {type(hypothesis_template).__name__}")
        supply = _label_lists(candidate_labels, sequences)
        window = cut(self.model, long_input, "truncate", truncation="only_first")

        def step(texts: list[Any]) -> list[LabelledSequence]:
            chosen = [_next_labels(supply) for _ in texts]
            pairs = [
                (_premise(text), _hypothesis(hypothesis_template, label))
                for text, labels in zip(texts, chosen, strict=True)
                for label in labels
            ]
            logits = iter(self._logits(pairs, window, batch_size))
            rows = [np.stack([next(logits) for _ in labels]) for labels in chosen]
            results = zip(texts, chosen, rows, strict=True)
            return [_ranked(text, labels, self._scores(row, multi_label)) for text, labels, row in results]

        return stream(sequences, lambda value: isinstance(value, str), step, batch_size=batch_size)

    def _logits(self, pairs: list[tuple[str, str]], window: dict[str, Any], batch_size: int | None) -> Iterator[Floats]:
        """Logits [columns] of each pair, averaged over its windows by their tokens."""
        for start in range(0, len(pairs), _PAIRS):
            split = self.tokens.encode(pairs[start : start + _PAIRS], **window)
            rows = iter(self.encoder([item for group in split for item in group], batch_size=batch_size))
            for group in split:
                logits = [next(rows)["logits"] for _ in group]
                yield logits[0] if len(group) == 1 else np.average(logits, axis=0, weights=list(map(len, group)))

    def _scores(self, logits: Floats, multi_label: bool) -> Floats:
        """Scores [labels] from `logits` [labels, columns]."""
        if multi_label or len(logits) == 1:
            return softmax(logits[:, [self._contradiction, self._entailment]])[:, 1]
        return softmax(logits[:, self._entailment])


def _ranked(text: str, labels: list[str], scores: Floats) -> LabelledSequence:
    order = scores.argsort()[::-1]  # of equals the last wins, as in transformers
    return LabelledSequence(
        sequence=text, labels=[labels[index] for index in order], scores=[float(scores[index]) for index in order]
    )


def _label_lists(value: Any, sequences: Any) -> Iterator[list[str]]:
    """The labels of each text in turn: the same ones without end, or those of a list of lists."""
    if not isinstance(value, list | tuple) or not any(isinstance(item, list | tuple) for item in value):
        labels = _labels(value)
        return iter(lambda: labels, None)
    lists = [_labels(item) for item in value]
    count = 1 if isinstance(sequences, str) else len(sequences) if isinstance(sequences, list | tuple) else len(lists)
    if count != len(lists):
        raise InputError(
            f"candidate_labels holds {len(lists)} lists for {count} texts; give one list per text, or one for all"
        )
    return iter(lists)


def _labels(value: Any) -> list[str]:
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",") if label.strip()]
    if not isinstance(value, list | tuple):
        raise InputError(
            "candidate_labels must be a list of strings, a string with commas, or a list of lists,"
            f" found {type(value).__name__}"
        )
    if not value:
        raise InputError("there must be at least one label; candidate_labels holds none")
    return [as_text(label, "a candidate label") for label in value]


def _next_labels(supply: Iterator[list[str]]) -> list[str]:
    labels = next(supply, None)
    if labels is None:
        raise InputError(
            "candidate_labels holds fewer lists than there are texts; give one list per text, or one for all"
        )
    return labels


def _premise(value: Any) -> str:
    text = as_text(value)
    if not text:
        raise InputError("an empty text cannot be classified; leave it out")
    return text


def _hypothesis(template: str, label: str) -> str:
    try:
        hypothesis = template.format(label)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise InputError(
            f"hypothesis_template {template!r} cannot take a label ({error}); write {{}} once where the label goes"
        ) from error
    if hypothesis == template:
        raise InputError(f"hypothesis_template {template!r} has no place for the label; write {{}} where it goes")
    return hypothesis
