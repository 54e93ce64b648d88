"""Linear maps as data: which function of the table, its geometry, and what enters it.

The function table of a backend. N samples, C channels, H x W pixels; J inputs, K outputs; G groups;
T taps of a window. `op` is an `Operation`.

::

    dense(a, w, op)             z_k = sum_j a_j w_kj              (N, J), (K, J) -> (N, K)
    conv2d(a, w, op)            the same over a window            (N, C, H, W), (K, C/G, kh, kw)
    conv_transpose2d(a, w, op)  it is conv2d_transpose            (N, C, Ho, Wo), (C, K/G, kh, kw)
    sum_pool2d(a, w, op)        window sum, times w               (N, C, H, W), (Ho, Wo)
    region_sum2d(a, w, op)      the same over given regions       (adaptive pooling)
    select2d(a, w, op)          sum over taps of w times the tap  (N, C, H, W), (T, N, C, Ho, Wo)
    scale(a, w, op)             a w, element by element           (N, C, H, W), (C, 1, 1)
    total(a, w, op)             sum over the summands m: a_m w_m  (N, M, ...), (M, 1, ...)
    ..._transpose(s, w, op)     c_j = sum_k w_kj s_k, for each of them

    max_pool2d(a, op)                   window maximum                  -> (N, C, Ho, Wo)
    max_pool2d_winners(a, op, ties)     which taps hold it, as 0 and 1  -> (T, N, C, Ho, Wo)
    activation(name, x, *parameters)    a function of `elementwise.py`

    forward(op, p, w), transpose(op, s, w)                      the map of this name, and its transpose
    preactivation(op, a, terms, b)                              step 1 of one share: z
    quotient(op, a, terms, b, R, eps, signed, z, gate)          steps 1 and 2: s, Sums
    redistribute(op, a, terms, s, coefficient)                  steps 3 and 4: R, to_inputs
    mean_square(z), per_sample(x)                               what the stabilizers and the books need

    upload(x), download(x), prepare(op, w)      to where the backend computes, and back; weights are
                                                prepared once, and what comes out is what the others get
    free_memory(), device_name()                bytes, and where the backend computes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

Array = np.ndarray[Any, np.dtype[Any]]


class Part(NDArrayOperatorsMixin):
    """
    What of the lower activations enters a term: a function of a, taken when a is known.

    So a rule's weights can be prepared before any input is there, and a kernel that knows the part by
    name takes it on the fly. Arithmetic on a part gives a part.

    Parameters
    ----------
    name : str
        `a`, `a+`, `a-` or `1`; any other for a function that kernels do not know by name.
    take : callable
        The function.
    shape : tuple of int
        Shape of one sample of a.
    """

    def __init__(self, name: str, take: Callable[[Array], Array], shape: tuple[int, ...] = ()) -> None:
        self.name, self.take, self.shape = name, take, shape

    def __repr__(self) -> str:
        return f"Part({self.name})"

    def __call__(self, a: Array) -> Array:
        """
        Take the part.

        Parameters
        ----------
        a : ndarray, shape (N, ...)
            Lower activations.

        Returns
        -------
        ndarray, like a
            The part.
        """
        return self.take(a)

    def then(self, name: str, function: Callable[[Array], Array]) -> Part:
        """
        Apply a function to the part.

        Parameters
        ----------
        name : str
            The new part's name.
        function : callable
            What is applied.

        Returns
        -------
        Part
            The new part.
        """

        def take(a: Array) -> Array:
            return function(self.take(a))

        return Part(name, take, self.shape)

    def __bool__(self) -> bool:
        raise TypeError("a stands for activations that are not there yet: write a * (a > 0), not `if a > 0`")

    def __array_function__(self, *_: Any) -> Any:  # np.where would take a part for true
        return NotImplemented

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            return NotImplemented

        def take(a: Array) -> Any:
            return ufunc(*(x.take(a) if isinstance(x, Part) else x for x in inputs))

        return Part(f"{ufunc.__name__} of {self.name}", take, self.shape)


def _whole(a: Array) -> Array:
    return a


def lower(shape: tuple[int, ...] = ()) -> Part:
    """
    Stand for the lower activations themselves.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample, where rules want to know it.

    Returns
    -------
    Part
        The part `a`.
    """
    return Part("a", _whole, shape)


A = lower()
"""The lower activations, whatever their shape."""

Term = tuple[Part | Array, Any]
"""One term (p, w) of step 1: what enters the sum in the place of a, and of w."""

Gate = tuple[Array, int]
"""The layer's own z, and the sign (1 or -1) that z_k has where the share receives R_k."""


