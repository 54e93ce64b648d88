"""A GPU made of one CPU core: the Device interface of the cupy backend, for machines without a GPU."""

from __future__ import annotations

import functools
import os
import weakref
from collections import Counter
from typing import Any

import numpy as np

from emulator.arrays import DeviceArray
from emulator.compiler import BadLaunch, Function, KernelFault, Module

# Shared memory that one block may have, in bytes, by compute capability (CUDA Programming Guide).
SHARED = {(7, 0): 96, (7, 5): 64, (8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227}
GRID = (2**31 - 1, 65535, 65535)
BLOCK = (1024, 1024, 64)

ALIGNED = 256  # bytes, as cudaMalloc aligns
# The bands on both sides of each array are full of signalling NaN: any arithmetic on one makes it quiet, so
# that adding to what stands in a band shows too.
BANDS = {
    np.dtype(np.float32): np.full(64, 0x7FA5A5A5, np.uint32).view(np.uint8),
    np.dtype(np.float64): np.full(32, 0x7FF5A5A5A5A5A5A5, np.uint64).view(np.uint8),
}
BAND = np.full(256, 0xFF, np.uint8)  # other types


class EmulatedDevice:
    """Run kernels on the CPU, one launch at a time, and watch what they do.

    Parameters
    ----------
    schedule : {0, 1, 2}
        In which order a block's threads run: 0 ascending; 1 the last warp first and as far as it can get;
        2 at random, and asynchronous copies land as late as they may. A right kernel gives the same
        values under all three, up to the order of its atomic additions.
    seed : int
        Of schedule 2 and of `shuffle_blocks`.
    shuffle_blocks : bool
        Run the blocks in random order; otherwise one after another (schedule 1: the last first).
    capability : tuple of int
        What the device says it is, and what ``__CUDA_ARCH__`` is.
    multiprocessors : int
        What the device says it has.
    memory : int
        Bytes that it says it has.
    sanitize : {None, "address", "thread"}
        With which sanitizer to compile. Default: the one this process was started with by `run_sanitized`.

    Attributes
    ----------
    launches : Counter
        How often each kernel was launched, by name.
    """

    name = "emulated"

    def __init__(
        self,
        schedule: int = 0,
        seed: int = 1,
        *,
        shuffle_blocks: bool = False,
        capability: tuple[int, int] = (9, 0),
        multiprocessors: int = 4,
        memory: int = 1 << 34,
        sanitize: str | None = None,
    ) -> None:
        if schedule not in (0, 1, 2):
            raise ValueError(f"schedule must be 0, 1 or 2, not {schedule}")
        self.schedule = schedule
        self.seed = seed
        self.shuffle_blocks = shuffle_blocks
        self.capability = capability
        self.multiprocessors = multiprocessors
        self.memory = memory
        self.sanitize = sanitize or os.environ.get("LRPREF_EMULATOR_SANITIZE") or None
        self.launches: Counter[str] = Counter()
        # By id: the memory, whether it still lives, and where its two bands are.
        self._allocations: dict[int, tuple[weakref.ref[np.ndarray], int, int, np.ndarray]] = {}

    # ---- memory

    def _allocate(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Host memory full of NaN, with a band of NaN on both sides."""
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if nbytes > self.free_memory():
            from lrpref.kernels.device import out_of_memory  # not above: sanitized scripts begin faster

            raise out_of_memory(nbytes, self.free_memory())
        if nbytes == 0:
            return np.empty(shape, dtype)
        if self.sanitize == "address":  # the sanitizer's own bands stand right beside what was asked for
            return np.full(nbytes, 0xFF, np.uint8).view(dtype).reshape(shape)
        raw = np.full(nbytes + 2 * BAND.size + ALIGNED, 0xFF, np.uint8)
        start = BAND.size + -raw.ctypes.data % ALIGNED
        band = BANDS.get(dtype, BAND)
        raw[start - band.size : start] = raw[start + nbytes : start + nbytes + band.size] = band
        key = id(raw)
        forget = weakref.ref(raw, lambda _: self._allocations.pop(key, None))
        self._allocations[key] = (forget, start, start + nbytes, band)
        return raw[start : start + nbytes].view(dtype).reshape(shape)

    def _check_bands(self, name: str) -> None:
        """After a launch: has a kernel written beside an array?"""
        for reference, start, end, band in list(self._allocations.values()):
            raw = reference()
            if raw is None:
                continue
            sides = raw[start - band.size : start], raw[end : end + band.size]
            if not all(np.array_equal(side, band) for side in sides):
                for side in sides:
                    side[...] = band
                raise KernelFault(f"{name} wrote outside of an array of {end - start} bytes")

    def adopt(self, result: Any) -> Any:
        """Wrap what NumPy made of this device's arrays; new memory is moved to the device."""
        if isinstance(result, list | tuple):
            return type(result)(self.adopt(r) for r in result)
        if not isinstance(result, np.ndarray | np.generic):
            return result  # a shape, a number of dimensions
        root: Any = result
        while isinstance(getattr(root, "base", None), np.ndarray):
            root = root.base
        # With AddressSanitizer every memory has its bands, so that any view can stay where it is.
        if id(root) in self._allocations or (self.sanitize == "address" and root is not result):
            return DeviceArray(np.asarray(result), self)
        memory = self._allocate(np.shape(result), result.dtype)
        memory[...] = result
        return DeviceArray(memory, self)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return a new array; nothing but NaN (or -1) is in it. BadBackend: the memory does not suffice."""
        return DeviceArray(self._allocate((shape,) if isinstance(shape, int) else tuple(shape), dtype), self)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return a new array of zeros."""
        array = self.empty(shape, dtype)
        array._host.fill(0)
        return array

    def upload(self, array: Any) -> DeviceArray:
        """Return a C-contiguous copy on the device."""
        if isinstance(array, DeviceArray):
            raise TypeError("upload: the array is on the device already")
        array = np.asarray(array)
        copy = self.empty(array.shape, array.dtype)
        copy._host[...] = array
        return copy

    def download(self, array: DeviceArray) -> np.ndarray:
        """Return a C-contiguous copy on the host."""
        if not isinstance(array, DeviceArray):
            raise TypeError(f"download: a device array was expected, not {type(array).__name__}")
        return np.array(array._host, order="C")

    def free_memory(self) -> int:
        """Return the bytes that are not in use."""
        return self.memory - sum(end - start for _, start, end, _ in list(self._allocations.values()))

    def synchronize(self) -> None:
        """Wait for all launches; here each has ended when `launch` returns."""

    # ---- kernels

    def function(self, source: str, options: tuple[str, ...], name: str) -> Function:
        """Compile a source (once per device) and return one of its kernels."""
        return self._module(source, tuple(options)).function(name)

    @functools.cached_property
    def _module(self) -> Any:
        arch = self.capability[0] * 100 + self.capability[1] * 10
        return functools.cache(lambda source, options: Module(source, options, self.sanitize, arch))

    def launch(
        self,
        function: Function,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        """Run a kernel to its end.

        Raises
        ------
        BadLaunch
            When a size is beyond what the device can do, or an argument is not what the kernel takes.
        KernelFault
            When the kernel did something wrong: a divergent barrier, a deadlock, a wild pointer, a write
            outside of its arrays.
        """
        name = function.name
        for what, size, most in (("grid", grid, GRID), ("block", block, BLOCK)):
            if not all(1 <= s <= m for s, m in zip(size, most, strict=False)) or not 1 <= len(size) <= 3:
                raise BadLaunch(f"{name}: {what} {size} is not between 1 and {most}")
        if np.prod(block) > 1024:
            raise BadLaunch(f"{name}: {np.prod(block)} threads in a block; 1024 are the most")
        if shared > SHARED.get(self.capability, 48) * 1024:
            raise BadLaunch(f"{name}: {shared} bytes of shared memory are too many for {self.capability}")
        for i, a in enumerate(arguments):
            if isinstance(a, DeviceArray) and a._device is not self:
                raise BadLaunch(f"{name}, argument {i}: an array of another device")
            if isinstance(a, np.ndarray) and a.ndim:
                raise BadLaunch(f"{name}, argument {i}: a host array")
        self.launches[name] += 1
        function(
            grid,
            block,
            [a._host if isinstance(a, DeviceArray) else a for a in arguments],
            shared,
            schedule=self.schedule,
            seed=self.seed,
            shuffle_blocks=self.shuffle_blocks,
        )
        self._check_bands(name)
