"""Where BART and its relatives keep their tensors, as transformers 4.57 saves them: one row per architecture. Knows no graph.

What they have in common: LayerNorm, biases, no gate, positions that are added to the words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgenlp.errors import CheckpointError, UnsupportedError

from ..checkpoint import Checkpoint
from .decoder_names import Names, Row
from .parts import Block, Decoder, EncoderDecoder, Sinusoids, SourceEncoder
from .seq2seq_names import (
    SIDES,
    Attends,
    cross_attention,
    feed_forward,
    norms,
    open_sides,
    self_attention,
    token,
)
from .sinusoids import table

__all__ = ["ROWS", "Layout", "read"]


@dataclass(frozen=True)
class Layout:
    """How one architecture's checkpoints are laid out.

    Attributes:
        row: What encoder and decoder have in common; its defaults hold the keys of both.
        offset: Rows of the position tables before the first position.
        waves: From the width to the frequencies of computed positions, where there are no learned ones.
        padded: Whether positions are numbered from behind the padding's id on, and padding takes none (fairseq).
        separate: Whether encoder and decoder have word tables of their own where words and head are not tied.
        biased: Whether logits may have a bias.
        norm_first: Whether the decoder normalizes words, unscaled, before positions are added (BlenderbotSmallDecoder.forward).
    """

    row: Row
    offset: int = 0
    waves: Callable[[int], tuple[float, ...]] | None = None
    padded: bool = False
    separate: bool = False
    biased: bool = True
    norm_first: bool = False


def read(checkpoint: Checkpoint, kind: str) -> EncoderDecoder:
    """The encoder-decoder of a checkpoint of one of `ROWS`.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that this family does not have.
    """
    layout = ROWS[kind]
    sides = open_sides(checkpoint, {side: _side(layout.row, side) for side in SIDES}, ("model.", ""))
    names = sides.decoder
    shares = names.get("share_encoder_decoder_embeddings")  # a key of Marian's alone
    separate = (shares is not None and not shares) or (layout.separate and not names.flag("tie_word_embeddings"))
    words = sides.words(separate=separate, bias="final_logits_bias" if layout.biased else None)
    # As a float32, which transformers multiplies by
    scale = float(np.float32(names.number("hidden_size") ** 0.5)) if names.flag("scale_embedding") else 1.0
    skipped = token(names, "pad_token_id", checkpoint.shape(words.encoder)[0]) if layout.padded else None
    first = layout.offset if skipped is None else skipped + 1
    encoder, decoder = (_body(side, layout, first) for side in (sides.encoder, sides.decoder))
    if layout.norm_first:
        decoder = {**decoder, "words_norm": decoder["embedding_norm"], "embedding_norm": None, "scale": 1.0}
    return EncoderDecoder(
        SourceEncoder(words.encoder, skipped_id=skipped, scale=scale, **encoder),
        Decoder(words.decoder, head=words.head, head_bias=words.head_bias, **{"scale": scale, **decoder}),
        start=sides.start(words),
    )


def _side(row: Row, side: str) -> Row:
    """The row of one half: its keys, and no cross-attention in an encoder."""
    own = {"num_hidden_layers": f"{side}_layers", "num_attention_heads": f"{side}_attention_heads"}
    defaults = {**row.defaults, **{key: row.defaults[name] for key, name in own.items()}}
    keys = {"hidden_size": ("hidden_size", "d_model"), **{key: (name,) for key, name in own.items()}}
    if side == "encoder":
        # The config classes' attribute_map: the other name, where it is given, counts more
        keys["num_attention_heads"] = ("num_attention_heads", "encoder_attention_heads")
        kept = {part: norm for part, norm in row.norms.items() if not part.startswith("cross_")}
        return replace(row, defaults=defaults, keys=keys, norms=kept)
    return replace(row, defaults=defaults, keys=keys)


def _body(names: Names, layout: Layout, first: int) -> dict[str, Any]:
    """What `SourceEncoder` and `Decoder` have in common, besides words."""
    row, width, window = names.row, names.number("hidden_size"), names.number("max_position_embeddings")
    positions, sinusoids = _positions(names, layout, window)
    embedding_norm = names.norm(names.prefix + row.embedding_norm, width) if row.embedding_norm else None
    return {
        "blocks": tuple(_block(names, path, f"layer.{place}") for place, (_, path) in enumerate(names.layers())),
        "window": window,
        "positions": positions,
        "sinusoids": sinusoids,
        "first_position": first,
        "embedding_norm": embedding_norm,
        "norm": names.norm(names.prefix + row.norm, width) if row.norm else None,
    }


def _positions(names: Names, layout: Layout, window: int) -> tuple[str | None, Sinusoids | None]:
    """The table of positions, or their frequencies.

    Computed positions that a checkpoint stores count, as in transformers, unless they are what the formula gives. M2M100 never
    loads them.
    """
    width, name = names.number("hidden_size"), f"{names.prefix}embed_positions.weight"
    if layout.waves is None:
        names.expect(names.body("embed_positions.weight"), (window + layout.offset, width))
        return name, None
    if width % 2 or width < 4:
        raise UnsupportedError(
            f"sinusoidal positions of width {width} are not supported; only even widths from 4 on are"
        )
    sinusoids = Sinusoids(layout.waves(width))
    if layout.padded or name not in names.checkpoint:
        return None, sinusoids
    names.expect(name, (window, width))
    computed = np.array_equal(names.checkpoint.tensor(name), table(sinusoids, window))
    return (None, sinusoids) if computed else (name, None)


def _block(names: Names, path: str, name: str) -> Block:
    heads, width = names.number("num_attention_heads"), names.number("hidden_size")
    if width % heads:
        raise CheckpointError(
            f"config.json: d_model {width} is no multiple of the number of heads, {heads}; check that it belongs to these weights"
        )
    size = width // heads
    scale = float(size**-0.5)
    cross = any(part.startswith("cross_") for part in names.row.norms)
    return Block(
        name=name,
        attention=self_attention(names, path, _SELF, size=size, scale=scale),
        feed_forward=feed_forward(names, path, names.activation()),
        cross=cross_attention(names, path, _CROSS, size=size, scale=scale) if cross else None,
        **norms(names, path),
    )


def _interleaved(width: int) -> tuple[float, ...]:
    """MarianSinusoidalPositionalEmbedding: 10000^(-2 i / width), float64."""
    return tuple(float(10000 ** (-2 * pair / width)) for pair in range(width // 2))


def _fairseq(width: int) -> tuple[float, ...]:
    """M2M100SinusoidalPositionalEmbedding.get_embedding: exp(-i ln(10000) / (width / 2 - 1)), float32."""
    pace = np.float32(np.log(10000) / (width // 2 - 1))
    exponents = -np.arange(width // 2, dtype=np.float32) * pace
    return tuple(float(value) for value in np.exp(exponents.astype(np.float64)).astype(np.float32))


_SELF, _CROSS = Attends("self_attn"), Attends("encoder_attn")
_SUBLAYERS = {
    "attention": "self_attn_layer_norm",
    "cross": "encoder_attn_layer_norm",
    "feed_forward": "final_layer_norm",
}
_BEFORE = {f"{part}_norm": norm for part, norm in _SUBLAYERS.items()}
_AFTER = {f"{part}_sum_norm": norm for part, norm in _SUBLAYERS.items()}
# BartConfig
_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "max_position_embeddings": 1024,
    "activation_function": "gelu",
    "scale_embedding": False,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "decoder_start_token_id": 2,
}
_BART = Layout(
    Row(
        _DEFAULTS,
        embedding_norm="layernorm_embedding",
        norm=None,
        norms=_AFTER,
        up="fc1",
        down="fc2",
        gate=None,
        biased=True,
        ffn_biased=True,
        rms=False,
        eps=1e-5,  # of torch.nn.LayerNorm
        activation="activation_function",
    ),
    offset=2,
    separate=True,
)


def _like(layout: Layout, defaults: Mapping[str, Any], **changes: Any) -> Layout:
    """A row like `layout`'s, with other defaults and paths."""
    return replace(layout, row=replace(layout.row, defaults={**layout.row.defaults, **defaults}, **changes))


