"""Readers of decoders' checkpoints: matrices, positions, configs that do not fit. Whether answers are right, the parity tests say."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_checkpoints import DECODERS, write_decoder
from edgenlp_export.checkpoint import open_checkpoint
from edgenlp_export.families import DECODERS as READERS
from edgenlp_export.families.alibi import biases, slopes
from edgenlp_export.families.matrices import matrix
from edgenlp_export.families.parts import Alibi, Decoder, Dense, SelfAttention
from edgenlp_export.families.rotary import rotary, tables
from edgenlp_export.reference import forward_decoder

from edgenlp.errors import CheckpointError, ExportError, UnsupportedError


def read(folder: Path) -> Decoder:
    with open_checkpoint(folder) as checkpoint:
        kind = checkpoint.config["model_type"]
        return READERS[kind](checkpoint, kind)


def written(folder: Path, architecture: str, **config: Any) -> Path:
    return write_decoder(folder, architecture=architecture, seed=0, config=config)


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    """Give the tensors of a folder other names."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    table = json.dumps({change(name): value for name, value in header.items()}).encode()
    table += b" " * (-len(table) % 8)
    file.write_bytes(len(table).to_bytes(8, "little") + table + content[8 + size :])


def configured(folder: Path, **changes: Any) -> None:
    """Change config.json and leave the weights as they are."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), "utf-8")


def test_every_architecture_has_a_checkpoint_in_the_tests() -> None:
    assert set(READERS) == {*DECODERS, "gemma3"}


def test_packed_matrices_fall_into_query_key_and_value(tmp_path: Path) -> None:
    with open_checkpoint(written(tmp_path, "gpt_neox")) as checkpoint:
        part = READERS["gpt_neox"](checkpoint, "gpt_neox").blocks[0].attention
        whole, bias = checkpoint.tensor(part.query.weight), checkpoint.tensor(str(part.query.bias))
        shape = (part.heads, 3, part.head_size)
        found = [matrix(checkpoint, dense) for dense in (part.query, part.key, part.value)]
    assert [key.removeprefix(part.query.weight) for key, _, _ in found] == ["[0:1]", "[1:2]", "[2:3]"]
    for place, (_, rows, values) in enumerate(found):
        assert np.array_equal(rows.reshape(part.heads, part.head_size, -1), whole.reshape(*shape, -1)[:, place])
        assert values is not None
        assert np.array_equal(values.reshape(part.heads, part.head_size), bias.reshape(shape)[:, place])


def test_transposed_matrix_is_a_view(tmp_path: Path) -> None:
    with open_checkpoint(written(tmp_path, "gpt2")) as checkpoint:
        part = READERS["gpt2"](checkpoint, "gpt2").blocks[0].attention
        whole = checkpoint.tensor(part.key.weight)
        _, rows, _ = matrix(checkpoint, part.key)
        width = whole.shape[0]
        assert np.array_equal(rows, whole[:, width : 2 * width].T)
        assert np.shares_memory(rows, whole)


def test_matrix_without_a_slab_has_the_tensors_name(tmp_path: Path) -> None:
    with open_checkpoint(written(tmp_path, "llama")) as checkpoint:
        key, _, bias = matrix(checkpoint, Dense("model.layers.0.mlp.up_proj.weight", None))
    assert (key, bias) == ("model.layers.0.mlp.up_proj.weight", None)


def test_frequencies_are_powers_of_the_base() -> None:
    turning = rotary({}, size=8, base=10000.0, window=32)
    assert turning.window == 32
    assert np.allclose(turning.rotary.frequencies, [1, 0.1, 0.01, 0.001])
    cosines, sines = tables(turning.rotary, 32)
    angles = np.arange(32)[:, None] * np.asarray([1, 0.1, 0.01, 0.001])
    assert np.allclose(cosines, np.cos(angles), atol=1e-6)
    assert np.allclose(sines, np.sin(angles), atol=1e-6)


def test_llama3_slows_long_waves_only() -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    plain = np.asarray(rotary({}, size=32, base=10000.0, window=64).rotary.frequencies)
    scaled = np.asarray(rotary({"rope_scaling": scaling}, size=32, base=10000.0, window=512).rotary.frequencies)
    waves = 2 * math.pi / plain
    assert np.array_equal(scaled[waves < 16], plain[waves < 16])
    assert np.array_equal(scaled[waves > 64], plain[waves > 64] / np.float32(8))
    between = (waves > 16) & (waves < 64)
    assert between.any()
    assert np.all((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 8))


def test_dynamic_scaling_leaves_the_original_window_alone() -> None:
    scaling = {"rope_type": "dynamic", "factor": 4.0}
    turning = rotary({"rope_scaling": scaling}, size=16, base=10000.0, window=16)
    assert turning.window == 64
    grown, plain = (tables(each, 64) for each in (turning.rotary, rotary({}, size=16, base=10000.0, window=16).rotary))
    assert np.array_equal(grown[0][:16], plain[0][:16])
    base = 10000 * (4 * 64 / 16 - 3) ** (16 / 14)  # of a text of 64 tokens
    assert np.allclose(grown[1][63], np.sin(63 * base ** (-np.arange(8) / 8)), atol=1e-5)


def test_yarn_grows_cosines() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    turning = rotary({"rope_scaling": scaling}, size=16, base=10000.0, window=128)
    assert turning.rotary.factor == 0.1 * math.log(4) + 1
    assert np.allclose(tables(turning.rotary, 1)[0], turning.rotary.factor)


def test_longrope_ends_with_the_original_window() -> None:
    scaling = {"type": "su", "short_factor": [1.0, 2.0], "long_factor": [4.0, 4.0]}
    turning = rotary({"rope_scaling": scaling}, size=4, base=10000.0, window=128, original=32)
    assert turning.window == 32
    assert np.allclose(turning.rotary.frequencies, [1, 0.01 / 2])
    assert turning.rotary.factor == math.sqrt(1 + math.log(4) / math.log(32))


def test_slopes_of_powers_of_two_and_of_others() -> None:
    assert slopes(8) == tuple(2.0**-power for power in range(1, 9))
    assert np.allclose(slopes(6), [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])


def test_falcon_rounds_biases_to_bfloat16() -> None:
    dense = Dense("w", None)
    part = SelfAttention(dense, dense, dense, dense, 1, 1, 16, 0.25, alibi=Alibi((0.25 * 0.7,), rounded=True))
    found = biases(part, 300)[0] * 4
    assert found[1] == 0.69921875  # the nearest of 8 bits
    assert np.all(found.view(np.uint32) & 0xFFFF == 0)
    assert np.allclose(found, 0.7 * np.arange(300), rtol=0.01)


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        ("falcon", "num_kv_heads", 2),  # counts only in the new architecture
        ("mistral", "rope_scaling", {"rope_type": "default"}),
        ("llama", "query_pre_attn_scalar", 1),
        ("llama", "logits_scaling", 4.0),
        ("gemma3_text", "attn_logit_softcapping", 1.0),
        ("qwen2", "sliding_window", 4),
    ],
)
def test_keys_that_do_not_count_change_nothing(tmp_path: Path, architecture: str, key: str, value: Any) -> None:
    folder = written(tmp_path, architecture)
    before = read(folder)
    configured(folder, **{key: value})
    assert read(folder) == before


def test_text_part_of_gemma3_is_gemma3_text(tmp_path: Path) -> None:
    folder = written(tmp_path, "gemma3_text")
    texts = [[5, 6, 7, 8, 9, 10]]
    with open_checkpoint(folder) as checkpoint:
        expected = forward_decoder(checkpoint, READERS["gemma3_text"](checkpoint, "gemma3_text"), texts)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": config}), "utf-8")
    renamed(folder, lambda name: name.replace("model.", "language_model.model.", 1))
    with open_checkpoint(folder) as checkpoint:
        found = forward_decoder(checkpoint, READERS["gemma3"](checkpoint, "gemma3"), texts)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("architecture", "changes", "error", "words"),
    [
        ("llama", {"hidden_size": 128}, CheckpointError, "config.json"),
        ("llama", {"num_hidden_layers": 0}, CheckpointError, "num_hidden_layers is 0"),
        ("llama", {"head_dim": 12}, UnsupportedError, "multiple of 8"),
        ("llama", {"head_dim": 40}, CheckpointError, "no whole heads of 40"),
        ("llama", {"attention_bias": True}, CheckpointError, "q_proj.bias"),
        ("llama", {"hidden_act": "mish"}, UnsupportedError, "mish"),
        ("llama", {"rope_scaling": {"type": "mrope"}}, UnsupportedError, "mrope"),
        ("llama", {"rope_scaling": {"type": "linear"}}, CheckpointError, "factor is None"),
        ("llama", {"rope_scaling": [1]}, CheckpointError, "expected an object"),
        ("llama", {"rope_theta": "many"}, CheckpointError, "rope_theta is 'many'"),
        ("llama", {"partial_rotary_factor": 0.5}, UnsupportedError, "partial_rotary_factor"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, UnsupportedError, "quantized"),
        ("gpt2", {"n_positions": 7}, CheckpointError, "wpe.weight"),
        ("gpt_neo", {"attention_types": "local"}, CheckpointError, "attention_types"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, UnsupportedError, "post_layernorm"),
        ("falcon", {"new_decoder_architecture": True, "parallel_attn": False}, UnsupportedError, "parallel_attn"),
        ("qwen2", {"layer_types": ["sliding_attention"]}, CheckpointError, "sliding_window|layer_types"),
        ("gemma3_text", {"use_bidirectional_attention": True}, UnsupportedError, "use_bidirectional_attention"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    tmp_path: Path, architecture: str, changes: dict[str, Any], error: type[ExportError], words: str
) -> None:
    folder = written(tmp_path, architecture)
    configured(folder, **changes)
    with pytest.raises(error, match=words):
        read(folder)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama")
    renamed(folder, lambda name: name.replace("layers.1.self_attn.k_proj", "layers.1.self_attn.k"))
    with pytest.raises(CheckpointError, match=r"model\.layers\.1\.self_attn\.k_proj\.weight"):
        read(folder)


def test_untied_head_must_be_there(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path, architecture="llama", seed=0, head="untied")
    assert read(folder).head is not None
    renamed(folder, lambda name: name.replace("lm_head", "head"))
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        read(folder)
    configured(folder, tie_word_embeddings=True)
    assert read(folder).head is None
