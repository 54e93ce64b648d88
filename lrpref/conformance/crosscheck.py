"""One network and one input, by a peer and by lrpref: where they part, and which definition parts them.

>>> from lrpref.conformance.crosscheck import crosscheck                                 # doctest: +SKIP
>>> found = crosscheck("zennit", net, x, 9, "epsilon-plus")                              # doctest: +SKIP
>>> found.agrees, found.first, found.why                                                 # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import numpy as np

import lrpref
from lrpref import composites
from lrpref.conformance import adapters, verdicts
from lrpref.conformance.isolated import isolated
from lrpref.conformance.verdicts import SAME
from lrpref.dialects import Dialect
from lrpref.errors import BadBackend, LrprefError
from lrpref.explanation import Explanation
from lrpref.fold import fold
from lrpref.heads import Target
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import MaxPool2d
from lrpref.network import INPUT, Network

TIMEOUT = 600.0
"""Seconds for the peer; VGG-16 at 224 pixels takes it 30."""

UNDECIDED = 1e-12
"""Margins of max pooling up to this share of the layer's largest activation are rounding: two orders of a
sum choose different winners there."""


@dataclass(frozen=True)
class Line:
    """
    One node's relevance by the peer and by lrpref.

    Parameters
    ----------
    node, layer, rule : str
        The node, its layer's name, the chapter's rule.
    chapter, dialect : float or None
        Largest difference from the peer's relevance, as a share of the largest |R|; None where the dialect
        has no such rule.
    undecided : int
        How many windows of a max pooling are tied, or won by less than rounding.
    """

    node: str
    layer: str
    rule: str
    chapter: float
    dialect: float | None
    undecided: int


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _norms(network: Network) -> int:
    return sum(node.layer.role == "norm" for node in network.nodes)


@dataclass(frozen=True)
class Crosscheck:
    """
    What was found.

    Parameters
    ----------
    library, version, known : str
        The peer, its version, and the name of its dialect.
    chapter : Explanation
        By lrpref, under the rules as given.
    peer : mapping of str to ndarray
        Relevance by the peer, of the input and of the nodes that it tells of.
    lines : tuple of Line
        A row for each of them, from the top down.
    dimensions : tuple of str
        The dimensions in which the peer differs from the chapter, if its dialect explains it.
    why : str
        What they are, in words; or that the dialect does not explain it.
    date : str
        The day of the run.
    """

    library: str
    version: str
    known: str
    chapter: Explanation
    peer: Mapping[str, Array]
    lines: tuple[Line, ...]
    dimensions: tuple[str, ...] = ()
    why: str = ""
    date: str = field(default_factory=_today)

    @property
    def folded(self) -> int:
        """How many batch norms lrpref had folded into their neighbours before the peer saw the network."""
        return _norms(self.chapter.network) - _norms(self.chapter.canonical)

    @property
    def given(self) -> str:
        """What the peer was given, in one sentence."""
        if not self.folded:
            return "Both were given the same layers, each with the rule that its line names."
        return (
            f"Both were given the canonical form, in which lrpref has folded {self.folded} batch norms into "
            "their neighbours, and for each of its layers the rule that its line names: what the library "
            "itself does with a batch norm is not compared."
        )

    @property
    def first(self) -> Line | None:
        """The first node, from the top down, at which the peer and the chapter differ."""
        return next((line for line in self.lines if not line.chapter <= SAME), None)

    @property
    def stray(self) -> Line | None:
        """The first node at which the peer and its own dialect differ."""
        return next((line for line in self.lines if line.dialect is None or not line.dialect <= SAME), None)

    @property
    def agrees(self) -> bool:
        """Whether the peer agrees, wherever it tells, with the chapter or else with its own dialect."""
        return self.first is None or self.stray is None

    @property
    def undecided(self) -> int:
        """How many windows of max pooling are tied, or won by less than rounding."""
        return sum(line.undecided for line in self.lines)

    def __str__(self) -> str:
        name = f"{self.library} {self.version}".strip()
        told = f"{name} beside the chapter, {len(self.lines)} relevances compared: "
        if self.first is None:
            return f"{told}they agree"
        told += f"they part at '{self.first.node}', by {self.first.chapter:.1e} of the largest |R|. "
        return f"{told}{self.why}"

    def plain(self) -> dict[str, Any]:
        """
        Give what was found as JSON data.

        Returns
        -------
        dict
            Without the relevances.
        """
        return {
            "library": self.library,
            "version": self.version,
            "date": self.date,
            "with": {"python": python_version(), **{name: _version(name) for name in ("numpy", "torch")},
                     "lrpref": lrpref.__version__},
            "dialect": self.known,
            "network": {"name": self.chapter.network.name, "sha256": self.chapter.network.digest},
            "composite": self.chapter.composite,
            "folded norms": self.folded,
            "found": str(self),
            "agrees": self.agrees,
            "first that differs": None if self.first is None else self.first.node,
            "dimensions": list(self.dimensions),
            "why": self.why,
            "undecided windows": self.undecided,
            "nodes": [vars(line) for line in self.lines],
        }  # fmt: skip


def crosscheck(
    library: str,
    network: Network,
    x: Any,
    target: Target = "max",
    composite: Any = "chapter",
    *,
    dialect: Dialect | None = None,
    backend: str = "numpy",
    timeout: float = TIMEOUT,
    watch: Callable[[str], None] | None = None,
) -> Crosscheck:
    """
    Let a peer and lrpref explain the same, and find out what parts them.

    Parameters
    ----------
    library : str
        One of `adapters.PEERS`.
    network : Network
        The network; both get its canonical form.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        What is explained.
    composite : str, path-like or Composite
        Which rule at which layer; the peer gets its own form of each.
    dialect : Dialect, optional
        What the peer is known to mean; by default that of its name.
    backend : str
        Who computes for lrpref.
    timeout : float
        Seconds for the peer.
    watch : callable, optional
        Is told what is done next.

    Returns
    -------
    Crosscheck
        Node by node where the peer tells of nodes.

    Raises
    ------
    BadBackend
        If there is no such peer, it is not installed, or it ends or hangs.
    LrprefError
        If the peer, or lrpref, cannot take the network, the input or the composite.
    """
    if library not in adapters.PEERS:
        known = ", ".join(adapters.PEERS)
        raise BadBackend(f"no adapter lets {library!r} explain whole networks: there are {known}")
    tell = watch or _nobody
    dialect = dialect or verdicts.own_dialect(library)
    x = network.check_input(x)
    tell("lrpref, by the chapter")
    chapter = lrpref.explain(network, x, target, composite, backend=backend)
    canonical = fold(network.before_softmax())
    rules = composites.get(composite).rules(canonical)
    R = chapter.relevances[canonical.top]  # the same start for all: this is about rules
    tell(library)
    try:
        peer = isolated(adapters.run, canonical, x, R, rules, peer=library, timeout=timeout).relevance
    except LrprefError as error:
        raise type(error)(f"{library}: {error}") from None

    def under(tried: Dialect) -> Explanation | None:
        tell(f"lrpref, as {library} does it")
        try:
            return lrpref.explain(canonical, x, R, rules=rules, backend=backend, dialect=tried)
        except LrprefError:
            return None

    def agrees(tried: Dialect) -> bool:
        made = under(tried)
        return made is not None and all(difference(peer[name], made, name) <= SAME for name in compared)

    names = [node.name for node in reversed(chapter.canonical.nodes)] + [INPUT]
    compared = [name for name in names if name in peer and name in chapter.relevances]
    lines = _lines(compared, peer, chapter, under(dialect))
    found = Crosscheck(library, _version(library), dialect.name, chapter, peer, lines)
    if found.first is None:
        return found
    if found.stray is not None:
        why = f"Its dialect '{dialect.name}' does not explain it: they part at '{found.stray.node}'"
        if not np.isfinite(peer[found.stray.node]).all():
            why += ", where its relevance is not finite: is a denominator 0?"
        elif found.undecided:
            why += f"; {found.undecided} windows of max pooling are tied, or won by less than rounding"
        return replace(found, why=why)
    dimensions = verdicts.needed(dialect, agrees)
    return replace(
        found, dimensions=tuple(d.id for d in dimensions), why=verdicts.sentence(dialect, dimensions)
    )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # it is there, but was not installed by name
        return ""


def _nobody(step: str) -> None:
    """Nobody watches."""


def _lines(
    names: list[str], peer: Mapping[str, Array], chapter: Explanation, own: Explanation | None
) -> tuple[Line, ...]:
    windows = undecided(chapter)
    layers = {node.name: node.layer.kind for node in chapter.canonical.nodes}
    return tuple(
        Line(
            name, layers.get(name, ""), str(chapter.rules.get(name, "")),
            difference(peer[name], chapter, name),
            None if own is None else difference(peer[name], own, name),
            windows.get(name, 0),
        )
        for name in names
    )  # fmt: skip


def difference(R: Array, made: Explanation, name: str) -> float:
    """
    Compare two relevances of a node.

    Parameters
    ----------
    R : ndarray
        The peer's.
    made : Explanation
        Ours.
    name : str
        The node, or `"input"`.

    Returns
    -------
    float
        Largest difference, as a share of our largest |R|; infinity where the peer's is not finite.
    """
    ours = made.relevances[name]
    scale = np.abs(ours).max() or 1.0
    return float(np.nan_to_num(np.abs(R - ours), nan=np.inf).max() / scale)


def undecided(made: Explanation) -> dict[str, int]:
    """
    Count the windows of max pooling that are tied or won by less than rounding, and have relevance to give.

    Parameters
    ----------
    made : Explanation
        Whose network and input.

    Returns
    -------
    dict of str to int
        By node.
    """
    values = made.canonical.activations(made.x, REFERENCE)
    counts = {}
    for node in made.canonical.nodes:
        if isinstance(node.layer, MaxPool2d) and node.name in made.relevances:
            a = values[node.inputs[0]]
            best, second = _two_best(node.layer, a)
            close = best - second <= UNDECIDED * np.abs(a).max()
            close &= best != 0  # the 0 behind a ReLU is 0 for all
            counts[node.name] = int((close & (made.relevances[node.name] != 0)).sum())
    return counts


def _two_best(layer: MaxPool2d, a: Array) -> tuple[Array, Array]:
    """The largest and the second largest activation of every window."""
    window = layer.window(a.shape[2:])
    top, bottom, left, right = (max(side, 0) for side in window.padding)
    padded = np.pad(a, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-np.inf)
    best = second = np.full((*a.shape[:2], *layer.output_shape(a.shape[1:])[1:]), -np.inf)
    for _, _, rows, columns in window.taps((a.shape[2], a.shape[3])):
        value = padded[:, :, rows, columns]
        best, second = np.maximum(best, value), np.maximum(second, np.minimum(best, value))
    return best, second
