"""Forward and back through a small network, one sample at a time, with the books of every node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrpref.conformance.generator import formulas, geometry
from lrpref.conformance.generator.formulas import Share, Step, winners
from lrpref.conformance.generator.geometry import Array, Geometry, Neuron, Node, Shape
from lrpref.conformance.generator.numbers import Exact, Number, Numbers

INPUT = "input"

Rules = Mapping[str, Callable[..., list[Share]]]


@dataclass
class _Layer:
    """A node, and the batch norm that was folded into it, if any."""

    node: Node
    inputs: tuple[str, ...]
    stands_for: str
    before: Node | None = None
    after: Node | None = None


def propagate(
    n: Numbers, nodes: Sequence[Node], x: Array, R: Array, rules: Rules = formulas.RULES
) -> dict[str, Any]:
    """
    Explain a batch.

    Parameters
    ----------
    n : Numbers
        The arithmetic.
    nodes : sequence of mapping
        The network in topological order, as the vector files have it; the last one is the output.
    x, R : Array, shape (N, ...)
        The input, and the relevance of the output.
    rules : mapping
        The rules by name.

    Returns
    -------
    dict
        `R` of the input, and by node `z`, `shares`, `R` and `ledger`, as arrays of numbers; `undefined`
        tells of each sample whether a denominator is 0.
    """
    count = x.shape[0]
    samples = []
    for i in range(count):
        one = Array(x.shape[1:], _sample(x, i))
        samples.append(_explain(n, nodes, one, _sample(R, i), rules))
    stacked: dict[str, Any] = _stack(samples)
    return stacked


def _sample(batch: Array, i: int) -> list[Any]:
    size = math.prod(batch.shape[1:])
    return batch.numbers[i * size : (i + 1) * size]


def _stack(samples: Sequence[Any]) -> Any:
    """Turn a list of samples' results into one result of arrays with the samples in front."""
    first = samples[0]
    if isinstance(first, Array):
        return Array((len(samples), *first.shape), [x for sample in samples for x in sample.numbers])
    if isinstance(first, Mapping):
        return {key: _stack([sample[key] for sample in samples]) for key in first}
    return [_stack(parts) for parts in zip(*samples, strict=True)]


def _explain(n: Numbers, nodes: Sequence[Node], x: Array, R: Sequence[Any], rules: Rules) -> dict[str, Any]:
    layers = _folded(nodes)
    values = {INPUT: Array(x.shape, [n.number(v) for v in x.numbers])}
    laid_out: dict[str, Geometry] = {}
    for layer in layers:
        inputs = [values[name] for name in layer.inputs]
        values[layer.stands_for] = _forward(n, layer, inputs, laid_out)
    relevance: dict[str, list[list[Number]]] = {layers[-1].stands_for: [[n.number(v) for v in R]]}
    results: dict[str, dict[str, Any]] = {}
    undefined = False
    for layer in reversed(layers):
        name = layer.node["name"]
        z = values[layer.stands_for]
        arrived = _added(n, relevance.pop(layer.stands_for, []), len(z.numbers))
        inputs = [values[source] for source in layer.inputs]
        step, parts = _back(n, layer, inputs, arrived, laid_out.get(name), rules)
        undefined |= step.undefined
        _check_books(n, name, step.books)
        for source, part in zip(layer.inputs, parts, strict=True):
            relevance.setdefault(source, []).append(part)
        results[name] = {
            "z": z,
            "shares": [_shaped(share, z.shape, inputs) for share in step.shares],
            "R": Array(z.shape, arrived),
            "ledger": {account: Array((), [amount]) for account, amount in step.books.items()},
        }
    reached = _added(n, relevance[INPUT], len(x.numbers))
    _check_total(n, R, reached, [result["ledger"] for result in results.values()])
    ordered = {layer.node["name"]: results[layer.node["name"]] for layer in layers}
    return {"R": Array(x.shape, reached), "nodes": ordered, "undefined": Array((), [undefined])}


def _added(n: Numbers, parts: Sequence[Sequence[Number]], size: int) -> list[Number]:
    """Add up the relevances that the readers of a node hand it."""
    return [n.total(column) for column in zip(*parts, strict=True)] if parts else [n.number(0)] * size


def _shaped(share: Mapping[str, Any], shape: Shape, inputs: Sequence[Array]) -> dict[str, Any]:
    lower = inputs[0].shape if len(inputs) == 1 else (len(inputs), *inputs[0].shape)
    return {
        "z": Array(shape, share["z"]),
        "s": Array(shape, share["s"]),
        "c": [Array(lower, c) for c in share["c"]],
    }


# The way forward.


def _forward(n: Numbers, layer: _Layer, inputs: Sequence[Array], laid_out: dict[str, Geometry]) -> Array:
    node, shapes = layer.node, [value.shape for value in inputs]
    if geometry.is_linear(node):
        laid_out[node["name"]] = _lay_out(n, layer, shapes)
        shape, neurons = laid_out[node["name"]]
        a = [x for value in inputs for x in value.numbers]
        if node["kind"] == "maxpool2d":
            return Array(shape, [n.largest([a[j] for j, _ in neuron.taps]) for neuron in neurons])
        return Array(shape, [formulas.own(n, neuron, a) for neuron in neurons])
    (shape, a), *_ = inputs
    if node["kind"] == "relu":
        return Array(shape, [n.positive(v) for v in a])
    if node["kind"] == "flatten":
        return Array((len(a),), a)
    if node["kind"] == "pad":
        shape, source = geometry.pad(node, shape)
        return Array(shape, [n.number(node["value"]) if j is None else a[j] for j in source])
    if node["kind"] == "concat":
        shape, origin = geometry.concatenate(node, shapes)
        return Array(shape, [inputs[m].numbers[j] for m, j in origin])
    return inputs[0]


