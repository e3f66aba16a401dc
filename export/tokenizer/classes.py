"""The tokenizer classes of transformers 4.57 that can be converted, one row each. Knows no file's contents.

A row says what a class adds to the files: default special tokens, the flags it gives them, and what it changes at every
load. Its source is the class's constructor (models/*/tokenization_*.py and *_fast.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import additional as more
from . import blenderbot_small, codes, m2m100, marian, pieces, vocab
from .draft import Document, Draft, Roles
from .files import Settings
from .tokens import Special

__all__ = ["CLASSES", "MODEL_TYPES", "TokenizerClass"]

Flags = Mapping[str, Mapping[str, bool]]  # role, or "*" for all → flags of the token made of a plain string


@dataclass(frozen=True)
class TokenizerClass:
    """One class.

    Attributes:
        file: The vocabulary file that `build` reads where there is no `tokenizer.json`.
        build: Makes a `tokenizer.json` of it; None where the class has no other file than `tokenizer.json`.
        template: Makes the post-processor of what `build` made, once all ids are known.
        roles: Default special tokens.
        flags: How the fast class marks special tokens that are plain strings; a role that is not named stays a string.
        slow_flags: The same for the slow class, which `build` stands for.
        additional: The additional special tokens, of the settings.
        update: What the class changes at every load.
        prefix_space: `add_prefix_space` where the settings do not say; None where that changes nothing.
        rebuilds: Whether `add_prefix_space` in the settings makes the class ignore `tokenizer.json`.
        renames: Roles whose token, where it is not the default one, makes the class ignore `tokenizer.json`; a class
            that has such ignores `added_tokens_decoder` too.
        slow_only: Whether there is no fast class: `tokenizer.json` is then only a last resort.
        type_ids: Whether the model is handed token type ids.
        clean_up: Whether the slow class cleans up decoded text by default; the fast ones never do.
        max_length: Default of `model_max_length`.
        size: How many ids there are, where the vocabulary that was built holds more.
    """

    file: str | None = None
    build: Callable[[Path, Settings, Roles], Document] | None = None
    template: Callable[[Draft], Document] | None = None
    roles: Mapping[str, str | None] = field(default_factory=dict)
    flags: Flags = field(default_factory=dict)
    slow_flags: Flags = field(default_factory=dict)
    additional: Callable[[Settings], list[Special]] = lambda settings: (
        settings.specials("additional_special_tokens") or []
    )
    update: Callable[[Draft], None] | None = None
    prefix_space: bool | None = False
    rebuilds: bool = False
    renames: tuple[str, ...] = ()
    slow_only: bool = False
    type_ids: bool = True
    clean_up: bool = False
    max_length: int | None = None
    size: Callable[[Draft], int] | None = None


def _update_language(draft: Draft, *, default: str, prefix: bool) -> None:
    """Put the source language's code around each text: before it (mBART-50, NLLB) or behind </s> (mBART)."""
    code, eos = draft.settings.text("src_lang", default), draft.required("eos")
    before, behind = ([code], [eos]) if prefix else ([], [eos, code])
    draft.document["post_processor"] = draft.template([*before, "$A", *behind], [*before, "$A", "$B", *behind])


def _update_nllb(draft: Draft) -> None:
    _update_language(draft, default="eng_Latn", prefix=not draft.settings.flag("legacy_behaviour", False))


_BERT_ROLES = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_FAIRSEQ_ROLES = {
    "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>",
}  # fmt: skip
_PLAIN: dict[str, bool] = {}  # an added token with the library's own flags
_MASK = {"lstrip": True}
_MASK_RAW = {"lstrip": True, "normalized": False}
_SPECIAL = {"special": True}

