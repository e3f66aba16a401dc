"""Where the tokens of `input_ids` stand, as nodes of a graph. Knows ids and `lengths`, and no table and no weight."""

import numpy as np
from onnx import TensorProto

from ..graph import Graph

__all__ = ["before_end", "counted", "counted_but", "range_of"]


def range_of(graph: Graph, end: str, name: str) -> str:
    """0, 1, … end - 1, of `end` [1]."""
    zero, one = (graph.tensor(f"i64.scalar.{value}", np.array(value, np.int64)) for value in (0, 1))
    return str(graph.node("Range", [zero, graph.node("Squeeze", [end], f"{name}/end"), one], name))


def counted(graph: Graph, name: str) -> str:
    """0, 1, … [sequence], as many as `input_ids` has."""
    return range_of(graph, graph.node("Shape", ["input_ids"], f"{name}/length", start=1, end=2), name)


def counted_but(graph: Graph, skipped_id: int, name: str) -> str:
    """1, 2, … [batch, sequence] for the tokens that take a place, and 0 for those that are `skipped_id`.

    As `create_position_ids_from_input_ids` of transformers, less what it adds.
    """
    skipped = graph.tensor(f"i64.scalar.{skipped_id}", np.array(skipped_id, np.int64))
    equal = graph.node("Equal", ["input_ids", skipped], f"{name}/is_padding")
    real = graph.node("Cast", [graph.node("Not", [equal], f"{name}/is_token")], f"{name}/tokens", to=TensorProto.INT64)
    axis = graph.tensor("i64.scalar.1", np.array(1, np.int64))
    return str(graph.node("Mul", [graph.node("CumSum", [real, axis], f"{name}/count"), real], name))


def before_end(graph: Graph, name: str) -> str:
    """Whether tokens stand before the end of their text, [batch, sequence]."""
    ends = graph.node("Unsqueeze", ["lengths", graph.integers(1)], f"{name}/ends")
    return str(graph.node("Less", [counted(graph, f"{name}/places"), ends], name))
