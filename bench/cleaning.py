"""What each tool does to a traced graph, what edgenlp does to it, and what is told of a graph.

A tool takes a graph file to a graph file, of one file each, and is one function and one line of `TOOLS`. It may fail as it likes: that
is told in the place of its graph. What a graph answers is left to `cleaners_models.py`; processes, times and tables to `cleaners.py`.
"""

import collections
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from cleaners_models import DECODERS, MODELS, answers, difference

PACKAGES = ("onnxruntime", "onnx", "onnxslim", "onnxscript", "optimum-onnx", "torch", "transformers", "numpy")
SMALL = 1024  # elements of a matrix that is worth 8 bits
RIGHT = 1e-3  # a greater difference is an error and no rounding; answers are of the order of 1


class Failed(Exception):
    """A tool, the writer or onnxruntime did not take a graph; the text is the first line of why."""


# The tools


def slim(given: Path, out: Path, model: str) -> None:
    """Run onnxslim, as its command does."""
    import onnxslim

    onnxslim.slim(str(given), str(out))


def ort(given: Path, out: Path, model: str, *, level: int = 0, **fusions: bool) -> None:
    """Run onnxruntime.transformers.optimizer; `level` is what a session does to the graph before it, `fusions` its switches."""
    from onnxruntime.transformers import fusion_options, optimizer

    kind = MODELS[model][1]
    options = fusion_options.FusionOptions(kind)
    options.use_raw_attention_mask()
    for name, value in fusions.items():
        setattr(options, name, value)
    made = optimizer.optimize_model(
        str(given), model_type=kind, opt_level=level, only_onnxruntime=False, optimization_options=options
    )
    used = {node.domain for node in made.model.graph.node}
    domains = [item for item in made.model.opset_import if item.domain in used | {""}]
    del made.model.opset_import[:]  # onnxruntime's session names all that it knows of
    made.model.opset_import.extend(domains)
    made.save_model_to_file(str(out))


def ort_session(given: Path, out: Path, model: str) -> None:
    """The same after onnxruntime's basic optimizations."""
    ort(given, out, model, level=1)


def ort_norms(given: Path, out: Path, model: str) -> None:
    """The same without what swallows weights: attention and embeddings; the writer would no longer find these."""
    ort(given, out, model, enable_attention=False, enable_embed_layer_norm=False)


def script(given: Path, out: Path, model: str) -> None:
    """The optimizer of onnxscript, then the rules of its rewriter."""
    import onnx
    from onnxscript import optimizer, rewriter

    onnx.save(rewriter.rewrite(optimizer.optimize(onnx.load(given))), out)


def script_ort(given: Path, out: Path, model: str) -> None:
    """The fusions for onnxruntime of onnxscript."""
    import onnx
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    made, _ = optimize_for_ort(onnx_ir.from_proto(onnx.load(given)))
    onnx.save(onnx_ir.to_proto(made), out)


TOOLS: dict[str, Callable[[Path, Path, str], None]] = {
    "slim": slim,
    "ort": ort,
    "ort1": ort_session,
    "norms": ort_norms,
    "script": script,
    "fusions": script_ort,
}
DEFAULT = "slim,ort,script,fusions"


# What edgenlp does


def save_cleaned(source: Path, out: Path) -> None:
    """Clean a trace by edgenlp's passes, and write it with the inputs and outputs that it had."""
    import onnx
    from edgenlp_export.traced import graphs
    from onnx import helper, numpy_helper

    model, traces = onnx.load(source), graphs.read_graph(source)
    graphs.clean(traces)
    names = {f"traced/{name}": name for name in traces.outputs}
    for node in traces.nodes:
        graphs.renamed(node, names)
        for place, name in enumerate(node.output):
            node.output[place] = names.get(name, name)
    constants = [numpy_helper.from_array(array, name) for name, array in traces.constants.items()]
    graph = helper.make_graph(traces.nodes, "cleaned", model.graph.input, model.graph.output, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="pytorch"), out)


def write(source: Path, model: str, folder: Path, *, precision: str, layout: str) -> Path:
    """Write a graph as edgenlp's export does, its weights inside the file."""
    import onnx
    from edgenlp_export.checkpoint import open_checkpoint
    from edgenlp_export.graph import Weights
    from edgenlp_export.quantize import Policy
    from edgenlp_export.traced import graphs, names, quantize, reading, writing

    traces = graphs.read_graph(source)
    graphs.clean(traces)
    out = folder / f"{precision}-{layout}.onnx"
    with tempfile.TemporaryDirectory(dir=folder) as place, open_checkpoint(folder.parent / "checkpoint") as checkpoint:
        weights = Weights(Path(place) / "weights")
        graph, named = quantize.TracedGraph(weights, Policy(precision)), names.Names(checkpoint)
        if model in DECODERS:
            writing.write_decoder(graph, traces, named)
        else:
            reading.write_reading(graph, traces, named, "hidden-states", type_ids=True, layout=layout)
        weights.close()
        graph.save(Path(place) / "graph.onnx")
        written = onnx.load(Path(place) / "graph.onnx")
    for item in written.graph.initializer:
        item.ClearField("data_location")
        item.ClearField("external_data")
    onnx.save(written, out)
    return out


