"""Options of generation: names, values and what cannot be asked for at once."""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgenlp.decode.options import Generation, merged
from edgenlp.decode.values import RULES
from edgenlp.errors import InputError

EOS = {"eos_token_id": 2}


def test_every_option_has_a_rule_and_every_rule_an_option() -> None:
    assert [field.name for field in dataclasses.fields(Generation)] == [*RULES, "explicit"]


def test_the_defaults_are_those_of_generation_config() -> None:
    """Of transformers 4.57.6; None and its off states are written as one."""
    options = merged({}, {})
    assert options == Generation()
    assert (options.max_length, options.min_length, options.num_beams, options.top_k, options.temperature) == (
        20,
        0,
        1,
        50,
        1.0,
    )
    assert (options.top_p, options.typical_p, options.length_penalty, options.early_stopping) == (1.0, 1.0, 1.0, False)
    assert options.mode == "greedy_search"


def test_the_caller_wins_over_the_checkpoint() -> None:
    defaults = {
        "temperature": 0.6,
        "top_k": 20,
        "do_sample": True,
        "transformers_version": "4.40.0",
        "_from_model_config": True,
    }
    options = merged(defaults, {"top_k": 5})
    assert (options.temperature, options.top_k, options.do_sample) == (0.6, 5, True)
    assert options.explicit == {"top_k"}


def test_none_turns_an_option_off() -> None:
    names = [name for name in RULES if name != "top_k"]
    defaults = {
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.4,
        "do_sample": True,
        "repetition_penalty": 1.2,
        "max_length": 99,
    }
    off = merged(defaults, dict.fromkeys([*names, "top_k"]))
    assert dataclasses.replace(off, top_k=50) == Generation()
    assert off.top_k == 0
    assert merged({"top_k": None}, {}).top_k == 0
    assert off.explicit == frozenset()


