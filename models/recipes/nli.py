"""Whether one text follows from another, for zero-shot classification: MiniLM, tuned on statements about texts.

    python models/recipes/nli.py DATA OUT --minilm MINILM

A hypothesis is a sentence about a premise, and a label of zero-shot classification is such a sentence. Four sources teach it:

* snli_cad/original: 1,667 pairs of SNLI (Bowman et al., 2015; CC BY-SA 4.0) with their three labels. The revised pairs beside them
  come without a licence and are left out;
* squad (CC BY-SA 4.0), its questions: one that asks for its subject becomes a statement when the answer is put in its place. The
  sentence with the answer entails it, a neighbour says nothing about it, and with another answer of the paragraph it is false;
* squad, its paragraphs and what they are about, the titles of their articles. Another article's title contradicts;
* mr (CC BY 4.0): sentences of reviews, and that they are positive or negative.

SNLI-CAD's dev sets only measure. Two cores take about half an hour.
"""

import json
import re
from pathlib import Path

import numpy as np
from classifying import agreement, new_classifier
from corpora import labelled, pairs, questions
from training import Plan, arguments, seeded

LABELS = ("contradiction", "neutral", "entailment")
LONGEST = 128
TOPICS = ("This example is {}.", "This text is about {}.", "The topic is {}.", "{}")
MOODS = ("This example is {}.", "This review is {}.", "The sentiment is {}.")
ASKED = re.compile(
    r"(?:Who|What|Which(?: \w+){1,2}) ((?:is|was|are|were|has|had|can|won|made|became|wrote|led|held|began|[a-z]+ed) .+)\?$"
)
STRANDED = re.compile(r" (?:in|to|of|for|by|from|with|at|on|as|about|like|called|known|named)$")
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
    squad = options.data / "squad" / "train-v1.1.jsonl"
    found = 4 * found + _statements(squad, order) + _topics(squad, order)
    found += _moods(labelled(options.data / "mr" / "train.tsv"), order)
    print(f"{len(found)} pairs", flush=True)
    texts = [(premise, hypothesis) for premise, hypothesis, _ in found]
    labels = np.array([LABELS.index(label) for _, _, label in found])
    model = new_classifier(options.minilm, LABELS, longest=LONGEST)
    plan = Plan(epochs=1, batch=32, rate=1.5e-4, dropout=False)
    model.tune(texts, labels, plan, run=options.out / "runs" / "nli", seed=options.seed, smoothing=0.05)
    for name in ("original", "all_combined"):
        dev = pairs(options.data / "snli_cad" / name / "dev.tsv")
        scores = model.scores([(premise, hypothesis) for premise, hypothesis, _ in dev])
        print(
            f"nli: {agreement(scores, [LABELS.index(label) for _, _, label in dev]):.2f} % of snli_cad/{name} dev",
            flush=True,
        )
    about = "Whether one English text follows from another: all-MiniLM-L6-v2, tuned on SNLI, SQuAD and movie reviews."
    model.save(options.out / "nli", data=options.data, licence="CC-BY-SA-4.0", about=about, least=8)


def _statements(path: Path, order: np.random.Generator) -> list[tuple[str, str, str]]:
    """Sentences, and what follows from them, does not, or is false, of questions that ask for their subject."""
    asked = questions(path)
    of: dict[str, list[str]] = {}
    for item in asked:
        of.setdefault(item.context, []).append(item.answers[0][0])
    found = []
    for item in asked[::2]:
        match = ASKED.match(item.question.strip())
        if match is None or STRANDED.search(match[1]):
            continue
        text, at = item.answers[0]
        spans = _sentences(item.context)
        here = next((place for place, (begin, end) in enumerate(spans) if begin <= at and at + len(text) <= end), None)
        if here is None:
            continue
        lines = [item.context[begin:end] for begin, end in spans]
        statement = f"{text[0].upper()}{text[1:]} {match[1]}."
        found.append((lines[here], statement, "entailment"))
        near = [place for place in (here - 1, here + 1) if 0 <= place < len(lines) and text not in lines[place]]
        if near:
            found.append((lines[near[int(order.integers(len(near)))]], statement, "neutral"))
        others = [other for other in of[item.context] if other not in text and text not in other]
        if others:
            other = others[int(order.integers(len(others)))]
            found.append((lines[here], f"{other[0].upper()}{other[1:]} {match[1]}.", "contradiction"))
    return found


def _sentences(text: str) -> list[tuple[int, int]]:
    """Where each sentence begins and ends."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"')\]]*(?= [A-Z0-9\"'(])", text)] + [len(text)]
    begins = [0, *(end + 1 for end in ends[:-1])]
    return list(zip(begins, ends, strict=True))


def _topics(path: Path, order: np.random.Generator) -> list[tuple[str, str, str]]:
    """Paragraphs with their article's title, and with another's."""
    read = [json.loads(line) for line in path.open(encoding="utf-8")]
    titles = sorted({item["title"] for item in read})
    found = []
    for item in read[::2]:
        other = titles[int(order.integers(len(titles)))]
        for title, label in ((item["title"], "entailment"), (other, "contradiction")):
            if label == "entailment" or title != item["title"]:
                hypothesis = TOPICS[int(order.integers(len(TOPICS)))].format(title.replace("_", " "))
                found.append((item["context"][:400], hypothesis, label))
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
