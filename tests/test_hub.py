"""Models of the Hub, by name: what is fetched, what is kept, and what is said when it cannot be. The Hub is the tests' own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from edgenlp_export.hub import is_name
from hub_server import Hub, serving

import edgenlp

BLOCKED = """
import socket
def refuse(*args, **options):
    raise AssertionError("the network was asked for")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serving() as found:
        write_checkpoint(tmp_path / "main", "bert", "sequence_classification", seed=1)
        write_checkpoint(tmp_path / "v2", "bert", "sequence_classification", seed=2)
        for folder in ("main", "v2"):
            found.models["org/mood", folder] = tmp_path / folder
        yield found


def export(hub: Hub, folder: Path, *arguments: str, blocked: bool = False) -> subprocess.CompletedProcess[str]:
    """`edgenlp export` of arguments, as a user types it, the Hub being ours."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    program = (BLOCKED if blocked else "") + "import sys; from edgenlp.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "export", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_name_is_fetched_and_exported(hub: Hub, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "org/mood", "bundle")
    assert (done.returncode, done.stderr) == (0, "")
    bundle = edgenlp.open_bundle(tmp_path / "bundle")
    assert bundle.name == "mood"
    assert bundle.source.name == "org/mood"
    assert bundle.source.revision == hub.commit("org/mood", "main")
    assert export(hub, tmp_path, "./main", "local").returncode == 0
    ours, theirs = (edgenlp.open_bundle(tmp_path / name).files for name in ("bundle", "local"))
    assert ours == theirs


def test_a_revision_is_another_model_and_is_kept_beside_the_first(hub: Hub, tmp_path: Path) -> None:
    for revision, out in (("main", "one"), ("v2", "two")):
        assert export(hub, tmp_path, "org/mood", out, "--revision", revision).returncode == 0
    one, two = (edgenlp.open_bundle(tmp_path / name) for name in ("one", "two"))
    assert one.files["model.weights"] != two.files["model.weights"]
    assert two.source.revision == hub.commit("org/mood", "v2")


def test_a_commit_names_the_same_as_its_branch(hub: Hub, tmp_path: Path) -> None:
    commit = hub.commit("org/mood", "v2")
    assert commit
    assert export(hub, tmp_path, "org/mood", "out", "--revision", commit).returncode == 0
    assert edgenlp.open_bundle(tmp_path / "out").source.revision == commit


def test_one_format_of_weights_is_fetched_and_nothing_that_is_not_read(hub: Hub, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "tf_model.h5", "modeling_mood.py", "onnx/model.onnx", "onnx/config.json"):
        (tmp_path / "main" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "main" / name).write_bytes(b"not needed")
    assert export(hub, tmp_path, "org/mood", "out").returncode == 0
    fetched = set(hub.downloaded())
    assert {"config.json", "model.safetensors"} <= fetched
    assert not fetched & {"pytorch_model.bin", "tf_model.h5", "modeling_mood.py", "model.onnx"}
    assert not any("onnx/config.json" in line for line in hub.asked if line.startswith("GET") and "/resolve/" in line)


def test_shards_are_fetched_with_their_index(hub: Hub, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "parts", "bert", "masked_lm", seed=1, shards=2)
    hub.models["org/parts", "main"] = tmp_path / "parts"
    done = export(hub, tmp_path, "org/parts", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "model.safetensors.index.json" in hub.downloaded()


def test_weights_of_pytorch_are_fetched_where_there_are_no_others(hub: Hub, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "old", "bert", "masked_lm", seed=1)
    (tmp_path / "old" / "model.safetensors").unlink()
    shutil.copy(Path(__file__).parent / "data" / "torch_zip.bin", tmp_path / "old" / "pytorch_model.bin")
    hub.models["model-of-old", "main"] = tmp_path / "old"
    done = export(hub, tmp_path, "model-of-old", "out")
    assert "pytorch_model.bin" in hub.downloaded()
    assert "word_embeddings" in done.stderr  # it was read, and holds other tensors than BERT's


def test_nothing_is_fetched_twice_and_offline_opens_no_socket(hub: Hub, tmp_path: Path) -> None:
    assert export(hub, tmp_path, "org/mood", "one").returncode == 0
    hub.asked.clear()
    assert export(hub, tmp_path, "org/mood", "two").returncode == 0
    assert hub.downloaded() == []
    hub.asked.clear()
    done = export(hub, tmp_path, "org/mood", "three", "--offline", blocked=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert hub.asked == []
    files = [edgenlp.open_bundle(tmp_path / name).files for name in ("one", "two", "three")]
    assert files[0] == files[1] == files[2]


def test_the_cache_may_be_elsewhere(hub: Hub, tmp_path: Path) -> None:
    assert export(hub, tmp_path, "org/mood", "out", "--cache-dir", "kept").returncode == 0
    assert list((tmp_path / "kept").rglob("model.safetensors"))
    assert not list((tmp_path / "home").rglob("model.safetensors"))
    done = export(hub, tmp_path, "org/mood", "again", "--offline")
    assert done.returncode == 1
    assert "not in the cache" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["org/none", "out"], "neither a folder nor a model 'org/none' on the Hub"),
        (["org/mood", "out", "--revision", "v9"], "org/mood has no revision 'v9'"),
        (["org/closed", "out"], "org/closed is open only to those who accepted its terms"),
        (["org/empty", "out"], "org/empty on the Hub has no config.json"),
        (["org/new", "out", "--offline"], "org/new is not in the cache, and --offline"),
        (["./main", "out", "--revision", "v2"], "is a folder, which has no revisions"),
        (
            ["./nothing", "out"],
            r"no folder 'nothing'; give a checkpoint's folder, or the name of a model on the Hub",
        ),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(arguments: list[str], said: str, hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("org/closed")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").write_text("# nothing\n", encoding="utf-8")
    hub.models["org/empty", "main"] = tmp_path / "empty"
    done = export(hub, tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_hub_that_is_away_is_said_so(hub: Hub, tmp_path: Path) -> None:
    away = Hub()
    away.url = "http://127.0.0.1:9"
    done = export(away, tmp_path, "org/mood", "out")
    assert done.returncode == 1
    assert "the Hub cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['huggingface_hub'] = None; from edgenlp.cli import main;"
        " sys.exit(main(['export', 'org/mood', 'out']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'edgenlp[hub]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_name_is_told_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "mood").mkdir(parents=True)
    names = {
        "org/mood": False,
        "org/other": True,
        "gpt2": True,
        "./gpt2": False,
        "a/b/c": False,
        "../x": False,
        "/x": False,
        "": False,
    }
    assert {name: is_name(name) for name in names} == names
    assert not is_name(Path("org/other"))


def test_the_manifest_names_no_folder_of_this_machine(hub: Hub, tmp_path: Path) -> None:
    assert export(hub, tmp_path, "org/mood", "out").returncode == 0
    text = (tmp_path / "out" / "edgenlp.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["source"]["name"] == "org/mood"
