"""A traced encoder in the form that the runtime reads texts with: ids, lengths, perhaps types and rows in, one output.

Knows which inputs exporters give a graph and what they hold; masks, positions and types are worked out inside the graph. Knows no
architecture.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgenlp.errors import UnsupportedError

from .graphs import Traces
from .names import Names
from .quantize import TracedGraph, Writer

__all__ = ["LAYOUTS", "Facts", "write_reading"]

# How texts of several lengths stand beside each other in a graph: padding on the right; on the left, for models whose last position
# sums a text up (XLNet); on the right and held at 0, for those that look beyond a text's end (ConvBERT, MobileBERT)
LAYOUTS = ("right", "left", "silent")

_THROUGH = ("Add", "Cast", "Identity", "Mul", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Where")


class Facts(NamedTuple):
    """What was found on the way.

    Attributes:
        columns: Of the output.
        matrix: Name of the last linear layer's tensor, None where there is none.
        words: Name of the word table, None where none was found.
    """

    columns: int
    matrix: str | None
    words: str | None


def write_reading(
    graph: TracedGraph, source: Traces, names: Names, head: str, *, type_ids: bool, layout: str = "right"
) -> Facts:
    """Write the graph.

    Args:
        graph: Where to.
        source: The traced graph, cleaned.
        names: What its constants are called.
        head: Kind of the head.
        type_ids: Whether the tokenizer gives type ids.
        layout: One of `LAYOUTS`.

    Raises:
        UnsupportedError: The graph wants or gives what is not known.
    """
    left = layout == "left"
    inputs = _Inputs(graph, source, type_ids=type_ids, left=left)
    if layout == "silent":
        source = _silenced(source, inputs.silence())
    replaced = {name: inputs.give(name) for name in source.inputs}
    logits = f"traced/{'logits' if head != 'hidden-states' else 'last_hidden_state'}"
    _check_outputs(source, head)
    exact = frozenset() if head in ("hidden-states", "masked-lm") else _last_products(source)
    rows = graph.input("rows", ("rows",)) if head == "masked-lm" else None
    # positions move where texts are laid out anew: rows are then chosen at the end
    writer = Writer(
        graph, source, names, exact=exact,
        heads=frozenset({logits}) if rows and not left else frozenset(), rows=None if left else rows,
    )  # fmt: skip
    writer.write(replaced)
    last = sorted(writer.matrices[value] for value in _last_products(source) if value in writer.matrices)
    columns = _write_output(graph, source, writer, inputs, head, logits, rows)
    return Facts(columns, last[0] if last else None, writer.words)


def _silenced(source: Traces, masks: Mapping[int, str]) -> Traces:
    """The graph with 0 in place of what padding holds, wherever a text's end would see it: words, kernels, unfolded windows."""
    nodes: list[NodeProto] = []
    for original in source.nodes:
        node = copy.deepcopy(original)
        second = source.constants.get(node.input[1]) if len(node.input) > 1 else None
        rank = 0
        if node.op_type == "Conv" and second is not None and second.ndim == 3 and second.shape[2] > 1:
            rank = 3
        elif node.op_type == "Pad" and second is not None and second.size == 8:
            rank = 4
        if rank:
            quiet = f"{node.input[0]}/silent"
            if not any(quiet in item.output for item in nodes):
                nodes.append(helper.make_node("Mul", [node.input[0], masks[rank]], [quiet], name=quiet))
            node.input[0] = quiet
        nodes.append(node)
        if node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in source.constants:
            value = node.output[0]
            node.output[0] = f"{value}/loud"
            nodes.append(helper.make_node("Mul", [node.output[0], masks[0]], [value], name=value))
    return replace(source, nodes=nodes)


def _check_outputs(source: Traces, head: str) -> None:
    wanted = {"hidden-states": {"last_hidden_state"}, "question-answering": {"start_logits", "end_logits"}}.get(
        head, {"logits"}
    )
    if missing := sorted(wanted - source.outputs.keys()):
        raise UnsupportedError(
            f"the traced graph gives {', '.join(source.outputs)} and no {missing[0]}, so it is none for {head}; trace it with the"
            " --task that you export for"
        )


def _write_output(
    graph: TracedGraph, source: Traces, writer: Writer, inputs: "_Inputs", head: str, logits: str, rows: str | None
) -> int:
    """Declare what comes out; the number of its columns."""
    if head == "question-answering":
        both = [
            graph.node("Unsqueeze", [inputs.back(f"traced/{name}"), graph.integers(2)], f"/qa/{name}")
            for name in ("start_logits", "end_logits")
        ]
        graph.output(graph.node("Concat", both, "/qa/logits", axis=2), "logits", ("batch", "sequence", 2))
        return 2
    name = logits.removeprefix("traced/")
    columns = source.outputs[name].shape[-1] if source.outputs[name].shape else None
    if columns is None:
        raise UnsupportedError(
            f"the traced graph does not say how many columns its {name} has; trace it again, with fixed sizes of heads"
        )
    if head == "sequence-classification":
        graph.output(logits, name, ("batch", columns))
        return columns
    if rows and logits not in writer.chosen:
        flat = graph.node("Reshape", [inputs.back(logits), graph.integers(-1, columns)], "/rows/flat")
        logits = graph.node("Gather", [flat, rows], "/rows/chosen")
    elif not rows:
        logits = inputs.back(logits)
    graph.output(logits, name, (*(("rows",) if rows else ("batch", "sequence")), columns))
    return columns


