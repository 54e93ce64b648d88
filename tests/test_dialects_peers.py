"""Under its dialect lrpref gives what the library itself gives (`make peers`).

Single layers at random, one rule each, through the adapters of the conformance suite; then whole networks.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import lrpref
from lrpref import data, dialects, layers
from lrpref.conformance import adapters
from lrpref.conformance.crosscheck import undecided
from lrpref.explanation import Explanation
from lrpref.kernels.operations import Array
from lrpref.network import Network, chain
from lrpref.preprocessing import Preprocessing
from lrpref.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    GeneralizedGamma,
    Rule,
    WinnerTakeAll,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    relative,
    signed,
    unsigned,
)
from lrpref.weights_import import architectures, make_network
from lrpref.weights_import.build import expected_tensors

pytestmark = pytest.mark.peers

SAME = 1e-9
"""Of the largest |R|, float64 on both sides: the figure that the project promises."""


def difference(R: Array, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    expected = np.asarray(expected)
    assert R.shape == expected.shape
    return float(abs(R - expected).max() / abs(expected).max())


# Single layers


EPS: dict[str, Any] = {"stabilizer": signed(1e-6)}
"""Without it, zennit and autoLRP give NaN where a neuron has no positive contribution."""

NO_BIAS: dict[str, Any] = {**EPS, "bias": "ignore"}

RULES: dict[str, list[Rule]] = {
    "zennit": [
        Zero(), Epsilon(0.25), Epsilon(relative(0.25)), Epsilon(unsigned(0.25)), Gamma(0.5, **EPS),
        GeneralizedGamma(0.5, **EPS), AlphaBeta(2, 1, **EPS), ZPlus(**EPS), Flat(), WSquare(),
        ZBox(-3.0, 3.0), Zero(**NO_BIAS), Gamma(0.5, **NO_BIAS), AlphaBeta(2, 1, **NO_BIAS),
        ZPlus(**NO_BIAS), WSquare(**NO_BIAS),
    ],
    "captum": [
        Zero(), Epsilon(0.25), Gamma(0.5), AlphaBeta(1, 0), ZPlus(), Gamma(0.5, bias="ignore"),
        ZPlus(bias="ignore"),
    ],
    "autolrp": [
        Zero(), Epsilon(0.25), Gamma(0.5, **EPS), GeneralizedGamma(0.5, **EPS), AlphaBeta(2, 1, **EPS),
        ZPlus(**EPS), ZBox(-3.0, 3.0),
    ],
    "lxt": [Zero(), Epsilon(0.25), Epsilon(unsigned(0.25))],
}  # fmt: skip


def entry(rule: Rule) -> dict[str, Any]:
    """A rule as a test vector has it."""
    others = ("stabilizer", "bias", "eps")
    parameters = {name: value for name, value in vars(rule).items() if name not in others}
    stabilizer = {"kind": rule.stabilizer.kind, "value": rule.stabilizer.value}
    return {"name": rule.name, "stabilizer": stabilizer, "bias": rule.bias, **parameters}


def vector(nodes: list[dict[str, Any]], rule: Rule, x: Array, R: Array) -> dict[str, Any]:
    """A chain of nodes as a test vector has it, the same rule at each."""
    names = ["input", *(node["name"] for node in nodes)]
    pairs = zip(names, nodes, strict=False)
    wired = [{**node, "inputs": [name], "rule": entry(rule)} for name, node in pairs]
    return {"id": "random", "nodes": wired, "input": x, "relevance": R}


def dense(rng: np.random.Generator, rule: Rule) -> tuple[Network, Array, dict[str, Any]]:
    w, b, x = rng.normal(size=(3, 4)), rng.normal(size=3), rng.normal(size=(2, 4))
    network = chain([("layer", layers.Dense(w, b))], (4,))
    node = {"name": "layer", "kind": "dense", "weight": w, "bias": b}
    return network, x, vector([node], rule, x, rng.normal(size=(2, 3)))


def convolution(rng: np.random.Generator, rule: Rule) -> tuple[Network, Array, dict[str, Any]]:
    w, b, x = rng.normal(size=(4, 2, 2, 3)), rng.normal(size=4), rng.normal(size=(2, 4, 5, 6))
    geometry = {"stride": (2, 1), "padding": (1, 1, 1, 1), "dilation": (1, 2), "groups": 2}
    layer = layers.Conv2d(w, b, **geometry)  # type: ignore[arg-type]
    network = chain([("layer", layer)], (4, 5, 6))
    node = {"name": "layer", "kind": "conv2d", "weight": w, "bias": b, **geometry}
    return network, x, vector([node], rule, x, rng.normal(size=(2, *network.shapes["layer"])))


CASES = [(name, rule) for name, chosen in RULES.items() for rule in chosen]


@pytest.mark.parametrize(("library", "rule"), CASES, ids=[f"{name}-{rule}" for name, rule in CASES])
@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_layers_at_random(library: str, rule: Rule, make: Callable[..., Any]) -> None:
    adapter = importlib.import_module(f"lrpref.conformance.adapters.libraries.{library}")
    adapter.version()
    for seed in range(5):
        network, x, case = make(np.random.default_rng(seed), rule)
        made = lrpref.explain(network, x, case["relevance"], rules={"layer": rule}, dialect=library)
        assert difference(made.relevance, adapter.explain(case)["R"]) <= SAME


def test_the_dialects_are_needed() -> None:
    """By the chapter alone these layers differ, so that the tests above can fail."""
    chosen = {"zennit": WSquare(), "captum": ZPlus(), "autolrp": Zero(), "lxt": Epsilon(0.25)}
    for library, rule in chosen.items():
        adapter = importlib.import_module(f"lrpref.conformance.adapters.libraries.{library}")
        adapter.version()
        network, x, case = dense(np.random.default_rng(0), rule)
        made = lrpref.explain(network, x, case["relevance"], rules={"layer": rule})
        assert difference(made.relevance, adapter.explain(case)["R"]) > 1e-3


# Networks


def at_random(name: str, size: int) -> Network:
    """An architecture for pictures of this size, with weights that keep its values in range."""
    rng, architecture = np.random.default_rng(0), architectures.get(name)
    tensors = {}
    for key, shape in expected_tensors(architecture).items():
        if len(shape) > 1:
            tensors[key] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif key.endswith(("weight", "running_var")):
            tensors[key] = rng.uniform(0.5, 1.5, shape)
        else:
            tensors[key] = rng.normal(0, 0.1, shape)
    network = make_network(architecture, tensors)
    pictures = Preprocessing((size, size), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return replace(network, input_shape=(3, size, size), preprocessing=pictures)


def picture(network: Network) -> Array:
    assert network.preprocessing is not None
    channels, *size = network.input_shape
    return network.preprocessing.normalise(np.random.default_rng(1).integers(0, 256, (1, *size, channels)))


@pytest.fixture(scope="module")
def vgg16() -> Network:
    return at_random("vgg16", 96)


@pytest.fixture(scope="module")
def squeezenet() -> Network:
    return at_random("squeezenet1_1", 96)


@pytest.fixture(scope="module")
def resnet() -> Network:
    return at_random("cifar-resnet20", 32)


@pytest.fixture(scope="module")
def embedded() -> Network:
    return data.embedded()


ZENNIT = (
    "epsilon-gamma-box", "epsilon-plus", "epsilon-plus-flat",
    "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat", "excitation-backprop",
)  # fmt: skip


def largest_difference(ours: Explanation, theirs: adapters.Run) -> float:
    """Over all nodes that the peer tells of."""
    return max(difference(ours.relevances[name], R) for name, R in theirs.relevance.items())


@pytest.mark.parametrize("composite", ZENNIT)
@pytest.mark.parametrize("name", ["embedded", "resnet", "squeezenet", "vgg16"])
def test_zennits_composites(name: str, composite: str, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(name)
    x = picture(network)
    theirs = adapters.run(network, x, "max", composite)
    ours = lrpref.explain(network, x, "max", composite, dialect="zennit")
    assert sum(undecided(ours).values()) == 0
    assert largest_difference(ours, theirs) <= SAME


def test_zennits_excitation_backprop_takes_the_slope_of_relu6() -> None:
    """It has no entry for activations, so that the gradient counts: 0 where ReLU6 is saturated."""
    rng = np.random.default_rng(0)
    dense = [layers.Dense(rng.normal(size=shape), rng.normal(size=shape[0])) for shape in ((8, 4), (3, 8))]
    network = chain([("fc1", dense[0]), ("relu6", layers.ReLU6()), ("fc2", dense[1])], (4,))
    x = 10 * rng.normal(size=(2, 4))
    theirs = adapters.run(network, x, 0, "excitation-backprop")
    dialect = dialects.get("zennit").with_settings(D19="gradient")
    ours = lrpref.explain(network, x, 0, "excitation-backprop", dialect=dialect)
    assert largest_difference(ours, theirs) <= SAME
    passed = lrpref.explain(network, x, 0, "excitation-backprop", dialect="zennit")
    assert difference(passed.relevance, theirs.relevance["input"]) > 1e-3


def test_these_are_all_of_zennits_composites() -> None:
    adapters.require("zennit")
    from lrpref.conformance.adapters.zennit_adapter import NAMED

    assert sorted(ZENNIT) == sorted(NAMED)


def captums(convolution: Rule) -> Callable[[Network], Mapping[str, Rule]]:
    """Rules that Captum has: one for the convolutions, and its default, epsilon 1e-9, for the rest."""

    def choose(network: Network) -> dict[str, Rule]:
        linear = [node for node in network.nodes if node.layer.is_linear]
        own: dict[str, Rule] = {"convolution": convolution, "max-pooling": WinnerTakeAll()}
        return {node.name: own.get(node.layer.role, Epsilon(1e-9)) for node in linear}

    return choose


CAPTUM = (Epsilon(1e-9), Epsilon(1e-6), Gamma(0.25), ZPlus(), ZPlus(bias="ignore"))


@pytest.mark.parametrize("rule", CAPTUM, ids=map(str, CAPTUM))
@pytest.mark.parametrize("name", ["squeezenet", "vgg16"])
@pytest.mark.filterwarnings("ignore")
def test_captums_rules(name: str, rule: Rule, request: pytest.FixtureRequest) -> None:
    network: Network = request.getfixturevalue(name)
    x, chosen = picture(network), captums(rule)(network)
    theirs = adapters.run(network, x, "max", chosen, peer="captum")
    ours = lrpref.explain(network, x, "max", rules=chosen, dialect="captum")
    assert sum(undecided(ours).values()) == 0
    assert difference(ours.relevance, theirs.relevance["input"]) <= SAME
