"""Nodes of a traced graph into a graph of ours, the large constants at the precision asked for. Knows operators, not architectures.

Products with a constant matrix become the linear layers of `export.graph`, with the bias that is added to them; those of one input
become one product. Tables become its tables. What else is large (kernels of convolutions, tensors of three dimensions) is held in 8
bits or float16 and is made float32 again when the graph is loaded.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from ..graph import Graph, Matrix
from .graphs import Traces, referenced
from .names import Names

__all__ = ["TracedGraph", "Writer"]

_SMALL = 1024  # elements: what is smaller stays as it is
_LAYOUT = ("Cast", "GatherElements", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_NARROW = 16  # inputs of a matrix: with fewer, a scale costs as much as it saves


class TracedGraph(Graph):
    """A graph that also takes nodes as they are."""

    def copy(self, node: NodeProto) -> None:
        """Append a node."""
        self._nodes.append(node)

    def has(self, name: str) -> bool:
        """Whether there is a constant of this name."""
        return name in self._tensors


@dataclass(frozen=True)
class _Linear:
    """X [..., in] times weight [out, in] plus bias."""

    x: str
    matrix: Matrix
    result: str
    shape: tuple[tuple[int, ...], tuple[int, ...]] | None = (
        None  # what x ends in and what comes out, where these are no vectors
    )


class Writer:
    """Copies a graph.

    Args:
        graph: Where to.
        source: The traced graph, cleaned.
        names: What its constants are called.
        exact: Values (outputs of nodes) whose matrix stays in float32 unless a pattern names it.
        heads: Values that are logits of a language model.
        rows: Name of the positions wanted of the values in `heads`, None for all.
    """

    def __init__(
        self,
        graph: TracedGraph,
        source: Traces,
        names: Names,
        *,
        exact: frozenset[str] = frozenset(),
        heads: frozenset[str] = frozenset(),
        rows: str | None = None,
    ) -> None:
        source = copy.deepcopy(source)  # its nodes are changed and given away
        self.graph = graph
        self.source = source
        self.names = names
        self.exact = exact
        self.heads = heads
        self.rows = rows
        self.chosen: set[str] = set()  # values of `heads` that hold the wanted rows only
        self.matrices: dict[str, str] = {}  # value to the name of the tensor that it is a product with
        self.words: str | None = None  # the table that is looked up by the ids
        self.ids = {"input_ids"}
        self._held: dict[str, tuple[NDArray[Any], NDArray[Any] | None]] = {}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in source.nodes:
            for name in referenced(node):
                self._readers[name].append(node)
        self._linears: dict[str, _Linear] = {}  # name of the value that it makes
        self._covered: set[str] = set()  # values that a linear layer swallows
        for node in source.nodes:
            self._find_linear(node)
        self._tables = {
            node.input[0] for node in source.nodes if node.op_type == "Gather" and self._is_table(node)
        } & source.constants.keys()

    def write(self, replaced: Mapping[str, str]) -> None:
        """Copy all nodes; `replaced` says which values stand for the traced graph's inputs."""
        together = self._together()
        done: set[str] = set()
        self.ids |= {replaced.get("input_ids", "input_ids")}
        for node in self.source.nodes:
            for place, name in enumerate(node.input):
                node.input[place] = replaced.get(name, name)
            value = node.output[0]
            if value in self._covered or value in done:
                continue
            if value in self._linears:
                members = together.get(value, [self._linears[value]])
                self._write_linears(members, replaced)
                done |= {member.result for member in members}
            elif node.op_type == "Gather" and node.input[0] in self._tables:
                self._write_table(node)
            else:
                for name in dict.fromkeys(referenced(node)):
                    if name in self.source.constants:
                        self._constant(name, node)
                self.graph.copy(node)

    # Linear layers

    def _find_linear(self, node: NodeProto) -> None:
        """Note the linear layer that a node is, with the bias that is added to it."""
        constants, value = self.source.constants, node.output[0]
        bias: NDArray[Any] | None = None
        shape = None
        if len(node.input) < 2 or node.input[1] not in constants or node.input[0] in constants:
            return
        array = constants[node.input[1]]
        if array.dtype != np.float32:
            return
        if node.op_type == "MatMul" and array.ndim == 2:
            weight = array.T
        elif node.op_type == "Gemm" and array.ndim == 2 and _is_plain_gemm(node):
            weight = array if _attribute(node, "transB", 0) else array.T
            if len(node.input) > 2 and node.input[2]:
                bias = constants.get(node.input[2])
                if bias is None or bias.shape != (len(weight),):
                    return
        elif node.op_type == "Einsum" and (found := _as_matrix(node, array)):
            weight, shape = found
        else:
            return
        if weight.size < _SMALL // 4 and value not in self.heads:
            return
        name = self.names.find(node.input[1], array, node.name)
        result = value
        readers = self._readers[value]
        if bias is None and shape is None and len(readers) == 1 and readers[0].op_type == "Add":
            other = next((item for item in readers[0].input if item != value), "")
            if other in constants and constants[other].size == len(weight) == constants[other].shape[-1:][0]:
                bias = constants[other].reshape(-1)
                self._covered.add(value)
                result = readers[0].output[0]
        self._linears[result] = _Linear(node.input[0], (self._unique(name, weight, bias), weight, bias), result, shape)
        self.matrices[result] = name

    def _unique(self, name: str, weight: NDArray[Any], bias: NDArray[Any] | None) -> str:
        """The name, changed where another layer has it with another weight or bias."""
        number, own = 1, name
        while own in self._held and not (
            np.array_equal(self._held[own][0], weight) and _equal(self._held[own][1], bias)
        ):
            number += 1
            own = f"{name}#{number}"
        self._held[own] = (weight, bias)
        return own

    def _is_exact(self, linear: _Linear) -> bool:
        return linear.result in self.exact or linear.matrix[1].shape[1] < _NARROW

    def _together(self) -> dict[str, list[_Linear]]:
        """Linear layers that read the same value and are held alike, by the value of each."""
        alike: dict[Any, list[_Linear]] = defaultdict(list)
        for linear in self._linears.values():
            if linear.result not in self.heads and not self._is_exact(linear) and linear.shape is None:
                alike[linear.x, self.graph.policy(linear.matrix[0])].append(linear)
        groups = [group for group in alike.values() if len({item.matrix[0] for item in group}) == len(group) > 1]
        return {item.result: group for group in groups for item in group}

    def _write_linears(self, members: list[_Linear], replaced: Mapping[str, str]) -> None:
        graph, first = self.graph, members[0]
        x = replaced.get(first.x, first.x)
        if first.result in self.heads:
            self._write_head(x, first)
        elif len(members) > 1:
            name = f"{first.result}/together"
            graph.linear(x, [item.matrix for item in members], name)
            sizes = graph.integers(*(len(item.matrix[1]) for item in members))
            graph.copy(
                helper.make_node(
                    "Split", [name, sizes], [item.result for item in members], name=f"{name}/split", axis=-1
                )
            )
        elif first.shape:
            into, out = first.shape
            if len(into) > 1:
                x = graph.node("Reshape", [x, graph.integers(0, 0, -1)], f"{first.result}/flat")
            product = f"{first.result}/product" if len(out) > 1 else first.result
            graph.linear(x, [first.matrix], product, exact=self._is_exact(first))
            if len(out) > 1:
                graph.copy(
                    helper.make_node(
                        "Reshape", [product, graph.integers(0, 0, *out)], [first.result], name=first.result
                    )
                )
        else:
            graph.linear(x, [first.matrix], first.result, exact=self._is_exact(first))

    def _write_head(self, x: str, linear: _Linear) -> None:
        """The product with the words, of the wanted rows, over the word table itself where it is the same."""
        graph, (key, weight, bias) = self.graph, linear.matrix
        table = next(
            (
                name
                for name in sorted(self._tables)
                if self.source.constants[name].shape == weight.shape
                and np.array_equal(self.source.constants[name], weight)
            ),
            None,
        )
        if self.rows:
            flat = graph.node("Reshape", [x, graph.integers(-1, weight.shape[1])], f"{linear.result}/flat")
            x = graph.node("Gather", [flat, self.rows], f"{linear.result}/rows")
            self.chosen.add(linear.result)
        if table is None:
            graph.linear(x, [linear.matrix], linear.result, head=True)
            return
        key = self.names.find(table, weight, table)
        if self.rows:
            graph.tied(x, key, weight, bias, linear.result)
            return
        flat = graph.node("Reshape", [x, graph.integers(-1, weight.shape[1])], f"{linear.result}/flat")
        product = graph.tied(flat, key, weight, bias, f"{linear.result}/words")
        shape = graph.node("Shape", [x], f"{linear.result}/shape", end=-1)
        shape = graph.node("Concat", [shape, graph.integers(len(weight))], f"{linear.result}/sizes", axis=0)
        graph.copy(helper.make_node("Reshape", [product, shape], [linear.result], name=linear.result))

    # Tables and other constants

    def _is_table(self, node: NodeProto) -> bool:
        array = self.source.constants.get(node.input[0])
        return (
            array is not None
            and array.ndim == 2
            and array.dtype == np.float32
            and array.size >= _SMALL
            and _attribute(node, "axis", 0) == 0
            and node.input[1] not in self.source.constants
        )

    def _looks_up_ids(self, node: NodeProto) -> bool:
        """Whether the rows that are looked up are `input_ids`, in whatever layout."""
        makers = {name: other for other in self.source.nodes for name in other.output}
        value = node.input[1]
        while value in makers and makers[value].op_type in _LAYOUT:
            value = makers[value].input[0]
        return value in self.ids

    def _write_table(self, node: NodeProto) -> None:
        graph, rows = self.graph, self.source.constants[node.input[0]]
        key = self.names.find(node.input[0], rows, node.name)
        tied = any(
            linear.result in self.heads and np.array_equal(linear.matrix[1], rows)
            for linear in self._linears.values()
            if linear.matrix[1].shape == rows.shape
        )
        if self.words is None and self._looks_up_ids(node):
            self.words = key
        graph.table(node.input[1], key, rows, node.output[0], head=tied)

    def _constant(self, name: str, node: NodeProto) -> None:
        """Hold a constant under its own name."""
        if self.graph.has(name) or name in self._held:
            return
        array = self.source.constants[name]
        own = self.names.find(name, array, node.name) if array.dtype == np.float32 and array.ndim > 1 else name
        scheme = (
            self.graph.policy(own) if array.ndim > 1 and array.size >= _SMALL and array.dtype == np.float32 else None
        )
        if scheme is None or scheme.matrix == "float32":
            self.graph.tensor(name, array)
            return
        self._held[name] = (array, None)
        if scheme.matrix == "float16":
            half = self.graph.tensor(f"{name}.half", array.astype(np.float16))
            self.graph.copy(helper.make_node("Cast", [half], [name], name=name, to=TensorProto.FLOAT))
            return
        axes = tuple(range(1, array.ndim))
        scales = np.maximum(np.abs(array).max(axis=axes, keepdims=True), 1e-30) / np.float32(127)
        levels = self.graph.tensor(f"{name}.int8", np.rint(array / scales).astype(np.int8))
        floats = self.graph.node("Cast", [levels], f"{name}.cast", to=TensorProto.FLOAT)
        scale = self.graph.tensor(f"{name}.scale", scales.astype(np.float32))
        self.graph.copy(helper.make_node("Mul", [floats, scale], [name], name=name))


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _is_plain_gemm(node: NodeProto) -> bool:
    return (
        _attribute(node, "alpha", 1.0) == 1.0
        and _attribute(node, "beta", 1.0) == 1.0
        and not _attribute(node, "transA", 0)
    )


