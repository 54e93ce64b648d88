"""Run CUDA kernels on the CPU: `EmulatedDevice` takes the place of a GPU in the tests.

An unmodified CUDA C++ source is compiled by g++ with ``cuda_emul.h`` (read its first lines for what it finds)
and launched on arrays in host memory. Compiled sources are kept in the system's folder for temporary files.

    device = EmulatedDevice(schedule=2)
    kernel = device.function(source, ("-DREAL=double",), "quotient")
    x, out = device.upload(x), device.empty(x.shape, x.dtype)
    device.launch(kernel, (blocks,), (256,), (x, out, np.int32(x.size)))
    result = device.download(out)

What a launch raises: `BadLaunch` for arguments that do not fit, `KernelFault` for a mistake in the kernel.
Data races and reads out of bounds need a sanitizer, which must be in the process from its start: see
`run_sanitized`.
"""

from emulator.arrays import DeviceArray
from emulator.compiler import BadLaunch, KernelFault, Module, requirement
from emulator.device import EmulatedDevice
from emulator.sanitize import Outcome, run_sanitized

__all__ = [
    "BadLaunch",
    "DeviceArray",
    "EmulatedDevice",
    "KernelFault",
    "Module",
    "Outcome",
    "requirement",
    "run_sanitized",
]
