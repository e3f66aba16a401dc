"""Token ids in, a text of other token ids out: an encoder and the decoder that looks at it. Knows no engine and no tokenizer.

What counts is the whole call. It has two parts: the encoder reads the source at once (arithmetic), then the decoder writes
token by token: each step reads all weights of the decoder and its head (memory) and the keys and values of the source. Beam
search carries four texts for each source, which share one read of the weights and, at best, one of the source's keys and
values; it adds choosing among all continuations and moving what was read so far from beam to beam.

Tokens are drawn, an end of the text is barred by a minimum of new tokens, and nothing is forced: every engine writes as many
tokens as it is asked for.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import limits as hardware
import numpy as np

Texts = list[list[int]]

_SHAPES = ((1, 32), (1, 256), (8, 32), (8, 256))
_SEARCHES = {"greedy": 1, "beam4": 4}
CASES = {
    f"{rows}x{length}-{search}": f"{'one source' if rows == 1 else f'{rows} sources'} of {length} tokens, "
    + (f"{beams} beams" if beams > 1 else "greedy")
    for (rows, length), (search, beams) in itertools.product(_SHAPES, _SEARCHES.items())
}
MEASURES = {
    "ms": "Milliseconds per call, lower is better",
    "tokens_s": "Tokens written a second, all texts together, higher is better",
    "peak_mb": "Peak memory of the process up to this case, MiB, lower is better",
}
HIGHER = ("tokens_s",)
CHECKS = {
    "error": "error / spread",
    "largest": "largest logit error",
    "top1": "same top token",
    "same": "same text, greedy",
    "beams": "same text, 4 beams",
}
SHARE = "share of the limit of its own format"
MODELS = ("marian-74m", "t5-small", "bart-base")
ENGINES = ("edgenlp", "edgenlp:precision=int8+int4", "edgenlp:precision=fp32", "ctranslate2", "optimum", "torch")
DEFAULTS = {"rounds": 3, "warmup": 1, "calls": 1, "seconds": 1.0, "tokens": 64}
QUICK = {"rounds": 1, "cases": "1x32-greedy,1x32-beam4", "seconds": 0.5}
WARMUP_TOKENS = 4
PROBE_ROWS, PROBE_LENGTH, PROBE_TOKENS = 8, 32, 16
EXPLAINED = (
    "A call: from the ids of the sources to the ids of all new tokens: encoder, caches, every step, the search. Tokens a second "
    "are those of the texts returned, one per source: beams that were given up do not count.",
    "error / spread: root mean square of the first step's logits' difference from the fp32 reference, over the standard deviation "
    "of the reference's, each row's mean taken off; largest logit error: of any logit, in the logits' own units; same top token: "
    "share of equal arg max. same text: share of tokens that equal the reference's, 8 sources of 32 tokens, 16 new ones each: a "
    "rounded model leaves the reference's text at the first near tie, and random weights have many, so these columns are for the "
    "fp32 engines: 1 proves that the checkpoint was read, and the search done, faithfully.",
    "The limit of a call: the arithmetic of the encoder and of the source's keys and values, at the measured peak (or one read of "
    "its weights); then for each new token the longer of two: reading the decoder's weights with its head, the source's keys and "
    "values once per source and those written so far once per beam; or the step's products at the measured peak. The table of "
    "shares has it for the bytes that the engine's own format makes a step read.",
    "Every case is warmed up at its own shape with a short call. Peak memory is the process's high-water mark after each case, in "
    "the order of the columns.",
)


class Writer(NamedTuple):
    """An opened model, as an engine's `load_seq2seq` returns it.

    Attributes:
        write: (sources, beams, new) to the best text of each source, ids [rows][new], the decoder's start left out.
        logits: One source's ids to the logits of its first new token, float32 [vocabulary]; None where the engine has none.
    """

    write: Callable[[Texts, int, int], Texts]
    logits: Callable[[list[int]], np.ndarray] | None = None


class Given(NamedTuple):
    """A case: its sources and its beams, 1 for greedy."""

    sources: Texts
    beams: int


def draw(random: np.random.RandomState, rows: int, length: int, vocabulary: int) -> Texts:
    """Return random sources; the first four ids and the last, where special tokens are, are left out."""
    return random.randint(4, vocabulary - 1, (rows, length)).tolist()


def inputs(config: dict) -> dict[str, Given]:
    """Return every case's sources; seed 0 on every machine. Greedy and beams get the same."""
    random = np.random.RandomState(0)
    cases = {}
    for rows, length in _SHAPES:
        sources = draw(random, rows, length, config["vocab_size"])
        for search, beams in _SEARCHES.items():
            cases[f"{rows}x{length}-{search}"] = Given(sources, beams)
    return cases


