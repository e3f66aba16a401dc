"""LED while it is traced: its windows as blocks that any length is cut into, and what optimum 0.1 is told of it. Knows no bundle.

transformers cuts the windows of `LEDEncoderSelfAttention` out of memory with `as_strided`, whose sizes a trace holds fixed: with
other lengths the graph fails, or is wrong and does not say so. Here blocks stand beside each other instead, with the same numbers
(sliding windows: Beltagy et al. 2020, Longformer, section 3.1).

No token attends globally: transformers' pipelines and `generate` give no `global_attention_mask` unless a caller does, which makes it
zeros. A model that was trained with global attention on its first token answers as it does in those, not as in its own example code.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["blocks_side_by_side", "descriptions", "source_multiple"]

_WINDOW = 512  # `LEDConfig`'s own
_TARGET = 16  # tokens that a decoder is traced with


def source_multiple(config: Mapping[str, object]) -> int:
    """What sources are filled up to a multiple of: the widest `attention_window`, of which the others are parts."""
    windows = config.get("attention_window", _WINDOW)
    found = [size for size in windows if isinstance(size, int)] if isinstance(windows, list) else [windows]
    return math.lcm(*(size for size in found if isinstance(size, int))) or _WINDOW


def descriptions(config: Any) -> dict[str, Any]:
    """What optimum is told of the three graphs: inputs and outputs are BART's."""
    bart: Any = importlib.import_module("optimum.exporters.onnx.model_configs").BartOnnxConfig
    positions = int(config.max_decoder_position_embeddings)

    class Decoder(bart):  # type: ignore[misc]  # its base is known when optimum is installed
        def generate_dummy_inputs(self, *given: Any, **shapes: Any) -> Any:
            # not the source's length, which is one of whole windows and may be more than the decoder has positions for
            return super().generate_dummy_inputs(*given, **shapes | {"sequence_length": min(_TARGET, positions - 1)})

    task = "text2text-generation"
    decoder = Decoder(config, task=task, use_past=True)
    return {
        "encoder_model": bart(config, task=task, use_past=True).with_behavior("encoder"),
        "decoder_model": decoder.with_behavior("decoder", use_past=True, use_past_in_inputs=False),
        "decoder_with_past_model": decoder.with_behavior("decoder", use_past=True, use_past_in_inputs=True),
    }


@contextlib.contextmanager
def blocks_side_by_side(torch: Any) -> Iterator[None]:
    """LED's two products of windows in a form that is traced for every length; as they were before afterwards."""
    attention: Any = importlib.import_module("transformers.models.led.modeling_led").LEDEncoderSelfAttention
    names = ("_sliding_chunks_query_key_matmul", "_sliding_chunks_matmul_attn_probs_value")
    before = [getattr(attention, name) for name in names]
    try:
        for name, made in zip(names, (_scores(torch), _contexts(torch)), strict=True):
            setattr(attention, name, made)
        yield
    finally:
        for name, made in zip(names, before, strict=True):
            setattr(attention, name, made)


def _neighbours(torch: Any, x: Any, width: int) -> Any:
    """X [batch, tokens, heads, size] as [batch * heads, blocks, 3 width, size]: each block of `width` between its neighbours."""
    rows = x.transpose(1, 2).reshape(x.size(0) * x.size(2), -1, width, x.size(3))
    padded = torch.nn.functional.pad(rows, (0, 0, 0, 0, 1, 1))  # a block of zeros at either end
    return torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], dim=2)


def _scores(torch: Any) -> Callable[[Any, Any, Any, int], Any]:
    """Products of every query with the keys up to `width` tokens before and behind it."""

    def scores(self: Any, query: Any, key: Any, width: int) -> Any:
        """[batch, tokens, heads, size] twice to [batch, tokens, heads, 2 width + 1]; -inf where there is no key."""
        batch, tokens, heads = query.size(0), query.size(1), query.size(2)
        queries = query.transpose(1, 2).reshape(batch * heads, -1, width, query.size(3))
        # [batch * heads, blocks, width, 3 width]: query i of a block wants columns i to i + 2 width
        products = torch.matmul(queries, _neighbours(torch, key, width).transpose(2, 3))
        # rows that are one longer than they were begin one further on each
        flat = torch.nn.functional.pad(products.reshape(batch * heads, -1, 3 * width * width), (0, width))
        band = flat.reshape(batch * heads, -1, width, 3 * width + 1)[..., : 2 * width + 1]
        band = band.reshape(batch, heads, -1, 2 * width + 1).transpose(1, 2)
        place = torch.arange(tokens)[:, None] + torch.arange(2 * width + 1)[None] - width
        outside = (place < 0) | (place >= tokens)
        return band.masked_fill(outside[None, :, None], -math.inf)

    return scores


def _contexts(torch: Any) -> Callable[[Any, Any, Any, int], Any]:
    """Sums of the values around every token by its weights."""

    def contexts(self: Any, weights: Any, value: Any, width: int) -> Any:
        """Weights [batch, tokens, heads, 2 width + 1], values [batch, tokens, heads, size] to [batch, tokens, heads, size]."""
        batch, heads, size = value.size(0), value.size(2), value.size(3)
        band = weights.transpose(1, 2).reshape(batch * heads, -1, width, 2 * width + 1)
        # the way of `scores` back: rows that are one shorter begin one earlier each
        flat = torch.nn.functional.pad(band, (0, width)).reshape(batch * heads, -1, width * (3 * width + 1))
        spread = flat[..., : 3 * width * width].reshape(batch * heads, -1, width, 3 * width)
        found = torch.matmul(spread, _neighbours(torch, value, width))
        return found.reshape(batch, heads, -1, size).transpose(1, 2)

    return contexts
