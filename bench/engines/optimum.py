"""optimum-onnx: exported by tracing, quantized by onnxruntime's dynamic int8, run by its ORTModel class.

An encoder-decoder is three graphs: the encoder, the first step, which also reads the source, and all other steps. Each is
quantized for itself and holds weights of its own. The search is transformers' `generate`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads import seq2seq
from workloads.encoder import Texts, pad

from engines.torch import generating

PACKAGES = ("optimum-onnx", "onnxruntime", "transformers", "torch", "onnx", "numpy")
OPTIONS = {"precision": ("int8", "fp32")}
NOTE = (
    "ORTModelForSequenceClassification, ORTModelForSeq2SeqLM (use_merged=False); int8 is ORTQuantizer with "
    "avx512_vnni(is_static=False, per_channel=True)"
)
PARTS = ("encoder_model", "decoder_model", "decoder_with_past_model")


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


def prepare_seq2seq(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Export three graphs and, for int8, keep the quantized ones only."""
    from optimum.onnxruntime import ORTModelForSeq2SeqLM, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    model = ORTModelForSeq2SeqLM.from_pretrained(checkpoint, export=True, use_merged=False)
    if options["precision"] == "fp32":
        model.save_pretrained(out)
        return
    with tempfile.TemporaryDirectory() as traced:
        model.save_pretrained(traced)
        scheme = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
        for part in PARTS:
            quantizer = ORTQuantizer.from_pretrained(traced, file_name=f"{part}.onnx")
            quantizer.quantize(save_dir=out, quantization_config=scheme)
        model.generation_config.save_pretrained(out)


def names(options: dict[str, str]) -> list[str]:
    """Return the file names of the three graphs."""
    return [f"{part}{'_quantized' * (options['precision'] == 'int8')}.onnx" for part in PARTS]


def facts_seq2seq(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a call reads, as its graphs tell; the cache is fp32."""
    import limits

    bits = 8 if options["precision"] == "int8" else 32
    encoder, _, steps = names(options)
    source = seq2seq.work(config)["source"] * bits / 8e6  # the first step's graph holds it, with all of the decoder
    return {
        **seq2seq.plain_facts(config, bits),
        "read_mb": limits.graph_reads(prepared / steps) / 1e6,
        "source_mb": limits.graph_reads(prepared / encoder) / 1e6 + source,
    }


def load_seq2seq(prepared: Path, threads: int, options: dict[str, str]) -> seq2seq.Writer:
    """Open the graphs on the CPU provider with `threads` threads inside an operator, and write with `generate`."""
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    torch.set_num_threads(threads)
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    encoder, first, steps = names(options)
    model = ORTModelForSeq2SeqLM.from_pretrained(
        prepared,
        encoder_file_name=encoder,
        decoder_file_name=first,
        decoder_with_past_file_name=steps,
        use_merged=False,
        provider="CPUExecutionProvider",
        session_options=session_options,
    )
    return generating(model)
