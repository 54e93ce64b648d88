"""A vector's network as a `torch.nn.Module`, straight from the vector: nothing of it is ours but the wiring.

Relevance libraries see modules, so the modules are those that their users would write: `nn.Conv1d` for
conv1d, the library's own module for a sum. What only moves numbers is no module but a function call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lrpref.conformance.adapters.torch_network import UnevenConv2d
from lrpref.rules import RULES, Rule, Stabilizer

Node = dict[str, Any]


class Sum(nn.Module):  # type: ignore[misc, unused-ignore]
    """A sum of branches, written as a plain `+`."""

    def forward(self, *branches: torch.Tensor) -> torch.Tensor:
        """
        Add up.

        Parameters
        ----------
        *branches : torch.Tensor, shape (N, ...)
            Of one shape.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            Their sum.
        """
        total = branches[0]
        for branch in branches[1:]:
            total = total + branch
        return total


class UnevenConv1d(nn.Conv1d):  # type: ignore[misc, unused-ignore]
    """
    A convolution in one dimension with its own padding on each side.

    Parameters
    ----------
    sides : tuple of int
        Padding (left, right).
    *arguments, **options
        As for `torch.nn.Conv1d`.
    """

    def __init__(self, sides: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sides = sides

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """
        Pad, then convolve.

        Parameters
        ----------
        input : torch.Tensor, shape (N, C, L)
            The row.

        Returns
        -------
        torch.Tensor, shape (N, K, Lo)
            z.
        """
        return super().forward(functional.pad(input, self.sides))


class Case(nn.Module):  # type: ignore[misc, unused-ignore]
    """
    A vector's network.

    Parameters
    ----------
    case : dict
        The vector, its arrays as NumPy arrays.
    total : callable
        Makes the module that adds branches: the library's, where it has one.
    without_modules : tuple of str
        Kinds of nodes that are function calls and not modules: a flattening is `torch.flatten`.
    """

    def __init__(
        self,
        case: Mapping[str, Any],
        total: Callable[[], nn.Module] = Sum,
        without_modules: tuple[str, ...] = ("flatten", "concat", "pad", "identity"),
    ) -> None:
        super().__init__()
        self.nodes: list[Node] = case["nodes"]
        self.functions: dict[str, Callable[..., torch.Tensor]] = {}
        axes = {"input": case["input"].ndim}
        for node in self.nodes:
            axes[node["name"]] = {"dense": 2, "flatten": 2}.get(node["kind"], axes[node["inputs"][0]])
            if node["kind"] in without_modules:
                self.functions[node["name"]] = FUNCTIONS[node["kind"]](node)
            elif module_name(node) not in dict(self.named_children()):
                make = MODULES.get(node["kind"])
                made = total() if make is None else make({**node, "axes": axes[node["name"]]})
                self.add_module(module_name(node), made)
        self.double().eval()
        for parameter in self.parameters():
            parameter.requires_grad_(False)

    def outputs(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Run the forward pass and keep every node's output.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        dict of str to torch.Tensor
            Outputs by node, and the input under `"input"`.
        """
        values = {"input": x}
        for node in self.nodes:
            name = node["name"]
            step = self.functions[name] if name in self.functions else self.get_submodule(module_name(node))
            values[name] = step(*(values[i] for i in node["inputs"]))
        return values

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Compute the output.

        Parameters
        ----------
        x : torch.Tensor, shape (N, ...)
            Inputs.

        Returns
        -------
        torch.Tensor, shape (N, ...)
            The last node's output.
        """
        return self.outputs(x)[self.nodes[-1]["name"]]


def module_name(node: Node) -> str:
    """
    Name the module that computes a node: nodes may share one.

    Parameters
    ----------
    node : dict
        The node.

    Returns
    -------
    str
        The node's own name, or the shared module's.
    """
    name: str = node.get("module") or node["name"]
    return name


def tensor(array: Any) -> torch.Tensor:
    """
    Copy an array of float64.

    Parameters
    ----------
    array : array_like
        The numbers.

    Returns
    -------
    torch.Tensor
        The same numbers.
    """
    return torch.tensor(np.asarray(array, np.float64))


def _filled(module: nn.Module, **arrays: Any) -> nn.Module:
    """Give a module these parameters and buffers."""
    module.double()
    module.load_state_dict({name: tensor(a) for name, a in arrays.items() if a is not None}, strict=False)
    return module


def _dense(node: Node) -> nn.Module:
    outputs, inputs = node["weight"].shape
    made = nn.Linear(inputs, outputs, bias=node["bias"] is not None)
    return _filled(made, weight=node["weight"], bias=node["bias"])


def _convolution(node: Node, even: Callable[..., Any], uneven: Callable[..., Any]) -> nn.Module:
    weight, sides = node["weight"], node["padding"]
    befores, afters = sides[::2], sides[1::2]
    options = {name: tuple(np.atleast_1d(node[name]).tolist()) for name in ("stride", "dilation")}
    last_axis_first = tuple(side for pair in zip(befores[::-1], afters[::-1], strict=True) for side in pair)
    make = even if befores == afters else partial(uneven, last_axis_first)
    made = make(
        weight.shape[1] * node["groups"], len(weight), weight.shape[2:], groups=node["groups"],
        bias=node["bias"] is not None, padding=tuple(befores) if befores == afters else 0, **options,
    )  # fmt: skip
    return _filled(made, weight=weight, bias=node["bias"])


def _conv2d(node: Node) -> nn.Module:
    return _convolution(node, nn.Conv2d, UnevenConv2d)


def _conv1d(node: Node) -> nn.Module:
    return _convolution(node, nn.Conv1d, UnevenConv1d)


def _pool(node: Node) -> dict[str, Any]:
    """What all poolings share."""
    top, bottom, left, right = node["padding"]
    if top != bottom or left != right:
        raise NotImplementedError("PyTorch's poolings pad both sides alike")
    return {
        "kernel_size": tuple(node["kernel"]),
        "stride": tuple(node["stride"]),
        "padding": (top, left),
        "ceil_mode": bool(node.get("ceil_mode", False)),
    }


def _avgpool2d(node: Node) -> nn.Module:
    counted, divisor = node.get("count_include_pad", True), node.get("divisor")
    return nn.AvgPool2d(**_pool(node), count_include_pad=counted, divisor_override=divisor)


def _sumpool2d(node: Node) -> nn.Module:
    return nn.AvgPool2d(**_pool(node), divisor_override=1)


def _maxpool2d(node: Node) -> nn.Module:
    return nn.MaxPool2d(**_pool(node))


def _batchnorm(node: Node) -> nn.Module:
    """Mean 0, variance 1 and eps 0 leave nothing but scale and shift, without rounding."""
    make = nn.BatchNorm2d if node["axes"] == 4 else nn.BatchNorm1d
    made = make(len(node["scale"]), eps=0.0)
    return _filled(made, weight=node["scale"], bias=node["shift"])


def _relu(node: Node) -> nn.Module:
    return nn.ReLU()


MODULES: dict[str, Callable[[Node], nn.Module]] = {
    "dense": _dense,
    "conv1d": _conv1d,
    "conv2d": _conv2d,
    "avgpool2d": _avgpool2d,
    "sumpool2d": _sumpool2d,
    "maxpool2d": _maxpool2d,
    "batchnorm": _batchnorm,
    "relu": _relu,
}
"""Kinds of nodes that are modules; `add` is one too, the library's."""


