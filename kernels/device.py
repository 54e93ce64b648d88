"""The device that kernels run on: memory, compilation, launches; and CuPy's implementation of it.

The launchers of `cuda/*.cu` know `Device` alone. So the tests can run the very same launchers and kernels on
a machine without a GPU, on a `Device` that executes CUDA C++ on the CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from lrpref.errors import BadBackend, NoMemory
from lrpref.kernels.operations import Array

DeviceArray = Any
"""An array in a device's memory: it follows NumPy's protocols, and never becomes a host array by itself."""

INSTALL = "pip install 'lrpref[cuda13]' (or 'lrpref[cuda12]' for drivers older than 580)"


class Device(Protocol):
    """
    What a launcher needs of a GPU.

    Attributes
    ----------
    name : str
        As its maker calls it.
    capability : tuple of int
        Compute capability (major, minor): (9, 0) for sm_90.
    multiprocessors : int
        How many blocks run at the same time, at least.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """
        Allocate an array, and leave in it what was there.

        Parameters
        ----------
        shape : tuple of int
            The shape.
        dtype : data-type
            The dtype.

        Returns
        -------
        device array
            C-contiguous.

        Raises
        ------
        BadBackend
            If the device's memory does not suffice.
        """

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """
        Allocate an array of zeros.

        Parameters
        ----------
        shape : tuple of int
            The shape.
        dtype : data-type
            The dtype.

        Returns
        -------
        device array
            C-contiguous.

        Raises
        ------
        BadBackend
            If the device's memory does not suffice.
        """

    def upload(self, x: Array) -> DeviceArray:
        """
        Copy an array to the device.

        Parameters
        ----------
        x : ndarray
            On the host, of any layout.

        Returns
        -------
        device array
            C-contiguous.

        Raises
        ------
        BadBackend
            If the device's memory does not suffice.
        """

    def download(self, x: DeviceArray) -> Array:
        """
        Copy an array to the host.

        Parameters
        ----------
        x : device array
            Waited for, should it still be computed.

        Returns
        -------
        ndarray
            On the host.
        """

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        """
        Compile CUDA C++, once for each source and options, and find a kernel in it.

        Parameters
        ----------
        source : str
            Without any `#include`.
        options : tuple of str
            The compiler's options.
        name : str
            An `extern "C" __global__` function.

        Returns
        -------
        object
            For `launch`.

        Raises
        ------
        BadBackend
            If the source does not compile for this device.
        """

    def launch(
        self,
        function: Any,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        """
        Start a kernel; it may still run on return.

        Parameters
        ----------
        function : object
            From `function`.
        grid, block : tuple of int
            Blocks, and threads of a block: up to three numbers each, none of them 0.
        arguments : tuple
            For pointers device arrays or None, for numbers NumPy's scalars, for structs scalars of a
            structured dtype.
        shared : int
            Bytes of dynamic shared memory.
        """

    def synchronize(self) -> None:
        """Wait until all launched kernels are done."""

    def free_memory(self) -> int:
        """
        Tell how much can still be allocated.

        Returns
        -------
        int
            Bytes.
        """


def out_of_memory(wanted: int, free: int) -> NoMemory:
    """
    Say that the device's memory does not suffice.

    Parameters
    ----------
    wanted, free : int
        Bytes.

    Returns
    -------
    NoMemory
        To be raised.
    """
    return NoMemory(
        f"out of device memory: {wanted / 2**20:,.1f} MiB are wanted, {free / 2**20:,.1f} MiB are free: "
        "use a smaller batch, or backend 'cpu'"
    )


@contextmanager
def _clear_errors(cupy: Any, free_memory: Callable[[], int], wanted: int = 0) -> Iterator[None]:
    """Turn CuPy's errors that a user can meet into one clear line; `wanted`: the bytes to be allocated."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError:
        raise out_of_memory(wanted, free_memory()) from None
    except cupy.cuda.compiler.CompileException as error:
        lines = [line for line in str(error).splitlines() if "error" in line] or [_first_line(error)]
        raise BadBackend(f"the CUDA compiler refuses a kernel: {lines[0].strip()}") from None
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        raise BadBackend(f"the GPU reports: {_first_line(error)}") from None


class CuPyDevice:
    """
    The current CUDA device, through CuPy.

    Attributes
    ----------
    name : str
        As its maker calls it.
    capability : tuple of int
        Compute capability (major, minor).
    multiprocessors : int
        Their number.

    Raises
    ------
    BadBackend
        If no GPU answers.
    """

    def __init__(self) -> None:
        if reason := available():
            raise BadBackend(reason)
        self._cupy = importlib.import_module("cupy")
        runtime = self._cupy.cuda.runtime
        found = runtime.getDeviceProperties(runtime.getDevice())
        self.name: str = found["name"].decode()
        self.capability: tuple[int, int] = (found["major"], found["minor"])
        self.multiprocessors: int = found["multiProcessorCount"]
        self._modules: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._functions: dict[tuple[str, tuple[str, ...], str], Any] = {}

    def _errors(self, wanted: int = 0) -> Any:
        return _clear_errors(self._cupy, self.free_memory, wanted)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        with self._errors(math.prod(shape) * np.dtype(dtype).itemsize):
            return self._cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        with self._errors(math.prod(shape) * np.dtype(dtype).itemsize):
            return self._cupy.zeros(shape, dtype)

    def upload(self, x: Array) -> DeviceArray:
        with self._errors(x.nbytes):
            return self._cupy.array(x, order="C")

    def download(self, x: DeviceArray) -> Array:
        with self._errors():
            return np.asarray(self._cupy.asnumpy(x))

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        key = source, options, name
        if key not in self._functions:
            with self._errors():
                if key[:2] not in self._modules:
                    self._modules[key[:2]] = self._cupy.RawModule(
                        code=source, options=options, backend="nvrtc"
                    )
                self._functions[key] = self._modules[key[:2]].get_function(name)
        return self._functions[key]

    def launch(
        self,
        function: Any,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        with self._errors():
            if shared > 48 * 1024:  # beyond this a kernel must ask
                function.max_dynamic_shared_size_bytes = shared
            function(grid, block, tuple(_by_value(x) for x in arguments), shared_mem=shared)

    def synchronize(self) -> None:
        with self._errors():
            self._cupy.cuda.get_current_stream().synchronize()

    def free_memory(self) -> int:
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free + self._cupy.get_default_memory_pool().free_bytes())


def _by_value(x: Any) -> Any:
    """
    Give an argument as CuPy passes it on unharmed.

    A struct as an array of size one, which goes by value whatever its length. A null pointer as a
    number: None arrives in the kernel as some other address (CuPy's issue 9046).
    """
    if x is None:
        return np.uint64(0)
    return np.asarray(x) if isinstance(x, np.void) else x


def available() -> str:
    """
    Tell whether a GPU answers to CuPy.

    Returns
    -------
    str
        Empty if one does; else one line: why not, and what to install.
    """
    if importlib.util.find_spec("cupy") is None:
        return f"backend 'cupy' needs CuPy, which is not installed: {INSTALL}"
    try:
        cupy = importlib.import_module("cupy")
        runtime = cupy.cuda.runtime
    except Exception as error:  # a broken installation raises anything
        return f"CuPy cannot be imported ({_first_line(error)}): {INSTALL}"
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        return _no_device(runtime, error)
    if count == 0:
        return "no GPU answers: CuPy finds 0 CUDA devices; use backend 'cpu'"
    try:
        cupy.cuda.nvrtc.getVersion()
        cupy.empty(1)
    except Exception as error:  # no compiler library, a device that is busy or broken
        return f"the GPU does not answer to CuPy: {_first_line(error)}"
    return ""


def _no_device(runtime: Any, error: Exception) -> str:
    """Say in one line why CUDA counts no device."""
    text = str(error)
    if "cudaErrorInsufficientDriver" in text:
        wanted, driver = _version(runtime.runtimeGetVersion()), runtime.driverGetVersion()
        if driver == 0:
            return f"no GPU answers: there is no NVIDIA driver (CUDA {wanted} needs one); use backend 'cpu'"
        return (
            f"the NVIDIA driver is too old: it serves CUDA {_version(driver)}, CuPy needs {wanted}: "
            "update the driver, or pip install 'lrpref[cuda12]'"
        )
    if "cudaErrorNoDevice" in text:
        return "no GPU answers: the NVIDIA driver finds no CUDA device; use backend 'cpu'"
    return f"no GPU answers: {_first_line(error)}; use backend 'cpu'"


def _version(number: int) -> str:
    """Write CUDA's 13020 as 13.2."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
