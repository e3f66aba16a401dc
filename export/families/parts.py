"""The parts that transformers are described with: names of tensors and the few facts that go with them. Knows no graph and no file.

A family's reader fills these in from a checkpoint; its graph writer and the numpy reference both read them, so that neither has to
know how a checkpoint names things.
"""

from dataclasses import dataclass

__all__ = ["ACTIVATIONS", "Attention", "Dense", "Encoder", "Head", "Layer", "Norm", "RelativeBias"]

# config's names of activations (transformers.activations.ACT2FN) to ours
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Dense:
    """A linear layer: names of its weight [out, in] and bias [out]."""

    weight: str
    bias: str | None


@dataclass(frozen=True)
class Norm:
    """A layer normalization: names of its weight and bias, and epsilon."""

    weight: str
    bias: str | None
    eps: float


@dataclass(frozen=True)
class Attention:
    """Multi-head self-attention of `heads` heads of `head_size`, as many as are left after pruning."""

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    heads: int
    head_size: int


@dataclass(frozen=True)
class Layer:
    """A post-norm transformer layer: norm(x + attention(x)), norm(x + ffn(x)). `name` is its place in the graph."""

    name: str
    attention: Attention
    attention_norm: Norm
    up: Dense
    down: Dense
    ffn_norm: Norm
    activation: str


@dataclass(frozen=True)
class RelativeBias:
    """T5's bucketed relative positions (MPNet): table [buckets, heads], distances beyond `farthest` share the last bucket."""

    table: str
    buckets: int
    farthest: int


@dataclass(frozen=True)
class Encoder:
    """An encoder's body.

    Attributes:
        words: Name of the word table.
        positions: Name of the position table.
        types: Name of the token-type table, None where there is none.
        norm: Of the summed embeddings.
        projection: From the embeddings' width to the layers', None where they are equal.
        layers: In order; a layer may occur more than once (ALBERT).
        first_position: Row of the position table that the first token takes.
        skipped_id: Token that takes no position of its own (RoBERTa's padding), None where positions are just counted.
        bias: Relative position bias of all layers.
        window: Most tokens.
    """

    words: str
    positions: str
    types: str | None
    norm: Norm
    projection: Dense | None
    layers: tuple[Layer, ...]
    first_position: int
    skipped_id: int | None
    bias: RelativeBias | None
    window: int


@dataclass(frozen=True)
class Head:
    """What stands on the body.

    Attributes:
        kind: As in `edgenlp.bundle.Head`.
        steps: Linear layers, activations by name and norms, in order.
        first_token: Whether it reads the first token only.
        tied: Name of the word table where the last step multiplies by it, then `tied_bias` is its bias.
    """

    kind: str
    steps: tuple[Dense | Norm | str, ...] = ()
    first_token: bool = False
    tied: str | None = None
    tied_bias: str | None = None
