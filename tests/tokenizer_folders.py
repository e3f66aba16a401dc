"""Checkpoint folders that hold nothing but a tokenizer, one per way to give one. Shared with the recorder."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgenlp_export.tokenizer import convert_tokenizer
from edgenlp_export.tokenizer.codes import M2M100
from edgenlp_export.tokenizer.sentencepiece import Kind, Piece, SentencePieceModel, read_sentencepiece

DATA = Path(__file__).parent / "data"
TOKENIZERS = DATA / "tokenizers"

Text = str | tuple[str, str]
Json = dict[str, Any]

# Texts in which special tokens stand, stand almost, or stand at an odd place.
SPECIAL_TEXTS = [
    "",
    " ",
    "\n",
    "a",
    "Hello world",
    "  Two  spaces ,  tab\t, and a line\nend  ",
    "the <mask> of",
    "the [MASK] of",
    "the<mask>of",
    " [MASK][MASK] ",
    "<s>a</s>",
    "[CLS] a [SEP]",
    "[mask] <MASK> ＜mask＞ <mask>\u0338",
    "<unk> [UNK] <pad> [PAD]",
    "a <extra_id_0> b<extra_id_7>c",
    "<|endoftext|> x <bos> <eos> <0x41> <start_of_turn>user",
    ">>fra<< bonjour en_XX",
    "x >>fra<< y",
    " >>fra<< x",
    ">>fra<<x",
    ">>fra<<",
    ">>fra<<   ",
    ">>cmn_Hans<<\u4eba\u4eba</s>>>id<<  two",
    ">>nope<< x",
    ">>nope<<x",
    ">>no pe<",
    ">> a <<\u4eba b",
    ">>fra<< >>id<< c",
    "__en__ one__fr__ two __xx__ __zh__",
    "eng_Latn one fra_Latn two qqq_Latn",
    "<mask_1> a <mask_2><unk_2> b <unk_102>",
    "\u548c \u2603 x\u2603y \u03a9\u2248 \u548c\u2603 \u03a9\u2248\u2248",
    "Hi.\nIt's 'a'\nB? (c)\n\n D !! \n e\x1cf \u03a3\u0391\u03a3 \u0130 __start__x __newln__ a@@ b",
    "brandnew Brandnew BRANDNEW",
    "un<ent>split <ent> ",
    "``quoted'' 9, 12, 1,000 é e\u0301 É ﬁne ½ …",
    "▁▁x ▁ y",
    "don't we'll I'M",
]


def texts() -> list[Text]:
    """The corpus of the goldens: one text a line in many scripts, naughty strings, special tokens, and pairs."""
    sample = (DATA / "udhr_sample.txt").read_text("utf-8").split("\n")
    naughty = json.loads((DATA / "naughty.json").read_text("utf-8"))["strings"]
    single = [*SPECIAL_TEXTS, *naughty, *(line for line in sample if line)]
    pairs = list(zip(single[::7], single[3::7], strict=False))
    return [*single, *pairs]


def field(number: int, value: float | bytes | str) -> bytes:
    """One field of a protobuf message: int as varint, float as 32 bits, bytes and str with their length."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    low = bytearray()
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])


def model_bytes(model: SentencePieceModel) -> bytes:
    """A SentencePiece model file that says the same as `model`."""
    pieces = (field(1, field(1, p.text) + field(2, float(p.score)) + field(3, int(p.kind))) for p in model.pieces)
    trainer = field(3, int(model.algorithm)) + field(24, int(model.whitespace_as_suffix))
    trainer += field(35, int(model.byte_fallback)) + field(40, model.unk_id) + field(45, model.unk_piece)
    normalizer = field(2, model.charsmap) + field(3, int(model.dummy_prefix))
    normalizer += field(4, int(model.squeezes_spaces)) + field(5, int(model.escapes_spaces))
    return b"".join(pieces) + field(2, trainer) + field(3, normalizer)


