"""Records what transformers writes with the toy model: token ids and scores of every combination of options below.

    python tests/record_generate.py

Writes `tests/data/goldens/generate.json`. Run it twice: with transformers 4.57.6, and with 4.53.3, the last release that has group
beam search and contrastive search in its own tree. Each run replaces the cases of its own release.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import toy_model
import transformers

GOLDENS = Path(__file__).parent / "data" / "goldens" / "generate.json"

PROMPTS = [
    [3, 14, 15, 9, 26, 5, 35],
    [11, 42],
    [30, 31, 32, 33, 34, 30, 31, 32, 33, 34, 30, 31],
    [50],
    [8, 20, 8, 21, 8, 22],
    [60, 1, 59, 2, 58, 3, 57, 4, 56],
]

Case = dict[str, Any]

GREEDY: dict[str, Case] = {
    "plain": {},
    "one token": {"max_new_tokens": 1},
    "default length": {"max_new_tokens": None},
    "max_length": {"max_new_tokens": None, "max_length": 20},
    "two eos": {"eos_token_id": [7, 12]},
    "three eos": {"eos_token_id": [12, 7, 33]},
    "min_new_tokens": {"min_new_tokens": 14},
    "min_length": {"min_length": 18},
    "repetition_penalty": {"repetition_penalty": 1.6},
    "repetition reward": {"repetition_penalty": 0.8},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.7},
    "no_repeat_ngram_size 1": {"no_repeat_ngram_size": 1},
    "no_repeat_ngram_size 2": {"no_repeat_ngram_size": 2},
    "no_repeat_ngram_size 3": {"no_repeat_ngram_size": 3},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[4], [33, 34], [10, 20, 30], [56]]},
    "sequence_bias": {"sequence_bias": [[[4], -3.0], [[33, 34], -9.0], [[17], 2.5], [[21, 8], 4.0]]},
    "suppress_tokens": {"suppress_tokens": [4, 7, 33, 50]},
    "begin_suppress_tokens": {"begin_suppress_tokens": [7, 30, 31, 32, 33, 34, 35]},
    "forced_bos_token_id": {"forced_bos_token_id": 13},
    "forced_eos_token_id": {"forced_eos_token_id": 7},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": [4, 1.15]},
    "renormalize_logits": {"renormalize_logits": True, "repetition_penalty": 1.3},
    "remove_invalid_values": {"remove_invalid_values": True},
    "everything": {
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "bad_words_ids": [[4], [33, 34]],
        "min_new_tokens": 6,
        "suppress_tokens": [50],
        "exponential_decay_length_penalty": [10, 1.2],
    },
    "guidance": {"guidance_scale": 1.7},
    "guidance below one": {"guidance_scale": 0.5},
    "guidance, negative prompt": {"guidance_scale": 2.0, "negative_prompt_ids": [5, 17, 40]},
    "guidance, penalty": {"guidance_scale": 1.4, "negative_prompt_ids": [5, 17, 40], "repetition_penalty": 1.3},
    "prompt lookup": {"prompt_lookup_num_tokens": 3, "max_new_tokens": 40},
    "sampling from one": {"do_sample": True, "top_k": 1, "temperature": 0.7},
    "sampling from a narrow nucleus": {"do_sample": True, "top_k": 0, "top_p": 0.001, "temperature": 1.3},
}

BEAMS: dict[str, Case] = {
    "2 beams": {"num_beams": 2},
    "4 beams": {"num_beams": 4},
    "8 beams": {"num_beams": 8, "num_return_sequences": 8},
    "4 beams, early_stopping": {"num_beams": 4, "early_stopping": True, "num_return_sequences": 2},
    "8 beams, early_stopping": {"num_beams": 8, "early_stopping": True, "num_return_sequences": 3},
    "4 beams, never": {"num_beams": 4, "early_stopping": "never", "num_return_sequences": 2},
    "4 beams, never, no length penalty": {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.0},
    "4 beams, never, negative length penalty": {"num_beams": 4, "early_stopping": "never", "length_penalty": -1.0},
    "4 beams, length_penalty 0": {"num_beams": 4, "length_penalty": 0.0, "num_return_sequences": 4},
    "4 beams, length_penalty 2": {"num_beams": 4, "length_penalty": 2.0, "num_return_sequences": 4},
    "4 beams, length_penalty -1": {"num_beams": 4, "length_penalty": -1.0, "num_return_sequences": 4},
    "4 beams, early_stopping, length_penalty 2": {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0},
    "5 beams, two eos": {"num_beams": 5, "eos_token_id": [7, 12], "num_return_sequences": 5},
    "3 beams, three eos, early_stopping": {"num_beams": 3, "eos_token_id": [12, 7, 33], "early_stopping": True},
    "4 beams, max_length": {"num_beams": 4, "max_new_tokens": None, "max_length": 16},
    "4 beams, one token": {"num_beams": 4, "max_new_tokens": 1, "num_return_sequences": 4},
    "4 beams, min_new_tokens": {"num_beams": 4, "min_new_tokens": 10, "num_return_sequences": 2},
    "4 beams, repetition_penalty": {"num_beams": 4, "repetition_penalty": 1.4},
    "4 beams, no_repeat_ngram_size": {"num_beams": 4, "no_repeat_ngram_size": 2, "num_return_sequences": 2},
    "4 beams, bad_words_ids": {"num_beams": 4, "bad_words_ids": [[4], [33, 34], [56]]},
    "4 beams, forced_eos_token_id": {"num_beams": 4, "forced_eos_token_id": 7, "max_new_tokens": 9},
    "4 beams, renormalize_logits": {"num_beams": 4, "renormalize_logits": True, "suppress_tokens": [4, 33]},
    "4 beams, exponential decay": {"num_beams": 4, "exponential_decay_length_penalty": [4, 1.1]},
    "6 beams, long": {"num_beams": 6, "max_new_tokens": 48, "num_return_sequences": 3},
}

OLD: dict[str, Case] = {
    "2 groups of 2": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "num_return_sequences": 4},
    "3 groups of 2": {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 1.0, "num_return_sequences": 3},
    "4 groups of 1": {"num_beams": 4, "num_beam_groups": 4, "diversity_penalty": 0.8, "num_return_sequences": 4},
    "2 groups of 4": {"num_beams": 8, "num_beam_groups": 2, "diversity_penalty": 2.0},
    "2 groups of 2, early_stopping": {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.5,
        "early_stopping": True,
        "num_return_sequences": 2,
    },
    "2 groups of 2, never": {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.5,
        "early_stopping": "never",
        "length_penalty": 1.5,
        "num_return_sequences": 2,
    },
    "2 groups of 3, negative length penalty": {
        "num_beams": 6,
        "num_beam_groups": 2,
        "diversity_penalty": 0.7,
        "length_penalty": -0.5,
        "num_return_sequences": 6,
    },
    "2 groups of 2, two eos, penalties": {
        "num_beams": 4,
        "num_beam_groups": 2,
        "diversity_penalty": 0.6,
        "eos_token_id": [7, 12],
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.2,
        "num_return_sequences": 2,
    },
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "contrastive, 8 candidates": {"penalty_alpha": 0.3, "top_k": 8},
    "contrastive, strong": {"penalty_alpha": 0.9, "top_k": 5, "max_new_tokens": 40},
    "contrastive, penalties": {"penalty_alpha": 0.5, "top_k": 4, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "contrastive, two eos": {"penalty_alpha": 0.4, "top_k": 6, "eos_token_id": [7, 12], "min_new_tokens": 3},
}


PADDED = ("plain", "two eos", "4 beams", "8 beams, early_stopping")


def model() -> transformers.GPT2LMHeadModel:
    """The toy model as a torch module."""
    config = transformers.GPT2Config(**toy_model.CONFIG)
    built = transformers.GPT2LMHeadModel(config)
    state = {name: torch.from_numpy(array) for name, array in toy_model.weights().items()}
    missing, unexpected = built.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith(("attn.bias", "attn.masked_bias")) for name in missing), missing
    return built.eval()


def cut(ids: list[int], options: Case) -> list[int]:
    """New tokens up to and with the first eos: what follows is padding."""
    eos = options.get("eos_token_id", toy_model.EOS)
    ends = set(eos) if isinstance(eos, list) else {eos}
    for place, token in enumerate(ids):
        if token in ends:
            return ids[: place + 1]
    return ids


def answers(built: transformers.GPT2LMHeadModel, options: Case) -> Case:
    """Per prompt, by itself: the ids of each sequence, and the scores of beams."""
    given = {"max_new_tokens": 24, **options}
    given = {name: value for name, value in given.items() if value is not None}
    if "negative_prompt_ids" in given:
        given["negative_prompt_ids"] = torch.tensor([given["negative_prompt_ids"]])
    if isinstance(given.get("exponential_decay_length_penalty"), list):
        given["exponential_decay_length_penalty"] = tuple(given["exponential_decay_length_penalty"])
    ids: list[list[list[int]]] = []
    scores: list[list[float]] = []
    for prompt in PROMPTS:
        rows = torch.tensor([prompt])
        output = built.generate(
            rows, attention_mask=torch.ones_like(rows), return_dict_in_generate=True, output_scores=True, **given
        )
        ids.append([cut(row[len(prompt) :].tolist(), options) for row in output.sequences])
        if (found := getattr(output, "sequences_scores", None)) is not None:
            scores.append([round(value, 6) for value in found.tolist()])
    return {"options": options, "ids": ids, **({"scores": scores} if scores else {})}


def padded(built: transformers.GPT2LMHeadModel, options: Case) -> Case:
    """All prompts in one batch, padded on the left."""
    width = max(map(len, PROMPTS))
    rows = torch.tensor([[toy_model.EOS] * (width - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    output = built.generate(
        rows, attention_mask=mask, max_new_tokens=24, return_dict_in_generate=True, output_scores=True, **options
    )
    found = [cut(row[width:].tolist(), options) for row in output.sequences]
    count = options.get("num_return_sequences", 1)
    result: Case = {"options": options, "ids": [found[place : place + count] for place in range(0, len(found), count)]}
    if (values := getattr(output, "sequences_scores", None)) is not None:
        rounded = [round(value, 6) for value in values.tolist()]
        result["scores"] = [rounded[place : place + count] for place in range(0, len(found), count)]
    return result


def steps(built: transformers.GPT2LMHeadModel) -> Case:
    """Processed scores and raw logits of the first prompt's first steps."""
    options = {"do_sample": True, "temperature": 0.5, "top_k": 9, "repetition_penalty": 1.5, "max_new_tokens": 1}
    rows = torch.tensor([PROMPTS[0]])
    output = built.generate(
        rows,
        attention_mask=torch.ones_like(rows),
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        **options,
    )
    return {
        "options": options,
        "scores": [None if value == -float("inf") else round(value, 5) for value in output.scores[0][0].tolist()],
        "logits": [round(value, 5) for value in output.logits[0][0].tolist()],
    }


