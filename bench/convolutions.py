"""The 13 convolutions of VGG-16 on backend cpu beside a matrix product of the same machine's BLAS.

    python bench/convolutions.py [repetitions]

One picture, float32, all cores. Three passes over each convolution: z (the forward pass), s = R / z, and
R = a c. They take turns with a product of two 2048 x 2048 matrices; the least time of each counts, and
what is said is their ratio. Rates are in 10^9 operations a second, a multiply-add being two.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lrpref import kernels
from lrpref.kernels.operations import A, Operation, Window

LAYERS = (
    (3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56),
    (256, 256, 56), (256, 512, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14),
    (512, 512, 14),
)  # fmt: skip
"""Channels in, channels out, height and width."""

SQUARE = 2048


def seconds(work: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def passes(inputs: int, outputs: int, size: int) -> tuple[dict[str, Callable[[], Any]], float]:
    """Make the three passes over one convolution, and count the operations of one."""
    cpu, rng = kernels.backend("cpu"), np.random.default_rng(0)
    op = Operation("conv2d", (size, size), Window((3, 3), padding=(1, 1, 1, 1)))
    a = np.maximum(rng.normal(size=(1, inputs, size, size)), 0).astype(np.float32)
    scale = (2 / (9 * inputs)) ** 0.5
    w = cpu.prepare(op, (scale * rng.normal(size=(outputs, inputs, 3, 3))).astype(np.float32))
    b = rng.normal(size=(outputs, 1, 1)).astype(np.float32)
    R = rng.normal(size=(1, outputs, size, size)).astype(np.float32)
    eps = np.full(1, 0.25, np.float32)
    s, _ = cpu.quotient(op, a, [(A, w)], b, R, eps)
    work = {
        "z": lambda: cpu.preactivation(op, a, [(A, w)], b),
        "s = R / z": lambda: cpu.quotient(op, a, [(A, w)], b, R, eps),
        "R = a c": lambda: cpu.redistribute(op, a, [(A, w)], s),
    }
    return work, 2.0 * 9 * inputs * outputs * size**2


def main(repetitions: int) -> None:
    """Print a table: a row for each convolution."""
    square = np.random.default_rng(1).normal(size=(SQUARE, SQUARE)).astype(np.float32)
    layers = [passes(*layer) for layer in LAYERS]
    names = list(layers[0][0])
    least = [dict.fromkeys(names, np.inf) for _ in LAYERS]
    blas = np.inf
    for _ in range(repetitions):
        for (work, _), times in zip(layers, least, strict=True):
            blas = min(blas, seconds(lambda: square @ square))
            for name in names:
                times[name] = min(times[name], seconds(work[name]))
    rate = 2 * SQUARE**3 / blas / 1e9
    print(f"matrix product: {rate:.0f}\n{'':>16}" + "".join(f"{name:>16}" for name in names))
    for layer, (_, operations), times in zip(LAYERS, layers, least, strict=True):
        rates = [operations / times[name] / 1e9 for name in names]
        print(f"{layer!s:>16}" + "".join(f"{x:8.0f} {x / rate:6.0%} " for x in rates))
    total = sum(operations for _, operations in layers)
    sums = [sum(times[name] for times in least) for name in names]
    print(f"{'all':>16}" + "".join(f"{total / x / 1e9:8.0f} {total / x / 1e9 / rate:6.0%} " for x in sums))
    print(f"{'seconds':>16}" + "".join(f"{x:16.3f}" for x in sums))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
