"""CTranslate2: its own transformers converter, int8 weights, `Encoder.forward_batch`.

Its encoder ends at the last hidden state, so the classification head runs in numpy here (a [texts, width] product:
about a thousandth of a pass). That is how its users add one, too. Knows DistilBERT's head only.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads.encoder import Texts

PACKAGES = ("ctranslate2", "transformers", "torch", "numpy")
OPTIONS = {"precision": ("int8", "float32")}
NOTE = "TransformersConverter, Encoder.forward_batch (pads ragged lists itself); the head is numpy, as it has none"
HEAD = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Convert the encoder, and put the head's four arrays beside it."""
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file

    kind = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["model_type"]
    if kind != "distilbert":
        raise ValueError(f"the ctranslate2 adapter has the head of distilbert only; the checkpoint is {kind!r}")
    TransformersConverter(str(checkpoint)).convert(str(out), quantization=options["precision"], force=True)
    weights = load_file(checkpoint / "model.safetensors")
    np.savez(out / "head.npz", **{name: weights[name] for name in HEAD})


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the encoder with one worker of `threads` threads."""
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(prepared), device="cpu", compute_type=options["precision"], inter_threads=1, intra_threads=threads
    )
    with np.load(prepared / "head.npz") as arrays:
        weight, bias, last_weight, last_bias = (arrays[name] for name in HEAD)

    def call(texts: Texts) -> np.ndarray:
        hidden = np.asarray(encoder.forward_batch(texts).last_hidden_state)  # [texts, longest, width]
        pooled = np.maximum(hidden[:, 0] @ weight.T + bias, 0)  # transformers' DistilBertForSequenceClassification
        return pooled @ last_weight.T + last_bias

    return call
