"""The safetensors format: which tensors a file holds, and where. Reads the header; refuses to touch the data.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes, the header's length as an unsigned little-endian
integer; the header, a JSON object of name -> {dtype, shape, data_offsets}; then the data, without gaps or overlaps.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..strict_json import parse_object
from .stored import DTYPES, Stored, place

MAX_HEADER = 100_000_000  # bytes; the limit of the format's own implementation

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
    }
)
# Dtypes of the format that no graph of ours can hold: fine ones for a GPU, and complex numbers.
_UNSUPPORTED = ("F8_", "F6_", "F4", "C64")


def read_safetensors(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name, as stored.

    Raises:
        CheckpointError: the file is truncated, damaged or hostile.
        UnsupportedError: a tensor has a dtype without an equivalent here, or the weights are not laid out as PyTorch's.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(
                f"{file} has {size:,} bytes, but a safetensors header of {length:,} bytes was announced. "
                "The file is truncated or no safetensors file: fetch it again."
            )
        if length > MAX_HEADER:
            raise CheckpointError(
                f"{file} announces a header of {length:,} bytes; the format allows {MAX_HEADER:,}. Do not trust it."
            )
        header = parse_object(stream.read(length), f"the header of {file}", unique=True)
    _check_layout(file, header.pop("__metadata__", None))
    return _without_gaps(file, header, range(8 + length, size))


def _check_layout(file: Path, metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{file}: __metadata__ is not an object. The file is damaged: fetch it again.")
    if metadata.get("format") in ("tf", "flax"):
        # transformers transposes and renames such weights on loading; the same names would mean other matrices here.
        raise UnsupportedError(
            f"{file} holds weights laid out for {'TensorFlow' if metadata['format'] == 'tf' else 'Flax'}, expected "
            "PyTorch's layout. Load the folder with transformers and PyTorch and save it with save_pretrained()."
        )


def _without_gaps(file: Path, header: dict[str, Any], data: range) -> dict[str, Stored]:
    """Every tensor of the header, checked to fill the file's data end to end."""
    spans = {name: _span(file, name, entry) for name, entry in header.items()}
    tensors: dict[str, Stored] = {}
    at = 0  # bytes from the start of the data
    for name in sorted(spans, key=lambda name: (spans[name], name)):
        begin, end = spans[name]
        what = f"{file}: tensor {name[:200]!r}"
        if begin != at:
            raise CheckpointError(
                f"{what} begins at byte {begin} of the data, expected {at}: tensors overlap or leave a gap. "
                "The file is damaged: fetch it again."
            )
        if end > len(data):
            raise CheckpointError(
                f"{what} ends at byte {end} of the data, which has {len(data)}. The file is truncated: fetch it again."
            )
        entry = header[name]
        dtype = _dtype(what, entry["dtype"])
        room = range(data.start + begin, data.start + end)
        tensors[name] = place(file, name, dtype=dtype, shape=entry["shape"], strides=None, offset=0, room=room)
        needed = math.prod(entry["shape"]) * DTYPES[dtype].itemsize
        if needed != end - begin:
            raise CheckpointError(
                f"{what} needs {needed} bytes for its shape, but {end - begin} are stored. "
                "The file is damaged: fetch it again."
            )
        at = end
    if at != len(data):
        raise CheckpointError(
            f"{file} has {len(data) - at:,} bytes after its last tensor, expected none. "
            "The file is damaged: fetch it again."
        )
    return tensors


def _span(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """The first byte of a tensor and one past its last, counted from the start of the data."""
    match entry:
        case {"dtype": str(), "shape": list(), "data_offsets": [int(begin), int(end)]} if 0 <= begin <= end:
            return begin, end
    raise CheckpointError(
        f"{file}: the entry of tensor {name[:200]!r} lacks a plausible dtype, shape or data_offsets. "
        "The file is damaged: fetch it again."
    )


def _dtype(what: str, name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith(_UNSUPPORTED):
        raise UnsupportedError(
            f"{what} is stored as {name[:20]}, which cannot be exported. Expected one of {', '.join(_NAMES)}: "
            "load the checkpoint with transformers, convert it to float32 and save it with save_pretrained()."
        )
    raise CheckpointError(f"{what} has the unknown dtype {name[:20]!r}, expected one of {', '.join(_NAMES)}.")