@pytest.mark.parametrize(
    ("given", "tidy"),
    [
        ({"eos_token_id": 3}, {"eos_token_id": (3,), "pad_token_id": 3}),
        ({"eos_token_id": [3, 4]}, {"eos_token_id": (3, 4), "pad_token_id": 3}),
        ({"eos_token_id": [3, 4], "pad_token_id": 0}, {"pad_token_id": 0}),
        ({"eos_token_id": np.array([3, 4])}, {"eos_token_id": (3, 4)}),
        ({"eos_token_id": np.int64(3)}, {"eos_token_id": (3,)}),
        ({"eos_token_id": []}, {"eos_token_id": (), "pad_token_id": None}),
        ({"forced_eos_token_id": 2}, {"forced_eos_token_id": (2,)}),
        ({"repetition_penalty": 2}, {"repetition_penalty": 2.0}),
        ({"max_new_tokens": np.int32(4)}, {"max_new_tokens": 4}),
        ({"stop_strings": "a"}, {"stop_strings": ("a",)}),
        ({"stop_strings": ["a", "b"]}, {"stop_strings": ("a", "b")}),
        ({"bad_words_ids": [[1, 2], [3]]}, {"bad_words_ids": ((1, 2), (3,))}),
        ({"bad_words_ids": []}, {"bad_words_ids": ()}),
        ({"sequence_bias": {(1, 2): -3, (4,): 0.5}}, {"sequence_bias": (((1, 2), -3.0), ((4,), 0.5))}),
        ({"sequence_bias": [[[1, 2], -3.0]]}, {"sequence_bias": (((1, 2), -3.0),)}),
        ({"suppress_tokens": [1, 2]}, {"suppress_tokens": (1, 2)}),
        ({"exponential_decay_length_penalty": [4, 1.1], **EOS}, {"exponential_decay_length_penalty": (4, 1.1)}),
        (
            {"negative_prompt_ids": [1, 2], "guidance_scale": 2},
            {"negative_prompt_ids": ((1, 2),), "guidance_scale": 2.0},
        ),
        ({"negative_prompt_ids": [[1], [2, 3]], "guidance_scale": 2}, {"negative_prompt_ids": ((1,), (2, 3))}),
        ({"logits_processor": max}, {"logits_processor": (max,)}),
        ({"stopping_criteria": [max, min]}, {"stopping_criteria": (max, min)}),
        ({"early_stopping": "never", "num_beams": 2}, {"early_stopping": "never"}),
        ({"use_cache": False}, {"use_cache": False}),
        ({"seed": 2**64 - 1}, {"seed": 2**64 - 1}),
    ],
)
def test_values_are_tidied(given: Mapping[str, Any], tidy: Mapping[str, Any]) -> None:
    options = merged({}, given)
    assert {name: getattr(options, name) for name in tidy} == tidy


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *(
            (name, (0, -1, 1.5, True, "3"))
            for name in ("max_length", "max_new_tokens", "num_beams", "num_return_sequences")
        ),
        *((name, (-1, 0.5, False)) for name in ("min_length", "min_new_tokens", "top_k", "no_repeat_ngram_size")),
        ("prompt_lookup_num_tokens", (0, "2")),
        ("temperature", (-0.1, "hot", float("nan"), float("inf"), True)),
        ("top_p", (-0.1, 1.1, "x")),
        ("min_p", (-0.1, 1.1)),
        ("typical_p", (0, 1.1)),
        ("epsilon_cutoff", (-0.1, 1)),
        ("eta_cutoff", (1.0,)),
        ("penalty_alpha", (-0.1, 1.1)),
        ("repetition_penalty", (0, -1, "1.2")),
        ("encoder_repetition_penalty", (0,)),
        ("length_penalty", (float("inf"), "1")),
        ("diversity_penalty", (-1,)),
        ("guidance_scale", (float("nan"),)),
        ("max_time", (0, -1, "1s")),
        ("early_stopping", ("always", 2)),
        ("do_sample", (1, "yes")),
        ("eos_token_id", (-1, 1.0, "</s>", [1, -1], [True])),
        ("pad_token_id", (-1, [1])),
        ("stop_strings", ("", [""], [1], {"a": 1})),
        ("bad_words_ids", ([1], [[]], [[-1]], [["a"]], "a")),
        ("sequence_bias", ({(): 1.0}, {(1,): "x"}, [[1, 2]], {(-1,): 1.0}, {5: 1.0}, 4)),
        ("suppress_tokens", (5, ["a"])),
        ("exponential_decay_length_penalty", (1.5, [1], [1.5, 2], [1, 0], [1, 2, 3])),
        ("seed", (-1, 2**64, 1.0)),
        ("logits_processor", (3, [3])),
        ("prefix_allowed_tokens_fn", ([max],)),
        ("negative_prompt_ids", ("no", [[]])),
        ("streamer", (3,)),
        ("cancel", (3,)),
    ],
)
def test_values_that_are_refused(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"^{name} must be ") as error:
            merged({}, {name: value})
        assert error.value.__cause__ is not None
        assert repr(value) in str(error.value)


