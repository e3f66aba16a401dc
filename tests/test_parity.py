"""Graphs against transformers 4.57.6: the same numbers, for every architecture, head and oddity of a checkpoint."""

from collections.abc import Callable

import numpy as np
import pytest
from checkpoints import ARCHITECTURES
from conftest import OpenBundle, check_loss, outputs
from edgenlp_export import SCHEMES
from goldens import MODELS, Window, kept, load_models, rows_of, windows_of

GOLDENS = load_models()
HEADS = ("sequence_classification", "token_classification", "question_answering", "masked_lm", "encoder")
QUANTIZED = [precision for precision in SCHEMES if precision != "fp32"]


@pytest.mark.parametrize("name", GOLDENS)
def test_graph_computes_what_transformers_computes(name: str, open_bundle_of: OpenBundle) -> None:
    model = open_bundle_of(MODELS[name])
    found = kept(name, outputs(model, windows_of(name), rows_of(name)))
    assert found.shape == GOLDENS[name].shape
    assert np.abs(found - GOLDENS[name]).max() <= 2e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", HEADS)
def test_batch_equals_singles(architecture: str, head: str, open_bundle_of: OpenBundle) -> None:
    name = f"{architecture}, {head}"
    model = open_bundle_of(MODELS[name])
    longest = windows_of(name)[2]
    windows = [Window(longest.ids[:length], longest.type_ids[:length]) for length in (14, 17, 9, 16)]  # one padded run
    rows = [[0, 5, len(window.ids) - 1] for window in windows] if head == "masked_lm" else None
    batch = outputs(model, windows, rows)
    for number, window in enumerate(windows):
        (single,) = outputs(model, [window], rows and [rows[number]])
        assert single.shape == batch[number].shape
        assert np.abs(single - batch[number]).max() <= 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", QUANTIZED)
def test_quantized_bundle_stays_within_its_tolerance(
    architecture: str, precision: str, open_bundle_of: OpenBundle, report: Callable[[str], None]
) -> None:
    name = f"{architecture}, encoder"
    model = open_bundle_of(MODELS[name], precision=precision, tolerance=float("inf"))
    found = kept(name, outputs(model, windows_of(name), None))
    check_loss(model, f"{architecture:12}", found, GOLDENS[name], report)
