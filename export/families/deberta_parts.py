"""What DeBERTa is described with beside BERT's parts: names of tensors and facts. Knows no graph and no file."""

from dataclasses import dataclass

from .parts import Dense, Layer, Norm

__all__ = ["Convolution", "Disentangled", "DisentangledEncoder", "Distances"]


@dataclass(frozen=True)
class Distances:
    """The embeddings of how far a key lies before a query (He et al., 2021), one table for all layers.

    Attributes:
        table: Name of the table; its first 2 x `span` rows count, row `span` is of distance 0.
        norm: Of its rows, None where there is none.
        span: Rows for each direction.
        buckets: Of distances in both directions together, logarithmic from half of half of them on (DeBERTa-v2); 0 for a row per
            distance.
        farthest: Distance from which on all share the last bucket, less one.
    """

    table: str
    norm: Norm | None
    span: int
    buckets: int
    farthest: int


@dataclass(frozen=True)
class Disentangled:
    """A layer of BERT's parts whose attention also looks at distances.

    Attributes:
        layer: The parts.
        scale: What each of the up to three scores is multiplied with: 1 / sqrt(head size x their number).
        position_key: From the distance embeddings to what queries are multiplied with ("c2p"), None where that score is not taken.
        position_query: To what keys are multiplied with ("p2c"), None where that score is not taken.
    """

    layer: Layer
    scale: float
    position_key: Dense | None
    position_query: Dense | None


@dataclass(frozen=True)
class Convolution:
    """Reads the embeddings beside the first layer (DeBERTa-v2 XL): norm(first layer + activation(convolution(embeddings))).

    Attributes:
        weight: Name of the weight [out, in / groups, width], width being odd.
        bias: Name of the bias [out].
        groups: Of channels.
        activation: One of ours.
        norm: Of the sum.
    """

    weight: str
    bias: str
    groups: int
    activation: str
    norm: Norm


@dataclass(frozen=True)
class DisentangledEncoder:
    """A DeBERTa's body.

    Attributes:
        words: Name of the word table.
        positions: Name of the table of absolute positions, None where there is none.
        types: Name of the token-type table, None where there is none.
        projection: From the embeddings' width to the layers', before the norm; None where they are equal.
        norm: Of the embeddings.
        distances: None where attention does not look at them.
        layers: In order.
        convolution: None where there is none.
        window: Most tokens.
    """

    words: str
    positions: str | None
    types: str | None
    projection: Dense | None
    norm: Norm
    distances: Distances | None
    layers: tuple[Disentangled, ...]
    convolution: Convolution | None
    window: int
