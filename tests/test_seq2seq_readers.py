"""Readers of encoder-decoders: what they find, what they leave, what they refuse. Whether answers are right, the parity tests say."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgenlp_export.checkpoint import Checkpoint, open_checkpoint
from edgenlp_export.families import bart_checkpoints, t5_checkpoints
from edgenlp_export.families.parts import Decoder, EncoderDecoder, SourceEncoder
from edgenlp_export.families.sinusoids import table
from seq2seq_checkpoints import SEQ2SEQ, write_seq2seq

from edgenlp.errors import CheckpointError, ExportError, UnsupportedError

ROWS = {**bart_checkpoints.ROWS, **t5_checkpoints.ROWS}
READ = list(SEQ2SEQ)


def read_open(checkpoint: Checkpoint) -> EncoderDecoder:
    kind = checkpoint.config["model_type"]
    return (bart_checkpoints if kind in bart_checkpoints.ROWS else t5_checkpoints).read(checkpoint, kind)


def read(folder: Path) -> EncoderDecoder:
    with open_checkpoint(folder) as checkpoint:
        return read_open(checkpoint)


def encoder_of(model: EncoderDecoder) -> SourceEncoder:
    assert isinstance(model.encoder, SourceEncoder)
    return model.encoder


def written(folder: Path, architecture: str, **options: Any) -> Path:
    return write_seq2seq(folder, architecture=architecture, seed=0, **options)


def configured(folder: Path, **changes: Any) -> None:
    """Change config.json and leave the weights as they are; a key with the value "absent" is taken out."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text("utf-8")), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}), "utf-8")


def opened_file(folder: Path) -> tuple[dict[str, Any], bytearray]:
    """Header and data of the weights."""
    content = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])