def _lay_out(n: Numbers, layer: _Layer, shapes: Sequence[Shape]) -> Geometry:
    """Give the layer's neurons, the batch norm that was folded into it multiplied in."""
    weight, bias = ([n.number(v) for v in values] for values in geometry.constants(layer.node, shapes))
    shape, neurons = geometry.neurons(layer.node, shapes, weight, bias)
    if layer.after is not None:
        scale, shift = ([n.number(v) for v in layer.after[key].numbers] for key in ("scale", "shift"))
        channel = [k * len(scale) // len(neurons) for k in range(len(neurons))]
        neurons = [_rescaled(neuron, scale[c], shift[c]) for neuron, c in zip(neurons, channel, strict=True)]
    if layer.before is not None:
        scale, shift = ([n.number(v) for v in layer.before[key].numbers] for key in ("scale", "shift"))
        size = math.prod(shapes[0])
        neurons = [_shifted(n, neuron, scale, shift, size) for neuron in neurons]
    return Geometry(shape, neurons)


def _rescaled(neuron: Neuron, scale: Number, shift: Number) -> Neuron:
    """Fold the batch norm behind: w scale, b scale + shift."""
    b = shift if neuron.b is None else neuron.b * scale + shift
    return Neuron([(j, w * scale) for j, w in neuron.taps], b)


def _shifted(n: Numbers, neuron: Neuron, scale: list[Number], shift: list[Number], size: int) -> Neuron:
    """Fold the batch norm before: w scale_j, b + sum_j w shift_j."""
    channel = {j: j * len(scale) // size for j, _ in neuron.taps}
    offsets = [w * shift[channel[j]] for j, w in neuron.taps]
    b = n.total(offsets if neuron.b is None else [*offsets, neuron.b])
    return Neuron([(j, w * scale[channel[j]]) for j, w in neuron.taps], b)


def _folded(nodes: Sequence[Node]) -> list[_Layer]:
    """Fold every batch norm without a rule into the linear layer before it, else into the one behind."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node["inputs"]:
            readers.setdefault(name, []).append(node)
    layers: dict[str, _Layer] = {}
    for node in nodes:
        below = layers.get(node["inputs"][0])
        alone = len(readers[node["inputs"][0]]) == 1
        if node["kind"] != "batchnorm" or node["rule"] is not None:
            waiting = below is not None and below.node["kind"] == "batchnorm" and below.node["rule"] is None
            layer = _Layer(node, tuple(node["inputs"]), node["name"])
            if waiting and below is not None:
                del layers[below.stands_for]
                layer.before, layer.inputs = below.node, below.inputs
            layers[node["name"]] = layer
        elif alone and below is not None and below.node["kind"] in ("dense", "conv2d", "conv1d"):
            del layers[below.stands_for]
            below.after, below.stands_for = node, node["name"]
            layers[node["name"]] = below
        else:
            layers[node["name"]] = _Layer(node, tuple(node["inputs"]), node["name"])
    return list(layers.values())


# The way back.


def _back(
    n: Numbers,
    layer: _Layer,
    inputs: Sequence[Array],
    R: Sequence[Number],
    laid_out: Geometry | None,
    rules: Rules,
) -> tuple[Step, list[list[Number]]]:
    """Give what a layer did, and the relevance of each of its inputs."""
    node, rule = layer.node, layer.node["rule"]
    if laid_out is not None and rule["name"] != "pass":
        neurons = laid_out.neurons
        a = [x for value in inputs for x in value.numbers]
        if rule["name"] == "winner-take-all":
            neurons = [winners(n, neuron, a, rule["ties"]) for neuron in neurons]
        elif node["kind"] == "maxpool2d":
            assert not any(n.sign(v) < 0 for v in a), f"{node['name']}: sum pooling wants activations >= 0"
        channels = inputs[0].shape[0] * len(inputs)
        step = formulas.relprop(n, rule, neurons, a, R, channels, rules)
        size = len(inputs[0].numbers)
        return step, [step.R[m * size : (m + 1) * size] for m in range(len(inputs))]
    parts = [[n.number(0) for _ in value.numbers] for value in inputs]
    outside = []
    for k, (m, j) in enumerate(_origins(node, inputs, len(R))):
        if j is None:
            outside.append(R[k])
        else:
            parts[m][j] = R[k]
    nothing = n.number(0)
    books = {"arriving": n.total(R), "to_inputs": n.total(x for part in parts for x in part)}
    books |= dict.fromkeys(formulas.ACCOUNTS, nothing) | {"padding": n.total(outside)}
    return Step([], [], books), parts


def _origins(node: Node, inputs: Sequence[Array], size: int) -> list[tuple[int, int | None]]:
    """Give the input, and the place in it, that each output passes its relevance on to."""
    if node["kind"] == "concat":
        return list(geometry.concatenate(node, [value.shape for value in inputs])[1])
    if node["kind"] == "pad":
        return [(0, j) for j in geometry.pad(node, inputs[0].shape)[1]]
    return [(0, j) for j in range(size)]


# The books close, exactly, or there is no vector.


def _check_books(n: Numbers, name: str, books: Mapping[str, Number]) -> None:
    if isinstance(n, Exact):
        accounts = sum(books[account] for account in ("to_inputs", *formulas.ACCOUNTS))
        assert books["arriving"] == accounts, f"the books of {name} do not close"


def _check_total(
    n: Numbers, R: Sequence[Any], reached: Sequence[Number], ledgers: Sequence[Mapping[str, Array]]
) -> None:
    if isinstance(n, Exact):
        booked = sum(ledger[account].numbers[0] for ledger in ledgers for account in formulas.ACCOUNTS)
        assert sum(R) == sum(reached) + booked, "the network's books do not close"
