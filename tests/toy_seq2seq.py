"""An encoder-decoder for tests of the tasks: the toy decoder, which sees the source before what it writes. Knows no graph."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from text_generation_cases import build_tokenizer
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from toy_model import COLUMNS, EOS, WINDOW, ToyDecoder, ToySequences

from edgenlp.bundle import Bundle, Head, Languages, Source, Vocabulary
from edgenlp.errors import InputError, TooLongError
from edgenlp.model import Model
from edgenlp.tokens import Tokens

__all__ = ["LANGUAGES", "SOURCE_WINDOW", "TARGET_WINDOW", "ToyModel", "toy_model"]

SOURCE_WINDOW = 40
TARGET_WINDOW = WINDOW - SOURCE_WINDOW
# codes to tokens of the toy's vocabulary that no text of the tests contains
LANGUAGES = Languages({"en_XX": 1, "fr_XX": 2, "de_DE": 28}, "en_XX", None, before=True)


class _Targets(ToySequences):
    """Rows that begin with their source; nobody sees that but the model."""

    def __init__(self, owner: ToyDecoder, sources: Sequence[Sequence[int]], capacity: int, most: int) -> None:
        longest = max(map(len, sources))
        super().__init__(owner, len(sources), min(WINDOW, capacity + longest), most, hidden=False)
        self._own = [len(source) for source in sources]
        self._rows = [list(source) for source in sources]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return super().lengths - np.array(self._own)

    def select(self, parents: Sequence[int]) -> None:
        super().select(parents)
        self._own = [self._own[parent] for parent in parents]

    def rewind(self, lengths: Sequence[int]) -> None:
        super().rewind([own + length for own, length in zip(self._own, lengths, strict=True)])


class _Reading:
    window = TARGET_WINDOW
    columns = COLUMNS

    def __init__(self, owner: ToyDecoder, sources: Sequence[Sequence[int]], rows: Sequence[int]) -> None:
        self._owner, self._sources, self._read = owner, [sources[row] for row in rows], sources

    def of(self, rows: Sequence[int]) -> "_Reading":
        return _Reading(self._owner, self._read, rows)

    def start(self, rows: int, capacity: int, *, most: int | None = None, hidden: bool = False) -> _Targets:
        assert rows == len(self._sources)
        assert capacity <= TARGET_WINDOW
        return _Targets(self._owner, self._sources, capacity, most or rows)


class _Seq2Seq:
    window = SOURCE_WINDOW
    target_window = TARGET_WINDOW
    columns = COLUMNS

    def __init__(self) -> None:
        self.toy = ToyDecoder()
        self.read_sources: list[list[int]] = []

    def read(self, sources: Sequence[Sequence[int]], *, batch_size: int | None = None) -> _Reading:
        if not sources or not min(map(len, sources)):
            raise InputError("a source has no tokens")
        if max(map(len, sources)) > SOURCE_WINDOW:
            raise TooLongError("a source is too long")
        self.read_sources += [list(source) for source in sources]
        return _Reading(self.toy, sources, range(len(sources)))


@dataclasses.dataclass(frozen=True)
class ToyModel(Model):
    """A model whose encoder-decoder is the toy's."""

    both: _Seq2Seq = dataclasses.field(default_factory=_Seq2Seq)

    @property
    def seq2seq(self) -> Any:
        return self.both


def _tokenizer(*, before: bool, ends: bool) -> Tokenizer:
    tokenizer = build_tokenizer()
    single = ("<u> " if before else "") + "$A" + (" </s>" if ends else "")
    tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<u>", 1), ("</s>", EOS)])
    return tokenizer


def toy_model(
    folder: Path,
    *,
    languages: Languages | None = None,
    ends: bool = True,
    generation: dict[str, Any] | None = None,
    task_options: dict[str, dict[str, Any]] | None = None,
    tokenizer_length: int | None = None,
) -> ToyModel:
    """The model; its tokenizer puts </s> behind a text where it `ends`, and English's token before it where there are languages."""
    file = folder / f"{len(list(folder.iterdir()))}.json"
    _tokenizer(before=languages is not None, ends=ends).save(str(file))
    special = {"bos": ("<s>", 0), "eos": ("</s>", EOS), "pad": ("<a>", 2), "unk": ("1", 31)}
    facts = Vocabulary(file.name, COLUMNS, tokenizer_length, special, False, "right", False, False)
    bundle = Bundle(
        folder=folder,
        name="toy",
        tasks=("text2text-generation", "summarization", "translation"),
        precision="fp32",
        graphs={},
        window=SOURCE_WINDOW,
        target_window=TARGET_WINDOW,
        tokenizer=facts,
        head=Head("seq2seq-lm"),
        files={},
        source=Source("toy", "toy", 1),
        languages=languages,
        generation={
            "bos_token_id": 0,
            "eos_token_id": EOS,
            "pad_token_id": 2,
            "decoder_start_token_id": 0,
            **(generation or {}),
        },
        task_options=task_options or {},
    )
    return ToyModel(bundle, Tokens(file, facts), {}, 1)
