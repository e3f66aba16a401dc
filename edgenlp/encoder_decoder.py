"""Sources read once, targets written token by token: an encoder-decoder's two graphs. Knows no text, and not how a token is chosen.

What an encoder gives is turned into the keys and values of every cross-attention by its own graph, once. Rows that write from one
source, as beams do, share them: they go through the decoder as queries side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.cache import Cache
from edgenlp.cached import Cached, CachedRows
from edgenlp.encode import padded, plan
from edgenlp.errors import BundleError
from edgenlp.language_model import Reading, counted_sources
from edgenlp.session import Session, Tensor

__all__ = ["EncoderDecoder", "TargetSequences"]

Floats = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

_CROSS = "cross."
_INPUTS = {"input_ids", "position_ids", "seqlens_k", "total_sequence_length", "source_lengths"}
_AGAIN = "export the bundle again"


class EncoderDecoder(Cached):
    """An encoder's graph and its decoder's, which has a cache in place (`edgenlp.language_model.Seq2SeqLM`).

    Args:
        encoder: Inputs are `input_ids` [batch, sequence] and `lengths` [batch]; an output `cross.N` [2 n, batch, heads, sequence,
            size] holds keys and values of the cross-attentions of n layers from N on.
        decoder: Inputs are `input_ids` [rows, 1], perhaps `position_ids` alike, `seqlens_k` [rows] (tokens of each row before this
            one), `total_sequence_length` [1] (the longest row's, this token included), per layer `past_key_values.N.key` and
            `.value` [rows, heads, capacity, size], which come out as `present.N.*` in the same memory, `source_lengths` [sources], and
            per layer `cross.N.key` and `.value` [sources, heads, source, size]. Neighbouring rows share a source, as many each.
        window: Most tokens of a source.
        target_window: Most tokens of a target.
        tokens: Most tokens, padding included, of one run of the encoder.
    """

    def __init__(self, encoder: Session, decoder: Session, *, window: int, target_window: int, tokens: int) -> None:
        super().__init__(decoder, longest=target_window)
        self.encoder = encoder
        self.decoder = decoder
        self.window = window
        self.target_window = target_window
        self.tokens = tokens
        crossings = [name for name in decoder.inputs if name.startswith(_CROSS)]
        for session, known in ((encoder, {"input_ids", "lengths"}), (decoder, {*_INPUTS, *self.past, *crossings})):
            if unknown := sorted(set(session.inputs) - known):
                raise BundleError(
                    f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp"
                )
        self.crossings = {name: item for name, item in encoder.outputs.items() if name.startswith(_CROSS)}
        given = {name: item.shape[2::2] for output, item in self.crossings.items() for name, _ in _layers(output, item)}
        if not given or given != {name: decoder.inputs[name].shape[1::2] for name in crossings}:
            raise BundleError(f"the encoder does not give what the decoder's cross-attention reads; {_AGAIN}")

    def read(self, sources: Sequence[Sequence[int]], *, batch_size: int | None = None) -> Reading:
        """Run the encoder; see `edgenlp.language_model.Seq2SeqLM`."""
        counts = counted_sources(sources, self.window)
        runs = [sorted(members) for members in plan(counts.tolist(), self.tokens, batch_size)]
        whole: dict[str, Floats] = {}
        for members in runs:
            found = self._run([list(sources[index]) for index in members])
            if len(runs) == 1:
                whole = found
                break
            for name, array in found.items():
                if name not in whole:
                    parts, _, heads, _, size = array.shape
                    whole[name] = np.zeros((parts, len(sources), heads, counts.max(), size), np.float32)
                whole[name][:, members, :, : array.shape[3]] = array
        held = {
            layer: array[part] for name, array in whole.items() for layer, part in _layers(name, self.crossings[name])
        }
        return Reading(self, held, counts)

    def targets(
        self, reading: Reading, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "TargetSequences":
        """Begin a target for each of the reading's sources; see `edgenlp.language_model.Reading.start`."""
        cache = self.cache(len(reading.sources), capacity, most=most, hidden=hidden)
        return TargetSequences(self, reading, cache, hidden=hidden)

    def _run(self, ids: list[list[int]]) -> dict[str, Floats]:
        lengths = np.array([len(item) for item in ids])
        feed = {"input_ids": padded(ids, lengths, int(lengths.max())), "lengths": lengths}
        return self.encoder.run(feed, outputs=list(self.crossings))


class TargetSequences(CachedRows):
    """A batch of targets under way (`edgenlp.decode.rows.Sequences`).

    Args:
        model: What writes them.
        reading: The sources.
        cache: Empty.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, model: EncoderDecoder, reading: Reading, cache: Cache, *, hidden: bool = False) -> None:
        super().__init__(model, cache, hidden=hidden)
        self._sources = reading.sources
        self._crossing = _Crossing(reading, _shared(reading.sources))

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """Append at least one id to every row; see `edgenlp.decode.rows.Sequences`.

        Ids go in one after the other: what stands before a target is short.
        """
        counts = np.array([len(item) for item in ids])
        self._check(counts)
        ends = self.lengths + counts
        found: list[list[Floats]] = [[] for _ in ids]
        hidden: list[list[Floats]] = [[] for _ in ids]
        for place in range(int(counts.max())):
            logits = self.step(np.array([item[min(place, len(item) - 1)] for item in ids]))
            for row, count in enumerate(counts):
                if place < count and (every or place == count - 1):
                    found[row].append(logits[row].copy())
                if place < count and self._hidden_width:
                    hidden[row].append(self.hidden[row])
            # rows that have read all of theirs went along with the others, and forget it
            self.cache.rewind(np.minimum(self.lengths, ends))
        if self._hidden_width:
            self.hidden = [np.concatenate(parts) for parts in hidden]
        return [np.stack(parts) for parts in found] if every else np.stack([parts[-1] for parts in found])

    def select(self, parents: Sequence[int] | Integers) -> None:
        """Row i goes on as a copy of row parents[i]; rows that nobody names are gone."""
        super().select(parents)
        self._sources = self._sources[np.asarray(parents, np.int64)]
        if self._crossing.take(_shared(self._sources)):
            self._step = None  # it is bound to what has moved

    def _more(self) -> Mapping[str, NDArray[Any]]:
        return {"source_lengths": self._crossing.lengths, **self._crossing.arrays()}


def _shared(sources: Integers) -> Integers:
    """The sources to hold, in order, so that every one serves as many neighbouring rows: once each where they do, else once a row."""
    first = np.flatnonzero(np.diff(sources, prepend=-1))
    each, rest = divmod(len(sources), len(first))
    if rest or (first != each * np.arange(len(first))).any() or len(set(sources[first].tolist())) != len(first):
        return sources
    return sources[first]


class _Crossing:
    """Keys and values of the cross-attentions, of the sources that are still wanted.

    They are the reading's own as long as all are wanted, in its order. A copy is made when a source has gone, and only what has to
    move is moved from then on.
    """

    def __init__(self, reading: Reading, sources: Integers) -> None:
        self._reading = reading
        self._own: dict[str, Floats] = {}
        self.sources: Integers = np.arange(len(reading.lengths))
        self.take(sources)

    def take(self, sources: Integers) -> bool:
        """Hold these; whether anything has moved."""
        if np.array_equal(sources, self.sources):
            return False
        held = self._reading.held
        room = len(next(iter(self._own.values()))) if self._own else 0
        if len(sources) > room:
            self._own = {name: array[sources] for name, array in held.items()}
        else:
            now, both = np.full(len(sources), -1), min(len(sources), len(self.sources))
            now[:both] = self.sources[:both]
            changed = np.flatnonzero(now != sources)
            for name, array in self._own.items():
                array[changed] = held[name][sources[changed]]
        self.sources = np.array(sources)
        return True

    @property
    def lengths(self) -> NDArray[np.int32]:
        """[sources] tokens of each."""
        return self._reading.lengths[self.sources]

    def arrays(self) -> dict[str, Floats]:
        """Name to [sources, heads, source, size]."""
        return {name: array[: len(self.sources)] for name, array in (self._own or self._reading.held).items()}


def _layers(output: str, item: Tensor) -> list[tuple[str, int]]:
    """Names of the decoder's inputs that an output of the encoder holds, and their places in its first dimension."""
    first, parts = output.removeprefix(_CROSS), item.shape[0]
    if not first.isdecimal() or len(first) > 4 or len(item.shape) != 5 or not isinstance(parts, int) or parts % 2:
        raise BundleError(f"the graph's {output} has shape {list(item.shape)}; {_AGAIN}")
    return [(f"{_CROSS}{int(first) + place // 2}.{('key', 'value')[place % 2]}", place) for place in range(parts)]
