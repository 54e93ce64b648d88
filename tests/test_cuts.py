"""Relevance is conserved at every cut of a graph with branches, not only at layers.

A cut parts the nodes into those above and those below. Across it flows what the nodes above have handed to
values of the nodes below, branch by branch; with what the nodes above have booked that is f(x), whichever
cut.
"""

from __future__ import annotations

import numpy as np
import pytest

import lrpref
from lrpref import exact
from lrpref.engine import activate
from lrpref.heads import one_hot
from lrpref.kernels.operations import Array
from lrpref.layers import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    MaxPool2d,
    Pad,
    ReLU,
    Slice,
)
from lrpref.ledger import ACCOUNTS
from lrpref.network import INPUT, Network, Node
from lrpref.plan import Plan
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import import architectures
from lrpref.weights_import.build import expected_tensors, make_network

TARGET = 1

ROUNDING = 1e-13
"""Of all |R| that crosses a cut or was booked: float64's 1.1e-16 for each addition, most of which cancel."""


def cuts(plan: Plan, x: Array) -> tuple[list[tuple[object, float]], dict[str, Array]]:
    """At every cut from the top: what is off, and how much there is; and the relevance of each value."""
    network = plan.canonical
    with np.errstate(all="ignore"), plan.precision():
        values = activate(network, plan.prepared, plan.arithmetic.array(x))
        scores = values[network.top]
        handed = {network.top: [scores * plan.arithmetic.array(one_hot(scores, np.full(len(x), TARGET)))]}
        explained, booked, found, relevance = handed[network.top][0].sum(), [], [], {}
        for node in reversed(network.nodes):
            crossing = [part.sum() for parts in handed.values() for part in parts]
            size = sum(abs(exact.as_float(part)).sum() for parts in handed.values() for part in parts)
            size += sum(abs(float(amount)) for amount in booked)
            found.append((sum(crossing) + sum(booked) - explained, size))
            R = sum(handed.pop(node.name))
            inputs = [values[name] for name in node.inputs]
            step = plan.prepared[node.name].step(node.name, inputs, values[node.name], R)
            booked += [getattr(step.ledger, name).sum() for name in ACCOUNTS]
            for name, part in zip(node.inputs, step.parts, strict=True):
                handed.setdefault(name, []).append(part)
            relevance[node.name] = R
        relevance[INPUT] = sum(handed[INPUT])
    return found, relevance


def random_network(name: str) -> Network:
    rng = np.random.default_rng(0)
    architecture = architectures.get(name)

    def draw(tensor: str, shape: tuple[int, ...]) -> Array:
        if tensor.endswith("running_var"):
            return rng.uniform(0.5, 1.5, shape)
        return rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)

    tensors = {tensor: draw(tensor, shape) for tensor, shape in expected_tensors(architecture).items()}
    return make_network(architecture, tensors)


@pytest.mark.parametrize("composite", ["lrp-0", "epsilon-plus", "epsilon-gamma-box"])
@pytest.mark.parametrize("name", ["resnet18", "inception_v3"])
def test_every_cut_of_a_large_network(name: str, composite: str) -> None:
    network = random_network(name)
    plan = Plan(network, composite, backend="cpu")
    _, h, w = network.input_shape
    x = network.preprocessing.normalise(np.random.default_rng(1).integers(0, 256, (1, h, w, 3)))
    found, relevance = cuts(plan, x)
    assert len(found) == len(plan.canonical.nodes)
    assert max(abs(off) / size for off, size in found) <= ROUNDING
    explanation = lrpref.explain(plan, x, TARGET)
    for node, R in relevance.items():
        assert (explanation.at(node) == R).all()
    most = max(size for _, size in found)
    assert max(abs(off) for off in cuts_in_the_books(explanation)) <= ROUNDING * most


def cuts_in_the_books(explanation: lrpref.Explanation) -> list[object]:
    """The same from the ledger alone: what its rows say that they have handed to each input, and booked."""
    off = []
    names = [row.node for row in explanation.ledger]
    for i in range(len(names) + 1):
        above, below = explanation.ledger.rows[:i], {*names[i:], INPUT}
        crossing = [amount.sum() for row in above for name, amount in row.handed.items() if name in below]
        booked = [getattr(row, account).sum() for row in above for account in ACCOUNTS]
        off.append(sum(crossing) + sum(booked) - (explanation.ledger.explained.sum() if i else 0))
    return off


