"""What the decoders of transformers 4.57.6 call their tensors, and the config of a small one: knows no values, no files.

Names and shapes are those of `save_pretrained`. Every size is read from the config, so that a change of the config
changes the tensors with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from checkpoint_tensors import Tensor

__all__ = ["DECODERS", "Architecture", "Cuts", "number_of"]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Cuts:
    """What was cut out of one layer: heads by number, and all but the first `width` units of the feed-forward part."""

    heads: tuple[int, ...] = ()
    width: int | None = None


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: The class that writes text.
        base: Name of the base model inside it, with its dot.
        words: The word table, below the base.
        layers: Path of a layer below the base; `{}` takes its number.
        layer: From config and cuts to the tensors of one layer, below its path.
        around: From config to the other tensors below the base.
        config: The small default `config.json`, without vocabulary and special ids.
        tokenizer: The class of its tokenizer.
        head: The language modelling head, below nothing.
        head_bias: Whether the head has a bias.
        gain: Default gain of its matrices: where words are tied, the blocks have to add more than the words they read,
            or greedy text repeats one token.
        faint: Whether the word table is drawn with a deviation of 0.1 whatever the gain (Gemma scales it up).
        buffers: Name below the layer's path to the shape of what old versions stored beside the weights.
    """

    name: str
    base: str
    words: str
    layers: str
    layer: Callable[[Json, Cuts], list[Tensor]]
    around: Callable[[Json], list[Tensor]]
    config: Json
    tokenizer: str = "GPT2Tokenizer"
    head: str = "lm_head"
    head_bias: bool = False
    gain: float = 1.5
    faint: bool = False
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def number_of(config: Json, *names: str) -> int:
    """The first of these keys that the config has."""
    return next(int(config[name]) for name in names if config.get(name) is not None)


def _dense(
    name: str, rows: int, columns: int, bias: bool = True, rows_kept: Sequence[int] | None = None
) -> list[Tensor]:
    """A linear layer [rows, columns], of which the rows in `rows_kept` are stored."""
    keep = None if rows_kept is None else (0, tuple(rows_kept))
    weight = Tensor(f"{name}.weight", (rows, columns), "matrix", keep)
    return [weight, Tensor(f"{name}.bias", (rows,), "bias", keep)] if bias else [weight]


def _narrow(name: str, rows: int, columns: int, kept: Sequence[int] | None, bias: bool = True) -> list[Tensor]:
    """A linear layer [rows, columns], of which the columns in `kept` are stored."""
    weight = Tensor(f"{name}.weight", (rows, columns), "matrix", None if kept is None else (1, tuple(kept)))
    return [weight, Tensor(f"{name}.bias", (rows,), "bias")] if bias else [weight]


def _conv(name: str, rows: int, columns: int, keep: tuple[int, Sequence[int]] | None = None) -> list[Tensor]:
    """A Conv1D: inputs are rows; `keep` is of the weight, and of the bias where it is of columns."""
    cut = None if keep is None else (keep[0], tuple(keep[1]))
    bias_cut = (0, cut[1]) if cut is not None and cut[0] == 1 else None
    return [
        Tensor(f"{name}.weight", (rows, columns), "matrix", cut),
        Tensor(f"{name}.bias", (columns,), "bias", bias_cut),
    ]


def _norm(name: str, size: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (size,), "scale"), Tensor(f"{name}.bias", (size,), "bias")]


def _units(cuts: Cuts) -> list[int] | None:
    return None if cuts.width is None else list(range(cuts.width))


# GPT-2, GPT, GPT-Neo


def _gpt2_around(config: Json) -> list[Tensor]:
    width = int(config["n_embd"])
    return [Tensor("wpe.weight", (int(config["n_positions"]), width), "matrix"), *_norm("ln_f", width)]


def _gpt_around(config: Json) -> list[Tensor]:
    return [Tensor("positions_embed.weight", (int(config["n_positions"]), int(config["n_embd"])), "matrix")]


def _gpt2_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, heads = int(config["n_embd"]), int(config["n_head"])
    inner = int(config.get("n_inner") or 4 * width)
    size = width // heads
    kept = [head * size + unit for head in range(heads) if head not in cuts.heads for unit in range(size)]
    packed = [part * width + unit for part in range(3) for unit in kept]
    units = _units(cuts)
    return [
        *_norm("ln_1", width),
        *_conv("attn.c_attn", width, 3 * width, (1, packed) if cuts.heads else None),
        *_conv("attn.c_proj", width, width, (0, kept) if cuts.heads else None),
        *_norm("ln_2", width),
        *_conv("mlp.c_fc", width, inner, None if units is None else (1, units)),
        *_conv("mlp.c_proj", inner, width, None if units is None else (0, units)),
    ]


