"""The recorded answers of transformers 4.57.6 for decoders: their checkpoints and inputs. Runs no model."""

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from decoder_checkpoints import DECODERS, VOCABULARY
from goldens import GOLDENS
from numpy.typing import NDArray

__all__ = [
    "MODELS",
    "NEW",
    "Golden",
    "case_of",
    "grows_with_the_text",
    "kept",
    "load_decoders",
    "prompts_of",
    "texts_of",
]

NEW = 64  # greedy tokens
_LENGTHS = (
    1,
    7,
    40,
    100,
)  # the last is longer than every sliding window, and than the original window of dynamic scaling
_PROMPTS = (5, 23)
_COLUMNS = 6  # kept of each row of logits
_SMALLEST = 5  # the first id that is no special token

Json = dict[str, Any]


def _case(architecture: str, **values: Any) -> Json:
    return {"architecture": architecture, **values}


def _config(architecture: str, **config: Any) -> Json:
    return _case(architecture, config=config)


_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LINEAR = {"rope_type": "linear", "factor": 4.0}
_DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}

MODELS: Mapping[str, Json] = {
    **{name: _case(name) for name in DECODERS},
    # positions
    "llama, linear": _config("llama", rope_scaling=_LINEAR),
    "llama, linear by its old name": _config("llama", rope_scaling={"type": "linear", "factor": 2.0}),
    "llama, dynamic": _config("llama", rope_scaling=_DYNAMIC, max_position_embeddings=32),
    "llama, yarn": _config("llama", rope_scaling=_YARN),
    "llama, yarn with all its keys": _config(
        "llama", rope_scaling={**_YARN, "attention_factor": 1.2, "beta_fast": 24.0, "beta_slow": 2.0}
    ),
    "llama, yarn of its own window": _config("llama", rope_scaling={"type": "yarn", "factor": 2.0}),
    "llama, llama3": _config("llama", rope_scaling=_LLAMA3, rope_theta=500000.0),
    "phi3, longrope": _config(
        "phi3",
        max_position_embeddings=512,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0, 1.05, 1.1, 1.3, 1.6, 2.0, 2.4, 3.0],
            "long_factor": [1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 16.0, 20.0],
        },
    ),
    "qwen2, yarn": _config("qwen2", rope_scaling=_YARN, rope_theta=500.0),
    "gpt_neox, linear": _config("gpt_neox", rope_scaling=_LINEAR),
    "phi, dynamic": _config("phi", rope_scaling=_DYNAMIC, max_position_embeddings=32),
    "falcon, linear": _config("falcon", rope_scaling=_LINEAR),
    "gemma3_text, linear": _config("gemma3_text", rope_scaling=_LINEAR),
    # heads of attention
    "llama, as many keys as queries": _config("llama", num_key_value_heads=4),
    "llama, one key": _config("llama", num_key_value_heads=1),
    "llama, heads of 8": _config("llama", num_attention_heads=8, num_key_value_heads=4),
    "llama, heads of 24": _config("llama", head_dim=24),
    "llama, biases": _config("llama", attention_bias=True, mlp_bias=True),
    "qwen3, biases": _config("qwen3", attention_bias=True),
    "granite, biases": _config("granite", attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
    "olmo2, one key": _config("olmo2", num_key_value_heads=1),
    "phi, one key, norms": _config("phi", num_key_value_heads=1, qk_layernorm=True),
    # heads of language
    "llama, tied": _case("llama", head="absent", config={"tie_word_embeddings": True}),
    "llama, tied and stored": _case("llama", head="copied", config={"tie_word_embeddings": True}),
    "gpt2, tied and stored": _case("gpt2", head="copied"),
    "gpt2, untied": _case("gpt2", head="untied"),
    "gemma2, untied": _case("gemma2", head="untied"),
    "qwen2, tied": _config("qwen2", tie_word_embeddings=True),
    "llama, more words than tokens": _config("llama", vocab_size=389),
    # windows
    "mistral, window": _config("mistral", sliding_window=16),
    "qwen2, window": _config("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1),
    "qwen2, window unused": _config("qwen2", use_sliding_window=False, sliding_window=16, max_window_layers=1),
    "qwen3, window": _config(
        "qwen3", use_sliding_window=True, sliding_window=9, layer_types=["sliding_attention", "full_attention"]
    ),
    "phi3, window": _config("phi3", sliding_window=16),
    "gemma2, three layers": _config("gemma2", num_hidden_layers=3),
    "gemma2, no caps": _config("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None),
    "gemma3_text, pattern": _config("gemma3_text", num_hidden_layers=3, sliding_window_pattern=3, layer_types=None),
    "gpt_neo, three layers": _config("gpt_neo", num_layers=3, attention_types=[[["local"], 2], [["global"], 1]]),
    # ways through a block
    "gpt_neox, sequential": _config("gpt_neox", use_parallel_residual=False, rotary_pct=1.0),
    "gpt_neox, no biases": _config("gpt_neox", attention_bias=False),
    "opt, as 350M": _config("opt", do_layer_norm_before=False, word_embed_proj_dim=32),
    "opt, bare": _config("opt", enable_bias=False, layer_norm_elementwise_affine=False),
    "opt, no last norm": _config("opt", _remove_final_layer_norm=True),
    "falcon, many keys": _config("falcon", multi_query=False),
    "falcon, new": _config("falcon", new_decoder_architecture=True, num_kv_heads=2, bias=True),
    "falcon, new, one norm": _config(
        "falcon", new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, ffn_hidden_size=96
    ),
    "falcon, as rw": _config("falcon", alibi=True, bias=True, multi_query=False, parallel_attn=False),
    "falcon, six heads with alibi": _config(
        "falcon", alibi=True, hidden_size=96, num_attention_heads=6, multi_query=False, parallel_attn=False
    ),
    "bloom, six heads": _config("bloom", hidden_size=96, n_head=6),
    "phi3, part of a head turns": _config("phi3", partial_rotary_factor=0.5),
    # functions and numbers
    "gpt2, relu": _config("gpt2", activation_function="relu"),
    "gpt2, scaled by layer": _config("gpt2", scale_attn_by_inverse_layer_idx=True),
    "gpt2, unscaled": _config("gpt2", scale_attn_weights=False),
    "gpt2, narrow inside": _config("gpt2", n_inner=96, n_embd=120, n_head=5),
    "openai-gpt, silu": _config("openai-gpt", afn="silu"),
    "opt, gelu": _config("opt", activation_function="gelu"),
    "gemma, gelu": _config("gemma", hidden_act="gelu"),
    "llama, wide norms": _config("llama", rms_norm_eps=0.1, hidden_act="gelu"),
    "phi, a quarter of a head turns": _config("phi", partial_rotary_factor=0.25),
    "gpt2, few keys": _case("gpt2", left_out=["activation_function", "layer_norm_epsilon", "n_inner"]),
    "openai-gpt, few keys": _case("openai-gpt", left_out=["afn", "layer_norm_epsilon"]),
    "gpt_neox, few keys": _case(
        "gpt_neox",
        left_out=["hidden_act", "layer_norm_eps", "rotary_pct", "rotary_emb_base", "use_parallel_residual"],
    ),
    "opt, few keys": _case("opt", left_out=["activation_function", "word_embed_proj_dim"]),
    "phi, few keys": _case(
        "phi",
        left_out=["hidden_act", "layer_norm_eps", "num_key_value_heads", "partial_rotary_factor", "rope_theta"],
    ),
    "llama, few keys": _case(
        "llama",
        head="untied",
        left_out=["hidden_act", "num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings"],
    ),
    "mistral, few keys": _case("mistral", left_out=["hidden_act", "rms_norm_eps", "rope_theta", "sliding_window"]),
    "gemma, few keys": _case("gemma", left_out=["hidden_act", "rms_norm_eps", "rope_theta", "tie_word_embeddings"]),
    "gemma2, few keys": _case(
        "gemma2",
        left_out=[
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "hidden_act",
            "hidden_activation",
            "layer_types",
            "sliding_window",
            "tie_word_embeddings",
        ],
    ),
    "granite, plain": _config(
        "granite", attention_multiplier=0.25, embedding_multiplier=1.0, logits_scaling=1.0, residual_multiplier=1.0
    ),
    # cut and stored
    "gpt2, pruned heads": _case("gpt2", pruned_heads={"0": [1], "1": [0, 3]}),
    "openai-gpt, pruned heads": _case("openai-gpt", pruned_heads={"1": [2]}),
    "gpt2, narrow layers": _case("gpt2", ffn_widths=[96, 200]),
    "llama, narrow layers": _case("llama", ffn_widths=[40, 72]),
    "phi3, narrow layers": _case("phi3", ffn_widths=[40, 72]),
    "opt, narrow layers": _case("opt", ffn_widths=[40, 72]),
    "gpt2, one layer": _config("gpt2", n_layer=1),
    "gpt2, fewer layers": _case("gpt2", stored_layers=[0, 1, 2]),
    "llama, fewer layers": _case("llama", stored_layers=[0, 1, 2]),
    "gpt2, missing layer": _case("gpt2", config={"n_layer": 3}, stored_layers=[0, 2]),
    "llama, missing layer": _case("llama", config={"num_hidden_layers": 3}, stored_layers=[0, 2]),
    "gpt2, no prefix": _case("gpt2", prefix=False, buffers=True),
    "gpt2, buffers": _case("gpt2", buffers=True),
    "gpt_neo, buffers": _case("gpt_neo", buffers=True),
    "gpt_neox, buffers": _case("gpt_neox", buffers=True),
    "llama, buffers": _case("llama", buffers=True),
    "bloom, no prefix": _case("bloom", prefix=False),
    "opt, no prefix": _case("opt", prefix=False),
    "llama, no prefix": _case("llama", prefix=False, config={"tie_word_embeddings": True}),
    "gpt2, float16": _case("gpt2", dtype="float16"),
    "llama, bfloat16": _case("llama", dtype="bfloat16"),
    "gemma2, bfloat16": _case("gemma2", dtype="bfloat16"),
    "llama, three files": _case("llama", shards=3),
    "bloom, two files": _case("bloom", shards=2, dtype="float16"),
}


class Golden(NamedTuple):
    """What transformers answered: `logits` as `kept` keeps them, `tokens` [prompts, NEW]."""

    logits: NDArray[np.float32]
    tokens: NDArray[np.int64]


def grows_with_the_text(name: str) -> bool:
    """Whether the frequencies depend on how much was read: then transformers reads token by token to give these answers."""
    scaling = MODELS[name].get("config", {}).get("rope_scaling") or {}
    return bool(scaling.get("rope_type") == "dynamic")


def _drawn(name: str, lengths: Sequence[int], salt: int) -> list[list[int]]:
    stream = np.random.RandomState([zlib.crc32(name.encode()), salt])
    return [[int(number) for number in stream.randint(_SMALLEST, VOCABULARY, length)] for length in lengths]


def texts_of(name: str) -> list[list[int]]:
    """The ids whose logits are kept."""
    return _drawn(name, _LENGTHS, 0)


def prompts_of(name: str) -> list[list[int]]:
    """The ids that greedy text begins with."""
    return _drawn(name, _PROMPTS, 1)


def kept(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A few columns of every row, others in each row: float32 [all rows, columns]."""
    rows = np.concatenate(logits).astype(np.float32)
    first = 37 * np.arange(len(rows))[:, None]
    return np.take_along_axis(rows, (first + 59 * np.arange(_COLUMNS)) % rows.shape[1], axis=1)


def _recorded() -> Json:
    read: Json = json.loads((GOLDENS / "decoders.json").read_text("utf-8"))
    return read


def case_of(name: str) -> Json:
    """The arguments of `write_decoder`; the seed is the recorder's, which looks for text without ties."""
    return {**MODELS[name], "seed": _recorded()["cases"][name]["seed"]}


def load_decoders() -> dict[str, Golden]:
    """Case to its recorded answers."""
    with np.load(GOLDENS / "decoders.npz") as arrays:
        return {
            name: Golden(arrays[f"{row['key']} logits"], arrays[f"{row['key']} tokens"].astype(np.int64))
            for name, row in _recorded()["cases"].items()
        }
