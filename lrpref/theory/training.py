"""Training a small network in NumPy, for demonstrations: full batches, momentum, cross-entropy."""

from __future__ import annotations

import numpy as np

from lrpref.kernels.operations import Array
from lrpref.layers import Dense, Flatten, ReLU
from lrpref.network import Network, chain


def train(
    x: Array,
    labels: Array,
    *,
    hidden: int,
    steps: int,
    rate: float = 0.05,
    decay: float = 1e-4,
    seed: int = 0,
) -> Network:
    """
    Train a network with one hidden layer of rectifiers.

    Parameters
    ----------
    x : ndarray of float64, shape (N, ...)
        Inputs.
    labels : ndarray of int, shape (N,)
        Their classes, 0 to K - 1.
    hidden : int
        Hidden neurons.
    steps : int
        Steps of gradient descent, each on all of x, with momentum 0.9.
    rate : float
        Length of a step.
    decay : float
        Weight decay, per unit of rate.
    seed : int
        Of the initial weights.

    Returns
    -------
    Network
        Its outputs are scores: a softmax would make them probabilities.
    """
    rng = np.random.default_rng(seed)
    flat, wanted = x.reshape(len(x), -1), np.eye(labels.max() + 1)[labels]
    w1, w2 = (
        rng.standard_normal((k, j)) * np.sqrt(2 / j)
        for k, j in ((hidden, flat.shape[1]), (wanted.shape[1], hidden))
    )
    parameters = [w1, np.zeros(hidden), w2, np.zeros(wanted.shape[1])]
    velocities = [np.zeros_like(p) for p in parameters]
    for _ in range(steps):
        gradients = _gradients(flat, wanted, *parameters)
        for p, v, g in zip(parameters, velocities, gradients, strict=True):
            v *= 0.9
            v -= rate * (g + decay * p)
            p += v
    w1, b1, w2, b2 = parameters
    layers = [("flatten", Flatten()), ("hidden", Dense(w1, b1)), ("relu", ReLU()), ("output", Dense(w2, b2))]
    return chain(layers, x.shape[1:])


def _gradients(x: Array, wanted: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> list[Array]:
    """Differentiate the mean cross-entropy with respect to the four parameters."""
    a = np.maximum(x @ w1.T + b1, 0)
    scores = a @ w2.T + b2
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    above = (p / p.sum(axis=1, keepdims=True) - wanted) / len(x)
    below = above @ w2 * (a > 0)
    return [below.T @ x, below.sum(axis=0), above.T @ a, above.sum(axis=0)]


def accuracy(network: Network, x: Array, labels: Array) -> float:
    """
    Count how often the highest score is the right one's.

    Parameters
    ----------
    network : Network
        The network.
    x : ndarray, shape (N, ...)
        Inputs.
    labels : ndarray of int, shape (N,)
        Their classes.

    Returns
    -------
    float
        From 0 to 1.
    """
    return float((network.forward(x).argmax(axis=1) == labels).mean())
