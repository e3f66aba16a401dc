"""Which options generation has, and what the value of each must be. Knows nothing of what options mean together."""

import difflib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["RULES", "Rule", "unknown"]


class Rule(NamedTuple):
    """The values that an option takes.

    Attributes:
        expected: In words, after "must be".
        clean: A value to its tidy form; raises TypeError, ValueError or OverflowError where it is not what is expected.
    """

    expected: str
    clean: Callable[[Any], Any]


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _real(value: Any) -> float:
    if isinstance(value, bool | str | bytes):
        raise TypeError
    number = float(value)
    if math.isnan(number):
        raise ValueError
    return number


def _listed(value: Any) -> list[Any]:
    """The items of a list, tuple, set or array; anything else, a text or a mapping among them, is refused."""
    if hasattr(value, "tolist"):  # numpy's arrays and torch's tensors
        value = value.tolist()
    if not isinstance(value, list | tuple | set | frozenset):
        raise TypeError
    return list(value)


def _kept(value: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError
    return value


def _whole(least: int) -> Rule:
    return Rule(f"a whole number of at least {least}", lambda value: _kept(_integer(value), _integer(value) >= least))


def _number(expected: str, fits: Callable[[float], bool]) -> Rule:
    return Rule(f"a number {expected}", lambda value: _kept(_real(value), fits(_real(value))))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):  # numpy's
        raise TypeError
    return bool(value)


def _id(value: Any) -> int:
    number = _integer(value)
    return int(_kept(number, number >= 0))


def _ids(value: Any) -> tuple[int, ...]:
    return tuple(_id(item) for item in _listed(value))


def _id_or_ids(value: Any) -> tuple[int, ...]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return _ids(value) if isinstance(value, list | tuple | set | frozenset) else (_id(value),)


def _words(value: Any) -> tuple[tuple[int, ...], ...]:
    words = tuple(_ids(item) for item in _listed(value))
    return tuple(_kept(word, bool(word)) for word in words)


def _biases(value: Any) -> tuple[tuple[tuple[int, ...], float], ...]:
    """As transformers takes them: {(5, 7): -1.0} and, for JSON, [[[5, 7], -1.0]]."""
    pairs = value.items() if isinstance(value, Mapping) else [(ids, bias) for ids, bias in _listed(value)]
    tidy = {_ids(ids): _real(bias) for ids, bias in pairs}
    return tuple((_kept(ids, bool(ids)), bias) for ids, bias in tidy.items())


