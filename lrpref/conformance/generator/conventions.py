"""What other libraries mean by a rule of the same name, for the answers beside the chapter's.

These rules occur in no vector as its own; they only compute `conventions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lrpref.conformance.generator.formulas import RULES, Share
from lrpref.conformance.generator.numbers import Number, Numbers


def _as_it_is(b: Number) -> Number:
    return b


def _squared(b: Number) -> Number:
    return b * b


def _w_square_with_bias(
    n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int
) -> list[Share]:
    """w^2 with b^2 in the denominator."""
    (share,) = RULES["w2"](n, rule, a, channels)
    return [Share(share.terms, _squared)]


def _alpha_beta_raw_bias(
    n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int
) -> list[Share]:
    """Alpha-beta with b as it is in both denominators."""
    shares = RULES["alpha-beta"](n, rule, a, channels)
    return [Share(share.terms, _as_it_is, share.coefficient) for share in shares]


def _positive_weights(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    """w+ on inputs as they are, b as it is."""

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(a[j], n.positive(w))]

    return [Share(terms, _as_it_is)]


def _gamma_raw_bias(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    """w + gamma w+, b as it is."""
    (share,) = RULES["gamma"](n, rule, a, channels)
    return [Share(share.terms, _as_it_is)]


def _by_magnitude(n: Numbers, rule: Mapping[str, Any], a: Sequence[Number], channels: int) -> list[Share]:
    """In proportion to |a_j w_jk|."""

    def magnitude(x: Number) -> Number:
        return n.positive(x) + n.positive(-x)

    def terms(j: int, w: Number) -> list[tuple[Number, Number]]:
        return [(magnitude(a[j]), magnitude(w))]

    return [Share(terms, None)]


ALL: dict[str, Callable[..., list[Share]]] = RULES | {
    "w2 with b^2": _w_square_with_bias,
    "alpha-beta with b": _alpha_beta_raw_bias,
    "w+ with b": _positive_weights,
    "gamma with b": _gamma_raw_bias,
    "magnitude": _by_magnitude,
}


def scaled_by_bias_split(R: Any, z: Any, b: Any) -> Fraction:
    """
    Take the bias's part off first: R |z| / (|z| + |b|), z without the bias.

    Parameters
    ----------
    R, z, b : number
        Relevance, the sum of contributions, and the bias of one neuron.

    Returns
    -------
    Fraction
        What is left for a rule without bias.
    """
    return Fraction(R) * abs(Fraction(z)) / (abs(Fraction(z)) + abs(Fraction(b)))
