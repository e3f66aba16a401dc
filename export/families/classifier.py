"""The graph of an encoder-decoder that classifies (Lewis et al., 2019): BART's decoder reads the source, and its last state counts.

Inputs are `input_ids` [batch, sequence], padded on the right, and `lengths` [batch]. The decoder reads the same ids, shifted by one
behind its start token; only the row of a text's last token passes through more than the last block's attention.
"""

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from .blocks import BlockWriter
from .parts import Block, Dense, EncoderDecoder, Head
from .places import counted
from .source import states

__all__ = ["build"]


def build(graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder, head: Head) -> None:
    """Write the whole graph."""
    graph.input("input_ids", ("batch", "sequence"))
    graph.input("lengths", ("batch",))
    memory = states(graph, checkpoint, body)
    graph.scope = "/decoder"
    decoder = body.decoder
    writer = _Writer(graph, checkpoint, body, memory)
    x = writer.embed(decoder, writer.shifted(body.start), counted(graph, "/places"))
    for number, block in enumerate(decoder.blocks):
        x = writer.block(x, block, number, last=number == len(decoder.blocks) - 1)
        checkpoint.release()
    x = graph.node("Squeeze", [writer.norm(x, decoder.norm, "/norm"), graph.integers(1)], "/last")
    *steps, last = head.steps
    assert isinstance(last, Dense)
    x = writer.steps(x, steps, "/head")
    # the last step gives the logits themselves; it is small, and stays as it is
    x = graph.linear(x, [writer.matrix(last)], "/head/logits", exact=True)
    graph.output(x, "logits", ("batch", checkpoint.shape(last.weight)[0]))


class _Writer(BlockWriter):
    """Writes the parts of a decoder that reads a whole text at once."""

    def __init__(self, graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder, memory: str) -> None:
        super().__init__(graph, checkpoint, body.decoder, shared=body.encoder.words == body.decoder.words)
        self.memory = memory
        self.ends = ""

    def shifted(self, start: int) -> str:
        """The ids behind `start`, without the last: [batch, sequence]."""
        graph = self.graph
        first, last = graph.integers(0), graph.integers(-1)
        head = graph.node("Slice", ["input_ids", first, graph.integers(1), graph.integers(1)], "/ids/first")
        begin = graph.tensor("start", np.array(start, np.int64))
        begins = graph.node("Add", [graph.node("Sub", [head, head], "/ids/zero"), begin], "/ids/start")
        rest = graph.node("Slice", ["input_ids", first, last, graph.integers(1)], "/ids/rest")
        return str(graph.node("Concat", [begins, rest], "/ids", axis=1))

    def attention(self, x: str, block: Block, number: int) -> str:
        """Causal self-attention: [batch, sequence, heads * size]."""
        graph, part, name = self.graph, block.attention, f"/{block.name}/attention"
        qkv = self.dense(x, (part.query, part.key, part.value), f"{name}/qkv")
        width = part.heads * part.head_size
        q, k, v = graph.node("Split", [qkv, graph.integers(width, width, width)], f"{name}/split", outputs=3, axis=-1)
        # what comes after a text is not before any of its tokens: no length is needed
        return str(
            graph.node(
                "Attention", [q, k, v], name,
                q_num_heads=part.heads, kv_num_heads=part.heads, scale=part.scale, is_causal=1,
            )
        )  # fmt: skip

    def cross(self, x: str, block: Block, number: int) -> str:
        """Attention to what the encoder gave: [batch, queries, heads * size]."""
        graph, part, name = self.graph, block.cross, f"/{block.name}/cross"
        assert part
        width = part.heads * part.head_size
        kv = self.dense(self.memory, (part.key, part.value), f"{name}/kv")
        k, v = graph.node("Split", [kv, graph.integers(width, width)], f"{name}/split", outputs=2, axis=-1)
        q = self.dense(x, part.query, f"{name}/q")
        return str(
            graph.node(
                "Attention", [q, k, v, "", "", "", "lengths"], name,
                q_num_heads=part.heads, kv_num_heads=part.heads, scale=part.scale,
            )
        )  # fmt: skip

    def wanted(self, x: str, name: str) -> str:
        """The last token's row of each text: [batch, 1, width]."""
        graph = self.graph
        if not self.ends:
            before = graph.node("Sub", ["lengths", graph.tensor("one", np.array(1, np.int64))], "/last/place")
            self.ends = graph.node("Unsqueeze", [before, graph.integers(1)], "/last/places")
        rows = graph.node("GatherND", [x, self.ends], f"{name}/row", batch_dims=1)
        return str(graph.node("Unsqueeze", [rows, graph.integers(1)], name))
