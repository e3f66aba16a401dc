"""The options of tasks as flags of `edgenlp run`: names, forms and help. Knows no task's work, and imports nothing heavy."""

import argparse
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["add_task_options", "as_flags", "count", "counts", "task_options"]

_TITLE = "options of the task"
_WRITING = "options of tasks that write text"
_REWRITING = "options of summarization, translation and text2text-generation"


class _Flag(NamedTuple):
    """A flag that takes a value.

    Attributes:
        name: With its dashes.
        metavar: Stands for the value.
        kind: Makes a value of the text.
        help: One line.
        dest: What `pipeline(...)` calls it, where the flag is called otherwise.
    """

    name: str
    metavar: str
    kind: Any
    help: str
    dest: str | None = None


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected whole numbers from 1, found {text!r}")
    return int(text)


def counts(text: str) -> Sequence[int]:
    """Whole numbers from 1, with commas between them."""
    return tuple(count(part) for part in text.split(","))


def _top(text: str) -> int | None:
    return None if text == "all" else count(text)


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    try:
        return name.replace("-", "_"), json.loads(value)
    except (ValueError, RecursionError):
        return name.replace("-", "_"), value  # plain text needs no quotes


_FLAGS = (
    _Flag("--top-k", "K", _top, 'how many answers; "all" for all'),
    _Flag("--labels", "A,B", _names, "zero-shot: the labels", "candidate_labels"),
    _Flag("--template", "T", str, 'zero-shot: as in "This text is about {}."', "hypothesis_template"),
    _Flag(
        "--aggregation",
        "S",
        str,
        "entities: none, simple (the default here), first, average or max",
        "aggregation_strategy",
    ),
    _Flag("--targets", "A,B", _names, "fill-mask: choose among these words"),
    _Flag("--pooling", "P", str, "features: mean, cls, max or last"),
    _Flag("--truncate-dim", "N", int, "features: keep the first N numbers"),
    _Flag("--long-input", "W", str, "longer than the window: error, truncate or stride"),
    _Flag("--batch-size", "N", int, "texts at a time; 1 answers each at once"),
)
_WRITING_FLAGS = (
    _Flag("--max-new-tokens", "N", int, "most tokens to write"),
    _Flag("--min-new-tokens", "N", int, "least tokens to write"),
    _Flag("--num-beams", "N", int, "texts that are followed at once, to find a likelier one"),
    _Flag("--num-return-sequences", "N", int, "how many texts; of beams the best N"),
    _Flag("--temperature", "T", float, "below 1 is more predictable"),
    _Flag("--top-p", "P", float, "as in nucleus sampling"),
    _Flag("--seed", "N", int, "the same seed gives the same text"),
)
_REWRITING_FLAGS = (
    _Flag("--src-lang", "CODE", str, "translation: of the text, as the checkpoint calls it (en_XX, en, eng_Latn)"),
    _Flag("--tgt-lang", "CODE", str, "translation: into which language"),
    _Flag("--target-prefix", "TEXT", str, "what the answer is to begin with"),
    _Flag("--alternatives", "N", int, "one answer for each of the N likeliest beginnings"),
)


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the flags; what is not given is not in the namespace."""
    group = parser.add_argument_group(_TITLE, argument_default=argparse.SUPPRESS)
    _add(group, _FLAGS)
    group.add_argument("--multi-label", action="store_true", help="zero-shot: labels may hold together")
    group.add_argument("--normalize", action="store_true", help="features: scale vectors to length 1")
    group.add_argument(
        "--option",
        action="append",
        default=[],
        type=_option,
        metavar="NAME=VALUE",
        help="any other option of the task; the value is JSON, or else text",
    )
    group = parser.add_argument_group(_WRITING, argument_default=argparse.SUPPRESS)
    _add(group, _WRITING_FLAGS)
    search = group.add_mutually_exclusive_group()
    for name, text in (
        ("--greedy", "always the likeliest token: one beam, which a terminal shows as it comes"),
        ("--sample", "tokens by chance, the likelier the more often: one beam, shown as it comes"),
    ):
        search.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)
    group = parser.add_argument_group(_REWRITING, argument_default=argparse.SUPPRESS)
    _add(group, _REWRITING_FLAGS)
    group.add_argument(
        "--return-scores",
        action="store_true",
        help="with the log-probability of each answer, per token unless penalised",
    )


def task_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the task that were given, by the names that `pipeline(...)` knows."""
    given = {action.dest: getattr(args, action.dest) for action in _actions(args) if hasattr(args, action.dest)}
    listed = dict(given.pop("option"))
    for name, samples in (("greedy", False), ("sample", True)):
        if given.pop(name, False):
            given = {"do_sample": samples, "num_beams": 1, **given}
    return given | listed


def as_flags(message: str, args: argparse.Namespace) -> str:
    """`message`, with the names of options as the command line has them: the library speaks Python."""
    flags = {action.dest: action.option_strings[0] for action in _actions(args) if "_" in action.dest}
    names = "|".join(sorted(flags, key=len, reverse=True))

    def flag(found: re.Match[str]) -> str:
        name, _, value = found.groups()
        return f"no {flags[name]}" if value == "None" else flags[name] + (f" {value}" if value else "")

    # in quotes it is what somebody wrote; a value follows with "=", and may be quoted, and then others may
    said = re.sub(rf"(?<![\w'\"])({names})(?:=('?)([^\s',;:]+)\2)?(?![\w'\"])", flag, message)
    return re.sub(r"(--[\w-]+ \w+ or )'(\w+)'", r"\1\2", said)


def _actions(args: argparse.Namespace) -> list[argparse.Action]:
    titles = (_TITLE, _WRITING, _REWRITING)
    return [action for group in args.parser._action_groups if group.title in titles for action in group._group_actions]


def _add(group: Any, flags: Sequence[_Flag]) -> None:
    for flag in flags:
        named = {"dest": flag.dest} if flag.dest else {}
        group.add_argument(flag.name, type=flag.kind, metavar=flag.metavar, help=flag.help, **named)
