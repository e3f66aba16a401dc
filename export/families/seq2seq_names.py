"""What readers of encoder-decoders have in common: word tables, heads, attention, where a text starts. Knows no architecture by name.

Dimensions are read from the weights, layer by layer, so that pruned heads, feed-forward layers of unequal width and dropped layers
need no special case; the config says what weights cannot.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .decoder_names import Names, Row
from .matrices import rows_of
from .parts import CrossAttention, Dense, FeedForward, SelfAttention

__all__ = [
    "SIDES",
    "Attends",
    "Sides",
    "Words",
    "cross_attention",
    "feed_forward",
    "norms",
    "open_sides",
    "self_attention",
    "token",
]

SIDES = ("encoder", "decoder")
# Where a word table that all share may be, in the order in which transformers prefers them
_SHARED = ("shared", "decoder.embed_tokens", "encoder.embed_tokens")
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Attends:
    """Paths of an attention inside a layer: the part that holds it, then query, key, value and output in it."""

    part: str
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"
    output: str = "out_proj"


@dataclass(frozen=True)
class Words:
    """Word tables and head.

    Attributes:
        encoder, decoder: Names of the tables.
        head: The language modelling head, None where it is the decoder's table.
        head_bias: Name of its bias where it is.
    """

    encoder: str
    decoder: str
    head: Dense | None
    head_bias: str | None


@dataclass(frozen=True)
class Sides:
    """Both halves of a checkpoint.

    Attributes:
        base: Prefix of the tensors of both.
        encoder, decoder: Finders of the tensors of each.
    """

    base: str
    encoder: Names
    decoder: Names

    def words(self, *, separate: bool, bias: str | None = None) -> Words:
        """The word tables, which may be stored once or several times, and the head.

        Args:
            separate: Whether encoder and decoder may each have a table of their own.
            bias: Name of the bias of the logits, where there may be one; one that is nothing but zeros counts as none.

        Raises:
            CheckpointError: There is no table, no head, or they do not fit.
        """
        names = self.decoder
        checkpoint, width = names.checkpoint, names.number("hidden_size")
        shared = [f"{self.base}{path}.weight" for path in _SHARED]
        tied = names.flag("tie_word_embeddings")
        found = [name for name in shared if name in checkpoint]
        if tied and not found and _HEAD in checkpoint:
            found = [_HEAD]
        if not found:
            raise CheckpointError(
                f"{checkpoint.folder} holds no word table: none of {', '.join(shared)} is there; check the weights"
            )
        tables = []
        for side in SIDES:
            own = f"{self.base}{side}.embed_tokens.weight"
            name = own if separate and own in checkpoint else found[0]
            if names.table(name) != width:
                raise CheckpointError(
                    f"{name} is {names.table(name)} wide, the layers are {width}; check the weights and config.json"
                )
            tables.append(name)
        rows = checkpoint.shape(tables[1])[0]
        columns = rows if tied or _HEAD not in checkpoint else checkpoint.shape(_HEAD)[0]
        if columns > rows:
            raise CheckpointError(
                f"{_HEAD} writes {columns} tokens, {tables[1]} reads {rows}; check the weights and config.json"
            )
        said = bias if bias and bias in checkpoint else None
        if said:
            names.expect(said, (1, columns))
            said = said if np.any(checkpoint.tensor(said)) else None
        if tied:
            return Words(tables[0], tables[1], None, said)
        if _HEAD not in checkpoint:
            raise CheckpointError(
                f"{checkpoint.folder} holds no head: {_HEAD} is missing, and by config.json it is not the word table;"
                " save the model with its language modelling head, or set tie_word_embeddings to true"
            )
        head = Dense(_HEAD, said)
        names.fits(head, columns, width)
        return Words(tables[0], tables[1], head, None)

    def start(self, words: Words) -> int:
        """The token that stands before every target, as GenerationMixin takes it: the start token, else the first one of a text.

        Where the config has neither, it is padding, as T5 was trained.
        """
        names = self.decoder
        keys = ("decoder_start_token_id", "bos_token_id", "pad_token_id")
        key = next((key for key in keys if names.get(key) is not None), keys[0])
        rows = names.checkpoint.shape(words.decoder)[0]
        return token(names, key, rows)


def token(names: Names, key: str, rows: int) -> int:
    """A value of the config that must be the id of one of `rows` tokens."""
    value = names.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < rows:
        raise CheckpointError(
            f"{names.checkpoint.folder / 'config.json'}: {key} is {value!r}, expected the id of one of {rows} tokens"
        )
    return value


def open_sides(checkpoint: Checkpoint, rows: Mapping[str, Row], bases: tuple[str, ...]) -> Sides:
    """Find both halves of a checkpoint.

    Args:
        checkpoint: Where the tensors are.
        rows: Side to how its tensors are laid out, below the side's name.
        bases: Prefixes of the body with a head and without.

    Raises:
        UnsupportedError: The weights are quantized.
    """
    if checkpoint.config.get("quantization_config"):
        raise UnsupportedError(
            "the checkpoint's weights are quantized (quantization_config); export the model that it was made from, with --precision"
        )
    fits = (base for base in bases if any(name.startswith(f"{base}decoder.") for name in checkpoint.names()))
    base = next(fits, bases[0])
    encoder, decoder = (
        Names(checkpoint, replace(rows[side], places=((f"{base}{side}.", ""),)), checkpoint.config) for side in SIDES
    )
    return Sides(base, encoder, decoder)


def self_attention(names: Names, path: str, where: Attends, *, size: int, scale: float) -> SelfAttention:
    """Self-attention of the layer at `path`, of heads of `size`."""
    query, key, value, output, heads = _projections(names, path, where, size)
    return SelfAttention(query, key, value, output, heads, heads, size, scale)


def cross_attention(names: Names, path: str, where: Attends, *, size: int, scale: float) -> CrossAttention:
    """Attention of the layer at `path` to the encoder, which is as wide as the decoder."""
    query, key, value, output, heads = _projections(names, path, where, size)
    return CrossAttention(query, key, value, output, heads, size, scale)


def _projections(names: Names, path: str, where: Attends, size: int) -> tuple[Dense, Dense, Dense, Dense, int]:
    """Query, key, value and output, which fit each other, and the number of heads."""
    biased = names.flag(names.row.biased)
    parts = (where.query, where.key, where.value, where.output)
    query, key, value, output = (names.dense(f"{path}{where.part}.{part}", biased=biased) for part in parts)
    heads, width = names.heads_of(query, size), names.number("hidden_size")
    for dense in (query, key, value):
        names.fits(dense, heads * size, width)
    names.fits(output, width, heads * size)
    return query, key, value, output, heads


def feed_forward(names: Names, path: str, activation: str) -> FeedForward:
    """The feed-forward part of the layer at `path`."""
    row, width = names.row, names.number("hidden_size")
    biased = names.flag(row.ffn_biased)
    up, down = (names.dense(path + part, biased=biased) for part in (row.up, row.down))
    gate = names.dense(path + row.gate, biased=biased) if row.gate else None
    inner = rows_of(names.checkpoint, up)[0]
    for dense in (up, gate):
        if dense:
            names.fits(dense, inner, width)
    names.fits(down, width, inner)
    return FeedForward(up, down, activation, gate)


def norms(names: Names, path: str) -> dict[str, Any]:
    """The norms of the layer at `path`, by their names in `Block`."""
    width = names.number("hidden_size")
    return {part: names.norm(path + norm, width) for part, norm in names.row.norms.items()}
