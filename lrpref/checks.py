"""Checks of counts, indices and sizes, for all that take one: a line for what is wrong."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from lrpref.errors import BadInput, LrprefError


def is_whole(value: Any) -> TypeGuard[int]:
    """
    Tell whether something is a whole number. A truth value is none.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    bool
        Whether it is.
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole(
    what: str, value: Any, least: int = 1, most: int | None = None, error: type[LrprefError] = BadInput
) -> int:
    """
    Check a whole number.

    Parameters
    ----------
    what : str
        What it is called, for the error.
    value : int
        The number.
    least : int
        The smallest that makes sense.
    most : int, optional
        The largest.
    error : type
        What is raised: a class of `lrpref.errors`.

    Returns
    -------
    int
        The same.

    Raises
    ------
    LrprefError
        If it is no whole number, or out of range.
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        range_ = f">= {least}" if most is None else f"from {least} to {most}"
        raise error(f"{what} is {value!r:.60}: a whole number {range_} is wanted")
    return int(value)


def nonnegative(what: str, value: Any, error: type[LrprefError] = BadInput) -> None:
    """
    Check a finite number >= 0, of any arithmetic.

    Parameters
    ----------
    what : str
        What it is called, for the error.
    value : number
        The number.
    error : type
        What is raised: a class of `lrpref.errors`.

    Raises
    ------
    LrprefError
        If it is none.
    """
    if not _is_finite(value) or not value >= 0:
        raise error(f"{what} is {value!r:.60}: a finite number >= 0 is wanted")


def positive(what: str, value: Any, error: type[LrprefError] = BadInput) -> None:
    """
    Check a finite number > 0, of any arithmetic.

    Parameters
    ----------
    what : str
        What it is called, for the error.
    value : number
        The number.
    error : type
        What is raised: a class of `lrpref.errors`.

    Raises
    ------
    LrprefError
        If it is none.
    """
    if not _is_finite(value) or not value > 0:
        raise error(f"{what} is {value!r:.60}: a finite number > 0 is wanted")


def _is_finite(value: Any) -> bool:
    """Tell of a float, and of what has no infinities: ints, fractions, and numbers of python-flint."""
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value))
    if isinstance(value, bool | complex) or np.ndim(value):
        return False
    try:
        bool(value > 0), float(value)  # can it be asked at all, and has a float room for it?
    except (TypeError, ValueError, OverflowError):
        return False
    return True
