"""Where ModernBERT keeps its tensors, as transformers 4.57 saves them, and what its config says. Knows no graph.

Dimensions are read from the weights, layer by layer. A layer keeps the kind of attention that its number gives it, whichever layers
are missing before it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .decoder_names import Names, Row
from .matrices import rows_of
from .modernbert_parts import MeanHead, ModernBertEncoder
from .parts import ACTIVATIONS, Block, Dense, FeedForward, Head, Norm, Rotary, SelfAttention, Slab
from .rotary import rotary

__all__ = ["ROWS", "read_encoder", "read_head"]

ROWS: Mapping[str, Row] = {
    "modernbert": Row(
        # ModernBertConfig's defaults
        defaults={
            "hidden_size": 768,
            "num_attention_heads": 12,
            "num_hidden_layers": 22,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "norm_eps": 1e-5,
            "norm_bias": False,
            "global_rope_theta": 160000.0,
            "attention_bias": False,
            "global_attn_every_n_layers": 3,
            "local_attention": 128,
            "local_rope_theta": 10000.0,
            "layer_types": None,
            "mlp_bias": False,
            "decoder_bias": True,
            "classifier_pooling": "cls",
            "classifier_bias": False,
            "classifier_activation": "gelu",
            "tie_word_embeddings": True,
        },
        keys={"global_rope_theta": ("global_rope_theta", "rope_theta")},
        words="embeddings.tok_embeddings.weight",
        eps="norm_eps",
        activation="hidden_activation",
    )
}
_TYPES = ("full_attention", "sliding_attention")
# What transformers works out anew for each text by its length, where a graph has one table for all
_BY_LENGTH = ("dynamic", "longrope", "su")


def read_encoder(checkpoint: Checkpoint, kind: str) -> ModernBertEncoder:
    """The body of a checkpoint.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that ModernBERT does not have.
    """
    names = _Names(checkpoint, ROWS[kind], checkpoint.config)
    words = names.body("embeddings.tok_embeddings.weight")
    width = names.table(words)
    return ModernBertEncoder(
        words=words,
        blocks=tuple(
            names.block(number, path, f"layer.{place}", width) for place, (number, path) in enumerate(names.layers())
        ),
        window=names.number("max_position_embeddings"),
        embedding_norm=names.plain_norm(f"{names.prefix}embeddings.norm", width),
        norm=names.plain_norm(f"{names.prefix}final_norm", width),
    )


def read_head(checkpoint: Checkpoint, kind: str, head: str) -> Head:
    """The head of a checkpoint; `head` is one of the kinds of `edgenlp.bundle.Head`.

    Raises:
        CheckpointError: The checkpoint holds no such head.
        UnsupportedError: The config asks for a pooling or an activation that there is not.
    """
    if head == "hidden-states":
        return Head(head)
    names = _Names(checkpoint, ROWS[kind], checkpoint.config)
    words = names.body("embeddings.tok_embeddings.weight")
    width = names.table(words)
    # ModernBertPredictionHead
    dense = names.dense("head.dense", biased=names.flag("classifier_bias"))
    names.fits(dense, width, width)
    steps = (dense, names.known_activation("classifier_activation"), names.plain_norm("head.norm", width))
    if head == "masked-lm":
        bias = names.body_free("decoder.bias") if names.flag("decoder_bias") else None
        if bias:
            names.expect(bias, checkpoint.shape(words)[:1])
        if names.flag("tie_word_embeddings"):
            return Head(head, steps, tied=words, tied_bias=bias)
        return Head(head, (*steps, Dense(names.body_free("decoder.weight"), bias)))
    last = names.dense("classifier", biased=True)
    names.fits(last, rows_of(checkpoint, last)[0], width)
    if head != "sequence-classification":
        return Head(head, (*steps, last))
    pooling = names.get("classifier_pooling")
    if pooling not in ("cls", "mean"):
        raise UnsupportedError(f"config.json: classifier_pooling is {pooling!r}; there are 'cls' and 'mean'")
    return (Head if pooling == "cls" else MeanHead)(head, (*steps, last), first_token=True)


class _Names(Names):
    """Finds ModernBERT's tensors, and what its config says of them."""

    def body_free(self, name: str) -> str:
        """The name of a tensor of the head, which has no prefix."""
        return self._present(name, "the head")

    def plain_norm(self, path: str, width: int) -> Norm:
        """The norm of that name, with a bias where `norm_bias` says so."""
        weight = self._present(f"{path}.weight", "the model")
        bias = self._present(f"{path}.bias", "the model") if self.flag("norm_bias") else None
        for name in (weight, bias):
            if name:
                self.expect(name, (width,))
        return Norm(weight, bias, self.real("norm_eps"))

    def known_activation(self, key: str) -> str:
        """An activation that the config names, by our name."""
        asked = self.get(key)
        if not isinstance(asked, str) or asked not in ACTIVATIONS:
            raise UnsupportedError(f"{key} {asked!r} is not supported; there are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[asked]

    def block(self, number: int, path: str, name: str, width: int) -> Block:
        """The layer of this number, whose tensors' names begin with `path`."""
        size = self.number("hidden_size") // self.number("num_attention_heads")
        packed = self.dense(f"{path}attn.Wqkv", biased=self.flag("attention_bias"))
        output = self.dense(f"{path}attn.Wo", biased=self.flag("attention_bias"))
        query, key, value = (replace(packed, slab=Slab(1, 3, part, part + 1)) for part in range(3))
        heads = self.heads_of(query, size)
        self.fits(query, heads * size, width)
        self.fits(output, width, heads * size)
        both = self.dense(f"{path}mlp.Wi", biased=self.flag("mlp_bias"))
        down = self.dense(f"{path}mlp.Wo", biased=self.flag("mlp_bias"))
        # ModernBertMLP: the first half goes through the activation, the second half is what it is multiplied with
        gate, up = (replace(both, slab=Slab(1, 2, part, part + 1)) for part in range(2))
        inner = rows_of(self.checkpoint, up)[0]
        self.fits(up, inner, width)
        self.fits(down, width, inner)
        slides = self.slides(number)
        return Block(
            name=name,
            attention=SelfAttention(
                query, key, value, output, heads, heads, size, size**-0.5,
                rotary=self.turning("local" if slides else "global", size),
                window=2 * (self.number("local_attention") // 2) + 1 if slides else None,
            ),
            feed_forward=FeedForward(up, down, self.known_activation("hidden_activation"), gate),
            # the embeddings are normalized already (ModernBertEncoderLayer)
            attention_norm=self.plain_norm(f"{path}attn_norm", width) if number else None,
            feed_forward_norm=self.plain_norm(f"{path}mlp_norm", width),
        )  # fmt: skip

    def slides(self, number: int) -> bool:
        """Whether a layer sees a window only: all but every n-th; or as `layer_types` says, which transformers 5 writes."""
        types = self.get("layer_types")
        if types is None:
            return number % self.number("global_attn_every_n_layers") != 0
        if not isinstance(types, list) or number >= len(types) or types[number] not in _TYPES:
            raise CheckpointError(
                f"config.json: layer_types is {types!r}, expected {' or '.join(_TYPES)} for each layer"
            )
        return bool(types[number] == _TYPES[1])

    def turning(self, which: str, size: int) -> Rotary:
        """Rotary positions of the layers that are `which`: "global" or "local"."""
        config = self.config
        own = (config.get("rope_parameters") or {}) if isinstance(config.get("rope_parameters"), Mapping) else {}
        given: Any = own.get(_TYPES[which == "local"])  # transformers 5 writes them by the type of layer
        if isinstance(given, Mapping):
            base, config = given.get("rope_theta"), {"rope_scaling": given}
            if not isinstance(base, int | float):
                raise CheckpointError(f"config.json: rope_theta in rope_parameters is {base!r}, expected a number")
        else:
            key = "local_rope_theta" if which == "local" and self.get("local_rope_theta") else "global_rope_theta"
            base = self.real(key)
        scaling = config.get("rope_scaling")
        asked = (scaling.get("rope_type") or scaling.get("type")) if isinstance(scaling, Mapping) else None
        if asked in _BY_LENGTH:
            raise UnsupportedError(
                f"rope_scaling of type {asked!r} turns every token by the length of its text, which an encoder's graph cannot;"
                " linear, yarn and llama3 are supported"
            )
        window = self.number("max_position_embeddings")
        return rotary(config, size=size, base=float(base), window=window).rotary