def _texts(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else _listed(value)
    return tuple(_kept(text, isinstance(text, str) and text != "") for text in texts)


def _decay(value: Any) -> tuple[int, float]:
    start, factor = _listed(value)
    return _id(start), float(_kept(_real(factor), 0 < _real(factor) < math.inf))


def _prompts(value: Any) -> tuple[tuple[int, ...], ...]:
    rows = _listed(value)
    return _words(rows) if rows and not isinstance(rows[0], int) else _words([rows])


def _calls(value: Any) -> tuple[Any, ...]:
    # transformers' LogitsProcessorList and StoppingCriteriaList are lists that can also be called
    calls = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(_kept(call, callable(call)) for call in calls)


def _early(value: Any) -> bool | str:
    return "never" if value == "never" else _flag(value)


def _streamer(value: Any) -> Any:
    return _kept(value, callable(value) or (hasattr(value, "put") and hasattr(value, "end")))


def _cancel(value: Any) -> Any:
    return _kept(value, hasattr(value, "cancelled") or callable(getattr(value, "is_set", None)))


_FLAG = Rule("True or False", _flag)
_ID = Rule("an id of the vocabulary", _id)
_ID_OR_IDS = Rule("an id of the vocabulary or a list of ids", _id_or_ids)
_IDS = Rule("a list of ids", _ids)
_CALLS = Rule("a callable or a list of callables", _calls)
_POSITIVE = _number("above 0", lambda x: 0 < x < math.inf)
_SHARE = _number("from 0 to 1", lambda x: 0 <= x <= 1)
_CUTOFF = _number("from 0 to below 1", lambda x: 0 <= x < 1)
_FINITE = _number("that is finite", math.isfinite)

RULES: Mapping[str, Rule] = {
    "max_length": _whole(1),
    "max_new_tokens": _whole(1),
    "min_length": _whole(0),
    "min_new_tokens": _whole(0),
    "early_stopping": Rule('True, False or "never"', _early),
    "max_time": _POSITIVE,
    "stop_strings": Rule("a text that is not empty, or a list of such", _texts),
    "do_sample": _FLAG,
    "num_beams": _whole(1),
    "num_beam_groups": _whole(1),
    "diversity_penalty": _number("of at least 0", lambda x: 0 <= x < math.inf),
    "use_cache": _FLAG,
    "penalty_alpha": _SHARE,
    "temperature": _number("above 0", lambda x: 0 <= x < math.inf),  # 0 is greedy search: see the contradictions
    "top_k": _whole(0),
    "top_p": _SHARE,
    "min_p": _SHARE,
    "typical_p": _number("above 0, up to 1", lambda x: 0 < x <= 1),
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "repetition_penalty": _POSITIVE,
    "encoder_repetition_penalty": _POSITIVE,
    "length_penalty": _FINITE,
    "no_repeat_ngram_size": _whole(0),
    "encoder_no_repeat_ngram_size": _whole(0),
    "bad_words_ids": Rule("a list of lists of ids, none of them empty", _words),
    "sequence_bias": Rule("a dict of tuples of ids to numbers, or a list of [ids, number]", _biases),
    "renormalize_logits": _FLAG,
    "forced_bos_token_id": _ID,
    "forced_eos_token_id": _ID_OR_IDS,
    "remove_invalid_values": _FLAG,
    "exponential_decay_length_penalty": Rule("a pair (new tokens before it starts, factor above 0)", _decay),
    "suppress_tokens": _IDS,
    "begin_suppress_tokens": _IDS,
    "guidance_scale": _FINITE,
    "num_return_sequences": _whole(1),
    "output_scores": _FLAG,
    "output_logits": _FLAG,
    "return_dict_in_generate": _FLAG,
    "pad_token_id": _ID,
    "bos_token_id": _ID,
    "eos_token_id": _ID_OR_IDS,
    "decoder_start_token_id": _ID,
    "prompt_lookup_num_tokens": _whole(1),
    "max_matching_ngram_size": _whole(1),
    "seed": Rule("a whole number from 0 to 2**64 - 1", lambda value: _kept(_id(value), _id(value) < 1 << 64)),
    "output_logprobs": _FLAG,
    "prefix_allowed_tokens_fn": Rule("a callable", lambda value: _kept(value, callable(value))),
    "logits_processor": _CALLS,
    "stopping_criteria": _CALLS,
    "negative_prompt_ids": Rule("a list of ids, or one such list per prompt", _prompts),
    "streamer": Rule("a callable, or an object with put() and end()", _streamer),
    "cancel": Rule("an object with cancelled or is_set()", _cancel),
}

_BANS = "use bad_words_ids, sequence_bias, prefix_allowed_tokens_fn or a logits_processor"
_LOOKUP = "prompt_lookup_num_tokens speeds generation up without a second model"
_ALWAYS = "leave it out: keys and values always live in one buffer that is written in place"
_LEFT_OUT: Sequence[tuple[tuple[str, ...], str]] = (
    (("force_words_ids", "constraints"), _BANS),
    (
        (
            "assistant_model",
            "assistant_tokenizer",
            "assistant_early_exit",
            "assistant_lookbehind",
            "assistant_confidence_threshold",
            "target_lookbehind",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "is_assistant",
        ),
        _LOOKUP,
    ),
    (("cache_implementation", "cache_config", "past_key_values", "return_legacy_cache", "low_memory"), _ALWAYS),
    (
        ("prefill_chunk_size", "compile_config", "disable_compile", "synced_gpus"),
        "leave it out: it has nothing to set here",
    ),
    (("watermarking_config",), "give a logits_processor that marks the text"),
    (("dola_layers",), "leave it out: a bundle gives the last layer's scores only"),
    (("output_attentions", "output_hidden_states"), "ask for output_scores, output_logits or output_logprobs"),
    (
        ("token_healing",),
        "leave off the last token of the prompt yourself and let prefix_allowed_tokens_fn complete it",
    ),
    (("generation_config",), "give its options by name: **generation_config.to_diff_dict()"),
    (("attention_mask", "negative_prompt_attention_mask"), "leave it out: rows are never padded here"),
    (("inputs_embeds",), "give ids or text"),
    (("tokenizer",), "leave it out: the bundle has its own"),
    (
        ("custom_generate", "trust_remote_code", "use_model_defaults"),
        "leave it out: no code or default comes from elsewhere",
    ),
)


def unknown(name: str) -> str:
    """What to say of an option that generation does not have."""
    for names, remedy in _LEFT_OUT:
        if name in names:
            return f"option {name!r} of transformers is not part of edgenlp; {remedy}"
    near = difflib.get_close_matches(name, RULES, 1)
    return f"unknown option {name!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"options of generation are {', '.join(sorted(RULES))}"
    )
