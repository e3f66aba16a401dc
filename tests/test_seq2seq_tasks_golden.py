"""Summarization, translation and text2text-generation beside the recorded answers of transformers 4.57.6, on small checkpoints."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgenlp_export
import pytest
from seq2seq_checkpoints import write_seq2seq
from seq2seq_task_cases import ANSWERS, CALLS, MODELS, TEXT, TEXTS

import edgenlp
from edgenlp.errors import EdgeNLPError
from edgenlp.model import Model, open_model

Open = Callable[[str], Model]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A function from a model's name in MODELS to its opened bundle."""
    folder, models = tmp_path_factory.mktemp("seq2seq"), dict[str, Model]()

    def opened(name: str) -> Model:
        if name not in models:
            source = write_seq2seq(Path(folder, name), **MODELS[name])
            edgenlp_export.export(source, Path(folder, f"{name}-bundle"), precision="fp32")
            models[name] = open_model(Path(folder, f"{name}-bundle"), threads=1)
        return models[name]

    return opened


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ANSWERS.read_text(encoding="utf-8"))["answers"]
    assert len(found) == len(CALLS)
    return found


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_transformers_answers(number: int, model_of: Open, answers: list[dict[str, Any]]) -> None:
    call, expected = CALLS[number], answers[number]
    model = model_of(call["model"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options without effect and of lengths, as there
        if "error" in expected and "is invalid for input of size" not in expected["error"]:
            with pytest.raises(EdgeNLPError):
                edgenlp.pipeline(call["task"], model, **call["init"])(call["inputs"], **call["options"])
            return
        found = edgenlp.pipeline(call["task"], model, **call["init"])(call["inputs"], **call["options"])
    if "error" in expected:  # beams of a model with two vocabularies fail there
        assert len(found) == call["options"]["num_return_sequences"]
        return
    assert found == expected["result"]


@pytest.mark.parametrize("name", ["t5", "bart", "marian-separate", "mbart50", "m2m"])
def test_what_transformers_has_not(name: str, model_of: Open) -> None:
    languages = {"mbart50": ("en_XX", "fr_XX"), "m2m": ("en", "fr")}.get(name)
    options = dict(zip(("src_lang", "tgt_lang"), languages, strict=True)) if languages else {}
    pipe = edgenlp.pipeline("translation", model_of(name), max_new_tokens=10, **options)
    pipe.warmup()
    greedy = pipe(TEXTS, num_beams=1)
    assert ["".join(pipe.stream(text)) for text in TEXTS] == [item["translation_text"] for item in greedy]
    assert greedy == [pipe(text, num_beams=1)[0] for text in TEXTS]
    begun = pipe(TEXTS, num_beams=3, target_prefix="the", return_tensors=True)
    assert begun == [pipe(text, num_beams=3, target_prefix="the", return_tensors=True)[0] for text in TEXTS]
    prefix = pipe.model.target_tokens.encode(["the"], special_tokens=False)[0][0].ids
    start = 2 if languages or name == "bart" else 1  # a token that every answer begins with comes first
    for item in begun:
        assert item["translation_token_ids"][start : start + len(prefix)] == prefix
    others = pipe(TEXTS, num_beams=2, alternatives=3)
    for group, text in zip(others, TEXTS, strict=True):
        alone = pipe(text, num_beams=2, alternatives=3)
        assert [item["translation_text"] for item in group] == [item["translation_text"] for item in alone]
        assert [item["score"] for item in group] == pytest.approx([item["score"] for item in alone], abs=1e-4)
        assert [item["score"] for item in group] == sorted((item["score"] for item in group), reverse=True)
    long = pipe(TEXT.replace(".", ". ") * 8, num_beams=1, long_input="stride")
    assert isinstance(long[0]["translation_text"], str)
    targets = ["a", "to work", "law"]
    for scored, text, target in zip(pipe.score(TEXTS, targets), TEXTS, targets, strict=True):
        assert scored["token_logprobs"] == pytest.approx(pipe.score(text, target)["token_logprobs"], abs=1e-4)


@pytest.mark.parametrize("name", ["t5", "bart", "marian-separate"])
def test_a_score_is_that_of_the_search(name: str, model_of: Open) -> None:
    pipe = edgenlp.pipeline("text2text-generation", model_of(name), num_beams=2)
    ids = pipe.model.target_tokens.encode(["the law"], special_tokens=False)[0][0].ids
    wanted = [*ids, pipe.bundle.generation["eos_token_id"]]

    def only(_: int, written: Any) -> list[int]:
        return wanted[len(written) - 1 :][:1] or wanted[-1:]

    options = {"forced_bos_token_id": None} if name == "bart" else {}
    found = pipe(TEXT, prefix_allowed_tokens_fn=only, return_scores=True, **options)[0]
    assert found["score"] == pytest.approx(pipe.score(TEXT, "the law", **options)["mean"], abs=1e-4)
