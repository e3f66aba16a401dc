"""Real text for measuring and calibrating: the package's own, or a file of the user's. Knows no model."""

from collections.abc import Sequence
from pathlib import Path

from edgenlp.errors import ExportError
from edgenlp.tokens import Tokens

__all__ = ["LINES", "read_lines", "sample_ids"]

LINES: Sequence[str] = Path(__file__).with_name("sample.txt").read_text(encoding="utf-8").splitlines()
_LIMIT = 64 << 20  # bytes of a user's file


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        ExportError: It cannot be read, is too large, or holds no text.
    """
    try:
        if path.stat().st_size > _LIMIT:
            raise ExportError(
                f"{path} is larger than {_LIMIT >> 20} MiB; a few thousand lines of typical text are enough"
            )
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read {path} as UTF-8 text: {error}") from error
    if not lines:
        raise ExportError(f"{path} holds no text; give a file with some lines of what the model will read")
    return lines


def sample_ids(tokens: Tokens, lines: Sequence[str], longest: int, *, most: int | None = None) -> list[list[int]]:
    """Ids of each line, cut after `longest` tokens; as many lines as together hold `most` tokens."""
    texts: list[list[int]] = []
    total = 0
    for line in lines:
        ids = list(tokens.encode([line], max_length=longest, truncation="longest_first")[0][0].ids)
        if ids:
            texts.append(ids)
            total += len(ids)
        if most is not None and total >= most:
            break
    return texts
