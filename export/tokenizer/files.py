"""What the files beside a tokenizer say: settings, special and added tokens, vocabularies. Knows no tokenizer class.

The merging of `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` follows
`PreTrainedTokenizerBase._from_pretrained` of transformers 4.57.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgenlp.errors import CheckpointError

from .tokens import ROLES, AddedToken, Special

__all__ = ["Settings", "read_json", "read_merges", "read_settings", "read_text", "read_vocab_json", "read_vocab_txt"]

_REPAIR = "download the file again, or save it anew with transformers' save_pretrained"


@dataclass(frozen=True)
class Settings:
    """What a folder says of its tokenizer besides the vocabulary.

    Attributes:
        folder: Where it was read.
        values: The settings, special tokens included under their own keys ("cls_token": ...).
        decoder: Added tokens by id.
    """

    folder: Path
    values: Mapping[str, Any]
    decoder: Mapping[int, AddedToken]

    def flag(self, key: str, default: bool) -> bool:
        """The setting `key`, true or false; null counts as absent.

        Raises:
            CheckpointError: It is something else.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def text(self, key: str, default: str) -> str:
        """The setting `key`, a string; null counts as absent.

        Raises:
            CheckpointError: It is something else.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(key, value, "a string")
        return value

    def number(self, key: str, default: float | None) -> float | None:
        """The setting `key`, a number; null counts as absent.

        Raises:
            CheckpointError: It is something else.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN is not itself
            raise self.error(key, value, "a number")
        return value

    def count(self, key: str, default: int) -> int:
        """The setting `key`, a whole number of a size that a vocabulary may have; null counts as absent.

        Raises:
            CheckpointError: It is something else.
        """
        value = self.number(key, default)
        if value is None or not 0 <= value <= 1_000_000 or value != int(value):
            raise self.error(key, value, "a whole number from 0 to a million")
        return int(value)

    def special(self, key: str, default: str | None) -> Special | None:
        """The special token under `key`; null means that there is none, absence that the default holds.

        Raises:
            CheckpointError: It is neither a string nor an added token.
        """
        value = self.values.get(key, default)
        if value is None or isinstance(value, str | AddedToken):
            return value or None
        raise self.error(key, value, "a token")

    def specials(self, key: str) -> list[Special] | None:
        """The list of special tokens under `key`; None where it is absent or null.

        Raises:
            CheckpointError: It is no list of tokens.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(token, str | AddedToken) for token in value):
            raise self.error(key, value, "a list of tokens")
        return list(value)

    def error(self, key: str, value: object, expected: str) -> CheckpointError:
        """The error that says `key` holds `value` instead of what was expected."""
        shown = repr(value)[:80]
        return CheckpointError(
            f"{self.folder}: the tokenizer setting {key!r} is {shown}, expected {expected};"
            " correct tokenizer_config.json or special_tokens_map.json"
        )


def read_settings(folder: Path) -> Settings:
    """Read the settings of the tokenizer in `folder`; files that are not there add nothing.

    Raises:
        CheckpointError: One of the files is broken.
    """
    values = _object(folder / "tokenizer_config.json")
    decoder: dict[int, AddedToken] = {}
    if "added_tokens_decoder" in values:
        path = folder / "tokenizer_config.json"
        decoder = _decoder(path, values["added_tokens_decoder"])
        known = {token.content: token for token in decoder.values()}
    else:
        _merge_special_tokens_map(values, _object(folder / "special_tokens_map.json"), folder)
        names = {_name(token) for key in _special_keys(values) for token in _listed(values[key])}
        decoder = _legacy_added_tokens(folder / "added_tokens.json", names)
        known = {}
        for record in _added_records(folder / "tokenizer.json"):
            token = _token(folder / "tokenizer.json", record)
            decoder[_index(folder / "tokenizer.json", record.get("id"))] = known[token.content] = token
    values = {key: _with_tokens(folder, value) for key, value in values.items() if key != "added_tokens_decoder"}
    for key in _special_keys(values):
        if key != "additional_special_tokens" and values[key] is not None:
            values[key] = known.get(_name(values[key]), values[key])
    return Settings(folder, values, decoder)


def _merge_special_tokens_map(values: dict[str, Any], specials: Mapping[str, Any], folder: Path) -> None:
    """Let `special_tokens_map.json` override `tokenizer_config.json`; both lists of additional tokens are kept."""
    for key, value in specials.items():
        if isinstance(value, dict):
            value = _token(folder / "special_tokens_map.json", {**value, "special": True})
        elif key == "additional_special_tokens" and isinstance(value, list):
            tokens = list(values.get(key) or [])
            for token in value:
                if isinstance(token, dict):
                    token = _token(folder / "special_tokens_map.json", {**token, "special": True})
                if token not in tokens:
                    tokens.append(token)
            value = tokens
        values[key] = value


def _special_keys(values: Mapping[str, Any]) -> list[str]:
    return [key for key in (*(f"{role}_token" for role in ROLES), "additional_special_tokens") if key in values]


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(token: object) -> str:
    if isinstance(token, dict):
        return str(token.get("content"))
    return token.content if isinstance(token, AddedToken) else str(token)


def _decoder(path: Path, value: object) -> dict[int, AddedToken]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: added_tokens_decoder is no object; {_REPAIR}")
    return {_index(path, index): _token(path, token) for index, token in value.items()}


def _legacy_added_tokens(path: Path, special: set[str]) -> dict[int, AddedToken]:
    tokens = {}
    for content, index in _object(path).items():
        is_special = content in special
        tokens[_index(path, index)] = AddedToken(content, normalized=not is_special, special=is_special)
    return tokens


def _added_records(path: Path) -> list[Any]:
    records = _object(path).get("added_tokens", [])
    if not isinstance(records, list):
        raise CheckpointError(f"{path}: added_tokens is no list; {_REPAIR}")
    return records


def _index(path: Path, value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise CheckpointError(f"{path}: {value!r} is no id of an added token; {_REPAIR}")
    return value


def _token(path: Path, value: object) -> AddedToken:
    """The added token of a JSON object; keys that tokenizers does not know are ignored, as it does."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        raise CheckpointError(f"{path}: {value!r} is no added token (an object with a string as content); {_REPAIR}")
    flags = {key: value[key] for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in value}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise CheckpointError(f"{path}: a flag of the added token {value['content']!r} is not true or false; {_REPAIR}")
    return AddedToken(value["content"], **flags)


