"""The scores of `models/measure`, on pipelines whose answers are known, and its page. No model, no data set of the public ones."""

import dataclasses
import importlib
import json
import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest

MODELS = Path(__file__).parent.parent / "models"


@pytest.fixture(scope="module")
def room():
    """Its modules by name; they are found as `python models/measure` finds them, and forgotten afterwards."""
    before, known = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(MODELS / "measure"))
    # scores first: it says where the readers of data sets are
    names = ("scores", "rows", "labels", "spans", "answers", "language", "vectors", "page")
    yield types.SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if str(MODELS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def answering(answers, **own):
    """A pipeline that gives these answers, whatever it is asked."""

    class Pipeline(types.SimpleNamespace):
        def __call__(self, inputs, **_):
            return iter(answers[: len(list(inputs))])

    return Pipeline(**own)


def head(*labels):
    return types.SimpleNamespace(head=types.SimpleNamespace(labels=labels))


def test_accuracy(room):
    task = answering(
        [{"label": "POSITIVE"}, {"label": "POSITIVE"}, {"label": "NEGATIVE"}], bundle=head("NEGATIVE", "POSITIVE")
    )
    assert room.labels.by_number(task, [("a", 1), ("b", 0), ("c", 0)]) == {"accuracy": pytest.approx(200 / 3)}
    pairs = [({"text": "a", "text_pair": "b"}, "positive"), ({"text": "a", "text_pair": "c"}, "negative")]
    assert room.labels.by_name(task, pairs) == {"accuracy": 50.0}
    with pytest.raises(ValueError, match="no label neutral"):
        room.labels.by_name(task, [*pairs, ({}, "neutral")])
    with pytest.raises(ValueError, match="labels are"):
        room.labels.by_number(task, [("a", 0), ("b", 1), ("c", 2)])


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-a I-a O", {("a", 1, 3)}),
        ("B-a B-a I-b", {("a", 0, 1), ("a", 1, 2), ("b", 2, 3)}),
        ("I-a I-a O I-b", {("a", 0, 2), ("b", 3, 4)}),
        ("B-a I-b I-b", {("a", 0, 1), ("b", 1, 3)}),
        ("O O", set()),
    ],
)
def test_entities_of_tags(tags, found, room):
    assert room.spans.entities(tags.split()) == found


def test_a_word_has_the_tag_of_its_first_token(room):
    words = ["New", "York", "is", "", "big"]
    tokens = [("B-a", 0), ("O", 1), ("I-a", 4), ("O", 6), ("O", 9), ("B-a", 13)]
    found = [{"entity": entity, "start": start} for entity, start in tokens]
    task = answering([found], bundle=head("O", "B-a", "I-a"))
    sentence = (words, ["B-a", "I-a", "O", "O", "O"])
    assert room.spans.figures(task, [sentence]) == {"F1": pytest.approx(200 / 3), "precision": 50.0, "recall": 100.0}
    with pytest.raises(ValueError, match="none of the model's labels"):
        room.spans.figures(answering([], bundle=head("O", "B-z")), [sentence])


def test_answers_are_compared_as_squad_does(room):
    assert room.answers.words_of("The  Cat, (a) dog's!") == ["cat", "dogs"]
    assert room.answers.f1(["a", "b"], ["b", "c", "d"]) == pytest.approx(0.4)
    assert room.answers.f1([], []) == 1.0
    question = room.answers.corpora.Question
    items = [question("1", "?", "", [("Denver Broncos", 0), ("the Broncos", 0)]), question("2", "?", "", [("1973", 0)])]
    task = answering([{"answer": "Broncos."}, {"answer": "in 1973"}])
    assert room.answers.figures(task, items) == {"F1": pytest.approx(100 * (1 + 2 / 3) / 2), "exact": 50.0}


def test_rank_correlation(room):
    assert room.vectors.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]
    turns = {"x": 0.0, "y": 1.0, "z": 2.0, "w": 3.0}

    def encode(texts, **_):
        return [np.array([math.cos(turns[text]), math.sin(turns[text])]) for text in texts]

    task = types.SimpleNamespace(encode=encode)
    assert room.vectors.figures(task, [("x", "x", 5), ("x", "y", 4), ("x", "z", 1), ("x", "w", 0)]) == {
        "Spearman": pytest.approx(100)
    }


class Words:
    """A tokenizer of words with a space before each but the first, and pieces of two letters for words that begin with z."""

    def encode(self, texts, *, special_tokens=True):
        offsets, ids, place = [], [], 0
        for word in texts[0].split(" "):
            pieces = [word[begin : begin + 2] for begin in range(0, len(word), 2)] if word[0] == "z" else [word]
            for number, piece in enumerate(pieces):
                begin = place - (1 if place and not number else 0)
                offsets.append((begin, place + len(piece)))
                ids.append(sum(map(ord, piece)))
                place += len(piece)
            place += 1
        lead = [(0, 0)] if special_tokens else []
        return [[types.SimpleNamespace(offsets=lead + offsets, ids=[1] * len(lead) + ids)]]

    def special_token(self, _):
        return "[MASK]"


