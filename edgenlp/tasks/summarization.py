"""Texts to what they say in short. Knows how long texts are condensed window by window, not how a model writes."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from edgenlp.errors import InputError
from edgenlp.tasks.orders import Order
from edgenlp.tasks.rewriting import Rewriting
from edgenlp.tasks.sources import Source, longest, parts_of, sources_of

__all__ = ["Summarization"]

# What has no meaning for the summaries of windows, of which nobody sees more than their text
_PLAIN: Mapping[str, Any] = {
    "num_return_sequences": 1,
    "streamer": None,
    "output_scores": False,
    "output_logits": False,
    "output_logprobs": False,
    "return_dict_in_generate": False,
}


class Summarization(Rewriting):
    """`pipeline("summarization")`; results hold `summary_text` or `summary_token_ids`.

    With `long_input="stride"` windows of a text that is too long are summarised, each sharing its first sentences with the end of
    the one before, and then what the summaries say together, until that fits.
    """

    task = "summarization"
    answers = "summary"

    def _check_length(self, length: int, least: int, most: int) -> None:
        # SummarizationPipeline.check_inputs of transformers 4.57; there also where nobody has chosen max_length
        if most < least:
            warnings.warn(f"min_length={least} is above max_length={most}; lower it", stacklevel=7)
        if length < most:
            warnings.warn(
                f"max_length is {most} and the text has {length} tokens: a summary is expected to be shorter than its text;"
                f" consider max_length={length // 2}",
                stacklevel=7,
            )

    def _parts(self, text: str, order: Order) -> list[Source]:
        writing = dataclasses.replace(order.writing, **_PLAIN)
        given = {name: value for name, value in order.given.items() if name != "return_scores"}
        inner = dataclasses.replace(order, given=given, writing=writing, first=order.plain, alternatives=None)
        read = len(sources_of(self.model, [text], order, whole=False)[0].ids)
        while True:
            windows = [part.text for part in parts_of(self.model, text, order, overlaps=True)]
            written = self._write_all(sources_of(self.model, windows, inner), inner)
            summaries = [self._text(answers[0], inner).strip() for answers in written]
            text = " ".join(summary for summary in summaries if summary)
            source = sources_of(self.model, [text], order, whole=False)[0]
            if len(source.ids) <= longest(self.model):
                return [source]
            if len(source.ids) >= read:
                raise InputError(
                    f"a text of {read} tokens has summaries of {len(source.ids)} tokens, window by window: it does not become"
                    " shorter; lower max_new_tokens (or max_length), or give long_input='truncate'"
                )
            read = len(source.ids)
