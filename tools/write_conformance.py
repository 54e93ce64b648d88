"""Write docs/conformance.md and its picture from the records in docs/conformance.

    lrpref conformance run --library captum --out out/captum
    lrpref crosscheck --library captum --composite epsilon-plus --out out/captum
    python tools/write_conformance.py --pictures out/captum
    python tools/crosscheck_networks.py
    python tools/write_conformance.py out/crosscheck/*

The results in a folder that is named become the record of their library; the page tells of all records.
With --run, every library that is installed is run first, and then lrpref.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lrpref.conformance import runner, suite
from lrpref.conformance.adapters import process
from lrpref.conformance.matrix import COLUMNS, Cell, causes, dimensions_of, reading_order
from lrpref.conformance.runner import Report
from lrpref.conformance.verdicts import FAILURES, ROUNDINGS, SAME, Finding
from lrpref.dialects import DIMENSIONS
from lrpref.errors import BadBackend
from lrpref.heatmap import png

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "docs" / "conformance"
PAGE = ROOT / "docs" / "conformance.md"
PICTURE = ROOT / "docs" / "images" / "conformance.png"
NETWORKS = RECORDS / "networks"
REPRODUCERS = ROOT / "lrpref" / "conformance" / "reproducers"

COLOURS = {
    "chapter": "#5aae61", "dialect": "#fdcb6e", "convention": "#e1a95f", "differs": "#c0392b",
    "fails": "#7b241c", "undefined": "#dfe6e9", "unsupported": "#dfe6e9",
}  # fmt: skip
"""Colour of each verdict; a failure is one of `FAILURES`."""

LEGEND = {
    "chapter": "agrees with the chapter", "dialect": "otherwise, as it is known to",
    "convention": "otherwise, as others do it", "differs": "otherwise, and nobody knows why",
    "fails": "no finite result", "unsupported": "not offered, or not defined",
}  # fmt: skip

EXAMPLES = 2
"""So many vectors are named for each cause."""

LACKS = 6
"""So many things that a library lacks are named, the most frequent."""


def read(folder: Path = RECORDS) -> list[Report]:
    """Read the records; lrpref's own comes last."""
    reports = [runner.load(path) for path in sorted(folder.glob("*.json"))]
    return sorted(reports, key=lambda report: (report.library == runner.OURSELVES, report.name))


def read_networks(folder: Path = NETWORKS) -> dict[str, Any]:
    """Read what crosschecks found, by the names of their files."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


# The picture.


def draw(reports: Sequence[Report]) -> Figure:
    """Draw a cell for each library and dimension: its vectors by verdict, side by side."""
    columns = _columns(reports)
    figure = Figure(figsize=(10.5, 2.9 + 0.42 * len(reports)), layout="constrained", dpi=110)
    axes = figure.subplots()
    for y, report in enumerate(reports):
        for x, column in enumerate(columns):
            _draw_cell(axes, x, y, [_kind(f) for f in report.findings if column in dimensions_of(f)])
    titles = [f"{name} {DIMENSIONS[name].title}" if name in DIMENSIONS else name for name in columns]
    axes.set_xticks(range(len(columns)), titles, fontsize=8, rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(len(reports)), [report.name for report in reports], fontsize=9)
    axes.xaxis.tick_top()
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(reports) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    marks = [axes.barh(-9, 0, color=COLOURS[kind]) for kind in LEGEND]
    texts = list(LEGEND.values())
    figure.legend(marks, texts, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _draw_cell(axes: object, x: int, y: int, kinds: Sequence[str]) -> None:
    left, width = x - 0.46, 0.92 / max(len(kinds), 1)
    for kind in COLOURS:
        wide = width * kinds.count(kind)
        axes.barh(y, wide, left=left, color=COLOURS[kind], height=0.8)  # type: ignore[attr-defined]
        left += wide
    if kinds:
        axes.text(x, y, len(kinds), ha="center", va="center", fontsize=7)  # type: ignore[attr-defined]


def _kind(finding: Finding) -> str:
    return "fails" if finding.verdict in FAILURES else finding.verdict


def _columns(reports: Iterable[Report]) -> list[str]:
    found = {column for report in reports for f in report.findings for column in dimensions_of(f)}
    return sorted(found, key=reading_order)


# The page.


def text(reports: Sequence[Report], networks: Mapping[str, Any]) -> str:
    """Write the page."""
    scripts = sorted(REPRODUCERS.glob("[a-z]*.py"), key=_script_order)
    parts = [_OPENING.format(vectors=reports[0].vectors["count"], roundings=ROUNDINGS, same=f"{SAME:g}")]
    parts += [_table(_runs(reports)), _BELOW_RUNS.strip(), *_dimensions(reports), _table(_matrix(reports))]
    for report in reports:
        parts += _library(report, scripts)
    if networks:
        parts += [_NETWORKS, _table(_crosschecks(networks.values())), _BELOW_NETWORKS]
    for name, found in networks.items():
        parts += _network(name, found) if _picture(name).exists() else []
    parts += [_REPRODUCE]
    return "\n\n".join(parts).rstrip() + "\n"


_OPENING = """# Other libraries, judged by the vectors

