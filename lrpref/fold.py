"""From a network to its canonical form, the same function: batch norms folded (Section 10.3.2)."""

from __future__ import annotations

from dataclasses import replace

from lrpref.layers import BatchNorm, Pad
from lrpref.network import Network, Node


def fold(network: Network, *, forward: bool = True) -> Network:
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
    forward : bool
        Whether a batch norm may go into the layer after it.

    Returns
    -------
    Network
        The same function, up to rounding of the weights; exactly the same in exact arithmetic.
        `merged` tells which node's output now stands for that of a batch norm that went backward.
    """
    graph = _Graph(network)
    norms = [(node.name, node.layer) for node in network.nodes if isinstance(node.layer, BatchNorm)]
    left = [name for name, norm in norms if not graph.merge_backward(name, norm)]
    for name in reversed(left if forward else []):  # of two in a row the second goes first
        graph.merge_forward(name)
    return graph.network()


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
    graph = _Graph(network)
    for node in reversed(network.nodes):  # of two in a row the second goes first
        if isinstance(node.layer, Pad):
            graph.merge_forward(node.name)
    return graph.network()


class _Graph:
    """A network whose nodes are being merged: who reads whom is kept as it changes."""

    def __init__(self, network: Network) -> None:
        self.original = network
        self.nodes = {node.name: node for node in network.nodes}
        self.merged = dict(network.merged)
        self.readers: dict[str, list[str]] = {name: [] for name in network.shapes}
        for node in network.nodes:
            for name in node.inputs:
                self.readers[name].append(node.name)

    def network(self) -> Network:
        if len(self.nodes) == len(self.original.nodes):
            return self.original
        return replace(self.original, nodes=tuple(self.nodes.values()), merged=self.merged)

    def merge_backward(self, name: str, norm: BatchNorm) -> bool:
        """Merge a batch norm into the nearest linear layer below it that it alone reaches."""
        source = self.nodes[name].inputs[0]
        before, changed = self.nodes.get(source), set()
        while before is not None and len(self.readers[before.name]) == 1:
            changed.add(before.name)
            layer = before.layer.followed_by(norm)
            if layer is not None:
                self._remove(name, replace(before, layer=layer))
                still = {gone: here for gone, here in self.merged.items() if here not in changed}
                self.merged = {**still, name: source}
                if name == self.original.top:
                    self.nodes[source] = self.nodes.pop(source)  # the last node is the output
                return True
            same = before.layer.carries(norm, self.original.shapes[before.inputs[0]]) is norm
            before = self.nodes.get(before.inputs[0]) if same else None
        return False

    def merge_forward(self, name: str) -> bool:
        """Merge a batch norm or a padding into the nearest layer above that takes it."""
        moved, below = self.nodes[name].layer, name
        while len(self.readers[below]) == 1:
            after = self.nodes[self.readers[below][0]]
            layer = after.layer.preceded_by(moved)
            if layer is not None:
                self._remove(name, replace(after, layer=layer))
                return True
            if not isinstance(moved, BatchNorm):
                return False
            carried = after.layer.carries(moved, self.original.shapes[below])
            if carried is None:
                return False
            moved, below = carried, after.name
        return False

    def _remove(self, name: str, merged: Node) -> None:
        """Take a node out; another computes what both did."""
        self.nodes[merged.name] = merged
        source, readers = self.nodes.pop(name).inputs[0], self.readers.pop(name)
        self.readers[source].remove(name)
        self.readers[source] += readers
        for reader in set(readers):
            node = self.nodes[reader]
            inputs = tuple(source if read == name else read for read in node.inputs)
            self.nodes[reader] = replace(node, inputs=inputs)
