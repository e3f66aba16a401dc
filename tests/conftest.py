"""What tests share: bundles exported once a session, and lines for the end of the run's report."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import edgenlp_export
import numpy as np
import pytest
from checkpoints import write_checkpoint
from decoder_checkpoints import write_decoder
from goldens import Window
from seq2seq_goldens import write_case

from edgenlp.model import Model, open_model

_REPORT = pytest.StashKey[list[str]]()

OpenBundle = Callable[..., Model]


@pytest.fixture(scope="session")
def open_bundle_of() -> Iterator[OpenBundle]:
    """A function from a checkpoint (arguments of `write_checkpoint`) to its opened bundle; each is exported once.

    Keyword arguments go to `export`; the default precision is fp32.
    """
    yield from opener(write_checkpoint)


@pytest.fixture(scope="session")
def open_decoder_of() -> Iterator[OpenBundle]:
    """As `open_bundle_of`, from arguments of `write_decoder`."""
    yield from opener(write_decoder)


@pytest.fixture(scope="session")
def open_seq2seq_of() -> Iterator[OpenBundle]:
    """As `open_bundle_of`, from the cases of `seq2seq_goldens`: arguments of `write_seq2seq` or `write_composite`."""
    yield from opener(write_case)


def opener(write: Callable[..., Path]) -> Iterator[OpenBundle]:
    """As `open_bundle_of`, from arguments of `write`, which makes a checkpoint in the folder that it is given."""
    models: dict[str, Model] = {}
    with tempfile.TemporaryDirectory() as place:

        def opened(checkpoint: dict[str, Any], **options: Any) -> Model:
            options = {"precision": "fp32", **options}
            key = json.dumps([checkpoint, {name: str(value) for name, value in options.items()}], sort_keys=True)
            if key not in models:
                source = Path(place, f"checkpoint-{len(models)}")
                target = Path(place, f"bundle-{len(models)}")
                write(source, **checkpoint)
                try:
                    edgenlp_export.export(source, target, **options)
                finally:
                    shutil.rmtree(source)
                models[key] = open_model(target, threads=1)
            return models[key]

        yield opened
        models.clear()


def outputs(model: Model, windows: Sequence[Window], rows: Sequence[Sequence[int]] | None) -> list[np.ndarray]:
    """What an encoder gives of each window."""
    (name,) = model.encoder.outputs
    return [found[name] for found in model.encoder(windows, rows=rows)]


def check_loss(model: Model, name: str, found: np.ndarray, expected: np.ndarray, report: Callable[[str], None]) -> None:
    """That a quantized bundle was within its tolerance at export, and is about so near to transformers; both are reported."""
    relative = float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
    measured, precision = model.bundle.parity, model.bundle.precision
    report(
        f"{precision:10} {name} relative error {measured['relative_error']:.4f} at export,"
        f" {relative:.4f} against transformers; lowest cosine {measured['cosine']:.4f}"
    )
    tolerance = edgenlp_export.SCHEMES[precision].tolerance
    assert measured["relative_error"] <= tolerance
    assert relative <= 1.5 * tolerance


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the end of the run's report."""
    return request.config.stash.setdefault(_REPORT, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what tests measured."""
    if lines := config.stash.get(_REPORT, []):
        terminalreporter.section("measured")
        for line in sorted(lines):
            terminalreporter.write_line(line)
