"""A model without the words that few will write to it: the largest part of a small model is its word table.

BERT's 30,522 words hold 994 that mean nothing yet and some 1,900 letters and signs of the world's scripts, and half of the others are
seen less than 30 times in 5.4 million tokens of English. A word that is left out is read as its pieces (WordPiece; Schuster and
Nakajima, 2012), which every BERT knows how to read; letters, digits and signs stay, so that all English can be spelt.
"""

import copy
import json
from collections import Counter
from pathlib import Path

import tokenizers
import torch
from corpora import conll, labelled, paragraphs
from rouge import papers
from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["common", "renumbered", "without"]


def common(tokenizer: PreTrainedTokenizerBase, data: Path, least: int) -> list[int]:
    """Numbers of the words to keep: special tokens, single characters, and what English texts of many kinds hold so often.

    Args:
        tokenizer: Of all words.
        data: Folder of the data sets. Counted are an encyclopaedia, film reviews, tweets and abstracts: 5.4 million tokens.
        least: How often they must hold a word; a word that is not ASCII once at least.
    """
    seen = Counter(number for ids in tokenizer(_texts(data), verbose=False)["input_ids"] for number in ids)
    special = set(tokenizer.all_special_ids)

    def wanted(word: str, number: int) -> bool:
        if number in special:
            return True
        if not word.isascii():
            return seen[number] >= max(1, least)
        letter = len(word.removeprefix("##")) == 1
        return not word.startswith("[unused") and (letter or seen[number] >= least)

    return sorted(number for word, number in tokenizer.get_vocab().items() if wanted(word, number))


def _texts(data: Path) -> list[str]:
    tweets = [" ".join(words) for path in sorted((data / "btc").glob("*.conll")) for words, _ in conll(path)]
    reviews = [text for name in ("mr/train.tsv", "movie_reviews/all.tsv") for text, _ in labelled(data / name)]
    abstracts = [" ".join(paper.sentences) for paper in papers(data / "scitldr" / "train.jsonl")]
    return [*paragraphs(data / "lm" / "wiki_squad_contexts.train.txt"), *reviews, *tweets, *abstracts]


def without(model: PreTrainedModel, kept: list[int]) -> PreTrainedModel:
    """A BERT with these rows of its word table only."""
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


def renumbered(tokenizer: PreTrainedTokenizerBase, kept: list[int]) -> PreTrainedTokenizerBase:
    """A tokenizer with these words only, numbered anew."""
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
