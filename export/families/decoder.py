"""The graph of decoder-only models: GPT (Radford et al., 2018, 2019), Llama (Touvron et al., 2023) and their relatives.

One graph reads a prompt and takes a step. Keys and values are written where they came from: `past_key_values.N.key` and `.value`
[batch, heads, capacity, size] go in, `present.N.*` come out in the same memory. Rows of a batch are padded on the right; `seqlens_k`
[batch] says how many tokens each has after the run, less one. Only the flat positions in `rows` reach the language modelling head, and
of the last block they alone pass through more than the attention.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..calibrate import Calibration
from ..checkpoint import Checkpoint
from ..graph import Graph, Matrix
from . import alibi
from .blocks import BlockWriter
from .matrices import rows_of
from .parts import Block, Decoder, Norm, Rotary, SelfAttention
from .turning import turns

__all__ = ["Writer", "build", "quantize_cache"]


def build(graph: Graph, checkpoint: Checkpoint, body: Decoder, calibration: Calibration | None = None) -> None:
    """Write the whole graph, its 4-bit layers with the help of what `calibration` saw."""
    writer = Writer(graph, checkpoint, body)
    graph.input("input_ids", ("batch", "sequence"))
    graph.input("rows", ("rows",))
    graph.input("seqlens_k", ("batch",), TensorProto.INT32)
    graph.input("total_sequence_length", (1,), TensorProto.INT32)
    if body.positions or any(_turns_outside(block.attention) for block in body.blocks):
        graph.input("position_ids", ("batch", "sequence"))
    x = writer.embed(body, "input_ids", "position_ids")
    for number, block in enumerate(body.blocks):
        graph.moments = calibration.block(block) if calibration else {}
        x = writer.block(x, block, number, last=number == len(body.blocks) - 1)
        checkpoint.release()
    graph.moments = {}
    writer.head(x)


def quantize_cache(graph: Graph, body: Decoder, scales: Mapping[str, NDArray[np.float32]]) -> None:
    """Hold keys and values as int8.

    Args:
        graph: A whole graph.
        body: What it was built from.
        scales: Name of each `past_key_values.N.*` to what a step of its channels is worth, [heads * size].
    """
    for number, block in enumerate(body.blocks):
        names = [f"past_key_values.{number}.{kind}" for kind in ("key", "value")]
        given = {12 + place: graph.tensor(f"{name}.scale", scales[name]) for place, name in enumerate(names)}
        kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        graph.amend(f"/{block.name}/attention", given, **kinds)
        for name in names:
            graph.retype(name, TensorProto.INT8)
            graph.retype(name.replace("past_key_values", "present"), TensorProto.INT8)


def _turns_outside(part: SelfAttention) -> bool:
    """Whether the rotation needs nodes of its own: the attention kernel turns heads of multiples of 16, by multiples of 8 pairs."""
    return part.rotary is not None and bool(part.head_size % 16 or len(part.rotary.frequencies) % 8)


def _held_size(part: SelfAttention) -> int:
    """Values of a head in the cache: the attention kernel takes multiples of 8, and what is added is zeros."""
    return -(-part.head_size // 8) * 8


def _widened(matrix: Matrix, size: int, wanted: int) -> Matrix:
    """A projection [heads * size, in] that gives heads of `wanted` values, the last of them zeros."""
    key, weight, bias = matrix

    def widened(rows: NDArray[Any]) -> NDArray[Any]:
        shaped = np.asarray(rows, np.float32).reshape(-1, size, *rows.shape[1:])
        wide = np.zeros((len(shaped), wanted, *rows.shape[1:]), np.float32)
        wide[:, :size] = shaped
        return wide.reshape(-1, *rows.shape[1:])

    return f"{key}.widened", widened(weight), None if bias is None else widened(bias)


class Writer(BlockWriter):
    """Writes the parts of one decoder."""

    def __init__(self, graph: Graph, checkpoint: Checkpoint, body: Decoder, *, shared: bool = False) -> None:
        super().__init__(graph, checkpoint, body, shared=shared or body.head is None)
        self.body = body
        self.rotaries: dict[Rotary, tuple[str, str]] = {}  # to the names of its tables
        self.bias = ""

    def wanted(self, x: str, name: str) -> str:
        """The rows that the head reads, [rows, width], of x [batch, sequence, width]."""
        graph = self.graph
        # the first two dimensions become one, whatever the last one is
        shape = graph.node("Shape", [x], f"{name}/width", start=2)
        flat = graph.node("Concat", [graph.integers(-1), shape], f"{name}/shape", axis=0)
        return str(graph.node("Gather", [graph.node("Reshape", [x, flat], f"{name}/flat"), "rows"], name))

    # Attention

    def attention(self, x: str, block: Block, number: int) -> str:
        """Softmax(scale q k^T) v over what the cache holds and what comes now: [batch, sequence, heads * size]."""
        graph, part, name = self.graph, block.attention, f"/{block.name}/attention"
        size = _held_size(part)
        projections = [self.matrix(dense) for dense in (part.query, part.key, part.value)]
        if size != part.head_size:
            projections = [_widened(matrix, part.head_size, size) for matrix in projections]
        qkv = graph.linear(x, projections, f"{name}/qkv")
        q, k, v = qkv, "", ""  # the kernel splits them itself, where nothing comes between
        outside = _turns_outside(part)
        if part.query_norm or part.key_norm or outside:
            widths = [heads * part.head_size for heads in (part.heads, part.kv_heads, part.kv_heads)]
            q, k, v = graph.node("Split", [qkv, graph.integers(*widths)], f"{name}/split", outputs=3, axis=-1)
            q = self.head_norm(q, part.query_norm, part, f"{name}/q")
            k = self.head_norm(k, part.key_norm, part, f"{name}/k")
        cos, sin = self.turns(part.rotary) if part.rotary else ("", "")
        if outside:
            q, k = (self.turn(value, heads, part, (cos, sin), f"{name}/{label}")
                    for value, heads, label in ((q, part.heads, "q"), (k, part.kv_heads, "k")))  # fmt: skip
            cos = sin = ""
        past, present = f"past_key_values.{number}", f"present.{number}"
        shape = ("batch", part.kv_heads, "capacity", size)
        pasts = [graph.input(f"{past}.{kind}", shape, TensorProto.FLOAT) for kind in ("key", "value")]
        bias = self.biases(part) if part.alibi or part.relative else ""
        inputs = [q, k, v, *pasts, "seqlens_k", "total_sequence_length", cos, sin, "", bias]
        while not inputs[-1]:
            inputs.pop()
        attributes = {
            "num_heads": part.heads,
            "kv_num_heads": part.kv_heads,
            "scale": part.scale,
            "do_rotary": int(bool(cos)),
            **({"local_window_size": part.window} if part.window and part.window < self.body.window else {}),
            **({"softcap": part.softcap} if part.softcap else {}),
        }
        outputs = graph.node("GroupQueryAttention", inputs, name, outputs=3, domain="com.microsoft", **attributes)
        for value, kind in zip(outputs[1:], ("key", "value"), strict=True):
            graph.output(value, f"{present}.{kind}", shape)
        return str(outputs[0])

    def attention_output(self, mixed: str, block: Block, name: str) -> str:
        """The output projection of self-attention."""
        part = block.attention
        size = _held_size(part)
        if size == part.head_size:
            return self.dense(mixed, part.output, name)
        key, weight, bias = self.matrix(part.output)
        wide = _widened((key, weight.T, None), part.head_size, size)
        return self.graph.linear(mixed, [(wide[0], wide[1].T, bias)], name)

    def head_norm(self, x: str, norm: Norm | None, part: SelfAttention, name: str) -> str:
        """Queries or keys normalized, each head by itself or all together."""
        if norm is None or part.norm_all:
            return self.norm(x, norm, f"{name}/norm")
        graph = self.graph
        heads = graph.node("Reshape", [x, graph.integers(0, 0, -1, part.head_size)], f"{name}/heads")
        return str(
            graph.node("Reshape", [self.norm(heads, norm, f"{name}/norm"), graph.integers(0, 0, -1)], f"{name}/normed")
        )

    def turn(self, x: str, heads: int, part: SelfAttention, tables: tuple[str, str], name: str) -> str:
        """Queries or keys turned by their positions, [batch, sequence, heads * size]."""
        assert part.rotary
        pairs = len(part.rotary.frequencies)
        partial: dict[str, Any] = {"rotary_embedding_dim": 2 * pairs} if 2 * pairs < part.head_size else {}
        inputs = [x, *tables, "position_ids"]
        return str(self.graph.node("RotaryEmbedding", inputs, f"{name}/turned", num_heads=heads, **partial))

    def turns(self, part: Rotary) -> tuple[str, str]:
        """Cosines and sines [window, pairs]; stored as formulas, which onnxruntime works out when it loads the graph."""
        if part not in self.rotaries:
            self.rotaries[part] = turns(self.graph, part, self.body.window, f"rotary.{len(self.rotaries)}")
        return self.rotaries[part]

    def biases(self, part: SelfAttention) -> str:
        """Bias [1, heads, sequence, total]: slope times the key's place.

        A softmax does not see what is added to a whole row, so that the query's place may be left out.
        """
        graph = self.graph
        if not self.bias:
            table = graph.tensor("alibi", alibi.biases(part, self.body.window)[None, :, None])
            total = graph.node("Cast", ["total_sequence_length"], "/alibi/total", to=TensorProto.INT64)
            row = graph.node("Slice", [table, graph.integers(0), total, graph.integers(3)], "/alibi/row")
            length = graph.node("Shape", ["input_ids"], "/alibi/length", start=1, end=2)
            shape = graph.node("Concat", [graph.integers(1, 1), length, graph.integers(1)], "/alibi/shape", axis=0)
            self.bias = graph.node("Expand", [row, shape], "/alibi/bias")
        return self.bias

    # The head

    def head(self, x: str) -> None:
        """Logits [rows, entries], and the hidden states that they come from, which cost nothing unless they are asked for."""
        graph, body, tensor = self.graph, self.body, self.checkpoint.tensor
        states = x = self.norm(x, body.norm, "/norm")
        if body.project_out:
            x = self.dense(x, body.project_out, "/head/project")
        x = self.steps(x, body.head_steps, "/head/steps")
        words = tensor(body.words)
        if body.head:
            x = self.dense(x, body.head, "/head", head=True)
        else:
            bias = tensor(body.head_bias).reshape(-1) if body.head_bias else None
            x = graph.tied(x, body.words, words, bias, "/head")
        if body.logits_scale != 1:
            x = self.times(x, body.logits_scale, "/head/scaled")
        if body.logits_cap:
            bent = graph.node("Tanh", [self.times(x, 1 / body.logits_cap, "/head/down")], "/head/bent")
            x = self.times(bent, body.logits_cap, "/head/up")
        columns = rows_of(self.checkpoint, body.head)[0] if body.head else len(words)
        graph.output(x, "logits", ("rows", columns))
        graph.output(states, "hidden", ("rows", self.width))
