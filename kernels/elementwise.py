"""Activation functions and their derivatives, element by element, on any dtype that can hold them.

Each name of `FUNCTIONS` maps to (g, g'), functions of (x, *parameters). Written with NumPy's
functions, which also serve arrays of other libraries that follow NumPy's protocols. Derivatives at
kinks are the ones of the common libraries: 0 at ReLU's 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np
from scipy import special

from lrpref.errors import BadBackend
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import each, greater, ones_like, positive, zeros_like

Function = Callable[..., Array]


def _transcendental(x: Array, of_floats: Function, of_balls: str) -> Array:
    if x.dtype != object:
        return np.asarray(of_floats(x), dtype=x.dtype)
    _check_beyond_rationals(x, of_balls)
    return each(methodcaller(of_balls), x)


def _check_beyond_rationals(x: Array, function: str) -> None:
    if x.dtype == object and x.size and not hasattr(x.flat[0], function):
        raise BadBackend(f"'{function}' leaves the rational numbers: use dtype='ball' instead of 'exact'")


def _exp(x: Array) -> Array:
    return _transcendental(x, np.exp, "exp")


def _tanh(x: Array) -> Array:
    return _transcendental(x, np.tanh, "tanh")


def _erf(x: Array) -> Array:
    if x.dtype == np.longdouble:
        raise BadBackend("SciPy has no 'erf' in longdouble: use dtype='float64' or 'ball'")
    return _transcendental(x, special.erf, "erf")


def _log1p_exp(x: Array) -> Array:
    if x.dtype != object:
        return np.asarray(np.logaddexp(x, np.zeros_like(x)))
    return _transcendental(_exp(x) + 1, np.log, "log")


def _step(x: Array, at: float = 0) -> Array:
    """1 where x > at, else 0."""
    return np.where(greater(x, at), ones_like(x), zeros_like(x))


def relu(x: Array) -> Array:
    return positive(x)


def leaky_relu(x: Array, slope: float) -> Array:
    return np.where(greater(x, 0), x, slope * x)


def leaky_relu_derivative(x: Array, slope: float) -> Array:
    return np.where(greater(x, 0), ones_like(x), slope * ones_like(x))


def clip(x: Array, low: float, high: float) -> Array:
    bounded = np.where(greater(x, low), x, zeros_like(x) + low)
    return np.where(greater(bounded, high), zeros_like(x) + high, bounded)


def clip_derivative(x: Array, low: float, high: float) -> Array:
    return _step(x, low) * _step(high - x)


def sigmoid(x: Array) -> Array:
    return np.asarray(special.expit(x)) if x.dtype != object else 1 / (1 + _exp(-x))


def sigmoid_derivative(x: Array) -> Array:
    return sigmoid(x) * sigmoid(-x)


def tanh_derivative(x: Array) -> Array:
    return 1 - _tanh(x) * _tanh(x)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def silu_derivative(x: Array) -> Array:
    return sigmoid(x) * (1 + x * sigmoid(-x))


def elu(x: Array, alpha: float) -> Array:
    return np.where(greater(x, 0), x, alpha * (_exp(-positive(-x)) - 1))


def elu_derivative(x: Array, alpha: float) -> Array:
    return np.where(greater(x, 0), ones_like(x), alpha * _exp(-positive(-x)))


def softplus(x: Array) -> Array:
    return _log1p_exp(x)


def gelu(x: Array) -> Array:
    _check_beyond_rationals(x, "erf")  # before _sqrt2, which needs balls too
    return x * (1 + _erf(x / _sqrt2(x))) / 2


def gelu_derivative(x: Array) -> Array:
    density = _exp(-x * x / 2) / (_sqrt2(x) * _sqrt_pi(x))
    return (1 + _erf(x / _sqrt2(x))) / 2 + x * density


def _sqrt2(x: Array) -> Any:
    return type(x.flat[0])(2).sqrt() if x.dtype == object else x.dtype.type(math.sqrt(2))


def _sqrt_pi(x: Array) -> Any:
    return type(x.flat[0]).pi().sqrt() if x.dtype == object else x.dtype.type(math.sqrt(math.pi))


def hard_sigmoid(x: Array) -> Array:
    return clip(x + 3, 0, 6) / 6


def hard_sigmoid_derivative(x: Array) -> Array:
    return clip_derivative(x + 3, 0, 6) / 6


def hard_swish(x: Array) -> Array:
    return x * hard_sigmoid(x)


def hard_swish_derivative(x: Array) -> Array:
    return hard_sigmoid(x) + x * hard_sigmoid_derivative(x)


FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "relu": (relu, _step),
    "leaky_relu": (leaky_relu, leaky_relu_derivative),
    "clip": (clip, clip_derivative),
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (_tanh, tanh_derivative),
    "silu": (silu, silu_derivative),
    "elu": (elu, elu_derivative),
    "softplus": (softplus, sigmoid),
    "gelu": (gelu, gelu_derivative),
    "hard_sigmoid": (hard_sigmoid, hard_sigmoid_derivative),
    "hard_swish": (hard_swish, hard_swish_derivative),
}


def softmax(x: Array) -> Array:
    """
    Exponentiate and normalise over the last axis.

    Parameters
    ----------
    x : ndarray, shape (N, K)
        Scores.

    Returns
    -------
    ndarray, shape (N, K)
        Probabilities.
    """
    e = _exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """
    Take the logarithms of the probabilities, without a quotient that may be 0.

    Parameters
    ----------
    x : ndarray, shape (N, K)
        Scores.

    Returns
    -------
    ndarray, shape (N, K)
        Logarithms of probabilities.
    """
    below = x - x.max(axis=-1, keepdims=True)
    total = _exp(below).sum(axis=-1, keepdims=True)
    return np.asarray(below - _transcendental(total, np.log, "log"))
