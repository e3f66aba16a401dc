"""Reads BERT and its relatives as decoders that attend to an encoder. Knows no graph, and of names only what `bert_checkpoints` says.

Their layers are an encoder's, causal, with a cross-attention in the middle whose tensors are named as the self-attention's are.
"""

from collections.abc import Mapping
from typing import Any

from edgenlp.errors import CheckpointError

from ..checkpoint import Checkpoint
from .bert_checkpoints import ROWS, Names, Part, layer_paths, read_head
from .matrices import rows_of
from .parts import Block, CrossAttention, Decoder, Dense, FeedForward, Head, Layer, Norm, SelfAttention

__all__ = ["DECODERS", "body_of", "read_decoder"]

# The architectures of transformers 4.57 whose language model takes encoder_hidden_states
DECODERS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


def body_of(kind: str, prefix: str) -> str:
    """Prefix of the body's tensors where those of the whole model begin with `prefix`."""
    return prefix + ROWS[kind].prefix


def read_decoder(checkpoint: Checkpoint, kind: str, config: Mapping[str, Any], prefix: str) -> Decoder:
    """A decoder of one of `DECODERS`, a part of a checkpoint.

    Args:
        checkpoint: Where the tensors are.
        kind: Its architecture.
        config: The decoder's part of config.json.
        prefix: Of the decoder's tensors.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    if not config.get("is_decoder"):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: the decoder's is_decoder is {config.get('is_decoder')!r}, expected true:"
            " without it transformers leaves the cross-attention out; set it, or check that the model is an encoder-decoder"
        )
    part = Part(config, body_of(kind, prefix), prefix)
    names = Names(checkpoint, ROWS[kind], part)
    names.refuse_relative()
    words = names.body("embeddings.word_embeddings.weight")
    positions = names.body("embeddings.position_embeddings.weight")
    types = names.path("embeddings.token_type_embeddings.weight")
    blocks = tuple(_block(names, path, f"layer.{place}") for place, path in enumerate(layer_paths(names)))
    hidden = checkpoint.shape(blocks[0].attention.query.weight)[1]
    width = checkpoint.shape(words)[-1]
    for table in (words, positions, *([types] if types in checkpoint else ())):
        names.expect(table, (checkpoint.shape(table)[0], width))
    first = names.first_position(kind)
    if (window := checkpoint.shape(positions)[0] - first) < 1:
        raise CheckpointError(f"{positions} has no row {first}, where positions begin; check pad_token_id")
    head = read_head(checkpoint, kind, "masked-lm", part)
    return Decoder(
        words=words,
        blocks=blocks,
        window=window,
        positions=positions,
        first_position=first,
        types=types if types in checkpoint else None,
        embedding_norm=names.norm(names.prefix + "embeddings.LayerNorm"),
        projection=names.dense(names.path("embeddings_project")) if width != hidden else None,
        **_head(names, head),
    )


def _head(names: Names, head: Head) -> dict[str, Any]:
    """What a masked LM's head is called in a decoder."""
    if head.tied:
        if head.tied_bias:
            names.expect(head.tied_bias, names.checkpoint.shape(head.tied)[:1])
        return {"head_steps": head.steps, "head_bias": head.tied_bias}
    *steps, last = head.steps
    assert isinstance(last, Dense)
    rows_of(names.checkpoint, last)
    return {"head_steps": tuple(steps), "head": last}


def _block(names: Names, path: str, name: str) -> Block:
    """A layer, and the cross-attention between its two halves."""
    row, layer = names.row, names.layer(path, name)
    part = layer.attention
    scale = float(part.head_size**-0.5)
    attention = SelfAttention(
        part.query, part.key, part.value, part.output, part.heads, part.heads, part.head_size, scale
    )
    query, key, value, output = (
        names.dense(path + _crossing(place)) for place in (row.query, row.key, row.value, row.output)
    )
    hidden, rows = names.checkpoint.shape(part.query.weight)[1], names.checkpoint.shape(query.weight)[0]
    if not rows or rows % part.head_size:
        raise CheckpointError(
            f"{query.weight} has {rows} rows, which are no whole heads of {part.head_size}; check the weights"
        )
    for dense, out, width in (
        (query, rows, hidden),
        (key, rows, hidden),
        (value, rows, hidden),
        (output, hidden, rows),
    ):
        names.expect(dense.weight, (out, width))
        if dense.bias:
            names.expect(dense.bias, (out,))
    return Block(
        name=name,
        attention=attention,
        attention_sum_norm=layer.attention_norm,
        cross=CrossAttention(query, key, value, output, rows // part.head_size, part.head_size, scale),
        cross_sum_norm=_norm(names, path, hidden),
        feed_forward=_feed_forward(layer),
        feed_forward_sum_norm=layer.ffn_norm,
    )


def _crossing(place: str) -> str:
    """Where the cross-attention keeps what the self-attention keeps at `place`."""
    return place.replace("attention.", "crossattention.", 1)


def _norm(names: Names, path: str, hidden: int) -> Norm:
    norm = names.norm(path + _crossing(names.row.attention_norm))
    names.expect(str(norm.weight), (hidden,))
    return norm


def _feed_forward(layer: Layer) -> FeedForward:
    return FeedForward(layer.up, layer.down, layer.activation)
