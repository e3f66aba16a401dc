"""optimum-onnx: exported by tracing, quantized by onnxruntime's dynamic int8, run by its ORTModel class."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads.encoder import Texts, pad

PACKAGES = ("optimum-onnx", "onnxruntime", "transformers", "torch", "onnx", "numpy")
OPTIONS = {"precision": ("int8", "fp32")}
NOTE = "ORTModelForSequenceClassification; int8 is ORTQuantizer with avx512_vnni(is_static=False, per_channel=True)"


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export to ONNX and, for int8, keep the quantized graph only."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    model = ORTModelForSequenceClassification.from_pretrained(checkpoint, export=True)
    if options["precision"] == "fp32":
        model.save_pretrained(out)
        return
    with tempfile.TemporaryDirectory() as traced:
        model.save_pretrained(traced)
        quantizer = ORTQuantizer.from_pretrained(traced)
        scheme = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        quantizer.quantize(save_dir=out, quantization_config=scheme)


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the graph on the CPU provider with `threads` threads inside an operator."""
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForSequenceClassification

    torch.set_num_threads(threads)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    model = ORTModelForSequenceClassification.from_pretrained(
        prepared,
        file_name="model_quantized.onnx" if options["precision"] == "int8" else "model.onnx",
        provider="CPUExecutionProvider",
        session_options=session_options,
    )

    def call(texts: Texts) -> np.ndarray:
        ids, mask = map(torch.from_numpy, pad(texts))
        return model(input_ids=ids, attention_mask=mask).logits.numpy()

    return call
