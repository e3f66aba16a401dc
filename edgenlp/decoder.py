"""One pass of a decoder: ids to logits, with what was read before in the cache. Knows no text, and not how a token is chosen."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.cache import Cache
from edgenlp.cached import Cached, CachedRows, Run, layouts
from edgenlp.errors import BundleError
from edgenlp.session import Session

__all__ = ["CachedSequences", "Decoder"]

Floats = NDArray[np.float32]

# Tokens of a row from which the graph for prompts reads them: of an empty row, and of one that goes on, where a few tokens may be
# steps that were guessed ahead, which must come out as steps do.
_PROMPT, _MORE = 4, 33
_INPUTS = {"input_ids", "position_ids", "rows", "seqlens_k", "total_sequence_length"}


class Decoder(Cached):
    """A decoder graph with a cache in place (`edgenlp.language_model.CausalLM`).

    Args:
        session: The graph. Its inputs are `input_ids` [batch, sequence], `seqlens_k` [batch] (tokens of each row after the run, less
            one), `total_sequence_length` [1] (the longest row's), `rows` [rows] (positions in the flattened batch whose logits are
            wanted), perhaps `position_ids` [batch, sequence], and per layer `past_key_values.N.key` and `.value` [batch, heads,
            capacity, size], which come out as `present.N.*` in the same memory.
        window: Most tokens of a sequence.
        tokens: Most tokens, padding included, of one run.
        prompt: A second graph over the same cache for long runs, None to read prompts with the first.
    """

    def __init__(self, session: Session, *, window: int, tokens: int, prompt: Session | None = None) -> None:
        super().__init__(session, longest=window)
        self.window = window
        self.prompt = prompt or session
        self.tokens = tokens
        if unknown := sorted(set(session.inputs) - _INPUTS - set(self.past)):
            raise BundleError(f"the graph wants {', '.join(unknown)}, which this edgenlp cannot give; upgrade edgenlp")
        if layouts(self.prompt, self.past) != self.layouts:
            raise BundleError(
                "the graph for prompts has another cache than the graph for steps; export the bundle again"
            )

    def start(
        self, rows: int, capacity: int | None = None, *, most: int | None = None, hidden: bool = False
    ) -> "CachedSequences":
        """Begin a batch of empty sequences; see `edgenlp.language_model.CausalLM`."""
        return CachedSequences(self, self.cache(rows, capacity, most=most, hidden=hidden), hidden=hidden)


class CachedSequences(CachedRows):
    """A batch of sequences under way in a decoder-only graph (`edgenlp.decode.rows.Sequences`).

    Args:
        decoder: The graph.
        cache: Empty, or with what a conversation left.
        hidden: Whether hidden states are kept.
    """

    def __init__(self, decoder: Decoder, cache: Cache, *, hidden: bool = False) -> None:
        super().__init__(decoder, cache, hidden=hidden)
        self._decoder = decoder

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """Append at least one id to every row; see `edgenlp.decode.rows.Sequences`.

        Empty rows are read side by side, others one by one, all in runs of a bounded number of tokens.
        """
        counts = np.array([len(item) for item in ids])
        self._check(counts)
        if (counts == 1).all() and (self.lengths > 0).all():
            logits = self.step(np.array([item[0] for item in ids])).copy()
            return [row[None] for row in logits] if every else logits
        found: list[list[Floats]] = [[] for _ in ids]
        hidden: list[list[Floats]] = [[] for _ in ids]
        for rows, begin, end in self._plan(counts):
            members = range(rows.start, rows.stop)
            parts = [ids[row][begin : min(end, len(ids[row]))] for row in members]
            wanted = [range(len(part)) if every or self._hidden_width else range(len(part))[-1:] for part in parts]
            logits, states = self._run(rows, parts, wanted)
            place = 0
            for row, kept in zip(members, wanted, strict=True):
                found[row].append(logits[place : place + len(kept)])
                if states is not None:
                    hidden[row].append(states[place : place + len(kept)])
                place += len(kept)
        if self._hidden_width:
            self.hidden = [np.concatenate(parts) for parts in hidden]
        if every:
            return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in found]
        return np.stack([parts[-1][-1] for parts in found])

    def _plan(self, counts: NDArray[np.int64]) -> Iterator[tuple[slice, int, int]]:
        """Runs: neighbouring rows, and the tokens of each that are read.

        Attention over several new tokens and a filled cache takes one row at a time; so does a text beyond the bound on a run.
        """
        most = self._decoder.tokens
        row = 0
        while row < len(counts):
            end = row + 1
            if self.lengths[row] == 0 and counts[row] <= most:
                low = high = counts[row]
                while end < len(counts) and self.lengths[end] == 0:
                    low, high = min(low, counts[end]), max(high, counts[end])
                    if high * (end + 1 - row) > most or high - low > max(8, high // 4):
                        break  # beyond the bound, or too much padding
                    end += 1
                yield slice(row, end), 0, int(counts[row:end].max())
            else:
                for begin in range(0, int(counts[row]), most):
                    yield slice(row, end), begin, begin + most
            row = end

    def _run(
        self, rows: slice, parts: Sequence[Sequence[int]], wanted: Sequence[range]
    ) -> tuple[Floats, Floats | None]:
        """Append `parts` to `rows`; logits and hidden states of the tokens `wanted` of each."""
        counts = np.array([len(part) for part in parts])
        width = int(counts.max())
        begins = not self.cache.lengths[rows].any()
        session = self._decoder.prompt if width >= (_PROMPT if begins else _MORE) else self._decoder.session
        run = Run(session, self.cache, rows, width, sum(map(len, wanted)), self._hidden_width, {})
        lengths = self.cache.lengths[rows]
        for place, part in enumerate(parts):
            run.ids[place, : len(part)] = part
        run.positions[:] = lengths[:, None] + np.arange(width)
        run.rows[:] = [width * place + index for place, kept in enumerate(wanted) for index in kept]
        run.ends[:] = lengths + counts - 1
        run.total[0] = int((lengths + counts).max())
        run.binding.run()
        lengths += counts
        return run.logits, run.hidden
