"""A network: named nodes in topological order, with its classes and its preprocessing."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lrpref import exact, heads
from lrpref.errors import BadInput, BadNetwork, BadWeights, LrprefError
from lrpref.files import new_file, regular
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import Array
from lrpref.layers import LAYERS, Layer, Shape, Softmax
from lrpref.preprocessing import Preprocessing
from lrpref.tables import fill, within

INPUT = "input"
"""The name under which nodes refer to the network's input."""

FORMAT = 1

LARGEST, MAX_AXES, MAX_NODES = 1 << 36, 16, 10_000
"""More no network has: numbers that a node gives for each sample, their axes, nodes."""

MAX_GRAPH = 8 << 20
"""The longest graph that is read, in characters of JSON."""


@dataclass(frozen=True)
class Node:
    """
    One layer in its place.

    Parameters
    ----------
    name : str
        Unique in its network.
    layer : Layer
        What it computes.
    inputs : tuple of str
        The nodes it reads, or `"input"`.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """
    A directed acyclic graph of named nodes; the last node is the output.

    Parameters
    ----------
    nodes : sequence of Node
        Each reads only nodes before it, or the input.
    input_shape : tuple of int
        Shape of one sample, (C, H, W) or (J,).
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.
    name : str
        What the network is called.
    provenance : mapping
        Where it comes from: plain JSON data.
    merged : mapping of str to str
        Nodes that folding merged into others (`lrpref.fold`).
    source : str
        The file it was read from, or a name that the command line knows; no part of its digest.

    Raises
    ------
    BadNetwork
        If a shape does not fit: the node, the shape it got and the shape it wants. Also if a name is not
        one line of text, or a weight is not a finite real number.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    name: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    merged: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        object.__setattr__(self, "classes", tuple(self.classes))
        for text in (self.name, *self.classes, *(node.name for node in self.nodes)):
            if not isinstance(text, str) or not text.isprintable() or len(text) > 500:
                raise BadNetwork(f"the name {str(text)[:60]!r} is not one line of at most 500 characters")
        if not isinstance(self.provenance, Mapping):
            raise BadNetwork(f"a network's provenance is {self.provenance!r}, wants a table")
        _check_size("its input", self.input_shape)
        if not self.input_shape or not all(type(n) is int and n > 0 for n in self.input_shape):
            raise BadNetwork(
                f"input shape is {self.input_shape}, wants whole numbers >= 1: (J,) or (C, H, W)"
            )
        if not 1 <= len(self.nodes) <= MAX_NODES:
            raise BadNetwork(f"a network needs at least one node, at most {MAX_NODES}: got {len(self.nodes)}")
        shape = self.shapes[self.nodes[-1].name]
        if self.preprocessing is not None and self.preprocessing.shape() != self.input_shape:
            raise BadNetwork(
                f"preprocessing gives {self.preprocessing.shape()}, the network wants {self.input_shape}"
            )
        if self.classes and shape != (len(self.classes),):
            raise BadNetwork(f"{len(self.classes)} class names for an output of shape {shape}")

    def __repr__(self) -> str:
        return (
            f"<Network {self.name!r}: {len(self.nodes)} nodes, {self.input_shape} to {self.shapes[self.top]}>"
        )

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of one sample of the input and of every node's output."""
        shapes: dict[str, Shape] = {INPUT: self.input_shape}
        for node in self.nodes:
            if node.name in shapes:
                raise BadNetwork(f"node '{node.name}': there is one of this name already")
            for name in node.inputs:
                if name not in shapes:
                    raise BadNetwork(f"node '{node.name}' reads '{name}', which is no node before it")
            wanted = node.layer.inputs
            if len(node.inputs) != wanted if wanted is not None else len(node.inputs) < 2:
                raise BadNetwork(
                    f"node '{node.name}' ({node.layer.kind}): got {len(node.inputs)} inputs, "
                    f"wants {wanted or '2 or more'}"
                )
            if isinstance(node.layer, Softmax) and node is not self.nodes[-1]:
                raise BadNetwork(f"node '{node.name}': softmax can stand only at the top of a network")
            try:
                shapes[node.name] = node.layer.output_shape(*(shapes[name] for name in node.inputs))
            except BadNetwork as error:
                raise BadNetwork(f"node '{node.name}' ({node.layer.kind}): {error}") from None
            _check_size(f"node '{node.name}' ({node.layer.kind})", shapes[node.name])
            _check_finite(node)
        return shapes

    @property
    def top(self) -> str:
        """The node whose output is the network's."""
        return self.nodes[-1].name

    def before_softmax(self) -> Network:
        """
        Drop a final softmax, and whatever does not lead to what it reads.

        Returns
        -------
        Network
            The network whose output is the scores z_c of Section 10.3.1.
        """
        last = self.nodes[-1]
        if not isinstance(last.layer, Softmax):
            return self
        if last.inputs[0] == INPUT:
            raise BadNetwork(f"node '{last.name}': a softmax of the input alone leaves nothing to explain")
        nodes = self.nodes[: [n.name for n in self.nodes].index(last.inputs[0]) + 1]
        return dataclasses.replace(self, nodes=nodes)

    def node(self, name: str) -> Node:
        """
        Find a node.

        Parameters
        ----------
        name : str
            Its name, or that of a node that was merged into it.

        Returns
        -------
        Node
            The node.

        Raises
        ------
        BadInput
            If there is none; the message names the nearest.
        """
        found = {node.name: node for node in self.nodes}.get(self.merged.get(name, name))
        if found is not None:
            return found
        names = [node.name for node in self.nodes]
        near = difflib.get_close_matches(str(name), names, 3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise BadInput(f"there is no node '{name}'{meant} the network has {', '.join(names)}")

    def consumers(self, name: str) -> list[Node]:
        """
        Find the nodes that read a node.

        Parameters
        ----------
        name : str
            The node read, or `"input"`.

        Returns
        -------
        list of Node
            In topological order.
        """
        return [node for node in self.nodes if name in node.inputs]

    def astype(self, arithmetic: exact.Arithmetic) -> Network:
        """
        Give every layer the numbers of an arithmetic.

        Parameters
        ----------
        arithmetic : Arithmetic
            From `lrpref.exact.get`.

        Returns
        -------
        Network
            The same network.
        """
        nodes = [dataclasses.replace(node, layer=arithmetic.cast(node.layer)) for node in self.nodes]
        return dataclasses.replace(self, nodes=tuple(nodes))

    def check_input(self, x: Any) -> Array:
        """
        Check a batch of inputs.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Preprocessed inputs.

        Returns
        -------
        ndarray, shape (N, ...)
            The same.

        Raises
        ------
        BadInput
            If the shape is wrong, or a value is not finite.
        """
        try:
            x = np.asarray(x)
        except (ValueError, TypeError, RuntimeError) as error:
            raise BadInput(f"input is no array of numbers ({error})") from None
        if x.shape[1:] != self.input_shape or not len(x):
            raise BadInput(f"input is {x.shape}, wants (N, {', '.join(map(str, self.input_shape))})")
        if x.dtype != object:
            if x.dtype.kind not in "fiu":
                raise BadInput(f"input is of dtype {x.dtype}, wants real numbers")
            if not np.isfinite(x).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
                raise BadInput(f"input holds {x[where]} at {where}: finite numbers are wanted")
        return x

    def activations(self, x: Array, kernels: Any) -> dict[str, Array]:
        """
        Run the forward pass and keep every node's output.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
            Inputs, in the arithmetic of the layers.
        kernels : object
            The backend.

        Returns
        -------
        dict of str to ndarray
            Outputs by node, and the input under `"input"`.
        """

        def forward(node: Node, inputs: list[Array]) -> Array:
            return node.layer.forward(kernels, *inputs)

        return self.walk(x, forward)

    def walk(self, x: Array, forward: Callable[[Node, list[Array]], Array]) -> dict[str, Array]:
        """
        Visit every node from the input up, and keep what it gives.

        Parameters
        ----------
        x : ndarray, shape (N, ...)
            Inputs.
        forward : callable
            From a node and its inputs to its output.

        Returns
        -------
        dict of str to ndarray
            Outputs by node, and the input under `"input"`.

        Raises
        ------
        LrprefError
            If a node cannot take what it gets; the message names it.
        """
        values = {INPUT: x}
        for node in self.nodes:
            try:
                values[node.name] = forward(node, [values[name] for name in node.inputs])
            except LrprefError as error:
                raise type(error)(f"node '{node.name}': {error}") from None
        return values

    def forward(self, x: Any, *, backend: str = "numpy", dtype: str = "float64") -> Array:
        """
        Compute the output.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Preprocessed inputs.
        backend : str
            A name that `lrpref.kernels.backend` knows.
        dtype : str
            One of `lrpref.exact.DTYPES`.

        Returns
        -------
        ndarray, shape (N, K)
            The output of the last node.
        """
        arithmetic, kernels = exact.get(dtype), get_backend(backend)
        x = arithmetic.array(self.check_input(x))
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.astype(arithmetic).activations(kernels.upload(x), kernels)
        return self.check_output(kernels.download(values[self.top]))

    def check_output(self, output: Array) -> Array:
        """
        Check a batch of outputs.

        Parameters
        ----------
        output : ndarray, shape (N, ...)
            What the forward pass gave.

        Returns
        -------
        ndarray, shape (N, ...)
            The same.

        Raises
        ------
        BadInput
            If a value is not finite.
        """
        if output.dtype != object and not np.isfinite(output).all():
            dtype = exact.arithmetic_of(output).name
            raise BadInput(
                f"the network's output is not finite in dtype '{dtype}': are the inputs preprocessed?"
            )
        return output

    def walk_back(
        self,
        values: Mapping[str, Array],
        g: Array,
        backward: Callable[[Node, list[Array], Array], list[Array]],
    ) -> Array:
        """
        Visit every node from the output down, and add up what arrives where nodes share an input.

        Parameters
        ----------
        values : mapping of str to ndarray
            Outputs by node, as `walk` gives them.
        g : ndarray, like the output
            What starts at the output.
        backward : callable
            From a node, its inputs and what arrives at its output to what each input receives.

        Returns
        -------
        ndarray, shape (N, ...)
            What arrives at the input.
        """
        arrived = {self.top: g}
        for node in reversed(self.nodes):
            if node.name in arrived:
                parts = backward(node, [values[name] for name in node.inputs], arrived[node.name])
                for name, part in zip(node.inputs, parts, strict=True):
                    arrived[name] = arrived[name] + part if name in arrived else part
        return arrived[INPUT]

    def gradient(
        self, x: Any, target: heads.Target = "max", *, backend: str = "numpy", dtype: str = "float64"
    ) -> Array:
        """
        Compute the gradient of the explained score with respect to the input, from the transposes.

        Parameters
        ----------
        x : array_like, shape (N, ...)
            Preprocessed inputs.
        target : int, sequence of int, or "max"
            The class whose score is meant, before a softmax.
        backend : str
            A name that `lrpref.kernels.backend` knows.
        dtype : str
            One of `lrpref.exact.DTYPES`.

        Returns
        -------
        ndarray, like x
            The gradient, in units of the score per unit of x.
        """
        arithmetic, kernels = exact.get(dtype), get_backend(backend)
        network = self.before_softmax().astype(arithmetic)
        values = network.activations(kernels.upload(arithmetic.array(self.check_input(x))), kernels)
        scores = kernels.download(values[network.top])
        ones = kernels.upload(heads.one_hot(scores, heads.classes(scores, target)))

        def backward(node: Node, inputs: list[Array], g: Array) -> list[Array]:
            return node.layer.gradient(kernels, inputs, g)

        return kernels.download(network.walk_back(values, ones, backward))

    def preprocess(self, picture: Any) -> Array:
        """
        Turn a picture into an input.

        Parameters
        ----------
        picture : path, PIL image, or ndarray of uint8, shape (H, W) or (H, W, 3)
            The picture.

        Returns
        -------
        ndarray of float64, shape (1, C, H, W)
            The input.

        Raises
        ------
        BadInput
            If the picture cannot be read, or the network has no preprocessing.
        """
        if self.preprocessing is None:
            raise BadInput(
                f"network '{self.name}' says nothing of preprocessing: give it ready-made inputs "
                "(.npy), or a copy that knows how: lrpref convert --preprocessing, network.preprocessing"
            )
        return self.preprocessing(picture)

    def label(self, index: int) -> str:
        """
        Name an output.

        Parameters
        ----------
        index : int
            Which one.

        Returns
        -------
        str
            The class's name, or the index.
        """
        return self.classes[index] if self.classes else f"output {index}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of graph and weights, in hexadecimal; not of the network's name and provenance."""
        graph, tensors = _to_graph(self)
        graph = {key: value for key, value in graph.items() if key not in ("name", "provenance")}
        state = hashlib.sha256(json.dumps(graph, sort_keys=True).encode())
        for name in sorted(tensors):
            array = np.ascontiguousarray(tensors[name])
            state.update(f"{name} {array.dtype.str} {array.shape}".encode())
            state.update(array.tobytes())
        return state.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """
        Write the neutral format: safetensors, with the graph as JSON in its header.

        Parameters
        ----------
        path : path-like
            The file; it is replaced only when all is written.

        Raises
        ------
        BadNetwork
            If the weights are not float32 or float64, such as after `astype` to exact numbers.
        BadRecord
            If the file cannot be written, or something else than a file is there.
        """
        from safetensors.numpy import save

        graph, tensors = _to_graph(self)
        if any(array.dtype.kind != "f" or array.dtype.itemsize > 8 for array in tensors.values()):
            raise BadNetwork("only float weights can be saved: save the network as it was before astype")
        contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        with new_file(Path(path)) as temporary:
            temporary.write_bytes(save(contiguous, {"lrpref": json.dumps(graph)}))


def _check_size(what: str, shape: Shape) -> None:
    if len(shape) > MAX_AXES:
        raise BadNetwork(f"{what} has {len(shape)} axes, more than {MAX_AXES}")
    if all(type(n) is int for n in shape) and math.prod(shape) > LARGEST:
        raise BadNetwork(f"{what} has more than {LARGEST} numbers for each sample")


def _check_finite(node: Node) -> None:
    for f in dataclasses.fields(node.layer):  # type: ignore[arg-type]
        array = getattr(node.layer, f.name)
        if isinstance(array, np.ndarray) and array.dtype.kind not in "fiuO":
            raise BadNetwork(f"node '{node.name}': {f.name} is of dtype {array.dtype}, wants real numbers")
        if isinstance(array, np.ndarray) and array.dtype != object and not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise BadNetwork(
                f"node '{node.name}': {f.name} holds {array[where]} at {where}: finite numbers are wanted"
            )


def _to_graph(network: Network) -> tuple[dict[str, Any], dict[str, Array]]:
    """Split a network into plain data and tensors."""
    nodes, tensors = [], {}
    for node in network.nodes:
        entry: dict[str, Any] = {"name": node.name, "layer": node.layer.kind, "inputs": list(node.inputs)}
        for f in dataclasses.fields(node.layer):  # type: ignore[arg-type]
            value = getattr(node.layer, f.name)
            if isinstance(value, np.ndarray):
                tensors[f"{node.name}.{f.name}"] = value
                entry.setdefault("tensors", []).append(f.name)
            elif value is not None and value != f.default:
                entry[f.name] = value
        nodes.append(entry)
    graph = {
        "format": FORMAT,
        "name": network.name,
        "input": list(network.input_shape),
        "nodes": nodes,
        "classes": list(network.classes),
        "preprocessing": dataclasses.asdict(network.preprocessing) if network.preprocessing else None,
        "provenance": dict(network.provenance),
    }
    return json.loads(json.dumps(graph)), tensors


def make_layer(kind: str, parameters: Mapping[str, Any]) -> Layer:
    """
    Make a layer by its name.

    Parameters
    ----------
    kind : str
        A name in `lrpref.layers.LAYERS`.
    parameters : mapping
        Its fields: arrays, and plain data whose lists become tuples.

    Returns
    -------
    Layer
        The layer.

    Raises
    ------
    BadNetwork
        If there is no such layer, or a parameter does not belong to it.
    """
    if kind not in LAYERS:
        raise BadNetwork(f"unknown layer {kind!r}: there are {', '.join(LAYERS)}")
    arrays = {name: value for name, value in parameters.items() if isinstance(value, np.ndarray)}
    others = {name: value for name, value in parameters.items() if name not in arrays}
    with within(kind):
        return fill(LAYERS[kind], others, arrays)


def load(path: str | os.PathLike[str]) -> Network:
    """
    Read a network in the neutral format.

    Parameters
    ----------
    path : path-like
        A file written by `Network.save` or `lrpref convert`.

    Returns
    -------
    Network
        The network; its weights are the file's own.

    Raises
    ------
    BadWeights
        If the file is not one of ours, or is damaged. Nothing in it can run code.
    """
    from safetensors import SafetensorError, safe_open

    path = regular(path, BadWeights)
    try:
        with safe_open(path, framework="numpy") as file:
            header = (file.metadata() or {}).get("lrpref")
            tensors = {name: file.get_tensor(name) for name in file.keys()} if header else {}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise BadWeights(f"{path}: cannot be read as safetensors ({error})") from None
    if not header:
        raise BadWeights(
            f"{path}: holds tensors but no graph; load it with an architecture: "
            "lrpref convert FILE --architecture NAME, or weights_import.load"
        )
    if len(header) > MAX_GRAPH:
        raise BadWeights(f"{path}: its graph has {len(header)} characters, expected at most {MAX_GRAPH}")
    try:
        return dataclasses.replace(_from_graph(json.loads(header), tensors), source=str(path))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise BadWeights(f"{path}: its graph is damaged ({type(error).__name__}: {error})") from None
    except BadNetwork as error:
        raise BadWeights(f"{path}: {error}") from None


def _from_graph(graph: Mapping[str, Any], tensors: Mapping[str, Array]) -> Network:
    if graph["format"] != FORMAT:
        raise BadNetwork(f"its format is {graph['format']!r:.60}; this version reads {FORMAT}")
    integers = [name for name, tensor in tensors.items() if tensor.dtype.kind != "f"]
    if integers:
        raise BadNetwork(f"tensor '{integers[0]}' is of dtype {tensors[integers[0]].dtype}, wants floats")
    if len(graph["nodes"]) > MAX_NODES:
        raise BadNetwork(f"it has more than {MAX_NODES} nodes")
    nodes, used = [], set()
    for entry in graph["nodes"]:
        parameters = {k: v for k, v in entry.items() if k not in ("name", "layer", "inputs", "tensors")}
        names = {f: f"{entry['name']}.{f}" for f in entry.get("tensors", ())}
        missing = [name for name in names.values() if name not in tensors]
        if missing or names.keys() & parameters.keys():
            raise BadNetwork(f"node '{entry['name']}': missing or given twice: {', '.join(missing or names)}")
        used |= set(names.values())
        layer = make_layer(entry["layer"], {**parameters, **{f: tensors[name] for f, name in names.items()}})
        nodes.append(Node(str(entry["name"]), layer, tuple(entry["inputs"])))
    if tensors.keys() - used:
        raise BadNetwork(f"unexpected tensors: {', '.join(sorted(tensors.keys() - used))}")
    preprocessing = graph["preprocessing"]
    with within("preprocessing"):
        steps = fill(Preprocessing, preprocessing) if preprocessing else None
    return Network(
        tuple(nodes),
        tuple(graph["input"]),
        tuple(graph["classes"]),
        steps,
        graph["name"],
        graph["provenance"],
    )


def chain(layers: Iterable[tuple[str, Layer]], input_shape: Sequence[int], **options: Any) -> Network:
    """
    Make a network of layers that follow one another.

    Parameters
    ----------
    layers : iterable of (name, Layer)
        From the input to the output.
    input_shape : sequence of int
        Shape of one sample.
    **options
        Further parameters of `Network`.

    Returns
    -------
    Network
        The network.
    """
    nodes, before = [], INPUT
    for name, layer in layers:
        nodes.append(Node(name, layer, (before,)))
        before = name
    return Network(tuple(nodes), tuple(input_shape), **options)
