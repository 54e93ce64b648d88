"""Runs one library over case files, in a process and an environment of its own.

    python worker.py ADAPTER.py CASES RESULTS

CASES is JSON, `{"cases": [...]}`; RESULTS gets one line of JSON for each case, at once. The first line says
which library this is. An adapter is a Python file with

    NAME              the library's name
    INSTALL           one line: how to install it
    version()         its version, and whatever else should be on record
    explain(case)     relevance of the input; or a dict: R, and if known nodes (relevance by name) and
                      settings (a text: what was not as the case says)

`explain` raises NotImplementedError("why") for what the library lacks. Arrays come to it as NumPy arrays.

This file needs the standard library and NumPy only, of whatever version: lrpref need not be installed where
the library is. The library may print; it may crash, and then the lines written so far are there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

LONGEST = 500
"""So many characters of an error's message are kept."""

NEEDED = ("NAME", "INSTALL", "version", "explain")
"""What an adapter has to have."""

LOOK = 0.5
"""Seconds between two looks whether whoever started this process is still there."""


def array(numbers: dict[str, Any]) -> np.ndarray[Any, Any]:
    """
    Read an array of the vector files.

    Parameters
    ----------
    numbers : dict
        Its `shape`, and its numbers as hexadecimal floats (`hex`), row by row.

    Returns
    -------
    ndarray of float64
        The array.
    """
    return np.array([float.fromhex(h) for h in numbers["hex"]], float).reshape(numbers["shape"])


def text(numbers: Any) -> dict[str, Any]:
    """
    Write an array as the vector files do, exactly; NaN and infinities have names.

    Parameters
    ----------
    numbers : array_like
        Real numbers.

    Returns
    -------
    dict
        `shape` and `hex`.
    """
    given = np.asarray(numbers)
    if np.iscomplexobj(given):
        raise TypeError("complex numbers are no relevance")
    whole = given.astype(float)
    return {"shape": list(whole.shape), "hex": [float(x).hex() for x in whole.flat]}


def decoded(value: Any) -> Any:
    """
    Put arrays in the place of their texts, however deep they lie in a case.

    Parameters
    ----------
    value : JSON
        A case, or a part of one.

    Returns
    -------
    object
        The same with NumPy arrays.
    """
    if isinstance(value, dict):
        return array(value) if "hex" in value else {key: decoded(part) for key, part in value.items()}
    return [decoded(part) for part in value] if isinstance(value, list) else value


def load(path: str) -> ModuleType:
    """
    Import an adapter from its file.

    Parameters
    ----------
    path : str
        The file.

    Returns
    -------
    module
        The adapter; its folder is not on the import path, whatever its files are called.
    """
    spec = importlib.util.spec_from_file_location("adapter_" + Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def head(path: str) -> tuple[dict[str, Any], ModuleType | None]:
    """
    Say which library an adapter has, and in which version.

    Parameters
    ----------
    path : str
        The adapter's file.

    Returns
    -------
    dict
        `library`, `version`, `install`, `python`, ...; with `missing`, a package's name, where the library
        cannot be imported for want of it.
    module or None
        The adapter, unless something is missing.
    """
    about = {"library": Path(path).stem, "python": platform.python_version(), "numpy": np.__version__}
    adapter = None
    try:
        adapter = load(path)
        if lacking := [name for name in NEEDED if not hasattr(adapter, name)]:
            raise AttributeError(f"the adapter has no {', '.join(lacking)}")
        version = adapter.version()
        version = version if isinstance(version, dict) else {"version": version}
        if not version.get("version"):
            raise ValueError("the adapter's version() tells no version")
        about |= {"library": adapter.NAME, "install": adapter.INSTALL, **version}
        return {str(key): printable(value) for key, value in about.items()}, adapter
    except ModuleNotFoundError as error:
        install = getattr(adapter, "INSTALL", None) or _install_line(path)
        return about | {"missing": str(error.name), "install": install}, None


def _install_line(path: str) -> str:
    """The adapter's own words, read without running it: its imports have failed."""
    import ast

    for line in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "INSTALL":
            return str(ast.literal_eval(line.value))
    return "see its documentation"


def printable(words: Any) -> str:
    """
    Write what a library says so that any file can hold it.

    Parameters
    ----------
    words : object
        What it says.

    Returns
    -------
    str
        One line, not too long.
    """
    whole = str(words).encode("utf-8", "backslashreplace").decode()[:LONGEST]
    return "".join(c if c.isprintable() else " " for c in whole)


def answer(explain: Callable[[Any], Any], case: dict[str, Any]) -> dict[str, Any]:
    """
    Let a library explain one case; whatever it raises becomes a line.

    Parameters
    ----------
    explain : callable
        The adapter's.
    case : dict
        The case, as in its file.

    Returns
    -------
    dict
        The line: `id`, `status`, `seconds`, and `R` or `message`.
    """
    line: dict[str, Any] = {"id": case["id"]}
    start = time.perf_counter()
    try:
        made = explain(decoded(case))
        made = made if isinstance(made, dict) else {"R": made}
        if "R" not in made:
            raise TypeError("a dict without R is no answer")
        line |= {"status": "ok", "R": text(made["R"])}
        if "nodes" in made:
            line["nodes"] = {name: text(R) for name, R in made["nodes"].items()}
        if "settings" in made:
            line["settings"] = printable(made["settings"])
    except NotImplementedError as error:
        line |= {"status": "unsupported", "message": printable(error)}
    except (Exception, SystemExit) as error:
        line |= {"status": "error", "message": printable(f"{type(error).__name__}: {error}")}
    return line | {"seconds": round(time.perf_counter() - start, 6)}


def follow(parent: int) -> None:
    """
    End this process, and what the library started, once whoever started it is gone.

    Parameters
    ----------
    parent : int
        Its process id.
    """
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.killpg(0, signal.SIGKILL)


def main(adapter: str, cases: str, results: str) -> None:
    """
    Run an adapter over the cases of a file.

    Parameters
    ----------
    adapter, cases, results : str
        The files; see above.
    """
    os.dup2(2, 1)  # a library's print is no output of ours
    with open(results, "a", encoding="utf-8") as out:

        def write(line: dict[str, Any]) -> None:
            print(json.dumps(line), file=out, flush=True)

        about, module = head(adapter)
        write(about)
        if module is None:
            return
        for case in json.loads(Path(cases).read_text(encoding="utf-8"))["cases"]:
            write(answer(module.explain, case))


if __name__ == "__main__":
    # A script's own folder comes first on the path: `import zennit` must not find our files.
    sys.path.pop(0)
    threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
    main(*sys.argv[1:])
