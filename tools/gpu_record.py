"""Verify every CUDA kernel on the GPU that is here, time it, and write the record (`make gpu-record`).

    python tools/gpu_record.py [--peer] [--quick]

Checks first: random shapes through every operation of the table on every rung, in float32 and float64,
against the float64 reference; each rung in a process of its own, so that a kernel which hangs or crashes
takes no other with it. Then times: each rung on VGG-16's convolutions at batch 16, by the GPU's own clock
and on inputs in turn that do not fit into its cache together; whole explanations, with `--peer` beside
zennit's; and the ceilings of the device. Last the tests of the launcher and the kernels on this device, and
compute-sanitizer where there is one.

What is written is `kernels/records/<device>.json`. A unit whose check fails is not verified there, its error
is; the exit status is then 1. After `--minutes` nothing new is begun, and what was left out is said.
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
from collections.abc import Callable, Iterator, Sequence
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

MANY = 60
"""Cases of a part, where they are not few for a test's sake."""

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
    if count >= MANY:  # so many tiles that no product is split, as in the large layers of a network
        window = Window((3, 3), padding=(1, 1, 1, 1))
        yield Operation("conv2d", (56, 56), window), (12, 64, 56, 56), (128, 64, 3, 3)


def shares(rng: np.random.Generator, shape: tuple[int, ...], like: tuple[int, ...]) -> Iterator[list[Any]]:
    """Terms as the rules have them."""
    w = [rng.normal(size=shape) for _ in range(3)]
    yield [(A, w[0])]
    yield [(positive(A), w[0]), (negative(A), w[1])]
    yield [(A, w[0]), (np.full(like, -1.5), w[1]), (np.full(like, 2.5), w[2])]


def error(got: Any, want: Any) -> float:
    """Largest difference, relative to the largest magnitude wanted; NaN where a number is missing."""
    return float(np.abs(got - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-30))


PARTS = [f"{rung}:{dtype}" for rung, dtype in [
    (1, "float32"), (2, "float32"), (3, "float32"), (4, "float32"), ("chosen", "float32"), (1, "float64"),
    (2, "float64"), ("chosen", "float64"), ("maps", "float32"), ("maps", "float64"),
]]  # fmt: skip
"""What is checked in one process: a rung of the convolution, what the launcher chooses, or the other maps."""

RUNGS = {
    1: "convolution_naive",
    2: "convolution_tiled",
    3: "convolution_blocked",
    4: "convolution_tf32x3",
}

HELPERS = ("convolution_finish", "steps")
"""Units that others need: blamed only where several of those fail."""


class Found:
    """What the checks of a part say: by unit its errors, and of the cases that failed which units ran."""

    def __init__(self) -> None:
        self.errors: dict[Unit, list[float]] = defaultdict(list)
        self.failures: list[tuple[list[Unit], str]] = []

    def as_json(self) -> str:
        """Give all of it in one line."""
        return json.dumps([list(self.errors.items()), self.failures])

    def add(self, line: str) -> None:
        """Take what another process found."""
        errors, failures = json.loads(line)
        for (unit, options), worst in errors:
            self.errors[unit, tuple(options)] += worst
        self.failures += [([(unit, tuple(o)) for unit, o in ran], what) for ran, what in failures]

    def blamed(self) -> dict[Unit, str]:
        """Say which units failed, and how; a helper only where more than one that it helps did."""
        by_helper: dict[Unit, set[Unit]] = defaultdict(set)
        wrong: dict[Unit, str] = {}
        for ran, what in self.failures:
            own = [unit for unit in ran if unit[0] not in HELPERS] or ran
            for unit in own:
                wrong.setdefault(unit, what)
            for unit in set(ran) - set(own):
                by_helper[unit] |= set(own)
                if len(by_helper[unit]) > 1:
                    wrong.setdefault(unit, what)
        return wrong


