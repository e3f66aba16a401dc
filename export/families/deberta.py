"""The graph of DeBERTa (He et al., 2021): BERT's layers, whose attention also scores how far apart query and key are.

Inputs are `input_ids` and, where the tokenizer gives them and the model has a use for them, `token_type_ids`, both [batch, sequence],
padded on the right; `lengths` [batch] tells the real tokens; a classifier's last layer computes the first token's row only.

The scores of a query at i and a key at j are q k + q K(i - j) + k Q(i - j). K and Q, what becomes of the distance embeddings behind
their projections, depend on no text: they are computed here, once and for all, and scaled. The graph multiplies queries and keys with
those of their rows that a text of its length needs (31 of 512 for 16 tokens), and `GatherElements` lays the products out by i and j,
over one index for all layers and both scores; their sum is the bias of `Attention`.

Measured on the bias of one layer alone (12 heads of 64, 256 buckets), its index given: all rows and two indices, as a traced graph has
them, take 7 to 9 times as long for 16 tokens, 3 for 64, 1.6 for 128, and as long for 512; a shift of rows in the order of distances
(`Reshape` and `Slice`, twice) is level up to 128 tokens and takes 1.2 times as long for 512; `Gather` from the flat products takes 2
to 7 times as long. To make the index, once for all layers, is not counted.
"""

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..graph import Graph
from ..quantize import quantize_channels
from .deberta_distances import rows_of_distances
from .deberta_parts import Convolution, Disentangled, DisentangledEncoder, Distances
from .embeddings import Embeddings, declare_inputs
from .heads import Heads
from .parts import Dense, Head
from .places import before_end, range_of

__all__ = ["build"]

Floats = NDArray[np.float32]


def build(graph: Graph, checkpoint: Checkpoint, encoder: DisentangledEncoder, head: Head, *, type_ids: bool) -> None:
    """Write the whole graph."""
    width = checkpoint.shape(encoder.layers[-1].layer.down.weight)[0]
    declare_inputs(graph, checkpoint, encoder.types if type_ids else None)
    writer = _Writer(graph, checkpoint, width=width)
    embedded = x = writer.embed(encoder)
    rows = _Rows(graph, encoder) if encoder.distances else None
    for place, layer in enumerate(encoder.layers):
        last = place == len(encoder.layers) - 1
        # the convolution adds to every token's row: the first layer of all can only be cut where there is none
        alone = last and head.first_token and not (place == 0 and encoder.convolution)
        x = writer.layer(x, layer, rows, first_only=alone)
        if place == 0 and encoder.convolution:
            x = writer.convolve(embedded, x, encoder.convolution)
            if last and head.first_token:
                x = writer.first_token(x, "/convolution/first")
        checkpoint.release()
    writer.head(x, head)


class _Rows:
    """The rows of the table of distances that a text of its length needs, for all layers.

    Attributes:
        part: The distances.
        first, end: The rows, [1] each.
        ahead: Rows of the distances from the first token to each, [sequence].
    """

    def __init__(self, graph: Graph, encoder: DisentangledEncoder) -> None:
        assert encoder.distances
        self.part: Distances = encoder.distances
        self._graph = graph
        self._indices: dict[int, str] = {}
        window = encoder.window
        rows = rows_of_distances(np.arange(-(window - 1), window), self.part).astype(np.int32)
        self._rows = graph.tensor("/distances/rows", rows)
        length = graph.node("Shape", ["input_ids"], "/distances/length", start=1, end=2)
        middle, one = graph.integers(window - 1), graph.integers(1)
        reach = graph.node("Sub", [length, one], "/distances/reach")
        self.first = self._row(graph.node("Sub", [middle, reach], "/distances/lowest"), "/distances/first")
        highest = self._row(graph.node("Add", [middle, reach], "/distances/highest"), "/distances/last")
        self.end = str(graph.node("Add", [highest, one], "/distances/end"))
        self._places = range_of(graph, length, "/distances/places")
        self.ahead = self._row(graph.node("Sub", [middle, self._places], "/distances/before"), "/distances/ahead")
        self._middle = middle

    def _row(self, place: str, name: str) -> str:
        """Rows as int64."""
        found = self._graph.node("Gather", [self._rows, place], f"{name}/int32")
        return str(self._graph.node("Cast", [found], name, to=7))

    def index(self, heads: int) -> str:
        """Row of each query and key, counted from `first`: int32 [batch, heads, sequence, sequence]."""
        graph = self._graph
        if heads in self._indices:
            return self._indices[heads]
        if not self._indices:
            down = graph.node("Unsqueeze", [self._places, graph.integers(1)], "/distances/down")
            apart = graph.node("Sub", [down, self._places], "/distances/apart")
            taken = graph.node("Add", [apart, self._middle], "/distances/taken")
            found = graph.node("Gather", [self._rows, taken], "/distances/found")
            first = graph.node("Cast", [self.first], "/distances/first/narrow", to=6)
            graph.node("Sub", [found, first], "/distances/index")
        sizes = [
            graph.node("Shape", ["input_ids"], f"/distances/batch.{heads}", start=0, end=1),
            graph.integers(heads),
            graph.integers(1, 1),
        ]
        shape = graph.node("Concat", sizes, f"/distances/shape.{heads}", axis=0)
        self._indices[heads] = str(graph.node("Expand", ["/distances/index", shape], f"/distances/index.{heads}"))
        return self._indices[heads]


