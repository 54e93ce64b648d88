"""The record of an explanation: an output folder that can be audited, and recomputed."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref import exact, heads, heatmap
from lrpref.errors import BadRecord
from lrpref.files import new_folder, regular
from lrpref.kernels.operations import Array
from lrpref.ledger import ACCOUNTS, Row

if TYPE_CHECKING:
    from lrpref.certificate import Certificate
    from lrpref.explanation import Explanation

FORMAT = 1

FILES = {"audit.json", "relevance.npz", "heatmap.png", "ledger.png"}
"""What a record consists of."""

CERTIFIED = {"digits.png"}
"""What a certified record has besides."""

ENTRIES = {
    "format", "versions", "computed", "network", "input", "explained", "composite", "rules", "ledger",
    "totals", "relevance", "pictures", "warnings", "digests",
}  # fmt: skip
"""What audit.json consists of; of a certified record, `certificate` besides."""

BOUNDS = {"float32": 1e-3, "float64": 1e-9, "longdouble": 1e-9, "exact": 0.0, "ball": 0.0}
"""How far a recomputation may be off, relative to max |R|.

On one machine a recomputation is bit-identical. Elsewhere BLAS may add in another order, which moves
z by a few units in the last place (1e-7, 1e-16) times the square root of the fan-in; where z_k is
close to 0 the quotient R_k / z_k magnifies that. The bounds leave a factor of 1e3 to 1e6 for it;
rationals and balls do not depend on the machine at all.
"""


def sha256(data: bytes) -> str:
    """
    Hash bytes.

    Parameters
    ----------
    data : bytes
        Anything.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    return hashlib.sha256(data).hexdigest()


def digest_of(array: Array) -> str:
    """
    Hash an array: its dtype, its shape, its bytes.

    Parameters
    ----------
    array : ndarray
        Any array of numbers or text.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    head = f"{array.dtype.str} {array.shape} ".encode()
    return sha256(head + np.ascontiguousarray(array).tobytes())


def canonical_json(value: Any) -> bytes:
    """
    Write JSON data in the one way that is hashed: sorted keys, no spaces, UTF-8.

    Parameters
    ----------
    value : Any
        Plain JSON data.

    Returns
    -------
    bytes
        The text.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _numbers(amounts: Array) -> list[Any]:
    """Per-sample amounts as JSON: floats, or rationals and balls as text."""
    return [str(v) for v in amounts] if amounts.dtype == object else [float(v) for v in amounts]


