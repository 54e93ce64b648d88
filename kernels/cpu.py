"""The fast backend for processors: `cpu`, float32 and float64.

The four steps fused, on all cores. Convolutions are shifted matrix products on blocks that stay in cache
(`shifted.py`): z and c never exist as whole arrays. Dense layers read every weight once per pass, which
is all that limits them. The rest is loops over the planes of an image, compiled by Numba.

A transposed convolution takes the same two maps in each other's place, but whole: its z and c do exist.

Every sum is taken in an order that depends on the shapes and the number of threads, never on which thread
is faster: the same call gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numba
import numpy as np

from lrpref.errors import BadBackend
from lrpref.kernels import pooling, shifted
from lrpref.kernels.compiled import compiled, given, reordered, share
from lrpref.kernels.operations import A, Array, Gate, Operation, Sums, Term
from lrpref.kernels.pooling import geometry_of
from lrpref.kernels.reference import Reference
from lrpref.kernels.rows import (
    divide_row,
    known_part,
    scale_row,
    sum_row,
    sum_squares,
    weigh_row,
)
from lrpref.kernels.signs import ones_like

_FEW = 4
"""Up to so many samples the weights of a dense layer are streamed; with more BLAS has enough to do."""

_RUNS = 8
"""Runs of outputs whose parts of c are added up on their own; the threads share them."""


# Dense layers: each weight is read once, for all samples.


@reordered
def _dot(a: Array, w: Array) -> Any:
    total = w.dtype.type(0)
    for j in range(w.size):
        total += a[j] * w[j]
    return total


@compiled
def _dense(a: Array, w: Array, z: Array, start: int, stop: int) -> None:
    # a (N, J), w (K, J) -> z (N, K)
    for k in range(start, stop):
        for n in range(a.shape[0]):
            z[n, k] = _dot(a[n], w[k])


@compiled
def _dense_transpose(s: Array, w: Array, parts: Array, start: int, stop: int) -> None:
    # s (N, K), w (K, J) -> parts (runs, N, J), whose sum is c
    for run in range(start, stop):
        parts[run] = 0
        for k in range(run * w.shape[0] // len(parts), (run + 1) * w.shape[0] // len(parts)):
            row = w[k]
            for n in range(s.shape[0]):
                s_k, c = s[n, k], parts[run, n]
                for j in range(row.size):
                    c[j] += s_k * row[j]


# Steps 2 and 4 on whole arrays, and sums; planes are what lies beyond (N, K), or runs of one sample.


@compiled
def _divide(
    z: Array, R: Array, own: Array, sign: int, eps: Array, signed: bool, b: Array, s: Array, sums: Array,
    start: int, stop: int,
) -> None:  # fmt: skip
    # z, R, own (N, K, P), eps (N,), b (K,) -> s (N, K, P), sums (N * K, 3)
    for plane in range(start, stop):
        n, k = divmod(plane, z.shape[1])
        divide_row(z[n, k], R[n, k], own[n, k], sign, eps[n], signed, b[k], s[n, k], sums[plane])


@compiled
def _weigh(
    c: Array, p: Array, part: int, q: Any, add: bool, last: bool, R: Array, sums: Array, start: int, stop: int
) -> None:
    # c, p (N * J, P) -> R (N * J, P), sums (N * J,)
    for plane in range(start, stop):
        weigh_row(c[plane], p[plane], part, add, R[plane])
        if last:
            sums[plane] = scale_row(R[plane], q)


@compiled
def _sum_planes(x: Array, squares: bool, sums: Array, start: int, stop: int) -> None:
    # x (M, P) -> sums (M,)
    for plane in range(start, stop):
        sums[plane] = sum_squares(x[plane]) if squares else sum_row(x[plane])


@compiled
def _rectify(x: Array, y: Array, start: int, stop: int) -> None:
    # x (M, P) -> y (M, P)
    for plane in range(start, stop):
        for i in range(x.shape[1]):
            y[plane, i] = x.dtype.type(0) if x[plane, i] <= 0 else x[plane, i]


def _planes(x: Array) -> Array:
    """View (N, C, H, W) as (N * C, H, W)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _by_plane(w: Array) -> Array:
    """View the weights of a pooling, (Ho, Wo) or (T, N, C, Ho, Wo), as (T, planes, Ho, Wo)."""
    return w[None, None] if w.ndim == 2 else w.reshape(len(w), w.shape[1] * w.shape[2], *w.shape[3:])


