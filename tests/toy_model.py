"""A small GPT-2 in plain numpy that implements the decoder's interface. Knows no graph, no cache and no file.

It computes every row from the ids that it keeps, one row at a time, so that its answers cannot depend on the batch. The recorder
of reference answers loads the same weights into transformers' GPT2LMHeadModel.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgenlp.logits import log_softmax

__all__ = ["COLUMNS", "CONFIG", "EOS", "WINDOW", "ToyDecoder", "ToySequences", "forward", "weights"]

COLUMNS = 61
WINDOW = 96
EOS = 7
_HIDDEN = 32
_HEADS = 4
_LAYERS = 2

# transformers' GPT2Config of the same model
CONFIG = {
    "vocab_size": COLUMNS,
    "n_positions": WINDOW,
    "n_embd": _HIDDEN,
    "n_layer": _LAYERS,
    "n_head": _HEADS,
    "activation_function": "gelu_new",
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}

Arrays = dict[str, NDArray[np.float32]]
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


def weights(seed: int = 1) -> Arrays:
    """The tensors of a GPT2LMHeadModel by name, large enough that the choices are clear and varied."""
    random = np.random.RandomState(seed)
    wide = 4 * _HIDDEN

    def normal(scale: float, *shape: int) -> NDArray[np.float32]:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    tensors = {
        "transformer.wte.weight": normal(1.0, COLUMNS, _HIDDEN),
        "transformer.wpe.weight": normal(0.4, WINDOW, _HIDDEN),
    }
    for layer in range(_LAYERS):
        name = f"transformer.h.{layer}."
        tensors |= {
            name + "ln_1.weight": 1 + normal(0.1, _HIDDEN),
            name + "ln_1.bias": normal(0.1, _HIDDEN),
            name + "attn.c_attn.weight": normal(0.25, _HIDDEN, 3 * _HIDDEN),
            name + "attn.c_attn.bias": normal(0.1, 3 * _HIDDEN),
            name + "attn.c_proj.weight": normal(0.25, _HIDDEN, _HIDDEN),
            name + "attn.c_proj.bias": normal(0.1, _HIDDEN),
            name + "ln_2.weight": 1 + normal(0.1, _HIDDEN),
            name + "ln_2.bias": normal(0.1, _HIDDEN),
            name + "mlp.c_fc.weight": normal(0.2, _HIDDEN, wide),
            name + "mlp.c_fc.bias": normal(0.1, wide),
            name + "mlp.c_proj.weight": normal(0.2, wide, _HIDDEN),
            name + "mlp.c_proj.bias": normal(0.1, _HIDDEN),
        }
    tensors |= {"transformer.ln_f.weight": 1 + normal(0.1, _HIDDEN), "transformer.ln_f.bias": normal(0.1, _HIDDEN)}
    tensors["lm_head.weight"] = normal(0.35, COLUMNS, _HIDDEN)
    tensors["lm_head.weight"][EOS] *= 1.2  # the end is reached now and then
    return tensors


def forward(tensors: Arrays, ids: Sequence[int]) -> Outputs:
    """Logits [len(ids), COLUMNS] and last hidden states [len(ids), hidden], after the final norm, of one row."""
    count = len(ids)
    x = tensors["transformer.wte.weight"][np.asarray(ids)] + tensors["transformer.wpe.weight"][:count]
    future = np.triu(np.ones((count, count), bool), 1)
    for layer in range(_LAYERS):
        own = {
            key.split(".", 3)[3]: value for key, value in tensors.items() if key.startswith(f"transformer.h.{layer}.")
        }
        mixed = _norm(x, own["ln_1.weight"], own["ln_1.bias"]) @ own["attn.c_attn.weight"] + own["attn.c_attn.bias"]
        query, key, value = (
            part.reshape(count, _HEADS, -1).transpose(1, 0, 2) for part in np.split(mixed, 3, axis=-1)
        )  # [heads, count, width]
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(_HIDDEN // _HEADS))
        scores[:, future] = -np.inf
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        context = (shares @ value).transpose(1, 0, 2).reshape(count, -1)
        x = x + context @ own["attn.c_proj.weight"] + own["attn.c_proj.bias"]
        inner = _norm(x, own["ln_2.weight"], own["ln_2.bias"]) @ own["mlp.c_fc.weight"] + own["mlp.c_fc.bias"]
        inner = 0.5 * inner * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (inner + np.float32(0.044715) * inner**3)))
        x = x + inner @ own["mlp.c_proj.weight"] + own["mlp.c_proj.bias"]
    hidden = _norm(x, tensors["transformer.ln_f.weight"], tensors["transformer.ln_f.bias"])
    return hidden @ tensors["lm_head.weight"].T, hidden


def _norm(x: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + np.float32(1e-5)) * weight + bias


class ToySequences:
    """A batch of rows under way; checks that it is used as the real one may be used."""

    def __init__(self, owner: "ToyDecoder", rows: int, capacity: int, most: int, hidden: bool) -> None:
        self._owner = owner
        self._rows: list[list[int]] = [[] for _ in range(rows)]
        self._most = most
        self._wants_hidden = hidden
        self._buffer: NDArray[np.float32] | None = None
        self.capacity = capacity
        self.columns = COLUMNS
        self.hidden: list[NDArray[np.float32]] | None = None

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(row) for row in self._rows], np.int64)

    def read(self, ids: Sequence[Sequence[int]], *, every: bool = False) -> Any:
        assert len(ids) == len(self._rows)
        assert all(len(item) > 0 for item in ids)
        self._owner.runs += 1
        outputs = [self._append(place, item) for place, item in enumerate(ids)]
        if self._wants_hidden:
            self.hidden = [hidden for _, hidden in outputs]
        if every:
            return [logits for logits, _ in outputs]
        return np.stack([logits[-1] for logits, _ in outputs])

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        assert tokens.shape == (len(self._rows),)
        if self._buffer is None or len(self._buffer) != len(tokens):
            self._buffer = np.empty((len(tokens), COLUMNS), np.float32)
        self._buffer[:] = np.nan  # whoever kept the last step's logits without copying them finds out
        self._owner.runs += 1
        outputs = [self._append(place, [int(token)]) for place, token in enumerate(tokens)]
        if self._wants_hidden:
            self.hidden = [hidden for _, hidden in outputs]
        self._buffer[:] = [logits[-1] for logits, _ in outputs]
        return self._buffer

    def log_softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return log_softmax(logits)

    def select(self, parents: Sequence[int]) -> None:
        assert 0 < len(parents) <= self._most
        self._rows = [list(self._rows[parent]) for parent in parents]

    def rewind(self, lengths: Sequence[int]) -> None:
        assert len(lengths) == len(self._rows)
        assert all(0 <= length <= len(row) for length, row in zip(lengths, self._rows, strict=True))
        self._rows = [row[:length] for row, length in zip(self._rows, lengths, strict=True)]

    def _append(self, place: int, ids: Sequence[int]) -> Outputs:
        row = self._rows[place]
        row.extend(int(token) for token in ids)
        assert len(row) <= min(self.capacity, WINDOW)
        self._owner.tokens += len(ids)
        return self._owner.last(row, len(ids))


class ToyDecoder:
    """The model. `tokens` counts the tokens read, `runs` the calls of `read` and `step`, over all sequences started."""

    window = WINDOW
    columns = COLUMNS

    _known: ClassVar[dict[tuple[int, ...], Outputs]] = {}  # of every beginning of a row that any model has seen

    def __init__(self) -> None:
        self._weights = weights()
        self.tokens = 0
        self.runs = 0

    def start(self, rows: int, capacity: int, *, most: int | None = None, hidden: bool = False) -> ToySequences:
        assert rows > 0
        assert capacity <= WINDOW
        return ToySequences(self, rows, capacity, most or rows, hidden)

    def last(self, row: Sequence[int], count: int) -> Outputs:
        """Logits and hidden states of the last `count` ids of a row, computed where no row ever began so."""
        lengths = range(len(row) - count + 1, len(row) + 1)
        if tuple(row) not in self._known:
            logits, hidden = forward(self._weights, row)
            for length in range(1, len(row) + 1):
                self._known.setdefault(tuple(row[:length]), (logits[length - 1].copy(), hidden[length - 1].copy()))
        found = [self._known[tuple(row[:length])] for length in lengths]
        return np.stack([logits for logits, _ in found]), np.stack([hidden for _, hidden in found])
