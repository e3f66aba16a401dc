"""The door: open a bundle, look the task up, return the callable. Knows which tasks there are, and nothing of what they do."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgenlp.defaults import default_for, defaults, find
from edgenlp.errors import BundleError, InputError

if TYPE_CHECKING:
    from edgenlp.model import Model

__all__ = ["pipeline", "task_named"]

_HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)  # names there: "gpt2", "distilbert/distilbert-base-cased"
_PAIR = re.compile(r"translation_(.+)_to_(.+)", re.ASCII)

# Arguments of transformers' pipeline() that have no meaning here: the values, as text, that ask for what happens here anyway, and
# what to do instead of any other. None asks for nothing.
_FOREIGN: Mapping[str, tuple[tuple[str, ...], str]] = {
    "binary_output": (("False",), "answers are Python's own objects: leave it out"),
    "config": ((), "a bundle states all that a config would: leave it out"),
    "device": (("-1", "cpu", "cpu:0"), "edgenlp runs on the CPU: leave it out"),
    "device_map": (("auto", "cpu"), "edgenlp runs on the CPU: leave it out"),
    "dtype": (("auto",), "the precision is chosen at export: edgenlp export --precision"),
    "feature_extractor": ((), "edgenlp reads text only: leave it out"),
    "framework": ((), "edgenlp needs no framework: leave it out"),
    "image_processor": ((), "edgenlp reads text only: leave it out"),
    "model_kwargs": (("{}",), "they are a framework's: leave it out"),
    "num_workers": (("0",), "use threads="),
    "pipeline_class": ((), "tasks are edgenlp's own: leave it out"),
    "processor": ((), "the tokenizer is in the bundle: leave it out"),
    "revision": ((), "a bundle is one revision: leave it out, or export the revision that you want"),
    "token": (("False",), "nothing is fetched, so nobody asks for it: leave it out"),
    "tokenizer": ((), "the tokenizer is in the bundle: leave it out"),
    "torch_dtype": (("auto",), "the precision is chosen at export: edgenlp export --precision"),
    "trust_remote_code": (("False", "True"), "a bundle holds no code: leave it out"),
    "use_auth_token": (("False",), "nothing is fetched, so nobody asks for it: leave it out"),
    "use_fast": (("True",), "all tokenizers are fast: leave it out"),
}


def pipeline(
    task: str | None = None,
    model: "str | os.PathLike[str] | Model | None" = None,
    *,
    threads: int | None = None,
    preset: str = "balanced",
    verify: bool = True,
    **options: Any,
) -> Any:
    """Make a task ready to call, as transformers' `pipeline()` does.

    Args:
        task: "text-classification" ("sentiment-analysis"), "zero-shot-classification", "token-classification" ("ner"),
            "question-answering", "fill-mask", "feature-extraction", "sentence-similarity", "text-generation",
            "text2text-generation", "summarization" or "translation", which may say from what language into which
            ("translation_en_to_fr"); None for the foremost task of `model`.
        model: Folder of a bundle, name of an installed one, or the `.model` of another pipeline, which is then shared; None for the
            task's default.
        threads: Threads per call; None for all that the container and the affinity mask grant.
        preset: "balanced", whose threads spin while a graph runs; "latency" and "throughput", whose threads spin on for a
            while; or "battery", one thread.
        verify: Compare the bundle's files with their recorded hashes.
        **options: Defaults of the task's own options, as in transformers. An unknown one is an error. Other arguments of
            transformers' `pipeline()` are taken where they ask for what happens here anyway (`device="cpu"`, `device=-1`,
            `torch_dtype="auto"`, the model's own folder as `tokenizer`), and are else an error that says what to do.

    Returns:
        The task: a callable, a context manager, with `warmup()` and `close()`.

    Raises:
        InputError: No such task, preset or option.
        BundleError: The model is not a bundle, or does not serve the task.
    """
    # numpy, onnxruntime and tokenizers are loaded here, not with this module: `import edgenlp` costs next to nothing
    from edgenlp.model import Model, open_model
    from edgenlp.tasks import TASKS
    from edgenlp.tasks.task import check_options
    from edgenlp.tasks.translation import Translation

    options = _own(options, model)
    if task is None and model is None:
        raise InputError("name a task, a model, or both; tasks are " + ", ".join(TASKS))
    chosen = task_named(task) if task is not None else None
    if not isinstance(model, Model):
        folder = _found(model, chosen) if model is not None else default_for(str(chosen))
        if chosen is not None:
            check_options(TASKS[chosen].__call__, options)
        model = open_model(folder, threads=threads, preset=preset, verify=verify)
    name = chosen or model.bundle.tasks[0]
    if name not in model.bundle.tasks:
        raise BundleError(
            f"{model.bundle.folder} serves {', '.join(model.bundle.tasks)}, not {name}; give a model with the head for it"
        )
    check_options(TASKS[name].__call__, options)
    if pair := _PAIR.fullmatch(task or ""):
        return Translation(model, options, pair=(pair[1], pair[2]))
    return TASKS[name](model, options)


def _own(options: Mapping[str, Any], model: object) -> dict[str, Any]:
    """`options` without those of transformers that change nothing here.

    Raises:
        InputError: One of them asks for what cannot be had here.
    """
    for name in _FOREIGN.keys() & options.keys():
        value, (harmless, remedy) = options[name], _FOREIGN[name]
        same = name == "tokenizer" and isinstance(value, str | os.PathLike) and value == model
        if not (value is None or same or str(value) in harmless):
            raise InputError(f"{name}= is transformers' and has no meaning here; {remedy}")
    return {name: value for name, value in options.items() if name not in _FOREIGN}


def _found(model: str | os.PathLike[str], task: str | None) -> Path:
    """The bundle that `model` names; where there is none it may be meant for the Hugging Face Hub, from which nothing comes by itself.

    Raises:
        BundleError: There is none.
    """
    try:
        return find(model)
    except BundleError as error:
        if not (isinstance(model, str) and _HUB.fullmatch(model)):
            raise
        row = defaults().get(task or "")
        default = f"name no model for {task}'s default, or " if row and row["model"] else ""
        raise BundleError(
            f"{error}; edgenlp fetches nothing: {default}export the checkpoint that you have: edgenlp export CHECKPOINT {model}"
        ) from error


def task_named(task: str) -> str:
    """The task's own name, from that, an alias or "translation_xx_to_yy".

    Raises:
        InputError: There is no such task; the nearest one is named.
    """
    from edgenlp.tasks import ALIASES, TASKS

    if isinstance(task, str) and _PAIR.fullmatch(task):
        return "translation"
    name = ALIASES.get(task, task) if isinstance(task, str) else task
    if name in TASKS:
        return name
    near = difflib.get_close_matches(str(task), [*TASKS, *ALIASES], 1)
    hint = f"did you mean {near[0]!r}?" if near else f"tasks are {', '.join([*TASKS, *ALIASES])}"
    raise InputError(f"there is no task {task!r}; {hint}")
