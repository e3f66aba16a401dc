"""Pieces of text from ids: together they are the whole, none ends within a character, and the work stays linear."""

import queue
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from edgenlp.bundle import Vocabulary
from edgenlp.clusters import joins
from edgenlp.errors import InputError
from edgenlp.streaming import TextIteratorStreamer, TextPieces, TextStreamer
from edgenlp.tokens import Tokens

TEXTS = (
    "Hello there . I do n ' t know  ' ve n't 've  ' ! it 's  ' . x ' ve n n n , ?",
    "family 👨‍👩‍👧‍👦 flags 🇩🇪🇫🇷🇯🇵 tone 👍🏽 heart ❤️ key 1️⃣ e\u0301 Vie\u0323\u0302t",
    "हिन्दी क्षि ไทยที่ 한국어 \u1112\u1161\u11ab\u1100\u1173\u11af \uac00\u11a8 日本語が ጤና العَرَبِيَّة",
    "def f(x):\r\n    return x  # ok\n\n\t",
)
# one user-perceived character each
CLUSTERS = (
    "👨‍👩‍👧‍👦",
    "🇩🇪",
    "👍🏽",
    "❤️",
    "1️⃣",
    "e\u0301",
    "क्षि",
    "ที่",
    "\u1112\u1161\u11ab",
    "\uac00\u11a8",
    "\r\n",
    "🏴\U000e0067\U000e0062\U000e007f",
)


def byte_level() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*letters, "Ġt", "he", "Ġthe", "ðŁ", "Ġ.", "n't"])}
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("ð", "Ł"), ("Ġ", ".")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("wörd here")])
    return tokenizer


def byte_fallback() -> Tokenizer:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghilmnoprstuvwxy.,!?'", "▁t", "한", "日"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "t")], byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return tokenizer


def metaspace() -> Tokenizer:
    letters = sorted(set("".join(TEXTS)) - set(" "))
    pieces = [
        ("<unk>", 0.0),
        ("▁", -2.0),
        *((letter, -3.0) for letter in letters),
        ("▁the", -4.0),
        ("▁n", -4.0),
        ("▁.", -4.0),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return tokenizer


def word_piece() -> Tokenizer:
    letters = sorted(set("".join(TEXTS)) - set(" "))
    pieces = ["[UNK]", *letters, *("##" + letter for letter in letters), "the", "##re", "n't"]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken("[SEP]", special=True)])
    return tokenizer


def no_decoder() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"the": 0, "cat": 1, ".": 2, "<unk>": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return tokenizer


