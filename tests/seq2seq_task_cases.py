"""Small encoder-decoders, texts and options for summarization, translation and text2text-generation; shared by recorder and tests.

Runs no model. A model is the arguments of `write_seq2seq`.
"""

from pathlib import Path
from typing import Any

__all__ = ["ANSWERS", "CALLS", "MODELS"]

Json = dict[str, Any]

ANSWERS = Path(__file__).parent / "data" / "goldens" / "seq2seq_tasks.json"

_TASKS = {
    "summarization": {
        "prefix": "summarize: ",
        "num_beams": 3,
        "length_penalty": 2.0,
        "max_length": 24,
        "early_stopping": True,
    },
    "translation_en_to_de": {"prefix": "translate English to German: ", "max_length": 18},
    "translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2},
    "text2text-generation": {"min_length": 6},
}

MODELS: dict[str, Json] = {
    "t5": {"architecture": "t5", "seed": 1},
    "t5-tasks": {"architecture": "t5", "seed": 2, "config": {"task_specific_params": _TASKS}},
    "bart": {"architecture": "bart", "seed": 3, "generation": {"forced_bos_token_id": 0, "no_repeat_ngram_size": 3}},
    "bart-long": {
        "architecture": "bart",
        "seed": 4,
        "config": {"prefix": " "},
        "generation": {
            "max_length": 30,
            "min_length": 8,
            "num_beams": 2,
            "length_penalty": 2.0,
            "early_stopping": True,
        },
    },
    "pegasus": {"architecture": "pegasus", "seed": 5, "tokenizer": "PegasusTokenizer"},
    "marian": {"architecture": "marian", "seed": 6},
    "marian-separate": {"architecture": "marian-separate", "seed": 7},
    "mbart": {"architecture": "mbart", "seed": 8, "config": {"decoder_start_token_id": 379}},
    "mbart50": {
        "architecture": "mbart",
        "seed": 9,
        "tokenizer": "MBart50Tokenizer",
        "config": {"decoder_start_token_id": 2},
    },
    "m2m": {"architecture": "m2m_100", "seed": 10, "tokenizer": "M2M100Tokenizer"},
    "nllb": {"architecture": "m2m_100", "seed": 11, "tokenizer": "NllbTokenizer"},
}

TEXT = "Everyone has the right to life, liberty and security of person."
SHORT = "The right to work."
TEXTS = [
    TEXT,
    SHORT,
    "All are equal before the law and are entitled without any discrimination to equal protection of the law.",
]
_NEW = {"max_new_tokens": 12}
_GREEDY = {**_NEW, "num_beams": 1}
_MBART = {"src_lang": "en_XX", "tgt_lang": "fr_XX"}
_NLLB = {"src_lang": "eng_Latn", "tgt_lang": "fra_Latn"}
_M2M = {"src_lang": "en", "tgt_lang": "fr"}


def _call(task: str, inputs: Any, model: str, init: Json | None = None, **options: Any) -> Json:
    return {"task": task, "model": model, "init": init or {}, "inputs": inputs, "options": options}


def _text(inputs: Any, model: str = "t5", init: Json | None = None, **options: Any) -> Json:
    return _call("text2text-generation", inputs, model, init, **options)


def _short(inputs: Any, model: str = "bart", init: Json | None = None, **options: Any) -> Json:
    return _call("summarization", inputs, model, init, **options)


def _other(inputs: Any, model: str, init: Json | None = None, *, task: str = "translation", **options: Any) -> Json:
    return _call(task, inputs, model, init, **options)


