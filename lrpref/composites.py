"""Which rule at which layer (Section 10.3), as plain data.

A composite names a rule for each *region* of a network: the first convolution, the lower and the
middle convolutions, the dense layers on top, and what lies between. Pooling, sums and unfolded batch
norms follow the preceding convolution's region unless the composite says otherwise.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lrpref.errors import BadRule
from lrpref.kernels.operations import Array
from lrpref.layers import AdaptiveAvgPool2d, Add, AvgPool2d, BatchNorm, Conv2d, Dense, MaxPool2d, SumPool2d
from lrpref.network import INPUT, Network, Node
from lrpref.rules import Rule, parse

KINDS = {
    Conv2d: "convolution", Dense: "dense", MaxPool2d: "max-pooling", AvgPool2d: "average-pooling",
    SumPool2d: "average-pooling", AdaptiveAvgPool2d: "average-pooling", Add: "sum", BatchNorm: "norm",
}  # fmt: skip
"""Layer classes, as composites name them."""

SAFE = "stabilizer=signed(1e-6)"
"""The stabilizer that presets under zennit's names carry everywhere."""


@dataclass(frozen=True)
class Composite:
    """
    Rules by region; later entries matter only where earlier ones say nothing.

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
        `upper`, the dense layers. Other layers belong to the region of the convolution before them.
    """

    name: str
    nodes: Mapping[str, str]
    first: Mapping[str, str]
    kinds: Mapping[str, str]
    regions: Mapping[str, str]

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
        first = self._first(network)
        regions = _regions(network)
        rules: dict[str, Rule] = {}
        missing = []
        for node in network.nodes:
            text = self._choose(node, node is first, regions[node.name]) if node.layer.is_linear else "pass"
            if text is None:
                missing.append(node.name)
            else:
                rules[node.name] = node.layer.adapt(_parse(node, text, box))
        if missing:
            raise BadRule(f"composite '{self.name}' gives no rule to {', '.join(missing)}")
        unmatched = [p for p in self.nodes if not any(fnmatchcase(n.name, p) for n in network.nodes)]
        if unmatched:
            raise BadRule(f"composite '{self.name}': no node matches {', '.join(map(repr, unmatched))}")
        return rules

    def _first(self, network: Network) -> Node | None:
        return next((n for n in network.nodes if KINDS.get(type(n.layer)) in self.first), None)

    def _choose(self, node: Node, is_first: bool, region: str) -> str | None:
        named = [rule for pattern, rule in self.nodes.items() if fnmatchcase(node.name, pattern)]
        kind = KINDS[type(node.layer)]
        by_first = [self.first[kind]] if is_first else []
        by_kind = [table[key] for table, key in ((self.kinds, kind), (self.regions, region)) if key in table]
        return next(iter([*named, *by_first, *by_kind]), None)


def _parse(node: Node, text: str, box: tuple[Array, Array] | None) -> Rule:
    try:
        return parse(text, box)
    except BadRule as error:
        raise BadRule(f"node '{node.name}': {error}") from None


def _regions(network: Network) -> dict[str, str]:
    """Say for each node whether it is lower, middle or upper."""
    convolutions = [n.name for n in network.nodes if isinstance(n.layer, Conv2d)]
    lower = set(convolutions[: math.ceil(len(convolutions) / 2)])
    regions = {INPUT: "lower"}
    for node in network.nodes:
        if isinstance(node.layer, Dense):
            regions[node.name] = "upper"
        elif isinstance(node.layer, Conv2d):
            regions[node.name] = "lower" if node.name in lower else "middle"
        else:
            regions[node.name] = regions[node.inputs[0]]
    return regions


def _everywhere(rule: str) -> dict[str, str]:
    return dict.fromkeys(("lower", "middle", "upper"), rule)


def _uniform(name: str, rule: str, first: str | None, pooling: str | None) -> Composite:
    return Composite(
        name,
        nodes={},
        first={"convolution": first} if first else {},
        kinds={"max-pooling": pooling} if pooling else {},
        regions=_everywhere(rule),
    )


