"""Names, shapes and random values of a checkpoint's tensors, and the safetensors file: knows no defaults, no tokenizer.

The names are those that `save_pretrained` of transformers 4.57.6 writes. Every tensor is drawn from its own
`np.random.RandomState` (whose stream numpy has frozen), seeded by the checkpoint's seed and the tensor's name, so that
leaving out a layer or storing half precision changes no other value.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Layer", "MaskedHead", "Names", "Tensor", "encoder", "head_tensors", "write_safetensors"]

_CHUNK = 1 << 20  # elements drawn at a time, so that a real-size checkpoint needs little memory
_STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8}


@dataclass(frozen=True)
class Layer:
    """Where one encoder layer keeps its weights: module paths below `path`, whose `{}` takes the layer's number."""

    path: str
    query: str
    key: str
    value: str
    out: str
    norm1: str
    up: str
    down: str
    norm2: str


@dataclass(frozen=True)
class MaskedHead:
    """Where a masked-language-model head keeps its weights; `bias` is the bias over the vocabulary."""

    dense: str
    norm: str
    decoder: str
    bias: str


@dataclass(frozen=True)
class Names:
    """Module paths of one architecture.

    Attributes:
        prefix: Name of the base model inside a model with a head.
        layer: Names inside an encoder layer.
        masked: Names of the masked-language-model head.
        pooler: The pooler below the prefix, None where the architecture has none.
        projection: From the embedding's width to the hidden width, below the prefix; None where the widths are one.
        classifier: The hidden and the last module of the sequence classification head; the hidden one may be "".
        pools: Whether sequence classification reads the pooler.
    """

    prefix: str
    layer: Layer
    masked: MaskedHead
    pooler: str | None
    projection: str | None
    classifier: tuple[str, str]
    pools: bool = False


@dataclass(frozen=True)
class Tensor:
    """One tensor to be written.

    Attributes:
        name: Name in the file.
        shape: Shape before `keep`.
        kind: "matrix", "bias", "scale" (of a layer norm) or "range" (0, 1, 2, ... as int64).
        keep: Rows (axis 0) or columns (axis 1) that are kept: the mark of pruned heads and narrowed layers.
        draw: Name that seeds the values, where it differs from `name` (a second copy of a tied table).
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    keep: tuple[int, tuple[int, ...]] | None = None
    draw: str | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape in the file."""
        if self.keep is None:
            return self.shape
        axis, kept = self.keep
        return tuple(len(kept) if i == axis else size for i, size in enumerate(self.shape))


def _linear(name: str, rows: int, columns: int, keep: tuple[int, tuple[int, ...]] | None = None) -> list[Tensor]:
    bias_keep = keep if keep is not None and keep[0] == 0 else None
    return [
        Tensor(f"{name}.weight", (rows, columns), "matrix", keep),
        Tensor(f"{name}.bias", (rows,), "bias", bias_keep),
    ]


def _norm(name: str, size: int) -> list[Tensor]:
    return [Tensor(f"{name}.weight", (size,), "scale"), Tensor(f"{name}.bias", (size,), "bias")]


def _width(config: Mapping[str, Any]) -> int:
    return int(config.get("hidden_size", config.get("dim")))


def _layer(names: Layer, path: str, config: Mapping[str, Any], pruned: Sequence[int], ffn: int | None) -> list[Tensor]:
    """The tensors of one layer, without the heads in `pruned` and with only the first `ffn` inner units."""
    hidden = _width(config)
    heads = int(config.get("num_attention_heads", config.get("n_heads")))
    inner = int(config.get("intermediate_size", config.get("hidden_dim")))
    size = hidden // heads
    kept = tuple(h * size + i for h in range(heads) if h not in pruned for i in range(size))
    narrow = None if ffn is None else tuple(range(ffn))
    rows = (0, kept) if pruned else None
    tensors: list[Tensor] = []
    for name in (names.query, names.key, names.value):
        tensors += _linear(path + name, hidden, hidden, rows)
    tensors += _linear(path + names.out, hidden, hidden, (1, kept) if pruned else None)
    tensors += _norm(path + names.norm1, hidden)
    tensors += _linear(path + names.up, inner, hidden, None if narrow is None else (0, narrow))
    tensors += _linear(path + names.down, hidden, inner, None if narrow is None else (1, narrow))
    tensors += _norm(path + names.norm2, hidden)
    if config.get("position_embedding_type", "absolute") != "absolute":
        shape = (2 * int(config["max_position_embeddings"]) - 1, size)
        tensors.append(Tensor(f"{path}attention.self.distance_embedding.weight", shape, "matrix"))
    return tensors