def turned(sources: Texts, turn: int, vocabulary: int) -> Texts:
    """Return other sources of the same shape, one set per turn: no engine may have read them before."""
    return [[4 + (token - 4 + turn) % (vocabulary - 5) for token in source] for source in sources]


def write(writer: Writer, sources: Texts, beams: int, new: int) -> Texts:
    """Write once; raise where the answer has not the tokens asked for."""
    ids = writer.write(sources, beams, new)
    if len(ids) != len(sources) or any(len(row) != new for row in ids):
        raise ValueError(f"asked for {len(sources)} x {new} tokens, got {[len(row) for row in ids]}")
    return ids


def probe(writer: Writer, config: dict) -> dict[str, np.ndarray]:
    """Return what is compared with the reference: logits [sources, vocabulary] if there are any, ids of both searches."""
    sources = draw(np.random.RandomState(1), PROBE_ROWS, PROBE_LENGTH, config["vocab_size"])
    answers = {
        name: np.asarray(write(writer, sources, beams, PROBE_TOKENS), np.int64)
        for name, beams in (("same", 1), ("beams", 4))
    }
    if writer.logits:
        answers["logits"] = np.stack([np.asarray(writer.logits(source), np.float32) for source in sources])
    return answers


def check(reference: dict[str, np.ndarray], answers: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Return how far the answers are from the reference; None for what an engine does not tell.

    Logits are compared less each row's mean: CTranslate2 gives their log-softmax. It leaves Marian's pad, the last column, out.
    """
    same: dict[str, float | None] = {
        name: float((answers[name] == reference[name]).mean()) for name in ("same", "beams")
    }
    if "logits" not in answers:
        return {"error": None, "largest": None, "top1": None, **same}
    columns = min(reference["logits"].shape[1], answers["logits"].shape[1])  # some pad the vocabulary
    right, got = reference["logits"][:, :columns], answers["logits"][:, :columns]
    if columns < reference["logits"].shape[1] - 1 or got.shape != right.shape or not np.isfinite(got).all():
        raise ValueError(f"logits {answers['logits'].shape}, expected finite ones of {reference['logits'].shape}")
    right, got = (each - each.mean(axis=1, keepdims=True) for each in (right, got))
    return {
        "error": float(np.sqrt(np.mean((got - right) ** 2)) / right.std()),
        "largest": float(np.abs(got - right).max()),
        "top1": float((got.argmax(axis=1) == right.argmax(axis=1)).mean()),
        **same,
    }


def wrong(checks: dict[str, float | None]) -> bool:
    """Return whether the logits might as well be another model's: unrelated ones have an error / spread of 1.4."""
    return checks["error"] > 1.2 if checks["error"] is not None else not checks["same"]


def time_cases(
    writer: Writer,
    cases: dict[str, Given],
    config: dict,
    effort: argparse.Namespace,
    peak: Callable[[], float | None],
) -> dict[str, dict]:
    """Time whole calls, case after case, each after short calls of its own shape. Every call gets sources of its own."""
    turns = itertools.count(1)

    def once(given: Given, new: int) -> float:
        sources = turned(given.sources, next(turns), config["vocab_size"])
        start = time.perf_counter()
        write(writer, sources, given.beams, new)
        return time.perf_counter() - start

    timed: dict[str, dict] = {}
    for case, given in cases.items():
        for _ in range(effort.warmup):
            once(given, min(WARMUP_TOKENS, effort.tokens))
        taken: list[float] = []
        end = time.perf_counter() + effort.seconds
        while len(taken) < effort.calls or time.perf_counter() < end:
            taken.append(once(given, effort.tokens))
        written = len(given.sources) * effort.tokens
        values = {
            "ms": [1e3 * each for each in taken],
            "tokens_s": [written / each for each in taken],
            "peak_mb": [peak() or 0.0],
            "tokens": [float(effort.tokens)],
        }
        timed[case] = {
            name: {"median": round(float(np.median(each)), 4), "min": round(min(each), 4), "calls": len(each)}
            for name, each in values.items()
        }
    return timed


def work(config: dict) -> dict[str, int]:
    """Return the weights and floats that count.

    Returns:
        `encoder`: of the encoder's matrices; `source`: of those that make the source's keys and values; `step`: of the decoder's
        that a step needs, the head included; `cross` and `own`: floats of keys and values of a token of the source and of the
        text, over all layers; `width`: that of the encoder's attention, over all its layers.
    """
    width = config["d_model"]
    if config["model_type"] == "t5":
        inner, hidden = config["num_heads"] * config["d_kv"], (config["d_ff"],) * 2
        layers = (config["num_layers"], config["num_decoder_layers"])
    else:
        inner, hidden = width, (config["encoder_ffn_dim"], config["decoder_ffn_dim"])
        layers = (config["encoder_layers"], config["decoder_layers"])
    return {
        "encoder": layers[0] * (4 * width * inner + 2 * width * hidden[0]),
        "source": layers[1] * 2 * width * inner,
        "step": layers[1] * (6 * width * inner + 2 * width * hidden[1]) + config["vocab_size"] * width,
        "cross": layers[1] * 2 * inner,
        "own": layers[1] * 2 * inner,
        "width": layers[0] * inner,
    }


def least(
    config: dict,
    given: Given,
    machine: dict,
    new: int,
    *,
    rates: tuple[float, float],
    read: tuple[float, float],
    cache: float = 4,
) -> float:
    """Return the fewest milliseconds of a call.

    Args:
        config: the checkpoint's config.json.
        given: the case.
        machine: what `limits.measure` returns.
        new: tokens to write.
        rates: 10^9 operations a second of the encoder's products and of the decoder's.
        read: bytes of weights that reading the source reads, and those of a step.
        cache: bytes of a number in keys and values.
    """
    need, rows, length = work(config), len(given.sources), len(given.sources[0])
    lines = rows * given.beams
    # 1) The source: all its products, attention in fp32
    pairs = 2 * rows * length * length * need["width"]
    source = 2 * (need["encoder"] + need["source"]) * rows * length / rates[0] + 2 * pairs / machine["fp32_gflops"]
    source = max(source / 1e6, hardware.read_ms(read[0], machine["bandwidth"]))
    # 2) A step in the middle of the text: one read of everything, or its products
    held = cache * (rows * length * need["cross"] + lines * new / 2 * need["own"])
    seen = lines * (length * need["cross"] + new / 2 * need["own"])  # multiply-adds of attention: one per number
    products = (2 * lines * need["step"] / rates[1] + 2 * seen / machine["fp32_gflops"]) / 1e6
    speed = read[1] / hardware.read_ms(
        read[1], machine["bandwidth"]
    )  # the weights' own: what is added must not change it
    return source + new * max((read[1] + held) / speed, products)


def limits(config: dict, given: Given, machine: dict) -> dict[str, dict[str, float]]:
    """Return what this machine could do at best with weights of 8, 4 and 32 bits: milliseconds and tokens a second."""
    need, new = work(config), DEFAULTS["tokens"]
    bounds = {}
    for bits, rate in ((8, machine["int8_gops"]), (4, machine["int8_gops"]), (32, machine["fp32_gflops"])):
        read = ((need["encoder"] + need["source"]) * bits / 8, need["step"] * bits / 8)
        bounds[f"{bits} bits"] = least(config, given, machine, new, rates=(rate, rate), read=read)
    return {"ms": bounds, "tokens_s": {name: 1e3 * len(given.sources) * new / ms for name, ms in bounds.items()}}


def share(config: dict, given: Given, machine: dict, entry: dict, measures: dict) -> float | None:
    """Return the share of the limit that an engine's calls reach, for the bytes that it reads itself.

    Args:
        config: the checkpoint's config.json.
        given: the case.
        machine: what `limits.measure` returns.
        entry: what preparing told: `read_mb` (MB of weights a step reads), `source_mb` (that reading the source reads),
            `cache_bits` (of a number in keys and values), `encoder_bits` and `decoder_bits` (32: products in fp32).
        measures: the case's, each with a `median`.
    """
    if entry.get("read_mb") is None:
        return None
    peaks = {True: machine["fp32_gflops"], False: machine["int8_gops"]}
    ms = least(
        config,
        given,
        machine,
        int(measures["tokens"]["median"]),
        rates=(peaks[entry["encoder_bits"] == 32], peaks[entry["decoder_bits"] == 32]),
        read=(entry["source_mb"] * 1e6, entry["read_mb"] * 1e6),
        cache=entry["cache_bits"] / 8,
    )
    return ms / measures["ms"]["median"]


def plain_facts(config: dict, bits: int) -> dict[str, float]:
    """Return what `share` wants of an engine whose weights all have `bits` bits and whose cache is fp32."""
    need = work(config)
    return {
        "read_mb": need["step"] * bits / 8e6,
        "source_mb": (need["encoder"] + need["source"]) * bits / 8e6,
        "cache_bits": 32,
        "encoder_bits": bits,
        "decoder_bits": bits,
    }
