"""Structured output: a JSON schema, a regular expression or choices become a mask over the next token. Knows no model.

The grammar work is llguidance's (extra `[guide]`), imported once a guide is asked for. What a row may write next depends on
what it has written, and on nothing else: rows may come, go and multiply as a search likes.
"""

import importlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import DependencyError, InputError
from edgenlp.tokens import Tokens

__all__ = ["Guide", "Vocabulary", "check_guide", "guide"]

_KINDS = ("json_schema", "regex", "choices")
_KEPT = 256  # states of the past: searches look back by a few tokens, not by many
# Between the parts of a JSON value: a small model that may write any amount of white space writes nothing else
_SPACE = r"\n?[ \t]{0,16}"
_SPECIAL = frozenset("\\.+*?()|[]{}^$#&-~/")  # of regular expressions

Ids = NDArray[np.int64]
_Key = tuple[int, bytes]


class Vocabulary:
    """A tokenizer as llguidance wants it; made once for a model, which takes a second where there are many tokens.

    Args:
        tokens: The tokenizer.
        columns: Columns of the logits, which may be more than there are tokens.
        eos: Ids that end a text.

    Raises:
        DependencyError: llguidance is not installed.
        InputError: It cannot read this tokenizer.
    """

    def __init__(self, tokens: Tokens, columns: int, eos: Sequence[int]) -> None:
        try:
            self.library: Any = importlib.import_module("llguidance")
        except ModuleNotFoundError as error:
            raise DependencyError(
                "guided output needs llguidance, which is not installed: pip install 'edgenlp[guide]'"
            ) from error
        if not eos:
            raise InputError(
                "guided output needs a token that ends the text, and the model names none; give eos_token_id"
            )
        self.columns = columns
        self.eos = tuple(eos)
        try:
            self.tokenizer = self.library.LLTokenizer(tokens.serialized(), n_vocab=columns, eos_token=list(eos))
        except (ValueError, RuntimeError) as error:
            raise InputError(f"llguidance cannot read this tokenizer ({error}); leave guide= out") from error


class Guide:
    """Allows only tokens that go on with a text of the form asked for. For one call of generation.

    Args:
        vocabulary: Of the model.
        grammar: In llguidance's own form; see `guide`.

    Raises:
        InputError: The grammar cannot be used.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        self._vocabulary = vocabulary
        self._start = vocabulary.library.LLMatcher(vocabulary.tokenizer, grammar, log_level=0)
        if self._start.is_error():
            raise InputError(f"the guide cannot be used: {self._start.get_error().splitlines()[0]}")
        # prompt's number and ids of a row to what may come next; the last call's rows, and others before
        self._latest: dict[_Key, Any] = {}
        self._earlier: OrderedDict[_Key, Any] = OrderedDict()

    def __call__(
        self, ids: Sequence[Ids], scores: NDArray[np.float32], owners: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        """A logits processor.

        Args:
            ids: Per row the prompt and what was written; a row is first seen with its prompt alone.
            scores: [rows, columns]; what may not follow becomes minus infinity.
            owners: Per row the number of its prompt.
        """
        found: dict[_Key, Any] = {}
        for row, own in enumerate(ids):
            key, matcher = self._matcher(0 if owners is None else owners[row], own)
            found[key] = matcher
            scores[row, ~self._allowed(matcher)] = -np.inf
        self._earlier.update(self._latest)
        while len(self._earlier) > _KEPT:
            self._earlier.popitem(last=False)
        self._latest = found
        return scores

    def _matcher(self, owner: int, ids: Ids) -> tuple[_Key, Any]:
        row = np.ascontiguousarray(ids, np.int64)
        key = owner, row.tobytes()
        before = self._known((owner, row[:-1].tobytes()))
        if before is None:  # a row that is looked at again, or one that has written nothing yet
            return key, self._known(key) or self._start
        matcher = before.deep_copy()
        if not matcher.is_stopped():
            matcher.consume_token(int(row[-1]))
        return key, matcher

    def _known(self, key: _Key) -> Any:
        return self._latest.get(key) or self._earlier.get(key)

    def _allowed(self, matcher: Any) -> NDArray[np.bool_]:
        columns = self._vocabulary.columns
        if not matcher.is_stopped():
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[:columns].astype(bool)
            if allowed.any():
                return allowed
        allowed = np.zeros(columns, bool)
        allowed[list(self._vocabulary.eos)] = True
        return allowed


def check_guide(spec: object) -> tuple[str, Any]:
    """The kind and value of a `guide=` option.

    Raises:
        InputError: It is not a dict with one of the keys "json_schema", "regex" and "choices", or the value does not fit.
    """
    if not isinstance(spec, Mapping) or len(spec) != 1 or next(iter(spec)) not in _KINDS:
        found = f"keys {', '.join(map(repr, spec)) or 'none'}" if isinstance(spec, Mapping) else type(spec).__name__
        raise InputError(f"guide must be a dict with exactly one of {', '.join(map(repr, _KINDS))}, found {found}")
    kind, value = next(iter(spec.items()))
    if kind == "json_schema":
        value = value.model_json_schema() if hasattr(value, "model_json_schema") else value  # a class of pydantic's
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise InputError(f"the JSON schema of the guide is not valid JSON: {error}") from error
        if not isinstance(value, Mapping | bool):
            raise InputError(f"guide: json_schema must be a dict or its JSON, found {type(value).__name__}")
        if value is False:
            raise InputError("guide: the schema false allows nothing; give a schema")
    elif kind == "regex" and not isinstance(value, str):
        raise InputError(f"guide: regex must be a string, found {type(value).__name__}")
    elif kind == "choices":
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(isinstance(item, str) and item for item in value)
        ):
            raise InputError("guide: choices must be a list of at least one text, none of them empty")
        value = list(value)
    return kind, value


def guide(spec: Mapping[str, Any], vocabulary: Vocabulary) -> Guide:
    """What `guide={"json_schema" | "regex" | "choices": ...}` asks for.

    Raises:
        InputError: The guide is malformed, or llguidance cannot use it.
    """
    kind, value = check_guide(spec)
    matcher = vocabulary.library.LLMatcher
    try:
        if kind == "json_schema":
            schema = json.dumps({} if value is True else value)
            grammar = matcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _SPACE})
        else:
            grammar = matcher.grammar_from_regex(value if kind == "regex" else "|".join(map(_escaped, value)))
    except (TypeError, ValueError) as error:
        raise InputError(f"the guide cannot be used: {error}") from error
    return Guide(vocabulary, grammar)


def _escaped(text: str) -> str:
    return "".join("\\" + letter if letter in _SPECIAL else letter for letter in text)
