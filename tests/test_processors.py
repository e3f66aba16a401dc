"""Rules about what may come next: equal to transformers 4.57.6 on recorded rows, and independent of which rows are under way."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from processor_cases import CALLS, CASES, COLUMNS, DIVERSITY, Case, load

from edgenlp.decode.options import Generation, merged
from edgenlp.decode.processors import Diversity, Processor, processors
from edgenlp.decode.warpers import Warp, warp
from edgenlp.errors import InputError


def earlier(number: int) -> tuple[Diversity, np.ndarray]:
    penalty, chosen = DIVERSITY[number]
    diversity = Diversity(penalty)
    diversity.chosen = dict(enumerate(chosen))
    return diversity, np.random.RandomState(number).normal(0, 3, (4, 97)).astype(np.float32)


INPUTS = {name: case.inputs(name)[2] for name, case in CASES.items()} | {
    f"diversity {number}": earlier(number)[1] for number in range(len(DIVERSITY))
}
ANSWERS = load(INPUTS)


def options_of(case: Case) -> Generation:
    # as defaults: what has no effect is no warning then
    explicit = {name: CALLS[call] for name, call in case.calls.items()}
    return merged(case.given, explicit)


def chain_of(case: Case, name: str, **more: Any) -> list[Processor]:
    ids, sources, _, without = case.inputs(name)
    prompts = [row[:prompt] for row, (prompt, _) in zip(ids, case.rows, strict=True)]
    options = options_of(case)
    return processors(
        options,
        prompts=prompts,
        columns=case.columns,
        limits=[options.span(len(prompt)) for prompt in prompts],
        sources=sources if case.sources else None,
        unconditional=lambda rows, owners: without[np.asarray(owners)],
        **more,
    )


def run(chain: list[Processor], ids: list[np.ndarray], scores: np.ndarray, owners: list[int]) -> np.ndarray:
    for process in chain:
        scores = process(ids, scores, owners)
    return scores


def compare(found: np.ndarray, expected: np.ndarray, *, exact: bool = True) -> None:
    np.testing.assert_array_equal(found == -np.inf, expected == -np.inf)
    # sums of exponentials are added up in another order
    np.testing.assert_allclose(found, expected, rtol=0 if exact else 2e-6, atol=0 if exact else 4e-6)


def is_exact(case: Case) -> bool:
    return "guidance_scale" not in case.given and "renormalize_logits" not in case.given


def test_every_case_is_recorded() -> None:
    assert list(ANSWERS) == [*CASES, *(f"diversity {number}" for number in range(len(DIVERSITY)))]


@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_transformers(name: str) -> None:
    case = CASES[name]
    ids, _, scores, _ = case.inputs(name)
    found, expected = run(chain_of(case, name), ids, scores, list(range(len(ids)))), ANSWERS[name]
    if (
        "top_p" in case.given and case.scores == "ties"
    ):  # which of equals stay is left open by torch's sort: how many is not
        found, expected = np.sort(found), np.sort(expected)
    compare(found, expected, exact=is_exact(case))


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case.scores == "normal" and case.columns == COLUMNS]
)
def test_rows_may_go_and_multiply(name: str) -> None:
    """Each row stands alone: neither its place nor the others matter, only the number of its prompt."""
    case = CASES[name]
    ids, _, scores, _ = case.inputs(name)
    rows = [len(ids) - 1, 0, len(ids) - 1]
    found = run(chain_of(case, name), [ids[row] for row in rows], scores[rows], rows)
    compare(found, ANSWERS[name][rows], exact=is_exact(case))


@pytest.mark.parametrize("number", range(len(DIVERSITY)))
def test_groups_of_beams_avoid_what_earlier_groups_chose(number: int) -> None:
    diversity, scores = earlier(number)
    ids = [np.zeros(1, np.int64)] * 4
    compare(diversity(ids, scores.copy(), [0, 0, 1, 1]), ANSWERS[f"diversity {number}"])
    diversity.chosen = {}
    np.testing.assert_array_equal(diversity(ids, scores.copy(), [0, 0, 1, 1]), scores)


def test_diversity_follows_the_biases_and_precedes_the_penalties() -> None:
    options = merged({"sequence_bias": [[[3], 1.0]], "repetition_penalty": 2.0}, {})
    diversity = Diversity(2.0)
    diversity.chosen = {0: [3]}
    prompts = [np.array([3])]
    chain = processors(options, prompts=prompts, columns=5, limits=[(0, 9)], diversity=diversity)
    assert chain[1] is diversity
    found = run(chain, prompts, np.full((1, 5), 0.5, np.float32), [0])
    np.testing.assert_array_equal(found, [[0.5, 0.5, 0.5, (0.5 + 1 - 2) * 2, 0.5]])


def test_plain_greedy_search_has_no_processor() -> None:
    prompts = [np.array([1, 2])]
    assert processors(merged({"eos_token_id": 2}, {}), prompts=prompts, columns=9, limits=[(0, 22)]) == []
    assert processors(merged({"temperature": 0.5, "top_k": 3}, {}), prompts=prompts, columns=9, limits=[(0, 22)]) == []


def test_guides_follow_the_callers_processors_and_precede_the_cuts() -> None:
    seen = []

    def guide(ids: Any, scores: np.ndarray, owners: Any) -> np.ndarray:
        seen.append((scores[0, 0].item(), list(owners)))
        return scores

    options = merged({"do_sample": True}, {"logits_processor": lambda ids, scores: scores + 4})
    chain = processors(options, prompts=[np.array([1])] * 2, columns=3, limits=[(0, 9)] * 2, guides=[guide])
    assert chain[1] is guide
    assert isinstance(chain[2], Warp)
    run(chain, [np.array([1])], np.zeros((1, 3), np.float32), [1])
    assert seen == [(4.0, [1])]


def test_a_callers_processor_gets_ids_without_padding() -> None:
    rows = [np.array([5, 6]), np.array([7])]

    def look(ids: Any, scores: np.ndarray) -> np.ndarray:
        assert [row.tolist() for row in ids] == [[5, 6], [7]]
        return scores.astype(np.float64)

    chain = processors(merged({}, {"logits_processor": [look]}), prompts=rows, columns=3, limits=[(0, 9)] * 2)
    assert run(chain, rows, np.zeros((2, 3), np.float32), [0, 1]).dtype == np.float32


def test_an_end_that_is_banned_stays_so_when_its_penalty_decays() -> None:
    """Adding what transformers adds gives NaN, which greedy search then chooses."""
    given = {"min_new_tokens": 20, "exponential_decay_length_penalty": [0, 1.5], "eos_token_id": 2}
    prompts = [np.array([1])]
    chain = processors(merged(given, {}), prompts=prompts, columns=4, limits=[(21, 40)])
    found = run(chain, [np.arange(1, 9)], np.ones((1, 4), np.float32), [0])
    np.testing.assert_array_equal(found, [[1, 1, -np.inf, 1]])


def test_a_decay_of_many_tokens_does_not_overflow() -> None:
    given = {"exponential_decay_length_penalty": [0, 2.0], "eos_token_id": 2}
    chain = processors(merged(given, {}), prompts=[np.array([1])], columns=4, limits=[(0, 5000)])
    found = run(chain, [np.ones(4000, np.int64)], np.full((1, 4), 2e37, np.float32), [0])
    assert found.argmax() == 2
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bad_words_ids": [[1, 9]]}, "bad_words_ids names the id 9, and the model scores the ids 0 to 8"),
        ({"sequence_bias": {(12,): 1.0}}, "sequence_bias names the id 12"),
        ({"forced_bos_token_id": 9}, "forced_bos_token_id names the id 9"),
        ({"forced_eos_token_id": [1, 10]}, "forced_eos_token_id names the id 10"),
        ({"guidance_scale": 2.0}, "guidance_scale=2.0 does not work with this search"),
        (
            {"prefix_allowed_tokens_fn": lambda prompt, ids: []},
            r"at least one id, found \[\] for prompt 0 after 1 tokens",
        ),
        ({"prefix_allowed_tokens_fn": lambda prompt, ids: [0.5]}, r"found \[0.5\]"),
        ({"prefix_allowed_tokens_fn": lambda prompt, ids: [9]}, "returned ids from 9 to 9"),
        ({"prefix_allowed_tokens_fn": lambda prompt, ids: [-1]}, "returned ids from -1 to -1"),
        ({"logits_processor": lambda ids, scores: scores[:, :3]}, r"of the shape \(1, 9\), found float32 \(1, 3\)"),
        ({"logits_processor": lambda ids, scores: None}, "must return scores"),
        ({"suppress_tokens": list(range(9)), "do_sample": True}, "no id is left to choose"),
        ({"suppress_tokens": list(range(9)), "renormalize_logits": True}, "no id is left to choose"),
        ({"sequence_bias": {(1,): float("inf")}, "do_sample": True}, "the highest score is inf"),
        ({"logits_processor": lambda ids, scores: scores * np.nan, "do_sample": True}, "the highest score is nan"),
    ],
)
def test_what_cannot_be_done_is_said(given: Mapping[str, Any], message: str) -> None:
    prompts = [np.array([1])]
    with pytest.raises(InputError, match=message):
        run(
            processors(merged({}, given), prompts=prompts, columns=9, limits=[(0, 9)]),
            prompts,
            np.zeros((1, 9), np.float32),
            [0],
        )


SLOW: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "top_k": lambda scores, k: scores >= np.sort(scores)[-int(k)],
    "top_p": lambda scores, p: np.isin(
        np.arange(len(scores)),
        (order := np.argsort(-scores, kind="stable")[::-1])[np.cumsum(softly(scores)[order]) > np.float32(1 - p)],
    ),
}


def softly(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores.astype(np.float64) - scores.max())
    return exponentials / exponentials.sum()


@pytest.mark.parametrize(
    ("name", "value"), [("top_k", 1), ("top_k", 50), ("top_k", 400), ("top_p", 0.3), ("top_p", 0.92)]
)
@pytest.mark.parametrize("spread", [0.2, 2.0, 12.0])
def test_the_short_way_keeps_what_the_long_way_keeps(name: str, value: float, spread: float) -> None:
    """At the size of a real vocabulary, with ties."""
    scores = np.random.RandomState(7).normal(0, spread, 50257).astype(np.float32)
    scores[::31] = scores[0]
    cuts = warp(merged({"do_sample": True, "top_k": 0, name: value}, {}))
    assert cuts is not None
    kept, values = cuts.narrow(scores.copy())
    assert kept is not None
    np.testing.assert_array_equal(kept, np.flatnonzero(SLOW[name](scores, value)))
    np.testing.assert_array_equal(values, scores[kept])


def test_a_cut_keeps_at_least_one_id_for_sampling_and_more_for_beams() -> None:
    scores = np.array([[0.0, 9.0, 3.0, 6.0]], np.float32)
    for given, kept in (
        ({"top_p": 0.0}, [1]),
        ({"top_k": 1}, [1]),
        ({"top_k": 1, "num_beams": 2}, [1, 3]),
        ({"top_k": 1, "num_beams": 2, "eos_token_id": [0, 1]}, [1, 2, 3]),
        ({"top_p": 0.0, "num_beams": 2}, [1, 3]),
    ):
        cuts = warp(merged({"do_sample": True, **given}, {}))
        assert cuts is not None
        assert np.flatnonzero(cuts([], scores.copy(), [0])[0] > -np.inf).tolist() == kept
