"""Names and shapes of the tensors of encoder-decoders, as transformers 4.57.6 saves them: knows no values, no files.

Every size is read from the config, so that a change of the config changes the tensors with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checkpoint_tensors import Tensor

__all__ = ["SIDES", "BartKin", "Cuts", "Json", "T5Kin"]

Json = Mapping[str, Any]
SIDES = ("encoder", "decoder")


@dataclass(frozen=True)
class Cuts:
    """What was cut out of one layer: heads of self- and of cross-attention by number, all but the first `width` inner units."""

    heads: tuple[int, ...] = ()
    cross: tuple[int, ...] = ()
    width: int | None = None


def _norm(name: str, size: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (size,), "scale"), Tensor(f"{name}.bias", (size,), "bias")]


def _attention(name: str, width: int, heads: int, size: int, cut: Sequence[int], *, values: str) -> list[Tensor]:
    """The projections of BART, without the heads in `cut`; `values` is the kind of the values' weight."""
    inner = heads * size
    kept = tuple(head * size + unit for head in range(heads) if head not in cut for unit in range(size))
    tensors: list[Tensor] = []
    for part in ("q_proj", "k_proj", "v_proj"):
        rows = (0, kept) if cut else None
        tensors += [
            Tensor(f"{name}.{part}.weight", (inner, width), values if part == "v_proj" else "matrix", rows),
            Tensor(f"{name}.{part}.bias", (inner,), "bias", rows),
        ]
    out = Tensor(f"{name}.out_proj.weight", (width, inner), "bias", (1, kept) if cut else None)
    return [*tensors, out, Tensor(f"{name}.out_proj.bias", (width,), "bias")]


@dataclass(frozen=True)
class BartKin:
    """BART and its relatives. Which weights are drawn with a deviation of 0.1 whatever the gain was tried: so greedy text varies most.

    Attributes:
        offset: Rows of the position tables before the first position.
        embedding_norm: Whether embeddings are normalized.
        final_norm: Whether the last block's output is.
    """

    offset: int = 2
    embedding_norm: bool = True
    final_norm: bool = False

    def around(self, config: Json, *, tables: bool) -> list[Tensor]:
        """Tensors of one side outside its layers, below its path; with its table of positions or without."""
        width = int(config["d_model"])
        tensors: list[Tensor] = []
        if tables:
            shape = (int(config["max_position_embeddings"]) + self.offset, width)
            tensors.append(Tensor("embed_positions.weight", shape, "matrix"))
        if self.embedding_norm:
            tensors += _norm("layernorm_embedding", width)
        return [*tensors, *(_norm("layer_norm", width) if self.final_norm else ())]

    def layer(self, config: Json, side: str, number: int, cuts: Cuts) -> list[Tensor]:
        """Tensors of one layer, below its path."""
        width = int(config["d_model"])
        heads = int(config[f"{side}_attention_heads"])
        inner = int(config[f"{side}_ffn_dim"])
        tensors = _attention("self_attn", width, heads, width // heads, cuts.heads, values="matrix")
        tensors += _norm("self_attn_layer_norm", width)
        if side == "decoder":
            tensors += _attention("encoder_attn", width, heads, width // heads, cuts.cross, values="bias")
            tensors += _norm("encoder_attn_layer_norm", width)
        kept = None if cuts.width is None else tuple(range(cuts.width))
        rows, columns = (None, None) if kept is None else ((0, kept), (1, kept))
        return [
            *tensors,
            Tensor("fc1.weight", (inner, width), "matrix" if self.final_norm else "bias", rows),
            Tensor("fc1.bias", (inner,), "bias", rows),
            Tensor("fc2.weight", (width, inner), "matrix", columns),
            Tensor("fc2.bias", (width,), "bias"),
            *_norm("final_layer_norm", width),
        ]


@dataclass(frozen=True)
class T5Kin:
    """T5 and its relatives. Scores are not scaled, so queries and keys are drawn with a deviation of 0.1 whatever the gain.

    Attributes:
        every: Whether each layer has a table of relative positions, or the first one only.
        final_norm: Whether the last block's output is normalized.
        thinned: The tables are drawn as that many times wider ones, which makes their values smaller.
    """

    every: bool = False
    final_norm: bool = True
    thinned: int = 1

    def around(self, config: Json, *, tables: bool) -> list[Tensor]:
        """Tensors of one side outside its layers, below its path; there is no table of positions."""
        return [Tensor("final_layer_norm.weight", (int(config["d_model"]),), "scale")]

    def layer(self, config: Json, side: str, number: int, cuts: Cuts) -> list[Tensor]:
        """Tensors of one layer, below its path."""
        width, inner = int(config["d_model"]), int(config["d_ff"])
        heads = int(config["num_heads"])
        tensors = self._attention(config, "layer.0.SelfAttention", cuts.heads)
        if self.every or number == 0:
            shape = (int(config["relative_attention_num_buckets"]), heads * self.thinned)
            name = "layer.0.SelfAttention.relative_attention_bias.weight"
            tensors.append(Tensor(name, shape, "matrix", (1, tuple(range(heads)))))
        if side == "decoder":
            tensors += self._attention(config, "layer.1.EncDecAttention", cuts.cross)
        last = 2 if side == "decoder" else 1
        for part in range(last + 1):
            tensors.append(Tensor(f"layer.{part}.layer_norm.weight", (width,), "scale"))
        kept = None if cuts.width is None else tuple(range(cuts.width))
        path = f"layer.{last}.DenseReluDense."
        for name in ("wi_0", "wi_1") if str(config["feed_forward_proj"]).startswith("gated-") else ("wi",):
            rows = None if kept is None else (0, kept)
            tensors.append(Tensor(f"{path}{name}.weight", (inner, width), "matrix", rows))
        columns = None if kept is None else (1, kept)
        return [*tensors, Tensor(f"{path}wo.weight", (width, inner), "matrix", columns)]

    def _attention(self, config: Json, name: str, cut: Sequence[int]) -> list[Tensor]:
        width, heads, size = (int(config[key]) for key in ("d_model", "num_heads", "d_kv"))
        inner = heads * size
        kept = tuple(head * size + unit for head in range(heads) if head not in cut for unit in range(size))
        rows, columns = ((0, kept), (1, kept)) if cut else (None, None)
        return [
            Tensor(f"{name}.q.weight", (inner, width), "bias", rows),
            Tensor(f"{name}.k.weight", (inner, width), "bias", rows),
            Tensor(f"{name}.v.weight", (inner, width), "matrix", rows),
            Tensor(f"{name}.o.weight", (width, inner), "bias", columns),
        ]
