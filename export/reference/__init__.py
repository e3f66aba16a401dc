"""The forward pass written a second time, in plain numpy: what a bundle's answers are held against."""

from .decoder import DecoderForward, forward_decoder
from .encoder import Window, forward_encoder
from .seq2seq import forward_classifier, forward_seq2seq
from .source import forward_memory, forward_source

__all__ = [
    "DecoderForward",
    "Window",
    "forward_classifier",
    "forward_decoder",
    "forward_encoder",
    "forward_memory",
    "forward_seq2seq",
    "forward_source",
]
