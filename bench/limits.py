"""The machine's physical limits: how fast it reads memory, and how fast it multiplies in int8 and fp32. Knows no model.

An engine's time means little without the time that the hardware needs at least. A forward pass is bound by one of two
things: the bandwidth at which its weights reach the cores (short inputs: every weight is read for little work), or the
arithmetic of its matrix products (long inputs and batches). So three numbers are measured, each the best of many tries:

    bandwidth   GB/s read by 1..n threads, over arrays from cache size to far beyond the last cache
    int8        10^9 operations a second of onnxruntime's DynamicQuantizeMatMul and MatMulInteger, large matrices
    fp32        the same for MatMul

The int8 and fp32 peaks are what good kernels reach here, not the data sheet; better kernels can pass them.
The very last line of stdout is one compact JSON document with all of it.

    python bench/limits.py --threads 2
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine
import numpy as np

ROWS = 1024  # tokens at once: enough to reuse every weight from cache
SHAPES = ((768, 3072), (3072, 768), (2048, 2048))  # [inputs, outputs]


def best(step: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of `step`, tried for `seconds` and at least three times after one warm-up."""
    step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


def bandwidth(size: int, threads: int, seconds: float) -> float:
    """Return GB/s at which `threads` threads together read `size` bytes, each its own part, again and again.

    The maximum of int64 is numpy's cheapest full read: vectorized, one instruction a load, and outside the GIL.
    """
    parts = np.array_split(np.ones(size // 8, np.int64), threads)
    with ThreadPoolExecutor(threads) as pool:
        return size / best(lambda: list(pool.map(np.max, parts)), seconds) / 1e9


def read_ms(size: float, bandwidth: dict) -> float:
    """Return the milliseconds that reading `size` bytes again and again takes, from the memory or cache that holds so many.

    Args:
        size: bytes.
        bandwidth: {bytes read: 10^9 bytes a second}, keys as numbers or, out of JSON, as text.
    """
    nearest = min(bandwidth, key=lambda held: abs(np.log(int(held) / size)))
    return size / bandwidth[nearest] / 1e6


def graph_reads(file: Path) -> int:
    """Return the bytes of constants that one run of an ONNX graph reads in full, each range of a shared file once.

    Left out are tables of which a run needs a few rows: what only Gathers take, and the sines of rotary positions.
    """
    import onnx

    few = {"Gather", "GatherBlockQuantized", "GroupQueryAttention", "RotaryEmbedding"}
    graph = onnx.load(file, load_external_data=False).graph
    used = {name for node in graph.node if node.op_type not in few for name in node.input}
    ranges: dict[tuple, int] = {}
    for constant in graph.initializer:
        if constant.name not in used:
            continue
        where = {entry.key: entry.value for entry in constant.external_data}
        place = (where["location"], where.get("offset", "0")) if where else (constant.name,)
        inside = len(constant.raw_data) or constant.ByteSize()
        ranges[place] = max(ranges.get(place, 0), int(where.get("length", 0)) or inside)
    return sum(ranges.values())


def sizes() -> list[int]:
    """Return the sizes to read, in bytes: about what models weigh, then four times the last cache, as memory allows."""
    last = max(machine.caches().values(), default=32 * 2**20)
    room = machine.memory().get("available", 4 * 2**30) // 4
    beyond = min(max(4 * last, 512 * 2**20), room)
    return [size for size in (16 * 2**20, 48 * 2**20, 160 * 2**20) if size < beyond] + [beyond]


def product(kind: str, inputs: int, outputs: int, threads: int) -> Callable[[], object]:
    """Return a call of one onnxruntime operator, `kind`, on [ROWS, inputs] and a constant [inputs, outputs]."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.RandomState(0)
    integers = random.randint(-127, 128, (inputs, outputs)).astype(np.int8)
    values = random.standard_normal((ROWS, inputs)).astype(np.float32)
    scale = np.full(outputs, 0.01, np.float32)
    constants, operands, domain, given, result = {
        "MatMul": ({"b": integers * scale}, ["x", "b"], "", values, TensorProto.FLOAT),
        "MatMulInteger": ({"b": integers}, ["x", "b"], "", values.astype(np.uint8), TensorProto.INT32),
        "DynamicQuantizeMatMul": (
            {"b": integers, "scale": scale}, ["x", "b", "scale"], "com.microsoft", values, TensorProto.FLOAT,
        ),
    }[kind]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(kind, operands, ["y"], domain=domain)],
        "limit",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(given.dtype), given.shape)],
        [helper.make_tensor_value_info("y", result, (ROWS, outputs))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return lambda: session.run(None, {"x": given})


def measure(threads: int, seconds: float = 1.0) -> dict:
    """Return all limits for up to `threads` threads; `seconds` is spent on each of about fifteen measurements.

    Returns:
        `bandwidth_gbs` {threads: {bytes: GB/s}}, `products` {operator: {"INxOUT": 10^9 operations a second}}, and the
        three numbers that workloads use, all at `threads` threads: `bandwidth`, `int8_gops`, `fp32_gflops`.
    """
    reads = {
        count: {size: round(bandwidth(size, count, seconds), 2) for size in sizes()}
        for count in sorted({1, max(1, threads // 2), threads})
    }
    products: dict[str, dict[str, float]] = {}
    for kind in ("MatMul", "MatMulInteger", "DynamicQuantizeMatMul"):
        products[kind] = {}
        for inputs, outputs in SHAPES:
            shortest = best(product(kind, inputs, outputs, threads), seconds)
            products[kind][f"{inputs}x{outputs}"] = round(2 * ROWS * inputs * outputs / shortest / 1e9, 1)
    return {
        "threads": threads,
        "bandwidth_gbs": reads,
        "products": products,
        "bandwidth": reads[threads],
        "fp32_gflops": max(products["MatMul"].values()),
        "int8_gops": max(max(products[kind].values()) for kind in ("MatMulInteger", "DynamicQuantizeMatMul")),
    }


def table(limits: dict) -> str:
    """Return the limits as lines for a person."""
    lines = []
    for threads, reads in limits["bandwidth_gbs"].items():
        text = ", ".join(f"{speed:.1f} GB/s over {int(size) / 2**20:.0f} MiB" for size, speed in reads.items())
        lines.append(f"read by {threads} thread{'s' * (int(threads) > 1)}: {text}")
    for kind, speeds in limits["products"].items():
        text = ", ".join(f"{speed:.0f} ({shape})" for shape, speed in speeds.items())
        lines.append(f"{kind}, threads: {limits['threads']}, 10^9 operations/s: {text}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print for a person, then print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=machine.cores().get("physical", 1))
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each measurement (default 1)")
    arguments = parser.parse_args()
    limits = measure(arguments.threads, arguments.seconds)
    print(table(limits))
    print(json.dumps(limits, separators=(",", ":")))


if __name__ == "__main__":
    main()
