"""Pictures: the heatmap beside its input, and where the relevance went."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref import exact
from lrpref.kernels.operations import Array
from lrpref.ledger import ACCOUNTS, Ledger

if TYPE_CHECKING:
    from lrpref.explanation import Explanation

SHOWN = 8
"""At most so many samples of a batch are drawn."""

BARS = 20
"""At most so many nodes have a bar of their own in the ledger's picture."""

COLOURS = {
    "inputs": "#4d9221", "bias": "#8073ac", "stabilizer": "#e08214", "dropped": "#7f7f7f",
    "padding": "#35978f", "pooling": "#c51b7d", "state": "#8c510a",
}  # fmt: skip
"""Colour of each account in the ledger's picture."""


def pixelwise(relevance: Array) -> Array:
    """
    Sum relevance over the channels.

    Parameters
    ----------
    relevance : ndarray, shape (C, H, W)
        Relevance of one sample, any arithmetic.

    Returns
    -------
    ndarray of float64, shape (H, W)
        One number per pixel.
    """
    return np.asarray(exact.as_float(relevance).sum(axis=0))


def draw(explanation: Explanation) -> Any:
    """
    Draw the heatmaps: channels summed, symmetric around zero, blue-white-red, the input beside.

    Parameters
    ----------
    explanation : Explanation
        Of images (C, H, W) or of vectors (J,).

    Returns
    -------
    matplotlib.figure.Figure
        One row per sample, `SHOWN` at most.
    """
    from matplotlib.figure import Figure

    n = min(len(explanation.x), SHOWN)
    figure = Figure(figsize=(9.6, 0.6 + 4.3 * n), layout="constrained", dpi=110)
    axes = figure.subplots(n, 2, squeeze=False)
    for sample, (left, right) in enumerate(axes):
        draw_input(left, explanation, sample)
        image = draw_relevance(right, explanation, sample)
        if image is not None:
            bar = figure.colorbar(image, ax=right, shrink=0.85, format="%.2g", extend="both")
            bar.set_label(f"relevance per pixel, in the unit of the {explanation.head}")
    shown = "" if n == len(explanation.x) else f" (the first {n} of {len(explanation.x)})"
    title = f"{(explanation.network.name or 'network')[:60]} · composite {explanation.way[:60]}{shown}"
    figure.suptitle(title, fontsize=11)
    return figure


