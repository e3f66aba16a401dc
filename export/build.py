"""A body to the graphs of a bundle: which there are, and which scheme each is held in. Knows writers of graphs, and no names."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from edgenlp.bundle import Vocabulary
from edgenlp.errors import UnsupportedError
from edgenlp.tokens import Tokens

from .calibrate import Calibration
from .checkpoint import Checkpoint
from .families import bert, classifier, crossing, deberta, decoder, longformer, modernbert, parts, source
from .families.deberta_parts import DisentangledEncoder
from .families.longformer_parts import LongEncoder
from .families.modernbert_parts import ModernBertEncoder
from .generation import read_generation, read_task_options
from .graph import Graph, Weights
from .quantize import BLOCKS, SCHEMES, Policy, parse_keep
from .rehearse import rehearse
from .sample import LINES, read_lines, sample_ids, sample_pairs, split_pairs

__all__ = ["DECODER", "ENCODER", "GRAPH", "PROMPT", "Plan", "build_graphs", "make_plan"]

# What an encoder's body is described with, to what writes its graph
_READING: Mapping[type, Callable[..., None]] = {
    parts.Encoder: bert.build,
    DisentangledEncoder: deberta.build,
    LongEncoder: longformer.build,
    ModernBertEncoder: modernbert.build,
}

GRAPH, PROMPT, ENCODER, DECODER = "model.onnx", "prompt.onnx", "encoder.onnx", "decoder.onnx"
_WEIGHTS = "model.weights"
_CACHES = ("fp32", "int8")
_CALIBRATION_LENGTH, _CALIBRATION_TOKENS = 256, 16384


class Plan(NamedTuple):
    """What was asked for; see `export`.

    Attributes:
        policy: Which scheme each tensor gets; of an encoder-decoder those of the encoder.
        writing: The same of an encoder-decoder's decoder.
        split: Whether encoder and decoder were named apart.
        prompts: Whether a precision of prompts was named at all.
        prompt: That precision, where it is another than `policy`'s.
        head: Precision of the language modelling head, None for what suits the rest.
    """

    task: str | None
    policy: Policy
    writing: Policy
    split: bool
    cache: str
    prompts: bool
    prompt: str | None
    head: str | None
    lines: Sequence[str]
    target_tokenizer: Path | None
    tolerance: float | None

    @property
    def head_policy(self) -> Policy:
        """Which scheme the language modelling head gets, and the word table where it is the head."""
        head = self.head or ("int8-block" if self.writing.precision == "int4" else self.writing.precision)
        return replace(self.writing, precision=head)

    @property
    def crossing_head_policy(self) -> Policy:
        """The same of an encoder-decoder, which writes several beams and sources side by side."""
        head = self.head or ("int8" if self.writing.precision == "int4" else self.writing.precision)
        return replace(self.writing, precision=head, beside=True)

    @property
    def loosest(self) -> str:
        """The precision that may be furthest off."""
        return max(self.policy.precision, self.writing.precision, key=lambda name: SCHEMES[name].tolerance)

    def check(self, head: str) -> None:
        """Refuse what a checkpoint with a head of this kind cannot have.

        Raises:
            UnsupportedError: Something was asked for that it does not have.
        """
        if head != "seq2seq-lm" and self.split:
            raise UnsupportedError("only an encoder-decoder has a precision for each of the two; name one")
        if head != "seq2seq-lm" and self.target_tokenizer:
            raise UnsupportedError(
                "only an encoder-decoder has a tokenizer for what it writes; leave target_tokenizer out"
            )
        if head == "seq2seq-lm" and (self.prompts or self.cache != "fp32"):
            raise UnsupportedError(
                "an encoder-decoder reads its source with the encoder and writes short texts: it has no prompt precision, and"
                " its cache is fp32; leave these options out"
            )
        writes = head in ("causal-lm", "seq2seq-lm")
        if not writes and (self.prompt or self.head or self.cache != "fp32" or self.lines is not LINES):
            raise UnsupportedError(
                "this checkpoint only reads: it has no cache, prompt or head to write with, and is not calibrated; leave these"
                " options out"
            )


def make_plan(
    *,
    task: str | None,
    precision: str,
    keep: Sequence[str],
    block: int | None,
    cache: str,
    prompt: str | None,
    head: str | None,
    calibration: str | os.PathLike[str] | None,
    target_tokenizer: str | os.PathLike[str] | None,
    tolerance: float | None,
) -> Plan:
    """Check what was asked for, as far as no checkpoint is needed for it; the arguments are those of `export`.

    Raises:
        UnsupportedError: There is no such thing.
    """
    reading, writing = _precisions(precision)
    if cache not in _CACHES:
        raise UnsupportedError(f"no cache precision {cache!r}; there are {', '.join(_CACHES)}")
    for what, name in (("prompt", prompt), ("head", head)):
        if name is not None and name not in SCHEMES:
            raise UnsupportedError(f"no {what} precision {name!r}; there are {', '.join(SCHEMES)}")
    policy = Policy(reading, parse_keep(list(keep)), block=block)
    named = (writing, prompt or writing, *(name for _, name in policy.keep))
    if block is not None and block not in BLOCKS:
        raise UnsupportedError(f"no block size {block!r}; there are {', '.join(map(str, BLOCKS))}")
    if block is not None and not any(SCHEMES[name].matrix == "blocks" for name in (reading, head or writing, *named)):
        raise UnsupportedError(
            "a block size is for int4 and int8-block, and nothing here is held in them; leave it out, or ask for one of them"
        )
    if calibration is not None and not any(SCHEMES[name].bits == 4 for name in named):
        raise UnsupportedError("calibration is for int4, and nothing here is held in it; leave it out, or ask for int4")
    lines = LINES if calibration is None else read_lines(Path(calibration))
    return Plan(
        task=task,
        policy=policy,
        writing=replace(policy, precision=writing),
        split="=" in precision,
        cache=cache,
        prompts=prompt is not None,
        prompt=None if prompt == precision else prompt,
        head=head,
        lines=lines,
        target_tokenizer=None if target_tokenizer is None else Path(target_tokenizer),
        tolerance=tolerance,
    )


def _precisions(said: str) -> tuple[str, str]:
    """Of the encoder and of the decoder: "int8", or "encoder=int8,decoder=int4"."""
    named = {"encoder": said, "decoder": said}
    if "=" in said:
        pairs = [part.partition("=")[::2] for part in said.split(",")]
        named = {role.strip(): name.strip() for role, name in pairs}
        if set(named) != {"encoder", "decoder"} or len(pairs) != 2:
            raise UnsupportedError(f"no precision {said!r}; name one, or both as in encoder=int8,decoder=int4")
    for name in named.values():
        if name not in SCHEMES:
            raise UnsupportedError(f"no precision {name!r}; there are {', '.join(SCHEMES)}")
    return named["encoder"], named["decoder"]


def build_graphs(
    folder: Path,
    checkpoint: Checkpoint,
    body: parts.Body,
    head: parts.Head,
    vocabularies: Sequence[Vocabulary],
    plan: Plan,
) -> dict[str, Graph]:
    """Write the graphs, and the one weights file that they share.

    Args:
        folder: Where to; the tokenizers' files lie there already.
        checkpoint: Where the weights are.
        body: What the model consists of.
        head: What stands on it.
        vocabularies: Facts about the tokenizer, and about that of what is written where it is another.
        plan: What was asked for.

    Returns:
        File name to graph.
    """
    weights = Weights(folder / _WEIGHTS)
    try:
        if isinstance(body, parts.EncoderDecoder) and head.kind != "seq2seq-lm":
            graphs = {GRAPH: Graph(weights, plan.policy)}
            classifier.build(graphs[GRAPH], checkpoint, body, head)
        elif isinstance(body, parts.EncoderDecoder):
            calibration = _paired_calibration(folder, checkpoint, body, vocabularies, plan)
            graphs = _crossing_graphs(weights, checkpoint, body, plan, calibration)
        elif isinstance(body, parts.Decoder):
            graphs = {GRAPH: Graph(weights, plan.policy, head=plan.head_policy)}
            if plan.prompt:
                graphs[PROMPT] = Graph(weights, replace(plan.policy, matrices=plan.prompt), head=plan.head_policy)
            for graph in graphs.values():
                calibration = _calibration(folder, checkpoint, body, vocabularies, graph.policy, plan.lines)
                decoder.build(graph, checkpoint, body, calibration)
        else:
            graphs = {GRAPH: Graph(weights, plan.policy)}
            _READING[type(body)](graphs[GRAPH], checkpoint, body, head, type_ids=vocabularies[0].type_ids)
    finally:
        weights.close()
    plan.policy.check_used()
    for name, graph in graphs.items():
        graph.save(folder / name)
    return graphs


def _crossing_graphs(
    weights: Weights, checkpoint: Checkpoint, body: parts.EncoderDecoder, plan: Plan, calibration: Calibration | None
) -> dict[str, Graph]:
    graphs = {
        ENCODER: Graph(weights, plan.policy, head=plan.crossing_head_policy),
        DECODER: Graph(weights, plan.writing, head=plan.crossing_head_policy),
    }
    source.build(graphs[ENCODER], checkpoint, body)
    crossing.build(graphs[DECODER], checkpoint, body, calibration)
    return graphs


def _calibration(
    folder: Path,
    checkpoint: Checkpoint,
    body: parts.Decoder,
    vocabularies: Sequence[Vocabulary],
    policy: Policy,
    lines: Sequence[str],
) -> Calibration | None:
    """What a decoder's 4-bit layers are fitted to; None where it has none."""
    if not _has_4_bits(policy):
        return None
    tokens, longest = Tokens(folder / vocabularies[0].file, vocabularies[0]), min(body.window, _CALIBRATION_LENGTH)
    return Calibration(checkpoint, body, sample_ids(tokens, lines, longest, most=_CALIBRATION_TOKENS))


