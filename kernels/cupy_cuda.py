"""The function table on a GPU: launches the kernels of `cuda/*.cu`, and keeps all arrays there.

Backend `cupy`. Read `cuda/share.cuh` first: the four steps, cell by cell. This module says which
kernel, on which arrays, with how many threads; it computes nothing itself. It knows a GPU only as a
`Device` (`device.py`): CuPy's, or the one of the tests. Convolution and dense layers, where the time goes,
have their own launcher and their own ladder of kernels: `cuda_convolution.py`.

Arrays are device arrays of float32 or float64, of one dtype in a call; sums are float64. What comes from the
host is uploaded, what is not contiguous is copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrpref.errors import BadBackend
from lrpref.kernels.cuda import source
from lrpref.kernels.cuda_convolution import CONVOLUTIONS, Convolution
from lrpref.kernels.device import CuPyDevice, Device, DeviceArray
from lrpref.kernels.elementwise import FUNCTIONS
from lrpref.kernels.operations import A, Gate, Operation, Part, Sums, Term

THREADS = 256
"""Threads of a block, as in `cuda/share.cuh`."""

MOST_TERMS = 3
"""Terms that a kernel takes, as in `cuda/share.cuh`."""

MOST_BLOCKS = 1024
"""Blocks for one sample: the same number on each device, so that sums have the same bits."""

MOST_SAMPLES = 65535
"""Blocks that a grid may have along y; beyond, a block takes several samples."""

PARTS = {"a": 0, "a+": 1, "a-": 2, "1": 3}
"""The parts that kernels take on the fly, in the order of `enum Part`."""

ACTIVATIONS = {name: code for code, name in enumerate(FUNCTIONS)}
"""In the order of `enum Function` of `cuda/elementwise.cu`."""

UNITS = {
    "sum_pool2d": "pooling",
    "select2d": "pooling",
    "region_sum2d": "pooling",
    "scale": "elementwise",
    "total": "elementwise",
}
"""The maps of this module, and the unit that holds their kernels."""

# The structs that kernels take by value.
SPREAD = np.dtype([("sample", "i8"), ("channel", "i8"), ("pixel", "i8")])
SHARE = np.dtype(
    [("terms", "i4"), ("part", "i4", MOST_TERMS), ("p", SPREAD, MOST_TERMS), ("b", SPREAD),
     ("is_signed", "i4"), ("gate", "i4")], align=True,
)  # fmt: skip
SIZES = np.dtype([("samples", "i8"), ("K", "u4"), ("P", "u4"), ("J", "u4"), ("Q", "u4")])
_NAMES = ("H", "W", "Ho", "Wo", "kh", "kw", "sy", "sx", "dy", "dx", "top", "left")
WINDOW = np.dtype([(name, "i4") for name in _NAMES])

Shape = tuple[int, ...]


def _z_shape(op: Operation, a: Shape, w: Any = None) -> Shape:
    """Give the shape of z for this shape of a; w where it says how many outputs there are."""
    match op.name:
        case "scale":
            return a
        case "total":
            return a[:1] + a[2:]
        case "dense":
            return (a[0], w.shape[0])
        case "region_sum2d":
            return (*a[:2], len(op.rows), len(op.columns))
        case "conv2d":
            return (a[0], w.shape[0], *op.window.positions(op.size))
        case "conv_transpose2d":
            return (a[0], w.shape[1] * op.groups, *op.size)
        case _:
            return (*a[:2], *op.window.positions(op.size))


def _a_shape(op: Operation, z: Shape, w: Any) -> Shape:
    """Give the shape of a for this shape of z."""
    match op.name:
        case "scale":
            return z
        case "total":
            return (z[0], len(w), *z[1:])
        case "dense":
            return (z[0], w.shape[1])
        case "conv2d":
            return (z[0], w.shape[1] * op.groups, *op.size)
        case "conv_transpose2d":
            return (z[0], w.shape[0], *op.window.positions(op.size))
        case _:
            return (*z[:2], *op.size)


def _check_shapes(op: Operation, a: Shape, z: Shape, w: Any = None) -> None:
    """Refuse arrays that the operation was not made for, or images smaller than the window."""
    wanted = _a_shape(op, z, w)
    if op.name in CONVOLUTIONS and a[1:2] != wanted[1:2]:
        raise BadBackend(f"{op.name} with weights of shape {w.shape} does not take samples of shape {a[1:]}")
    if op.name not in ("scale", "total", "dense"):
        if len(a) != 4 or a[2:] != wanted[2:]:
            raise BadBackend(f"{op.name} of {wanted[2:]} pixels does not take samples of shape {a[1:]}")
        if op.name != "region_sum2d" and min(op.window.positions(op.size)) < 1:
            covered, there = op.window.extent(), op.window.padded(op.size)
            raise BadBackend(f"{op.name}: a window of {covered} pixels does not fit into an image of {there}")
    if z != _z_shape(op, a, w):
        raise BadBackend(f"{op.name} of samples {a[1:]} gives {_z_shape(op, a, w)[1:]}, not {z[1:]}")


def _sizes(op: Operation, a: Shape, z: Shape) -> Any:
    """Say how a kernel sees a (N, J, Q) and z (N, K, P)."""
    for shape in (a, z):
        if math.prod(shape[1:]) >= 2**31:
            raise BadBackend(f"backend 'cupy' takes samples of less than 2**31 numbers, not {shape[1:]}")
    channels = 1 if op.name == "total" else math.prod(z[1:2])
    pixels = math.prod(z[1:]) // max(channels, 1)
    return np.array((a[0], channels, pixels, math.prod(a[1:2]), math.prod(a[2:])), SIZES)[()]


def _spread(x: Shape, shape: Shape, merged: bool = False) -> Shape | None:
    """
    Give the steps in memory (sample, channel, pixel) with which x is read as if it had this shape.

    The kernel sees the shape as (N, K, P), or as (N, 1, P) if `merged`. None if three steps do not suffice.
    """
    x = (1,) * (len(shape) - len(x)) + x
    first = 1 if merged else 2  # axis where the pixels begin
    pixels = math.prod(x[first:])
    sample = 0 if x[0] == 1 else math.prod(x[1:])
    channel = 0 if math.prod(x[1:first]) == 1 else pixels
    if pixels == 1:
        return sample, channel, 0
    return (sample, channel, 1) if x[first:] == shape[first:] else None


class Table:
    """
    The function table of `operations.py`, on a device.

    Parameters
    ----------
    device : Device
        Where to compute.
    rung : {1, 2, 3, 4}, optional
        Which kernels serve convolution and dense layers, from naive to tensor cores (`cuda_convolution.py`).
        By default the best for the device, the dtype and the shapes.

    Raises
    ------
    BadBackend
        From every method: if the memory does not suffice, or a dtype or a shape does not fit.
    """

    def __init__(self, device: Device, rung: int | None = None) -> None:
        self.device = device
        self._convolution = Convolution(device, rung)

    # Arrays.

    def upload(self, x: Any) -> DeviceArray:
        """Bring an array to the device."""
        return self.device.upload(np.asarray(x))

    def download(self, x: DeviceArray) -> Any:
        """Bring an array back to the host."""
        return self.device.download(x)

    def prepare(self, op: Operation, w: Any) -> Any:
        """Lay out the weights as the kernels want them."""
        return self._convolution.prepare(op, w) if op.name in CONVOLUTIONS else self._given(w)

    def device_name(self) -> str:
        """Say where it computes."""
        return self.device.name

    def free_memory(self) -> int:
        """Tell how many bytes can still be allocated."""
        return self.device.free_memory()

    def _given(self, x: Any, dtype: Any = None) -> DeviceArray:
        """Make an array fit for a kernel: on the device, contiguous, of the dtype wanted."""
        if isinstance(x, np.ndarray | np.generic | float | int):
            x = self.upload(np.asarray(x, dtype))
        if x.dtype not in (np.float32, np.float64):
            raise BadBackend(f"backend 'cupy' computes in float32 or float64, not in {x.dtype}")
        if dtype is not None and x.dtype != dtype:
            raise BadBackend(f"all arrays of a call have one dtype: {dtype} is wanted, {x.dtype} was given")
        return x if x.flags.c_contiguous else x.copy()

    # Launches.

    def _launch(
        self, unit: str, name: str, dtype: Any, grid: tuple[int, int], arguments: Sequence[Any]
    ) -> None:
        real = "double" if dtype == np.float64 else "float"
        function = self.device.function(source(unit), (f"-DREAL={real}",), name)
        self.device.launch(function, grid, (THREADS,), tuple(arguments))

    def _grid(self, shape: Shape) -> tuple[int, int]:
        """Give each cell of a sample a thread, up to a number of blocks, and each sample a row of blocks."""
        return min(-(-math.prod(shape[1:]) // THREADS), MOST_BLOCKS), min(shape[0], MOST_SAMPLES)

    def _partial(self, accounts: int, shape: Shape) -> DeviceArray:
        """Make room for one number for each account, sample and block."""
        return self.device.empty((accounts, shape[0], self._grid(shape)[0]), np.float64)

    def _add_blocks(self, partial: DeviceArray, units: int = 1) -> DeviceArray:
        """Add the blocks' numbers: partial (accounts, N, blocks) -> (accounts, N), divided by `units`."""
        accounts, samples, blocks = partial.shape
        sums, rows = self.device.empty((accounts, samples), np.float64), accounts * samples
        arguments = (partial, sums, np.int64(rows), np.int32(blocks), np.float64(units))
        self._launch("steps", "add_blocks", np.float32, (min(rows, 2**16), 1), arguments)
        return sums

    def _window(self, op: Operation, a: Shape, z: Shape) -> list[Any]:
        """Give the last arguments of a map's kernels: its window, its regions."""
        if op.name in ("scale", "total"):
            return []
        top, _, left, _ = op.window.padding
        window = (*a[2:], *z[2:], *op.window.kernel, *op.window.stride, *op.window.dilation, top, left)
        regions = (op.rows, op.columns) if op.name == "region_sum2d" else ()
        return [np.array(window, WINDOW)[()], *(self.upload(np.array(r, np.int32)) for r in regions)]

    # What enters.

    def _readable(self, x: Any, shape: Shape, dtype: Any, merged: bool = False) -> tuple[DeviceArray, Shape]:
        """Give an array that broadcasts to a shape, and its steps in memory."""
        x = self._given(x, dtype)
        try:
            fits = np.broadcast_shapes(x.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise BadBackend(f"an array of shape {x.shape} does not broadcast to {shape}")
        spread = _spread(x.shape, shape, merged)
        if spread is None:  # broadcast along some of the pixels' axes only
            x = x + self.device.zeros(shape, dtype)
            spread = _spread(shape, shape, merged)
        assert spread is not None
        return x, spread

    def _part(self, p: Part | Any, a: DeviceArray) -> tuple[DeviceArray | None, int, Shape]:
        """Say what a kernel reads of a term's p: an array, the part of it to take, its steps in memory."""
        if isinstance(p, Part) and p.name == "1":
            return None, PARTS["1"], (0, 0, 0)
        code = PARTS.get(p.name, -1) if isinstance(p, Part) else -1
        known = a if code >= 0 else p(a) if isinstance(p, Part) else p
        x, spread = self._readable(known, a.shape, a.dtype)
        return x, max(code, 0), spread

    def _weights(self, op: Operation, w: Any, a: Shape, z: Shape, dtype: Any) -> DeviceArray:
        """Make sure that a kernel finds all the weights that it reads."""
        w = self._given(w, dtype)
        wanted: Shape = {
            "select2d": (math.prod(op.window.kernel), *z),
            "scale": (a[1], *w.shape[1:]),
            "total": (a[1], *w.shape[1:]),
        }.get(op.name, z[2:])
        if w.shape != wanted or (op.name in ("scale", "total") and w.size != a[1]):
            raise BadBackend(f"{op.name} wants weights of shape {wanted} here, not {w.shape}")
        return w

    def _terms(
        self,
        op: Operation,
        a: Shape,
        z: Shape,
        terms: Sequence[Any],
        dtype: Any,
        b: Any = None,
        **options: int,
    ) -> list[Any]:
        """Give a kernel's first arguments, TERMS in `cuda/share.cuh`; terms are (array, part, steps, w)."""
        share = np.zeros((), SHARE)
        arrays: list[Any] = [None, None] * MOST_TERMS
        for t, (x, part, spread, w) in enumerate(terms):
            arrays[2 * t : 2 * t + 2] = x, w
            share["part"][t], share["p"][t] = part, spread
        if b is not None:
            b, share["b"] = self._readable(b, z, dtype, merged=op.name == "total")
        for name, value in {"terms": len(terms), **options}.items():
            share[name] = value
        return [*arrays, b, share[()], _sizes(op, a, z)]

    def _read(self, op: Operation, a: DeviceArray, terms: Sequence[Term], z: Shape) -> list[Any]:
        """Turn terms (p, w) into (array, part, steps in memory, w)."""
        return [(*self._part(p, a), self._weights(op, w, a.shape, z, a.dtype)) for p, w in terms]

    # The linear maps and their transposes.

    def forward(self, op: Operation, p: DeviceArray, w: Any) -> DeviceArray:
        """Apply the linear map: z of a share with the one term (p, w)."""
        return self.preactivation(op, p, [(A, w)], None)

    def transpose(self, op: Operation, s: DeviceArray, w: Any) -> DeviceArray:
        """Apply the transposed linear map: c is the R_j of a share with p = 1 and q = 1."""
        s = self._given(s)
        a = _a_shape(op, s.shape, w)
        _check_shapes(op, a, s.shape, w)
        if 0 in a or 0 in s.shape:
            return self.device.zeros(a, s.dtype)
        if op.name in CONVOLUTIONS:
            return self._convolution.transpose(op, s, w)
        ones = (None, PARTS["1"], (0, 0, 0), self._weights(op, w, a, s.shape, s.dtype))
        return self._gather_back(op, a, [ones], s, 1)[0]

    def dense(self, a: DeviceArray, w: Any, op: Operation) -> DeviceArray:
        return self.forward(op, a, w)

    def dense_transpose(self, s: DeviceArray, w: Any, op: Operation) -> DeviceArray:
        return self.transpose(op, s, w)

    conv2d = conv_transpose2d = sum_pool2d = region_sum2d = select2d = scale = total = dense
    conv2d_transpose = sum_pool2d_transpose = region_sum2d_transpose = dense_transpose
    conv_transpose2d_transpose = select2d_transpose = scale_transpose = total_transpose = dense_transpose

    # What is not linear.

    def max_pool2d(self, a: DeviceArray, op: Operation) -> DeviceArray:
        """Take the maximum over each window's pixels."""
        a = self._given(a)
        shape = _z_shape(op, a.shape)
        _check_shapes(op, a.shape, shape)
        z = self.device.empty(shape, a.dtype)
        if z.size:
            arguments = (a, z, _sizes(op, a.shape, shape), *self._window(op, a.shape, shape))
            self._launch("pooling", "max_pool2d", a.dtype, self._grid(shape), arguments)
        return z

    def max_pool2d_winners(self, a: DeviceArray, op: Operation, ties: str) -> DeviceArray:
        """Mark the taps that hold the maximum: all of them, or with ties "first" the first."""
        a = self._given(a)
        shape = _z_shape(op, a.shape)
        _check_shapes(op, a.shape, shape)
        winners = self.device.empty((math.prod(op.window.kernel), *shape), a.dtype)
        if winners.size:
            sizes, window = _sizes(op, a.shape, shape), self._window(op, a.shape, shape)
            arguments = (a, winners, np.int32(ties == "first"), sizes, *window)
            self._launch("pooling", "max_pool2d_winners", a.dtype, self._grid(shape), arguments)
        return winners

    def activation(self, name: str, x: DeviceArray, *parameters: float) -> DeviceArray:
        """Apply a function of `elementwise.FUNCTIONS`, element by element."""
        if name not in ACTIVATIONS:
            raise BadBackend(f"backend 'cupy' has no activation {name!r}: there are {', '.join(ACTIVATIONS)}")
        x = self._given(x)
        y = self.device.empty(x.shape, x.dtype)
        if x.size:
            first, second = (x.dtype.type(p) for p in (*parameters, 0, 0)[:2])
            arguments = (np.int32(ACTIVATIONS[name]), x, first, second, y, np.int64(x.size))
            self._launch("elementwise", "activation", x.dtype, self._grid((1, x.size)), arguments)
        return y

    # The four steps.

    def preactivation(self, op: Operation, a: DeviceArray, terms: Sequence[Term], b: Any) -> DeviceArray:
        """Run step 1."""
        a = self._given(a)
        shape = _z_shape(op, a.shape, terms[0][1])
        _check_shapes(op, a.shape, shape, terms[0][1])
        if 0 in a.shape or 0 in shape:
            return self.device.zeros(shape, a.dtype) + (
                a.dtype.type(0) if b is None else self._given(b, a.dtype)
            )
        if len(terms) > MOST_TERMS:  # no rule of ours has such a share
            head, tail = terms[:MOST_TERMS], terms[MOST_TERMS:]
            return self.preactivation(op, a, head, b) + self.preactivation(op, a, tail, None)
        if op.name in CONVOLUTIONS:
            return self._convolution.preactivation(op, a, terms, b)
        z = self.device.empty(shape, a.dtype)
        given = self._terms(op, a.shape, shape, self._read(op, a, terms, shape), a.dtype, b)
        arguments = (*given, z, *self._window(op, a.shape, shape))
        self._launch(UNITS[op.name], f"{op.name}_preactivation", a.dtype, self._grid(shape), arguments)
        return z

    def quotient(
        self,
        op: Operation,
        a: DeviceArray,
        terms: Sequence[Term],
        b: Any,
        R: DeviceArray,
        eps: Any,
        signed: bool = True,
        z: DeviceArray | None = None,
        gate: Gate | None = None,
    ) -> tuple[DeviceArray, Sums]:
        """Run steps 1 and 2: fused, unless z is given or the share has more terms than a kernel takes."""
        a = self._given(a)
        R, eps = self._given(R, a.dtype), self._given(eps, a.dtype)
        own, sign = (None, 0) if gate is None else (self._given(gate[0], a.dtype), gate[1])
        shape = _z_shape(op, a.shape, terms[0][1])
        for x, wanted in ((R, shape), (eps, a.shape[:1]), (own, shape), (z, shape)):
            if x is not None and x.shape != wanted:
                raise BadBackend(f"an array of shape {x.shape} where {wanted} is wanted")
        if z is None and (len(terms) > MOST_TERMS or 0 in a.shape or 0 in shape):
            z = self.preactivation(op, a, terms, b)
        if z is not None:
            return self._divide(self._given(z, a.dtype), b, (R, own, eps), signed, sign)
        _check_shapes(op, a.shape, shape, terms[0][1])
        if op.name in CONVOLUTIONS:
            gate = None if own is None else (own, sign)
            return self._convolution.quotient(op, a, terms, b, R, eps, signed, gate)
        read = self._read(op, a, terms, shape)
        given = self._terms(op, a.shape, shape, read, a.dtype, b, is_signed=signed, gate=sign)
        s, partial = self.device.empty(shape, a.dtype), self._partial(3, shape)
        arguments = (*given, R, own, eps, s, partial, *self._window(op, a.shape, shape))
        self._launch(UNITS[op.name], f"{op.name}_quotient", a.dtype, self._grid(shape), arguments)
        return s, Sums(*self._add_blocks(partial))

    def _divide(
        self, z: DeviceArray, b: Any, arrays: tuple[Any, Any, Any], signed: bool, sign: int
    ) -> tuple[DeviceArray, Sums]:
        """Run step 2 alone, on arrays (R, own z, eps)."""
        if z.size == 0:
            none = self.device.zeros((3, len(z)), np.float64)
            return self.device.empty(z.shape, z.dtype), Sums(*none)
        op = Operation("scale")  # z seen as (N, K, P)
        given = self._terms(op, z.shape, z.shape, [], z.dtype, b, is_signed=signed, gate=sign)
        s, partial = self.device.empty(z.shape, z.dtype), self._partial(3, z.shape)
        self._launch("steps", "divide", z.dtype, self._grid(z.shape), (*given, z, *arrays, s, partial))
        return s, Sums(*self._add_blocks(partial))

    def redistribute(
        self, op: Operation, a: DeviceArray, terms: Sequence[Term], s: DeviceArray, coefficient: Any = 1
    ) -> tuple[DeviceArray, DeviceArray]:
        """Run steps 3 and 4: fused, unless the share has more terms than a kernel takes."""
        a = self._given(a)
        s = self._given(s, a.dtype)
        _check_shapes(op, a.shape, s.shape, terms[0][1])
        if 0 in a.shape or 0 in s.shape:
            return self.device.zeros(a.shape, a.dtype), self.device.zeros(a.shape[:1], np.float64)
        if len(terms) > MOST_TERMS:
            return self._term_by_term(op, a, terms, s, coefficient)
        if op.name in CONVOLUTIONS:
            return self._convolution.redistribute(op, a, terms, s, coefficient)
        return self._gather_back(op, a.shape, self._read(op, a, terms, s.shape), s, coefficient)

    def _gather_back(
        self, op: Operation, a: Shape, terms: Sequence[Any], s: DeviceArray, coefficient: Any
    ) -> tuple[DeviceArray, DeviceArray]:
        """Run steps 3 and 4 fused, on terms (array, part, steps in memory, w)."""
        given, q = self._terms(op, a, s.shape, terms, s.dtype), s.dtype.type(coefficient)
        R, partial = self.device.empty(a, s.dtype), self._partial(1, a)
        arguments = (*given, s, q, R, partial, *self._window(op, a, s.shape))
        self._launch(UNITS[op.name], f"{op.name}_redistribute", s.dtype, self._grid(a), arguments)
        return R, self._add_blocks(partial)[0]

    def _term_by_term(
        self, op: Operation, a: DeviceArray, terms: Sequence[Term], s: DeviceArray, coefficient: Any
    ) -> tuple[DeviceArray, DeviceArray]:
        """Run steps 3 and 4 one after the other, for each term."""
        view, q = Operation("scale"), a.dtype.type(coefficient)  # a seen as (N, J, Q)
        R, partial = self.device.empty(a.shape, a.dtype), self._partial(1, a.shape)
        for t, (p, w) in enumerate(terms):
            c = self.transpose(op, s, w)  # step 3
            given = self._terms(view, a.shape, a.shape, [(*self._part(p, a), None)], a.dtype)
            first, last = np.int32(t == 0), np.int32(t == len(terms) - 1)
            arguments = (*given, c, q, first, last, R, partial)
            self._launch("steps", "multiply", a.dtype, self._grid(a.shape), arguments)  # step 4
        return R, self._add_blocks(partial)[0]

    # Sums.

    def per_sample(self, x: DeviceArray) -> DeviceArray:
        """Sum over everything but the samples: (N, ...) -> (N,), float64."""
        return self._summed("per_sample", x, 1)

    def mean_square(self, z: DeviceArray) -> DeviceArray:
        """Give the mean of z squared over a sample's units: (N, ...) -> (N,), float64."""
        return self._summed("sum_of_squares", z, math.prod(z.shape[1:]))

    def _summed(self, kernel: str, x: DeviceArray, units: int) -> DeviceArray:
        x = self._given(x)
        if x.size == 0:
            return self.device.zeros(x.shape[:1], np.float64)
        partial, sizes = self._partial(1, x.shape), _sizes(Operation("scale"), x.shape, x.shape)
        self._launch("steps", kernel, x.dtype, self._grid(x.shape), (x, partial, sizes))
        return self._add_blocks(partial, units)[0]


def table() -> Table:
    """
    Give the backend `cupy`.

    Returns
    -------
    Table
        On the current CUDA device.

    Raises
    ------
    BadBackend
        If no GPU answers; the line says what is missing.
    """
    return Table(CuPyDevice())
