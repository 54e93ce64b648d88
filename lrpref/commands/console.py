"""What all commands share: where they print, their progress bars, and one line for what is wrong."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lrpref.errors import LrprefError

P = ParamSpec("P")
T = TypeVar("T")

out = Console(highlight=False, soft_wrap=True, markup=False)
if not out.is_terminal:
    out = Console(highlight=False, soft_wrap=True, markup=False, width=120)  # a pipe has no width of its own


def one_line(command: Callable[P, T]) -> Callable[P, T]:
    """
    Turn errors that bad input causes into one line and exit code 2.

    Parameters
    ----------
    command : callable
        A command.

    Returns
    -------
    callable
        The same command.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except LrprefError as error:
            raise refusal(str(error)) from None
        except (OSError, UnicodeError) as error:
            what = f"{getattr(error, 'filename', None) or 'a name or the output'}"
            raise refusal(f"{what}: {getattr(error, 'strerror', None) or error}") from None
        except MemoryError:
            raise refusal("not enough memory for this network and input at this dtype") from None

    return wrapped


def refusal(text: str) -> typer.Exit:
    """
    Say in one line what was wrong, whatever characters a file put into it.

    Parameters
    ----------
    text : str
        What was wrong.

    Returns
    -------
    typer.Exit
        To be raised: exit code 2.
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    print(f"lrpref: {line}", file=sys.stderr)
    return typer.Exit(2)


def progress_bar(text: str = "{task.description}") -> Progress:
    """
    Make a progress bar: for a terminal's stderr, and for nobody where that goes elsewhere.

    Parameters
    ----------
    text : str
        What stands before the bar, in Rich's form.

    Returns
    -------
    Progress
        The bar, to be entered.
    """
    console, columns = Console(stderr=True), (TextColumn(text), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, transient=True, console=console, disable=not console.is_terminal)
