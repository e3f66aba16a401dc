"""Language tasks on the user's own device: bundles that `edgenlp export` wrote, run without PyTorch."""

from typing import TYPE_CHECKING, Any

from edgenlp.bundle import Bundle, open_bundle
from edgenlp.errors import (
    BundleError,
    CheckpointError,
    DependencyError,
    EdgeNLPError,
    ExportError,
    InputError,
    TooLongError,
    UnsupportedError,
    VerificationError,
)
from edgenlp.pipeline import pipeline

if TYPE_CHECKING:
    from edgenlp.logits import cosine

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "DependencyError",
    "EdgeNLPError",
    "ExportError",
    "InputError",
    "TooLongError",
    "UnsupportedError",
    "VerificationError",
    "cosine",
    "open_bundle",
    "pipeline",
]


def __getattr__(name: str) -> Any:
    """`cosine` is looked up when it is first used: it needs numpy, which takes longer to load than all of edgenlp."""
    if name == "cosine":
        from edgenlp.logits import cosine

        return cosine
    raise AttributeError(f"module 'edgenlp' has no attribute {name!r}")
