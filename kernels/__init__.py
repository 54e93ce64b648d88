"""Arrays in, arrays out: the linear maps of a network, their transposes, and the four steps on them.

A *backend* is an object with one function table (`operations.py` lists it). Nothing here knows of
layers or rules.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from lrpref.errors import BadBackend

_MODULES = {
    "numpy": "reference",
    "loops": "loops",
    "cpu": "cpu",
    "cupy": "cupy_cuda",
    "numba-cuda": "numba_cuda",
}

BACKENDS = tuple(_MODULES)


def backend(name: str) -> Any:
    """
    Get the backend of this name.

    Parameters
    ----------
    name : {"auto", "numpy", "loops", "cpu", "cupy", "numba-cuda"}
        `numpy` is `reference.py`, the truth; `loops` explicit loops compiled by Numba; `cpu` the four
        steps fused, on all cores; `cupy` CUDA C++ on a GPU; `numba-cuda` Python kernels on a GPU or in its
        simulator. `auto` takes `cupy` where a GPU answers, else `cpu`.

    Returns
    -------
    object
        The function table.

    Raises
    ------
    BadBackend
        If there is no such backend, or what it needs is missing.
    """
    if not isinstance(name, str):
        raise BadBackend(f"backend is {name!r:.60}: wanted is auto, {', '.join(BACKENDS)}")
    name = automatic() if name == "auto" else name
    _check_threads()
    if name not in _MODULES:
        raise BadBackend(f"unknown backend {name!r}: there are auto, {', '.join(BACKENDS)}")
    return importlib.import_module(f"lrpref.kernels.{_MODULES[name]}").table()


def _check_threads() -> None:
    """Refuse what Numba would end with a traceback for."""
    count = os.environ.get("NUMBA_NUM_THREADS", "")
    if count.lstrip("+-").isdigit() and int(count) < 1:
        raise BadBackend(f"NUMBA_NUM_THREADS is {count}: a whole number >= 1 is wanted")


def automatic() -> str:
    """
    Choose a backend: `cupy` where a GPU answers, else `cpu`.

    Returns
    -------
    str
        Its name.
    """
    from lrpref.kernels.device import available

    return "cpu" if available() else "cupy"
