"""The decoders of transformers 4.57.6, one row each: where their tensors are, and the config of a small one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from checkpoint_tensors import Tensor
from decoder_tensors import (
    Cuts,
    Json,
    LlamaKin,
    around_norm,
    bloom_around,
    bloom_layer,
    falcon_layer,
    gpt2_around,
    gpt2_layer,
    gpt_around,
    gpt_neo_around,
    gpt_neo_layer,
    gpt_neox_layer,
    opt_around,
    opt_layer,
    phi_layer,
)

__all__ = ["DECODERS", "Architecture"]


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


_SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
_GATED = {**_SIZES, "intermediate_size": 96, "num_key_value_heads": 2, "rms_norm_eps": 1e-3, "rope_theta": 2000.0}
_FOUR_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def _kin(name: str, kin: LlamaKin, tokenizer: str = "LlamaTokenizer", gain: float = 1.5, **config: Any) -> Architecture:
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
        gpt2_layer,
        gpt2_around,
        {**_GPT2_CONFIG, "n_inner": None, "activation_function": "gelu_new"},
        gain=2.0,
        buffers={"attn.bias": _SQUARE, "attn.masked_bias": ()},
    ),
    "openai-gpt": Architecture(
        "OpenAIGPTLMHeadModel",
        "transformer.",
        "tokens_embed",
        "h.{}.",
        gpt2_layer,
        gpt_around,
        {**_GPT2_CONFIG, "afn": "gelu"},
        gain=3.0,
        buffers={"attn.bias": _SQUARE},
    ),
    "gpt_neo": Architecture(
        "GPTNeoForCausalLM",
        "transformer.",
        "wte",
        "h.{}.",
        gpt_neo_layer,
        gpt_neo_around,
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
        gpt_neox_layer,
        around_norm("final_layer_norm"),
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
        opt_layer,
        opt_around,
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
        bloom_layer,
        bloom_around,
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "layer_norm_epsilon": 1e-3},
        gain=2.5,
    ),
    "falcon": Architecture(
        "FalconForCausalLM",
        "transformer.",
        "word_embeddings",
        "h.{}.",
        falcon_layer,
        around_norm("ln_f"),
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
        phi_layer,
        around_norm("final_layernorm"),
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
    "llama": _kin("LlamaForCausalLM", LlamaKin()),
    "mistral": _kin("MistralForCausalLM", LlamaKin(), sliding_window=None),
    "qwen2": _kin("Qwen2ForCausalLM", LlamaKin(biased=True), "Qwen2Tokenizer"),
    "qwen3": _kin(
        "Qwen3ForCausalLM", LlamaKin(head_norms="each"), "Qwen2Tokenizer", head_dim=24, tie_word_embeddings=True
    ),
    "gemma": _kin(
        "GemmaForCausalLM",
        LlamaKin(less_one=True),
        "GemmaTokenizer",
        2.5,
        **{**_GEMMA, "num_key_value_heads": 1},
    ),
    "gemma2": _kin(
        "Gemma2ForCausalLM",
        LlamaKin(_FOUR_NORMS, less_one=True),
        "GemmaTokenizer",
        **{**_GEMMA, **_WINDOWED, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0},
    ),
    "gemma3_text": _kin(
        "Gemma3ForCausalLM",
        LlamaKin(_FOUR_NORMS, head_norms="each", less_one=True),
        "GemmaTokenizer",
        **{
            **_GEMMA,
            **_WINDOWED,
            "rope_local_base_freq": 300.0,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "phi3": _kin("Phi3ForCausalLM", LlamaKin(packed=True), original_max_position_embeddings=128),
    "granite": _kin(
        "GraniteForCausalLM",
        LlamaKin(),
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
        LlamaKin(("post_attention_layernorm", "post_feedforward_layernorm"), head_norms="all"),
        "GPT2Tokenizer",
        rope_theta=500000.0,
    ),
}
