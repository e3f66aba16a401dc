"""What an encoder-decoder writes for the sample texts: the pairs that its 4-bit layers are fitted to. Knows graphs that run, no bits.

A decoder's layers must be fitted to what they will read, which is what the model itself writes: other languages, other styles than
the sources'.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgenlp.decode.generate import generate
from edgenlp.decode.options import merged
from edgenlp.encoder_decoder import EncoderDecoder
from edgenlp.session import Session
from edgenlp.tokens import Tokens

from .sample import sample_ids

__all__ = ["rehearse"]

_LENGTH, _TOKENS, _ROWS = 64, 4096, 8
_KEPT = ("bad_words_ids", "bos_token_id", "eos_token_id", "forced_bos_token_id", "no_repeat_ngram_size", "pad_token_id")


def rehearse(
    graphs: tuple[Path, Path],
    tokens: Tokens,
    lines: Sequence[str],
    *,
    prefixes: Sequence[str],
    start: int,
    windows: tuple[int, int],
    options: Mapping[str, Any],
) -> tuple[list[list[int]], list[list[int]]]:
    """Sources and the targets that the model writes for them, each behind the start token.

    Args:
        graphs: Of the encoder and of the decoder.
        tokens: Of what is read.
        lines: Texts; as many are taken as make up a few thousand tokens.
        prefixes: What tasks put before a text; the texts take turns with them.
        start: The token that stands before every target.
        windows: Most tokens of a source and of a target.
        options: The checkpoint's generation options; of searches the greedy one is made.
    """
    texts = [prefixes[place % len(prefixes)] + line if prefixes else line for place, line in enumerate(lines)]
    sources = sample_ids(tokens, texts, min(windows[0], _LENGTH), most=_TOKENS)
    model = EncoderDecoder(
        *(Session(path) for path in graphs), window=windows[0], target_window=windows[1], tokens=_ROWS * _LENGTH
    )
    kept = {name: options[name] for name in _KEPT if options.get(name) is not None}
    chosen = merged({}, {**kept, "max_new_tokens": min(windows[1] - 1, _LENGTH)})
    targets = []
    for begin in range(0, len(sources), _ROWS):
        part = sources[begin : begin + _ROWS]
        found = generate(
            model.read(part), [[start]] * len(part), chosen, sources=[np.array(ids, np.int64) for ids in part]
        )
        targets += [[start, *best.ids] for (best,) in found]
    return sources, targets
