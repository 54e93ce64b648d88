"""zennit: a rule for each node by its name, its module for sums, its canonizer for batch norms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lrpref.conformance import adapters
from lrpref.conformance.adapters.libraries.torch_case import LINEAR, Case, Node, module_name, rule, tensor
from lrpref.conformance.adapters.torch_network import Add
from lrpref.errors import BadRule
from lrpref.rules import Gamma, GeneralizedGamma

NAME = "zennit"
INSTALL = "pip install zennit (--ignore-requires-python below Python 3.11.11), or in a clone: make peers"


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        The versions of zennit and PyTorch.
    """
    from importlib import metadata

    adapters.require("zennit")
    return {"version": metadata.version("zennit"), "torch": torch.__version__}


def explain(case: dict[str, Any]) -> dict[str, Any]:
    """
    Explain a vector.

    Parameters
    ----------
    case : dict
        The vector.

    Returns
    -------
    dict
        `R`; `nodes`, the relevance of every node's output; `settings`.

    Raises
    ------
    NotImplementedError
        If zennit lacks a rule, or what a rule asks for.
    """
    zennit = adapters.require("zennit")
    module = Case(case, Add)
    composite = zennit.composites.NameLayerMapComposite(
        name_map=list(dict(hook for node in case["nodes"] for hook in _hooks(node)).items()),
        layer_map=[(kind, zennit.rules.Pass()) for kind in (zennit.types.Activation, zennit.types.BatchNorm)],
        canonizers=[zennit.canonizers.SequentialMergeBatchNorm()],
    )
    x = tensor(case["input"]).requires_grad_()
    with composite.context(module):
        values = module.outputs(x)
        top = values[case["nodes"][-1]["name"]]
        found = torch.autograd.grad(top, list(values.values()), tensor(case["relevance"]), allow_unused=True)
    R = {name: R.numpy() for name, R in zip(values, found, strict=True) if R is not None}
    gamma = any((node["rule"] or {}).get("name") == "gamma" for node in case["nodes"])
    settings = "for LRP-gamma zennit's Gamma, the generalized rule" if gamma else ""
    return {"R": R.pop("input", np.zeros(case["input"].shape)), "nodes": R, "settings": settings}


def _hooks(node: Node) -> list[tuple[tuple[str], Any]]:
    """A node's place in a composite's map of names, or nothing: the gradient finds a pooling's maximum."""
    given = node["rule"]
    if given is None or node["kind"] not in LINEAR:
        return []
    if node["kind"] == "maxpool2d":
        if given["name"] != "winner-take-all" or given["ties"] != "first":
            raise NotImplementedError("zennit leaves max pooling to the gradient: a tie goes to the first")
        return []
    name = f"{node['name']}.total" if node["kind"] == "add" else module_name(node)
    try:
        from lrpref.conformance.adapters import zennit_adapter

        wanted = rule(given)
        if type(wanted) is Gamma:  # the only gamma rule that zennit has
            wanted = GeneralizedGamma(wanted.gamma, stabilizer=wanted.stabilizer, bias=wanted.bias)
        return [((name,), zennit_adapter.hook(wanted))]
    except BadRule as error:
        raise NotImplementedError(str(error)) from None
