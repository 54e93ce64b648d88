"""The residual networks of He, Zhang, Ren and Sun (2015) for CIFAR-10, with their shortcuts without weights.

Where a stage halves the image and doubles the channels, the shortcut ("option A") takes every other pixel and
adds channels of zeros, half of them before and half behind. The names are those of Yerlan Idelbayev's
checkpoints (github.com/akamaster/pytorch_resnet_cifar10), and so are the mean and the standard deviation,
ImageNet's.
"""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import (
    PREPROCESSING,
    Part,
    chained,
    convolution,
    network,
    node,
    numbered,
)
from lrpref.weights_import.architectures.resnet import BASIC, block
from lrpref.weights_import.specification import Document

BLOCKS = {f"cifar-resnet{6 * count + 2}": count for count in (3, 5, 7, 9, 18)}
"""How many blocks stand in each of the three stages."""

NAMES = tuple(BLOCKS)

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


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
    return network(
        name,
        convolution("conv1", "bn1", 16, 3),
        node("relu", "ReLU"),
        *(_stage(f"layer{i + 1}", BLOCKS[name], 16 * 2**i, 32 // 2**i) for i in range(3)),
        node("avgpool", "AdaptiveAvgPool2d"),
        node("flatten", "Flatten"),
        node("linear", "Dense", out=10),
        preprocessing={"size": [32, 32], "mean": PREPROCESSING["mean"], "std": PREPROCESSING["std"]},
        classes=CLASSES,
    )


def _stage(name: str, count: int, width: int, side: int) -> Part:
    """Describe blocks whose outputs have `width` channels of `side` x `side` pixels."""
    plain = block(BASIC, width, width)
    if width == 16:  # as many as arrive
        return numbered(name, *[plain] * count)
    shortcut = chained(
        node("subsample", "Slice", start=[0, 0, 0], stop=[width // 2, 2 * side, 2 * side], step=[1, 2, 2]),
        node("shortcut", "Pad", channels=[width // 4, width // 4]),
    )
    return numbered(name, block(BASIC, width, width, 2, shortcut), *[plain] * (count - 1))
