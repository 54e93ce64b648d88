"""Which rule at which layer (Section 10.3), as plain data.

A composite names a rule for each *region* of a network: the first convolution, the lower and the
middle convolutions, the dense layers on top, and what lies between. Pooling, sums and unfolded batch
norms follow the preceding convolution's region unless the composite says otherwise.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lrpref.errors import BadRule
from lrpref.files import regular
from lrpref.kernels.operations import Array
from lrpref.network import INPUT, Network, Node
from lrpref.rules import Pass, Rule, parse

KINDS = ("convolution", "dense", "max-pooling", "average-pooling", "sum", "norm")
"""Kinds of linear layers (`Layer.role`)."""


@dataclass(frozen=True)
class Composite:
    """
    Rules by name, kind and region; each table matters only where those before it say nothing.

    Parameters
    ----------
    name : str
        What it is called.
    nodes : mapping of str to str
        Node name patterns (`features.*`) to rules, the first match counts.
    first : mapping of str to str
        Rules for the first node whose kind is named, in definition order: `{"convolution": "z-box"}`
        is the first convolution; with both kinds named, the first of either.
    kinds : mapping of str to str
        Rules by kind of layer, wherever it stands: `convolution`, `dense`, `max-pooling`,
        `average-pooling`, `sum`, `norm`.
    regions : mapping of str to str
        Rules by region: `lower`, the convolutions up to the ceil(n/2)-th of n; `middle`, the others;
        `upper`, the dense layers. Other layers belong to the region of the layer before them, where
        branches meet to the highest;
        a pooling that pools nothing, such as VGG's adaptive one at 224 pixels, passes.
    base : Composite, optional
        What rules where all tables say nothing.
    """

    name: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, str] = field(default_factory=dict)
    base: Composite | None = None

    def rules(self, network: Network) -> dict[str, Rule]:
        """
        Give every node its rule.

        Parameters
        ----------
        network : Network
            In canonical form; its preprocessing gives z-box its bounds.

        Returns
        -------
        dict of str to Rule
            A rule for each node; `pass` for those that are not linear.

        Raises
        ------
        BadRule
            If nodes are left without a rule, or a pattern matches no node.
        """
        box = network.preprocessing.box() if network.preprocessing else None
        texts = self._texts(network)
        missing = [node.name for node in network.nodes if node.layer.is_linear and node.name not in texts]
        if missing:
            raise BadRule(f"composite '{self.name}' gives no rule to {', '.join(missing)}")
        unmatched = [p for p in self.nodes if not any(fnmatchcase(n.name, p) for n in network.nodes)]
        if unmatched:
            raise BadRule(f"composite '{self.name}': no node matches {', '.join(map(repr, unmatched))}")
        return {
            node.name: node.layer.adapt(_parse(node, texts[node.name], box))
            if node.layer.is_linear
            else Pass()
            for node in network.nodes
        }

    def _texts(self, network: Network) -> dict[str, str]:
        """Give the linear nodes their rules by name, where there is one."""
        first = next((n for n in network.nodes if n.layer.role in self.first), None)
        regions = _regions(network)
        texts = self.base._texts(network) if self.base else {}
        for node in network.nodes:
            if node.layer.is_linear:
                idle = node.layer.does_nothing(network.shapes[node.inputs[0]])
                text = self._choose(node, node is first, regions[node.name], idle)
                texts |= {} if text is None else {node.name: text}
        return texts

    def _choose(self, node: Node, is_first: bool, region: str, idle: bool) -> str | None:
        for pattern, rule in self.nodes.items():
            if fnmatchcase(node.name, pattern):
                return rule
        if is_first:
            return self.first[node.layer.role]
        if node.layer.role in self.kinds:
            return self.kinds[node.layer.role]
        return "pass" if idle and region in self.regions else self.regions.get(region)


def _parse(node: Node, text: str, box: tuple[Array, Array] | None) -> Rule:
    try:
        return parse(text, box)
    except BadRule as error:
        raise BadRule(f"node '{node.name}': {error}") from None


def _regions(network: Network) -> dict[str, str]:
    """Say for each node whether it is lower, middle or upper."""
    convolutions = [n.name for n in network.nodes if n.layer.role == "convolution"]
    lower = set(convolutions[: math.ceil(len(convolutions) / 2)])
    order = ("lower", "middle", "upper")
    regions = {INPUT: order[0]}
    for node in network.nodes:
        if node.layer.role == "dense":
            regions[node.name] = "upper"
        elif node.layer.role == "convolution":
            regions[node.name] = "lower" if node.name in lower else "middle"
        else:
            regions[node.name] = max((regions[name] for name in node.inputs), key=order.index)
    return regions


@dataclass(frozen=True)
class Preset:
    """
    A named composite as data, its parameters in braces.

    Parameters
    ----------
    regions : mapping of str to str
        As in `Composite`.
    kinds : mapping of str to str
        As in `Composite`.
    first : mapping of str to str
        As in `Composite`.
    defaults : mapping of str to Any
        The parameters, and what they are where not given.
    """

    regions: Mapping[str, str] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def fill(self, name: str, first: str | None, pooling: str | None, given: Mapping[str, Any]) -> Composite:
        """
        Make the composite.

        Parameters
        ----------
        name : str
            What it is called.
        first : str or None
            Another rule for the first convolution.
        pooling : str or None
            Another rule for max pooling.
        given : mapping of str to Any
            Parameters.

        Returns
        -------
        Composite
            The composite.
        """
        values = {**self.defaults, **given}
        own_first = self.first if first is None else {"convolution": first}
        own_kinds = self.kinds if pooling is None else {**self.kinds, "max-pooling": pooling}
        tables = [
            {key: rule.format(**values) for key, rule in table.items()}
            for table in (own_first, own_kinds, self.regions)
        ]
        return Composite(name, first=tables[0], kinds=tables[1], regions=tables[2])


SAFE = "stabilizer=signed(1e-6)"
"""The stabilizer that presets under zennit's names carry in every share."""


