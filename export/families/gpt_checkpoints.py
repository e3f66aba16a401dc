"""Where decoders from GPT to Phi keep their tensors, as transformers 4.57 saves them: one row per architecture. Knows no graph.

What they have in common: LayerNorm, biases, no gate in the feed-forward layers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .decoder_checkpoints import read
from .decoder_names import Names, Row
from .parts import Decoder

__all__ = ["ROWS", "read_crossing", "read_decoder"]


def read_decoder(checkpoint: Checkpoint, kind: str) -> Decoder:
    """The decoder of a checkpoint of one of `ROWS`.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    return read(checkpoint, ROWS[kind])


def read_crossing(checkpoint: Checkpoint, config: Mapping[str, Any], prefix: str) -> Decoder:
    """A GPT-2 that attends to an encoder (GPT2Config.add_cross_attention), a part of a checkpoint.

    Args:
        checkpoint: Where the tensors are.
        config: The decoder's part of config.json.
        prefix: Of the decoder's tensors.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    row = replace(
        ROWS["gpt2"],
        places=tuple((prefix + body, prefix) for body, _ in _TRANSFORMER),
        cross_query="crossattention.q_attn",
        cross_packed="crossattention.c_attn",
        cross_output="crossattention.c_proj",
        cross_norm="ln_cross_attn",
    )
    return read(checkpoint, row, config)


def _thirds(names: Names, heads: int) -> tuple[int, int]:
    """All queries, all keys, all values."""
    return 1, _third(heads)


def _by_head(names: Names, heads: int) -> tuple[int, int]:
    """Each head's query, key and value."""
    return _third(heads), 1


def _third(heads: int) -> int:
    if heads % 3:
        raise CheckpointError(
            f"query, key and value together have {heads} heads, which are not three times as many; check the weights"
        )
    return heads // 3


def _falcon_heads(names: Names, heads: int) -> tuple[int, int]:
    """FalconAttention._split_heads: groups of queries with their key and value; one of them, or one for each head."""
    if names.get("new_decoder_architecture"):
        return names.number("num_kv_heads" if names.get("num_kv_heads") else "num_attention_heads"), 1
    return (1, 1) if names.get("multi_query") else _by_head(names, heads)


def _gpt2_scale(names: Names, number: int, size: int) -> float:
    """modeling_gpt2.eager_attention_forward (the SDPA path of 4.57 leaves both options out)."""
    scale = size**-0.5 if names.get("scale_attn_weights") else 1.0
    return float(scale / (number + 1) if names.get("scale_attn_by_inverse_layer_idx") else scale)


def _unscaled(names: Names, number: int, size: int) -> float:
    return 1.0


def _gpt_neo_window(names: Names, number: int) -> int | None:
    """GPTNeoConfig.attention_layers: of which type each layer is."""
    kinds = names.get("attention_layers")
    if kinds is None:
        kinds = _expanded(names.get("attention_types"))
    if not isinstance(kinds, list) or number >= len(kinds) or kinds[number] not in ("global", "local"):
        raise CheckpointError(
            f"config.json: attention_layers is {kinds!r}, expected global or local for each of the layers"
        )
    return names.number("window_size") if kinds[number] == "local" else None


def _expanded(types: Any) -> list[Any]:
    """[[["global", "local"], 12]] written out (GPTNeoConfig.expand_attention_types_params)."""
    try:
        return [kind for pattern, times in types for _ in range(min(times, 10_000)) for kind in pattern]
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"config.json: attention_types is {types!r}, expected pairs of a pattern and its number of times"
        ) from error


def _opt(row: Row, names: Names) -> Row:
    """OPTDecoder: norms before or after, with or without weights, words of another width."""
    before = bool(names.get("do_layer_norm_before"))
    places = ("attention_norm", "feed_forward_norm") if before else ("attention_sum_norm", "feed_forward_sum_norm")
    narrow = names.get("word_embed_proj_dim")
    projected = narrow is not None and narrow != names.number("hidden_size")
    return replace(
        row,
        norms=dict(zip(places, ("self_attn_layer_norm", "final_layer_norm"), strict=True)),
        norm="final_layer_norm" if before and not names.get("_remove_final_layer_norm") else None,
        affine=bool(names.get("layer_norm_elementwise_affine")),
        project_in="project_in" if projected else None,
        project_out="project_out" if projected else None,
    )


