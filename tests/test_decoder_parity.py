"""Decoders against transformers 4.57.6: the same numbers and the same text, however a text is cut, batched or rewound."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from conftest import OpenBundle
from decoder_goldens import MODELS, NEW, case_of, kept, load_decoders, prompts_of, texts_of
from edgenlp_export import SCHEMES
from numpy.typing import NDArray

from edgenlp.decode.rows import Sequences
from edgenlp.decoder import Decoder

Floats = NDArray[np.float32]

GOLDENS = load_decoders()
QUANTIZED = [precision for precision in SCHEMES if precision != "fp32"]
HANDFUL = ("gpt2", "bloom", "falcon", "llama", "qwen2, tied", "gemma2")
EXACT = 3e-5  # of logits' standard deviation: the same sums in another order


def fresh(decoder: Decoder, ids: Sequence[int]) -> Floats:
    """Logits after each id of one text, read alone and in one piece."""
    (rows,) = decoder.start(1, len(ids)).read([ids], every=True)
    return rows


def last(decoder: Decoder, ids: Sequence[int]) -> Floats:
    return decoder.start(1, len(ids)).read([ids])[0]


def difference(found: Floats, expected: Floats) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def apart(found: Floats, expected: Floats) -> float:
    """The largest difference, as a share of the standard deviation of what is expected."""
    return difference(found, expected) / float(expected.std())


def greedy(sequences: Sequences, prompts: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    """The `count` best next tokens of each row: [rows, count]."""
    tokens = [sequences.read(prompts).argmax(axis=1)]
    while len(tokens) < count:
        tokens.append(sequences.step(tokens[-1]).argmax(axis=1))
    return np.stack(tokens, axis=1)


def test_every_case_is_recorded() -> None:
    assert list(GOLDENS) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_graph_computes_what_transformers_computes(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    found = kept([fresh(decoder, ids) for ids in texts_of(name)])
    assert difference(found, GOLDENS[name].logits) <= 5e-5


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_is_that_of_transformers(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    prompts = prompts_of(name)
    alone = [greedy(decoder.start(1, len(prompt) + NEW), [prompt], NEW)[0] for prompt in prompts]
    together = greedy(decoder.start(len(prompts), max(map(len, prompts)) + NEW), prompts, NEW)
    assert np.array_equal(alone, GOLDENS[name].tokens)
    assert np.array_equal(together, GOLDENS[name].tokens)


@pytest.mark.parametrize("name", MODELS)
def test_one_piece_equals_chunks_equals_tokens(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    ids = texts_of(name)[-1]
    whole = fresh(decoder, ids)

    sequences = decoder.start(1, len(ids))
    chunks = [sequences.read([ids[begin:end]], every=True)[0] for begin, end in ((0, 3), (3, 8), (8, len(ids)))]
    assert apart(np.concatenate(chunks), whole) <= EXACT
    assert sequences.lengths.tolist() == [len(ids)]

    sequences = decoder.start(1, len(ids))
    steps = [sequences.read([ids[:1]])[0]]
    steps += [sequences.step(np.array([number]))[0].copy() for number in ids[1:]]
    assert apart(np.stack(steps), whole) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_ragged_batch_equals_singles(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    long = texts_of(name)[-1]
    heads = [long[:33], long[50:57], long[20:60], long[:1], long[:36]]
    tails = [long[60:63], long[:20], long[70:71], long[30:42], long[90:95]]
    sequences = decoder.start(len(heads), 64)
    both = [sequences.read(part, every=True) for part in (heads, tails)]
    stepped = sequences.step(np.array([part[0] for part in heads]))
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        expected = fresh(decoder, [*head, *tail, head[0]])
        found = np.concatenate([both[0][row], both[1][row], stepped[row : row + 1]])
        assert apart(found, expected) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_rewound_sequence_equals_a_fresh_one(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    one, other = texts_of(name)[-1][:60], texts_of(name)[2]
    sequences = decoder.start(2, 64)
    sequences.read([one, other])
    sequences.rewind([13, 40])
    assert sequences.lengths.tolist() == [13, 40]
    found = sequences.read([other[:9], one[:21]], every=True)
    assert apart(found[0], fresh(decoder, one[:13] + other[:9])[13:]) <= EXACT
    assert apart(found[1], fresh(decoder, other + one[:21])[40:]) <= EXACT
    sequences.rewind([0, 1])
    found = sequences.read([other, one[:3]], every=True)
    assert apart(found[0], fresh(decoder, other)) <= EXACT
    assert apart(found[1], fresh(decoder, other[:1] + one[:3])[1:]) <= EXACT


@pytest.mark.parametrize("name", MODELS)
def test_selected_rows_go_on_as_their_parents(name: str, open_decoder_of: OpenBundle) -> None:
    decoder = open_decoder_of(case_of(name)).decoder
    long = texts_of(name)[-1]
    texts = [long[:30], long[40:47], long[60:83]]
    sequences = decoder.start(3, 64, most=5)
    sequences.read(texts)

    def choose(parents: list[int]) -> None:
        """Select, and append another token to every row."""
        nonlocal texts
        sequences.select(parents)
        tokens = [long[7 * row + len(texts[parent]) % 11] for row, parent in enumerate(parents)]
        texts = [[*texts[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        found = sequences.step(np.array(tokens))
        assert sequences.lengths.tolist() == [len(text) for text in texts]
        for row, text in enumerate(texts):
            assert apart(found[row], last(decoder, text)) <= EXACT

    choose([2, 0, 2, 1, 2])  # copies, and rows that change places
    choose([1, 0, 4, 3, 2])
    choose([4, 2, 2])  # rows leave
    choose([0, 0, 0, 1, 2])
    choose([3])


@pytest.mark.parametrize("name", HANDFUL)
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    name: str, precision: str, open_decoder_of: OpenBundle, report: Callable[[str], None]
) -> None:
    checkpoint = {
        **case_of(name),
        "gain": 1.0,
    }  # random weights of a larger gain blow up what is rounded, layer by layer
    exact = np.concatenate([fresh(open_decoder_of(checkpoint).decoder, ids) for ids in texts_of(name)])
    model = open_decoder_of(checkpoint, precision=precision, tolerance=float("inf"))
    found = np.concatenate([fresh(model.decoder, ids) for ids in texts_of(name)])
    relative = float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std())
    same = float((found.argmax(axis=1) == exact.argmax(axis=1)).mean())
    measured = model.bundle.parity
    report(
        f"{precision:10} {name:12} relative error {measured['relative_error']:.4f} at export, {relative:.4f} of these"
        f" texts; the best token is the same {same:.0%} of the time"
    )
    assert measured["relative_error"] <= SCHEMES[precision].tolerance
    assert relative <= 1.5 * SCHEMES[precision].tolerance


@pytest.mark.parametrize("name", [*HANDFUL, "falcon, as rw", "llama, one key", "mistral, window", "phi", "qwen3"])
def test_cache_of_8_bits_costs_little(name: str, open_decoder_of: OpenBundle, report: Callable[[str], None]) -> None:
    checkpoint = {**case_of(name), "gain": 1.0}
    ids = texts_of(name)[-1]
    exact = fresh(open_decoder_of(checkpoint).decoder, ids)
    decoder = open_decoder_of(checkpoint, cache="int8", tolerance=float("inf")).decoder
    found = fresh(decoder, ids)
    relative = float(np.sqrt(np.mean((found - exact) ** 2)) / exact.std())
    report(f"int8 cache {name:15} relative error {relative:.4f}")
    assert 1e-4 < relative <= 0.06

    sequences = decoder.start(1, len(ids))
    pieces = [sequences.read([ids[:50]], every=True)[0], sequences.read([ids[50:51]])]
    pieces += [sequences.step(np.array([number])).copy() for number in ids[51:]]
    assert apart(np.concatenate(pieces), found) <= EXACT
