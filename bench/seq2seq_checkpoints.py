"""Writes random-weight encoder-decoders in Hugging Face layout, from numpy alone. Knows nothing of engines.

`SEQ2SEQ` holds three shapes of published models, and one small model of each kind. As in `checkpoints.py` nothing was trained:
they time like trained ones and say nothing of quality. An end of the text is left to the caller, who bars it.

    python bench/seq2seq_checkpoints.py /tmp/marian --size marian-74m
"""

import argparse
import json
from pathlib import Path

import numpy as np
from checkpoints import STANDARD_DEVIATION, byte_pairs, write_safetensors


def _bart(width: int, layers: int, heads: int, hidden: int) -> dict:
    """Return the keys that give a BART-type model its shape; encoder and decoder are alike."""
    return {
        "d_model": width,
        **{f"{side}_layers": layers for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": heads for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": hidden for side in ("encoder", "decoder")},
    }


def _t5(width: int, layers: int, heads: int, hidden: int) -> dict:
    """Return the keys that give a T5 its shape; its heads are of 64."""
    return {
        "d_model": width,
        "d_kv": 64,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "num_heads": heads,
        "d_ff": hidden,
    }


# config.json of Helsinki-NLP/opus-mt-en-de (58,101 tokens), google-t5/t5-small and facebook/bart-base, as far as it shapes the
# graph. No forced tokens, no default of generation: a call says all of it.
_MARIAN = {"model_type": "marian", "architectures": ["MarianMTModel"], "activation_function": "swish"}
_MARIAN |= {"max_position_embeddings": 512, "scale_embedding": True, "static_position_embeddings": True}
_T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "feed_forward_proj": "relu"}
_T5 |= {"relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-6, "dropout_rate": 0.0, "n_positions": 512}
_BART = {"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "activation_function": "gelu"}
_BART |= {
    "max_position_embeddings": 1024,
    "scale_embedding": False,
    "normalize_before": False,
    "normalize_embedding": True,
}
SEQ2SEQ = {
    "marian-74m": _MARIAN | _bart(512, 6, 8, 2048) | {"vocab_size": 58_101},
    "t5-small": _T5 | _t5(512, 6, 8, 2048) | {"vocab_size": 32_128},
    "bart-base": _BART | _bart(768, 6, 12, 3072) | {"vocab_size": 50_265},
    "marian-tiny": _MARIAN | _bart(256, 2, 4, 512) | {"vocab_size": 1025},
    "t5-tiny": _T5 | _t5(256, 2, 4, 512) | {"vocab_size": 1024},
    "bart-tiny": _BART | _bart(256, 2, 4, 512) | {"vocab_size": 1024},
}


def roles(facts: dict) -> dict[str, tuple[str, int]]:
    """Return the special tokens and their ids, where the published models have them."""
    last = facts["vocab_size"] - 1
    return {
        "marian": {"eos": ("</s>", 0), "unk": ("<unk>", 1), "pad": ("<pad>", last)},
        "t5": {"pad": ("<pad>", 0), "eos": ("</s>", 1), "unk": ("<unk>", 2)},
        "bart": {
            "bos": ("<s>", 0),
            "pad": ("<pad>", 1),
            "eos": ("</s>", 2),
            "unk": ("<unk>", 3),
            "mask": ("<mask>", last),
        },
    }[facts["model_type"]]


def config(size: str) -> dict:
    """Return the config.json of a name in `SEQ2SEQ`."""
    facts = SEQ2SEQ[size]
    ids = {role: number for role, (_, number) in roles(facts).items()}
    start = ids["eos"] if facts["model_type"] == "bart" else ids["pad"]
    return {
        **facts,
        **{f"{role}_token_id": ids[role] for role in ("bos", "eos", "pad") if role in ids},
        "decoder_start_token_id": start,
        **({} if facts["model_type"] == "t5" else {"forced_eos_token_id": None}),  # else transformers' own default
        "is_encoder_decoder": True,
        "init_std": STANDARD_DEVIATION,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def t5_shapes(facts: dict) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape of a T5."""
    width, inner, hidden = facts["d_model"], facts["num_heads"] * facts["d_kv"], facts["d_ff"]
    tensors: dict[str, tuple[int, ...]] = {"shared.weight": (facts["vocab_size"], width)}

    def attention(name: str) -> None:
        for projection in "qkv":
            tensors[f"{name}.{projection}.weight"] = (inner, width)
        tensors[f"{name}.o.weight"] = (width, inner)

    for side, layers in (("encoder", facts["num_layers"]), ("decoder", facts["num_decoder_layers"])):
        kinds = ("SelfAttention", "EncDecAttention") if side == "decoder" else ("SelfAttention",)
        for number in range(layers):
            block = f"{side}.block.{number}.layer"
            for place, kind in enumerate(kinds):
                attention(f"{block}.{place}.{kind}")
            tensors[f"{block}.{len(kinds)}.DenseReluDense.wi.weight"] = (hidden, width)
            tensors[f"{block}.{len(kinds)}.DenseReluDense.wo.weight"] = (width, hidden)
            for place in range(len(kinds) + 1):
                tensors[f"{block}.{place}.layer_norm.weight"] = (width,)
        table = (facts["relative_attention_num_buckets"], facts["num_heads"])
        tensors[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = table
        tensors[f"{side}.final_layer_norm.weight"] = (width,)
    return tensors


def bart_shapes(facts: dict) -> dict[str, tuple[int, ...]]:
    """Return every tensor's name and shape of a BART or a Marian; Marian computes its positions and does not store them."""
    width, learned = facts["d_model"], facts["model_type"] == "bart"
    tensors: dict[str, tuple[int, ...]] = {"model.shared.weight": (facts["vocab_size"], width)}

    def pair(name: str, *shape: int) -> None:
        tensors[f"{name}.weight"] = shape
        tensors[f"{name}.bias"] = shape[:1]

    for side in ("encoder", "decoder"):
        if learned:
            tensors[f"model.{side}.embed_positions.weight"] = (facts["max_position_embeddings"] + 2, width)
            pair(f"model.{side}.layernorm_embedding", width)
        attentions = ("self_attn", "encoder_attn") if side == "decoder" else ("self_attn",)
        for number in range(facts[f"{side}_layers"]):
            layer = f"model.{side}.layers.{number}"
            for attention in attentions:
                for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    pair(f"{layer}.{attention}.{projection}", width, width)
                pair(f"{layer}.{attention}_layer_norm", width)
            pair(f"{layer}.fc1", facts[f"{side}_ffn_dim"], width)
            pair(f"{layer}.fc2", width, facts[f"{side}_ffn_dim"])
            pair(f"{layer}.final_layer_norm", width)
    tensors["final_logits_bias"] = (1, facts["vocab_size"])
    return tensors


def draw(facts: dict) -> dict[str, np.ndarray]:
    """Fill the tensors, seed 0: normal about 1 for norm gains, about 0 for all else.

    The head is the word table and would vote for the token just read, so that every text repeated one token whatever an engine
    gets wrong. Hence the signs of the decoder's last gains are drawn, too, which balances that vote, and the word table is large
    enough (T5's has a deviation of 1, as in `T5PreTrainedModel._init_weights`) for a text to depend on its last token.
    T5 has no scale on its scores; its queries are as much smaller, as there.
    Marian's pad, which starts the text, is a row of zeros, as in the published models: an engine may leave that row out.
    """
    random = np.random.default_rng(0)
    t5 = facts["model_type"] == "t5"
    deviation = STANDARD_DEVIATION * (768 / facts["d_model"]) ** 0.5
    weights = {}
    for name, shape in (t5_shapes if t5 else bart_shapes)(facts).items():
        own = deviation
        if name.endswith("shared.weight"):
            own = 1.0 if t5 else 2 * deviation
        elif name.endswith(".q.weight"):
            own = deviation * facts["d_kv"] ** -0.5
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(own)
        if len(shape) == 1 and name.endswith(".weight"):
            weights[name] += np.float32(1)
    last = "decoder.final_layer_norm" if t5 else f"model.decoder.layers.{facts['decoder_layers'] - 1}.final_layer_norm"
    weights[f"{last}.weight"] *= random.choice(np.array([-1, 1], np.float32), facts["d_model"])
    if facts["model_type"] == "marian":
        weights["model.shared.weight"][-1] = 0
        weights["final_logits_bias"][0, -1] = 0
    return weights


def write_tokenizer(folder: Path, facts: dict) -> None:
    """Write tokenizer.json and its companions: a byte-level BPE over generated merges, special tokens at their own ids."""
    special = roles(facts)
    taken = {number: token for token, number in special.values()}
    free = [number for number in range(facts["vocab_size"]) if number not in taken]
    tokens, merges = byte_pairs(len(free))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    end, number = special["eos"]
    sequences = {name: {"Sequence": {"id": name, "type_id": 0}} for name in "AB"}
    ending = {"SpecialToken": {"id": end, "type_id": 0}}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": place, "content": taken[place], **flags} for place in sorted(taken)],
        "normalizer": None,
        "pre_tokenizer": bytes_,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [sequences["A"], ending],
            "pair": [sequences["A"], sequences["B"], ending],
            "special_tokens": {end: {"id": end, "ids": [number], "tokens": [end]}},
        },
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {**dict(zip(tokens, free, strict=True)), **{token: place for place, token in taken.items()}},
            "merges": merges,
        },
    }
    named = {f"{role}_token": token for role, (token, _) in special.items()}
    settings = {
        **named,
        "added_tokens_decoder": {str(place): {"content": token, **flags} for place, token in taken.items()},
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts.get("max_position_embeddings", facts.get("n_positions")),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(named, indent=2), encoding="utf-8")


def write(folder: Path, size: str) -> Path:
    """Write a whole checkpoint into `folder`, created if need be; the same name always gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = config(size)
    (folder / "config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    write_tokenizer(folder, facts)
    write_safetensors(folder / "model.safetensors", draw(facts))
    return folder


def main() -> None:
    """Write one checkpoint where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SEQ2SEQ, required=True)
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.size))


if __name__ == "__main__":
    main()
