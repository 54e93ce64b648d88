"""Verification: a record's own digests, and a recomputation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lrpref.errors import BadRecord, LrprefError
from lrpref.explanation import explain
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.record import BOUNDS, arrays_of, canonical, digest_of, read, sha256
from lrpref.rules import Rule, parse


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
        Finding(f"audit.json: {name}", record["digests"].get(name) == sha256(canonical(entry)),
                "as recorded" if record["digests"].get(name) == sha256(canonical(entry)) else "CHANGED")
        for name, entry in record.items() if name != "digests"
    ]  # fmt: skip
    findings.append(_compare("the input", digest_of(arrays["input"]), record["input"].get("sha256")))
    for name in sorted(arrays.keys() - {"input"}):
        recorded = record["relevance"].get(f"sha256_{name}")
        findings.append(_compare(f"the {name}", digest_of(arrays[name]), recorded))
    for name, recorded in record["pictures"].items():
        data = (folder / name).read_bytes() if (folder / name).is_file() else b""
        findings.append(_compare(name, sha256(data), recorded))
    try:
        network = load(record["network"])
        findings.append(_compare("the network", network.digest, record["network"].get("sha256")))
        findings.append(_recompute(record, arrays, network))
    except LrprefError as error:
        findings.append(Finding("recomputation", False, str(error)))
    return findings


def _compare(what: str, found: str, recorded: str | None) -> Finding:
    if found == recorded:
        return Finding(what, True, f"sha256 {found[:16]}… as recorded")
    return Finding(what, False, f"CHANGED: sha256 is {found[:16]}…, recorded is {str(recorded)[:16]}…")


def _recompute(record: Mapping[str, Any], arrays: Mapping[str, Array], network: Network) -> Finding:
    try:
        rules: dict[str, Rule] = {node: parse(text) for node, text in record["rules"].items()}
        computed, explained = record["computed"], record["explained"]
        target = np.asarray(explained.get("target", explained.get("relevances")))
        again = explain(network, arrays["input"], target, rules=rules,
                        backend=computed["backend"], dtype=computed["dtype"])  # fmt: skip
        bound = float(BOUNDS[computed["dtype"]])
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"the record cannot be recomputed ({type(error).__name__}: {error})") from None
    new = arrays_of(again)
    if new.keys() == arrays.keys() and all(np.array_equal(new[k], arrays[k]) for k in new):
        return Finding("recomputation", True, "bit-identical")
    old = arrays["relevance"]
    if new["relevance"].shape != old.shape:
        return Finding("recomputation", False, f"has shape {new['relevance'].shape}, recorded is {old.shape}")
    off = float(abs(new["relevance"] - old).max() / (abs(new["relevance"]).max() or 1))
    verdict = f"differs by {off:.1e} of max |R|; the bound for {computed['dtype']} is {bound:.0e}"
    return Finding("recomputation", off <= bound, verdict)