def _layer_paths(names: Names, config: Mapping[str, Any], stored: Sequence[int] | None) -> list[tuple[int, str]]:
    if "num_hidden_groups" in config:  # ALBERT: groups of inner layers, shared by the layers; pruning numbers them flat
        inner = int(config["inner_group_num"])
        pairs = [(g, j) for g in range(int(config["num_hidden_groups"])) for j in range(inner)]
        return [(g * inner + j, names.layer.path.format(g, j)) for g, j in pairs]
    count = int(config.get("num_hidden_layers", config.get("n_layers")))
    return [(i, names.layer.path.format(i)) for i in (range(count) if stored is None else stored)]


def encoder(
    names: Names,
    config: Mapping[str, Any],
    *,
    pooler: bool,
    stored_layers: Sequence[int] | None = None,
    pruned_heads: Mapping[int, Sequence[int]] | None = None,
    ffn_widths: Sequence[int] | None = None,
) -> list[Tensor]:
    """Tensors of the base model, without the prefix.

    Args:
        names: Module paths of the architecture.
        config: `config.json`; every size is read from it.
        pooler: Whether the pooler is stored.
        stored_layers: Numbers of the layers in the file, where they are not 0 ... n-1 of the config.
        pruned_heads: Layer to the heads that were cut out of it.
        ffn_widths: Inner width of each layer's feed-forward part, where layers were narrowed.
    """
    hidden = _width(config)
    embedding = int(config.get("embedding_size", hidden))
    tensors = [
        Tensor("embeddings.word_embeddings.weight", (int(config["vocab_size"]), embedding), "matrix"),
        Tensor("embeddings.position_embeddings.weight", (int(config["max_position_embeddings"]), embedding), "matrix"),
        *_norm("embeddings.LayerNorm", embedding),
    ]
    if "type_vocab_size" in config:
        shape = (int(config["type_vocab_size"]), embedding)
        tensors.append(Tensor("embeddings.token_type_embeddings.weight", shape, "matrix"))
    # ELECTRA leaves the projection out where the widths are equal; ALBERT always has it.
    if names.projection is not None and (embedding != hidden or "num_hidden_groups" in config):
        tensors += _linear(names.projection, hidden, embedding)
    for position, (number, path) in enumerate(_layer_paths(names, config, stored_layers)):
        width = None if ffn_widths is None else ffn_widths[position]
        tensors += _layer(names.layer, path, config, (pruned_heads or {}).get(number, ()), width)
    if "relative_attention_num_buckets" in config:
        shape = (int(config["relative_attention_num_buckets"]), int(config["num_attention_heads"]))
        tensors.append(Tensor("encoder.relative_attention_bias.weight", shape, "matrix"))
    if pooler and names.pooler is not None:
        tensors += _linear(names.pooler, hidden, hidden)
    return tensors


