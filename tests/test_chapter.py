"""The table from the chapter to the code: it is complete, and all that it names exists."""

import ast
import importlib
import operator
import re
import shlex
from pathlib import Path

import pytest
import typer

from lrpref import cli, composites, data, figures, heads, rules
from lrpref.errors import LrprefError
from lrpref.fold import fold
from lrpref.spot import POOLING

ROOT = Path(__file__).parent.parent

UsageError = typer.BadParameter.__base__  # Typer carries a Click of its own, and exports no more of it

REQUIRED = {
    *(f"Section 10.{n}" for n in ("1", "2", "2.1", "2.2", "2.3", "3", "3.1", "3.2", "4")),
    *(f"Section 10.4: {model}" for model in ("k-means", "one-class SVM", "LSTM", "pairwise matching")),
    "Appendix 10.A", "Appendix 10.B",
    *(f"Equation 10.{n}" for n in (1, 2, 3)),
    # the unnumbered ones, by what stands on their left
    *(f"Equation of 10.3.1: {what}" for what in (
        "the score $z_c$", "the probability $P(\\omega_c)$", "the ratios $z_{c,c'}$",
        "the log-odds $\\eta_c$", "min-take-most $R_{c,c'}$",
    )),
    *(f"Equation of 10.4: {what}" for what in (
        "gate times signal $h_k$", "product neurons $a_k$", "relevance of pairs $R_{ij}$",
    )),
    "LRP-0", "LRP-epsilon", "LRP-gamma", "LRP-alpha-beta", "flat", "w^2", "z^B",
    *(f"Figure 10.{n}" for n in (1, 2, 3, 4, 5)),
}  # fmt: skip

HEADINGS = ["in the chapter", "module", "function", "command", "test", "read"]


def table():
    """Read the rows of the page's tables, each with the headings."""
    lines = (ROOT / "docs/chapter.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    found = [row for row in rows if row != HEADINGS and set(row[0]) != {"-"}]
    assert all(len(row) == len(HEADINGS) for row in found)
    return found


def code(cell):
    """Read what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


ROWS = table()


def test_every_part_of_the_chapter_has_a_row():
    said = {row[0] for row in ROWS}
    assert REQUIRED - said - {label.split(":")[0] for label in said} == set()


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_the_table_names_exists(row):
    _, module, functions, command, tests, page = row
    (found,) = map(importlib.import_module, code(module))
    assert code(functions)
    for name in code(functions):
        operator.attrgetter(name)(found)
    for line in code(command):
        check_command(*shlex.split(line))
    assert code(tests)
    for name in code(tests):
        file, function = name.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    (target,) = re.findall(r"\]\(([^)]+)\)", page)
    assert (ROOT / "docs" / target).is_file()


def check_command(program, *arguments):
    """Parse a command as the program would, and look up what its options name."""
    if program == "python":
        (script,) = arguments
        assert (ROOT / script).is_file()
        return
    assert program == "lrpref"
    command = typer.main.get_command(cli.app).commands[arguments[0]]
    options = command.make_context(arguments[0], list(arguments[1:])).params
    if options.get("composite"):
        composites.get(options["composite"])
    if options.get("rule"):
        rules.parse(options["rule"], box=(0, 1))
    if options.get("node"):
        shown = fold(data.embedded().before_softmax())
        known = {*shown.shapes, *shown.merged, *({POOLING} if options["head"] == "log-odds" else ())}
        assert options["node"] in known
    if "only" in options:
        figures.choose(options["only"])
    if options.get("head"):
        assert options["head"] in heads.HEADS


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("lrpref explane", KeyError),
        ("lrpref explain --heads score", UsageError),
        ("lrpref explain --head odds", AssertionError),
        ("lrpref trace --rule gama", LrprefError),
        ("lrpref trace --node pool9", AssertionError),
        ("lrpref trace --node log-odds", AssertionError),
        ("lrpref info --composite chapters", LrprefError),
        ("lrpref figures --only 10.6", LrprefError),
        ("python tools/evaluate.py", AssertionError),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line, error):
    with pytest.raises(error):
        check_command(*shlex.split(line))
