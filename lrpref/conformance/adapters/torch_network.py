"""A network as a `torch.nn.Module`: the same function, one module for each node.

Relevance libraries see modules, so the choice of modules matters. A convolution whose padding differs from
side to side stays one module that pads inside its `forward`: such padding is implicit, as it is here. An
explicit padding module would count as image, and the flat and z^B rules would leak into it. A sum is a module
too, zennit's where it is installed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lrpref import exact, layers
from lrpref.conformance import adapters
from lrpref.errors import BadNetwork
from lrpref.kernels.operations import Array
from lrpref.layers import Layer, Shape
from lrpref.network import INPUT, Network


class TorchNetwork(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    The function of a network, in PyTorch.

    Parameters
    ----------
    network : Network
        The network.
    dtype : {"float32", "float64"}
        Of its weights.
    """

    def __init__(self, network: Network, dtype: str = "float64") -> None:
        super().__init__()
        self.wiring = [(node.name, node.inputs) for node in network.nodes]
        for node in network.astype(exact.get(dtype)).nodes:
            try:
                made = module_of(node.layer, network.shapes[node.inputs[0]])
            except BadNetwork as error:
                raise BadNetwork(f"node '{node.name}': {error}") from None
            self._place(node.name, made)
        self.eval().requires_grad_(False)

    def _place(self, name: str, module: nn.Module) -> None:
        """Add a module; the dots of its name are PyTorch's levels."""
        container: nn.Module = self
        *levels, last = name.split(".")
        for level in levels:
            if level not in dict(container.named_children()):
                container.add_module(level, nn.Module())
            container = container.get_submodule(level)
        container.add_module(last, module)

    def outputs(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Run the forward pass and keep every node's output.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        dict of str to torch.Tensor
            Outputs by node, and the input under `"input"`.
        """
        values = {INPUT: x}
        for name, inputs in self.wiring:
            values[name] = self.step(name)(*(values[i] for i in inputs))
        return values

    def step(self, name: str) -> Callable[..., torch.Tensor]:
        """
        Give what computes a node's output.

        Parameters
        ----------
        name : str
            The node.

        Returns
        -------
        callable
            Its module.
        """
        return self.get_submodule(name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the output.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (N, K)
            The output of the last node.
        """
        return self.outputs(x)[self.wiring[-1][0]]


class UnevenConv2d(nn.Conv2d):  # type: ignore[misc, unused-ignore]
    """
    A convolution with its own padding on each side.

    Parameters
    ----------
    sides : tuple of int
        Padding (left, right, top, bottom), in pixels.
    *arguments, **options
        As for `torch.nn.Conv2d`.
    """

    def __init__(self, sides: tuple[int, int, int, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sides = sides

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """
        Pad, then convolve.

        Parameters
        ----------
        input : torch.Tensor, shape (N, C, H, W)
            The image.

        Returns
        -------
        torch.Tensor, shape (N, K, Ho, Wo)
            z.
        """
        return super().forward(functional.pad(input, self.sides))


class UnevenConvTranspose2d(nn.ConvTranspose2d):  # type: ignore[misc, unused-ignore]
    """
    A transposed convolution with its own padding, which the output lacks, on each side.

    Parameters
    ----------
    sides : tuple of int
        Padding (left, right, top, bottom), in pixels.
    *arguments, **options
        As for `torch.nn.ConvTranspose2d`.
    """

    def __init__(self, sides: tuple[int, int, int, int], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cut = [-side for side in sides]

    def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """
        Convolve, then cut the sides off.

        Parameters
        ----------
        input : torch.Tensor, shape (N, C, H, W)
            The image.
        output_size : list of int, optional
            As for `torch.nn.ConvTranspose2d`, before the cut.

        Returns
        -------
        torch.Tensor, shape (N, K, Ho, Wo)
            z.
        """
        return functional.pad(super().forward(input, output_size), self.cut)


class Total(nn.Module):  # type: ignore[misc, unused-ignore]
    """The sum over the last axis, where zennit's module of this kind is not installed."""

    def forward(self, summands: torch.Tensor) -> torch.Tensor:
        """
        Add up.

        Parameters
        ----------
        summands : torch.Tensor, shape (N, ..., M)
            M summands.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            Their sum.
        """
        return summands.sum(dim=-1)


class Add(nn.Module):  # type: ignore[misc, unused-ignore]
    """Sum of branches: they are stacked, and a module `total` of its own adds them."""

    def __init__(self) -> None:
        super().__init__()
        known = importlib.util.find_spec("zennit") is not None
        self.total = adapters.require("zennit").layer.Sum(dim=-1) if known else Total()

    def forward(self, *branches: torch.Tensor) -> torch.Tensor:
        """
        Add the branches.

        Parameters
        ----------
        *branches : torch.Tensor, shape (N, ...)
            Of one shape.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            Their sum.
        """
        total: torch.Tensor = self.total(torch.stack(branches, dim=-1))
        return total


class Permute(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    The axes in another order.

    Parameters
    ----------
    order : tuple of int
        Axes of one sample.
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = (0, *(axis + 1 for axis in order))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Put the axes in order.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Samples.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            The same numbers.
        """
        return x.permute(self.axes)


class Slice(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    A part of each sample.

    Parameters
    ----------
    part : tuple of slice
        Of each axis.
    """

    def __init__(self, part: tuple[slice, ...]) -> None:
        super().__init__()
        self.part = (slice(None), *part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Take the part.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Samples.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            The part.
        """
        return x[self.part]


class Concat(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    Inputs behind one another.

    Parameters
    ----------
    axis : int
        Axis of one sample.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """
        Put the inputs behind one another.

        Parameters
        ----------
        *parts : torch.Tensor, shape (N, ...)
            Their shapes agree but on the axis.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            The whole.
        """
        return torch.cat(parts, dim=self.axis + 1)


SIMPLE: dict[type[Layer], type[Any]] = {
    layers.ReLU: nn.ReLU,
    layers.Sigmoid: nn.Sigmoid,
    layers.Tanh: nn.Tanh,
    layers.SiLU: nn.SiLU,
    layers.GELU: nn.GELU,
    layers.HardSwish: nn.Hardswish,
    layers.HardSigmoid: nn.Hardsigmoid,
    layers.Identity: nn.Identity,
    layers.Dropout: nn.Dropout,
    layers.Flatten: nn.Flatten,
}
"""The layers without parameters."""


@singledispatch
def module_of(layer: Layer, shape: Shape) -> nn.Module:
    """
    Make PyTorch's counterpart of a layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    shape : tuple of int
        Shape of one sample of its (first) input.

    Returns
    -------
    torch.nn.Module
        The module, with the layer's weights.

    Raises
    ------
    BadNetwork
        If there is none.
    """
    if type(layer) not in SIMPLE:
        raise BadNetwork(f"PyTorch has no counterpart of {layer.kind}")
    return SIMPLE[type(layer)]()


def _with(module: nn.Module, **arrays: Array | None) -> nn.Module:
    """Give a module, made on the device "meta" without memory, copies of these arrays."""
    tensors = {name: torch.tensor(array) for name, array in arrays.items() if array is not None}
    module.load_state_dict(tensors, assign=True)
    return module


@module_of.register
def _(layer: layers.Dense, shape: Shape) -> nn.Module:
    outputs, inputs = layer.weight.shape
    made = nn.Linear(inputs, outputs, bias=layer.bias is not None, device="meta")
    return _with(made, weight=layer.weight, bias=layer.bias)


@module_of.register
def _(layer: layers.Conv2d, shape: Shape) -> nn.Module:
    window = layer.window()
    top, bottom, left, right = window.padding
    even = top == bottom and left == right
    make = nn.Conv2d if even else partial(UnevenConv2d, (left, right, top, bottom))
    made = make(
        layer.weight.shape[1] * layer.groups,
        len(layer.weight),
        window.kernel,
        window.stride,
        (top, left) if even else 0,
        window.dilation,
        layer.groups,
        layer.bias is not None,
        device="meta",
    )
    return _with(made, weight=layer.weight, bias=layer.bias)


@module_of.register
def _(layer: layers.ConvTranspose2d, shape: Shape) -> nn.Module:
    window = layer.window()
    top, bottom, left, right = layers._sides(layer.padding)
    even = top == bottom and left == right
    make = nn.ConvTranspose2d if even else partial(UnevenConvTranspose2d, (left, right, top, bottom))
    made = make(
        len(layer.weight),
        layer.weight.shape[1] * layer.groups,
        window.kernel,
        window.stride,
        (top, left) if even else 0,
        layer.output_padding,
        layer.groups,
        layer.bias is not None,
        window.dilation,
        device="meta",
    )
    return _with(made, weight=layer.weight, bias=layer.bias)


@module_of.register
def _(layer: layers.BatchNorm, shape: Shape) -> nn.Module:
    """Mean 0, variance 1 and eps 0 leave nothing but scale and shift, without rounding."""
    made = (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(len(layer.scale), eps=0.0, device="meta")
    return _with(
        made,
        weight=layer.scale,
        bias=layer.shift,
        running_mean=np.zeros_like(layer.shift),
        running_var=np.ones_like(layer.scale),
        num_batches_tracked=np.array(0),
    )


@module_of.register
def _(layer: layers.Add, shape: Shape) -> nn.Module:
    return Add()


@module_of.register
def _(layer: layers.Concat, shape: Shape) -> nn.Module:
    return Concat(layer.axis)


def _pool(layer: layers.Pool2d) -> dict[str, Any]:
    """The parameters that all poolings share."""
    window = dataclasses.replace(layer, ceil_mode=False).window((0, 0))
    top, bottom, left, right = window.padding
    if top != bottom or left != right:
        raise BadNetwork(f"PyTorch's poolings pad both sides alike, {layer.kind} has {layer.padding}")
    return {
        "kernel_size": window.kernel,
        "stride": window.stride,
        "padding": (top, left),
        "ceil_mode": layer.ceil_mode,
    }


@module_of.register
def _(layer: layers.MaxPool2d, shape: Shape) -> nn.Module:
    return nn.MaxPool2d(**_pool(layer))


@module_of.register
def _(layer: layers.AvgPool2d, shape: Shape) -> nn.Module:
    counted = layer.count_include_pad
    return nn.AvgPool2d(**_pool(layer), count_include_pad=counted, divisor_override=layer.divisor)


@module_of.register
def _(layer: layers.SumPool2d, shape: Shape) -> nn.Module:
    return nn.AvgPool2d(**_pool(layer), divisor_override=1)


@module_of.register
def _(layer: layers.AdaptiveAvgPool2d, shape: Shape) -> nn.Module:
    return nn.AdaptiveAvgPool2d(layer.output)


@module_of.register
def _(layer: layers.Clip, shape: Shape) -> nn.Module:
    return nn.Hardtanh(layer.low, layer.high)


@module_of.register
def _(layer: layers.LeakyReLU, shape: Shape) -> nn.Module:
    return nn.LeakyReLU(layer.slope)


@module_of.register
def _(layer: layers.ELU, shape: Shape) -> nn.Module:
    return nn.ELU(layer.alpha)


@module_of.register
def _(layer: layers.Softplus, shape: Shape) -> nn.Module:
    # above its threshold PyTorch takes log(1 + exp(z)) for z: exp(-40) is below float64's last digit of 40
    return nn.Softplus(threshold=40)


@module_of.register
def _(layer: layers.Softmax, shape: Shape) -> nn.Module:
    return nn.Softmax(dim=-1)


@module_of.register
def _(layer: layers.Reshape, shape: Shape) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Unflatten(1, layer.shape))


@module_of.register
def _(layer: layers.LogSoftmax, shape: Shape) -> nn.Module:
    return nn.LogSoftmax(dim=-1)


@module_of.register
def _(layer: layers.Pad, shape: Shape) -> nn.Module:
    top, bottom, left, right = layers._sides(layer.padding)
    return nn.ConstantPad3d((left, right, top, bottom, *layer.channels), layer.value)


@module_of.register
def _(layer: layers.Permute, shape: Shape) -> nn.Module:
    return Permute(layer.order)


@module_of.register
def _(layer: layers.Slice, shape: Shape) -> nn.Module:
    return Slice(tuple(map(slice, layer.start, layer.stop, layer.step)))
