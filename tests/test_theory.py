"""Taylor decomposition against the rules: equal with ==, in exact arithmetic; and the demonstrations.

The theory's side (`lrpref.theory`) takes each layer apart into neurons and uses neither rules nor engine.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYERS, lower

import lrpref
from lrpref import data, exact, relprop, rules
from lrpref.errors import BadInput, BadRule, LrprefError
from lrpref.kernels import backend
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import Conv2d, Dense, LeakyReLU, ReLU
from lrpref.network import chain
from lrpref.theory import (
    BoxReference,
    EpsilonReference,
    GammaReference,
    SquareReference,
    ZeroReference,
    decompose,
    expand,
    modulation,
    nearest_root,
    neurons,
    shattered,
    simple_taylor,
    spurious,
    training,
)

F = exact.FRACTIONS
ARITHMETICS = {"fractions": F, "fmpq": exact.get("exact")}
TAKEN_APART = ("dense", "dense without bias", "convolution", "windows in the padding")

POSITIVE = [
    (rules.Zero(), ZeroReference()),
    (rules.Epsilon(0.25), EpsilonReference(0.25)),
    (rules.Epsilon(0), EpsilonReference(0)),
    (rules.Gamma(0.25), GammaReference(0.25)),
    (rules.Gamma(3), GammaReference(3)),
]
"""The rules for activations >= 0, and their reference points."""

SIGNED = [(rules.ZBox(-1.75, 2.0), BoxReference(-1.75, 2.0)), (rules.WSquare(), SquareReference())]
"""The rules for inputs of any sign."""


def q(*values):
    """Fractions in an array."""
    return F.array(np.array(values, dtype=object))


def active_layer(name, arithmetic, seed, *, positive):
    """A layer, activations, and relevances that are 0 where a neuron is not active."""
    layer = LAYERS[name][0]
    a = lower(name, seed, samples=5)[0]
    a = arithmetic.array(abs(a) if positive else a.clip(-1.75, 2.0))
    z = arithmetic.cast(layer).forward(REFERENCE, a)
    some = np.random.default_rng(seed).integers(1, 9, z.shape)
    R = np.where(np.asarray(z > 0, bool), arithmetic.array(some) / 7, z * 0)
    assert (R != 0).any()
    return layer, a, R


def wide_groups():
    """A convolution of two groups with two channels each, and a batch for it."""
    rng = np.random.default_rng(4)
    layer = Conv2d(rng.integers(-3, 4, (4, 2, 2, 3)) / 2, rng.integers(-2, 3, 4) / 4, 2, (1, 0), groups=2)
    return layer, rng.integers(-6, 7, (2, 4, 3, 4)) / 4


@pytest.mark.parametrize("name", [*TAKEN_APART, "wide groups"])
def test_neurons_taken_apart_compute_what_the_layer_computes(name):
    layer, a = wide_groups() if name == "wide groups" else (LAYERS[name][0], lower(name, 3)[0])
    layer, a = F.cast(layer), F.array(a)
    z = layer.forward(REFERENCE, a).reshape(2, -1)
    for n, sample in enumerate(a.reshape(2, -1)):
        parts = [(w * sample[inputs]).sum() + b[0] for inputs, w, b in neurons(layer, a.shape[1:])]
        assert parts == z[n].tolist()


@pytest.mark.parametrize("arithmetic", ARITHMETICS.values(), ids=ARITHMETICS)
@pytest.mark.parametrize(("rule", "reference"), POSITIVE + SIGNED, ids=str)
@pytest.mark.parametrize("name", TAKEN_APART)
@pytest.mark.parametrize("seed", [6, 7])
def test_the_terms_are_the_rule(name, rule, reference, arithmetic, seed):
    layer, a, R = active_layer(name, arithmetic, seed, positive=(rule, reference) in POSITIVE)
    theory, step = decompose(layer, reference, a, R), relprop(layer, rule, a, R)
    assert (theory.relevance == step.relevance).all()
    assert (theory.bias == step.ledger.bias).all()
    assert (theory.zero_order == step.ledger.stabilizer).all()
    assert (theory.left_out == step.ledger.dropped).all()
    if reference.stabilizer():
        assert (theory.zero_order > 0).any()


def test_bounds_per_channel():
    low, high = np.array([-1.75, -2.0]), np.array([2.0, 1.75])
    layer, a, R = active_layer("convolution", F, 6, positive=False)
    theory = decompose(layer, BoxReference(low, high), a, R)
    assert (theory.relevance == relprop(layer, rules.ZBox(low, high), a, R).relevance).all()


@pytest.mark.parametrize(("rule", "reference"), POSITIVE, ids=str)
def test_a_network_layer_by_layer(rule, reference):
    rng = np.random.default_rng(5)
    sizes = (4, 6, 5, 3)
    layers = []
    for number, (j, k) in enumerate(pairwise(sizes)):
        layers += [
            (f"dense{number}", Dense(rng.integers(-4, 6, (k, j)) / 4, rng.integers(-2, 3, k) / 4)),
            (f"relu{number}", ReLU()),
        ]
    network = chain(layers, (4,))
    x = rng.integers(0, 8, (3, 4)) / 4
    explanation = lrpref.explain(
        network, x, rules={name: rule for name, layer in layers if layer.is_linear}, dtype="exact"
    )
    a = network.astype(exact.get("exact")).activations(exact.get("exact").array(x), backend("numpy"))
    for node in network.nodes:
        if node.layer.is_linear:
            theory = decompose(node.layer, reference, a[node.inputs[0]], explanation.at(node.name))
            assert (theory.relevance == explanation.at(node.inputs[0])).all()
            assert (theory.left_out == 0).all()
    assert (explanation.relevance != 0).any()


def test_a_layer_of_the_embedded_network():
    network = data.embedded()
    e = lrpref.explain(network, network.preprocess(data.image(9)), composite="gamma", dtype="float64")
    node = e.canonical.node("fc1")
    a = e.canonical.activations(e.x, backend("numpy"))[node.inputs[0]]
    R = relprop(node.layer, rules.Gamma(0.25), a, e.at("fc1")).relevance
    theory = decompose(node.layer, GammaReference(0.25), a, e.at("fc1"))
    # both add 64 products of float64 in their own order: units of 1e-16, magnified where z is small
    assert abs(theory.relevance - R).max() <= 1e-12 * abs(R).max()


# One neuron.

quarters = st.integers(-12, 12).map(lambda n: Fraction(n, 4))
inputs = st.tuples(st.integers(0, 12).map(lambda n: Fraction(n, 4)), quarters)


def drawn(pairs, b):
    """One neuron's a, w, b, and whether it is active."""
    a, w = (q(*values) for values in zip(*pairs, strict=True))
    return a, w, b, (a * w).sum() + b > 0


