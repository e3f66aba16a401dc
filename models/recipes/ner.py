"""Named entities: MiniLM, tuned on Wikipedia and tweets, then on the six kinds of WNUT17.

    python models/recipes/ner.py DATA OUT --minilm MINILM

1. The body learns persons, places and organisations from wikigold, btc and wnut17 together, whose own kinds are made three.
2. With a new head it learns wnut17's six: corporation, creative-work, group, location, person, product.
3. `ner-distilled` has every second layer of the result, and is taught its scores.

Data: wikigold, Broad Twitter Corpus and WNUT17, all CC BY 4.0. WNUT17's dev set only measures. Two cores take about half an hour.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from corpora import conll
from saving import save
from training import Plan, arguments, fit, seeded
from transformers import AutoModelForTokenClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

KINDS = ("corporation", "creative-work", "group", "location", "person", "product")
COARSE = {
    "PER": "person", "person": "person", "LOC": "place", "location": "place",
    "ORG": "organisation", "corporation": "organisation", "group": "organisation",
}  # fmt: skip
ABOUT = "Named entities in English: all-MiniLM-L6-v2, tuned on wikigold, the Broad Twitter Corpus and WNUT17."
LONGEST = 128
LEAST = 0  # names are rare words: at 10 times, 1.7 points of F1 would go
IGNORED = -100

Sentence = tuple[list[str], list[str]]


def main() -> None:
    """Make both."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    seeded(options.seed, options.threads)
    runs, data = options.out / "runs", options.data
    train, dev = conll(data / "wnut17" / "train.conll"), conll(data / "wnut17" / "dev.conll")
    tweets = [sentence for path in sorted((data / "btc").glob("*.conll")) for sentence in conll(path)]
    coarse = [_coarse(sentence) for sentence in [*train, *tweets, *conll(data / "wikigold" / "all.conll")]]

    tokenizer = AutoTokenizer.from_pretrained(options.minilm)
    body = _new(options.minilm, _tags(("organisation", "person", "place")))
    _tune(
        body, tokenizer, coarse, Plan(epochs=3, batch=32, rate=2e-4, dropout=False), runs / "ner-coarse", options.seed
    )
    body.save_pretrained(options.out / "ner-coarse")
    model = _new(options.out / "ner-coarse", _tags(KINDS))
    _tune(model, tokenizer, train, Plan(epochs=5, batch=16, rate=1.5e-4), runs / "ner", options.seed)
    print(f"ner: {span_f1(_guess(model, tokenizer, dev), [tags for _, tags in dev]):.2f} F1 of WNUT17 dev", flush=True)
    save(model, tokenizer, options.out / "ner", data=data, licence="Apache-2.0", about=ABOUT, least=LEAST)

    small = copy.deepcopy(model)
    small.bert.encoder.layer = small.bert.encoder.layer[1::2]
    small.config.num_hidden_layers = len(small.bert.encoder.layer)
    _tune(
        small,
        tokenizer,
        train,
        Plan(epochs=8, batch=16, rate=2e-4),
        runs / "ner-distilled",
        options.seed,
        teacher=model,
    )
    found = span_f1(_guess(small, tokenizer, dev), [tags for _, tags in dev])
    print(f"ner-distilled: {found:.2f} F1 of WNUT17 dev", flush=True)
    save(small, tokenizer, options.out / "ner-distilled", data=data, licence="Apache-2.0", about=ABOUT, least=LEAST)


def _coarse(sentence: Sentence) -> Sentence:
    words, tags = sentence
    return words, [f"{tag[:2]}{COARSE[tag[2:]]}" if tag[2:] in COARSE else "O" for tag in tags]


def _tags(kinds: Sequence[str]) -> list[str]:
    return ["O", *(f"{place}-{kind}" for kind in kinds for place in "BI")]


def _new(source: Path, tags: list[str]) -> PreTrainedModel:
    return AutoModelForTokenClassification.from_pretrained(
        source,
        num_labels=len(tags),
        id2label=dict(enumerate(tags)),
        label2id={tag: number for number, tag in enumerate(tags)},
        ignore_mismatched_sizes=True,
    )


def _rows(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence], numbers: dict[str, int]) -> list[dict]:
    """Ids of each sentence; a word's tag stands at its first token."""
    found = tokenizer([words for words, _ in sentences], is_split_into_words=True, truncation=True, max_length=LONGEST)
    rows = []
    for place, (_, tags) in enumerate(sentences):
        words = found.word_ids(place)
        labels = [
            IGNORED if word is None or word == before else numbers[tags[word]]
            for word, before in zip(words, [None, *words], strict=False)
        ]
        rows.append({"input_ids": found["input_ids"][place], "labels": labels, "words": words})
    return rows


def _logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict]) -> torch.Tensor:
    return model(**tokenizer.pad([{"input_ids": row["input_ids"]} for row in rows], return_tensors="pt")).logits


def _tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sentences: Sequence[Sentence],
    plan: Plan,
    run: Path,
    seed: int,
    teacher: PreTrainedModel | None = None,
) -> None:
    rows = _rows(tokenizer, sentences, model.config.label2id)

    def loss(members: list[int]) -> torch.Tensor:
        own = [rows[number] for number in members]
        logits = _logits(model, tokenizer, own)
        wide = logits.shape[1]
        labels = torch.tensor([row["labels"] + [IGNORED] * (wide - len(row["labels"])) for row in own])
        known = labels != IGNORED
        value = torch.nn.functional.cross_entropy(logits[known], labels[known])
        if teacher is None:
            return value
        with torch.no_grad():
            wanted = torch.softmax(_logits(teacher, tokenizer, own)[known] / 2, dim=-1)
        told = torch.log_softmax(logits[known] / 2, dim=-1)
        return 0.3 * value + 0.7 * 4 * torch.nn.functional.kl_div(told, wanted, reduction="batchmean")

    fit(model, loss, [len(row["input_ids"]) for row in rows], plan, run=run, seed=seed)


@torch.inference_mode()
def _guess(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sentence]
) -> list[list[str]]:
    model.eval()
    rows = _rows(tokenizer, sentences, model.config.label2id)
    found = []
    for (_, tags), row in zip(sentences, rows, strict=True):
        best = _logits(model, tokenizer, [row])[0].argmax(-1).tolist()
        own = ["O"] * len(tags)
        for place, label in enumerate(row["labels"]):
            if label != IGNORED:
                own[row["words"][place]] = model.config.id2label[best[place]]
        found.append(own)
    return found


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Kind, first word and last word of each entity (conlleval: an I- that continues nothing begins one)."""
    found, begin = set(), None
    for place, (before, tag) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        if begin is not None and (tag[:2] != "I-" or tag[2:] != before[2:]):
            found.add((before[2:], begin, place - 1))
            begin = None
        if begin is None and tag != "O":
            begin = place
    return found


def span_f1(guesses: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> float:
    """Harmonic mean, in percent, of precision and recall of whole entities."""
    ours, theirs = ([spans(item) for item in side] for side in (guesses, tags))
    right = sum(len(left & other) for left, other in zip(ours, theirs, strict=True))
    return 200 * right / max(1, sum(map(len, ours)) + sum(map(len, theirs)))


if __name__ == "__main__":
    main()
