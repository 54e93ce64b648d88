"""The verdicts by rule and dimension, and by cause: what the terminal's table and the page's matrix count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lrpref import rules
from lrpref.conformance.verdicts import FAILURES, NONE, SEVERAL, Finding
from lrpref.dialects import DIMENSIONS

PLAIN = "plain"
"""The column of vectors on which no dimension bears."""

COLUMNS = {
    "chapter": ("chapter",),
    "own": ("dialect",),
    "other": ("convention",),
    "differ": ("differs",),
    "lacks": ("unsupported",),
    "fails": FAILURES,
    "undefined": ("undefined",),
}
"""Columns of the terminal's table: how many findings have one of these verdicts."""


@dataclass(frozen=True)
class Cell:
    """
    The findings about some vectors.

    Parameters
    ----------
    findings : tuple of Finding
        One for each vector.
    """

    findings: tuple[Finding, ...]

    def count(self, *verdicts: str) -> int:
        """
        Count the findings with one of these verdicts.

        Parameters
        ----------
        *verdicts : str
            Of `verdicts.VERDICTS`.

        Returns
        -------
        int
            How many there are.
        """
        return sum(finding.verdict in verdicts for finding in self.findings)

    @property
    def judged(self) -> int:
        """How many vectors could be right or wrong: neither undefined nor unsupported."""
        return len(self.findings) - self.count("undefined", "unsupported")

    @property
    def worst(self) -> float | None:
        """The largest error, in units of each vector's float64 bound; None where there is no result."""
        return max((f.error for f in self.findings if f.error is not None), default=None)

    @property
    def mood(self) -> str:
        """One of `good`, `mild`, `bad`, `quiet`: by the worst finding."""
        if any(f.regression or f.verdict in ("differs", *FAILURES) for f in self.findings):
            return "bad"
        if self.count("dialect", "convention"):
            return "mild"
        return "good" if self.judged else "quiet"


SENTENCE = re.compile(r"(?=\bD[0-9]+ [^:.]+: )")
"""Where the sentence about a dimension begins."""

COUNTED = re.compile(r"^[0-9]+ of [0-9]+ values are ")
"""How many numbers of a vector are NaN is not why."""


def causes(findings: Iterable[Finding]) -> dict[str, tuple[Finding, ...]]:
    """
    Group the findings that are not the chapter's by each of their causes.

    Parameters
    ----------
    findings : iterable of Finding
        The findings.

    Returns
    -------
    dict of str to tuple of Finding
        Findings by sentence, dimension by dimension, then what no dimension explains; in each those with
        this cause alone come first. A finding with two causes stands under both.
    """
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        for cause in _causes_of(finding):
            grouped.setdefault(cause, []).append(finding)
    ordered = sorted(grouped.items(), key=_by_dimension)
    return {cause: tuple(sorted(found, key=_number_of_dimensions)) for cause, found in ordered}


def _causes_of(finding: Finding) -> Iterable[str]:
    if finding.verdict in FAILURES:
        return [COUNTED.sub("", finding.why)]
    if finding.verdict not in ("dialect", "convention", "differs"):
        return []
    return [part.strip() for part in SENTENCE.split(finding.why) if part.strip()]


def _by_dimension(item: tuple[str, list[Finding]]) -> tuple[int, int]:
    number = re.match(r"D([0-9]+)", item[0])
    return int(number[1]) if number else len(DIMENSIONS) + 1, -len(item[1])


def _number_of_dimensions(finding: Finding) -> int:
    return len(finding.dimensions)


def dimensions_of(finding: Finding) -> Iterable[str]:
    """
    Name the dimensions that bear on a vector.

    Parameters
    ----------
    finding : Finding
        What was found of it.

    Returns
    -------
    iterable of str
        The vector's flags, and what explains the library's result; or `PLAIN`.
    """
    return dict.fromkeys([*finding.flags, *finding.dimensions]) or (PLAIN,)


def family_of(finding: Finding) -> Iterable[str]:
    """
    Name the family of layers that a vector is of.

    Parameters
    ----------
    finding : Finding
        What was found of it.

    Returns
    -------
    iterable of str
        Its file's name.
    """
    return (finding.family,)


def matrix(
    findings: Iterable[Finding], columns_of: Callable[[Finding], Iterable[str]] = dimensions_of
) -> dict[tuple[str, str], Cell]:
    """
    Put findings into cells.

    Parameters
    ----------
    findings : iterable of Finding
        The findings.
    columns_of : callable
        Gives a finding's columns; one with two dimensions stands in two cells.

    Returns
    -------
    dict of (str, str) to Cell
        By rule and column, both in reading order.
    """
    cells: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        for column in columns_of(finding):
            cells.setdefault((finding.rule, column), []).append(finding)
    return {place: Cell(tuple(cells[place])) for place in sorted(cells, key=_order)}


def _order(place: tuple[str, str]) -> tuple[int, tuple[int, str]]:
    rule, column = place
    known = [*rules.RULES, SEVERAL, NONE]
    return known.index(rule) if rule in known else len(known), reading_order(column)


def reading_order(column: str) -> tuple[int, str]:
    """
    Give the key by which columns are sorted: D9 before D10, and names before both.

    Parameters
    ----------
    column : str
        A dimension, `PLAIN`, or a family.

    Returns
    -------
    tuple of (int, str)
        The key.
    """
    number = column.removeprefix("D")
    return int(number) if number.isdigit() else 0, column


def summary(cells: Mapping[tuple[str, str], Cell], whole: Cell) -> list[list[str]]:
    """
    Make the rows of the terminal's table.

    Parameters
    ----------
    cells : mapping of (str, str) to Cell
        From `matrix`.
    whole : Cell
        All findings, each once.

    Returns
    -------
    list of list of str
        Rule, dimension, number of vectors, a number for each of `COLUMNS`, the worst error.
    """
    rows = [_row(rule, column, cell) for (rule, column), cell in cells.items()]
    return [*rows, _row("all", "", whole)]


def _row(rule: str, column: str, cell: Cell) -> list[str]:
    counts = [cell.count(*verdicts) for verdicts in COLUMNS.values()]
    return [rule, column, str(len(cell.findings)), *(str(n) if n else "" for n in counts), worst(cell.worst)]


def worst(error: float | None) -> str:
    """
    Write an error in bounds.

    Parameters
    ----------
    error : float or None
        In units of a vector's float64 bound.

    Returns
    -------
    str
        Two digits.
    """
    return "" if error is None else f"{error:.2g}"
