"""Calls of processors whose answers by transformers 4.57.6 are recorded: options, and rows and scores made anew from seeds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CALLS", "CASES", "COLUMNS", "DIVERSITY", "STOPS", "Case", "Stop", "load", "load_stops", "save"]

COLUMNS = 97
GOLDENS = Path(__file__).parent / "data" / "goldens"

Json = dict[str, Any]

# Callables by name: they take numpy's arrays and torch's tensors.
CALLS: Mapping[str, Any] = {
    "three": lambda prompt, ids: [int(ids[-1]), (7 * len(ids)) % COLUMNS, 3 + prompt],
    "one": lambda prompt, ids: [int(ids[0])],
    "halve": lambda ids, scores: scores / 2,
    "shift": lambda ids, scores: scores + 1,
}


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        given: Options; `call` replaces the names of callables.
        rows: Per row (tokens of its prompt, tokens in all).
        scores: "normal", "ties" (many equal), "sparse" (most are minus infinity) or "invalid" (NaN and infinities).
        columns: Of the scores.
        sources: Whether there is an encoder with ids of its own.
    """

    given: Json
    rows: tuple[tuple[int, int], ...] = ((4, 4), (1, 9), (6, 26))
    scores: str = "normal"
    columns: int = COLUMNS
    sources: bool = False
    calls: Mapping[str, str] = field(default_factory=dict)

    def stream(self, name: str) -> np.random.RandomState:
        return np.random.RandomState(sum(ord(letter) * (place + 1) for place, letter in enumerate(name)) % 2**31)

    def inputs(self, name: str) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]:
        """Ids of each row, ids of each row's source, scores, and the scores without the prompt."""
        stream = self.stream(name)
        # few different ids, so that runs of them come back; the end token 2 is among them
        ids = [stream.randint(0, 7, total).astype(np.int64) for _, total in self.rows]
        sources = [stream.randint(0, 7, 12).astype(np.int64) for _ in self.rows]
        shape = (len(self.rows), self.columns)
        scores = stream.normal(0, 3, shape)
        if self.scores == "ties":
            scores = np.round(scores / 2)
        if self.scores == "sparse":
            scores[stream.uniform(size=shape) < 0.93] = -np.inf
            scores[:, 11] = 1.0
        if self.scores == "invalid":
            scores[:, :12:3], scores[:, 1:12:3], scores[:, 2:12:3] = np.nan, np.inf, -np.inf
        return ids, sources, scores.astype(np.float32), stream.normal(0, 3, shape).astype(np.float32)


def _sampling(**given: Any) -> Case:
    return Case({"do_sample": True, "top_k": 0, **given})


