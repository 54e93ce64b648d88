"""Real networks: the embedded one, and EfficientNet-Lite0 on scikit-learn's china.jpg."""

import json
from importlib.resources import files

import numpy as np
import pytest

import lrpref
from lrpref import data, exact
from lrpref.cli import load_network
from lrpref.composites import COMPOSITES
from lrpref.fold import fold

CHINA = str(files("sklearn.datasets") / "images" / "china.jpg")
PALACE = 698


@pytest.fixture(scope="module")
def fashion():
    return data.embedded()


@pytest.fixture(scope="module")
def pictures(fashion):
    return np.concatenate([fashion.preprocess(data.image(i)) for i in range(6)])


@pytest.fixture(scope="module")
def palace():
    return load_network("efficientnet-lite0")


@pytest.fixture(scope="module")
def china(palace):
    return palace.preprocess(CHINA)


def worst_residual(explanation):
    """Largest residual of a node, relative to its sum of |R|, over nodes and samples."""
    worst = 0.0
    for row in explanation.ledger:
        size = abs(explanation.relevances[row.node]).reshape(len(row.arriving), -1).sum(axis=1)
        worst = max(worst, float((abs(row.residual) / np.where(size > 0, size, 1)).max()))
    return worst


def test_model_card_is_true(fashion):
    card = json.loads((files("lrpref.data") / "model_card.json").read_text(encoding="utf-8"))
    pixels, labels = data.images()
    scores = fashion.forward(fashion.preprocessing.normalise(pixels[..., None]), dtype="float32")
    assert card["test_accuracy"] >= 0.92
    assert (scores.argmax(axis=1) == labels).mean() == pytest.approx(card["accuracy_500"], abs=1e-9)
    assert np.bincount(labels).tolist() == [50] * 10


# Sums of some 1e5 rounded products, added pairwise: a few units in the last place (2e-16) remain.
@pytest.mark.parametrize("composite", COMPOSITES)
def test_books_close_on_the_embedded_network(fashion, pictures, composite):
    explanation = lrpref.explain(fashion, pictures, composite=composite)
    assert worst_residual(explanation) <= 1e-13
    assert abs(explanation.ledger.residual).max() <= 1e-13 * abs(explanation.ledger.explained).max()


@pytest.mark.parametrize("composite", COMPOSITES)
def test_books_close_on_efficientnet(palace, china, composite):
    assert worst_residual(lrpref.explain(palace, china, composite=composite)) <= 1e-13


def test_a_fault_of_a_thousandth_shows(fashion, pictures, monkeypatch):
    """Scale what one node hands on by 1.001: its own residual must tell."""
    from lrpref.kernels.reference import REFERENCE

    honest = REFERENCE.dense_transpose
    monkeypatch.setattr(REFERENCE, "dense_transpose", lambda s, w, op: 1.001 * honest(s, w, op))
    assert worst_residual(lrpref.explain(fashion, pictures, composite="lrp-0")) > 1e-5


def test_palace(palace, china):
    scores = palace.forward(china)[0]
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert int(scores.argmax()) == PALACE
    assert palace.label(PALACE) == "palace"
    assert probabilities.max() == pytest.approx(0.31, abs=0.02)  # the figure recorded for this checkpoint


# The shares that an independent sixty-line NumPy trial had found, to the digits it reported.
@pytest.mark.parametrize(
    ("composite", "share", "tolerance"),
    [("lrp-0", 0.17, 0.005), ("chapter", 0.005, 0.001), ("epsilon-gamma-box", 0.02, 0.005)],
)
def test_how_much_reaches_the_pixels(palace, china, composite, share, tolerance):
    ledger = lrpref.explain(palace, china, PALACE, composite).ledger
    assert float((ledger.inputs / ledger.explained)[0]) == pytest.approx(share, abs=tolerance)
    # what does not reach the pixels is no rounding: the biases hold a good part of it under all three
    assert ledger.account("bias")[0] / ledger.explained[0] > 0.2


def test_backends_agree(fashion, pictures):
    for composite in ("chapter", "epsilon-alpha2-beta1"):
        R = [lrpref.explain(fashion, pictures[:2], composite=composite, backend=b).relevance
             for b in ("numpy", "loops", "cpu")]  # fmt: skip
        # two orders of adding the same numbers; quotients near z = 0 magnify their 1e-16
        for other in R[1:]:
            assert abs(R[0] - other).max() <= 1e-11 * abs(R[0]).max()


def test_a_sample_does_not_depend_on_its_batch(fashion, pictures):
    for composite in COMPOSITES:
        together = lrpref.explain(fashion, pictures, composite=composite).relevance
        alone = np.concatenate([lrpref.explain(fashion, x[None], composite=composite).relevance
                                for x in pictures])  # fmt: skip
        assert abs(together - alone).max() <= 1e-12 * abs(alone).max()


def test_folding_keeps_the_function(fashion, pictures, palace, china):
    for network, x in ((fashion, pictures), (palace, china)):
        before, after = network.forward(x), fold(network).forward(x)
        # weights rounded once more, by 1e-16 each
        assert abs(before - after).max() <= 1e-13 * abs(before).max()
        assert not [n for n in fold(network).nodes if n.layer.kind == "BatchNorm"]


def test_lrp_0_is_gradient_times_input(fashion, pictures):
    gradient = fashion.gradient(pictures)
    R = lrpref.explain(fashion, pictures, composite="lrp-0").relevance
    # LRP-0 divides by each z and multiplies by it again, the gradient does neither: a rounding of 1e-16 per
    # layer, magnified where z is near 0
    assert abs(R - gradient * pictures).max() <= 1e-10 * abs(R).max()


def test_balls_enclose_floats(fashion, pictures):
    """The rigorous enclosure of one explanation holds the float64 result, within float64's rounding."""
    ball = lrpref.explain(fashion, pictures[:1], 0, "epsilon-plus", dtype="ball")
    float64 = lrpref.explain(fashion, pictures[:1], 0, "epsilon-plus")
    middle, radius = exact.as_float(ball.relevance), exact.radius(ball.relevance)
    assert radius.max() <= 1e-12 * abs(middle).max()  # far below float64's own error, which comes next
    # float64's rounding of ten layers, magnified where z is near 0
    assert (abs(float64.relevance - middle) <= radius + 1e-11 * abs(middle).max()).all()
    assert all(residual.contains(0) for residual in ball.ledger.residual)