*Written by `tools/write_conformance.py` from the records in `docs/conformance`.*

Every library below was given the same {vectors} test vectors ([their format](vectors.md)): a layer or a
small network, its input, the relevance that arrives at its output, a rule, and the relevance of the input
in exact fractions, computed from the formulas of Montavon et al. 2019 by a program that shares no code with
any library, lrpref included. A result *agrees with the chapter* if it is within {roundings} times the
vector's own bound for rounding in float64. Otherwise it is compared, as closely and then to {same} of the
largest |R|, with what the library is known to compute (its [dialect](dialects.md)), with every single setting
of every dimension in which libraries differ, with the conventions that the field has, and with slips that are
often made, such as a bias that is left out; the first that agrees is named.
To differ from the chapter is not to be wrong: many of these are choices. The page says which, so that nobody
has to find out by comparing pictures. There is no verdict about a library that was not run.

```{{image}} images/conformance.png
:alt: For each library and dimension, how many vectors agree with the chapter, and why the others do not
:width: 100%
```

A cell's number counts its vectors; its colours are their verdicts.

## What was run"""

_BELOW_RUNS = """
*Chapter*: agrees with it. *Own*: otherwise, as its dialect says. *Other*: as another library does it.
*Differ*: no known definition explains it. *Lacks*: the library has no such rule, parameter or layer, and
says so. *Fails*: it raises an error, returns NaN or infinity or another shape, crashes or hangs. *Undefined*:
the chapter's formula is 0/0 there, and no result is right or wrong. *Unexpected*: not as its dialect says,
which makes `lrpref conformance run` end with exit code 1.

## By dimension

Vectors that agree with the chapter, of those that were answered. A dimension's column has the vectors that
isolate it, and those that it explains; `plain` are the vectors on which no dimension bears. D18 and D19 show
in the scripts below: a vector says what to start from, and has ReLU for its only activation."""


def _runs(reports: Iterable[Report]) -> list[list[str]]:
    rows = [["library", "with", "date", "vectors", *COLUMNS, "unexpected"]]
    for report in reports:
        about = {k: v for k, v in report.about.items() if k not in ("library", "version", "install")}
        cell = Cell(report.findings)
        counts = [*(cell.count(*some) for some in COLUMNS.values()), len(report.regressions)]
        told = ", ".join(f"{k} {v}" for k, v in about.items())
        count = str(report.vectors["count"])
        rows.append([report.name, told, report.date, count, *(str(n or "") for n in counts)])
    return rows


def _dimensions(reports: Iterable[Report]) -> list[str]:
    shown = [DIMENSIONS[name] for name in _columns(reports) if name in DIMENSIONS]
    return ["; ".join(f"{d.id} {d.title[0].lower()}{d.title[1:]}" for d in shown) + "."]


def _matrix(reports: Sequence[Report]) -> list[list[str]]:
    columns = _columns(reports)
    rows = [["", *columns]]
    for report in reports:
        cells = [Cell(tuple(f for f in report.findings if column in dimensions_of(f))) for column in columns]
        judged = [(cell.count("chapter"), cell.judged) for cell in cells]
        rows.append([report.name, *(f"{right}/{of}" if of else "" for right, of in judged)])
    return rows


