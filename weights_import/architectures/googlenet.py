"""GoogLeNet (Szegedy and others 2014), under torchvision's names."""

from __future__ import annotations

from lrpref.weights_import.architectures.blocks import Part, chained, named, network, node, numbered, parallel
from lrpref.weights_import.architectures.inception import PREPROCESSING, unit
from lrpref.weights_import.specification import Document

NAMES = ("googlenet",)

INCEPTIONS = {
    3: ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    4: (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    5: ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
}
"""Of each stage the modules, and of each module the channels: first branch, both steps of the second, both of
the third, fourth."""


def document(name: str) -> Document:
    """
    Describe the network.

    It is torchvision's, which has batch norms, and 3 x 3 convolutions where the article has 5 x 5. The
    pretrained module has `transform_input=True`: it takes ImageNet's normalisation and turns it into pixels
    from -1 to 1. Here the preprocessing gives these at once, and the network is the module with
    `transform_input=False`. The auxiliary classifiers serve training alone, and are not read.

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
        unit("conv1", 64, 7, 2),
        _pool("maxpool1", 3, 2),
        unit("conv2", 64, 1),
        unit("conv3", 192, 3),
        _pool("maxpool2", 3, 2),
        _stage(3),
        _pool("maxpool3", 3, 2),
        _stage(4),
        _pool("maxpool4", 2, 2),
        _stage(5),
        node("avgpool", "AdaptiveAvgPool2d"),
        node("flatten", "Flatten"),
        node("dropout", "Dropout"),
        node("fc", "Dense", out=1000),
        preprocessing=PREPROCESSING,
        unused=["aux1.*", "aux2.*"],
    )


def _stage(number: int) -> Part:
    modules = zip("abcde", INCEPTIONS[number], strict=False)  # a stage has five at most
    return chained(*(named(f"inception{number}{letter}", _inception(*sizes)) for letter, sizes in modules))


def _inception(one: int, reduced3: int, three: int, reduced5: int, five: int, pooled: int) -> Part:
    return parallel(
        "cat", "Concat",
        unit("branch1", one, 1),
        numbered("branch2", unit("", reduced3, 1), unit("", three, 3)),
        numbered("branch3", unit("", reduced5, 1), unit("", five, 3)),
        numbered("branch4", _pool("", 3, 1, padding=1), unit("", pooled, 1)),
    )  # fmt: skip


def _pool(name: str, kernel: int, stride: int, padding: int = 0) -> Part:
    return node(name, "MaxPool2d", kernel=kernel, stride=stride, padding=padding, ceil_mode=True)
