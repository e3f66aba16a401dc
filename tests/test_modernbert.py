"""ModernBERT against transformers 4.57.6, texts of all lengths side by side, and what its reader refuses."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import OpenBundle, check_loss, opener, outputs
from edgenlp_export import SCHEMES, export
from edgenlp_export.checkpoint import open_checkpoint
from edgenlp_export.families import modernbert_checkpoints
from edgenlp_export.graph import Graph
from goldens import GOLDENS, Window
from modernbert_checkpoints import CALLS, CASES, HEADS, kept, rows_of, windows_of, write_modernbert
from test_tasks_golden import differences

import edgenlp
from edgenlp.model import Model
from edgenlp.session import Session

RECORDED = json.loads((GOLDENS / "modernbert.json").read_text("utf-8"))
with np.load(GOLDENS / "modernbert.npz") as arrays:
    EXPECTED = {name: arrays[f"{number:03}"] for number, name in enumerate(RECORDED["cases"])}
QUANTIZED = [precision for precision in SCHEMES if precision != "fp32"]


@pytest.fixture(scope="module")
def opened() -> Iterator[OpenBundle]:
    """From arguments of `write_modernbert` to the opened bundle."""
    yield from opener(write_modernbert)


def nodes(model: Model) -> list[onnx.NodeProto]:
    path = model.bundle.folder / model.bundle.graphs["encoder"]
    return list(onnx.load(path, load_external_data=False).graph.node)


@pytest.mark.parametrize("name", CASES)
def test_graph_computes_what_transformers_computes(name: str, opened: OpenBundle) -> None:
    model = opened(CASES[name])
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    assert found.shape == EXPECTED[name].shape
    assert np.abs(found - EXPECTED[name]).max() <= 2e-5
    assert model.bundle.parity["max_difference"] <= 2e-5  # the reference in numpy says the same


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda number: f"{CALLS[number][0]}, {CALLS[number][2]}"[:60])
def test_answers_as_transformers_does(call: int, opened: OpenBundle) -> None:
    task, name, args, kwargs = CALLS[call]
    found = edgenlp.pipeline(task, model=opened(CASES[name]))(*args, **kwargs)
    assert differences(found, RECORDED["answers"][call]) == []


@pytest.mark.parametrize("name", [*HEADS, "mean", "last layer local", "last layer local, mean", "pruned heads"])
def test_batch_equals_singles(name: str, opened: OpenBundle) -> None:
    model = opened(CASES[name])
    longest = windows_of(name)[-1].ids
    # of one block; of blocks, the last of which is full, or of one token
    for lengths in ((5, 12, 1), (14, 17, 9, 16), (2, 60, 64, 61, 8)):
        windows = [Window(longest[:length], [0] * length) for length in lengths]
        rows = [[0, len(window.ids) - 1] for window in windows] if name == "masked_lm" else None
        together = outputs(model, windows, rows)
        for number, window in enumerate(windows):
            (single,) = outputs(model, [window], rows and [rows[number]])
            assert single.shape == together[number].shape
            assert np.abs(single - together[number]).max() <= 1e-5


@pytest.mark.parametrize("name", ["encoder", "mean", "sequence_classification"])
def test_what_padding_holds_is_never_seen(name: str, opened: OpenBundle) -> None:
    model = opened(CASES[name])
    session = Session(model.bundle.folder / model.bundle.graphs["encoder"])
    lengths = np.array([30, 7, 1])
    ids = np.random.RandomState(0).randint(0, 1500, (3, 30))
    (output,) = session.outputs
    answers = []
    for seed in (1, 2):
        other = np.random.RandomState(seed).randint(0, 1500, ids.shape)
        given = np.where(np.arange(30) < lengths[:, None], ids, other)
        found = session.run({"input_ids": given, "lengths": lengths})[output]
        answers.append([row[:length] if found.ndim == 3 else row for row, length in zip(found, lengths, strict=True)])
    for first, second in zip(*answers, strict=True):
        assert np.isfinite(first).all()
        assert np.abs(first - second).max() <= 1e-6


@pytest.mark.parametrize("name", ["sequence_classification", "last layer local"])
def test_a_classifier_computes_one_row_of_the_last_layer(name: str, opened: OpenBundle) -> None:
    last = len(open_layers(opened(CASES[name])))
    names = [node.name for node in nodes(opened(CASES[name]))]
    assert f"/layer.{last - 1}/attention/kv" in str(names)
    assert not any(f"/layer.{last - 1}/attention/qkv" in name for name in names)


def open_layers(model: Model) -> list[str]:
    return sorted({node.name.split("/")[1] for node in nodes(model) if node.name.startswith("/layer.")})


def test_no_array_grows_with_the_square_of_the_length(opened: OpenBundle) -> None:
    found = nodes(opened(CASES["encoder"]))
    assert [node.op_type for node in found].count("MultiHeadAttention") == 2  # layers 0 and 3, tiled by onnxruntime
    blocks = [node for node in found if node.op_type == "Attention"]
    assert [node.input[3] for node in blocks] == ["/blocks/biases"] * 2  # laid out once


def test_layer_types_and_rope_parameters_say_the_same(tmp_path: Path, opened: OpenBundle) -> None:
    newer = {
        "global_attn_every_n_layers": None,
        "global_rope_theta": None,
        "local_rope_theta": None,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    }
    bodies = []
    for number, config in enumerate(({}, newer)):
        folder = write_modernbert(tmp_path / str(number), "encoder", seed=0, config=config)
        with open_checkpoint(folder) as checkpoint:
            bodies.append(modernbert_checkpoints.read_encoder(checkpoint, "modernbert"))
    assert bodies[0] == bodies[1]


def test_export_reads_a_text_that_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of real windows no line of the sample is as long as that."""
    write_modernbert(tmp_path / "source", **CASES["real window"])
    plain = Graph.node

    def blind(graph: Graph, op: str, inputs: Sequence[str], name: str, **facts: Any) -> Any:
        """A block that is cut does not see its neighbours."""
        return plain(
            graph, op, [*inputs[:1], *inputs[2:], inputs[2]] if name == "/blocks/beside" else inputs, name, **facts
        )

    monkeypatch.setattr(Graph, "node", blind)
    with pytest.raises(edgenlp.EdgeNLPError, match="bundle's answers are"):
        export(tmp_path / "source", tmp_path / "bundle", precision="fp32")


