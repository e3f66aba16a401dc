"""A tokenizer on its way to `tokenizer.json`, and parts of such a file. Knows no file name and no tokenizer class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgenlp.errors import CheckpointError

from .files import Settings
from .tokens import AddedToken, AddedTokens, Special

__all__ = ["Document", "Draft", "Roles", "document", "replace"]

Document = dict[str, Any]
Roles = Mapping[str, Special | None]  # "cls" → its token


@dataclass
class Draft:
    """All that is known of a tokenizer while it is converted.

    Attributes:
        settings: What the folder says.
        roles: The special token of each role.
        document: The `tokenizer.json` so far.
        added: Its added tokens, kept apart until the end.
    """

    settings: Settings
    roles: Roles
    document: Document
    added: AddedTokens = field(init=False)

    def __post_init__(self) -> None:
        self.added = AddedTokens(self.document["model"])
        records = self.document["added_tokens"]
        self.added.add(AddedToken(**{key: record[key] for key in record if key != "id"}) for record in records)

    def token(self, role: str) -> str | None:
        """The token with this role, None where there is none."""
        token = self.roles.get(role)
        return token if token is None or isinstance(token, str) else token.content

    def required(self, role: str) -> str:
        """The token with this role.

        Raises:
            CheckpointError: There is none.
        """
        token = self.token(role)
        if token is None:
            raise CheckpointError(
                f"{self.settings.folder}: the tokenizer needs a {role} token and has none;"
                f" name it as {role}_token in tokenizer_config.json"
            )
        return token

    def id(self, token: str) -> int:
        """The id of `token`; where the vocabulary lacks it, that of the unknown token (`convert_tokens_to_ids`).

        Raises:
            CheckpointError: It has neither.
        """
        unk = self.token("unk")
        index = self.added.id(token)
        if index is None and unk is not None:
            index = self.added.id(unk)
        if index is None:
            raise CheckpointError(
                f"{self.settings.folder}: the tokenizer's special token {token!r} is not in its vocabulary;"
                " name the tokens that the vocabulary has in special_tokens_map.json"
            )
        return index

    def template(self, single: Sequence[str], pair: Sequence[str]) -> Document:
        """A post-processor that puts special tokens around one text and around a pair.

        Args:
            single: What one text becomes: special tokens and "$A", each with ":1" behind it where its type id is 1.
            pair: What a pair becomes, with "$A" and "$B".
        """
        names: set[str] = set()
        parts = [[_part(item, names) for item in items] for items in (single, pair)]
        specials = {name: {"id": name, "ids": [self.id(name)], "tokens": [name]} for name in sorted(names)}
        return {"type": "TemplateProcessing", "single": parts[0], "pair": parts[1], "special_tokens": specials}


def document(
    model: Document,
    *,
    normalizer: Document | None,
    pre_tokenizer: Document | None,
    decoder: Document,
    added_tokens: Sequence[Document] = (),
) -> Document:
    """A `tokenizer.json` of these parts, its post-processor still missing."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added_tokens),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _part(item: str, names: set[str]) -> Document:
    """One part of a template; the name of a special token is put into `names`."""
    name, type_id = (item[:-2], 1) if item.endswith(":1") else (item, 0)
    if name in ("$A", "$B"):
        return {"Sequence": {"id": name[1], "type_id": type_id}}
    names.add(name)
    return {"SpecialToken": {"id": name, "type_id": type_id}}


def replace(old: str, new: str, *, regex: bool = False) -> Document:
    """A part that replaces `old` by `new`, for a normalizer or a decoder."""
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": old}, "content": new}
