"""A Hugging Face checkpoint folder: config.json and the weights, mapped into memory. Knows which file is which.

Refuses to know how a file of weights is built and what a tensor is for; downloads nothing, runs nothing.
"""

import difflib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgenlp.errors import CheckpointError, UnsupportedError

from ..strict_json import read_object
from .safetensors import read_safetensors
from .stored import Stored
from .torch_zip import read_torch_zip

# In the order of transformers' _get_resolved_checkpoint_files. "*.index.json" lists the files of sharded weights.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_FOREIGN = (
    "tf_model.h5",
    "model.ckpt.index",
    "flax_model.msgpack",
    "rust_model.ot",
    "model.onnx",
    "adapter_config.json",
)

_MAX_CONFIG = 32 * 2**20  # bytes; the names of 200,000 labels fit in
_MAX_INDEX = 64 * 2**20

# Early models ported from TensorFlow; as transformers' _fix_state_dict_key_on_load.
_RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def open_checkpoint(folder: str | Path) -> "Checkpoint":
    """Open a checkpoint folder: read config.json and the tables of the weights, but no tensor.

    Args:
        folder: a folder with config.json and one of model.safetensors, model.safetensors.index.json, pytorch_model.bin,
            pytorch_model.bin.index.json (the first that exists counts, as in transformers).

    Raises:
        CheckpointError: the folder or a file is missing, truncated, damaged or hostile.
        UnsupportedError: the weights are of a format or dtype that is not read.
    """
    try:
        path = _local_folder(folder)
        config_file = path / "config.json"
        if not config_file.is_file():
            raise CheckpointError(
                f"{path} has no config.json, so it is not a Hugging Face checkpoint. "
                "Give the folder that save_pretrained() wrote, or that holds all files of the model's page."
            )
        config = read_object(config_file, limit=_MAX_CONFIG)
        return Checkpoint(path, config, _renamed(path, _tensors(path, config)))
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}. Check that the files may be read.") from error


def _local_folder(folder: str | Path) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{path} is a file, expected a checkpoint folder. Give the folder that holds it.")
    raise CheckpointError(
        f"There is no folder {str(folder)[:500]!r}; give a checkpoint's folder, or the name of a model on the Hub (org/model)."
    )


def _tensors(folder: Path, config: dict[str, Any]) -> dict[str, Stored]:
    """Every tensor of the folder by the name that it has in its file."""
    named = config.get("transformers_weights")  # the key with which a config overrides the usual file names
    if named is not None:
        if not isinstance(named, str) or not named.endswith((".safetensors", ".safetensors.index.json")):
            raise CheckpointError(
                f"{folder}/config.json: transformers_weights must name a .safetensors file or its index."
            )
        return _open_weights(_inside(folder, named, "config.json"))
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return _open_weights(folder / name)
    foreign = [name for name in _FOREIGN if (folder / name).exists()]
    if foreign:
        raise UnsupportedError(
            f"{folder} has {', '.join(foreign)} but no PyTorch weights, expected one of {', '.join(_WEIGHTS)}. "
            "Load the model with transformers and save it with save_pretrained()."
        )
    raise CheckpointError(f"{folder} has no weights, expected one of {', '.join(_WEIGHTS)}. Fetch the missing file.")


def _open_weights(file: Path) -> dict[str, Stored]:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, but the checkpoint refers to it. Fetch the missing file.")
    with file.open("rb") as stream:
        if stream.read(24) == b"version https://git-lfs.":
            raise CheckpointError(
                f"{file} is a Git LFS pointer, not the weights themselves. Run `git lfs pull` in the folder."
            )
    if file.name.endswith(".index.json"):
        return _shards(file)
    if file.name.endswith(".safetensors"):
        return read_safetensors(file)
    return read_torch_zip(file)


