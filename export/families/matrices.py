"""The weights of linear layers as matrices [out, in], however a checkpoint lays them out. Knows no architecture and no graph."""

from typing import Any

from numpy.typing import NDArray

from edgenlp.errors import CheckpointError

from ..checkpoint import Checkpoint
from .parts import Dense, Slab

__all__ = ["matrix", "rows_of"]


def matrix(checkpoint: Checkpoint, dense: Dense) -> tuple[str, NDArray[Any], NDArray[Any] | None]:
    """A linear layer's own weight and bias; views of the mapped file, but for the parts of more than one group, which are copied.

    Returns:
        A key that no other part of the same tensor has: the weight's name, with `[first:last]` where the layer is a proper part
        of it; the weight [out, in] and the bias [out] or None, in the dtype that `Checkpoint.tensor` gives.

    Raises:
        CheckpointError: A tensor is missing, or is no whole number of parts.
    """
    weight = checkpoint.tensor(dense.weight)
    if dense.transposed:
        weight = weight.T
    bias = checkpoint.tensor(dense.bias).reshape(-1) if dense.bias else None  # BART's final_logits_bias is [1, columns]
    slab = dense.slab
    if slab is None or (slab.first == 0 and slab.last == slab.parts):
        return dense.weight, weight, bias
    key = f"{dense.weight}[{slab.first}:{slab.last}]"
    rows_of(checkpoint, dense)
    return key, _cut(weight, slab), bias if bias is None or dense.own_bias else _cut(bias, slab)


def rows_of(checkpoint: Checkpoint, dense: Dense) -> tuple[int, int]:
    """The shape [out, in] of a linear layer's own weight, from the file's table: no data is read.

    Raises:
        CheckpointError: A tensor is missing, is no matrix, is no whole number of parts, or the bias does not fit it.
    """
    shape = checkpoint.shape(dense.weight)
    if len(shape) != 2:
        raise CheckpointError(f"{dense.weight} has shape {list(shape)}, expected a matrix; check the weights")
    out, width = reversed(shape) if dense.transposed else shape
    slab = dense.slab
    pieces = slab.groups * slab.parts if slab else 1
    own = out // pieces * slab.groups * (slab.last - slab.first) if slab else out
    biased = own if dense.own_bias else out
    if dense.bias and (found := checkpoint.shape(dense.bias)) not in ((biased,), (1, biased)):
        raise CheckpointError(f"{dense.bias} has shape {list(found)}, its weight needs {[biased]}; check the weights")
    if slab is None:
        return out, width
    if out % pieces:
        raise CheckpointError(
            f"{dense.weight} gives {out} values, which are not {slab.groups} groups of {slab.parts} equal parts;"
            " check that config.json belongs to these weights"
        )
    return own, width


def _cut(rows: NDArray[Any], slab: Slab) -> NDArray[Any]:
    """The slab's rows; [rows, ...] -> [fewer rows, ...]."""
    size = len(rows) // (slab.groups * slab.parts)
    if slab.groups == 1:
        return rows[slab.first * size : slab.last * size]
    packed = rows.reshape(slab.groups, slab.parts, size, *rows.shape[1:])
    return packed[:, slab.first : slab.last].reshape(-1, *rows.shape[1:])
