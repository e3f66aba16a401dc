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

from edgenlp.bundle import MANIFEST, Bundle, File, Vocabulary, write_manifest
from edgenlp.errors import CheckpointError, ExportError

from . import families, traced, verify
from .build import DECODER, ENCODER, GRAPH, PROMPT, Plan, build_graphs, make_plan
from .checkpoint import Checkpoint, open_checkpoint
from .describe import describe, tokenizer_folder
from .families import decoder, parts
from .hub import Fetched, fetch, is_name
from .sentence_transformers import read_sentence_model
from .tokenizer import convert_target_tokenizer, convert_tokenizer

__all__ = ["Progress", "export", "list_tensors"]

# What is being done, how much of it, and of how much
Progress = Callable[[str, int, int], None]

_TOKENIZER, _TARGET_TOKENIZER = "tokenizer.json", "target_tokenizer.json"
_STEPS = ("reading", "writing", "verifying", "finishing")


def export(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: str | None = None,
    precision: str = "int8",
    keep: Sequence[str] = (),
    block: int | None = None,
    cache: str = "fp32",
    prompt: str | None = None,
    head: str | None = None,
    calibration: str | os.PathLike[str] | None = None,
    target_tokenizer: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool = False,
    graphs: str | os.PathLike[str] | None = None,
    force: bool = False,
    tolerance: float | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Turn a checkpoint folder into a bundle.

    Args:
        src: Folder with `config.json`, weights and tokenizer files, or a sentence-transformers folder; or the name of a model on the
            Hugging Face Hub ("org/model"), which is fetched first (extra `[hub]`).
        out: Folder to write; it may exist if it is empty, or, with `force`, if it is a bundle.
        task: Task whose head is exported; None for the head that the config names.
        precision: "fp32", "fp16", "int8", "int8-block" or "int4"; of an encoder-decoder also one for each, as in
            "encoder=int8,decoder=int4".
        keep: Exceptions, "PRECISION=PATTERN" over tensor names; the first that matches counts.
        block: Weights that share a scale in int4 and int8-block, 16 to 256: more make a smaller bundle, fewer one that is nearer to
            its checkpoint. None for 32 in int4 (128 where it is fitted to text) and 64 in int8-block. Rows that it does not divide
            are cut into smaller ones.
        cache: Precision of a decoder's keys and values, "fp32" or "int8" (a quarter of the memory).
        prompt: Precision of the linear layers of a second graph that reads a decoder's prompts; the bundle then holds both. "int8"
            reads prompts two to three times as fast as "int4".
        head: Precision of a decoder's language modelling head, and of the word table where it doubles as the head; None for
            "int8-block" where `precision` is "int4", else for `precision`.
        calibration: UTF-8 text that a decoder's 4-bit layers are fitted to, a few hundred lines of what the model will read; of an
            encoder-decoder a source and its target on each line, with a tab between them. None for a page that comes with edgenlp,
            and what an encoder-decoder writes for it.
        target_tokenizer: Folder with the tokenizer of what is written, where an encoder and a decoder with vocabularies of their own
            were put together (bert2gpt2); None for the checkpoint's.
        revision: Branch, tag or commit of a model of the Hub; None for its main branch.
        cache_dir: Where a model of the Hub is kept; None for the Hub's own cache.
        offline: Fetch nothing: a model of the Hub must be in the cache already.
        graphs: Folder of float32 ONNX graphs of this checkpoint that an exporter made (`optimum-cli export onnx`): these become the
            bundle, whatever the architecture, and nothing is traced. None for a graph that edgenlp writes, or, of an architecture that
            it has none for, one that optimum traces (extra `[trace]`).
        force: Replace a bundle that is there.
        tolerance: Largest relative error of the bundle's answers, `float("inf")` for any; None for the precision's own.
        progress: Called as the export goes on.

    Returns:
        The bundle that was written.

    Raises:
        DependencyError: An extra is needed, and is not installed.
        ExportError: The checkpoint cannot be fetched, read or exported, or the bundle is too far from it.
    """
    plan = make_plan(
        task=task,
        precision=precision,
        keep=keep,
        block=block,
        cache=cache,
        prompt=prompt,
        head=head,
        calibration=calibration,
        target_tokenizer=target_tokenizer,
        tolerance=tolerance,
    )
    target = Path(out)
    _refuse(target, force)
    steps = progress or (lambda step, done, total: None)
    fetched = _fetched(src, revision, cache_dir, offline, steps)
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.absolute().parent))
    except OSError as error:
        raise ExportError(f"cannot write beside {target}: {error.strerror}; choose another place") from error
    try:
        place = fetched.folder if fetched else Path(src)
        bundle = _write(place, folder, plan, steps, fetched, graphs=None if graphs is None else Path(graphs))
        bundle = replace(bundle, folder=target)
        _install(folder, target)
    except OSError as error:
        raise ExportError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return bundle


def list_tensors(
    src: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool = False,
) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and stored type of every tensor of a checkpoint: what `keep` patterns are matched with; arguments as `export`'s."""
    fetched = _fetched(src, revision, cache_dir, offline, lambda step, done, total: None)
    place = fetched.folder if fetched else Path(src)
    sentence = read_sentence_model(place)
    with open_checkpoint(sentence.transformer if sentence else place) as checkpoint:
        return [(name, checkpoint.shape(name), checkpoint.dtype(name)) for name in checkpoint.names()]


def _fetched(
    src: str | os.PathLike[str],
    revision: str | None,
    cache_dir: str | os.PathLike[str] | None,
    offline: bool,
    progress: Progress,
) -> Fetched | None:
    """A model of the Hub, brought here; None for a folder."""
    if is_name(src):
        progress("fetching", 0, len(_STEPS))
        return fetch(str(src), revision=revision, cache_dir=cache_dir, offline=offline)
    if revision is not None:
        raise ExportError(f"{src} is a folder, which has no revisions; leave revision out, or name a model of the Hub")
    return None


def _write(
    src: Path,
    folder: Path,
    plan: Plan,
    progress: Progress,
    fetched: Fetched | None = None,
    *,
    graphs: Path | None = None,
) -> Bundle:
    progress(_STEPS[0], 0, len(_STEPS))
    sentence = read_sentence_model(src)
    root = sentence.transformer if sentence else src
    with open_checkpoint(root) as checkpoint:
        config = checkpoint.config
        if graphs is not None or config.get("model_type") not in dict(families.architectures()):
            steps = {"tracing": 0, "writing": 1, "verifying": 2}
            bundle = traced.write(
                src, folder, checkpoint, sentence, plan,
                graphs=graphs, tell=lambda step: progress(step, steps[step], len(_STEPS)),
            )  # fmt: skip
            return _finish(bundle, folder, fetched, progress)
        kind = families.family_of(config)
        body, head = families.read(checkpoint, kind, families.head_of(config, plan.task))
        plan.check(head.kind)
        vocabularies = _write_tokenizers(tokenizer_folder(src, root), folder, checkpoint, body, plan.target_tokenizer)

        progress(_STEPS[1], 1, len(_STEPS))
        built = build_graphs(folder, checkpoint, body, head, vocabularies, plan)
        bundle = describe(src, folder, checkpoint, body, head, vocabularies, sentence, plan, _roles(body, head, plan))
        if plan.cache == "int8":
            assert isinstance(body, parts.Decoder)
            scales = verify.cache_scales(folder, bundle, body)
            for name, graph in built.items():
                decoder.quantize_cache(graph, body, scales)
                graph.save(folder / name)

        progress(_STEPS[2], 2, len(_STEPS))
        figures = verify.measure(folder, bundle, checkpoint, body, head)
    verify.check(figures, plan.loosest, plan.tolerance)
    if plan.prompt:
        verify.check(figures, plan.prompt, plan.tolerance, graph="prompt_")

    return _finish(replace(bundle, parity=figures), folder, fetched, progress)


def _finish(bundle: Bundle, folder: Path, fetched: Fetched | None, progress: Progress) -> Bundle:
    """Write `edgenlp.json`: the bundle is whole."""
    progress(_STEPS[3], 3, len(_STEPS))
    if fetched:
        source = replace(bundle.source, name=fetched.name, revision=fetched.revision)
        bundle = replace(bundle, name=fetched.name.rpartition("/")[2], source=source)
    bundle = replace(bundle, files=_files(folder))
    write_manifest(bundle, folder)
    progress(_STEPS[3], 4, len(_STEPS))
    return bundle


def _write_tokenizers(
    place: Path, folder: Path, checkpoint: Checkpoint, body: parts.Body, target: Path | None
) -> list[Vocabulary]:
    """Write the tokenizer, and that of what is written where it is another; the facts of each."""
    config = checkpoint.config
    source = body.encoder if isinstance(body, parts.EncoderDecoder) else body
    found = [(_TOKENIZER, convert_tokenizer(place, config), source.words)]
    if isinstance(body, parts.EncoderDecoder):
        decoder = config.get("decoder")
        own = convert_target_tokenizer(place, config)
        if target is not None:
            own = convert_tokenizer(target, decoder if isinstance(decoder, dict) else {})
        if own is not None:
            found.append((_TARGET_TOKENIZER, own, body.decoder.words))
        elif isinstance(decoder, dict) and checkpoint.shape(source.words)[0] != checkpoint.shape(body.decoder.words)[0]:
            raise CheckpointError(
                f"{checkpoint.folder} joins an encoder and a decoder with vocabularies of their own, and holds one tokenizer; name"
                " the folder with the decoder's: --target-tokenizer (target_tokenizer=)"
            )
    facts = []
    for name, (text, vocabulary), words in found:
        if vocabulary.size > (rows := checkpoint.shape(words)[0]):
            raise CheckpointError(
                f"{checkpoint.folder}: the tokenizer has {vocabulary.size} ids, the model's word table {rows} rows; they do not"
                " belong together"
            )
        (folder / name).write_text(text, encoding="utf-8")
        facts.append(replace(vocabulary, file=name))
    return facts


def _roles(body: parts.Body, head: parts.Head, plan: Plan) -> dict[str, str]:
    """Role to file name of the graphs."""
    if head.kind == "seq2seq-lm":
        return {"encoder": ENCODER, "decoder": DECODER}
    if isinstance(body, parts.Decoder):
        return {"decoder": GRAPH, **({"prompt": PROMPT} if plan.prompt else {})}
    return {"encoder": GRAPH}


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
