"""Captum: a rule as an attribute of each module, its Addition_Module for sums.

Captum deletes the rules after each call (its issue 1059), so that a module is made anew for every vector.
"""

from __future__ import annotations

from typing import Any

import torch

from lrpref.conformance.adapters.libraries.torch_case import LINEAR, Case, Node, module_name, rule, tensor
from lrpref.errors import BadRule

NAME = "captum"
INSTALL = "pip install captum, or in a clone: make peers"


def version() -> dict[str, str]:
    """
    Say what runs here.

    Returns
    -------
    dict of str to str
        The versions of Captum and PyTorch.
    """
    from importlib import metadata

    import captum.attr  # noqa: F401  that it can be imported

    return {"version": metadata.version("captum"), "torch": torch.__version__}


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
        `R` and `settings`; Captum gives no relevance of other nodes.

    Raises
    ------
    NotImplementedError
        If Captum lacks a rule or a layer, in its own words.
    """
    from lrpref.conformance.adapters.captum_adapter import Addition, Started, attr

    module = Case(case, Addition)
    settings = {}
    for node in case["nodes"]:
        if node["kind"] == "add" and len(node["inputs"]) != 2:
            raise NotImplementedError("Captum's Addition_Module adds two")
        if (theirs := _rule(node)) is not None:
            module.get_submodule(module_name(node)).rule = theirs
            settings[type(theirs).__name__] = theirs.STABILITY_FACTOR
    try:
        started = Started(module, tensor(case["relevance"]))
        R = attr.LRP(started).attribute(tensor(case["input"]).requires_grad_())
    except (TypeError, RuntimeError) as error:
        if "has no rule defined" not in str(error) and "not supported by LRP" not in str(error):
            raise
        raise NotImplementedError(str(error)) from None
    said = "; ".join(f"{name} adds {eps:g} to denominators" for name, eps in settings.items())
    return {"R": R.detach().numpy(), "settings": said}


def _rule(node: Node) -> Any:
    """Captum's form of a node's rule, or None."""
    from lrpref.conformance.adapters import captum_adapter

    if node["rule"] is None or node["kind"] not in LINEAR:
        return None
    if node["kind"] == "maxpool2d" and node["rule"]["name"] != "winner-take-all":
        raise NotImplementedError("Captum leaves max pooling to the gradient")
    try:
        return captum_adapter.translated(rule(node["rule"]))
    except BadRule as error:
        raise NotImplementedError(str(error)) from None
