"""PyTorch's side of the road: a checkpoint to the graphs that optimum traces, and to PyTorch's own answers. Knows nothing of bundles.

The one module, beside `led`, that imports torch, transformers and optimum, and it does so when it is called. Nothing here opens a
socket.
"""

import contextlib
import importlib
import inspect
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgenlp.encode import Window
from edgenlp.errors import CheckpointError, DependencyError, EdgeNLPError, UnsupportedError

from . import led

__all__ = ["MODELS", "OPSET", "Traced", "supported", "trace"]

OPSET = 18  # the newest that torch's tracing exporter has been used with for years
_INSTALL = "pip install 'edgenlp[trace]'"
_NEEDED = ("torch", "transformers", "optimum.exporters.onnx.model_configs")  # the last fills the table of tasks

# Head to the name of transformers' Auto class, and to optimum's name of the task
MODELS: Mapping[str, tuple[str, str]] = {
    "causal-lm": ("AutoModelForCausalLM", "text-generation-with-past"),
    "hidden-states": ("AutoModel", "feature-extraction"),
    "masked-lm": ("AutoModelForMaskedLM", "fill-mask"),
    "question-answering": ("AutoModelForQuestionAnswering", "question-answering"),
    "seq2seq-lm": ("AutoModelForSeq2SeqLM", "text2text-generation-with-past"),
    "sequence-classification": ("AutoModelForSequenceClassification", "text-classification"),
    "token-classification": ("AutoModelForTokenClassification", "token-classification"),
}
_READING = ("hidden-states", "masked-lm", "question-answering", "sequence-classification", "token-classification")
# Encoders that optimum 0.1 has no description of, and that trace like BERT with one of ours, to their heads
_PLAIN: Mapping[str, tuple[str, ...]] = {
    "xlnet": tuple(head for head in _READING if head != "masked-lm")  # it predicts words in an order of its own
}
# Encoder-decoders that it has none of either, to the module that describes them and makes their trace general
_WRITING: Mapping[str, ModuleType] = {"led": led}
# What a checkpoint's config is changed to before it is loaded: the forms of these models that do not depend on the length
_FULL: Mapping[str, Mapping[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "xlnet": {"use_mems_eval": False, "use_mems_train": False},
}


@dataclass(frozen=True)
class Traced:
    """What came of a trace.

    Attributes:
        folder: Where the graphs are.
        answers: Per window, or per pair of a source and a target, what PyTorch answers, None where it cannot. In the layout of a
            bundle's outputs: hidden states and logits per token [length, columns], logits per text [columns], starts and ends side by
            side [length, 2].
        tools: Name to version of what took part.
    """

    folder: Path
    answers: Sequence[NDArray[np.float32] | None]
    tools: Mapping[str, str]


def supported() -> dict[str, tuple[str, ...]]:
    """`model_type` of each architecture of texts that can be traced, to its heads.

    Raises:
        DependencyError: The extra is not installed.
    """
    with _quiet():
        _, _, tasks = _packages("listing what can be traced")
        configs = importlib.import_module("optimum.exporters.onnx.config")
        texts = (configs.TextEncoderOnnxConfig, configs.TextDecoderOnnxConfig, configs.TextSeq2SeqOnnxConfig)
        found: dict[str, tuple[str, ...]] = {**_PLAIN, **dict.fromkeys(_WRITING, ("seq2seq-lm",))}
        for kind, exporters in tasks.TasksManager._SUPPORTED_MODEL_TYPE.items():
            # a row is a description's class, its task filled in; images and sounds have descriptions of other kinds
            made = {task: getattr(row, "func", row) for task, row in exporters.get("onnx", {}).items()}
            heads = tuple(head for head, (_, task) in MODELS.items() if task in made and issubclass(made[task], texts))
            if set(heads) - {"hidden-states"}:  # what has nothing but these is a part of another model
                found[kind] = heads
    return found


def trace(
    folder: Path,
    out: Path,
    head: str,
    windows: Sequence[Window],
    *,
    targets: Sequence[Sequence[int]] = (),
    type_ids: bool,
    multiple: int = 1,
) -> Traced:
    """Trace a checkpoint.

    Args:
        folder: The checkpoint.
        out: Empty folder for the graphs: `model.onnx`, or `encoder_model.onnx`, `decoder_model.onnx` and
            `decoder_with_past_model.onnx`.
        head: A key of `MODELS`.
        windows: What PyTorch is asked, one at a time.
        targets: Of an encoder-decoder: what is written for each window.
        type_ids: Whether the tokenizer gives type ids.
        multiple: What the lengths of an encoder-decoder's sources are filled up to a multiple of: it is traced with such a length.

    Raises:
        DependencyError: The extra is not installed.
        CheckpointError: The checkpoint has no weights for the head.
        UnsupportedError: transformers or optimum does not take it; the message has their reason.
    """
    with _quiet():
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        torch, transformers, tasks = _packages(f"edgenlp has no graph of its own for {kind}; tracing it")
        model = _load(torch, transformers, folder, head)
        answers: list[NDArray[np.float32] | None] = []
        failed: Exception | None = None
        for place, window in enumerate(windows):
            try:
                answers.append(_answer(torch, model, head, window, targets[place] if targets else None, type_ids))
            except (IndexError, RuntimeError, ValueError) as error:  # as some do on a few tokens or too many
                failed = error
                answers.append(None)
        if all(answer is None for answer in answers):
            raise UnsupportedError(
                f"{model.config.model_type}: transformers {transformers.__version__} itself runs it on no text:"
                f" {_line(failed or ValueError('no text'))}; models of inputs of one fixed length have no bundle"
            ) from failed
        kind = str(model.config.model_type)
        try:
            own = _WRITING.get(kind) if head == "seq2seq-lm" else None
            with own.blocks_side_by_side(torch) if own else contextlib.nullcontext():
                _export(tasks, model, kind, head, out, type_ids=type_ids, multiple=multiple)
        except EdgeNLPError:
            raise
        except Exception as error:  # whatever a model's own code, torch or optimum raises
            raise UnsupportedError(
                f"{kind}: optimum-onnx {version('optimum-onnx')} cannot trace it as {MODELS[head][1]}: {_line(error)}; try"
                " another --task, another version of optimum-onnx or transformers, or --graphs with graphs made elsewhere"
            ) from error
    tools = {name: version(name) for name in ("optimum-onnx", "torch", "transformers")}
    return Traced(out, answers, tools)


def _packages(what: str) -> tuple[Any, Any, Any]:
    """torch, transformers, and optimum's table of tasks."""
    try:
        torch, transformers, *_ = (importlib.import_module(name) for name in _NEEDED)
        return torch, transformers, importlib.import_module("optimum.exporters.tasks")
    except ImportError as error:
        name = (error.name or "optimum").partition(".")[0].replace("optimum", "optimum-onnx")
        raise DependencyError(f"{what} needs {name}: {_INSTALL}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, logs, prints or sockets of others; the environment is as before afterwards."""
    wanted = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in wanted}
    disabled = logging.root.manager.disable
    os.environ.update(wanted)
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _load(torch: Any, transformers: Any, folder: Path, head: str) -> Any:
    """The model, in float32, with every weight of it from the checkpoint."""
    name, task = MODELS[head]
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        for key, value in _FULL.get(config.model_type, {}).items():
            setattr(config, key, value)
        factory = getattr(transformers, name)
        model, report = factory.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises whatever a config makes its classes raise
        raise UnsupportedError(
            f"{folder}: transformers {transformers.__version__} cannot open it for {task.removesuffix('-with-past')}:"
            f" {_line(error)}; try another --task"
        ) from error
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{folder} has no weights for {missing[0]!r}{more}, which {type(model).__name__} needs; choose the --task that it was"
            " trained for"
        )
    return model.eval()


