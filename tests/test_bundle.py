"""The bundle's reader against folders that are damaged, hostile, or of another version."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import edgenlp_export
import pytest
from checkpoints import write_checkpoint

import edgenlp
from edgenlp import BundleError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bundle")
    write_checkpoint(place / "checkpoint", "bert", "sequence_classification", seed=1)
    edgenlp_export.export(place / "checkpoint", place / "bundle", precision="int8")
    return place / "bundle"


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def change(bundle: Path, **values: Any) -> None:
    manifest = bundle / "edgenlp.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **values}))


def refused(bundle: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        edgenlp.pipeline("text-classification", model=bundle)


def test_what_is_written_is_read_back_equal(bundle: Path) -> None:
    opened = edgenlp.open_bundle(bundle)
    before = (bundle / "edgenlp.json").read_bytes()
    from edgenlp.bundle import write_manifest

    write_manifest(opened, bundle)
    assert (bundle / "edgenlp.json").read_bytes() == before
    assert opened.tasks == ("text-classification", "zero-shot-classification")
    assert opened.head.labels == ("contradiction", "neutral", "entailment")
    assert opened.head.entailment == 2


def test_a_missing_folder_says_what_to_give(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "there is no folder")
    refused(tmp_path, "holds no edgenlp.json")


def test_a_checkpoint_is_not_a_bundle(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "bert", "encoder", seed=1)
    refused(tmp_path / "checkpoint", "edgenlp export")


@pytest.mark.parametrize("name", ["model.onnx", "model.weights", "tokenizer.json"])
def test_a_truncated_file_is_named(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, (bundle / name).stat().st_size // 2)
    refused(bundle, f"{name} has .* bytes, expected")


@pytest.mark.parametrize("name", ["model.onnx", "model.weights", "tokenizer.json"])
def test_an_altered_file_is_named(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 0x40
    (bundle / name).write_bytes(data)
    refused(bundle, f"{name} is not the file that was exported")


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.weights").unlink()
    refused(bundle, "model.weights is missing")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "", "a\\b", "c:x", "nul\0"])
def test_a_path_out_of_the_folder_is_refused(bundle: Path, name: str) -> None:
    files = json.loads((bundle / "edgenlp.json").read_text())["files"]
    change(bundle, files={**files, name: {"sha256": "0" * 64, "size": 1}})
    refused(bundle, "plain file name")


def test_a_link_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.weights").rename(tmp_path / "elsewhere")
    (bundle / "model.weights").symlink_to(tmp_path / "elsewhere")
    refused(bundle, "leads out of the bundle")


def test_a_graph_that_reaches_out_of_the_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    import hashlib

    graph = (bundle / "model.onnx").read_bytes().replace(b"model.weights", b"../odel.weigh")
    (tmp_path / "odel.weigh").write_bytes((bundle / "model.weights").read_bytes())
    (bundle / "model.onnx").write_bytes(graph)
    files = json.loads((bundle / "edgenlp.json").read_text())["files"]
    files["model.onnx"] = {"sha256": hashlib.sha256(graph).hexdigest(), "size": len(graph)}
    change(bundle, files=files)
    refused(bundle, "cannot load")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "upgrade edgenlp"),
        ({"format": 0}, "export the bundle again"),
        ({"format": "1"}, "does not say which format"),
        ({"window": -1}, "not a number of tokens"),
        ({"window": 10**12}, "not a number of tokens"),
        ({"window": True}, "expected int"),
        ({"window": None}, "expected int"),
        ({"tasks": "all"}, "expected tuple"),
        ({"tokenizer": []}, "expected an object"),
        ({"files": {"model.onnx": {"sha256": "0", "size": "big"}}}, "expected int"),
        ({"files": {}}, "not listed among the files"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_a_wrong_field_is_named(bundle: Path, values: dict[str, Any], message: str) -> None:
    change(bundle, **values)
    refused(bundle, message)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"a"', "[" * 100_000, "\xff\xfe", '{"format": 1}'])
def test_what_is_not_a_description_is_refused(bundle: Path, text: str) -> None:
    (bundle / "edgenlp.json").write_text(text, encoding="latin-1")
    refused(bundle, "edgenlp.json")


def test_a_window_wider_than_the_graph_is_an_error_of_ours(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "bert", "sequence_classification", seed=1)
    edgenlp_export.export(tmp_path / "checkpoint", tmp_path / "bundle", precision="fp32")
    change(tmp_path / "bundle", window=4096)
    pipe = edgenlp.pipeline("text-classification", model=tmp_path / "bundle")
    with pytest.raises(BundleError, match="onnxruntime failed on input_ids"):
        pipe("word " * 1000)


def test_a_task_that_the_head_does_not_serve_is_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="serves text-classification, zero-shot-classification, not fill-mask"):
        edgenlp.pipeline("fill-mask", model=bundle)
