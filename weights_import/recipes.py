"""Recipes: which tensors of a weight file a layer wants, and what it makes of them.

The fields of a recipe are the keys that its node may have in an architecture. They say nothing of the
input's channels: these follow from the shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrpref import layers
from lrpref.errors import BadNetwork
from lrpref.kernels.operations import Array
from lrpref.layers import Layer, Padding, Pair, Shape
from lrpref.tables import fill


class Recipe:
    """Base of the recipes."""

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        """
        Say which tensors are wanted.

        Parameters
        ----------
        shape : tuple of int
            Shape of one sample of the layer's (first) input.

        Returns
        -------
        dict of str to tuple of int
            Shapes by the last part of the names, in PyTorch's words: `weight`, `bias` ...

        Raises
        ------
        BadNetwork
            If the layer cannot take such an input.
        """
        raise NotImplementedError

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        """
        Make the layer.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            What `tensors` asked for.

        Returns
        -------
        Layer
            The layer.

        Raises
        ------
        BadNetwork
            If a number is out of range.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Recipe):
    """
    How a dense layer is made.

    Parameters
    ----------
    out : int
        Outputs.
    bias : bool
        Whether it has one.
    """

    out: int
    bias: bool = True

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return _weight((self.out, math.prod(shape)), self.bias)

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        return layers.Dense(tensors["weight"], tensors.get("bias"))


@dataclass(frozen=True)
class Conv2d(Recipe):
    """
    How a convolution is made.

    Parameters
    ----------
    out : int
        Output channels.
    kernel : int or (down, right)
        Taps.
    stride : int or (down, right)
        In pixels.
    padding : int, (down, right) or (top, bottom, left, right)
        Zeros around the image.
    dilation : int or (down, right)
        Distance between taps, in pixels.
    groups : int
        Into how many groups the channels are split.
    bias : bool
        Whether it has one.
    """

    out: int
    kernel: Pair
    stride: Pair = 1
    padding: Padding = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        if self.groups < 1 or shape[0] % self.groups:
            raise BadNetwork(f"{shape[0]} input channels do not split into {self.groups} groups")
        return _weight((self.out, shape[0] // self.groups, *_taps(self.kernel)), self.bias)

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        weight, bias = tensors["weight"], tensors.get("bias")
        return layers.Conv2d(weight, bias, self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True)
class ConvTranspose2d(Recipe):
    """
    How a transposed convolution is made.

    Parameters
    ----------
    out : int
        Output channels.
    kernel : int or (down, right)
        Taps.
    stride : int or (down, right)
        Distance between the windows of neighbouring pixels.
    padding : int, (down, right) or (top, bottom, left, right)
        Pixels that the output lacks at its sides.
    output_padding : int or (down, right)
        Pixels that the output has more at its bottom and its right.
    dilation : int or (down, right)
        Distance between taps, in pixels.
    groups : int
        Into how many groups the channels are split.
    bias : bool
        Whether it has one.
    """

    out: int
    kernel: Pair
    stride: Pair = 1
    padding: Padding = 0
    output_padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        if self.groups < 1 or self.out % self.groups:
            raise BadNetwork(f"{self.out} output channels do not split into {self.groups} groups")
        wanted = {"weight": (shape[0], self.out // self.groups, *_taps(self.kernel)), "bias": (self.out,)}
        return wanted if self.bias else {"weight": wanted["weight"]}

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        weight, bias = tensors["weight"], tensors.get("bias")
        return layers.ConvTranspose2d(
            weight, bias, self.stride, self.padding, self.output_padding, self.dilation, self.groups
        )


@dataclass(frozen=True)
class BatchNorm(Recipe):
    """
    How a batch norm, one- or two-dimensional, is made.

    Parameters
    ----------
    eps : float
        What is added to the variance; no weight file holds it.
    affine : bool
        Whether there is a learned factor and offset.
    """

    eps: float = 1e-5
    affine: bool = True

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        learned = ("weight", "bias") if self.affine else ()
        return dict.fromkeys((*learned, "running_mean", "running_var"), shape[:1])

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        return layers.BatchNorm.of(
            tensors.get("weight"),
            tensors.get("bias"),
            tensors["running_mean"],
            tensors["running_var"],
            self.eps,
        )


@dataclass(frozen=True)
class Ready(Recipe):
    """
    A layer without weights.

    Parameters
    ----------
    made : Layer
        The layer.
    """

    made: Layer

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {}

    def layer(self, tensors: Mapping[str, Array]) -> Layer:
        return self.made


_WITH_WEIGHTS: dict[str, type[Recipe]] = {
    cls.__name__: cls for cls in (Dense, Conv2d, ConvTranspose2d, BatchNorm)
}


def recipe(kind: str, parameters: Mapping[str, Any]) -> Recipe:
    """
    Find the recipe of a layer.

    Parameters
    ----------
    kind : str
        A name in `lrpref.layers.LAYERS`.
    parameters : mapping
        The recipe's fields; of a layer without weights the layer's own.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    BadNetwork
        If there is no such layer, or a parameter does not fit it.
    """
    if kind in _WITH_WEIGHTS:
        return fill(_WITH_WEIGHTS[kind], parameters)
    if kind not in layers.LAYERS:
        raise BadNetwork(f"unknown layer; known: {', '.join(layers.LAYERS)}")
    return Ready(fill(layers.LAYERS[kind], parameters))


def _weight(shape: Shape, bias: bool) -> dict[str, Shape]:
    return {"weight": shape, "bias": shape[:1]} if bias else {"weight": shape}


def _taps(kernel: Pair) -> tuple[int, int]:
    return kernel if isinstance(kernel, tuple) else (kernel, kernel)