def lrp_0(first: str | None = None, pooling: str | None = "winner-take-all") -> Composite:
    """
    Uniform LRP-0 (Fig. 10.4).

    Parameters
    ----------
    first : str, optional
        Another rule for the first convolution.
    pooling : str, optional
        Rule of max pooling; None is as-sum pooling under the region's rule.

    Returns
    -------
    Composite
        The composite.
    """
    return _uniform("lrp-0", "zero", first, pooling)


def epsilon(eps: str | float = "0.25std", first: str | None = None, pooling: str | None = None) -> Composite:
    """
    Uniform LRP-eps (Fig. 10.4).

    Parameters
    ----------
    eps : str or float
        As in the rule's name: `0.25std` or a number.
    first : str, optional
        Another rule for the first convolution.
    pooling : str, optional
        Rule of max pooling; None is as-sum pooling under the region's rule.

    Returns
    -------
    Composite
        The composite.
    """
    return _uniform("epsilon", f"epsilon({eps})", first, pooling)


def gamma(gamma: float = 0.25, first: str | None = None, pooling: str | None = None) -> Composite:
    """
    Uniform LRP-gamma, in its generalized form (Fig. 10.4).

    Parameters
    ----------
    gamma : float
        How much positive contributions are favoured.
    first : str, optional
        Another rule for the first convolution.
    pooling : str, optional
        Rule of max pooling; None is as-sum pooling under the region's rule.

    Returns
    -------
    Composite
        The composite.
    """
    return _uniform("gamma", f"generalized-gamma({gamma})", first, pooling)


def chapter(gamma: float = 0.25, eps: str | float = "0.25std", pooling: str | None = None) -> Composite:
    """
    Composite LRP of the chapter: z^B first, gamma lower, eps middle, LRP-0 upper (Fig. 10.4).

    On VGG-16 this is the authors' own choice: conv1_2 to pool3 gamma, conv4_1 to pool5 eps.

    Parameters
    ----------
    gamma : float
        gamma of the lower layers.
    eps : str or float
        eps of the middle layers.
    pooling : str, optional
        Rule of max pooling; None is as-sum pooling under the region's rule.

    Returns
    -------
    Composite
        The composite.
    """
    return Composite(
        "chapter",
        nodes={},
        first={"convolution": "z-box"},
        kinds={"max-pooling": pooling} if pooling else {},
        regions={"lower": f"generalized-gamma({gamma})", "middle": f"epsilon({eps})", "upper": "zero"},
    )


def _zennit(name: str, convolution: str, dense: str, first: Mapping[str, str], **kinds: str) -> Composite:
    """Composite under a name of zennit's: rules by kind of layer, sums and averages in proportion."""
    proportional = f"zero({SAFE})"
    return Composite(
        name,
        nodes={},
        first=first,
        kinds={
            "convolution": convolution,
            "dense": dense,
            "max-pooling": "winner-take-all",
            "average-pooling": proportional,
            "sum": proportional,
            "norm": "pass",
            **kinds,
        },
        regions={},
    )


def epsilon_gamma_box(gamma: float = 0.25, eps: float = 1e-6) -> Composite:
    """
    Give dense layers eps, convolutions gamma, the first of them z^B.

    Parameters
    ----------
    gamma : float
        gamma of the convolutions.
    eps : float
        eps of the dense layers.

    Returns
    -------
    Composite
        The composite.
    """
    first = {"convolution": f"z-box({SAFE})"}
    return _zennit("epsilon-gamma-box", f"generalized-gamma({gamma},{SAFE})", f"epsilon({eps})", first)


def epsilon_plus(eps: float = 1e-6) -> Composite:
    """
    Give dense layers eps, convolutions z-plus.

    Parameters
    ----------
    eps : float
        eps of the dense layers.

    Returns
    -------
    Composite
        The composite.
    """
    return _zennit("epsilon-plus", f"z-plus({SAFE})", f"epsilon({eps})", {})


def epsilon_plus_flat(eps: float = 1e-6) -> Composite:
    """
    Give dense layers eps, convolutions z-plus, the first layer flat.

    Parameters
    ----------
    eps : float
        eps of the dense layers.

    Returns
    -------
    Composite
        The composite.
    """
    return _zennit("epsilon-plus-flat", f"z-plus({SAFE})", f"epsilon({eps})", _flat_first())


