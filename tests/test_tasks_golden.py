"""Tasks against the pipelines of transformers 4.57.6: the same call gives the same answer, or fails where it failed."""

import math
import warnings
from typing import Any

import pytest
from conftest import OpenBundle
from goldens import Json, load_tasks

import edgenlp

CASES = load_tasks()
SCORES = ("score", "scores")

# Where edgenlp answers otherwise on purpose: task, option (with its value, where that matters), reason.
DIFFERENT = (
    ("feature-extraction", {"batch_size": 2}, "4.57 pads the batch and gives vectors of the padding too"),
    (
        "question-answering",
        {"max_question_len": 2},
        "4.57 reads it for slow tokenizers only; here it does what it says",
    ),
)
# Where edgenlp answers though 4.57 fails.
ANSWERED = (
    ("fill-mask", {"top_k": 5000}, "more answers than the vocabulary has: all of them, where 4.57 fails in torch.topk"),
    (
        "question-answering",
        {"max_question_len": 2},
        "the shortened question leaves room, where 4.57 does not shorten it",
    ),
    (
        "token-classification",
        {"is_split_into_words": True},
        "4.57 wants another RoBERTa tokenizer; here words are joined",
    ),
)


def differences(found: Any, expected: Any, path: str = "", key: str = "") -> list[str]:
    """Where `found` is not `expected`: types, keys, order, texts and numbers."""
    if isinstance(expected, bool | float | int) and isinstance(found, float | int) and type(found) is type(expected):
        near = 2e-6 if key in SCORES else 1e-4  # a score is at most 1, and often small
        same = (
            math.isclose(found, expected, rel_tol=1e-4, abs_tol=near) if isinstance(found, float) else found == expected
        )
        return [] if same else [f"{path}: {found!r}, expected {expected!r}"]
    if isinstance(expected, dict) and isinstance(found, dict) and list(found) == list(expected):
        return [line for name in expected for line in differences(found[name], expected[name], f"{path}.{name}", name)]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for place, (a, b) in pairs for line in differences(a, b, f"{path}[{place}]", key)]
    return (
        []
        if type(found) is type(expected) and found == expected
        else [f"{path}: {found!r:.300}, expected {expected!r:.300}"]
    )


def on_purpose(case: Json, table: tuple[tuple[str, Json, str], ...]) -> bool:
    """Whether a row of `table` is about this case."""
    given = {**case["init"], **case["kwargs"]}
    return any(task == case["task"] and options.items() <= given.items() for task, options, _ in table)


def accepts(case: Json) -> bool:
    """Whether edgenlp answers this call, at which transformers fails."""
    prefixed = case["task"] == "token-classification" and "add_prefix_space" not in case["error"]
    return on_purpose(case, ANSWERED) and not prefixed


def name_of(case: Json) -> str:
    given = [*(f"{name}={value!r}" for name, value in {**case["init"], **case["kwargs"]}.items())]
    return f"{case['task']}: {case['checkpoint']['architecture']} {', '.join([*map(repr, case['args']), *given])}"[:110]


def call(case: Json, open_bundle_of: OpenBundle) -> Any:
    model = open_bundle_of(case["checkpoint"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of options warn
        return edgenlp.pipeline(case["task"], model=model, **case["init"])(*case["args"], **case["kwargs"])


ANSWERS = [case for case in CASES if "result" in case and not on_purpose(case, DIFFERENT)]
ERRORS = [case for case in CASES if "error" in case]


@pytest.mark.parametrize("case", ANSWERS, ids=name_of)
def test_answers_as_transformers_does(case: Json, open_bundle_of: OpenBundle) -> None:
    assert differences(call(case, open_bundle_of), case["result"]) == []


@pytest.mark.parametrize("case", [case for case in ERRORS if not accepts(case)], ids=name_of)
def test_refuses_what_transformers_refuses(case: Json, open_bundle_of: OpenBundle) -> None:
    # too many positional arguments are Python's to refuse
    with pytest.raises((edgenlp.EdgeNLPError, TypeError) if len(case["args"]) > 2 else edgenlp.EdgeNLPError):
        call(case, open_bundle_of)


@pytest.mark.parametrize("case", [case for case in ERRORS if accepts(case)], ids=name_of)
def test_answers_where_transformers_fails(case: Json, open_bundle_of: OpenBundle) -> None:
    assert call(case, open_bundle_of)


@pytest.mark.parametrize(
    "case", [case for case in CASES if on_purpose(case, DIFFERENT) and "result" in case], ids=name_of
)
def test_answers_otherwise_on_purpose(case: Json, open_bundle_of: OpenBundle) -> None:
    assert differences(call(case, open_bundle_of), case["result"]) != []
