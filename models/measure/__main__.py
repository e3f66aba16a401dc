"""Measures the models of `models/models.json` in fp32, int8, int4 and as they ship, and keeps the tables of `models/README.md`.

    python models/measure DATA CHECKPOINTS                  all models, as far as their checkpoints exist
    python models/measure DATA CHECKPOINTS --every 20       a trial on every 20th example, kept nowhere
    python models/measure DATA CHECKPOINTS --ship           also writes the bundles that ship

Each checkpoint is exported to a temporary folder and asked through `edgenlp.pipeline`, one input at a time, as a user would. What was
measured is kept in `bench/results/models.json`; started again, only what has changed is measured. A model is added by a row in
models.json, a data set by a row in scores.py.
"""

import argparse
import datetime
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

import machine
from page import PRECISIONS, complaints, kept_scores, replaced, tables
from rows import Row, read_rows
from scores import SCORES
from timing import TIMES, timed

import edgenlp

MODELS = Path(__file__).resolve().parent.parent


def main() -> int:
    """Measure, print, keep; 1 where a figure cannot be had, 2 where quantization costs a model too much."""
    arguments = _arguments()
    try:
        rows = read_rows(MODELS / "models.json", tuple(SCORES))
        chosen = _chosen(rows, arguments)
        results = json.loads(arguments.results.read_text(encoding="utf-8")) if arguments.results.is_file() else {}
        if arguments.every > 1:
            results = {}
        for row, checkpoint in chosen:
            mark = _mark(row, checkpoint)
            before = results.get(row.name, {})
            known = before["precisions"] if before.get("mark") == mark and not arguments.again else {}
            lacks_times = arguments.times and any("ms" not in figures for figures in known.values())
            if known and not lacks_times and not (arguments.ship and row.ships):
                _say(f"{row.name}: as measured before")
                continue
            try:
                results[row.name] = {"mark": mark, **_measured(row, checkpoint, arguments, known)}
            except (edgenlp.EdgeNLPError, ValueError) as error:
                raise ValueError(f"{row.name}: {error}") from error
            if arguments.every == 1:
                _write(arguments.results, results)
        print(tables(results, rows))
        if arguments.every == 1:
            _keep(results, rows)
    except (edgenlp.EdgeNLPError, ValueError, OSError) as error:
        _say(f"models/measure: {error}")
        return 1
    found = complaints(results, rows)
    print(*(["", *found] if found else []), sep="\n")
    return 2 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="models/measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with a folder for each data set")
    parser.add_argument("checkpoints", type=Path, help="folder with a folder for each checkpoint, as the recipes write")
    parser.add_argument("--only", metavar="NAME,NAME", help="only these models")
    parser.add_argument(
        "--at", metavar="NAME=FOLDER", action="append", default=[], help="a checkpoint that is elsewhere"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth example, and keep nothing")
    parser.add_argument("--again", action="store_true", help="measure also what has not changed")
    parser.add_argument("--no-times", dest="times", action="store_false", help="leave milliseconds out")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="for the scores (default: all); times are of all threads"
    )
    parser.add_argument("--ship", action="store_true", help="write the bundles that ship into models/edgenlp_models")
    parser.add_argument(
        "--results", type=Path, default=MODELS.parent / "bench" / "results" / "models.json", metavar="FILE"
    )
    found = parser.parse_args()
    if found.every < 1:
        parser.error("--every takes 1 or more")
    if found.every > 1 and found.ship:
        parser.error("--every is for trials, --ship is not")
    return found


