"""The architectures whose traces `cleaners.py` compares, what their graphs are asked, and how wrong an answer is.

Weights are random, and larger than an initialization makes them, so that attention differs between tokens: nothing was trained, but a
graph that computes something else shows. Encoders read texts of 1 to 128 tokens, alone and side by side; decoders step with and
without a past. Knows nothing of what was done to a graph, and of edgenlp only what traces one and what runs one.
"""

from pathlib import Path

import numpy as np

VOCABULARY, POSITIONS = 8000, 512
_SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
_GPTJ = {"n_embd": 256, "n_layer": 4, "n_head": 4, "rotary_dim": 16, "n_positions": POSITIONS}
_STABLELM = {**_SHAPE, "intermediate_size": 704, "num_key_value_heads": 2, "max_position_embeddings": POSITIONS}
_WRITING = {"bos_token_id": 1, "eos_token_id": 2}
# Architecture to the keys that give it its shape, and to the model_type of onnxruntime's optimizer that finds most in it
MODELS: dict[str, tuple[dict, str]] = {
    "convbert": ({**_SHAPE, "embedding_size": 256}, "bert"),
    "roformer": ({**_SHAPE, "embedding_size": 256}, "bert"),
    "squeezebert": ({**_SHAPE, "embedding_size": 256}, "bert"),
    "mobilebert": ({"num_hidden_layers": 6}, "bert"),  # 512 wide, 128 inside
    "xlnet": ({"d_model": 256, "n_layer": 4, "n_head": 4, "d_inner": 1024}, "bert"),
    "gptj": ({**_GPTJ, **_WRITING}, "gpt2"),
    "stablelm": ({**_STABLELM, **_WRITING}, "gpt_neox"),
}
DECODERS = ("gptj", "stablelm")
# What is asked; the last of each has several rows of different lengths
TEXTS = ((1,), (7,), (33,), (128,), (5, 17, 2, 40))  # lengths of texts that are asked side by side
STEPS = ((1, 0, 1), (1, 0, 33), (1, 64, 1), (1, 12, 5), (3, 10, 4))  # rows, past, new ids
PAST = "past_key_values."


def make(model: str, folder: Path) -> None:
    """Write a checkpoint of random weights, and trace it."""
    import torch
    import transformers
    from edgenlp_export.traced import optimum
    from edgenlp_export.traced.verify import Question

    torch.manual_seed(0)
    torch.set_num_threads(1)
    writes = model in DECODERS
    config = transformers.AutoConfig.for_model(model, vocab_size=VOCABULARY, **MODELS[model][0])
    network = (transformers.AutoModelForCausalLM if writes else transformers.AutoModel).from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2) if parameter.ndim > 1 else parameter.add_(torch.randn_like(parameter) * 0.05)
    network.save_pretrained(folder / "checkpoint")
    head = "causal-lm" if writes else "hidden-states"
    optimum.trace(folder / "checkpoint", folder / "traced", head, [Question([5, 6, 7], [0] * 3)], type_ids=not writes)


def random_ids(rows: int, length: int) -> np.ndarray:
    """Return ids [rows, length] that are the same in every process."""
    return np.random.default_rng(length).integers(5, VOCABULARY, (rows, length))


def texts_feed(lengths: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return all that an encoder's graph may want, padded on the right."""
    longest = max(lengths)
    ids = np.zeros((len(lengths), longest), np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = random_ids(1, length)[0]
    mask = (np.arange(longest) < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "lengths": np.array(lengths),
        "token_type_ids": (np.arange(longest) >= np.array(lengths)[:, None] // 2) * mask,
    }


def steps_feed(inputs: dict, rows: int, past: int, new: int) -> dict[str, np.ndarray]:
    """Return all that a decoder's graph may want; of several rows, the first places of all but the first are masked."""
    mask = np.ones((rows, past + new), np.int64)
    for row in range(1, rows):
        mask[row, : 2 * row] = 0
    generator = np.random.default_rng(past)
    feed = {"input_ids": random_ids(rows, new), "attention_mask": mask}
    feed["position_ids"] = np.maximum(mask.cumsum(1) - 1, 0)[:, past:]
    for name, item in inputs.items():
        if name.startswith(PAST):
            sizes = [size if isinstance(size, int) else past for size in item.shape]
            feed[name] = generator.normal(size=(rows, *sizes[1:])).astype(np.float32)
    return feed


def timed_feed(inputs: dict, model: str) -> dict[str, np.ndarray]:
    """Return what is asked for a time: a text of 128 tokens, or a step behind 64 tokens."""
    return steps_feed(inputs, 1, 64, 1) if model in DECODERS else texts_feed((128,))


def answers(path: Path, model: str, *, alone: bool = False) -> dict[str, np.ndarray]:
    """Return a graph's answers by name; `alone` asks every text for itself, which is what is right."""
    from edgenlp.session import Session

    session, found = Session(path, threads=1), {}
    if model in DECODERS:
        for shape in STEPS:
            outputs = session.run(steps_feed(session.inputs, *shape))
            found |= {f"{shape} {name}": value for name, value in outputs.items()}
        return found
    for lengths in TEXTS:
        groups = [(length,) for length in lengths] if alone else [lengths]
        rows = [row for group in groups for row in session.run(texts_feed(group))["last_hidden_state"]]
        found |= {f"{lengths} {n}": row[:length] for n, (row, length) in enumerate(zip(rows, lengths, strict=True))}
    return found


def difference(path: Path, model: str, right: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the greatest difference, of one row and of several side by side."""
    found, worst = answers(path, model), {"alone": 0.0, "ragged": 0.0}
    ragged = str((STEPS if model in DECODERS else TEXTS)[-1])
    for name, value in right.items():
        if found[name].shape != value.shape:
            raise ValueError(f"{name} is {found[name].shape} and should be {value.shape}")
        gap = float(np.abs(found[name] - value).max(initial=0))
        group = "ragged" if name.startswith(ragged) else "alone"
        worst[group] = max(worst[group], gap if np.isfinite(gap) else float("inf"))
    return worst
