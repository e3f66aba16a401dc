"""The checkpoint reader: what it reads equals what was written, and no file, however odd, makes it do anything else.

tests/data/torch_zip.bin is the one file here that PyTorch wrote (2.13, by the code below; its numbers are made up, so
no licence binds them). All other files are built here, byte by byte.

    embedding, grid = torch.arange(12.0).reshape(4, 3), torch.arange(40.0).reshape(5, 8)
    table = collections.OrderedDict([
        ("float32", torch.tensor([[1.5, -2.0], [0.25, 3e38]])),
        ("float16", torch.tensor([1.5, -2.0], dtype=torch.float16)),
        ("bfloat16", torch.tensor([1.5, -2.0, 3e38], dtype=torch.bfloat16)),
        ("int64", torch.tensor([[0, 1, 2**40]])),
        ("uint16", torch.tensor([0, 65535], dtype=torch.uint16)),
        ("bool", torch.tensor([True, False])),
        ("tied.a", embedding), ("tied.b", embedding),
        ("sliced", grid[1:4, 2:7:2]), ("transposed", grid.t()),
        ("parameter", torch.nn.Parameter(torch.tensor(7.0))),
        ("empty", torch.empty(0, 3)),
        ("LayerNorm.gamma", torch.ones(2)),
    ])
    table._metadata = collections.OrderedDict([("", {"version": 1})])
    torch.save({"state_dict": table, "epoch": 3, "betas": (0.9, 0.999), "size": torch.Size([1, 2]),
                "dtype": torch.float16}, "torch_zip.bin")
"""

import collections
import json
import os
import pickle
import shutil
import struct
import tracemalloc
import weakref
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgenlp_export.checkpoint import Checkpoint, open_checkpoint

from edgenlp.errors import CheckpointError, EdgeNLPError, UnsupportedError

REAL = Path(__file__).parent / "data" / "torch_zip.bin"
LARGE = 512 * 2**20  # bytes, of which a sparse file stores almost none

