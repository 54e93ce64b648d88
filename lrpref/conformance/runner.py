"""A run of one library over the vectors: outcomes as they come, a verdict on each, and what is kept of it.

>>> from lrpref.conformance import runner, suite                                         # doctest: +SKIP
>>> report = runner.run("zennit", suite.load(), Path("out/zennit"))                      # doctest: +SKIP
>>> report.count("chapter"), len(report.regressions)                                     # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lrpref
from lrpref.conformance import verdicts
from lrpref.conformance.adapters import process
from lrpref.conformance.adapters.process import Outcome
from lrpref.conformance.verdicts import Finding
from lrpref.errors import BadRecord
from lrpref.files import new_file, regular

if TYPE_CHECKING:
    from lrpref.conformance.suite import Vector
    from lrpref.dialects import Dialect

FORMAT = "lrpref-conformance/1"

OURSELVES = "lrpref"
"""The name under which lrpref itself is run: a row to compare others with."""

TIMEOUT = 60.0
"""Seconds for one vector; the slowest library takes a tenth of one."""


@dataclass(frozen=True)
class Report:
    """
    What a run found.

    Parameters
    ----------
    library : str
        By which name it was run: that of `process.libraries`, or of an adapter's file.
    about : mapping of str to str
        `library`, `version`, and the versions of what it builds on.
    date : str
        The day of the run.
    dialect : str
        The definitions that the library is known to follow.
    vectors : mapping of str to Any
        `count` and `sha256` of the vectors it was run on.
    findings : tuple of Finding
        One for each vector, in their order.
    outcomes : mapping of str to Outcome
        The library's own answers by vector; empty in a report that was read from its file.
    """

    library: str
    about: Mapping[str, str]
    date: str
    dialect: str
    vectors: Mapping[str, Any]
    findings: tuple[Finding, ...]
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The library with its version."""
        return f"{self.about['library']} {self.about['version']}"

    def count(self, verdict: str) -> int:
        """
        Count the vectors with a verdict.

        Parameters
        ----------
        verdict : str
            One of `verdicts.VERDICTS`.

        Returns
        -------
        int
            How many there are.
        """
        return sum(finding.verdict == verdict for finding in self.findings)

    @property
    def regressions(self) -> list[Finding]:
        """Where the library does not do what its own dialect says."""
        return [finding for finding in self.findings if finding.regression]

    def save(self, path: Path) -> None:
        """
        Write the verdicts, one on a line, without the numbers.

        Parameters
        ----------
        path : Path
            A JSON file; an earlier one is replaced.

        Raises
        ------
        BadRecord
            If it cannot be written.
        """
        head = {
            "format": FORMAT, "lrpref": lrpref.__version__, "date": self.date, "library": self.library,
            "about": dict(self.about), "dialect": self.dialect, "vectors": dict(self.vectors),
        }  # fmt: skip
        lines = ",\n".join(json.dumps(finding.plain(), ensure_ascii=False) for finding in self.findings)
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        with new_file(path) as temporary:
            temporary.write_text(f'{text},\n "findings": [\n{lines}\n]}}\n', encoding="utf-8")


def load(path: Path) -> Report:
    """
    Read the verdicts of an earlier run.

    Parameters
    ----------
    path : Path
        A file that `Report.save` wrote.

    Returns
    -------
    Report
        The report, without the library's answers.

    Raises
    ------
    BadRecord
        If it is no such file.
    """
    try:
        held = json.loads(regular(path, BadRecord).read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise BadRecord(f"{path}: its format is {held['format']!r}; this version reads {FORMAT!r}")
        findings = tuple(Finding.of(found) for found in held["findings"])
        return Report(
            held["library"], held["about"], held["date"], held["dialect"], held["vectors"], findings
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadRecord(f"{path}: no results of a conformance run ({what})") from None


def run(
    library: str,
    vectors: Sequence[Vector],
    folder: Path,
    *,
    dialect: Dialect | None = None,
    backend: str = "numpy",
    timeout: float = TIMEOUT,
    watch: Callable[[str], None] | None = None,
) -> Report:
    """
    Let a library explain the vectors, and judge its answers.

    Parameters
    ----------
    library : str
        A name, `OURSELVES`, or the path of an adapter's file.
    vectors : sequence of Vector
        What it is given.
    folder : Path
        Where `results.jsonl` grows, and `results.json` is written in the end.
    dialect : Dialect, optional
        What the library is known to mean; by default that of its name, or the chapter's.
    backend : str
        Who computes for `OURSELVES`.
    timeout : float
        Seconds for one vector.
    watch : callable, optional
        Is told the id of each vector when it has been judged.

    Returns
    -------
    Report
        The findings.

    Raises
    ------
    BadBackend
        If the library is not installed; the line says how to.
    BadRecord
        If the folder cannot be written.
    """
    if library == OURSELVES:
        about = {"library": OURSELVES, "version": lrpref.__version__, "backend": backend}
        answers = _our_own(vectors, backend)
    else:
        about = process.describe(library)
        results = folder / "results.jsonl"
        answers = process.explain_all(library, vectors, results=results, timeout=timeout)
    dialect = dialect or verdicts.own_dialect(library)
    findings: list[Finding] = []
    outcomes: dict[str, Outcome] = {}
    for vector, outcome in zip(vectors, answers, strict=True):
        outcomes[vector.id] = outcome
        findings.append(verdicts.judge(vector, outcome, dialect))
        if watch is not None:
            watch(vector.id)
    made = {"count": len(vectors), "sha256": digest(vectors)}
    day = datetime.now(UTC).date().isoformat()
    report = Report(name_of(library), about, day, dialect.name, made, tuple(findings), outcomes)
    report.save(folder / "results.json")
    return report


def name_of(library: str) -> str:
    """
    Name a library.

    Parameters
    ----------
    library : str
        A name, or the path of an adapter's file.

    Returns
    -------
    str
        The name, or that of the file.
    """
    return Path(library).stem if library.endswith(".py") else library


def _our_own(vectors: Sequence[Vector], backend: str) -> Iterator[Outcome]:
    """Let lrpref explain the vectors, here: it needs no process of its own."""
    for vector in vectors:
        made = lrpref.explain(vector.network, vector.x, vector.R, rules=vector.rules, backend=backend)
        yield Outcome(vector.id, "ok", made.relevance)


def digest(vectors: Sequence[Vector]) -> str:
    """
    Hash what verdicts rest on in vectors: their comments and sources may change.

    Parameters
    ----------
    vectors : sequence of Vector
        The vectors.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    parts = ("id", "flags", "nodes", "input", "relevance", "result", "expected", "conventions")
    texts = (json.dumps([vector.raw.get(part) for part in parts], sort_keys=True) for vector in vectors)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
