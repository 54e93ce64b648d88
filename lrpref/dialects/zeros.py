"""Denominators of 0 as a library has them that replaces just these (D1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrpref.kernels.operations import Array, Gate, Operation, Sums, Term
from lrpref.kernels.signs import equal, zeros_like


class ZeroReplaced:
    """
    A function table in which a denominator of 0 is replaced; all else is the backend's.

    Parameters
    ----------
    kernels : object
        The backend.
    eps : number
        What stands in the place of 0, in the unit of z.
    """

    def __init__(self, kernels: Any, eps: Any) -> None:
        self.kernels, self.eps = kernels, eps

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernels, name)

    def quotient(
        self,
        op: Operation,
        a: Array,
        terms: Sequence[Term],
        b: Array | None,
        R: Array,
        eps: Array,
        signed: bool = True,
        z: Array | None = None,
        gate: Gate | None = None,
    ) -> tuple[Array, Sums]:
        """
        Run steps 1 and 2, z = 0 being replaced.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : ndarray, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            What enters the sum.
        b : ndarray or None
            Bias.
        R : ndarray, shape (N, ...)
            Relevance of the upper neurons.
        eps : ndarray, shape (N,)
            Stabilizer, in the unit of z.
        signed : bool
            Whether eps takes the sign of z.
        z : ndarray, optional
            z where it is already known.
        gate : (ndarray, int), optional
            The layer's own z, and the sign it has where R_k enters.

        Returns
        -------
        s : ndarray, like R
            R / z.
        sums : Sums
            What is booked; what stands in the place of 0 is a stabilizer.
        """
        kernels = self.kernels
        z = kernels.preactivation(op, a, terms, b) if z is None else z
        home = zeros_like(kernels.download(z))
        added = kernels.upload(np.where(equal(kernels.download(z), 0), home + self.eps, home))
        s, sums = kernels.quotient(op, a, terms, b, R, eps, signed, z + added, gate)
        return s, sums._replace(stabilizer=sums.stabilizer + kernels.per_sample(s * added))