def epsilon_alpha2_beta1(eps: float = 1e-6) -> Composite:
    """
    Give dense layers eps, convolutions alpha2-beta1.

    Parameters
    ----------
    eps : float
        eps of the dense layers.

    Returns
    -------
    Composite
        The composite.
    """
    return _zennit("epsilon-alpha2-beta1", f"alpha-beta(2,1,{SAFE})", f"epsilon({eps})", {})


def epsilon_alpha2_beta1_flat(eps: float = 1e-6) -> Composite:
    """
    Give dense layers eps, convolutions alpha2-beta1, the first layer flat.

    Parameters
    ----------
    eps : float
        eps of the dense layers.

    Returns
    -------
    Composite
        The composite.
    """
    return _zennit("epsilon-alpha2-beta1-flat", f"alpha-beta(2,1,{SAFE})", f"epsilon({eps})", _flat_first())


def excitation_backprop() -> Composite:
    """
    Give every dense and convolution layer z-plus.

    Returns
    -------
    Composite
        The composite.
    """
    return _zennit("excitation-backprop", f"z-plus({SAFE})", f"z-plus({SAFE})", {})


def _flat_first() -> dict[str, str]:
    return dict.fromkeys(("convolution", "dense"), f"flat({SAFE})")


COMPOSITES: dict[str, Callable[..., Composite]] = {
    "chapter": chapter,
    "lrp-0": lrp_0,
    "epsilon": epsilon,
    "gamma": gamma,
    "epsilon-gamma-box": epsilon_gamma_box,
    "epsilon-plus": epsilon_plus,
    "epsilon-plus-flat": epsilon_plus_flat,
    "epsilon-alpha2-beta1": epsilon_alpha2_beta1,
    "epsilon-alpha2-beta1-flat": epsilon_alpha2_beta1_flat,
    "excitation-backprop": excitation_backprop,
}


def get(name: str | os.PathLike[str] | Composite, **parameters: Any) -> Composite:
    """
    Get a composite by name, or read one from a TOML file.

    Parameters
    ----------
    name : str, path-like or Composite
        A name in `COMPOSITES`; a path that ends in `.toml`; or a composite, which is returned.
    **parameters
        Parameters of the named composite, such as `gamma=0.1` or `pooling="winner-take-all"`.

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
    if str(name).endswith(".toml"):
        return _read(Path(name))
    if name not in COMPOSITES:
        raise BadRule(
            f"unknown composite {str(name)!r}: there are {', '.join(COMPOSITES)}, or a TOML file of your own"
        )
    try:
        return COMPOSITES[str(name)](**parameters)
    except TypeError as error:
        raise BadRule(f"composite '{name}': {str(error).split('() ')[-1]}") from None


def _read(path: Path) -> Composite:
    """
    Read a composite from TOML.

    `base` names the composite that rules wherever the file says nothing; `[nodes]`, `[first]`,
    `[kinds]` and `[regions]` are the tables of `Composite`.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadRule(f"{path}: there is no such composite file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadRule(f"{path}: not a TOML file ({error})") from None
    tables = {"nodes", "first", "kinds", "regions"}
    unknown = sorted(data.keys() - tables - {"base", "name"})
    if unknown:
        raise BadRule(f"{path}: unknown key {unknown[0]!r}; it has base, name, {', '.join(sorted(tables))}")
    allowed = {
        "first": set(KINDS.values()),
        "kinds": set(KINDS.values()),
        "regions": {"lower", "middle", "upper"},
    }
    base = get(data["base"]) if "base" in data else Composite("", {}, {}, {}, {})
    changes: dict[str, Any] = {"name": str(data.get("name", path.stem))}
    for table in tables & data.keys():
        entries = data[table]
        if not isinstance(entries, dict) or not all(isinstance(rule, str) for rule in entries.values()):
            raise BadRule(f'{path}: [{table}] wants lines such as "features.*" = "gamma(0.25)"')
        wrong = sorted(entries.keys() - allowed.get(table, entries.keys()))
        if wrong:
            known = ", ".join(sorted(allowed[table]))
            raise BadRule(f"{path}: [{table}] has no {wrong[0]!r}; there are {known}")
        changes[table] = {**entries, **{k: v for k, v in getattr(base, table).items() if k not in entries}}
    return replace(base, **changes)
