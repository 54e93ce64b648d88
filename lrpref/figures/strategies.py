"""Fig. 10.4: one picture under uniform LRP-0, LRP-eps and LRP-gamma, and under the composite strategy."""

from __future__ import annotations

from collections.abc import Mapping

from lrpref import exact
from lrpref.explanation import Explanation, explain
from lrpref.figures.drawing import Drawing, Subject, concentration, empty, label, signs, sums
from lrpref.heatmap import draw_input, draw_relevance, pixelwise

STRATEGIES: Mapping[str, str] = {
    "lrp-0": "uniform LRP-0",
    "epsilon": "uniform LRP-eps (0.25 std)",
    "gamma": "uniform LRP-gamma (0.25)",
    "chapter": "composite LRP",
}
"""The composites, in the order of the chapter."""


def draw(subject: Subject) -> Drawing:
    """
    Draw the picture and its explanations.

    Parameters
    ----------
    subject : Subject
        The network, the picture and the class.

    Returns
    -------
    Drawing
        The figure.

    Raises
    ------
    LrprefError
        If the class does not exist, or a rule does not fit the network.
    """
    found = [explain(subject.network, subject.x, subject.target, name) for name in STRATEGIES]
    figure = empty(14.4, 3.6)
    first, *others = figure.subplots(1, 1 + len(found))
    draw_input(first, found[0], 0)
    for axes, e in zip(others, found, strict=True):
        draw_relevance(axes, e, 0)
        axes.set_title(f"{STRATEGIES[e.composite]}\n{sums(e)}", fontsize=10)
    about = f"“{label(found[0])}”, f(x) = {found[0].ledger.explained[0]:.4g}"
    figure.suptitle(f"{about}; below each name what reached the input", fontsize=11)
    return Drawing(figure, "\n\n".join([_caption(subject, about), *map(_row, found)]))


def _caption(subject: Subject, about: str) -> str:
    return (
        f"Figure 10.4. {subject.about}: explanations of {about}, by one rule at all layers and by a "
        "composite of rules; red speaks for the class, blue against it, each heatmap on its own scale."
    )


def _row(e: Explanation) -> str:
    """Tell what one strategy gave."""
    positive, negative = signs(e)
    image = e.x.ndim == 4
    R = pixelwise(e.relevance[0]) if image else exact.as_float(e.relevance[0])
    bias, stabilizer = (float(e.ledger.account(name)[0]) for name in ("bias", "stabilizer"))
    return (
        f"{STRATEGIES[e.composite]}: the input received {positive:+.4g} {negative:+.4g} = "
        f"{positive + negative:.4g}, biases {bias:.4g}, stabilizers {stabilizer:.4g}; half of |R| lies on "
        f"{concentration(R):.1%} of the {'pixels' if image else 'inputs'}."
    )
