"""The VGG networks of Simonyan and Zisserman (2014), under torchvision's names."""

from __future__ import annotations

from typing import Any

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
    norm: list[dict[str, Any]] = [{"layer": "BatchNorm"}] if name.endswith("_bn") else []
    features: list[dict[str, Any]] = []
    for count, channels in zip(CONVOLUTIONS[name.removesuffix("_bn")], CHANNELS, strict=True):
        convolution = {"layer": "Conv2d", "out": channels, "kernel": 3, "padding": 1}
        features += [convolution, *norm, {"layer": "ReLU"}] * count
        features += [{"layer": "MaxPool2d", "kernel": 2}]
    hidden: list[dict[str, Any]] = [{"layer": "Dense", "out": 4096}, {"layer": "ReLU"}, {"layer": "Dropout"}]
    classifier = [*hidden, *hidden, {"layer": "Dense", "out": 1000}]
    return {
        "name": name,
        "input": [3, 224, 224],
        "classes": "imagenet",
        "preprocessing": {
            "size": [224, 224], "resize": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]
        },
        "node": [
            *_numbered("features", features),
            {"name": "avgpool", "layer": "AdaptiveAvgPool2d", "output": [7, 7]},
            {"name": "flatten", "layer": "Flatten"},
            *_numbered("classifier", classifier),
        ],
    }  # fmt: skip


def _numbered(prefix: str, tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": f"{prefix}.{i}", **table} for i, table in enumerate(tables)]
