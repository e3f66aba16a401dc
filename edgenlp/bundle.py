"""The folder on disk: what `edgenlp.json` says, read, written and checked. Knows no tensors, no text and no task's meaning.

A bundle is data. Opening one runs no code of the bundle's, follows no path outside its folder and reads no pickle. The exporter
writes into `edgenlp.json` every fact that the runtime would otherwise have to guess.
"""

import hashlib
import json
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgenlp.errors import BundleError
from edgenlp.growing.facts import Growing, check_growing

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Bundle",
    "File",
    "Head",
    "Languages",
    "Pooling",
    "Source",
    "Vocabulary",
    "open_bundle",
    "write_manifest",
]

FORMAT = 1
MANIFEST = "edgenlp.json"
_MANIFEST_LIMIT = 64 << 20  # bytes; label lists and chat templates are text, not weights
_WINDOW_LIMIT = 1 << 24  # tokens

T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """One file of the bundle: `sha256` in hexadecimal, `size` in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Vocabulary:
    """Facts about the tokenizer that `tokenizer.json` itself does not hold.

    Attributes:
        file: The tokenizer's file, with neither truncation nor padding inside.
        size: Number of ids, added tokens included.
        max_length: Tokens that the tokenizer was declared for (`model_max_length`), None where unlimited.
        special: Role to (token, id), of the roles pad, unk, cls, sep, mask, bos, eos those that exist.
        type_ids: Whether the tokenizer hands `token_type_ids` to the model (`model_input_names`).
        truncation_side: "right" or "left".
        clean_up: Default of `clean_up_tokenization_spaces` when decoding.
        joins_words: Whether pre-split words need a leading space that the pre-tokenizer does not add by itself.
    """

    file: str
    size: int
    max_length: int | None
    special: dict[str, tuple[str, int]]
    type_ids: bool
    truncation_side: str
    clean_up: bool
    joins_words: bool


@dataclass(frozen=True)
class Head:
    """What the columns of the graph's output mean.

    Attributes:
        kind: "sequence-classification", "token-classification", "question-answering", "masked-lm",
            "hidden-states", "causal-lm" or "seq2seq-lm".
        labels: Name of each column, in order; empty for question answering, masked LM and hidden states.
        problem: `problem_type` of the checkpoint: "single_label_classification", "multi_label_classification",
            "regression", or None where it does not say.
        function: `function_to_apply` of the checkpoint, None where it does not say.
        all_scores: `return_all_scores` of the checkpoint.
        entailment: Column that means entailment (of a natural-language-inference head), None where there is none.
        precision: Of a language modelling head's weights; None of other heads, which are the bundle's.
    """

    kind: str
    labels: tuple[str, ...] = ()
    problem: str | None = None
    function: str | None = None
    entailment: int | None = None
    all_scores: bool = False
    precision: str | None = None


@dataclass(frozen=True)
class Pooling:
    """How token vectors become one vector per text (the modules of a sentence-transformers checkpoint).

    Attributes:
        modes: Concatenated in this order: "cls", "max", "mean", "mean_sqrt_len", "weighted_mean", "last".
        normalize: Whether the vector is scaled to length 1.
        prompts: Name to text put before the input.
        default_prompt: Name of the prompt used when none is asked for.
        include_prompt: Whether the prompt's tokens take part in pooling.
        max_length: Tokens at which sentence-transformers cuts a text (`max_seq_length`), None for the model's window.
        lowercase: Whether texts are lowercased before they reach the tokenizer.
    """

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    include_prompt: bool = True
    max_length: int | None = None
    lowercase: bool = False


@dataclass(frozen=True)
class Languages:
    """The languages that a model of many translates between.

    Attributes:
        ids: Code, as the checkpoint's tokenizer takes it ("fr_XX", "fr", "fra_Latn"), to the id of the language's token.
        source: Code of the language that texts are in where nothing is said: its token is in the tokenizer's template.
        target: Code of the language that is written where nothing is said, None where the checkpoint names none.
        before: Whether the source language's token stands before the text; else it is the last one, behind the end token.
    """

    ids: dict[str, int]
    source: str
    target: str | None
    before: bool


@dataclass(frozen=True)
class Source:
    """Where the bundle came from; for people, never read by a task."""

    name: str
    architecture: str
    parameters: int
    revision: str | None = None
    licence: str | None = None
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """`edgenlp.json`, checked.

    Attributes:
        folder: Where the bundle lies. Not written to the file.
        name: The checkpoint's name.
        tasks: Tasks that the head serves, the foremost first.
        precision: Name of the precision asked for ("int8").
        kept: (pattern, precision) of tensors held at another one; the first pattern that matches counts.
        graphs: Role ("encoder", "decoder", "prompt") to file name. A bundle with encoder and decoder writes what the encoder read.
        window: Most tokens in one input, special tokens included.
        tokenizer: Facts about the tokenizer.
        head: What the output's columns mean.
        pooling: How token vectors become a text's vector.
        files: Every file that the bundle consists of, by name.
        source: Where it came from.
        parity: How far its answers are from the checkpoint's, as measured at export.
        similarity: Name of the similarity function of a sentence embedding ("cosine", "dot").
        cache: Precision of keys and values ("fp32", "int8") of a bundle that writes.
        prompt: Precision of the linear layers of the graph that reads prompts, where it is another than `precision`.
        decoder_precision: Precision of an encoder-decoder's decoder, where it is another than `precision`.
        target_window: Most tokens that an encoder-decoder writes, the first one that stands before every target included.
        target_tokenizer: Facts about the tokenizer of what is written, where it is another than that of what is read.
        languages: Of a model of many languages.
        generation: Defaults of generation options, by transformers' names (`generation_config.json`).
        task_options: Task to options that the checkpoint sets for it (`task_specific_params` of `config.json`).
        chat: Name to Jinja template of conversations, "default" the foremost.
        growing: How a traced graph that writes is fed; None of graphs with a cache in place and of those that write nothing.
    """

    folder: Path
    name: str
    tasks: tuple[str, ...]
    precision: str
    graphs: dict[str, str]
    window: int
    tokenizer: Vocabulary
    head: Head
    files: dict[str, File]
    source: Source
    pooling: Pooling | None = None
    kept: tuple[tuple[str, str], ...] = ()
    parity: dict[str, float] = field(default_factory=dict)
    similarity: str | None = None
    cache: str | None = None
    prompt: str | None = None
    decoder_precision: str | None = None
    target_window: int | None = None
    target_tokenizer: Vocabulary | None = None
    languages: Languages | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    task_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    chat: dict[str, str] = field(default_factory=dict)
    growing: Growing | None = None

    def path(self, name: str) -> Path:
        """The path of one of the bundle's files."""
        return self.folder / name

    @property
    def size(self) -> int:
        """Bytes on disk, `edgenlp.json` not counted."""
        return sum(file.size for file in self.files.values())

    def check_hashes(self) -> None:
        """Read every file and compare its sha256 with the one recorded.

        Raises:
            BundleError: A file is not what was exported.
        """
        for name, file in self.files.items():
            try:
                with self.path(name).open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise BundleError(
                    f"cannot read {self.path(name)}: {error.strerror}; export the bundle again"
                ) from error
            if digest != file.sha256:
                raise BundleError(
                    f"{self.path(name)} is not the file that was exported (sha256 {digest[:12]}…, expected"
                    f" {file.sha256[:12]}…): it was damaged or altered; copy or export the bundle again"
                )


