"""The kernels of numba_cuda.py, without a GPU: run in Numba's simulator, and compiled to PTX.

This file is also a program: with NUMBA_ENABLE_CUDASIM=1 it runs all cases in the simulator and prints what
went wrong. All in one process, for the simulator can only be chosen before Numba is imported, and it
runs no more than some hundred threads a second.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrpref import layers, relprop
from lrpref.errors import BadBackend
from lrpref.kernels import numba_cuda
from lrpref.kernels.operations import Array, Operation, Window
from lrpref.kernels.reference import REFERENCE

INSTALL = "pip install 'numba-cuda[cu13]'"

Case = tuple[str, Callable[[Any], Array]]
"""What is computed, and how, given a function table."""


# The cases. All values are multiples of 1/8 up to 2, so products are multiples of 1/64 up to 4, and sums of
# fewer than 2**16 of them are exact in float32 too: what agrees, agrees to the last bit.


def values(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    return (rng.integers(-16, 17, shape) / 8).astype(dtype)


DENSE = [(3, 11, 9), (5, 4, 8), (1, 1, 1)]
"""Samples, inputs, outputs. Tiles are 4 x 4: tails in every dimension; whole tiles and a tail; one cell."""

# samples, inputs and outputs of a group, groups, image, window
CONVOLUTIONS = [
    (2, 3, 5, 1, (3, 3), Window((2, 3), padding=(1, 0, 0, 2))),
    (1, 2, 3, 2, (6, 5), Window((2, 2), stride=(2, 1), padding=(0, 1, 2, 0), dilation=(2, 3))),
    (2, 1, 1, 3, (5, 2), Window((3, 2), stride=(3, 2))),  # depthwise; rows that no window sees
    (2, 5, 6, 1, (2, 3), Window((1, 1))),
]

WINDOWS = [
    ((5, 4), Window((2, 3), stride=(2, 1), padding=(1, 0, 0, 2), dilation=(1, 1))),
    ((4, 5), Window((2, 2), stride=(3, 2), dilation=(2, 1))),
    ((1, 2), Window((1, 1), padding=(1, 1, 1, 1))),  # windows wholly in the padding
]

MAPS = ("dense", "conv2d", "conv_transpose2d", "sum_pool2d", "region_sum2d", "select2d", "scale", "total")


def both_ways(name: str, op: Operation, a: Array, w: Array, s: Array) -> Iterator[Case]:
    """A map and its transpose."""
    yield name, methodcaller("forward", op, a, w)
    yield f"{name}_transpose", methodcaller("transpose", op, s, w)


def cases(dtype: str) -> Iterator[Case]:
    rng = np.random.default_rng(5)

    def x(*shape: int) -> Array:
        return values(rng, dtype, *shape)

    for n, j, k in DENSE:
        yield from both_ways("dense", Operation("dense"), x(n, j), x(k, j), x(n, k))
    for n, c, k, g, size, window in CONVOLUTIONS:
        op, s = Operation("conv2d", size, window, g), x(n, k * g, *window.positions(size))
        yield from both_ways("conv2d", op, x(n, c * g, *size), x(k * g, c, *window.kernel), s)
    # the two maps in each other's place; the window stops short of a row and a column
    op = Operation("conv_transpose2d", (6, 6), Window((2, 2), (2, 3), (1, -1, 0, 0), (1, 2)), 2)
    yield from both_ways("conv_transpose2d", op, x(1, 4, 3, 2), x(4, 3, 2, 2), x(1, 6, 6, 6))
    for size, window in WINDOWS:
        a, s = x(2, 2, *size), x(2, 2, *window.positions(size))
        op = Operation("sum_pool2d", size, window)
        yield from both_ways("sum_pool2d", op, a, x(*window.positions(size)), s)
        op = Operation("select2d", size, window)
        yield from both_ways("select2d", op, a, x(window.kernel[0] * window.kernel[1], *s.shape), s)
        yield "max_pool2d", methodcaller("max_pool2d", a, op)
        for ties in ("first", "split"):
            ones = np.sign(a)  # many ties
            yield f"winners, ties {ties}", methodcaller("max_pool2d_winners", ones, op, ties)
    # regions that overlap, that are empty, and a column that no region sees
    op = Operation("region_sum2d", (3, 4), rows=((0, 2), (1, 3)), columns=((0, 1), (0, 3), (2, 2)))
    yield from both_ways("region_sum2d", op, x(2, 2, 3, 4), x(2, 3), x(2, 2, 2, 3))
    for pixels in ((), (3, 3)):
        scale = x(2, 3, *pixels), x(3, *[1] * len(pixels)), x(2, 3, *pixels)
        yield from both_ways("scale", Operation("scale"), *scale)
        total = x(2, 3, 2, *pixels), x(3, 1, *[1] * len(pixels)), x(2, 2, *pixels)
        yield from both_ways("total", Operation("total"), *total)


def difference(compute: Callable[[Any], Array], table: Any) -> str:
    """Say what a table computes otherwise than the reference; empty if nothing."""
    want = compute(REFERENCE)
    try:
        got = compute(table)
    except IndexError as error:  # the simulator checks the upper bounds of indices
        return f"{error!r:.100}"
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"{got.shape} {got.dtype} instead of {want.shape} {want.dtype}"
    return "" if (got == want).all() else f"{(got != want).sum()} of {got.size} cells differ"  # NaN differs


def differences(table: Any, dtypes: tuple[str, ...], names: tuple[str, ...] = ()) -> Iterator[str]:
    """Compare on all cases, or on those of some maps."""
    rung = "tiled" if table.tiled else "naive"
    for dtype in dtypes:
        for i, (name, compute) in enumerate(cases(dtype)):
            # only these have two rungs
            wanted = name in names if names else not table.tiled or name.startswith(("dense", "conv"))
            if wanted and (found := difference(compute, table)):
                yield f"{name}, {rung}, case {i}, {dtype}: {found}"


# Seeded faults: a change of one line, as text.

FAULTS = {
    "negative rows wrap around": ("_conv2d", False, "0 <= v < a.shape[2]", "v < a.shape[2]"),
    "the guard of the last block": ("_dense_transpose", False, "if j >= c.shape[1]", "if j > c.shape[1]"),
    "one channel too few": ("_conv2d", False, "range(w.shape[1])", "range(w.shape[1] - 1)"),
    "the stride is not looked at": ("_conv2d_transpose", False, "down % sy == 0 and ", ""),
    "a tail that is cut": ("_dense_tiled", True, "j < a.shape[1] else", "j < a.shape[1] - 1 else"),
    "a tail of the next group": ("_conv2d_tiled", True, "c < inputs and ", ""),
    "a tile that is not added": ("_dense_transpose_tiled", True, "total += tile_s", "total = tile_s"),
    "the rest of the sum is lost": ("_conv2d_tiled", True, "inputs * taps, TILE)", "TILE, TILE)"),
    "the wrong group": ("_conv2d_transpose_tiled", True, "s[n, group * outputs + k,", "s[n, k,"),
}


def seed(name: str, old: str, new: str) -> Callable[[], None]:
    """Change a line of a kernel; gives what changes it back."""
    kernel = getattr(numba_cuda, name)
    source, sound = inspect.getsource(kernel.python), kernel.python
    assert source.count(old) == 1, f"{name} has not one {old!r}"
    made: dict[str, Any] = {}
    exec(source.replace(old, new), vars(numba_cuda), made)

    def put(python: Any) -> None:
        kernel.python = python
        vars(kernel).pop("compiled", None)

    put(made[name].python)
    return lambda: put(sound)


def unreported() -> Iterator[str]:
    """Name the seeded faults that the comparison does not see."""
    for fault, (name, tiled, old, new) in FAULTS.items():
        undo = seed(name, old, new)
        map_of = name.removeprefix("_").removesuffix("_tiled")
        if not any(differences(numba_cuda.table(tiled), ("float32",), (map_of,))):
            yield fault
        undo()


def whole_layers() -> Iterator[str]:
    """Run all four steps on a convolution and on a dense layer."""
    rng = np.random.default_rng(6)

    def x(*shape: int) -> Array:
        return values(rng, "float64", *shape)

    convolution, dense = layers.Conv2d(x(4, 2, 2, 2), x(4), padding=1), layers.Dense(x(5, 6), x(5))
    for layer, shape, rule in (
        (convolution, (2, 2, 3, 2), "generalized-gamma(0.25)"),
        (dense, (2, 6), "epsilon(0.25)"),
    ):
        a = x(*shape)
        R = rng.normal(size=(2, *layer.output_shape(shape[1:])))
        got, want = (relprop(layer, rule, a, R, backend=name) for name in ("numba-cuda", "numpy"))
        # z is exact, so s is the same; c sums at most 16 products: 16 * 2**-53 = 2e-15 of their magnitudes,
        # which leaves a factor of 500 for cancellation
        error = np.abs(got.relevance - want.relevance).max() / np.abs(want.relevance).max()
        if not error <= 1e-12:
            yield f"{layer.kind} under {rule}: relative error {error}"
        for account in ("arriving", "to_inputs", "bias", "stabilizer", "dropped"):
            found, wanted = getattr(got.ledger, account), getattr(want.ledger, account)
            if not (np.abs(found - wanted) <= 1e-12 * np.abs(want.relevance).sum()).all():
                yield f"{layer.kind} under {rule}: {account} is {found}, not {wanted}"


def poison(cuda: Any) -> None:
    """Fill new arrays with NaN: a cell that no thread writes shows."""
    original = cuda.device_array

    def device_array(shape: Any, dtype: Any) -> Any:
        return cuda.to_device(np.full(shape, np.nan, dtype))

    assert original is not device_array
    cuda.device_array = device_array


def main() -> None:
    numba_cuda.table()
    simulated = numba_cuda._simulated()
    poison(numba_cuda.cuda)
    if simulated:
        numba_cuda.TILE, numba_cuda.PITCH, numba_cuda.THREADS = 4, 5, 8
    naive, tiled = (numba_cuda.table(tiled) for tiled in (False, True))
    report = {
        "differences": [d for t in (naive, tiled) for d in differences(t, ("float32", "float64"))],
        "whole layers": list(whole_layers()),
        "unreported faults": list(unreported()) if simulated else [],
    }
    if simulated:  # and once with tiles as large as on a GPU
        numba_cuda.TILE, numba_cuda.PITCH = 16, 17
        report["tiles of 16"] = list(differences(tiled, ("float32",), ("dense",)))
    print(json.dumps(report))


def run(**environment: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, list[str]] = json.loads(done.stdout)
    return report


def test_every_map_in_the_simulator_and_every_seeded_fault() -> None:
    report = run(NUMBA_ENABLE_CUDASIM="1")
    assert report == {"differences": [], "whole layers": [], "unreported faults": [], "tiles of 16": []}


def test_every_map_on_a_gpu() -> None:
    try:
        numba_cuda.table()
    except BadBackend as error:
        pytest.skip(f"not verified on a GPU here: {error}")
    assert run(NUMBA_ENABLE_CUDASIM="0") == {"differences": [], "whole layers": [], "unreported faults": []}


# Compiled for real GPUs.


class Recorder(numba_cuda.Table):
    """Computes nothing, and keeps the types that each kernel would be launched with."""

    def __init__(self, tiled: bool) -> None:
        super().__init__(tiled)
        self.launched: dict[numba_cuda.Kernel, set[Any]] = {}

    def _run(self, kernel: Any, grid: Any, block: Any, numbers: Any, shape: Any, *more: Any) -> Array:
        import numba

        output = np.zeros(shape, numbers[0].dtype)
        # arrays are copied to the GPU in C order: numba.typeof sees the same in a copy here
        arguments = (np.array(x) if isinstance(x, np.ndarray) else x for x in (*numbers, *more, output))
        self.launched.setdefault(kernel, set()).add(tuple(map(numba.typeof, arguments)))
        return output


def launched(dtype: str) -> dict[numba_cuda.Kernel, set[Any]]:
    naive, tiled = Recorder(tiled=False), Recorder(tiled=True)
    for recorder in (naive, tiled):
        for _, compute in cases(dtype):
            compute(recorder)
    return naive.launched | tiled.launched


def _nothing() -> None:
    """The smallest kernel."""


@pytest.fixture
def compile_ptx(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Compile a kernel for a compute capability, as Numba does at its first launch."""
    missing = ""
    if importlib.util.find_spec("numba_cuda") is None:
        missing = "the package numba-cuda"
    else:
        cuda: Any = importlib.import_module("numba.cuda")
        monkeypatch.setattr(numba_cuda, "cuda", cuda)
        try:
            cuda.compile_ptx(_nothing, (), cc=(9, 0))
        except Exception as error:
            missing = f"its compiler ({error!r:.100})"
    if missing:
        message = f"numba-cuda's kernels were not compiled to PTX: {missing} is missing: {INSTALL}"
        (pytest.fail if os.environ.get("LRPREF_NOTHING_SKIPPED") == "1" else pytest.skip)(message)

    def compiled(kernel: numba_cuda.Kernel, types: Any, cc: tuple[int, int]) -> str:
        return str(cuda.compile_ptx(kernel.python, types, cc=cc)[0])

    return compiled


