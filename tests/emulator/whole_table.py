"""Every kernel on small odd shapes, for the sanitizers; the answers are checked too.

    python whole_table.py 1,2,3,4,chosen,maps [OLD NEW]

The rungs of the convolution, what the launcher chooses, and the other maps. With OLD and NEW the kernels'
sources are changed first: a fault that a sanitizer has to find.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from strategies import MAPS, fixed_cases

from emulator import EmulatedDevice
from emulator.sanitize import case
from lrpref.kernels.cupy_cuda import Table
from lrpref.kernels.operations import A, Operation, Window
from lrpref.kernels.reference import REFERENCE
from lrpref.kernels.signs import negative, positive

# Float32 sums of at most 200 products: 200 * 6e-8 of the magnitudes.
CLOSE = 2e-5

CONVOLUTIONS = {
    "stride and dilation": (
        Operation("conv2d", (7, 8), Window((3, 2), (2, 1), (1, 0, 2, 1), (1, 2))),
        2,
        5,
        6,
    ),
    "groups": (Operation("conv2d", (4, 5), Window((3, 3), (1, 1), (1, 1, 1, 1)), 2), 2, 3, 4),
    "depthwise": (Operation("conv2d", (5, 4), Window((3, 3), (1, 1), (1, 1, 1, 1)), 6), 1, 1, 6),
    "transposed": (
        Operation("conv_transpose2d", (7, 8), Window((3, 2), (2, 3), (1, -1, 1, 0), (1, 2)), 2),
        2,
        3,
        6,
    ),
    "1 x 1": (Operation("conv2d", (3, 5), Window((1, 1))), 1, 19, 7),
    "dense": (Operation("dense"), 3, 37, 9),
}
"""Operation, samples, inputs of a group, outputs."""


class Changed(EmulatedDevice):
    """The device, with a fault in the sources."""

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        if sys.argv[2:]:
            source = source.replace(*sys.argv[2:])
        return super().function(source, options, name)


def check(got: Any, want: Any) -> None:
    error = np.abs(got - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-30)
    assert error <= CLOSE, f"off by {error:.1e}"


def convolution(table: Table, op: Operation, samples: int, inputs: int, outputs: int) -> None:
    """Run all four steps of a share with two terms."""
    rng = np.random.default_rng(0)
    shape, taps = (samples, inputs * op.groups, *op.size), (outputs, inputs, *op.window.kernel)
    if op.name == "conv_transpose2d":
        shape = (*shape[:2], *op.window.positions(op.size))
        taps = (shape[1], outputs // op.groups, *op.window.kernel)
    if op.name == "dense":
        shape, taps = shape[:2], taps[:2]
    a, w, v = (rng.normal(size=x).astype(np.float32) for x in (shape, taps, taps))
    b = rng.normal(size=(outputs, *[1] * (a.ndim - 2))).astype(np.float32)
    parts = [(positive(A), w), (negative(A), v)]
    ready = [(p, table.prepare(op, x)) for p, x in parts]
    up, down = table.upload, table.download
    z = REFERENCE.preactivation(op, a, parts, b)
    R, eps = rng.normal(size=z.shape).astype(np.float32), np.full(samples, 50, np.float32)
    s, sums = table.quotient(op, up(a), ready, up(b), up(R), up(eps), True, None, (up(z), 1))
    wanted, books = REFERENCE.quotient(op, a, parts, b, R, eps, True, None, (z, 1))
    check(down(s), wanted)
    check(down(sums.stabilizer), books.stabilizer)
    lower, to_inputs = table.redistribute(op, up(a), ready, up(R), 2)
    wanted_lower, wanted_to = REFERENCE.redistribute(op, a, parts, R, 2)
    check(down(lower), wanted_lower)
    assert np.abs(down(to_inputs) - wanted_to).max() <= CLOSE * np.abs(wanted_lower).sum()


def others(table: Table, name: str) -> None:
    """Run a map, its transpose, and what goes with it."""
    for c in fixed_cases(name, 3):
        a, w, s = (x.astype(np.float32) for x in (c.a, c.w, c.s))
        there, ready = table.upload(a), table.prepare(c.op, w)
        check(table.download(table.forward(c.op, there, ready)), REFERENCE.forward(c.op, a, w))
        check(table.download(table.transpose(c.op, table.upload(s), ready)), REFERENCE.transpose(c.op, s, w))
        check(table.download(table.mean_square(there)), REFERENCE.mean_square(a))
        if name == "select2d":
            check(table.download(table.max_pool2d(there, c.op)), REFERENCE.max_pool2d(a, c.op))


if __name__ == "__main__":
    for what in sys.argv[1].split(","):
        if what == "maps":
            for name in MAPS:
                case(name)
                others(Table(Changed(schedule=1)), name)
            continue
        rung = None if what == "chosen" else int(what)
        for name, given in CONVOLUTIONS.items():
            case(f"rung {what}, {name}")
            convolution(Table(Changed(schedule=2), rung), *given)
