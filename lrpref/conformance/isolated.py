"""A call in a process of its own: what a peer prints, breaks or never finishes stays there."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from lrpref.errors import BadBackend, LrprefError

T = TypeVar("T")


def isolated(call: Callable[..., T], *arguments: Any, timeout: float, **options: Any) -> T:
    """
    Call a function in a process of its own.

    Parameters
    ----------
    call : callable
        A function of a module; what it is given and what it returns is pickled.
    *arguments
        What it is called with.
    timeout : float
        Seconds, imports included.
    **options
        What else it is called with.

    Returns
    -------
    object
        What it returns.

    Raises
    ------
    LrprefError
        Of the kind that it raised; `BadBackend` for any other error, or if the process ends or is not done
        in time.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, call, arguments, options), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            raise BadBackend(f"no answer after {timeout:g} s")
        error, answer = ours.recv()
    except EOFError:
        process.join()
        raise BadBackend(f"its process ended with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error
    return answer


def _serve(connection: Connection, call: Callable[..., Any], arguments: Any, options: Any) -> None:
    os.dup2(2, 1)  # a peer's print is no output of ours
    answer: tuple[LrprefError | None, Any]
    try:
        answer = None, call(*arguments, **options)
    except LrprefError as error:
        answer = type(error)(str(error)), None
    except Exception as error:
        answer = BadBackend(f"{type(error).__name__}: {error}"), None
    connection.send(answer)
