"""The parts that transformers are described with: names of tensors and the few facts that go with them. Knows no graph and no file.

A family's reader fills these in from a checkpoint; its graph writer and the numpy reference both read them, so that neither has to
know how a checkpoint names things.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = [
    "ACTIVATIONS",
    "Alibi",
    "Attention",
    "Block",
    "Body",
    "CrossAttention",
    "Decoder",
    "Dense",
    "Encoder",
    "EncoderDecoder",
    "FeedForward",
    "Head",
    "InBlocks",
    "Layer",
    "Norm",
    "ReadingBody",
    "RelativeBias",
    "Rotary",
    "SelfAttention",
    "Sinusoids",
    "Slab",
    "SourceEncoder",
]

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
class Slab:
    """Some of the rows of a packed weight.

    Seen as [groups, parts, rows of a part], they are the parts `first` to before `last` of every group.
    """

    groups: int
    parts: int
    first: int
    last: int


@dataclass(frozen=True)
class Dense:
    """A linear layer: names of its weight [out, in] and bias [out].

    Attributes:
        weight: Name of the weight.
        bias: Name of the bias, None where there is none.
        transposed: Whether the weight is stored [in, out] (GPT-2's Conv1D).
        slab: The rows that are this layer's, where one tensor holds several; it counts for the bias too.
        own_bias: Whether the bias is this layer's alone, though its weight is of several (DeBERTa).
    """

    weight: str
    bias: str | None
    transposed: bool = False
    slab: Slab | None = None
    own_bias: bool = False


@dataclass(frozen=True)
class Norm:
    """A normalization over the last axis: names of its weight and bias, and epsilon.

    Attributes:
        weight: Name of the weight, None where there is none (then it is 1).
        bias: Name of the bias, None where there is none.
        eps: Added to the variance or mean square.
        kind: "layer" (Ba et al., 2016) or "rms" (Zhang and Sennrich, 2019).
        offset: Added to the weight (Gemma stores it less 1).
    """

    weight: str | None
    bias: str | None
    eps: float
    kind: str = "layer"
    offset: float = 0.0


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
    """Bucketed relative positions (T5, MPNet): distances from `farthest` on share the last bucket.

    Attributes:
        table: Name of the table [buckets, heads].
        buckets: Rows of the table.
        farthest: Distance from which all are alike.
        columns: The table's columns of the heads that are left after pruning; None for all.
    """

    table: str
    buckets: int
    farthest: int
    columns: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Sinusoids:
    """Positions of sines and cosines (Vaswani et al., 2017): row p is sin(p f) for each of the `frequencies` f, then all cos(p f)."""

    frequencies: tuple[float, ...]


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


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al., 2021) over the first 2 x len(frequencies) dimensions of a head; dimension i turns with i + half.

    Attributes:
        frequencies: Radians per token of each pair, scaling (linear, yarn, llama3) already in them.
        factor: What cosines and sines are multiplied with (yarn's attention factor).
        dynamic: (base, factor, original window): beyond that window, position p turns with the base that dynamic NTK scaling gives
            to a text of p + 1 tokens; None elsewhere.
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0
    dynamic: tuple[float, float, int] | None = None


@dataclass(frozen=True)
class Alibi:
    """Linear biases (Press et al., 2021): slope of each head, times the key's position; `rounded` to bfloat16 (Falcon)."""

    slopes: tuple[float, ...]
    rounded: bool = False


@dataclass(frozen=True)
class SelfAttention:
    """Self-attention, as many heads as are left after pruning; a decoder's is causal.

    Attributes:
        query, key, value, output: The projections.
        heads: Of queries.
        kv_heads: Of keys and values; each serves heads / kv_heads neighbouring queries' heads.
        head_size: Of one head.
        scale: What q · k is multiplied with.
        rotary: Rotary positions, None where there are none.
        alibi: Linear biases, None where there are none; already scaled, added to the scaled scores.
        relative: Bucketed relative positions, None where there are none; added to the scaled scores.
        window: Tokens that a token sees, itself included; None for all.
        softcap: Scores become softcap * tanh(scores / softcap); None for no cap.
        query_norm, key_norm: Norms between projection and rotation, over each head, or over all of them where `norm_all`.
    """

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    heads: int
    kv_heads: int
    head_size: int
    scale: float
    rotary: Rotary | None = None
    alibi: Alibi | None = None
    relative: RelativeBias | None = None
    window: int | None = None
    softcap: float | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    norm_all: bool = False


@dataclass(frozen=True)
class CrossAttention:
    """Attention from a decoder to what its encoder gave: queries are of the decoder, keys and values of the encoder.

    Attributes:
        query, key, value, output: The projections.
        heads: As many as are left after pruning.
        head_size: Of one head.
        scale: What q · k is multiplied with.
    """

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    heads: int
    head_size: int
    scale: float


@dataclass(frozen=True)
class FeedForward:
    """down(activation(up(x))), or down(activation(gate(x)) * up(x)) where there is a gate. `activation` is one of ours."""

    up: Dense
    down: Dense
    activation: str
    gate: Dense | None = None


@dataclass(frozen=True)
class Block:
    """A decoder layer, or one of an encoder that is built alike.

    Sequential: x += residual * attention_out_norm(attention(attention_norm(x))), then the same with cross-attention, where there is
    any, and with the feed-forward layer.
    Parallel: both read the same x and are added together. Where a norm is None it is left out.

    Attributes:
        name: Its place in the graph, "layer.0".
        attention, feed_forward: The two sub-layers.
        attention_norm, feed_forward_norm: Of what they read.
        attention_out_norm, feed_forward_out_norm: Of what they give, before it is added.
        attention_sum_norm, feed_forward_sum_norm: Of the sum (the post-norm of GPT-1).
        cross: Cross-attention, None where there is none; `cross_norm` of what it reads, `cross_sum_norm` of the sum.
        parallel: Whether both sub-layers read the block's own input.
        residual: What the sub-layers' results are multiplied with (Granite).
    """

    name: str
    attention: SelfAttention
    feed_forward: FeedForward
    attention_norm: Norm | None = None
    attention_out_norm: Norm | None = None
    attention_sum_norm: Norm | None = None
    feed_forward_norm: Norm | None = None
    feed_forward_out_norm: Norm | None = None
    feed_forward_sum_norm: Norm | None = None
    cross: CrossAttention | None = None
    cross_norm: Norm | None = None
    cross_sum_norm: Norm | None = None
    parallel: bool = False
    residual: float = 1.0


@dataclass(frozen=True)
class Decoder:
    """A decoder and its language modelling head.

    Attributes:
        words: Name of the word table.
        blocks: In order.
        window: Most tokens.
        positions: Name of the table of learned positions, None where there is none.
        first_position: Row of that table that the first token takes (OPT: 2).
        sinusoids: Computed positions in place of that table.
        types: Name of the token-type table whose first row is added to every token (BERT), None where there is none.
        scale: What word vectors are multiplied with.
        words_norm: Of the word vectors, before positions are added (Blenderbot's small models).
        embedding_norm: Of the embeddings (BLOOM).
        projection: From the embeddings' width to the blocks', after that norm (ELECTRA); None where they are equal.
        project_in, project_out: Between the words' width and the blocks' (OPT 350M).
        norm: Of the last block's output.
        head_steps: What comes before the head: linear layers, activations by name and norms, in order (BERT's transform).
        head: The language modelling head, None where it is the word table.
        head_bias: Name of its bias where the head is the word table, of [columns] or [1, columns].
        logits_scale: What logits are multiplied with (Granite).
        logits_cap: Logits become cap * tanh(logits / cap) (Gemma 2).
    """

    words: str
    blocks: tuple[Block, ...]
    window: int
    positions: str | None = None
    first_position: int = 0
    sinusoids: Sinusoids | None = None
    types: str | None = None
    scale: float = 1.0
    words_norm: Norm | None = None
    embedding_norm: Norm | None = None
    projection: Dense | None = None
    project_in: Dense | None = None
    norm: Norm | None = None
    project_out: Dense | None = None
    head_steps: tuple[Dense | Norm | str, ...] = ()
    head: Dense | None = None
    head_bias: str | None = None
    logits_scale: float = 1.0
    logits_cap: float | None = None


@dataclass(frozen=True)
class SourceEncoder:
    """The encoder of an encoder-decoder, whose blocks may be pre-norm (T5, mBART) or post-norm (BART, Marian).

    Attributes:
        words: Name of the word table.
        blocks: In order.
        window: Most tokens.
        positions: Name of the table of learned positions, None where there is none.
        first_position: Row of that table, or number of the computed position, that the first token takes.
        skipped_id: Token that takes no position of its own (M2M100's padding), None where positions are just counted.
        sinusoids: Computed positions in place of that table.
        scale: What word vectors are multiplied with.
        embedding_norm: Of the embeddings.
        norm: Of the last block's output.
    """

    words: str
    blocks: tuple[Block, ...]
    window: int
    positions: str | None = None
    first_position: int = 0
    skipped_id: int | None = None
    sinusoids: Sinusoids | None = None
    scale: float = 1.0
    embedding_norm: Norm | None = None
    norm: Norm | None = None


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder, and a decoder whose blocks attend to it.

    Attributes:
        encoder: Reads the source.
        decoder: Writes the target; every block has cross-attention.
        bridge: Between the encoder's width and the width that the cross-attention reads, None where they are equal.
        start: The token that stands before every target (`decoder_start_token_id`).
    """

    encoder: SourceEncoder | Encoder
    decoder: Decoder
    bridge: Dense | None = None
    start: int = 0


class ReadingBody(Protocol):
    """What every encoder's body has; a family whose layers are not BERT's has a dataclass of its own for the rest."""

    @property
    def words(self) -> str:
        """Name of the word table."""

    @property
    def window(self) -> int:
        """Most tokens."""


@runtime_checkable
class InBlocks(Protocol):
    """A body whose graph cuts the longer ones of texts into blocks."""

    @property
    def cut_from(self) -> int:
        """Fewest tokens of a text that is cut; 0 where none ever is."""


Body = ReadingBody | Decoder | EncoderDecoder
