"""ROUGE-L of summaries, and what can be had without a model. Knows words and sentences, no tokens and no model.

    python models/recipes/rouge.py DATA/scitldr/dev.jsonl

prints what the first sentence of an abstract is worth as its summary, what a sentence chosen by its words is, and what the best
sentence of each would be. Nothing but Python is needed.
"""

import argparse
import collections
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Paper", "baselines", "best", "papers", "rouge_1", "rouge_l", "worth"]

CUES = re.compile(
    r"\b(we|our|this (paper|work|article))\b.*"
    r"\b(propos|present|introduc|show|develop|demonstrat|investigat|stud[iy]|describ)",
    re.IGNORECASE,
)


class Paper(NamedTuple):
    """An abstract, and one or more sentences by people that say it all."""

    sentences: list[str]
    targets: list[str]


def papers(path: Path) -> list[Paper]:
    """Those of a file with a paper on each line (scitldr)."""
    rows = (json.loads(line) for line in path.open(encoding="utf-8"))
    return [Paper(row["source"], row["target"]) for row in rows]


def rouge_1(found: str, wanted: str) -> float:
    """F1 of words, from 0 to 1 (Lin, 2004; words as the package rouge-score has them, not stemmed)."""
    ours, theirs = _words(found), _words(wanted)
    return _f1(sum((collections.Counter(ours) & collections.Counter(theirs)).values()), ours, theirs)


def rouge_l(found: str, wanted: str) -> float:
    """The same of the longest sequence of words that both have, with gaps."""
    ours, theirs = _words(found), _words(wanted)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        left = 0  # of the row before
        for place, other in enumerate(theirs, 1):
            left, row[place] = row[place], left + 1 if word == other else max(row[place], row[place - 1])
    return _f1(row[-1], ours, theirs)


def _words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def _f1(both: int, ours: Sequence[str], theirs: Sequence[str]) -> float:
    return 2 * both / (len(ours) + len(theirs)) if both else 0.0


def best(found: str, targets: Sequence[str]) -> float:
    """ROUGE-L to that of several targets which ROUGE-1 says is nearest (SciTLDR: Cachola et al., 2020)."""
    return rouge_l(found, max(targets, key=lambda target: rouge_1(found, target)))


def worth(found: Sequence[str], read: Sequence[Paper]) -> float:
    """Mean of `best` in percent, of one summary for each paper."""
    return 100 * sum(best(text, paper.targets) for text, paper in zip(found, read, strict=True)) / len(read)


def baselines(read: Sequence[Paper]) -> Mapping[str, float]:
    """`worth` of what needs no model: the first sentence, the first that says what "we propose", and (cheating) the best."""
    return {
        "first sentence": worth([paper.sentences[0] for paper in read], read),
        "first sentence with a cue": worth([_cued(paper.sentences) for paper in read], read),
        "best sentence, chosen by the targets": worth(
            [max(paper.sentences, key=lambda text, to=paper.targets: best(text, to)) for paper in read], read
        ),
    }


def _cued(sentences: Sequence[str]) -> str:
    return next((text for text in sentences if CUES.search(text)), sentences[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    for name, value in baselines(papers(parser.parse_args().file)).items():
        print(f"{value:.2f} ROUGE-L: {name}")
