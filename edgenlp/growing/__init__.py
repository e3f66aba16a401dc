"""Traced graphs that write, whose keys and values come back longer: what is said of them, what they have read, and their passes."""

__all__: list[str] = []
