"""Reads decoders whose checkpoints a row describes. Knows no graph and no architecture by name.

Dimensions are read from the weights, layer by layer, so that pruned heads, feed-forward layers of unequal width and dropped layers
need no special case; the config says what weights cannot.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .alibi import slopes
from .decoder_names import Names, Row
from .matrices import rows_of
from .parts import Alibi, Block, CrossAttention, Decoder, Dense, FeedForward, Rotary, SelfAttention, Slab
from .rotary import Turning, rotary

__all__ = ["read"]


def read(checkpoint: Checkpoint, row: Row, config: Mapping[str, Any] | None = None) -> Decoder:
    """The decoder of a checkpoint that is laid out as `row` says.

    Args:
        checkpoint: Where the tensors are.
        row: How it is laid out.
        config: The part of config.json that is the decoder's, None for all of it.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    names = Names(checkpoint, row, checkpoint.config if config is None else config)
    if names.config.get("quantization_config") or checkpoint.config.get("quantization_config"):
        raise UnsupportedError(
            "the checkpoint's weights are quantized (quantization_config); export the model that it was made from, with --precision"
        )
    for key, value in row.refused.items():
        if names.get(key) == value:
            raise UnsupportedError(f"config.json says {key}: {value!r}, which is not supported")
    if row.vary:
        row = names.row = row.vary(row, names)
    words = names.body(row.words)
    vectors = names.table(words)
    turning, local = _turning(names)
    blocks = tuple(
        _block(names, path, name=f"layer.{place}", number=number, turning=turning, local=local)
        for place, (number, path) in enumerate(names.layers())
    )
    hidden = names.number("hidden_size")
    for block in blocks:
        names.fits(block.attention.output, hidden, block.attention.heads * block.attention.head_size)
    window = turning.window if turning else names.number(row.window)
    positions = names.body(row.positions) if row.positions else None
    if positions:
        names.expect(positions, (window + row.first_position, hidden))
    project_in, project_out = _projected(names, vectors, hidden)
    head, head_bias = names.head(vectors)
    return Decoder(
        words=words,
        blocks=blocks,
        window=window,
        positions=positions,
        first_position=row.first_position,
        scale=row.words_scale(names),
        embedding_norm=names.norm(names.prefix + row.embedding_norm, hidden) if row.embedding_norm else None,
        project_in=project_in,
        norm=names.norm(names.prefix + row.norm, hidden) if row.norm else None,
        project_out=project_out,
        head=head,
        head_bias=head_bias,
        logits_scale=1 / names.real_or("logits_scaling", 1.0),
        logits_cap=names.real_or("final_logit_softcapping", None),
    )


def _projected(names: Names, vectors: int, hidden: int) -> tuple[Dense | None, Dense | None]:
    """The layers between words `vectors` wide and blocks `hidden` wide."""
    row = names.row
    if not row.project_in or not row.project_out:
        if vectors != hidden:
            raise CheckpointError(
                f"{names.prefix + row.words} is {vectors} wide, the layers {hidden}; check the weights"
            )
        return None, None
    inward, outward = (names.dense(names.prefix + path, biased=False) for path in (row.project_in, row.project_out))
    names.fits(inward, hidden, vectors)
    names.fits(outward, vectors, hidden)
    return inward, outward


def _turning(names: Names) -> tuple[Turning | None, Rotary | None]:
    """Rotary positions of all layers, and those of layers with a sliding window where they differ."""
    row = names.row
    if row.turning is None:
        return None, None
    size, window = names.head_size(), names.number(row.window)
    if not row.turning and names.config.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedError("config.json says partial_rotary_factor, which this architecture does not have")
    if row.turning:
        size = int(size * names.real(row.turning))
    original = names.config.get(
        "original_max_position_embeddings", row.defaults.get("original_max_position_embeddings")
    )
    turning = rotary(names.config, size=size, base=names.real(row.theta), window=window, original=original)
    if not row.local_theta:
        return turning, None
    return turning, rotary({}, size=size, base=names.real(row.local_theta), window=window).rotary


def _block(names: Names, path: str, *, name: str, number: int, turning: Turning | None, local: Rotary | None) -> Block:
    row = names.row
    attention = _attention(names, path, number=number, turning=turning, local=local)
    feed_forward = _feed_forward(names, path)
    hidden = rows_of(names.checkpoint, attention.query)[1]
    wide = rows_of(names.checkpoint, feed_forward.up)[0]
    mixed, kept = attention.heads * attention.head_size, attention.kv_heads * attention.head_size
    for dense, out, width in (
        (attention.query, mixed, hidden),
        (attention.key, kept, hidden),
        (attention.value, kept, hidden),
        (attention.output, hidden, mixed),
        (feed_forward.up, wide, hidden),
        (feed_forward.gate, wide, hidden),
        (feed_forward.down, hidden, wide),
    ):
        if dense:
            names.fits(dense, out, width)
    norms: dict[str, Any] = {part: names.norm(path + norm, hidden) for part, norm in row.norms.items()}
    return Block(
        name=name,
        attention=attention,
        feed_forward=feed_forward,
        cross=_cross(names, path, number, hidden),
        cross_norm=names.norm(path + row.cross_norm, hidden) if row.cross_norm else None,
        parallel=names.flag(row.parallel),
        residual=names.real_or("residual_multiplier", 1.0),
        **norms,
    )


