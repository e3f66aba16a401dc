"""Reads BART and mBART with a classification head (BART-large-MNLI). Knows no graph; the body is `bart_checkpoints`'s.

The decoder reads the source again, shifted by one behind its start token, and the head reads its state at the source's last token,
which is the end token that the tokenizer puts there (BartForSequenceClassification.forward).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from ..strict_json import read_object
from . import bart_checkpoints
from .matrices import rows_of
from .parts import Dense, EncoderDecoder, Head

__all__ = ["KINDS", "read_classifier"]

KINDS = ("bart", "mbart")
_HEAD = "classification_head"
_LIMIT = 64 << 20  # bytes of tokenizer_config.json


def read_classifier(checkpoint: Checkpoint, kind: str) -> tuple[EncoderDecoder, Head]:
    """Body and head of a checkpoint of one of `KINDS`; the body's `start` is the token that the decoder reads first.

    Raises:
        CheckpointError: A tensor is missing, or shapes disagree.
        UnsupportedError: The config asks for something that this family does not have.
    """
    body = replace(bart_checkpoints.read(checkpoint, kind), start=_start(checkpoint, kind))
    dense, last = (_layer(checkpoint, part) for part in ("dense", "out_proj"))
    width = rows_of(checkpoint, body.decoder.blocks[-1].feed_forward.down)[0]
    inner = rows_of(checkpoint, dense)
    for layer, found, wanted in ((dense, inner[1], width), (last, rows_of(checkpoint, last)[1], inner[0])):
        if found != wanted:
            raise CheckpointError(
                f"{layer.weight} takes {found} values, its neighbours give {wanted}; check the weights"
            )
    return body, Head("sequence-classification", (dense, "tanh", last))


def _layer(checkpoint: Checkpoint, part: str) -> Dense:
    weight, bias = f"{_HEAD}.{part}.weight", f"{_HEAD}.{part}.bias"
    for name in (weight, bias):
        if name not in checkpoint:
            raise CheckpointError(
                f"{checkpoint.folder} holds no tensor {name!r}, which its sequence-classification head needs;"
                " choose another --task, or check the weights"
            )
    return Dense(weight, bias)


def _start(checkpoint: Checkpoint, kind: str) -> int:
    """What the decoder reads first (shift_tokens_right): BART's start token; mBART's is each source's own last token.

    Of mBART-50 that is always the end token. Of mBART it is the language, and what the head reads is one token before it.
    """
    config: Mapping[str, Any] = checkpoint.config
    if kind == "mbart":
        file = checkpoint.folder / "tokenizer_config.json"
        name = read_object(file, limit=_LIMIT).get("tokenizer_class") if file.is_file() else None
        if not str(name).startswith("MBart50Tokenizer"):
            raise UnsupportedError(
                f"an mBART classifier whose tokenizer is {name!r} is not supported: its texts end with a language, and only those"
                " that end with </s> are (MBart50Tokenizer); export a classifier that is a BART or an encoder"
            )
    key = "eos_token_id" if kind == "mbart" else "decoder_start_token_id"
    start = config.get(key, 2)  # the default of BartConfig and MBartConfig
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise CheckpointError(f"{checkpoint.folder / 'config.json'}: {key} is {start!r}, expected the id of a token")
    return start