_BERT = TokenizerClass(
    "vocab.txt", vocab.build_word_piece, vocab.bert_template, _BERT_ROLES, update=vocab.update_bert, clean_up=True
)
_DISTILBERT = TokenizerClass(
    "vocab.txt", vocab.build_word_piece, vocab.bert_template, _BERT_ROLES,
    update=vocab.update_bert, clean_up=True, type_ids=False,
)  # fmt: skip
_ROBERTA = TokenizerClass(
    "vocab.json", vocab.build_byte_level, vocab.roberta_template, _FAIRSEQ_ROLES,
    flags={"mask": _MASK_RAW}, slow_flags={"*": _PLAIN, "mask": _MASK_RAW}, update=vocab.update_roberta, type_ids=False,
)  # fmt: skip
_BART = TokenizerClass(
    "vocab.json", vocab.build_byte_level, vocab.roberta_template, _FAIRSEQ_ROLES,
    flags={"mask": {"lstrip": True, "normalized": True, "special": True}}, slow_flags={"*": _PLAIN, "mask": _MASK},
    update=vocab.update_roberta, type_ids=False,
)  # fmt: skip
_MPNET = TokenizerClass(
    "vocab.txt", vocab.build_word_piece, vocab.mpnet_template, {**_FAIRSEQ_ROLES, "unk": "[UNK]"},
    flags={"*": _PLAIN, "mask": _MASK}, slow_flags={"*": _SPECIAL, "mask": {**_MASK, **_SPECIAL}},
    update=vocab.update_mpnet, clean_up=True, type_ids=False,
)  # fmt: skip
_GPT2 = TokenizerClass(
    "vocab.json", vocab.build_byte_level, vocab.byte_level_template,
    {"unk": "<|endoftext|>", "bos": "<|endoftext|>", "eos": "<|endoftext|>"},
    slow_flags={"bos": _PLAIN, "eos": _PLAIN, "unk": _PLAIN, "pad": _PLAIN}, type_ids=False,
)  # fmt: skip
_XLM_ROBERTA = TokenizerClass(
    "sentencepiece.bpe.model", pieces.build_xlm_roberta, pieces.fairseq_template, _FAIRSEQ_ROLES,
    flags={"mask": _MASK}, slow_flags={"mask": {**_MASK, **_SPECIAL}}, type_ids=False,
)  # fmt: skip
_CAMEMBERT = TokenizerClass(
    "sentencepiece.bpe.model", pieces.build_camembert, pieces.fairseq_template, _FAIRSEQ_ROLES,
    flags={"mask": {**_MASK, **_SPECIAL}}, slow_flags={"mask": {**_MASK_RAW, **_SPECIAL}},
    additional=more.not_used, type_ids=False,
)  # fmt: skip
_ALBERT = TokenizerClass(
    "spiece.model", pieces.build_albert, pieces.literal_template,
    {"bos": "[CLS]", "eos": "[SEP]", "unk": "<unk>", "sep": "[SEP]", "pad": "<pad>", "cls": "[CLS]", "mask": "[MASK]"},
    flags={"mask": _MASK_RAW}, slow_flags={"mask": _MASK_RAW},
)  # fmt: skip
_DEBERTA_V2 = TokenizerClass(
    "spm.model", pieces.build_deberta_v2, pieces.literal_template, {**_BERT_ROLES, "bos": "[CLS]", "eos": "[SEP]"},
    slow_flags={"unk": {"normalized": True, "special": True}},
)  # fmt: skip
_DEBERTA = TokenizerClass(
    "vocab.json", vocab.build_byte_level, pieces.literal_template, {**_BERT_ROLES, "bos": "[CLS]", "eos": "[SEP]"},
    flags={"mask": _MASK}, slow_flags={"*": _SPECIAL, "mask": _MASK},
)  # fmt: skip
_T5 = TokenizerClass(
    "spiece.model", pieces.build_t5, pieces.t5_template, {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
    slow_flags={"eos": _SPECIAL, "unk": _SPECIAL, "pad": _SPECIAL},
    additional=more.extra_ids, prefix_space=None, rebuilds=True, type_ids=False,
)  # fmt: skip
_BYTE_BPE = {"normalized": False, "special": True}
_LLAMA = TokenizerClass(
    "tokenizer.model", pieces.build_llama, None, {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    slow_flags={"bos": _BYTE_BPE, "eos": _BYTE_BPE, "unk": _BYTE_BPE, "pad": _BYTE_BPE},
    update=partial(pieces.update_ends, bos=True, eos=False), prefix_space=None, rebuilds=True, type_ids=False,
)  # fmt: skip
_GEMMA = TokenizerClass(
    "tokenizer.model", pieces.build_gemma, None, {"unk": "<unk>", "bos": "<bos>", "eos": "<eos>", "pad": "<pad>"},
    slow_flags={"bos": _BYTE_BPE, "eos": _BYTE_BPE, "unk": _BYTE_BPE, "pad": _BYTE_BPE},
    update=partial(pieces.update_ends, bos=True, eos=False), type_ids=False,
)  # fmt: skip
_GPT_NEOX = TokenizerClass(
    roles={"unk": "<|endoftext|>", "bos": "<|endoftext|>", "eos": "<|endoftext|>"},
    update=partial(pieces.update_ends, bos=False, eos=False), type_ids=False,
)  # fmt: skip
_QWEN2 = TokenizerClass(
    roles={"unk": "<|endoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"},
    flags={"bos": _BYTE_BPE, "eos": _BYTE_BPE, "unk": _BYTE_BPE, "pad": _BYTE_BPE}, type_ids=False,
)  # fmt: skip
_MBART_CLASS = TokenizerClass(
    "sentencepiece.bpe.model", partial(pieces.build_xlm_roberta, codes=codes.MBART), None, _FAIRSEQ_ROLES,
    flags={"mask": _MASK}, slow_flags={"mask": _MASK_RAW},
    additional=more.languages(codes.MBART, first=True),
    update=partial(_update_language, default="en_XX", prefix=False), type_ids=False,
)  # fmt: skip
_MBART50_CLASS = TokenizerClass(
    "sentencepiece.bpe.model", partial(pieces.build_xlm_roberta, codes=codes.MBART50), None,
    {role: token for role, token in _FAIRSEQ_ROLES.items() if role != "bos"},
    flags={"mask": _MASK}, slow_flags={"mask": _MASK},
    additional=more.languages(codes.MBART50, first=False),
    update=partial(_update_language, default="en_XX", prefix=True), type_ids=False,
)  # fmt: skip
_MARIAN = TokenizerClass(
    "source.spm", marian.build_source, marian.marian_template, {"unk": "<unk>", "eos": "</s>", "pad": "<pad>"},
    slow_only=True, type_ids=False, max_length=512, size=marian.marian_size,
)  # fmt: skip

_M2M100 = TokenizerClass(
    "sentencepiece.bpe.model", m2m100.build_m2m100, None,
    {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>"},
    update=m2m100.update_m2m100, slow_only=True, type_ids=False, size=m2m100.m2m100_size,
)  # fmt: skip
_NLLB = TokenizerClass(
    "sentencepiece.bpe.model", pieces.build_nllb, None, _FAIRSEQ_ROLES,
    flags={"mask": {"lstrip": True, "normalized": True, "special": True}},
    slow_flags=dict.fromkeys(("bos", "pad", "eos", "unk"), _BYTE_BPE)
    | {"mask": {"lstrip": True, "normalized": True, "special": True}},
    additional=more.nllb_languages, update=_update_nllb, type_ids=False,
)  # fmt: skip
_PEGASUS = TokenizerClass(
    "spiece.model", pieces.build_pegasus, pieces.pegasus_template,
    {"eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask_2>"},
    additional=more.unknowns, renames=("pad", "eos", "unk"), type_ids=False,
)  # fmt: skip
_BLENDERBOT = TokenizerClass(
    "vocab.json", vocab.build_byte_level, vocab.blenderbot_template, _FAIRSEQ_ROLES,
    flags={"mask": _MASK_RAW}, slow_flags={"*": _PLAIN, "mask": _MASK_RAW}, update=vocab.update_roberta, type_ids=False,
)  # fmt: skip
_BLENDERBOT_SMALL = TokenizerClass(
    "vocab.json", blenderbot_small.build_blenderbot_small, blenderbot_small.blenderbot_small_template,
    {"unk": "__unk__", "bos": "__start__", "eos": "__end__", "pad": "__null__"},
    slow_only=True, type_ids=False, size=blenderbot_small.blenderbot_small_size,
)  # fmt: skip

_GENERIC = TokenizerClass()

CLASSES: Mapping[str, TokenizerClass] = {
    "AlbertTokenizer": _ALBERT,
    "BartTokenizer": _BART,
    "BertTokenizer": _BERT,
    "BlenderbotSmallTokenizer": _BLENDERBOT_SMALL,
    "BlenderbotTokenizer": _BLENDERBOT,
    "CamembertTokenizer": _CAMEMBERT,
    "ConvBertTokenizer": _BERT,
    "DebertaTokenizer": _DEBERTA,
    "DebertaV2Tokenizer": _DEBERTA_V2,
    "DistilBertTokenizer": _DISTILBERT,
    "ElectraTokenizer": _BERT,
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT_NEOX,
    "GemmaTokenizer": _GEMMA,
    "LayoutLMTokenizer": _BERT,
    "LlamaTokenizer": _LLAMA,
    "LongformerTokenizer": _ROBERTA,
    "M2M100Tokenizer": _M2M100,
    "MBart50Tokenizer": _MBART50_CLASS,
    "MBartTokenizer": _MBART_CLASS,
    "MPNetTokenizer": _MPNET,
    "MT5Tokenizer": _T5,
    "MarianTokenizer": _MARIAN,
    "MobileBertTokenizer": _BERT,
    "NllbTokenizer": _NLLB,
    "PegasusTokenizer": _PEGASUS,
    "PreTrainedTokenizer": _GENERIC,
    "Qwen2Tokenizer": _QWEN2,
    "RobertaTokenizer": _ROBERTA,
    "SqueezeBertTokenizer": _BERT,
    "T5Tokenizer": _T5,
    "XLMRobertaTokenizer": _XLM_ROBERTA,
}
"""Class name without "Fast" to its row."""

MODEL_TYPES: Mapping[str, str] = {
    "albert": "AlbertTokenizer",
    "bart": "BartTokenizer",
    "bert": "BertTokenizer",
    "blenderbot": "BlenderbotTokenizer",
    "blenderbot-small": "BlenderbotSmallTokenizer",
    "camembert": "CamembertTokenizer",
    "convbert": "ConvBertTokenizer",
    "deberta": "DebertaTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "gemma": "GemmaTokenizer",
    "gemma2": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neo": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "gptj": "GPT2Tokenizer",
    "layoutlm": "LayoutLMTokenizer",
    "llama": "LlamaTokenizer",
    "longformer": "LongformerTokenizer",
    "m2m_100": "M2M100Tokenizer",
    "marian": "MarianTokenizer",
    "mbart": "MBartTokenizer",
    "mistral": "LlamaTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "mt5": "MT5Tokenizer",
    "opt": "GPT2Tokenizer",
    "pegasus": "PegasusTokenizer",
    "phi3": "LlamaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "roberta-prelayernorm": "RobertaTokenizer",
    "squeezebert": "SqueezeBertTokenizer",
    "t5": "T5Tokenizer",
    "umt5": "T5Tokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "xlm-roberta-xl": "XLMRobertaTokenizer",
}
"""`model_type` of a config.json to the class that transformers takes for it (`TOKENIZER_MAPPING_NAMES`)."""
