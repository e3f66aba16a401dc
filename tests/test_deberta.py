"""DeBERTa against transformers 4.57.6: the same numbers and answers, for every switch of its configs."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import onnx
import pytest
from conftest import OpenBundle, check_loss, opener, outputs
from deberta_checkpoints import CASES, DISTANCES, rows_of, windows_of, write_deberta
from deberta_goldens import kept, load_answers, load_outputs
from edgenlp_export import SCHEMES
from edgenlp_export.families.deberta_distances import rows_of_distances
from edgenlp_export.families.deberta_parts import Distances
from goldens import Window
from test_tasks_golden import differences

import edgenlp
from edgenlp import CheckpointError, UnsupportedError

OUTPUTS, ANSWERS = load_outputs(), load_answers()
QUANTIZED = [precision for precision in SCHEMES if precision != "fp32"]
HEADS = ("sequence_classification", "token_classification", "question_answering", "masked_lm", "encoder")


@pytest.fixture(scope="module")
def open_deberta() -> Iterator[OpenBundle]:
    """As `open_bundle_of`, from arguments of `write_deberta`."""
    yield from opener(lambda folder, **case: write_deberta(folder, **case))


@pytest.mark.parametrize("name", OUTPUTS)
def test_graph_computes_what_transformers_computes(name: str, open_deberta: OpenBundle) -> None:
    model = open_deberta(CASES[name])
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    assert found.shape == OUTPUTS[name].shape
    assert np.abs(found - OUTPUTS[name]).max() <= 2e-5


@pytest.mark.parametrize("name", [*HEADS, "convolution", "few distances", "one layer, convolution"])
def test_batch_equals_singles(name: str, open_deberta: OpenBundle) -> None:
    model = open_deberta(CASES[name])
    longest = windows_of(name)[2]
    windows = [Window(longest.ids[:length], longest.type_ids[:length]) for length in (14, 17, 9, 16)]  # one padded run
    rows = [[0, 5, len(window.ids) - 1] for window in windows] if CASES[name]["head"] == "masked_lm" else None
    batch = outputs(model, windows, rows)
    for number, window in enumerate(windows):
        (single,) = outputs(model, [window], rows and [rows[number]])
        assert single.shape == batch[number].shape
        assert np.abs(single - batch[number]).max() <= 1e-5


@pytest.mark.parametrize(
    ("case", "expected"), list(zip(DISTANCES, ANSWERS["distances"], strict=True)), ids=map(str, DISTANCES)
)
def test_distances_fall_in_the_same_buckets(case: tuple[int, int, int], expected: list[int]) -> None:
    buckets, farthest, length = case
    span = max(buckets, 0) or max(farthest, length)
    part = Distances("", None, span=span, buckets=max(buckets, 0), farthest=farthest)
    found = rows_of_distances(np.arange(length - 1, -1, -1), part)
    assert (found == np.clip(np.array(expected) + span, 0, 2 * span - 1)).all()
    assert (np.diff(rows_of_distances(np.arange(-length, length), part)) >= 0).all()


@pytest.mark.parametrize("call", ANSWERS["calls"], ids=lambda call: str(call["task"]))
def test_pipelines_answer_alike(call: Mapping[str, Any], open_deberta: OpenBundle) -> None:
    pipe = edgenlp.pipeline(call["task"], open_deberta(call["checkpoint"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as transformers warns of words that this tokenizer does not mark
        found = pipe(*call["args"], **call["kwargs"])
    assert differences(json.loads(json.dumps(found)), call["result"]) == []


@pytest.mark.parametrize("name", ["encoder", "first", "own projections", "wide convolution"])
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    name: str, precision: str, open_deberta: OpenBundle, report: Callable[[str], None]
) -> None:
    model = open_deberta(CASES[name], precision=precision, tolerance=float("inf"))
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    check_loss(model, f"deberta, {name:17}", found, OUTPUTS[name], report)


def test_only_the_rows_of_near_distances_are_multiplied(open_deberta: OpenBundle, tmp_path: Path) -> None:
    """A graph has two products per layer with distances, over one index; the last layer of a classifier needs none."""
    write_deberta(tmp_path / "source", "sequence_classification", seed=1, config={"num_hidden_layers": 3})
    edgenlp_export.export(tmp_path / "source", tmp_path / "bundle", precision="fp32")
    nodes = onnx.load(tmp_path / "bundle" / "model.onnx", load_external_data=False).graph.node
    kinds = [node.op_type for node in nodes]
    assert kinds.count("GatherElements") == 4
    assert kinds.count("Expand") == 1
    assert kinds.count("Attention") == 3


def test_microsofts_own_head_is_found_without_being_named(open_deberta: OpenBundle, tmp_path: Path) -> None:
    case = dict(CASES["new head"])
    write_deberta(tmp_path / "source", **case)
    config = json.loads((tmp_path / "source" / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**config, "legacy": True}))
    edgenlp_export.export(tmp_path / "source", tmp_path / "bundle", precision="fp32")
    found = outputs(
        edgenlp.model.open_model(tmp_path / "bundle", threads=1), windows_of("new head"), rows_of("new head")
    )
    assert np.abs(kept("new head", found) - OUTPUTS["new head"]).max() <= 2e-5


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"conv_kernel_size": 4}, UnsupportedError, "must be odd"),
        ({"conv_kernel_size": 3, "conv_act": "maxout"}, UnsupportedError, "conv_act 'maxout'"),
        ({"hidden_act": "mish"}, UnsupportedError, "activation 'mish'"),
    ],
)
def test_what_the_family_lacks_is_named(
    config: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    write_deberta(tmp_path / "source", "encoder", seed=1, config=config)
    with pytest.raises(error, match=message):
        edgenlp_export.export(tmp_path / "source", tmp_path / "bundle")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"position_buckets": 64}, "32 rows for 64 buckets"),
        ({"share_att_key": False}, "pos_key_proj"),
        ({"position_biased_input": True}, "position_embeddings"),
        ({"num_attention_heads": 3}, "no whole heads of 10"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_deberta(tmp_path / "source", "encoder", seed=1)
    facts = json.loads((tmp_path / "source" / "config.json").read_text())
    (tmp_path / "source" / "config.json").write_text(json.dumps({**facts, **config}))
    with pytest.raises(CheckpointError, match=message):
        edgenlp_export.export(tmp_path / "source", tmp_path / "bundle")
