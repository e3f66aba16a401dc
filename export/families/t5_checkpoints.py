"""Where T5 and its relatives keep their tensors, as transformers 4.57 saves them: one row per architecture. Knows no graph.

What they have in common: RMSNorm, no biases, scores that are not scaled, bucketed relative positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .decoder_names import Names, Row
from .parts import ACTIVATIONS, Block, Decoder, EncoderDecoder, RelativeBias, SourceEncoder
from .seq2seq_names import (
    SIDES,
    Attends,
    cross_attention,
    feed_forward,
    norms,
    open_sides,
    self_attention,
)

__all__ = ["ROWS", "Layout", "read"]

WINDOW = 4096
"""Most tokens: relative positions have no limit of their own, memory has."""


@dataclass(frozen=True)
class Layout:
    """How one architecture's checkpoints are laid out.

    Attributes:
        row: What encoder and decoder have in common.
        every: Whether every layer has a table of relative positions of its own, or all share that of the first one.
    """

    row: Row
    every: bool = False


def read(checkpoint: Checkpoint, kind: str) -> EncoderDecoder:
    """The encoder-decoder of a checkpoint of one of `ROWS`.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    layout = ROWS[kind]
    config = checkpoint.config
    sides = open_sides(checkpoint, {side: _side(layout.row, side, config) for side in SIDES}, ("",))
    words = sides.words(separate=False)
    encoder, decoder = (_body(names, layout) for names in (sides.encoder, sides.decoder))
    width = sides.decoder.number("hidden_size")
    return EncoderDecoder(
        SourceEncoder(words.encoder, **encoder),
        # T5ForConditionalGeneration.forward rescales what a head reads that is the word table
        Decoder(words.decoder, head=words.head, logits_scale=1.0 if words.head else float(width**-0.5), **decoder),
        start=sides.start(words),
    )


def _side(row: Row, side: str, config: Mapping[str, Any]) -> Row:
    """The row of one half: its keys, and the places of its feed-forward layers."""
    last = SIDES.index(side) + 1
    path = f"layer.{last}.DenseReluDense."
    _, gated = _activation(row, config)
    parts = ["attention_norm", "feed_forward_norm"]
    keys: dict[str, tuple[str, ...]] = dict(_KEYS)
    if side == "decoder":
        parts.insert(1, "cross_norm")
        if config.get("num_decoder_layers") is not None:
            keys["num_hidden_layers"] = ("num_decoder_layers",)
    return replace(
        row,
        keys=keys,
        norms={part: f"layer.{number}.layer_norm" for number, part in enumerate(parts)},
        up=f"{path}wi_1" if gated else f"{path}wi",
        gate=f"{path}wi_0" if gated else None,
        down=f"{path}wo",
    )


