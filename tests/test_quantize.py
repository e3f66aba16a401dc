"""Quantizers against their own definitions: what is written is what the operators read, and no further off than it may be."""

import numpy as np
import pytest
from edgenlp_export.quantize import Blocks, Policy, block_size, parse_keep, quantize_blocks, quantize_channels

WEIGHT = np.random.RandomState(0).standard_normal((40, 96)).astype(np.float32)


def restored(blocks: Blocks, bits: int) -> np.ndarray:
    levels, zeros = blocks.levels.astype(np.int32), np.int32(128)
    if bits == 4:
        levels = np.stack([levels & 15, levels >> 4], axis=-1).reshape(*levels.shape[:2], -1)
        zeros = np.stack([blocks.zeros & 15, blocks.zeros >> 4], axis=-1).reshape(len(levels), -1)
        zeros = zeros[:, : levels.shape[1], None].astype(np.int32)
    return ((levels - zeros) * blocks.scales[..., None]).reshape(len(levels), -1)


def test_channels_are_at_most_half_a_step_off() -> None:
    quantized, scales = quantize_channels(WEIGHT)
    assert quantized.shape == (96, 40)
    assert np.abs(quantized.T * scales[:, None] - WEIGHT).max() <= scales.max() / 2 + 1e-6
    assert np.abs(quantized).max() == 127


@pytest.mark.parametrize(("bits", "error"), [(8, 0.006), (4, 0.09)])
@pytest.mark.parametrize("block", [16, 32])
def test_blocks_are_close(bits: int, error: float, block: int) -> None:
    blocks = quantize_blocks(WEIGHT, bits, block)
    assert blocks.levels.shape == (40, 96 // block, block * bits // 8)
    off = restored(blocks, bits) - WEIGHT
    assert np.sqrt((off**2).mean()) < error


def test_four_bits_beat_rounding_to_the_largest() -> None:
    found = restored(quantize_blocks(WEIGHT, 4, 32), 4).reshape(40, 3, 32)
    blocks = WEIGHT.reshape(40, 3, 32)
    plain = np.abs(blocks).max(-1, keepdims=True) / 7
    naive = np.clip(np.rint(blocks / plain), -8, 7) * plain
    assert ((found - blocks) ** 2).sum() < 0.9 * ((naive - blocks) ** 2).sum()


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_that_no_block_divides_is_filled_up(bits: int) -> None:
    blocks = quantize_blocks(WEIGHT[:, :40], bits, 16)
    assert blocks.levels.shape[1] == 3
    assert np.abs(restored(blocks, bits)[:, :40] - WEIGHT[:, :40]).max() < 0.3
    assert not restored(blocks, bits)[:, 40:].any()


@pytest.mark.parametrize("value", [0.0, 1e-30, 3.0])
def test_constant_rows_survive(value: float) -> None:
    constant = np.full((3, 32), value, np.float32)
    for bits in (4, 8):
        assert np.abs(restored(quantize_blocks(constant, bits, 32), bits) - constant).max() <= 0.01 * value + 1e-29
    quantized, scales = quantize_channels(constant)
    assert np.abs(quantized.T * scales[:, None] - constant).max() <= 0.01 * value + 1e-29


def test_block_sizes_divide_the_row() -> None:
    assert [block_size(width, 128) for width in (768, 384, 96, 48, 40, 10)] == [128, 128, 32, 16, 16, 16]


def test_the_first_pattern_that_matches_counts() -> None:
    policy = Policy("int8", parse_keep(["fp32=*layer.0.*", "int4=*layer*"]))
    assert policy("a.layer.0.b").matrix == "float32"
    assert policy("a.layer.1.b").bits == 4
    assert policy("a.head").matrix == "channels"
    assert policy("a.head", exact=True).matrix == "float32"


def test_a_block_size_is_of_blocks_alone() -> None:
    policy = Policy("int8", parse_keep(["int4=*layer*"]), block=64)
    found = policy("a.layer.1")
    assert {found.block, found.calibrated_block, found.table_block} == {64}
    assert policy("a.head") == Policy("int8")("a.head")
    assert policy("a.head", exact=True) == Policy("fp32")("a.head")


def test_fitting_to_inputs_makes_their_products_nearer() -> None:
    random = np.random.RandomState(1)
    inputs = random.standard_normal((400, 12)) @ random.standard_normal((12, 96)) + 0.1 * random.standard_normal(
        (400, 96)
    )
    inputs = inputs.astype(np.float32)
    error = {}
    for name, moments in (("plain", None), ("fitted", inputs.T @ inputs)):
        found = restored(quantize_blocks(WEIGHT, 4, 32, moments=moments), 4)
        error[name] = float(np.abs(inputs @ (found - WEIGHT).T).mean())
    assert error["fitted"] < 0.6 * error["plain"]


def test_fitting_survives_inputs_that_never_vary() -> None:
    for moments in (np.zeros((96, 96), np.float32), np.ones((96, 96), np.float32)):
        found = restored(quantize_blocks(WEIGHT, 4, 32, moments=moments), 4)
        assert np.sqrt(((found - WEIGHT) ** 2).mean()) < 0.2
