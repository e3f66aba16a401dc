"""BLEU of translations and ROUGE-L of summaries, by sacrebleu and rouge-score. Knows texts, no tokens."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["bleu", "call_summary", "call_translation", "read_papers", "read_parallel", "rouge"]

_REMEDY = "pip install -r models/measure/requirements.txt"


def read_parallel(path: Path, other: Path) -> list[tuple[str, str]]:
    """Sentences of one file and of another, line by line; both columns of STS-B, each sentence once."""
    sides = []
    for file in (path, other):
        with file.open(encoding="utf-8", newline="") as stream:
            sides.append([sentence for left, right, _ in csv.reader(stream) for sentence in (left, right)])
    return list(dict(zip(*sides, strict=True)).items())


def bleu(task: Any, items: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Of the whole set, against one reference."""
    try:
        from sacrebleu import corpus_bleu
    except ModuleNotFoundError as error:
        raise ValueError(f"BLEU needs sacrebleu: {_REMEDY}") from error
    found = [answer["translation_text"] for answer in task([source for source, _ in items], batch_size=1)]
    return {"BLEU": float(corpus_bleu(found, [[target for _, target in items]]).score)}


def read_papers(path: Path) -> list[tuple[list[str], list[str]]]:
    """Sentences of each abstract, and its summaries."""
    rows = [json.loads(line) for line in path.open(encoding="utf-8")]
    return [(row["source"], row["target"]) for row in rows]


def rouge(task: Any, items: Sequence[tuple[list[str], list[str]]]) -> dict[str, float]:
    """ROUGE-L times 100 of the nearest summary, the mean over abstracts; and that of their first sentences."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError as error:
        raise ValueError(f"ROUGE-L needs rouge-score: {_REMEDY}") from error
    scorer = RougeScorer(["rougeL"], use_stemmer=True)

    def mean(summaries: Sequence[str]) -> float:
        each = [scorer.score_multi(targets, text) for text, (_, targets) in zip(summaries, items, strict=True)]
        return 100 * sum(scores["rougeL"].fmeasure for scores in each) / len(each)

    answers = task([" ".join(source) for source, _ in items], truncation=True, batch_size=1)
    return {
        "ROUGE-L": mean([answer["summary_text"] for answer in answers]),
        "first sentence": mean([source[0] for source, _ in items]),
    }


def call_translation(_: Any, item: tuple[str, str]) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [item[0]], {}


def call_summary(_: Any, item: tuple[list[str], list[str]]) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    return [" ".join(item[0])], {"truncation": True}
