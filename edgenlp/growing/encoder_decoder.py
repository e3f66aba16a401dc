"""Sources read once, targets written token by token: a traced encoder-decoder's two graphs. Knows no text, chooses no token.

The first graph gives the keys and values of every cross-attention, the second takes them beside those that grow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.encode import padded, plan
from edgenlp.errors import BundleError
from edgenlp.growing.decoder import GrowingGraph, GrowingRows, spec
from edgenlp.growing.facts import Growing
from edgenlp.growing.past import Past
from edgenlp.language_model import Reading, counted_sources
from edgenlp.session import Session

__all__ = ["GrowingEncoderDecoder", "GrowingTargets"]

Array = NDArray[Any]
Integers = NDArray[np.integer[Any]]

_AGAIN = "export the bundle again"


class GrowingEncoderDecoder(GrowingGraph):
    """A traced encoder's graph and its decoder's (`edgenlp.language_model.Seq2SeqLM`).

    Args:
        encoder: Inputs are `input_ids` [batch, sequence] and `lengths` [batch] or `attention_mask` [batch, sequence]; outputs are what
            the facts' crossings name.
        decoder: The graph that writes.
        facts: What its inputs and outputs are.
        window: Most tokens of a source.
        target_window: Most tokens of a target.
        tokens: Most tokens, padding included, of one run.

    Raises:
        BundleError: A graph has not the inputs and outputs that the facts name, or others beside.
    """

    def __init__(
        self, encoder: Session, decoder: Session, facts: Growing, *, window: int, target_window: int, tokens: int
    ) -> None:
        super().__init__(decoder, facts, longest=target_window, tokens=tokens)
        self.encoder = encoder
        self.window = window
        self.target_window = target_window
        if unknown := sorted(set(encoder.inputs) - {"input_ids", "lengths", "attention_mask"}):
            raise BundleError(f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp")
        if missing := [item.given for item in facts.crossings if item.given not in encoder.outputs]:
            raise BundleError(f"the encoder has no output {missing[0]!r}, which edgenlp.json names; {_AGAIN}")
        self.crossings = [
            spec(item, decoder.inputs[item.taken], encoder.outputs[item.given]) for item in facts.crossings
        ]

    def read(self, sources: Sequence[Sequence[int]], *, batch_size: int | None = None) -> Reading:
        """Run the encoder; see `edgenlp.language_model.Seq2SeqLM`."""
        counts = counted_sources(sources, self.window)
        width = self._filled(int(counts.max()))
        held: dict[str, Array] = {}
        for members in (sorted(run) for run in plan(counts.tolist(), self.tokens, batch_size)):
            found = self._encode([list(sources[index]) for index in members])
            if len(members) == len(sources):
                held = found
                break
            for item in self.crossings:
                array = found[item.name]
                if item.name not in held:
                    held[item.name] = np.zeros(item.sized(len(sources), width), item.dtype)
                for place, member in enumerate(members):
                    part = array[item.at(place, slice(None))]
                    held[item.name][item.at(member, slice(0, array.shape[item.time]))] = part
        return Reading(self, held, counts)

    def targets(
        self, reading: Reading, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "GrowingTargets":
        """Begin a target for each of the reading's sources; see `edgenlp.language_model.Reading.start`."""
        cache = self.cache(len(reading.sources), capacity, most=most, hidden=hidden)
        return GrowingTargets(self, reading, cache, hidden=hidden)

    def crossing(self, reading: Reading, sources: Integers) -> dict[str, Array]:
        """The decoder's inputs for rows that write from these; the arrays themselves where they are all, in their order."""
        if np.array_equal(sources, np.arange(len(reading.lengths))):
            found = dict(reading.held)
        else:
            found = {item.name: np.take(reading.held[item.name], sources, axis=item.batch) for item in self.crossings}
        if self.facts.source_mask is not None:
            width = self._filled(int(reading.lengths.max()))
            found[self.facts.source_mask] = (np.arange(width) < reading.lengths[sources][:, None]).astype(np.int64)
        return found

    def _filled(self, count: int) -> int:
        """Tokens that a source of so many is filled up to."""
        multiple = self.facts.source_multiple
        return -(-count // multiple) * multiple

    def _encode(self, ids: list[list[int]]) -> dict[str, Array]:
        """Keys and values of the cross-attentions, by the names of the decoder's inputs."""
        lengths = np.array([len(item) for item in ids])
        width = self._filled(int(lengths.max()))
        feed = {
            "input_ids": padded(ids, lengths, width),
            "lengths": lengths,
            "attention_mask": np.arange(width) < lengths[:, None],
        }
        given = self.encoder.run(feed, outputs=[item.given for item in self.facts.crossings])
        return {item.taken: given[item.given] for item in self.facts.crossings}


class GrowingTargets(GrowingRows):
    """A batch of targets under way (`edgenlp.decode.rows.Sequences`).

    Args:
        model: What writes them.
        reading: The sources.
        cache: Empty.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, model: GrowingEncoderDecoder, reading: Reading, cache: Past, *, hidden: bool) -> None:
        super().__init__(model, cache, hidden=hidden)
        self._model = model
        self._reading = reading
        self._sources = reading.sources
        self._crossing: tuple[Integers, dict[str, Array]] | None = None

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""
        super().select(parents)
        self._sources = self._sources[np.asarray(parents, np.int64)]

    def _more(self, rows: Integers) -> Mapping[str, Array]:
        sources = self._sources[rows]
        if self._crossing is None or not np.array_equal(self._crossing[0], sources):
            self._crossing = None  # its memory is free before it is asked for anew
            self._crossing = (sources, self._model.crossing(self._reading, sources))
        return self._crossing[1]
