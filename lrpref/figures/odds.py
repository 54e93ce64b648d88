"""Fig. 10.5: the score of a class against its log-odds, for the class and for its strongest rival."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrpref.explanation import Explanation, explain
from lrpref.figures.drawing import GREY, Drawing, Subject, chosen, empty, label, signs, sums
from lrpref.heads import HEADS
from lrpref.heatmap import draw_input, draw_relevance
from lrpref.kernels import elementwise
from lrpref.kernels.operations import Array

COMPOSITE = "chapter"

LIKELIEST = 5
"""So many classes are shown with their probability."""


def probabilities(scores: Array) -> Array:
    """
    Apply a softmax.

    Parameters
    ----------
    scores : ndarray, shape (K,)
        Scores of the classes.

    Returns
    -------
    ndarray, shape (K,)
        Their probabilities.
    """
    return elementwise.softmax(scores)


def draw(subject: Subject) -> Drawing:
    """
    Draw both explanations of both classes.

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
        If the class does not exist, the output is no vector of two or more classes, or a rule does not fit.
    """
    first = _explain(subject, subject.target)
    scores, target = first["score"].scores[0], chosen(first["score"])
    rival = max((c for c in range(len(scores)) if c != target), key=scores.__getitem__)
    rows = [first, _explain(subject, rival)]
    figure = empty(9.9, 7.4)
    axes = figure.subplots(2, 3)
    draw_input(axes[0, 0], first["score"], 0)
    _draw_probabilities(axes[1, 0], subject, scores, (target, rival))
    for across, explanations in zip(axes, rows, strict=True):
        for place, (head, e) in zip(across[1:], explanations.items(), strict=True):
            draw_relevance(place, e, 0)
            place.set_title(f"{head} of “{label(e)}”: {e.ledger.explained[0]:.3g}\n{sums(e)}", fontsize=9)
    figure.suptitle("above each heatmap what is explained, and what reached the input", fontsize=10)
    return Drawing(figure, _caption(subject, rows))


def _explain(subject: Subject, target: int | str) -> dict[str, Explanation]:
    """Explain by every head, log-odds first: it wants more of the network."""
    found = {
        head: explain(subject.network, subject.x, target, COMPOSITE, head=head) for head in reversed(HEADS)
    }
    return {head: found[head] for head in HEADS}


def _draw_probabilities(axes: Any, subject: Subject, scores: Array, shown: tuple[int, int]) -> None:
    P = probabilities(scores)
    order = np.argsort(-P)[:LIKELIEST]
    colours = ["#8073ac" if c in shown else GREY for c in order]
    bars = axes.barh(range(len(order)), P[order], color=colours)
    axes.bar_label(bars, [f"{value:.2g}" for value in P[order]], padding=2, fontsize=8)
    axes.set_yticks(range(len(order)), [subject.network.label(int(c))[:20] for c in order], fontsize=8)
    axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, 1.15 * P.max()))
    axes.set_title("probabilities", fontsize=9)


def _caption(subject: Subject, rows: list[dict[str, Explanation]]) -> str:
    text = [
        f"Figure 10.5. {subject.about}: the score and the log-odds of a class and of its strongest rival, "
        f"explained by composite LRP ({COMPOSITE}). What speaks for both raises both scores, but not the "
        "odds of one against the other. Each heatmap is on its own scale."
    ]
    for row in rows:
        e = row["score"]
        P = probabilities(e.scores[0])[chosen(e)]
        text.append(f"“{label(e)}”, probability {P:.4g}: {'; '.join(map(_part, row.values()))}.")
    return "\n\n".join(text)


def _part(e: Explanation) -> str:
    """Tell what one head gave."""
    positive, negative = signs(e)
    share = -negative / (positive - negative) if positive - negative else 0.0
    pooling = float(e.ledger.account("pooling")[0])
    took = f", pooling took {pooling:.4g}" if pooling else ""
    return (
        f"{e.head} {e.ledger.explained[0]:.4f}, the input received {positive:+.4g} {negative:+.4g}, "
        f"{share:.0%} of |R| negative{took}"
    )
