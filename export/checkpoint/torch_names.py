"""What the names in a pickle of torch.save mean: descriptions of tensors. Refuses to know how a pickle is read.

Knowing a name calls no function of that name: each entry of `GLOBALS` leads to code of this file, which takes
plain values and returns plain values. The originals are in torch/_utils.py and torch/serialization.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .stored import DTYPES


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers that lies in the zip under `key`: `count` of `dtype`; bytes of no dtype if that is None."""

    key: str
    dtype: str | None
    count: int


@dataclass(frozen=True, slots=True)
class TorchTensor:
    """A tensor as the pickle describes it. Nothing is checked yet but the types of the fields.

    Attributes:
        storage: where its numbers lie; several tensors may share one.
        dtype: a key of `DTYPES`, or another name for a dtype that cannot be read.
        offset: index of its first element in the storage.
        shape: the size of each dimension.
        strides: the step of each dimension, in elements.
        plain: False if the numbers stand for something else (a negated or conjugated view).
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[Any, ...]
    strides: tuple[Any, ...]
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Builder:
    """A name that may be called with arguments, and our own function for it, which gets them as one tuple."""

    name: str
    build: Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True, slots=True)
class StorageType:
    """A name that says what a storage holds: numbers of this dtype, or bytes if it is None."""

    dtype: str | None


@dataclass(frozen=True, slots=True)
class Dtype:
    """A name of a dtype."""

    name: str


class UnfitError(ValueError):
    """Arguments that no torch.save writes."""


def _ordered_dict(args: tuple[Any, ...]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    match args:
        case ():
            return found
        case (list() | tuple() as pairs,):
            for pair in pairs:
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise UnfitError
                set_item(found, pair[0], pair[1])
            return found
    raise UnfitError


def _size(args: tuple[Any, ...]) -> tuple[Any, ...]:
    match args:
        case (tuple() | list() as sizes,):
            return tuple(sizes)
    raise UnfitError


def _tensor_v2(args: tuple[Any, ...]) -> TorchTensor:
    """storage, offset, size, stride, requires_grad, hooks, and metadata if there is any (torch._utils)."""
    match args:
        case (Storage(dtype=str(dtype)) as storage, int(offset), tuple(shape), tuple(strides), _, _, *rest):
            return TorchTensor(storage, dtype, offset, shape, strides, plain=not any(rest))
    raise UnfitError


def _tensor_v3(args: tuple[Any, ...]) -> TorchTensor:
    """As v2, but the tensor brings the dtype, not the storage: for the dtypes without a storage class of their own."""
    match args:
        case (Storage(dtype=None) as storage, int(offset), tuple(shape), tuple(strides), _, _, Dtype(dtype), *rest):
            return TorchTensor(storage, dtype, offset, shape, strides, plain=not any(rest))
    raise UnfitError


def _parameter(args: tuple[Any, ...]) -> TorchTensor:
    match args:
        case (TorchTensor() as tensor, _, _) | (TorchTensor() as tensor, _, _, _):
            return tensor
    raise UnfitError


def _globals() -> dict[tuple[str, str], Builder | StorageType | Dtype]:
    storages = {
        "Double": "float64",
        "Float": "float32",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Int": "int32",
        "Short": "int16",
        "Char": "int8",
        "Byte": "uint8",
        "Bool": "bool",
        # These can be named, so that the message is about the tensor: they cannot be read.
        "ComplexFloat": "complex64",
        "ComplexDouble": "complex128",
    }
    unreadable = ("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
    builders: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
        ("collections", "OrderedDict"): _ordered_dict,
        ("torch", "Size"): _size,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor_v2,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    }
    return {
        **{(module, name): Builder(f"{module}.{name}", build) for (module, name), build in builders.items()},
        **{("torch", f"{prefix}Storage"): StorageType(dtype) for prefix, dtype in storages.items()},
        ("torch.storage", "UntypedStorage"): StorageType(None),
        **{("torch", name): Dtype(name) for name in (*DTYPES, *unreadable)},
    }


GLOBALS = MappingProxyType(_globals())


def set_item(target: Any, key: Any, value: Any) -> None:
    """Set an item of a dict that the pickle builds; `UnfitError` if it is no dict, or a key of no plain type."""
    # Tuples are refused as keys too: hashing tuples that hold one another twice, 60 deep, takes for ever.
    if not isinstance(target, dict) or not isinstance(key, str | int | float | None):
        raise UnfitError
    target[key] = value
