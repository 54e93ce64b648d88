"""What is explained: the score of a class, its log-odds, or any relevances of the output.

By default the score z_c of the chosen class before softmax (Montavon et al. 2019, Section 10.3.1);
R at the output is that score at its place and 0 elsewhere. The head `log-odds` explains
eta_c = log(P_c / (1 - P_c)) instead, by two more layers on top.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lrpref import exact
from lrpref.errors import BadInput, BadRule
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import REFERENCE
from lrpref.kernels.signs import zeros, zeros_like
from lrpref.layers import SoftMin
from lrpref.ledger import Row

Target = Any
"""A class index, one index per sample, "max", or relevances of the output, shape (N, K)."""

HEADS = {
    "score": "class score before softmax",
    "log-odds": "log-odds of the class, log(P / (1 - P))",
}
"""What can be explained of a class, by name."""


def check(head: str, shape: tuple[int, ...]) -> str:
    """
    Check the name of a head.

    Parameters
    ----------
    head : str
        One of `HEADS`.
    shape : tuple of int
        Shape of one sample of the output.

    Returns
    -------
    str
        The same.

    Raises
    ------
    BadInput
        If there is no such head, or it does not fit the output.
    """
    if not isinstance(head, str) or head not in HEADS:
        raise BadInput(f"unknown head {head!r:.60}: there are {', '.join(HEADS)}")
    if head == "log-odds" and (len(shape) != 1 or shape[0] < 2):
        raise BadInput(f"head 'log-odds' is for a vector of two or more class scores; the output is {shape}")
    return head


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


class LogOdds(NamedTuple):
    """
    The log-odds of a class, handed down to the ratios that it pools.

    Parameters
    ----------
    R : ndarray, shape (N, K)
        Relevance of the log-probability ratios: R_c' at c', 0 at the class itself.
    s : ndarray, shape (N, K)
        sum over c' of R_c' / z_cc' times the derivative of z_cc' by each score: what steps 3 and 4 of LRP-0
        take in the layer that computes the scores.
    classes : ndarray of int, shape (N,)
        The classes.
    row : Row
        The closed books of the pooling; `row.arriving` is eta.
    """

    R: Array
    s: Array
    classes: Array
    row: Row


def log_odds(scores: Array, target: Target) -> LogOdds:
    """
    Explain eta_c = log(P_c / (1 - P_c)) by log-probability ratios (Montavon et al. 2019, Section 10.3.1).

    Two layers: z_cc' = y_c - y_c' = log(P_c / P_c'), and eta_c = -log sum over c' of exp(-z_cc'), their soft
    minimum. Relevance goes min-take-most, R_c' = p_c' z_cc', and the account `pooling` takes -H(p).

    Merged with a dense layer below, the first layer has the weights w_c - w_c' and the bias b_c - b_c'. LRP-0
    hands a_j sum_c' (w_jc - w_jc') s_c' to its inputs, with s_c' = R_c' / z_cc'. That is a_j sum_k w_jk s_k,
    steps 3 and 4 in the dense layer itself, where s_k = -s_c' for the other classes and sum_c' s_c' for c.

    Parameters
    ----------
    scores : ndarray, shape (N, K)
        The scores y before a softmax, K >= 2.
    target : int, sequence of int, or "max"
        The classes c.

    Returns
    -------
    LogOdds
        What starts the way down.

    Raises
    ------
    BadInput
        If the target is no class, or eta is 0: then nothing can be in proportion to it.
    BadBackend
        If the scores are rational numbers: exp and log need balls.
    """
    chosen = classes(scores, target)
    rows = np.arange(len(scores))
    others = np.ones(scores.shape, bool)
    others[rows, chosen] = False
    ratios = scores[rows, chosen][:, None] - scores[others].reshape(len(scores), -1)  # z_cc'
    pooling = exact.arithmetic_of(scores).cast(SoftMin())
    eta = pooling.forward(REFERENCE, ratios)
    try:
        (shared,), booked = pooling.handed(REFERENCE, [ratios], eta)
    except BadRule as error:
        raise BadInput(f"the log-odds cannot be explained: {error}") from None
    row = Row("log-odds", pooling.kind, pooling.way, REFERENCE.per_sample(eta))
    row.book("to_inputs", REFERENCE.per_sample(shared))
    for account, amounts in booked.items():
        row.book(account, REFERENCE.per_sample(amounts))
    quotients, _ = REFERENCE.divide(ratios, None, shared, zeros(eta.shape[:1], eta), signed=True)
    R, s = zeros_like(scores), zeros_like(scores)
    R[others] = shared.ravel()
    s[others] = -quotients.ravel()
    s[rows, chosen] = quotients.sum(axis=1)
    return LogOdds(R, s, chosen, row.close())
