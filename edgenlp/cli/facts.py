"""What people see of a bundle, of the default models and of a measurement. Knows no answers and no printing."""

import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgenlp.bench import Report
from edgenlp.bundle import Bundle, Languages, Vocabulary
from edgenlp.cli.show import amount, plain, seconds, table
from edgenlp.defaults import Default

__all__ = ["default_models", "described", "exported", "facts", "listed", "measured"]

_MOST_LABELS = 12
_MOST_LANGUAGES = 8
_HOW_READING = """\
  Times are per call, text to arrays. Batch 1 is what a person waits for: p50 is
  what to expect, p99 what happens now and then. In larger batches texts/s
  matters: it says how long a file will take."""
_HOW_WRITING = """\
  Times are per call, prompts to the first new token. written/s is what comes
  after it, of all texts together: one text is what a person reads along with."""
_HOW_REWRITING = """\
  Times are the encoder's: what a call takes to read its texts, and tokens/s its
  rate. written/s is the decoder's after that, the answers of all texts together;
  what beams give up on the way does not count."""


def described(bundle: Bundle, *, default_for: Mapping[str, str], verified: bool, width: int) -> str:
    """A bundle, fact by fact.

    Args:
        bundle: The facts.
        default_for: Tasks that use it where no model is named, each with the reason.
        verified: Whether its files were compared with their hashes just now.
        width: Columns of the terminal.
    """
    source = bundle.source
    rows = [
        ("tasks", ", ".join(bundle.tasks)),
        ("architecture", f"{source.architecture}, {_count(source.parameters)} parameters"),
        ("precision", _precision(bundle)),
        ("size", f"{amount(bundle.size)} in {len(bundle.files)} files" + (", hashes match" if verified else "")),
        *(
            ("" if number else "files", f"{name}  {amount(file.size)}")
            for number, (name, file) in enumerate(bundle.files.items())
        ),
        ("window", _window(bundle)),
        ("vocabulary", _vocabulary(bundle.tokenizer, bundle.window)),
        ("special", _special(bundle.tokenizer)),
        *_target(bundle),
        ("languages", _languages(bundle.languages)),
        ("head", _head(bundle)),
        ("labels", _labels(bundle.head.labels)),
        ("cache", bundle.cache or ""),
        ("writes with", _options(bundle.generation)),
        *(
            ("" if number else "by task", f"{task}: {_options(options)}")
            for number, (task, options) in enumerate(bundle.task_options.items())
        ),
        ("chat", ", ".join(bundle.chat)),
        ("pooling", _pooling(bundle)),
        ("similarity", bundle.similarity or ""),
        ("differs by", _parity(bundle)),
        ("licence", source.licence or "not stated by the checkpoint"),
        ("source", source.name + (f" at {source.revision}" if source.revision else "")),
        ("made with", ", ".join(f"{name} {version}" for name, version in source.tools.items())),
        *(("default for", f"{task}: {why}" if why else task) for task, why in default_for.items()),
    ]
    return f"{plain(bundle.name)}  ({plain(bundle.folder)})\n{facts(rows, width=width)}"


def facts(rows: Iterable[tuple[str, str]], *, width: int) -> str:
    """Names and values in two columns; a value that does not fit goes on below itself. Without a value, no row."""
    cells = [(name, plain(value)) for name, value in rows if value]
    indent = max(len(name) for name, _ in cells) + 4
    lines = []
    for name, value in cells:
        parts = textwrap.wrap(value, max(width - indent, 24), break_on_hyphens=False) if width else [value]
        lines += [(name if not number else "", part) for number, part in enumerate(parts)]
    return table(lines)


def exported(bundle: Bundle, folder: Path, took: float, *, width: int) -> str:
    """What an export made."""
    rows = [
        ("size", f"{amount(bundle.size)}, {_precision(bundle)}"),
        ("tasks", ", ".join(bundle.tasks)),
        ("differs by", _parity(bundle) or "not measured"),
        ("took", seconds(took)),
    ]
    trial = f"edgenlp run {bundle.tasks[0]} --model {shlex.quote(str(folder))} {_trial(bundle)}"
    return f"wrote {plain(folder)}\n{facts(rows, width=width)}\ntry it: {plain(trial)}"