def small_of(path: Path) -> Path:
    """Return where the int8 form of a written graph is."""
    return path.with_suffix(".int8.onnx")


# What is told of a graph


def operators(nodes) -> Iterator[str]:
    """Yield the operators of nodes, and of the graphs inside them."""
    for node in nodes:
        yield node.op_type
        for attribute in node.attribute:
            yield from operators(attribute.g.node)


def optimized(path: Path) -> collections.Counter:
    """Return how many of each operator onnxruntime runs for a graph."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(Path(place) / "optimized.onnx")
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return collections.Counter(operators(onnx.load(options.optimized_model_filepath).graph.node))


def describe(path: Path, model: str, right: dict[str, np.ndarray]) -> dict:
    """Return all that is told of a graph but how it quantizes."""
    import onnx

    after = optimized(path)
    return {
        "nodes": sum(1 for _ in operators(onnx.load(path).graph.node)),
        "optimized": after.total(),
        "operators": dict(after.most_common()),
        "bytes": path.stat().st_size,
        "difference": difference(path, model, right),
        "largest": max(float(np.abs(value).max()) for value in right.values() if value.size),
    }


def describe_small(path: Path) -> dict:
    """Return what is told of a graph in int8; its answers are not, as on random weights they say little."""
    import onnx

    graph, after = onnx.load(path).graph, optimized(path)
    floats = [item for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT]
    return {
        "operators": dict(after.most_common()),
        "products": collections.Counter(operators(graph.node))["DynamicQuantizeMatMul"],
        "float matrices": sum(len(item.dims) > 1 and math.prod(item.dims) >= SMALL for item in floats),
        "bytes": path.stat().st_size,
        "optimized": after.total(),
    }


def guarded(step: Callable, *given, **options):
    """Return what a step returns; raise `Failed` with the first line of its reason where it fails."""
    try:
        return step(*given, **options)
    except Failed:
        raise
    except Exception as error:  # tools raise what they like, and onnxruntime's exceptions share no base with others
        first = (str(error).strip().splitlines() or ["no reason"])[0]
        raise Failed(f"{type(error).__name__}: {first}"[:300]) from error


def describe_written(source: Path, model: str, folder: Path, out: Path, right: dict[str, np.ndarray]) -> dict:
    """Write a graph in float32, in the first layout that gives the right answers, and in int8; return all that is told."""
    from edgenlp_export.traced.reading import LAYOUTS

    tried: list[tuple[float, Path, dict]] = []
    reasons: list[Failed] = []
    for layout in LAYOUTS[:1] if model in DECODERS else LAYOUTS:
        try:
            path = guarded(write, source, model, folder, precision="fp32", layout=layout)
            told = {**guarded(describe, path, model, right), "layout": layout}
        except Failed as error:
            reasons.append(error)
            continue
        tried.append((max(told["difference"].values()), path, told))
        if tried[-1][0] <= RIGHT:
            break
    if not tried:
        raise reasons[0]
    _, path, told = min(tried, key=lambda one: one[0])
    small = write(source, model, folder, precision="int8", layout=told["layout"])
    told["int8"] = describe_small(small)
    shutil.move(path, out)
    shutil.move(small, small_of(out))
    return told


def build(model: str, folder: Path, tool: str) -> dict[str, dict]:
    """Make the graphs of edgenlp alone, or those of a tool, and return what is told of each."""
    place = folder / f"work-{tool or 'ours'}"
    place.mkdir(exist_ok=True)
    raw, clean, ours = (folder / name for name in ("raw.onnx", "clean.onnx", "ours.onnx"))
    if not tool:
        shutil.copyfile(folder / "traced" / "model.onnx", raw)
        np.savez(folder / "right.npz", **answers(raw, model, alone=True))
        save_cleaned(raw, clean)
    with np.load(folder / "right.npz") as arrays:
        right = dict(arrays)

    def told(out: Path) -> dict:
        return describe(out, model, right)

    def written(out: Path) -> dict:
        return describe_written(clean, model, place, out, right)

    def before(out: Path) -> dict:
        TOOLS[tool](clean, place / "tool.onnx", model)
        return describe_written(place / "tool.onnx", model, place, out, right)

    def after(out: Path) -> dict:
        TOOLS[tool](ours, out, model)
        return describe(out, model, right)

    steps = {f"{tool}+ours": before, f"ours+{tool}": after} if tool else {"raw": told, "clean": told, "ours": written}
    found: dict[str, dict] = {}
    for name, step in steps.items():
        try:
            found[name] = guarded(step, folder / f"{name}.onnx")
        except Failed as error:
            found[name] = {"failed": str(error)}
    shutil.rmtree(place)
    return found
