"""What people see in a terminal: answers as lines of text, and the tools to align them. Knows no model and no printing.

Every text that comes from a model, a file or a user goes through `plain`, so that none can move the cursor or change
the terminal.
"""

import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["View", "amount", "answer", "bar", "cut", "harmless", "plain", "seconds", "table"]

_LEAST_WIDTH = 40  # columns; below this lines are left to wrap
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class View:
    """How answers are to look.

    Attributes:
        width: Columns of the terminal.
        colour: Whether it understands bold and dim.
        labels: Every label that the model may give, so that a stream of answers is aligned from its first line.
        percent: Whether scores are probabilities; else they are shown as they are.
    """

    width: int = 80
    colour: bool = False
    labels: Sequence[str] = ()
    percent: bool = True


def plain(text: object) -> str:
    """`text` on one line, its control characters replaced: newlines and tabs by spaces, others by "·"."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "·"
        for letter in " ".join(str(text).splitlines())
    )


def harmless(text: str) -> str:
    """`text` with its lines as they are, and other control characters replaced by "·"."""
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cs") else "·" for letter in text
    )


def amount(size: int) -> str:
    """Bytes as people write them, in powers of 1000."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration in three digits or so, in the unit that suits it."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            scaled = value * factor
            return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {unit}"
    raise AssertionError  # the last unit takes every value


def bar(step: str, done: int, total: int, columns: int) -> str:
    """One line that says how far a step has come."""
    share = min(1.0, done / total) if total > 0 else 0.0
    room = max(10, min(40, columns - 32))
    filled = round(room * share)
    return cut(f"{_pad(cut(plain(step), 20), 20)} {'━' * filled}{'╌' * (room - filled)} {share:4.0%}", columns - 1)


