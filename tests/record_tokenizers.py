"""Make the small tokenizers of the tests, and record what transformers 4.57.6 answers with them. A script, run by hand.

    python tests/record_tokenizers.py train UDHR_FOLDER BLNS_JSON
    python tests/record_tokenizers.py record

The first makes tests/data/tokenizers, udhr_sample.txt and naughty.json, the second tests/data/goldens/tokenizers.json.
Needs transformers, tokenizers, sentencepiece and protobuf. The goldens are the answers of the tokenizers that
transformers opens (AutoTokenizer, fast where there is one) in the folders that tokenizer_folders.py writes.
"""

import argparse
import io
import itertools
import json
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
import tokenizers
import transformers
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizer_answers import digest, expected_answers, expected_facts, invented, target_answers
from tokenizer_folders import CASES, DATA, TOKENIZERS, WRITERS, texts, write_folder, write_json

SHOWN = (4, 15, 100)  # texts whose answer is kept in full
_SAMPLE = "eng fra vie yor rus ell_monotonic hye kat arb heb pes_1 hin ben tam tha mya amh cmn_hans jpn kor"
SAMPLE = _SAMPLE.split()
OWN = [
    "\0",
    "a\0b",
    "x" * 150,
    "ab" * 300,
    "ß" * 101,
    "\u200d\u200c\u2060\ufeff",
    "👩‍👩‍👧‍👦",
    "🇺🇳 e\u0323\u0301 ﬁ ½",
    "１，２３４．５ Ａｂ",
]
PUBLIC_DOMAIN = (
    "Trained by tests/record_tokenizers.py on the Universal Declaration of Human Rights in 38 languages (texts of the"
    " nltk_data package udhr2, whose licence is stated as public domain). The files carry this repository's licence.\n"
)


def train(udhr: Path, blns: Path) -> None:
    """Train five tokenizers on the lines of all languages, and cut the corpus of the goldens."""
    lines = [
        line.strip()
        for path in sorted(udhr.glob("[a-z]*.txt"))
        for line in path.read_text("utf-8").split("\n")
        if line.strip()
    ]
    folders = {name: TOKENIZERS / name for name in ("wordpiece", "bytelevel", "unigram", "bpe")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "SOURCE.txt").write_text(PUBLIC_DOMAIN, "utf-8")
    words = tokenizers.BertWordPieceTokenizer(lowercase=True)
    words.train_from_iterator(lines, vocab_size=1800, limit_alphabet=450, min_frequency=2, show_progress=False)
    words.save_model(str(folders["wordpiece"]))
    pairs = tokenizers.ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pairs.train_from_iterator(lines, vocab_size=1800, special_tokens=specials, show_progress=False)
    pairs.save_model(str(folders["bytelevel"]))
    _train_words(TOKENIZERS / "words", lines)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".tsv") as rules:
        rules.write(_rules())
        rules.flush()
        _train_pieces(
            folders["unigram"] / "unigram.model",
            lines,
            model_type="unigram",
            vocab_size=1500,
            character_coverage=0.985,
            normalization_rule_tsv=rules.name,
        )
    _train_pieces(
        folders["bpe"] / "bpe.model",
        lines,
        model_type="bpe",
        vocab_size=1700,
        character_coverage=0.98,
        byte_fallback=True,
        normalization_rule_name="identity",
        split_digits=True,
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["<start_of_turn>"],
    )
    _write_corpus(udhr, blns)