@given(st.lists(inputs, min_size=1, max_size=5), quarters)
def test_what_the_chapter_says_of_reference_points(pairs, b):
    a, w, b, is_active = drawn(pairs, b)
    if not is_active:
        for _, reference in POSITIVE:
            with pytest.raises(BadInput):
                expand(reference, a, w, b, Fraction(5))
        return
    all_of_it = expand(ZeroReference(), a, w, b, Fraction(5))
    assert all_of_it.squared_distance == 1 + (a * a).sum()
    for _, reference in POSITIVE:
        expansion = expand(reference, a, w, b, Fraction(5))
        assert (expansion.reference >= 0).all()
        assert expansion.squared_distance <= all_of_it.squared_distance
        assert expansion.model(expansion.a) == 5 == expansion.zero_order + expansion.terms.sum()
        z = (a * w).sum() + b
        eps = Fraction(reference.stabilizer())
        assert expansion.model.z(expansion.reference) == z * eps / (z + eps)  # eps = 0: on the hinge
        # a root on the way to 0, as the definitions say
        if type(reference) is EpsilonReference:
            assert (expansion.reference[1:] == eps / (z + eps) * a).all()


@given(st.lists(inputs, min_size=1, max_size=5), quarters)
def test_gamma_with_the_bias_held_fixed_is_not_the_rule(pairs, b):
    a, w, b, is_active = drawn(pairs, b)
    gamma = Fraction(1, 4)
    below = (a * np.where(w > 0, w + gamma * w, w)).sum()
    if not is_active or below == 0:
        return
    expansion = expand(GammaReference(gamma, fixed_bias=True), a, w, b, Fraction(5))
    rule = relprop(Dense(w[None], q(b)), rules.Gamma(gamma), a[None], q(5)[None])
    assert expansion.reference[0] == 1
    assert expansion.terms[1:].sum() == 5  # all goes to the inputs, where the rule books the bias's part
    assert (expansion.terms[1:] == rule.relevance[0]).all() == (b == 0)


