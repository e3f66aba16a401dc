"""Questions to spans of a context. Knows how logits of starts and ends become answers; knows no tokenizer's rules."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgenlp.encode import Rows
from edgenlp.errors import InputError
from edgenlp.logits import best, softmax
from edgenlp.model import Model
from edgenlp.tasks.task import Task, check_choice, check_count, cut, options, stream
from edgenlp.tokens import Encoding, as_text

__all__ = ["Answer", "QuestionAnswering", "Spans", "best_spans", "masked_probabilities", "merge_answers"]

Floats = NDArray[np.float32]
Example = tuple[str, str]  # question, context

# What transformers uses where nobody says (QuestionAnsweringPipeline.preprocess).
_MAX_LENGTH = 384
_OVERLAP = 128


class Answer(TypedDict):
    """One answer: `context[start:end]`."""

    score: float
    start: int
    end: int
    answer: str


class Spans(NamedTuple):
    """The likeliest spans of one window, the likeliest first.

    Attributes:
        starts: First token of each.
        ends: Last token of each.
        scores: Probability of the start times that of the end.
        null: The same product for the first token, which stands for "no answer".
    """

    starts: list[int]
    ends: list[int]
    scores: list[float]
    null: float


class QuestionAnswering(Task):
    """`pipeline("question-answering")`: the part of a text that answers a question."""

    @options
    def __call__(
        self,
        inputs: Any = None,
        context: Any = None,
        *more: Any,
        question: Any = None,
        data: Any = None,
        X: Any = None,  # noqa: N803  # transformers' name
        top_k: int | None = None,
        topk: int | None = None,
        doc_stride: int | None = None,
        max_answer_len: int = 15,
        max_seq_len: int | None = None,
        max_question_len: int | None = None,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
        padding: bool | str | None = None,
        long_input: str | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Answer questions out of contexts.

        Args:
            inputs: `{"question": ..., "context": ...}`, a list of these, or any iterable of these; or a question.
            context: A context, or a list with one per question.
            more: Further `{"question": ..., "context": ...}`, where the first two arguments are such.
            question: A question, or a list of them.
            data: An old name of `inputs`.
            X: Another.
            top_k: Most answers to give.
            topk: The old name of `top_k`.
            doc_stride: Tokens that neighbouring windows of a long context share; None for half a window, at most 128.
            max_answer_len: Most tokens of an answer.
            max_seq_len: Most tokens of a window, question included; None for 384 or the model's window if that is less.
            max_question_len: Most tokens of a question, cut where it is longer; None for no limit.
            handle_impossible_answer: Whether to offer "" as an answer, by the score of the first token.
            align_to_words: Whether answers are widened to whole words, where the tokenizer knows words.
            padding: Accepted for transformers' sake; batches are padded as little as they can be, whatever it says.
            long_input: "stride" (the default), "truncate" to one window, or "error".
            batch_size: Most windows in one run of the model.

        Returns:
            As transformers 4.57: per question an `Answer`, or a list of them where there are several to give; a list of
            two or more questions gives a list, a list of one gives its only result; an iterable gives an iterator.

        Raises:
            InputError: An input or option cannot be used.
            TooLongError: With `long_input="error"`, a question and its context are longer than the model's window.
        """
        if topk is not None and top_k is None:
            warnings.warn("topk= is an old option; use top_k=", stacklevel=3)
            top_k = topk
        check_count("top_k", top_k, optional=True)
        check_count("max_answer_len", max_answer_len)
        check_count("max_question_len", max_question_len, optional=True)
        if not isinstance(padding, bool | None):
            check_choice("padding", padding, ("longest", "max_length", "do_not_pad"))
        window = window_of(self.model, max_seq_len, doc_stride, long_input)
        count = 1 if top_k is None else top_k
        # spans of tokens may share their words, so more are looked at (QuestionAnsweringPipeline.postprocess)
        candidates = count * 2 + 10 if align_to_words else count

        def step(items: list[Any]) -> list[Answer | list[Answer]]:
            examples = [self._shortened(example_of(item), max_question_len) for item in items]
            split = self.tokens.encode([short for _, short in examples], **window)
            flat = [encoding for group in split for encoding in group]
            find = partial(self._spans, flat, candidates, max_answer_len)
            spans = iter(self.encoder(flat, batch_size=batch_size, each=find))
            results: list[Any] = []
            for ((_, text), _), group in zip(examples, split, strict=True):
                found = [(encoding, next(spans)) for encoding in group]
                results.append(_answers(text, found, count, handle_impossible_answer, align_to_words))
            return results

        if data is not None or X is not None:
            inputs = data if X is None else X
        if isinstance(inputs, Mapping) and isinstance(context, Mapping):  # questions one after the other
            inputs, context, more = [inputs, context, *more], None, ()
        if more:
            raise InputError(f"expected a question and a context, found {len(more) + 2} arguments; send a list of them")
        asked = _asked(inputs, question, context)
        if isinstance(asked, list | tuple) and len(asked) == 1:
            asked = asked[0]
        return stream(asked, lambda value: isinstance(value, Mapping), step, batch_size=batch_size)

    def _shortened(self, example: Example, most: int | None) -> tuple[Example, Example]:
        """The example, and what of it is tokenized: the question ends with the character of its last allowed token."""
        if most is None:
            return example, example
        (encoding,) = self.tokens.encode([example[0]], special_tokens=False)[0]
        if len(encoding) <= most:
            return example, example
        return example, (example[0][: encoding.offsets[most - 1][1]], example[1])

    def _spans(self, windows: Sequence[Encoding], count: int, longest: int, index: int, rows: Rows) -> Spans:
        """The likeliest spans of one window's logits [tokens, 2]."""
        allowed = np.array([sequence == 1 for sequence in windows[index].sequence_ids])
        if (first := self.tokens.special_id("cls")) is not None:
            allowed |= np.array(windows[index].ids) == first
        return best_spans(rows["logits"], allowed, count, longest)