def quarters(rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(-3, 4, shape) / 4


def small_resnet(rng: np.random.Generator) -> Network:
    """A residual block, an option-A shortcut, and a norm on a sum."""
    conv = {"padding": 1}
    nodes = (
        Node("conv", Conv2d(quarters(rng, 2, 3, 3, 3), quarters(rng, 2), **conv), (INPUT,)),
        Node("relu", ReLU(), ("conv",)),
        Node("block.conv", Conv2d(quarters(rng, 2, 2, 3, 3), **conv), ("relu",)),
        Node("block.bn", BatchNorm(quarters(rng, 2) + 1, quarters(rng, 2)), ("block.conv",)),
        Node("block.add", Add(), ("block.bn", "relu")),
        Node("block.relu", ReLU(), ("block.add",)),
        Node("down.conv", Conv2d(quarters(rng, 4, 2, 3, 3), stride=2, **conv), ("block.relu",)),
        Node("down.slice", Slice((0, 0, 0), (2, 4, 4), (1, 2, 2)), ("block.relu",)),
        Node("down.pad", Pad(channels=(1, 1)), ("down.slice",)),
        Node("down.add", Add(), ("down.conv", "down.pad")),
        Node("down.bn", BatchNorm(quarters(rng, 4) + 1, quarters(rng, 4)), ("down.add",)),
        Node("down.relu", ReLU(), ("down.bn",)),
        Node("pool", AdaptiveAvgPool2d(), ("down.relu",)),
        Node("flatten", Flatten(), ("pool",)),
        Node("fc", Dense(quarters(rng, 3, 4), quarters(rng, 3)), ("flatten",)),
    )
    return Network(nodes, (3, 4, 4), preprocessing=Preprocessing((4, 4), (0.5,) * 3, (0.5,) * 3))


def small_inception(rng: np.random.Generator) -> Network:
    """Four branches of two kinds of pooling, joined twice; one branch is read twice."""
    nodes = (
        Node("stem", Conv2d(quarters(rng, 2, 3, 1, 1), quarters(rng, 2)), (INPUT,)),
        Node("relu", ReLU(), ("stem",)),
        Node("one", Conv2d(quarters(rng, 2, 2, 1, 1), quarters(rng, 2)), ("relu",)),
        Node("three", Conv2d(quarters(rng, 1, 2, 3, 3), padding=1), ("one",)),
        Node("three.relu", ReLU(), ("three",)),
        Node("max", MaxPool2d(3, 1, 1), ("relu",)),
        Node("mean", AvgPool2d(3, 1, 1), ("relu",)),
        Node("mean.conv", Conv2d(quarters(rng, 1, 2, 1, 1)), ("mean",)),
        Node("cat", Concat(), ("one", "three.relu", "max", "mean.conv")),
        Node("cat.relu", ReLU(), ("cat",)),
        Node("again", Concat(), ("cat.relu", "relu")),
        Node("pool", MaxPool2d(2), ("again",)),
        Node("flatten", Flatten(), ("pool",)),
        Node("fc", Dense(quarters(rng, 3, 32), quarters(rng, 3)), ("flatten",)),
    )
    return Network(nodes, (3, 4, 4), preprocessing=Preprocessing((4, 4), (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize("composite", lrpref.composites.COMPOSITES)
@pytest.mark.parametrize("make", [small_resnet, small_inception])
def test_every_cut_exactly(make, composite: str) -> None:
    rng = np.random.default_rng(3)
    network = make(rng)
    plan = Plan(network, composite, dtype="exact")
    assert len(plan.canonical.nodes) > 10
    x = rng.integers(-4, 5, (2, 3, 4, 4)) / 4
    found, relevance = cuts(plan, x)
    assert all(off == 0 for off, _ in found)
    explanation = lrpref.explain(plan, x, TARGET)
    for node, R in relevance.items():
        assert (explanation.at(node) == R).all()
    assert not any(cuts_in_the_books(explanation))


def test_a_branch_that_is_forgotten_shows_at_the_cuts_below_it() -> None:
    """The walk above would see it: with one summand's part halved, nothing adds up from there on."""
    rng = np.random.default_rng(3)
    plan = Plan(small_resnet(rng), "lrp-0", dtype="exact")
    step = plan.prepared["down.add"].step

    def forgetful(*arguments):
        made = step(*arguments)
        made.parts[1] = made.parts[1] / 2
        return made

    plan.prepared["down.add"].step = forgetful
    found, _ = cuts(plan, rng.integers(-4, 5, (2, 3, 4, 4)) / 4)
    names = [node.name for node in reversed(plan.canonical.nodes)]
    assert [off != 0 for off, _ in found] == [i > names.index("down.add") for i in range(len(names))]
