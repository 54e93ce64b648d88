"""What `explain` refuses, what it notes, and how exact it is."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import lrpref
from lrpref import exact
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRule
from lrpref.layers import Clip, Conv2d, Dense, Flatten, ReLU, Sigmoid, Softmax
from lrpref.network import chain
from lrpref.rules import Epsilon, Gamma, Zero

draw = np.random.default_rng(1)
TINY = chain(
    [("fc", Dense(draw.normal(size=(4, 3)), draw.normal(size=4))), ("relu", ReLU()),
     ("out", Dense(draw.normal(size=(2, 4)), draw.normal(size=2)))], (3,),
)  # fmt: skip
X = draw.normal(size=(2, 3))


def test_rules_node_by_node():
    e = lrpref.explain(TINY, X, 0, rules={"fc": Epsilon(0.1), "out": Zero(), "relu": Gamma(1)})
    assert [row.rule for row in e.ledger] == ["zero", "pass", "epsilon(0.1)"]
    assert str(e.rules["relu"]) == "pass"
    for rules, said in [
        ({"fc": Zero()}, "missing for out"),
        ({"fc": Zero(), "out": Zero(), "oat": Zero()}, "rules: there is no node 'oat'; did you mean out"),
        ({"fc": Zero(), "out": "zero"}, "'out' is 'zero'"),
    ]:
        with pytest.raises(BadRule, match=said):
            lrpref.explain(TINY, X, 0, rules=rules)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"x": X[:, :2]}, BadInput),
        ({"x": X * np.nan}, BadInput),
        ({"x": X[:0]}, BadInput),
        ({"x": [["a", "b", "c"]]}, BadInput),
        ({"x": X * 1e300, "dtype": "float32"}, BadInput),
        ({"target": 2}, BadInput),
        ({"target": -1}, BadInput),
        ({"target": 0.5}, BadInput),
        ({"target": [0, 1, 0]}, BadInput),
        ({"target": "best"}, BadInput),
        ({"target": np.full((2, 2), np.inf)}, BadInput),
        ({"composite": "best"}, BadRule),
        ({"backend": "best"}, BadBackend),
        ({"dtype": "best"}, BadBackend),
        ({"dtype": "exact", "backend": "loops"}, BadBackend),
    ],
)
def test_bad_input(options, error):
    with pytest.raises(error) as caught:
        lrpref.explain(TINY, **{"x": X, "composite": "lrp-0", **options})
    assert "\n" not in str(caught.value)


def test_targets():
    scores = TINY.forward(X)
    both = lrpref.explain(TINY, X, [0, 1], "lrp-0")
    assert both.ledger.explained.tolist() == [scores[0, 0], scores[1, 1]]
    given = lrpref.explain(TINY, X, np.array([[1, 0], [0, 2]]), "lrp-0")
    assert given.ledger.explained.tolist() == [1, 2]
    assert given.target is None


def test_a_ball_is_as_sharp_as_its_precision():
    """Sums, products and one division per neuron at >= 128 bits: radii of 2**-100 leave 28 bits to spare."""
    e = lrpref.explain(TINY, X, 0, "epsilon-plus", dtype="ball")
    assert exact.radius(np.array([v - v.mid() for v in e.relevance.flat])).max() < 2.0**-100
    assert all(r.contains(0) and r.rad() < 2.0**-100 for r in e.ledger.residual)


def test_notes():
    layers = {"c": Conv2d(np.ones((1, 1, 1, 1))), "g": Sigmoid(), "k": Clip(1.0, 2.0), "f": Flatten(),
              "o": Dense(-np.ones((1, 4))), "s": Softmax()}  # fmt: skip
    composite = lrpref.composites.get("chapter", first="z-box(0,1)")
    x = np.full((1, 1, 2, 2), 7.0)
    notes = lrpref.explain(chain(layers.items(), (1, 2, 2)), x, composite=composite).warnings
    assert [n for n in notes if "softmax 's' is dropped" in n]
    assert [n for n in notes if "g(0) is not 0 at g, k" in n]
    assert [n for n in notes if "outside the rule's bounds" in n]
    assert [n for n in notes if "negative" in n]


def test_softmax_alone():
    with pytest.raises(BadNetwork, match="softmax"):
        lrpref.explain(chain([("s", Softmax())], (3,)), X)


def test_the_demo_can_fail(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    demo = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "demo.py"))
    demo["main"].__globals__["RUNS"] = (("nonsense", ["--model", "nonsense", "--out", "o"]),)
    with pytest.raises(SystemExit) as caught:
        demo["main"]()
    assert caught.value.code == 2
