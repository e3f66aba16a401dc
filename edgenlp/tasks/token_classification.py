"""Texts to labelled spans of characters. Knows where tokens stand in their text, not what makes an entity."""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError
from edgenlp.logits import softmax
from edgenlp.tasks.entities import (
    STRATEGIES,
    Entity,
    EntityGroup,
    Token,
    group_marks,
    mark_tokens,
    mark_words,
    merge_overlaps,
)
from edgenlp.tasks.task import Task, check_choice, check_count, cut, options, stream
from edgenlp.tokens import Encoding, as_text

__all__ = ["Entity", "EntityGroup", "Source", "TokenClassification", "source_of", "strategy_of"]

Floats = NDArray[np.float32]
Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Source:
    """One text to label.

    Attributes:
        text: What `start` and `end` of the results count in.
        words: The words, where the text came split into them.
        begins: Character of `text` at which each word begins.
        offsets: Spans of the tokens that the caller wants used instead of the tokenizer's.
    """

    text: str
    words: tuple[str, ...] | None = None
    begins: tuple[int, ...] = ()
    offsets: Spans | None = None


class TokenClassification(Task):
    """`pipeline("token-classification")`, also called "ner"."""

    @options
    def __call__(
        self,
        inputs: Any,
        *,
        aggregation_strategy: str | None = None,
        ignore_labels: Iterable[str] | None = None,
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str | None = None,
        offset_mapping: Sequence[Any] | None = None,
        grouped_entities: bool | None = None,
        ignore_subwords: bool | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Label the tokens of texts, or the entities that they make up.

        Args:
            inputs: A text, a list of texts, or any iterable; with `is_split_into_words` each text is a list of words.
            aggregation_strategy: "none" gives tokens, the others entities. "simple" joins neighbouring tokens of one
                label; "first", "average" and "max" first let each word have one label only: that of its first token, of
                the mean of its tokens, or of its surest token.
            ignore_labels: Labels left out; None for "O".
            stride: Tokens that neighbouring windows of a long text share. Given, long texts are read whole.
            is_split_into_words: Whether a text is a list of words.
            delimiter: What joins words into the text that `start` and `end` count in; None for a space.
            offset_mapping: Per text the (start, end) of each of its tokens, special ones too, to use instead of the
                tokenizer's.
            grouped_entities: The old name of "simple", or with `ignore_subwords` of "first".
            ignore_subwords: See `grouped_entities`.
            long_input: "error", "truncate", or "stride", which is what giving `stride` means and otherwise shares an
                eighth of the window. Unset: "truncate" where the tokenizer says how long a text may be, else "error".
            batch_size: Most windows in one run of the model.

        Returns:
            As transformers 4.57: a text gives a list of `Entity` or `EntityGroup`, a list gives a list of these lists
            (as does a single list of words), an iterable gives an iterator.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: A text is longer than the window and is to be neither truncated nor strided.
        """
        strategy = strategy_of(aggregation_strategy, grouped_entities, ignore_subwords)
        if strategy in ("first", "average", "max") and not self.tokens.marks_continuations:
            warnings.warn("the tokenizer does not mark what continues a word: words begin after spaces", stacklevel=3)
        if stride is not None and strategy == "none" and aggregation_strategy is not None:
            raise InputError('stride= merges entities; choose an aggregation_strategy other than "none"')
        if isinstance(inputs, list | tuple) and not inputs:
            raise InputError("the list is empty; give at least one text")
        window = self._window(stride, long_input)
        ignored = _ignored(ignore_labels)
        if is_split_into_words and isinstance(inputs, list) and not all(isinstance(item, list) for item in inputs):
            inputs = [inputs]
        spans = _spans(offset_mapping, inputs)

        def step(texts: list[Any]) -> list[list[Entity] | list[EntityGroup]]:
            sources = [source_of(text, is_split_into_words, delimiter, next(spans)) for text in texts]
            return self._entities(sources, strategy, ignored, window, batch_size)

        return stream(inputs, lambda value: isinstance(value, str), step, batch_size=batch_size)

    def _window(self, stride: int | None, long_input: str | None) -> dict[str, Any]:
        """Arguments of `Tokens.encode`; transformers truncates only where the tokenizer says at what length."""
        check_count("stride", stride, least=0, optional=True)
        if stride is not None and long_input not in (None, "stride"):
            raise InputError(f"stride= reads long texts whole, long_input={long_input!r} does not; give one of them")
        default = "truncate" if self.bundle.tokenizer.max_length else "error"
        window = cut(self.model, "stride" if stride is not None else long_input, default, overlap=stride)
        if stride is not None and stride >= (room := window["max_length"] - self.tokens.special_count()):
            raise InputError(f"stride must be less than the {room} tokens of text that a window holds, found {stride}")
        return window

    def _entities(
        self,
        sources: list[Source],
        strategy: str,
        ignored: frozenset[str],
        window: dict[str, Any],
        batch_size: int | None,
    ) -> list[list[Entity] | list[EntityGroup]]:
        texts = [source.text if source.words is None else list(source.words) for source in sources]
        split = self.tokens.encode(texts, **window)
        flat = [encoding for group in split for encoding in group]
        scores = iter(self.encoder(flat, batch_size=batch_size, each=lambda _, row: softmax(row["logits"])))
        results: list[Any] = []
        for source, group in zip(sources, split, strict=True):
            if source.offsets is not None and len(group) > 1:
                raise InputError(f"offset_mapping= is for one window, and a text needs {len(group)}; leave it out")
            found = [self._read(source, encoding, next(scores), strategy, ignored) for encoding in group]
            entities = [entity for part in found for entity in part]
            results.append(merge_overlaps(entities) if len(group) > 1 else entities)
        return results

    def _read(
        self, source: Source, encoding: Encoding, scores: Floats, strategy: str, ignored: frozenset[str]
    ) -> list[Any]:
        """The entities of one window, from its scores [tokens, labels]."""
        labels = self.bundle.head.labels
        wanted = np.array(encoding.special_tokens_mask) == 0
        if strategy == "none":  # most tokens are "O": they are left out before they cost anything
            wanted &= ~np.array([label in ignored for label in labels])[scores.argmax(axis=-1)]
        tokens = self._tokens(source, encoding, np.flatnonzero(wanted).tolist())
        if strategy in ("first", "average", "max"):
            marks = mark_words(tokens, scores, labels, strategy)
        else:
            marks = mark_tokens(tokens, scores, labels)
        if strategy != "none":
            return group_marks(marks, ignored, self.tokens.join, words=strategy != "simple")
        return [
            Entity(entity=label, score=float(score), index=it.place, word=it.piece, start=it.start, end=it.end)
            for label, score, (it,) in marks
        ]

    def _tokens(self, source: Source, encoding: Encoding, places: list[int]) -> list[Token]:
        """The tokens at `places` of a window, with their spans in the text."""
        ids, words = encoding.ids, encoding.word_ids
        offsets = encoding.offsets if source.offsets is None else source.offsets
        if places and places[-1] >= len(offsets):
            raise InputError(f"offset_mapping holds {len(offsets)} spans for {len(ids)} tokens; give one per token")
        unknown = self.tokens.special_id("unk")
        marked = self.tokens.marks_continuations
        tokens = []
        for place in places:
            start, end = offsets[place]
            if source.words is not None and (word := words[place]) is not None:
                # where `Tokens` puts a space before a word, the tokenizer counts it, and the text has none
                spaced = self.tokens.facts.joins_words and word > 0 and not source.words[word].startswith(" ")
                lead = int(spaced and source.offsets is None)
                start, end = (source.begins[word] + max(0, at - lead) for at in (start, end))
            slice_ = source.text[start:end]
            piece = slice_ if ids[place] == unknown else self.tokens.id_to_token(ids[place]) or ""
            # gather_pre_entities of transformers: "##" makes a token longer than what it stands for; other tokenizers
            # leave only the spaces to tell words apart
            longer = (
                len(piece) != len(slice_) if marked else start > 0 and " " not in source.text[start - 1 : start + 1]
            )
            tokens.append(Token(place, piece, start, end, longer and ids[place] != unknown))
        return tokens


def strategy_of(asked: str | None, grouped: bool | None, subwords: bool | None) -> str:
    """The strategy asked for, by its name or by the two older options, which win where given.

    Raises:
        InputError: There is no such strategy.
    """
    name = asked.lower() if isinstance(asked, str) else asked
    if grouped is not None or subwords is not None:
        name = ("first" if subwords else "simple") if grouped else "none"
        for option, value in (("grouped_entities", grouped), ("ignore_subwords", subwords)):
            if value is not None:
                warnings.warn(f'{option}= is an old option; use aggregation_strategy="{name}"', stacklevel=4)
    if name is None:
        return "none"
    check_choice("aggregation_strategy", name, STRATEGIES)
    return name


def source_of(text: Any, split: bool, delimiter: str | None = None, offsets: Spans | None = None) -> Source:
    """What is to be labelled, checked: a string, or with `split` a list of words that `delimiter` joins.

    Raises:
        InputError: It is the other one of the two, or holds what is no text.
    """
    if not split:
        if isinstance(text, list | tuple):
            raise InputError("a text must be a string; to give lists of words, pass is_split_into_words=True")
        return Source(as_text(text), offsets=offsets)
    if not isinstance(text, list):
        raise InputError(f"with is_split_into_words=True a text is a list of words, found {type(text).__name__}")
    words = tuple(as_text(word, "a word") for word in text)
    between = as_text(" " if delimiter is None else delimiter, "delimiter")
    begins = itertools.accumulate((len(word) + len(between) for word in words), initial=0)
    return Source(between.join(words), words, tuple(begins)[:-1], offsets)


def _ignored(labels: Iterable[str] | None) -> frozenset[str]:
    if labels is None:
        return frozenset({"O"})
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InputError(f"ignore_labels must be a list of labels, found {labels!r}")
    return frozenset(labels)


def _spans(given: Sequence[Any] | None, inputs: Any) -> Iterator[Spans | None]:
    """Of each text the spans that the caller gave, if any."""
    if not given:
        return itertools.repeat(None)
    each: list[Spans] = [given] if isinstance(given[0], tuple) else list(given)
    count = 1 if isinstance(inputs, str) else len(inputs) if isinstance(inputs, list | tuple) else "an iterable"
    if count != len(each):
        raise InputError(f"offset_mapping is for {len(each)} texts, found {count}; give one mapping per text")
    return iter(each)
