"""MobileNetV2 (Sandler and others 2018), under torchvision's names."""

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

NAMES = ("mobilenet_v2",)

STAGES = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (3, 2, 6, 32),
    (4, 2, 6, 64),
    (3, 1, 6, 96),
    (3, 2, 6, 160),
    (1, 1, 6, 320),
)
"""Of each stage: blocks, stride of the first block, expansion, channels."""


def document(name: str) -> Document:
    """
    Describe the network.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    dict
        See `lrpref.weights_import.specification`.
    """
    channels, blocks = 32, []
    for count, stride, expansion, out in STAGES:
        for i in range(count):
            blocks.append(_block(channels, 1 if i else stride, expansion, out))
            channels = out
    return network(
        name,
        numbered("features", _filter(32, 3, 2), *blocks, _filter(1280, 1)),
        node("avgpool", "AdaptiveAvgPool2d"),
        node("flatten", "Flatten"),
        numbered("classifier", node("", "Dropout"), node("", "Dense", out=1000)),
    )


def _block(channels: int, stride: int, expansion: int, out: int) -> Part:
    """Widen by `expansion`, filter each channel by itself, narrow to `out`; around it all a shortcut."""
    wide = expansion * channels
    filters = [_filter(wide, 3, stride, groups=wide)]
    if expansion > 1:
        filters.insert(0, _filter(wide, 1))
    number = len(filters)
    narrow = named("conv", convolution(f"{number}", f"{number + 1}", out, 1))
    branch = chained(numbered("conv", *filters), narrow)
    return parallel("add", "Add", branch, []) if stride == 1 and channels == out else branch


def _filter(out: int, kernel: int, stride: int = 1, groups: int = 1) -> Part:
    return chained(convolution("0", "1", out, kernel, stride, groups=groups), node("2", "ReLU6"))
