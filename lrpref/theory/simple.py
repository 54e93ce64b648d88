"""Simple Taylor decomposition: the prediction expanded once, at a reference point of the whole network.

The expansion is::

    f(x) = f(x~) + sum_i (x_i - x~_i) [grad f(x~)]_i + remainder

Montavon et al. 2019, Section 10.1; Bach et al. 2015, PLOS ONE 10(7). What deep networks do to it (gradients
that are shattered, roots without meaning) is why there is LRP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref import exact, heads
from lrpref.baselines import Score
from lrpref.checks import whole
from lrpref.errors import BadInput
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import equal, greater, per_sample
from lrpref.network import Network


@dataclass(frozen=True, eq=False)
class Taylor:
    """
    The prediction's Taylor expansion: explained = zero_order + sum of relevance + remainder.

    Parameters
    ----------
    explained : ndarray, shape (N,)
        f(x).
    zero_order : ndarray, shape (N,)
        f(x~).
    relevance : ndarray, like x
        First-order terms (x_i - x~_i) [grad f(x~)]_i.
    remainder : ndarray, shape (N,)
        All higher orders: f(x) less the two.
    """

    explained: Array
    zero_order: Array
    relevance: Array
    remainder: Array


def simple_taylor(
    network: Network, x: Any, reference: Any, target: heads.Target = "max", **options: Any
) -> Taylor:
    """
    Expand the prediction at a reference point, to first order.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    reference : array_like
        x~: a number, numbers (C,) for the channels, one sample, or a batch like x (such as `nearest_root`
        finds).
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained; "max" is settled at x.
    **options
        `backend`, `dtype`, `batch`, `watch` of `lrpref.baselines.Score.of`.

    Returns
    -------
    Taylor
        The terms and the remainder.

    Raises
    ------
    BadInput
        If an argument does not fit.
    """
    score = Score.of(network, x, target, **options)
    point = score.like_x("reference", reference)
    explained, zero_order = score.values(score.x), score.values(point)
    relevance = (score.x - point) * score.gradients(point)
    return Taylor(explained, zero_order, relevance, explained - zero_order - per_sample(relevance))


def nearest_root(
    network: Network,
    x: Any,
    toward: Any = 0,
    target: heads.Target = "max",
    *,
    scan: int = 32,
    halvings: int = 40,
    **options: Any,
) -> Array:
    """
    Search a line for the root of f that is nearest to x: a reference point where nothing is predicted.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs, where the line starts.
    toward : array_like
        Where it ends: a number, numbers (C,) for the channels, one sample, or a batch like x.
    target : int, sequence of int, or "max"
        The class whose score before softmax is meant; "max" is settled at x.
    scan : int
        Into so many equal parts the line is cut to find a change of sign.
    halvings : int
        Steps of bisection in that part.
    **options
        `backend`, `dtype`, `batch`, `watch` of `lrpref.baselines.Score.of`.

    Returns
    -------
    ndarray, like x
        The root, on x's side of it: f keeps there what sign it has at x, or is 0. Where f(x) = 0, x itself.

    Raises
    ------
    BadInput
        If f has one sign at all points of the line that are looked at, or an argument does not fit.
    """
    scan, halvings = whole("scan", scan), whole("halvings", halvings, least=0)
    score = Score.of(network, x, target, **options)
    way = score.like_x("toward", toward) - score.x
    arithmetic = exact.get(score.dtype)

    def point(t: Array) -> Array:
        return score.x + arithmetic.array(t).reshape(-1, *[1] * (way.ndim - 1)) * way

    at_x = score.values(score.x)
    positive, there = greater(at_x, 0), equal(at_x, 0)

    def crossed(t: Array) -> Array:
        return greater(score.values(point(t)), 0) != positive

    looked = np.stack([crossed(np.full(len(way), m / scan)) for m in range(1, scan + 1)])
    found = looked.any(axis=0) | there
    if not found.all():
        n = int(np.argmin(found))
        raise BadInput(
            f"sample {n}: f has one sign all along the line; another `toward`, or a finer scan, is wanted"
        )
    near = looked.argmax(axis=0) / scan
    far = near + 1 / scan
    for _ in range(halvings):
        middle = (near + far) / 2
        beyond = crossed(middle)
        near, far = np.where(beyond, near, middle), np.where(beyond, middle, far)
    return point(np.where(there, 0, near))
