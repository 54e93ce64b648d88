"""K-means and one-class SVMs as networks: they compute what scikit-learn's do, and their books close."""

import warnings
from fractions import Fraction

import flint
import numpy as np
import pytest
from emulator import EmulatedDevice, requirement
from sklearn import cluster, datasets, svm
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import lrpref
from lrpref import Plan, beyond, composites, exact
from lrpref.cli import app
from lrpref.errors import BadBackend, BadInput, BadNetwork
from lrpref.kernels.cupy_cuda import Table
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import Layer, SoftMin, SquaredDifferences, Total, WeightedDifferences
from lrpref.network import chain
from lrpref.trace import trace

CLUSTERS = {"digits": 10, "iris": 3, "diabetes": 3, "linnerud": 2}
NAMES = tuple(CLUSTERS)
DATA = {name: getattr(datasets, f"load_{name}")().data for name in NAMES}  # as they come

FITTED_KMEANS = {
    name: cluster.KMeans(CLUSTERS[name], n_init=1, random_state=1).fit(DATA[name]) for name in NAMES
}
FITTED_SVMS = {name: svm.OneClassSVM(nu=0.2).fit(DATA[name]) for name in NAMES}


def agree(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether balls with radii below 1e-20 overlap all along: they hold the same numbers."""
    assert max(float(v.rad()) for v in (*x.flat, *y.flat)) < 1e-20
    return all(v.overlaps(w) for v, w in zip(x.flat, y.flat, strict=True))


# k-means


@pytest.mark.parametrize("name", NAMES)
def test_the_margin_is_scikit_learns(name):
    fitted, x = FITTED_KMEANS[name], DATA[name]
    squared = fitted.transform(x) ** 2
    for c in range(CLUSTERS[name]):
        net = beyond.kmeans(fitted, c, x)
        margin = net.forward(x)[:, 0]
        # squared distances are at most 62,137 (linnerud), of which a double holds 7e-12, and a root is taken
        # and squared
        assert abs(margin - (np.delete(squared, c, axis=1).min(axis=1) - squared[:, c])).max() <= 1e-10
        assert ((margin > 0) == (fitted.predict(x) == c)).all()


def test_a_margin_of_large_distances_is_right_to_their_rounding():
    """Wine's last column is in the hundreds: no double tells squared distances of 1.3e6 apart to 1e-10."""
    x = datasets.load_wine().data
    fitted = cluster.KMeans(3, n_init=1, random_state=1).fit(x)
    squared = fitted.transform(x) ** 2
    assert 1e6 < squared.max() < 2e6
    for c in range(3):
        wanted = np.delete(squared, c, axis=1).min(axis=1) - squared[:, c]
        off = abs(beyond.kmeans(fitted, c, x).forward(x)[:, 0] - wanted)
        # of both distances the rounding, of scikit-learn's root and of its square: 10 units of 1.1e-16
        assert (off <= 1.1e-15 * 2 * squared.max(axis=1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_margin_is_handed_to_the_inputs_whole(name):
    fitted, x = FITTED_KMEANS[name], DATA[name][:40]
    net = beyond.kmeans(fitted, 1, DATA[name])
    e = lrpref.explain(net, x)
    size = abs(e.relevance).sum(axis=1)
    assert (abs(e.relevance.sum(axis=1) - net.forward(x)[:, 0]) <= 1e-13 * size).all()  # rounding of sums
    assert (abs(e.ledger.residual) <= 1e-13 * size).all()
    assert [(row.node, row.rule) for row in e.ledger] == [
        ("margin", "min-take-most(root)"), ("discriminants", "zero(bias=ignore)"), ("contributions", "pass"),
    ]  # fmt: skip


def test_relevance_of_a_margin_is_the_papers_formula():
    fitted, data = FITTED_KMEANS["digits"], DATA["digits"]
    c, x = 3, data[7]
    mu = fitted.cluster_centers_
    members = (fitted.transform(data[fitted.labels_ == c])) ** 2
    beta = 1 / (np.delete(members, c, axis=1).min(axis=1) - members[:, c]).mean()
    h = {k: ((x - mu[k]) ** 2).sum() - ((x - mu[c]) ** 2).sum() for k in range(10) if k != c}
    f = min(h.values())
    total = sum(np.exp(-beta * (v - f)) for v in h.values())
    wanted = np.zeros(64)
    for k, v in h.items():
        contributions = 2 * (mu[c] - mu[k]) * (x - (mu[c] + mu[k]) / 2)
        wanted += contributions / v * f * np.exp(-beta * (v - f)) / total
    net = beyond.kmeans(fitted, c, data)
    found = lrpref.explain(net, x[None]).relevance[0]
    # h, of some hundreds, is here a difference of squares of some thousands
    assert abs(found - wanted).max() <= 1e-12 * abs(wanted).max()
    assert net.node("margin").layer.beta == pytest.approx(beta, rel=1e-12)


def test_k_means_closes_its_books_in_balls():
    x = DATA["iris"][:5]
    net = beyond.kmeans(FITTED_KMEANS["iris"], 0, DATA["iris"])
    e = lrpref.explain(net, x, dtype="ball")
    with flint.ctx.workprec(128):
        assert agree(e.relevance.sum(axis=1), e.scores[:, 0])
        assert agree(e.ledger.residual, exact.get("ball").array(np.zeros(5)))
    margin = net.forward(x)[:, 0]
    assert exact.as_float(e.scores)[:, 0] == pytest.approx(margin, rel=1e-13)


def test_on_a_boundary_relevance_is_dropped_and_booked():
    # centres 0, 2 and 1 on a line; at x = 1 the first discriminant is 0, the second -1
    own, others = np.zeros(1), np.array([[2.0], [1.0]])
    contributions = WeightedDifferences(2 * (own - others), (own + others) / 2)
    minimum = SoftMin(1.0, hard=True, reference="root")
    net = chain([("q", contributions), ("h", Total()), ("f", minimum)], (1,))
    e = lrpref.explain(net, np.array([[1.0]]))
    p = 1 / (1 + np.exp(1))
    assert e.scores[0, 0] == -1
    assert e.ledger["h"].dropped[0] == pytest.approx(-p, rel=1e-15)
    assert e.relevance[0, 0] == pytest.approx(-(1 - p), rel=1e-15)


# One-class SVM


@pytest.mark.parametrize("name", NAMES)
def test_the_outlierness_is_scikit_learns(name):
    fitted, x = FITTED_SVMS[name], DATA[name]
    net = beyond.one_class_svm(fitted)
    samples = np.concatenate([x[:200], 1.5 * x[:50]])
    scores, o = fitted.score_samples(samples), net.forward(samples)[:, 0]
    # scikit-learn takes the score apart into decision and offset and adds them up again
    rounding = 2.0**-52 * abs(fitted.offset_[0]) / scores
    assert (abs(o + np.log(scores)) <= 1e-12 + rounding).all()
    decision = np.exp(-o) - net.provenance["offset"]
    assert abs(decision - fitted.decision_function(samples)).max() <= 1e-10


def test_the_outlierness_holds_where_the_score_underflows():
    fitted, x = FITTED_SVMS["iris"], 60 * DATA["iris"][:5]
    assert (fitted.score_samples(x) == 0).any()
    found = beyond.one_class_svm(fitted).forward(x)[:, 0]
    with flint.ctx.workprec(256):
        for sample, o in zip(x, found, strict=True):
            total = flint.arb(0)
            for alpha, u in zip(fitted.dual_coef_[0], fitted.support_vectors_, strict=True):
                square = sum((flint.arb(a) - flint.arb(b)) ** 2 for a, b in zip(sample, u, strict=True))
                total += flint.arb(alpha) * (-flint.arb(fitted._gamma) * square).exp()
            assert o == pytest.approx(float(-total.log()), rel=1e-14)  # a sum of four squares, rounded


@pytest.mark.parametrize("name", NAMES)
def test_the_outlierness_is_handed_to_the_inputs_whole(name):
    fitted = FITTED_SVMS[name]
    x = DATA[name][:40] + 0.01  # no support vector
    e = lrpref.explain(beyond.one_class_svm(fitted), x)
    size = abs(e.relevance).sum(axis=1)
    assert (abs(e.relevance.sum(axis=1) - e.scores[:, 0]) <= 1e-13 * size).all()
    assert (abs(e.ledger.residual) <= 1e-13 * size).all()


def test_relevance_of_outlierness_is_the_formula():
    fitted = FITTED_SVMS["diabetes"]
    x = DATA["diabetes"][3] * 2
    square = ((x - fitted.support_vectors_) ** 2).sum(axis=1)
    terms = fitted.dual_coef_[0] * np.exp(-fitted._gamma * square)
    wanted = np.zeros(10)
    for u, term, total in zip(fitted.support_vectors_, terms, square, strict=True):
        wanted += (x - u) ** 2 / total * term / terms.sum() * -np.log(terms.sum())
    found = lrpref.explain(beyond.one_class_svm(fitted), x[None]).relevance[0]
    assert abs(found - wanted).max() <= 1e-13 * abs(wanted).max()  # sums of a few dozen terms of one sign


def test_at_a_support_vector_its_share_is_dropped_and_booked():
    fitted = FITTED_SVMS["iris"]
    u = fitted.support_vectors_[4]
    e = lrpref.explain(beyond.one_class_svm(fitted), u[None], dtype="ball")
    share = e.at("distances")[0, 4]
    with flint.ctx.workprec(128):
        assert agree(e.ledger["distances"].dropped, np.array([share]))
        assert agree(e.ledger.residual, exact.get("ball").array(np.zeros(1)))


def test_relevance_holds_near_a_support_vector():
    # x^2 - 2xu + u^2 would lose it here: 5e-6 of the largest relevance
    fitted = svm.OneClassSVM(nu=0.2).fit(StandardScaler().fit_transform(datasets.load_breast_cancer().data))
    net, x = beyond.one_class_svm(fitted), fitted.support_vectors_[:3] + 1e-4
    wanted = exact.as_float(lrpref.explain(net, x, dtype="ball").relevance)
    found = lrpref.explain(net, x).relevance
    # x - u is exact to 1e-16 of x, which is 1e-12 of the 1e-4 that is left; squared, twice that
    assert abs(found - wanted).max() <= 1e-11 * abs(wanted).max()


# Both, as networks.


NETWORKS = {
    "k-means": beyond.kmeans(FITTED_KMEANS["iris"], 2, DATA["iris"]),
    "one-class SVM": beyond.one_class_svm(FITTED_SVMS["iris"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_record_round_trip(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net, x = NETWORKS[name], DATA["iris"][50:53]
    net.save("net.safetensors")
    loaded = lrpref.load("net.safetensors")
    assert loaded.digest == net.digest
    assert (loaded.forward(x) == net.forward(x)).all()
    np.save("x.npy", x)

    def run(*arguments):
        return CliRunner().invoke(app, list(arguments))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run("explain", "--model", "net.safetensors", "--input", "x.npy", "--out", "o")
    assert result.exit_code == 0, result.output
    assert "bit-identical" in run("verify", "o").output


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("backend", "dtype", "bound"), [
    ("loops", "float64", 1e-13), ("cpu", "float32", 1e-5), ("numpy", "longdouble", 1e-13),
])  # fmt: skip
def test_backends_and_dtypes_agree(name, backend, dtype, bound):
    # two layers of sums over four numbers; distances that nearly cancel lose a digit or two
    x = DATA["iris"][:6]
    wanted = lrpref.explain(NETWORKS[name], x).relevance
    found = lrpref.explain(NETWORKS[name], x, backend=backend, dtype=dtype).relevance
    assert abs(found - wanted).max() <= bound * abs(wanted).max()


@pytest.mark.skipif(bool(requirement()), reason=requirement())
@pytest.mark.parametrize("name", NETWORKS)
def test_the_gpus_own_kernels_run_the_four_steps(name):
    x, device = DATA["iris"][:3], EmulatedDevice()
    found = lrpref.explain(Plan(NETWORKS[name], backend=Table(device)), x)
    wanted = lrpref.explain(NETWORKS[name], x).relevance
    assert abs(found.relevance - wanted).max() <= 1e-13 * abs(wanted).max()
    assert {"total_quotient", "total_redistribute"} <= device.launches.keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stabilizer_of_the_composite_is_booked(name):
    e = lrpref.explain(NETWORKS[name], DATA["iris"][:5] + 0.01, composite=composites.get("epsilon", eps=1))
    (sums,) = (row for row in e.ledger if row.layer == "Total")
    assert (abs(sums.stabilizer) > 0.01 * abs(e.scores[:, 0])).all()
    assert (sums.bias == 0).all()
    assert (abs(e.ledger.residual) <= 1e-13 * abs(e.relevance).sum(axis=1)).all()


@pytest.mark.parametrize(("name", "node"), [("k-means", "discriminants"), ("one-class SVM", "distances")])
def test_the_four_steps_can_be_traced(name, node):
    e = lrpref.explain(NETWORKS[name], DATA["iris"][:1] + 0.01)
    found = trace(e, node)
    assert found.check.agrees
    assert len(found.shares) == 1
    (share,) = found.shares
    contributions = e.network.node("contributions").layer.forward(REFERENCE, e.x)
    assert share.z_jk.tolist() == contributions[0, :, found.neuron[0]].tolist()
    assert found.lower == [("contributions", (j, found.neuron[0])) for j in range(4)]


@pytest.mark.parametrize("name", NETWORKS)
def test_rational_numbers_are_not_enough(name):
    with pytest.raises(BadBackend, match="use dtype='ball'"):
        lrpref.explain(NETWORKS[name], DATA["iris"][:1], dtype="exact")


@pytest.mark.parametrize("layer", [
    WeightedDifferences(np.array([[1.0, -2.0], [0.5, 3.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])),
    SquaredDifferences(np.array([[1.0, 1.0], [0.0, 2.0]]), 0.25),
])  # fmt: skip
def test_gradients_are_derivatives(layer: Layer):
    # of polynomials of degree two a central difference is the derivative, exactly, in rational numbers
    layer, x = exact.FRACTIONS.cast(layer), exact.FRACTIONS.array(np.array([[0.5, -1.0], [2.0, 3.0]]))
    g = exact.FRACTIONS.array(np.arange(1, 9).reshape(2, 2, 2))
    (gradient,) = layer.gradient(REFERENCE, [x], g)
    for n, j in np.ndindex(2, 2):
        step = exact.FRACTIONS.array(np.zeros((2, 2)))
        step[n, j] += Fraction(1, 8)
        rise = layer.forward(REFERENCE, x + step) - layer.forward(REFERENCE, x - step)
        assert gradient[n, j] == (rise * g).sum() * 4


def test_gradients_of_minima():
    h, g = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 0.0]]), np.array([[2.0], [1.0]])
    (hard,) = SoftMin(hard=True, reference="root").gradient(REFERENCE, [h], g)
    assert hard.tolist() == [[0, 2, 0], [1, 0, 0]]
    (soft,) = SoftMin(beta=2.0).gradient(REFERENCE, [h], g)
    weights = np.exp(-2 * h)
    assert soft == pytest.approx(g * weights / weights.sum(axis=1, keepdims=True), rel=1e-14)


# What is refused.


def test_a_node_that_does_not_exist_suggests_the_nearest():
    net = NETWORKS["one-class SVM"]
    e = lrpref.explain(net, DATA["iris"][:1])
    for ask in (net.node, e.at, e.canonical.node):
        with pytest.raises(BadInput, match=r"no node 'distance'; did you mean distances\? the network has"):
            ask("distance")
    with pytest.raises(BadInput, match="no node 'conv1'; the network has contributions, distances, outl"):
        net.node("conv1")


IRIS = DATA["iris"]
THREE = FITTED_KMEANS["iris"]


@pytest.mark.parametrize(("build", "said"), [
    (lambda: beyond.kmeans(cluster.KMeans(1, n_init=1).fit(IRIS), 0, IRIS), "has one cluster"),
    (lambda: beyond.kmeans(cluster.KMeans(3), 0, IRIS), "this KMeans is not fitted: call its fit first"),
    (lambda: beyond.kmeans(THREE, 3, IRIS), "cluster is 3: a whole number from 0 to 2 is wanted"),
    (lambda: beyond.kmeans(THREE, -1, IRIS), "cluster is -1"),
    (lambda: beyond.kmeans(THREE, "first", IRIS), "cluster is 'first'"),
    (lambda: beyond.kmeans(THREE, True, IRIS), "cluster is True"),
    (lambda: beyond.kmeans(THREE, 0, IRIS[:, :2]), r"data are \(150, 2\): finite numbers of shape \(N, 4\)"),
    (lambda: beyond.kmeans(THREE, 0, IRIS * np.nan), "finite numbers"),
    (lambda: beyond.kmeans(THREE, 0, "iris"), "finite numbers"),
    (lambda: beyond.kmeans(THREE, 0, IRIS[:0]), "none of the data lie in this cluster"),
    (lambda: beyond.kmeans(svm.OneClassSVM(), 0, IRIS), "a fitted sklearn.cluster.KMeans is wanted; got One"),
    (lambda: beyond.one_class_svm(svm.OneClassSVM()), "this OneClassSVM is not fitted"),
    (lambda: beyond.one_class_svm(svm.OneClassSVM(kernel="linear").fit(IRIS)), "has kernel 'linear'"),
    (lambda: beyond.one_class_svm(THREE), "a fitted sklearn.svm.OneClassSVM is wanted; got KMeans"),
    (lambda: WeightedDifferences(np.ones((2, 3)), np.ones((3, 2))), r"weight is \(2, 3\), midpoint \(3, 2\)"),
    (lambda: SquaredDifferences(np.ones(3)), r"points are \(3,\), want \(K, J\)"),
    (lambda: SquaredDifferences(np.ones((2, 3)), 0.0), "scale is 0.0"),
    (lambda: SquaredDifferences(np.ones((2, 3)), np.inf), "scale is inf: a finite number > 0 is wanted"),
    (lambda: chain([("q", SquaredDifferences(IRIS))], (3,)), r"got \(3,\), wants \(4,\)"),
    (lambda: chain([("t", Total(np.ones(2)))], (2, 3)), r"got \(2, 3\), wants contributions \(J, 2\)"),
    (lambda: Total(np.ones((1, 2))), r"offset is \(1, 2\), wants \(K,\)"),
    (lambda: chain([("t", Total())], (2,)), r"got \(2,\), wants contributions \(J, K\)"),
    (lambda: chain([("f", SoftMin())], (2, 2, 2)), r"got \(2, 2, 2\), wants a vector"),
])  # fmt: skip
def test_what_cannot_be_rewritten_is_one_line(build, said):
    with pytest.raises(BadNetwork, match=said) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_model_fitted_on_sparse_data():
    from scipy.sparse import csr_array

    with pytest.raises(BadNetwork, match="fitted on sparse data"):
        beyond.one_class_svm(svm.OneClassSVM().fit(csr_array(IRIS)))
