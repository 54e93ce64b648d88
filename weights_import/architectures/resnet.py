"""The residual networks of He, Zhang, Ren and Sun (2015), under torchvision's names.

As there, the stride of a bottleneck is at its 3 x 3 convolution. A block of torchvision's has one ReLU that
it calls several times; here each of them is a node of its own, `relu1`, `relu2` ...
"""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import (
    Part,
    chained,
    convolution,
    named,
    network,
    node,
    numbered,
    parallel,
)
from lrpref.weights_import.specification import Document

BASIC, BOTTLENECK = (3, 3), (1, 3, 1)
"""The kernels of the convolutions in a block."""

BLOCKS = {
    "resnet18": (BASIC, (2, 2, 2, 2)),
    "resnet34": (BASIC, (3, 4, 6, 3)),
    "resnet50": (BOTTLENECK, (3, 4, 6, 3)),
    "resnet101": (BOTTLENECK, (3, 4, 23, 3)),
    "resnet152": (BOTTLENECK, (3, 8, 36, 3)),
}
"""Which blocks, and how many in each of the four stages."""

NAMES = tuple(BLOCKS)


def document(name: str) -> Document:
    """
    Describe one of the networks.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    dict
        See `lrpref.weights_import.specification`.
    """
    kernels, counts = BLOCKS[name]
    stages = []
    for i, count in enumerate(counts):
        width, stride = 64 * 2**i, 2 if i else 1
        out = 4 * width if kernels == BOTTLENECK else width
        downsample = named("downsample", convolution("0", "1", out, 1, stride))
        first = block(kernels, width, out, stride, [] if out == 64 else downsample)  # 64 is what arrives
        stages.append(numbered(f"layer{i + 1}", first, *[block(kernels, width, out)] * (count - 1)))
    return network(
        name,
        convolution("conv1", "bn1", 64, 7, 2),
        node("relu", "ReLU"),
        node("maxpool", "MaxPool2d", kernel=3, stride=2, padding=1),
        *stages,
        node("avgpool", "AdaptiveAvgPool2d"),
        node("flatten", "Flatten"),
        node("fc", "Dense", out=1000),
    )


def block(
    kernels: tuple[int, ...], width: int, out: int, stride: int = 1, shortcut: Part | None = None
) -> Part:
    """
    Describe a residual block.

    Parameters
    ----------
    kernels : tuple of int
        `BASIC` or `BOTTLENECK`.
    width : int
        Channels within.
    out : int
        Output channels.
    stride : int
        Of the first 3 x 3 convolution.
    shortcut : list of dict, optional
        The second branch; not given: what the block reads.

    Returns
    -------
    list of dict
        The part.
    """
    steps: list[Part] = []
    for i, kernel in enumerate(kernels, start=1):
        channels, step = out if i == len(kernels) else width, stride if i == kernels.index(3) + 1 else 1
        steps += [convolution(f"conv{i}", f"bn{i}", channels, kernel, step), node(f"relu{i}", "ReLU")]
    *branch, relu = steps
    return chained(parallel("add", "Add", chained(*branch), shortcut or []), relu)
