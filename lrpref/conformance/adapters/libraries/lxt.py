"""LXT: its epsilon rule, function by function; made for transformers, it has no other for linear layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from lrpref.conformance.adapters.libraries.torch_case import LINEAR, Case, Node, module_name, tensor

NAME = "lxt"
INSTALL = "pip install --no-deps lxt, beside torch and zennit; or in a clone: make peers"


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        The versions of LXT and PyTorch.
    """
    from importlib import metadata

    import lxt.explicit.functional  # noqa: F401  that it can be imported

    return {"version": metadata.version("lxt"), "torch": torch.__version__}


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
        `R`, `nodes` and `settings`.

    Raises
    ------
    NotImplementedError
        If LXT has no such rule.
    """
    module = Case(case)
    for node in case["nodes"]:
        _replace(module, node)
    x = tensor(case["input"]).requires_grad_()
    values = module.outputs(x)
    top = values[case["nodes"][-1]["name"]]
    found = torch.autograd.grad(top, list(values.values()), tensor(case["relevance"]), allow_unused=True)
    R = {name: R.numpy() for name, R in zip(values, found, strict=True) if R is not None}
    said = "LXT adds eps itself, whatever the sign of z" if _signed(case) else ""
    return {"R": R.pop("input"), "nodes": R, "settings": said}


def _signed(case: dict[str, Any]) -> bool:
    stabilizers = [node["rule"]["stabilizer"] for node in case["nodes"] if node["rule"]]
    return any(stabilizer["kind"] == "signed" and stabilizer["value"] for stabilizer in stabilizers)


def _replace(module: Case, node: Node) -> None:
    """Put LXT's function in the place of a node's module."""
    from lxt.explicit import functional, rules

    name, rule = node["name"], node["rule"]
    own: Any = module.functions.get(name) or module.get_submodule(module_name(node))
    passes = rule is not None and rule["name"] == "pass"
    if node["kind"] == "relu" or passes:
        module.functions[name] = rules.IdentityRule(own)
    if node["kind"] not in LINEAR or passes:
        return
    if node["kind"] == "maxpool2d" and rule["name"] == "winner-take-all" and rule["ties"] == "first":
        return  # the gradient's way
    if rule is None:
        raise NotImplementedError("LXT folds no batch norm")
    if rule["name"] not in ("zero", "epsilon"):
        raise NotImplementedError(f"LXT has no rule '{rule['name']}' for {node['kind']}")
    if rule["bias"] != "absorb":
        raise NotImplementedError("LXT's epsilon rule has the bias in its denominator")
    if rule["stabilizer"]["kind"] == "relative":
        raise NotImplementedError("LXT has no relative eps")
    eps = float(rule["stabilizer"]["value"])
    if node["kind"] == "dense":
        module.functions[name] = partial(
            functional.linear_epsilon, weight=own.weight, bias=own.bias, epsilon=eps
        )
    elif node["kind"] == "add":
        if len(node["inputs"]) != 2:
            raise NotImplementedError("LXT's add2 adds two")
        module.functions[name] = partial(functional.add2, epsilon=eps)
    else:
        module.functions[name] = rules.EpsilonRule(own, epsilon=eps)