def taken(p: Part | Array, a: Array) -> Array:
    """
    Give a term's p as an array.

    Parameters
    ----------
    p : Part or ndarray
        A part of a, or numbers that broadcast to a.
    a : ndarray, shape (N, ...)
        Lower activations.

    Returns
    -------
    ndarray, like a
        p.
    """
    return p(a) if isinstance(p, Part) else np.broadcast_to(p, a.shape)


@dataclass(frozen=True)
class Window:
    """
    A window that slides over an image.

    Parameters
    ----------
    kernel : tuple of int
        Height and width (kh, kw), in taps.
    stride : tuple of int
        Steps (down, right), in pixels.
    padding : tuple of int
        Zeros around the image: (top, bottom, left, right), in pixels. They are never *in the image*:
        no rule but the plain sum of zeros sees them. A negative bottom or right: pixels of the image that
        the window stops short of.
    dilation : tuple of int
        Distance between taps (down, right), in pixels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)

    def extent(self) -> tuple[int, int]:
        """
        Give the height and width that the window covers, with its gaps.

        Returns
        -------
        tuple of int
            Pixels (down, right).
        """
        (kh, kw), (dy, dx) = self.kernel, self.dilation
        return dy * (kh - 1) + 1, dx * (kw - 1) + 1

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """
        Give the size of the padded image; what the window stops short of is there.

        Parameters
        ----------
        size : tuple of int
            Height and width of the image.

        Returns
        -------
        tuple of int
            Height and width with the padding.
        """
        top, bottom, left, right = self.padding
        return size[0] + top + max(bottom, 0), size[1] + left + max(right, 0)

    def positions(self, size: tuple[int, int]) -> tuple[int, int]:
        """
        Count the positions of the window.

        Parameters
        ----------
        size : tuple of int
            Height and width of the image.

        Returns
        -------
        tuple of int
            Height and width of the output (Ho, Wo); not positive where the window does not fit.
        """
        (top, bottom, left, right), (eh, ew), (sy, sx) = self.padding, self.extent(), self.stride
        return (size[0] + top + bottom - eh) // sy + 1, (size[1] + left + right - ew) // sx + 1

    def taps(self, size: tuple[int, int]) -> Iterator[tuple[int, int, slice, slice]]:
        """
        Walk over the taps in row-major order.

        Parameters
        ----------
        size : tuple of int
            Height and width of the image.

        Yields
        ------
        i, j : int
            The tap.
        rows, columns : slice
            Where it lies in the padded image, for all positions of the window at once.
        """
        (kh, kw), (sy, sx), (dy, dx) = self.kernel, self.stride, self.dilation
        ho, wo = self.positions(size)
        for i in range(kh):
            for j in range(kw):
                y, x = i * dy, j * dx
                yield i, j, slice(y, y + sy * (ho - 1) + 1, sy), slice(x, x + sx * (wo - 1) + 1, sx)


@dataclass(frozen=True)
class Operation:
    """
    A linear map without its weights.

    Parameters
    ----------
    name : str
        The function of the table; its transpose is `name + "_transpose"`.
    size : tuple of int
        Height and width (H, W) of the image that the window slides over: the one that enters, but for
        `conv_transpose2d` the one that comes out. Empty where there is none.
    window : Window
        The window, for `conv2d`, `conv_transpose2d`, `sum_pool2d`, `select2d` and `max_pool2d`.
    groups : int
        Groups G of a convolution.
    rows, columns : tuple of (int, int)
        For `region_sum2d`: first and one-past-last row (column) of each region.
    """

    name: str
    size: tuple[int, int] = (0, 0)
    window: Window = field(default_factory=lambda: Window((1, 1)))
    groups: int = 1
    rows: tuple[tuple[int, int], ...] = ()
    columns: tuple[tuple[int, int], ...] = ()


class Sums(NamedTuple):
    """
    What step 2 books, per sample: in float64, or in the arithmetic of the arrays.

    Parameters
    ----------
    bias : ndarray, shape (N,)
        sum_k s_k b_k.
    stabilizer : ndarray, shape (N,)
        sum_k s_k times the stabilizer's term.
    dropped : ndarray, shape (N,)
        Sum of the R_k whose denominator is exactly 0.
    """

    bias: Array
    stabilizer: Array
    dropped: Array