def test_with_the_bias_held_fixed_gamma_leaves_the_domain():
    # z = 1 + 1 = 2, the line is 1 - 5/4 t, z = 0 at a~ = -1
    expansion = expand(GammaReference(Fraction(1, 4), fixed_bias=True), q(1), q(1), 1, 1)
    assert expansion.reference.tolist() == [1, -1]


@given(st.lists(st.tuples(quarters, quarters), min_size=1, max_size=5), quarters)
def test_reference_points_of_the_input_layer(pairs, b):
    x, w, b, is_active = drawn(pairs, b)
    box = BoxReference(-3, 3)
    if not is_active or not (w != 0).any():
        return
    nearest = expand(SquareReference(), x, w, b, Fraction(5))
    z = (x * w).sum() + b
    assert nearest.squared_distance == z * z / (w * w).sum()
    if not (np.where(w > 0, x + 3, np.where(w < 0, x - 3, 0)) != 0).any():
        return  # x is the corner already: no root that way
    cornered = expand(box, x, w, b, Fraction(5))
    assert cornered.squared_distance >= nearest.squared_distance
    for expansion in (nearest, cornered):
        assert expansion.reference[0] == 1
        assert expansion.zero_order == 0
        assert expansion.terms[0] == 0
        assert expansion.terms.sum() == 5
    if b <= 0:  # Montavon et al. 2017, Pattern Recognition 65, assume it: then the root is in the box
        assert (abs(cornered.reference[1:]) <= 3).all()


def test_by_hand():
    # w = (2, -1), b = 1, a = (3, 1): z = 6. gamma = 1: weights (4, -1), bias 2, z_gamma = 13, t = 6/13,
    # a~ = (1, 3, 1) - 6/13 (2, 6, 1)
    expansion = expand(GammaReference(1), q(3, 1), q(2, -1), 1, 13)
    assert expansion.reference.tolist() == [Fraction(1, 13), Fraction(3, 13), Fraction(7, 13)]
    assert expansion.terms.tolist() == [2, 12, -1]


