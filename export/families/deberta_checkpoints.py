"""Where DeBERTa's checkpoints keep their tensors, as transformers 4.57 saves them. Knows no graph.

As for BERT, every dimension is read from the weights.
"""

import math
from collections.abc import Mapping
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .bert_checkpoints import Names, Part, Row, layer_paths
from .deberta_parts import Convolution, Disentangled, DisentangledEncoder, Distances
from .parts import ACTIVATIONS, Attention, Dense, Head, Layer, Slab

__all__ = ["ROWS", "read_encoder", "read_head"]

_HEADS = {
    "token-classification": ("classifier",),
    "question-answering": ("qa_outputs",),
    "old masked-lm": (
        "cls.predictions.transform.dense",
        "act:hidden_act",
        "norm:cls.predictions.transform.LayerNorm",
    ),
    "masked-lm": ("lm_predictions.lm_head.dense", "act:hidden_act", "norm:lm_predictions.lm_head.LayerNorm"),
}
ROWS: Mapping[str, Row] = {
    "deberta": Row("deberta.", decoder="cls.predictions.decoder", decoder_bias="cls.predictions.bias"),
    "deberta-v2": Row(
        "deberta.",
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        decoder="cls.predictions.decoder",
        decoder_bias="cls.predictions.bias",
    ),
}
# What DebertaV2Config and DebertaV2Model take where config.json is silent
_DEFAULTS: Mapping[str, Any] = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-7,
    "max_position_embeddings": 512,
    "pooler_hidden_act": "gelu",
}

# What the first DeBERTa's class does not look at
_NEWER = ("conv_kernel_size", "norm_rel_ebd", "position_buckets", "share_att_key")


def read_encoder(checkpoint: Checkpoint, kind: str) -> DisentangledEncoder:
    """The body of a checkpoint of one of `ROWS`.

    Raises:
        CheckpointError: A tensor is missing, or shapes disagree.
        UnsupportedError: The config asks for something that this family does not have.
    """
    names = _names(checkpoint, kind)
    config = names.config
    if config.get("talking_head", False):
        raise UnsupportedError("config.json says talking_head: heads that read each other's scores are not supported")
    words = names.body("embeddings.word_embeddings.weight")
    tables = {
        "positions": config.get("position_biased_input", True) and "embeddings.position_embeddings.weight",
        "types": int(config.get("type_vocab_size") or 0) > 0 and "embeddings.token_type_embeddings.weight",
    }
    found = {role: names.body(path) if path else None for role, path in tables.items()}
    width = checkpoint.shape(words)[-1]
    for table in found.values():
        if table:
            names.expect(table, (checkpoint.shape(table)[0], width))
    distances = _distances(names)
    read = _old_layer if kind == "deberta" else _layer
    layers = tuple(read(names, path, f"layer.{place}") for place, path in enumerate(layer_paths(names)))
    hidden = checkpoint.shape(layers[0].layer.attention.query.weight)[1]
    projection = names.dense(names.prefix + "embeddings.embed_proj") if width != hidden else None
    if projection:
        names.expect(projection.weight, (hidden, width))
    window = names.number("max_position_embeddings")
    return DisentangledEncoder(
        words=words,
        **found,
        projection=projection,
        norm=names.norm(names.prefix + "embeddings.LayerNorm"),
        distances=distances,
        layers=layers,
        convolution=_convolution(names, hidden),
        window=min(window, checkpoint.shape(found["positions"])[0]) if found["positions"] else window,
    )


def read_head(checkpoint: Checkpoint, kind: str, head: str) -> Head:
    """The head of a checkpoint; `head` is one of the kinds of `edgenlp.bundle.Head`.

    Raises:
        CheckpointError: The checkpoint holds no such head.
    """
    names = _names(checkpoint, kind)
    if head == "hidden-states":
        return Head(head)
    if head == "sequence-classification":  # ContextPooler
        pooled = ("pooler.dense", f"act:{names.activation('pooler_hidden_act')}", "classifier")
        return Head(head, names.steps(pooled, head), first_token=True)
    if head != "masked-lm":
        return Head(head, names.steps(_HEADS[head], head))
    old, new = (f"{_HEADS[name][0]}.weight" for name in ("old masked-lm", "masked-lm"))
    # Microsoft's own v3 files hold the new head only, and do not say so: transformers would draw an old one at random
    if names.config.get("legacy", True) is False or (old not in checkpoint and new in checkpoint):
        bias = names.head("lm_predictions.lm_head.bias", head)
        words = names.body("embeddings.word_embeddings.weight")
        return Head(head, names.steps(_HEADS[head], head), tied=words, tied_bias=bias)
    return names.masked_head(names.steps(_HEADS["old masked-lm"], head))


def _names(checkpoint: Checkpoint, kind: str) -> Names:
    row = ROWS[kind]
    body = row.prefix if f"{row.prefix}embeddings.word_embeddings.weight" in checkpoint else ""
    said = {key: value for key, value in checkpoint.config.items() if not (kind == "deberta" and key in _NEWER)}
    return Names(checkpoint, row, Part({**_DEFAULTS, **said}, body))


