"""The engine and the rules: how they are written, read, refused, and booked in floating point."""

from __future__ import annotations

import doctest
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from emulator import EmulatedDevice, requirement
from strategies import BACKENDS, EVERY_ID, EVERY_RULE_AND_LAYER, LAYERS, RULES, lower, variants

from lrpref import Network, exact, relprop, rules
from lrpref.engine import propagate
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRule, LrprefError
from lrpref.kernels.cupy_cuda import Table
from lrpref.kernels.operations import Array, Part
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import GELU, Add, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sigmoid, Softmax
from lrpref.network import INPUT, Node, chain
from lrpref.plan import prepare
from lrpref.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Pass,
    Rule,
    Share,
    WinnerTakeAll,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    parse,
    relative,
    signed,
    unsigned,
)


def test_the_documented_rule_of_ones_own_works() -> None:
    done = doctest.testmod(rules)
    assert done.attempted >= 8
    assert done.failed == 0


@dataclass(frozen=True)
class Magnitude(Rule):
    """The documented example, with a bias and on a convolution too."""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(abs(a), abs(w))], abs(b))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rule_of_ones_own_has_options_books_and_backends(backend: str) -> None:
    layer = Conv2d(np.array([[[[3.0, -1.0]]]]), np.array([-4.0]))
    a, R = np.array([[[[1.0, -1.0]]]]), np.array([[[[8.0]]]])
    done = relprop(layer, Magnitude(), a, R, backend=backend)  # 3 : 1 : 4 of 8
    assert done.relevance.ravel().tolist() == [3, 1]
    assert (done.ledger.bias, done.ledger.residual) == (4, 0)
    done = relprop(layer, Magnitude(bias="ignore", stabilizer=signed(4)), a, R, backend=backend)
    assert done.relevance.ravel().tolist() == [3, 1]
    assert (done.ledger.stabilizer, done.ledger.bias) == (4, 0)
    assert done.ledger.rule == "Magnitude(stabilizer=signed(4),bias=ignore)"


# Rules as text.

NAMES = {
    "zero": Zero(),
    "epsilon": Epsilon(1e-6),
    "epsilon(1e-6)": Epsilon(1e-6),
    "epsilon(0.25std)": Epsilon(relative(0.25)),
    "epsilon(unsigned(0.1))": Epsilon(unsigned(0.1)),
    "gamma(0.25)": Gamma(0.25),
    "generalized-gamma(0.25)": GeneralizedGamma(0.25),
    "alpha-beta(2,1)": AlphaBeta(2, 1),
    "z-plus": ZPlus(),
    "flat": Flat(),
    "w2": WSquare(),
    "z-box(-1,1)": ZBox(-1, 1),
    "z-box([-1,-2],[1,2])": ZBox([-1, -2], [1, 2]),
    "pass": Pass(),
    "winner-take-all": WinnerTakeAll(),
    "winner-take-all(split)": WinnerTakeAll("split"),
    " gamma ( 0.5 , bias = redistribute ) ": Gamma(0.5, bias="redistribute"),
    "zero(stabilizer=signed(1e-6),bias=ignore)": Zero(stabilizer=signed(1e-6), bias="ignore"),
    "w2(stabilizer=0.1std)": WSquare(stabilizer=relative(0.1)),
}


@pytest.mark.parametrize(("text", "rule"), NAMES.items(), ids=NAMES)
def test_rules_by_name(text: str, rule: Rule) -> None:
    assert parse(text) == rule


def test_a_z_box_takes_the_inputs_bounds() -> None:
    low, high = np.array([-2.1, -2.0]), np.array([2.2, 2.4])
    assert parse("z-box", (low, high)) == ZBox(low, high)
    assert parse("z-box(0,1)", (low, high)) == ZBox(0, 1)


WRITTEN = [
    *NAMES.values(), *(v for rule in RULES for v in variants(rule)), AlphaBeta(1.5, 0.5), Epsilon(1e-30),
    Gamma(1e22), Epsilon(0.1, bias="ignore"), ZBox([-1.5, -1], [2.0, 2], stabilizer=signed(1e-6)),
]  # fmt: skip


@pytest.mark.parametrize("rule", WRITTEN, ids=str)
def test_what_str_writes_parse_reads(rule: Rule) -> None:
    assert parse(str(rule)) == rule
    assert str(parse(str(rule))) == str(rule)


