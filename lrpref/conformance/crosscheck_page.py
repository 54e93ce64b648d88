"""What a crosscheck found, for people: a table, heatmaps, a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lrpref import heatmap, report
from lrpref.conformance.crosscheck import Crosscheck, Line
from lrpref.conformance.verdicts import SAME
from lrpref.files import new_file
from lrpref.network import INPUT
from lrpref.report import Html

HEADINGS = ("relevance of", "layer", "rule", "off the chapter by", "off its dialect by", "undecided windows")


def row(line: Line) -> list[str]:
    """
    Write a node's line.

    Parameters
    ----------
    line : Line
        The line.

    Returns
    -------
    list of str
        A cell for each of `HEADINGS`.
    """
    off = "no such rule" if line.dialect is None else f"{line.dialect:.1e}"
    return [line.node, line.layer, line.rule, f"{line.chapter:.1e}", off, str(line.undecided or "")]


def draw(found: Crosscheck) -> Any:
    """
    Draw the input, and the heatmaps of lrpref, of the peer, and of the difference.

    Parameters
    ----------
    found : Crosscheck
        Of images (C, H, W) or of vectors (J,).

    Returns
    -------
    matplotlib.figure.Figure
        Each on its own scale; the sums stand above them.
    """
    R, chapter = found.peer[INPUT], found.chapter
    others = {found.library: R, f"{found.library} less the chapter": R - chapter.relevance}
    shown = [replace(chapter, composite="lrpref, by the chapter")]
    shown += [replace(chapter, composite=name, relevances={INPUT: R}) for name, R in others.items()]
    return heatmap.side_by_side(shown, f"{chapter.network.name}, composite {chapter.composite}")


def save(found: Crosscheck, folder: Path) -> None:
    """
    Write crosscheck.json, crosscheck.png and crosscheck.html.

    Parameters
    ----------
    found : Crosscheck
        What was found.
    folder : Path
        Where; earlier ones are replaced.

    Raises
    ------
    BadRecord
        If they cannot be written.
    """
    picture = heatmap.png(draw(found))
    with new_file(folder / "crosscheck.json") as temporary:
        temporary.write_text(json.dumps(found.plain(), indent=1) + "\n", encoding="utf-8")
    with new_file(folder / "crosscheck.png") as temporary:
        temporary.write_bytes(picture)
    report.write(folder / "crosscheck.html", page(found, picture))


def page(found: Crosscheck, picture: bytes) -> str:
    """
    Make the page.

    Parameters
    ----------
    found : Crosscheck
        What was found.
    picture : bytes
        The heatmaps, as PNG.

    Returns
    -------
    str
        The HTML document.
    """
    rows = [_marked(row(line), line) for line in found.lines]
    network = found.chapter.network.name or "a network"
    sections = [
        ("What was found", [report.note(str(found), good=found.agrees), report.paragraph(found.given)]),
        ("The heatmaps", [report.figure(picture, "The input, lrpref, the peer, and the difference.")]),
        ("From the top down", [report.table(HEADINGS, rows, caption="in shares of the largest |R|")]),
    ]
    lead = f"{network}, composite {found.chapter.composite}, dialect '{found.known}'."
    return report.page(f"{found.library} beside lrpref", sections, lead=lead)


def _marked(cells: list[str], line: Line) -> list[str | Html]:
    """The two differences with their colours."""
    node, layer, rule, chapter, dialect, undecided = cells
    known = line.dialect is not None and line.dialect <= SAME
    mood = "good" if line.chapter <= SAME else "mild" if known else "bad"
    return [node, layer, rule, report.marked(chapter, mood),
            report.marked(dialect, "good" if known else "bad"), undecided]  # fmt: skip