def _gpt_neo_around(config: Json) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [Tensor("wpe.weight", (int(config["max_position_embeddings"]), width), "matrix"), *_norm("ln_f", width)]


def _gpt_neo_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width = int(config["hidden_size"])
    inner = int(config.get("intermediate_size") or 4 * width)
    tensors = [*_norm("ln_1", width), *_norm("ln_2", width)]
    for name in ("q_proj", "k_proj", "v_proj"):
        tensors += _dense(f"attn.attention.{name}", width, width, bias=False)
    tensors += _dense("attn.attention.out_proj", width, width)
    tensors += _dense("mlp.c_fc", inner, width, rows_kept=_units(cuts))
    return tensors + _narrow("mlp.c_proj", width, inner, _units(cuts))


# GPT-NeoX, BLOOM, Falcon: one tensor holds queries, keys and values


def _around_norm(name: str) -> Callable[[Json], list[Tensor]]:
    return lambda config: _norm(name, int(config["hidden_size"]))


def _gpt_neox_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    bias = bool(config.get("attention_bias", True))
    return [
        *_norm("input_layernorm", width),
        *_norm("post_attention_layernorm", width),
        *_dense("attention.query_key_value", 3 * width, width, bias),
        *_dense("attention.dense", width, width, bias),
        *_dense("mlp.dense_h_to_4h", inner, width, rows_kept=_units(cuts)),
        *_narrow("mlp.dense_4h_to_h", width, inner, _units(cuts)),
    ]


def _bloom_around(config: Json) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [*_norm("word_embeddings_layernorm", width), *_norm("ln_f", width)]


def _bloom_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [
        *_norm("input_layernorm", width),
        *_norm("post_attention_layernorm", width),
        *_dense("self_attention.query_key_value", 3 * width, width),
        *_dense("self_attention.dense", width, width),
        *_dense("mlp.dense_h_to_4h", 4 * width, width, rows_kept=_units(cuts)),
        *_narrow("mlp.dense_4h_to_h", width, 4 * width, _units(cuts)),
    ]


def _falcon_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    inner = int(config.get("ffn_hidden_size") or 4 * width)
    size, bias, new = width // heads, bool(config["bias"]), bool(config["new_decoder_architecture"])
    shared = 1 if config["multi_query"] else heads
    keys = int(config.get("num_kv_heads") or heads) if new else shared
    tensors = [
        *_dense("self_attention.query_key_value", (heads + 2 * keys) * size, width, bias),
        *_dense("self_attention.dense", width, width, bias),
        *_dense("mlp.dense_h_to_4h", inner, width, bias, _units(cuts)),
        *_narrow("mlp.dense_4h_to_h", width, inner, _units(cuts), bias),
    ]
    if new and config.get("num_ln_in_parallel_attn") in (None, 2):
        return tensors + _norm("ln_attn", width) + _norm("ln_mlp", width)
    tensors += _norm("input_layernorm", width)
    return tensors if config["parallel_attn"] else tensors + _norm("post_attention_layernorm", width)


# OPT, Phi


def _opt_around(config: Json) -> list[Tensor]:
    width = int(config["hidden_size"])
    words = int(config.get("word_embed_proj_dim") or width)
    tensors = [Tensor("embed_positions.weight", (int(config["max_position_embeddings"]) + 2, width), "matrix")]
    if words != width:
        tensors += _dense("project_in", width, words, False) + _dense("project_out", words, width, False)
    if config["do_layer_norm_before"] and not config.get("_remove_final_layer_norm"):
        tensors += _opt_norm(config, "final_layer_norm")
    return tensors


def _opt_norm(config: Json, name: str) -> list[Tensor]:
    return _norm(name, int(config["hidden_size"])) if config.get("layer_norm_elementwise_affine", True) else []


def _opt_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, inner, bias = int(config["hidden_size"]), int(config["ffn_dim"]), bool(config.get("enable_bias", True))
    tensors = _opt_norm(config, "self_attn_layer_norm") + _opt_norm(config, "final_layer_norm")
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        tensors += _dense(f"self_attn.{name}", width, width, bias)
    tensors += _dense("fc1", inner, width, bias, _units(cuts))
    return tensors + _narrow("fc2", width, inner, _units(cuts), bias)


