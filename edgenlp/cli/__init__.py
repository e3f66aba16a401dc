"""`edgenlp export | run | inspect | probe-bias | bench`: arguments in, answers for people or for programs out. Knows no arrays."""

from edgenlp.cli.commands import main

__all__ = ["main"]
