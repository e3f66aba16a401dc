"""The loops of generation on the toy model, against transformers' recorded answers and against themselves."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_model import COLUMNS, EOS, WINDOW, ToyDecoder

from edgenlp.decode.beams import BeamPlan, Search
from edgenlp.decode.generate import generate, stream
from edgenlp.decode.lookup import guess
from edgenlp.decode.options import Generation, merged
from edgenlp.decode.rows import Collect, Ends, Generated
from edgenlp.errors import InputError, TooLongError

_RECORDED = json.loads((Path(__file__).parent / "data" / "goldens" / "generate.json").read_text())
PROMPTS: list[list[int]] = _RECORDED["prompts"]
_CASES = {
    f"{part['transformers']}, {name}": case
    for part in (_RECORDED["generate"], _RECORDED["groups and contrastive"])
    for name, case in part["cases"].items()
}
REPEATING = [30, 31, 32, 33, 34, 30, 31, 32, 33, 34, 30, 31]

# One of each way to write; what is drawn is drawn from a few likely ids, so that a wrong draw shows.
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, penalties": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
    "sampling": {"do_sample": True, "temperature": 1.4, "seed": 11},
    "sampling, three each": {"do_sample": True, "top_k": 0, "top_p": 0.9, "seed": 12, "num_return_sequences": 3},
    "guidance": {"guidance_scale": 1.6},
    "guidance, sampling": {"guidance_scale": 1.6, "do_sample": True, "seed": 3, "negative_prompt_ids": [[5, 17, 40]]},
    "lookup": {"prompt_lookup_num_tokens": 4},
    "lookup, sampling": {"prompt_lookup_num_tokens": 4, "do_sample": True, "temperature": 0.8, "seed": 5},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4},
    "contrastive, guidance": {"penalty_alpha": 0.6, "top_k": 4, "guidance_scale": 1.3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "beams, guidance": {"num_beams": 3, "guidance_scale": 1.4},
    "beams, bans": {
        "num_beams": 4,
        "early_stopping": True,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[4], [33, 34]],
    },
    "beam sampling": {"num_beams": 3, "do_sample": True, "seed": 8, "num_return_sequences": 2},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7, "num_return_sequences": 3},
}
_STREAMED = [name for name, options in WAYS.items() if "num_beams" not in options]


def options_of(**given: Any) -> Generation:
    return merged({"eos_token_id": EOS}, {"max_new_tokens": 20, **given})


def text_of(ids: Sequence[int]) -> str:
    """A letter per id."""
    return "".join(chr(ord("A") + token) for token in ids)


def write(prompts: Sequence[Sequence[int]] = PROMPTS, **given: Any) -> list[list[Generated]]:
    return generate(ToyDecoder(), prompts, options_of(**given), decode=text_of)


def ids_of(answers: list[list[Generated]]) -> list[list[list[int]]]:
    return [[list(item.ids) for item in prompt] for prompt in answers]


@pytest.mark.parametrize("name", _CASES)
def test_equals_transformers(name: str) -> None:
    case = _CASES[name]
    given = {"max_new_tokens": 24, **case["options"]}
    if "negative_prompt_ids" in given:
        given["negative_prompt_ids"] = [given["negative_prompt_ids"]]
    answers = generate(ToyDecoder(), PROMPTS, options_of(**given))
    assert ids_of(answers) == case["ids"]
    if "scores" in case:
        for found, recorded in zip(answers, case["scores"], strict=True):
            np.testing.assert_allclose([item.score for item in found], recorded, atol=1e-4)
    else:
        assert all(item.score is None for found in answers for item in found)


def test_scores_and_logits_of_a_step_equal_transformers() -> None:
    case = _RECORDED["steps"]
    ((found,),) = write(PROMPTS[:1], **case["options"], output_scores=True, output_logits=True, seed=1)
    assert found.scores is not None
    assert found.logits is not None
    recorded = [-np.inf if value is None else value for value in case["scores"]]
    np.testing.assert_allclose(found.scores[0], recorded, atol=2e-4)
    np.testing.assert_allclose(found.logits[0], case["logits"], atol=2e-4)


@pytest.mark.parametrize("name", WAYS)
def test_batch_equals_singles(name: str) -> None:
    options = options_of(**WAYS[name])
    collected = options_of(**WAYS[name], output_scores=True, output_logits=True, output_logprobs=True)
    together = generate(ToyDecoder(), PROMPTS, options)
    assert [generate(ToyDecoder(), [prompt], options)[0] for prompt in PROMPTS] == together
    assert generate(ToyDecoder(), PROMPTS[::-1], options)[::-1] == together
    assert ids_of(generate(ToyDecoder(), PROMPTS, collected)) == ids_of(together)  # looking on changes nothing
    assert all(len(found) == options.num_return_sequences for found in together)
    assert len({tuple(item.ids) for found in together for item in found}) > 4


@pytest.mark.parametrize("name", _STREAMED)
def test_stream_equals_generate(name: str) -> None:
    options = options_of(**WAYS[name])
    whole = generate(ToyDecoder(), PROMPTS, options)
    tokens: dict[tuple[int, int], list[int]] = {}
    finishes: dict[tuple[int, int], str] = {}
    for step in stream(ToyDecoder(), PROMPTS, options):
        assert step
        for written in step:
            key = written.prompt, written.place
            assert key not in finishes
            assert written.tokens
            tokens.setdefault(key, []).extend(written.tokens)
            if written.finish:
                finishes[key] = written.finish
    assert tokens == {(i, j): list(item.ids) for i, found in enumerate(whole) for j, item in enumerate(found)}
    assert finishes == {(i, j): item.finish for i, found in enumerate(whole) for j, item in enumerate(found)}


def test_stream_computes_nothing_ahead_and_closing_ends_it() -> None:
    model = ToyDecoder()
    pieces = stream(model, PROMPTS[:1], options_of(min_new_tokens=20))
    assert model.runs == 0
    for count in range(1, 5):
        next(pieces)
        assert model.runs == count
    pieces.close()  # type: ignore[attr-defined]
    assert list(pieces) == []
    assert model.runs == 4


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 4, "bad_words_ids": [[33, 34, 35]]},
        {"do_sample": True, "temperature": 0.9, "seed": 21},
        {"do_sample": True, "top_p": 0.8, "top_k": 0, "seed": 22, "repetition_penalty": 0.8},
        {"eos_token_id": [7, 12]},
    ],
)
def test_lookup_writes_what_plain_search_writes(given: dict[str, Any]) -> None:
    prompts = [REPEATING, *PROMPTS, [5, 6] * 6]
    collected = {"output_scores": True, "output_logits": True, "output_logprobs": True, "max_new_tokens": 40}
    plain = write(prompts, **given, **collected)
    for count, longest in ((1, 1), (3, 2), (10, 3)):
        ahead = write(prompts, **given, **collected, prompt_lookup_num_tokens=count, max_matching_ngram_size=longest)
        for (a,), (b,) in zip(plain, ahead, strict=True):
            assert (a.ids, a.finish) == (b.ids, b.finish)
            np.testing.assert_allclose(a.logprobs or (), b.logprobs or (), atol=1e-4)
            np.testing.assert_allclose(a.scores or (), b.scores or (), atol=1e-4)
            np.testing.assert_allclose(a.logits or (), b.logits or (), atol=1e-4)


def test_lookup_needs_fewer_runs_where_the_text_repeats() -> None:
    given = {"suppress_tokens": [token for token in range(COLUMNS) if token not in (3, 4)], "max_new_tokens": 40}
    plain, ahead = ToyDecoder(), ToyDecoder()
    expected = generate(plain, [[3, 4, 3]], options_of(**given))
    assert generate(ahead, [[3, 4, 3]], options_of(**given, prompt_lookup_num_tokens=5)) == expected
    assert plain.runs == 40
    assert ahead.runs <= 20


@pytest.mark.parametrize("ahead", [{}, {"prompt_lookup_num_tokens": 5}])
def test_processors_are_asked_once_for_each_token(ahead: dict[str, Any]) -> None:
    """Guides may count on it."""
    asked: list[list[int]] = []

    def watch(ids: Sequence[np.ndarray], scores: np.ndarray) -> np.ndarray:
        asked.extend(row.tolist() for row in ids)
        return scores

    ((found,),) = write([REPEATING], logits_processor=[watch], min_new_tokens=20, **ahead)
    assert asked == [[*REPEATING, *found.ids[:count]] for count in range(len(found.ids))]


def test_guesses() -> None:
    row = np.array([1, 2, 3, 9, 1, 2, 4, 7, 5, 1, 2])
    assert guess(row, 3, 2).tolist() == [3, 9, 1]  # what followed the first 1 2
    assert guess(row, 20, 2).tolist() == [3, 9, 1, 2, 4, 7, 5, 1, 2]
    assert guess(row, 0, 2).tolist() == []
    assert guess(row, 6, 2, (9,)).tolist() == [3]  # nothing from an end on
    assert guess(row, 6, 2, (3,)).tolist() == []
    assert guess(np.array([1, 2, 8, 2]), 3, 2).tolist() == [8, 2]  # 8 2 is new, 2 is not
    assert guess(np.array([1, 2, 3]), 3, 2).tolist() == []
    assert guess(np.array([1]), 3, 2).tolist() == []
    assert guess(np.array([4, 4, 4]), 3, 2).tolist() == [4]


def test_rows_that_have_ended_leave_the_batch() -> None:
    model = ToyDecoder()
    answers = generate(model, PROMPTS, options_of())
    lengths = [len(found[0].ids) for found in answers]
    assert len(set(lengths)) > 3
    assert model.tokens == sum(map(len, PROMPTS)) + sum(lengths) - len(lengths)
    assert model.runs == max(lengths)


def test_a_prompt_is_read_once_however_often_it_is_answered() -> None:
    model = ToyDecoder()
    (answers,) = generate(model, [REPEATING], options_of(do_sample=True, seed=4, num_return_sequences=5))
    assert model.tokens == len(REPEATING) + sum(len(item.ids) - 1 for item in answers)
    assert len({item.ids for item in answers}) == 5


def test_a_seed_is_a_text() -> None:
    given = {"do_sample": True, "temperature": 1.5, "top_k": 0}
    assert write(**given, seed=1) == write(**given, seed=1)
    assert write(**given, seed=1) != write(**given, seed=2)
    texts = {write([[11, 42]], **given)[0][0].ids for _ in range(4)}  # no seed: a new one each call
    assert len(texts) > 1
    # the first of several is the one that is drawn alone
    several = write(**given, seed=9, num_return_sequences=3)
    assert [found[:1] for found in several] == write(**given, seed=9)


def test_beams_report_what_their_scores_are_made_of() -> None:
    for name in ("beams", "groups", "beam sampling"):
        given = {"eos_token_id": EOS, "length_penalty": 0.7, "output_logprobs": True, "output_scores": True} | WAYS[
            name
        ]
        for found in write(**given, output_logits=True):
            assert [item.score for item in found] == sorted((item.score or 0 for item in found), reverse=True)
            for item in found:
                assert item.score is not None
                assert item.scores is not None
                assert item.logits is not None
                assert item.logprobs is not None
                assert len(item.scores) == len(item.logits) == len(item.logprobs) == len(item.ids)
                assert item.score == pytest.approx(sum(item.logprobs) / len(item.ids) ** 0.7, abs=1e-4)


def test_beams_go_on_where_the_likeliest_tokens_all_end() -> None:
    plan = BeamPlan(num_beams=2, keep=1, length_penalty=1.0, early_stopping=False, collect=Collect())
    beams = Search([5], number=0, limit=9, plan=plan)
    scores = np.array([[-1.0, -1.1, -1.2, -2.0, -3.0, -9.0]] * 2, np.float32)
    beams.advance(scores, Ends(eos=(0, 1, 2)), None, None)
    assert beams.tokens.tolist() == [3, 4]
    np.testing.assert_array_equal(beams.scores, np.array([-2, -3], np.float32))


def test_early_stopping_stops_early() -> None:
    runs = []
    for early in (True, False, "never"):
        model = ToyDecoder()
        generate(model, PROMPTS[:1], options_of(num_beams=4, early_stopping=early, max_new_tokens=48))
        runs.append(model.runs)
    assert runs[0] < runs[1] < runs[2]


def test_logprobs_are_those_of_the_processed_scores() -> None:
    for found in write(do_sample=True, seed=1, temperature=0.7, top_k=3, output_scores=True, output_logprobs=True):
        for item in found:
            for token, scores, logprob in zip(item.ids, item.scores or (), item.logprobs or (), strict=True):
                assert np.isfinite(scores).sum() == 3
                assert logprob == pytest.approx(np.log(np.exp(scores[token]) / np.exp(scores).sum()), abs=1e-5)


def test_finish_reasons() -> None:
    plain = write()
    assert [found[0].finish for found in plain] == ["eos" if found[0].ids[-1] == EOS else "length" for found in plain]
    assert "eos" in [found[0].finish for found in plain]
    assert {found[0].finish for found in write(max_new_tokens=2)} == {"length"}
    assert {found[0].finish for found in write(eos_token_id=None, max_new_tokens=30)} == {"length"}
    for given in ({}, {"num_beams": 2}, {"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 0.5}):
        answers = write(**given, max_time=1e-9)
        assert {(found[0].finish, len(found[0].ids)) for found in answers} == {("time", 1)}


@pytest.mark.parametrize("ahead", [{}, {"prompt_lookup_num_tokens": 3}])
def test_stop_strings_and_criteria(ahead: dict[str, Any]) -> None:
    whole = list(write([REPEATING], min_new_tokens=20, **ahead)[0][0].ids)
    ((found,),) = write([REPEATING], min_new_tokens=20, stop_strings=[text_of(whole[4:7])], **ahead)
    assert found.finish == "stop"
    assert list(found.ids) == whole[: len(found.ids)]
    assert text_of(found.ids).endswith(text_of(whole[4:7]))
    seen: list[int] = []

    def fifth(ids: Any, scores: Any) -> bool:
        seen.append(len(ids))
        assert scores.shape == (COLUMNS,)
        return len(ids) == len(REPEATING) + 5

    ((found,),) = write([REPEATING], min_new_tokens=20, stopping_criteria=[fifth], **ahead)
    assert found.finish == "user"
    assert list(found.ids) == whole[:5]
    assert seen == [len(REPEATING) + count for count in range(1, 6)]


def test_beams_end_at_stop_strings_as_at_end_tokens() -> None:
    expected = write(num_beams=3, eos_token_id=[EOS, 45], num_return_sequences=3)
    # two end tokens make six candidates, a stop string does not: only the best is sure to be the same
    found = write(num_beams=3, stop_strings=[text_of([45])], num_return_sequences=3)
    assert [(item[0].ids[-1], item[0].finish) for item in found] == [
        (item[0].ids[-1], "stop" if item[0].ids[-1] == 45 else item[0].finish) for item in expected
    ]
    assert any(item[0].finish == "stop" for item in found)


class _Cancel:
    """Gives up when it has been asked so often."""

    def __init__(self, after: int) -> None:
        self.left = after

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("name", WAYS)
def test_cancelling_keeps_what_there_is(name: str) -> None:
    given = {**WAYS[name], "min_new_tokens": 10}
    whole, cut = write(**given), write(**given, cancel=_Cancel(3))
    for (a, *_), (b, *_) in zip(whole, cut, strict=True):
        assert b.finish == "cancelled"
        assert len(b.ids) < len(a.ids)
        if "num_beams" not in given:
            assert a.ids[: len(b.ids)] == b.ids
            assert len(b.ids) == 4 or "lookup" in name


def test_nothing_is_written_beyond_the_window() -> None:
    given = {"max_new_tokens": 10 * WINDOW, "eos_token_id": None}
    long = [token % COLUMNS for token in range(WINDOW - 3)]
    for name in WAYS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = write([long], **{**WAYS[name], "min_new_tokens": None, **given})[0][0]
        assert (found.finish, len(found.ids)) == ("length", 3)
    ((found,),) = write([[11, 42]], guidance_scale=1.5, negative_prompt_ids=[long], **given)
    assert (found.finish, len(found.ids)) == ("length", 3)


def test_default_length_is_capped_by_the_window() -> None:
    long = [token % COLUMNS for token in range(WINDOW - 5)]
    ((found,),) = write([long], max_new_tokens=None, eos_token_id=None)
    assert (found.finish, len(found.ids)) == ("length", 5)


def test_sequences_that_hold_the_beginning_already() -> None:
    model = ToyDecoder()
    first = [3, 14, 15, 9]
    for given in ({}, {"prompt_lookup_num_tokens": 3}, {"guidance_scale": 1.5}):
        options = options_of(**given)
        sequences = model.start(1, WINDOW)
        ((said,),) = generate(model, [first], options, sequences=sequences)
        (held,) = sequences.lengths
        assert held == len(first) + len(said.ids) - 1
        second = [*first, *said.ids, 8, 20]
        model.tokens = 0
        ((again,),) = generate(model, [second], options, sequences=sequences)
        assert model.tokens < len(second) + 2 * len(again.ids)
        assert again == generate(ToyDecoder(), [second], options)[0][0]
    with pytest.raises(InputError, match="rewind"):
        generate(model, [first], options_of(), sequences=sequences)
    with pytest.raises(InputError, match="contrastive"):
        generate(model, [[*second, *again.ids]], options_of(penalty_alpha=0.5, top_k=3), sequences=sequences)


def test_no_prompts() -> None:
    assert write([]) == []
    assert list(stream(ToyDecoder(), [], options_of())) == []


@pytest.mark.parametrize(
    ("prompts", "given", "error", "message"),
    [
        ([[3, 4], []], {}, InputError, "no tokens"),
        ([[3] * WINDOW], {}, TooLongError, f"{WINDOW} tokens long, the model's window is {WINDOW}"),
        ([[3] * (WINDOW + 9)], {"max_length": 300, "max_new_tokens": None}, TooLongError, "shorten"),
        ([[3, COLUMNS]], {}, InputError, f"knows 0 to {COLUMNS - 1}"),
        ([[-1, 3]], {}, InputError, "-1 to 3"),
        ([[3] * 30], {"max_length": 30, "max_new_tokens": None}, InputError, "max_length"),
        ([[3, 4]], {"guidance_scale": 2.0, "negative_prompt_ids": [[3], [4]]}, InputError, "2 rows for 1 prompts"),
        ([[3, 4]], {"guidance_scale": 2.0, "negative_prompt_ids": [[3] * WINDOW]}, TooLongError, "window"),
        ([[3, 4]], {"guidance_scale": 2.0} | WAYS["groups"], InputError, "guidance_scale"),
        ([[3, 4]], {"do_sample": True, "suppress_tokens": list(range(COLUMNS))}, InputError, "no id is left"),
    ],
)
def test_bad_input(prompts: list[list[int]], given: dict[str, Any], error: type[InputError], message: str) -> None:
    with pytest.raises(error, match=message):
        generate(ToyDecoder(), prompts, options_of(**given))


def test_beams_cannot_be_streamed() -> None:
    with pytest.raises(InputError, match="num_beams=4"):
        stream(ToyDecoder(), PROMPTS, options_of(num_beams=4))
    with pytest.raises(InputError, match="no tokens"):  # at once, not at the first token
        stream(ToyDecoder(), [[]], options_of())
