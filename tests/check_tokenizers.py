"""Compare converted tokenizers with transformers' own, on real tokenizers and real text. A script, run by hand.

    python tests/check_tokenizers.py --texts blns.json udhr/*.txt --
    "bert?tokenizer_class=BertTokenizer&do_lower_case=false" gpt2

Each folder is tried as it is, where it has a tokenizer.json, and without that file, where it has another vocabulary.
What follows the "?" is put into the tokenizer_config.json of a temporary copy. Needs transformers; --save keeps what
transformers answered, and --against compares with such a file where transformers is not installed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tokenizers
from edgenlp_export.tokenizer import convert_target_tokenizer, convert_tokenizer
from tokenizer_answers import Text, answers, digest, expected_answers, expected_facts, target_answers
from tokenizers import Tokenizer

from edgenlp.errors import EdgeNLPError
from edgenlp.tokens import Tokens

VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "source.spm",
)


def read_texts(paths: list[Path], limit: int) -> list[Text]:
    """Lines of text files and strings of JSON lists; then pairs of neighbours, of every tenth."""
    texts: list[str] = []
    for path in paths:
        content = path.read_text("utf-8")
        lines = json.loads(content) if path.suffix == ".json" else content.split("\n")[:limit]
        texts += [line for line in lines if line]
    return [*texts, *zip(texts[::10], texts[1::10], strict=False)]


def cases(spec: str) -> list[tuple[str, Path, dict[str, Any], bool]]:
    """(name, folder, settings, whether tokenizer.json is left in) of one argument."""
    place, _, query = spec.partition("?")
    folder = Path(place)
    settings = {}
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    found = []
    if (folder / "tokenizer.json").is_file() and settings.get("tokenizer_class") != "MarianTokenizer":
        found.append((f"{folder.name} tokenizer.json", folder, settings, True))
    if any((folder / name).is_file() for name in VOCABULARIES) and not str(
        settings.get("tokenizer_class", "")
    ).startswith("PreTrained"):
        found.append((f"{folder.name} vocabulary only", folder, settings, False))
    return found


def copy(folder: Path, target: Path, settings: dict[str, Any], ready: bool) -> dict[str, Any]:
    """Copy the tokenizer's files to `target`; gives the config.json that they have, or one that names nothing."""
    for path in folder.iterdir():
        if path.is_file() and (ready or path.name != "tokenizer.json"):
            shutil.copyfile(path, target / path.name)
    given = target / "tokenizer_config.json"
    values = json.loads(given.read_text("utf-8")) if given.is_file() else {}
    given.write_text(json.dumps({**values, **settings}), "utf-8")
    config = target / "config.json"
    return json.loads(config.read_text("utf-8")) if config.is_file() else {}


def check(
    name: str, folder: Path, texts: list[Text], config: dict[str, Any], saved: dict[str, Any], record: bool
) -> None:
    """Compare one case, and print one line."""
    if record:
        from transformers import AutoTokenizer

        reference = AutoTokenizer.from_pretrained(str(folder), use_fast=True)
        expected = expected_answers(reference, texts)
        saved[name] = {
            "fast": reference.is_fast,
            "answers": [digest(answer) for answer in expected],
            "facts": expected_facts(reference),
            "targets": target_answers(reference, texts),
            "decoded": [
                digest({"text": reference.decode(answer["ids"], skip_special_tokens=True)}) for answer in expected
            ],
        }
    try:
        text, facts = convert_tokenizer(folder, config)
    except EdgeNLPError as error:
        print(f"{name:42} {type(error).__name__}: {str(error).replace(str(folder), '')[:150]}")
        return
    mine = Tokenizer.from_str(text)
    unk = facts.special.get("unk", ("", -1))[1]
    found = answers(mine, texts)
    if not saved[name]["fast"]:
        found = [{"ids": [index if index < facts.size else unk for index in answer["ids"]]} for answer in found]
    wrong = [n for n, answer in enumerate(found) if digest(answer) != saved[name]["answers"][n]]
    mine_facts = json.loads(
        json.dumps({key: value for key, value in asdict(facts).items() if key in saved[name]["facts"]})
    )
    odd = {key: (mine_facts[key], value) for key, value in saved[name]["facts"].items() if mine_facts[key] != value}
    written, kept = convert_target_tokenizer(folder, config) or (text, facts)
    (folder / "converted.json").write_text(written, "utf-8")
    tokens = Tokens(folder / "converted.json", kept)
    # What the reference says of ids is compared only where the ids are the same
    texts_back = [
        saved[name]["decoded"][n] != digest({"text": tokens.decode(answer["ids"], skip_special_tokens=True)})
        for n, answer in enumerate(found)
        if n not in wrong
    ]
    singles = [text for text in texts if isinstance(text, str)]
    ids = [window.ids for windows in tokens.encode(singles, special_tokens=False) for window in windows]
    if not saved[name]["fast"]:
        ids = [[index if index < kept.size else unk for index in row] for row in ids]
    targets = [digest({"ids": row}) != value for row, value in zip(ids, saved[name]["targets"], strict=True)]
    print(
        f"{name:42} texts {len(texts):6} differences {len(wrong):5}  facts {odd or 'equal'}"
        f"  decoded {sum(texts_back)} of {len(texts_back)}  as target {sum(targets)} of {len(targets)}"
    )
    if wrong and record:
        for n in wrong[:3]:
            print(
                "   ",
                repr(texts[n])[:150],
                "\n     ours  ",
                found[n]["ids"][:40],
                "\n     theirs",
                expected[n]["ids"][:40],
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--texts", nargs="+", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=2000, help="most lines of one text file")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    texts = read_texts(options.texts, options.lines)
    saved: dict[str, Any] = json.loads(options.against.read_text()) if options.against else {}
    print(f"tokenizers {tokenizers.__version__}, python {sys.version.split()[0]}, {len(texts)} texts")
    for spec in options.folders:
        for name, folder, settings, ready in cases(spec):
            with tempfile.TemporaryDirectory() as target:
                config = copy(folder, Path(target), settings, ready)
                check(name, Path(target), texts, config, saved, options.against is None)
    if options.save:
        options.save.write_text(json.dumps(saved))


if __name__ == "__main__":
    main()
