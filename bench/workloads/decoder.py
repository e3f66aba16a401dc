"""Token ids in, the most likely next tokens out: a decoder's prompt and its steps. Knows no engine and no tokenizer.

Writing has two regimes. The prompt is read at once, many tokens per weight: bound by arithmetic, and it decides when the
first token comes. Every step after that reads all weights for one token per row: bound by the memory that holds them,
and it decides the speed of the rest. A batch of 8 shares one read of the weights between eight rows.

Tokens are drawn and end-of-text is off, so every engine writes as many tokens as it is asked for.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import limits as hardware
import numpy as np

Texts = list[list[int]]

CASES = {
    "1x16": "one prompt of 16 tokens",
    "1x128": "one prompt of 128 tokens",
    "1x512": "one prompt of 512 tokens",
    "8x16": "8 prompts of 16 tokens",
    "8x128": "8 prompts of 128 tokens",
    "8x512": "8 prompts of 512 tokens",
}
MEASURES = {
    "tokens_s": "Tokens a second after the first, all rows together, higher is better",
    "first_ms": "Milliseconds to the first new token, lower is better",
    "peak_mb": "Peak memory of the process up to this case, MiB, lower is better",
}
HIGHER = ("tokens_s",)
CHECKS = {"error": "error / spread", "largest": "largest logit error", "top1": "same top token", "same": "same text"}
MODELS = ("gpt2", "smollm2-135m", "qwen2-0.5b")
ENGINES = (
    "edgenlp", "edgenlp:precision=int4", "llamacpp:precision=q8_0", "llamacpp:precision=q4_0", "genai:precision=int8",
    "genai:precision=int4", "openvino_genai:precision=int8", "openvino_genai:precision=int4", "ctranslate2", "torch",
)  # fmt: skip
DEFAULTS = {"rounds": 3, "warmup": 1, "calls": 1, "seconds": 0.0, "tokens": 128, "budget": 3.0}
QUICK = {"rounds": 1, "cases": "1x128,8x128", "tokens": 32, "budget": 1.0}
FEWEST = 32  # tokens that a slow engine writes at least
PROBE_ROWS, PROBE_PROMPT, PROBE_TOKENS, PROBE_TEXTS, PROBE_LENGTH = 8, 16, 16, 4, 48
EXPLAINED = (
    "Tokens a second: the tokens after the first of all rows, over the time from the first to the last. First token: "
    "from the call with the prompts' ids to the first new token (of every row), the cache's allocation included.",
    "error / spread: root mean square of the logits' difference from the fp32 reference, over the standard deviation of "
    "the reference's logits; largest logit error: of any logit, in the logits' own units; same top token: share of equal "
    "arg max. All three after 4 texts of 48 tokens. same text: share of greedy tokens that equal the reference's, 8 "
    "prompts of 16 tokens, 16 new ones each: a rounded model leaves the reference's text at the first near tie, and "
    "random weights have many, so this column is for the fp32 engines: 1 proves that the checkpoint was read faithfully.",
    "Share of the bandwidth limit: the bytes that a step must read (the weights in this engine's own format, the head "
    "included, tables of which it needs one row left out; and keys and values of the mean length, in the format that the "
    "engine keeps them in) over the bandwidth measured for so many bytes, as a share of the step's time. At batch 8 "
    "arithmetic counts as well and the share falls without any waste.",
    "The limits are those of weights of exactly 8, 4 and 32 bits: one read of weights and of an fp32 cache for a step; "
    "for the first token the arithmetic of the prompt (the head at the last position only) or one read of the weights, "
    "whichever is longer.",
    "Every case is warmed up at its own shape with a short run, 8x512 by the runs before it. Peak memory is the process's "
    "high-water mark after each case, in the order of the columns.",
)


class Writer(NamedTuple):
    """An opened model, as an engine's `load_decoder` returns it.

    Attributes:
        write: (prompts, new) to (ids [rows][new], `time.perf_counter()` when the first token of all rows was there).
        logits: One text's ids to the logits after its last token, float32 [vocabulary]; None where the engine has none.
    """

    write: Callable[[Texts, int], tuple[Texts, float]]
    logits: Callable[[list[int]], np.ndarray] | None = None


def inputs(config: dict) -> dict[str, Texts]:
    """Return every case's prompts; seed 0 on every machine. The last id, end-of-text, is left out."""
    random, vocabulary = np.random.RandomState(0), config["vocab_size"]
    sizes = {case: tuple(map(int, case.split("x"))) for case in CASES}
    return {case: random.randint(0, vocabulary - 1, size).tolist() for case, size in sizes.items()}


