"""What reaches each linear layer on real text, for quantizers that weigh errors by it. Knows the order of blocks, and no quantizer."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint
from .families.parts import Block, Decoder, EncoderDecoder
from .reference import DecoderForward, forward_memory

__all__ = ["Calibration"]

Floats = NDArray[np.float32]


class Calibration:
    """The forward pass over texts, block by block, so that only one block's moments are held at a time.

    Args:
        checkpoint: Where the weights are.
        body: What the decoder consists of.
        texts: Ids of each text.
        memory: Per text what the cross-attention reads, [source tokens, width]; None where there is none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        body: Decoder,
        texts: Sequence[Sequence[int]],
        *,
        memory: Sequence[Floats] | None = None,
    ) -> None:
        self._moments: dict[str, Floats] = {}
        self._seen: tuple[Floats, Floats] | None = None
        lengths = [len(text) for text in texts]
        self._model = DecoderForward(checkpoint, body, lengths, memory=memory, watch=self._note)
        self._x = self._model.embed(np.concatenate([np.asarray(text, np.int64) for text in texts]))

    @classmethod
    def of_pairs(
        cls,
        checkpoint: Checkpoint,
        body: EncoderDecoder,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
    ) -> "Calibration":
        """The decoder of an encoder-decoder, while it reads each target with its source.

        Keys and values of the cross-attention have no moments here: they read what the encoder gives, not what the decoder does.

        Args:
            checkpoint: Where the weights are.
            body: What the encoder-decoder consists of.
            sources: Ids of each source.
            targets: As many, each behind the start token.
        """
        return cls(checkpoint, body.decoder, targets, memory=forward_memory(checkpoint, body, sources))

    def block(self, block: Block) -> Mapping[str, Floats]:
        """Go through the next block: key of each linear layer to the second moments [in, in] of its inputs, Σ x xᵀ."""
        self._moments = {}
        self._x = self._model.block(self._x, block)
        self._seen = None
        return self._moments

    def _note(self, key: str, x: Floats) -> None:
        if self._seen is None or self._seen[0] is not x:  # queries, keys and values read the same
            self._seen = (x, x.T @ x)
        self._moments[key] = self._seen[1]
