"""What a SentencePiece model file says: its pieces and settings. Knows no tokenizer class, and segments no text.

A model file is one protobuf message (`ModelProto` of google/sentencepiece, src/sentencepiece_model.proto). The few
fields that a conversion needs are read here from the wire format itself, so neither protobuf nor sentencepiece is
required.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from edgenlp.errors import CheckpointError

from .charsmap import check_charsmap

__all__ = ["Algorithm", "Kind", "Piece", "SentencePieceModel", "read_sentencepiece"]

# Wire types of protobuf; 3 and 4 (groups) are in no SentencePiece file.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Kind(IntEnum):
    """`ModelProto.SentencePiece.Type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(IntEnum):
    """`TrainerSpec.ModelType`."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary: its text, its log probability (float32 as stored) and what it is for."""

    text: str
    score: float = 0.0
    kind: Kind = Kind.NORMAL


@dataclass(frozen=True)
class SentencePieceModel:
    """The fields of a model file that a conversion needs; each default is the message's own.

    Attributes:
        pieces: The vocabulary; the place of a piece is its id.
        algorithm: How a text is segmented (`trainer_spec.model_type`).
        unk_id: Id of the unknown piece.
        unk_piece: Its text.
        byte_fallback: Whether unknown characters become byte pieces.
        whitespace_as_suffix: Whether the space belongs to the word before it.
        charsmap: Compiled normalization rules (`normalizer_spec.precompiled_charsmap`), empty where there are none.
        dummy_prefix: Whether a space is put before the text.
        squeezes_spaces: Whether outer spaces are dropped and inner runs become one.
        escapes_spaces: Whether a space is written "▁".
    """

    pieces: tuple[Piece, ...]
    algorithm: Algorithm = Algorithm.UNIGRAM
    unk_id: int = 0
    unk_piece: str = "<unk>"
    byte_fallback: bool = False
    whitespace_as_suffix: bool = False
    charsmap: bytes = b""
    dummy_prefix: bool = True
    squeezes_spaces: bool = True
    escapes_spaces: bool = True


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """Read a model file.

    Raises:
        CheckpointError: The file cannot be read, is truncated, or is no SentencePiece model.
    """
    try:
        return _model(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; check that the file exists and is readable") from error
    except ValueError as error:  # UnicodeDecodeError is one
        raise CheckpointError(
            f"{path} is no SentencePiece model, or is damaged ({error}); download the file again and compare its size"
        ) from error


def _model(data: bytes) -> SentencePieceModel:
    """`ModelProto`: pieces = 1, trainer_spec = 2, normalizer_spec = 3."""
    pieces: list[Piece] = []
    trainer = normalizer = b""  # a sub-message that comes twice is merged, which is what joining its bytes does
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_as_bytes(number, value)))
        elif number == 2:
            trainer += _as_bytes(number, value)
        elif number == 3:
            normalizer += _as_bytes(number, value)
    if not pieces:
        raise ValueError("it holds no pieces")
    _check_unique(pieces)
    if not trainer or not normalizer:
        raise ValueError("it holds no settings of the trainer or the normalizer, as if its end were missing")
    training, normalizing = dict(_fields(trainer)), dict(_fields(normalizer))
    charsmap = _as_bytes(2, normalizing.get(2, b""))
    if charsmap:
        check_charsmap(charsmap)
    unk_id = _integer(training, 40, 0)
    if not 0 <= unk_id < len(pieces):
        raise ValueError(f"the unknown piece has id {unk_id}, but there are {len(pieces)} pieces")
    return SentencePieceModel(
        pieces=tuple(pieces),
        algorithm=Algorithm(_integer(training, 3, Algorithm.UNIGRAM)),
        unk_id=unk_id,
        unk_piece=_as_bytes(45, training[45]).decode("utf-8") if 45 in training else "<unk>",
        byte_fallback=bool(_integer(training, 35, 0)),
        whitespace_as_suffix=bool(_integer(training, 24, 0)),
        charsmap=charsmap,
        dummy_prefix=bool(_integer(normalizing, 3, 1)),
        squeezes_spaces=bool(_integer(normalizing, 4, 1)),
        escapes_spaces=bool(_integer(normalizing, 5, 1)),
    )


def _piece(data: bytes) -> Piece:
    """`ModelProto.SentencePiece`: piece = 1, score = 2, type = 3."""
    fields = dict(_fields(data))
    score = fields.get(2, 0.0)
    if not isinstance(score, float) or not math.isfinite(score):
        raise ValueError(f"a piece has the score {score!r}")
    text = _as_bytes(1, fields.get(1, b"")).decode("utf-8")
    return Piece(text, score, Kind(_integer(fields, 3, Kind.NORMAL)))


def _check_unique(pieces: list[Piece]) -> None:
    seen: set[str] = set()
    for index, piece in enumerate(pieces):
        if piece.text in seen:
            raise ValueError(f"piece {index} ({piece.text!r}) occurs twice")
        seen.add(piece.text)


def _integer(fields: Mapping[int, object], number: int, default: int) -> int:
    value = fields.get(number, default)
    if not isinstance(value, int):
        raise ValueError(f"field {number} should be a number")
    return value - (1 << 64) if value >= 1 << 63 else value  # int32 and int64 are stored as two's complement


def _as_bytes(number: int, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} should be text or a message")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of one message, as (number, value): varints as int, 32-bit fields as float, the rest as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"field number 0 before byte {at}")
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire} before byte {at}")
        if length > len(data) - at:
            raise ValueError(f"field {number} needs {length} bytes and {len(data) - at} are left")
        raw, at = data[at : at + length], at + length
        yield number, struct.unpack("<f", raw)[0] if wire == _FIXED32 else raw


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the place after it; seven bits a byte, low ones first, at most ten bytes."""
    value = 0
    for count in range(10):
        if at + count >= len(data):
            raise ValueError("it ends inside a number")
        byte = data[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & ((1 << 64) - 1), at + count + 1
    raise ValueError(f"a number at byte {at} is longer than ten bytes")
