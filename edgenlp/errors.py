"""Every error that edgenlp raises on purpose. Knows nothing of what raises them.

    EdgeNLPError
    ├── BundleError               a folder is not a bundle that this version can open
    ├── InputError (ValueError)   a text, option or label that cannot be used
    │   └── TooLongError          an input longer than the model's window
    ├── ExportError               a checkpoint cannot become a bundle
    │   ├── CheckpointError       its files cannot be read, or are hostile
    │   ├── UnsupportedError      its architecture, head or option has no exporter
    │   └── VerificationError     the bundle's answers are too far from the checkpoint's
    └── DependencyError (ImportError)   a package is missing or too old

A message says what was found, what was expected and what to do about it.
"""

__all__ = [
    "BundleError",
    "CheckpointError",
    "DependencyError",
    "EdgeNLPError",
    "ExportError",
    "InputError",
    "TooLongError",
    "UnsupportedError",
    "VerificationError",
]


class EdgeNLPError(Exception):
    """The root of the tree: `except EdgeNLPError` catches all that edgenlp raises on purpose."""


class BundleError(EdgeNLPError):
    """A folder is not a bundle that this version can open: missing, truncated, altered, or of another format."""


class InputError(EdgeNLPError, ValueError):
    """A text, option or label that cannot be used. Also a `ValueError`, which is what transformers raises."""


class TooLongError(InputError):
    """An input longer than the model's window, where the task was asked neither to truncate nor to stride."""


class ExportError(EdgeNLPError):
    """A checkpoint cannot become a bundle."""


class CheckpointError(ExportError):
    """A checkpoint's files are missing, truncated, hostile, or of a kind that cannot be read."""


class UnsupportedError(ExportError):
    """An architecture, head, precision or option for which there is no exporter."""


class VerificationError(ExportError):
    """The bundle's answers differ from the checkpoint's by more than its precision allows."""


class DependencyError(EdgeNLPError, ImportError):
    """A package is missing or too old; the message names the command that installs it."""
