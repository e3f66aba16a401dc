"""How well a model knows the language: words filled in, and perplexity. Knows prose, and tokens only as spans of it."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora
import numpy as np

__all__ = ["call_masked", "call_writing", "masked", "perplexity", "read_prose", "read_sentences"]

_SEED = 1
_WORD = re.compile(r"(?<![^\s(\"'])[A-Za-z]+(?![^\s.,;:!?)\"'])")
_LONGEST = 60  # words of a sentence
_NEW = 32  # tokens that a timed call writes


def read_prose(path: Path) -> list[str]:
    """Paragraphs; headings of WikiText ("= Title =") are left out."""
    return [text for text in corpora.paragraphs(path) if not text.startswith("=")]


def read_sentences(path: Path) -> list[tuple[int, str]]:
    """One sentence of each paragraph, chosen by the paragraph's number, with that number."""
    found = []
    for number, text in enumerate(read_prose(path)):
        sentences = [item for item in corpora.sentences_of(text) if len(item.split()) <= _LONGEST]
        if sentences:
            found.append((number, sentences[int(_order(number).integers(len(sentences)))]))
    return found


def masked(task: Any, items: Sequence[tuple[int, str]]) -> dict[str, float]:
    """How often a hidden word is the likeliest, or among the five likeliest, in percent.

    The word is one that the model's tokenizer holds whole, chosen by the sentence's number among all such words of the
    sentence; so models with one tokenizer are asked the same.
    """
    asked = [_hidden(task, number, text) for number, text in items]
    asked = [item for item in asked if item is not None]
    found = task((text for text, _ in asked), top_k=5, long_input="stride", batch_size=1)
    places = [
        [item["token"] for item in answer].index(word) if any(item["token"] == word for item in answer) else 5
        for answer, (_, word) in zip(found, asked, strict=True)
    ]
    return {
        name: 100 * sum(place < most for place in places) / len(places) for name, most in (("top-1", 1), ("top-5", 5))
    }


def perplexity(task: Any, items: Sequence[str]) -> dict[str, float]:
    """Perplexity of a word and of a token, and bits of a byte.

    Words are what spaces part. Tokens differ from tokenizer to tokenizer; words and bytes do not. Where nothing precedes
    the first token it is not scored, and its bytes do not count.
    """
    nats = tokens = read = size = words = 0.0
    for text, found in zip(items, task.score(iter(items), long_input="stride"), strict=True):
        nats -= found["logprob"]
        tokens += found["tokens"]
        size += len(text.encode())
        read += len(text.encode()) - _unscored(task, text, found["tokens"])
        words += len(text.split())
    by_byte = nats / read
    return {
        "of a word": math.exp(by_byte * size / words),
        "of a token": math.exp(nats / tokens),
        "bits a byte": by_byte / math.log(2),
    }


def call_masked(task: Any, item: tuple[int, str]) -> tuple[list[Any], dict[str, Any]]:
    """One call."""
    found = _hidden(task, *item)
    return [found[0] if found else f"This is {task.tokens.special_token('mask')}."], {}


def call_writing(_: Any, item: str) -> tuple[list[Any], dict[str, Any]]:
    """One call: a paragraph's first eight words, and what may come next."""
    return [" ".join(item.split()[:8])], {"max_new_tokens": _NEW, "min_new_tokens": _NEW, "do_sample": False}


def _order(number: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, number])


def _hidden(task: Any, number: int, text: str) -> tuple[str, int] | None:
    """The sentence with one word masked, and that word's id; None where no word is one token."""
    encoding = task.tokens.encode([text])[0][0]
    whole = {_bare(text, *span): token for span, token in zip(encoding.offsets, encoding.ids, strict=True)}
    words = [word.span() for word in _WORD.finditer(text) if word.span() in whole]
    if not words:
        return None
    begin, end = words[int(_order(number).integers(len(words)))]
    return text[:begin] + task.tokens.special_token("mask") + text[end:], whole[begin, end]


def _bare(text: str, begin: int, end: int) -> tuple[int, int]:
    """A span without the spaces that it begins with; some tokenizers count them to the word."""
    return end - len(text[begin:end].lstrip()), end


def _unscored(task: Any, text: str, scored: int) -> int:
    """Bytes of the first token where it was not scored."""
    encoding = task.tokens.encode([text], special_tokens=False)[0][0]
    return len(text[slice(*encoding.offsets[0])].encode()) if scored < len(encoding.ids) else 0
