"""Traced graphs that write, in the form that the runtime grows their keys and values with. Knows names of inputs, no architecture.

A decoder keeps the inputs and outputs that optimum gives it; `edgenlp.json` says what each is. The keys and values of an
encoder-decoder's cross-attention, which optimum's decoder gives with its first token, are cut out of it and put behind the encoder.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper

from edgenlp.errors import UnsupportedError
from edgenlp.growing.facts import Crossing, Growing, Grows

from .graphs import Traces, referenced, renamed
from .names import Names
from .quantize import TracedGraph, Writer

__all__ = ["growing_of", "join_crossings", "write_decoder", "write_source"]

_PAST, _PRESENT = "past_key_values.", "present."
_KNOWN = ("input_ids", "attention_mask", "position_ids", "cache_position", "encoder_attention_mask")


def growing_of(decoder: Traces, *, crossing: bool, multiple: int = 1) -> Growing:
    """What the inputs and outputs of a traced decoder are.

    Args:
        decoder: The graph that takes a past.
        crossing: Whether it reads what an encoder gave.
        multiple: What sources are filled up to a multiple of.

    Raises:
        UnsupportedError: It has no cache, or inputs that are not known.
    """
    past = [name for name in decoder.inputs if name.startswith(_PAST)]
    taken = [name for name in past if ".encoder." in name]
    grown = [name for name in past if name not in taken]
    given = [name.replace(_PAST, _PRESENT) for name in grown]
    if unknown := sorted(set(decoder.inputs) - set(past) - {*_KNOWN, "encoder_hidden_states"}):
        raise UnsupportedError(
            f"the traced decoder wants {', '.join(unknown)}, which nothing gives; trace it as text-generation-with-past"
        )
    if not grown or any(name not in decoder.outputs for name in given) or "logits" not in decoder.outputs:
        raise UnsupportedError(
            "the traced decoder has no keys and values that go in and come out, so that every token would cost a whole text; trace it"
            " with past: optimum-cli export onnx --task text-generation-with-past"
        )
    for name in past:
        if len(decoder.inputs[name].shape) < 3:
            raise UnsupportedError(
                f"the traced decoder's {name} is no array of keys or values; its architecture keeps other things"
            )
    mask = "attention_mask" if "attention_mask" in decoder.inputs else None
    positions = "position_ids" if "position_ids" in decoder.inputs else None
    return Growing(
        caches=tuple(
            Grows(name, present, time=_time(decoder, name)) for name, present in zip(grown, given, strict=True)
        ),
        mask=mask,
        positions=positions,
        cache_positions="cache_position" if "cache_position" in decoder.inputs else None,
        ragged=mask is not None and positions is not None,
        crossings=tuple(
            Crossing(name.replace(_PAST, "cross.").replace(".encoder.", "."), name, time=_time(decoder, name))
            for name in taken
        ),
        source_mask="encoder_attention_mask" if crossing and "encoder_attention_mask" in decoder.inputs else None,
        source_multiple=multiple,
    )


def _time(graph: Traces, name: str) -> int:
    """The axis of positions: the last one that is no number."""
    free = [axis for axis, size in enumerate(graph.inputs[name].shape) if size is None and axis > 0]
    return free[0] if len(free) == 1 else 2


def write_decoder(graph: TracedGraph, source: Traces, names: Names) -> tuple[int, str | None]:
    """Write a decoder with its past; the columns of its logits, and the name of its word table."""
    for name, port in source.inputs.items():
        sizes = [size if size is not None else f"{name}.{axis}" for axis, size in enumerate(port.shape)]
        graph.input(name, sizes, port.dtype)
    writer = Writer(graph, source, names, heads=frozenset({"traced/logits"}))
    writer.write({})
    columns = source.outputs["logits"].shape[-1]
    if columns is None:
        raise UnsupportedError("the traced decoder does not say how many columns its logits have; trace it again")
    for name, port in source.outputs.items():
        if name != "logits" and not name.startswith(_PRESENT):
            continue
        # what comes out has the sizes of what goes in, which exporters forget to write down
        into = source.inputs.get(name.replace(_PRESENT, _PAST), port)
        sizes = [size if size is not None else f"{name}.{axis}" for axis, size in enumerate(into.shape)]
        graph.output(f"traced/{name}", name, sizes, port.dtype)
    return columns, writer.words


def join_crossings(encoder: Traces, first: Traces, crossings: Mapping[str, str]) -> Traces:
    """The encoder with what the decoder's first run makes of its states: keys and values of every cross-attention.

    Args:
        encoder: Not cleaned yet.
        first: The decoder without a past, not cleaned yet.
        crossings: Output of the joined graph to the output of `first` that it is.
    """
    makers = {name: node for node in first.nodes for name in node.output}
    needed, pending = set(), list(crossings.values())
    while pending:
        value = pending.pop()
        node = makers.get(value)
        if value in needed:
            continue
        needed.add(value)
        pending += list(referenced(node)) if node is not None else []
    own = {name: f"cross/{name}" for name in (*makers, *first.constants)}
    # the decoder's ids count for their number of rows only: one a row is enough
    own |= {
        "encoder_hidden_states": "last_hidden_state",
        "encoder_attention_mask": "attention_mask",
        "input_ids": "cross/first",
    }
    own |= {value: name for name, value in crossings.items()}
    constants = dict(encoder.constants)
    constants |= {f"cross/{name}": value for name, value in first.constants.items() if name in needed}
    constants |= {
        f"cross/{name}": np.array([number], np.int64) for name, number in (("begin", 0), ("end", 1), ("axis", 1))
    }
    nodes = copy.deepcopy(encoder.nodes)
    nodes.append(helper.make_node("Slice", ["input_ids", "cross/begin", "cross/end", "cross/axis"], ["cross/first"]))
    for node in first.nodes:
        if not needed & set(node.output):
            continue
        copied = copy.deepcopy(node)
        renamed(copied, own)
        for place, name in enumerate(copied.output):
            copied.output[place] = own.get(name, name)
        nodes.append(copied)
    outputs = {name: replace(first.outputs[value], name=name) for name, value in crossings.items()}
    return Traces(nodes, constants, dict(encoder.inputs), outputs, encoder.producer)


def write_source(graph: TracedGraph, source: Traces, names: Names, growing: Growing, decoder: Traces) -> str | None:
    """Write the graph that reads sources; the name of its word table."""
    if unknown := sorted(set(source.inputs) - {"input_ids", "attention_mask"}):
        raise UnsupportedError(f"the traced encoder wants {', '.join(unknown)}, which nothing gives; trace it again")
    for name in ("input_ids", "attention_mask"):
        graph.input(
            name, ("batch", "sequence"), source.inputs[name].dtype if name in source.inputs else TensorProto.INT64
        )
    writer = Writer(graph, source, names)
    writer.write({})
    for crossing in growing.crossings:
        into = decoder.inputs[crossing.taken]
        sizes = [size if size is not None else f"{crossing.given}.{axis}" for axis, size in enumerate(into.shape)]
        graph.output(f"traced/{crossing.given}", crossing.given, sizes)
    return writer.words
