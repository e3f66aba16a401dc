"""Numbers to fewer bits. Knows one matrix at a time: no graph, no architecture.

`SCHEMES` has one row per precision that a user can ask for; `--keep PRECISION=PATTERN` gives single tensors another row. Every
quantizer works through the rows of a matrix in slices, so that its working memory does not grow with the matrix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import ExportError, UnsupportedError

__all__ = [
    "BLOCKS",
    "SCHEMES",
    "Blocks",
    "Policy",
    "Scheme",
    "block_size",
    "parse_keep",
    "quantize_blocks",
    "quantize_channels",
]

Floats = NDArray[np.float32]
_DAMPING = 0.05  # share of the mean moment that is added to each: what a text does not show is not known to be nothing
_SMALLEST_HALF = 6.2e-5  # of float16's normal numbers
_SLICE = 1 << 20  # elements worked on at once


@dataclass(frozen=True)
class Scheme:
    """One precision.

    Attributes:
        matrix: How the weights of linear layers are held: "float32", "float16", "channels" (int8, one scale per output channel,
            activations quantized as they come), or "blocks" (weights only, one scale per block of inputs).
        table: How embedding tables are held: "float32", "float16", "blocks" or "channels" (int8, one scale per entry).
        bits: Of "blocks", in matrices.
        block: Inputs that share a scale, in matrices.
        calibrated_block: The same, where the matrix is calibrated on text.
        table_bits: Of "blocks", in tables.
        table_block: Entries of a row that share a scale, in tables.
        tolerance: Largest relative error that an export may have: root mean square of the difference over that of the reference,
            about its mean. Float precisions are held to an absolute 1e-4 times `tolerance` in place of it.
    """

    matrix: str
    table: str
    bits: int
    block: int
    calibrated_block: int
    table_bits: int
    table_block: int
    tolerance: float


SCHEMES: Mapping[str, Scheme] = {
    "fp32": Scheme("float32", "float32", 32, 0, 0, 32, 0, tolerance=1e-4),
    "fp16": Scheme("float16", "float16", 16, 0, 0, 16, 0, tolerance=0.01),
    "int8": Scheme("channels", "blocks", 8, 0, 0, 8, 128, tolerance=0.25),
    "int8-block": Scheme("blocks", "blocks", 8, 64, 64, 8, 64, tolerance=0.10),
    "int4": Scheme("blocks", "blocks", 4, 32, 128, 4, 32, tolerance=0.5),
}

BLOCKS = (16, 32, 64, 128, 256)  # that `MatMulNBits` and `GatherBlockQuantized` both take


@dataclass(frozen=True)
class Policy:
    """Which scheme each tensor gets.

    Attributes:
        precision: Name of the scheme of all tensors that no pattern names.
        keep: (pattern, precision): the first pattern that matches a tensor's name wins, as in a shell ("*" any, "?" one character).
        matrices: Name of the scheme of linear layers, where it is another than that of tables.
        beside: Whether several rows are read side by side, for which the products of "channels" are two to four times as fast as those
            of "blocks": tables are then held like matrices, where these are "channels".
        block: Weights that share a scale in "blocks", in place of each scheme's own number.
    """

    precision: str
    keep: tuple[tuple[str, str], ...] = ()
    matrices: str | None = None
    beside: bool = False
    block: int | None = None
    used: set[str] = field(default_factory=set, compare=False)

    def __call__(self, tensor: str, *, exact: bool = False) -> Scheme:
        """The scheme of the tensor of this name; "fp32" where it is to be `exact` and no pattern says otherwise."""
        scheme = self._named(tensor, exact)
        if self.block is None or scheme.matrix != "blocks":
            return scheme
        return replace(scheme, block=self.block, calibrated_block=self.block, table_block=self.block)

    def _named(self, tensor: str, exact: bool) -> Scheme:
        for pattern, precision in self.keep:
            if fnmatchcase(tensor, pattern):
                self.used.add(pattern)
                return SCHEMES[precision]
        scheme = SCHEMES["fp32" if exact else self.precision]
        if self.beside and scheme.matrix == "channels":
            scheme = replace(scheme, table="channels")
        if exact or self.matrices is None:
            return scheme
        other = SCHEMES[self.matrices]
        return replace(
            scheme,
            matrix=other.matrix,
            bits=other.bits,
            block=other.block,
            calibrated_block=other.calibrated_block,
        )

    def check_used(self) -> None:
        """Raise `ExportError` where a pattern matched no tensor: it is a misspelling, not a wish."""
        if unused := [pattern for pattern, _ in self.keep if pattern not in self.used]:
            raise ExportError(
                f"no quantized tensor is named {unused[0]!r}; `edgenlp export --list-tensors SRC` prints the names"
            )


def parse_keep(items: tuple[str, ...] | list[str]) -> tuple[tuple[str, str], ...]:
    """`PRECISION=PATTERN` texts as (pattern, precision).

    Raises:
        UnsupportedError: An item is not of that form, or its precision unknown.
    """
    parsed = []
    for item in items:
        precision, equals, pattern = item.partition("=")
        if not equals or not pattern or precision not in SCHEMES:
            raise UnsupportedError(
                f"keep {item!r}: expected PRECISION=PATTERN with a precision of {', '.join(SCHEMES)}, as in fp32=*layer.0*"
            )
        parsed.append((pattern, precision))
    return tuple(parsed)


def quantize_channels(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8, one scale per output channel.

    Args:
        weight: [out, in].

    Returns:
        int8 [in, out], the layout of a matrix product's right side, and scales [out]: weight.T ≈ int8 * scales.
    """
    quantized = np.empty(weight.shape[::-1], np.int8)
    scales = np.empty(len(weight), np.float32)
    for part in _slices(weight):
        values = np.asarray(weight[part], np.float32)
        scales[part] = np.maximum(np.abs(values).max(axis=1), 1e-30) / 127
        quantized[:, part] = np.rint(values / scales[part, None]).astype(np.int8).T
    return quantized, scales


