"""The command `edgenlp`: export, run, inspect, probe-bias, bench. Knows streams and exit codes; its arguments are in `options`.

Exit codes: 0 done; 1 what was asked for cannot be done, with one line on stderr that says why; 2 the command line is
wrong; 130 interrupted; 141 nobody reads the output any more. Imports wait until a command needs them, so that `--help`
is quick. What people see is in `show` and `facts`.
"""

import argparse
import functools
import importlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgenlp.cli.flags import as_flags
from edgenlp.cli.options import build_parser
from edgenlp.cli.output import as_json, progress, width
from edgenlp.errors import DependencyError, EdgeNLPError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name; None for those of the process.

    Raises:
        SystemExit: The arguments are wrong (2), or ask for help (0): argparse has said so already.
    """
    commands = {"export": _export, "run": _run, "inspect": _inspect, "probe-bias": _probe_bias, "bench": _bench}
    parser = build_parser()
    if not (sys.argv[1:] if arguments is None else arguments):
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    args = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_warn, args)
            commands[args.command](args)
            sys.stdout.flush()
    except EdgeNLPError as error:
        return _fail(_spoken(str(error), args))
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

    print(f"edgenlp: {plain(message)}", file=sys.stderr)
    return 1


def _warn(args: argparse.Namespace, message: Warning | str, *_: Any, **__: Any) -> None:
    from edgenlp.cli.show import plain

    print(f"edgenlp: warning: {plain(_spoken(str(message), args))}", file=sys.stderr)


def _spoken(message: str, args: argparse.Namespace) -> str:
    return as_flags(message, args) if args.command == "run" else message


def _export(args: argparse.Namespace) -> None:
    exporter = _exporter()
    if args.list:
        from edgenlp.cli.facts import facts

        print("written by edgenlp:")
        print(facts([(name, ", ".join(tasks)) for name, tasks in exporter.architectures()], width=width()))
        try:
            rows = [(name, ", ".join(tasks)) for name, tasks in exporter.traced_architectures()]
        except DependencyError:
            print("traced through optimum-onnx: more, listed where it is installed: pip install 'edgenlp[trace]'")
        else:
            print("traced through optimum-onnx:")
            print(facts(rows, width=width()))
        return
    place = {"revision": args.revision, "cache_dir": args.cache_dir, "offline": args.offline}
    if args.source is None or (args.out is None and not args.list_tensors):
        args.parser.error("give a checkpoint's folder and the bundle's: edgenlp export SRC OUT")
    if args.list_tensors:
        from edgenlp.cli.show import table

        # matrices and tables: what else there is stays in float32 whatever the precision
        tensors = [item for item in exporter.list_tensors(args.source, **place) if len(item[1]) == 2]
        print(table([(name, " × ".join(map(str, shape)), dtype) for name, shape, dtype in tensors], indent=0))
        return
    options = {} if args.tolerance is None else {"tolerance": args.tolerance}
    start = time.perf_counter()
    with progress(quiet=args.quiet) as told:
        bundle = exporter.export(
            args.source,
            args.out,
            task=args.task,
            precision=args.precision,
            keep=tuple(args.keep),
            block=args.block,
            cache=args.cache,
            prompt=args.prompt,
            head=args.head,
            calibration=args.calibration,
            target_tokenizer=args.target_tokenizer,
            graphs=args.graphs,
            force=args.force,
            progress=told,
            **place,
            **options,
        )
    if (version := bundle.source.tools.get("optimum-onnx")) and not args.quiet:
        named = bundle.source.architecture
        line = f"{named}: edgenlp has no graph of its own for it; traced through optimum-onnx {version}"
        print(line, file=sys.stderr)
    if sys.stdout.isatty() and not args.quiet:
        from edgenlp.cli.facts import exported

        took = time.perf_counter() - start
        print(exported(bundle, args.out, took, width=width()))


def _exporter() -> Any:
    """The export stage, or an error that says how to install it."""
    try:
        return importlib.import_module("edgenlp_export")
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"export needs {error.name}, which is not installed: pip install 'edgenlp[export]'"
        ) from error


def _run(args: argparse.Namespace) -> None:
    from edgenlp.cli.running import run

    run(args)


def _inspect(args: argparse.Namespace) -> None:
    from edgenlp.bundle import open_bundle
    from edgenlp.cli.facts import default_models, described, listed
    from edgenlp.defaults import defaults, find, installed

    rows = defaults()
    if args.defaults or args.model is None:
        from edgenlp.tasks import TASKS

        used = {row["model"] for row in rows.values()}
        bundles = {name: open_bundle(folder) for name, folder in installed().items() if name in used}
        if args.json:
            print(as_json({task: listed(row, bundles.get(row["model"] or "")) for task, row in rows.items()}, indent=1))
        else:
            print(default_models(TASKS, rows, bundles, width=width()))
        return
    bundle = open_bundle(find(args.model))
    if args.verify:
        bundle.check_hashes()
    own = {task: row["why"] for task, row in rows.items() if row["model"] == bundle.folder.name}
    if args.json:
        facts = {**asdict(bundle), "folder": str(bundle.folder), "size": bundle.size, "default_for": own}
        print(as_json(facts | ({"verified": True} if args.verify else {}), indent=1))
    else:
        print(described(bundle, default_for=own, verified=args.verify, width=width()))


def _probe_bias(args: argparse.Namespace) -> None:
    from edgenlp.cli.probing import probe_bias

    probe_bias(args)


def _bench(args: argparse.Namespace) -> None:
    from edgenlp.bench import measure
    from edgenlp.cli.facts import measured
    from edgenlp.defaults import find

    with progress(quiet=False) as told:
        report = measure(
            find(args.model),
            batches=args.batch,
            lengths=args.length,
            beams=args.beams,
            threads=args.threads,
            preset=args.preset,
            seconds=args.seconds,
            progress=told,
        )
    print(measured(report))
    if args.json:
        print(as_json(asdict(report), compact=True))
