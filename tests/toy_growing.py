"""Graphs as tracing gives them: small random transformers whose keys and values grow by concatenation. Knows no runtime.

The decoder is toy_model.py's GPT-2 of the same weights, so that its answers are known. The encoder-decoder is one of T5's kind, whose
decoder has no mask and counts positions from what it has read; `written` is its full pass in numpy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from toy_model import COLUMNS, weights

__all__ = ["LAYERS", "MULTIPLE", "TARGETS", "decoder_graph", "reading_graph", "writing_graph", "written"]

LAYERS = 2
MULTIPLE = 4  # that the encoder's sources must be filled up to
TARGETS = 48  # positions of the encoder-decoder's decoder
_HIDDEN, _HEADS = 32, 4
_SIZE = _HIDDEN // _HEADS

Array = NDArray[Any]


class _Ops:
    """Nodes and constants of a graph under construction; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def size(self, array: str, axis: int) -> str:
        """The number of elements along an axis, [1]."""
        return self.op("Shape", array, start=axis, end=axis + 1)

    def count(self, end: str) -> str:
        """0 up to the number [1]."""
        scalar = self.op("Squeeze", end)
        return self.op("Range", self.const(0), scalar, self.const(1))

    def dense(self, x: str, weight: Array, bias: Array) -> str:
        product = self.op("MatMul", x, self.const(weight, np.float32))
        return self.op("Add", product, self.const(bias, np.float32))

    def norm(self, x: str, weight: Array, bias: Array) -> str:
        scale, shift = self.const(weight, np.float32), self.const(bias, np.float32)
        return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5)

    def heads(self, x: str) -> str:
        """[batch, tokens, hidden] to [batch, heads, tokens, size]."""
        split = self.op("Reshape", x, self.const([0, 0, _HEADS, _SIZE]))
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def grown(self, name: str, x: str, axes: tuple[int, ...]) -> str:
        """`past_key_values.NAME` and x [batch, heads, tokens, size], laid out by `axes`, as `present.NAME`; given back as x is."""
        there = self.op("Transpose", x, perm=axes)
        whole = self.op("Concat", f"past_key_values.{name}", there, axis=axes.index(2), out=f"present.{name}")
        return self.op("Transpose", whole, perm=[axes.index(axis) for axis in range(4)])

    def attend(self, query: str, key: str, value: str, hidden: str | None) -> str:
        """Attention; `hidden` is true where a query may not look."""
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.op("Div", scores, self.const(np.sqrt(np.float32(_SIZE)), np.float32))
        if hidden:
            scores = self.op("Where", hidden, self.const(-np.inf, np.float32), scores)
        context = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        joined = self.op("Transpose", context, perm=[0, 2, 1, 3])
        return self.op("Reshape", joined, self.const([0, 0, _HIDDEN]))

    def future(self, ids: str, past: str, axis: int) -> str:
        """[new, past + new], true where a column is later than the query; and so [1, 1, new, past + new]."""
        before, new = self.size(past, axis), self.size(ids, 1)
        columns = self.count(self.op("Add", before, new))
        queries = self.op("Unsqueeze", self.op("Add", self.count(new), before), self.const([1]))
        return self.op("Less", queries, columns)

    def unseen(self, mask: str) -> str:
        """[batch, 1, 1, columns], true where the mask [batch, columns] is 0."""
        empty = self.op("Equal", mask, self.const(0))
        return self.op("Unsqueeze", empty, self.const([1, 2]))

    def bytes(self, inputs: dict[str, tuple[int, Sequence[Any]]], outputs: dict[str, Sequence[Any]]) -> bytes:
        """The graph."""
        given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "toy", given, made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data


