"""What Longformer answers, in plain numpy: every token against every other, less what is hidden. Knows no graph and no blocks."""

import math
from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..families.longformer_parts import Globals, LongEncoder, Sight, globals_of
from ..families.parts import Head, Layer
from .blocks import Floats, attend
from .encoder import EncoderForward
from .heads import Window, answers

__all__ = ["forward"]


def forward(
    checkpoint: Checkpoint, body: LongEncoder, head: Head, windows: Sequence[Window], rows: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32; arguments and result as `forward_encoder`'s."""
    model = _Reference(checkpoint, windows)
    return answers(model, model.states(body, globals_of(head.kind)), head, windows, rows)


class _Reference(EncoderForward):
    """Layers that see a window."""

    def states(self, encoder: LongEncoder, which: Globals) -> Floats:
        """What the last layer gives."""
        body, counts = encoder.body, [_count(window.ids, which, encoder.separator) for window in self.windows]
        x = self.embeddings(
            body.words,
            body.positions,
            body.types,
            first_position=body.first_position,
            skipped_id=body.skipped_id,
        )
        x = self.norm(x, body.norm)
        for layer, sight in zip(body.layers, encoder.sights, strict=True):
            x = self.behind_attention(self.mix(x, layer, sight, counts), x, layer)
            self._checkpoint.release()
        return x

    def mix(self, x: Floats, layer: Layer, sight: Sight, counts: Sequence[int]) -> Floats:
        """Attention before its output projection; `counts` says how many tokens of each text, its first ones, are global."""
        part = layer.attention
        local = self.heads(x, [part.query, part.key, part.value], part.heads)
        wide = self.heads(x, [sight.query, sight.key, sight.value], part.heads) if any(counts) else local
        scale = 1 / math.sqrt(part.head_size)
        mixed = []
        for count, text, all_seen in zip(counts, local, wide, strict=True):
            places = np.arange(len(text[0]))
            hidden = (np.abs(places[:, None] - places) > sight.reach) & (places >= count)
            own = attend(*text, scale=scale, hidden=hidden)
            if count:
                own[:count] = attend(all_seen[0][:count], *all_seen[1:], scale=scale)
            mixed.append(own)
        return np.concatenate(mixed)


def _count(ids: Sequence[int], which: Globals, separator: int) -> int:
    """How many of a text's first tokens are global."""
    if which == "question":
        return list(ids).index(separator) if separator in ids else 0
    return int(which == "first")
