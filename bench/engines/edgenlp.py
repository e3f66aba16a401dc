"""edgenlp: exported by `edgenlp_export` (no PyTorch involved), run by its own encoder under the public pipeline.

The pipeline takes text, the workload gives ids, so the call enters one step behind the tokenizer: `pipe.encoder` with
windows that hold the ids. It is the pipeline's own path from there: sorting, batches, padding, the graph. A decoder's
loop is the plain greedy one over the decoder's own sequences: read the prompts, then step. An encoder-decoder writes with
`generate`, the loop of the three tasks.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from workloads import seq2seq
from workloads.decoder import Writer
from workloads.encoder import Texts

PACKAGES = ("edgenlp", "onnxruntime", "numpy")
SOURCES = ("edgenlp", "edgenlp_export")
OPTIONS = {
    "precision": ("int8", "fp32", "int8-block", "int4", "int8+int4", "int8+int8-block", "fp32+int4"),
    "prompt": ("none", "int8"),
    "cache": ("fp32", "int8"),
    "head": ("default", "int4", "int8-block"),
    "preset": ("throughput", "latency", "balanced", "battery"),
}
NOTE = (
    "edgenlp_export.export, then the pipeline's encoder, the model's decoder, or generate over what the model's encoder read; "
    "A+B is encoder=A,decoder=B; preset throughput and latency let idle threads spin"
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


def chosen(options: dict[str, str], **defaults: str) -> dict[str, str]:
    """Return the options named that have another value than the default given."""
    return {name: options[name] for name, default in defaults.items() if options[name] != default}


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export the checkpoint as a bundle; how far rounding random weights may lead is for the workload's check to say."""
    import edgenlp_export

    own = chosen(options, prompt="none", head="default")
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


def sides(precision: str) -> tuple[str, str]:
    """Return the precisions of encoder and decoder: of A+B, or of A for both."""
    encoder, _, decoder = precision.partition("+")
    return encoder, decoder or encoder


def prepare_seq2seq(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export the checkpoint as a bundle; how far rounding random weights may lead is for the workload's check to say."""
    import edgenlp_export

    encoder, decoder = sides(options["precision"])
    edgenlp_export.export(
        checkpoint,
        out,
        precision=encoder if encoder == decoder else f"encoder={encoder},decoder={decoder}",
        force=True,
        tolerance=float("inf"),
        **chosen(options, cache="fp32", head="default"),
    )


def facts_seq2seq(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a call reads, as its graphs tell; the encoder's holds what makes the source's keys and values."""
    import limits

    graphs = json.loads((prepared / "edgenlp.json").read_text(encoding="utf-8"))["graphs"]
    encoder, decoder = sides(options["precision"])
    return {
        "read_mb": limits.graph_reads(prepared / graphs["decoder"]) / 1e6,
        "source_mb": limits.graph_reads(prepared / graphs["encoder"]) / 1e6,
        "cache_bits": int(options["cache"].removeprefix("fp").removeprefix("int")),
        "encoder_bits": 32 if encoder == "fp32" else 8,
        "decoder_bits": 32 if decoder == "fp32" else 8,
    }


def load_seq2seq(prepared: Path, threads: int, options: dict[str, str]) -> seq2seq.Writer:
    """Open the bundle, read the sources, write with `generate`; a minimum of new tokens bars the end."""
    from edgenlp.decode.generate import generate
    from edgenlp.decode.options import merged
    from edgenlp.model import open_model

    model = open_model(prepared, threads=threads, preset=options["preset"])
    reader, facts = model.seq2seq, json.loads((prepared / "edgenlp.json").read_text(encoding="utf-8"))["generation"]
    start, ends = facts["decoder_start_token_id"], facts["eos_token_id"]

    def write(sources: Texts, beams: int, new: int) -> Texts:
        asked = {"num_beams": beams, "min_new_tokens": new, "max_new_tokens": new, "eos_token_id": ends}
        written = generate(reader.read(sources), [[start]] * len(sources), merged({}, asked))
        return [list(texts[0].ids) for texts in written]

    def logits(source: list[int]) -> np.ndarray:
        return reader.read([source]).start(1, 1).read([[start]])[0]

    return seq2seq.Writer(write, logits)