def _activation(row: Row, config: Mapping[str, Any]) -> tuple[str, bool]:
    """The activation of the feed-forward layers by our name, and whether they have a gate (T5Config.__init__)."""
    said = config.get("feed_forward_proj", row.defaults["feed_forward_proj"])
    words = said.split("-") if isinstance(said, str) else []
    if not 0 < len(words) <= 2 or (len(words) == 2 and words[0] != "gated"):
        raise CheckpointError(
            f"config.json: feed_forward_proj is {said!r}, expected an activation, or gated- and an activation, as gated-gelu"
        )
    name = "gelu_new" if said == "gated-gelu" else words[-1]
    # What follows from it is in files that were saved, and counts
    name, gated = config.get("dense_act_fn", name), bool(config.get("is_gated_act", words[0] == "gated"))
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedError(f"activation {name!r} is not supported; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name], gated


def _body(names: Names, layout: Layout) -> dict[str, Any]:
    """What `SourceEncoder` and `Decoder` have in common, besides words."""
    activation, _ = _activation(names.row, names.config)
    layers = names.layers()
    blocks = []
    for place, (number, path) in enumerate(layers):
        bias = _relative(names, path if layout.every else layers[0][1])
        blocks.append(_block(names, path, bias, name=f"layer.{place}", number=number, activation=activation))
    return {
        "blocks": tuple(blocks),
        "window": WINDOW,
        "norm": names.norm(names.prefix + str(names.row.norm), names.number("hidden_size")),
    }


def _relative(names: Names, path: str) -> RelativeBias:
    """The table of relative positions that the layer at `path` holds, with the columns of all heads."""
    buckets, farthest = (names.number(f"relative_attention_{key}") for key in ("num_buckets", "max_distance"))
    table = f"{path}{_SELF.part}.relative_attention_bias.weight"
    names.expect(names.body(table.removeprefix(names.prefix)), (buckets, names.number("num_attention_heads")))
    return RelativeBias(table, buckets, farthest)


def _block(names: Names, path: str, bias: RelativeBias, *, name: str, number: int, activation: str) -> Block:
    size = names.number("head_dim")
    attention = self_attention(names, path, _SELF, size=size, scale=1.0)
    columns = _kept(names, attention.heads, number, path)
    cross = "cross_norm" in names.row.norms
    return Block(
        name=name,
        attention=replace(attention, relative=replace(bias, columns=columns)),
        feed_forward=feed_forward(names, path, activation),
        cross=cross_attention(names, path, _CROSS, size=size, scale=1.0) if cross else None,
        **norms(names, path),
    )


def _kept(names: Names, heads: int, number: int, path: str) -> tuple[int, ...] | None:
    """The heads that are left in layer `number` after pruning; None for all (T5Attention.prune_heads).

    The config's pruned_heads are those of the encoder (T5Model._prune_heads).
    """
    count = names.number("num_attention_heads")
    if heads == count:
        return None
    encoder = "cross_norm" not in names.row.norms
    said = names.config.get("pruned_heads") if encoder else None
    pruned = said.get(str(number)) if isinstance(said, Mapping) else None
    gone = set(pruned) if isinstance(pruned, list) and all(isinstance(head, int) for head in pruned) else set()
    columns = tuple(head for head in range(count) if head not in gone)
    if len(columns) != heads:
        raise CheckpointError(
            f"{path}{_SELF.part} has {heads} heads of {count}, and config.json does not say which"
            + (
                "; list the others in pruned_heads"
                if encoder
                else " (pruned_heads is of the encoder); prune the encoder only"
            )
        )
    return columns


_SELF = Attends("layer.0.SelfAttention", "q", "k", "v", "o")
_CROSS = Attends("layer.1.EncDecAttention", "q", "k", "v", "o")
# The config classes' attribute_map: the other name, where it is given, counts more
_KEYS = {
    "hidden_size": ("hidden_size", "d_model"),
    "num_attention_heads": ("num_attention_heads", "num_heads"),
    "num_hidden_layers": ("num_hidden_layers", "num_layers"),
    "head_dim": ("head_dim", "d_kv"),
}
_T5 = Layout(
    Row(
        {
            "hidden_size": 512,
            "num_attention_heads": 8,
            "num_hidden_layers": 6,
            "head_dim": 64,
            "relative_attention_num_buckets": 32,
            "relative_attention_max_distance": 128,
            "layer_norm_epsilon": 1e-6,
            "feed_forward_proj": "relu",
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "pad_token_id": 0,
            "decoder_start_token_id": None,
        },
        layer="block.{}.",
        norm="final_layer_norm",
        eps="layer_norm_epsilon",
    )
)
_MT5_DEFAULTS = {
    "num_attention_heads": 6,
    "num_hidden_layers": 8,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}

ROWS: Mapping[str, Layout] = {
    "t5": _T5,
    "mt5": Layout(
        replace(_T5.row, defaults={**_T5.row.defaults, **_MT5_DEFAULTS, "tie_word_embeddings": False}),
    ),
    "umt5": Layout(replace(_T5.row, defaults={**_T5.row.defaults, **_MT5_DEFAULTS}), every=True),
}