def test_neurons_without_an_expansion_are_booked():
    layer = Dense(np.array([[1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]), np.array([0.0, 0.0, 2.0]))
    a, R = q(1, 1)[None], q(3, 5, 7)[None]
    assert decompose(layer, ZeroReference(), a, R).left_out == [5]
    assert decompose(layer, SquareReference(), a, R).left_out == [12]  # the third has no weights, z = 2


@pytest.mark.parametrize(
    ("build", "error", "what"),
    [
        (lambda: expand(ZeroReference(), q(1), q(1, 2), 0, 1), BadInput, r"a is \(1,\) and w is \(2,\)"),
        (lambda: expand(ZeroReference(), q(1)[None], q(1)[None], 0, 1), BadInput, r"a is \(1, 1\) and w is"),
        (lambda: EpsilonReference(-1), BadRule, "eps is -1: a finite number >= 0 is wanted"),
        (lambda: EpsilonReference(np.nan), BadRule, "eps is nan"),
        (lambda: EpsilonReference("1"), BadRule, "eps is '1'"),
        (lambda: GammaReference(np.inf), BadRule, "gamma is inf"),
        (lambda: GammaReference(Fraction(-1, 4)), BadRule, r"gamma is Fraction\(-1, 4\)"),
    ],
)
def test_what_cannot_be_expanded(build, error, what):
    with pytest.raises(error, match=what) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_modulation():
    a, R = np.array([[2.0, 0.0, 4.0]]), np.array([[3.0, 0.0, -2.0]])
    assert modulation(a, R).tolist() == [[1.5, 0.0, -0.5]]
    assert modulation(F.array(a), F.array(R)).tolist() == [[Fraction(3, 2), 0, Fraction(-1, 2)]]


@pytest.mark.parametrize(
    ("layer", "reference", "R", "what"),
    [
        (ReLU(), ZeroReference(), np.ones((1, 2)), "Dense and Conv2d"),
        (Dense(np.ones((3, 2))), ZeroReference(), np.ones((1, 2)), "wants the layer's output"),
        (Dense(np.ones((3, 4))), ZeroReference(), np.ones((1, 3)), "wants"),
        (Dense(np.ones((3, 2))), BoxReference(np.zeros(5), 1), np.ones((1, 3)), "bound"),
    ],
)
def test_what_cannot_be_decomposed(layer, reference, R, what):
    with pytest.raises(LrprefError, match=what):
        decompose(layer, reference, np.ones((1, 2)), R)
    with pytest.raises(BadRule):
        list(neurons(ReLU(), (2,)))


# Simple Taylor decomposition.


def hinge(*layers):
    """f(x) = max(0, x1 + x2 - 1) - 2, and what follows."""
    hidden = Dense(np.array([[1.0, 1.0]]), np.array([-1.0]))
    top = Dense(np.array([[1.0]]), np.array([-2.0]))
    return chain([("hidden", hidden), ("relu", ReLU()), ("top", top), *layers], (2,))


@pytest.mark.parametrize("dtype", ["float64", "exact"])
@pytest.mark.parametrize(
    ("reference", "zero_order", "terms", "remainder"),
    [
        ((1, 1), -1, [3, 1], 0),  # on x's side of the hinge: f is linear
        ((0, 0), -2, [0, 0], 5),  # behind it the gradient is 0, and all is remainder
    ],
)
def test_simple_taylor_by_hand(reference, zero_order, terms, remainder, dtype):
    taylor = simple_taylor(hinge(), [[4.0, 2.0]], np.array(reference), 0, dtype=dtype)
    assert taylor.explained[0] == 3
    assert taylor.zero_order[0] == zero_order
    assert taylor.relevance[0].tolist() == terms
    assert taylor.remainder[0] == remainder


def test_the_expansion_closes_on_the_embedded_network():
    network = data.embedded()
    x = network.preprocess(data.image(9))
    root = nearest_root(network, x)
    taylor = simple_taylor(network, x, root)
    assert taylor.explained[0] == network.forward(x).max()
    # the last of 40 halvings is 1e-12 of a 32nd of the line, whose slope is some 1e2
    assert 0 <= taylor.zero_order[0] <= 1e-10
    parts = taylor.zero_order[0] + taylor.relevance.sum() + taylor.remainder[0]
    assert parts == pytest.approx(taylor.explained[0], rel=1e-13)  # rounding of a sum of 784
    assert abs(taylor.remainder[0]) > 0.1 * taylor.explained[0]  # as the chapter says: no explanation


def test_the_nearest_root_is_found():
    # along (3, 3) -> (0, 0), x1 + x2 - 1 = 2 at (1.5, 1.5): half of the line
    root = nearest_root(hinge(), [[3.0, 3.0]])
    assert abs(root - 1.5).max() <= 3 / 2**40
    assert hinge().forward(root)[0, 0] >= 0  # x's side
    # f = |t - 1| - 1/2 from t = 2 down to 0: roots at 3/2 and 1/2
    valley = chain(
        [
            ("hidden", Dense(np.array([[1.0], [-1.0]]), np.array([-1.0, 1.0]))),
            ("relu", ReLU()),
            ("top", Dense(np.array([[1.0, 1.0]]), np.array([-0.5]))),
        ],
        (1,),
    )
    assert nearest_root(hinge(), [[2.0, 1.0]]).tolist() == [[2, 1]]  # f(x) = 0: x is a root itself
    # t is halved 40 times; so is the line's length, 2 or 1
    assert 0 <= nearest_root(valley, [[2.0]])[0, 0] - 1.5 <= 2 / 2**40
    assert 0 <= nearest_root(valley, [[1.0]], dtype="exact")[0, 0] * 2**40 - 2**39 <= 1


def test_no_root_is_an_error():
    with pytest.raises(BadInput, match="sample 1: f has one sign all along the line") as caught:
        nearest_root(hinge(), [[4.0, 4.0], [1.0, 1.0]])
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="scan is 0"):
        nearest_root(hinge(), [[4.0, 4.0]], scan=0)
    with pytest.raises(BadInput, match="reference is of shape"):
        simple_taylor(hinge(), [[4.0, 4.0]], np.zeros(3))


# The demonstrations.


