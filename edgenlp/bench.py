"""How fast one bundle is on this machine, and what it costs to start, in memory and on disk. Knows no task.

Measured is what every task does and little else: texts to ids, ids through the graph, arrays cut apart. Two regimes
matter. One text at a time is what a person waits for: a short text is bound by the number of the graph's nodes and by
reading the weights. Many texts at once are bound by arithmetic: there texts per second count, and the time of a single
call does not.
"""

import functools
import importlib.metadata
import itertools
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgenlp.bundle import Bundle
from edgenlp.decode.generate import generate
from edgenlp.decode.options import merged
from edgenlp.errors import BundleError, InputError
from edgenlp.model import Model, open_model

__all__ = ["Report", "Row", "measure", "peak_memory"]

Progress = Callable[[str, int, int], None]

_LEAST_RUNS = 5  # of a row, however slow
_WARM_RUNS = 2
_STEPS = 32  # tokens written after each prompt or source
_COLD_STARTS = 3
_LENGTHS, _SOURCES, _BEAMS = (16, 128, 512), (32, 256), (1, 4)
# Common words of several lengths, so that texts are tokenized much as real ones are.
_PROSE = (
    "the river runs past an old mill where children learn to swim in summer and people from the village bring bread,"
    " apples and yesterday's newspaper; nobody remembers who built the bridge, but everyone knows that it will stand."
)
# argv: folder of the package, bundle, threads or "", preset. The folder comes last on the path, so as to hide nothing.
_COLD = """
import sys
sys.path.append(sys.argv[1])
import edgenlp
threads = int(sys.argv[3]) if sys.argv[3] else None
edgenlp.pipeline(model=sys.argv[2], threads=threads, preset=sys.argv[4]).warmup()
sys.stdout.write("answered\\n")
sys.stdout.flush()
from edgenlp.bench import peak_memory
sys.stdout.write(f"{peak_memory() or 0}\\n")
"""


@dataclass(frozen=True)
class Row:
    """One batch size and length.

    Attributes:
        batch: Texts per call.
        length: Tokens per text, special tokens included.
        runs: Calls timed.
        p50: Median time of a call, in seconds.
        p90: Nine calls of ten were at least this quick.
        p99: Ninety-nine of a hundred; below a hundred runs little more than the slowest.
        texts_per_second: `batch` over the mean time.
        tokens_per_second: The same in tokens.
        written_per_second: Of a bundle that writes, tokens that all texts together gain in a second of steps after the prompt; None of
            others. A call is then the prompt, up to the logits of the first new token; of an encoder-decoder, the encoder.
        beams: Of an encoder-decoder, beams that the answers were searched with; 1 is greedy.
    """

    batch: int
    length: int
    runs: int
    p50: float
    p90: float
    p99: float
    texts_per_second: float
    tokens_per_second: float
    written_per_second: float | None = None
    beams: int | None = None


@dataclass(frozen=True)
class Report:
    """Everything that was measured.

    Attributes:
        name: The bundle's.
        precision: The bundle's.
        size: Bytes on disk.
        threads: Threads per call.
        preset: As asked for.
        machine: The processor's name, or the kind of machine.
        onnxruntime: Its version, "" where not known.
        load: Seconds from the folder to a model that can answer, in a warm process; hashes are checked meanwhile.
        cold: Seconds from starting Python to the first answer, median of fresh processes.
        memory_first: Largest resident set of such a process, in bytes; None where the system does not tell.
        memory_peak: That of this process after all rows, in bytes.
        rows: By batch, length and beams.
        skipped: Lengths left out because they are longer than the model's window.
    """

    name: str
    precision: str
    size: int
    threads: int
    preset: str
    machine: str
    onnxruntime: str
    load: float
    cold: float
    memory_first: int | None
    memory_peak: int | None
    rows: tuple[Row, ...]
    skipped: tuple[int, ...]


