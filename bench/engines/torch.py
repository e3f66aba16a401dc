"""transformers on PyTorch, fp32: what everyone starts from, and the reference for everyone's logits."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads.encoder import Texts, pad

PACKAGES = ("torch", "transformers", "numpy")
OPTIONS = {"attention": ("sdpa", "eager")}
NOTE = "transformers' model as it is, inference_mode, padded to the longest text with an attention mask"


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Copy the checkpoint: it is what a user of transformers ships."""
    shutil.copytree(checkpoint, out, dirs_exist_ok=True)


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the checkpoint in fp32 and eval mode."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(
        prepared, attn_implementation=options["attention"], dtype=torch.float32
    ).eval()

    def call(texts: Texts) -> np.ndarray:
        ids, mask = map(torch.from_numpy, pad(texts))
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask).logits.numpy()

    return call
