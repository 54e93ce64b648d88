"""What comes with lrpref: a small network, 500 pictures to try it on, and ImageNet's class names."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from lrpref.errors import BadInput
from lrpref.kernels.operations import Array
from lrpref.network import Network, load

EMBEDDED = "embedded"
"""Name of the embedded network, a small CNN for Fashion-MNIST; see model_card.json."""

_FOLDER = files(__name__)


def embedded() -> Network:
    """
    Load the embedded network.

    Returns
    -------
    Network
        A convolutional network with batch norms, 28 x 28 grey pixels to ten kinds of clothes.
    """
    from dataclasses import replace

    return replace(load(str(_FOLDER / "fashion_cnn.safetensors")), source=EMBEDDED)


def images() -> tuple[Array, Array]:
    """
    Load the embedded pictures: 500 of Fashion-MNIST's test set, 50 of each class.

    Returns
    -------
    pixels : ndarray of uint8, shape (500, 28, 28)
        Grey values.
    labels : ndarray of uint8, shape (500,)
        Their classes.
    """
    with np.load(str(_FOLDER / "fashion_500.npz")) as file:
        return file["images"], file["labels"]


def image(number: int) -> Array:
    """
    Load one embedded picture.

    Parameters
    ----------
    number : int
        0 to 499.

    Returns
    -------
    ndarray of uint8, shape (28, 28)
        Grey values.

    Raises
    ------
    BadInput
        If there is no such picture.
    """
    pixels, _ = images()
    if not 0 <= number < len(pixels):
        raise BadInput(f"there is no embedded picture {number}: there are 0 to {len(pixels) - 1}")
    return np.asarray(pixels[number])


def imagenet_classes() -> tuple[str, ...]:
    """
    Name the 1000 classes of ImageNet, in the order of the networks' outputs.

    Returns
    -------
    tuple of str
        The names; see SOURCES.md.
    """
    return tuple((_FOLDER / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines())
