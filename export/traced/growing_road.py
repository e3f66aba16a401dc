"""The traced road of models that write: trace or take the graphs, join, write, compare, describe. Knows the order and no node."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgenlp.bundle import Bundle, Vocabulary
from edgenlp.errors import BundleError, CheckpointError, UnsupportedError
from edgenlp.growing.decoder import GrowingDecoder
from edgenlp.growing.encoder_decoder import GrowingEncoderDecoder
from edgenlp.growing.facts import Growing
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .. import verify as parity
from ..build import DECODER, ENCODER, GRAPH, Plan
from ..checkpoint import Checkpoint
from ..describe import describe
from ..families import parts
from ..graph import Weights
from ..quantize import Policy
from ..sample import LINES, sample_ids, sample_pairs, split_pairs
from ..sentence_transformers import SentenceModel
from . import optimum
from .describe import Body, source_multiple, windows_to_try
from .graphs import Traces, clean, read_graph
from .names import Names
from .quantize import TracedGraph
from .verify import Question
from .writing import growing_of, join_crossings, write_decoder, write_source

__all__ = ["GIVEN", "Job", "raw_answers", "write_writing"]

Floats = NDArray[np.float32]
_WEIGHTS = "model.weights"
_LONGEST, _LOGITS, _TOKENS = 64, 1 << 22, 256  # tokens of a text; logits that are compared; tokens of a run
_PARITY = 1e-4  # relative error of the float32 graph
# Among the tools of a bundle made of graphs that were given: PyTorch was not asked, so its parity is that with these
GIVEN: Mapping[str, str] = {"compared with": "the graphs given"}
_STEPS = 3  # texts that are also read in two parts and token by token


class Job(NamedTuple):
    """What all steps want to know."""

    src: Path
    folder: Path
    checkpoint: Checkpoint
    plan: Plan
    sentence: SentenceModel | None
    head: str
    vocabulary: Vocabulary
    tokens: Tokens


class _Graphs(NamedTuple):
    """A traced model: what reads sources, if anything does, and what writes; and what the writer's inputs are."""

    source: Traces | None
    decoder: Traces
    growing: Growing


class _Asked(NamedTuple):
    """Texts, or sources with the targets that are written from them, and what PyTorch answers after every token."""

    sources: list[list[int]]
    texts: list[list[int]]
    answers: list[Floats]


def write_writing(job: Job, place: Path, graphs: Path | None, tell: Callable[[str], None]) -> Bundle:
    """As `road.write`, of a decoder or an encoder-decoder."""
    tell("tracing")
    crossing = job.head == "seq2seq-lm"
    window, target = _windows(job)
    sources, texts = _samples(job, window, target, crossing=crossing)
    folder, answers, tools = _traced(job, place, graphs, sources, texts)
    asked = [
        (source, text, answer)
        for source, text, answer in zip(sources, texts, answers, strict=True)
        if answer is not None
    ]
    kept = _Asked([item[0] for item in asked], [item[1] for item in asked], [item[2] for item in asked])
    tell("writing")
    traced = _read(folder, job)
    names = Names(job.checkpoint)
    traced = _check_general(job, place, traced, names, kept)
    words = _write_graphs(job.folder, traced, names, job.plan.policy, job.plan.writing, job.plan.head_policy)
    job.plan.policy.check_used()
    tell("verifying")
    figures = _figures(job.folder, traced.growing, kept)
    parity.check(figures, job.plan.loosest, job.plan.tolerance)
    roles = {"encoder": ENCODER, "decoder": DECODER} if crossing else {"decoder": GRAPH}
    bundle = describe(
        job.src,
        job.folder,
        job.checkpoint,
        Body(words, window),
        parts.Head(job.head),
        [job.vocabulary],
        job.sentence,
        job.plan,
        roles,
    )
    tools = {**bundle.source.tools, traced.decoder.producer[0]: traced.decoder.producer[1], **tools}
    return replace(
        bundle,
        growing=traced.growing,
        target_window=target if crossing else None,
        chat={} if crossing else bundle.chat,
        parity=figures,
        source=replace(bundle.source, tools=tools),
    )


def _windows(job: Job) -> tuple[int, int]:
    """Most tokens of what is read, and of what is written."""
    config = job.checkpoint.config
    window = windows_to_try(config, job.vocabulary.max_length)[-1]
    sizes = [config.get(f"max_{role}_position_embeddings") for role in ("encoder", "decoder")]
    if isinstance(sizes[0], int):
        multiple = source_multiple(config)  # sources are filled up to it, which takes positions too
        held = sizes[0] // multiple * multiple or sizes[0]
        window = min(held, job.vocabulary.max_length or held)
    return window, sizes[1] if isinstance(sizes[1], int) else window


