"""A finished model as a checkpoint folder: without rare words, with a card. Knows no task and no training."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from vocabulary import common, renumbered, without

__all__ = ["card", "save"]


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    data: Path,
    licence: str,
    about: str,
    least: int,
) -> None:
    """Write the checkpoint of a tuned BERT.

    Args:
        model: Left as it is.
        tokenizer: The same.
        folder: Where to.
        data: Folder of the data sets; their texts say which words are common.
        licence: Of the result, by its SPDX name.
        about: A sentence for the card.
        least: How often those texts must hold a word for it to be kept.
    """
    kept = common(tokenizer, data, least)
    without(model, kept).save_pretrained(folder)
    renumbered(tokenizer, kept).save_pretrained(folder)
    card(folder, licence, about)


def card(folder: Path, licence: str, about: str) -> None:
    """Say beside a checkpoint what it is; `edgenlp export` takes the licence from there."""
    (folder / "README.md").write_text(f"---\nlicense: {licence.lower()}\n---\n\n{about}\n", encoding="utf-8")
