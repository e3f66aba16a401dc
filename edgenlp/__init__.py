"""Language tasks on the user's own device: bundles written by `edgenlp export`, run with onnxruntime, tokenizers and numpy alone."""

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
from edgenlp.logits import cosine
from edgenlp.pipeline import pipeline

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
