"""Reads encoders and decoders of different families that were put together (transformers' EncoderDecoderModel). Knows no graph.

config.json holds the config of either part, and their tensors' names begin with "encoder." and "decoder.". Every name of a tensor that
is given back is a full one.
"""

from collections.abc import Mapping
from typing import Any

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from ..generation import read_generation
from . import bert_checkpoints, bert_decoder_checkpoints, gpt_checkpoints
from .matrices import rows_of
from .parts import Decoder, Dense, Encoder, EncoderDecoder

__all__ = ["DECODERS", "ENCODERS", "MODEL_TYPE", "read"]

MODEL_TYPE = "encoder-decoder"
_ENCODER, _DECODER, _BRIDGE = "encoder.", "decoder.", "enc_to_dec_proj"

ENCODERS = tuple(sorted(bert_checkpoints.ROWS))
DECODERS = (*bert_decoder_checkpoints.DECODERS, "gpt2")
# bos_token_id of the config classes of transformers 4.57, where config.json leaves it out
_BEGINS = {"camembert": 0, "gpt2": 50256, "roberta": 0, "xlm-roberta": 0}


def read(checkpoint: Checkpoint, kind: str = MODEL_TYPE) -> EncoderDecoder:
    """The encoder-decoder of a checkpoint whose config.json says model_type "encoder-decoder".

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: A part is of an architecture that is not exported as such, or asks for something that is not supported.
    """
    config = checkpoint.config
    reads, writes = (_part(checkpoint, name) for name in ("encoder", "decoder"))
    reader, writer = _known(reads, "encoder", ENCODERS), _known(writes, "decoder", DECODERS)
    if any(said.get("quantization_config") for said in (config, reads, writes)):
        raise UnsupportedError(
            "the checkpoint's weights are quantized (quantization_config); export the model that it was made from, with --precision"
        )
    if not writes.get("add_cross_attention"):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: the decoder's add_cross_attention is {writes.get('add_cross_attention')!r},"
            " expected true: without it transformers has no cross-attention; set it, or check that the model is an encoder-decoder"
        )
    twin = None
    if config.get("tie_encoder_decoder") and writer in bert_checkpoints.ROWS:
        # EncoderDecoderModel.tie_weights: what both have is the decoder's, and stored as that
        twin = bert_decoder_checkpoints.body_of(writer, _DECODER)
    part = bert_checkpoints.Part(reads, _ENCODER, _ENCODER, twin)
    encoder = bert_checkpoints.read_encoder(checkpoint, reader, part)
    decoder = _decoder(checkpoint, writer, writes)
    begins = {"bos_token_id": _BEGINS.get(writer)}
    start = _start(checkpoint, {**begins, **writes})
    _check_start(checkpoint, decoder, start)
    return EncoderDecoder(encoder, decoder, _bridge(checkpoint, encoder, decoder), start)


def _part(checkpoint: Checkpoint, name: str) -> Mapping[str, Any]:
    """The config of a part."""
    said = checkpoint.config.get(name)
    if not isinstance(said, Mapping):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: {name} is {said!r}, expected an object with the {name}'s config"
        )
    return said


def _known(said: Mapping[str, Any], what: str, known: tuple[str, ...]) -> str:
    """The architecture of a part."""
    if (kind := said.get("model_type")) not in known:
        raise UnsupportedError(
            f"config.json says that the {what} is of model_type {kind!r}; edgenlp exports encoder-decoders whose {what} is one of"
            f" {', '.join(known)}"
        )
    return str(kind)


def _decoder(checkpoint: Checkpoint, kind: str, config: Mapping[str, Any]) -> Decoder:
    if kind == "gpt2":
        return gpt_checkpoints.read_crossing(checkpoint, config, _DECODER)
    return bert_decoder_checkpoints.read_decoder(checkpoint, kind, config, _DECODER)


def _bridge(checkpoint: Checkpoint, encoder: Encoder, decoder: Decoder) -> Dense | None:
    """Between unequal widths (EncoderDecoderModel.forward)."""
    given = checkpoint.shape(encoder.layers[-1].down.weight)[0]
    cross = decoder.blocks[0].cross
    assert cross
    wanted = rows_of(checkpoint, cross.key)[1]
    if given == wanted:
        return None
    weight, bias = f"{_BRIDGE}.weight", f"{_BRIDGE}.bias"
    if weight not in checkpoint:
        raise CheckpointError(
            f"the encoder is {given} wide, the decoder {wanted}, and {checkpoint.folder} holds no tensor {weight!r} between them;"
            " check the weights"
        )
    bridge = Dense(weight, bias if bias in checkpoint else None)
    if (found := rows_of(checkpoint, bridge)) != (wanted, given):
        raise CheckpointError(
            f"{weight} has shape {list(found)}, its neighbours need {[wanted, given]}; check the weights"
        )
    return bridge


def _start(checkpoint: Checkpoint, writes: Mapping[str, Any]) -> int:
    """What stands before every target: decoder_start_token_id, else bos_token_id (GenerationMixin._prepare_special_tokens).

    Either may stand in generation_config.json, else in config.json, there in the decoder's part too
    (GenerationConfig.from_model_config).
    """
    config = checkpoint.config
    places = (read_generation(checkpoint.folder, config), config, writes)
    for key in ("decoder_start_token_id", "bos_token_id"):
        said = next((place[key] for place in places if place.get(key) is not None), None)
        if said is None:
            continue
        if not isinstance(said, int) or isinstance(said, bool) or said < 0:
            raise CheckpointError(f"{checkpoint.folder / 'config.json'}: {key} is {said!r}, expected the id of a token")
        return said
    raise CheckpointError(
        f"{checkpoint.folder / 'config.json'} says no decoder_start_token_id and no bos_token_id, so that nothing can be written;"
        " set decoder_start_token_id to the token that stood before the targets in training"
    )


def _check_start(checkpoint: Checkpoint, decoder: Decoder, start: int) -> None:
    if start >= (rows := checkpoint.shape(decoder.words)[0]):
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: decoder_start_token_id is {start}, the decoder has {rows} tokens; check both"
        )
    if decoder.first_position and start == decoder.first_position - 1:
        raise UnsupportedError(
            f"decoder_start_token_id {start} is the decoder's padding, which takes no position of its own (RoBERTa); that is not"
            " supported: train with the token that begins a text, and set decoder_start_token_id to it"
        )