CALLS: list[Json] = [
    _text(TEXT, **_NEW),
    _text(TEXT, **_GREEDY),
    _text([TEXT], **_GREEDY),
    _text(TEXTS, **_GREEDY),
    _text(TEXTS, **_NEW, num_return_sequences=2),
    _text(TEXT, **_NEW, num_return_sequences=3),
    _text([TEXT], **_NEW, num_return_sequences=2),
    _text([], **_NEW),
    _text("", **_NEW),
    _text(["", SHORT], **_GREEDY),
    _text(TEXT, **_NEW, return_tensors=True),
    _text(TEXT, **_NEW, return_tensors=False),
    _text(TEXT, **_NEW, return_tensors=True, num_return_sequences=2),
    _text(TEXT, **_NEW, return_text=False),
    _text(TEXT, **_NEW, return_text=True, return_tensors=True),
    _text(TEXT, **_NEW, clean_up_tokenization_spaces=True),
    _text(TEXT, **_NEW, clean_up_tokenization_spaces=False),
    _text(TEXT, **_NEW, stop_sequence="e"),
    _text(TEXT, **_NEW, stop_sequence="the right"),
    _text(TEXT, max_length=9),
    _text(TEXT, max_length=9, max_new_tokens=None),
    _text(TEXT, init={"max_length": 9}),
    _text(TEXT, init={"max_new_tokens": 7, "num_beams": 1}),
    _text(TEXT, init={"max_new_tokens": 7, "num_beams": 1}, num_beams=3),
    _text(TEXT, min_length=10, **_NEW),
    _text(TEXT, min_new_tokens=10, **_NEW),
    _text(TEXT, **_GREEDY, no_repeat_ngram_size=2, repetition_penalty=1.4),
    _text(TEXT, **_GREEDY, encoder_no_repeat_ngram_size=2, encoder_repetition_penalty=1.6),
    _text(TEXT, **_NEW, num_beams=2, num_return_sequences=3),
    _text(TEXT, **_NEW, unknown_option=3),
    _text(TEXT, init={"stop_sequence": "e"}, **_NEW),
    _text(TEXT, init={"return_tensors": True}, **_NEW),
    _text(TEXT * 12, truncation=True, **_GREEDY),
    _text(TEXT, "t5-tasks", max_new_tokens=10),
    _text(TEXT, "t5-tasks", num_beams=1, max_new_tokens=4),
    _text(TEXT, "bart", **_NEW),
    _text(TEXT, "bart", **_GREEDY),
    _text(TEXT, "mbart50", **_GREEDY),
    _text(TEXT, "m2m", **_GREEDY, forced_bos_token_id=300),
    _short(TEXT, **_NEW),
    _short(TEXTS, **_NEW),
    _short(TEXTS, **_NEW, batch_size=2),
    _short(TEXT, **_NEW, return_tensors=True, num_return_sequences=4),
    _short(TEXT, "bart-long"),
    _short(TEXT, "bart-long", max_length=14, min_length=4),
    _short(TEXT, "bart-long", max_new_tokens=9, min_length=0),
    _short(TEXT, "bart-long", {"max_length": 12, "min_length": 2}),
    _short(TEXT, "bart-long", do_sample=False, num_beams=4, early_stopping=False, length_penalty=0.5),
    _short(TEXT, "t5-tasks", max_new_tokens=None),
    _short(TEXTS, "t5-tasks", max_new_tokens=15),
    _short(TEXT, "t5-tasks", {"num_beams": 2}, max_new_tokens=15),
    _short(TEXT, "pegasus", **_NEW),
    _short(TEXTS, "pegasus", **_GREEDY),
    _other(TEXT, "t5-tasks", max_new_tokens=11),
    _other(TEXT, "t5-tasks", max_new_tokens=None),
    _other(TEXT, "t5-tasks", task="translation_en_to_fr", max_new_tokens=11),
    _other(TEXTS, "t5-tasks", task="translation_en_to_de", max_new_tokens=11),
    _other(TEXT, "marian", task="translation_en_to_fr", **_NEW),
    _other(TEXTS, "marian", **_GREEDY),
    _other(TEXTS, "marian-separate", **_GREEDY),
    _other(TEXT, "marian-separate", **_NEW, num_return_sequences=2),
    _other(TEXT, "mbart", **_MBART, **_NEW),
    _other(TEXT, "mbart", src_lang="fr_XX", tgt_lang="ro_RO", **_NEW),
    _other(TEXT, "mbart", dict(_MBART), **_NEW),
    _other(TEXT, "mbart", dict(_MBART), tgt_lang="de_DE", **_NEW),
    _other(TEXTS, "mbart50", **_MBART, **_NEW),
    _other(TEXT, "mbart50", **_MBART, **_GREEDY, return_tensors=True),
    _other(TEXT, "mbart50", **_NEW, src_lang="en_XX"),
    _other(TEXT, "mbart50", **_NEW),
    _other(TEXTS, "m2m", **_M2M, **_NEW),
    _other(TEXT, "m2m", task="translation_en_to_de", **_NEW),
    _other(TEXT, "m2m", task="translation_en_to_de", **_NEW, tgt_lang="fr"),
    _other(TEXT, "m2m", src_lang="en", tgt_lang="xx", **_NEW),
    _other(TEXTS, "nllb", **_NLLB, **_NEW),
    _other(TEXT, "nllb", src_lang="fra_Latn", tgt_lang="deu_Latn", **_GREEDY),
    _other(3, "marian", **_NEW),
]
