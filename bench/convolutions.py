"""The 13 convolutions of VGG-16 on backend cpu beside a matrix product of the same machine's BLAS.

    python bench/convolutions.py [repetitions]

One picture, float32, all cores. Three passes over each convolution: z (the forward pass), s = R / z, and
R = a c. Before each stands a product of two 2048 x 2048 matrices; the least time of each counts, and the
share of the matrix product's rate is said. Rates are in 10^9 operations a second, a multiply-add being two.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lrpref import kernels
from lrpref.kernels.operations import A, Array, Operation, Window

LAYERS = (
    (3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56),
    (256, 256, 56), (256, 512, 28), (512, 512, 28), (512, 512, 28), (512, 512, 14), (512, 512, 14),
    (512, 512, 14),
)  # fmt: skip
"""Channels in, channels out, height and width."""

SQUARE = 2048

REST = 0.1
"""Seconds after a matrix product: so long OpenBLAS's idle threads look for more work, on our cores."""


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
    least, product = np.full((2, len(layers), len(names)), np.inf)
    for _ in range(repetitions):
        for i, (work, _) in enumerate(layers):
            for j, name in enumerate(names):
                product[i, j] = min(product[i, j], seconds(lambda: square @ square))
                time.sleep(REST)
                work[name]()
                least[i, j] = min(least[i, j], seconds(work[name]))
    operations = np.array([count for _, count in layers])[:, None]
    at_its_rate = product * operations / (2 * SQUARE**3)  # the seconds that the matrix product would take
    print(f"matrix product: {np.median(2 * SQUARE**3 / product) / 1e9:.0f}")
    print(f"{'':>18}" + "".join(f"{name:>16}" for name in names))

    def row(title: str, count: float, times: Array, wanted: Array) -> None:
        cells = (f"{count / t / 1e9:9.0f} {u / t:6.0%}" for t, u in zip(times, wanted, strict=True))
        print(f"{title:>18}" + "".join(cells))

    for layer, (_, count), times, wanted in zip(LAYERS, layers, least, at_its_rate, strict=True):
        row(str(layer), count, times, wanted)
    row("all", operations.sum(), least.sum(axis=0), at_its_rate.sum(axis=0))
    row("without the first", operations[1:].sum(), least[1:].sum(axis=0), at_its_rate[1:].sum(axis=0))
    print(f"{'seconds':>18}" + "".join(f"{x:16.3f}" for x in least.sum(axis=0)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10)
