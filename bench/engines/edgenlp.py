"""edgenlp: exported by `edgenlp_export` (no PyTorch involved), run by its own encoder under the public pipeline.

The pipeline takes text, the workload gives ids, so the call enters one step behind the tokenizer: `pipe.encoder` with
windows that hold the ids. It is the pipeline's own path from there: sorting, batches, padding, the graph. A decoder's
loop is the plain greedy one over the decoder's own sequences: read the prompts, then step.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from workloads.decoder import Writer
from workloads.encoder import Texts

PACKAGES = ("edgenlp", "onnxruntime", "numpy")
SOURCES = ("edgenlp", "edgenlp_export")
OPTIONS = {
    "precision": ("int8", "fp32", "int8-block", "int4"),
    "prompt": ("none", "int8"),
    "cache": ("fp32", "int8"),
    "head": ("default", "int4", "int8-block"),
    "preset": ("throughput", "latency", "balanced", "battery"),
}
NOTE = (
    "edgenlp_export.export, then the pipeline's encoder or the model's decoder; preset throughput and latency let idle "
    "threads spin"
)


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


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export the checkpoint as a bundle; how far rounding random weights may lead is for the workload's check to say."""
    import edgenlp_export

    asked = {"prompt": options["prompt"], "head": options["head"]}
    own = {name: value for name, value in asked.items() if value not in ("none", "default")}
    edgenlp_export.export(
        checkpoint,
        out,
        precision=options["precision"],
        cache=options["cache"],
        force=True,
        tolerance=float("inf"),
        **own,
    )


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads, as its graph tells, and the format of its cache."""
    import limits

    manifest = json.loads((prepared / "edgenlp.json").read_text(encoding="utf-8"))
    graphs = manifest["graphs"]
    steps = graphs.get("step") or graphs.get("decoder") or next(iter(graphs.values()))
    return {
        "read_mb": limits.graph_reads(prepared / steps) / 1e6,
        "cache_bits": int(options["cache"].removeprefix("fp").removeprefix("int")),
    }


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the bundle and write greedily with its decoder."""
    from edgenlp.model import open_model

    decoder = open_model(prepared, threads=threads, preset=options["preset"]).decoder

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        sequences = decoder.start(len(prompts), max(map(len, prompts)) + new)
        tokens = sequences.read(prompts).argmax(axis=1)
        first = time.perf_counter()
        written = [tokens]
        for _ in range(new - 1):
            tokens = sequences.step(tokens).argmax(axis=1)
            written.append(tokens)
        return np.stack(written, axis=1).tolist(), first

    def logits(text: list[int]) -> np.ndarray:
        return decoder.start(1, len(text)).read([text])[0]

    return Writer(write, logits)
