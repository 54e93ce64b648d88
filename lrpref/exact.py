"""Arithmetics: floating point, exact rationals, and balls with a rigorous radius.

The engine and `kernels/reference.py` know nothing of this: they run on arrays. An `Arithmetic` turns
numbers into such arrays and back.

- `float32`, `float64`, `longdouble`: NumPy's own.
- `exact`: rational numbers, in `object` arrays of python-flint's fmpq where installed (extra
  `exact`), else of the standard library's `fractions.Fraction`.
- `ball`: python-flint's arb, a midpoint and a radius that encloses the true value. The forward pass
  runs at a precision at which the radii of sums and products are 0, so that signs, winners and ties are
  decided; only divisions enclose (step 2, and averages over a number of cells that is no power of two).

Functions that leave the rationals: the RMS of a relative stabilizer is rounded once to float64 under
`exact` (the ledger's row records it); sigmoid, tanh and their kin need `ball`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from lrpref.errors import BadBackend
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import each

DTYPES = ("float32", "float64", "longdouble", "exact", "ball")

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """
    How numbers of one kind are made, and read back.

    Parameters
    ----------
    name : str
        One of `DTYPES`.
    dtype : numpy.dtype
        The dtype of its arrays: `object` for `exact` and `ball`.
    number : callable
        Turns an int or a float into a number, without rounding.
    sqrt : callable
        Square root of one number, for `object` arrays.
    """

    name: str
    dtype: np.dtype[Any]
    number: Callable[[Any], Any]
    sqrt: Callable[[Any], Any] = math.sqrt

    @property
    def objects(self) -> bool:
        """Whether the arrays hold Python objects."""
        return self.dtype == np.dtype(object)

    def array(self, x: Any) -> Array:
        """
        Make an array of this arithmetic.

        Parameters
        ----------
        x : array_like
            Numbers; floats are taken for the number they are, never for the decimal they print as.

        Returns
        -------
        ndarray
            Like x.
        """
        x = np.asarray(x)
        if not self.objects:
            return x.astype(self.dtype, copy=False)
        return each(self.number, x)

    def root(self, x: Array) -> Array:
        """
        Take the square root, element by element.

        Parameters
        ----------
        x : ndarray
            Numbers of this arithmetic, >= 0.

        Returns
        -------
        ndarray
            Like x; under `exact` rounded to float64.
        """
        if not self.objects:
            return np.sqrt(x)
        return each(self.sqrt, x)

    def cast(self, thing: T) -> T:
        """
        Give a layer, rule or stabilizer the numbers of this arithmetic.

        Parameters
        ----------
        thing : dataclass
            Its floats and arrays are its numbers; ints are counts and stay.

        Returns
        -------
        dataclass
            The same kind of thing.
        """
        assert dataclasses.is_dataclass(thing)
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            if not field.init:
                continue
            if isinstance(value, np.ndarray):
                changes[field.name] = self.array(value)
            elif isinstance(value, Fraction) or (isinstance(value, float) and self.objects):
                changes[field.name] = self.number(value)
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                changes[field.name] = self.cast(value)
        return dataclasses.replace(thing, **changes) if changes else thing  # type: ignore[type-var]


def _rational(value: Any) -> Any:
    """A number as python-flint's fmpq, without rounding."""
    flint = importlib.import_module("flint")
    return value if isinstance(value, flint.fmpq) else flint.fmpq(*value.as_integer_ratio())


