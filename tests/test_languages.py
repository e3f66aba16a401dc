import json
from pathlib import Path
from typing import Any

import pytest
from edgenlp_export.languages import read_languages
from edgenlp_export.tokenizer import convert_tokenizer
from edgenlp_export.tokenizer.codes import M2M100, MBART, MBART50, NLLB
from tokenizer_folders import CASES, write_folder, write_json
from tokenizers import Tokenizer

from edgenlp.bundle import Languages
from edgenlp.errors import CheckpointError


def read(folder: Path, config: dict[str, Any]) -> tuple[Languages | None, Tokenizer]:
    text, facts = convert_tokenizer(folder, config)
    return read_languages(folder, config, facts, text), Tokenizer.from_str(text)


def set_languages(folder: Path, **values: str) -> None:
    path = folder / "tokenizer_config.json"
    write_json(path, {**json.loads(path.read_text("utf-8")), **values})


@pytest.mark.parametrize(
    ("name", "codes", "source", "target", "before"),
    [
        ("mbart", MBART, "en_XX", None, False),
        ("mbart ready", MBART, "ro_RO", None, False),
        ("mbart50", MBART50, "fr_XX", None, True),
        ("mbart50 ready", MBART50, "en_XX", None, True),
        ("m2m100", M2M100["m2m100"], "fr", None, True),
        ("m2m100 bpe", M2M100["wmt21"], "en", None, True),
        ("m2m100 unlisted", M2M100["m2m100"], "en", None, True),
        ("m2m100 bpe unlisted", M2M100["m2m100"], "en", "zh", True),
        ("nllb", NLLB, "eng_Latn", "fra_Latn", True),
        ("nllb legacy", NLLB, "deu_Latn", None, False),
        ("nllb bpe", ("eng_Latn", "fra_Latn", "qqq_Latn"), "eng_Latn", None, True),
        ("nllb ready", NLLB, "rus_Cyrl", None, True),
    ],
)
def test_languages_of_a_checkpoint(
    name: str, codes: tuple[str, ...], source: str, target: str | None, before: bool, tmp_path: Path
) -> None:
    languages, tokenizer = read(tmp_path, write_folder(name, tmp_path))
    assert languages is not None
    assert list(languages.ids) == list(codes)
    assert (languages.source, languages.target, languages.before) == (source, target, before)
    ids = tokenizer.encode("the rights").ids
    assert ids[0 if before else -1] == languages.ids[source]  # as transformers puts it: test_export_tokenizer.py
    assert len(set(languages.ids.values())) == len(codes)


def test_languages_of_m2m100_come_behind_its_vocabulary(tmp_path: Path) -> None:
    languages, _ = read(tmp_path, write_folder("m2m100 unlisted", tmp_path))
    size = len(json.loads((tmp_path / "vocab.json").read_text("utf-8")))
    assert languages is not None
    assert list(languages.ids.values()) == list(range(size, size + 100))


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(("mbart", "m2m100", "nllb"))])
def test_other_tokenizers_have_no_languages(name: str, tmp_path: Path) -> None:
    languages, _ = read(tmp_path, write_folder(name, tmp_path))
    assert languages is None


@pytest.mark.parametrize("key", ["src_lang", "tgt_lang"])
@pytest.mark.parametrize("name", ["mbart", "mbart50", "m2m100", "nllb", "nllb bpe"])
def test_a_language_that_there_is_not(name: str, key: str, tmp_path: Path) -> None:
    config = write_folder(name, tmp_path)
    set_languages(tmp_path, **{key: "xx_Nope"})
    with pytest.raises(CheckpointError, match=rf"{key}.*xx_Nope.*(en_XX|en, |eng_Latn)"):
        read(tmp_path, config)


def test_a_list_of_languages_that_there_is_not(tmp_path: Path) -> None:
    config = write_folder("m2m100", tmp_path)
    set_languages(tmp_path, language_codes="wmt99")
    with pytest.raises(CheckpointError, match=r"language_codes.*wmt99.*'m2m100' or 'wmt21'"):
        read(tmp_path, config)
