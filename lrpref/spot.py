"""Where a trace looks: one layer of an explained network, or of the head on top, and what meets there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lrpref import heads
from lrpref.connections import Index
from lrpref.engine import Prepared
from lrpref.explanation import Explanation
from lrpref.kernels.operations import Array
from lrpref.layers import Dense, Layer, SoftMin
from lrpref.plan import Plan
from lrpref.rules import Pass, Zero

POOLING, RATIOS = "log-odds", "log-ratios"
"""The two layers of the head `log-odds`, by their names in the ledger."""

Lower = tuple[str, Index]
"""A lower neuron: the node that the layer reads, and where it stands in one sample of its output."""


class Spot(NamedTuple):
    """
    One layer, what it reads, and what arrives, for one sample.

    Parameters
    ----------
    name, kind : str
        The node, and what it is called to readers.
    prepared : Prepared
        Layer and rule.
    inputs : list of ndarray, shape (1, ...)
        Lower activations, where the backend computes.
    z : ndarray, shape (1, ...)
        The layer's own output, there.
    R : ndarray, like z
        The relevance that arrives.
    lower : list of (str, tuple of int)
        All lower neurons, input after input.
    totals : ndarray, shape (M,)
        What they receive from all their readers.
    """

    name: str
    kind: str
    prepared: Prepared
    inputs: list[Array]
    z: Array
    R: Array
    lower: list[Lower]
    totals: Array


def look(plan: Plan, e: Explanation, values: Mapping[str, Array], node: str, sample: int) -> Spot:
    """
    Find what meets at a node.

    Parameters
    ----------
    plan : Plan
        What the explanation was computed by.
    e : Explanation
        The explanation.
    values : mapping of str to ndarray, shape (1, ...)
        Activations of the sample.
    node : str
        A node of the network; under the head `log-odds` also `POOLING`, and `RATIOS` where they are a layer
        of their own.
    sample : int
        Which sample.

    Returns
    -------
    Spot
        What meets there.

    Raises
    ------
    BadInput
        If there is no such node, or nothing arrives at it.
    """
    if plan.head == "log-odds" and node == POOLING:
        return _pooling(plan, e, sample)
    if plan.head == "log-odds" and node == RATIOS and not plan.merges_ratios:
        return _own_ratios(plan, e, values, sample)
    name = plan.canonical.node(node).name
    reads, prepared = plan.canonical.node(name).inputs, plan.prepared[name]
    inputs, z, kind = [values[below] for below in reads], values[name], prepared.layer.kind
    if plan.merges_ratios and name == plan.canonical.top:
        prepared, z = _ratios(plan, prepared.layer, inputs, _class(e, sample))
        kind = f"{kind} with a layer of ratios z_ck = y_c - y_k on top"
    return Spot(name, kind, prepared, inputs, z, e.at(name)[sample : sample + 1], *_lower(e, reads, sample))


def _lower(e: Explanation, reads: Sequence[str], sample: int) -> tuple[list[Lower], Array]:
    """Name the lower neurons, and say what they receive."""
    totals = [e.relevances[name][sample] for name in reads]
    lower = [(name, j) for name, R in zip(reads, totals, strict=True) for j in np.ndindex(R.shape)]
    return lower, np.concatenate([R.ravel() for R in totals])


def _class(e: Explanation, sample: int) -> int:
    assert e.target is not None  # the head explains classes
    return int(e.target[sample])


def _pooling(plan: Plan, e: Explanation, sample: int) -> Spot:
    """The soft minimum of the ratios z_cc' = y_c - y_c', which has no place for c itself."""
    y, c = e.scores[sample : sample + 1], _class(e, sample)
    odds, others = heads.log_odds(y, c), [k for k in range(y.shape[1]) if k != c]
    z = y[:, [c]] - y[:, others]
    eta = odds.row.arriving[:, None]
    prepared = Prepared(plan.kernels, plan.arithmetic.cast(SoftMin()), Pass(), [z.shape[1:]], plan.arithmetic)
    below = plan.canonical.top if plan.merges_ratios else RATIOS
    there = plan.kernels.upload
    lower: list[Lower] = [(below, (k,)) for k in others]
    return Spot(POOLING, "SoftMin", prepared, [there(z)], there(eta), eta, lower, odds.R[0, others])


def _own_ratios(plan: Plan, e: Explanation, values: Mapping[str, Array], sample: int) -> Spot:
    """The ratios as a dense layer on the scores, with weights 1 and -1."""
    top, c = plan.canonical.top, _class(e, sample)
    R = heads.log_odds(e.scores[sample : sample + 1], c).R
    prepared, z = _ratios(plan, Dense(np.eye(R.shape[1])), [values[top]], c)
    kind = "Dense, the ratios z_ck = y_c - y_k"
    return Spot(RATIOS, kind, prepared, [values[top]], z, R, *_lower(e, [top], sample))


def _ratios(plan: Plan, layer: Layer, inputs: list[Array], c: int) -> tuple[Prepared, Array]:
    """Turn the dense layer of the scores y into that of the ratios z_ck = y_c - y_k, which is under LRP-0."""
    assert isinstance(layer, Dense)
    bias = None if layer.bias is None else layer.bias[c] - layer.bias
    ratios = plan.arithmetic.cast(Dense(layer.weight[c] - layer.weight, bias))
    shapes = [x.shape[1:] for x in inputs]
    prepared = Prepared(plan.kernels, ratios, Zero(), shapes, plan.arithmetic)
    return prepared, prepared.forward(inputs)
