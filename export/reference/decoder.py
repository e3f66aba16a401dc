"""What a decoder answers, in plain numpy: the reference that bundles are verified against. Knows no graph, no cache and no session.

It shares the names of the checkpoint's tensors and the tables of positions with the graph writer, nothing else.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import Checkpoint
from ..families.alibi import biases
from ..families.matrices import matrix
from ..families.parts import Block, Decoder, Dense, FeedForward, Norm, SelfAttention
from ..families.rotary import tables
from .activations import activate

__all__ = ["DecoderForward", "forward_decoder"]

Floats = NDArray[np.float32]
_COLUMNS = 16384  # of logits at a time: a word table of 256,000 rows in float16 would otherwise be copied whole


def forward_decoder(checkpoint: Checkpoint, body: Decoder, texts: Sequence[Sequence[int]]) -> list[Floats]:
    """The forward pass in float32, layer by layer over all texts at once, so that each weight is read once.

    Args:
        checkpoint: Where the weights are.
        body: What the decoder consists of.
        texts: Ids of each text, at least one, each text at least one id long.

    Returns:
        Per text its logits [tokens, columns].
    """
    model = DecoderForward(checkpoint, body, [len(text) for text in texts])
    x = model.embed(np.concatenate([np.asarray(text, np.int64) for text in texts]))
    for block in body.blocks:
        x = model.block(x, block)
        checkpoint.release()
    return model.split(model.logits(x))


class DecoderForward:
    """The parts of the forward pass, on tokens of all texts side by side [tokens, width].

    Args:
        checkpoint: Where the weights are.
        body: What the decoder consists of.
        lengths: Tokens of each text.
        watch: Called with the key (`families.matrices.matrix`) and the input of each linear layer.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        body: Decoder,
        lengths: Sequence[int],
        *,
        watch: Callable[[str, Floats], None] | None = None,
    ) -> None:
        self._watch = watch
        self._checkpoint = checkpoint
        self._body = body
        self._cuts = np.cumsum(lengths)[:-1]
        self._places = np.concatenate([np.arange(length) for length in lengths])
        self._longest = max(lengths)

    def split(self, x: Floats) -> list[Floats]:
        """Per text its rows."""
        return np.split(x, self._cuts)

    def tensor(self, name: str) -> Floats:
        """A tensor in float32."""
        return np.asarray(self._checkpoint.tensor(name), np.float32)

    def embed(self, ids: NDArray[np.int64]) -> Floats:
        """What the first block reads."""
        body = self._body
        x = np.asarray(self._checkpoint.tensor(body.words)[ids], np.float32) * np.float32(body.scale)
        if body.project_in:
            x = self.dense(x, body.project_in)
        if body.positions:
            rows = self._places + body.first_position
            x = x + np.asarray(self._checkpoint.tensor(body.positions)[rows], np.float32)
        return self.norm(x, body.embedding_norm)

    def block(self, x: Floats, block: Block) -> Floats:
        """One block."""
        residual = np.float32(block.residual)
        mixed = self.norm(self.attention(self.norm(x, block.attention_norm), block.attention), block.attention_out_norm)
        if block.parallel:
            fed = self.feed_forward(self.norm(x, block.feed_forward_norm), block.feed_forward)
            return x + residual * (mixed + self.norm(fed, block.feed_forward_out_norm))
        x = self.norm(x + residual * mixed, block.attention_sum_norm)
        fed = self.feed_forward(self.norm(x, block.feed_forward_norm), block.feed_forward)
        return self.norm(x + residual * self.norm(fed, block.feed_forward_out_norm), block.feed_forward_sum_norm)

    def attention(self, x: Floats, part: SelfAttention) -> Floats:
        """Causal self-attention and its output projection."""
        q, k, v = (self.dense(x, dense) for dense in (part.query, part.key, part.value))
        if part.norm_all:
            q, k = self.norm(q, part.query_norm), self.norm(k, part.key_norm)
        q, k, v = (array.reshape(len(x), -1, part.head_size) for array in (q, k, v))  # [tokens, heads, size]
        if not part.norm_all:
            q, k = self.norm(q, part.query_norm), self.norm(k, part.key_norm)
        if part.rotary:
            cosines, sines = (table[self._places][:, None] for table in tables(part.rotary, self._longest))
            q, k = _turned(q, cosines, sines), _turned(k, cosines, sines)
        added = biases(part, self._longest) if part.alibi else None
        texts = zip(self.split(q), self.split(k), self.split(v), strict=True)
        mixed = [_attend(*text, part, added) for text in texts]
        return self.dense(np.concatenate(mixed), part.output)

    def feed_forward(self, x: Floats, part: FeedForward) -> Floats:
        """The feed-forward layer."""
        up = self.dense(x, part.up)
        if part.gate:
            return self.dense(activate(self.dense(x, part.gate), part.activation) * up, part.down)
        return self.dense(activate(up, part.activation), part.down)

    def logits(self, x: Floats) -> Floats:
        """The final norm and the head."""
        body = self._body
        x = self.norm(x, body.norm)
        if body.project_out:
            x = self.dense(x, body.project_out)
        if body.head:
            _, weight, bias = matrix(self._checkpoint, body.head)
        else:
            weight = self._checkpoint.tensor(body.words)
            bias = self._checkpoint.tensor(body.head_bias) if body.head_bias else None
        logits = np.concatenate([x @ rows.T for rows in _slices(weight)], axis=1)
        if bias is not None:
            logits += np.asarray(bias, np.float32)
        logits *= np.float32(body.logits_scale)
        if body.logits_cap:
            logits = np.tanh(logits / np.float32(body.logits_cap)) * np.float32(body.logits_cap)
        return logits

    def dense(self, x: Floats, part: Dense) -> Floats:
        """A linear layer."""
        key, weight, bias = matrix(self._checkpoint, part)
        if self._watch:
            self._watch(key, x)
        y: Floats = x @ np.asarray(weight, np.float32).T
        return y if bias is None else y + np.asarray(bias, np.float32)

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


def _slices(weight: NDArray[np.generic]) -> Iterator[Floats]:
    """The rows of a matrix in float32, some at a time."""
    for first in range(0, len(weight), _COLUMNS):
        yield np.asarray(weight[first : first + _COLUMNS], np.float32)


def _turned(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    """Heads [tokens, heads, size], their first 2 x pairs dimensions turned by the tables [tokens, 1, pairs]."""
    pairs = cosines.shape[-1]
    left, right, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return np.concatenate([left * cosines - right * sines, right * cosines + left * sines, rest], axis=-1)


def _attend(q: Floats, k: Floats, v: Floats, part: SelfAttention, added: Floats | None) -> Floats:
    """Softmax(mask(scale q k^T + biases)) v of one text; q [tokens, heads, size], k and v [tokens, kv heads, size]."""
    length = len(q)
    shared = part.heads // part.kv_heads
    q, k, v = (array.transpose(1, 0, 2) for array in (q, k, v))  # [heads, tokens, size]
    k, v = np.repeat(k, shared, axis=0), np.repeat(v, shared, axis=0)
    scores = q @ k.transpose(0, 2, 1) * np.float32(part.scale)
    if part.softcap:
        scores = np.tanh(scores / np.float32(part.softcap)) * np.float32(part.softcap)
    if added is not None:
        scores = scores + added[:, None, :length]
    behind = np.arange(length)[:, None] - np.arange(length)[None]
    seen = behind >= 0 if part.window is None else (behind >= 0) & (behind < part.window)
    scores = np.where(seen, scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Floats = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return mixed.transpose(1, 0, 2).reshape(length, -1)
