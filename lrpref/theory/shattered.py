"""Shattered gradients: how soon the gradient of a network forgets itself along a line of inputs.

Balduzzi et al. 2017, ICML: the deeper a rectifier network, the more its gradient looks like white noise,
while its value stays smooth. Montavon et al. 2019, Section 10.1, name it first among what makes a simple
Taylor decomposition unstable.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.checks import whole
from lrpref.errors import BadInput
from lrpref.kernels.operations import Array


def line(start: Any, end: Any, points: int) -> Array:
    """
    Lay out points on a line between two inputs.

    Parameters
    ----------
    start, end : array_like
        One sample each.
    points : int
        How many, at least 2.

    Returns
    -------
    ndarray of float64, shape (points, ...)
        From `start` to `end`, in equal steps.

    Raises
    ------
    BadInput
        If the ends differ in shape, or there are fewer than 2 points.
    """
    start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
    if start.shape != end.shape:
        raise BadInput(f"the line's ends are of shape {start.shape} and {end.shape}: one shape is wanted")
    return np.linspace(start, end, whole("points", points, 2))


def similarity(along: Any) -> Array:
    """
    Compare what was found along a line with itself, some steps further on.

    Parameters
    ----------
    along : array_like, shape (M, ...)
        A vector for each point of the line, such as the gradient or relevances there.

    Returns
    -------
    ndarray of float64, shape (M // 2 + 1,)
        For each distance d = 0, 1, ... in steps the mean, over all pairs of points d apart, of the cosine
        between their vectors (0 where one vanishes): 1 where the direction never changes, 0 where the line
        has forgotten it.

    Raises
    ------
    BadInput
        If there are fewer than 2 points.
    """
    v = np.asarray(along, np.float64)
    if len(v) < 2:
        raise BadInput(f"{len(v)} points are on the line: at least 2 are wanted")
    v = v.reshape(len(v), -1)
    length = np.linalg.norm(v, axis=1, keepdims=True)
    v = v / np.where(length > 0, length, 1)
    cosines = v @ v.T
    return np.array([cosines.diagonal(d).mean() for d in range(len(v) // 2 + 1)])
