"""OpenVINO: converted from PyTorch, post-training int8 by NNCF, compiled for latency.

Its bf16 hint runs what int8 leaves over (attention, norms) in bf16, where the CPU has bf16 instructions.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads.encoder import Texts, draw, pad

PACKAGES = ("openvino", "nncf", "torch", "transformers", "numpy")
OPTIONS = {"precision": ("int8", "fp32"), "hint": ("bf16", "f32")}
NOTE = "openvino.convert_model, nncf.quantize(model_type=TRANSFORMER) on 100 random texts, PERFORMANCE_HINT LATENCY"
SAMPLES = 100


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Convert and, for int8, quantize weights and activations from samples of 16 to 128 random ids."""
    import nncf
    import openvino
    import torch
    from transformers import AutoModelForSequenceClassification

    torch_model = AutoModelForSequenceClassification.from_pretrained(checkpoint, dtype=torch.float32).eval()
    random = np.random.RandomState(1)  # not the seed of the timed texts
    lengths = random.randint(16, 129, SAMPLES).tolist()
    batches = [pad([draw(random, length, torch_model.config.vocab_size)]) for length in lengths]
    samples = [{"input_ids": ids, "attention_mask": mask} for ids, mask in batches]
    example = {name: torch.from_numpy(values) for name, values in samples[0].items()}
    with torch.inference_mode():
        model = openvino.convert_model(torch_model, example_input=example)
    if options["precision"] == "int8":
        model = nncf.quantize(
            model, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples)
        )
    openvino.save_model(model, out / "model.xml", compress_to_fp16=options["precision"] == "int8")


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Compile for the CPU; raise where the CPU cannot give the precision asked for."""
    import openvino

    compiled = openvino.Core().compile_model(
        prepared / "model.xml",
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": options["hint"],
        },
    )
    given = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if given != options["hint"]:
        raise RuntimeError(f"this CPU gives {given} where hint={options['hint']} was asked for: use hint={given}")
    request = compiled.create_infer_request()

    def call(texts: Texts) -> np.ndarray:
        ids, mask = pad(texts)
        return next(iter(request.infer({"input_ids": ids, "attention_mask": mask}).values()))

    return call
