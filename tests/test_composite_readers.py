"""Readers of encoders and decoders put together: names, shapes, configs that do not fit. Parity tests say if answers are right."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composite_checkpoints import COMPOSED_DECODERS, write_classifier, write_composite
from edgenlp_export.checkpoint import open_checkpoint
from edgenlp_export.families import bart_classifier, composite_checkpoints
from edgenlp_export.families.matrices import matrix, rows_of
from edgenlp_export.families.parts import Dense, Encoder, EncoderDecoder, Head, Norm, RelativeBias

from edgenlp.errors import CheckpointError, ExportError, UnsupportedError

PAIRS = [
    ("bert", "bert"),
    ("bert", "gpt2"),
    ("roberta", "gpt2"),
    ("roberta", "roberta"),
    ("distilbert", "gpt2"),
    ("electra", "bert"),
    ("albert", "xlm-roberta"),
    ("mpnet", "camembert"),
    ("camembert", "roberta"),
    ("xlm-roberta", "bert"),
]


def read(folder: Path) -> EncoderDecoder:
    with open_checkpoint(folder) as checkpoint:
        return composite_checkpoints.read(checkpoint, checkpoint.config["model_type"])


def written(folder: Path, encoder: str = "bert", decoder: str = "bert", **options: Any) -> Path:
    return write_composite(folder, encoder=encoder, decoder=decoder, seed=0, **options)


def configured(folder: Path, part: str | None, **changes: Any) -> None:
    """Change config.json, or a part of it, and leave the weights as they are; a key with the value None is taken out."""
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    place = config[part] if part else config
    place |= changes
    for key in [key for key, value in place.items() if value is None]:
        del place[key]
    file.write_text(json.dumps(config), "utf-8")


def renamed(folder: Path, change: Callable[[str], str]) -> None:
    """Give the tensors of a folder other names."""
    file = folder / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    table = json.dumps({change(name): value for name, value in header.items()}).encode()
    table += b" " * (-len(table) % 8)
    file.write_bytes(len(table).to_bytes(8, "little") + table + content[8 + size :])


def tensors_of(part: object) -> Iterator[str]:
    """Names of all tensors that a part is made of."""
    if isinstance(part, Dense | Norm):
        yield from (name for name in (part.weight, part.bias) if name)
    elif isinstance(part, RelativeBias):
        yield part.table
    elif isinstance(part, tuple):
        for item in part:
            yield from tensors_of(item)
    elif dataclasses.is_dataclass(part):
        for key in ("words", "positions", "types", "head_bias"):
            if name := getattr(part, key, None):
                yield name
        for field in dataclasses.fields(part):
            yield from tensors_of(getattr(part, field.name))


@pytest.mark.parametrize(("encoder", "decoder"), PAIRS)
def test_every_tensor_but_the_pooler_has_a_place(tmp_path: Path, encoder: str, decoder: str) -> None:
    folder = written(tmp_path, encoder, decoder)
    body = read(folder)
    assert isinstance(body.encoder, Encoder)
    with open_checkpoint(folder) as checkpoint:
        stored = {name for name in checkpoint.names() if not name.startswith("encoder.pooler")}
    assert set(tensors_of(body)) == stored
    assert {name.split(".")[0] for name in tensors_of(body.encoder)} == {"encoder"}
    assert {name.split(".")[0] for name in tensors_of(body.decoder)} == {"decoder"}
    assert all(block.cross for block in body.decoder.blocks)


def test_every_decoder_that_is_read_has_a_checkpoint_in_the_tests() -> None:
    assert set(composite_checkpoints.DECODERS) == set(COMPOSED_DECODERS)


def test_bert_decoder_has_its_norms_after_the_sums(tmp_path: Path) -> None:
    decoder = read(written(tmp_path, decoder_config={"layer_norm_eps": 1e-4, "num_attention_heads": 2})).decoder
    block, path = decoder.blocks[1], "decoder.bert.encoder.layer.1."
    assert (block.attention_norm, block.cross_norm, block.feed_forward_norm) == (None, None, None)
    sums = [block.attention_sum_norm, block.cross_sum_norm, block.feed_forward_sum_norm]
    assert [norm and norm.weight for norm in sums] == [
        f"{path}attention.output.LayerNorm.weight",
        f"{path}crossattention.output.LayerNorm.weight",
        f"{path}output.LayerNorm.weight",
    ]
    assert {norm.eps for norm in sums if norm} == {1e-4}
    assert block.cross
    assert (block.cross.heads, block.cross.head_size, block.cross.scale) == (2, 16, 0.25)
    assert (block.attention.heads, block.attention.kv_heads, block.attention.scale) == (2, 2, 0.25)
    assert decoder.types == "decoder.bert.embeddings.token_type_embeddings.weight"
    assert (decoder.window, decoder.first_position, decoder.norm) == (64, 0, None)


@pytest.mark.parametrize(
    ("decoder", "head", "kinds"),
    [
        ("bert", "decoder.cls.predictions.bias", ["Dense", "gelu", "Norm"]),
        ("roberta", "decoder.lm_head.bias", ["Dense", "gelu", "Norm"]),
        ("electra", "decoder.generator_lm_head.bias", ["Dense", "gelu", "Norm"]),
        ("gpt2", None, []),
    ],
)
def test_head_is_the_word_table_behind_its_steps(
    tmp_path: Path, decoder: str, head: str | None, kinds: list[str]
) -> None:
    changes = {"embedding_size": 32} if decoder == "electra" else {}
    for tied in ("absent", "copied"):
        found = read(written(tmp_path / tied, decoder=decoder, head=tied, decoder_config=changes)).decoder
        assert (found.head, found.head_bias) == (None, head)
        assert [step if isinstance(step, str) else type(step).__name__ for step in found.head_steps] == kinds


@pytest.mark.parametrize(
    ("decoder", "weight", "bias"),
    [
        ("bert", "decoder.cls.predictions.decoder.weight", "decoder.cls.predictions.bias"),
        ("roberta", "decoder.lm_head.decoder.weight", "decoder.lm_head.bias"),
        ("gpt2", "decoder.lm_head.weight", None),
    ],
)
def test_untied_head_is_a_layer(tmp_path: Path, decoder: str, weight: str, bias: str | None) -> None:
    found = read(written(tmp_path, decoder=decoder, head="untied")).decoder
    assert (found.head, found.head_bias) == (Dense(weight, bias), None)


def test_bert_decoder_bends_its_head_as_its_layers(tmp_path: Path) -> None:
    body = read(written(tmp_path, encoder_config={"hidden_act": "silu"}, decoder_config={"hidden_act": "relu"}))
    assert isinstance(body.encoder, Encoder)
    assert {layer.activation for layer in body.encoder.layers} == {"silu"}
    assert {block.feed_forward.activation for block in body.decoder.blocks} == {"relu"}
    assert body.decoder.head_steps[1] == "relu"


def test_gpt2_packs_keys_and_values_of_its_cross_attention(tmp_path: Path) -> None:
    folder = written(tmp_path, decoder="gpt2")
    block = read(folder).decoder.blocks[1]
    part, path = block.cross, "decoder.transformer.h.1."
    assert part
    assert (part.heads, part.head_size, part.scale) == (4, 16, 0.25)
    assert block.cross_norm
    assert (block.cross_norm.weight, block.cross_sum_norm) == (f"{path}ln_cross_attn.weight", None)
    with open_checkpoint(folder) as checkpoint:
        whole, shift = (checkpoint.tensor(f"{path}crossattention.c_attn.{kind}") for kind in ("weight", "bias"))
        query = checkpoint.tensor(f"{path}crossattention.q_attn.weight")
        found = [matrix(checkpoint, dense) for dense in (part.query, part.key, part.value)]
    assert np.array_equal(found[0][1], query.T)
    for (_, rows, bias), first in zip(found[1:], (0, 64), strict=True):
        assert np.array_equal(rows, whole[:, first : first + 64].T)
        assert bias is not None
        assert np.array_equal(bias, shift[first : first + 64])


def test_gpt2_scales_both_attentions_alike(tmp_path: Path) -> None:
    changes = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}
    blocks = read(written(tmp_path, decoder="gpt2", decoder_config=changes)).decoder.blocks
    assert [(block.attention.scale, block.cross and block.cross.scale) for block in blocks] == [(1.0, 1.0), (0.5, 0.5)]


def test_roberta_decoder_counts_from_its_own_padding(tmp_path: Path) -> None:
    decoder = read(written(tmp_path, "bert", "roberta", decoder_config={"pad_token_id": 4})).decoder
    assert (decoder.first_position, decoder.window) == (5, 61)
    # what the config class says by itself, save_pretrained leaves out of a part
    body = read(written(tmp_path / "short", "roberta", "roberta", left_out=["pad_token_id", "layer_norm_eps"]))
    assert isinstance(body.encoder, Encoder)
    assert (body.encoder.first_position, body.encoder.skipped_id, body.decoder.first_position) == (2, 1, 2)
    assert body.encoder.norm.eps == 1e-12


@pytest.mark.parametrize(("encoder", "decoder"), [("bert", "gpt2"), ("distilbert", "gpt2"), ("bert", "xlm-roberta")])
def test_bridge_joins_unequal_widths(tmp_path: Path, encoder: str, decoder: str) -> None:
    folder = written(tmp_path, encoder, decoder)
    body = read(folder)
    assert body.bridge == Dense("enc_to_dec_proj.weight", "enc_to_dec_proj.bias")
    with open_checkpoint(folder) as checkpoint:
        wide = 64 if decoder == "gpt2" else 48
        assert rows_of(checkpoint, body.bridge) == (wide, 32)


def test_equal_widths_need_no_bridge(tmp_path: Path) -> None:
    assert read(written(tmp_path, "roberta", "gpt2", decoder_config={"n_embd": 32})).bridge is None


def test_parts_have_their_own_depths_and_windows(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 3, "max_position_embeddings": 40}
    body = read(written(tmp_path, "electra", "bert", encoder_config=sizes, decoder_config={"num_hidden_layers": 1}))
    assert isinstance(body.encoder, Encoder)
    assert (len(body.encoder.layers), len(body.decoder.blocks)) == (3, 1)
    assert (body.encoder.window, body.decoder.window) == (40, 64)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_shared_weights_are_the_decoders(tmp_path: Path, kind: str) -> None:
    folder = written(tmp_path, kind, kind, shared=True, encoder_config={"num_hidden_layers": 3})
    body = read(folder)
    base = f"decoder.{kind}."
    assert isinstance(body.encoder, Encoder)
    assert body.encoder.words == body.decoder.words == f"{base}embeddings.word_embeddings.weight"
    assert (body.encoder.positions, body.encoder.types) == (body.decoder.positions, body.decoder.types)
    assert body.encoder.norm == body.decoder.embedding_norm
    for layer, block in zip(body.encoder.layers, body.decoder.blocks, strict=False):
        assert layer.attention.query == block.attention.query
        assert (layer.up, layer.ffn_norm) == (block.feed_forward.up, block.feed_forward_sum_norm)
    # the decoder has no third layer to share
    assert body.encoder.layers[2].up.weight == "encoder.encoder.layer.2.intermediate.dense.weight"
    with open_checkpoint(folder) as checkpoint:
        assert set(tensors_of(body)) == {name for name in checkpoint.names() if "pooler" not in name}


def test_shared_weights_that_are_stored_twice_are_read_where_they_are(tmp_path: Path) -> None:
    plain = written(tmp_path)
    before = read(plain)
    configured(plain, None, tie_encoder_decoder=True)
    assert read(plain) == before


def test_weights_that_are_not_shared_are_not_borrowed(tmp_path: Path) -> None:
    folder = written(tmp_path, shared=True)
    configured(folder, None, tie_encoder_decoder=None)
    with pytest.raises(CheckpointError, match=r"encoder\.embeddings\.word_embeddings\.weight"):
        read(folder)


def test_pruned_heads_are_counted_in_the_weights(tmp_path: Path) -> None:
    cuts: dict[str, Any] = {"pruned_heads": {"0": [1], "1": [0, 3]}, "decoder_pruned_heads": {"1": [2]}}
    body = read(written(tmp_path / "bert", **cuts, ffn_widths=[40, 24]))
    assert isinstance(body.encoder, Encoder)
    assert [layer.attention.heads for layer in body.encoder.layers] == [3, 2]
    assert [block.attention.heads for block in body.decoder.blocks] == [4, 3]
    assert [block.cross and block.cross.heads for block in body.decoder.blocks] == [4, 4]
    blocks = read(written(tmp_path / "gpt2", decoder="gpt2", decoder_pruned_heads={"0": [0, 3]})).decoder.blocks
    assert [block.attention.heads for block in blocks] == [2, 4]
    assert [block.cross and block.cross.heads for block in blocks] == [4, 4]


def test_gpt2_heads_need_no_multiple_of_8_here(tmp_path: Path) -> None:
    block = read(written(tmp_path, decoder="gpt2", decoder_config={"n_embd": 48})).decoder.blocks[0]
    assert block.cross
    assert (block.attention.head_size, block.cross.head_size) == (12, 12)


def test_start_is_found_where_transformers_finds_it(tmp_path: Path) -> None:
    folder = written(tmp_path, decoder="gpt2")
    assert read(folder).start == 2
    configured(folder, None, decoder_start_token_id=7)
    assert read(folder).start == 2, "generation_config.json counts more"
    (folder / "generation_config.json").unlink()
    assert read(folder).start == 7
    configured(folder, None, decoder_start_token_id=None)
    configured(folder, "decoder", decoder_start_token_id=9)
    assert read(folder).start == 9
    configured(folder, "decoder", decoder_start_token_id=None)
    assert read(folder).start == 2, "else the decoder's bos_token_id counts"
    configured(folder, None, bos_token_id=11)
    assert read(folder).start == 11
    configured(folder, None, bos_token_id=None)
    configured(folder, "decoder", bos_token_id=None)
    with pytest.raises(CheckpointError, match="50256"):  # GPT2Config's own
        read(folder)


def test_without_a_start_nothing_can_be_written(tmp_path: Path) -> None:
    folder = written(tmp_path)
    configured(folder, None, decoder_start_token_id=None)
    (folder / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match="set decoder_start_token_id"):
        read(folder)


@pytest.mark.parametrize(
    ("part", "changes", "error", "words"),
    [
        (None, {"encoder": None}, CheckpointError, "encoder is None"),
        (None, {"decoder": "bert"}, CheckpointError, "decoder is 'bert'"),
        (None, {"decoder_start_token_id": True}, CheckpointError, "decoder_start_token_id is True"),
        (None, {"decoder_start_token_id": 1800}, CheckpointError, "has 1800 tokens"),
        (None, {"quantization_config": {"quant_method": "gptq"}}, UnsupportedError, "quantized"),
        ("encoder", {"model_type": "t5"}, UnsupportedError, "'t5'.*albert, bert.*xlm-roberta"),
        ("encoder", {"position_embedding_type": "relative_key"}, UnsupportedError, "relative_key"),
        ("encoder", {"hidden_act": "mish"}, UnsupportedError, "mish"),
        ("encoder", {"num_attention_heads": 3}, CheckpointError, "no whole heads"),
        ("decoder", {"model_type": "llama"}, UnsupportedError, "'llama'.*bert.*roberta.*gpt2"),
        ("decoder", {"model_type": "albert"}, UnsupportedError, "'albert'"),
        ("decoder", {"add_cross_attention": False}, CheckpointError, "add_cross_attention is False"),
        ("decoder", {"is_decoder": None}, CheckpointError, "is_decoder is None"),
        ("decoder", {"position_embedding_type": "relative_key"}, UnsupportedError, "relative_key"),
        ("decoder", {"tie_word_embeddings": False}, CheckpointError, r"decoder\.cls\.predictions\.decoder\.weight"),
        ("decoder", {"hidden_size": 36, "num_attention_heads": 3}, CheckpointError, "no whole heads of 12"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    tmp_path: Path, part: str | None, changes: dict[str, Any], error: type[ExportError], words: str
) -> None:
    folder = written(tmp_path)
    (folder / "generation_config.json").unlink()
    configured(folder, part, **changes)
    with pytest.raises(error, match=words):
        read(folder)


def test_padding_cannot_stand_before_a_roberta_target(tmp_path: Path) -> None:
    folder = written(tmp_path, "roberta", "roberta", generation={"decoder_start_token_id": 1})
    with pytest.raises(UnsupportedError, match="takes no position"):
        read(folder)


def test_narrow_words_of_an_electra_decoder_are_widened(tmp_path: Path) -> None:
    found = read(written(tmp_path, decoder="electra")).decoder
    assert found.projection == Dense(
        "decoder.electra.embeddings_project.weight", "decoder.electra.embeddings_project.bias"
    )


@pytest.mark.parametrize(
    ("decoder", "old", "new", "words"),
    [
        ("bert", "enc_to_dec_proj", "proj", "32 wide, the decoder 48.*enc_to_dec_proj.weight"),
        ("bert", "layer.1.crossattention.self.key", "layer.1.crossattention.key", "layer.1.crossattention.self.key"),
        ("bert", "decoder.bert", "decoder.model", "decoder.bert.embeddings.word_embeddings.weight"),
        ("gpt2", "h.1.crossattention.q_attn", "h.1.crossattention.q", "h.1.crossattention.q_attn.weight"),
        ("gpt2", "h.0.ln_cross_attn", "h.0.ln_cross", "h.0.ln_cross_attn.weight"),
        ("bert", "encoder.encoder.layer", "encoder.layer", "holds no layer.*encoder.encoder.layer"),
    ],
)
def test_missing_tensor_is_named(tmp_path: Path, decoder: str, old: str, new: str, words: str) -> None:
    changes = {"hidden_size": 48} if decoder == "bert" else {}
    folder = written(tmp_path, decoder=decoder, decoder_config=changes)
    renamed(folder, lambda name: name.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=words):
        read(folder)


# BART as a classifier


def classifier(folder: Path) -> tuple[EncoderDecoder, Head]:
    with open_checkpoint(folder) as checkpoint:
        return bart_classifier.read_classifier(checkpoint, checkpoint.config["model_type"])


def test_bart_classifies_by_what_its_decoder_ends_with(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, seed=0, labels=["no", "yes"], config={"decoder_start_token_id": 5})
    body, head = classifier(folder)
    part = "classification_head."
    dense, last = (Dense(f"{part}{name}.weight", f"{part}{name}.bias") for name in ("dense", "out_proj"))
    assert head == Head("sequence-classification", (dense, "tanh", last))
    assert body.start == 5
    with open_checkpoint(folder) as checkpoint:
        assert rows_of(checkpoint, last) == (2, 64)
        assert {*tensors_of(body), *tensors_of(head.steps)} == set(checkpoint.names())


def test_bart_starts_with_its_end_token_unless_told(tmp_path: Path) -> None:
    assert classifier(write_classifier(tmp_path, seed=0, left_out=["decoder_start_token_id"]))[0].start == 2


def test_mbart_classifies_texts_that_end_with_the_end_token(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / "50", architecture="mbart", seed=0, tokenizer="MBart50Tokenizer")
    body, head = classifier(folder)
    assert (body.start, len(head.steps)) == (2, 3)
    with pytest.raises(UnsupportedError, match=r"'MBartTokenizer'.*MBart50Tokenizer"):
        classifier(write_classifier(tmp_path / "25", architecture="mbart", seed=0))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("classification_head.dense", "classifier.dense", r"classification_head\.dense\.weight.*--task"),
        ("out_proj.bias", "out_proj.shift", r"out_proj\.bias"),
    ],
)
def test_classifier_without_its_head_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = write_classifier(tmp_path, seed=0)
    renamed(folder, lambda name: name.replace(old, new) if name.startswith("classification_head") else name)
    with pytest.raises(CheckpointError, match=words):
        classifier(folder)


def test_classifier_must_know_its_start(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, seed=0)
    configured(folder, None, decoder_start_token_id="</s>")
    with pytest.raises(CheckpointError, match="decoder_start_token_id is '</s>'"):
        classifier(folder)