def _library(report: Report, scripts: Sequence[Path]) -> list[str]:
    """Tell of one library: what it does otherwise, what it lacks, and how to see it."""
    parts = [f"## {report.name}", _sentence(report)]
    if known := causes(report.findings):
        rows = [["vectors", "what it does", "such as", "shown by"]]
        for cause, found in known.items():
            examples = ", ".join(f"`{f.id}`" for f in found[:EXAMPLES])
            rows.append([str(len(found)), _inline(cause), examples, _shown_by(cause, report, scripts)])
        parts += ["Where it differs, and why; a vector may show several of these.", _table(rows)]
    if count := report.count("unsupported"):
        lacks = Counter(f.why for f in report.findings if f.verdict == "unsupported")
        told = "; ".join(f"{_inline(why)} ({n})" for why, n in lacks.most_common(LACKS))
        rest = len(lacks) - LACKS
        parts.append(f"What it lacks ({count} vectors): {told}{f'; and {rest} more' if rest > 0 else ''}.")
    settings = [f.settings.split("; ") for f in report.findings if f.settings and f.verdict != "chapter"]
    if instead := dict.fromkeys(text for some in settings for text in some):
        parts.append(f"What was asked for instead: {'; '.join(map(_inline, instead))}.")
    if report.regressions:
        names = ", ".join(f"`{f.id}` ({f.verdict})" for f in report.regressions)
        parts.append(f"Not as its dialect says: {names}.")
    if own := [path for path in scripts if _head(path)["library"] == report.library]:
        parts.append("To see it with nothing but the library:")
        parts += [_script(path) for path in own]
    return parts


def _sentence(report: Report) -> str:
    cell = Cell(report.findings)
    agrees = [f.error for f in report.findings if f.verdict == "chapter" and f.error is not None]
    worst = f", the worst within {max(agrees):.2g} of its bound" if agrees else ""
    return f"Of {cell.judged} answers, {len(agrees)} agree with the chapter{worst}."


def _inline(words: str) -> str:
    """Keep what a library says from being read as Markdown."""
    return re.sub(r"([|<>*_`\[\]])", r"\\\1", words)


def _shown_by(cause: str, report: Report, scripts: Sequence[Path]) -> str:
    """Name the scripts that show a cause; what is shown of a library holds of its earlier version, too."""
    name, _, _ = report.library.partition("-")
    for library in (report.library, name):
        wanted = {"library": library, "dimension": cause.partition(" ")[0]}
        if shown := [path for path in scripts if _head(path).items() >= wanted.items()]:
            return ", ".join(f"`{path.name}`" for path in shown)
    return ""


def _head(script: Path) -> dict[str, str]:
    """Read what the docstring of a reproducer says: library, dimension, expected, observed."""
    doc = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return dict(line.split(": ", 1) for line in doc.splitlines()[2:])


def _script_order(path: Path) -> tuple[int, str]:
    number = re.search(r"_D([0-9]+)", path.stem)
    return int(number[1]) if number else len(DIMENSIONS) + 1, path.stem


def _script(path: Path) -> str:
    return f"```python\n# {path.name}\n{path.read_text(encoding='utf-8').strip()}\n```"


_NETWORKS = """## Whole networks

`lrpref crosscheck` gives the same network, input and rules to a library and to lrpref, and compares the
relevances at every node that the library tells of, in shares of the largest |R|, in float64. Captum tells of
the input and of the nodes that have a rule. Captum runs a batch norm as a layer of its own, and zennit folds
it itself. Here both were given networks whose batch norms lrpref had folded into their neighbours: what a
library does with a norm is compared by the vectors (D16), not here."""

_BELOW_NETWORKS = """*By*: the largest difference at any node; *dialect*: from what lrpref computes under the
library's dialect. *Close*: windows of max pooling that are tied, or won by less than rounding, and have
relevance to give. VGG-16 and ResNet-50 are at full size, 224 x 224, with random weights and a random picture
(`tools/crosscheck_networks.py`): they need no file from elsewhere, and explain nothing worth a picture."""


