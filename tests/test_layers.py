"""Layers against slow definitions: shapes, values, derivatives, and what a bad network is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LAYERS, lower

from lrpref import exact
from lrpref import layers as vocabulary
from lrpref.errors import BadBackend, BadNetwork
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import (
    ELU,
    GELU,
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    Clip,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    HardSigmoid,
    HardSwish,
    Identity,
    Layer,
    LeakyReLU,
    LogSoftmax,
    MaxPool2d,
    Pad,
    Permute,
    ReLU,
    ReLU6,
    Reshape,
    Sigmoid,
    SiLU,
    Slice,
    Softmax,
    Softplus,
    SumPool2d,
    Tanh,
)
from lrpref.network import INPUT, Network, Node, chain, make_layer

F = exact.FRACTIONS
BALL = exact.get("ball")

# Pooling, one window and one cell at a time.


def count(size: int, kernel: int, stride: int, before: int, after: int, ceil: bool) -> int:
    """Windows along an axis, as PyTorch documents it: none starts in the far padding in ceil mode."""
    steps = Fraction(size + before + after - kernel, stride)
    windows = (math.ceil(steps) if ceil else math.floor(steps)) + 1
    return windows - 1 if ceil and (windows - 1) * stride >= size + before else windows


Axis = tuple[int, int, int, int, int]
"""Size, kernel, stride, padding before and after."""


def pooled(
    a: Array, axes: tuple[Axis, Axis], ceil: bool, of_window: Callable[[list[Any], int, int], Any]
) -> Any:
    """Apply a function of (values in the image, cells in image or padding, all cells) to each window."""
    starts = [[i * s - p for i in range(count(n, k, s, p, q, ceil))] for n, k, s, p, q in axes]
    z = np.empty((*a.shape[:2], *(len(some) for some in starts)), dtype=object)
    for n, c, y, x in np.ndindex(*z.shape):
        values, padded = [], 0
        for i, j in product(range(axes[0][1]), range(axes[1][1])):
            v, u = starts[0][y] + i, starts[1][x] + j
            (h, _, _, top, bottom), (w, _, _, left, right) = axes
            padded += -top <= v < h + bottom and -left <= u < w + right
            if 0 <= v < h and 0 <= u < w:
                values.append(a[n, c, v, u])
        z[n, c, y, x] = of_window(values, padded, axes[0][1] * axes[1][1])
    return z


@st.composite
def pools(draw: Any) -> tuple[Array, tuple[Axis, Axis], dict[str, Any]]:
    axes = []
    for _ in range(2):
        kernel = draw(st.integers(1, 4))
        padding = draw(st.integers(0, kernel // 2)), draw(st.integers(0, kernel // 2))
        axes.append((draw(st.integers(1, 7)), kernel, draw(st.integers(1, 4)), *padding))
    (h, kh, sy, top, bottom), (w, kw, sx, left, right) = axes
    a = np.random.default_rng(draw(st.integers(0, 999))).integers(-9, 10, (1, 2, h, w)) / 4
    geometry = {"kernel": (kh, kw), "stride": (sy, sx), "padding": (top, bottom, left, right)}
    return F.array(a), (axes[0], axes[1]), geometry | {"ceil_mode": draw(st.booleans())}


@settings(max_examples=300)
@given(pools(), st.sampled_from([None, 3]))
def test_pooling_is_its_definition(drawn: Any, divisor: int | None) -> None:
    a, axes, geometry = drawn
    expected: dict[Layer, Callable[[list[Any], int, int], Any]] = {
        SumPool2d(**geometry): lambda values, padded, cells: sum(values),
        MaxPool2d(**geometry): lambda values, padded, cells: max(values),
        AvgPool2d(**geometry, divisor=divisor): lambda values, padded, cells: (
            sum(values) / (divisor or padded)
        ),
        AvgPool2d(**geometry, count_include_pad=False): lambda values, padded, cells: (
            sum(values) / len(values)
        ),
    }
    shape = tuple(count(*axis, geometry["ceil_mode"]) for axis in axes)
    for layer, of_window in expected.items():
        if min(shape) < 1:
            with pytest.raises(BadNetwork, match="wants at least the window"):
                layer.output_shape(a.shape[1:])
            continue
        wanted = pooled(a, axes, geometry["ceil_mode"], of_window)
        assert layer.output_shape(a.shape[1:]) == (2, *shape) == wanted.shape[1:]
        assert (layer.forward(REFERENCE, a) == wanted).all()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "ceil", "wanted"),
    [
        (5, 2, 2, 0, False, 2),
        (5, 2, 2, 0, True, 3),
        (2, 3, 2, 0, True, 1),  # the window is wider than the image
        (3, 2, 2, 1, True, 2),  # a third would start in the far padding
        (4, 1, 3, 0, True, 2),
    ],
)
def test_number_of_windows(
    size: int, kernel: int, stride: int, padding: int, ceil: bool, wanted: int
) -> None:
    layer = MaxPool2d(kernel, stride, padding, ceil)
    assert layer.output_shape((1, size, size)) == (1, wanted, wanted)


def test_divisor_counts_the_padding_but_not_what_ceil_mode_adds() -> None:
    # windows start at -1, 1, 3 in an image of 4 with a padding of 1; the last reaches one cell beyond it
    a, options = F.array(np.ones((1, 1, 1, 4))), {"padding": (0, 0, 1, 1), "ceil_mode": True}
    with_padding, without = (
        AvgPool2d((1, 3), (1, 2), **options, count_include_pad=flag).forward(REFERENCE, a).ravel().tolist()
        for flag in (True, False)
    )
    assert with_padding == [Fraction(2, 3), 1, Fraction(1, 2)]
    assert without == [1, 1, 1]


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_adaptive_average_pooling_is_its_definition(
    h: int, w: int, rows: int, columns: int, seed: int
) -> None:
    a = F.array(np.random.default_rng(seed).integers(-9, 10, (1, 2, h, w)) / 4)
    layer = AdaptiveAvgPool2d((rows, columns))
    z = layer.forward(REFERENCE, a)
    assert layer.output_shape(a.shape[1:]) == (2, rows, columns) == z.shape[1:]
    for i, j in product(range(rows), range(columns)):
        # pixel v covers [v, v + 1); region i covers [i h / rows, (i + 1) h / rows)
        vs = [v for v in range(h) if v + 1 > Fraction(i * h, rows) and v < Fraction((i + 1) * h, rows)]
        us = [u for u in range(w) if u + 1 > Fraction(j * w, columns) and u < Fraction((j + 1) * w, columns)]
        for c in range(2):
            assert z[0, c, i, j] == sum(a[0, c, v, u] for v in vs for u in us) / (len(vs) * len(us))


def test_padding_never_wins_a_maximum() -> None:
    a = np.full((1, 1, 2, 2), -3.0)
    assert (MaxPool2d(2, 1, 1, ceil_mode=True).forward(REFERENCE, a) == -3).all()


def test_batch_norm_is_its_definition() -> None:
    rng = np.random.default_rng(0)
    gamma, beta, mean = rng.normal(size=(3, 4))
    var, x = rng.uniform(0.1, 2, 4), rng.normal(size=(5, 4, 2, 3))
    y = BatchNorm.of(gamma, beta, mean, var, 1e-3).forward(REFERENCE, x)
    column = (slice(None), None, None)
    wanted = (x - mean[column]) / np.sqrt(var + 1e-3)[column] * gamma[column] + beta[column]
    # about five roundings each, and |x - mean| and |scale| up to 10: 5 * 10 * 2**-53 = 6e-15
    assert np.abs(y - wanted).max() <= 6e-15 * np.abs(wanted).max()
    plain = BatchNorm.of(None, None, mean, var, 1e-3)
    assert np.array_equal(plain.scale, 1 / np.sqrt(var + 1e-3))
    assert np.array_equal(plain.shift, -mean * plain.scale)
    with pytest.raises(BadNetwork, match=r"a variance \+ eps is -1.0, wants > 0"):
        BatchNorm.of(None, None, mean[:2], np.array([1.0, -1.0]), 0.0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("biased", [True, False])
def test_batch_norms_around_a_transposed_convolution(groups: int, biased: bool) -> None:
    rng = np.random.default_rng(groups)

    def quarters(*shape: int) -> Array:
        return F.array(rng.integers(-8, 9, shape) / 4)

    bias = quarters(3 * groups) if biased else None
    layer = ConvTranspose2d(quarters(4, 3, 2, 3), bias, (2, 3), (1, 0), 1, groups=groups)
    x, after = quarters(2, 4, 2, 3), BatchNorm(quarters(3 * groups), quarters(3 * groups))
    merged = layer.followed_by(after)
    wanted = after.forward(REFERENCE, layer.forward(REFERENCE, x))
    assert merged is not None
    assert (merged.forward(REFERENCE, x) == wanted).all()
    before = BatchNorm(quarters(4), quarters(4) * 0)
    merged = layer.preceded_by(before)
    wanted = layer.forward(REFERENCE, before.forward(REFERENCE, x))
    assert merged is not None
    assert (merged.forward(REFERENCE, x) == wanted).all()
    # another shift for each pixel, which no bias holds
    assert layer.preceded_by(BatchNorm(before.scale, before.shift + 1)) is None


# Activations: against python-flint's functions at 300 bits, derivatives against differences of those.


def _sqrt(value: int) -> Any:
    return BALL.number(value).sqrt()


def _hard_sigmoid(x: Any) -> Any:
    return 0 * x if x < -3 else 0 * x + 1 if x > 3 else (x + 3) / 6


ACTIVATIONS: dict[str, tuple[Layer, Callable[[Any], Any]]] = {
    "ReLU": (ReLU(), lambda x: x if x > 0 else 0 * x),
    "ReLU6": (ReLU6(), lambda x: 0 * x if x < 0 else 0 * x + 6 if x > 6 else x),
    "Clip": (Clip(-0.5, 2.0), lambda x: 0 * x - 0.5 if x < -0.5 else 0 * x + 2 if x > 2 else x),
    "LeakyReLU": (LeakyReLU(0.25), lambda x: x if x > 0 else x / 4),
    "ELU": (ELU(0.5), lambda x: x if x > 0 else (x.exp() - 1) / 2),
    "Sigmoid": (Sigmoid(), lambda x: 1 / (1 + (-x).exp())),
    "Softplus": (Softplus(), lambda x: (1 + x.exp()).log()),
    "Tanh": (Tanh(), lambda x: x.tanh()),
    "SiLU": (SiLU(), lambda x: x / (1 + (-x).exp())),
    "GELU": (GELU(), lambda x: x * (1 + (x / _sqrt(2)).erf()) / 2),
    "HardSigmoid": (HardSigmoid(), _hard_sigmoid),
    "HardSwish": (HardSwish(), lambda x: x * _hard_sigmoid(x)),
}
POINTS = np.array([-20.5, -7.25, -3.125, -1.75, -0.375, -0.0625, 0.03125, 0.625, 1.5, 2.875, 6.5, 19.75])


def truth(function: Callable[[Any], Any], x: Array) -> Array:
    return exact.as_float(BALL.array([[function(BALL.number(v)) for v in x.tolist()]]))[0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "longdouble"])
@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_and_derivatives(layer: Layer, function: Callable[[Any], Any], dtype: str) -> None:
    h = 2.0**-60  # the difference is off by h**2 = 1e-36 times the third derivative

    def slope(x: Any) -> Any:
        return (function(x + h) - function(x - h)) / (2 * h)

    x = POINTS.astype(dtype)[None]
    if isinstance(layer, GELU) and dtype == "longdouble":
        with pytest.raises(BadBackend, match="SciPy has no 'erf' in longdouble"):
            layer.forward(REFERENCE, x)
        return
    # a few roundings of intermediate values, which are at most 1 + |x|; math.sqrt(2) is a float64's
    unit = max(float(np.finfo(dtype).eps), 2.0**-53)
    with exact.precision("ball", 300):
        for got, want in (
            (layer.forward(REFERENCE, x), truth(function, POINTS)),
            (layer.gradient(REFERENCE, [x], np.ones_like(x))[0], truth(slope, POINTS)),
        ):
            assert got.dtype == x.dtype
            assert (np.abs(got[0] - want) <= 4 * unit * (1 + np.abs(POINTS))).all()


@pytest.mark.parametrize(("layer", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_of_balls_enclose_the_truth(layer: Layer, function: Callable[[Any], Any]) -> None:
    got = BALL.cast(layer).forward(REFERENCE, BALL.array(POINTS[None]))[0]
    with exact.precision("ball", 300):
        assert all(y.contains(function(BALL.number(x))) for x, y in zip(POINTS.tolist(), got, strict=True))


@pytest.mark.parametrize(
    ("layer", "kink", "slope"),
    [
        (ReLU(), 0, 0), (ReLU6(), 0, 0), (ReLU6(), 6, 0), (Clip(-1.0, 1.0), -1, 0), (Clip(-1.0, 1.0), 1, 0),
        (LeakyReLU(0.25), 0, 0.25), (ELU(0.5), 0, 0.5), (HardSigmoid(), -3, 0), (HardSigmoid(), 3, 0),
    ],
)  # fmt: skip
def test_derivatives_at_kinks_are_pytorchs(layer: Layer, kink: float, slope: float) -> None:
    x = np.array([[kink]], float)
    assert layer.gradient(REFERENCE, [x], np.ones_like(x))[0] == slope


def test_the_gradient_of_a_tie_goes_to_the_first() -> None:
    x = np.array([[[[1.0, 2.0], [2.0, 2.0]]]])
    assert MaxPool2d(2).gradient(REFERENCE, [x], np.ones((1, 1, 1, 1)))[0].ravel().tolist() == [0, 1, 0, 0]


def test_what_leaves_the_rationals_is_refused_and_points_to_balls() -> None:
    x = F.array([[0.5, -2.0]])
    rational = {"ReLU", "ReLU6", "Clip", "LeakyReLU", "HardSigmoid", "HardSwish"}
    for name, (layer, _) in ACTIVATIONS.items():
        if name in rational:
            assert all(isinstance(v, Fraction) for v in F.cast(layer).forward(REFERENCE, x).flat)
        else:
            with pytest.raises(BadBackend, match="use dtype='ball'"):
                F.cast(layer).forward(REFERENCE, x)
    network = chain([("squash", Sigmoid())], (2,))
    with pytest.raises(BadBackend, match="node 'squash': 'exp' leaves the rational numbers"):
        network.forward(x, dtype="exact")


def test_softmax_is_a_distribution_even_of_large_scores() -> None:
    y = Softmax().forward(REFERENCE, np.array([[1000.0, 1000.0, -1000.0], [0.0, math.log(3), -math.inf]]))
    assert y.tolist() == [[0.5, 0.5, 0], pytest.approx([0.25, 0.75, 0], rel=1e-15)]  # one rounding of log 3
    z = LogSoftmax().forward(REFERENCE, np.array([[1000.0, 1000.0, -1000.0], [0.0, math.log(3), -math.inf]]))
    half, quarter, most = math.log(0.5), math.log(0.25), math.log(0.75)
    assert z.tolist() == [  # one rounding of each logarithm
        pytest.approx([half, half, -2000 + half], rel=1e-15),
        pytest.approx([quarter, most, -math.inf], rel=1e-15),
    ]


# Every layer's shape, gradient and passing of relevance.

MOVING: dict[str, tuple[Layer, tuple[tuple[int, ...], ...]]] = {
    "flatten": (Flatten(), ((2, 2, 3),)),
    "reshape": (Reshape((3, 2, 1)), ((6,),)),
    "concat": (Concat(), ((1, 2, 2), (3, 2, 2))),
    "concat on another axis": (Concat(2), ((2, 2, 1), (2, 2, 3))),
    "pad": (Pad((1, 0, 0, 2)), ((2, 2, 1),)),
    "pad with channels": (Pad((0, 1, 1, 0), channels=(2, 1)), ((2, 2, 1),)),
    "permute": (Permute((1, 2, 0)), ((2, 3, 4),)),
    "slice": (Slice((1, 0, 0), (3, 4, 1), (1, 2, 1)), ((3, 5, 2),)),
    "identity": (Identity(), ((3,),)),
    "dropout": (Dropout(), ((3,),)),
}


def every_linear_layer() -> list[Any]:
    cases = []
    for name, (layer, _) in LAYERS.items():
        cases.append(pytest.param(layer, lower(name, 1), id=name))
    rng = np.random.default_rng(1)
    for name, (layer, shapes) in MOVING.items():
        inputs = [rng.integers(-8, 9, (2, *shape)) / 4 for shape in shapes]
        cases.append(pytest.param(layer, inputs, id=name))
    return cases


@pytest.mark.parametrize(("layer", "inputs"), every_linear_layer())
def test_gradient_is_the_derivative_along_every_direction(layer: Layer, inputs: list[Array]) -> None:
    # piecewise linear layers in exact arithmetic: a step small enough crosses no kink
    layer, inputs = F.cast(layer), [F.array(x) for x in inputs]
    if isinstance(layer, MaxPool2d):  # no ties, hence no kink
        inputs = [x + F.array(np.arange(x.size).reshape(x.shape) / 2**10) for x in inputs]
    z = layer.forward(REFERENCE, *inputs)
    assert z.shape[1:] == layer.output_shape(*(x.shape[1:] for x in inputs))
    g = F.array(np.random.default_rng(2).integers(-8, 9, z.shape) / 8)
    step = Fraction(1, 2**20)
    for m, gradient in enumerate(layer.gradient(REFERENCE, inputs, g)):
        assert gradient.shape == inputs[m].shape
        for index in np.ndindex(*gradient.shape):
            moved = inputs[m].copy()
            moved[index] += step
            there = layer.forward(REFERENCE, *inputs[:m], moved, *inputs[m + 1 :])
            assert gradient[index] == ((there - z) * g).sum() / step


@pytest.mark.parametrize(("layer", "shapes"), MOVING.values(), ids=MOVING)
def test_relevance_passes_unchanged(layer: Layer, shapes: tuple[tuple[int, ...], ...]) -> None:
    inputs = [F.array(np.zeros((2, *shape))) for shape in shapes]
    R = F.array(np.random.default_rng(3).integers(-8, 9, (2, *layer.output_shape(*shapes))))
    parts, padding = layer.passed(inputs, R)
    assert [part.shape for part in parts] == [x.shape for x in inputs]
    left = R.reshape(2, -1).sum(axis=1) - sum(part.reshape(2, -1).sum(axis=1) for part in parts)
    assert (left == (0 if padding is None else padding.reshape(2, -1).sum(axis=1))).all()
    # forward of what went back is R itself, less what lies in the padding
    there = F.cast(layer).forward(REFERENCE, *parts)
    assert ((there == R) | (there == 0)).all()
    assert (there == R).all() or isinstance(layer, Pad)


# What a bad network is told.

W = np.ones


def network(*layers: Layer, shape: tuple[int, ...] = (2, 4, 4)) -> Network:
    return chain([(f"node{i}", layer) for i, layer in enumerate(layers)], shape)


def graph(*nodes: Node) -> Network:
    return Network(nodes, (2, 4, 4))


BAD_NETWORKS: dict[str, tuple[Callable[[], Any], str]] = {
    "dense after an image": (
        lambda: network(Dense(W((3, 32)))), "node 'node0' (Dense): got (2, 4, 4), wants (32,)"),
    "dense of another size": (
        lambda: network(Flatten(), Dense(W((3, 30)))), "node 'node1' (Dense): got (32,), wants (30,)"),
    "channels": (
        lambda: network(Conv2d(W((4, 3, 1, 1)))), "node 'node0' (Conv2d): got (2, 4, 4), wants (3, H, W)"),
    "channels of groups": (
        lambda: network(Conv2d(W((4, 2, 1, 1)), groups=2)),
        "node 'node0' (Conv2d): got (2, 4, 4), wants (4, H, W)"),
    "convolution of a vector": (
        lambda: network(Conv2d(W((4, 3, 1, 1))), shape=(3,)),
        "node 'node0' (Conv2d): got (3,), wants an image (C, H, W)"),
    "image too small": (
        lambda: network(Conv2d(W((4, 2, 3, 3)), dilation=2)),
        "node 'node0' (Conv2d): got an image of 4 x 4, wants at least the window's 5 x 5 less the padding "
        "(0, 0, 0, 0)"),
    "batch norm": (
        lambda: network(BatchNorm(W(3), W(3))),
        "node 'node0' (BatchNorm): got (2, 4, 4), wants (3,) or (3, H, W)"),
    "sum": (
        lambda: graph(Node("pool", SumPool2d(2), (INPUT,)), Node("sum", Add(), (INPUT, "pool"))),
        "node 'sum' (Add): got (2, 4, 4), (2, 2, 2), wants inputs of one shape"),
    "concatenation": (
        lambda: graph(Node("pool", SumPool2d(2), (INPUT,)), Node("join", Concat(), (INPUT, "pool"))),
        "node 'join' (Concat): got (2, 4, 4), (2, 2, 2), wants shapes that agree but on axis 0"),
    "reshape": (
        lambda: network(Reshape((5, 6))),
        "node 'node0' (Reshape): got (2, 4, 4), wants 30 values for (5, 6)"),
    "slice": (
        lambda: network(Slice((0, 0, 0), (3, 4, 4), (1, 1, 1))),
        "node 'node0' (Slice): got (2, 4, 4), wants at least (3, 4, 4)"),
    "empty slice": (
        lambda: Slice((0, 2), (1, 2), (1, 1)),
        "Slice: got start (0, 2), stop (1, 2), step (1, 1), wants 0 <= start < stop and step >= 1"),
    "slice of other axes": (
        lambda: Slice((0,), (1, 2), (1, 1)),
        "Slice: got start (0,), stop (1, 2), step (1, 1), wants a whole number of each for"),
    "slice of numbers": (
        lambda: Slice(0, 1, 1), "Slice: got start 0, stop 1, step 1, wants a whole number of each"),
    "slice of halves": (
        lambda: Slice((0,), (2.5,), (1,)), "Slice: got start (0,), stop (2.5,), step (1,), wants a whole"),
    "permutation of a number": (lambda: Permute(3), "Permute: order is 3, wants every axis once"),
    "permutation": (
        lambda: Permute((0, 2)), "Permute: order is (0, 2), wants every axis once, such as (1, 2, 0)"),
    "permutation of other axes": (
        lambda: network(Permute((1, 0))), "node 'node0' (Permute): got (2, 4, 4), wants 2 axes"),
    "channels of a padding": (
        lambda: Pad(1, channels=(1, -1)), "Pad: channels is (1, -1): two whole numbers >= 0 are wanted"),
    "one input for a sum": (
        lambda: graph(Node("sum", Add(), (INPUT,))), "node 'sum' (Add): got 1 inputs, wants 2 or more"),
    "two inputs for a ReLU": (
        lambda: graph(Node("relu", ReLU(), (INPUT, INPUT))), "node 'relu' (ReLU): got 2 inputs, wants 1"),
    "unknown input": (
        lambda: graph(Node("relu", ReLU(), ("later",))),
        "node 'relu' reads 'later', which is no node before it"),
    "name twice": (
        lambda: graph(Node("x", ReLU(), (INPUT,)), Node("x", ReLU(), (INPUT,))),
        "node 'x': there is one of this name already"),
    "softmax below the top": (
        lambda: network(Flatten(), Softmax(), ReLU()), "node 'node1': softmax can stand only at the top"),
    "no nodes": (graph, "a network needs at least one node"),
    "class names": (
        lambda: chain([("score", Dense(W((2, 3))))], (3,), classes=("cat",)),
        "1 class names for an output of shape (2,)"),
    "not finite": (
        lambda: network(Dense(np.array([[1.0, np.nan]])), shape=(2,)),
        "node 'node0': weight holds nan at (0, 1): finite numbers are wanted"),
    "weight of a dense layer": (lambda: Dense(W(3)), "Dense: weight is (3,), wants (K, J)"),
    "weight of a convolution": (
        lambda: Conv2d(W((3, 3))), "Conv2d: weight is (3, 3), wants (K, C/groups, kh, kw)"),
    "bias": (lambda: Dense(W((3, 2)), W(2)), "Dense: bias is (2,), wants (3,)"),
    "groups": (lambda: Conv2d(W((4, 1, 1, 1)), groups=3), "Conv2d: 4 outputs do not split into 3 groups"),
    "weight of a transposed convolution": (
        lambda: ConvTranspose2d(W((3, 3))),
        "ConvTranspose2d: weight is (3, 3), wants (C, K/groups, kh, kw)"),
    "groups of a transposed convolution": (
        lambda: ConvTranspose2d(W((4, 1, 1, 1)), groups=3),
        "ConvTranspose2d: 4 inputs do not split into 3 groups"),
    "bias of a transposed convolution": (
        lambda: ConvTranspose2d(W((4, 3, 1, 1)), W(3), groups=2),
        "ConvTranspose2d: bias is (3,), wants (6,)"),
    "output padding": (
        lambda: ConvTranspose2d(W((1, 1, 3, 3)), None, (2, 1), 0, (1, 1)),
        "ConvTranspose2d: output_padding is (1, 1), wants less than the stride (2, 1) or the dilation "
        "(1, 1)"),
    "negative output padding": (
        lambda: ConvTranspose2d(W((1, 1, 3, 3)), output_padding=-1),
        "output_padding is -1: one or two whole numbers >= 0 are wanted"),
    "channels of a transposed convolution": (
        lambda: network(ConvTranspose2d(W((3, 2, 1, 1)))),
        "node 'node0' (ConvTranspose2d): got (2, 4, 4), wants (3, H, W)"),
    "nothing comes out": (
        lambda: network(ConvTranspose2d(W((2, 2, 1, 2)), padding=2), shape=(2, 4, 3)),
        "node 'node0' (ConvTranspose2d): got an image of 4 x 3, wants a larger one or less padding than 2: "
        "the output would be 0 x 0"),
    "stride": (lambda: SumPool2d(1, 0), "stride is 0: one or two whole numbers >= 1 are wanted"),
    "kernel": (lambda: MaxPool2d((2, 2, 2)), "kernel is (2, 2, 2): one or two whole numbers >= 1 are wanted"),
    "padding": (lambda: Conv2d(W((1, 1, 1, 1)), padding=-1), "padding is -1: one, two (down, right) or four"),
    "padding of a pooling": (lambda: MaxPool2d(2, 2, 2), "MaxPool2d: padding 2 exceeds half the kernel 2"),
    "scale and shift": (lambda: BatchNorm(W(3), W(2)), "BatchNorm: scale is (3,), shift (2,), want (C,)"),
    "unknown layer": (lambda: make_layer("Conv9d", {}), "unknown layer 'Conv9d': there are Dense, Conv2d, "),
    "unknown parameter": (
        lambda: make_layer("ReLU", {"slope": 1}), "ReLU: unknown key 'slope'; known: none"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "message"), BAD_NETWORKS.values(), ids=BAD_NETWORKS)
def test_a_bad_network_is_told_what_is_wrong(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadNetwork) as caught:
        build()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_every_layer_has_its_name() -> None:
    for name, cls in vocabulary.LAYERS.items():
        assert cls.__name__ == name
        assert getattr(vocabulary, name) is cls
