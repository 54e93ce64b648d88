"""Verification: a record's own digests, and a recomputation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrpref import dialects, heads
from lrpref.errors import BadBackend, BadRecord, LrprefError
from lrpref.explanation import explain
from lrpref.kernels import BACKENDS, backend
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.record import BOUNDS, arrays_of, canonical_json, describe, digest_of, files_of, read, sha256
from lrpref.rules import Rule

SPLIT = "the batch was split"
"""How the note begins that tells of a batch larger than memory."""

BOOKS = ("explained", "ledger", "totals", "warnings")
"""What audit.json says of the result."""


@dataclass(frozen=True)
class Finding:
    """
    One check of `verify`.

    Parameters
    ----------
    what : str
        What was checked.
    ok : bool
        Whether it holds.
    detail : str
        How, or why not.
    """

    what: str
    ok: bool
    detail: str


def verify(folder: Path, load: Callable[[Mapping[str, Any]], Network]) -> list[Finding]:
    """
    Check a record's own digests, and recompute it.

    Parameters
    ----------
    folder : Path
        The record.
    load : callable
        Loads the network that the record's `network` entry names.

    Returns
    -------
    list of Finding
        Every check, in order; the record stands if all are ok.

    Raises
    ------
    BadRecord
        If it is no record of ours, or cannot be read.
    """
    record, arrays = read(folder)
    findings = [
        _compare(f"audit.json: {name}", sha256(canonical_json(entry)), record["digests"].get(name))
        for name, entry in record.items()
        if name != "digests"
    ]
    findings.append(_compare("the input", digest_of(arrays["input"]), record["input"].get("sha256")))
    for name in sorted(arrays.keys() - {"input"}):
        recorded = record["relevance"].get(f"sha256_{name}")
        findings.append(_compare(f"the {name}", digest_of(arrays[name]), recorded))
    files, named = files_of(record), {*record["pictures"], "audit.json", "relevance.npz"}
    found = _files(folder)
    findings.append(Finding("the files", found == named == files, ", ".join(sorted(found))))
    shape = record["input"].get("shape")
    findings.append(Finding("the input's shape", shape == list(arrays["input"].shape), str(shape)))
    for name in sorted(files & record["pictures"].keys()):
        recorded = record["pictures"][name]
        data = (folder / name).read_bytes() if (folder / name).is_file() else b""
        findings.append(_compare(name, sha256(data), recorded))
    try:
        network = load(record["network"])
        findings.append(_compare("the network", network.digest, record["network"].get("sha256")))
        findings += _recompute(record, arrays, network)
    except LrprefError as error:
        findings.append(Finding("recomputation", False, f"{error} (moved? name the network with --model)"))
    return findings


def _files(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def _compare(what: str, found: str, recorded: str | None) -> Finding:
    if found == recorded:
        return Finding(what, True, f"sha256 {found[:16]}… as recorded")
    return Finding(what, False, f"CHANGED: sha256 is {found[:16]}…, recorded is {str(recorded)[:16]}…")


def _recompute(record: Mapping[str, Any], arrays: Mapping[str, Array], network: Network) -> list[Finding]:
    """Explain again, by the recorded rules, and compare relevance and books."""
    try:
        rules: dict[str, Rule] = {node: dialects.read_rule(text) for node, text in record["rules"].items()}
        computed, explained = record["computed"], record["explained"]
        target = np.asarray(explained.get("target", explained.get("relevances")))
        head = {text: name for name, text in heads.HEADS.items()}.get(explained["quantity"], "score")
        bound = BOUNDS[computed["dtype"]]
        dialect = dialects.recorded(computed.get("dialect", dialects.CHAPTER.record()))  # of old: none
        again = explain(network, arrays["input"], target, rules=rules,
                        backend=_backend_here(computed["backend"]), dtype=computed["dtype"],
                        head=head, dialect=dialect)  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"the record cannot be recomputed ({type(error).__name__}: {error})") from None
    new = arrays_of(again)
    return [_same_relevance(arrays, new, bound), _same_books(record, describe(again, new, {}), bound)]


def _backend_here(name: str) -> str:
    """Take the reference where the recorded backend cannot run: it computes the same."""
    try:
        backend(name)
    except BadBackend:
        return "numpy" if name in BACKENDS else name
    return name


def _same_relevance(old: Mapping[str, Array], new: Mapping[str, Array], bound: float) -> Finding:
    what = "recomputed relevance"
    if new.keys() == old.keys() and all(np.array_equal(new[k], old[k]) for k in new):
        return Finding(what, True, "bit-identical")
    R, recorded = new["relevance"], old["relevance"]
    if R.shape != recorded.shape:
        return Finding(what, False, f"has shape {R.shape}, recorded is {recorded.shape}")
    off = float(abs(R - recorded).max() / (abs(R).max() or 1))
    return Finding(what, off <= bound, f"differs by {off:.1e} of max |R|; the bound is {bound:.0e}")


def _same_books(old: Mapping[str, Any], new: Mapping[str, Any], bound: float) -> Finding:
    """Compare all that audit.json says of the result; numbers within the bound, relative to the largest."""
    what = "recomputed books"
    books, new_books = _books(old), _books(new)
    if books == new_books:
        return Finding(what, True, "identical")
    (words, numbers), (new_words, new_numbers) = _leaves(books), _leaves(new_books)
    if words != new_words:
        changed = next((b for a, b in zip(words, new_words, strict=False) if a != b), "something")
        return Finding(what, False, f"the record leaves out or words differently: {changed!r}")
    off = float(abs(np.subtract(numbers, new_numbers)).max() / (abs(np.array(new_numbers)).max() or 1))
    return Finding(what, off <= bound, f"differ by {off:.1e} of the largest amount; the bound is {bound:.0e}")


def _books(record: Mapping[str, Any]) -> Any:
    entries = {key: record.get(key) for key in BOOKS}
    # how much memory there was is not of the result
    entries["warnings"] = [note for note in entries["warnings"] or [] if not str(note).startswith(SPLIT)]
    return json.loads(json.dumps({**entries, "sum": record.get("relevance", {}).get("sum")}))


def _leaves(value: Any) -> tuple[list[Any], list[float]]:
    """Take JSON data apart: its words, keys among them, and its numbers, each in order."""
    if isinstance(value, float):
        return ["a number"], [value]
    if isinstance(value, dict):
        value = [x for pair in sorted(value.items()) for x in pair]
    if not isinstance(value, list):
        return [value], []
    parts = [_leaves(v) for v in value]
    return [w for words, _ in parts for w in (*words, "|")], [x for _, numbers in parts for x in numbers]
