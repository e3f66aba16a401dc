"""What tasks that write text have in common: which options are theirs, which of them win, how text is handed over. Runs no model.

Options come from four places. The order is that of transformers 4.57 (`Pipeline.__init__`, `_sanitize_parameters`): the task's own
defaults, the checkpoint's where the task has none, the options of `pipeline(...)`, the checkpoint's for this task, those of the call.
"""

import difflib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from edgenlp.bundle import Bundle
from edgenlp.decode.options import Generation, merged
from edgenlp.decode.rows import Generated
from edgenlp.decode.values import RULES
from edgenlp.errors import InputError
from edgenlp.streaming import TextPieces

__all__ = [
    "FULL_TEXT",
    "NEW_TEXT",
    "TENSORS",
    "Observer",
    "extras",
    "generation_defaults",
    "return_type_of",
    "shown",
    "takes",
    "threaded",
    "written_options",
]

TENSORS, NEW_TEXT, FULL_TEXT = "tensors", "new_text", "full_text"
_RETURN_TYPES = (TENSORS, NEW_TEXT, FULL_TEXT)  # in the order of transformers' ReturnType


def generation_defaults(
    bundle: Bundle, task: str, own: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Generation options that hold where a call gives none, and the prefix that the checkpoint wants before every text.

    Args:
        bundle: Has the checkpoint's.
        task: Whose.
        own: The task's.
        given: To `pipeline(...)`; other options among them are left out.
    """
    found = dict(own)
    found |= {name: value for name, value in bundle.generation.items() if name not in own}
    chosen_here = {name: value for name, value in given.items() if name in RULES}
    merged({}, chosen_here)  # what is wrong with these is the caller's to mend, not the bundle's
    found |= chosen_here
    # A length that somebody chose wins over the task's own (as in transformers, 20 counts as not chosen)
    if (
        own.get("max_new_tokens") is not None
        and found.get("max_new_tokens") == own["max_new_tokens"]
        and found.get("max_length") not in (None, Generation.max_length)
    ):
        found["max_new_tokens"] = None
    chosen = dict(bundle.task_options.get(task, {}))
    prefix = chosen.pop("prefix", None)
    found |= {name: value for name, value in chosen.items() if name in RULES}
    if found.get("pad_token_id") is None and "pad" in bundle.tokenizer.special:
        found["pad_token_id"] = bundle.tokenizer.special["pad"][1]
    return found, prefix


def return_type_of(options: Mapping[str, Any]) -> str | None:
    """What `return_type`, `return_full_text`, `return_text` and `return_tensors` together ask for; None for nothing.

    As in transformers, `return_tensors=False` asks for tensors, and `return_text` alone for nothing.

    Raises:
        InputError: They contradict each other.
    """
    kind = options.get("return_type")
    full, text, tensors = (options.get(name) for name in ("return_full_text", "return_text", "return_tensors"))
    if kind is None and full is not None:
        if text is not None or tensors is not None:
            other = "return_text" if text is not None else "return_tensors"
            raise InputError(f"return_full_text and {other} exclude each other; give one of them")
        return FULL_TEXT if full else NEW_TEXT
    if kind is None and tensors is not None:
        if text is not None:
            raise InputError("return_text and return_tensors exclude each other; give one of them")
        return TENSORS
    if kind is None:
        return None
    value = getattr(kind, "value", kind)  # transformers' ReturnType is an enumeration of 0, 1, 2
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_RETURN_TYPES):
        return _RETURN_TYPES[value]
    if isinstance(value, str) and value.lower() in _RETURN_TYPES:
        return value.lower()
    raise InputError(f"return_type must be one of {', '.join(_RETURN_TYPES)} (or 0, 1, 2), found {kind!r}")


def written_options(
    defaults: Mapping[str, Any], given: Mapping[str, Any], *, prefix_length: int = 0, eos: list[int] | None = None
) -> Generation:
    """The generation options of a call.

    Args:
        defaults: See `generation_defaults`.
        given: To the call; other options among them are left out.
        prefix_length: Tokens of a prefix: lengths that count the prompt leave them out.
        eos: End tokens that a stop sequence asks for.

    Raises:
        InputError: Options cannot be used, or contradict each other.
    """
    chosen = {name: value for name, value in given.items() if name in RULES}
    if prefix_length:
        if "max_new_tokens" not in chosen and defaults.get("max_new_tokens") is None:
            most = chosen.get("max_length") or defaults.get("max_length") or Generation.max_length
            chosen["max_length"] = most + prefix_length
        if chosen.get("min_length") and "min_new_tokens" not in chosen:
            chosen["min_length"] += prefix_length
    if eos is not None:
        chosen["eos_token_id"] = eos
    return merged(defaults, chosen)


def takes(own: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the function says that it takes the parameters of `own`, and besides them the options of generation.

    Options of transformers that edgenlp leaves out are refused with what to do instead.
    """
    parameters = [item for item in inspect.signature(own).parameters.values() if item.kind is not item.VAR_KEYWORD]
    names = {item.name for item in parameters}
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in RULES if name not in names
    ]

    def decorate(call: Callable[..., Any]) -> Callable[..., Any]:
        call.__dict__["__signature__"] = inspect.Signature([*parameters, *options])
        call.__dict__["explain_unknown"] = explain
        return call

    def explain(name: str) -> None:
        known = [*(item for item in names if item != "self"), *RULES]
        if near := difflib.get_close_matches(name, known, 1, 0.8):
            raise InputError(f"unknown option {name!r}; did you mean {near[0]!r}?")
        merged({}, {name: None})  # knows what transformers has and edgenlp has not

    return decorate


