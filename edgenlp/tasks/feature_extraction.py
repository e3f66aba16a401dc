"""Texts to the model's hidden states, per token or pooled. Knows what shape callers of transformers expect."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import InputError
from edgenlp.tasks.embedding import embed, recipe
from edgenlp.tasks.task import Task, check_choice, cut, options, stream
from edgenlp.tokens import as_text

__all__ = ["FeatureExtraction"]

_TOKENIZER_OPTIONS = ("add_special_tokens", "max_length", "padding", "truncation")


class FeatureExtraction(Task):
    """`pipeline("feature-extraction")`."""

    @options
    def __call__(
        self,
        inputs: Any,
        *,
        truncation: bool | str | None = None,
        tokenize_kwargs: Mapping[str, Any] | None = None,
        return_tensors: bool | str | None = None,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        precision: str | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Extract features: a vector per token, or, with any of the options from `pooling` to `prompt`, one per text.

        Args:
            inputs: A text, a list or any iterable of texts.
            truncation: True or "longest_first" cuts what is longer than the window.
            tokenize_kwargs: `truncation`, `max_length` and `add_special_tokens`; `padding` is accepted and changes
                nothing.
            return_tensors: True or "np" for numpy arrays instead of lists.
            pooling: "mean", "cls", "last", "max", "mean_sqrt_len" or "weighted_mean", or several to concatenate. None
                beside another of these options: what the model was trained with, mean where it does not say.
            normalize: Whether vectors get length 1; None for what the model was trained with.
            truncate_dim: Leading components to keep.
            precision: "float32", "int8", "binary" or "ubinary".
            prompt_name: Name of one of the model's prompts, put before every text.
            prompt: A prompt's own text, used instead.
            long_input: "error" (the default), "truncate", or "stride": overlapping windows, their vectors averaged by
                tokens; this needs one vector per text.
            batch_size: Most texts in one run of the model.

        Returns:
            As transformers 4.57, per text a nested list (or array) [1, tokens, hidden], never padded; pooled, a list
            (or array) of D numbers. A list gives a list of these, an iterable an iterator.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: A text is longer than the window and is to be neither truncated nor strided.
        """
        given = dict(tokenize_kwargs or {})
        for name in given:
            check_choice("a key of tokenize_kwargs", name, _TOKENIZER_OPTIONS)
        if truncation is not None and "truncation" in given:
            raise InputError("truncation is given twice, by itself and in tokenize_kwargs; give it once")
        if not isinstance(return_tensors, bool | None) and return_tensors != "np":
            raise InputError(f'return_tensors must be True, False or "np", found {return_tensors!r}')
        chosen = (pooling, normalize, truncate_dim, precision, prompt_name, prompt)
        pooled = any(option is not None for option in chosen)
        longest = given.get("max_length")
        if pooled and longest is None and self.bundle.pooling:
            longest = self.bundle.pooling.max_length
        cutting = given.get("truncation", truncation)
        window = cut(self.model, long_input, "error", truncation=cutting, max_length=longest)
        window["special_tokens"] = bool(given.get("add_special_tokens", True))
        if not pooled:
            if window["stride"] is not None:
                raise InputError(
                    'vectors of tokens cannot be joined over windows; pass pooling="mean" or long_input="truncate"'
                )
            how = None
        else:
            how = recipe(
                self.bundle,
                pooling=pooling,
                normalize=normalize,
                truncate_dim=truncate_dim,
                precision=precision,
                prompt_name=prompt_name,
                prompt=prompt,
            )

        def step(texts: list[Any]) -> list[Any]:
            if how is None:
                arrays: list[NDArray[Any]] = self._per_token(texts, window, batch_size)
            else:
                arrays = list(embed(self.model, texts, how, window=window, batch_size=batch_size))
            return arrays if return_tensors else [array.tolist() for array in arrays]

        return stream(inputs, lambda value: isinstance(value, str), step, batch_size=batch_size)

    def _per_token(self, texts: list[Any], window: dict[str, Any], batch_size: int | None) -> list[NDArray[Any]]:
        """Hidden states [1, tokens, hidden] of each text."""
        split = self.tokens.encode([as_text(text) for text in texts], **window)

        def states(index: int, outputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
            return outputs["last_hidden_state"][None].copy()  # a view would keep the padding of the whole run alive

        return self.encoder([group[0] for group in split], batch_size=batch_size, each=states)