def head_tensors(names: Names, config: Mapping[str, Any], head: str, *, labels: int, tied: str) -> list[Tensor]:
    """Tensors of a head.

    Args:
        names: Module paths of the architecture.
        config: `config.json`.
        head: One of checkpoints.HEADS.
        labels: Number of the head's labels.
        tied: The masked LM's decoder: "absent" (tied, as transformers saves it today), "copied" (tied and stored twice,
            as it saved it once), "untied" (a table of its own).
    """
    hidden = _width(config)
    if head == "sequence_classification":
        first, last = names.classifier
        return (_linear(first, hidden, hidden) if first else []) + _linear(last, labels, hidden)
    if head == "token_classification":
        return _linear("classifier", labels, hidden)
    if head == "question_answering":
        return _linear("qa_outputs", 2, hidden)
    if head != "masked_lm":
        return []
    embedding = int(config.get("embedding_size", hidden))
    vocabulary = int(config["vocab_size"])
    masked = names.masked
    tensors = _linear(masked.dense, embedding, hidden) + _norm(masked.norm, embedding)
    tensors.append(Tensor(masked.bias, (vocabulary,), "bias"))
    if tied != "absent":
        table = f"{names.prefix}.embeddings.word_embeddings.weight" if tied == "copied" else None
        tensors.append(Tensor(f"{masked.decoder}.weight", (vocabulary, embedding), "matrix", draw=table))
    if tied == "copied" and masked.bias != f"{masked.decoder}.bias":
        tensors.append(Tensor(f"{masked.decoder}.bias", (vocabulary,), "bias", draw=masked.bias))
    return tensors


def _draw(tensor: Tensor, seed: int, gain: float) -> np.ndarray:
    """Values of a tensor, float32 (int64 for a range), `tensor.stored_shape`."""
    if tensor.kind == "range":
        return np.arange(math.prod(tensor.shape), dtype=np.int64).reshape(tensor.shape)
    stream = np.random.RandomState([seed, zlib.crc32((tensor.draw or tensor.name).encode())])
    values = np.empty(math.prod(tensor.shape), np.float32)
    for start in range(0, values.size, _CHUNK):
        values[start : start + _CHUNK] = stream.standard_normal(min(_CHUNK, values.size - start))
    if tensor.kind == "matrix":
        values *= np.float32(gain / math.sqrt(tensor.shape[1]))
    else:
        values *= np.float32(0.1)
    if tensor.kind == "scale":
        values += np.float32(1)
    shaped = values.reshape(tensor.shape)
    return shaped if tensor.keep is None else np.take(shaped, tensor.keep[1], axis=tensor.keep[0])


def _bytes(values: np.ndarray, dtype: str) -> bytes:
    if dtype != "bfloat16":
        return values.astype(f"<{np.dtype(dtype).str[1:]}").tobytes()
    bits = values.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # round half to even


def _shards(tensors: Sequence[Tensor], count: int) -> Iterator[tuple[str, Sequence[Tensor]]]:
    if count == 1:
        yield "model.safetensors", tensors
        return
    for i in range(count):
        part = tensors[len(tensors) * i // count : len(tensors) * (i + 1) // count]
        yield f"model-{i + 1:05d}-of-{count:05d}.safetensors", part


def write_safetensors(
    folder: Path, tensors: Sequence[Tensor], *, seed: int, gain: float, dtype: str = "float32", shards: int = 1
) -> None:
    """Write the tensors as one safetensors file, or as several with their index.

    Args:
        folder: Where the files go.
        tensors: What is written; the files hold them by name.
        seed: Seed of the checkpoint.
        gain: Matrices get the standard deviation gain / sqrt(columns).
        dtype: "float32", "float16" or "bfloat16"; ranges stay int64.
        shards: Number of files.
    """
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    placed: dict[str, str] = {}
    total = 0
    for file, part in _shards(ordered, shards):
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for tensor in part:
            stored = "int64" if tensor.kind == "range" else dtype
            start, end = end, end + math.prod(tensor.stored_shape) * _BYTES[stored]
            header[tensor.name] = {
                "dtype": _STORED[stored],
                "shape": list(tensor.stored_shape),
                "data_offsets": [start, end],
            }
            placed[tensor.name] = file
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (folder / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for tensor in part:
                stream.write(_bytes(_draw(tensor, seed, gain), "int64" if tensor.kind == "range" else dtype))
        total += end
    if shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": placed}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
