"""How other libraries define LRP, so that their results can be reproduced, and a difference named.

A dialect says for each dimension D1 to D22 which option a library takes (`dimensions`, `libraries`); what an
option does to rules and layers stands in `effects`, and the rules that are not the chapter's in `deviations`.

>>> from lrpref import dialects
>>> zennit = dialects.get("zennit")
>>> [dimension.id for dimension in zennit.differs()]
['D5', 'D11', 'D14', 'D15', 'D17', 'D18', 'D22']
>>> zennit.with_settings(D11="no-bias").settings["D11"]
'no-bias'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lrpref import heads
from lrpref.dialects.calls import shared, with_last_calls
from lrpref.dialects.deviations import DEVIATIONS, Deviation
from lrpref.dialects.dimensions import DIMENSIONS, Dimension
from lrpref.dialects.effects import LAYER_EFFECTS, NETWORK_EFFECTS, NORM_RULES, RULE_EFFECTS
from lrpref.dialects.graphs import MADE
from lrpref.dialects.libraries import LIBRARIES, Library
from lrpref.dialects.zeros import ZeroReplaced
from lrpref.engine import Prepared
from lrpref.errors import BadRule
from lrpref.exact import Arithmetic
from lrpref.fold import fold
from lrpref.kernels.operations import Array
from lrpref.layers import Layer
from lrpref.network import Network
from lrpref.rules import NOTHING, RULES, Pass, Rule, parse

__all__ = ["CHAPTER", "DIMENSIONS", "NAMES", "Dialect", "Dimension", "get", "read_rule"]


@dataclass(frozen=True)
class Dialect:
    """
    Which definitions of LRP are used.

    Parameters
    ----------
    name : str
        What it is called.
    about : Library
        What is known of the library; its settings are this dialect's unless they were changed.
    settings : mapping of str to str
        An option for every dimension.
    """

    name: str
    about: Library
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def library(self) -> str:
        """What the library is called."""
        return self.about.title

    @property
    def versions(self) -> str:
        """Of which versions the dialect is."""
        return self.about.versions

    def differs(self) -> list[Dimension]:
        """
        List where the dialect is not the chapter's.

        Returns
        -------
        list of Dimension
            In order.
        """
        return [d for d in DIMENSIONS.values() if self.settings[d.id] != d.chapter]

    def with_settings(self, **settings: str) -> Dialect:
        """
        Give the same dialect with other options.

        Parameters
        ----------
        **settings
            Options by dimension: `D11="no-bias"`.

        Returns
        -------
        Dialect
            The new dialect.

        Raises
        ------
        BadRule
            If there is no such dimension or option.
        """
        for dimension, option in settings.items():
            if dimension not in DIMENSIONS:
                raise BadRule(f"unknown dimension {dimension!r}: there are D1 to D{len(DIMENSIONS)}")
            if option not in list(DIMENSIONS[dimension].options):
                known = ", ".join(DIMENSIONS[dimension].options)
                raise BadRule(f"dimension {dimension} has no option {option!r}: there are {known}")
        return replace(self, settings={**self.settings, **settings})

    def apply(self, network: Network, rules: Mapping[str, Rule]) -> tuple[Network, dict[str, Rule]]:
        """
        Give the network and the rules that the library would run.

        Parameters
        ----------
        network : Network
            The network as it is.
        rules : mapping of str to Rule
            A rule for each linear node of the chapter's canonical form (`lrpref.fold`). Batch norms that
            the dialect leaves in their place may have one too.

        Returns
        -------
        network : Network
            In the dialect's canonical form.
        rules : dict of str to Rule
            A rule for each of its nodes.

        Raises
        ------
        BadRule
            If the library has no such rule or layer, or what it does there is not modelled.
        """
        canonical = self.canonical(network)
        return self.translate(canonical, self.complete(canonical, rules))

    def canonical(self, network: Network) -> Network:
        """
        Give the network as the library would have it: batch norms folded, or not (D16).

        Parameters
        ----------
        network : Network
            The network as it is.

        Returns
        -------
        Network
            The same function.
        """
        behind = self.settings["D16"].startswith("folded")
        return fold(network, forward=self.folds) if behind or self.folds else network

    def complete(self, network: Network, rules: Mapping[str, Rule]) -> dict[str, Rule]:
        """
        Add a rule for batch norms that have none, where the dialect does not fold them; drop its own nodes.

        Parameters
        ----------
        network : Network
            In the dialect's canonical form.
        rules : mapping of str to Rule
            Rules by node.

        Returns
        -------
        dict of str to Rule
            Rules by node.
        """
        default = NORM_RULES.get(self.settings["D16"])
        norms = {node.name: default for node in network.nodes if default and node.layer.role == "norm"}
        own = [name for name in rules if MADE in name and name not in network.shapes]
        return {name: rule for name, rule in {**norms, **rules}.items() if name not in own}

    def translate(self, network: Network, rules: Mapping[str, Rule]) -> tuple[Network, dict[str, Rule]]:
        """
        Give every node the library's form of its rule, or of its layer.

        Parameters
        ----------
        network : Network
            In the dialect's canonical form.
        rules : mapping of str to Rule
            A rule for each linear node.

        Returns
        -------
        network : Network
            The same function, its layers the library's.
        rules : dict of str to Rule
            A rule for each node; `pass` for those that take none.

        Raises
        ------
        BadRule
            If the library has no such rule or layer; the message names the node and the library.
        """
        nodes, translated = [], {}
        for node in network.nodes:
            try:
                layer = self._layer(node.layer)
                rule = self._rule(layer, rules[node.name]) if layer.is_linear else Pass()
            except BadRule as error:
                library = f"{self.library} {self.versions}"
                raise BadRule(f"node '{node.name}': in the dialect of {library}, {error}") from None
            nodes.append(node if layer is node.layer else replace(node, layer=layer))
            translated[node.name] = rule
        if self.about is not CHAPTER.about or self.differs():
            network = replace(network, nodes=tuple(nodes))
        for (dimension, option), effect in NETWORK_EFFECTS.items():
            if self.settings[dimension] == option:
                network, translated = effect(network, translated)
        return network, translated

    @property
    def folds(self) -> bool:
        """Whether batch norms are folded as the chapter has it, forward and backward."""
        return self.settings["D16"] in ("folded", "folded-without-eps", "absent")

    def _layer(self, layer: Layer) -> Layer:
        """Give the layer that the library has in its place."""
        for (dimension, option), effect in LAYER_EFFECTS.items():
            if self.settings[dimension] == option:
                layer = effect(layer)
        return layer

    def _rule(self, layer: Layer, rule: Rule) -> Rule:
        """Give the library's form of a rule."""
        self._check(rule)
        for (dimension, option), effect in RULE_EFFECTS.items():
            if self.settings[dimension] == option:
                rule = effect(layer, rule)
        if rule.stabilizer.kind not in self.about.stabilizers:
            raise BadRule(f"the rule '{rule.name}' has no {rule.stabilizer.kind} stabilizer")
        return rule

    def _check(self, rule: Rule) -> None:
        """Refuse what the library has not; a deviation is what it has."""
        offers = self.about.offers
        if offers is None or isinstance(rule, Deviation):
            return
        if rule.name not in offers:
            raise BadRule(f"there is no rule '{rule}'")
        if rule.bias not in offers[rule.name]:
            raise BadRule(f"the rule '{rule.name}' has no bias treatment '{rule.bias}'")

    def start(self, scores: Array, target: heads.Target) -> tuple[Array, Array | None]:
        """
        Give the relevance of the output (D18).

        Parameters
        ----------
        scores : ndarray, shape (N, K)
            The output.
        target : int, sequence of int, "max", or ndarray, shape (N, K)
            The class, or relevances, which are taken as they are.

        Returns
        -------
        R : ndarray, shape (N, K)
            Relevance of the output.
        classes : ndarray of int, shape (N,), or None
            The classes.
        """
        R, classes = heads.start(scores, target)
        if classes is not None and self.settings["D18"] == "one":
            R = heads.one_hot(scores, classes)
        return R, classes

    def prepared(
        self, network: Network, prepared: Mapping[str, Prepared], arithmetic: Arithmetic
    ) -> dict[str, Prepared]:
        """
        Let the nodes run as they do in the library: uses of one layer (D22), denominators of 0 (D1).

        Parameters
        ----------
        network : Network
            The network as it is.
        prepared : mapping of str to Prepared
            The nodes of its canonical form.
        arithmetic : Arithmetic
            In which numbers.

        Returns
        -------
        dict of str to Prepared
            The nodes, as the library runs them.

        Raises
        ------
        BadRule
            If the library refuses a layer that is used twice.
        """
        if self.settings["D22"] == "refused" and (twice := shared(network)):
            library, uses = f"{self.library} {self.versions}", " and ".join(twice[0])
            raise BadRule(f"{library} refuses a layer that is used twice: {uses} are one")
        if self.settings["D1"] == "zero-only":
            for ready in prepared.values():
                if ready.rule.stabilizer == NOTHING:
                    ready.kernels = ZeroReplaced(ready.kernels, arithmetic.number(1e-7))
        return with_last_calls(network, prepared) if self.settings["D22"] == "last-call" else dict(prepared)

    def record(self) -> dict[str, Any]:
        """
        Say for a record which dialect it is.

        Returns
        -------
        dict
            Plain JSON data: its name, and its settings where they are not the chapter's.
        """
        return {"name": self.name, "settings": {d.id: self.settings[d.id] for d in self.differs()}}


