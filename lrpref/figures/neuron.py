"""Fig. 10.3: a neuron's relevance, modelled, expanded at each rule's reference point, and handed down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrpref.engine import relprop
from lrpref.figures.drawing import Drawing, empty
from lrpref.kernels.operations import Array
from lrpref.layers import Dense
from lrpref.rules import Epsilon, Gamma, Rule, WSquare, ZBox, Zero
from lrpref.theory import (
    BoxReference,
    EpsilonReference,
    Expansion,
    GammaReference,
    Reference,
    SquareReference,
    ZeroReference,
    expand,
)

EPS, GAMMA, LOW, HIGH = 1.0, 1.0, -2.0, 2.0

MODULATION = 2.0
"""c_k, by which the relevance of each neuron is its activation."""


class Way(NamedTuple):
    """
    How one rule looks at a neuron.

    Parameters
    ----------
    reference : Reference
        Its reference point.
    rule : Rule
        The rule itself, to compare the terms with.
    colour : str
        In which it is drawn.
    """

    reference: Reference
    rule: Rule
    colour: str


# Without a bias the neuron is two-dimensional: the point moves in the plane, a_0 stays.
HIDDEN: Mapping[str, Way] = {
    "LRP-0": Way(ZeroReference(fixed_bias=True), Zero(), "#1b7837"),
    f"LRP-eps ({EPS:g})": Way(EpsilonReference(EPS, fixed_bias=True), Epsilon(EPS), "#e08214"),
    f"LRP-gamma ({GAMMA:g})": Way(GammaReference(GAMMA, fixed_bias=True), Gamma(GAMMA), "#542788"),
}
"""The rules for layers that receive ReLU activations."""

FIRST: Mapping[str, Way] = {
    f"z^B ({LOW:g} to {HIGH:g})": Way(BoxReference(LOW, HIGH), ZBox(LOW, HIGH), "#1f78b4"),
    "w^2": Way(SquareReference(), WSquare(), "#8c510a"),
}
"""The rules for the layer that receives the input."""


@dataclass(frozen=True, eq=False)
class Neuron:
    """
    A neuron with two inputs and no bias, at a data point.

    Parameters
    ----------
    about : str
        What is special about it.
    a, w : ndarray of float64, shape (2,)
        The data point and the weights.
    ways : mapping of str to Way
        The rules that apply, by name.
    low, high : float
        The part of the plane that is shown, the domain of its inputs.
    """

    about: str
    a: Array
    w: Array
    ways: Mapping[str, Way]
    low: float
    high: float

    @property
    def relevance(self) -> float:
        """What arrives at the neuron: its activation times `MODULATION`."""
        return max(0.0, float(self.a @ self.w)) * MODULATION

    @property
    def formula(self) -> str:
        """The preactivation in letters."""
        first, second = ("" if abs(v) == 1 else f"{abs(v):g} " for v in self.w)
        return f"{first}a1 {'-' if self.w[1] < 0 else '+'} {second}a2"


AGAINST = Neuron(
    "its inputs contradict each other", np.array([2.0, 3.0]), np.array([2.0, -1.0]), HIDDEN, 0, 4
)
ALONG = Neuron("its inputs agree", np.array([2.0, 3.0]), np.array([1.0, 1.0]), HIDDEN, 0, 4)
SIGNED = Neuron("first layer, signed inputs", np.array([1.5, -1.0]), np.array([1.0, -2.0]), FIRST, LOW, HIGH)
NEURONS = (AGAINST, ALONG, SIGNED)
"""The first is taken through all parts of the figure."""


def expansions(neuron: Neuron) -> dict[str, Expansion]:
    """
    Expand the neuron's relevance at the reference point of each of its rules.

    Parameters
    ----------
    neuron : Neuron
        The neuron.

    Returns
    -------
    dict of str to Expansion
        By rule.
    """
    a, w, R = neuron.a, neuron.w, neuron.relevance
    return {name: expand(way.reference, a, w, 0.0, R) for name, way in neuron.ways.items()}


def draw() -> Drawing:
    """
    Draw the relevance model, its expansion, the terms on their way down, and the reference points.

    Returns
    -------
    Drawing
        The figure.
    """
    figure = empty(11.4, 7.6)
    (model, view, terms), planes = figure.subplots(2, 3)
    _draw_model(model, AGAINST)
    _draw_view(view, AGAINST)
    _draw_propagation(terms, AGAINST)
    for axes, neuron in zip(planes, NEURONS, strict=True):
        _draw_plane(axes, neuron)
    return Drawing(figure, _caption())


# The places of the graphs in (a) and (c).
INPUTS, ZERO_ORDER, MIDDLE, RIGHT = ((0.0, 0.85), (0.0, 0.05)), (0.0, -0.75), (1.15, 0.45), (2.1, 0.45)


def _draw_model(axes: Any, neuron: Neuron) -> None:
    """Draw R~_k(a) as a graph: the ReLU of the inputs' weighted sum, times c_k."""
    for j, (place, a, w) in enumerate(zip(INPUTS, neuron.a, neuron.w, strict=True), start=1):
        _draw_edge(axes, place, MIDDLE)
        _draw_label(axes, place, MIDDLE, 0.45, f"w{j} = {w:g}")
        _draw_box(axes, place, f"a{j} = {a:g}")
    _draw_edge(axes, MIDDLE, RIGHT)
    _draw_label(axes, MIDDLE, RIGHT, 0.56, f"c = {MODULATION:g}")
    _draw_box(axes, MIDDLE, f"max(0, z)\n= {neuron.a @ neuron.w:g}")
    _draw_box(axes, RIGHT, f"R = {neuron.relevance:g}", PINK)
    axes.text(1, -0.75, "R = max(0, a1 w1 + a2 w2) c, where c is constant", ha="center", fontsize=10)
    _finish_graph(axes, "(a) the relevance model, as a graph")


