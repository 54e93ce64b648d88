"""Our own backends, held against the vectors: every number within its bound.

A vector's bound is what a computation in that format may differ by, whatever the order of its sums. So there
is no tolerance to be chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from lrpref.conformance.suite import Vector, bounds, numbers
from lrpref.engine import activate
from lrpref.explanation import explain
from lrpref.kernels.operations import Array
from lrpref.ledger import ACCOUNTS
from lrpref.plan import Plan


def differences(vector: Vector, *, backend: Any = "numpy", dtype: str = "float64") -> list[str]:
    """
    Compute a vector, and say what lies beyond its bound.

    Parameters
    ----------
    vector : Vector
        The network, its rules, and what is expected: the input's relevance, and of every node the output
        z, the relevance R that arrives, and the books.
    backend : str or function table
        Who computes.
    dtype : {"float64", "float32"}
        In which format.

    Returns
    -------
    list of str
        One line for each array that is wrong: where, which, and by how many bounds; empty if all is right.

    Raises
    ------
    LrprefError
        If it cannot be computed at all.
    """
    plan = Plan(vector.network, rules=vector.rules, backend=backend, dtype=dtype)
    found = explain(plan, vector.x, vector.R)
    x = plan.kernels.upload(plan.arithmetic.array(vector.x))
    outputs = activate(plan.canonical, plan.prepared, x)
    wrong = [("the input's R", found.relevance, vector.raw["expected"]["R"])]
    books = {row.node: row for row in found.ledger}
    for name in plan.canonical.shapes.keys() & vector.raw["expected"]["nodes"].keys():
        wanted = vector.node(name)
        wrong.append((f"node {name}: z", plan.kernels.download(outputs[name]), wanted["z"]))
        if name in books:  # else nothing arrives there
            wrong.append((f"node {name}: R", found.at(name), wanted["R"]))
            wrong += [
                (f"node {name}: ledger, {account}", getattr(books[name], account), amount)
                for account in ("arriving", "to_inputs", *ACCOUNTS)
                if (amount := wanted["ledger"].get(account)) is not None
            ]
    return list(_beyond(wrong, dtype))


def _beyond(computed: list[tuple[str, Array, Any]], dtype: str) -> Iterator[str]:
    for what, values, wanted in computed:
        expected, bound = numbers(wanted), bounds(wanted, dtype)
        if values.ndim > expected.ndim:  # a one-dimensional convolution is one of height 1 here
            values = values.squeeze(2)
        if values.shape != expected.shape:
            yield f"{what} has shape {values.shape}, wanted is {expected.shape}"
            continue
        off = abs(values.astype(np.float64) - expected)
        if not (off <= bound).all():  # NaN is beyond, too
            times = np.divide(off, bound, out=np.full(off.shape, np.inf), where=bound > 0)[~(off <= bound)]
            yield f"{what} is off by {off.max():.1e}, {times.max():.3g} times its bound"