def check(device: Any, part: str, count: int) -> Found:
    """Run a part of the table against the reference."""
    found, watched, (what, dtype) = Found(), Watched(device), part.split(":")
    if what == "maps":
        _check_the_rest(Table(watched), np.random.default_rng(1), dtype, watched, found)
    elif what != "4" or device.capability >= (8, 0):
        table, rng = Table(watched, int(what) if what.isdigit() else None), np.random.default_rng(0)
        for op, shape, weights in geometries(rng, count):
            _check_convolution(table, op, shape, weights, rng, dtype, watched, found)
    return found


def check_all(count: int, left: Callable[[], float], log: Callable[[str], None]) -> Found:
    """Run every part in a process of its own."""
    found = Found()
    for part in PARTS:
        what, dtype = part.split(":")
        units = (
            [(RUNGS[int(what)], cuda.SINGLE if dtype == "float32" else cuda.DOUBLE)] if what.isdigit() else []
        )
        command = [sys.executable, __file__, "--part", part, "--count", str(count)]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=max(10, min(150, left())),
                check=False,
            )
            said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        except subprocess.TimeoutExpired:
            done, said = None, "it does not come to an end"
        if done is not None and done.returncode == 0:
            found.add(done.stdout.strip().splitlines()[-1])
            said = "compared"
        else:
            found.failures.append((units, f"{part}: {said}"))
            said += " FAILED"
        log(f"{part}: {said}, {time.perf_counter() - start:.1f} s")
    return found


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


def _note(found: Found, watched: Any, errors: list[float], dtype: str, where: str) -> None:
    worst = math.nan if any(math.isnan(e) for e in errors) else max(errors)
    if not worst <= BOUND[dtype]:
        ran = sorted(watched.ran)
        found.failures.append((ran, f"error {worst:.1e} in {dtype} by {[u for u, _ in ran]} on {where}"))
        return
    for unit in watched.ran:
        found.errors[unit].append(worst)


# Times.


CACHE = 120e6
"""Bytes that no GPU's cache holds twice over: so many are read in turn before the first come again."""


def seconds(device: Any, runs: Sequence[Callable[[], Any]], turns: int = 7) -> float:
    """Median time of a call over several turns through all of them, by the GPU's clock if it has one."""
    for run in runs:
        run()  # compiles, and fills the pool of memory
    device.synchronize()
    return median(_turn(device, runs) for _ in range(turns)) / len(runs)


def _turn(device: Any, runs: Sequence[Callable[[], Any]]) -> float:
    if not isinstance(device, CuPyDevice):
        start = time.perf_counter()
        for run in runs:
            run()
        device.synchronize()
        return time.perf_counter() - start
    import cupy

    first, last = cupy.cuda.Event(), cupy.cuda.Event()
    first.record()
    for run in runs:
        run()
    last.record()
    last.synchronize()
    return float(cupy.cuda.get_elapsed_time(first, last)) / 1e3


