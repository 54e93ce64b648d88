"""On which device the comparisons of the CUDA kernels run: the emulator, or the GPU that is here.

    LRPREF_DEVICE=cupy python -m pytest tests/test_cupy_cuda.py tests/test_cuda_convolution.py

runs them on the GPU (tools/gpu_record.py does). There is one schedule then, the GPU's own; what only an
emulator can do, such as faults put in on purpose, is left out.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from typing import Any

import pytest
from emulator import EmulatedDevice, requirement

from lrpref.kernels import device as devices

REAL = os.environ.get("LRPREF_DEVICE") == "cupy"
"""Whether the comparisons run on a GPU."""

SCHEDULES = (0,) if REAL else (0, 1, 2)
"""In which orders a block's threads run, one after another."""

_LACKING = requirement()

compared = pytest.mark.skipif(
    not REAL and bool(_LACKING) and not os.environ.get("LRPREF_NOTHING_SKIPPED"), reason=_LACKING
)
"""Marks what runs on any device."""

emulated = pytest.mark.skipif(
    REAL or (bool(_LACKING) and not os.environ.get("LRPREF_NOTHING_SKIPPED")),
    reason="only an emulator can do this" if REAL else _LACKING,
)
"""Marks what needs the emulator."""


class Counted:
    """
    The GPU, counting launches as the emulator does, and perhaps said to be another than it is.

    Parameters
    ----------
    multiprocessors : int or None
        Instead of its own number.
    capability : tuple of int or None
        Instead of its own.
    """

    def __init__(self, multiprocessors: int | None, capability: tuple[int, int] | None) -> None:
        self._gpu = gpu()
        self.multiprocessors = multiprocessors or self._gpu.multiprocessors
        self.capability = capability or self._gpu.capability
        self.launches: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gpu, name)

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        return name, self._gpu.function(source, options, name)

    def launch(self, function: Any, *arguments: Any, **options: Any) -> None:
        name, kernel = function
        self.launches[name] += 1
        self._gpu.launch(kernel, *arguments, **options)


@functools.cache
def gpu() -> Any:
    """Find the GPU, once."""
    return devices.CuPyDevice()


def device(
    schedule: int = 0, *, multiprocessors: int | None = None, capability: tuple[int, int] | None = None
) -> Any:
    """
    Give the device.

    Parameters
    ----------
    schedule : {0, 1, 2}
        Of the emulator; its blocks too run in random order under schedule 2.
    multiprocessors : int, optional
        What the launchers shall think it has.
    capability : tuple of int, optional
        Likewise.

    Returns
    -------
    Device
        With a counter `launches`.
    """
    if REAL:
        return Counted(multiprocessors, capability)
    said = {"multiprocessors": multiprocessors, "capability": capability}
    return EmulatedDevice(
        schedule, shuffle_blocks=schedule == 2, **{k: v for k, v in said.items() if v is not None}
    )
