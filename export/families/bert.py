"""The graph of BERT and its relatives: embeddings, post-norm layers, a head. Reads like the paper (Devlin et al., 2018).

Inputs are `input_ids` and, where the tokenizer gives them, `token_type_ids`, both [batch, sequence], padded on the right; `lengths`
[batch] tells the real tokens. A classifier reads the first token only, so its last layer computes that one row of queries, and a
masked LM projects only the flat positions in `rows`.
"""

from typing import Any

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from .layers import Layers
from .parts import Dense, Encoder, Head, Layer, Norm, RelativeBias
from .relative import relative_buckets

__all__ = ["build"]


def build(graph: Graph, checkpoint: Checkpoint, encoder: Encoder, head: Head, *, type_ids: bool) -> None:
    """Write the whole graph."""
    writer = _writer(graph, checkpoint, encoder)
    graph.input("input_ids", ("batch", "sequence"))
    if type_ids and encoder.types and checkpoint.shape(encoder.types)[0] > 1:
        graph.input("token_type_ids", ("batch", "sequence"))
    graph.input("lengths", ("batch",))
    x = writer.embeddings(encoder, type_ids="token_type_ids" in graph.input_names)
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
    x = writer.embeddings(encoder, type_ids=False, shared=shared)
    bias = writer.relative_bias(encoder.bias, encoder.window) if encoder.bias else ""
    for layer in encoder.layers:
        x = writer.layer(x, layer, bias)
        checkpoint.release()
    return x


def real_tokens(graph: Graph, skipped_id: int) -> str:
    """1 for each of `input_ids` that takes a position, 0 for those that do not: [batch, sequence]."""
    skipped = graph.tensor("skipped", np.array(skipped_id, np.int64))
    equal = graph.node("Equal", ["input_ids", skipped], "/embeddings/is_padding")
    return str(graph.node("Cast", [graph.node("Not", [equal], "/embeddings/is_token")], "/embeddings/tokens", to=7))


def _writer(graph: Graph, checkpoint: Checkpoint, encoder: Encoder) -> "_Writer":
    return _Writer(graph, checkpoint, width=checkpoint.shape(encoder.layers[-1].down.weight)[0])


