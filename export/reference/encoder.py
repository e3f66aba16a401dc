"""What an encoder answers, in plain numpy: the reference that bundles are verified against. Knows no graph and no session.

It shares the names of the checkpoint's tensors and the buckets of relative positions with the graph writer, nothing else.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..families.bert import relative_buckets
from ..families.parts import Dense, Encoder, Head, Layer, Norm, RelativeBias
from .activations import activate

__all__ = ["Window", "forward_encoder"]

Floats = NDArray[np.float32]


class Window(NamedTuple):
    """One text: its ids and type ids."""

    ids: list[int]
    type_ids: list[int]


def forward_encoder(
    checkpoint: Checkpoint, body: Encoder, head: Head, windows: Sequence[Window], rows: Sequence[Sequence[int]]
) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        body: What the encoder consists of.
        head: What stands on it.
        windows: Ids and type ids of each text.
        rows: Per text the positions that a masked LM projects.

    Returns:
        Per text: [columns] of a head on the first token, [len(rows), columns] of a masked LM, else [tokens, columns].
    """
    model = _Reference(checkpoint)
    lengths = [len(window.ids) for window in windows]
    ends = np.cumsum(lengths)
    x = model.embed(body, windows)  # [all tokens, hidden]
    for layer in body.layers:
        x = model.layer(x, layer, body.bias, ends)
        checkpoint.release()
    starts = ends - lengths
    if head.first_token:
        x, parts = x[starts], np.arange(1, len(windows))
    elif head.kind == "masked-lm":
        x = x[np.concatenate([start + np.asarray(wanted) for start, wanted in zip(starts, rows, strict=True)])]
        parts = np.cumsum([len(wanted) for wanted in rows])[:-1]
    else:
        parts = ends[:-1]
    for step in head.steps:
        x = (
            model.dense(x, step)
            if isinstance(step, Dense)
            else model.norm(x, step)
            if isinstance(step, Norm)
            else activate(x, step)
        )
    if head.tied:
        x = x @ model.tensor(head.tied).T + (model.tensor(head.tied_bias) if head.tied_bias else np.float32(0))
    return [part[0] if head.first_token else part for part in np.split(x, parts)]


class _Reference:
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def tensor(self, name: str) -> Floats:
        return np.asarray(self._checkpoint.tensor(name), np.float32)

    def dense(self, x: Floats, part: Dense) -> Floats:
        y = x @ self.tensor(part.weight).T
        return y + self.tensor(part.bias) if part.bias else y

    def norm(self, x: Floats, part: Norm) -> Floats:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + part.eps) * self.tensor(str(part.weight))
        result: Floats = scaled + self.tensor(part.bias) if part.bias else scaled
        return result

    def embed(self, body: Encoder, windows: Sequence[Window]) -> Floats:
        tokens = np.concatenate([np.asarray(window.ids) for window in windows])
        places = np.concatenate([_places(np.asarray(window.ids), body) for window in windows])
        x = np.asarray(self._checkpoint.tensor(body.words)[tokens], np.float32) + self.tensor(body.positions)[places]
        if body.types:
            table = self.tensor(body.types)
            kinds = np.concatenate([np.asarray(window.type_ids) for window in windows])
            x = x + table[kinds if len(table) > 1 else 0]
        x = self.norm(x, body.norm)
        return self.dense(x, body.projection) if body.projection else x

    def layer(self, x: Floats, layer: Layer, bias: RelativeBias | None, ends: NDArray[np.int64]) -> Floats:
        part = layer.attention
        q, k, v = (self.dense(x, d) for d in (part.query, part.key, part.value))
        texts = zip(np.split(q, ends[:-1]), np.split(k, ends[:-1]), np.split(v, ends[:-1]), strict=True)
        table = self.tensor(bias.table) if bias else None
        mixed = np.concatenate([_attend(*text, part.heads, bias, table) for text in texts])
        x = self.norm(x + self.dense(mixed, part.output), layer.attention_norm)
        return self.norm(
            x + self.dense(activate(self.dense(x, layer.up), layer.activation), layer.down), layer.ffn_norm
        )


def _places(ids: NDArray[np.int64], body: Encoder) -> NDArray[np.int64]:
    """Rows of the position table that the tokens of one text take."""
    if body.skipped_id is None:
        return np.arange(len(ids))
    real = ids != body.skipped_id
    places: NDArray[np.int64] = np.cumsum(real) * real + body.first_position - 1
    return places


def _attend(q: Floats, k: Floats, v: Floats, heads: int, bias: RelativeBias | None, table: Floats | None) -> Floats:
    """Softmax(q k^T / sqrt(size) + bias) v of one text, all [tokens, heads * size]."""
    q, k, v = (array.reshape(len(array), heads, -1).transpose(1, 0, 2) for array in (q, k, v))
    scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(q.shape[-1]))
    if bias is not None and table is not None:
        apart = np.arange(q.shape[1])[None, :] - np.arange(q.shape[1])[:, None]
        scores = scores + table[relative_buckets(apart, bias.buckets, bias.farthest)].transpose(2, 0, 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Floats = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1)