def _attention(names: Names, path: str, *, number: int, turning: Turning | None, local: Rotary | None) -> SelfAttention:
    row, size = names.row, names.head_size()
    query, key, value = _projections(names, path, size)
    heads, kv_heads = names.heads_of(query, size), names.heads_of(key, size)
    if heads % kv_heads:
        raise CheckpointError(f"{key.weight} gives {kv_heads} heads for {heads} of queries; check the weights")
    window, scale = row.sliding(names, number), row.scale(names, number, size)
    alibi = None
    if row.alibi:
        # Falcon adds them before it scales the scores
        scales = [slope * scale if row.alibi == "rounded" else slope for slope in slopes(heads)]
        alibi = Alibi(tuple(scales), rounded=row.alibi == "rounded")
    query_width, key_width = (size * heads, size * kv_heads) if row.norm_all else (size, size)
    return SelfAttention(
        query=query,
        key=key,
        value=value,
        output=names.dense(path + row.output, biased=names.flag(row.output_biased), transposed=row.transposed),
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        scale=scale,
        rotary=local if local and window else turning.rotary if turning else None,
        alibi=alibi,
        window=window,
        softcap=names.real_or("attn_logit_softcapping", None),
        query_norm=names.norm(path + row.query_norm, query_width) if row.query_norm else None,
        key_norm=names.norm(path + row.key_norm, key_width) if row.key_norm else None,
        norm_all=row.norm_all,
    )


def _projections(names: Names, path: str, size: int) -> tuple[Dense, Dense, Dense]:
    """Query, key and value, packed or not."""
    row = names.row
    biased = names.flag(row.biased)
    if not row.packed or not row.packing:
        query, key, value = (names.dense(path + part, biased=biased) for part in (row.query, row.key, row.value))
        return query, key, value
    whole = names.dense(path + row.packed, biased=biased, transposed=row.transposed)
    total = names.heads_of(whole, size)
    groups, kept = row.packing(names, total)
    parts, rest = divmod(total, groups)
    if rest or parts <= 2 * kept:
        raise CheckpointError(
            f"{whole.weight} gives {total} heads of {size}, which are not {groups} groups of queries with {kept} keys and values each;"
            " check that config.json belongs to these weights"
        )
    ends = (0, parts - 2 * kept, parts - kept, parts)
    query, key, value = (
        Dense(whole.weight, whole.bias, whole.transposed, Slab(groups, parts, first, last))
        for first, last in pairwise(ends)
    )
    return query, key, value


def _cross(names: Names, path: str, number: int, hidden: int) -> CrossAttention | None:
    """Cross-attention of a block `hidden` wide, to an encoder as wide."""
    row = names.row
    if not row.cross_query or not row.cross_packed or not row.cross_output:
        return None
    query, packed, output = (
        names.dense(path + part, biased=names.flag(row.biased), transposed=row.transposed)
        for part in (row.cross_query, row.cross_packed, row.cross_output)
    )
    size = names.head_size()
    heads = names.heads_of(query, size)
    key, value = (Dense(packed.weight, packed.bias, packed.transposed, Slab(1, 2, part, part + 1)) for part in (0, 1))
    for dense, out, width in (
        (query, heads * size, hidden),
        (key, heads * size, hidden),
        (value, heads * size, hidden),
        (output, hidden, heads * size),
    ):
        names.fits(dense, out, width)
    return CrossAttention(query, key, value, output, heads, size, scale=row.scale(names, number, size))


def _feed_forward(names: Names, path: str) -> FeedForward:
    row = names.row
    biased = names.flag(row.ffn_biased)
    down = names.dense(path + row.down, biased=biased, transposed=row.transposed)
    if row.gate_up:
        gate, up = (
            names.dense(path + row.gate_up, biased=biased, slab=Slab(1, 2, first, first + 1)) for first in (0, 1)
        )
        return FeedForward(up, down, names.activation(), gate)
    up = names.dense(path + row.up, biased=biased, transposed=row.transposed)
    return FeedForward(up, down, names.activation(), names.dense(path + row.gate, biased=biased) if row.gate else None)