def _with_tokens(folder: Path, value: object) -> Any:
    """`value` with each object that is an added token turned into one (`convert_added_tokens`)."""
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken" or {"content", "lstrip", "rstrip"} <= value.keys():
            return _token(folder / "tokenizer_config.json", value)
        return {key: _with_tokens(folder, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_tokens(folder, inner) for inner in value]
    return value


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, empty where there is no such file."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected a JSON object; {_REPAIR}")
    return value


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, each line end a newline.

    Raises:
        CheckpointError: The file is missing, or not UTF-8.
    """
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}; check that the file exists and is readable") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not UTF-8 text ({error}); {_REPAIR}") from error


def read_json(path: Path, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value in a JSON file.

    Args:
        path: The file.
        pairs: Makes the value of an object from its (key, value) pairs.

    Raises:
        CheckpointError: The file is missing, or not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON ({error}); {_REPAIR}") from error


def read_vocab_txt(path: Path) -> dict[str, int]:
    """A vocabulary of one token a line; the line's number, from 0, is the id.

    Raises:
        CheckpointError: The file is missing, empty, not UTF-8, or a token comes twice.
    """
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    return _vocabulary(path, [(token, index) for index, token in enumerate(lines)])


def read_vocab_json(path: Path) -> dict[str, int]:
    """A vocabulary as a JSON object from token to id.

    Raises:
        CheckpointError: The file is missing, broken, empty, or a token or an id comes twice.
    """
    pairs = read_json(path, pairs=lambda pairs: pairs)
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise CheckpointError(f"{path} holds no JSON object from token to id; {_REPAIR}")
    return _vocabulary(path, [(token, _index(path, index)) for token, index in pairs])


def _vocabulary(path: Path, pairs: list[tuple[str, int]]) -> dict[str, int]:
    vocabulary = dict(pairs)
    if not vocabulary:
        raise CheckpointError(f"{path} is empty, expected a vocabulary; {_REPAIR}")
    if len(vocabulary) < len(pairs):
        twice = sorted(token for token, index in pairs if vocabulary[token] != index) or [pairs[-1][0]]
        raise CheckpointError(
            f"{path}: {len(pairs) - len(vocabulary)} tokens come twice, {twice[0]!r} among them, so their ids are"
            " ambiguous; rename the entries that the model was not trained with"
        )
    if len(set(vocabulary.values())) < len(vocabulary):
        raise CheckpointError(f"{path}: two tokens have the same id; {_REPAIR}")
    return vocabulary


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges of a byte-pair encoding, best first: a header line, then two tokens a line.

    What comes before the first and after the last line end is dropped, as transformers does.

    Raises:
        CheckpointError: The file is missing, not UTF-8, or a line is no pair.
    """
    merges: dict[tuple[str, str], None] = {}
    for number, line in enumerate(read_text(path).split("\n")[1:-1], start=2):
        parts = line.split()
        if len(parts) != 2:
            raise CheckpointError(f"{path}: line {number} is {line[:80]!r}, expected two tokens; {_REPAIR}")
        merges[parts[0], parts[1]] = None
    return list(merges)
