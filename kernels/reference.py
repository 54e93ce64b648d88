"""The truth: every linear map, its transpose and the four steps in NumPy, for any dtype.

Backend `numpy`. All lines use only + - * / and comparison, so they run unchanged on float32,
float64, longdouble, and on `object` arrays of rationals or balls. `operations.py` lists the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrpref.kernels.host import Host
from lrpref.kernels.operations import Array, Gate, Operation, Sums, Term, taken
from lrpref.kernels.signs import check_finite, equal, greater, per_sample, zeros, zeros_like


def _pad(a: Array, op: Operation) -> Array:
    """Surround (N, C, H, W) with the window's zeros."""
    top, _, left, _ = op.window.padding
    n, c, h, w = a.shape
    if op.window.padded((h, w)) == (h, w):
        return a
    padded = zeros((n, c, *op.window.padded((h, w))), a)
    padded[:, :, top : top + h, left : left + w] = a
    return padded


def _crop(padded: Array, op: Operation) -> Array:
    """Take the image out of its padding: the transpose of `_pad`."""
    top, _, left, _ = op.window.padding
    h, w = op.size
    return padded[:, :, top : top + h, left : left + w]


class Reference(Host):
    """The function table of `operations.py` in NumPy; other backends replace the lines they do better."""

    # The linear maps and their transposes, side by side.

    def dense(self, a: Array, w: Array, op: Operation) -> Array:
        return a @ w.T  # (N, J) (J, K) -> (N, K)

    def dense_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return s @ w  # (N, K) (K, J) -> (N, J)

    def conv2d(self, a: Array, w: Array, op: Operation) -> Array:
        # a (N, C, H, W), w (K, C/G, kh, kw) -> (N, K, Ho, Wo): one matrix product for each tap and group
        n, c, g, k = len(a), a.shape[1], op.groups, len(w)
        ho, wo = op.window.positions(op.size)
        padded = _pad(a, op)
        z = zeros((n, g, k // g, ho * wo), a)
        for i, j, rows, columns in op.window.taps(op.size):
            tap = padded[:, :, rows, columns].reshape(n, g, c // g, ho * wo)  # (N, G, C/G, L)
            z += w[:, :, i, j].reshape(g, k // g, c // g) @ tap
        return z.reshape(n, k, ho, wo)

    def conv2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        # s (N, K, Ho, Wo) -> (N, C, H, W)
        (n, k, ho, wo), g = s.shape, op.groups
        c = w.shape[1] * g
        s = s.reshape(n, g, k // g, ho * wo)
        padded = zeros((n, c, *op.window.padded(op.size)), s)
        for i, j, rows, columns in op.window.taps(op.size):
            tap = w[:, :, i, j].reshape(g, k // g, c // g).swapaxes(1, 2) @ s
            padded[:, :, rows, columns] += tap.reshape(n, c, ho, wo)
        return _crop(padded, op)

    def conv_transpose2d(self, a: Array, w: Array, op: Operation) -> Array:
        return self.conv2d_transpose(a, w, op)  # (N, C, Ho, Wo), (C, K/G, kh, kw) -> (N, K, H, W)

    def conv_transpose2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self.conv2d(s, w, op)

    def sum_pool2d(self, a: Array, w: Array, op: Operation) -> Array:
        padded = _pad(a, op)
        z = zeros((*a.shape[:2], *op.window.positions(op.size)), a)
        for _, _, rows, columns in op.window.taps(op.size):
            z += padded[:, :, rows, columns]
        return z * w

    def sum_pool2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        padded = zeros((*s.shape[:2], *op.window.padded(op.size)), s)
        for _, _, rows, columns in op.window.taps(op.size):
            padded[:, :, rows, columns] += s * w
        return _crop(padded, op)

    def region_sum2d(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((*a.shape[:2], len(op.rows), len(op.columns)), a)
        for i, (top, bottom) in enumerate(op.rows):
            for j, (left, right) in enumerate(op.columns):
                z[:, :, i, j] = a[:, :, top:bottom, left:right].sum(axis=(2, 3))
        return z * w

    def region_sum2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((*s.shape[:2], *op.size), s)
        for i, (top, bottom) in enumerate(op.rows):
            for j, (left, right) in enumerate(op.columns):
                c[:, :, top:bottom, left:right] += (s * w)[:, :, i : i + 1, j : j + 1]
        return c

    def select2d(self, a: Array, w: Array, op: Operation) -> Array:
        padded = _pad(a, op)
        z = zeros(w.shape[1:], a)
        for t, (_, _, rows, columns) in enumerate(op.window.taps(op.size)):
            z += w[t] * padded[:, :, rows, columns]
        return z

    def select2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        padded = zeros((*s.shape[:2], *op.window.padded(op.size)), s)
        for t, (_, _, rows, columns) in enumerate(op.window.taps(op.size)):
            padded[:, :, rows, columns] += w[t] * s
        return _crop(padded, op)

    def scale(self, a: Array, w: Array, op: Operation) -> Array:
        return a * w

    def scale_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return s * w

    def total(self, a: Array, w: Array, op: Operation) -> Array:
        return np.asarray((a * w).sum(axis=1))  # (N, M, ...) -> (N, ...)

    def total_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return s[:, None] * w  # (N, ...) -> (N, M, ...)

    # Max pooling: the forward step, and who won.

    def max_pool2d(self, a: Array, op: Operation) -> Array:
        padded, image = _pad(a, op), _pad(np.ones((1, 1, *op.size), bool), op)
        z = zeros((*a.shape[:2], *op.window.positions(op.size)), a)
        seen = np.zeros(z.shape, bool)
        for _, _, rows, columns in op.window.taps(op.size):
            tap, inside = padded[:, :, rows, columns], image[:, :, rows, columns]
            better = inside & (~seen | greater(tap, z))
            z = np.where(better, tap, z)
            seen |= inside
        return z

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        padded, image = _pad(a, op), _pad(np.ones((1, 1, *op.size), bool), op)
        z = self.max_pool2d(a, op)
        winners = zeros((np.prod(op.window.kernel, dtype=int), *z.shape), a)
        taken = np.zeros(z.shape, bool)
        for t, (_, _, rows, columns) in enumerate(op.window.taps(op.size)):
            wins = image[:, :, rows, columns] & equal(padded[:, :, rows, columns], z)
            if ties == "first":
                wins &= ~taken
                taken |= wins
            winners[t][wins] += 1
        return winners

    # The four steps of Montavon et al. 2019, Section 10.2.2, on Eq. (10.2).

    def forward(self, op: Operation, p: Array, w: Any) -> Array:
        """Apply the linear map."""
        return getattr(self, op.name)(p, w, op)

    def transpose(self, op: Operation, s: Array, w: Any) -> Array:
        """Apply the transposed linear map."""
        return getattr(self, op.name + "_transpose")(s, w, op)

    def preactivation(self, op: Operation, a: Array, terms: Sequence[Term], b: Array | None) -> Array:
        """Step 1: z_k = sum over terms of forward(p, w) + b."""
        (p, w), *more = terms
        z = self.forward(op, taken(p, a), w)
        for p, w in more:
            z = z + self.forward(op, taken(p, a), w)
        return z if b is None else z + b

    def divide(
        self, z: Array, b: Array | None, R: Array, eps: Array, signed: bool, gate: Gate | None = None
    ) -> tuple[Array, Sums]:
        """Step 2: s_k = R_k / (z_k + stabilizer), 0 where that is exactly 0; and what it books."""
        if gate is not None:
            own, sign = gate
            R = np.where(greater(sign * own, 0), R, zeros_like(R))
        eps = eps.reshape(-1, *[1] * (z.ndim - 1))
        stabilizer = np.where(greater(zeros_like(z), z), -eps, eps) if signed else eps
        denominator = z + stabilizer
        check_finite(denominator)
        zero = equal(denominator, 0)
        s = np.where(zero, zeros_like(R), R / np.where(zero, zeros_like(z) + 1, denominator))
        dropped = per_sample(np.where(zero, R, zeros_like(R)))
        return s, Sums(
            bias=dropped * 0 if b is None else per_sample(s * b),
            stabilizer=per_sample(s * stabilizer),
            dropped=dropped,
        )

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
        Run steps 1 and 2 of one share: z, and s = R / z.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : ndarray, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            What enters the sum; w as `prepare` made it.
        b : ndarray or None
            Bias, broadcastable to z.
        R : ndarray, shape (N, ...)
            Relevance of the upper neurons.
        eps : ndarray, shape (N,)
            Stabilizer, in the unit of z.
        signed : bool
            Whether eps takes the sign of z, with sign(0) = +1.
        z : ndarray, optional
            z where it is already known, bias included: then step 1 is not repeated.
        gate : (ndarray, int), optional
            The layer's own z, and the sign it has where R_k enters; elsewhere R_k counts as 0.

        Returns
        -------
        s : ndarray, like R
            R / z, and 0 where the stabilized denominator is exactly 0.
        sums : Sums
            What the bias and the stabilizer take, and what is dropped, per sample.
        """
        z = self.preactivation(op, a, terms, b) if z is None else z  # step 1
        return self.divide(z, b, R, eps, signed, gate)  # step 2

    def redistribute(
        self, op: Operation, a: Array, terms: Sequence[Term], s: Array, coefficient: Any = 1
    ) -> tuple[Array, Array]:
        """
        Run steps 3 and 4 of one share: c, and R_j = coefficient * sum over terms of p c.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : ndarray, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            The same as in `quotient`.
        s : ndarray
            From `quotient`.
        coefficient : number
            1, or alpha, or -beta.

        Returns
        -------
        R : ndarray, like a
            Relevance of the lower neurons.
        to_inputs : ndarray, shape (N,)
            Its sum per sample.
        """
        parts = [taken(p, a) * self.transpose(op, s, w) for p, w in terms]  # steps 3 and 4: p c
        R = coefficient * sum(parts[1:], parts[0])
        return R, self.per_sample(R)

    def mean_square(self, z: Array) -> Array:
        """Give the mean of z squared over a sample's units, shape (N,): the RMS is its root."""
        wide = z.astype(np.float64) if z.dtype == np.float32 else z  # squares of large float32 would overflow
        units = wide.reshape(len(z), -1)
        return np.asarray((units * units).sum(axis=1) / units.shape[1])

    def per_sample(self, x: Array) -> Array:
        """Sum over everything but the samples: (N, ...) -> (N,), in float64 or the arithmetic of x."""
        return per_sample(x)


REFERENCE = Reference()


def table() -> Reference:
    """
    Give the backend `numpy`.

    Returns
    -------
    Reference
        The table.
    """
    return REFERENCE