# ---- builders: safetensors ----------------------------------------------------------------------------------------


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def arrays(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A whole safetensors file of float32 tensors."""
    header, data = {}, b""
    for name, array in tensors.items():
        header[name] = entry("F32", list(array.shape), len(data), len(data) + 4 * array.size)
        data += array.astype("<f4").tobytes()
    return safetensors(header, data)


ONE = arrays({"a": np.float32([1, 2, 3])})


# ---- builders: torch.save -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A global: `module.name`."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    args: Any


@dataclass(frozen=True)
class Storage:
    kind: str
    key: Any
    count: Any


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    code: bytes


HOOKS = Call(Name("collections", "OrderedDict"), ())


def tensor(
    kind: str,
    key: Any,
    count: Any,
    *,
    shape: Any = None,
    strides: Any = (1,),
    offset: Any = 0,
    rest: Sequence[Any] = (),
) -> Call:
    """What torch.save writes for a tensor: `count` numbers in the record `key`, seen as `shape`."""
    args = (Storage(kind, key, count), offset, (count,) if shape is None else shape, strides, False, HOOKS, *rest)
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), args)


def opcodes(value: Any) -> bytes:
    """The value as protocol 2 of pickle writes it, without a memo."""
    match value:
        case Raw(code):
            return code
        case Name(module, name):
            return b"c" + f"{module}\n{name}\n".encode()
        case Call(function, args):
            return opcodes(function) + opcodes(args) + b"R"
        case Storage(kind, key, count):
            return opcodes(("storage", Name("torch", f"{kind}Storage"), key, "cpu", count)) + b"Q"
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def write_zip(file: Path, records: Sequence[tuple[str, bytes | int]], *, local_name: str = "") -> None:
    """A zip file of uncompressed records; a record given as a number is that many zeros, without space on disk."""
    directory = b""
    with file.open("wb") as stream:
        for name, content in records:
            size = content if isinstance(content, int) else len(content)
            start = stream.tell()
            common = struct.pack("<5H3I2H", 0, 0x800, 0, 0, 0, 0, size, size, len(name.encode()), 0)
            stream.write(b"PK\x03\x04" + common + (local_name or name).encode())
            if isinstance(content, int):
                stream.seek(content, os.SEEK_CUR)
            else:
                stream.write(content)
            directory += b"PK\x01\x02\0\0" + common + struct.pack("<3H2I", 0, 0, 0, 0, start) + name.encode()
        start = stream.tell()
        stream.write(directory)
        stream.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, len(records), len(records), len(directory), start, 0))


FLOATS = np.arange(12, dtype="<f4")


# ---- builders: folders --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    return tmp_path


def with_safetensors(folder: Path, content: bytes) -> Path:
    (folder / "model.safetensors").write_bytes(content)
    return folder


def with_pickle(folder: Path, data: bytes, **records: bytes | int) -> Path:
    """A pytorch_model.bin with this pickle and these records: `_0` is data/0."""
    rest = [(f"model/data/{key[1:]}", content) for key, content in records.items()]
    write_zip(folder / "pytorch_model.bin", [("model/data.pkl", data), ("model/version", b"3\n"), *rest])
    return folder


def with_floats(folder: Path, value: Any) -> Path:
    """A pytorch_model.bin that holds `value` and, in the record 0, twelve floats."""
    return with_pickle(folder, pickled(value), _0=FLOATS.tobytes())


def read(folder: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(folder) as checkpoint:
        return {name: checkpoint.tensor(name) for name in checkpoint.names()}


def refused(folder: Path, *, naming: str, kind: type[EdgeNLPError] = CheckpointError) -> None:
    with pytest.raises(EdgeNLPError, match=naming) as caught:
        open_checkpoint(folder)
    assert type(caught.value) is kind


# ---- the folder and config.json -----------------------------------------------------------------------------------


def test_config_is_returned_as_it_is(folder: Path) -> None:
    (folder / "config.json").write_text('{"id2label": {"0": "né"}, "eps": 1e-12}', encoding="utf-8")
    with open_checkpoint(str(with_safetensors(folder, ONE))) as checkpoint:
        assert checkpoint.config == {"id2label": {"0": "né"}, "eps": 1e-12}
        assert checkpoint.folder == folder


def test_a_hub_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"no folder .org/model-v1.0.; give a checkpoint.s folder, or the name of a model on the Hub",
    ):
        open_checkpoint("org/model-v1.0")


def test_a_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no such", naming="no folder .*no such")


def test_a_file_is_no_folder(folder: Path) -> None:
    refused(folder / "config.json", naming="is a file, expected a checkpoint folder")


def test_an_impossible_path() -> None:
    for path in ("a\0b", "x" * 5000):
        with pytest.raises(CheckpointError):
            open_checkpoint(path)


def test_no_config(tmp_path: Path) -> None:
    refused(with_safetensors(tmp_path, ONE), naming="no config.json")
    (tmp_path / "config.json").mkdir()
    refused(tmp_path, naming="no config.json")


@pytest.mark.parametrize(
    ("text", "naming"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[1]", "a JSON list, expected an object"),
        (b"null", "expected an object"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * (32 * 2**20 + 1), "larger than 33,554,432 bytes"),
    ],
)
def test_bad_config(folder: Path, text: bytes, naming: str) -> None:
    (folder / "config.json").write_bytes(text)
    refused(with_safetensors(folder, ONE), naming=naming)


# ---- which file holds the weights ---------------------------------------------------------------------------------


def test_order_of_preference(folder: Path) -> None:
    def shard(name: str, value: float) -> None:
        (folder / name).write_bytes(arrays({"a": np.float32([value])}))

    def index(name: str, shard_name: str) -> None:
        (folder / name).write_text(json.dumps({"weight_map": {"a": shard_name}}))

    def binary(name: str, value: float) -> None:
        data = np.float32([value]).tobytes()
        write_zip(folder / name, [("m/data.pkl", pickled({"a": tensor("Float", "0", 1)})), ("m/data/0", data)])

    shard("model.safetensors", 1)
    shard("model-00001-of-00001.safetensors", 2)
    index("model.safetensors.index.json", "model-00001-of-00001.safetensors")
    binary("pytorch_model.bin", 3)
    binary("pytorch_model-00001-of-00001.bin", 4)
    index("pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin")
    for value, name in enumerate(
        ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"), 1
    ):
        assert read(folder)["a"] == [value]
        (folder / name).unlink()
    refused(folder, naming="no weights, expected one of model.safetensors")


def test_config_may_name_the_weights(folder: Path) -> None:
    (folder / "other.safetensors").write_bytes(ONE)
    (folder / "config.json").write_text('{"transformers_weights": "other.safetensors"}')
    assert list(read(folder)) == ["a"]


@pytest.mark.parametrize("name", ["../other.safetensors", "/other.safetensors", "other.bin", 3])
def test_config_may_not_name_other_files(folder: Path, name: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"transformers_weights": name}))
    refused(with_safetensors(folder, ONE), naming="config.json")


def test_weights_of_other_frameworks(folder: Path) -> None:
    (folder / "tf_model.h5").write_bytes(b"")
    refused(folder, naming="tf_model.h5 but no PyTorch weights", kind=UnsupportedError)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_git_lfs_pointer(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    refused(folder, naming="git lfs pull")


def test_links_are_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    blob = tmp_path_factory.mktemp("blobs") / "0123"
    blob.write_bytes(ONE)
    (folder / "model.safetensors").symlink_to(blob)
    assert np.array_equal(read(folder)["a"], [1, 2, 3])


# ---- shards -------------------------------------------------------------------------------------------------------


def with_index(folder: Path, weight_map: Any, **shards: bytes) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for name, content in shards.items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return folder


def test_shards(folder: Path) -> None:
    one, two = arrays({"b": np.float32([1]), "unlisted": np.float32([5])}), arrays({"a": np.float32([[2, 3]])})
    tensors = read(with_index(folder, {"b": "one.safetensors", "a": "two.safetensors"}, one=one, two=two))
    assert list(tensors) == ["a", "b"]
    assert np.array_equal(tensors["a"], [[2, 3]])
    assert np.array_equal(tensors["b"], [1])


def test_missing_shard(folder: Path) -> None:
    refused(with_index(folder, {"a": "gone.safetensors"}), naming="gone.safetensors is missing")


def test_missing_tensor(folder: Path) -> None:
    refused(with_index(folder, {"z": "one.safetensors"}, one=ONE), naming="'z' is in one.safetensors, but it is not")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret.safetensors",
        "sub/../../secret.safetensors",
        "..\\secret.safetensors",
        "C:secret.safetensors",
        "C:/secret.safetensors",
        "//host/secret.safetensors",
        "./one.safetensors",
        "one.safetensors\0",
        "",
        ".",
    ],
)
def test_an_index_stays_in_its_folder(folder: Path, name: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "secret.safetensors").write_bytes(ONE)
    shutil.copy(folder / "config.json", inner)
    refused(with_index(inner, {"a": name}, one=ONE), naming="not a file inside the folder")


def test_an_index_leads_to_no_index(folder: Path) -> None:
    refused(with_index(folder, {"a": "model.safetensors.index.json"}), naming="another index")


@pytest.mark.parametrize("weight_map", [None, [], {"a": 1}, {"a": None}, {"a": ["one.safetensors"]}, "one.safetensors"])
def test_bad_weight_map(folder: Path, weight_map: Any) -> None:
    refused(with_index(folder, weight_map, one=ONE), naming="no weight_map")


def test_an_index_names_each_tensor_once(folder: Path) -> None:
    text = '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}'
    with_index(folder, {}, one=ONE, two=ONE)
    (folder / "model.safetensors.index.json").write_text(text)
    refused(folder, naming="'a' appears twice")


# ---- the Checkpoint -----------------------------------------------------------------------------------------------


def test_checkpoint_facts(folder: Path) -> None:
    with_safetensors(folder, arrays({"b": np.zeros((2, 3)), "a": np.zeros(())}))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.names() == ("a", "b")
        assert "a" in checkpoint
        assert "c" not in checkpoint
        assert (checkpoint.shape("a"), checkpoint.shape("b")) == ((), (2, 3))
        assert checkpoint.dtype("b") == "float32"


def test_an_unknown_name(folder: Path) -> None:
    with_safetensors(folder, arrays({"encoder.weight": np.zeros(1)}))
    with open_checkpoint(folder) as checkpoint:
        for ask in (checkpoint.shape, checkpoint.dtype, checkpoint.tensor):
            with pytest.raises(CheckpointError, match=r"no tensor 'encode\.weight'.*'encoder\.weight'"):
                ask("encode.weight")


def test_tensors_are_read_only_views(folder: Path) -> None:
    with_safetensors(folder, ONE)
    with open_checkpoint(folder) as checkpoint:
        first, second = checkpoint.tensor("a"), checkpoint.tensor("a")
        assert np.shares_memory(first, second)
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 5
        with pytest.raises(ValueError, match="WRITEABLE"):
            first.flags.writeable = True


def test_close_lets_go_but_keeps_what_was_handed_out(folder: Path) -> None:
    checkpoint = open_checkpoint(with_safetensors(folder, ONE))
    array = checkpoint.tensor("a")
    mapped: Any = array
    while not isinstance(mapped, np.memmap):
        mapped = mapped.base
    file = weakref.ref(mapped)
    del mapped
    checkpoint.close()
    checkpoint.close()
    assert array.tolist() == [1, 2, 3]
    with pytest.raises(CheckpointError, match="is closed"):
        checkpoint.tensor("a")
    del array
    assert file() is None


def test_a_file_cut_short_after_opening(folder: Path) -> None:
    with_safetensors(folder, ONE)
    for length in (0, len(ONE) - 1):
        with open_checkpoint(folder) as checkpoint:
            with (folder / "model.safetensors").open("r+b") as stream:
                stream.truncate(length)
            with pytest.raises(CheckpointError, match=r"cut short|cannot be mapped"):
                checkpoint.tensor("a")
        with_safetensors(folder, ONE)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_opening_reads_no_data(folder: Path, kind: str) -> None:
    count = LARGE // 4
    if kind == "safetensors":
        with_safetensors(folder, safetensors({"a": entry("F32", [count], 0, LARGE)}))
        with (folder / "model.safetensors").open("r+b") as stream:
            stream.seek(LARGE, os.SEEK_END)
            stream.truncate()
    else:
        with_pickle(folder, pickled({"a": tensor("Float", "0", count)}), _0=LARGE)
    tracemalloc.start()
    try:
        with open_checkpoint(folder) as checkpoint:
            assert checkpoint.shape("a") == (count,)
            assert checkpoint.tensor("a")[-1] == 0
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bert.LayerNorm.gamma", "bert.LayerNorm.weight"),
        ("bert.LayerNorm.beta", "bert.LayerNorm.bias"),
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.gamma.LayerNorm.beta", "LayerNorm.gamma.LayerNorm.bias"),
        ("layer_norm.gamma", "layer_norm.gamma"),
        ("gamma", "gamma"),
        ("LayerNorm.gamma.x", "LayerNorm.gamma.x"),
    ],
)
def test_old_names(folder: Path, old: str, new: str) -> None:
    assert list(read(with_safetensors(folder, arrays({old: np.zeros(1)})))) == [new]


@pytest.mark.parametrize("order", [1, -1])
def test_an_old_and_a_new_name(folder: Path, order: int) -> None:
    names = ["LayerNorm.gamma", "LayerNorm.weight"][::order]
    refused(with_safetensors(folder, arrays({name: np.zeros(1) for name in names})), naming="two tensors for")


# ---- safetensors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "name", "array"),
    [
        ("F64", "float64", np.array([1.5, -2], "<f8")),
        ("F32", "float32", np.array([1.5, -2], "<f4")),
        ("F16", "float16", np.array([1.5, -2], "<f2")),
        ("I64", "int64", np.array([2**40, -2], "<i8")),
        ("I32", "int32", np.array([2**30, -2], "<i4")),
        ("I16", "int16", np.array([2**14, -2], "<i2")),
        ("I8", "int8", np.array([127, -2], "i1")),
        ("U64", "uint64", np.array([2**63, 2], "<u8")),
        ("U32", "uint32", np.array([2**31, 2], "<u4")),
        ("U16", "uint16", np.array([2**15, 2], "<u2")),
        ("U8", "uint8", np.array([255, 2], "u1")),
        ("BOOL", "bool", np.array([True, False])),
    ],
)
def test_safetensors_dtypes(folder: Path, stored: str, name: str, array: np.ndarray) -> None:
    with_safetensors(folder, safetensors({"a": entry(stored, [2, 1], 0, array.nbytes)}, array.tobytes()))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.dtype("a") == name
        assert checkpoint.tensor("a").dtype == array.dtype
        assert np.array_equal(checkpoint.tensor("a"), array[:, None])


def test_bfloat16_is_widened(folder: Path) -> None:
    bits = np.array([0x3FC0, 0xC000, 0x7F80, 0x0001], "<u2")  # 1.5, -2, infinity, the smallest subnormal
    with_safetensors(folder, safetensors({"a": entry("BF16", [4], 0, 8)}, bits.tobytes()))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.dtype("a") == "bfloat16"
        array = checkpoint.tensor("a")
    assert array.dtype == np.float32
    assert array.tolist() == [1.5, -2.0, np.inf, 2.0**-133]
    assert not array.flags.writeable


def test_unaligned_data(folder: Path) -> None:
    text = json.dumps({"a": entry("F32", [2], 0, 8)}).encode()
    for spaces in range(8):
        with_safetensors(folder, safetensors(text + b" " * spaces, np.float32([1, 2]).tobytes()))
        assert np.array_equal(read(folder)["a"], [1, 2])


def test_empty_tensors_and_scalars(folder: Path) -> None:
    header = {"e": entry("F32", [0, 768], 0, 0), "f": entry("BF16", [3, 0], 0, 0), "s": entry("F32", [], 0, 4)}
    tensors = read(with_safetensors(folder, safetensors(header, np.float32(7).tobytes())))
    assert tensors["e"].shape == (0, 768)
    assert tensors["f"].shape == (3, 0)
    assert tensors["f"].dtype == np.float32
    assert tensors["s"] == 7
    assert tensors["s"].shape == ()


def test_a_file_without_tensors(folder: Path) -> None:
    assert read(with_safetensors(folder, safetensors({"__metadata__": {"format": "pt"}}))) == {}


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4", "C64"])
def test_safetensors_dtypes_without_equivalent(folder: Path, dtype: str) -> None:
    with_safetensors(folder, safetensors({"odd.weight": entry(dtype, [1], 0, 1)}, b"\0"))
    refused(folder, naming=f"'odd.weight' is stored as {dtype}", kind=UnsupportedError)


def test_safetensors_of_tensorflow(folder: Path) -> None:
    with_safetensors(folder, safetensors({"__metadata__": {"format": "tf"}}))
    refused(folder, naming="laid out for TensorFlow", kind=UnsupportedError)


DATA = bytes(16)
BAD_SAFETENSORS = {
    "nothing": (b"", "truncated"),
    "seven bytes": (b"\0" * 7, "truncated"),
    "header past the end": (b"\x10" + b"\0" * 7 + b"{}", "truncated"),
    "header of 2**64": (b"\xff" * 8 + b"{}", "truncated"),
    "no header": (b"\0" * 8, "not valid JSON"),
    "no JSON": (safetensors(b"hello"), "not valid JSON"),
    "no UTF-8": (safetensors(b'{"\xff": 1}'), "not valid JSON"),
    "a list": (safetensors([]), "expected an object"),
    "deep": (safetensors(b'{"a":' * 100_000), "nested too deeply"),
    "deep lists": (safetensors(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "a name twice": (safetensors(b'{"a": {}, "a": {}}'), "'a' appears twice"),
    "a field twice": (safetensors(b'{"a": {"dtype": "F32", "dtype": "F16"}}'), "'dtype' appears twice"),
    "metadata": (safetensors({"__metadata__": []}), "__metadata__ is not an object"),
    "no entry": (safetensors({"a": 1}, DATA), "lacks a plausible"),
    "no fields": (safetensors({"a": {}}, DATA), "lacks a plausible"),
    "dtype is a number": (safetensors({"a": entry(1, [4], 0, 16)}, DATA), "lacks a plausible"),
    "dtype unknown": (safetensors({"a": entry("Q7", [4], 0, 16)}, DATA), "unknown dtype 'Q7'"),
    "shape is a number": (safetensors({"a": entry("F32", 4, 0, 16)}, DATA), "lacks a plausible"),
    "negative size": (safetensors({"a": entry("F32", [-4], 0, 16)}, DATA), "impossible size"),
    "two negative sizes": (safetensors({"a": entry("F32", [-2, -2], 0, 16)}, DATA), "impossible size"),
    "size is true": (safetensors({"a": entry("F32", [True, 4], 0, 16)}, DATA), "impossible size"),
    "size is a float": (safetensors({"a": entry("F32", [4.0], 0, 16)}, DATA), "impossible size"),
    "size is text": (safetensors({"a": entry("F32", ["4"], 0, 16)}, DATA), "impossible size"),
    "size is a list": (safetensors({"a": entry("F32", [[4]], 0, 16)}, DATA), "impossible size"),
    "product wraps to 16": (safetensors({"a": entry("F32", [2**62 + 1, 4], 0, 16)}, DATA), "impossible"),
    "product wraps to 0": (safetensors({"a": entry("F32", [2**32, 2**32], 0, 0)}), "impossible"),
    "empty but absurd": (safetensors({"a": entry("F32", [0, 2**61, 8], 0, 0)}), "impossible"),
    "too many dimensions": (safetensors({"a": entry("F32", [1] * 33 + [4], 0, 16)}, DATA), "34 dimensions"),
    "too small": (safetensors({"a": entry("F32", [3], 0, 16)}, DATA), "12 bytes for its shape, but 16"),
    "too large": (safetensors({"a": entry("F32", [5], 0, 16)}, DATA), "needs 20 bytes, but 16"),
    "past the end": (safetensors({"a": entry("F32", [5], 0, 20)}, DATA), "ends at byte 20"),
    "far past the end": (safetensors({"a": entry("U8", [2**61], 0, 2**61)}, DATA), "truncated"),
    "offsets reversed": (safetensors({"a": entry("F32", [4], 16, 0)}, DATA), "lacks a plausible"),
    "negative offset": (safetensors({"a": entry("F32", [4], -16, 0)}, DATA), "lacks a plausible"),
    "three offsets": (safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}}, DATA), "lacks"),
    "gap in front": (safetensors({"a": entry("F32", [3], 4, 16)}, DATA), "overlap or leave a gap"),
    "gap between": (
        safetensors({"a": entry("F32", [1], 0, 4), "b": entry("F32", [2], 8, 16)}, DATA),
        "overlap or leave a gap",
    ),
    "overlap": (
        safetensors({"a": entry("F32", [3], 0, 12), "b": entry("F32", [2], 8, 16)}, DATA),
        "overlap or leave a gap",
    ),
    "the same bytes": (
        safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [4], 0, 16)}, DATA),
        "overlap or leave a gap",
    ),
    "bytes left over": (safetensors({"a": entry("F32", [3], 0, 12)}, DATA), "4 bytes after its last tensor"),
}


@pytest.mark.parametrize("case", BAD_SAFETENSORS)
def test_bad_safetensors(folder: Path, case: str) -> None:
    content, naming = BAD_SAFETENSORS[case]
    refused(with_safetensors(folder, content), naming=naming)


def test_every_truncation_of_safetensors(folder: Path) -> None:
    for length in range(len(ONE)):
        refused(with_safetensors(folder, ONE[:length]), naming="model.safetensors")


def test_a_header_above_the_limit(folder: Path) -> None:
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write((100_000_001).to_bytes(8, "little"))
        stream.seek(100_000_010)
        stream.write(b"\0")
    tracemalloc.start()
    try:
        refused(folder, naming="the format allows 100,000,000")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# ---- torch.save: what is read -------------------------------------------------------------------------------------


def test_a_file_that_torch_wrote(folder: Path) -> None:
    shutil.copy(REAL, folder / "pytorch_model.bin")
    grid = np.arange(40, dtype=np.float32).reshape(5, 8)
    embedding = np.arange(12, dtype=np.float32).reshape(4, 3)
    wide = np.array([0x3FC00000, 0xC0000000, 0x7F620000], np.uint32).view(np.float32)  # 1.5, -2, about 3e38
    expected = {
        "float32": ("float32", np.float32([[1.5, -2.0], [0.25, 3e38]])),
        "float16": ("float16", np.float16([1.5, -2.0])),
        "bfloat16": ("bfloat16", wide),
        "int64": ("int64", np.array([[0, 1, 2**40]])),
        "uint16": ("uint16", np.uint16([0, 65535])),
        "bool": ("bool", np.array([True, False])),
        "tied.a": ("float32", embedding),
        "tied.b": ("float32", embedding),
        "sliced": ("float32", grid[1:4, 2:7:2]),
        "transposed": ("float32", grid.T),
        "parameter": ("float32", np.array(7, np.float32)),
        "empty": ("float32", np.zeros((0, 3), np.float32)),
        "LayerNorm.weight": ("float32", np.ones(2, np.float32)),
    }
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.names() == tuple(sorted(expected))
        for name, (dtype, array) in expected.items():
            assert checkpoint.dtype(name) == dtype
            assert checkpoint.shape(name) == array.shape
            found = checkpoint.tensor(name)
            assert found.dtype == array.dtype
            assert np.array_equal(found, array), name
            assert not found.flags.writeable
        assert np.shares_memory(checkpoint.tensor("tied.a"), checkpoint.tensor("tied.b"))


def test_every_truncation_of_what_torch_wrote(folder: Path) -> None:
    content = REAL.read_bytes()
    for length in range(0, len(content), 61):
        (folder / "pytorch_model.bin").write_bytes(content[:length])
        refused(folder, naming="pytorch_model.bin")


def test_changed_bytes_of_what_torch_wrote(folder: Path) -> None:
    """Whatever a changed byte does, it ends in an error of ours or in arrays that lie inside the file."""
    content, random = REAL.read_bytes(), np.random.RandomState(0)
    outcomes = collections.Counter()
    for _ in range(300):
        changed = bytearray(content)
        changed[random.randint(2600)] = random.randint(256)
        (folder / "pytorch_model.bin").write_bytes(changed)
        try:
            outcomes[sum(array.nbytes for array in read(folder).values()) < 2 * len(content)] += 1
        except EdgeNLPError:
            outcomes["refused"] += 1
    assert set(outcomes) == {True, "refused"}


@pytest.mark.parametrize(
    ("kind", "name", "array"),
    [
        ("Double", "float64", np.array([1.5, -2], "<f8")),
        ("Float", "float32", np.array([1.5, -2], "<f4")),
        ("Half", "float16", np.array([1.5, -2], "<f2")),
        ("Long", "int64", np.array([2**40, -2], "<i8")),
        ("Int", "int32", np.array([2**30, -2], "<i4")),
        ("Short", "int16", np.array([2**14, -2], "<i2")),
        ("Char", "int8", np.array([127, -2], "i1")),
        ("Byte", "uint8", np.array([255, 2], "u1")),
        ("Bool", "bool", np.array([True, False])),
    ],
)
def test_torch_dtypes(folder: Path, kind: str, name: str, array: np.ndarray) -> None:
    with_pickle(folder, pickled({"a": tensor(kind, "0", 2)}), _0=array.tobytes())
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.dtype("a") == name
        assert checkpoint.tensor("a").dtype == array.dtype
        assert np.array_equal(checkpoint.tensor("a"), array)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "expected"),
    [
        ((3, 4), (4, 1), 0, FLOATS.reshape(3, 4)),
        ((4, 3), (1, 4), 0, FLOATS.reshape(3, 4).T),
        ((2, 2), (4, 2), 5, FLOATS.reshape(3, 4)[1:, 1::2]),
        ((2, 3), (0, 1), 2, np.broadcast_to(FLOATS[2:5], (2, 3))),
        ((1, 2), (2**61, 1), 10, FLOATS[None, 10:]),
        ((), (), 11, FLOATS[11]),
        ((0, 5), (5, 1), 12, np.zeros((0, 5))),
    ],
)
def test_strides(folder: Path, shape: Any, strides: Any, offset: int, expected: np.ndarray) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12, shape=shape, strides=strides, offset=offset)})
    assert np.array_equal(read(folder)["a"], expected)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_tensors_one_level_down(folder: Path, key: str) -> None:
    with_floats(folder, {"epoch": 3, "lr": 0.1, "args": [None, "x", (True,)], key: {"a": tensor("Float", "0", 12)}})
    assert np.array_equal(read(folder)["a"], FLOATS)


def test_what_is_no_tensor_is_left_out(folder: Path) -> None:
    size = Call(Name("torch", "Size"), ((1, 2),))
    deeper = {"state_dict": {"hidden": tensor("Float", "0", 12)}}
    with_floats(folder, {"a": tensor("Float", "0", 12), 5: tensor("Float", "0", 12), "size": size, "other": deeper})
    assert list(read(folder)) == ["a"]


@pytest.mark.parametrize(
    "value", [{}, [], 3, {"a": 1}, {"x": {"a": tensor("Float", "0", 12)}}, tensor("Float", "0", 12)]
)
def test_no_named_tensors(folder: Path, value: Any) -> None:
    refused(with_floats(folder, value), naming="no dict of named tensors")


def test_protocol_4_and_a_memo(folder: Path) -> None:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode() + b"\x94"

    name = tensor("Float", "0", 12)
    code = (
        b"\x80\x04\x95" + bytes(8) + b"}\x94(" + text("a") + text("torch._utils") + text("_rebuild_tensor_v2") + b"\x93"
        b"\x94" + opcodes(name.args) + b"R\x94" + text("b") + b"h\x05" + b"u."
    )
    tensors = read(with_pickle(folder, code, _0=FLOATS.tobytes()))
    assert np.array_equal(tensors["a"], FLOATS)
    assert np.array_equal(tensors["b"], FLOATS)


def test_a_list_that_holds_itself_is_harmless(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12), "odd": Raw(b"]q\x00h\x00a")})
    assert list(read(folder)) == ["a"]


def test_nesting_of_any_depth_is_harmless(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12), "odd": Raw(b")" + b"\x85" * 500_000)})
    assert list(read(folder)) == ["a"]


def test_zip64(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        for name, content in (("m/data.pkl", pickled({"a": tensor("Float", "0", 12)})), ("m/data/0", FLOATS.tobytes())):
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(content)
    assert b"PK\x06\x06" in (folder / "pytorch_model.bin").read_bytes()
    assert np.array_equal(read(folder)["a"], FLOATS)


# ---- torch.save: what is not supported ----------------------------------------------------------------------------


def test_the_format_before_1_6(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
    refused(folder, naming="before PyTorch 1.6.*safe_serialization=True", kind=UnsupportedError)


@pytest.mark.parametrize("kind", ["ComplexFloat", "ComplexDouble"])
def test_complex_numbers(folder: Path, kind: str) -> None:
    refused(with_floats(folder, {"a": tensor(kind, "0", 1)}), naming="'a' is stored as complex", kind=UnsupportedError)


def test_float8(folder: Path) -> None:
    storage = Raw(opcodes(("storage", Name("torch.storage", "UntypedStorage"), "0", "cpu", 4)) + b"Q")
    args = (storage, 0, (4,), (1,), False, HOOKS, Name("torch", "float8_e4m3fn"))
    with_floats(folder, {"a": Call(Name("torch._utils", "_rebuild_tensor_v3"), args)})
    refused(folder, naming="'a' is stored as float8_e4m3fn", kind=UnsupportedError)


def test_a_negated_view(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12, rest=[{"neg": True}])})
    refused(folder, naming="'a' is stored as a negated", kind=UnsupportedError)


def test_torchscript(folder: Path) -> None:
    write_zip(folder / "pytorch_model.bin", [("m/data.pkl", pickled({})), ("m/constants.pkl", pickled(()))])
    refused(folder, naming="TorchScript", kind=UnsupportedError)


def test_big_endian(folder: Path) -> None:
    write_zip(folder / "pytorch_model.bin", [("m/data.pkl", pickled({})), ("m/byteorder", b"big")])
    refused(folder, naming="big-endian", kind=UnsupportedError)


# ---- torch.save: hostile pickles ----------------------------------------------------------------------------------


class Touch:
    """What a real attacker would write: unpickling it creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_is_run(folder: Path, protocol: int) -> None:
    trap = folder / "trap"
    data = pickle.dumps({"a": Touch(trap)}, protocol=protocol)
    refused(with_pickle(folder, data), naming="data.pkl")
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()  # so the trap works


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("builtins", "set"),
        ("subprocess", "Popen"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("copyreg", "_reconstructor"),
        ("_codecs", "encode"),
        ("numpy", "load"),
        ("torch", "load"),
        ("torch", "device"),
        ("torch.serialization", "load"),
        ("torch.serialization", "_get_layout"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils._rebuild_tensor_v2", "__globals__"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch.nn.modules.linear", "Linear"),
        ("collections.OrderedDict", "__init__"),
        ("collections", "OrderedDict.fromkeys"),
        ("edgenlp_export.torch_names", "_size"),
        ("", ""),
    ],
)
def test_names_outside_the_list(folder: Path, module: str, name: str) -> None:
    shown = f"'{module}.{name}'"
    on_stack = Raw(opcodes(module) + opcodes(name) + b"\x93")
    instance = Raw(b"(" + opcodes("x") + b"i" + f"{module}\n{name}\n".encode())
    for value in (Name(module, name), on_stack, instance):
        for odd in (value, Call(value, ("touch trap",)), {"deep": [(value,)]}):
            refused(with_floats(folder, {"a": tensor("Float", "0", 12), "odd": odd}), naming=shown)


