"""Writes random-weight encoders of newer kinds in Hugging Face layout, from numpy alone. Knows nothing of engines.

`ENCODERS` holds the shapes of three published models, and one small model of each kind. As in `checkpoints.py` nothing was trained:
they time like trained ones and say nothing of quality. The word table is BERT's 30,522 words long in all of them; how long it is
costs space and no time.

    python bench/encoder_checkpoints.py /tmp/modernbert --size modernbert-base
"""

import argparse
import json
from pathlib import Path

import numpy as np
from checkpoints import SPECIAL, SPECIAL_IDS, STANDARD_DEVIATION, VOCABULARY, write_safetensors, write_tokenizer

# config.json of microsoft/deberta-v3-small, answerdotai/ModernBERT-base and allenai/longformer-base-4096, as far as it shapes the
# graph. The ids of special tokens are those of the tokenizer that is written here, BERT's.
_DEBERTA = {"model_type": "deberta-v2", "architectures": ["DebertaV2ForSequenceClassification"], "hidden_act": "gelu"}
_DEBERTA |= {"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True}
_DEBERTA |= {"pos_att_type": "p2c|c2p", "position_biased_input": False, "max_relative_positions": -1}
_DEBERTA |= {"layer_norm_eps": 1e-7, "max_position_embeddings": 512, "type_vocab_size": 0, "pooler_hidden_act": "gelu"}
_MODERN = {"model_type": "modernbert", "architectures": ["ModernBertForSequenceClassification"]}
_MODERN |= {"hidden_activation": "gelu", "classifier_activation": "gelu", "classifier_pooling": "cls"}
_MODERN |= {"attention_bias": False, "classifier_bias": False, "mlp_bias": False, "norm_bias": False, "norm_eps": 1e-5}
_MODERN |= {"local_attention": 128, "global_attn_every_n_layers": 3, "global_rope_theta": 160_000.0}
_MODERN |= {"local_rope_theta": 10_000.0, "max_position_embeddings": 8192, "reference_compile": False}
_LONG = {"model_type": "longformer", "architectures": ["LongformerForSequenceClassification"], "hidden_act": "gelu"}
_LONG |= {"attention_window": 512, "max_position_embeddings": 4098, "type_vocab_size": 1, "layer_norm_eps": 1e-5}


def _shape(width: int, layers: int, heads: int, hidden: int) -> dict:
    """Return the keys that give an encoder its shape."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": hidden,
    }


ENCODERS = {
    "deberta-v3-small": _DEBERTA | _shape(768, 6, 12, 3072) | {"pooler_hidden_size": 768},
    "modernbert-base": _MODERN | _shape(768, 22, 12, 1152),
    "longformer-base": _LONG | _shape(768, 12, 12, 3072),
    "deberta-tiny": _DEBERTA | _shape(64, 2, 2, 256) | {"pooler_hidden_size": 64},
    "modernbert-tiny": _MODERN | _shape(64, 2, 2, 96),
    "longformer-tiny": _LONG | _shape(64, 2, 2, 256) | {"attention_window": 32},
}


def config(size: str) -> dict:
    """Return the config.json of a name in `ENCODERS`."""
    roles = {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "bos": "[CLS]", "eos": "[SEP]"}
    return {
        **ENCODERS[size],
        **{f"{role}_token_id": SPECIAL_IDS[token] for role, token in roles.items()},
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
        "initializer_range": STANDARD_DEVIATION,
        "torch_dtype": "float32",
        "vocab_size": VOCABULARY,
    }


def shapes(facts: dict) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape; a linear's weight is [out, in], as torch stores it."""
    width, hidden, labels = facts["hidden_size"], facts["intermediate_size"], len(facts["id2label"])
    tensors: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = (outputs, inputs)
        if bias:
            tensors[f"{name}.bias"] = (outputs,)

    def norm(name: str, *, bias: bool = True) -> None:
        tensors[f"{name}.weight"] = (width,)
        if bias:
            tensors[f"{name}.bias"] = (width,)

    if facts["model_type"] == "modernbert":
        tensors["model.embeddings.tok_embeddings.weight"] = (facts["vocab_size"], width)
        norm("model.embeddings.norm", bias=False)
        for number in range(facts["num_hidden_layers"]):
            layer = f"model.layers.{number}"
            if number:  # the first layer's is the embedding's
                norm(f"{layer}.attn_norm", bias=False)
            linear(f"{layer}.attn.Wqkv", 3 * width, width, bias=False)
            linear(f"{layer}.attn.Wo", width, width, bias=False)
            norm(f"{layer}.mlp_norm", bias=False)
            linear(f"{layer}.mlp.Wi", 2 * hidden, width, bias=False)
            linear(f"{layer}.mlp.Wo", width, hidden, bias=False)
        norm("model.final_norm", bias=False)
        linear("head.dense", width, width, bias=False)
        norm("head.norm", bias=False)
        linear("classifier", labels, width)
        return tensors

    long = facts["model_type"] == "longformer"
    body = "longformer" if long else "deberta"
    tensors[f"{body}.embeddings.word_embeddings.weight"] = (facts["vocab_size"], width)
    if long:
        tensors[f"{body}.embeddings.position_embeddings.weight"] = (facts["max_position_embeddings"], width)
        tensors[f"{body}.embeddings.token_type_embeddings.weight"] = (facts["type_vocab_size"], width)
    norm(f"{body}.embeddings.LayerNorm")
    names = ("query", "key", "value", "query_global", "key_global", "value_global")
    projections = names if long else ("query_proj", "key_proj", "value_proj")
    for number in range(facts["num_hidden_layers"]):
        layer = f"{body}.encoder.layer.{number}"
        for projection in projections:
            linear(f"{layer}.attention.self.{projection}", width, width)
        linear(f"{layer}.attention.output.dense", width, width)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", hidden, width)
        linear(f"{layer}.output.dense", width, hidden)
        norm(f"{layer}.output.LayerNorm")
    if long:
        linear("classifier.dense", width, width)
        linear("classifier.out_proj", labels, width)
        return tensors
    tensors["deberta.encoder.rel_embeddings.weight"] = (2 * facts["position_buckets"], width)
    norm("deberta.encoder.LayerNorm")
    linear("pooler.dense", width, width)
    linear("classifier", labels, width)
    return tensors


def draw(facts: dict) -> dict[str, np.ndarray]:
    """Fill the tensors, seed 0: normal about 1 for norm gains (the vectors that are no biases), about 0 for all else.

    As in `checkpoints.draw`, the deviation grows as the width shrinks, so that a layer changes what passes through it equally at
    every width.
    """
    random = np.random.default_rng(0)
    deviation = np.float32(STANDARD_DEVIATION * (768 / facts["hidden_size"]) ** 0.5)
    weights = {}
    for name, shape in shapes(facts).items():
        weights[name] = random.standard_normal(shape, np.float32) * deviation
        if len(shape) == 1 and name.endswith(".weight"):
            weights[name] += np.float32(1)
    return weights


def write(folder: Path, size: str) -> Path:
    """Write a whole checkpoint into `folder`, created if need be; the same name always gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = config(size)
    (folder / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    write_tokenizer(folder)
    settings = {
        **SPECIAL,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": facts["max_position_embeddings"] - 2 * (facts["model_type"] == "longformer"),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    write_safetensors(folder / "model.safetensors", draw(facts))
    return folder


def main() -> None:
    """Write one checkpoint where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=list(ENCODERS), default="modernbert-base")
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.size))


if __name__ == "__main__":
    main()
