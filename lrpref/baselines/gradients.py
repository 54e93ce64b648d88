"""Gradient x input, integrated gradients and SmoothGrad: one gradient, or a mean of many."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lrpref import exact, heads
from lrpref.baselines.score import Score
from lrpref.checks import nonnegative, whole
from lrpref.errors import BadInput
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import per_sample
from lrpref.network import Network


def gradient_times_input(
    network: Network, x: Any, target: heads.Target = "max", **options: Any
) -> Array:
    """
    Multiply the gradient with the input: R_i = x_i [grad f(x)]_i.

    Shrikumar et al. 2016, arXiv:1605.01713. In a rectifier network with max pooling's winner taking all it
    is LRP-0 in every layer (Montavon et al. 2019, Section 10.2.1).

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    ndarray, like x
        Relevance, in the unit of the score.

    Raises
    ------
    BadInput
        If the inputs or the target do not fit.
    """
    score = Score.of(network, x, target, **options)
    return score.x * score.gradients(score.x)


def _midpoints(steps: int) -> tuple[list[Any], list[Any]]:
    return [Fraction(2 * m + 1, 2 * steps) for m in range(steps)], [Fraction(1, steps)] * steps


def _gauss_legendre(steps: int) -> tuple[list[Any], list[Any]]:
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()


QUADRATURES = {"midpoint": _midpoints, "gauss-legendre": _gauss_legendre}
"""Where on [0, 1] the gradient is taken, and with which weights."""


def integrated_gradients(
    network: Network,
    x: Any,
    target: heads.Target = "max",
    *,
    baseline: Any = 0,
    steps: int = 300,
    quadrature: str = "midpoint",
    **options: Any,
) -> Array:
    """
    Integrate the gradient from a baseline: R_i = (x_i - x0_i) * integral of [grad f(x0 + t (x - x0))]_i dt.

    Sundararajan, Taly and Yan 2017, ICML. Complete: sum R = f(x) - f(x0), but for the error of the
    quadrature, which `completeness` tells.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained.
    baseline : array_like
        x0: a number, numbers (C,) for the channels, one sample, or a batch like x. In units of the
        preprocessed input, where 0 is the mean colour and not black.
    steps : int
        Points of the quadrature.
    quadrature : {"midpoint", "gauss-legendre"}
        How t is laid out. A rectifier network's gradient jumps: there the second is hardly better.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    ndarray, like x
        Relevance, in the unit of the score.

    Raises
    ------
    BadInput
        If an argument does not fit.
    """
    if not isinstance(quadrature, str) or quadrature not in QUADRATURES:
        raise BadInput(f"unknown quadrature {quadrature!r:.60}: there are {', '.join(QUADRATURES)}")
    nodes, weights = (_numbers(options, values) for values in QUADRATURES[quadrature](whole("steps", steps)))
    score = Score.of(network, x, target, **options)
    start = score.like_x("baseline", baseline)
    way = score.x - start

    def point(m: int) -> Array:
        return start + nodes[m] * way

    return way * score.mean_gradient(point, weights)


def _numbers(options: dict[str, Any], values: Sequence[Any]) -> list[Any]:
    """Take numbers into the arithmetic that is computed in."""
    arithmetic = exact.get(options.get("dtype", "float64"))
    return [arithmetic.number(value) for value in values]


def completeness(
    network: Network,
    x: Any,
    relevance: Array,
    target: heads.Target = "max",
    *,
    baseline: Any = 0,
    **options: Any,
) -> Array:
    """
    Tell by how much relevances miss completeness: f(x) - f(x0) - sum R.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    relevance : ndarray, like x
        What explains them, such as integrated gradients.
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained.
    baseline : array_like
        x0, as for `integrated_gradients`.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    ndarray, shape (N,)
        What is missing, in the unit of the score; negative where there is too much.

    Raises
    ------
    BadInput
        If an argument does not fit.
    """
    score = Score.of(network, x, target, **options)
    if np.shape(relevance) != score.x.shape:
        raise BadInput(f"relevance is of shape {np.shape(relevance)}, wants the input's {score.x.shape}")
    start = score.like_x("baseline", baseline)
    return np.asarray(score.values(score.x) - score.values(start) - per_sample(np.asarray(relevance)))


def smooth_grad(
    network: Network,
    x: Any,
    target: heads.Target = "max",
    *,
    noise: float = 0.15,
    samples: int = 50,
    seed: int = 0,
    times_input: bool = False,
    **options: Any,
) -> Array:
    """
    Average the gradient over noisy copies of the input: R = mean over m of grad f(x + sigma n_m).

    Smilkov et al. 2017, arXiv:1706.03825, without the absolute value that they take for display. The noise
    n_m is standard normal, and the same for every sample: none depends on the batch that it comes in.

    Parameters
    ----------
    network : Network
        The network.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, or "max"
        The class whose score before softmax is explained; "max" is settled without noise.
    noise : float
        sigma as a share of the sample's range, max x - min x, at least 0.
    samples : int
        Noisy copies.
    seed : int
        Of the noise, at least 0.
    times_input : bool
        Whether the mean is multiplied with x, which makes it comparable with LRP.
    **options
        `backend`, `dtype`, `batch`, `watch` of `Score.of`.

    Returns
    -------
    ndarray, like x
        The mean gradient, in units of the score per unit of x; or times x, in units of the score.

    Raises
    ------
    BadInput
        If an argument does not fit.
    """
    nonnegative("noise", noise)
    seed = whole("seed", seed, least=0)
    weights = _numbers(options, [Fraction(1, whole("samples", samples))]) * samples
    score = Score.of(network, x, target, **options)
    values = exact.as_float(score.x)
    axes = tuple(range(1, values.ndim))
    sigma = noise * (values.max(axis=axes, keepdims=True) - values.min(axis=axes, keepdims=True))

    def point(m: int) -> Array:
        normal = np.random.default_rng((seed, m)).standard_normal(values.shape[1:])
        return score.x + exact.get(score.dtype).array(sigma * normal)

    mean = score.mean_gradient(point, weights)
    return score.x * mean if times_input else mean
