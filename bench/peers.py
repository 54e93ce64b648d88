"""zennit and Captum on the modules that `adapters.to_torch` makes: the very same weights, batch norms folded.

Both are spared what they need not do: no gradients of weights, hooks that stay in place over calls, and no
activation that nobody reads again is kept alive.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.sides import Explain
from lrpref.conformance import adapters
from lrpref.conformance.adapters.torch_network import TorchNetwork
from lrpref.errors import BadBackend
from lrpref.fold import fold
from lrpref.kernels.operations import Array
from lrpref.layers import Concat, Flatten, Identity
from lrpref.network import INPUT, Network

EPS, NO_EPS = 1e-6, 1e-30


class Lean(TorchNetwork):
    """
    A network as a module that lets go of what no node reads again.

    Parameters
    ----------
    network : Network
        The network.
    dtype : {"float32", "float64"}
        Of its weights.
    hidden : tuple of type
        Layers that are no modules of their own but plain functions in `forward`.
    """

    def __init__(self, network: Network, dtype: str, hidden: tuple[type, ...] = ()) -> None:
        super().__init__(network, dtype)
        self.functions: dict[str, nn.Module] = {}  # nn.Module does not look into a dict
        for node in network.nodes:
            if isinstance(node.layer, hidden):
                self.functions[node.name] = self.get_submodule(node.name)
                above, _, last = node.name.rpartition(".")
                delattr(self.get_submodule(above), last)
        last_reader = {name: i for i, (_, inputs) in enumerate(self.wiring) for name in inputs}
        self.spent = [
            [name for name, last in last_reader.items() if last == i] for i in range(len(self.wiring))
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the output.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (N, K)
            The output of the last node.
        """
        values = {INPUT: x}
        for (name, inputs), spent in zip(self.wiring, self.spent, strict=True):
            module = self.functions[name] if name in self.functions else self.get_submodule(name)
            values[name] = module(*(values[i] for i in inputs))
            for old in spent:
                del values[old]
        return values[self.wiring[-1][0]]


def _checked(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise BadBackend("PyTorch finds no GPU")
    return device


def zennit(network: Network, composite: str, dtype: str, device: str = "cpu", tf32: str = "") -> Explain:
    """
    Get zennit ready.

    Parameters
    ----------
    network : Network
        The network; it is folded.
    composite : str
        A name of zennit's, or `epsilon`.
    dtype : {"float32", "float64"}
        In which arithmetic.
    device : {"cpu", "cuda"}
        Where.
    tf32 : str
        Whether products may be rounded to TF32 on a GPU; empty: they may not.

    Returns
    -------
    callable
        From inputs to relevance.

    Raises
    ------
    BadBackend
        If zennit is not installed, or there is no such device.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(tf32)
    library = adapters.require("zennit")
    module = Lean(fold(network.before_softmax()), dtype).to(_checked(device))
    attributor = library.attribution.Gradient(module, _zennits(library, network, composite, device), _score)
    attributor.__enter__()  # for the rest of the process

    def explain(x: Array) -> Array:
        _, relevance = attributor(torch.tensor(x, device=device, requires_grad=True))
        made: Array = relevance.detach().cpu().numpy()
        return made

    return explain


def _score(output: torch.Tensor) -> torch.Tensor:
    """Put the highest score at its place, and 0 elsewhere: what lrpref starts from."""
    return nn.functional.one_hot(output.argmax(1), output.shape[1]) * output


def _zennits(library: Any, network: Network, composite: str, device: str) -> Any:
    composites, rules, types = library.composites, library.rules, library.types
    if composite == "epsilon":
        return composites.LayerMapComposite([
            *composites.layer_map_base(EPS),
            (types.Convolution, rules.Epsilon(EPS)),
            (types.Linear, rules.Epsilon(EPS)),
        ])  # fmt: skip
    made = composites.COMPOSITES[composite.replace("-", "_")]
    if not composite.endswith("box"):
        return made()
    assert network.preprocessing is not None
    low, high = (torch.tensor(bound, device=device)[None] for bound in network.preprocessing.box())
    return made(low=low, high=high)


def captum(network: Network, composite: str, dtype: str) -> Explain:
    """
    Get Captum ready: its epsilon rule, with our eps; in max poolings, where we have none, with next to none.

    Captum is told which class to explain. The forward pass that finds it is not part of `explain`: call
    `explain.prepare(x)` before.

    Parameters
    ----------
    network : Network
        The network; it is folded.
    composite : {"epsilon"}
        The rules.
    dtype : {"float32", "float64"}
        In which arithmetic.

    Returns
    -------
    callable
        From inputs to relevance.

    Raises
    ------
    BadBackend
        If Captum is not installed.
    """
    adapters.require("captum")
    attr = adapters.require("captum.attr")
    epsilon = adapters.require("captum.attr._utils.lrp_rules").EpsilonRule
    # Captum refuses modules it has no rule for, even where there is nothing to redistribute
    module = Lean(fold(network.before_softmax()), dtype, hidden=(Flatten, Identity, Concat))
    explainer = attr.LRP(module)
    chosen: list[torch.Tensor] = []

    def prepare(x: Array) -> None:
        with torch.no_grad():
            chosen[:] = [module(torch.tensor(x)).argmax(1)]

    def explain(x: Array) -> Array:
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.AdaptiveAvgPool2d | nn.MaxPool2d):
                # each call forgets the rules
                part.rule = epsilon(NO_EPS if isinstance(part, nn.MaxPool2d) else EPS)
        made: Array = (
            explainer.attribute(torch.tensor(x, requires_grad=True), target=chosen[0]).detach().numpy()
        )
        return made

    explain.prepare = prepare  # type: ignore[attr-defined]
    return explain
