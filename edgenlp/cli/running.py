"""`edgenlp run`: a task, its texts and what it answers. Knows streams of lines; what answers look like is in `show`."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgenlp.cli.flags import task_options
from edgenlp.cli.lines import Form, answers, decoded, given_texts, inputs, placed, whole
from edgenlp.cli.output import as_json, colour, width
from edgenlp.cli.show import View, answer, harmless

__all__ = ["run"]

_REWRITING = ("summarization", "text2text-generation", "translation")
# Options of tasks that write which are told when the pipeline is made too: languages are checked there, before anything is read,
# and there max_length puts the task's own max_new_tokens aside.
_EARLY = ("max_length", "src_lang", "tgt_lang")


def run(args: argparse.Namespace) -> None:
    """Answer what the command line, a file or stdin holds.

    Raises:
        EdgeNLPError: It cannot be done.
    """
    from edgenlp.pipeline import pipeline, task_named
    from edgenlp.tasks import TASKS

    task = task_named(args.task)
    options = task_options(args)
    _check_run(args, task, options)
    writes = hasattr(TASKS[task], "stream")
    if task == "token-classification":
        options.setdefault(
            "aggregation_strategy", "simple"
        )  # whole names, not pieces of words, are what a command is asked for
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_lines(args))
        if not args.texts and args.file in (None, "-") and sys.stdin.isatty():
            print(f"edgenlp: one {'turn' if args.chat else 'text'} a line; Ctrl-D ends", file=sys.stderr)
            if task != "text-generation":
                options.setdefault("batch_size", 1)
        form = Form(task, jsonl=args.jsonl, context=args.context, pair=args.pair, source=args.source)
        # What a command says counts more than what a checkpoint sets for a task of writing, so it goes into the call.
        call = options if writes else {}
        made = {name: value for name, value in options.items() if not writes or name in _EARLY}
        ready = stack.enter_context(pipeline(args.task, args.model, threads=args.threads, preset=args.preset, **made))
        if args.chat:
            _converse(ready, lines, args.system, options)
            return
        if _streams(args, task, options):
            for where, text in inputs(lines, form):
                with placed(where):
                    _print_pieces(text if task == "text-generation" else "", ready.stream(text, **options))
            return
        written = _writer(args, task, ready.bundle.head, options)
        for given, result in answers(lambda texts: ready(texts, **call), inputs(lines, form)):
            print(written(given, result), flush=True)


@contextlib.contextmanager
def _lines(args: argparse.Namespace) -> Iterator[Iterator[tuple[str, str]]]:
    """What was given, text by text with its place."""
    if args.texts:
        yield given_texts(args.texts)
    elif args.file not in (None, "-"):
        with Path(args.file).open("rb") as stream:
            lines = decoded(stream, args.file)
            yield whole(lines) if args.whole else lines
    else:
        lines = decoded(sys.stdin.buffer, "stdin")
        yield whole(lines) if args.whole else lines


def _streams(args: argparse.Namespace, task: str, options: dict[str, Any]) -> bool:
    """Whether text is shown as it is written: on a terminal, where one text is written at a time."""
    if not sys.stdout.isatty() or args.json:
        return False
    if task == "text-generation":
        return all(options.get(name) in (None, 1) for name in ("num_beams", "num_return_sequences"))
    if task not in _REWRITING or options.get("num_beams") != 1:  # unless they are told otherwise they search with beams
        return False
    return options.get("num_return_sequences") in (None, 1) and not any(
        options.get(name) for name in ("alternatives", "return_scores", "return_tensors", "return_type")
    )


def _print_pieces(given: str, pieces: Iterator[str]) -> None:
    print(harmless(given), end="", flush=True)
    for piece in pieces:
        print(harmless(piece), end="", flush=True)
    print()


def _converse(task: Any, lines: Iterator[tuple[str, str]], system: str | None, options: dict[str, Any]) -> None:
    """Turns from `lines`, each answered as it is written."""
    talk = task.conversation([{"role": "system", "content": system}] if system is not None else [], **options)
    prompts = sys.stdin.isatty() and sys.stdout.isatty()
    while True:
        if prompts:
            print("> ", end="", file=sys.stderr, flush=True)
        turn = next(lines, None)
        if turn is None:
            return
        if turn[1].strip():
            with contextlib.closing(talk.stream(turn[1])) as pieces:
                _print_pieces("", pieces)


def _check_run(args: argparse.Namespace, task: str, options: dict[str, Any]) -> None:
    """Report what argparse cannot see: which arguments belong to which task, and a task without a model."""
    from edgenlp.defaults import default_for

    needs = {
        "context": ("question-answering", args.context is not None),
        "pair": ("text-classification", args.pair is not None),
        "source": ("sentence-similarity", args.source is not None),
        "chat": ("text-generation", args.chat),
    }
    for flag, (owner, given) in needs.items():
        if given and task != owner:
            args.parser.error(f"--{flag} belongs to {owner}, not to {task}")
    if args.system is not None and not args.chat:
        args.parser.error("--system belongs to --chat")
    if args.texts and args.file is not None:
        args.parser.error("give texts or --file, not both")
    if args.whole and (args.texts or args.jsonl or args.chat):
        args.parser.error("--whole is for a file or stdin that holds one text")
    if task == "question-answering" and args.context is None and not args.jsonl:
        args.parser.error("question-answering needs --context TEXT, or --jsonl lines with a question and a context")
    if task == "zero-shot-classification" and not options.get("candidate_labels"):
        args.parser.error("zero-shot-classification needs --labels a,b,c")
    if args.model is None:
        default_for(task)


def _writer(args: argparse.Namespace, task: str, head: Any, options: dict[str, Any]) -> Callable[[Any, Any], str]:
    """What turns an input and its answer into text: for people on a terminal, one line of JSON elsewhere."""
    if args.json or not sys.stdout.isatty():
        return lambda given, result: as_json(result)
    raw = head.problem == "regression" or str(options.get("function_to_apply", "")).lower() == "none"
    view = View(width(), colour(), head.labels, percent=not raw)
    return lambda given, result: answer(task, given, result, view)
