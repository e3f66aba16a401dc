"""What an encoder-decoder's runtime holds in memory and gives to its graphs, and what it refuses."""

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import OpenBundle
from numpy.typing import NDArray
from seq2seq_goldens import BEAMS, case_of, sources_of, targets_of

from edgenlp import cached
from edgenlp.decode.generate import generate
from edgenlp.decode.options import merged
from edgenlp.encoder_decoder import EncoderDecoder, TargetSequences
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.language_model import Reading
from edgenlp.model import Model
from edgenlp.session import Binding, Session, Tensor

Floats = NDArray[np.float32]
Bound = list[dict[str, NDArray[Any]]]

EXACT = 1e-4


@pytest.fixture
def bart(open_seq2seq_of: OpenBundle) -> Model:
    return open_seq2seq_of(case_of("bart"))


@pytest.fixture
def t5(open_seq2seq_of: OpenBundle) -> Model:
    return open_seq2seq_of(case_of("t5, one and four"))


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Bound:
    """What each binding binds to the decoder's inputs, the latest last."""
    found: Bound = []

    class Seen(Binding):
        def __init__(self, session: Session) -> None:
            super().__init__(session)
            found.append({})

        def input(self, name: str, array: NDArray[Any]) -> None:
            found[-1][name] = array
            super().input(name, array)

    monkeypatch.setattr(cached, "Binding", Seen)
    return found


