"""Other libraries on the same network and input: the relevance they give every node, and what it costs.

>>> from lrpref.conformance import adapters                                             # doctest: +SKIP
>>> theirs = adapters.run(net, x, 483, "epsilon-plus", peer="zennit")                   # doctest: +SKIP
>>> abs(theirs.relevance["input"] - lrpref.explain(net, x, 483, "epsilon-plus").relevance).max()
...                                                                                     # doctest: +SKIP

One module for each peer, with one function `run`. PyTorch and the peers are imported only when they are
asked for; `make peers` installs them. What a library makes of single vectors, in a process of its own, is
`process.explain_all`.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrpref.errors import BadBackend
from lrpref.heads import Target
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.rules import Rule

if TYPE_CHECKING:
    from lrpref.conformance.adapters.torch_network import TorchNetwork

_MODULES = {"zennit": "zennit_adapter", "captum": "captum_adapter"}

PEERS = tuple(_MODULES)


@dataclass(frozen=True)
class Run:
    """
    What a peer made of a network and an input.

    Parameters
    ----------
    relevance : mapping of str to ndarray
        Relevance of the nodes' outputs, by the names of the canonical form, and of the `"input"`.
    seconds : float
        Forward pass and propagation; without imports and the conversion of the network.
    peak_memory : int
        By how many bytes the process's largest resident size grew meanwhile: 0 if it was larger at some
        time before. A figure to publish wants a process of its own, as in bench/turn.py.
    """

    relevance: Mapping[str, Array]
    seconds: float
    peak_memory: int


def to_torch(network: Network, dtype: str = "float64") -> TorchNetwork:
    """
    Turn a network into a `torch.nn.Module` that computes the same function.

    Parameters
    ----------
    network : Network
        The network, as it is: nothing is folded.
    dtype : {"float32", "float64"}
        Of its weights.

    Returns
    -------
    TorchNetwork
        One module for each node, under the node's name, in evaluation mode.

    Raises
    ------
    BadBackend
        If PyTorch is not installed.
    BadNetwork
        If PyTorch has no counterpart of a layer; the message names the node.
    """
    require("torch")
    from lrpref.conformance.adapters.torch_network import TorchNetwork

    return TorchNetwork(network, dtype)


def run(
    network: Network,
    x: Any,
    target: Target = "max",
    composite: str | Mapping[str, Rule] = "epsilon-plus",
    *,
    peer: str = "zennit",
    dtype: str = "float64",
) -> Run:
    """
    Let a peer explain a network's output.

    Parameters
    ----------
    network : Network
        The network; it is folded first, as `lrpref.explain` does.
    x : array_like, shape (N, ...)
        Preprocessed inputs.
    target : int, sequence of int, "max", or array_like of float, shape (N, K)
        As in `lrpref.explain`; the initial relevance is the same, the class's score.
    composite : str or mapping of str to Rule
        The peer's own composite of this name, which chooses the rules itself (Captum's `default`); or rules
        node by node, each of which is translated to the peer's.
    peer : str
        One of `PEERS`.
    dtype : {"float32", "float64"}
        In which arithmetic.

    Returns
    -------
    Run
        Relevance of every node, for Captum of those that take a rule; seconds, peak memory.

    Raises
    ------
    BadBackend
        If there is no such peer, or it is not installed.
    BadRule
        If the peer has no such composite or rule.
    BadNetwork
        If the peer cannot take the network.
    """
    if peer not in _MODULES:
        raise BadBackend(f"unknown peer {peer!r}: there are {', '.join(PEERS)}")
    require(peer)
    adapter = importlib.import_module(f"{__name__}.{_MODULES[peer]}")
    made: Run = adapter.run(network, x, target, composite, dtype)
    return made


def require(package: str) -> Any:
    """
    Import a package that `make peers` installs.

    Parameters
    ----------
    package : str
        Its import name.

    Returns
    -------
    module
        The package.

    Raises
    ------
    BadBackend
        If it is not installed; never is a comparison left out in silence.
    """
    if package in ("torchvision", "zennit"):  # zennit imports torchvision
        require("torch")
        from lrpref.conformance.adapters.torchvision_shim import import_torchvision

        _imported(import_torchvision, "torchvision")
    return _imported(importlib.import_module, package)


def _imported(load: Callable[[str], Any], package: str) -> Any:
    try:
        return load(package)
    except ModuleNotFoundError as error:
        how = "pip install it, or in a clone: make peers"
        raise BadBackend(f"{error.name} is not installed: {how}") from None


def peak_memory() -> int:
    """
    Give the largest resident size that this process ever had.

    Returns
    -------
    int
        In bytes.
    """
    import resource  # Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measured(explain: Callable[[], Mapping[str, Array]]) -> Run:
    """
    Run a peer and measure what it costs.

    Parameters
    ----------
    explain : callable
        Gives the relevance of every node.

    Returns
    -------
    Run
        The relevance with seconds and peak memory.
    """
    before, start = peak_memory(), time.perf_counter()
    relevance = explain()
    return Run(relevance, time.perf_counter() - start, peak_memory() - before)
