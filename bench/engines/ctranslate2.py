"""CTranslate2: its own transformers converter, int8 weights, `Encoder.forward_batch`.

Its encoder ends at the last hidden state, so the classification head runs in numpy here (a [texts, width] product:
about a thousandth of a pass). That is how its users add one, too. Knows DistilBERT's head only. A decoder writes with
`Generator.generate_batch`, an encoder-decoder with `Translator.translate_batch`; both take tokens as text.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from workloads import seq2seq
from workloads.decoder import Writer
from workloads.encoder import Texts

PACKAGES = ("ctranslate2", "transformers", "torch", "numpy")
OPTIONS = {"precision": ("int8", "float32")}
NOTE = (
    "TransformersConverter; Encoder.forward_batch (pads ragged lists itself), the head is numpy, as it has none; "
    "Generator.generate_batch with include_prompt_in_result=False; Translator.translate_batch, all of a call in one batch"
)
HEAD = ("pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias")


def prepare_encoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Convert the encoder, and put the head's four arrays beside it."""
    from ctranslate2.converters import TransformersConverter
    from safetensors.numpy import load_file

    kind = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["model_type"]
    if kind != "distilbert":
        raise ValueError(f"the ctranslate2 adapter has the head of distilbert only; the checkpoint is {kind!r}")
    TransformersConverter(str(checkpoint)).convert(str(out), quantization=options["precision"], force=True)
    weights = load_file(checkpoint / "model.safetensors")
    np.savez(out / "head.npz", **{name: weights[name] for name in HEAD})


def load_encoder(prepared: Path, threads: int, options: dict[str, str]) -> Callable[[Texts], np.ndarray]:
    """Open the encoder with one worker of `threads` threads."""
    import ctranslate2

    encoder = ctranslate2.Encoder(
        str(prepared), device="cpu", compute_type=options["precision"], inter_threads=1, intra_threads=threads
    )
    with np.load(prepared / "head.npz") as arrays:
        weight, bias, last_weight, last_bias = (arrays[name] for name in HEAD)

    def call(texts: Texts) -> np.ndarray:
        hidden = np.asarray(encoder.forward_batch(texts).last_hidden_state)  # [texts, longest, width]
        pooled = np.maximum(hidden[:, 0] @ weight.T + bias, 0)  # transformers' DistilBertForSequenceClassification
        return pooled @ last_weight.T + last_bias

    return call


def prepare_decoder(checkpoint: Path, out: Path, options: dict[str, str]) -> None:
    """Convert the decoder."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(checkpoint)).convert(str(out), quantization=options["precision"], force=True)


def facts_decoder(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a step reads: its one file less the position table, which stays fp32, as does the cache."""
    positions = config.get("n_positions", 0) * config.get("n_embd", 0)
    return {"read_mb": ((prepared / "model.bin").stat().st_size - 4 * positions) / 1e6, "cache_bits": 32}


def load_decoder(prepared: Path, threads: int, options: dict[str, str]) -> Writer:
    """Open the generator with one worker of `threads` threads; greedy, end-of-text barred by the minimum length."""
    import ctranslate2

    generator = ctranslate2.Generator(
        str(prepared), device="cpu", compute_type=options["precision"], inter_threads=1, intra_threads=threads
    )
    vocabulary = json.loads((prepared / "vocabulary.json").read_text(encoding="utf-8"))

    def write(prompts: Texts, new: int) -> tuple[Texts, float]:
        times: list[float] = []
        started: set[int] = set()

        def tell(step: ctranslate2.GenerationStepResult) -> bool:
            if not times:
                started.add(step.batch_id)
                if len(started) == len(prompts):
                    times.append(time.perf_counter())
            return False

        results = generator.generate_batch(
            [[vocabulary[token] for token in prompt] for prompt in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=tell,
        )
        return [result.sequences_ids[0] for result in results], times[0]

    def logits(text: list[int]) -> np.ndarray:
        return np.asarray(generator.forward_batch([text]))[0, -1]

    return Writer(write, logits)


prepare_seq2seq = prepare_decoder


def facts_seq2seq(prepared: Path, config: dict, options: dict[str, str]) -> dict[str, float]:
    """Return what a call reads, by the weights' number: one file holds all; the cache is fp32."""
    return seq2seq.plain_facts(config, 8 if options["precision"] == "int8" else 32)


def load_seq2seq(prepared: Path, threads: int, options: dict[str, str]) -> seq2seq.Writer:
    """Open the translator with one worker of `threads` threads; the end is barred by the minimum length."""
    import ctranslate2

    translator = ctranslate2.Translator(
        str(prepared), device="cpu", compute_type=options["precision"], inter_threads=1, intra_threads=threads
    )
    vocabulary = json.loads((prepared / "shared_vocabulary.json").read_text(encoding="utf-8"))
    ids = {token: number for number, token in enumerate(vocabulary)}

    def write(sources: Texts, beams: int, new: int) -> Texts:
        results = translator.translate_batch(
            [[vocabulary[token] for token in source] for source in sources],
            beam_size=beams,
            length_penalty=1,
            min_decoding_length=new,
            max_decoding_length=new,
        )
        return [[ids[token] for token in result.hypotheses[0]] for result in results]

    def logits(source: list[int]) -> np.ndarray:
        (result,) = translator.translate_batch(
            [[vocabulary[token] for token in source]],
            beam_size=1,
            min_decoding_length=0,
            max_decoding_length=1,
            return_logits_vocab=True,
        )
        return np.asarray(result.logits[0][0], np.float32)

    return seq2seq.Writer(write, logits)
