"""Spearman's rank correlation of sentence-similarity bundles on an STS-B file: columns sentence, sentence, score; no header.

python models/measure.py stsb-en-dev.csv models/edgenlp_models/all-MiniLM-L6-v2
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

import edgenlp


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, equal values sharing their mean rank."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = np.arange(len(values))
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.bincount(group, place) / counts)[group]


def spearman(bundle: Path, rows: list[list[str]]) -> tuple[float, float]:
    """Correlation times 100, and milliseconds per sentence."""
    with edgenlp.pipeline("sentence-similarity", model=bundle, preset="throughput") as embedder:
        embedder.warmup()
        start = time.perf_counter()
        left, right = (embedder.encode([row[column] for row in rows], normalize=True) for column in (0, 1))
        seconds = time.perf_counter() - start
    scores = ranks((left * right).sum(axis=1)), ranks(np.array([float(row[2]) for row in rows]))
    return 100 * float(np.corrcoef(*scores)[0, 1]), 1000 * seconds / (2 * len(rows))


def main() -> None:
    """Print a line per bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    arguments = parser.parse_args()
    with arguments.file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    for bundle in arguments.bundles:
        correlation, milliseconds = spearman(bundle, rows)
        size = edgenlp.open_bundle(bundle).size / 1e6
        print(
            f"{bundle.name}: {size:.1f} MB, Spearman {correlation:.2f} over {len(rows)} pairs, {milliseconds:.2f} ms a sentence"
        )


if __name__ == "__main__":
    main()