BAD_RULES = {
    "": "unknown rule ''",
    "gama": "unknown rule 'gama': there are zero, epsilon, gamma, ",
    "Gamma(1)": "unknown rule 'Gamma(1)'",
    "gamma(1": "unknown rule 'gamma(1'",
    "gamma(-0.1)": "gamma is -0.1: a finite number >= 0 is wanted",
    "generalized-gamma(-1)": "gamma is -1: a finite number >= 0 is wanted",
    "gamma(1e999)": "gamma is inf: a finite number >= 0 is wanted",
    "gamma('2')": "gamma is '2': a finite number >= 0 is wanted",
    "gamma(True)": "gamma is True: a finite number >= 0 is wanted",
    "gamma(2std)": "gamma is Stabilizer(",
    "gamma([1,2])": "gamma is [1, 2]: a finite number >= 0 is wanted",
    "gamma(1,2)": "cannot read rule",
    "gamma(delta=1)": "cannot read rule",
    "gamma(nan)": "gamma is 'nan': a finite number >= 0 is wanted",
    "gamma(__import__('os'))": "cannot read rule",
    "gamma(f(1))": "cannot read rule",
    "gamma(*[1])": "cannot read rule",
    "gamma(1)+(2)": "cannot read rule",
    "gamma(1)(2)": "cannot read rule",
    "epsilon(-1)": "eps of a stabilizer is -1: a finite number >= 0 is wanted",
    "epsilon(0.1std,stabilizer=signed(1))": "rule 'epsilon' has its stabilizer in eps: give one, not both",
    "zero(stabilizer=sometimes(1))": "cannot read rule",
    "zero(stabilizer=0.1)": "stabilizer is 0.1: ",
    "flat(stabilizer=none)": "stabilizer is 'none': ",
    "zero(bias=none)": "unknown bias treatment 'none': there are absorb, ignore, redistribute",
    "alpha-beta(1,1)": "alpha - beta is 1 - 1: 1 is wanted",
    "alpha-beta(2,2)": "alpha - beta is 2 - 2: 1 is wanted",
    "alpha-beta(0,-1)": "beta is -1: a finite number >= 0 is wanted",
    "alpha-beta(-1,-2)": "alpha is -1: a finite number >= 0 is wanted",
    "z-plus(2)": "cannot read rule",
    "z-box": "rule 'z-box' needs bounds: z-box(low,high), a network with preprocessing, or a composite",
    "z-box(1,-1)": "z-box has low > high: 1 > -1",
    "z-box([0,2],[1,1])": "z-box has low > high: [0,2] > [1,1]",
    "z-box([0,2],[1,1,1])": "cannot read rule",
    "z-box('a',1)": "z-box has the bound a: finite numbers are wanted",
    "gamma(" + "-" * 5000 + "1)": "a rule's name is wanted",
    "gamma(" + "9" * 400 + ")": "gamma is 999",
    "z-box(-1e999,1)": "z-box has the bound -inf",
    "winner-take-all(last)": "unknown ties 'last' of winner-take-all: there are first and split",
}


