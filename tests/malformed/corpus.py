"""What a case is, and how a module lists its own."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Maker = Callable[[Path], bytes]
"""From the folder in which the file will lie, and what it needs beside it may be put, to the file's bytes."""

ARCHITECTURE = """
name = "small"
input = [2]

[[node]]
name = "0"
layer = "BatchNorm"

[[node]]
name = "1"
layer = "Dense"
out = 3
"""
"""What tests/data/model.pt holds the weights of."""


@dataclass(frozen=True)
class Case:
    """A malformed file.

    Parameters
    ----------
    kind : str
        The defect; the same for files that have the same, whatever their format.
    name : str
        The file's name.
    words : str
        A regular expression that the refusal must match: what is said of the defect.
    make : callable
        Makes it.
    architecture : str
        The TOML document with which it is read; none where it must bring its own graph.
    """

    kind: str
    name: str
    words: str
    make: Maker
    architecture: str = ""

    def write(self, folder: Path) -> "Job":
        """Write the file, and all that it needs, into a folder of its own."""
        folder.mkdir()
        path = folder / self.name
        content = self.make(folder)
        if not os.path.lexists(path):  # else it made something there that is no file
            path.write_bytes(content)
        return job(path, self.architecture)


@dataclass(frozen=True)
class Job:
    """A file to be read.

    Parameters
    ----------
    path : str
        The file, in a folder of its own.
    architecture : str or None
        The TOML file with which it is read.
    command : bool
        Whether `lrpref convert` is to be tried, too.
    """

    path: str
    architecture: str | None
    command: bool = True


def job(path: Path, architecture: str, *, command: bool = True) -> Job:
    """Say how a file is to be read; an architecture is written beside it."""
    if not architecture:
        return Job(str(path), None, command)
    document = path.with_name("architecture.toml")
    document.write_text(architecture, encoding="utf-8")
    return Job(str(path), str(document), command)


@dataclass
class Corpus:
    """The cases of one format.

    Parameters
    ----------
    format : str
        What it is called.
    suffix : str
        Of its files.
    architecture : str
        With which its files are read, if a case has no other.
    cases : list of Case
        The cases so far.
    """

    format: str
    suffix: str
    architecture: str = ""
    cases: list[Case] = field(default_factory=list)

    def add(
        self, kind: str, words: str, name: str, make: Maker | bytes, architecture: str | None = None
    ) -> None:
        """Add a case; `name` is without the suffix, and no other case's."""
        assert all(case.name != name + self.suffix for case in self.cases), f"two cases {name}"
        maker = (lambda folder: make) if isinstance(make, bytes) else make
        document = self.architecture if architecture is None else architecture
        self.cases.append(Case(kind, name + self.suffix, words, maker, document))

    def case(self, kind: str, words: str) -> Callable[[Maker], Maker]:
        """Add the decorated function; the file bears its name."""

        def keep(make: Maker) -> Maker:
            self.add(kind, words, make.__name__, make)
            return make

        return keep