def side_by_side(explanations: Sequence[Explanation], title: str = "") -> Any:
    """
    Draw one picture under several explanations, such as several composites, the input first.

    Each heatmap has its own scale: their sums differ by orders of magnitude, and stand above them.

    Parameters
    ----------
    explanations : sequence of Explanation
        Of the same images; the first sample of each is drawn.
    title : str
        What stands above all.

    Returns
    -------
    matplotlib.figure.Figure
        Four to a row.
    """
    from matplotlib.figure import Figure

    across = min(4, len(explanations) + 1)
    down = -(-(len(explanations) + 1) // across)
    figure = Figure(figsize=(3.3 * across, 0.5 + 3.6 * down), layout="constrained", dpi=110)
    first, *others = figure.subplots(down, across, squeeze=False).ravel()
    draw_input(first, explanations[0], 0)
    for axes, explanation in itertools.zip_longest(others, explanations):
        if explanation is None:
            axes.axis("off")
            continue
        draw_relevance(axes, explanation, 0)
        R = exact.as_float(explanation.relevance[0])
        signs = f"{_short(R[R > 0].sum())} {_short(-abs(R[R < 0].sum()))} = {_short(R.sum())}"
        axes.set_title(f"{explanation.way}\n{signs}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _short(value: float) -> str:
    """Write a sum of relevances with its sign: two digits, and all before the point."""
    return f"{value:+.0f}" if abs(value) >= 10 else f"{value:+.2g}"


def draw_input(axes: Any, explanation: Explanation, sample: int) -> None:
    """
    Draw an input: a picture as it was before its preprocessing, a vector as bars.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    explanation : Explanation
        Whose input.
    sample : int
        Which sample of the batch.
    """
    x, preprocessing = explanation.x[sample], explanation.network.preprocessing
    if x.ndim != 3:
        axes.bar(range(x.size), exact.as_float(x).ravel(), color="0.4")
    elif preprocessing is not None:
        pixels = preprocessing.restore(exact.as_float(x))
        axes.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    else:
        axes.imshow(exact.as_float(x).mean(axis=0), cmap="gray")
        axes.axis("off")
    axes.set_title("input", fontsize=10)


def draw_relevance(axes: Any, explanation: Explanation, sample: int) -> Any:
    """
    Draw the relevance of an input, on its own scale.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    explanation : Explanation
        Whose relevance.
    sample : int
        Which sample of the batch.

    Returns
    -------
    matplotlib.image.AxesImage or None
        The heatmap; None where a vector's bars are drawn.
    """
    axes.set_title(_headline(explanation, sample), fontsize=10)
    if explanation.x.ndim != 4:
        R = exact.as_float(explanation.relevance[sample]).ravel()
        axes.bar(range(len(R)), R, color=np.where(R > 0, "#b2182b", "#2166ac"))
        axes.axhline(0, color="0.5", linewidth=0.5)
        return None
    R = pixelwise(explanation.relevance[sample])
    # the strongest pixel in a thousand may saturate: one outlier must not bleach the picture
    limit = np.quantile(abs(R), 0.999) or abs(R).max() or 1.0
    image = axes.imshow(R, cmap="seismic", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.axis("off")
    return image


def _headline(explanation: Explanation, sample: int) -> str:
    explained = float(exact.as_float(explanation.ledger.explained)[sample])
    reached = float(exact.as_float(explanation.ledger.inputs)[sample])
    what = "chosen relevances"
    if explanation.target is not None:
        what = f"“{explanation.network.label(int(explanation.target[sample]))}”"
    R = exact.as_float(explanation.relevance[sample])
    signs = f"{R[R > 0].sum():+.3g} {R[R < 0].sum():+.3g}"
    return f"{what}: {explanation.head} {explained:.3f}; input {signs} = {reached:.3g}"


def draw_ledger(ledger: Ledger, title: str, sample: int = 0) -> Any:
    """
    Draw where the relevance went: what each node's accounts took, from the output to the input.

    Parameters
    ----------
    ledger : Ledger
        The books.
    title : str
        Whose books.
    sample : int
        Which sample of the batch.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for each of the `BARS` nodes that took most, if it is 1 % of f(x) or more; one for all
        others together, and one for what reached the input. In percent of f(x); where f(x) = 0 in units
        of the score.
    """
    from matplotlib.figure import Figure

    shares = ledger.shares(sample)
    size = {node: sum(map(abs, took.values())) for node, took in shares.items()}
    drawn = sorted((n for n in size if size[n] >= 1), key=lambda n: -size[n])[:BARS]
    large = {node: took for node, took in shares.items() if node in drawn}
    small = [took for node, took in shares.items() if node not in drawn]
    others = {account: sum(took[account] for took in small) for account in ACCOUNTS}
    unit = float(exact.as_float(ledger.explained)[sample]) / 100 or 1.0
    inputs = {"inputs": float(exact.as_float(ledger.inputs)[sample]) / unit}
    bars = {**large, f"{len(small)} other nodes": others, "the input": inputs}
    return _bars(Figure(figsize=(9.6, 1.8 + 0.27 * len(bars)), layout="constrained", dpi=110), bars, title)


def _bars(figure: Any, bars: dict[str, dict[str, float]], title: str) -> Any:
    axes = figure.subplots()
    axes.use_sticky_edges = False
    drawn: dict[str, Any] = {}
    for place, took in enumerate(bars.values()):
        ends = {True: 0.0, False: 0.0}  # of the positive bars and of the negative ones
        for account, amount in took.items():
            if amount:
                start, ends[amount > 0] = ends[amount > 0], ends[amount > 0] + amount
                drawn[account] = axes.barh(place, amount, left=start, color=COLOURS[account], height=0.75)
        axes.annotate(f"{sum(took.values()):+.1f}", (ends[True], place), (4, 0), textcoords="offset points",
                      va="center", fontsize=7, color="0.3")  # fmt: skip
    axes.set_yticks(range(len(bars)), list(bars), fontsize=8)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.margins(x=0.08)
    axes.axvline(0, color="0.3", linewidth=0.6)
    axes.set_xlabel("percent of f(x), with each node's sum beside its bar; to the left: negative relevance")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    shown = [account for account in COLOURS if account in drawn]
    axes.legend(
        [drawn[a] for a in shown],
        ["reached the input" if a == "inputs" else a for a in shown],
        fontsize=8,
        loc="best",
    )
    axes.set_title(f"Where f(x) went, from the output down — {title}", fontsize=10)
    return figure


def draw_digits(maps: Mapping[str, Array], how: str) -> Any:
    """
    Draw how many decimal digits of each pixel are right.

    Parameters
    ----------
    maps : mapping of str to ndarray, shape (C, H, W) or (J,)
        Right digits of one sample, by dtype; of channels the worst is shown.
    how : str
        How they are known.

    Returns
    -------
    matplotlib.figure.Figure
        One map for each dtype, each from its worst pixel to its best.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(maps), 4.6), layout="constrained", dpi=110)
    row = figure.subplots(1, len(maps), squeeze=False)[0]
    for axes, (dtype, digits) in zip(row, maps.items(), strict=True):
        axes.set_title(f"{dtype}: worst {digits.min():.1f}, median {np.median(digits):.1f}", fontsize=10)
        if digits.ndim == 3:
            image = axes.imshow(digits.min(axis=0), cmap="viridis", interpolation="nearest")
            axes.axis("off")
            figure.colorbar(image, ax=axes, shrink=0.8, format="%.3g").set_label("right decimal digits")
        else:
            axes.bar(range(digits.size), digits.ravel(), color="0.4")
            axes.set_ylabel("right decimal digits")
    figure.suptitle(f"Right digits of the relevance — {how}", fontsize=11)
    return figure


def png(figure: Any) -> bytes:
    """
    Render a figure as PNG.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    bytes
        The file.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a class name that the font cannot write shows as boxes
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
