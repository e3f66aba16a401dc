"""What a call asks of generation: names, defaults and meanings of transformers' GenerationConfig. Knows no model."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgenlp.decode.values import RULES, unknown
from edgenlp.errors import InputError, TooLongError

__all__ = ["Generation", "merged"]


@dataclass(frozen=True)
class Generation:
    """Every option of generation, checked; made by `merged`. Names and defaults are those of transformers 4.57's GenerationConfig.

    Off states: 1.0 for temperature, top_p, typical_p and the penalties; 0 for top_k, the cutoffs, the n-gram sizes and
    diversity_penalty; None or an empty tuple elsewhere. The fields after `seed` are edgenlp's own, or arguments of
    transformers' `generate` itself.

    Attributes:
        max_length: Most tokens, prompt included. Where the caller did not give it and it is 20: 20 new tokens.
        max_new_tokens: Most new tokens; wins over max_length.
        min_length: Tokens, prompt included, before which no end of sequence is written; min_new_tokens wins over it.
        early_stopping: True, False or "never", for beams.
        max_time: Seconds, the prompt's own pass included.
        stop_strings: Texts that end a sequence as soon as they appear; they stay in the text.
        use_cache: Accepted and without effect: the cache is always used.
        penalty_alpha: Weight of contrastive search's look backwards; with do_sample=False and top_k > 1.
        sequence_bias: (ids, bias) pairs: added to the score of the last id where the others precede it.
        exponential_decay_length_penalty: (new tokens after which it starts, factor).
        eos_token_id: All ids that end a sequence.
        pad_token_id: The first of eos_token_id unless given.
        prompt_lookup_num_tokens: Tokens that prompt lookup proposes per step.
        max_matching_ngram_size: Longest run of last tokens that prompt lookup searches for.
        seed: Of sampling, from 0 to 2**64 - 1; None for a new one each call.
        output_logprobs: Return the logarithm of the probability of each chosen token.
        prefix_allowed_tokens_fn: (prompt's number in the call, ids [tokens]) to the ids allowed next.
        logits_processor: Callables (ids of each row, scores [rows, columns]) to scores.
        stopping_criteria: Callables (ids [tokens], scores [columns]) to whether the row ends.
        negative_prompt_ids: What guidance_scale moves away from: one row of ids for all prompts, or one per prompt; None
            for the last token of the prompt.
        streamer: A callable, or an object with `put` and `end`.
        cancel: An object with `cancelled` (attribute or method) or `is_set`, looked at before every step.
        explicit: Names of the options that the caller gave and that were not None.
    """

    max_length: int = 20
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    early_stopping: bool | Literal["never"] = False
    max_time: float | None = None
    stop_strings: tuple[str, ...] = ()
    do_sample: bool = False
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    use_cache: bool = True
    penalty_alpha: float = 0.0
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0
    repetition_penalty: float = 1.0
    encoder_repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    renormalize_logits: bool = False
    forced_bos_token_id: int | None = None
    forced_eos_token_id: tuple[int, ...] = ()
    remove_invalid_values: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    guidance_scale: float | None = None
    num_return_sequences: int = 1
    output_scores: bool = False
    output_logits: bool = False
    return_dict_in_generate: bool = False
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: tuple[int, ...] = ()
    decoder_start_token_id: int | None = None
    prompt_lookup_num_tokens: int | None = None
    max_matching_ngram_size: int = 2
    seed: int | None = None
    output_logprobs: bool = False
    prefix_allowed_tokens_fn: Callable[[int, Any], Any] | None = None
    logits_processor: tuple[Callable[[Any, Any], Any], ...] = ()
    stopping_criteria: tuple[Callable[[Any, Any], Any], ...] = ()
    negative_prompt_ids: tuple[tuple[int, ...], ...] | None = None
    streamer: Any = None
    cancel: Any = None
    explicit: frozenset[str] = frozenset()

    @property
    def mode(self) -> str:
        """By the names of transformers' GenerationMode.

        One of greedy_search, sample, beam_search, beam_sample, group_beam_search and contrastive_search.
        """
        if self.num_beams > 1:
            if self.num_beam_groups > 1:
                return "group_beam_search"
            return "beam_sample" if self.do_sample else "beam_search"
        if self.do_sample:
            return "sample"
        return "contrastive_search" if self.penalty_alpha else "greedy_search"

    @property
    def kept(self) -> int:
        """Tokens that a warper must leave: beams need one that does not end the sequence (`_get_logits_processor`)."""
        return 1 if self.num_beams == 1 else max(2, len(self.eos_token_id) + 1)

    def span(self, prompt: int, window: int | None = None) -> tuple[int, int]:
        """Least and most tokens of a sequence, its prompt included (transformers' `_prepare_generated_length`).

        max_new_tokens wins over max_length, min_new_tokens over min_length. Unlike transformers' nothing is ever longer
        than the model's window. A minimum that the caller did not ask for gives way to the maximum.

        Args:
            prompt: Tokens of the prompt (of the decoder's start, for an encoder-decoder).
            window: Most tokens that the model can hold; None for no bound.

        Raises:
            TooLongError: The prompt fills the window.
            InputError: There is no room for a new token, or the minimum that the caller gave is beyond the maximum.
        """
        if self.max_new_tokens is not None:
            most = prompt + self.max_new_tokens
        elif self.max_length == 20 and "max_length" not in self.explicit:
            most = prompt + 20
        else:
            most = self.max_length
            if prompt >= most:
                raise InputError(
                    f"the prompt has {prompt} tokens and max_length is {most}, prompt included: nothing can be written; "
                    f"give max_new_tokens, or a max_length above {prompt}"
                )
        if window is not None:
            if prompt >= window:
                raise TooLongError(
                    f"the prompt has {prompt} tokens and the model's window holds {window}; shorten the prompt"
                )
            most = min(most, window)
        name, least = "min_length", self.min_length
        if self.min_new_tokens is not None:
            name, least = "min_new_tokens", prompt + self.min_new_tokens
        if least > most:
            if name in self.explicit:
                raise InputError(
                    f"{name}={getattr(self, name)} asks for at least {least} tokens, prompt included, and at most {most} are "
                    f"allowed; lower {name}, or raise max_new_tokens where the window allows it"
                )
            least = most
        return least, most


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Generation:
    """The options of one call: what the caller gave, else the checkpoint's defaults, else GenerationConfig's.

    None turns an option off, or says "nothing" where that is its default (max_length=None: not given).

    Args:
        defaults: From the checkpoint's generation_config.json and the task; keys that are no options are ignored.
        given: From the caller.

    Raises:
        InputError: An unknown option, a value of the wrong type or range, or options that contradict each other.
    """
    for name in given:
        if name not in RULES:
            raise InputError(unknown(name))
    values = {name: value for name, value in defaults.items() if name in RULES and name not in given}
    cleaned = {name: _clean(name, value, "the bundle's default ") for name, value in values.items()}
    cleaned |= {name: _clean(name, value, "") for name, value in given.items()}
    explicit = frozenset(name for name, value in given.items() if value is not None)
    options = Generation(**cleaned, explicit=explicit)
    if options.pad_token_id is None and options.eos_token_id:
        options = dataclasses.replace(options, pad_token_id=options.eos_token_id[0])
    for complaint in _contradictions(options):
        raise InputError(complaint)
    idle = list(_idle(options))
    if idle:
        warnings.warn("; ".join(idle), UserWarning, stacklevel=2)
    return options


def _clean(name: str, value: Any, owner: str) -> Any:
    if value is None:
        return 0 if name == "top_k" else _DEFAULTS[name]
    if owner and name.endswith("_token_id") and isinstance(value, int) and value < 0:
        return _DEFAULTS[name]  # old checkpoints write -1 for "none"
    rule = RULES[name]
    try:
        return rule.clean(value)
    except (TypeError, ValueError, OverflowError) as error:
        remedy = f"; give {name} yourself, or correct generation_config.json" if owner else ""
        raise InputError(f"{owner}{name} must be {rule.expected}, found {value!r}{remedy}") from error


def _contradictions(o: Generation) -> Iterator[str]:
    """What cannot be asked for at once, each with its remedy."""
    if o.do_sample and o.temperature == 0:
        yield "temperature=0 cannot be sampled from; for the likeliest token set do_sample=False and leave temperature out"
    if o.num_beams == 1 and not o.do_sample and o.num_return_sequences > 1:
        yield (
            f"num_return_sequences={o.num_return_sequences} needs do_sample=True or num_beams of at least as many: "
            "greedy search has one answer"
        )
    if 1 < o.num_beams < o.num_return_sequences:
        yield (
            f"num_return_sequences={o.num_return_sequences} is more than num_beams={o.num_beams}; raise num_beams or "
            "ask for fewer"
        )
    yield from _groups(o)
    if o.penalty_alpha:
        if o.num_beams > 1:
            yield f"penalty_alpha (contrastive search) works without beams; set num_beams=1, found {o.num_beams}"
        if o.do_sample:
            yield "penalty_alpha (contrastive search) does not sample; set do_sample=False, or leave penalty_alpha out"
        if o.top_k < 2:
            yield f"penalty_alpha (contrastive search) chooses among top_k candidates; set top_k to 2 or more, found {o.top_k}"
    if o.prompt_lookup_num_tokens is not None:
        remedy = "leave prompt_lookup_num_tokens out, or set "
        if o.num_beams > 1:
            yield f"prompt lookup works without beams; {remedy}num_beams=1"
        if o.penalty_alpha:
            yield f"prompt lookup does not work with contrastive search; {remedy}penalty_alpha=None"
        if o.num_return_sequences > 1:
            yield f"prompt lookup writes one sequence per prompt; {remedy}num_return_sequences=1"
        if o.guidance_scale not in (None, 1.0):
            yield f"prompt lookup does not work with guidance_scale; {remedy}guidance_scale=None"
    if o.negative_prompt_ids is not None and o.guidance_scale in (None, 1.0):
        yield "negative_prompt_ids has no meaning without guidance_scale; give guidance_scale, or leave it out"
    if o.streamer is not None and (o.num_beams > 1 or o.num_return_sequences > 1):
        yield "a streamer follows one sequence; set num_beams=1 and num_return_sequences=1, or leave streamer out"
    if "min_new_tokens" in o.explicit and (o.min_new_tokens or 0) > (o.max_new_tokens or math.inf):
        yield f"min_new_tokens={o.min_new_tokens} is more than max_new_tokens={o.max_new_tokens}; lower one or raise the other"
    if o.exponential_decay_length_penalty is not None and not o.eos_token_id:
        yield "exponential_decay_length_penalty raises the end of sequence, and there is none; give eos_token_id"


def _groups(o: Generation) -> Iterator[str]:
    if o.num_beam_groups > 1:
        if o.num_beams % o.num_beam_groups:
            yield f"num_beams={o.num_beams} cannot be divided into num_beam_groups={o.num_beam_groups}; make it a multiple"
        if o.do_sample:
            yield "groups of beams do not sample; set do_sample=False or num_beam_groups=1"
        if not o.diversity_penalty:
            yield "without a diversity_penalty above 0 all groups of beams would write the same; give one, or set num_beam_groups=1"
    elif o.diversity_penalty:
        yield (
            f"diversity_penalty={o.diversity_penalty} keeps groups of beams apart, and there is one group; set "
            "num_beam_groups (and num_beams, a multiple of it), or leave diversity_penalty out"
        )


def _idle(o: Generation) -> Iterator[str]:
    """What the caller gave and what cannot have an effect; transformers warns of the same."""
    if not o.do_sample:
        for name in _SAMPLING:
            if name in o.explicit and getattr(o, name) != _DEFAULTS[name] and not (name == "top_k" and o.penalty_alpha):
                yield f"{name}={getattr(o, name)} has no effect with do_sample=False"
    if o.num_beams == 1:
        for name in ("early_stopping", "length_penalty"):
            if name in o.explicit and getattr(o, name) != _DEFAULTS[name]:
                yield f"{name}={getattr(o, name)} has no effect with num_beams=1"
    if "max_length" in o.explicit and o.max_new_tokens is not None:
        yield f"max_length={o.max_length} has no effect: max_new_tokens={o.max_new_tokens} wins; set max_new_tokens=None"
    if "min_length" in o.explicit and o.min_new_tokens is not None:
        yield f"min_length={o.min_length} has no effect: min_new_tokens={o.min_new_tokens} wins; set min_new_tokens=None"


_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in dataclasses.fields(Generation)}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
