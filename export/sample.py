"""Real text for measuring and calibrating: the package's own, or a file of the user's. Knows no model."""

from collections.abc import Sequence
from pathlib import Path

from edgenlp.errors import ExportError
from edgenlp.tokens import Tokens

__all__ = ["LINES", "read_lines", "sample_ids", "sample_pairs", "split_pairs"]

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
        ids = list(tokens.ids(tokens.encode([line], max_length=longest, truncation="longest_first")[0][0]))
        if ids:
            texts.append(ids)
            total += len(ids)
        if most is not None and total >= most:
            break
    return texts


def split_pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """What is read and what is written of each line: the text before its first tab and the text behind it.

    A line without a tab, or with nothing on one side of it, is both.
    """
    pairs = [line.split("\t", 1) for line in lines]
    return [(pair[0].strip() or pair[-1].strip(), pair[-1].strip() or pair[0].strip()) for pair in pairs]


def sample_pairs(
    tokens: Tokens,
    target_tokens: Tokens,
    pairs: Sequence[tuple[str, str]],
    *,
    start: int,
    longest: int,
    target_longest: int,
    most: int | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Ids of pairs of texts, for an encoder-decoder.

    Args:
        tokens: Of what is read.
        target_tokens: Of what is written.
        pairs: What is read and what is written.
        start: The token that stands before every target.
        longest: Most tokens of a source.
        target_longest: Most tokens of a target, the one before it included.
        most: Pairs are taken until the sources or the targets together hold as many tokens; None for all.

    Returns:
        The sources, and as many targets.
    """
    sources: list[list[int]] = []
    targets: list[list[int]] = []
    for source, target in pairs:
        for ids in sample_ids(tokens, [source], longest):  # none where a text has no tokens
            sources.append(ids)
            targets.append(
                [start, *(item for own in sample_ids(target_tokens, [target], target_longest - 1) for item in own)]
            )
        if most is not None and max(sum(map(len, sources)), sum(map(len, targets))) >= most:
            break
    return sources, targets
