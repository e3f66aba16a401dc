"""Summaries: windows of long texts condensed step by step, and warnings of lengths, with a toy model."""

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_seq2seq import SOURCE_WINDOW, toy_model

from edgenlp.errors import InputError, TooLongError
from edgenlp.tasks.passages import passages
from edgenlp.tasks.summarization import Summarization

Make = Callable[..., Summarization]

SENTENCES = ["the man is in the street . ", "the rat sat on the mat ! ", "they are not here . ", "we eat the rat . "]
LONG = "".join(SENTENCES) * 3
BRIEF = {"num_beams": 1, "max_new_tokens": 5}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(*, model: dict[str, Any] | None = None, **options: Any) -> Summarization:
        return Summarization(toy_model(tmp_path, **(model or {})), options)

    return made


def letters(texts: Any) -> list[int]:
    return [len(text) for text in texts]


def test_the_result_is_a_summary(make: Make) -> None:
    pipe = make()
    assert list(pipe("the man", **BRIEF)[0]) == ["summary_text"]
    assert list(pipe(["the man", "a"], **BRIEF, return_tensors=True)[0]) == ["summary_token_ids"]


def test_the_checkpoints_own_options_hold(make: Make) -> None:
    own = {
        "summarization": {"prefix": "on the ", "num_beams": 1, "max_new_tokens": 4},
        "text-generation": {"prefix": "!"},
    }
    pipe = make(model={"task_options": own})
    found = pipe("the man")
    assert pipe.model.both.read_sources[-1] == pipe.tokens.encode(["on the the man"])[0][0].ids  # type: ignore[attr-defined]
    assert found == make()("on the the man", num_beams=1, max_new_tokens=4)
    model: Any = make(model={"task_options": {"text-generation": {"prefix": "!"}}}).model
    Summarization(model, {})("the man", **BRIEF)
    assert model.both.read_sources[-1] == model.tokens.encode(["!the man"])[0][0].ids


def test_windows_are_summarised_and_then_their_summaries(make: Make) -> None:
    pipe = make()
    model: Any = pipe.model
    with pytest.raises(TooLongError):
        pipe(LONG, **BRIEF)
    found = pipe(LONG, **BRIEF, long_input="stride")
    read = model.both.read_sources
    assert len(read) > 2
    assert all(len(ids) <= SOURCE_WINDOW for ids in read)
    windows = [pipe.tokens.decode(ids, skip_special_tokens=True) for ids in read]
    # the last source is what the windows' summaries say together
    summaries = [pipe(window, **BRIEF)[0]["summary_text"].strip() for window in windows[:-1]]
    assert windows[-1] == " ".join(summary for summary in summaries if summary)
    assert found == pipe(windows[-1], **BRIEF)
    assert "".join(pipe.stream(LONG, **BRIEF, long_input="stride")) == found[0]["summary_text"]
    several = pipe(LONG, num_beams=3, num_return_sequences=3, max_new_tokens=5, long_input="stride", return_scores=True)
    assert [list(item) for item in several] == [["summary_text", "score"]] * 3
    begun = pipe(LONG, **BRIEF, long_input="stride", target_prefix="on the")
    assert begun[0]["summary_text"].startswith("on the")
    assert pipe([LONG, "a"], **BRIEF, long_input="stride") == [found[0], pipe("a", **BRIEF)[0]]


def test_summaries_that_do_not_become_shorter(make: Make) -> None:
    pipe = make()
    with pytest.raises(InputError, match="does not become shorter"):
        pipe(LONG, num_beams=1, max_new_tokens=50, min_new_tokens=50, long_input="stride")


def test_lengths_that_make_no_sense(make: Make) -> None:
    pipe = make()
    with pytest.warns(UserWarning, match=r"max_length is 30 and the text has 5 tokens.*max_length=2"):
        pipe("the m", num_beams=1, max_new_tokens=None, max_length=30)
    odd = make(model={"generation": {"max_length": 8}}, max_new_tokens=20, num_beams=1)
    with pytest.warns(UserWarning, match="min_length=12 is above max_length=8"):
        odd("the man is in the street .", min_length=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("the man", **BRIEF)  # nobody has chosen a max_length


def test_passages_end_with_sentences() -> None:
    found = passages(LONG, 60, letters)
    assert "".join(part.text + part.after for part in found) == LONG
    assert all(len(part.text) <= 60 and part.text[-1] in ".!" for part in found)
    sentences = "他们在这里。我们不在！真的？是的。" * 4
    found = passages(sentences, 12, letters)
    assert "".join(part.text + part.after for part in found) == sentences
    assert all(part.text[-1] in "。！？" for part in found)
    lines = passages("one\n\ntwo\nthree " * 3, 12, letters)
    assert [part.text for part in lines][:2] == ["one\n\ntwo", "three"]
    assert lines[0].after == "\n"


def test_passages_of_what_has_no_sentences() -> None:
    words = passages("word " * 50, 22, letters)
    assert all(set(part.text.split()) == {"word"} and len(part.text) <= 22 for part in words)
    solid = passages("x" * 100, 22, letters)
    assert "".join(part.text for part in solid) == "x" * 100
    assert max(len(part.text) for part in solid) <= 22
    accents = passages("e\u0301" * 40, 7, letters)
    assert all(part.text[0] == "e" for part in accents)
    assert [part.text for part in passages("short", 22, letters)] == ["short"]
    assert passages("", 22, letters) == [("", "")]
    assert "".join(part.text for part in passages("abc", 1, letters)) == "abc"
    assert len(passages("." * 100_000, 40_000, letters)) > 1


def test_neighbouring_passages_share_sentences() -> None:
    plain = passages(LONG, 80, letters)
    shared = passages(LONG, 80, letters, overlap=30)
    assert len(shared) > len(plain)
    for left, right in itertools.pairwise(shared):
        first = next(sentence for sentence in SENTENCES if right.text.startswith(sentence.strip()))
        assert left.text.endswith(first.strip())
    assert shared[-1].text.endswith(SENTENCES[-1].strip())
    assert all(len(part.text) <= 80 for part in shared)
