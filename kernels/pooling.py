"""Pooling on backend `cpu`: windows that slide over each plane of an image by itself.

`sum_pool2d` and `select2d` are one loop here: z = sum over taps of w times the tap, where w is the same
for all taps and planes, or has one number for each. A row of output at a time: a tap's pixels, which lie
`stride` apart, are first picked into a row without gaps, because those vectorise; what lies in the padding
becomes a number that changes nothing. The transpose adds up one row of pixels for each remainder by the
stride, and weaves them together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.kernels.compiled import compiled
from lrpref.kernels.operations import Array, Operation

Geometry = tuple[int, int, int, int, int, int, int, int]
"""Kernel, stride, dilation (down, right each), padding (top, left)."""


def geometry_of(op: Operation) -> Geometry:
    """
    Give the window's numbers as the loops take them.

    Parameters
    ----------
    op : Operation
        Any map with a window.

    Returns
    -------
    tuple of int
        Kernel, stride, dilation, and padding (top, left).
    """
    window = op.window
    top, _, left, _ = window.padding
    return (*window.kernel, *window.stride, *window.dilation, top, left)


@compiled
def _pick(pixels: Array, at: int, step: int, outside: Any, taps: Array) -> None:
    """Fill taps with pixels[at + step x], or with what stands for those outside."""
    low = min(max(0, -(at // step)), taps.size)
    high = max(low, min(taps.size, -((at - pixels.size) // step)))
    taps[:low] = outside
    taps[high:] = outside
    inside, pixels = taps[low:high], pixels[at + step * low :]
    if step == 1:  # the usual steps as numbers: so that the compiler can vectorise them
        for x in range(inside.size):
            inside[x] = pixels[x]
    elif step == 2:
        for x in range(inside.size):
            inside[x] = pixels[2 * x]
    else:
        for x in range(inside.size):
            inside[x] = pixels[step * x]


@compiled
def _weave(phases: Array, step: int, left: int, pixels: Array) -> None:
    """Fill pixels with phases[(u + left) % step, (u + left) // step]."""
    if step == 2 and left == 0:
        even, odd = phases[0], phases[1]
        for x in range(pixels.size // 2):
            pixels[2 * x] = even[x]
            pixels[2 * x + 1] = odd[x]
        if pixels.size % 2:
            pixels[pixels.size - 1] = even[pixels.size // 2]
    else:
        for u in range(pixels.size):
            pixels[u] = phases[(u + left) % step, (u + left) // step]


@compiled
def pool(a: Array, w: Array, geometry: Geometry, z: Array, start: int, stop: int) -> None:
    # a (M, H, W), w (T, M, Ho, Wo) or (1, 1, Ho, Wo) -> z (M, Ho, Wo)
    kh, kw, sy, sx, dy, dx, top, left = geometry
    taps, nothing = np.empty(z.shape[2], z.dtype), z.dtype.type(0)
    for m in range(start, stop):
        for y in range(z.shape[1]):
            row = z[m, y]
            row[:] = nothing
            for i in range(kh):
                v = sy * y + dy * i - top
                if 0 <= v < a.shape[1]:
                    for j in range(kw):
                        _pick(a[m, v], dx * j - left, sx, nothing, taps)
                        chosen = w[(i * kw + j) % w.shape[0], m % w.shape[1], y]
                        for x in range(row.size):
                            row[x] += chosen[x] * taps[x]


@compiled
def pool_transpose(s: Array, w: Array, geometry: Geometry, c: Array, start: int, stop: int) -> None:
    # s (M, Ho, Wo), w as in `pool` -> c (M, H, W)
    kh, kw, sy, sx, dy, dx, top, left = geometry
    wo, nothing = s.shape[2], s.dtype.type(0)
    length = max(wo + dx * (kw - 1) // sx, (c.shape[2] - 1 + left) // sx + 1)
    phases = np.empty((sx, length), s.dtype)
    for m in range(start, stop):
        for v in range(c.shape[1]):
            phases[:] = nothing
            for i in range(kh):
                y, remainder = divmod(v + top - dy * i, sy)
                if remainder == 0 and 0 <= y < s.shape[1]:
                    row = s[m, y]
                    for j in range(kw):
                        shift, phase = divmod(dx * j, sx)
                        chosen = w[(i * kw + j) % w.shape[0], m % w.shape[1], y]
                        target = phases[phase, shift : shift + wo]
                        for x in range(row.size):
                            target[x] += chosen[x] * row[x]
            _weave(phases, sx, left, c[m, v])


@compiled
def max_pool(a: Array, geometry: Geometry, covered: Array, z: Array, start: int, stop: int) -> None:
    # a (M, H, W), covered (Ho, Wo) -> z (M, Ho, Wo)
    # taps in the padding never win; windows wholly in it are not covered, and give 0
    kh, kw, sy, sx, dy, dx, top, left = geometry
    taps, least, nothing = np.empty(z.shape[2], z.dtype), z.dtype.type(-np.inf), z.dtype.type(0)
    for m in range(start, stop):
        for y in range(z.shape[1]):
            row, inside = z[m, y], covered[y]
            row[:] = least
            for i in range(kh):
                v = sy * y + dy * i - top
                if 0 <= v < a.shape[1]:
                    for j in range(kw):
                        _pick(a[m, v], dx * j - left, sx, least, taps)
                        for x in range(row.size):
                            row[x] = taps[x] if taps[x] > row[x] else row[x]
            for x in range(row.size):
                row[x] = row[x] if inside[x] else nothing


@compiled
def winners(
    a: Array, z: Array, geometry: Geometry, first_only: bool, found: Array, start: int, stop: int
) -> None:
    # a (M, H, W), z (M, Ho, Wo) -> found (T, M, Ho, Wo)
    kh, kw, sy, sx, dy, dx, top, left = geometry
    taps, open_ = np.empty(z.shape[2], z.dtype), np.empty(z.shape[2], z.dtype)
    nothing, one, nobody = z.dtype.type(0), z.dtype.type(1), z.dtype.type(np.nan)
    for m in range(start, stop):
        for y in range(z.shape[1]):
            most = z[m, y]
            open_[:] = one
            for i in range(kh):
                v = sy * y + dy * i - top
                for j in range(kw):
                    row = found[i * kw + j, m, y]
                    if v < 0 or v >= a.shape[1]:
                        row[:] = nothing
                        continue
                    _pick(a[m, v], dx * j - left, sx, nobody, taps)
                    for x in range(row.size):
                        row[x] = open_[x] if taps[x] == most[x] else nothing
                    if first_only:
                        for x in range(row.size):
                            open_[x] -= row[x]
