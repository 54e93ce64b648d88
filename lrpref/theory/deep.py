"""Deep Taylor decomposition: each neuron's relevance expanded at a reference point of its own.

Montavon et al. 2019, Section 10.2.3 and Appendix 10.B. The relevance that arrives at a neuron is modelled
as R~_k(a) = max(0, z_k(a)) c_k with a constant c_k, and expanded at a reference point a~::

    R~_k(a) = R~_k(a~) + sum over 0,j of (a_j - a~_j) w_jk c_k

Every reference point lies on a line through the data, a~ = a - t v, near where the line meets the hinge
z_k = 0. So a rule is a direction v::

    LRP-0       v = a                                      t = z / (v . w), which is 1    a_0 moves
    LRP-eps     v = a                                      t = z / (v . w + eps)          a_0 moves
    LRP-gamma   v = a (1 + gamma 1[w > 0])                 t = z / (v . w)                a_0 moves
    z^B         v = (x - l) 1[w > 0] + (x - h) 1[w < 0]    t = z / (v . w)                a_0 stays
    w^2         v = w                                      t = z / (v . w)                a_0 stays

Coordinates are those of Eq. (10.1): in front of the inputs stands a_0 = 1 with the weight w_0k = b_k.
Nothing here uses the engine or the rules; the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from lrpref import exact
from lrpref.checks import nonnegative
from lrpref.connections import connections
from lrpref.errors import BadInput, BadRule
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import equal, greater, zeros, zeros_like
from lrpref.layers import Conv2d, Dense, Layer, Shape

KINDS = (Dense, Conv2d)
"""Layers that are taken apart: in front of a ReLU."""

# The neurons of a layer.


class Neuron(NamedTuple):
    """
    One neuron of a layer, z = sum_j a_j w_j + b, with the inputs that it is connected to and no others.

    Parameters
    ----------
    inputs : ndarray of int, shape (J,)
        Where the inputs stand in one sample of the layer's input, flattened.
    w : ndarray, shape (J,)
        Their weights.
    b : ndarray, shape (1,)
        The bias.
    """

    inputs: Array
    w: Array
    b: Array


def neurons(layer: Layer, shape: Shape) -> Iterator[Neuron]:
    """
    Take a layer apart.

    Parameters
    ----------
    layer : Dense or Conv2d
        The layer.
    shape : tuple of int
        Shape of one sample of its input.

    Yields
    ------
    Neuron
        In the order of the layer's output, flattened; padding is no input.

    Raises
    ------
    BadRule
        If it is another kind of layer.
    BadNetwork
        If it cannot take such inputs.
    """
    if not isinstance(layer, KINDS):
        kinds = " and ".join(kind.__name__ for kind in KINDS)
        raise BadRule(f"deep Taylor decomposition is for {kinds}; got {getattr(layer, 'kind', layer)!r:.60}")
    a, outputs = zeros((1, *shape), layer.weight), layer.output_shape(shape)
    linear = layer.map(a)
    biases = np.broadcast_to(linear.b, (1, *outputs))
    for k in np.ndindex(outputs):
        found = connections(linear.operation, a[0], linear.w, k)
        yield Neuron(found.places(shape), found.w, biases[:, *k])


# The relevance model, and where it is expanded.


@dataclass(frozen=True, eq=False)
class RelevanceModel:
    """
    The modulated ReLU R~(a) = max(0, sum over 0,j of a_j w_j) c.

    Parameters
    ----------
    w : ndarray, shape (1 + J,)
        Weights, the bias first.
    c : number
        The modulation, constant: R at the data, divided by z at the data.
    """

    w: Array
    c: Any

    def z(self, a: Array) -> Any:
        """
        Compute the preactivation.

        Parameters
        ----------
        a : ndarray, shape (1 + J,)
            Activations, a_0 first.

        Returns
        -------
        number
            The sum over 0,j of a_j w_j.
        """
        return (a * self.w).sum()

    def __call__(self, a: Array) -> Any:
        """
        Compute the relevance.

        Parameters
        ----------
        a : ndarray, shape (1 + J,)
            Activations, a_0 first.

        Returns
        -------
        number
            R~(a).
        """
        z = self.z(a)
        return z * self.c if _positive(z) else z * 0

    def gradient(self) -> Array:
        """
        Give the gradient on the activated domain, up to the hinge.

        Returns
        -------
        ndarray, shape (1 + J,)
            w c.
        """
        return self.w * self.c


def _positive(z: Any) -> bool:
    return bool(greater(np.asarray([z]), 0)[0])


@dataclass(frozen=True)
class Reference:
    """
    Base of the reference points a~ = a - t v, with t = z / (v . w + stabilizer).

    Parameters
    ----------
    fixed_bias : bool
        Whether a_0 stays 1.
    """

    fixed_bias: bool = field(default=False, kw_only=True)

    def direction(self, a: Array, w: Array) -> Array:
        """
        Give the direction v in which the point is looked for, away from it.

        Parameters
        ----------
        a, w : ndarray, shape (1 + J,)
            Activations and weights, a_0 and the bias first.

        Returns
        -------
        ndarray, shape (1 + J,)
            v.
        """
        raise NotImplementedError

    def stabilizer(self) -> Any:
        """
        Say by what the point stops short of the hinge.

        Returns
        -------
        number
            What is added to the denominator of t, in the unit of z.
        """
        return 0

    def at(self, inputs: Array, shape: Shape) -> Reference:
        """
        Give the reference point's definition for a neuron that is connected to some of the inputs.

        Parameters
        ----------
        inputs : ndarray of int, shape (J,)
            Where they stand in one sample, flattened.
        shape : tuple of int
            Shape of one sample.

        Returns
        -------
        Reference
            The same, but where it has numbers for each input.
        """
        return self

    def point(self, model: RelevanceModel, a: Array) -> Array | None:
        """
        Find the reference point of an active neuron.

        Parameters
        ----------
        model : RelevanceModel
            The neuron.
        a : ndarray, shape (1 + J,)
            The data point, a_0 = 1 first.

        Returns
        -------
        ndarray, shape (1 + J,), or None
            a~; None where the line never meets the hinge.
        """
        v = self.direction(a, model.w)
        if self.fixed_bias:
            v = np.concatenate([v[:1] * 0, v[1:]])
        below = (v * model.w).sum() + self.stabilizer()
        if equal(np.asarray([below]), 0)[0]:
            return None
        return a - model.z(a) / below * v


@dataclass(frozen=True)
class ZeroReference(Reference):
    """LRP-0's: a~ = 0, for all coordinates."""

    def direction(self, a: Array, w: Array) -> Array:
        return a


