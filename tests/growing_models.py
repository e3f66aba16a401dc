"""Traced models to test with: the graphs of toy_growing.py, loaded once, and the facts that are true of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from toy_growing import MULTIPLE, TARGETS, decoder_graph, reading_graph, writing_graph
from toy_model import COLUMNS, WINDOW, forward, weights

from edgenlp.growing.decoder import GrowingDecoder
from edgenlp.growing.encoder_decoder import GrowingEncoderDecoder
from edgenlp.growing.facts import Crossing, Growing, Grows
from edgenlp.session import Session

__all__ = ["CACHES", "EXACT", "LAYOUTS", "decoder", "facts", "logits_of", "random_rows", "seq2seq", "session"]

EXACT = 1e-4
LAYOUTS = {"heads before time": (0, 1, 2, 3), "time before heads": (0, 2, 1, 3), "time last": (1, 0, 3, 2)}
CACHES = [f"{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
_MADE: dict[Any, Session] = {}


def session(maker: Any, **options: Any) -> Session:
    """A graph, loaded once for all tests."""
    key = (maker, *options.items())
    if key not in _MADE:
        _MADE[key] = Session(maker(**options), threads=1)
    return _MADE[key]


def facts(axes: tuple[int, ...] = (0, 1, 2, 3), positions: str = "given", **others: Any) -> Growing:
    names = (Grows(f"past_key_values.{name}", f"present.{name}", axes.index(0), axes.index(2)) for name in CACHES)
    masked = positions in ("given", "mask")
    return Growing(
        caches=tuple(names),
        hidden="last_hidden_state",
        mask="attention_mask" if masked else None,
        positions="position_ids" if positions == "given" else None,
        cache_positions="cache_position" if positions == "column" else None,
        **{"ragged": masked, **others},
    )


def decoder(
    axes: tuple[int, ...] = (0, 1, 2, 3), positions: str = "given", *, tokens: int = 2048, **others: Any
) -> GrowingDecoder:
    graph = session(decoder_graph, axes=axes, positions=positions)
    return GrowingDecoder(graph, facts(axes, positions, **others), window=WINDOW, tokens=tokens)


def seq2seq(*, tokens: int = 2048, lengths: bool = False, **others: Any) -> GrowingEncoderDecoder:
    caches = tuple(
        Grows(f"past_key_values.{layer}.decoder.{part}", f"present.{layer}.decoder.{part}")
        for layer in (0, 1)
        for part in ("key", "value")
    )
    crossings = tuple(
        Crossing(f"present.{layer}.encoder.{part}", f"past_key_values.{layer}.encoder.{part}")
        for layer in (0, 1)
        for part in ("key", "value")
    )
    said = Growing(
        caches, crossings=crossings, source_mask="encoder_attention_mask", source_multiple=MULTIPLE, **others
    )
    both = session(reading_graph, lengths=lengths), session(writing_graph)
    return GrowingEncoderDecoder(*both, said, window=40, target_window=TARGETS, tokens=tokens)


def logits_of(ids: Sequence[int]) -> NDArray[np.float32]:
    return forward(weights(), ids)[0]


def random_rows(*lengths: int) -> list[list[int]]:
    random = np.random.RandomState(sum(lengths))
    return [random.randint(8, COLUMNS, length).tolist() for length in lengths]
