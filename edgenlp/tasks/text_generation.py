"""Texts and chats to what a language model writes after them. Knows prompts and answers; how ids follow ids is `decode`'s."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgenlp.chat import check_messages, is_chat, render
from edgenlp.conversation import Conversation, Memory
from edgenlp.decode.generate import generate, stream
from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Generated, Sequences
from edgenlp.decode.rows import Model as Writer
from edgenlp.errors import InputError, TooLongError
from edgenlp.guide import Guide, Vocabulary, guide
from edgenlp.model import Model
from edgenlp.streaming import TextPieces, TextStreamer
from edgenlp.tasks import scoring
from edgenlp.tasks.task import Task, check_choice, check_count, check_options, cut
from edgenlp.tasks.task import stream as answered
from edgenlp.tasks.writing import (
    FULL_TEXT,
    NEW_TEXT,
    TENSORS,
    generation_defaults,
    return_type_of,
    takes,
    written_options,
)
from edgenlp.tokens import as_text

__all__ = ["TextGeneration"]

_OWN = {
    "max_new_tokens": 256,
    "do_sample": True,
    "temperature": 0.7,
}  # TextGenerationPipeline._default_generation_config
_ROWS = 16  # sequences that are written side by side unless batch_size says otherwise
_ENCODE = ("add_special_tokens", "truncation", "max_length", "padding")  # of tokenizer_encode_kwargs, for texts

_Text = str | list[dict[str, Any]]


@dataclass(frozen=True)
class _Plan:
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
        chosen = self.given.get("clean_up_tokenization_spaces")
        return True if chosen is None else bool(chosen)

    @property
    def skips(self) -> bool:
        chosen = self.given.get("skip_special_tokens")
        return True if chosen is None else bool(chosen)

    @property
    def hidden_stops(self) -> tuple[str, ...]:
        """Stop strings that are no part of the answer."""
        return () if self.given.get("keep_stop") in (None, True) else self.writing.stop_strings


@dataclass(frozen=True)
class _Prompt:
    """What is written on.

    Attributes:
        text: As it was given.
        ids: Read by the model.
        own: How many of `ids` are the prompt's own: none where a lone bos token stands for an empty text.
        continues: Of a chat: whether its last message is gone on with.
    """

    text: _Text
    ids: list[int]
    own: int
    continues: bool = False


class TextGeneration(Task):
    """`pipeline("text-generation")`."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        self._writer: Writer = model.decoder
        self._base, self._prefix = generation_defaults(model.bundle, "text-generation", _OWN, self.defaults)
        self._kind = return_type_of(self.defaults)
        self._vocabulary: Vocabulary | None = None

    def _signature(
        self,
        text_inputs: Any,
        *,
        return_full_text: bool | None = None,
        return_text: bool | None = None,
        return_tensors: bool | None = None,
        return_type: str | int | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        prefix: str | None = None,
        handle_long_generation: str | None = None,
        stop_sequence: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        padding: bool | str | None = None,
        add_special_tokens: bool | None = None,
        continue_final_message: bool | None = None,
        skip_special_tokens: bool | None = None,
        tokenizer_encode_kwargs: Mapping[str, Any] | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        chat_template: str | None = None,
        guide: Mapping[str, Any] | None = None,
        keep_stop: bool | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """The options of a call, for `takes`."""

    @takes(_signature)
    def __call__(self, text_inputs: Any, **options: Any) -> Any:
        """Write on.

        Args:
            text_inputs: A text, a chat (list of messages, `{"role", "content"}`), or a list or any iterable of either.
            **options: Those of transformers' `TextGenerationPipeline` and of its `generate`; besides them `tools`, `documents`
                and `chat_template` for the chat template, `guide` (`{"json_schema" | "regex" | "choices": ...}`), `keep_stop`
                (False leaves a stop string out of the answer), `long_input` ("error", the default, or "truncate", which drops
                the beginning of a prompt that leaves no room for max_new_tokens) and `batch_size` (most prompts side by side).

        Returns:
            As transformers 4.57: per text a list of `{"generated_text"}` or `{"generated_token_ids"}`, one for each of
            `num_return_sequences`; of a chat `generated_text` is the chat with the answer. A list gives a list, an iterable an
            iterator.

        Raises:
            InputError: A prompt or an option cannot be used.
            TooLongError: A prompt leaves no room in the model's window.
        """
        plan = self._plan(options)
        size = options.get("batch_size", self.defaults.get("batch_size"))
        check_count("batch_size", size, optional=True)
        each = max(plan.writing.num_beams, plan.writing.num_return_sequences)
        rows = 1 if plan.writing.streamer is not None else size or max(1, _ROWS // each)

        def step(texts: list[Any]) -> list[Any]:
            prompts = [self._prompt(text, plan) for text in texts]
            parts = [prompts[place : place + rows] for place in range(0, len(prompts), rows)]
            return [answer for part in parts for answer in self._write(part, plan)]

        return answered(text_inputs, _is_one, step, batch_size=size or (1 if rows == 1 else None))

    @takes(_signature)
    def stream(self, text_inputs: Any, **options: Any) -> Iterator[str]:
        """Write on, piece by piece; the pieces make up the new text that a call would return.

        Nothing is computed ahead of what is asked for; closing the iterator, or leaving its loop, ends the work.

        Args:
            text_inputs: One text or one chat.
            **options: As of a call. Beams and several sequences cannot be streamed.

        Yields:
            Text, never half a character (`edgenlp.streaming`).
        """
        if not _is_one(text_inputs):
            raise InputError(
                f"a stream follows one text or one chat, found {type(text_inputs).__name__}; stream each by itself"
            )
        plan = self._plan(options)
        return self._pieces(self._prompt(text_inputs, plan), plan)

    @takes(_signature)
    def astream(self, text_inputs: Any, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: the model runs in a thread of its own, the event loop stays free.

        Closing the iterator, or cancelling the task that reads it, ends the work after the step under way.
        """
        return _threaded(self.stream(text_inputs, **options))

    def score(self, texts: Any, *, add_special_tokens: bool = True, long_input: str = "error") -> Any:
        """How likely the model finds texts.

        Args:
            texts: A text, a list or any iterable of texts.
            add_special_tokens: Whether the tokenizer's own tokens (a leading bos) are read; they are not scored.
            long_input: "error"; "truncate"; or "stride": windows that overlap by half, every token scored once.

        Returns:
            Per text `{"logprob", "tokens", "mean", "perplexity", "token_logprobs"}`; natural logarithms. Where no bos token is
            read, the first token is not scored: nothing precedes it.
        """
        check_choice("long_input", long_input, ("error", "truncate", "stride"))

        def step(items: list[Any]) -> list[scoring.Scored]:
            found = []
            for text in items:
                ids = self.tokens.encode([as_text(text)], special_tokens=add_special_tokens)[0][0].ids
                found.append(scoring.score(self._writer, ids, long_input))
            return found

        return answered(texts, lambda value: isinstance(value, str), step)

    def rank(self, prompt: Any, choices: Sequence[str], *, by: str = "logprob", **options: Any) -> list[scoring.Ranked]:
        """Which of `choices` the model finds likeliest after a prompt, the best first.

        Args:
            prompt: A text or a chat.
            choices: Continuations, read as they are: begin them with a space where one is wanted.
            by: "logprob", the sum over a choice's tokens, or "mean", over their number.
            **options: Of the tokenizer and the chat template, as of a call.

        Returns:
            Per choice `{"choice", "index", "logprob", "mean", "tokens", "probability"}`, the last among these choices.
        """
        check_choice("by", by, ("logprob", "mean"))
        if isinstance(choices, str) or not choices:
            raise InputError("choices must be a list of at least one text")
        plan = self._plan(options)
        context = self._ids(self._rendered(prompt, plan)[0], plan, chat=not isinstance(prompt, str))
        head = self._rendered(prompt, plan)[0]
        special = self._adds(plan, chat=not isinstance(prompt, str))
        texts = [head + as_text(choice, "a choice") for choice in choices]
        ids = [windows[0].ids for windows in self.tokens.encode(texts, special_tokens=special)]
        return scoring.rank(self._writer, context, ids, choices, by=by, bos=self._bos(plan))

    def conversation(self, messages: Sequence[Mapping[str, Any]] = (), **options: Any) -> Conversation:
        """A conversation whose next turn costs its new tokens only: what the model has read, it keeps.

        Args:
            messages: To begin with, usually a system message.
            **options: Defaults of its turns, as of a call.
        """
        check_options(self.__call__, options)
        return Conversation(self, check_messages(messages) if messages else [], options)

    def warmup(self) -> None:
        """Run the model once on a short text, so that the first real call finds memory and threads ready."""
        self._writer.start(1, 2).read([[0]])

    # From here on: one call, step by step.

    def _plan(self, options: Mapping[str, Any]) -> _Plan:
        check_options(type(self).__call__, options)
        given = {**self.defaults, **options}
        check_choice("handle_long_generation", given.get("handle_long_generation") or "hole", ("hole",))
        check_choice("long_input", given.get("long_input") or "error", ("error", "truncate"))
        prefix = given["prefix"] if given.get("prefix") is not None else self._prefix or ""
        length = len(self._encoded(prefix, bool(given.get("add_special_tokens")))) if prefix else 0
        stop = given.get("stop_sequence")
        eos = self._encoded(stop, special=False) if stop is not None else None
        writing = written_options(self._base, options, prefix_length=length, eos=eos)
        if callable(writing.streamer) and not hasattr(writing.streamer, "put"):
            writing = dataclasses.replace(writing, streamer=self._streamer(writing.streamer, given))
        if writing.stop_strings and any(not item for item in writing.stop_strings):
            raise InputError("a stop string must not be empty")
        return _Plan(
            given, writing, return_type_of(options) or self._kind or FULL_TEXT, prefix, self._guides(given, writing)
        )

    def _streamer(self, write: Callable[[str], object], given: Mapping[str, Any]) -> TextStreamer:
        return TextStreamer(
            self.tokens,
            skip_prompt=True,
            skip_special_tokens=given.get("skip_special_tokens") is not False,
            clean_up_tokenization_spaces=given.get("clean_up_tokenization_spaces") is not False,
            write=write,
        )

    def _guides(self, given: Mapping[str, Any], writing: Generation) -> Callable[[], list[Guide]]:
        spec = given.get("guide")
        if spec is None:
            return list
        eos = writing.eos_token_id
        if self._vocabulary is None or self._vocabulary.eos != eos:
            self._vocabulary = Vocabulary(self.tokens, self._writer.columns, eos)
        vocabulary = self._vocabulary
        guide(spec, vocabulary)  # what is wrong with it is said before anything runs
        return lambda: [guide(spec, vocabulary)]

    def _encoded(self, text: Any, special: bool) -> list[int]:
        ids: list[int] = self.tokens.encode([as_text(text)], special_tokens=special)[0][0].ids
        return ids

    def _prompt(self, value: Any, plan: _Plan) -> _Prompt:
        text, continues = self._rendered(value, plan)
        chat = not isinstance(value, str)
        ids = self._ids(text, plan, chat=chat)
        if not ids:
            bos = self._bos(plan)
            if bos is None:
                raise InputError("the prompt has no tokens, and the model no bos token to begin with; give a text")
            return _Prompt(value, [bos], 0, continues)
        ids = self._fitted(ids, plan)
        given = check_messages(value) if chat else value
        return _Prompt(given, ids, len(ids), continues)

    def _rendered(self, value: Any, plan: _Plan) -> tuple[str, bool]:
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
        special = {f"{role}_token": token for role, (token, _) in self.bundle.tokenizer.special.items()}
        text = render(
            messages,
            self.bundle.chat,
            special=special,
            template=given.get("chat_template") or plan.given.get("chat_template"),
            add_generation_prompt=not continues,
            continue_final_message=bool(continues),
            **variables,
        )
        return as_text(text, "the rendered chat"), bool(continues)

    def _adds(self, plan: _Plan, *, chat: bool) -> bool:
        """Whether the tokenizer adds its own tokens: a chat template writes them itself."""
        chosen = (plan.given.get("tokenizer_encode_kwargs") or {}).get("add_special_tokens")
        if chosen is None:
            chosen = plan.given.get("add_special_tokens")
        return not chat and chosen is not False

    def _ids(self, text: str, plan: _Plan, *, chat: bool) -> list[int]:
        given = {name: plan.given.get(name) for name in ("truncation", "max_length")}
        extra = plan.given.get("tokenizer_encode_kwargs") or {}
        if not chat:
            for name in extra:
                check_choice("a key of tokenizer_encode_kwargs", name, _ENCODE)
        given |= {name: extra[name] for name in given if name in extra}
        if chat and not given["truncation"]:  # there, a length alone cuts nothing
            given = {"truncation": False, "max_length": None}
        window = cut(self.model, None, "error", **given)
        window["special_tokens"] = self._adds(plan, chat=chat)
        ids: list[int] = self.tokens.encode([text], **window)[0][0].ids
        return ids

    def _fitted(self, ids: list[int], plan: _Plan) -> list[int]:
        """`ids`, without their beginning where that was asked for and the window has no room for what is to be written."""
        window = min(self._writer.window, self.bundle.tokenizer.max_length or self._writer.window)
        if plan.given.get("handle_long_generation") is None:
            if len(ids) < self._writer.window:
                return ids
            if plan.given.get("long_input") != "truncate":
                raise TooLongError(
                    f"the prompt is {len(ids)} tokens long, the model's window is {self._writer.window}: no token can follow;"
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
            raise InputError(
                f"{new} new tokens leave no room for a prompt in a window of {window}; lower max_new_tokens"
            )
        return ids[new - window :]

    def _bos(self, plan: _Plan) -> int | None:
        return plan.writing.bos_token_id

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokens.decode(ids, clean_up=False)

    def _write(self, prompts: list[_Prompt], plan: _Plan) -> list[Any]:
        streamer = plan.writing.streamer
        writing, observer = plan.writing, None
        if streamer is not None:
            observer = _Observer(streamer, prompts[0].ids)
            writing = dataclasses.replace(
                writing, streamer=None, stopping_criteria=(*writing.stopping_criteria, observer)
            )
        written = generate(
            self._writer,
            [prompt.ids for prompt in prompts],
            writing,
            decode=self._decode,
            guides=plan.processors(),
        )
        if observer is not None:
            observer.end(written[0][0].ids)
        return [self._answer(prompt, found, plan) for prompt, found in zip(prompts, written, strict=True)]

    def _answer(self, prompt: _Prompt, found: list[Generated], plan: _Plan) -> list[dict[str, Any]]:
        longest = max(len(item.ids) for item in found)
        pad = plan.writing.pad_token_id
        results = []
        for item in found:
            ids = [*prompt.ids, *item.ids]
            if pad is not None:  # sequences of one prompt are of one length, as transformers' tensor of them
                ids += [pad] * (longest - len(item.ids))
            if plan.kind == TENSORS:
                result: dict[str, Any] = {"generated_token_ids": ids}
            else:
                result = {"generated_text": self._text(prompt, ids, plan)}
                if plan.writing.return_dict_in_generate:
                    result |= _extras(item, alone=len(found) == 1)
            results.append(result)
        return results

    def _text(self, prompt: _Prompt, ids: list[int], plan: _Plan) -> Any:
        options: dict[str, Any] = {"skip_special_tokens": plan.skips, "clean_up": plan.clean_up}
        start = len(self.tokens.decode(prompt.ids[: prompt.own], **options)) if prompt.own else 0
        new = self.tokens.decode(ids, **options)[start:]
        for stop in plan.hidden_stops:
            new = new.partition(stop)[0]
        if plan.kind == NEW_TEXT:
            return new
        if isinstance(prompt.text, str):
            return prompt.text + new
        if not prompt.continues:
            return [*prompt.text, {"role": "assistant", "content": new}]
        last = prompt.text[-1]
        return [*prompt.text[:-1], {"role": last["role"], "content": last["content"] + new}]

    def turn(self, messages: list[dict[str, Any]], memory: Memory, options: Mapping[str, Any]) -> Iterator[str]:
        """The answer to a conversation's last message, for `Conversation`: what `memory` holds of the prompt is not read again."""
        plan = self._plan(options)
        chat: Any = messages
        if not self.bundle.chat and plan.given.get("chat_template") is None:
            chat = "".join(str(message["content"]) for message in check_messages(messages))
        prompt = self._prompt(chat, plan)
        return self._pieces(prompt, plan, memory.begin(prompt.ids))

    def _pieces(self, prompt: _Prompt, plan: _Plan, sequences: Sequences | None = None) -> Iterator[str]:
        pieces = TextPieces(
            self.tokens,
            prompt.ids[: prompt.own],
            skip_special_tokens=plan.skips,
            clean_up=plan.clean_up,
            stop=plan.hidden_stops,
        )
        if plan.writing.num_return_sequences > 1:
            raise InputError("several sequences cannot be streamed; set num_return_sequences=1, or call the pipeline")
        steps = stream(
            self._writer,
            [prompt.ids],
            plan.writing,
            decode=self._decode,
            guides=plan.processors(),
            sequences=sequences,
        )
        return _texts(steps, pieces, () if prompt.own else prompt.ids)


def _texts(steps: Iterator[Any], pieces: TextPieces, first: Sequence[int]) -> Iterator[str]:
    """The texts of what is written; a generator, so that closing it closes `steps`."""
    with_prompt = pieces.push(first)
    if with_prompt:
        yield with_prompt
    for step in steps:
        for written in step:
            if text := pieces.push(written.tokens):
                yield text
        if pieces.stopped is not None:
            return
    if text := pieces.finish():
        yield text


async def _threaded(pieces: Iterator[str]) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="edgenlp-stream")
    try:
        while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
            yield piece
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            thread.submit(close)  # after the step under way, on its own thread
        thread.shutdown(wait=False)


class _Observer:
    """Hands new ids to a streamer as they come; a stopping criterion that never stops."""

    def __init__(self, streamer: Any, prompt: Sequence[int]) -> None:
        self._streamer = streamer
        self._seen = len(prompt)
        self._start = len(prompt)
        streamer.put(np.array([prompt], np.int64))

    def __call__(self, ids: Any, scores: Any) -> bool:
        self._streamer.put(np.array(ids[self._seen :], np.int64))
        self._seen = len(ids)
        return False

    def end(self, ids: Sequence[int]) -> None:
        """All new ids: the last ones may not have been seen."""
        if rest := ids[self._seen - self._start :]:
            self._streamer.put(np.array(rest, np.int64))
        self._streamer.end()


def _extras(item: Generated, *, alone: bool) -> dict[str, Any]:
    """What transformers adds with return_dict_in_generate."""
    found: dict[str, Any] = {}
    if item.scores is not None:
        found["scores"] = [row.tolist() for row in item.scores]
    if item.logits is not None:
        found["logits"] = [row.tolist() for row in item.logits]
    if item.score is not None and alone:
        found["sequences_scores"] = [item.score]
    return found


def _is_one(value: Any) -> bool:
    return isinstance(value, str) or is_chat(value)
