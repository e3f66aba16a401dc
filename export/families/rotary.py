"""Rotary positions: the frequencies of every scaling that configs ask for, and the tables of cosines and sines. Knows no tensor.

Frequencies are rounded to float32 wherever transformers' modeling_rope_utils rounds them: at position 100,000 the last bit of a
frequency is worth a hundredth of a radian, and the models have been trained with the rounded ones. Powers, cosines and sines
are float64 rounded once, so that they do not depend on the machine. Dimension i of a head turns with i + half of the turning
dimensions (rotate_half).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import CheckpointError, UnsupportedError

from .parts import Rotary

__all__ = ["Turning", "rotary", "tables"]

Floats = NDArray[np.float32]
_MOST = 1e12  # above every number that makes sense, and far from where floats end
_ROWS = 4096  # of a table at a time: float64 intermediates of 131,072 positions would take 100 MB each


class Turning(NamedTuple):
    """Rotary positions and how many tokens they are good for."""

    rotary: Rotary
    window: int


def rotary(config: Mapping[str, Any], *, size: int, base: float, window: int, original: Any = None) -> Turning:
    """The rotary positions that a config asks for.

    Args:
        config: For its `rope_scaling`: None, or a mapping with `rope_type` (formerly `type`) and that type's numbers.
        size: Dimensions of a head that turn, an even number.
        base: `rope_theta`.
        window: `max_position_embeddings`.
        original: `original_max_position_embeddings` of the config itself, which only longrope reads.

    Raises:
        CheckpointError: A number that the scaling needs is missing or none.
        UnsupportedError: The scaling is of no known type.
    """
    if size < 2 or size % 2:
        raise UnsupportedError(f"rotary positions over {size} dimensions of a head: it must be an even number above 0")
    if not 1 < base < _MOST:
        raise CheckpointError(f"config.json: the base of rotary positions is {base!r}, expected a number above 1")
    scaling = config.get("rope_scaling")
    if scaling is None:
        return Turning(Rotary(_listed(_plain(base, size))), window)
    if not isinstance(scaling, Mapping):
        raise CheckpointError(f"config.json: rope_scaling is {scaling!r}, expected an object with rope_type")
    kind = scaling.get("type") or scaling.get("rope_type") or "default"
    if kind in ("su", "yarn") and "short_factor" in scaling:
        kind = "longrope"  # Phi-3's older names for it (Phi3Config._rope_scaling_adjustment)
    if kind == "default":
        return Turning(Rotary(_listed(_plain(base, size))), window)
    if kind == "linear":
        return Turning(Rotary(_listed(_plain(base, size) / _number(scaling, "factor"))), window)
    if kind == "dynamic":
        factor = _number(scaling, "factor")
        return Turning(Rotary(_listed(_plain(base, size)), dynamic=(base, factor, window)), int(window * factor))
    if kind == "yarn":
        return Turning(_yarn(scaling, base, size, window), window)
    if kind == "llama3":
        return Turning(Rotary(_listed(_llama3(scaling, base, size))), window)
    if kind == "longrope":
        return _longrope(scaling, base, size, window, original)
    raise UnsupportedError(
        f"rope_scaling of type {kind!r} is not supported; there are default, linear, dynamic, yarn, llama3 and longrope"
    )


def tables(rotary: Rotary, window: int) -> tuple[Floats, Floats]:
    """Cosines and sines of every position and pair, `factor` multiplied in; both float32 [window, pairs]."""
    cosines = np.empty((window, len(rotary.frequencies)), np.float32)
    sines = np.empty_like(cosines)
    for first in range(0, window, _ROWS):
        places = np.arange(first, min(first + _ROWS, window))
        # a product in float32, as in the models' forward pass
        angles = (places.astype(np.float32)[:, None] * _frequencies(rotary, places)).astype(np.float64)
        cosines[places] = np.cos(angles).astype(np.float32) * np.float32(rotary.factor)
        sines[places] = np.sin(angles).astype(np.float32) * np.float32(rotary.factor)
    return cosines, sines


def _frequencies(rotary: Rotary, places: NDArray[np.int64]) -> Floats:
    """Radians per token at each place, [places, pairs] or [1, pairs]."""
    plain = np.asarray(rotary.frequencies, np.float32)[None]
    if rotary.dynamic is None or places[-1] < rotary.dynamic[2]:
        return plain
    # _compute_dynamic_ntk_parameters with seq_len = place + 1, as when texts are written token by token
    base, factor, original = rotary.dynamic
    size = 2 * len(rotary.frequencies)
    if size <= 2:
        raise UnsupportedError("dynamic rope_scaling needs more than two turning dimensions")
    lengths = np.maximum(places + 1, original)
    bases = base * (factor * lengths / original - (factor - 1)) ** (size / (size - 2))
    grown = 1 / _powers(bases.astype(np.float32)[:, None], size)
    return np.where((places < original)[:, None], plain, grown)


def _powers(base: float | Floats, size: int) -> Floats:
    """base^(2i/size) for every pair i."""
    exponents = (np.arange(0, size, 2) / size).astype(np.float32).astype(np.float64)
    return np.asarray(np.asarray(base, np.float64) ** exponents, np.float32)


def _plain(base: float, size: int) -> Floats:
    """base^(-2i/size) (Su et al., 2021, section 3.2.2; _compute_default_rope_parameters)."""
    return np.float32(1) / _powers(base, size)


def _llama3(scaling: Mapping[str, Any], base: float, size: int) -> Floats:
    """Long waves slowed by `factor`, short ones not, those between partly (_compute_llama3_parameters)."""
    factor, low, high, original = (
        _number(scaling, key)
        for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    plain = _plain(base, size)
    waves = 2 * math.pi / plain  # tokens of a turn
    smooth = (original / waves - low) / (high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    return np.where(waves > original / low, plain / factor, np.where(waves < original / high, plain, between))


def _yarn(scaling: Mapping[str, Any], base: float, size: int, window: int) -> Rotary:
    """YaRN (Peng et al., 2023, section 3.2 and 3.4; _compute_yarn_parameters)."""
    factor = _number(scaling, "factor")
    keys = ("original_max_position_embeddings", "beta_fast", "beta_slow")
    original, fast, slow = (
        _number(scaling, key) if scaling.get(key) else default
        for key, default in zip(keys, (window, 32, 1), strict=True)
    )
    # The pair, as a fraction, that turns `count` times over the original window
    low, high = (size * math.log(original / (count * 2 * math.pi)) / (2 * math.log(base)) for count in (fast, slow))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    ramp = (np.arange(size // 2, dtype=np.float32) - low) / (high - low if high != low else 0.001)
    kept = 1 - np.clip(ramp, 0, 1)
    powers = _powers(base, size)
    frequencies = 1 / (factor * powers) * (1 - kept) + 1 / powers * kept
    return Rotary(_listed(frequencies), factor=_yarn_factor(scaling, factor))


def _yarn_factor(scaling: Mapping[str, Any], factor: float) -> float:
    """What cosines and sines grow by: 0.1 ln(factor) + 1, unless the config says otherwise."""

    def grown(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return _number(scaling, "attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return grown(_number(scaling, "mscale")) / grown(_number(scaling, "mscale_all_dim"))
    return grown(1)


def _longrope(scaling: Mapping[str, Any], base: float, size: int, window: int, original: Any) -> Turning:
    """LongRoPE (Ding et al., 2024; _compute_longrope_parameters) with its short factors, within the original window.

    Beyond that window transformers switches every position to the long factors, those of cached keys included; a cache that is
    written once cannot follow.
    """
    short = scaling.get("short_factor")
    if not isinstance(short, list) or len(short) != size // 2 or not all(_is_number(value) for value in short):
        raise CheckpointError(f"config.json: rope_scaling's short_factor is {short!r}, expected {size // 2} numbers")
    if original is not None and (not _is_number(original) or original < 2):
        raise CheckpointError(
            f"config.json: original_max_position_embeddings is {original!r}, expected a number above 1"
        )
    factor = window / original if original else _number(scaling, "factor")
    grown = math.sqrt(1 + math.log(factor) / math.log(original or window)) if factor > 1 else 1.0
    if scaling.get("attention_factor") is not None:
        grown = _number(scaling, "attention_factor")
    frequencies = np.float32(1) / (np.asarray(short, np.float32) * _powers(base, size))
    return Turning(Rotary(_listed(frequencies), factor=grown), int(min(window, original or window)))


def _listed(frequencies: Floats) -> tuple[float, ...]:
    return tuple(frequencies.tolist())


def _number(scaling: Mapping[str, Any], key: str) -> float:
    value = scaling.get(key)
    if not _is_number(value):
        raise CheckpointError(f"config.json: rope_scaling's {key} is {value!r}, expected a number above 0")
    return float(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number above 0, and no absurd one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST
