"""The pickle inside a file of torch.save, read by a machine that can describe tensors and do nothing else.

Refuses to know files, the data of tensors, and what the names in a pickle mean. Nothing here imports `pickle`: a
subclass of its Unpickler with a narrow find_class would still allocate gigabytes for one large number of a memo
(LONG_BINPUT), hash nested tuples for ever, and set attributes on what it was given. Here only the operations exist that
torch.save writes for tensors (protocols 2 to 5); the standard library's `pickletools` describes them.
"""

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from edgenlp.errors import CheckpointError

from .torch_names import GLOBALS, Builder, Storage, StorageType, UnfitError, set_item

# A tensor takes about 150 bytes, so this is room for 100,000; one byte can cost about 100 in memory.
MAX_PICKLE = 16 * 2**20

_RESAVE = (
    "Where you trust the file, load it with transformers and PyTorch and save it with "
    "save_pretrained(folder, safe_serialization=True)."
)


def read_pickle(data: bytes, where: str) -> Any:
    """The object in a pickle: dicts, lists, tuples, text, numbers, `TorchTensor`s.

    Raises:
        CheckpointError: the pickle is damaged, asks for what a table of tensors does not need, or is too large.
    """
    if len(data) > MAX_PICKLE:
        raise CheckpointError(f"{where} has {len(data):,} bytes, expected {MAX_PICKLE:,} at most. {_RESAVE}")
    return _Machine(data, where).run()


class _Machine:
    """A stack, a memo and a position. One use: `run`."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data = data
        self._where = where
        self._at = 0
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each open mark
        self._memo: dict[int, Any] = {}  # a dict, so that a large number costs nothing

    def run(self) -> Any:
        try:
            while True:
                code = self._take(1)
                if code == b".":  # STOP
                    return self._stack.pop()
                operation = _OPERATIONS.get(code)
                if operation is None:
                    raise CheckpointError(
                        f"{self._where} uses the pickle operation {code!r}, which torch.save never writes for tensors. "
                        f"It was refused: nothing was run. {_RESAVE}"
                    )
                operation(self)
        except (IndexError, KeyError, struct.error, UnfitError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{self._where} is damaged or hostile: it makes no sense at byte {self._at:,}. Fetch the file again."
            ) from error

    def _take(self, count: int) -> bytes:
        """The next `count` bytes; the announced length is compared with what is there before anything is allocated."""
        if count > len(self._data) - self._at:
            raise CheckpointError(f"{self._where} ends too early. The file is truncated: fetch it again.")
        self._at += count
        return self._data[self._at - count : self._at]

    def _number(self, layout: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))[0]

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        return self._take((end if end >= 0 else len(self._data)) + 1 - self._at)[:-1].decode("utf-8")

    def _since_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._below.pop()
        return items

    # One method per operation, or per group that differs in the width of a number.

    def skip(self, count: int) -> None:
        self._take(count)

    def constant(self, value: Any) -> None:
        self._stack.append(value)

    def empty(self, kind: Callable[[], Any]) -> None:
        self._stack.append(kind())

    def number(self, layout: str) -> None:
        self._stack.append(self._number(layout))

    def long(self) -> None:
        self._stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def text(self, layout: str) -> None:
        self._stack.append(self._take(self._number(layout)).decode("utf-8", "surrogatepass"))

    def binary(self, layout: str) -> None:
        self._stack.append(self._take(self._number(layout)))

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def tuple_of(self, count: int) -> None:
        if len(self._stack) < count:
            raise UnfitError
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def tuple_since_mark(self) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise UnfitError
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise UnfitError
        for key, value in zip(items[::2], items[1::2], strict=True):
            set_item(self._stack[-1], key, value)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        set_item(self._stack[-1], key, value)

    def put(self, layout: str) -> None:
        self._memo[self._number(layout)] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, layout: str) -> None:
        self._stack.append(self._memo[self._number(layout)])

    def global_in_text(self) -> None:
        module, name = self._line(), self._line()
        self._global(module, name)

    def instance(self) -> None:
        """INST, which torch.save never writes: read only so that the refusal can name the object."""
        self.global_in_text()
        raise UnfitError

    def global_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnfitError
        self._global(module, name)

    def _global(self, module: str, name: str) -> None:
        found = GLOBALS.get((module, name))
        if found is None:
            raise CheckpointError(
                f"{self._where} asks for the Python object {f'{module}.{name}'[:200]!r}, which no table of tensors "
                f"needs. It was refused: nothing was imported or run. {_RESAVE}"
            )
        self._stack.append(found)

    def call(self) -> None:
        args, builder = self._stack.pop(), self._stack.pop()
        if not isinstance(builder, Builder) or not isinstance(args, tuple):
            raise UnfitError
        self._stack.append(builder.build(args))

    def set_state(self) -> None:
        """BUILD. A state_dict carries its `_metadata` (versions of modules) this way; no tensor depends on it."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict):
            raise UnfitError

    def storage(self) -> None:
        """BINPERSID: ("storage", type, key, device, count), as torch.save's persistent_id writes it."""
        match self._stack.pop():
            case ("storage", StorageType(dtype), str(key), _, int(count)):
                self._stack.append(Storage(key, dtype, count))
            case _:
                raise UnfitError


