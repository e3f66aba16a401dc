"""Architectures: a table from `model_type` of config.json to the family that reads its checkpoint and writes its graph."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from edgenlp.errors import UnsupportedError

from ..checkpoint import Checkpoint
from . import (
    bart_checkpoints,
    bart_classifier,
    bert_checkpoints,
    composite_checkpoints,
    deberta_checkpoints,
    gpt_checkpoints,
    llama_checkpoints,
    longformer_checkpoints,
    modernbert_checkpoints,
    parts,
    t5_checkpoints,
)

__all__ = [
    "CLASSIFIERS",
    "DECODERS",
    "ENCODERS",
    "ENCODER_DECODERS",
    "HEADS",
    "TASK_HEADS",
    "architectures",
    "family_of",
    "head_of",
    "read",
]


class Reader(NamedTuple):
    """How an encoder's checkpoint is read: its body, and its head of the kind that is asked for."""

    body: Callable[[Checkpoint, str], parts.ReadingBody]
    head: Callable[[Checkpoint, str, str], parts.Head]


ENCODERS: Mapping[str, Reader] = {
    **dict.fromkeys(bert_checkpoints.ROWS, Reader(bert_checkpoints.read_encoder, bert_checkpoints.read_head)),
    **dict.fromkeys(deberta_checkpoints.ROWS, Reader(deberta_checkpoints.read_encoder, deberta_checkpoints.read_head)),
    **dict.fromkeys(
        longformer_checkpoints.ROWS, Reader(longformer_checkpoints.read_encoder, longformer_checkpoints.read_head)
    ),
    **dict.fromkeys(
        modernbert_checkpoints.ROWS, Reader(modernbert_checkpoints.read_encoder, modernbert_checkpoints.read_head)
    ),
}
DECODERS: Mapping[str, Callable[[Checkpoint, str], parts.Decoder]] = {
    **dict.fromkeys(gpt_checkpoints.ROWS, gpt_checkpoints.read_decoder),
    **dict.fromkeys(llama_checkpoints.ROWS, llama_checkpoints.read_decoder),
}
ENCODER_DECODERS: Mapping[str, Callable[[Checkpoint, str], parts.EncoderDecoder]] = {
    **dict.fromkeys(bart_checkpoints.ROWS, bart_checkpoints.read),
    **dict.fromkeys(t5_checkpoints.ROWS, t5_checkpoints.read),
    "encoder-decoder": composite_checkpoints.read,
}
# Encoder-decoders that also come with a classifier: bart-large-mnli and its like
CLASSIFIERS = ("bart", "mbart")

# Class name endings in config.json's `architectures` to heads
HEADS: Mapping[str, str] = {
    "ForCausalLM": "causal-lm",
    "ForConditionalGeneration": "seq2seq-lm",
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
    "summarization": "seq2seq-lm",
    "text-classification": "sequence-classification",
    "text-generation": "causal-lm",
    "text2text-generation": "seq2seq-lm",
    "token-classification": "token-classification",
    "translation": "seq2seq-lm",
    "zero-shot-classification": "sequence-classification",
}


def _tasks(*heads: str) -> tuple[str, ...]:
    """Tasks of heads."""
    return tuple(task for task, head in TASK_HEADS.items() if head in heads)


_READING = ("hidden-states", "masked-lm", "question-answering", "sequence-classification", "token-classification")


def architectures() -> list[tuple[str, tuple[str, ...]]]:
    """Every `model_type` that has an exporter, with the tasks that it can serve."""
    found = {name: _tasks(*_READING) for name in ENCODERS}
    found |= {name: _tasks("causal-lm") for name in DECODERS}
    classes = ("seq2seq-lm", "sequence-classification")
    found |= {name: _tasks(*(classes if name in CLASSIFIERS else classes[:1])) for name in ENCODER_DECODERS}
    return sorted(found.items())


def family_of(config: Mapping[str, object]) -> str:
    """The `model_type` of a checkpoint, one of `ENCODERS`, `DECODERS` or `ENCODER_DECODERS`.

    Raises:
        UnsupportedError: There is no exporter for its architecture.
    """
    kind = config.get("model_type")
    if kind not in ENCODERS and kind not in DECODERS and kind not in ENCODER_DECODERS:
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
    kind = str(config.get("model_type"))
    if kind in DECODERS:
        if task not in (None, "text-generation"):
            raise UnsupportedError(f"{kind} checkpoints are exported to write: --task text-generation, not {task}")
        return "causal-lm"  # also of a bare body: its word table is the head
    if kind in ENCODER_DECODERS:
        return _crossing_head(kind, config, task)
    head = TASK_HEADS[task] if task is not None else _named_head(config)
    if head in ("causal-lm", "seq2seq-lm"):
        raise UnsupportedError(f"{kind} is an encoder and cannot write; choose another --task")
    return head


def _crossing_head(kind: str, config: Mapping[str, object], task: str | None) -> str:
    """Of an encoder-decoder: it writes, unless it was saved, or is asked for, as a classifier."""
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    head = (
        TASK_HEADS[task]
        if task
        else HEADS[
            "ForSequenceClassification" if name.endswith("ForSequenceClassification") else "ForConditionalGeneration"
        ]
    )
    if head == "seq2seq-lm" or (head == "sequence-classification" and kind in CLASSIFIERS):
        return head
    can = ", ".join(dict(architectures())[kind])
    raise UnsupportedError(f"{kind} checkpoints are exported for {can}, not {task or name}; choose one with --task")


def read(checkpoint: Checkpoint, kind: str, head: str) -> tuple[parts.Body, parts.Head]:
    """What a checkpoint consists of.

    Args:
        checkpoint: Where the tensors are.
        kind: From `family_of`.
        head: From `head_of`.

    Raises:
        CheckpointError: A tensor is missing, shapes disagree, or the config is damaged.
        UnsupportedError: The config asks for something that the family does not have.
    """
    if kind in DECODERS:
        return DECODERS[kind](checkpoint, kind), parts.Head(head)
    if kind in ENCODER_DECODERS and head == "seq2seq-lm":
        return ENCODER_DECODERS[kind](checkpoint, kind), parts.Head(head)
    if kind in ENCODER_DECODERS:
        return bart_classifier.read_classifier(checkpoint, kind)
    reader = ENCODERS[kind]
    return reader.body(checkpoint, kind), reader.head(checkpoint, kind, head)


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
    tasks = ", ".join(_tasks(*_READING))
    raise UnsupportedError(
        f"config.json names {name}, whose head edgenlp does not export; choose one with --task: {tasks}"
    )
