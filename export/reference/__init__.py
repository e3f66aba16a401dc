"""The forward pass written a second time, in plain numpy: what a bundle's answers are held against."""

from .decoder import DecoderForward, forward_decoder
from .encoder import Window, forward_encoder

__all__ = ["DecoderForward", "Window", "forward_decoder", "forward_encoder"]
