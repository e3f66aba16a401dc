"""What ModernBERT is described with beyond the common parts: names of tensors and facts. Knows no graph and no file."""

from dataclasses import dataclass

from .parts import Head, SourceEncoder

__all__ = ["MeanHead", "ModernBertEncoder", "cut_from"]


def cut_from(window: int) -> int:
    """Fewest tokens of a text that a local layer of this window cuts into blocks: three blocks at once are no dearer uncut."""
    return 3 * max(window // 2, 1) + 1


@dataclass(frozen=True)
class ModernBertEncoder(SourceEncoder):
    """ModernBERT's body (Warner et al., 2024): pre-norm blocks with rotary positions and gates.

    The `window` of a block's attention counts the tokens that a token sees to both sides, itself included: an odd number; None where
    it sees all. Query, key and value are the three thirds of one tensor.
    """

    @property
    def cut_from(self) -> int:
        """Fewest tokens of a text that every local layer cuts into blocks; 0 where there is no such layer."""
        return max((cut_from(block.attention.window) for block in self.blocks if block.attention.window), default=0)


@dataclass(frozen=True)
class MeanHead(Head):
    """A head that reads the mean of all real tokens where another reads the first token; `first_token` is set too."""
