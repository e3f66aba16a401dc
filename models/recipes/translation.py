"""English into German: MiniLM reads, a small decoder writes. An honest attempt with a tenth of the data that it would take.

    python models/recipes/translation.py DATA OUT --minilm MINILM

1. XQuAD's paragraphs are split into sentences, and those of a paragraph are pairs where both languages have as many; its questions
   are pairs as they stand. Every tenth paragraph, with its questions, is held out.
2. German gets pieces of its own, learnt from the training side.
3. The encoder is MiniLM's first four layers; the decoder its first two, with a cross-attention, and with a word table that begins as
   random numbers.
4. BLEU of the held-out pairs, as sacrebleu computes it by default.

Data: XQuAD (Artetxe et al., 2020; CC BY-SA 4.0), English and German, translated by professionals. The German half of STS-B is not
used: part of its sentences may only be used for research, and its files do not say which. Two cores take about ten minutes.

What comes out is not worth shipping. A thousand sentences teach words like "wie" and "der", not a language: systems that are of use
are trained on a thousand times as many.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import sacrebleu
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from training import Plan, arguments, fit, seeded
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

READS, WRITES = 4, 2  # layers of MiniLM
PIECES = 4000
LONGEST = 128
HELD_OUT = 10  # every which paragraph
PAD, BEGIN, END, UNKNOWN = SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")

Pair = tuple[str, str]


def main() -> None:
    """Make it."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, help="take so many pairs: a trial of the recipe, not a model")
    options = parser.parse_args()
    seeded(options.seed, options.threads)
    grouped = paragraphs(options.data / "xquad", "en", "de")
    held = [pair for number, group in enumerate(grouped) if number % HELD_OUT == 0 for pair in group][: options.few]
    train = [pair for number, group in enumerate(grouped) if number % HELD_OUT for pair in group][: options.few]
    print(f"{len(train)} pairs, {len(held)} held out", flush=True)
    source = AutoTokenizer.from_pretrained(options.minilm, model_input_names=["input_ids", "attention_mask"])
    target = pieces([german for _, german in train])
    model = translator(options.minilm, target)
    sources = source([english for english, _ in train], truncation=True, max_length=LONGEST)["input_ids"]
    targets = target([german for _, german in train], truncation=True, max_length=LONGEST)["input_ids"]

    def loss(members: list[int]) -> torch.Tensor:
        read = source.pad([{"input_ids": sources[number]} for number in members], return_tensors="pt")
        written = target.pad([{"input_ids": targets[number]} for number in members], return_tensors="pt")
        ids, known = written["input_ids"], written["attention_mask"][:, 1:].bool()
        mask = written["attention_mask"][:, :-1]
        scores = model(**read, decoder_input_ids=ids[:, :-1], decoder_attention_mask=mask).logits
        return torch.nn.functional.cross_entropy(scores[known], ids[:, 1:][known], label_smoothing=0.1)

    plan = Plan(epochs=12, batch=16, rate=5e-4, warmup=0.1)
    fit(model, loss, list(map(len, sources)), plan, run=options.out / "runs" / "translation", seed=options.seed)
    folder = options.out / "translation"
    model.save_pretrained(folder)
    source.save_pretrained(folder)
    target.save_pretrained(folder / "target")
    found = translated(model, source, target, [english for english, _ in held])
    for (english, german), text in list(zip(held, found, strict=True))[:: max(1, len(held) // 5)]:
        print(f"  {english}\n  -> {text}\n  ({german})", flush=True)
    value = sacrebleu.corpus_bleu(found, [[german for _, german in held]])
    print(f"translation: {value.score:.2f} BLEU of the {len(held)} pairs held out", flush=True)


def paragraphs(folder: Path, source: str, target: str) -> list[list[Pair]]:
    """Pairs of each paragraph of XQuAD and of its questions; both files have them in the same order."""
    sides = [
        json.loads((folder / f"xquad.{name}.json").read_text(encoding="utf-8"))["data"] for name in (source, target)
    ]
    both = [[paragraph for article in side for paragraph in article["paragraphs"]] for side in sides]
    found = []
    for one, other in zip(*both, strict=True):
        asked = [{item["id"]: item["question"] for item in side["qas"]} for side in (one, other)]
        group = [(question, asked[1][name]) for name, question in asked[0].items() if name in asked[1]]
        found.append(_sentences(one["context"], other["context"]) + group)
    return found


def _sentences(source: str, target: str) -> list[Pair]:
    """The sentences of a paragraph and their translations, none where there are more of one than of the other."""
    ours, theirs = (re.split(r"(?<=[.!?][\"”“)]) (?=\S)|(?<=[.!?]) (?=[^a-zäöüß])", text) for text in (source, target))
    return list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else []


def pieces(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of frequent pieces of words (BPE: Sennrich et al., 2016)."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    begin, end = (tokenizer.token_to_id(token) for token in (BEGIN, END))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, begin), (END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END, unk_token=UNKNOWN,
        model_input_names=["input_ids", "attention_mask"], clean_up_tokenization_spaces=False,
    )  # fmt: skip


def translator(minilm: Path, target: PreTrainedTokenizerFast) -> EncoderDecoderModel:
    """MiniLM's first layers as encoder and as decoder, which has words of its own (Rothe et al., 2020)."""
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    encoder = BertModel.from_pretrained(minilm, num_hidden_layers=READS, add_pooling_layer=False, **without)
    config = BertConfig.from_pretrained(
        minilm, num_hidden_layers=WRITES, vocab_size=len(target), is_decoder=True, add_cross_attention=True,
        pad_token_id=target.pad_token_id, bos_token_id=target.bos_token_id, eos_token_id=target.eos_token_id, **without,
    )  # fmt: skip
    decoder = BertLMHeadModel.from_pretrained(minilm, config=config, ignore_mismatched_sizes=True)
    for layer in decoder.bert.encoder.layer:
        layer.crossattention.load_state_dict(layer.attention.state_dict())
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    ids = {
        "decoder_start_token_id": target.bos_token_id,
        "bos_token_id": target.bos_token_id,
        "eos_token_id": target.eos_token_id,
        "pad_token_id": target.pad_token_id,
    }
    model.config.update({**ids, "vocab_size": len(target)})
    model.generation_config = GenerationConfig(num_beams=4, max_new_tokens=LONGEST, no_repeat_ngram_size=4, **ids)
    return model


@torch.inference_mode()
def translated(
    model: EncoderDecoderModel,
    source: PreTrainedTokenizerFast,
    target: PreTrainedTokenizerFast,
    texts: Sequence[str],
    size: int = 32,
) -> list[str]:
    """Translations."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found = [""] * len(texts)
    for begin in range(0, len(order), size):
        members = order[begin : begin + size]
        read = source(
            [texts[number] for number in members],
            truncation=True,
            max_length=LONGEST,
            padding=True,
            return_tensors="pt",
        )
        written = target.batch_decode(model.generate(**read), skip_special_tokens=True)
        for number, text in zip(members, written, strict=True):
            found[number] = text
    return found


if __name__ == "__main__":
    main()
