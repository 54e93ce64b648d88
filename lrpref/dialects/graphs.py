"""Where a library's graph has other nodes than lrpref's: the same function, with nodes of the library's own.

A node that is made here is named after the one that it belongs to: `conv#bias`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lrpref.errors import BadRule
from lrpref.exact import arithmetic_of
from lrpref.kernels.operations import Array
from lrpref.kernels.signs import equal, zeros_like
from lrpref.layers import Activation, Add, Conv2d, Identity, Layer, Pad, Weighted
from lrpref.network import Network, Node
from lrpref.rules import Pass, Rule, Stabilizer

MADE = "#"
"""Stands in the names of the nodes that are made here."""

Ruled = tuple[Network, dict[str, Rule]]
"""A network, and the rule of every node."""


@dataclass(frozen=True, eq=False)
class BiasSplit(Layer):
    """
    The bias of a linear layer as a layer of its own, which takes |b| / (|z| + |b| + eps) of R (D3).

    Parameters
    ----------
    bias : ndarray
        b, broadcastable to z.
    stabilizer : Stabilizer
        eps.
    """

    bias: Array
    stabilizer: Stabilizer

    @property
    def way(self) -> str:
        """How relevance goes through."""
        return "bias-split"

    def forward(self, kernels: Any, *inputs: Array) -> Array:
        return inputs[0] + kernels.upload(self.bias)

    def gradient(self, kernels: Any, inputs: Sequence[Array], g: Array) -> list[Array]:
        return [g]

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        z, R = abs(kernels.download(inputs[0])), kernels.download(R)
        b = abs(zeros_like(z) + self.bias)
        eps = zeros_like(z) + arithmetic_of(z).number(self.stabilizer.value)
        total = z + b + eps
        nothing = equal(total, 0)
        s = np.where(nothing, zeros_like(R), R / np.where(nothing, total + 1, total))
        books = {"bias": s * b, "stabilizer": s * eps, "dropped": np.where(nothing, R, zeros_like(R))}
        return [kernels.upload(z * s)], {name: kernels.upload(x) for name, x in books.items()}


@dataclass(frozen=True)
class TimesInput(Identity):
    """The identity, but for relevance, which is taken for a coefficient c and multiplied with a (D17)."""

    moves = False

    @property
    def way(self) -> str:
        """How relevance goes through."""
        return "times-input"

    def handed(
        self, kernels: Any, inputs: Sequence[Array], R: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        part = inputs[0] * R
        return [part], {"dropped": R - part}


def _made(network: Network, nodes: Iterable[Node], rules: Mapping[str, Rule], **merged: str) -> Ruled:
    """Give the network of these nodes; those that are made and have no rule yet let relevance pass."""
    nodes = tuple(nodes)
    known = {node.name: rules.get(node.name, Pass()) for node in nodes}
    return replace(network, nodes=nodes, merged={**network.merged, **merged}), known


def split_biases(network: Network, rules: Mapping[str, Rule]) -> Ruled:
    """
    Make every bias a node of its own behind its linear layer (D3).

    Parameters
    ----------
    network : Network
        A network.
    rules : mapping of str to Rule
        The rule of every node.

    Returns
    -------
    network : Network
        The same function; the bias of `conv` is the node `conv#bias`, which `conv`'s readers read.
    rules : dict of str to Rule
        The rule of every node.
    """
    nodes: list[Node] = []
    moved: dict[str, str] = {}
    for node in network.nodes:
        layer, inputs = node.layer, tuple(moved.get(name, name) for name in node.inputs)
        if not isinstance(layer, Weighted) or layer.bias is None:
            nodes.append(replace(node, inputs=inputs))
            continue
        name = moved[node.name] = f"{node.name}{MADE}bias"
        column = layer.bias.reshape(-1, *[1] * (len(network.shapes[node.name]) - 1))
        own = BiasSplit(column, rules[node.name].stabilizer)
        nodes += [Node(node.name, replace(layer, bias=None), inputs), Node(name, own, (node.name,))]
    return _made(network, nodes, rules, **moved)


def pad_uneven(network: Network, rules: Mapping[str, Rule]) -> Ruled:
    """
    Make a padding that differs from side to side a node of its own, before its convolution (D12).

    Parameters
    ----------
    network : Network
        A network.
    rules : mapping of str to Rule
        The rule of every node.

    Returns
    -------
    network : Network
        The same function; what `conv` reads is padded by the node `conv#pad`.
    rules : dict of str to Rule
        The rule of every node.
    """
    nodes: list[Node] = []
    for node in network.nodes:
        if isinstance(node.layer, Conv2d):
            top, bottom, left, right = sides = node.layer.window().padding
            if (top, left) != (bottom, right):
                pad = Node(f"{node.name}{MADE}pad", Pad(sides, 0), node.inputs)
                nodes.append(pad)
                node = Node(node.name, replace(node.layer, padding=0), (pad.name,))
        nodes.append(node)
    return _made(network, nodes, rules)


def nest_sums(network: Network, rules: Mapping[str, Rule]) -> Ruled:
    """
    Add two branches at a time, from the first to the last (D17).

    Parameters
    ----------
    network : Network
        A network.
    rules : mapping of str to Rule
        The rule of every node.

    Returns
    -------
    network : Network
        The same function; `sum` of a, b and c is (a + b) + c, the node `sum#1` and `sum`.
    rules : dict of str to Rule
        The rule of every node.
    """
    nodes: list[Node] = []
    own: dict[str, Rule] = {}
    for node in network.nodes:
        if isinstance(node.layer, Add):
            total, *others, last = node.inputs
            for i, branch in enumerate(others, 1):
                nodes.append(Node(f"{node.name}{MADE}{i}", node.layer, (total, branch)))
                total = nodes[-1].name
                own[total] = rules[node.name]
            node = replace(node, inputs=(total, last))
        nodes.append(node)
    return _made(network, nodes, {**rules, **own})


def multiply_branches(network: Network, rules: Mapping[str, Rule]) -> Ruled:
    """
    Multiply what reaches a value past the rules that read it (D17).

    Such a library turns c into R = a c at each value that a layer with a rule reads, for all that arrives
    there: also for what arrives from a layer without a rule, and is R already.

    Parameters
    ----------
    network : Network
        A network.
    rules : mapping of str to Rule
        The rule of every node.

    Returns
    -------
    network : Network
        The same function; what `concat` reads beside a linear layer is the node `concat#1`.
    rules : dict of str to Rule
        The rule of every node.

    Raises
    ------
    BadRule
        If an activation reads a value that others read too: what then happens is not modelled.
    """
    ruled = {name for node in network.nodes if node.layer.is_linear for name in node.inputs}
    nodes: list[Node] = []
    for node in network.nodes:
        if isinstance(node.layer, Activation) and len(network.consumers(*node.inputs)) > 1:
            raise BadRule(f"node '{node.name}': an activation whose input others read is not modelled")
        if not node.layer.is_linear:
            inputs = []
            for i, name in enumerate(node.inputs, 1):
                if name in ruled:
                    nodes.append(Node(f"{node.name}{MADE}{i}", TimesInput(), (name,)))
                    name = nodes[-1].name
                inputs.append(name)
            node = replace(node, inputs=tuple(inputs))
        nodes.append(node)
    return _made(network, nodes, rules)
