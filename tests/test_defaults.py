"""Which model a task uses when none is named: what edgenlp-models states, what is said where it states none, and the list of all."""

import json
import sys
import types
from pathlib import Path

import edgenlp_export
import pytest
from checkpoints import write_checkpoint

import edgenlp
from edgenlp.cli import main
from edgenlp.cli.show import amount
from edgenlp.defaults import default_for, defaults, find, installed
from edgenlp.tasks import TASKS

ROW = {"model": "tiny", "why": "small", "score": 86.5, "metric": "accuracy, %", "on": "SST-2 dev", "licence": "MIT"}
NONE = {"model": None, "why": "BLEU 9.1 on held-out pairs, too little to be of use"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    write_checkpoint(folder / "checkpoint", "bert", "sequence_classification", seed=3)
    edgenlp_export.export(folder / "checkpoint", folder / "models" / "tiny", precision="fp32")
    return folder / "models"


@pytest.fixture
def package(bundle, monkeypatch):
    """A package like edgenlp-models, which holds one bundle; what is returned writes its list."""
    module = types.ModuleType("edgenlp_models")
    module.__file__ = str(bundle / "__init__.py")
    monkeypatch.setitem(sys.modules, "edgenlp_models", module)

    def state(text):
        (bundle / "defaults.json").write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")

    return state


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgenlp_models", None)


def test_the_package_of_this_repository_is_in_order():
    rows = defaults()
    assert rows
    assert set(rows) <= set(TASKS)
    for task, row in rows.items():
        assert row["why"]
        if row["model"] is not None:
            assert task in edgenlp.open_bundle(default_for(task)).tasks
            assert {"score", "metric", "on", "licence"} <= set(row)


def test_a_task_opens_its_default(package):
    package({"text-classification": ROW})
    assert default_for("text-classification") == find("tiny") == installed()["tiny"]
    with edgenlp.pipeline("sentiment-analysis") as task:
        assert task("All human beings are born free.")[0]["label"] in task.bundle.head.labels


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"translation": NONE}, ["translation has no default model", "BLEU 9.1 on held-out pairs", "--model", "edgenlp export"]),
        ({}, ["translation has no default model", "edgenlp-models holds none", "--model", "edgenlp export"]),
        ({"translation": {**ROW, "model": "gone"}}, ["translation", "gone", "not among the installed ones"]),
    ],
)  # fmt: skip
def test_a_task_without_a_model_says_why_and_what_to_do(stated, words, package, capsys):
    package(stated)
    with pytest.raises(edgenlp.BundleError) as found:
        edgenlp.pipeline("translation")
    assert all(word in str(found.value) for word in words)
    assert "\n" not in str(found.value)
    assert main(["run", "translation", "a"]) == 1
    assert capsys.readouterr().err == f"edgenlp: {found.value}\n"


@pytest.mark.parametrize("task", ["translation", "text-classification"])
def test_without_the_package_it_is_named(task, no_package):
    assert defaults() == installed() == {}
    with pytest.raises(edgenlp.BundleError, match="pip install edgenlp-models brings some"):
        edgenlp.pipeline(task)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("{", "cannot read"),
        ("[]", "must hold an object"),
        ({"ner": "tiny"}, "ner must be an object, found str"),
        ({"ner": {"why": "small"}}, 'ner lacks "model"'),
        ({"ner": {"model": None}}, 'ner lacks "why"'),
        ({"ner": {**ROW, "model": 3}}, '"model" of ner cannot be 3'),
        ({"ner": {**ROW, "score": "86"}}, "\"score\" of ner cannot be '86'"),
        ({"ner": {**ROW, "score": True}}, '"score" of ner cannot be True'),
        ({"ner": {**ROW, "licence": None}}, '"licence" of ner cannot be None'),
    ],
)
def test_a_damaged_list_is_refused(stated, message, package):
    package(stated)
    with pytest.raises(edgenlp.BundleError) as found:
        defaults()
    assert message in str(found.value)
    assert "install edgenlp-models anew" in str(found.value)


def test_keys_of_a_later_version_are_passed_over(package):
    package({"ner": {**ROW, "languages": ["en"]}})
    assert defaults()["ner"]["model"] == "tiny"


def test_the_list_has_model_size_score_and_licence_of_each_task(package, capsys):
    package({"text-classification": ROW, "translation": NONE, "fill-mask": {"model": "gone", "why": "small"}})
    assert main(["inspect", "--defaults"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = ["TASK", "MODEL", "PARAMETERS", "SIZE", "SCORE", "MEASURED", "LICENCE"]
    assert lines[0].split() == heads
    row = next(line for line in lines if line.startswith("text-classification"))
    for words in (
        "tiny",
        amount(edgenlp.open_bundle(installed()["tiny"]).size),
        "86.50",
        "accuracy, % on SST-2 dev",
        "MIT",
    ):
        assert words in row
    assert row.index("accuracy") == lines[0].index("MEASURED")
    assert row.index("MIT") == lines[0].index("LICENCE")
    assert next(line for line in lines if line.startswith("fill-mask")).split() == [
        "fill-mask",
        "gone",
        "not",
        "installed",
    ]
    without = lines[lines.index("no default model:") + 1 :]
    assert [line.split()[0] for line in without] == [
        name for name in TASKS if name not in ("fill-mask", "text-classification")
    ]
    assert next(line for line in without if "translation" in line).endswith(NONE["why"])


def test_in_a_narrow_terminal_each_task_has_lines_of_its_own(package, capsys, monkeypatch):
    package({"text-classification": ROW})
    monkeypatch.setattr("edgenlp.cli.commands.width", lambda: 60)
    assert main(["inspect", "--defaults"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "text-classification"
    assert lines[2].split() == ["score", "86.50", *ROW["metric"].split(), "on", "SST-2", "dev"]
    assert all(len(line) < 60 for line in lines)


def test_the_list_as_json_has_what_the_bundle_says_too(package, capsys):
    package({"text-classification": ROW, "translation": NONE})
    assert main(["inspect", "--defaults", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bundle = edgenlp.open_bundle(Path(installed()["tiny"]))
    own = {"parameters": bundle.source.parameters, "size": bundle.size, "precision": "fp32"}
    assert found == {"text-classification": {**own, **ROW}, "translation": NONE}


def test_a_bundle_says_which_task_it_is_the_default_of(package, capsys):
    package({"text-classification": ROW})
    assert main(["inspect", "tiny"]) == 0
    assert "text-classification: small" in capsys.readouterr().out


def test_no_package_is_one_line(no_package, capsys):
    assert main(["inspect", "--defaults"]) == 0
    assert capsys.readouterr().out == "no default models are installed: pip install edgenlp-models\n"