class _Writer(Layers):
    """Writes the parts of one encoder."""

    def embeddings(self, encoder: Encoder, *, type_ids: bool, shared: bool = False) -> str:
        graph, tensor = self.graph, self.checkpoint.tensor
        positions = np.asarray(tensor(encoder.positions), np.float32)
        if encoder.types and not type_ids:  # every token is of type 0: one row, added to all positions once and for all
            positions = positions + np.asarray(tensor(encoder.types)[0], np.float32)
        words = graph.table("input_ids", encoder.words, tensor(encoder.words), "/embeddings/words", head=shared)
        places = graph.table(self._positions(encoder), encoder.positions, positions, "/embeddings/positions")
        x = graph.node("Add", [words, places], "/embeddings/words+positions")
        if type_ids and encoder.types:
            types = graph.tensor(encoder.types, np.asarray(tensor(encoder.types), np.float32))
            x = graph.node(
                "Add", [x, graph.node("Gather", [types, "token_type_ids"], "/embeddings/types")], "/embeddings/sum"
            )
        x = self.norm(x, encoder.norm, "/embeddings/norm")
        return self.dense(x, encoder.projection, "/embeddings/projection") if encoder.projection else x

    def _positions(self, encoder: Encoder) -> str:
        """Rows of the position table: [sequence], or [batch, sequence] where a token may take none of its own."""
        graph = self.graph
        if encoder.skipped_id is None:
            length = graph.node("Shape", ["input_ids"], "/embeddings/length", start=1, end=2)
            end = graph.node("Squeeze", [length], "/embeddings/end")
            zero, one = graph.tensor("zero", np.array(0, np.int64)), graph.tensor("one", np.array(1, np.int64))
            return str(graph.node("Range", [zero, end, one], "/embeddings/places"))
        # create_position_ids_from_input_ids of transformers: count the tokens that are not padding
        real = real_tokens(graph, encoder.skipped_id)
        count = graph.node("CumSum", [real, graph.tensor("axis", np.array(1, np.int64))], "/embeddings/count")
        places = graph.node("Mul", [count, real], "/embeddings/counted")
        return str(
            graph.node(
                "Add",
                [places, graph.tensor("before", np.array(encoder.first_position - 1, np.int64))],
                "/embeddings/places",
            )
        )

    def relative_bias(self, bias: RelativeBias, window: int) -> str:
        """Bias [1, heads, sequence, sequence], once for all layers: one row of all distances, laid out by j - i."""
        graph = self.graph
        table = np.asarray(self.checkpoint.tensor(bias.table), np.float32)
        distances = np.arange(-(window - 1), window)
        row = graph.tensor(
            bias.table, np.ascontiguousarray(table[relative_buckets(distances, bias.buckets, bias.farthest)].T)
        )
        length = graph.node("Shape", ["input_ids"], "/bias/length", start=1, end=2)
        end = graph.node("Squeeze", [length], "/bias/end")
        zero, one = graph.tensor("zero", np.array(0, np.int64)), graph.tensor("one", np.array(1, np.int64))
        places = graph.node("Range", [zero, end, one], "/bias/places")
        across = graph.node("Unsqueeze", [places, graph.integers(0)], "/bias/across")
        down = graph.node("Unsqueeze", [places, graph.integers(1)], "/bias/down")
        apart = graph.node("Sub", [across, down], "/bias/distance")
        index = graph.node("Add", [apart, graph.tensor("farthest", np.array(window - 1, np.int64))], "/bias/index")
        gathered = graph.node("Gather", [row, index], "/bias/rows", axis=1)
        return str(graph.node("Unsqueeze", [gathered, graph.integers(0)], "/bias/all"))

    def layer(self, x: str, layer: Layer, bias: str, *, first_only: bool = False) -> str:
        graph, name, attention = self.graph, f"/{layer.name}", layer.attention
        width = attention.heads * attention.head_size
        query, key, value = (self.matrix(dense) for dense in (attention.query, attention.key, attention.value))
        if first_only:
            kv = graph.linear(x, [key, value], f"{name}/attention/kv")
            k, v = graph.node(
                "Split", [kv, graph.integers(width, width)], f"{name}/attention/split", outputs=2, axis=-1
            )
            x = graph.node("Slice", [x, *(graph.integers(n) for n in (0, 1, 1))], f"{name}/first")  # [batch, 1, hidden]
            q = graph.linear(x, [query], f"{name}/attention/q")
            bias = bias and graph.node("Slice", [bias, *(graph.integers(n) for n in (0, 1, 2))], f"{name}/bias")
        else:
            qkv = graph.linear(x, [query, key, value], f"{name}/attention/qkv")
            sizes = graph.integers(width, width, width)
            q, k, v = graph.node("Split", [qkv, sizes], f"{name}/attention/split", outputs=3, axis=-1)
        heads: dict[str, Any] = {"q_num_heads": attention.heads, "kv_num_heads": attention.heads}
        mixed = graph.node("Attention", [q, k, v, bias, "", "", "lengths"], f"{name}/attention", **heads)
        mixed = self.dense(mixed, attention.output, f"{name}/attention/output")
        x = self.norm(
            graph.node("Add", [mixed, x], f"{name}/attention/add"), layer.attention_norm, f"{name}/attention/norm"
        )
        inner = graph.activation(self.dense(x, layer.up, f"{name}/ffn/up"), layer.activation, f"{name}/ffn/act")
        inner = self.dense(inner, layer.down, f"{name}/ffn/down")
        return self.norm(graph.node("Add", [inner, x], f"{name}/ffn/add"), layer.ffn_norm, f"{name}/ffn/norm")

    def head(self, x: str, head: Head) -> None:
        graph = self.graph
        if head.kind == "hidden-states":
            graph.output(x, "last_hidden_state", ("batch", "sequence", self.width))
            return
        leading: tuple[str, ...] = ("batch", "sequence")
        if head.first_token:
            x, leading = graph.node("Squeeze", [x, graph.integers(1)], "/head/first"), ("batch",)
        if head.kind == "masked-lm":
            graph.input("rows", ("rows",))
            flat = graph.node("Reshape", [x, graph.integers(-1, self.width)], "/head/flat")
            x, leading = graph.node("Gather", [flat, "rows"], "/head/rows"), ("rows",)
        masked, columns = head.kind == "masked-lm", 0
        for place, step in enumerate(head.steps):
            name = f"/head/{place}"
            if isinstance(step, Dense):
                # the last step gives the logits themselves; it is small, and stays as it is
                x = graph.linear(x, [self.matrix(step)], name, exact=place == len(head.steps) - 1 and not masked)
                columns = self.checkpoint.shape(step.weight)[0]
            else:
                x = self.norm(x, step, name) if isinstance(step, Norm) else graph.activation(x, step, name)
        if head.tied:
            bias = self.checkpoint.tensor(head.tied_bias) if head.tied_bias else None
            x = graph.tied(x, head.tied, self.checkpoint.tensor(head.tied), bias, "/head/decoder")
            columns = self.checkpoint.shape(head.tied)[0]
        graph.output(x, "logits", (*leading, columns))