def block_size(width: int, wanted: int) -> int:
    """The block, at most `wanted`, for rows of `width` inputs: a power of two from 16 that divides them, else 16."""
    while wanted > 16 and width % wanted:
        wanted //= 2
    return wanted


class Blocks(NamedTuple):
    """A matrix [out, in] in blocks along its inputs, as `MatMulNBits` and `GatherBlockQuantized` of onnxruntime read them.

    Attributes:
        levels: uint8 [out, blocks, block * bits / 8]; two 4-bit levels to a byte, the lower first.
        scales: float32 [out, blocks]; a weight is (level - zero) * scale. Each is a float16's value where it does not lie below them.
        zeros: uint8 [out, bytes], packed as the levels are; None where every zero is 2^(bits-1).
    """

    levels: NDArray[np.uint8]
    scales: Floats
    zeros: NDArray[np.uint8] | None


def quantize_blocks(weight: Floats, bits: int, block: int, *, moments: Floats | None = None) -> Blocks:
    """A matrix in blocks: of 8 bits symmetric and rounded to nearest, of 4 bits with a zero of its own, and searched.

    Args:
        weight: [out, in]; the last block is filled with zeros.
        bits: 4 or 8.
        block: Inputs per scale.
        moments: Second moments [in, in] of the layer's inputs, Σ x xᵀ. With them the rounding error of each input is made good by the
            inputs that are still to be rounded (GPTQ: Frantar et al., 2022); 4 bits only.
    """
    if moments is not None and bits == 4:
        return _packed4(*_compensated4(np.asarray(weight, np.float32), moments, block))
    rows, width = weight.shape
    blocks = -(-width // block)
    levels = np.empty((rows, blocks, block), np.uint8)
    scales, zeros = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    for part in _slices(weight):
        values = np.zeros((part.stop - part.start, blocks * block), np.float32)
        values[:, :width] = weight[part]
        shaped = values.reshape(-1, blocks, block)
        if bits == 8:
            levels[part], scales[part] = _nearest8(shaped)
        else:
            levels[part], scales[part], zeros[part] = _searched4(shaped)
    return Blocks(levels, scales, None) if bits == 8 else _packed4(levels, scales, zeros)


def _nearest8(values: Floats) -> tuple[NDArray[np.uint8], Floats]:
    scale = _half(np.maximum(np.abs(values).max(axis=-1), 1e-30) / np.float32(127))
    return (np.clip(np.rint(values / scale[..., None]), -127, 127) + 128).astype(np.uint8), scale


def _searched4(values: Floats) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """Levels 0 … 15, scales and zeros of blocks.

    The range from the least to the largest weight, 0 included, is shrunk step by step; for each range the levels are rounded and the
    scale is refitted by least squares (Σwq / Σq², q the levels less the zero). The one of least squared error is kept.
    """
    low, high = np.minimum(values.min(axis=-1), 0), np.maximum(values.max(axis=-1), 0)
    energy = np.full(low.shape, -1.0, np.float32)  # (Σwq)² / Σq², what the best refit explains of Σw²
    levels = np.zeros(values.shape, np.uint8)
    scale, zero = np.full(low.shape, 1e-30, np.float32), np.zeros(low.shape, np.float32)
    for factor in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75):
        step = np.maximum((high - low) * np.float32(factor / 15), 1e-30)
        origin = np.clip(np.rint(-low * np.float32(factor) / step), 0, 15)
        trial = np.clip(np.rint(values / step[..., None]) + origin[..., None], 0, 15)
        centred = trial - origin[..., None]
        product, square = (values * centred).sum(-1), (centred * centred).sum(-1)
        explained = product * product / np.maximum(square, 1e-30)
        better = explained > energy
        energy = np.where(better, explained, energy)
        scale = np.where(better, product / np.maximum(square, 1e-30), scale)
        zero = np.where(better, origin, zero)
        levels = np.where(better[..., None], trial.astype(np.uint8), levels)
    return levels, _half(scale), zero.astype(np.uint8)


