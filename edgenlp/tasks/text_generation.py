"""Texts and chats to what a language model writes after them. Knows prompts and answers; how ids follow ids is `decode`'s."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from edgenlp.chat import check_messages, is_chat
from edgenlp.conversation import Conversation
from edgenlp.decode.generate import generate, stream
from edgenlp.decode.options import Generation
from edgenlp.decode.rows import Generated, Sequences
from edgenlp.decode.rows import Model as Writer
from edgenlp.errors import InputError
from edgenlp.guide import Guide, Vocabulary, guide
from edgenlp.model import Model
from edgenlp.streaming import TextPieces, TextStreamer
from edgenlp.tasks import scoring
from edgenlp.tasks.prompts import Plan, Prompt, adds_special, encoded, ids_of, prompt_of, rendered
from edgenlp.tasks.task import Task, check_choice, check_count, check_options
from edgenlp.tasks.task import stream as answered
from edgenlp.tasks.writing import (
    FULL_TEXT,
    NEW_TEXT,
    TENSORS,
    Observer,
    extras,
    generation_defaults,
    return_type_of,
    shown,
    takes,
    threaded,
    written_options,
)
from edgenlp.tokens import as_text

__all__ = ["TextGeneration"]

# TextGenerationPipeline._default_generation_config of transformers 4.57
_OWN = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}
_ROWS = 16  # sequences that are written side by side unless batch_size says otherwise


class TextGeneration(Task):
    """`pipeline("text-generation")`."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        assert self._writer.columns  # says so where the bundle has no decoder
        self._base, self._prefix = generation_defaults(model.bundle, "text-generation", _OWN, self.defaults)
        self._kind = return_type_of(self.defaults)
        self._vocabulary: Vocabulary | None = None

    @property
    def _writer(self) -> Writer:
        return self.model.decoder

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
            prompts = [prompt_of(self.model, text, plan) for text in texts]
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
        return self._pieces(prompt_of(self.model, text_inputs, plan), plan)

    @takes(_signature)
    def astream(self, text_inputs: Any, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: the model runs in a thread of its own, the event loop stays free.

        Closing the iterator, or cancelling the task that reads it, ends the work after the step under way.
        """
        return threaded(self.stream(text_inputs, **options))

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
        chat = not isinstance(prompt, str)
        head = rendered(self.model, prompt, plan)[0]
        context = ids_of(self.model, head, plan, chat=chat)
        special = adds_special(plan, chat=chat)
        texts = [head + as_text(choice, "a choice") for choice in choices]
        ids = [windows[0].ids for windows in self.tokens.encode(texts, special_tokens=special)]
        return scoring.rank(self._writer, context, ids, choices, by=by, bos=plan.writing.bos_token_id)

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

    def _plan(self, options: Mapping[str, Any]) -> Plan:
        check_options(type(self).__call__, options)
        given = {**self.defaults, **options}
        check_choice("handle_long_generation", given.get("handle_long_generation") or "hole", ("hole",))
        check_choice("long_input", given.get("long_input") or "error", ("error", "truncate"))
        prefix = given["prefix"] if given.get("prefix") is not None else self._prefix or ""
        length = len(encoded(self.model, prefix, special=bool(given.get("add_special_tokens")))) if prefix else 0
        stop = given.get("stop_sequence")
        if options.get("stop_sequence") is None and "eos_token_id" in options:
            stop = None  # both set the end tokens, and the call's own word counts
        eos = encoded(self.model, stop, special=False) if stop is not None else None
        writing = written_options(self._base, options, prefix_length=length, eos=eos)
        if callable(writing.streamer) and not hasattr(writing.streamer, "put"):
            writing = dataclasses.replace(writing, streamer=self._streamer(writing.streamer, given))
        return Plan(
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

    def _decode(self, ids: Sequence[int]) -> str:
        return self.tokens.decode(ids, clean_up=False)

    def _write(self, prompts: list[Prompt], plan: Plan) -> list[Any]:
        streamer = plan.writing.streamer
        writing, observer = plan.writing, None
        if streamer is not None:
            observer = Observer(streamer, prompts[0].ids)
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

    def _answer(self, prompt: Prompt, found: list[Generated], plan: Plan) -> list[dict[str, Any]]:
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
                    result |= extras(item, alone=len(found) == 1)
            results.append(result)
        return results

    def _text(self, prompt: Prompt, ids: list[int], plan: Plan) -> Any:
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
        added = new if isinstance(last["content"], str) else [{"type": "text", "text": new}]
        return [*prompt.text[:-1], {"role": last["role"], "content": last["content"] + added}]

    def turn(
        self, messages: list[dict[str, Any]], options: Mapping[str, Any]
    ) -> Callable[[Callable[[Sequence[int]], Sequences]], Iterator[str]]:
        """The answer to a conversation's last message, for `Conversation`.

        Returns:
            A function from "ids to sequences that may hold their beginning" to the pieces of the answer.
        """
        plan = self._plan(options)
        chat: Any = messages
        if not self.bundle.chat and plan.given.get("chat_template") is None:
            chat = "".join(str(message["content"]) for message in check_messages(messages))
        prompt = prompt_of(self.model, chat, plan)
        return lambda begin: self._pieces(prompt, plan, begin(prompt.ids))

    def _pieces(self, prompt: Prompt, plan: Plan, sequences: Sequences | None = None) -> Iterator[str]:
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
        return shown(steps, pieces, () if prompt.own else prompt.ids)


def _is_one(value: Any) -> bool:
    return isinstance(value, str) or is_chat(value)
