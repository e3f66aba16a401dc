"""Architectures: a table from `model_type` of config.json to the family that reads its checkpoint and writes its graph."""

from collections.abc import Mapping

from edgenlp.errors import UnsupportedError

from .bert_checkpoints import ROWS

__all__ = ["HEADS", "TASK_HEADS", "architectures", "family_of", "head_of"]

# Class name endings in config.json's `architectures` to heads
HEADS: Mapping[str, str] = {
    "ForMaskedLM": "masked-lm",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "Model": "hidden-states",
    # pretrained with a masked LM head and another; ELECTRA's discriminator has no masked LM head and is a plain encoder
    "ForPreTraining": "masked-lm",
}
TASK_HEADS: Mapping[str, str] = {
    "feature-extraction": "hidden-states",
    "fill-mask": "masked-lm",
    "question-answering": "question-answering",
    "sentence-similarity": "hidden-states",
    "text-classification": "sequence-classification",
    "token-classification": "token-classification",
    "zero-shot-classification": "sequence-classification",
}


def architectures() -> list[tuple[str, tuple[str, ...]]]:
    """Every `model_type` that has an exporter, with the tasks that it can serve."""
    return [(name, tuple(TASK_HEADS)) for name in sorted(ROWS)]


def family_of(config: Mapping[str, object]) -> str:
    """The row of a checkpoint.

    Raises:
        UnsupportedError: There is no exporter for its architecture.
    """
    kind = config.get("model_type")
    if kind not in ROWS:
        raise UnsupportedError(f"config.json says model_type {kind!r}; edgenlp exports {', '.join(sorted(ROWS))}")
    return str(kind)


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
    if not name:
        return "hidden-states"
    if name == "ElectraForPreTraining":
        return "hidden-states"
    for ending, head in HEADS.items():
        if name.endswith(ending):
            return head
    raise UnsupportedError(
        f"config.json names {name}, whose head edgenlp does not export; choose one with --task: {', '.join(TASK_HEADS)}"
    )