@pytest.mark.parametrize(("text", "message"), BAD_RULES.items(), ids=BAD_RULES)
def test_a_bad_rule_is_told_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(BadRule) as caught:
        parse(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unknown_stabilizer_is_refused() -> None:
    with pytest.raises(BadRule, match="unknown stabilizer 'none': there are signed, unsigned and relative"):
        rules.Stabilizer("none", 1)


def test_alpha_and_beta_may_be_floats() -> None:
    # 2.3 - 1.3 is 0.9999999999999998 in float64
    for alpha, beta in ((1.1, 0.1), (2.3, 1.3), (3.7, 2.7)):
        rule = AlphaBeta(alpha, beta)
        layer, a, R = Dense(np.array([[1.0, -0.25]])), np.array([[1.0, 1.0]]), np.array([[2.0]])
        for dtype in ("float64", "exact"):
            x, r = (exact.get(dtype).array(v) for v in (a, R))
            assert float(relprop(layer, rule, x, r).relevance.sum()) == pytest.approx(
                2, rel=1e-15
            )  # one rounding


# What does not fit.

IMAGE = np.ones((1, 1, 2, 2))
DENSE, POOL = Dense(np.ones((2, 3))), MaxPool2d(2)
X = np.ones((1, 3))
TINY = chain([("tiny", Dense(np.array([[1e-310], [1.0]]))), ("score", Dense(np.ones((1, 2))))], (1,))

MISFITS: dict[str, tuple[Callable[[], Any], type[LrprefError], str]] = {
    "R of another shape": (
        lambda: relprop(DENSE, Zero(), X, np.ones((1, 3))), BadInput,
        r"R is (1, 3), wants the layer's output (1, 2)"),
    "a of another shape": (
        lambda: relprop(DENSE, Zero(), np.ones((1, 4)), np.ones((1, 2))), BadNetwork, "got (4,), wants (3,)"),
    "unknown backend": (
        lambda: relprop(DENSE, Zero(), X, np.ones((1, 2)), backend="abacus"), BadBackend,
        "unknown backend 'abacus': there are auto, numpy, loops"),
    "winner-take-all on a dense layer": (
        lambda: relprop(DENSE, WinnerTakeAll(), X, np.ones((1, 2))), BadRule,
        "rule 'winner-take-all' is for max pooling, not for Dense"),
    "pass through a dense layer": (
        lambda: relprop(DENSE, Pass(), X, np.ones((1, 2))), BadRule,
        "rule 'pass' needs one input of the output's shape; Dense has [(3,)] -> (2,)"),
    "pass through a sum": (
        lambda: relprop(Add(), Pass(), [X, X], X), BadRule,
        "rule 'pass' needs one input of the output's shape; Add has [(3,), (3,)] -> (3,)"),
    "max pooling of negative activations as a sum": (
        lambda: relprop(POOL, Gamma(), -IMAGE, np.ones((1, 1, 1, 1))), BadRule,
        "rule 'gamma(0.25)' takes max pooling as sum pooling, which needs activations >= 0; got -1.0: "
        "use winner-take-all"),
    "bounds of other channels": (
        lambda: relprop(Conv2d(np.ones((1, 1, 2, 2))), ZBox([0, 0], [1, 1]), IMAGE, np.ones((1, 1, 1, 1))),
        BadRule, "z-box has bounds of shape (2,) for an input (1, 2, 2)"),
    "a quotient that overflows": (
        lambda: explained(TINY, np.ones((1, 1)), score=Flat()), BadRule,
        "node 'tiny': relevance overflows under rule 'zero': use a stabilizer or float64"),
}  # fmt: skip


@pytest.mark.parametrize(("act", "error", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_refused(act: Callable[[], Any], error: type[LrprefError], message: str) -> None:
    with pytest.raises(error) as caught, np.errstate(over="ignore", invalid="ignore"):
        act()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# The books in floating point.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "rule"), EVERY_RULE_AND_LAYER, ids=EVERY_ID)
def test_the_books_close_to_rounding(name: str, rule: Rule, backend: str) -> None:
    layer = exact.get("float64").cast(LAYERS[name][0])
    rng = np.random.default_rng(1)
    a = [x + rng.uniform(0, 1, x.shape) for x in lower(name, 2)]
    R = rng.normal(size=layer.forward(REFERENCE, *a).shape)
    for variant in list(variants(rule))[::4] if backend == "numpy" else [rule]:
        done = relprop(layer, variant, a, R, backend=backend)
        row = done.ledger
        to_inputs = sum(np.abs(part.reshape(2, -1)).sum(axis=1) for part in done.parts)
        booked = sum(np.abs(getattr(row, account)) for account in ("bias", "stabilizer", "dropped"))
        # every booked product is one of at most 12 that add up to R_k (1 + 12 2**-53); z near 0 makes its
        # parts, and so the rounding, larger than R: they are on the right-hand side. 1e-13 is 900 roundings
        inner = np.abs(R.reshape(2, -1)).sum(axis=1) + to_inputs + booked
        assert (np.abs(row.residual) <= 1e-13 * inner).all(), variant
        assert np.allclose(row.to_inputs, sum(p.reshape(2, -1).sum(axis=1) for p in done.parts), rtol=0,
                           atol=1e-13 * inner.max())  # fmt: skip


def test_float32_keeps_its_books_in_float64() -> None:
    rng = np.random.default_rng(2)
    layer = Dense(rng.normal(size=(3, 4)), rng.normal(size=3))
    a, R = rng.uniform(1, 2, (2, 4)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    for backend in BACKENDS:
        done = relprop(layer, Epsilon(0.5), a, R, backend=backend)
        assert done.relevance.dtype == np.float32
        for account in ("arriving", "to_inputs", "bias", "stabilizer", "dropped", "residual"):
            assert getattr(done.ledger, account).dtype == np.float64
        assert (
            np.abs(done.ledger.residual).max() <= 20 * 2.0**-24 * np.abs(done.relevance).sum()
        )  # 20 roundings


def test_what_a_relative_stabilizer_came_to_is_recorded() -> None:
    # z = (3, 4) and (6, 8): root mean squares 5 / sqrt(2) and twice that, each sample's own
    a = np.array([[3.0, 4.0], [6.0, 8.0]])
    row = relprop(Dense(np.eye(2)), Zero(stabilizer=relative(0.5)), a, np.ones((2, 2))).ledger
    assert row.eps[0] == pytest.approx(np.array([1, 2]) * 2.5 / np.sqrt(2), rel=4e-16)  # two roundings


def test_longdouble_is_used_where_asked_for() -> None:
    x = exact.get("longdouble").array(np.array([[1.0, 3.0]])) / 3
    done = relprop(Dense(np.array([[1.0, 1.0]])), Zero(), x, exact.get("longdouble").array([[1.0]]))
    assert done.relevance.dtype == np.longdouble
    assert (
        abs(done.relevance[0, 0] - np.longdouble(1) / 4) < 1e-18
    )  # a float64 would be off by 2**-54 = 6e-17


# Networks.


def branching() -> Network:
    return Network(
        (
            Node("first", Dense(np.array([[1.0, -2.0], [0.5, 1.0]]), np.array([0.25, -0.5])), (INPUT,)),
            Node("relu", ReLU(), ("first",)),
            Node("sum", Add(), ("relu", INPUT, "relu")),
            Node("unread", Flatten(), ("relu",)),
            Node("score", Dense(np.array([[1.0, 2.0]])), ("sum",)),
        ),
        (2,),
    )


def explained(network: Network, x: Array, **changes: Any) -> Any:
    values = network.activations(x, REFERENCE)
    chosen = {node.name: Zero() if node.layer.is_linear else Pass() for node in network.nodes} | changes
    ready = prepare(network, chosen, REFERENCE, exact.get("float64"))
    return propagate(network, ready, values, values[network.top], kernels=REFERENCE)


def test_relevances_add_up_where_a_node_fans_out() -> None:
    # z = (1.25 - 2, .5 + .5) at (1, 1); sum = 2 relu + x = (1, 3); score 1 + 6
    relevance, ledger = explained(branching(), np.array([[1.0, 1.0]]))
    assert relevance["sum"].tolist() == [[1, 6]]
    assert relevance["relu"].tolist() == [[0, 4]]  # twice 6 * 1/3
    assert relevance[INPUT].tolist() == [[1 + 4 * 0.5, 2 + 4 * 1.0]]
    assert [row.node for row in ledger] == ["score", "sum", "relu", "first"]
    assert ledger["first"].bias == 4 * -0.5
    assert ledger.residual == 0


def test_every_node_is_announced_and_errors_name_theirs() -> None:
    seen: list[str] = []
    network = branching()
    values = network.activations(np.array([[1.0, 1.0]]), REFERENCE)
    chosen = {node.name: Zero() if node.layer.is_linear else Pass() for node in network.nodes}
    ready = prepare(network, chosen, REFERENCE, exact.get("float64"))
    propagate(network, ready, values, values["score"], kernels=REFERENCE, watch=seen.append)
    assert seen == ["score", "sum", "relu", "first"]
    with pytest.raises(BadRule, match="node 'sum': rule 'winner-take-all' is for max pooling, not for Add"):
        explained(network, np.array([[1.0, 1.0]]), sum=WinnerTakeAll())


def test_a_final_softmax_is_no_part_of_what_is_explained() -> None:
    layers = [("dense", Dense(np.array([[2.0, 1.0], [1.0, 1.0]]))), ("softmax", Softmax())]
    network = chain(layers, (2,)).before_softmax()
    assert network.top == "dense"
    assert network.gradient(np.ones((1, 2)), 0).tolist() == [[2, 1]]


@pytest.mark.parametrize("activation", [ReLU(), Sigmoid(), GELU()], ids=str)
def test_outputs_and_gradients_come_home_from_a_device(
    activation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if requirement() and not os.environ.get("LRPREF_NOTHING_SKIPPED"):
        pytest.skip(requirement())
    rng = np.random.default_rng(3)
    network = chain(
        [("conv", Conv2d(rng.normal(size=(3, 2, 3, 3)))), ("curve", activation), ("pool", MaxPool2d(2)),
         ("flat", Flatten()), ("score", Dense(rng.normal(size=(4, 12)))), ("softmax", Softmax())], (2, 6, 6),
    )  # fmt: skip
    x = rng.normal(size=(2, 2, 6, 6))
    wanted = network.forward(x), network.gradient(x)
    monkeypatch.setattr("lrpref.network.get_backend", lambda name: Table(EmulatedDevice()))
    for got, want in zip((network.forward(x), network.gradient(x)), wanted, strict=True):
        assert np.abs(got - want).max() <= 1e-14 * np.abs(want).max()  # sums of 18 products, in another order
