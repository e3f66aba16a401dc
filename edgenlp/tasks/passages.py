"""Long texts to passages that fit a window, cut at the ends of sentences where there are any. Knows characters and counts, no ids."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgenlp.clusters import joins

__all__ = ["Passage", "passages"]

# A sentence ends with a line, or with its mark, what closes behind it, and white space; the marks of Chinese and Japanese need none
_END = re.compile(r"(?<![.!?…‽؟۔।॥։።])[.!?…‽؟۔।॥։።]++[\"'”’»)\]]*+\s+|[。！？｡][」』”’）]*\s*|\n+\s*")
_SLACK = 2  # tokens: sentences that are counted one by one may be joined to a few more
_CONTEXT = 32  # characters that decide whether the next one belongs to the one before

# Texts to how many tokens each has, without the model's own ones.
Count = Callable[[Sequence[str]], list[int]]


class Passage(NamedTuple):
    """A part of a text, and the white space between it and the next one."""

    text: str
    after: str


def passages(text: str, room: int, count: Count, *, overlap: int = 0) -> list[Passage]:
    """Parts of a text that together are the text.

    Args:
        text: Of any length.
        room: Most tokens of a part.
        count: Counts tokens.
        overlap: Whole sentences of at most so many tokens begin a part as they ended the one before.

    Returns:
        At least one part; none is empty, but the only one of a text of white space.
    """
    room = max(1, room)
    sentences = [piece for sentence in _sentences(text) for piece in _fitting(sentence, max(1, room - _SLACK), count)]
    sizes = count(sentences)
    found: list[Passage] = []
    begin, end = 0, 0
    while end < len(sentences):
        first, size = begin, sum(sizes[begin:end])
        while end < len(sentences) and (first == end or size + sizes[end] <= room - _SLACK):
            size += sizes[end]
            end += 1
        found += [_passage(piece) for piece in _fitting("".join(sentences[first:end]), room, count)]
        begin = _overlapping(sizes, first, end, overlap) if end < len(sentences) else end
        if begin < end and sum(sizes[begin:end]) + sizes[end] > room - _SLACK:
            begin = end  # with what is repeated there would be no room for anything new
    kept = [piece for piece in found if piece.text]
    return kept or [Passage("", text)]


def _overlapping(sizes: Sequence[int], first: int, end: int, overlap: int) -> int:
    """Where the next part begins, that repeats at most `overlap` tokens of sentences first to end, and not all of them."""
    begin, size = end, 0
    while begin > first + 1 and size + sizes[begin - 1] <= overlap:
        begin -= 1
        size += sizes[begin]
    return begin


def _passage(piece: str) -> Passage:
    text = piece.rstrip()
    return Passage(text, piece[len(text) :])


def _sentences(text: str) -> list[str]:
    """The sentences, each with the white space behind it."""
    ends = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(ends) if begin < end]


def _fitting(text: str, room: int, count: Count) -> list[str]:
    """`text`, halved until no part has more than `room` tokens."""
    parts, done = [text], False
    while not done:
        sizes, halves, done = count(parts), [], True
        for part, size in zip(parts, sizes, strict=True):
            if size <= room or (cut := _middle(part)) is None:
                halves.append(part)
            else:
                halves += [part[:cut], part[cut:]]
                done = False
        parts = halves
    return parts


def _middle(text: str) -> int | None:
    """Where to cut `text` in two: behind the white space nearest to the middle, else between two of its characters."""
    middle = len(text) // 2
    before = max(text.rfind(sign, 0, middle) for sign in " \t\n\u3000")
    found = [place + 1 for sign in " \t\n\u3000" if (place := text.find(sign, middle)) >= 0]
    places = [place for place in (before + 1, *found) if 0 < place < len(text)]
    if places:
        return min(places, key=lambda place: (abs(place - middle), place))
    for place in itertools.chain(range(max(1, middle), len(text)), range(middle - 1, 0, -1)):
        if not joins(text[max(0, place - _CONTEXT) : place], text[place]):
            return place
    return None
