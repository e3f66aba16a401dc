"""A finished model as a checkpoint folder: without words that nobody will write to it, with a card. Knows no task and no training.

BERT's 30,522 words hold 994 that mean nothing yet and some 1,900 letters and signs of the world's scripts. An English model needs
few of these; a smaller table is a smaller model, and what it answers to English stays the same.
"""

import copy
import json
from collections import Counter
from pathlib import Path

import tokenizers
import torch
from corpora import paragraphs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["save"]

_TEXT = Path("lm", "wiki_squad_contexts.train.txt")


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    data: Path,
    licence: str,
    about: str,
    least: int = 0,
) -> None:
    """Write the checkpoint of a tuned BERT.

    Args:
        model: Left as it is.
        tokenizer: The same.
        folder: Where to.
        data: Folder of the data sets; its Wikipedia paragraphs say which foreign signs English uses.
        licence: Of the result, by its SPDX name.
        about: A sentence for the card.
        least: How often those paragraphs must hold a word for it to be kept; single characters stay, so that all can be spelt.
    """
    kept = _needed(tokenizer, data / _TEXT, least)
    small, words = _without(model, kept), _renumbered(tokenizer, kept)
    small.save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {licence.lower()}\n---\n\n{about}\n", encoding="utf-8")


def _needed(tokenizer: PreTrainedTokenizerBase, path: Path, least: int) -> list[int]:
    """Numbers of the special tokens, of the words in ASCII, and of the others that occur in a text."""
    rows = tokenizer(list(paragraphs(path)), verbose=False)["input_ids"]
    seen = Counter(number for ids in rows for number in ids)
    special = set(tokenizer.all_special_ids)

    def wanted(word: str, number: int) -> bool:
        if not word.isascii():
            return seen[number] >= max(1, least)
        return not word.startswith("[unused") and (seen[number] >= least or len(word.removeprefix("##")) == 1)

    return sorted(number for word, number in tokenizer.get_vocab().items() if number in special or wanted(word, number))


def _without(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """The model with these rows of its word table only."""
    small = copy.deepcopy(model)
    chosen = torch.tensor(kept)
    table = small.get_input_embeddings()
    table.weight = torch.nn.Parameter(table.weight.detach()[chosen].clone())
    table.num_embeddings = small.config.vocab_size = len(kept)
    head = small.get_output_embeddings()
    if head is not None:
        head.weight, head.out_features = table.weight, len(kept)
        small.cls.predictions.bias = torch.nn.Parameter(small.cls.predictions.bias.detach()[chosen].clone())
        head.bias = small.cls.predictions.bias
    return small


def _renumbered(tokenizer: PreTrainedTokenizerBase, kept: list[int]) -> PreTrainedTokenizerBase:
    """The tokenizer with these words only, numbered anew."""
    number = {old: new for new, old in enumerate(kept)}
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = facts["model"]["vocab"]
    facts["model"]["vocab"] = {word: number[old] for word, old in vocabulary.items() if old in number}
    for token in facts["added_tokens"]:
        token["id"] = number[token["id"]]
    for token in facts["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [number[old] for old in token["ids"]]
    facts["truncation"] = facts["padding"] = None
    found = tokenizers.Tokenizer.from_str(json.dumps(facts))
    return type(tokenizer)(tokenizer_object=found, model_max_length=tokenizer.model_max_length)