def _train_words(folder: Path, lines: list[str]) -> None:
    """BPE as the small Blenderbot writes it: pieces that go on end in "@@", those that end a word are bare."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SOURCE.txt").write_text(PUBLIC_DOMAIN, "utf-8")
    model = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    model.normalizer = tokenizers.normalizers.Lowercase()
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    options = {"vocab_size": 1300, "limit_alphabet": 300, "end_of_word_suffix": "</w>", "show_progress": False}
    model.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(**options))
    state = json.loads(model.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].get)
    names = [piece.removesuffix("</w>") if piece.endswith("</w>") else f"{piece}@@" for piece in pieces]
    specials = ["__null__", "__start__", "__end__", "__unk__", "__newln__"]
    kept = [*specials, *(name for index, name in enumerate(names) if index % 40)]  # lacks a few pieces
    write_json(folder / "vocab.json", {name: index for index, name in enumerate(kept)})
    merges = [" ".join(merge) for merge in state["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), "utf-8")


def _train_pieces(path: Path, lines: list[str], **options: object) -> None:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, num_threads=1, minloglevel=2, **options
    )
    model = ModelProto.FromString(out.getvalue())
    model.normalizer_spec.ClearField("normalization_rule_tsv")  # the path of a temporary file
    path.write_bytes(model.SerializeToString(deterministic=True))


def _rules() -> str:
    """A few hundred normalization rules: a whole NFKC table would be ten times as large as the rest of the model."""
    rules: dict[tuple[int, ...], tuple[int, ...]] = {}
    spaces = (0x9, 0xA, 0xD, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
    rules.update({(char,): (0x20,) for char in spaces})
    rules.update({(char,): () for char in (0xAD, 0x200B, 0x200E, 0x200F, 0xFEFF)})
    wide = (range(0xFF01, 0xFF5F), range(0xFB00, 0xFB07), (0x2026, 0xBD, 0xB2, 0x2122, 0x1E9B, 0xFF76, 0xFF9E))
    rules.update(
        {(char,): tuple(map(ord, unicodedata.normalize("NFKC", chr(char)))) for char in itertools.chain(*wide)}
    )
    marks = (0x300, 0x301, 0x302, 0x303, 0x308, 0x323, 0x327)
    for letter, mark in itertools.product("AEIOUaeiouncysNC", marks):
        joined = unicodedata.normalize("NFC", letter + chr(mark))
        if len(joined) == 1:
            rules[ord(letter), mark] = (ord(joined),)
    return "".join(
        "\t".join(" ".join(f"{c:X}" for c in part) for part in rule) + "\n" for rule in sorted(rules.items())
    )


def _write_corpus(udhr: Path, blns: Path) -> None:
    chosen = []
    for language in SAMPLE:
        lines = [line.rstrip() for line in (udhr / f"{language}.txt").read_text("utf-8").split("\n")]
        chosen += [line for line in lines if 60 <= len(line.encode()) <= 420][:4]
    (DATA / "udhr_sample.txt").write_text("\n".join(chosen) + "\n", "utf-8")
    naughty = [text for text in json.loads(blns.read_text("utf-8")) if text and not text.isascii()]
    short = [text for text in naughty if len(text.encode()) <= 400]
    licence = (DATA / "naughty.LICENSE.txt").name
    source = "Strings of the Big List of Naughty Strings (github.com/minimaxir/big-list-of-naughty-strings), MIT"
    value = {"source": f"{source}, see {licence}; the last {len(OWN)} are our own", "strings": [*short[::2], *OWN]}
    (DATA / "naughty.json").write_text(json.dumps(value, indent=0) + "\n", "ascii")


def record() -> None:
    corpus = texts()
    goldens = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as place:
            write_folder(name, Path(place))
            tokenizer = transformers.AutoTokenizer.from_pretrained(place, use_fast=True)
        expected = expected_answers(tokenizer, corpus)
        goldens[name] = {
            "class": type(tokenizer).__name__,
            "facts": expected_facts(tokenizer),
            "answers": "".join(map(digest, expected)),
            "shown": {
                n: [expected[n]["ids"], tokenizer.decode(expected[n]["ids"], skip_special_tokens=True)] for n in SHOWN
            },
        }
        if name in WRITERS:
            rows = [*(answer["ids"] for answer in expected), *invented(len(tokenizer))]
            decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
            goldens[name]["decoded"] = "".join(digest({"text": text}) for text in decoded)
            goldens[name]["targets"] = "".join(target_answers(tokenizer, corpus))
        print(name, goldens[name]["class"], sum(len(answer["ids"]) for answer in expected))
    (DATA / "goldens").mkdir(exist_ok=True)
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    write_json(DATA / "goldens" / "tokenizers.json", {"versions": versions, "texts": len(corpus), "cases": goldens})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("udhr", type=Path)
    training.add_argument("blns", type=Path)
    commands.add_parser("record")
    options = parser.parse_args()
    if options.command == "train":
        train(options.udhr, options.blns)
    else:
        record()


if __name__ == "__main__":
    main()
