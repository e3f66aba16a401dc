"""The graph of BERT and its relatives: embeddings, post-norm layers, a head. Reads like the paper (Devlin et al., 2018).

Inputs are `input_ids` and, where the tokenizer gives them, `token_type_ids`, both [batch, sequence], padded on the right; `lengths`
[batch] tells the real tokens. A classifier reads the first token only, so its last layer computes that one row of queries, and a
masked LM projects only the flat positions in `rows`.
"""

from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from .embeddings import Embeddings, declare_inputs
from .heads import Heads
from .parts import Encoder, Head, Layer, RelativeBias
from .places import counted
from .relative import relative_buckets

__all__ = ["build", "states"]


def build(graph: Graph, checkpoint: Checkpoint, encoder: Encoder, head: Head, *, type_ids: bool) -> None:
    """Write the whole graph."""
    writer = _writer(graph, checkpoint, encoder)
    declare_inputs(graph, checkpoint, encoder.types if type_ids else None)
    x = writer.embed(encoder)
    bias = writer.relative_bias(encoder.bias, encoder.window) if encoder.bias else ""
    for layer in encoder.layers[:-1]:
        x = writer.layer(x, layer, bias)
        checkpoint.release()
    x = writer.layer(x, encoder.layers[-1], bias, first_only=head.first_token)
    writer.head(x, head)


def states(graph: Graph, checkpoint: Checkpoint, encoder: Encoder, *, shared: bool = False) -> str:
    """What the body gives, [batch, sequence, width], in a graph that has `input_ids` and `lengths` already; all tokens of type 0.

    The word table is held as the language modelling head is where it is `shared` with a decoder.
    """
    writer = _writer(graph, checkpoint, encoder)
    x = writer.embed(encoder, shared=shared)
    bias = writer.relative_bias(encoder.bias, encoder.window) if encoder.bias else ""
    for layer in encoder.layers:
        x = writer.layer(x, layer, bias)
        checkpoint.release()
    return x


def _writer(graph: Graph, checkpoint: Checkpoint, encoder: Encoder) -> "_Writer":
    return _Writer(graph, checkpoint, width=checkpoint.shape(encoder.layers[-1].down.weight)[0])


class _Writer(Embeddings, Heads):
    """Writes the parts of one encoder."""

    def embed(self, body: Encoder, *, shared: bool = False) -> str:
        """What the first layer reads, [batch, sequence, width]."""
        x = self.embeddings(
            body.words,
            body.positions,
            body.types,
            first_position=body.first_position,
            skipped_id=body.skipped_id,
            shared=shared,
        )
        x = self.norm(x, body.norm, "/embeddings/norm")
        return self.dense(x, body.projection, "/embeddings/projection") if body.projection else x

    def relative_bias(self, bias: RelativeBias, window: int) -> str:
        """Bias [1, heads, sequence, sequence], once for all layers: one row of all distances, laid out by j - i."""
        graph = self.graph
        table = np.asarray(self.checkpoint.tensor(bias.table), np.float32)
        distances = np.arange(-(window - 1), window)
        row = graph.tensor(
            bias.table, np.ascontiguousarray(table[relative_buckets(distances, bias.buckets, bias.farthest)].T)
        )
        places = counted(graph, "/bias/places")
        across = graph.node("Unsqueeze", [places, graph.integers(0)], "/bias/across")
        down = graph.node("Unsqueeze", [places, graph.integers(1)], "/bias/down")
        apart = graph.node("Sub", [across, down], "/bias/distance")
        index = graph.node("Add", [apart, graph.tensor("farthest", np.array(window - 1, np.int64))], "/bias/index")
        gathered = graph.node("Gather", [row, index], "/bias/rows", axis=1)
        return str(graph.node("Unsqueeze", [gathered, graph.integers(0)], "/bias/all"))

    def layer(self, x: str, layer: Layer, bias: str, *, first_only: bool = False) -> str:
        """One layer, or the first token's row of it: [batch, sequence or 1, width]."""
        graph, name, attention = self.graph, f"/{layer.name}", layer.attention
        width = attention.heads * attention.head_size
        query, key, value = (self.matrix(dense) for dense in (attention.query, attention.key, attention.value))
        if first_only:
            kv = graph.linear(x, [key, value], f"{name}/attention/kv")
            k, v = graph.node(
                "Split", [kv, graph.integers(width, width)], f"{name}/attention/split", outputs=2, axis=-1
            )
            x = self.first_token(x, f"{name}/first")
            q = graph.linear(x, [query], f"{name}/attention/q")
            bias = bias and graph.node("Slice", [bias, *(graph.integers(n) for n in (0, 1, 2))], f"{name}/bias")
        else:
            qkv = graph.linear(x, [query, key, value], f"{name}/attention/qkv")
            sizes = graph.integers(width, width, width)
            q, k, v = graph.node("Split", [qkv, sizes], f"{name}/attention/split", outputs=3, axis=-1)
        heads: dict[str, Any] = {"q_num_heads": attention.heads, "kv_num_heads": attention.heads}
        mixed = graph.node("Attention", [q, k, v, bias, "", "", "lengths"], f"{name}/attention", **heads)
        return self.behind_attention(mixed, x, layer)