def _everywhere(rule: str) -> dict[str, str]:
    return dict.fromkeys(("lower", "middle", "upper"), rule)


def _by_kind(convolution: str, dense: str) -> dict[str, str]:
    """Give the presets under zennit's names their rules: sums and averages are in proportion there."""
    proportional = dict.fromkeys(("average-pooling", "sum"), f"zero({SAFE})")
    return {"convolution": convolution, "dense": dense, "max-pooling": "winner-take-all", "norm": "pass",
            **proportional}  # fmt: skip


_FLAT_FIRST = dict.fromkeys(("convolution", "dense"), f"flat({SAFE})")
_ALPHA2_BETA1 = _by_kind(f"alpha-beta(2,1,{SAFE})", "epsilon({eps})")
_PLUS = _by_kind(f"z-plus({SAFE})", "epsilon({eps})")
_EPS = {"eps": 1e-6}

COMPOSITES: dict[str, Preset] = {
    # Fig. 10.4. On VGG-16 `chapter` is the authors' own choice: conv1_2 to pool3 gamma, conv4_1 to pool5 eps.
    "chapter": Preset(
        regions={"lower": "generalized-gamma({gamma})", "middle": "epsilon({eps})", "upper": "zero"},
        first={"convolution": "z-box"},
        defaults={"gamma": 0.25, "eps": "0.25std"},
    ),
    "lrp-0": Preset(_everywhere("zero"), kinds={"max-pooling": "winner-take-all"}),
    "epsilon": Preset(_everywhere("epsilon({eps})"), defaults={"eps": "0.25std"}),
    "gamma": Preset(_everywhere("generalized-gamma({gamma})"), defaults={"gamma": 0.25}),
    # Names of zennit's, with their meaning there.
    "epsilon-gamma-box": Preset(
        kinds=_by_kind(f"generalized-gamma({{gamma}},{SAFE})", "epsilon({eps})"),
        first={"convolution": f"z-box({SAFE})"},
        defaults={"gamma": 0.25, **_EPS},
    ),
    "epsilon-plus": Preset(kinds=_PLUS, defaults=_EPS),
    "epsilon-plus-flat": Preset(kinds=_PLUS, first=_FLAT_FIRST, defaults=_EPS),
    "epsilon-alpha2-beta1": Preset(kinds=_ALPHA2_BETA1, defaults=_EPS),
    "epsilon-alpha2-beta1-flat": Preset(kinds=_ALPHA2_BETA1, first=_FLAT_FIRST, defaults=_EPS),
    "excitation-backprop": Preset(kinds=_by_kind(f"z-plus({SAFE})", f"z-plus({SAFE})")),
}
"""The composites that have a name."""


