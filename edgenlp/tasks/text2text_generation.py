"""Texts to whatever a model was trained to answer to them. Knows the name of its results only."""

from edgenlp.tasks.rewriting import Rewriting

__all__ = ["Text2TextGeneration"]


class Text2TextGeneration(Rewriting):
    """`pipeline("text2text-generation")`; results hold `generated_text` or `generated_token_ids`."""

    task = "text2text-generation"
    answers = "generated"
