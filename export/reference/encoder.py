"""What an encoder answers, in plain numpy: the reference that bundles are verified against. Knows no graph and no session.

It shares the names of the checkpoint's tensors and the buckets of relative positions with the graph writer, nothing else.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..checkpoint import Checkpoint
from ..families.parts import Encoder, Head, Layer, RelativeBias
from .activations import activate
from .blocks import Blocks, Floats, attend, places_of

__all__ = ["Window", "forward_body", "forward_encoder"]


class Window(NamedTuple):
    """One text: its ids and type ids."""

    ids: list[int]
    type_ids: list[int]


def forward_encoder(
    checkpoint: Checkpoint, body: Encoder, head: Head, windows: Sequence[Window], rows: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        body: What the encoder consists of.
        head: What stands on it.
        windows: Ids and type ids of each text.
        rows: Per text the positions that a masked LM projects.

    Returns:
        Per text: [columns] of a head on the first token, [len(rows), columns] of a masked LM, else [tokens, columns].
    """
    model = _Reference(checkpoint, windows)
    x = model.states(body, windows)
    lengths = [len(window.ids) for window in windows]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    if head.first_token:
        x, parts = x[starts], np.arange(1, len(windows))
    elif head.kind == "masked-lm":
        x = x[np.concatenate([start + np.asarray(wanted) for start, wanted in zip(starts, rows, strict=True)])]
        parts = np.cumsum([len(wanted) for wanted in rows])[:-1]
    else:
        parts = ends[:-1]
    x = model.steps(x, head.steps)
    if head.tied:
        x = x @ model.tensor(head.tied).T + (model.tensor(head.tied_bias) if head.tied_bias else np.float32(0))
    return [part[0] if head.first_token else part for part in np.split(x, parts)]


def forward_body(checkpoint: Checkpoint, body: Encoder, windows: Sequence[Window]) -> list[Floats]:
    """Per text what the last layer gives, [tokens, width]; see `forward_encoder`."""
    model = _Reference(checkpoint, windows)
    return model.split(model.states(body, windows))


class _Reference(Blocks):
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width]."""

    def __init__(self, checkpoint: Checkpoint, windows: Sequence[Window]) -> None:
        super().__init__(checkpoint, [len(window.ids) for window in windows], causal=False)

    def states(self, body: Encoder, windows: Sequence[Window]) -> Floats:
        x = self.embed(body, windows)
        for layer in body.layers:
            x = self.layer(x, layer, body.bias)
            self._checkpoint.release()
        return x

    def embed(self, body: Encoder, windows: Sequence[Window]) -> Floats:
        texts = [np.asarray(window.ids, np.int64) for window in windows]
        places = np.concatenate([places_of(text, body.first_position, body.skipped_id) for text in texts])
        x = self.rows(body.words, np.concatenate(texts)) + self.rows(body.positions, places)
        if body.types:
            table = self.tensor(body.types)
            kinds = np.concatenate([np.asarray(window.type_ids) for window in windows])
            x = x + table[kinds if len(table) > 1 else 0]
        x = self.norm(x, body.norm)
        return self.dense(x, body.projection) if body.projection else x

    def layer(self, x: Floats, layer: Layer, bias: RelativeBias | None) -> Floats:
        part = layer.attention
        heads = (self.dense(x, dense).reshape(len(x), part.heads, -1) for dense in (part.query, part.key, part.value))
        added = self.relative_bias(bias) if bias else None
        scale = 1 / math.sqrt(part.head_size)
        mixed = [attend(*text, scale=scale, added=added) for text in zip(*map(self.split, heads), strict=True)]
        x = self.norm(x + self.dense(np.concatenate(mixed), part.output), layer.attention_norm)
        return self.norm(
            x + self.dense(activate(self.dense(x, layer.up), layer.activation), layer.down), layer.ffn_norm
        )
