"""A library in a process of its own: what it answers to each vector, and what befalls it.

>>> from lrpref.conformance.adapters import process                                       # doctest: +SKIP
>>> for outcome in process.explain_all("zennit", vectors, results=Path("results.jsonl")): # doctest: +SKIP
...     print(outcome.id, outcome.status)                                                 # doctest: +SKIP

`worker.py` runs there and hands back one line for each vector. Here its time is watched: a vector on which
the library hangs or dies gets that as its outcome, and another worker goes on with the next one. Every
outcome is appended to a results file at once, so that a run that was broken off goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import lrpref
from lrpref.conformance.adapters import worker
from lrpref.errors import BadBackend, BadRecord
from lrpref.files import regular
from lrpref.kernels.operations import Array

START = 300.0
"""So many seconds may pass until a library is imported."""

POLL = 0.02
"""Seconds between two looks at what the worker has written."""

STATUSES = ("ok", "unsupported", "error", "crash", "timeout")
"""What a line of a results file may say; what else there is to say of an `ok` shows in its numbers."""

HIDDEN = ("expected", "conventions", "result")
"""What of a vector no adapter gets to see: the answers."""


class Vector(Protocol):
    """What is needed of a vector."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The vector as in its file."""


@dataclass(frozen=True)
class Library:
    """
    A library that can be run.

    Parameters
    ----------
    name : str
        By which it is asked for, and of its environment's folder.
    adapter : Path
        The adapter's file.
    """

    name: str
    adapter: Path


@dataclass(frozen=True)
class Outcome:
    """
    What a library made of a vector.

    Parameters
    ----------
    id : str
        The vector's.
    status : str
        `ok`; `unsupported`: the library lacks it, and says so; `error`: it raised something; `crash`: its
        process died; `timeout`: it did not end; `wrong-shape` or `not-finite`: what it returned.
    R : ndarray or None
        Relevance of the input, where there is one of the right shape.
    message : str
        The library's own words, shortened, or what was wrong.
    seconds : float
        How long it took.
    nodes : mapping of str to ndarray
        Relevance of other nodes' outputs, where the library exposes them.
    settings : str
        What could not be asked for as the vector says, and what was taken instead.
    """

    id: str
    status: str
    R: Array | None = None
    message: str = ""
    seconds: float = 0.0
    nodes: Mapping[str, Array] = field(default_factory=dict)
    settings: str = ""


_HERE = Path(__file__).parent / "libraries"

_LIBRARIES = {
    name: Library(name, _HERE / f"{module}.py")
    for name, module in {
        "zennit": "zennit",
        "zennit-0.5.1": "zennit",
        "captum": "captum",
        "autolrp": "autolrp",
        "lxt": "lxt",
        "innvestigate": "innvestigate",
    }.items()
}


def libraries() -> tuple[str, ...]:
    """
    Name the libraries that have an adapter here.

    Returns
    -------
    tuple of str
        Their names; a path to an adapter's file is as good as a name.
    """
    return tuple(_LIBRARIES)


def get(library: str) -> Library:
    """
    Find a library's adapter.

    Parameters
    ----------
    library : str
        One of `libraries()`, or the path of a file of one's own that ends in .py.

    Returns
    -------
    Library
        The library; whether it is installed shows when it is run.

    Raises
    ------
    BadBackend
        If there is neither such a name nor such a file.
    """
    if library.endswith(".py"):
        path = regular(library, BadBackend).resolve()
        return Library(path.stem, path)
    if library not in _LIBRARIES:
        known = ", ".join(_LIBRARIES)
        raise BadBackend(f"unknown library {library!r}: there are {known}; or give an adapter's file (.py)")
    return _LIBRARIES[library]


