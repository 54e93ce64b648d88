"""The log-odds head: what it computes, how it is handed down, and that its books close."""

import json
import math

import flint
import numpy as np
import pytest
from typer.testing import CliRunner

import lrpref
from lrpref import Plan, data, exact, heads, record
from lrpref.cli import app
from lrpref.composites import COMPOSITES
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRule
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import AdaptiveAvgPool2d, Conv2d, Dense, Flatten, ReLU, Softmax, SoftMin
from lrpref.network import Network, chain
from lrpref.rules import Epsilon, Zero

draw = np.random.default_rng(5)


def dyadic(*shape: int) -> np.ndarray:
    """Multiples of 1/16 up to 2: float64 computes the small networks' scores exactly."""
    return draw.integers(-32, 33, shape) / 16


HIDDEN = [("hidden", Dense(dyadic(6, 4), dyadic(6))), ("relu", ReLU())]
TOP = Dense(dyadic(5, 6), dyadic(5))
NET = chain([*HIDDEN, ("out", TOP)], (4,))
X = dyadic(5, 4)
CLASSES = np.array([3, 0, 4, 0, 1])

# as SqueezeNet's: the scores are averages, no dense layer computes them
AVERAGED = chain(
    [("conv", Conv2d(dyadic(4, 2, 2, 2), dyadic(4))), ("relu", ReLU()),
     ("conv10", Conv2d(dyadic(3, 4, 1, 1))), ("pool", AdaptiveAvgPool2d(1)), ("flat", Flatten())],
    (2, 3, 3),
)  # fmt: skip
IMAGES = dyadic(3, 2, 3, 3)


