"""The course's examples on the default models, with the network blocked; and the runner that makes its notebook.

What is asserted of a task follows `defaults.json`: a task with a model answers sanely, one without says so in one line.
"""

import importlib.util
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import edgenlp_export
import pytest
from checkpoints import write_checkpoint

import edgenlp
from edgenlp.cli import main
from edgenlp.defaults import defaults
from edgenlp.errors import BundleError, InputError
from edgenlp.tasks import ALIASES, TASKS

COURSE = Path(__file__).parent.parent / "models" / "course"
PROMPT = "In this course, we will teach you how to"
NAMES = "My name is Sylvain and I work at Hugging Face in Brooklyn."


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("course_cells", COURSE / "cells.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


cells = load()
Outcome = cells.Outcome


def has_default(task: str) -> bool:
    row = defaults().get(task)
    return bool(row and row["model"])


@pytest.fixture(scope="module")
def outcomes() -> list[tuple[str, Any]]:
    """Source and outcome of every cell of code, in order; whoever asks for the network fails."""

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("the network was asked for")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("socket", "create_connection", "getaddrinfo"):
            patch.setattr(socket, name, refuse)
        script = (COURSE / "course.py").read_text(encoding="utf-8")
        return [(cell.source, outcome) for cell, outcome in cells.runs(cells.cells_of(script)) if outcome is not None]


def is_positive(outcome: Any) -> None:
    (answer,) = outcome.value
    assert answer["label"] == "POSITIVE"
    assert 0.5 < answer["score"] <= 1


def are_both(outcome: Any) -> None:
    assert [answer["label"] for answer in outcome.value] == ["POSITIVE", "NEGATIVE"]


def is_education(outcome: Any) -> None:
    assert outcome.value["sequence"] == "This is a course about the Transformers library"
    assert outcome.value["labels"][0] == "education"
    assert sorted(outcome.value["labels"]) == ["business", "education", "politics"]
    assert outcome.value["scores"] == sorted(outcome.value["scores"], reverse=True)
    assert sum(outcome.value["scores"]) == pytest.approx(1, abs=1e-4)


def goes_on(count: int) -> Callable[[Any], None]:
    def check(outcome: Any) -> None:
        texts = [item["generated_text"] for item in outcome.value]
        assert len(texts) == count
        assert all(text.startswith(PROMPT) for text in texts)  # they are drawn: one may end at once

    return check


def fills(outcome: Any) -> None:
    first, second = outcome.value
    assert first["score"] >= second["score"] > 0
    for item in outcome.value:
        assert item["token_str"].strip().removeprefix("##") in item["sequence"]
        assert item["sequence"].lower().startswith("this course will teach you all about")


def finds_names(outcome: Any) -> None:
    groups = outcome.value
    person = next(item for item in groups if "sylvain" in item["word"].lower())
    assert person["entity_group"].upper().startswith("PER")
    assert "Brooklyn" in [NAMES[item["start"] : item["end"]] for item in groups]
    assert all(0 < item["score"] <= 1 for item in groups)


def finds_names_the_old_way(outcome: Any) -> None:
    finds_names(outcome)
    assert any("grouped_entities" in message for message in outcome.warned)


def says_where(outcome: Any) -> None:
    answer = outcome.value
    assert "Hugging Face" in answer["answer"]
    assert NAMES[answer["start"] : answer["end"]] == answer["answer"]
    assert 0 < answer["score"] <= 1


def is_shorter(outcome: Any) -> None:
    (summary,) = outcome.value
    assert 20 < len(summary["summary_text"]) < 1000


def translates(outcome: Any) -> None:
    if outcome.error is None:
        assert outcome.value[0]["translation_text"].strip()
    else:  # the model is of another pair of languages
        assert isinstance(outcome.error, InputError)


def is_wide(outcome: Any) -> None:
    tokens, columns = outcome.value
    assert tokens >= 10
    assert columns > 100


def lists_words(outcome: Any) -> None:
    assert len(outcome.printed.splitlines()) == 2
    assert all(line.count("'") == 10 for line in outcome.printed.replace('"', "'").splitlines())


# How a cell begins, its task, and what its answer must be.
EXAMPLES = [
    ('from edgenlp import pipeline\n\nclassifier = pipeline("sentiment', "text-classification", is_positive),
    ("classifier([", "text-classification", are_both),
    ('from edgenlp import pipeline\n\nclassifier = pipeline("zero', "zero-shot-classification", is_education),
    ('from edgenlp import pipeline\n\ngenerator = pipeline("text-generation")', "text-generation", goes_on(1)),
    ('generator = pipeline("text-generation")', "text-generation", goes_on(2)),
    ('from edgenlp import pipeline\n\nunmasker = pipeline("fill-mask")', "fill-mask", fills),
    ("from edgenlp import pipeline\n\nner = ", "token-classification", finds_names),
    ("ner = ", "token-classification", finds_names_the_old_way),
    ("from edgenlp import pipeline\n\nquestion_answerer", "question-answering", says_where),
    ("from edgenlp import pipeline\n\nsummarizer", "summarization", is_shorter),
    ("translator = ", "translation", translates),
    ("from edgenlp import pipeline\n\nextractor", "feature-extraction", is_wide),
    ('unmasker = pipeline("fill-mask")', "fill-mask", lists_words),
]


@pytest.mark.parametrize(("begins", "task", "check"), EXAMPLES)
def test_an_example(begins: str, task: str, check: Callable[[Any], None], outcomes: list[tuple[str, Any]]) -> None:
    (outcome,) = [found for source, found in outcomes if source.startswith(begins)]
    if has_default(task):
        assert outcome.error is None or task == "translation", outcome.error
        check(outcome)
    elif not isinstance(outcome.error, NameError):  # what the cell before it could not make
        assert isinstance(outcome.error, BundleError)
        assert f"{task} has no default model" in str(outcome.error)


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-360M", "Helsinki-NLP/opus-mt-fr-en", "bert-base-uncased"])
def test_a_name_of_the_hub_is_one_clear_line(name: str, outcomes: list[tuple[str, Any]]) -> None:
    (outcome,) = [found for source, found in outcomes if f'model="{name}"' in source]
    assert isinstance(outcome.error, BundleError)
    assert "edgenlp fetches nothing" in str(outcome.error)
    assert f"edgenlp export CHECKPOINT {name}" in str(outcome.error)
    assert "\n" not in str(outcome.error)


def test_every_cell_is_an_example(outcomes: list[tuple[str, Any]]) -> None:
    assert len(outcomes) == len(EXAMPLES) + 3
    assert sum(source.startswith("from edgenlp import pipeline\n") for source, _ in outcomes) == 11


def test_the_notebook_is_the_script_with_answers_of_today(outcomes: list[tuple[str, Any]]) -> None:
    notebook = json.loads((COURSE / "course.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    script = (COURSE / "course.py").read_text(encoding="utf-8")
    stored = [("".join(cell["source"]), cell["cell_type"] == "markdown") for cell in notebook["cells"]]
    remake = "course.ipynb is old: python models/course/cells.py"
    assert stored == [(cell.source, cell.text) for cell in cells.cells_of(script)], remake
    assert len({cell["id"] for cell in notebook["cells"]}) == len(stored)
    coded = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, (_, outcome)) in enumerate(zip(coded, outcomes, strict=True), 1):
        assert cell["execution_count"] == number
        raised = [item["ename"] for item in cell["outputs"] if item["output_type"] == "error"]
        assert raised == ([] if outcome.error is None else [type(outcome.error).__name__]), remake
        assert cell["outputs"], remake


# The runner


SCRIPT = '''"""Left out."""
left_out = 1
# %% [markdown]
# # Heading
#
# Text of *some* length
# on two lines.

# %%
a = 20

a + 1

# %%
import warnings

from edgenlp import pipeline

print("é")
warnings.warn("careful")
pipeline("nonsense")

# %%
missing
# %%
b = a
'''


def test_cells() -> None:
    found = cells.cells_of(SCRIPT)
    assert [cell.text for cell in found] == [True, False, False, False, False]
    assert found[0].source == "# Heading\n\nText of *some* length\non two lines."
    assert found[1].source == "a = 20\n\na + 1"
    results = [outcome for _, outcome in cells.runs(found)]
    assert results[0] is None
    assert results[1] == Outcome(value=21, warned=[])
    assert (results[2].printed, results[2].warned, results[2].value) == ("é\n", ["careful"], None)
    assert "there is no task 'nonsense'" in str(results[2].error)
    assert isinstance(results[3].error, NameError)
    assert results[4] == Outcome(warned=[])


def test_play_shows_code_and_what_it_comes_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    assert cells.play(tmp_path / "script.py") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Text of *some* length on two lines." in lines
    assert lines[lines.index("    a + 1") + 2] == "21"
    assert lines[lines.index("warning: careful") + 1] == "é"
    assert any(line.startswith("InputError: there is no task 'nonsense'") for line in lines)


def test_a_notebook_has_the_form_that_jupyter_reads(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    made = cells.notebook(tmp_path / "script.py")
    assert json.loads(json.dumps(made)) == made
    text, first, second, third, last = made["cells"]
    assert set(text) == {"cell_type", "id", "metadata", "source"}
    assert text["source"][0] == "# Heading\n"
    (result,) = first["outputs"]
    assert result == {
        "output_type": "execute_result",
        "execution_count": 1,
        "metadata": {},
        "data": {"text/plain": ["21"]},
    }
    assert [item["output_type"] for item in second["outputs"]] == ["stream", "stream", "error"]
    assert second["metadata"] == {"tags": ["raises-exception"]}
    assert (third["outputs"][0]["ename"], last["outputs"], last["metadata"]) == ("NameError", [], {})


# The first minute on the command line


def test_help_names_every_task_and_its_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    words = capsys.readouterr().out.replace("(", " ").replace(")", " ").replace(",", " ").replace(";", " ").split()
    assert {*TASKS, *ALIASES, "translation_en_to_fr"} <= set(words)
    with pytest.raises(SystemExit):
        main(["run"])
    assert "required: TASK\n" in capsys.readouterr().err


def test_the_first_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", "sentiment-analysis", "I've been waiting for a HuggingFace course my whole life."])
    out, err = capsys.readouterr()
    if has_default("text-classification"):
        assert (code, json.loads(out)["label"]) == (0, "POSITIVE")
    else:
        assert code == 1
        assert "text-classification has no default model" in err


# Arguments of transformers' pipeline()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("course")
    source = write_checkpoint(root / "checkpoint", "bert", "token_classification", seed=3)
    edgenlp_export.export(source, root / "bundle", tolerance=float("inf"))
    return str(root / "bundle")


class Device:
    """Stands for torch.device("cpu")."""

    def __str__(self) -> str:
        return "cpu"


HARMLESS = {
    "batch_size": 2,
    "binary_output": False,
    "config": None,
    "device": "cpu",
    "device_map": "auto",
    "dtype": "auto",
    "feature_extractor": None,
    "framework": None,
    "image_processor": None,
    "model_kwargs": {},
    "num_workers": 0,
    "pipeline_class": None,
    "processor": None,
    "revision": None,
    "token": None,
    "torch_dtype": "auto",
    "trust_remote_code": True,
    "use_auth_token": False,
    "use_fast": True,
}


def test_arguments_that_ask_for_what_happens_anyway_are_taken(bundle: str) -> None:
    plain = edgenlp.pipeline("ner", bundle)(NAMES)
    assert edgenlp.pipeline("ner", model=bundle, tokenizer=bundle, **HARMLESS)(NAMES) == plain
    for device in (-1, Device(), None, "cpu:0"):
        with edgenlp.pipeline("ner", model=bundle, device=device) as ner:
            assert ner(NAMES) == plain
            shared = edgenlp.pipeline("ner", model=ner.model, device=device)
            assert shared(NAMES) == plain


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("binary_output", True, "leave it out"),
        ("config", "config.json", "a bundle states all"),
        ("device", 0, "runs on the CPU"),
        ("device", "cuda:0", "runs on the CPU"),
        ("device_map", {"": 0}, "runs on the CPU"),
        ("dtype", "float16", "edgenlp export --precision"),
        ("framework", "pt", "needs no framework"),
        ("model_kwargs", {"load_in_8bit": True}, "leave it out"),
        ("num_workers", 4, "use threads="),
        ("pipeline_class", object, "leave it out"),
        ("revision", "main", "export the revision that you want"),
        ("token", "hf_x", "nothing is fetched"),
        ("tokenizer", "bert-base-cased", "the tokenizer is in the bundle"),
        ("torch_dtype", "bfloat16", "edgenlp export --precision"),
        ("use_fast", False, "all tokenizers are fast"),
    ],
)
def test_arguments_that_cannot_be_met_say_what_to_do(name: str, value: Any, remedy: str, bundle: str) -> None:
    with pytest.raises(InputError, match=f"^{name}= is transformers' and has no meaning here; .*{remedy}"):
        edgenlp.pipeline("ner", model=bundle, **{name: value})


def test_a_folder_with_a_name_of_the_hub_makes_the_courses_call_work(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match="edgenlp fetches nothing"):
        edgenlp.pipeline("ner", model="somebody/ner")
    Path("somebody").mkdir()
    Path("somebody/ner").symlink_to(bundle)
    assert edgenlp.pipeline("ner", model="somebody/ner")(NAMES) == edgenlp.pipeline("ner", model=bundle)(NAMES)
    for path in ("./nothing", "/nothing", "a/b/c"):
        with pytest.raises(BundleError, match="there is no folder") as raised:
            edgenlp.pipeline("ner", model=path)
        assert "fetches" not in str(raised.value)
