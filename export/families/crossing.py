"""The graph that writes the target of an encoder-decoder, one token of every row at a time: T5, BART, Marian and their relatives.

Inputs are `input_ids` [rows, 1], `seqlens_k` [rows] and `total_sequence_length` as in `decoder`, perhaps `position_ids` [rows, 1], the
rows' own past `past_key_values.N.*` [rows, heads, capacity, size], written in place, and of the sources `source_lengths` [sources] and
`cross.N.key` and `.value` [sources, heads, source, size], which `source` made. There are as many rows to each source, neighbours: rows
of one source are queries side by side over the same keys and values, which are therefore never repeated.
"""

from typing import Any

import numpy as np
from onnx import TensorProto

from ..calibrate import Calibration
from ..checkpoint import Checkpoint
from ..graph import Graph
from .decoder import Writer
from .parts import Block, EncoderDecoder, RelativeBias, SelfAttention
from .relative import relative_buckets

__all__ = ["build"]

_NEVER = -1e30  # added to the scores of what fills a batch of sources


def build(graph: Graph, checkpoint: Checkpoint, body: EncoderDecoder, calibration: Calibration | None = None) -> None:
    """Write the whole graph, its 4-bit layers with the help of what `calibration` saw."""
    decoder = body.decoder
    writer = _Writer(graph, checkpoint, decoder, shared=body.encoder.words == decoder.words)
    graph.input("input_ids", ("rows", 1))
    graph.input("seqlens_k", ("rows",), TensorProto.INT32)
    graph.input("total_sequence_length", (1,), TensorProto.INT32)
    graph.input("source_lengths", ("sources",), TensorProto.INT32)
    if decoder.positions or decoder.sinusoids:
        graph.input("position_ids", ("rows", 1))
    x = writer.embed(decoder, "input_ids", "position_ids")
    for number, block in enumerate(decoder.blocks):
        graph.moments = calibration.block(block) if calibration else {}
        x = writer.block(x, block, number)
        checkpoint.release()
    graph.moments = {}
    writer.head(graph.node("Squeeze", [x, graph.integers(1)], "/rows"))


class _Writer(Writer):
    """Writes the parts of one decoder with cross-attention."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.relatives: dict[RelativeBias, str] = {}
        self.distances = ""
        self.shapes: dict[int, str] = {}

    def cross(self, x: str, block: Block, number: int) -> str:
        """Softmax(scale q k^T) v over the source of each row: [rows, 1, heads * size]."""
        graph, part, name = self.graph, block.cross, f"/{block.name}/cross"
        assert part
        held = ("sources", part.heads, "source", part.head_size)
        keys, values = (graph.input(f"cross.{number}.{kind}", held, TensorProto.FLOAT) for kind in ("key", "value"))
        width = part.heads * part.head_size
        beside = graph.node("Reshape", [self.dense(x, part.query, f"{name}/q"), self.beside(width)], f"{name}/beside")
        mixed = graph.contrib(
            "MultiHeadAttention", [beside, keys, values, "", "source_lengths"], name,
            num_heads=part.heads, scale=part.scale, mask_filter_value=_NEVER,
        )  # fmt: skip
        return str(graph.node("Reshape", [mixed, graph.integers(-1, 1, width)], f"{name}/rows"))

    def beside(self, width: int) -> str:
        """The shape [sources, rows of each, width]."""
        graph = self.graph
        if width not in self.shapes:
            sources = graph.node("Shape", ["source_lengths"], f"/beside.{width}/sources")
            self.shapes[width] = graph.node("Concat", [sources, graph.integers(-1, width)], f"/beside.{width}", axis=0)
        return self.shapes[width]

    def biases(self, part: SelfAttention) -> str:
        """Bias [rows, heads, 1, total] of the distances from each row's newest token to those it has read."""
        if part.relative is None:
            return super().biases(part)
        if part.relative in self.relatives:
            return self.relatives[part.relative]
        graph, name, far = self.graph, f"/relative.{len(self.relatives)}", part.relative.farthest
        table = np.asarray(self.checkpoint.tensor(part.relative.table), np.float32)
        if part.relative.columns is not None:
            table = table[:, list(part.relative.columns)]
        buckets = relative_buckets(-np.arange(far + 1), part.relative.buckets, far, both_ways=False)
        rows = graph.tensor(f"{part.relative.table}.{name}", np.ascontiguousarray(table[buckets]))
        gathered = graph.node("Gather", [rows, self.back(far)], f"{name}/rows")
        turned = graph.node("Transpose", [gathered], f"{name}/turned", perm=[0, 2, 1])
        self.relatives[part.relative] = graph.node("Unsqueeze", [turned, graph.integers(2)], f"{name}/bias")
        return self.relatives[part.relative]

    def back(self, far: int) -> str:
        """How far back each token is, at most `far`: [rows, total]; 0 for those that a row has not read, which nobody looks at."""
        graph = self.graph
        if not self.distances:
            zero, one = graph.tensor("zero", np.array(0, np.int64)), graph.tensor("one", np.array(1, np.int64))
            total = graph.node("Cast", ["total_sequence_length"], "/back/total", to=TensorProto.INT64)
            places = graph.node("Range", [zero, graph.node("Squeeze", [total], "/back/end"), one], "/back/places")
            newest = graph.node("Cast", ["seqlens_k"], "/back/newest", to=TensorProto.INT64)
            down = graph.node("Unsqueeze", [newest, graph.integers(1)], "/back/down")
            apart = graph.node("Sub", [down, places], "/back/apart")
            ends = [graph.tensor(f"i64.scalar.{value}", np.array(value, np.int64)) for value in (0, far)]
            self.distances = graph.node("Clip", [apart, *ends], "/back")
        return self.distances
