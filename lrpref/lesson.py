"""A trace as people read it: tables for the terminal, and a page with equations, code and numbers."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lrpref import exact, report
from lrpref.connections import Index
from lrpref.kernels.operations import Array
from lrpref.kernels.reference import Reference
from lrpref.kernels.signs import equal
from lrpref.report import Html
from lrpref.rules import NOTHING, Zero
from lrpref.spot import POOLING, Lower
from lrpref.trace import LayerTrace, Lesson, ShareTrace, Term, Trace, Upper

Cell = tuple[str, str]
"""What stands in a cell, and the number in full where that is longer."""

Column = tuple[str, Array, Array | None]
"""Name and numbers of a column, and the same again where it adds up."""

Foot = list[tuple[str, dict[str, Any]]]
"""Rows below a table: what each is, and its numbers by column."""

WIDTH = 22
"""Characters up to which a fraction is written out in a table."""

EMPTY: Cell = ("", "")


class Sheet(NamedTuple):
    """
    A table of numbers.

    Parameters
    ----------
    title : str
        What it shows.
    headings : list of str
        Of the columns.
    rows, foot : list of list of (str, str)
        The cells; the foot has the sums.
    """

    title: str
    headings: list[str]
    rows: list[list[Cell]]
    foot: list[list[Cell]]


class Step(NamedTuple):
    """
    One of the four steps.

    Parameters
    ----------
    title, equation : str
        What it does.
    numbers : list of str
        The equation with the trace's numbers in it.
    lines : list of callable
        The functions that do it.
    """

    title: str
    equation: str
    numbers: list[str]
    lines: list[Callable[..., Any]]


def number(value: Any) -> Cell:
    """
    Write a number: a float to four digits, a fraction in full if it is short.

    Parameters
    ----------
    value : number
        Of any arithmetic.

    Returns
    -------
    text, full : str
        What to show, and the number itself.
    """
    full = str(value)
    if isinstance(value, int | float | np.number):
        return f"{float(value) + 0.0:.4g}", full  # no -0
    if len(full) <= WIDTH:
        return full, full
    return f"≈{exact.as_float(np.array([value]))[0]:.6g}", full


def heading(lesson: Lesson) -> str:
    """
    Say in a line what is traced.

    Parameters
    ----------
    lesson : Trace or LayerTrace
        The trace.

    Returns
    -------
    str
        Node, layer, rule, and which neuron.
    """
    which = f"neuron k = {_place(lesson.neuron)} of " if isinstance(lesson, Trace) else ""
    rule = lesson.rule if len(lesson.rule) <= 60 else f"{lesson.rule[:59]}…"
    return f"{which}node '{lesson.node}' ({lesson.layer}), rule {rule}"


def verdict(lesson: Lesson) -> str:
    """
    Say whether the engine hands out the same, and whether the books close.

    Parameters
    ----------
    lesson : Trace or LayerTrace
        The trace.

    Returns
    -------
    str
        One or two sentences.
    """
    check, way = lesson.check, "added up connection by connection"
    if not lesson.operation:
        said = "there is nothing to add up: this is what the layer hands on"
    elif not check.agrees:
        said = f"THE ENGINE DIFFERS by {check.difference:.1e}; rounding is below {check.bound:.1e}"
    elif not check.difference:
        said = f"{way}, every number == the engine's ({lesson.engine})"
    elif lesson.engine == "ball":
        said = f"{way}, every number's ball overlaps the engine's; together they span {check.difference:.1e}"
    else:
        said = (f"{way}, every number agrees with the engine's ({lesson.engine}) within "
                f"{check.difference:.1e}; rounding can make {check.bound:.1e}")  # fmt: skip
    return f"{said}. What arrives less what is handed on and booked: {number(lesson.residual)[0]}"


# The numbers as tables.


def sheets(lesson: Lesson, top: int) -> list[Sheet]:
    """
    Put the numbers of a trace into tables, sorted by relevance.

    Parameters
    ----------
    lesson : Trace or LayerTrace
        The trace.
    top : int
        So many rows; the rest is added up in one.

    Returns
    -------
    list of Sheet
        The tables.
    """
    if isinstance(lesson, LayerTrace):
        return _layer_sheets(lesson, top)
    assert isinstance(lesson, Trace)
    alone = sum(not _is_zero(share.R) for share in lesson.shares) == 1
    made = [_share_sheet(lesson, i, top, alone) for i in range(len(lesson.shares))]
    return made if alone else [*made, _sum_sheet(lesson, top)]


def _share_sheet(trace: Trace, which: int, top: int, alone: bool) -> Sheet:
    """The four steps of one share: a row for each connection."""
    share = trace.shares[which]
    title = _share_title(trace, which)
    if _is_zero(share.R) and share.gate:
        return Sheet(title, [], [], [])
    terms = _working(share)
    columns: list[Column] = [("a_j", trace.a, None), ("w_jk", trace.w, None)]
    for term, mark in zip(terms, _marks(terms), strict=True):
        name = f"{mark}p_j" if term.name == "p" else term.name
        columns += [] if term.name == "a" else [(name, term.p, None)]
        columns += [] if term.own else [(f"{mark}w'_jk", term.w, None)]
    columns.append(("z_jk", share.z_jk, share.z_jk))
    columns += [(f"{mark}c_j", term.c, None) for term, mark in zip(terms, _marks(terms), strict=True)]
    columns.append(("R_j<-k", share.relevance, share.relevance))
    if alone:
        columns.append(("R_j in all", trace.totals, None))
    booked = {"z_jk": share.b, "R_j<-k": share.accounts["bias"]}
    foot = [("bias, j = 0", booked)] if not _is_zero(share.b) else []
    if not _is_zero(share.eps):
        foot.append(("stabilizer", {"z_jk": share.eps, "R_j<-k": share.accounts["stabilizer"]}))
    if not _is_zero(share.accounts["dropped"]):
        foot.append(("dropped", {"R_j<-k": share.accounts["dropped"]}))
    foot.append(("sum", {"z_jk": share.z + share.eps, "R_j<-k": share.coefficient * share.R}))
    return _sheet(title, trace.lower, columns, foot, share.relevance, top)


def _working(share: ShareTrace) -> list[Term]:
    """Leave out the terms whose p is 0 at every connection."""
    return [term for term in share.terms if not equal(term.p, 0).all()] or share.terms[:1]


def _share_title(trace: Trace, which: int) -> str:
    share = trace.shares[which]
    left = [term.name for term in share.terms if not any(term is kept for kept in _working(share))]
    name = f"share {which + 1} of {len(trace.shares)}" if len(trace.shares) > 1 else "the four steps"
    if share.gate:
        name += f", for z_k {'>' if share.gate > 0 else '<'} 0"
    if share.gate and _is_zero(share.R):
        return f"{name}: it receives nothing"
    texts = [name] if share.coefficient == 1 else [f"{name}, coefficient {number(share.coefficient)[0]}"]
    if left:
        texts.append(f"left out, 0 everywhere: {', '.join(left)}")
    if not _is_zero(share.from_bias):
        texts.append(f"each j has {number(share.from_bias)[0]} of the bias")
    return "; ".join(texts)


def _sum_sheet(trace: Trace, top: int) -> Sheet:
    """What the shares come to; all there is where no rule applies."""
    title = "the shares together" if trace.shares else f"way: {trace.rule}"
    a, p, R = "a_j", "p_j", "R_j<-k"
    if trace.node == POOLING:
        title, (a, p, R) = f"{title}; {_ODDS}", _LETTERS
    columns: list[Column] = [(a, trace.a, None)]
    columns += [(p, trace.w, trace.w)] if len(trace.w) and not trace.shares else []
    columns += [(f"share {i + 1}", s.relevance, s.relevance) for i, s in enumerate(trace.shares)]
    columns += [(R, trace.relevance, trace.relevance), ("R_j in all", trace.totals, None)]
    return _sheet(title, trace.lower, columns, _booked(trace, R), trace.relevance, top)


_LETTERS = ("z_cc'", "p_c'", "R_cc'")
"""Section 10.3.1's for the ratio of the class c to another c', its weight, and its relevance."""

_ODDS = "j is the class c', R_cc' = p_c' z_cc', p_c' = exp(-z_cc') / sum_c' exp(-z_cc')"


def _layer_sheets(trace: LayerTrace, top: int) -> list[Sheet]:
    upper = sorted(trace.neurons, key=_size)[::-1]
    shares = len(upper[0].shares) if upper else 0
    marks = [""] if shares == 1 else [f"({i + 1}) " for i in range(shares)]
    names = [f"{mark}{name}" for mark in marks for name in ("z_k", "eps_k", "s_k")]
    rows = [
        [(_place(k.neuron), ""), number(k.R), *(number(x) for share in k.shares for x in share)]
        for k in upper[:top]
    ]
    if len(upper) > top:
        rest = sum((k.R for k in upper[top + 1 :]), upper[top].R)
        rows.append([(f"{len(upper) - top} more", ""), number(rest), *[EMPTY] * len(names)])
    foot = [[("sum", ""), number(trace.R), *[EMPTY] * len(names)]]
    columns: list[Column] = [("a_j", trace.a, None)]
    columns += [(f"{marks[i]}c_j of {name}", c, None) for i, name, c in trace.c if not equal(c, 0).all()]
    columns.append(("R_j", trace.relevance, trace.relevance))
    lower = _sheet("steps 3 and 4: the lower neurons", trace.lower, columns, _booked(trace, "R_j"),
                   trace.relevance, top)  # fmt: skip
    return [Sheet("steps 1 and 2: the neurons of the layer", ["k", "R_k", *names], rows, foot), lower]


def _booked(lesson: Lesson, column: str) -> Foot:
    took = [(name, {column: amount}) for name, amount in lesson.accounts.items() if not _is_zero(amount)]
    return [*took, ("sum", {column: lesson.R - lesson.residual})]


def _sheet(
    title: str, lower: list[Lower], columns: list[Column], foot: Foot, relevance: Array, top: int
) -> Sheet:
    """Lay out columns, a row for each of the lower neurons that receive most."""
    order = np.argsort(-abs(exact.as_float(relevance)), kind="stable")
    nodes = {node for node, _ in lower}
    rows = []
    for j in order[:top]:
        name = _place(lower[j][1]) if len(nodes) == 1 else f"{lower[j][0]} {_place(lower[j][1])}"
        rows.append([(name, ""), *(number(values[j]) for _, values, _ in columns)])
    rest = order[top:]
    if len(rest):
        sums = [EMPTY if added is None else number(added[rest].sum()) for _, _, added in columns]
        rows.append([(f"{len(rest)} more", ""), *sums])
    below = [
        [(name, ""), *(number(amounts[c]) if c in amounts else EMPTY for c, _, _ in columns)]
        for name, amounts in foot
    ]
    where = f"j in {nodes.pop()}" if len(nodes) == 1 else "j"
    return Sheet(title, [where, *(name for name, _, _ in columns)], rows, below)


def _size(upper: Upper) -> float:
    return float(abs(exact.as_float(np.array([upper.R]))[0]))


def _marks(terms: Sequence[Term]) -> list[str]:
    return [""] if len(terms) == 1 else [f"({t + 1}) " for t in range(len(terms))]


def _place(index: Index) -> str:
    return str(index[0]) if len(index) == 1 else str(tuple(index))


def _is_zero(x: Any) -> bool:
    return bool(np.asarray(x == 0))


# The four steps, with the functions that do them.


def steps(lesson: Lesson) -> list[Step]:
    """
    Tell the four steps with the trace's numbers.

    Parameters
    ----------
    lesson : Trace or LayerTrace
        The trace, of a layer that takes a rule.

    Returns
    -------
    list of Step
        The four; numbers are those of one neuron only.
    """
    told = [[], [], [], []] if isinstance(lesson, LayerTrace) else list(_told(lesson))
    forward = getattr(Reference, lesson.operation)
    back = getattr(Reference, f"{lesson.operation}_transpose")
    plain = isinstance(lesson.applied, Zero)
    p, w, q, over_terms = ("a_j", "w_jk", "", "") if plain else ("p_j", "w'_jk", "q ", "sum_terms ")
    R_j, over_k = ("R_j", "sum_k ") if isinstance(lesson, LayerTrace) else ("R_j<-k", "")
    divided = "R_k / z_k" if lesson.applied.stabilizer == NOTHING else "R_k / (z_k + stabilizer)"
    return [
        Step("Step 1: forward", f"z_k = {over_terms}sum_j {p} {w} + b_k", told[0],
             [Reference.preactivation, forward]),
        Step("Step 2: divide", f"s_k = {divided}", told[1], [Reference.divide]),
        Step("Step 3: backward", f"c_j = {over_k}{w} s_k", told[2], [back]),
        Step("Step 4: multiply", f"{R_j} = {q}{over_terms}{p} c_j", told[3], [Reference.redistribute]),
    ]  # fmt: skip


def _told(lesson: Lesson) -> Iterator[list[str]]:
    """Put numbers into the equations: of the shares at work, and of the connection that each gives most."""
    assert isinstance(lesson, Trace)
    shares = [(i, share) for i, share in enumerate(lesson.shares) if not _is_zero(share.R)]
    names = [f"share {i + 1}: " if len(lesson.shares) > 1 else "" for i, _ in shares]
    for tell in (_forward, _divide):
        yield [_said(f"{name}{tell(share)}") for name, (_, share) in zip(names, shares, strict=True)]
    for tell_one in (_backward, _multiply):
        lines = []
        for name, (_, share) in zip(names, shares, strict=True):
            if len(share.relevance):
                j = int(abs(exact.as_float(share.relevance)).argmax())
                where = f"j = {lesson.lower[j][0]} {_place(lesson.lower[j][1])}"
                lines.append(_said(f"{name}{where}: {tell_one(share, j)}"))
        yield lines


def _said(text: str) -> str:
    return text.replace("= ≈", "≈ ").replace("+ -", "- ")


def _forward(share: ShareTrace) -> str:
    inputs, b, z = (number(x)[0] for x in (share.z - share.b, share.b, share.z))
    return f"z_k = {inputs} of {len(share.z_jk)} connections + {b} of the bias = {z}"


def _divide(share: ShareTrace) -> str:
    z, eps, R, s = (number(x)[0] for x in (share.z, share.eps, share.R, share.s))
    if not _is_zero(share.accounts["dropped"]):
        return f"the denominator is 0: s_k = 0, and R_k = {R} is dropped"
    return f"s_k = {R} / {z if _is_zero(share.eps) else f'({z} + {eps})'} = {s}"


def _backward(share: ShareTrace, j: int) -> str:
    s, terms = number(share.s)[0], _working(share)
    told = [
        f"{mark}c_j = {number(term.w[j])[0]} * {s} = {number(term.c[j])[0]}"
        for mark, term in zip(_marks(terms), terms, strict=True)
    ]
    return "; ".join(told)


def _multiply(share: ShareTrace, j: int) -> str:
    terms = _working(share)
    products = " + ".join(f"{number(term.p[j])[0]} * {number(term.c[j])[0]}" for term in terms)
    q, extra, R = (number(x)[0] for x in (share.coefficient, share.from_bias, share.relevance[j]))
    scaled = products if share.coefficient == 1 else f"{q} * ({products})"
    return f"R_j<-k = {scaled}{'' if _is_zero(share.from_bias) else f' + {extra} of the bias'} = {R}"


# The page.


def page(lesson: Lesson, about: str, top: int) -> str:
    """
    Make a page: equations beside the lines of code that compute them, beside the numbers.

    Parameters
    ----------
    lesson : Trace or LayerTrace
        The trace.
    about : str
        What is explained.
    top : int
        So many rows of each table.

    Returns
    -------
    str
        The HTML document.
    """
    sections: list[tuple[str, list[Html]]] = []
    if lesson.operation:
        sections.append(("The rule", _rule_blocks(lesson)))
        sections += [(step.title, [_step_block(step)]) for step in steps(lesson)]
    else:
        says = f"This layer takes no rule; relevance goes through it by the way '{lesson.rule}'."
        sections.append(("No rule", [report.paragraph(says)]))
    sections.append(("The numbers", [_html(sheet) for sheet in sheets(lesson, top)]))
    box = report.note(verdict(lesson), good=lesson.check.agrees)
    sections.append(("The check", [box, report.paragraph(_HOW)]))
    return report.page(f"Trace of {heading(lesson)}", sections, lead=about)


_HOW = (
    "The numbers above are sums over the enumerated connections, computed for this page; the engine "
    "computes them for all neurons at once, by the lines shown."
)


def _rule_blocks(lesson: Lesson) -> list[Html]:
    doc = (inspect.getdoc(type(lesson.applied)) or "").split("\n\n")[0]
    words = [f"{lesson.rule}.", doc, _RULE]
    told = [report.paragraph(report.subscripts(text)) for text in words if text]
    return [report.beside(report.blocks(*told), _code(type(lesson.applied).shares))]


_RULE = (
    "A rule says which terms (p, w') enter the sums in the place of a_j and w_jk, with which bias and which "
    "coefficient q; the four steps are the same for every rule."
)


def _step_block(step: Step) -> Html:
    numbers = [report.paragraph(report.subscripts(line)) for line in step.numbers]
    left = report.blocks(report.equation(step.equation), *numbers)
    return report.beside(left, report.blocks(*map(_code, step.lines)))


def _html(sheet: Sheet) -> Html:
    if not sheet.headings:
        return report.paragraph(report.subscripts(sheet.title))
    rows, foot = ([[_hinted(cell) for cell in row] for row in part] for part in (sheet.rows, sheet.foot))
    headings = [report.subscripts(name) for name in sheet.headings]
    return report.table(headings, rows, caption=report.subscripts(sheet.title), foot=foot)


def _hinted(cell: Cell) -> str:
    text, full = cell
    return text if full in ("", text) else report.hinted(text, full)


def _code(function: Callable[..., Any]) -> Html:
    """Show a function without its docstring, as it stands in its source."""
    where = f"{function.__module__}.{function.__qualname__}"
    try:
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):  # typed in by hand, or a function of C
        return report.paragraph(f"{where}: its source is not at hand")
    text = textwrap.dedent("".join(lines))
    body = ast.parse(text).body[0]
    assert isinstance(body, ast.FunctionDef)
    kept = text.splitlines()
    if ast.get_docstring(body) is not None:
        del kept[body.body[0].lineno - 1 : body.body[0].end_lineno]
    return report.code("\n".join(kept), f"{where}, line {first}")
