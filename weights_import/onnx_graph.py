"""An ONNX file as a graph that has been checked: each name is there once, nodes come after what they read."""

from __future__ import annotations

import hashlib
import heapq
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpref.errors import BadBackend, BadNetwork, BadWeights
from lrpref.files import regular
from lrpref.layers import Shape
from lrpref.weights_import.pickles import reason_of, shown

if TYPE_CHECKING:
    import onnx

OPSETS = range(7, 29)
"""The versions of ONNX's operators that are read. Before 7, operators broadcast by attributes."""

MAX_BYTES = (1 << 31) - 1
"""No protobuf message is longer; larger models keep their weights in files beside them."""

MAX_NODES = 10_000
"""No network has so many nodes and tensors; two bytes of a file are enough for one."""


def needed(package: str) -> Any:
    """
    Import an optional package.

    Parameters
    ----------
    package : str
        Its name.

    Returns
    -------
    module
        The package.

    Raises
    ------
    BadBackend
        If it is not there.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise BadBackend(
            f"an ONNX file is read with the package {package}, which is not there: pip install 'lrpref[onnx]'"
        ) from None


def parsed(path: Path) -> tuple[onnx.ModelProto, str]:
    """
    Parse a file; weights outside are not touched.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    model : onnx.ModelProto
        What it holds.
    digest : str
        Its SHA-256.

    Raises
    ------
    BadWeights
        If it is no ONNX file.
    BadBackend
        If the package onnx is not there.
    """
    onnx = needed("onnx")
    regular(path, BadWeights)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise BadWeights(f"is larger than {MAX_BYTES} bytes: save the model with external data")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadWeights(f"cannot be read: {error.strerror or error}") from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # of protobuf's own kind, which depends on its version
        raise BadWeights(f"is no ONNX file, or a damaged one ({reason_of(error)})") from None
    if not model.HasField("graph") or not model.ir_version:
        raise BadWeights("is no ONNX file: it holds no graph")
    if len(model.graph.node) + len(model.graph.initializer) > MAX_NODES:
        raise BadWeights(f"has more than {MAX_NODES} nodes and tensors")
    if not all(isinstance(name, str) for name in _names(model)):  # protobuf gives the bytes of such a name
        raise BadWeights("is damaged: one of its names is no UTF-8")
    return model, hashlib.sha256(data).hexdigest()


def _names(model: onnx.ModelProto) -> Iterator[str]:
    """Give every name that is read."""
    graph = model.graph
    yield from (graph.name, model.producer_name, model.producer_version)
    yield from (entry.domain for entry in model.opset_import)
    yield from (item.name for item in (*graph.initializer, *graph.input, *graph.output, *graph.value_info))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (entry.name for entry in node.attribute)


def line(text: str) -> str:
    """
    Make a name of the file fit for one line.

    Parameters
    ----------
    text : str
        The name.

    Returns
    -------
    str
        The same, or quoted and escaped where it is long or not printable.
    """
    return text if text.isprintable() and len(text) <= 200 else shown(text)


@dataclass(frozen=True)
class Graph:
    """
    A graph whose names have been checked.

    Parameters
    ----------
    opset : int
        The version of its operators.
    nodes : tuple of onnx.NodeProto
        Its nodes, each after what it reads.
    inputs : mapping of str to onnx.ValueInfoProto
        Its inputs, but for those that only have a tensor as their default.
    outputs : tuple of str
        What it gives.
    tensors : mapping of str to onnx.TensorProto
        Its initialisers.
    makers : mapping of str to onnx.NodeProto
        The node that gives a value.
    described : mapping of str to tuple of int
        Shapes that it states, with 0 where it leaves the number of samples open.
    """

    opset: int
    nodes: tuple[onnx.NodeProto, ...]
    inputs: Mapping[str, onnx.ValueInfoProto]
    outputs: tuple[str, ...]
    tensors: Mapping[str, onnx.TensorProto]
    makers: Mapping[str, onnx.NodeProto]
    described: Mapping[str, Shape]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Graph:
        """
        Check a model's graph.

        Parameters
        ----------
        model : onnx.ModelProto
            The model.

        Returns
        -------
        Graph
            Its graph.

        Raises
        ------
        BadNetwork
            If two things have one name, nodes wait for one another, or it holds what is not read: functions,
            sparse tensors, operators of another version.
        """
        graph = model.graph
        if model.functions:
            raise BadNetwork("holds functions of its own: onnx.inliner.inline_local_functions inlines them")
        if graph.sparse_initializer:
            raise BadNetwork("holds sparse tensors: save them as dense ones")
        tensors = _unique(((tensor.name, tensor) for tensor in graph.initializer), "tensors")
        inputs = _unique(((value.name, value) for value in graph.input), "inputs")
        makers = _unique(((name, node) for node in graph.node for name in node.output if name), "results")
        for name in makers.keys() & {*inputs, *tensors}:
            raise BadNetwork(f"value {shown(name)} is given by a node, and is there already")
        return cls(
            _opset(model),
            _ordered(graph.node),
            {name: value for name, value in inputs.items() if name not in tensors},
            tuple(value.name for value in graph.output),
            tensors,
            makers,
            known_shapes((*graph.value_info, *graph.output)),
        )


def known_shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, Shape]:
    """
    Collect the shapes that are known but for the number of samples.

    Parameters
    ----------
    values : iterable of onnx.ValueInfoProto
        What is said of values.

    Returns
    -------
    dict of str to tuple of int
        Shapes by names, with 0 for an open number of samples.
    """
    shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in values}
    return {name: shape for name, shape in shapes.items() if shape and min(shape[1:], default=1) > 0}


def name_of(node: onnx.NodeProto) -> str:
    """
    Say what a node is called.

    Parameters
    ----------
    node : onnx.NodeProto
        The node.

    Returns
    -------
    str
        Its name; its first result's where it has none.
    """
    return node.name or next(filter(None, node.output), node.op_type)


def _opset(model: onnx.ModelProto) -> int:
    found = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if len(found) != 1:
        raise BadNetwork(f"names {len(found)} versions of ONNX's operators, expected one")
    opset = found.pop()
    if opset not in OPSETS:
        raise BadNetwork(
            f"is of opset {opset}; {OPSETS.start} to {OPSETS.stop - 1} are read: onnx.version_converter "
            "changes it"
        )
    return opset


def _unique(pairs: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in pairs:
        if not name:
            raise BadNetwork(f"one of its {what} has no name")
        if name in found:
            raise BadNetwork(f"two {what} have the name {shown(name)}")
        found[name] = item
    return found


def _ordered(nodes: Sequence[onnx.NodeProto]) -> tuple[onnx.NodeProto, ...]:
    """Sort nodes so that each comes after what it reads, else as they stand in the file."""
    first = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    reads = [{first[name] for name in node.input if name in first} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for number, needed in enumerate(reads):
        for other in needed:
            readers[other].append(number)
    waiting = [len(needed) for needed in reads]
    ready = [number for number, count in enumerate(waiting) if not count]
    order = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for reader in readers[number]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise BadNetwork(f"its graph has a cycle: {_cycle(nodes, reads, waiting)}")
    return tuple(nodes[number] for number in order)


def _cycle(nodes: Sequence[onnx.NodeProto], reads: Sequence[set[int]], waiting: Sequence[int]) -> str:
    """Follow what cannot run to what it waits for, until it comes round."""
    number = next(n for n, count in enumerate(waiting) if count)
    path: dict[int, None] = {}
    while number not in path:
        path[number] = None
        number = next(n for n in sorted(reads[number]) if waiting[n])
    names = list(path)[list(path).index(number) :]
    told = [line(name_of(nodes[n])) for n in (*names[:8], number)]
    return " reads ".join(told if len(names) <= 8 else [*told[:-1], "..."])
