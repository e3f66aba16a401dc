"""Texts to texts that a model writes after reading them: what summarization, translation and text2text-generation share.

Knows sources and answers; how ids follow ids is `decode`'s.
"""

import dataclasses
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from edgenlp.decode.generate import stream
from edgenlp.errors import InputError, TooLongError
from edgenlp.model import Model
from edgenlp.streaming import TextPieces
from edgenlp.tasks import scoring
from edgenlp.tasks.answers import Answer, alternatives, scored, written
from edgenlp.tasks.orders import Direction, Order, defaults_of, order_of, wants_tensors
from edgenlp.tasks.sources import Source, longest, parts_of, sources_of
from edgenlp.tasks.task import Task, check_count, check_options
from edgenlp.tasks.task import stream as answered
from edgenlp.tasks.writing import Observer, extras, shown, takes, threaded
from edgenlp.tokens import as_text

__all__ = ["Rewriting"]

_ROWS = 16  # sequences that are written side by side unless batch_size says otherwise


class Rewriting(Task):
    """What the three tasks share; each names itself and its answers."""

    task: ClassVar[str]
    answers: ClassVar[str]  # first word of the result's keys

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        super().__init__(model, defaults)
        assert model.seq2seq.columns  # says so where the bundle has no encoder-decoder
        defaults_of(model.bundle, self.task, self.defaults)  # what is wrong with the options given here is said here
        wants_tensors(self.defaults)

    def _signature(
        self,
        inputs: Any,
        *,
        return_tensors: bool | None = None,
        return_text: bool | None = None,
        return_type: str | int | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        stop_sequence: str | None = None,
        target_prefix: str | None = None,
        alternatives: int | None = None,
        return_scores: bool | None = None,
        keep_stop: bool | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """The options of a call, for `takes`."""

    @takes(_signature)
    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Answer texts.

        Args:
            inputs: A text, a list or any iterable of texts.
            **options: Those of transformers' `Text2TextGenerationPipeline` and of its `generate`; besides them `target_prefix`
                (the answer begins with it), `alternatives` (the answers that begin with the so many likeliest tokens after
                `target_prefix`, the likeliest answer first), `return_scores` ("score": sum of the new tokens' log-probabilities
                over their number to the power of length_penalty, of beams transformers' `sequences_scores`), `keep_stop` (False
                leaves a stop string out of the answer), `long_input` and `batch_size` (most texts side by side).
                `long_input="stride"` answers a text beyond the window in parts, cut at the ends of sentences.

        Returns:
            As transformers 4.57: per text a list of results, one for each of `num_return_sequences`; for a list where that is
            1, a list of results. An iterable gives an iterator of lists.

        Raises:
            InputError: A text or an option cannot be used.
            TooLongError: A text is longer than the model's window.
        """
        order = self._order(options)
        size = options.get("batch_size", self.defaults.get("batch_size"))
        check_count("batch_size", size, optional=True)
        if order.writing.streamer is not None and not isinstance(inputs, str):
            raise InputError("a streamer follows one text; give one text, or leave streamer out")

        def step(texts: list[Any]) -> list[list[dict[str, Any]]]:
            return self._answered(texts, order, size)

        found = answered(inputs, _is_text, step, batch_size=size)
        if isinstance(inputs, list | tuple):
            lists: list[Any] = list(found)
            return [item[0] for item in lists] if all(len(item) == 1 for item in lists) else lists
        return found

    @takes(_signature)
    def stream(self, inputs: Any, **options: Any) -> Iterator[str]:
        """The answer to one text, piece by piece; together they are the text that a call with the same options returns.

        Nothing is computed ahead of what is asked for; closing the iterator, or leaving its loop, ends the work.

        Args:
            inputs: One text.
            **options: As of a call. Beams cannot be streamed: unless the call itself says num_beams, there is one.

        Yields:
            Text, never half a character (`edgenlp.streaming`).
        """
        if not isinstance(inputs, str):
            raise InputError(f"a stream follows one text, found {type(inputs).__name__}; stream each by itself")
        order = self._order(options, streams=True)
        for name in ("alternatives", "return_scores"):
            if order.given.get(name):
                raise InputError(f"{name} cannot be streamed; leave it out, or call the pipeline")
        if order.writing.num_return_sequences > 1:
            raise InputError("several sequences cannot be streamed; set num_return_sequences=1, or call the pipeline")
        if order.writing.num_beams > 1:
            raise InputError(
                f"num_beams={order.writing.num_beams} cannot be streamed: the best beam is known at the end only; set"
                " num_beams=1, or call the pipeline"
            )
        as_text(inputs)
        sources = None if order.strides else self._sources([inputs], order)[0]
        return self._pieces(inputs, order, sources)

    @takes(_signature)
    def astream(self, inputs: Any, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: the model runs in a thread of its own, the event loop stays free.

        Closing the iterator, or cancelling the task that reads it, ends the work after the step under way.
        """
        return threaded(self.stream(inputs, **options))

    def score(self, texts: Any, targets: Any, **options: Any) -> Any:
        """How likely the model finds given answers.

        Args:
            texts: A text, or a list of texts.
            targets: A text, or a list: one target for each text, or several for one text.
            **options: Of how texts are read, as of a call: languages, truncation, long_input ("error" or "truncate").

        Returns:
            Per target `{"logprob", "tokens", "mean", "perplexity", "token_logprobs"}` of its tokens and of the end token; natural
            logarithms. A token that the model is made to begin with is read, not scored.
        """
        order = self._order(options)
        if order.strides or order.alternatives or order.given.get("target_prefix"):
            raise InputError(
                "a target is scored against one whole text; leave out stride, alternatives and target_prefix"
            )
        alone = isinstance(texts, str) and isinstance(targets, str)
        wanted = [targets] if isinstance(targets, str) else list(targets)
        read = [texts] if isinstance(texts, str) else list(texts)
        if not isinstance(texts, str) and (isinstance(targets, str) or len(read) != len(wanted)):
            raise InputError(f"found {len(read)} texts and {len(wanted)} targets; give one target for each text")
        sources = sources_of(self.model, read, order)
        ids = [self._target(target, order) for target in wanted]
        skipped, found = len(order.forced), []
        for begin in range(0, len(sources), _ROWS):
            reading = self.model.seq2seq.read([source.ids for source in sources[begin : begin + _ROWS]])
            several = range(len(wanted)) if len(sources) == 1 else range(begin, min(begin + _ROWS, len(wanted)))
            for place in several:
                one = reading.of([0 if len(sources) == 1 else place - begin])
                found.append(scored(scoring.score(one, ids[place], "error")["token_logprobs"][skipped:]))
        return found[0] if alone else found

    def warmup(self) -> None:
        """Run the model once on a short text, so that the first real call finds memory and threads ready."""
        self.model.seq2seq.read([[0]]).start(1, 2).read([[0]])

    # From here on: one call, step by step.

    def _direction(self, options: Mapping[str, Any]) -> Direction:
        return Direction(self.task)

    def _check_length(self, length: int, least: int, most: int) -> None:
        """Warn where lengths make no sense for the task."""

    def _order(self, options: Mapping[str, Any], *, streams: bool = False) -> Order:
        check_options(type(self).__call__, options)
        return order_of(self.model, self.defaults, options, self._direction(options), streams=streams)

    def _sources(self, texts: list[Any], order: Order) -> list[list[Source]]:
        """Per text what is read: one source, unless it is too long and to be answered in parts."""
        found = []
        for text, source in zip(texts, sources_of(self.model, texts, order, whole=not order.strides), strict=True):
            if order.strides and len(source.ids) > longest(self.model):
                found.append(self._parts(text, order))
            else:
                if order.most is not None:
                    self._check_length(len(source.ids), order.writing.min_length, order.most)
                found.append([source])
        return found

    def _parts(self, text: str, order: Order) -> list[Source]:
        """A text that is too long, in parts; the answers to them are joined."""
        if order.writing.num_return_sequences > 1 or order.alternatives:
            name = "alternatives" if order.alternatives else "num_return_sequences"
            raise InputError(
                f"the text is longer than the window, and the answers to its parts are joined: {name} has no meaning there;"
                " leave it out, or shorten the text"
            )
        if order.writing.streamer is not None:
            raise InputError("a streamer follows one text that fits the window; use stream(), or shorten the text")
        parts = parts_of(self.model, text, order)
        sources = sources_of(self.model, [part.text for part in parts], order)
        return [
            dataclasses.replace(source, first=order.plain if place else order.first, after=part.after)
            for place, (source, part) in enumerate(zip(sources, parts, strict=True))
        ]

    def _answered(self, texts: list[Any], order: Order, size: int | None) -> list[list[dict[str, Any]]]:
        sources = self._sources(texts, order)
        answers = iter(self._write_all([source for group in sources for source in group], order, size))
        results = []
        for group in sources:
            found = [next(answers) for _ in group]
            if len(group) == 1:
                results.append(self._results(found[0], order))
            else:
                results.append([self._joined(group, [item[0] for item in found], order)])
        return results

    def _write_all(self, sources: list[Source], order: Order, size: int | None = None) -> list[list[Answer]]:
        each = max(order.writing.num_beams, order.writing.num_return_sequences) * (order.alternatives or 1)
        rows = size or max(1, _ROWS // each)
        places = list(range(len(sources)))
        if len(places) > rows and order.writing.prefix_allowed_tokens_fn is None:  # which is told a text's number
            places.sort(
                key=lambda place: len(sources[place].ids), reverse=True
            )  # neighbours of a length: little padding
        found: list[list[Answer]] = [[] for _ in sources]
        for begin in range(0, len(places), rows):
            part = places[begin : begin + rows]
            for place, answers in zip(part, self._write([sources[place] for place in part], order), strict=True):
                found[place] = answers
        return found

    def _write(self, sources: list[Source], order: Order) -> list[list[Answer]]:
        writing, observer = order.writing, None
        if writing.streamer is not None:
            observer = Observer(writing.streamer, sources[0].first)
            writing = dataclasses.replace(
                writing, streamer=None, stopping_criteria=(*writing.stopping_criteria, observer)
            )
        if order.given.get("return_scores") or order.alternatives:
            writing = dataclasses.replace(writing, output_logprobs=writing.output_logprobs or writing.num_beams == 1)
        reading = self.model.seq2seq.read([source.ids for source in sources])
        if order.alternatives:
            return alternatives(reading, sources, writing, order.alternatives, self._decode)
        found = written(reading, sources, writing, self._decode)
        if observer is not None:
            observer.end(found[0][0].item.ids)
        return found

    def _decode(self, ids: Sequence[int]) -> str:
        return self.model.target_tokens.decode(ids, clean_up=False)

    def _text(self, answer: Answer, order: Order) -> str:
        text = self.model.target_tokens.decode(answer.ids, skip_special_tokens=True, clean_up=order.clean_up)
        for stop in order.hidden_stops:
            text = text.partition(stop)[0]
        return text

    def _results(self, answers: list[Answer], order: Order) -> list[dict[str, Any]]:
        most, pad = max((len(answer.ids) for answer in answers), default=0), order.writing.pad_token_id
        results = []
        for answer in answers:
            ids = list(answer.ids)
            if pad is not None:  # sequences of one text are of one length, as transformers' tensor of them
                ids += [pad] * (most - len(ids))
            result: dict[str, Any] = (
                {f"{self.answers}_token_ids": ids}
                if order.tensors
                else {f"{self.answers}_text": self._text(answer, order)}
            )
            if order.given.get("return_scores") or order.alternatives:
                result["score"] = answer.score
            if order.writing.return_dict_in_generate:
                result |= extras(answer.item, alone=True)
            results.append(result)
        return results

    def _joined(self, sources: list[Source], answers: list[Answer], order: Order) -> dict[str, Any]:
        """The answer to a text from those to its parts; lists are appended, `score` is the mean over the tokens."""
        found = [self._results([answer], order)[0] for answer in answers]
        key = next(iter(found[0]))
        result: dict[str, Any] = {}
        if order.tensors:
            result[key] = [token for item in found for token in item[key]]
        else:
            after = [source.after for source in sources[:-1]] + [""]
            result[key] = "".join(item[key] + space for item, space in zip(found, after, strict=True))
        for name in list(found[0])[1:]:
            if name == "score":
                sizes = [answer.new for answer in answers]
                total = math.fsum((answer.score or 0.0) * size for answer, size in zip(answers, sizes, strict=True))
                result[name] = total / max(1, sum(sizes))
            else:
                result[name] = [value for item in found for value in item[name]]
        return result

    def _pieces(self, text: str, order: Order, sources: list[Source] | None) -> Iterator[str]:
        space = ""
        for source in self._sources([text], order)[0] if sources is None else sources:
            if space:
                yield space
            pieces = TextPieces(self.model.target_tokens, clean_up=order.clean_up, stop=order.hidden_stops)
            steps = stream(
                self.model.seq2seq.read([source.ids]),
                [list(source.first)],
                order.writing,
                decode=self._decode,
                sources=[np.array(source.ids, np.int64)],
            )
            yield from shown(steps, pieces, source.first)
            space = source.after

    def _target(self, target: Any, order: Order) -> list[int]:
        tokens = self.model.target_tokens
        ids = tokens.ids(tokens.encode([as_text(target, "a target")], special_tokens=False)[0][0])
        ids = [*order.plain, *order.forced, *ids, *order.writing.eos_token_id[:1]]
        if len(ids) > self.model.seq2seq.target_window:
            raise TooLongError(
                f"the target is {len(ids)} tokens long, the model writes at most {self.model.seq2seq.target_window}; shorten it"
            )
        return ids


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
