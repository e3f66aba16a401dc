"""The traced road, read aloud: trace or take the graphs, clean, write, compare, describe. Knows the order and none of the insides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle
from edgenlp.errors import BundleError, CheckpointError, UnsupportedError, VerificationError
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .. import verify as parity
from ..build import GRAPH, Plan
from ..checkpoint import Checkpoint
from ..describe import describe, tokenizer_folder
from ..families import parts
from ..graph import Weights
from ..quantize import Policy
from ..sentence_transformers import SentenceModel
from ..tokenizer import convert_tokenizer
from . import optimum, verify
from .describe import Body, head_of, windows_to_try
from .graphs import Traces, clean, read_graph
from .growing_road import GIVEN, Job, write_writing
from .names import Names
from .quantize import TracedGraph
from .reading import LAYOUTS, Facts, write_reading

__all__ = ["write"]

Floats = NDArray[np.float32]
_TOKENIZER, _WEIGHTS = "tokenizer.json", "model.weights"
_PARITY = 1e-4  # relative error of the float32 graph, as for hand-written ones
_PLAIN = Policy("fp32")


def write(
    src: Path,
    folder: Path,
    checkpoint: Checkpoint,
    sentence: SentenceModel | None,
    plan: Plan,
    *,
    graphs: Path | None,
    tell: Callable[[str], None],
) -> Bundle:
    """Write the tokenizer and the graphs of a checkpoint that no family writes, and compare them.

    Args:
        src: What was asked for.
        folder: Where to.
        checkpoint: The weights that names are taken from, and are traced.
        sentence: The modules of a sentence-transformers folder, None of others.
        plan: What was asked for.
        graphs: Folder with the graphs that an exporter made, None to have optimum make them.
        tell: Called with the name of each step.

    Returns:
        All of `edgenlp.json` but the files.

    Raises:
        DependencyError: Tracing needs a package that is not there.
        UnsupportedError: The architecture cannot be traced, or its trace is not general.
        VerificationError: What was written is too far from what PyTorch answers.
    """
    head = head_of(checkpoint.config, plan.task)
    plan.check(head)
    text, vocabulary = convert_tokenizer(tokenizer_folder(src, checkpoint.folder), checkpoint.config)
    vocabulary = replace(vocabulary, file=_TOKENIZER)
    (folder / _TOKENIZER).write_text(text, encoding="utf-8")
    job = Job(src, folder, checkpoint, plan, sentence, head, vocabulary, Tokens(folder / _TOKENIZER, vocabulary))
    if head in ("causal-lm", "seq2seq-lm") and plan.cache != "fp32":
        raise UnsupportedError("the cache of a traced graph is fp32; leave cache out")
    if head in ("causal-lm", "seq2seq-lm") and plan.prompts:
        raise UnsupportedError(
            "a traced graph reads prompts and writes with the same layers; leave the prompt precision out"
        )
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as place:
        if head in ("causal-lm", "seq2seq-lm"):
            return write_writing(job, Path(place), graphs, tell)
        return _write_reading(job, Path(place), graphs, tell)


def _write_reading(job: Job, place: Path, graphs: Path | None, tell: Callable[[str], None]) -> Bundle:
    tell("tracing")
    config = job.checkpoint.config
    tried = windows_to_try(config, job.vocabulary.max_length)
    windows = verify.questions(job.tokens, tried, type_ids=job.vocabulary.type_ids)
    path, answers, tools = _answers(job, place, graphs, windows)
    longest = [length for length in tried if length > 2048]
    answered = {len(window.ids) for window, answer in zip(windows, answers, strict=True) if answer is not None}
    held = next((length for length in tried if length in answered), longest[0] if longest else max(answered))
    asked = [
        (window, verify.answers_of(answer, window, job.head))
        for window, answer in zip(windows, answers, strict=True)
        if answer is not None and len(window.ids) <= held
    ]
    tell("writing")
    source = read_graph(path)
    types = config.get("type_vocab_size")
    if job.vocabulary.type_ids and "token_type_ids" not in source.inputs and isinstance(types, int) and types > 1:
        raise UnsupportedError(
            f"the model knows {types} types of tokens, its tokenizer gives them, and the graph takes no token_type_ids: pairs of"
            " texts would go wrong; leave --graphs (graphs=) out to have it traced with them"
        )
    clean(source)
    path.unlink() if graphs is None else None
    names = Names(job.checkpoint)
    layout = _layout(job, place, source, names, asked)
    facts = _write_graph(
        job.folder, source, names, job.head, job.plan.policy, type_ids=job.vocabulary.type_ids, layout=layout
    )
    job.plan.policy.check_used()
    tell("verifying")
    figures = _figures(job.folder / GRAPH, asked, job.head)
    parity.check(figures, job.plan.policy.precision, job.plan.tolerance)
    body = Body(facts.words or "", held)
    bundle = describe(
        job.src,
        job.folder,
        job.checkpoint,
        body,
        _head(job, facts),
        [job.vocabulary],
        job.sentence,
        job.plan,
        {"encoder": GRAPH},
    )
    tools = {**bundle.source.tools, source.producer[0]: source.producer[1], **tools}
    return replace(bundle, parity=figures, source=replace(bundle.source, tools=tools))


def _answers(
    job: Job, place: Path, graphs: Path | None, windows: Sequence[verify.Question]
) -> tuple[Path, Sequence[Floats | None], Mapping[str, str]]:
    """The traced graph, what is to be answered, and what took part."""
    if graphs is None:
        types = job.vocabulary.type_ids
        traced = optimum.trace(job.checkpoint.folder, place / "traced", job.head, windows, type_ids=types)
        return traced.folder / "model.onnx", traced.answers, traced.tools
    path = graphs / "model.onnx"
    if not path.is_file():
        found = ", ".join(sorted(item.name for item in graphs.glob("*.onnx"))) or "no graph"
        raise CheckpointError(
            f"{graphs} has no model.onnx but {found}; give the folder that optimum-cli export onnx wrote"
        )
    return path, verify.run_single(path, windows, job.head), GIVEN


def _layout(
    job: Job, place: Path, source: Traces, names: Names, asked: Sequence[tuple[verify.Question, Floats]]
) -> str:
    """How texts of several lengths are laid out inside the graph: found by trying, in float32.

    Raises:
        UnsupportedError: Neither way gives the answers: the trace holds for some lengths only.
    """
    errors = []
    for layout in LAYOUTS:
        own = place / f"plain-{layout}"
        own.mkdir()
        try:
            _write_graph(own, source, names, job.head, _PLAIN, type_ids=job.vocabulary.type_ids, layout=layout)
            error = _figures(own / GRAPH, asked, job.head)["relative_error"]
        except BundleError as failed:
            errors.append(str(failed))
            continue
        if error <= _PARITY:
            return layout
        errors.append(f"relative error {error:.2g}")
    raise UnsupportedError(
        f"{job.checkpoint.config.get('model_type')}: the traced graph holds for some lengths of text only: padded and side by side its"
        f" answers are not those of one text alone ({errors[0]}); trace it with other options, or another version of them"
    )


def _write_graph(
    folder: Path, source: Traces, names: Names, head: str, policy: Policy, *, type_ids: bool, layout: str
) -> Facts:
    weights = Weights(folder / _WEIGHTS)
    graph = TracedGraph(weights, policy)
    try:
        facts = write_reading(graph, source, names, head, type_ids=type_ids, layout=layout)
    finally:
        weights.close()
    graph.save(folder / GRAPH)
    return facts


def _figures(path: Path, asked: Sequence[tuple[verify.Question, Floats]], head: str) -> dict[str, float]:
    windows = [window for window, _ in asked]
    found = verify.run_batches(Session(path), windows, head)
    figures = verify.compare_answers(found, [answer for _, answer in asked])
    if head == "hidden-states":
        del figures["agreement"]  # the largest component of a vector is no answer
    return {**figures, "texts": len(windows), "tokens": sum(len(window.ids) for window in windows)}


def _head(job: Job, facts: Facts) -> parts.Head:
    """The head as hand-written families describe theirs: labels are counted by its last matrix."""
    if job.head not in ("sequence-classification", "token-classification"):
        return parts.Head(job.head)
    checkpoint = job.checkpoint
    candidates = [facts.matrix or "", *checkpoint.names()]
    for name in candidates:
        if name in checkpoint and checkpoint.shape(name)[:1] == (facts.columns,):
            return parts.Head(job.head, (parts.Dense(name, None),))
    raise VerificationError(
        f"{checkpoint.folder} has no tensor of {facts.columns} rows, and the traced graph gives as many labels; they do not fit"
    )