def open_bundle(folder: str | os.PathLike[str]) -> Bundle:
    """Read and check `edgenlp.json`, and that every file it names is there, whole in size and inside the folder.

    Raises:
        BundleError: The folder is missing, is no bundle, or is one that this version cannot open.
    """
    root = Path(folder)
    manifest = root / MANIFEST
    try:
        if manifest.stat().st_size > _MANIFEST_LIMIT:
            raise BundleError(f"{manifest} is larger than {_MANIFEST_LIMIT >> 20} MiB: not a bundle's description")
        data = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if root.is_dir() and (root / "config.json").exists():
            raise BundleError(
                f"{root} is a checkpoint, not a bundle; make one with: edgenlp export {root} OUT"
            ) from error
        what = "holds no edgenlp.json" if root.is_dir() else "is not a folder"
        raise BundleError(f"{root} {what}; give the folder that `edgenlp export` wrote") from error
    except OSError as error:
        raise BundleError(f"cannot read {manifest}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{manifest} is not valid JSON ({error}); export the bundle again") from error
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise BundleError(f"{manifest} does not say which format it has; export the bundle again")
    if data["format"] != FORMAT:
        remedy = "upgrade edgenlp" if data["format"] > FORMAT else "export the bundle again"
        raise BundleError(f"{manifest} has format {data['format']}, this edgenlp reads format {FORMAT}; {remedy}")
    data = {key: value for key, value in data.items() if key != "format"}
    bundle: Bundle = _build(Bundle, {**data, "folder": root}, str(manifest))
    _check(bundle, manifest)
    return bundle


