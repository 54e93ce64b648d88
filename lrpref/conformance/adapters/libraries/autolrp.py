"""autoLRP: a rule for each kind of operation in PyTorch's graph, one eps for all.

It starts from one output and with relevance 1; LRP is linear in what it starts from, so that any initial
relevance is a sum of such runs, one for each output of each sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lrpref.conformance.adapters.libraries.torch_case import Case, Node, tensor
from lrpref.kernels.operations import Array

NAME = "autolrp"
INSTALL = "pip install autoLRP, or in a clone: make peers"

PRODUCTS = {
    "dense": ("AddmmBackward", "MmBackward"),
    "conv1d": ("ConvolutionBackward",),
    "conv2d": ("ConvolutionBackward",),
}
"""The operations that take a rule, by kind of node."""


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        The versions of autoLRP and PyTorch.
    """
    from importlib import metadata

    import autolrp  # noqa: F401  that it can be imported

    return {"version": metadata.version("autolrp"), "torch": torch.__version__}


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
        `R` and `settings`.

    Raises
    ------
    NotImplementedError
        If autoLRP has no such rule, or would have to use two rules for one kind of operation.
    """
    import autolrp

    module = Case(case)
    config = autolrp.LRPConfig(rule={**autolrp.BASE, **_rules(case["nodes"])}, eps=_eps(case["nodes"]))
    R = np.zeros(case["input"].shape)
    for place in np.argwhere(case["relevance"] != 0):
        sample, output = int(place[0]), tuple(int(i) for i in place[1:])
        x = autolrp.tensor(tensor(case["input"][sample : sample + 1]))
        module(x)[(0, *output)].lrp(config=config)
        R[sample] += case["relevance"][tuple(place)] * _relevance(x)
    return {"R": R, "settings": _settings(case["nodes"])}


def _relevance(x: Any) -> Array:
    found: Array = torch.Tensor(x.relevance.detach()).numpy()[0]
    return found


def _rules(nodes: list[Node]) -> dict[str, Any]:
    """Entries for the operations that take a rule, which must agree where operations do."""
    entries: dict[str, Any] = {}
    for node in nodes:
        rule = node["rule"]
        if rule is None:
            continue
        if node["kind"] not in PRODUCTS:
            _check(node["kind"], rule)
            continue
        for operation in PRODUCTS[node["kind"]]:
            if entries.setdefault(operation, _entry(rule)) != _entry(rule):
                raise NotImplementedError("autoLRP has one rule for all operations of one kind")
    return entries


def _entry(rule: dict[str, Any]) -> Any:
    """autoLRP's name and parameters of a rule."""
    name = rule["name"]
    if rule["bias"] != "absorb":
        raise NotImplementedError("autoLRP has one way of its own with biases")
    if name in ("zero", "epsilon"):
        return "epsilon"
    if name == "z-plus":
        return "zplus"
    if name == "alpha-beta":
        return ("alpha_beta", {"alpha": float(rule["alpha"]), "beta": float(rule["beta"])})
    if name in ("gamma", "generalized-gamma"):
        own = "gamma_montavon" if name == "gamma" else "gamma"
        return (own, {"gamma": float(rule["gamma"])})
    if name == "z-box":
        low, high = np.unique(rule["low"]), np.unique(rule["high"])
        if len(low) > 1 or len(high) > 1:
            raise NotImplementedError("autoLRP's zbox has one low and one high for all channels")
        return ("zbox", {"low": float(low[0]), "high": float(high[0])})
    raise NotImplementedError(f"autoLRP has no rule '{name}'")


def _check(kind: str, rule: dict[str, Any]) -> None:
    """What lies outside the products cannot be chosen: it stands for LRP-0, and for the winner."""
    if kind == "maxpool2d":
        if rule["name"] != "winner-take-all" or rule["ties"] != "first":
            raise NotImplementedError("autoLRP leaves max pooling to the gradient: a tie goes to the first")
    elif rule["name"] not in ("zero", "epsilon") and not (kind == "batchnorm" and rule["name"] == "pass"):
        raise NotImplementedError(f"autoLRP has no rule '{rule['name']}' for {kind}")


def _eps(nodes: list[Node]) -> float:
    """The one eps of a run."""
    stabilizers = [node["rule"]["stabilizer"] for node in nodes if node["rule"] is not None]
    values = {float(stabilizer["value"]) for stabilizer in stabilizers}
    if {stabilizer["kind"] for stabilizer in stabilizers} - {"signed"} or len(values) > 1:
        raise NotImplementedError("autoLRP has one signed eps for all operations")
    return values.pop() if values else 0.0


def _settings(nodes: list[Node]) -> str:
    own = {
        "add": "sums are split by magnitude",
        "avgpool2d": "average pooling hands out equal parts",
        "sumpool2d": "sum pooling hands out the gradient",
        "batchnorm": "batch norms pass",
    }
    return "; ".join(own[kind] for kind in dict.fromkeys(node["kind"] for node in nodes) if kind in own)