@dataclass(frozen=True)
class EpsilonReference(ZeroReference):
    """
    LRP-eps's: a~ = eps / (z + eps) a, on the way to 0; there is R~ left, which the stabilizer takes.

    Parameters
    ----------
    eps : number
        At least 0, in the unit of z.
    """

    eps: Any = 1e-6

    def __post_init__(self) -> None:
        nonnegative("eps", self.eps, BadRule)

    def stabilizer(self) -> Any:
        return self.eps


@dataclass(frozen=True)
class GammaReference(Reference):
    """
    LRP-gamma's: where {a - t a (1 + gamma 1[w > 0])} meets the hinge.

    Parameters
    ----------
    gamma : number
        At least 0.
    """

    gamma: Any = 0.25

    def __post_init__(self) -> None:
        nonnegative("gamma", self.gamma, BadRule)

    def direction(self, a: Array, w: Array) -> Array:
        return a + self.gamma * np.where(greater(w, 0), a, zeros_like(a))


@dataclass(frozen=True)
class BoxReference(Reference):
    """
    The z^B rule's: from x towards the corner of the box l <= x <= h where z is least.

    Parameters
    ----------
    low, high : array_like
        The bounds l and h: a number, numbers (C,) for the channels of an image, or one per input.
    """

    low: Any = 0
    high: Any = 0
    fixed_bias: bool = field(default=True, kw_only=True)

    def direction(self, a: Array, w: Array) -> Array:
        x, w = a[1:], w[1:]
        rising, falling = greater(w, 0), greater(-w, 0)
        v = np.where(rising, x - self.low, np.where(falling, x - self.high, zeros_like(x)))
        return np.concatenate([a[:1], v])

    def at(self, inputs: Array, shape: Shape) -> Reference:
        low, high = (_each(bound, shape)[inputs] for bound in (self.low, self.high))
        return replace(self, low=low, high=high)


def _each(bound: Any, shape: Shape) -> Array:
    """Give a bound for every input, flattened."""
    bound = np.asarray(bound)
    per_channel = bound.ndim == 1 and len(shape) == 3
    try:
        return np.broadcast_to(bound[:, None, None] if per_channel else bound, shape).ravel()
    except ValueError:
        raise BadInput(f"a bound is of shape {bound.shape}, wants a number, (C,) or {shape}") from None


@dataclass(frozen=True)
class SquareReference(Reference):
    """The w^2 rule's: the point of the hinge that is nearest to the data."""

    fixed_bias: bool = field(default=True, kw_only=True)

    def direction(self, a: Array, w: Array) -> Array:
        return w


# The expansion.


@dataclass(frozen=True, eq=False)
class Expansion:
    """
    The Taylor expansion of one neuron's relevance model; its second and higher orders are 0.

    Parameters
    ----------
    model : RelevanceModel
        The relevance model.
    a : ndarray, shape (1 + J,)
        The data point, a_0 = 1 first.
    reference : ndarray, shape (1 + J,)
        The reference point a~.
    """

    model: RelevanceModel
    a: Array
    reference: Array

    @property
    def zero_order(self) -> Any:
        """R~(a~)."""
        return self.model(self.reference)

    @property
    def terms(self) -> Array:
        """First-order terms (a_j - a~_j) w_j c, the bias's first: shape (1 + J,)."""
        return (self.a - self.reference) * self.model.gradient()

    @property
    def squared_distance(self) -> Any:
        """Square of the distance between a and a~, over all coordinates, a_0 included."""
        return ((self.a - self.reference) ** 2).sum()


