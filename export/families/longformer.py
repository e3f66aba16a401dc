"""The graph of Longformer (Beltagy et al., 2020): a window slides over the text, and a few global tokens see all and are seen by all.

Inputs are BERT's: `input_ids`, `token_type_ids` where the tokenizer gives them, `lengths`, and `rows` of a masked LM. Which tokens are
global is computed in the graph: none, the first, or those before the first separator; they are always a text's first ones.

Queries go through attention in blocks, each with the keys that its window reaches and those of the global tokens, so that time and
memory grow with the text and not with its square. The size of a block is computed from the text's length: a text of a few windows is
one block without neighbours, which is plain attention.
"""

from typing import NamedTuple

import numpy as np

from ..checkpoint import Checkpoint
from ..graph import Graph
from .embeddings import Embeddings, declare_inputs
from .heads import Heads
from .longformer_parts import Globals, LongEncoder, Sight, globals_of
from .parts import Attention, Head, Layer
from .places import range_of

__all__ = ["build"]

_UNSEEN = -1e30  # added to a score; twice that is still a float32, so that a row of padding gives numbers


def build(graph: Graph, checkpoint: Checkpoint, encoder: LongEncoder, head: Head, *, type_ids: bool) -> None:
    """Write the whole graph."""
    body = encoder.body
    writer = _Writer(graph, checkpoint, width=checkpoint.shape(body.layers[-1].down.weight)[0])
    declare_inputs(graph, checkpoint, body.types if type_ids else None)
    x = writer.embeddings(
        body.words, body.positions, body.types, first_position=body.first_position, skipped_id=body.skipped_id
    )
    x = writer.norm(x, body.norm, "/embeddings/norm")
    layers = list(zip(body.layers, encoder.sights, strict=True))
    blocks = writer.blocks(encoder)
    x = writer.filled(x, blocks)
    which = writer.global_tokens(globals_of(head.kind), encoder.separator, blocks)
    whole = layers[:-1] if head.first_token else layers
    views = {reach: writer.view(reach, blocks, which) for reach in sorted({sight.reach for _, sight in whole})}
    for layer, sight in whole:
        x = writer.layer(x, layer, sight, blocks, views[sight.reach], which)
        checkpoint.release()
    if head.first_token:  # that token is global: nobody looks through a window any more
        x = writer.first_layer(x, *layers[-1])
    else:
        x = graph.node("Slice", [x, graph.integers(0), blocks.length, graph.integers(1)], "/blocks/cut")
    writer.head(x, head)


class _Blocks(NamedTuple):
    """How the queries of a batch lie in blocks: names of int64 lists of one number, but for the last three.

    Attributes:
        length: Tokens of the batch's longest text.
        number, size: Blocks of each text, and queries of each block; their product is at least `length`.
        filled: That product.
        several: 1 where there is more than one block, else 0.
        starts: First query of each block [number, 1].
        queries: The shape [batch x number, size, width].
        texts: The shape [batch, filled, width].
    """

    length: str
    number: str
    size: str
    filled: str
    several: str
    starts: str
    queries: str
    texts: str


class _Globals(NamedTuple):
    """The global tokens of a batch.

    Attributes:
        counts: How many each text has [batch, 1]; they are its first ones.
        most: The largest of them, at least 1: a list of one number.
        flags: Which of the first `most` tokens are global [batch, most, 1]; "" where all are.
    """

    counts: str
    most: str
    flags: str = ""


class _View(NamedTuple):
    """What the queries of each block see: keys of global tokens, then keys around the block.

    Attributes:
        places: Of the keys of all blocks, one block after the other, in their text [number x keys].
        keys: The shape [batch x number, keys, width].
        mask: Added to scores [batch x number, 1, size, keys]: 0, or so little that the key is not seen.
    """

    places: str
    keys: str
    mask: str


