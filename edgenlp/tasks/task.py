"""What every task holds, and the three rules that all share: options, streams, inputs longer than the window. Knows no single task."""

import difflib
import functools
import inspect
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from edgenlp.bundle import Bundle
from edgenlp.encode import Encoder
from edgenlp.errors import InputError
from edgenlp.model import Model
from edgenlp.tokens import Tokens

__all__ = ["LONG_INPUT", "Task", "check_choice", "check_count", "check_options", "cut", "options", "stream"]

LONG_INPUT = ("error", "truncate", "stride")

# A stream is read ahead by at most this much, so that memory stays bounded whatever its length.
_CHUNK_TEXTS = 256
_CHUNK_CHARACTERS = 100_000

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T", bound="Task")


class Task:
    """A model and the defaults of a task's options. Safe to call from many threads at once.

    Args:
        model: The opened bundle.
        defaults: Options for every call that does not give them itself.
    """

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        self._model: Model | None = model
        self.defaults = dict(defaults)

    @property
    def model(self) -> Model:
        """The opened bundle.

        Raises:
            InputError: The task was closed.
        """
        if self._model is None:
            raise InputError("this pipeline was closed; make a new one with edgenlp.pipeline(...)")
        return self._model

    @property
    def bundle(self) -> Bundle:
        """The facts of `edgenlp.json`."""
        return self.model.bundle

    @property
    def tokens(self) -> Tokens:
        """Text to ids and back."""
        return self.model.tokens

    @property
    def encoder(self) -> Encoder:
        """Ids to arrays."""
        return self.model.encoder

    def warmup(self) -> None:
        """Run the model once on a short text, so that the first real call finds memory and threads ready."""
        tokens = self.tokens
        self.encoder(tokens.encode(["warm"])[0], rows=[[0]])

    def close(self) -> None:
        """Let go of the model. Further calls are errors; calls under way in other threads end normally."""
        self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def options(call: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Decorator of a task's `__call__`: fills in the defaults given to `pipeline(...)`, and names unknown options."""

    def checked(self: T, /, *args: P.args, **given: P.kwargs) -> R:
        check_options(call, given)
        placed = list(inspect.signature(call).parameters)[1 : 1 + len(args)]
        defaults = {name: value for name, value in self.defaults.items() if name not in placed}
        merged: Any = {**defaults, **given}
        return call(self, *args, **merged)

    functools.update_wrapper(checked, call)
    return checked


def check_options(call: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise `InputError` where `given` holds an option that `call` does not take; the nearest known one is named."""
    known = [name for name in inspect.signature(call).parameters if name != "self"]
    explain = getattr(call, "explain_unknown", None)
    for name in given:
        if name not in known:
            if explain is not None:
                explain(name)
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known[1:])}"
            raise InputError(f"unknown option {name!r}; {hint}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise `InputError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{name} must be one of {', '.join(choices)}, found {value!r}{hint}")


def check_count(name: str, value: object, *, least: int = 1, optional: bool = False) -> None:
    """Raise `InputError` unless `value` is a whole number of at least `least` (or None where `optional`)."""
    if (value is None and optional) or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
        return
    raise InputError(
        f"{name} must be a whole number of at least {least}{' or None' if optional else ''}, found {value!r}"
    )


def cut(
    model: Model,
    long_input: str | None,
    default: str,
    *,
    truncation: bool | str | None = None,
    max_length: int | None = None,
    overlap: int | None = None,
) -> dict[str, Any]:
    """Arguments of `Tokens.encode` for inputs longer than the window.

    Args:
        model: Says how long the window is.
        long_input: "error", "truncate", "stride" or None for `default`.
        default: What the task does unless asked otherwise.
        truncation: transformers' option: True, False, "longest_first", "only_first", "only_second" or "do_not_truncate"; one that
            cuts counts as "truncate".
        max_length: Most tokens of a window; alone it means `truncation=True`, as in transformers.
        overlap: Tokens that neighbouring windows share; None for an eighth of the window.

    Raises:
        InputError: An option is none of these.
    """
    if long_input is not None:
        check_choice("long_input", long_input, LONG_INPUT)
    check_count("max_length", max_length, optional=True)
    if not isinstance(truncation, bool | None):
        check_choice("truncation", truncation, ("longest_first", "only_first", "only_second", "do_not_truncate"))
    cuts = truncation not in (None, False, "do_not_truncate") or (truncation is None and max_length is not None)
    way = long_input or ("truncate" if cuts else default)
    window = model.bundle.window
    length = min(max_length or window, model.bundle.tokenizer.max_length or window, window)
    return {
        "max_length": None if way == "error" else length,
        "stride": (length // 8 if overlap is None else overlap) if way == "stride" else None,
        "truncation": None
        if way == "error"
        else truncation
        if cuts and isinstance(truncation, str)
        else "longest_first",
    }


def stream(
    inputs: Any, one: Callable[[Any], bool], step: Callable[[list[Any]], list[R]], *, batch_size: int | None = None
) -> R | list[R] | Iterator[R]:
    """Answer one input, a list, or any other iterable: scalar in, scalar out; list in, list out; else a lazy iterator.

    Args:
        inputs: What the caller gave.
        one: Whether a value is a single input.
        step: Answers a bounded number of inputs, in order.
        batch_size: Where given, an iterator is read ahead by this many inputs only; 1 answers each as it comes.

    Raises:
        InputError: `inputs` is neither a single input nor iterable.
    """
    check_count("batch_size", batch_size, optional=True)
    if one(inputs):
        return step([inputs])[0]
    if isinstance(inputs, Mapping | bytes | bytearray) or not isinstance(inputs, Iterable):
        raise InputError(f"expected a text, a list or an iterable of texts, found {type(inputs).__name__}")
    if isinstance(inputs, io.TextIOBase):
        inputs = (line.rstrip("\r\n") for line in inputs)
    results = (result for chunk in _chunks(inputs, batch_size) for result in step(chunk))
    return list(results) if isinstance(inputs, list | tuple) else results


def _chunks(inputs: Iterable[Any], batch_size: int | None) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    size = 0
    most = _CHUNK_TEXTS if batch_size is None or isinstance(inputs, list | tuple) else batch_size
    for item in inputs:
        chunk.append(item)
        size += _characters(item)
        if len(chunk) >= most or size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _characters(item: Any) -> int:
    if isinstance(item, str):
        return len(item)
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, list | tuple) else ()
    return sum(_characters(part) for part in parts)
