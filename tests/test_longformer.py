"""Longformer against transformers 4.57.6 and against the numpy reference: windows, global tokens, blocks and padding."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import onnx
import pytest
from conftest import OpenBundle, check_loss, opener, outputs
from edgenlp_export import SCHEMES, families
from edgenlp_export.checkpoint import open_checkpoint
from edgenlp_export.graph import Graph
from edgenlp_export.reference import READING
from goldens import Json, Window
from longformer_checkpoints import (
    CALLS,
    MODELS,
    kept,
    load_calls,
    load_models,
    rows_of,
    windows_of,
    write_longformer,
)
from test_tasks_golden import differences

import edgenlp
from edgenlp.errors import CheckpointError, UnsupportedError, VerificationError
from edgenlp.session import Session

GOLDENS = load_models()
HEADS = ("sequence_classification", "token_classification", "question_answering", "masked_lm", "encoder")
QUANTIZED = [precision for precision in SCHEMES if precision != "fp32"]
LENGTHS = (1, 2, 8, 31, 32, 33, 40, 41, 48, 49, 64, 65, 97, 255, 256)  # about blocks of 32, and the longest that is one


@pytest.fixture(scope="module")
def open_longformer_of() -> Iterator[OpenBundle]:
    """As `open_bundle_of`, from arguments of `write_longformer`."""
    yield from opener(write_longformer)


def reference(folder: Path, case: Json, windows: Sequence[Window]) -> list[np.ndarray]:
    """What the numpy reference gives; a masked LM's every position."""
    with open_checkpoint(write_longformer(folder, **case)) as checkpoint:
        kind = families.family_of(checkpoint.config)
        body, head = families.read(checkpoint, kind, families.head_of(checkpoint.config, None))
        rows = [range(len(window.ids)) for window in windows]
        found: list[np.ndarray] = READING[type(body)](checkpoint, body, head, windows, rows)
        return found


def texts(seed: int, lengths: Sequence[int]) -> list[Window]:
    """Random texts, some with separators and padding inside."""
    stream = np.random.RandomState(seed)
    rows = [stream.randint(0, 30 if number % 2 else 1500, length) for number, length in enumerate(lengths)]
    return [Window([int(item) for item in ids], [0] * len(ids)) for ids in rows]


