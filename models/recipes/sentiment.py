"""Sentiment of a sentence: MiniLM, tuned on reviews, and two smaller models made from it.

    python models/recipes/sentiment.py DATA OUT --minilm MINILM

1. `first` is tuned on the 8,540 labelled sentences of mr.
2. It reads the 2,000 long reviews of movie_reviews sentence by sentence; a sentence counts where `first` is sure and the review's
   own label agrees. `sentiment` is tuned on these, and then on mr.
3. `sentiment-distilled` has every second layer of it, and is taught to give the same scores. `sentiment-pruned` has all layers, and
   those halves of the heads and of the inner units that matter most; it is taught the same way.

Data: mr and movie_reviews (Pang and Lee; CC BY 4.0). SST-2's dev set only measures. Two cores take about an hour.
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
SURE = 0.95


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

    first = new_classifier(options.minilm, LABELS, longest=LONGEST)
    first.tune(texts, labels, Plan(epochs=3, batch=32, rate=1e-4), run=runs / "sentiment-first", seed=options.seed)
    report("first", first)

    more, more_labels = _sure(first, labelled(options.data / "movie_reviews" / "all.tsv"))
    print(f"{len(more)} sentences of movie_reviews count", flush=True)
    model = new_classifier(options.minilm, LABELS, longest=LONGEST)
    both, both_labels = texts + more, np.concatenate([labels, more_labels])
    plan = Plan(epochs=1, batch=32, rate=1e-4)
    model.tune(both, both_labels, plan, run=runs / "sentiment-more", seed=options.seed, smoothing=0.1)
    report("more", model)
    plan = Plan(epochs=2, batch=32, rate=5e-5)
    model.tune(texts, labels, plan, run=runs / "sentiment", seed=options.seed, smoothing=0.05)
    report("sentiment", model)
    model.save(options.out / "sentiment")

    told = _told(model, both, runs / "sentiment-told.npy")
    for name, small in (("sentiment-distilled", _thinned(model)), ("sentiment-pruned", _pruned(model, texts, labels))):
        plan = Plan(epochs=2, batch=32, rate=1e-4)
        small.tune(both, told, plan, run=runs / name, seed=options.seed, temperature=2.0)
        report(name, small)
        small.save(options.out / name)


def _sure(model: Classifier, reviews: list[tuple[str, int]]) -> tuple[list[str], np.ndarray]:
    """Sentences of reviews that are as the review is, as far as the model can tell, as many of either kind."""
    found = [(sentence, label) for text, label in reviews for sentence in sentences_of(text)]
    scores = model.scores([sentence for sentence, _ in found])
    odds = scores[:, 1] - scores[:, 0]
    limit = np.log(SURE / (1 - SURE))
    kinds = [[s for (s, label), odd in zip(found, odds, strict=True) if label == kind and sign * odd > limit]
             for kind, sign in ((0, -1), (1, 1))]  # fmt: skip
    count = min(map(len, kinds))
    kept = [sentence for kind in kinds for sentence in kind[:count]]
    return kept, np.repeat([0, 1], count)


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
