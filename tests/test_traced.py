"""Graphs that optimum traced, exported without PyTorch: the same numbers and the same pipelines, at every precision."""

import json
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import edgenlp_export
import numpy as np
import onnx
import pytest
from edgenlp_export.checkpoint import open_checkpoint
from edgenlp_export.traced import growing_road, optimum
from edgenlp_export.traced.describe import source_multiple
from edgenlp_export.traced.graphs import clean, read_graph
from edgenlp_export.traced.names import Names
from edgenlp_export.traced.verify import Question, run_single
from onnx import TensorProto, helper, numpy_helper

import edgenlp
from edgenlp.cli import main
from edgenlp.errors import CheckpointError, DependencyError, ExportError, UnsupportedError, VerificationError
from edgenlp.model import Model, open_model

DATA = Path(__file__).parent / "data" / "traced"
CASES: dict[str, dict[str, Any]] = json.loads((DATA / "answers.json").read_text("utf-8"))["cases"]
ANSWERS: dict[str, np.ndarray] = dict(np.load(DATA / "answers.npz"))
TASKS = {
    "causal-lm": "text-generation",
    "hidden-states": "feature-extraction",
    "masked-lm": "fill-mask",
    "question-answering": "question-answering",
    "seq2seq-lm": "text2text-generation",
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
}
ONE_EACH = sorted({name.partition("-")[0]: name for name in sorted(CASES, reverse=True)}.values())
# Further from PyTorch than its scheme allows: of random weights with LongT5's unscaled attention over sums of blocks. It is refused
BEYOND = {("longt5_global-seq2seq-lm", "int8-block"), ("longt5_global-seq2seq-lm", "int4")}
QUANTIZED = [precision for precision in edgenlp_export.SCHEMES if precision != "fp32"]


