"""The zip file of torch.save (PyTorch 1.6 and later): which tensors it holds, and where. Refuses to unpack or execute.

The layout is that of torch/serialization.py: `<root>/data.pkl` describes the tensors, `<root>/data/<key>` are their
numbers, stored without compression, so that they can be mapped in place. Names inside the zip are only looked up, never
opened as paths. CRCs are not verified: that would read all the data, and torch.save can be told to leave them out.
"""

import math
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from edgenlp.errors import CheckpointError, UnsupportedError

from .stored import DTYPES, Stored, place
from .torch_names import Storage, TorchTensor
from .torch_pickle import MAX_PICKLE, read_pickle

# "PK\3\4", then version, flags, method, time, date, crc, two sizes, length of the name, length of the extra field.
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1  # flag bit 0

_RESAVE = (
    "Load the folder with transformers and PyTorch and save it with save_pretrained(folder, safe_serialization=True)."
)


def read_torch_zip(file: Path) -> dict[str, Stored]:
    """The tensors of a file of torch.save by name, as stored; what is no tensor is left out.

    Tensors are looked for in the dict that was saved and, if it holds none, in its "state_dict" or "model".

    Raises:
        CheckpointError: the file is truncated, damaged or hostile, or holds no named tensors.
        UnsupportedError: the file is of the format before PyTorch 1.6, is TorchScript, big-endian, or has a tensor of
            a dtype without an equivalent here.
    """
    with file.open("rb") as stream:
        _check_kind(file, stream.read(4))
        records = _records(file, stream)
        root = _root(file, records)
        if f"{root}/byteorder" in records and _content(stream, records[f"{root}/byteorder"], 16) != b"little":
            raise UnsupportedError(f"{file} was saved on a big-endian machine. {_RESAVE}")
        where = f"{file}: {root[:100]}/data.pkl"
        found = read_pickle(_content(stream, records[f"{root}/data.pkl"], MAX_PICKLE + 1), where)
    tensors = _named_tensors(file, found)
    size = file.stat().st_size
    return {name: _place(file, name, tensor, records=records, root=root, size=size) for name, tensor in tensors.items()}


def _check_kind(file: Path, head: bytes) -> None:
    if head == b"PK\x03\x04":
        return
    if head.startswith(b"\x80"):  # a bare pickle
        raise UnsupportedError(f"{file} has the format of torch.save before PyTorch 1.6, which is not read. {_RESAVE}")
    raise CheckpointError(f"{file} is not a file of torch.save: it is no zip file. Fetch it again.")


def _records(file: Path, stream: BinaryIO) -> dict[str, range]:
    """The bytes of each record of the zip by its full name.

    The directory at the zip's end knows the size of a record but not where it begins: the header in front of the record
    has fields of varying length, with which torch.save aligns the data. So each header is read.
    """
    size = file.stat().st_size
    records: dict[str, range] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise UnsupportedError(f"{file} is a TorchScript program, expected a table of weights. {_RESAVE}")
            for entry in archive.infolist():
                if entry.filename in records:
                    raise CheckpointError(f"{file} has two records named {entry.filename[:200]!r}. Do not trust it.")
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
                    raise CheckpointError(
                        f"{file}: record {entry.filename[:200]!r} is compressed or encrypted; torch.save does neither. "
                        f"Fetch the file from its author, or: {_RESAVE}"
                    )
                stream.seek(entry.header_offset)
                magic, *_, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
                start = entry.header_offset + _LOCAL_HEADER.size + name + extra
                # The sizes are equal in an honest zip; neither may reach past the file.
                end = start + max(entry.file_size, entry.compress_size)
                if magic != b"PK\x03\x04" or entry.file_size != entry.compress_size or end > size:
                    raise CheckpointError(f"{file}: record {entry.filename[:200]!r} is damaged. Fetch the file again.")
                records[entry.filename] = range(start, end)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as error:
        # Hostile directories lead to all of these: odd versions, names, lengths, and offsets before the file's start.
        raise CheckpointError(f"{file} is not a whole zip file: {error}. It is truncated: fetch it again.") from error
    return records


def _root(file: Path, records: dict[str, range]) -> str:
    """The folder inside the zip that holds everything; torch.save names it after the file."""
    roots = [name.removesuffix("/data.pkl") for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise CheckpointError(
            f"{file} is a zip file with {len(roots)} records named data.pkl, expected one: it is not from torch.save. "
            "Expected the weights of a checkpoint: fetch the file of that name from the model's author."
        )
    return roots[0]


def _content(stream: BinaryIO, record: range, limit: int) -> bytes:
    """The first `limit` bytes of a record."""
    stream.seek(record.start)
    return stream.read(min(len(record), limit))


def _named_tensors(file: Path, found: Any) -> dict[str, TorchTensor]:
    tables = [found, found.get("state_dict"), found.get("model")] if isinstance(found, dict) else []
    for table in tables:
        if not isinstance(table, dict):
            continue
        tensors = {
            name: value for name, value in table.items() if isinstance(name, str) and isinstance(value, TorchTensor)
        }
        if tensors:
            return tensors
    raise CheckpointError(
        f"{file} holds no dict of named tensors, neither by itself nor under 'state_dict' or 'model'. "
        "Save the model's state_dict() with torch.save, or better the model with save_pretrained()."
    )


def _place(file: Path, name: str, tensor: TorchTensor, *, records: dict[str, range], root: str, size: int) -> Stored:
    what = f"{file}: tensor {name[:200]!r}"
    if tensor.dtype not in DTYPES or not tensor.plain:
        kind = tensor.dtype if tensor.plain else "a negated or conjugated view"
        raise UnsupportedError(
            f"{what} is stored as {kind}, which cannot be exported. Convert it to float32. {_RESAVE}"
        )
    room = _room(what, tensor.storage, records=records, root=root)
    stored = place(
        file, name, dtype=tensor.dtype, shape=tensor.shape, strides=tensor.strides, offset=tensor.offset, room=room
    )
    # Strides of 0 repeat numbers without storing them. A little is normal; terabytes from one number are not.
    if math.prod(stored.shape) * DTYPES[tensor.dtype].itemsize > size:
        raise CheckpointError(f"{what} of shape {stored.shape} is larger than its whole file. The file is hostile.")
    return stored


def _room(what: str, storage: Storage, *, records: dict[str, range], root: str) -> range:
    """The bytes of the file that a tensor's storage has."""
    record = records.get(f"{root}/data/{storage.key}")
    if record is None:
        raise CheckpointError(
            f"{what} refers to the record {storage.key[:100]!r}, which the file lacks. Fetch the file again."
        )
    width = 1 if storage.dtype is None else DTYPES[storage.dtype].itemsize
    if not 0 <= storage.count * width <= len(record):
        raise CheckpointError(
            f"{what} refers to {storage.count} numbers of {width} bytes, but {len(record):,} bytes are there for them. "
            "The file is truncated: fetch it again."
        )
    return range(record.start, record.start + storage.count * width)
