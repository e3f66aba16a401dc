"""A checkpoint folder: its config and its weights, mapped into memory. Knows no architecture."""

from .folder import Checkpoint, open_checkpoint

__all__ = ["Checkpoint", "open_checkpoint"]
