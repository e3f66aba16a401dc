"""A traced encoder-decoder, whose keys and values grow: against a full pass, and batches against singles."""

from typing import Any

import numpy as np
import pytest
from growing_models import EXACT, random_rows, seq2seq
from test_generate import ids_of, options_of
from toy_growing import written

from edgenlp.decode.generate import generate
from edgenlp.errors import BundleError, InputError, TooLongError

SOURCES = random_rows(4, 11, 7, 26, 1)


@pytest.mark.parametrize("given", [{}, {"lengths": True}, {"tokens": 12}, {"width": 1}])
def test_targets_equal_a_full_pass(given: dict[str, Any]) -> None:
    targets = random_rows(3, 9, 1, 5, 5)
    sequences = seq2seq(**given).read(SOURCES).start(5, most=8)
    for part, source, target in zip(sequences.read(targets, every=True), SOURCES, targets, strict=True):
        np.testing.assert_allclose(part, written(source, target), atol=EXACT)
    parents = [3, 3, 0, 1, 1, 1]
    sequences.select(parents)
    rows = [[*targets[parent], 20 + place] for place, parent in enumerate(parents)]
    found = sequences.step(np.arange(20, 26))
    expected = [written(SOURCES[parent], row)[-1] for parent, row in zip(parents, rows, strict=True)]
    np.testing.assert_allclose(found, expected, atol=EXACT)
    sequences.rewind([2, 1, 4, 9, 3, 0])
    found = sequences.read([[9], [9, 8], [7], [6], [5], [4, 3, 2]])
    kept = [[*rows[0][:2], 9], [*rows[1][:1], 9, 8], [*rows[2], 7], [*rows[3][:9], 6], [*rows[4][:3], 5], [4, 3, 2]]
    expected = [written(SOURCES[parent], row)[-1] for parent, row in zip(parents, kept, strict=True)]
    np.testing.assert_allclose(found, expected, atol=EXACT)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0},
        {"num_beams": 4, "length_penalty": -1.0, "early_stopping": True},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"do_sample": True, "seed": 4, "num_return_sequences": 3},
        {"prompt_lookup_num_tokens": 3},
    ],
)
@pytest.mark.parametrize("begin", [[0], [0, 17, 23]])
def test_a_batch_of_sources_is_written_as_singles_are(given: dict[str, Any], begin: list[int]) -> None:
    model, options = seq2seq(), options_of(**given)
    together = generate(model.read(SOURCES), [begin] * len(SOURCES), options)
    singles = [generate(model.read(SOURCES).of([place]), [begin], options)[0] for place in range(len(SOURCES))]
    assert ids_of(together) == ids_of(singles)
    assert len({tuple(item.ids) for found in together for item in found}) > 2
    if not given:
        for source, (found,) in zip(SOURCES, together, strict=True):
            whole = written(source, [*begin, *found.ids])
            assert whole[len(begin) - 1 : -1].argmax(axis=1).tolist() == list(found.ids)


def test_beams_of_one_source_move_no_cross_attention() -> None:
    reading = seq2seq().read(SOURCES[:2]).of([0, 0, 0, 1, 1, 1])
    targets = reading.start(6)
    targets.read([[0]] * 6)
    before = targets._more(np.arange(6))["past_key_values.0.encoder.key"]
    targets.select([2, 2, 0, 3, 3, 4])
    assert targets._more(np.arange(6))["past_key_values.0.encoder.key"] is before
    targets.select([0, 1, 2])
    assert targets._more(np.arange(3))["past_key_values.0.encoder.key"].shape[0] == 3


def test_sources_and_targets_that_cannot_be() -> None:
    model = seq2seq()
    for sources in ([], [[]]):
        with pytest.raises(InputError, match="a source has no tokens"):
            model.read(sources)
    with pytest.raises(TooLongError, match="41 tokens long, the model takes 40"):
        model.read([[8] * 41])
    reading = model.read(SOURCES)
    with pytest.raises(InputError, match="cannot write from sources"):
        reading.of([5])
    with pytest.raises(InputError, match="2 targets are asked for"):
        reading.start(2)
    with pytest.raises(TooLongError, match="the model's window is 48"):
        reading.start(5, 49)
    with pytest.raises(BundleError, match="no hidden states"):
        reading.start(5, hidden=True)
