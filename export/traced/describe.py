"""What a traced checkpoint is: its head, its window, the architectures that there are. Knows the config and the table of optimum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgenlp.errors import UnsupportedError

from .. import families
from ..families import HEADS, TASK_HEADS
from . import led, optimum

__all__ = ["Body", "architectures", "head_of", "source_multiple", "windows_to_try"]

_WINDOW = 512  # of a model that knows no bound, and whose tokenizer knows none
_TRIED = 2048  # tokens; a longer window is not tried out, which would take gigabytes
# Endings of class names beside those that hand-written families know
_MORE_HEADS: Mapping[str, str] = {
    "ForQuestionAnsweringSimple": "question-answering",
    "WithLMHeadModel": "masked-lm",
    "LMHeadModel": "causal-lm",
}


@dataclass(frozen=True)
class Body:
    """What `export.describe` wants to know of a model's body."""

    words: str
    window: int


def head_of(config: Mapping[str, object], task: str | None) -> str:
    """The head to export: the one that `task` needs, else the one that `architectures` names.

    Raises:
        UnsupportedError: Neither tells.
    """
    if task is not None:
        if task not in TASK_HEADS:
            raise UnsupportedError(f"no exporter for task {task!r}; there are {', '.join(TASK_HEADS)}")
        return TASK_HEADS[task]
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    for ending, head in {**_MORE_HEADS, **HEADS}.items():
        if name.endswith(ending):
            return head
    if not name:
        return "hidden-states"
    raise UnsupportedError(
        f"config.json names {name}, whose head edgenlp does not export; choose one with --task: {', '.join(TASK_HEADS)}"
    )


def windows_to_try(config: Mapping[str, object], declared: int | None) -> list[int]:
    """Windows that the model may have, the widest first; the widest that it runs with is its own.

    Args:
        config: `config.json`; positions of RoBERTa's kind begin behind `pad_token_id`, which costs as many.
        declared: Tokens that the tokenizer was declared for.
    """
    sizes = [config.get(key) for key in ("max_position_embeddings", "n_positions", "n_ctx")]
    held = next((size for size in sizes if isinstance(size, int)), None)
    if held is None or held <= 0:
        return [declared or _WINDOW]
    pad = config.get("pad_token_id")
    shorter = held - 1 - pad if isinstance(pad, int) and 0 < pad < held - 1 else held
    tried = [held, shorter] if held <= _TRIED else [min(held, shorter)]
    return list(dict.fromkeys(min(window, declared or window) for window in tried))


def source_multiple(config: Mapping[str, object]) -> int:
    """What the sources of an encoder that attends in blocks are filled up to a multiple of; 1 of all others.

    LongT5's blocks are `local_radius` + 1 tokens (`LongT5LocalAttention`), those it sums up `global_block_size`
    (`LongT5TransientGlobalAttention`); LED's are its `attention_window` (`LEDEncoder`, which fills texts up to it too).
    """
    if config.get("model_type") == "led":
        return led.source_multiple(config)
    if config.get("model_type") == "longt5":
        radius, summed = config.get("local_radius", 127), config.get("global_block_size", 16)
        local = (radius if isinstance(radius, int) else 127) + 1
        if config.get("encoder_attention_type") == "transient-global" and isinstance(summed, int):
            return math.lcm(local, summed)
        return local
    return 1


def architectures() -> list[tuple[str, tuple[str, ...]]]:
    """Every `model_type` that is traced, with the tasks that it can serve; those written by hand left out.

    Raises:
        DependencyError: The extra is not installed, and its table not known.
    """
    own = {name for name, _ in families.architectures()}
    return [
        (name, tuple(task for task, head in TASK_HEADS.items() if head in heads))
        for name, heads in sorted(optimum.supported().items())
        if name not in own
    ]
