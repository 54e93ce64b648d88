"""Pairwise matching: relevance of pairs, in full and in factors, sums to the similarity."""

import doctest
import gc
import weakref
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import flint
import numpy as np
import pytest

import lrpref
from lrpref import beyond, data, exact
from lrpref.beyond import pairwise as pairwise_module
from lrpref.beyond.pairwise import BATCH, BOOKED
from lrpref.errors import BadInput, BadNetwork
from lrpref.layers import Add, BatchNorm, Conv2d, Dense, Flatten, Identity, MaxPool2d, ReLU
from lrpref.network import INPUT, Network, Node, chain

PAGE = Path(__file__).parent.parent / "docs" / "pairwise.md"
COMPOSITES = ("lrp-0", "epsilon", "gamma", "epsilon-plus", "epsilon-alpha2-beta1", "excitation-backprop")
EXACT = exact.get("exact")


def quarters(rng, *shape, low=-5, high=7):
    return rng.integers(low, high, shape) / 4


def dense(rng, *sizes, bias=1.0):
    """Dense layers with rectifiers between and on top."""
    layers = []
    for number, (j, k) in enumerate(pairwise(sizes)):
        layers += [
            (f"dense{number}", Dense(quarters(rng, k, j), bias * quarters(rng, k, low=0))),
            (f"relu{number}", ReLU()),
        ]
    return chain(layers, sizes[:1])


def convolutional(rng):
    """Every kind of layer that a chain may have, batch norm and max pooling among them."""
    return chain(
        [
            ("conv", Conv2d(quarters(rng, 2, 1, 2, 2), quarters(rng, 2), padding=1)),
            ("norm", BatchNorm(quarters(rng, 2, low=1), quarters(rng, 2))),
            ("relu", ReLU()),
            ("pool", MaxPool2d(2)),
            ("flatten", Flatten()),
            ("dense", Dense(quarters(rng, 5, 8), quarters(rng, 5, low=1))),
            ("top", ReLU()),
        ],
        (1, 3, 3),
    )


def rational(x):
    return [Fraction(float(v)) for v in np.ravel(x)]


def forward(weight, bias, a):
    return [sum(w * v for w, v in zip(row, a, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def tables(network):
    """Weights and biases of a network of `dense`, as rational numbers."""
    layers = [node.layer for node in network.nodes if isinstance(node.layer, Dense)]
    return [([rational(row) for row in layer.weight], rational(layer.bias)) for layer in layers]


def by_the_formula(left, right, x, other):
    """Sum over all pairs of neurons, pair by pair, as the chapter writes it; LRP-0 with biases."""
    sides = []
    for network, given in ((left, x), (right, other)):
        a, steps = rational(given), []
        for weight, bias in tables(network):
            z = forward(weight, bias, a)
            steps.append((weight, a, z))
            a = [max(0, v) for v in z]
        sides.append((steps, a))
    (steps, phi), (steps_other, phi_other) = sides
    R = {(m, m): phi[m] * phi_other[m] for m in range(len(phi))}
    for (w, a, z), (v, b, u) in zip(reversed(steps), reversed(steps_other), strict=True):
        below = {}
        for i, j in product(range(len(a)), range(len(b))):
            below[i, j] = sum(
                a[i] * b[j] * w[k][i] * v[l][j] / (z[k] * u[l]) * r for (k, l), r in R.items() if r
            )
        R = below
    return R


@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 3), (3, 4, 4, 3)])
def test_pairs_are_the_chapters_formula(sizes):
    rng = np.random.default_rng(2)
    left, right = dense(rng, *sizes), dense(rng, *sizes)
    x, other = quarters(rng, 2, 1, sizes[0], low=1)
    wanted = by_the_formula(left, right, x, other)
    assert any(wanted.values())
    full = beyond.second_order(left, right, x, other, "lrp-0", dtype="exact")
    factored = beyond.match(left, right, x, other, "lrp-0", dtype="exact").pairs()
    for (i, j), r in wanted.items():
        assert full.relevance[i, j] == factored.relevance[i, j] == EXACT.number(r)


