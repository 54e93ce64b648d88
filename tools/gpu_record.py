"""Verify every CUDA kernel on the GPU that is here, time it, and write the record (`make gpu-record`).

    python tools/gpu_record.py [--peer] [--quick]

Checks first: random shapes through every operation of the table on every rung, in float32 and float64,
against the float64 reference, the outputs poisoned; the tests of the launcher and the kernels on this
device; compute-sanitizer where there is one. Then times: each rung on VGG-16's convolutions at batch 16, the
other kernels by bandwidth, the ceilings of the device beside them, and whole explanations, with `--peer`
beside zennit's. What is written is `kernels/records/<device>.json`, and only if all checks passed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import lrpref  # noqa: E402
from lrpref.files import new_file  # noqa: E402
from lrpref.kernels import cuda, records  # noqa: E402
from lrpref.kernels.cupy_cuda import Table  # noqa: E402
from lrpref.kernels.device import CuPyDevice, available  # noqa: E402
from lrpref.kernels.operations import A, Operation, Window  # noqa: E402
from lrpref.kernels.reference import REFERENCE  # noqa: E402
from lrpref.kernels.signs import negative, positive  # noqa: E402

BOUND = {"float32": 1e-5, "float64": 1e-12}
"""Largest error allowed, relative to the output's largest magnitude, against the float64 reference."""

VGG16 = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56),
         (256, 256, 56), (256, 512, 28), (512, 512, 28), (512, 512, 28), *[(512, 512, 14)] * 3]  # fmt: skip
"""Inputs, outputs and pixels a side of VGG-16's convolutions."""

Unit = tuple[str, tuple[str, ...]]


class Watched:
    """
    A device that notes which units ran.

    Parameters
    ----------
    device : Device
        The device.
    """

    def __init__(self, device: Any) -> None:
        self._device = device
        self._units = {cuda.source(unit): unit for unit in cuda.UNITS}
        self._of: dict[int, Unit] = {}
        self._kept: list[Any] = []
        self.ran: set[Unit] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def function(self, source: str, options: tuple[str, ...], name: str) -> Any:
        found = self._device.function(source, options, name)
        self._kept.append(found)  # so that no other function takes its id
        self._of[id(found)] = (self._units[source], options)
        return found

    def launch(self, function: Any, *arguments: Any, **options: Any) -> None:
        self.ran.add(self._of[id(function)])
        self._device.launch(function, *arguments, **options)


# Checks.


def geometries(
    rng: np.random.Generator, count: int
) -> Iterator[tuple[Operation, tuple[int, ...], tuple[int, ...]]]:
    """Draw convolutions: tails in every dimension, stride, dilation, groups, depthwise, 1 x 1."""
    for i in range(count):
        kernel = (1, 1) if i % 4 == 0 else tuple(rng.integers(1, 4, 2).tolist())
        stride, dilation = (tuple(rng.integers(1, 3, 2).tolist()) for _ in range(2))
        padding = tuple(rng.integers(0, 3, 4).tolist())
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        inputs, outputs = (int(x) for x in rng.choice([1, 3, 7, 16, 33, 64, 130], 2))
        if i % 6 == 5:
            groups, inputs, outputs = int(rng.integers(2, 40)), 1, 1
        window = Window(kernel, stride, padding, dilation)  # type: ignore[arg-type]
        size = tuple(int(e + x) for e, x in zip(window.extent(), rng.integers(0, 19, 2), strict=True))
        yield (
            Operation("conv2d", size, window, groups),  # type: ignore[arg-type]
            (int(rng.integers(1, 4)), groups * inputs, *size),
            (groups * outputs, inputs, *kernel),
        )
    for n, j, k in ((1, 1, 1), (3, 70, 33), (16, 513, 130), (40, 64, 257)):
        yield Operation("dense"), (n, j), (k, j)


def shares(rng: np.random.Generator, shape: tuple[int, ...], like: tuple[int, ...]) -> Iterator[list[Any]]:
    """Terms as the rules have them."""
    w = [rng.normal(size=shape) for _ in range(3)]
    yield [(A, w[0])]
    yield [(positive(A), w[0]), (negative(A), w[1])]
    yield [(A, w[0]), (np.full(like, -1.5), w[1]), (np.full(like, 2.5), w[2])]


