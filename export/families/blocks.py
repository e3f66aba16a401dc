"""What graphs of blocks have in common: embeddings, and the order of a block's sub-layers. Knows no attention: heirs bring theirs."""

import math

import numpy as np
from onnx import TensorProto

from ..checkpoint import Checkpoint
from ..graph import Graph
from .layers import Layers
from .matrices import rows_of
from .parts import Block, Decoder, Norm, Sinusoids, SourceEncoder

__all__ = ["BlockWriter"]


class BlockWriter(Layers):
    """Writes the parts of a body that consists of blocks.

    Args:
        graph: The graph under construction.
        checkpoint: Where the weights are.
        body: Whose blocks they are.
        shared: Whether the word table is held as the language modelling head is, because it is the same or another graph's.
    """

    def __init__(
        self, graph: Graph, checkpoint: Checkpoint, body: Decoder | SourceEncoder, *, shared: bool = False
    ) -> None:
        super().__init__(graph, checkpoint, width=rows_of(checkpoint, body.blocks[-1].feed_forward.down)[0])
        self.shared = shared

    def embed(self, body: Decoder | SourceEncoder, ids: str, places: str) -> str:
        """What the first block reads, from ids [...] and the numbers of their places [...].

        These count from 0; where some tokens take no position, from 1, and such tokens have 0.
        """
        graph, tensor = self.graph, self.checkpoint.tensor
        x = graph.table(ids, body.words, tensor(body.words), "/embeddings/words", head=self.shared)
        if body.scale != 1:
            x = self.times(x, body.scale, "/embeddings/scaled")
        if isinstance(body, Decoder) and body.project_in:
            x = self.dense(x, body.project_in, "/embeddings/project")
        if isinstance(body, Decoder):
            x = self.norm(x, body.words_norm, "/embeddings/words_norm")
        types = np.asarray(tensor(body.types)[0], np.float32) if isinstance(body, Decoder) and body.types else None
        skips = isinstance(body, SourceEncoder) and body.skipped_id is not None
        if body.positions:
            rows = np.asarray(tensor(body.positions), np.float32)[body.first_position - skips :]
            if types is not None:  # every token is of the first type: one row, added to all positions once and for all
                rows = rows + types
            x = graph.node(
                "Add", [x, graph.table(places, body.positions, rows, "/embeddings/positions")], "/embeddings/sum"
            )
        elif body.sinusoids:
            table = self.sinusoids(body.sinusoids, body.first_position, body.window)
            if skips:
                nothing = graph.tensor("sinusoids.none", np.zeros((1, self.width), np.float32))
                table = graph.node("Concat", [nothing, table], "/sinusoids/skipping", axis=0)
            x = graph.node(
                "Add", [x, graph.node("Gather", [table, places], "/embeddings/positions")], "/embeddings/sum"
            )
        x = self.norm(x, body.embedding_norm, "/embeddings/norm")
        if isinstance(body, Decoder) and body.projection:
            x = self.dense(x, body.projection, "/embeddings/projection")
        return x

    def sinusoids(self, part: Sinusoids, first: int, count: int) -> str:
        """Positions [count, width] from number `first` on (`sinusoids.table`).

        A formula, which onnxruntime works out when it loads the graph.
        """
        graph, name = self.graph, "/sinusoids"
        ends = [graph.tensor(f"f64.scalar.{value}", np.array(value, np.float64)) for value in (first, first + count, 1)]
        down = graph.node("Unsqueeze", [graph.node("Range", ends, f"{name}/places"), graph.integers(1)], f"{name}/down")
        pace = graph.tensor(f"{name}/frequencies", np.array([part.frequencies], np.float64))
        angles = graph.node("Mul", [down, pace], f"{name}/angles")
        if all(
            float(np.float32(value)) == value for value in part.frequencies
        ):  # then angles are float32, as in the table
            angles = graph.node("Cast", [angles], f"{name}/rounded", to=TensorProto.FLOAT)
            angles = graph.node("Cast", [angles], f"{name}/widened", to=TensorProto.DOUBLE)
        turned = graph.node("Add", [angles, graph.tensor("f64.quarter", np.array(math.pi / 2))], f"{name}/turned")
        halves = [graph.node("Sin", [value], f"{name}/{label}") for label, value in (("sin", angles), ("cos", turned))]
        table = graph.node("Concat", halves, f"{name}/both", axis=1)
        return str(graph.node("Cast", [table], f"{name}/table", to=TensorProto.FLOAT))

    def block(self, x: str, block: Block, number: int, *, last: bool = False) -> str:
        """One block; of the `last` one only the rows that `wanted` keeps pass through more than the attention."""
        name = f"/{block.name}"
        graph = self.graph
        read = self.norm(x, block.attention_norm, f"{name}/attention/norm")
        mixed = self.attention(read, block, number)
        if last:  # nothing but the head reads what is above: go on with the rows that it reads
            mixed, x = self.wanted(mixed, f"{name}/attention/rows"), self.wanted(x, f"{name}/rows")
        mixed = self.attention_output(mixed, block, f"{name}/attention/output")
        mixed = self.norm(mixed, block.attention_out_norm, f"{name}/attention/out_norm")
        if block.parallel:
            if block.feed_forward_norm != block.attention_norm or last:
                read = self.norm(x, block.feed_forward_norm, f"{name}/ffn/norm")
            inner = self.feed_forward(read, block.feed_forward, f"{name}/ffn")
            return self.add(x, graph.node("Add", [mixed, inner], f"{name}/both"), block, f"{name}/sum")
        x = self.joined(x, mixed, block, block.attention_sum_norm, f"{name}/attention")
        if block.cross:
            mixed = self.cross(self.norm(x, block.cross_norm, f"{name}/cross/norm"), block, number)
            mixed = self.dense(mixed, block.cross.output, f"{name}/cross/output")
            x = self.joined(x, mixed, block, block.cross_sum_norm, f"{name}/cross")
        inner = self.feed_forward(
            self.norm(x, block.feed_forward_norm, f"{name}/ffn/norm"), block.feed_forward, f"{name}/ffn"
        )
        inner = self.norm(inner, block.feed_forward_out_norm, f"{name}/ffn/out_norm")
        return self.joined(x, inner, block, block.feed_forward_sum_norm, f"{name}/ffn")

    def joined(self, x: str, change: str, block: Block, norm: Norm | None, name: str) -> str:
        """What a sub-layer read, and what it gave."""
        return self.norm(self.add(x, change, block, f"{name}/sum"), norm, f"{name}/sum_norm")

    def add(self, x: str, change: str, block: Block, name: str) -> str:
        """The sum of `x` and a change, which the block may scale."""
        if block.residual != 1:
            change = self.times(change, block.residual, f"{name}/scaled")
        return str(self.graph.node("Add", [x, change], name))

    def times(self, x: str, factor: float, name: str) -> str:
        """`x` times a constant."""
        return str(
            self.graph.node("Mul", [x, self.graph.tensor(f"f32.{factor!r}", np.array(factor, np.float32))], name)
        )

    def attention(self, x: str, block: Block, number: int) -> str:
        """Self-attention, without its output projection."""
        raise NotImplementedError

    def attention_output(self, mixed: str, block: Block, name: str) -> str:
        """The output projection of self-attention."""
        return self.dense(mixed, block.attention.output, name)

    def cross(self, x: str, block: Block, number: int) -> str:
        """Cross-attention, without its output projection."""
        raise NotImplementedError

    def wanted(self, x: str, name: str) -> str:
        """The rows of x [batch, sequence, width] that the head reads."""
        raise NotImplementedError