def _as_matrix(
    node: NodeProto, array: NDArray[Any]
) -> tuple[NDArray[Any], tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """A sum of products over the last dimensions of x as a matrix [out, in], and what x ends in and what comes out.

    `ibh,hnd->ibnd` and `ibnd,hnd->ibh` are such (XLNet); x has two dimensions before those that are summed over.
    """
    left, _, out = _attribute(node, "equation", b"").decode().replace(" ", "").partition("->")
    x, _, letters = left.partition(",")
    summed = "".join(letter for letter in x if letter in letters and letter not in out)
    free = "".join(letter for letter in out if letter not in x)
    kept = x[: len(x) - len(summed)]
    if not summed or x != kept + summed or out != kept + free or len(kept) != 2 or set(letters) != set(summed + free):
        return None
    if len(letters) != len(set(letters)) or not free:
        return None
    sizes = dict(zip(letters, array.shape, strict=True))
    turned = array.transpose([letters.index(letter) for letter in free + summed])
    into, to = tuple(sizes[letter] for letter in summed), tuple(sizes[letter] for letter in free)
    return turned.reshape(int(np.prod(to)), -1), (into, to)


def _equal(left: NDArray[Any] | None, right: NDArray[Any] | None) -> bool:
    return left is right or (left is not None and right is not None and np.array_equal(left, right))
