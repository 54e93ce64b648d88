"""`lrpref crosscheck`: one network and one input, by a peer and by lrpref, node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lrpref import data, dialects
from lrpref.commands.console import one_line, out, progress_bar
from lrpref.commands.sources import Architecture, Model, load_network, read_input, read_target
from lrpref.conformance import crosscheck as checks
from lrpref.conformance import crosscheck_page as pages
from lrpref.conformance.adapters import PEERS
from lrpref.kernels import BACKENDS


@one_line
def crosscheck(
    library: Annotated[str, typer.Option(help=f"The peer: {' or '.join(PEERS)}.")],
    model: Model = data.EMBEDDED,
    architecture: Architecture = None,
    input: Annotated[str | None, typer.Option(help="As for explain.")] = None,
    target: Annotated[str, typer.Option(help="Class index, class name, or max.")] = "max",
    composite: Annotated[str, typer.Option(help="Name or TOML file.")] = "chapter",
    dialect: Annotated[
        str | None, typer.Option(help="What the peer is known to mean; by default that of its name.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, " + ", ".join(BACKENDS) + ".")] = "numpy",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for the peer.")] = checks.TIMEOUT,
    out_folder: Annotated[Path, typer.Option("--out", help="Output folder.")] = Path("out/crosscheck"),
) -> None:
    """
    Find where another library parts from lrpref on one input, and why.

    Why are the dimensions of its dialect that explain the difference; exit code
    1 if none do. Both are given the same layers, their batch norms folded.
    """
    network = load_network(model, architecture)
    x = read_input(network, input)
    known = None if dialect is None else dialects.get(dialect)
    with progress_bar() as progress:
        task = progress.add_task("", total=None)
        found = checks.crosscheck(
            library, network, x, read_target(network, target), composite, dialect=known, backend=backend,
            timeout=timeout, watch=lambda step: progress.update(task, description=step),
        )  # fmt: skip
    pages.save(found, out_folder)
    _tell(found)
    out.print(f"page:    {out_folder / 'crosscheck.html'}")
    out.print(f"results: {out_folder / 'crosscheck.json'}  {out_folder / 'crosscheck.png'}")
    if not found.agrees:
        raise typer.Exit(1)


def _tell(found: checks.Crosscheck) -> None:
    table = Table(*pages.HEADINGS, box=None)
    for column in table.columns[3:]:
        column.justify = "right"
    for line in found.lines:
        table.add_row(*pages.row(line))
    out.print(table)
    out.print(found.given)
    out.print(str(found), style=None if found.agrees else "red")
