"""The DenseNets of Huang, Liu, van der Maaten and Weinberger (2016), under torchvision's names.

A layer reads all that came before it in its block. Here the node `cat` of each layer holds that: what the
layer read, and behind it what it made of it.
"""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import (
    Part,
    chained,
    convolution,
    named,
    network,
    node,
    parallel,
)
from lrpref.weights_import.specification import Document

LAYERS = {"densenet121": (6, 12, 24, 16)}
"""How many layers each of the four blocks has."""

GROWTH = 32
"""Channels that a layer adds."""

NAMES = tuple(LAYERS)


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
        See `lrpref.weights_import.specification`. The published checkpoints are older than today's module,
        whose `norm1` was `norm.1`.
    """
    counts = LAYERS[name]
    channels, parts = 64, []
    for i, count in enumerate(counts, start=1):
        parts.append(named(f"denseblock{i}", _block(count)))
        channels += count * GROWTH
        if i < len(counts):
            channels //= 2
            parts.append(named(f"transition{i}", _transition(channels)))
    features = chained(
        convolution("conv0", "norm0", 64, 7, 2),
        node("relu0", "ReLU"),
        node("pool0", "MaxPool2d", kernel=3, stride=2, padding=1),
        *parts,
        node("norm5", "BatchNorm"),
    )
    return network(
        name,
        named("features", features),
        node("relu", "ReLU"),
        node("avgpool", "AdaptiveAvgPool2d"),
        node("flatten", "Flatten"),
        node("classifier", "Dense", out=1000),
        renamed={f"{kind}.{i}": f"{kind}{i}" for kind in ("norm", "conv") for i in (1, 2)},
    )


def _block(count: int) -> Part:
    layer = chained(_convolution("1", 4 * GROWTH, 1), _convolution("2", GROWTH, 3))
    grown = parallel("cat", "Concat", [], layer)
    return chained(*(named(f"denselayer{i}", grown) for i in range(1, count + 1)))


def _transition(channels: int) -> Part:
    return chained(_convolution("", channels, 1), node("pool", "AvgPool2d", kernel=2))


def _convolution(suffix: str, out: int, kernel: int) -> Part:
    """Describe a convolution of what a batch norm and a ReLU make of the input."""
    return chained(
        node(f"norm{suffix}", "BatchNorm"),
        node(f"relu{suffix}", "ReLU"),
        node(f"conv{suffix}", "Conv2d", out=out, kernel=kernel, padding=kernel // 2, bias=False),
    )
