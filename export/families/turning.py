"""Tables of rotary positions as nodes of a graph: formulas, so that no file holds them. Knows no attention."""

import numpy as np
from onnx import TensorProto

from ..graph import Graph
from .parts import Rotary
from .rotary import tables

__all__ = ["turns"]


def turns(graph: Graph, part: Rotary, window: int, name: str) -> tuple[str, str]:
    """Cosines and sines [window, pairs], which onnxruntime works out when it loads the graph.

    Args:
        graph: Where to.
        part: The rotary positions.
        window: How many.
        name: Of the tables, which are called `name`.cos and `name`.sin.
    """
    found = f"{name}.cos", f"{name}.sin"
    if part.dynamic:
        for label, table in zip(found, tables(part, window), strict=True):
            graph.tensor(label, table)
        return found
    ends = [graph.tensor(f"i64.scalar.{value}", np.array(value, np.int64)) for value in (0, window, 1)]
    places = graph.node("Cast", [graph.node("Range", ends, f"{name}/range")], f"{name}/places", to=TensorProto.FLOAT)
    down = graph.node("Unsqueeze", [places, graph.integers(1)], f"{name}/down")
    pace = graph.tensor(f"{name}/frequencies", np.array([part.frequencies], np.float32))
    angles = graph.node("Mul", [down, pace], f"{name}/angles")
    for op, label in zip(("Cos", "Sin"), found, strict=True):
        if part.factor == 1:
            graph.node(op, [angles], label)
        else:
            factor = graph.tensor(f"f32.{part.factor!r}", np.array(part.factor, np.float32))
            graph.node("Mul", [graph.node(op, [angles], f"{label}/plain"), factor], label)
    return found
