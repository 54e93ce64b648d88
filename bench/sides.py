"""Who explains: lrpref's backends and other libraries, under composites that mean the same on both sides."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import lrpref
from lrpref.composites import SAFE, Composite
from lrpref.errors import BadRule
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.plan import Plan

Explain = Callable[[Array], Array]
"""From inputs, shape (N, C, H, W), to their relevance: the class with the highest score is explained."""

_LINEAR = {"convolution": "epsilon(1e-6)", "dense": "epsilon(1e-6)",
           "average-pooling": f"zero({SAFE})", "sum": f"zero({SAFE})",
           "max-pooling": "winner-take-all", "norm": "pass"}  # fmt: skip

COMPOSITES: dict[str, str | Composite] = {
    "epsilon-gamma-box": "epsilon-gamma-box",
    "epsilon-plus": "epsilon-plus",
    "epsilon-alpha2-beta1": "epsilon-alpha2-beta1",
    "epsilon": Composite("epsilon", kinds=_LINEAR),
}
"""The composites: zennit's names with zennit's meaning; `epsilon` is eps = 1e-6 in every layer."""

BACKENDS = ("numpy", "cpu", "cupy")
"""lrpref's backends that are compared."""

PEERS = ("zennit", "captum", "zennit-cuda", "zennit-cuda-tf32")
"""The other libraries, on the processor and on the GPU, there without and with TF32."""

GPU = ("cupy", "zennit-cuda", "zennit-cuda-tf32")
"""Who computes on a GPU; only those are compared with one another, and the others with one another."""

CAPTUM = {"networks": ("vgg16", "squeezenet", "tiny"), "composites": ("epsilon",)}
"""What Captum can take: it wants modules of its own for sums, and its gamma and alpha-beta rules mean
something else (the bias, inputs of any sign)."""


def lacks(side: str, network: str, composite: str) -> str | None:
    """
    Say what a side lacks for a case.

    Parameters
    ----------
    side : str
        One of `BACKENDS` or `PEERS`.
    network, composite : str
        The case.

    Returns
    -------
    str or None
        What is lacking, in a few words; None if nothing is known to be.
    """
    if side == "captum" and composite not in CAPTUM["composites"]:
        return "lacks these rules: of those compared here it has epsilon"
    if side == "captum" and network not in CAPTUM["networks"]:
        return "lacks plain sums: it wants a module of its own for each"
    return None


def make(side: str, network: Network, composite: str, dtype: str) -> Explain:
    """
    Get a side ready to explain; what no input changes is done here.

    Parameters
    ----------
    side : str
        One of `BACKENDS` or `PEERS`.
    network : Network
        The network.
    composite : str
        One of `COMPOSITES`.
    dtype : {"float32", "float64"}
        In which arithmetic.

    Returns
    -------
    callable
        From inputs to relevance.

    Raises
    ------
    BadRule
        If there is no such composite.
    LrprefError
        If a library is missing, or cannot take the network.
    """
    if composite not in COMPOSITES:
        raise BadRule(f"unknown composite {composite!r}: there are {', '.join(COMPOSITES)}")
    if side not in PEERS:
        return _ours(Plan(network, COMPOSITES[composite], backend=side, dtype=dtype))
    peers: Any = importlib.import_module("bench.peers")  # imports PyTorch
    library, *device = side.split("-")
    made: Explain = getattr(peers, library)(network, composite, dtype, *device)
    return made


def _ours(plan: Plan) -> Explain:
    def explain(x: Array) -> Array:
        explanation = lrpref.explain(plan, x)
        assert len(explanation.ledger.residual) == len(x)  # the books are closed: they are part of the work
        return explanation.relevance

    return explain
