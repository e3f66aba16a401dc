"""The road for architectures that edgenlp writes no graph for: traced elsewhere, cleaned and quantized here. Knows no runtime."""

from .describe import architectures
from .road import write

__all__ = ["architectures", "write"]
