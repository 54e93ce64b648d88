"""`lrpref conformance run` and `list`: judge a library by vectors whose results are known exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lrpref import dialects, report
from lrpref.commands.console import one_line, out, progress_bar
from lrpref.conformance import matrix, page, runner, suite
from lrpref.conformance.adapters import process
from lrpref.conformance.verdicts import ROUNDINGS, VERDICTS, Finding
from lrpref.errors import BadBackend

app = typer.Typer(
    no_args_is_help=True,
    help="Judge a library for LRP by vectors whose results are known exactly: small layers and networks, "
    "each with its input, its rule and the right relevance. Begin with 'list'.",
)

Vectors = Annotated[
    list[Path] | None,
    typer.Option(help="A vector file, or a folder of them; may be repeated. All by default."),
]

HEADINGS = ("rule", "dimension", "vectors", *matrix.COLUMNS, "worst error")

EXAMPLES = 3
"""So many vectors are named for each cause; the page has all."""


@app.command()
@one_line
def run(
    library: Annotated[str, typer.Option(help="A name that `conformance list` knows, or an adapter's file.")],
    vectors: Vectors = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Output folder; by default out/conformance/NAME.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one vector.")] = runner.TIMEOUT,
    dialect: Annotated[
        str | None, typer.Option(help="What the library is known to mean; by default that of its name.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Of --library lrpref.")] = "numpy",
) -> None:
    """
    Run a library over the vectors: a table, causes, a page with all numbers.

    Exit code 1 where the library does not do what is known of it: its dialect,
    or, of a library that has none, the chapter's formulas. A run that was broken
    off goes on where it was. For a library of your own, write an adapter of some
    forty lines: copy lrpref/conformance/adapters/template.py.
    """
    cases = suite.load(vectors)
    folder = out_folder or Path("out/conformance") / runner.name_of(library)
    known = None if dialect is None else dialects.get(dialect)
    with progress_bar() as progress:
        task = progress.add_task(f"starting {library}", total=len(cases))
        found = runner.run(
            library, cases, folder, dialect=known, backend=backend, timeout=timeout,
            watch=lambda vector: progress.update(task, advance=1, description=vector),
        )  # fmt: skip
    report.write(folder / "report.html", page.page(found, cases))
    _tell(found)
    out.print(f"page:    {folder / 'report.html'}")
    out.print(f"results: {folder / 'results.json'}")
    if found.regressions:
        raise typer.Exit(1)


def _tell(found: runner.Report) -> None:
    """Print the table, and what is not as it should be."""
    table = Table(*HEADINGS, box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in matrix.summary(matrix.matrix(found.findings), matrix.Cell(found.findings)):
        table.add_row(*row)
    out.print(table)
    out.print(f"own: as its dialect '{found.dialect}'; other: another named convention; differ: none known. "
              f"Errors are in each vector's float64 bounds: up to {ROUNDINGS} is rounding.")  # fmt: skip
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    out.print(f"{found.name}: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
    for cause, some in matrix.causes(found.findings).items():
        out.print(f"{_examples(some)}: {cause}")
    if found.regressions:
        out.print(f"not as its dialect '{found.dialect}' says: {_examples(found.regressions)}", style="red")


def _examples(findings: Sequence[Finding]) -> str:
    """Count findings, and name the first."""
    named = ", ".join(finding.id for finding in findings[:EXAMPLES])
    more = ", ..." if len(findings) > EXAMPLES else ""
    return f"{len(findings)} ({named}{more})"


@app.command("list")
@one_line
def list_libraries(vectors: Vectors = None) -> None:
    """List the libraries, installed or not, and the vectors."""
    families = Counter(vector.family for vector in suite.load(vectors))
    names = process.libraries()
    table = Table("library", "version", "dialect", "how to install it", box=None)
    with progress_bar() as progress:
        task = progress.add_task("asking", total=len(names))
        for name in names:
            progress.update(task, description=f"asking {name}")
            known = name if name in dialects.NAMES else ""
            try:
                table.add_row(name, process.describe(name)["version"], known, "")
            except BadBackend as error:
                table.add_row(name, "not installed", known, str(error))
            progress.advance(task)
    out.print(table)
    told = ", ".join(f"{name} {n}" for name, n in families.items())
    out.print(f"{families.total()} vectors: {told}")
