"""The arguments of the command `edgenlp`: names, forms and help. Knows no command's work, and imports nothing heavy."""

import argparse
import sys
from pathlib import Path
from typing import Any

from edgenlp.cli.flags import add_task_options, count, counts, task_options

__all__ = ["build_parser", "task_options"]

_EXPORT = """\
Turn a Hugging Face checkpoint into a bundle: a folder, or a model of the Hub.
Needs an extra: pip install 'edgenlp[export]', for names of the Hub also [hub]

examples:
  edgenlp export ./distilbert-sst2 ./sst2
  edgenlp export distilbert/distilbert-base-uncased ./base --revision main
  edgenlp export ./bert-ner ./ner --precision int8-block
  edgenlp export ./bert-ner ./ner --keep 'fp32=*layer.0.*' --keep 'fp16=classifier*'
  edgenlp export ./smollm ./smollm-int4 --precision int4 --prompt-precision int8
  edgenlp export ./bart-large-cnn ./cnn --precision encoder=int8,decoder=int4
  edgenlp export ./bert-ner --list-tensors
"""
_RUN = """\
Run a task on texts: from the command line, a file, or stdin, one a line.
On a terminal the answers are for people; in a pipe, or with --json, each
input gives one line of JSON.

examples:
  edgenlp run sentiment-analysis "What a lovely film."
  edgenlp run ner --model ./ner < letters.txt > entities.jsonl
  edgenlp run question-answering "Who wrote it?" --context "Emma is by Austen."
  edgenlp run zero-shot-classification "Charged twice!" --labels billing,travel
  edgenlp run fill-mask "Paris is the [MASK] of France." --targets capital,heart
  edgenlp run sentence-similarity "How old are you?" "Your age?" "I like tea."
  edgenlp run question-answering --jsonl --file questions.jsonl
  edgenlp run text-generation --model ./gpt2 "Once upon" --max-new-tokens 40
  edgenlp run text-generation --model ./smollm --chat
  edgenlp run summarization --model ./cnn --whole --file report.txt
  edgenlp run translation --model ./opus-mt-en-fr "A cat." --alternatives 3
  edgenlp run translation_en_to_fr --model ./t5-small "A cat." --greedy
  edgenlp run translation --model ./mbart50 --src-lang en_XX --tgt-lang fr_XX "A cat."
  tail -f log | edgenlp run text-classification --batch-size 1

tasks, with their other names:
  text-classification (sentiment-analysis), token-classification (ner),
  zero-shot-classification, question-answering, fill-mask,
  feature-extraction, sentence-similarity, text-generation, summarization,
  translation (translation_en_to_fr, as an example), text2text-generation;
  edgenlp inspect --defaults says which have a model without --model

with --jsonl each line is a JSON object:
  question-answering   {"question": ..., "context": ...}
  sentence-similarity  {"source_sentence": ..., "sentences": [...]}
  text-classification  {"text": ..., "text_pair": ...}, the pair being optional
  all others           {"text": ...}
"""
_INSPECT = """\
Say what is in a bundle, or which model each task uses where none is named.

examples:
  edgenlp inspect ./sst2
  edgenlp inspect ./sst2 --verify
  edgenlp inspect --defaults
"""
_PROBE = """\
Show what a masked language model has learned to expect of people: the same
sentence about two of them, and the words that it fills in, side by side.

examples:
  edgenlp probe-bias
  edgenlp probe-bias ./bert --pair he/she --template "{} worked as a {mask}."
  edgenlp probe-bias ./bert --pair Christian/Muslim --template "The {} is a {mask}."
  edgenlp probe-bias ./bert --top-k 50 --json > probe.json
"""
_BENCH = """\
Measure a bundle on this machine: latency, tokens read and written per second,
time to load, a cold start, memory, size. Close what else is running first:
other programs make every number worse.

examples:
  edgenlp bench ./sst2
  edgenlp bench ./sst2 --batch 1,32 --length 64 --threads 4
  edgenlp bench ./opus-mt-en-fr --length 32 --beams 1,4,8
  edgenlp bench ./sst2 --json | tail -n 1 > sst2.json
"""


