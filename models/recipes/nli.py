"""Whether one text follows from another, for zero-shot classification: MiniLM, tuned on statements about texts.

    python models/recipes/nli.py DATA OUT --minilm MINILM

A hypothesis is a sentence about a premise, and a label of zero-shot classification is such a sentence. Three sources teach it:

* snli_cad/original: 1,667 pairs of SNLI (Bowman et al., 2015; CC BY-SA 4.0) with their three labels. The revised pairs beside them
  come without a licence and are left out;
* squad (CC BY-SA 4.0): paragraphs and what they are about, the titles of their articles. Another article's title contradicts;
* mr (CC BY 4.0): sentences of reviews, and that they are positive or negative.

SNLI-CAD's dev sets only measure. Two cores take about half an hour.
"""

import json
from pathlib import Path

import numpy as np
from classifying import agreement, new_classifier
from corpora import labelled, pairs
from training import Plan, arguments, seeded

LABELS = ("contradiction", "neutral", "entailment")
LONGEST = 128
TOPICS = ("This example is {}.", "This text is about {}.", "The topic is {}.", "{}")
MOODS = ("This example is {}.", "This review is {}.", "The sentiment is {}.")
WORDS = (("negative", "bad", "a complaint"), ("positive", "good", "praise"))


def main() -> None:
    """Make it."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    seeded(options.seed, options.threads)
    order = np.random.default_rng(options.seed)
    found = [
        (premise, hypothesis, label)
        for premise, hypothesis, label in pairs(options.data / "snli_cad" / "original" / "train.tsv")
    ]
    found = 4 * found + _topics(options.data / "squad" / "train-v1.1.jsonl", order)
    found += _moods(labelled(options.data / "mr" / "train.tsv"), order)
    texts = [(premise, hypothesis) for premise, hypothesis, _ in found]
    labels = np.array([LABELS.index(label) for _, _, label in found])
    model = new_classifier(options.minilm, LABELS, longest=LONGEST)
    plan = Plan(epochs=1, batch=32, rate=1e-4)
    model.tune(texts, labels, plan, run=options.out / "runs" / "nli", seed=options.seed, smoothing=0.05)
    for name in ("original", "all_combined"):
        dev = pairs(options.data / "snli_cad" / name / "dev.tsv")
        scores = model.scores([(premise, hypothesis) for premise, hypothesis, _ in dev])
        print(
            f"nli: {agreement(scores, [LABELS.index(label) for _, _, label in dev]):.2f} % of snli_cad/{name} dev",
            flush=True,
        )
    model.save(options.out / "nli")


def _topics(path: Path, order: np.random.Generator) -> list[tuple[str, str, str]]:
    """Paragraphs with their article's title, and with another's."""
    read = [json.loads(line) for line in path.open(encoding="utf-8")]
    titles = sorted({item["title"] for item in read})
    found = []
    for item in read:
        other = titles[int(order.integers(len(titles)))]
        for title, label in ((item["title"], "entailment"), (other, "contradiction")):
            if label == "entailment" or title != item["title"]:
                hypothesis = TOPICS[int(order.integers(len(TOPICS)))].format(title.replace("_", " "))
                found.append((item["context"][:600], hypothesis, label))
    return found


def _moods(reviews: list[tuple[str, int]], order: np.random.Generator) -> list[tuple[str, str, str]]:
    """Sentences of reviews, and what they are or are not."""
    found = []
    for text, label in reviews:
        for mood, words in enumerate(WORDS):
            word = words[int(order.integers(len(words)))]
            hypothesis = MOODS[int(order.integers(len(MOODS)))].format(word)
            found.append((text, hypothesis, "entailment" if mood == label else "contradiction"))
    return found


if __name__ == "__main__":
    main()