@pytest.mark.parametrize("cc", [(7, 5), (9, 0)])
def test_float32_kernels_hold_no_float64(compile_ptx: Callable[..., str], cc: tuple[int, int]) -> None:
    kernels = [x for x in vars(numba_cuda).values() if isinstance(x, numba_cuda.Kernel)]
    every = launched("float32")
    assert set(every) == set(kernels), "each kernel is launched by some case"
    for kernel, signatures in every.items():
        assert len(signatures) == 1, f"{kernel.python.__name__} is compiled once for a dtype"
        ptx = compile_ptx(kernel, *signatures, cc)
        assert f".target sm_{cc[0]}{cc[1]}" in ptx
        assert ".f64" not in ptx, kernel.python.__name__


def test_float64_kernels_compile(compile_ptx: Callable[..., str]) -> None:
    for kernel, signatures in launched("float64").items():
        ptx = compile_ptx(kernel, *signatures, (9, 0))
        name = kernel.python.__name__
        assert ".f64" in ptx, name  # so the search above would find it
        # the simulator sees a missing barrier only if its threads happen to meet in an order where it matters
        assert ptx.count("bar.sync") == (2 if name.endswith("_tiled") else 0), name


def test_a_sum_in_float64_would_be_found(compile_ptx: Callable[..., str]) -> None:
    import numba

    def kernel(x: Any, z: Any) -> None:
        total = 0.0
        for j in range(x.shape[0]):
            total += x[j]
        z[0] = total

    assert ".f64" in compile_ptx(numba_cuda.Kernel(kernel), (numba.float32[::1],) * 2, (9, 0))


