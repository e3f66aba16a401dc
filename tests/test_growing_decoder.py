"""A traced decoder, whose keys and values grow: against known answers, and against itself."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from growing_models import CACHES, EXACT, LAYOUTS, decoder, facts, logits_of, random_rows, session
from test_generate import _CASES, PROMPTS, WAYS, ids_of, options_of, text_of
from toy_growing import decoder_graph
from toy_model import WINDOW, ToyDecoder, forward, weights

from edgenlp.decode.generate import generate, stream
from edgenlp.errors import BundleError, InputError, TooLongError
from edgenlp.growing.decoder import GrowingDecoder

VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"axes": axes} for name, axes in LAYOUTS.items()},
    "positions of the mask": {"positions": "mask"},
    "positions of what was read": {"positions": "past"},
    "positions of columns": {"positions": "column"},
    "apart, though there is a mask": {"ragged": False},
    "one token a run": {"width": 1},
    "pieces": {"tokens": 12},
    "pieces, apart": {"tokens": 5, "positions": "past"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_of_all_lengths_equal_a_full_pass(name: str) -> None:
    rows = random_rows(7, 1, 30, 18, 18)
    sequences = decoder(**VARIANTS[name]).start(5, most=6)
    found = [[part] for part in sequences.read(rows, every=True)]
    more = random_rows(3, 9, 1, 2, 2)
    for row, part in enumerate(sequences.read(more, every=True)):
        found[row].append(part)
        rows[row] += more[row]
    for token in (11, 12, 13):
        for row, part in enumerate(sequences.step(np.arange(token, token + 5)).copy()):
            found[row].append(part[None])
            rows[row].append(token + row)
    for row, parts in enumerate(found):
        np.testing.assert_allclose(np.concatenate(parts), logits_of(rows[row]), atol=EXACT)
    kept = [5, 0, 31, 20, 2]
    sequences.rewind(kept)
    rows = [row[:length] for row, length in zip(rows, kept, strict=True)]
    parents = [3, 3, 0, 2, 1, 4]
    sequences.select(parents)
    rows = [[*rows[parent], 40 + place] for place, parent in enumerate(parents)]
    assert sequences.lengths.tolist() == [len(row) - 1 for row in rows]
    last = sequences.read([row[-1:] for row in rows])
    np.testing.assert_allclose(last, [logits_of(row)[-1] for row in rows], atol=EXACT)
    sequences.select([5])
    np.testing.assert_allclose(sequences.step(np.array([9]))[0], logits_of([*rows[5], 9])[-1], atol=EXACT)


@pytest.mark.parametrize("name", _CASES)
def test_writes_what_transformers_writes(name: str) -> None:
    case = _CASES[name]
    given = {"max_new_tokens": 24, **case["options"]}
    if "negative_prompt_ids" in given:
        given["negative_prompt_ids"] = [given["negative_prompt_ids"]]
    answers = generate(decoder(), PROMPTS, options_of(**given))
    assert ids_of(answers) == case["ids"]


@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_write_equals_the_known_model(name: str) -> None:
    options = options_of(**{"max_new_tokens": 14, **WAYS[name]})
    known = ids_of(generate(ToyDecoder(), PROMPTS, options, decode=text_of))
    assert ids_of(generate(decoder(), PROMPTS, options, decode=text_of)) == known
    assert ids_of(generate(decoder(), PROMPTS[1:2], options, decode=text_of)) == known[1:2]


@pytest.mark.parametrize("name", ["greedy", "sampling, three each", "lookup", "beams", "contrastive"])
def test_rows_that_must_be_run_apart_are_written_no_differently(name: str) -> None:
    options = options_of(**{"max_new_tokens": 10, **WAYS[name]})
    known = ids_of(generate(ToyDecoder(), PROMPTS, options, decode=text_of))
    assert ids_of(generate(decoder(positions="past"), PROMPTS, options, decode=text_of)) == known


def test_what_is_streamed_is_what_is_written() -> None:
    options = options_of(num_return_sequences=2, do_sample=True, seed=3)
    tokens: dict[tuple[int, int], list[int]] = {}
    for step in stream(decoder(), PROMPTS, options):
        for item in step:
            tokens.setdefault((item.prompt, item.place), []).extend(item.tokens)
    whole = ids_of(generate(decoder(), PROMPTS, options))
    assert {(prompt, place): ids for prompt, row in enumerate(whole) for place, ids in enumerate(row)} == tokens


def test_hidden_states_are_those_of_the_ids_just_read() -> None:
    rows = random_rows(7, 3)
    sequences = decoder(tokens=4).start(2, hidden=True)
    sequences.read(rows)
    for states, row in zip(sequences.hidden, rows, strict=True):
        np.testing.assert_allclose(states, forward(weights(), row)[1], atol=EXACT)
    sequences.step(np.array([4, 5]))
    np.testing.assert_allclose(sequences.hidden[1], forward(weights(), [*rows[1], 5])[1][-1:], atol=EXACT)


def test_a_graph_without_hidden_states_says_so() -> None:
    bare = session(decoder_graph, hidden=False)
    model = GrowingDecoder(bare, dataclasses.replace(facts(), hidden=None), window=WINDOW, tokens=64)
    with pytest.raises(BundleError, match="no hidden states, which contrastive search compares"):
        generate(model, PROMPTS, options_of(penalty_alpha=0.6, top_k=4))
    assert ids_of(generate(model, PROMPTS, options_of())) == ids_of(generate(ToyDecoder(), PROMPTS, options_of()))


def test_steps_take_what_the_last_one_gave_where_it_lies() -> None:
    sequences = decoder().start(2, WINDOW)
    sequences.read(random_rows(9, 5))
    places = set()
    for _ in range(40):
        sequences.step(np.array([8, 9]))
        places.add(sequences.cache.arrays["past_key_values.0.key"].__array_interface__["data"][0])
    assert len(places) <= 6  # two memories, a few times larger ones
    exact = 2 * len(CACHES) * 2 * 32 * WINDOW * 4
    assert sequences.cache.nbytes <= exact * 2


def test_nothing_is_read_beyond_the_window() -> None:
    model = decoder()
    with pytest.raises(TooLongError, match="the model's window is 96"):
        model.start(1, WINDOW + 1)
    sequences = model.start(2)
    with pytest.raises(TooLongError, match="97 tokens"):
        sequences.read([[8] * 3, [8] * 97])
    sequences.read([[8] * 3, [8] * 96])
    with pytest.raises(TooLongError, match="97 tokens"):
        sequences.step(np.array([8, 8]))
    sequences.rewind([3, 95])
    # side by side 95 and 60 would be longer than the positions that the model has
    rows = [[8] * 3 + random_rows(60)[0], [8] * 95 + [9]]
    last = sequences.read([rows[0][3:], [9]])
    np.testing.assert_allclose(last, [logits_of(row)[-1] for row in rows], atol=EXACT)


@pytest.mark.parametrize("ids", [[[1]], [[1], []], []])
def test_rows_without_ids_are_refused(ids: list[list[int]]) -> None:
    with pytest.raises(InputError, match="at least one id each"):
        decoder().start(2).read(ids)


def test_rows_that_do_not_exist_are_refused() -> None:
    sequences = decoder().start(2, most=3)
    sequences.read([[8], [9]])
    for parents in ([2], [0, 0, 0, 0], [-1]):
        with pytest.raises(InputError, match="cannot go on with rows"):
            sequences.select(parents)
    for lengths in ([2, 1], [1], [-1, 0]):
        with pytest.raises(InputError, match="cannot rewind"):
            sequences.rewind(lengths)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_row_holds_can_be_put_back(name: str) -> None:
    axes, (row, other) = LAYOUTS[name], random_rows(12, 20)
    first = decoder(axes).start(2)
    first.read([row, other])
    second = decoder(axes).start(2)
    second.read([[3, 4, 5], [6]])
    second.cache.restore(first.cache.state(1), 0)
    assert second.lengths.tolist() == [20, 1]
    assert {array.shape[1] for array in first.cache.state().values()} == {12}
    np.testing.assert_allclose(
        second.step(np.array([9, 9])), [logits_of([*other, 9])[-1], logits_of([6, 9])[-1]], atol=EXACT
    )
    state = first.cache.state()
    state.pop("past_key_values.0.key")
    with pytest.raises(InputError, match="belongs to another model"):
        second.cache.restore(state)
