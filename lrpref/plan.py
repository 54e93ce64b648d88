"""A plan: a network, a composite and a backend, with everything that no input changes done once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from lrpref import composites, dialects, exact, heads
from lrpref.engine import Known, Prepared
from lrpref.errors import BadBackend, BadInput, BadNetwork, BadRule, LrprefError
from lrpref.fold import fold
from lrpref.kernels import automatic
from lrpref.kernels import backend as get_backend
from lrpref.network import INPUT, Network
from lrpref.rules import Pass, Rule, Zero

FUNCTIONS = (
    "upload", "download", "prepare", "free_memory", "device_name", "preactivation", "quotient",
    "redistribute", "max_pool2d", "max_pool2d_winners", "activation", "mean_square", "per_sample",
)  # fmt: skip
"""What a plan calls of a function table."""

EXACT_LIMIT = 500
"""Neurons of a layer up to which `exact` is offered: denominators grow with width and depth."""

MEMORY = 2 * 2**30
"""Bytes up to which a plan keeps weights that were modified for a rule."""


class Plan:
    """
    A network ready to be explained: its canonical form, the rule of every node, the weights prepared.

    `explain` takes a plan in the place of a network. What is reused over calls is the folding, the casting,
    and the weights that the rules modify.

    Parameters
    ----------
    network : Network
        The network; its batch norms are folded first.
    composite : str, path-like or Composite
        Which rule at which layer: a name, a TOML file, or a composite of one's own.
    rules : mapping of str to Rule, optional
        Rules node by node, instead of a composite.
    backend : {"auto", "numpy", "loops", "cpu", "cupy", "numba-cuda"}
        Who computes; or a function table, such as one made for a device of one's own.
    dtype : {"float32", "float64", "longdouble", "exact", "ball"}
        In which arithmetic; the last three on backend `numpy` only.
    head : {"score", "log-odds"}
        What is explained of a class. Under `log-odds` a dense layer on top is merged with the layer of
        log-probability ratios, whose rule is always LRP-0.
    memory : int
        Bytes up to which modified weights are kept; beyond, they are made anew for each call.
    dialect : str or Dialect, optional
        Whose definitions of the rules: a library's, by name (`lrpref.dialects`), instead of the chapter's.

    Raises
    ------
    BadNetwork
        If the network is none.
    BadRule
        If the composite is unknown, or a rule does not fit its layer.
    BadInput
        If the head is unknown, or does not fit the output.
    BadBackend
        If the backend or dtype is unknown, or cannot run this network.
    """

    def __init__(
        self,
        network: Network,
        composite: Any = "chapter",
        *,
        rules: Mapping[str, Rule] | None = None,
        backend: Any = "numpy",
        dtype: str = "float64",
        head: str = "score",
        memory: int = MEMORY,
        dialect: str | dialects.Dialect | None = None,
    ) -> None:
        if not isinstance(network, Network):
            raise BadNetwork(
                f"a Network is wanted, such as lrpref.load reads from a file; got {network!r:.60}"
            )
        if not isinstance(memory, int | float | np.number) or not memory >= 0:
            raise BadBackend(f"memory is {memory!r:.60}: a number of bytes >= 0 is wanted")
        self.network, self.dtype, self.dialect = network, dtype, dialects.get(dialect)
        self.arithmetic = exact.get(dtype)
        if isinstance(backend, str):
            self.backend = automatic() if backend == "auto" else backend
            self.kernels = get_backend(self.backend)
        elif lacking := _lacking(backend):
            what = f"a name, or a function table; it lacks {', '.join(lacking)}"
            raise BadBackend(f"backend is {backend!r:.60}: wanted is {what}")
        else:
            self.backend, self.kernels = f"{type(backend).__module__}.{type(backend).__name__}", backend
        if dtype not in ("float32", "float64") and self.backend != "numpy":
            raise BadBackend(f"dtype '{dtype}' runs on backend 'numpy' only, not on '{self.backend}'")
        if dtype == "exact":
            _check_size(network)
        self._left = memory
        with np.errstate(over="ignore", invalid="ignore"), self.precision():
            self.canonical = _canonical(network, self.arithmetic, self.dialect)
            self.head = heads.check(head, self.canonical.shapes[self.canonical.top])
            self.composite, asked = _rules(self.canonical, composite, rules, self.dialect)
            self.canonical, self.rules = self.dialect.translate(self.canonical, asked)
            if self.merges_ratios:
                self.rules = _ratios_under_zero(self.canonical, self.rules, rules)
            prepared = prepare(
                self.canonical, self.rules, self.kernels, self.arithmetic, room=self._has_room
            )
            self.prepared = self.dialect.prepared(network, prepared, self.arithmetic)

    def __repr__(self) -> str:
        return f"<Plan for {self.network.name}: {self.composite}, {self.backend}, {self.dtype}>"

    @property
    def merges_ratios(self) -> bool:
        """Whether the top layer is the dense one that computes the log-probability ratios of the head."""
        return self.head == "log-odds" and self.canonical.nodes[-1].layer.role == "dense"

    def precision(self) -> Any:
        """
        Set the working precision of balls for a while.

        Returns
        -------
        context manager
            To be entered with `with`.
        """
        return exact.precision(self.dtype, _bits(self.network))

    @cached_property
    def bytes_per_sample(self) -> int:
        """Memory that one sample takes: all activations and relevances, and the four largest again."""
        sizes = [int(np.prod(shape)) for shape in self.canonical.shapes.values()]
        return (2 * sum(sizes) + 4 * max(sizes)) * self.arithmetic.dtype.itemsize

    def _has_room(self, size: int) -> bool:
        """Take from the memory that is left, if it is enough."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


