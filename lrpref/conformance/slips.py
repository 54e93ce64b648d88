"""Mistakes that implementations of LRP are found to make: nobody's definition, but worth naming."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import lrpref
from lrpref.errors import LrprefError
from lrpref.kernels.operations import Array
from lrpref.rules import signed

if TYPE_CHECKING:
    from lrpref.conformance.suite import Vector

SIZES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 0.0)
"""Sizes of eps that libraries have built in."""


def slips(vector: Vector) -> Iterator[tuple[tuple[str, ...], str, Array]]:
    """
    Make the mistakes that implementations of LRP are found to make.

    Parameters
    ----------
    vector : Vector
        The vector.

    Yields
    ------
    tuple of str, str, ndarray of float64
        The dimensions that are concerned, one sentence, and the result.
    """
    without = _under_rules(vector, bias="ignore")
    if without is not None:
        yield ("D3",), "D3 Bias in the denominator: left out, though no rule asks for that.", without
    for eps in SIZES:
        fixed = _under_rules(vector, stabilizer=signed(eps), eps=signed(eps))  # eps: what LRP-eps calls it
        if fixed is not None:
            yield ("D2",), f"D2 Size of eps: {eps:g}, whatever is asked for.", fixed
    yield (), "The chapter's result with the opposite sign.", -vector.expected
    yield (), "No relevance reaches the input: R is 0 everywhere.", np.zeros_like(vector.expected)


def _under_rules(vector: Vector, **options: Any) -> Array | None:
    """Explain under the vector's rules with other options, where a rule has them."""
    rules = {
        name: rule.with_options(**{key: value for key, value in options.items() if hasattr(rule, key)})
        for name, rule in vector.rules.items()
    }
    try:
        return lrpref.explain(vector.network, vector.x, vector.R, rules=rules).relevance
    except LrprefError:
        return None
