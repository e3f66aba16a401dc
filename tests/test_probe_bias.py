"""The probe of bias: what it finds equals what fill-mask says, its reading follows from the figures, its errors are ours."""

import json
import sys
from pathlib import Path

import edgenlp_export
import numpy as np
import pytest
from checkpoints import write_checkpoint

import edgenlp
from edgenlp.cli import main
from edgenlp.cli.probing import shown
from edgenlp.errors import InputError, TooLongError
from edgenlp.probe import Answer, Probe, Side, probe, reading

HEADS = {"bert": "masked_lm", "roberta": "masked_lm", "distilbert": "token_classification"}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Architecture to the folder of a tiny random bundle."""
    root = tmp_path_factory.mktemp("probe")
    for architecture, head in HEADS.items():
        source = write_checkpoint(root / f"{architecture}-checkpoint", architecture, head, seed=3)
        edgenlp_export.export(source, root / architecture, tolerance=float("inf"))
    return {architecture: str(root / architecture) for architecture in HEADS}


def answers(*rows: tuple[str, float, float]) -> tuple[Answer, ...]:
    return tuple(Answer(word, sum(map(ord, word)), score, other) for word, score, other in rows)


def example(*, both: bool = False) -> Probe:
    """A probe as the course's BERT might give it."""
    if both:
        same = answers(("waiter", 0.2, 0.2))
        return Probe((Side("man", "A man [MASK].", same, ()), Side("woman", "A woman [MASK].", same, ())), 1.0)
    man = answers(("lawyer", 0.1, 0.02), ("waiter", 0.05, 0.04))
    woman = answers(("nurse", 0.2, 0.01), ("waiter", 0.04, 0.05))
    sides = (Side("man", "A man [MASK].", man, ("lawyer",)), Side("woman", "A woman [MASK].", woman, ("nurse",)))
    return Probe(sides, 0.75)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_its_words_are_those_of_fill_mask(architecture: str, bundles: dict[str, str]) -> None:
    with edgenlp.pipeline("fill-mask", bundles[architecture]) as task:
        found = probe(task, top_k=7)
        every = len(probe(task, top_k=10**6).sides[0].answers)
        for side, person in zip(found.sides, ("man", "woman"), strict=True):
            mask = task.tokens.special_token("mask")
            assert (side.person, side.sentence) == (person, f"This {person} works as a {mask}.")
            told = task(side.sentence, top_k=7)
            assert [answer.token for answer in side.answers] == [item["token"] for item in told]
            assert [answer.score for answer in side.answers] == pytest.approx([item["score"] for item in told])
            assert [answer.word for answer in side.answers] == [item["token_str"].strip() for item in told]
    first, second = found.sides
    listed = {answer.token: answer for answer in second.answers}
    assert first.only == tuple(answer.word for answer in first.answers if answer.token not in listed)
    for answer in first.answers:
        if answer.token in listed:
            assert (answer.score, answer.other) == (listed[answer.token].other, listed[answer.token].score)
    assert every > 1000
    assert 0 < found.shared < 1


def test_what_two_sentences_share_is_the_sum_of_the_smaller_probabilities(bundles: dict[str, str]) -> None:
    with edgenlp.pipeline("fill-mask", bundles["bert"]) as task:
        found = probe(task, "The {} sang {mask}.", people=("cat", "dog"), top_k=10**6)
    for side in found.sides:
        assert sum(answer.score for answer in side.answers) == pytest.approx(1, abs=1e-4)
        assert np.sum([min(item.score, item.other) for item in side.answers]) == pytest.approx(found.shared, abs=1e-4)
        assert side.only == ()
    assert "are the same for 'cat' and 'dog'" in reading(found)


def test_the_models_own_mask_may_stand_in_the_template(bundles: dict[str, str]) -> None:
    with edgenlp.pipeline("fill-mask", bundles["roberta"]) as task:
        assert probe(task, "The {} is a <mask>.") == probe(task, "The {} is a {mask}.")


@pytest.mark.parametrize(
    ("template", "people", "message"),
    [
        ("This man works as a {mask}.", ("man", "woman"), "has no {} for the person"),
        ("This {} works.", ("man", "woman"), "must have {mask} \\(or \\[MASK\\], this model's own mask\\) once"),
        ("{} {mask} {mask}", ("man", "woman"), "once, as in"),
        ("{} {mask} [MASK]", ("man", "woman"), "once, as in"),
        ("{} <mask>", ("man", "woman"), "must have {mask}"),
        ("{} {mask}", ("man", "man"), "two different people"),
        ("{} {mask}", ("man",), "two different people"),
        ("{} {mask}", ("man", " "), "two different people"),
        ("{} {mask}", ("man", "[MASK]"), "has 2 masks"),
        ("{} {mask}", ("man", 3), "a person must be a string"),
        ("{} {mask}", ("man", "\ud800"), "a person"),
        (None, ("man", "woman"), "the template must be a string"),
    ],
)
def test_what_cannot_be_asked(template, people, message, bundles: dict[str, str]) -> None:
    with edgenlp.pipeline("fill-mask", bundles["bert"]) as task, pytest.raises(InputError, match=message):
        probe(task, template, people=people)


