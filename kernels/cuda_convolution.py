"""Launch the CUDA kernels of convolutions and dense layers: steps 1 to 4 on a device.

The ladder, from the formula to the tensor cores; all rungs give the same numbers up to rounding:

=====  ====================  ==========================================================================
rung   unit                  what it adds
=====  ====================  ==========================================================================
1      convolution_naive     one thread for each output, the formula and nothing else
2      convolution_tiled     an implicit matrix product in tiles of shared memory
3      convolution_blocked   8 x 8 outputs a thread, asynchronous copies, split products
4      convolution_tf32x3    tensor cores, three products for float32's accuracy
=====  ====================  ==========================================================================

Beside it stand `convolution_thin` (depthwise, or a few channels out) and `dense` (few samples): both are
limited by memory. `Convolution.rung`, `Convolution._tile` and `_Run._splits` decide what runs, and how it is
cut up. A transposed convolution is a convolution whose two directions have changed places: the same
kernels, for no step asks in which direction its product goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lrpref.errors import BadBackend
from lrpref.kernels.cuda import source
from lrpref.kernels.operations import A, Gate, Operation, Part, Sums, Window

DeviceArray = Any
"""An array of the device."""

CONVOLUTIONS = ("conv2d", "conv_transpose2d", "dense")
"""The maps of this module."""

Taps = list[list[tuple[int, ...]]]
"""For each phase, its taps (dy, dx, index)."""

# The structs of convolution_steps.cu.
_GEOMETRY_NUMBERS = (
    "samples", "groups", "rows", "inner", "source_height", "source_width", "height", "width",
    "phases_y", "phases_x", "plane_height", "plane_width", "step_y", "step_x", "columns", "taps",
    "padded_rows", "padded_inner", "splits", "kernel_y", "kernel_x", "stride_y", "stride_x",
    "dilation_y", "dilation_x", "top", "left", "transposed",
)  # fmt: skip
_GEOMETRY = np.dtype(
    [*((name, np.int32) for name in _GEOMETRY_NUMBERS), ("tap", np.uint64), ("first", np.uint64)], align=True
)
_TERM = np.dtype(
    [(name, np.uint64) for name in ("w", "w_negative", "p")]
    + [("sample_stride", np.int64)]
    + [(name, np.int32) for name in ("part", "unused")],
    align=True,
)
_TERMS = np.dtype([("term", _TERM, (3,)), ("source", _TERM), ("count", np.int32)], align=True)
_ENDING = np.dtype(
    [(name, np.uint64) for name in ("b", "R", "eps", "own", "out", "partial")]
    + [("split_stride", np.int64), ("coefficient", np.float64)]
    + [(name, np.int32) for name in ("b_channel", "b_pixel", "gate", "is_signed")],
    align=True,
)

_PARTS = {"a": 0, "a+": 1, "a-": 2}
_TERMS_MOST = 3
_SAMPLES_DENSE = 32  # up to here a dense layer's time is that of reading its weights
_ALIGNED = 32  # bytes that the kernels for few samples read at a time
_SPLITS_MOST = 16  # more would spend their time on the workspace
_THIN = 4  # rows that a thread of convolution_thin has


@dataclass(frozen=True)
class Tile:
    """
    How a kernel cuts the matrix product of one group.

    Parameters
    ----------
    unit : str
        Translation unit.
    prefix, suffix : str
        A kernel's name is prefix + step + suffix.
    rows, columns, depth : int
        Outputs of a block, and inner channels that it takes at a time.
    threads : int
        Threads of a block.
    """

    unit: str
    prefix: str
    suffix: str
    rows: int
    columns: int
    depth: int
    threads: int


NAIVE = Tile("convolution_naive", "naive_", "", 1, 256, 1, 256)
TILED = Tile("convolution_tiled", "tiled_", "", 16, 16, 16, 256)
THIN = Tile("convolution_thin", "thin_", "", _THIN, 128, 1, 128)
FINISH = Tile("convolution_finish", "finish_", "", 32, 128, 1, 128)
# Rungs 3 and 4: tall tiles first.
BLOCKED = (
    Tile("convolution_blocked", "blocked_", "_128", 128, 128, 8, 256),
    Tile("convolution_blocked", "blocked_", "_64", 64, 128, 8, 128),
)
TENSOR = (
    Tile("convolution_tf32x3", "tf32x3_", "_128", 128, 128, 16, 256),
    Tile("convolution_tf32x3", "tf32x3_", "_64", 64, 128, 16, 128),
)
ONE_LOOK = (NAIVE, TILED, THIN)
"""Their kernels read a once for the pair (a+, w+), (a-, w-): `convolution_steps.cu`."""
_LADDER = {1: (NAIVE,), 2: (TILED,), 3: BLOCKED, 4: TENSOR}


@dataclass(frozen=True)
class Product:
    """
    One direction of a linear map, as a matrix product that gathers.

    Parameters
    ----------
    geometry : ndarray, shape ()
        The struct `Geometry`, without what depends on the number of samples.
    tile : Tile
        The kernel that runs it.
    w : array
        Weights, in the layout of that kernel.
    taps, first : array
        The taps of each phase, (T, 4), and where each phase's begin.
    most_taps : int
        Taps of the phase that has most.
    """

    geometry: np.ndarray[Any, np.dtype[Any]]
    tile: Tile
    w: DeviceArray
    taps: DeviceArray
    first: DeviceArray
    most_taps: int

    @property
    def arrays(self) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        """What lies on the device."""
        return self.w, self.taps, self.first


class Prepared:
    """
    The weights of one map on the device.

    A dense layer's weights lie there once, as they came, which is what the kernels for few samples read. What
    the kernels for many samples want is made when a batch first has that many, and kept. Other maps
    have their layouts from the start.

    Parameters
    ----------
    convolution : Convolution
        Who runs them.
    op : Operation
        The map.
    w : ndarray or array
        Weights, on the host or, where `plain`, on the device.
    plain : bool
        Whether w stays as it came.
    """

    def __init__(self, convolution: Convolution, op: Operation, w: Any, plain: bool) -> None:
        self.shape: tuple[int, ...] = w.shape
        self.plain: DeviceArray | None = w if plain else None
        self._w: Any = w
        self._product = convolution._product
        self._rung, self.maps = convolution.rung(w.dtype), _maps(op, w.shape)
        if not plain:
            self.there, self.back  # noqa: B018 - made now
            self._w = None

    @cached_property
    def there(self) -> Product:
        """Step 1."""
        return self._product(self._rung, self._w, *self.maps[0])

    @cached_property
    def back(self) -> Product:
        """Step 3."""
        return self._product(self._rung, self._w, *self.maps[1])

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        made = [self.__dict__[name] for name in ("there", "back") if name in self.__dict__]
        arrays = {id(x): int(x.nbytes) for product in made for x in product.arrays}
        if self.plain is not None:
            arrays[id(self.plain)] = int(self.plain.nbytes)
        return sum(arrays.values())


class Convolution:
    """
    Convolutions and dense layers on a device.

    Parameters
    ----------
    device : Device
        What compiles and launches.
    rung : {1, 2, 3, 4}, optional
        A rung of the ladder, always; by default the best for the device, the dtype and the shapes.

    Raises
    ------
    BadBackend
        If the device or the dtype cannot have that rung.
    """

    def __init__(self, device: Any, rung: int | None = None) -> None:
        if rung is not None and rung not in _LADDER:
            raise BadBackend(f"there is no rung {rung!r}: the convolution's ladder has 1, 2, 3 and 4")
        if rung == 4 and device.capability < (8, 0):
            has = f"{device.name} has {device.capability}"
            raise BadBackend(f"rung 4 needs compute capability 8.0, {has}: use rung 3")
        self.device, self._rung = device, rung

    def rung(self, dtype: Any) -> int:
        """
        Choose the rung.

        Parameters
        ----------
        dtype : dtype
            Of the arrays.

        Returns
        -------
        int
            1 to 4.

        Raises
        ------
        BadBackend
            If the dtype is neither float32 nor float64, or float64 on rung 3 or 4.
        """
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise BadBackend(f"the CUDA kernels compute in float32 or float64, not {dtype}")
        if dtype == np.float64:
            if self._rung in (3, 4):
                raise BadBackend(f"rung {self._rung} computes in float32 only: use rung 2 for float64")
            return self._rung or 2
        return self._rung or (4 if self.device.capability >= (8, 0) else 3)

    # Weights.

    def prepare(self, op: Operation, w: Any) -> Prepared:
        """
        Bring weights to the device, laid out for both directions.

        Parameters
        ----------
        op : Operation
            One of `CONVOLUTIONS`.
        w : ndarray, shape (K, C / groups, kh, kw), (C, K / groups, kh, kw) or (K, J)
            Weights, on the host or on the device.

        Returns
        -------
        Prepared
            What the other methods take as w.
        """
        plain = op.name == "dense" and self._rung is None
        self.rung(w.dtype)  # refuses other dtypes
        if isinstance(w, np.ndarray):
            w = self.device.upload(np.ascontiguousarray(w)) if plain else w
        else:
            w = self._aligned(w) if plain else self.device.download(w)
        return Prepared(self, op, w, plain)

    def _product(self, rung: int, w: Any, geometry: np.ndarray[Any, np.dtype[Any]], taps: Taps) -> Product:
        """Choose the kernels of one direction, and pack its weights for them."""
        tile = self._tile(rung, int(geometry["rows"]), int(geometry["inner"]))
        packed = w if tile is NAIVE else _pack(w, geometry, tile, self.device)
        if tile is not NAIVE:
            geometry["padded_inner"], geometry["padded_rows"] = packed.shape[-2:]
        if isinstance(packed, np.ndarray):
            packed = self.device.upload(np.ascontiguousarray(packed))
        flat = [(*tap, 0) for phase in taps for tap in phase]
        first = np.cumsum([0, *(len(phase) for phase in taps)])
        return Product(
            geometry,
            tile,
            packed,
            self.device.upload(np.array(flat, np.int32).reshape(-1, 4)),
            self.device.upload(first.astype(np.int32)),
            max(len(phase) for phase in taps),
        )

    def _tile(self, rung: int, rows: int, inner: int) -> Tile:
        """
        Choose a kernel.

        The tall tile reads least; the low one where it leaves fewer rows empty. By default, groups with few
        rows have a kernel of their own, and few inner channels (a picture's 3) go to rung 3, whose stages
        are less deep.
        """
        if self._rung is None and rows <= _THIN:
            return THIN
        if self._rung is None and rung == 4 and inner <= BLOCKED[0].depth:
            rung = 3
        return min(_LADDER[rung], key=lambda tile: _ceil(rows, tile.rows) * tile.rows)

    # The function table.

    def forward(self, op: Operation, p: DeviceArray, w: Any) -> DeviceArray:
        """
        Apply the linear map.

        Parameters
        ----------
        op : Operation
            Which map.
        p : array, shape (N, ...)
            What enters.
        w : Prepared
            Weights.

        Returns
        -------
        array, shape (N, ...)
            z.
        """
        return self.preactivation(op, p, [(p, w)], None)

    def transpose(self, op: Operation, s: DeviceArray, w: Any) -> DeviceArray:
        """
        Apply the transposed linear map.

        Parameters
        ----------
        op : Operation
            Which map.
        s : array, shape (N, ...)
            What comes back.
        w : Prepared
            Weights.

        Returns
        -------
        array, shape (N, ...)
            c.
        """
        w = self._prepared(op, w)
        lower, _ = _shapes(op, w.shape)
        out = self.device.empty((len(s), *lower), s.dtype)
        run = _Run(self, s.dtype, w, out)
        run.term(w, self._contiguous(s), back=True)
        run.go("z", "transpose")
        return out

    def preactivation(
        self, op: Operation, a: DeviceArray, terms: Sequence[tuple[Any, Any]], b: Any
    ) -> DeviceArray:
        """
        Run step 1: z_k = sum over terms of forward(p, w) + b.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : array, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            What enters the sum: 1 to 3 terms.
        b : array or None
            Bias, one for each channel, or one for all.

        Returns
        -------
        array, shape (N, ...)
            z.
        """
        run = self._step_1(op, a, terms, b)
        run.go("z", "z")
        return run.out

    def quotient(
        self,
        op: Operation,
        a: DeviceArray,
        terms: Sequence[tuple[Any, Any]],
        b: Any,
        R: DeviceArray,
        eps: DeviceArray,
        signed: bool = True,
        gate: Gate | None = None,
    ) -> tuple[DeviceArray, Sums]:
        """
        Run steps 1 and 2 of one share; z never reaches memory.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : array, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            What enters the sum: 1 to 3 terms.
        b : array or None
            Bias, one for each channel, or one for all.
        R : array, shape (N, ...)
            Relevance of the upper neurons.
        eps : array, shape (N,)
            Stabilizer, in the unit of z.
        signed : bool
            Whether eps takes the sign of z, with sign(0) = +1.
        gate : (array, int), optional
            The layer's own z, and the sign it has where R_k enters; elsewhere R_k counts as 0.

        Returns
        -------
        s : array, like R
            R / z; 0 where the stabilized denominator is exactly 0, NaN where it is not finite.
        sums : Sums
            What the bias and the stabilizer take, and what is dropped, per sample, in float64.
        """
        run = self._step_1(op, a, terms, b)
        run.point("R", self._fitting(R, run.out.shape, "R"))
        run.point("eps", self._fitting(eps, (len(a),), "eps"))
        run.ending["is_signed"] = signed
        if gate is not None:
            run.point("own", self._fitting(gate[0], run.out.shape, "the gate's z"))
            run.ending["gate"] = gate[1]
        sums = run.go("quotient", "quotient", 3)
        return run.out, Sums(sums[0], sums[1], sums[2])

    def redistribute(
        self,
        op: Operation,
        a: DeviceArray,
        terms: Sequence[tuple[Any, Any]],
        s: DeviceArray,
        coefficient: Any = 1,
    ) -> tuple[DeviceArray, DeviceArray]:
        """
        Run steps 3 and 4 of one share; c never reaches memory.

        Parameters
        ----------
        op : Operation
            The linear map.
        a : array, shape (N, ...)
            Lower activations.
        terms : sequence of (p, w)
            The same as in `quotient`.
        s : array
            From `quotient`.
        coefficient : number
            1, or alpha, or -beta.

        Returns
        -------
        R : array, like a
            Relevance of the lower neurons.
        to_inputs : array, shape (N,)
            Its sum per sample, in float64.
        """
        prepared = [(p, self._prepared(op, w)) for p, w in terms]
        run = _Run(self, a.dtype, prepared[0][1], self.device.empty(a.shape, a.dtype))
        run.source(self._contiguous(s))
        for p, w in prepared:
            run.term(w, *self._taken(p, a), back=True)
        run.ending["coefficient"] = float(coefficient)
        sums = run.go("redistribute", "redistribute", 1)
        return run.out, sums[0]

    # What enters.

    def _step_1(self, op: Operation, a: DeviceArray, terms: Sequence[tuple[Any, Any]], b: Any) -> _Run:
        prepared = [(p, self._prepared(op, w)) for p, w in terms]
        w = prepared[0][1]
        _, upper = _shapes(op, w.shape)
        out = self.device.empty((len(a), *upper), a.dtype)
        run = _Run(self, a.dtype, w, out)
        if run.few or w.there.tile not in ONE_LOOK:
            for p, w in prepared:
                run.term(w, *self._taken(p, a))
        else:
            for p, w, negative in _pairs(prepared):
                run.term(w, *self._taken(p, a), negative=negative)
        if b is not None:
            run.bias(self._bias(b, out), out.shape)
        return run

    def _prepared(self, op: Operation, w: Any) -> Prepared:
        return w if isinstance(w, Prepared) else self.prepare(op, w)

    def _contiguous(self, x: DeviceArray) -> DeviceArray:
        return x if x.flags.c_contiguous else x.copy()

    def _aligned(self, x: DeviceArray) -> DeviceArray:
        """Make vector loads possible: a slice of some larger array may begin anywhere."""
        x = self._contiguous(x)
        return x.copy() if int(x.data.ptr) % _ALIGNED else x

    def _fitting(self, x: DeviceArray, shape: tuple[int, ...], what: str) -> DeviceArray:
        if x.shape != shape:
            raise BadBackend(f"{what} has shape {x.shape}, not {shape}")
        return self._contiguous(x)

    def _taken(self, p: Any, a: DeviceArray) -> tuple[DeviceArray, int]:
        """Give an array of (N, ...), or of (1, ...) where all samples have the same, and the part of it."""
        if isinstance(p, Part):
            if p.name in _PARTS:
                return self._contiguous(a), _PARTS[p.name]
            if p.name == "1":
                return self.device.zeros((1, *a.shape[1:]), a.dtype) + a.dtype.type(1), 0
            p = p(a)
        elif isinstance(p, np.ndarray):
            p = self.device.upload(p.astype(a.dtype))
        if p.shape == a.shape:
            return self._contiguous(p), 0
        p = p.reshape((1,) * (a.ndim - p.ndim) + p.shape)
        shape = a.shape if p.shape[0] == len(a) > 1 else (1, *a.shape[1:])
        return self._contiguous(self.device.zeros(shape, a.dtype) + p), 0

    def _bias(self, b: Any, out: DeviceArray) -> DeviceArray:
        b = self.device.upload(b) if isinstance(b, np.ndarray) else b
        return self._contiguous(b.astype(out.dtype) if b.dtype != out.dtype else b)


class _Run:
    """One step on its way to the device: what it reads and writes, and the kernels that are launched."""

    def __init__(self, convolution: Convolution, dtype: Any, w: Prepared, out: DeviceArray) -> None:
        self.convolution, self.device = convolution, convolution.device
        self.dtype, self.out = np.dtype(dtype), out
        self.few = w.plain is not None and len(out) <= _SAMPLES_DENSE
        self.terms = np.zeros((), _TERMS)
        self.ending = np.zeros((), _ENDING)
        self.ending["coefficient"] = 1
        self.products: list[Product] = []
        self.kept: list[Any] = []  # what the structs point to stays alive until the launches
        self.point("out", out)

    def point(self, name: str, x: DeviceArray) -> None:
        """Let the ending point to an array."""
        self.ending[name] = self._address(x)

    def _address(self, x: DeviceArray, dtype: Any = None) -> int:
        if x.dtype != (dtype or self.dtype):
            raise BadBackend(f"an array of {x.dtype} among arrays of {self.dtype}")
        self.kept.append(x)
        return int(x.data.ptr)

    def term(
        self,
        w: Prepared,
        p: DeviceArray,
        part: int = 0,
        negative: Prepared | None = None,
        back: bool = False,
    ) -> None:
        """Add a term; `negative`: the weights where p < 0."""
        i = int(self.terms["count"])
        if i == _TERMS_MOST:
            raise BadBackend(f"a share of more than {_TERMS_MOST} terms: the CUDA kernels serve no more")
        self.terms["count"] = i + 1
        self.kept.append(w)
        if self.few:
            self.geometry = w.maps[int(back)][0]
            weights = [self._address(w.plain)] * 2
        else:
            product = w.back if back else w.there
            self.products.append(product)
            self.geometry = product.geometry
            weights = [self._address(x.w) for x in (product, negative.there if negative else product)]
        self.terms["term"][i] = (*weights, *self._values(p), part, 0)

    def source(self, s: DeviceArray) -> None:
        """Say what step 3 gathers."""
        self.terms["source"] = (0, 0, *self._values(s), 0, 0)

    def _values(self, p: DeviceArray) -> tuple[int, int]:
        p = self.convolution._aligned(p) if self.few else p
        one_for_all = len(p) == 1 < len(self.out)
        return self._address(p), 0 if one_for_all else p.size // len(p)

    def bias(self, b: DeviceArray, shape: tuple[int, ...]) -> None:
        """Add a bias: one number for all, for each channel, or for each unit."""
        units = int(np.prod(shape[1:]))
        pixels = units // shape[1]
        steps = {1: (0, 0), shape[1]: (1, 0), units: (pixels, 1)}
        if b.size not in steps or (b.size > 1 and shape[1] not in b.shape):
            raise BadBackend(f"a bias of shape {b.shape} for outputs of shape {shape[1:]}")
        self.point("b", b)
        self.ending["b_channel"], self.ending["b_pixel"] = steps[b.size]

    # The launches.

    def go(self, step: str, dense_kernel: str, sums: int = 0) -> DeviceArray:
        """Launch the step; returns its sums per sample, (sums, N) in float64."""
        if self.out.size == 0:
            return self.device.zeros((sums, len(self.out)), np.float64)
        g = self._geometry()
        if self.few:
            return self._dense(g, dense_kernel, sums)
        tile, splits = self.products[0].tile, self._splits(g, step)
        if splits == 1:
            return self._whole(g, tile, step, self.terms, self.ending, sums)
        return self._split(g, tile, splits, step, sums)

    def _geometry(self) -> Any:
        """Complete the first term's geometry; all terms have the same but for their weights."""
        samples, g = len(self.out), self.geometry.copy()
        _check_indices(g, samples)
        plane = int(g["plane_height"]) * int(g["plane_width"])
        g["samples"], g["columns"] = samples, samples * plane
        if self.products:
            g["tap"], g["first"] = (x.data.ptr for x in self.products[0].arrays[1:])
        return g

    def _splits(self, g: Any, step: str) -> int:
        """
        Choose into how many splits the inner dimension is cut.

        As many as fill the multiprocessors, as long as each part has work for 4 stages.
        """
        product = self.products[0]
        if product.tile not in (*BLOCKED, *TENSOR):
            return 1
        resident = 2 if product.tile.threads == 256 else 3  # blocks that a multiprocessor has at a time
        terms = 1 if step == "redistribute" else len(self.products)
        stages = terms * product.most_taps * _ceil(int(g["inner"]), product.tile.depth)
        places = resident * int(self.device.multiprocessors)
        return max(1, min(places // _blocks(g, product.tile), stages // 4, _SPLITS_MOST))

    def _whole(self, g: Any, tile: Tile, step: str, terms: Any, ending: Any, sums: int) -> DeviceArray:
        """Launch one kernel that makes the whole step."""
        if tile in (NAIVE, FINISH):  # they see the image as a whole
            g["phases_y"], g["phases_x"] = 1, 1
            g["plane_height"], g["plane_width"] = g["height"], g["width"]
            g["columns"] = g["samples"] * g["height"] * g["width"]
        grid = _grid(g, tile)
        down = {NAIVE: int(g["groups"] * g["rows"]), FINISH: grid[1]}.get(tile, int(g["groups"]) * grid[1])
        per_sample = int(g["phases_y"] * g["phases_x"]) * int(g["plane_height"] * g["plane_width"])
        partial = self._partial(ending, sums, down, per_sample)
        self._launch(tile.unit, tile.prefix + step + tile.suffix, grid, tile.threads, g, terms, ending)
        return self._sum(partial)

    def _split(self, g: Any, tile: Tile, splits: int, step: str, sums: int) -> DeviceArray:
        """Launch the products of the splits into a workspace, and then what ends the step."""
        separate = step == "redistribute"  # step 4 wants each term's c
        launches = len(self.products) if separate else 1
        work = self.device.empty((launches, splits, self.out.size), self.dtype)
        g["splits"] = splits
        for i in range(launches):
            terms, ending = self.terms.copy(), np.zeros((), _ENDING)
            if separate:
                terms["count"] = 1
                terms["term"][0] = terms["source"]
                terms["term"][0]["w"] = self.terms["term"][i]["w"]
            ending["out"], ending["split_stride"] = self._address(work[i]), self.out.size
            self._whole(g, tile, "z", terms, ending, 0)
        terms = self.terms.copy()
        terms["source"]["p"] = self._address(work)
        self.ending["split_stride"] = self.out.size
        return self._whole(g, FINISH, step, terms, self.ending, sums)

    def _dense(self, g: Any, kernel: str, sums: int) -> DeviceArray:
        """Launch the kernel for few samples: it books a column for each output."""
        rows = int(g["rows"])
        across = _ceil(rows, 128 if kernel in ("transpose", "redistribute") else 16)
        partial = self._partial(self.ending, sums, 1, rows)
        grid = across, _ceil(len(self.out), 8), 1
        self._launch("dense", f"dense_{kernel}", grid, 256, g, self.terms, self.ending)
        return self._sum(partial)

    def _partial(self, ending: Any, sums: int, tiles: int, per_sample: int) -> DeviceArray:
        partial = self.device.empty((sums, tiles, len(self.out), per_sample), np.float64)
        if sums:
            ending["partial"] = self._address(partial, np.float64)
        return partial

    def _sum(self, partial: DeviceArray) -> DeviceArray:
        """Add a step's partial sums per sample, always in the same order."""
        count, tiles, samples, per_sample = partial.shape
        sums = self.device.empty((count, samples), np.float64)
        if count:
            arguments = (partial, sums, np.int32(tiles), np.int32(samples), np.int32(per_sample))
            kernel = self.device.function(source("convolution_finish"), self._options(), "sum_partials")
            self.device.launch(kernel, (samples, count, 1), (256, 1, 1), arguments)
        return sums

    def _options(self) -> tuple[str, ...]:
        return ("-DREAL=double",) if self.dtype == np.float64 else ("-DREAL=float",)

    def _launch(
        self, unit: str, name: str, grid: tuple[int, int, int], threads: int, g: Any, terms: Any, ending: Any
    ) -> None:
        kernel = self.device.function(source(unit), self._options(), name)
        self.device.launch(kernel, grid, (threads, 1, 1), (g[()], terms[()], ending[()]))


def _pairs(terms: Sequence[tuple[Any, Prepared]]) -> Iterator[tuple[Any, Prepared, Prepared | None]]:
    """Give terms (p, w, w where p < 0): (a+, w+) and (a-, w-) of one share become (a, w+, w-)."""
    found = {p.name: i for i, (p, _) in enumerate(terms) if isinstance(p, Part)}
    plus, minus = found.get("a+"), found.get("a-")
    for i, (p, w) in enumerate(terms):
        if plus is None or minus is None or i not in (plus, minus):
            yield p, w, None
        elif i == plus:
            yield A, w, terms[minus][1]


def _check_indices(g: Any, samples: int) -> None:
    """Refuse what 32-bit indices cannot count: a sample's numbers, and the pixels of all samples."""
    groups, plane = int(g["groups"]), int(g["height"]) * int(g["width"])
    source = int(g["source_height"]) * int(g["source_width"])
    phases = int(g["phases_y"]) * int(g["phases_x"]) * int(g["plane_height"]) * int(g["plane_width"])
    most = max(samples * phases, groups * int(g["rows"]) * plane, groups * int(g["inner"]) * source)
    if most >= 2**31 - 2**10:  # a tile may look a little past the end
        raise BadBackend(
            f"{samples} samples have more pixels or numbers ({most}) than the CUDA kernels can count: "
            "explain fewer at a time, or smaller ones"
        )


def _ceil(x: int, y: int) -> int:
    return -(-x // y)


def _grid(g: Any, tile: Tile) -> tuple[int, int, int]:
    rows, columns, groups = int(g["rows"]), int(g["columns"]), int(g["groups"])
    if tile is NAIVE:
        return _ceil(groups * rows * columns, tile.columns), 1, 1
    if tile is FINISH:
        return _ceil(columns, tile.columns), _ceil(groups * rows, tile.rows), 1
    deep = groups * int(g["phases_y"] * g["phases_x"] * g["splits"])
    grid = _ceil(columns, tile.columns), _ceil(rows, tile.rows), deep
    if max(grid[1:]) > 65535:
        raise BadBackend(f"a grid of {grid} blocks: {groups} groups of {rows} channels are too many")
    return grid


def _blocks(g: Any, tile: Tile) -> int:
    return int(np.prod(_grid(g, tile), dtype=np.int64))


def _shapes(op: Operation, w_shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of one sample of a and of z."""
    if op.name == "dense":
        return w_shape[1:], w_shape[:1]
    image, positions = (w_shape[1] * op.groups, *op.size), (w_shape[0], *op.window.positions(op.size))
    return (positions, image) if op.name == "conv_transpose2d" else (image, positions)


def _maps(op: Operation, w_shape: tuple[int, ...]) -> list[tuple[Any, Taps]]:
    """Describe both directions: their geometry, and each phase's taps (dy, dx, index)."""
    if op.name not in CONVOLUTIONS:
        raise BadBackend(f"these kernels serve {', '.join(CONVOLUTIONS)}, not {op.name}")
    dense = op.name == "dense"
    lower, upper = ((1, 1), (1, 1)) if dense else (op.size, op.window.positions(op.size))
    window = Window((1, 1)) if dense else op.window
    kernel, stride, dilation = window.kernel, window.stride, window.dilation
    top, left = window.padding[0], window.padding[2]
    groups = 1 if dense else op.groups
    g = np.zeros((), _GEOMETRY)
    g["groups"], g["taps"], g["splits"] = groups, kernel[0] * kernel[1], 1
    for name, (down, right) in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        g[f"{name}_y"], g[f"{name}_x"] = down, right
    g["top"], g["left"] = top, left
    there, back = g, g.copy()
    for g, rows, inner, source_size, size, phases, step in (
        (there, w_shape[0] // groups, w_shape[1], lower, upper, (1, 1), stride),
        (back, w_shape[1], w_shape[0] // groups, upper, lower, stride, (1, 1)),
    ):
        g["rows"], g["inner"] = rows, inner
        g["source_height"], g["source_width"] = source_size
        g["height"], g["width"] = size
        g["phases_y"], g["phases_x"] = phases
        g["plane_height"], g["plane_width"] = (_ceil(size[i], phases[i]) for i in (0, 1))
        g["step_y"], g["step_x"] = step
    back["transposed"] = 1
    cells = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    # z at y sees a at y * stride + dy
    seen: list[tuple[int, ...]] = [
        (i * dilation[0] - top, j * dilation[1] - left, t) for t, (i, j) in enumerate(cells)
    ]
    # c at v = phase + stride * y receives from s at y + (phase - dy) / stride, where that is a whole number
    received: Taps = [
        [
            ((y - dy) // stride[0], (x - dx) // stride[1], t)
            for dy, dx, t in seen
            if (y - dy) % stride[0] == 0 and (x - dx) % stride[1] == 0
        ]
        for y in range(stride[0])
        for x in range(stride[1])
    ]
    maps = [(there, [seen]), (back, received)]
    return maps[::-1] if op.name == "conv_transpose2d" else maps


def _pack(w: Any, g: Any, tile: Tile, device: Any) -> Any:
    """Pack weights as [group][tap][inner][rows], with zeros up to multiples of a tile, where they are."""
    groups = int(g["groups"])
    taps = w.reshape(groups, w.shape[0] // groups, w.shape[1], -1)  # group, k, j, tap
    taps = taps.transpose(0, 3, 1, 2) if g["transposed"] else taps.transpose(0, 3, 2, 1)
    inner, last = taps.shape[2:]
    padded = _ceil(inner, tile.depth) * tile.depth, _ceil(last, tile.rows) * tile.rows
    if padded == (inner, last) and len(w.shape) == 2 and g["transposed"]:
        return w  # a dense layer's weights lie so already
    shape = (*taps.shape[:2], *padded)
    packed = np.zeros(shape, w.dtype) if isinstance(w, np.ndarray) else device.zeros(shape, w.dtype)
    packed[:, :, :inner, :last] = taps
    return packed