def _draw_view(axes: Any, neuron: Neuron) -> None:
    """Draw R~_k on the line through the data point on which a rule looks for its reference point."""
    found = expansions(neuron)
    for size, (name, expansion) in zip(SIZES, found.items(), strict=True):
        colour, distance = neuron.ways[name].colour, np.sqrt(expansion.squared_distance)
        steps = np.linspace(0, 4.2, 200)
        points = expansion.a - steps[:, None] / distance * (expansion.a - expansion.reference)
        axes.plot(steps, [expansion.model(point) for point in points], color=colour, linewidth=size / 2 - 1)
        axes.plot(distance, expansion.zero_order, "o", color=colour, markersize=size, clip_on=False, zorder=3)
        left = f"{name}\nzero order {_number(expansion.zero_order)}" if expansion.zero_order else name
        axes.annotate(left, (distance, expansion.zero_order), (-6, 8), textcoords="offset points",
                      color=colour, ha="right", fontsize=8)  # fmt: skip
    axes.plot(0, neuron.relevance, "*", color="black", markersize=12, clip_on=False, zorder=4)
    axes.set(xlim=(4.2, -0.1), ylim=(0, 1.1 * neuron.relevance))
    axes.set(xlabel="distance from the data point", ylabel="R")
    axes.set_title("(b) the expansion: R on the way to the data point", fontsize=10)


def _draw_propagation(axes: Any, neuron: Neuron) -> None:
    """Draw the expansion's terms as messages, the zero order as one that reaches no input."""
    found, colours = expansions(neuron), {name: way.colour for name, way in neuron.ways.items()}
    below = {place: f"a{j}" for j, place in enumerate(INPUTS, start=1)} | {ZERO_ORDER: "zero order"}
    rows = zip(*([*e.terms[1:], e.zero_order] for e in found.values()), strict=True)
    for (place, name), values in zip(below.items(), rows, strict=True):
        _draw_edge(axes, place, RIGHT)
        for part, value, colour in zip(LABELS, values, colours.values(), strict=True):
            _draw_label(axes, place, RIGHT, part, _number(value), colour)
        _draw_box(axes, place, name)
    _draw_box(axes, RIGHT, f"R = {neuron.relevance:g}", PINK)
    for height, (name, colour) in zip((1.22, 1.07, 0.92), colours.items(), strict=True):
        axes.text(2.3, height, name, color=colour, ha="right", va="center", fontsize=9)
    _finish_graph(axes, "(c) the terms, handed down")


LABELS = (0.68, 0.48, 0.28)
"""Where the rules' messages stand on an edge, as parts of the way up."""