def test_the_gradients_that_training_uses():
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
    parameters = [rng.normal(size=shape) for shape in ((4, 3), (4,), (3, 4), (3,))]

    def loss():
        w1, b1, w2, b2 = parameters
        scores = np.maximum(x @ w1.T + b1, 0) @ w2.T + b2
        return (np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(6), labels]).mean()

    found = training._gradients(x, np.eye(3)[labels], *parameters)
    for p, g in zip(parameters, found, strict=True):
        for place in np.ndindex(p.shape):
            kept, ends = p[place], []
            for step in (1e-6, -1e-6):
                p[place] = kept + step
                ends.append(loss())
            p[place] = kept
            # central differences: an error of h^2 = 1e-12, and rounding of 1e-16 / h
            assert g[place] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_weight_decay_shrinks_what_no_gradient_moves():
    # where x is 0, w1 has no gradient: one step leaves 1 - rate decay of it
    x, labels = np.zeros((4, 3)), np.array([0, 1, 0, 1])
    kept, shrunk = (
        training.train(x, labels, hidden=2, steps=1, rate=0.5, decay=decay).node("hidden").layer.weight
        for decay in (0, 0.5)
    )
    assert shrunk == pytest.approx(0.75 * kept, rel=1e-15)  # two roundings


def test_a_seed_draws_the_initial_weights_too():
    x, labels = spurious.current(3)
    expected = training.train(x, labels, hidden=8, steps=300, seed=3)
    before, _ = spurious.demonstration(3)
    assert (before.network.node("output").layer.weight == expected.node("output").layer.weight).all()


def test_a_spurious_feature_is_seen_and_goes_away():
    before, after = spurious.demonstration()
    for outcome in (before, after):  # on data like those at hand nothing but the explanation tells
        assert outcome.on_current >= 0.95
    assert before.on_true <= 0.75
    assert after.on_true >= 0.95
    assert before.share >= 0.4
    assert after.share <= before.share / 3


def test_what_cleaning_does():
    current = spurious.current()
    cleaned = spurious.cleaned(current)
    sides = 2.0 * current.labels - 1
    assert (cleaned.x[:, 0] == current.x[:, 0]).all()
    assert sorted(cleaned.x[:, 1]) == sorted(current.x[:, 1])
    # 400 points: a correlation of nothing has a standard deviation of 1/20
    assert np.corrcoef(sides, current.x[:, 1])[0, 1] > 0.9
    assert abs(np.corrcoef(sides, cleaned.x[:, 1])[0, 1]) < 0.2


def test_share_of_relevance():
    network = chain([("dense", Dense(np.array([[3.0, -1.0]])))], (2,))
    assert spurious.share_of(network, np.array([[1.0, 1.0], [-1.0, -1.0]]), 1) == 0.25


def test_similarity_along_a_line():
    turning = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert shattered.similarity(turning).tolist() == [1, 0, -1]
    assert shattered.similarity(np.array([[2.0], [3.0], [0.0]])).tolist() == [2 / 3, 0.5]
    assert shattered.line([0.0, 1.0], [1.0, 1.0], 3).tolist() == [[0, 1], [0.5, 1], [1, 1]]
    with pytest.raises(BadInput):
        shattered.similarity(turning[:1])
    with pytest.raises(BadInput):
        shattered.line(0, 1, 1)
    with pytest.raises(BadInput, match=r"ends are of shape \(2,\) and \(3,\)"):
        shattered.line([0, 1], [0, 1, 2], 4)


def test_gradients_shatter_with_depth():
    """The embedded network's gradient turns on each step; a shallow network's, and relevances, hardly do."""
    deep = data.embedded()
    pixels, labels = data.images()
    x = deep.preprocessing.normalise(pixels[..., None])
    shallow = training.train(x, labels.astype(int), hidden=64, steps=100, rate=0.02)
    assert training.accuracy(shallow, x, labels) >= 0.95
    points = shattered.line(x[9], x[200], 32)
    kind = int(deep.forward(x[9:10]).argmax())
    turn_shallow, turn_deep, turn_lrp = (
        1 - shattered.similarity(along)[1]
        for along in (
            shallow.gradient(points, kind, backend="cpu"),
            deep.gradient(points, kind, backend="cpu"),
            lrpref.explain(deep, points, kind, "chapter", backend="cpu").relevance,
        )
    )
    assert turn_deep >= 3 * turn_shallow
    assert turn_deep >= 3 * turn_lrp


def test_a_network_without_kinks_does_not_shatter():
    network = chain([("dense", Dense(np.array([[1.0, 2.0]]))), ("leak", LeakyReLU())], (2,))
    gradients = network.gradient(shattered.line([1.0, 0.0], [2.0, 5.0], 9), 0)
    assert shattered.similarity(gradients) == pytest.approx(1.0, abs=1e-15)  # rounding of a cosine
