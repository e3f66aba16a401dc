"""The graph that reads the source of an encoder-decoder (Vaswani et al., 2017): T5, BART, Marian and their relatives.

Inputs are `input_ids` [batch, sequence], padded on the right, and `lengths` [batch], the real tokens. Outputs are the encoder's
`last_hidden_state` [batch, sequence, width], and what every cross-attention of the decoder reads: `cross.N` [2 n, batch, heads,
sequence, size] holds keys and values of the n layers from N on (those with as many heads follow each other), keys of N, values of N,
keys of N + 1, ... They are one product for all layers, and written where the decoder will read them.
"""

from collections.abc import Iterator

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from . import bert
from .blocks import BlockWriter
from .parts import Block, CrossAttention, Encoder, EncoderDecoder, RelativeBias, SourceEncoder
from .places import counted, counted_but
from .relative import relative_buckets

__all__ = ["build", "states"]


def build(graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder) -> None:
    """Write the whole graph."""
    graph.input("input_ids", ("batch", "sequence"))
    graph.input("lengths", ("batch",))
    x = states(graph, checkpoint, body)
    width = _write_crossings(graph, checkpoint, body, x)
    graph.output(x, "last_hidden_state", ("batch", "sequence", width))


def states(graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder) -> str:
    """What the encoder gives, as wide as the decoder reads it: [batch, sequence, width]."""
    encoder = body.encoder
    shared = encoder.words == body.decoder.words
    if isinstance(encoder, Encoder):
        x = bert.states(graph, checkpoint, encoder, shared=shared)
    else:
        writer = _Writer(graph, checkpoint, encoder, shared=shared)
        x = writer.embed(encoder, "input_ids", writer.places(encoder))
        for number, block in enumerate(encoder.blocks):
            x = writer.block(x, block, number)
            checkpoint.release()
        x = writer.norm(x, encoder.norm, "/norm")
    if body.bridge is None:
        return x
    return BlockWriter(graph, checkpoint, body.decoder).dense(x, body.bridge, "/bridge")


def _write_crossings(graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder, x: str) -> int:
    """Keys and values of every cross-attention, as outputs; the width of what they are made of."""
    writer = BlockWriter(graph, checkpoint, body.decoder)
    width = 0
    for first, parts in _alike(body.decoder.blocks):
        name = f"/cross.{first}"
        matrices = [writer.matrix(dense) for part in parts for dense in (part.key, part.value)]
        width = matrices[0][1].shape[1]
        heads, size = parts[0].heads, parts[0].head_size
        packed = graph.linear(x, matrices, f"{name}/keys+values")
        shape = graph.integers(0, 0, 2 * len(parts), heads, size)
        apart = graph.node("Reshape", [packed, shape], f"{name}/heads")
        layers = graph.node("Transpose", [apart], name, perm=[2, 0, 3, 1, 4])
        graph.output(layers, f"cross.{first}", (2 * len(parts), "batch", heads, "sequence", size))
    return width


def _alike(blocks: tuple[Block, ...]) -> Iterator[tuple[int, list[CrossAttention]]]:
    """Number of the first layer, and the cross-attentions, of each run of layers with as many heads."""
    run: list[CrossAttention] = []
    for number, block in enumerate(blocks):
        assert block.cross
        if run and block.cross.heads != run[-1].heads:
            yield number - len(run), run
            run = []
        run.append(block.cross)
    yield len(blocks) - len(run), run


class _Writer(BlockWriter):
    """Writes the parts of one source encoder, whose attention sees all of the source."""

    def __init__(self, graph: Graph, checkpoint: Checkpoint, body: SourceEncoder, *, shared: bool = False) -> None:
        super().__init__(graph, checkpoint, body, shared=shared)
        self.counted = ""
        self.biases: dict[RelativeBias, str] = {}

    def places(self, body: SourceEncoder) -> str:
        """Numbers of the tokens' places: [sequence], or [batch, sequence] where a token may take none of its own."""
        graph = self.graph
        if body.positions is None and body.sinusoids is None:
            return ""
        if body.skipped_id is None:
            return self.count()
        return counted_but(graph, body.skipped_id, "/embeddings/places")

    def count(self) -> str:
        """0, 1, ... [sequence]."""
        self.counted = self.counted or counted(self.graph, "/places")
        return self.counted

    def attention(self, x: str, block: Block, number: int) -> str:
        """Softmax(scale q k^T + bias) v over the real tokens: [batch, sequence, heads * size]."""
        graph, part, name = self.graph, block.attention, f"/{block.name}/attention"
        qkv = self.dense(x, (part.query, part.key, part.value), f"{name}/qkv")
        width = part.heads * part.head_size
        q, k, v = graph.node("Split", [qkv, graph.integers(width, width, width)], f"{name}/split", outputs=3, axis=-1)
        bias = self.bias(part.relative) if part.relative else ""
        return str(
            graph.node(
                "Attention", [q, k, v, bias, "", "", "lengths"], name,
                q_num_heads=part.heads, kv_num_heads=part.heads, scale=part.scale,
            )
        )  # fmt: skip

    def bias(self, part: RelativeBias) -> str:
        """Bias [1, heads, sequence, sequence] of a table, made once: a row of the distances that differ, laid out by j - i."""
        if part in self.biases:
            return self.biases[part]
        graph, name = self.graph, f"/bias.{len(self.biases)}"
        table = np.asarray(self.checkpoint.tensor(part.table), np.float32)
        if part.columns is not None:
            table = table[:, list(part.columns)]
        far = part.farthest
        buckets = relative_buckets(np.arange(-far, far + 1), part.buckets, far)
        row = graph.tensor(f"{part.table}.{name}", np.ascontiguousarray(table[buckets].T))
        places = self.count()
        across = graph.node("Unsqueeze", [places, graph.integers(0)], f"{name}/across")
        down = graph.node("Unsqueeze", [places, graph.integers(1)], f"{name}/down")
        apart = graph.node("Sub", [across, down], f"{name}/distance")
        ends = [graph.tensor(f"i64.scalar.{value}", np.array(value, np.int64)) for value in (-far, far)]
        near = graph.node("Clip", [apart, *ends], f"{name}/near")
        index = graph.node("Add", [near, ends[1]], f"{name}/index")
        gathered = graph.node("Gather", [row, index], f"{name}/rows", axis=1)
        self.biases[part] = graph.node("Unsqueeze", [gathered, graph.integers(0)], f"{name}/all")
        return self.biases[part]
