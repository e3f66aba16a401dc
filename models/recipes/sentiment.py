"""Sentiment of a sentence: MiniLM, tuned on reviews, and two smaller models made from it.

    python models/recipes/sentiment.py DATA OUT --minilm MINILM

1. `sentiment` is tuned on the 8,540 labelled sentences of mr.
2. It reads the reviews of movie_reviews sentence by sentence, and scores each of them.
3. `sentiment-distilled` has every second layer of it, and is taught to give the same scores. `sentiment-pruned` has all layers, and
   those halves of the heads and of the inner units that matter most; it is taught the same way.

Data: mr and movie_reviews (Pang and Lee; CC BY 4.0). SST-2's dev set only measures. Two cores take about half an hour.
"""

import copy
from pathlib import Path

import numpy as np
from classifying import Classifier, agreement, new_classifier
from corpora import labelled, sentences_of
from pruning import halve
from training import Plan, arguments, seeded

LABELS = ("NEGATIVE", "POSITIVE")
LONGEST = 128
LEAST = 4  # words that are rarer are left out; half a point of accuracy would go at 12


def main() -> None:
    """Make all three."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    seeded(options.seed, options.threads)
    runs = options.out / "runs"
    texts, labels = zip(*labelled(options.data / "mr" / "train.tsv"), strict=True)
    texts, labels = list(texts), np.array(labels)
    dev, dev_labels = zip(*labelled(options.data / "sst2" / "dev.tsv"), strict=True)

    def report(name: str, model: Classifier) -> None:
        print(f"{name}: {agreement(model.scores(list(dev)), dev_labels):.2f} % of SST-2 dev", flush=True)

    model = new_classifier(options.minilm, LABELS, longest=LONGEST)
    model.tune(texts, labels, Plan(epochs=3, batch=32, rate=1e-4), run=runs / "sentiment", seed=options.seed)
    report("sentiment", model)
    about = "Sentiment of English sentences: all-MiniLM-L6-v2, tuned on the movie reviews of Pang and Lee."
    model.save(options.out / "sentiment", data=options.data, licence="Apache-2.0", about=about, least=LEAST)

    reviews = labelled(options.data / "movie_reviews" / "all.tsv")
    heard = texts + [sentence for text, _ in reviews for sentence in sentences_of(text)][::2]
    told = _told(model, heard, runs / "sentiment-told.npy")
    print(f"{len(heard)} sentences scored", flush=True)
    for name, small in (("sentiment-distilled", _thinned(model)), ("sentiment-pruned", _pruned(model, texts, labels))):
        plan = Plan(epochs=2, batch=32, rate=2e-4, dropout=False)
        small.tune(heard, told, plan, run=runs / name, seed=options.seed, temperature=2.0)
        report(name, small)
        small.save(options.out / name, data=options.data, licence="Apache-2.0", about=about, least=LEAST)


def _told(model: Classifier, texts: list[str], path: Path) -> np.ndarray:
    """The teacher's scores of all texts."""
    if not path.is_file():
        np.save(path, model.scores(texts))
    return np.load(path)


def _thinned(model: Classifier) -> Classifier:
    """The same model with every second layer (DistilBERT: Sanh et al., 2019)."""
    small = copy.deepcopy(model.model)
    small.bert.encoder.layer = small.bert.encoder.layer[1::2]
    small.config.num_hidden_layers = len(small.bert.encoder.layer)
    return Classifier(small, model.tokenizer, longest=model.longest)


def _pruned(model: Classifier, texts: list[str], labels: np.ndarray) -> Classifier:
    """The same model without the half of its heads and inner units that matter least."""
    small = copy.deepcopy(model.model)
    texts, labels = texts[::8], labels[::8]
    rows = model.ids(texts)
    batches = [(rows[begin : begin + 32], labels[begin : begin + 32]) for begin in range(0, len(rows), 32)]
    halve(small, [(model.tokenizer.pad(part, return_tensors="pt"), own) for part, own in batches])
    return Classifier(small, model.tokenizer, longest=model.longest)


if __name__ == "__main__":
    main()
