"""From a network to its canonical form, the same function: batch norms folded (Section 10.3.2)."""

from __future__ import annotations

from dataclasses import replace

from lrpref.layers import BatchNorm, Pad
from lrpref.network import Network, Node


def fold(network: Network) -> Network:
    """
    Absorb every batch norm into an adjacent dense or convolution layer, where there is one.

    A batch norm goes into the layer before it if that layer has no other reader; else into the layer
    after it if that is its only reader (not through a convolution's zero padding, unless the shift is
    0). What has no such neighbour stays, a diagonal linear layer.

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
    for node in network.nodes:
        if isinstance(node.layer, Pad):
            network = _forward(network, node) or network
    return network


def _backward(network: Network, node: Node, norm: BatchNorm) -> Network | None:
    """Merge a batch norm into the layer that it reads; the merged layer keeps that layer's name."""
    before = next((n for n in network.nodes if n.name == node.inputs[0]), None)
    if before is None or len(network.consumers(before.name)) != 1:
        return None
    layer = before.layer.followed_by(norm)
    if layer is None:
        return None
    merged = replace(before, layer=layer)
    nodes = [_reading(n, node.name, before.name) for n in network.nodes if n is not before]
    nodes = [merged if n.name == node.name else n for n in nodes]  # in the batch norm's place
    return replace(network, nodes=tuple(nodes), merged={**network.merged, node.name: before.name})


def _forward(network: Network, node: Node) -> Network | None:
    """Merge a batch norm or a padding into the only layer that reads it."""
    consumers = network.consumers(node.name)
    layer = consumers[0].layer.preceded_by(node.layer) if len(consumers) == 1 else None
    if layer is None:
        return None
    merged = replace(consumers[0], layer=layer, inputs=node.inputs)
    nodes = [merged if n is consumers[0] else n for n in network.nodes if n is not node]
    return replace(network, nodes=tuple(nodes))


def _reading(node: Node, old: str, new: str) -> Node:
    return replace(node, inputs=tuple(new if name == old else name for name in node.inputs))
