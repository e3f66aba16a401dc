"""Languages of the translation task, with a toy model: tokens, pairs that the checkpoint knows, names of the task."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_model import EOS
from toy_seq2seq import LANGUAGES, toy_model

import edgenlp
from edgenlp.errors import InputError
from edgenlp.pipeline import task_named
from edgenlp.tasks.translation import Translation

Make = Callable[..., Translation]

BRIEF = {"num_beams": 1, "max_new_tokens": 5}
PAIRS = {
    "translation_en_to_de": {"prefix": "in de ", "max_new_tokens": 3},
    "translation_en_to_fr": {"prefix": "in fr ", "num_beams": 2},
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str = "translation", *, model: dict[str, Any] | None = None, **options: Any) -> Translation:
        found: Translation = edgenlp.pipeline(name, toy_model(tmp_path, **(model or {})), **options)
        return found

    return made


def read_of(pipe: Translation) -> list[int]:
    model: Any = pipe.model
    ids: list[int] = model.both.read_sources[-1]
    return ids


def ids_of(found: Any) -> list[int]:
    ids: list[int] = found[0]["translation_token_ids"]
    return ids


def test_languages_have_tokens(make: Make) -> None:
    pipe = make(model={"languages": LANGUAGES})
    for source, target in (("en_XX", "fr_XX"), ("fr_XX", "de_DE"), ("de_DE", "de_DE")):
        found = pipe("a man", src_lang=source, tgt_lang=target, **BRIEF, return_tensors=True)
        own = pipe.tokens.encode(["a man"], special_tokens=False)[0][0].ids
        assert read_of(pipe) == [LANGUAGES.ids[source], *own, EOS]
        assert ids_of(found)[:2] == [0, LANGUAGES.ids[target]]
        begun = pipe("a man", src_lang=source, tgt_lang=target, **BRIEF, return_tensors=True, target_prefix="on")
        on = pipe.tokens.encode(["on"], special_tokens=False)[0][0].ids
        assert ids_of(begun)[: 2 + len(on)] == [0, LANGUAGES.ids[target], *on]
    assert list(pipe("a", src_lang="en_XX", tgt_lang="fr_XX", **BRIEF)[0]) == ["translation_text"]


def test_a_language_behind_the_text(make: Make) -> None:
    pipe = make(model={"languages": replace(LANGUAGES, before=False)})
    pipe("a man", src_lang="de_DE", tgt_lang="fr_XX", **BRIEF)
    assert read_of(pipe)[-1] == LANGUAGES.ids["de_DE"]


def test_languages_of_the_pipeline_and_of_its_name(make: Make) -> None:
    expected = make(model={"languages": LANGUAGES})("a man", src_lang="fr_XX", tgt_lang="de_DE", **BRIEF)
    assert make(model={"languages": LANGUAGES}, src_lang="fr_XX", tgt_lang="de_DE")("a man", **BRIEF) == expected
    named = make("translation_fr_XX_to_de_DE", model={"languages": LANGUAGES})
    assert named("a man", **BRIEF) == expected
    assert named("a man", tgt_lang="en_XX", **BRIEF) != expected
    assert "".join(named.stream("a man", **BRIEF)) == expected[0]["translation_text"]
    assert named.score("a man", "the rat") == make(model={"languages": LANGUAGES}).score(
        "a man", "the rat", src_lang="fr_XX", tgt_lang="de_DE"
    )
    with pytest.raises(InputError, match="no language of this model"):
        make("translation_en_to_xx", model={"languages": LANGUAGES})


def test_languages_that_are_missing_or_unknown(make: Make) -> None:
    pipe = make(model={"languages": LANGUAGES})
    for options in ({}, {"src_lang": "en_XX"}, {"tgt_lang": "fr_XX"}):
        with pytest.raises(InputError, match=r"give both.*de_DE, en_XX, fr_XX"):
            pipe("a man", **options)
    with pytest.raises(InputError, match=r"src_lang='fr'.*did you mean 'fr_XX'.*de_DE, en_XX, fr_XX"):
        pipe("a man", src_lang="fr", tgt_lang="de_DE")
    for code in ("xx_YY", 3, "</s>"):
        with pytest.raises(InputError, match=r"tgt_lang=.*de_DE, en_XX, fr_XX"):
            pipe("a man", src_lang="en_XX", tgt_lang=code)
    with pytest.raises(InputError, match="exclude each other"):
        pipe("a man", src_lang="en_XX", tgt_lang="fr_XX", forced_bos_token_id=2)
    assert pipe("a man", src_lang="en_XX", forced_bos_token_id=2, **BRIEF) == pipe(
        "a man", src_lang="en_XX", tgt_lang="fr_XX", **BRIEF
    )


def test_a_checkpoint_for_a_pair_needs_no_languages(make: Make) -> None:
    pipe = make(model={"languages": replace(LANGUAGES, target="fr_XX")})
    assert pipe("a man", **BRIEF) == pipe("a man", src_lang="en_XX", tgt_lang="fr_XX", **BRIEF)


def test_pairs_that_have_prefixes(make: Make) -> None:
    model = {"task_options": PAIRS}
    french = make("translation_en_to_fr", model=model)
    expected = french("a man", max_new_tokens=5)
    assert read_of(french) == french.tokens.encode(["in fr a man"])[0][0].ids
    assert expected == make()("in fr a man", max_new_tokens=5, num_beams=2)
    german = make("translation_en_to_de", model=model)
    assert german("a man") == make()("in de a man", max_new_tokens=3)
    assert german("a man", tgt_lang="fr", max_new_tokens=5) == expected
    assert make(model=model, src_lang="en", tgt_lang="fr")("a man", max_new_tokens=5) == expected
    with pytest.warns(UserWarning, match="translation_en_to_de, translation_en_to_fr"):
        unnamed = make(model=model)
    assert unnamed("a man") == german("a man")
    for options in ({"tgt_lang": "es", "src_lang": "en"}, {"tgt_lang": "fr"}):
        with pytest.raises(InputError, match="translation_en_to_de, translation_en_to_fr"):
            unnamed("a man", **options)
    with pytest.raises(InputError, match="translation_en_to_es"):
        make("translation_en_to_es", model=model)


def test_a_model_without_languages(make: Make) -> None:
    plain = make()
    expected = plain("a man", **BRIEF)
    assert make("translation_en_to_fr")("a man", **BRIEF) == expected
    with pytest.raises(InputError, match="leave tgt_lang out"):
        plain("a man", tgt_lang="fr")
    with pytest.raises(InputError, match="leave src_lang out"):
        make(src_lang="en")


def test_names_of_the_task() -> None:
    assert task_named("translation_en_to_fr") == "translation"
    assert task_named("translation_eng_Latn_to_fra_Latn") == "translation"
    for name in ("translation_en_fr", "translation_en_to_", "translations"):
        with pytest.raises(InputError, match="there is no task"):
            task_named(name)


def test_a_text_that_may_not_fit(make: Make) -> None:
    pipe = make()
    with pytest.warns(UserWarning, match="more than 0.9"):
        pipe("the man in the street .", num_beams=1, max_new_tokens=None, max_length=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe("the man in the street .", num_beams=1, max_new_tokens=None, max_length=25)
        pipe("the man in the street . " * 2, **BRIEF)