def _cases() -> dict[str, Case]:
    eos = {"eos_token_id": 2}
    cases = {
        "nothing": Case({}),
        "guidance 1.5": Case({"guidance_scale": 1.5}),
        "guidance 0.5": Case({"guidance_scale": 0.5}),
        "bias": Case({"sequence_bias": [[[5], -10.0], [[1, 5], 2.5], [[1, 2, 3], 7.0], [[40], 1.5]]}),
        "bias, all pairs": Case(
            {"sequence_bias": [[[a, b], 0.1 * a - 0.3 * b] for a in range(1, 7) for b in range(1, 7)]}
        ),
        "bias, triples and singles": Case(
            {"sequence_bias": [[[a, b, 9], 0.7] for a in range(1, 7) for b in range(1, 7)] + [[[9], 0.1]]}
        ),
        "bias longer than the row": Case(
            {"sequence_bias": [[[a, 8], 5.0] for a in range(1, 7)] + [[[1] * 30, 3.0]]}, rows=((1, 1), (1, 2), (3, 3))
        ),
        "encoder repetition 1.3": Case({"encoder_repetition_penalty": 1.3}, sources=True),
        "encoder repetition 0.7, of the prompt": Case({"encoder_repetition_penalty": 0.7}),
        "repetition 1.3": Case({"repetition_penalty": 1.3}),
        "repetition 0.8": Case({"repetition_penalty": 0.8}),
        "repetition 1.2, sparse": Case({"repetition_penalty": 1.2}, scores="sparse"),
        **{
            f"no runs of {size}": Case({"no_repeat_ngram_size": size}, rows=((1, 1), (2, 2), (3, 17), (5, 60), (9, 9)))
            for size in (1, 2, 3, 4, 30)
        },
        **{
            f"no runs of {size} of the source": Case({"encoder_no_repeat_ngram_size": size}, sources=True)
            for size in (1, 2, 3)
        },
        "no runs of 20 of the source": Case({"encoder_no_repeat_ngram_size": 20}, sources=True),
        "no runs of 2 of the prompt": Case({"encoder_no_repeat_ngram_size": 2}),
        "bad words": Case({"bad_words_ids": [[7], [1, 3], [5, 5, 5], [2], [2, 4]], **eos}),
        "bad words, all pairs": Case({"bad_words_ids": [[a, a + 1] for a in range(7)] + [[0, 0]]}),
        "bad words longer than the row": Case({"bad_words_ids": [[1] * 40, [4]]}, rows=((1, 1), (2, 2))),
        "bad words, several ends": Case({"bad_words_ids": [[2], [3], [4]], "eos_token_id": [2, 4]}),
        "least length": Case({"min_length": 9, "max_length": 40, **eos}, rows=((4, 4), (4, 8), (4, 9), (4, 10))),
        "least length, several ends": Case(
            {"min_length": 9, "max_length": 40, "eos_token_id": [2, 50, 500]}, rows=((4, 8), (4, 9))
        ),
        "least new tokens": Case({"min_new_tokens": 3, "max_length": 40, **eos}, rows=((4, 4), (4, 6), (4, 7), (1, 3))),
        "least new tokens win": Case(
            {"min_new_tokens": 2, "min_length": 30, "max_length": 40, **eos}, rows=((4, 5), (4, 6), (4, 7))
        ),
        "no least length without an end": Case({"min_length": 9, "max_length": 40}, rows=((4, 4),)),
        "allowed three": Case({}, calls={"prefix_allowed_tokens_fn": "three"}),
        "allowed one": Case({}, calls={"prefix_allowed_tokens_fn": "one"}),
        "forced beginning": Case({"forced_bos_token_id": 60}, rows=((1, 1), (1, 2), (2, 2))),
        "forced end": Case({"forced_eos_token_id": 2, "max_length": 12}, rows=((4, 10), (4, 11), (1, 11))),
        "forced ends": Case({"forced_eos_token_id": [2, 60], "max_new_tokens": 4}, rows=((4, 6), (4, 7), (1, 4))),
        "finite": Case({"remove_invalid_values": True}, scores="invalid"),
        "decay": Case(
            {"exponential_decay_length_penalty": [3, 1.07], **eos}, rows=((4, 4), (4, 7), (4, 8), (4, 17), (1, 14))
        ),
        "decay, several ends": Case(
            {"exponential_decay_length_penalty": [0, 1.5], "eos_token_id": [2, 60]}, rows=((4, 4), (4, 5), (1, 14))
        ),
        "suppressed": Case({"suppress_tokens": [0, 5, 96, 500]}),
        "suppressed at the beginning": Case(
            {"begin_suppress_tokens": [0, 5, 500]}, rows=((1, 1), (4, 4), (1, 2), (4, 5))
        ),
        "suppressed at the beginning, after a forced one": Case(
            {"begin_suppress_tokens": [0, 5, 60], "forced_bos_token_id": 60},
            rows=((1, 1), (1, 2), (1, 3), (2, 2), (2, 3)),
        ),
        "the caller's": Case({"repetition_penalty": 1.5}, calls={"logits_processor": "halve"}),
        "log-probabilities": Case({"renormalize_logits": True}),
        "log-probabilities, sparse": Case({"renormalize_logits": True}, scores="sparse"),
    }
    warpers: dict[str, Json] = {}
    warpers |= {f"temperature {value}": {"temperature": value} for value in (0.3, 0.7, 1.9)}
    warpers |= {f"top_k {value}": {"top_k": value} for value in (1, 2, 50, 97, 200)}
    warpers |= {f"top_p {value}": {"top_p": value} for value in (0.0, 0.05, 0.5, 0.9, 0.95, 0.999, 1.0)}
    warpers |= {f"min_p {value}": {"min_p": value} for value in (0.0, 0.02, 0.3, 1.0)}
    warpers |= {f"typical_p {value}": {"typical_p": value} for value in (0.05, 0.2, 0.9, 0.999)}
    warpers |= {f"epsilon {value}": {"epsilon_cutoff": value} for value in (3e-4, 0.02, 0.9)}
    warpers |= {f"eta {value}": {"eta_cutoff": value} for value in (3e-4, 0.02, 0.9)}
    warpers |= {
        "usual": {"temperature": 0.8, "top_k": 40, "top_p": 0.9},
        "all cuts": {
            "temperature": 1.4,
            "top_k": 60,
            "top_p": 0.97,
            "min_p": 0.01,
            "typical_p": 0.9,
            "epsilon_cutoff": 1e-3,
        }
        | {"eta_cutoff": 2e-3, "renormalize_logits": True},
    }
    for name, given in warpers.items():
        cases[name] = _sampling(**given)
        if not name.startswith("temperature"):
            cases[f"{name}, ties"] = Case(cases[name].given, scores="ties")
            cases[f"{name}, sparse"] = Case(cases[name].given, scores="sparse")
            cases[f"{name}, wide"] = Case(cases[name].given, rows=((4, 4),), columns=6000)
            cases[f"{name}, beams"] = Case({**cases[name].given, "num_beams": 3})
            cases[f"{name}, beams and ends"] = Case({**cases[name].given, "num_beams": 3, "eos_token_id": [2, 60]})
    everything = {
        "guidance_scale": 1.2,
        "sequence_bias": [[[5], -1.0], [[1, 5], 2.5]],
        "repetition_penalty": 1.2,
        "encoder_repetition_penalty": 1.1,
        "no_repeat_ngram_size": 3,
        "encoder_no_repeat_ngram_size": 3,
        "bad_words_ids": [[7], [1, 3]],
        "min_length": 8,
        "max_length": 40,
        "remove_invalid_values": True,
        "exponential_decay_length_penalty": [2, 1.02],
        "suppress_tokens": [0, 96],
        "begin_suppress_tokens": [50],
        "renormalize_logits": True,
        **eos,
    }
    sampled = {
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 60,
        "top_p": 0.95,
        "min_p": 0.01,
        "typical_p": 0.95,
        "eta_cutoff": 1e-3,
    }
    cases["everything"] = Case(everything, calls={"logits_processor": "shift"}, sources=True)
    cases["everything, sampled"] = Case({**everything, **sampled}, calls={"logits_processor": "halve"}, sources=True)
    cases["everything, sampled from the prompt"] = Case({**everything, **sampled})
    banned = {
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[40]],
        "min_new_tokens": 5,
        "max_new_tokens": 60,
    }
    cases["bans before cuts"] = Case({**banned, **eos, "do_sample": True, "top_k": 10, "temperature": 0.7})
    cases["forced among others"] = Case(
        {**banned, "forced_eos_token_id": 2, "max_new_tokens": 6, "suppress_tokens": [5], **eos}, rows=((4, 9), (4, 8))
    )
    return cases


