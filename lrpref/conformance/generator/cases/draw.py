"""Small numbers drawn from a fixed seed: multiples of 1/4 that a person can follow, and none of them 0."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from lrpref.conformance.generator.case import Case
from lrpref.conformance.generator.files import is_defined


class Draw:
    """
    A source of arrays, the same in every run.

    Parameters
    ----------
    seed : str
        Which numbers; the case's name will do.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def signed(self, *shape: int) -> Any:
        """
        Draw numbers of both signs.

        Parameters
        ----------
        *shape : int
            The array's shape.

        Returns
        -------
        nested list of float
            Multiples of 1/4 between -2 and 2, not 0.
        """
        return self._nested(shape, [q / 4 for q in range(-8, 9) if q])

    def positive(self, *shape: int) -> Any:
        """
        Draw positive numbers, as after a ReLU.

        Parameters
        ----------
        *shape : int
            The array's shape.

        Returns
        -------
        nested list of float
            Multiples of 1/4 between 1/4 and 2.
        """
        return self._nested(shape, [q / 4 for q in range(1, 9)])

    def _nested(self, shape: Sequence[int], values: Sequence[float]) -> Any:
        if not shape:
            return self._random.choice(values)
        return [self._nested(shape[1:], values) for _ in range(shape[0])]


def defined(seed: str, make: Callable[[Draw], Case]) -> Case:
    """
    Draw until the formulas have a value: no denominator is 0.

    Parameters
    ----------
    seed : str
        Which numbers.
    make : callable
        Makes the case from a source of arrays.

    Returns
    -------
    Case
        The first that is defined.
    """
    attempts = (make(Draw(f"{seed} {attempt}")) for attempt in range(500))
    return next(case for case in attempts if is_defined(case))