SIZE = Name("torch", "Size")
HASH_BOMB = b")" + b"".join(b"q\x00h\x00\x86" for _ in range(100))  # each tuple holds the one before it twice
NONSENSE = {
    "nothing": b"",
    "only a protocol": b"\x80\x02",
    "only a stop": b".",
    "no stop": pickled({})[:-1],
    "unknown operation": b"\xff.",
    "reduce of nothing": b"R.",
    "reduce of text": pickled(Call("x", ())),
    "reduce of a tensor": pickled(Call(tensor("Float", "0", 1), ())),
    "reduce of a storage type": pickled(Call(Name("torch", "FloatStorage"), (4,))),
    "reduce of a dtype": pickled(Call(Name("torch", "float32"), ())),
    "reduce without a tuple": pickled(Call(SIZE, [(1,)])),
    "reduce of a result": pickled(Call(Call(SIZE, ((1,),)), ())),
    "wrong arguments: Size": pickled(Call(SIZE, (1, 2))),
    "wrong arguments: OrderedDict": pickled(Call(Name("collections", "OrderedDict"), ([(1, 2, 3)],))),
    "wrong arguments: OrderedDict of text": pickled(Call(Name("collections", "OrderedDict"), ("abcd",))),
    "wrong arguments: tensor": pickled(Call(Name("torch._utils", "_rebuild_tensor_v2"), (1, 2, 3))),
    "wrong arguments: tensor of text": pickled(
        Call(Name("torch._utils", "_rebuild_tensor_v2"), ("x", 0, (1,), (1,), 1, 1))
    ),
    "wrong arguments: parameter": pickled(Call(Name("torch._utils", "_rebuild_parameter"), (1, 2, 3))),
    "wrong arguments: typed v3": pickled(
        Call(Name("torch._utils", "_rebuild_tensor_v3"), (*tensor("Float", "0", 1).args, Name("torch", "float32")))
    ),
    "state of a name": pickled(Raw(opcodes(SIZE) + opcodes({"build": 1}) + b"b")),
    "state of a tensor": pickled(Raw(opcodes(tensor("Float", "0", 1)) + opcodes({"storage": 1}) + b"b")),
    "state of nothing": b"Nb.",
    "new object": pickled(Raw(opcodes(SIZE) + b")\x81")),
    "new object with keywords": pickled(Raw(opcodes(SIZE) + b")}\x92")),
    "object": pickled(Raw(b"(" + opcodes(SIZE) + b"o")),
    "instance of a known name": pickled(Raw(b"(itorch\nSize\n")),
    "extension 1": b"\x82\x01.",
    "extension 4": b"\x84\x01\0\0\0.",
    "next buffer": b"\x97.",
    "persistent id as text": b"Pstorage\n.",
    "persistent id is no storage": pickled(Raw(opcodes(("module", "x")) + b"Q")),
    "persistent id is text": pickled(Raw(opcodes("storage") + b"Q")),
    "persistent id of another type": pickled(Raw(opcodes(("storage", SIZE, "0", "cpu", 1)) + b"Q")),
    "key of a storage is a number": pickled({"a": tensor("Float", 0, 12)}),
    "global of numbers": b"K\x01K\x02\x93.",
    "global without lines": b"ctorch",
    "global that is no UTF-8": b"c\xff\n\xff\n.",
    "text that is no UTF-8": b"X\x01\0\0\0\xff.",
    "text of 2**63 bytes": b"\x8d" + struct.pack("<Q", 2**63) + b"x.",
    "bytes of 2**63 bytes": b"\x8e" + struct.pack("<Q", 2**63) + b"x.",
    "bytearray of 2**40 bytes": b"\x96" + struct.pack("<Q", 2**40) + b"x.",
    "integer of 2**31 bytes": b"\x8b\xff\xff\xff\x7f.",
    "memo without a value": b"h\x07.",
    "memo of nothing": b"q\x07.",
    "tuple without a mark": b"t.",
    "tuple of too few": b"K\x01\x86.",
    "append to a tuple": b")K\x01a.",
    "append to a dict": b"}K\x01a.",
    "set item of a list": b"]K\x01K\x01s.",
    "set items of a name": pickled(Raw(opcodes(SIZE) + b"(K\x01K\x01u")),
    "odd number of items": b"}(K\x01u.",
    "tuple as a key": b"})K\x01s.",
    "list as a key": b"}]K\x01s.",
    "hash bomb": b"}" + HASH_BOMB + b"Ns.",
    "hash bomb in OrderedDict": pickled(
        Call(Name("collections", "OrderedDict"), ([(Raw(HASH_BOMB), None)],)),
    ),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_pickles_that_make_no_sense(folder: Path, case: str) -> None:
    refused(with_pickle(folder, NONSENSE[case], _0=FLOATS.tobytes()), naming=r"data\.pkl|no dict of named tensors")


def test_a_memo_bomb_costs_nothing(folder: Path) -> None:
    """The standard unpickler would allocate 32 GB for this memo."""
    with_floats(folder, {"a": tensor("Float", "0", 12), "odd": Raw(b"Nr\xff\xff\xff\x7f")})
    tracemalloc.start()
    try:
        assert list(read(folder)) == ["a"]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_huge_pickle_is_not_read(folder: Path) -> None:
    write_zip(folder / "pytorch_model.bin", [("m/data.pkl", LARGE)])
    tracemalloc.start()
    try:
        refused(folder, naming="expected 16,777,216 at most")
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


BAD_TENSORS = {
    "past the end": (tensor("Float", "0", 12, shape=(13,)), "needs 52 bytes, but 48"),
    "offset past the end": (tensor("Float", "0", 12, shape=(12,), offset=1), "needs 52 bytes, but 48"),
    "empty past the end": (tensor("Float", "0", 12, shape=(0,), offset=13), "needs 52 bytes, but 48"),
    "strides past the end": (tensor("Float", "0", 12, shape=(3, 4), strides=(5, 1)), "but 48"),
    "strides far past the end": (tensor("Float", "0", 12, shape=(2,), strides=(2**61,)), "but 48"),
    "negative offset": (tensor("Float", "0", 12, shape=(2,), offset=-1), "impossible size, stride or offset"),
    "huge offset": (tensor("Float", "0", 12, shape=(2,), offset=2**64), "impossible size, stride or offset"),
    "negative size": (tensor("Float", "0", 12, shape=(-1,)), "impossible size, stride or offset"),
    "negative stride": (tensor("Float", "0", 12, strides=(-1,)), "impossible size, stride or offset"),
    "size is text": (tensor("Float", "0", 12, shape=("12",)), "impossible size, stride or offset"),
    "size is true": (tensor("Float", "0", 12, shape=(True,)), "impossible size, stride or offset"),
    "size of 2000 bits": (tensor("Float", "0", 12, shape=(2**2000,)), "impossible size, stride or offset"),
    "sizes without strides": (tensor("Float", "0", 12, shape=(3, 4)), "2 sizes but 1 strides"),
    "too many dimensions": (tensor("Float", "0", 12, shape=(1,) * 40, strides=(1,) * 40), "40 dimensions"),
    "absurd shape": (tensor("Float", "0", 12, shape=(2**40, 2**40), strides=(0, 0)), "impossible shape"),
    "terabytes of one number": (tensor("Float", "0", 12, shape=(2**20, 2**20), strides=(0, 0)), "its whole file"),
    "storage too short": (tensor("Float", "0", 13), "13 numbers of 4 bytes, but 48 bytes"),
    "storage far too short": (tensor("Float", "0", 2**70, shape=(1,)), "but 48 bytes"),
    "negative storage": (tensor("Float", "0", -1, shape=(0,)), "but 48 bytes"),
    "more than the storage's part": (tensor("Float", "0", 4, shape=(5,)), "needs 20 bytes, but 16"),
    "no such record": (tensor("Float", "7", 12), "record '7', which the file lacks"),
    "record outside data": (tensor("Float", "../version", 1), "'../version', which the file lacks"),
    "record is a path": (tensor("Float", "/etc/passwd", 1), "'/etc/passwd', which the file lacks"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensors(folder: Path, case: str) -> None:
    value, naming = BAD_TENSORS[case]
    refused(with_floats(folder, {"odd.weight": value}), naming=f"'odd.weight'.*{naming}")


# ---- torch.save: hostile zip files --------------------------------------------------------------------------------

GOOD = pickled({"a": tensor("Float", "0", 12)})


def test_names_in_the_zip_are_never_paths(folder: Path) -> None:
    records = [("../../m/data.pkl", GOOD), ("/etc/x", b"y"), ("m/data.pkl", GOOD), ("m/data/0", FLOATS.tobytes())]
    before = sorted(folder.parent.rglob("*"))
    write_zip(folder / "pytorch_model.bin", [*records, ("m/data/../../../escaped", b"x")])
    assert np.array_equal(read(folder)["a"], FLOATS)
    assert sorted(folder.parent.rglob("*")) == sorted([*before, folder / "pytorch_model.bin"])
    with_data = [
        ("m/data.pkl", pickled({"a": tensor("Float", "../../../escaped", 1)})),
        ("m/data/../../../escaped", b"four"),
    ]
    write_zip(folder / "pytorch_model.bin", with_data)  # looked up by its name, as any other record
    assert read(folder)["a"].tobytes() == b"four"


def test_compressed_records(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", GOOD + bytes(10**6))
    refused(folder, naming="'m/data.pkl' is compressed")


def test_a_name_twice_in_the_zip(folder: Path) -> None:
    write_zip(folder / "pytorch_model.bin", [("m/data.pkl", GOOD), ("m/data/0", bytes(48)), ("m/data/0", bytes(48))])
    refused(folder, naming="two records named 'm/data/0'")


@pytest.mark.parametrize(
    "names", [[], ["data.pkl"], ["a/b/data.pkl"], ["m/data.pkl", "n/data.pkl"], ["m/other"], ["m/data.pkl/"]]
)
def test_no_single_data_pkl(folder: Path, names: list[str]) -> None:
    write_zip(folder / "pytorch_model.bin", [("x", b""), *((name, GOOD) for name in names)])
    refused(folder, naming=r"records named data\.pkl, expected one")


def patched(folder: Path, old: bytes, new: bytes, *, last: bool = True) -> Path:
    """The last (or first) `old` in the file, replaced by `new` of the same length."""
    file = folder / "pytorch_model.bin"
    content = file.read_bytes()
    at = content.rindex(old) if last else content.index(old)
    file.write_bytes(content[:at] + new + content[at + len(old) :])
    return folder


def test_a_record_larger_than_the_file(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 10**8)})
    patched(folder, struct.pack("<2I", 48, 48), struct.pack("<2I", 4 * 10**8, 4 * 10**8))
    refused(folder, naming="'model/data/0' is damaged")


def test_a_record_with_two_sizes(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12)})
    refused(patched(folder, struct.pack("<2I", 48, 48), struct.pack("<2I", 1, 48)), naming="'model/data/0' is damaged")


