"""Signs, maxima and zeros, on any dtype; the only place where numbers are compared.

Ball arithmetic can leave a comparison undecided: a ball that straddles 0 is neither > 0 nor <= 0.
Such a case is an error here, never a silent False.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from lrpref.errors import BadRule, Undecided
from lrpref.kernels.operations import Array, Part


def _decide(yes: Array, no: Array, what: str) -> Array:
    undecided = ~(yes | no)
    if undecided.any():
        where = tuple(int(i) for i in np.argwhere(undecided)[0])
        raise Undecided(f"{what} is undecided at index {where} ({undecided.sum()} such): its balls overlap")
    return yes


def greater(x: Array, y: Any) -> Array:
    """
    Compare x > y, element by element.

    Parameters
    ----------
    x, y : array_like
        Numbers of one arithmetic.

    Returns
    -------
    ndarray of bool
        Where x > y.

    Raises
    ------
    Undecided
        If a comparison of balls is undecided.
    """
    if x.dtype != object:
        return x > y
    return _decide(np.asarray(x > y, bool), np.asarray(x <= y, bool), "a sign or a maximum")


def equal(x: Array, y: Any) -> Array:
    """
    Compare x == y, element by element.

    Parameters
    ----------
    x, y : array_like
        Numbers of one arithmetic.

    Returns
    -------
    ndarray of bool
        Where x == y.

    Raises
    ------
    Undecided
        If a comparison of balls is undecided.
    """
    if x.dtype != object:
        return x == y
    return _decide(np.asarray(x == y, bool), np.asarray(x != y, bool), "a zero or a tie")


def check_finite(z: Array) -> None:
    """
    Make sure that a denominator has not overflowed: R / inf would be lost without a trace.

    Parameters
    ----------
    z : ndarray
        Any shape and dtype.

    Raises
    ------
    BadRule
        If it holds NaN or infinity.
    """
    if z.dtype != object and not np.isfinite(z).all():
        raise BadRule(f"z overflows {z.dtype}: use float64, or smaller parameters of the rule")


@overload
def positive(x: Part) -> Part: ...
@overload
def positive(x: Array) -> Array: ...
def positive(x: Any) -> Any:
    """
    Take the positive part x+ = max(0, x).

    Parameters
    ----------
    x : ndarray or Part
        Any shape and dtype.

    Returns
    -------
    ndarray or Part
        Like x.
    """
    if isinstance(x, Part):
        return x.then(f"{x.name}+", positive)
    return np.where(greater(x, 0), x, zeros_like(x)) if x.dtype == object else np.maximum(x, 0)


@overload
def negative(x: Part) -> Part: ...
@overload
def negative(x: Array) -> Array: ...
def negative(x: Any) -> Any:
    """
    Take the negative part x- = min(0, x).

    Parameters
    ----------
    x : ndarray or Part
        Any shape and dtype.

    Returns
    -------
    ndarray or Part
        Like x.
    """
    if isinstance(x, Part):
        return x.then(f"{x.name}-", negative)
    return np.where(greater(x, 0), zeros_like(x), x) if x.dtype == object else np.minimum(x, 0)


def each(function: Callable[[Any], Any], x: Array) -> Array:
    """
    Apply a function to every number of an `object` array.

    Parameters
    ----------
    function : callable
        Takes and gives one number.
    x : ndarray
        Any shape.

    Returns
    -------
    ndarray of object
        Like x.
    """
    made = np.empty(x.size, dtype=object)
    made[:] = [function(value) for value in x.ravel().tolist()]
    return made.reshape(x.shape)


def zeros(shape: tuple[int, ...], like: Array) -> Array:
    """
    Make zeros of the same arithmetic.

    Parameters
    ----------
    shape : tuple of int
        The shape wanted.
    like : ndarray
        Array whose dtype, or whose kind of objects, is wanted.

    Returns
    -------
    ndarray
        Zeros. (An `object` array of Python's int 0 would divide into floats.)
    """
    if like.dtype == object and like.size:
        return np.full(shape, like.flat[0] * 0, dtype=object)
    return np.zeros_like(like, shape=shape, order="C")


def blank(a: Array) -> Array:
    """
    Give an array that is good for its shape and arithmetic only, on the host.

    Parameters
    ----------
    a : ndarray
        On the host, or where a backend computes.

    Returns
    -------
    ndarray, like a
        Zeros that take no memory; or a itself where it holds objects.
    """
    return a if a.dtype == object else np.broadcast_to(np.zeros((), a.dtype), a.shape)


def zeros_like(x: Array) -> Array:
    """
    Make zeros of the same shape and arithmetic.

    Parameters
    ----------
    x : ndarray
        Any shape and dtype.

    Returns
    -------
    ndarray
        Zeros.
    """
    return zeros(x.shape, x)


@overload
def ones_like(x: Part) -> Part: ...
@overload
def ones_like(x: Array) -> Array: ...
def ones_like(x: Any) -> Any:
    """
    Make ones of the same shape and arithmetic.

    Parameters
    ----------
    x : ndarray or Part
        Any shape and dtype.

    Returns
    -------
    ndarray or Part
        Ones.
    """
    if isinstance(x, Part):
        return x.then("1", ones_like)
    return zeros(x.shape, x) + 1


def per_sample(x: Array) -> Array:
    """
    Sum over everything but the samples.

    Parameters
    ----------
    x : ndarray, shape (N, ...)
        Any dtype.

    Returns
    -------
    ndarray, shape (N,)
        float64 for float32 and float64; else in the arithmetic of x.
    """
    flat = x.reshape(len(x), -1)
    if x.dtype == object or x.dtype == np.longdouble:
        return np.asarray(flat.sum(axis=1))
    return np.asarray(flat.sum(axis=1, dtype=np.float64))