def window_of(model: Model, max_length: int | None, overlap: int | None, long_input: str | None) -> dict[str, Any]:
    """Arguments of `Tokens.encode`: only the context is cut.

    Raises:
        InputError: The windows would share all that they hold.
    """
    check_count("max_seq_len", max_length, optional=True)
    check_count("doc_stride", overlap, least=0, optional=True)
    length = min(max_length or min(model.bundle.tokenizer.max_length or _MAX_LENGTH, _MAX_LENGTH), model.bundle.window)
    shared = min(length // 2, _OVERLAP) if overlap is None else overlap
    if shared >= (room := length - model.tokens.special_count()):
        raise InputError(f"doc_stride must be less than the {room} tokens of text that a window holds, found {shared}")
    way = "stride" if long_input is None else long_input
    arguments = cut(model, way, way, truncation="only_second", max_length=length, overlap=shared)
    if way == "error":
        return arguments
    # as given, even where the tokenizer was declared for less
    return {**arguments, "max_length": length, "truncation": "only_second"}


def masked_probabilities(logits: Floats, allowed: NDArray[np.bool_]) -> Floats:
    """Probabilities of start and end [2, tokens] from `logits` [tokens, 2]; a token not `allowed` [tokens] has none.

    The others are set to -10000 first (`select_starts_ends` of transformers).
    """
    return softmax(np.where(allowed, np.ascontiguousarray(logits.T), np.float32(-10000.0)))


def best_spans(logits: Floats, allowed: NDArray[np.bool_], count: int, longest: int) -> Spans:
    """The likeliest spans by the probability of the start times that of the end, neither before it nor too far behind.

    The formula of `decode_spans` of transformers (after DrQA, Chen et al. 2017), on the band of possible ends alone: a
    window of 512 tokens and answers of 15 cost 7680 products instead of 262144.

    Args:
        logits: Of start and end [tokens, 2].
        allowed: Whether a token can begin or end an answer [tokens].
        count: How many spans.
        longest: Most tokens of a span.

    Returns:
        At most `count` spans, of equal ones those that come first. The first token, if allowed, is a span of score 0,
        so that "" fills up what a short context leaves open.
    """
    begin, end = masked_probabilities(logits, allowed)
    null = float(begin[0] * end[0])
    begin[0] = end[0] = 0.0
    width = min(longest, len(allowed))
    rest = width - 1
    ends = sliding_window_view(np.pad(end, (0, rest)), width)  # [tokens, width]
    possible = allowed[:, None] & sliding_window_view(np.pad(allowed, (0, rest)), width)
    possible[0, 1:] = False
    scores = np.where(possible, begin[:, None] * ends, np.float32(-1.0)).ravel()
    chosen = best(scores, count)
    chosen = chosen[scores[chosen] >= 0]
    starts = chosen // width
    return Spans(starts.tolist(), (starts + chosen % width).tolist(), scores[chosen].tolist(), null)


def merge_answers(answers: Sequence[Answer]) -> list[Answer]:
    """Answers of one wording, letter case aside, as one: the place of the first, the sum of their scores."""
    merged: dict[str, Answer] = {}
    for answer in answers:
        kept = merged.setdefault(answer["answer"].lower(), {**answer, "score": 0.0})
        kept["score"] += answer["score"]
    return list(merged.values())


def example_of(item: Any) -> Example:
    """The question and context of one input, checked.

    Raises:
        InputError: It lacks one of them, or one is empty or no text.
    """
    if not isinstance(item, Mapping):
        raise InputError(f'expected {{"question": ..., "context": ...}}, found {type(item).__name__}')
    values = []
    for name in ("question", "context"):
        if name not in item:
            keys = ", ".join(map(str, item)) or "no key"
            raise InputError(f'expected {{"question": ..., "context": ...}}, found {keys}')
        if not as_text(item[name], f"the {name}"):
            raise InputError(f"the {name} is empty; give a {name}")
        values.append(item[name])
    return values[0], values[1]


def _asked(inputs: Any, question: Any, context: Any) -> Any:
    """What was asked, in any of the forms that transformers takes, as one mapping or an iterable of mappings."""
    if question is None and context is None and inputs is not None and not isinstance(inputs, str):
        if isinstance(inputs, Mapping) and isinstance(inputs.get("question"), list):
            return _paired(inputs["question"], inputs.get("context"))
        return inputs
    if inputs is not None and question is not None:
        raise InputError("the question is given twice; give it once, with its context")
    return _paired(inputs if question is None else question, context)


def _paired(question: Any, context: Any) -> Any:
    """One question with its context, several with one each, or several that share one."""
    if question is None or context is None:
        raise InputError(f"the {'question' if question is None else 'context'} is missing; give question= and context=")
    if not isinstance(question, list):
        return {"question": question, "context": context}
    contexts = context if isinstance(context, list) else [context] * len(question)
    if len(question) != len(contexts):
        raise InputError(f"there are {len(question)} questions and {len(contexts)} contexts; give as many of each")
    return [{"question": one, "context": other} for one, other in zip(question, contexts, strict=True)]


def _answers(
    text: str, found: Sequence[tuple[Encoding, Spans]], count: int, impossible: bool, whole_words: bool
) -> Answer | list[Answer]:
    """The answers to one question out of all its windows."""
    answers = []
    for encoding, spans in found:
        for first, last, score in zip(spans.starts, spans.ends, spans.scores, strict=True):
            start, end = _characters(encoding, first, last, whole_words)
            answers.append(Answer(score=score, start=start, end=end, answer=text[start:end]))
    answers = merge_answers(answers)
    if impossible:
        answers.append(Answer(score=min(spans.null for _, spans in found), start=0, end=0, answer=""))
    answers = sorted(answers, key=lambda answer: answer["score"], reverse=True)[:count]
    return answers[0] if len(answers) == 1 else answers


def _characters(encoding: Encoding, first: int, last: int, whole_words: bool) -> tuple[int, int]:
    """Where a span of tokens begins and ends in the context."""
    if whole_words:
        words = encoding.token_to_word(first), encoding.token_to_word(last)
        places = [None if word is None else encoding.word_to_chars(word, 1) for word in words]
        if places[0] is not None and places[1] is not None:
            return places[0][0], places[1][1]
    return encoding.offsets[first][0], encoding.offsets[last][1]
