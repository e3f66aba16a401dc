"""Prompts, options and a small tokenizer for text generation; shared by the recorder and the tests. Runs no model.

The model is toy_model.py's GPT-2 of 61 tokens. Its tokenizer is byte-level, so that it writes halves of characters too.
"""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as Steps
from tokenizers.processors import TemplateProcessing
from toy_model import COLUMNS, EOS

__all__ = ["ANSWERS", "CALLS", "CHAT", "MODELS", "SPECIAL", "WINDOW_OF_TOKENIZER", "build_tokenizer"]

Json = dict[str, Any]

ANSWERS = Path(__file__).parent / "data" / "goldens" / "text_generation.json"
WINDOW_OF_TOKENIZER = 48
SPECIAL = {"bos": ("<s>", 0), "eos": ("</s>", EOS), "pad": ("</s>", EOS)}
CHAT = (
    "{% if messages[0].role == 'robot' %}{{ raise_exception('no robots') }}{% endif %}"
    "{% for tool in tools or [] %}{{ tool.name }} {% endfor %}"
    "{% for message in messages %}{{ ('<u>' if message.role == 'user' else '<a>') + message.content }}"
    "{% if not loop.last or message.role == 'user' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
_PIECES = [
    "<s>",
    "<u>",
    "<a>",
    "a",
    "b",
    "c",
    "d",
    "</s>",
    "e",
    "f",
    "g",
    "h",
    "i",
    "l",
    "m",
    "n",
    "o",
    "p",
    "r",
    "s",
    "t",
    "u",
    "v",
    "w",
    "y",
    "Ġ",
    ".",
    ",",
    "!",
    "'",
    "Ċ",
    "1",
    "2",
    "ð",
    "Ł",
    "ĺ",
    "Ģ",
    "Ã",
    "©",
    "Ì",
    "ģ",
    "k",
    "Ġt",
    "he",
    "Ġthe",
    "Ġa",
    "in",
    "er",
    "on",
    "re",
    "Ġs",
    "Ġw",
    "at",
    "Ġ.",
    "Ġn",
    "'t",
    "Ġ'",
    "ðŁ",
    "ðŁĺ",
    "th",
    "an",
]
_MERGES = "Ġ t|h e|Ġt he|Ġ a|i n|e r|o n|r e|Ġ s|Ġ w|a t|Ġ .|Ġ n|' t|Ġ '|ð Ł|ðŁ ĺ|t h|a n"


def build_tokenizer(*, begins: bool = False) -> Tokenizer:
    """The tokenizer; with `begins` it puts <s> before a text."""
    vocabulary = {piece: number for number, piece in enumerate(_PIECES)}
    assert len(vocabulary) == COLUMNS
    merges = [(left, right) for left, right in (merge.split() for merge in _MERGES.split("|"))]
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = Steps(
        [Split(Regex(r" ?[a-z0-9']+| ?[^ a-z0-9']+| "), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(piece, special=True) for piece in ("<s>", "<u>", "<a>", "</s>")])
    if begins:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


# name: (begins, generation_config.json, more of config.json)
MODELS: dict[str, tuple[bool, Json, Json]] = {
    "plain": (False, {}, {}),
    "begins": (True, {}, {}),
    "most": (False, {"max_length": 15}, {}),
    "new": (False, {"max_new_tokens": 6, "temperature": 1.0, "repetition_penalty": 1.3}, {}),
    "special": (
        False,
        {"max_new_tokens": 5},
        {"task_specific_params": {"text-generation": {"max_length": 14, "do_sample": False}}},
    ),
    "prefixed": (False, {}, {"task_specific_params": {"text-generation": {"prefix": "the rat "}}}),
    "hurried": (False, {"max_new_tokens": 9, "num_beams": 3}, {"prefix": "an "}),
}

_GREEDY = {"do_sample": False, "max_new_tokens": 12}
_USER = [{"role": "user", "content": "the weather in the town"}]
_PREFILLED = [*_USER, {"role": "assistant", "content": "rain and "}]


def _call(inputs: Any, model: str = "plain", init: Json | None = None, **options: Any) -> Json:
    return {"model": model, "init": init or {}, "inputs": inputs, "options": options}


CALLS: list[Json] = [
    _call("the man on the street", **_GREEDY),
    _call(["the man on the street"], **_GREEDY),
    _call(["the man", "a", "in the street they are not here ."], **_GREEDY),
    _call("the man .", **_GREEDY),
    _call("the man ", **_GREEDY),
    _call("the man .", **_GREEDY, clean_up_tokenization_spaces=False),
    _call("the man", **_GREEDY, return_full_text=False),
    _call("the man", **_GREEDY, return_full_text=True),
    _call("the man", **_GREEDY, return_text=True),
    _call("the man", **_GREEDY, return_tensors=True),
    _call("the man", **_GREEDY, return_tensors=False),
    _call("the man", **_GREEDY, return_full_text=True, return_tensors=True),
    _call("the man", **_GREEDY, return_full_text=True, return_text=True),
    _call("the man", **_GREEDY, return_text=True, return_tensors=True),
    _call("the man", **_GREEDY, skip_special_tokens=False),
    _call("the man", **_GREEDY, prefix="in the "),
    _call("the man", **_GREEDY, prefix=""),
    _call("the man", do_sample=False, max_length=14),
    _call("the man", do_sample=False, max_length=14, prefix="in the "),
    _call("the man", do_sample=False, max_length=14, max_new_tokens=None),
    _call("the man", do_sample=False, max_length=14, max_new_tokens=None, prefix="in the "),
    _call("the man", do_sample=False, max_length=3, max_new_tokens=None),
    _call("the man", do_sample=False, max_length=3, max_new_tokens=None, truncation=True),
    _call("the man on the street", do_sample=False, max_length=4, max_new_tokens=5, truncation=True),
    _call("the man", do_sample=False, max_new_tokens=None),
    _call("the man", do_sample=False, max_new_tokens=0),
    _call("the man", do_sample=False, max_new_tokens=3, min_new_tokens=2),
    _call("", **_GREEDY),
    _call(["", "the man"], **_GREEDY),
    _call("", model="begins", **_GREEDY),
    _call("the man", model="begins", **_GREEDY),
    _call("the man", model="begins", **_GREEDY, add_special_tokens=False),
    _call("the man", model="begins", **_GREEDY, add_special_tokens=True),
    _call("the man", model="begins", **_GREEDY, skip_special_tokens=False),
    _call("the man", model="begins", **_GREEDY, tokenizer_encode_kwargs={"add_special_tokens": False}),
    _call("the man", model="begins", **_GREEDY, prefix="in the "),
    _call("the man on the street they are not here . " * 3, **_GREEDY, handle_long_generation="hole"),
    _call(
        "the man on the street they are not here . " * 3,
        do_sample=False,
        max_new_tokens=60,
        handle_long_generation="hole",
    ),
    _call("the man", **_GREEDY, handle_long_generation="whole"),
    _call("the man on the street", **_GREEDY, tokenizer_encode_kwargs={"truncation": True, "max_length": 3}),
    _call("the man", **_GREEDY, stop_sequence="e"),
    _call("the man", **_GREEDY, stop_sequence="t on"),
    _call("the man", **_GREEDY, stop_sequence=" w"),
    _call("the man", **_GREEDY, eos_token_id=[3, 8, 24]),
    _call("the man", **_GREEDY, num_beams=3, num_return_sequences=3),
    _call(["the man", "a"], **_GREEDY, num_beams=2, num_return_sequences=2, return_full_text=False),
    _call("the man", **_GREEDY, repetition_penalty=1.5, no_repeat_ngram_size=2),
    _call(
        "the man",
        do_sample=False,
        max_new_tokens=2,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
    ),
    _call(_USER, **_GREEDY),
    _call([_USER], **_GREEDY),
    _call([_USER, _PREFILLED], **_GREEDY),
    _call(_USER, **_GREEDY, return_full_text=False),
    _call(_USER, **_GREEDY, return_tensors=True),
    _call(_PREFILLED, **_GREEDY),
    _call(_PREFILLED, **_GREEDY, return_full_text=False),
    _call(_PREFILLED, **_GREEDY, continue_final_message=False),
    _call(_USER, **_GREEDY, continue_final_message=True),
    _call(_USER, model="begins", **_GREEDY),
    _call(_USER, model="begins", **_GREEDY, add_special_tokens=True),
    _call(_USER, **_GREEDY, tokenizer_encode_kwargs={"tools": [{"name": "rain"}]}),
    _call(_USER, **_GREEDY, tokenizer_encode_kwargs={"truncation": True, "max_length": 5}),
    _call([{"role": "robot", "content": "the"}], **_GREEDY),
    _call([{"role": "user"}], **_GREEDY),
    _call("the man", model="most", do_sample=False),
    _call("the man", model="most", do_sample=False, max_new_tokens=4),
    _call("the man", model="new", do_sample=False),
    _call("the man", model="new", do_sample=False, max_length=9),
    _call("the man", model="special", do_sample=False),
    _call("the man", model="special"),
    _call("the man", model="prefixed", **_GREEDY),
    _call("the man", model="prefixed", **_GREEDY, return_full_text=False),
    _call("the man", model="prefixed", do_sample=False, max_length=14, max_new_tokens=None),
    _call("the man", model="prefixed", **_GREEDY, prefix="a "),
    _call("the man", model="prefixed", init={"prefix": "a "}, **_GREEDY),
    _call("the man", model="hurried", do_sample=False),
    _call("the man", init={"max_new_tokens": 4, "do_sample": False}),
    _call("the man", init={"max_new_tokens": 4, "do_sample": False}, max_new_tokens=6),
    _call("the man", init={"max_length": 13, "do_sample": False}),
    _call("the man", init={"max_length": 13, "do_sample": False}, max_new_tokens=3),
    _call("the man", init={"return_full_text": False, "do_sample": False, "max_new_tokens": 4}),
    _call("the man", model="most", init={"max_new_tokens": 256, "do_sample": False}),
]