def _paired_calibration(
    folder: Path,
    checkpoint: Checkpoint,
    body: parts.EncoderDecoder,
    vocabularies: Sequence[Vocabulary],
    plan: Plan,
) -> Calibration | None:
    """The same of an encoder-decoder: the user's pairs, or what the model itself, in 8 bits, writes for the lines."""
    if not _has_4_bits(plan.writing):
        return None
    tokens = [Tokens(folder / facts.file, facts) for facts in vocabularies]
    windows = body.encoder.window, body.decoder.window
    if any("\t" in line for line in plan.lines):
        longest, target_longest = (min(window, _CALIBRATION_LENGTH) for window in windows)
        pairs = sample_pairs(
            tokens[0], tokens[-1], split_pairs(plan.lines),
            start=body.start, longest=longest, target_longest=target_longest, most=_CALIBRATION_TOKENS,
        )  # fmt: skip
        return Calibration.of_pairs(checkpoint, body, *pairs)
    config = checkpoint.config
    prefixes = [str(options["prefix"]) for options in read_task_options(config).values() if options.get("prefix")]
    with TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as place:
        weights = Weights(Path(place, _WEIGHTS))
        try:
            graphs = _crossing_graphs(weights, checkpoint, body, _REHEARSAL, None)
        finally:
            weights.close()
        for name, graph in graphs.items():
            graph.save(Path(place, name))
        sources, targets = rehearse(
            (Path(place, ENCODER), Path(place, DECODER)), tokens[0], plan.lines,
            prefixes=prefixes, start=body.start, windows=windows, options=read_generation(checkpoint.folder, config),
        )  # fmt: skip
    return Calibration.of_pairs(checkpoint, body, sources, targets)


def _has_4_bits(policy: Policy) -> bool:
    named = {policy.matrices or policy.precision, *(name for _, name in policy.keep)}
    return any(SCHEMES[name].bits == 4 for name in named)


_REHEARSAL = make_plan(
    task=None,
    precision="int8",
    keep=(),
    block=None,
    cache="fp32",
    prompt=None,
    head=None,
    calibration=None,
    target_tokenizer=None,
    tolerance=None,
)