def turned(prompts: Texts, turn: int, vocabulary: int) -> Texts:
    """Return other prompts of the same shape, one set per turn: some engines remember what they have read before."""
    return [[(token + turn) % (vocabulary - 1) for token in prompt] for prompt in prompts]


def measure(writer: Writer, prompts: Texts, new: int) -> dict[str, float]:
    """Write once; return the milliseconds to the first token and, of two tokens or more, tokens a second after it."""
    start = time.perf_counter()
    ids, first = writer.write(prompts, new)
    end = time.perf_counter()
    if len(ids) != len(prompts) or any(len(row) != new for row in ids):
        raise ValueError(f"asked for {len(prompts)} x {new} tokens, got {[len(row) for row in ids]}")
    measures = {"first_ms": (first - start) * 1e3}
    if new > 1:
        measures["tokens_s"] = len(prompts) * (new - 1) / (end - first)
    return measures


def probe(writer: Writer, config: dict) -> dict[str, np.ndarray]:
    """Return what is compared with the reference: logits [texts, vocabulary] if there are any, and greedy ids."""
    random = np.random.RandomState(1)
    texts = random.randint(0, config["vocab_size"] - 1, (PROBE_TEXTS, PROBE_LENGTH)).tolist()
    prompts = random.randint(0, config["vocab_size"] - 1, (PROBE_ROWS, PROBE_PROMPT)).tolist()
    answers = {"ids": np.asarray(writer.write(prompts, PROBE_TOKENS)[0], np.int64)}
    if writer.logits:
        answers["logits"] = np.stack([np.asarray(writer.logits(text), np.float32) for text in texts])
    return answers