def with_heads(model: SentencePieceModel, heads: Sequence[tuple[str, Kind]]) -> SentencePieceModel:
    """`model` with other pieces in place of its <unk>, <s> and </s>."""
    pieces = (*(Piece(text, 0.0, kind) for text, kind in heads), *model.pieces[3:])
    unk = next(index for index, (_, kind) in enumerate(heads) if kind is Kind.UNKNOWN)
    values = {**vars(model), "pieces": pieces, "unk_id": unk, "unk_piece": heads[unk][0]}
    return SentencePieceModel(**values)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def word_piece(folder: Path, names: Mapping[str, str] | None = None) -> None:
    """vocab.txt; `names` are other names of its special tokens."""
    lines = (TOKENIZERS / "wordpiece" / "vocab.txt").read_text("utf-8").split("\n")
    (folder / "vocab.txt").write_text("\n".join((names or {}).get(line, line) for line in lines), "utf-8")


def byte_level(folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((TOKENIZERS / "bytelevel" / name).read_bytes())


def unigram(folder: Path, name: str, heads: Sequence[tuple[str, Kind]] = ()) -> None:
    model = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model")
    (folder / name).write_bytes(model_bytes(with_heads(model, heads) if heads else model))


def byte_fallback(folder: Path, heads: Sequence[tuple[str, Kind]] = ()) -> None:
    model = read_sentencepiece(TOKENIZERS / "bpe" / "bpe.model")
    (folder / "tokenizer.model").write_bytes(model_bytes(with_heads(model, heads) if heads else model))


LACKING = ("▁a", "ra", "的")  # source pieces that the vocabulary lacks
CODES = (">>fra<<", ">>cmn_Hans<<", ">>id<<")


def marian(folder: Path, codes: Sequence[str] = (">>fra<<",), *, separate: bool = False) -> None:
    """Source and target sides that share a vocabulary, which lacks a few source pieces and holds a few foreign ones."""
    model = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model")
    half = [piece for index, piece in enumerate(model.pieces) if index % 2 or index < 3 or len(piece.text) == 1]
    source = SentencePieceModel(**{**vars(model), "pieces": tuple(half)})
    other = [piece for index, piece in enumerate(model.pieces) if index >= 700 or index < 3 or len(piece.text) == 1]
    target = SentencePieceModel(**{**vars(model), "pieces": tuple(other)})
    sides = [[piece.text for piece in side.pieces[3:] if piece.text not in LACKING] for side in (source, target)]
    (folder / "source.spm").write_bytes(model_bytes(source))
    (folder / "target.spm").write_bytes(model_bytes(target))
    if separate:  # <pad> has one id on both sides: transformers knows the source's alone
        shared = min(map(len, sides))
        for file, side in zip(("vocab.json", "target_vocab.json"), sides, strict=True):
            names = ["</s>", "<unk>", *side[:shared], *codes, "<pad>", *side[shared:]]
            write_json(folder / file, {name: index for index, name in enumerate(dict.fromkeys(names))})
        return
    names = ["</s>", "<unk>", *sides[0], *sides[1], "和", "Ω≈", *codes, "<pad>"]
    write_json(folder / "vocab.json", {name: index for index, name in enumerate(dict.fromkeys(names))})


def plain_bpe() -> SentencePieceModel:
    """A BPE model without bytes and without pieces of its user's, with the normalization of the other one."""
    model = read_sentencepiece(TOKENIZERS / "bpe" / "bpe.model")
    pieces = tuple(piece for piece in model.pieces if piece.kind not in (Kind.BYTE, Kind.USER_DEFINED))
    charsmap = read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model").charsmap
    values = {"pieces": pieces, "charsmap": charsmap, "byte_fallback": False, "squeezes_spaces": True}
    return SentencePieceModel(**{**vars(model), **values})


def m2m100(folder: Path, *, bpe: bool) -> None:
    """A model and a vocabulary that lacks a few of its pieces and holds a few that it lacks."""
    model = plain_bpe() if bpe else read_sentencepiece(TOKENIZERS / "unigram" / "unigram.model")
    (folder / "sentencepiece.bpe.model").write_bytes(model_bytes(model))
    names = ["<s>", "<pad>", "</s>", "<unk>", *(piece.text for piece in model.pieces[3:] if piece.text not in LACKING)]
    names += ["和", "Ω≈", "☃", "x☃y"]
    write_json(folder / "vocab.json", {name: index for index, name in enumerate(dict.fromkeys(names))})


def fairseq_bpe(folder: Path) -> None:
    (folder / XLMR_FILE).write_bytes(model_bytes(plain_bpe()))


def words(folder: Path) -> None:
    """The pieces of the small Blenderbot: "th@@" for one that goes on."""
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_bytes((TOKENIZERS / "words" / name).read_bytes())


def ready(folder: Path, make: Callable[[Path], None], tokenizer_class: str, edit: Callable[[Json], None]) -> None:
    """A tokenizer.json alone: the conversion of what `make` writes, changed by `edit`."""
    make(folder)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": tokenizer_class})
    document = json.loads(convert_tokenizer(folder, {})[0])
    edit(document)
    for path in folder.iterdir():
        path.unlink()
    write_json(folder / "tokenizer.json", document)


def boxed(document: Json) -> None:
    """Truncation and padding as sentence-transformers leaves them."""
    document["truncation"] = {"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    document["padding"] = {
        "strategy": {"Fixed": 16},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }


def forgets(document: Json) -> None:
    """No added tokens at all."""
    document["added_tokens"] = []


def plain_mask(document: Json) -> None:
    """A mask token that does not eat the space before it, and is looked for in normalized text."""
    for token in document["added_tokens"]:
        if token["content"] == "<mask>":
            token.update(lstrip=False, normalized=True)


def opposite_case(document: Json) -> None:
    document["normalizer"].update(lowercase=False, strip_accents=False, handle_chinese_chars=False)


def prefixed(document: Json) -> None:
    document["pre_tokenizer"]["add_prefix_space"] = True


MPNET = {"[CLS]": "<s>", "[PAD]": "<pad>", "[SEP]": "</s>", "[MASK]": "<mask>"}
ALBERT = [
    ("<pad>", Kind.CONTROL),
    ("<unk>", Kind.UNKNOWN),
    ("[CLS]", Kind.CONTROL),
    ("[SEP]", Kind.CONTROL),
    ("[MASK]", Kind.USER_DEFINED),
]
DEBERTA = [("[PAD]", Kind.CONTROL), ("[CLS]", Kind.CONTROL), ("[SEP]", Kind.CONTROL), ("[UNK]", Kind.UNKNOWN)]
T5 = [("<pad>", Kind.CONTROL), ("</s>", Kind.CONTROL), ("<unk>", Kind.UNKNOWN)]
GEMMA = [("<pad>", Kind.CONTROL), ("<eos>", Kind.CONTROL), ("<bos>", Kind.CONTROL), ("<unk>", Kind.UNKNOWN)]

M2M100_TOKENS = [f"__{code}__" for code in M2M100["m2m100"]]
XLMR_FILE = "sentencepiece.bpe.model"
ENTITY = {"content": "<ent>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": False}
Files = Mapping[str, Mapping[str, object]]  # JSON files beside the vocabulary
Case = tuple[Callable[[Path], None], Files]


def _config(**values: object) -> Files:
    return {"tokenizer_config.json": values}


def _bert(**values: object) -> Case:
    return word_piece, _config(tokenizer_class="BertTokenizer", **values)


def _ready(
    make: Callable[[Path], None], name: str, edit: Callable[[Json], None], *, opened_as: str = "", **values: object
) -> Case:
    return lambda folder: ready(folder, make, name, edit), _config(tokenizer_class=opened_as or name, **values)


def _xlmr(folder: Path) -> None:
    unigram(folder, XLMR_FILE)


def _spiece(heads: Sequence[tuple[str, Kind]] = ()) -> Callable[[Path], None]:
    return lambda folder: unigram(folder, "spiece.model", heads)


CASES: Mapping[str, Case] = {
    # WordPiece
    "bert": _bert(model_max_length=512),
    "bert cased": _bert(do_lower_case=False, model_max_length=10**30),
    "bert accents kept": _bert(strip_accents=False, clean_up_tokenization_spaces=False),
    "bert accents cut": _bert(strip_accents=True, do_lower_case=False),
    "bert chinese whole": _bert(tokenize_chinese_chars=False, truncation_side="left"),
    "bert without basic tokenizer": _bert(do_basic_tokenize=False),
    "bert added by decoder": _bert(
        added_tokens_decoder={
            "1800": {**ENTITY, "special": False},
            "1801": {**ENTITY, "content": "Brandnew", "normalized": True},
        },
        additional_special_tokens=["<start_of_turn>"],
    ),
    "bert added by old files": (
        word_piece,
        {
            "config.json": {"model_type": "bert"},
            "added_tokens.json": {"brandnew": 1800, "<ent>": 1801},
            "special_tokens_map.json": {
                "cls_token": "[CLS]",
                "mask_token": {**ENTITY, "content": "[MASK]", "lstrip": True},
                "additional_special_tokens": ["<ent>"],
            },
        },
    ),
    "distilbert": (word_piece, {"config.json": {"model_type": "distilbert"}}),
    "electra": (word_piece, {"config.json": {"model_type": "electra"}, **_config(model_input_names=["input_ids"])}),
    "mpnet": (lambda folder: word_piece(folder, MPNET), _config(tokenizer_class="MPNetTokenizer")),
    "mpnet without basic tokenizer": (
        lambda folder: word_piece(folder, MPNET),
        _config(tokenizer_class="MPNetTokenizer", do_basic_tokenize=False),
    ),
    "bert ready, boxed": _ready(word_piece, "BertTokenizer", boxed),
    "bert ready, other case": _ready(word_piece, "BertTokenizer", opposite_case, do_lower_case=True),
    "bert ready, cased by config": _ready(word_piece, "BertTokenizerFast", lambda document: None, do_lower_case=False),
    "bert ready, forgetful": _ready(word_piece, "BertTokenizer", forgets, cls_token="[CLS]"),
    "mpnet ready": _ready(
        lambda folder: word_piece(folder, MPNET), "MPNetTokenizer", plain_mask, tokenize_chinese_chars=False
    ),
    "generic ready": _ready(word_piece, "BertTokenizer", boxed, opened_as="PreTrainedTokenizerFast", sep_token="[SEP]"),
    # byte-level BPE
    "roberta": (byte_level, _config(tokenizer_class="RobertaTokenizer", model_max_length=512)),
    "roberta prefixed": (byte_level, {"config.json": {"model_type": "roberta"}, **_config(add_prefix_space=True)}),
    "roberta wide offsets": (byte_level, _config(tokenizer_class="RobertaTokenizerFast", trim_offsets=False)),
    "bart": (byte_level, _config(tokenizer_class="BartTokenizer")),
    "gpt2": (byte_level, _config(tokenizer_class="GPT2Tokenizer", pad_token="<pad>")),
    "gpt2 with bos": (byte_level, _config(tokenizer_class="GPT2Tokenizer", add_bos_token=True, add_prefix_space=True)),
    "roberta ready": _ready(byte_level, "RobertaTokenizer", plain_mask),
    "roberta ready, prefixed": _ready(
        byte_level, "RobertaTokenizer", forgets, add_prefix_space=True, trim_offsets=False
    ),
    "longformer ready": _ready(byte_level, "LongformerTokenizer", prefixed),
    "gpt2 ready": _ready(byte_level, "GPT2Tokenizer", prefixed),
    "neox ready": _ready(byte_level, "GPT2Tokenizer", prefixed, opened_as="GPTNeoXTokenizer", add_bos_token=True),
    "qwen2 ready": _ready(byte_level, "GPT2Tokenizer", forgets, opened_as="Qwen2Tokenizer"),
    "generic byte-level ready": _ready(byte_level, "GPT2Tokenizer", prefixed, opened_as="PreTrainedTokenizerFast"),
    # SentencePiece unigram
    "xlm-roberta": (_xlmr, _config(tokenizer_class="XLMRobertaTokenizer")),
    "camembert": (_xlmr, {"config.json": {"model_type": "camembert"}}),
    "albert": (_spiece(ALBERT), {"config.json": {"model_type": "albert"}}),
    "albert cased": (
        _spiece(ALBERT),
        _config(tokenizer_class="AlbertTokenizer", do_lower_case=False, keep_accents=True),
    ),
    "albert of another model": (_spiece(), _config(tokenizer_class="AlbertTokenizer")),
    "t5": (_spiece(T5), _config(tokenizer_class="T5Tokenizer")),
    "t5 new": (_spiece(T5), _config(tokenizer_class="T5Tokenizer", legacy=False, extra_ids=8)),
    "t5 without prefix": (_spiece(T5), _config(tokenizer_class="T5Tokenizer", add_prefix_space=False)),
    "mt5 of another model": (_spiece(), {"config.json": {"model_type": "mt5"}}),
    "deberta-v2": (lambda folder: unigram(folder, "spm.model", DEBERTA), {"config.json": {"model_type": "deberta-v2"}}),
    "deberta-v2 split": (
        lambda folder: unigram(folder, "spm.model", DEBERTA),
        _config(tokenizer_class="DebertaV2Tokenizer", split_by_punct=True, do_lower_case=True),
    ),
    "mbart": (_xlmr, _config(tokenizer_class="MBartTokenizer")),
    "mbart50": (_xlmr, _config(tokenizer_class="MBart50Tokenizer", src_lang="fr_XX")),
    "xlm-roberta ready": _ready(_xlmr, "XLMRobertaTokenizer", plain_mask),
    "camembert ready": _ready(_xlmr, "CamembertTokenizer", forgets),
    "albert ready": _ready(_spiece(ALBERT), "AlbertTokenizer", boxed),
    "marian": (marian, _config(tokenizer_class="MarianTokenizer", source_lang="en", target_lang="fr")),
    "marian of many targets": (partial(marian, codes=CODES), {"config.json": {"model_type": "marian"}}),
    "marian of separate vocabularies": (
        partial(marian, codes=CODES, separate=True),
        _config(tokenizer_class="MarianTokenizer", separate_vocabs=True, clean_up_tokenization_spaces=False),
    ),
    "m2m100": (
        partial(m2m100, bpe=False),
        {"config.json": {"model_type": "m2m_100"}, **_config(additional_special_tokens=M2M100_TOKENS, src_lang="fr")},
    ),
    "m2m100 bpe": (
        partial(m2m100, bpe=True),
        _config(
            tokenizer_class="M2M100Tokenizer",
            language_codes="wmt21",
            num_madeup_words=4,
            additional_special_tokens=[f"__{code}__" for code in M2M100["wmt21"]],
            model_max_length=1024,
        ),
    ),
    "m2m100 unlisted": (partial(m2m100, bpe=False), _config(tokenizer_class="M2M100Tokenizer")),
    "m2m100 bpe unlisted": (partial(m2m100, bpe=True), _config(tokenizer_class="M2M100Tokenizer", tgt_lang="zh")),
    "nllb": (_xlmr, _config(tokenizer_class="NllbTokenizer", tgt_lang="fra_Latn")),
    "nllb legacy": (
        _xlmr,
        _config(tokenizer_class="NllbTokenizer", legacy_behaviour=True, src_lang="deu_Latn", model_max_length=1024),
    ),
    "nllb bpe": (
        fairseq_bpe,
        _config(tokenizer_class="NllbTokenizerFast", additional_special_tokens=["eng_Latn", "fra_Latn", "qqq_Latn"]),
    ),
    "nllb ready": _ready(_xlmr, "NllbTokenizer", plain_mask, src_lang="rus_Cyrl"),
    "nllb ready, legacy": _ready(fairseq_bpe, "NllbTokenizer", boxed, legacy_behaviour=True),
    "mbart ready": _ready(_xlmr, "MBartTokenizer", plain_mask, src_lang="ro_RO"),
    "mbart50 ready": _ready(_xlmr, "MBart50Tokenizer", forgets),
    "pegasus": (_spiece(T5), {"config.json": {"model_type": "pegasus"}}),
    "pegasus filled up": (
        _spiece(T5),
        _config(tokenizer_class="PegasusTokenizer", additional_special_tokens=["<mask_1>", "<ent>", "<unk_2>"]),
    ),
    "pegasus of another offset": (
        _spiece(T5),
        _config(tokenizer_class="PegasusTokenizer", offset=9, pad_token="[PAD]", model_max_length=64),
    ),
    "pegasus ready": _ready(_spiece(T5), "PegasusTokenizer", boxed),
    "blenderbot": (byte_level, {"config.json": {"model_type": "blenderbot"}, **_config(add_prefix_space=True)}),
    "blenderbot bare": (byte_level, _config(tokenizer_class="BlenderbotTokenizer")),
    "blenderbot ready": _ready(byte_level, "BlenderbotTokenizer", plain_mask, add_prefix_space=True),
    "blenderbot small": (words, {"config.json": {"model_type": "blenderbot-small"}}),
    "umt5": (_spiece(T5), {"config.json": {"model_type": "umt5"}}),
    "two models": (
        word_piece,
        {
            "config.json": {
                "model_type": "encoder-decoder",
                "is_encoder_decoder": True,
                "encoder": {"model_type": "bert"},
                "decoder": {"model_type": "gpt2"},
            }
        },
    ),
    # SentencePiece BPE with bytes
    "llama": (byte_fallback, _config(tokenizer_class="LlamaTokenizer")),
    "llama new": (byte_fallback, _config(tokenizer_class="LlamaTokenizer", legacy=False, add_eos_token=True)),
    "llama without prefix": (
        byte_fallback,
        _config(tokenizer_class="LlamaTokenizer", legacy=False, add_prefix_space=False, add_bos_token=False),
    ),
    "llama padded": (byte_fallback, {"config.json": {"model_type": "llama"}, **_config(pad_token="[PAD]")}),
    "llama ready": _ready(byte_fallback, "LlamaTokenizer", boxed, add_eos_token=True),
    "gemma": (lambda folder: byte_fallback(folder, GEMMA), _config(tokenizer_class="GemmaTokenizer")),
}

SLOW = frozenset(name for name in CASES if name.startswith(("marian", "m2m100", "blenderbot small")))
"""Cases for which transformers has no fast tokenizer: it says nothing of offsets and type ids."""

_SEQ2SEQ = ("bart", "blenderbot", "m2m100", "marian", "mbart", "nllb", "pegasus", "t5", "two models", "umt5")
WRITERS = frozenset(name for name in CASES if name.startswith(_SEQ2SEQ))
"""Cases whose tokenizers write too: what they decode, and how they read what is to be written, is recorded."""


def write_folder(name: str, folder: Path) -> Json:
    """Write the files of case `name` into the empty `folder`; gives its config.json."""
    make, files = CASES[name]
    make(folder)
    for file, value in files.items():
        write_json(folder / file, value)
    config = files.get("config.json", {"model_type": "bert"})
    write_json(folder / "config.json", config)
    return dict(config)
