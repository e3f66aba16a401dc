"""Token ids in, class logits out: one pass of an encoder and its head. Knows no engine and no tokenizer.

A pass is nearly all matrix products, so it lives between two regimes. One short text (1x16) reads every weight once and
does little with it: bound by memory, or by the cache that holds the weights between two calls. Many tokens (8x128,
32x32) reuse each weight hundreds of times: bound by the cores' int8 or fp32 arithmetic. One long text (1x512) adds
attention, which grows with the square of the length and which most engines leave in floating point. The ragged batch,
16 texts of 5 to 128 tokens, shows what an engine pays for padding. The long texts are for models whose window holds them.
"""

import time
from collections.abc import Callable

import limits as hardware
import numpy as np

Texts = list[list[int]]

CASES = {
    "1x16": "one text of 16 tokens",
    "1x128": "one text of 128 tokens",
    "8x128": "8 texts of 128 tokens",
    "1x512": "one text of 512 tokens",
    "32x32": "32 texts of 32 tokens",
    "ragged": "16 texts of 5 to 128 tokens",
    "1x2048": "one text of 2,048 tokens",
    "1x4096": "one text of 4,096 tokens",
    "1x8192": "one text of 8,192 tokens",
}
MEASURES = {"ms": "Milliseconds per call, lower is better"}
HIGHER = ()
MODELS = ("base",)
ENGINES = ("edgenlp", "torch", "optimum", "openvino", "ctranslate2")
DEFAULTS = {"rounds": 5, "warmup": 3, "calls": 5, "seconds": 1.0, "cases": "1x16,1x128,8x128,1x512,32x32,ragged"}
QUICK = {"rounds": 1, "cases": "1x16,1x128", "seconds": 0.2}
CHECKS = {"error": "error / spread", "top1": "same label"}
EXPLAINED = (
    "error / spread: largest difference of any logit from the fp32 reference, over the standard deviation of the "
    "reference's logits from text to text. same label: share of the texts whose label is the reference's, with the "
    "reference's mean logits taken off both (random weights would give all texts one label).",
    "The limit is the time that the measured arithmetic needs for all of a pass's products over the real tokens, or "
    "the measured bandwidth for one read of its weights, whichever is longer; attention counts as fp32 in both. It "
    "counts the model as published: an engine that skips what the answer does not need (a classifier's last layer "
    "matters at its first token only), or computes attention in bf16, comes closer than its kernels do.",
)
CLS, SEP, FIRST_WORD = 101, 102, 999  # bert-base-uncased's ids


def pad(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask, int64 [texts, longest], as a tokenizer's `padding=True` gives them; the pad id is 0."""
    longest = max(map(len, texts))
    ids = np.zeros((len(texts), longest), np.int64)
    mask = np.zeros((len(texts), longest), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


def draw(random: np.random.RandomState, length: int, vocabulary: int) -> list[int]:
    """Return one text of `length` random ids between [CLS] and [SEP]."""
    return [CLS, *random.randint(FIRST_WORD, vocabulary, length - 2).tolist(), SEP]


def inputs(config: dict) -> dict[str, Texts]:
    """Return the token ids of every case that fits the model's window; seed 0 on every machine."""
    random, vocabulary = np.random.RandomState(0), config["vocab_size"]
    ragged = random.randint(5, 129, 16).tolist()
    lengths = {"1x16": [16], "1x128": [128], "8x128": [128] * 8, "1x512": [512], "32x32": [32] * 32, "ragged": ragged}
    lengths |= {f"1x{length}": [length] for length in (2048, 4096, 8192) if length <= config["max_position_embeddings"]}
    return {case: [draw(random, length, vocabulary) for length in own] for case, own in lengths.items()}


def measure(call: Callable[[Texts], np.ndarray], texts: Texts) -> tuple[np.ndarray, dict[str, float]]:
    """Run one call and return the logits [texts, labels] and its milliseconds."""
    start = time.perf_counter()
    logits = call(texts)
    return logits, {"ms": (time.perf_counter() - start) * 1e3}


def check(reference: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> dict[str, float]:
    """Return how far the answers are from the reference; an answer of another shape raises.

    The reference's statistics are taken over all its cases, so they do not depend on which ones were asked for.
    """
    for case, logits in answers.items():
        if logits.shape != reference[case].shape or not np.isfinite(logits).all():
            raise ValueError(f"{case}: logits {logits.shape}, expected finite ones of {reference[case].shape}")
    every = np.concatenate(list(reference.values()))
    mean = every.mean(axis=0)
    right = np.concatenate([reference[case] for case in answers])
    got = np.concatenate(list(answers.values()))
    same = (got - mean).argmax(axis=1) == (right - mean).argmax(axis=1)
    return {
        "error": float(np.abs(got - right).max() / (every - mean).std()),
        "top1": float(same.mean()),
        "texts": len(got),
    }


def wrong(checks: dict[str, float]) -> bool:
    """Return whether the answers are off by as much as two texts are apart, or label one text in five otherwise.

    Some of the random texts lie on the border between the labels, where any rounding decides: hence not one in fifty.
    """
    return checks["error"] > 1 or checks["top1"] < 0.8


def work(config: dict, texts: Texts) -> dict[str, float]:
    """Return one pass's multiply-adds in linear layers and in attention, and the weights it reads; head left out.

    A linear layer of [inputs, outputs] costs inputs x outputs per token; attention 2 x width per token and token that it
    looks at (scores, then the weighted sum). Keys are DistilBERT's own or, failing that, BERT's. DeBERTa's products with
    positions and Longformer's with its one global token are left out.
    """
    layers = config.get("n_layers", config.get("num_hidden_layers"))
    width = config.get("dim", config.get("hidden_size"))
    hidden = config.get("hidden_dim", config.get("intermediate_size"))
    gated = config["model_type"] == "modernbert"
    weights = layers * (4 * width * width + (3 if gated else 2) * width * hidden)
    every = config.get("global_attn_every_n_layers", 1)
    reach = config.get("attention_window") or config.get("local_attention")
    looked_at = [
        min(len(text), reach + 1) if reach and (every == 1 or number % every) else len(text)
        for text in texts
        for number in range(layers)
    ]
    lengths = [len(text) for text in texts for _ in range(layers)]
    return {
        "linear": weights * sum(map(len, texts)),
        "attention": sum(2 * width * length * seen for length, seen in zip(lengths, looked_at, strict=True)),
        "weights": weights,
    }


def limits(config: dict, texts: Texts, machine: dict[str, float]) -> dict[str, dict[str, float]]:
    """Return the fewest milliseconds this machine could take, with int8 and with fp32 weights.

    Args:
        config: the checkpoint's config.json.
        texts: one case's token ids.
        machine: `int8_gops` and `fp32_gflops` (10^9 operations a second, a multiply-add being two) and
            `bandwidth`, {bytes read again and again: 10^9 bytes a second}.
    """
    need = work(config, texts)
    bounds = {}
    for name, rate, size in (("int8", machine["int8_gops"], 1), ("fp32", machine["fp32_gflops"], 4)):
        arithmetic = 2 * need["linear"] / rate + 2 * need["attention"] / machine["fp32_gflops"]
        bounds[name] = max(arithmetic / 1e6, hardware.read_ms(need["weights"] * size, machine["bandwidth"]))
    return {"ms": bounds}
