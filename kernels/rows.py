"""What the four steps do to one row of pixels: take a part, divide, weigh, and add up in float64.

The functions that Numba compiles into every loop of the `cpu` backend. Each vectorises: choices are
written as `x if ... else y`, and sums, whose order is free, stand in functions of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.kernels.compiled import compiled, reordered
from lrpref.kernels.operations import Array, Part

PARTS = {"a": 0, "a+": 1, "a-": 2, "1": 3}
"""The parts of an array that are taken on the fly."""

WHOLE, POSITIVE, NEGATIVE, ONES = PARTS.values()


def known_part(p: Any, a: Array) -> tuple[Array, int]:
    """
    Give a term's p as an array and which part of it enters.

    Parameters
    ----------
    p : Part or ndarray
        A part of a, or numbers that broadcast to a.
    a : ndarray, shape (N, ...)
        Lower activations.

    Returns
    -------
    array : ndarray, like a
        a itself where the part is known by its name.
    part : int
        One of `PARTS`.
    """
    if not isinstance(p, Part):
        return np.broadcast_to(p, a.shape), WHOLE
    return (a, PARTS[p.name]) if p.name in PARTS else (p(a), WHOLE)


@compiled
def part_of(x: Any, part: int, nothing: Any) -> Any:
    """Take the part of a number; `nothing` is its arithmetic's 0, and NaN stays NaN."""
    return nothing if (part == POSITIVE and x <= 0) or (part == NEGATIVE and x >= 0) else x


@compiled
def add_bias(x: Array, b: Any, z: Array) -> None:
    """Make z = x + b."""
    for i in range(z.size):
        z[i] = x[i] + b


@reordered
def sum_row(x: Array) -> float:
    """Add up, in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@reordered
def sum_squares(x: Array) -> float:
    """Add up squares, in float64."""
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@reordered
def _sum_with_sign(s: Array, z: Array) -> float:
    """Add up s where z >= 0, less s where z < 0."""
    total = 0.0
    for x in range(s.size):
        total += np.float64(-s[x] if z[x] < 0 else s[x])
    return total


@compiled
def divide_row(
    z: Array, R: Array, own: Array, sign: int, eps: Any, signed: bool, b: float, s: Array, sums: Array
) -> None:
    """
    Step 2 on a row: s = R / (z + stabilizer), 0 where that is exactly 0, NaN where it is not finite.

    Parameters
    ----------
    z, R : ndarray, shape (X,)
        Denominators, bias included, and the relevance that arrives.
    own : ndarray, shape (X,)
        The layer's own z: R enters where its sign is this one.
    sign : int
        1 or -1; 0 where R enters everywhere.
    eps : float
        Stabilizer, in the arithmetic of z.
    signed : bool
        Whether it takes the sign of z.
    b : float
        The row's bias, which z holds already.
    s : ndarray, shape (X,)
        Becomes R / z.
    sums : ndarray, shape (3,)
        Grows by what `Sums` books.
    """
    nothing, nan, direction = s.dtype.type(0), s.dtype.type(np.nan), s.dtype.type(sign)
    zeros = 0
    for x in range(s.size):
        denominator = z[x] + (-eps if signed and z[x] < 0 else eps)
        arriving = R[x] if sign == 0 or direction * own[x] > 0 else nothing
        ratio = arriving / denominator
        ratio = ratio if abs(denominator) < np.inf else nan  # R / inf would be 0 without a word
        s[x] = ratio if denominator != 0 else nothing
        zeros += denominator == 0
    if b != 0:
        sums[0] += b * sum_row(s)
    if eps != 0:
        sums[1] += eps * (_sum_with_sign(s, z) if signed else sum_row(s))
    if zeros:
        for x in range(s.size):
            if z[x] + (-eps if signed and z[x] < 0 else eps) == 0 and (sign == 0 or direction * own[x] > 0):
                sums[2] += R[x]


@compiled
def weigh_row(c: Array, p: Array, part: int, add: bool, R: Array) -> None:
    """Step 4 on a row: R = p c, or R += p c."""
    nothing = R.dtype.type(0)
    if not add:
        R[:] = 0
    if part == ONES:
        for x in range(R.size):
            R[x] += c[x]
    elif part == POSITIVE:
        for x in range(R.size):
            R[x] += (nothing if p[x] <= 0 else p[x]) * c[x]
    elif part == NEGATIVE:
        for x in range(R.size):
            R[x] += (nothing if p[x] >= 0 else p[x]) * c[x]
    else:
        for x in range(R.size):
            R[x] += p[x] * c[x]


@compiled
def scale_row(R: Array, q: Any) -> float:
    """Multiply with the share's coefficient, and add up."""
    for x in range(R.size):
        R[x] *= q
    return sum_row(R)


@compiled
def weigh_phase(
    c: Array, p: Array, part: int, add: bool, q: Any, R: Array, first: int, row_step: int, step: int,
    columns: int, last: bool,
) -> float:  # fmt: skip
    """Do what `weigh_row` and, after the last term, `scale_row` do, to every step-th pixel of an image."""
    total, nothing = 0.0, R.dtype.type(0)
    for y in range(c.size // columns):
        for x in range(columns):
            at = first + y * row_step + x * step
            weighed = c[y * columns + x]
            if part != ONES:
                weighed *= part_of(p[at], part, nothing)
            handed = q * ((R[at] if add else nothing) + weighed)
            R[at] = handed
            total += np.float64(handed)
    return total if last else 0.0