def time_rungs(
    device: Any, quick: bool, left: Callable[[], float], log: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time steps 1 to 4 of each rung on VGG-16's convolutions."""
    batch, layers = (1, [(3, 4, 8)]) if quick else (16, VGG16)
    rows: list[dict[str, Any]] = []
    for number, layer in enumerate(layers):
        if left() < 120:
            log(f"no time is left for the layers from {layer} on")
            break
        slow = number in (4, 5) or quick  # two layers tell enough of rungs 1 and 2
        for rung in (1, 2, 3, 4) if slow else (3, 4):
            if rung == 4 and device.capability < (8, 0):
                continue
            try:
                rows += _time_layer(Table(device, rung), rung, batch, layer)
            except Exception as problem:
                rows.append({"rung": rung, "step": "", "layer": list(layer), "error": _line(problem)})
                log(f"rung {rung}, {layer}: {_line(problem)}")
    for rung in (1, 2, 3, 4):
        for step in STEPS:
            done = [r for r in rows if (r["rung"], r["step"]) == (rung, step)]
            if not done:
                continue
            spent = sum(r["seconds"] for r in done)
            rate = sum(r["TFLOP/s"] * r["seconds"] for r in done) / spent
            log(f"rung {rung} {step}: {rate:.2f} TFLOP/s over {len(done)} layers, batch {batch}")
            rows.append({"rung": rung, "step": step, "layer": "all", "batch": batch,
                         "seconds": spent, "TFLOP/s": rate})  # fmt: skip
    return rows


STEPS = ("preactivation", "quotient", "quotient of a pair", "redistribute")


def _time_layer(table: Any, rung: int, batch: int, layer: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Time each step of a layer on several inputs and weights, one after another."""
    (inputs, outputs, side), rng = layer, np.random.default_rng(0)
    op = Operation("conv2d", (side, side), Window((3, 3), padding=(1, 1, 1, 1)))
    taps = rng.standard_normal((outputs, inputs, 3, 3), np.float32)
    first_a = table.upload(rng.standard_normal((batch, inputs, side, side), np.float32))
    first_R = table.upload(rng.standard_normal((batch, outputs, side, side), np.float32))
    b = table.upload(np.ones((outputs, 1, 1), np.float32))
    eps = table.upload(np.full(batch, 1e-2, np.float32))
    sets = []
    for i in range(max(2, min(8, math.ceil(CACHE / (first_a.nbytes + taps.nbytes))))):
        scale = np.float32(1 + i / 8)
        w, v = (table.prepare(op, taps * x) for x in (scale, -scale))
        sets.append((first_a * scale, first_R * scale, [(A, w)], [(positive(A), w), (negative(A), v)]))
    calls = {
        "preactivation": [lambda x=x: table.preactivation(op, x[0], x[2], b) for x in sets],
        "quotient": [lambda x=x: table.quotient(op, x[0], x[2], b, x[1], eps) for x in sets],
        "quotient of a pair": [lambda x=x: table.quotient(op, x[0], x[3], b, x[1], eps) for x in sets],
        "redistribute": [lambda x=x: table.redistribute(op, x[0], x[2], x[1]) for x in sets],
    }
    rows = []
    for step, runs in calls.items():
        flops = 2.0 * batch * outputs * inputs * 9 * side * side * (2 if "pair" in step else 1)
        took = seconds(table.device, runs)
        rows.append({"rung": rung, "step": step, "layer": [inputs, outputs, side], "batch": batch,
                     "seconds": took, "TFLOP/s": flops / took / 1e12})  # fmt: skip
    return rows


def _line(problem: BaseException) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def ceilings(device: Any) -> dict[str, Any]:
    """Measure the device's own limits: a large copy, and the library's matrix product in float32."""
    import cupy

    x = device.upload(np.random.default_rng(0).standard_normal(1 << 26, np.float32))
    y = cupy.empty_like(x)
    found: dict[str, Any] = {
        "copy GB/s": 2 * x.nbytes / seconds(device, [lambda: cupy.copyto(y, x)] * 5) / 1e9
    }
    m = x.reshape(8192, 8192)
    try:
        found["library float32 TFLOP/s"] = 2 * 8192**3 / seconds(device, [lambda: m @ m] * 3) / 1e12
    except Exception as problem:  # the library is not installed
        found["library float32 TFLOP/s"] = f"not measured: {_line(problem)}"
    return found


def time_explanations(
    sides: list[str], left: Callable[[], float], log: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Time VGG-16 from array to relevance and ledger, plan warm, a new input each call."""
    from bench import networks
    from bench.sides import make

    network, rows = networks.random("vgg16"), []
    for composite in ("epsilon-gamma-box", "epsilon-plus"):
        for side in sides:
            if left() < 60:
                log(f"no time is left for {side}, {composite}")
                continue
            try:
                explain = make(side, network, composite, "float32")
                for batch in (1, 16):
                    given = [networks.inputs(network, batch, seed) for seed in range(4)]
                    took = _host_seconds(explain, given)
                    rows.append({"side": side, "network": "vgg16", "composite": composite, "batch": batch,
                                 "seconds": took})  # fmt: skip
                    log(f"{side}, {composite}, batch {batch}: {1e3 * took:.2f} ms")
            except Exception as problem:  # another library is not here, or cannot: say so and go on
                rows.append({"side": side, "network": "vgg16", "composite": composite,
                             "error": _line(problem)})  # fmt: skip
                log(f"{side}, {composite}: {_line(problem)}")
    return rows


def _host_seconds(explain: Callable[[Any], Any], given: list[Any], turns: int = 8) -> float:
    """Median time of a call by the host's clock: from an array here to an array here."""
    explain(given[0])
    explain(given[1])
    found = []
    for i in range(turns):
        start = time.perf_counter()
        explain(given[i % len(given)])
        found.append(time.perf_counter() - start)
    return median(found)


# The record.


def figures(unit: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pick the times that tell of a unit."""
    return [
        {"what": f"{row['step']}, batch {row['batch']}", "value": row["TFLOP/s"], "unit": "TFLOP/s"}
        for row in rows
        if row["layer"] == "all" and RUNGS.get(row["rung"]) == unit
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


def kernels(found: Found, rows: list[dict[str, Any]], capability: tuple[int, int]) -> dict[str, Any]:
    """Say of each unit how it was verified, or, under `errors`, why it was not."""
    wrong = found.blamed()
    for unit, choices in cuda.UNITS.items():
        if cuda.CAPABILITIES.get(unit, 75) > 10 * capability[0] + capability[1]:
            continue
        for options in choices:
            if (unit, options) not in found.errors:
                wrong.setdefault((unit, options), "no check ran it to its end")
    verified = sorted((key, worst) for key, worst in found.errors.items() if key not in wrong)
    return {
        "kernels": [
            {"unit": unit, "options": list(options), "digest": records.digest(unit, options),
             "cases": len(worst), "worst_error": max(worst), "figures": figures(unit, rows)}
            for (unit, options), worst in verified
        ],
        "errors": [
            {"unit": unit, "options": list(options), "error": what}
            for (unit, options), what in sorted(wrong.items())
        ],
    }  # fmt: skip


def run_tests(left: Callable[[], float], log: Callable[[str], None]) -> dict[str, str]:
    """Run the kernels' own tests on this device, and a few checks under compute-sanitizer."""
    outcome = {}
    files = ["tests/test_cupy_cuda.py", "tests/test_cuda_convolution.py"]
    # CuPy's warnings are not our tests' errors
    tests = [sys.executable, "-m", "pytest", "-q", "-W", "default", "-p", "no:cacheprovider", *files]
    outcome["tests"] = _outcome(tests, left, os.environ | {"LRPREF_DEVICE": "cupy"})
    if (tool := shutil.which("compute-sanitizer")) is not None:
        for kind in ("memcheck", "racecheck"):
            command = [tool, "--tool", kind, "--error-exitcode", "9", sys.executable, __file__]
            outcome[f"compute-sanitizer {kind}"] = _outcome(
                [*command, "--part", "chosen:float32", "--count", "4"], left, dict(os.environ)
            )
    for what, said in outcome.items():
        log(f"{what}: {said}")
    return outcome


def _outcome(command: list[str], left: Callable[[], float], environment: dict[str, str]) -> str:
    """Run it, and give "passed" with its last line, or "failed", or "not run"."""
    if left() < 30:
        return "not run: no time is left"
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=left(), check=False
        )
    except subprocess.TimeoutExpired:
        return "not run: it took longer than the time that was left"
    lines = (done.stdout.strip() or done.stderr.strip() or "nothing was said").splitlines()
    if done.returncode:
        print("\n".join(lines[-40:]))
    said = next((line for line in reversed(lines) if not line.startswith("[[")), "")
    return f"{'failed' if done.returncode else 'passed'}: {said.strip('= ')}"


def summary(record: dict[str, Any]) -> Iterator[str]:
    """Give the lines of a short table."""
    yield f"{record['device']}, {record['date']}"
    for entry in record["kernels"]:
        rates = ", ".join(f"{f['what'].split(',')[0]} {f['value']:.1f}" for f in entry["figures"])
        name = f"{entry['unit']} {entry['options'][0].removeprefix('-DREAL=')}"
        yield f"{name:28} {entry['cases']:5} cases  {entry['worst_error']:.1e}  {rates}"
    for entry in record["errors"]:
        name = f"{entry['unit']} {entry['options'][0].removeprefix('-DREAL=')}"
        yield f"{name:28} NOT VERIFIED: {entry['error']}"
    for row in record["explanations"]:
        said = row.get("error") or f"{1e3 * row['seconds']:.2f} ms"
        yield f"{row['side']}, {row['composite']}, batch {row.get('batch', '-')}: {said}"
    for what, value in (record["ceilings"] | record["tests"]).items():
        yield f"{what}: {value if isinstance(value, str) else round(value, 1)}"


def passed(record: dict[str, Any]) -> bool:
    """Tell whether every check and test passed."""
    failed = [said for said in record["tests"].values() if said.startswith("failed")]
    return not record["errors"] and not failed


def make_record(
    device: Any, about: dict[str, Any], *, sides: list[str], quick: bool, minutes: float,
    checks: Callable[..., Found] = check_all, keep: Callable[[dict[str, Any]], Any] = lambda _: None,
) -> dict[str, Any]:  # fmt: skip
    """Check, time, test; `keep` gets the record after each, so that what is there is not lost."""
    end = time.monotonic() + 60 * minutes

    def left() -> float:
        return end - time.monotonic()

    def log(line: str) -> None:
        print(line, flush=True)

    found = checks(12 if quick else MANY, left, log)
    record = {"format": records.FORMAT, **about, **kernels(found, [], device.capability),
              "convolutions": [], "explanations": [], "ceilings": {}, "tests": {}}  # fmt: skip
    keep(record)
    for name, make in {
        "convolutions": lambda: time_rungs(device, quick, left, log),
        "explanations": lambda: time_explanations(sides, left, log) if sides else [],
        "ceilings": lambda: ceilings(device) if isinstance(device, CuPyDevice) else {},
        "tests": lambda: run_tests(left, log) if isinstance(device, CuPyDevice) else {},
    }.items():
        try:
            made: Any = make()
            record[name] = {**record[name], **made} if isinstance(made, dict) else made
        except Exception as problem:
            log(f"{name}: {_line(problem)}")
            record["tests"] = {**record["tests"], name: f"failed: {_line(problem)}"}
        record |= kernels(found, record["convolutions"], device.capability)
        keep(record)
    return record


def main() -> None:
    """Check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", action="store_true", help="time zennit on the GPU beside")
    parser.add_argument("--quick", action="store_true", help="few cases, small shapes; nothing is written")
    parser.add_argument("--minutes", type=float, default=9, help="begin nothing new afterwards")
    parser.add_argument("--part", choices=PARTS, help="run one part of the checks, and print what it found")
    parser.add_argument("--count", type=int, default=MANY, help="cases of that part")
    options = parser.parse_args()
    if reason := available():
        raise SystemExit(f"gpu-record: {reason}")
    device = CuPyDevice()
    if options.part:
        print(check(device, options.part, options.count).as_json())
        return
    sides = ["cupy", *(["zennit-cuda", "zennit-cuda-tf32"] if options.peer else [])]
    folder = ROOT / "kernels" / "records"
    record = make_record(
        device, describe(device), sides=[] if options.quick else sides, quick=options.quick,
        minutes=options.minutes, keep=lambda made: None if options.quick else write(made, folder),
    )  # fmt: skip
    print("\n".join(summary(record)), flush=True)
    if not passed(record):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