def expand(reference: Reference, a: Any, w: Any, b: Any, R: Any) -> Expansion:
    """
    Expand one active neuron's relevance.

    Parameters
    ----------
    reference : Reference
        Where.
    a, w : ndarray, shape (J,)
        Lower activations and weights, in one arithmetic.
    b, R : number
        The bias, and the relevance that arrives at the neuron.

    Returns
    -------
    Expansion
        The expansion.

    Raises
    ------
    BadInput
        If a and w are no vectors of one length, the neuron is not active, z <= 0, or the line never meets
        the hinge.
    """
    a, w = np.asarray(a), np.asarray(w)
    if a.ndim != 1 or a.shape != w.shape:
        raise BadInput(f"a is {a.shape} and w is {w.shape}: two vectors (J,) of one length are wanted")
    reference = exact.arithmetic_of(a).cast(reference)
    number = exact.arithmetic_of(a).number
    expansion = _expansion(reference, a, Neuron(np.arange(len(a)), w, np.array([number(b)])), R)
    if expansion is None:
        raise BadInput("the neuron has no expansion: z <= 0, or its line never meets the hinge")
    return expansion


def _expansion(reference: Reference, a: Array, neuron: Neuron, R: Any) -> Expansion | None:
    a = np.concatenate([neuron.b * 0 + 1, a])
    w = np.concatenate([neuron.b, neuron.w])
    z = (a * w).sum()
    if not _positive(z):
        return None
    model = RelevanceModel(w, R / z)
    point = reference.point(model, a)
    return None if point is None else Expansion(model, a, point)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """
    The expansions of a layer's neurons, added up: sum R = sum of `relevance` + all other fields.

    Parameters
    ----------
    relevance : ndarray, like the layer's input
        Sum over the neurons of their first-order terms.
    bias : ndarray, shape (N,)
        Sum of the terms of the coordinate a_0.
    zero_order : ndarray, shape (N,)
        Sum of R~_k(a~).
    left_out : ndarray, shape (N,)
        Sum of the R_k of neurons that have no expansion: inactive ones, and those whose line never meets
        the hinge.
    """

    relevance: Array
    bias: Array
    zero_order: Array
    left_out: Array


def decompose(layer: Layer, reference: Reference, a: Any, R: Any) -> Decomposition:
    """
    Decompose the relevance of a layer's output by deep Taylor decomposition.

    Parameters
    ----------
    layer : Dense or Conv2d
        The layer, whose ReLU comes next.
    reference : Reference
        Where each neuron's relevance is expanded.
    a : ndarray, shape (N, ...)
        Lower activations: floats, or numbers of `lrpref.exact`.
    R : ndarray, shape (N, ...)
        Relevance of the layer's output.

    Returns
    -------
    Decomposition
        What the lower neurons receive, and the rest.

    Raises
    ------
    BadInput
        If R has not the shape of the layer's output.
    BadRule
        If the layer is neither dense nor a convolution.
    """
    a, R = np.asarray(a), np.asarray(R)
    arithmetic, shape = exact.arithmetic_of(a), a.shape[1:]
    apart = list(neurons(arithmetic.cast(layer), shape))
    if R.shape != (len(a), *layer.output_shape(shape)):
        raise BadInput(f"R is {R.shape}, wants the layer's output {(len(a), *layer.output_shape(shape))}")
    flat, R = a.reshape(len(a), -1), arithmetic.array(R.reshape(len(a), -1))
    relevance, (bias, zero_order, left_out) = zeros_like(flat), (zeros_like(flat[:, 0]) for _ in range(3))
    reference = arithmetic.cast(reference)
    for k, neuron in enumerate(apart):
        local = reference.at(neuron.inputs, shape)
        for n in range(len(a)):
            expansion = _expansion(local, flat[n, neuron.inputs], neuron, R[n, k])
            if expansion is None:
                left_out[n] += R[n, k]
                continue
            bias[n] += expansion.terms[0]
            relevance[n, neuron.inputs] += expansion.terms[1:]
            zero_order[n] += expansion.zero_order
    return Decomposition(relevance.reshape(a.shape), bias, zero_order, left_out)


def modulation(a: Array, R: Array) -> Array:
    """
    Give the modulation c = R / a of a layer's neurons: what the relevance model holds constant.

    Appendix 10.B argues that under LRP-0, LRP-eps and LRP-gamma c_k(a) is nearly constant around the data.

    Parameters
    ----------
    a : ndarray
        Activations of the neurons.
    R : ndarray, like a
        Their relevance.

    Returns
    -------
    ndarray, like a
        c, and 0 where a = 0.
    """
    idle = equal(a, 0)
    return np.where(idle, zeros_like(a), R / np.where(idle, zeros_like(a) + 1, a))