def _trial(bundle: Bundle) -> str:
    """What a first run is given."""
    if bundle.tasks[0] == "question-answering":
        return "QUESTION --context TEXT"
    if bundle.tasks[0] == "translation" and bundle.languages is not None:
        source, target = bundle.languages.source, bundle.languages.target
        other = target or next((code for code in bundle.languages.ids if code != source), source)
        return f"--src-lang {source} --tgt-lang {other} TEXT"
    return "TEXT"


def default_models(
    tasks: Iterable[str], defaults: Mapping[str, Default], bundles: Mapping[str, Bundle], *, width: int
) -> str:
    """Every task with the model that it uses where none is named, or why it has none.

    Args:
        tasks: All tasks.
        defaults: Task to its default.
        bundles: Name to bundle, of the models among them that are installed.
        width: Columns of the terminal; where a table does not fit, each task gets lines of its own.
    """
    rows, without = [("TASK", "MODEL", "PARAMETERS", "SIZE", "SCORE", "MEASURED", "LICENCE")], []
    for task in tasks:
        row = defaults.get(task)
        if row is None or row["model"] is None:
            without.append((task, row["why"] if row else "name one with --model"))
            continue
        found = listed(row, bundles.get(row["model"]))
        rows.append(
            (
                task,
                plain(row["model"]),
                _count(found["parameters"]) if "parameters" in found else "",
                amount(found["size"]) if "size" in found else "not installed",
                f"{row['score']:.2f}" if "score" in row else "",
                plain(" on ".join(filter(None, (row.get("metric"), row.get("on"))))),
                plain(found.get("licence", "")),
            )
        )
    if not defaults:
        return "no default models are installed: pip install edgenlp-models"
    text = table(rows, right={2, 3, 4}, indent=0)
    if width and max(map(len, text.splitlines())) >= width:
        text = "\n\n".join(_default(row, width) for row in rows[1:])
    return text + (f"\n\nno default model:\n{facts(without, width=width)}" if without else "")


def listed(row: Default, bundle: Bundle | None) -> dict[str, Any]:
    """A default with what its bundle says: parameters, bytes, precision, and the licence where the default has none."""
    if bundle is None:
        return dict(row)
    licence = {"licence": bundle.source.licence} if bundle.source.licence else {}
    own = {"parameters": bundle.source.parameters, "size": bundle.size, "precision": _precision(bundle)}
    return {**own, **licence, **row}


def _default(row: Sequence[str], width: int) -> str:
    """A task's model on lines of its own."""
    task, model, parameters, size, score, measure, licence = row
    return f"{task}\n" + facts(
        [
            ("model", f"{model}, {parameters} parameters, {size}" if parameters else f"{model}, {size}"),
            ("score", f"{score} {measure}" if score else ""),
            ("licence", licence),
        ],
        width=width,
    )


def measured(report: Report) -> str:
    """A measurement, with a line on how to read it."""
    first, peak = (amount(size) if size else "not known" for size in (report.memory_first, report.memory_peak))
    version = f"onnxruntime {report.onnxruntime}, " if report.onnxruntime else ""
    about = [
        ("size", f"{amount(report.size)}, {report.precision}"),
        ("threads", f"{report.threads}, preset {report.preset}"),
        ("machine", version + plain(report.machine)),
        ("load", f"{seconds(report.load)} to read, check and prepare the files"),
        ("cold start", f"{seconds(report.cold)} from a fresh Python to its first answer"),
        ("memory", f"{first} after the first answer, {peak} after all of the below"),
    ]
    writes = any(row.written_per_second for row in report.rows)
    searches = any(row.beams for row in report.rows)
    heads = [
        *("batch", "tokens", *(["beams"] if searches else [])),
        *(
            "p50",
            "p90",
            "p99",
            *([] if searches else ["texts/s"]),
            "tokens/s",
            *(["written/s"] if writes else []),
            "runs",
        ),
    ]
    rows: list[Sequence[str]] = [heads]
    for row in report.rows:
        cells = {
            "batch": str(row.batch),
            "tokens": str(row.length),
            "beams": str(row.beams),
            **{name: seconds(value) for name, value in (("p50", row.p50), ("p90", row.p90), ("p99", row.p99))},
            "texts/s": _rate(row.texts_per_second),
            "tokens/s": f"{row.tokens_per_second:.0f}",
            "written/s": _rate(row.written_per_second) if row.written_per_second else "",
            "runs": str(row.runs),
        }
        rows.append([cells[head] for head in heads])
    skipped = f"  left out, longer than the model's window: {', '.join(map(str, report.skipped))} tokens\n"
    how = _HOW_REWRITING if searches else _HOW_WRITING if writes else _HOW_READING
    figures = table(rows, right=range(len(heads)))
    return f"{plain(report.name)}\n{table(about)}\n\n{figures}\n{skipped if report.skipped else ''}\n{how}"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.1f} M" if number >= 1e5 else str(number)


