"""What summarization, translation and text2text-generation share, with a toy model: shapes, scores, streams, long texts."""

import asyncio
import math
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from text_generation_cases import build_tokenizer
from toy_model import COLUMNS, EOS, forward, weights
from toy_seq2seq import SOURCE_WINDOW, TARGET_WINDOW, toy_model

import edgenlp
from edgenlp.errors import InputError, TooLongError
from edgenlp.logits import log_softmax
from edgenlp.streaming import TextIteratorStreamer, TextStreamer
from edgenlp.tasks.text2text_generation import Text2TextGeneration

Make = Callable[..., Text2TextGeneration]

GREEDY = {"num_beams": 1, "max_new_tokens": 12}
BEAMS = {"num_beams": 3, "max_new_tokens": 8}
TEXTS = ["the man", "a", "in the street they are not here .", "the rat on the mat", "e", "o"]
LONG = "the man is in the street . the rat sat on the mat ! they are not here . " * 4


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(*, model: dict[str, Any] | None = None, **options: Any) -> Text2TextGeneration:
        return Text2TextGeneration(toy_model(tmp_path, **(model or {})), options)

    return made


def text_of(found: list[dict[str, Any]]) -> str:
    (item,) = found
    assert list(item) == ["generated_text"]
    text: str = item["generated_text"]
    return text


def likelihoods(source: list[int], target: list[int]) -> list[float]:
    """Log-probabilities of target[1:], each after those before it."""
    logits, _ = forward(weights(), [*source, *target])
    found = log_softmax(logits[len(source) :].astype(np.float64))
    return [float(found[place, token]) for place, token in enumerate(target[1:])]


def test_a_list_is_its_texts_one_by_one(make: Make) -> None:
    pipe = make()
    for options in (GREEDY, BEAMS, {"do_sample": True, "num_beams": 1, "seed": 3, "max_new_tokens": 9}):
        single = [pipe(text, **options) for text in TEXTS]
        assert all(len(item) == 1 for item in single)
        assert pipe(TEXTS, **options) == [item[0] for item in single]
        assert pipe(tuple(TEXTS), **options, batch_size=2) == [item[0] for item in single]
        assert list(pipe((text for text in TEXTS), **options)) == single
    several = {**BEAMS, "num_return_sequences": 2}
    assert pipe(TEXTS, **several) == [pipe(text, **several) for text in TEXTS]
    assert pipe([], **GREEDY) == []


def test_an_iterable_is_read_as_answers_are_taken(make: Make) -> None:
    taken = []

    def texts() -> Any:
        for text in TEXTS:
            taken.append(text)
            yield text

    answers = make()(texts(), **GREEDY, batch_size=2)
    assert taken == []
    next(answers)
    assert taken == TEXTS[:2]


def test_sequences_of_one_text_have_one_length(make: Make) -> None:
    pipe = make()
    found = pipe("the man", **BEAMS, num_return_sequences=3, return_tensors=True)
    rows = [item["generated_token_ids"] for item in found]
    assert len({len(row) for row in rows}) == 1
    assert all(row[0] == 0 and isinstance(token, int) for row in rows for token in row)
    assert pipe("the man", **GREEDY, return_type="tensors") == pipe("the man", **GREEDY, return_type=0)
    assert "generated_text" in pipe("the man", **GREEDY, return_tensors=False)[0]
    with pytest.raises(InputError, match="return_type must be tensors or text"):
        pipe("the man", return_type="full_text")


def test_more_texts_than_one_batch_keep_their_order(make: Make) -> None:
    pipe = make()
    texts = [text * times for times in (1, 2) for text in TEXTS] * 5
    alone = [pipe(text, **GREEDY)[0] for text in texts]
    assert len({text_of([item]) for item in alone}) > 1
    for size in (None, 1, 2, 5):
        assert pipe(texts, **GREEDY, batch_size=size) == alone
    assert pipe(texts, **BEAMS) == [pipe(text, **BEAMS)[0] for text in texts]


def test_guidance_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="leave guidance_scale out"):
        make()("the man", **GREEDY, guidance_scale=2.0)