def head_of(name: str) -> str:
    return name.partition("-")[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a case to its checkpoint, its graphs in the folder `onnx` of it."""

    def folder(name: str) -> Path:
        place = tmp_path_factory.getbasetemp() / "traced" / name
        if not place.exists():
            with tarfile.open(DATA / f"{name}.tar.xz") as archive:
                archive.extractall(place, filter="data")
        return place

    return folder


@pytest.fixture(scope="module")
def opened(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Model]]:
    """A function from a case to its bundle, exported once."""
    models: dict[tuple[str, str], Model] = {}

    def model(name: str, precision: str = "fp32", **options: Any) -> Model:
        key = name, precision + repr(options)
        if key not in models:
            source, target = unpacked(name), tmp_path_factory.mktemp("bundles") / "bundle"
            edgenlp_export.export(
                source, target, graphs=source / "onnx", precision=precision, task=TASKS[head_of(name)], **options
            )
            models[key] = open_model(target, threads=1)
        return models[key]

    yield model
    models.clear()


def answers(model: Model, name: str) -> list[np.ndarray]:
    """What the bundle says of the recorded windows, all of them at once."""
    case, head = CASES[name], head_of(name)
    windows = [Question(*window) for window in case["windows"]]
    if head == "causal-lm":
        texts = [window.ids for window in windows]
        return list(model.decoder.start(len(texts), 64).read(texts, every=True))
    if head == "seq2seq-lm":
        rows = model.seq2seq.read([window.ids for window in windows]).start(len(windows))
        return list(rows.read(case["targets"], every=True))
    rows = [range(len(window.ids)) for window in windows] if head == "masked-lm" else None
    (output,) = model.encoder.outputs
    return [found[output] for found in model.encoder(windows, rows=rows)]


@pytest.mark.parametrize("name", CASES)
def test_bundle_computes_what_pytorch_computes(
    name: str, opened: Callable[..., Model], report: Callable[[str], None]
) -> None:
    worst = 0.0
    for place, found in enumerate(answers(opened(name), name)):
        kept = found.reshape(-1)[:: max(1, found.size // 200)]
        worst = max(worst, float(np.abs(kept - ANSWERS[f"{name}-{place}"]).max()))
    report(f"traced fp32       {name:38} largest difference from PyTorch {worst:.1e}")
    assert worst <= 1e-4


@pytest.mark.parametrize("name", CASES)
def test_pipelines_answer_as_those_of_transformers(name: str, opened: Callable[..., Model]) -> None:
    task = edgenlp.pipeline(TASKS[head_of(name)], model=opened(name))
    options = {"max_new_tokens": 10, "do_sample": False} if head_of(name) in ("causal-lm", "seq2seq-lm") else {}
    for given, expected in CASES[name]["pipeline"]:
        found = task(**given) if isinstance(given, dict) else task(given, **options)
        assert differences(json.loads(json.dumps(found, default=lambda value: value.tolist())), expected) == []


def differences(found: Any, expected: Any) -> list[str]:
    if isinstance(expected, dict) and isinstance(found, dict) and set(found) == set(expected):
        return [line for key in expected for line in differences(found[key], expected[key])]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        return [line for one, other in zip(found, expected, strict=True) for line in differences(one, other)]
    if isinstance(expected, float) and isinstance(found, float):
        return [] if abs(found - expected) <= 1e-4 else [f"{found} is not {expected}"]
    return [] if found == expected else [f"{found!r} is not {expected!r}"]


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    name: str, precision: str, opened: Callable[..., Model], report: Callable[[str], None]
) -> None:
    bundle = opened(name, precision, tolerance=float("inf")).bundle
    error = bundle.parity["relative_error"]
    report(
        f"traced {precision:10} {name:38} relative error {error:.4f}, {bundle.size} bytes, {opened(name).bundle.size} in fp32"
    )
    assert (error > edgenlp_export.SCHEMES[precision].tolerance) == ((name, precision) in BEYOND)


@pytest.mark.parametrize(("name", "precision"), sorted(BEYOND))
def test_quantized_bundle_beyond_its_tolerance_is_refused(
    name: str, precision: str, unpacked: Callable[[str], Path], tmp_path: Path
) -> None:
    source = unpacked(name)
    with pytest.raises(VerificationError, match="choose a higher precision"):
        edgenlp_export.export(
            source, tmp_path / "out", graphs=source / "onnx", precision=precision, task=TASKS[head_of(name)]
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "width"), [("led-seq2seq-lm", 1), ("longt5-seq2seq-lm", None), ("longt5_global-seq2seq-lm", None)]
)
def test_sources_of_any_length_share_a_run(name: str, width: int | None, opened: Callable[..., Model]) -> None:
    model = opened(name)
    growing = model.bundle.growing
    assert growing is not None
    assert (growing.width, growing.source_multiple) == (width, 8)
    stream = np.random.RandomState(7)
    sources = [stream.randint(5, 150, count).tolist() for count in (1, 7, 8, 9, 33, 64)]
    targets = [[2, *stream.randint(5, 150, count).tolist()] for count in (3, 1, 6, 2, 5, 4)]
    together = model.seq2seq.read(sources).start(len(sources)).read(targets, every=True)
    for source, target, found in zip(sources, targets, together, strict=True):
        (alone,) = model.seq2seq.read([source]).start(1).read([target], every=True)
        assert np.abs(found - alone).max() <= 2e-5


def test_sources_are_filled_up_to_whole_blocks() -> None:
    assert source_multiple({"model_type": "t5"}) == 1
    assert source_multiple({"model_type": "longt5", "local_radius": 7}) == 8
    assert source_multiple({"model_type": "longt5"}) == 128
    summed = {"model_type": "longt5", "encoder_attention_type": "transient-global", "local_radius": 7}
    assert source_multiple({**summed, "global_block_size": 4}) == 8
    assert source_multiple(summed) == 16
    assert source_multiple({"model_type": "led", "attention_window": [8, 4, 16]}) == 16
    assert source_multiple({"model_type": "led", "attention_window": 1024}) == 1024
    assert source_multiple({"model_type": "led"}) == 512


def test_tensors_have_the_names_of_the_checkpoint(unpacked: Callable[[str], Path]) -> None:
    folder = unpacked("roformer-masked-lm")
    source = read_graph(folder / "onnx" / "model.onnx")
    clean(source)
    with open_checkpoint(folder) as checkpoint:
        names = Names(checkpoint)
        products = [node for node in source.nodes if node.op_type == "MatMul" and node.input[1] in source.constants]
        found = [names.find(node.input[1], source.constants[node.input[1]], node.name) for node in products]
        assert len(found) > 10
        assert all(name in checkpoint for name in found)


def test_keep_patterns_match_traced_tensors(opened: Callable[..., Model]) -> None:
    name = "roformer-sequence-classification"
    kept = opened(name, "int4", tolerance=float("inf"), keep=("fp32=*",)).bundle
    assert kept.parity["relative_error"] <= 1e-5
    with pytest.raises(ExportError, match="no quantized tensor is named"):
        opened(name, "int8", keep=("fp32=nothing*",))


def test_tied_words_are_stored_once(opened: Callable[..., Model]) -> None:
    bundle = opened("roformer-masked-lm").bundle
    graph = onnx.load(bundle.path("model.onnx"), load_external_data=False).graph
    tables = [tuple(item.dims) for item in graph.initializer if len(item.dims) > 1 and max(item.dims) > 100]
    assert len(tables) == 1  # the word table, of all that is as long as the vocabulary and has a second dimension


def test_bundle_says_where_its_graph_comes_from(opened: Callable[..., Model]) -> None:
    tools = opened("roformer-masked-lm").bundle.source.tools
    assert "pytorch" in tools
    assert "optimum-onnx" not in tools  # it was not asked
    assert tools["compared with"] == "the graphs given"


@pytest.mark.parametrize(
    "name", ["convbert-token-classification", "gptj-causal-lm", "led-seq2seq-lm", "longt5-seq2seq-lm"]
)
def test_command_traces_where_edgenlp_has_no_graph(
    name: str, unpacked: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    source = unpacked(name)

    def trace(folder: Path, out: Path, head: str, windows: Any, *, targets: Any = (), **_: Any) -> optimum.Traced:
        """What optimum made earlier; the recorded graphs stand in for PyTorch too."""
        shutil.copytree(folder / "onnx", out)
        if head == "causal-lm":
            found = growing_road.raw_answers(out, head, 1, [], [window.ids for window in windows])
        elif head == "seq2seq-lm":
            found = growing_road.raw_answers(out, head, 8, [window.ids for window in windows], targets)
        else:
            found = run_single(out / "model.onnx", windows, head)
        return optimum.Traced(out, found, {"optimum-onnx": "0.1.0", "torch": "2", "transformers": "4"})

    monkeypatch.setattr(optimum, "trace", trace)
    out = tmp_path / "out"
    assert main(["export", str(source), str(out), "--precision", "fp32", "--task", TASKS[head_of(name)]]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    bundle = open_model(out, threads=1).bundle
    named = bundle.source.architecture
    assert last == f"{named}: edgenlp has no graph of its own for it; traced through optimum-onnx 0.1.0"
    assert bundle.source.tools["optimum-onnx"] == "0.1.0"
    assert "compared with" not in bundle.source.tools
    assert bundle.parity["relative_error"] <= 1e-5


def test_reason_of_optimum_is_told_in_one_line(
    unpacked: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no operator for this\nTraceback ...")

    model = SimpleNamespace(config=SimpleNamespace(model_type="roformer"))
    monkeypatch.setattr(optimum, "_packages", lambda what: (None, SimpleNamespace(__version__="4"), None))
    monkeypatch.setattr(optimum, "version", lambda name: "0.1.0")
    monkeypatch.setattr(optimum, "_load", lambda *_: model)
    monkeypatch.setattr(optimum, "_answer", lambda *_: np.zeros((1, 1), np.float32))
    monkeypatch.setattr(optimum, "_export", fail)
    with pytest.raises(UnsupportedError) as raised:
        edgenlp_export.export(unpacked("roformer-masked-lm"), tmp_path / "out")
    assert str(raised.value) == (
        "roformer: optimum-onnx 0.1.0 cannot trace it as fill-mask: ValueError: no operator for this; try another --task, another"
        " version of optimum-onnx or transformers, or --graphs with graphs made elsewhere"
    )
    monkeypatch.setattr(optimum, "_answer", fail)
    with pytest.raises(
        UnsupportedError, match=r"roformer: transformers 4 itself runs it on no text: ValueError: no oper"
    ):
        edgenlp_export.export(unpacked("roformer-masked-lm"), tmp_path / "out")


def test_graph_of_one_length_is_refused(unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    folder = unpacked("roformer-sequence-classification")
    model = onnx.load(folder / "onnx" / "model.onnx")
    # the mask forgotten, as a trace does that takes it for all ones
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "attention_mask":
                node.input[place] = "input_ids"
    (tmp_path / "onnx").mkdir()
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    with pytest.raises(UnsupportedError, match="for some lengths of text only"):
        edgenlp_export.export(folder, tmp_path / "out", graphs=tmp_path / "onnx", task="text-classification")
    assert not (tmp_path / "out").exists()


def test_folder_without_graphs_is_refused(unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no graph"):
        edgenlp_export.export(unpacked("roformer-masked-lm"), tmp_path / "out", graphs=tmp_path)


def test_missing_extra_is_named_with_its_command(
    unpacked: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyError) as raised:
        edgenlp_export.export(unpacked("roformer-masked-lm"), tmp_path / "out")
    assert str(raised.value) == (
        "edgenlp has no graph of its own for roformer; tracing it needs torch: pip install 'edgenlp[trace]'"
    )


def test_cleaning_folds_shares_and_drops(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, np.float32))),
        helper.make_node("Mul", ["two", "w"], ["folded"]),
        helper.make_node("Shape", ["x"], ["size"]),
        helper.make_node("Shape", ["x"], ["size_again"]),
        helper.make_node("Concat", ["size", "size_again"], ["unused"], axis=0),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Add", ["same", "folded"], ["sum"]),
        helper.make_node("Add", ["sum", "copy"], ["y"]),
    ]
    w = np.arange(3, dtype=np.float32)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(a, n) for n, a in (("w", w), ("copy", 2 * w))]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    source = read_graph(tmp_path / "g.onnx")
    clean(source)
    assert [node.op_type for node in source.nodes] == ["Add", "Add"]
    assert len(source.constants) == 1