class _Writer(Embeddings, Heads):
    """Writes the parts of one encoder."""

    def blocks(self, encoder: LongEncoder) -> _Blocks:
        """Blocks of the encoder's size; one block of all where a text is not long enough to be cut."""
        graph = self.graph
        length = graph.node("Shape", ["input_ids"], "/blocks/length", start=1, end=2)
        needed = self._divided(length, graph.integers(encoder.block), "/blocks/needed")
        many = graph.node("GreaterOrEqual", [length, graph.integers(encoder.cut_from)], "/blocks/many")
        count = graph.node("Where", [many, needed, graph.integers(1)], "/blocks/count")
        several = graph.node("Cast", [many], "/blocks/several", to=7)
        even = self._divided(length, count, "/blocks/size")
        filled = graph.node("Mul", [count, even], "/blocks/filled")
        starts = graph.node("Mul", [range_of(graph, count, "/blocks/numbers"), even], "/blocks/starts")
        column = graph.node("Unsqueeze", [starts, graph.integers(1)], "/blocks/starts/column")
        queries, texts = (self._shape(-1, rows, self.width, f"{rows}/shape") for rows in (even, filled))
        return _Blocks(length, count, even, filled, several, column, queries, texts)

    def filled(self, x: str, blocks: _Blocks) -> str:
        """Zeros behind every text, up to whole blocks."""
        graph = self.graph
        missing = graph.node("Sub", [blocks.filled, blocks.length], "/blocks/missing")
        pads = graph.node("Concat", [graph.integers(0, 0, 0, 0), missing, graph.integers(0)], "/blocks/pads", axis=0)
        return str(graph.node("Pad", [x, pads], "/blocks/x"))

    def global_tokens(self, which: Globals, separator: int, blocks: _Blocks) -> _Globals | None:
        """How many of each text's first tokens are global: none at all, the first, or those before the first separator."""
        graph = self.graph
        if which is None:
            return None
        if which == "first":
            return _Globals(graph.tensor("one.column", np.ones((1, 1), np.int64)), graph.integers(1))
        lengths = graph.node("Unsqueeze", ["lengths", graph.integers(1)], "/globals/lengths")
        real = graph.node("Less", [range_of(graph, blocks.length, "/globals/places"), lengths], "/globals/real")
        parting = graph.node("Equal", ["input_ids", graph.integers(separator)], "/globals/separators")
        found = graph.node("Cast", [graph.node("And", [parting, real], "/globals/found")], "/globals/flags", to=6)
        counts = graph.node("ArgMax", [found], "/globals/counts", axis=1, keepdims=1)  # 0 where there is no separator
        largest = graph.node("ReduceMax", [counts], "/globals/largest", keepdims=0)
        largest = graph.node("Unsqueeze", [largest, graph.integers(0)], "/globals/largest/list")
        most = graph.node("Max", [largest, graph.integers(1)], "/globals/most")
        wide = graph.node("Less", [range_of(graph, most, "/globals/first"), counts], "/globals/wide")
        return _Globals(counts, most, graph.node("Unsqueeze", [wide, graph.integers(2)], "/globals/wide/column"))

    def view(self, reach: int, blocks: _Blocks, which: _Globals | None) -> _View:
        """What the queries of a block see in all layers of one reach."""
        graph, at = self.graph, f"/view/{reach}"
        halo = graph.node("Mul", [blocks.several, graph.integers(reach)], f"{at}/halo")
        before = graph.node("Add", [halo, which.most], f"{at}/before") if which else halo
        around = graph.node("Add", [blocks.size, halo], f"{at}/around")
        keys = graph.node("Add", [before, around], f"{at}/keys")
        columns = range_of(graph, keys, f"{at}/columns")
        apart = graph.node("Sub", [columns, before], f"{at}/apart")  # from the block's first query
        rows = graph.node(
            "Unsqueeze", [range_of(graph, blocks.size, f"{at}/rows"), graph.integers(1)], f"{at}/rows/column"
        )
        distance = graph.node("Abs", [graph.node("Sub", [apart, rows], f"{at}/difference")], f"{at}/distance")
        near = graph.node("LessOrEqual", [distance, graph.integers(reach)], f"{at}/near")  # [size, keys]
        places = graph.node("Add", [blocks.starts, apart], f"{at}/places")  # [number, keys]
        low, high = graph.integers(0), graph.node("Unsqueeze", ["lengths", graph.integers(1)], f"{at}/lengths")
        if which:
            wide = graph.node("Less", [columns, which.most], f"{at}/global")
            near = graph.node("Or", [wide, near], f"{at}/near+global")
            places = graph.node("Where", [wide, columns, places], f"{at}/places+global")
            low = graph.node("Where", [wide, low, which.counts], f"{at}/low")  # a global token is seen once
            low = graph.node("Unsqueeze", [low, graph.integers(1)], f"{at}/low/text")
            high = graph.node("Where", [wide, which.counts, high], f"{at}/high")
        high = graph.node("Unsqueeze", [high, graph.integers(1)], f"{at}/high/text")
        inside = graph.node("And", [
            graph.node("GreaterOrEqual", [places, low], f"{at}/from"), graph.node("Less", [places, high], f"{at}/to"),
        ], f"{at}/inside")  # fmt: skip  # [batch, number, keys]
        inside = graph.node("Unsqueeze", [self._penalty(inside, f"{at}/outside"), graph.integers(2)], f"{at}/seen")
        mask = graph.node("Add", [inside, self._penalty(near, f"{at}/far")], f"{at}/unseen")
        flat = graph.node("Concat", [graph.integers(-1, 1), blocks.size, keys], f"{at}/mask/shape", axis=0)
        last = graph.node("Sub", [blocks.filled, graph.integers(1)], f"{at}/last")
        held = graph.node("Min", [graph.node("Max", [places, graph.integers(0)], f"{at}/least"), last], f"{at}/held")
        return _View(
            graph.node("Reshape", [held, graph.integers(-1)], f"{at}/gathered"),
            self._shape(-1, keys, self.width, f"{at}/shape"),
            graph.node("Reshape", [mask, flat], f"{at}/mask"),
        )

    def layer(self, x: str, layer: Layer, sight: Sight, blocks: _Blocks, view: _View, which: _Globals | None) -> str:
        """A whole layer, [batch, filled, width]."""
        graph, name, part = self.graph, f"/{layer.name}/attention", layer.attention
        wanted = [part.query, part.key, part.value, *([sight.key, sight.value] if which else [])]
        sizes = graph.integers(*[self.width] * len(wanted))
        together = self.dense(x, wanted, f"{name}/qkv")
        q, k, v, *wide = graph.node("Split", [together, sizes], f"{name}/split", outputs=len(wanted), axis=-1)
        q = graph.node("Reshape", [q, blocks.queries], f"{name}/q")
        k, v = (
            graph.node("Reshape", [graph.node("Gather", [value, view.places], f"{at}/rows", axis=1), view.keys], at)
            for value, at in ((k, f"{name}/k"), (v, f"{name}/v"))
        )
        mixed = self._attention([q, k, v, view.mask], part, f"{name}/blocks")
        mixed = graph.node("Reshape", [mixed, blocks.texts], f"{name}/texts")
        if which:
            first = graph.node("Slice", [x, graph.integers(0), which.most, graph.integers(1)], f"{name}/first")
            q = self.dense(first, sight.query, f"{name}/global/q")
            seeing = self._attention([q, *wide, "", "", "", "lengths"], part, f"{name}/global")
            mixed = self._put_first(mixed, seeing, which, name)
        return self.behind_attention(mixed, x, layer)

    def first_layer(self, x: str, layer: Layer, sight: Sight) -> str:
        """The first token of a layer, which is global, [batch, 1, width]."""
        graph, name, part = self.graph, f"/{layer.name}/attention", layer.attention
        together = self.dense(x, [sight.key, sight.value], f"{name}/global/kv")
        sizes = graph.integers(self.width, self.width)
        k, v = graph.node("Split", [together, sizes], f"{name}/global/split", outputs=2, axis=-1)
        first = self.first_token(x, f"{name}/first")
        q = self.dense(first, sight.query, f"{name}/global/q")
        mixed = self._attention([q, k, v, "", "", "", "lengths"], part, f"{name}/global")
        return self.behind_attention(mixed, first, layer)

    def _put_first(self, mixed: str, seeing: str, which: _Globals, name: str) -> str:
        """What global tokens saw, in the place of what they saw through their window."""
        graph = self.graph
        zero, axis = graph.integers(0), graph.integers(1)
        if which.flags:
            own = graph.node("Slice", [mixed, zero, which.most, axis], f"{name}/global/own")
            seeing = graph.node("Where", [which.flags, seeing, own], f"{name}/global/mixed")
        end = graph.tensor("end", np.array([np.iinfo(np.int64).max]))
        rest = graph.node("Slice", [mixed, which.most, end, axis], f"{name}/local")
        return str(graph.node("Concat", [seeing, rest], f"{name}/all", axis=1))

    def _attention(self, inputs: list[str], part: Attention, name: str) -> str:
        return str(self.graph.node("Attention", inputs, name, q_num_heads=part.heads, kv_num_heads=part.heads))

    def _penalty(self, seen: str, name: str) -> str:
        """What is added to scores: nothing where a key is seen."""
        graph = self.graph
        values = (graph.tensor(f"f32.{value:g}", np.array(value, np.float32)) for value in (0, _UNSEEN))
        return str(graph.node("Where", [seen, *values], name))

    def _divided(self, number: str, by: str, name: str) -> str:
        """The quotient, rounded up."""
        graph = self.graph
        more = graph.node("Add", [number, graph.node("Sub", [by, graph.integers(1)], f"{name}/less")], f"{name}/more")
        return str(graph.node("Div", [more, by], name))

    def _shape(self, first: int, rows: str, width: int, name: str) -> str:
        graph = self.graph
        return str(graph.node("Concat", [graph.integers(first), rows, graph.integers(width)], name, axis=0))