_OPERATIONS: Mapping[bytes, Callable[[_Machine], None]] = MappingProxyType(
    {
        b"\x80": lambda machine: machine.skip(1),  # PROTO
        b"\x95": lambda machine: machine.skip(8),  # FRAME
        b"N": lambda machine: machine.constant(None),  # NONE
        b"\x88": lambda machine: machine.constant(True),  # NEWTRUE
        b"\x89": lambda machine: machine.constant(False),  # NEWFALSE
        b")": lambda machine: machine.empty(tuple),  # EMPTY_TUPLE
        b"]": lambda machine: machine.empty(list),  # EMPTY_LIST
        b"}": lambda machine: machine.empty(dict),  # EMPTY_DICT
        b"J": lambda machine: machine.number("<i"),  # BININT
        b"K": lambda machine: machine.number("<B"),  # BININT1
        b"M": lambda machine: machine.number("<H"),  # BININT2
        b"G": lambda machine: machine.number(">d"),  # BINFLOAT
        b"\x8a": _Machine.long,  # LONG1
        b"X": lambda machine: machine.text("<I"),  # BINUNICODE
        b"\x8c": lambda machine: machine.text("<B"),  # SHORT_BINUNICODE
        b"\x8d": lambda machine: machine.text("<Q"),  # BINUNICODE8
        b"B": lambda machine: machine.binary("<I"),  # BINBYTES
        b"C": lambda machine: machine.binary("<B"),  # SHORT_BINBYTES
        b"\x8e": lambda machine: machine.binary("<Q"),  # BINBYTES8
        b"(": _Machine.mark,  # MARK
        b"t": _Machine.tuple_since_mark,  # TUPLE
        b"\x85": lambda machine: machine.tuple_of(1),  # TUPLE1
        b"\x86": lambda machine: machine.tuple_of(2),  # TUPLE2
        b"\x87": lambda machine: machine.tuple_of(3),  # TUPLE3
        b"a": lambda machine: machine.append([machine._stack.pop()]),  # APPEND
        b"e": lambda machine: machine.append(machine._since_mark()),  # APPENDS
        b"s": _Machine.set_item,  # SETITEM
        b"u": lambda machine: machine.set_items(machine._since_mark()),  # SETITEMS
        b"q": lambda machine: machine.put("<B"),  # BINPUT
        b"r": lambda machine: machine.put("<I"),  # LONG_BINPUT
        b"\x94": _Machine.memoize,  # MEMOIZE
        b"h": lambda machine: machine.get("<B"),  # BINGET
        b"j": lambda machine: machine.get("<I"),  # LONG_BINGET
        b"c": _Machine.global_in_text,  # GLOBAL
        b"i": _Machine.instance,  # INST
        b"\x93": _Machine.global_on_stack,  # STACK_GLOBAL
        b"R": _Machine.call,  # REDUCE
        b"b": _Machine.set_state,  # BUILD
        b"Q": _Machine.storage,  # BINPERSID
    }
)
