"""The comparison methods: by hand, against loops, and against LRP where they must agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import lrpref
from lrpref import baselines, data, exact
from lrpref.errors import BadBackend, BadInput, LrprefError
from lrpref.layers import Conv2d, Dense, Flatten, ReLU, Softmax, Tanh
from lrpref.network import chain

METHODS = {
    "gradient x input": (baselines.gradient_times_input, {}),
    # steps of a sixteenth: all numbers are dyadic, and every backend sees a z of 0 as 0
    "integrated gradients": (baselines.integrated_gradients, {"steps": 8}),
    "SmoothGrad": (baselines.smooth_grad, {"samples": 7}),
    "occlusion": (baselines.occlusion, {"patch": 2, "stride": 1}),
}


def linear():
    """f_0 = 2 x1 - x2 + 1, f_1 = x1 + x2."""
    return chain([("dense", Dense(np.array([[2.0, -1.0], [1.0, 1.0]]), np.array([1.0, 0.0])))], (2,))


def hinge():
    """f(x) = max(0, x - 1)."""
    return chain([("dense", Dense(np.array([[1.0]]), np.array([-1.0]))), ("relu", ReLU())], (1,))


def small():
    """A convolution on two channels of 5 x 4 pixels, three classes."""
    rng = np.random.default_rng(2)
    layers = [
        ("conv", Conv2d(rng.integers(-3, 4, (3, 2, 2, 2)) / 2, rng.integers(-2, 3, 3) / 4, padding=1)),
        ("relu", ReLU()),
        ("flatten", Flatten()),
        ("dense", Dense(rng.integers(-3, 4, (3, 90)) / 2, np.array([0.5, 0.0, -0.5]))),
    ]
    return chain(layers, (2, 5, 4)), rng.integers(-8, 9, (3, 2, 5, 4)) / 4


@pytest.fixture(scope="module")
def fashion():
    network = data.embedded()
    return network, np.concatenate([network.preprocess(data.image(i)) for i in (0, 9, 60, 250)])


# Gradient x input.


def test_gradient_times_input_is_lrp_0(fashion):
    network, x = fashion
    R = baselines.gradient_times_input(network, x)
    assert (network.gradient(x) * x == R).all()
    # LRP-0 divides by each z and multiplies by it again: a rounding of 1e-16 per layer, magnified where z
    # is near 0
    assert abs(R - lrpref.explain(network, x, composite="lrp-0").relevance).max() <= 1e-10 * abs(R).max()


def test_gradient_times_input_is_lrp_0_exactly():
    network, x = small()
    R = lrpref.explain(network, x, [0, 1, 2], "lrp-0", dtype="exact").relevance
    assert (baselines.gradient_times_input(network, x, [0, 1, 2], dtype="exact") == R).all()


# Integrated gradients.


@pytest.mark.parametrize("dtype", ["float64", "exact"])
@pytest.mark.parametrize("steps", [1, 4])
def test_integrated_gradients_of_a_linear_function(dtype, steps):
    # each input has what it contributes, wherever the gradient is taken; all numbers are dyadic
    R = baselines.integrated_gradients(
        linear(), [[3.0, 4.0]], 0, baseline=np.array([1.0, -1.0]), steps=steps, dtype=dtype
    )
    assert R[0].tolist() == [4, -5]


@pytest.mark.parametrize("dtype", ["float64", "exact"])
def test_integrated_gradients_across_a_kink(dtype):
    # from 0 to 4 the gradient is 0 for a quarter of the way: four midpoints see just that, three do not
    four, three = (
        baselines.integrated_gradients(hinge(), [[4.0]], 0, steps=steps, dtype=dtype) for steps in (4, 3)
    )
    assert four[0, 0] == 3
    assert baselines.completeness(hinge(), [[4.0]], four, 0, dtype=dtype)[0] == 0
    # the midpoint 1/6 is before the kink, 3/6 and 5/6 behind: 4 * 2/3 instead of 3
    number = exact.get(dtype).number
    missing = baselines.completeness(hinge(), [[4.0]], three, 0, dtype=dtype)[0] - number(Fraction(1, 3))
    assert abs(missing) <= (1e-15 if dtype == "float64" else 0)  # two roundings of numbers near 3


def test_integrated_gradients_are_complete(fashion):
    network, x = fashion
    black = network.preprocessing.box()[0]
    R = baselines.integrated_gradients(network, x, baseline=black, backend="cpu")
    missing = baselines.completeness(network, x, R, baseline=black)
    # 300 steps over a gradient that jumps at each kink: the error of the midpoint rule
    assert (abs(missing) <= 5e-3 * abs(R.sum(axis=(1, 2, 3)) + missing)).all()
    assert abs(R.sum(axis=(1, 2, 3))).min() > 1


def test_completeness_is_what_is_missing():
    x = [[3.0, 4.0], [1.0, 0.0]]  # f_0 = 3 and 3, f_0(0) = 1
    assert baselines.completeness(linear(), x, np.zeros((2, 2)), 0).tolist() == [2, 2]
    missing = baselines.completeness(linear(), x, np.array([[1.0, 2.0], [1.0, 1.0]]), 0, baseline=1)
    assert missing.tolist() == [3 - 2 - 3, 3 - 2 - 2]


def test_gauss_legendre_where_the_gradient_is_smooth():
    network = chain([("dense", Dense(np.array([[1.0, 2.0]]))), ("tanh", Tanh())], (2,))
    x = [[0.5, 0.25]]
    missing = {
        name: abs(baselines.completeness(
            network, x, baselines.integrated_gradients(network, x, 0, steps=12, quadrature=name), 0)[0])
        for name in ("midpoint", "gauss-legendre")
    }  # fmt: skip
    assert missing["gauss-legendre"] <= 1e-14  # exact for polynomials of degree 23; rounding remains
    # h^2/24 (g'(1) - g'(0)) with g(t) = (tanh)'(t), h = 1/12 is 1.9e-3 of 0.64 at most
    assert 1e-5 <= missing["midpoint"] <= 2e-3


# SmoothGrad.


def test_smooth_grad_without_noise_is_the_gradient():
    network, x = small()
    for times_input in (False, True):
        R = baselines.smooth_grad(network, x, noise=0, samples=3, times_input=times_input, dtype="exact")
        factor = exact.get("exact").array(x if times_input else np.ones_like(x))
        assert (factor * network.gradient(x, dtype="exact") == R).all()


def test_smooth_grad_is_the_mean_over_its_noise():
    network, x = small()
    x = x * np.array([1, 1 / 2, 1 / 4])[:, None, None, None]  # sigma is a share of each sample's own range
    wanted = np.zeros_like(x)
    target = network.forward(x).argmax(axis=1)
    for n, one in enumerate(x):
        for m in range(6):
            noise = np.random.default_rng((3, m)).standard_normal(one.shape)
            noisy = one + 0.2 * (one.max() - one.min()) * noise
            wanted[n] += network.gradient(noisy[None], int(target[n]))[0] / 6
    R = baselines.smooth_grad(network, x, noise=0.2, samples=6, seed=3)
    assert abs(R - wanted).max() <= 1e-14 * abs(wanted).max()  # another order of six summands
    other = baselines.smooth_grad(network, x, noise=0.2, samples=6, seed=4)
    assert abs(R - other).max() > 1e-3 * abs(R).max()


def test_smooth_grad_smooths_a_kink():
    # max(0, x1 - 1) at x1 = 1: half of the noise is on either side, with a standard deviation of 1/40
    network = chain([("dense", Dense(np.array([[1.0, 0.0]]), np.array([-1.0]))), ("relu", ReLU())], (2,))
    R = baselines.smooth_grad(network, [[1.0, 0.0]], 0, samples=400)
    assert abs(R[0, 0] - 0.5) <= 0.1
    assert R[0, 1] == 0


# Occlusion.


@pytest.mark.parametrize(
    ("patch", "stride", "fill"),
    [
        (1, None, 0),
        (2, None, np.array([0.5, -1.0])),
        ((3, 2), (2, 1), 0.25),
        ((2, 3), None, 0),  # cut off at both borders
        ((5, 4), None, np.arange(40.0).reshape(2, 5, 4)),
    ],
)
def test_occlusion_is_a_loop(patch, stride, fill):
    network, x = small()
    (ph, pw) = patch if isinstance(patch, tuple) else (patch, patch)
    (sy, sx) = stride or (ph, pw)
    cover = np.broadcast_to(fill[:, None, None] if np.ndim(fill) == 1 else fill, (2, 5, 4))
    wanted = np.zeros_like(x)
    for n, one in enumerate(x):
        score = network.forward(one[None])[0]
        kind, losses = score.argmax(), {}
        for top in range(0, 5, sy):
            for left in range(0, 4, sx):
                if top - sy + ph >= 5 or left - sx + pw >= 4:
                    continue  # the one before has reached the border
                covered = one.copy()
                for y in range(top, min(top + ph, 5)):
                    for u in range(left, min(left + pw, 4)):
                        covered[:, y, u] = cover[:, y, u]
                losses[top, left] = score[kind] - network.forward(covered[None])[0, kind]
        for y in range(5):
            for u in range(4):
                held = [v for (t, r), v in losses.items() if t <= y < t + ph and r <= u < r + pw]
                wanted[n, :, y, u] = np.mean(held) / 2  # two channels share it
    R = baselines.occlusion(network, x, patch=patch, stride=stride, fill=fill)
    assert abs(R - wanted).max() <= 1e-14 * abs(wanted).max()  # dyadic numbers but for the means
    assert abs(wanted).max() > 0


def test_occlusion_of_a_linear_function_is_the_contribution():
    for dtype in ("float64", "exact"):
        R = baselines.occlusion(linear(), [[3.0, 4.0]], 0, patch=1, dtype=dtype)
        assert R[0].tolist() == [6, -4]


# What all have in common.


@pytest.mark.parametrize("name", METHODS)
def test_conventions(name):
    method, options = METHODS[name]
    network, x = small()
    R = method(network, x, **options)
    assert R.shape == x.shape
    chosen = network.forward(x).argmax(axis=1)
    assert (method(network, x, chosen, **options) == R).all()  # "max"
    assert (method(network, x, chosen.tolist(), **options) == R).all()
    assert (method(network, x, int(chosen[0]), **options)[0] == R[0]).all()
    # the score before a softmax is meant
    probabilities = chain([(n.name, n.layer) for n in network.nodes] + [("softmax", Softmax())], (2, 5, 4))
    assert (method(probabilities, x, **options) == R).all()
    # other orders of the same sums: rounding
    for batch in (1, 2, 1000):
        assert abs(method(network, x, batch=batch, **options) - R).max() <= 1e-13 * abs(R).max()
    for n in range(3):
        assert abs(method(network, x[n : n + 1], **options) - R[n]).max() <= 1e-13 * abs(R).max()
    assert abs(method(network, x, backend="loops", **options) - R).max() <= 1e-13 * abs(R).max()
    single = method(network, x, dtype="float32", **options)
    assert single.dtype == np.float32
    assert abs(single - R).max() <= 1e-5 * abs(R).max()  # 7 digits, sums of some hundred


@pytest.mark.parametrize(
    ("name", "points"),
    # f(x) first; then a gradient; 8; 7; f(x) again, and 4 x 3 patches
    [("gradient x input", 2), ("integrated gradients", 9), ("SmoothGrad", 8), ("occlusion", 14)],
)
def test_watch_hears_of_every_point(name, points):
    method, options = METHODS[name]
    network, x = small()
    for batch in (2, 100):
        seen = []
        method(network, x, batch=batch, watch=seen.append, **options)
        assert sum(seen) == points * len(x)
        assert max(seen) <= batch


@pytest.mark.parametrize(
    ("method", "options", "what"),
    [
        ("gradient_times_input", {"target": 3}, "target 3 is out of range"),
        ("gradient_times_input", {"target": np.ones((3, 3))}, "classes are wanted"),
        ("gradient_times_input", {"batch": 0}, "batch is 0"),
        ("integrated_gradients", {"steps": 0}, "steps is 0"),
        ("integrated_gradients", {"steps": 2.5}, "steps is 2.5"),
        ("integrated_gradients", {"quadrature": "simpson"}, "there are midpoint, gauss-legendre"),
        ("integrated_gradients", {"quadrature": ["midpoint"]}, r"unknown quadrature \['midpoint'\]"),
        ("integrated_gradients", {"baseline": np.zeros(3)}, "baseline is of shape"),
        ("integrated_gradients", {"baseline": np.nan}, "finite"),
        ("integrated_gradients", {"baseline": "black"}, "real numbers"),
        ("integrated_gradients", {"baseline": None}, "baseline is None: finite real numbers"),
        ("integrated_gradients", {"baseline": [[1], [1, 2]]}, r"baseline is \[\[1\], \[1, 2\]\]: finite"),
        ("smooth_grad", {"noise": -1}, "noise is -1"),
        ("smooth_grad", {"noise": np.nan}, "noise is nan"),
        ("smooth_grad", {"samples": 0}, "samples is 0"),
        ("smooth_grad", {"seed": -1}, "seed is -1"),
        ("occlusion", {"patch": 6}, "patch is 6 x 6: at most 5 x 4"),
        ("occlusion", {"patch": (2, 5)}, "patch is 2 x 5: at most 5 x 4"),
        ("occlusion", {"patch": 0}, "patch is 0"),
        ("occlusion", {"patch": (2, 2, 2)}, "one whole number is wanted, or 2"),
        ("occlusion", {"patch": 2, "stride": 3}, "at most 2 x 2 is wanted, the size of the patch"),
        ("occlusion", {"fill": np.zeros((5, 5))}, "fill is of shape"),
    ],
)
def test_bad_input_is_one_clear_line(method, options, what):
    network, x = small()
    with pytest.raises(BadInput, match=what) as caught:
        getattr(baselines, method)(network, x, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", METHODS)
def test_other_bad_input(name):
    method, options = METHODS[name]
    network, x = small()
    with pytest.raises(BadInput, match="input is"):
        method(network, x[:, :1], **options)
    with pytest.raises(BadBackend):
        method(network, x, dtype="half", **options)
    with pytest.raises(LrprefError):
        method(network, x, backend="abacus", **options)
    with pytest.raises(BadInput, match="relevance is of shape"):
        baselines.completeness(network, x, x[:1])
