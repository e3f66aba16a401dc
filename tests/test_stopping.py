"""When sequences end."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from processor_cases import STOPS, load_stops

from edgenlp.decode.options import merged
from edgenlp.decode.stopping import Stopping, StopStrings, cancelled
from edgenlp.errors import InputError


def row(*ids: int) -> np.ndarray:
    return np.array(ids, np.int64)


def test_stop_strings_are_those_of_transformers() -> None:
    """Recorded from 4.57.6: texts of a few letters cut into ids in every way, so that all kinds of overlap come up."""
    expected = load_stops()
    assert len(expected) == len(STOPS)
    assert 0.15 < np.mean([mark == "1" for marks in expected for mark in marks]) < 0.85
    for stop, marks in zip(STOPS, expected, strict=True):
        strings = StopStrings(stop.strings, lambda ids, texts=stop.vocabulary: "".join(texts[i] for i in ids))
        assert "".join(str(int(strings(row(*ids)))) for ids in stop.rows) == marks


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        (["st", "op"], True),
        (["stop"], True),
        (["st", "opera"], True),
        (["sto", "pper"], True),
        (["las", "topper"], True),
        (["s", "to", "pped"], True),
        (["stop", "at"], False),
        (["st", "op", "at"], False),
        (["stop", "stop"], True),
        (["stop", "sto"], False),
    ],
)
def test_a_stop_string_ends_inside_the_last_token(tokens: list[str], ends: bool) -> None:
    strings = StopStrings(["stop"], lambda ids: "".join(tokens[i] for i in ids))
    assert strings(row(*range(len(tokens)))) is ends


def test_a_stop_string_of_characters_that_take_several_tokens() -> None:
    """The bytes of é and of an emoji, one id each: half a character is no character."""
    data = "né🙂".encode()

    def decode(ids: Sequence[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")

    strings = StopStrings(["é🙂", "n�"], decode)
    found = [strings(row(*data[:count])) for count in range(1, len(data) + 1)]
    assert found == [False, True, False, False, False, False, True]


def test_only_the_tail_is_decoded() -> None:
    seen = []

    def decode(ids: Sequence[int]) -> str:
        seen.append(len(ids))
        return "x" * len(ids)

    assert not StopStrings(["ab"], decode)(row(*[1] * 1000))
    assert max(seen) == 6


def test_an_end_token_then_a_stop_string_then_the_caller_then_the_length() -> None:
    calls: list[Any] = []

    def criterion(ids: Any, scores: Any) -> bool:
        calls.append((ids.tolist(), scores))
        return len(ids) == 3

    options = merged({"eos_token_id": [7, 8]}, {"stop_strings": "c", "stopping_criteria": criterion})
    stopping = Stopping(options, decode=lambda ids: "".join("abcdefghi"[i] for i in ids))
    assert stopping.eos == {7, 8}
    assert not stopping.plain
    assert stopping(row(1, 8), 9) == "eos"
    assert stopping(row(1, 2), 2) == "stop"
    assert calls == []
    assert stopping(row(1, 0, 3), 3, np.zeros(2, np.float32)) == "user"
    assert stopping(row(1, 0, 3, 3), 4) == "length"
    assert stopping(row(1, 3), 4) is None
    assert calls[0][0] == [1, 0, 3]
    assert calls[-1] == ([1, 3], None)


def test_end_tokens_and_length_alone_are_plain() -> None:
    stopping = Stopping(merged({"eos_token_id": 2}, {"max_new_tokens": 3}))
    assert stopping.plain
    assert [stopping.token(2, 5, 9), stopping.token(1, 9, 9), stopping.token(1, 8, 9)] == ["eos", "length", None]
    assert stopping.now() is None
    assert stopping.row(row(1)) is None


def test_time_counts_from_the_beginning_of_the_call() -> None:
    times = iter([10.0, 10.5, 11.0, 11.1])
    stopping = Stopping(merged({}, {"max_time": 1.0}), clock=lambda: next(times))
    assert not stopping.plain
    assert [stopping.now(), stopping.now(), stopping.now()] == [None, None, "time"]


class Attribute:
    cancelled = False


class Method:
    def cancelled(self) -> bool:
        return True


def test_cancelling_by_an_event_an_attribute_or_a_method() -> None:
    event = threading.Event()
    stopping = Stopping(merged({}, {"cancel": event}))
    assert stopping.now() is None
    event.set()
    assert stopping.now() == "cancelled"
    token = Attribute()
    assert not cancelled(token)
    token.cancelled = True
    assert cancelled(token)
    assert cancelled(Method())


def test_a_list_of_criteria_that_is_a_callable_itself_is_taken_apart() -> None:
    class Criteria(list[Any]):
        def __call__(self, ids: Any, scores: Any) -> bool:
            raise AssertionError

    given = Criteria([lambda ids, scores: np.array([False]), lambda ids, scores: np.array([True])])
    assert Stopping(merged({}, {"stopping_criteria": given})).row(row(1)) == "user"


def test_bad_criteria_and_missing_text_are_said() -> None:
    with pytest.raises(InputError, match="stop_strings needs a tokenizer"):
        Stopping(merged({}, {"stop_strings": "x"}))
    stopping = Stopping(merged({}, {"stopping_criteria": lambda ids, scores: np.array([True, False])}))
    with pytest.raises(InputError, match="must return one True or False per call"):
        stopping.row(row(1))