def test_one_layer_of_products_without_bias_loses_nothing():
    rng = np.random.default_rng(2)
    left, right = dense(rng, 5, 4, bias=0), dense(rng, 3, 4, bias=0)
    x, other = quarters(rng, 1, 5, low=1), quarters(rng, 1, 3, low=1)
    found = beyond.match(left, right, x, other, "lrp-0", dtype="exact")
    assert found.similarity == EXACT.number(Fraction(float((left.forward(x) * right.forward(other)).sum())))
    assert found.pairs().relevance.sum() == found.similarity != 0
    assert found.books[0, 0] == found.similarity


def networks(kind, rng):
    if kind == "convolutional":
        return convolutional(rng), convolutional(rng), *quarters(rng, 2, 1, 1, 3, 3)
    return dense(rng, 4, 6, 5), dense(rng, 3, 5, 5), quarters(rng, 1, 4), quarters(rng, 1, 3)


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_factors_and_full_form_agree_exactly(kind, composite):
    left, right, x, other = networks(kind, np.random.default_rng(3))
    factored = beyond.match(left, right, x, other, composite, dtype="exact")
    full = beyond.second_order(left, right, x, other, composite, dtype="exact")
    assert (factored.pairs().table == full.table).all()
    assert (factored.books == full.books).all()
    assert factored.books.sum() == full.similarity == factored.similarity != 0
    assert (full.relevance != 0).any()
    assert (full.books[-1] == 0).all()  # residuals
    assert (full.books[:, -1] == 0).all()


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_factors_and_full_form_agree_in_floats(kind, composite):
    left, right, x, other = networks(kind, np.random.default_rng(4))
    factored = beyond.match(left, right, x, other, composite).pairs().table
    full = beyond.second_order(left, right, x, other, composite).table
    assert abs(factored - full).max() <= 1e-10 * abs(full).max()
    similarity = (left.forward(x) * right.forward(other)).sum()
    assert full.sum() == pytest.approx(similarity, rel=1e-10)


def test_what_stabilizers_take_is_booked():
    rng = np.random.default_rng(5)
    left, right = dense(rng, 4, 3, bias=0), dense(rng, 4, 3, bias=0)
    x, other = quarters(rng, 2, 1, 4, low=1)
    left_z, right_z = left.forward(x)[0], right.forward(other)[0]
    composite = lrpref.composites.get("epsilon", eps="2")
    found = beyond.second_order(left, right, x, other, composite, dtype="exact")
    books = dict(np.ndenumerate(found.books))
    eps = 1 + BOOKED.index("stabilizer")
    shares = [
        [Fraction(float(z)) / (Fraction(float(z)) + 2) for z in side] for side in (left_z, right_z)
    ]
    y = [Fraction(float(a * b)) for a, b in zip(left_z, right_z, strict=True)]
    pairs = list(zip(*shares, y, strict=True))
    assert books[0, 0] == EXACT.number(sum(p * q * v for p, q, v in pairs))
    assert books[0, eps] == EXACT.number(sum(p * (1 - q) * v for p, q, v in pairs))
    assert books[eps, 0] == EXACT.number(sum((1 - p) * q * v for p, q, v in pairs))
    assert books[eps, eps] == EXACT.number(sum((1 - p) * (1 - q) * v for p, q, v in pairs))
    assert books[0, eps] != books[eps, 0] != 0


def test_a_batch_of_features_is_split():
    rng = np.random.default_rng(6)
    count = 2 * BATCH + 3
    network = chain([("dense", Dense(quarters(rng, count, 4, low=1)))], (4,))
    x, other = quarters(rng, 2, 1, 4, low=1)
    factored = beyond.match(network, network, x, other, "lrp-0", dtype="exact")
    assert len(factored.left.features) == count
    full = beyond.second_order(network, network, x, other, "lrp-0", dtype="exact")
    assert (factored.pairs().table == full.table).all()


def test_balls_hold_the_exact_numbers():
    left, right, x, other = networks("dense", np.random.default_rng(7))
    wanted = beyond.match(left, right, x, other, "lrp-0", dtype="exact").pairs().table
    for found in (
        beyond.match(left, right, x, other, "lrp-0", dtype="ball").pairs().table,
        beyond.second_order(left, right, x, other, "lrp-0", dtype="ball").table,
    ):
        for ball, number in zip(found.flat, wanted.flat, strict=True):
            assert ball.overlaps(flint.arb(number))
            assert float(ball.rad()) < 1e-12  # what is multiplied after LRP has double precision


