"""What ModernBERT answers, in plain numpy: the reference that bundles are verified against. Knows no graph and no session.

It sees the window of a local layer as a mask over whole texts, and knows nothing of the blocks that the graph cuts them into.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..families.modernbert_parts import MeanHead, ModernBertEncoder
from ..families.parts import Head, SelfAttention
from .blocks import Blocks, Floats
from .heads import Window, answers

__all__ = ["forward"]


def forward(
    checkpoint: Checkpoint,
    body: ModernBertEncoder,
    head: Head,
    windows: Sequence[Window],
    rows: Sequence[Sequence[int]],
) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once; as `encoder.forward_encoder`."""
    model = _Reference(checkpoint, [len(window.ids) for window in windows], causal=False)
    x = model.rows(body.words, np.concatenate([np.asarray(window.ids, np.int64) for window in windows]))
    x = model.norm(x, body.embedding_norm)
    for block in body.blocks:
        x = model.block(x, block)
        checkpoint.release()
    x = model.norm(x, body.norm)
    if isinstance(head, MeanHead):  # one row is left of each text
        x = np.stack([text.mean(axis=0) for text in model.split(x)])
        windows = [Window([0], [0])] * len(windows)
    return answers(model, x, head, windows, rows)


class _Reference(Blocks):
    """Blocks whose windows reach to both sides."""

    def _hidden(self, length: int, part: SelfAttention) -> NDArray[np.bool_] | None:
        if part.window is None:
            return None
        hidden: NDArray[np.bool_] = np.abs(np.arange(length)[:, None] - np.arange(length)) > part.window // 2
        return hidden
