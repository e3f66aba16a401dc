"""Writes random-weight checkpoints in Hugging Face layout, from numpy alone. Knows nothing of engines.

There are DistilBERT with a sequence-classification head, in several sizes (`SIZES`), and three decoders under the names
of the published models whose shape they have (`DECODERS`). Nothing here was trained: random weights time like trained
ones: a dense matrix product takes as long whatever it multiplies. What they cannot show is an answer's quality, so an
engine's distance from the reference on such a checkpoint says that it computes the same function, and no more.

    python bench/checkpoints.py /tmp/distilbert --size base
    python bench/checkpoints.py /tmp/gpt2 --size gpt2
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
# config.json of openai-community/gpt2, HuggingFaceTB/SmolLM2-135M and Qwen/Qwen2-0.5B, as far as it shapes the graph, and
# one small model of each kind. The end-of-text token is the last id everywhere.
_GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new"}
_GPT2 |= {"layer_norm_epsilon": 1e-5, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
_LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "attention_bias": False}
_LLAMA |= {"rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "max_position_embeddings": 8192, "mlp_bias": False}
_QWEN2 = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "use_sliding_window": False,
}
_QWEN2 |= {"rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "max_position_embeddings": 32_768}


def _rotary(hidden: int, layers: int, heads: int, groups: int, intermediate: int, vocabulary: int) -> dict:
    """Return the keys that give a Llama-type model its shape; `groups` are the key and value heads."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }


DECODERS = {
    "gpt2": {**_GPT2, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50_257},
    "smollm2-135m": _LLAMA | _rotary(576, 30, 9, 3, 1536, 49_152),
    "qwen2-0.5b": _QWEN2 | _rotary(896, 24, 14, 2, 4864, 151_936),
    "gpt2-tiny": {**_GPT2, "n_embd": 256, "n_layer": 2, "n_head": 4, "n_positions": 1024, "vocab_size": 1024},
    "llama-tiny": _LLAMA | _rotary(256, 2, 4, 2, 512, 1024),
    "qwen2-tiny": _QWEN2 | _rotary(256, 2, 4, 2, 512, 1024),
}
END_OF_TEXT = "<|endoftext|>"
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
    """Return the config.json of a name in `SIZES` (under DistilBertConfig's keys) or in `DECODERS`."""
    if size in DECODERS:
        facts = DECODERS[size]
        end = {"bos_token_id": facts["vocab_size"] - 1, "eos_token_id": facts["vocab_size"] - 1}
        return {
            **facts,
            **end,
            "initializer_range": STANDARD_DEVIATION,
            "tie_word_embeddings": True,
            "torch_dtype": "float32",
        }
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


