"""Architectures: a table from `model_type` of config.json to the family that reads its checkpoint and writes its graph."""

from collections.abc import Callable, Mapping

from edgenlp.errors import UnsupportedError

from ..checkpoint import Checkpoint
from . import bert_checkpoints, gpt_checkpoints, llama_checkpoints, parts

__all__ = ["DECODERS", "ENCODERS", "HEADS", "TASK_HEADS", "architectures", "family_of", "head_of"]

ENCODERS: Mapping[str, bert_checkpoints.Row] = bert_checkpoints.ROWS
DECODERS: Mapping[str, Callable[[Checkpoint, str], parts.Decoder]] = {
    **dict.fromkeys(gpt_checkpoints.ROWS, gpt_checkpoints.read_decoder),
    **dict.fromkeys(llama_checkpoints.ROWS, llama_checkpoints.read_decoder),
}

# Class name endings in config.json's `architectures` to heads
HEADS: Mapping[str, str] = {
    "ForCausalLM": "causal-lm",
    "ForMaskedLM": "masked-lm",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "Model": "hidden-states",
    # pretrained with a masked LM head and another; ELECTRA's discriminator has no masked LM head and is a plain encoder
    "ForPreTraining": "masked-lm",
}
TASK_HEADS: Mapping[str, str] = {
    "ForCausalLM": "causal-lm",
    "feature-extraction": "hidden-states",
    "fill-mask": "masked-lm",
    "question-answering": "question-answering",
    "sentence-similarity": "hidden-states",
    "text-classification": "sequence-classification",
    "text-generation": "causal-lm",
    "token-classification": "token-classification",
    "zero-shot-classification": "sequence-classification",
}


def architectures() -> list[tuple[str, tuple[str, ...]]]:
    """Every `model_type` that has an exporter, with the tasks that it can serve."""
    reading = tuple(task for task, head in TASK_HEADS.items() if head != "causal-lm")
    return sorted([*((name, reading) for name in ENCODERS), *((name, ("text-generation",)) for name in DECODERS)])


def family_of(config: Mapping[str, object]) -> str:
    """The `model_type` of a checkpoint, one of `ENCODERS` or `DECODERS`.

    Raises:
        UnsupportedError: There is no exporter for its architecture.
    """
    kind = config.get("model_type")
    if kind not in ENCODERS and kind not in DECODERS:
        known = ", ".join(name for name, _ in architectures())
        raise UnsupportedError(f"config.json says model_type {kind!r}; edgenlp exports {known}")
    return str(kind)


def head_of(config: Mapping[str, object], task: str | None) -> str:
    """The head to export: the one that `task` needs, else the one that `architectures` names.

    Raises:
        UnsupportedError: Neither tells, or the architecture has no such head.
    """
    if task is not None and task not in TASK_HEADS:
        raise UnsupportedError(f"no exporter for task {task!r}; there are {', '.join(TASK_HEADS)}")
    kind = config.get("model_type")
    if kind in DECODERS:
        if task not in (None, "text-generation"):
            raise UnsupportedError(f"{kind} checkpoints are exported to write: --task text-generation, not {task}")
        return "causal-lm"  # also of a bare body: its word table is the head
    head = TASK_HEADS[task] if task is not None else _named_head(config)
    if head == "causal-lm":
        raise UnsupportedError(f"{kind} is an encoder and cannot write; choose another --task")
    return head


def _named_head(config: Mapping[str, object]) -> str:
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    if not name:
        return "hidden-states"
    if name == "ElectraForPreTraining":
        return "hidden-states"
    for ending, head in HEADS.items():
        if name.endswith(ending):
            return head
    tasks = ", ".join(task for task, head in TASK_HEADS.items() if head != "causal-lm")
    raise UnsupportedError(
        f"config.json names {name}, whose head edgenlp does not export; choose one with --task: {tasks}"
    )
