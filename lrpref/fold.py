"""From a network to its canonical form, the same function: batch norms folded (Section 10.3.2)."""

from __future__ import annotations

from dataclasses import replace

from lrpref.layers import BatchNorm, Pad
from lrpref.network import Network, Node


def fold(network: Network) -> Network:
    """
    Absorb every batch norm into a neighbouring dense or convolution layer, where there is one.

    A batch norm goes backward into the linear layer before it, if nothing else reads that layer; else
    forward into the linear layer after it, if that is its only reader (not through zero padding, unless the
    shift is 0). On its way it crosses layers with which it commutes: dropout, average pooling without counted
    padding, max pooling where it scales by factors > 0, forward also flattening. What has no such neighbour
    stays, a diagonal linear layer.

    Parameters
    ----------
    network : Network
        Any network; its weights may be of any arithmetic. Floats are multiplied in float64.

    Returns
    -------
    Network
        The same function, up to rounding of the weights; exactly the same in exact arithmetic.
        `merged` tells which node's output now stands for that of a batch norm that went backward.
    """
    for name in [node.name for node in network.nodes if isinstance(node.layer, BatchNorm)]:
        node = network.node(name)  # as it reads now: a batch norm before it may be gone
        if isinstance(node.layer, BatchNorm):
            network = _backward(network, node, node.layer) or _forward(network, node) or network
    return network


def merge_padding(network: Network) -> Network:
    """
    Merge a layer of constant zeros into the convolution that alone reads it, wherever there is one.

    Implicit padding is never in the image: no rule hands relevance to it. An explicit layer's cells
    do receive relevance (account `padding`), under z^B much of it.

    Parameters
    ----------
    network : Network
        Any network.

    Returns
    -------
    Network
        The same function, exactly.
    """
    for node in reversed(network.nodes):  # of two in a row the second goes first
        if isinstance(node.layer, Pad):
            network = _forward(network, network.node(node.name)) or network
    return network


def _backward(network: Network, node: Node, norm: BatchNorm) -> Network | None:
    """Merge a batch norm into the nearest linear layer below it that it alone reaches."""
    below = {n.name: n for n in network.nodes}
    before = below.get(node.inputs[0])
    while before is not None and len(network.consumers(before.name)) == 1:
        layer = before.layer.followed_by(norm)
        if layer is not None:
            kept = [n for n in network.nodes if n is not node]
            nodes = [replace(n, layer=layer) if n is before else _reading(n, node) for n in kept]
            merged = {**network.merged, node.name: node.inputs[0]}
            return replace(network, nodes=tuple(nodes), merged=merged)
        same = before.layer.carries(norm, network.shapes[before.inputs[0]]) is norm
        before = below.get(before.inputs[0]) if same else None
    return None


def _forward(network: Network, node: Node) -> Network | None:
    """Merge a batch norm or a padding into the nearest layer above that takes it."""
    name, moved = node.name, node.layer
    while len(consumers := network.consumers(name)) == 1:
        (after,) = consumers
        layer = after.layer.preceded_by(moved)
        if layer is not None:
            kept = [n for n in network.nodes if n is not node]
            nodes = [_reading(replace(n, layer=layer) if n is after else n, node) for n in kept]
            return replace(network, nodes=tuple(nodes))
        carried = after.layer.carries(moved, network.shapes[name]) if isinstance(moved, BatchNorm) else None
        if carried is None:
            return None
        name, moved = after.name, carried
    return None


def _reading(node: Node, gone: Node) -> Node:
    """Let a node read what a node that is gone has read."""
    return replace(node, inputs=tuple(gone.inputs[0] if name == gone.name else name for name in node.inputs))
