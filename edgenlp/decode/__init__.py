"""Ids to more ids: options, processors of scores, draws, stopping rules and the loops over them. Knows no text, task or graph."""

__all__: list[str] = []
