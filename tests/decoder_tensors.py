"""Names and shapes of the tensors of decoders, as transformers 4.57.6 saves them: knows no values, no files.

Every size is read from the config, so that a change of the config changes the tensors with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoint_tensors import Tensor

__all__ = [
    "Cuts",
    "Json",
    "LlamaKin",
    "around_norm",
    "bloom_around",
    "bloom_layer",
    "falcon_layer",
    "gpt2_around",
    "gpt2_layer",
    "gpt_around",
    "gpt_neo_around",
    "gpt_neo_layer",
    "gpt_neox_layer",
    "number_of",
    "opt_around",
    "opt_layer",
    "phi_layer",
]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Cuts:
    """What was cut out of one layer: heads by number, and all but the first `width` units of the feed-forward part."""

    heads: tuple[int, ...] = ()
    width: int | None = None


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


def gpt2_around(config: Json) -> list[Tensor]:
    width = int(config["n_embd"])
    return [Tensor("wpe.weight", (int(config["n_positions"]), width), "matrix"), *_norm("ln_f", width)]


def gpt_around(config: Json) -> list[Tensor]:
    return [Tensor("positions_embed.weight", (int(config["n_positions"]), int(config["n_embd"])), "matrix")]


def gpt2_layer(config: Json, cuts: Cuts) -> list[Tensor]:
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


def gpt_neo_around(config: Json) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [Tensor("wpe.weight", (int(config["max_position_embeddings"]), width), "matrix"), *_norm("ln_f", width)]


def gpt_neo_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width = int(config["hidden_size"])
    inner = int(config.get("intermediate_size") or 4 * width)
    tensors = [*_norm("ln_1", width), *_norm("ln_2", width)]
    for name in ("q_proj", "k_proj", "v_proj"):
        tensors += _dense(f"attn.attention.{name}", width, width, bias=False)
    tensors += _dense("attn.attention.out_proj", width, width)
    tensors += _dense("mlp.c_fc", inner, width, rows_kept=_units(cuts))
    return tensors + _narrow("mlp.c_proj", width, inner, _units(cuts))


# GPT-NeoX, BLOOM, Falcon: one tensor holds queries, keys and values


def around_norm(name: str) -> Callable[[Json], list[Tensor]]:
    return lambda config: _norm(name, int(config["hidden_size"]))


def gpt_neox_layer(config: Json, cuts: Cuts) -> list[Tensor]:
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


def bloom_around(config: Json) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [*_norm("word_embeddings_layernorm", width), *_norm("ln_f", width)]


def bloom_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width = int(config["hidden_size"])
    return [
        *_norm("input_layernorm", width),
        *_norm("post_attention_layernorm", width),
        *_dense("self_attention.query_key_value", 3 * width, width),
        *_dense("self_attention.dense", width, width),
        *_dense("mlp.dense_h_to_4h", 4 * width, width, rows_kept=_units(cuts)),
        *_narrow("mlp.dense_4h_to_h", width, 4 * width, _units(cuts)),
    ]


def falcon_layer(config: Json, cuts: Cuts) -> list[Tensor]:
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


def opt_around(config: Json) -> list[Tensor]:
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


def opt_layer(config: Json, cuts: Cuts) -> list[Tensor]:
    width, inner, bias = int(config["hidden_size"]), int(config["ffn_dim"]), bool(config.get("enable_bias", True))
    tensors = _opt_norm(config, "self_attn_layer_norm") + _opt_norm(config, "final_layer_norm")
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        tensors += _dense(f"self_attn.{name}", width, width, bias)
    tensors += _dense("fc1", inner, width, bias, _units(cuts))
    return tensors + _narrow("fc2", width, inner, _units(cuts), bias)


def phi_layer(config: Json, cuts: Cuts) -> list[Tensor]:
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
class LlamaKin:
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
