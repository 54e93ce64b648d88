"""What a figure is, and what the figures of a picture are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lrpref import exact
from lrpref.explanation import Explanation
from lrpref.kernels.operations import Array
from lrpref.network import Network

RED, BLUE, GREY = "#b2182b", "#2166ac", "0.7"
"""For relevance, for negative relevance, and for none."""


class Drawing(NamedTuple):
    """
    A figure and what it says.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    caption : str
        What was computed, and the numbers that it found; a blank line between paragraphs.
    """

    figure: Any
    caption: str


@dataclass(frozen=True, eq=False)
class Subject:
    """
    A network and one picture.

    Parameters
    ----------
    network : Network
        The network.
    x : ndarray, shape (1, ...)
        The preprocessed picture; a vector is drawn as bars.
    picture : str
        What the picture is called.
    target : int or "max"
        The class that is explained.
    """

    network: Network
    x: Array
    picture: str
    target: int | str = "max"

    @property
    def about(self) -> str:
        """The picture and the network, in words."""
        return f"{self.picture} as {self.network.name or 'the network'} sees it"


def empty(width: float, height: float) -> Any:
    """
    Make an empty figure.

    Parameters
    ----------
    width, height : float
        Its size in inches.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=110)


def chosen(e: Explanation) -> int:
    """
    Tell which class is explained.

    Parameters
    ----------
    e : Explanation
        Of one input and a class.

    Returns
    -------
    int
        Its index.
    """
    return int(np.asarray(e.target)[0])


def label(e: Explanation) -> str:
    """
    Name the class that is explained.

    Parameters
    ----------
    e : Explanation
        Of one input and a class.

    Returns
    -------
    str
        Its name.
    """
    return e.network.label(chosen(e))


def signs(e: Explanation) -> tuple[float, float]:
    """
    Add up what is positive and what is negative.

    Parameters
    ----------
    e : Explanation
        Of one input.

    Returns
    -------
    tuple of float
        Sums of the input's positive relevances and of its negative ones.
    """
    R = exact.as_float(e.relevance[0])
    return float(R[R > 0].sum()), float(R[R < 0].sum())


def sums(e: Explanation) -> str:
    """
    Write down what reached the input.

    Parameters
    ----------
    e : Explanation
        Of one input.

    Returns
    -------
    str
        What is positive, what is negative, and both.
    """
    positive, negative = signs(e)
    return f"{positive:+.3g} {negative:+.3g} = {positive + negative:.3g}"


def concentration(R: Array) -> float:
    """
    Tell how few places hold half of the relevance, in absolute numbers.

    Parameters
    ----------
    R : ndarray
        Relevance of the places.

    Returns
    -------
    float
        Part of the places, strongest first: near 0 where an explanation is sparse, at most 0.5 and a place.
    """
    sizes = np.sort(abs(R).ravel())[::-1]
    reached = np.cumsum(sizes) >= sizes.sum() / 2
    return float((np.argmax(reached) + 1) / sizes.size)
