"""Encoder-decoders against transformers: the same numbers and the same text, however sources are batched and targets cut."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import OpenBundle
from edgenlp_export import SCHEMES
from numpy.typing import NDArray
from seq2seq_goldens import (
    BEAMS,
    CALLS,
    GREEDY,
    MODELS,
    OLD,
    case_of,
    kept,
    load_answers,
    load_seq2seq,
    prefixes_of,
    sources_of,
    targets_of,
)

from edgenlp.decode.generate import generate
from edgenlp.decode.options import Generation, merged
from edgenlp.decode.rows import Generated
from edgenlp.encode import padded
from edgenlp.encoder_decoder import EncoderDecoder, TargetSequences
from edgenlp.language_model import Reading
from edgenlp.model import Model

Floats = NDArray[np.float32]

GOLDENS = load_seq2seq()
ANSWERS = load_answers()
HANDFUL = ("t5", "umt5", "bart", "marian", "mbart", "m2m_100")
SPLIT = "encoder=int8,decoder=int4"
QUANTIZED = [*(precision for precision in SCHEMES if precision != "fp32"), SPLIT]
SAME_IN_ANY_BATCH = ("fp32", "fp16", "int8-block")
GAINS = {"umt5": 0.4}  # others: 1; random weights of a larger gain blow up what is rounded, layer by layer
EXACT = 3e-5  # of logits' standard deviation: the same sums in another order


def start_of(model: Model) -> int:
    return int(model.bundle.generation["decoder_start_token_id"])


def hidden_of(seq2seq: EncoderDecoder, sources: Sequence[Sequence[int]]) -> list[Floats]:
    """What the encoder's graph gives for each source, all of them in one run."""
    lengths = np.array([len(source) for source in sources])
    feed = {"input_ids": padded([list(source) for source in sources], lengths, int(lengths.max())), "lengths": lengths}
    states = seq2seq.encoder.run(feed, outputs=["last_hidden_state"])["last_hidden_state"]
    return [row[:length] for row, length in zip(states, lengths, strict=True)]


def fresh(reading: Reading, source: int, ids: Sequence[int]) -> Floats:
    """Logits after each id of a target that is written alone."""
    (rows,) = reading.of([source]).start(1, len(ids)).read([ids], every=True)
    return rows


