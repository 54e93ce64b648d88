"""Records of GPUs: what counts as verified, and the script that writes them, on the emulated device."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import EmulatedDevice, requirement
from typer.testing import CliRunner

from lrpref import cli
from lrpref.kernels import cuda, records
from lrpref.kernels.cupy_cuda import Table
from lrpref.kernels.operations import Operation, Window

ROOT = Path(__file__).parent.parent


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_record", ROOT / "tools" / "gpu_record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(digest: str) -> dict[str, Any]:
    figure = {"what": "quotient, batch 16", "value": 12.0, "unit": "TFLOP/s"}
    entry = {"unit": "dense", "options": ["-DREAL=float"], "digest": digest, "worst_error": 1e-6, "cases": 3,
             "figures": [figure]}  # fmt: skip
    return {"format": 1, "device": "A Made-up GPU", "date": "2000-01-01", "kernels": [entry]}


def test_a_unit_counts_as_verified_only_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for digest, verified in ((records.digest("dense", cuda.SINGLE), True), ("0" * 64, False)):
        monkeypatch.setattr(records, "read", lambda digest=digest: [made_up(digest)])
        found = {(entry.unit, entry.options): entry for entry in records.status()}
        assert len(found) == sum(map(len, cuda.UNITS.values()))
        text = "A Made-up GPU, 2000-01-01" if verified else "not verified on a GPU"
        assert str(found["dense", cuda.SINGLE]) == text
        assert str(found["dense", cuda.DOUBLE]) == "not verified on a GPU", "other options, another program"


def test_every_change_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {(u, o): records.digest(u, o) for u, options in cuda.UNITS.items() for o in options}
    assert len(set(before.values())) == len(before)
    monkeypatch.setattr(records, "source", lambda unit: cuda.source(unit) + "\n")
    assert all(records.digest(u, o) != digest for (u, o), digest in before.items())


def test_info_tells_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "read", lambda: [made_up(records.digest("dense", cuda.SINGLE))])
    done = CliRunner().invoke(cli.app, ["info", "--kernels"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "A Made-up GPU, 2000-01-01" in done.output
    assert "not verified on a GPU" in done.output
    assert f"1 of {sum(map(len, cuda.UNITS.values()))} verified" in done.output


def test_records_that_are_here_are_whole() -> None:
    for record in records.read():
        assert {"device", "date", "driver", "versions", "kernels"} <= record.keys()
        for entry in record["kernels"]:
            assert 0 <= entry["worst_error"] <= 1e-5


def test_without_a_gpu_the_script_says_so_and_writes_nothing() -> None:
    before = sorted((ROOT / "kernels" / "records").iterdir())
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gpu_record.py")], capture_output=True, text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("gpu-record: ")
    assert done.stderr.count("\n") == 1
    assert sorted((ROOT / "kernels" / "records").iterdir()) == before


@pytest.mark.skipif(bool(requirement()), reason=requirement())
def test_the_scripts_checks_on_the_emulated_device(tmp_path: Path) -> None:
    script = tool()
    watched = script.Watched(EmulatedDevice())
    op = Operation("conv2d", (5, 6), Window((3, 3), padding=(1, 0, 1, 1)))
    found = script.defaultdict(list)
    for rung in (1, 3):
        table = Table(watched, rung)
        script._check_convolution(
            table, op, (2, 3, 5, 6), (4, 3, 3, 3), np.random.default_rng(0), "float32", watched, found
        )
    assert {("convolution_naive", cuda.SINGLE), ("convolution_blocked", cuda.SINGLE)} <= set(found)
    assert all(0 < max(errors) <= 1e-5 for errors in found.values())
    path = script.write({"format": 1, "device": "NVIDIA X 80GB", "kernels": []}, tmp_path)
    assert path.name == "nvidia-x-80gb.json"
    assert json.loads(path.read_text())["device"] == "NVIDIA X 80GB"


@pytest.mark.skipif(bool(requirement()), reason=requirement())
def test_a_wrong_kernel_gets_no_record() -> None:
    script = tool()

    class Wrong(EmulatedDevice):
        def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
            return super().function(source.replace("z = value + b", "z = value - b"), options, name)

    watched = script.Watched(Wrong())
    op = Operation("dense")
    with pytest.raises(SystemExit, match=r"gpu-record: error .* in float32 by"):
        script._check_convolution(
            Table(watched, 1), op, (2, 5), (4, 5), np.random.default_rng(0), "float32", watched,
            script.defaultdict(list),
        )  # fmt: skip


def test_figures_are_sorted_to_their_units() -> None:
    rows = [{"rung": rung, "step": "quotient", "layer": layer, "batch": 16, "seconds": 1.0, "TFLOP/s": rung}
            for rung in (1, 2, 3, 4) for layer in ([3, 64, 224], "all")]  # fmt: skip
    assert tool().figures("convolution_tf32x3", rows) == [
        {"what": "quotient, batch 16", "value": 4, "unit": "TFLOP/s"}
    ]
    assert tool().figures("pooling", rows) == []