def check(reference: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Return how far the answers are from the reference; None for what an engine does not tell."""
    same = float((answers["ids"] == reference["ids"]).mean())
    if "logits" not in answers:
        return {"error": None, "largest": None, "top1": None, "same": same}
    right, got = reference["logits"], answers["logits"][:, : reference["logits"].shape[1]]  # some pad the vocabulary
    if got.shape != right.shape or not np.isfinite(got).all():
        raise ValueError(f"logits {got.shape}, expected finite ones of {right.shape}")
    return {
        "error": float(np.sqrt(np.mean((got - right) ** 2)) / right.std()),
        "largest": float(np.abs(got - right).max()),
        "top1": float((got.argmax(axis=1) == right.argmax(axis=1)).mean()),
        "same": same,
    }


def wrong(checks: dict[str, float | None]) -> bool:
    """Return whether the logits might as well be another model's: unrelated ones have an error / spread of 1.4.

    Random weights damp nothing, so rounding to 4 bits alone comes to 0.7 after thirty layers; trained ones are kinder.
    """
    return checks["error"] > 1.2 if checks["error"] is not None else not checks["same"]


def time_cases(
    writer: Writer,
    prompts: dict[str, Texts],
    config: dict,
    effort: argparse.Namespace,
    peak: Callable[[], float | None],
) -> dict[str, dict]:
    """Time case after case, prompts from short to long and rows from few to many.

    A case asks for `effort.tokens` tokens, or, of an engine that would need more than `effort.budget` seconds of steps,
    for as many as fit, but for `FEWEST` at least. The first token, where it comes fast, is timed a few times more. Every
    call gets prompts of its own.
    """
    turns = itertools.count(1)

    def once(texts: Texts, new: int) -> dict[str, float]:
        return measure(writer, turned(texts, next(turns), config["vocab_size"]), new)

    cases: dict[str, dict] = {}
    step = 0.0  # seconds, of the case before
    for case, texts in prompts.items():
        first = float("inf")
        short = len(texts) * len(texts[0]) <= 1024
        if short or not step:
            for _ in range(effort.warmup):
                trial = once(texts, 8)
            step, first = len(texts) / trial["tokens_s"], trial["first_ms"]
        new = min(effort.tokens, max(FEWEST, int(effort.budget / step)))
        runs = [once(texts, 1) for _ in range(int(min(4, 300 / first)))]
        calls, end = 0, time.perf_counter() + effort.seconds
        while calls < effort.calls or time.perf_counter() < end:
            runs.append(once(texts, new))
            calls += 1
        step = len(texts) / runs[-1]["tokens_s"]
        values = {name: [run[name] for run in runs if name in run] for name in ("tokens_s", "first_ms")}
        values |= {"peak_mb": [peak() or 0.0], "tokens": [float(new)]}
        cases[case] = {
            name: {"median": round(float(np.median(each)), 4), "min": round(min(each), 4), "calls": len(each)}
            for name, each in values.items()
        }
    return cases


def work(config: dict) -> dict[str, int]:
    """Return the weights of the layers' matrices, of the head, and the floats of keys and values per token.

    Also `width`, the inner products' length over all heads of all layers: attention costs 2 x length x width per token.
    """
    if config["model_type"] == "gpt2":
        width, layers = config["n_embd"], config["n_layer"]
        body, few = 12 * width * width, width
    else:
        width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
        few = width // heads * config["num_key_value_heads"]
        body = 2 * width * (width + few) + 3 * width * config["intermediate_size"]
    return {
        "body": layers * body,
        "head": config["vocab_size"] * width,
        "cache": 2 * layers * few,
        "width": layers * width,
    }


def limits(config: dict, prompts: Texts, machine: dict) -> dict[str, dict[str, float]]:
    """Return what this machine could do at best with weights of 8, 4 and 32 bits: tokens a second, first token.

    Args:
        config: the checkpoint's config.json.
        prompts: one case's, all of one length.
        machine: what `limits.measure` returns.
    """
    need, rows, length = work(config), len(prompts), len(prompts[0])
    weights = need["body"] + need["head"]
    held = 4 * rows * need["cache"] * (length + DEFAULTS["tokens"] // 2)
    pairs = rows * length * length * need["width"]  # multiply-adds of causal attention: half of 2 x length² x width
    speeds, firsts = {}, {}
    for bits, rate in ((8, machine["int8_gops"]), (4, machine["int8_gops"]), (32, machine["fp32_gflops"])):
        step = hardware.read_ms(weights * bits // 8 + held, machine["bandwidth"])
        sums = 2 * (need["body"] * rows * length + need["head"] * rows) / rate + 2 * pairs / machine["fp32_gflops"]
        speeds[f"{bits} bits"] = 1e3 * rows / max(step, 2 * weights * rows / rate / 1e6)
        firsts[f"{bits} bits"] = max(sums / 1e6, hardware.read_ms(weights * bits // 8, machine["bandwidth"]))
    return {"tokens_s": speeds, "first_ms": firsts}


def share(config: dict, prompts: Texts, machine: dict, entry: dict, measures: dict) -> float | None:
    """Return the share of the bandwidth limit that an engine's steps reach, for the bytes that it reads itself.

    Args:
        config: the checkpoint's config.json.
        prompts: one case's.
        machine: what `limits.measure` returns.
        entry: what preparing told: `read_mb` (MB of weights a step reads), `cache_bits` (of a number in the cache).
        measures: the case's, each with a `median`.
    """
    if entry.get("read_mb") is None:
        return None
    length = len(prompts[0]) + measures["tokens"]["median"] / 2
    held = len(prompts) * work(config)["cache"] * length * entry["cache_bits"] / 8
    step = 1e3 * len(prompts) / measures["tokens_s"]["median"]
    return hardware.read_ms(entry["read_mb"] * 1e6 + held, machine["bandwidth"]) / step
