"""Arrays in, arrays out: the linear maps of a network, their transposes, and the four steps on them.

A *backend* is a module with one function table (`operations.py` lists it). Nothing here knows of
layers or rules.
"""

from __future__ import annotations

import importlib
from typing import Any

from lrpref.errors import BadBackend

_MODULES = {"numpy": "reference", "loops": "loops"}

BACKENDS = tuple(_MODULES)


def backend(name: str) -> Any:
    """
    Import the backend of this name.

    Parameters
    ----------
    name : {"numpy", "loops"}
        `numpy` is `reference.py`, the truth; `loops` is `loops.py`, explicit loops compiled by Numba.

    Returns
    -------
    module
        The function table.

    Raises
    ------
    BadBackend
        If there is no such backend.
    """
    if name not in _MODULES:
        raise BadBackend(f"unknown backend {name!r}: there are {', '.join(BACKENDS)}")
    return importlib.import_module(f"lrpref.kernels.{_MODULES[name]}")
