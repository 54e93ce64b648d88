"""Captum (Kokhlikyan et al. 2020) on a network: its own rules, or its rule for each of ours.

Captum tells the relevance of the input, and of the nodes that have a rule. It deletes all rules after each
call (its issue 1059), so that they are given anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

import torch
from torch import nn

from lrpref import heads
from lrpref.conformance.adapters import Run, measured, require
from lrpref.conformance.adapters.torch_network import TorchNetwork
from lrpref.errors import BadNetwork, BadRule
from lrpref.fold import fold
from lrpref.kernels.operations import Array
from lrpref.layers import Add
from lrpref.network import INPUT, Network
from lrpref.rules import AlphaBeta, Gamma, GeneralizedGamma, Pass, Rule, WinnerTakeAll, Zero

require("captum")
attr = require("captum.attr")
lrp_rules = require("captum.attr._utils.lrp_rules")
Addition = require("captum.attr._utils.custom_modules").Addition_Module

DEFAULT = "default"
"""The name of what Captum does by itself: its epsilon rule everywhere, with eps 1e-9."""


class CaptumNetwork(TorchNetwork):
    """
    A network in the modules that Captum knows: its own for sums, none for what only moves numbers.

    Parameters
    ----------
    network : Network
        The network.
    dtype : {"float32", "float64"}
        Of its weights.
    """

    def __init__(self, network: Network, dtype: str = "float64") -> None:
        super().__init__(network, dtype)
        self.unseen: dict[str, Callable[..., torch.Tensor]] = {}
        for node in network.nodes:
            parent, _, last = node.name.rpartition(".")
            if isinstance(node.layer, Add):
                if len(node.inputs) != 2:
                    raise BadNetwork(f"node '{node.name}': Captum's Addition_Module adds two")
                self._place(node.name, Addition())
            elif node.layer.moves:
                self.unseen[node.name] = self.get_submodule(node.name)
                delattr(self.get_submodule(parent), last)

    def step(self, name: str) -> Callable[..., torch.Tensor]:
        return self.unseen[name] if name in self.unseen else super().step(name)


class Started(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    A network under any initial relevance.

    Captum hands the score itself back, from the top, as relevance. A score that is exactly 1 and whose
    gradient is R lets relevance start from R, with Captum's own public call and without rounding.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    R : torch.Tensor, shape (N, ...)
        Relevance of its output.
    """

    def __init__(self, network: nn.Module, R: torch.Tensor) -> None:
        super().__init__()
        self.network, self.R = network, R

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the score.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (N,)
            Ones.
        """
        score = (self.network(x) * self.R).flatten(1).sum(1)
        return score - score.detach() + 1


def run(
    network: Network, x: Any, target: heads.Target, composite: str | Mapping[str, Rule], dtype: str
) -> Run:
    """
    Explain with Captum.

    Parameters
    ----------
    network : Network
        The network; it is folded first.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        What is explained.
    composite : str or mapping of str to Rule
        `DEFAULT`, or rules node by node.
    dtype : {"float32", "float64"}
        In which arithmetic.

    Returns
    -------
    Run
        Relevance of the input and of every node with a rule; seconds and peak memory for that of the input.

    Raises
    ------
    BadRule
        If Captum has no such rule, or no composite of this name: it has none.
    BadNetwork
        If Captum refuses a layer, in its own words.
    """
    if isinstance(composite, str) and composite != DEFAULT:
        raise BadRule(f"Captum has no composite {composite!r}: there is '{DEFAULT}', or give it rules")
    canonical = fold(network.before_softmax())
    module = CaptumNetwork(canonical, dtype)
    chosen = _by_node(canonical, {} if isinstance(composite, str) else composite)
    inputs = torch.tensor(network.check_input(x).astype(dtype), requires_grad=True)
    R, _ = heads.start(module(inputs).detach().numpy(), target)
    started = Started(module, torch.tensor(R))

    def explain() -> dict[str, Array]:
        _give(module, chosen)
        return {INPUT: _attribute(attr.LRP(started), inputs)}

    made = measured(explain)
    _give(module, chosen)
    linear = [node.name for node in canonical.nodes if node.layer.is_linear]
    nodes = _attribute(attr.LayerLRP(started, [module.get_submodule(name) for name in linear]), inputs)
    return replace(made, relevance={**made.relevance, **dict(zip(linear, nodes, strict=True))})


def _give(module: CaptumNetwork, chosen: Mapping[str, Rule]) -> None:
    for name, rule in chosen.items():
        if (theirs := translated(rule)) is not None:
            module.get_submodule(name).rule = theirs


def _attribute(method: Any, inputs: torch.Tensor) -> Any:
    try:
        found = method.attribute(inputs)
    except TypeError as error:
        if "has no rule defined" not in str(error):
            raise
        raise BadNetwork(f"Captum: {error}") from None
    return found.detach().numpy() if isinstance(found, torch.Tensor) else [R.detach().numpy() for R in found]


def _by_node(network: Network, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """Each linear node's rule, if Captum has it; where none is named, Captum chooses."""
    linear = [node.name for node in network.nodes if node.layer.is_linear]
    chosen = {name: rules[name] for name in linear if name in rules}
    for name, rule in chosen.items():
        try:
            translated(rule)
        except BadRule as error:
            raise BadRule(f"node '{name}': {error}") from None
    return chosen


@singledispatch
def translated(rule: Rule) -> Any:
    """
    Translate a rule.

    Parameters
    ----------
    rule : Rule
        One of ours. Its stabilizer can be chosen for LRP-0 and LRP-eps only; elsewhere Captum adds 1e-9.

    Returns
    -------
    captum.attr._utils.lrp_rules.PropagationRule or None
        Captum's rule, for one use; None for what it does by itself.

    Raises
    ------
    BadRule
        If it has none.
    """
    raise BadRule(f"Captum has no rule '{rule.name}'")


def _no_bias(rule: Rule) -> bool:
    if rule.bias == "redistribute":
        raise BadRule("Captum does not redistribute biases")
    return rule.bias == "ignore"


@translated.register
def _(rule: Zero) -> Any:
    if rule.stabilizer.kind != "signed" or _no_bias(rule):
        raise BadRule("Captum's EpsilonRule has a signed eps only, and the bias")
    return lrp_rules.EpsilonRule(float(rule.stabilizer.value))


@translated.register
def _(rule: Gamma) -> Any:
    return lrp_rules.GammaRule(float(rule.gamma), _no_bias(rule))


@translated.register
def _(rule: GeneralizedGamma) -> Any:
    raise BadRule("Captum has no generalized gamma rule")


@translated.register
def _(rule: AlphaBeta) -> Any:
    if (rule.alpha, rule.beta) != (1, 0):
        raise BadRule("Captum has no alpha-beta rule but alpha 1, beta 0")
    return lrp_rules.Alpha1_Beta0_Rule(_no_bias(rule))


@translated.register
def _(rule: WinnerTakeAll) -> Any:
    if rule.ties != "first":
        raise BadRule("Captum does not split ties")


@translated.register
def _(rule: Pass) -> Any:
    return lrp_rules.IdentityRule()
