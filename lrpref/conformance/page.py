"""The report of a run as one HTML page: matrices whose cells open their vectors, each with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref import dialects, report
from lrpref.conformance.matrix import Cell, causes, family_of, matrix, reading_order
from lrpref.conformance.runner import Report
from lrpref.conformance.verdicts import ROUNDINGS, SAME, VERDICTS, Finding
from lrpref.report import Html

if TYPE_CHECKING:
    from lrpref.conformance.adapters.process import Outcome
    from lrpref.conformance.suite import Vector

SHOWN = 16
"""So many numbers of a result are shown, those that differ first."""

LONGEST = 60
"""Longer texts of numbers are cut."""


def page(found: Report, vectors: Sequence[Vector]) -> str:
    """
    Make the page.

    Parameters
    ----------
    found : Report
        A run's findings, with the library's answers.
    vectors : sequence of Vector
        What it was run on, in the same order.

    Returns
    -------
    str
        The HTML document.
    """
    told: dict[str, list[Html]] = {}
    for vector, finding in zip(vectors, found.findings, strict=True):
        block = _vector(vector, finding, found.outcomes[vector.id])
        told.setdefault(f"Vectors: {vector.family}", []).append(block)
    sections: list[tuple[str, list[Html]]] = [
        ("What was found", _verdicts(found)),
        ("By rule and dimension", [_matrix(matrix(found.findings)), _dimensions()]),
        ("By rule and layer", [_matrix(matrix(found.findings, family_of))]),
        *told.items(),
    ]
    return report.page(f"{found.name} and the chapter", sections, lead=_lead(found))


def _lead(found: Report) -> str:
    versions = ", ".join(f"{name} {text}" for name, text in found.about.items()
                         if name not in ("library", "version", "install", "adapter"))  # fmt: skip
    return (
        f"{found.name} ({versions}) on {found.vectors['count']} vectors whose results are known exactly. A "
        f"result agrees with the chapter's within {ROUNDINGS} times the vector's float64 bound, and with a "
        f"dialect's within {SAME:g} of the largest |R|. A cell counts the vectors that agree with the "
        "chapter, of those where the library's answer can be right or wrong, and opens to all of them."
    )


def _verdicts(found: Report) -> list[Html]:
    counts = {meaning: found.count(verdict) for verdict, meaning in VERDICTS.items()}
    rows = [[meaning, str(count)] for meaning, count in counts.items() if count]
    broken = found.regressions
    box = report.note(f"Everywhere it does what its own dialect ({found.dialect}) says.")
    if broken:
        text = f"On {len(broken)} vectors it does not do what its own dialect ({found.dialect}) says:"
        box = report.blocks(report.note(text, good=False), _listed(broken, "which"))
    return [report.table(["verdict", "vectors"], rows), box, *_causes(found)]


def _causes(found: Report) -> list[Html]:
    """What it does otherwise, cause by cause; each opens to its vectors."""
    rows = [[cause, _listed(some, str(len(some)))] for cause, some in causes(found.findings).items()]
    caption = "what it does otherwise; a vector may show several of these"
    return [report.table(["what it does", "vectors"], rows, caption=caption)] if rows else []


def _listed(findings: Sequence[Finding], summary: str) -> Html:
    """Fold findings away under a summary; each leads to its vector."""
    links = [report.blocks(report.link(f.id, f.id), Html(" "), _badge(f)) for f in findings]
    return report.folded(summary, report.items(*links))


def _dimensions() -> Html:
    """What the columns are called."""
    told = [f"{dimension.id}: {dimension.title}" for dimension in dialects.DIMENSIONS.values()]
    return report.folded("what the dimensions are", report.items(*told))


def _matrix(cells: Mapping[tuple[str, str], Cell]) -> Html:
    columns = sorted({column for _, column in cells}, key=reading_order)
    rules = dict.fromkeys(rule for rule, _ in cells)
    rows = [[rule, *(_cell(cells.get((rule, column))) for column in columns)] for rule in rules]
    return report.table(["rule", *columns], rows)


def _cell(cell: Cell | None) -> Html:
    if cell is None:
        return Html()
    right = f"{cell.count('chapter')} of {cell.judged}" if cell.judged else "none judged"
    return _listed(cell.findings, report.marked(right, cell.mood))


def _badge(finding: Finding) -> Html:
    return report.marked(finding.verdict, Cell((finding,)).mood)


def _vector(vector: Vector, finding: Finding, outcome: Outcome) -> Html:
    why = finding.why if finding.verdict != "chapter" or finding.regression else ""
    summary = [_badge(finding), Html(" "), vector.id, Html(" "), why]
    told = [vector.comment, f"Source: {vector.source}.", f"{VERDICTS[finding.verdict].capitalize()}.",
            finding.settings and f"Asked for instead: {finding.settings}."]  # fmt: skip
    blocks = [report.paragraph(" ".join(text for text in told if text)), _nodes(vector.raw["nodes"])]
    blocks += [*_results(vector, outcome), *_ledger(vector)]
    return report.folded(report.blocks(*summary), *blocks, anchor=vector.id)


def _nodes(nodes: Iterable[Mapping[str, Any]]) -> Html:
    """The network: a row for each node."""
    known = ("name", "kind", "inputs", "rule", "expected")
    rows = []
    for node in nodes:
        settings = "; ".join(f"{key} {_brief(value)}" for key, value in node.items() if key not in known)
        rows.append([node["name"], node["kind"], ", ".join(node["inputs"]), _rule(node["rule"]), settings])
    return report.table(["node", "kind", "reads", "rule", "weights and geometry"], rows)


def _rule(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return ""
    settings = (f"{key} {_brief(value)}" for key, value in rule.items() if key != "name")
    return "; ".join([rule["name"], *settings])


def _brief(value: Any) -> str:
    """Write a part of a vector file in a few characters."""
    if isinstance(value, dict) and "hex" in value:
        text = str(np.array([float.fromhex(h) for h in value["hex"]]).reshape(value["shape"]).tolist())
    elif isinstance(value, dict):
        text = " ".join(_brief(part) for part in value.values())
    else:
        text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _results(vector: Vector, outcome: Outcome) -> list[Html]:
    """Both results, number by number."""
    exact = np.asarray(vector.fractions, object).ravel()
    expected, bound, x = (np.ravel(values) for values in (vector.expected, vector.bound("float64"), vector.x))
    if outcome.R is None:
        order, R, off = np.arange(expected.size), None, None
    else:
        R = np.ravel(np.asarray(outcome.R, np.float64))
        off = np.abs(R - expected)
        order = np.argsort(off <= ROUNDINGS * bound, kind="stable")  # what differs comes first
    rows = []
    for place in order[:SHOWN]:
        index = str(tuple(int(i) for i in np.unravel_index(place, vector.expected.shape)))
        row = [index, f"{x[place]:.6g}", "" if exact[place] is None else str(exact[place])[:LONGEST],
               _full(expected[place]), f"{bound[place]:.1e}"]  # fmt: skip
        if R is not None and off is not None:
            row += [_full(R[place]), f"{off[place]:.1e}"]
        rows.append(row)
    headings = ["sample and place", "a", "R, exact", "R in float64", "bound"]
    headings += ["the library's R", "off by"] if R is not None else []
    left = f"; {len(order) - SHOWN} more are not shown" if len(order) > SHOWN else ""
    return [report.table(headings, rows, caption=f"relevance of the input{left}")]


def _full(value: float) -> Html:
    return report.hinted(f"{value:.10g}", float(value).hex())


def _ledger(vector: Vector) -> list[Html]:
    """Where the relevance goes under the chapter's rule, node by node, for the first sample."""
    rows: list[list[str]] = []
    headings: list[str] = []
    for name in reversed(vector.raw["expected"]["nodes"]):
        ledger = vector.node(name)["ledger"]
        headings = headings or ["node", *ledger]
        rows.append([name, *(_first(ledger.get(account)) for account in headings[1:])])
    return [report.table(headings, rows, caption="the chapter's ledger, first sample")] if headings else []


def _first(result: Mapping[str, Any] | None) -> str:
    """The first number of a result, exact where it is short."""
    if not result or not result["hex"]:
        return ""
    texts: Sequence[str | None] = result.get("exact") or [None]
    return texts[0] or f"{float.fromhex(result['hex'][0]):.10g}"