def error(got: Any, want: Any) -> float:
    """Largest difference, relative to the largest magnitude wanted; NaN where a number is missing."""
    return float(np.abs(got - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-30))


def check(device: Any, count: int, log: Callable[[str], None]) -> dict[Unit, list[float]]:
    """Run the table against the reference; give the errors by unit."""
    found: dict[Unit, list[float]] = defaultdict(list)
    watched = Watched(device)
    for rung, dtype in [(1, "float32"), (2, "float32"), (3, "float32"), (4, "float32"), (None, "float32"),
                        (1, "float64"), (2, "float64"), (None, "float64")]:  # fmt: skip
        if rung == 4 and device.capability < (8, 0):
            continue
        table, rng, before = Table(watched, rung), np.random.default_rng(0), time.perf_counter()
        for op, shape, weights in geometries(rng, count):
            _check_convolution(table, op, shape, weights, rng, dtype, watched, found)
        log(f"rung {rung or 'chosen'}, {dtype}: {time.perf_counter() - before:.1f} s")
    for dtype in BOUND:
        _check_the_rest(Table(watched), np.random.default_rng(1), dtype, watched, found)
    return dict(found)


def _check_convolution(
    table: Any, op: Operation, shape: Any, weights: Any, rng: Any, dtype: str, watched: Any, found: Any
) -> None:
    def up(x: Any) -> Any:
        return table.upload(np.asarray(x, dtype))

    a = rng.normal(size=shape).astype(dtype).astype(np.float64)
    for terms in shares(rng, weights, shape[1:]):
        rounded = [(p, w.astype(dtype).astype(np.float64)) for p, w in terms]
        ready = [
            (p if not isinstance(p, np.ndarray) else up(p), table.prepare(op, np.asarray(w, dtype)))
            for p, w in rounded
        ]
        b = rng.normal(size=(weights[0], *[1] * (len(shape) - 2))).astype(dtype).astype(np.float64)
        z = REFERENCE.preactivation(op, a, rounded, b)
        R, eps = (rng.normal(size=x).astype(dtype).astype(np.float64) for x in (z.shape, len(a)))
        eps = np.abs(eps) + 8 * np.sqrt(
            (z * z).mean()
        )  # away from 0: a quotient near 0 is the method's error
        watched.ran.clear()
        got = table.preactivation(op, up(a), ready, up(b))
        s, sums = table.quotient(op, up(a), ready, up(b), up(R), up(eps))
        wanted_s, wanted = REFERENCE.quotient(op, a, rounded, b, R, eps)
        lower, to_inputs = table.redistribute(op, up(a), ready, up(R), 0.5)
        wanted_lower, wanted_to = REFERENCE.redistribute(op, a, rounded, R, 0.5)
        size = [np.abs(x).sum() for x in (R, R, R, wanted_lower)]
        errors = [error(table.download(x), y) for x, y in ((got, z), (s, wanted_s), (lower, wanted_lower))]
        for x, y, scale in zip((*sums, to_inputs), (*wanted, wanted_to), size, strict=True):
            errors.append(float(np.abs(table.download(x) - y).max() / scale))
        _note(found, watched, errors, dtype, f"{op}, {shape}, {weights}")


def _check_the_rest(table: Any, rng: Any, dtype: str, watched: Any, found: Any) -> None:
    """Check pooling, sums and element by element functions, on the cases that the tests draw."""
    from strategies import MAPS, fixed_cases

    for name in MAPS:
        for c in fixed_cases(name, 12):
            a, w, s = (x.astype(dtype) for x in (c.a, c.w, c.s))
            watched.ran.clear()
            ready, there = table.prepare(c.op, w), table.upload(a)
            pairs = [
                (table.forward(c.op, there, ready), REFERENCE.forward(c.op, a * 1.0, w)),
                (table.transpose(c.op, table.upload(s), ready), REFERENCE.transpose(c.op, s, w)),
                (table.per_sample(there), REFERENCE.per_sample(a)),
                (table.mean_square(there), REFERENCE.mean_square(a)),
                (table.activation("silu", there), REFERENCE.activation("silu", a)),
            ]
            if name == "select2d":
                pairs.append((table.max_pool2d(there, c.op), REFERENCE.max_pool2d(a, c.op)))
            _note(
                found, watched, [error(table.download(x), y) for x, y in pairs], dtype, f"{c.op}, {a.shape}"
            )


