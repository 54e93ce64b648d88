"""Fig. 10.2: the procedure, with its numbers: each neuron hands down as much as it has received."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref.engine import relprop
from lrpref.explanation import Explanation, explain
from lrpref.figures.drawing import BLUE, GREY, RED, Drawing, empty
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import REFERENCE
from lrpref.layers import Dense, ReLU
from lrpref.network import Network, Node, chain

X = np.array([[2.0, 1.0]])


def network() -> Network:
    """
    Give a network whose relevances under LRP-0 are whole numbers at `X`.

    Returns
    -------
    Network
        Of two inputs, three and two rectifiers, and one output.
    """
    return chain([
        ("first", Dense(np.array([[1.0, -1.0], [1.0, 1.0], [-2.0, 1.0]]), np.array([1.0, 0.0, 0.0]))),
        ("relu_first", ReLU()),
        ("second", Dense(np.array([[1.0, 1.0, 1.0], [2.0, -1.0, 1.0]]), np.array([-1.0, 1.0]))),
        ("relu_second", ReLU()),
        ("output", Dense(np.array([[1.0, 2.0]]), np.array([0.0]))),
    ], (2,))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Layer:
    """
    What a dense layer hands down.

    Parameters
    ----------
    name : str
        The layer.
    a, R : ndarray, shape (J,)
        Activation and relevance of its inputs.
    messages : ndarray, shape (K, J)
        R_j<-k, what output k hands to input j.
    bias : ndarray, shape (K,)
        What output k hands to the bias, the neuron j = 0.
    """

    name: str
    a: Array
    R: Array
    messages: Array
    bias: Array


def layers(e: Explanation) -> list[Layer]:
    """
    Take an explanation of a chain of dense layers apart.

    Parameters
    ----------
    e : Explanation
        Of one vector, its network's dense layers under rules of one share.

    Returns
    -------
    list of Layer
        From the input up.
    """
    activations = e.canonical.activations(e.x, REFERENCE)
    return [_layer(e, node, activations) for node in e.canonical.nodes if node.layer.role == "dense"]


def _layer(e: Explanation, node: Node, activations: Any) -> Layer:
    """Propagate the relevance of one output at a time: what arrives below is its messages."""
    (below,) = node.inputs
    alone = np.diag(e.at(node.name)[0])
    a = activations[below]
    step = relprop(node.layer, e.rules[node.name], np.repeat(a, len(alone), axis=0), alone)
    return Layer(node.name, a[0], e.at(below)[0], step.relevance, step.ledger.bias)


def draw() -> Drawing:
    """
    Draw the network with every activation, relevance and message.

    Returns
    -------
    Drawing
        The figure.
    """
    e = explain(network(), X, 0, "lrp-0")
    found = layers(e)
    figure = empty(9.6, 4.8)
    axes = figure.subplots()
    axes.axis("off")
    for column, layer in enumerate(found):
        above = _heights(len(layer.messages))
        for k, messages in enumerate(layer.messages):
            ends = zip([*_heights(len(messages)), LOWEST], [*messages, layer.bias[k]], strict=True)
            for height, message in ends:
                _draw_edge(axes, (column, height), (column + 1, above[k]), message)
        if layer.bias.any():
            _draw_neuron(axes, (column, LOWEST), 1.0, layer.bias.sum(), "bias")
    activations = [*(layer.a for layer in found), e.scores[0]]
    relevances = [*(layer.R for layer in found), e.ledger.explained]
    for column, (a, R) in enumerate(zip(activations, relevances, strict=True)):
        for place in zip(_heights(len(a)), a, R, strict=True):
            _draw_neuron(axes, (column, place[0]), *place[1:])
        took = found[column].bias.sum() if column < len(found) else 0.0
        books = f"\n{R.sum():g} {took:+g} (bias) = {R.sum() + took:g}" if took else ""
        axes.text(column, TOP, f"sum R = {R.sum():g}{books}", ha="center", va="center", fontsize=10)
    for column, name in enumerate(["input", *(layer.name for layer in found)]):
        axes.text(column, TOP + 0.45, name, ha="center", va="center", fontsize=11, weight="bold")
    axes.set(xlim=(-0.4, len(found) + 0.4), ylim=(LOWEST - 0.4, TOP + 0.6))
    return Drawing(figure, _caption(e, found))


LOWEST, TOP = -2.1, 1.8


def _heights(count: int) -> list[float]:
    """Spread a layer's neurons."""
    return [((count - 1) / 2 - number) * 1.15 for number in range(count)]


def _draw_edge(axes: Any, lower: tuple[float, float], upper: tuple[float, float], message: float) -> None:
    if not message and lower[1] == LOWEST:
        return  # a bias of 0 is no neuron
    colour = (GREY, RED, BLUE)[int(np.sign(message))]
    width = 0.6 + 0.3 * abs(message)
    axes.plot(*zip(upper, lower, strict=True), color=colour, linewidth=width, alpha=0.75, zorder=1)
    if message:
        # where the edges of one neuron have parted and do not yet cross the others'
        near = 0.3 if lower[1] == LOWEST else 0.66
        place = near * np.array(upper) + (1 - near) * np.array(lower)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.text(*place, f"{message:g}", color=colour, ha="center", va="center", fontsize=9, bbox=box)


def _draw_neuron(axes: Any, place: tuple[float, float], a: float, R: float, name: str = "a") -> None:
    colour = ("white", "#fddbc7", "#d1e5f0")[int(np.sign(R))]
    box = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "0.3"}
    label = f"{name} = {a:g}" if name == "a" else name
    axes.text(*place, f"{label}\nR = {R:g}", ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def _caption(e: Explanation, found: list[Layer]) -> str:
    lines = "; ".join(
        f"{layer.name}: {row.arriving[0]:g} arrive, {row.to_inputs[0]:g} go on, {row.bias[0]:g} to the bias"
        for layer, row in ((layer, e.ledger[layer.name]) for layer in reversed(found))
    )
    x, R = (", ".join(f"{value:g}" for value in values) for values in (X[0], e.relevance[0]))
    return (
        f"Figure 10.2. The procedure: LRP-0 on a network of {len(found[0].a)} inputs, {len(found[1].a)} and "
        f"{len(found[2].a)} rectifiers and one output, at x = ({x}), f(x) = {e.ledger.explained[0]:g}. Each "
        f"box holds a neuron's activation and relevance, each edge the message that its upper neuron sends "
        f"down; grey edges carry nothing. Every neuron hands down what it received, part of it to the bias, "
        f"the neuron j = 0 ({lines}). The inputs receive ({R}); residual {e.ledger.residual[0]:g}."
    )
