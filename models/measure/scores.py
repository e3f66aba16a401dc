"""What can be measured: one table, a row for each score. Knows files, pipelines and figures; how a figure is found is next door."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Data sets are read here exactly as the recipes read them.
sys.path.append(str(Path(__file__).resolve().parent.parent / "recipes"))

import answers
import labels
import language
import spans
import vectors
import writing

__all__ = ["SCORES", "Score"]

Items = list[Any]


@dataclass(frozen=True)
class Score:
    """One data set and what is measured on it.

    Attributes:
        task: Pipeline that answers.
        on: The data set, in words.
        file: Where it is in the folder of data.
        read: From that file to its items.
        figures: From the pipeline and items to figures by name. The first is the score.
        call: From the pipeline and an item to the arguments of one call, as a user would make it: what is timed. JSON.
        metric: The score in words.
        most: What it may lose to quantization.
    """

    task: str
    on: str
    file: str
    read: Callable[[Path], Items]
    figures: Callable[[Any, Items], dict[str, float]]
    call: Callable[[Any, Any], tuple[list[Any], dict[str, Any]]]
    metric: str
    most: float = 1.0
    lower_is_better: bool = False

    def lost(self, exact: float, found: float) -> float:
        """What `found` is worse than `exact`, in points; of perplexities in percent."""
        return 100 * (found / exact - 1) if self.lower_is_better else exact - found


def _nli(on: str, folder: str) -> Score:
    file = f"snli_cad/{folder}/dev.tsv"
    return Score("text-classification", on, file, labels.read_pairs, labels.by_name, labels.call_pair, "accuracy, %")


def _perplexity(on: str, file: str) -> Score:
    return Score(
        "text-generation", on, file, language.read_prose, language.perplexity, language.call_writing,
        "perplexity of a word", lower_is_better=True,
    )  # fmt: skip


def _translation(source: str, target: str) -> Score:
    def read(path: Path) -> Items:
        return writing.read_parallel(path, path.with_name(f"{target}-dev.csv"))

    on = f"STS-B dev, {source} to {target}"
    return Score("translation", on, f"stsb/{source}-dev.csv", read, writing.bleu, writing.call_translation, "BLEU")


SCORES: Mapping[str, Score] = {
    "sst2": Score(
        "text-classification", "SST-2 dev", "sst2/dev.tsv",
        labels.read_texts, labels.by_number, labels.call_text, "accuracy, %",
    ),
    "snli-cad": _nli("SNLI-CAD dev", "original"),
    "snli-cad-revised": _nli("SNLI-CAD dev, with revised pairs", "all_combined"),
    "wnut17": Score(
        "token-classification", "WNUT17 dev", "wnut17/dev.conll",
        spans.read, spans.figures, spans.call, "span F1, %",
    ),
    "squad": Score(
        "question-answering", "SQuAD v1.1 dev", "squad/dev-v1.1.jsonl",
        answers.read, answers.figures, answers.call, "F1, %",
    ),
    "masked-words": Score(
        "fill-mask", "sentences of SQuAD's dev articles", "lm/wiki_squad_contexts.dev.txt",
        language.read_sentences, language.masked, language.call_masked, "top-1, %",
    ),
    "perplexity": _perplexity("SQuAD's dev articles", "lm/wiki_squad_contexts.dev.txt"),
    "perplexity-wikitext": _perplexity("WikiText-2 valid", "lm/wikitext-2.valid.txt"),
    "sts-b": Score(
        "sentence-similarity", "STS-B dev", "stsb/en-dev.csv",
        vectors.read, vectors.figures, vectors.call, "Spearman × 100",
    ),
    "scitldr": Score(
        "summarization", "SciTLDR dev", "scitldr/dev.jsonl",
        writing.read_papers, writing.rouge, writing.call_summary, "ROUGE-L",
    ),
    **{
        f"bleu-{source}-{target}": _translation(source, target)
        for source in ("en", "de", "es", "fr")
        for target in ("en", "de", "es", "fr")
        if source != target
    },
}  # fmt: skip
