"""What the tests share: drawn operations with their arrays, and the tables of layers and rules.

Values are multiples of 1/256 with magnitude up to 16 wherever a sum must be exact: then products are
multiples of 2**-16 up to 2**8, and float64 adds many thousands of them without rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lrpref import layers, rules
from lrpref.kernels.operations import Array, Operation, Window

MAPS = ("dense", "conv2d", "conv_transpose2d", "sum_pool2d", "region_sum2d", "select2d", "scale", "total")
"""The linear maps of a backend's function table."""

BACKENDS = ("numpy", "loops", "cpu")
"""The backends that need nothing but this machine."""

Choose = Callable[[int, int], int]
"""Chooses a whole number between two, both included."""


def dyadic(rng: np.random.Generator, *shape: int, most: int = 4096) -> Array:
    """Draw multiples of 1/256, at most `most` of them: 16 at 4096; at 2 there are many zeros and ties."""
    return rng.integers(-most, most + 1, shape) / 256


@dataclass(frozen=True)
class Case:
    """A linear map with values: lower a, weights w, upper s, and what else the four steps take."""

    op: Operation
    a: Array
    w: Array
    s: Array
    b: Array | None
    rng: np.random.Generator
    most: int

    def like(self, x: Array) -> Array:
        return dyadic(self.rng, *x.shape, most=self.most)

    def terms(self, count: int) -> list[tuple[Array, Array]]:
        return [(self.a, self.w), *((self.like(self.a), self.like(self.w)) for _ in range(count - 1))]

    def floats(self) -> Case:
        """The same map with normally distributed values."""
        a, w, s = (self.rng.normal(size=x.shape) for x in (self.a, self.w, self.s))
        b = None if self.b is None else self.rng.normal(size=self.b.shape)
        return Case(self.op, a, w, s, b, self.rng, self.most)


def _window(choose: Choose, far: int = 0) -> tuple[tuple[int, int], Window, tuple[int, int]]:
    """
    Choose an image and a window that fits at least once: asymmetric padding, stride, dilation.

    The far sides' padding is at least `far`: below 0 the window may stop short of them.
    """
    kernel, stride, dilation = ((choose(1, 3), choose(1, 3)), (choose(1, 3), choose(1, 3)),
                                (choose(1, 2), choose(1, 2)))  # fmt: skip
    padding = (choose(0, 2), choose(far, 2), choose(0, 2), choose(far, 2))
    window = Window(kernel, stride, padding, dilation)
    least = [max(1, e - p - q) for e, p, q in zip(window.extent(), padding[::2], padding[1::2], strict=True)]
    size = least[0] + choose(0, 3), least[1] + choose(0, 3)
    return size, window, window.positions(size)


def case(name: str, choose: Choose) -> Case:
    """Make a case of this map."""
    rng = np.random.default_rng(choose(0, 2**16))
    most = (2, 512, 4096)[choose(0, 2)]
    n, op, bias = choose(1, 2), Operation(name), ()
    match name:
        case "dense":
            j, k = choose(1, 5), choose(1, 4)
            a, w, s, bias = (n, j), (k, j), (n, k), (k,)
        case "conv2d":
            size, window, positions = _window(choose)
            groups, inputs, outputs = choose(1, 3), choose(1, 2), choose(1, 2)
            op = Operation(name, size, window, groups)
            a, w = (n, groups * inputs, *size), (groups * outputs, inputs, *window.kernel)
            s, bias = (n, groups * outputs, *positions), (groups * outputs, 1, 1)
        case "conv_transpose2d":
            size, window, positions = _window(choose, far=-2)
            groups, inputs, outputs = choose(1, 3), choose(1, 2), choose(1, 2)
            op = Operation(name, size, window, groups)
            a, w = (n, groups * inputs, *positions), (groups * inputs, outputs, *window.kernel)
            s, bias = (n, groups * outputs, *size), (groups * outputs, 1, 1)
        case "sum_pool2d" | "select2d":
            size, window, positions = _window(choose)
            c, taps = choose(1, 2), window.kernel[0] * window.kernel[1]
            op, a, s = Operation(name, size, window), (n, c, *size), (n, c, *positions)
            w = positions if name == "sum_pool2d" else (taps, *s)
        case "region_sum2d":
            c, size, positions = choose(1, 2), (choose(1, 5), choose(1, 5)), (choose(1, 3), choose(1, 3))
            rows, columns = (
                tuple(sorted((choose(0, length), choose(0, length))) for _ in range(regions))
                for length, regions in zip(size, positions, strict=True)
            )
            op = Operation(name, size, rows=rows, columns=columns)
            a, w, s = (n, c, *size), positions, (n, c, *positions)
        case "scale":
            c = choose(1, 3)
            pixels = (choose(1, 3), choose(1, 3)) if choose(0, 1) else ()
            a = s = (n, c, *pixels)
            w = bias = (c, *[1] * len(pixels))
        case "total":
            m, rest = choose(2, 3), (choose(1, 3), choose(1, 3))[choose(0, 1) :]
            a, w, s = (n, m, *rest), (m, *[1] * len(rest)), (n, *rest)
    values = [dyadic(rng, *shape, most=most) for shape in (a, w, s)]
    b = dyadic(rng, *bias, most=most) if bias and choose(0, 1) else None
    return Case(op, *values, b, rng, most)