def get(
    name: str | os.PathLike[str] | Composite,
    *,
    first: str | None = None,
    pooling: str | None = None,
    **parameters: Any,
) -> Composite:
    """
    Get a composite by name, or read one from a TOML file.

    Parameters
    ----------
    name : str, path-like or Composite
        A name in `COMPOSITES`; a path that ends in `.toml`; or a composite, which is returned.
    first : str, optional
        For a named one: another rule for the first convolution, such as `z-box`.
    pooling : str, optional
        For a named one: another rule for max pooling, such as `winner-take-all(split)`.
    **parameters
        For a named one: its own parameters, such as `gamma=0.1` or `eps="0.1std"`.

    Returns
    -------
    Composite
        The composite.

    Raises
    ------
    BadRule
        If there is none, or a parameter or the file is wrong.
    """
    if isinstance(name, Composite):
        return name
    if not isinstance(name, str | os.PathLike):
        raise BadRule(f"composite is {name!r:.60}: a name or a TOML file is wanted; rules go into rules=")
    if str(name).endswith(".toml"):
        return _read(Path(name))
    if name not in COMPOSITES:
        raise BadRule(
            f"unknown composite {str(name)!r}: there are {', '.join(COMPOSITES)}, or a TOML file of your own"
        )
    preset = COMPOSITES[str(name)]
    unknown = sorted(parameters.keys() - preset.defaults.keys())
    if unknown:
        known = ", ".join([*preset.defaults, "first", "pooling"])
        raise BadRule(f"composite '{name}' has no parameter {unknown[0]!r}; it has {known}")
    return preset.fill(str(name), first, pooling, parameters)


def _read(path: Path) -> Composite:
    """
    Read a composite from TOML.

    `base` names the composite that rules wherever the file says nothing; `[nodes]`, `[first]`,
    `[kinds]` and `[regions]` are the tables of `Composite`.
    """
    try:
        data = tomllib.loads(regular(path, BadRule).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRule(f"{path}: not a TOML file ({error})") from None
    tables = {"nodes", "first", "kinds", "regions"}
    unknown = sorted(data.keys() - tables - {"base", "name"})
    if unknown:
        raise BadRule(f"{path}: unknown key {unknown[0]!r}; it has base, name, {', '.join(sorted(tables))}")
    allowed = {"first": set(KINDS), "kinds": set(KINDS), "regions": {"lower", "middle", "upper"}}
    base = data.get("base")
    if base is not None and (not isinstance(base, str) or base not in COMPOSITES):
        raise BadRule(f"{path}: base is {base!r}; there are {', '.join(COMPOSITES)}")
    for table in tables & data.keys():
        entries = data[table]
        if not isinstance(entries, dict) or not all(isinstance(rule, str) for rule in entries.values()):
            raise BadRule(f'{path}: [{table}] wants lines such as "features.*" = "gamma(0.25)"')
        wrong = sorted(entries.keys() - allowed.get(table, entries.keys()))
        if wrong:
            known = ", ".join(sorted(allowed[table]))
            raise BadRule(f"{path}: [{table}] has no {wrong[0]!r}; there are {known}")
    return Composite(
        str(data.get("name", path.stem)),
        **{table: data[table] for table in tables & data.keys()},
        base=get(base) if base else None,
    )
