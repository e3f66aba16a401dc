"""Where answers and progress go: JSON for programs, the size and colours of a terminal, a bar on stderr. Knows no command."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["as_json", "colour", "progress", "width"]


def as_json(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """JSON with numpy's arrays and numbers made plain; letters are escaped only where stdout could not carry them."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    separators = (",", ":") if compact else None
    return json.dumps(value, default=_plain_number, ensure_ascii=ascii_only, indent=indent, separators=separators)


def _plain_number(value: Any) -> Any:
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


def width() -> int:
    """Columns of the terminal; 0 where there is none, for a file has no edge."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def colour() -> bool:
    """Whether the terminal is to be given bold and dim."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on stderr, gone when the work ends, however it ends; None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from edgenlp.cli.show import bar

    def show(step: str, done: int, total: int) -> None:
        print(
            "\r\x1b[K" + bar(step, done, total, shutil.get_terminal_size().columns), end="", file=sys.stderr, flush=True
        )

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