def test_only_shared_features_count():
    one, two = Dense(np.array([[1.0, 0.0], [0.0, 1.0]])), Dense(np.array([[1.0, 0.0], [0.0, 0.0]]))
    left, right = (chain([("dense", layer)], (2,)) for layer in (one, two))
    x = np.array([[3.0, 5.0]])
    found = beyond.match(left, right, x, x, "lrp-0")
    assert found.left.features.tolist() == found.right.features.tolist() == [3]
    assert found.pairs().relevance.tolist() == [[9, 0], [0, 0]]
    with pytest.raises(BadInput, match="the inputs share no features: their similarity is 0"):
        beyond.match(left, right, np.array([[0.0, 1.0]]), x, "lrp-0")


# Patches.


def test_patches_are_sums_of_pairs():
    rng = np.random.default_rng(8)
    network = convolutional(rng)
    x, other = quarters(rng, 2, 1, 1, 3, 3)
    found = beyond.match(network, network, x, other, "lrp-0", dtype="exact")
    R = found.pairs().relevance.reshape(3, 3, 3, 3)
    pooled = beyond.match(network, network, x, other, "lrp-0", dtype="exact", patch=2)
    patches = pooled.table()
    assert patches.shape == (2, 2, 2, 2)
    for a, b, c, d in product(range(2), repeat=4):
        block = R[2 * a : 2 * a + 2, 2 * b : 2 * b + 2, 2 * c : 2 * c + 2, 2 * d : 2 * d + 2]
        assert patches[a, b, c, d] == block.sum()
    assert (found.table().reshape(R.shape) == R).all()
    assert patches.sum() == found.books[0, 0]
    assert (pooled.books == found.books).all()
    assert (pooled.pairs().relevance == patches.reshape(4, 4)).all()


def test_no_more_than_patches_is_kept(monkeypatch):
    """When a batch of passes begins, nothing holds the relevances of the one before."""
    made = []

    def explain(*arguments):
        gc.collect()
        assert not any(reference() is not None for reference in made)
        e = lrpref.explain(*arguments)
        made.append(weakref.ref(e.relevance))
        return e

    monkeypatch.setattr(pairwise_module, "explain", explain)
    rng = np.random.default_rng(11)
    weight = quarters(rng, 2 * BATCH + 1, 1, 3, 3, low=1)
    network = chain([("conv", Conv2d(weight)), ("flatten", Flatten())], (1, 3, 3))
    x, other = quarters(rng, 2, 1, 1, 3, 3, low=1)
    found = beyond.match(network, network, x, other, "lrp-0", patch=3)
    assert found.left.relevance.shape == (2 * BATCH + 1, 1, 1)
    assert len(made) == 6


def test_watch_hears_of_every_pass():
    count = 2 * BATCH + 3
    network = chain([("dense", Dense(np.ones((count, 4))))], (4,))
    seen = []
    beyond.match(network, network, *np.ones((2, 1, 4)), "lrp-0", watch=lambda *told: seen.append(told))
    assert seen == 2 * [(BATCH, 2 * count), (BATCH, 2 * count), (3, 2 * count)]


def test_channels_are_summed():
    weight = np.array([[[[1.0]], [[2.0]]]])
    network = chain([("conv", Conv2d(weight)), ("flatten", Flatten())], (2, 1, 2))
    x = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    patches = beyond.match(network, network, x, x, "lrp-0", patch=1).table()
    phi = np.array([7.0, 10.0])
    assert patches.reshape(2, 2) == pytest.approx(np.diag(phi**2), rel=1e-15)


@pytest.mark.parametrize("patch", [0, 4, 1.5, "2", True])
def test_patches_that_do_not_fit(patch):
    network = convolutional(np.random.default_rng(9))
    x = np.ones((1, 1, 3, 3))
    with pytest.raises(BadInput, match=r"patch is .*: a whole number from 1 to 3 is wanted"):
        beyond.match(network, network, x, x, "lrp-0", patch=patch)


def test_vectors_have_no_patches():
    left, right, x, other = networks("dense", np.random.default_rng(3))
    with pytest.raises(BadInput, match=r"the input is \(4,\): only images"):
        beyond.match(left, right, x, other, "lrp-0", patch=1)


