"""Where Llama's relatives keep their tensors, as transformers 4.57 saves them: one row per architecture. Knows no graph.

What they have in common: RMSNorm, rotary positions, a gate in the feed-forward layers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgenlp.errors import CheckpointError

from ..checkpoint import Checkpoint
from .decoder_checkpoints import read
from .decoder_names import Names, Row
from .parts import Decoder

__all__ = ["ROWS", "read_decoder"]


def read_decoder(checkpoint: Checkpoint, kind: str) -> Decoder:
    """The decoder of a checkpoint of one of `ROWS`; of gemma3 the part that reads text.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    part = checkpoint.config.get("text_config") or {} if kind == "gemma3" else checkpoint.config
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: text_config is {part!r}, expected an object")
    return read(checkpoint, ROWS[kind], part)


def _always(names: Names, number: int) -> int | None:
    """Every layer has the window, if there is one."""
    return names.number("sliding_window") if names.get("sliding_window") is not None else None


def _by_type(names: Names, number: int) -> int | None:
    """Layers of the type sliding_attention have the window; `layer_types`, or what the config classes make of older keys."""
    types = names.get("layer_types")
    if types is None:
        return names.number("sliding_window") if _slides(names, number) else None
    if not isinstance(types, list) or number >= len(types) or str(types[number]) not in _TYPES:
        raise CheckpointError(f"config.json: layer_types is {types!r}, expected {' or '.join(_TYPES)} for each layer")
    return names.number("sliding_window") if types[number] == "sliding_attention" else None


def _slides(names: Names, number: int) -> bool:
    """Whether a layer of a config without layer_types has a window."""
    if names.get("sliding_window_pattern") is not None:  # Gemma: every n-th layer sees everything
        return (number + 1) % names.number("sliding_window_pattern") != 0
    used = names.get("use_sliding_window") and names.get("sliding_window") is not None
    return bool(used) and number >= (names.get("max_window_layers") or 0)


def _gemma_scale(names: Names, number: int, size: int) -> float:
    """Gemma2Attention.scaling."""
    return float(names.real("query_pre_attn_scalar") ** -0.5)


def _granite_scale(names: Names, number: int, size: int) -> float:
    return names.real("attention_multiplier")


def _gemma_words(names: Names) -> float:
    """sqrt(hidden size) in float32 (GemmaModel.forward, Gemma3TextScaledWordEmbedding)."""
    return float(np.float32(names.number("hidden_size") ** 0.5))


def _granite_words(names: Names) -> float:
    return names.real("embedding_multiplier")


def _phi3_heads(names: Names, heads: int) -> tuple[int, int]:
    """All queries, all keys, all values."""
    return 1, names.number("num_key_value_heads" if names.get("num_key_value_heads") else "num_attention_heads")


_TYPES = ("full_attention", "sliding_attention")
_LLAMA: Mapping[str, Any] = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
}
_QWEN: Mapping[str, Any] = {
    **_LLAMA,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "layer_types": None,
}
_GEMMA: Mapping[str, Any] = {
    **_LLAMA,
    "hidden_size": 3072,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_GEMMA2: Mapping[str, Any] = {
    **_GEMMA,
    "hidden_size": 2304,
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "layer_types": None,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}
_GEMMA3: Mapping[str, Any] = {
    # Gemma3Attention of 4.57 reads attn_logit_softcapping and does nothing with it
    **{key: value for key, value in _GEMMA2.items() if key != "attn_logit_softcapping"},
    "max_position_embeddings": 131072,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window_pattern": 6,
    "final_logit_softcapping": None,
    "use_bidirectional_attention": False,
}

_ROW = Row(_LLAMA, biased="attention_bias", output_biased="attention_bias", ffn_biased="mlp_bias")
_GEMMA_ROW = replace(_ROW, defaults=_GEMMA, ffn_biased=False, offset=1.0, words_scale=_gemma_words)
_GEMMA2_ROW = replace(
    _GEMMA_ROW,
    defaults=_GEMMA2,
    # its class has no sliding_window_pattern: every second layer slides, whatever the config says
    keys={"sliding_window_pattern": ()},
    norms={
        "attention_norm": "input_layernorm",
        "attention_out_norm": "post_attention_layernorm",
        "feed_forward_norm": "pre_feedforward_layernorm",
        "feed_forward_out_norm": "post_feedforward_layernorm",
    },
    activation="hidden_activation",
    scale=_gemma_scale,
    sliding=_by_type,
)
_GEMMA3_ROW = replace(
    _GEMMA2_ROW,
    defaults=_GEMMA3,
    keys={},
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    local_theta="rope_local_base_freq",
    refused={"use_bidirectional_attention": True},
)

ROWS: Mapping[str, Row] = {
    "gemma": _GEMMA_ROW,
    "gemma2": _GEMMA2_ROW,
    "gemma3": replace(
        _GEMMA3_ROW,
        # as 4.57 saves it, as older versions did, and the text part alone
        places=(("model.language_model.", ""), ("language_model.model.", "language_model."), ("model.", ""), ("", "")),
    ),
    "gemma3_text": _GEMMA3_ROW,
    "granite": replace(
        _ROW,
        defaults={
            **_LLAMA,
            "embedding_multiplier": 1.0,
            "logits_scaling": 1.0,
            "residual_multiplier": 1.0,
            "attention_multiplier": 1.0,
        },
        scale=_granite_scale,
        words_scale=_granite_words,
    ),
    "llama": _ROW,
    "mistral": replace(
        _ROW,
        defaults={**_LLAMA, "max_position_embeddings": 4096 * 32, "sliding_window": 4096},
        biased=False,
        output_biased=False,
        ffn_biased=False,
        sliding=_always,
    ),
    "olmo2": replace(
        _ROW,
        defaults={**_LLAMA, "rms_norm_eps": 1e-5},
        ffn_biased=False,
        norms={
            "attention_out_norm": "post_attention_layernorm",
            "feed_forward_out_norm": "post_feedforward_layernorm",
        },
        query_norm="self_attn.q_norm",
        key_norm="self_attn.k_norm",
        norm_all=True,
    ),
    "phi3": Row(
        {
            **_LLAMA,
            "hidden_size": 3072,
            "num_key_value_heads": None,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "partial_rotary_factor": 1.0,
            "sliding_window": None,
        },
        packed="self_attn.qkv_proj",
        packing=_phi3_heads,
        gate_up="mlp.gate_up_proj",
        turning="partial_rotary_factor",
        sliding=_always,
    ),
    "qwen2": replace(_ROW, defaults=_QWEN, biased=True, output_biased=False, ffn_biased=False, sliding=_by_type),
    "qwen3": replace(
        _ROW,
        defaults={**_QWEN, "head_dim": 128},
        ffn_biased=False,
        query_norm="self_attn.q_norm",
        key_norm="self_attn.k_norm",
        sliding=_by_type,
    ),
}
