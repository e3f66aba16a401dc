import base64
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from edgenlp_export.tokenizer import convert_target_tokenizer, convert_tokenizer
from edgenlp_export.tokenizer.charsmap import rule_of
from edgenlp_export.tokenizer.codes import M2M100
from edgenlp_export.tokenizer.sentencepiece import Algorithm, Kind, Piece, SentencePieceModel, read_sentencepiece
from tokenizer_answers import DIGEST, answers, digest, invented
from tokenizer_folders import (
    CASES,
    DATA,
    SLOW,
    TOKENIZERS,
    WRITERS,
    byte_level,
    field,
    model_bytes,
    texts,
    word_piece,
    write_folder,
    write_json,
)
from tokenizers import Tokenizer

from edgenlp.bundle import Vocabulary
from edgenlp.errors import CheckpointError, EdgeNLPError, UnsupportedError
from edgenlp.tokens import Tokens

GOLDENS = json.loads((DATA / "goldens" / "tokenizers.json").read_text("utf-8"))
TEXTS = texts()
STACKED = [text for text in TEXTS if "e\u0323\u0301" in "".join(text)]
BERT = {"model_type": "bert"}


def convert(name: str, folder: Path) -> tuple[str, Vocabulary]:
    return convert_tokenizer(folder, write_folder(name, folder))


def opened(text: str, facts: Vocabulary, folder: Path) -> Tokens:
    (folder / "made.json").write_text(text, "utf-8")
    return Tokens(folder / "made.json", facts)


def known(ids: Sequence[int], facts: Vocabulary) -> list[int]:
    """`ids` with the unknown token for pieces that the vocabulary lacks."""
    return [index if index < facts.size else facts.special["unk"][1] for index in ids]


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_answers_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    golden = GOLDENS["cases"][name]
    text, _ = convert(name, tmp_path)
    found = answers(Tokenizer.from_str(text), TEXTS)
    expected = [golden["answers"][at : at + DIGEST] for at in range(0, len(golden["answers"]), DIGEST)]
    assert len(expected) == len(found) == GOLDENS["texts"]
    assert {number: found[int(number)]["ids"] for number in golden["shown"]} == {
        number: ids for number, (ids, _) in golden["shown"].items()
    }
    wrong = [text for text, answer, value in zip(TEXTS, found, expected, strict=True) if digest(answer) != value]
    assert wrong == []


@pytest.mark.parametrize("name", CASES)
def test_facts_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    _, facts = convert(name, tmp_path)
    expected = GOLDENS["cases"][name]["facts"]
    if "unlisted" in name:  # languages that transformers does not count have ids all the same
        languages = len(M2M100["m2m100"])
        assert facts.size == expected["size"] + languages
        expected = {**expected, "size": facts.size}
    assert json.loads(json.dumps(asdict(facts))) == {
        "file": "tokenizer.json",
        **expected,
        "joins_words": facts.joins_words,
    }


@pytest.mark.parametrize("name", [name for name in CASES if name not in WRITERS])
def test_decoded_text_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    """Special tokens are left out by id: tokenizers 0.23 shows those that the normalizer changes."""
    text, facts = convert(name, tmp_path)
    tokens = opened(text, facts, tmp_path)
    special = {token["id"] for token in json.loads(text)["added_tokens"] if token["special"]}
    for ids, expected in GOLDENS["cases"][name]["shown"].values():
        assert tokens.decode([index for index in ids if index not in special]) == expected


