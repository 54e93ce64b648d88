"""The option --certify of `lrpref explain`: how many digits are right."""

from __future__ import annotations

from rich.table import Table

from lrpref.certificate import LEVELS, Certificate, certify
from lrpref.commands.console import out, progress_bar
from lrpref.explanation import Explanation


def certified(explanation: Explanation) -> Certificate:
    """
    Certify an explanation, behind a progress bar.

    Parameters
    ----------
    explanation : Explanation
        What is to be certified.

    Returns
    -------
    Certificate
        How many digits are right under float32 and float64.

    Raises
    ------
    BadBackend
        If there is nothing to hold it against.
    """
    with progress_bar() as progress:
        # the truth, and one float run besides the explanation's own: which two, is seen on the way
        task = progress.add_task("certifying", total=2 * len(explanation.canonical.nodes))

        def watch(node: str) -> None:
            progress.update(task, advance=1, description=f"certifying {node}")

        return certify(explanation, watch=watch)


def tell(certificate: Certificate) -> None:
    """
    Print a certificate.

    Parameters
    ----------
    certificate : Certificate
        What was found.
    """
    table = Table(box=None, title=f"right decimal digits, {certificate}", title_justify="left")
    table.add_column("dtype")
    shares = [f">= {level}" for level in LEVELS]
    for heading in ("worst pixel", "median", *shares, "worst, of max |R|", "of the sum", "sum"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in certificate.runs:
        found = run.summary()
        digits = (f"{found[name]:.2f}" for name in ("min", "median"))
        parts = (f"{100 * found[f'share_with_{level}']:.1f} %" for level in LEVELS)
        more = (f"{found['min_of_max']:.2f}", f"{run.sum_digits.min():.2f}", f"{run.sum[0]:.17g}")
        table.add_row(run.dtype, *digits, *parts, *more)
    out.print(table)
    out.print(f"the sum {'lies in' if certificate.proof else 'in longdouble is'} {certificate.sum[0]}")
    for note in certificate.notes:
        out.print(f"note: {note}")
