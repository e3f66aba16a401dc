"""The data sets, as their files have them. Knows formats and labels, no tokens and no model."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Question", "conll", "labelled", "pairs", "paragraphs", "questions", "sentences_of"]


def labelled(path: Path) -> list[tuple[str, int]]:
    """Texts and labels of a file with a text, a tab and a number on each line (mr, movie_reviews, sst2)."""
    rows = (line.rstrip("\n").rsplit("\t", 1) for line in path.open(encoding="utf-8"))
    return [(text, int(label)) for text, label in rows]


def sentences_of(text: str) -> list[str]:
    """The sentences of a review whose words and marks stand apart ("... a bad movie . but ...")."""
    return [part.strip() for part in re.split(r"(?<=[.!?]) (?=\S)", text) if len(part.split()) > 4]


def conll(path: Path) -> list[tuple[list[str], list[str]]]:
    """Words and tags of each sentence of a file in CoNLL's columns; tags become IOB2 (wnut17, wikigold, btc)."""
    found: list[tuple[list[str], list[str]]] = []
    words: list[str] = []
    tags: list[str] = []
    for line in [*path.open(encoding="utf-8"), "\n"]:
        columns = line.split()
        if columns and columns[0] != "-DOCSTART-":
            words.append(columns[0])
            tags.append(columns[-1])
        elif words:
            found.append((words, [_begun(tags, place) for place in range(len(tags))]))
            words, tags = [], []
    return found


def _begun(tags: list[str], place: int) -> str:
    """The tag with B- where an entity begins, also in files that mark only what follows another of its kind."""
    tag = tags[place]
    before = tags[place - 1] if place else "O"
    return "B-" + tag[2:] if tag[:2] == "I-" and before[2:] != tag[2:] else tag


def pairs(path: Path) -> list[tuple[str, str, str]]:
    """Premise, hypothesis and label of a table with a header (snli_cad)."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence1"], row["sentence2"], row["gold_label"]) for row in rows]


class Question(NamedTuple):
    """A question about a context, and its answers: text and where it begins."""

    id: str
    question: str
    context: str
    answers: list[tuple[str, int]]


def questions(path: Path) -> list[Question]:
    """Those of a file with a paragraph on each line (squad)."""
    found = []
    for line in path.open(encoding="utf-8"):
        paragraph = json.loads(line)
        for item in paragraph["qas"]:
            answers = [(answer["text"], int(answer["answer_start"])) for answer in item["answers"]]
            found.append(Question(str(item["id"]), item["question"], paragraph["context"], answers))
    return found


def paragraphs(path: Path) -> Iterator[str]:
    """Lines that hold text."""
    for line in path.open(encoding="utf-8"):
        if text := line.strip():
            yield text
