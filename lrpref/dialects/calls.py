"""A layer that is used more than once, as libraries have it whose hooks belong to the module (D22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lrpref.engine import Known, Prepared, Step
from lrpref.errors import BadRule
from lrpref.kernels.operations import Array
from lrpref.network import Network


class LastCall(Prepared):
    """
    One use of a layer, which sees what the last use saw: a hook that remembers one input.

    Parameters
    ----------
    use : Prepared
        The use.
    last : dict
        What the last use saw, by "inputs" and "z": one for all uses.
    """

    def __init__(self, use: Prepared, last: dict[str, list[Array]]) -> None:
        self.__dict__.update(use.__dict__)
        self.known = Known()
        self.last = last

    def forward(self, inputs: Sequence[Array]) -> Array:
        z = super().forward(inputs)
        self.last.update(inputs=list(inputs), z=[z])
        return z

    def step(
        self,
        name: str,
        inputs: Sequence[Array],
        z: Array,
        R: Array,
        arriving: Array | None = None,
        s: Array | None = None,
    ) -> Step:
        (last,) = self.last["z"]
        if last.shape != z.shape:
            raise BadRule(f"a layer is used at two sizes, {z.shape[1:]} and {last.shape[1:]}")
        return super().step(name, self.last["inputs"], last, R, arriving)


def shared(network: Network) -> list[list[str]]:
    """
    Find the layers with weights that are used more than once.

    Parameters
    ----------
    network : Network
        A network.

    Returns
    -------
    list of list of str
        The nodes of each.
    """
    uses: dict[int, list[str]] = {}
    for node in network.nodes:
        if hasattr(node.layer, "weight"):
            uses.setdefault(id(node.layer), []).append(node.name)
    return [names for names in uses.values() if len(names) > 1]


def with_last_calls(network: Network, prepared: Mapping[str, Prepared]) -> dict[str, Prepared]:
    """
    Let all uses of a layer see what the last of them saw.

    Parameters
    ----------
    network : Network
        The network as it is.
    prepared : mapping of str to Prepared
        The nodes of its canonical form.

    Returns
    -------
    dict of str to Prepared
        The same, but for the layers that are used more than once.
    """
    made = dict(prepared)
    for names in shared(network):
        last: dict[str, list[Array]] = {}
        made |= {name: LastCall(made[name], last) for name in names if name in made}
    if made != prepared:  # what is known of zeros holds where each use sees its own inputs
        for ready in made.values():
            ready.known = Known()
    return made