def _note(found: Any, watched: Any, errors: list[float], dtype: str, where: str) -> None:
    worst = math.nan if any(math.isnan(e) for e in errors) else max(errors)
    if not worst <= BOUND[dtype]:
        raise SystemExit(f"gpu-record: error {worst:.1e} in {dtype} by {sorted(watched.ran)} on {where}")
    for unit in watched.ran:
        found[unit].append(worst)


# Times.


def seconds(device: Any, run: Callable[[], Any], turns: int = 7, repeat: int = 5) -> float:
    """Median time of a call, each turn several launches deep."""
    run()
    device.synchronize()
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        device.synchronize()
        found.append((time.perf_counter() - start) / repeat)
    return median(found)


def time_rungs(device: Any, quick: bool, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Time steps 1 to 4 of each rung on VGG-16's convolutions."""
    rng, rows = np.random.default_rng(0), []
    batch, layers = (1, [(3, 4, 8)]) if quick else (16, VGG16)
    for rung in (1, 2, 3, 4):
        table = Table(device, rung)
        chosen = layers if rung > 2 else layers[4:6] or layers
        for step in ("preactivation", "quotient", "redistribute"):
            work = spent = 0.0
            for inputs, outputs, side in chosen:
                op = Operation("conv2d", (side, side), Window((3, 3), padding=(1, 1, 1, 1)))
                w = rng.normal(size=(outputs, inputs, 3, 3)).astype(np.float32)
                a = table.upload(rng.normal(size=(batch, inputs, side, side)).astype(np.float32))
                R = table.upload(rng.normal(size=(batch, outputs, side, side)).astype(np.float32))
                b = table.upload(np.ones((outputs, 1, 1), np.float32))
                eps = table.upload(np.full(batch, 1e-2, np.float32))
                terms = [(A, table.prepare(op, w))]
                run = {
                    "preactivation": lambda: table.preactivation(op, a, terms, b),  # noqa: B023
                    "quotient": lambda: table.quotient(op, a, terms, b, R, eps),  # noqa: B023
                    "redistribute": lambda: table.redistribute(op, a, terms, R),  # noqa: B023
                }[step]
                flops, took = 2.0 * batch * outputs * inputs * 9 * side * side, seconds(device, run)
                work, spent = work + flops, spent + took
                rows.append({"rung": rung, "step": step, "layer": [inputs, outputs, side], "batch": batch,
                             "seconds": took, "TFLOP/s": flops / took / 1e12})  # fmt: skip
            rate = work / spent / 1e12
            log(f"rung {rung} {step}: {rate:.2f} TFLOP/s over {len(chosen)} layers, batch {batch}")
            rows.append({"rung": rung, "step": step, "layer": "all", "batch": batch,
                         "seconds": spent, "TFLOP/s": rate})  # fmt: skip
    return rows


def ceilings(device: Any) -> dict[str, float]:
    """Measure the device's own limits: a large copy, and the library's matrix product in float32."""
    import cupy

    x = cupy.ones(1 << 28, cupy.float32)
    y = cupy.empty_like(x)
    copy = seconds(device, lambda: cupy.copyto(y, x))
    m = cupy.random.standard_normal((8192, 8192), dtype=cupy.float32)
    product = seconds(device, lambda: m @ m)
    return {"copy GB/s": 2 * x.nbytes / copy / 1e9, "library float32 TFLOP/s": 2 * 8192**3 / product / 1e12}


def time_explanations(device: Any, sides: list[str], log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Time VGG-16 from array to relevance and ledger, plan warm, a new input each call."""
    from bench import networks
    from bench.sides import make

    network, rows = networks.random("vgg16"), []
    for composite in ("epsilon-gamma-box", "epsilon-plus"):
        for batch in (1, 16):
            given = iter([networks.inputs(network, batch, seed) for seed in range(30)])
            for side in sides:
                explain = make(side, network, composite, "float32")
                took = seconds(device, lambda: explain(next(given)), turns=5, repeat=1)  # noqa: B023
                rows.append({"side": side, "network": "vgg16", "composite": composite, "batch": batch,
                             "seconds": took})  # fmt: skip
                log(f"{side}, {composite}, batch {batch}: {1e3 * took:.2f} ms")
    return rows


# The record.


def figures(unit: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the times that tell of a unit."""
    rungs = {
        "convolution_naive": 1,
        "convolution_tiled": 2,
        "convolution_blocked": 3,
        "convolution_tf32x3": 4,
    }
    return [
        {"what": f"{row['step']}, batch {row['batch']}", "value": row["TFLOP/s"], "unit": "TFLOP/s"}
        for row in rows
        if row["layer"] == "all" and row["rung"] == rungs.get(unit)
    ]


def describe(device: Any) -> dict[str, Any]:
    """Say what the figures belong to."""
    import cupy

    return {
        "device": device.name,
        "capability": list(device.capability),
        "multiprocessors": device.multiprocessors,
        "date": datetime.date.today().isoformat(),
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "versions": {
            "lrpref": lrpref.__version__, "cupy": cupy.__version__, "numpy": np.__version__,
            "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        },
    }  # fmt: skip


def write(record: dict[str, Any], folder: Path) -> Path:
    """Write the record, under the device's name."""
    name = "".join(c if c.isalnum() else "-" for c in record["device"].lower())
    path = folder / f"{name}.json"
    with new_file(path) as temporary:
        Path(temporary).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def make_record(
    device: Any, about: dict[str, Any], *, quick: bool, sides: list[str], log: Callable[[str], None]
) -> dict[str, Any]:
    """Check, then time."""
    errors = check(device, 12 if quick else 120, log)
    missing = {(u, o) for u, options in cuda.UNITS.items() for o in options} - set(errors)
    missing = {
        m
        for m in missing
        if cuda.CAPABILITIES.get(m[0], 75) <= 10 * device.capability[0] + device.capability[1]
    }
    if missing:
        raise SystemExit(f"gpu-record: no check ran {sorted(missing)}")
    rows = time_rungs(device, quick, log)
    return {
        "format": records.FORMAT,
        **about,
        "kernels": [
            {"unit": unit, "options": list(options), "digest": records.digest(unit, options),
             "cases": len(found), "worst_error": max(found), "figures": figures(unit, rows)}
            for (unit, options), found in sorted(errors.items())
        ],
        "convolutions": rows,
        "explanations": time_explanations(device, sides, log) if sides else [],
    }  # fmt: skip


def run_tests(log: Callable[[str], None]) -> None:
    """Run the kernels' own tests on this device, and a few under compute-sanitizer."""
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/test_cupy_cuda.py",
        "tests/test_cuda_convolution.py",
    ]
    environment = os.environ | {"LRPREF_DEVICE": "cupy"}
    subprocess.run(tests, cwd=ROOT, env=environment, check=True)
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        log("compute-sanitizer: not here")
        return
    for kind in ("memcheck", "racecheck"):
        command = [tool, "--tool", kind, "--error-exitcode", "9", sys.executable, __file__, "--check-only"]
        subprocess.run(command, cwd=ROOT, check=True)
        log(f"compute-sanitizer {kind}: nothing found")


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="store_true", help="time zennit on the GPU beside")
    parser.add_argument("--quick", action="store_true", help="few cases, small shapes; nothing is written")
    parser.add_argument("--check-only", action="store_true", help="a few checks, for compute-sanitizer")
    options = parser.parse_args()
    if reason := available():
        raise SystemExit(f"gpu-record: {reason}")
    device = CuPyDevice()
    if options.check_only:
        check(device, 6, print)
        return
    run_tests(print)
    sides = ["cupy", *(["zennit-cuda", "zennit-cuda-tf32"] if options.peer else [])]
    record = make_record(device, describe(device), quick=options.quick, sides=sides, log=print)
    record["ceilings"] = ceilings(device)
    if not options.quick:
        print(write(record, ROOT / "kernels" / "records"))


if __name__ == "__main__":
    main()