def environment(library: str) -> tuple[str, dict[str, str]]:
    """
    Say where a library lives.

    `<folder>/<library>` is looked for in the folder LRPREF_PEERS and in `<sys.prefix>/peers`. With an
    interpreter of its own it is a virtual environment; else packages that pip put there (--target).

    Parameters
    ----------
    library : str
        Its name.

    Returns
    -------
    str
        The interpreter that runs it: this one, unless it has its own.
    dict of str to str
        The environment variables for its process.
    """
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    places = [os.environ.get("LRPREF_PEERS"), os.path.join(sys.prefix, "peers")]
    own = [Path(place) / library for place in places if place and (Path(place) / library).is_dir()]
    interpreter = own[0] / "bin" / "python" if own else None
    if interpreter is not None and interpreter.exists():
        variables.pop("PYTHONPATH", None)  # what is installed for this interpreter is not for that one
        return str(interpreter), variables
    root = str(Path(lrpref.__file__).parent.parent)
    paths = [*map(str, own[:1]), root, os.environ.get("PYTHONPATH", "")]
    return sys.executable, variables | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def describe(library: str) -> dict[str, str]:
    """
    Ask a library for its version.

    Parameters
    ----------
    library : str
        As in `get`.

    Returns
    -------
    dict of str to str
        `library`, `version`, `python`, versions of what it builds on, `install`.

    Raises
    ------
    BadBackend
        If it is not installed (the line says how to), or does not start.
    """
    found = get(library)
    with _Worker(found, []) as process:
        about = process.head()
    return about


def explain_all(
    library: str,
    vectors: Iterable[Vector],
    *,
    results: Path,
    timeout: float = 60.0,
    watch: Callable[[str], None] | None = None,
) -> Iterator[Outcome]:
    """
    Let a library explain vectors; whatever befalls it becomes an outcome.

    Parameters
    ----------
    library : str
        As in `get`.
    vectors : iterable of Vector
        What is to be explained.
    results : Path
        A JSON Lines file. Outcomes in it of the same vectors, library and adapter are taken as they are;
        each new one is appended at once.
    timeout : float
        Seconds for one vector.
    watch : callable, optional
        Is told the id of each vector before it is run.

    Yields
    ------
    Outcome
        In the vectors' order.

    Raises
    ------
    BadBackend
        If the library is not installed, or does not start.
    BadRecord
        If the results cannot be read or written.
    """
    found, about = get(library), describe(library)
    cases = [{key: part for key, part in v.raw.items() if key not in HIDDEN} for v in vectors]
    known = _results(results, found, about)
    todo = [case for case in cases if _digest(case) not in known]
    with _appending(results) as write, contextlib.ExitStack() as running:
        if todo:
            write({**about, "adapter": _code(found)})
        process: _Worker | None = None
        for case in cases:
            if (line := known.get(_digest(case))) is None:
                if watch is not None:
                    watch(case["id"])
                if process is None or process.dead:
                    process = running.enter_context(_Worker(found, todo))
                line = process.answer(case["id"], timeout)
                write({**line, "case": _digest(case)})
                todo = todo[1:]
            yield _outcome(line, case)


def _outcome(line: Mapping[str, Any], case: Mapping[str, Any]) -> Outcome:
    """Read a line, and look at what was returned."""
    given = {key: line[key] for key in ("message", "seconds", "settings") if key in line}
    if line["status"] != "ok":
        return Outcome(line["id"], line["status"], **given)
    R, wanted = worker.array(line["R"]), tuple(case["input"]["shape"])
    if R.shape != wanted:
        given["message"] = f"relevance of shape {R.shape} for an input of shape {wanted}"
        return Outcome(line["id"], "wrong-shape", **given)
    nodes = {name: worker.array(of_node) for name, of_node in line.get("nodes", {}).items()}
    if not np.isfinite(R).all():
        given["message"] = f"{int((~np.isfinite(R)).sum())} of {R.size} values are NaN or infinite"
        return Outcome(line["id"], "not-finite", R, nodes=nodes, **given)
    return Outcome(line["id"], "ok", R, nodes=nodes, **given)


