"""Added tokens: which string gets which id and which flags. Knows no file, no tokenizer class and no text.

The rules are those of `AddedVocabulary` of the tokenizers library 0.22, the one transformers 4.57 runs on, so that the
ids written into `tokenizer.json` are the ids transformers would use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["ROLES", "AddedToken", "AddedTokens", "Special", "content", "tokens_to_add"]

# `SpecialTokensMixin.SPECIAL_TOKENS_ATTRIBUTES` of transformers, in its order: new ids are given out in it.
ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


@dataclass(frozen=True)
class AddedToken:
    """A string that is cut out of the text before the model sees it.

    Attributes:
        content: The string.
        single_word: Whether it must stand alone, not inside a word.
        lstrip: Whether it eats the white space before it.
        rstrip: Whether it eats the white space after it.
        normalized: Whether it is looked for in the normalized text; None for what the library takes: `not special`.
        special: Whether decoding may skip it.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False

    def settled(self) -> "AddedToken":
        """The same token with `normalized` decided."""
        return replace(self, normalized=not self.special if self.normalized is None else self.normalized)


# A special token as a configuration gives it: a plain string leaves the flags of a token that is already there alone.
Special = str | AddedToken


def tokens_to_add(
    decoder: Mapping[int, AddedToken], specials: Iterable[Sequence[Special]], existing: Iterable[str]
) -> list[AddedToken]:
    """The tokens that loading adds, in order (`PreTrainedTokenizerFast.__init__`).

    Args:
        decoder: `added_tokens_decoder` by id.
        specials: The special tokens in groups: one of each role, then those of each list. A token that an earlier
            group holds is left out.
        existing: Contents of the tokens that the tokenizer already holds.
    """
    adding: list[Special] = [decoder[index] for index in sorted(decoder)]
    known = {*existing, *map(content, adding)}
    settled = {decoder[index].settled() for index in decoder}
    seen: set[str] = set()
    for group in specials:
        for token in [token for token in group if content(token) not in seen]:
            seen.add(content(token))
            if token not in known if isinstance(token, str) else token.settled() not in settled:
                adding.append(token)
    tokens = (AddedToken(token, special=True) if isinstance(token, str) else token for token in adding)
    # A token whose `normalized` was left open follows `special`, also where that is decided only here.
    return [replace(token, special=token.special or token.content in seen) for token in tokens]


def content(token: Special | None) -> str:
    """The string of `token`; "None" where there is none, as transformers has it."""
    return str(token) if token is None or isinstance(token, str) else token.content


class AddedTokens:
    """The added tokens of one tokenizer.

    Args:
        model: The `model` part of a `tokenizer.json`.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        vocab = model["vocab"]
        if isinstance(vocab, Mapping):
            self._ids = dict(vocab)
        else:  # Unigram: a list of [piece, score]
            self._ids = {piece: index for index, (piece, _) in enumerate(vocab)}
        self._size = len(vocab)
        self._tokens: dict[int, AddedToken] = {}
        self._special: dict[str, AddedToken] = {}  # as it was when it first came as a special token

    def add(self, tokens: Iterable[AddedToken]) -> None:
        """Add `tokens` in order: one that has an id keeps it, a new one gets the next free one.

        A token that comes again brings new flags, unless the tokenizer already held the very same one at the start.
        """
        free = max(max(self._tokens, default=-1) + 1, self._size)
        held = set(self._tokens.values())
        for token in map(AddedToken.settled, tokens):
            if not token.content or token in held:
                continue
            held.add(token)
            index = self.id(token.content)
            if index is None:
                index, free = free, free + 1
            if token.special:
                self._special.setdefault(token.content, token)
            self._tokens[index] = token
            self._ids[token.content] = index

    def id(self, content: str) -> int | None:
        """The id of `content`, of the model's vocabulary too; None where there is none."""
        return self._ids.get(content)

    def token(self, index: int) -> AddedToken | None:
        """The added token with this id."""
        return self._tokens.get(index)

    def contents(self) -> set[str]:
        """The strings of all added tokens."""
        return {token.content for token in self._tokens.values()}

    def size(self) -> int:
        """One more than the largest id."""
        return max(self._ids.values(), default=-1) + 1

    def records(self) -> list[dict[str, Any]]:
        """The `added_tokens` of a `tokenizer.json`, by id.

        Once special, a token stays special, and is looked for where it was looked for at first: tokenizers 0.22 keeps
        the first special token of a content in its search tree, and reads the other flags from the last.
        """
        records = []
        for index, token in sorted(self._tokens.items()):
            first = self._special.get(token.content)
            if first is not None:
                token = replace(token, special=True, normalized=first.normalized)
            records.append({"id": index, **asdict(token)})
        return records