def crossed(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    found = {name: array for name, array in arrays.items() if name.startswith("cross.")}
    assert found
    return found


def held_once(reading: Reading, arrays: dict[str, NDArray[Any]]) -> bool:
    """Whether the decoder reads the very arrays that the encoder gave."""
    return all(
        array.shape == reading.held[name].shape
        and array.ctypes.data == reading.held[name].ctypes.data
        and np.shares_memory(array, reading.held[name])
        for name, array in crossed(arrays).items()
    )


def write(model: Model, reading: Reading, options: dict[str, Any]) -> list[list[int]]:
    start = int(model.bundle.generation["decoder_start_token_id"])
    prompts = [[start]] * len(reading.sources)
    chosen = merged(model.bundle.generation, options)
    sources = [np.array([7])] * len(prompts)
    return [list(answer[0].ids) for answer in generate(reading, prompts, chosen, sources=sources)]


def last(reading: Reading, source: int, ids: list[int]) -> Floats:
    return reading.of([source]).start(1, len(ids)).read([ids])[0]


def agree(found: Floats, reading: Reading, of: list[int], texts: list[list[int]]) -> None:
    for row, (source, text) in enumerate(zip(of, texts, strict=True)):
        assert np.abs(found[row] - last(reading, source, text)).max() <= EXACT


@pytest.mark.parametrize("count", [1, 3])
def test_beams_read_one_copy_of_their_source(count: int, bart: Model, bound: Bound) -> None:
    reading = bart.seq2seq.read([source * 2 for source in sources_of("bart")[1 : 1 + count]])
    write(bart, reading, {"num_beams": 8, "max_new_tokens": 12})
    assert {len(arrays["input_ids"]) for arrays in bound} == {count, 8 * count}
    for arrays in bound:
        assert held_once(reading, arrays)
        assert arrays["source_lengths"].tolist() == reading.lengths.tolist()
    # rows that change places within their source, as beams do at every step, bind nothing anew
    assert len(bound) == 2


def test_samples_of_one_source_read_one_copy(bart: Model, bound: Bound) -> None:
    reading = bart.seq2seq.read(sources_of("bart")[:2])
    options = {"do_sample": True, "num_return_sequences": 5, "seed": 1, "max_new_tokens": 6, "min_new_tokens": 6}
    write(bart, reading, options)
    assert [len(arrays["input_ids"]) for arrays in bound] == [2, 10]
    assert all(held_once(reading, arrays) for arrays in bound)


def test_sources_that_nobody_wants_leave(bart: Model, bound: Bound) -> None:
    sources = sources_of("bart")
    reading = bart.seq2seq.read(sources)
    ids = targets_of("bart", 2)[-1]
    sequences = reading.start(4, 20)
    sequences.read([ids[:3]] * 4)
    assert held_once(reading, bound[-1])
    sequences.select([1, 3])
    found, kept = sequences.step(np.array(ids[3:5])), crossed(bound[-1])
    assert {len(array) for array in kept.values()} == {2}
    assert bound[-1]["source_lengths"].tolist() == [len(sources[1]), len(sources[3])]
    agree(found, reading, [1, 3], [[*ids[:3], ids[3]], [*ids[:3], ids[4]]])
    sequences.select([1])
    found, after = sequences.step(np.array(ids[5:6])), crossed(bound[-1])
    agree(found, reading, [3], [[*ids[:3], ids[4], ids[5]]])
    assert {len(array) for array in after.values()} == {1}
    # compacted within the copy, and the encoder's own are as they were
    assert all(np.shares_memory(array, kept[name]) for name, array in after.items())
    assert not any(np.shares_memory(array, reading.held[name]) for name, array in after.items())
    agree(reading.start(4, 20).read([ids[:3]] * 4), bart.seq2seq.read(sources), [0, 1, 2, 3], [ids[:3]] * 4)


def test_finished_beams_take_their_source_with_them(bart: Model, bound: Bound) -> None:
    reading = bart.seq2seq.read(sources_of("bart"))
    write(bart, reading, {**BEAMS, "early_stopping": True, "num_return_sequences": 1, "max_new_tokens": 40})
    counts = [len(arrays["source_lengths"]) for arrays in bound]
    assert counts[0] == 4 > counts[-1]
    assert counts == sorted(counts, reverse=True)
    assert [len(arrays["input_ids"]) for arrays in bound[1:]] == [4 * count for count in counts[1:]]


@pytest.mark.parametrize(
    ("of", "held"),
    [
        ([0, 1, 2], 3),
        ([2, 0], 2),
        ([1, 1, 1], 1),
        ([0, 0, 2, 2], 2),
        ([0, 0, 1], 3),
        ([0, 1, 0, 1], 4),
        ([1, 0, 0, 2], 4),
    ],
)
def test_targets_write_from_any_sources(of: list[int], held: int, bart: Model, bound: Bound) -> None:
    """Neighbours share a source where all sources have as many; elsewhere each row has its own copy."""
    reading = bart.seq2seq.read(sources_of("bart")[:3])
    ids = targets_of("bart", 2)[-1]
    texts = [ids[: 2 + row] for row in range(len(of))]
    sequences = reading.of(of).start(len(of), 20)
    found = sequences.read(texts)
    assert {len(array) for array in crossed(bound[0]).values()} == {held}
    agree(found, reading, of, texts)


def test_targets_begin_with_texts_of_any_lengths(t5: Model) -> None:
    reading = t5.seq2seq.read(sources_of("t5")[:3])
    ids = targets_of("t5", 0)[-1]
    texts = [ids[:1], ids[:9], ids[:4]]
    sequences = reading.start(3, 16)
    rows = sequences.read(texts, every=True)
    assert [len(row) for row in rows] == [1, 9, 4]
    agree(np.stack([row[-1] for row in rows]), reading, [0, 1, 2], texts)
    assert sequences.lengths.tolist() == [1, 9, 4]
    tokens = ids[10:13]
    longer = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
    agree(sequences.step(np.array(tokens)), reading, [0, 1, 2], longer)


@pytest.mark.parametrize("name", ["bart", "t5, one and four", "marian"])
def test_several_runs_of_the_encoder_equal_one(name: str, open_seq2seq_of: OpenBundle) -> None:
    seq2seq = open_seq2seq_of(case_of(name)).seq2seq
    windows = {"window": seq2seq.window, "target_window": seq2seq.target_window}
    small = EncoderDecoder(seq2seq.encoder, seq2seq.decoder, tokens=20, **windows)
    sources = [source for source in sources_of(name) for _ in range(3)]
    whole = EncoderDecoder(seq2seq.encoder, seq2seq.decoder, tokens=4096, **windows).read(sources)
    for reading in (small.read(sources), seq2seq.read(sources, batch_size=1), seq2seq.read(sources, batch_size=5)):
        assert reading.lengths.tolist() == [len(source) for source in sources]
        for key, array in reading.held.items():
            assert array.shape == whole.held[key].shape
            for row, source in enumerate(sources):
                own = (row, slice(None), slice(len(source)))
                assert np.abs(array[own] - whole.held[key][own]).max() <= EXACT


def test_hidden_states_are_kept_where_they_are_wanted(t5: Model) -> None:
    sequences = t5.seq2seq.read(sources_of("t5")[:2]).start(2, 8, hidden=True)
    sequences.read([[0, 9, 8], [0]])
    assert [len(rows) for rows in sequences.hidden] == [3, 1]
    sequences.step(np.array([5, 6]))
    assert {rows.shape for rows in sequences.hidden} == {(1, t5.seq2seq.hidden_width)}


@pytest.mark.parametrize("sources", [[], [[]], [[5, 6], []]])
def test_an_empty_source_is_refused(sources: list[list[int]], bart: Model) -> None:
    with pytest.raises(InputError, match="nothing to read"):
        bart.seq2seq.read(sources)


def test_a_source_beyond_the_window_is_refused(bart: Model) -> None:
    window = bart.seq2seq.window
    assert bart.seq2seq.read([[9] * window]).lengths.tolist() == [window]
    with pytest.raises(TooLongError, match=f"{window + 1} tokens long, the model takes {window}"):
        bart.seq2seq.read([[9], [9] * (window + 1)])


def test_the_capacity_is_a_bound(bart: Model) -> None:
    reading, window = bart.seq2seq.read([[9, 8], [7]]), bart.seq2seq.target_window
    with pytest.raises(TooLongError, match=f"window is {window}"):
        reading.start(2, window + 1)
    assert reading.start(2).capacity == window
    sequences = reading.start(2, 4)
    with pytest.raises(TooLongError, match="5 tokens does not fit the cache of 4"):
        sequences.read([[2], [2, 3, 4, 5, 6]])
    sequences.read([[2], [2, 3, 4, 5]])
    with pytest.raises(TooLongError, match="holds 4 tokens"):
        sequences.step(np.array([3, 3]))
    sequences.select([0])
    assert sequences.step(np.array([3])).shape == (1, bart.seq2seq.columns)


def test_rows_are_counted(bart: Model) -> None:
    reading = bart.seq2seq.read([[9, 8], [7]])
    for wrong in ([2], [-1], [0, 5], []):
        with pytest.raises(InputError, match="2 were read"):
            reading.of(wrong)
    with pytest.raises(InputError, match="3 targets are asked for, there are sources for 2"):
        reading.start(3, 4)
    for ids in ([[2]], [[2], []], [[2]] * 3):
        with pytest.raises(InputError, match="2 rows need at least one id each"):
            reading.start(2, 4).read(ids)
    sequences = reading.start(2, 4)
    sequences.read([[2], [2]])
    with pytest.raises(InputError, match="room for 2"):
        sequences.select([0, 0, 1, 1])


def test_a_long_text_takes_no_more_memory(t5: Model, bound: Bound) -> None:
    reading = t5.seq2seq.read(sources_of("t5"))
    sequences = reading.start(4, 2010)
    size, buffers = sequences.cache.nbytes, {name: id(array) for name, array in sequences.cache.buffers.items()}
    tokens = np.array([5, 6, 7, 8])
    for _ in range(5):
        sequences.step(tokens)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            sequences.step(tokens)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sequences.lengths.tolist() == [2005] * 4
    assert sequences.cache.nbytes == size
    assert {name: id(array) for name, array in sequences.cache.buffers.items()} == buffers
    assert len(bound) == 1
    assert held_once(reading, bound[0])
    assert peak - before < 20_000
    assert now - before < 10_000


def test_many_calls_leave_nothing_behind(bart: Model) -> None:
    random = np.random.RandomState(3)

    def call() -> None:
        sources = [random.randint(5, 300, random.randint(1, 60)).tolist() for _ in range(random.randint(1, 6))]
        beams = int(random.choice([1, 2, 4]))
        write(bart, bart.seq2seq.read(sources), {"num_beams": beams, "max_new_tokens": int(random.randint(1, 5))})

    for _ in range(10):
        call()
    tracemalloc.start()
    try:
        for _ in range(20):  # numpy and Python keep small pieces for later
            call()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            call()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 300_000  # what one call in ten holds would be more


def _sessions(seq2seq: EncoderDecoder) -> tuple[Any, Any]:
    return tuple(
        SimpleNamespace(inputs=dict(session.inputs), outputs=dict(session.outputs))
        for session in (seq2seq.encoder, seq2seq.decoder)
    )


def _change(side: str, where: str, name: str, item: Tensor | None) -> Callable[[Any, Any], None]:
    def change(encoder: Any, decoder: Any) -> None:
        place = getattr(encoder if side == "encoder" else decoder, where)
        if item is None:
            del place[name]
        else:
            place[name] = item

    return change


_ODD = Tensor("odd", np.float32, (3, "batch", 4, "sequence", 16))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_change("encoder", "inputs", "odd", _ODD), "the graph wants odd"),
        (_change("decoder", "inputs", "odd", _ODD), "the graph wants odd"),
        (_change("decoder", "outputs", "logits", None), "no decoder with a cache"),
        (_change("decoder", "outputs", "present.0.key", None), "no decoder with a cache"),
        (_change("decoder", "inputs", "cross.2.value", None), "does not give what the decoder's cross-attention reads"),
        (_change("encoder", "outputs", "cross.0", None), "does not give what the decoder's cross-attention reads"),
        (_change("encoder", "outputs", "cross.0", _ODD), "cross.0 has shape"),
        (_change("encoder", "outputs", "cross.one", _ODD), "cross.one has shape"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(change: Callable[[Any, Any], None], said: str, bart: Model) -> None:
    encoder, decoder = _sessions(bart.seq2seq)
    EncoderDecoder(encoder, decoder, window=8, target_window=8, tokens=64)
    change(encoder, decoder)
    with pytest.raises(BundleError, match=said):
        EncoderDecoder(encoder, decoder, window=8, target_window=8, tokens=64)


def test_hidden_states_that_no_graph_gives_are_refused(bart: Model) -> None:
    encoder, decoder = _sessions(bart.seq2seq)
    decoder.outputs.pop("hidden", None)
    poor = EncoderDecoder(encoder, decoder, window=8, target_window=8, tokens=64)
    reading = Reading(poor, bart.seq2seq.read([[9]]).held, np.array([1], np.int32))
    with pytest.raises(BundleError, match="no hidden states"):
        reading.start(1, 4, hidden=True)
    assert isinstance(reading.start(1, 4), TargetSequences)
