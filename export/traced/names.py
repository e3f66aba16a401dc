"""Where a constant of a traced graph comes from: the name that the checkpoint has for it. Knows arrays, and no node."""

import re
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint

__all__ = ["Names"]


class Names:
    """The checkpoint's tensors, by shape and content.

    Args:
        checkpoint: Where they are.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name in checkpoint.names():
            self._alike[tuple(sorted(checkpoint.shape(name)))].append(name)

    def find(self, given: str, array: NDArray[np.generic], node: str) -> str:
        """The name of a constant.

        Args:
            given: Its name in the graph, which is the checkpoint's own where the exporter left it alone.
            array: What it holds: a tensor as it is, or a matrix turned.
            node: Name of the node that reads it, the path of a module: what it is called after where no tensor holds the same.
        """
        if given in self._checkpoint:
            return given
        for name in self._alike[tuple(sorted(array.shape))]:
            stored = self._checkpoint.tensor(name)
            if any(self._same(stored, turned) for turned in ((array, array.T) if array.ndim == 2 else (array,))):
                return name
        if not re.match(r"onnx::|_|/|val_\d+$", given):
            return given
        path = [part for part in node.split("/")[:-1] if part]
        return ".".join([*path, "weight"]) if path else given

    @staticmethod
    def _same(stored: NDArray[np.generic], array: NDArray[np.generic]) -> bool:
        if stored.shape != array.shape:
            return False
        if not np.array_equal(np.asarray(stored[:1], np.float32), np.asarray(array[:1], np.float32)):
            return False  # most are told apart by their first row
        return bool(np.array_equal(np.asarray(stored, np.float32), np.asarray(array, np.float32)))
