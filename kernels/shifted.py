"""Convolution as shifted matrix products, and its transpose, in blocks that stay in cache.

For each tap (i, j) of a window, every output pixel takes its input from the same distance away. So with
the image padded and its rows laid end to end, a tap is one matrix product of the weights w[:, :, i, j]
with the image, *read from another starting point*; the taps add up::

    padded image, one channel       rows end to end           the taps of a 3 x 3 window start at
    . . . . . .                     one row apart: `pitch`
    . a b c d .
    . e f g h .          . a b c d . e f g h . i j k l .      0,       1,       2,
    . i j k l .          ^                                    pitch,   ...
    . . . . . .          start[i, j] = i * pitch + j          2 pitch, ...

No column of pixels is ever copied out per tap. The zeros at the end of a row serve as those at the
beginning of the next. At the row ends the products compute pixels that nobody wants; they are left out.

With a **stride** s the window only meets every s-th pixel: the padded image falls into s x s images, one
for each remainder of the row and the column by s (its *phases*), and every tap reads one of them, with
stride 1. The **transpose** turns the arrows around: the pixels of the result fall into s x s phases, and
each is a sum of shifted s, with stride 1, over the taps that meet it. Both are a `Correlation` here.

A block of pixels is worked through like this, all of it in the cache of one core::

    for each few input channels:   gather them, padded       (what enters: a, a+, a- or 1)
        for each tile of pixels x outputs:   add up over taps and channels   (`tile.py`)
    the epilogue: bias, division, sums; or times a, sums     (what is done with z, or with c)

Winograd's algorithm would multiply less, and was left out: it computes neighbouring pixels from sums that
they share, so that a window of zeros beside a bright pixel gives z = 1e-8 where the formula gives 0. LRP
divides by z: relevance that belongs to the account "dropped" would be spread with enormous factors.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lrpref.kernels.compiled import compiled, given, share, threads
from lrpref.kernels.operations import Array, Operation
from lrpref.kernels.rows import (
    NEGATIVE,
    ONES,
    POSITIVE,
    WHOLE,
    add_bias,
    divide_row,
    part_of,
    scale_row,
    weigh_phase,
    weigh_row,
)
from lrpref.kernels.tile import OUTPUTS, VECTOR, tile1, tile2, tile3

_CACHE = 1 << 20
"""Bytes of output that a block may hold: half of a large second-level cache, all of a small one."""

_FIRST_CACHE = 1 << 15
"""Bytes of the image that may stay in the first-level cache, beside the weights of a tile."""

_REACH = 288
"""Taps times channels that are added up at once: what they read of the image fits in the first cache."""


class Correlation(NamedTuple):
    """
    Sums of shifted images with stride 1: a convolution, or one phase of its transpose.

    Parameters
    ----------
    height, width : int
        The source's.
    phases : ndarray of int, shape (P, 2)
        Row and column of the source under the first pixel of each phase; negative in the padding.
    step_y, step_x : int
        Distance in the source between the pixels of a phase.
    taps : ndarray of int, shape (T, 3)
        Phase, and row and column in it, that each tap reads for the first output pixel.
    tap : int
        The first of these taps in the packed weights.
    rows, columns : int
        Output pixels.
    more_rows, more_columns : int
        Rows and columns of a phase beyond those: the largest of `taps`.
    pitch : int
        Distance between rows that are laid end to end.
    to_y, to_x, every_y, every_x : int
        Where the output's first pixel belongs, and the distance to the next.
    out_width : int
        Columns of the image that it belongs to.
    """

    height: int
    width: int
    phases: Array
    step_y: int
    step_x: int
    taps: Array
    tap: int
    rows: int
    columns: int
    more_rows: int
    more_columns: int
    pitch: int
    to_y: int
    to_x: int
    every_y: int
    every_x: int
    out_width: int


def _correlation(
    size: tuple[int, int], phases: Any, step: tuple[int, int], taps: Any, tap: int, grid: tuple[int, int],
    to: tuple[int, int], every: tuple[int, int], out_width: int,
) -> Correlation:  # fmt: skip
    """Add what follows from the rest; `size` is the source's."""
    phases = np.array(phases, np.int64).reshape(-1, 2)
    taps = np.array(taps, np.int64).reshape(-1, 3)
    more_rows, more_columns = taps[:, 1:].max(axis=0, initial=0).tolist()
    columns = grid[1] + more_columns
    before = -(phases[:, 1] // step[1])  # columns of zeros
    after = columns + (phases[:, 1] - size[1]) // step[1]
    shared = min(before.min(initial=more_columns), after.min(initial=more_columns))
    pitch = columns - max(0, int(shared))
    return Correlation(
        *size, phases, *step, taps, tap, *grid, more_rows, more_columns, pitch, *to, *every, out_width
    )


def forward_correlation(op: Operation) -> Correlation:
    """
    Describe a convolution.

    Parameters
    ----------
    op : Operation
        Its geometry.

    Returns
    -------
    Correlation
        From the image to the window's positions.
    """
    window = op.window
    (kh, kw), (sy, sx), (dy, dx) = window.kernel, window.stride, window.dilation
    top, _, left, _ = window.padding
    places = [(i * dy, j * dx) for i in range(kh) for j in range(kw)]
    remainders = sorted({(y % sy, x % sx) for y, x in places})
    phases = [(py - top, px - left) for py, px in remainders]
    taps = [(remainders.index((y % sy, x % sx)), y // sy, x // sx) for y, x in places]
    grid = window.positions(op.size)
    return _correlation(op.size, phases, (sy, sx), taps, 0, grid, (0, 0), (1, 1), grid[1])


def transposed_taps(op: Operation) -> list[tuple[tuple[int, int], list[int]]]:
    """
    Sort the taps of a transposed convolution by the pixels that they meet.

    Parameters
    ----------
    op : Operation
        The convolution's geometry.

    Returns
    -------
    list of (phase, taps)
        For each remainder (of row, of column) by the stride, its taps in row-major numbers.
    """
    (kh, kw), (sy, sx), (dy, dx) = op.window.kernel, op.window.stride, op.window.dilation
    return [
        (
            (py, px),
            [i * kw + j for i in range(kh) for j in range(kw) if (i * dy % sy, j * dx % sx) == (py, px)],
        )
        for py in range(sy)
        for px in range(sx)
    ]


def transposed_correlations(op: Operation) -> list[Correlation]:
    """
    Describe a transposed convolution: the pixels of one remainder each.

    Parameters
    ----------
    op : Operation
        The convolution's geometry.

    Returns
    -------
    list of Correlation
        From the window's positions to the image.
    """
    window, found, tap = op.window, [], 0
    (sy, sx), (dy, dx), kw = window.stride, window.dilation, window.kernel[1]
    top, _, left, _ = window.padding
    for (py, px), numbers in transposed_taps(op):
        # pixel v = sy m + py - top takes s[m - q] from tap i with i dy = sy q + py
        m, n = -((py - top) // sy), -((px - left) // sx)  # the first inside the image
        to = sy * m + py - top, sx * n + px - left
        grid = -((to[0] - op.size[0]) // sy), -((to[1] - op.size[1]) // sx)
        back = [(t // kw * dy // sy, t % kw * dx // sx) for t in numbers]
        far_y, far_x = max((y for y, _ in back), default=0), max((x for _, x in back), default=0)
        taps = [(0, far_y - y, far_x - x) for y, x in back]
        found.append(
            _correlation(
                window.positions(op.size), [(m - far_y, n - far_x)], (1, 1), taps, tap,
                (max(grid[0], 0), max(grid[1], 0)), to, window.stride, op.size[1],
            )
        )  # fmt: skip
        tap += len(numbers)
    return found


# Weights, laid out as the tiles read them.


class Layout(NamedTuple):
    """
    Weights in the order in which the tiles read them.

    That is: group, channels that are gathered at once, outputs of a tile; within them tap, channel, output.

    Parameters
    ----------
    w : ndarray, shape (.,)
        The numbers, end to end.
    taps : int
        Taps T of the kernel.
    inputs, outputs : int
        Channels of one group that enter, and that come out.
    tiles : int
        How many tiles hold the outputs of a group; beyond the last output there are zeros.
    at_once : int
        Input channels that are gathered at once.
    """

    w: Array
    taps: int
    inputs: int
    outputs: int
    tiles: int
    at_once: int


@compiled
def _lay_out(
    w: Array, order: Array, transposed: bool, groups: int, at_once: int, tiles: int, laid: Array
) -> None:
    # w (K, C/G, T)
    per_group = w.shape[0] // groups
    inputs, outputs = (per_group, w.shape[1]) if transposed else (w.shape[1], per_group)
    at = 0
    for g in range(groups):
        for first in range(0, inputs, at_once):
            for tile in range(tiles):
                for t in order:
                    for c in range(first, min(first + at_once, inputs)):
                        for k in range(tile * OUTPUTS, (tile + 1) * OUTPUTS):
                            if k >= outputs:
                                laid[at] = 0
                            elif transposed:
                                laid[at] = w[g * per_group + c, k, t]
                            else:
                                laid[at] = w[g * per_group + k, c, t]
                            at += 1


class Kernel:
    """
    A convolution's weights, prepared: each direction is laid out when it is first wanted.

    Parameters
    ----------
    op : Operation
        The convolution.
    w : ndarray, shape (K, C/G, kh, kw)
        Weights.
    """

    def __init__(self, op: Operation, w: Array) -> None:
        self._op, self._w = op, given(w)
        self._forward: Layout | None = None
        self._transposed: Layout | None = None
        self.shape, self.dtype = w.shape, w.dtype
        self.nbytes = 2 * w.nbytes
        """Bytes that both directions take, but for a few zeros."""

    def forward(self) -> Layout:
        """
        Give the layout for the convolution.

        Returns
        -------
        Layout
            From C channels to K.
        """
        w, found = self._w, self._forward  # in this order: see _done
        if found is None:
            order = np.arange(self.shape[2] * self.shape[3])
            found = self._forward = self._laid(w, False, order)
            self._done()
        return found

    def transposed(self) -> Layout:
        """
        Give the layout for the transposed convolution.

        Returns
        -------
        Layout
            From K channels to C.
        """
        w, found = self._w, self._transposed
        if found is None:
            order = np.array([t for _, taps in transposed_taps(self._op) for t in taps], np.int64)
            found = self._transposed = self._laid(w, True, order)
            self._done()
        return found

    def _done(self) -> None:
        """Let go of the weights as they came, once both directions are laid out."""
        if self._forward is not None and self._transposed is not None:
            self._w = np.empty(0, self.dtype)

    def _laid(self, w: Array, transposed: bool, order: Array) -> Layout:
        k, c, kh, kw = self.shape
        groups = self._op.groups
        inputs, outputs = (k // groups, c) if transposed else (c, k // groups)
        tiles = -(-outputs // OUTPUTS)
        at_once = max(8, _REACH // (kh * kw))
        laid = np.empty(groups * inputs * tiles * OUTPUTS * kh * kw, self.dtype)
        _lay_out(w.reshape(k, c, kh * kw), order, transposed, groups, at_once, tiles, laid)
        return Layout(given(laid), kh * kw, inputs, outputs, tiles, at_once)


# Blocks: which rows of which sample, and which outputs.


class Blocks(NamedTuple):
    """
    How the work is cut: into samples, groups, runs of rows and runs of tiles of output channels.

    Parameters
    ----------
    groups, row_runs, tile_runs : int
        How many there are.
    """

    groups: int
    row_runs: int
    tile_runs: int


def cut(samples: int, groups: int, layout: Layout, c: Correlation) -> Blocks:
    """
    Cut the work into blocks whose output stays in cache, and enough of them for the threads.

    More runs of rows read the weights more often, more runs of outputs the image: the smaller is taken.

    Parameters
    ----------
    samples, groups : int
        How many there are.
    layout : Layout
        The weights.
    c : Correlation
        The geometry.

    Returns
    -------
    Blocks
        The cut.
    """
    rows = tiles = 1
    size = layout.w.itemsize
    image = (c.rows + c.more_rows) * c.pitch * len(c.phases) * layout.inputs
    weights = layout.inputs * layout.outputs * len(c.taps)
    while True:
        output = -(-c.rows // rows) * c.pitch * -(-layout.tiles // tiles) * OUTPUTS * size
        blocks = samples * groups * rows * tiles
        uneven = blocks % threads() and blocks < 16 * threads()
        if output <= _CACHE and not uneven:
            break
        if rows < c.rows and (weights <= image or tiles >= layout.tiles):
            rows += 1
        elif tiles < layout.tiles:
            tiles += 1
        else:
            break
    return Blocks(groups, rows, tiles)


# The compiled part.


@compiled
def _gather(
    source: Array, part: int, c: Correlation, first: int, rows: int, plane: int, image: Array
) -> None:
    """Lay out the phases of a few channels, (channels, H W): padded, their rows end to end."""
    # the loops are written out: calling a function for each row would take longer than the row
    at, columns, nothing, one = 0, c.columns + c.more_columns, image.dtype.type(0), image.dtype.type(1)
    for channel in range(source.shape[0]):
        for phase in range(c.phases.shape[0]):
            left = c.phases[phase, 1]
            low = min(max(0, -(left // c.step_x)), columns)
            high = max(low, min(columns, -((left - c.width) // c.step_x)))
            left += c.step_x * low
            for y in range(rows):
                row = image[at + y * c.pitch : at + y * c.pitch + columns]
                v = c.phases[phase, 0] + c.step_y * (first + y)
                if v < 0 or v >= c.height:
                    row[:] = nothing
                    continue
                pixels, inside = source[channel, v * c.width + left : (v + 1) * c.width], row[low:high]
                for x in range(low):
                    row[x] = nothing
                for x in range(high, columns):
                    row[x] = nothing
                if part == ONES:
                    for x in range(inside.size):
                        inside[x] = one
                elif c.step_x > 1:
                    for x in range(inside.size):
                        inside[x] = part_of(pixels[c.step_x * x], part, nothing)
                elif part == POSITIVE:
                    for x in range(inside.size):
                        inside[x] = nothing if pixels[x] <= 0 else pixels[x]
                elif part == NEGATIVE:
                    for x in range(inside.size):
                        inside[x] = nothing if pixels[x] >= 0 else pixels[x]
                else:
                    for x in range(inside.size):
                        inside[x] = pixels[x]
            image[at + (rows - 1) * c.pitch + columns : at + plane] = nothing
            at += plane


@compiled
def _multiply(
    image: Array, plane: int, offsets: Array, channels: int, w: Array, w_at: int, w_step: int, tiles: int,
    z: Array, z_plane: int, columns: int, add: int,
) -> None:  # fmt: skip
    """Go over the tiles of a block: a run of pixels, all outputs, the next run."""
    lanes = VECTOR // z.itemsize
    width = 3 * lanes
    runs = -(-columns // width)
    small = channels * plane * z.itemsize <= _FIRST_CACHE  # then better all pixels, and the next outputs
    for turn in range(runs * tiles):
        k, run = divmod(turn, runs) if small else (turn % tiles, turn // tiles)
        x = run * width
        w_here, z_here, vectors = w_at + k * w_step, k * OUTPUTS * z_plane + x, -(-(columns - x) // lanes)
        if vectors > 2:
            tile3(image, x, plane, offsets, offsets.size, channels, w, w_here, z, z_here, z_plane, add)
        elif vectors == 2:
            tile2(image, x, plane, offsets, offsets.size, channels, w, w_here, z, z_here, z_plane, add)
        else:
            tile1(image, x, plane, offsets, offsets.size, channels, w, w_here, z, z_here, z_plane, add)


@compiled
def _round_up(x: int, multiple: int) -> int:
    return -(-x // multiple) * multiple


@compiled
def _room(c: Correlation, layout: Layout, blocks: Blocks) -> tuple[int, int]:
    """Count the numbers in a channel of a block's image, and of its output."""
    lanes = VECTOR // layout.w.itemsize
    rows = -(-c.rows // blocks.row_runs)
    z_plane = _round_up(rows * c.pitch, lanes)
    plane = _round_up(c.more_rows * c.pitch + c.more_columns + z_plane, lanes)
    if plane // lanes % 2 == 0:
        plane += lanes  # an odd number of cache lines: channels do not compete for the same places
    return plane, z_plane


@compiled
def _scratch(c: Correlation, layout: Layout, blocks: Blocks) -> tuple[Array, int, Array, int]:
    """Make room for a block: its image and its output, end to end, and the length of their channels."""
    plane, z_plane = _room(c, layout, blocks)
    image = np.empty(layout.at_once * c.phases.shape[0] * plane, layout.w.dtype)
    tiles = -(-layout.tiles // blocks.tile_runs)
    return image, plane, np.empty(tiles * OUTPUTS * z_plane, layout.w.dtype), z_plane


@compiled
def _block(item: int, blocks: Blocks, c: Correlation, layout: Layout) -> tuple[int, int, int, int, int, int]:
    """Give the sample, the group, and the first and last row and tile of a block."""
    item, run = divmod(item, blocks.tile_runs)
    item, row_run = divmod(item, blocks.row_runs)
    n, group = divmod(item, blocks.groups)
    y, y_end = row_run * c.rows // blocks.row_runs, (row_run + 1) * c.rows // blocks.row_runs
    tile, tile_end = run * layout.tiles // blocks.tile_runs, (run + 1) * layout.tiles // blocks.tile_runs
    return n, group, y, y_end, tile, tile_end


@compiled
def _add_products(
    source: Array, part: int, layout: Layout, c: Correlation, group: int, y: int, y_end: int, tile: int,
    tile_end: int, image: Array, plane: int, z: Array, z_plane: int, add: int,
) -> None:  # fmt: skip
    """Add up all taps and channels of a block: source (C, H W) -> z (tiles * OUTPUTS, z_plane)."""
    if not add and not c.taps.size:
        z[:] = 0  # pixels that no window meets
    offsets = c.taps[:, 0] * plane + c.taps[:, 1] * c.pitch + c.taps[:, 2]
    columns = (y_end - y - 1) * c.pitch + c.columns
    inputs = layout.inputs if c.taps.size else 0
    for first in range(0, inputs, layout.at_once):
        channels = min(layout.at_once, inputs - first)
        here = group * inputs + first
        _gather(source[here : here + channels], part, c, y, y_end - y + c.more_rows, plane, image)
        w_step = layout.taps * channels * OUTPUTS
        w_at = here * layout.tiles * layout.taps * OUTPUTS + tile * w_step + c.tap * channels * OUTPUTS
        _multiply(
            image, c.phases.shape[0] * plane, offsets, channels, layout.w, w_at, w_step, tile_end - tile,
            z, z_plane, columns, add or first,
        )  # fmt: skip


@compiled
def _close_up(z: Array, z_plane: int, c: Correlation, rows: int, i: int) -> Array:
    """Take the pixels between the row ends out of an output channel of a block; give the channel."""
    channel = z[i * z_plane : (i + 1) * z_plane]
    if c.pitch > c.columns:
        for y in range(1, rows):
            for x in range(c.columns):
                channel[y * c.columns + x] = channel[y * c.pitch + x]
    return channel[: rows * c.columns]


@compiled
def _add_terms(
    terms: Any, n: int, c: Correlation, group: int, y: int, y_end: int, tile: int, tile_end: int,
    image: Array, plane: int, z: Array, z_plane: int,
) -> None:  # fmt: skip
    """Add up all terms of a block."""
    add = 0
    for p, part, layout in terms:
        _add_products(p[n], part, layout, c, group, y, y_end, tile, tile_end, image, plane, z, z_plane, add)
        add = 1


@compiled
def _preactivate(
    terms: Any, c: Correlation, blocks: Blocks, b: Array, out: Array, start: int, stop: int
) -> None:
    # terms of (N, C, H W), part, Layout; b (K,) -> out (N, K, Ho Wo)
    layout = terms[0][2]
    image, plane, z, z_plane = _scratch(c, layout, blocks)
    for item in range(start, stop):
        n, group, y, y_end, tile, tile_end = _block(item, blocks, c, layout)
        _add_terms(terms, n, c, group, y, y_end, tile, tile_end, image, plane, z, z_plane)
        for i in range(min(tile_end * OUTPUTS, layout.outputs) - tile * OUTPUTS):
            k = group * layout.outputs + tile * OUTPUTS + i
            channel = _close_up(z, z_plane, c, y_end - y, i)
            add_bias(channel, b[k], out[n, k, y * c.columns : y_end * c.columns])


@compiled
def _divide(
    terms: Any, c: Correlation, blocks: Blocks, b: Array, R: Array, own: Array, sign: int, eps: Array,
    signed: bool, s: Array, sums: Array, start: int, stop: int,
) -> None:  # fmt: skip
    # terms of (N, C, H W), part, Layout; b (K,); R, own (N, K, Ho Wo); eps (N,) -> s, sums (items, 3)
    layout = terms[0][2]
    image, plane, z, z_plane = _scratch(c, layout, blocks)
    for item in range(start, stop):
        n, group, y, y_end, tile, tile_end = _block(item, blocks, c, layout)
        _add_terms(terms, n, c, group, y, y_end, tile, tile_end, image, plane, z, z_plane)
        here, end = y * c.columns, y_end * c.columns
        for i in range(min(tile_end * OUTPUTS, layout.outputs) - tile * OUTPUTS):
            k = group * layout.outputs + tile * OUTPUTS + i
            channel = _close_up(z, z_plane, c, y_end - y, i)
            add_bias(channel, b[k], channel)
            divide_row(
                channel, R[n, k, here:end], own[n, k, here:end], sign, eps[n], signed, b[k],
                s[n, k, here:end], sums[item],
            )  # fmt: skip


@compiled
def _redistribute(
    terms: Any, s: Array, c: Correlation, blocks: Blocks, q: Any, R: Array, sums: Array, start: int,
    stop: int,
) -> None:  # fmt: skip
    # terms of (N, C, H W), part, Layout; s (N, K, Ho Wo) -> R (N, C, H W), sums (items,)
    layout = terms[0][2]
    image, plane, z, z_plane = _scratch(c, layout, blocks)
    every_pixel = c.every_y == 1 and c.columns == c.out_width
    last, one = len(terms) - 1, s.dtype.type(1)
    for item in range(start, stop):
        n, group, y, y_end, tile, tile_end = _block(item, blocks, c, layout)
        for t, (p, part, packed) in enumerate(terms):
            _add_products(
                s[n], WHOLE, packed, c, group, y, y_end, tile, tile_end, image, plane, z, z_plane, 0
            )
            for i in range(min(tile_end * OUTPUTS, layout.outputs) - tile * OUTPUTS):
                j = group * layout.outputs + tile * OUTPUTS + i
                channel = _close_up(z, z_plane, c, y_end - y, i)
                if every_pixel:
                    here, end = y * c.columns, y_end * c.columns
                    weigh_row(channel, p[n, j, here:end], part, t > 0, R[n, j, here:end])
                    if t == last:
                        sums[item] += scale_row(R[n, j, here:end], q)
                else:
                    first = (c.to_y + c.every_y * y) * c.out_width + c.to_x
                    sums[item] += weigh_phase(
                        channel, p[n, j], part, t > 0, q if t == last else one, R[n, j], first,
                        c.every_y * c.out_width, c.every_x, c.columns, t == last,
                    )  # fmt: skip


# From arrays to blocks.


def _flat(x: Array) -> Array:
    """View (N, C, H, W) as (N, C, H W)."""
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def _of_samples(parts: Array, samples: int) -> Array:
    """Add up what the blocks booked, (blocks, ...), sample by sample, in order."""
    return parts.reshape(samples, len(parts) // max(samples, 1), *parts.shape[1:]).sum(axis=1)


def preactivation(op: Operation, terms: Any, b: Array, out: Array) -> None:
    """
    Run step 1: z_k = sum over terms of forward(p, w) + b.

    Parameters
    ----------
    op : Operation
        The convolution.
    terms : sequence of (ndarray, int, Kernel)
        p (N, C, H, W), which part of it enters, and the weights.
    b : ndarray, shape (K,)
        Bias.
    out : ndarray, shape (N, K, Ho, Wo)
        Becomes z.
    """
    packed = tuple((_flat(p), part, w.forward()) for p, part, w in terms)
    c = forward_correlation(op)
    blocks = cut(len(out), op.groups, packed[0][2], c)
    share(len(out) * math.prod(blocks), partial(_preactivate, packed, c, blocks, b, _flat(out)))


def quotient(
    op: Operation, terms: Any, b: Array, R: Array, own: Array, sign: int, eps: Array, signed: bool, s: Array
) -> Array:
    """
    Run steps 1 and 2: s = R / z; z lives in the blocks alone.

    Parameters
    ----------
    op : Operation
        The convolution.
    terms : sequence of (ndarray, int, Kernel)
        As for `preactivation`.
    b : ndarray, shape (K,)
        Bias.
    R, own : ndarray, shape (N, K, Ho, Wo)
        Relevance that arrives, and the z whose sign is its gate.
    sign : int
        1 or -1; 0 without a gate.
    eps : ndarray, shape (N,)
        Stabilizer.
    signed : bool
        Whether it takes the sign of z.
    s : ndarray, like R
        Becomes R / z.

    Returns
    -------
    ndarray of float64, shape (N, 3)
        What goes to the bias, to the stabilizer, and what is dropped.
    """
    packed = tuple((_flat(p), part, w.forward()) for p, part, w in terms)
    c = forward_correlation(op)
    blocks = cut(len(s), op.groups, packed[0][2], c)
    sums = np.zeros((len(s) * math.prod(blocks), 3))
    work = partial(_divide, packed, c, blocks, b, _flat(R), _flat(own), sign, eps, signed, _flat(s), sums)
    share(len(sums), work)
    return _of_samples(sums, len(s))


def redistribute(op: Operation, terms: Any, s: Array, q: Any, R: Array) -> Array:
    """
    Run steps 3 and 4: R = q * sum over terms of p c; c lives in the blocks alone.

    Parameters
    ----------
    op : Operation
        The convolution.
    terms : sequence of (ndarray, int, Kernel)
        As for `preactivation`.
    s : ndarray, shape (N, K, Ho, Wo)
        From `quotient`.
    q : number
        Coefficient, in the arithmetic of s.
    R : ndarray, shape (N, C, H, W)
        Becomes the relevance of the lower neurons.

    Returns
    -------
    ndarray of float64, shape (N,)
        Its sums.
    """
    packed = tuple((_flat(p), part, w.transposed()) for p, part, w in terms)
    to_inputs = np.zeros(len(R))
    for c in transposed_correlations(op):
        if c.rows and c.columns:
            blocks = cut(len(R), op.groups, packed[0][2], c)
            sums = np.zeros(len(R) * math.prod(blocks))
            share(len(sums), partial(_redistribute, packed, _flat(s), c, blocks, q, _flat(R), sums))
            to_inputs += _of_samples(sums, len(R))
    return to_inputs