def _scores(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The scores beside content to content; an old config names them in one text."""
    named = config.get("pos_att_type") or ()
    if isinstance(named, str):
        named = [item.strip() for item in named.lower().split("|")]
    return tuple(item for item in ("c2p", "p2c") if item in named)


def _distances(names: Names) -> Distances | None:
    config = names.config
    if not config.get("relative_attention", False) or not _scores(config):
        return None
    farthest = int(config.get("max_relative_positions", -1))
    if farthest < 1:
        farthest = names.number("max_position_embeddings")
    buckets = max(int(config.get("position_buckets", -1)), 0)
    table, span = names.body("encoder.rel_embeddings.weight"), buckets or farthest
    rows = names.checkpoint.shape(table)[0]
    if rows < 2 * span or (0 < buckets < 4) or (buckets and farthest - 1 <= buckets // 2):
        raise CheckpointError(
            f"{table} has {rows} rows for {buckets} buckets of distances up to {farthest}; check config.json"
        )
    normed = "layer_norm" in [item.strip() for item in str(config.get("norm_rel_ebd", "none")).lower().split("|")]
    return Distances(
        table=table,
        norm=names.norm(names.prefix + "encoder.LayerNorm") if normed else None,
        span=span,
        buckets=buckets,
        farthest=farthest,
    )


def _layer(names: Names, path: str, name: str) -> Disentangled:
    config, layer = names.config, names.layer(path, name)
    attention, scores = layer.attention, _scores(names.config)
    used: dict[str, Dense | None] = dict.fromkeys(("c2p", "p2c"))
    if config.get("relative_attention", False):
        own = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}
        shared = {"c2p": attention.key, "p2c": attention.query}
        for score in scores:
            if config.get("share_att_key", False):
                used[score] = shared[score]
            else:
                dense = names.dense(f"{path}attention.self.{own[score]}")
                names.expect(dense.weight, names.checkpoint.shape(attention.query.weight))
                used[score] = dense
    scale = 1 / math.sqrt(attention.head_size * (1 + len(scores)))
    return Disentangled(layer, scale, position_key=used["c2p"], position_query=used["p2c"])


def _old_layer(names: Names, path: str, name: str) -> Disentangled:
    """A layer of the first DeBERTa: queries, keys and values of each head side by side in one matrix, and no bias of keys."""
    config, own = names.config, f"{path}attention.self."
    packed, shape = f"{own}in_proj.weight", names.checkpoint.shape
    rows, hidden = shape(names.dense(f"{own}in_proj").weight)
    size = names.number("hidden_size") // names.number("num_attention_heads")
    heads, left = divmod(rows, 3 * size)
    if left:
        raise CheckpointError(
            f"{packed} has {rows} rows, which are no three of whole heads of {size}; check the weights"
        )
    biases = (f"{own}q_bias", None, f"{own}v_bias")
    query, key, value = (
        Dense(packed, bias, slab=Slab(heads, 3, part, part + 1), own_bias=True) for part, bias in enumerate(biases)
    )
    layer = Layer(
        name=name,
        attention=Attention(query, key, value, names.dense(path + names.row.output), heads=heads, head_size=size),
        attention_norm=names.norm(path + names.row.attention_norm),
        up=names.dense(path + names.row.up),
        down=names.dense(path + names.row.down),
        ffn_norm=names.norm(path + names.row.ffn_norm),
        activation=names.activation(),
    )
    wide = shape(layer.up.weight)[0]
    expected = {layer.attention.output: (hidden, heads * size), layer.up: (wide, hidden), layer.down: (hidden, wide)}
    used: dict[str, Dense | None] = dict.fromkeys(("c2p", "p2c"))
    if config.get("relative_attention", False):
        for score, projection in (("c2p", "pos_proj"), ("p2c", "pos_q_proj")):
            if score in _scores(config):
                used[score] = dense = names.dense(own + projection)
                expected[dense] = (heads * size, hidden)
    for dense, found in expected.items():
        names.expect(dense.weight, found)
    named = config.get("pos_att_type") or ()
    count = len(named.split("|") if isinstance(named, str) else named)  # those that it does not know count here too
    return Disentangled(layer, 1 / math.sqrt(size * (1 + count)), position_key=used["c2p"], position_query=used["p2c"])


def _convolution(names: Names, hidden: int) -> Convolution | None:
    width = int(names.config.get("conv_kernel_size") or 0)
    if width < 1:
        return None
    if width % 2 == 0:
        raise UnsupportedError(f"conv_kernel_size {width} is not supported: the convolution's width must be odd")
    asked, groups = names.config.get("conv_act", "tanh"), int(names.config.get("conv_groups", 1))
    if asked not in ACTIVATIONS:
        raise UnsupportedError(f"conv_act {asked!r} is not supported; there are {', '.join(ACTIVATIONS)}")
    weight = names.body("encoder.conv.conv.weight")
    names.expect(weight, (hidden, hidden // groups, width))
    norm = names.norm(names.prefix + "encoder.conv.LayerNorm")
    bias = names.body("encoder.conv.conv.bias")
    return Convolution(weight, bias, groups=groups, activation=ACTIVATIONS[asked], norm=norm)
