"""What `edgenlp.json` says of a checkpoint: its tasks, labels, options, source. Knows the config and the model card, no graph."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edgenlp.bundle import Bundle, Head, Source, Vocabulary

from .build import Plan
from .checkpoint import Checkpoint
from .families import parts
from .generation import read_chat_templates, read_generation, read_task_options
from .languages import read_languages
from .sentence_transformers import SentenceModel

__all__ = ["describe", "tokenizer_folder"]

_TASKS = {
    "causal-lm": ("text-generation",),
    "hidden-states": ("feature-extraction", "sentence-similarity"),
    "masked-lm": ("fill-mask",),
    "question-answering": ("question-answering",),
    "seq2seq-lm": ("text2text-generation", "summarization", "translation"),
    "sequence-classification": ("text-classification", "zero-shot-classification"),
    "token-classification": ("token-classification",),
}


def describe(
    src: Path,
    folder: Path,
    checkpoint: Checkpoint,
    body: parts.Body,
    head: parts.Head,
    vocabularies: Sequence[Vocabulary],
    sentence: SentenceModel | None,
    plan: Plan,
    graphs: Mapping[str, str],
) -> Bundle:
    """All of `edgenlp.json` but the files and the figures, which are not known yet."""
    config = checkpoint.config
    facts = _head_facts(config, checkpoint, head)
    tasks = _TASKS[head.kind]
    if facts.kind == "sequence-classification" and len(facts.labels) < 2:
        tasks = tasks[:1]  # one column cannot tell entailment from contradiction
    named = config.get("architectures")
    writes = head.kind in ("causal-lm", "seq2seq-lm")
    crosses = isinstance(body, parts.EncoderDecoder)
    place = tokenizer_folder(src, checkpoint.folder)
    languages = None
    options = read_task_options(config) if writes else {}
    if head.kind == "seq2seq-lm":
        text = (folder / vocabularies[0].file).read_text(encoding="utf-8")
        languages = read_languages(place, config, vocabularies[0], text)
        translates = languages is not None or len(vocabularies) > 1 or config.get("model_type") == "marian"
        tasks = _foremost(tasks, plan.task, options, "translation" if translates else tasks[0])
    head_policy = plan.crossing_head_policy if crosses else plan.head_policy
    return Bundle(
        folder=folder,
        name=_name(src),
        tasks=tasks,
        precision=plan.policy.precision,
        kept=plan.policy.keep,
        graphs=dict(graphs),
        window=body.encoder.window if isinstance(body, parts.EncoderDecoder) else body.window,
        tokenizer=vocabularies[0],
        head=replace(facts, precision=head_policy.precision) if writes else facts,
        cache=plan.cache if writes else None,
        prompt=plan.prompt,
        decoder_precision=plan.writing.precision if plan.writing.precision != plan.policy.precision else None,
        target_window=body.decoder.window if isinstance(body, parts.EncoderDecoder) and writes else None,
        target_tokenizer=vocabularies[1] if len(vocabularies) > 1 else None,
        languages=languages,
        pooling=sentence.pooling if sentence and head.kind == "hidden-states" else None,
        similarity=sentence.similarity if sentence else None,
        generation=read_generation(checkpoint.folder, config) if writes else {},
        task_options=options,
        chat=read_chat_templates(place) if writes and not crosses else {},
        files={},
        source=Source(
            name=str(config.get("_name_or_path") or _name(src)),
            architecture=str(named[0]) if isinstance(named, list) and named else str(config.get("model_type")),
            parameters=_parameters(checkpoint),
            licence=_licence(src),
            tools={"edgenlp": _version(), "onnx": onnx.__version__},
        ),
    )


def _foremost(
    tasks: tuple[str, ...], asked: str | None, options: Mapping[str, Mapping[str, Any]], usual: str
) -> tuple[str, ...]:
    """Tasks, the one asked for foremost, else one that alone has options of its own, else the `usual` one."""
    own = {"translation" if name.startswith("translation") else name for name in options} & set(tasks)
    first = asked or (own.pop() if len(own) == 1 else usual)
    return (first, *(name for name in tasks if name != first))


def tokenizer_folder(src: Path, transformer: Path) -> Path:
    """sentence-transformers keeps the tokenizer with the transformer; old folders keep it above."""
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "sentencepiece.bpe.model",
        "spiece.model",
        "spm.model",
        "tokenizer.model",
    )
    return transformer if any((transformer / name).is_file() for name in names) else src


def _head_facts(config: dict[str, Any], checkpoint: Checkpoint, head: parts.Head) -> Head:
    """Labels and what the head was trained for, from the config; the number of labels is the weights'."""
    if head.kind not in ("sequence-classification", "token-classification"):
        return Head(head.kind)
    last = head.steps[-1]
    assert isinstance(last, parts.Dense)
    count = checkpoint.shape(last.weight)[0]
    named = config.get("id2label")
    names = {int(key): str(label) for key, label in named.items()} if isinstance(named, dict) else {}
    labels = tuple(names.get(index, f"LABEL_{index}") for index in range(count))
    ids = config.get("label2id")
    numbered = ids.items() if isinstance(ids, dict) else zip(labels, range(count), strict=True)
    entails = (int(index) for label, index in numbered if str(label).lower().startswith("entail"))
    problem = config.get("problem_type")
    function = config.get("function_to_apply")
    return Head(
        kind=head.kind,
        labels=labels,
        problem=str(problem) if problem else None,
        function=str(function) if function else None,
        entailment=next(entails, None),
        all_scores=config.get("return_all_scores") is True,
    )


def _name(src: Path) -> str:
    """The folder's own name, as the user sees it: links are not followed."""
    return src.absolute().name or src.resolve().name


def _parameters(checkpoint: Checkpoint) -> int:
    """Numbers in the checkpoint, index buffers not counted."""
    return sum(math.prod(checkpoint.shape(name)) for name in checkpoint.names() if "float" in checkpoint.dtype(name))


def _licence(src: Path) -> str | None:
    """The licence that the model card's front matter states."""
    card = src / "README.md"
    if not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as stream:
        front = re.match(r"---\n(.*?)\n---", stream.read(1 << 16), re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else None


def _version() -> str:
    import edgenlp

    return edgenlp.__version__
