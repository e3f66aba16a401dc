"""The graph of ModernBERT (Warner et al., 2024): pre-norm blocks, rotary positions, gates, and attention of two kinds.

Inputs are `input_ids` [batch, sequence], padded on the right, and `lengths` [batch], which tells the real tokens. Local layers see a
window, block by block (`modernbert_blocks`). Global layers use onnxruntime's tiled attention, which holds no scores of all tokens with
all tokens, and takes no mask for it: that a key is padding is told by one more dimension of the heads, 1 in queries and far below 0
in keys that are padding. Memory therefore grows with the length of texts, not with its square.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from onnx import TensorProto

from ..checkpoint import Checkpoint
from ..graph import Graph
from .blocks import BlockWriter
from .embeddings import declare_inputs
from .heads import Heads
from .modernbert_blocks import HIDDEN, Cutter
from .modernbert_parts import MeanHead, ModernBertEncoder
from .parts import Block, Head, SelfAttention
from .places import before_end
from .turning import turns

__all__ = ["build"]


def build(graph: Graph, checkpoint: Checkpoint, encoder: ModernBertEncoder, head: Head, *, type_ids: bool) -> None:
    """Write the whole graph; ModernBERT has no token types, whatever its tokenizer gives."""
    declare_inputs(graph, checkpoint, None)
    writer = _Writer(graph, checkpoint, encoder, head)
    x = writer.embed(encoder, "input_ids", "")
    for number, block in enumerate(encoder.blocks):
        x = writer.block(x, block, number, last=writer.is_first_only(number))
        checkpoint.release()
    x = writer.norm(x, encoder.norm, "/norm")
    writer.head(writer.mean(x) if isinstance(head, MeanHead) else x, head)


class _Writer(BlockWriter, Heads):
    """Writes the parts of one encoder.

    Args:
        graph: The graph under construction; its inputs are declared.
        checkpoint: Where the weights are.
        body: What is written.
        head: What will stand on it. Where it reads the first token only, the last block computes that one row of queries.
    """

    def __init__(self, graph: Graph, checkpoint: Checkpoint, body: ModernBertEncoder, head: Head) -> None:
        super().__init__(graph, checkpoint, body)
        self.body = body
        self.first_only = head.first_token and not isinstance(head, MeanHead)
        whole = [block.attention for number, block in enumerate(body.blocks) if not self.is_first_only(number)]
        windows = {part.window for part in whole if part.window}
        self.cutters = {window: Cutter(graph, window) for window in windows}
        rotaries = dict.fromkeys(block.attention.rotary for block in body.blocks)
        self.tables = {part: turns(graph, part, body.window, f"rotary.{n}") for n, part in enumerate(rotaries) if part}
        everywhere = {part.heads for part in whole if not part.window}
        self.real = before_end(graph, "/real") if everywhere or isinstance(head, MeanHead) else ""  # [batch, sequence]
        self.marks = {heads: self.marked(heads) for heads in sorted(everywhere)}

    def is_first_only(self, number: int) -> bool:
        """Whether nothing but its first token is wanted of a block."""
        return self.first_only and number == len(self.body.blocks) - 1

    def wanted(self, x: str, name: str) -> str:
        """The first token of x [batch, sequence, width]: [batch, 1, width]."""
        return self.first_token(x, name)

    # Attention

    def attention(self, x: str, block: Block, number: int) -> str:
        """Softmax(scale q k^T) v: [batch, sequence, heads * size], or [batch, 1, heads * size] where only that is wanted."""
        graph, part, name = self.graph, block.attention, f"/{block.name}/attention"
        if self.is_first_only(number):
            return self.first(x, part, name)
        width = part.heads * part.head_size
        qkv = self.dense(x, replace(part.query, slab=None), f"{name}/qkv")
        q, k, v = graph.node("Split", [qkv, graph.integers(width, width, width)], f"{name}/split", outputs=3, axis=-1)
        q, k = self.turned(q, part, f"{name}/q"), self.turned(k, part, f"{name}/k")
        return self.within(q, k, v, part, name) if part.window else self.everywhere(q, k, v, part, name)

    def first(self, x: str, part: SelfAttention, name: str) -> str:
        """What the first token takes from those that it sees."""
        graph, lengths = self.graph, "lengths"
        width = part.heads * part.head_size
        if part.window:
            reach = part.window // 2 + 1
            x = graph.node("Slice", [x, *(graph.integers(n) for n in (0, reach, 1))], f"{name}/seen")
            lengths = graph.node("Min", [lengths, graph.integers(reach)], f"{name}/lengths")
        kv = self.dense(x, [part.key, part.value], f"{name}/kv")
        k, v = graph.node("Split", [kv, graph.integers(width, width)], f"{name}/split", outputs=2, axis=-1)
        q = self.turned(self.dense(self.wanted(x, f"{name}/first"), part.query, f"{name}/q"), part, f"{name}/q")
        k = self.turned(k, part, f"{name}/k")
        return str(graph.node("Attention", [q, k, v, "", "", "", lengths], name, **_heads(part)))

    def within(self, q: str, k: str, v: str, part: SelfAttention, name: str) -> str:
        """Attention within the window, block by block."""
        assert part.window
        cutter, width = self.cutters[part.window], part.heads * part.head_size
        q = cutter.queries(q, width, f"{name}/q/blocks")
        k, v = (cutter.keys(value, width, f"{name}/{label}/blocks") for label, value in (("k", k), ("v", v)))
        mixed = self.graph.node("Attention", [q, k, v, cutter.bias], f"{name}/blocks", **_heads(part))
        return cutter.joined(mixed, width, name)

    def everywhere(self, q: str, k: str, v: str, part: SelfAttention, name: str) -> str:
        """Attention to all real tokens."""
        graph, marked = self.graph, []
        for label, value, mark in zip("qk", (q, k), self.marks[part.heads], strict=True):
            own = f"{name}/{label}"
            heads = graph.node("Reshape", [value, graph.integers(0, 0, part.heads, part.head_size)], f"{own}/heads")
            wide = graph.node("Concat", [heads, mark], f"{own}/wide", axis=-1)
            marked.append(graph.node("Reshape", [wide, graph.integers(0, 0, -1)], f"{own}/marked"))
        return graph.contrib("MultiHeadAttention", [*marked, v], name, num_heads=part.heads, scale=part.scale)

    def turned(self, x: str, part: SelfAttention, name: str) -> str:
        """Queries or keys turned by their places, the first of which is 0: [batch, sequence, heads * size]."""
        assert part.rotary
        inputs = [x, self.graph.integers(0), *self.tables[part.rotary]]
        return self.graph.contrib("RotaryEmbedding", inputs, f"{name}/turned", num_heads=part.heads)

    # What is padding

    def marked(self, heads: int) -> tuple[str, str]:
        """The added dimension of queries and of keys, [batch, sequence, heads, 1]."""
        graph, name = self.graph, f"/real/{heads}"
        shape = graph.node(
            "Concat",
            [graph.node("Shape", [self.real], f"{name}/size"), graph.integers(heads, 1)],
            f"{name}/shape",
            axis=0,
        )
        one, zero, hidden = (
            graph.tensor(f"f32.{value!r}", np.array(value, np.float32)) for value in (1.0, 0.0, HIDDEN)
        )
        keys = graph.node("Where", [self.real, zero, hidden], f"{name}/padding")
        keys = graph.node("Unsqueeze", [keys, graph.integers(2, 3)], f"{name}/deep")
        return graph.node("Expand", [one, shape], f"{name}/queries"), graph.node(
            "Expand", [keys, shape], f"{name}/keys"
        )

    def mean(self, x: str) -> str:
        """The mean of the real tokens of x [batch, sequence, width]: [batch, 1, width]."""
        graph = self.graph
        real = graph.node("Cast", [self.real], "/mean/real", to=TensorProto.FLOAT)
        count = graph.node("Cast", ["lengths"], "/mean/lengths", to=TensorProto.FLOAT)
        shares = graph.node(
            "Div", [real, graph.node("Unsqueeze", [count, graph.integers(1)], "/mean/count")], "/mean/shares"
        )
        return str(
            graph.node("MatMul", [graph.node("Unsqueeze", [shares, graph.integers(1)], "/mean/row"), x], "/mean")
        )


def _heads(part: SelfAttention) -> dict[str, Any]:
    """Attributes of ONNX's attention."""
    return {"q_num_heads": part.heads, "kv_num_heads": part.heads, "scale": part.scale}