def write_manifest(bundle: Bundle, folder: Path) -> None:
    """Write `edgenlp.json` into `folder`: sorted keys, no dates, so that the same export gives the same bytes."""
    data = asdict(bundle)
    del data["folder"]
    text = json.dumps({"format": FORMAT, **data}, indent=1, ensure_ascii=False, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _check(bundle: Bundle, manifest: Path) -> None:
    """Checks that no single field can express."""
    if not 0 < bundle.window <= _WINDOW_LIMIT:
        raise BundleError(f"{manifest}: window {bundle.window} is not a number of tokens; export the bundle again")
    vocabularies = [item.file for item in (bundle.tokenizer, bundle.target_tokenizer) if item]
    if bundle.target_window is not None and not 0 < bundle.target_window <= _WINDOW_LIMIT:
        raise BundleError(
            f"{manifest}: target_window {bundle.target_window} is not a number of tokens; export the bundle again"
        )
    for name in {*bundle.graphs.values(), *vocabularies} - set(bundle.files):
        raise BundleError(f"{manifest}: {name!r} is used but not listed among the files; export the bundle again")
    if bundle.growing is not None:
        check_growing(bundle.growing, set(bundle.graphs), f"{manifest}: growing", most=_WINDOW_LIMIT)
    root = bundle.folder.resolve()
    for name, file in bundle.files.items():
        if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name or ":" in name:
            raise BundleError(
                f"{manifest}: {name!r} is not a plain file name; a bundle may not reach outside its folder"
            )
        path = bundle.folder / name
        if path.is_symlink() and path.resolve().parent != root:
            raise BundleError(f"{path} is a link that leads out of the bundle; copy the file itself")
        if not path.is_file():
            raise BundleError(f"{path} is missing; copy or export the bundle again")
        if path.stat().st_size != file.size:
            raise BundleError(
                f"{path} has {path.stat().st_size} bytes, expected {file.size}: the copy is incomplete; copy or export it again"
            )


def _build(kind: Any, value: Any, where: str) -> Any:
    """Turn parsed JSON into `kind` (a dataclass, container, union or scalar type), or say where it does not fit."""
    if kind is Any:
        return value  # checked by whoever reads it
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise BundleError(f"{where}: expected an object, found {_name(value)}; export the bundle again")
        hints = typing.get_type_hints(kind)
        known = {item.name: item for item in fields(kind)}
        if unknown := sorted(set(value) - set(known)):
            raise BundleError(
                f"{where}: unknown field {unknown[0]!r}; it was written by another version: upgrade edgenlp"
            )
        required = {name for name, item in known.items() if _has_no_default(item)}
        if missing := sorted(required - set(value)):
            raise BundleError(f"{where}: field {missing[0]!r} is missing; export the bundle again")
        return kind(**{name: _build(hints[name], value[name], f"{where}: {name}") for name in value})  # type: ignore[operator]  # a dataclass is callable
    if origin is types.UnionType:
        if value is None and type(None) in arguments:
            return None
        return _build(next(option for option in arguments if option is not type(None)), value, where)
    if origin is dict and isinstance(value, Mapping):
        return {key: _build(arguments[1], item, f"{where}: {key}") for key, item in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_build(arguments[0], item, where) for item in value)
        if len(value) == len(arguments):
            return tuple(_build(option, item, where) for option, item in zip(arguments, value, strict=True))
    plain = origin or kind
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return value  # a whole number is a float too, and is written back as it was
    if isinstance(value, plain) and not (plain is int and isinstance(value, bool)) and origin is None:
        return value
    raise BundleError(
        f"{where}: expected {getattr(plain, '__name__', plain)}, found {_name(value)}; export the bundle again"
    )


def _has_no_default(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _name(value: Any) -> str:
    return type(value).__name__
