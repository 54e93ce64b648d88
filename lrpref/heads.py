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


def read(target: Target, shape: tuple[int, ...]) -> Array | str:
    """
    Read a target, before any score is known.

    Parameters
    ----------
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        What is explained.
    shape : tuple of int
        Shape (N, K) of the output.

    Returns
    -------
    ndarray of int, shape (N,), or ndarray, shape (N, K), or "max"
        Class indices, or relevances of the output.

    Raises
    ------
    BadInput
        If the target is out of range, holds NaN or infinity, or is none of these.
    """
    if isinstance(target, str) and target == "max":
        return target
    try:
        values = np.asarray(target)
    except ValueError:  # rows of different lengths
        values = np.asarray(None)
    if values.shape == shape and values.dtype.kind in "fiuO":
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadInput("target holds NaN or infinity: finite relevances are wanted")
        return values
    said = " ".join(repr(target).split())
    if values.dtype.kind not in "iu" or values.shape not in ((), shape[:1]):
        raise BadInput(
            f"target is {said:.60}: wanted is a class index, one for each of the {shape[0]} samples, "
            f"'max', or relevances of shape {shape}"
        )
    count = int(np.prod(shape[1:]))
    if ((values < 0) | (values >= count)).any():
        raise BadInput(
            f"target {said:.60} is out of range: the network has {count} outputs, 0 to {count - 1}"
        )
    return np.broadcast_to(values, shape[:1])


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
    index = read(target, scores.shape)
    if isinstance(index, str):
        return np.asarray(exact.as_float(scores).reshape(len(scores), -1).argmax(axis=1))
    if index.ndim > 1:
        raise BadInput(f"target is relevances of shape {index.shape}: classes are wanted here")
    return index


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
    given = read(target, scores.shape)
    if not isinstance(given, str) and given.ndim > 1:
        return exact.arithmetic_of(scores).array(given), None
    chosen = classes(scores, given)
    return one_hot(scores, chosen) * scores, chosen
