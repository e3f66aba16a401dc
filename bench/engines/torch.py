"""transformers on PyTorch, fp32: what everyone starts from, and the reference for everyone's logits."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from workloads import seq2seq
from workloads.decoder import Writer
from workloads.encoder import Texts, pad

if TYPE_CHECKING:
    from transformers import GenerationMixin

PACKAGES = ("torch", "transformers", "numpy")
OPTIONS = {"attention": ("sdpa", "eager")}
NOTE = (
    "transformers' model as it is, inference_mode, padded to the longest text with an attention mask; generate; sdpa where the "
    "model has it"
)


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Copy the checkpoint: it is what a user of transformers ships."""
    shutil.copytree(checkpoint, out, dirs_exist_ok=True)


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the checkpoint in fp32 and eval mode; a family without sdpa gets transformers' eager attention."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    attention = None if options["attention"] == "sdpa" else options["attention"]
    model = AutoModelForSequenceClassification.from_pretrained(
        prepared, attn_implementation=attention, dtype=torch.float32
    ).eval()

    def call(texts: Texts) -> np.ndarray:
        ids, mask = map(torch.from_numpy, pad(texts))
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).logits.numpy()

    return call


prepare_decoder = prepare_encoder


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads: the checkpoint's weights less the position table; the cache is fp32."""
    positions = config.get("n_positions", 0) * config.get("n_embd", 0)
    return {"read_mb": ((prepared / "model.safetensors").stat().st_size - 4 * positions) / 1e6, "cache_bits": 32}


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the checkpoint in fp32 and write with `generate`, greedy, without an end-of-text id."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model = AutoModelForCausalLM.from_pretrained(
        prepared, attn_implementation=options["attention"], dtype=torch.float32
    ).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        times: list[float] = []

        def tell(ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
            times.append(time.perf_counter())  # called after every token
            return torch.zeros(len(ids), dtype=torch.bool)

        ids = torch.tensor(prompts)
        written = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, stopping_criteria=[tell]
        )
        return written[:, ids.shape[1] :].tolist(), times[0]

    def logits(text: list[int]) -> np.ndarray:
        with torch.inference_mode():
            return model(input_ids=torch.tensor([text])).logits[0, -1].numpy()

    return Writer(write, logits)


prepare_seq2seq = prepare_encoder


def facts_seq2seq(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a call reads: the checkpoint's weights."""
    return seq2seq.plain_facts(config, 32)


def load_seq2seq(prepared: Path, threads: int, options: dict[str, str]) -> seq2seq.Writer:
    """Open the checkpoint in fp32 and write with `generate`; without sdpa, as T5 is, transformers takes its eager attention."""
    import torch
    from transformers import AutoModelForSeq2SeqLM

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    return generating(
        AutoModelForSeq2SeqLM.from_pretrained(
            prepared,
            attn_implementation=None if options["attention"] == "sdpa" else options["attention"],
            dtype=torch.float32,
        ).eval()
    )


def generating(model: "GenerationMixin") -> seq2seq.Writer:
    """Return a writer of an encoder-decoder with transformers' `generate`; a minimum of new tokens bars the end."""
    import torch

    def write(sources: Texts, beams: int, new: int) -> Texts:
        ids = torch.tensor(sources)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            num_beams=beams,
            do_sample=False,
            min_new_tokens=new,
            max_new_tokens=new,
            length_penalty=1.0,
            early_stopping=False,
        )
        return written[:, 1:].tolist()

    def logits(source: list[int]) -> np.ndarray:
        ids = torch.tensor([source])
        start = torch.tensor([[model.config.decoder_start_token_id]])
        with torch.inference_mode():
            answer = model(input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=start)
        return answer.logits[0, -1].numpy()

    return seq2seq.Writer(write, logits)
