"""Fig. 10.1: two features predict the data at hand, one generalizes; LRP tells which one was learned."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.figures.drawing import BLUE, RED, Drawing, empty
from lrpref.network import Network
from lrpref.theory import spurious

GRID = 200


def draw() -> Drawing:
    """
    Draw the data, the two networks' decisions, and what LRP says of them.

    Returns
    -------
    Drawing
        The figure.
    """
    figure = empty(9.6, 3.6)
    *maps, bars = figure.subplots(1, 3)
    current = spurious.current(1)
    before, after = spurious.demonstration()
    rows = (
        ("trained on the data", before, current),
        ("retrained on cleaned data", after, spurious.cleaned(current, 1)),
    )
    for axes, (name, outcome, points) in zip(maps, rows, strict=True):
        _draw_decision(axes, outcome.network, points)
        right = f"right: {outcome.on_current:.1%} like the data, {outcome.on_true:.1%} in truth"
        axes.set_title(f"{name}\n{right}", fontsize=9)
    shares = [before.share, after.share]
    drawn = bars.bar(range(2), shares, color="#8073ac", width=0.6)
    bars.bar_label(drawn, [f"{share:.1%}" for share in shares])
    bars.set_xticks(range(2), ["before", "after"])
    bars.set_ylim(0, 1)
    bars.set_title("share of |R| on x2 (LRP-0)", fontsize=9)
    return Drawing(figure, _caption(before, after))


def _draw_decision(axes: Any, network: Network, points: spurious.Data) -> None:
    side = np.linspace(-4, 4, GRID)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    decision = network.forward(grid.reshape(-1, 2)).argmax(axis=1).reshape(GRID, GRID)
    axes.contourf(grid[..., 0], grid[..., 1], decision, levels=1, colors=["#d1e5f0", "#fddbc7"])
    for label, colour in ((0, BLUE), (1, RED)):
        axes.scatter(*points.x[points.labels == label].T, s=4, color=colour)
    axes.set(xlabel="x1, which generalizes", ylabel="x2, which is spurious", aspect="equal")


def _caption(before: spurious.Outcome, after: spurious.Outcome) -> str:
    hidden = before.network.shapes["hidden"][0]
    return (
        f"Figure 10.1. Spurious correlation. Left: a network of {hidden} rectifiers trained "
        f"on {spurious.SAMPLES} points in which x1 and x2 both tell the class. It is right on "
        f"{before.on_current:.1%} of new points like them and on {before.on_true:.1%} of points of the "
        f"true distribution, where only x1 tells. LRP-0 sees it beforehand: {before.share:.1%} of the "
        f"absolute relevance is on x2. Middle: retrained after x2 was exchanged among the points, "
        f"{after.on_current:.1%} and {after.on_true:.1%} right, {after.share:.1%} on x2. The points are "
        f"new ones, on the left like the data, in the middle of the true distribution."
    )