def _last_products(source: Traces) -> frozenset[str]:
    """Values of the linear layers that the outputs come from, with nothing but shifts and layout in between."""
    makers = {name: node for node in source.nodes for name in node.output}
    found, pending = set(), [f"traced/{name}" for name in source.outputs]
    while pending:
        value = pending.pop()
        node = makers.get(value)
        if node is None:
            continue
        if _is_product(node, source):
            found.add(value)
        elif node.op_type == "Add" and (inner := _biased(node, makers, source)):
            found |= {value, inner}
        elif node.op_type in _THROUGH:
            pending += [name for name in node.input if name in makers]
    return frozenset(found)


def _is_product(node: NodeProto, source: Traces) -> bool:
    return node.op_type in ("MatMul", "Gemm") and node.input[1] in source.constants


def _biased(node: NodeProto, makers: Mapping[str, NodeProto], source: Traces) -> str | None:
    inner = next((name for name in node.input if name in makers and _is_product(makers[name], source)), None)
    return inner if any(name in source.constants for name in node.input) else None


class _Inputs:
    """Works the inputs of a traced encoder out of those that the runtime gives.

    Args:
        graph: Where to.
        source: The traced graph.
        type_ids: See `write_reading`.
        left: See `write_reading`.
    """

    def __init__(self, graph: TracedGraph, source: Traces, *, type_ids: bool, left: bool) -> None:
        self.graph = graph
        self.left = left
        self._source = source
        graph.input("input_ids", ("batch", "sequence"))
        if type_ids and "token_type_ids" in source.inputs:
            graph.input("token_type_ids", ("batch", "sequence"))
        graph.input("lengths", ("batch",))
        zero, one = graph.tensor("zero", np.array(0, np.int64)), graph.tensor("one", np.array(1, np.int64))
        length = graph.node("Shape", ["input_ids"], "/inputs/length", start=1, end=2)
        self._end = graph.node("Squeeze", [length], "/inputs/end")
        self._places = graph.node("Range", [zero, self._end, one], "/inputs/places")  # [sequence]
        self._lengths = graph.node("Unsqueeze", ["lengths", graph.integers(1)], "/inputs/lengths")  # [batch, 1]
        if left:
            self._padding = graph.node("Sub", [self._end, self._lengths], "/inputs/padding")
            self._origin = graph.node(
                "Sub", [self._places, self._padding], "/inputs/origin"
            )  # [batch, sequence], below 0 in padding
            self._taken = graph.node("Max", [self._origin, zero], "/inputs/taken")

    def give(self, name: str) -> str:
        """The value that stands for an input.

        Raises:
            UnsupportedError: Nobody knows what it should hold.
        """
        graph, dtype = self.graph, self._source.inputs[name].dtype
        if name == "input_ids" or (name == "token_type_ids" and name in graph.input_names):
            value = (
                name if not self.left else graph.node("GatherElements", [name, self._taken], f"/inputs/{name}", axis=1)
            )
        elif name == "attention_mask" and self.left:
            value = graph.node("GreaterOrEqual", [self._origin, "zero"], "/inputs/mask")
        elif name == "attention_mask":
            value = graph.node("Less", [self._places, self._lengths], "/inputs/mask")
        elif name in ("position_ids", "token_type_ids"):
            zeros = graph.node("Sub", ["input_ids", "input_ids"], f"/inputs/{name}/zeros")
            first = self._taken if self.left else self._places
            value = zeros if name == "token_type_ids" else graph.node("Add", [zeros, first], "/inputs/positions")
        else:
            raise UnsupportedError(
                f"the traced graph wants the input {name!r}, which no text gives; trace it with input_ids, attention_mask and"
                " token_type_ids only"
            )
        if dtype == (TensorProto.BOOL if name == "attention_mask" else TensorProto.INT64):
            return str(value)
        return str(graph.node("Cast", [value], f"/inputs/{name}/cast", to=dtype))

    def silence(self) -> dict[int, str]:
        """1 where a token stands and 0 in padding, by the rank of what it is multiplied with: [b, s, 1], [b, 1, s], [b, 1, s, 1]."""
        graph = self.graph
        if self.left:
            return {}
        kept = graph.node("Less", [self._places, self._lengths], "/silence/mask")
        floats = graph.node("Cast", [kept], "/silence/floats", to=TensorProto.FLOAT)
        return {
            rank: graph.node("Unsqueeze", [floats, graph.integers(*axes)], f"/silence/{rank}")
            for rank, axes in ((0, (2,)), (3, (1,)), (4, (1, 3)))
        }

    def back(self, value: str) -> str:
        """A value per token in the layout of the runtime: padding on the right."""
        if not self.left:
            return value
        graph = self.graph
        if not graph.has("last"):
            graph.tensor("last", np.array(-1, np.int64))
            there = graph.node("Add", [self._places, self._padding], "/outputs/place")
            last = graph.node("Add", [self._end, "last"], "/outputs/last")
            held = graph.node("Min", [there, last], "/outputs/held")
            graph.node("Unsqueeze", [held, graph.integers(2)], "/outputs/index")  # [batch, sequence, 1]
        return str(graph.node("GatherND", [value, "/outputs/index"], f"/outputs/{value}", batch_dims=1))
