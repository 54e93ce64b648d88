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


def whole(record: dict[str, Any]) -> bool:
    """Whether a record says what it belongs to, and every error is within the float32 kernels' bound."""
    named = {"device", "date", "driver", "versions", "kernels"} <= record.keys()
    return named and all(0 <= entry["worst_error"] <= 1e-5 for entry in record["kernels"])


def test_records_that_are_here_are_whole() -> None:
    assert all(whole(record) for record in records.read())
    right = made_up("0" * 64) | {"driver": 13000, "versions": {}}
    assert whole(right)
    assert not whole(made_up("0" * 64)), "no driver, no versions"
    for error in (2e-5, float("nan")):
        assert not whole(right | {"kernels": [right["kernels"][0] | {"worst_error": error}]})


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
    found = checked(
        script, EmulatedDevice(), Operation("conv2d", (5, 6), Window((3, 3), padding=(1, 0, 1, 1)))
    )
    assert {("convolution_naive", cuda.SINGLE), ("convolution_blocked", cuda.SINGLE)} <= set(found.errors)
    assert all(0 < max(errors) <= 1e-5 for errors in found.errors.values())
    assert not found.failures
    again = script.Found()
    again.add(found.as_json())  # as it comes from another process
    assert (again.errors, again.failures) == (found.errors, found.failures)
    path = script.write({"format": 1, "device": "NVIDIA X 80GB", "kernels": []}, tmp_path)
    assert path.name == "nvidia-x-80gb.json"
    assert json.loads(path.read_text())["device"] == "NVIDIA X 80GB"


def checked(script: Any, device: Any, op: Operation) -> Any:
    """Run one shape on rungs 1 and 3."""
    found, watched = script.Found(), script.Watched(device)
    a, w = ((2, 5), (4, 5)) if op.name == "dense" else ((2, 3, *op.size), (4, 3, 3, 3))
    for rung in (1, 3):
        script._check_convolution(
            Table(watched, rung), op, a, w, np.random.default_rng(0), "float32", watched, found
        )
    return found


class Wrong(EmulatedDevice):
    """A device on which rung 3 forgets the bias."""

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        if name.startswith("blocked_"):
            source = source.replace("z = value + b", "z = value")
        return super().function(source, options, name)


@pytest.mark.skipif(bool(requirement()), reason=requirement())
def test_a_wrong_kernel_is_not_verified_but_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    script, kept = tool(), list[Any]()
    found = checked(script, Wrong(), Operation("dense"))
    monkeypatch.setattr(script, "CACHE", 1)  # two inputs in turn
    about = {"device": "A Made-up GPU", "date": "2000-01-01"}
    record = script.make_record(
        EmulatedDevice(), about, sides=[], quick=True, minutes=60,
        checks=lambda *_: found, keep=lambda made: kept.append(json.loads(json.dumps(made))),
    )  # fmt: skip
    assert kept[-1] == record
    verified = {entry["unit"]: entry for entry in record["kernels"]}
    assert set(verified) == {"convolution_naive", "convolution_finish"}
    assert verified["convolution_naive"]["figures"]
    wrong = {(entry["unit"], *entry["options"]): entry["error"] for entry in record["errors"]}
    assert wrong["convolution_blocked", *cuda.SINGLE].startswith("error ")
    assert "in float32 by" in wrong["convolution_blocked", *cuda.SINGLE]
    assert wrong["pooling", *cuda.DOUBLE] == "no check ran it to its end"
    assert not script.passed(record)
    lines = list(script.summary(record))
    assert any(
        line.startswith("convolution_blocked float") and "NOT VERIFIED: error" in line for line in lines
    )
    assert any(line.startswith("convolution_naive float") and "quotient" in line for line in lines)


def test_a_helper_is_blamed_where_several_that_need_it_fail() -> None:
    script = tool()
    naive, tiled, finish = ((f"convolution_{name}", cuda.SINGLE) for name in ("naive", "tiled", "finish"))
    found = script.Found()
    found.failures = [([finish, naive], "first"), ([finish, naive], "again")]
    assert found.blamed() == {naive: "first"}
    found.failures.append(([finish, tiled], "too"))
    assert found.blamed() == {naive: "first", tiled: "too", finish: "too"}
    found.failures = [([finish], "alone")]
    assert found.blamed() == {finish: "alone"}


def test_a_part_that_crashes_or_hangs_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    script = tool()
    right = script.Found()
    right.errors["dense", cuda.SINGLE] = [1e-7]
    monkeypatch.setattr(script, "PARTS", ["1:float32", "3:float32", "chosen:float32"])

    def run(command: list[str], **_: Any) -> Any:
        part = command[command.index("--part") + 1]
        if part == "1:float32":
            raise subprocess.TimeoutExpired(command, 1)
        status, says = (139, "") if part == "3:float32" else (0, f"a line\n{right.as_json()}\n")
        return subprocess.CompletedProcess(command, status, says, "")

    monkeypatch.setattr(subprocess, "run", run)
    found = script.check_all(1, lambda: 100.0, print)
    assert found.errors == right.errors
    assert found.blamed() == {
        ("convolution_naive", cuda.SINGLE): "1:float32: it does not come to an end",
        ("convolution_blocked", cuda.SINGLE): "3:float32: exit status 139",
    }


# A machine with a GPU and without some packages; `CuPyDevice`, on which the tests run there,
# is a device of the emulator here.
BARE = """
import runpy, sys
for name in ("flint", "zennit", "skimage", "torchvision", "torch", "captum"):
    sys.modules[name] = None
sys.path[:0] = ["tests"]
script = runpy.run_path("tools/gpu_record.py", run_name="gpu_record")
from bench import networks
tiny = networks.random("tiny")
networks.random = lambda name: tiny
ours, peers = script["time_explanations"](["cpu", "zennit-cuda"], lambda: 1e9, print)[::3][:2]
assert ours["seconds"] > 0
from emulator import EmulatedDevice
import lrpref.kernels.device as device
device.CuPyDevice = EmulatedDevice
import pytest
chosen = "(every_rule and dense) or same_bits or dropped_and_count or seeded or overflow or which_kernels"
sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", "-W", "default", "tests/test_cupy_cuda.py",
                      "tests/test_cuda_convolution.py", "-k", chosen]))
"""


@pytest.mark.skipif(bool(requirement()), reason=requirement())
def test_the_script_and_the_tests_on_a_bare_machine_with_a_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"LRPREF_DEVICE": "cupy"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "zennit-cuda, epsilon-plus: " in done.stdout
    assert "only an emulator can do this" in done.stdout
    assert " passed" in done.stdout.splitlines()[-1]
    assert " skipped" in done.stdout.splitlines()[-1]


def test_figures_are_sorted_to_their_units() -> None:
    rows = [{"rung": rung, "step": "quotient", "layer": layer, "batch": 16, "seconds": 1.0, "TFLOP/s": rung}
            for rung in (1, 2, 3, 4) for layer in ([3, 64, 224], "all")]  # fmt: skip
    assert tool().figures("convolution_tf32x3", rows) == [
        {"what": "quotient, batch 16", "value": 4, "unit": "TFLOP/s"}
    ]
    assert tool().figures("pooling", rows) == []
