"""The function that is explained: f(x), the score of a class before softmax, at many points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrpref import exact, heads
from lrpref.checks import whole
from lrpref.engine import Prepared, activate
from lrpref.errors import BadInput
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import zeros_like
from lrpref.network import Network, Node
from lrpref.plan import prepare
from lrpref.rules import Pass

BATCH = 64
"""Points that are given to the network at once, unless another number is asked for."""


@dataclass(frozen=True, eq=False)
class Score:
    """
    The score that is explained for each sample of a batch.

    The weights are cast and laid out once for all points.

    Parameters
    ----------
    network : Network
        Without a final softmax, in the arithmetic that is computed in.
    prepared : mapping of str to Prepared
        Its nodes.
    x : ndarray, shape (N, ...)
        The inputs, in the arithmetic that is computed in.
    classes : ndarray of int, shape (N,)
        The class whose score is meant, for each sample.
    backend, dtype : str
        Who computes, and in which arithmetic.
    batch : int
        Points that are given to the network at once.
    watch : callable, optional
        Called with how many points have been computed since its last call.
    """

    network: Network
    prepared: Mapping[str, Prepared]
    x: Array
    classes: Array
    backend: str = "numpy"
    dtype: str = "float64"
    batch: int = BATCH
    watch: Callable[[int], None] | None = None

    @classmethod
    def of(
        cls,
        network: Network,
        x: Any,
        target: heads.Target = "max",
        *,
        backend: str = "numpy",
        dtype: str = "float64",
        batch: int = BATCH,
        watch: Callable[[int], None] | None = None,
    ) -> Score:
        """
        Settle what is explained: with target "max" the class with the highest score at x.

        Parameters
        ----------
        network : Network
            The network.
        x : array_like, shape (N, ...)
            Preprocessed inputs.
        target : int, sequence of int, or "max"
            The class whose score before softmax is meant.
        backend : str
            A name that `lrpref.kernels.backend` knows.
        dtype : str
            One of `lrpref.exact.DTYPES`.
        batch : int
            Points that are given to the network at once.
        watch : callable, optional
            Called with how many points have been computed since its last call.

        Returns
        -------
        Score
            The score.

        Raises
        ------
        BadInput
            If the inputs or the target do not fit, or the network's output is not finite.
        BadBackend
            If the backend or dtype is unknown.
        """
        arithmetic = exact.get(dtype)
        scored = network.before_softmax().astype(arithmetic)
        x = arithmetic.array(scored.check_input(x))
        passing = dict.fromkeys(scored.shapes, Pass())  # no rule is asked for
        prepared = prepare(scored, passing, get_backend(backend), arithmetic)
        score = cls(scored, prepared, x, np.zeros(len(x), int), backend, dtype, whole("batch", batch), watch)
        return replace(score, classes=heads.classes(score.outputs(x), target))

    def outputs(self, points: Array) -> Array:
        """
        Compute all outputs of the network.

        Parameters
        ----------
        points : ndarray, shape (M, ...)
            Inputs.

        Returns
        -------
        ndarray, shape (M, ...)
            The scores of all classes.
        """
        kernels, top = get_backend(self.backend), self.network.top
        parts = []
        for some in self._parts(len(points)):
            values = self._activations(points[some])
            parts.append(self.network.check_output(kernels.download(values[top])))
        return np.concatenate(parts)

    def values(self, points: Array) -> Array:
        """
        Compute f at other points.

        Parameters
        ----------
        points : ndarray, shape (M * N, ...)
            Inputs: one point for each of the N samples in turn, M times.

        Returns
        -------
        ndarray, shape (M * N,)
            Scores of each sample's class.
        """
        rows = np.arange(len(points))
        return self.outputs(points).reshape(len(points), -1)[rows, self._classes(points)]

    def gradients(self, points: Array) -> Array:
        """
        Compute the gradient of f at other points.

        Parameters
        ----------
        points : ndarray, shape (M * N, ...)
            Inputs: one point for each of the N samples in turn, M times.

        Returns
        -------
        ndarray, like points
            Gradients, in units of the score per unit of x.
        """
        kernels, classes = get_backend(self.backend), self._classes(points)
        parts = []
        for some in self._parts(len(points)):
            values = self._activations(points[some])
            ones = heads.one_hot(kernels.download(values[self.network.top]), classes[some])
            gradient = self.network.walk_back(values, kernels.upload(ones), self._backward)
            parts.append(kernels.download(gradient))
        return np.concatenate(parts)

    def _activations(self, points: Array) -> dict[str, Array]:
        """Run the forward pass on points that the network takes at once."""
        points = exact.get(self.dtype).array(self.network.check_input(points))
        with np.errstate(over="ignore", invalid="ignore"):
            return activate(self.network, self.prepared, get_backend(self.backend).upload(points))

    def _backward(self, node: Node, inputs: list[Array], g: Array) -> list[Array]:
        return self.prepared[node.name].gradient(inputs, g)

    def mean_gradient(self, point: Callable[[int], Array], weights: Sequence[Any]) -> Array:
        """
        Add up gradients: sum over m of weights[m] times the gradient at point(m).

        Parameters
        ----------
        point : callable
            Gives the m-th point of every sample, like x.
        weights : sequence of number
            The weights.

        Returns
        -------
        ndarray, like x
            The weighted sum.
        """
        total, at_once = zeros_like(self.x), max(1, self.batch // len(self.x))
        for start in range(0, len(weights), at_once):
            some = range(start, min(start + at_once, len(weights)))
            gradients = self.gradients(np.concatenate([point(m) for m in some]))
            for m, gradient in zip(some, np.split(gradients, len(some)), strict=True):
                total = total + weights[m] * gradient
        return total

    def like_x(self, what: str, value: Any) -> Array:
        """
        Read a baseline: an input, one for each sample, or numbers that broadcast to it.

        Parameters
        ----------
        what : str
            What it is called, for the error.
        value : array_like
            A number, numbers (C,) for the channels of an image, one sample, or a batch like x.

        Returns
        -------
        ndarray, like x
            The inputs.

        Raises
        ------
        BadInput
            If it is not of such a shape, or holds NaN or infinity.
        """
        try:
            given = np.asarray(value)
            numbers = given.dtype.kind in "iufO" and np.isfinite(exact.as_float(given)).all()
        except (TypeError, ValueError):  # rows of different lengths, or objects that are no numbers
            numbers = False
        if not numbers:
            raise BadInput(f"{what} is {' '.join(repr(value).split()):.60}: finite real numbers are wanted")
        shape = self.x.shape
        if given.ndim == 1 and len(shape) == 4:
            given = given[:, None, None]
        try:
            return exact.get(self.dtype).array(np.broadcast_to(given, shape))
        except ValueError:
            wanted = f"a number, {shape[1:]} or {shape}"
            raise BadInput(f"{what} is of shape {given.shape}, wants {wanted}") from None

    def size(self) -> tuple[int, ...]:
        """
        Give the size of what patches are cut from.

        Returns
        -------
        tuple of int
            (H, W) of an image, (J,) of a vector.

        Raises
        ------
        BadInput
            If the inputs are neither.
        """
        if self.x.ndim not in (2, 4):
            shape = self.x.shape[1:]
            raise BadInput(f"input is {shape}: only images (C, H, W) and vectors (J,) have patches")
        return self.x.shape[2:] or self.x.shape[1:]

    def _classes(self, points: Array) -> Array:
        return np.tile(self.classes, len(points) // len(self.x))

    def _parts(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self.batch):
            yield slice(start, start + self.batch)
            if self.watch is not None:
                self.watch(min(self.batch, count - start))
