"""A graph file to arrays. The one room that imports `onnxruntime`; knows no text, no task and no cache.

The graph is the contract: what it wants is read from its own input names, what it gives from its own output names and symbolic
dimensions.
"""

import functools
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import BundleError, DependencyError
from edgenlp.threads import granted

# onnxruntime 1.29 and later send telemetry unless told otherwise, before their first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
_IMPORTED_BEFORE = "onnxruntime" in sys.modules

import onnxruntime  # noqa: E402  # the switch above must come first

if _IMPORTED_BEFORE:
    onnxruntime.disable_telemetry_events()

__all__ = ["PRESETS", "Binding", "LogSoftmax", "Preset", "Session", "Tensor", "check_runtime"]

_FLOOR = (1, 31)  # the attention kernels of the graphs are younger than the operators' names


@dataclass(frozen=True)
class Preset:
    """How a machine's time and power are spent.

    Attributes:
        threads: Threads per call; None for all that the container grants.
        spinning: When threads wait for work by spinning, which is quicker by some microseconds a node (a fifth to a half of a small
            model's time) and keeps the processor busy: "never", "running" (only while a graph runs) or "always" (for a while after;
            of a bundle with several graphs "running").
        tokens: Most tokens, padding included, that one batch holds: the bound on memory.
    """

    threads: int | None
    spinning: str
    tokens: int


