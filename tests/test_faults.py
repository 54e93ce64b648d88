"""Whoever changes one line of ours is found out by at least two vectors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lrpref import rules
from lrpref.conformance import suite
from lrpref.conformance.faults import FAULTS, Fault, run
from lrpref.conformance.self_check import differences
from lrpref.conformance.suite import Vector


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    return suite.load()


def test_there_are_thirty_faults_of_different_kinds() -> None:
    assert len(FAULTS) >= 30
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)
    assert len({(fault.place, fault.sound, fault.faulty) for fault in FAULTS}) == len(FAULTS)
    assert len({fault.place for fault in FAULTS}) >= 15


def test_every_fault_is_caught_by_two_vectors_and_nothing_without_one(vectors: list[Vector]) -> None:
    catches = run(vectors)
    assert [catch.fault for catch in catches] == list(FAULTS)
    missed = {catch.fault.what: catch.off for catch in catches if len(catch.off) < 2}
    assert missed == {}, "a wrong number is wanted: a crash alone does not count"
    # after the run every sound line is back in its place
    assert {v.id: lines for v in vectors if (lines := differences(v))} == {}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.what for fault in FAULTS])
def test_a_fault_goes_whatever_happens(fault: Fault) -> None:
    sound = vars(fault.owner)[fault.function]
    active = fault.seeded()
    active.__enter__()
    assert vars(fault.owner)[fault.function] is not sound
    assert not active.__exit__(KeyError, KeyError(), None), "an error on the way goes on"
    assert vars(fault.owner)[fault.function] is sound


def test_a_fault_changes_nothing_but_its_line(vectors: list[Vector]) -> None:
    (fault,) = (fault for fault in FAULTS if fault.owner is rules.WSquare and fault.faulty == "w")
    with fault.seeded():
        caught = {v.id for v in vectors if differences(v)}
    squared = {v.id for v in vectors if any(rule.name == "w2" for rule in v.rules.values())}
    assert caught
    assert caught <= squared


@pytest.mark.parametrize("text", ["a line that is not there", "w"])
def test_a_fault_that_is_out_of_date_says_so(text: str) -> None:
    fault = replace(FAULTS[0], sound=text)  # must stand there once: not never, not twice
    with pytest.raises(ValueError, match=rf"rules\.Zero\.shares has not one '{text}': fault '.*out of date"):
        fault.seeded().__enter__()
