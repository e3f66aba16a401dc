"""The graph's room: telemetry, exact int8 products, and what a graph wants."""

import subprocess
import sys
from pathlib import Path

import edgenlp_export
import numpy as np
import pytest
from checkpoints import write_checkpoint

from edgenlp import BundleError, DependencyError, session
from edgenlp.logits import log_softmax
from edgenlp.session import LogSoftmax, Session


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("session")
    write_checkpoint(place / "checkpoint", "bert", "sequence_classification", seed=2)
    edgenlp_export.export(place / "checkpoint", place / "bundle")
    return place / "bundle" / "model.onnx"


FEED = {"input_ids": np.array([[2, 9, 3]]), "token_type_ids": np.zeros((1, 3)), "lengths": np.array([3])}


@pytest.mark.parametrize("first", ["", "import onnxruntime;"])
def test_telemetry_is_off_whoever_imports_onnxruntime_first(first: str) -> None:
    program = (
        f"import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None); {first} import onnxruntime as ort; calls = []\n"
        "real = ort.disable_telemetry_events; ort.disable_telemetry_events = lambda: (calls.append(1), real())\n"
        if first
        else "import os; calls = [1]\n"
    ) + "import edgenlp.session; print(os.environ['ORT_DISABLE_TELEMETRY'], len(calls))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(("product", "saturates"), [(64 * 255 * 127, False), (64 * 32767 // 2, True)])
def test_a_wrong_product_means_that_this_processor_saturates(
    product: int, saturates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Probe:
        def __init__(self, *arguments: object, **options: object) -> None:
            pass

        def run(self, names: object, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(feed["a"]), feed["b"].shape[1]), product, np.int32)]

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", Probe)
    assert session._saturates.__wrapped__() is saturates


def test_exact_kernels_give_the_same_answer_where_the_others_are_right(
    monkeypatch: pytest.MonkeyPatch, graph: Path
) -> None:
    plain = session.Session(graph, threads=1).run(FEED)["logits"]
    monkeypatch.setattr(session, "_saturates", lambda: True)
    exact = session.Session(graph, threads=1).run(FEED)["logits"]
    assert np.abs(plain - exact).max() < 1e-4


def test_every_missing_input_is_named(graph: Path) -> None:
    with pytest.raises(BundleError, match="input_ids, token_type_ids, lengths"):
        session.Session(graph, threads=1).run({})


def test_inputs_of_other_integer_types_are_taken(graph: Path) -> None:
    loaded = session.Session(graph, threads=1)
    small = {name: array.astype(np.int32) for name, array in FEED.items()}
    assert np.array_equal(loaded.run(small)["logits"], loaded.run(FEED)["logits"])


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot load"):
        session.Session(tmp_path / "model.onnx")


def test_an_old_onnxruntime_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.onnxruntime, "__version__", "1.20.1")
    with pytest.raises(DependencyError, match=r"pip install 'onnxruntime>=1\.31'"):
        session.check_runtime()


@pytest.mark.parametrize("shape", [(1, 7), (4, 1000), (33, 65)])
def test_log_softmax_is_that_of_numpy(shape: tuple[int, int], graph: Path) -> None:
    random = np.random.default_rng(1)
    normal = LogSoftmax(LogSoftmax.like(Session(graph, threads=2)))
    x = (5 * random.standard_normal(shape)).astype(np.float32)
    for _ in range(2):  # the second time with what was bound the first time
        x[0, 0] += 20
        found = normal(x)
        assert np.abs(found - log_softmax(x.astype(np.float64))).max() < 1e-5
    other = (x - 3).copy()
    assert np.abs(normal(other) - log_softmax(x)).max() < 1e-5
    assert normal(x[:1]).shape == (1, shape[1])
