"""The networks of the comparison, with random weights: what counts here are their shapes.

He's initialisation, as torchvision's: normal weights of variance 2 / (inputs of a neuron). Biases are drawn
from N(0, 0.1), and batch norms have random numbers too, so that neither folding nor a rule's treatment of the
bias is for nothing. Inputs are noise, black to white.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lrpref import weights_import
from lrpref.errors import BadNetwork
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.weights_import import recipes
from lrpref.weights_import.build import expected_tensors, make_network
from lrpref.weights_import.specification import Architecture, Document

Nodes = list[dict[str, Any]]

RELU = {"layer": "ReLU"}


def random(name: str, seed: int = 0) -> Network:
    """
    Make a network with random weights.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    seed : int
        Of the weights.

    Returns
    -------
    Network
        The network, its weights in float32, with ImageNet's preprocessing.

    Raises
    ------
    BadNetwork
        If there is no such network.
    """
    specification = architecture(name)
    return make_network(specification, tensors(specification, seed))


def architecture(name: str) -> Architecture:
    """
    Find an architecture.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.

    Returns
    -------
    Architecture
        The network without its numbers.

    Raises
    ------
    BadNetwork
        If there is no such network.
    """
    if name not in NETWORKS:
        raise BadNetwork(f"unknown network {name!r}: there are {', '.join(NETWORKS)}")
    return Architecture.of(NETWORKS[name]())


def tensors(specification: Architecture, seed: int) -> dict[str, Array]:
    """
    Draw the numbers of an architecture.

    Parameters
    ----------
    specification : Architecture
        What is wanted.
    seed : int
        Of the numbers.

    Returns
    -------
    dict of str to ndarray of float32
        Tensors by name.
    """
    rng = np.random.default_rng(seed)
    norms = [place.tensor("") for place, made in specification.nodes if isinstance(made, recipes.BatchNorm)]
    drawn = {}
    for name, shape in expected_tensors(specification).items():
        layer, _, part = name.rpartition(".")
        drawn[name] = _draw(rng, part, shape, f"{layer}." in norms)
    return drawn


def _draw(rng: np.random.Generator, part: str, shape: tuple[int, ...], norm: bool) -> Array:
    """Draw one tensor, in float32."""
    if part == "running_var" or (norm and part == "weight"):
        return rng.uniform(0.5, 1, shape).astype(np.float32)
    deviation = 0.1 if len(shape) == 1 else math.sqrt(2 / math.prod(shape[1:]))
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)


def inputs(network: Network, batch: int, seed: int) -> Array:
    """
    Draw a batch of inputs.

    Parameters
    ----------
    network : Network
        Its preprocessing is applied.
    batch : int
        How many.
    seed : int
        Another one, another batch.

    Returns
    -------
    ndarray of float32, shape (N, C, H, W)
        Noise from black to white, normalised.
    """
    assert network.preprocessing is not None
    c, h, w = network.input_shape
    pixels = np.random.default_rng([1, seed]).integers(0, 256, (batch, h, w, c), dtype=np.uint8)
    return network.preprocessing.normalise(pixels).astype(np.float32)


# The architectures, as documents (lrpref.weights_import.specification)


def _document(name: str, nodes: Nodes, size: int = 224) -> Document:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return {
        "name": name,
        "input": [3, size, size],
        "preprocessing": {"size": [size, size], "mean": mean, "std": std},
        "node": nodes,
    }


def vgg16() -> Document:
    """
    Describe VGG-16, 15.5 billion multiply-adds.

    Returns
    -------
    dict
        Its architecture.
    """
    return weights_import.architectures.vgg.document("vgg16")


def squeezenet() -> Document:
    """
    Describe SqueezeNet 1.1 (Iandola et al. 2016), under torchvision's names.

    Returns
    -------
    dict
        Its architecture.
    """
    pool = {"layer": "MaxPool2d", "kernel": 3, "stride": 2, "ceil_mode": True}
    nodes: Nodes = [
        {"name": "features.0", "layer": "Conv2d", "out": 64, "kernel": 3, "stride": 2},
        {"name": "features.1", **RELU},
        {"name": "features.2", **pool},
    ]
    for i, narrow, wide in ((3, 16, 64), (4, 16, 64), (5, 0, 0), (6, 32, 128), (7, 32, 128), (8, 0, 0),
                            (9, 48, 192), (10, 48, 192), (11, 64, 256), (12, 64, 256)):  # fmt: skip
        name = f"features.{i}"
        nodes += _fire(f"{name}.", narrow, wide) if wide else [{"name": name, **pool}]
    return _document("squeezenet", [
        *nodes,
        {"name": "classifier.0", "layer": "Dropout"},
        {"name": "classifier.1", "layer": "Conv2d", "out": 1000, "kernel": 1},
        {"name": "classifier.2", **RELU},
        {"name": "classifier.3", "layer": "AdaptiveAvgPool2d", "output": [1, 1]},
        {"name": "flatten", "layer": "Flatten"},
    ])  # fmt: skip


def _fire(name: str, narrow: int, wide: int) -> Nodes:
    """Squeeze to a few channels, expand through 1x1 and 3x3 taps, and put both behind one another."""
    squeezed = [f"{name}squeeze_activation"]
    return [
        {"name": f"{name}squeeze", "layer": "Conv2d", "out": narrow, "kernel": 1},
        {"name": squeezed[0], **RELU},
        {"name": f"{name}expand1x1", "layer": "Conv2d", "out": wide, "kernel": 1},
        {"name": f"{name}expand1x1_activation", **RELU},
        {"name": f"{name}expand3x3", "layer": "Conv2d", "out": wide, "kernel": 3, "padding": 1,
         "inputs": squeezed},
        {"name": f"{name}expand3x3_activation", **RELU},
        {"name": f"{name}concat", "layer": "Concat",
         "inputs": [f"{name}expand1x1_activation", f"{name}expand3x3_activation"]},
    ]  # fmt: skip


def resnet50() -> Document:
    """
    Describe ResNet-50 (He et al. 2016), under torchvision's names.

    Returns
    -------
    dict
        Its architecture.
    """
    nodes: Nodes = [
        {
            "name": "conv1",
            "layer": "Conv2d",
            "out": 64,
            "kernel": 7,
            "stride": 2,
            "padding": 3,
            "bias": False,
        },
        {"name": "bn1", "layer": "BatchNorm"},
        {"name": "relu", **RELU},
        {"name": "maxpool", "layer": "MaxPool2d", "kernel": 3, "stride": 2, "padding": 1},
    ]
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            nodes += _bottleneck(f"layer{stage}.{block}.", nodes[-1]["name"], width, stride, block == 0)
    return _document("resnet50", [
        *nodes,
        {"name": "avgpool", "layer": "AdaptiveAvgPool2d", "output": [1, 1]},
        {"name": "flatten", "layer": "Flatten"},
        {"name": "fc", "layer": "Dense", "out": 1000},
    ])  # fmt: skip


def _bottleneck(name: str, before: str, width: int, stride: int, project: bool) -> Nodes:
    """Three convolutions beside a shortcut, which projects where shapes change."""
    nodes: Nodes = []
    for i, (out, kernel, step) in enumerate(((width, 1, 1), (width, 3, stride), (4 * width, 1, 1)), start=1):
        nodes += [
            {"name": f"{name}conv{i}", "layer": "Conv2d", "out": out, "kernel": kernel, "stride": step,
             "padding": kernel // 2, "bias": False},
            {"name": f"{name}bn{i}", "layer": "BatchNorm"},
            {"name": f"{name}relu{i}", **RELU},
        ]  # fmt: skip
    nodes[0]["inputs"] = [before]
    nodes.pop()  # the third ReLU comes after the sum
    shortcut = before
    if project:
        shortcut = f"{name}downsample.1"
        nodes += [
            {"name": f"{name}downsample.0", "layer": "Conv2d", "out": 4 * width, "kernel": 1,
             "stride": stride, "bias": False, "inputs": [before]},
            {"name": shortcut, "layer": "BatchNorm"},
        ]  # fmt: skip
    return [
        *nodes,
        {"name": f"{name}add", "layer": "Add", "inputs": [f"{name}bn3", shortcut]},
        {"name": f"{name}relu", **RELU},
    ]


def tiny() -> Document:
    """
    Describe a network for trying things out.

    Returns
    -------
    dict
        Its architecture.
    """
    nodes: Nodes = [
        {"name": "conv1", "layer": "Conv2d", "out": 8, "kernel": 3, "padding": 1},
        {"name": "relu1", **RELU},
        {"name": "pool1", "layer": "MaxPool2d", "kernel": 2},
        {"name": "conv2", "layer": "Conv2d", "out": 16, "kernel": 3, "padding": 1},
        {"name": "relu2", **RELU},
        {"name": "pool2", "layer": "MaxPool2d", "kernel": 2},
        {"name": "flatten", "layer": "Flatten"},
        {"name": "score", "layer": "Dense", "out": 10},
    ]
    return _document("tiny", nodes, size=16)


NETWORKS: dict[str, Callable[[], Document]] = {
    "vgg16": vgg16, "resnet50": resnet50, "squeezenet": squeezenet, "tiny": tiny,
}  # fmt: skip
"""The networks by name."""

TITLES = {"vgg16": "VGG-16", "resnet50": "ResNet-50", "squeezenet": "SqueezeNet 1.1", "tiny": "tiny"}
"""What they are called in the table."""
