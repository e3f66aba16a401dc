"""Models of the Hugging Face Hub, by name: fetched once into its cache, then a folder like any other. Knows no layer of them.

The only room that may open a socket, and only for the exporter: a bundle never fetches anything.
"""

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edgenlp.errors import CheckpointError, DependencyError, ExportError

from .sentence_transformers import read_sentence_model

__all__ = ["Fetched", "fetch", "is_name"]

_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_SMALL = ["*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.codes", "README.md", "LICENSE*"]
_IGNORED = ["onnx/*", "openvino/*", "coreml/*", "checkpoint-*", "runs/*", "original/*", "*.index.json"]
# In the order in which they are looked for in a folder: whole, or in parts with an index
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"),
)


class Fetched(NamedTuple):
    """A model in the cache: the folder of its files, its name, and the commit that they are of."""

    folder: Path
    name: str
    revision: str


def is_name(src: str | os.PathLike[str]) -> bool:
    """Whether this is no path of this machine, but may be a model's name ("org/model", or "gpt2" of old)."""
    return isinstance(src, str) and not os.path.lexists(src) and _NAME.fullmatch(src) is not None


def fetch(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool = False,
) -> Fetched:
    """Bring a model's config, tokenizer and weights to this machine, or find them there.

    Nothing is fetched that is there already; of several formats of weights one is taken, safetensors before PyTorch's. Where to fetch
    from, and as whom, is said as to every tool of the Hub: `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `hf auth login`.

    Args:
        name: "org/model".
        revision: Branch, tag or commit; None for the main branch.
        cache_dir: Folder of the cache; None for the Hub's own (`HF_HUB_CACHE`).
        offline: Open no socket, and be content with what an earlier call fetched.

    Raises:
        DependencyError: The extra is not installed.
        CheckpointError: There is no such model or revision, or it holds no weights that can be read.
        ExportError: It may not be fetched, the Hub cannot be reached, or the disk is full.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils.logging import set_verbosity
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise DependencyError(
            f"{name!r} is no folder here; to fetch it from the Hugging Face Hub: pip install 'edgenlp[hub]'"
        ) from error
    set_verbosity(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()

    def bring(patterns: Sequence[str], ignored: Sequence[str] = ()) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                local_files_only=offline,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
            )
        )

    at = f" at revision {revision!r}" if revision else ""
    try:
        folder = bring(_SMALL, _IGNORED)
        sentence = read_sentence_model(folder)
        place = sentence.transformer if sentence else folder
        before = place.relative_to(folder).as_posix().removeprefix(".")
        for names in _WEIGHTS:
            bring([f"{before}/{pattern}".removeprefix("/") for pattern in names])
            if any((place / pattern).is_file() for pattern in names[:2]):
                break
    except errors.GatedRepoError as error:
        raise ExportError(
            f"{name} is open only to those who accepted its terms: accept them on its page, then run hf auth login, or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is neither a folder nor a model {name!r} on the Hub; check the name. If the model is private, run hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{name} has no revision {revision!r}; name a branch, a tag or a commit") from error
    except errors.LocalEntryNotFoundError as error:
        raise ExportError(_unreachable(name, at, offline)) from error
    except errors.HFValidationError as error:
        raise CheckpointError(f"there is no folder {name!r}, and no model can have that name") from error
    except OSError as error:  # of the disk, and, with older versions of the library, of the network
        raise ExportError(f"cannot fetch {name}: {error.strerror or error}") from error
    if not (folder / "config.json").is_file() and place == folder:
        raise CheckpointError(
            f"{name}{at} on the Hub has no config.json, so it is no transformers checkpoint; choose another model"
        )
    return Fetched(folder, name, folder.name)


def _unreachable(name: str, at: str, offline: bool) -> str:
    if offline:
        return f"{name}{at} is not in the cache, and --offline (offline=True) forbids fetching it; run once without"
    what = f"{name!r} is no folder here, and the Hub cannot be reached to look for a model of that name{at}"
    return f"{what}; check the path, or the connection"
