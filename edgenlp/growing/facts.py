"""What `edgenlp.json` says of a traced graph that writes: names, axes and numbers of its inputs and outputs. Knows no graph."""

from dataclasses import dataclass

from edgenlp.errors import BundleError

__all__ = ["Crossing", "Growing", "Grows", "check_growing"]

_AXES = 8  # of an array that a graph hands on


@dataclass(frozen=True)
class Grows:
    """An array of keys or values that a graph gives back longer by what it has read, and takes again in its next run.

    Attributes:
        past: Name of the input; before anything was read its axis `time` is 0.
        present: Name of the output.
        batch: Axis of the rows.
        time: Axis of the positions; all others are numbers in the graph.
    """

    past: str
    present: str
    batch: int = 0
    time: int = 2


@dataclass(frozen=True)
class Crossing:
    """Keys or values of a cross-attention, which do not grow.

    Attributes:
        given: Name of the output of the graph that reads sources.
        taken: Name of the input of the graph that writes.
        batch: Axis of the rows, of both.
        time: Axis of the source's positions, of both; all others are numbers in the graph.
    """

    given: str
    taken: str
    batch: int = 0
    time: int = 2


@dataclass(frozen=True)
class Growing:
    """How a decoder's graph that was traced, not written for a cache in place, takes what it has read and where its tokens stand.

    Attributes:
        caches: Keys and values, in any order.
        ids: Input [rows, new], the new ids.
        logits: Output [rows, new, columns].
        hidden: Output [rows, new, width], the last hidden states; None where there are none.
        mask: Input [rows, past + new] that is 1 where a token stands, else 0; None where the graph takes none.
        positions: Input [rows, new], the number of each new token in its row; None where the graph counts by itself.
        cache_positions: Input [new], the number of each new column, what was read before counted; None where the graph takes none.
        first_position: What `positions` begin at.
        ragged: Whether rows of unequal lengths may share a run: there is a mask, and positions are given or counted from it. Else
            they are run apart.
        width: Most new ids of one run; None for any number.
        crossings: Of an encoder-decoder.
        source_mask: Input [rows, source] of an encoder-decoder that is 1 where the source has a token; None where it takes none.
        source_multiple: What the lengths of sources are filled up to a multiple of.
    """

    caches: tuple[Grows, ...]
    ids: str = "input_ids"
    logits: str = "logits"
    hidden: str | None = None
    mask: str | None = None
    positions: str | None = None
    cache_positions: str | None = None
    first_position: int = 0
    ragged: bool = False
    width: int | None = None
    crossings: tuple[Crossing, ...] = ()
    source_mask: str | None = None
    source_multiple: int = 1


def check_growing(growing: Growing, graphs: set[str], where: str, *, most: int) -> None:
    """That the names and numbers of a traced graph's inputs can be used; whether the graph has them is seen when it is loaded.

    Args:
        growing: What was read.
        graphs: Roles of the bundle's graphs.
        where: What was read from, for messages.
        most: Largest number of tokens.

    Raises:
        BundleError: They cannot.
    """
    wanted = {"decoder", "encoder"} if growing.crossings else {"decoder"}
    if graphs != wanted:
        raise BundleError(f"{where} needs the graphs {sorted(wanted)}, found {sorted(graphs)}; export the bundle again")
    if not growing.caches:
        raise BundleError(f"{where}: there are no caches; export the bundle again")
    inputs = [item.past for item in growing.caches] + [item.taken for item in growing.crossings]
    others = (growing.ids, growing.mask, growing.positions, growing.cache_positions, growing.source_mask)
    inputs += [name for name in others if name is not None]
    outputs = [item.present for item in growing.caches] + [growing.logits, *filter(None, [growing.hidden])]
    given = [item.given for item in growing.crossings]
    for names in (inputs, outputs, given):
        if not all(names) or len(set(names)) < len(names):
            raise BundleError(f"{where}: a name is empty or used twice among {names}; export the bundle again")
    arrays: tuple[Grows | Crossing, ...] = (*growing.caches, *growing.crossings)
    for array in arrays:
        if array.batch == array.time or not (0 <= array.batch < _AXES and 0 <= array.time < _AXES):
            raise BundleError(f"{where}: {array.batch} and {array.time} are not two axes; export the bundle again")
    width = 1 if growing.width is None else growing.width
    numbers = (growing.first_position + 1, growing.source_multiple, width)
    if min(numbers) < 1 or max(numbers) > most:
        raise BundleError(
            f"{where}: first_position {growing.first_position}, source_multiple {growing.source_multiple} or width"
            f" {growing.width} is out of range; export the bundle again"
        )
    if growing.ragged and growing.mask is None:
        raise BundleError(
            f"{where}: rows of unequal lengths cannot share a run without a mask; export the bundle again"
        )
