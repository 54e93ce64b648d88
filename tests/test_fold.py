"""Canonical forms are the same function: exactly, in exact arithmetic."""

import numpy as np
import pytest

import lrpref
from lrpref import exact
from lrpref.fold import fold, merge_padding
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import BatchNorm, Conv2d, Dense, Flatten, Pad, ReLU
from lrpref.network import INPUT, Network, Node, chain

draw = np.random.default_rng(0)
F = exact.FRACTIONS


def quarters(*shape):
    return draw.integers(-8, 9, shape) / 4


def norm(channels):
    return BatchNorm(quarters(channels), quarters(channels))


def same(network, other, shape):
    x = F.array(quarters(2, *shape))
    values = [n.astype(F).activations(x, REFERENCE)[n.top] for n in (network, other)]
    return (values[0] == values[1]).all()


A, N, M = Dense(quarters(3, 3)), norm(3), norm(3)
CHAINS = {
    "after a convolution": ([Conv2d(quarters(4, 3, 2, 2), quarters(4)), norm(4)], (3, 4, 4), 0),
    "after groups without bias": ([Conv2d(quarters(4, 1, 2, 2), groups=2), norm(4)], (2, 4, 4), 0),
    "before groups": ([norm(4), Conv2d(quarters(6, 2, 2, 2), groups=2)], (4, 3, 3), 0),
    "before dense": ([N, Dense(quarters(2, 3), quarters(2))], (3,), 0),
    "two after dense": ([A, N, M, ReLU()], (3,), 0),
    "between two": ([A, N, M, Dense(quarters(2, 3))], (3,), 0),
    "shift before padding": ([norm(2), Conv2d(quarters(2, 2, 2, 2), padding=1)], (2, 3, 3), 1),
    "no shift before padding": (
        [BatchNorm(quarters(2), np.zeros(2)), Conv2d(quarters(2, 2, 2, 2), padding=1)], (2, 3, 3), 0
    ),
    "behind a ReLU": ([ReLU(), N, ReLU()], (3,), 1),
}  # fmt: skip
"""Layers, the shape of a sample, and how many batch norms are left."""


@pytest.mark.parametrize("name", CHAINS)
def test_folding(name):
    layers, shape, left = CHAINS[name]
    network = chain([(f"layer{i}", layer) for i, layer in enumerate(layers)], shape)
    folded = fold(network.astype(F))
    assert same(network, folded, shape)
    assert sum(isinstance(node.layer, BatchNorm) for node in folded.nodes) == left
    assert set(folded.merged.values()) <= {node.name for node in folded.nodes}


def test_a_layer_with_two_readers_keeps_its_numbers():
    nodes = (
        Node("fc", Dense(quarters(3, 3)), (INPUT,)),
        Node("norm", norm(3), ("fc",)),
        Node("relu", ReLU(), ("norm",)),
        Node("sum", lrpref.layers.Add(), ("fc", "relu")),
    )
    network = Network(nodes, (3,))
    assert same(network, fold(network.astype(F)), (3,))
    assert [node.name for node in fold(network).nodes] == ["fc", "norm", "relu", "sum"]


def test_zeros_merge_into_the_convolution():
    def padded(value):
        return chain(
            [("pad", Pad((1, 0, 2, 1), value)), ("conv", Conv2d(quarters(2, 2, 2, 2), padding=1)),
             ("flat", Flatten()), ("fc", Dense(quarters(2, 70)))], (2, 3, 3),
        )  # fmt: skip

    network = padded(0.0)
    merged = merge_padding(network)
    assert [node.name for node in merged.nodes] == ["conv", "flat", "fc"]
    assert same(network, merged, (2, 3, 3))
    assert len(merge_padding(padded(1.0)).nodes) == 4
    x = abs(quarters(1, 2, 3, 3))
    rules = {"conv": lrpref.rules.ZBox(-1, 9), "fc": lrpref.rules.Epsilon(0.25)}
    leaks = lrpref.explain(network, x, 0, rules=rules).ledger.account("padding")
    assert leaks[0] != 0
    assert lrpref.explain(merged, x, 0, rules=rules).ledger.account("padding")[0] == 0
