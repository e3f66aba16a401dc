"""The tokenizer classes of transformers 4.57 that can be converted, one row each. Knows no file's contents.

A row says what a class adds to the files: default special tokens, the flags it gives them, and what it changes at every
load. Its source is the class's constructor (models/*/tokenization_*.py and *_fast.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import marian, pieces, vocab
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
    slow_only: bool = False
    type_ids: bool = True
    clean_up: bool = False
    max_length: int | None = None
    size: Callable[[Draft], int] | None = None


def _extra_ids(settings: Settings) -> list[Special]:
    """T5's <extra_id_0> ..., unless the settings list them themselves.

    Raises:
        CheckpointError: They list another number of them than `extra_ids`.
    """
    listed = settings.specials("additional_special_tokens")
    count = settings.count("extra_ids", 100)
    extra: list[Special] = [f"<extra_id_{index}>" for index in range(count)]
    if listed is None:
        return extra
    given = sum("<extra_id_" in _name(token) for token in listed)
    if given and count and given != count:
        raise settings.error("extra_ids", count, f"{given}, which is how many additional_special_tokens lists")
    return listed if given else listed + extra


def _not_used(settings: Settings) -> list[Special]:
    """CamemBERT's tokens of fairseq that no text becomes."""
    if "additional_special_tokens" in settings.values:
        return settings.specials("additional_special_tokens") or []
    return ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"]


def _languages(codes: tuple[str, ...], *, first: bool) -> Callable[[Settings], list[Special]]:
    """The language codes, before or behind the additional tokens of the settings."""

    def additional(settings: Settings) -> list[Special]:
        listed = settings.specials("additional_special_tokens") or []
        if first:
            return [*codes, *(token for token in listed if token not in codes)]
        return [*listed, *(code for code in codes if code not in listed)]

    return additional


def _name(token: Special) -> str:
    return token if isinstance(token, str) else token.content


def _update_language(draft: Draft, *, prefix: bool) -> None:
    """Put the source language's code around each text: before it (mBART-50) or behind </s> (mBART)."""
    code, eos = draft.settings.text("src_lang", "en_XX"), draft.required("eos")
    before, behind = ([code], [eos]) if prefix else ([], [eos, code])
    draft.document["post_processor"] = draft.template([*before, "$A", *behind], [*before, "$A", "$B", *behind])


_LANGUAGES = """
ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR lt_LT lv_LV my_MM ne_NP nl_XX ro_RO
ru_RU si_LK tr_TR vi_VN zh_CN
"""
_MORE_LANGUAGES = """
af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL ps_AF pt_XX sv_SE sw_KE ta_IN te_IN
th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI
"""
_MBART = tuple(_LANGUAGES.split())
_MBART50 = tuple((_LANGUAGES + _MORE_LANGUAGES).split())
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
    additional=_not_used, type_ids=False,
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
_T5 = TokenizerClass(
    "spiece.model", pieces.build_t5, pieces.t5_template, {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"},
    slow_flags={"eos": _SPECIAL, "unk": _SPECIAL, "pad": _SPECIAL},
    additional=_extra_ids, prefix_space=None, rebuilds=True, type_ids=False,
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
    "sentencepiece.bpe.model", partial(pieces.build_xlm_roberta, codes=_MBART), None, _FAIRSEQ_ROLES,
    flags={"mask": _MASK}, slow_flags={"mask": _MASK_RAW},
    additional=_languages(_MBART, first=True), update=partial(_update_language, prefix=False), type_ids=False,
)  # fmt: skip
_MBART50_CLASS = TokenizerClass(
    "sentencepiece.bpe.model", partial(pieces.build_xlm_roberta, codes=_MBART50), None,
    {role: token for role, token in _FAIRSEQ_ROLES.items() if role != "bos"},
    flags={"mask": _MASK}, slow_flags={"mask": _MASK},
    additional=_languages(_MBART50, first=False), update=partial(_update_language, prefix=True), type_ids=False,
)  # fmt: skip
_MARIAN = TokenizerClass(
    "source.spm", marian.build_source, marian.marian_template, {"unk": "<unk>", "eos": "</s>", "pad": "<pad>"},
    slow_only=True, type_ids=False, max_length=512, size=marian.marian_size,
)  # fmt: skip

_GENERIC = TokenizerClass()

CLASSES: Mapping[str, TokenizerClass] = {
    "AlbertTokenizer": _ALBERT,
    "BartTokenizer": _BART,
    "BertTokenizer": _BERT,
    "CamembertTokenizer": _CAMEMBERT,
    "ConvBertTokenizer": _BERT,
    "DebertaV2Tokenizer": _DEBERTA_V2,
    "DistilBertTokenizer": _DISTILBERT,
    "ElectraTokenizer": _BERT,
    "GPT2Tokenizer": _GPT2,
    "GPTNeoXTokenizer": _GPT_NEOX,
    "GemmaTokenizer": _GEMMA,
    "LayoutLMTokenizer": _BERT,
    "LlamaTokenizer": _LLAMA,
    "LongformerTokenizer": _ROBERTA,
    "MBart50Tokenizer": _MBART50_CLASS,
    "MBartTokenizer": _MBART_CLASS,
    "MPNetTokenizer": _MPNET,
    "MT5Tokenizer": _T5,
    "MarianTokenizer": _MARIAN,
    "MobileBertTokenizer": _BERT,
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
    "camembert": "CamembertTokenizer",
    "convbert": "ConvBertTokenizer",
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
    "marian": "MarianTokenizer",
    "mbart": "MBartTokenizer",
    "mistral": "LlamaTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "mt5": "MT5Tokenizer",
    "opt": "GPT2Tokenizer",
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
