"""What a checkpoint says about writing text: defaults of generation options and chat templates. Knows no tensor and no graph."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgenlp.decode.options import Generation

from .strict_json import read_object

__all__ = ["read_chat_templates", "read_generation", "read_task_options"]

# bos, eos and pad of the config classes of transformers 4.57, where config.json leaves them out
_IDS: Mapping[str, tuple[int | None, int | None, int | None]] = {
    "bert": (None, None, 0),
    "bloom": (1, 2, None),
    "camembert": (0, 2, 1),
    "electra": (None, None, 0),
    "falcon": (11, 11, None),
    "gemma": (2, 1, 0),
    "gemma2": (2, 1, 0),
    "gemma3": (2, 1, 0),
    "gemma3_text": (2, 1, 0),
    "gpt2": (50256, 50256, None),
    "gpt_neo": (50256, 50256, None),
    "gpt_neox": (0, 2, None),
    "granite": (1, 2, None),
    "llama": (1, 2, None),
    "mistral": (1, 2, None),
    "olmo2": (None, 50279, 1),
    "opt": (2, 2, 1),
    "phi": (1, 2, None),
    "phi3": (1, 32000, 32000),
    "roberta": (0, 2, 1),
    "xlm-roberta": (0, 2, 1),
}
# What those classes say of encoder-decoders
_BART = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
_BLENDERBOT = {**_BART, "bos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 1}
_T5 = {"eos_token_id": 1, "pad_token_id": 0}
_CROSSING: Mapping[str, Mapping[str, Any]] = {
    "bart": _BART,
    "blenderbot": {**_BLENDERBOT, "encoder_no_repeat_ngram_size": 3},
    "blenderbot-small": _BLENDERBOT,
    "m2m_100": {key: value for key, value in _BART.items() if key != "forced_eos_token_id"},
    "marian": {
        "eos_token_id": 0,
        "pad_token_id": 58100,
        "decoder_start_token_id": 58100,
        "forced_eos_token_id": 0,
    },
    "mbart": {key: value for key, value in _BART.items() if key != "decoder_start_token_id"},
    "mt5": {**_T5, "decoder_start_token_id": 0},
    "pegasus": {"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0, "forced_eos_token_id": 1},
    "t5": _T5,
    "umt5": {**_T5, "decoder_start_token_id": 0},
}
_LIMIT = 64 << 20  # bytes of a file
_NAMES = {item.name for item in dataclasses.fields(Generation)}


def read_generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Generation options by transformers' names: `generation_config.json`, or where there is none what `config.json` says of them.

    Raises:
        CheckpointError: The file is not a JSON object.
    """
    path = folder / "generation_config.json"
    if path.is_file():
        said: Mapping[str, Any] = read_object(path, limit=_LIMIT)
    else:  # GenerationConfig.from_model_config: what the config says, below it its decoder, each with what its class says
        said = {}
        for part in (config.get("decoder"), config):
            if isinstance(part, Mapping):
                kind = str(part.get("model_type"))
                ids = zip(("bos_token_id", "eos_token_id", "pad_token_id"), _IDS.get(kind, ()), strict=False)
                own = {**dict(ids), **_CROSSING.get(kind, {}), **part}
                said = {**said, **{name: value for name, value in own.items() if value is not None}}
    return {name: value for name, value in sorted(said.items()) if name in _NAMES and value is not None}


def read_task_options(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`task_specific_params` of `config.json`: task to options, those that have to do with generation and `prefix`."""
    said = config.get("task_specific_params")
    said = dict(said) if isinstance(said, Mapping) else {}
    if isinstance(prefix := config.get("prefix"), str) and prefix:  # what has no prefix of its own takes the model's
        options = said.get("text-generation")
        said["text-generation"] = {"prefix": prefix, **(options if isinstance(options, Mapping) else {})}
    chosen = {
        str(task): {name: value for name, value in options.items() if name in _NAMES or name == "prefix"}
        for task, options in sorted(said.items())
        if isinstance(options, Mapping)
    }
    return {task: options for task, options in chosen.items() if options}


def read_chat_templates(folder: Path) -> dict[str, str]:
    """Name to Jinja template.

    They stand in `chat_template.jinja` and `additional_chat_templates/`, `chat_template.json` or `tokenizer_config.json`.

    Raises:
        CheckpointError: A file is not what its name says.
    """
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "chat_template.json"):
        path = folder / name
        said = read_object(path, limit=_LIMIT).get("chat_template") if path.is_file() else None
        if isinstance(said, str):
            found["default"] = said
        elif isinstance(said, list):
            found |= {
                str(item["name"]): str(item["template"]) for item in said if isinstance(item, Mapping) and len(item) > 1
            }
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    for name, path in files.items():
        if path.is_file():
            found[name] = path.read_text(encoding="utf-8", errors="replace")
    return found
