"""What a `tokenizer.json` must be so that reading it cannot stop the program. Knows no tokenizer class and no folder.

The tokenizers library refuses most broken files with an error, but a few make it panic, which Python cannot handle in
every case. Those are looked for first.
"""

import base64
from collections.abc import Iterator
from typing import Any

from .charsmap import check_charsmap

__all__ = ["check_document"]


def check_document(document: object) -> None:
    """Check the value of a `tokenizer.json`.

    Raises:
        ValueError: It is one that the library would panic on.
    """
    if not isinstance(document, dict):
        raise ValueError(f"it holds {type(document).__name__}, expected an object")
    for part in _objects(document.get("normalizer")):
        if part.get("type") == "Precompiled":
            check_charsmap(base64.b64decode(str(part.get("precompiled_charsmap")), validate=True))
    for part in _objects(document.get("post_processor")):
        if part.get("type") == "TemplateProcessing":
            _check_template(part)
    if isinstance(document.get("model"), dict):
        _check_prefix(document["model"])


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """All objects in `value`, itself included."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            yield value
            values += value.values()


def _check_template(template: dict[str, Any]) -> None:
    """The special tokens of a template must be among those it lists."""
    listed = template.get("special_tokens")
    for item in _objects([template.get("single"), template.get("pair")]):
        token = item.get("SpecialToken")
        name = token.get("id") if isinstance(token, dict) else None
        if isinstance(name, str) and isinstance(listed, dict) and name not in listed:
            raise ValueError(f"the template of its post-processor names {name!r} and does not say which token that is")


def _check_prefix(model: dict[str, Any]) -> None:
    """The second half of each merge must begin with the prefix of inner pieces, which the library cuts off unseen."""
    prefix, merges = model.get("continuing_subword_prefix"), model.get("merges")
    if not isinstance(prefix, str) or not prefix or not isinstance(merges, list):
        return
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if isinstance(parts, list) and len(parts) == 2 and not str(parts[1]).startswith(prefix):
            raise ValueError(f"{parts[1]!r} is merged as the end of a token and does not begin with {prefix!r}")