def _shards(index: Path) -> dict[str, Stored]:
    """The tensors that an index distributes over several files: exactly those it lists, each in the file it names."""
    weight_map = read_object(index, limit=_MAX_INDEX, unique=True).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} has no weight_map of tensor names to file names. Fetch the file again.")
    shards: dict[str, dict[str, Stored]] = {}
    for name in sorted(set(weight_map.values())):
        if name.endswith(".index.json"):
            raise CheckpointError(f"{index} refers to another index, {name[:200]!r}. Do not trust it.")
        shards[name] = _open_weights(_inside(index.parent, name, index.name))
    for tensor, name in weight_map.items():
        if tensor not in shards[name]:
            raise CheckpointError(
                f"{index} says that the tensor {tensor[:200]!r} is in {name}, but it is not. Fetch both files again."
            )
    return {tensor: shards[name][tensor] for tensor, name in weight_map.items()}


def _inside(folder: Path, name: str, source: str) -> Path:
    """The file that `source`, a file of the checkpoint, calls `name`. Links are the user's own and are followed."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(sign in name for sign in "\\:\0"):
        raise CheckpointError(
            f"{folder / source} refers to {name[:200]!r}, which is not a file inside the folder. Do not trust it."
        )
    return folder / name


def _renamed(folder: Path, tensors: dict[str, Stored]) -> dict[str, Stored]:
    """The tensors by the names that today's models give them."""
    renamed: dict[str, Stored] = {}
    for name, stored in tensors.items():
        new = name
        for old_end, new_end in _RENAMED.items():
            if name.endswith(old_end):
                new = name.removesuffix(old_end) + new_end
        if new in renamed or (new != name and new in tensors):
            raise CheckpointError(
                f"{folder} has two tensors for {new[:200]!r}: one has its old name {name[:200]!r}. Remove one of them."
            )
        renamed[new] = stored
    return renamed


class Checkpoint:
    """An open checkpoint folder; `open_checkpoint` makes one. A context manager: leaving it closes the files.

    Arrays that were handed out stay valid after closing; each keeps its file mapped until it is dropped itself.

    Attributes:
        folder: where it lies.
        config: config.json, as it is.
    """

    def __init__(self, folder: Path, config: dict[str, Any], tensors: dict[str, Stored]) -> None:
        self.folder = folder
        self.config = config
        self._tensors = tensors
        self._contents: dict[Path, NDArray[np.uint8]] = {}
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def names(self) -> tuple[str, ...]:
        """The names of all tensors, sorted; LayerNorm's old names gamma and beta appear as weight and bias."""
        return tuple(sorted(self._tensors))

    def shape(self, name: str) -> tuple[int, ...]:
        """The size of each dimension of a tensor, from the file's table: no data is read.

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._find(name).shape

    def dtype(self, name: str) -> str:
        """The dtype of a tensor as stored, as torch spells it: "float32", "float16", "bfloat16", "int64"….

        Raises:
            CheckpointError: there is no such tensor.
        """
        return self._find(name).dtype

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor as a read-only view of the mapped file, in the stored dtype; bfloat16 comes as a float32 copy.

        The view may have gaps or be unaligned: `np.require(array, requirements="CA")` copies it if it is.

        Raises:
            CheckpointError: there is no such tensor, the checkpoint is closed, or its file is gone.
        """
        stored = self._find(name)
        if self._closed:
            raise CheckpointError(f"{self.folder} is closed, so {name!r} cannot be read. Read it before close().")
        if stored.file not in self._contents:
            try:
                self._contents[stored.file] = np.memmap(stored.file, dtype=np.uint8, mode="r")
            except (OSError, ValueError) as error:  # ValueError: the file is empty now
                raise CheckpointError(f"{stored.file} cannot be mapped: {error}. Fetch it again.") from error
        return stored.view(self._contents[stored.file])

    def release(self) -> None:
        """Give back the memory of what was read so far; whatever is read next is mapped anew."""
        self._contents.clear()

    def close(self) -> None:
        """Let go of the files. Closing twice is harmless."""
        self._contents.clear()
        self._closed = True

    def _find(self, name: str) -> Stored:
        stored = self._tensors.get(name)
        if stored is None:
            # Names in a file can be megabytes long; comparing those would take for ever.
            near = difflib.get_close_matches(name[:200], [known for known in self._tensors if len(known) <= 200], n=3)
            hint = f" The nearest are {', '.join(map(repr, near))}." if near else ""
            raise CheckpointError(
                f"{self.folder} has no tensor {name[:200]!r} among its {len(self._tensors)}.{hint} "
                "Check that config.json belongs to these weights."
            )
        return stored
