"""Texts to embeddings, and embeddings to how alike they are. Knows the similarity that the model was trained for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError
from edgenlp.logits import cosine
from edgenlp.tasks.embedding import embed, recipe
from edgenlp.tasks.task import Task, cut, options, stream
from edgenlp.tokens import as_text

__all__ = ["SentenceSimilarity"]


class SentenceSimilarity(Task):
    """`pipeline("sentence-similarity")`; `encode` gives the embeddings themselves."""

    @options
    def __call__(
        self,
        source_sentence: Any,
        sentences: Sequence[str] | None = None,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """How alike a sentence is to each of several others.

        Args:
            source_sentence: A text, with `sentences`; or `{"source_sentence": text, "sentences": [text]}`, a list or
                any iterable of such.
            sentences: What the text is compared with.
            pooling: See `encode`, as for the options that follow.
            normalize: See `encode`.
            truncate_dim: See `encode`.
            prompt_name: See `encode`.
            prompt: See `encode`.
            long_input: See `encode`.
            batch_size: See `encode`.

        Returns:
            A list of similarities, one per sentence; for a list of questions a list of such lists, for an iterable an
            iterator.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: `long_input` is "error" and a text is longer than the window.
        """
        if sentences is not None:
            source_sentence = {"source_sentence": source_sentence, "sentences": sentences}
        elif isinstance(source_sentence, str):
            raise InputError("there is nothing to compare the sentence with; pass sentences=[...]")
        how = recipe(
            self.bundle,
            pooling=pooling,
            normalize=normalize,
            truncate_dim=truncate_dim,
            prompt_name=prompt_name,
            prompt=prompt,
        )
        longest = self.bundle.pooling.max_length if self.bundle.pooling else None
        window = cut(self.model, long_input, "truncate", max_length=longest)

        def step(questions: list[Any]) -> list[list[float]]:
            groups = [_as_question(question) for question in questions]
            texts = [text for group in groups for text in group]
            vectors = embed(self.model, texts, how, window=window, batch_size=batch_size)
            answers = []
            start = 0
            for group in groups:
                own = vectors[start : start + len(group)]
                answers.append([float(score) for score in self._compare(own[:1], own[1:])[0]])
                start += len(group)
            return answers

        return stream(source_sentence, lambda value: isinstance(value, Mapping), step, batch_size=batch_size)

    def encode(
        self,
        texts: Any,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        precision: str = "float32",
        prompt_name: str | None = None,
        prompt: str | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """The embeddings of texts, as sentence-transformers' `encode`. Options left out are those of `pipeline(...)`.

        Args:
            texts: A text, a list or any iterable of texts.
            pooling: "mean", "cls", "last", "max", "mean_sqrt_len" or "weighted_mean", or several to concatenate; None
                for what the model was trained with, mean where it does not say.
            normalize: True scales vectors to length 1, also after `truncate_dim`; False never does; None does what the
                model was trained with, before `truncate_dim`.
            truncate_dim: Leading components to keep.
            precision: "float32"; "int8", each vector scaled so that its largest component is 127; "ubinary", a bit per
                component, eight to a byte; "binary", the same bytes minus 128.
            prompt_name: Name of one of the model's prompts, put before every text; None for its default one.
            prompt: A prompt's own text, used instead.
            long_input: "truncate" (the default), "error", or "stride": overlapping windows, their vectors averaged by
                tokens.
            batch_size: Most texts in one run of the model.

        Returns:
            A vector [D] for a text, an array [texts, D] for a list, an iterator of vectors for any other iterable.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: `long_input` is "error" and a text is longer than the window.
        """
        given = {
            "pooling": pooling,
            "normalize": normalize,
            "truncate_dim": truncate_dim,
            "prompt_name": prompt_name,
            "prompt": prompt,
        }
        merged: dict[str, Any] = {
            name: self.defaults.get(name) if value is None else value for name, value in given.items()
        }
        if prompt is None and prompt_name is not None:  # what a call names goes before the pipeline's own prompt
            merged["prompt"] = None
        if prompt_name is None and prompt is not None:
            merged["prompt_name"] = None
        how = recipe(self.bundle, precision=precision, **merged)
        longest = self.bundle.pooling.max_length if self.bundle.pooling else None
        window = cut(self.model, long_input or self.defaults.get("long_input"), "truncate", max_length=longest)
        most = self.defaults.get("batch_size") if batch_size is None else batch_size

        def step(chunk: list[Any]) -> list[NDArray[Any]]:
            return list(embed(self.model, chunk, how, window=window, batch_size=most))

        if isinstance(texts, list | tuple) and not texts:
            return np.stack(step([""]))[:0]
        result = stream(texts, lambda value: isinstance(value, str), step, batch_size=most)
        return np.stack(result) if isinstance(result, list) else result

    def similarity(self, left: Any, right: Any) -> NDArray[np.float32]:
        """The similarity [N, M] of each of `left` and each of `right`, as the model was trained for: cosine or dot.

        Args:
            left: A text, a list of texts, a vector [D] or vectors [N, D].
            right: The same, M of them.

        Raises:
            InputError: The vectors are not of one length.
        """
        return self._compare(self._vectors(left), self._vectors(right))

    def _vectors(self, value: Any) -> NDArray[Any]:
        if isinstance(value, str) or (isinstance(value, list | tuple) and any(isinstance(item, str) for item in value)):
            return np.atleast_2d(self.encode(value))
        try:
            vectors = np.atleast_2d(np.asarray(value, np.float32))
        except (TypeError, ValueError) as error:
            raise InputError(f"expected texts or vectors, found {type(value).__name__} ({error})") from error
        if vectors.ndim != 2:
            raise InputError(f"expected vectors [N, D], found an array of shape {list(vectors.shape)}")
        return vectors

    def _compare(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float32]:
        if left.shape[-1] != right.shape[-1]:
            raise InputError(
                f"vectors of {left.shape[-1]} and of {right.shape[-1]} components cannot be compared; embed both alike"
            )
        result: NDArray[np.float32] = left @ right.T if self.bundle.similarity == "dot" else cosine(left, right)
        return result


def _as_question(value: Any) -> list[str]:
    """The source sentence and those it is compared with, in one list."""
    if not isinstance(value, Mapping) or set(value) != {"source_sentence", "sentences"}:
        found = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
        raise InputError(f'expected {{"source_sentence": ..., "sentences": [...]}}, found {found}')
    sentences = value["sentences"]
    if not isinstance(sentences, list | tuple) or not sentences:
        raise InputError(f"sentences must be a list of at least one text, found {sentences!r:.80}")
    return [as_text(value["source_sentence"], "source_sentence"), *(as_text(text, "a sentence") for text in sentences)]