def shown(steps: Iterator[Any], pieces: TextPieces, first: Sequence[int]) -> Iterator[str]:
    """The texts of what is written, that of `first` before; a generator, so that closing it closes `steps`."""
    if text := pieces.push(first):
        yield text
    for step in steps:
        for written in step:
            if text := pieces.push(written.tokens):
                yield text
        if pieces.stopped is not None:
            return
    if text := pieces.finish():
        yield text


async def threaded(pieces: Iterator[str]) -> AsyncIterator[str]:
    """`pieces` for asyncio: each is made on a thread of its own, which ends with the iterator."""
    import asyncio  # whoever comes here has it already; the others do without

    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="edgenlp-stream")
    try:
        while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            thread.submit(close)  # after the step under way, on its own thread
        thread.shutdown(wait=False)


class Observer:
    """Hands new ids to a streamer as they come; a stopping criterion that never stops.

    Args:
        streamer: Has `put` and `end`.
        prompt: What comes before the new ids; handed over at once.
    """

    def __init__(self, streamer: Any, prompt: Sequence[int]) -> None:
        self._streamer = streamer
        self._seen = len(prompt)
        self._start = len(prompt)
        streamer.put(np.array([prompt], np.int64))

    def __call__(self, ids: Any, scores: Any) -> bool:
        """Hand over what is new in `ids` [tokens]."""
        self._streamer.put(np.array(ids[self._seen :], np.int64))
        self._seen = len(ids)
        return False

    def end(self, ids: Sequence[int]) -> None:
        """All new ids: the last ones may not have been seen."""
        if rest := ids[self._seen - self._start :]:
            self._streamer.put(np.array(rest, np.int64))
        self._streamer.end()


def extras(item: Generated, *, alone: bool) -> dict[str, Any]:
    """What transformers adds with return_dict_in_generate."""
    found: dict[str, Any] = {}
    if item.scores is not None:
        found["scores"] = [row.tolist() for row in item.scores]
    if item.logits is not None:
        found["logits"] = [row.tolist() for row in item.logits]
    if item.score is not None and alone:
        found["sequences_scores"] = [item.score]
    return found
