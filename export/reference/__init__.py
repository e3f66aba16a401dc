"""The forward pass written a second time, in plain numpy: what a bundle's answers are held against."""

from collections.abc import Callable, Mapping
from typing import Any

from ..families import parts
from ..families.deberta_parts import DisentangledEncoder
from ..families.longformer_parts import LongEncoder
from ..families.modernbert_parts import ModernBertEncoder
from . import deberta, longformer, modernbert
from .decoder import DecoderForward, forward_decoder
from .encoder import Window, forward_encoder
from .seq2seq import forward_classifier, forward_seq2seq
from .source import forward_memory, forward_source

__all__ = [
    "READING",
    "DecoderForward",
    "Window",
    "forward_classifier",
    "forward_decoder",
    "forward_encoder",
    "forward_memory",
    "forward_seq2seq",
    "forward_source",
]

# What an encoder's body is described with, to what computes it
READING: Mapping[type, Callable[..., Any]] = {
    parts.Encoder: forward_encoder,
    DisentangledEncoder: deberta.forward,
    LongEncoder: longformer.forward,
    ModernBertEncoder: modernbert.forward,
}