@pytest.mark.parametrize("name", sorted(SLOW))
def test_answers_are_those_of_slow_tokenizers(name: str, tmp_path: Path) -> None:
    """A slow tokenizer says only ids; from the vocabulary's size up they are pieces it lacks, and stand for <unk>.

    SentencePiece joins "e" and the dot below and keeps the accent; the tokenizers library takes a letter with all its
    marks at once.
    """
    golden = GOLDENS["cases"][name]
    text, facts = convert(name, tmp_path)
    found = answers(Tokenizer.from_str(text), TEXTS)
    ids = [known(answer["ids"], facts) for answer in found]
    wrong = [
        text
        for number, text in enumerate(TEXTS)
        if digest({"ids": ids[number]}) != golden["answers"][number * DIGEST : (number + 1) * DIGEST]
    ]
    assert any(index >= facts.size for answer in found for index in answer["ids"])
    assert wrong == ([] if name == "blenderbot small" else STACKED)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_whatever_is_written_is_decoded_as_transformers_does(name: str, tmp_path: Path) -> None:
    """The ids of each text, and ids that no text becomes, without special tokens."""
    config = write_folder(name, tmp_path)
    text, facts = convert_tokenizer(tmp_path, config)
    written, kept = convert_target_tokenizer(tmp_path, config) or (text, facts)
    tokens = opened(written, kept, tmp_path)
    rows: list[list[int] | None] = [known(answer["ids"], facts) for answer in answers(Tokenizer.from_str(text), TEXTS)]
    if name in SLOW - {"blenderbot small"}:
        rows = [None if TEXTS[number] in STACKED else row for number, row in enumerate(rows)]
    golden = GOLDENS["cases"][name]["decoded"]
    rows += invented(GOLDENS["cases"][name]["facts"]["size"])
    assert len(golden) == DIGEST * len(rows)
    wrong = [
        row
        for number, row in enumerate(rows)
        if row is not None
        and digest({"text": tokens.decode(row, skip_special_tokens=True)}) != golden[number * DIGEST :][:DIGEST]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_is_to_be_written_is_read_as_transformers_does(name: str, tmp_path: Path) -> None:
    """`text_target` without special tokens: a prefix that a translation is to begin with."""
    config = write_folder(name, tmp_path)
    written, facts = convert_target_tokenizer(tmp_path, config) or convert_tokenizer(tmp_path, config)
    singles = [text for text in TEXTS if isinstance(text, str)]
    windows = opened(written, facts, tmp_path).encode(singles, special_tokens=False)
    golden = GOLDENS["cases"][name]["targets"]
    assert len(golden) == DIGEST * len(singles)
    wrong = [
        text
        for number, (text, (window,)) in enumerate(zip(singles, windows, strict=True))
        if digest({"ids": known(window.ids, facts)}) != golden[number * DIGEST :][:DIGEST]
    ]
    assert wrong == ([text for text in STACKED if text in singles] if name in SLOW - {"blenderbot small"} else [])


def test_marian_target_side_segments_with_its_own_model(tmp_path: Path) -> None:
    config = write_folder("marian", tmp_path)
    source, target = convert_tokenizer(tmp_path, config), convert_target_tokenizer(tmp_path, config)
    assert target is not None
    assert {**asdict(source[1]), "file": "target_tokenizer.json"} == asdict(target[1])
    sides = [Tokenizer.from_str(text).encode("the human rights").tokens for text, _ in (source, target)]
    assert sides[0] != sides[1]


def test_marian_sides_of_one_model_and_vocabulary_are_one(tmp_path: Path) -> None:
    config = write_folder("marian", tmp_path)
    (tmp_path / "target.spm").write_bytes((tmp_path / "source.spm").read_bytes())
    assert convert_target_tokenizer(tmp_path, config) is None


def test_marian_takes_a_language_code_at_the_beginning_alone(tmp_path: Path) -> None:
    text, facts = convert("marian of many targets", tmp_path)
    tokenizer, code = Tokenizer.from_str(text), facts.size - 4  # the codes and <pad> come last
    plain = tokenizer.encode("rights").ids
    assert tokenizer.encode(">>fra<< rights").ids == tokenizer.encode(">>fra<<rights").ids == [code, *plain]
    assert tokenizer.encode("</s>>>id<< rights").ids == [0, code + 2, *plain]
    assert code not in tokenizer.encode("rights >>fra<< rights").ids
    assert code not in tokenizer.encode(" >>fra<< rights").ids
    assert tokenizer.encode(">>nope<< rights").ids[1:] == plain
    assert tokenizer.encode(">>nope<< rights").ids[0] >= facts.size
    assert tokenizer.decode([code, *plain[:-1]]) == ">>fra<< rights"


@pytest.mark.parametrize("name", sorted(name for name in SLOW if name != "blenderbot small"))
@pytest.mark.parametrize(
    "text", ["", " ", "☃", "☃☃", "(☃", "\n", ">>fra<<☃", ">>☃<<", ">>fra<<ﬁ", ">>", "\ue000", "\ue002"]
)
def test_odd_texts_stop_nobody(name: str, text: str, tmp_path: Path) -> None:
    """The tokenizers library panics over some replacements at the beginning or the end of a text."""
    tokens = opened(*convert(name, tmp_path), tmp_path)
    [[window]] = tokens.encode([text])
    assert window.offsets[-1][1] <= len(text)
    tokens.decode(window.ids)


def test_only_marian_has_a_target_side(tmp_path: Path) -> None:
    assert convert_target_tokenizer(tmp_path, write_folder("t5", tmp_path)) is None


@pytest.mark.parametrize("name", ["bert", "roberta ready", "albert", "llama", "marian"])
def test_the_same_folder_gives_the_same_text(name: str, tmp_path: Path) -> None:
    config = write_folder(name, tmp_path)
    text, facts = convert_tokenizer(tmp_path, config)
    assert convert_tokenizer(tmp_path, config) == (text, facts)
    assert "\n" not in text


@pytest.mark.parametrize("name", ["bert ready, boxed", "albert ready", "llama ready"])
def test_truncation_and_padding_are_taken_out(name: str, tmp_path: Path) -> None:
    text, facts = convert(name, tmp_path)
    document = json.loads(text)
    assert document["truncation"] is None
    assert document["padding"] is None
    assert facts.truncation_side == "left"  # what the file that was read cut


@pytest.mark.parametrize(
    ("name", "joins"),
    [
        ("bert", False),
        ("xlm-roberta", False),
        ("roberta", True),
        ("roberta prefixed", False),
        ("gpt2", True),
        ("llama", False),
    ],
)
def test_words_are_joined_where_the_tokenizer_is_byte_level(name: str, joins: bool, tmp_path: Path) -> None:
    assert convert(name, tmp_path)[1].joins_words is joins


def test_byte_level_inside_a_sequence_joins_words(tmp_path: Path) -> None:
    write_folder("gpt2 ready", tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    inner = {**document["pre_tokenizer"], "add_prefix_space": False}
    document["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, inner],
    }
    write_json(tmp_path / "tokenizer.json", document)
    assert convert_tokenizer(tmp_path, {})[1].joins_words


def test_the_tokenizer_file_goes_before_the_vocabulary(tmp_path: Path) -> None:
    write_folder("bert ready, boxed", tmp_path)
    (tmp_path / "vocab.txt").write_text("[UNK]\nnothing\n", "utf-8")
    assert convert_tokenizer(tmp_path, BERT)[1].size > 1000


def test_model_max_length_of_another_name(tmp_path: Path) -> None:
    word_piece(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"max_len": 64.0})
    facts = convert_tokenizer(tmp_path, BERT)[1]
    assert (facts.max_length, type(facts.max_length)) == (64, int)


def test_a_token_that_the_class_lacks_is_added(tmp_path: Path) -> None:
    word_piece(tmp_path)
    write_json(
        tmp_path / "special_tokens_map.json", {"bos_token": "<go>", "additional_special_tokens": ["<go>", "<a b>"]}
    )
    text, facts = convert_tokenizer(tmp_path, BERT)
    size = len((tmp_path / "vocab.txt").read_text("utf-8").splitlines())
    assert facts.special["bos"] == ("<go>", size)
    assert facts.size == size + 2
    assert Tokenizer.from_str(text).encode("x<a b>", add_special_tokens=False).ids[-1] == size + 1


def test_the_class_of_config_json(tmp_path: Path) -> None:
    word_piece(tmp_path)
    assert not convert_tokenizer(tmp_path, {"model_type": "bert", "tokenizer_class": "DistilBertTokenizer"})[1].type_ids
    assert convert_tokenizer(tmp_path, {"model_type": "bert"})[1].type_ids


def test_an_unknown_class_will_do_with_a_tokenizer_file(tmp_path: Path) -> None:
    write_folder("bert ready, boxed", tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "NoSuchTokenizer", "cls_token": "[CLS]"})
    assert convert_tokenizer(tmp_path, BERT)[1].special == {"pad": ("[PAD]", 0), "cls": ("[CLS]", 2)}
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UnsupportedError, match="no conversion for NoSuchTokenizer"):
        convert_tokenizer(tmp_path, BERT)


