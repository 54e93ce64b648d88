"""From a network and an input to relevances and their books."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lrpref import composites, exact, heads, record
from lrpref.engine import propagate
from lrpref.errors import BadBackend, BadInput, BadRule
from lrpref.fold import fold
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import Array
from lrpref.layers import Activation, BatchNorm
from lrpref.ledger import Ledger
from lrpref.network import INPUT, Network
from lrpref.rules import Pass, Rule

EXACT_LIMIT = 500
"""Neurons of a layer up to which `exact` is offered: denominators grow with width and depth."""


@dataclass(frozen=True, repr=False)
class Explanation:
    """
    Relevances of one batch, and their books.

    Parameters
    ----------
    network : Network
        The network that was given.
    canonical : Network
        Its canonical form, whose nodes the books name.
    x : ndarray of float64, shape (N, ...)
        The input.
    scores : ndarray, shape (N, K)
        The output before a softmax.
    target : ndarray of int, shape (N,), or None
        The explained classes; None where relevances of the output were given.
    relevances : mapping of str to ndarray
        Relevance of every node's output and of the input, in units of the explained quantity.
    ledger : Ledger
        The books.
    rules : mapping of str to Rule
        The rule of every node.
    composite : str
        Name of the composite.
    backend, dtype : str
        How it was computed.
    warnings : list of str
        What a reader should know.
    """

    network: Network
    canonical: Network
    x: Array
    scores: Array
    target: Array | None
    relevances: Mapping[str, Array]
    ledger: Ledger
    rules: Mapping[str, Rule]
    composite: str
    backend: str
    dtype: str
    warnings: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        what = "relevances" if self.target is None else [self.network.label(int(t)) for t in self.target[:3]]
        return f"<Explanation of {what} for {len(self.x)} inputs: {self.composite}, {self.dtype}>"

    @property
    def relevance(self) -> Array:
        """Relevance of the input, like x; its sum is f(x) less all accounts."""
        return self.relevances[INPUT]

    def at(self, name: str) -> Array:
        """
        Give the relevance of a node's output.

        Parameters
        ----------
        name : str
            The node; a batch norm that was folded backward stands for the layer it went into.

        Returns
        -------
        ndarray, like the node's output
            Relevance, in units of the explained quantity.

        Raises
        ------
        BadInput
            If there is no such node.
        """
        name = self.canonical.merged.get(name, name)
        if name not in self.relevances:
            raise BadInput(f"no relevance at '{name}': there are {', '.join(self.relevances)}")
        return self.relevances[name]

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """
        Write the record: relevance.npz, audit.json, heatmap.png, ledger.png.

        Parameters
        ----------
        folder : path-like
            A new folder, an empty one, or (with `overwrite`) an earlier record.
        overwrite : bool
            Whether an earlier record may be replaced.

        Raises
        ------
        BadRecord
            If the folder cannot be written, or holds anything else.
        """
        record.write(self, Path(folder), overwrite=overwrite)


def explain(
    network: Network,
    x: Any,
    target: heads.Target = "max",
    composite: Any = "chapter",
    *,
    rules: Mapping[str, Rule] | None = None,
    backend: str = "numpy",
    dtype: str = "float64",
    watch: Callable[[str], None] | None = None,
) -> Explanation:
    """
    Explain a network's output by the relevance of its input.

    Parameters
    ----------
    network : Network
        The network; its batch norms are folded first.
    x : array_like, shape (N, ...)
        Preprocessed inputs (`network.preprocess`).
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        The class whose score is explained, or relevances of the output.
    composite : str, path-like or Composite
        Which rule at which layer: a name, a TOML file, or a composite of one's own.
    rules : mapping of str to Rule, optional
        Rules node by node, instead of a composite.
    backend : {"numpy", "loops"}
        Who computes.
    dtype : {"float32", "float64", "longdouble", "exact", "ball"}
        In which arithmetic; the last three on backend `numpy` only.
    watch : callable, optional
        Called with each node's name when its relevance has been propagated.

    Returns
    -------
    Explanation
        `.relevance` like x; `.ledger`: f(x) = sum of relevance + all accounts.

    Raises
    ------
    BadInput
        If the input or the target does not fit.
    BadRule
        If the composite is unknown, or a rule does not fit its layer.
    BadBackend
        If the backend or dtype is unknown, or cannot run this network.
    """
    arithmetic, kernels = exact.get(dtype), get_backend(backend)
    if dtype not in ("float32", "float64") and backend != "numpy":
        raise BadBackend(f"dtype '{dtype}' runs on backend 'numpy' only, not on '{backend}'")
    x = network.check_input(x)
    if dtype == "exact":
        _check_size(network)
    # what overflows is caught where it does harm, with the node's name
    with np.errstate(over="ignore", invalid="ignore"), exact.precision(dtype, _bits(network)):
        canonical = _canonical(network, arithmetic)
        name, rules = _rules(canonical, composite, rules)
        activations = canonical.activations(arithmetic.array(x), kernels)
        scores = activations[canonical.top]
        if not arithmetic.objects and not np.isfinite(scores).all():
            raise BadInput(
                f"the network's output is not finite in dtype '{dtype}': are the inputs preprocessed?"
            )
        R, classes = heads.start(scores, target)
        relevances, ledger = propagate(
            canonical, rules, activations, R, top=canonical.top, kernels=kernels, watch=watch
        )
    return Explanation(
        network, canonical, np.asarray(x), scores, classes, relevances, ledger, rules, name, backend, dtype,
        _warnings(network, canonical, classes, scores, rules, np.asarray(x)),
    )  # fmt: skip


def _canonical(network: Network, arithmetic: exact.Arithmetic) -> Network:
    """Fold; rationals and balls without rounding, floats in float64 before they are rounded to dtype."""
    scored = network.before_softmax()
    return fold(scored.astype(arithmetic)) if arithmetic.objects else fold(scored).astype(arithmetic)


def _check_size(network: Network) -> None:
    for node in network.nodes:
        neurons = int(np.prod(network.shapes[node.name]))
        if node.layer.is_linear and neurons > EXACT_LIMIT:
            raise BadBackend(
                f"dtype 'exact' is for layers of up to {EXACT_LIMIT} neurons; node '{node.name}' has "
                f"{neurons}: use dtype 'ball', a rigorous enclosure"
            )


def _rules(network: Network, composite: Any, given: Mapping[str, Rule] | None) -> tuple[str, dict[str, Rule]]:
    """Give every node its rule, and the whole a name."""
    if given is None:
        chosen = composites.get(composite)
        return chosen.name, chosen.rules(network)
    unknown = [name for name in given if network.merged.get(name, name) not in network.shapes]
    missing = [node.name for node in network.nodes if node.layer.is_linear and node.name not in given]
    if unknown or missing:
        raise BadRule(
            f"rules are missing for {', '.join(missing)}" if missing else f"there is no node {unknown[0]!r}"
        )
    wrong = [name for name, rule in given.items() if not isinstance(rule, Rule)]
    if wrong:
        raise BadRule(
            f"the rule of node '{wrong[0]}' is {given[wrong[0]]!r}: a Rule of lrpref.rules is wanted"
        )
    rules = {n.name: given[n.name] if n.layer.is_linear else Pass() for n in network.nodes}
    return "rules given node by node", rules


def _bits(network: Network) -> int:
    """
    Give the working precision of balls.

    A forward pass of + and * on dyadic numbers has radii 0 if each float32 layer adds 35 bits and each
    float64 layer 64; the backward pass loses less than 10 bits per layer, and wants 64 besides.
    """
    bits = 128
    for node in network.nodes:
        weight = getattr(node.layer, "weight", getattr(node.layer, "scale", None))
        if isinstance(weight, np.ndarray):
            bits += 35 if weight.dtype == np.float32 else 64
    return max(bits, 64 + 10 * len(network.nodes))


def _warnings(
    network: Network,
    canonical: Network,
    classes: Array | None,
    scores: Array,
    rules: Mapping[str, Rule],
    x: Array,
) -> list[str]:
    notes = []
    if canonical.top not in (network.top, canonical.merged.get(network.top)):
        notes.append(f"the final softmax '{network.top}' is dropped: the score before it is explained")
    singular = [n.name for n in network.nodes if isinstance(n.layer, Activation) and n.layer.singular()]
    if singular:
        notes.append(f"g(0) is not 0 at {', '.join(singular)}: LRP-0 is singular where z is near 0")
    unfolded = [n.name for n in canonical.nodes if isinstance(n.layer, BatchNorm)]
    if unfolded:
        notes.append(f"batch norms that no linear layer could take: {', '.join(unfolded)}")
    outside = [n.name for n in canonical.nodes if n.inputs == (INPUT,) and not rules[n.name].admits(x)]
    if outside:
        notes.append(f"inputs of {', '.join(outside)} lie outside the rule's bounds: are they preprocessed?")
    if classes is not None:
        values = exact.as_float(scores).reshape(len(scores), -1)[np.arange(len(scores)), classes]
        if (values < 0).any():
            notes.append("an explained score is negative: blue pixels push it down, red ones up")
    return notes
