"""How much work there is to do: the flops of one explanation, counted on the plan that lrpref runs.

    one pass over a convolution     2 N Ho Wo K (C / G) kh kw
    one pass over a dense layer     2 N J K

A pass is a forward or a transposed product with one set of weights. Which passes a rule takes is read off
the plan: its backend is replaced by one that does no sums, and counts. After a ReLU, eps takes 2 (z is the
forward pass's), gamma and z-plus 3, alpha2-beta1 5, z-box 7. Taps in the padding count, as is usual;
pooling, activations, quotients and accounts do not. So a kernel that saves multiplications (Winograd) may
exceed the rate of a matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.engine import activate, propagate
from lrpref.kernels.operations import Array, Operation
from lrpref.kernels.reference import Reference
from lrpref.network import Network
from lrpref.plan import Plan, prepare


class Counter(Reference):
    """A backend whose matrix products are zeros; what they would take is in `flops`."""

    def __init__(self) -> None:
        self.flops = 0

    def dense(self, a: Array, w: Array, op: Operation) -> Array:
        self.flops += 2 * len(a) * w.size
        return np.zeros((len(a), w.shape[0]), a.dtype)

    def dense_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        self.flops += 2 * len(s) * w.size
        return np.zeros((len(s), w.shape[1]), s.dtype)

    def conv2d(self, a: Array, w: Array, op: Operation) -> Array:
        ho, wo = op.window.positions(op.size)
        self.flops += 2 * len(a) * ho * wo * w.size
        return np.zeros((len(a), len(w), ho, wo), a.dtype)

    def conv2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        self.flops += 2 * len(s) * s.shape[2] * s.shape[3] * w.size
        return np.zeros((len(s), w.shape[1] * op.groups, *op.size), s.dtype)


def count(network: Network, composite: Any) -> int:
    """
    Count the flops that the explanation of one input takes.

    Parameters
    ----------
    network : Network
        The network.
    composite : str or Composite
        The composite.

    Returns
    -------
    int
        Flops, of the forward pass and the propagation together.
    """
    plan, counter = Plan(network, composite, dtype="float32"), Counter()
    prepared = prepare(plan.canonical, plan.rules, counter, plan.arithmetic)
    x = np.zeros((1, *network.input_shape), np.float32)
    activations = activate(plan.canonical, prepared, x)
    top = np.ones_like(activations[plan.canonical.top])
    propagate(plan.canonical, prepared, activations, top, kernels=counter)
    return counter.flops
