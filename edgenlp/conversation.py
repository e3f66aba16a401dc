"""A conversation that keeps what the model has read, so that a turn costs its new tokens only. Knows turns and ids, no graph.

Every turn is put together from all messages anew, exactly as a call with them would; what the cache holds of the beginning
is kept, the rest is forgotten and read again. So the answers are those of separate calls, whatever came before.
"""

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle
from edgenlp.chat import check_messages
from edgenlp.errors import InputError
from edgenlp.language_model import CausalLM, HeldSequences

if TYPE_CHECKING:
    from edgenlp.tasks.text_generation import TextGeneration

__all__ = ["Conversation", "Memory"]

_FORMAT = 1


class Memory:
    """One row of a decoder that is kept between generations. Takes the decoder's place: `start` hands out what is known.

    Args:
        decoder: Starts the row.

    Attributes:
        ids: What the row has read.
    """

    def __init__(self, decoder: CausalLM) -> None:
        self.window = decoder.window
        self.columns = decoder.columns
        self.ids: list[int] = []
        self.sequences: HeldSequences = decoder.start(1, decoder.window)

    def begin(self, ids: Sequence[int]) -> "Row":
        """The row, with the beginning of `ids` that it holds, at least one id less than all; the rest is forgotten."""
        shared = 0
        for held, wanted in zip(self.ids, ids[:-1], strict=False):
            if held != wanted:
                break
            shared += 1
        self.cut(shared)
        return Row(self)

    def cut(self, length: int) -> None:
        """Keep the first `length` ids."""
        self.sequences.rewind([length])
        del self.ids[length:]


class Row:
    """`Sequences` of one row that notes what it reads."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._inner = memory.sequences
        self.capacity = self._inner.capacity
        self.columns = self._inner.columns
        self.hidden: list[Any] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[1] ids read."""
        return self._inner.lengths

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        """See `edgenlp.decode.rows.Sequences.read`."""
        logits = self._inner.read(ids, every=every)
        self._memory.ids += ids[0]
        return logits

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `edgenlp.decode.rows.Sequences.step`."""
        logits = self._inner.step(tokens)
        self._memory.ids.append(int(tokens[0]))
        return logits

    def log_softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `edgenlp.decode.rows.Sequences.log_softmax`."""
        return self._inner.log_softmax(logits)

    def select(self, parents: Sequence[int]) -> None:
        """Nothing changes: there is one row.

        Raises:
            InputError: Several rows are wanted.
        """
        if len(parents) > 1:
            raise InputError("a conversation follows one sequence; set num_beams=1 and num_return_sequences=1")

    def rewind(self, lengths: Sequence[int]) -> None:
        """See `edgenlp.decode.rows.Sequences.rewind`."""
        self._memory.cut(int(lengths[0]))


class Conversation:
    """Turns between a user and the model; made by `pipe.conversation()`. For one thread at a time.

    Without a chat template the conversation is a text that both write on in turn.

    Args:
        task: Writes.
        messages: To begin with.
        options: Defaults of every turn.

    Attributes:
        messages: So far, the model's among them.
    """

    def __init__(self, task: "TextGeneration", messages: list[dict[str, Any]], options: Mapping[str, Any]) -> None:
        self._task = task
        self._options = dict(options)
        self._memory = Memory(task.model.decoder)
        self._busy = threading.Lock()
        self.messages = messages

    @property
    def cached(self) -> int:
        """Tokens that the model remembers."""
        return len(self._memory.ids)

    def say(self, message: str | Mapping[str, Any], **options: Any) -> str:
        """Add a message, and the model's answer to it, which is returned.

        Args:
            message: The user's text, or a message with role and content.
            **options: As of a call of the pipeline.
        """
        return "".join(self.stream(message, **options))

    def stream(self, message: str | Mapping[str, Any], **options: Any) -> Iterator[str]:
        """As `say`, piece by piece. What was written when the iterator is closed stays as the answer.

        Raises:
            InputError: Another turn is under way, or a message or option cannot be used.
        """
        added = {"role": "user", "content": message} if isinstance(message, str) else dict(message)
        start = self._task.turn([*self.messages, added], {**self._options, **options})
        return self._turn(added, start)

    def _turn(
        self, added: dict[str, Any], start: Callable[[Callable[[Sequence[int]], Row]], Iterator[str]]
    ) -> Iterator[str]:
        # taken here, not in `stream`: a generator that was never begun gives nothing back
        if not self._busy.acquire(blocking=False):
            raise InputError("a turn of this conversation is under way; let it end, or close its stream")
        answer: list[str] = []
        ended = False
        try:
            for piece in start(self._memory.begin):
                answer.append(piece)
                yield piece
            ended = True
        except GeneratorExit:
            ended = True
            raise
        finally:
            if ended:
                self.messages += [added, {"role": "assistant", "content": "".join(answer)}]
            self._busy.release()

    def rewind(self, turns: int = 1) -> None:
        """Forget the last turns: the model's answers and the messages that they followed.

        Raises:
            InputError: There were fewer.
        """
        ends = [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]
        if isinstance(turns, bool) or not isinstance(turns, int) or not 0 <= turns <= len(ends):
            raise InputError(f"turns must be a number from 0 to {len(ends)}, found {turns!r}")
        for _ in range(turns):
            while self.messages and self.messages[-1]["role"] != "assistant":
                self.messages.pop()
            self.messages.pop()
            if self.messages and self.messages[-1]["role"] not in ("assistant", "system"):
                self.messages.pop()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write messages and what the model remembers into one `.npz` file, which replaces an older one when it is whole."""
        target = Path(path)
        facts = {"format": _FORMAT, "bundle": _fingerprint(self._task.bundle), "messages": self.messages}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        arrays: dict[str, Any] = {"facts": text, "ids": np.array(self._memory.ids, np.int64)}
        arrays |= {f"state.{name}": value for name, value in self._memory.sequences.cache.state().items()}
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on where `save` left off; the file holds data only, no code.

        Raises:
            InputError: The file is no saved conversation, or one with another model.
        """
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            facts = json.loads(arrays.pop("facts").tobytes())
            ids = arrays.pop("ids")
            messages, bundle, form = facts["messages"], facts["bundle"], facts["format"]
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is no saved conversation ({error}); give a file that save() wrote") from error
        if form != _FORMAT:
            raise InputError(f"{path} has format {form}, this edgenlp reads format {_FORMAT}; begin a new conversation")
        if bundle != _fingerprint(self._task.bundle):
            raise InputError(f"{path} was saved with another model than {self._task.bundle.name}; open it with its own")
        state = {name.removeprefix("state."): value for name, value in arrays.items()}
        known = ids.dtype == np.int64 and ids.ndim == 1 and ((ids >= 0) & (ids < self._memory.columns)).all()
        if not known or any(value.ndim != 3 or value.shape[1] != len(ids) for value in state.values()):
            raise InputError(
                f"{path} is damaged: its ids and what the model remembers do not fit; begin a new conversation"
            )
        said = check_messages(messages) if messages else []
        if len(ids):
            self._memory.sequences.cache.restore(state)
        else:
            self._memory.cut(0)
        self._memory.ids = ids.tolist()
        self.messages = said


def _fingerprint(bundle: Bundle) -> str:
    """What only this bundle's files give."""
    digest = hashlib.sha256()
    for name, file in sorted(bundle.files.items()):
        digest.update(f"{name} {file.sha256}\n".encode())
    return digest.hexdigest()