def _crosschecks(networks: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each crosscheck."""
    rows = [["network", "library", "date", "composite", "norms folded", "relevances", "off the chapter by",
             "off its dialect by", "close", "because of"]]  # fmt: skip
    for found in sorted(networks, key=_network_order):
        off = [[line[side] for line in found["nodes"]] for side in ("chapter", "dialect")]
        rows.append([
            found["network"]["name"], f"{found['library']} {found['version']}", found["date"],
            found["composite"], str(found["folded norms"] or ""), str(len(found["nodes"])),
            *(_share(None if None in some else max(some)) for some in off),
            str(found["undecided windows"] or ""), ", ".join(found["dimensions"]),
        ])  # fmt: skip
    return rows


def _network_order(found: Mapping[str, Any]) -> tuple[str, str]:
    return found["network"]["name"], found["library"]


def _picture(name: str) -> Path:
    """Where the picture of a crosscheck is, if it is worth one."""
    return PICTURE.with_name(f"{name}.png")


def _network(name: str, found: Mapping[str, Any]) -> list[str]:
    """Tell of one network in which they differ: the sentence, the picture and the nodes."""
    title = f"### {found['library']} {found['version']}, {found['network']['name']}, {found['composite']}"
    told = _inline(found["found"]).rstrip(".") + "."
    nodes = [
        [line["node"], line["layer"], f"`{line['rule']}`" if line["rule"] else "", _share(line["chapter"]),
         _share(line["dialect"])]
        for line in found["nodes"]
    ]  # fmt: skip
    rows = [["relevance of", "layer", "rule", "off the chapter by", "off its dialect by"], *nodes]
    alt = f"The input; the heatmaps of lrpref and of {found['library']}; their difference"
    picture = f"```{{image}} images/{name}.png\n:alt: {alt}\n:width: 100%\n```"
    return [title, told, picture, _table(rows)]


def _share(difference: float | None) -> str:
    return "no such rule" if difference is None else f"{difference:.1e}" if difference else "0"


_REPRODUCE = """## To reproduce

    make peers                                      # the libraries, into .venv
    lrpref conformance list                         # what is installed, and how to install the rest
    lrpref conformance run --library zennit         # a table, results.json, and a page with every number
    lrpref crosscheck --library zennit --composite epsilon-plus    # one network, node by node

A library of one's own needs [an adapter of forty lines](adapters.md): `--library path/to/adapter.py`."""


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _run_all() -> Iterator[Path]:
    """Run the libraries that are installed; the records of others stay as they are."""
    vectors = suite.load()
    for library in (*process.libraries(), runner.OURSELVES):
        folder = ROOT / "out" / "conformance" / library
        try:
            report = runner.run(library, vectors, folder)
        except BadBackend as error:
            print(error)
            continue
        print(f"{report.name}: {len(report.findings)} vectors, {len(report.regressions)} unexpected")
        yield folder


def _keep(folder: Path, pictured: bool) -> None:
    """Take the results in a folder for records, and where asked the picture of a crosscheck."""
    if (folder / "results.json").exists():
        report = runner.load(folder / "results.json")
        shutil.copyfile(folder / "results.json", RECORDS / f"{report.library}.json")
    if (folder / "crosscheck.json").exists():
        found = json.loads((folder / "crosscheck.json").read_text(encoding="utf-8"))
        name = f"crosscheck-{found['library']}-{found['network']['name']}-{found['composite']}"
        shutil.copyfile(folder / "crosscheck.json", NETWORKS / f"{name}.json")
        if found["first that differs"] is not None and pictured:
            shutil.copyfile(folder / "crosscheck.png", _picture(name))


def main() -> None:
    """Take the results that are named, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="outputs of conformance run and crosscheck")
    parser.add_argument("--run", action="store_true", help="run every library that is installed, first")
    parser.add_argument("--pictures", action="store_true", help="keep the pictures of crosschecks, too")
    options = parser.parse_args()
    NETWORKS.mkdir(parents=True, exist_ok=True)
    for folder in [*(_run_all() if options.run else ()), *options.folders]:
        _keep(folder, options.pictures)
    reports = read()
    PAGE.write_text(text(reports, read_networks()), encoding="utf-8")
    PICTURE.write_bytes(png(draw(reports)))
    print(PAGE, PICTURE, sep="\n")


if __name__ == "__main__":
    main()
