"""edgenlp: exported by `edgenlp_export` (no PyTorch involved), run by its own encoder under the public pipeline.

The pipeline takes text, the workload gives ids, so the call enters one step behind the tokenizer: `pipe.encoder` with
windows that hold the ids. It is the pipeline's own path from there: sorting, batches, padding, the graph.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from workloads.encoder import Texts

PACKAGES = ("edgenlp", "onnxruntime", "numpy")
SOURCES = ("edgenlp", "edgenlp_export")
OPTIONS = {
    "precision": ("int8", "fp32", "int8-block", "int4"),
    "preset": ("throughput", "latency", "balanced", "battery"),
}
NOTE = "edgenlp_export.export, then the pipeline's encoder; preset throughput and latency let idle threads spin"


class Window(NamedTuple):
    """What `edgenlp.encode` needs of a tokenizer's encoding."""

    ids: list[int]
    type_ids: list[int]


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export the checkpoint as a bundle."""
    import edgenlp_export

    edgenlp_export.export(checkpoint, out, precision=options["precision"], force=True)


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the bundle as a text-classification pipeline."""
    import edgenlp

    encoder = edgenlp.pipeline("text-classification", model=prepared, threads=threads, preset=options["preset"]).encoder
    (output,) = encoder.outputs

    def call(texts: Texts) -> np.ndarray:
        rows = encoder([Window(text, [0] * len(text)) for text in texts])
        return np.stack([row[output] for row in rows])

    return call
