"""Arrays that lie "on the device": as strict as CuPy's, though their memory is the host's.

A backend that works on these works on CuPy's as far as arrays go: nothing turns into a host array by itself,
nothing mixes with one, and only functions are offered that CuPy has too.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from emulator.device import EmulatedDevice


def _named(names: str) -> set[Any]:
    return {getattr(np, name) for name in names.split()}


# NumPy's functions that CuPy's arrays take through __array_function__.
FUNCTIONS = _named("""
    all amax amin any argmax argmin argsort array_split broadcast_arrays broadcast_to clip column_stack
    concatenate copyto cumsum diagonal dot einsum empty_like expand_dims flip full_like hstack max mean
    min moveaxis ndim ones_like pad prod ravel repeat reshape roll rollaxis shape size sort split
    squeeze stack sum swapaxes take tensordot tile transpose trace tril triu vstack where zeros_like
""")
# Universal functions: those that CuPy has under the same name.
UFUNCS = _named("""
    abs add arctan ceil copysign cos divide equal exp exp2 expm1 floor floor_divide fmax fmin greater
    greater_equal hypot invert isfinite isinf isnan less less_equal log log1p log2 logaddexp logical_and
    logical_not logical_or logical_xor matmul maximum minimum mod multiply negative not_equal positive
    power reciprocal remainder right_shift left_shift bitwise_and bitwise_or bitwise_xor sign signbit
    sin sqrt square subtract tanh true_divide trunc
""")
METHODS = """
    all any argmax argmin astype clip copy diagonal dot fill max mean min prod ravel repeat reshape squeeze
    sum swapaxes take transpose view
""".split()  # noqa: SIM905 - as the two above


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of an `EmulatedDevice`. Make one with the device's ``upload``, ``empty`` or ``zeros``."""

    __slots__ = ("_device", "_host")

    def __init__(self, host: np.ndarray, device: EmulatedDevice) -> None:
        self._host = host
        self._device = device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    ndim = property(lambda self: self._host.ndim)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: self._device.adopt(self._host.T))

    @property
    def data(self) -> Any:
        """As in CuPy, ``x.data.ptr`` is the address on the device: for pointers inside structs."""
        return _Pointer(self._host.ctypes.data)

    def __getattr__(self, name: str) -> Any:
        if name not in METHODS:
            raise AttributeError(f"device arrays have no {name}")
        method = getattr(self._host, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            with np.errstate(all="ignore"):
                return self._device.adopt(method(*on_host(args), **on_host(kwargs)))

        return call

    # What CuPy refuses: to become a host array unasked.

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("implicit conversion of a device array to a host array: use device.download(array)")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if ufunc not in UFUNCS or method != "__call__":
            raise TypeError(f"not offered for device arrays: np.{ufunc.__name__}, {method}")
        targets = kwargs.pop("out", None)
        inputs, kwargs = on_host(inputs), on_host(kwargs)
        with np.errstate(all="ignore"):  # a GPU does not warn
            if targets is None:
                return self._device.adopt(ufunc(*inputs, **kwargs))
            ufunc(*inputs, out=on_host(targets), **kwargs)
        return targets[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function not in FUNCTIONS:
            raise TypeError(f"not offered for device arrays: {function.__module__}.{function.__name__}")
        with np.errstate(all="ignore"):
            result = function(*on_host(args), **on_host(kwargs))
        if function is np.empty_like:
            return self._device.empty(result.shape, result.dtype)  # NaN
        return self._device.adopt(result)

    def __getitem__(self, key: Any) -> DeviceArray:
        return self._device.adopt(self._host[_index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_index(key)] = on_host(value)

    # What CuPy allows, though it waits for the device: single numbers.

    def __bool__(self) -> bool:
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def item(self) -> Any:
        """Return the one element of an array of one element."""
        return self._host.item()

    def get(self) -> np.ndarray:
        """Return a copy on the host."""
        return self._host.copy()

    def __len__(self) -> int:
        return len(self._host)

    def __repr__(self) -> str:
        return f"DeviceArray({self._host!r})"


class _Pointer:
    def __init__(self, ptr: int) -> None:
        self.ptr = ptr


def on_host(value: Any) -> Any:
    """Replace device arrays by their memory, also inside lists; refuse host arrays."""
    if isinstance(value, DeviceArray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim > 0:
        shape = value.shape
        raise TypeError(f"a host array of shape {shape} was mixed with a device array: use device.upload")
    if isinstance(value, list | tuple):
        return type(value)(on_host(v) for v in value)
    if isinstance(value, dict):
        return {k: on_host(v) for k, v in value.items()}
    return value


def _index(key: Any) -> Any:
    """An index: integers, slices, ..., None or a device array."""
    if isinstance(key, tuple):
        return tuple(_index(k) for k in key)
    if key is None or key is Ellipsis or isinstance(key, slice):
        return key
    if isinstance(key, DeviceArray):
        return key._host
    return operator.index(key)  # TypeError for lists and host arrays
