"""What Longformer (Beltagy et al., 2020) has beside RoBERTa's parts: how far a token sees. Knows no graph and no file."""

from dataclasses import dataclass
from typing import Literal

from .parts import Dense, Encoder

__all__ = ["Globals", "LongEncoder", "Sight", "globals_of"]

_LEAST = 32  # queries of a block, however short the window

# Which tokens see all others and are seen by all: the first, those before the first separator, or none.
Globals = Literal["first", "question"] | None


@dataclass(frozen=True)
class Sight:
    """How far one layer sees.

    Attributes:
        reach: Tokens that a token sees on each side of it: half of `attention_window`.
        query, key, value: What a global token looks with, and what it then sees; others see it as they see all tokens.
    """

    reach: int
    query: Dense
    key: Dense
    value: Dense


@dataclass(frozen=True)
class LongEncoder:
    """RoBERTa's body, and how far its layers see.

    Attributes:
        body: Embeddings and layers.
        sights: One for each layer.
        separator: Id of the token that ends a question.
    """

    body: Encoder
    sights: tuple[Sight, ...]
    separator: int

    @property
    def block(self) -> int:
        """Queries of a block, at most: half the shortest reach. A block sees five such halves."""
        return max(_LEAST, min(sight.reach for sight in self.sights) // 2)

    @property
    def cut_from(self) -> int:
        """Fewest tokens of a text that is cut into blocks: one block that sees as much is no dearer."""
        return self.block + 2 * max(sight.reach for sight in self.sights) + 1

    @property
    def words(self) -> str:
        """Name of the word table."""
        return self.body.words

    @property
    def window(self) -> int:
        """Most tokens."""
        return self.body.window


def globals_of(head: str) -> Globals:
    """Which tokens are global under a head of this kind, where the caller names none: as transformers' classes decide.

    LongformerForSequenceClassification takes the first token, LongformerForQuestionAnswering those of the question
    (`_compute_global_attention_mask`), all others have none.
    """
    if head == "sequence-classification":
        return "first"
    return "question" if head == "question-answering" else None
