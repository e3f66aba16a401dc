"""OpenVINO GenAI: exported by optimum-intel's command line, weights compressed by NNCF, written with `LLMPipeline`.

Ids go in and ids come out. The pipeline has no logits to show, so those of the check come from the same file, opened with
plain OpenVINO after all timing. OpenVINO keeps what is left in bf16 where the CPU has it (`hint=f32` turns that off).
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from workloads.decoder import Texts, Writer

PACKAGES = ("openvino-genai", "openvino", "nncf", "optimum-intel", "torch", "transformers", "numpy")
OPTIONS = {"precision": ("int8", "int4", "fp32"), "hint": ("default", "f32")}
NOTE = (
    "optimum-cli export openvino --weight-format, its defaults but --group-size-fallback adjust; LLMPipeline, token ids in "
    "and out; logits of the check from plain OpenVINO"
)


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Run optimum-cli as its users do."""
    command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "openvino", "--model", str(checkpoint)]
    command += ["--task", "text-generation-with-past", "--weight-format", options["precision"]]
    if (
        options["precision"] == "int4"
    ):  # groups of 128, as is its default, and of 64 where 128 does not divide the width
        command += ["--group-size-fallback", "adjust"]
    command += [str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads: the weights' file less the position table; the cache has 8 bits by default."""
    positions = config.get("n_positions", 0) * config.get("n_embd", 0)
    size = (prepared / "openvino_model.bin").stat().st_size - positions * (4 if options["precision"] == "fp32" else 1)
    return {"read_mb": size / 1e6, "cache_bits": 8}


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the pipeline for latency with `threads` threads; greedy, end-of-text ignored."""
    import openvino
    import openvino_genai

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    if options["hint"] != "default":
        settings["INFERENCE_PRECISION_HINT"] = options["hint"]
    pipeline = openvino_genai.LLMPipeline(str(prepared), "CPU", **settings)
    plan = openvino_genai.GenerationConfig()
    plan.do_sample = False
    plan.ignore_eos = True

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        plan.max_new_tokens = new
        ids = openvino.Tensor(np.asarray(prompts, np.int64))
        mask = openvino.Tensor(np.ones((len(prompts), len(prompts[0])), np.int64))
        start = time.perf_counter()
        result = pipeline.generate(openvino_genai.TokenizedInputs(ids, mask), plan)
        # Streamers are for one row only; the pipeline's own clock serves both.
        return [list(row) for row in result.tokens], start + result.perf_metrics.get_ttft().mean / 1e3

    def logits(text: list[int]) -> np.ndarray:
        request = openvino.Core().compile_model(prepared / "openvino_model.xml", "CPU", settings).create_infer_request()
        count = len(text)
        feed = {
            "input_ids": np.asarray([text], np.int64),
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        taken = {name for port in request.model_inputs for name in port.names}
        request.infer({name: values for name, values in feed.items() if name in taken})
        return np.asarray(request.get_tensor("logits").data[0, -1], np.float32)

    return Writer(write, logits)