def _rounded_sqrt(p: int, q: int) -> float:
    """Square root of p/q, rounded to float64 once: whole numbers carry it to far more bits before."""
    bits = 128 + q.bit_length()
    return float(Fraction(math.isqrt((p << 2 * bits) // q), 1 << bits))


def _ball(value: Any) -> Any:
    flint = importlib.import_module("flint")
    if isinstance(value, flint.arb | flint.fmpq | float | int):
        return flint.arb(value)
    return flint.arb(flint.fmpq(*value.as_integer_ratio()))


def _fraction(value: Any) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(value)


def _fraction_sqrt(value: Fraction) -> Fraction:
    return Fraction(_rounded_sqrt(*value.as_integer_ratio()))


def _rational_sqrt(value: Any) -> Any:
    return _rational(_rounded_sqrt(int(value.p), int(value.q)))


FRACTIONS = Arithmetic("exact", np.dtype(object), _fraction, _fraction_sqrt)
"""Exact arithmetic on the standard library alone."""


def get(name: str) -> Arithmetic:
    """
    Get the arithmetic of this name.

    Parameters
    ----------
    name : {"float32", "float64", "longdouble", "exact", "ball"}
        Its name.

    Returns
    -------
    Arithmetic
        The arithmetic.

    Raises
    ------
    BadBackend
        If there is none, or its library is missing.
    """
    if not isinstance(name, str):
        raise BadBackend(f"dtype is {name!r:.60}: wanted is one of {', '.join(DTYPES)}")
    if name in ("float32", "float64", "longdouble"):
        return Arithmetic(name, np.dtype(name), float)
    if name not in DTYPES:
        raise BadBackend(f"unknown dtype {name!r}: there are {', '.join(DTYPES)}")
    if importlib.util.find_spec("flint") is None:
        if name == "ball":
            raise BadBackend("dtype 'ball' needs python-flint: pip install 'lrpref[exact]'")
        return FRACTIONS
    if name == "exact":
        return Arithmetic(name, np.dtype(object), _rational, _rational_sqrt)
    return Arithmetic(name, np.dtype(object), _ball, lambda value: value.sqrt())


def arithmetic_of(x: Array) -> Arithmetic:
    """
    Tell the arithmetic of an array.

    Parameters
    ----------
    x : ndarray
        Floats, or objects of one kind.

    Returns
    -------
    Arithmetic
        The arithmetic.

    Raises
    ------
    BadBackend
        If it is none of ours.
    """
    if x.dtype == object and x.size:
        first = x.flat[0]
        if isinstance(first, Fraction):
            return FRACTIONS
        return get({"fmpq": "exact", "arb": "ball"}.get(type(first).__name__, type(first).__name__))
    return get("longdouble" if x.dtype == np.longdouble else x.dtype.name)


def as_float(x: Array) -> Array:
    """
    Round to float64.

    Parameters
    ----------
    x : ndarray
        Any arithmetic; of balls the midpoints are taken.

    Returns
    -------
    ndarray of float64
        Like x.
    """
    if x.dtype != object:
        return x.astype(np.float64)
    values = [Fraction(int(v.p), int(v.q)) if hasattr(v, "p") else v for v in x.flat]
    return np.array([float(v) for v in values]).reshape(x.shape)


def radius(x: Array) -> Array:
    """
    Give the radii of balls around their midpoints rounded to float64.

    Parameters
    ----------
    x : ndarray of arb
        Balls.

    Returns
    -------
    ndarray of float64
        A bound: the true value lies within `as_float(x)` plus or minus this.
    """
    # one part in 2**29 is what arb itself rounds a radius up by; the two roundings to float64 are far less
    bounds = [
        float(abs(v - float(v)).upper()) * (1 + 2.0**-28) if not v.is_exact() or v != float(v) else 0.0
        for v in x.flat
    ]
    return np.array(bounds).reshape(x.shape)


def precision(name: str, bits: int) -> contextlib.AbstractContextManager[Any]:
    """
    Set the working precision of balls for a while.

    Parameters
    ----------
    name : str
        The arithmetic's name; only `ball` has a working precision.
    bits : int
        Bits of a midpoint.

    Returns
    -------
    context manager
        To be entered with `with`.
    """
    if name != "ball":
        return contextlib.nullcontext()
    manager: contextlib.AbstractContextManager[Any] = importlib.import_module("flint").ctx.workprec(bits)
    return manager