_MBART = _like(_BART, {"decoder_start_token_id": None}, norm="layer_norm", norms=_BEFORE)

ROWS: Mapping[str, Layout] = {
    "bart": _BART,
    "mbart": _MBART,
    "m2m_100": replace(
        _like(
            _MBART,
            {"activation_function": "relu", "scale_embedding": True, "decoder_start_token_id": 2},
            embedding_norm=None,
        ),
        waves=_fairseq,
        padded=True,
        biased=False,
    ),
    "marian": replace(
        _like(
            _BART,
            {
                "bos_token_id": None,
                "pad_token_id": 58100,
                "decoder_start_token_id": 58100,
                "share_encoder_decoder_embeddings": True,
            },
            embedding_norm=None,
        ),
        offset=0,
        waves=_interleaved,
        separate=False,
    ),
    "pegasus": replace(
        _like(_MBART, {"bos_token_id": None, "pad_token_id": 0, "decoder_start_token_id": 0}, embedding_norm=None),
        offset=0,
        waves=_interleaved,
        separate=False,
    ),
    "blenderbot": replace(
        _like(
            _MBART,
            {
                "hidden_size": 2560,
                "encoder_layers": 2,
                "decoder_layers": 24,
                "encoder_attention_heads": 32,
                "decoder_attention_heads": 32,
                "max_position_embeddings": 128,
                "bos_token_id": 1,
                "pad_token_id": 0,
                "decoder_start_token_id": 1,
            },
            embedding_norm=None,
        ),
        offset=0,
        separate=False,
    ),
    "blenderbot-small": replace(
        _like(
            _BART,
            {
                "hidden_size": 512,
                "encoder_layers": 8,
                "decoder_layers": 8,
                "max_position_embeddings": 512,
                "bos_token_id": 1,
                "pad_token_id": 0,
                "decoder_start_token_id": 1,
            },
        ),
        offset=0,
        separate=False,
        norm_first=True,
    ),
}