def test_two_embedded_pictures():
    phi = beyond.features(data.embedded(), "relu_fc1")
    x, other = (phi.preprocess(data.image(number)) for number in (9, 12))
    found = beyond.match(phi, phi, x, other, "gamma", patch=4)
    similarity = (phi.forward(x) * phi.forward(other)).sum()
    # batch norms are folded: weights of 1e-16, and eight layers of sums
    assert found.similarity == pytest.approx(similarity, rel=1e-12)
    assert found.books.sum() == pytest.approx(similarity, rel=1e-12)
    assert found.table().sum() == pytest.approx(found.books[0, 0], rel=1e-12)
    turned = beyond.match(phi, phi, other, x, "gamma", patch=4).table()
    assert found.table().transpose(2, 3, 0, 1) == pytest.approx(turned, abs=1e-14)


# Features, and what does not fit.


def test_features_are_a_nodes_output():
    network = data.embedded()
    x = network.preprocess(data.image(9))
    values = network.astype(exact.get("float64")).activations(x, lrpref.kernels.backend("numpy"))
    for name in ("relu_fc1", "pool3"):
        assert (beyond.features(network, name).forward(x) == values[name].reshape(1, -1)).all()
    with pytest.raises(BadInput, match="there is no node 'pool9'"):
        beyond.features(network, "pool9")


def branched():
    nodes = (Node("one", Identity(), (INPUT,)), Node("sum", Add(), ("one", INPUT)))
    return Network(nodes, (3,))


def wide(count):
    return chain([("wide", Dense(np.ones((count, 3))))], (3,))


@pytest.mark.parametrize(
    ("left", "right", "x", "error", "text"),
    [
        (wide(4), wide(5), 1, BadInput, r"features are \(4,\) and \(5,\)"),
        (wide(4), wide(4), 2, BadInput, "one sample"),
        (branched(), branched(), 1, BadNetwork, "node 'sum' reads .* only layers in a row"),
        (wide(3000), wide(3000), 1, BadNetwork, "node 'wide' has a table of 3000 x 3: use `match`"),
    ],
)
def test_what_does_not_fit(left, right, x, error, text):
    with pytest.raises(error, match=text) as caught:
        beyond.second_order(left, right, np.ones((x, 3)), np.ones((x, 3)), "lrp-0")
    assert "\n" not in str(caught.value)


def test_branches_are_no_matter_to_factors():
    network = branched()
    x = np.array([[1.0, 2.0, 3.0]])
    found = beyond.match(network, network, x, x, "lrp-0")
    assert found.pairs().relevance == pytest.approx(np.diag(4 * x[0] ** 2), rel=1e-15)


def test_a_drawing_has_a_line_for_each_pair():
    table = np.zeros((2, 2, 2, 2))
    table[0, 1, 1, 0], table[1, 1, 0, 0], table[0, 0, 0, 0] = 4.0, -2.0, 1.0
    figure = beyond.draw_pairs([np.zeros((5, 5)), np.zeros((5, 5))], table, 3, strongest=2)
    weak, strong = figure.artists
    assert (strong.xy1, strong.xy2) == ((3.5, 1), (1, 3.5))  # (x, y): columns 3 to 4 of rows 0 to 2
    assert (weak.xy1, weak.xy2) == ((3.5, 3.5), (1, 1))
    assert strong.get_linewidth() > weak.get_linewidth()
    assert strong.get_edgecolor()[0] > 0.5 > weak.get_edgecolor()[0]  # red, blue


@pytest.mark.parametrize(
    ("pictures", "shape", "text"),
    [
        ([np.zeros((5, 5))], (2, 2, 2, 2), "pictures are 1: two are wanted"),
        ([np.zeros((5, 5))] * 3, (2, 2, 2, 2), "pictures are 3: two are wanted"),
        ([np.zeros((5, 5)), np.zeros((5, 4))], (2, 2, 2, 3), r"wants \(2, 2, 2, 2\): the patches of both"),
    ],
)
def test_what_cannot_be_drawn(pictures, shape, text):
    with pytest.raises(BadInput, match=text):
        beyond.draw_pairs(pictures, np.zeros(shape), 3)


def test_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 3
    assert failed == 0