class _Writer(Embeddings, Heads):
    """Writes the parts of one encoder."""

    def embed(self, encoder: DisentangledEncoder) -> str:
        """What the first layer reads, [batch, sequence, width]."""
        x = self.embeddings(encoder.words, encoder.positions, encoder.types)
        x = self.dense(x, encoder.projection, "/embeddings/projection") if encoder.projection else x
        return self.norm(x, encoder.norm, "/embeddings/norm")

    def layer(self, x: str, part: Disentangled, rows: _Rows | None, *, first_only: bool) -> str:
        """One layer, or the first token's row of it: [batch, sequence or 1, width]."""
        layer, name = part.layer, f"/{part.layer.name}"
        mixed = self.attention(x, part, rows, f"{name}/attention", first_only=first_only)
        return self.behind_attention(mixed, self.first_token(x, f"{name}/first") if first_only else x, layer)

    def attention(self, x: str, part: Disentangled, rows: _Rows | None, name: str, *, first_only: bool) -> str:
        """What each query, or the first, makes of the values: [batch, queries, heads * size]."""
        graph, attention = self.graph, part.layer.attention
        heads, size = attention.heads, attention.head_size
        if first_only:
            q = self.dense(self.first_token(x, f"{name}/first"), attention.query, f"{name}/q")
            q = self._apart(q, heads, size, f"{name}/queries")
            kv = self._apart(self.dense(x, (attention.key, attention.value), f"{name}/kv"), 2 * heads, size, name)
            k, v = graph.node("Split", [kv, graph.integers(heads, heads)], f"{name}/split", outputs=2, axis=1)
            bias = self.first_bias(q, k, part, rows, name) if rows else ""
        else:
            qkv = self.dense(x, (attention.query, attention.key, attention.value), f"{name}/qkv")
            qkv = self._apart(qkv, 3 * heads, size, name)
            sizes = graph.integers(heads, heads, heads)
            q, k, v = graph.node("Split", [qkv, sizes], f"{name}/split", outputs=3, axis=1)
            bias = self.bias(q, k, part, rows, name) if rows else ""
        mixed = graph.node("Attention", [q, k, v, bias, "", "", "lengths"], f"{name}/mixed", scale=part.scale)
        mixed = graph.node("Transpose", [mixed], f"{name}/turned", perm=[0, 2, 1, 3])
        return str(graph.node("Reshape", [mixed, graph.integers(0, 0, heads * size)], f"{name}/joined"))

    def bias(self, q: str, k: str, part: Disentangled, rows: _Rows, name: str) -> str:
        """What the distances add to the scores of all queries: [batch, heads, sequence, sequence]."""
        graph, added = self.graph, []
        index = rows.index(part.layer.attention.heads)
        if part.position_key:
            table = self._table(part, part.position_key, rows, f"{name}/c2p")
            scores = graph.contrib(
                "FusedMatMul", [q, self._cut(table, rows, f"{name}/c2p")], f"{name}/c2p/rows", transB=1
            )
            added.append(graph.node("GatherElements", [scores, index], f"{name}/c2p", axis=3))
        if part.position_query:  # [batch, heads, rows, sequence]: the same index, along the rows
            table = self._table(part, part.position_query, rows, f"{name}/p2c")
            scores = graph.contrib(
                "FusedMatMul", [self._cut(table, rows, f"{name}/p2c"), k], f"{name}/p2c/rows", transB=1
            )
            added.append(graph.node("GatherElements", [scores, index], f"{name}/p2c", axis=2))
        return added[0] if len(added) == 1 else str(graph.node("Add", added, f"{name}/bias"))

    def first_bias(self, q: str, k: str, part: Disentangled, rows: _Rows, name: str) -> str:
        """The same of the first token's query: [batch, heads, 1, sequence]."""
        graph, added = self.graph, []
        if part.position_key:
            table = self._table(part, part.position_key, rows, f"{name}/c2p")
            taken = graph.node("Gather", [table, rows.ahead], f"{name}/c2p/table", axis=2)
            added.append(graph.contrib("FusedMatMul", [q, taken], f"{name}/c2p", transB=1))
        if part.position_query:
            table = self._table(part, part.position_query, rows, f"{name}/p2c")
            taken = graph.node("Gather", [table, rows.ahead], f"{name}/p2c/table", axis=2)
            products = graph.node("Mul", [k, taken], f"{name}/p2c/products")
            sums = graph.node("ReduceSum", [products, graph.integers(3)], f"{name}/p2c/sums", keepdims=0)
            added.append(graph.node("Unsqueeze", [sums, graph.integers(2)], f"{name}/p2c"))
        return added[0] if len(added) == 1 else str(graph.node("Add", added, f"{name}/bias"))

    def convolve(self, embedded: str, x: str, part: Convolution) -> str:
        """norm(x + activation(convolution)), as a product of each token's neighbours side by side: it is quantized as any other."""
        graph, name = self.graph, "/convolution"
        weight = np.asarray(self.checkpoint.tensor(part.weight), np.float32)
        out, inputs, width = weight.shape
        matrix = np.zeros((out, width, inputs * part.groups), np.float32)
        for group in range(part.groups):  # a group reads its own channels only
            own = slice(group * out // part.groups, (group + 1) * out // part.groups)
            matrix[own, :, group * inputs : (group + 1) * inputs] = weight[own].transpose(0, 2, 1)
        real = graph.node("Cast", [before_end(graph, f"{name}/before_end")], f"{name}/float", to=1)
        real = graph.node("Unsqueeze", [real, graph.integers(2)], f"{name}/real")  # 1 for tokens, 0 for padding
        before = graph.integers(0, width // 2, 0, 0, width // 2, 0)
        padded = graph.node("Pad", [graph.node("Mul", [embedded, real], f"{name}/masked"), before], f"{name}/padded")
        beside = []
        for shift in range(width):
            ends = (graph.integers(shift), graph.integers(shift - width + 1 or 1 << 40), graph.integers(1))
            beside.append(graph.node("Slice", [padded, *ends], f"{name}/{shift}"))
        joined = graph.node("Concat", beside, f"{name}/joined", axis=-1)
        key = (part.weight, matrix.reshape(out, -1), self.checkpoint.tensor(part.bias))
        added = graph.activation(graph.linear(joined, [key], name), part.activation, f"{name}/act")
        return self.norm(graph.node("Add", [x, added], f"{name}/add"), part.norm, f"{name}/norm")

    def _apart(self, x: str, heads: int, size: int, name: str) -> str:
        """[batch, tokens, heads * size] to [batch, heads, tokens, size]."""
        graph = self.graph
        apart = graph.node("Reshape", [x, graph.integers(0, 0, heads, size)], f"{name}/apart")
        return str(graph.node("Transpose", [apart], f"{name}/heads", perm=[0, 2, 1, 3]))

    def _cut(self, table: str, rows: _Rows, name: str) -> str:
        """The rows of a table that are needed, [1, heads, rows, size]."""
        return str(self.graph.node("Slice", [table, rows.first, rows.end, self.graph.integers(2)], f"{name}/table"))

    def _table(self, part: Disentangled, dense: Dense, rows: _Rows, name: str) -> str:
        """The distance embeddings behind a projection, scaled: [1, heads, 2 x span, size].

        Held as the projection is; where that is an integer, in int8 with a scale for each row, and float32 once the graph is loaded.
        In int8 they cost an int4 model of random weights nothing (a relative error of 0.134, as with tables of float32, at 768 wide);
        4 bits raise it by up to 1.5 %, and save 5 MB of a base model.
        """
        graph, attention = self.graph, part.layer.attention
        values = self._distance_embeddings(rows.part)
        _, weight, bias = self.matrix(dense)
        values = values @ np.asarray(weight, np.float32).T + np.asarray(0 if bias is None else bias, np.float32)
        values = values.reshape(1, len(values), attention.heads, attention.head_size).transpose(0, 2, 1, 3)
        values = np.ascontiguousarray(values * np.float32(part.scale))
        scheme = graph.policy(dense.weight)
        if scheme.matrix == "float32":
            return graph.tensor(f"{name}/all", values)
        if scheme.matrix == "float16":
            half = graph.tensor(f"{name}/all/float16", values.astype(np.float16))
            return str(graph.node("Cast", [half], f"{name}/all", to=1))
        levels, scales = quantize_channels(values.reshape(-1, attention.head_size))
        narrow = graph.tensor(f"{name}/all/int8", np.ascontiguousarray(levels.T).reshape(values.shape))
        steps = graph.tensor(f"{name}/all/scale", scales.reshape(*values.shape[:3], 1))
        return str(graph.node("Mul", [graph.node("Cast", [narrow], f"{name}/all/wide", to=1), steps], f"{name}/all"))

    def _distance_embeddings(self, part: Distances) -> Floats:
        """[2 x span, width]."""
        values = np.asarray(self.checkpoint.tensor(part.table)[: 2 * part.span], np.float32)
        if part.norm is None:
            return values
        tensor = self.checkpoint.tensor
        values = values - values.mean(axis=-1, keepdims=True)
        values = values / np.sqrt(np.square(values).mean(axis=-1, keepdims=True) + np.float32(part.norm.eps))
        return np.asarray(values * tensor(str(part.norm.weight)) + tensor(str(part.norm.bias)), np.float32)
