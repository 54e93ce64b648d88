"""Does a library meet a denominator of 0? Then NaN is no surprise: lrpref drops what it cannot divide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import lrpref
from lrpref.engine import Known
from lrpref.errors import LrprefError
from lrpref.kernels.operations import Array, Gate, Operation, Sums, Term
from lrpref.kernels.reference import Reference
from lrpref.rules import AlphaBeta, Rule

if TYPE_CHECKING:
    from lrpref.conformance.suite import Vector
    from lrpref.dialects import Dialect


class Probe(Reference):
    """The backend `numpy`, which notes whether any denominator is 0, whatever arrives there."""

    def __init__(self) -> None:
        self.met = False

    def quotient(
        self,
        op: Operation,
        a: Array,
        terms: Sequence[Term],
        b: Array | None,
        R: Array,
        eps: Array,
        signed: bool = True,
        z: Array | None = None,
        gate: Gate | None = None,
    ) -> tuple[Array, Sums]:
        z = self.preactivation(op, a, terms, b) if z is None else z
        added = eps.reshape(-1, *[1] * (z.ndim - 1))
        self.met |= bool((z + (np.where(z < 0, -added, added) if signed else added) == 0).any())
        return super().quotient(op, a, terms, b, R, eps, signed, z, gate)


def divides_by_zero(vector: Vector, dialect: Dialect) -> bool:
    """
    Tell whether a library meets a denominator of 0.

    Parameters
    ----------
    vector : Vector
        What it explains.
    dialect : Dialect
        How it defines the rules.

    Returns
    -------
    bool
        Whether a stabilized z of any share is exactly 0, or relevance is dropped.
    """
    probe = Probe()
    try:
        rules = {name: _whole(rule) for name, rule in vector.rules.items()}
        plan = lrpref.Plan(vector.network, rules=rules, backend=probe, dialect=dialect)
        for prepared in plan.prepared.values():
            prepared.known = Known()  # a library computes the parts, too, that lrpref knows to be 0
        made = lrpref.explain(plan, vector.x, vector.R)
    except LrprefError:
        return False
    return probe.met or any((row.dropped != 0).any() for row in made.ledger)


def _whole(rule: Rule) -> Rule:
    """Give alpha-beta both its parts: a library divides by the sum of a part that it multiplies by 0, too."""
    return rule.with_options(alpha=2, beta=1) if type(rule) is AlphaBeta else rule
