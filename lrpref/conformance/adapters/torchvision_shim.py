"""Import torchvision where its compiled operators do not load.

PyPI's torchvision is built for one build of PyTorch; beside another, its compiled library is left out
and the import fails at two operators that it wants to describe. LRP needs neither: it is enough that they
are known by name.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch

_NEEDED = ("nms", "qnms")
_operators: list[Any] = []  # they are known as long as this list lives


def import_torchvision(package: str = "torchvision") -> Any:
    """
    Import torchvision; where its operators are missing, declare them first.

    Parameters
    ----------
    package : str
        `torchvision`, or a module in it.

    Returns
    -------
    module
        The package. Its models work; its operators are those that it brought, or none.
    """
    try:
        return importlib.import_module(package)
    except RuntimeError as error:  # operator torchvision::nms does not exist
        if _operators or "torchvision::" not in str(error):
            raise
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call, unused-ignore]
    for name in _NEEDED:
        library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    _operators.append(library)
    return importlib.import_module(package)