def _chapters() -> dict[str, str]:
    return {dimension.id: dimension.chapter for dimension in DIMENSIONS.values()}


CHAPTER = Dialect(
    "chapter",
    Library("lrpref", "", "run", "Montavon et al. 2019", stabilizers=("signed", "unsigned", "relative")),
    _chapters(),
)
"""The chapter's definitions, lrpref's own."""

_DIALECTS = {"chapter": CHAPTER} | {
    name: Dialect(name, about, {**_chapters(), **about.settings}) for name, about in LIBRARIES.items()
}

NAMES = tuple(LIBRARIES)
"""The libraries whose dialects are known."""


def get(name: str | Dialect | None) -> Dialect:
    """
    Get a dialect by name.

    Parameters
    ----------
    name : str, Dialect or None
        A name in `NAMES`, or "chapter", which None stands for too; or a dialect, which is returned.

    Returns
    -------
    Dialect
        The dialect.

    Raises
    ------
    BadRule
        If there is none.
    """
    if isinstance(name, Dialect):
        return name
    if name is None:
        return CHAPTER
    if not isinstance(name, str) or name not in _DIALECTS:
        raise BadRule(f"unknown dialect {name!r:.60}: there are {', '.join(_DIALECTS)}")
    return _DIALECTS[name]


def recorded(entry: Mapping[str, Any]) -> Dialect:
    """
    Read the dialect of a record.

    Parameters
    ----------
    entry : mapping
        What `Dialect.record` gave.

    Returns
    -------
    Dialect
        A dialect of the recorded settings.

    Raises
    ------
    BadRule
        If it is none.
    """
    return replace(CHAPTER.with_settings(**entry["settings"]), name=str(entry["name"]))


def read_rule(text: str) -> Rule:
    """
    Read a rule by name, deviations included.

    Parameters
    ----------
    text : str
        As `str(rule)` writes it.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    BadRule
        If there is no such rule.
    """
    return parse(text, known={**RULES, **DEVIATIONS})