class _Worker:
    """A worker over some cases; a context manager that leaves no process behind."""

    def __init__(self, library: Library, cases: Sequence[Mapping[str, Any]]) -> None:
        self._library = library
        self._folder = tempfile.TemporaryDirectory(prefix="lrpref-")
        folder = Path(self._folder.name)
        (folder / "cases").write_text(json.dumps({"cases": cases}), encoding="utf-8")
        (folder / "results").touch()
        interpreter, variables = environment(library.name)
        files = [str(path) for path in (library.adapter, folder / "cases", folder / "results")]
        self._said = folder / "said"
        with open(self._said, "wb") as said:
            self._process = subprocess.Popen(
                [interpreter, worker.__file__, *files],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=variables, start_new_session=True,
            )  # fmt: skip
        self._lines = open(folder / "results", encoding="utf-8")  # noqa: SIM115  closed in __exit__
        self._partial = ""
        self._started = False
        self.dead = False

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *reason: object) -> None:
        self._kill()
        self._lines.close()
        self._folder.cleanup()

    def _kill(self) -> None:
        """End the worker, and whatever it started."""
        self.dead = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _next(self, timeout: float) -> dict[str, Any] | None:
        """Wait for the next whole line; None if the worker ended or the time is over."""
        end = time.monotonic() + timeout
        while True:
            ended = self._process.poll() is not None  # asked before reading: what it wrote is then there
            self._partial += self._lines.readline()
            if self._partial.endswith("\n"):
                line, self._partial = self._partial, ""
                return _read(line)
            if ended or time.monotonic() >= end:
                return None
            time.sleep(POLL)

    def _last_words(self) -> str:
        """What it said last, in one line."""
        said = self._said.read_bytes()[-4000:].decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(said) if line.strip()), "")[-worker.LONGEST :]

    def head(self) -> dict[str, str]:
        """Wait for the first line, which says what runs here."""
        about, name = self._next(START), self._library.name
        if about is None:
            hangs = self._process.poll() is None
            self._kill()
            why = f"not imported after {START:g} s" if hangs else self._last_words() or self._end()
            raise BadBackend(f"{name} does not start: {why}")
        _, dash, version = name.partition("-")
        older = dash and self._library is _LIBRARIES.get(name)
        how = "tools/install_peers.sh gives it a folder of its own" if older else about.get("install")
        if "missing" in about:
            raise BadBackend(f"{name} is not installed ({about['missing']} is missing): {how}")
        if older and about["version"] != version:
            raise BadBackend(f"{name} is not installed, {about['version']} is: {how}")
        self._started = True
        return about

    def answer(self, case: str, timeout: float) -> dict[str, Any]:
        """Wait for a case's line; where none comes, the line says why."""
        start = time.monotonic()
        if not self._started:
            try:
                self.head()
            except BadBackend as error:  # it did start before: what befell it is this case's
                self._kill()
                return {"id": case, "status": "crash", "message": str(error)}
        line = self._next(timeout)
        if line is not None and line.get("id") == case and _is_answer(line):
            return line
        ended = self._process.poll() is not None
        self._kill()
        status, why = "timeout", f"no answer after {timeout:g} s"
        if line is not None:
            status, why = "crash", "wrote a line that is no result"
        elif ended:
            status, why = "crash", f"{self._end()}: {self._last_words()}".removesuffix(": ")
        seconds = round(time.monotonic() - start, 6)
        return {"id": case, "status": status, "message": why, "seconds": seconds}

    def _end(self) -> str:
        """How the process ended."""
        code = self._process.returncode
        if code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended before it answered, with exit code {code}"


def _read(line: str) -> dict[str, Any]:
    """A worker's line; one that nobody can read is nobody's answer."""
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):
        return {}


def _is_answer(line: Mapping[str, Any]) -> bool:
    """Whether a line says what a worker's lines say, and its numbers can be read."""
    try:
        for numbers in (line["R"], *line.get("nodes", {}).values()) if line["status"] == "ok" else ():
            worker.array(numbers)
        return line["status"] in STATUSES
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _code(library: Library) -> str:
    """A digest of an adapter and of what stands beside it: a changed adapter is asked again."""
    files = sorted(path for path in library.adapter.parent.glob("*.py") if path.is_file())
    return _digest({path.name: path.read_text(encoding="utf-8", errors="replace") for path in files})


def _results(path: Path, library: Library, about: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Read the lines that an earlier run of the same library and adapter left, by their cases' digests."""
    wanted = {**about, "adapter": _code(library)}
    known: dict[str, dict[str, Any]] = {}
    same = False
    if not path.exists():
        return known
    try:
        with _using(path):
            text = regular(path, BadRecord).read_text(encoding="utf-8")
        whole, _, _ = text.rpartition("\n")  # half a line is no result
        for line in map(json.loads, filter(None, whole.split("\n"))):
            if line.get("library"):
                same = line == wanted
            elif same and _is_answer(line):
                known[line["case"]] = line
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise BadRecord(f"{path}: is not a results file ({type(error).__name__}); name another") from None
    return known


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open a results file behind its last whole line; each line written is in the file at once."""
    import fcntl  # Unix only

    with contextlib.ExitStack() as opened:
        with _using(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(open(path, "ab+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadRecord(f"{path}: another run is writing it; wait for it, or name another") from None
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)

        def write(line: Mapping[str, Any]) -> None:
            with _using(path):
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()

        yield write


@contextlib.contextmanager
def _using(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read and written ({error.strerror or error})") from None
