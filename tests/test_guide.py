"""Guides: whatever the model prefers, what is written has the form asked for."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_streaming import byte_fallback, byte_level, opened, word_piece

from edgenlp.errors import DependencyError, InputError
from edgenlp.guide import Vocabulary, guide
from edgenlp.tokens import Tokens

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def vocabulary(kind: Any, folder: Path) -> tuple[Tokens, Vocabulary, int]:
    tokenizer = kind()
    tokens = opened(tokenizer, folder)
    end = tokens.token_to_id("</s>" if kind is byte_fallback else "<|end|>")
    assert end is not None
    return tokens, Vocabulary(tokens, tokens.facts.size + 5, [end]), end


def written(spec: Mapping[str, Any], known: Vocabulary, end: int, seed: int) -> list[list[int]]:
    """Three rows of likely nonsense, two of them with one prompt, written until they end; rows leave when they do."""
    draws = np.random.default_rng(seed)
    rule = guide(spec, known)
    rows = {0: [4, 5], 1: [4, 5], 2: [4, 5, 6]}
    done: dict[int, list[int]] = {}
    starts = {number: len(ids) for number, ids in rows.items()}
    while rows and max(map(len, rows.values())) < 400:
        alive = sorted(rows)
        scores = draws.standard_normal((len(alive), known.columns)).astype(np.float32) * 3
        scores[:, end] += 4
        scores = rule([np.array(rows[number]) for number in alive], scores, [min(number, 1) for number in alive])
        for place, number in enumerate(alive):
            token = int(scores[place].argmax())
            if token == end:
                done[number] = rows.pop(number)[starts[number] :]
            else:
                rows[number].append(token)
    assert not rows
    return [done[number] for number in sorted(done)]


@pytest.mark.parametrize("kind", [byte_level, byte_fallback])
def test_forms(kind: Any, tmp_path: Path) -> None:
    tokens, known, end = vocabulary(kind, tmp_path)
    texts = ["a.b (c)", "déjà vu", "yes/no & #1", "日本", "[x]{2}|$^"]
    for seed in range(5):
        for ids in written({"regex": "[0-9]{3}-[a-c]{1,5}"}, known, end, seed):
            assert re.fullmatch("[0-9]{3}-[a-c]{1,5}", tokens.decode(ids))
        for ids in written({"choices": texts}, known, end, seed):
            assert tokens.decode(ids) in texts
        for ids in written({"json_schema": SCHEMA}, known, end, seed):
            value = json.loads(tokens.decode(ids))
            assert set(value) == {"name", "age"}
            assert len(value["name"]) <= 4
            assert 0 <= value["age"] <= 99


def test_schemas_as_text_and_as_classes(tmp_path: Path) -> None:
    class Model:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"enum": [12]}

    tokens, known, end = vocabulary(byte_level, tmp_path)
    for schema in ('{"enum": [12]}', Model, {"enum": [12]}):
        assert {tokens.decode(ids) for ids in written({"json_schema": schema}, known, end, 1)} == {"12"}


def test_a_row_may_become_several(tmp_path: Path) -> None:
    tokens, known, _ = vocabulary(byte_level, tmp_path)
    rule = guide({"choices": ["ab", "cd"]}, known)
    a, b, c, d = (tokens.token_to_id(letter) for letter in "abcd")

    def allowed(*rows: list[Any]) -> list[set[int]]:
        scores = rule(
            [np.array(row) for row in rows], np.zeros((len(rows), known.columns), np.float32), [0] * len(rows)
        )
        return [set(np.flatnonzero(np.isfinite(row)).tolist()) for row in scores]

    assert allowed([9]) == [{a, c}]
    assert allowed([9, a], [9, c], [9, a]) == [{b}, {d}, {b}]
    assert allowed([9, c, d], [9, a, b]) == [set(known.eos), set(known.eos)]
    assert allowed([9, a]) == [{b}]  # looked at again


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (5, "must be a dict"),
        ({}, "must be a dict"),
        ({"yaml": "x"}, "'yaml'"),
        ({"regex": "a", "choices": ["b"]}, "exactly one"),
        ({"regex": "("}, "cannot be used"),
        ({"regex": 3}, "must be a string"),
        ({"choices": []}, "at least one"),
        ({"choices": "ab"}, "must be a list"),
        ({"choices": ["a", ""]}, "none of them empty"),
        ({"json_schema": "{"}, "not valid JSON"),
        ({"json_schema": 3}, "must be a dict"),
        ({"json_schema": False}, "allows nothing"),
        ({"json_schema": {"type": "number of things"}}, "cannot be used"),
    ],
)
def test_malformed_guides(spec: Any, words: str, tmp_path: Path) -> None:
    _, known, _ = vocabulary(byte_level, tmp_path)
    with pytest.raises(InputError, match=words):
        guide(spec, known)


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = opened(byte_level(), tmp_path)
    with pytest.raises(InputError, match="ends the text"):
        Vocabulary(tokens, tokens.facts.size, [])
    with pytest.raises(InputError, match="cannot read this tokenizer"):
        Vocabulary(opened(word_piece(), tmp_path), 500, [0])
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(DependencyError, match=r"pip install 'edgenlp\[guide\]'"):
        Vocabulary(tokens, tokens.facts.size, [0])
