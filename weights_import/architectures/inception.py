"""Inception v3 (Szegedy and others 2015), under torchvision's names."""

from __future__ import annotations

from typing import Any

from lrpref.weights_import.architectures import blocks
from lrpref.weights_import.architectures.blocks import (
    Part,
    Size,
    chained,
    convolution,
    named,
    network,
    node,
    parallel,
)
from lrpref.weights_import.specification import Document

NAMES = ("inception_v3",)

PREPROCESSING = {**blocks.PREPROCESSING, "mean": [0.5] * 3, "std": [0.5] * 3}
"""Pixels from -1 to 1, as in TensorFlow, where the published weights were trained."""

WIDE, TALL = [1, 7], [7, 1]
"""A 7 x 7 convolution as a product of two."""


def document(name: str) -> Document:
    """
    Describe the network.

    Torchvision's pretrained module has `transform_input=True`: it takes ImageNet's normalisation and turns it
    into pixels from -1 to 1. Here the preprocessing gives these at once, and the network is the module with
    `transform_input=False`. The auxiliary classifier serves training alone, and is not read.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    dict
        See `lrpref.weights_import.specification`.
    """
    return network(
        name,
        unit("Conv2d_1a_3x3", 32, 3, 2, 0),
        unit("Conv2d_2a_3x3", 32, 3, 1, 0),
        unit("Conv2d_2b_3x3", 64, 3),
        node("maxpool1", "MaxPool2d", kernel=3, stride=2),
        unit("Conv2d_3b_1x1", 80, 1),
        unit("Conv2d_4a_3x3", 192, 3, 1, 0),
        node("maxpool2", "MaxPool2d", kernel=3, stride=2),
        named("Mixed_5b", _mixed_5(32)),
        named("Mixed_5c", _mixed_5(64)),
        named("Mixed_5d", _mixed_5(64)),
        named("Mixed_6a", _mixed_6a()),
        named("Mixed_6b", _mixed_6(128)),
        named("Mixed_6c", _mixed_6(160)),
        named("Mixed_6d", _mixed_6(160)),
        named("Mixed_6e", _mixed_6(192)),
        named("Mixed_7a", _mixed_7a()),
        named("Mixed_7b", _mixed_7()),
        named("Mixed_7c", _mixed_7()),
        node("avgpool", "AdaptiveAvgPool2d"),
        node("dropout", "Dropout"),
        node("flatten", "Flatten"),
        node("fc", "Dense", out=1000),
        preprocessing={**PREPROCESSING, "size": [299, 299], "resize": 342},
        unused=["AuxLogits.*"],
    )


def unit(name: str, out: int, kernel: Size, stride: int = 1, padding: int | None = None) -> Part:
    """
    Describe a convolution, its batch norm and a ReLU.

    Parameters
    ----------
    name : str
        What the three stand under.
    out : int
        Output channels.
    kernel : int or list of int
        Taps.
    stride : int
        In pixels.
    padding : int, optional
        Zeros around the image; not given: half the kernel.

    Returns
    -------
    list of dict
        The part.
    """
    filtered = convolution("conv", "bn", out, kernel, stride, padding, eps=1e-3)
    return named(name, chained(filtered, node("relu", "ReLU")))


def _mixed_5(pooled: int) -> Part:
    return parallel(
        "cat", "Concat",
        unit("branch1x1", 64, 1),
        _branch("branch5x5", (48, 1), (64, 5)),
        _branch("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        _pooled(pooled),
    )  # fmt: skip


def _mixed_6a() -> Part:
    return parallel(
        "cat", "Concat",
        unit("branch3x3", 384, 3, 2, 0),
        _branch("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2, 0)),
        _halved(),
    )  # fmt: skip


def _mixed_6(width: int) -> Part:
    return parallel(
        "cat", "Concat",
        unit("branch1x1", 192, 1),
        _branch("branch7x7", (width, 1), (width, WIDE), (192, TALL)),
        _branch("branch7x7dbl", (width, 1), (width, TALL), (width, WIDE), (width, TALL), (192, WIDE)),
        _pooled(192),
    )  # fmt: skip


def _mixed_7a() -> Part:
    return parallel(
        "cat", "Concat",
        _branch("branch3x3", (192, 1), (320, 3, 2, 0)),
        _branch("branch7x7x3", (192, 1), (192, WIDE), (192, TALL), (192, 3, 2, 0)),
        _halved(),
    )  # fmt: skip


def _mixed_7() -> Part:
    return parallel(
        "cat", "Concat",
        unit("branch1x1", 320, 1),
        chained(_branch("branch3x3", (384, 1)), _forked("branch3x3_2")),
        chained(_branch("branch3x3dbl", (448, 1), (384, 3)), _forked("branch3x3dbl_3")),
        _pooled(192),
    )  # fmt: skip


def _branch(name: str, *units: tuple[Any, ...]) -> Part:
    return chained(*(unit(f"{name}_{i}", *numbers) for i, numbers in enumerate(units, start=1)))


def _forked(name: str) -> Part:
    return parallel(f"{name}.cat", "Concat", unit(f"{name}a", 384, [1, 3]), unit(f"{name}b", 384, [3, 1]))


def _pooled(out: int) -> Part:
    pool = node("pool", "AvgPool2d", kernel=3, stride=1, padding=1)
    return chained(pool, unit("branch_pool", out, 1))


def _halved() -> Part:
    return node("pool", "MaxPool2d", kernel=3, stride=2)