def apart(found: Floats, expected: Floats) -> float:
    """The largest difference, as a share of the standard deviation of what is expected."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / expected.std())


def merge(model: Model, options: dict[str, Any]) -> Generation:
    return merged(model.bundle.generation, options)


def write(
    model: Model, sources: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]], options: dict[str, Any]
) -> list[list[Generated]]:
    """What `generate` writes from a batch of sources."""
    ids = [np.asarray(source) for source in sources]
    return generate(model.seq2seq.read(sources), prompts, merge(model, options), sources=ids)


def ids_of(answers: list[list[Generated]]) -> list[list[list[int]]]:
    return [[list(item.ids) for item in answer] for answer in answers]


def check(model: Model, name: str, prompts: list[list[int]], options: dict[str, Any], recorded: dict[str, Any]) -> None:
    """Sources alone, and all in a batch, give the recorded ids and scores."""
    sources = sources_of(name)
    single = [write(model, [source], [prompt], options)[0] for source, prompt in zip(sources, prompts, strict=True)]
    for answers in (single, write(model, sources, prompts, options)):
        assert ids_of(answers) == recorded["ids"]
        if "scores" in recorded:
            scores = [[item.score for item in answer] for answer in answers]
            assert np.allclose(scores, recorded["scores"], rtol=0, atol=1e-4)


def test_every_case_is_recorded() -> None:
    assert list(GOLDENS) == list(MODELS)
    assert list(ANSWERS) == [*CALLS, *OLD]


@pytest.mark.parametrize("name", MODELS)
def test_graphs_compute_what_transformers_computes(name: str, open_seq2seq_of: OpenBundle) -> None:
    model = open_seq2seq_of(case_of(name))
    sources, targets = sources_of(name), targets_of(name, start_of(model))
    alone = [hidden_of(model.seq2seq, [source])[0] for source in sources]
    together = hidden_of(model.seq2seq, sources)
    readings = [model.seq2seq.read([source]) for source in sources]
    logits = [fresh(reading, 0, target) for reading, target in zip(readings, targets, strict=True)]
    batch = model.seq2seq.read(sources).start(len(sources)).read(targets, every=True)
    for found in (alone, together):
        assert np.abs(kept(found) - GOLDENS[name].hidden).max() <= 5e-5
    for found in (logits, batch):
        assert np.abs(kept(found) - GOLDENS[name].logits).max() <= 5e-5


@pytest.mark.parametrize("name", MODELS)
def test_text_is_that_of_transformers(name: str, open_seq2seq_of: OpenBundle) -> None:
    model, golden = open_seq2seq_of(case_of(name)), GOLDENS[name]
    prompts = [[start_of(model)]] * len(sources_of(name))
    check(model, name, prompts, GREEDY, {"ids": [[text] for text in golden.greedy]})
    check(model, name, prompts, BEAMS, {"ids": golden.beams, "scores": golden.scores})


@pytest.mark.parametrize("key", [*CALLS, *OLD])
def test_options_do_what_they_do_in_transformers(key: str, open_seq2seq_of: OpenBundle) -> None:
    call = {**CALLS, **OLD}[key]
    model = open_seq2seq_of(case_of(call.case))
    prompts = prefixes_of(call.case, start_of(model))
    check(model, call.case, prompts if call.prefixed else [ids[:1] for ids in prompts], call.options, ANSWERS[key])


@pytest.mark.parametrize("name", HANDFUL)
def test_prompt_lookup_writes_what_greedy_search_writes(name: str, open_seq2seq_of: OpenBundle) -> None:
    model = open_seq2seq_of(case_of(name))
    sources, prompts = sources_of(name), prefixes_of(name, start_of(model))
    plain = write(model, sources, prompts, {"max_new_tokens": 40})
    assert ids_of(write(model, sources, prompts, {"max_new_tokens": 40, "prompt_lookup_num_tokens": 3})) == ids_of(
        plain
    )


@pytest.mark.parametrize("name", HANDFUL)
def test_one_piece_equals_chunks_equals_tokens(name: str, open_seq2seq_of: OpenBundle) -> None:
    model = open_seq2seq_of(case_of(name))
    reading = model.seq2seq.read(sources_of(name))
    ids = targets_of(name, start_of(model))[-1]
    whole = fresh(reading, 2, ids)
    sequences = reading.of([2]).start(1, len(ids))
    chunks = [sequences.read([ids[begin:end]], every=True)[0] for begin, end in ((0, 3), (3, 8), (8, len(ids)))]
    assert apart(np.concatenate(chunks), whole) <= EXACT
    assert sequences.lengths.tolist() == [len(ids)]
    sequences = reading.of([2]).start(1, len(ids))
    steps = [sequences.step(np.array([number]))[0].copy() for number in ids]
    assert apart(np.stack(steps), whole) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_rewound_and_selected_rows_go_on_as_fresh_ones(name: str, open_seq2seq_of: OpenBundle) -> None:
    """Rows move, are copied and leave, and their sources with them."""
    model = open_seq2seq_of(case_of(name))
    reading = model.seq2seq.read(sources_of(name))
    start, long = start_of(model), targets_of(name, start_of(model))[-1]
    places = [1, 3, 3, 0]
    texts = [[start, *long[5:9]], [start, *long[2:4]], [start], [start, *long[20:29]]]
    sequences = reading.of(places).start(4, 40, most=6)

    def agree(found: Sequence[Floats], count: int = 1) -> None:
        assert sequences.lengths.tolist() == [len(text) for text in texts]
        for row, (place, text) in enumerate(zip(places, texts, strict=True)):
            assert apart(found[row], fresh(reading, place, text)[-count:]) <= EXACT

    agree(sequences.read(texts)[:, None])
    sequences.rewind([3, 0, 1, 4])
    tails = [long[7:12], [start, *long[:4]], long[9:14], long[1:6]]
    texts = [text[:most] + tail for text, most, tail in zip(texts, (3, 0, 1, 4), tails, strict=True)]
    agree(sequences.read(tails, every=True), 5)

    def choose(parents: list[int]) -> None:
        nonlocal texts, places
        sequences.select(parents)
        tokens = [long[(7 * row + len(texts[parent])) % 29 + 1] for row, parent in enumerate(parents)]
        texts = [[*texts[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        places = [places[parent] for parent in parents]
        agree(sequences.step(np.array(tokens))[:, None])

    choose([0, 0, 1, 2, 3, 3])  # two to each of three sources
    choose([1, 0, 3, 2, 5, 4])
    choose([0, 4, 2, 5, 5])  # nothing shared
    choose([3, 4, 2, 1, 1, 1])
    choose([5, 5, 3])
    choose([2])


@pytest.mark.parametrize("name", HANDFUL)
def test_finished_rows_leave(name: str, open_seq2seq_of: OpenBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of every step is one that still writes."""
    model = open_seq2seq_of(case_of(name))
    sources = sources_of(name)
    prompts = [[start_of(model)]] * len(sources)
    rows: list[int] = []
    step = TargetSequences.step

    def counted(self: TargetSequences, tokens: Any) -> Floats:
        rows.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(TargetSequences, "step", counted)
    plain = write(model, sources, prompts, {"max_new_tokens": 24})
    texts = [answer[0].ids for answer in plain]

    def cut(end: int) -> list[int]:
        return [text.index(end) + 1 if end in text else len(text) for text in texts]

    end = max(sorted({token for text in texts for token in text}), key=lambda token: len(set(cut(token))))
    rows.clear()
    (answers,) = zip(*write(model, sources, prompts, {"max_new_tokens": 24, "eos_token_id": end}), strict=True)
    lengths = [len(item.ids) for item in answers]
    assert len(set(lengths)) > 1
    assert lengths == cut(end)
    # the last token of a text is not read again
    assert rows == [sum(length > place for length in lengths) for place in range(len(rows))]


