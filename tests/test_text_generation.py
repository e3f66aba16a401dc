"""Text generation beside the recorded answers of transformers 4.57.6; streams, scores and conversations, which it has not."""

import asyncio
import dataclasses
import json
import math
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from text_generation_cases import ANSWERS, CALLS, CHAT, MODELS, SPECIAL, WINDOW_OF_TOKENIZER, build_tokenizer
from toy_model import COLUMNS, EOS, WINDOW, ToyDecoder, forward, weights

from edgenlp.bundle import Bundle, Head, Source, Vocabulary
from edgenlp.errors import EdgeNLPError, InputError, TooLongError
from edgenlp.model import Model
from edgenlp.streaming import TextIteratorStreamer, TextStreamer
from edgenlp.tasks.text_generation import TextGeneration
from edgenlp.tokens import Tokens

Answers = list[dict[str, Any]]

GREEDY = {"do_sample": False, "max_new_tokens": 12}


@dataclasses.dataclass(frozen=True)
class ToyModel(Model):
    """A model whose decoder is the toy's."""

    toy: ToyDecoder = dataclasses.field(default_factory=ToyDecoder)

    @property
    def decoder(self) -> Any:
        return self.toy


Make = Callable[..., TextGeneration]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function from a model's name in MODELS and options of `pipeline(...)` to the pipeline."""
    folder = tmp_path_factory.mktemp("toy")

    def made(name: str = "plain", **options: Any) -> TextGeneration:
        begins, generation, config = MODELS[name]
        file = folder / f"{name}.json"
        build_tokenizer(begins=begins).save(str(file))
        facts = Vocabulary(file.name, COLUMNS, WINDOW_OF_TOKENIZER, SPECIAL, False, "right", False, False)
        task_options = dict(config.get("task_specific_params", {}))
        if "prefix" in config:
            task_options["text-generation"] = {"prefix": config["prefix"]}
        bundle = Bundle(
            folder=folder,
            name="toy",
            tasks=("text-generation",),
            precision="fp32",
            graphs={},
            window=WINDOW,
            tokenizer=facts,
            head=Head("causal-lm"),
            files={},
            source=Source("toy", "toy", 1),
            generation={"bos_token_id": 0, "eos_token_id": EOS, "pad_token_id": EOS, **generation},
            task_options=task_options,
            chat={"default": CHAT},
        )
        return TextGeneration(ToyModel(bundle, Tokens(file, facts), {}, 1), options)

    return made


def steps_of(pipe: TextGeneration) -> int:
    model: Any = pipe.model
    return int(model.toy.tokens)