def _of_samples(sums: Array, samples: int) -> Array:
    """Add up the sums of the rows, sample by sample."""
    return sums.reshape(samples, len(sums) // max(samples, 1)).sum(axis=1)


def _rows(x: Array) -> Array:
    """View (N, K, ...) as (N * K, P); (N, K) as N rows."""
    split = 1 if x.ndim == 2 else 2
    return x.reshape(math.prod(x.shape[:split]), math.prod(x.shape[split:]))


def _per_channel(b: Array | None, z: tuple[int, ...], dtype: Any) -> Array | None:
    """Give the bias as one number per channel, (K,); None where it varies within a channel."""
    if b is None:
        return np.zeros(z[1], dtype)
    if b.size == 1 or (b.size == z[1] and np.broadcast_shapes(b.shape, (1, *z[1:])) == (1, *z[1:])):
        channels = b.shape[-(len(z) - 1)] if b.ndim >= len(z) - 1 else 1
        if b.size in (1, channels):
            return np.broadcast_to(np.asarray(b, dtype).reshape(-1), z[1]).copy()
    return None


class Table(Reference):
    """The function table of `operations.py`, fused and on all cores."""

    def prepare(self, op: Operation, w: Any) -> Any:
        """
        Lay out the weights: a convolution's in the order in which they are read, others as they are.

        Parameters
        ----------
        op : Operation
            What they are for.
        w : ndarray
            Weights.

        Returns
        -------
        Kernel or ndarray
            What the other functions take; `.nbytes` says how large.
        """
        if op.name not in ("conv2d", "conv_transpose2d") or isinstance(w, shifted.Kernel):
            return w
        return shifted.Kernel(op, w)

    # The linear maps and their transposes.

    def dense(self, a: Array, w: Array, op: Operation) -> Array:
        a = given(a)
        w = given(w, a.dtype)
        if len(a) > _FEW:
            return a @ w.T
        z = np.empty((len(a), len(w)), a.dtype)
        share(len(w), partial(_dense, a, w, z))
        return z

    def dense_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        s = given(s)
        w = given(w, s.dtype)
        if len(s) > _FEW:
            return s @ w
        parts = np.empty((min(_RUNS, len(w)), len(s), w.shape[1]), s.dtype)
        share(len(parts), partial(_dense_transpose, s, w, parts))
        return np.asarray(parts.sum(axis=0))

    def conv2d(self, a: Array, w: Any, op: Operation) -> Array:
        return self._convolve(op, a, [(a, w)], None)

    def conv2d_transpose(self, s: Array, w: Any, op: Operation) -> Array:
        s = given(s)
        c = np.empty((len(s), w.shape[1] * op.groups, *op.size), s.dtype)
        shifted.redistribute(op, self._terms(op, c, [(ones_like(A), w)]), s, s.dtype.type(1), c)
        return c

    def sum_pool2d(self, a: Array, w: Array, op: Operation) -> Array:
        return self._pool(a, w, op)

    def sum_pool2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self._pool_transpose(s, w, op)

    def select2d(self, a: Array, w: Array, op: Operation) -> Array:
        return self._pool(a, w, op)

    def select2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self._pool_transpose(s, w, op)

    def _pool(self, a: Array, w: Array, op: Operation) -> Array:
        a, w = given(a), _by_plane(given(w, a.dtype))
        z = np.empty((*a.shape[:2], *op.window.positions(op.size)), a.dtype)
        share(len(_planes(a)), partial(pooling.pool, _planes(a), w, geometry_of(op), _planes(z)))
        return z

    def _pool_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        s, w = given(s), _by_plane(given(w, s.dtype))
        c = np.empty((*s.shape[:2], *op.size), s.dtype)
        share(len(_planes(s)), partial(pooling.pool_transpose, _planes(s), w, geometry_of(op), _planes(c)))
        return c

    def region_sum2d(self, a: Array, w: Array, op: Operation) -> Array:
        return super().region_sum2d(given(a), given(w, a.dtype), op)

    def region_sum2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return super().region_sum2d_transpose(given(s), given(w, s.dtype), op)

    def scale(self, a: Array, w: Array, op: Operation) -> Array:
        return given(a) * given(w, a.dtype)

    def scale_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return given(s) * given(w, s.dtype)

    def total(self, a: Array, w: Array, op: Operation) -> Array:
        return super().total(given(a), given(w, a.dtype), op)

    def total_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return super().total_transpose(given(s), given(w, s.dtype), op)

    # Max pooling.

    def max_pool2d(self, a: Array, op: Operation) -> Array:
        a = given(a)
        ho, wo = op.window.positions(op.size)
        image = np.ones((1, 1, *op.size), a.dtype)
        covered = given(super().max_pool2d(image, op)[0, 0])  # 1 where a window meets the image
        z = np.empty((*a.shape[:2], ho, wo), a.dtype)
        share(len(_planes(a)), partial(pooling.max_pool, _planes(a), geometry_of(op), covered, _planes(z)))
        return z

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        a = given(a)
        z = self.max_pool2d(a, op)
        winners = np.empty((op.window.kernel[0] * op.window.kernel[1], *z.shape), a.dtype)
        found = winners.reshape(len(winners), len(_planes(z)), *z.shape[2:])
        lines = partial(
            pooling.winners, _planes(a), given(_planes(z)), geometry_of(op), ties == "first", found
        )
        share(len(_planes(a)), lines)
        return winners

    # The four steps.

    def _terms(self, op: Operation, a: Array, terms: Sequence[Term]) -> list[tuple[Array, int, Any]]:
        """Give the terms of a convolution as arrays, parts and laid-out weights."""
        found = []
        for p, w in terms:
            array, part = known_part(p, a)
            w = self.prepare(op, w)
            given(np.empty(0, w.dtype), a.dtype)
            found.append((given(array, a.dtype), part, w))
        return found

    def preactivation(self, op: Operation, a: Array, terms: Sequence[Term], b: Array | None) -> Array:
        if op.name != "conv2d":
            return super().preactivation(op, a, terms, b)
        return self._convolve(op, a, terms, b)

    def _convolve(self, op: Operation, a: Array, terms: Sequence[Term], b: Array | None) -> Array:
        """Step 1 of a convolution, or step 3 of a transposed one."""
        found = self._terms(op, a, terms)
        z = np.empty((len(a), found[0][2].shape[0], *op.window.positions(op.size)), a.dtype)
        bias = _per_channel(b, z.shape, z.dtype)
        shifted.preactivation(op, found, np.zeros(z.shape[1], z.dtype) if bias is None else bias, z)
        return z if bias is not None else z + b

    def divide(
        self, z: Array, b: Array | None, R: Array, eps: Array, signed: bool, gate: Gate | None = None
    ) -> tuple[Array, Sums]:
        z = given(z)
        R, (own, sign) = given(R, z.dtype), (R, 0) if gate is None else gate
        s = np.empty(z.shape, z.dtype)
        bias = _per_channel(b, z.shape, z.dtype)
        n, k = z.shape[:2]
        cells = (n, k, math.prod(z.shape[2:]))
        sums = np.zeros((n * k, 3))
        none = np.zeros(k, z.dtype)
        lines = partial(
            _divide, z.reshape(cells), R.reshape(cells), given(own, z.dtype).reshape(cells), sign,
            eps.astype(z.dtype), signed, none if bias is None else bias, s.reshape(cells), sums,
        )  # fmt: skip
        share(n * k, lines)
        booked = Sums(*sums.reshape(n, k, 3).sum(axis=1).T)
        return s, booked if bias is not None else booked._replace(bias=self.per_sample(s * b))

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
        R = given(R)
        bias = _per_channel(b, R.shape, R.dtype)
        if op.name != "conv2d" or z is not None or bias is None:
            return super().quotient(op, a, terms, b, R, eps, signed, z, gate)
        own, sign = (R, 0) if gate is None else gate
        s = np.empty(R.shape, R.dtype)
        found = self._terms(op, a, terms)
        sums = shifted.quotient(op, found, bias, R, given(own, R.dtype), sign, eps.astype(R.dtype), signed, s)
        return s, Sums(*sums.T)

    def redistribute(
        self, op: Operation, a: Array, terms: Sequence[Term], s: Array, coefficient: Any = 1
    ) -> tuple[Array, Array]:
        s = given(s)
        q = s.dtype.type(coefficient)
        R = np.empty(a.shape, s.dtype)
        if op.name == "conv2d":
            return R, shifted.redistribute(op, self._terms(op, a, terms), s, q, R)
        sums = np.zeros(len(_rows(R)))
        for i, (p, w) in enumerate(terms):
            c = given(self.transpose(op, s, w))  # step 3
            array, part = known_part(p, a)
            p_rows, last = _rows(given(array, s.dtype)), i == len(terms) - 1
            lines = partial(_weigh, _rows(c), p_rows, part, q, i > 0, last, _rows(R), sums)
            share(len(sums), lines)  # step 4
        return R, _of_samples(sums, len(R))

    def mean_square(self, z: Array) -> Array:
        return self._sums(z, True) / max(1, math.prod(z.shape[1:]))

    def per_sample(self, x: Array) -> Array:
        return self._sums(x, False)

    def _sums(self, x: Array, squares: bool) -> Array:
        rows = _rows(given(x))
        sums = np.empty(len(rows))
        share(len(rows), partial(_sum_planes, rows, squares, sums))
        return _of_samples(sums, len(x))

    def activation(self, name: str, x: Array, *parameters: Any) -> Array:
        x = given(x)
        if name != "relu":
            return super().activation(name, x, *parameters)
        y = np.empty(x.shape, x.dtype)
        share(len(_rows(x)), partial(_rectify, _rows(x), _rows(y)))
        return y


def table() -> Table:
    """
    Give the backend `cpu`.

    Returns
    -------
    Table
        The function table.

    Raises
    ------
    BadBackend
        If Numba's compiler is turned off.
    """
    config: Any = numba.config
    if config.DISABLE_JIT:
        raise BadBackend("backend 'cpu' is compiled, and NUMBA_DISABLE_JIT is set: unset it, or use 'numpy'")
    return Table()
