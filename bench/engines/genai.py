"""onnxruntime-genai: exported by its own model builder, written with its `Generator`, token by token.

Its builder knows Llama and Qwen2 but not GPT-2, and says so. The graph projects every position of the prompt through the
head; keys and values stay in one fp32 buffer of the length that the search options name.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from workloads.decoder import Texts, Writer

PACKAGES = ("onnxruntime-genai", "onnxruntime", "transformers", "torch", "numpy")
OPTIONS = {"precision": ("int4", "int8", "fp32")}
NOTE = "onnxruntime_genai.models.builder for the cpu, its defaults (blocks of 32, shared embeddings); Generator"


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Run the builder as its users do, from the command line."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(out)]
        command += ["-p", options["precision"], "-e", "cpu", "-c", cache]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1].replace(str(checkpoint), "given")
        raise (NotImplementedError if "not currently supported" in reason else RuntimeError)(reason.partition(": ")[2])


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads, as its graph tells; the cache is fp32."""
    import limits

    return {"read_mb": limits.graph_reads(prepared / "model.onnx") / 1e6, "cache_bits": 32}


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the model with `threads` threads inside an operator; greedy, end-of-text barred by the minimum length."""
    import onnxruntime_genai

    settings = onnxruntime_genai.Config(str(prepared))
    settings.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = onnxruntime_genai.Model(settings)

    def start(prompts: Texts, new: int) -> onnxruntime_genai.Generator:
        length = len(prompts[0]) + new
        search = onnxruntime_genai.GeneratorParams(model)
        search.set_search_options(
            batch_size=len(prompts), max_length=length, min_length=length, do_sample=False, num_beams=1
        )
        generator = onnxruntime_genai.Generator(model, search)
        generator.append_tokens(np.asarray(prompts, np.int32))
        return generator

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        generator = start(prompts, new)
        generator.generate_next_token()
        written = [generator.get_next_tokens()]
        first = time.perf_counter()
        for _ in range(new - 1):
            generator.generate_next_token()
            written.append(generator.get_next_tokens())
        return np.stack(written, axis=1).tolist(), first

    def logits(text: list[int]) -> np.ndarray:
        return start([text], 1).get_logits().reshape(-1)

    return Writer(write, logits)
