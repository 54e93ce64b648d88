"""The architectures that are known by name: TOML files, and builders where a family has many members."""

from __future__ import annotations

import importlib.resources
import os
import tomllib
from collections.abc import Callable
from importlib.resources.abc import Traversable

from lrpref.errors import BadNetwork
from lrpref.files import regular
from lrpref.tables import within
from lrpref.weights_import.architectures import (
    cifar_resnet,
    densenet,
    efficientnet,
    googlenet,
    inception,
    mobilenet,
    resnet,
    squeezenet,
    vgg,
)
from lrpref.weights_import.build import expected_tensors
from lrpref.weights_import.specification import Architecture, Document

_FAMILIES = (
    cifar_resnet, densenet, efficientnet, googlenet, inception, mobilenet, resnet, squeezenet, vgg
)  # fmt: skip
_BUILDERS: dict[str, Callable[[str], Document]] = {
    name: family.document for family in _FAMILIES for name in family.NAMES
}
_FILES = {
    file.name.removesuffix(".toml"): file
    for file in importlib.resources.files(__name__).iterdir()
    if file.name.endswith(".toml")
}

NAMES = tuple(sorted({*_BUILDERS, *_FILES}))
"""The architectures that have a name."""

TORCHVISION = tuple(
    sorted(
        {"alexnet"}.union(
            *(f.NAMES for f in (densenet, googlenet, inception, mobilenet, resnet, squeezenet, vgg))
        )
    )
)
"""Those that torchvision has under the same name, with the same names of tensors and modules."""


def get(architecture: str | os.PathLike[str]) -> Architecture:
    """
    Get an architecture by its name, or from a TOML file of one's own.

    Parameters
    ----------
    architecture : str or path-like
        One of `NAMES`, or the path of a TOML file: a path-like object, or a string that ends in `.toml`.

    Returns
    -------
    Architecture
        The architecture; its shapes fit.

    Raises
    ------
    BadNetwork
        If there is no such name or file, or if it does not describe a network: the file, the node, and what
        is wanted.
    """
    if isinstance(architecture, os.PathLike) or architecture.endswith(".toml"):
        path = regular(architecture, BadNetwork)
        return _checked(path.name, _toml(path))
    if architecture in _BUILDERS:
        return _checked(architecture, _BUILDERS[architecture](architecture))
    if architecture in _FILES:
        return _checked(architecture, _toml(_FILES[architecture]))
    raise BadNetwork(f"unknown architecture {architecture!r}: there are {', '.join(NAMES)}; "
                     "or give the path of a TOML file")


def _toml(file: Traversable) -> Document:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadNetwork(f"{file.name}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise BadNetwork(f"{file.name}: not a TOML file ({error})") from None


def _checked(where: str, document: Document) -> Architecture:
    with within(where):
        architecture = Architecture.of(document)
        expected_tensors(architecture)
    return architecture