@pytest.mark.parametrize("name", HANDFUL)
def test_samples_do_not_depend_on_the_batch(name: str, open_seq2seq_of: OpenBundle) -> None:
    model = open_seq2seq_of(case_of(name))
    sources, prompts = sources_of(name), prefixes_of(name, start_of(model))
    options = {"do_sample": True, "num_return_sequences": 3, "seed": 11, "max_new_tokens": 12, "temperature": 1.5}
    together = ids_of(write(model, sources, prompts, options))
    for row, (source, prompt) in enumerate(zip(sources, prompts, strict=True)):
        assert ids_of(write(model, [source], [prompt], options)) == together[row : row + 1]
        assert len({tuple(ids) for ids in together[row]}) == 3
    beams = {"do_sample": True, "num_beams": 3, "seed": 5, "max_new_tokens": 8}
    single = [write(model, [source], [prompt], beams)[0] for source, prompt in zip(sources, prompts, strict=True)]
    assert ids_of(write(model, sources, prompts, beams)) == ids_of(single)


@pytest.mark.parametrize("name", HANDFUL)
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    name: str, precision: str, open_seq2seq_of: OpenBundle, report: Callable[[str], None]
) -> None:
    checkpoint = {**case_of(name), "gain": GAINS.get(name, 1.0)}
    sources, exact = sources_of(name), open_seq2seq_of(checkpoint)
    targets = targets_of(name, start_of(exact))
    model = open_seq2seq_of(checkpoint, precision=precision, tolerance=float("inf"))
    expected, found = (
        np.concatenate(one.seq2seq.read(sources).start(len(sources)).read(targets, every=True))
        for one in (exact, model)
    )
    relative = float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
    same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    measured = model.bundle.parity["relative_error"]
    report(
        f"{precision:25} {name:12} relative error {measured:.4f} at export, {relative:.4f} of these texts; the best token is the"
        f" same {same:.0%} of the time"
    )
    tolerance = SCHEMES["int4" if precision == SPLIT else precision].tolerance
    assert measured <= tolerance
    assert relative <= 1.5 * tolerance


@pytest.mark.parametrize("name", HANDFUL)
@pytest.mark.parametrize("precision", SAME_IN_ANY_BATCH)
def test_text_does_not_depend_on_the_batch(name: str, precision: str, open_seq2seq_of: OpenBundle) -> None:
    checkpoint = {**case_of(name), "gain": GAINS.get(name, 1.0)}
    model = open_seq2seq_of(checkpoint, precision=precision, tolerance=float("inf"))
    sources, prompts = sources_of(name), prefixes_of(name, start_of(model))
    for options in ({"max_new_tokens": 24, "no_repeat_ngram_size": 2}, BEAMS):
        single = [write(model, [source], [prompt], options)[0] for source, prompt in zip(sources, prompts, strict=True)]
        assert ids_of(write(model, sources, prompts, options)) == ids_of(single)
