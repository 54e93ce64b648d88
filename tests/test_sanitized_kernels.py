"""Every CUDA kernel of the table under the sanitizers: no data race, nothing out of bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from emulator import requirement, run_sanitized

if requirement() and not os.environ.get("LRPREF_NOTHING_SKIPPED"):
    pytest.skip(requirement(), allow_module_level=True)

TABLE = Path(__file__).parent / "emulator" / "whole_table.py"


# Two halves, so that two cores share the work.
@pytest.mark.parametrize(("what", "cases"), [("1,2,chosen,maps", 26), ("3,4", 12)])
@pytest.mark.parametrize("kind", ["thread", "address"])
def test_no_kernel_races_or_leaves_its_arrays(kind: str, what: str, cases: int) -> None:
    outcome = run_sanitized(kind, [TABLE, what], timeout=600)
    assert outcome.finished, outcome.text[-3000:]
    assert outcome.status == 0, outcome.text[-3000:]
    assert outcome.reports == []
    assert len(outcome.by_case()) == cases


@pytest.mark.parametrize(
    ("kind", "what", "old", "new", "said"),
    [
        ("thread", "2", "__syncthreads();", "", "data race"),
        ("address", "1", "* g.columns) return;", "* g.columns + 300) return;", "AddressSanitizer"),
    ],
)
def test_a_seeded_fault_is_found(kind: str, what: str, old: str, new: str, said: str) -> None:
    outcome = run_sanitized(kind, [TABLE, what, old, new], timeout=600)
    assert any(said in report for report in outcome.reports), outcome.text[-3000:]
