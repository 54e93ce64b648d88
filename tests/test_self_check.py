"""Our own backends against the vectors: every number within its bound, on every backend that runs here.

That `numpy` is exact in rationals, test_vectors.py says. This file is also a program: with
NUMBA_ENABLE_CUDASIM=1 it runs the kernels of numba_cuda.py in Numba's simulator, which can only be chosen
before Numba is imported.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from emulator import EmulatedDevice, requirement

from lrpref.conformance import suite
from lrpref.conformance.self_check import differences
from lrpref.conformance.suite import Vector
from lrpref.kernels import numba_cuda
from lrpref.kernels.cupy_cuda import Table

DTYPES = ("float64", "float32")

RUNGS = ((False, "float64"), (True, "float32"))
"""Of numba_cuda.py: whether tiled, and in which format. The simulator runs some hundred threads a second."""


@pytest.fixture(scope="module")
def vectors() -> list[Vector]:
    return suite.load()


def tiny(vectors: list[Vector]) -> list[Vector]:
    return [vector for vector in vectors if "tiny" in vector.tags]


def wrong(vectors: list[Vector], dtype: str, backend: Any) -> dict[str, list[str]]:
    """Say of every vector that is not within its bounds what is wrong."""
    found = {vector.id: differences(vector, backend=backend, dtype=dtype) for vector in vectors}
    return {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["numpy", "loops", "cpu"])
def test_every_vector_is_within_its_bounds(vectors: list[Vector], backend: str, dtype: str) -> None:
    assert len(vectors) >= 40
    assert wrong(vectors, dtype, backend) == {}


# A check that could not fail would be worth nothing.


def changed(vector: Vector, place: int, by: float, field: str | None = None) -> Vector:
    """Change a number that is expected: of the input's relevance, or of a field of the last node."""
    raw = copy.deepcopy(dict(vector.raw))
    result = raw["expected"]["R"]
    if field is not None:
        node = raw["expected"]["nodes"][vector.network.top]
        result = {**node, **node["ledger"]}[field]
    result["hex"][place] = (float.fromhex(result["hex"][place]) + by).hex()
    return replace(vector, raw=raw)


def test_what_lies_beyond_its_bound_is_told(vectors: list[Vector]) -> None:
    bounds = {vector.id: vector.bound("float64").flat[0] for vector in vectors}
    assert sum(bound > 0 for bound in bounds.values()) > 20
    for vector in vectors:
        if bounds[vector.id] > 0:  # what was computed is within one bound, so it is two from the new number
            found = differences(changed(vector, 0, 3 * bounds[vector.id]))
            assert found, vector.id
            assert found[0].startswith("the input's R is off by ")


@pytest.mark.parametrize("field", ["z", "R", "arriving", "to_inputs", "bias", "stabilizer", "dropped"])
def test_every_account_of_every_node_is_compared(vectors: list[Vector], field: str) -> None:
    vector = vectors[0]
    (line,) = differences(changed(vector, -1, 1.0, field))
    assert line.startswith(f"node {vector.network.top}: ")
    assert field in line


def test_nan_is_beyond_every_bound(vectors: list[Vector]) -> None:
    assert differences(changed(vectors[0], 0, np.nan))


# The kernels of the GPU backends, on tiny vectors: the simulator and the emulator are slow.


def main() -> None:
    numba_cuda.TILE, numba_cuda.PITCH, numba_cuda.THREADS = 4, 5, 8  # whole tiles and tails in small layers
    small = tiny(suite.load())
    found = {
        f"{'tiled' if tiled else 'naive'}, {dtype}": wrong(small, dtype, numba_cuda.table(tiled))
        for tiled, dtype in RUNGS
    }
    print(json.dumps([len(small), found]))


def test_tiny_vectors_in_numbas_simulator() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count, found = json.loads(done.stdout)
    assert count >= 10
    assert found == {"naive, float64": {}, "tiled, float32": {}}


@pytest.mark.skipif(
    bool(requirement()) and not os.environ.get("LRPREF_NOTHING_SKIPPED"), reason=requirement() or "runs"
)
@pytest.mark.parametrize(("dtype", "schedule"), [("float32", 2), ("float64", 1)])
def test_tiny_vectors_through_the_gpus_own_code(vectors: list[Vector], dtype: str, schedule: int) -> None:
    device = EmulatedDevice(schedule=schedule)
    assert wrong(tiny(vectors), dtype, Table(device)) == {}
    assert device.launches, "the kernels ran, and nothing else"


if __name__ == "__main__":
    main()