def measure(
    folder: Path,
    *,
    batches: Sequence[int] = (1, 8),
    lengths: Sequence[int] | None = None,
    beams: Sequence[int] | None = None,
    threads: int | None = None,
    preset: str = "balanced",
    seconds: float = 2.0,
    progress: Progress | None = None,
) -> Report:
    """Measure a bundle.

    Args:
        folder: The bundle.
        batches: Texts per call.
        lengths: Tokens per text, special tokens included; those beyond the model's window are skipped. None for 16, 128 and 512, or
            32 and 256 of an encoder-decoder.
        beams: Of an encoder-decoder; None for 1 and 4.
        threads: Threads per call; None for what the preset says.
        preset: See `edgenlp.session.PRESETS`.
        seconds: Time spent on each pair of batch and length.
        progress: Called with a step's name, steps done and steps in all.

    Raises:
        BundleError: The folder is not a bundle, or a fresh process cannot run it.
        InputError: An option cannot be used, or no length fits the window.
    """
    if not seconds > 0:
        raise InputError(f"seconds must be more than 0, found {seconds}")
    tell = progress or (lambda step, done, total: None)
    tell("cold start", 0, 1)
    start = time.perf_counter()
    model = open_model(folder, threads=threads, preset=preset)
    load = time.perf_counter() - start
    crosses = "seq2seq" in model.passes
    if beams is not None and not crosses:
        raise InputError(f"{folder} is no encoder-decoder, of which answers are searched with beams; leave --beams out")
    lengths = lengths or (_SOURCES if crosses else _LENGTHS)
    cases = list(itertools.product(batches, lengths, (beams or _BEAMS) if crosses else (None,)))
    steps = len(cases) + 1
    cold, memory = _cold_start(folder, threads, preset)
    if not crosses and min(lengths) <= (special := model.tokens.special_count()):
        raise InputError(
            f"a text of {min(lengths)} tokens holds no word beside {special} special ones; give a longer --length"
        )
    rows = []
    for step, (batch, length, width) in enumerate(cases, 1):
        tell(f"batch {batch}, {length} tokens" + (f", {width} beams" if width and width > 1 else ""), step, steps)
        if length <= model.bundle.window:
            rows.append(_row(model, batch, length, seconds, width))
    tell("done", steps, steps)
    if not rows:
        raise InputError(f"no length fits the model's window of {model.bundle.window} tokens; give a smaller --length")
    bundle = model.bundle
    return Report(
        name=bundle.name,
        precision=_precision(bundle),
        size=bundle.size,
        threads=model.threads,
        preset=preset,
        machine=_machine(),
        onnxruntime=_version("onnxruntime"),
        load=load,
        cold=cold,
        memory_first=memory,
        memory_peak=peak_memory(),
        rows=tuple(rows),
        skipped=tuple(length for length in lengths if length > bundle.window),
    )


