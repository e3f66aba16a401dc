"""The command `edgenlp`: export, run, inspect, bench. Knows streams and exit codes; its arguments are in `options`.

Exit codes: 0 done; 1 what was asked for cannot be done, with one line on stderr that says why; 2 the command line is
wrong; 130 interrupted; 141 nobody reads the output any more. Imports wait until a command needs them, so that `--help`
is quick. What people see is in `show` and `facts`.
"""

import argparse
import contextlib
import importlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgenlp.cli.options import build_parser, task_options
from edgenlp.errors import BundleError, DependencyError, EdgeNLPError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name; None for those of the process.

    Raises:
        SystemExit: The arguments are wrong (2), or ask for help (0): argparse has said so already.
    """
    commands = {"export": _export, "run": _run, "inspect": _inspect, "bench": _bench}
    args = build_parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            commands[args.command](args)
            sys.stdout.flush()
    except EdgeNLPError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return 130
    except ImportError as error:  # a C extension that is interrupted while it loads says "initialization failed"
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            return 130
        raise
    except BrokenPipeError:
        # what is still buffered has nowhere to go, and Python would complain about it on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
    except MemoryError:
        return _fail("not enough memory; give a smaller --batch-size, or shorter texts")
    return 0


def _fail(message: str) -> int:
    from edgenlp.cli.show import plain

    message = re.sub(r"\blong_input='(\w+)'", r"--long-input \1", message)  # the library speaks Python
    print(f"edgenlp: {plain(message)}", file=sys.stderr)
    return 1


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    from edgenlp.cli.show import plain

    print(f"edgenlp: warning: {plain(message)}", file=sys.stderr)


def _export(args: argparse.Namespace) -> None:
    exporter = _exporter()
    if args.list:
        from edgenlp.cli.facts import facts

        rows = [(name, ", ".join(tasks)) for name, tasks in exporter.architectures()]
        print(facts(rows, width=_width()))
        return
    if args.source is None or (args.out is None and not args.list_tensors):
        args.parser.error("give a checkpoint's folder and the bundle's: edgenlp export SRC OUT")
    if args.list_tensors:
        from edgenlp.cli.show import table

        # matrices and tables: what else there is stays in float32 whatever the precision
        tensors = [item for item in exporter.list_tensors(args.source) if len(item[1]) == 2]
        print(table([(name, " × ".join(map(str, shape)), dtype) for name, shape, dtype in tensors], indent=0))
        return
    options = {} if args.tolerance is None else {"tolerance": args.tolerance}
    start = time.perf_counter()
    with _progress(quiet=args.quiet) as progress:
        bundle = exporter.export(
            args.source,
            args.out,
            task=args.task,
            precision=args.precision,
            keep=tuple(args.keep),
            cache=args.cache,
            prompt=args.prompt,
            head=args.head,
            calibration=args.calibration,
            force=args.force,
            progress=progress,
            **options,
        )
    if sys.stdout.isatty() and not args.quiet:
        from edgenlp.cli.facts import exported

        took = time.perf_counter() - start
        print(exported(bundle, args.out, took, width=_width()))


def _exporter() -> Any:
    """The export stage, or an error that says how to install it."""
    try:
        return importlib.import_module("edgenlp_export")
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"export needs {error.name}, which is not installed: pip install 'edgenlp[export]'"
        ) from error


def _run(args: argparse.Namespace) -> None:
    from edgenlp.cli.lines import Form, answers, decoded, given_texts, inputs
    from edgenlp.pipeline import pipeline, task_named

    task = task_named(args.task)
    options = task_options(args)
    _check_run(args, task, options)
    if task == "token-classification":
        options.setdefault(
            "aggregation_strategy", "simple"
        )  # whole names, not pieces of words, are what a command is asked for
    with contextlib.ExitStack() as stack:
        lines: Iterator[tuple[str, str]]
        if args.texts:
            lines = given_texts(args.texts)
        elif args.file is not None and args.file != "-":
            lines = decoded(stack.enter_context(Path(args.file).open("rb")), args.file)
        else:
            if sys.stdin.isatty():
                print(f"edgenlp: one {'turn' if args.chat else 'text'} a line; Ctrl-D ends", file=sys.stderr)
                if task != "text-generation":
                    options.setdefault("batch_size", 1)
            lines = decoded(sys.stdin.buffer, "stdin")
        form = Form(task, jsonl=args.jsonl, context=args.context, pair=args.pair, source=args.source)
        ready = stack.enter_context(pipeline(task, args.model, threads=args.threads, preset=args.preset, **options))
        if args.chat:
            _converse(ready, lines, args.system)
            return
        if task == "text-generation" and _streams(args, options):
            for given in inputs(lines, form):
                _print_pieces(given[1], ready.stream(given[1]))
            return
        written = _writer(args, task, ready.bundle.head, options)
        for given, result in answers(ready, inputs(lines, form)):
            print(written(given, result), flush=True)


def _streams(args: argparse.Namespace, options: dict[str, Any]) -> bool:
    """Whether text is shown as it is written: on a terminal, where one text is written at a time."""
    several = any(options.get(name) not in (None, 1) for name in ("num_beams", "num_return_sequences"))
    return sys.stdout.isatty() and not args.json and not several


def _print_pieces(given: str, pieces: Iterator[str]) -> None:
    from edgenlp.cli.show import harmless

    print(harmless(given), end="", flush=True)
    for piece in pieces:
        print(harmless(piece), end="", flush=True)
    print()


def _converse(task: Any, lines: Iterator[tuple[str, str]], system: str | None) -> None:
    """Turns from `lines`, each answered as it is written."""
    talk = task.conversation([{"role": "system", "content": system}] if system is not None else [])
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
    """Report what argparse cannot see: which arguments belong to which task."""
    from edgenlp.defaults import defaults

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
    if task == "question-answering" and args.context is None and not args.jsonl:
        args.parser.error("question-answering needs --context TEXT, or --jsonl lines with a question and a context")
    if task == "zero-shot-classification" and not options.get("candidate_labels"):
        args.parser.error("zero-shot-classification needs --labels a,b,c")
    if args.model is None and task not in defaults():
        raise BundleError(f"{task} has no default model here: name one with --model, or pip install edgenlp-models")


def _writer(args: argparse.Namespace, task: str, head: Any, options: dict[str, Any]) -> Callable[[Any, Any], str]:
    """What turns an input and its answer into text: for people on a terminal, one line of JSON elsewhere."""
    if args.json or not sys.stdout.isatty():
        return lambda given, result: _json(result)
    from edgenlp.cli.show import View, answer

    raw = head.problem == "regression" or str(options.get("function_to_apply", "")).lower() == "none"
    view = View(_width(), _colour(), head.labels, percent=not raw)
    return lambda given, result: answer(task, given, result, view)


def _inspect(args: argparse.Namespace) -> None:
    from edgenlp.bundle import open_bundle
    from edgenlp.cli.facts import default_models, described
    from edgenlp.defaults import defaults, find

    rows = defaults()
    if args.defaults or args.model is None:
        from edgenlp.tasks import TASKS

        print(_json(dict(rows), indent=1) if args.json else default_models(TASKS, rows, width=_width()))
        return
    bundle = open_bundle(find(args.model))
    if args.verify:
        bundle.check_hashes()
    own = {task: str(row.get("why", "")) for task, row in rows.items() if row["model"] == bundle.folder.name}
    if args.json:
        facts = {**asdict(bundle), "folder": str(bundle.folder), "size": bundle.size, "default_for": own}
        print(_json(facts | ({"verified": True} if args.verify else {}), indent=1))
    else:
        print(described(bundle, default_for=own, verified=args.verify, width=_width()))


def _bench(args: argparse.Namespace) -> None:
    from edgenlp.bench import measure
    from edgenlp.cli.facts import measured
    from edgenlp.defaults import find

    with _progress(quiet=False) as progress:
        report = measure(
            find(args.model),
            batches=args.batch,
            lengths=args.length,
            threads=args.threads,
            preset=args.preset,
            seconds=args.seconds,
            progress=progress,
        )
    print(measured(report))
    if args.json:
        print(_json(asdict(report), compact=True))


def _json(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """JSON with numpy's arrays and numbers made plain; letters are escaped only where stdout could not carry them."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    separators = (",", ":") if compact else None
    return json.dumps(value, default=_plain_number, ensure_ascii=ascii_only, indent=indent, separators=separators)


def _plain_number(value: Any) -> Any:
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _width() -> int:
    """Columns of the terminal; 0 where there is none, for a file has no edge."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def _colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A progress bar on stderr, gone when the work ends, however it ends; None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from edgenlp.cli.show import bar

    def show(step: str, done: int, total: int) -> None:
        print(
            "\r\x1b[K" + bar(step, done, total, shutil.get_terminal_size().columns), end="", file=sys.stderr, flush=True
        )

    try:
        yield show
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