# What is refused, and what needs no GPU.

TABLE = numba_cuda.Table(tiled=True)
DENSE_OP = Operation("dense")


def test_importing_needs_neither_numba_nor_a_driver() -> None:
    code = "import sys, lrpref.kernels.numba_cuda; assert not {'numba', 'numba.cuda'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("kind", "named"), [("int64", "int64"), ("longdouble", "longdouble|float128"), (object, "exact numbers")]
)
def test_other_dtypes_are_refused(kind: Any, named: str) -> None:
    x = np.ones((2, 2), kind)
    with pytest.raises(BadBackend, match=f"serves float32 and float64, not ({named}): use backend 'numpy'"):
        TABLE.dense(x, x, DENSE_OP)


def test_mixed_dtypes_are_refused() -> None:
    with pytest.raises(BadBackend, match="of one dtype: got float32 and float64"):
        TABLE.dense(np.ones((2, 2), np.float32), np.ones((2, 2)), DENSE_OP)


def test_no_samples_give_no_samples() -> None:
    z = TABLE.dense(np.ones((0, 3), np.float32), np.ones((2, 3), np.float32), DENSE_OP)
    assert z.shape == (0, 2)
    assert z.dtype == np.float32


def test_more_samples_than_a_launch_takes_are_refused() -> None:
    with pytest.raises(BadBackend, match="at most 65535 samples or channels"):
        numba_cuda.Table(tiled=False).dense(np.ones((65536, 1)), np.ones((1, 1)), DENSE_OP)


