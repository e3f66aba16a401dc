"""Sentence embeddings against those that sentence-transformers 5.1 gave for the same folders."""

from pathlib import Path

import edgenlp_export
import numpy as np
import pytest
from sentence_cases import FOLDERS, SENTENCES, load_sentences, write_sentence_folder

import edgenlp


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("sentences")
    made = {}
    for index, name in enumerate(FOLDERS):
        source = write_sentence_folder(place / f"checkpoint-{index}", name)
        made[name] = place / f"bundle-{index}"
        edgenlp_export.export(source, made[name], precision="fp32")
    return made


@pytest.mark.parametrize("case", load_sentences(), ids=lambda case: f"{case['folder']}, {case['kwargs']}")
def test_encode_gives_what_sentence_transformers_gives(case: dict, bundles: dict[str, Path]) -> None:
    options = {{"normalize_embeddings": "normalize"}.get(name, name): value for name, value in case["kwargs"].items()}
    with edgenlp.pipeline("sentence-similarity", model=bundles[case["folder"]]) as embedder:
        found = embedder.encode(SENTENCES, **options)
        single = np.stack([embedder.encode(text, **options) for text in SENTENCES])
    expected = np.array(case["result"])
    assert found.shape == expected.shape
    assert np.abs(found.astype(np.float64) - expected).max() <= 1e-4
    assert np.abs(found.astype(np.float64) - single).max() <= 1e-5
