"""Draw docs/images/shattered.png and docs/images/spurious.png: what is wrong with gradients, and with data.

    python tools/draw_theory.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import lrpref
from lrpref import data
from lrpref.heatmap import png
from lrpref.network import Network
from lrpref.theory import shattered, spurious, training

POINTS = 64
PAIRS = ((9, 200), (0, 7), (100, 150), (300, 310), (450, 20))
"""Numbers of embedded pictures between which the lines are laid."""


def curves() -> dict[str, Any]:
    """Measure how alike gradients and relevances are d steps apart, mean over the lines."""
    deep = data.embedded()
    pixels, labels = data.images()
    x = deep.preprocessing.normalise(pixels[..., None])
    shallow = training.train(x, labels.astype(int), hidden=64, steps=200, rate=0.02)
    found: dict[str, list[Any]] = {}
    for start, end in PAIRS:
        line = shattered.line(x[start], x[end], POINTS)
        kind = int(deep.forward(x[start : start + 1]).argmax())
        along = {
            "gradient, one hidden layer": shallow.gradient(line, kind, backend="cpu"),
            "gradient, eight layers": deep.gradient(line, kind, backend="cpu"),
            "LRP (chapter), eight layers": relevance(deep, line, kind, "chapter"),
            "LRP (gamma), eight layers": relevance(deep, line, kind, "gamma"),
        }
        for name, vectors in along.items():
            found.setdefault(name, []).append(shattered.similarity(vectors))
    return {name: np.mean(those, axis=0) for name, those in found.items()}


def relevance(network: Network, line: Any, kind: int, composite: str) -> Any:
    """Explain every point of a line."""
    return lrpref.explain(network, line, kind, composite, backend="cpu").relevance


def draw_shattered() -> Figure:
    """Draw the curves."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained", dpi=110)
    axes = figure.subplots()
    styles = ("#4d9221", "#b2182b", "#2166ac", "#92c5de")
    for (name, curve), colour in zip(curves().items(), styles, strict=True):
        axes.plot(np.arange(len(curve)) / (POINTS - 1), curve, color=colour, label=name)
        print(f"{name}: {np.round(curve[[1, 2, 4, 8, 16, 32]], 3)}")
    axes.set_xlabel("distance, as a part of the way from one picture to another")
    axes.set_ylabel("mean cosine")
    axes.set_xlim(0, 0.5)
    axes.grid(color="0.9")
    axes.legend(fontsize=8)
    axes.set_title("How soon the explanation turns away", fontsize=10)
    return figure


def draw_spurious() -> Figure:
    """Draw the data, the two networks' decisions, and what LRP says of them."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained", dpi=110)
    current = spurious.current(1)
    true = spurious.cleaned(current, 1)
    names = ("trained on the data", "retrained on cleaned data")
    outcomes = dict(zip(names, spurious.demonstration(), strict=True))
    *maps, bars = figure.subplots(1, 3)
    grid = np.stack(np.meshgrid(np.linspace(-4, 4, 200), np.linspace(-4, 4, 200)), axis=-1)
    for axes, (name, outcome), points in zip(maps, outcomes.items(), (current, true), strict=True):
        decision = outcome.network.forward(grid.reshape(-1, 2)).argmax(axis=1).reshape(200, 200)
        axes.contourf(grid[..., 0], grid[..., 1], decision, levels=1, colors=["#d1e5f0", "#fddbc7"])
        for label, colour in ((0, "#2166ac"), (1, "#b2182b")):
            axes.scatter(*points.x[points.labels == label].T, s=4, color=colour)
        axes.set(xlabel="x1, which generalizes", ylabel="x2, which is spurious", aspect="equal")
        right = f"right: {outcome.on_current:.0%} like the data, {outcome.on_true:.0%} in truth"
        axes.set_title(f"{name}\n{right}", fontsize=9)
    bars.bar(range(2), [outcome.share for outcome in outcomes.values()], color="#8073ac", width=0.6)
    bars.set_xticks(range(2), ["before", "after"])
    bars.set_ylim(0, 1)
    bars.set_title("share of |R| on x2 (LRP-0)", fontsize=9)
    return figure


def main(folder: Path) -> None:
    """Draw both."""
    (folder / "shattered.png").write_bytes(png(draw_shattered()))
    (folder / "spurious.png").write_bytes(png(draw_spurious()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "images")