def apart(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    assert [array.shape for array in found] == [array.shape for array in expected]
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


def test_every_case_is_recorded() -> None:
    assert list(GOLDENS) == list(MODELS)
    assert len(load_calls()) == len(CALLS)


@pytest.mark.parametrize("name", MODELS)
def test_graph_computes_what_transformers_computes(name: str, open_longformer_of: OpenBundle) -> None:
    model = open_longformer_of(MODELS[name])
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    assert found.shape == GOLDENS[name].shape
    assert np.abs(found - GOLDENS[name]).max() <= 2e-5
    assert model.bundle.parity["max_difference"] <= 2e-5  # the reference in numpy says the same


@pytest.mark.parametrize("name", [*HEADS, *(f"{head}, windows" for head in HEADS), "question_answering, wide"])
def test_every_length_is_as_without_blocks(name: str, open_longformer_of: OpenBundle, tmp_path: Path) -> None:
    case, head = MODELS[name], MODELS[name]["head"]
    inputs = texts(1, LENGTHS)
    rows = [list(range(len(window.ids))) for window in inputs] if head == "masked_lm" else None
    model = open_longformer_of(case)
    found = [outputs(model, [window], rows and [rows[place]])[0] for place, window in enumerate(inputs)]
    assert apart(found, reference(tmp_path / "checkpoint", case, inputs)) <= 2e-5


def test_window_of_one_token_on_each_side(open_longformer_of: OpenBundle, tmp_path: Path) -> None:
    """Which transformers accepts and cannot run."""
    case = {"head": "encoder", "seed": 1, "config": {"attention_window": 2}}
    inputs = texts(2, (1, 2, 34, 35, 100))
    assert apart(outputs(open_longformer_of(case), inputs, None), reference(tmp_path / "one", case, inputs)) <= 2e-5


@pytest.mark.parametrize("head", HEADS)
def test_batch_equals_singles(head: str, open_longformer_of: OpenBundle) -> None:
    model = open_longformer_of(MODELS[f"{head}, windows"])
    inputs = texts(3, (120, 128, 61, 125, 127, 124))  # most in one padded run, with unequal numbers of global tokens
    rows = [[0, 5, len(window.ids) - 1] for window in inputs] if head == "masked_lm" else None
    batch = outputs(model, inputs, rows)
    singles = [outputs(model, [window], rows and [rows[number]])[0] for number, window in enumerate(inputs)]
    assert apart(batch, singles) <= 1e-5


@pytest.mark.parametrize("head", HEADS)
def test_padding_is_never_looked_at(head: str, open_longformer_of: OpenBundle) -> None:
    bundle = open_longformer_of(MODELS[head]).bundle
    session = Session(bundle.path(bundle.graphs["encoder"]), threads=1)
    lengths = np.array([29, 47, 3])
    stream = np.random.RandomState(4)
    real = stream.randint(0, 12, (3, 47))
    (name,) = session.outputs
    given = []
    for width in (47, 48, 49, 96, 256):
        ids = stream.randint(0, 12, (3, width))  # the padding holds separators, padding and words
        for row, length in enumerate(lengths):
            ids[row, :length] = real[row, :length]
        feed = {"input_ids": ids, "lengths": lengths}
        if head == "masked_lm":
            feed["rows"] = np.concatenate([np.arange(length) + row * width for row, length in enumerate(lengths)])
        found = session.run(feed)[name]
        if head not in ("masked_lm", "sequence_classification"):
            found = np.concatenate([found[row, :length] for row, length in enumerate(lengths)])
        given.append(found)
    assert all(np.isfinite(found).all() for found in given)
    assert apart(given[1:], given[:1] * 4) <= 1e-5


def test_export_reads_a_text_that_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of real windows no line of the sample is as long as that."""
    write_longformer(tmp_path / "source", "encoder", seed=1, config={"attention_window": 64})
    plain = Graph.node

    def blind(graph: Graph, op: str, inputs: Sequence[str], name: str, **facts: Any) -> Any:
        """A block that is cut does not see its neighbours."""
        inputs = [inputs[0], graph.integers(0)] if name == "/view/32/halo" else inputs
        return plain(graph, op, inputs, name, **facts)

    monkeypatch.setattr(Graph, "node", blind)
    with pytest.raises(VerificationError, match="bundle's answers are"):
        edgenlp_export.export(tmp_path / "source", tmp_path / "bundle", precision="fp32")


@pytest.mark.parametrize(("head", "more"), [("encoder", 0), ("sequence_classification", 1)])
def test_scores_grow_with_the_text_and_not_with_its_square(
    head: str, more: int, open_longformer_of: OpenBundle
) -> None:
    """The mask is as large as the scores of one head: read it from the graph."""
    bundle = open_longformer_of(MODELS[head]).bundle
    path = bundle.path(bundle.graphs["encoder"])
    model = onnx.load(path, load_external_data=False)
    model.graph.output.append(onnx.helper.make_tensor_value_info("/view/4/mask", onnx.TensorProto.FLOAT, None))
    opened = path.with_name("opened.onnx")
    opened.write_bytes(model.SerializeToString())
    session = Session(opened, threads=1)
    shapes = {}
    for length in (20, 40, 41, 128, 256):
        feed = {"input_ids": np.ones((1, length), np.int64), "lengths": np.array([length])}
        shapes[length] = session.run(feed)["/view/4/mask"].shape
    opened.unlink()
    # blocks of at most 32 queries with 4 keys on each side; up to 40 tokens one block
    assert shapes == {
        20: (1, 1, 20, 20 + more),
        40: (1, 1, 40, 40 + more),
        41: (2, 1, 21, 29 + more),
        128: (4, 1, 32, 40 + more),
        256: (8, 1, 32, 40 + more),
    }


@pytest.mark.parametrize("head", ["masked_lm", "token_classification", "encoder"])
def test_projections_of_global_tokens_are_left_out_where_there_are_none(
    head: str, open_longformer_of: OpenBundle
) -> None:
    bundle = open_longformer_of(MODELS[head]).bundle
    model = onnx.load(bundle.path(bundle.graphs["encoder"]), load_external_data=False)
    assert not [item.name for item in model.graph.initializer if "_global" in item.name]


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("head", ["sequence_classification", "masked_lm", "encoder"])
def test_quantized_bundle_stays_within_its_tolerance(
    head: str, precision: str, open_longformer_of: OpenBundle, report: Callable[[str], None]
) -> None:
    model = open_longformer_of(MODELS[head], precision=precision, tolerance=float("inf"))
    found = kept(head, outputs(model, windows_of(head), rows_of(head)))
    check_loss(model, f"longformer {head:24}", found, GOLDENS[head], report)


@pytest.mark.parametrize("call", load_calls(), ids=lambda call: f"{call['task']}: {call['kwargs']}")
def test_pipeline_answers_as_transformers_does(call: Json, open_longformer_of: OpenBundle) -> None:
    model = open_longformer_of(call["checkpoint"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old names of options warn
        found = edgenlp.pipeline(call["task"], model=model)(*call["args"], **call["kwargs"])
    assert differences(found, call["result"]) == []


def refuse(tmp_path: Path, error: type[Exception], words: str, **values: Any) -> None:
    case = {"head": "encoder", "seed": 1, **values}
    with pytest.raises(error, match=words):
        edgenlp_export.export(write_longformer(tmp_path / "checkpoint", **case), tmp_path / "bundle")


def test_pruned_heads_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, UnsupportedError, "heads were pruned, which transformers cannot do", pruned=[1])


@pytest.mark.parametrize("window", [7, 0, -2, "8", True, [8, 8, 3], [8, None, 8]])
def test_impossible_window_is_refused(tmp_path: Path, window: object) -> None:
    refuse(tmp_path, CheckpointError, "expected an even number", config={"attention_window": window})


def test_windows_for_other_layers_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path, CheckpointError, "2 numbers for 3 layers", config={"attention_window": [8, 8]})


def test_separator_that_is_no_number_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path, CheckpointError, "sep_token_id is '</s>'", config={"sep_token_id": "</s>"})


def test_windows_of_dropped_layers_are_skipped(tmp_path: Path) -> None:
    case = MODELS["missing layer"]
    with open_checkpoint(write_longformer(tmp_path / "checkpoint", **case)) as checkpoint:
        body, _ = families.read(checkpoint, "longformer", "question-answering")
    assert [sight.reach for sight in body.sights] == [4, 2]
