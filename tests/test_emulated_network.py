"""A whole network explained by the CUDA kernels, their launcher and a plan, on the emulated device."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from emulator import EmulatedDevice, requirement

import lrpref
from lrpref import Plan, data
from lrpref.kernels.cupy_cuda import Table
from lrpref.verification import verify

if requirement() and not os.environ.get("LRPREF_NOTHING_SKIPPED"):
    pytest.skip(requirement(), allow_module_level=True)

# 112,000 weights, sums of at most 3,136 products in float32, 15 nodes, quotients near z = 0: seen are 1e-6 to
# 1e-5 of max |R| with every order of adding; a wrong kernel is off by more than 1e-2.
FLOAT32 = 1e-4


@pytest.fixture(scope="module")
def network() -> lrpref.Network:
    return data.embedded()


class Watched(EmulatedDevice):
    """The device, noting how many numbers come home at a time."""

    home: ClassVar[list[int]] = []

    def download(self, x: Any) -> Any:
        self.home.append(x.size)
        return super().download(x)


def explained(network: lrpref.Network, composite: str, x: Any, **options: Any) -> tuple[Any, EmulatedDevice]:
    device = Watched(**options)
    device.home.clear()
    plan = Plan(network, composite, backend=Table(device), dtype="float32")
    return lrpref.explain(plan, x), device


@pytest.mark.parametrize(
    ("composite", "schedule"), [("chapter", 0), ("epsilon-gamma-box", 2), ("epsilon-alpha2-beta1-flat", 1)]
)
def test_the_embedded_network_through_the_gpus_own_code(
    network: lrpref.Network, composite: str, schedule: int
) -> None:
    x = network.preprocess(data.image(9))
    e, device = explained(network, composite, x, schedule=schedule)
    # between the nodes everything stays on the device: what comes home are the scores and the books
    assert max(device.home) == e.scores.size == 10
    wanted = lrpref.explain(network, x, composite=composite)
    assert e.relevance.dtype == np.float32
    assert np.abs(e.relevance - wanted.relevance).max() <= FLOAT32 * np.abs(wanted.relevance).max()
    for row, other in zip(e.ledger, wanted.ledger, strict=True):
        # the residual is rounding: 2e-6 of sum |R| (the bound that the float32 kernels are held to)
        assert np.abs(row.residual) <= 2e-6 * np.abs(wanted.at(row.node)).sum(), row.node
        assert np.abs(row.bias - other.bias) <= FLOAT32 * np.abs(wanted.at(row.node)).sum(), row.node
    assert device.launches, "the kernels ran, and nothing else"


def test_a_record_of_a_gpu_is_verified_without_one(network: lrpref.Network, tmp_path: Path) -> None:
    e, device = explained(network, "epsilon-plus", network.preprocess(data.image(3)))
    e = replace(e, backend="cupy")
    assert e.device == device.name
    e.save(tmp_path / "out")
    findings = verify(tmp_path / "out", lambda entry: network)
    assert [finding.what for finding in findings if not finding.ok] == []
    (recomputed,) = (finding for finding in findings if finding.what == "recomputed relevance")
    assert "of max |R|" in recomputed.detail, "the reference rounds otherwise: not the same bits"