@st.composite
def cases(draw: Any, name: str) -> Case:
    """Draw a case of this map with hypothesis."""
    return case(name, lambda low, high: draw(st.integers(low, high)))


def fixed_cases(name: str, count: int) -> Iterator[Case]:
    """The same few cases each time."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield case(name, lambda low, high, rng=rng: int(rng.integers(low, high + 1)))


# Layers with small whole numbers and quarters, zeros among them: exactly zero denominators occur.


def _weights(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(-3, 4, shape) / 2


def _bias(seed: int, size: int) -> Array:
    return np.random.default_rng(seed).integers(-2, 3, size) / 4


LAYERS: dict[str, tuple[layers.Layer, tuple[int, ...]]] = {
    "dense": (layers.Dense(_weights(1, 3, 4), _bias(2, 3)), (4,)),
    "dense without bias": (layers.Dense(_weights(3, 3, 4)), (4,)),
    "convolution": (
        layers.Conv2d(_weights(4, 4, 1, 2, 2), _bias(5, 4), (2, 1), (1, 0, 0, 2), (1, 2), groups=2),
        (2, 3, 3),
    ),
    "transposed convolution": (
        layers.ConvTranspose2d(_weights(12, 4, 1, 2, 3), _bias(13, 2), (2, 3), (1, 0, 0, 2), 1, (1, 2), 2),
        (4, 2, 2),
    ),
    "windows in the padding": (layers.Conv2d(_weights(6, 2, 2, 1, 2), _bias(7, 2), padding=2), (2, 1, 2)),
    "sum pooling": (layers.SumPool2d(2, 1, padding=1), (1, 3, 2)),
    "average pooling": (layers.AvgPool2d((2, 3), 2, 1, ceil_mode=True, count_include_pad=False), (2, 3, 4)),
    "average pooling with padding": (layers.AvgPool2d(2, 1, padding=(1, 0)), (1, 3, 2)),
    "adaptive average pooling": (layers.AdaptiveAvgPool2d((2, 3)), (1, 3, 4)),
    "batch norm 1d": (layers.BatchNorm(_weights(8, 4), _bias(9, 4)), (4,)),
    "batch norm 2d": (layers.BatchNorm(_weights(10, 2), _bias(11, 2)), (2, 2, 2)),
    "sum of two": (layers.Add(), (3, 2)),
    "sum of three": (layers.Add(), (3,)),
    "max pooling": (layers.MaxPool2d((2, 3), 1, padding=1), (1, 3, 3)),
}
"""A layer, and the shape of one sample of (each of) its inputs."""


def summands(name: str) -> int:
    """How many inputs the layer of this name takes."""
    return {"sum of two": 2, "sum of three": 3}.get(name, 1)


def lower(name: str, seed: int, samples: int = 2) -> list[Array]:
    """Lower activations for the layer of this name: quarters; for max pooling >= 0, half of them 0."""
    rng = np.random.default_rng(seed)
    values = [rng.integers(-6, 7, (samples, *LAYERS[name][1])) / 4 for _ in range(summands(name))]
    return [np.maximum(x, 0) for x in values] if name == "max pooling" else values


RULES: tuple[rules.Rule, ...] = (
    rules.Zero(), rules.Epsilon(0), rules.Gamma(0.25), rules.GeneralizedGamma(0.25),
    rules.AlphaBeta(2, 1), rules.AlphaBeta(1, 0), rules.ZPlus(), rules.Flat(), rules.WSquare(),
    rules.ZBox(-1.75, 2.0),
)  # fmt: skip
"""The rules for every linear layer."""

WINNERS = (rules.WinnerTakeAll(), rules.WinnerTakeAll("split"))
"""The rules for max pooling alone."""

STABILIZERS = (rules.NOTHING, rules.signed(0.25), rules.unsigned(0.25), rules.relative(0.5))


def rules_of(name: str) -> tuple[rules.Rule, ...]:
    """The rules that fit the layer of this name."""
    return RULES + WINNERS if name == "max pooling" else RULES


def variants(rule: rules.Rule) -> Iterator[rules.Rule]:
    """The rule under every stabilizer and every treatment of the bias."""
    for stabilizer in STABILIZERS:
        options = {"eps": stabilizer} if isinstance(rule, rules.Epsilon) else {}
        for bias in rules.BIAS_MODES:
            yield rule.with_options(stabilizer=stabilizer, bias=bias, **options)


EVERY_RULE_AND_LAYER = [(name, rule) for name in LAYERS for rule in rules_of(name)]
EVERY_ID = [f"{name}-{rule}" for name, rule in EVERY_RULE_AND_LAYER]
