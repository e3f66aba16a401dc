"""User-perceived characters: which letters belong together. Knows Unicode, and no tokens."""

import itertools
import unicodedata

__all__ = ["joins"]


def joins(before: str, letter: str) -> bool:
    """Whether `letter` belongs to the same user-perceived character as the end of `before`.

    The extended grapheme clusters of Unicode Standard Annex 29, from what `unicodedata` knows; in doubt they belong together.
    """
    last = before[-1:]
    if not last or last.isspace() or letter.isspace():
        return last == "\r" and letter == "\n"
    code = ord(letter)
    if unicodedata.category(letter) in ("Mn", "Me", "Mc") or letter in "\u200c\u200d\uff9e\uff9f":
        return True
    if 0x1F3FB <= code <= 0x1F3FF or 0xE0020 <= code <= 0xE007F:  # skin tones; letters of a flag's tag
        return True
    if last == "\u200d" or unicodedata.combining(last) == 9:  # a joiner, or the sign that ties two Indic consonants
        return True
    if _is_regional(letter):
        return sum(1 for _ in itertools.takewhile(_is_regional, reversed(before))) % 2 == 1
    return _is_jamo(letter) and _hangul_joins(last, letter)


def _is_regional(letter: str) -> bool:
    return 0x1F1E6 <= ord(letter) <= 0x1F1FF


def _is_jamo(letter: str) -> bool:
    return "\u1100" <= letter <= "\u11ff" or "\ua960" <= letter <= "\ua97f" or "\ud7b0" <= letter <= "\ud7ff"


def _hangul_joins(last: str, letter: str) -> bool:
    """Leading consonants, vowels, trailing consonants, in this order; a whole syllable may get what it lacks."""
    kinds = "LVT"
    if "\uac00" <= last <= "\ud7a3":
        place = "V" if (ord(last) - 0xAC00) % 28 == 0 else "T"
    elif _is_jamo(last):
        place = _jamo_kind(last)
    else:
        return False
    return kinds.index(place) <= kinds.index(_jamo_kind(letter))


def _jamo_kind(letter: str) -> str:
    if "\u1160" <= letter <= "\u11a7" or "\ud7b0" <= letter <= "\ud7c6":
        return "V"
    return "T" if "\u11a8" <= letter <= "\u11ff" or "\ud7cb" <= letter <= "\ud7fb" else "L"
