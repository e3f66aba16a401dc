"""JSON from files that nobody vouches for: an object, of bounded size and depth. Refuses to know what the keys mean."""

import json
from pathlib import Path
from typing import Any

from edgenlp.errors import CheckpointError


def read_object(file: Path, *, limit: int, unique: bool = False) -> dict[str, Any]:
    """Read a file that must hold one JSON object in UTF-8.

    Args:
        file: the file; it must exist.
        limit: the most bytes that it may have.
        unique: refuse an object that has the same key twice; otherwise the last one counts, as in `json.loads`.

    Raises:
        CheckpointError: the file is too large, or is not such JSON.
    """
    size = file.stat().st_size
    if size > limit:
        raise CheckpointError(
            f"{file} is larger than {limit:,} bytes, which is more than such a file ever needs. "
            "Check that it is the file of that name from the model's author."
        )
    with file.open("rb") as stream:
        return parse_object(stream.read(size), str(file), unique=unique)


def read_list(file: Path, *, limit: int) -> list[Any]:
    """Read a file that must hold one JSON list; the rest is as for `read_object`."""
    if file.stat().st_size > limit:
        raise CheckpointError(f"{file} is larger than {limit:,} bytes, which is more than such a file ever needs.")
    found: list[Any] = parse_object(b'{"list":' + file.read_bytes() + b"}", str(file))["list"]
    if not isinstance(found, list):
        raise CheckpointError(f"{file} holds a JSON {type(found).__name__}, expected a list. Fetch the file again.")
    return found


def parse_object(text: bytes, where: str, *, unique: bool = False) -> dict[str, Any]:
    """Parse one JSON object in UTF-8; `where` names it in messages, `unique` is as in `read_object`.

    Raises:
        CheckpointError: it is not JSON, is nested too deeply, is not an object, or repeats a key that must be unique.
    """
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats if unique else None)
    except RecursionError as error:
        raise CheckpointError(f"{where} is nested too deeply to be what it claims to be. Do not trust it.") from error
    except ValueError as error:
        # Bad UTF-8, bad JSON, a repeated key, and numbers with thousands of digits all arrive here.
        raise CheckpointError(f"{where} is not valid JSON: {error}. Fetch the file again.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{where} holds a JSON {type(found).__name__}, expected an object. Fetch the file again.")
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:200]!r} appears twice in one object")
        found[key] = value
    return found