def _row(row: Row) -> dict[str, Any]:
    entry: dict[str, Any] = {"node": row.node, "layer": row.layer, "rule": row.rule}
    for name in ("arriving", "to_inputs", *ACCOUNTS, "residual"):
        entry[name] = _numbers(getattr(row, name))
    entry["handed"] = {name: _numbers(amount) for name, amount in row.handed.items()}
    if row.eps:
        entry["eps"] = [None if eps is None else _numbers(eps) for eps in row.eps]
    return entry


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("lrpref", "numpy", "numba", "python-flint"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {**found, "blas": f"{blas.get('name')} {blas.get('version')}"}


def arrays_of(explanation: Explanation) -> dict[str, Array]:
    """
    Give what relevance.npz holds: floats always; rationals and the radii of balls beside them.

    Parameters
    ----------
    explanation : Explanation
        What is recorded.

    Returns
    -------
    dict of str to ndarray
        `input`, `relevance`, and under `exact` `rational` (text), under `ball` `radius`.
    """
    R = explanation.relevance
    arrays = {"input": exact.as_float(explanation.x) if explanation.x.dtype == object else explanation.x}
    if R.dtype != object:
        return {**arrays, "relevance": R}
    arrays["relevance"] = exact.as_float(R)
    if explanation.dtype == "ball":
        arrays["radius"] = exact.radius(R)
    else:
        arrays["rational"] = np.array([str(v) for v in R.flat]).reshape(R.shape)
    return arrays


def describe(
    explanation: Explanation,
    arrays: Mapping[str, Array],
    pictures: Mapping[str, bytes],
    certificate: Certificate | None = None,
) -> dict[str, Any]:
    """
    Make the contents of audit.json.

    Parameters
    ----------
    explanation : Explanation
        What is recorded.
    arrays : mapping of str to ndarray
        What relevance.npz holds.
    pictures : mapping of str to bytes
        The pictures' files.
    certificate : Certificate, optional
        How many of its digits are right.

    Returns
    -------
    dict
        Plain JSON data; `digests` holds the SHA-256 of every other entry.
    """
    e = explanation
    if e.target is None:
        explained: dict[str, Any] = {
            "quantity": "relevances given by the user",
            "relevances": exact.as_float(e.relevances[e.canonical.top]).tolist(),
        }
    else:
        target = e.target.tolist()
        explained = {
            "quantity": heads.HEADS[e.head],
            "target": target,
            "class": [e.network.label(t) for t in target],
        }
    explained["value"] = _numbers(e.ledger.explained)
    record = {
        "format": FORMAT,
        "versions": _versions(),
        "computed": {"backend": e.backend, "dtype": e.dtype, "device": e.device,
                     "bound": BOUNDS[e.dtype], "bound_is": "relative to max |relevance|",
                     "dialect": e.dialect.record()},
        "network": {"name": e.network.name, "path": e.network.source, "sha256": e.network.digest,
                    "sha256_is": "of graph and weights before folding",
                    "provenance": dict(e.network.provenance)},
        "input": {"shape": list(e.x.shape), "sha256": digest_of(arrays.get("input", e.x))},
        "explained": explained,
        "composite": e.composite,
        "rules": {node.name: str(e.rules[node.name]) for node in e.canonical.nodes if node.name in e.rules},
        "ledger": [_row(row) for row in e.ledger],
        "totals": {"explained": _numbers(e.ledger.explained), "inputs": _numbers(e.ledger.inputs),
                   **{name: _numbers(e.ledger.account(name)) for name in ACCOUNTS},
                   "residual": _numbers(e.ledger.residual)},
        "relevance": {**{f"sha256_{name}": digest_of(array) for name, array in arrays.items()
                         if name != "input"}, "sum": _numbers(e.ledger.inputs)},
        "pictures": {name: sha256(data) for name, data in pictures.items()},
        "warnings": e.warnings,
    }  # fmt: skip
    if certificate is not None:
        record["certificate"] = certificate.to_json()
    record["digests"] = {name: sha256(canonical_json(entry)) for name, entry in record.items()}
    return record


def files_of(record: Mapping[str, Any]) -> set[str]:
    """
    Tell which files belong to a record.

    Parameters
    ----------
    record : mapping
        Contents of audit.json.

    Returns
    -------
    set of str
        Their names.
    """
    return FILES | CERTIFIED if "certificate" in record else FILES


def is_record(folder: Path) -> bool:
    """
    Tell whether a folder is a record of ours.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    bool
        Whether it holds our files and nothing else.
    """
    entries = {entry.name: entry for entry in os.scandir(folder)}
    if not entries.keys() <= FILES | CERTIFIED:
        return False
    if not all(entry.is_file(follow_symlinks=False) for entry in entries.values()):
        return False
    try:
        return bool(_read_json(folder)["format"] == FORMAT)
    except (BadRecord, KeyError):
        return False


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """
    Make sure that a record may be written here.

    Parameters
    ----------
    folder : Path
        The output folder.
    overwrite : bool
        Whether an earlier record may be replaced.

    Raises
    ------
    BadRecord
        If it is something else than a new or empty folder, or an earlier record.
    """
    try:
        if not folder.exists() and not folder.is_symlink():
            return
        if not folder.is_dir():
            raise BadRecord(f"{folder}: is not a folder; name one that does not exist yet")
        if not any(folder.iterdir()):
            return
        if not is_record(folder):
            raise BadRecord(f"{folder}: holds other files than a record of ours; name a new folder")
    except OSError as error:
        raise BadRecord(f"{folder}: cannot be read ({error.strerror})") from None
    if not overwrite:
        raise BadRecord(f"{folder}: holds an earlier record; --overwrite replaces it")


def write(
    explanation: Explanation, folder: Path, *, overwrite: bool, certificate: Certificate | None = None
) -> None:
    """
    Write a record: all of it, or nothing.

    Parameters
    ----------
    explanation : Explanation
        What is recorded.
    folder : Path
        The output folder.
    overwrite : bool
        Whether an earlier record may be replaced.
    certificate : Certificate, optional
        How many of its digits are right.

    Raises
    ------
    BadRecord
        If the folder cannot be written, or holds anything else.
    """
    check_folder(folder, overwrite=overwrite)
    arrays = arrays_of(explanation)
    head = "" if explanation.head == "score" else f", {explanation.head}"
    title = f"{explanation.network.name}, composite {explanation.way}{head}"
    pictures = {
        "heatmap.png": heatmap.png(heatmap.draw(explanation)),
        "ledger.png": heatmap.png(heatmap.draw_ledger(explanation.ledger, title)),
    }
    if certificate is not None:
        pictures["digits.png"] = heatmap.png(certificate.picture())
    record = describe(explanation, arrays, pictures, certificate)
    with new_folder(folder, lambda place: overwrite and is_record(place)) as new:
        new.mkdir()
        np.savez_compressed(new / "relevance.npz", allow_pickle=False, **arrays)
        for name, data in pictures.items():
            (new / name).write_bytes(data)
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (new / "audit.json").write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """
    Read a record.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    record : dict
        Contents of audit.json.
    arrays : dict of str to ndarray
        Contents of relevance.npz.

    Raises
    ------
    BadRecord
        If it is no record of ours, or damaged.
    """
    record = _read_json(folder)
    path = regular(folder / "relevance.npz", BadRecord)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        good = {arrays["input"].dtype.kind, arrays["relevance"].dtype.kind} <= set("fiu")
    except _DAMAGE as error:
        raise BadRecord(f"{path}: damaged ({type(error).__name__}: {error})") from None
    if not good or arrays["input"].shape != arrays["relevance"].shape:
        raise BadRecord(f"{path}: damaged (input and relevance are to be real numbers of one shape)")
    return record, arrays


_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, NotImplementedError,
    OverflowError, MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What the libraries raise for files that are not what they should be."""


def _read_json(folder: Path) -> dict[str, Any]:
    if not (folder / "audit.json").exists():
        raise BadRecord(f"{folder}: holds no audit.json, so it is no record of ours")
    path = regular(folder / "audit.json", BadRecord)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise BadRecord(f"{folder}: format {record['format']!r}; this version reads {FORMAT}")
        if other := (record.keys() ^ ENTRIES) - {"certificate"}:
            raise BadRecord(f"{path}: entries missing or unknown: {', '.join(sorted(other))}")
        for key in ("computed", "network", "input", "explained", "rules", "relevance", "pictures", "digests"):
            record[key].keys()
        record["network"]["provenance"].keys()
    except _DAMAGE as error:  # a nest too deep is a RuntimeError
        raise BadRecord(f"{path}: damaged ({type(error).__name__}: {error})") from None
    return dict(record)
