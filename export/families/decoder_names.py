"""Reads decoders that a row describes: finds their tensors by the row's paths and their numbers by its config's keys. Knows no graph.

Dimensions are read from the weights, layer by layer, so that pruned heads, feed-forward layers of unequal width and dropped layers
need no special case; the config says what weights cannot.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .alibi import slopes
from .matrices import rows_of
from .parts import ACTIVATIONS, Alibi, Block, Decoder, Dense, FeedForward, Norm, Rotary, SelfAttention, Slab
from .rotary import Turning, rotary

__all__ = ["Names", "Row", "read"]

_DIGITS = re.compile("[0-9]{1,6}")


def _root(names: "Names", number: int, size: int) -> float:
    """1 / sqrt(size of a head) (Vaswani et al., 2017)."""
    return float(size**-0.5)


def _everything(names: "Names", number: int) -> int | None:
    return None


@dataclass(frozen=True)
class Row:
    """How one architecture's checkpoints are laid out, and what its config means. The defaults of this class are Llama's.

    Attributes:
        defaults: The config class's defaults of the keys that are read; a key that is not here is not read.
        keys: Other names of a key, the one that counts most first, where the config class knows several.
        places: Prefixes of the body and of the head, the first pair that fits counts; without a head a body has no prefix.
        words, positions, embedding_norm, project_in, project_out, norm, head: Paths; None where there is none.
        first_position: Row of the position table that the first token takes.
        layer: Path of layer i, with `{}` for its number; the paths below are inside a layer.
        norms: Paths of a block's norms, by their names in `Block`.
        query, key, value, output, up, down, gate, query_norm, key_norm: Paths.
        packed: Path of query, key and value in one tensor.
        packing: How: from its number of heads, the groups that it consists of, and the heads of keys in each; a group holds
            the heads of queries, of keys, of values.
        gate_up: Path of gate and up in one tensor.
        transposed: Whether layers' weights are stored [in, out].
        biased, output_biased, ffn_biased: Whether query, key and value, the output, and the feed-forward layers have biases; or
            the config's key that says so.
        head_biased: Whether the head has a bias.
        rms, affine, offset: Kind of all norms, whether they have weights, and what is added to those.
        eps: The config's key of epsilon, or epsilon.
        norm_all: Whether query_norm and key_norm are over all heads at once.
        activation: The config's key, or None for tanh-approximated GELU.
        activations: What the config's names mean.
        window: The config's key of the most tokens.
        turning: The config's key of the share of a head that turns; "" for all of it, None where there are no rotary positions.
        theta: The config's key of the rotary base.
        local_theta: The same of layers with a sliding window, where they have their own and no scaling.
        alibi: Whether there are linear biases; "rounded" as Falcon rounds them.
        parallel: Whether both sub-layers of a block read its input; or the config's key that says so.
        scale: What scores are multiplied with, from the number of the layer and the size of a head.
        sliding: Tokens that a token of a layer sees, None for all.
        words_scale: What word vectors are multiplied with.
        refused: Values of the config's keys that are not supported.
        vary: Makes the row that this config asks for.
    """

    defaults: Mapping[str, Any]
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: tuple[tuple[str, str], ...] = (("model.", ""), ("", ""))
    words: str = "embed_tokens.weight"
    positions: str | None = None
    embedding_norm: str | None = None
    project_in: str | None = None
    project_out: str | None = None
    norm: str | None = "norm"
    head: str = "lm_head"
    first_position: int = 0
    layer: str = "layers.{}."
    norms: Mapping[str, str] = field(
        default_factory=lambda: {
            "attention_norm": "input_layernorm",
            "feed_forward_norm": "post_attention_layernorm",
        }
    )
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    gate: str | None = "mlp.gate_proj"
    query_norm: str | None = None
    key_norm: str | None = None
    packed: str | None = None
    packing: Callable[["Names", int], tuple[int, int]] | None = None
    gate_up: str | None = None
    transposed: bool = False
    biased: bool | str = False
    output_biased: bool | str = False
    ffn_biased: bool | str = False
    head_biased: bool = False
    rms: bool = True
    affine: bool = True
    offset: float = 0.0
    eps: str | float = "rms_norm_eps"
    norm_all: bool = False
    activation: str | None = "hidden_act"
    activations: Mapping[str, str] = field(default_factory=lambda: ACTIVATIONS)
    window: str = "max_position_embeddings"
    turning: str | None = ""
    theta: str = "rope_theta"
    local_theta: str | None = None
    alibi: bool | str = False
    parallel: bool | str = False
    scale: Callable[["Names", int, int], float] = _root
    sliding: Callable[["Names", int], int | None] = _everything
    words_scale: Callable[["Names"], float] = lambda names: 1.0
    refused: Mapping[str, Any] = field(default_factory=dict)
    vary: Callable[["Row", "Names"], "Row"] | None = None


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
    hidden = rows_of(checkpoint, blocks[0].attention.output)[0]
    if (said := names.number("hidden_size")) != hidden:
        raise CheckpointError(
            f"config.json: hidden_size is {said}, but the layers are {hidden} wide; check the weights"
        )
    window = turning.window if turning else names.number(row.window)
    positions = names.body(row.positions) if row.positions else None
    if positions:
        names.expect(positions, (window + row.first_position, hidden))
    project_in = names.dense(names.prefix + row.project_in, biased=False) if row.project_in else None
    project_out = names.dense(names.prefix + row.project_out, biased=False) if row.project_out else None
    for dense, out, width in ((project_in, hidden, vectors), (project_out, vectors, hidden)):
        if dense:
            names.fits(dense, out, width)
    if not project_in and vectors != hidden:
        raise CheckpointError(f"{words} is {vectors} wide, the layers {hidden}; check the weights")
    head, head_bias = names.head(vectors)
    cap = names.get("final_logit_softcapping")
    divisor = names.get("logits_scaling")
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
        logits_scale=1.0 if divisor is None else 1 / float(divisor),
        logits_cap=None if cap is None else float(cap),
    )


class Names:
    """Finds a checkpoint's tensors by a row's paths and its numbers by the row's keys, and says what is missing.

    Attributes:
        checkpoint, row, config: As given to `read`; `row` is the varied one once it is known.
        prefix: Of the body's tensors.
    """

    def __init__(self, checkpoint: Checkpoint, row: Row, config: Mapping[str, Any]) -> None:
        self.checkpoint = checkpoint
        self.row = row
        self.config = config
        found = (place for place in row.places if place[0] + row.words in checkpoint)
        self.prefix, self._head_prefix = next(found, row.places[0])

    def get(self, key: str) -> Any:
        """A value of the config, or its class's default; None for a key that this architecture does not have."""
        if key not in self.row.defaults:
            return None
        names = self.row.keys.get(key, (key,))
        given = [self.config[name] for name in names if name in self.config]
        if not given:
            return self.row.defaults[key]
        return next((value for value in given if value is not None), None)

    def number(self, key: str) -> int:
        """A value that must be a whole number above 0."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(
                f"{self.checkpoint.folder / 'config.json'}: {key} is {value!r}, expected a whole number above 0"
            )
        return value

    def real(self, key: str) -> float:
        """A value that must be a number."""
        value = self.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise CheckpointError(f"{self.checkpoint.folder / 'config.json'}: {key} is {value!r}, expected a number")
        return float(value)

    def flag(self, said: bool | str) -> bool:
        """What a row says: the value itself, or that of the key."""
        return bool(self.get(said)) if isinstance(said, str) else said

    def head_size(self) -> int:
        """Dimensions of one head; pruning takes heads, not their size."""
        size = self.get("head_dim")
        size = self.number("head_dim") if size else self.number("hidden_size") // self.number("num_attention_heads")
        if size % 8 or not size:
            raise UnsupportedError(f"heads of {size} dimensions are not supported; their size must be a multiple of 8")
        return size

    def activation(self) -> str:
        """The activation of the feed-forward layers, by our name."""
        if self.row.activation is None:
            return "gelu_tanh"
        asked, known = self.get(self.row.activation), self.row.activations
        if not isinstance(asked, str) or asked not in known:
            raise UnsupportedError(f"activation {asked!r} is not supported; there are {', '.join(known)}")
        return known[asked]

    def body(self, path: str) -> str:
        """The name of a tensor of the body."""
        return self._present(self.prefix + path, "the body")

    def table(self, name: str) -> int:
        """The width of a table of vectors."""
        if len(shape := self.checkpoint.shape(name)) != 2:
            raise CheckpointError(f"{name} has shape {list(shape)}, expected a table of vectors; check the weights")
        return shape[1]

    def dense(self, name: str, *, biased: bool, transposed: bool = False, slab: Slab | None = None) -> Dense:
        """The linear layer of that name."""
        weight = self._present(f"{name}.weight", "the body")
        return Dense(weight, self._present(f"{name}.bias", "the body") if biased else None, transposed, slab)

    def norm(self, name: str, width: int) -> Norm:
        """The norm of that name, over `width` values."""
        row = self.row
        eps = self.real(row.eps) if isinstance(row.eps, str) else row.eps
        kind = "rms" if row.rms else "layer"
        if not row.affine:
            return Norm(None, None, eps, kind)
        weight = self._present(f"{name}.weight", "the body")
        bias = None if row.rms else self._present(f"{name}.bias", "the body")
        for tensor in (weight, bias):
            if tensor:
                self.expect(tensor, (width,))
        return Norm(weight, bias, eps, kind, row.offset)

    def head(self, width: int) -> tuple[Dense | None, str | None]:
        """The head and its bias; None for a head that is the word table, as transformers ties them even where it is stored."""
        name, row = self._head_prefix + self.row.head, self.row
        bias = self._present(f"{name}.bias", "the head") if row.head_biased else None
        words = self.checkpoint.shape(self.prefix + row.words)[0]
        if self.flag("tie_word_embeddings"):
            if bias:
                self.expect(bias, (words,))
            return None, bias
        if f"{name}.weight" not in self.checkpoint:
            raise CheckpointError(
                f"{self.checkpoint.folder} holds no head: {name}.weight is missing, and by config.json it is not the word table;"
                " save the model with its language modelling head, or set tie_word_embeddings to true"
            )
        dense = Dense(f"{name}.weight", bias)
        self.fits(dense, self.checkpoint.shape(dense.weight)[0], width)
        return dense, None

    def layers(self) -> list[tuple[int, str]]:
        """Numbers and paths of the layers whose weights are there, up to the number that the config says, in order."""
        before, after = (self.prefix + self.row.layer).split("{}")
        found = {
            int(number)
            for name in self.checkpoint.names()
            if name.startswith(before) and _DIGITS.fullmatch(number := name[len(before) :].split(after, 1)[0])
        }
        numbers = sorted(number for number in found if number < self.number("num_hidden_layers"))
        if not numbers:
            raise CheckpointError(
                f"{self.checkpoint.folder} holds no layer: no tensor is named {before}N{after}…; check the weights"
            )
        return [(number, f"{before}{number}{after}") for number in numbers]

    def heads_of(self, dense: Dense, size: int) -> int:
        """The whole heads that a layer gives."""
        rows = rows_of(self.checkpoint, dense)[0]
        if rows % size or not rows:
            raise CheckpointError(
                f"{dense.weight} gives {rows} values, which are no whole heads of {size};"
                " check that config.json belongs to these weights"
            )
        return rows // size

    def fits(self, dense: Dense, out: int, width: int) -> None:
        """Refuse a layer that does not fit its neighbours."""
        if (found := rows_of(self.checkpoint, dense)) != (out, width):
            raise CheckpointError(
                f"{dense.weight} takes {found[1]} values and gives {found[0]}, its neighbours need {width} and {out};"
                " check the weights"
            )

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a tensor that does not fit its neighbours."""
        if (found := self.checkpoint.shape(name)) != shape:
            raise CheckpointError(
                f"{name} has shape {list(found)}, its neighbours need {list(shape)}; check the weights and config.json"
            )

    def _present(self, name: str, what: str) -> str:
        if name not in self.checkpoint:
            raise CheckpointError(
                f"{self.checkpoint.folder} holds no tensor {name!r}, which {what} needs; check the weights and config.json"
            )
        return name


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
    return Block(
        name=name,
        attention=attention,
        feed_forward=feed_forward,
        parallel=names.flag(row.parallel),
        residual=1.0 if names.get("residual_multiplier") is None else names.real("residual_multiplier"),
        **{part: names.norm(path + norm, hidden) for part, norm in row.norms.items()},
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
    cap = names.get("attn_logit_softcapping")
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
        softcap=None if cap is None else float(cap),
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
