"""The linear maps as Python kernels for a GPU: the version to read, and to step through in class.

Backend `numba-cuda`. A kernel is what *one thread* does; a launch runs it for all threads of a grid of
blocks. With NUMBA_ENABLE_CUDASIM=1 the same lines run as plain Python in Numba's simulator, where `print`
and a debugger work, without a GPU. (It runs some hundred threads a second: take very small layers, and a
TILE of 2 or 4.)

Two rungs of the ladder that `README.md` describes:

- *naive*: one thread for each cell of the output; it computes the formula and nothing else;
- *tiled*: a block computes TILE x TILE cells of a matrix product together. Its threads first copy a tile of
  each factor to memory that they share, wait for one another, and then all read from there: each number
  comes from the GPU's main memory once for TILE cells instead of once for each.

Only the linear maps and max pooling run on the GPU, with arrays that come from the host and go back to it.
The four steps around them are the lines of `reference.py`, inherited. So this backend is for reading;
the fast one is `cupy`.

Indices as in `loops.py`: n samples; k outputs, c and j inputs (channels, or neurons); (y, x) the window's
position, (i, h) its tap, (v, u) the pixel under that tap; m summands; p pixels of a channel. Guards are
written as 0 <= v < H: a negative index would wrap around, on the GPU too. Sums are kept in the
dtype of the arrays: one that begins as `0.0` would be float64 on the GPU (and float32 in the simulator).
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from lrpref.errors import BadBackend
from lrpref.kernels.device import INSTALL
from lrpref.kernels.operations import Array, Operation
from lrpref.kernels.reference import Reference

cuda: Any = None  # numba.cuda, from the first `table()` on: `import lrpref` needs neither it nor a driver

THREADS = 128
"""Threads of a block, naive kernels."""

TILE = 16
"""A tiled block has TILE x TILE threads."""

MOST = 65535
"""Blocks that a GPU takes along y and z."""

PITCH = TILE + 1
"""Length of a tile's row in shared memory. The one spare column puts a tile's columns into different
memory banks: without it, threads that read down a column would wait for each other."""

Geometry = tuple[int, int, int, int, int, int]
"""Stride (down, right), dilation (down, right), padding (top, left)."""


class Kernel:
    """
    What one thread does, and the same compiled for a GPU.

    Parameters
    ----------
    python : callable
        Reads its first arguments and writes its share of the last one.
    """

    def __init__(self, python: Callable[..., None]) -> None:
        self.python = python

    @cached_property
    def compiled(self) -> Any:
        """For a grid of threads: compiled at the first launch for a dtype, or run by the simulator."""
        return cuda.jit(self.python)


# Rung 1, naive: one thread for each cell of the output. Blocks are counted in three directions: blockIdx.z
# is the sample, blockIdx.y the channel, and along x a row of blocks covers the channel's cells.
# `cuda.grid(1)` is the thread's place in that row. The row's last block may stick out over the end of the
# channel, so each kernel begins with a guard.


@Kernel
def _dense(a: Array, w: Array, z: Array) -> None:
    # a (N, J), w (K, J) -> z (N, K):  z_k = sum_j a_j w_kj
    k, n = cuda.grid(1), cuda.blockIdx.z
    if k >= z.shape[1]:
        return
    total = z.dtype.type(0)
    for j in range(w.shape[1]):
        total += a[n, j] * w[k, j]
    z[n, k] = total


@Kernel
def _dense_transpose(s: Array, w: Array, c: Array) -> None:
    # s (N, K), w (K, J) -> c (N, J):  c_j = sum_k w_kj s_k
    j, n = cuda.grid(1), cuda.blockIdx.z
    if j >= c.shape[1]:
        return
    total = c.dtype.type(0)
    for k in range(w.shape[0]):
        total += s[n, k] * w[k, j]
    c[n, j] = total


@Kernel
def _conv2d(a: Array, w: Array, geometry: Geometry, groups: int, z: Array) -> None:
    # a (N, C, H, W), w (K, C/G, kh, kw) -> z (N, K, Ho, Wo)
    cell, k, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    sy, sx, dy, dx, top, left = geometry
    first = k // (z.shape[1] // groups) * w.shape[1]  # channel of the group
    total = z.dtype.type(0)
    for c in range(w.shape[1]):
        for i in range(w.shape[2]):
            for h in range(w.shape[3]):
                v, u = sy * y + dy * i - top, sx * x + dx * h - left
                if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                    total += a[n, first + c, v, u] * w[k, c, i, h]
    z[n, k, y, x] = total


@Kernel
def _conv2d_transpose(s: Array, w: Array, geometry: Geometry, groups: int, c: Array) -> None:
    # s (N, K, Ho, Wo), w (K, C/G, kh, kw) -> c (N, C, H, W). The thread of a pixel *gathers* from all windows
    # that see it; one thread for each s_k would have to add to pixels that other threads add to as well.
    cell, j, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= c.shape[2] * c.shape[3]:
        return
    v, u = cell // c.shape[3], cell % c.shape[3]
    sy, sx, dy, dx, top, left = geometry
    outputs, inputs = s.shape[1] // groups, w.shape[1]  # of one group
    group, channel = j // inputs, j % inputs
    total = c.dtype.type(0)
    for k in range(group * outputs, (group + 1) * outputs):
        for i in range(w.shape[2]):
            for h in range(w.shape[3]):
                down, right = v + top - dy * i, u + left - dx * h  # stride times the position of the window
                y, x = down // sy, right // sx
                if down % sy == 0 and right % sx == 0 and 0 <= y < s.shape[2] and 0 <= x < s.shape[3]:
                    total += s[n, k, y, x] * w[k, channel, i, h]
    c[n, j, v, u] = total


@Kernel
def _sum_pool2d(a: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W), w (Ho, Wo) -> z (N, C, Ho, Wo)
    cell, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    sy, sx, dy, dx, top, left = geometry
    total = z.dtype.type(0)
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            v, u = sy * y + dy * i - top, sx * x + dx * h - left
            if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                total += a[n, c, v, u]
    z[n, c, y, x] = total * w[y, x]


@Kernel
def _sum_pool2d_transpose(s: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, c: Array) -> None:
    # s (N, C, Ho, Wo), w (Ho, Wo) -> c (N, C, H, W)
    cell, j, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= c.shape[2] * c.shape[3]:
        return
    v, u = cell // c.shape[3], cell % c.shape[3]
    sy, sx, dy, dx, top, left = geometry
    total = c.dtype.type(0)
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            down, right = v + top - dy * i, u + left - dx * h
            y, x = down // sy, right // sx
            if down % sy == 0 and right % sx == 0 and 0 <= y < s.shape[2] and 0 <= x < s.shape[3]:
                total += s[n, j, y, x] * w[y, x]
    c[n, j, v, u] = total


@Kernel
def _region_sum2d(a: Array, w: Array, rows: Array, columns: Array, z: Array) -> None:
    # a (N, C, H, W), w (Ho, Wo), rows (Ho, 2), columns (Wo, 2) -> z (N, C, Ho, Wo)
    cell, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    total = z.dtype.type(0)
    for v in range(rows[y, 0], rows[y, 1]):
        for u in range(columns[x, 0], columns[x, 1]):
            total += a[n, c, v, u]
    z[n, c, y, x] = total * w[y, x]


@Kernel
def _region_sum2d_transpose(s: Array, w: Array, rows: Array, columns: Array, c: Array) -> None:
    # s (N, C, Ho, Wo), w (Ho, Wo), rows (Ho, 2), columns (Wo, 2) -> c (N, C, H, W)
    cell, j, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= c.shape[2] * c.shape[3]:
        return
    v, u = cell // c.shape[3], cell % c.shape[3]
    total = c.dtype.type(0)
    for y in range(s.shape[2]):
        for x in range(s.shape[3]):
            if rows[y, 0] <= v < rows[y, 1] and columns[x, 0] <= u < columns[x, 1]:
                total += s[n, j, y, x] * w[y, x]
    c[n, j, v, u] = total


@Kernel
def _select2d(a: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W), w (kh*kw, N, C, Ho, Wo) -> z (N, C, Ho, Wo)
    cell, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    sy, sx, dy, dx, top, left = geometry
    total = z.dtype.type(0)
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            v, u = sy * y + dy * i - top, sx * x + dx * h - left
            if 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
                total += a[n, c, v, u] * w[i * kernel[1] + h, n, c, y, x]
    z[n, c, y, x] = total


@Kernel
def _select2d_transpose(s: Array, w: Array, kernel: tuple[int, int], geometry: Geometry, c: Array) -> None:
    # s (N, C, Ho, Wo), w (kh*kw, N, C, Ho, Wo) -> c (N, C, H, W)
    cell, j, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= c.shape[2] * c.shape[3]:
        return
    v, u = cell // c.shape[3], cell % c.shape[3]
    sy, sx, dy, dx, top, left = geometry
    total = c.dtype.type(0)
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            down, right = v + top - dy * i, u + left - dx * h
            y, x = down // sy, right // sx
            if down % sy == 0 and right % sx == 0 and 0 <= y < s.shape[2] and 0 <= x < s.shape[3]:
                total += s[n, j, y, x] * w[i * kernel[1] + h, n, j, y, x]
    c[n, j, v, u] = total


@Kernel
def _scale(a: Array, w: Array, z: Array) -> None:
    # a (N, C, P), w (C,) -> z (N, C, P); a diagonal map is its own transpose
    p, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if p >= z.shape[2]:
        return
    z[n, c, p] = a[n, c, p] * w[c]


@Kernel
def _total(a: Array, w: Array, z: Array) -> None:
    # a (N, M, P), w (M,) -> z (N, P)
    p, n = cuda.grid(1), cuda.blockIdx.z
    if p >= z.shape[1]:
        return
    total = z.dtype.type(0)
    for m in range(w.shape[0]):
        total += a[n, m, p] * w[m]
    z[n, p] = total


@Kernel
def _total_transpose(s: Array, w: Array, c: Array) -> None:
    # s (N, P), w (M,) -> c (N, M, P)
    p, m, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if p >= c.shape[2]:
        return
    c[n, m, p] = s[n, p] * w[m]


# Max pooling: the forward step, and who won. One thread for each window.


@Kernel
def _max_pool2d(a: Array, kernel: tuple[int, int], geometry: Geometry, z: Array) -> None:
    # a (N, C, H, W) -> z (N, C, Ho, Wo); 0 for a window that lies wholly in the padding
    cell, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    sy, sx, dy, dx, top, left = geometry
    best, seen = z.dtype.type(0), False
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            v, u = sy * y + dy * i - top, sx * x + dx * h - left
            if 0 <= v < a.shape[2] and 0 <= u < a.shape[3] and (not seen or a[n, c, v, u] > best):
                best, seen = a[n, c, v, u], True
    z[n, c, y, x] = best


@Kernel
def _winners(
    a: Array, z: Array, kernel: tuple[int, int], geometry: Geometry, first: int, winners: Array
) -> None:
    # a (N, C, H, W), z (N, C, Ho, Wo) -> winners (kh*kw, N, C, Ho, Wo): 1 where the tap holds z, else 0
    cell, c, n = cuda.grid(1), cuda.blockIdx.y, cuda.blockIdx.z
    if cell >= z.shape[2] * z.shape[3]:
        return
    y, x = cell // z.shape[3], cell % z.shape[3]
    sy, sx, dy, dx, top, left = geometry
    taken = False
    for i in range(kernel[0]):
        for h in range(kernel[1]):
            v, u = sy * y + dy * i - top, sx * x + dx * h - left
            inside = 0 <= v < a.shape[2] and 0 <= u < a.shape[3]
            wins = inside and not (first and taken) and a[n, c, v, u] == z[n, c, y, x]
            winners[i * kernel[1] + h, n, c, y, x] = 1 if wins else 0
            taken = taken or wins


# Rung 2, tiled. A product of two matrices: a block computes TILE x TILE cells, walking along the sum in
# tiles. In each turn every thread copies one number of each factor, zeros where the tile sticks out; after
# `syncthreads` all of the tile is there, and after the second one nobody needs it any more. No thread
# may leave before the end: the others would wait for it.


@Kernel
def _dense_tiled(a: Array, w: Array, z: Array) -> None:
    # a (N, J), w (K, J) -> z (N, K)
    tile_a = cuda.shared.array((TILE, PITCH), a.dtype)  # [sample, place in the sum]
    tile_w = cuda.shared.array((TILE, PITCH), a.dtype)  # [neuron, place in the sum]
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    n, k = cuda.blockIdx.y * TILE + down, cuda.blockIdx.x * TILE + across  # this thread's cell of z
    loads = cuda.blockIdx.x * TILE + down  # the row of w that it copies from
    zero = z.dtype.type(0)
    total = zero
    for start in range(0, w.shape[1], TILE):
        j = start + across
        tile_a[down, across] = a[n, j] if n < a.shape[0] and j < a.shape[1] else zero
        tile_w[down, across] = w[loads, j] if loads < w.shape[0] and j < w.shape[1] else zero
        cuda.syncthreads()
        for t in range(TILE):
            total += tile_a[down, t] * tile_w[across, t]
        cuda.syncthreads()
    if n < z.shape[0] and k < z.shape[1]:
        z[n, k] = total


@Kernel
def _dense_transpose_tiled(s: Array, w: Array, c: Array) -> None:
    # s (N, K), w (K, J) -> c (N, J)
    tile_s = cuda.shared.array((TILE, PITCH), s.dtype)  # [sample, place in the sum]
    tile_w = cuda.shared.array((TILE, PITCH), s.dtype)  # [place in the sum, neuron]
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    n, j = cuda.blockIdx.y * TILE + down, cuda.blockIdx.x * TILE + across  # this thread's cell of c
    zero = c.dtype.type(0)
    total = zero
    for start in range(0, w.shape[0], TILE):
        k = start + across
        tile_s[down, across] = s[n, k] if n < s.shape[0] and k < s.shape[1] else zero
        k = start + down
        tile_w[down, across] = w[k, j] if k < w.shape[0] and j < w.shape[1] else zero
        cuda.syncthreads()
        for t in range(TILE):
            total += tile_s[down, t] * tile_w[t, across]
        cuda.syncthreads()
    if n < c.shape[0] and j < c.shape[1]:
        c[n, j] = total


@Kernel
def _conv2d_tiled(a: Array, w: Array, geometry: Geometry, groups: int, z: Array) -> None:
    # a (N, C, H, W), w (K, C/G, kh, kw) -> z (N, K, Ho, Wo). In each group a product of two matrices:
    #     z[k, position] = sum over q of w[k, q] * pixel[q, position],    q = (c, i, h), position = (n, y, x)
    # The matrix `pixel` is never made ("implicit"): each of its numbers is looked up when it is copied.
    tile_w = cuda.shared.array((TILE, PITCH), a.dtype)  # [output channel, q]
    tile_a = cuda.shared.array((TILE, PITCH), a.dtype)  # [q, position]
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    sy, sx, dy, dx, top, left = geometry
    outputs, inputs, taps = z.shape[1] // groups, w.shape[1], w.shape[2] * w.shape[3]
    group, output = cuda.blockIdx.z, cuda.blockIdx.y * TILE + down  # output channel, counted in its group
    k = group * outputs + output
    position = cuda.blockIdx.x * TILE + across
    positions = z.shape[2] * z.shape[3]  # of one sample
    n, y, x = position // positions, position % positions // z.shape[3], position % z.shape[3]
    zero = z.dtype.type(0)
    total = zero
    for start in range(0, inputs * taps, TILE):
        q = start + across
        weight = zero
        if output < outputs and q < inputs * taps:
            weight = w[k, q // taps, q % taps // w.shape[3], q % w.shape[3]]
        tile_w[down, across] = weight

        q = start + down
        c, i, h = q // taps, q % taps // w.shape[3], q % w.shape[3]
        v, u = sy * y + dy * i - top, sx * x + dx * h - left
        pixel = zero
        if n < a.shape[0] and c < inputs and 0 <= v < a.shape[2] and 0 <= u < a.shape[3]:
            pixel = a[n, group * inputs + c, v, u]
        tile_a[down, across] = pixel

        cuda.syncthreads()
        for t in range(TILE):
            total += tile_w[down, t] * tile_a[t, across]
        cuda.syncthreads()
    if output < outputs and n < z.shape[0]:
        z[n, k, y, x] = total


@Kernel
def _conv2d_transpose_tiled(s: Array, w: Array, geometry: Geometry, groups: int, c: Array) -> None:
    # s (N, K, Ho, Wo), w (K, C/G, kh, kw) -> c (N, C, H, W). In each group
    #     c[j, pixel] = sum over q of w[q, j] * upper[q, pixel],    q = (k, i, h), pixel = (n, v, u)
    # where `upper` is the s_k whose window sees this pixel through the tap (i, h), or 0 where there is none.
    tile_w = cuda.shared.array((TILE, PITCH), s.dtype)  # [input channel, q]
    tile_s = cuda.shared.array((TILE, PITCH), s.dtype)  # [q, pixel]
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    sy, sx, dy, dx, top, left = geometry
    outputs, inputs, taps = s.shape[1] // groups, w.shape[1], w.shape[2] * w.shape[3]
    group, channel = cuda.blockIdx.z, cuda.blockIdx.y * TILE + down  # input channel, counted in its group
    pixel = cuda.blockIdx.x * TILE + across
    pixels = c.shape[2] * c.shape[3]  # of one sample
    n, v, u = pixel // pixels, pixel % pixels // c.shape[3], pixel % c.shape[3]
    zero = c.dtype.type(0)
    total = zero
    for start in range(0, outputs * taps, TILE):
        q = start + across
        weight = zero
        if channel < inputs and q < outputs * taps:
            weight = w[group * outputs + q // taps, channel, q % taps // w.shape[3], q % w.shape[3]]
        tile_w[down, across] = weight

        q = start + down
        k, i, h = q // taps, q % taps // w.shape[3], q % w.shape[3]
        below, right = v + top - dy * i, u + left - dx * h  # stride times the position of the window
        y, x = below // sy, right // sx
        upper = zero
        if n < s.shape[0] and k < outputs and below % sy == 0 and right % sx == 0:  # noqa: SIM102
            if 0 <= y < s.shape[2] and 0 <= x < s.shape[3]:
                upper = s[n, group * outputs + k, y, x]
        tile_s[down, across] = upper

        cuda.syncthreads()
        for t in range(TILE):
            total += tile_w[down, t] * tile_s[t, across]
        cuda.syncthreads()
    if channel < inputs and n < c.shape[0]:
        c[n, group * inputs + channel, v, u] = total


def _geometry(op: Operation) -> Geometry:
    window = op.window
    return (*window.stride, *window.dilation, window.padding[0], window.padding[2])


def _blocks(cells: int, size: int) -> int:
    """Count the blocks that cover so many cells; the last one may stick out."""
    return -(-cells // size)


def _rows_of_blocks(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Give the grid of a naive kernel with an output (N, cells) or (N, C, ...)."""
    channels = shape[1] if len(shape) > 2 else 1
    return _blocks(int(np.prod(shape[1:])) // max(1, channels), THREADS), channels, shape[0]


def _check(numbers: tuple[Array, ...]) -> np.dtype[Any]:
    """Refuse what the kernels cannot hold."""
    dtype = numbers[0].dtype
    for x in numbers:
        if x.dtype not in (np.float32, np.float64):
            kind = "exact numbers" if x.dtype == object else x.dtype
            raise BadBackend(
                f"backend 'numba-cuda' serves float32 and float64, not {kind}: use backend 'numpy'"
            )
        if x.dtype != dtype:
            raise BadBackend(f"activations and weights are to be of one dtype: got {dtype} and {x.dtype}")
    return dtype


def _is_out_of_memory(error: Exception) -> bool:
    return "OUT_OF_MEMORY" in str(error)


class Table(Reference):
    """
    The function table of `operations.py`: linear maps and max pooling on the GPU, from and to the host.

    Parameters
    ----------
    tiled : bool
        Whether dense layers and convolutions run on rung 2, tiled, or on rung 1, naive.
    """

    def __init__(self, tiled: bool) -> None:
        self.tiled = tiled

    def _run(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        block: Any,
        numbers: tuple[Array, ...],
        shape: tuple[int, ...],
        *more: Any,
    ) -> Array:
        """Copy to the GPU, launch kernel(*numbers, *more, output), and copy the output back."""
        dtype = _check(numbers)
        if 0 in shape:
            return np.zeros(shape, dtype)  # a grid of no blocks cannot be launched
        if max(grid[1:]) > MOST:
            raise BadBackend(f"a GPU takes at most {MOST} samples or channels at once: take smaller batches")
        try:
            arguments = [
                cuda.to_device(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
                for x in (*numbers, *more)
            ]
            output = cuda.device_array(shape, dtype)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Grid size")  # small layers do not fill a GPU: no news here
                kernel.compiled[grid, block](*arguments, output)
            result: Array = output.copy_to_host()
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            size = sum(x.nbytes for x in numbers) + np.prod(shape) * dtype.itemsize
            raise BadBackend(
                f"the GPU has not the {size / 2**20:.0f} MiB that one layer needs: take smaller batches"
            ) from None
        return result

    def _each(self, kernel: Kernel, numbers: tuple[Array, ...], shape: tuple[int, ...], *more: Any) -> Array:
        """Run a naive kernel: one thread for each cell of the output, (N, cells) or (N, C, ...)."""
        return self._run(kernel, _rows_of_blocks(shape), THREADS, numbers, shape, *more)

    def _tiles(
        self,
        kernel: Kernel,
        grid: tuple[int, int, int],
        numbers: tuple[Array, ...],
        shape: tuple[int, ...],
        *more: Any,
    ) -> Array:
        """Run a tiled kernel: a block for each TILE x TILE cells of a (columns, rows) matrix."""
        columns, rows, matrices = grid
        blocks = _blocks(columns, TILE), _blocks(rows, TILE), matrices
        return self._run(kernel, blocks, (TILE, TILE), numbers, shape, *more)

    # The linear maps and their transposes.

    def dense(self, a: Array, w: Array, op: Operation) -> Array:
        n, k = len(a), len(w)
        if self.tiled:
            return self._tiles(_dense_tiled, (k, n, 1), (a, w), (n, k))
        return self._each(_dense, (a, w), (n, k))

    def dense_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        n, j = len(s), w.shape[1]
        if self.tiled:
            return self._tiles(_dense_transpose_tiled, (j, n, 1), (s, w), (n, j))
        return self._each(_dense_transpose, (s, w), (n, j))

    def conv2d(self, a: Array, w: Array, op: Operation) -> Array:
        (n, k, g), (ho, wo) = (len(a), len(w), op.groups), op.window.positions(op.size)
        shape, more = (n, k, ho, wo), (_geometry(op), g)
        if self.tiled:
            return self._tiles(_conv2d_tiled, (n * ho * wo, k // g, g), (a, w), shape, *more)
        return self._each(_conv2d, (a, w), shape, *more)

    def conv2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        (n, j, g), (height, width) = (len(s), w.shape[1], op.groups), op.size
        shape, more = (n, j * g, height, width), (_geometry(op), g)
        if self.tiled:
            return self._tiles(_conv2d_transpose_tiled, (n * height * width, j, g), (s, w), shape, *more)
        return self._each(_conv2d_transpose, (s, w), shape, *more)

    def sum_pool2d(self, a: Array, w: Array, op: Operation) -> Array:
        shape = (*a.shape[:2], *op.window.positions(op.size))
        return self._each(_sum_pool2d, (a, w), shape, op.window.kernel, _geometry(op))

    def sum_pool2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        shape = (*s.shape[:2], *op.size)
        return self._each(_sum_pool2d_transpose, (s, w), shape, op.window.kernel, _geometry(op))

    def region_sum2d(self, a: Array, w: Array, op: Operation) -> Array:
        shape = (*a.shape[:2], len(op.rows), len(op.columns))
        return self._each(_region_sum2d, (a, w), shape, np.array(op.rows), np.array(op.columns))

    def region_sum2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        shape = (*s.shape[:2], *op.size)
        return self._each(_region_sum2d_transpose, (s, w), shape, np.array(op.rows), np.array(op.columns))

    def select2d(self, a: Array, w: Array, op: Operation) -> Array:
        return self._each(_select2d, (a, w), w.shape[1:], op.window.kernel, _geometry(op))

    def select2d_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        shape = (*s.shape[:2], *op.size)
        return self._each(_select2d_transpose, (s, w), shape, op.window.kernel, _geometry(op))

    def scale(self, a: Array, w: Array, op: Operation) -> Array:
        cells = a.reshape(*a.shape[:2], -1)
        return self._each(_scale, (cells, w.reshape(-1)), cells.shape).reshape(a.shape)

    def scale_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        return self.scale(s, w, op)

    def total(self, a: Array, w: Array, op: Operation) -> Array:
        cells = a.reshape(*a.shape[:2], -1)
        z = self._each(_total, (cells, w.reshape(-1)), (len(a), cells.shape[2]))
        return z.reshape(len(a), *a.shape[2:])

    def total_transpose(self, s: Array, w: Array, op: Operation) -> Array:
        cells = s.reshape(len(s), -1)
        c = self._each(_total_transpose, (cells, w.reshape(-1)), (len(s), len(w), cells.shape[1]))
        return c.reshape(len(s), len(w), *s.shape[1:])

    # Max pooling.

    def max_pool2d(self, a: Array, op: Operation) -> Array:
        shape = (*a.shape[:2], *op.window.positions(op.size))
        return self._each(_max_pool2d, (a,), shape, op.window.kernel, _geometry(op))

    def max_pool2d_winners(self, a: Array, op: Operation, ties: str) -> Array:
        z, (kh, kw) = self.max_pool2d(a, op), op.window.kernel
        first = int(ties == "first")
        grid, shape = _rows_of_blocks(z.shape), (kh * kw, *z.shape)  # a thread for each window
        return self._run(_winners, grid, THREADS, (a, z), shape, op.window.kernel, _geometry(op), first)


def _simulated() -> bool:
    return bool(importlib.import_module("numba").config.ENABLE_CUDASIM)


def table(tiled: bool = True) -> Table:
    """
    Give the backend `numba-cuda`.

    Parameters
    ----------
    tiled : bool
        Whether dense layers and convolutions run on rung 2, tiled, or on rung 1, naive.

    Returns
    -------
    Table
        The function table.

    Raises
    ------
    BadBackend
        If the package numba-cuda is missing, or neither a GPU nor the simulator is there.
    """
    global cuda
    simulator = "set NUMBA_ENABLE_CUDASIM=1 before Python starts to step through the kernels without a GPU"
    if not _simulated() and importlib.util.find_spec("numba_cuda") is None:
        raise BadBackend(
            "backend 'numba-cuda' needs the package numba-cuda, which is not installed: "
            f"{INSTALL}; or {simulator}"
        )
    found = importlib.import_module("numba.cuda")
    if not found.is_available():
        raise BadBackend(
            "backend 'numba-cuda' found no GPU that answers (does nvidia-smi list one?): "
            f"use backend 'cpu', or {simulator}"
        )
    cuda = found
    return Table(tiled)
