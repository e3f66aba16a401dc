"""What all graphs are written with: parts of a checkpoint into nodes. Knows single layers, not how an architecture joins them."""

from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph, Matrix
from .matrices import matrix
from .parts import Dense, FeedForward, Layer, Norm

__all__ = ["Layers"]


class Layers:
    """Writes parts into a graph, taking their weights from a checkpoint.

    Args:
        graph: The graph under construction.
        checkpoint: Where the weights are.
        width: Of the hidden states.
    """

    def __init__(self, graph: Graph, checkpoint: Checkpoint, *, width: int) -> None:
        self.graph = graph
        self.checkpoint = checkpoint
        self.width = width

    def matrix(self, dense: Dense) -> Matrix:
        """Key, weight [out, in] and bias of a linear layer."""
        return matrix(self.checkpoint, dense)

    def dense(self, x: str, dense: Dense | Sequence[Dense], name: str, *, head: bool = False) -> str:
        """One linear layer, or several side by side in one product."""
        several = [dense] if isinstance(dense, Dense) else dense
        return self.graph.linear(x, [self.matrix(item) for item in several], name, head=head)

    def norm(self, x: str, norm: Norm | None, name: str) -> str:
        """A normalization; `x` itself where there is none."""
        if norm is None:
            return x
        tensor = self.checkpoint.tensor
        if norm.weight is None:
            weight = (f"ones.{self.width}", np.ones(self.width, np.float32))
        elif norm.offset:
            weight = (
                f"{norm.weight}+{norm.offset:g}",
                np.asarray(tensor(norm.weight), np.float32) + np.float32(norm.offset),
            )
        else:
            weight = (norm.weight, tensor(norm.weight))
        bias = (norm.bias, tensor(norm.bias)) if norm.bias else None
        return self.graph.norm(x, weight, bias, norm.eps, name, kind=norm.kind)

    def steps(self, x: str, steps: Sequence[Dense | Norm | str], name: str) -> str:
        """Linear layers, activations by name and norms, one after the other."""
        for place, step in enumerate(steps):
            own = f"{name}/{place}"
            if isinstance(step, Dense):
                x = self.dense(x, step, own)
            else:
                x = self.norm(x, step, own) if isinstance(step, Norm) else self.graph.activation(x, step, own)
        return x

    def first_token(self, x: str, name: str) -> str:
        """The first token of x [batch, sequence, width]: [batch, 1, width]."""
        return str(self.graph.node("Slice", [x, *(self.graph.integers(n) for n in (0, 1, 1))], name))

    def behind_attention(self, mixed: str, x: str, layer: Layer) -> str:
        """A post-norm layer but for what its heads make of x, which is `mixed`: projected, added, normed, and fed forward."""
        graph, name = self.graph, f"/{layer.name}"
        mixed = self.dense(mixed, layer.attention.output, f"{name}/attention/output")
        mixed = graph.node("Add", [mixed, x], f"{name}/attention/add")
        x = self.norm(mixed, layer.attention_norm, f"{name}/attention/norm")
        inner = graph.activation(self.dense(x, layer.up, f"{name}/ffn/up"), layer.activation, f"{name}/ffn/act")
        inner = self.dense(inner, layer.down, f"{name}/ffn/down")
        return self.norm(graph.node("Add", [inner, x], f"{name}/ffn/add"), layer.ffn_norm, f"{name}/ffn/norm")

    def feed_forward(self, x: str, part: FeedForward, name: str) -> str:
        """Up, activation, down; with a gate, both projections in one product."""
        graph = self.graph
        if part.gate is None:
            inner = graph.activation(self.dense(x, part.up, f"{name}/up"), part.activation, f"{name}/act")
        else:
            matrices = [self.matrix(part.gate), self.matrix(part.up)]
            both = graph.linear(x, matrices, f"{name}/gate+up")
            sizes = graph.integers(*(len(item[1]) for item in matrices))
            gate, up = graph.node("Split", [both, sizes], f"{name}/split", outputs=2, axis=-1)
            inner = graph.node("Mul", [graph.activation(gate, part.activation, f"{name}/act"), up], f"{name}/gated")
        return self.dense(inner, part.down, f"{name}/down")
