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


def differences(found: Any, expected: Any, path: str = "", key: str = "") -> list[str]:
    """Where `found` is not `expected`: types, keys, order, texts and numbers."""
    if isinstance(expected, bool | float | int) and isinstance(found, float | int) and type(found) is type(expected):
        near = 2e-6 if key in SCORES else 1e-4  # a score is at most 1, and often small
        same = math.isclose(found, expected, rel_tol=1e-4, abs_tol=near) if isinstance(found, float) else found == expected
        return [] if same else [f"{path}: {found!r}, expected {expected!r}"]
    if isinstance(expected, dict) and isinstance(found, dict) and list(found) == list(expected):
        return [line for name in expected for line in differences(found[name], expected[name], f"{path}.{name}", name)]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for place, (a, b) in pairs for line in differences(a, b, f"{path}[{place}]", key)]
    return [] if type(found) is type(expected) and found == expected else [f"{path}: {found!r:.300}, expected {expected!r:.300}"]


def name_of(case: Json) -> str:
    given = [*(f"{name}={value!r}" for name, value in {**case["init"], **case["kwargs"]}.items())]
    return f"{case['task']}: {case['checkpoint']['architecture']} {', '.join([*map(repr, case['args']), *given])}"[:110]


def call(case: Json, open_bundle_of: OpenBundle) -> Any:
    model = open_bundle_of(case["checkpoint"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of options warn
        return edgenlp.pipeline(case["task"], model=model, **case["init"])(*case["args"], **case["kwargs"])


@pytest.mark.parametrize("case", [case for case in CASES if "result" in case], ids=name_of)
def test_answers_as_transformers_does(case: Json, open_bundle_of: OpenBundle) -> None:
    assert differences(call(case, open_bundle_of), case["result"]) == []


@pytest.mark.parametrize("case", [case for case in CASES if "error" in case], ids=name_of)
def test_refuses_what_transformers_refuses(case: Json, open_bundle_of: OpenBundle) -> None:
    with pytest.raises(edgenlp.EdgeNLPError):
        call(case, open_bundle_of)
