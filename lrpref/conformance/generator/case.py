"""A case: a small network, an input and relevances, before the generator has computed what comes out.

Its rules and layers are made by `parts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lrpref.conformance.generator.geometry import Array
from lrpref.conformance.generator.parts import Node

CHAPTER = "Montavon et al. 2019"

_SOURCES = {
    "zero": "Section 10.2.1 and Appendix 10.A, LRP-0",
    "epsilon": "Section 10.2.1 and Appendix 10.A, LRP-epsilon",
    "gamma": "Section 10.2.1 and Appendix 10.A, LRP-gamma",
    "generalized-gamma": "Section 10.2.1, LRP-gamma; generalized to inputs and outputs of any sign",
    "alpha-beta": "Appendix 10.A, LRP-alpha-beta",
    "z-plus": "Appendix 10.A, LRP-alpha1-beta0",
    "flat": "Appendix 10.A, flat",
    "w2": "Appendix 10.A, w^2-rule",
    "z-box": "Appendix 10.A, z^B-rule",
    "pass": "Section 10.3.2",
    "winner-take-all": "Section 10.3.2",
}


@dataclass(frozen=True)
class Convention:
    """
    Another answer that the field gives to the same case.

    Parameters
    ----------
    used_by : sequence of str
        Libraries whose answer it is.
    flag : str
        The dimension in which it differs.
    nodes : sequence of mapping, optional
        The network that gives this answer; its rules may be those of `generator.conventions`.
    R : Array, optional
        The relevance of the output from which it starts.
    """

    used_by: Sequence[str]
    flag: str
    nodes: Sequence[Node] | None = None
    R: Array | None = None


@dataclass(frozen=True)
class Case:
    """
    One vector, before it is computed.

    Parameters
    ----------
    id : str
        family/rule/what.
    comment : str
        What a reader should see in it.
    nodes : sequence of mapping
        The network in topological order.
    x, R : Array, shape (N, ...)
        Input, and relevance of the output.
    flags : sequence of str
        The dimensions that it isolates.
    tags : sequence of str
        `tiny`: small enough for slow emulators.
    conventions : mapping of str to Convention
        The other answers; those that turn out to be the chapter's are left out.
    """

    id: str
    comment: str
    nodes: Sequence[Node]
    x: Array
    R: Array
    flags: Sequence[str] = ()
    tags: Sequence[str] = ()
    conventions: Mapping[str, Convention] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """Where the chapter defines it."""
        places = [_SOURCES[node["rule"]["name"]] for node in self.nodes if node["rule"] is not None]
        return "; ".join([f"{CHAPTER}, {place}" for place in dict.fromkeys(places)]) or CHAPTER


def case(id: str, comment: str, nodes: Sequence[Node], x: Any, R: Any, **options: Any) -> Case:
    """
    Make a case of nested lists.

    Parameters
    ----------
    id, comment : str
        Its name, and what a reader should see in it.
    nodes : sequence of mapping
        The network; nodes without `inputs` read the one before.
    x, R : list of list of ... numbers
        Input, and relevance of the output.
    **options
        `flags`, `tags`, `conventions`.

    Returns
    -------
    Case
        The case.
    """
    flags = options.pop("flags", "").split()
    tags = options.pop("tags", "").split()
    return Case(id, comment, chain(nodes), Array.of(x), Array.of(R), flags, tags, **options)


def chain(nodes: Sequence[Node]) -> list[Node]:
    """
    Let every node without inputs read the one before it.

    Parameters
    ----------
    nodes : sequence of mapping
        In topological order.

    Returns
    -------
    list of dict
        The same, with inputs.
    """
    before = ["input", *(node["name"] for node in nodes[:-1])]
    return [node | {"inputs": node["inputs"] or [name]} for node, name in zip(nodes, before, strict=True)]