def _draw_plane(axes: Any, neuron: Neuron) -> None:
    side = np.linspace(neuron.low, neuron.high, 120)
    a1, a2 = np.meshgrid(side, side)
    z = neuron.w[0] * a1 + neuron.w[1] * a2
    axes.contourf(a1, a2, np.maximum(0, z), levels=len(SHADES), colors=SHADES)
    if (z < 0).any():
        axes.contour(a1, a2, z, levels=[0], colors="0.3", linestyles="dashed")
    for size, (name, found) in zip(SIZES, expansions(neuron).items(), strict=False):
        point, colour = found.reference[1:], neuron.ways[name].colour
        axes.plot(*np.array([neuron.a, point]).T, color=colour, linewidth=size / 2 - 1, zorder=2)
        label = f"{name}: {np.sqrt(found.squared_distance):.2f} away"
        axes.plot(*point, "o", color=colour, markersize=size, label=label, clip_on=False, zorder=3)
    axes.plot(*neuron.a, "*", color="black", markersize=12, label="the data point", zorder=4)
    limits = (neuron.low, neuron.high)
    axes.set(xlim=limits, ylim=limits, xlabel="a1", ylabel="a2", aspect="equal")
    axes.legend(fontsize=7, loc="upper left" if neuron is SIGNED else "lower right")
    axes.set_title(f"(d) {neuron.about}\nR = {MODULATION:g} max(0, {neuron.formula})", fontsize=10)


SIZES = (9, 7, 5)
"""Of the points and lines of the rules: those that coincide stay visible."""

PINK = "#fddbc7"

SHADES = [(1, 1 - 0.045 * step, 1 - 0.05 * step) for step in range(10)]


Place = tuple[float, float]


def _draw_edge(axes: Any, lower: Place, upper: Place) -> None:
    axes.plot(*zip(lower, upper, strict=True), color="0.6", linewidth=1, zorder=1)


def _draw_label(axes: Any, lower: Place, upper: Place, part: float, text: str, colour: str = "0.2") -> None:
    place = part * np.array(upper) + (1 - part) * np.array(lower)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text(*place, text, color=colour, ha="center", va="center", fontsize=9, bbox=box, zorder=2)


def _draw_box(axes: Any, place: Place, text: str, colour: str = "white") -> None:
    box = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "0.3"}
    axes.text(*place, text, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def _finish_graph(axes: Any, title: str) -> None:
    axes.axis("off")
    axes.set(xlim=(-0.4, 2.4), ylim=(-1.0, 1.35))
    axes.set_title(title, fontsize=10)


def _number(value: float) -> str:
    return f"{value:.2g}"


def _caption() -> str:
    a, w = AGAINST.a, AGAINST.w
    text = [
        f"Figure 10.3. Deep Taylor decomposition of neurons without bias. (a) A neuron with weights "
        f"({w[0]:g}, {w[1]:g}) at a = ({a[0]:g}, {a[1]:g}) has z = {a @ w:g}; the relevance R = "
        f"{AGAINST.relevance:g} that arrives at it is modelled as max(0, z) c, c = {MODULATION:g} constant. "
        "(b) R on the straight way from beyond each rule's reference point to the data point (star): up to "
        "the hinge it is linear, so that nothing of higher order remains. (c) The terms of first order are "
        "what the inputs receive; R at the reference point, the zero order, reaches none of them. (d) Red is "
        "relevance, dashed the hinge where it ends; each line leads to a rule's reference point."
    ]
    text += [f"z = {n.formula}, R = {n.relevance:g} ({n.about}): {_found(n)}." for n in NEURONS]
    text.append(
        "To 12 decimals the terms differ from what the rules hand down by "
        f"{round(max(map(_difference, NEURONS)), 12):g}. No point of LRP-0, LRP-eps or LRP-gamma is "
        "negative, and none is farther than LRP-0's; where no weight is negative LRP-gamma's is LRP-0's. "
        "The point of w^2 is the nearest one on the hinge, that of z^B lies in the box."
    )
    return "\n\n".join(text)


def _found(neuron: Neuron) -> str:
    return "; ".join(
        f"{name} at ({e.reference[1]:z.3f}, {e.reference[2]:z.3f}), "
        f"{np.sqrt(e.squared_distance):z.3f} away, "
        f"terms ({e.terms[1]:z.3f}, {e.terms[2]:z.3f}), zero order {e.zero_order:z.3f}"
        for name, e in expansions(neuron).items()
    )


def _difference(neuron: Neuron) -> float:
    """Compare the terms with what the rules hand down."""
    layer, a, R = Dense(neuron.w[None]), neuron.a[None], np.array([[neuron.relevance]])
    found = expansions(neuron)
    received = {name: relprop(layer, way.rule, a, R).relevance[0] for name, way in neuron.ways.items()}
    return max(float(abs(e.terms[1:] - received[name]).max()) for name, e in found.items())