def peak_memory() -> int | None:
    """The largest resident set of this process in bytes, None where the system does not tell.

    On Linux from VmHWM, since `ru_maxrss` of getrusage survives exec and so counts the parent.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        if sys.platform != "darwin":
            return None
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def _row(model: Model, batch: int, length: int, seconds: float, beams: int | None) -> Row:
    """Time calls of one shape for `seconds`, at least `_LEAST_RUNS` of them."""
    if beams is not None:
        call = functools.partial(_rewriting, model, _sources(model, batch, length), beams)
    else:
        texts = [_text(model, length, turn) for turn in range(batch)]
        call = functools.partial(_writing if "decoder" in model.passes else _reading, model, texts, length)
    for _ in range(_WARM_RUNS):
        call()
    times: list[float] = []
    written, steps, tokens = 0, 0.0, 0
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        tokens, count, spent = call()
        times.append(time.perf_counter() - start - spent)
        written, steps = written + count, steps + spent
    p50, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
    mean = statistics.fmean(times)
    rate = written / steps if written else None
    return Row(batch, length, len(times), p50, p90, p99, batch / mean, tokens / mean, rate, beams)


def _reading(model: Model, texts: Sequence[str], length: int) -> tuple[int, int, float]:
    """Texts through an encoder: tokens read; nothing is written."""
    groups = model.tokens.encode(texts, max_length=length, truncation="longest_first")
    windows = [window for group in groups for window in group]
    model.encoder(windows, rows=[[0]] * len(windows))  # one row of a masked LM's text, as one mask would ask for
    return sum(map(len, windows)), 0, 0.0


def _writing(model: Model, texts: Sequence[str], length: int) -> tuple[int, int, float]:
    """Prompts through a decoder, and up to `_STEPS` greedy steps: tokens read, tokens written and the seconds that those took."""
    groups = model.tokens.encode(texts, max_length=length, truncation="longest_first")
    prompts = [list(group[0].ids) for group in groups]
    count = min(_STEPS, model.bundle.window - length)
    sequences = model.decoder.start(len(prompts), length + count)
    chosen = sequences.read(prompts).argmax(axis=1)
    start = time.perf_counter()
    for _ in range(count):
        chosen = sequences.step(chosen).argmax(axis=1)
    return sum(map(len, prompts)), count * len(prompts), time.perf_counter() - start


def _rewriting(model: Model, sources: Sequence[Sequence[int]], beams: int) -> tuple[int, int, float]:
    """Sources through an encoder, and `_STEPS` steps of its decoder: tokens read, tokens written and the seconds that those took."""
    reading = model.seq2seq.read(sources)
    start = time.perf_counter()
    first = model.bundle.generation.get("decoder_start_token_id") or 0
    # without an end token every answer is as long as it may be
    options = merged({}, {"max_new_tokens": _STEPS, "num_beams": beams})
    found = generate(reading, [[first]] * len(sources), options)
    return sum(map(len, sources)), sum(len(items[0].ids) for items in found), time.perf_counter() - start


def _sources(model: Model, batch: int, length: int) -> list[list[int]]:
    """Random ids, for not every vocabulary of an encoder-decoder can spell English; special ones left out."""
    facts = model.bundle.tokenizer
    special = {number for _, number in facts.special.values()}
    usual = [number for number in range(facts.size) if number not in special]
    chosen: list[list[int]] = np.random.default_rng(0).choice(usual or [0], (batch, length)).tolist()
    return chosen


def _text(model: Model, length: int, turn: int) -> str:
    """A text of `length` tokens, special tokens included; another one for every `turn`."""
    words = itertools.islice(itertools.cycle(_PROSE.split()), 7 * turn, 7 * turn + length)  # a word is a token or more
    text = " ".join(words)
    window = model.tokens.encode([text], max_length=length, truncation="longest_first")[0][0]
    return text[: max(end for _, end in window.offsets)]


def _cold_start(folder: Path, threads: int | None, preset: str) -> tuple[float, int | None]:
    """Seconds from starting a fresh Python to its first answer (median), and its memory in bytes."""
    package = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", _COLD, str(package), str(folder), str(threads or ""), preset]
    times, memory = [], 0
    for _ in range(_COLD_STARTS):
        start = time.perf_counter()
        # The command is this interpreter and the program above; nothing of it comes from a file or a shell.
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:  # noqa: S603
            assert child.stdout is not None
            first = child.stdout.readline()
            times.append(time.perf_counter() - start)
            rest, errors = child.communicate()
        if first != "answered\n" or child.returncode:
            last = errors.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
            raise BundleError(f"a fresh {Path(sys.executable).name} cannot run {folder}: {last[0]}")
        memory = max(memory, int(rest))
    return statistics.median(times), memory or None


def _precision(bundle: Bundle) -> str:
    """As `edgenlp export --precision` was told."""
    writing = bundle.decoder_precision
    return f"encoder={bundle.precision},decoder={writing}" if writing else bundle.precision


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{named or platform.processor() or platform.machine()}, {os.cpu_count()} processors"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except (
        importlib.metadata.PackageNotFoundError
    ):  # installed under another name, as its builds for other hardware are
        return ""
