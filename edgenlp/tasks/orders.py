"""What a call of summarization, translation or text2text-generation asks for, from its options. Knows no source, runs no model."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgenlp.bundle import Bundle
from edgenlp.decode.options import Generation
from edgenlp.errors import InputError
from edgenlp.model import Model
from edgenlp.streaming import TextStreamer
from edgenlp.tasks.task import LONG_INPUT, check_choice, check_count
from edgenlp.tasks.writing import generation_defaults, written_options
from edgenlp.tokens import Tokens, as_text

__all__ = ["Direction", "Order", "defaults_of", "order_of", "wants_tensors"]

# Text2TextGenerationPipeline._default_generation_config of transformers 4.57
_OWN = {"max_new_tokens": 256, "num_beams": 4}
_ONE_BEAM = {"num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0}
_FLAGS = ("return_tensors", "return_text", "clean_up_tokenization_spaces", "return_scores", "keep_stop")


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
    def forced(self) -> tuple[int, ...]:
        """The token that the model is made to begin with, if there is one."""
        forced = self.writing.forced_bos_token_id
        return () if forced is None else (forced,)

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


def defaults_of(bundle: Bundle, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Generation options where a call gives none, and what stands before every text.

    Args:
        bundle: Has the checkpoint's.
        name: Of the task.
        given: To `pipeline(...)`.
    """
    base, prefix = generation_defaults(bundle, name, _OWN, given)
    if prefix is None:  # `prefix` of config.json, which the exporter writes there
        prefix = bundle.task_options.get("text-generation", {}).get("prefix")
    return base, prefix or ""


def order_of(
    model: Model,
    defaults: Mapping[str, Any],
    options: Mapping[str, Any],
    direction: Direction,
    *,
    streams: bool = False,
) -> Order:
    """What a call asks for.

    Args:
        model: Has the tokenizer of what is written, and the checkpoint's options.
        defaults: Options of `pipeline(...)`.
        options: Of the call.
        direction: From what language into which.
        streams: Whether the answer is wanted piece by piece: then there is one beam unless the call says otherwise.

    Raises:
        InputError: Options cannot be used, or contradict each other.
    """
    given = {**defaults, **options}
    check_choice("long_input", given.get("long_input") or "error", LONG_INPUT)
    check_count("alternatives", given.get("alternatives"), optional=True)
    for name in _FLAGS:
        if not isinstance(given.get(name), bool | None):
            raise InputError(f"{name} must be True, False or None, found {given[name]!r}")
    base, prefix = defaults_of(model.bundle, direction.name, defaults)
    if (streams or given.get("streamer") is not None) and options.get("num_beams") is None:
        base |= _ONE_BEAM
        options = {name: value for name, value in options.items() if name != "num_beams"}
    writing = written_options(base, options, eos=_stop(model.target_tokens, given, options))
    if direction.target is not None:
        writing = dataclasses.replace(writing, forced_bos_token_id=direction.target)
    if writing.guidance_scale not in (None, 1):
        raise InputError(
            "guidance_scale weighs a prompt against none, and an encoder-decoder has no prompt; leave guidance_scale out"
        )
    start = writing.decoder_start_token_id if writing.decoder_start_token_id is not None else writing.bos_token_id
    if start is None:
        raise InputError("the bundle does not say which token stands before every answer; give decoder_start_token_id")
    chosen = options.get("max_length") or base.get("max_length")
    order = Order(
        given,
        _with_streamer(model.target_tokens, writing, given),
        tensors=wants_tensors(given),
        prefix=prefix,
        source=direction.source,
        plain=(start,),
        first=(start,),
        alternatives=given.get("alternatives"),
        most=None if chosen == Generation.max_length else chosen,
    )
    return _begun(model, order)


def _begun(model: Model, order: Order) -> Order:
    """`order` with what its answer begins with."""
    text, writing = order.given.get("target_prefix"), order.writing
    if order.alternatives:
        if writing.num_return_sequences > 1:
            raise InputError("alternatives and num_return_sequences exclude each other; give one of them")
        if writing.streamer is not None:
            raise InputError("a streamer follows one answer; leave streamer or alternatives out")
    ids = _beginning(model.target_tokens, text, writing, model.seq2seq.columns) if text is not None else []
    if not ids and not order.alternatives:
        return order
    return dataclasses.replace(order, first=(*order.plain, *order.forced, *ids))


def _stop(tokens: Tokens, given: Mapping[str, Any], options: Mapping[str, Any]) -> list[int] | None:
    """The end token that a stop sequence asks for."""
    stop = given.get("stop_sequence")
    if stop is None or (options.get("stop_sequence") is None and "eos_token_id" in options):
        return None  # both set the end tokens, and the call's own word counts
    ids = tokens.ids(tokens.encode([as_text(stop, "stop_sequence")], special_tokens=False)[0][0])
    if not ids:
        raise InputError(f"stop_sequence {stop!r} has no tokens; give a text, or leave it out")
    if len(ids) > 1:
        warnings.warn(
            f"stop_sequence {stop!r} has {len(ids)} tokens: its first one, {tokens.id_to_token(ids[0])!r}, ends a text, as in"
            " transformers; use stop_strings to stop at the whole of it",
            stacklevel=5,
        )
    return ids[:1]


def _with_streamer(tokens: Tokens, writing: Generation, given: Mapping[str, Any]) -> Generation:
    """`writing`, whose streamer is an object also where the caller gave a function of texts."""
    if not callable(writing.streamer) or hasattr(writing.streamer, "put"):
        return writing
    clean = bool(given.get("clean_up_tokenization_spaces"))
    streamer = TextStreamer(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=clean, write=writing.streamer
    )
    return dataclasses.replace(writing, streamer=streamer)


def _beginning(tokens: Tokens, text: Any, writing: Generation, columns: int) -> list[int]:
    """The ids of what an answer is to begin with.

    Args:
        tokens: Of what is written.
        text: Without special tokens.
        writing: Knows the end tokens.
        columns: How many ids the model can write.

    Raises:
        InputError: The vocabulary does not hold it, or it would end the answer.
    """
    ids = tokens.ids(tokens.encode([as_text(text, "target_prefix")], special_tokens=False)[0][0])
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


def wants_tensors(options: Mapping[str, Any]) -> bool:
    """Whether `return_type`, else `return_tensors`, asks for ids; `return_text` says nothing, as in transformers.

    Raises:
        InputError: There is no such type.
    """
    kind = options.get("return_type")
    if kind is None:
        return bool(options.get("return_tensors"))
    value = getattr(kind, "value", kind)  # transformers' ReturnType is an enumeration of 0 and 1
    value = value.lower() if isinstance(value, str) else value
    if isinstance(value, bool) or value not in (0, 1, "tensors", "text"):
        raise InputError(f"return_type must be tensors or text (or 0, 1), found {kind!r}")
    return value in (0, "tensors")
