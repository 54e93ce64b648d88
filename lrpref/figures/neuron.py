"""Fig. 10.3: a neuron's relevance expanded at the reference points of LRP-0, LRP-eps and LRP-gamma."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrpref.engine import relprop
from lrpref.figures.drawing import Drawing, empty
from lrpref.kernels.operations import Array
from lrpref.layers import Dense
from lrpref.rules import Epsilon, Gamma, Rule, Zero
from lrpref.theory import EpsilonReference, Expansion, GammaReference, Reference, ZeroReference, expand

POINT = np.array([2.0, 3.0])
WEIGHTS = (np.array([2.0, -1.0]), np.array([1.0, 1.0]))
"""Of a neuron whose inputs contradict each other, and of one whose inputs do not."""

EPS, GAMMA = 1.0, 1.0

SHADES = [(1, 1 - 0.045 * step, 1 - 0.05 * step) for step in range(10)]

# Without a bias the neuron is two-dimensional; the point moves in the plane, a_0 stays.
RULES: Mapping[str, tuple[Reference, Rule, str]] = {
    "LRP-0": (ZeroReference(fixed_bias=True), Zero(), "#1b7837"),
    f"LRP-eps ({EPS:g})": (EpsilonReference(EPS, fixed_bias=True), Epsilon(EPS), "#e08214"),
    f"LRP-gamma ({GAMMA:g})": (GammaReference(GAMMA, fixed_bias=True), Gamma(GAMMA), "#542788"),
}
"""Each rule's reference point, the rule itself, and its colour."""


def expansions(w: Array) -> dict[str, Expansion]:
    """
    Expand the relevance R = z of a neuron without bias at `POINT`.

    Parameters
    ----------
    w : ndarray of float64, shape (2,)
        Its weights.

    Returns
    -------
    dict of str to Expansion
        By rule.
    """
    return {name: expand(place, POINT, w, 0.0, POINT @ w) for name, (place, _, _) in RULES.items()}


def draw() -> Drawing:
    """
    Draw the relevance of two neurons over their inputs, the reference points, and the terms.

    Returns
    -------
    Drawing
        The figure.
    """
    figure = empty(11.4, 3.9)
    *maps, bars = figure.subplots(1, 3)
    for axes, w in zip(maps, WEIGHTS, strict=True):
        _draw_plane(axes, w)
    _draw_terms(bars, expansions(WEIGHTS[0]))
    return Drawing(figure, _caption())


def _draw_plane(axes: Any, w: Array) -> None:
    side = np.linspace(0, 4, 120)
    a1, a2 = np.meshgrid(side, side)
    R = np.maximum(0, w[0] * a1 + w[1] * a2)
    axes.contourf(a1, a2, R, levels=len(SHADES), colors=SHADES)
    if (w < 0).any():
        axes.contour(a1, a2, w[0] * a1 + w[1] * a2, levels=[0], colors="0.3", linestyles="dashed")
    sizes = (9, 7, 5)  # points and lines that coincide stay visible
    for size, (name, found) in zip(sizes, expansions(w).items(), strict=True):
        point, colour = found.reference[1:], RULES[name][2]
        axes.plot(*np.array([POINT, point]).T, color=colour, linewidth=size / 2 - 1, zorder=2)
        label = f"{name}: {np.sqrt(found.squared_distance):.2f} away"
        axes.plot(*point, "o", color=colour, markersize=size, label=label, clip_on=False, zorder=3)
    axes.plot(*POINT, "*", color="black", markersize=12, label="the data point a", zorder=4)
    axes.set(xlim=(0, 4), ylim=(0, 4), xlabel="a1", ylabel="a2", aspect="equal")
    axes.legend(fontsize=7, loc="lower right")
    axes.set_title(f"R = max(0, {_formula(w)})", fontsize=10)


def _formula(w: Array) -> str:
    first, second = ("" if abs(v) == 1 else f"{abs(v):g} " for v in w)
    return f"{first}a1 {'-' if w[1] < 0 else '+'} {second}a2"


def _draw_terms(axes: Any, found: Mapping[str, Expansion]) -> None:
    for number, (name, expansion) in enumerate(found.items()):
        values = [*expansion.terms[1:], expansion.zero_order]
        places = np.arange(3) + 0.27 * (number - 1)
        bars = axes.bar(places, values, width=0.25, color=RULES[name][2], label=name)
        axes.bar_label(bars, [f"{value:.2g}" for value in values], fontsize=7)
    axes.set_xticks(range(3), ["R of a1", "R of a2", "zero order"])
    axes.axhline(0, color="0.5", linewidth=0.5)
    axes.margins(y=0.12)
    axes.legend(fontsize=7)
    axes.set_title("terms of the left neuron", fontsize=10)


def _caption() -> str:
    text = [
        f"Figure 10.3. Deep Taylor decomposition of two neurons without bias at a = ({POINT[0]:g}, "
        f"{POINT[1]:g}). Red is their relevance, dashed the hinge where it ends; each line leads to the "
        "reference point of a rule."
    ]
    for w in WEIGHTS:
        places = "; ".join(
            f"{name} at ({e.reference[1]:z.3f}, {e.reference[2]:z.3f}), "
            f"{np.sqrt(e.squared_distance):z.3f} away, "
            f"terms ({e.terms[1]:z.3f}, {e.terms[2]:z.3f}), zero order {e.zero_order:z.3f}"
            for name, e in expansions(w).items()
        )
        text.append(f"z = {_formula(w)}, R = {POINT @ w:g}: {places}.")
    text.append(
        "To 12 decimals the terms differ from what the rules hand down by "
        f"{round(max(map(_difference, WEIGHTS)), 12):g}. No point is negative, and none is "
        "farther than LRP-0's; where no weight is negative LRP-gamma's is LRP-0's."
    )
    return "\n".join(text)


def _difference(w: Array) -> float:
    """Compare the terms with what the rules hand down."""
    R = np.array([[POINT @ w]])
    steps = {name: relprop(Dense(w[None]), rule, POINT[None], R) for name, (_, rule, _) in RULES.items()}
    found = expansions(w).items()
    return max(float(abs(e.terms[1:] - steps[name].relevance[0]).max()) for name, e in found)
