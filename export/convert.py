"""The recipe, read aloud: read, build and quantize, verify, write. Knows the order of things and none of their insides.

A bundle is written to a temporary sibling folder and renamed when it is whole, so that an export that fails or is
killed leaves nothing that looks like a bundle.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edgenlp.bundle import MANIFEST, Bundle, File, Vocabulary, write_manifest
from edgenlp.errors import CheckpointError, ExportError, UnsupportedError
from edgenlp.tokens import Tokens

from . import families, verify
from .calibrate import Calibration
from .checkpoint import Checkpoint, open_checkpoint
from .describe import describe, tokenizer_folder
from .families import bert, bert_checkpoints, decoder, parts
from .graph import Graph, Weights
from .quantize import SCHEMES, Policy, parse_keep
from .sample import LINES, read_lines, sample_ids
from .sentence_transformers import read_sentence_model
from .tokenizer import convert_tokenizer

__all__ = ["Progress", "export", "list_tensors"]

# What is being done, how much of it, and of how much
Progress = Callable[[str, int, int], None]

_GRAPH, _PROMPT, _WEIGHTS, _TOKENIZER = "model.onnx", "prompt.onnx", "model.weights", "tokenizer.json"
_CACHES = ("fp32", "int8")
_CALIBRATION_LENGTH, _CALIBRATION_TOKENS = 256, 16384
_STEPS = ("reading", "writing", "verifying", "finishing")


def export(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: str | None = None,
    precision: str = "int8",
    keep: Sequence[str] = (),
    cache: str = "fp32",
    prompt: str | None = None,
    head: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    force: bool = False,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Turn a checkpoint folder into a bundle.

    Args:
        src: Folder with `config.json`, weights and tokenizer files, or a sentence-transformers folder.
        out: Folder to write; it may exist if it is empty, or, with `force`, if it is a bundle.
        task: Task whose head is exported; None for the head that the config names.
        precision: "fp32", "fp16", "int8", "int8-block" or "int4".
        keep: Exceptions, "PRECISION=PATTERN" over tensor names; the first that matches counts.
        cache: Precision of a decoder's keys and values, "fp32" or "int8" (a quarter of the memory).
        prompt: Precision of the linear layers of a second graph that reads a decoder's prompts; the bundle then holds both. "int8"
            reads prompts two to three times as fast as "int4".
        head: Precision of a decoder's language modelling head, and of the word table where it doubles as the head; None for
            "int8-block" where `precision` is "int4", else for `precision`.
        calibration: UTF-8 text that a decoder's 4-bit layers are fitted to, a few hundred lines of what the model will read; None
            for a page that comes with edgenlp.
        force: Replace a bundle that is there.
        tolerance: Largest relative error of the bundle's answers, `float("inf")` for any; None for the precision's own.
        progress: Called as the export goes on.

    Returns:
        The bundle that was written.

    Raises:
        ExportError: The checkpoint cannot be read or exported, or the bundle is too far from it.
    """
    if precision not in SCHEMES:
        raise UnsupportedError(f"no precision {precision!r}; there are {', '.join(SCHEMES)}")
    if cache not in _CACHES:
        raise UnsupportedError(f"no cache precision {cache!r}; there are {', '.join(_CACHES)}")
    for what, name in (("prompt", prompt), ("head", head)):
        if name is not None and name not in SCHEMES:
            raise UnsupportedError(f"no {what} precision {name!r}; there are {', '.join(SCHEMES)}")
    policy = Policy(precision, parse_keep(list(keep)))
    fitted = any(
        SCHEMES[name].bits == 4 for name in (precision, prompt or precision, *(name for _, name in policy.keep))
    )
    if calibration is not None and not fitted:
        raise UnsupportedError("calibration is for int4, and nothing here is held in it; leave it out, or ask for int4")
    lines = LINES if calibration is None else read_lines(Path(calibration))
    plan = _Plan(task, policy, cache, None if prompt == precision else prompt, head, lines, tolerance)
    target = Path(out)
    _refuse(target, force)
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.absolute().parent))
    except OSError as error:
        raise ExportError(f"cannot write beside {target}: {error.strerror}; choose another place") from error
    try:
        bundle = _write(Path(src), folder, plan, progress or (lambda step, done, total: None))
        bundle = replace(bundle, folder=target)
        _install(folder, target)
    except OSError as error:
        raise ExportError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return bundle


