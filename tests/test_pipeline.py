"""What all tasks share: streams, options, bad input, many threads, closing."""

import gc
import io
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import pytest
from checkpoints import write_checkpoint

import edgenlp
from edgenlp import EdgeNLPError, InputError, TooLongError
from edgenlp.session import PRESETS
from edgenlp.threads import granted

HEADS = {
    "text-classification": "sequence_classification",
    "zero-shot-classification": "sequence_classification",
    "token-classification": "token_classification",
    "question-answering": "question_answering",
    "fill-mask": "masked_lm",
    "feature-extraction": "encoder",
    "sentence-similarity": "encoder",
}
TEXTS = [
    "All human beings are born free.",
    "No one.",
    "Everyone has the right to life, liberty and security of person.",
]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("tasks")
    made = {}
    for task, head in HEADS.items():
        if not (place / head).exists():
            write_checkpoint(place / f"{head}-checkpoint", "bert", head, seed=3)
            edgenlp_export.export(place / f"{head}-checkpoint", place / head, precision="fp32")
        made[task] = place / head
    return made


def call(task: str, pipe: Any, text: Any, **options: Any) -> Any:
    """One input of the task's form made of `text`."""
    if task == "question-answering":
        return pipe(question="Who is free?", context=text, **options)
    if task == "zero-shot-classification":
        return pipe(text, ["rights", "food"], **options)
    if task == "sentence-similarity":
        return pipe(text, [text, "food"], **options)
    if task == "fill-mask":
        return pipe(f"{text} [MASK]" if isinstance(text, str) else text, **options)
    return pipe(text, **options)


