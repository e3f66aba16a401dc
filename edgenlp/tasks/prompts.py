"""Texts and chats to the ids that a language model reads, as the options of a call ask for. Runs no model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgenlp.chat import check_messages, render
from edgenlp.decode.options import Generation
from edgenlp.errors import InputError, TooLongError
from edgenlp.guide import Guide
from edgenlp.model import Model
from edgenlp.tasks.task import check_choice, cut
from edgenlp.tokens import as_text

__all__ = ["Plan", "Prompt", "adds_special", "encoded", "ids_of", "prompt_of", "rendered"]

_ENCODE = ("add_special_tokens", "truncation", "max_length", "padding")  # of tokenizer_encode_kwargs, for texts

Text = str | list[dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What one call asks for.

    Attributes:
        given: All options, those of `pipeline(...)` and of the call.
        writing: Of generation.
        kind: What is returned.
        prefix: Before every text.
        processors: Made anew for every batch.
    """

    given: Mapping[str, Any]
    writing: Generation
    kind: str
    prefix: str
    processors: Callable[[], list[Guide]]

    @property
    def clean_up(self) -> bool:
        """Whether spaces before punctuation go; unless told otherwise they do, whatever the tokenizer's own default."""
        chosen = self.given.get("clean_up_tokenization_spaces")
        return True if chosen is None else bool(chosen)

    @property
    def skips(self) -> bool:
        """Whether special tokens are left out of the answer."""
        chosen = self.given.get("skip_special_tokens")
        return True if chosen is None else bool(chosen)

    @property
    def hidden_stops(self) -> tuple[str, ...]:
        """Stop strings that are no part of the answer."""
        return () if self.given.get("keep_stop") in (None, True) else self.writing.stop_strings


@dataclass(frozen=True)
class Prompt:
    """What is written on.

    Attributes:
        text: As it was given.
        ids: Read by the model.
        own: How many of `ids` are the prompt's own: none where a lone bos token stands for an empty text.
        continues: Of a chat: whether its last message is gone on with.
    """

    text: Text
    ids: list[int]
    own: int
    continues: bool = False


def encoded(model: Model, text: Any, *, special: bool) -> list[int]:
    """The ids of a text, whole."""
    ids: list[int] = model.tokens.encode([as_text(text)], special_tokens=special)[0][0].ids
    return ids


def prompt_of(model: Model, value: Any, plan: Plan) -> Prompt:
    """A text or a chat, ready to be written on.

    Raises:
        InputError: It is neither, or there is nothing to begin with.
        TooLongError: It leaves no room in the window.
    """
    text, continues = rendered(model, value, plan)
    chat = not isinstance(value, str)
    ids = ids_of(model, text, plan, chat=chat)
    if not ids:
        bos = plan.writing.bos_token_id
        if bos is None:
            raise InputError("the prompt has no tokens, and the model no bos token to begin with; give a text")
        return Prompt(value, [bos], 0, continues)
    ids = _fitted(model, ids, plan)
    given = check_messages(value) if chat else value
    return Prompt(given, ids, len(ids), continues)


def rendered(model: Model, value: Any, plan: Plan) -> tuple[str, bool]:
    """The text that the model reads, and whether it goes on with a chat's last message."""
    if isinstance(value, str):
        return plan.prefix + as_text(value), False
    messages = check_messages(value)
    given = dict(plan.given.get("tokenizer_encode_kwargs") or {})
    continues = plan.given.get("continue_final_message")
    if continues is None:
        continues = messages[-1]["role"] == "assistant"
    variables = {
        name: item for name, item in given.items() if name not in (*_ENCODE, "chat_template", "tokenizer_kwargs")
    }
    for name in ("tools", "documents"):
        if plan.given.get(name) is not None:
            variables[name] = plan.given[name]
    special = {f"{role}_token": token for role, (token, _) in model.bundle.tokenizer.special.items()}
    text = render(
        messages,
        model.bundle.chat,
        special=special,
        template=given.get("chat_template") or plan.given.get("chat_template"),
        add_generation_prompt=not continues,
        continue_final_message=bool(continues),
        **variables,
    )
    return as_text(text, "the rendered chat"), bool(continues)


def adds_special(plan: Plan, *, chat: bool) -> bool:
    """Whether the tokenizer adds its own tokens: a chat template writes them itself."""
    chosen = (plan.given.get("tokenizer_encode_kwargs") or {}).get("add_special_tokens")
    if chosen is None:
        chosen = plan.given.get("add_special_tokens")
    return not chat and chosen is not False


def ids_of(model: Model, text: str, plan: Plan, *, chat: bool) -> list[int]:
    """The ids of a text as the options of the tokenizer have it: special tokens, truncation."""
    given = {name: plan.given.get(name) for name in ("truncation", "max_length")}
    extra = plan.given.get("tokenizer_encode_kwargs") or {}
    if not chat:
        for name in extra:
            check_choice("a key of tokenizer_encode_kwargs", name, _ENCODE)
    given |= {name: extra[name] for name in given if name in extra}
    if chat and not given["truncation"]:  # there, a length alone cuts nothing
        given = {"truncation": False, "max_length": None}
    window = cut(model, None, "error", **given)
    window["special_tokens"] = adds_special(plan, chat=chat)
    ids: list[int] = model.tokens.encode([text], **window)[0][0].ids
    return ids


def _fitted(model: Model, ids: list[int], plan: Plan) -> list[int]:
    """`ids`, without their beginning where that was asked for and the window has no room for what is to be written."""
    window = min(model.decoder.window, model.bundle.tokenizer.max_length or model.decoder.window)
    if plan.given.get("handle_long_generation") is None:
        if len(ids) < model.decoder.window:
            return ids
        if plan.given.get("long_input") != "truncate":
            raise TooLongError(
                f"the prompt is {len(ids)} tokens long, the model's window is {model.decoder.window}: no token can follow;"
                " shorten it, or give long_input='truncate'"
            )
    elif plan.writing.max_new_tokens is None and plan.writing.max_length < len(ids):
        raise InputError(
            f"the prompt has {len(ids)} tokens and max_length is {plan.writing.max_length}: how many new tokens are to fit"
            " is not known; give max_new_tokens"
        )
    new = plan.writing.max_new_tokens
    new = max(1, plan.writing.max_length - len(ids)) if new is None else new
    if len(ids) + new <= window:
        return ids
    if new >= window:
        raise InputError(f"{new} new tokens leave no room for a prompt in a window of {window}; lower max_new_tokens")
    return ids[new - window :]
