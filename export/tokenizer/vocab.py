"""`tokenizer.json` from plain vocabularies, WordPiece and byte-level BPE. Knows no SentencePiece.

What the parts are follows `BertConverter`, `MPNetConverter`, `GPT2Converter` and `RobertaConverter` of transformers
4.57 (convert_slow_tokenizer.py) and the constructors of the fast tokenizers they feed.
"""

from pathlib import Path

from edgenlp.errors import CheckpointError

from .draft import Document, Draft, Roles, document
from .files import Settings, read_merges, read_vocab_json, read_vocab_txt

__all__ = [
    "bert_template",
    "blenderbot_template",
    "build_byte_level",
    "build_word_piece",
    "byte_level_template",
    "mpnet_template",
    "roberta_template",
    "update_bert",
    "update_mpnet",
    "update_prefix_space",
    "update_roberta",
]


def build_word_piece(path: Path, settings: Settings, roles: Roles) -> Document:
    """A WordPiece tokenizer from a `vocab.txt`.

    Raises:
        CheckpointError: The vocabulary is broken, or lacks the unknown token.
    """
    vocabulary = read_vocab_txt(path)
    unk = roles["unk"]
    content = unk if unk is None or isinstance(unk, str) else unk.content
    if content not in vocabulary:
        raise CheckpointError(
            f"{path} does not hold the unknown token {content!r}; name the one that it holds as unk_token in"
            " tokenizer_config.json"
        )
    # Without the basic tokenizer transformers starts from three times "no"; what `update_bert` changes comes after.
    basic = settings.flag("do_basic_tokenize", True)
    return document(
        {
            "type": "WordPiece",
            "unk_token": content,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": basic and settings.flag("tokenize_chinese_chars", True),
            "strip_accents": _strip_accents(settings),
            "lowercase": settings.flag("do_lower_case", True),
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )


def build_byte_level(path: Path, settings: Settings, roles: Roles) -> Document:
    """A byte-level BPE tokenizer from a `vocab.json` and the `merges.txt` beside it.

    Raises:
        CheckpointError: One of the files is broken.
    """
    vocabulary = read_vocab_json(path)
    merges = read_merges(path.with_name("merges.txt"))
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise CheckpointError(
                    f"{path.with_name('merges.txt')} merges {left!r} and {right!r}, but vocab.json lacks {token!r};"
                    " the two files do not belong together: take both from the same checkpoint"
                )
    prefix_space = settings.flag("add_prefix_space", False)
    return document(
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
        normalizer=None,
        pre_tokenizer=_byte_level(add_prefix_space=prefix_space),
        decoder=_byte_level(),
    )


def _byte_level(*, add_prefix_space: bool = True, trim_offsets: bool = True) -> Document:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets, "use_regex": True}


def _strip_accents(settings: Settings) -> bool | None:
    return settings.flag("strip_accents", False) if settings.values.get("strip_accents") is not None else None


def bert_template(draft: Draft) -> Document:
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP] with type id 1 from B on."""
    cls, sep = draft.required("cls"), draft.required("sep")
    return draft.template([cls, "$A", sep], [cls, "$A", sep, "$B:1", f"{sep}:1"])


def mpnet_template(draft: Draft) -> Document:
    """<s> A </s>, and <s> A </s> </s> B </s> with type id 1 from B on."""
    cls, sep = draft.required("cls"), draft.required("sep")
    return draft.template([cls, "$A", sep], [cls, "$A", sep, sep, "$B:1", f"{sep}:1"])


def roberta_template(draft: Draft) -> Document:
    """<s> A </s>, and <s> A </s> </s> B </s>; offsets without the space before a word."""
    sep, cls = draft.required("sep"), draft.required("cls")
    return {
        "type": "RobertaProcessing",
        "sep": [sep, draft.id(sep)],
        "cls": [cls, draft.id(cls)],
        "trim_offsets": True,
        "add_prefix_space": draft.settings.flag("add_prefix_space", False),
    }


def blenderbot_template(draft: Draft) -> Document:
    """A </s>, and nothing around or between the texts of a pair."""
    eos = draft.required("eos")
    return draft.template(["$A", eos], ["$A", "$B:1"])


def byte_level_template(draft: Draft) -> Document:
    """Nothing around a text, or the beginning-of-sequence token where `add_bos_token` asks for it."""
    if draft.settings.flag("add_bos_token", False):
        bos = draft.required("bos")
        return draft.template([bos, "$A"], [bos, "$A", "$B:1"])
    return _byte_level(trim_offsets=False)


def update_bert(draft: Draft) -> None:
    """Let `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` override the normalizer (`BertTokenizerFast`)."""
    _update_normalizer(draft, chinese=True)


def update_mpnet(draft: Draft) -> None:
    """As `update_bert`, save that the `tokenize_chinese_chars` of a `tokenizer.json` stands (`MPNetTokenizerFast`)."""
    _update_normalizer(draft, chinese=False)


def _update_normalizer(draft: Draft, *, chinese: bool) -> None:
    normalizer = draft.document["normalizer"]
    if normalizer is None or normalizer["type"] != "BertNormalizer":
        return
    normalizer["lowercase"] = draft.settings.flag("do_lower_case", True)
    normalizer["strip_accents"] = _strip_accents(draft.settings)
    if chinese:
        normalizer["handle_chinese_chars"] = draft.settings.flag("tokenize_chinese_chars", True)


def update_roberta(draft: Draft) -> None:
    """Let `add_prefix_space` and `trim_offsets` override the post-processor (`RobertaTokenizerFast`)."""
    processor = draft.document["post_processor"]
    for key, default in (("add_prefix_space", False), ("trim_offsets", True)):
        if processor is not None and key in processor:
            processor[key] = draft.settings.flag(key, default)


def update_prefix_space(draft: Draft, default: bool | None) -> None:
    """Let `add_prefix_space` override a byte-level pre-tokenizer (the end of `PreTrainedTokenizerFast.__init__`).

    Args:
        draft: The tokenizer.
        default: What the tokenizer's class takes where the setting is absent; None where it then changes nothing.
    """
    pre_tokenizer = draft.document["pre_tokenizer"]
    wanted = draft.settings.values.get("add_prefix_space", default)
    if pre_tokenizer is not None and pre_tokenizer["type"] == "ByteLevel" and isinstance(wanted, bool):
        pre_tokenizer["add_prefix_space"] = wanted
