"""The module folders of a sentence-transformers checkpoint: pooling, normalisation, prompts, maximum length. Knows no tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgenlp.bundle import Pooling
from edgenlp.errors import CheckpointError, UnsupportedError

from .strict_json import read_list, read_object

__all__ = ["SentenceModel", "read_sentence_model"]

# Flags of 1_Pooling/config.json, in the order in which sentence-transformers concatenates them
_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
_LIMIT = 1 << 20  # bytes of a module's config


@dataclass(frozen=True)
class SentenceModel:
    """What the modules say.

    Attributes:
        transformer: Folder of the transformer's own checkpoint.
        pooling: How token vectors become one.
        similarity: Name of the similarity function, None where the folder does not say.
    """

    transformer: Path
    pooling: Pooling
    similarity: str | None


def read_sentence_model(folder: Path) -> SentenceModel | None:
    """What `modules.json` and the files it names say; None where there is none.

    Raises:
        CheckpointError: A file is missing or not what it should be.
        UnsupportedError: There is a module other than Transformer, Pooling and Normalize.
    """
    if not (folder / "modules.json").is_file():
        return None
    transformer, normalize, include_prompt = folder, False, True
    modes: tuple[str, ...] = ("mean",)
    for module in read_list(folder / "modules.json", limit=_LIMIT):
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        path = _inside(folder, str(module["path"]) if isinstance(module, dict) and "path" in module else "")
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            config = _object(path / "config.json")
            modes = _modes(config, path)
            include_prompt = bool(config.get("include_prompt", True))
        elif kind == "Normalize":
            normalize = True
        else:
            raise UnsupportedError(
                f"{folder / 'modules.json'} holds a module {kind!r}; only Transformer, Pooling and Normalize are exported"
            )
    length, lowercase = _transformer_facts(transformer)
    facts_file = folder / "config_sentence_transformers.json"
    facts = _object(facts_file) if facts_file.is_file() else {}
    prompts = {str(name): str(text) for name, text in (facts.get("prompts") or {}).items()}
    similarity = facts.get("similarity_fn_name")
    if similarity not in (None, "cosine", "dot"):
        raise UnsupportedError(f"similarity function {similarity!r} is not supported; there are cosine and dot")
    default = facts.get("default_prompt_name")
    return SentenceModel(
        transformer=transformer,
        pooling=Pooling(
            modes, normalize, prompts, str(default) if default else None, include_prompt, length, lowercase
        ),
        similarity=similarity,
    )


def _modes(config: dict[str, Any], path: Path) -> tuple[str, ...]:
    if isinstance(config.get("pooling_mode"), str):  # the newer form: one name
        wanted = {f"pooling_mode_{config['pooling_mode']}", f"pooling_mode_{config['pooling_mode']}_tokens"}
        modes = tuple(mode for flag, mode in _MODES.items() if flag in wanted or mode == config["pooling_mode"])
    else:
        modes = tuple(mode for flag, mode in _MODES.items() if config.get(flag))
    if not modes:
        raise UnsupportedError(
            f"{path / 'config.json'} names no pooling that is supported: {', '.join(_MODES.values())}"
        )
    return modes


def _transformer_facts(folder: Path) -> tuple[int | None, bool]:
    for name in ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json"):
        if (folder / name).is_file():
            config = _object(folder / name)
            length = config.get("max_seq_length")
            return (length if isinstance(length, int) and length > 0 else None), bool(config.get("do_lower_case"))
    return None, False


def _object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, which modules.json names; fetch the checkpoint again")
    return read_object(file, limit=_LIMIT)


def _inside(folder: Path, path: str) -> Path:
    target = folder / path
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise CheckpointError(f"{folder / 'modules.json'} names {path!r}, which leads out of the checkpoint")
    return target