def test_an_answer_begins_with_target_prefix(make: Make) -> None:
    pipe = make()
    for options in (GREEDY, BEAMS):
        free = text_of(pipe("the man", **options))
        forced = text_of(pipe("the man", **options, target_prefix="in the"))
        assert not free.startswith("in the")
        assert forced.startswith("in the")
        assert pipe(TEXTS, **options, target_prefix="in the") == [
            pipe(text, **options, target_prefix="in the")[0] for text in TEXTS
        ]
        assert text_of(pipe("the man", **options, target_prefix="")) == free
    assert "".join(pipe.stream("the man", **GREEDY, target_prefix="in the")) == text_of(
        pipe("the man", **GREEDY, target_prefix="in the")
    )


def test_target_prefix_follows_a_forced_first_token(make: Make) -> None:
    pipe = make(model={"generation": {"forced_bos_token_id": 28}})
    ids = build_tokenizer().encode("in the", add_special_tokens=False).ids
    found = pipe("the man", **GREEDY, target_prefix="in the", return_tensors=True)[0]["generated_token_ids"]
    assert found[: 2 + len(ids)] == [0, 28, *ids]
    assert pipe("the man", **GREEDY, return_tensors=True)[0]["generated_token_ids"][:2] == [0, 28]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [("the 1", "vocabulary"), ("a</s>", "ends a text"), (7, "must be a string"), ("\ud800", "surrogate")],
)
def test_a_target_prefix_that_cannot_be_written(make: Make, prefix: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()("the man", target_prefix=prefix)


def test_scores_are_of_the_new_tokens(make: Make) -> None:
    pipe = make()
    source = pipe.tokens.encode(["the man"])[0][0].ids
    for options in (GREEDY, BEAMS, {**BEAMS, "length_penalty": 0.5}):
        penalty = float(options.get("length_penalty", 1.0))
        count = min(2, int(options["num_beams"]))
        for extra in ({}, {"target_prefix": "in the"}):
            call = {**options, **extra, "num_return_sequences": count, "return_scores": True}
            found = pipe("the man", **call)
            rows = pipe("the man", **call, return_tensors=True)
            given = 1 + (len(build_tokenizer().encode("in the").ids) if extra else 0)
            for item, row in zip(found, rows, strict=True):
                ids = row["generated_token_ids"]
                ids = ids[: ids.index(EOS) + 1] if EOS in ids else ids
                sum_of_new = math.fsum(likelihoods(source, ids)[given - 1 :])
                assert item["score"] == pytest.approx(sum_of_new / (len(ids) - given) ** penalty, abs=1e-4)
                assert row["score"] == item["score"]
    kept = pipe("the man", **BEAMS, return_dict_in_generate=True, num_return_sequences=2)
    scores = pipe("the man", **BEAMS, return_scores=True, num_return_sequences=2)
    assert [item["sequences_scores"] for item in kept] == [[item["score"]] for item in scores]


def test_alternatives_begin_with_the_likeliest_tokens(make: Make) -> None:
    pipe = make()
    source = pipe.tokens.encode(["the man"])[0][0].ids
    prefix = build_tokenizer().encode("in the", add_special_tokens=False).ids
    first = forward(weights(), [*source, 0, *prefix])[0][-1]
    likeliest = sorted(np.argsort(-first)[:4].tolist())
    for options in (GREEDY, BEAMS):
        call = {**options, "target_prefix": "in the", "alternatives": 4}
        found = pipe("the man", **call, return_tensors=True)
        rows = [item["generated_token_ids"] for item in found]
        assert sorted(row[1 + len(prefix)] for row in rows) == likeliest
        scores = [item["score"] for item in found]
        assert scores == sorted(scores, reverse=True)
        for row, score in zip(rows, scores, strict=True):
            ids = row[: row.index(EOS) + 1] if EOS in row else list(row)
            while ids[-1] == 2:
                ids.pop()
            assert len(ids) <= 1 + len(prefix) + options["max_new_tokens"]
            new = likelihoods(source, ids)[len(prefix) :]
            assert score == pytest.approx(math.fsum(new) / len(new), abs=1e-4)
        if options is GREEDY:
            plain = pipe("the man", **options, target_prefix="in the", return_tensors=True)[0]["generated_token_ids"]
            assert any(row[: len(plain)] == plain for row in rows)
        texts = pipe(TEXTS, **call)
        assert texts == [pipe(text, **call) for text in TEXTS]
        assert all(item["generated_text"].startswith("in the") for group in texts for item in group)


def test_alternatives_at_the_beginning(make: Make) -> None:
    pipe = make(model={"generation": {"forced_bos_token_id": 28}})
    found = pipe("the man", **GREEDY, alternatives=3, return_tensors=True)
    assert all(item["generated_token_ids"][:2] == [0, 28] for item in found)
    assert len({item["generated_token_ids"][2] for item in found}) == 3
    assert len(pipe("the man", max_new_tokens=1, alternatives=3)) == 3
    assert len(pipe("the man", **GREEDY, alternatives=1000)) == COLUMNS


def test_a_target_is_scored(make: Make) -> None:
    pipe = make()
    source = pipe.tokens.encode(["the man"])[0][0].ids
    ids = build_tokenizer().encode("in the rat", add_special_tokens=False).ids
    expected = likelihoods(source, [0, *ids, EOS])
    found = pipe.score("the man", "in the rat")
    assert found["token_logprobs"] == pytest.approx(expected, abs=1e-4)
    assert found["tokens"] == len(ids) + 1
    assert found["logprob"] == pytest.approx(math.fsum(expected), abs=1e-4)
    assert pipe.score("the man", ["in the rat", "a"]) == [found, pipe.score("the man", "a")]
    pairs = [(text, "in the rat") for text in TEXTS * 4]
    assert pipe.score([text for text, _ in pairs], [target for _, target in pairs]) == [
        pipe.score(text, target) for text, target in pairs
    ]
    forced = make(model={"generation": {"forced_bos_token_id": 28}})
    assert forced.score("the man", "in the rat")["token_logprobs"] == pytest.approx(
        likelihoods(source, [0, 28, *ids, EOS])[1:], abs=1e-4
    )
    with pytest.raises(InputError, match="one target for each text"):
        pipe.score(["a", "e"], ["o"])
    with pytest.raises(TooLongError, match=f"at most {TARGET_WINDOW}"):
        pipe.score("a", "the rat " * 60)


def test_a_stream_is_the_text_of_a_call(make: Make) -> None:
    pipe = make()
    for options in (
        GREEDY,
        {"do_sample": True, "num_beams": 1, "seed": 5, "max_new_tokens": 20},
        {**GREEDY, "stop_strings": ["a"]},
        {**GREEDY, "stop_strings": ["a"], "keep_stop": False},
        {**GREEDY, "clean_up_tokenization_spaces": True},
        {**GREEDY, "repetition_penalty": 1.5, "encoder_repetition_penalty": 1.5},
    ):
        for text in TEXTS:
            assert "".join(pipe.stream(text, **options)) == text_of(pipe(text, **options))


def test_a_stream_has_one_beam_unless_it_asks_for_more(make: Make) -> None:
    for pipe in (make(), make(num_beams=4), make(model={"generation": {"num_beams": 5, "length_penalty": 2.0}})):
        assert "".join(pipe.stream("the man", max_new_tokens=12)) == text_of(pipe("the man", **GREEDY))
        assert text_of(pipe("the man", max_new_tokens=12, streamer=lambda text: None)) == text_of(
            pipe("the man", **GREEDY)
        )
        with pytest.raises(InputError, match="num_beams=1"):
            pipe.stream("the man", num_beams=4)
        with pytest.raises(InputError, match="num_beams=1"):
            pipe("the man", num_beams=4, streamer=lambda text: None)


def test_a_stream_computes_what_is_asked_for(make: Make) -> None:
    pipe = make()
    model: Any = pipe.model
    pieces = pipe.stream("the man", **GREEDY)
    assert model.both.toy.runs == 0
    next(pieces)
    runs = model.both.toy.runs
    assert runs <= 4
    pieces.close()  # type: ignore[attr-defined]  # it is a generator
    assert model.both.toy.runs == runs


def test_streaming_for_asyncio(make: Make) -> None:
    pipe = make()

    async def read() -> str:
        return "".join([piece async for piece in pipe.astream("the man", **GREEDY)])

    assert asyncio.run(read()) == text_of(pipe("the man", **GREEDY))


def test_what_cannot_be_streamed(make: Make) -> None:
    pipe = make()
    for value in (["the man"], 3):
        with pytest.raises(InputError, match="one text"):
            pipe.stream(value)
    for option in ({"alternatives": 2}, {"return_scores": True}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(InputError, match="cannot be streamed"):
            pipe.stream("the man", **option)
    with pytest.raises(InputError, match="one text"):
        pipe(["the man"], streamer=lambda text: None)


def test_streamers(make: Make) -> None:
    pipe = make()
    expected = text_of(pipe("the man", **GREEDY, target_prefix="in the"))
    pieces: list[str] = []
    found = text_of(pipe("the man", **GREEDY, target_prefix="in the", streamer=pieces.append))
    assert found == "".join(pieces) == expected
    streamer = TextIteratorStreamer(pipe.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    thread = threading.Thread(
        target=lambda: pipe("the man", **GREEDY, target_prefix="in the", streamer=streamer), daemon=True
    )
    thread.start()
    assert "".join(streamer) == expected
    thread.join()
    new: list[str] = []
    pipe("the man", **GREEDY, streamer=TextStreamer(pipe.tokens, skip_prompt=True, write=new.append))
    assert len(new) > 1


def test_cancelling_ends_the_work(make: Make) -> None:
    pipe = make()
    event = threading.Event()
    event.set()
    model: Any = pipe.model
    ids = pipe("the man", **GREEDY, cancel=event, return_tensors=True)[0]["generated_token_ids"]
    assert len(ids) <= 2
    list(pipe.stream("the man", **GREEDY, cancel=event))
    found = pipe("the man", **GREEDY, cancel=event, alternatives=2, return_tensors=True)
    assert all(len(item["generated_token_ids"]) <= 3 for item in found)
    assert model.both.toy.runs < 10


def test_a_text_beyond_the_window(make: Make) -> None:
    pipe = make()
    count = len(pipe.tokens.encode([LONG])[0][0].ids)
    with pytest.raises(TooLongError, match=f"{count} tokens long, the model reads at most {SOURCE_WINDOW}"):
        pipe(LONG, **GREEDY)
    with pytest.raises(TooLongError, match=str(count)):
        pipe.stream(LONG, **GREEDY)
    model: Any = pipe.model
    cut = pipe(LONG, **GREEDY, long_input="truncate")
    assert len(model.both.read_sources[-1]) == SOURCE_WINDOW
    assert model.both.read_sources[-1][-1] == EOS
    assert pipe(LONG, **GREEDY, truncation=True) == cut
    with pytest.raises(InputError, match="long_input must be one of"):
        pipe(LONG, long_input="windows")


def test_parts_of_a_long_text_are_answered_and_joined(make: Make) -> None:
    pipe = make()
    parts = ["the man is in the street . the rat sat on the mat !", "they are not here . the man is in the street ."]
    text = " ".join(parts)
    assert len(pipe.tokens.encode([text])[0][0].ids) > SOURCE_WINDOW
    for options in (GREEDY, BEAMS):
        model: Any = pipe.model
        before = len(model.both.read_sources)
        found = text_of(pipe(text, **options, long_input="stride"))
        read = model.both.read_sources[before:]
        assert len(read) > 1
        assert all(len(ids) <= SOURCE_WINDOW for ids in read)
        pieces = [pipe.tokens.decode(ids, skip_special_tokens=True).strip() for ids in read]
        assert " ".join(pieces) == text
        assert all(piece[-1] in ".!" for piece in pieces)
        assert found == " ".join(text_of(pipe(piece, **options)) for piece in pieces)
    assert pipe([text, "a"], **GREEDY, long_input="stride")[1] == pipe("a", **GREEDY)[0]
    assert "".join(pipe.stream(text, **GREEDY, long_input="stride")) == text_of(
        pipe(text, **GREEDY, long_input="stride")
    )
    begun = text_of(pipe(text, **GREEDY, long_input="stride", target_prefix="in the"))
    assert begun.startswith("in the")
    ids = pipe(text, **GREEDY, long_input="stride", return_tensors=True, return_scores=True)[0]
    assert ids["generated_token_ids"].count(0) >= 2
    assert ids["score"] < 0
    for option in ({"num_return_sequences": 2, "num_beams": 2}, {"alternatives": 2}):
        with pytest.raises(InputError, match="has no meaning there"):
            pipe(text, **option, long_input="stride")


def test_very_long_texts_and_odd_characters(make: Make) -> None:
    pipe = make()
    one = {"num_beams": 1, "max_new_tokens": 1}
    for text in ("a" * 3000, "the " * 2000, "." * 3000, "\n" * 3000, "\x00", "a\x00b", "\U0001f600" * 200, " "):
        assert isinstance(text_of(pipe(text, **one, long_input="stride")), str)
    big = "the rat . " * 100_000
    assert isinstance(text_of(pipe(big, **one, long_input="truncate")), str)
    with pytest.raises(TooLongError):
        pipe(big)


def test_what_is_no_text(make: Make) -> None:
    pipe = make()
    for value, message in (
        (3, "expected a text"),
        (None, "expected a text"),
        (b"text", "expected a text"),
        ({"text": "a"}, "expected a text"),
        ([["a"]], "must be a string"),
        (["a", 3], "must be a string"),
        ("\ud800", "surrogate"),
    ):
        with pytest.raises(InputError, match=message):
            pipe(value, **GREEDY)
    assert isinstance(text_of(pipe("", **GREEDY)), str)
    with pytest.raises(InputError, match="no tokens"):
        make(model={"ends": False})("", **GREEDY)


def test_options_that_cannot_be_used(make: Make) -> None:
    pipe = make()
    for options, message in (
        ({"max_tokens": 3}, "max_"),
        ({"src_lang": "en"}, "unknown option"),
        ({"return_full_text": True}, "return_"),
        ({"alternatives": 0}, "alternatives must be"),
        ({"alternatives": 2, "num_return_sequences": 2}, "exclude each other"),
        ({"alternatives": 2, "streamer": print}, "one answer"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"return_scores": "yes"}, "return_scores must be"),
        ({"stop_sequence": ""}, "no tokens"),
        ({"guide": {"regex": "a"}}, "unknown option"),
        ({"num_return_sequences": 9}, "num_beams"),
    ):
        with pytest.raises(InputError, match=message):
            pipe("the man", **options)
    with pytest.raises(InputError, match="decoder_start_token_id"):
        make(model={"generation": {"decoder_start_token_id": None, "bos_token_id": None}})("the man")
    with pytest.raises(InputError, match="num_beams must be"):
        make(num_beams="four")


def test_a_stop_sequence_is_its_first_token(make: Make) -> None:
    pipe = make()
    with pytest.warns(UserWarning, match="stop_strings"):
        found = pipe("the man", **GREEDY, stop_sequence="on the", return_tensors=True)
    first = build_tokenizer().encode("on the").ids[0]
    assert found == pipe("the man", **GREEDY, eos_token_id=first, return_tensors=True)


def test_a_closed_pipeline_says_so(make: Make) -> None:
    pipe = make()
    pipe.warmup()
    with pipe:
        pass
    with pytest.raises(InputError, match="closed"):
        pipe("the man")


def test_tasks_are_found_by_name(tmp_path: Path) -> None:
    model = toy_model(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert edgenlp.pipeline("text2text-generation", model).answers == "generated"
        assert edgenlp.pipeline("summarization", model).answers == "summary"
        assert edgenlp.pipeline("translation", model).answers == "translation"
        assert edgenlp.pipeline(None, model).answers == "generated"
    assert edgenlp.pipeline("text2text-generation", model, max_new_tokens=3, num_beams=1)("the man")
    with pytest.raises(InputError, match="unknown option"):
        edgenlp.pipeline("summarization", model, src_lang="en")
