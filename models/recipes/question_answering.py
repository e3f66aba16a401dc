"""Questions about a text: MiniLM, tuned on SQuAD v1.1 to point at the answer.

    python models/recipes/question_answering.py DATA OUT --minilm MINILM [--share 1.0]

A context that is too long is read in windows that overlap by 64 tokens, in training as in answering; a window without the answer
points at its first token.

Data: SQuAD v1.1 (Rajpurkar et al., 2016; CC BY-SA 4.0). Its dev set only measures. An epoch on two cores takes about two hours and a
half; `--share` takes a part of the questions.
"""

import collections
import re
import string

import numpy as np
import torch
from corpora import Question, questions
from saving import save
from training import Plan, arguments, fit, seeded
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

LONGEST, OVERLAP, WIDEST = 256, 64, 30
BEST = 20


def main() -> None:
    """Make it."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the training questions")
    parser.add_argument("--epochs", type=int, default=1)
    options = parser.parse_args()
    seeded(options.seed, options.threads)
    train = questions(options.data / "squad" / "train-v1.1.jsonl")
    order = np.random.default_rng(options.seed).permutation(len(train))[: round(options.share * len(train))]
    tokenizer = AutoTokenizer.from_pretrained(options.minilm)
    model = AutoModelForQuestionAnswering.from_pretrained(options.minilm)
    rows = _windows(tokenizer, [train[number] for number in order])
    print(f"{len(order)} questions, {len(rows)} windows", flush=True)

    def loss(members: list[int]) -> torch.Tensor:
        own = [rows[number] for number in members]
        found = _run(model, tokenizer, own)
        ends = ((found.start_logits, "start"), (found.end_logits, "end"))
        return sum(torch.nn.functional.cross_entropy(x, torch.tensor([row[key] for row in own])) for x, key in ends) / 2

    plan = Plan(epochs=options.epochs, batch=16, rate=1.5e-4, warmup=0.1, dropout=False)
    fit(model, loss, [len(row["input_ids"]) for row in rows], plan, run=options.out / "runs" / "qa", seed=options.seed)
    about = "Answers to questions within an English text: all-MiniLM-L6-v2, tuned on SQuAD v1.1."
    folder = options.out / "question-answering"
    save(model, tokenizer, folder, data=options.data, licence="CC-BY-SA-4.0", about=about, least=12)
    dev = questions(options.data / "squad" / "dev-v1.1.jsonl")[::10]
    exact, overlap = measured(answers(model, tokenizer, dev), dev)
    print(f"question-answering: {exact:.2f} EM, {overlap:.2f} F1 of every tenth question of SQuAD dev", flush=True)


def _windows(tokenizer: PreTrainedTokenizerBase, asked: list[Question]) -> list[dict]:
    """What the model reads of each question's context, and where the answer is in it."""
    rows = []
    for begin in range(0, len(asked), 2000):
        part = asked[begin : begin + 2000]
        found = tokenizer(
            [item.question for item in part], [item.context for item in part], truncation="only_second",
            max_length=LONGEST, stride=OVERLAP, return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        for window, owner in enumerate(found["overflow_to_sample_mapping"]):
            kinds, offsets = found.sequence_ids(window), found["offset_mapping"][window]
            row = {
                "input_ids": found["input_ids"][window],
                "token_type_ids": found["token_type_ids"][window],
                "offsets": [span if kind == 1 else None for span, kind in zip(offsets, kinds, strict=True)],
                "owner": begin + owner,
                "start": 0,
                "end": 0,
            }
            text, at = part[owner].answers[0]
            inside = [place for place, span in enumerate(row["offsets"]) if span]
            if offsets[inside[0]][0] <= at and at + len(text) <= offsets[inside[-1]][1]:
                row["start"] = max(place for place in inside if offsets[place][0] <= at)
                row["end"] = min(place for place in inside if offsets[place][1] >= at + len(text))
            rows.append(row)
    return rows


def _run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict]) -> object:
    keys = ("input_ids", "token_type_ids")
    return model(**tokenizer.pad([{key: row[key] for key in keys} for row in rows], return_tensors="pt"))


@torch.inference_mode()
def answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: list[Question]) -> list[str]:
    """The likeliest span of each context."""
    model.eval()
    rows = _windows(tokenizer, asked)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]["input_ids"]))
    best: dict[int, tuple[float, str]] = collections.defaultdict(lambda: (-np.inf, ""))
    for begin in range(0, len(order), 32):
        own = [rows[number] for number in order[begin : begin + 32]]
        found = _run(model, tokenizer, own)
        for row, first, last in zip(own, found.start_logits.numpy(), found.end_logits.numpy(), strict=True):
            inside = [place for place, span in enumerate(row["offsets"]) if span]
            firsts = sorted(inside, key=lambda place: -first[place])[:BEST]
            lasts = sorted(inside, key=lambda place: -last[place])[:BEST]
            spans = [(float(first[a] + last[b]), a, b) for a in firsts for b in lasts if a <= b < a + WIDEST]
            if spans and (top := max(spans))[0] > best[row["owner"]][0]:
                begin_at, end_at = row["offsets"][top[1]][0], row["offsets"][top[2]][1]
                best[row["owner"]] = (top[0], asked[row["owner"]].context[begin_at:end_at])
    return [best[number][1] for number in range(len(asked))]


def _plain(text: str) -> str:
    """SQuAD's own normalization: lower case, no marks, no articles."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def measured(found: list[str], asked: list[Question]) -> tuple[float, float]:
    """Exact matches and mean F1 of words, in percent, as SQuAD's evaluation script counts them."""
    exact, overlap = [], []
    for text, item in zip(found, asked, strict=True):
        ours = _plain(text)
        theirs = [_plain(answer) for answer, _ in item.answers]
        exact.append(ours in theirs)
        overlap.append(max(_shared(ours.split(), other.split()) for other in theirs))
    return 100 * float(np.mean(exact)), 100 * float(np.mean(overlap))


def _shared(ours: list[str], theirs: list[str]) -> float:
    both = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    return 2 * both / (len(ours) + len(theirs)) if both else float(ours == theirs)


if __name__ == "__main__":
    main()
