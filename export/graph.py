"""A small writer of named, typed ONNX nodes. Knows the operators of onnxruntime's CPU provider, and no architecture.

Weights leave for the weights file as soon as they are given, so that memory never holds more than the largest of them. A graph is
what the runtime loads as it is: already fused, every shape symbolic.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .quantize import Blocks, Policy, Scheme, block_size, quantize_blocks, quantize_channels

__all__ = ["Graph", "Matrix", "Weights"]

OPSET = 24
IR_VERSION = 11
_ALIGNMENT = 4096  # a memory page: onnxruntime maps weights that begin on one
_INLINE = 1024  # bytes; smaller tensors stay inside the graph file

# A linear map of the checkpoint: tensor name, weight [out, in], bias [out] or None.
Matrix = tuple[str, NDArray[Any], NDArray[Any] | None]


class Weights:
    """The weights file: append a tensor, get its place. Equal bytes are stored once.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("wb")
        self._places: dict[bytes, tuple[int, int]] = {}

    def add(self, array: NDArray[Any]) -> tuple[int, int]:
        """Offset and length, in bytes, of `array` in the file."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        key = hashlib.sha256(data).digest()
        if key not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
            self._places[key] = (self._file.tell(), data.nbytes)
            self._file.write(data)
        return self._places[key]

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()


class Graph:
    """One graph under construction. Methods take and return names of values.

    Args:
        weights: Where large tensors go.
        policy: The scheme of each tensor.
        head: The scheme of the language modelling head and of a table that doubles as it, where it is another's.
    """

    def __init__(self, weights: Weights, policy: Policy, *, head: Policy | None = None) -> None:
        self.weights = weights
        self.policy = policy
        self.head_policy = head or policy
        self.moments: Mapping[
            str, NDArray[np.float32]
        ] = {}  # of the inputs of linear layers, by key, where text was read
        self.scope = ""  # before the names of nodes, where two bodies share a graph
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs declared so far."""
        return tuple(item.name for item in self._inputs)

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.INT64) -> str:
        """Declare an input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> None:
        """Declare `value` an output of the graph, under `name`."""
        for node in self._nodes:  # the node that makes the value gives it its public name: no copy
            if value in node.output:
                node.output[list(node.output).index(value)] = name
        for node in self._nodes:
            for place, item in enumerate(node.input):
                if item == value:
                    node.input[place] = name
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def retype(self, name: str, dtype: int) -> None:
        """Give an input or output another element type."""
        for item in (*self._inputs, *self._outputs):
            if item.name == name:
                item.type.tensor_type.elem_type = dtype

    def amend(self, name: str, inputs: Mapping[int, str], **attributes: Any) -> None:
        """Set inputs, by place, and attributes of the node of this name."""
        node = next(node for node in self._nodes if node.name == name)
        node.input.extend([""] * (max(inputs) + 1 - len(node.input)))
        for place, value in inputs.items():
            node.input[place] = value
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())

    def node(
        self, op: str, inputs: Sequence[str], name: str, *, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        """Add a node; returns the name of its output, or a list of names where `outputs` is more than one."""
        if name.startswith("/"):
            name = self.scope + name
        names = [name] if outputs == 1 else [f"{name}.{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def contrib(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node of onnxruntime's own operators."""
        result: str = self.node(op, inputs, name, domain="com.microsoft", **attributes)
        return result

    def tensor(self, name: str, array: NDArray[Any]) -> str:
        """A constant. Given twice under one name, it is stored once."""
        if name in self._tensors:
            return name
        array = np.ascontiguousarray(array) if array.ndim else array
        proto = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        if array.nbytes < _INLINE:
            proto.raw_data = array.tobytes()
        else:
            offset, length = self.weights.add(array)
            proto.data_location = TensorProto.EXTERNAL
            for key, value in (("location", self.weights.name), ("offset", str(offset)), ("length", str(length))):
                proto.external_data.add(key=key, value=value)
        self._tensors[name] = proto
        return name

    def integers(self, *values: int) -> str:
        """A constant list of int64."""
        return self.tensor("i64." + "_".join(map(str, values)), np.array(values, np.int64))

    def save(self, path: Path) -> None:
        """Write the graph file."""
        graph = helper.make_graph(self._nodes, "edgenlp", self._inputs, self._outputs, list(self._tensors.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgenlp")
        path.write_bytes(model.SerializeToString(deterministic=True))

    # Layers

    def linear(self, x: str, matrices: Sequence[Matrix], name: str, *, exact: bool = False, head: bool = False) -> str:
        """X [..., in] times the transposed weights, side by side, plus biases: [..., sum of outs].

        Args:
            x: The input.
            matrices: Merged into one product; they share the scheme of the first.
            name: Of the node. The constants are named after the tensors, so that a layer used twice is stored once.
            exact: Hold the weights in float32 unless a `--keep` pattern names them.
            head: Whether it is the language modelling head.
        """
        scheme = (self.head_policy if head else self.policy)(matrices[0][0], exact=exact)
        key = matrices[0][0] if len(matrices) == 1 else "+".join(matrix[0] for matrix in matrices)
        bias = None
        if any(matrix[2] is not None for matrix in matrices):
            parts = [np.zeros(len(weight), np.float32) if b is None else b for _, weight, b in matrices]
            bias = self.tensor(f"{key}.bias", np.concatenate(parts).astype(np.float32))
        weights = [weight for _, weight, _ in matrices]
        if scheme.matrix in ("float32", "float16"):
            return self._float_linear(x, weights, bias, key, name, scheme)
        if scheme.matrix == "channels":
            return self._channel_linear(x, weights, bias, key, name)
        return self._block_linear(x, matrices, bias, key, name, scheme)

    def _float_linear(
        self, x: str, weights: list[NDArray[Any]], bias: str | None, key: str, name: str, scheme: Scheme
    ) -> str:
        matrix = self._floats(f"{key}.weight", [weight.T for weight in weights], 1, scheme)
        product: str = self.node("MatMul", [x, matrix], name + ("/matmul" if bias else ""))
        return str(self.node("Add", [product, bias], name)) if bias else product

    def _channel_linear(self, x: str, weights: list[NDArray[Any]], bias: str | None, key: str, name: str) -> str:
        if f"{key}.int8" not in self._tensors:
            pairs = [quantize_channels(weight) for weight in weights]
            self.tensor(f"{key}.int8", np.concatenate([pair[0] for pair in pairs], axis=1))
            self.tensor(f"{key}.scale", np.concatenate([pair[1] for pair in pairs]))
        inputs = [x, f"{key}.int8", f"{key}.scale", "", bias or ""]
        return self.contrib("DynamicQuantizeMatMul", inputs if bias else inputs[:3], name)

    def _block_linear(
        self, x: str, matrices: Sequence[Matrix], bias: str | None, key: str, name: str, scheme: Scheme
    ) -> str:
        width = matrices[0][1].shape[1]
        calibrated = all(matrix[0] in self.moments for matrix in matrices)
        block = block_size(width, scheme.calibrated_block if calibrated else scheme.block)
        if f"{key}.blocks" not in self._tensors:
            parts = [
                quantize_blocks(weight, scheme.bits, block, moments=self.moments.get(own))
                for own, weight, _ in matrices
            ]
            zeros = [part.zeros for part in parts if part.zeros is not None]
            self._blocks(
                key,
                f"{key}.blocks",
                Blocks(
                    np.concatenate([part.levels for part in parts]),
                    np.concatenate([part.scales for part in parts]),
                    np.concatenate(zeros) if zeros else None,
                ),
            )
        return self._blocks_product(
            x, key, bias, name, (width, sum(len(matrix[1]) for matrix in matrices)), scheme.bits, block
        )

    def _blocks(self, key: str, name: str, blocks: Blocks) -> None:
        """Constants of levels (under `name`), scales and zeros; scales are float16 in the file, and float32 once it is loaded."""
        levels, scales, zeros = blocks
        self.tensor(name, levels)
        halves = scales.astype(np.float16)
        if (halves.astype(np.float32) == scales).all():
            self.tensor(f"{key}.scale16", halves)
            self.node("Cast", [f"{key}.scale16"], f"{key}.scale", to=TensorProto.FLOAT)
        else:
            self.tensor(f"{key}.scale", scales)
        if zeros is not None:
            self.tensor(f"{key}.zero", zeros)

    def _blocks_product(
        self, x: str, key: str, bias: str | None, name: str, shape: tuple[int, int], bits: int, block: int
    ) -> str:
        zeros = f"{key}.zero" if f"{key}.zero" in self._tensors else ""
        inputs = [x, f"{key}.blocks", f"{key}.scale", zeros, "", bias or ""]
        while not inputs[-1]:
            inputs.pop()
        # accuracy_level 4: activations are quantized to int8 block by block, each with its own scale
        facts = {"K": shape[0], "N": shape[1], "bits": bits, "block_size": block}
        return self.contrib("MatMulNBits", inputs, name, accuracy_level=4, **facts)

    def _floats(self, name: str, arrays: Sequence[NDArray[Any]], axis: int, scheme: Scheme) -> str:
        """Float constants side by side; float16 ones are cast back when the graph is loaded."""
        if scheme.matrix != "float16":
            if name not in self._tensors:
                self.tensor(name, _joined(arrays, axis, np.float32))
            return name
        if name not in self._tensors:
            self.tensor(name, _joined(arrays, axis, np.float16))
            self.node("Cast", [name], f"{name}.cast", to=TensorProto.FLOAT)
        return f"{name}.cast"

    def table(self, ids: str, tensor: str, rows: NDArray[Any], name: str, *, head: bool = False) -> str:
        """Rows of an embedding table [entries, width], looked up by `ids` [...]: [..., width]; `head` as in `linear`."""
        scheme = (self.head_policy if head else self.policy)(tensor)
        if scheme.table == "channels":
            levels, scales = self._entries(tensor, rows)
            found = self.node("Cast", [self.node("Gather", [levels, ids], f"{name}/levels")], f"{name}/cast", to=1)
            return str(self.node("Mul", [found, self.node("Gather", [scales, ids], f"{name}/scales")], name))
        if scheme.table != "blocks":
            return str(self.node("Gather", [self._floats(f"{tensor}.table", [rows], 0, scheme), ids], name))
        block = block_size(rows.shape[1], scheme.table_block)
        if f"{tensor}.rows" not in self._tensors:
            blocks = quantize_blocks(rows, scheme.table_bits, block)
            width = rows.shape[1] * scheme.table_bits // 8  # what fills the last block is left out
            self._blocks(
                tensor, f"{tensor}.rows", blocks._replace(levels=blocks.levels.reshape(len(rows), -1)[:, :width])
            )
        zeros = [f"{tensor}.zero"] if f"{tensor}.zero" in self._tensors else []
        return self.contrib(
            "GatherBlockQuantized", [f"{tensor}.rows", ids, f"{tensor}.scale", *zeros], name,
            bits=scheme.table_bits, block_size=block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip

    def tied(self, x: str, tensor: str, rows: NDArray[Any], bias: NDArray[Any] | None, name: str) -> str:
        """X [n, width] times the transposed embedding table, stored once for both uses, plus bias [entries]: [n, entries]."""
        scheme = self.head_policy(tensor)
        shift = None if bias is None else self.tensor(f"{name}.bias", bias.astype(np.float32))
        if scheme.table == "channels":
            levels, scales = self._entries(tensor, rows)
            # turned, and laid out for the product, when the graph is loaded: the file holds it once, as a table
            turned = self.node("Transpose", [levels], f"{tensor}.turned", perm=[1, 0])
            flat = self.node("Squeeze", [scales, self.integers(1)], f"{tensor}.scales")
            inputs = [x, turned, flat, "", shift or ""]
            return self.contrib("DynamicQuantizeMatMul", inputs if shift else inputs[:3], name)
        if scheme.table != "blocks":
            inputs = [x, self._floats(f"{tensor}.table", [rows], 0, scheme), *([shift] if shift else [])]
            return str(self.node("Gemm", inputs, name, transB=1))
        block = block_size(rows.shape[1], scheme.table_block)
        stored = self._tensors.get(f"{tensor}.rows")
        if stored is None:
            self._blocks(tensor, f"{tensor}.blocks", quantize_blocks(rows, scheme.table_bits, block))
        elif rows.shape[1] % block:
            self.tensor(f"{tensor}.blocks", quantize_blocks(rows, scheme.table_bits, block).levels)
        else:  # the same bytes, seen as [entries, blocks, bytes of a block]
            shared = TensorProto()
            shared.CopyFrom(stored)
            shared.name = f"{tensor}.blocks"
            shared.dims[:] = (len(rows), rows.shape[1] // block, block * scheme.table_bits // 8)
            self._tensors[shared.name] = shared
        return self._blocks_product(x, tensor, shift, name, (rows.shape[1], len(rows)), scheme.table_bits, block)

    def _entries(self, tensor: str, rows: NDArray[Any]) -> tuple[str, str]:
        """A table as int8 [entries, width], and scales [entries, 1]."""
        if f"{tensor}.entries" not in self._tensors:
            levels, scales = quantize_channels(rows)
            self.tensor(f"{tensor}.entries", np.ascontiguousarray(levels.T))
            self.tensor(f"{tensor}.entry_scales", scales[:, None])
        return f"{tensor}.entries", f"{tensor}.entry_scales"

    def norm(
        self,
        x: str,
        weight: tuple[str, NDArray[Any]],
        bias: tuple[str, NDArray[Any]] | None,
        eps: float,
        name: str,
        *,
        kind: str = "layer",
    ) -> str:
        """Normalization over the last axis: "layer", or "rms", which has no bias."""
        inputs = [x, self.tensor(weight[0], weight[1].astype(np.float32))]
        if kind == "rms":
            # of ONNX's domain by name, of onnxruntime by origin: its kernel is the one that is threaded
            return str(self.node("SimplifiedLayerNormalization", inputs, name, axis=-1, epsilon=eps, stash_type=1))
        if bias is not None:
            inputs.append(self.tensor(bias[0], bias[1].astype(np.float32)))
        return str(self.node("LayerNormalization", inputs, name, axis=-1, epsilon=eps))

    def activation(self, x: str, kind: str, name: str) -> str:
        """An activation of `ACTIVATIONS`."""
        if kind in ("silu", "quick_gelu"):  # x * sigmoid(alpha * x)
            return self.contrib("QuickGelu", [x], name, alpha=1.0 if kind == "silu" else 1.702)
        if kind in ("gelu", "gelu_tanh"):
            domain_op = "Gelu" if kind == "gelu" else "FastGelu"
            return self.contrib(domain_op, [x], name)
        return str(self.node({"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}[kind], [x], name))


def _joined(arrays: Sequence[NDArray[Any]], axis: int, dtype: Any) -> NDArray[Any]:
    converted = [np.asarray(array, dtype) for array in arrays]
    return converted[0] if len(converted) == 1 else np.concatenate(converted, axis)
