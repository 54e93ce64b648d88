"""Spurious correlation, Fig. 10.1: two features predict the data at hand, one of them generalizes.

A small network is trained on such data. LRP shows that it leans on the wrong feature; retrained on data
from which that feature was cleaned, it no longer does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lrpref.explanation import explain
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.theory.training import accuracy, train

SAMPLES = 400


class Data(NamedTuple):
    """
    Points of two classes.

    Parameters
    ----------
    x : ndarray of float64, shape (N, 2)
        The features: x1, the class's own, and x2, which is spurious.
    labels : ndarray of int, shape (N,)
        0 or 1.
    """

    x: Array
    labels: Array


def current(seed: int = 0) -> Data:
    """
    Draw the data at hand: x1 tells the class with some noise, x2 tells it better still.

    Parameters
    ----------
    seed : int
        Of the draw.

    Returns
    -------
    Data
        `SAMPLES` points.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, SAMPLES)
    sides = 2.0 * labels - 1
    x = np.stack([sides, 2 * sides], axis=1) + rng.normal(0, (0.4, 0.4), (SAMPLES, 2))
    return Data(x, labels)


def cleaned(data: Data, seed: int = 0) -> Data:
    """
    Remove the bad feature: x2 of one point goes to another, whatever its class.

    With data from `current` that is also a draw from the true distribution, in which x2 says nothing.

    Parameters
    ----------
    data : Data
        Points.
    seed : int
        Of the exchange.

    Returns
    -------
    Data
        The same x1 and labels.
    """
    other = np.random.default_rng((seed, 1)).permutation(len(data.x))
    return Data(np.stack([data.x[:, 0], data.x[other, 1]], axis=1), data.labels)


@dataclass(frozen=True, eq=False)
class Outcome:
    """
    A trained network, how often it is right, and what it looks at.

    Parameters
    ----------
    network : Network
        The network.
    on_current, on_true : float
        Accuracy on new data like those at hand, and on new data of the true distribution.
    share : float
        What part of the relevance, in absolute numbers and on new data like those at hand, is on the spurious
        feature: 0 to 1.
    """

    network: Network
    on_current: float
    on_true: float
    share: float


def share_of(network: Network, x: Array, feature: int, composite: str = "lrp-0") -> float:
    """
    Tell what part of the relevance is on one feature.

    Parameters
    ----------
    network : Network
        The network.
    x : ndarray, shape (N, J)
        Inputs; each one's highest score is explained.
    feature : int
        The feature's number j.
    composite : str
        Which rule at which layer.

    Returns
    -------
    float
        The feature's sum of absolute relevances over all inputs, divided by that of all features.
    """
    size = abs(explain(network, x, composite=composite).relevance).sum(axis=0)
    return float(size[feature] / size.sum())


def demonstration(seed: int = 0) -> tuple[Outcome, Outcome]:
    """
    Train on the data at hand, look, clean the data, and train again.

    Parameters
    ----------
    seed : int
        Of all draws, and of both networks' initial weights.

    Returns
    -------
    before, after : Outcome
        Trained on the data at hand, and on the cleaned data.
    """
    data, new = current(seed), current(seed + 1)
    true = cleaned(new, seed + 1)
    return _outcome(data, new, true, seed), _outcome(cleaned(data, seed), new, true, seed)


def _outcome(data: Data, new: Data, true: Data, seed: int) -> Outcome:
    network = train(*data, hidden=8, steps=300, seed=seed)
    return Outcome(network, accuracy(network, *new), accuracy(network, *true), share_of(network, new.x, 1))