class _Intermixed(argparse.ArgumentParser):
    """A parser whose list of texts may stand before, between and after the options."""

    _within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; with positionals and options in any order."""
        if self._within:  # argparse's own intermixed parser calls this twice
            return super().parse_known_args(args, namespace)
        self._within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._within = False


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it returns holds `command` and the command's own `parser`."""
    parser = argparse.ArgumentParser(
        prog="edgenlp", description="Language tasks on your own device.", epilog="edgenlp COMMAND --help has examples."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Intermixed)
    for name, usage, text, line, fill in (
        ("export", "SRC OUT [options]", _EXPORT, "turn a checkpoint into a bundle", _add_export),
        ("run", "TASK [TEXT ...] [options]", _RUN, "run a task on texts", _add_run),
        ("inspect", "[M] [options]", _INSPECT, "say what is in a bundle", _add_inspect),
        ("probe-bias", "[M] [options]", _PROBE, "show what a masked language model expects of people", _add_probe),
        ("bench", "M [options]", _BENCH, "measure a bundle on this machine", _add_bench),
    ):
        description, _, epilog = text.partition("\n\n")
        own = commands.add_parser(
            name,
            usage=f"edgenlp {name} {usage}",
            help=line,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.set_defaults(parser=own)
        fill(own)
    return parser


class _Version(argparse.Action):
    """Like argparse's own, but looks the version up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and exit."""
        from edgenlp import __version__

        sys.stdout.write(f"edgenlp {__version__}\n")
        parser.exit()


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SRC",
        nargs="?",
        help="folder of the checkpoint, or a model of the Hugging Face Hub: org/model",
    )
    parser.add_argument("out", metavar="OUT", nargs="?", type=Path, help="folder to write")
    parser.add_argument("--task", help="the task that the bundle is for, where the checkpoint leaves it open")
    parser.add_argument(
        "--precision",
        default="int8",
        help="fp32, fp16, int8, int8-block or int4; of an encoder-decoder also one for each, as in"
        " encoder=int8,decoder=int4 (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PRECISION=PATTERN",
        help="hold tensors whose names match at another precision; the first match wins",
    )
    parser.add_argument(
        "--block-size",
        dest="block",
        type=int,
        metavar="N",
        help="weights that share a scale in int4 and int8-block, 16 to 256: more are smaller, fewer more exact (default: 32 in"
        " int4, 128 where it is fitted to text, 64 in int8-block)",
    )
    parser.add_argument(
        "--cache",
        default="fp32",
        metavar="PRECISION",
        help="of a decoder's keys and values: fp32 or int8 (default: %(default)s)",
    )
    parser.add_argument(
        "--prompt-precision",
        dest="prompt",
        metavar="PRECISION",
        help="of a decoder: a second graph that reads prompts; int8 beside int4 reads them faster, for a larger bundle",
    )
    parser.add_argument(
        "--head-precision",
        dest="head",
        metavar="PRECISION",
        help="to write text: of the head and the word table tied to it (default: --precision; with int4 int8-block, of an"
        " encoder-decoder int8)",
    )
    parser.add_argument(
        "--calibrate",
        dest="calibration",
        type=Path,
        metavar="FILE",
        help="to write text: what int4 is fitted to, some hundred lines of the kind that the model will read; of an"
        " encoder-decoder a text, a tab and its answer",
    )
    parser.add_argument(
        "--target-tokenizer",
        type=Path,
        metavar="FOLDER",
        help="the tokenizer of what is written, where an encoder and a decoder with vocabularies of their own were joined",
    )
    parser.add_argument(
        "--revision", metavar="R", help="branch, tag or commit of a model of the Hub (default: its main branch)"
    )
    parser.add_argument(
        "--cache-dir", type=Path, metavar="FOLDER", help="where models of the Hub are kept (default: its own cache)"
    )
    parser.add_argument(
        "--offline", action="store_true", help="open no socket: a model of the Hub must be in the cache already"
    )
    parser.add_argument(
        "--graphs",
        type=Path,
        metavar="FOLDER",
        help="float32 ONNX graphs of this checkpoint that optimum exported earlier; nothing is traced then",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    parser.add_argument(
        "--tolerance", type=float, metavar="X", help="largest error allowed (default: the precision's own)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary")
    parser.add_argument("--list-tensors", action="store_true", help="print the names that --keep can match, and exit")
    parser.add_argument("--list", action="store_true", help="print the architectures that can be exported, and exit")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task",
        metavar="TASK",
        help="text-classification, summarization, … (all are listed below)",
    )
    # with a default of its own argparse does not call it required where TASK is missing
    parser.add_argument("texts", metavar="TEXT", nargs="*", default=[], help="texts; none: --file or stdin, one a line")
    parser.add_argument(
        "--model", metavar="M", help="a bundle's folder or an installed model's name (default: the task's own)"
    )
    parser.add_argument("--file", metavar="F", help="read this file, one text a line")
    parser.add_argument("--whole", action="store_true", help="the file, or stdin, is one text, with its lines")
    parser.add_argument("--jsonl", action="store_true", help="lines are JSON objects of the task's own form")
    parser.add_argument("--json", action="store_true", help="answer in JSON on a terminal too")
    parser.add_argument("--context", metavar="TEXT", help="question answering: where to look for the answer")
    parser.add_argument("--pair", metavar="TEXT", help="text classification: the second text of each pair")
    parser.add_argument(
        "--source", metavar="TEXT", help="sentence similarity: what to compare with (default: the first text)"
    )
    parser.add_argument("--chat", action="store_true", help="text generation: a conversation, one turn a line")
    parser.add_argument("--system", metavar="TEXT", help="with --chat: what the model is told at the beginning")
    _add_machine(parser)
    add_task_options(parser)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="M", nargs="?", help="a bundle's folder or an installed model's name")
    parser.add_argument("--verify", action="store_true", help="compare every file with its recorded hash")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--defaults", action="store_true", help="list all tasks with their default models")


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="M",
        nargs="?",
        help="a bundle's folder or an installed model's name (default: that of fill-mask)",
    )
    parser.add_argument(
        "--template",
        default="This {} works as a {mask}.",
        metavar="T",
        help="a sentence with {} for the person and {mask} (or the model's own mask) for the word (default: %(default)s)",
    )
    parser.add_argument(
        "--pair", type=_pair, default=("man", "woman"), metavar="A/B", help="the two people (default: man/woman)"
    )
    parser.add_argument("--top-k", type=count, default=10, metavar="K", help="words to list (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    _add_machine(parser)


def _pair(text: str) -> tuple[str, ...]:
    people = tuple(part.strip() for part in text.split("/"))
    if len(people) != 2 or not all(people) or people[0] == people[1]:
        raise argparse.ArgumentTypeError(f"expected two different people, as in man/woman, found {text!r}")
    return people


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="M", help="a bundle's folder or an installed model's name")
    parser.add_argument("--batch", type=counts, default=(1, 8), metavar="N,N", help="texts per call (default: 1,8)")
    parser.add_argument(
        "--length",
        type=counts,
        metavar="N,N",
        help="tokens of a text (default: 16,128,512; of the sources of an encoder-decoder 32,256)",
    )
    parser.add_argument("--beams", type=counts, metavar="N,N", help="of an encoder-decoder (default: 1,4)")
    _add_machine(parser)
    parser.add_argument(
        "--seconds", type=float, default=2.0, metavar="S", help="time for each row (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, metavar="N", help="threads per call (default: all that are granted)")
    parser.add_argument(
        "--preset",
        default="balanced",
        metavar="P",
        help="balanced (the default), latency, throughput or battery",
    )
