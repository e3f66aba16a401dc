"""`edgenlp probe-bias`: two lists of words side by side, and what to make of them. The asking itself is in `edgenlp.probe`."""

import argparse
import textwrap
from dataclasses import asdict

from edgenlp.cli.output import as_json, width
from edgenlp.cli.show import cut, plain, table
from edgenlp.errors import BundleError
from edgenlp.probe import Probe, probe, reading

__all__ = ["probe_bias", "shown"]

_COLUMNS = 100  # of a file


def probe_bias(args: argparse.Namespace) -> None:
    """Ask the model, and print what it says.

    Raises:
        EdgeNLPError: It cannot be done.
    """
    from edgenlp.defaults import defaults
    from edgenlp.pipeline import pipeline

    row = defaults().get("fill-mask")
    if args.model is None and not (row and row["model"]):
        raise BundleError("fill-mask has no default model here: name one, edgenlp probe-bias BUNDLE")
    with pipeline("fill-mask", args.model, threads=args.threads, preset=args.preset) as task:
        found = probe(task, args.template, people=args.pair, top_k=args.top_k)
        name = task.bundle.name
    if args.json:
        print(as_json({"model": name, **asdict(found), "reading": reading(found)}))
    else:
        print(shown(name, found, columns=width() or _COLUMNS))


def shown(name: str, found: Probe, *, columns: int) -> str:
    """The probe for people.

    Args:
        name: The model's.
        found: What it said.
        columns: Of the terminal.
    """
    room = max((columns - 4) // 2, 16)
    blocks = []
    for side in found.sides:
        rows = [(f"{answer.score:.2%}", plain(answer.word)) for answer in side.answers]
        blocks.append([cut(plain(side.sentence), room), *table(rows, right={0}).splitlines()])
    lines = [f"model: {plain(name)}", "", *table(zip(*blocks, strict=True), indent=0).splitlines(), ""]
    for side, other in (found.sides, found.sides[::-1]):
        listed = {answer.token for answer in other.answers}
        words = [f"{plain(item.word)} {item.other:.2%}" for item in side.answers if item.token not in listed]
        line = (
            f"only for {plain(side.person)} (with the chance for {plain(other.person)}): {', '.join(words) or 'none'}"
        )
        lines += textwrap.wrap(line, columns, subsequent_indent="  ")
    return "\n".join([*lines, "", *textwrap.wrap(reading(found), columns)])
