"""Rows that describe how decoders' checkpoints are laid out, and the finder of tensors and numbers by them. Knows no graph."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .matrices import rows_of
from .parts import ACTIVATIONS, Dense, Norm, Slab

__all__ = ["Names", "Row"]

D = TypeVar("D", float, None)
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
        defaults: The config class's defaults of the keys that are read; a key that is not here is not read, save those of
            scaled rotary positions.
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
        cross_query, cross_packed, cross_output, cross_norm: Paths of a cross-attention's query, of its key and value in one tensor,
            of its output, and of the norm before it; None where a block has none.
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
    cross_query: str | None = None
    cross_packed: str | None = None
    cross_output: str | None = None
    cross_norm: str | None = None
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


class Names:
    """Finds a checkpoint's tensors by a row's paths and its numbers by the row's keys, and says what is missing.

    Attributes:
        checkpoint, row, config: As given; `row` is the varied one once it is known.
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
        """A value that must be a number above 0."""
        value = self.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
            raise CheckpointError(
                f"{self.checkpoint.folder / 'config.json'}: {key} is {value!r}, expected a number above 0"
            )
        return float(value)

    def real_or(self, key: str, default: D) -> float | D:
        """The same, or `default` where it is null or the architecture does not have it."""
        return default if self.get(key) is None else self.real(key)

    def flag(self, said: bool | str) -> bool:
        """What a row says: the value itself, or that of the key."""
        return bool(self.get(said)) if isinstance(said, str) else said

    def head_size(self) -> int:
        """Dimensions of one head; pruning takes heads, not their size."""
        size = self.get("head_dim")
        size = self.number("head_dim") if size else self.number("hidden_size") // self.number("num_attention_heads")
        # of an encoder-decoder, heads of other sizes are padded with zeros
        if not size or (size % 8 and not self.row.cross_query):
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
                " check the weights and config.json"
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