def _samples(job: Job, window: int, target: int, *, crossing: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Sources, empty ones of a decoder, and texts."""
    longest = min(window, _LONGEST)
    most = max(4 * longest, _LOGITS // job.vocabulary.size)
    if not crossing:
        texts = sample_ids(job.tokens, LINES, longest, most=most)
        texts += [texts[0][:1], texts[0][:2]]
        return [[] for _ in texts], texts
    start = job.checkpoint.config.get("decoder_start_token_id")
    if not isinstance(start, int):
        raise CheckpointError(
            f"{job.checkpoint.folder}/config.json has no decoder_start_token_id; a target has to begin with something"
        )
    sources, texts = sample_pairs(
        job.tokens,
        job.tokens,
        split_pairs(LINES),
        start=start,
        longest=longest,
        target_longest=min(target, _LONGEST),
        most=most,
    )
    if (multiple := source_multiple(job.checkpoint.config)) > 1:
        # over three blocks, where a trace would show that it holds their number fixed, and of much less than one
        whole, length = [number for ids in sources for number in ids], min(window, 2 * multiple + 1)
        sources = [*sources, (whole * (1 + length // len(whole)))[:length], whole[:1], whole[:3]]
        texts = [*texts, texts[0], texts[0], texts[0]]
    return sources, texts


def _traced(
    job: Job, place: Path, graphs: Path | None, sources: list[list[int]], texts: list[list[int]]
) -> tuple[Path, Sequence[Floats | None], Mapping[str, str]]:
    """Where the graphs are, what is to be answered, and what took part."""
    crossing = job.head == "seq2seq-lm"
    if graphs is None:
        windows = [Question(ids, [0] * len(ids)) for ids in (sources if crossing else texts)]
        traced = optimum.trace(
            job.checkpoint.folder, place / "traced", job.head, windows,
            targets=texts if crossing else (), type_ids=False, multiple=source_multiple(job.checkpoint.config),
        )  # fmt: skip
        return traced.folder, traced.answers, traced.tools
    wanted = (
        ("encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx") if crossing else ("model.onnx",)
    )
    if missing := [name for name in wanted if not (graphs / name).is_file()]:
        raise CheckpointError(
            f"{graphs} has no {missing[0]}; make the graphs with optimum-cli export onnx --task {optimum.MODELS[job.head][1]}"
            " --no-post-process"
        )
    multiple = source_multiple(job.checkpoint.config)
    return graphs, raw_answers(graphs, job.head, multiple, sources, texts), GIVEN


def raw_answers(
    graphs: Path, head: str, multiple: int, sources: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]
) -> list[Floats | None]:
    """What an exporter's graphs, as they are, answer: one text at a time, its source filled up to a `multiple` of tokens."""
    if head == "causal-lm":
        session = Session(graphs / "model.onnx")
        return [_raw(session, {"input_ids": np.array([ids])}) for ids in texts]
    encoder, decoder = Session(graphs / "encoder_model.onnx"), Session(graphs / "decoder_model.onnx")
    found: list[Floats | None] = []
    for source, ids in zip(sources, texts, strict=True):
        width = -(-len(source) // multiple) * multiple
        filled = np.array([[*source] + [0] * (width - len(source))])
        mask = (np.arange(width) < len(source))[None].astype(np.int64)
        states = encoder.run({"input_ids": filled, "attention_mask": mask})["last_hidden_state"]
        found.append(
            _raw(
                decoder, {"input_ids": np.array([ids]), "encoder_hidden_states": states, "encoder_attention_mask": mask}
            )
        )
    return found


def _raw(session: Session, feed: dict[str, Any]) -> Floats | None:
    length = feed["input_ids"].shape[1]
    feed |= {"attention_mask": np.ones((1, length), np.int64), "position_ids": np.arange(length)[None]}
    feed["cache_position"] = np.arange(length)
    for name, item in session.inputs.items():
        if name.startswith("past_key_values."):
            feed[name] = np.zeros(
                [size if isinstance(size, int) else int(not axis) for axis, size in enumerate(item.shape)], item.dtype
            )
    try:
        return np.asarray(session.run(feed, outputs=["logits"])["logits"][0], np.float32)
    except BundleError:
        return None


def _read(folder: Path, job: Job) -> _Graphs:
    """The graphs, cleaned and joined."""
    if job.head == "causal-lm":
        decoder = read_graph(folder / "model.onnx")
        growing = growing_of(decoder, crossing=False)
        clean(decoder)
        return _Graphs(None, decoder, growing)
    decoder = read_graph(folder / "decoder_with_past_model.onnx")
    growing = growing_of(decoder, crossing=True, multiple=source_multiple(job.checkpoint.config))
    given = {item.given: item.taken.replace("past_key_values.", "present.") for item in growing.crossings}
    source = join_crossings(read_graph(folder / "encoder_model.onnx"), read_graph(folder / "decoder_model.onnx"), given)
    clean(source)
    clean(decoder)
    unread = {name for name in decoder.inputs if name == "encoder_hidden_states"}
    decoder.inputs = {name: port for name, port in decoder.inputs.items() if name not in unread}
    return _Graphs(source, decoder, growing)


def _check_general(job: Job, place: Path, traced: _Graphs, names: Names, asked: _Asked) -> _Graphs:
    """The graphs, with the most new ids that one run of the decoder takes: found by trying, in float32.

    Raises:
        UnsupportedError: Side by side, in parts or token by token the float32 graphs do not answer what PyTorch answers.
    """
    own, plain = place / "plain", Policy("fp32")
    own.mkdir()
    _write_graphs(own, traced, names, plain, plain, plain)
    few = _Asked(asked.sources[:_STEPS], asked.texts[:_STEPS], asked.answers[:_STEPS])
    reason = ""
    for width in (None, 1):
        growing = replace(traced.growing, width=width)
        try:
            errors = [_figures(own, growing, asked)["relative_error"], _stepwise(own, growing, few)]
        except BundleError as failed:
            reason = str(failed)
            continue
        if max(errors) <= _PARITY:
            return traced._replace(growing=growing)
        reason = f"relative error {max(errors):.2g}"
    raise UnsupportedError(
        f"{job.checkpoint.config.get('model_type')}: the traced graphs hold for some lengths of text only: side by side or in steps"
        f" they do not give PyTorch's answers ({reason}); trace them with other options, or another version of them"
    )


def _write_graphs(folder: Path, traced: _Graphs, names: Names, reading: Policy, writing: Policy, head: Policy) -> str:
    """Write the graphs and their one weights file; the name of the word table."""
    weights = Weights(folder / _WEIGHTS)
    try:
        decoder = TracedGraph(weights, writing, head=head)
        _, words = write_decoder(decoder, traced.decoder, names)
        if traced.source is not None:
            # a word table that encoder and decoder share is held as the language modelling head is
            source = TracedGraph(weights, reading, head=head)
            words = write_source(source, traced.source, names, traced.growing, traced.decoder) or words
            source.save(folder / ENCODER)
    finally:
        weights.close()
    decoder.save(folder / (GRAPH if traced.source is None else DECODER))
    return words or ""


def _start(folder: Path, growing: Growing, asked: _Asked) -> Any:
    """Rows to read the texts with."""
    longest = max(map(len, asked.texts))
    if not growing.crossings:
        decoder = GrowingDecoder(Session(folder / GRAPH), growing, window=longest, tokens=_TOKENS)
        return decoder.start(len(asked.texts), longest)
    window = max(map(len, asked.sources))
    sessions = Session(folder / ENCODER), Session(folder / DECODER)
    model = GrowingEncoderDecoder(*sessions, growing, window=window, target_window=longest, tokens=_TOKENS)
    return model.read(asked.sources).start(len(asked.texts), longest)


def _figures(folder: Path, growing: Growing, asked: _Asked) -> dict[str, float]:
    found = _start(folder, growing, asked).read(asked.texts, every=True)
    figures = parity.compare(found, asked.answers)
    return {**figures, "texts": len(asked.texts), "tokens": sum(map(len, asked.texts))}


def _stepwise(folder: Path, growing: Growing, asked: _Asked) -> float:
    """Relative error where texts are read in two parts of unequal lengths and then token by token."""
    rows = _start(folder, growing, asked)
    cuts = [(1 + place, max(2 + place, len(text) - 3)) for place, text in enumerate(asked.texts)]
    found: list[list[Floats]] = [[] for _ in asked.texts]
    parts_of = [[text[: cut[0]], text[cut[0] : cut[1]]] for text, cut in zip(asked.texts, cuts, strict=True)]
    tails = [text[cut[1] :] for text, cut in zip(asked.texts, cuts, strict=True)]
    runs = [[part[number] for part in parts_of] for number in range(2)]
    runs += [[[tail[number]] for tail in tails] for number in range(min(map(len, tails)))]
    for run in runs:
        for place, logits in enumerate(rows.read(run, every=True)):
            found[place].append(logits)
    joined = [np.concatenate(item) for item in found]
    return parity.compare(joined, [answer[: len(own)] for answer, own in zip(asked.answers, joined, strict=True)])[
        "relative_error"
    ]
