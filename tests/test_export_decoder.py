"""What an export of a decoder writes: sizes, shared tables, second graphs, precisions of parts, and what it refuses."""

from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import onnx
import pytest
from checkpoints import write_checkpoint
from conftest import OpenBundle
from decoder_checkpoints import write_decoder
from decoder_goldens import case_of

from edgenlp.errors import ExportError, UnsupportedError
from edgenlp.model import open_model

GPT2, LLAMA = case_of("gpt2"), case_of("llama, tied")
WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "head_dim": 64,
}


def graph_of(folder: Path, name: str = "model.onnx") -> onnx.GraphProto:
    return onnx.load(folder / name, load_external_data=False).graph


def products(folder: Path, name: str = "model.onnx") -> dict[str, str]:
    """Name of each matrix product to its operator, and its bits where it has them."""
    bits = {
        node.name: [item.i for item in node.attribute if item.name == "bits"] for node in graph_of(folder, name).node
    }
    return {
        node.name: node.op_type + "".join(map(str, bits[node.name]))
        for node in graph_of(folder, name).node
        if "MatMul" in node.op_type or node.op_type == "Gemm"
    }


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("llama") / "checkpoint", **LLAMA)


@pytest.fixture(scope="module")
def wide_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {**(LLAMA.get("config") or {}), **WIDE}
    return write_decoder(tmp_path_factory.mktemp("wide") / "source", **{**LLAMA, "config": config})


@pytest.mark.parametrize(
    ("options", "body", "head"),
    [
        ({"precision": "int8"}, 8, 8),
        ({"precision": "int8-block"}, 8, 8),
        ({"precision": "int4"}, 4, 8),
        ({"precision": "int4", "head": "int4"}, 4, 4),
    ],
)
def test_a_bundle_is_as_small_as_its_bits(
    options: dict[str, Any], body: int, head: int, wide_llama: Path, tmp_path: Path
) -> None:
    bundle = edgenlp_export.export(wide_llama, tmp_path / "bundle", tolerance=float("inf"), **options)
    tables = 512 * 384
    bound = ((bundle.source.parameters - tables) * body + tables * head) / 8
    places = {
        tuple(int(entry.value) for entry in tensor.external_data if entry.key in ("offset", "length"))
        for tensor in graph_of(tmp_path / "bundle").initializer
        if tensor.external_data
    }
    assert (
        sum(length for _, length in places) <= 1.05 * bound
    )  # what fills up pages, which a model this small feels, apart


def test_a_tied_table_is_stored_once(llama: Path, tmp_path: Path) -> None:
    for precision in ("fp32", "int8", "int4"):
        edgenlp_export.export(llama, tmp_path / precision, precision=precision, tolerance=float("inf"))
        places = {
            tuple(entry.value for entry in tensor.external_data)
            for tensor in graph_of(tmp_path / precision).initializer
            if "embed_tokens" in tensor.name and not tensor.name.endswith(("scale16", "scale", "zero"))
        }
        assert len(places) == 1


