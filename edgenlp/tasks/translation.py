"""Texts to the same in another language. Knows languages and how checkpoints name them, not how a model writes."""

import difflib
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from edgenlp.bundle import Languages
from edgenlp.errors import InputError
from edgenlp.model import Model
from edgenlp.tasks.orders import Direction
from edgenlp.tasks.rewriting import Rewriting
from edgenlp.tasks.writing import takes, threaded

__all__ = ["Translation"]


class Translation(Rewriting):
    """`pipeline("translation")` and `pipeline("translation_xx_to_yy")`; results hold `translation_text` or `translation_token_ids`.

    Which languages a text is in and wanted in is said by `src_lang` and `tgt_lang`, or by the name of the task. A model of many
    languages has a token for each. One that was taught by prefixes (T5) has options for the pairs it knows, which are then chosen.
    One that was trained for a single pair needs neither: there the task's name is accepted, the options are refused.
    """

    task = "translation"
    answers = "translation"

    def __init__(self, model: Model, defaults: Mapping[str, Any], *, pair: tuple[str, str] | None = None) -> None:
        self._pair = pair
        self._known = sorted(name for name in model.bundle.task_options if name.startswith("translation_"))
        super().__init__(model, defaults)
        self._check_given(*self._wanted({}))
        if not self._pair and self.defaults.get("tgt_lang") is None and len(self._known) > 1:
            warnings.warn(
                f"the model translates as {', '.join(self._known)}, and the task says none of them: it is {self._known[0]}, as in"
                " transformers; name the task so, or give src_lang and tgt_lang",
                stacklevel=3,
            )

    def _signature(
        self,
        inputs: Any,
        *,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
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
        """Translate texts: as `Rewriting`'s call, with `src_lang` and `tgt_lang`, codes as the checkpoint's tokenizer takes them.

        Raises:
            InputError: Also for a language that the model does not know, which names those that it does.
        """
        return super().__call__(inputs, **options)

    @takes(_signature)
    def stream(self, inputs: Any, **options: Any) -> Iterator[str]:
        """Translate one text, piece by piece; see `Rewriting.stream`."""
        pieces: Iterator[str] = super().stream(inputs, **options)
        return pieces

    @takes(_signature)
    def astream(self, inputs: Any, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio; see `Rewriting.astream`."""
        return threaded(self.stream(inputs, **options))

    def _check_length(self, length: int, least: int, most: int) -> None:
        # TranslationPipeline.check_inputs of transformers 4.57; there also where nobody has chosen max_length
        if length > 0.9 * most:
            warnings.warn(
                f"the text has {length} tokens, more than 0.9 * max_length of {most}: its translation may not fit; consider a"
                " larger max_length",
                stacklevel=8,
            )

    def _wanted(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Codes of the languages that were asked for, None where nobody did."""
        given = {**self.defaults, **{name: value for name, value in options.items() if value is not None}}
        source, target = self._pair or (None, None)
        return given.get("src_lang") or source, given.get("tgt_lang") or target

    def _check_given(self, source: Any, target: Any) -> None:
        """Raise `InputError` where a language that was given to `pipeline(...)` is not the model's."""
        languages = self.bundle.languages
        if languages is not None:
            for name, code in (("src_lang", source), ("tgt_lang", target)):
                if code is not None:
                    _language(languages, code, name)
        elif not self._known:
            _refuse(self.defaults)
        elif source is not None and target is not None:
            self._named(source, target)

    def _named(self, source: Any, target: Any) -> str:
        """The task as the checkpoint's own options call it."""
        name = f"{self.task}_{source}_to_{target}"
        if name in self._known:
            return name
        raise InputError(
            f"the model has no prefix for {name}, it knows {', '.join(self._known)}; give src_lang and tgt_lang of one of them, or"
            " write the prefix yourself for the task text2text-generation"
        )

    def _direction(self, options: Mapping[str, Any]) -> Direction:
        source, target = self._wanted(options)
        languages = self.bundle.languages
        if languages is None:
            _refuse({} if self._known else {**self.defaults, **options})
            if self._known:
                return Direction(self._known[0] if source is target is None else self._named(source, target))
            return Direction(self.task if self._pair is None else f"{self.task}_{source}_to_{target}")
        forced = options.get("forced_bos_token_id")
        if forced is not None and options.get("tgt_lang") is not None:
            raise InputError("tgt_lang and forced_bos_token_id exclude each other; give one of them")
        if languages.target is not None:  # the checkpoint is one for a pair
            source, target = source or languages.source, target or languages.target
        if source is None or (target is None and forced is None):
            known = sorted(languages.ids)
            raise InputError(
                "a model of many languages translates from src_lang to tgt_lang; give both, found"
                f" src_lang={source!r} and tgt_lang={target!r}; it knows {', '.join(known)}"
            )
        return Direction(
            self.task,
            _language(languages, source, "src_lang"),
            forced if forced is not None else _language(languages, target, "tgt_lang"),
        )


def _refuse(given: Mapping[str, Any]) -> None:
    """Raise `InputError` where languages are given to a model that has none."""
    for name in ("src_lang", "tgt_lang"):
        if given.get(name) is not None:
            raise InputError(
                f"{name}={given[name]!r} has no effect: the model has no tokens for languages, it translates between those that"
                f" it was trained for; leave {name} out"
            )


def _language(languages: Languages, code: Any, option: str) -> int:
    """The id of a language's token.

    Raises:
        InputError: There is no such language; the nearest ones and all known ones are named.
    """
    if isinstance(code, str) and code in languages.ids:
        return languages.ids[code]
    text = str(code)
    known = sorted(languages.ids)
    near = (
        difflib.get_close_matches(text, known, 3) or [item for item in known if text and item.startswith(text[:2])][:3]
    )
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise InputError(f"{option}={code!r} is no language of this model; {hint}it knows {', '.join(known)}")