def test_the_hidden_word_is_one_token_and_always_the_same(room):
    texts = []

    class Pipeline(types.SimpleNamespace):
        def __call__(self, inputs, **_):
            texts.extend(inputs)
            return iter([[{"token": sum(map(ord, "nice"))}], [{"token": 0}, {"token": sum(map(ord, "ok"))}], []])

    task = Pipeline(tokens=Words())
    items = [(0, "zebras nice zoos"), (1, "zebras ok zoos"), (2, "zebras zoos"), (3, "zebra fine")]
    assert room.language.masked(task, items) == {"top-1": pytest.approx(100 / 3), "top-5": pytest.approx(200 / 3)}
    assert texts == ["zebras [MASK] zoos", "zebras [MASK] zoos", "zebra [MASK]"]


def test_perplexity_counts_what_was_scored(room):
    # four letters and a space before each word but the first, every token with probability 1/8: 3 bits of 5 bytes
    task = types.SimpleNamespace(
        tokens=Words(),
        score=lambda texts, **_: [{"logprob": -3 * math.log(8), "tokens": 3} for _ in texts],
    )
    found = room.language.perplexity(task, ["aaaa bbbb cccc dddd"])
    assert found["bits a byte"] == pytest.approx(9 / 15)
    assert found["of a token"] == pytest.approx(8)
    assert found["of a word"] == pytest.approx(2 ** (9 / 15 * 19 / 4))


def test_the_list_of_models_is_in_order(room):
    rows = room.rows.read_rows(MODELS / "models.json", tuple(room.scores.SCORES))
    for row in rows.values():
        assert (MODELS.parent / row.recipe).is_file()
        assert row.of is None or rows[row.of].task == row.task
    assert list(rows).index("sentiment-distilled") == list(rows).index("sentiment") + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour is no key"),
        ({"scores": ["sst3"]}, "scores must be a list of some of sst2"),
        ({"export": {}}, '"precision" at least'),
        ({"licence": ""}, "licence must be text"),
        ({"of": "nobody"}, "must be a row that is of no other"),
    ],
)
def test_a_row_that_is_wrong_is_named(change, message, room, tmp_path):
    row = json.loads((MODELS / "models.json").read_text(encoding="utf-8"))["sentiment"]
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"mine": row | change}), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as found:
        room.rows.read_rows(file, tuple(room.scores.SCORES))
    assert "mine" in str(found.value)


@pytest.fixture
def results():
    values = {"fp32": 86.0, "int8": 85.5, "int4": 83.0, "shipped": 84.9}
    return {
        "sentiment": {
            "parameters": 22_700_000,
            "precisions": {
                name: {"mb": 20.0, "scores": {"sst2": {"accuracy": value}}, "ms": 3.21, "cold_ms": 412}
                for name, value in values.items()
            },
        }
    }


def shipping(room):
    """The list of models, in which the one that was measured ships."""
    rows = room.rows.read_rows(MODELS / "models.json", tuple(room.scores.SCORES))
    return {**rows, "sentiment": dataclasses.replace(rows["sentiment"], ships=True)}


def test_the_page_keeps_all_but_its_tables(room, results):
    rows = shipping(room)
    page = (MODELS / "README.md").read_text(encoding="utf-8")
    new = room.page.replaced(page, room.page.tables(results, rows))
    line = next(line for line in new.splitlines() if "SST-2 dev: accuracy" in line)
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == ["text-classification", "**sentiment**", "22.7 M", "20.0"]
    assert cells[5:] == ["86.00", "85.50", "83.00", "**84.90**", "3.2", "412"]
    assert room.page.replaced(new, "x") == room.page.replaced(page, "x")
    with pytest.raises(ValueError, match="must hold the lines"):
        room.page.replaced("a page", "x")


def test_what_costs_too_much_is_told_and_scores_reach_the_defaults(room, results):
    rows = shipping(room)
    assert room.page.complaints(results, rows) == [
        "sentiment: SST-2 dev: the shipped bundle is 1.10 points worse than fp32"
    ]
    results["sentiment"]["precisions"]["shipped"]["scores"]["sst2"]["accuracy"] = 85.2
    assert room.page.complaints(results, rows) == []
    stated = {
        "text-classification": {"model": "sentiment", "why": "small"},
        "translation": {"model": None, "why": "no"},
    }
    kept = room.page.kept_scores(stated, results, rows)
    assert kept["text-classification"] == {
        "model": "sentiment", "why": "small", "score": 85.2, "metric": "accuracy, %", "on": "SST-2 dev",
        "licence": rows["sentiment"].licence,
    }  # fmt: skip
    assert kept["translation"] == {"model": None, "why": "no"}