def test_parts_have_the_precision_that_was_asked_for(llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    edgenlp_export.export(llama, out, precision="int4", prompt="int8", tolerance=float("inf"))
    steps, prompts = products(out), products(out, "prompt.onnx")
    assert steps.pop("/head") == prompts.pop("/head") == "MatMulNBits8"
    assert set(steps.values()) == {"MatMulNBits4"}
    assert set(prompts.values()) == {"DynamicQuantizeMatMul"}
    assert open_model(out).bundle.head.precision == "int8-block"
    edgenlp_export.export(
        llama, out, precision="fp32", head="int4", keep=["int8=*layers.0.mlp*"], force=True, tolerance=9
    )
    found = products(out)
    assert found["/head"] == "MatMulNBits4"
    assert found["/layer.0/ffn/down"] == "DynamicQuantizeMatMul"
    assert found["/layer.1/ffn/down"] == "MatMul"


def test_prompts_are_read_by_their_own_graph(open_decoder_of: OpenBundle) -> None:
    """A prompt comes out as the fp32 graph says; what follows, steps and a few tokens at a time, as the int8 one does."""
    anything = {"tolerance": float("inf")}
    mixed = open_decoder_of(LLAMA, precision="int8", prompt="fp32", **anything).decoder
    exact = open_decoder_of(LLAMA, precision="fp32", head="int8", **anything).decoder
    coarse = open_decoder_of(LLAMA, precision="int8", **anything).decoder
    ids = [5 + (7 * place) % 300 for place in range(40)]
    after = {name: one.start(1, 80) for name, one in (("mixed", mixed), ("exact", exact), ("coarse", coarse))}
    prompt = {name: one.read([ids]) for name, one in after.items()}
    assert np.abs(prompt["mixed"] - prompt["exact"]).max() < 1e-4
    assert np.abs(prompt["coarse"] - prompt["exact"]).max() > 1e-3
    for name, buffer in after["coarse"].cache.buffers.items():  # go on from the same keys and values
        buffer[...] = after["mixed"].cache.buffers[name]
    for few in ([[9]], [[11, 12, 13, 14, 15]]):
        more = {name: one.read(few) for name, one in after.items()}
        assert np.abs(more["mixed"] - more["coarse"]).max() < 1e-4
        assert np.abs(more["mixed"] - more["exact"]).max() > 1e-3


def test_rotary_tables_are_formulas(llama: Path, tmp_path: Path) -> None:
    edgenlp_export.export(llama, tmp_path / "bundle", precision="fp32")
    graph = graph_of(tmp_path / "bundle")
    assert {"Cos", "Sin"} <= {node.op_type for node in graph.node}
    assert not [tensor.name for tensor in graph.initializer if tensor.name.endswith((".cos", ".sin"))]


def test_perplexity_is_measured(llama: Path, tmp_path: Path) -> None:
    parity = edgenlp_export.export(llama, tmp_path / "bundle", precision="fp32").parity
    assert parity["perplexity"] == pytest.approx(parity["reference_perplexity"], rel=1e-3)
    assert parity["agreement"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cache": "int4"}, "cache precision 'int4'; there are fp32, int8"),
        ({"prompt": "int9"}, "prompt precision 'int9'"),
        ({"head": "int2"}, "head precision 'int2'"),
        ({"task": "fill-mask"}, "--task text-generation"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str, llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=said):
        edgenlp_export.export(llama, tmp_path / "bundle", **options)
    assert not list(tmp_path.iterdir())


def test_an_encoder_has_nothing_to_write_with(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "bert", "bert", "masked_lm", seed=1)
    with pytest.raises(UnsupportedError, match="no cache"):
        edgenlp_export.export(source, tmp_path / "bundle", cache="int8")
    with pytest.raises(UnsupportedError, match="cannot write"):
        edgenlp_export.export(source, tmp_path / "bundle", task="text-generation")


@pytest.mark.parametrize("content", [None, b"", b" \n\n", b"\xff\xfe\x00"])
def test_a_calibration_file_must_hold_text(content: bytes | None, llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError, match=r"lines\.txt"):
        edgenlp_export.export(llama, tmp_path / "bundle", precision="int4", calibration=path)


def test_calibration_without_four_bits_is_refused(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("some text\n", encoding="utf-8")
    with pytest.raises(UnsupportedError, match="calibration is for int4"):
        edgenlp_export.export(llama, tmp_path / "bundle", calibration=tmp_path / "lines.txt")
    source = write_checkpoint(tmp_path / "bert", "bert", "masked_lm", seed=1)
    with pytest.raises(UnsupportedError, match="not calibrated"):
        edgenlp_export.export(source, tmp_path / "bundle", precision="int4", calibration=tmp_path / "lines.txt")


def test_calibration_is_repeatable_and_matters(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one two three\n" * 50, encoding="utf-8")
    options: dict[str, Any] = {"precision": "int4", "tolerance": float("inf")}
    digests = [
        edgenlp_export.export(llama, tmp_path / name, calibration=lines, **options).files["model.weights"].sha256
        for name, lines in (("a", path), ("b", path), ("c", None))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_block_size_is_also_that_of_layers_fitted_to_text(wide_llama: Path, tmp_path: Path) -> None:
    sizes = {}
    for block in (None, 32):
        edgenlp_export.export(wide_llama, tmp_path / f"{block}", precision="int4", block=block, tolerance=float("inf"))
        nodes = [node for node in graph_of(tmp_path / f"{block}").node if node.op_type == "MatMulNBits"]
        sizes[block] = {fact.i for node in nodes for fact in node.attribute if fact.name == "block_size"}
    assert sizes[32] == {32}
    assert max(sizes[None]) > 32


def test_int8_block_writes_the_same_in_any_batch(wide_llama: Path, tmp_path: Path) -> None:
    """To the last bit, which no other quantized precision promises."""
    edgenlp_export.export(wide_llama, tmp_path / "bundle", precision="int8-block")
    decoder = open_model(tmp_path / "bundle", threads=2).decoder
    prompts = [[5 + (7 * place + 3 * row) % 300 for place in range(length)] for row, length in enumerate((9, 12, 11))]
    batch = decoder.start(3, 32)
    together = batch.read(prompts)
    tokens = together.argmax(axis=1)
    steps = batch.step(tokens)
    for row, prompt in enumerate(prompts):
        single = decoder.start(1, 32)
        assert np.array_equal(single.read([prompt])[0], together[row])
        assert np.array_equal(single.step(tokens[row : row + 1])[0], steps[row])
