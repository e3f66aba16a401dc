"""A text in one sentence: MiniLM as encoder and decoder, taught to repeat what matters in paragraphs, then also in abstracts.

    python models/recipes/summarization.py DATA OUT --minilm MINILM

1. The encoder is MiniLM's first four layers, the decoder its first two with a cross-attention (warm.py); one word table, of the
   13,000 words and pieces that are used most (vocabulary.py), serves both and the head. Before any training the decoder is made to
   copy, badly.
2. It reads paragraphs of Wikipedia and writes the sentence of each that says most of the rest (gap sentences: PEGASUS, Zhang et al.,
   2020; but the sentence stays where it is, since a model so small had better copy than invent).
3. It reads abstracts and writes that sentence of each which is nearest to its TLDR; as many paragraphs go with them, so that what is
   no abstract is still summed up. Taught the TLDRs themselves, it came nearer to those of other papers (28.5 ROUGE-L in place of
   24.7) and wrote broken sentences about anything else.
4. Papers of the training set that were kept out choose how long a summary may be.

Data: the paragraphs of SQuAD v1.1 (Wikipedia; CC BY-SA 4.0) and SciTLDR-A (Cachola et al., 2020; Apache-2.0). SciTLDR's dev set only
measures. What it is worth without a model stands in rouge.py. One core takes about an hour.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from corpora import paragraphs
from rouge import Paper, baselines, papers, rouge_1, rouge_l, worth
from saving import card
from training import Plan, arguments, fit, seeded
from transformers import AutoModel, AutoTokenizer, GenerationConfig
from vocabulary import common, renumbered, without
from warm import bart_of, copying

READS, WRITES = range(4), range(2)  # layers of MiniLM
LONGEST, WRITTEN = 320, 60  # tokens
SHORT = 128  # tokens of a paragraph
LEAST = 35  # times that a word is seen in the texts of `vocabulary.common`
KEPT = 160  # papers that choose
PENALTIES = (0.6, 1.0, 2.0)


class Example(NamedTuple):
    """Ids of what is read and of what is to be written, both from the first token's to the last's."""

    source: list[int]
    target: list[int]


class Summarizer:
    """A model and its tokenizer."""

    def __init__(self, minilm: Path, data: Path) -> None:
        whole = AutoTokenizer.from_pretrained(minilm)
        kept = common(whole, data, LEAST)
        self.tokenizer = renumbered(whole, kept)
        self.tokenizer.model_input_names = ["input_ids", "attention_mask"]
        bert = without(AutoModel.from_pretrained(minilm), kept)
        self.model = bart_of(bert, self.tokenizer, reads=READS, writes=WRITES)
        self.penalty = PENALTIES[0]

    def ids(self, texts: Sequence[str], longest: int) -> list[list[int]]:
        """Tokens of texts."""
        return self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]

    def examples(self, told: Sequence[tuple[str, str]], longest: int) -> list[Example]:
        """Of sources and targets."""
        sources, targets = zip(*told, strict=True)
        ids = self.ids(sources, longest), self.ids(targets, WRITTEN)
        return [Example(*pair) for pair in zip(*ids, strict=True)]

    def tune(self, examples: Sequence[Example], plan: Plan, *, run: Path, seed: int) -> None:
        """Train on examples."""

        def loss(members: list[int]) -> torch.Tensor:
            own = [examples[number] for number in members]
            read = self.tokenizer.pad([{"input_ids": item.source} for item in own], return_tensors="pt")
            written = self.tokenizer.pad([{"input_ids": item.target} for item in own], return_tensors="pt")
            ids, known = written["input_ids"], written["attention_mask"][:, 1:].bool()
            states = self.model.model(**read, decoder_input_ids=ids[:, :-1]).last_hidden_state
            # The head is half of the work: only where something is to be said
            scores = self.model.lm_head(states[known]) + self.model.final_logits_bias
            return torch.nn.functional.cross_entropy(scores, ids[:, 1:][known], label_smoothing=0.05)

        lengths = [len(item.source) for item in examples]
        fit(self.model, loss, lengths, plan, run=run, seed=seed)

    @torch.inference_mode()
    def written(self, texts: Sequence[str], size: int = 16) -> list[str]:
        """Summaries."""
        self.model.eval()
        rows = self.ids(texts, LONGEST)
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found = [""] * len(rows)
        for begin in range(0, len(order), size):
            members = order[begin : begin + size]
            read = self.tokenizer.pad([{"input_ids": rows[number]} for number in members], return_tensors="pt")
            ids = self.model.generate(**read, generation_config=self.defaults())
            texts_of = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
            for number, text in zip(members, texts_of, strict=True):
                found[number] = text
        return found

    def defaults(self) -> GenerationConfig:
        """How summaries are written where nobody says otherwise."""
        config = self.model.config
        return GenerationConfig(
            num_beams=4, max_new_tokens=WRITTEN, no_repeat_ngram_size=3, early_stopping=True, length_penalty=self.penalty,
            bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        self.model.generation_config = self.defaults()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        about = (
            "A text in one English sentence: all-MiniLM-L6-v2 as encoder and decoder, tuned on Wikipedia and SciTLDR."
        )
        card(folder, "CC-BY-SA-4.0", about)


def main() -> None:
    """Make it."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, help="take so many of everything: a trial of the recipe, not a model")
    options = parser.parse_args()
    seeded(options.seed, options.threads)
    runs, seed = options.out / "runs", options.seed
    order = np.random.default_rng(seed)
    train, dev = (papers(options.data / "scitldr" / f"{name}.jsonl")[: options.few] for name in ("train", "dev"))
    read = list(paragraphs(options.data / "lm" / "wiki_squad_contexts.train.txt"))[: options.few]
    for name, value in baselines(dev).items():
        print(f"{name}: {value:.2f} ROUGE-L of SciTLDR-A dev", flush=True)

    model = Summarizer(options.minilm, options.data)
    print(f"{len(model.tokenizer)} words, {model.model.num_parameters()} parameters", flush=True)
    few = [read[number] for number in order.permutation(len(read))[:200]]
    print(f"copying: {copying(model.model, model.ids(few, SHORT)):.2f} nats a token, untrained", flush=True)
    plan = Plan(epochs=2, batch=16, rate=4e-4, warmup=0.1, every=100)
    gaps = model.examples([pair for text in read if (pair := _gap(text))], SHORT)
    model.tune(gaps, plan, run=runs / "summarization-gaps", seed=seed)

    train = [train[number] for number in order.permutation(len(train))]
    kept = min(KEPT, len(train) // 4)
    chosen, train = train[:kept], train[kept:]
    nearest = model.examples([*map(_nearest, train)], LONGEST)
    again = [gaps[number] for number in order.permutation(len(gaps))[: len(nearest)]]
    plan = Plan(epochs=2, batch=16, rate=2e-4, every=50)
    model.tune([*nearest, *again], plan, run=runs / "summarization-nearest", seed=seed)
    found = {}
    for model.penalty in PENALTIES:
        found[model.penalty] = _worth(model, chosen)
        print(f"length penalty {model.penalty}: {found[model.penalty]:.2f} ROUGE-L of the papers kept out", flush=True)
    model.penalty = max(found, key=found.__getitem__)
    model.save(options.out / "summarization")
    print(f"summarization: {_worth(model, dev):.2f} ROUGE-L of SciTLDR-A dev", flush=True)


def _worth(model: Summarizer, read: Sequence[Paper]) -> float:
    return worth(model.written([" ".join(paper.sentences) for paper in read]), read)


def _gap(text: str) -> tuple[str, str] | None:
    """What is read of a paragraph, and that sentence of it which has most in common with the others."""
    sentences, words = [], 0
    for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text):
        words += len(sentence.split())
        if words > SHORT * 3 // 4:  # so that all of them are read
            break
        sentences.append(sentence)
    fit_ones = [place for place, sentence in enumerate(sentences) if 6 <= len(sentence.split()) <= WRITTEN * 2 // 3]
    if len(sentences) < 2 or not fit_ones:
        return None
    rest = [" ".join(sentences[:place] + sentences[place + 1 :]) for place in range(len(sentences))]
    return " ".join(sentences), sentences[max(fit_ones, key=lambda place: rouge_1(sentences[place], rest[place]))]


def _nearest(paper: Paper) -> tuple[str, str]:
    """An abstract, and that sentence of it which is nearest to what people say of it."""
    return " ".join(paper.sentences), max(
        paper.sentences, key=lambda sentence: max(rouge_l(sentence, target) for target in paper.targets)
    )


if __name__ == "__main__":
    main()
