"""Explicit loops: one loop for each index, the formula in the innermost line.

Backend `loops`. The same lines run twice: as plain Python, which is slow and takes any numbers (the
oracle of the tests, `PLAIN`), and compiled by Numba for float32 and float64 (the table
`COMPILED`). Shared with `reference.py` are the table's signatures, and nothing else.

Outputs come in as zeros of the right kind and are filled. Padding contributes nothing because taps
outside the image are skipped. `prange` marks the loop whose turns run in parallel; each cell of an
output is written by one turn only, in a fixed order, so the result does not depend on the threads.

Indices: n samples; k outputs, c and j inputs (channels, or neurons); (y, x) the window's position,
(i, j) its tap, (v, u) the pixel under that tap; m summands; p pixels of a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import prange

from lrpref.errors import BadBackend
from lrpref.kernels.host import Host
from lrpref.kernels.operations import Array, Gate, Operation, Sums, Term, taken
from lrpref.kernels.signs import check_finite, zeros, zeros_like

Geometry = tuple[int, int, int, int, int, int]
"""Stride (down, right), dilation (down, right), padding (top, left)."""


@dataclass(frozen=True)
class Loop:
    """
    A function made of loops, in its two forms.

    Parameters
    ----------
    plain : callable
        The lines as Python runs them.
    compiled : callable
        The same lines as Numba compiles them, at the first call for a dtype.
    """

    plain: Callable[..., None]
    compiled: Callable[..., None]


def loop(function: Callable[..., None]) -> Loop:
    """
    Keep a function of loops both as it is and compiled.

    Parameters
    ----------
    function : callable
        Fills its last arguments from its first ones.

    Returns
    -------
    Loop
        Both forms.
    """
    try:
        compiled = numba.njit(parallel=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # Numba finds no folder that it may write its cache to
        compiled = numba.njit(parallel=True, error_model="numpy")(function)
    return Loop(function, compiled)


# The linear maps and their transposes, side by side: the same loops, with input and output exchanged.


@loop
def _dense(a: Array, w: Array, z: Array) -> None:
    # a (N, J), w (K, J) -> z (N, K)
    for n in range(a.shape[0]):
        for k in prange(w.shape[0]):
            for j in range(w.shape[1]):
                z[n, k] += a[n, j] * w[k, j]


@loop
def _dense_transpose(s: Array, w: Array, c: Array) -> None:
    # s (N, K), w (K, J) -> c (N, J)
    for n in range(s.shape[0]):
        for j in prange(w.shape[1]):
            for k in range(w.shape[0]):
                c[n, j] += s[n, k] * w[k, j]


@loop
def _conv2d(a: Array, w: Array, geometry: Geometry, groups: int, z: Array) -> None:
    # a (N, C, H, W), w (K, C/G, kh, kw) -> z (N, K, Ho, Wo)
    sy, sx, dy, dx, top, left = geometry
    outputs, inputs = w.shape[0] // groups, w.shape[1]  # of one group
    for n in range(a.shape[0]):
        for k in prange(z.shape[1]):
            first = k // outputs * inputs  # channel of the group
            for c in range(inputs):
                for i in range(w.shape[2]):
                    for j in range(w.shape[3]):
                        for y in range(z.shape[2]):
                            for x in range(z.shape[3]):
                                v, u = sy * y + dy * i - top, sx * x + dx * j - left
                                if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                                    z[n, k, y, x] += a[n, first + c, v, u] * w[k, c, i, j]


@loop
def _conv2d_transpose(s: Array, w: Array, geometry: Geometry, groups: int, c: Array) -> None:
    # s (N, K, Ho, Wo), w (K, C/G, kh, kw) -> c (N, C, H, W)
    sy, sx, dy, dx, top, left = geometry
    outputs, inputs = w.shape[0] // groups, w.shape[1]  # of one group
    for n in range(s.shape[0]):
        for j in prange(c.shape[1]):
            group, channel = j // inputs, j % inputs
            for k in range(group * outputs, (group + 1) * outputs):
                for i in range(w.shape[2]):
                    for h in range(w.shape[3]):
                        for y in range(s.shape[2]):
                            for x in range(s.shape[3]):
                                v, u = sy * y + dy * i - top, sx * x + dx * h - left
                                if 0 <= v < c.shape[2] and 0 <= u < c.shape[3]:
                                    c[n, j, v, u] += s[n, k, y, x] * w[k, channel, i, h]


@loop
def _sum_pool2d(a: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W), w (Ho, Wo) -> z (N, C, Ho, Wo)
    sy, sx, dy, dx, top, left = geometry
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    for y in range(z.shape[2]):
                        for x in range(z.shape[3]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                                z[n, c, y, x] += a[n, c, v, u] * w[y, x]


@loop
def _sum_pool2d_transpose(s: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, c: Array) -> None:
    # s (N, C, Ho, Wo), w (Ho, Wo) -> c (N, C, H, W)
    sy, sx, dy, dx, top, left = geometry
    for n in range(s.shape[0]):
        for k in prange(s.shape[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    for y in range(s.shape[2]):
                        for x in range(s.shape[3]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            if 0 <= v < c.shape[2] and 0 <= u < c.shape[3]:
                                c[n, k, v, u] += s[n, k, y, x] * w[y, x]


@loop
def _region_sum2d(a: Array, w: Array, rows: Array, columns: Array, z: Array) -> None:
    # a (N, C, H, W), w (Ho, Wo), rows (Ho, 2), columns (Wo, 2) -> z (N, C, Ho, Wo)
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for y in range(z.shape[2]):
                for x in range(z.shape[3]):
                    for v in range(rows[y, 0], rows[y, 1]):
                        for u in range(columns[x, 0], columns[x, 1]):
                            z[n, c, y, x] += a[n, c, v, u] * w[y, x]


@loop
def _region_sum2d_transpose(s: Array, w: Array, rows: Array, columns: Array, c: Array) -> None:
    # s (N, C, Ho, Wo), w (Ho, Wo), rows (Ho, 2), columns (Wo, 2) -> c (N, C, H, W)
    for n in range(s.shape[0]):
        for k in prange(s.shape[1]):
            for y in range(s.shape[2]):
                for x in range(s.shape[3]):
                    for v in range(rows[y, 0], rows[y, 1]):
                        for u in range(columns[x, 0], columns[x, 1]):
                            c[n, k, v, u] += s[n, k, y, x] * w[y, x]


@loop
def _select2d(a: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W), w (kh*kw, N, C, Ho, Wo) -> z (N, C, Ho, Wo)
    sy, sx, dy, dx, top, left = geometry
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    for y in range(z.shape[2]):
                        for x in range(z.shape[3]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                                z[n, c, y, x] += a[n, c, v, u] * w[i * kernel[1] + j, n, c, y, x]


@loop
def _select2d_transpose(s: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, c: Array) -> None:
    # s (N, C, Ho, Wo), w (kh*kw, N, C, Ho, Wo) -> c (N, C, H, W)
    sy, sx, dy, dx, top, left = geometry
    for n in range(s.shape[0]):
        for k in prange(s.shape[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    for y in range(s.shape[2]):
                        for x in range(s.shape[3]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            if 0 <= v < c.shape[2] and 0 <= u < c.shape[3]:
                                c[n, k, v, u] += s[n, k, y, x] * w[i * kernel[1] + j, n, k, y, x]


@loop
def _scale(a: Array, w: Array, z: Array) -> None:
    # a (N, C, P), w (C,) -> z (N, C, P); a diagonal map is its own transpose
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for p in range(a.shape[2]):
                z[n, c, p] = a[n, c, p] * w[c]


@loop
def _total(a: Array, w: Array, z: Array) -> None:
    # a (N, M, C, P), w (M,) -> z (N, C, P)
    for n in range(a.shape[0]):
        for c in prange(a.shape[2]):
            for p in range(a.shape[3]):
                for m in range(a.shape[1]):
                    z[n, c, p] += a[n, m, c, p] * w[m]


@loop
def _total_transpose(s: Array, w: Array, c: Array) -> None:
    # s (N, C, P), w (M,) -> c (N, M, C, P)
    for n in range(s.shape[0]):
        for k in prange(s.shape[1]):
            for p in range(s.shape[2]):
                for m in range(w.shape[0]):
                    c[n, m, k, p] = s[n, k, p] * w[m]


# Max pooling: the forward step, and who won.


@loop
def _max_pool2d(a: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W) -> z (N, C, Ho, Wo)
    sy, sx, dy, dx, top, left = geometry
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for y in range(z.shape[2]):
                for x in range(z.shape[3]):
                    seen = False
                    for i in range(kernel[0]):
                        for j in range(kernel[1]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            inside = 0 <= v < a.shape[2] and 0 <= u < a.shape[3]
                            if inside and (not seen or a[n, c, v, u] > z[n, c, y, x]):
                                z[n, c, y, x] = a[n, c, v, u]
                                seen = True


@loop
def _winners(
    a: Array, z: Array, kernel: tuple[int, int], geometry: Geometry, first: bool, winners: Array
) -> None:
    # a (N, C, H, W), z (N, C, Ho, Wo) -> winners (kh*kw, N, C, Ho, Wo)
    sy, sx, dy, dx, top, left = geometry
    for n in range(a.shape[0]):
        for c in prange(a.shape[1]):
            for y in range(z.shape[2]):
                for x in range(z.shape[3]):
                    taken = False
                    for i in range(kernel[0]):
                        for j in range(kernel[1]):
                            v, u = sy * y + dy * i - top, sx * x + dx * j - left
                            inside = 0 <= v < a.shape[2] and 0 <= u < a.shape[3]
                            if inside and a[n, c, v, u] == z[n, c, y, x] and not (first and taken):
                                winners[i * kernel[1] + j, n, c, y, x] += 1
                                taken = True


# The four steps, element by element.


@loop
def _add(y: Array, z: Array) -> None:
    # y (N, K, P) -> z (N, K, P)
    for n in range(z.shape[0]):
        for k in prange(z.shape[1]):
            for p in range(z.shape[2]):
                z[n, k, p] += y[n, k, p]


@loop
def _gate(own: Array, sign: int, R: Array, arriving: Array) -> None:
    # own, R (N, K, P) -> arriving (N, K, P)
    for n in range(R.shape[0]):
        for k in prange(R.shape[1]):
            for p in range(R.shape[2]):
                if sign * own[n, k, p] > 0:
                    arriving[n, k, p] = R[n, k, p]


@loop
def _divide(
    z: Array, b: Array, R: Array, eps: Array, signed: bool,
    s: Array, bias: Array, stabilizer: Array, dropped: Array,
) -> None:  # fmt: skip
    # z, b, R (N, K, P), eps (N,) -> s (N, K, P); bias, stabilizer, dropped (N, K)
    for n in range(z.shape[0]):
        for k in prange(z.shape[1]):
            for p in range(z.shape[2]):
                added = -eps[n] if signed and z[n, k, p] < 0 else eps[n]
                denominator = z[n, k, p] + added
                if denominator == 0:
                    dropped[n, k] += R[n, k, p]
                else:
                    s[n, k, p] = R[n, k, p] / denominator
                    bias[n, k] += s[n, k, p] * b[n, k, p]
                    stabilizer[n, k] += s[n, k, p] * added


@loop
def _multiply_add(a: Array, c: Array, R: Array) -> None:
    # a, c (N, J, P) -> R (N, J, P)
    for n in range(R.shape[0]):
        for j in prange(R.shape[1]):
            for p in range(R.shape[2]):
                R[n, j, p] += a[n, j, p] * c[n, j, p]


@loop
def _finish(coefficient: Array, R: Array, to_inputs: Array) -> None:
    # coefficient (1,) -> R (N, J, P), to_inputs (N, J)
    for n in range(R.shape[0]):
        for j in prange(R.shape[1]):
            for p in range(R.shape[2]):
                R[n, j, p] = R[n, j, p] * coefficient[0]
                to_inputs[n, j] += R[n, j, p]


@loop
def _add_up(x: Array, sums: Array) -> None:
    # x (N, K, P) -> sums (N, K)
    for n in range(x.shape[0]):
        for k in prange(x.shape[1]):
            for p in range(x.shape[2]):
                sums[n, k] += x[n, k, p]


@loop
def _squares(z: Array, sums: Array) -> None:
    # z (N, K, P) -> sums (N, K) of z z
    for n in range(z.shape[0]):
        for k in prange(z.shape[1]):
            for p in range(z.shape[2]):
                wide = z[n, k, p] + sums[n, k] * 0  # in the arithmetic of the sums
                sums[n, k] += wide * wide


@loop
def _sum(parts: Array, sums: Array) -> None:
    # parts (N, K) -> sums (N,)
    for n in prange(parts.shape[0]):
        for k in range(parts.shape[1]):
            sums[n] += parts[n, k]


def _geometry(op: Operation) -> Geometry:
    window = op.window
    return (*window.stride, *window.dilation, window.padding[0], window.padding[2])


def _cells(x: Array) -> Array:
    """View (N, K, ...) as (N, K, P)."""
    return x.reshape(*x.shape[:2], -1)


def _parts(x: Array) -> Array:
    """Make zeros (N, K) for the sums over the pixels of x: float64 for float32 and float64."""
    narrow = x.dtype in (np.float32, np.float64)
    return np.zeros(x.shape[:2]) if narrow else zeros(x.shape[:2], x)


def _refuse_balls(arguments: Sequence[Any]) -> None:
    """Refuse numbers with a radius: their undecided comparisons would be False without a word."""
    if any(isinstance(x, np.ndarray) and x.size and hasattr(x.flat[0], "rad") for x in arguments):
        raise BadBackend("the loops' comparisons cannot tell an undecided one of balls: use backend 'numpy'")


def _compilable(x: Array) -> Array:
    """Refuse what Numba cannot hold; copy what is not contiguous, so that each dtype is compiled once."""
    if x.dtype not in (np.float32, np.float64, np.int64):
        kind = "exact numbers" if x.dtype == object else x.dtype
        raise BadBackend(f"backend 'loops' serves float32 and float64, not {kind}: use backend 'numpy'")
    return np.require(x, None, ["C", "W"])


class Table(Host):
    """
    The function table of `operations.py`, on loops.

    Parameters
    ----------
    compiled : bool
        Whether the compiled lines run, or the same lines as plain Python.
    """

    def __init__(self, compiled: bool) -> None:
        self._compiled = compiled

    def _run(self, lines: Loop, *arguments: Any) -> None:
        """Run a loop in one of its two forms."""
        if not self._compiled:
            _refuse_balls(arguments)
            lines.plain(*arguments)
            return
        lines.compiled(*(_compilable(x) if isinstance(x, np.ndarray) else x for x in arguments))

    def dense(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((len(a), len(w)), a)
        self._run(_dense, a, w, z)
        return z

    def dense_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((len(s), w.shape[1]), s)
        self._run(_dense_transpose, s, w, c)
        return c

    def conv2d(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((len(a), len(w), *op.window.positions(op.size)), a)
        self._run(_conv2d, a, w, _geometry(op), op.groups, z)
        return z

    def conv2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((len(s), w.shape[1] * op.groups, *op.size), s)
        self._run(_conv2d_transpose, s, w, _geometry(op), op.groups, c)
        return c

    def conv_transpose2d(self, a: Array, w: Array, op: Operation) -> Array:
        return self.conv2d_transpose(a, w, op)

    def conv_transpose2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self.conv2d(s, w, op)

    def sum_pool2d(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((*a.shape[:2], *op.window.positions(op.size)), a)
        self._run(_sum_pool2d, a, w, op.window.kernel, _geometry(op), z)
        return z

    def sum_pool2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((*s.shape[:2], *op.size), s)
        self._run(_sum_pool2d_transpose, s, w, op.window.kernel, _geometry(op), c)
        return c

    def region_sum2d(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((*a.shape[:2], len(op.rows), len(op.columns)), a)
        self._run(_region_sum2d, a, w, np.array(op.rows), np.array(op.columns), z)
        return z

    def region_sum2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((*s.shape[:2], *op.size), s)
        self._run(_region_sum2d_transpose, s, w, np.array(op.rows), np.array(op.columns), c)
        return c

    def select2d(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros(w.shape[1:], a)
        self._run(_select2d, a, w, op.window.kernel, _geometry(op), z)
        return z

    def select2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((*s.shape[:2], *op.size), s)
        self._run(_select2d_transpose, s, w, op.window.kernel, _geometry(op), c)
        return c

    def scale(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros_like(a)
        self._run(_scale, _cells(a), w.reshape(-1), _cells(z))
        return z

    def scale_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self.scale(s, w, op)

    def total(self, a: Array, w: Array, op: Operation) -> Array:
        z = zeros((a.shape[0], *a.shape[2:]), a)
        self._run(_total, a.reshape(*a.shape[:3], -1), w.reshape(-1), _cells(z))
        return z

    def total_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        c = zeros((len(s), len(w), *s.shape[1:]), s)
        self._run(_total_transpose, _cells(s), w.reshape(-1), c.reshape(*c.shape[:3], -1))
        return c

    def max_pool2d(self, a: Array, op: Operation) -> Array:
        z = zeros((*a.shape[:2], *op.window.positions(op.size)), a)
        self._run(_max_pool2d, a, op.window.kernel, _geometry(op), z)
        return z

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        z = self.max_pool2d(a, op)
        winners = zeros((op.window.kernel[0] * op.window.kernel[1], *z.shape), a)
        self._run(_winners, a, z, op.window.kernel, _geometry(op), ties == "first", winners)
        return winners

    def forward(self, op: Operation, p: Array, w: Array) -> Array:
        return np.asarray(getattr(self, op.name)(p, w, op))

    def transpose(self, op: Operation, s: Array, w: Array) -> Array:
        return np.asarray(getattr(self, op.name + "_transpose")(s, w, op))

    def preactivation(self, op: Operation, a: Array, terms: Sequence[Term], b: Array | None) -> Array:
        (p, w), *more = terms
        z = self.forward(op, taken(p, a), w)
        for p, w in more:
            self._run(_add, _cells(self.forward(op, taken(p, a), w)), _cells(z))
        if b is not None:
            self._run(_add, _cells(np.broadcast_to(b, z.shape)), _cells(z))
        return z

    def divide(
        self, z: Array, b: Array | None, R: Array, eps: Array, signed: bool, gate: Gate | None = None
    ) -> tuple[Array, Sums]:
        check_finite(z)
        check_finite(eps)
        if gate is not None:
            (own, sign), arriving = gate, zeros_like(R)
            self._run(_gate, _cells(own), sign, _cells(R), _cells(arriving))
            R = arriving
        s = zeros_like(R)
        b = np.broadcast_to(zeros((1,), z) if b is None else b, z.shape)
        booked = [_parts(z), _parts(z), _parts(z)]
        self._run(_divide, _cells(z), _cells(b), _cells(R), eps, signed, _cells(s), *booked)
        return s, Sums(*(self._total(parts) for parts in booked))

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
        z = self.preactivation(op, a, terms, b) if z is None else z  # step 1
        return self.divide(z, b, R, eps, signed, gate)  # step 2

    def redistribute(
        self, op: Operation, a: Array, terms: Sequence[Term], s: Array, coefficient: Any = 1
    ) -> tuple[Array, Array]:
        R = zeros_like(a)
        for p, w in terms:
            c = self.transpose(op, s, w)  # step 3
            self._run(_multiply_add, _cells(taken(p, a)), _cells(c), _cells(R))  # step 4
        to_inputs = _parts(R)
        self._run(_finish, zeros((1,), R) + coefficient, _cells(R), to_inputs)
        return R, self._total(to_inputs)

    def mean_square(self, z: Array) -> Array:
        squares = _parts(z)
        self._run(_squares, _cells(z), squares)
        return self._total(squares) / z[:1].size

    def per_sample(self, x: Array) -> Array:
        found = _parts(x)
        self._run(_add_up, _cells(x), found)
        return self._total(found)

    def _total(self, parts: Array) -> Array:
        sums = zeros((len(parts),), parts)
        self._run(_sum, parts, sums)
        return sums


PLAIN = Table(compiled=False)
"""The lines as plain Python: the oracle."""

COMPILED = Table(compiled=True)
"""The same lines compiled by Numba."""


def table() -> Table:
    """
    Give the backend `loops`.

    Returns
    -------
    Table
        The compiled lines.
    """
    return COMPILED