def test_zero_new_tokens_are_refused_as_in_transformers() -> None:
    with pytest.raises(InputError, match="max_new_tokens must be a whole number of at least 1, found 0"):
        merged({}, {"max_new_tokens": 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_return_sequences": 2}, "needs do_sample=True or num_beams"),
        ({"num_return_sequences": 3, "num_beams": 2}, "more than num_beams=2"),
        ({"do_sample": True, "temperature": 0}, "set do_sample=False"),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "cannot be divided into num_beam_groups=3"),
        ({"num_beams": 2, "num_beam_groups": 4, "diversity_penalty": 1.0}, "cannot be divided into num_beam_groups=4"),
        ({"num_beam_groups": 2, "diversity_penalty": 1.0}, "num_beams=1 cannot be divided"),
        ({"num_beams": 4, "num_beam_groups": 2}, "without a diversity_penalty"),
        (
            {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "do_sample": True},
            "groups of beams do not sample",
        ),
        ({"num_beams": 4, "diversity_penalty": 1.0}, "there is one group"),
        ({"diversity_penalty": 1.0}, "set num_beam_groups"),
        ({"penalty_alpha": 0.5, "num_beams": 2}, "set num_beams=1, found 2"),
        ({"penalty_alpha": 0.5, "do_sample": True}, "set do_sample=False"),
        ({"penalty_alpha": 0.5, "top_k": 1}, "set top_k to 2 or more"),
        ({"penalty_alpha": 0.5, "top_k": None}, "set top_k to 2 or more"),
        ({"prompt_lookup_num_tokens": 3, "num_beams": 2}, "num_beams=1"),
        ({"prompt_lookup_num_tokens": 3, "penalty_alpha": 0.5}, "penalty_alpha=None"),
        ({"prompt_lookup_num_tokens": 3, "do_sample": True, "num_return_sequences": 2}, "num_return_sequences=1"),
        ({"prompt_lookup_num_tokens": 3, "guidance_scale": 2.0}, "guidance_scale=None"),
        ({"negative_prompt_ids": [1]}, "give guidance_scale"),
        ({"streamer": print, "num_beams": 2}, "a streamer follows one sequence"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5 is more than max_new_tokens=4"),
        ({"exponential_decay_length_penalty": (1, 1.5)}, "give eos_token_id"),
    ],
)
def test_contradictions(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged({}, given)


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"do_sample": True}, "sample"),
        ({"num_beams": 2}, "beam_search"),
        ({"num_beams": 2, "do_sample": True}, "beam_sample"),
        ({"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0}, "group_beam_search"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive_search"),
        ({"penalty_alpha": 0.0}, "greedy_search"),
        ({"do_sample": None}, "greedy_search"),
    ],
)
def test_modes(given: Mapping[str, Any], mode: str) -> None:
    assert merged({}, given).mode == mode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temprature", "unknown option 'temprature'; did you mean 'temperature'"),
        ("max_tokens", "did you mean 'max_"),
        ("qqq", "options of generation are bad_words_ids, begin_suppress_tokens"),
        ("force_words_ids", "not part of edgenlp; use bad_words_ids"),
        ("constraints", "not part of edgenlp"),
        ("assistant_model", "prompt_lookup_num_tokens"),
        ("watermarking_config", "give a logits_processor"),
        ("dola_layers", "the last layer's scores only"),
        ("cache_implementation", "one buffer"),
        ("generation_config", "to_diff_dict"),
        ("attention_mask", "never padded"),
        ("explicit", "unknown option 'explicit'"),
    ],
)
def test_unknown_options(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged({}, {name: 1})
    assert merged({name: 1}, {}) == Generation()  # a checkpoint may hold anything


def test_a_bad_default_names_the_bundle() -> None:
    with pytest.raises(
        InputError, match=r"^the bundle's default top_p must be a number from 0 to 1, found 7; give top_p yourself"
    ):
        merged({"top_p": 7}, {})
    assert merged({"top_p": 7, "do_sample": True}, {"top_p": 0.5}).top_p == 0.5


def test_old_checkpoints_write_minus_one_for_no_token() -> None:
    assert merged({"pad_token_id": -1, "eos_token_id": -1}, {}) == Generation()


def test_what_has_no_effect_is_said_once_and_only_of_what_the_caller_gave() -> None:
    with pytest.warns(
        UserWarning, match="temperature=0.5 has no effect with do_sample=False; top_k=3 has no effect"
    ) as found:
        merged({"top_p": 0.5}, {"temperature": 0.5, "top_k": 3})
    assert len(found) == 1
    with pytest.warns(UserWarning, match="length_penalty=2.0 has no effect with num_beams=1"):
        merged({}, {"length_penalty": 2.0})
    with pytest.warns(UserWarning, match="max_length=9 has no effect: max_new_tokens=4 wins"):
        merged({"max_new_tokens": 4}, {"max_length": 9})
    with pytest.warns(UserWarning, match="min_length=9 has no effect: min_new_tokens=4 wins"):
        merged({}, {"min_length": 9, "min_new_tokens": 4})
    with pytest.warns(UserWarning, match="temperature=0.0 has no effect"):
        assert merged({}, {"temperature": 0}).mode == "greedy_search"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        merged({"temperature": 0.5, "top_p": 0.9, "early_stopping": True}, {"temperature": 1.0, "top_k": 50})


@pytest.mark.parametrize(
    ("defaults", "given", "prompt", "window", "span"),
    [
        ({}, {}, 7, None, (0, 27)),
        ({"max_length": 20}, {}, 7, None, (0, 27)),
        ({}, {"max_length": 20}, 7, None, (0, 20)),
        ({"max_length": 30}, {}, 7, None, (0, 30)),
        ({"max_length": 30}, {"max_length": None}, 7, None, (0, 27)),
        ({"max_length": 30}, {"max_new_tokens": 5}, 7, None, (0, 12)),
        ({}, {}, 7, 16, (0, 16)),
        ({}, {"max_new_tokens": 50}, 7, 16, (0, 16)),
        ({"min_length": 9}, {}, 7, None, (9, 27)),
        ({"min_length": 9}, {"min_new_tokens": 1}, 7, None, (8, 27)),
        ({"min_length": 56}, {"max_new_tokens": 5}, 7, None, (12, 12)),
        ({"min_new_tokens": 56}, {"max_new_tokens": 5}, 7, None, (12, 12)),
    ],
)
def test_least_and_most_tokens(
    defaults: Mapping[str, Any], given: Mapping[str, Any], prompt: int, window: int | None, span: tuple[int, int]
) -> None:
    assert merged(defaults, given).span(prompt, window) == span


@pytest.mark.parametrize(
    ("given", "prompt", "window", "message"),
    [
        ({"max_length": 7}, 7, None, "the prompt has 7 tokens and max_length is 7"),
        ({"max_length": 6}, 7, None, "give max_new_tokens, or a max_length above 7"),
        ({}, 16, 16, "the model's window holds 16"),
        ({"max_new_tokens": 1}, 17, 16, "the prompt has 17 tokens"),
        ({"min_length": 30}, 7, None, "min_length=30 asks for at least 30 tokens, prompt included, and at most 27"),
        ({"min_new_tokens": 9, "max_length": 12}, 7, None, "min_new_tokens=9 asks for at least 16"),
        ({"min_new_tokens": 9, "max_new_tokens": 12}, 7, 10, "at most 10 are allowed"),
    ],
)
def test_spans_that_cannot_be(given: Mapping[str, Any], prompt: int, window: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged({}, given).span(prompt, window)


def test_the_generation_config_of_known_checkpoints() -> None:
    """As published for Llama-3.2, BART-large-CNN and Whisper."""
    llama = json.loads(
        '{"bos_token_id": 128000, "do_sample": true, "eos_token_id": [128001, 128008, 128009], "temperature": 0.6, "top_p": 0.9,'
        ' "transformers_version": "4.45.0.dev0"}'
    )
    options = merged(llama, {})
    assert options.mode == "sample"
    assert options.pad_token_id == 128001
    assert merged(llama, {"do_sample": False}).mode == "greedy_search"
    bart = json.loads(
        '{"_from_model_config": true, "bos_token_id": 0, "decoder_start_token_id": 2, "early_stopping": true, "eos_token_id": 2,'
        ' "forced_bos_token_id": 0, "forced_eos_token_id": 2, "length_penalty": 2.0, "max_length": 142, "min_length": 56,'
        ' "no_repeat_ngram_size": 3, "num_beams": 4, "pad_token_id": 1, "transformers_version": "4.27.0.dev0"}'
    )
    options = merged(bart, {})
    assert options.mode == "beam_search"
    assert options.span(1) == (56, 142)
    assert (options.kept, options.forced_eos_token_id, options.pad_token_id) == (2, (2,), 1)
    whisper = json.loads(
        '{"begin_suppress_tokens": [220, 50257], "suppress_tokens": [], "forced_decoder_ids": [[1, null]]}'
    )
    assert merged(whisper, {}).begin_suppress_tokens == (220, 50257)
