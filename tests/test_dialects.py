"""Other libraries' definitions: their published results on cases of a few neurons, and that the data holds.

The expected numbers are what the libraries print on these cases (float64, R = 1 at the output), as exact
fractions; none comes from lrpref.
"""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lrpref
from lrpref import data, dialects, layers, rules, verification
from lrpref.dialects import DIMENSIONS, NAMES, Dialect
from lrpref.dialects.deviations import DEVIATIONS
from lrpref.dialects.effects import LAYER_EFFECTS, NORM_RULES, RULE_EFFECTS
from lrpref.dialects.libraries import LIBRARIES
from lrpref.errors import BadRule
from lrpref.fold import fold
from lrpref.kernels.operations import Array
from lrpref.layers import Add, AvgPool2d, BatchNorm, Dense, Flatten, Layer, MaxPool2d
from lrpref.network import Network, Node, chain
from lrpref.rules import (
    AlphaBeta,
    Epsilon,
    Gamma,
    GeneralizedGamma,
    Pass,
    Rule,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    signed,
)


def row(*values: float) -> Array:
    return np.array([values], float)


def dense(w: list[float], b: float | None = None) -> Dense:
    return Dense(row(*w), None if b is None else np.array([float(b)]))


def image(*values: float) -> Array:
    return np.array(values, float).reshape(1, 1, 1, -1)


def relevance(layer: Layer, rule: Rule, x: Array, dialect: Dialect) -> list[Fraction]:
    """Of the inputs of one layer, with R = 1, in rational numbers."""
    network = chain([("layer", layer)], x.shape[1:])
    R = np.ones((1, *network.shapes["layer"]))
    made = lrpref.explain(network, x, R, rules={"layer": rule}, dialect=dialect, dtype="exact")
    return [Fraction(int(v.numerator), int(v.denominator)) for v in made.relevance.ravel()]


def own(name: str, **settings: str) -> Dialect:
    """A library's dialect, with the eps that is asked for: 0, so that the fractions are short."""
    return dialects.get(name).with_settings(**{"D2": "as-asked", **settings})


# The cases on which libraries disagree: what each gives


GAMMA = (dense([3, -2], 2), Gamma(1), row(1, 1))
SIGNED_INPUT = (dense([1, 1]), Gamma(1), row(-1, 2))
PLUS, MINUS = ((dense([3, 1], b), AlphaBeta(1, 0), row(1, -2)) for b in (0.5, -0.5))
CANCELLING = (dense([1, -1], -1), AlphaBeta(2, 1), row(1, 1))
SQUARES = (dense([1, 2], 3), WSquare(), row(1, 1))
BOX = (dense([2, -1], 1), ZBox(-1.0, 1.0), row(0.5, -0.25))
TIE, ZEROS = ((MaxPool2d((1, 2)), rules.WinnerTakeAll(), image(v, v)) for v in (1, 0))
AVERAGE = (AvgPool2d((1, 2)), Zero(), image(-1, 3))

