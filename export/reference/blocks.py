"""Transformer blocks in plain numpy, as decoders and the encoders that feed them have them. Knows no graph, no cache and no session.

They share the names of the checkpoint's tensors and the tables of positions with the graph writer, nothing else.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..families.alibi import biases
from ..families.matrices import matrix
from ..families.parts import Block, CrossAttention, Dense, FeedForward, Norm, RelativeBias, SelfAttention
from ..families.relative import relative_buckets
from ..families.rotary import tables
from .activations import activate

__all__ = ["Blocks", "Floats", "Watch", "attend", "places_of"]

Floats = NDArray[np.float32]
Watch = Callable[[str, Floats], None]


class Blocks:
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width].

    Args:
        checkpoint: Where the weights are.
        lengths: Tokens of each text.
        causal: Whether a token sees only those before it.
        memory: Per text what its cross-attention reads, [source tokens, width]; None where there is none.
        watch: Called with the key (`families.matrices.matrix`) and the input of each linear layer, but for the keys and values of the
            cross-attention, which read the memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        lengths: Sequence[int],
        *,
        causal: bool,
        memory: Sequence[Floats] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._causal = causal
        self._watch = watch
        self._cuts = np.cumsum(lengths)[:-1]
        self._places = np.concatenate([np.arange(length) for length in lengths])
        self._longest = max(lengths)
        self._memory = None if memory is None else np.concatenate(memory)
        self._memory_cuts = np.cumsum([len(states) for states in memory or ()])[:-1]

    def split(self, x: Floats) -> list[Floats]:
        """Per text its rows."""
        return np.split(x, self._cuts)

    def tensor(self, name: str) -> Floats:
        """A tensor in float32."""
        return np.asarray(self._checkpoint.tensor(name), np.float32)

    def rows(self, name: str, rows: NDArray[np.int64]) -> Floats:
        """Some rows of a table in float32."""
        return np.asarray(self._checkpoint.tensor(name)[rows], np.float32)

    def block(self, x: Floats, block: Block) -> Floats:
        """One block."""
        residual = np.float32(block.residual)
        mixed = self.norm(self.attention(self.norm(x, block.attention_norm), block.attention), block.attention_out_norm)
        if block.parallel:
            fed = self.feed_forward(self.norm(x, block.feed_forward_norm), block.feed_forward)
            return x + residual * (mixed + self.norm(fed, block.feed_forward_out_norm))
        x = self.norm(x + residual * mixed, block.attention_sum_norm)
        if block.cross:
            mixed = self.cross_attention(self.norm(x, block.cross_norm), block.cross)
            x = self.norm(x + residual * mixed, block.cross_sum_norm)
        fed = self.feed_forward(self.norm(x, block.feed_forward_norm), block.feed_forward)
        return self.norm(x + residual * self.norm(fed, block.feed_forward_out_norm), block.feed_forward_sum_norm)

    def attention(self, x: Floats, part: SelfAttention) -> Floats:
        """Self-attention and its output projection."""
        q, k, v = (self.dense(x, dense) for dense in (part.query, part.key, part.value))
        if part.norm_all:
            q, k = self.norm(q, part.query_norm), self.norm(k, part.key_norm)
        q, k, v = (array.reshape(len(x), -1, part.head_size) for array in (q, k, v))  # [tokens, heads, size]
        if not part.norm_all:
            q, k = self.norm(q, part.query_norm), self.norm(k, part.key_norm)
        if part.rotary:
            cosines, sines = (table[self._places][:, None] for table in tables(part.rotary, self._longest))
            q, k = _turned(q, cosines, sines), _turned(k, cosines, sines)
        shared = part.heads // part.kv_heads
        k, v = np.repeat(k, shared, axis=1), np.repeat(v, shared, axis=1)
        added = biases(part, self._longest)[:, None] if part.alibi else None  # [heads, queries or 1, keys]
        if part.relative:
            added = self.relative_bias(part.relative)
        texts = zip(self.split(q), self.split(k), self.split(v), strict=True)
        mixed = [
            attend(*text, scale=part.scale, softcap=part.softcap, added=added, hidden=self._hidden(len(text[0]), part))
            for text in texts
        ]
        return self.dense(np.concatenate(mixed), part.output)

    def cross_attention(self, x: Floats, part: CrossAttention) -> Floats:
        """Attention to the memory and its output projection."""
        assert self._memory is not None
        q = self.dense(x, part.query)
        k, v = (self._product(self._memory, dense)[1] for dense in (part.key, part.value))
        q, k, v = (array.reshape(len(array), -1, part.head_size) for array in (q, k, v))
        read = (np.split(array, self._memory_cuts) for array in (k, v))
        mixed = [attend(*text, scale=part.scale) for text in zip(self.split(q), *read, strict=True)]
        return self.dense(np.concatenate(mixed), part.output)

    def relative_bias(self, part: RelativeBias) -> Floats:
        """What is added to the scaled scores of the longest text, [heads, queries, keys]."""
        table = self.tensor(part.table)
        if part.columns is not None:
            table = table[:, list(part.columns)]
        apart = np.arange(self._longest)[None] - np.arange(self._longest)[:, None]
        buckets = relative_buckets(apart, part.buckets, part.farthest, both_ways=not self._causal)
        return table[buckets].transpose(2, 0, 1)

    def feed_forward(self, x: Floats, part: FeedForward) -> Floats:
        """The feed-forward layer."""
        up = self.dense(x, part.up)
        if part.gate:
            return self.dense(activate(self.dense(x, part.gate), part.activation) * up, part.down)
        return self.dense(activate(up, part.activation), part.down)

    def steps(self, x: Floats, steps: Sequence[Dense | Norm | str]) -> Floats:
        """Linear layers, norms and activations by name, one after another."""
        for step in steps:
            if isinstance(step, Dense):
                x = self.dense(x, step)
            else:
                x = self.norm(x, step) if isinstance(step, Norm) else activate(x, step)
        return x

    def dense(self, x: Floats, part: Dense) -> Floats:
        """A linear layer."""
        key, y = self._product(x, part)
        if self._watch:
            self._watch(key, x)
        return y

    def norm(self, x: Floats, part: Norm | None) -> Floats:
        """Over the last axis; what it was given where there is no norm."""
        if part is None:
            return x
        if part.kind == "layer":
            x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(part.eps))
        if part.weight:
            x = x * (self.tensor(part.weight) + np.float32(part.offset))
        return x + self.tensor(part.bias) if part.bias else x

    def _product(self, x: Floats, part: Dense) -> tuple[str, Floats]:
        """A linear layer's key and what it gives."""
        key, weight, bias = matrix(self._checkpoint, part)
        y: Floats = x @ np.asarray(weight, np.float32).T
        return key, y if bias is None else y + np.asarray(bias, np.float32)

    def _hidden(self, length: int, part: SelfAttention) -> NDArray[np.bool_] | None:
        """Which keys each query of a text does not see, [queries, keys]; None where it sees all."""
        if not self._causal:
            return None
        behind = np.arange(length)[:, None] - np.arange(length)[None]
        hidden: NDArray[np.bool_] = behind < 0
        return hidden if part.window is None else hidden | (behind >= part.window)


