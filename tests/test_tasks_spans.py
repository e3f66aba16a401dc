"""Pure functions of the two tasks that answer with spans of characters: token classification and question answering."""

from typing import Any

import numpy as np
import pytest

from edgenlp.errors import InputError
from edgenlp.tasks.entities import Mark, Token, group_marks, mark_tokens, mark_words, merge_overlaps
from edgenlp.tasks.question_answering import Answer, best_spans, example_of, masked_probabilities, merge_answers
from edgenlp.tasks.token_classification import source_of, strategy_of

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def marks(*labels: str) -> list[Mark]:
    """Words of two characters with a space between, "w0", "w1" and so on, of scores 0.5, 0.25 and so on."""
    scores = [np.float32(0.5**place) for place in range(1, len(labels) + 1)]
    tokens = [Token(place, f"w{place}", 3 * place, 3 * place + 2, False) for place in range(len(labels))]
    return [Mark(label, score, [token]) for label, score, token in zip(labels, scores, tokens, strict=True)]


def grouped(*labels: str, ignored: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    groups = group_marks(marks(*labels), ignored, " ".join, words=False)
    return [(group["entity_group"], group["word"]) for group in groups]


def entity(start: int, end: int, score: float) -> dict[str, Any]:
    return {"start": start, "end": end, "score": score}


def answer(score: float, start: int, end: int, text: str) -> Answer:
    return Answer(score=score, start=start, end=end, answer=text)


def peaked(*places: tuple[int, int], length: int) -> np.ndarray:
    """Logits [length, 2] that are 4 at the given (token, column) and 0 elsewhere."""
    logits = np.zeros((length, 2), np.float32)
    for token, column in places:
        logits[token, column] = 4
    return logits


def test_inside_continues_what_began() -> None:
    assert grouped("B-PER", "I-PER", "I-PER") == [("PER", "w0 w1 w2")]


def test_beginning_parts_two_entities_of_one_name() -> None:
    assert grouped("B-PER", "B-PER", "I-PER") == [("PER", "w0"), ("PER", "w1 w2")]


def test_inside_of_another_name_begins_an_entity() -> None:
    assert grouped("B-PER", "I-LOC", "I-LOC") == [("PER", "w0"), ("LOC", "w1 w2")]


def test_ignored_labels_part_entities() -> None:
    assert grouped("I-PER", "O", "I-PER", ignored=frozenset({"O"})) == [("PER", "w0"), ("PER", "w2")]


def test_labels_without_a_scheme_group_by_name() -> None:
    assert grouped("PER", "PER", "LOC") == [("PER", "w0 w1"), ("LOC", "w2")]


def test_other_schemes_lose_their_prefix_in_the_name_only() -> None:
    assert grouped("E-PER", "E-PER", "S-PER") == [("PER", "w0 w1"), ("PER", "w2")]


def test_group_has_the_mean_score_and_the_whole_span() -> None:
    (group,) = group_marks(marks("B-LOC", "I-LOC"), frozenset(), " ".join, words=False)
    assert group == {"entity_group": "LOC", "score": 0.375, "word": "w0 w1", "start": 0, "end": 5}
    assert type(group["score"]) is float


def test_words_are_joined_before_their_group() -> None:
    tokens = [Token(0, "a", 0, 1, False), Token(1, "b", 1, 2, True), Token(2, "c", 3, 4, False)]
    words = [Mark("I-PER", np.float32(1), tokens[:2]), Mark("I-PER", np.float32(1), tokens[2:])]
    (group,) = group_marks(words, frozenset(), "+".join, words=True)
    assert group["word"] == "a+b+c"
    (group,) = group_marks(words, frozenset(), lambda pieces: f"({''.join(pieces)})", words=True)
    assert group["word"] == "((ab)(c))"


def test_tokens_get_their_own_likeliest_label() -> None:
    scores = np.array([[1, 0, 0, 0, 0], [0.25, 0, 0.5, 0.25, 0]], np.float32)
    (mark,) = mark_tokens([Token(1, "x", 0, 1, False)], scores, LABELS)
    assert (mark.label, mark.score) == ("I-PER", 0.5)


@pytest.mark.parametrize(
    ("strategy", "label", "score"), [("first", "B-PER", 0.5), ("max", "I-LOC", 0.75), ("average", "O", 0.375)]
)
def test_word_has_one_label(strategy: str, label: str, score: float) -> None:
    tokens = [Token(1, "a", 0, 1, False), Token(2, "##b", 1, 2, True), Token(3, "##c", 2, 3, True)]
    scores = np.zeros((5, 5), np.float32)
    scores[1, [1, 0]] = 0.5, 0.375
    scores[2, [4, 0]] = 0.75, 0.25
    scores[3, [0, 2]] = 0.5, 0.25
    (mark,) = mark_words(tokens, scores, LABELS, strategy)
    assert (mark.label, mark.score, list(mark.tokens)) == (label, score, tokens)


def test_first_token_begins_a_word_even_if_it_continues_one() -> None:
    tokens = [Token(0, "##a", 1, 2, True), Token(1, "b", 3, 4, False)]
    words = mark_words(tokens, np.eye(5, dtype=np.float32), LABELS, "first")
    assert [(word.label, len(word.tokens)) for word in words] == [("O", 1), ("B-PER", 1)]


def test_overlaps_keep_the_longest() -> None:
    assert merge_overlaps([entity(0, 3, 0.9), entity(0, 5, 0.1)]) == [entity(0, 5, 0.1)]


def test_overlaps_of_one_length_keep_the_surest() -> None:
    assert merge_overlaps([entity(0, 3, 0.2), entity(0, 3, 0.9), entity(2, 5, 0.5)]) == [entity(0, 3, 0.9)]


def test_entities_that_only_touch_are_both_kept() -> None:
    assert merge_overlaps([entity(3, 5, 0.9), entity(0, 3, 0.2)]) == [entity(0, 3, 0.2), entity(3, 5, 0.9)]
    assert merge_overlaps([]) == []


def test_strategies_have_old_names() -> None:
    assert strategy_of(None, None, None) == "none"
    assert strategy_of("AVERAGE", None, None) == "average"
    with pytest.warns(UserWarning, match="grouped_entities="):
        assert strategy_of(None, True, None) == "simple"
    with pytest.warns(UserWarning, match="ignore_subwords="):
        assert strategy_of("max", None, True) == "none"
    with pytest.warns(UserWarning, match='"first"'):
        assert strategy_of(None, True, True) == "first"


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'simple'"):
        strategy_of("simpel", None, None)


def test_words_know_where_they_begin() -> None:
    source = source_of(["New", "", "York"], True, "--")
    assert (source.text, source.begins) == ("New----York", (0, 5, 7))
    assert source_of(["a", "b"], True).text == "a b"
    assert source_of([], True).begins == ()


@pytest.mark.parametrize(
    ("text", "split"), [("a b", True), (["a"], False), ([1], True), (None, False), ("\ud800", False)]
)
def test_what_is_no_text_is_an_error(text: Any, split: bool) -> None:
    with pytest.raises(InputError):
        source_of(text, split)


def test_tokens_not_allowed_get_no_probability() -> None:
    start, end = masked_probabilities(np.zeros((4, 2), np.float32), np.array([True, False, True, False]))
    assert start.tolist() == end.tolist() == [0.5, 0, 0.5, 0]


def test_likeliest_span_first() -> None:
    spans = best_spans(peaked((2, 0), (3, 1), length=5), np.array([True, False, True, True, True]), 2, 15)
    assert (spans.starts[0], spans.ends[0]) == (2, 3)
    assert spans.scores[0] == pytest.approx((np.e**4 / (np.e**4 + 3)) ** 2)
    assert spans.null == pytest.approx((1 / (np.e**4 + 3)) ** 2)
    assert spans.scores[0] > spans.scores[1]


def test_span_does_not_end_before_it_starts() -> None:
    spans = best_spans(peaked((3, 0), (2, 1), length=5), np.array([False, False, True, True, True]), 20, 15)
    assert sorted(zip(spans.starts, spans.ends, strict=True)) == [(2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (4, 4)]


def test_span_is_no_longer_than_asked() -> None:
    spans = best_spans(peaked((2, 0), (4, 1), length=5), np.array([False, False, True, True, True]), 20, 2)
    assert max(np.subtract(spans.ends, spans.starts)) == 1
    assert best_spans(peaked((2, 0), (4, 1), length=5), np.array([False] * 2 + [True] * 3), 1, 3).ends == [4]


def test_first_token_alone_is_a_span_of_no_score() -> None:
    spans = best_spans(peaked((0, 0), (0, 1), length=3), np.array([True, False, True]), 9, 15)
    assert list(zip(spans.starts, spans.ends, strict=True)) == [(2, 2), (0, 0)]
    assert spans.scores[1] == 0


def test_band_equals_the_whole_product() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(30, 2)).astype(np.float32)
    allowed = np.arange(30) > 8
    start, end = masked_probabilities(logits, allowed)
    whole = np.tril(np.triu(np.outer(start, end)), 6)
    spans = best_spans(logits, allowed, 12, 7)
    assert spans.scores == np.sort(whole.ravel())[::-1][:12].tolist()
    assert whole[spans.starts, spans.ends].tolist() == spans.scores


def test_answers_of_one_wording_are_one() -> None:
    found = [answer(0.5, 8, 13, "Paris"), answer(0.25, 0, 4, "Rome"), answer(0.125, 20, 25, "PARIS")]
    assert merge_answers(found) == [answer(0.625, 8, 13, "Paris"), answer(0.25, 0, 4, "Rome")]


def test_example_needs_a_question_and_a_context() -> None:
    assert example_of({"question": "q", "context": "c", "id": 3}) == ("q", "c")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"question": "q"}, "found question"),
        ({"question": "", "context": "c"}, "the question is empty"),
        ({"question": "q", "context": None}, "the context must be a string, found NoneType"),
        ({"question": "q\udfff", "context": "c"}, "the question holds half of a surrogate pair"),
        ("q", "found str"),
    ],
)
def test_example_says_what_is_wrong(item: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        example_of(item)