# Broken folders -------------------------------------------------------------------------------------------------------


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds no tokenizer: expected tokenizer\.json or vocab\.txt \(for a BertTok"
    ):
        convert_tokenizer(tmp_path, BERT)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"]
)
@pytest.mark.parametrize("content", [b"{", b"", b"[1", b"\xff\xfe", b"[" * 100_000, b"[]", b'"text"', b"null", b"{}x"])
def test_broken_json(name: str, content: bytes, tmp_path: Path) -> None:
    word_piece(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        convert_tokenizer(tmp_path, BERT)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": "yes"},
        {"strip_accents": 1},
        {"model_max_length": "512"},
        {"model_max_length": True},
        {"cls_token": 7},
        {"cls_token": ["[CLS]"]},
        {"additional_special_tokens": "[X]"},
        {"additional_special_tokens": [1]},
        {"truncation_side": "middle"},
        {"tokenizer_class": 3},
        {"added_tokens_decoder": []},
        {"added_tokens_decoder": {"x": {"content": "x"}}},
        {"added_tokens_decoder": {"-1": {"content": "x"}}},
        {"added_tokens_decoder": {"1": {}}},
        {"added_tokens_decoder": {"1": {"content": "x", "special": "no"}}},
        {"extra_special_tokens": 3},
        {"clean_up_tokenization_spaces": "no"},
        {"unk_token": "[NONE]"},
        {"unk_token": None},
        {"cls_token": None},
        {"model_input_names": 3},
    ],
)
def test_settings_of_a_wrong_kind(settings: dict[str, Any], tmp_path: Path) -> None:
    word_piece(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", settings)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        convert_tokenizer(tmp_path, BERT)


@pytest.mark.parametrize("count", [-1, 1e400, 1.5, "100"])
def test_extra_ids_of_a_wrong_kind(count: object, tmp_path: Path) -> None:
    config = write_folder("t5", tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer", "extra_ids": count})
    with pytest.raises(CheckpointError, match="extra_ids"):
        convert_tokenizer(tmp_path, config)


def test_splitting_special_tokens_is_refused(tmp_path: Path) -> None:
    word_piece(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"split_special_tokens": True})
    with pytest.raises(UnsupportedError, match="split_special_tokens"):
        convert_tokenizer(tmp_path, BERT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("[UNK]\na\nb\na\n", "'a'"),
        ("a\nb\n", r"\[UNK\]"),
        ("[UNK]\n[CLS]\n\ud800".encode("utf-8", "surrogatepass"), "UTF-8"),
    ],
)
def test_broken_vocab_txt(content: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=rf"vocab\.txt.*{message}"):
        convert_tokenizer(tmp_path, BERT)


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ('{"a": 0, "a": 1}', "'a'"),
        ('{"a": 0, "b": 0}', "same id"),
        ("{}", "empty"),
        ("[]", "empty"),
        ("3", "no JSON object"),
        ('["a"]', "no JSON object"),
        ('{"a": "x"}', "'x'"),
        ('{"a": -1}', "-1"),
        ('{"a": 1.5}', "1.5"),
        ('{"a": true}', "True"),
        ('{"a": 99999999999}', "99999999999"),
        ('{"a"', "not JSON"),
    ],
)
def test_broken_vocab_json(vocab: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(vocab, "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    with pytest.raises(CheckpointError, match=rf"vocab\.json.*{message}"):
        convert_tokenizer(tmp_path, {"model_type": "gpt2"})


@pytest.mark.parametrize("line", ["a", "a b c", "", "a zzz", "zz a"])
def test_broken_merges(line: str, tmp_path: Path) -> None:
    byte_level(tmp_path)
    with (tmp_path / "merges.txt").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(CheckpointError, match=r"merges\.txt"):
        convert_tokenizer(tmp_path, {"model_type": "gpt2"})


def test_missing_merges(tmp_path: Path) -> None:
    byte_level(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"merges\.txt"):
        convert_tokenizer(tmp_path, {"model_type": "gpt2"})


CUT = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(b"\x10\0\0\0\0\0").decode()}


def _spoiled() -> list[Any]:
    """Changes to a tokenizer.json that the tokenizers library refuses."""
    return [
        lambda d: d.pop("model"),
        lambda d: d["model"].update(type="Nothing"),
        lambda d: d["model"].update(vocab=[]),
        lambda d: d["model"].update(vocab={"a": "b"}),
        lambda d: d["normalizer"].update(type="Precompiled", precompiled_charsmap="!"),
        lambda d: d["normalizer"].update(
            type="Precompiled", precompiled_charsmap=base64.b64encode(b"\xff" * 9).decode()
        ),
        lambda d: d.update(normalizer={"type": "Sequence", "normalizers": [CUT]}),
        lambda d: d["post_processor"].update(special_tokens={}),
        lambda d: d["model"].update(type="BPE", merges=["a b"], continuing_subword_prefix="##"),
        lambda d: d.update(normalizer={"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
        lambda d: d.update(pre_tokenizer={"type": "ByteLevel"}),
        lambda d: d.update(version="2.0"),
        lambda d: d.update(post_processor=3),
        lambda d: d.update(added_tokens={}),
        lambda d: d.update(added_tokens=[{"id": 1}]),
        lambda d: d.update(added_tokens=[{"id": "x", "content": "x"}]),
        lambda d: d["model"]["vocab"].update({"\ud800": 5000}),
    ]


@pytest.mark.parametrize("change", _spoiled())
def test_a_tokenizer_file_that_the_library_refuses(change: Any, tmp_path: Path) -> None:
    write_folder("bert ready, boxed", tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    change(document)
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), "ascii")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        convert_tokenizer(tmp_path, BERT)


def test_half_a_surrogate_in_the_settings(tmp_path: Path) -> None:
    word_piece(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "\\ud800"}', "ascii")
    with pytest.raises(CheckpointError, match="surrogate"):
        convert_tokenizer(tmp_path, BERT)


# Normalization rules --------------------------------------------------------------------------------------------------


def charsmap_of(text: str, new: str) -> bytes:
    """Compiled rules with one rule: a unit of the trie in the block of its depth, its offset leading to the next."""
    units = [0] * 256 * (len(text.encode()) + 2)
    place, label = 0, 0
    for depth, byte in enumerate(text.encode(), start=1):
        units[place] = (256 * depth ^ place) << 10 | label
        place, label = 256 * depth ^ byte, byte
    units[place] = (256 * (depth + 1) ^ place) << 10 | 1 << 8 | label  # it ends here; its value is the first text
    units[256 * (depth + 1)] = 1 << 31
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    return len(trie).to_bytes(4, "little") + trie + new.encode() + b"\0"


def test_the_rule_about_a_text() -> None:
    rules = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model").charsmap
    assert rule_of(rules, "e\u0301") == "é"
    assert rule_of(rules, "ﬁ") == "fi"
    assert rule_of(rules, "\u200b") == ""
    assert [rule_of(rules, text) for text in ("e", "e\u0301\u0323", "x", "か\u3099")] == [None] * 4
    assert rule_of(charsmap_of("か\u3099", "が"), "か\u3099") == "が"


@pytest.mark.parametrize(("apart", "whole"), [("か\u3099", "が"), ("e\u0302\u0301", "ế"), ("\u09c7\u09be", "\u09cb")])
@pytest.mark.parametrize("algorithm", [Algorithm.UNIGRAM, Algorithm.BPE])
def test_slow_tokenizers_join_what_the_library_leaves_apart(
    apart: str, whole: str, algorithm: Algorithm, tmp_path: Path
) -> None:
    config = write_folder("m2m100", tmp_path)
    names = ["<unk>", "<s>", "</s>", "▁", "ঘ", whole, *sorted(set(apart))]
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.NORMAL] * (len(names) - 3)]
    pieces = tuple(
        Piece(name, -float(place), kind) for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    )
    model = SentencePieceModel(pieces, algorithm=algorithm, charsmap=charsmap_of(apart, whole))
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model_bytes(model))
    ids = {name: index for index, name in enumerate(["<s>", "<pad>", "</s>", "<unk>", *names[3:]])}
    write_json(tmp_path / "vocab.json", ids)
    tokenizer = Tokenizer.from_str(convert_tokenizer(tmp_path, config)[0])
    found = tokenizer.encode(f"ঘ{apart}ঘ", add_special_tokens=False).ids
    assert found == [ids[piece] for piece in ("▁", "ঘ", whole, "ঘ")]


