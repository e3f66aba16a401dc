"""Lines of text or JSON to the inputs of a task, and their answers one by one. Knows no terminal and prints nothing.

Everything is lazy: a stream of any length is read a bounded number of lines ahead.
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgenlp.errors import InputError

__all__ = ["Form", "answers", "decoded", "given_texts", "inputs", "placed", "whole"]

Placed = tuple[str, Any]  # where it stood ("line 3", "" for the only one), and what

# Fields of an input written as a JSON object, the required ones first; other tasks take {"text"}.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "question-answering": ("question", "context"),
    "sentence-similarity": ("source_sentence", "sentences"),
    "text-classification": ("text", "text_pair"),
}


@dataclass(frozen=True)
class Form:
    """How a line becomes an input.

    Attributes:
        task: Its own name, no alias.
        jsonl: Whether each line is a JSON value: an object of the task's own form, or a string.
        context: Of question answering: the text in which to look.
        pair: Of text classification: the second text of each pair.
        source: Of sentence similarity: what the lines are compared with; None for the first line.
    """

    task: str
    jsonl: bool = False
    context: str | None = None
    pair: str | None = None
    source: str | None = None


def decoded(stream: Iterable[bytes], name: str) -> Iterator[Placed]:
    """The lines of a UTF-8 stream, without their ends and a byte order mark.

    Raises:
        InputError: A line is not UTF-8; it is named.
    """
    for number, line in enumerate(stream, 1):
        where = f"{name}, line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where} is not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1}); convert it with:"
                " iconv -f LATIN1 -t UTF-8, or whatever its encoding is"
            ) from error
        yield where, text.removesuffix("\n").removesuffix("\r")


def whole(lines: Iterable[Placed]) -> Iterator[Placed]:
    """All lines as one text."""
    yield "", "\n".join(line for _, line in lines)


def given_texts(texts: Sequence[str]) -> Iterator[Placed]:
    """Texts of the command line.

    Raises:
        InputError: One is not UTF-8, which Python shows as lone surrogates.
    """
    for number, text in enumerate(texts, 1):
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(f"text {number} on the command line is not UTF-8; convert it, or put it into a file")
        yield f"text {number}" if len(texts) > 1 else "", text


def inputs(lines: Iterable[Placed], form: Form) -> Iterator[Placed]:
    """The task's inputs, one a line; for sentence similarity without JSON all lines together are one.

    Raises:
        InputError: A line is not JSON, or not of the task's form.
    """
    if form.jsonl:
        for where, line in lines:
            if line.strip():
                yield where, _parsed(where, line, form)
    elif form.task == "sentence-similarity":
        texts = [line for _, line in lines]
        first = [form.source] if form.source is not None else texts[:1]
        rest = texts if form.source is not None else texts[1:]
        if not rest:
            raise InputError("sentence-similarity compares a first text with others: give two texts or more")
        yield "", {"source_sentence": first[0], "sentences": rest}
    else:
        for where, line in lines:
            yield where, _formed(line, form)


def _formed(text: str, form: Form) -> Any:
    if form.task == "question-answering":
        return {"question": text, "context": form.context}
    if form.task == "text-classification" and form.pair is not None:
        return {"text": text, "text_pair": form.pair}
    return text


def _parsed(where: str, line: str, form: Form) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error}); without --jsonl lines are plain text") from error
    fields = _FIELDS.get(form.task, ("text",))
    if isinstance(value, str) and form.task != "sentence-similarity":
        return _formed(value, form)
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object with {' and '.join(fields)}, found {type(value).__name__}")
    if unknown := [name for name in value if name not in fields]:
        raise InputError(
            f"{where}: unknown field {unknown[0]!r}; {form.task} reads {' and '.join(fields)},"
            " and options go on the command line"
        )
    if form.context is not None:
        value = {"context": form.context, **value}
    if form.pair is not None:
        value = {"text_pair": form.pair, **value}
    if form.source is not None:
        value = {"source_sentence": form.source, **value}
    optional = {"text_pair"}
    if missing := [name for name in fields if name not in value and name not in optional]:
        raise InputError(f"{where}: field {missing[0]!r} is missing; {form.task} reads {' and '.join(fields)}")
    return value if len(fields) > 1 else value["text"]


@contextlib.contextmanager
def placed(where: str) -> Generator[None]:
    """Errors of an input say where it stood.

    Raises:
        InputError: The input cannot be answered.
    """
    try:
        yield
    except InputError as error:
        if not where:
            raise
        raise InputError(f"{where}: {error}") from error


def answers(task: Callable[[Iterator[Any]], Iterator[Any]], given: Iterable[Placed]) -> Iterator[tuple[Any, Any]]:
    """Each input with its answer, in order. What precedes a bad input is still answered; the error says where it stood.

    Raises:
        InputError: An input cannot be read or answered.
    """
    waiting: deque[Placed] = deque()  # read, not answered yet: the task reads ahead to fill batches

    def read() -> Iterator[Any]:
        for entry in given:
            waiting.append(entry)
            yield entry[1]

    try:
        for result in task(read()):
            yield waiting.popleft()[1], result
    except InputError:
        while waiting:
            where, item = waiting.popleft()
            with placed(where):
                result = next(task(iter([item])))
            yield item, result
        raise
