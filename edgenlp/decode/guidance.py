"""Classifier-free guidance's second batch: the same rows without their prompts, in step with the first. Knows no formula.

The formula is a processor's; this keeps what it needs (transformers' UnbatchedClassifierFreeGuidanceLogitsProcessor). Beams take
their second rows along, which transformers' do not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.rows import Floats, Sequences

__all__ = ["Paired"]


class Paired:
    """`Sequences` that read every new id twice: behind the prompt, and behind what stands in its place.

    Args:
        first: Has read the prompts.
        second: Has read what stands in their place.
        without: The logits [rows, columns] of `second`.

    Attributes:
        without: The logits of `second` after the last id.
    """

    def __init__(self, first: Sequences, second: Sequences, without: Floats) -> None:
        self._first = first
        self._second = second
        self.without = without

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows] tokens that each row of the first batch has read."""
        return self._first.lengths

    @property
    def columns(self) -> int:
        """Columns of the logits."""
        return self._first.columns

    @property
    def hidden(self) -> list[Any] | None:
        """Hidden states of the first batch."""
        return self._first.hidden

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """See `Sequences.read`; `without` is after the last id of each row."""
        self.without = self._second.read(ids)
        return self._first.read(ids, every=every)

    def step(self, tokens: NDArray[np.int64]) -> Floats:
        """See `Sequences.step`."""
        self.without = self._second.step(tokens)
        return self._first.step(tokens)

    def log_softmax(self, logits: Floats) -> Floats:
        """See `Sequences.log_softmax`."""
        return self._first.log_softmax(logits)

    def select(self, parents: Sequence[int]) -> None:
        """See `Sequences.select`."""
        self._first.select(parents)
        self._second.select(parents)
        self.without = self.without[np.asarray(parents)]

    def rewind(self, lengths: Sequence[int]) -> None:
        """See `Sequences.rewind`; `without` is gone with the tail."""
        shorter = self._first.lengths - np.asarray(lengths)
        self._first.rewind(lengths)
        self._second.rewind((self._second.lengths - shorter).tolist())
