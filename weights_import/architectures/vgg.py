"""The VGG networks of Simonyan and Zisserman (2014), under torchvision's names."""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import network, node, numbered
from lrpref.weights_import.specification import Document

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""How many convolutions stand before each of the five poolings."""

NAMES = tuple(name + norms for name in CONVOLUTIONS for norms in ("", "_bn"))


def document(name: str) -> Document:
    """
    Describe one of the networks.

    Parameters
    ----------
    name : str
        One of `NAMES`; with `_bn` a batch norm follows each convolution.

    Returns
    -------
    dict
        See `lrpref.weights_import.specification`.
    """
    norm = [node("", "BatchNorm")] if name.endswith("_bn") else []
    relu = node("", "ReLU")
    features = []
    for count, channels in zip(CONVOLUTIONS[name.removesuffix("_bn")], CHANNELS, strict=True):
        convolution = node("", "Conv2d", out=channels, kernel=3, padding=1)
        features += [convolution, *norm, relu] * count
        features += [node("", "MaxPool2d", kernel=2)]
    hidden = [node("", "Dense", out=4096), relu, node("", "Dropout")]
    return network(
        name,
        numbered("features", *features),
        node("avgpool", "AdaptiveAvgPool2d", output=[7, 7]),
        node("flatten", "Flatten"),
        numbered("classifier", *hidden, *hidden, node("", "Dense", out=1000)),
    )