def _answer(
    torch: Any, model: Any, head: str, window: Window, target: Sequence[int] | None, type_ids: bool
) -> NDArray[np.float32]:
    """What the model says of one window."""
    feed = {"input_ids": torch.tensor([list(window.ids)])}
    feed["attention_mask"] = torch.ones_like(feed["input_ids"])
    if type_ids and head in _READING:
        feed["token_type_ids"] = torch.tensor([list(window.type_ids)])
    if target is not None:
        feed["decoder_input_ids"] = torch.tensor([list(target)])
    with torch.no_grad():
        output = model(**feed)
    if head == "hidden-states":
        values = output.last_hidden_state[0]
    elif head == "question-answering":
        values = torch.stack([output.start_logits[0], output.end_logits[0]], -1)
    else:
        values = output.logits[0]
    return np.asarray(values.numpy(), np.float32)


def _export(tasks: Any, model: Any, kind: str, head: str, out: Path, *, type_ids: bool, multiple: int) -> None:
    """Have optimum write the graphs."""
    convert = importlib.import_module("optimum.exporters.onnx.convert")
    out.mkdir(parents=True, exist_ok=True)
    if head in _READING:
        made = _description(tasks, model.config, kind, head)
        reads = "token_type_ids" in inspect.signature(model.forward).parameters
        if type_ids != ("token_type_ids" in made.inputs) and (reads or not type_ids):
            made = _retyped(made, type_ids=type_ids)
        convert.export(model, made, out / "model.onnx", opset=OPSET)
        return
    model.config.use_cache = True
    task = MODELS[head][1]
    more: dict[str, Any] = {"sequence_length": multiple * -(-16 // multiple)} if head == "seq2seq-lm" else {}
    if kind in _WRITING:
        more["custom_onnx_configs"] = _WRITING[kind].descriptions(model.config)
    convert.onnx_export_from_model(
        model, out, task=task, opset=OPSET, do_validation=False, no_post_process=True, device="cpu", **more
    )


def _description(tasks: Any, config: Any, kind: str, head: str) -> Any:
    """What optimum says of an encoder's inputs and outputs, or what we say where it says nothing."""
    task = MODELS[head][1]
    known = tasks.TasksManager._SUPPORTED_MODEL_TYPE.get(kind, {}).get("onnx", {})
    if task in known:
        return known[task](config)
    if head not in _PLAIN.get(kind, ()):
        offered = ", ".join(sorted(known)) or "no task at all"
        raise UnsupportedError(
            f"{kind}: optimum-onnx {version('optimum-onnx')} has no {task} exporter for it, it has {offered}; try another --task, or"
            " --graphs with graphs made elsewhere"
        )
    configs: Any = importlib.import_module("optimum.exporters.onnx.config")
    normalized = importlib.import_module("optimum.utils.normalized_config").NormalizedTextConfig
    names = ("input_ids", "attention_mask", "token_type_ids")
    axes = {0: "batch_size", 1: "sequence_length"}

    encoder: Any = configs.TextEncoderOnnxConfig

    class Plain(encoder):  # type: ignore[misc]  # its base is known when optimum is installed
        NORMALIZED_CONFIG_CLASS = normalized

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {name: dict(axes) for name in names}

    return Plain(config, task=task)


def _retyped(made: Any, *, type_ids: bool) -> Any:
    """The same description with `token_type_ids`, which optimum forgets (BigBird), or without: to XLM type 0 is not none."""
    before: Any = type(made)

    class Retyped(before):  # type: ignore[misc]  # see above
        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            kept = {name: axes for name, axes in super().inputs.items() if name != "token_type_ids"}
            return kept | ({"token_type_ids": kept["input_ids"]} if type_ids else {})

    made.__class__ = Retyped
    return made


def _line(error: Exception) -> str:
    """The first line of a reason, cut where it goes on and on."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