def prepare(
    network: Network, rules: Mapping[str, Rule], kernels: Any, arithmetic: exact.Arithmetic, room: Any = None
) -> dict[str, Prepared]:
    """
    Prepare every node of a network.

    Parameters
    ----------
    network : Network
        In canonical form, and in the arithmetic.
    rules : mapping of str to Rule
        A rule for each node; `Pass` where the layer is not linear.
    kernels : object
        The backend.
    arithmetic : Arithmetic
        In which numbers.
    room : callable, optional
        Says whether so many bytes may be kept.

    Returns
    -------
    dict of str to Prepared
        By node.

    Raises
    ------
    LrprefError
        If a rule does not fit its layer; the message names the node.
    """
    prepared = {}
    for node in network.nodes:
        shapes = [network.shapes[name] for name in node.inputs]
        try:
            prepared[node.name] = Prepared(kernels, node.layer, rules[node.name], shapes, arithmetic, room)
        except LrprefError as error:
            raise type(error)(f"node '{node.name}': {error}") from None
    for name, known in what_is_known(network, prepared).items():
        prepared[name].known = known
    return prepared


def what_is_known(network: Network, prepared: Mapping[str, Prepared]) -> dict[str, Known]:
    """
    Find out which activations are >= 0, and where no relevance can arrive at z_k <= 0.

    Parameters
    ----------
    network : Network
        In canonical form.
    prepared : mapping of str to Prepared
        Its nodes, with their rules.

    Returns
    -------
    dict of str to Known
        By node; what is not known is False.
    """
    nonnegative = {INPUT: False}
    for node in network.nodes:
        nonnegative[node.name] = node.layer.nonnegative([nonnegative[name] for name in node.inputs])
    consumers: dict[str, list[Any]] = {name: [] for name in nonnegative}
    for node in network.nodes:
        for name in node.inputs:
            consumers[name].append(node)
    # spared[k]: R_k is 0 wherever the output of k is 0
    spared: dict[str, bool] = {}
    closed: dict[str, bool] = {}
    for node in reversed(network.nodes):
        above = consumers[node.name]
        inside = node.name != network.top
        spared[node.name] = inside and all(prepared[c.name].spares(spared[c.name]) for c in above)
        closed[node.name] = inside and all(c.layer.rectifies and spared[c.name] for c in above)
    return {
        node.name: Known(all(nonnegative[name] for name in node.inputs), closed[node.name])
        for node in network.nodes
    }


def _lacking(backend: Any) -> list[str]:
    """Name the functions of the table that are not there."""
    return [name for name in FUNCTIONS if not callable(getattr(backend, name, None))]


def _canonical(network: Network, arithmetic: exact.Arithmetic, dialect: dialects.Dialect) -> Network:
    """Fold; rationals and balls without rounding, floats in float64 before they are rounded to dtype."""
    scored = network.before_softmax()
    if arithmetic.objects:
        return dialect.canonical(scored.astype(arithmetic))
    return dialect.canonical(scored).astype(arithmetic)


def _check_size(network: Network) -> None:
    for node in network.nodes:
        neurons = int(np.prod(network.shapes[node.name]))
        if node.layer.is_linear and neurons > EXACT_LIMIT:
            raise BadBackend(
                f"dtype 'exact' is for layers of up to {EXACT_LIMIT} neurons; node '{node.name}' has "
                f"{neurons}: use dtype 'ball', a rigorous enclosure"
            )


def _rules(
    network: Network, composite: Any, given: Mapping[str, Rule] | None, dialect: dialects.Dialect
) -> tuple[str, dict[str, Rule]]:
    """Give every node its rule, and the whole a name; composites look at the chapter's canonical form."""
    name = "rules given node by node"
    if given is None:
        chosen = composites.get(composite)
        name, given = chosen.name, chosen.rules(network if dialect.folds else fold(network))
    if not isinstance(given, Mapping):
        raise BadRule(f"rules are {given!r:.60}: wanted is a rule for each node, by name")
    given = dialect.complete(network, given)
    missing = [node.name for node in network.nodes if node.layer.is_linear and node.name not in given]
    norms = [name for name in missing if network.node(name).layer.role == "norm"]
    if norms and dialect.settings["D16"] == "given-rule":
        raise BadRule(f"{dialect.library} wants a rule for each batch norm: rules= lacks {', '.join(norms)}")
    if missing:
        raise BadRule(f"rules are missing for {', '.join(missing)}")
    for asked in given:
        try:
            network.node(asked)
        except BadInput as error:  # it names the nearest
            raise BadRule(f"rules: {error}") from None
    wrong = [name for name, rule in given.items() if not isinstance(rule, Rule)]
    if wrong:
        raise BadRule(
            f"the rule of node '{wrong[0]}' is {given[wrong[0]]!r}: a Rule of lrpref.rules is wanted"
        )
    rules = {n.name: given[n.name] if n.layer.is_linear else Pass() for n in network.nodes}
    return name, rules


def _ratios_under_zero(
    network: Network, rules: Mapping[str, Rule], given: Mapping[str, Rule] | None
) -> dict[str, Rule]:
    """Give the layer of ratios LRP-0, whatever the composite says."""
    top = network.top
    if given is not None and given[top] != Zero():
        raise BadRule(f"rule '{given[top]}' at '{top}': the log-odds head's ratios want rule 'zero'")
    return {**rules, top: Zero()}


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