def decoder_shapes(facts: dict) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape of a decoder, whose head is the embedding table.

    GPT-2's matrices are transformers' Conv1D, [in, out]; the others' are [out, in].
    """
    tensors: dict[str, tuple[int, ...]] = {}

    def matrix(name: str, shape: tuple[int, int], bias: int = 0) -> None:
        tensors[f"{name}.weight"] = shape
        if bias:
            tensors[f"{name}.bias"] = (bias,)

    if facts["model_type"] == "gpt2":
        width = facts["n_embd"]
        matrix("transformer.wte", (facts["vocab_size"], width))
        matrix("transformer.wpe", (facts["n_positions"], width))
        products = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
        for number in range(facts["n_layer"]):
            for name, (inputs, outputs) in products.items():
                matrix(f"transformer.h.{number}.{name}", (inputs * width, outputs * width), outputs * width)
        for norm in (*(f"h.{number}.ln_{which}" for number in range(facts["n_layer"]) for which in (1, 2)), "ln_f"):
            tensors[f"transformer.{norm}.weight"] = tensors[f"transformer.{norm}.bias"] = (width,)
        return tensors

    width, hidden, heads = facts["hidden_size"], facts["intermediate_size"], facts["num_attention_heads"]
    few = facts["num_key_value_heads"] * width // heads
    biased = facts["model_type"] == "qwen2"  # its query, key and value projections have biases that no config key names
    matrix("model.embed_tokens", (facts["vocab_size"], width))
    for number in range(facts["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for name, outputs in (("q_proj", width), ("k_proj", few), ("v_proj", few)):
            matrix(f"{layer}.self_attn.{name}", (outputs, width), outputs * biased)
        matrix(f"{layer}.self_attn.o_proj", (width, width))
        matrix(f"{layer}.mlp.gate_proj", (hidden, width))
        matrix(f"{layer}.mlp.up_proj", (hidden, width))
        matrix(f"{layer}.mlp.down_proj", (width, hidden))
        tensors[f"{layer}.input_layernorm.weight"] = (width,)
        tensors[f"{layer}.post_attention_layernorm.weight"] = (width,)
    tensors["model.norm.weight"] = (width,)
    return tensors


def draw_decoder(tensors: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Fill the tensors, seed 0: normal about 1 for norm gains (the vectors that are no biases), about 0 for all else.

    As in `draw`, the deviation grows as the width shrinks. The layers' matrices get 1.4 times as much and the tables half:
    with a head that is the embedding table, what is left of a token's own embedding after the layers votes for the same
    token again, and greedy decoding would repeat one token whatever an engine gets wrong. More than that, and thirty
    layers blow the rounding to 4 bits up until the logits are unrelated (error / spread 0.99 at twice, 0.68 at 1.4).
    """
    random = np.random.default_rng(0)
    width = next(iter(tensors.values()))[1]  # of the embedding table
    deviation = np.float32(STANDARD_DEVIATION * (768 / width) ** 0.5)
    weights = {}
    for name, shape in tensors.items():
        table = name.endswith(("wte.weight", "wpe.weight", "embed_tokens.weight"))
        factor = 0.5 if table else 1.4 if len(shape) == 2 else 1
        weights[name] = random.standard_normal(shape, np.float32) * (deviation * np.float32(factor))
        if len(shape) == 1 and name.endswith(".weight"):
            weights[name] += np.float32(1)
    return weights


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


def byte_pairs(count: int) -> tuple[list[str], list[str]]:
    """Return `count` tokens of a byte-level BPE in id order, the 256 bytes first, and the merges that make the others.

    Bytes are written as GPT-2 writes them: printable Latin-1 as itself, the rest from U+0100 on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [code for code in range(256) if code not in printable]
    single = [chr(code) for code in printable] + [chr(256 + place) for place in range(len(others))]
    pairs = itertools.product(single, single)
    triples = ((first + second, third) for first, second, third in itertools.product(single, single, single))
    merges = list(itertools.islice(itertools.chain(pairs, triples), count - len(single)))
    return [*single, *("".join(merge) for merge in merges)], [" ".join(merge) for merge in merges]


def write_byte_tokenizer(folder: Path, facts: dict) -> None:
    """Write tokenizer.json and its companions: GPT-2's byte-level pipeline over generated merges, as many ids as rows."""
    last = facts["vocab_size"] - 1
    tokens, merges = byte_pairs(last)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": last, "content": END_OF_TEXT, **flags}],
        "normalizer": None,
        "pre_tokenizer": bytes_,
        "post_processor": {**bytes_, "trim_offsets": False},
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {**{token: number for number, token in enumerate(tokens)}, END_OF_TEXT: last},
            "merges": merges,
        },
    }
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT)
    settings = {
        **special,
        "added_tokens_decoder": {str(last): {"content": END_OF_TEXT, **flags}},
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts.get("n_positions", facts.get("max_position_embeddings")),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")


def write(folder: Path, size: str = "base") -> Path:
    """Write a whole checkpoint into `folder`, created if need be; the same name always gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = config(size)
    (folder / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    if size in DECODERS:
        write_byte_tokenizer(folder, facts)
        write_safetensors(folder / "model.safetensors", draw_decoder(decoder_shapes(facts)))
        return folder
    write_tokenizer(folder)
    write_safetensors(folder / "model.safetensors", draw(shapes(facts)))
    return folder


def main() -> None:
    """Write one checkpoint where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=[*SIZES, *DECODERS], default="base")
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.size))


if __name__ == "__main__":
    main()
