"""Canonical forms are the same function: exactly, in exact arithmetic."""

import numpy as np
import pytest

import lrpref
from lrpref import exact
from lrpref.fold import fold, merge_padding
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    Pad,
    ReLU,
    Reshape,
)
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


SPREAD = Conv2d(quarters(2, 2, 1, 1), quarters(2))
A, N, M = Dense(quarters(3, 3)), norm(3), norm(3)
CHAINS = {
    "after a convolution": ([Conv2d(quarters(4, 3, 2, 2), quarters(4)), norm(4)], (3, 4, 4), 0),
    "after groups without bias": ([Conv2d(quarters(4, 1, 2, 2), groups=2), norm(4)], (2, 4, 4), 0),
    "before groups": ([norm(4), Conv2d(quarters(6, 2, 2, 2), groups=2)], (4, 3, 3), 0),
    "before dense": ([N, Dense(quarters(2, 3), quarters(2))], (3,), 0),
    "two after dense": ([A, N, M, ReLU()], (3,), 0),
    "two before dense": ([ReLU(), N, M, Dense(quarters(2, 3))], (3,), 0),
    "between two": ([A, N, M, Dense(quarters(2, 3))], (3,), 0),
    "shift before padding": ([norm(2), Conv2d(quarters(2, 2, 2, 2), padding=1)], (2, 3, 3), 1),
    "no shift before padding": (
        [BatchNorm(quarters(2), np.zeros(2)), Conv2d(quarters(2, 2, 2, 2), padding=1)], (2, 3, 3), 0
    ),
    "behind a ReLU": ([ReLU(), N, ReLU()], (3,), 1),
    "across dropout, backward": ([A, Dropout(), N, ReLU()], (3,), 0),
    "across dropout, forward": ([ReLU(), N, Dropout(), A], (3,), 0),
    "across flatten, forward": ([ReLU(), norm(2), Flatten(), Dense(quarters(3, 18))], (2, 3, 3), 0),
    "across flatten, not backward": ([SPREAD, Flatten(), norm(18)], (2, 3, 3), 1),
    "across a reshaping that keeps the channels": (
        [ReLU(), norm(2), Reshape((2, 1, 9)), Conv2d(quarters(3, 2, 1, 3))], (2, 3, 3), 0),
    "across one that does not": (
        [ReLU(), norm(2), Reshape((6, 3, 1)), Conv2d(quarters(3, 6, 1, 1))], (2, 3, 3), 1),
    "across averages, forward": ([ReLU(), norm(2), AvgPool2d(2, 1), SPREAD, ReLU()], (2, 4, 4), 0),
    "across averages, backward": ([SPREAD, AdaptiveAvgPool2d(2), norm(2), ReLU()], (2, 4, 4), 0),
    "across averages over a padding": ([SPREAD, AvgPool2d(2, 1, 1), norm(2), ReLU()], (2, 4, 4), 1),
    "across averages beside a padding": (
        [SPREAD, AvgPool2d(2, 1, 1, count_include_pad=False), norm(2), ReLU()], (2, 4, 4), 0),
    "across averages over a padding, without shift": (
        [SPREAD, AvgPool2d(2, 1, 1), BatchNorm(quarters(2), np.zeros(2)), ReLU()], (2, 4, 4), 0),
    "across another divisor": ([SPREAD, AvgPool2d(2, 1, divisor=3), norm(2), ReLU()], (2, 4, 4), 1),
    "across maxima of the same order": (
        [SPREAD, MaxPool2d(2, 1, 1), BatchNorm(np.array([0.5, 2.0]), quarters(2)), ReLU()], (2, 4, 4), 0),
    "across maxima of another order": (
        [SPREAD, MaxPool2d(2, 1, 1), BatchNorm(np.array([-0.5, 2.0]), quarters(2)), ReLU()], (2, 4, 4), 1),
    "across two": (
        [SPREAD, MaxPool2d(2, 1), Dropout(), BatchNorm(np.ones(2), quarters(2)), ReLU()], (2, 4, 4), 0),
    "before maxima and after them": (
        [SPREAD, norm(2), MaxPool2d(2, 1), BatchNorm(np.ones(2), quarters(2)), ReLU()], (2, 4, 4), 0),
    "transposed, in groups": (
        [ConvTranspose2d(quarters(4, 3, 2, 2), stride=2, groups=2), norm(6), ReLU()], (4, 2, 2), 0),
    "before a transposed one": (
        [ReLU(), BatchNorm(quarters(4), np.zeros(4)), ConvTranspose2d(quarters(4, 3, 2, 2), groups=2)],
        (4, 2, 2), 0),
    "shift before a transposed one": ([ReLU(), norm(4), ConvTranspose2d(quarters(4, 3, 2, 2))], (4, 2, 2), 1),
    "across two, forward": (
        [ReLU(), norm(2), AdaptiveAvgPool2d(), Flatten(), Dense(quarters(3, 2))], (2, 4, 4), 0),
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
    x = F.array(quarters(2, *shape))
    before, after = (n.astype(F).activations(x, REFERENCE) for n in (network, folded))
    for gone, here in folded.merged.items():  # the norm's value is that of the node that stands for it
        assert (before[gone] == after[here]).all()


def test_a_norm_at_the_top_leaves_its_layer_there():
    nodes = (
        Node("fc", Dense(quarters(3, 3)), (INPUT,)),
        Node("nobody reads it", ReLU(), (INPUT,)),
        Node("norm", norm(3), ("fc",)),
    )
    network = Network(nodes, (3,))
    assert fold(network).top == "fc"
    assert same(network, fold(network.astype(F)), (3,))


def test_two_paddings_in_a_row_merge_both():
    layers = [Pad(1), Pad((0, 1)), Conv2d(quarters(2, 2, 2, 2)), Flatten()]
    network = chain([(f"layer{i}", layer) for i, layer in enumerate(layers)], (2, 3, 3))
    merged = merge_padding(network)
    assert same(network, merged, (2, 3, 3))
    assert [node.layer.kind for node in merged.nodes] == ["Conv2d", "Flatten"]


def test_channels_of_zeros_do_not_merge():
    layers = [Pad(1, channels=(1, 0)), Conv2d(quarters(2, 3, 2, 2)), Flatten()]
    network = chain([(f"layer{i}", layer) for i, layer in enumerate(layers)], (2, 3, 3))
    assert len(merge_padding(network).nodes) == 3


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
