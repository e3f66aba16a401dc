"""The word that is missing: MiniLM with a masked language model's head, tuned on Wikipedia.

    python models/recipes/fill_mask.py DATA OUT --minilm MINILM

MiniLM's published weights have no such head. It starts as BERT's: a dense layer (here the identity), GELU, a norm, and the word table
turned round. A fifth of the tokens is hidden anew each time a paragraph is read; of these 80 % read [MASK], 10 % some other word
and 10 % themselves (Devlin et al., 2018).

Data: the paragraphs of SQuAD's training articles (Wikipedia; CC BY-SA 4.0), read twice. Those of its dev articles only measure. The
first reading took two cores 25 minutes, the second took one core 42.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from corpora import paragraphs
from saving import save
from training import Plan, arguments, fit, seeded
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

LONGEST, SHORTEST = 128, 12
HIDDEN = 0.2
RATES = 3e-4, 2e-4  # of each time that the paragraphs are read


def main() -> None:
    """Make it."""
    options = arguments(__doc__.splitlines()[0]).parse_args()
    seeded(options.seed, options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.minilm)
    model = AutoModelForMaskedLM.from_pretrained(options.minilm)
    with torch.no_grad():
        torch.nn.init.eye_(model.cls.predictions.transform.dense.weight)
    rows = _rows(tokenizer, options.data / "lm" / "wiki_squad_contexts.train.txt")
    print(f"{len(rows)} texts, {sum(map(len, rows))} tokens", flush=True)

    def loss(members: list[int]) -> torch.Tensor:
        ids, known = _batch(tokenizer, [rows[number] for number in members])
        chosen = (torch.rand(ids.shape) < HIDDEN) & known
        chosen[:, 1] |= ~chosen.any(dim=1)
        return _surprise(model, ids, _disguised(tokenizer, ids, chosen), chosen)

    for turn, rate in enumerate(RATES):
        plan = Plan(epochs=1, batch=16, rate=rate, warmup=0.05, dropout=False)
        run = options.out / "runs" / f"fill-mask-{turn + 1}"
        fit(model, loss, [len(row) for row in rows], plan, run=run, seed=options.seed + turn)
    about = "The word behind a mask in English: all-MiniLM-L6-v2 with a head of its own, tuned on Wikipedia."
    folder = options.out / "fill-mask"
    save(model, tokenizer, folder, data=options.data, licence="CC-BY-SA-4.0", about=about, least=15)
    dev = _rows(tokenizer, options.data / "lm" / "wiki_squad_contexts.dev.txt")[::4]
    first, among = measured(model, tokenizer, dev)
    print(
        f"fill-mask: {first:.2f} % right, {among:.2f} % among the first five, of the dev articles' hidden tokens",
        flush=True,
    )


def _rows(tokenizer: PreTrainedTokenizerBase, path: Path) -> list[list[int]]:
    """Paragraphs as ids; long ones in parts of equal length."""
    limit = LONGEST - 2
    found = []
    for ids in tokenizer(list(paragraphs(path)), add_special_tokens=False)["input_ids"]:
        count = -(-len(ids) // limit)
        size = -(-len(ids) // max(1, count))
        parts = [ids[begin : begin + size] for begin in range(0, len(ids), max(1, size))]
        found += [[tokenizer.cls_token_id, *part, tokenizer.sep_token_id] for part in parts if len(part) >= SHORTEST]
    return found


def _batch(tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [texts, tokens], and which of them are words."""
    ids = tokenizer.pad([{"input_ids": row} for row in rows], return_tensors="pt")["input_ids"]
    special = torch.tensor([tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id])
    return ids, ~torch.isin(ids, special)


def _disguised(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """What the model reads in place of the chosen tokens."""
    dice = torch.rand(ids.shape)
    found = torch.where(chosen & (dice < 0.8), tokenizer.mask_token_id, ids)
    return torch.where(chosen & (dice > 0.9), torch.randint(len(tokenizer), ids.shape), found)


def _scores(
    model: PreTrainedModel, ids: torch.Tensor, read: torch.Tensor, chosen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of all words at the chosen places [places, words], and which stood there."""
    states = model.bert(input_ids=read, attention_mask=(ids != model.config.pad_token_id).long()).last_hidden_state
    return model.cls(states[chosen]), ids[chosen]


def _surprise(model: PreTrainedModel, ids: torch.Tensor, read: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(*_scores(model, ids, read, chosen))


@torch.inference_mode()
def measured(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> tuple[float, float]:
    """Percent of hidden tokens, every seventh, that come first, and that come among the first five."""
    model.eval()
    first = among = total = 0
    for begin in range(0, len(rows), 32):
        ids, known = _batch(tokenizer, rows[begin : begin + 32])
        chosen = known & (torch.arange(ids.shape[1]) % 7 == 3)
        scores, wanted = _scores(model, ids, torch.where(chosen, tokenizer.mask_token_id, ids), chosen)
        right = scores.topk(5).indices == wanted[:, None]
        first, among, total = first + int(right[:, 0].sum()), among + int(right.sum()), total + len(wanted)
    return 100 * first / total, 100 * among / total


if __name__ == "__main__":
    main()
