"""The connections j -> k of one neuron k of a linear map, enumerated one by one.

Nothing here calls a kernel: what a kernel does in matrix products, a reader, or a check of the kernel,
finds here as the plain list that the chapter's sum over j stands for. Taps in the padding are no
connections: they are not in the image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from lrpref.kernels.operations import Array, Operation, Window
from lrpref.kernels.signs import equal, greater, zeros

Index = tuple[int, ...]
"""Where a neuron stands in one sample: (j,), or (channel, row, column)."""


class Connections(NamedTuple):
    """
    The connections of one neuron.

    Parameters
    ----------
    lower : list of tuple of int, length M
        Where each lower neuron j stands in one sample of the (joined) input; none stands there twice.
    w : ndarray, shape (M,)
        Its weight w_jk.
    """

    lower: list[Index]
    w: Array

    def take(self, x: Array) -> Array:
        """
        Take the lower neurons' values.

        Parameters
        ----------
        x : ndarray
            One sample, like the joined input.

        Returns
        -------
        ndarray, shape (M,)
            x_j.
        """
        return _gather(x, self.lower)

    def places(self, shape: Index) -> Array:
        """
        Say where the lower neurons stand in a flattened sample.

        Parameters
        ----------
        shape : tuple of int
            Shape of one sample of the (joined) input.

        Returns
        -------
        ndarray of int, shape (M,)
            j, counted in row-major order.
        """
        if not self.lower:
            return np.zeros(0, int)
        return np.ravel_multi_index(tuple(np.array(self.lower).T), shape)


def connections(op: Operation, a: Array, w: Array | None, k: Index, ties: str = "first") -> Connections:
    """
    Enumerate the connections of one neuron.

    Parameters
    ----------
    op : Operation
        The linear map.
    a : ndarray
        One sample of its (joined) input.
    w : ndarray or None
        The map's weights; None for the winners of max pooling, which a decides.
    k : tuple of int
        Where the neuron stands in one sample of the output.
    ties : {"first", "split"}
        Which of several winners count.

    Returns
    -------
    Connections
        In row-major order.
    """
    pairs = list(_WALKS[op.name](op, a.shape, () if w is None else w.shape, k))
    lower = [j for j, _ in pairs]
    if w is None:
        return Connections(lower, _winners(_gather(a, lower), ties))
    return Connections(lower, _gather(w, [place for _, place in pairs]))


def _gather(x: Array, where: list[Index]) -> Array:
    return x[tuple(np.array(where).T)] if where else x.ravel()[:0]


def _winners(a: Array, ties: str) -> Array:
    """1 where the maximum is, at its first place or at all of them, and 0 elsewhere."""
    best, first = a[:1], 0
    for place in range(1, len(a)):
        if greater(a[place : place + 1], best)[0]:
            best, first = a[place : place + 1], place
    w = zeros(a.shape, a)
    w[np.arange(len(a)) == first if ties == "first" else equal(a, best)] += 1
    return w


# Of each linear map: where the lower neurons of k stand, and where their weights stand.

Walk = Iterator[tuple[Index, Index]]


def _dense(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    for j in range(lower[0]):
        yield (j,), (*k, j)


def _conv2d(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    channel, y, x = k
    outputs, channels = w[0] // op.groups, w[1]
    first = channel // outputs * channels
    for c in range(channels):
        for i, j, row, column in _seen(op.window, op.size, y, x):
            yield (first + c, row, column), (channel, c, i, j)


def _conv_transpose2d(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    channel, y, x = k
    outputs, channels = w[1], w[0] // op.groups
    first = channel // outputs * channels
    for c in range(first, first + channels):
        for i, j, row, column in _reached_from(op.window, lower[1:], y, x):
            yield (c, row, column), (c, channel % outputs, i, j)


def _sum_pool2d(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    channel, y, x = k
    for _, _, row, column in _seen(op.window, op.size, y, x):
        yield (channel, row, column), (y, x)


def _region_sum2d(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    channel, y, x = k
    for row, column in itertools.product(range(*op.rows[y]), range(*op.columns[x])):
        yield (channel, row, column), (y, x)


def _scale(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    yield k, tuple(place if n > 1 else 0 for place, n in zip(k, w, strict=True))


def _total(op: Operation, lower: Index, w: Index, k: Index) -> Walk:
    for m in range(lower[0]):
        yield (m, *k), (m, *[0] * len(k))


_WALKS: dict[str, Callable[[Operation, Index, Index, Index], Walk]] = {
    "dense": _dense,
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "sum_pool2d": _sum_pool2d,
    "region_sum2d": _region_sum2d,
    "select2d": _sum_pool2d,
    "scale": _scale,
    "total": _total,
}


def _seen(window: Window, size: Index, y: int, x: int) -> Iterator[tuple[int, int, int, int]]:
    """Give tap (i, j), row and column of the pixels that the window sees at position (y, x)."""
    (sy, sx), (dy, dx), (top, _, left, _) = window.stride, window.dilation, window.padding
    for i, j in itertools.product(*map(range, window.kernel)):
        row, column = y * sy + i * dy - top, x * sx + j * dx - left
        if 0 <= row < size[0] and 0 <= column < size[1]:
            yield i, j, row, column


def _reached_from(window: Window, positions: Index, y: int, x: int) -> Iterator[tuple[int, int, int, int]]:
    """Give tap (i, j), row and column of the positions from which the window sees pixel (y, x)."""
    (sy, sx), (dy, dx), (top, _, left, _) = window.stride, window.dilation, window.padding
    for i, j in itertools.product(*map(range, window.kernel)):
        (row, over), (column, across) = divmod(y + top - i * dy, sy), divmod(x + left - j * dx, sx)
        if not over and not across and 0 <= row < positions[0] and 0 <= column < positions[1]:
            yield i, j, row, column
