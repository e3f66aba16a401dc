"""Texts cut into blocks, so that attention within a window costs as much as the window is wide. Knows rows, and no weights.

A text of at most three half windows is one block, whose tokens see each other under a mask: blocks would cost it as much. A longer one
is cut into blocks of half a window; a block's tokens see the block and its two neighbours under a mask. One graph does both: the sizes
are worked out as it runs.
"""

import numpy as np

from ..graph import Graph
from .modernbert_parts import cut_from
from .places import range_of

__all__ = ["HIDDEN", "Cutter"]

# what hides a key: its weight is 0 in float32, and a row that sees nothing, as padding may, is still made of numbers
HIDDEN = -1e6


class Cutter:
    """Cuts arrays [batch, sequence, width] into blocks [batch * blocks, rows, width], and joins them again.

    Args:
        graph: Which has `input_ids` and `lengths`; the layout is written once, here.
        window: Tokens that a token sees to both sides, itself included.

    Attributes:
        bias: 0 where a query sees a key, else far below: [batch * blocks, 1, rows, rows seen].
    """

    def __init__(self, graph: Graph, window: int) -> None:
        self._graph = graph
        self._shapes: dict[tuple[str, int], str] = {}
        half = window // 2
        node, integers = graph.node, graph.integers
        one = integers(1)
        self._length = node("Shape", ["input_ids"], "/blocks/length", start=1, end=2)  # [1], as all sizes here
        block, whole = max(half, 1), self._length
        cut = node("GreaterOrEqual", [self._length, integers(cut_from(window))], "/blocks/cut")
        self._size = node("Where", [cut, integers(block), whole], "/blocks/size")
        beside = node("Where", [cut, integers(half), integers(0)], "/blocks/beside")
        twice = node("Add", [beside, beside], "/blocks/both")
        self._seen = node("Add", [self._size, twice], "/blocks/seen")
        most = node("Sub", [node("Add", [self._length, self._size], "/blocks/up"), one], "/blocks/most")
        count = node("Div", [most, self._size], "/blocks/count")

        starts = node("Mul", [range_of(graph, count, "/blocks/numbers"), self._size], "/blocks/starts")
        starts = node("Unsqueeze", [starts, one], "/blocks/down")  # [blocks, 1]
        own = range_of(graph, self._size, "/blocks/own")
        near = node("Sub", [range_of(graph, self._seen, "/blocks/all"), beside], "/blocks/near")
        places = node("Add", [starts, near], "/blocks/places")  # [blocks, seen]; some are before or behind the text
        last = node("Sub", [self._length, one], "/blocks/last")
        self._queries = node("Min", [node("Add", [starts, own], "/blocks/rows"), last], "/blocks/queries")
        bounded = node("Min", [places, last], "/blocks/bounded")
        self._keys = node("Max", [bounded, integers(0)], "/blocks/keys")

        apart = node("Sub", [near, node("Unsqueeze", [own, one], "/blocks/across")], "/blocks/apart")
        within = node("LessOrEqual", [node("Abs", [apart], "/blocks/distance"), integers(half)], "/blocks/within")
        ends = node("Unsqueeze", ["lengths", integers(1, 2)], "/blocks/ends")  # [batch, 1, 1]
        before = node("Less", [places, ends], "/blocks/before")
        real = node("And", [before, node("GreaterOrEqual", [places, integers(0)], "/blocks/behind")], "/blocks/real")
        real = node("Unsqueeze", [real, integers(2)], "/blocks/wide")  # [batch, blocks, 1, seen]
        seen = node("And", [real, within], "/blocks/sees")
        values = [graph.tensor(f"f32.{value!r}", np.array(value, np.float32)) for value in (0.0, HIDDEN)]
        bias = node("Where", [seen, *values], "/blocks/bias")
        shape = node("Concat", [integers(-1), one, self._size, self._seen], "/blocks/shape", axis=0)
        self.bias = str(node("Reshape", [bias, shape], "/blocks/biases"))

    def queries(self, x: str, width: int, name: str) -> str:
        """The rows of each block."""
        return self._cut(x, self._queries, self._shape("size", width), name)

    def keys(self, x: str, width: int, name: str) -> str:
        """The rows that each block sees."""
        return self._cut(x, self._keys, self._shape("seen", width), name)

    def joined(self, x: str, width: int, name: str) -> str:
        """Blocks of queries as texts [batch, sequence, width]."""
        graph = self._graph
        whole = graph.node("Reshape", [x, self._shape("batch", width)], f"{name}/whole")
        return str(graph.node("Slice", [whole, graph.integers(0), self._length, graph.integers(1)], name))

    def _cut(self, x: str, rows: str, shape: str, name: str) -> str:
        found = self._graph.node("Gather", [x, rows], f"{name}/rows", axis=1)  # [batch, blocks, rows, width]
        return str(self._graph.node("Reshape", [found, shape], name))

    def _shape(self, kind: str, width: int) -> str:
        """The shape of blocks of queries ("size"), of keys ("seen"), or of texts ("batch")."""
        graph = self._graph
        if (kind, width) not in self._shapes:
            name, rest = f"/blocks/{kind}_{width}", graph.integers(-1)
            if kind == "batch":
                parts = [graph.node("Shape", ["lengths"], f"{name}/batch"), rest]
            else:
                parts = [rest, self._size if kind == "size" else self._seen]
            self._shapes[kind, width] = graph.node("Concat", [*parts, graph.integers(width)], name, axis=0)
        return self._shapes[kind, width]
