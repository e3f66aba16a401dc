"""What an encoder answers, in plain numpy: the reference that bundles are verified against. Knows no graph and no session.

It shares the names of the checkpoint's tensors and the buckets of relative positions with the graph writer, nothing else.
"""

import math
from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..families.parts import Dense, Encoder, Head, Layer, RelativeBias
from .activations import activate
from .blocks import Blocks, Floats, attend, places_of
from .heads import Window, answers

__all__ = ["EncoderForward", "Window", "forward_body", "forward_encoder"]


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
    return answers(model, model.states(body), head, windows, rows)


def forward_body(checkpoint: Checkpoint, body: Encoder, windows: Sequence[Window]) -> list[Floats]:
    """Per text what the last layer gives, [tokens, width]; see `forward_encoder`."""
    model = _Reference(checkpoint, windows)
    return model.split(model.states(body))


class EncoderForward(Blocks):
    """The parts that BERT and its relatives share, on tokens of all texts side by side [tokens, width].

    Args:
        checkpoint: Where the weights are.
        windows: Ids and type ids of each text.
    """

    def __init__(self, checkpoint: Checkpoint, windows: Sequence[Window]) -> None:
        super().__init__(checkpoint, [len(window.ids) for window in windows], causal=False)
        self.windows = windows

    def embeddings(
        self,
        words: str,
        positions: str | None,
        types: str | None,
        *,
        first_position: int = 0,
        skipped_id: int | None = None,
    ) -> Floats:
        """Rows of the tables of these names, added up; as `Embeddings.embeddings` of the graphs."""
        texts = [np.asarray(window.ids, np.int64) for window in self.windows]
        x = self.rows(words, np.concatenate(texts))
        if positions:
            places = np.concatenate([places_of(text, first_position, skipped_id) for text in texts])
            x = x + self.rows(positions, places)
        if types:
            table = self.tensor(types)
            kinds = np.concatenate([np.asarray(window.type_ids) for window in self.windows])
            x = x + table[kinds if len(table) > 1 else 0]
        return x

    def heads(self, x: Floats, parts: Sequence[Dense], heads: int) -> list[tuple[Floats, ...]]:
        """Per text its queries, keys and values, [tokens, heads, size] each."""
        arrays = (self.split(self.dense(x, dense).reshape(len(x), heads, -1)) for dense in parts)
        return list(zip(*arrays, strict=True))

    def behind_attention(self, mixed: Floats, x: Floats, layer: Layer) -> Floats:
        """A post-norm layer but for what its heads make of x, which is `mixed`."""
        x = self.norm(x + self.dense(mixed, layer.attention.output), layer.attention_norm)
        inner = activate(self.dense(x, layer.up), layer.activation)
        return self.norm(x + self.dense(inner, layer.down), layer.ffn_norm)


class _Reference(EncoderForward):
    """BERT's forward pass."""

    def states(self, body: Encoder) -> Floats:
        x = self.embeddings(
            body.words,
            body.positions,
            body.types,
            first_position=body.first_position,
            skipped_id=body.skipped_id,
        )
        x = self.norm(x, body.norm)
        x = self.dense(x, body.projection) if body.projection else x
        for layer in body.layers:
            x = self.layer(x, layer, body.bias)
            self._checkpoint.release()
        return x

    def layer(self, x: Floats, layer: Layer, bias: RelativeBias | None) -> Floats:
        part = layer.attention
        added = self.relative_bias(bias) if bias else None
        scale = 1 / math.sqrt(part.head_size)
        texts = self.heads(x, [part.query, part.key, part.value], part.heads)
        mixed = [attend(*text, scale=scale, added=added) for text in texts]
        return self.behind_attention(np.concatenate(mixed), x, layer)