@pytest.mark.parametrize("name", ["encoder", "all biases", "real heads"])
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    name: str, precision: str, opened: OpenBundle, report: Callable[[str], None]
) -> None:
    model = opened(CASES[name], precision=precision, tolerance=float("inf"))
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    check_loss(model, f"modernbert, {name:10}", found, EXPECTED[name], report)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_activation": "mish"}, "hidden_activation 'mish' is not supported"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' turns every token by the length"),
        ({"local_attention": 0}, "local_attention is 0, expected a whole number above 0"),
        ({"global_rope_theta": "big"}, "global_rope_theta is 'big', expected a number above 0"),
        ({"layer_types": ["full_attention"]}, "expected full_attention or sliding_attention for each layer"),
        ({"num_attention_heads": 32}, "rotary positions over 1 dimensions"),
        ({"num_attention_heads": 3}, "no whole heads of 10"),
    ],
)
def test_reader_says_what_is_wrong(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_modernbert(tmp_path / "source", "sequence_classification", seed=0)
    facts = json.loads((tmp_path / "source" / "config.json").read_text("utf-8"))
    (tmp_path / "source" / "config.json").write_text(json.dumps({**facts, **config}), "utf-8")
    with pytest.raises(edgenlp.EdgeNLPError, match=message):
        export(tmp_path / "source", tmp_path / "bundle", precision="fp32")


@pytest.mark.parametrize(
    "name",
    ["head.dense.weight", "model.final_norm.weight", "model.layers.1.attn_norm.weight", "classifier.bias"],
)
def test_reader_names_the_tensor_that_is_missing(name: str, tmp_path: Path) -> None:
    write_modernbert(tmp_path / "source", "sequence_classification", seed=0, left_out=[name])
    with pytest.raises(edgenlp.EdgeNLPError, match=f"no tensor '{name}'"):
        export(tmp_path / "source", tmp_path / "bundle")