def _precision(bundle: Bundle) -> str:
    kept = ", ".join(f"{pattern} at {precision}" for pattern, precision in bundle.kept)
    head, writing = bundle.head.precision, bundle.decoder_precision or bundle.precision
    kept += f"{', ' if kept else ''}head at {head}" if head and head != writing else ""
    prompt = f", prompts read at {bundle.prompt}" if bundle.prompt else ""
    both = f"encoder {bundle.precision}, decoder {bundle.decoder_precision}" if bundle.decoder_precision else ""
    return (both or bundle.precision) + (f" ({kept})" if kept else "") + prompt


def _window(bundle: Bundle) -> str:
    written = bundle.target_window
    return f"{bundle.window} tokens" + (f" are read, {written} written" if written is not None else "")


def _vocabulary(facts: Vocabulary, window: int | None) -> str:
    notes = [f"{facts.size} tokens"]
    if window is not None and facts.max_length is not None and facts.max_length != window:
        notes.append(f"declared for texts of {facts.max_length}")
    if window is not None and facts.truncation_side != "right":
        notes.append(f"long texts lose their {facts.truncation_side} end")
    return ", ".join(notes)


def _special(facts: Vocabulary) -> str:
    return ", ".join(f"{role} {token} = {number}" for role, (token, number) in facts.special.items())


def _target(bundle: Bundle) -> list[tuple[str, str]]:
    """Of the vocabulary that is written, where it is another than that which is read."""
    facts = bundle.target_tokenizer
    return [] if facts is None else [("written with", _vocabulary(facts, None)), ("", _special(facts))]


def _languages(languages: Languages | None) -> str:
    if languages is None:
        return ""
    codes = list(languages.ids)
    few = ", ".join(codes[:_MOST_LANGUAGES]) + (", … (--json has all)" if len(codes) > _MOST_LANGUAGES else "")
    default = f"; from {languages.source} to {languages.target} unless told otherwise" if languages.target else ""
    return f"{len(codes)}: {few}{default}"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value!r}" if isinstance(value, str) else f"{name} {value}" for name, value in options.items()
    )


def _head(bundle: Bundle) -> str:
    notes = [bundle.head.problem, bundle.head.function and f"scores by {bundle.head.function}"]
    return ", ".join([bundle.head.kind, *(note.replace("_", " ") for note in notes if note)])


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_MOST_LABELS])
    return shown + (f" … {len(labels)} in all" if len(labels) > _MOST_LABELS else "")


def _pooling(bundle: Bundle) -> str:
    pooling = bundle.pooling
    if pooling is None:
        return ""
    notes = [" + ".join(pooling.modes) + (", scaled to length 1" if pooling.normalize else "")]
    notes += [f"prompt {name}: {text!r}" for name, text in pooling.prompts.items()]
    return "; ".join(notes)


def _parity(bundle: Bundle) -> str:
    """The measured distance from the checkpoint's answers, in words; figures that have none are shown by name."""
    figures = dict(bundle.parity)
    words = [
        (form.format(figures.pop(name)))
        for name, form in (
            ("relative_error", "{:.2%} relative error"),
            ("max_difference", "at most {:.2g} in one number"),
            ("mean_difference", "{:.2g} on average"),
            ("cosine", "lowest cosine {:.4g}"),
            ("agreement", "{:.2%} the same best answer"),
            ("perplexity", "perplexity {:.4g}"),
            ("reference_perplexity", "the checkpoint's {:.4g}"),
            ("prompt_relative_error", "in prompts {:.2%} relative error"),
            ("prompt_perplexity", "perplexity {:.4g}"),
            ("texts", "over {:.0f} texts"),
            ("tokens", "of {:.0f} tokens"),
        )
        if name in figures
    ]
    return ", ".join([*words, *(f"{name} {value:.3g}" for name, value in figures.items())])