class FakeCuda:
    """numba.cuda on a machine without a GPU, or with a full one."""

    def __init__(self, error: str) -> None:
        self.error = error

    def is_available(self) -> bool:
        return False

    def to_device(self, x: Array) -> Any:
        raise RuntimeError(self.error)


def test_a_full_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    full = FakeCuda("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
    monkeypatch.setattr(numba_cuda, "cuda", full)
    a = np.ones((1024, 512))  # 4 MiB; w as much, z 8
    with pytest.raises(BadBackend, match="has not the 16 MiB that one layer needs: take smaller batches"):
        TABLE.dense(a, a, DENSE_OP)
    monkeypatch.setattr(numba_cuda, "cuda", FakeCuda("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        TABLE.dense(a, a, DENSE_OP)


def test_without_numba_cuda_or_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_cuda, "_simulated", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadBackend, match=r"pip install 'lrpref\[cuda13\]'.*; or set NUMBA_ENABLE_CUDASIM=1"):
        numba_cuda.table()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "numba.cuda", FakeCuda(""))
    with pytest.raises(BadBackend, match=r"no GPU that answers .*'cpu', or set NUMBA_ENABLE_CUDASIM=1"):
        numba_cuda.table()


# The course that these kernels are a part of: kernels/README.md.

COURSE = Path(__file__).parent.parent / "kernels" / "README.md"


def test_the_course_links_to_files_that_exist() -> None:
    links = re.findall(r"\]\(([^)]+)\)", COURSE.read_text(encoding="utf-8"))
    assert len(links) > 10
    assert [link for link in links if not (COURSE.parent / link).exists()] == []


def test_the_course_quotes_lines_that_exist() -> None:
    quotes = re.findall(r"```\S+ (\S+)\n(.*?)```", COURSE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(quotes) > 4
    for file, quote in quotes:
        source = (COURSE.parent / file).read_text(encoding="utf-8")
        assert [line for line in quote.splitlines() if line.strip() not in source] == [], file


def test_the_course_example_in_the_simulator() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", COURSE.read_text(encoding="utf-8"), re.DOTALL)
    *lines, last = example.splitlines()
    call, result = last.split("  # ")
    code = "\n".join([*lines, f"print({call}.tolist())"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [[float(x) for x in result.strip("[] ").split(",")]]


if __name__ == "__main__":
    main()