def _phi_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, inner, heads = (int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
    size = width // heads
    keys = int(config.get("num_key_value_heads") or heads) * size
    tensors = _norm("input_layernorm", width)
    for name, rows in (("q_proj", width), ("k_proj", keys), ("v_proj", keys), ("dense", width)):
        tensors += _dense(f"self_attn.{name}", rows, width)
    if config.get("qk_layernorm"):
        tensors += _norm("self_attn.q_layernorm", size) + _norm("self_attn.k_layernorm", size)
    tensors += _dense("mlp.fc1", inner, width, rows_kept=_units(cuts))
    return tensors + _narrow("mlp.fc2", width, inner, _units(cuts))


# Llama and its kin: RMS norms, gated feed-forward layers


@dataclass(frozen=True)
class _Kin:
    """How a kin of Llama differs from it.

    Attributes:
        norms: Names of a layer's norms.
        head_norms: "each" head, "all" heads together, or "" for no norms of queries and keys.
        packed: Whether one tensor holds queries, keys and values, and one the gate and the inner layer (Phi-3).
        biased: Whether queries, keys and values always have a bias (Qwen2).
        less_one: Whether the norms' weights are stored less 1 (Gemma).
    """

    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: str = ""
    packed: bool = False
    biased: bool = False
    less_one: bool = False

    def norm(self, name: str, size: int) -> Tensor:
        doubled = len(self.norms) == 4 and name.startswith("post")  # 1 is added: such blocks add twice as much
        return Tensor(f"{name}.weight", (size,), "bias" if self.less_one and not doubled else "scale")

    def around(self, config: Json) -> list[Tensor]:
        return [self.norm("norm", int(config["hidden_size"]))]

    def layer(self, config: Json, cuts: Cuts) -> list[Tensor]:
        width, inner, heads = (int(config[key]) for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
        size = int(config.get("head_dim") or width // heads)
        queries, keys = heads * size, int(config.get("num_key_value_heads") or heads) * size
        bias, ffn_bias = bool(config.get("attention_bias")), bool(config.get("mlp_bias"))
        tensors = [self.norm(name, width) for name in self.norms]
        if self.packed:
            units = list(range(inner if cuts.width is None else cuts.width))
            tensors += _dense("self_attn.qkv_proj", queries + 2 * keys, width, False)
            tensors += _dense("mlp.gate_up_proj", 2 * inner, width, False, units + [inner + unit for unit in units])
        else:
            for name, rows in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
                tensors += _dense(f"self_attn.{name}", rows, width, bias or self.biased)
            tensors += _dense("mlp.gate_proj", inner, width, ffn_bias, _units(cuts))
            tensors += _dense("mlp.up_proj", inner, width, ffn_bias, _units(cuts))
        tensors += _dense("self_attn.o_proj", width, queries, bias)
        tensors += _narrow("mlp.down_proj", width, inner, _units(cuts), ffn_bias)
        if self.head_norms:
            sizes = (size, size) if self.head_norms == "each" else (queries, keys)
            tensors += [self.norm("self_attn.q_norm", sizes[0]), self.norm("self_attn.k_norm", sizes[1])]
        return tensors


_SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
_GATED = {**_SIZES, "intermediate_size": 96, "num_key_value_heads": 2, "rms_norm_eps": 1e-3, "rope_theta": 2000.0}
_FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def _kin(name: str, kin: _Kin, tokenizer: str = "LlamaTokenizer", gain: float = 1.5, **config: Any) -> Architecture:
    values = {**_GATED, "hidden_act": "silu", "tie_word_embeddings": False, **config}
    layers = "layers.{}."
    inverse = {"self_attn.rotary_emb.inv_freq": (int(values.get("head_dim", 16)) // 2,)}
    return Architecture(
        name,
        "model.",
        "embed_tokens",
        layers,
        kin.layer,
        kin.around,
        values,
        tokenizer,
        gain=gain,
        faint=kin.less_one,
        buffers=inverse,
    )


_GEMMA = {"hidden_act": "gelu_pytorch_tanh", "head_dim": 24, "tie_word_embeddings": True}
_WINDOWED = {"hidden_activation": "gelu_pytorch_tanh", "sliding_window": 16, "query_pre_attn_scalar": 20}
_GPT2_CONFIG = {
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 128,
    "layer_norm_epsilon": 1e-3,
}
_SQUARE = (1, 1, 128, 128)

DECODERS: Mapping[str, Architecture] = {
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        "transformer.",
        "wte",
        "h.{}.",
        _gpt2_layer,
        _gpt2_around,
        {**_GPT2_CONFIG, "n_inner": None, "activation_function": "gelu_new"},
        gain=2.0,
        buffers={"attn.bias": _SQUARE, "attn.masked_bias": ()},
    ),
    "openai-gpt": Architecture(
        "OpenAIGPTLMHeadModel",
        "transformer.",
        "tokens_embed",
        "h.{}.",
        _gpt2_layer,
        _gpt_around,
        {**_GPT2_CONFIG, "afn": "gelu"},
        gain=3.0,
        buffers={"attn.bias": _SQUARE},
    ),
    "gpt_neo": Architecture(
        "GPTNeoForCausalLM",
        "transformer.",
        "wte",
        "h.{}.",
        _gpt_neo_layer,
        _gpt_neo_around,
        {
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "max_position_embeddings": 128,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-3,
        },
        buffers={"attn.attention.bias": _SQUARE, "attn.attention.masked_bias": ()},
    ),
    "gpt_neox": Architecture(
        "GPTNeoXForCausalLM",
        "gpt_neox.",
        "embed_in",
        "layers.{}.",
        _gpt_neox_layer,
        _around_norm("final_layer_norm"),
        {
            **_SIZES,
            "intermediate_size": 128,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-3,
            "rotary_pct": 0.25,
            "rotary_emb_base": 2000,
            "tie_word_embeddings": False,
            "use_parallel_residual": True,
        },
        head="embed_out",
        buffers={"attention.bias": _SQUARE, "attention.masked_bias": (), "attention.rotary_emb.inv_freq": (2,)},
    ),
    "opt": Architecture(
        "OPTForCausalLM",
        "model.decoder.",
        "embed_tokens",
        "layers.{}.",
        _opt_layer,
        _opt_around,
        {
            **_SIZES,
            "ffn_dim": 128,
            "activation_function": "relu",
            "do_layer_norm_before": True,
            "word_embed_proj_dim": 64,
        },
    ),
    "bloom": Architecture(
        "BloomForCausalLM",
        "transformer.",
        "word_embeddings",
        "h.{}.",
        _bloom_layer,
        _bloom_around,
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "layer_norm_epsilon": 1e-3},
        gain=2.5,
    ),
    "falcon": Architecture(
        "FalconForCausalLM",
        "transformer.",
        "word_embeddings",
        "h.{}.",
        _falcon_layer,
        _around_norm("ln_f"),
        {
            **_SIZES,
            "alibi": False,
            "bias": False,
            "layer_norm_epsilon": 1e-3,
            "multi_query": True,
            "new_decoder_architecture": False,
            "parallel_attn": True,
            "rope_theta": 2000.0,
        },
    ),
    "phi": Architecture(
        "PhiForCausalLM",
        "model.",
        "embed_tokens",
        "layers.{}.",
        _phi_layer,
        _around_norm("final_layernorm"),
        {
            **_SIZES,
            "intermediate_size": 128,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-3,
            "num_key_value_heads": 4,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": False,
            "rope_theta": 2000.0,
            "tie_word_embeddings": False,
        },
        head_bias=True,
    ),
    "llama": _kin("LlamaForCausalLM", _Kin()),
    "mistral": _kin("MistralForCausalLM", _Kin(), sliding_window=None),
    "qwen2": _kin("Qwen2ForCausalLM", _Kin(biased=True), "Qwen2Tokenizer"),
    "qwen3": _kin("Qwen3ForCausalLM", _Kin(head_norms="each"), "Qwen2Tokenizer", head_dim=24, tie_word_embeddings=True),
    "gemma": _kin(
        "GemmaForCausalLM",
        _Kin(less_one=True),
        "GemmaTokenizer",
        2.5,
        **{**_GEMMA, "num_key_value_heads": 1},
    ),
    "gemma2": _kin(
        "Gemma2ForCausalLM",
        _Kin(_FOUR_NORMS, less_one=True),
        "GemmaTokenizer",
        **{**_GEMMA, **_WINDOWED, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0},
    ),
    "gemma3_text": _kin(
        "Gemma3ForCausalLM",
        _Kin(_FOUR_NORMS, head_norms="each", less_one=True),
        "GemmaTokenizer",
        **{
            **_GEMMA,
            **_WINDOWED,
            "rope_local_base_freq": 300.0,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": _kin("Phi3ForCausalLM", _Kin(packed=True), original_max_position_embeddings=128),
    "granite": _kin(
        "GraniteForCausalLM",
        _Kin(),
        "GPT2Tokenizer",
        2.0,
        attention_multiplier=0.2,
        embedding_multiplier=3.0,
        logits_scaling=0.8,
        residual_multiplier=0.7,
        tie_word_embeddings=True,
    ),
    "olmo2": _kin(
        "Olmo2ForCausalLM",
        _Kin(("post_attention_layernorm", "post_feedforward_layernorm"), head_norms="all"),
        "GPT2Tokenizer",
        rope_theta=500000.0,
    ),
}