LINEAR = (*(kind for kind in MODULES if kind != "relu"), "add")
"""Kinds of nodes that take a rule."""


def _flatten(node: Node) -> Callable[..., torch.Tensor]:
    def flatten(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)

    return flatten


def _identity(node: Node) -> Callable[..., torch.Tensor]:
    def identity(x: torch.Tensor) -> torch.Tensor:
        return x

    return identity


def _concat(node: Node) -> Callable[..., torch.Tensor]:
    def concat(*parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=node["axis"] + 1)

    return concat


def _pad(node: Node) -> Callable[..., torch.Tensor]:
    top, bottom, left, right = node["padding"]

    def pad(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, (left, right, top, bottom), value=float(node.get("value", 0.0)))

    return pad


FUNCTIONS: dict[str, Callable[[Node], Callable[..., torch.Tensor]]] = {
    "flatten": _flatten,
    "identity": _identity,
    "concat": _concat,
    "pad": _pad,
}
"""Kinds of nodes that only move numbers."""


def rule(given: Mapping[str, Any]) -> Rule:
    """
    Read a vector's rule.

    Parameters
    ----------
    given : dict
        Its name, parameters, stabilizer and treatment of the bias.

    Returns
    -------
    Rule
        One of ours: what the adapters translate.
    """
    options = {name: value for name, value in given.items() if name not in ("name", "stabilizer")}
    stabilizer = Stabilizer(given["stabilizer"]["kind"], given["stabilizer"]["value"])
    options["eps" if given["name"] == "epsilon" else "stabilizer"] = stabilizer
    return RULES[given["name"]](**options)
