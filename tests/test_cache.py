"""The cache against a cache that copies everything, and that a run copies nothing and keeps nothing."""

import resource
from pathlib import Path

import numpy as np
import pytest
from conftest import OpenBundle
from decoder_goldens import MODELS, case_of

from edgenlp.cache import Cache, Layout
from edgenlp.errors import InputError, TooLongError

LAYOUTS = [Layout("k", 2, 4, np.float32), Layout("v", 2, 4, np.float32)]


def written(cache: Cache, held: list[list[int]], value: int) -> None:
    """Append `value + row` to every row."""
    for row, items in enumerate(held):
        for buffer in cache.buffers.values():
            buffer[row, :, cache.lengths[row]] = value + row
        items.append(value + row)
    cache.lengths += 1


def check(cache: Cache, held: list[list[int]]) -> None:
    assert cache.lengths.tolist() == [len(items) for items in held]
    for row, items in enumerate(held):
        for array in cache.state(row).values():
            assert (array == np.array(items)[None, :, None]).all()


@pytest.mark.parametrize("seed", range(20))
def test_rows_follow_their_parents(seed: int) -> None:
    """Random selections, rewinds and steps give what copying every row gives."""
    random = np.random.RandomState(seed)
    cache = Cache(LAYOUTS, rows=3, most=8, capacity=64)
    held: list[list[int]] = [[], [], []]
    for number in range(40):
        if len(held[0]) < 60:
            written(cache, held, 100 * number)
        choice = random.randint(3)
        if choice == 0:
            parents = random.randint(0, len(held), random.randint(1, 9)).tolist()
            cache.select(parents)
            held = [list(held[parent]) for parent in parents]
        elif choice == 1:
            lengths = [random.randint(0, len(items) + 1) for items in held]
            cache.rewind(lengths)
            held = [items[:length] for items, length in zip(held, lengths, strict=True)]
        check(cache, held)


def test_what_beams_share_is_not_copied() -> None:
    cache = Cache(LAYOUTS, rows=1, most=3, capacity=16)
    held: list[list[int]] = [[]]
    for number in range(4):
        written(cache, held, 10 * number)
    cache.select([0, 0, 0])
    for buffer in cache.buffers.values():
        buffer[1, :, 0] = -1.0  # the prompt, which all three share: a copy would put the old value back
    cache.lengths[:] += 1
    cache.select([0, 0, 2])
    assert all((buffer[1, :, 0] == -1).all() for buffer in cache.buffers.values())


def test_a_state_can_be_put_back() -> None:
    cache = Cache(LAYOUTS, rows=1, most=1, capacity=16)
    held: list[list[int]] = [[]]
    for number in range(5):
        written(cache, held, number)
    state = cache.state()
    other = Cache(LAYOUTS, rows=1, most=1, capacity=8)
    other.restore(state)
    check(other, held)
    for broken in ({"k": state["k"]}, {**state, "v": state["v"][:1]}, {**state, "k": state["k"].astype(np.float64)}):
        with pytest.raises(InputError, match="another model"):
            other.restore(broken)
    with pytest.raises(InputError, match="window"):
        Cache(LAYOUTS, rows=1, most=1, capacity=4).restore(state)


def test_impossible_rows_are_refused() -> None:
    cache = Cache(LAYOUTS, rows=2, most=3, capacity=8)
    for parents in ([0, 2], [-1], [0, 0, 0, 0]):
        with pytest.raises(InputError, match="rows"):
            cache.select(parents)
    with pytest.raises(InputError, match="rewind"):
        cache.rewind([0, 1])


def places(cache: Cache) -> list[int]:
    return [buffer.ctypes.data for buffer in cache.buffers.values()]


def test_a_run_writes_in_place(open_decoder_of: OpenBundle) -> None:
    """The graph writes the new position into the very memory that holds the old ones, and touches nothing else of it."""
    decoder = open_decoder_of(case_of(next(iter(MODELS)))).decoder
    sequences = decoder.start(2, 32)
    cache = sequences.cache
    before = places(cache)
    for buffer in cache.buffers.values():
        buffer[...] = 7.0
    sequences.read([[5, 6, 7], [8, 9, 10]])
    for number in range(4):
        held = {name: buffer.copy() for name, buffer in cache.buffers.items()}
        sequences.step(np.array([11, 12]))
        assert places(cache) == before
        for name, buffer in cache.buffers.items():
            changed = (buffer != held[name]).any(axis=(0, 1, 3))
            assert np.flatnonzero(changed).tolist() == [3 + number]


def resident() -> int:
    """KiB that the process holds now; where the system does not tell, the most that it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize() // 1024


def test_memory_stays_flat(open_decoder_of: OpenBundle) -> None:
    """A thousand tokens allocate nothing: neither buffers nor anything that a step leaves behind."""
    decoder = open_decoder_of(case_of(next(iter(MODELS)))).decoder
    sequences = decoder.start(1)
    sequences.read([[5, 6, 7]])
    before, held = places(sequences.cache), 0
    for number in range(1400):
        sequences.step(np.array([5 + number % 50]))
        sequences.rewind([min(int(sequences.lengths[0]), sequences.capacity - 1)])
        if number == 400:
            held = resident()
    assert places(sequences.cache) == before
    assert resident() - held < 512  # KiB: half a kilobyte a token would show


def test_a_row_longer_than_the_window_is_refused(open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(next(iter(MODELS)))).decoder
    with pytest.raises(TooLongError, match="window"):
        decoder.start(1, decoder.window + 1)
    sequences = decoder.start(1, 4)
    with pytest.raises(TooLongError, match="cache of 4"):
        sequences.read([[5, 6, 7, 8, 9]])
    sequences.read([[5, 6, 7, 8]])
    with pytest.raises(TooLongError, match="holds 4"):
        sequences.step(np.array([5]))
    with pytest.raises(InputError, match="at least one id"):
        sequences.read([[]])