@pytest.fixture(scope="module")
def answers() -> Answers:
    found: Answers = json.loads(ANSWERS.read_text(encoding="utf-8"))["answers"]
    assert len(found) == len(CALLS)
    return found


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_transformers_answers(number: int, make: Make, answers: Answers) -> None:
    call, expected = CALLS[number], answers[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options without effect, as there
        if "error" in expected and "index out of range" not in expected["error"]:
            with pytest.raises(EdgeNLPError):
                make(call["model"], **call["init"])(call["inputs"], **call["options"])
            return
        found = make(call["model"], **call["init"])(call["inputs"], **call["options"])
    if "error" in expected:  # transformers writes beyond the window, and fails
        assert isinstance(found[0]["generated_text"], str)
        return
    if "scores" in expected["result"][0]:
        for key in ("scores", "logits"):
            np.testing.assert_allclose(found[0].pop(key), expected["result"][0].pop(key), atol=2e-4)
    assert found == expected["result"]


def test_a_stream_is_the_new_text_of_a_call(make: Make) -> None:
    for number, call in enumerate(CALLS):
        options = {key: value for key, value in call["options"].items() if not key.startswith(("return", "output"))}
        one = isinstance(call["inputs"], str) or isinstance(call["inputs"][0], dict)
        if not one or options.get("num_beams", MODELS[call["model"]][1].get("num_beams")):
            continue
        init = {key: value for key, value in call["init"].items() if not key.startswith("return")}
        pipe = make(call["model"], **init)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = pipe(call["inputs"], **options, return_type="new_text")[0]["generated_text"]
            except InputError:
                with pytest.raises(InputError):
                    list(pipe.stream(call["inputs"], **options))
                continue
            pieces = list(pipe.stream(call["inputs"], **options))
        assert "".join(pieces) == expected, number
        assert all(pieces), number


def test_a_list_is_its_texts_one_by_one(make: Make) -> None:
    pipe = make()
    texts = ["the man", "a", "in the street they are not here .", "", "the rat on the mat", "e", "o"]
    single = [pipe(text, **GREEDY) for text in texts]
    assert pipe(texts, **GREEDY) == single
    assert pipe(texts, **GREEDY, batch_size=2) == single
    assert list(pipe((text for text in texts), **GREEDY)) == single
    sampled = {"seed": 3, "max_new_tokens": 10, "num_return_sequences": 2, "temperature": 1.5}
    assert pipe(texts, **sampled) == [pipe(text, **sampled) for text in texts]


def test_a_stream_computes_what_is_asked_for(make: Make) -> None:
    pipe = make()
    stream = pipe.stream("the man", **GREEDY)
    assert steps_of(pipe) == 0
    next(stream)
    first = steps_of(pipe)
    assert 3 <= first <= 6
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert steps_of(pipe) == first


def test_asynchronous_stream(make: Make) -> None:
    pipe = make()

    async def read() -> str:
        return "".join([piece async for piece in pipe.astream("the man", **GREEDY)])

    async def leave() -> int:
        stream: Any = pipe.astream("the man", do_sample=False, max_new_tokens=60, eos_token_id=[])
        await anext(stream)
        await stream.aclose()
        before = steps_of(pipe)
        await asyncio.sleep(0.05)
        return steps_of(pipe) - before

    assert asyncio.run(read()) == pipe("the man", **GREEDY, return_full_text=False)[0]["generated_text"]
    assert asyncio.run(leave()) == 0
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("edgenlp-stream") and thread.is_alive()
    ]


def test_streamers(make: Make) -> None:
    pipe = make()
    prompt = "the man"
    expected = pipe(prompt, **GREEDY, return_full_text=False)[0]["generated_text"]
    pieces: list[str] = []
    assert pipe(prompt, **GREEDY, streamer=pieces.append) == pipe(prompt, **GREEDY)
    assert "".join(pieces) == expected
    several: list[str] = []
    streamer = TextStreamer(pipe.tokens, write=several.append, skip_special_tokens=True)
    pipe([prompt, prompt], **GREEDY, streamer=streamer)
    assert "".join(several) == 2 * (prompt + expected)
    waiting = TextIteratorStreamer(pipe.tokens, skip_prompt=True, skip_special_tokens=True, timeout=10)
    thread = threading.Thread(target=pipe, args=(prompt,), kwargs={**GREEDY, "streamer": waiting})
    thread.start()
    assert "".join(waiting) == expected
    thread.join()


def test_a_streamer_gets_every_id(make: Make) -> None:
    class Ids:
        def __init__(self) -> None:
            self.put_ids: list[list[int]] = []
            self.ended = 0

        def put(self, value: Any) -> None:
            self.put_ids.append(np.asarray(value).ravel().tolist())

        def end(self) -> None:
            self.ended += 1

    pipe, seen = make(), Ids()
    found = pipe("the man on the street", **GREEDY, streamer=seen, return_tensors=True)
    prompt = pipe.tokens.encode(["the man on the street"])[0][0].ids
    assert seen.put_ids[0] == prompt
    assert [token for ids in seen.put_ids for token in ids] == found[0]["generated_token_ids"]
    assert found[0]["generated_token_ids"][-1] == EOS
    assert seen.ended == 1


def test_stop_strings_stay_unless_told(make: Make) -> None:
    pipe = make()
    whole = pipe("the man", **GREEDY, return_full_text=False)[0]["generated_text"]
    kept = pipe("the man", **GREEDY, stop_strings="a �", return_full_text=False)[0]["generated_text"]
    assert kept.endswith("a �")
    assert whole.startswith(kept[:-1])
    cut = pipe("the man", **GREEDY, stop_strings="a �", keep_stop=False, return_full_text=False)[0]["generated_text"]
    assert cut + "a �" == kept
    assert "".join(pipe.stream("the man", **GREEDY, stop_strings="a �", keep_stop=False)) == cut