CASES: Mapping[str, Case] = _cases()

# Groups of beams: penalty, and per prompt what the earlier groups chose; two beams per group.
DIVERSITY: tuple[tuple[float, tuple[tuple[int, ...], ...]], ...] = (
    (0.5, ((3, 3), (4, 9))),
    (1.7, ((3, 3, 3, 8), (1, 2, 1, 0))),
)


@dataclass(frozen=True)
class Stop:
    """A vocabulary, stop strings and rows of ids that may end with one of them."""

    vocabulary: tuple[str, ...]
    strings: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]


def _stop(seed: int) -> Stop:
    stream = np.random.RandomState(seed)

    def text(most: int) -> str:
        return "".join("ab\n"[letter] for letter in stream.randint(0, 3, stream.randint(1, most + 1)))

    vocabulary = tuple(sorted({"a", "b", "\n", *(text(4) for _ in range(22))}))
    strings = tuple(text(6) for _ in range(stream.randint(1, 4)))
    rows = tuple(tuple(stream.randint(0, len(vocabulary), stream.randint(1, 9)).tolist()) for _ in range(40))
    return Stop(vocabulary, strings, rows)


STOPS: tuple[Stop, ...] = tuple(_stop(seed) for seed in range(25))


def load_stops() -> list[str]:
    """Per case of `STOPS` a 1 for each row that ends, else a 0."""
    stops: list[str] = json.loads((GOLDENS / "processors.json").read_text("utf-8"))["stops"]
    return stops


def save(
    answers: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray], *, stops: list[str], version: str
) -> None:
    """Store what differs from the scores that went in: 1 where it is minus infinity, 2 where it is another number."""
    marks, values, names = [], [], []
    for name, answer in answers.items():
        same = (answer == inputs[name]) | (np.isnan(answer) & np.isnan(inputs[name]))
        mark = np.where(same, 0, np.where(answer == -np.inf, 1, 2)).astype(np.uint8)
        marks.append(mark.ravel())
        values.append(answer[mark == 2])
        names.append({"name": name, "shape": list(answer.shape), "values": len(values[-1])})
    np.savez_compressed(GOLDENS / "processors.npz", marks=np.concatenate(marks), values=np.concatenate(values))
    facts = {"transformers": version, "stops": stops, "cases": names}
    (GOLDENS / "processors.json").write_text(json.dumps(facts, indent=0) + "\n", "utf-8")


def load(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name to the recorded scores."""
    answers: dict[str, np.ndarray] = {}
    with np.load(GOLDENS / "processors.npz") as arrays:
        marks, values = arrays["marks"], arrays["values"]
    for item in json.loads((GOLDENS / "processors.json").read_text("utf-8"))["cases"]:
        count = int(np.prod(item["shape"]))
        mark, marks = marks[:count].reshape(item["shape"]), marks[count:]
        answer = inputs[item["name"]].copy()
        answer[mark == 1] = -np.inf
        answer[mark == 2], values = values[: item["values"]], values[item["values"] :]
        answers[item["name"]] = answer
    return answers
