"""zennit (Anders et al. 2021) on a network: its own composites, or its rule for each of ours.

zennit puts relevance where PyTorch has gradients. So the relevance of every node is the "gradient" with
respect to the node's output, once zennit's hooks are in place and the one-hot score is handed in at the top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import torch

from lrpref import composites, heads
from lrpref.conformance.adapters import Run, measured, require
from lrpref.conformance.adapters.torch_network import TorchNetwork
from lrpref.errors import BadNetwork, BadRule
from lrpref.fold import fold
from lrpref.kernels.operations import Array
from lrpref.layers import Add
from lrpref.network import Network
from lrpref.rules import AlphaBeta, Flat, GeneralizedGamma, Pass, Rule, Stabilizer, WSquare, ZBox, Zero, ZPlus

zennit = require("zennit")

NAMED = tuple(
    name for name in composites.COMPOSITES if name.replace("-", "_") in zennit.composites.COMPOSITES
)
"""The composites that zennit has under our names."""


def run(
    network: Network, x: Any, target: heads.Target, composite: str | Mapping[str, Rule], dtype: str
) -> Run:
    """
    Explain with zennit.

    Parameters
    ----------
    network : Network
        The network; it is folded first.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        What is explained.
    composite : str or mapping of str to Rule
        One of `NAMED`, or rules node by node.
    dtype : {"float32", "float64"}
        In which arithmetic.

    Returns
    -------
    Run
        Relevance of every node that the explained quantity depends on, seconds, peak memory.

    Raises
    ------
    BadRule
        If zennit has no such composite or rule.
    BadNetwork
        If zennit would take another convolution for the first one.
    """
    canonical = fold(network.before_softmax())
    module = TorchNetwork(canonical, dtype)
    _check_order(module, canonical)
    hooks = _named(canonical, composite) if isinstance(composite, str) else _by_node(canonical, composite)
    inputs = torch.tensor(network.check_input(x).astype(dtype), requires_grad=True)

    def explain() -> dict[str, Array]:
        with hooks.context(module):
            values = module.outputs(inputs)
            scores = values[canonical.top]
            R, _ = heads.start(scores.detach().numpy(), target)
            found = torch.autograd.grad(scores, list(values.values()), torch.tensor(R), allow_unused=True)
        return {name: R.numpy() for name, R in zip(values, found, strict=True) if R is not None}

    return measured(explain)


def _check_order(module: TorchNetwork, network: Network) -> None:
    """Zennit's "first layer" is the first in the order of definition, PyTorch's order of modules."""
    names = [node.name for node in network.nodes]
    if [name for name, _ in module.named_modules() if name in names] != names:
        raise BadNetwork("zennit wants nodes that share a prefix of their names to follow one another")


def _named(network: Network, name: str) -> Any:
    """Zennit's composite of this name, with its defaults."""
    if name not in NAMED:
        raise BadRule(f"zennit has no composite {name!r}: there are {', '.join(NAMED)}")
    made = zennit.composites.COMPOSITES[name.replace("-", "_")]
    if name != "epsilon-gamma-box":
        return made()
    if network.preprocessing is None:
        raise BadRule("zennit's composite 'epsilon-gamma-box' needs bounds: a network with preprocessing")
    low, high = (torch.tensor(bound)[None] for bound in network.preprocessing.box())  # zennit adds H and W
    return made(low=low, high=high)


def _by_node(network: Network, rules: Mapping[str, Rule]) -> Any:
    """A composite that gives each linear node zennit's form of its rule; activations pass.

    Max pooling is given none, whatever is asked for, as in zennit's own composites: its gradient selects.
    """
    hooks = []
    for node in network.nodes:
        rule = rules.get(node.name)
        if node.layer.is_linear and rule is not None and node.layer.role != "max-pooling":
            name = f"{node.name}.total" if isinstance(node.layer, Add) else node.name
            try:
                hooks.append(((name,), hook(rule)))
            except BadRule as error:
                raise BadRule(f"node '{node.name}': {error}") from None
    passing = [(zennit.types.Activation, zennit.rules.Pass())]
    return zennit.composites.NameLayerMapComposite(name_map=hooks, layer_map=passing)


def _stabilizer(stabilizer: Stabilizer) -> Callable[[Any], Any]:
    if stabilizer.kind == "unsigned":
        return lambda z: z + stabilizer.value
    made: Callable[[Any], Any] = zennit.core.Stabilizer(
        float(stabilizer.value), norm_scale=stabilizer.kind == "relative"
    )
    return made


def _options(rule: Rule) -> dict[str, Any]:
    """What every rule of zennit's takes."""
    if rule.bias == "redistribute":
        raise BadRule("zennit does not redistribute biases")
    return {
        "stabilizer": _stabilizer(rule.stabilizer),
        "zero_params": ["bias"] if rule.bias == "ignore" else None,
    }


@singledispatch
def hook(rule: Rule) -> Any:
    """
    Translate a rule.

    Parameters
    ----------
    rule : Rule
        One of ours, with its stabilizer and its treatment of the bias.

    Returns
    -------
    zennit.core.Hook
        Zennit's rule. Its w2 has b^2 in the denominator unless the bias is ignored; ours never has.

    Raises
    ------
    BadRule
        If zennit has none; the simple gamma rule is one.
    """
    raise BadRule(f"zennit has no rule '{rule}'")


@hook.register
def _(rule: Zero) -> Any:
    options = _options(rule)
    return zennit.rules.Epsilon(options["stabilizer"], options["zero_params"])


@hook.register
def _(rule: GeneralizedGamma) -> Any:
    return zennit.rules.Gamma(rule.gamma, **_options(rule))


@hook.register
def _(rule: AlphaBeta) -> Any:
    return zennit.rules.AlphaBeta(rule.alpha, rule.beta, **_options(rule))


@hook.register
def _(rule: ZPlus) -> Any:
    return zennit.rules.ZPlus(**_options(rule))


@hook.register
def _(rule: Flat) -> Any:
    return zennit.rules.Flat(**_options(rule))


@hook.register
def _(rule: WSquare) -> Any:
    return zennit.rules.WSquare(**_options(rule))


@hook.register
def _(rule: ZBox) -> Any:
    low, high = (torch.tensor(bound)[None] for bound in (rule.low, rule.high))
    return zennit.rules.ZBox(low, high, **_options(rule))


@hook.register
def _(rule: Pass) -> Any:
    return zennit.rules.Pass()
