"""The one HTML page that every report is: self-contained, no scripts, readable in light and dark.

Text goes in as `str` and is escaped; what is markup already is `Html`, and only the functions here make it.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from lrpref.files import new_file


class Html(str):
    """Markup, as against text that is to be escaped."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """
    Make text safe to stand in a page.

    Parameters
    ----------
    text : str or Html
        Text, or markup, which stays as it is.

    Returns
    -------
    Html
        Markup.
    """
    return text if isinstance(text, Html) else Html(html.escape(text))


def paragraph(*texts: str) -> Html:
    """
    Make a paragraph.

    Parameters
    ----------
    *texts : str or Html
        What it says.

    Returns
    -------
    Html
        The paragraph.
    """
    return _tag("p", _joined(texts))


def note(text: str, *, good: bool = True) -> Html:
    """
    Make a finding that stands out.

    Parameters
    ----------
    text : str or Html
        What was found.
    good : bool
        Whether it is as it should be.

    Returns
    -------
    Html
        The box.
    """
    return _tag("p", escaped(text), "note" if good else "note bad")


def equation(text: str) -> Html:
    """
    Set an equation: `z_k = sum_j a_j w_jk`.

    Parameters
    ----------
    text : str
        The equation; see `subscripts`.

    Returns
    -------
    Html
        The equation, on a line of its own.
    """
    return _tag("p", subscripts(text), "equation")


def subscripts(text: str) -> Html:
    """
    Set subscripts and sum signs: `sum_j a_j w_jk`.

    Parameters
    ----------
    text : str
        Single letters, and eps, may have subscripts behind underscores.

    Returns
    -------
    Html
        The same, set.
    """
    for plain, sign in (("sum_", "Σ_"), ("<-", "←"), (" - ", " − "), (" * ", " × "), ("'", "′")):
        text = text.replace(plain, sign)
    letter = r"(?<![\w.])((?:[A-Za-zΣ]|eps)′?)_"  # a node's name may have underscores, too
    return Html(re.sub(letter + r"(?:{([^}]*)}|(\w+(?:←\w+)?′?))", r"\1<sub>\2\3</sub>", html.escape(text)))


def code(text: str, caption: str = "") -> Html:
    """
    Show lines of code.

    Parameters
    ----------
    text : str
        The lines.
    caption : str
        Where they stand.

    Returns
    -------
    Html
        The block.
    """
    above = _tag("figcaption", escaped(caption)) if caption else Html()
    return _tag("figure", _joined([above, _tag("pre", _tag("code", escaped(text.rstrip())))]), "code")


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    foot: Sequence[Sequence[str]] = (),
) -> Html:
    """
    Make a table; the first column names what the row is of.

    Parameters
    ----------
    headings : sequence of str or Html
        One for each column.
    rows : sequence of sequence of str or Html
        The cells.
    caption : str or Html
        What the table shows.
    foot : sequence of sequence of str or Html
        Rows of sums.

    Returns
    -------
    Html
        The table; wide ones scroll.
    """
    parts = [
        _tag("caption", escaped(caption)) if caption else Html(),
        _tag("thead", _row(headings, "th")),
        _tag("tbody", _joined([_row(row) for row in rows])),
        _tag("tfoot", _joined([_row(row) for row in foot])) if foot else Html(),
    ]
    return _tag("div", _tag("table", _joined(parts)), "wide")


def figure(png: bytes, caption: str) -> Html:
    """
    Show a picture.

    Parameters
    ----------
    png : bytes
        A PNG file; it becomes a part of the page.
    caption : str
        What it shows.

    Returns
    -------
    Html
        The figure.
    """
    data = base64.b64encode(png).decode("ascii")
    picture = Html(f'<img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">')
    return _tag("figure", _joined([picture, _tag("figcaption", escaped(caption))]))


def folded(summary: str, *inside: str, anchor: str = "") -> Html:
    """
    Fold blocks away under a line that opens them.

    Parameters
    ----------
    summary : str or Html
        The line.
    *inside : str or Html
        What it opens.
    anchor : str
        A name under which `link` finds what is inside, and opens it.

    Returns
    -------
    Html
        The line, closed.
    """
    opening = Html(f'<div id="{html.escape(anchor)}">') if anchor else Html("<div>")
    return _tag("details", _joined([_tag("summary", escaped(summary)), opening, *inside, Html("</div>")]))


def link(text: str, anchor: str) -> Html:
    """
    Lead to a place in the same page.

    Parameters
    ----------
    text : str
        What stands there.
    anchor : str
        The name of the place, given to `folded`.

    Returns
    -------
    Html
        The link.
    """
    return Html(f'<a href="#{html.escape(anchor)}">{escaped(text)}</a>')


def items(*several: str) -> Html:
    """
    Make a list.

    Parameters
    ----------
    *several : str or Html
        Its items.

    Returns
    -------
    Html
        The list.
    """
    return _tag("ul", _joined([_tag("li", escaped(item)) for item in several]))


def marked(text: str, mood: str) -> Html:
    """
    Give a text a background that says how good it is.

    Parameters
    ----------
    text : str or Html
        The text, which says it too: not everybody sees colours.
    mood : {"good", "mild", "bad", "quiet"}
        As it should be; otherwise, and known why; wrong; nothing to say.

    Returns
    -------
    Html
        The text.
    """
    return _tag("span", escaped(text), f"mark {mood}")


def hinted(text: str, hint: str) -> Html:
    """
    Show a text that tells more where the mouse rests on it.

    Parameters
    ----------
    text : str
        What stands there.
    hint : str
        What it tells.

    Returns
    -------
    Html
        The text.
    """
    return Html(f'<span title="{html.escape(hint)}">{html.escape(text)}</span>')


def blocks(*several: str) -> Html:
    """
    Put blocks under one another.

    Parameters
    ----------
    *several : str or Html
        The blocks.

    Returns
    -------
    Html
        All of them.
    """
    return _joined(several)


def beside(*blocks: str) -> Html:
    """
    Put blocks beside one another, where the page is wide enough.

    Parameters
    ----------
    *blocks : str or Html
        The blocks.

    Returns
    -------
    Html
        All of them.
    """
    return _tag("div", _joined([_tag("div", escaped(block)) for block in blocks]), "beside")


def page(title: str, sections: Sequence[tuple[str, Sequence[str]]], *, lead: str = "") -> str:
    """
    Make a page.

    Parameters
    ----------
    title : str
        Its title.
    sections : sequence of (str, sequence of str or Html)
        Heading and blocks of each.
    lead : str or Html
        What stands under the title.

    Returns
    -------
    str
        The HTML document.
    """
    body = [
        _tag("section", _joined([_tag("h2", escaped(heading)), *blocks])) for heading, blocks in sections
    ]
    opening = paragraph(lead) if lead else ""
    return _PAGE.substitute(title=escaped(title), lead=opening, body=_joined(body), style=_STYLE)


def write(path: Path, text: str) -> None:
    """
    Write a page; it takes its place only when it is whole.

    Parameters
    ----------
    path : Path
        The file; an earlier one is replaced.
    text : str
        From `page`.

    Raises
    ------
    BadRecord
        If it cannot be written, or something else than a file is there.
    """
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _tag(name: str, inside: Html, kind: str = "") -> Html:
    opening = f'{name} class="{kind}"' if kind else name
    return Html(f"<{opening}>{inside}</{name}>")


def _joined(parts: Sequence[str]) -> Html:
    return Html("".join(escaped(part) for part in parts))


def _row(cells: Sequence[str], cell: str = "td") -> Html:
    return _tag("tr", _joined([_tag(cell, escaped(text)) for text in cells]))


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --soft: #f4f4f1; --line: #d8d8d2;
        --quiet: #63635c; --good: #12703a; --bad: #b3261e;
        --on-good: #d7eedd; --on-mild: #fbeac2; --on-bad: #f9d2ce; --on-quiet: #ecece8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --paper: #191a1b; --soft: #242627; --line: #3d4042; --quiet: #a3a39c;
          --good: #6fcf97; --bad: #ff8a80;
          --on-good: #1d4a2f; --on-mild: #5a4512; --on-bad: #6b2520; --on-quiet: #333638; }
}
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p { max-width: 50rem; margin: .5rem 0; }
pre { font-size: .8rem; line-height: 1.45; background: var(--soft); border: 1px solid var(--line);
      border-radius: 4px; padding: .7rem .9rem; margin: .2rem 0 .8rem; overflow-x: auto; }
figure { margin: .4rem 0; }
figcaption, caption, .quiet { color: var(--quiet); font-size: .85rem; text-align: left; }
caption { padding-bottom: .4rem; }
img { max-width: 100%; height: auto; }
.equation { font: italic 1.15rem/1.7 "STIX Two Math", "Cambria Math", Georgia, serif; }
.equation sub { font-size: .7em; }
.beside { display: grid; gap: 0 2rem; }
@media (min-width: 60rem) { .beside { grid-template-columns: 2fr 3fr; } }
.beside > div { min-width: 0; }
.wide { overflow-x: auto; margin: .6rem 0 1.4rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; border-bottom: 2px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
tfoot tr:first-child td { border-top: 2px solid var(--line); }
tfoot tr:last-child td { font-weight: 600; }
.note { border-left: 4px solid var(--good); background: var(--soft); padding: .5rem .9rem; }
.note.bad { border-color: var(--bad); }
.mark { display: inline-block; padding: 0 .45rem; border-radius: 3px; background: var(--on-quiet); }
.mark.good { background: var(--on-good); }
.mark.mild { background: var(--on-mild); }
.mark.bad { background: var(--on-bad); }
summary { cursor: pointer; }
section > details { border-bottom: 1px solid var(--line); padding: .15rem 0; }
section > details > div { padding: .2rem 0 .8rem 1.1rem; }
td { vertical-align: top; }
td > details[open] { text-align: left; }
td ul { list-style: none; margin: .2rem 0; padding: 0; font-size: .82rem; }
:target { background: var(--soft); }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<h1>$title</h1>
$lead
$body
<footer>Made by lrpref. Relevance carries the unit of the explained quantity.</footer>
</body>
</html>
""")