def _compensated4(weight: Floats, moments: Floats, block: int) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """GPTQ: inputs are rounded one after the other, each error spread over the later ones by the inverse of the moments.

    Scales and zeros of a block are searched when its turn comes, on the weights as they then are.
    """
    rows, width = weight.shape
    blocks = -(-width // block)
    levels = np.zeros((rows, blocks, block), np.uint8)
    scales, zeros = np.empty((rows, blocks), np.float32), np.empty((rows, blocks), np.uint8)
    damped = np.asarray(moments, np.float64)
    damped[np.diag_indices(width)] += max(_DAMPING * float(np.diag(damped).mean()), 1e-8)
    # moments = R Rᵀ with R upper triangular, by Cholesky from the last row up; the Cholesky factor of their inverse is then R⁻¹
    upper = _triangle_inverse(np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]).astype(np.float32)
    rest = weight.copy()
    for number in range(blocks):
        begin, end = number * block, min(width, (number + 1) * block)
        part = np.zeros((rows, 1, block), np.float32)
        part[:, 0, : end - begin] = rest[:, begin:end]
        _, scale, zero = (found[:, 0] for found in _searched4(part))
        scales[:, number], zeros[:, number], levels[:, number] = scale, zero, zero[:, None]
        errors = np.empty((rows, end - begin), np.float32)
        for column in range(begin, end):
            level = np.clip(np.rint(rest[:, column] / scale) + zero, 0, 15)
            levels[:, number, column - begin] = level
            error = (rest[:, column] - (level - zero) * scale) / upper[column, column]
            rest[:, column + 1 : end] -= error[:, None] * upper[column, column + 1 : end]
            errors[:, column - begin] = error
        rest[:, end:] -= errors @ upper[begin:end, end:]
    return levels, scales, zeros


def _triangle_inverse(upper: NDArray[Any]) -> NDArray[Any]:
    """The inverse of an upper triangular matrix, by halves: numpy has none that knows of the zeros."""
    size = len(upper)
    if size <= 128:
        return np.asarray(np.linalg.inv(upper))
    half = size // 2
    result = np.zeros_like(upper)
    result[:half, :half] = _triangle_inverse(upper[:half, :half])
    result[half:, half:] = _triangle_inverse(upper[half:, half:])
    result[:half, half:] = -result[:half, :half] @ upper[:half, half:] @ result[half:, half:]
    return result


def _packed4(levels: NDArray[np.uint8], scales: Floats, zeros: NDArray[np.uint8]) -> Blocks:
    """Levels [out, blocks, block] and zeros [out, blocks], one to a byte, two to a byte."""
    even = np.full((len(zeros), zeros.shape[1] + zeros.shape[1] % 2), 8, np.uint8)
    even[:, : zeros.shape[1]] = zeros
    return Blocks(_pairs(levels), scales, _pairs(even))


def _pairs(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    packed: NDArray[np.uint8] = (levels[..., 0::2] | levels[..., 1::2] << 4).astype(np.uint8)
    return packed


def _half(scales: Floats) -> Floats:
    """Rounded to float16 where that is a normal number, so that they can be stored as such without another rounding."""
    halves = scales.astype(np.float16).astype(np.float32)
    return np.where((np.abs(scales) < _SMALLEST_HALF) | (np.abs(scales) > 65000), scales, halves)


def _slices(weight: NDArray[Any]) -> Iterator[slice]:
    """Slices of rows of about `_SLICE` elements."""
    step = max(1, _SLICE // max(1, weight.shape[1]))
    for start in range(0, len(weight), step):
        yield slice(start, min(start + step, len(weight)))