def test_a_generator_is_answered_lazily(bundles: dict[str, Path]) -> None:
    taken = []

    def texts() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield f"Everyone has the right number {number}."

    with edgenlp.pipeline("text-classification", model=bundles["text-classification"]) as classify:
        answers = classify(texts(), batch_size=4)
        first = [next(answers) for _ in range(6)]
        assert len(taken) == 8
        listed = classify([f"Everyone has the right number {number}." for number in range(6)])
    for one, other in zip(first, listed, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_a_file_is_read_line_by_line(bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline("text-classification", model=bundles["text-classification"]) as classify:
        answers = list(classify(io.StringIO("\n".join(TEXTS) + "\n")))
        assert [item["label"] for item in answers] == [item["label"] for item in classify(TEXTS)]


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize(
    "text",
    ["half \ud800 a pair", 5, None, b"bytes", object(), {"unknown": "key"}, 1.5],
    ids=["surrogate", "int", "None", "bytes", "object", "key", "float"],
)
def test_what_is_no_text_is_an_error_of_ours(task: str, text: Any, bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline(task, model=bundles[task]) as pipe, pytest.raises(EdgeNLPError):
        call(task, pipe, text)


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("text", ["nul \0 inside", "\u200d\ufe0f", "a\u0301" * 40, "🇫🇷🏳️‍🌈", "\n\t "])
def test_odd_text_is_answered(task: str, text: str, bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline(task, model=bundles[task]) as pipe:
        assert call(task, pipe, text) is not None


@pytest.mark.parametrize(
    "task", [task for task in HEADS if task not in ("question-answering", "zero-shot-classification")]
)
def test_empty_text_is_answered(task: str, bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline(task, model=bundles[task]) as pipe:
        assert call(task, pipe, "") is not None


@pytest.mark.parametrize("task", HEADS)
def test_a_megabyte_is_an_error_or_an_answer(task: str, bundles: dict[str, Path]) -> None:
    text = "All human beings are born free and equal in dignity and rights. " * 16_000
    with edgenlp.pipeline(task, model=bundles[task]) as pipe:
        with pytest.raises(TooLongError, match="tokens"):
            call(task, pipe, text, long_input="error")
        # the mask that `call` puts at the end of a text would be cut off
        cut = (
            pipe("[MASK] " + text, long_input="truncate")
            if task == "fill-mask"
            else call(task, pipe, text, long_input="truncate")
        )
        assert cut is not None


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering"])
def test_windows_cover_the_whole_of_a_long_text(task: str, bundles: dict[str, Path]) -> None:
    text = "All human beings are born free and equal in dignity and rights. " * 40
    with edgenlp.pipeline(task, model=bundles[task]) as pipe:
        answer = call(task, pipe, text, long_input="stride")
        if task == "token-classification":
            assert max(item["end"] for item in pipe(text, long_input="stride", ignore_labels=[])) == len(text.rstrip())
        else:
            assert answer


@pytest.mark.parametrize("task", HEADS)
def test_an_unknown_option_names_the_nearest(task: str, bundles: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="unknown option 'long_inputs'; did you mean 'long_input'"):
        edgenlp.pipeline(task, model=bundles[task], long_inputs="truncate")
    with edgenlp.pipeline(task, model=bundles[task]) as pipe:
        with pytest.raises(InputError, match="did you mean 'long_input'"):
            call(task, pipe, "a", long_inputs="truncate")
        with pytest.raises(InputError, match="long_input must be one of"):
            call(task, pipe, "a", long_input="truncated")


def test_wrong_arguments_of_the_door(bundles: dict[str, Path]) -> None:
    model = bundles["text-classification"]
    with pytest.raises(InputError, match="did you mean 'text-classification'"):
        edgenlp.pipeline("text-clasification", model=model)
    with pytest.raises(InputError, match="no preset 'fast'"):
        edgenlp.pipeline("text-classification", model=model, preset="fast")
    with pytest.raises(InputError, match="runs on the CPU"):
        edgenlp.pipeline("text-classification", model=model, device=0)
    with pytest.raises(InputError, match="name a task"):
        edgenlp.pipeline()
    for threads in (0, -1, 1.5, "2", True, 10**9):
        with pytest.raises(InputError, match="threads must be"):
            edgenlp.pipeline("text-classification", model=model, threads=threads)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_change_no_answer(preset: str, bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline(model=bundles["text-classification"], preset=preset) as classify:
        classify.warmup()
        scores = [item["score"] for item in classify(TEXTS)]
        assert classify.model.threads == (1 if preset == "battery" else granted())
    with edgenlp.pipeline(model=bundles["text-classification"], threads=1) as classify:
        assert scores == pytest.approx([item["score"] for item in classify(TEXTS)], abs=1e-5)


def test_many_threads_get_the_answers_that_one_gets(bundles: dict[str, Path]) -> None:
    texts = [f"Everyone has {'the ' * (number % 9)}right {number}." for number in range(64)]
    with edgenlp.pipeline("token-classification", model=bundles["token-classification"], ignore_labels=[]) as tag:
        alone = [tag(text) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(tag, texts))
    for one, other in zip(alone, together, strict=True):
        assert [item["entity"] for item in one] == [item["entity"] for item in other]
        assert [item["score"] for item in one] == pytest.approx([item["score"] for item in other], abs=1e-5)


def test_a_closed_pipeline_says_so_and_lets_go(bundles: dict[str, Path]) -> None:
    before = threading.active_count()
    classify = edgenlp.pipeline("text-classification", model=bundles["text-classification"])
    classify.close()
    with pytest.raises(InputError, match="was closed"):
        classify("a")
    gc.collect()
    assert threading.active_count() <= before


def test_a_model_is_shared_between_tasks(bundles: dict[str, Path]) -> None:
    with edgenlp.pipeline("text-classification", model=bundles["text-classification"]) as classify:
        zero_shot = edgenlp.pipeline("zero-shot-classification", model=classify.model)
        assert zero_shot.model is classify.model
        assert zero_shot(TEXTS[0], ["rights", "food"])["sequence"] == TEXTS[0]


def test_the_default_models_answer() -> None:
    with edgenlp.pipeline("sentence-similarity") as similarity:
        near, far = similarity("How old are you?", ["What is your age?", "The boat sails at noon."])
        assert near > 0.7 > 0.3 > far
        vector = similarity.encode("How old are you?")
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    with edgenlp.pipeline("fill-mask") as fill:
        answers = fill("Paris is the [MASK] of France.")
        assert {answer["token_str"] for answer in answers[:2]} == {"city", "capital"}
    with edgenlp.pipeline("zero-shot-classification") as classify:
        answer = classify("Preheat the oven and mix flour with sugar.", ["technology", "sports", "cooking"])
        assert answer["labels"][0] == "cooking"
        assert answer["scores"][0] > 0.8
    with edgenlp.pipeline("text-generation") as write:
        (answer,) = write("The city of London", do_sample=False, min_new_tokens=8, max_new_tokens=16)
        assert answer["generated_text"].startswith("The city of London")
        assert len(answer["generated_text"].split()) > 8
    with edgenlp.pipeline("summarization") as summarize:
        text = (
            "The library will close at noon on Friday so that the heating can be repaired. The reading room stays open."
        )
        (answer,) = summarize(text)
        assert answer["summary_text"].split(".")[0] in text.lower()
        assert len(answer["summary_text"].split()) > 4
    with pytest.raises(EdgeNLPError, match="no default model"):
        edgenlp.pipeline("translation")