CASES: list[tuple[str, str, tuple[Layer, Rule, Array], list[str]]] = [
    *(("D1", name, (dense([-2]), Epsilon(1.0), row(1)), ["2"]) for name in ("lxt", "tutorial")),
    *(("D1", name, (dense([-2]), Epsilon(1.0), row(1)), ["2/3"])
      for name in ("zennit", "captum", "autolrp", "innvestigate", "chapter")),
    ("D1 eps once more", "autolrp", (dense([1], 0), Epsilon(1.0), row(1)), ["1/4"]),
    *(("D3", name, (dense([3, 1], -3), Zero(), row(1, 2)), wanted) for name, wanted in (
        ("zennit", ["3/2", "1"]), ("captum", ["3/2", "1"]), ("autolrp", ["3/8", "1/4"]),
        ("innvestigate", ["3/2", "1"]), ("lxt", ["3/2", "1"]))),
    ("D4", "zennit", GAMMA, ["3/4", "-1/4"]),
    ("D4", "captum", GAMMA, ["1", "-1/3"]),
    ("D4", "autolrp", GAMMA, ["1/2", "-1/6"]),
    ("D5", "chapter", SIGNED_INPUT, ["-1", "2"]),
    ("D5", "zennit", SIGNED_INPUT, ["-1/3", "4/3"]),
    ("D5", "captum", SIGNED_INPUT, ["-1", "2"]),
    ("D5", "autolrp", SIGNED_INPUT, ["-1", "2"]),
    ("D5", "autolrp", (dense([1, 1]), GeneralizedGamma(1), row(-1, 2)), ["-1/3", "4/3"]),
    ("D5 has no other", "captum", (dense([1, 1]), GeneralizedGamma(1), row(-1, 2)), ["-1", "2"]),
    ("D5 cut-off", "autolrp", (dense([3, -2]), Gamma(0.01), row(1, 1)), ["3", "-2"]),
    *(("D6 b > 0", name, PLUS, wanted) for name, wanted in (
        ("zennit", ["6/7", "0"]), ("captum", ["2", "-4/3"]), ("autolrp", ["2/3", "0"]),
        ("innvestigate", ["6/7", "0"]))),
    *(("D6 b < 0", name, MINUS, wanted) for name, wanted in (
        ("zennit", ["1", "0"]), ("captum", ["6", "-4"]), ("autolrp", ["2/3", "0"]),
        ("innvestigate", ["6/5", "0"]))),
    ("D6 amplified", "captum", (dense([3, 1], -3.875), ZPlus(), row(1, 1)), ["24", "8"]),
    ("D6 ZPlus", "innvestigate", (dense([3, 1], 0.5), ZPlus(), row(1, 2)), ["3/5", "2/5"]),
    ("D7", "zennit", CANCELLING, ["2", "-1/2"]),
    ("D7", "autolrp", CANCELLING, ["0", "0"]),
    *(("D9 all positive", name, (dense([1, 1]), AlphaBeta(2, 1), row(1, 3)), ["1/2", "3/2"])
      for name in ("zennit", "autolrp", "innvestigate")),
    *(("D9 all negative", name, (dense([1, 1]), AlphaBeta(2, 1), row(-1, -3)), ["-1/4", "-3/4"])
      for name in ("zennit", "autolrp", "innvestigate")),
    ("D9 all negative", "captum", (dense([-1, -1]), AlphaBeta(1, 0), row(1, 3)), ["0", "0"]),
    ("D11", "zennit", SQUARES, ["1/14", "4/14"]),
    ("D11", "innvestigate", SQUARES, ["1/5", "4/5"]),
    ("D13", "zennit", BOX, ["12/17", "5/17"]),
    ("D13", "innvestigate", BOX, ["12/17", "5/17"]),
    ("D13", "autolrp", BOX, ["60/153", "25/153"]),  # 5/9 of the others'
    *(("D14 tie", name, TIE, ["1", "0"]) for name in ("zennit", "captum", "autolrp", "innvestigate")),
    *(("D14 zeros", name, ZEROS, ["1", "0"]) for name in ("zennit", "autolrp", "innvestigate")),
    ("D14 zeros", "captum", ZEROS, ["0", "0"]),
    ("D14 tie", "lrp_toolbox", TIE, ["1/2", "1/2"]),
    ("D14 LRP-0", "zennit", (MaxPool2d((1, 2)), Zero(), image(1, 3)), ["0", "1"]),
    ("D14 LRP-eps", "lxt", (MaxPool2d((1, 2)), Epsilon(1.0), image(1, 3)), ["0", "3/4"]),
    ("D14", "tutorial", (MaxPool2d((1, 2)), rules.WinnerTakeAll(), image(1, 3)), ["1/4", "3/4"]),
    *(("D15", name, AVERAGE, ["-1/2", "3/2"]) for name in ("zennit", "captum", "innvestigate", "lxt")),
    ("D15", "autolrp", AVERAGE, ["1/2", "1/2"]),
]  # fmt: skip


