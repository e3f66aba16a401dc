"""When a sequence ends: end tokens, length, stop strings, time, the caller's criteria, cancelling. Knows no scores and no model."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Finish, Floats
from edgenlp.errors import InputError

__all__ = ["Decode", "StopStrings", "Stopping", "cancelled"]

Ids = NDArray[np.int64]
Decode = Callable[[Sequence[int]], str]


class Stopping:
    """The end of sequences, by all rules of a call. Made when the call begins: `max_time` counts from there.

    Args:
        options: Of the call.
        decode: Ids to their text, special tokens included and nothing cleaned up; needed with stop_strings.
        clock: Seconds, rising.

    Attributes:
        eos: Ids that end a sequence.
        plain: Whether end tokens and the length are all that counts: then `row` and `now` need not be asked.

    Raises:
        InputError: There are stop strings and no `decode`.
    """

    def __init__(
        self, options: Generation, *, decode: Decode | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.eos = frozenset(options.eos_token_id)
        self._criteria = options.stopping_criteria
        self._cancel = options.cancel
        self._clock = clock
        self._deadline = None if options.max_time is None else clock() + options.max_time
        self._strings: StopStrings | None = None
        if options.stop_strings:
            if decode is None:
                raise InputError(
                    "stop_strings needs a tokenizer, and there is none here; give stopping_criteria that look at ids"
                )
            self._strings = StopStrings(options.stop_strings, decode)
        self.plain = not (self._criteria or self._strings or self._deadline is not None or self._cancel is not None)

    def token(self, token: int, length: int, limit: int) -> Finish | None:
        """Why a sequence ends of which `token` is the last of `length` ids, where `limit` are allowed."""
        if token in self.eos:
            return "eos"
        return "length" if length >= limit else None

    def row(self, ids: Ids, scores: Floats | None = None) -> Finish | None:
        """Why a sequence ends by what it says.

        Args:
            ids: The prompt and what was written, [tokens].
            scores: What its last id was chosen from, [columns]; None where the search keeps none.
        """
        if self._strings is not None and self._strings(ids):
            return "stop"
        for criterion in self._criteria:
            if _truth(criterion, ids, scores):
                return "user"
        return None

    def now(self) -> Finish | None:
        """Why all sequences end at this moment."""
        if self._cancel is not None and cancelled(self._cancel):
            return "cancelled"
        return "time" if self._deadline is not None and self._clock() > self._deadline else None

    def __call__(self, ids: Ids, limit: int, scores: Floats | None = None) -> Finish | None:
        """Why a sequence ends with its last id: the first of "eos", "stop", "user", "length"; `now` is asked apart."""
        finish = self.token(int(ids[-1]), len(ids), limit)
        if finish == "eos" or self.plain:
            return finish
        return self.row(ids, scores) or finish


class StopStrings:
    """Whether the last id has completed one of `strings` (transformers' StopStringCriteria).

    What counts is a stop string that ends inside the text of the last id: it may begin in any id before, of the prompt too,
    and the last id may go on behind it. One that an earlier id completed does not count.

    Args:
        strings: None of them empty.
        decode: Ids to text.
    """

    def __init__(self, strings: Sequence[str], decode: Decode) -> None:
        self._strings = tuple(strings)
        self._decode = decode
        # An id that shares in a stop string gives it a byte at least. The ids before take the harm that cutting does: a
        # decoder drops the space before the first word, or half a character.
        self._reach = max(len(string.encode("utf-8", "surrogatepass")) for string in strings) + 4

    def __call__(self, ids: Ids) -> bool:
        """Whether `ids` [tokens], prompt included, end so."""
        tail = ids[-self._reach :].tolist()
        text = self._decode(tail)
        found = [text.rfind(string) + len(string) for string in self._strings if string in text]
        if not found:
            return False
        before = self._decode(tail[:-1])
        return max(found) > _common(before, text)


def cancelled(token: Any) -> bool:
    """Whether `token` says so: by `cancelled`, an attribute or a method, or by `is_set()`, as threading.Event."""
    state = getattr(token, "cancelled", None)
    if state is None:
        state = token.is_set
    return bool(state() if callable(state) else state)


def _common(left: str, right: str) -> int:
    """Length of the beginning that both share: half a character at the end of `left` is another one in `right`."""
    if right.startswith(left):
        return len(left)
    return next(
        (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )


def _truth(criterion: Callable[[Any, Any], Any], ids: Ids, scores: Floats | None) -> bool:
    answer = criterion(ids, scores)
    try:
        return bool(answer)
    except ValueError as error:
        name = getattr(criterion, "__name__", type(criterion).__name__)
        raise InputError(
            f"the stopping criterion {name} must return one True or False per call, found {answer!r}"
        ) from error
