"""What encoder-decoders answer, in plain numpy: the reference that bundles are verified against. Knows no graph, cache or session."""

from collections.abc import Sequence

import numpy as np

from ..checkpoint import Checkpoint
from ..families.parts import EncoderDecoder, Head
from .blocks import Floats
from .decoder import DecoderForward
from .source import forward_memory

__all__ = ["forward_classifier", "forward_seq2seq"]


def forward_seq2seq(
    checkpoint: Checkpoint, body: EncoderDecoder, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32 of targets that each read their own source.

    Args:
        checkpoint: Where the weights are.
        body: What the encoder-decoder consists of.
        sources: Ids of each source, at least one, each at least one id long.
        targets: As many, with whatever stands before a target.

    Returns:
        Per target its logits [tokens, columns].
    """
    memory = forward_memory(checkpoint, body, sources)
    model = DecoderForward(checkpoint, body.decoder, [len(target) for target in targets], memory=memory)
    return model.split(model.logits(model.states(targets)))


def forward_classifier(
    checkpoint: Checkpoint, body: EncoderDecoder, head: Head, sources: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32 of an encoder-decoder that classifies (BartForSequenceClassification of transformers).

    The decoder reads the source too, shifted right by one behind the start token; the head reads the decoder's last token.

    Args:
        checkpoint: Where the weights are.
        body: What the encoder-decoder consists of.
        head: What stands on it.
        sources: Ids of each source, at least one, each at least one id long, with its end token.

    Returns:
        Per source its logits [labels].
    """
    memory = forward_memory(checkpoint, body, sources)
    lengths = [len(source) for source in sources]
    model = DecoderForward(checkpoint, body.decoder, lengths, memory=memory)
    states = model.states([[body.start, *source[:-1]] for source in sources])
    last = model.norm(states[np.cumsum(lengths) - 1], body.decoder.norm)
    return list(model.steps(last, head.steps))
