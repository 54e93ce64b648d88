"""Launch kernels of faults.cu by name: ``python faults.py no_barrier same_value``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from emulator import EmulatedDevice, KernelFault
from emulator.sanitize import case

SOURCE = (Path(__file__).parent / "faults.cu").read_text()
THREADS = 64


def values(kernel: str, device: EmulatedDevice, blocks: int = 1) -> np.ndarray:
    """Run one kernel on zeros; return what it wrote."""
    function = device.function(SOURCE, (), kernel)
    out = device.zeros(THREADS, np.int32 if kernel == "division_by_zero" else np.float32)
    arguments = [out, device.upload(np.arange(THREADS, dtype=np.float32))][: len(function.parameters)]
    device.launch(function, (blocks,), (THREADS,), tuple(arguments), shared=4 * THREADS)
    return device.download(out)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        case(name)
        for schedule in (0, 1, 2):
            try:
                print(values(name, EmulatedDevice(schedule)))
            except KernelFault as fault:
                print(fault)
        sys.stdout.flush()
