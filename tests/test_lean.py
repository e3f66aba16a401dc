"""The runtime by itself: what a fresh interpreter loads, with the network blocked, and what the source may not say."""

import re
import subprocess
import sys
from pathlib import Path

import edgenlp_export
import pytest
from checkpoints import write_checkpoint

RUNTIME = Path(__file__).parent.parent / "edgenlp"
HEAVY = ("torch", "transformers", "optimum", "onnx", "huggingface_hub", "sentencepiece", "scipy", "edgenlp_export")

CALLS = {
    "text-classification": ("sequence_classification", "('All human beings are born free.')"),
    "zero-shot-classification": ("sequence_classification", "('All are born free.', ['rights', 'food'])"),
    "token-classification": ("token_classification", "('All human beings are born free.', ignore_labels=[])"),
    "question-answering": ("question_answering", "(question='Who?', context='All human beings are born free.')"),
    "fill-mask": ("masked_lm", "('All human [MASK] are born free.')"),
    "feature-extraction": ("encoder", "('All human beings are born free.')"),
    "sentence-similarity": ("encoder", "('All are free.', ['All are equal.', 'No one is.'])"),
}

PROGRAM = """
import os, socket, sys
def refuse(*args, **options):
    raise AssertionError("the network was asked for")
socket.socket = socket.create_connection = socket.getaddrinfo = refuse
import edgenlp
answer = edgenlp.pipeline({task!r}, model={bundle!r}){call}
assert answer
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
print(",".join(name for name in {heavy!r} if name in sys.modules))
"""


@pytest.mark.parametrize("task", CALLS)
def test_a_task_loads_nothing_heavy_and_opens_no_socket(task: str, tmp_path: Path) -> None:
    head, call = CALLS[task]
    write_checkpoint(tmp_path / "checkpoint", "bert", head, seed=1)
    edgenlp_export.export(tmp_path / "checkpoint", tmp_path / "bundle")
    program = PROGRAM.format(task=task, bundle=str(tmp_path / "bundle"), call=call, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.strip()) == ("", "")


def test_export_does_without_torch(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "roberta", "masked_lm", seed=1)
    program = (
        "import sys, edgenlp_export; edgenlp_export.export('checkpoint', 'bundle');"
        "print([name for name in ('torch', 'transformers', 'optimum', 'sentencepiece', 'safetensors') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_changes_nothing_but_the_telemetry_switch() -> None:
    program = (
        "import os; before = dict(os.environ); import edgenlp;"
        "print({name for name in os.environ if before.get(name) != os.environ[name]} | (set(before) - set(os.environ)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("{'ORT_DISABLE_TELEMETRY'}", "set()")


def test_the_runtime_knows_no_architecture() -> None:
    words = re.compile(r"model_type|\b(distil|ro|al)?bert\b|electra|mpnet", re.IGNORECASE)
    for path in RUNTIME.rglob("*.py"):
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text(encoding="utf-8"))
        assert not words.search(code), path


@pytest.mark.parametrize(("package", "room"), [("onnxruntime", "session.py"), ("tokenizers", "tokens.py")])
def test_one_room_imports_it(package: str, room: str) -> None:
    importing = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    found = {path.name for path in RUNTIME.rglob("*.py") if importing.search(path.read_text(encoding="utf-8"))}
    assert found == {room}


def test_public_names_are_sorted_and_pinned() -> None:
    import edgenlp

    assert edgenlp.__all__ == sorted(edgenlp.__all__)
    assert {name for name in edgenlp.__all__ if not name.endswith("Error")} == {
        "Bundle",
        "cosine",
        "open_bundle",
        "pipeline",
    }
