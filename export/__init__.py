"""From a checkpoint to a bundle, without PyTorch. Installs as `edgenlp_export`; needs the extra `export`."""

try:
    import onnx as _onnx  # noqa: F401  # the one dependency beyond the runtime's own
except ImportError as error:
    from edgenlp.errors import DependencyError

    raise DependencyError("the export stage needs onnx: pip install 'edgenlp[export]'") from error

from .convert import export, list_tensors
from .families import architectures
from .quantize import SCHEMES
from .traced import architectures as traced_architectures

__all__ = ["SCHEMES", "architectures", "export", "list_tensors", "traced_architectures"]