def table(rows: Iterable[Sequence[str]], *, right: Collection[int] = (), indent: int = 2) -> str:
    """Cells in aligned columns; those named in `right` are aligned to the right, and the last one is not padded."""
    cells = [list(row) for row in rows]
    widths = [max(map(_columns, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        padded = [
            _pad(cell, width, right=index in right) for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * indent + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def cut(text: str, width: int) -> str:
    """`text`, with an ellipsis in place of what does not fit into `width` columns."""
    if width < 1 or _columns(text) <= width:
        return text
    used = 0
    for index, letter in enumerate(text):
        used += _columns(letter)
        if used > width - 1:
            return text[:index].rstrip() + "…"
    return text


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _pad(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - _columns(text))
    return space + text if right else text + space


# Answers: one function per task, from what was given and what came back to lines.


def answer(task: str, given: Any, result: Any, view: View) -> str:
    """The answer to one input, without a newline at its end.

    Args:
        task: Its own name, no alias.
        given: The input as the task took it.
        result: What the task returned for it, with a list or stream of inputs.
        view: How it is to look.
    """
    return _ANSWERS[task](given, result, view)


def _score(value: float, view: View) -> str:
    return f"{value:.2%}" if view.percent else f"{value:.4f}"


def _text(given: Any) -> str:
    if isinstance(given, Mapping):
        return " │ ".join(plain(given[key]) for key in ("text", "text_pair") if given.get(key) is not None)
    return " ".join(map(plain, given)) if isinstance(given, list) else plain(given)


def _heading(text: str, view: View) -> str:
    return f"{_BOLD}{text}{_PLAIN}" if view.colour else text


def _classified(given: Any, result: Any, view: View) -> str:
    if isinstance(result, list) and len(result) != 1:
        rows = [(_score(item["score"], view), plain(item["label"])) for item in result]
        return _heading(cut(_text(given), view.width), view) + "\n" + table(rows, right={0})
    only = result[0] if isinstance(result, list) else result
    label = plain(only["label"])
    widest = max([_columns(plain(name)) for name in view.labels] + [_columns(label)])
    start = f"{_score(only['score'], view):>7}  {_pad(label, min(widest, 24))}  "
    return start + cut(_text(given), max(view.width, _LEAST_WIDTH) - _columns(start))


def _zero_shot(given: Any, result: Any, view: View) -> str:
    rows = [
        (_score(score, view), plain(label)) for label, score in zip(result["labels"], result["scores"], strict=True)
    ]
    return _heading(cut(plain(result["sequence"]), view.width), view) + "\n" + table(rows, right={0})


def _entities(given: Any, result: Any, view: View) -> str:
    named = [(item.get("entity_group") or item["entity"], item) for item in result]
    text = given if isinstance(given, str) else _text(given)
    lines = [_marked(text, named, view)] if isinstance(given, str) else [_heading(text, view)]
    rows = [
        (_score(item["score"], view), plain(name), plain(item["word"]), _span(item.get("start"), item.get("end")))
        for name, item in named
    ]
    return "\n".join([*lines, table(rows, right={0}) if rows else "  no entities"])


def _marked(text: str, named: Sequence[tuple[str, Mapping[str, Any]]], view: View) -> str:
    """The text with its entities in brackets."""
    parts, last = [], 0
    for name, item in sorted(named, key=lambda pair: pair[1].get("start") or 0):
        start, end = item.get("start"), item.get("end")
        if start is None or end is None or start < last:
            continue
        inside, kind = plain(text[start:end]), plain(name)
        bracket = (
            f"{_BOLD}[{inside}{_PLAIN} {_DIM}{kind}{_PLAIN}{_BOLD}]{_PLAIN}" if view.colour else f"[{inside} {kind}]"
        )
        parts += [_inner(text[last:start]), bracket]
        last = end
    return "".join([*parts, _inner(text[last:])])


def _inner(text: str) -> str:
    """`plain` for a piece of a text, whose line ends may lie at the piece's end."""
    return "".join(plain(letter) or " " for letter in text)


def _span(start: int | None, end: int | None) -> str:
    return "" if start is None or end is None else f"{start}–{end}"


def _answered(given: Any, result: Any, view: View) -> str:
    found = result if isinstance(result, list) else [result]
    rows = [
        (_score(item["score"], view), plain(item["answer"]) or "(no answer)", _span(item["start"], item["end"]))
        for item in found
    ]
    return _heading(cut(plain(given["question"]), view.width), view) + "\n" + table(rows, right={0})


def _filled(given: Any, result: Any, view: View) -> str:
    several = bool(result) and isinstance(result[0], list)
    lines = [_heading(cut(_text(given), view.width), view)]
    for number, choices in enumerate(result if several else [result], 1):
        if several:
            lines.append(f"  mask {number}")
        rows = [
            (_score(item["score"], view), plain(item["token_str"]).strip(), plain(item["sequence"])) for item in choices
        ]
        rows = [(score, token, "") for score, token, _ in rows] if several else rows
        lines += [cut(line, view.width) for line in table(rows, right={0}).splitlines()]
    return "\n".join(lines)


def _features(given: Any, result: Any, view: View) -> str:
    array = np.asarray(result)
    first = array.reshape(-1, array.shape[-1])[0] if array.size else array.reshape(-1)
    shape = " × ".join(map(str, array.shape))
    note = f", length {math.sqrt(float(np.square(first, dtype=float).sum())):.4g}" if array.ndim == 1 else ""
    numbers = ", ".join(f"{value:.4g}" for value in first[:6].tolist()) + (", …" if len(first) > 6 else "")
    head = _heading(cut(_text(given), view.width), view)
    return f"{head}\n  {shape} numbers{note}\n  [{numbers}]"


def _similar(given: Any, result: Any, view: View) -> str:
    scored = sorted(zip(result, given["sentences"], strict=True), key=lambda pair: -pair[0])
    rows = [(f"{score:.4f}", cut(plain(sentence), max(view.width, _LEAST_WIDTH) - 12)) for score, sentence in scored]
    return _heading(cut(plain(given["source_sentence"]), view.width), view) + "\n" + table(rows, right={0})


def _written(given: Any, result: Any, view: View) -> str:
    texts = [item.get("generated_text", item.get("generated_token_ids")) for item in result]
    texts = [
        text[-1]["content"] if isinstance(text, list) and isinstance(text[-1], Mapping) else text for text in texts
    ]
    return ("\n" + "─" * 8 + "\n").join(harmless(str(text)) for text in texts)


def _rewritten(given: Any, result: Any, view: View) -> str:
    """One text as it is; several, and those with scores, below what they are answers to."""
    texts = [next(value for name, value in item.items() if name != "score") for item in result]
    if len(result) == 1 and result[0].get("score") is None:
        return harmless(str(texts[0]))
    rows = [
        (str(number) if item.get("score") is None else f"{item['score']:.4f}", plain(text))
        for number, (item, text) in enumerate(zip(result, texts, strict=True), 1)
    ]
    return _heading(cut(_text(given), view.width), view) + "\n" + table(rows, right={0})


_ANSWERS: Mapping[str, Callable[[Any, Any, View], str]] = {
    "feature-extraction": _features,
    "fill-mask": _filled,
    "question-answering": _answered,
    "sentence-similarity": _similar,
    "summarization": _rewritten,
    "text2text-generation": _rewritten,
    "text-classification": _classified,
    "text-generation": _written,
    "token-classification": _entities,
    "translation": _rewritten,
    "zero-shot-classification": _zero_shot,
}