def agree(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether balls with radii below 1e-20 overlap all along: they hold the same numbers."""
    assert max(float(v.rad()) for v in (*x.flat, *y.flat)) < 1e-20
    return all(v.overlaps(w) for v, w in zip(x.flat, y.flat, strict=True))


def balls(x: np.ndarray) -> np.ndarray:
    return exact.get("ball").array(x)


def pooled(y: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """The ratios z and their weights p, from their definitions, for the scores of one sample."""
    z = np.array([y[c] - y[k] for k in range(len(y)) if k != c])
    e = np.array([(-value).exp() for value in z])
    return z, e / e.sum()


# eta


@pytest.mark.parametrize("largest", [1, 30, 100, 1e3, 1e4])
def test_eta_is_the_log_odds_at_any_size(largest):
    y = draw.uniform(-largest, largest, (8, 10))
    chosen = draw.integers(0, 10, 8)
    eta = heads.log_odds(y, chosen).row.arriving
    with flint.ctx.workprec(64_000):  # 1 - P may be exp(-20,000)
        for scores, c, found in zip(y, chosen, eta, strict=True):
            e = [flint.arb(value).exp() for value in scores]
            P = e[c] / sum(e, flint.arb(0))
            wanted = (P / (1 - P)).log()
            # a ratio y_c - y_c' is rounded once, and so are log, exp and their sum
            assert abs(found - float(wanted)) <= 4 * 2.0**-52 * max(largest, 1)


def test_the_naive_formula_is_infinite_where_this_is_not():
    y = np.array([[38.0, 0.0, -1.0]])
    P = np.exp(y) / np.exp(y).sum()
    with np.errstate(divide="ignore"):
        assert np.isinf(np.log(P[0, 0] / (1 - P[0, 0])))
    assert heads.log_odds(y, 0).row.arriving[0] == pytest.approx(38 - math.log1p(math.exp(-1)), rel=1e-15)


# How it is handed down.


def test_relevance_is_p_z_and_the_account_the_entropy_in_balls():
    e = lrpref.explain(NET, X, CLASSES, "lrp-0", head="log-odds", dtype="ball")
    with flint.ctx.workprec(256):
        for sample, (y, c) in enumerate(zip(e.scores, CLASSES, strict=True)):
            z, p = pooled(y, c)
            R = e.at("out")[sample]
            assert R[c] == 0
            assert agree(np.delete(R, c), p * z)
            row = e.ledger["log-odds"]
            assert agree(row.pooling[sample : sample + 1], np.array([(p * [x.log() for x in p]).sum()]))
            assert agree(row.arriving[sample : sample + 1], np.array([-sum(map(flint.arb.exp, -z)).log()]))


def test_conserved_in_balls():
    e = lrpref.explain(NET, X, CLASSES, "lrp-0", head="log-odds", dtype="ball")
    for residual in [e.ledger.residual, *(row.residual for row in e.ledger)]:
        assert agree(residual, balls(np.zeros(len(X))))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_conserved_in_float64(composite):
    net = data.embedded()
    x = np.concatenate([net.preprocess(data.image(i)) for i in range(8)])
    e = lrpref.explain(net, x, np.arange(8), composite, head="log-odds")
    for row in e.ledger:
        # the house's bound: rounding of sums over at most 10,000 terms, relative to sum |R|
        size = abs(row.arriving)
        if row.node in e.relevances:
            size = np.maximum(size, abs(e.at(row.node)).reshape(8, -1).sum(axis=1))
        assert (abs(row.residual) <= 1e-13 * size).all(), row.node
    assert str(e.rules[net.nodes[-1].name]) == "zero"
    assert (e.ledger.account("pooling") < 0).all()


def explicit(network: Network, c: int) -> Network:
    """The two layers of Section 10.3.1 as layers of a network, for one class."""
    weight, bias = balls(TOP.weight), balls(TOP.bias)
    w, b = weight[c] - np.delete(weight, c, axis=0), bias[c] - np.delete(bias, c)
    as_floats = Dense(exact.as_float(w), exact.as_float(b))  # multiples of 1/16: exact
    return chain([*HIDDEN, ("out", as_floats), ("eta", SoftMin())], network.input_shape)


@pytest.mark.parametrize("composite", ["lrp-0", "epsilon", "excitation-backprop"])
def test_it_is_the_chapters_two_layers_merged(composite):
    e = lrpref.explain(NET, X, CLASSES, composite, head="log-odds", dtype="ball")
    for sample, c in enumerate(CLASSES):
        rules = {"hidden": e.rules["hidden"], "out": Zero()}
        other = lrpref.explain(explicit(NET, c), X[[sample]], 0, rules=rules, dtype="ball")
        with flint.ctx.workprec(256):
            assert agree(e.relevance[[sample]], other.relevance)
            assert agree(e.ledger["out"].bias[[sample]], other.ledger["out"].bias)


def test_a_score_of_zero_and_equal_scores_by_hand():
    # y = (4, 0, 4): z = (4, 0), so that the second ratio is handed nothing, and the score of 0 its part
    net = chain([("out", Dense(np.array([[2.0, 2.0], [1.0, -1.0], [4.0, 0.0]])))], (2,))
    e = lrpref.explain(net, np.array([[1.0, 1.0]]), 0, "lrp-0", head="log-odds")
    p = math.exp(-4) / (1 + math.exp(-4))
    assert e.relevance[0] == pytest.approx([p * (2 - 1), p * (2 + 1)], rel=1e-14)
    assert e.at("out")[0] == pytest.approx([0, 4 * p, 0], rel=1e-14)


@pytest.mark.parametrize(("net", "x"), [(NET, X[:3]), (AVERAGED, IMAGES)], ids=["dense", "averaged"])
def test_under_lrp_0_it_is_gradient_times_input(net, x):
    chosen = np.array([2, 0, 1])
    e = lrpref.explain(net, x, chosen, "lrp-0", head="log-odds")
    gradients = np.stack([net.gradient(x, c) for c in range(e.scores.shape[1])])
    for n, c in enumerate(chosen):
        weights = np.exp(e.scores[n])
        weights[c] = 0
        slopes = -weights / weights.sum()  # d eta / d y_c' = -p_c'
        slopes[c] = 1
        wanted = np.tensordot(slopes, gradients[:, n], axes=1) * x[n]
        # sums of a few dozen products of numbers of size 1 to 100
        assert abs(e.relevance[n] - wanted).max() <= 1e-12 * abs(wanted).max()


def test_a_top_that_is_not_dense_has_the_ratios_as_a_layer_of_their_own():
    e = lrpref.explain(AVERAGED, IMAGES, 1, "lrp-0", head="log-odds", dtype="ball")
    first, second, third = list(e.ledger)[:3]
    assert [first.node, second.node, third.node] == ["log-odds", "log-ratios", "flat"]
    assert (list(first.handed), list(second.handed)) == (["log-ratios"], ["flat"])
    assert agree(e.ledger.residual, balls(np.zeros(3)))
    assert agree(second.residual, balls(np.zeros(3)))


def test_two_classes():
    weight, bias, x = dyadic(2, 4), dyadic(2), dyadic(3, 4)
    e = lrpref.explain(chain([("out", Dense(weight, bias))], (4,)), x, 1, "lrp-0", head="log-odds")
    y = x @ weight.T + bias
    assert (e.ledger.explained == y[:, 1] - y[:, 0]).all()  # p = 1: log(P / (1 - P)) is the ratio itself
    assert (e.ledger.account("pooling") == 0).all()
    assert (e.relevance == x * (weight[1] - weight[0])).all()
    assert (e.ledger["out"].bias == bias[1] - bias[0]).all()


def test_a_batch_is_one_sample_after_the_other():
    plan = Plan(NET, "epsilon", head="log-odds")
    together = lrpref.explain(plan, X, CLASSES)
    for n in range(len(X)):
        alone = lrpref.explain(plan, X[[n]], int(CLASSES[n]))
        # the documented bound across batches: BLAS may add in another order
        assert abs(together.relevance[n] - alone.relevance[0]).max() <= 1e-12 * abs(alone.relevance).max()
        pooling = alone.ledger.account("pooling")
        assert together.ledger.account("pooling")[n] == pytest.approx(pooling[0], rel=1e-12)
    highest = lrpref.explain(plan, X)
    assert (highest.target == together.scores.argmax(axis=1)).all()


@pytest.mark.parametrize(("backend", "dtype", "bound"), [
    ("loops", "float64", 1e-12), ("cpu", "float64", 1e-12),
    ("cpu", "float32", 1e-4), ("numpy", "longdouble", 1e-12),
])  # fmt: skip
def test_backends_and_dtypes_agree(backend, dtype, bound):
    # rounding over 15 layers, magnified by quotients near z = 0: as the other tests of backends have it
    net = data.embedded()
    x = net.preprocess(data.image(4))
    wanted = lrpref.explain(net, x, head="log-odds").relevance
    found = lrpref.explain(net, x, head="log-odds", backend=backend, dtype=dtype).relevance
    assert abs(found - wanted).max() <= bound * abs(wanted).max()


def test_a_softmax_on_top_is_dropped_and_that_is_said():
    with_softmax = chain([*HIDDEN, ("out", TOP), ("softmax", Softmax())], (4,))
    e = lrpref.explain(with_softmax, X, CLASSES, "lrp-0", head="log-odds")
    assert (e.relevance == lrpref.explain(NET, X, CLASSES, "lrp-0", head="log-odds").relevance).all()
    assert "the final softmax 'softmax' is dropped: the log-odds are explained" in e.warnings


# The pooling layer alone.


def test_stiffness_and_scale_of_a_soft_minimum_in_balls():
    h = np.array([[1.0, 2.5, -0.5], [3.0, 3.0, 7.0]])
    with flint.ctx.workprec(128):
        layer = exact.get("ball").cast(SoftMin(beta=2.0))
        f = layer.forward(REFERENCE, balls(h))
        e = np.array([[(-2 * v).exp() for v in row] for row in balls(h)])
        assert agree(f, np.array([[-s.log() / 2] for s in e.sum(axis=1)]))
        step = lrpref.relprop(layer, "pass", balls(h), 3 * f)
        p = e / e.sum(axis=1, keepdims=True)
        assert agree(step.relevance, 3 * p * balls(h))
        entropy = np.array([-(row * [v.log() for v in row]).sum() for row in p])
        assert agree(step.ledger.pooling, -3 * entropy / 2)
        assert agree(step.ledger.residual, balls(np.zeros(2)))


@pytest.mark.parametrize(("options", "said"), [
    ({"beta": 0.0}, "beta is 0.0"), ({"beta": math.nan}, "beta is nan"),
    ({"beta": math.inf}, "beta is inf: a finite number > 0 is wanted"),
    ({"reference": "there"}, "'origin' or 'root'"), ({"hard": True}, "wants the reference 'root'"),
])  # fmt: skip
def test_a_bad_soft_minimum(options, said):
    with pytest.raises(BadNetwork, match=said):
        SoftMin(**options)


# What is refused.

EVEN = chain([("out", Dense(np.array([[1.0], [1.0]])))], (1,))
SINGLE = chain([("out", Dense(np.ones((1, 4))))], (4,))
MAP = chain([("conv", Conv2d(np.ones((2, 2, 1, 1))))], (2, 3, 3))


@pytest.mark.parametrize(("net", "options", "error", "said"), [
    (NET, {"head": "odds"}, BadInput, "there are score, log-odds"),
    (NET, {"head": 3}, BadInput, "unknown head 3"),
    (EVEN, {}, BadInput, "the soft minimum of sample 0 is 0"),
    (SINGLE, {}, BadInput, r"two or more class scores; the output is \(1,\)"),
    (MAP, {}, BadInput, r"the output is \(2, 3, 3\)"),
    (NET, {"target": np.ones((1, 5))}, BadInput, "its index is wanted"),
    (NET, {"target": 5}, BadInput, "0 to 4"),
    (NET, {"dtype": "exact"}, BadBackend, "use dtype='ball'"),
    (NET, {"composite": None, "rules": {"hidden": Zero(), "out": Epsilon(1)}}, BadRule, "want rule 'zero'"),
])  # fmt: skip
def test_what_cannot_be_explained_is_one_line(net, options, error, said):
    given = {"composite": "lrp-0", "head": "log-odds", **options}
    with pytest.raises(error, match=said) as caught:
        lrpref.explain(net, np.ones((1, *net.input_shape)), **given)
    assert "\n" not in str(caught.value)


# The record.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_the_record_round_trip(folder):
    result = run("explain", "--input", "5", "--target", "Coat", "--head", "log-odds", "--out", "o")
    assert result.exit_code == 0, result.output
    assert "for the log-odds of 'Coat'" in result.output
    audit = json.loads((folder / "o" / "audit.json").read_text(encoding="utf-8"))
    assert audit["explained"]["quantity"] == "log-odds of the class, log(P / (1 - P))"
    assert audit["ledger"][0]["node"] == "log-odds"
    assert audit["totals"]["pooling"] == audit["ledger"][0]["pooling"]
    assert "bit-identical" in run("verify", "o").output
    # a forger who calls it the score, and mends the digest, is caught by the recomputation
    audit["explained"]["quantity"] = heads.HEADS["score"]
    audit["digests"]["explained"] = record.sha256(record.canonical_json(audit["explained"]))
    (folder / "o" / "audit.json").write_text(json.dumps(audit), encoding="utf-8")
    forged = run("verify", "o")
    assert forged.exit_code == 1
    assert "the record does not stand: recomputed relevance, recomputed books" in forged.output


def test_a_bad_head_is_one_line(folder):
    result = run("explain", "--head", "probability")
    assert result.exit_code == 2
    assert result.stderr == "lrpref: unknown head 'probability': there are score, log-odds\n"
