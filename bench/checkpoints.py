"""Writes random-weight checkpoints in Hugging Face layout, from numpy alone. Knows nothing of engines.

There is one architecture, DistilBERT with a sequence-classification head, in several sizes. Nothing here was trained:
random weights time like trained ones: a dense matrix product takes as long whatever it multiplies. What they cannot
show is an answer's quality, so an engine's distance from the reference on such a checkpoint says that it computes the
same function, and no more.

    python bench/checkpoints.py /tmp/distilbert --size base
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

# DistilBERT's own size (config of distilbert-base-uncased), MiniLM-L6's and BERT-base's shape, and one for smoke tests.
SIZES = {
    "base": {"dim": 768, "hidden_dim": 3072, "n_heads": 12, "n_layers": 6},
    "minilm": {"dim": 384, "hidden_dim": 1536, "n_heads": 12, "n_layers": 6},
    "deep": {"dim": 768, "hidden_dim": 3072, "n_heads": 12, "n_layers": 12},
    "tiny": {"dim": 64, "hidden_dim": 256, "n_heads": 2, "n_layers": 2},
}
VOCABULARY = 30_522  # as bert-base-uncased
POSITIONS = 512
STANDARD_DEVIATION = 0.02  # config key initializer_range of the BERT family, for a width of 768
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
SPECIAL_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}  # where bert-base-uncased has them


def config(size: str) -> dict:
    """Return the config.json of a size in `SIZES`, under DistilBertConfig's key names."""
    return {
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification"],
        "attention_dropout": 0.1,
        "dropout": 0.1,
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "initializer_range": STANDARD_DEVIATION,
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "max_position_embeddings": POSITIONS,
        "model_type": "distilbert",
        "pad_token_id": 0,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "torch_dtype": "float32",
        "vocab_size": VOCABULARY,
        **SIZES[size],
    }


def shapes(facts: dict) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape; a linear's weight is [out, in], as torch stores it."""
    dim, hidden, labels = facts["dim"], facts["hidden_dim"], len(facts["id2label"])
    tensors: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        tensors[f"{name}.weight"] = (outputs, inputs)
        tensors[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = (dim,)
        tensors[f"{name}.bias"] = (dim,)

    tensors["distilbert.embeddings.word_embeddings.weight"] = (facts["vocab_size"], dim)
    tensors["distilbert.embeddings.position_embeddings.weight"] = (facts["max_position_embeddings"], dim)
    norm("distilbert.embeddings.LayerNorm")
    for number in range(facts["n_layers"]):
        layer = f"distilbert.transformer.layer.{number}"
        for projection in ("q_lin", "k_lin", "v_lin", "out_lin"):
            linear(f"{layer}.attention.{projection}", dim, dim)
        norm(f"{layer}.sa_layer_norm")
        linear(f"{layer}.ffn.lin1", hidden, dim)
        linear(f"{layer}.ffn.lin2", dim, hidden)
        norm(f"{layer}.output_layer_norm")
    linear("pre_classifier", dim, dim)
    linear("classifier", labels, dim)
    return tensors


def draw(tensors: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Fill the tensors, seed 0: normal about 1 for norm gains, about 0 for all else.

    The deviation is `STANDARD_DEVIATION` at a width of 768 and grows as the width shrinks, so that a layer changes what
    passes through it equally at every width: else a narrow model tells texts apart by less than int8 rounds off.
    Biases and norms are drawn too, not left at 0 and 1: an engine that drops one must be caught.
    """
    random = np.random.RandomState(0)
    (width,) = tensors["distilbert.embeddings.LayerNorm.weight"]
    deviation = np.float32(STANDARD_DEVIATION * (768 / width) ** 0.5)
    weights = {}
    for name, shape in tensors.items():
        values = random.standard_normal(shape).astype(np.float32) * deviation
        gain = name.endswith(("LayerNorm.weight", "layer_norm.weight"))
        weights[name] = values + np.float32(1) if gain else values
    return weights


def write_safetensors(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Write float32 arrays as one safetensors file: u64 header length, JSON header, raw little-endian tensors."""
    header: dict[str, dict] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in weights.items():
        start, end = end, end + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in weights.values():
            file.write(np.ascontiguousarray(values, "<f4").data)


def words() -> list[str]:
    """Return the vocabulary in id order: BERT's special tokens at BERT's ids, ASCII, then words and pieces."""
    tokens = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [f"[unused{i}]" for i in range(99, 994)]
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    tokens += characters + [f"##{character}" for character in characters if character.isalnum()]
    syllables = [onset + vowel for onset in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    for parts in itertools.product(syllables, repeat=2):
        tokens += ["".join(parts), "##" + "".join(parts)]
    for parts in itertools.product(syllables, repeat=3):
        tokens.append("".join(parts))
        if len(tokens) == VOCABULARY:
            return tokens
    raise AssertionError(f"{len(tokens)} generated words; the vocabulary needs {VOCABULARY}")


def write_tokenizer(folder: Path) -> None:
    """Write vocab.txt, tokenizer.json and its two companions: bert-base-uncased's pipeline over generated words."""
    vocabulary = words()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def special(token: str, kind: int) -> dict:
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def sequence(name: str, kind: int) -> dict:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": token, **flags} for token, number in SPECIAL_IDS.items()],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {
                token: {"id": token, "ids": [SPECIAL_IDS[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {token: number for number, token in enumerate(vocabulary)},
        },
    }
    settings = {
        **SPECIAL,
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "model_max_length": POSITIONS,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "DistilBertTokenizer",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL, indent=2), encoding="utf-8")


def write(folder: Path, size: str = "base") -> Path:
    """Write a whole checkpoint into `folder`, created if need be; the same size always gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = config(size)
    (folder / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    write_tokenizer(folder)
    write_safetensors(folder / "model.safetensors", draw(shapes(facts)))
    return folder


def main() -> None:
    """Write one checkpoint where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="base")
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.size))


if __name__ == "__main__":
    main()
