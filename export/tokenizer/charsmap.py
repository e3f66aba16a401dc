"""Whether SentencePiece's compiled normalization rules are sound. Knows the format of the rules and nothing else.

The tokenizers library walks these rules without looking where it goes: a damaged file stops the program, at load or at
the first unlucky text. The format (`Normalizer::DecodePrecompiledCharsMap` of google/sentencepiece, units of
darts-clone): the size of a trie in bytes, the trie as an array of 32-bit units, and the texts that are put in, each
ended by a zero byte.
"""

import numpy as np

__all__ = ["check_charsmap", "rule_of"]


def check_charsmap(charsmap: bytes) -> None:
    """Check rules that are not empty.

    Raises:
        ValueError: They are truncated or damaged.
    """
    size = int.from_bytes(charsmap[:4], "little")
    if len(charsmap) < 8 or size == 0 or size % 4 or size > len(charsmap) - 4:
        raise ValueError(f"normalization rules of {len(charsmap)} bytes claim a trie of {size}")
    units = np.frombuffer(charsmap, dtype="<u4", count=size // 4, offset=4).astype(np.int64)
    texts = charsmap[4 + size :]
    texts.decode("utf-8")  # UnicodeDecodeError is a ValueError
    for value in _reachable_values(units).tolist():
        if value >= len(texts) or texts[value] & 0xC0 == 0x80:  # behind the texts, or inside a character
            raise ValueError("a normalization rule points to no text")


def rule_of(charsmap: bytes, text: str) -> str | None:
    """What rules that are not empty, and sound, put in the place of `text`, None where none is about all of it."""
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap, dtype="<u4", count=size // 4, offset=4).astype(np.int64)
    node, unit = int(_children(units, np.zeros(1, dtype=np.int64))[0]), 0
    for byte in text.encode():
        place = node ^ byte
        unit = int(units[place])
        if unit & 0x8000_00FF != byte:
            return None
        node = int(_children(units, np.asarray([place]))[0])
    if not unit >> 8 & 1:
        return None
    begin = 4 + size + (int(units[node]) & 0x7FFF_FFFF)
    return charsmap[begin : charsmap.index(b"\0", begin)].decode("utf-8")


def _reachable_values(units: np.ndarray) -> np.ndarray:
    """The values of all leaves that some text leads to; the places from which one may step are checked on the way."""
    bytes_ = np.arange(1, 256)
    seen = np.zeros(len(units), dtype=bool)
    frontier = _children(units, np.zeros(1, dtype=np.int64))
    leaves = []
    while frontier.size:
        steps = frontier[:, None] ^ bytes_  # [nodes, 255]: where each next byte leads
        if int(steps.max()) >= len(units):
            raise ValueError("the trie of the normalization rules leads outside itself")
        found = (units[steps] & 0x8000_00FF) == bytes_  # the label of a unit says which byte leads to it
        nodes = np.unique(steps[found])
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
        frontier = _children(units, nodes)
        ended = frontier[units[nodes] >> 8 & 1 == 1]
        if ended.size and int(ended.max()) >= len(units):
            raise ValueError("the trie of the normalization rules leads outside itself")
        leaves.append(units[ended] & 0x7FFF_FFFF)
    return np.concatenate(leaves) if leaves else np.empty(0, dtype=np.int64)


def _children(units: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Where the children of `nodes` begin: each unit's offset, over its own place."""
    chosen = units[nodes]
    offsets: np.ndarray = (chosen >> 10) << ((chosen & 0x200) >> 6)
    begins: np.ndarray = nodes ^ offsets
    return begins
