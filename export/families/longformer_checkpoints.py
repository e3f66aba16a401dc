"""Where Longformer keeps its tensors: as RoBERTa does, with three more projections in every layer. Knows no graph."""

from collections.abc import Sequence

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from . import bert_checkpoints
from .longformer_parts import LongEncoder, Sight
from .parts import Dense, Head, Layer

__all__ = ["ROWS", "read_encoder", "read_head"]

ROWS = ("longformer",)
_PREFIX, _LAYER, _LIKE = "longformer.", ".layer.", "roberta"


def read_encoder(checkpoint: Checkpoint, kind: str) -> LongEncoder:
    """The body of a checkpoint.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or `attention_window` does not fit the layers.
        UnsupportedError: The config asks for something that this family does not have, or heads were pruned.
    """
    part = _part(checkpoint)
    body = bert_checkpoints.read_encoder(checkpoint, _LIKE, part)
    names = bert_checkpoints.Names(checkpoint, bert_checkpoints.ROWS[_LIKE], part)
    hidden = names.number("hidden_size")
    sights = []
    for layer, window in zip(body.layers, _windows(checkpoint, body.layers), strict=True):
        if (rows := layer.attention.heads * layer.attention.head_size) != hidden:
            raise UnsupportedError(
                f"{layer.attention.query.weight} has {rows} of {hidden} rows: heads were pruned, which transformers cannot do to"
                f" {kind}; export the checkpoint as it was before"
            )
        path = layer.attention.query.weight.removesuffix(".weight")
        several: list[Dense] = []
        for usual in (layer.attention.query, layer.attention.key, layer.attention.value):
            dense = names.dense(usual.weight.removesuffix(".weight") + "_global")
            names.expect(dense.weight, checkpoint.shape(usual.weight))
            if dense.bias:
                names.expect(dense.bias, (rows,))
            several.append(dense)
        if not isinstance(window, int) or isinstance(window, bool) or window < 2 or window % 2:
            raise CheckpointError(
                f"{checkpoint.folder / 'config.json'}: attention_window of {path} is {window!r}, expected an even number"
            )
        sights.append(Sight(window // 2, *several))
    return LongEncoder(body, tuple(sights), separator=_separator(checkpoint))


def read_head(checkpoint: Checkpoint, kind: str, head: str) -> Head:
    """The head of a checkpoint; all of them are RoBERTa's.

    Raises:
        CheckpointError: The checkpoint holds no such head.
    """
    return bert_checkpoints.read_head(checkpoint, _LIKE, head, _part(checkpoint))


def _part(checkpoint: Checkpoint) -> bert_checkpoints.Part:
    """The whole checkpoint; a bare body (LongformerModel) is saved without the prefix that it has under a head."""
    bare = f"{_PREFIX}embeddings.word_embeddings.weight" not in checkpoint
    return bert_checkpoints.Part(checkpoint.config, "" if bare else _PREFIX)


def _windows(checkpoint: Checkpoint, layers: Sequence[Layer]) -> list[object]:
    """`attention_window` of each layer: one number for all, or one for each, by the number that the layer is stored under."""
    given = checkpoint.config.get("attention_window", 512)
    if not isinstance(given, list):
        return [given] * len(layers)
    if len(given) == len(layers):
        return list(given)
    numbers = [int(layer.attention.query.weight.split(_LAYER, 1)[1].split(".", 1)[0]) for layer in layers]
    if len(given) <= max(numbers):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: attention_window has {len(given)} numbers for {len(layers)} layers, the last of"
            f" which is stored as number {max(numbers)}; give as many as there are layers"
        )
    return [given[number] for number in numbers]


def _separator(checkpoint: Checkpoint) -> int:
    found = checkpoint.config.get("sep_token_id", 2)
    if not isinstance(found, int) or isinstance(found, bool):
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: sep_token_id is {found!r}, expected a number")
    return found