def list_tensors(src: str | os.PathLike[str]) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and stored type of every tensor of a checkpoint: what `keep` patterns are matched with."""
    sentence = read_sentence_model(Path(src))
    with open_checkpoint(sentence.transformer if sentence else Path(src)) as checkpoint:
        return [(name, checkpoint.shape(name), checkpoint.dtype(name)) for name in checkpoint.names()]


class _Plan(NamedTuple):
    """What was asked for; see `export`."""

    task: str | None
    policy: Policy
    cache: str
    prompt: str | None
    head: str | None
    lines: Sequence[str]
    tolerance: float | None

    @property
    def for_decoders(self) -> bool:
        """Whether something was asked for that only a decoder has."""
        return bool(self.prompt or self.head or self.cache != "fp32" or self.lines is not LINES)

    @property
    def head_policy(self) -> Policy:
        """Which scheme the language modelling head gets."""
        head = self.head or ("int8-block" if self.policy.precision == "int4" else self.policy.precision)
        return replace(self.policy, precision=head)


def _write(src: Path, folder: Path, plan: _Plan, progress: Progress) -> Bundle:
    progress(_STEPS[0], 0, len(_STEPS))
    sentence = read_sentence_model(src)
    root = sentence.transformer if sentence else src
    with open_checkpoint(root) as checkpoint:
        config = checkpoint.config
        kind = families.family_of(config)
        head_kind = families.head_of(config, plan.task)
        if head_kind != "causal-lm" and plan.for_decoders:
            raise UnsupportedError(
                f"a {kind} encoder has no cache, prompt or head to write with, and is not calibrated; leave these options out"
            )
        body, head = _read(checkpoint, kind, head_kind)
        tokenizer, vocabulary = convert_tokenizer(tokenizer_folder(src, root), config)
        if vocabulary.size > (rows := checkpoint.shape(body.words)[0]):
            raise CheckpointError(
                f"{src}: the tokenizer has {vocabulary.size} ids, the model's word table {rows} rows; they do not belong together"
            )
        (folder / _TOKENIZER).write_text(tokenizer, encoding="utf-8")

        progress(_STEPS[1], 1, len(_STEPS))
        graphs = _write_graphs(folder, checkpoint, body, head, vocabulary, plan)
        names = {"decoder" if isinstance(body, parts.Decoder) else "encoder": _GRAPH}
        if plan.prompt:
            names["prompt"] = _PROMPT
        bundle = describe(src, folder, checkpoint, body, head, vocabulary, sentence, plan.policy, names)
        if isinstance(body, parts.Decoder):
            bundle = replace(
                bundle,
                cache=plan.cache,
                prompt=plan.prompt,
                head=replace(bundle.head, precision=plan.head_policy.precision),
            )
            if plan.cache == "int8":
                scales = verify.cache_scales(folder, bundle, body)
                for name, graph in graphs.items():
                    decoder.quantize_cache(graph, body, scales)
                    graph.save(folder / name)

        progress(_STEPS[2], 2, len(_STEPS))
        figures = verify.measure(folder, bundle, checkpoint, body, head)
    verify.check(figures, plan.policy.precision, plan.tolerance)
    if plan.prompt:
        verify.check(figures, plan.prompt, plan.tolerance, graph="prompt_")

    progress(_STEPS[3], 3, len(_STEPS))
    bundle = replace(bundle, files=_files(folder), parity=figures)
    write_manifest(bundle, folder)
    progress(_STEPS[3], 4, len(_STEPS))
    return bundle


def _write_graphs(
    folder: Path,
    checkpoint: Checkpoint,
    body: parts.Encoder | parts.Decoder,
    head: parts.Head,
    vocabulary: Vocabulary,
    plan: _Plan,
) -> dict[str, Graph]:
    """Write the graphs and the one weights file that they share; by file name."""
    weights = Weights(folder / _WEIGHTS)
    try:
        graphs = {_GRAPH: Graph(weights, plan.policy)}
        if isinstance(body, parts.Decoder):
            graphs = {_GRAPH: Graph(weights, plan.policy, head=plan.head_policy)}
            if plan.prompt:
                reading = replace(plan.policy, matrices=plan.prompt)
                graphs[_PROMPT] = Graph(weights, reading, head=plan.head_policy)
            for graph in graphs.values():
                decoder.build(graph, checkpoint, body, _calibration(folder, checkpoint, body, vocabulary, graph, plan))
        else:
            bert.build(graphs[_GRAPH], checkpoint, body, head, type_ids=vocabulary.type_ids)
    finally:
        weights.close()
    plan.policy.check_used()
    for name, graph in graphs.items():
        graph.save(folder / name)
    return graphs


def _calibration(
    folder: Path, checkpoint: Checkpoint, body: parts.Decoder, vocabulary: Vocabulary, graph: Graph, plan: _Plan
) -> Calibration | None:
    """What the graph's 4-bit layers are fitted to; None where it has none."""
    named = {graph.policy.matrices or graph.policy.precision, *(name for _, name in graph.policy.keep)}
    if not any(SCHEMES[name].bits == 4 for name in named):
        return None
    tokens = Tokens(folder / _TOKENIZER, vocabulary)
    texts = sample_ids(tokens, plan.lines, min(body.window, _CALIBRATION_LENGTH), most=_CALIBRATION_TOKENS)
    return Calibration(checkpoint, body, texts)


def _read(checkpoint: Checkpoint, kind: str, head: str) -> tuple[parts.Encoder | parts.Decoder, parts.Head]:
    if kind in families.DECODERS:
        return families.DECODERS[kind](checkpoint, kind), parts.Head(head)
    return bert_checkpoints.read_encoder(checkpoint, kind), bert_checkpoints.read_head(checkpoint, kind, head)


def _files(folder: Path) -> dict[str, File]:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            files[path.name] = File(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)
    return files


def _refuse(target: Path, force: bool) -> None:
    """Never write over what is not ours to write over."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file; name a folder to write")
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file():
        raise ExportError(f"{target} holds something that is not a bundle; name another folder, or empty it")
    if not force:
        raise ExportError(f"{target} is a bundle already; pass --force (force=True) to replace it")


def _install(folder: Path, target: Path) -> None:
    """Put the finished folder in its place; what was there goes last."""
    folder.chmod(0o777 & ~_umask())
    if not target.exists():
        folder.rename(target)
        return
    old = folder.with_suffix(".old")
    target.rename(old)
    folder.rename(target)
    shutil.rmtree(old)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