# SentencePiece models -------------------------------------------------------------------------------------------------

TINY = SentencePieceModel(
    pieces=(Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("<s>", 0.0, Kind.CONTROL), Piece("▁a", -1.5), Piece("é", -2.25)),
    charsmap=b"\0\4\0\0" + bytes(1025),  # a trie of 256 empty units, and one empty text
    squeezes_spaces=False,
    byte_fallback=True,
)


def test_a_model_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(model_bytes(TINY))
    assert read_sentencepiece(tmp_path / "m") == TINY


def test_trained_models_are_read() -> None:
    unigram = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model")
    assert (len(unigram.pieces), unigram.algorithm, unigram.byte_fallback) == (1500, Algorithm.UNIGRAM, False)
    assert [piece.kind for piece in unigram.pieces[:4]] == [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, Kind.NORMAL]
    assert len(unigram.charsmap) > 1000
    bpe = read_sentencepiece(TOKENIZERS / "bpe" / "bpe.model")
    assert (len(bpe.pieces), bpe.algorithm, bpe.byte_fallback, bpe.charsmap) == (1700, Algorithm.BPE, True, b"")
    assert sum(piece.kind is Kind.BYTE for piece in bpe.pieces) == 256
    assert [piece.text for piece in bpe.pieces if piece.kind is Kind.USER_DEFINED] == ["<start_of_turn>"]


