"""Every CUDA source compiles for every GPU it is meant for, without spills and within its budget."""

from __future__ import annotations

import os
import re
from typing import Any

import nvrtc
import pytest

try:
    from lrpref.kernels import cuda
except ImportError:  # the package is not there yet, or without its kernels
    cuda: Any = None  # type: ignore[no-redef]


@pytest.fixture(autouse=True)
def _nvrtc_is_installed() -> None:
    """A test that cannot run says so; where nothing may be skipped (CI) it fails."""
    if missing := nvrtc.requirement():
        if os.environ.get("LRPREF_NOTHING_SKIPPED"):
            pytest.fail(missing)
        pytest.skip(missing)


def builds() -> list[Any]:
    """Every unit with every set of its options, for every architecture it is meant for."""
    return [
        pytest.param(
            unit, options, arch, id="-".join([unit, *(o.lstrip("-D") for o in options), f"sm_{arch}"])
        )
        for unit, variants in (cuda.UNITS if cuda else {}).items()
        for options in variants
        for arch in nvrtc.ARCHITECTURES
        if arch >= getattr(cuda, "CAPABILITIES", {}).get(unit, 0)
    ]


def over_budget(usage: dict[str, nvrtc.Usage], budgets: dict[str, tuple[int, int]]) -> list[str]:
    """Say which kernels use more than they may."""
    wrong = []
    for kernel, used in usage.items():
        if kernel not in budgets:
            wrong.append(f"{kernel} has no budget; it uses {used}")
            continue
        registers, shared = budgets[kernel]
        if used.spilled or used.local:
            wrong.append(f"{kernel} spills {used.spilled} bytes, {used.local} are in slow memory")
        if used.registers > registers:
            wrong.append(f"{kernel} uses {used.registers} registers, its budget is {registers}")
        if used.shared > shared:
            wrong.append(f"{kernel} uses {used.shared} bytes of shared memory, its budget is {shared}")
    return wrong


@pytest.mark.parametrize(("unit", "options", "arch"), builds())
def test_compiles_within_its_budget(unit: str, options: tuple[str, ...], arch: int) -> None:
    cubin, usage = nvrtc.compile(cuda.source(unit), unit, arch, options)
    assert cubin.startswith(b"\x7fELF")
    assert usage
    assert not over_budget(usage, cuda.BUDGETS)


@pytest.mark.skipif(cuda is None, reason="lrpref.kernels.cuda cannot be imported")
def test_every_budget_has_a_kernel() -> None:
    kernels: set[str] = set()
    for unit, variants in cuda.UNITS.items():
        for options in variants:
            kernels |= nvrtc.compile(cuda.source(unit), unit, 90, options)[1].keys()
    assert set(cuda.BUDGETS) == kernels


SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) spilling(float* x, int n) {
    float a[96];
#pragma unroll
    for (int i = 0; i < 96; ++i) a[i] = x[i * 1024 + threadIdx.x];
    for (int k = 0; k < n; ++k)
#pragma unroll
        for (int i = 0; i < 96; ++i) a[i] = a[i] * a[(i + 7) % 96] + a[(i + 31) % 96];
#pragma unroll
    for (int i = 0; i < 96; ++i) x[i * 1024 + threadIdx.x] = a[i];
}
extern "C" __global__ void sharing(float* x) {
    __shared__ float s[100];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[99 - threadIdx.x];
}
extern "C" __global__ void indexing(float* x, const int* n) {
    float a[32];
    for (int i = 0; i < 32; ++i) a[n[i]] = x[i];
    x[0] = a[n[33]];
}"""


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
def test_spills_and_shared_memory_are_reported(arch: int) -> None:
    usage = nvrtc.compile(SPILLING, "spilling", arch)[1]
    assert usage["spilling"].spilled > 0
    assert usage["spilling"].registers == 64  # 65536 registers for 1024 threads
    assert usage["sharing"].spilled == 0
    assert usage["sharing"].shared == 400
    assert usage["indexing"].local >= 128
    assert usage["indexing"].spilled == 0
    found = sorted(over_budget(usage, {"spilling": (64, 0), "sharing": (1, 399)}))
    expected = [
        r"indexing has no budget; it uses Usage\(.*",
        r"sharing uses \d+ registers, its budget is 1",
        r"sharing uses 400 bytes of shared memory, its budget is 399",
        r"spilling spills \d+ bytes, \d+ are in slow memory",
    ]
    assert len(found) == 4
    assert all(re.fullmatch(e, f) for e, f in zip(expected, found, strict=True)), found
    assert not over_budget({"sharing": usage["sharing"]}, {"sharing": (255, 400)})


def test_errors_name_the_line() -> None:
    with pytest.raises(nvrtc.CompileError, match=r"bad\.cu\(3\): error"):
        nvrtc.compile('#line 3 "bad.cu"\n__global__ void k() { nothing(); }', "bad", 80)


def test_denormals_are_flushed_as_cupy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's options reach the compiler: the same source gives another binary without them."""
    code = 'extern "C" __global__ void k(float* x) { x[0] = x[1] * x[2]; }'
    with_cupys = nvrtc.compile(code, "k", 90)[0]
    assert with_cupys == nvrtc.compile(code, "k", 90)[0]
    monkeypatch.setattr(nvrtc, "CUPY_OPTIONS", ("--device-as-default-execution-space",))
    assert with_cupys != nvrtc.compile(code, "k", 90)[0]