def word_end() -> Tokenizer:
    pieces = ["<unk>", *"abcdefgh", *(letter + "</w>" for letter in "abcdefgh"), ".</w>", "n't</w>"]
    tokenizer = Tokenizer(
        models.BPE({piece: number for number, piece in enumerate(pieces)}, [], end_of_word_suffix="</w>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return tokenizer


KINDS = (byte_level, byte_fallback, metaspace, word_piece, no_decoder, word_end)


def opened(tokenizer: Tokenizer, folder: Path, *, clean_up: bool = False) -> Tokens:
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    size = tokenizer.get_vocab_size()
    return Tokens(file, Vocabulary(file.name, size, None, {}, False, "right", clean_up, False))


def drained(pieces: TextPieces, ids: Sequence[int], sizes: Iterable[int]) -> list[str]:
    found, place = [], 0
    for size in sizes:
        if place >= len(ids):
            break
        found.append(pieces.push(ids[place : place + size]))
        place += size
    return [*found, pieces.finish()]


def samples(tokens: Tokens, draws: random.Random) -> Iterable[list[int]]:
    """Ids of texts, ids of texts with others between, and any ids at all."""
    written = [tokens.encode([text], special_tokens=False)[0][0].ids for text in TEXTS]
    yield from written
    for _ in range(30):
        ids = [token for text in draws.sample(written, 2) for token in text]
        for _ in range(6):
            ids.insert(draws.randrange(len(ids) + 1), draws.randrange(tokens.facts.size))
        yield ids
        yield [draws.randrange(tokens.facts.size) for _ in range(50)]


@pytest.mark.parametrize("clean_up", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_whole(kind: Callable[[], Tokenizer], clean_up: bool, tmp_path: Path) -> None:
    tokens = opened(kind(), tmp_path, clean_up=clean_up)
    draws = random.Random(5)
    for ids in samples(tokens, draws):
        for cut in (0, 1, 5):
            for skip in (True, False):
                expected = tokens.decode(ids, skip_special_tokens=skip)
                expected = expected[len(tokens.decode(ids[:cut], skip_special_tokens=skip)) :]
                pieces = TextPieces(tokens, ids[:cut], skip_special_tokens=skip)
                sizes = [draws.choice((1, 1, 1, 2, 7)) for _ in ids]
                assert "".join(drained(pieces, ids[cut:], sizes)) == expected


@pytest.mark.parametrize("kind", [byte_level, byte_fallback, metaspace])
def test_no_piece_ends_within_a_character(kind: Callable[[], Tokenizer], tmp_path: Path) -> None:
    tokens = opened(kind(), tmp_path)
    for text in TEXTS[1:]:
        ids = tokens.encode([text], special_tokens=False)[0][0].ids
        whole = ""
        for piece in drained(TextPieces(tokens), ids, [1] * len(ids)):
            assert "\ufffd" not in piece
            assert not (whole and piece and joins(whole, piece[0])), (whole[-4:], piece)
            whole += piece


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_clusters(cluster: str, tmp_path: Path) -> None:
    assert all(joins(cluster[:place], cluster[place]) for place in range(1, len(cluster)))
    assert not joins("x" + cluster, "a")
    assert not joins("x", cluster[0]) or cluster[0] in "\r"
    tokens = opened(byte_level(), tmp_path)
    ids = tokens.encode(["x" + cluster + "y."], special_tokens=False)[0][0].ids
    found = [piece for piece in drained(TextPieces(tokens), ids, [1] * len(ids)) if piece]
    assert found == ["x", cluster, "y."]


def test_two_flags_are_two_characters() -> None:
    assert joins("🇩", "🇪")
    assert not joins("🇩🇪", "🇫")
    assert joins("🇩🇪🇫", "🇷")


def test_sentences_are_shown_at_once(tmp_path: Path) -> None:
    tokens = opened(byte_level(), tmp_path)
    pieces = TextPieces(tokens)
    assert pieces.push(tokens.encode(["the end."])[0][0].ids) == "the end."
    assert pieces.push(tokens.encode([" the"])[0][0].ids) == " th"
    assert pieces.push(tokens.encode([" the\n"])[0][0].ids) == "e the\n"


def test_the_work_is_linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = opened(byte_fallback(), tmp_path)
    ids = tokens.encode(["the cat sat on the mat . " * 80])[0][0].ids
    decoded: list[int] = []
    decode = tokens.decode

    def counted(ids: Sequence[int], **options: bool) -> str:
        decoded.append(len(ids))
        return decode(ids, **options)

    monkeypatch.setattr(tokens, "decode", counted)
    pieces = TextPieces(tokens)
    assert "".join(drained(pieces, ids, [1] * len(ids))) == decode(ids)
    assert max(decoded) <= 8
    assert sum(decoded) <= 20 * len(ids)


def test_stop_strings(tmp_path: Path) -> None:
    tokens = opened(byte_level(), tmp_path)
    text = "the cat\n\nthe ENDS here END and more"
    ids = tokens.encode([text])[0][0].ids
    for stop, expected in (
        (["END "], "the cat\n\nthe ENDS here "),
        (["\n\nthe ENDX", "here END"], "the cat\n\nthe ENDS "),
        (["nowhere"], text),
        (["ENDS", "the ENDS"], "the cat\n\n"),
        ([""], text),
    ):
        for size in (1, 3, 100):
            pieces = TextPieces(tokens, stop=stop)
            found = drained(pieces, ids, [size] * len(ids))
            assert "".join(found) == expected
            assert (pieces.stopped is not None) == (expected != text)
            assert pieces.push(ids) == "" or pieces.stopped is None


def test_what_may_become_a_stop_string_waits(tmp_path: Path) -> None:
    tokens = opened(byte_level(), tmp_path)
    pieces = TextPieces(tokens, stop=["###"])
    assert pieces.push(tokens.encode(["the. ##"])[0][0].ids) == "the. "
    assert pieces.push(tokens.encode(["!"])[0][0].ids) == "##!"


def test_streamers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = opened(byte_level(), tmp_path)
    ids = np.array(tokens.encode(["the flags 🇩🇪 ."])[0][0].ids)
    streamer = TextStreamer(tokens)
    streamer.put(ids[None, :4])
    for token in ids[4:]:
        streamer.put(np.array([token]))
    streamer.end()
    assert capsys.readouterr().out == "the flags 🇩🇪 .\n"
    with pytest.raises(InputError, match="one text at a time"):
        streamer.put(np.zeros((2, 3), int))
    waiting = TextIteratorStreamer(tokens, skip_prompt=True, timeout=0.01)
    waiting.put(ids[None, :4])
    waiting.put(ids[4:])
    waiting.end()
    assert "".join(waiting) == tokens.decode(ids.tolist())[len(tokens.decode(ids[:4].tolist())) :]
    with pytest.raises(queue.Empty):
        next(waiting)
