"""A traced graph as it lies in its file, read and cleaned: what is constant is worked out, what is double or dead is gone.

Knows ONNX nodes and nothing of checkpoints, precisions or bundles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from edgenlp.errors import UnsupportedError

__all__ = ["Port", "Traces", "clean", "read_graph", "referenced", "renamed"]

_OLDEST, _NEWEST = 18, 24  # from 18 on no operator of a text model changed its meaning, only its types
# What may be worked out before the graph runs: cheap, exact, and the same on every machine
_FOLDED = frozenset(
    ("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Greater", "Less", "Mul", "Neg", "Not", "Pow",
     "Range", "Reciprocal", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where")
)  # fmt: skip
_GROWN = (
    1 << 16
)  # elements; a constant that would be larger than this and than what it is made of is worked out when it is needed
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


@dataclass(frozen=True)
class Port:
    """An input or output of the graph: its element type, and its dimensions, None where one is not a number."""

    name: str
    dtype: int
    shape: tuple[int | None, ...]


@dataclass
class Traces:
    """The graph: nodes in order, constants by name, and what goes in and out."""

    nodes: list[NodeProto]
    constants: dict[str, NDArray[Any]]
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    producer: tuple[str, str]


def read_graph(path: Path) -> Traces:
    """Read an ONNX file, and its weights where these lie beside it.

    Raises:
        UnsupportedError: It is no such file, or of a kind that cannot be carried over.
    """
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf, onnx and the file system each raise their own
        raise UnsupportedError(
            f"{path} cannot be read as an ONNX graph: {str(error).splitlines()[0]}; make it again"
        ) from error
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if foreign := sorted({item.domain for item in model.opset_import} - {"", "ai.onnx", "com.microsoft"}):
        raise UnsupportedError(
            f"{path} needs operators of {foreign[0]!r}, which onnxruntime does not have; export it without them"
        )
    if opset > _NEWEST or model.functions:
        raise UnsupportedError(
            f"{path} is of opset {opset} or has functions of its own; export it again with --opset {_OLDEST}"
        )
    if opset < _OLDEST:
        try:
            model = version_converter.convert_version(model, _OLDEST)
        except Exception as error:  # its errors are RuntimeErrors of C++
            raise UnsupportedError(
                f"{path} is of opset {opset} and cannot be brought to {_OLDEST}: {str(error).splitlines()[0]}; export it again with"
                f" --opset {_OLDEST}"
            ) from error
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    return Traces(
        list(graph.node),
        constants,
        {item.name: _port(item) for item in graph.input if item.name not in constants},
        {item.name: _port(item) for item in graph.output},
        (model.producer_name or "onnx", model.producer_version or "unknown"),
    )


def _port(item: onnx.ValueInfoProto) -> Port:
    kind = item.type.tensor_type
    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    return Port(item.name, kind.elem_type, sizes)


def clean(graph: Traces) -> None:
    """Work out what is constant, and drop what is double, does nothing, or is not needed. The graph computes what it did before."""
    _name_outputs(graph)
    _constants(graph)
    while _once(graph):
        pass
    _drop_dead(graph)
    _share_constants(graph)


def renamed(node: NodeProto, names: dict[str, str]) -> None:
    """Let a node, and the graphs inside it, read other values."""
    for place, name in enumerate(node.input):
        if name in names:
            node.input[place] = names[name]
    for inner in _inner(node):
        for item in inner.node:
            renamed(item, names)
        for output in inner.output:
            output.name = names.get(output.name, output.name)


def referenced(node: NodeProto) -> Iterator[str]:
    """Names of all values that a node reads, in the graphs inside it too."""
    yield from (name for name in node.input if name)
    for inner in _inner(node):
        for item in inner.node:
            yield from referenced(item)
        yield from (output.name for output in inner.output)


def _inner(node: NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g


def _name_outputs(graph: Traces) -> None:
    """Free the public names of outputs: what makes them gets a name of its own."""
    names = {name: f"traced/{name}" for name in graph.outputs}
    for node in graph.nodes:
        renamed(node, names)
        for place, name in enumerate(node.output):
            node.output[place] = names.get(name, name)
    for name, own in names.items():
        if name in graph.inputs or name in graph.constants:
            graph.nodes.append(helper.make_node("Identity", [name], [own]))


def _constants(graph: Traces) -> None:
    """Constants that are nodes become constants."""
    kept = []
    for node in graph.nodes:
        value = next((item for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            graph.constants[node.output[0]] = numpy_helper.to_array(value.t)
        else:
            kept.append(node)
    graph.nodes = kept


def _once(graph: Traces) -> bool:
    """One way through the graph; whether anything changed."""
    names: dict[str, str] = {}
    seen: dict[bytes, list[str]] = {}
    kept = []
    outputs = {f"traced/{name}" for name in graph.outputs}
    for node in graph.nodes:
        renamed(node, names)
        plain = not any(True for _ in _inner(node)) and node.op_type not in _RANDOM
        if node.op_type == "Identity" and node.output[0] not in outputs:
            names[node.output[0]] = node.input[0]
            continue
        if plain and _fold(graph, node, outputs):
            continue
        key = _key(node)
        if plain and key in seen and not outputs & set(node.output):
            names |= dict(zip(node.output, seen[key], strict=True))
            continue
        seen.setdefault(key, list(node.output))
        kept.append(node)
    changed = len(kept) < len(graph.nodes)
    graph.nodes = kept
    return changed


def _key(node: NodeProto) -> bytes:
    """What a node computes, whatever it is called."""
    bare = NodeProto()
    bare.CopyFrom(node)
    bare.name = bare.doc_string = ""
    del bare.metadata_props[:]
    bare.output[:] = ["" if not name else "x" for name in node.output]
    attributes = sorted(bare.attribute, key=lambda item: item.name)
    del bare.attribute[:]
    bare.attribute.extend(attributes)
    return bytes(bare.SerializeToString(deterministic=True))


def _fold(graph: Traces, node: NodeProto, outputs: set[str]) -> bool:
    """Work a node out where all that it reads is constant."""
    given = [name for name in node.input if name]
    if node.op_type not in _FOLDED or node.domain or outputs & set(node.output) or len(node.output) != 1:
        return False
    if any(name not in graph.constants for name in given):
        return False
    values = {name: graph.constants[name] for name in given}
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in values.items()
    ]
    single = helper.make_graph(
        [node], "one", ports, [helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)]
    )
    model = helper.make_model(single, opset_imports=[helper.make_opsetid("", _OLDEST)])
    found: Any = ReferenceEvaluator(model).run(None, values)
    result = np.asarray(found[0])
    if result.size > max(_GROWN, *(value.size for value in values.values())):
        return False
    graph.constants[node.output[0]] = result
    return True


def _drop_dead(graph: Traces) -> None:
    """Drop nodes and constants that no output needs."""
    needed = {f"traced/{name}" for name in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if needed & set(node.output):
            needed |= set(referenced(node))
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = {name: value for name, value in graph.constants.items() if name in needed}


def _share_constants(graph: Traces) -> None:
    """Constants of equal bytes become one."""
    first: dict[tuple[Any, ...], str] = {}
    names = {}
    for name, value in graph.constants.items():
        key = (value.dtype.str, value.shape, value.tobytes())
        if key in first:
            names[name] = first[key]
        first.setdefault(key, name)
    for node in graph.nodes:
        renamed(node, names)
    graph.constants = {name: value for name, value in graph.constants.items() if name not in names}