def places_of(ids: NDArray[np.int64], first: int, skipped: int | None) -> NDArray[np.int64]:
    """Rows of the position table that the tokens of one text take; all that are `skipped` take the one before the `first`."""
    if skipped is None:
        return np.arange(len(ids)) + first
    real = ids != skipped
    places: NDArray[np.int64] = np.cumsum(real) * real + first - 1
    return places


def _turned(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Heads [tokens, heads, size], their first 2 x pairs dimensions turned by the tables [tokens, 1, pairs]."""
    pairs = cosines.shape[-1]
    left, right, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate([left * cosines - right * sines, right * cosines + left * sines, rest], axis=-1)


def attend(
    q: Floats,
    k: Floats,
    v: Floats,
    *,
    scale: float,
    softcap: float | None = None,
    added: Floats | None = None,
    hidden: NDArray[np.bool_] | None = None,
) -> Floats:
    """Softmax(mask(scale q k^T + added)) v of one text; all [tokens, heads, size], queries and keys of any two numbers of tokens."""
    queries, keys = len(q), len(k)
    q, k, v = (array.transpose(1, 0, 2) for array in (q, k, v))  # [heads, tokens, size]
    scores = q @ k.transpose(0, 2, 1) * np.float32(scale)
    if softcap:
        scores = np.tanh(scores / np.float32(softcap)) * np.float32(softcap)
    if added is not None:
        scores = scores + added[:, :queries, :keys]
    if hidden is not None:
        scores = np.where(hidden, np.float32(-np.inf), scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Floats = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(queries, -1)