@pytest.mark.parametrize(("which", "library", "case", "wanted"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_what_libraries_give(
    which: str, library: str, case: tuple[Layer, Rule, Array], wanted: list[str]
) -> None:
    # of the winner's eps of 1e-9, which none can change, not more than that is left
    found, close = relevance(*case, own(library)), Fraction(2, 10**9) if library == "captum" else 0
    assert all(abs(a - Fraction(b)) <= close for a, b in zip(found, wanted, strict=True))


def test_alpha_beta_with_the_whole_bias_explodes() -> None:
    """iNNvestigate on D7: z is 0 in the alpha part, and 1e-7 is put in its place."""
    assert relevance(*CANCELLING, own("innvestigate")) == [2 / Fraction(1e-7), Fraction(-1, 2)]
    made = lrpref.explain(
        chain([("layer", CANCELLING[0])], (2,)), CANCELLING[2], row(1), rules={"layer": CANCELLING[1]},
        dialect=own("innvestigate"), dtype="exact",
    )  # fmt: skip
    assert made.ledger.residual == 0


def branches(first: float, second: float) -> tuple[Network, Array]:
    """A sum of two dense layers that pick one input each."""
    a, b = (Node(name, dense(w), ("input",)) for name, w in (("a", [1, 0]), ("b", [0, 1])))
    return Network((a, b, Node("sum", Add(), ("a", "b"))), (2,)), row(first, second)


@pytest.mark.parametrize(
    ("library", "settings", "summands", "R", "wanted"),
    [
        ("zennit", {}, (1, -3), 1, ["-1/2", "3/2"]),
        ("captum", {}, (1, -3), 1, ["-1/2", "3/2"]),
        ("lxt", {}, (1, -3), 1, ["-1/2", "3/2"]),
        ("autolrp", {}, (1, -3), 1, ["1/4", "3/4"]),
        ("autolrp", {}, (5, -3), 1, ["5/8", "3/8"]),
        ("zennit", {"D17": "duplicated"}, (1, -3), 1, ["1", "1"]),  # with a plain +
    ],
)
def test_sums(library: str, settings: dict[str, str], summands: Any, R: int, wanted: list[str]) -> None:
    network, x = branches(*summands)
    given = dict.fromkeys(("a", "b", "sum"), Zero())
    made = lrpref.explain(network, x, row(R), rules=given, dialect=own(library, **settings), dtype="exact")
    assert [str(v) for v in made.relevance.ravel()] == wanted


@pytest.mark.parametrize("library", ["zennit", "captum"])
def test_a_sum_has_no_weights_to_clamp(library: str) -> None:
    """z-plus on 1 + (-3) is LRP-0 there; the chapter's gives the positive summand all."""
    network, x = branches(1, -3)
    given = {"a": Zero(), "b": Zero(), "sum": ZPlus()}
    for name, wanted in (("chapter", [1, 0]), (library, [-0.5, 1.5])):
        made = lrpref.explain(network, x, row(1), rules=given, dialect=name)
        assert np.allclose(made.relevance, [wanted], atol=1e-8)  # Captum's eps of 1e-9 is in it


def test_an_eps_that_cannot_be_asked_for() -> None:
    """z = 1 under z-plus with eps = 1: 1/2; Captum's own eps is 1e-9 whatever is asked for."""
    case = (dense([1]), ZPlus(stabilizer=signed(1)), row(1))
    assert relevance(*case, dialects.get("zennit")) == [Fraction(1, 2)]
    (found,) = relevance(*case, dialects.get("captum"))
    assert found == 1 / (1 + Fraction(1e-9))
    network, x = branches(1, -3)  # gamma finds no weights in a sum: z is -2, not -4
    given = {"a": Zero(), "b": Zero(), "sum": Gamma(1)}
    made = lrpref.explain(network, x, row(1), rules=given, dialect="captum", dtype="exact")
    assert Fraction(str(made.relevance[0, 0])) == 1 / (-2 - Fraction(1e-9))


NORMED = chain([("dense", dense([1, 1], 1)), ("norm", BatchNorm(np.array([3.0]), np.array([-5.0])))], (2,))
"""Contributions 2 and 2, bias 1; the norm is 3 z - 5. By hand folded: 6 and 6, bias -2."""


@pytest.mark.parametrize(
    ("library", "settings", "rule", "wanted"),
    [
        ("chapter", {}, Zero(), "3/5"),
        ("zennit", {}, Zero(), "3/5"),
        ("zennit", {"D16": "passed"}, Zero(), "2/5"),
        ("autolrp", {}, Zero(), "2/5"),
        ("captum", {}, Zero(), "3/5"),
        ("captum", {}, Gamma(1), "2/3"),
        ("captum", {"D16": "folded"}, Gamma(1), "6/11"),  # the chapter's: b < 0 has no part that is favoured
        ("captum", {}, ZPlus(), "3/5"),
        ("chapter", {}, Gamma(1), "6/11"),
        ("chapter", {}, ZPlus(), "1/2"),
    ],
)
def test_batch_norms(library: str, settings: dict[str, str], rule: Rule, wanted: str) -> None:
    dialect = own(library, **settings)
    given = {"dense": rule} if dialect.folds else {"dense": rule, "norm": Zero()}
    made = lrpref.explain(NORMED, row(2, 2), row(1), rules=given, dialect=dialect, dtype="exact")
    assert [str(v) for v in made.relevance.ravel()] == [wanted] * 2


def test_norms_without_a_rule_get_the_librarys() -> None:
    made = lrpref.explain(NORMED, row(2, 2), row(1), rules={"dense": Zero()}, dialect="captum")
    assert made.rules["norm"] == Epsilon(1e-9)
    made = lrpref.explain(NORMED, row(2, 2), row(1), "lrp-0", dialect="autolrp")
    assert made.rules["norm"] == Pass()
    with pytest.raises(BadRule, match=r"LXT wants a rule for each batch norm: rules= lacks norm"):
        lrpref.explain(NORMED, row(2, 2), row(1), rules={"dense": Zero()}, dialect="lxt")
    with pytest.raises(BadRule, match=r"node 'norm': in the dialect of iNNvestigate 2.1.2, batch norms"):
        lrpref.explain(NORMED, row(2, 2), row(1), "lrp-0", dialect="innvestigate")


@pytest.mark.parametrize(
    ("library", "total"), [("captum", 5), ("innvestigate", 5), ("autolrp", 1), ("julia", 1)]
)
def test_what_is_explained_of_a_class(library: str, total: int) -> None:
    """f = (5, 3), each from one input without bias, so that all of it arrives."""
    network = chain([("dense", Dense(np.array([[5.0, 0], [0, 3.0]])))], (2,))
    made = lrpref.explain(network, row(1, 1), 0, rules={"dense": Zero()}, dialect=library, dtype="exact")
    assert made.relevance.sum() == total


def test_three_summands_are_added_two_at_a_time() -> None:
    """autoLRP on 3 + -1 + 2: (3 + -1) gets 2/4 of R by magnitude, of which 3 gets 3/4; the last gets 2/4."""
    picks = [Node(n, dense(list(map(float, w))), ("input",)) for n, w in zip("abc", np.eye(3), strict=True)]
    network = Network((*picks, Node("sum", Add(), ("a", "b", "c"))), (3,))
    given = dict.fromkeys(("a", "b", "c", "sum"), Zero())
    made = lrpref.explain(network, row(3, -1, 2), row(1), rules=given, dialect=own("autolrp"), dtype="exact")
    assert [str(v) for v in made.relevance.ravel()] == ["3/8", "1/8", "1/2"]


def test_uneven_padding_is_a_layer_of_its_own() -> None:
    """
    A window of one padding cell and two pixels: autoLRP's graph has the cell in it.

    With l = -1 and w = 1, z-box gives a pixel at 1 the part 2 and a cell at 0 the part 1: of R = 1 the pixels
    have 2/4 each without the cell, 2/5 each with it.
    """
    layer = layers.Conv2d(np.ones((1, 1, 1, 3)), padding=(0, 0, 1, 0))
    case = (layer, ZBox(-1, 3), image(1, 1))
    assert relevance(*case, own("zennit")) == [Fraction(1, 2)] * 2
    assert relevance(*case, own("autolrp")) == [Fraction(2, 5)] * 2
    assert relevance(*case, own("innvestigate")) == [Fraction(1, 2)] * 2
    layer = layers.Conv2d(np.ones((1, 1, 1, 3)), padding=(0, 0, 1, 1), stride=(1, 2))
    even = (layer, ZBox(-1, 3), image(1, 1))
    assert relevance(*even, own("autolrp")) == [Fraction(1, 2)] * 2
    assert relevance(*even, own("innvestigate")) == [Fraction(1, 2)] * 2


def test_a_value_that_a_rule_and_another_layer_read() -> None:
    """
    Captum on (x, 2 x) at x = 100, R = (1, 1): the dense layer gives back 1, and the 1 beside it becomes 100.

    It turns coefficients into relevance at the value x, for all that arrives there.
    """
    nodes = (Node("dense", dense([2]), ("input",)), Node("both", layers.Concat(), ("input", "dense")))
    network = Network(nodes, (1,))
    for library, wanted in (("chapter", "2"), ("zennit", "2"), ("captum", "101")):
        made = lrpref.explain(
            network, row(100), row(1, 1), rules={"dense": Zero()}, dialect=own(library), dtype="exact"
        )
        assert str(made.relevance[0, 0]) == wanted
        assert made.ledger.residual == 0


def test_what_captum_does_with_an_activation_beside_others_is_not_modelled() -> None:
    nodes = (Node("a", dense([1]), ("input",)), Node("relu", layers.ReLU(), ("a",)),
             Node("sum", Add(), ("a", "relu")))  # fmt: skip
    with pytest.raises(BadRule, match="node 'relu': an activation whose input others read is not"):
        lrpref.explain(Network(nodes, (1,)), row(1), row(1), "lrp-0", dialect="captum")


def test_layers_without_weights() -> None:
    """zennit's rules split weights, and an average has none: x / sum x; z-box is (x - l - h) / its sum."""
    for rule in (ZPlus(), AlphaBeta(2, 1), Gamma(1)):
        found = relevance(AvgPool2d((1, 2)), rule, image(-1, 3), own("zennit"))
        assert found == [Fraction(-1, 2), Fraction(3, 2)]
    found = relevance(AvgPool2d((1, 2)), ZBox(-1, 2), image(0.5, 2.5), own("zennit"))
    assert found == [Fraction(-1, 2), Fraction(3, 2)]  # -1/2 and 3/2 of 1


def test_activations_by_gradient() -> None:
    """At -2 a leaky ReLU has slope 1/4: of R = 1, that much goes on. At 7, ReLU6 has none."""
    saturated = chain([("relu6", layers.ReLU6()), ("dense", dense([1]))], (1,))
    for dialect, wanted in ((own("zennit"), "1"), (own("zennit", D19="gradient"), "0")):
        made = lrpref.explain(saturated, row(7), row(1), "lrp-0", dialect=dialect, dtype="exact")
        assert str(made.relevance[0, 0]) == wanted
    network = chain([("leaky", layers.LeakyReLU(0.25)), ("dense", dense([1]))], (1,))
    for library, wanted in (("innvestigate", "1/4"), ("zennit", "1")):
        given = {"dense": Zero()}
        made = lrpref.explain(network, row(-2), row(1), rules=given, dialect=library, dtype="exact")
        assert str(made.relevance[0, 0]) == wanted
        assert made.ledger.residual == 0


# What is refused


@pytest.mark.parametrize(
    ("library", "rule", "message"),
    [
        ("captum", WSquare(), "in the dialect of Captum 0.9.0, there is no rule 'w2'"),
        ("captum", AlphaBeta(2, 1), "there is no rule 'alpha-beta(2,1)' but alpha-beta(1,0)"),
        ("captum", Zero(bias="ignore"), "the rule 'zero' has no bias treatment 'ignore'"),
        ("captum", Epsilon(rules.relative(0.25)), "the rule 'epsilon' has no relative stabilizer"),
        ("zennit", Zero(bias="redistribute"), "the rule 'zero' has no bias treatment 'redistribute'"),
        ("lxt", ZPlus(), "in the dialect of LXT 2.1, there is no rule 'z-plus'"),
    ],
)
def test_rules_that_a_library_lacks(library: str, rule: Rule, message: str) -> None:
    network = chain([("layer", dense([1, 2], 1))], (2,))
    with pytest.raises(BadRule) as caught:
        lrpref.explain(network, row(1, 1), row(1), rules={"layer": rule}, dialect=library)
    assert str(caught.value).startswith("node 'layer': ")
    assert message in str(caught.value)


def test_activations_that_a_library_refuses() -> None:
    network = chain([("act", layers.Sigmoid()), ("layer", dense([1]))], (1,))
    with pytest.raises(BadRule, match=r"'act': in the dialect of Captum 0\.9\.0, modules of kind Sigmoid"):
        lrpref.explain(network, row(1), row(1), "lrp-0", dialect="captum")


def test_unknown_names_are_refused_in_one_line() -> None:
    with pytest.raises(BadRule, match="unknown dialect 'klingon': there are chapter, zennit, "):
        dialects.get("klingon")
    with pytest.raises(BadRule, match="unknown dialect 5"):
        lrpref.explain(NORMED, row(2, 2), dialect=5)  # type: ignore[arg-type]
    with pytest.raises(BadRule, match="unknown dimension 'D23': there are D1 to D22"):
        dialects.CHAPTER.with_settings(D23="x")
    with pytest.raises(BadRule, match="dimension D11 has no option 'x': there are no-bias, bias-squared"):
        dialects.CHAPTER.with_settings(D11="x")
    with pytest.raises(BadRule, match=r"dimension D11 has no option \[\]: there are no-bias, bias-squared"):
        dialects.CHAPTER.with_settings(D11=[])  # type: ignore[arg-type]


def test_a_layer_used_twice() -> None:
    """2 (2 x + 1) + 1 at x = 3: 14/15 of 6/7; hooks that remember the last input give 14/15 twice, .871."""
    shared = dense([2], 1)
    network = chain([("first", shared), ("second", shared)], (1,))
    for library, wanted in (("chapter", "4/5"), ("autolrp", "4/5"), ("zennit", "196/225")):
        made = lrpref.explain(network, row(3), row(1), "lrp-0", dialect=library, dtype="exact")
        assert str(made.relevance[0, 0]) == wanted
    assert f"{196 / 225:.3f}" == "0.871"
    with pytest.raises(BadRule, match=r"Captum 0\.9\.0 refuses a layer that is used twice: first and second"):
        lrpref.explain(network, row(3), row(1), "lrp-0", dialect="captum")
    apart = chain([("first", dense([2], 1)), ("second", dense([2], 1))], (1,))
    made = lrpref.explain(apart, row(3), row(1), "lrp-0", dialect="zennit", dtype="exact")
    assert str(made.relevance[0, 0]) == "4/5"


def test_what_the_last_use_saw_knows_no_signs() -> None:
    """The first use's own input is >= 0, the last one's is not: nothing may be left out as 0."""
    shared = dense([1], 0.5)
    nodes = [("relu", layers.ReLU()), ("first", shared), ("minus", dense([-2])), ("last", shared)]
    network = chain(nodes, (1,))
    given = dict.fromkeys(("first", "minus", "last"), ZPlus())
    made = lrpref.explain(network, row(1), row(1), rules=given, dialect=own("zennit"), dtype="exact")
    # first: 1.5; minus: -3; last: -2.5, of which nothing is positive but the bias
    assert made.relevance.sum() == 0
    given = dict.fromkeys(("first", "minus", "last"), Zero())
    made = lrpref.explain(network, row(1), row(1), rules=given, dialect=own("zennit"), dtype="exact")
    assert str(made.relevance[0, 0]) == "36/25"  # (-3 / -2.5) twice


# The data


def test_settings_and_effects_are_options_of_dimensions() -> None:
    assert list(DIMENSIONS) == [f"D{i}" for i in range(1, 23)]
    settings = [item for about in LIBRARIES.values() for item in about.settings.items()]
    for dimension, option in [*RULE_EFFECTS, *LAYER_EFFECTS, *settings, *(("D16", o) for o in NORM_RULES)]:
        assert option in DIMENSIONS[dimension].options
    for dimension, option in (*RULE_EFFECTS, *LAYER_EFFECTS):
        assert option != DIMENSIONS[dimension].chapter
    assert all(about.evidence in ("run", "read") for about in LIBRARIES.values())
    offered = {name for about in LIBRARIES.values() for name in about.offers or ()}
    assert offered <= set(rules.RULES)
    assert not set(DEVIATIONS) & set(rules.RULES)


def test_one_dimension_at_a_time() -> None:
    zennit = dialects.get("zennit")
    assert dialects.CHAPTER.differs() == []
    assert zennit.with_settings(**{d.id: d.chapter for d in zennit.differs()}).differs() == []
    assert [d.id for d in dialects.CHAPTER.with_settings(D11="bias-squared").differs()] == ["D11"]
    only = dialects.CHAPTER.with_settings(D11="bias-squared")
    assert relevance(*SQUARES, only) == [Fraction(1, 14), Fraction(4, 14)]
    assert relevance(*SIGNED_INPUT, only) == [-1, 2]


EVERY_RULE = [
    Zero(), Epsilon(0.25), Gamma(1), Gamma(0.001), GeneralizedGamma(1), AlphaBeta(2, 1), AlphaBeta(1, 0),
    ZPlus(), rules.Flat(), WSquare(), ZBox(-1, 1), Pass(), rules.WinnerTakeAll(),
    rules.WinnerTakeAll("split"), Zero(bias="ignore"), ZPlus(stabilizer=signed(0.5)), Gamma(1, bias="ignore"),
]  # fmt: skip

EVERY_LAYER = [
    dense([1], 1), Add(), AvgPool2d(1), MaxPool2d(1), BatchNorm(np.ones(1), np.ones(1)), Flatten(),
    layers.ReLU(), layers.ELU(),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dialect_made_it_leaves_alone(name: str) -> None:
    """So that a result's rules give the result again; each rule on each layer, where it is not refused."""
    dialect, tried = dialects.get(name), 0
    for rule in EVERY_RULE:
        for layer in EVERY_LAYER:
            try:
                once = dialect._layer(layer)
                made = dialect._rule(once, rule)
            except BadRule:
                continue
            tried += 1
            assert dialect._layer(once) is once
            assert dialect._rule(once, made) == made
            assert dialects.read_rule(str(made)) == made
    assert tried > len(EVERY_LAYER)


def test_the_chapters_dialect_changes_nothing() -> None:
    network, given = NORMED, {"dense": Zero(), "norm": Zero()}
    same, unchanged = dialects.CHAPTER.translate(network, given)
    assert same is network
    assert unchanged == given
    assert dialects.get(None) is dialects.CHAPTER


def random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


SMALL = chain(
    [
        ("conv", layers.Conv2d(random(0, 2, 1, 2, 2), np.array([0.5, -0.5]))),
        ("norm", BatchNorm(np.array([2.0, 0.5]), np.array([0.25, -0.25]))),
        ("relu", layers.ReLU()),
        ("pool", MaxPool2d(2, 1)),
        ("flatten", Flatten()),
        ("fc", Dense(random(1, 3, 8), np.array([0.5, 0, -0.5]))),
    ],
    (1, 4, 4),
)


@pytest.mark.parametrize("name", ["zennit", "captum", "autolrp", "julia", "tutorial"])
def test_a_record_under_a_dialect_is_verified(name: str, tmp_path: Path) -> None:
    """The recorded rules are the library's; with the recorded dialect they give the recorded result."""
    x = random(2, 1, 1, 4, 4)
    made = lrpref.explain(SMALL, x, 0, "lrp-0", dialect=name)
    made.save(tmp_path / "record")
    findings = verification.verify(tmp_path / "record", lambda entry: SMALL)
    assert [f for f in findings if not f.ok] == []
    # one that names another dialect is caught
    other = replace(made, dialect=dialects.get("captum" if name != "captum" else "autolrp"))
    other.save(tmp_path / "other")
    findings = verification.verify(tmp_path / "other", lambda entry: SMALL)
    assert [f.what for f in findings if not f.ok] != []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["loops", "cpu"])
def test_backends_agree_under_a_dialect(name: str, backend: str) -> None:
    network = fold(SMALL) if name in ("innvestigate", "lxt") else SMALL
    x = random(2, 2, 1, 4, 4)
    expected = lrpref.explain(network, x, 0, "lrp-0", dialect=name)
    found = lrpref.explain(network, x, 0, "lrp-0", dialect=name, backend=backend)
    scale = abs(expected.relevance).max()
    assert abs(found.relevance - expected.relevance).max() <= 1e-12 * scale  # two orders of short sums


def test_a_result_says_whose_dialect_it_is_in() -> None:
    """On screen and in print; and a norm that a dialect leaves in its place is nothing to warn of."""
    net = data.embedded()
    x = net.preprocess(data.image(9))
    theirs = lrpref.explain(net, x, composite="epsilon-plus", dialect="autolrp")
    assert repr(theirs).endswith("epsilon-plus in the dialect of autolrp, float64>")
    assert not [note for note in theirs.warnings if "batch norm" in note]
    assert "dialect" not in repr(lrpref.explain(net, x, composite="epsilon-plus"))
