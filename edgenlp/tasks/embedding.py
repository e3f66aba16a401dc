"""Texts to one vector each, as sentence-transformers does. Knows pooling, prompts and smaller forms; no single task."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle, Pooling
from edgenlp.errors import InputError
from edgenlp.logits import POOLINGS, pool, quantize_embeddings, unit
from edgenlp.model import Model
from edgenlp.tasks.task import check_choice, check_count
from edgenlp.tokens import Tokens, as_text

__all__ = ["PRECISIONS", "Recipe", "embed", "recipe"]

PRECISIONS = ("float32", "int8", "binary", "ubinary")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """How texts become vectors.

    Attributes:
        modes: Kinds of pooling, concatenated in this order.
        unit_before: Whether vectors are scaled to length 1 before they are cut (the checkpoint's Normalize module).
        unit_after: Whether they are scaled after (the caller's wish).
        truncate_dim: Leading components kept, None for all.
        precision: One of `PRECISIONS`.
        prompt: Put before every text.
        include_prompt: Whether the prompt's tokens take part in pooling.
        lowercase: Whether texts are lowercased first.
    """

    modes: tuple[str, ...]
    unit_before: bool
    unit_after: bool
    truncate_dim: int | None
    precision: str
    prompt: str
    include_prompt: bool
    lowercase: bool


def recipe(
    bundle: Bundle,
    *,
    pooling: str | Sequence[str] | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    precision: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> Recipe:
    """Check the options and fill in what the bundle says; mean pooling where it says nothing.

    Args:
        bundle: Says the pooling, normalisation and prompts that the model was trained with.
        pooling: One of `POOLINGS`, or several to concatenate; None for the bundle's.
        normalize: Whether vectors get length 1, also after `truncate_dim`. None: as the bundle says, before
            `truncate_dim`.
        truncate_dim: Leading components to keep.
        precision: One of `PRECISIONS`; None for "float32".
        prompt_name: Name of one of the bundle's prompts; None for its default one.
        prompt: A prompt's own text, used instead.

    Raises:
        InputError: An option cannot be used.
    """
    own = bundle.pooling or Pooling()
    modes = own.modes if pooling is None else (pooling,) if isinstance(pooling, str) else tuple(pooling)
    if not modes:
        raise InputError(f"pooling names no mode; there are {', '.join(POOLINGS)}")
    for mode in modes:
        check_choice("pooling", mode, POOLINGS)
    if normalize is not None and not isinstance(normalize, bool):
        raise InputError(f"normalize must be True, False or None, found {normalize!r}")
    check_count("truncate_dim", truncate_dim, optional=True)
    chosen = "float32" if precision is None else precision
    check_choice("precision", chosen, PRECISIONS)
    return Recipe(
        modes=modes,
        unit_before=own.normalize and normalize is not False,
        unit_after=bool(normalize),
        truncate_dim=truncate_dim,
        precision=chosen,
        prompt=_prompt(own, prompt_name, prompt),
        include_prompt=own.include_prompt,
        lowercase=own.lowercase,
    )


def _prompt(own: Pooling, name: str | None, text: str | None) -> str:
    if text is not None:
        if name is not None:
            warnings.warn("both prompt= and prompt_name= are given; prompt_name is ignored", stacklevel=5)
        return as_text(text, "prompt")
    if name is None:
        return own.prompts.get(own.default_prompt, "") if own.default_prompt is not None else ""
    # sentence-transformers gives every model these two, so that one program serves models with and without prompts
    known = {"query": "", "document": "", **own.prompts}
    check_choice("prompt_name", name, known)
    return known[name]


def embed(
    model: Model, texts: Sequence[str], how: Recipe, *, window: dict[str, Any], batch_size: int | None = None
) -> NDArray[Any]:
    """One vector per text: [texts, D]; D is the hidden size times the number of poolings, or less where truncated.

    In sentence-transformers' order: prompt, tokens, pooling, normalisation, `truncate_dim`, normalisation where asked
    for, precision. A text of several windows gets the mean of their vectors, weighted by the tokens pooled.

    Args:
        model: An opened bundle whose graph gives `last_hidden_state`.
        texts: At least one.
        how: From `recipe`.
        window: From `edgenlp.tasks.task.cut`.
        batch_size: Most windows in one run.

    Raises:
        InputError: A text is no text.
        TooLongError: A text is longer than the window, and `window` neither cuts nor splits it.
    """
    # sentence-transformers strips what it tokenizes, which matters to tokenizers that see spaces
    prompted = [(how.prompt + as_text(text)).strip() for text in texts]
    split = model.tokens.encode([text.lower() for text in prompted] if how.lowercase else prompted, **window)
    skipped = 0 if how.include_prompt or not how.prompt else _prompt_length(model.tokens, how.prompt, window)
    first = [index == 0 for group in split for index in range(len(group))]

    def pooled(index: int, outputs: dict[str, Floats]) -> Floats:
        skip = skipped if first[index] else 0
        return np.concatenate([pool(outputs["last_hidden_state"], mode, skip=skip) for mode in how.modes])

    results = iter(model.encoder([item for group in split for item in group], batch_size=batch_size, each=pooled))
    vectors = np.empty((0, 0), np.float32)
    for row, group in enumerate(split):
        parts = [next(results) for _ in group]
        if row == 0:
            vectors = np.empty((len(split), len(parts[0])), np.float32)
        counts = [max(0, len(item) - (skipped if place == 0 else 0)) for place, item in enumerate(group)]
        vectors[row] = parts[0] if len(parts) == 1 else np.average(parts, axis=0, weights=counts)
    if how.unit_before:
        vectors = unit(vectors)
    vectors = vectors[:, : how.truncate_dim]
    if how.unit_after:
        vectors = unit(vectors)
    return quantize_embeddings(vectors, how.precision)


def _prompt_length(tokens: Tokens, prompt: str, window: dict[str, Any]) -> int:
    """Tokens of the prompt at the start of a text: with the special ones before it, without the one after it."""
    ids = tokens.encode([prompt.strip()], **{**window, "stride": None})[0][0].ids
    ends = bool(ids) and ids[-1] in {token for _, token in tokens.facts.special.values()}
    return len(ids) - ends
