"""What an encoder-decoder's encoder gives its decoder to read, in plain numpy. Knows no graph and no session."""

from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..families.parts import Encoder, EncoderDecoder, SourceEncoder
from ..families.sinusoids import table
from .blocks import Blocks, Floats, places_of
from .encoder import Window, forward_body

__all__ = ["forward_memory", "forward_source"]


def forward_memory(checkpoint: Checkpoint, body: EncoderDecoder, sources: Sequence[Sequence[int]]) -> list[Floats]:
    """Per source what the cross-attention reads, [tokens, width]: the encoder's states, over the bridge where there is one."""
    states = forward_source(checkpoint, body.encoder, sources)
    if body.bridge is None:
        return states
    model = Blocks(checkpoint, [len(source) for source in sources], causal=False)
    return model.split(model.dense(np.concatenate(states), body.bridge))


def forward_source(
    checkpoint: Checkpoint, encoder: SourceEncoder | Encoder, texts: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        encoder: What it consists of.
        texts: Ids of each text, at least one, each text at least one id long.

    Returns:
        Per text the states after the last norm, [tokens, width].
    """
    if isinstance(encoder, Encoder):
        return forward_body(checkpoint, encoder, [Window(list(text), [0] * len(text)) for text in texts])
    model = _Reference(checkpoint, [len(text) for text in texts], causal=False)
    x = model.embed(encoder, texts)
    for block in encoder.blocks:
        x = model.block(x, block)
        checkpoint.release()
    return model.split(model.norm(x, encoder.norm))


class _Reference(Blocks):
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width]."""

    def embed(self, body: SourceEncoder, texts: Sequence[Sequence[int]]) -> Floats:
        """What the first block reads."""
        arrays = [np.asarray(text, np.int64) for text in texts]
        places = np.concatenate([places_of(text, body.first_position, body.skipped_id) for text in arrays])
        ids = np.concatenate(arrays)
        x = self.rows(body.words, ids) * np.float32(body.scale)
        if body.positions:
            x = x + self.rows(body.positions, places)
        if body.sinusoids:
            computed = table(body.sinusoids, int(places.max()) + 1)[places]
            if body.skipped_id is not None:  # M2M100SinusoidalPositionalEmbedding: the padding's own row is zero
                computed[ids == body.skipped_id] = 0
            x = x + computed
        return self.norm(x, body.embedding_norm)