def _falcon(row: Row, names: Names) -> Row:
    """FalconDecoderLayer: sequential with two norms, parallel with one, or parallel with two."""
    grouped, parallel = bool(names.get("new_decoder_architecture")), bool(names.get("parallel_attn"))
    count = names.get("num_ln_in_parallel_attn")
    two = count == 2 or (count is None and grouped)
    if (grouped and not parallel) or (parallel and two and not grouped):
        raise UnsupportedError(
            f"a Falcon with new_decoder_architecture {grouped}, parallel_attn {parallel} and num_ln_in_parallel_attn {count}"
            " is not supported; transformers cannot run it either"
        )
    if not parallel:
        norms = {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"}
    elif two:
        norms = {"attention_norm": "ln_attn", "feed_forward_norm": "ln_mlp"}
    else:
        norms = dict.fromkeys(("attention_norm", "feed_forward_norm"), "input_layernorm")
    alibi = bool(names.get("alibi"))
    return replace(row, norms=norms, alibi="rounded" if alibi else False, turning=None if alibi else "")


def _phi(row: Row, names: Names) -> Row:
    """PhiAttention.qk_layernorm."""
    if not names.get("qk_layernorm"):
        return row
    return replace(row, query_norm="self_attn.q_layernorm", key_norm="self_attn.k_layernorm")


_TRANSFORMER = (("transformer.", ""), ("", ""))
_PRE = {"attention_norm": "ln_1", "feed_forward_norm": "ln_2"}
_GPT_KEYS = {
    "hidden_size": ("hidden_size", "n_embd"),
    "num_attention_heads": ("num_attention_heads", "n_head"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
}
_GPT: Mapping[str, Any] = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
}
_GPT2 = Row(
    {
        **_GPT,
        "max_position_embeddings": 1024,
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    keys=_GPT_KEYS,
    places=_TRANSFORMER,
    words="wte.weight",
    positions="wpe.weight",
    norm="ln_f",
    layer="h.{}.",
    norms=_PRE,
    packed="attn.c_attn",
    packing=_thirds,
    output="attn.c_proj",
    up="mlp.c_fc",
    down="mlp.c_proj",
    gate=None,
    transposed=True,
    biased=True,
    output_biased=True,
    ffn_biased=True,
    rms=False,
    eps="layer_norm_epsilon",
    activation="activation_function",
    turning=None,
    scale=_gpt2_scale,
)
_BLOOM = Row(
    {
        "hidden_size": 64,
        "num_attention_heads": 8,
        "num_hidden_layers": 2,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "apply_residual_connection_post_layernorm": False,
        # The config class has no limit; this is what the models saw in training
        "seq_length": 2048,
    },
    keys={
        "hidden_size": ("n_embed", "hidden_size"),
        "num_attention_heads": ("num_attention_heads", "n_head"),
        "num_hidden_layers": ("num_hidden_layers", "n_layer"),
    },
    places=_TRANSFORMER,
    words="word_embeddings.weight",
    embedding_norm="word_embeddings_layernorm",
    norm="ln_f",
    layer="h.{}.",
    packed="self_attention.query_key_value",
    packing=_by_head,
    output="self_attention.dense",
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
    gate=None,
    biased=True,
    output_biased=True,
    ffn_biased=True,
    rms=False,
    eps="layer_norm_epsilon",
    activation=None,
    window="seq_length",
    turning=None,
    alibi=True,
    refused={"apply_residual_connection_post_layernorm": True},
)

ROWS: Mapping[str, Row] = {
    "bloom": _BLOOM,
    "falcon": replace(
        _BLOOM,
        defaults={
            "hidden_size": 4544,
            "num_attention_heads": 71,
            "num_hidden_layers": 32,
            "num_kv_heads": None,
            "num_ln_in_parallel_attn": None,
            "layer_norm_epsilon": 1e-5,
            "alibi": False,
            "new_decoder_architecture": False,
            "multi_query": True,
            "parallel_attn": True,
            "bias": False,
            "max_position_embeddings": 2048,
            "rope_theta": 10000.0,
            "activation": "gelu",
            "tie_word_embeddings": True,
        },
        keys={"hidden_size": ("n_embed", "hidden_size")},
        embedding_norm=None,
        packing=_falcon_heads,
        biased="bias",
        output_biased="bias",
        ffn_biased="bias",
        activation="activation",
        window="max_position_embeddings",
        turning="",
        alibi=False,
        parallel="parallel_attn",
        refused={},
        vary=_falcon,
    ),
    "gpt2": _GPT2,
    "gpt_neo": replace(
        _GPT2,
        defaults={
            "hidden_size": 2048,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "max_position_embeddings": 2048,
            "activation_function": "gelu_new",
            "attention_layers": None,
            "attention_types": [[["global", "local"], 12]],
            "window_size": 256,
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        keys={
            "num_attention_heads": ("num_attention_heads", "num_heads"),
            "num_hidden_layers": ("num_hidden_layers", "num_layers"),
        },
        packed=None,
        packing=None,
        query="attn.attention.q_proj",
        key="attn.attention.k_proj",
        value="attn.attention.v_proj",
        output="attn.attention.out_proj",
        transposed=False,
        biased=False,
        scale=_unscaled,
        sliding=_gpt_neo_window,
    ),
    "gpt_neox": replace(
        _BLOOM,
        defaults={
            "hidden_size": 6144,
            "num_attention_heads": 64,
            "num_hidden_layers": 44,
            "hidden_act": "gelu",
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "use_parallel_residual": True,
            "attention_bias": True,
        },
        keys={},
        places=(("gpt_neox.", ""), ("", "")),
        words="embed_in.weight",
        embedding_norm=None,
        norm="final_layer_norm",
        head="embed_out",
        layer="layers.{}.",
        packed="attention.query_key_value",
        output="attention.dense",
        biased="attention_bias",
        output_biased="attention_bias",
        eps="layer_norm_eps",
        activation="hidden_act",
        window="max_position_embeddings",
        turning="rotary_pct",
        theta="rotary_emb_base",
        alibi=False,
        parallel="use_parallel_residual",
        refused={},
    ),
    "openai-gpt": replace(
        _GPT2,
        defaults={**_GPT, "max_position_embeddings": 512, "afn": "gelu"},
        words="tokens_embed.weight",
        positions="positions_embed.weight",
        norm=None,
        norms={"attention_sum_norm": "ln_1", "feed_forward_sum_norm": "ln_2"},
        activation="afn",
        # modeling_openai.ACT_FNS, where gelu is the tanh approximation
        activations={"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"},
        scale=Row.scale,
    ),
    "opt": Row(
        {
            "hidden_size": 768,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "max_position_embeddings": 2048,
            "do_layer_norm_before": True,
            "_remove_final_layer_norm": False,
            "word_embed_proj_dim": None,
            "activation_function": "relu",
            "enable_bias": True,
            "layer_norm_elementwise_affine": True,
            "tie_word_embeddings": True,
        },
        places=(("model.decoder.", ""), ("decoder.", ""), ("", "")),
        positions="embed_positions.weight",
        first_position=2,
        output="self_attn.out_proj",
        up="fc1",
        down="fc2",
        gate=None,
        biased="enable_bias",
        output_biased="enable_bias",
        ffn_biased="enable_bias",
        rms=False,
        eps=1e-5,
        activation="activation_function",
        turning=None,
        vary=_opt,
    ),
    "phi": Row(
        {
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_hidden_layers": 24,
            "head_dim": None,
            "hidden_act": "gelu_new",
            "max_position_embeddings": 2048,
            "layer_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": False,
        },
        norm="final_layernorm",
        norms=dict.fromkeys(("attention_norm", "feed_forward_norm"), "input_layernorm"),
        output="self_attn.dense",
        up="mlp.fc1",
        down="mlp.fc2",
        gate=None,
        biased=True,
        output_biased=True,
        ffn_biased=True,
        head_biased=True,
        rms=False,
        eps="layer_norm_eps",
        turning="partial_rotary_factor",
        parallel=True,
        vary=_phi,
    ),
}