def decoder_graph(*, axes: tuple[int, ...] = (0, 1, 2, 3), positions: str = "given", hidden: bool = True) -> bytes:
    """toy_model.py's GPT-2 with growing keys and values.

    Args:
        axes: Layout of keys and values, of batch 0, heads 1, time 2 and size 3.
        positions: "given" as position_ids, counted from the "mask", or from what was read before ("past"), then without a mask;
            "column" as cache_position, without a mask too.
        hidden: Whether the graph gives the last hidden states.
    """
    own, make = weights(), _Ops()
    batch, past, time = "batch_size", "past_sequence_length", axes.index(2)
    shape = [(batch, _HEADS, past, _SIZE)[axis] for axis in axes]
    longer = [(batch, _HEADS, "past_sequence_length + sequence_length", _SIZE)[axis] for axis in axes]
    names = [f"{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]
    inputs: dict[str, tuple[int, Sequence[Any]]] = {"input_ids": (TensorProto.INT64, [batch, "sequence_length"])}
    first = f"past_key_values.{names[0]}"
    no_look = make.future("input_ids", first, time)
    if positions in ("given", "mask"):
        inputs["attention_mask"] = (TensorProto.INT64, [batch, "past_sequence_length + sequence_length"])
        no_look = make.op("Or", no_look, make.unseen("attention_mask"))
    if positions == "given":
        inputs["position_ids"] = (TensorProto.INT64, [batch, "sequence_length"])
        places = "position_ids"
    elif positions == "mask":
        counted = make.op("Sub", make.op("CumSum", "attention_mask", make.const(1)), make.const(1))
        counted = make.op("Max", counted, make.const(0))
        ends = make.const([np.iinfo(np.int64).max])
        places = make.op("Slice", counted, make.size(first, time), ends, make.const([1]))
    elif positions == "column":
        inputs["cache_position"] = (TensorProto.INT64, ["sequence_length"])
        places = "cache_position"
    else:
        places = make.op("Add", make.count(make.size("input_ids", 1)), make.size(first, time))
    inputs |= {f"past_key_values.{name}": (TensorProto.FLOAT, shape) for name in names}
    x = make.op("Gather", make.const(own["transformer.wte.weight"], np.float32), "input_ids")
    x = make.op("Add", x, make.op("Gather", make.const(own["transformer.wpe.weight"], np.float32), places))
    for layer in range(LAYERS):
        part = {key.split(".", 3)[3]: value for key, value in own.items() if key.startswith(f"transformer.h.{layer}.")}
        read = make.norm(x, part["ln_1.weight"], part["ln_1.bias"])
        query, key, value = (
            make.heads(make.dense(read, matrix, bias))
            for matrix, bias in zip(
                np.split(part["attn.c_attn.weight"], 3, 1), np.split(part["attn.c_attn.bias"], 3), strict=True
            )
        )
        key, value = make.grown(f"{layer}.key", key, axes), make.grown(f"{layer}.value", value, axes)
        context = make.attend(query, key, value, no_look)
        x = make.op("Add", x, make.dense(context, part["attn.c_proj.weight"], part["attn.c_proj.bias"]))
        inner = make.norm(x, part["ln_2.weight"], part["ln_2.bias"])
        inner = _gelu(make, make.dense(inner, part["mlp.c_fc.weight"], part["mlp.c_fc.bias"]))
        x = make.op("Add", x, make.dense(inner, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"]))
    scale, shift = own["transformer.ln_f.weight"], own["transformer.ln_f.bias"]
    last = make.op("Identity", make.norm(x, scale, shift), out="last_hidden_state")
    make.op("MatMul", last, make.const(own["lm_head.weight"].T, np.float32), out="logits")
    outputs: dict[str, Sequence[Any]] = {"logits": [batch, "sequence_length", COLUMNS]}
    outputs |= {f"present.{name}": longer for name in names}
    if hidden:
        outputs["last_hidden_state"] = [batch, "sequence_length", _HIDDEN]
    return make.bytes(inputs, outputs)


def _gelu(make: _Ops, x: str) -> str:
    """`gelu_new` of transformers."""
    cube = make.op("Mul", make.op("Mul", x, x), make.op("Mul", x, make.const(0.044715, np.float32)))
    inner = make.op("Mul", make.op("Add", x, cube), make.const(np.sqrt(2 / np.pi), np.float32))
    grown = make.op("Add", make.op("Tanh", inner), make.const(1, np.float32))
    return make.op("Mul", make.op("Mul", x, grown), make.const(0.5, np.float32))


def _seq2seq_weights() -> dict[str, Array]:
    """Of an encoder-decoder with one attention a layer, large enough that the choices are clear and varied."""
    random = np.random.RandomState(4)

    def normal(scale: float, *shape: int) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    own = {
        "words": normal(1.0, COLUMNS, _HIDDEN),
        "places": normal(0.6, TARGETS, _HIDDEN),
        "out": normal(0.4, _HIDDEN, COLUMNS),
    }
    for layer in range(LAYERS):
        for name in ("read", "self", "cross"):
            for part in ("query", "key", "value", "out"):
                own[f"{layer}.{name}.{part}"] = normal(0.25, _HIDDEN, _HIDDEN)
    return own


_ZERO = np.zeros(_HIDDEN, np.float32)
_ONE = np.ones(_HIDDEN, np.float32)


def reading_graph(*, lengths: bool = False) -> bytes:
    """Sources, in blocks of MULTIPLE, to the keys and values of the cross-attentions.

    Args:
        lengths: Whether the graph takes the lengths of its rows, not a mask.
    """
    own, make = _seq2seq_weights(), _Ops()
    batch, source = "batch_size", "encoder_sequence_length"
    inputs: dict[str, tuple[int, Sequence[Any]]] = {"input_ids": (TensorProto.INT64, [batch, source])}
    if lengths:
        inputs["lengths"] = (TensorProto.INT64, [batch])
        ends = make.op("Unsqueeze", "lengths", make.const([1]))
        mask = make.op("Cast", make.op("Less", make.count(make.size("input_ids", 1)), ends), to=TensorProto.INT64)
    else:
        inputs["attention_mask"] = (TensorProto.INT64, [batch, source])
        mask = "attention_mask"
    blocks = make.op("Reshape", "input_ids", make.const([0, -1, MULTIPLE]))  # fails where the length is no multiple
    x = make.op("Gather", make.const(own["words"], np.float32), make.op("Reshape", blocks, make.const([0, -1])))
    unseen = make.unseen(mask)
    for layer in range(LAYERS):
        read = make.norm(x, _ONE, _ZERO)
        query, key, value = (
            make.heads(make.dense(read, own[f"{layer}.read.{part}"], _ZERO)) for part in ("query", "key", "value")
        )
        x = make.op("Add", x, make.dense(make.attend(query, key, value, unseen), own[f"{layer}.read.out"], _ZERO))
    outputs: dict[str, Sequence[Any]] = {}
    for layer in range(LAYERS):
        for part in ("key", "value"):
            name = f"present.{layer}.encoder.{part}"
            make.op("Identity", make.heads(make.dense(x, own[f"{layer}.cross.{part}"], _ZERO)), out=name)
            outputs[name] = [batch, _HEADS, source, _SIZE]
    return make.bytes(inputs, outputs)


def writing_graph() -> bytes:
    """The decoder with past of the encoder-decoder: no mask of its own, positions counted from what it has read."""
    own, make = _seq2seq_weights(), _Ops()
    batch, new, source = "batch_size", "decoder_sequence_length", "encoder_sequence_length"
    first = "past_key_values.0.decoder.key"
    inputs: dict[str, tuple[int, Sequence[Any]]] = {
        "encoder_attention_mask": (TensorProto.INT64, [batch, source]),
        "input_ids": (TensorProto.INT64, [batch, new]),
    }
    outputs: dict[str, Sequence[Any]] = {"logits": [batch, new, COLUMNS]}
    no_look, unseen = make.future("input_ids", first, 2), make.unseen("encoder_attention_mask")
    places = make.op("Add", make.count(make.size("input_ids", 1)), make.size(first, 2))
    x = make.op("Gather", make.const(own["words"], np.float32), "input_ids")
    x = make.op("Add", x, make.op("Gather", make.const(own["places"], np.float32), places))
    for layer in range(LAYERS):
        for part in ("key", "value"):
            name = f"{layer}.decoder.{part}"
            inputs[f"past_key_values.{name}"] = (TensorProto.FLOAT, [batch, _HEADS, "past", _SIZE])
            inputs[f"past_key_values.{layer}.encoder.{part}"] = (TensorProto.FLOAT, [batch, _HEADS, source, _SIZE])
            outputs[f"present.{name}"] = [batch, _HEADS, "past + new", _SIZE]
        read = make.norm(x, _ONE, _ZERO)
        query, key, value = (
            make.heads(make.dense(read, own[f"{layer}.self.{part}"], _ZERO)) for part in ("query", "key", "value")
        )
        plain = (0, 1, 2, 3)
        key, value = make.grown(f"{layer}.decoder.key", key, plain), make.grown(f"{layer}.decoder.value", value, plain)
        x = make.op("Add", x, make.dense(make.attend(query, key, value, no_look), own[f"{layer}.self.out"], _ZERO))
        query = make.heads(make.dense(make.norm(x, _ONE, _ZERO), own[f"{layer}.cross.query"], _ZERO))
        cross = (f"past_key_values.{layer}.encoder.{part}" for part in ("key", "value"))
        x = make.op("Add", x, make.dense(make.attend(query, *cross, unseen), own[f"{layer}.cross.out"], _ZERO))
    make.op("MatMul", make.norm(x, _ONE, _ZERO), make.const(own["out"], np.float32), out="logits")
    return make.bytes(inputs, outputs)


def written(source: Sequence[int], target: Sequence[int]) -> Array:
    """Logits [len(target), COLUMNS] of the encoder-decoder, in one pass of numpy."""
    own = _seq2seq_weights()
    x = own["words"][np.asarray(source)]
    for layer in range(LAYERS):
        x = x + _attended(own, f"{layer}.read", _centred(x), _centred(x), None)
    y = own["words"][np.asarray(target)] + own["places"][: len(target)]
    future = np.triu(np.ones((len(target), len(target)), bool), 1)
    for layer in range(LAYERS):
        y = y + _attended(own, f"{layer}.self", _centred(y), _centred(y), future)
        y = y + _attended(own, f"{layer}.cross", _centred(y), x, None)
    logits: Array = _centred(y) @ own["out"]
    return logits


def _attended(own: dict[str, Array], name: str, x: Array, read: Array, hidden: Array | None) -> Array:
    query, key, value = (
        (rows @ own[f"{name}.{part}"]).reshape(len(rows), _HEADS, _SIZE).transpose(1, 0, 2)
        for rows, part in ((x, "query"), (read, "key"), (read, "value"))
    )
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(np.float32(_SIZE))
    if hidden is not None:
        scores[:, hidden] = -np.inf
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    context: Array = (shares @ value).transpose(1, 0, 2).reshape(len(x), -1) @ own[f"{name}.out"]
    return context


def _centred(x: Array) -> Array:
    around = x - x.mean(axis=-1, keepdims=True)
    normed: Array = around / np.sqrt((around**2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    return normed
