"""What the `cpu` backend's files share: compiling with Numba, threads, and the arrays that it takes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding  # type: ignore[import-untyped, unused-ignore]

from lrpref.errors import BadBackend
from lrpref.kernels.operations import Array

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, **options: Any) -> Function:
    """
    Compile a function with Numba: at its first call for a dtype, kept on disk where that can be written.

    Python's global lock is released while it runs, so that our threads run beside each other.

    Parameters
    ----------
    function : callable
        In the part of Python that Numba knows.
    **options
        Options of `numba.njit`.

    Returns
    -------
    callable
        The same function, compiled.
    """
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # Numba finds no folder that it may write its cache to
        return numba.njit(**options)(function)
    if hasattr(made, "_cache"):  # not where NUMBA_DISABLE_JIT is set
        made._cache = _Cache(made._cache)
    return made


class _Cache:
    """
    Numba's cache on disk, but tied to all our sources, and never in the way.

    Numba asks whether the file of a function has changed, not whether those have that it calls, nor on which
    processor they were compiled. And a cache that is full or broken is no reason to fail.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        file = cache._cache_file
        file._source_stamp = (file._source_stamp, _stamp())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # whatever a broken file can cause: then it is compiled anew
            return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            self._cache.save_overload(*arguments)


@cache
def _stamp() -> str:
    """Hash the sources of the kernels, and what this processor can do."""
    found = hashlib.sha256(binding.get_host_cpu_features().flatten().encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def reordered(function: Function) -> Function:
    """
    Compile a function whose sums may be taken in any order, so that they can be vectorised.

    Only the order is free: NaN, infinity and -0 keep their meaning. The order is the compiler's choice
    and the same in each run.

    Parameters
    ----------
    function : callable
        Adds up.

    Returns
    -------
    callable
        The same function, compiled.
    """
    return compiled(function, fastmath={"reassoc", "contract"})


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked child has the object, but not its threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def threads() -> int:
    """
    Count the threads that share the work.

    Returns
    -------
    int
        NUMBA_NUM_THREADS of the environment, or one for each core that this process may use.
    """
    config: Any = numba.config
    return int(config.NUMBA_NUM_THREADS)


def share(items: int, work: Callable[[int, int], Any]) -> None:
    """
    Let the threads work through the items, each taking the next few when it is done with its last.

    Parameters
    ----------
    items : int
        How many there are. What is done to one may not depend on who does it.
    work : callable
        Does the items from its first argument up to, but not including, its second.
    """
    global _pool
    workers = min(threads(), items)
    few = max(1, items // (8 * workers)) if items else 1
    starts = iter(range(0, items, few))  # its next() is one step under the global lock

    def turns() -> None:
        for first in starts:
            work(first, min(first + few, items))

    if workers > 1 and _pool is None:
        _pool = ThreadPoolExecutor(threads() - 1, "lrpref")
    others = [_pool.submit(turns) for _ in range(workers - 1)] if _pool else []
    try:
        turns()
    finally:
        for other in others:
            if not other.cancel():  # not even begun: nothing is left for it
                other.result()


def given(x: Any, dtype: Any = None) -> Array:
    """
    Take an array as the compiled functions want it.

    Parameters
    ----------
    x : ndarray
        Of any layout.
    dtype : dtype, optional
        What its dtype is to be; else float32 or float64.

    Returns
    -------
    ndarray
        A view, or a copy where x is not contiguous. It is read-only, whatever x is: else Numba would
        compile each function once for arrays that can be written to and once for others.

    Raises
    ------
    BadBackend
        If it is neither float32 nor float64.
    """
    if x.dtype not in (np.float32, np.float64):
        kind = "exact numbers" if x.dtype == object else x.dtype
        raise BadBackend(f"backend 'cpu' serves float32 and float64, not {kind}: use backend 'numpy'")
    if dtype is not None and x.dtype != dtype:
        raise BadBackend(f"backend 'cpu' wants one dtype, not {x.dtype} beside {np.dtype(dtype)}")
    view = np.ascontiguousarray(x).reshape(x.shape).view()
    view.flags.writeable = False
    return view
