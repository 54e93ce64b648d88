"""The SqueezeNets of Iandola and others (2016), under torchvision's names."""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import Part, chained, network, node, numbered, parallel
from lrpref.weights_import.specification import Document

POOL = 0
LAYOUTS = {
    "squeezenet1_0": ((96, 7), (POOL, 16, 16, 32, POOL, 32, 48, 48, 64, POOL, 64)),
    "squeezenet1_1": ((64, 3), (POOL, 16, 16, POOL, 32, 32, POOL, 48, 48, 64, 64)),
}
"""Channels and kernel of the first convolution; then poolings, and to how many channels a module squeezes."""

NAMES = tuple(LAYOUTS)


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
    (out, kernel), layout = LAYOUTS[name]
    pool = node("", "MaxPool2d", kernel=3, stride=2, ceil_mode=True)
    features = [pool if squeezed == POOL else _fire(squeezed) for squeezed in layout]
    return network(
        name,
        numbered(
            "features", node("", "Conv2d", out=out, kernel=kernel, stride=2), node("", "ReLU"), *features
        ),
        numbered(
            "classifier",
            node("", "Dropout"),
            node("", "Conv2d", out=1000, kernel=1),
            node("", "ReLU"),
            node("", "AdaptiveAvgPool2d"),
        ),
        node("flatten", "Flatten"),
    )


def _fire(squeezed: int) -> Part:
    """Squeeze to few channels, and expand to eight times as many: half of them see one pixel, half 3 x 3."""
    return chained(
        _convolution("squeeze", squeezed, 1),
        parallel(
            "cat", "Concat",
            _convolution("expand1x1", 4 * squeezed, 1),
            _convolution("expand3x3", 4 * squeezed, 3),
        ),
    )  # fmt: skip


def _convolution(name: str, out: int, kernel: int) -> Part:
    return chained(
        node(name, "Conv2d", out=out, kernel=kernel, padding=kernel // 2),
        node(f"{name}_activation", "ReLU"),
    )
