"""Read a network from an ONNX file.

>>> net = from_onnx("model.onnx")                                                       # doctest: +SKIP

An ONNX file is a graph of operators on named values, with its weights. `onnx_graph.py` parses and checks it,
this module makes a `Program` of it. `onnx_operators.py` says which layers the operators are,
`onnx_constants.py` reads the weights and computes what no input changes, and `onnx_calls.py` chooses between
the two. Nothing in a file runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref.errors import BadBackend, BadNetwork, BadWeights, LrprefError
from lrpref.kernels.operations import Array
from lrpref.layers import Shape
from lrpref.network import Network
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import.onnx_calls import Calls
from lrpref.weights_import.onnx_constants import Budget, Tensors
from lrpref.weights_import.onnx_graph import Graph, known_shapes, line, name_of, needed, parsed
from lrpref.weights_import.pickles import reason_of, shown
from lrpref.weights_import.program import Call, Imported, Program, Ref, make

if TYPE_CHECKING:
    import onnx

_FLOATS = {1: np.float32, 10: np.float32, 11: np.float64}
"""Element types of an input, and what they are when the file runs."""

_HALVES = (10, 16)
"""Element types that are widened to float32."""


def from_onnx(
    path: str | os.PathLike[str],
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    output: str | None = None,
    shape: Sequence[int] | None = None,
) -> Network:
    """
    Read a network from an ONNX file.

    Parameters
    ----------
    path : path-like
        The file; weights that it keeps outside must be in its folder.
    name : str
        What the network is called; the file's name where not given.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.
    output : str, optional
        Which output, or which value inside, is the network's; needed where there are several.
    shape : sequence of int, optional
        Shape of one sample of the input as the file has it; needed where the file leaves it open.

    Returns
    -------
    Network
        The network, with the file's own weights. A batch of unknown size is read as one sample. Where the
        file turns channels-last pictures (H, W, C) to channels-first at once, as Keras' files do, the
        network starts behind that, with (C, H, W), and its provenance says so.

    Raises
    ------
    BadWeights
        If the file cannot be read, or its weights cannot.
    BadNetwork
        If it is no network that can be read: everything that is not supported is in the one line.
    BadBackend
        If the package onnx is not there.
    """
    return imported(
        path, name=name, classes=classes, preprocessing=preprocessing, output=output, shape=shape
    ).network


def imported(
    path: str | os.PathLike[str],
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
    output: str | None = None,
    shape: Sequence[int] | None = None,
) -> Imported:
    """
    Read a network from an ONNX file, and keep where it comes from.

    Parameters
    ----------
    path : path-like
        The file.
    name : str
        What the network is called; the file's name where not given.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.
    output : str, optional
        Which output, or which value inside, is the network's.
    shape : sequence of int, optional
        Shape of one sample of the input as the file has it.

    Returns
    -------
    Imported
        The network, the program, and the values that `runner` gives.

    Raises
    ------
    LrprefError
        As `from_onnx` does.
    """
    path = Path(path)
    try:
        model, digest = parsed(path)
        tensors = Tensors(path.parent, Budget(path.stat().st_size))
        graph = Graph.of(model)
        program, layout = _program(graph, tensors, output, shape)
        chosen = {"output": output, "shape": shape and list(shape)}
        provenance = {
            "file": path.name,
            "sha256": digest,
            **_origin(model, graph.opset),
            **layout,
            **{key: value for key, value in chosen.items() if value},
        }
        make_it = partial(
            make,
            name=name or path.stem,
            classes=classes,
            preprocessing=preprocessing,
            provenance=provenance,
        )
        table = Calls(graph.opset, tensors).table()
        try:
            return make_it(program, table)
        except BadNetwork:  # with the shapes of what cannot be read, all behind it is looked at too
            return make_it(_described(_inferred(model), program), table)
    except LrprefError as error:
        raise type(error)(str(error) if path.name in str(error) else f"{path.name}: {error}") from None
    except MemoryError:
        raise BadWeights(f"{path.name}: does not fit into memory") from None


def runner(path: str | os.PathLike[str], program: Program) -> Callable[[Array], dict[str, Array]]:
    """
    Let onnxruntime run an ONNX file as it is written; half precision as float32, as the network has it.

    Parameters
    ----------
    path : path-like
        The file.
    program : Program
        What was read from it.

    Returns
    -------
    callable
        From inputs of shape (batch, ...), as the network takes them and as many as the program's shapes say,
        to all floating values that depend on them, by their names in the file.

    Raises
    ------
    BadBackend
        If onnxruntime is not there, or cannot run the file.
    """
    runtime = needed("onnxruntime")
    path = Path(path)
    model, _ = parsed(path)
    _in_float32(model, Tensors(path.parent, Budget(path.stat().st_size)))
    graph = Graph.of(model)
    values = [name for name in _dependent(program) if name in graph.makers]
    for name in values:
        if name not in graph.outputs:
            model.graph.output.add().name = name
    first = graph.makers.get(program.input)  # the transposition that the network does without
    order = None if first is None else np.argsort(_perm(first))
    source = program.input if first is None else first.input[0]
    kind = _FLOATS[graph.inputs[source].type.tensor_type.elem_type]
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4

    def run(x: Array) -> dict[str, Array]:
        x = np.ascontiguousarray(x if order is None else x.transpose(order), kind)
        results = _tried(path, session.run, values, {source: x})
        return {name: y for name, y in zip(values, results, strict=True) if y.dtype.kind == "f"}

    providers = ["CPUExecutionProvider"]
    session = _tried(
        path, runtime.InferenceSession, model.SerializeToString(), options, providers=providers
    )
    return run


def _tried(path: Path, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return call(*arguments, **options)
    except Exception as error:  # of onnxruntime's own kinds
        raise BadBackend(f"{path.name}: onnxruntime cannot run it ({reason_of(error)})") from None


def _origin(model: onnx.ModelProto, opset: int) -> dict[str, Any]:
    producer = " ".join(filter(None, (line(model.producer_name), line(model.producer_version))))
    return {"format": "ONNX", "opset": opset, "producer": producer or "unknown"}


# From the graph to a program.


def _program(
    graph: Graph, tensors: Tensors, output: str | None, shape: Sequence[int] | None
) -> tuple[Program, dict[str, Any]]:
    """Write the graph as calls, from its one input to its one output."""
    output = _chosen(graph, output)
    used = {output, *(name for node in graph.nodes for name in node.input)}
    calls = tuple(_call(node, used) for node in graph.nodes)
    program = Program("", output, {}, {}, calls)
    reads = {name for call in program.needed() for name in call.reads()}
    source = _only_input(graph, reads)
    declared = _declared(graph.inputs[source], shape)
    program = replace(program, input=source, shapes={source: declared})
    constants = {name: tensors.read(graph.tensors[name]) for name in graph.tensors if name in reads}
    program, layout = _channels_first(replace(program, constants=constants), graph)
    return (program if shape else _described(graph.described, program)), layout


def _call(node: onnx.NodeProto, used: set[str]) -> Call:
    results = list(node.output)
    while len(results) > 1 and results[-1] not in used:
        results.pop()  # such as the indices of MaxPool, which nobody reads
    operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    inputs = [Ref(name) if name else None for name in node.input]
    return Call(name_of(node), line(operator), {"inputs": inputs, "node": node}, tuple(results))


def _chosen(graph: Graph, output: str | None) -> str:
    if output is None and len(graph.outputs) != 1:
        count = len(graph.outputs)
        raise BadNetwork(f"has {count} outputs ({_some(graph.outputs)}): say which by output=...")
    output = graph.outputs[0] if output is None else output
    if output not in graph.makers:
        raise BadNetwork(f"no node gives its output {shown(output)}")
    return output


def _only_input(graph: Graph, reads: set[str]) -> str:
    names = [name for name in graph.inputs if name in reads]
    if len(names) != 1:
        raise BadNetwork(f"its output depends on {len(names)} inputs ({_some(names)}), expected one")
    return names[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names[:8]) or "none"


def _declared(value: onnx.ValueInfoProto, shape: Sequence[int] | None) -> Shape:
    """The shape of the input, samples included; one where their number is open."""
    kind = value.type.tensor_type
    if kind.elem_type not in _FLOATS:
        raise BadNetwork(
            f"its input {shown(value.name)} is of another type than float32, float64 and float16: convert it"
        )
    dims = [(d.dim_value, d.dim_param) for d in kind.shape.dim]
    batch = max(dims[0][0], 1) if dims else 1
    if shape is not None:
        sizes = tuple(int(n) for n in shape)
        fixed = [(n, d) for n, (d, _) in zip(sizes, dims[1:], strict=False) if d > 0]
        if (dims and len(dims) != len(sizes) + 1) or any(n != d for n, d in fixed):
            raise BadNetwork(f"its input {shown(value.name)} is not of the shape {sizes}")
    else:
        sizes = tuple(n for n, _ in dims[1:])
    if not sizes or min(sizes) < 1:
        told = ", ".join(str(n) if n > 0 else shown(name or "?") for n, name in dims)
        raise BadNetwork(
            f"its input {shown(value.name)} is ({told}): samples on the first axis and fixed sizes behind it "
            "are wanted; give those of one sample by shape=..., such as (3, 224, 224)"
        )
    if max(sizes) > 1 << 20 or batch > 1 << 20:
        raise BadNetwork(f"its input {shown(value.name)} is {(batch, *sizes)}: too large")
    return (batch, *sizes)


def _channels_first(program: Program, graph: Graph) -> tuple[Program, dict[str, Any]]:
    """Start behind a transposition to channels-first that alone reads the input."""
    readers = [call for call in program.calls if Ref(program.input) in call.arguments["inputs"]]
    batch, *sample = program.shapes[program.input]
    if len(readers) != 1 or readers[0].operator != "Transpose" or len(sample) not in (2, 3):
        return program, {}
    (call,) = readers
    order = (0, len(sample), *range(1, len(sample)))
    if _perm(call.arguments["node"]) != order or call.results[0] == program.output:
        return program, {}
    start = call.results[0]
    calls = tuple(other for other in program.calls if other is not call)
    shapes = {start: (batch, sample[-1], *sample[:-1])}
    layout = {"input_layout": "NHWC" if len(sample) == 3 else "NLC"}
    return replace(program, input=start, shapes=shapes, calls=calls), layout


def _perm(node: onnx.NodeProto) -> tuple[int, ...]:
    return next((tuple(entry.ints) for entry in node.attribute if entry.name == "perm"), ())


def _described(shapes: Mapping[str, Shape], program: Program) -> Program:
    """Add the shapes that are stated, for as many samples as the input has."""
    known = {name: (shape[0] or program.batch, *shape[1:]) for name, shape in shapes.items()}
    return replace(program, shapes={**known, **program.shapes})


def _inferred(model: onnx.ModelProto) -> dict[str, Shape]:
    """Let onnx say what shapes values have; only where something cannot be read."""
    from onnx import ModelProto, helper, shape_inference

    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.initializer[:]
    imported = {entry.domain for entry in bare.opset_import}
    for domain in {node.domain for node in bare.graph.node} - imported:
        bare.opset_import.add(domain=domain, version=1)
    there = {value.name for value in bare.graph.input}
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 1 and tensor.data_type == tensor.INT64 and tensor.dims[0] <= 16:
            bare.graph.initializer.append(tensor)  # perhaps a shape
        elif tensor.name not in there:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    try:
        graph = shape_inference.infer_shapes(bare, data_prop=False).graph
    except Exception:  # of every kind: then there are none
        return {}
    return known_shapes((*graph.value_info, *graph.output))


# What onnxruntime is given.


def _dependent(program: Program) -> list[str]:
    """Find the values that change with the input."""
    found = {program.input: None}
    for call in program.needed():
        if not found.keys().isdisjoint(call.reads()):
            found |= dict.fromkeys(filter(None, call.results))
    return list(found)[1:]


def _in_float32(model: onnx.ModelProto, tensors: Tensors) -> None:
    """Widen half precision, as the reader does, and bring in what lies in other files."""
    from onnx import numpy_helper

    attributes = [entry for node in model.graph.node for entry in node.attribute]
    own = [entry.t for entry in attributes if entry.type == entry.TENSOR]
    for tensor in (*model.graph.initializer, *own):
        if tensor.data_location == tensor.EXTERNAL or tensor.data_type in _HALVES:
            tensor.CopyFrom(numpy_helper.from_array(tensors.read(tensor), tensor.name))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = 1
    for entry in attributes:
        if entry.name == "to" and entry.i in _HALVES:
            entry.i = 1