def saved(folder: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    """Give the tensors of a folder other names."""
    header, data = opened_file(folder)
    saved(folder, {change(name): value for name, value in header.items()}, data)


def filled(folder: Path, name: str, values: np.ndarray) -> None:
    """Give a tensor of float32 other values."""
    header, data = opened_file(folder)
    first, last = header[name]["data_offsets"]
    assert last - first == values.size * 4
    data[first:last] = values.astype("<f4").tobytes()
    saved(folder, header, data)


def strings(part: Any) -> Iterator[str]:
    """All strings in parts of parts."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from strings(item)
    elif is_dataclass(part):
        for field in fields(part):
            yield from strings(getattr(part, field.name))


def test_every_architecture_has_a_checkpoint_in_the_tests() -> None:
    assert set(ROWS) == {row.model_type for row in SEQ2SEQ.values()}


@pytest.mark.parametrize("architecture", READ)
def test_every_tensor_is_used(tmp_path: Path, architecture: str) -> None:
    with open_checkpoint(written(tmp_path, architecture)) as checkpoint:
        model = read_open(checkpoint)
        assert set(strings(model)) >= set(checkpoint.names())
        shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    sizes = SEQ2SEQ[architecture].config
    layers = (
        sizes.get("encoder_layers", sizes.get("num_layers")),
        sizes.get("decoder_layers", sizes.get("num_decoder_layers")),
    )
    assert (len(encoder_of(model).blocks), len(model.decoder.blocks)) == layers
    for block in model.decoder.blocks:
        assert block.cross
        assert block.cross.heads * block.cross.head_size == shapes[block.cross.query.weight][0]
        assert bool(block.cross_norm) != bool(block.cross_sum_norm)
    assert not any(block.cross or block.cross_norm or block.cross_sum_norm for block in encoder_of(model).blocks)


@pytest.mark.parametrize(
    ("architecture", "before", "embedded", "final"),
    [
        ("bart", False, True, False),
        ("mbart", True, True, True),
        ("marian", False, False, False),
        ("m2m_100", True, False, True),
        ("pegasus", True, False, True),
        ("blenderbot", True, False, True),
        ("t5", True, False, True),
    ],
)
def test_norms_stand_where_the_architecture_has_them(
    tmp_path: Path, architecture: str, before: bool, embedded: bool, final: bool
) -> None:
    model = read(written(tmp_path, architecture))
    sides: list[SourceEncoder | Decoder] = [encoder_of(model), model.decoder]
    for side in sides:
        assert bool(side.embedding_norm) == embedded
        assert bool(side.norm) == final
        for block in side.blocks:
            assert bool(block.attention_norm) == bool(block.feed_forward_norm) == before
            assert bool(block.attention_sum_norm) == bool(block.feed_forward_sum_norm) == (not before)


def test_scores_of_t5_are_not_scaled_and_those_of_bart_are(tmp_path: Path) -> None:
    for architecture, scale in (("t5", 1.0), ("bart", 0.25), ("blenderbot", 0.5)):
        model = read(written(tmp_path / architecture, architecture))
        block = model.decoder.blocks[0]
        assert block.cross
        assert {block.attention.scale, block.cross.scale, encoder_of(model).blocks[0].attention.scale} == {scale}


# Words and heads


@pytest.mark.parametrize("architecture", ["bart", "m2m_100", "pegasus", "t5", "umt5"])
@pytest.mark.parametrize(
    "places", [["shared"], ["encoder"], ["decoder"], ["encoder", "decoder"], ["shared", "encoder", "decoder"]]
)
def test_tied_words_are_found_wherever_they_are(tmp_path: Path, architecture: str, places: list[str]) -> None:
    folder = written(tmp_path, architecture, words=places, head="copied")
    model = read(folder)
    assert encoder_of(model).words == model.decoder.words
    assert model.decoder.head is None
    base = SEQ2SEQ[architecture].base
    tables = {"shared": "shared", "encoder": "encoder.embed_tokens", "decoder": "decoder.embed_tokens"}
    foremost = next(place for place in ("shared", "decoder", "encoder") if place in places)
    assert model.decoder.words == f"{base}{tables[foremost]}.weight"


def test_tied_words_may_be_stored_as_the_head(tmp_path: Path) -> None:
    folder = written(tmp_path, "bart")
    renamed(folder, lambda name: name.replace("model.shared.", "lm_head."))
    model = read(folder)
    assert (model.decoder.words, model.decoder.head) == ("lm_head.weight", None)


def test_untied_sides_of_bart_have_tables_of_their_own(tmp_path: Path) -> None:
    model = read(written(tmp_path / "own", "bart", head="untied", words=["encoder", "decoder"]))
    assert encoder_of(model).words == "model.encoder.embed_tokens.weight"
    assert model.decoder.words == "model.decoder.embed_tokens.weight"
    assert model.decoder.head
    assert (model.decoder.head.weight, model.decoder.head.bias) == ("lm_head.weight", "final_logits_bias")
    assert model.decoder.head_bias is None
    # as save_pretrained leaves it where both are one
    model = read(written(tmp_path / "one", "bart", head="untied"))
    assert encoder_of(model).words == model.decoder.words == "model.shared.weight"


def test_untied_sides_of_pegasus_share_their_table(tmp_path: Path) -> None:
    model = read(written(tmp_path, "pegasus", head="untied", words=["shared", "encoder", "decoder"]))
    assert encoder_of(model).words == model.decoder.words == "model.shared.weight"


def test_marian_with_two_vocabularies(tmp_path: Path) -> None:
    with open_checkpoint(written(tmp_path, "marian-separate")) as checkpoint:
        model = read_open(checkpoint)
        assert model.decoder.head
        assert checkpoint.shape(model.decoder.head.weight)[0] == checkpoint.config["decoder_vocab_size"]
    assert encoder_of(model).words == "model.encoder.embed_tokens.weight"
    assert model.decoder.words == "model.decoder.embed_tokens.weight"


def test_marian_with_two_vocabularies_may_tie_its_head(tmp_path: Path) -> None:
    config = {"tie_word_embeddings": True, "decoder_vocab_size": 384}
    model = read(written(tmp_path, "marian-separate", config=config))
    assert model.decoder.head is None
    assert encoder_of(model).words != model.decoder.words
    assert model.decoder.head_bias == "final_logits_bias"


def test_head_that_writes_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "marian-separate", config={"decoder_vocab_size": 400})
    with pytest.raises(CheckpointError, match="writes 400 tokens"):
        read(folder)


def test_t5_scales_what_a_tied_head_reads(tmp_path: Path) -> None:
    tied, untied = (read(written(tmp_path / name, name)) for name in ("t5", "t5-gated"))
    assert (tied.decoder.head, tied.decoder.logits_scale) == (None, 0.125)
    assert untied.decoder.head
    assert untied.decoder.logits_scale == 1


def test_bias_of_zeros_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, "bart")
    assert read(folder).decoder.head_bias == "final_logits_bias"
    filled(folder, "final_logits_bias", np.zeros(384))
    assert read(folder).decoder.head_bias is None


def test_names_without_the_heads_prefix(tmp_path: Path) -> None:
    model = read(written(tmp_path, "mbart", prefix=False))
    assert model.decoder.words == "shared.weight"
    assert model.decoder.blocks[0].attention.query.weight == "decoder.layers.0.self_attn.q_proj.weight"


# Positions


def test_bart_skips_two_rows(tmp_path: Path) -> None:
    model = read(written(tmp_path / "bart", "bart"))
    assert (model.decoder.positions, model.decoder.first_position) == ("model.decoder.embed_positions.weight", 2)
    assert encoder_of(model).window == model.decoder.window == 128
    model = read(written(tmp_path / "blenderbot", "blenderbot"))
    assert (encoder_of(model).positions, encoder_of(model).first_position) == (
        "model.encoder.embed_positions.weight",
        0,
    )
    assert model.decoder.window == 128


def test_frequencies_of_marian_and_m2m(tmp_path: Path) -> None:
    marian, m2m = (read(written(tmp_path / name, name)).decoder for name in ("marian", "m2m_100"))
    assert marian.sinusoids
    assert m2m.sinusoids
    assert np.allclose(marian.sinusoids.frequencies, 10000.0 ** (-np.arange(32) / 32), rtol=1e-15)
    assert np.allclose(m2m.sinusoids.frequencies, np.exp(-np.arange(32) * math.log(10000) / 31), rtol=1e-6)
    assert all(float(np.float32(value)) == value for value in m2m.sinusoids.frequencies)
    assert (marian.first_position, marian.positions, m2m.positions) == (0, None, None)


def test_m2m_counts_from_behind_the_paddings_id(tmp_path: Path) -> None:
    model = read(written(tmp_path, "m2m_100", config={"pad_token_id": 5}))
    encoder = encoder_of(model)
    assert (encoder.skipped_id, encoder.first_position, model.decoder.first_position) == (5, 6, 6)


@pytest.mark.parametrize("architecture", ["marian", "pegasus"])
def test_stored_positions_count_unless_they_are_the_computed_ones(tmp_path: Path, architecture: str) -> None:
    folder = written(tmp_path, architecture, tables=True)
    model = read(folder)
    assert (model.decoder.positions, model.decoder.sinusoids) == ("model.decoder.embed_positions.weight", None)
    configured(folder)
    sinusoids = read(written(tmp_path / "computed", architecture, tables=False)).decoder.sinusoids
    assert sinusoids
    for side in ("encoder", "decoder"):
        filled(folder, f"model.{side}.embed_positions.weight", table(sinusoids, 128))
    model = read(folder)
    assert (model.decoder.positions, model.decoder.sinusoids) == (None, sinusoids)
    assert encoder_of(model).sinusoids == sinusoids


def test_words_are_scaled_by_the_root_of_the_width(tmp_path: Path) -> None:
    folder = written(tmp_path, "blenderbot")
    model = read(folder)
    assert encoder_of(model).scale == model.decoder.scale == float(np.float32(32**0.5))
    configured(folder, scale_embedding=False)
    assert read(folder).decoder.scale == 1


# Relative positions


def test_blocks_of_t5_share_the_first_ones_table(tmp_path: Path) -> None:
    model = read(written(tmp_path, "t5"))
    for side, blocks in (("encoder", encoder_of(model).blocks), ("decoder", model.decoder.blocks)):
        name = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        for block in blocks:
            part = block.attention.relative
            assert part
            assert (part.table, part.buckets, part.farthest, part.columns) == (name, 16, 20, None)


def test_blocks_of_umt5_have_tables_of_their_own(tmp_path: Path) -> None:
    model = read(written(tmp_path, "umt5"))
    tables = [block.attention.relative and block.attention.relative.table for block in model.decoder.blocks]
    names = [f"decoder.block.{number}.layer.0.SelfAttention.relative_attention_bias.weight" for number in range(2)]
    assert tables == names


@pytest.mark.parametrize("architecture", ["t5", "umt5"])
def test_pruned_heads_of_t5_have_no_column(tmp_path: Path, architecture: str) -> None:
    heads = {"encoder.0": [1], "encoder.2": [0, 3], "cross.1": [0, 1, 2]}
    folder = written(tmp_path, architecture, pruned_heads=heads)
    model = read(folder)
    parts = [block.attention for block in encoder_of(model).blocks]
    assert [part.heads for part in parts] == [3, 4, 2]
    assert [part.relative and part.relative.columns for part in parts] == [(0, 2, 3), None, (1, 2)]
    assert [block.cross and block.cross.heads for block in model.decoder.blocks] == [4, 1]
    configured(folder, pruned_heads="absent")
    with pytest.raises(CheckpointError, match=r"encoder\.block\.0.* has 3 heads of 4.*pruned_heads"):
        read(folder)


def test_pruned_heads_of_t5s_decoder_are_not_known(tmp_path: Path) -> None:
    folder = written(tmp_path, "t5", pruned_heads={"decoder.1": [2]})
    with pytest.raises(CheckpointError, match="prune the encoder only"):
        read(folder)


# Shapes


def test_pruned_heads_and_narrowed_layers_of_bart(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        "bart",
        pruned_heads={"encoder.1": [0], "decoder.0": [1, 2], "cross.2": [3]},
        ffn_widths={"encoder": [96, 33], "decoder": [17, 96, 1]},
    )
    with open_checkpoint(folder) as checkpoint:
        model = read_open(checkpoint)
        assert [block.attention.heads for block in encoder_of(model).blocks] == [4, 3]
        assert [block.attention.heads for block in model.decoder.blocks] == [2, 4, 4]
        assert [block.cross and block.cross.heads for block in model.decoder.blocks] == [4, 4, 3]
        widths = [checkpoint.shape(block.feed_forward.down.weight)[1] for block in model.decoder.blocks]
    assert widths == [17, 96, 1]


@pytest.mark.parametrize(
    ("architecture", "stored", "paths"),
    [
        ("bart", {"decoder": [0, 2]}, ["model.decoder.layers.0", "model.decoder.layers.2"]),
        ("t5", {"encoder": [0, 2], "decoder": [0]}, ["decoder.block.0"]),
    ],
)
def test_dropped_layers_close_up(
    tmp_path: Path, architecture: str, stored: dict[str, list[int]], paths: list[str]
) -> None:
    blocks = read(written(tmp_path, architecture, stored_layers=stored)).decoder.blocks
    assert [block.name for block in blocks] == [f"layer.{place}" for place in range(len(paths))]
    for block, path in zip(blocks, paths, strict=True):
        assert block.attention.query.weight.startswith(f"{path}.")


def test_layers_beyond_the_config_are_left(tmp_path: Path) -> None:
    folder = written(tmp_path, "bart")
    configured(folder, decoder_layers=1)
    assert len(read(folder).decoder.blocks) == 1


# Configs


@pytest.mark.parametrize(
    ("architecture", "values"),
    [
        # What the config classes of transformers 4.57.6 take where a key is absent
        ("bart", {"activation_function": "gelu", "scale_embedding": False, "decoder_start_token_id": 2}),
        ("mbart", {"activation_function": "gelu", "scale_embedding": False, "decoder_start_token_id": None}),
        (
            "m2m_100",
            {"activation_function": "relu", "scale_embedding": True, "decoder_start_token_id": 2, "pad_token_id": 1},
        ),
        ("pegasus", {"activation_function": "gelu", "scale_embedding": False, "decoder_start_token_id": 0}),
        ("blenderbot", {"activation_function": "gelu", "scale_embedding": False, "decoder_start_token_id": 1}),
        ("marian", {"activation_function": "gelu", "scale_embedding": False, "share_encoder_decoder_embeddings": True}),
        (
            "t5",
            {"layer_norm_epsilon": 1e-6, "is_gated_act": False, "dense_act_fn": "relu", "feed_forward_proj": "relu"},
        ),
        ("mt5", {"tie_word_embeddings": False, "num_heads": 6, "decoder_start_token_id": 0}),
        ("mt5", {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True}),
        ("umt5", {"tie_word_embeddings": True, "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu"}),
    ],
)
def test_absent_keys_are_the_classes_defaults(tmp_path: Path, architecture: str, values: dict[str, Any]) -> None:
    folder = written(tmp_path, architecture)
    configured(folder, **values)
    expected = read(folder)
    configured(folder, **dict.fromkeys(values, "absent"))
    assert read(folder) == expected


@pytest.mark.parametrize(
    ("said", "keys", "activation", "gated"),
    [
        ("relu", {}, "relu", False),
        ("gelu", {}, "gelu", False),
        ("gated-gelu", {}, "gelu_tanh", True),
        ("gated-silu", {}, "silu", True),
        ("gated-gelu", {"dense_act_fn": "gelu"}, "gelu", True),
        ("gated-relu", {"dense_act_fn": "silu", "is_gated_act": True}, "silu", True),
    ],
)
def test_activations_of_t5(tmp_path: Path, said: str, keys: dict[str, Any], activation: str, gated: bool) -> None:
    folder = written(tmp_path, "t5", config={"feed_forward_proj": said}, left_out=["dense_act_fn", "is_gated_act"])
    configured(folder, **keys)
    part = read(folder).decoder.blocks[0].feed_forward
    assert part.activation == activation
    assert part.up.weight.endswith("wi_1.weight" if gated else "wi.weight")
    assert (part.gate is not None and part.gate.weight.endswith("wi_0.weight")) == gated


def test_depth_of_t5s_decoder_is_the_encoders_unless_it_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path, "t5", config={"num_decoder_layers": 3})
    for value in (None, "absent"):
        configured(folder, num_decoder_layers=value)
        assert len(read(folder).decoder.blocks) == 3
    configured(folder, num_decoder_layers=1)
    assert len(read(folder).decoder.blocks) == 1


@pytest.mark.parametrize(
    ("architecture", "changes", "start"),
    [
        ("bart", {"decoder_start_token_id": 7}, 7),
        ("bart", {"decoder_start_token_id": None}, 0),
        ("bart", {"decoder_start_token_id": None, "bos_token_id": 9}, 9),
        ("mbart", {"decoder_start_token_id": "absent"}, 0),
        ("marian", {}, 383),
        ("t5", {"decoder_start_token_id": "absent", "pad_token_id": 4}, 4),
    ],
)
def test_token_that_a_target_starts_with(
    tmp_path: Path, architecture: str, changes: dict[str, Any], start: int
) -> None:
    folder = written(tmp_path, architecture)
    configured(folder, **changes)
    assert read(folder).start == start


@pytest.mark.parametrize(
    ("architecture", "changes", "error", "words"),
    [
        ("bart", {"d_model": 128}, CheckpointError, "wide"),
        ("bart", {"encoder_attention_heads": 3}, CheckpointError, "no multiple"),
        ("bart", {"decoder_attention_heads": 128}, CheckpointError, "no multiple"),
        ("bart", {"decoder_layers": 0}, CheckpointError, "num_hidden_layers is 0"),
        ("bart", {"max_position_embeddings": 130}, CheckpointError, r"embed_positions\.weight has shape \[130, 64\]"),
        ("bart", {"activation_function": "mish"}, UnsupportedError, "mish"),
        ("bart", {"quantization_config": {"quant_method": "gptq"}}, UnsupportedError, "quantized"),
        ("bart", {"decoder_start_token_id": 384}, CheckpointError, "decoder_start_token_id is 384, expected the id"),
        ("bart", {"decoder_start_token_id": "</s>"}, CheckpointError, "decoder_start_token_id"),
        ("bart", {"tie_word_embeddings": False}, CheckpointError, "tie_word_embeddings"),
        ("marian", {"decoder_start_token_id": "absent"}, CheckpointError, "decoder_start_token_id is 58100"),
        ("m2m_100", {"pad_token_id": -1}, CheckpointError, "pad_token_id is -1"),
        ("t5", {"d_kv": 24}, CheckpointError, "no whole heads of 24"),
        ("t5", {"num_heads": 8}, CheckpointError, r"relative_attention_bias\.weight has shape \[16, 4\]"),
        ("t5", {"relative_attention_num_buckets": 32}, CheckpointError, "relative_attention_bias"),
        ("t5", {"feed_forward_proj": "relu-gated"}, CheckpointError, "feed_forward_proj is 'relu-gated'"),
        ("t5", {"feed_forward_proj": 3}, CheckpointError, "feed_forward_proj is 3"),
        ("t5", {"dense_act_fn": "mish"}, UnsupportedError, "mish"),
        ("t5", {"is_gated_act": True}, CheckpointError, r"wi_1\.weight"),
        ("t5-gated", {"d_model": 32}, CheckpointError, "wide"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    tmp_path: Path, architecture: str, changes: dict[str, Any], error: type[ExportError], words: str
) -> None:
    folder = written(tmp_path, architecture)
    configured(folder, **changes)
    with pytest.raises(error, match=words):
        read(folder)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("bart", "model.decoder.layers.1.encoder_attn.k_proj.weight"),
        ("bart", "model.encoder.layernorm_embedding.bias"),
        ("mbart", "model.decoder.layer_norm.weight"),
        ("blenderbot", "model.encoder.embed_positions.weight"),
        ("t5", "decoder.block.1.layer.1.EncDecAttention.v.weight"),
        ("t5", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        ("umt5", "decoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),
        ("t5", "decoder.final_layer_norm.weight"),
    ],
)
def test_missing_tensor_is_named(tmp_path: Path, architecture: str, name: str) -> None:
    folder = written(tmp_path, architecture)
    renamed(folder, lambda found: f"{found}.old" if found == name else found)
    with pytest.raises(CheckpointError, match=f"no tensor '{name}'"):
        read(folder)


def test_missing_word_table_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, "t5")
    renamed(folder, lambda name: name.replace("shared.", "words."))
    with pytest.raises(CheckpointError, match=r"no word table: none of shared\.weight"):
        read(folder)


def test_missing_half_is_told(tmp_path: Path) -> None:
    folder = written(tmp_path, "t5")
    renamed(folder, lambda name: name.replace("decoder.", "writer."))
    with pytest.raises(CheckpointError, match=r"holds no layer: no tensor is named decoder\.block"):
        read(folder)


def test_positions_of_an_odd_width_are_refused(tmp_path: Path) -> None:
    config = {"d_model": 15, "encoder_attention_heads": 3, "decoder_attention_heads": 3}
    folder = written(tmp_path, "marian", config=config)
    with pytest.raises(UnsupportedError, match="width 15"):
        read(folder)
