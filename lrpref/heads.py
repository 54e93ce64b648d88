"""What is explained: the score of a class, or any relevances of the output.

By default the score z_c of the chosen class before softmax (Montavon et al. 2019, Section 10.3.1);
R at the output is that score at its place and 0 elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref import exact
from lrpref.errors import BadInput
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import zeros_like

Target = Any
"""A class index, one index per sample, "max", or relevances of the output, shape (N, K)."""


def classes(scores: Array, target: Target) -> Array:
    """
    Say which class is meant for each sample.

    Parameters
    ----------
    scores : ndarray, shape (N, K)
        The output before a softmax.
    target : int, sequence of int, or "max"
        A class for all samples, one for each, or the highest score.

    Returns
    -------
    ndarray of int, shape (N,)
        Class indices.

    Raises
    ------
    BadInput
        If the target is out of range, or none of these.
    """
    n, count = len(scores), int(np.prod(scores.shape[1:]))
    if isinstance(target, str) and target == "max":
        return np.asarray(exact.as_float(scores).reshape(n, -1).argmax(axis=1))
    index = np.asarray(target)
    if index.dtype.kind not in "iu" or index.shape not in ((), (n,)):
        raise BadInput(
            f"target is {target!r}: wanted is a class index, one for each of the {n} samples, "
            f"'max', or relevances of shape {scores.shape}"
        )
    if ((index < 0) | (index >= count)).any():
        raise BadInput(f"target {target} is out of range: the network has {count} outputs, 0 to {count - 1}")
    return np.broadcast_to(index, (n,))


def one_hot(values: Array, chosen: Array) -> Array:
    """
    Put a 1 at the chosen class of each sample.

    Parameters
    ----------
    values : ndarray, shape (N, K)
        For the shape and the arithmetic.
    chosen : ndarray of int, shape (N,)
        Class indices.

    Returns
    -------
    ndarray, like values
        1 at the class, 0 elsewhere.
    """
    chosen_ones = zeros_like(values).reshape(len(values), -1)
    chosen_ones[np.arange(len(values)), chosen] += 1
    return chosen_ones.reshape(values.shape)


def start(scores: Array, target: Target) -> tuple[Array, Array | None]:
    """
    Give the relevance of the output.

    Parameters
    ----------
    scores : ndarray, shape (N, K)
        The output before a softmax.
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        What is explained.

    Returns
    -------
    R : ndarray, like scores
        The class score at its place and 0 elsewhere; or the relevances given.
    chosen : ndarray of int, shape (N,), or None
        The classes, where classes are explained.

    Raises
    ------
    BadInput
        If the target is out of range, or holds NaN or infinity.
    """
    given = None if isinstance(target, str | int) else np.asarray(target)
    if given is not None and given.shape == scores.shape and given.dtype.kind in "fiuO" and given.ndim > 1:
        if given.dtype.kind == "f" and not np.isfinite(given).all():
            raise BadInput("target holds NaN or infinity: finite relevances are wanted")
        return exact.arithmetic_of(scores).array(given), None
    chosen = classes(scores, target)
    return one_hot(scores, chosen) * scores, chosen