def test_bad_input(make: Make) -> None:
    pipe = make()
    for options, words in (
        ({"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"force_words_ids": [[3]]}, "not part of edgenlp"),
        ({"return_type": "words"}, "return_type"),
        ({"guide": {"yaml": 1}}, "guide must be"),
        ({"long_input": "stride"}, "long_input"),
        ({"tokenizer_encode_kwargs": {"paddin": 1}}, "tokenizer_encode_kwargs"),
        ({"num_return_sequences": 2, "do_sample": False}, "num_return_sequences"),
        ({"batch_size": 0}, "batch_size"),
    ):
        with pytest.raises(InputError, match=words):
            pipe("the man", **options)  # type: ignore[arg-type]
    for given in (3, None, {"text": "the"}, [3], [["the"]], [[{"role": "user"}]]):
        with pytest.raises(InputError):
            pipe(given, **GREEDY)
    with pytest.raises(TooLongError, match="window is 96"):
        pipe("the man " * 60, **GREEDY)
    assert pipe([], **GREEDY) == []
    with pytest.raises(InputError, match="num_beams"):
        list(pipe.stream("the", num_beams=2, do_sample=False))
    with pytest.raises(InputError, match="one text"):
        pipe.stream(["the", "a"])


def test_a_closed_pipeline_says_so(make: Make) -> None:
    with make() as pipe:
        pipe.warmup()
    for call in (lambda: pipe("the"), lambda: pipe.stream("the"), lambda: pipe.score("the"), pipe.conversation):
        with pytest.raises(InputError, match="was closed"):
            call()


def test_a_cancelled_reader_ends_the_work(make: Make) -> None:
    pipe = make()

    async def read(seen: list[str]) -> None:
        async for piece in pipe.astream("the man", do_sample=False, max_new_tokens=80, eos_token_id=[]):
            seen.append(piece)
            await asyncio.sleep(0)

    async def cancelled() -> int:
        seen: list[str] = []
        task = asyncio.ensure_future(read(seen))
        while not seen:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.05)
        before = steps_of(pipe)
        await asyncio.sleep(0.05)
        return steps_of(pipe) - before

    assert asyncio.run(cancelled()) == 0
    assert steps_of(pipe) < 60


def test_long_prompts_lose_their_beginning_where_told(make: Make) -> None:
    pipe = make()
    long = "they are not here . " * 40
    ids = pipe.tokens.encode([long])[0][0].ids
    found = pipe(long, **GREEDY, long_input="truncate", return_tensors=True)[0]["generated_token_ids"]
    room = WINDOW_OF_TOKENIZER - 12
    assert found[:room] == ids[-room:]
    assert len(found) <= WINDOW_OF_TOKENIZER


def test_scores_are_the_models_own(make: Make) -> None:
    pipe = make("begins")
    ids = pipe.tokens.encode(["the man on the street"])[0][0].ids
    logits, _ = forward(weights(), ids)
    logs = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    expected = [logs[place, token] for place, token in enumerate(ids[1:])]
    found = pipe.score("the man on the street")
    np.testing.assert_allclose(found["token_logprobs"], expected, atol=1e-5)
    assert found["tokens"] == len(ids) - 1
    assert found["logprob"] == pytest.approx(sum(expected), abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-4)
    assert pipe.score(["the man", ""]) == [pipe.score("the man"), pipe.score("")]
    assert pipe.score("")["tokens"] == 0
    with pytest.raises(TooLongError):
        pipe.score("the man " * 60)
    strided = pipe.score("the man " * 60, long_input="stride")
    assert strided["tokens"] == len(pipe.tokens.encode(["the man " * 60])[0][0].ids) - 1
    cut = pipe.score("the man " * 60, long_input="truncate")
    np.testing.assert_allclose(strided["token_logprobs"][: WINDOW - 1], cut["token_logprobs"], atol=1e-5)


def test_ranking(make: Make) -> None:
    pipe = make()
    choices = [" the street", " a rat", "s are here .", " th"]
    prompt = "in the"
    ids = pipe.tokens.encode([prompt])[0][0].ids
    found = pipe.rank(prompt, choices)
    assert sorted(item["index"] for item in found) == [0, 1, 2, 3]
    assert [item["logprob"] for item in found] == sorted((item["logprob"] for item in found), reverse=True)
    assert sum(item["probability"] for item in found) == pytest.approx(1)
    for item in found:
        whole = pipe.tokens.encode([prompt + item["choice"]])[0][0].ids
        assert whole[: len(ids)] == ids
        scored = pipe.score(prompt + item["choice"])["token_logprobs"][len(ids) - 1 :]
        assert item["logprob"] == pytest.approx(sum(scored), abs=1e-4)
        assert item["mean"] == pytest.approx(sum(scored) / len(scored), abs=1e-4)
    means = [item["mean"] for item in pipe.rank(prompt, choices, by="mean")]
    assert means == sorted(means, reverse=True)
    assert len(pipe.rank("", ["the", "a"])) == 2
    assert len(pipe.rank([{"role": "user", "content": "the"}], ["a", "e"])) == 2
    with pytest.raises(InputError, match="adds no token"):
        pipe.rank("the", [""])


def test_a_conversation_answers_as_separate_calls(make: Make) -> None:
    pipe = make()
    talk = pipe.conversation(**GREEDY)
    messages: list[dict[str, str]] = []
    for text in ("the weather in the town", "the rat", "a hat on the wall"):
        messages.append({"role": "user", "content": text})
        expected = pipe(messages, **GREEDY)[0]["generated_text"]
        assert talk.say(text) == expected[-1]["content"]
        messages = expected
        assert talk.messages == messages
    talk.rewind(2)
    assert talk.messages == messages[:2]
    assert talk.say("the rat") == messages[3]["content"]


def test_a_turn_reads_its_new_tokens_only(make: Make) -> None:
    pipe = make()
    talk = pipe.conversation(**GREEDY)
    talk.say("the weather in the town " * 2)
    before, held = steps_of(pipe), talk.cached
    assert held > 10
    talk.say("a", max_new_tokens=1)
    assert steps_of(pipe) - before < 30 < held + 20
    whole = pipe.tokens.encode([pipe_text(talk.messages[:3])], special_tokens=False)[0][0].ids
    assert talk.cached >= len(whole)


def pipe_text(messages: list[dict[str, Any]]) -> str:
    return "".join(("<u>" if item["role"] == "user" else "<a>") + item["content"] + "</s>" for item in messages) + "<a>"


def test_a_conversation_that_is_left_goes_on(make: Make) -> None:
    pipe = make()
    talk = pipe.conversation(**GREEDY)
    stream = talk.stream("the weather in the town")
    piece = next(stream)
    with pytest.raises(InputError, match="under way"):
        talk.say("a")
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert talk.messages[-1] == {"role": "assistant", "content": piece}
    never = talk.stream("the")
    del never
    expected = pipe([*talk.messages, {"role": "user", "content": "a"}], **GREEDY)[0]["generated_text"]
    assert talk.say("a") == expected[-1]["content"]
    with pytest.raises(InputError, match="turns must be"):
        talk.rewind(5)
    with pytest.raises(InputError, match="num_beams"):
        talk.say("a", num_beams=2)
    with pytest.raises(InputError, match="num_return_sequences"):
        talk.say("a", do_sample=True, num_return_sequences=2)


def test_guided_answers_have_their_form(make: Make) -> None:
    pipe = make()
    regex = r"th(e|an)( (rat|man)){1,3}!"
    options = {"do_sample": True, "max_new_tokens": 40, "return_full_text": False}
    for seed in range(4):
        found = pipe(["in ", "a hat ", "in "], guide={"regex": regex}, seed=seed, **options)
        assert all(re.fullmatch(regex, item[0]["generated_text"]) for item in found)
    beams = pipe(
        "in ",
        guide={"choices": ["he", "the rat", "12"]},
        num_beams=3,
        num_return_sequences=3,
        do_sample=False,
        max_new_tokens=20,
        return_full_text=False,
    )
    assert beams[0]["generated_text"] in ("he", "the rat", "12")
    streamed = "".join(pipe.stream("in ", guide={"choices": ["he", "the rat", "12"]}, do_sample=False))
    assert streamed in ("he", "the rat", "12")


def test_a_default_of_the_callers_is_not_blamed_on_the_bundle(make: Make) -> None:
    with pytest.raises(InputError, match=r"^max_new_tokens must be"):
        make(max_new_tokens=0)
