"""Where BERT's relatives keep their tensors, as transformers 4.57 saves them: one row per architecture. Knows no graph.

Every dimension is read from the weights, layer by layer, so that pruned heads, feed-forward layers of unequal width and dropped
layers need no special case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .parts import (
    ACTIVATIONS,
    Attention,
    Dense,
    Encoder,
    Head,
    Layer,
    Norm,
    RelativeBias,
)

__all__ = ["ROWS", "Names", "Part", "Row", "layer_paths", "read_encoder", "read_head"]


@dataclass(frozen=True)
class Row:
    """How one architecture's checkpoints are laid out.

    Attributes:
        prefix: Of the body's tensors, where the checkpoint has a head.
        layer: Path of layer i, with `{}` for its number.
        query, key, value, output: Paths inside a layer.
        attention_norm, up, down, ffn_norm: Paths inside a layer.
        classifier: Steps of the sequence classification head; "act:" names an activation.
        classes: Path of the token classification head.
        masked: Steps of the masked LM head up to the decoder.
        decoder: Path of the decoder's untied weight.
        decoder_bias: Name of the decoder's bias.
        keys: The config's own names for hidden_size, num_attention_heads, num_hidden_layers, hidden_act, where they differ.
        eps: Epsilon of all norms, where the class fixes it; else the config's `layer_norm_eps` counts.
        counts_padding: Whether positions begin after the padding id's own (RoBERTa, MPNet).
        shared: Whether layers are groups repeated (ALBERT).
        relative: Path of the relative bias table.
    """

    prefix: str
    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    ffn_norm: str = "output.LayerNorm"
    classifier: tuple[str, ...] = ("classifier.dense", "act:tanh", "classifier.out_proj")
    classes: str = "classifier"
    masked: tuple[str, ...] = ("lm_head.dense", "act:gelu", "norm:lm_head.layer_norm")
    decoder: str = "lm_head.decoder"
    decoder_bias: str = "lm_head.bias"
    keys: Mapping[str, str] | None = None
    eps: float | None = None
    counts_padding: bool = False
    shared: bool = False
    relative: str | None = None

    def key_of(self, name: str) -> str:
        """The config's key for what BERT calls `name`."""
        return (self.keys or {}).get(name, name)


@dataclass(frozen=True)
class Part:
    """One of several models in a checkpoint.

    Attributes:
        config: Its own part of config.json.
        body: Prefix of its body's tensors.
        head: Prefix of its head's tensors.
        twin: Prefix under which tensors of the body are stored that it shares with another one, None where it shares none.
    """

    config: Mapping[str, Any]
    body: str
    head: str = ""
    twin: str | None = None