def test_limits(bundles: dict[str, str]) -> None:
    with edgenlp.pipeline("fill-mask", bundles["bert"]) as task:
        with pytest.raises(TooLongError, match="tokens long"):
            probe(task, "word " * 2000 + "{} {mask}")
        with pytest.raises(InputError, match="top_k must be"):
            probe(task, top_k=0)
        odd = probe(task, "{0} {x} {} a\0b\n{mask}", people=("<>", "{}"), top_k=1)  # braces are text like any other
        assert odd.sides[1].sentence == "{0} {x} {} a\0b\n[MASK]"


def test_the_reading_follows_from_the_figures() -> None:
    text = reading(example())
    assert text.startswith("Of the 2 likeliest words 1 is in both lists. All words counted, the two share 75%")
    assert "'lawyer' is 5 times as likely for 'man' as for 'woman'." in text
    assert "'nurse' is 20 times as likely for 'woman' as for 'man'." in text
    assert "no measure of fairness or harm" in text
    same = reading(example(both=True))
    assert same.startswith("The likeliest word is the same for 'man' and 'woman'.")
    assert "times as likely" not in same
    assert "lists that agree prove nothing" in same


def test_the_screen_has_both_lists_side_by_side_and_fits() -> None:
    lines = shown("bert", example(), columns=60).splitlines()
    assert lines[2:5] == [
        "A man [MASK].     A woman [MASK].",
        "  10.00%  lawyer    20.00%  nurse",
        "   5.00%  waiter     4.00%  waiter",
    ]
    assert "only for man (with the chance for woman): lawyer 2.00%" in lines
    assert "only for woman (with the chance for man): nurse 1.00%" in lines
    assert max(map(len, lines)) <= 60
    assert "only for man (with the chance for woman): none" in shown("bert", example(both=True), columns=60)


def test_no_text_can_steer_the_terminal() -> None:
    evil = answers(("\x1b[2J", 0.5, 0.1))
    sides = (Side("\x1b]0;", "\x07", evil, ("\x1b[2J",)), Side("b", "\x9b", evil, ()))
    text = shown("\x1b", Probe(sides, 0.5), columns=60)
    assert all(letter == "\n" or letter.isprintable() for letter in text)


def test_the_command(bundles: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe-bias", bundles["bert"], "--top-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split("  ")[0] == "This man works as a [MASK]."
    assert all(line.count("%") == 2 for line in lines[3:6])
    assert lines[6] == ""
    arguments = ["--pair", "he / she", "--template", "{} is a {mask}.", "--json", "--threads", "1"]
    assert main(["probe-bias", bundles["bert"], *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [side["sentence"] for side in told["sides"]] == ["he is a [MASK].", "she is a [MASK]."]
    assert [len(side["answers"]) for side in told["sides"]] == [10, 10]
    with edgenlp.pipeline("fill-mask", bundles["bert"], threads=1) as task:
        found = probe(task, "{} is a {mask}.", people=("he", "she"))
    assert told["shared"] == pytest.approx(found.shared)
    assert told["reading"] == reading(found)


def test_errors_of_the_command(
    bundles: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgenlp.defaults.defaults", dict)
    for arguments, message in (
        ([], "fill-mask has no default model here"),
        ([bundles["distilbert"]], "serves token-classification, not fill-mask"),
        ([str(tmp_path / "none")], "there is no folder"),
        ([str(tmp_path)], "edgenlp.json"),
        ([bundles["bert"], "--template", "He works."], "has no {} for the person"),
        ([bundles["bert"], "--template", "{} works."], "must have {mask}"),
        ([bundles["bert"], "--preset", "fast"], "no preset 'fast'"),
    ):
        assert main(["probe-bias", *arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("edgenlp: ")
        assert message in err
        assert err.count("\n") == 1
    for wrong in (["--pair", "man"], ["--pair", "a/b/c"], ["--pair", "a/a"], ["--pair", "/b"], ["--top-k", "0"]):
        with pytest.raises(SystemExit) as stopped:
            main(["probe-bias", bundles["bert"], *wrong])
        assert stopped.value.code == 2
        assert "usage: edgenlp probe-bias" in capsys.readouterr().err


def test_without_a_model_it_asks_the_default_of_fill_mask(
    bundles: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgenlp.defaults.defaults", lambda: {"fill-mask": {"model": "bert"}})
    monkeypatch.setattr(sys.modules["edgenlp.pipeline"], "default_for", lambda task: Path(bundles["bert"]))
    assert main(["probe-bias", "--top-k", "1"]) == 0
    assert "This woman works as a [MASK]." in capsys.readouterr().out
