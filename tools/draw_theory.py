"""Draw docs/images/shattered.png: what is wrong with gradients.

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
from lrpref.theory import shattered, training

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


def main(folder: Path) -> None:
    """Draw it."""
    (folder / "shattered.png").write_bytes(png(draw_shattered()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "images")