_ROBERTA = Row("roberta.", counts_padding=True)
ROWS: Mapping[str, Row] = {
    "albert": Row(
        "albert.",
        layer="encoder.albert_layer_groups.{}.albert_layers.{}.",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        output="attention.dense",
        attention_norm="attention.LayerNorm",
        up="ffn",
        down="ffn_output",
        ffn_norm="full_layer_layer_norm",
        classifier=("albert.pooler", "act:tanh", "classifier"),
        masked=("predictions.dense", "act:hidden_act", "norm:predictions.LayerNorm"),
        decoder="predictions.decoder",
        decoder_bias="predictions.bias",
        shared=True,
    ),
    "bert": Row(
        "bert.",
        classifier=("bert.pooler.dense", "act:tanh", "classifier"),
        masked=(
            "cls.predictions.transform.dense",
            "act:hidden_act",
            "norm:cls.predictions.transform.LayerNorm",
        ),
        decoder="cls.predictions.decoder",
        decoder_bias="cls.predictions.bias",
    ),
    "camembert": _ROBERTA,
    "distilbert": Row(
        "distilbert.",
        layer="transformer.layer.{}.",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        ffn_norm="output_layer_norm",
        classifier=("pre_classifier", "act:relu", "classifier"),
        masked=("vocab_transform", "act:hidden_act", "norm:vocab_layer_norm"),
        decoder="vocab_projector",
        decoder_bias="vocab_projector.bias",
        eps=1e-12,
        keys={
            "hidden_size": "dim",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
            "hidden_act": "activation",
        },
    ),
    "electra": Row(
        "electra.",
        classifier=("classifier.dense", "act:gelu", "classifier.out_proj"),
        masked=("generator_predictions.dense", "act:gelu", "norm:generator_predictions.LayerNorm"),
        decoder="generator_lm_head",
        decoder_bias="generator_lm_head.bias",
    ),
    "mpnet": Row(
        "mpnet.",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        counts_padding=True,
        relative="encoder.relative_attention_bias.weight",
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def read_encoder(checkpoint: Checkpoint, kind: str, part: Part | None = None) -> Encoder:
    """The body of a checkpoint of one of `ROWS`, or of `part` of a checkpoint.

    Raises:
        CheckpointError: A tensor is missing, or shapes disagree.
        UnsupportedError: The config asks for something that this family does not have.
    """
    row = ROWS[kind]
    names = Names(checkpoint, row, part)
    config = names.config
    for key, refused in (("is_decoder", True), ("add_cross_attention", True)):
        if config.get(key) is refused:
            raise UnsupportedError(
                f"config.json says {key}: an encoder has none; decoders are exported as the part of an encoder-decoder only"
            )
    names.refuse_relative()
    words = names.body("embeddings.word_embeddings.weight")
    positions = names.body("embeddings.position_embeddings.weight")
    types = names.path("embeddings.token_type_embeddings.weight")
    first = names.first_position(kind)
    layers = _shared_layers(names) if row.shared else _layers(names)
    if row.relative:
        heads = checkpoint.shape(names.body(row.relative))[-1]
        if any(layer.attention.heads != heads for layer in layers):
            raise UnsupportedError(
                f"the relative bias is for {heads} heads, and some were pruned; transformers cannot run it either"
            )
    width = checkpoint.shape(words)[-1]
    for table in (words, positions):
        names.expect(table, (checkpoint.shape(table)[0], width))
    hidden = checkpoint.shape(layers[0].attention.query.weight)[1]
    projection = names.dense(
        names.prefix + ("encoder.embedding_hidden_mapping_in" if row.shared else "embeddings_project")
    ) if (row.shared or width != hidden) else None  # fmt: skip
    return Encoder(
        words=words,
        positions=positions,
        types=types if types in checkpoint else None,
        norm=names.norm(names.prefix + "embeddings.LayerNorm"),
        projection=projection,
        layers=layers,
        first_position=first,
        skipped_id=first - 1 if row.counts_padding else None,
        bias=RelativeBias(names.body(row.relative), checkpoint.shape(names.body(row.relative))[0], 128)
        if row.relative
        else None,
        window=checkpoint.shape(positions)[0] - first,
    )


def read_head(checkpoint: Checkpoint, kind: str, head: str, part: Part | None = None) -> Head:
    """The head of a checkpoint, or of `part` of one; `head` is one of the kinds of `edgenlp.bundle.Head`.

    Raises:
        CheckpointError: The checkpoint holds no such head.
    """
    row, names = ROWS[kind], Names(checkpoint, ROWS[kind], part)
    if head == "hidden-states":
        return Head(head)
    if head == "sequence-classification":
        return Head(head, names.steps(row.classifier, head), first_token=True)
    if head == "token-classification":
        return Head(head, names.steps((row.classes,), head))
    if head == "question-answering":
        return Head(head, names.steps(("qa_outputs",), head))
    return names.masked_head(names.steps(row.masked, head))


class Names:
    """Finds a checkpoint's tensors by a row's paths, and says which one is missing.

    Attributes:
        checkpoint, row: As given.
        config: The config of the part that is read.
        prefix: Of the body's tensors.
        head_prefix: Of the head's.
        twin: `Part.twin`.
    """

    def __init__(self, checkpoint: Checkpoint, row: Row, part: Part | None = None) -> None:
        self.checkpoint = checkpoint
        self.row = row
        marker = "embeddings.word_embeddings.weight"
        if part is None:
            # A bare body (BertModel) is saved without the prefix that it has under a head
            part = Part(checkpoint.config, row.prefix if row.prefix + marker in checkpoint else "")
        self.config, self.prefix, self.head_prefix, self.twin = part.config, part.body, part.head, part.twin

    def path(self, path: str) -> str:
        """The name of a tensor of the body, which may be missing."""
        return self._stored(self.prefix + path)

    def body(self, path: str) -> str:
        """The name of a tensor of the body."""
        return self._present(self.prefix + path, "the body")

    def head(self, name: str, head: str) -> str:
        """The name of a tensor of the head."""
        if name.startswith(self.row.prefix):
            name = self.prefix + name.removeprefix(self.row.prefix)
        else:
            name = self.head_prefix + name
        return self._present(name, f"its {head} head")

    def _stored(self, name: str) -> str:
        """The same, or where that is missing, the name under which its twin is stored."""
        if self.twin is None or name in self.checkpoint or not name.startswith(self.prefix):
            return name
        twin = self.twin + name.removeprefix(self.prefix)
        return twin if twin in self.checkpoint else name

    def _present(self, name: str, what: str) -> str:
        name = self._stored(name)
        if name not in self.checkpoint:
            raise CheckpointError(
                f"{self.checkpoint.folder} holds no tensor {name!r}, which {what} needs; choose another --task, or check the weights"
            )
        return name

    def dense(self, path: str) -> Dense:
        """The linear layer of that name."""
        bias = self._stored(f"{path}.bias")
        return Dense(self._present(f"{path}.weight", "the body"), bias if bias in self.checkpoint else None)

    def norm(self, path: str) -> Norm:
        """The norm of that name."""
        return Norm(self._present(f"{path}.weight", "the body"), self._present(f"{path}.bias", "the body"), self.eps())

    def activation(self, name: str = "hidden_act") -> str:
        """An activation that the config names, by our name."""
        asked = self.config.get(self.row.key_of(name), "gelu")
        if asked not in ACTIVATIONS:
            raise UnsupportedError(f"activation {asked!r} is not supported; there are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[asked]

    def steps(self, steps: Sequence[str], head: str) -> tuple[Dense | Norm | str, ...]:
        """The steps of a head."""
        read: list[Dense | Norm | str] = []
        for step in steps:
            kind, _, name = step.rpartition(":")
            if kind == "act":
                read.append(self.activation() if name == "hidden_act" else name)
            elif kind == "norm":
                read.append(Norm(self.head(f"{name}.weight", head), self.head(f"{name}.bias", head), self.eps()))
            else:
                weight = self.head(f"{name}.weight", head)
                bias = weight.removesuffix("weight") + "bias"
                read.append(Dense(weight, bias if bias in self.checkpoint else None))
        return tuple(read)

    def masked_head(self, steps: tuple[Dense | Norm | str, ...]) -> Head:
        """A masked LM of these steps and the word table, or a table of its own where they are not tied."""
        kind = "masked-lm"
        biases = (self.head_prefix + name for name in (self.row.decoder_bias, f"{self.row.decoder}.bias"))
        bias = next((name for name in biases if name in self.checkpoint), None)
        if self.config.get("tie_word_embeddings", True):
            return Head(kind, steps, tied=self.body("embeddings.word_embeddings.weight"), tied_bias=bias)
        return Head(kind, (*steps, Dense(self.head(f"{self.row.decoder}.weight", kind), bias)))

    def eps(self) -> float:
        """Epsilon of all norms."""
        return self.row.eps or float(self.config.get("layer_norm_eps", 1e-12))

    def number(self, name: str) -> int:
        """A number of the config, by BERT's name."""
        value = self.config.get(self.row.key_of(name))
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(
                f"{self.checkpoint.folder / 'config.json'}: {self.row.key_of(name)} is {value!r}, expected a number"
            )
        return value

    def first_position(self, kind: str) -> int:
        """The row of the position table that the first token takes."""
        if not self.row.counts_padding:
            return 0
        # MPNet's positions begin after 1 whatever its config says: its class sets padding_idx itself
        padding = None if kind == "mpnet" else self.config.get("pad_token_id", 1)
        return 2 if padding is None else int(padding) + 1

    def refuse_relative(self) -> None:
        """Refuse positions that are not learned rows of a table."""
        if (scheme := self.config.get("position_embedding_type") or "absolute") != "absolute":
            raise UnsupportedError(f"position_embedding_type {scheme!r} is not supported; only absolute positions are")

    def layer(self, path: str, name: str) -> Layer:
        """A layer whose tensors' names begin with `path`."""
        row = self.row
        query, key, value, output = (self.dense(path + part) for part in (row.query, row.key, row.value, row.output))
        size = self.number("hidden_size") // self.number("num_attention_heads")  # pruning takes heads, not their size
        rows = self.checkpoint.shape(query.weight)[0]
        if rows % size:
            raise CheckpointError(
                f"{query.weight} has {rows} rows, which are no whole heads of {size}; check the weights"
            )
        layer = Layer(
            name=name,
            attention=Attention(query, key, value, output, heads=rows // size, head_size=size),
            attention_norm=self.norm(path + row.attention_norm),
            up=self.dense(path + row.up),
            down=self.dense(path + row.down),
            ffn_norm=self.norm(path + row.ffn_norm),
            activation=self.activation(),
        )
        hidden = self.checkpoint.shape(query.weight)[-1]
        wide = self.checkpoint.shape(layer.up.weight)[0]
        for dense, out, width in (
            (query, rows, hidden),
            (key, rows, hidden),
            (value, rows, hidden),
            (output, hidden, rows),
            (layer.up, wide, hidden),
            (layer.down, hidden, wide),
        ):
            self.expect(dense.weight, (out, width))
            if dense.bias:
                self.expect(dense.bias, (out,))
        for norm in (layer.attention_norm, layer.ffn_norm):
            self.expect(str(norm.weight), (hidden,))
        return layer

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a tensor that does not fit its neighbours."""
        if (found := self.checkpoint.shape(name)) != shape:
            raise CheckpointError(
                f"{name} has shape {list(found)}, its neighbours need {list(shape)}; check the weights"
            )


def layer_paths(names: Names) -> list[str]:
    """Paths of the layers whose weights are there, up to the number that the config says, in order."""
    before, after = names.row.layer.split("{}")
    prefixes = [prefix + before for prefix in (names.prefix, names.twin) if prefix is not None]
    found = {
        int(name[len(start) :].split(after, 1)[0])
        for name in names.checkpoint.names()
        for start in prefixes
        if name.startswith(start) and name[len(start) :].split(after, 1)[0].isdigit()
    }
    numbers = sorted(number for number in found if number < names.number("num_hidden_layers"))
    if not numbers:
        raise CheckpointError(
            f"{names.checkpoint.folder} holds no layer: no tensor is named {prefixes[0]}N{after}…; check the weights"
        )
    return [f"{prefixes[0]}{number}{after}" for number in numbers]


def _layers(names: Names) -> tuple[Layer, ...]:
    return tuple(names.layer(path, f"layer.{place}") for place, path in enumerate(layer_paths(names)))


def _shared_layers(names: Names) -> tuple[Layer, ...]:
    """ALBERT's: each group of layers serves a share of the depth (AlbertTransformer.forward)."""
    config = names.config
    depth, groups = names.number("num_hidden_layers"), int(config.get("num_hidden_groups", 1))
    inner = int(config.get("inner_group_num", 1))
    layers: list[Layer] = []
    for number in range(depth):
        group = number * groups // depth
        for part in range(inner):
            layers.append(names.layer(names.prefix + names.row.layer.format(group, part), f"layer.{len(layers)}"))
    return tuple(layers)
