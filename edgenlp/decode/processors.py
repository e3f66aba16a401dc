"""The rules about what may come next that a call asks for, in transformers' order. Knows no model, no text and no single rule."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode import rules
from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Rows
from edgenlp.decode.rules import Diversity, Processor, Unconditional
from edgenlp.decode.warpers import warp
from edgenlp.errors import InputError

__all__ = ["Diversity", "Processor", "Unconditional", "processors"]

Ids = NDArray[np.int64]


def processors(
    options: Generation,
    *,
    prompts: Rows,
    columns: int,
    limits: Sequence[tuple[int, int]],
    sources: Rows | None = None,
    unconditional: Unconditional | None = None,
    diversity: Diversity | None = None,
    guides: Sequence[Processor] = (),
) -> list[Processor]:
    """The rules that `options` asks for, in transformers' order; none for plain greedy search.

    A `Warp`, where there is one, is last: a loop that samples and returns no scores may take it off the list and give it to
    `sampling.draw`, which then never spreads the few ids that are left over all columns.

    Args:
        options: Of the call.
        prompts: Per prompt its ids (of an encoder-decoder: the decoder's first ids).
        columns: Of the scores.
        limits: Per prompt what `options.span` gives: least and most tokens.
        sources: Per prompt what the encoder read; None for the prompts themselves, as in transformers.
        unconditional: Runs the model without the prompt; needed with guidance_scale.
        diversity: Told by the search over groups of beams what earlier groups chose; needed with diversity_penalty.
        guides: Rules of edgenlp's own (structured output) that follow the caller's processors.

    Raises:
        InputError: An option names an id that the vocabulary does not have.
    """
    _within(options, columns)
    o, eos = options, _ids_within(options.eos_token_id, columns)
    sources = prompts if sources is None else sources
    starts = [len(prompt) for prompt in prompts]
    found: list[Processor] = []
    if o.guidance_scale is not None and o.guidance_scale != 1:
        if unconditional is None:
            raise InputError(
                f"guidance_scale={o.guidance_scale} does not work with this search; leave guidance_scale out"
            )
        found.append(rules.guidance(o.guidance_scale, unconditional))
    if o.sequence_bias:
        found.append(rules.bias(o.sequence_bias))
    if diversity is not None:
        found.append(diversity)
    if o.encoder_repetition_penalty != 1:
        found.append(rules.penalty(1 / o.encoder_repetition_penalty, sources))
    if o.repetition_penalty != 1:
        found.append(rules.penalty(o.repetition_penalty, None))
    if o.no_repeat_ngram_size:
        found.append(rules.no_repeat(o.no_repeat_ngram_size, None))
    if o.encoder_no_repeat_ngram_size:
        found.append(rules.no_repeat(o.encoder_no_repeat_ngram_size, sources))
    words = [(word, -np.inf) for word in o.bad_words_ids if not (len(word) == 1 and word[0] in o.eos_token_id)]
    if words:
        found.append(rules.bias(words))
    if len(eos) and any(least > start for (least, _), start in zip(limits, starts, strict=True)):
        found.append(rules.not_before([least for least, _ in limits], eos))
    if o.prefix_allowed_tokens_fn is not None:
        found.append(rules.allowed(o.prefix_allowed_tokens_fn))
    if o.forced_bos_token_id is not None:
        found.append(rules.forced([1] * len(starts), np.array([o.forced_bos_token_id])))
    if o.forced_eos_token_id:
        found.append(rules.forced([most - 1 for _, most in limits], np.array(o.forced_eos_token_id)))
    if o.remove_invalid_values:
        found.append(rules.finite)
    if o.exponential_decay_length_penalty is not None and len(eos):
        found.append(rules.decay(o.exponential_decay_length_penalty, starts, eos))
    if o.suppress_tokens:
        found.append(rules.suppressed(_ids_within(o.suppress_tokens, columns)))
    if o.begin_suppress_tokens:
        later = [int(start <= 1 and o.forced_bos_token_id is not None) for start in starts]
        first = [start + more for start, more in zip(starts, later, strict=True)]
        found.append(rules.suppressed_at(first, _ids_within(o.begin_suppress_tokens, columns)))
    found += [rules.users(call) for call in o.logits_processor]
    found += guides
    warper = warp(options)
    return [*found, warper] if warper is not None else found


def _within(options: Generation, columns: int) -> None:
    """Raise where an id that must have a score has none; ids that are only kept from being chosen may be unknown."""
    named = {
        "sequence_bias": [token for ids, _ in options.sequence_bias for token in ids],
        "bad_words_ids": [token for ids in options.bad_words_ids for token in ids],
        "forced_bos_token_id": [] if options.forced_bos_token_id is None else [options.forced_bos_token_id],
        "forced_eos_token_id": list(options.forced_eos_token_id),
    }
    for name, ids in named.items():
        beyond = [token for token in ids if token >= columns]
        if beyond:
            raise InputError(
                f"{name} names the id {beyond[0]}, and the model scores the ids 0 to {columns - 1}; correct {name}"
            )


def _ids_within(ids: Sequence[int], columns: int) -> Ids:
    return np.array([token for token in ids if token < columns], np.int64)