def test_a_record_without_its_own_header(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12)})
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(
        content.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1)
    )
    refused(folder, naming="is damaged")


def test_a_header_that_skips_past_the_file(folder: Path) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12)})
    content = bytearray((folder / "pytorch_model.bin").read_bytes())
    at = content.rindex(b"PK\x03\x04")
    content[at + 28 : at + 30] = b"\xff\xff"  # the length of the extra field
    (folder / "pytorch_model.bin").write_bytes(content)
    refused(folder, naming="'model/data/0' is damaged")


@pytest.mark.parametrize("field", range(16, 20))
def test_a_directory_elsewhere(folder: Path, field: int) -> None:
    with_floats(folder, {"a": tensor("Float", "0", 12)})
    content = bytearray((folder / "pytorch_model.bin").read_bytes())
    content[content.rindex(b"PK\x05\x06") + field] ^= 0x55
    (folder / "pytorch_model.bin").write_bytes(content)
    refused(folder, naming="pytorch_model.bin")


@pytest.mark.parametrize(
    "content", [b"", b"P", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"hello", b"\x89HDF\r\n\x1a\n"]
)
def test_no_zip_file(folder: Path, content: bytes) -> None:
    (folder / "pytorch_model.bin").write_bytes(content)
    refused(folder, naming=r"not a file of torch\.save|not a whole zip file")


def test_types_of_the_interface(folder: Path) -> None:
    checkpoint = open_checkpoint(with_safetensors(folder, ONE))
    assert isinstance(checkpoint, Checkpoint)
    assert isinstance(checkpoint.names(), tuple)
    checkpoint.close()