def pretty(recorded: dict[str, Any]) -> str:
    """JSON with one case to a line."""
    parts = []
    for name, value in sorted(recorded.items()):
        text = json.dumps(value, separators=(",", ":"))
        if isinstance(value, dict) and "cases" in value:
            cases = ",\n".join(
                f"{json.dumps(case)}:{json.dumps(answer, separators=(',', ':'))}"
                for case, answer in value["cases"].items()
            )
            text = f'{{"transformers":{json.dumps(value["transformers"])},"cases":{{\n{cases}\n}}}}'
        parts.append(f"{json.dumps(name)}:{text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    release = transformers.__version__
    recorded: dict[str, Any] = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
    built = model()
    with torch.no_grad():
        if release.startswith("4.53"):
            own = {name: answers(built, options) for name, options in OLD.items()}
            recorded["groups and contrastive"] = {"transformers": release, "cases": own}
        else:
            own = {name: answers(built, options) for name, options in (GREEDY | BEAMS).items()}
            own |= {f"padded batch, {name}": padded(built, (GREEDY | BEAMS)[name]) for name in PADDED}
            recorded["generate"] = {"transformers": release, "cases": own}
            recorded["steps"] = {"transformers": release, **steps(built)}
    recorded["prompts"] = PROMPTS
    GOLDENS.write_text(pretty(recorded))
    sys.stdout.write(f"{len(own)} cases of transformers {release}\n")


if __name__ == "__main__":
    main()