def test_unknown_fields_are_skipped_and_messages_merged(tmp_path: Path) -> None:
    extra = field(9, 7) + field(10, 1.5) + field(11, "x") + bytes([12 << 3 | 1, *range(8)])
    later = field(2, field(40, 0)) + field(3, field(1, "name"))
    (tmp_path / "m").write_bytes(extra + model_bytes(TINY) + extra + later)
    assert read_sentencepiece(tmp_path / "m") == TINY


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = model_bytes(TINY)
    for length in range(len(whole)):
        (tmp_path / "m").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is no SentencePiece model, or is damaged"):
            read_sentencepiece(tmp_path / "m")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no pieces"),
        (b"\xff" * 20, "longer than ten bytes"),
        (b"\x00\x01", "field number 0"),
        (bytes([1 << 3 | 3]), "wire type 3"),
        (field(1, 7), "field 1 should be text"),
        (field(1, field(1, b"\xff")), "utf-8"),
        (field(1, field(1, "a") + field(2, float("nan"))), "score nan"),
        (field(1, field(1, "a") + field(2, 3)), "score 3"),
        (field(1, field(1, "a") + field(3, 9)), "9 is not a valid Kind"),
        (field(1, field(1, "a") + field(3, "x")), "field 3 should be a number"),
        (field(1, field(1, "a")) * 2, "occurs twice"),
        (field(1, field(1, "a")), "no settings"),
        (field(1, field(1, "a")) + field(2, field(40, 3)) + field(3, field(3, 1)), "id 3"),
        (field(1, field(1, "a")) + field(2, field(40, (1 << 64) - 1)) + field(3, field(3, 1)), "id -1"),
        (field(1, field(1, "a")) + field(2, field(3, 7)) + field(3, field(3, 1)), "7 is not a valid Algorithm"),
        (bytes([1 << 3 | 2]) + b"\xff" * 9 + b"\x01", "bytes and 0 are left"),
    ],
)
def test_hostile_models(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_sentencepiece(tmp_path / "m")


def test_a_missing_model_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"spiece\.model cannot be read"):
        read_sentencepiece(tmp_path / "spiece.model")


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("xlm-roberta", "sentencepiece.bpe.model"),
        ("albert", "spiece.model"),
        ("llama", "tokenizer.model"),
        ("gemma", "tokenizer.model"),
        ("marian", "source.spm"),
    ],
)
@pytest.mark.parametrize(
    "model",
    [
        TINY,
        SentencePieceModel(**{**vars(TINY), "algorithm": Algorithm.WORD}),
        SentencePieceModel(**{**vars(TINY), "algorithm": Algorithm.BPE}),
        SentencePieceModel((Piece("<unk>", 0.0, Kind.UNKNOWN),), whitespace_as_suffix=True, dummy_prefix=False),
    ],
)
def test_models_that_do_not_fit_their_class(kind: str, file: str, model: SentencePieceModel, tmp_path: Path) -> None:
    """Whatever is in the model, the answer is a tokenizer or an error of ours."""
    config = write_folder(kind, tmp_path)
    (tmp_path / file).write_bytes(model_bytes(model))
    try:
        text, _ = convert_tokenizer(tmp_path, config)
    except EdgeNLPError as error:
        assert str(tmp_path) in str(error)  # noqa: PT017  # either outcome is right
    else:
        Tokenizer.from_str(text)


def test_a_word_model_is_refused(tmp_path: Path) -> None:
    config = write_folder("albert", tmp_path)
    values = {**vars(read_sentencepiece(tmp_path / "spiece.model")), "algorithm": Algorithm.WORD}
    (tmp_path / "spiece.model").write_bytes(model_bytes(SentencePieceModel(**values)))
    with pytest.raises(UnsupportedError, match="word algorithm"):
        convert_tokenizer(tmp_path, config)
