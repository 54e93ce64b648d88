"""Numbers that the formulas run on: fractions, and fractions beside a bound on a format's error.

`Exact` computes with `fractions.Fraction`. `Rounded` computes with `Bounded`: the exact value, and how far
from it a computation in float64 or float32 may end (a running error analysis around the exact values). Both
offer the same few functions, so that the formulas are written once.

The bound holds whatever the order of summation, with or without fused multiply-add, with gradual underflow.
A computation whose course the error could change (a sign, a winner, a zero) has no bound and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

from lrpref.errors import LrprefError

Number = Any
"""A Fraction or a Bounded."""


class NoBound(LrprefError):
    """A vector whose outcome rounding could change: it cannot judge anybody."""


def _refuse(what: str) -> NoReturn:
    raise NoBound(f"{what}: rounding could change the outcome; choose other numbers")


@dataclass(frozen=True)
class Format:
    """
    A binary floating-point format.

    Parameters
    ----------
    name : str
        Its name.
    bits : int
        Bits of the significand; the unit roundoff u is 2 ** -bits.
    lowest : int
        Exponent of its smallest positive number.
    largest : float
        Its largest number.
    """

    name: str
    bits: int
    lowest: int
    largest: float

    @property
    def u(self) -> float:
        """Unit roundoff: a result is off by at most u times its magnitude."""
        return 2.0**-self.bits

    @property
    def tiny(self) -> float:
        """The smallest positive number, more than an underflow takes away."""
        return 2.0**self.lowest

    def holds(self, x: Fraction) -> bool:
        """
        Tell whether the format has this very number.

        Parameters
        ----------
        x : Fraction
            A number.

        Returns
        -------
        bool
            Whether it needs no rounding.
        """
        return self.adds_exactly([x])

    def adds_exactly(self, numbers: Sequence[Fraction]) -> bool:
        """
        Tell whether no partial sum of these numbers is ever rounded, in whatever order they are added.

        Parameters
        ----------
        numbers : sequence of Fraction
            What is added.

        Returns
        -------
        bool
            Whether all are multiples of one power of two that the format has, and the sum of their magnitudes
            fits into its significand.
        """
        scale = max((x.denominator for x in numbers), default=1)
        if any(x.denominator & (x.denominator - 1) for x in numbers):
            return False
        wholes = [abs(x.numerator) * (scale // x.denominator) for x in numbers]
        unit = min((_power_of_two_in(whole) for whole in wholes if whole), default=1)
        exponent = unit.bit_length() - scale.bit_length()
        return (
            exponent >= self.lowest
            and sum(wholes) <= unit << self.bits
            and sum(wholes) <= self.largest * scale
        )


def _power_of_two_in(whole: int) -> int:
    return whole & -whole


FLOAT64 = Format("float64", 53, -1074, (2 - 2.0**-52) * 2.0**1023)
FLOAT32 = Format("float32", 24, -149, (2 - 2.0**-23) * 2.0**127)
FORMATS = (FLOAT64, FLOAT32)


# Errors are floats that are only ever rounded up.


def _up(x: float) -> float:
    return math.nextafter(x, math.inf)


def _plus(*errors: float) -> float:
    return _up(math.fsum(errors)) if any(errors) else 0.0


def _times(x: float, y: float) -> float:
    return _up(x * y) if x and y else 0.0


def _size(x: Fraction) -> float:
    return _up(abs(float(x))) if x else 0.0


class Bounded:
    """
    An exact value, and how far from it a computation in a format may end.

    Parameters
    ----------
    value : Fraction
        The exact value.
    error : float
        A bound on the absolute error.
    format : Format
        The format.
    """

    __slots__ = ("error", "format", "size", "value")

    def __init__(self, value: Fraction, error: float, format: Format) -> None:
        self.value, self.error, self.format = value, error, format
        self.size = _size(value)
        if not self.size + error < format.largest:
            _refuse(f"a number overflows {format.name}")

    def _rounded(self, value: Fraction, error: float, underflow: float = 0.0) -> Bounded:
        """Add the rounding of a result to the error that it inherits."""
        if error or not self.format.holds(value):
            error = _plus(error, _times(self.format.u, _plus(_size(value), error)), underflow)
        return Bounded(value, error, self.format)

    @property
    def vanishes(self) -> bool:
        """Whether it is 0 in every computation."""
        return not self.error and not self.value

    def __add__(self, other: Bounded) -> Bounded:
        return self._rounded(self.value + other.value, _plus(self.error, other.error))

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.format)

    def __sub__(self, other: Bounded) -> Bounded:
        return self + -other

    def __mul__(self, other: Bounded) -> Bounded:
        if self.vanishes or other.vanishes:
            return Bounded(Fraction(0), 0.0, self.format)
        crossed = _plus(_times(self.size, other.error), _times(other.size, self.error))
        error = _plus(crossed, _times(self.error, other.error))
        return self._rounded(self.value * other.value, error, self.format.tiny)


class Numbers:
    """What the formulas ask of an arithmetic."""

    def number(self, x: Any) -> Number:
        """
        Take a number as it is: a float is the number it is, not the decimal it prints as.

        Parameters
        ----------
        x : int, float or Fraction
            The number.

        Returns
        -------
        Number
            The same.
        """
        raise NotImplementedError

    def total(self, numbers: Iterable[Number]) -> Number:
        """
        Add up.

        Parameters
        ----------
        numbers : iterable of Number
            What is added.

        Returns
        -------
        Number
            The sum.
        """
        raise NotImplementedError

    def product(self, p: Number, w: Number, s: Number) -> Number:
        """
        Multiply three numbers.

        Parameters
        ----------
        p, w, s : Number
            The factors.

        Returns
        -------
        Number
            Their product.
        """
        raise NotImplementedError

    def quotient(self, x: Number, y: Number) -> Number:
        """
        Divide.

        Parameters
        ----------
        x, y : Number
            Numerator and denominator, not 0.

        Returns
        -------
        Number
            The quotient.
        """
        raise NotImplementedError

    def root(self, x: Number) -> Number:
        """
        Take a square root that is a fraction.

        Parameters
        ----------
        x : Number
            A number >= 0.

        Returns
        -------
        Number
            Its root.

        Raises
        ------
        NoBound
            If the root is irrational.
        """
        raise NotImplementedError

    def positive(self, x: Number) -> Number:
        """
        Take the positive part.

        Parameters
        ----------
        x : Number
            A number.

        Returns
        -------
        Number
            (x)+ = max(0, x).
        """
        raise NotImplementedError

    def largest(self, numbers: Sequence[Number]) -> Number:
        """
        Take the largest.

        Parameters
        ----------
        numbers : sequence of Number
            At least one.

        Returns
        -------
        Number
            The largest.
        """
        raise NotImplementedError

    def sign(self, x: Number) -> int:
        """
        Decide a sign.

        Parameters
        ----------
        x : Number
            A number.

        Returns
        -------
        int
            -1, 0 or 1.
        """
        raise NotImplementedError

    def vanishes(self, x: Number) -> bool:
        """
        Tell whether a number is 0 in every computation.

        Parameters
        ----------
        x : Number
            A number.

        Returns
        -------
        bool
            Whether it is.
        """
        raise NotImplementedError


class Exact(Numbers):
    """Arithmetic on fractions."""

    def number(self, x: Any) -> Fraction:
        return Fraction(x)

    def total(self, numbers: Iterable[Fraction]) -> Fraction:
        return sum(numbers, Fraction(0))

    def product(self, p: Fraction, w: Fraction, s: Fraction) -> Fraction:
        return p * w * s

    def quotient(self, x: Fraction, y: Fraction) -> Fraction:
        return x / y

    def root(self, x: Fraction) -> Fraction:
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        if root * root != x:
            _refuse(f"the square root of {x} is no fraction")
        return root

    def positive(self, x: Fraction) -> Fraction:
        return max(x, Fraction(0))

    def largest(self, numbers: Sequence[Fraction]) -> Fraction:
        return max(numbers)

    def sign(self, x: Fraction) -> int:
        return (x > 0) - (x < 0)

    def vanishes(self, x: Fraction) -> bool:
        return x == 0


class Rounded(Numbers):
    """
    Arithmetic in a floating-point format: exact values, and bounds on the error.

    Parameters
    ----------
    format : Format
        The format.
    """

    def __init__(self, format: Format) -> None:
        self.format = format

    def number(self, x: Any) -> Bounded:
        zero = Bounded(Fraction(0), 0.0, self.format)
        return zero._rounded(Fraction(x), 0.0, self.format.tiny)

    def total(self, numbers: Iterable[Bounded]) -> Bounded:
        summands = [x for x in numbers if not x.vanishes]
        value = sum((x.value for x in summands), Fraction(0))
        error = _plus(*(x.error for x in summands))
        if error or not self.format.adds_exactly([x.value for x in summands]):
            largest_sum = _plus(*(x.size for x in summands), error)
            if not largest_sum < self.format.largest:
                _refuse(f"a sum overflows {self.format.name}")
            # n - 1 additions, each of which rounds a partial sum no larger than the sum of magnitudes
            roundings = max(0, len(summands) - 1) * self.format.u
            error = _plus(error, _times(_up(roundings / (1 - roundings)), largest_sum))
        return Bounded(value, error, self.format)

    def product(self, p: Bounded, w: Bounded, s: Bounded) -> Bounded:
        # what underflows in one order may not in the other
        one, other = (p * w) * s, p * (w * s)
        return one if one.error >= other.error else other

    def quotient(self, x: Bounded, y: Bounded) -> Bounded:
        if x.vanishes:
            return x
        least = math.nextafter(abs(float(y.value)) * (1 - 2.0**-52) - y.error, 0.0)
        if least <= 0:
            _refuse("a denominator is not known to be other than 0")
        value = x.value / y.value
        error = _up(_plus(x.error, _times(_size(value), y.error)) / least)
        # always counted as rounded: one library divides R_k / z_k, another z_jk / z_k
        u, tiny = self.format.u, self.format.tiny
        return Bounded(value, _plus(error, _times(u, _plus(_size(value), error)), tiny), self.format)

    def root(self, x: Bounded) -> Bounded:
        if x.vanishes:
            return x
        value = Exact().root(x.value)
        # |root x - root y| <= |x - y| / root y
        error = _up(x.error / math.nextafter(float(value), 0.0))
        return Bounded(value, _plus(error, _times(self.format.u, _plus(_size(value), error))), self.format)

    def positive(self, x: Bounded) -> Bounded:
        # max(0, .) never moves two numbers apart
        surely_none = x.value + Fraction(x.error) <= 0
        return Bounded(max(x.value, Fraction(0)), 0.0 if surely_none else x.error, self.format)

    def largest(self, numbers: Sequence[Bounded]) -> Bounded:
        return Bounded(max(x.value for x in numbers), max(x.error for x in numbers), self.format)

    def sign(self, x: Bounded) -> int:
        if x.error and abs(x.value) <= Fraction(x.error):
            _refuse(f"the sign of {float(x.value)!r}, known to {x.error:.1e}")
        return (x.value > 0) - (x.value < 0)

    def vanishes(self, x: Bounded) -> bool:
        return x.vanishes