PRESETS: Mapping[str, Preset] = {
    "balanced": Preset(threads=None, spinning="running", tokens=2048),
    "latency": Preset(threads=None, spinning="always", tokens=2048),
    "throughput": Preset(threads=None, spinning="always", tokens=8192),
    "battery": Preset(threads=1, spinning="never", tokens=1024),
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph: `shape` holds numbers and the names of symbolic dimensions."""

    name: str
    dtype: Any
    shape: tuple[int | str | None, ...]


class Session:
    """A loaded graph; `run` may be called from many threads at once.

    Args:
        file: The `.onnx` file, its weights beside it; or a graph itself.
        threads: Threads per call; None for all that the container grants.
        spinning: See `Preset`.

    Raises:
        BundleError: onnxruntime cannot load the graph.
        DependencyError: The installed onnxruntime is too old.
    """

    def __init__(self, file: Path | bytes, *, threads: int | None = None, spinning: str = "never") -> None:
        check_runtime()
        self.spinning = spinning
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        options.intra_op_num_threads = threads or granted()
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # shapes differ from call to call: a pattern per shape would only pile up
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if spinning == "never" else "1")
        options.add_session_config_entry("session.force_spinning_stop", "0" if spinning == "always" else "1")
        if _saturates():  # exact kernels, which processors that do not need them run three times slower
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            model = file if isinstance(file, bytes) else str(file)
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise BundleError(
                f"onnxruntime {onnxruntime.__version__} cannot load {model!r}: {_first_line(error)}; export the bundle again,"
                " or upgrade onnxruntime"
            ) from error
        self.threads = options.intra_op_num_threads
        self.inputs = {item.name: _tensor(item) for item in self._session.get_inputs()}
        self.outputs = {item.name: _tensor(item) for item in self._session.get_outputs()}
        self._names = list(self.outputs)

    def run(self, feed: Mapping[str, NDArray[Any]], *, outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The graph's outputs by name.

        Args:
            feed: Every input of the graph by name, of any integer or float type; more names than the graph wants are left out.
            outputs: Names of those wanted; None for all.

        Raises:
            BundleError: The graph wants an input that was not given, or fails.
        """
        if missing := [name for name in self.inputs if name not in feed]:
            raise BundleError(f"the graph wants {', '.join(missing)}, which this task does not give; upgrade edgenlp")
        arrays = {name: np.asarray(feed[name], dtype=item.dtype) for name, item in self.inputs.items()}
        try:
            names = self._names if outputs is None else outputs
            results: Sequence[NDArray[Any]] = self._session.run(names, arrays)
        except Exception as error:  # see above
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise BundleError(f"onnxruntime failed on {shapes}: {_first_line(error)}") from error
        return dict(zip(names, results, strict=True))


class Binding:
    """Arrays bound to a graph's inputs and outputs: runs read and write them where they are, and copy nothing.

    One array may be bound to an input and an output: the graph then updates it in place. Between two runs the contents of arrays may
    change, their places and shapes may not.

    Args:
        session: The graph.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._io = session._session.io_binding()
        self._kept: dict[int, tuple[NDArray[Any], Any]] = {}  # onnxruntime borrows the memory, it does not hold it

    def input(self, name: str, array: NDArray[Any]) -> None:
        """Bind a C-contiguous array of the input's own dtype."""
        self._io.bind_ortvalue_input(name, self._value(array))

    def output(self, name: str, array: NDArray[Any]) -> None:
        """Bind a C-contiguous array of exactly the shape and dtype that the output will have."""
        self._io.bind_ortvalue_output(name, self._value(array))

    def _value(self, array: NDArray[Any]) -> Any:
        if id(array) not in self._kept:
            assert array.flags.c_contiguous, "onnxruntime would copy it"
            self._kept[id(array)] = (array, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return self._kept[id(array)][1]

    def run(self) -> None:
        """Run the graph on what is bound.

        Raises:
            BundleError: The graph fails.
        """
        try:
            self._session._session.run_with_iobinding(self._io)
        except Exception as error:  # see above
            raise BundleError(f"onnxruntime failed: {_first_line(error)}") from error


# The graph y = LogSoftmax(x), float [r, c]: on one thread twice as fast as numpy, on two three times
_LOG_SOFTMAX = (
    b'\x08\x08:D\n\x12\n\x01x\x12\x01y"\nLogSoftmax\x12\x00Z\x15\n\x01x\x12\x10\n\x0e\x08\x01\x12\n\n\x03\x12\x01r\n\x03\x12'
    b"\x01cb\x15\n\x01y\x12\x10\n\x0e\x08\x01\x12\n\n\x03\x12\x01r\n\x03\x12\x01cB\x04\n\x00\x10\r"
)


class LogSoftmax:
    """Logarithms of the softmax of rows, as `edgenlp.logits.log_softmax` gives them.

    Args:
        session: From `like`; any number of these may share it.
    """

    @staticmethod
    def like(session: Session) -> Session:
        """What works it out beside `session`: on as many threads, or on one where those of `session` go on spinning after a run."""
        threads = 1 if session.spinning == "always" else session.threads
        return Session(_LOG_SOFTMAX, threads=threads, spinning=session.spinning)

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bound: tuple[NDArray[np.float32], NDArray[np.float32], Binding] | None = None

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of x [rows, columns], in a buffer that the next call of that shape writes over."""
        if self._bound is None or self._bound[0] is not x:
            y = self._bound[1] if self._bound and self._bound[1].shape == x.shape else np.empty_like(x)
            binding = Binding(self._session)
            binding.input("x", x)
            binding.output("y", y)
            self._bound = (x, y, binding)
        self._bound[2].run()
        return self._bound[1]


# The graph y = MatMulInteger(a, b), a uint8 [m, k], b int8 [k, n]: the runtime has no package that could write it.
_PROBE = (
    b'\x08\x08\x12\x00:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01pZ\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12'
    b"\x01m\n\x03\x12\x01kZ\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01nb\x15\n\x01y\x12\x10\n\x0e\x08\x06\x12"
    b"\n\n\x03\x12\x01m\n\x03\x12\x01nB\x04\n\x00\x10\n"
)


@functools.cache
def _saturates() -> bool:
    """Whether this processor's int8 products are wrong by default.

    x86 without VNNI adds pairs of u8 x s8 products in 16 bits, which overflow for large values. Asking the processor what it is would
    need a table of processors; asking it to multiply does not.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    probe = onnxruntime.InferenceSession(_PROBE, options, providers=["CPUExecutionProvider"])
    feed = {"a": np.full((4, 64), 255, np.uint8), "b": np.full((64, 16), 127, np.int8)}
    return bool((probe.run(None, feed)[0] != 64 * 255 * 127).any())


def check_runtime() -> None:
    """Raise `DependencyError` where onnxruntime is older than the graphs need."""
    found = onnxruntime.__version__
    if tuple(int(part) for part in found.split(".")[:2]) < _FLOOR:
        floor = ".".join(map(str, _FLOOR))
        raise DependencyError(f"onnxruntime {found} is too old, {floor} is needed: pip install 'onnxruntime>={floor}'")


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(int8)": np.int8,
}


def _tensor(item: Any) -> Tensor:
    if item.type not in _DTYPES:
        raise BundleError(f"the graph's {item.name} is a {item.type}, which no edgenlp writes; export the bundle again")
    return Tensor(item.name, _DTYPES[item.type], tuple(item.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
