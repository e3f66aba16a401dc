"""The recipe: what it refuses, what it leaves behind, that it writes the same bytes twice."""

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import edgenlp_export
import onnx
import pytest
from checkpoints import ARCHITECTURES, write_checkpoint
from decoder_checkpoints import DECODERS
from edgenlp_export import convert
from edgenlp_export.quantize import SCHEMES
from seq2seq_checkpoints import SEQ2SEQ

import edgenlp
from edgenlp import CheckpointError, ExportError, UnsupportedError, VerificationError
from edgenlp.cli import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("export") / "tiny", "bert", "sequence_classification", seed=5)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("precision", SCHEMES)
def test_the_same_export_gives_the_same_bytes(precision: str, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        edgenlp_export.export(checkpoint, tmp_path / name, precision=precision)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert entries(tmp_path / "one") == ["edgenlp.json", "model.onnx", "model.weights", "tokenizer.json"]


def test_progress_ends_where_it_said(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    edgenlp_export.export(checkpoint, tmp_path / "bundle", progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert seen[-1][1] == seen[-1][2]


def test_only_a_bundle_is_replaced_and_only_by_force(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    edgenlp_export.export(checkpoint, target)
    with pytest.raises(ExportError, match="--force"):
        edgenlp_export.export(checkpoint, target)
    edgenlp_export.export(checkpoint, target, precision="int4", force=True)
    assert edgenlp.open_bundle(target).precision == "int4"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ExportError, match="not a bundle"):
        edgenlp_export.export(checkpoint, tmp_path / "mine", force=True)
    with pytest.raises(ExportError, match="is a file"):
        edgenlp_export.export(checkpoint, tmp_path / "mine" / "letter.txt", force=True)
    assert entries(tmp_path) == ["bundle", "mine"]


@pytest.mark.parametrize("failing", ["describe", "_files"])
def test_a_failed_export_leaves_nothing(
    failing: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, failing, full)
    with pytest.raises(ExportError, match="No space left on device; free some space"):
        edgenlp_export.export(checkpoint, tmp_path / "bundle")
    assert entries(tmp_path) == []


def test_an_interrupted_export_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    program = (
        "import sys, signal, edgenlp_export\n"
        "def stop(step, done, total):\n"
        "    if step == 'verifying': signal.raise_signal(signal.SIGINT)\n"
        "edgenlp_export.export(sys.argv[1], sys.argv[2], progress=stop)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(checkpoint), str(tmp_path / "bundle")], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGINT
    assert entries(tmp_path) == []


def test_a_killed_export_leaves_nothing_that_looks_like_a_bundle(checkpoint: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys, signal, edgenlp_export\n"
        "def stop(step, done, total):\n"
        "    if step == 'verifying': os.kill(os.getpid(), signal.SIGKILL)\n"
        "edgenlp_export.export(sys.argv[1], sys.argv[2], progress=stop)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(checkpoint), str(tmp_path / "bundle")], check=False)
    assert not (tmp_path / "bundle").exists()
    assert not list(tmp_path.rglob("edgenlp.json"))


def test_kept_tensors_are_held_as_asked(checkpoint: Path, tmp_path: Path) -> None:
    edgenlp_export.export(
        checkpoint, tmp_path / "a", precision="int8", keep=["fp32=*layer.0.output*", "int4=*word_emb*"]
    )
    graph = onnx.load(tmp_path / "a" / "model.onnx", load_external_data=False).graph
    names = {tensor.name for tensor in graph.initializer}
    assert "bert.encoder.layer.0.output.dense.weight.weight" in names
    assert "bert.encoder.layer.1.output.dense.weight.int8" in names
    assert {node.op_type for node in graph.node} >= {"DynamicQuantizeMatMul", "MatMul", "GatherBlockQuantized"}
    assert edgenlp.open_bundle(tmp_path / "a").kept == (("*layer.0.output*", "fp32"), ("*word_emb*", "int4"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"precision": "int3"}, UnsupportedError, "no precision 'int3'"),
        ({"keep": ["fp32"]}, UnsupportedError, "expected PRECISION=PATTERN"),
        ({"keep": ["int7=*"]}, UnsupportedError, "expected PRECISION=PATTERN"),
        ({"keep": ["fp32=*nowhere*"]}, ExportError, "no quantized tensor is named"),
        ({"task": "text-to-speech"}, UnsupportedError, "no exporter for task"),
        ({"task": "translation"}, UnsupportedError, "is an encoder and cannot write"),
        ({"precision": "encoder=int8,decoder=int4"}, UnsupportedError, "only an encoder-decoder"),
        ({"precision": "encoder=int8"}, UnsupportedError, "name one, or both as in encoder=int8,decoder=int4"),
        ({"block": 64}, UnsupportedError, "a block size is for int4 and int8-block, and nothing here is held in them"),
        ({"precision": "int4", "block": 0}, UnsupportedError, "no block size 0; there are 16, 32, 64, 128, 256"),
        ({"precision": "int4", "block": "64"}, UnsupportedError, "no block size '64'"),
        ({"task": "question-answering"}, CheckpointError, "question-answering head needs"),
        ({"tolerance": 0.0}, VerificationError, "--tolerance"),
    ],
)
def test_a_wrong_wish_is_refused(
    options: dict[str, Any], error: type[Exception], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        edgenlp_export.export(checkpoint, tmp_path / "bundle", **options)
    assert entries(tmp_path) == []


def blocks_of(bundle: edgenlp.Bundle) -> set[int]:
    """Weights that share a scale, of all products and tables in blocks."""
    nodes = onnx.load(bundle.folder / "model.onnx", load_external_data=False).graph.node
    return {fact.i for node in nodes for fact in node.attribute if fact.name == "block_size"}


@pytest.mark.parametrize("precision", ["int4", "int8-block"])
def test_larger_blocks_make_a_smaller_bundle(precision: str, checkpoint: Path, tmp_path: Path) -> None:
    made = [
        edgenlp_export.export(checkpoint, tmp_path / str(block), precision=precision, block=block)
        for block in (16, None, 256)
    ]
    assert blocks_of(made[0]) == {16}
    assert made[0].size > made[1].size >= made[2].size
    assert max(blocks_of(made[2])) > 16


def test_block_size_of_the_command(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["export", str(checkpoint), str(tmp_path / "bundle"), "--keep", "int4=*word_emb*", "--block-size"]
    assert main([*asked, "16"]) == 0
    assert 16 in blocks_of(edgenlp.open_bundle(tmp_path / "bundle"))
    assert main([*asked, "48", "--force"]) == 1
    assert "no block size 48; there are 16, 32, 64, 128, 256" in capsys.readouterr().err


def test_a_head_can_be_left_out(checkpoint: Path, tmp_path: Path) -> None:
    bundle = edgenlp_export.export(checkpoint, tmp_path / "bundle", task="feature-extraction")
    assert bundle.tasks == ("feature-extraction", "sentence-similarity")


@pytest.mark.parametrize("values", [{"position_embedding_type": "relative_key"}, {"hidden_act": "xielu"}])
def test_an_architecture_without_an_exporter_is_named(values: dict[str, str], tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", "bert", "encoder", seed=1)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, **values}))
    with pytest.raises(UnsupportedError, match=next(iter(values.values()))):
        edgenlp_export.export(source, tmp_path / "bundle")


def test_every_listed_architecture_has_a_test_row() -> None:
    listed = dict(edgenlp_export.architectures())
    crossing = {name for name, tasks in listed.items() if "summarization" in tasks}
    assert crossing == {architecture.model_type for architecture in SEQ2SEQ.values()} | {"encoder-decoder"}
    listed = {name: tasks for name, tasks in listed.items() if name not in crossing}
    own = {"deberta", "deberta-v2", "longformer", "modernbert"}  # have test files of their own
    assert {name for name, tasks in listed.items() if tasks != ("text-generation",)} == set(ARCHITECTURES) | own
    # gemma3 is gemma3_text inside a checkpoint that also sees
    assert {name for name, tasks in listed.items() if tasks == ("text-generation",)} - {"gemma3"} == set(DECODERS)


@pytest.mark.parametrize("precision", SCHEMES)
def test_weights_of_a_shared_layer_and_a_tied_table_are_stored_once(precision: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "albert", "albert", "masked_lm", seed=1)
    edgenlp_export.export(source, tmp_path / "bundle", precision=precision)
    graph = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph
    layers = sum(node.op_type == "Attention" for node in graph.node)
    stored = [tensor.name for tensor in graph.initializer if "ffn_output.weight" in tensor.name]
    assert layers > 1
    assert len({name.rpartition(".")[0] for name in stored}) == 1
    table = [tensor for tensor in graph.initializer if "word_embeddings.weight" in tensor.name]
    places = {
        tuple(entry.value for entry in tensor.external_data)
        for tensor in table
        if not tensor.name.endswith(("scale16", "zero"))
    }
    assert len(places) == 1  # the embedding and the head read the same bytes


def test_no_initializer_is_left_unused(tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        source = write_checkpoint(tmp_path / architecture, architecture, "masked_lm", seed=1)
        edgenlp_export.export(source, tmp_path / f"{architecture}-bundle")
        graph = onnx.load(tmp_path / f"{architecture}-bundle" / "model.onnx", load_external_data=False).graph
        used = {name for node in graph.node for name in node.input}
        assert {tensor.name for tensor in graph.initializer} <= used


def test_nothing_fuses_the_norms_back(tmp_path: Path) -> None:
    # SkipLayerNormalization is slower than Add and LayerNormalization on this provider
    source = write_checkpoint(tmp_path / "source", "bert", "encoder", seed=1)
    edgenlp_export.export(source, tmp_path / "bundle")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(tmp_path / "bundle" / "model.onnx", options, providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node}
    assert not any(name.startswith("Skip") for name in operators)
    assert {"DynamicQuantizeMatMul", "Attention", "LayerNormalization"} <= operators


def test_the_licence_of_the_model_card_is_recorded(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", "bert", "encoder", seed=1)
    (source / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-nc-4.0\n---\n# A model\n")
    assert edgenlp_export.export(source, tmp_path / "bundle").source.licence == "cc-by-nc-4.0"
