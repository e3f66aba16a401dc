"""What a decoder answers, in plain numpy: the reference that bundles are verified against. Knows no graph, no cache and no session."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..families.matrices import matrix
from ..families.parts import Decoder
from ..families.sinusoids import table
from .blocks import Blocks, Floats, Watch

__all__ = ["DecoderForward", "forward_decoder"]

_COLUMNS = 16384  # of logits at a time: a word table of 256,000 rows in float16 would otherwise be copied whole


def forward_decoder(checkpoint: Checkpoint, body: Decoder, texts: Sequence[Sequence[int]]) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        body: What the decoder consists of; it has no cross-attention.
        texts: Ids of each text, at least one, each text at least one id long.

    Returns:
        Per text its logits [tokens, columns].
    """
    model = DecoderForward(checkpoint, body, [len(text) for text in texts])
    return model.split(model.logits(model.states(texts)))


class DecoderForward(Blocks):
    """A decoder's embeddings, blocks and head, on tokens of all texts side by side [tokens, width].

    Args:
        checkpoint: Where the weights are.
        body: What the decoder consists of.
        lengths: Tokens of each text.
        memory: Per text what its cross-attention reads, [source tokens, width]; None where there is none.
        watch: Called with the key (`families.matrices.matrix`) and the input of each linear layer, but for the keys and values of the
            cross-attention, which read the memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        body: Decoder,
        lengths: Sequence[int],
        *,
        memory: Sequence[Floats] | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(checkpoint, lengths, causal=True, memory=memory, watch=watch)
        self._body = body

    def states(self, texts: Sequence[Sequence[int]]) -> Floats:
        """What the last block gives."""
        x = self.embed(np.concatenate([np.asarray(text, np.int64) for text in texts]))
        for block in self._body.blocks:
            x = self.block(x, block)
            self._checkpoint.release()
        return x

    def embed(self, ids: NDArray[np.int64]) -> Floats:
        """What the first block reads."""
        body = self._body
        x = self.rows(body.words, ids) * np.float32(body.scale)
        if body.project_in:
            x = self.dense(x, body.project_in)
        x = self.norm(x, body.words_norm)
        rows = self._places + body.first_position
        if body.positions:
            x = x + self.rows(body.positions, rows)
        if body.sinusoids:
            x = x + table(body.sinusoids, self._longest + body.first_position)[rows]
        if body.types:
            x = x + self.tensor(body.types)[0]
        x = self.norm(x, body.embedding_norm)
        return self.dense(x, body.projection) if body.projection else x

    def logits(self, x: Floats) -> Floats:
        """The final norm and the head."""
        body = self._body
        x = self.norm(x, body.norm)
        if body.project_out:
            x = self.dense(x, body.project_out)
        x = self.steps(x, body.head_steps)
        if body.head:
            _, weight, bias = matrix(self._checkpoint, body.head)
        else:
            weight = self._checkpoint.tensor(body.words)
            bias = self._checkpoint.tensor(body.head_bias) if body.head_bias else None
        logits = np.concatenate([x @ rows.T for rows in _slices(weight)], axis=1)
        if bias is not None:
            logits += np.asarray(bias, np.float32)
        logits *= np.float32(body.logits_scale)
        if body.logits_cap:
            logits = np.tanh(logits / np.float32(body.logits_cap)) * np.float32(body.logits_cap)
        return logits


def _slices(weight: NDArray[np.generic]) -> Iterator[Floats]:
    """The rows of a matrix in float32, some at a time."""
    for first in range(0, len(weight), _COLUMNS):
        yield np.asarray(weight[first : first + _COLUMNS], np.float32)
