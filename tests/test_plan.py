"""Plans: what is done once, what is left out because it is known to be 0, and batches larger than memory."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from strategies import BACKENDS

import lrpref
from lrpref import Network, Node, Plan, exact, rules
from lrpref.engine import Known, activate, propagate
from lrpref.errors import BadBackend, BadInput, BadRule
from lrpref.kernels.operations import A, Array, Operation, Part, lower, taken
from lrpref.kernels.reference import REFERENCE, Reference
from lrpref.kernels.signs import negative, ones_like, positive
from lrpref.layers import Add, AvgPool2d, Clip, Concat, Conv2d, Dense, Flatten, MaxPool2d, Pad, ReLU, Tanh
from lrpref.network import INPUT, chain
from lrpref.plan import prepare, what_is_known
from lrpref.rules import Flat, GeneralizedGamma, Rule, WinnerTakeAll, Zero, ZPlus

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


@dataclass(frozen=True)
class Logistic(Rule):
    """A rule with a function of a that no kernel knows by name."""

    def shares(self, a: Part, w: Array, b: Array) -> list[rules.Share]:
        return [rules.Share([(1 / (1 + np.exp(-a)), abs(w))], abs(b))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_function_of_ones_own_runs_on_every_backend(backend: str) -> None:
    chosen: dict[str, Rule] = {
        n.name: Logistic() for n in NETWORK.nodes if isinstance(n.layer, Conv2d | Dense)
    }
    net = chain([("conv", NETWORK.nodes[0].layer), ("flat", Flatten()),
                 ("score", Dense(draw.normal(size=(2, 192))))], (2, 8, 8))  # fmt: skip
    chosen: dict[str, Rule] = {"conv": Logistic(), "score": Logistic()}
    e = lrpref.explain(net, X, 0, rules=chosen, backend=backend)
    assert np.abs(e.ledger.residual).max() <= 1e-12 * np.abs(e.ledger.explained).max()
    wanted = lrpref.explain(net, X, 0, rules=chosen).relevance
    assert np.abs(e.relevance - wanted).max() <= 1e-12 * np.abs(wanted).max()  # sums in another order
