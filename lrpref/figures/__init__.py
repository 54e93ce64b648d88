"""Our own versions of the chapter's figures, from real runs, each with the numbers that it found.

One module per figure of Montavon et al. 2019; each draws, and writes its caption from what it computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lrpref.errors import BadInput, BadRecord
from lrpref.figures import correlation, neuron, odds, procedure, strategies
from lrpref.figures.drawing import Drawing, Subject
from lrpref.files import new_file
from lrpref.heatmap import png

__all__ = [
    "ALONE",
    "NAMES",
    "OF_A_PICTURE",
    "Drawing",
    "Subject",
    "check_free",
    "choose",
    "draw",
    "place",
    "save",
]

ALONE: Mapping[str, Callable[[], Drawing]] = {
    "10.1": correlation.draw,
    "10.2": procedure.draw,
    "10.3": neuron.draw,
}
"""The figures that bring what they show."""

OF_A_PICTURE: Mapping[str, Callable[[Subject], Drawing]] = {"10.4": strategies.draw, "10.5": odds.draw}
"""The figures of a network and a picture."""

NAMES = (*ALONE, *OF_A_PICTURE)


def choose(only: Iterable[str] | None) -> tuple[str, ...]:
    """
    Choose among the figures.

    Parameters
    ----------
    only : iterable of str, or None
        Their numbers, such as `10.4`; None or nothing for all.

    Returns
    -------
    tuple of str
        The numbers, in order.

    Raises
    ------
    BadInput
        If there is no such figure.
    """
    wanted = tuple(only or NAMES)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise BadInput(f"there is no figure {unknown[0]!r:.40}: there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)


def draw(name: str, subject: Subject | None = None) -> Drawing:
    """
    Draw one figure.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    subject : Subject, optional
        For those in `OF_A_PICTURE`: what is explained.

    Returns
    -------
    Drawing
        The figure and its caption.

    Raises
    ------
    BadInput
        If there is no such figure, it needs a subject, or the target does not fit.
    """
    (name,) = choose([name])
    if name in ALONE:
        return ALONE[name]()
    if subject is None:
        raise BadInput(f"figure {name} is of a picture: give a subject")
    return OF_A_PICTURE[name](subject)


def place(folder: Path, name: str) -> tuple[Path, Path]:
    """
    Say where a figure and its caption are written.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str
        One of `NAMES`.

    Returns
    -------
    tuple of Path
        The picture and the text.
    """
    stem = f"figure-{name.replace('.', '-')}"
    return folder / f"{stem}.png", folder / f"{stem}.txt"


def check_free(folder: Path, names: Iterable[str], *, overwrite: bool = False) -> None:
    """
    Make sure before the work that nothing is in the way.

    Parameters
    ----------
    folder : Path
        Where the figures are to be written.
    names : iterable of str
        Which ones.
    overwrite : bool
        Whether earlier files may be replaced.

    Raises
    ------
    BadRecord
        If there is a file already, or something that is no file.
    """
    for path in (path for name in names for path in place(folder, name)):
        if path.exists() and not (overwrite and path.is_file()):
            raise BadRecord(f"{path}: exists already; --overwrite replaces a file")


def save(drawing: Drawing, folder: Path, name: str) -> tuple[Path, Path]:
    """
    Write a figure and its caption, each whole or not at all.

    Parameters
    ----------
    drawing : Drawing
        The figure.
    folder : Path
        Where; it is made if it is not there.
    name : str
        Its number.

    Returns
    -------
    tuple of Path
        The picture and the text.

    Raises
    ------
    BadRecord
        If they cannot be written.
    """
    picture, text = place(folder, name)
    with new_file(picture) as path:
        path.write_bytes(png(drawing.figure))
    with new_file(text) as path:
        path.write_text(f"{drawing.caption}\n", encoding="utf-8")
    return picture, text
