"""Which lower neurons j an upper neuron k reaches, and through which weight. Zero padding is no neuron."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

Node = Mapping[str, Any]
Shape = tuple[int, ...]


class Array(NamedTuple):
    """
    Numbers and their shape.

    Parameters
    ----------
    shape : tuple of int
        The shape.
    numbers : list
        In row-major order.
    """

    shape: Shape
    numbers: list[Any]

    @classmethod
    def of(cls, nested: Any) -> Array:
        """
        Read nested lists.

        Parameters
        ----------
        nested : list of list of ... numbers
            All of one length at each level; numbers are taken for what they are.

        Returns
        -------
        Array
            The same.
        """
        if not isinstance(nested, list | tuple):
            return cls((), [Fraction(nested)])
        parts = [cls.of(part) for part in nested]
        assert len({part.shape for part in parts}) == 1, f"a ragged array: {nested!r:.80}"
        return cls((len(parts), *parts[0].shape), [x for part in parts for x in part.numbers])


class Neuron(NamedTuple):
    """
    An upper neuron k.

    Parameters
    ----------
    taps : list of (int, Number)
        The lower neurons j in its reach, each with w_jk.
    b : Number or None
        Its bias, if it has one.
    """

    taps: list[tuple[int, Any]]
    b: Any


class Geometry(NamedTuple):
    """
    The neurons of a layer.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample of the output.
    neurons : list of Neuron
        In row-major order.
    """

    shape: Shape
    neurons: list[Neuron]


def neurons(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    """
    Lay out the neurons of a linear layer.

    Parameters
    ----------
    node : mapping
        The layer, as the vector files have it.
    shapes : sequence of tuple of int
        Shape of one sample of each input.
    weight, bias : sequence
        Its weights and biases in row-major order; empty where it has none.

    Returns
    -------
    Geometry
        Its neurons; inputs of a sum are counted one behind the other.
    """
    return _LINEAR[node["kind"]](node, shapes, weight, bias)


def _dense(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    k_count, j_count = node["weight"].shape
    assert shapes[0] == (j_count,), f"{node['name']}: got {shapes[0]}, wants {(j_count,)}"
    reach = [[(j, weight[k * j_count + j]) for j in range(j_count)] for k in range(k_count)]
    return Geometry((k_count,), [Neuron(taps, bias[k] if bias else None) for k, taps in enumerate(reach)])


def _convolution(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    channels, *size = shapes[0]
    k_count, per_group, *kernel = node["weight"].shape
    assert channels == per_group * node["groups"], f"{node['name']}: got {channels} channels"
    axes = _axes(node, size, kernel)
    found = []
    for k in range(k_count):
        first = k // (k_count // node["groups"]) * per_group
        for window in product(*axes):
            taps = []
            for c in range(per_group):
                for steps in product(*window):
                    i = _flat((k, c, *(tap for tap, _ in steps)), node["weight"].shape)
                    j = _flat((first + c, *(place for _, place in steps)), shapes[0])
                    taps.append((j, weight[i]))
            found.append(Neuron(taps, bias[k] if bias else None))
    return Geometry((k_count, *map(len, axes)), found)


def _pooling(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    channels, *size = shapes[0]
    axes = _axes(node, size, node["kernel"])
    found = []
    for c in range(channels):
        for place, window in enumerate(product(*axes)):
            js = [_flat((c, *(at for _, at in steps)), shapes[0]) for steps in product(*window)]
            found.append(Neuron([(j, weight[place]) for j in js], None))
    return Geometry((channels, *map(len, axes)), found)


def _diagonal(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    pixels = math.prod(shapes[0][1:])
    found = [Neuron([(k, weight[k // pixels])], bias[k // pixels]) for k in range(math.prod(shapes[0]))]
    return Geometry(shapes[0], found)


def _sum(node: Node, shapes: Sequence[Shape], weight: Sequence[Any], bias: Sequence[Any]) -> Geometry:
    size = math.prod(shapes[0])
    found = [Neuron([(m * size + k, weight[0]) for m in range(len(shapes))], None) for k in range(size)]
    return Geometry(shapes[0], found)


_LINEAR: dict[str, Callable[..., Geometry]] = {
    "dense": _dense,
    "conv2d": _convolution,
    "conv1d": _convolution,
    "avgpool2d": _pooling,
    "sumpool2d": _pooling,
    "maxpool2d": _pooling,
    "batchnorm": _diagonal,
    "add": _sum,
}


def is_linear(node: Node) -> bool:
    """
    Tell whether a layer has neurons that a rule applies to.

    Parameters
    ----------
    node : mapping
        The layer.

    Returns
    -------
    bool
        Whether it is linear, or max pooling.
    """
    return node["kind"] in _LINEAR


def constants(node: Node, shapes: Sequence[Shape]) -> tuple[list[Fraction], list[Fraction]]:
    """
    Give a linear layer's weights and biases.

    Parameters
    ----------
    node : mapping
        The layer.
    shapes : sequence of tuple of int
        Shape of one sample of each input.

    Returns
    -------
    weight, bias : list of Fraction
        In row-major order; a pooling has one weight for each position of its window, 1 / divisor or 1.
    """
    if node["kind"] == "batchnorm":
        return node["scale"].numbers, node["shift"].numbers
    if node["kind"] == "add":
        return [Fraction(1)], []
    if "kernel" in node:
        return _pooling_weights(node, shapes[0][1:]), []
    return node["weight"].numbers, node["bias"].numbers if node["bias"] else []


def _pooling_weights(node: Node, size: Sequence[int]) -> list[Fraction]:
    axes = _axes(node, size, node["kernel"])
    if node["kind"] != "avgpool2d":
        return [Fraction(1)] * math.prod(map(len, axes))
    if node["divisor"]:
        return [Fraction(1, node["divisor"])] * math.prod(map(len, axes))
    counts = []
    for axis, windows in enumerate(axes):
        before, after = node["padding"][2 * axis : 2 * axis + 2]
        kernel, stride = node["kernel"][axis], node["stride"][axis]
        if node["count_include_pad"]:  # cells of the padding count, but not what ceil mode adds behind it
            ends = [min(o * stride + kernel, before + size[axis] + after) for o in range(len(windows))]
            counts.append([end - o * stride for o, end in enumerate(ends)])
        else:
            counts.append([len(window) for window in windows])
    return [Fraction(1, math.prod(extents)) for extents in product(*counts)]


def _axes(node: Node, size: Sequence[int], kernel: Sequence[int]) -> list[list[list[tuple[int, int]]]]:
    """Give, per axis and position of the window, its pairs (tap, place in the image)."""
    axes = []
    for axis, extent in enumerate(size):
        before, after = node["padding"][2 * axis : 2 * axis + 2]
        stride, dilation = node["stride"][axis], node.get("dilation", [1] * len(size))[axis]
        reach = (kernel[axis] - 1) * dilation + 1
        room = before + extent + after - reach
        count = room // stride + 1
        if node.get("ceil_mode") and room % stride and count * stride < before + extent:
            count += 1  # a last window that starts in the image or before it
        assert count > 0, f"{node['name']}: the window does not fit"
        windows = []
        for o in range(count):
            places = [(tap, o * stride - before + tap * dilation) for tap in range(kernel[axis])]
            windows.append([(tap, place) for tap, place in places if 0 <= place < extent])
        axes.append(windows)
    return axes


def _flat(index: Sequence[int], shape: Sequence[int]) -> int:
    flat = 0
    for i, length in zip(index, shape, strict=True):
        flat = flat * length + i
    return flat


def pad(node: Node, shape: Shape) -> tuple[Shape, list[int | None]]:
    """
    Lay out an explicit padding.

    Parameters
    ----------
    node : mapping
        The layer.
    shape : tuple of int
        Shape (C, H, W) of one sample of the input.

    Returns
    -------
    shape : tuple of int
        Shape of one sample of the output.
    source : list of int or None
        For each cell of the output the place of the input that it holds; None for a cell of the padding.
    """
    c, h, w = shape
    top, bottom, left, right = node["padding"]
    source: list[int | None] = []
    for channel, y, x in product(range(c), range(-top, h + bottom), range(-left, w + right)):
        inside = 0 <= y < h and 0 <= x < w
        source.append(_flat((channel, y, x), shape) if inside else None)
    return (c, top + h + bottom, left + w + right), source


def concatenate(node: Node, shapes: Sequence[Shape]) -> tuple[Shape, list[tuple[int, int]]]:
    """
    Lay out a concatenation.

    Parameters
    ----------
    node : mapping
        The layer; `axis` counts the axes of one sample.
    shapes : sequence of tuple of int
        Shape of one sample of each input.

    Returns
    -------
    shape : tuple of int
        Shape of one sample of the output.
    source : list of (int, int)
        For each cell of the output the input that it comes from, and the place there.
    """
    axis = node["axis"]
    shape = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    source = []
    for index in product(*map(range, shape)):
        m, at = 0, index[axis]
        while at >= shapes[m][axis]:
            at, m = at - shapes[m][axis], m + 1
        source.append((m, _flat((*index[:axis], at, *index[axis + 1 :]), shapes[m])))
    return shape, source