def _chosen(rows: Mapping[str, Row], arguments: argparse.Namespace) -> list[tuple[Row, Path]]:
    """Rows to measure with their checkpoints; those without one are told of and left out."""
    places = dict(text.split("=", 1) if "=" in text else (text, "") for text in arguments.at)
    names = arguments.only.split(",") if arguments.only else list(rows)
    if unknown := [name for name in [*names, *places] if name not in rows]:
        raise ValueError(f"models.json has no {', '.join(unknown)}; it has {', '.join(rows)}")
    found = []
    for name in names:
        row = rows[name]
        folder = Path(places.get(name) or arguments.checkpoints / row.checkpoint)
        if (folder / "config.json").is_file():
            found.append((row, folder))
        elif arguments.only:
            raise ValueError(f"{name}: {folder} holds no checkpoint; {row.recipe} makes it, or name it with --at")
        else:
            _say(f"{name}: left out, {folder} holds no checkpoint ({row.recipe} makes it)")
    if not found:
        raise ValueError(f"{arguments.checkpoints} holds no checkpoint of models.json; run a recipe first")
    for row, _ in found:
        for score in row.scores:
            if not (arguments.data / SCORES[score].file).is_file():
                raise ValueError(f"{row.name} is measured on {arguments.data / SCORES[score].file}, which is not there")
    return found


def _mark(row: Row, checkpoint: Path) -> str:
    """What a result is of: another checkpoint, export, score or version gives another."""
    asked = [row.export, row.task, row.scores, edgenlp.__version__]
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for file in sorted(checkpoint.glob("*.safetensors")) or sorted(checkpoint.glob("*.bin")):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _measured(row: Row, checkpoint: Path, arguments: argparse.Namespace, known: Mapping[str, Any]) -> dict[str, Any]:
    """All precisions of one model; scores that are `known` are not asked for again."""
    from edgenlp_export import export

    wanted: dict[str, dict[str, Any]] = {name: {"precision": name} for name in PRECISIONS[:3]}
    wanted["shipped"] = row.export
    found: dict[str, Any] = {}
    items = {name: SCORES[name].read(arguments.data / SCORES[name].file)[:: arguments.every] for name in row.scores}
    with tempfile.TemporaryDirectory(prefix="edgenlp-measure-") as folder:
        source = Path(folder) / row.name  # the bundle is to be called so, not as the checkpoint's folder
        source.symlink_to(checkpoint.resolve(), target_is_directory=True)
        for name, options in wanted.items():
            bundle = export(source, Path(folder) / name, **{"task": row.task, "tolerance": float("inf"), **options})
            same = next((other for other in found if wanted[other] == options), None)
            found[name] = found[same] if same else _figures(row, bundle, items, known.get(name, {}), arguments)
            _say(f"{row.name} {name}: {found[name]['mb']:.1f} MB, {found[name]['scores']}")
        if arguments.ship and row.ships:
            target = MODELS / "edgenlp_models" / row.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(Path(folder) / "shipped", target)
    return {
        "task": row.task,
        "of": row.of,
        "parameters": bundle.source.parameters,
        "examples": {name: len(each) for name, each in items.items()},
        "measured": {
            name: {"metric": SCORES[name].metric, "on": SCORES[name].on, "lower": SCORES[name].lower_is_better}
            for name in row.scores
        },
        "taken": datetime.date.today().isoformat(),
        "machine": machine.sentence(machine.describe()),
        "precisions": found,
    }


def _figures(
    row: Row,
    bundle: edgenlp.Bundle,
    items: Mapping[str, list[Any]],
    known: Mapping[str, Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Size, scores and times of one bundle, as far as they are not `known`."""
    scores: dict[str, Any] = dict(known.get("scores", {}))
    timing: dict[str, float] = {key: known[key] for key in TIMES if key in known}
    for name, each in items.items():
        score = SCORES[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is cut and what is missing; the score tells
            with edgenlp.pipeline(score.task, model=bundle.folder, threads=arguments.threads) as task:
                if name not in scores:
                    scores[name] = score.figures(task, each)
                calls = [score.call(task, item) for item in each[:: max(1, len(each) // 51)]]
        if arguments.times and not timing:
            timing = timed(score.task, bundle.folder, calls)
    return {"mb": round(bundle.size / 1e6, 2), "scores": scores, **timing}


def _keep(results: Mapping[str, Any], rows: Mapping[str, Row]) -> None:
    page, defaults = MODELS / "README.md", MODELS / "edgenlp_models" / "defaults.json"
    page.write_text(replaced(page.read_text(encoding="utf-8"), tables(results, rows)), encoding="utf-8")
    _write(defaults, kept_scores(json.loads(defaults.read_text(encoding="utf-8")), results, rows))


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(file)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
