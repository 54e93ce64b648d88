"""Plans: what is done once, what is left out because it is known to be 0, and batches larger than memory."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strategies import BACKENDS

import lrpref
from lrpref import Network, Node, Plan, data, exact, rules
from lrpref.engine import Known, activate, propagate
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRule, LrprefError
from lrpref.kernels.operations import A, Array, Operation, Part, lower, taken
from lrpref.kernels.reference import REFERENCE, Reference
from lrpref.kernels.signs import negative, ones_like, positive
from lrpref.layers import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    Clip,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    MaxPool2d,
    Pad,
    ReLU,
    SumPool2d,
    Tanh,
)
from lrpref.network import INPUT, chain
from lrpref.plan import prepare, what_is_known
from lrpref.rules import Flat, GeneralizedGamma, Rule, Share, WinnerTakeAll, Zero, ZPlus
from lrpref.verification import verify

draw = np.random.default_rng(5)


def convolution(outputs: int, inputs: int) -> Conv2d:
    return Conv2d(draw.normal(size=(outputs, inputs, 3, 3)), draw.normal(size=outputs), padding=1)


def network() -> Network:
    """Every way for a sign to be known, or not: ReLU, tanh, pooling, a residual sum, padding, a bound."""
    return Network(
        (
            Node("first", convolution(3, 2), (INPUT,)),
            Node("relu", ReLU(), ("first",)),
            Node("pool", MaxPool2d(2), ("relu",)),
            Node("second", convolution(3, 3), ("pool",)),
            Node("bound", Clip(0.0, 6.0), ("second",)),
            Node("sum", Add(), ("bound", "pool")),
            Node("third", convolution(2, 3), ("sum",)),
            Node("curve", Tanh(), ("third",)),
            Node("both", Concat(), ("curve", "sum")),
            Node("pad", Pad(1), ("both",)),
            Node("average", AvgPool2d(2), ("pad",)),
            Node("flat", Flatten(), ("average",)),
            Node("score", Dense(draw.normal(size=(4, 5 * 3 * 3)), draw.normal(size=4)), ("flat",)),
        ),
        (2, 8, 8),
    )


NETWORK = network()
X = draw.normal(size=(5, 2, 8, 8))


def known(**changed: Rule) -> dict[str, Known]:
    chosen: dict[str, Rule] = {n.name: Zero() if n.layer.is_linear else rules.Pass() for n in NETWORK.nodes}
    chosen = chosen | {"pool": WinnerTakeAll()} | changed
    return what_is_known(NETWORK, prepare(NETWORK, chosen, REFERENCE, exact.get("float64")))


def test_what_is_known_of_signs() -> None:
    found = known()
    assert [name for name, k in found.items() if k.nonnegative] == ["pool", "second", "sum", "third"]
    # a ReLU follows `first` and a bound `second`; tanh says nothing, and the rest are no activations
    assert [name for name, k in found.items() if k.closed] == ["first", "second"]


def test_relevance_on_an_activation_of_0_opens_what_is_below() -> None:
    # flat hands relevance to activations of 0: to `sum`, whose branches pass it down to 0 as LRP-0 does not
    assert known(third=Flat())["second"].closed, "a sum in proportion gives a summand of 0 nothing"
    assert not known(sum=Flat())["second"].closed
    assert not known(second=Flat())["first"].closed, "winner-take-all hands on what arrives at a maximum of 0"
    assert known(second=ZPlus())["first"].closed
    assert not known(second=Zero(bias="redistribute"))["first"].closed


class Counting(Reference):
    """The reference, counting its maps and what it prepares."""

    def __init__(self) -> None:
        self.maps = self.prepared = 0

    def forward(self, op: Operation, p: Array, w: Any) -> Array:
        self.maps += 1
        return super().forward(op, p, w)

    def transpose(self, op: Operation, s: Array, w: Any) -> Array:
        self.maps += 1
        return super().transpose(op, s, w)

    def prepare(self, op: Operation, w: Array) -> Array:
        self.prepared += 1
        return super().prepare(op, w)


@pytest.mark.parametrize("rule", [GeneralizedGamma(0.5), rules.AlphaBeta(2, 1), ZPlus(), Zero()], ids=str)
def test_what_is_left_out_is_0(rule: Rule) -> None:
    chosen = {n.name: rule if isinstance(n.layer, Conv2d) else Zero() for n in NETWORK.nodes}
    chosen = {n.name: chosen[n.name] if n.layer.is_linear else rules.Pass() for n in NETWORK.nodes}
    chosen["pool"] = WinnerTakeAll()
    found = []
    for forget in (False, True):
        kernels = Counting()
        ready = prepare(NETWORK, chosen, kernels, exact.get("float64"))
        for node in ready.values():
            node.known = Known() if forget else node.known
        values = activate(NETWORK, ready, X)
        before = kernels.maps
        relevance, ledger = propagate(NETWORK, ready, values, values["score"], kernels=kernels)
        found.append((relevance, ledger, kernels.maps - before))
    (less, books, fewer), (all_of_it, wanted, more) = found
    assert all((less[name] == all_of_it[name]).all() for name in less), "to the last bit: 0 was added"
    for row, other in zip(books, wanted, strict=True):
        for account in ("to_inputs", "bias", "stabilizer", "dropped"):
            assert (getattr(row, account) == getattr(other, account)).all(), (row.node, account)
    if rule != Zero():
        assert fewer < more


def test_a_plan_prepares_weights_once() -> None:
    kernels = Counting()
    plan = Plan(NETWORK, "epsilon-gamma-box", backend=kernels, rules={
        n.name: WinnerTakeAll() if isinstance(n.layer, MaxPool2d) else GeneralizedGamma(0.25)
        for n in NETWORK.nodes if n.layer.is_linear
    })  # fmt: skip
    first = lrpref.explain(plan, X)
    once = kernels.prepared
    again = lrpref.explain(plan, X)
    assert kernels.prepared == once
    assert (first.relevance == again.relevance).all()
    fresh = lrpref.explain(NETWORK, X, rules=plan.rules)
    assert (fresh.relevance == again.relevance).all()
    assert first.backend.endswith("test_plan.Counting")


@pytest.mark.parametrize("memory", [0, 2000, 10**6])
def test_weights_beyond_the_memory_are_prepared_for_each_call(memory: int) -> None:
    # the convolutions' modified weights: 3 x 2 x 9, 3 x 3 x 9 and 2 x 3 x 9 float64, 432 + 648 + 432 bytes
    kernels = Counting()
    chosen = {
        n.name: ZPlus() if isinstance(n.layer, Conv2d) else Zero() for n in NETWORK.nodes if n.layer.is_linear
    }
    plan = Plan(NETWORK, backend=kernels, rules=chosen | {"pool": WinnerTakeAll()}, memory=memory)
    lrpref.explain(plan, X)
    before = kernels.prepared
    e = lrpref.explain(plan, X)
    assert (kernels.prepared > before) == (memory < 432)
    assert (e.relevance == lrpref.explain(NETWORK, X, rules=plan.rules).relevance).all()


def test_a_plan_is_not_given_options_again() -> None:
    plan = Plan(NETWORK, "lrp-0")
    assert repr(plan) == "<Plan for : lrp-0, numpy, float64>"
    with pytest.raises(BadInput, match="a plan has its composite, dtype already"):
        lrpref.explain(plan, X, composite="chapter", dtype="float32")
    with pytest.raises(BadInput, match="input is"):
        lrpref.explain(plan, X[:, :1])
    with pytest.raises(BadBackend, match="'exact' runs on backend 'numpy' only"):
        Plan(NETWORK, backend="loops", dtype="exact")
    with pytest.raises(BadRule, match="node 'score': rule 'winner-take-all' is for max pooling"):
        Plan(NETWORK, rules=Plan(NETWORK, "lrp-0").rules | {"score": WinnerTakeAll()})


# Random graphs: what is known is true.


@dataclass(frozen=True)
class Below(Rule):
    """Nothing but what is negative takes part."""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(negative(a), w)], b)]


@dataclass(frozen=True)
class OneSide(Rule):
    """R_k enters on one side of 0, and is dropped on the other."""

    side: int = 1

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(positive(a), w)], b, gate=self.side)]


@dataclass(frozen=True)
class Scaled(Rule):
    """The terms depend on the numbers in w, and 0 will not do for them."""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        p = ones_like(a) if (w != 0).any() else a
        return [Share([(p, w * w / abs(w).max())], None)]


@dataclass(frozen=True)
class WholeWindow(WinnerTakeAll):
    """It sees the winners, and hands relevance to the others too."""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(ones_like(a), ones_like(w))], None)]


ANY_RULE = (
    Zero(), rules.Gamma(0.25), GeneralizedGamma(0.5), GeneralizedGamma(2), rules.AlphaBeta(2, 1), ZPlus(),
    Flat(), rules.WSquare(), rules.ZBox(-4, 4), Below(), OneSide(1), OneSide(-1), Scaled(),
)  # fmt: skip
SHAPELESS = (
    ReLU(), ReLU(), ReLU(), Clip(0.0, 3.0), Clip(-1.0, 1.0), Clip(0.5, 2.0), LeakyReLU(0.25), LeakyReLU(0.0),
    HardSigmoid(), HardSwish(), Identity(), Pad(1), Pad((0, 1), -0.5), Pad(1, 1.0), SumPool2d(2, 1),
    AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False), AdaptiveAvgPool2d((3, 2)), MaxPool2d(2),
    MaxPool2d(2, 1, 1), Add(), Add(), Concat(),
)  # fmt: skip


def random_network(rng: np.random.Generator) -> Network:
    """Three to ten layers of every kind, each upon one or two of the last three, and a score."""
    shapes: dict[str, tuple[int, ...]] = {INPUT: (2, 4, 4)}
    nodes: list[Node] = []

    def numbers(*shape: int) -> Array:
        return rng.integers(-2, 3, shape) / 2

    for i in range(int(rng.integers(3, 11))):
        below = list(shapes)[-int(rng.integers(1, min(3, len(shapes)) + 1))]
        c = shapes[below][0]
        weighted = (
            Conv2d(numbers(2, c, 3, 3), numbers(2), padding=1), Conv2d(numbers(3, c, 1, 1)),
            Conv2d(numbers(c, 1, 2, 2), numbers(c), padding=1, groups=c), BatchNorm(numbers(c), numbers(c)),
        )  # fmt: skip
        layer = weighted[rng.integers(4)] if rng.random() < 0.4 else SHAPELESS[rng.integers(len(SHAPELESS))]
        fitting = [name for name in shapes if shapes[name][1:] == shapes[below][1:]]
        if isinstance(layer, Add):
            fitting = [name for name in fitting if shapes[name] == shapes[below]]
        inputs = (below,) if layer.inputs else (below, str(rng.choice(fitting)))
        try:
            shape = layer.output_shape(*(shapes[name] for name in inputs))
        except BadNetwork:  # the window no longer fits
            continue
        nodes.append(Node(f"{layer.kind}{i}", layer, inputs))
        shapes[nodes[-1].name] = shape
    top = list(shapes)[-1]
    score = Dense(numbers(2, int(np.prod(shapes[top]))))
    return Network((*nodes, Node("flat", Flatten(), (top,)), Node("score", score, ("flat",))), (2, 4, 4))


def random_rule(rng: np.random.Generator, layer: Any, signs_known: bool) -> Rule:
    if not layer.is_linear:
        return rules.Pass()
    rule = ANY_RULE[rng.integers(len(ANY_RULE))]
    if isinstance(layer, MaxPool2d) and (not signs_known or rng.random() < 0.5):
        rule = (WinnerTakeAll(), WinnerTakeAll("split"), WholeWindow())[rng.integers(3)]
    stabilizer = (rules.NOTHING, rules.NOTHING, rules.signed(0.25), rules.relative(0.5))[rng.integers(4)]
    return rule.with_options(
        stabilizer=stabilizer, bias=str(rng.choice(["absorb", "absorb", "ignore", "redistribute"]))
    )


@pytest.mark.parametrize("dtype", ["exact", "float64"])
def test_what_is_known_is_true_of_random_graphs(dtype: str) -> None:
    arithmetic, used = exact.get(dtype), {"nonnegative": 0, "closed": 0}
    for seed in range(100):
        rng = np.random.default_rng(seed)
        network = random_network(rng).astype(arithmetic)
        x, R = (arithmetic.array(rng.integers(-4, 5, shape) / 2) for shape in ((2, 2, 4, 4), (2, 2)))
        nothing = prepare(network, {n.name: rules.Pass() for n in network.nodes}, REFERENCE, arithmetic)
        chosen = {n.name: random_rule(rng, n.layer, nothing[n.name].known.nonnegative) for n in network.nodes}
        found = []
        for forget in (False, True):
            ready = prepare(network, chosen, REFERENCE, arithmetic)
            for node in ready.values():
                for name in used:
                    used[name] += getattr(node.known, name) and node.layer.is_linear
                node.known = Known() if forget else node.known
            values = activate(network, ready, x)
            found.append(propagate(network, ready, values, R, kernels=REFERENCE))
        (less, books), (all_of_it, wanted) = found
        assert all((less[name] == all_of_it[name]).all() for name in all_of_it), seed
        for row, other in zip(books, wanted, strict=True):
            for account in ("arriving", "to_inputs", "bias", "stabilizer", "dropped", "padding"):
                assert (getattr(row, account) == getattr(other, account)).all(), (seed, row.node, account)
            assert dtype != "exact" or (row.residual == 0).all(), (seed, row.node, row.rule)
    assert min(used.values()) > 100


@pytest.mark.parametrize(
    ("above", "closed", "nonnegative"),
    [
        ([Flatten(), Dense(np.ones((2, 8)))], {Zero(): True, ZPlus(): True, Flat(): False}, True),
        ([ReLU(), Flatten(), Dense(np.ones((2, 8)))], {Zero(): True, Flat(): False}, True),
        ([Pad(1, 1.0), Flatten(), Dense(np.ones((2, 32)))], {Zero(): True, Flat(): False}, True),
        ([Pad(1, -1.0), Flatten(), Dense(np.ones((2, 32)))], {Zero(): True, Flat(): False}, False),
        ([Tanh(), Flatten(), Dense(np.ones((2, 8)))], {Zero(): False}, False),
        ([Flatten(), Identity()], {Zero(): False}, True),  # any relevance of the output may be asked for
        ([], {Zero(): False}, True),
    ],
    ids=lambda value: "-".join(layer.kind for layer in value) if isinstance(value, list) else None,
)
def test_what_is_known_through_layers_that_pass(
    above: Any, closed: dict[Rule, bool], nonnegative: bool
) -> None:
    layers = [Conv2d(np.ones((2, 1, 1, 1))), ReLU(), *above]
    network = chain([(f"{i}", layer) for i, layer in enumerate(layers)], (1, 2, 2))
    for rule, expected in closed.items():
        chosen = {n.name: rule if n.layer.is_linear else rules.Pass() for n in network.nodes}
        found = what_is_known(network, prepare(network, chosen, REFERENCE, exact.get("float64")))
        assert found["0"].closed == expected
        if above and above[-1].is_linear:
            assert found[network.top].nonnegative == nonnegative


def test_rules_of_ones_own_are_asked_with_the_layers_weights() -> None:
    assert not known(second=Scaled())["first"].closed, "it hands relevance to activations of 0"
    assert not known(second=ZPlus(), pool=WholeWindow())["first"].closed


@pytest.mark.parametrize(("side", "dropped"), [(1, 7), (-1, 3)])
def test_what_arrives_where_no_gate_is_open_is_dropped(side: int, dropped: int) -> None:
    layer, a, R = Dense(np.array([[1.0], [-1.0]])), np.array([[1.0]]), np.array([[3.0, 7.0]])  # z = (1, -1)
    row = lrpref.relprop(layer, OneSide(side), a, R).ledger
    assert (row.dropped, row.to_inputs, row.residual) == (dropped, 10 - dropped, 0)


# Batches larger than memory.


class Small(Reference):
    """The reference on a machine with little memory: what is alive is known by what was uploaded."""

    def __init__(self, samples: float, per_sample: int) -> None:
        self.size, self.batches = int(samples * per_sample), list[int]()

    def upload(self, x: Array) -> Array:
        if x.ndim == 4 and x.shape[1:] == (2, 8, 8):
            self.batches.append(len(x))
        return x

    def free_memory(self) -> int:
        return self.size


@pytest.mark.parametrize(("samples", "batches"), [(100, [5]), (3, [1, 2, 2]), (0.5, [1] * 5)])
def test_a_batch_larger_than_memory_is_split(samples: float, batches: list[int]) -> None:
    per_sample = Plan(NETWORK, "epsilon").bytes_per_sample
    kernels, seen = Small(samples, per_sample), list[str]()
    plan = Plan(NETWORK, "epsilon", backend=kernels)
    e = lrpref.explain(plan, X, [0, 1, 2, 3, 0], watch=seen.append)
    assert kernels.batches == batches
    assert len(seen) == len(batches) * len(NETWORK.nodes)
    whole = lrpref.explain(NETWORK, X, [0, 1, 2, 3, 0], "epsilon")
    # BLAS may add in another order for another batch: a few hundred roundings of 1.1e-16
    assert np.abs(e.relevance - whole.relevance).max() <= 1e-13 * np.abs(whole.relevance).max()
    assert np.allclose(e.scores, whole.scores, rtol=1e-13)
    assert e.target.tolist() == [0, 1, 2, 3, 0]
    for row, other in zip(e.ledger, whole.ledger, strict=True):
        assert row.node == other.node
        assert row.handed.keys() == other.handed.keys()
        assert np.allclose(row.bias, other.bias, rtol=1e-9, atol=1e-12)
    assert np.abs(e.ledger.residual).max() <= 1e-12 * np.abs(whole.relevance).sum()
    if len(batches) > 1:
        assert (
            e.warnings[-1]
            == f"the batch was split into {len(batches)} parts: only the input's relevance was kept"
        )
        with pytest.raises(BadInput, match="no relevance at 'first': there are input, score"):
            e.at("first")


class Full(Small):
    """The reference on a machine that says it has memory, and has none for more than some samples."""

    def __init__(self, most: int) -> None:
        super().__init__(1000, 10**9)
        self.most = most

    def preactivation(self, op: Operation, a: Array, terms: Any, b: Any) -> Array:
        if len(a) > self.most:
            raise MemoryError
        return super().preactivation(op, a, terms, b)


def test_a_batch_that_does_not_fit_after_all_is_halved() -> None:
    kernels = Full(2)
    e = lrpref.explain(Plan(NETWORK, "epsilon", backend=kernels), X, 1)
    assert kernels.batches == [5, 2, 2, 1]
    whole = lrpref.explain(NETWORK, X, 1, "epsilon")
    assert np.abs(e.relevance - whole.relevance).max() <= 1e-13 * np.abs(whole.relevance).max()  # as above
    with pytest.raises(BadBackend, match="not enough memory for one sample at this dtype"):
        lrpref.explain(Plan(NETWORK, "epsilon", backend=Full(0)), X, 1)


# What a plan, a target and a batch of one are told.


def test_a_plan_is_told_what_it_wants() -> None:
    for options, error, said in [
        ({"network": "net.safetensors"}, BadNetwork, "a Network is wanted, such as lrpref.load reads"),
        ({"network": Plan(NETWORK, "lrp-0")}, BadNetwork, "got <Plan for "),
        ({"memory": None}, BadBackend, "memory is None: a number of bytes >= 0 is wanted"),
        ({"memory": -1}, BadBackend, "memory is -1"),
        ({"backend": None}, BadBackend, "backend is None: wanted is a name, or a function table; it lacks"),
        ({"dtype": 64}, BadBackend, "dtype is 64: wanted is one of"),
    ]:
        with pytest.raises(error, match=said):
            Plan(**{"network": NETWORK, "composite": "lrp-0", **options})  # type: ignore[arg-type]
    with pytest.raises(BadNetwork, match="a Network is wanted"):
        lrpref.explain("net.safetensors", X)  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [100, 0.5])
@pytest.mark.parametrize(
    "target", [[3], [0, 1], np.ones((1, 4)), np.ones((5, 3)), [0, 1, 2, 3, 9], [[1], [1, 2]], None], ids=str
)
def test_a_target_that_does_not_fit_the_batch_fits_no_part_of_it(samples: float, target: Any) -> None:
    kernels = Small(samples, Plan(NETWORK, "epsilon").bytes_per_sample)
    with pytest.raises(BadInput, match=r"for each of the 5 samples|out of range") as caught:
        lrpref.explain(Plan(NETWORK, "epsilon", backend=kernels), X, target)
    assert "\n" not in str(caught.value)
    assert kernels.batches == [], "before the forward pass"


@pytest.mark.parametrize("dtype", ["exact", "ball"])
def test_exact_numbers_and_relevances_of_the_output_are_split_too(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = chain([("first", Dense(draw.normal(size=(3, 2)))), ("relu", ReLU()),
                     ("score", Dense(draw.normal(size=(2, 3)), draw.normal(size=2)))], (2,))  # fmt: skip
    x, R = draw.normal(size=(3, 2)), draw.normal(size=(3, 2))
    whole = lrpref.explain(network, x, R, "gamma", dtype=dtype)
    monkeypatch.setattr(Reference, "free_memory", lambda self: 1)
    parts = lrpref.explain(network, x, R, "gamma", dtype=dtype)
    assert "3 parts" in parts.warnings[-1]
    assert (exact.as_float(parts.relevance) == exact.as_float(whole.relevance)).all()
    assert np.abs(exact.as_float(parts.ledger.residual)).max() <= (0 if dtype == "exact" else 1e-30)


def test_one_sample_keeps_all_its_relevances_however_little_memory_there_is() -> None:
    e = lrpref.explain(Plan(NETWORK, "epsilon", backend=Small(0.5, 1000)), X[:1], 1)
    assert e.at("first").shape == (1, 3, 8, 8)
    assert not [note for note in e.warnings if "split" in note]


# Parts of a.


def test_parts_are_taken_when_a_is_known() -> None:
    a = np.array([[-2.0, 0.0, 3.0]])
    part = lower((3,))
    assert [taken(p, a).tolist() for p in (part, positive(part), negative(part), ones_like(part))] == [
        [[-2, 0, 3]], [[0, 0, 3]], [[-2, 0, 0]], [[1, 1, 1]],
    ]  # fmt: skip
    assert (positive(part).name, negative(part).name, ones_like(part).name, A.name) == ("a+", "a-", "1", "a")
    assert taken(abs(part) * 2 + positive(part), a).tolist() == [[4, 0, 9]]
    assert taken(np.array([5.0]), a).tolist() == [[5, 5, 5]]
    assert isinstance(np.exp(-part), Part)
    assert np.exp(-part).shape == (3,)
    with pytest.raises(TypeError, match="not there yet"):  # a decision about numbers that are not there
        bool(part > 0)
    with pytest.raises(TypeError, match="no implementation found"):
        np.where(part > 0, 1.0, 0.5)


@pytest.mark.parametrize("function", [
    lambda a: np.where(a > 0, 1.0, 0.5), lambda a: np.clip(a, 0, 1), lambda a: a if a > 0 else -a,
], ids=["where", "clip", "if"])  # fmt: skip
def test_numbers_of_a_that_are_not_there_yet_cannot_be_asked_for(function: Any) -> None:
    with pytest.raises(TypeError, match=r"numpy.where|numpy.clip|not there yet"):
        function(lower((3,)))


@dataclass(frozen=True)
class Logistic(Rule):
    """A rule with a function of a that no kernel knows by name."""

    def shares(self, a: Part, w: Array, b: Array) -> list[Share]:
        return [Share([(1 / (1 + np.exp(-a)), abs(w))], abs(b))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_of_ones_own_runs_on_every_backend(backend: str) -> None:
    net = chain([("conv", NETWORK.nodes[0].layer), ("flat", Flatten()),
                 ("score", Dense(draw.normal(size=(2, 192))))], (2, 8, 8))  # fmt: skip
    chosen: dict[str, Rule] = {"conv": Logistic(), "score": Logistic()}
    e = lrpref.explain(net, X, 0, rules=chosen, backend=backend)
    assert np.abs(e.ledger.residual).max() <= 1e-12 * np.abs(e.ledger.explained).max()
    wanted = lrpref.explain(net, X, 0, rules=chosen).relevance
    assert np.abs(e.relevance - wanted).max() <= 1e-12 * np.abs(wanted).max()  # sums in another order


# What an attack found.


def test_an_explanation_keeps_its_own_input(tmp_path: Path) -> None:
    net, x = data.embedded(), data.embedded().preprocess(data.image(2))
    mine = x.copy()
    e = lrpref.explain(net, mine)
    mine[...] = 0
    assert (e.x == x).all()
    e.save(tmp_path / "out")
    assert [f.what for f in verify(tmp_path / "out", lambda entry: net) if not f.ok] == []


def test_a_record_of_a_split_batch_stands_where_memory_suffices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = data.embedded()
    x = np.concatenate([net.preprocess(data.image(i)) for i in range(3)])
    with monkeypatch.context() as little:
        little.setattr(Reference, "free_memory", lambda self: 1)
        e = lrpref.explain(net, x, composite="epsilon")
    assert "split into 3 parts" in e.warnings[-1]
    e.save(tmp_path / "out")
    assert [f.what for f in verify(tmp_path / "out", lambda entry: net) if not f.ok] == []


def test_numbers_in_object_arrays_make_a_record_that_stands(tmp_path: Path) -> None:
    net = data.embedded()
    lrpref.explain(net, net.preprocess(data.image(2)).astype(object)).save(tmp_path / "out")
    assert [f.what for f in verify(tmp_path / "out", lambda entry: net) if not f.ok] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": np.dtype("float32")}, "dtype is dtype.*: wanted is one of float32"),
        ({"dtype": np.zeros((2, 2))}, "dtype is array"),
        ({"rules": 5}, "rules are 5: wanted is a rule for each node"),
        ({"backend": object()}, "it lacks upload, download, prepare"),
        ({"memory": np.zeros((3, 3))}, "memory is array"),
    ],
)
def test_odd_options_of_a_plan_are_refused_in_one_line(options: Any, said: str) -> None:
    with pytest.raises(LrprefError, match=said) as caught:
        Plan(NETWORK, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("layer", "a", "said"),
    [
        (
            Dense(np.ones((2, 3)) + 0j),
            np.ones((1, 3)),
            "Dense's arrays are to be finite real numbers; got complex",
        ),
        (Dense(np.full((2, 3), np.nan)), np.ones((1, 3)), "finite real numbers"),
        (Dense(np.ones((2, 3))), np.array(1.0), "a is \\(\\): wanted is"),
        (Dense(np.ones((2, 3))), np.ones((0, 3)), "a is \\(0, 3\\)"),
        (Add(), [np.ones((2, 3)), np.ones((1, 3))], "as many samples in each"),
        (Add(), [np.ones((1, 3)), np.ones((1, 3), np.float32)], "inputs of one dtype"),
    ],
)
def test_odd_arguments_of_relprop_are_refused_alike(layer: Any, a: Any, said: str, backend: str) -> None:
    with pytest.raises(BadInput, match=said):
        lrpref.relprop(layer, "zero", a, np.ones((1, 2)), backend=backend)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS is 0: a whole number >= 1 is wanted"),
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT is set: unset it"),
    ],
)
def test_numbas_environment_is_refused_in_one_line(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lrpref", "explain", "--backend", "cpu", "--out", str(tmp_path / "out")],
        env=os.environ | {variable: value}, capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
