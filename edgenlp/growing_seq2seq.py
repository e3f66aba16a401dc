"""Sources read once, targets written token by token: a traced encoder-decoder's two graphs. Knows no text, chooses no token.

The first graph gives the keys and values of every cross-attention, the second takes them beside those that grow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Growing
from edgenlp.encode import padded, plan
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.growing import GrowingGraph, GrowingRows, spec
from edgenlp.growing_past import Past
from edgenlp.session import Session

__all__ = ["GrowingEncoderDecoder", "GrowingReading", "GrowingTargets"]

Array = NDArray[Any]
Integers = NDArray[np.integer[Any]]

_AGAIN = "export the bundle again"


class GrowingEncoderDecoder(GrowingGraph):
    """A traced encoder's graph and its decoder's; many sources may be under way at once.

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

    def read(self, sources: Sequence[Sequence[int]], *, batch_size: int | None = None) -> "GrowingReading":
        """Run the encoder.

        Args:
            sources: Ids, at least one each, of any lengths.
            batch_size: Most sources in one run; None for as many as the budget of tokens holds.

        Raises:
            InputError: There is no source, or one is empty.
            TooLongError: A source is longer than the window.
        """
        counts = [len(ids) for ids in sources]
        if not counts or min(counts) < 1:
            raise InputError("a source has no tokens: there is nothing to read; give text")
        if (longest := max(counts)) > self.window:
            raise TooLongError(
                f"the input is {longest} tokens long, the model takes {self.window}; shorten it, or pass"
                " long_input='truncate' or long_input='stride'"
            )
        width = self._filled(longest)
        held: dict[str, Array] = {}
        for members in (sorted(run) for run in plan(counts, self.tokens, batch_size)):
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
        return GrowingReading(self, held, np.array(counts), width)

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


class GrowingReading:
    """Sources that were read: what targets are written from (`edgenlp.decode.rows.Model`).

    Args:
        model: What read them.
        held: Name of each of the decoder's inputs to keys or values of all sources.
        lengths: [sources] tokens of each.
        width: Positions of `held`.
        of: Source of each sequence that will be started; None for one sequence to each source.
    """

    def __init__(
        self,
        model: GrowingEncoderDecoder,
        held: Mapping[str, Array],
        lengths: Integers,
        width: int,
        of: Integers | None = None,
    ) -> None:
        self.model = model
        self.held = held
        self.lengths = lengths
        self.width = width
        self.sources: Integers = np.arange(len(lengths)) if of is None else of

    @property
    def window(self) -> int:
        """Most tokens of a target."""
        return self.model.target_window

    @property
    def columns(self) -> int:
        """Columns of the logits."""
        return self.model.columns

    def of(self, rows: Sequence[int]) -> "GrowingReading":
        """The same, with sequence i writing from source rows[i].

        Raises:
            InputError: There is no such source.
        """
        chosen = np.asarray(rows, np.int64)
        if not len(chosen) or not 0 <= chosen.min() <= chosen.max() < len(self.lengths):
            raise InputError(f"cannot write from sources {chosen.tolist()}: {len(self.lengths)} were read")
        return GrowingReading(self.model, self.held, self.lengths, self.width, chosen)

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "GrowingTargets":
        """Begin targets, one for each source or for each that `of` named.

        Args:
            rows: How many.
            capacity: Most tokens of each; None for the window.
            most: Most rows that `select` may make of them.
            hidden: Whether `hidden` is kept.

        Raises:
            InputError: There are not so many.
            TooLongError: The capacity is beyond the window.
            BundleError: Hidden states are wanted, and the graph gives none.
        """
        if rows != len(self.sources):
            raise InputError(f"{rows} targets are asked for, there are sources for {len(self.sources)}")
        return GrowingTargets(self, self.model.past(rows, capacity, most=most, hidden=hidden), hidden=hidden)

    def crossing(self, sources: Integers) -> dict[str, Array]:
        """The decoder's inputs for rows that write from these; the arrays themselves where they are all, in their order."""
        facts = self.model.facts
        if np.array_equal(sources, np.arange(len(self.lengths))):
            found = dict(self.held)
        else:
            found = {
                item.name: np.take(self.held[item.name], sources, axis=item.batch) for item in self.model.crossings
            }
        if facts.source_mask is not None:
            found[facts.source_mask] = (np.arange(self.width) < self.lengths[sources][:, None]).astype(np.int64)
        return found


class GrowingTargets(GrowingRows):
    """A batch of targets under way (`edgenlp.decode.rows.Sequences`).

    Args:
        reading: The sources.
        past: Empty.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, reading: GrowingReading, past: Past, *, hidden: bool) -> None:
        super().__init__(reading.model, past, hidden=hidden)
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
            self._crossing = (sources, self._reading.crossing(sources))
        return self._crossing[1]
