"""Which CUDA kernels were verified on which GPU: records, held against today's sources.

`make gpu-record` runs every kernel on the GPU it finds against the float64 reference, times it, and writes
a record here, `<device>.json`. A record holds a hash of each unit's source and options. Where the source
has changed since, the unit counts as not verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

from lrpref.kernels.cuda import UNITS, source

FORMAT = 1
"""Version of the records' layout."""


class Verified(NamedTuple):
    """
    What the records say of a unit, as it is today.

    Parameters
    ----------
    unit : str
        The translation unit.
    options : tuple of str
        What it is compiled with.
    records : list of dict
        One for each device on which exactly this source was verified: `device`, `date`, `worst_error`
        (relative to the output's scale, against the float64 reference), and `figures`.
    """

    unit: str
    options: tuple[str, ...]
    records: list[dict[str, Any]]

    def __str__(self) -> str:
        if not self.records:
            return "not verified on a GPU"
        return "; ".join(f"{record['device']}, {record['date']}" for record in self.records)


def digest(unit: str, options: tuple[str, ...]) -> str:
    """
    Hash a unit's source and options.

    Parameters
    ----------
    unit : str
        The translation unit.
    options : tuple of str
        What it is compiled with.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    return hashlib.sha256("\0".join([source(unit), *options]).encode()).hexdigest()


def read() -> list[dict[str, Any]]:
    """
    Read all records.

    Returns
    -------
    list of dict
        By device, as they were written.
    """
    files = (path for path in resources.files(__name__).iterdir() if path.name.endswith(".json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(files, key=str)]
    return [record for record in records if record.get("format") == FORMAT]


def status() -> Iterator[Verified]:
    """
    Say of every unit where it was verified.

    Yields
    ------
    Verified
        A unit with one set of options.
    """
    records = read()
    for unit, choices in UNITS.items():
        for options in choices:
            today = digest(unit, options)
            found = [
                {"device": record["device"], "date": record["date"], **entry}
                for record in records
                for entry in record["kernels"]
                if entry["digest"] == today
            ]
            yield Verified(unit, options, found)
