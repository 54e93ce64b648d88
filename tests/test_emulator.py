"""The emulator finds what it promises to find, and lets right kernels pass."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from emulator import (
    BadLaunch,
    DeviceArray,
    EmulatedDevice,
    KernelFault,
    Module,
    compiler,
    requirement,
    run_sanitized,
)
from emulator.faults import SOURCE, THREADS, values

from lrpref.errors import BadBackend

if requirement() and not os.environ.get("LRPREF_NOTHING_SKIPPED"):
    pytest.skip(requirement(), allow_module_level=True)

SCHEDULES = (0, 1, 2)
FAULTS = str(Path(__file__).parent / "emulator" / "faults.py")
I = np.arange(THREADS, dtype=np.float32)

RIGHT = {
    "right": I[::-1],
    "right_warp": I.reshape(-1, 2)[:, ::-1].ravel(),
    "right_shuffle": I.reshape(-1, 2)[:, ::-1].ravel(),
    "right_halves": I.reshape(-1, 2)[:, ::-1].ravel(),
    "right_atomic": np.where(I == 0, THREADS, 0),
    "right_copy": I[::-1],
}


@pytest.fixture
def device() -> EmulatedDevice:
    return EmulatedDevice()


# ---- by value


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kernel", RIGHT)
def test_right_kernels_give_the_right_value(kernel: str, schedule: int) -> None:
    np.testing.assert_array_equal(values(kernel, EmulatedDevice(schedule)), RIGHT[kernel])


@pytest.mark.parametrize(
    ("kernel", "right"),
    [
        ("no_barrier", I[::-1]),
        ("no_warp_barrier", RIGHT["right_warp"]),
        ("write_after_read", (I + 1) % THREADS + 1),
        ("no_wait", I[::-1]),
    ],
)
def test_a_missing_barrier_changes_a_value(kernel: str, right: np.ndarray) -> None:
    wrong = [s for s in SCHEDULES if not np.array_equal(values(kernel, EmulatedDevice(s)), right)]
    assert wrong
    # A copy that nobody waited for is only late in schedule 2: the others let it land at once.
    assert kernel != "no_wait" or wrong == [2]


def test_the_schedules_differ() -> None:
    """Each thread takes a number when it comes: the numbers are the order."""
    code = """extern "C" __global__ void k(int* turn, int* order) {
        order[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(turn, 1); }"""

    def order(schedule: int, seed: int = 1, shuffle_blocks: bool = False, threads: int = 96) -> list[int]:
        device = EmulatedDevice(schedule, seed, shuffle_blocks=shuffle_blocks)
        turn, out = device.zeros(1, np.int32), device.empty(96, np.int32)
        device.launch(device.function(code, (), "k"), (96 // threads,), (threads,), (turn, out))
        return device.download(out).tolist()

    ascending = list(range(96))
    assert order(0) == ascending
    assert order(1) == ascending[::-1]
    assert order(2, 1) != order(2, 2)
    assert order(2, 1) == order(2, 1)
    assert sorted(order(2)) == ascending
    assert order(2) not in (order(0), order(1))
    # One thread per block: the order of blocks.
    assert order(0, threads=1) == order(2, threads=1) == ascending
    assert order(1, threads=1) == ascending[::-1]
    shuffled = order(0, shuffle_blocks=True, threads=1)
    assert shuffled != ascending
    assert sorted(shuffled) == ascending


def test_schedule_one_runs_one_warp_ahead() -> None:
    """Warps that meet only in __syncwarp: the last one is at its end before the first begins."""
    code = """extern "C" __global__ void k(int* turn, int* begin, int* end) {
        begin[threadIdx.x] = atomicAdd(turn, 1);
        __syncwarp();
        end[threadIdx.x] = atomicAdd(turn, 1); }"""

    def begin_end(schedule: int) -> tuple[np.ndarray, np.ndarray]:
        device = EmulatedDevice(schedule)
        turn, begin, end = device.zeros(1, np.int32), device.empty(64, np.int32), device.empty(64, np.int32)
        device.launch(device.function(code, (), "k"), (1,), (64,), (turn, begin, end))
        return device.download(begin), device.download(end)

    begin, end = begin_end(1)
    assert end[32:].max() < begin[:32].min()
    begin, end = begin_end(0)
    assert begin[:32].max() < begin[32:].min() < end[:32].max()


def test_the_order_of_blocks_shows_what_one_takes_from_another() -> None:
    results = [
        values("across_blocks", EmulatedDevice(seed=seed, shuffle_blocks=True), blocks=8)[:8]
        for seed in (1, 2)
    ]
    in_order = values("across_blocks", EmulatedDevice(), blocks=8)[:8]
    np.testing.assert_array_equal(in_order, np.arange(1, 9))
    assert not np.array_equal(results[0], in_order)
    assert not np.array_equal(results[0], results[1])


@pytest.mark.parametrize("kernel", ["uninitialised", "uninitialised_dynamic"])
def test_shared_memory_starts_as_nan(kernel: str, device: EmulatedDevice) -> None:
    written = values("right", device)
    assert np.isfinite(written).all()  # what an earlier kernel left there does not help
    result = values(kernel, device)
    assert np.isfinite(result[:32]).all()
    assert np.isnan(result[32:]).all()


# ---- faults that end a launch


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("divergent_barrier", "divergent barrier"),
        ("early_exit", "exited|exits while others wait"),
        ("wrong_mask", "deadlock|different places"),
        ("not_in_mask", "not in its mask"),
        ("outside_mask", "lane outside the mask"),
        ("misaligned_copy", "misaligned"),
        ("wild_pointer", "memory that is not there"),
        ("division_by_zero", "division by zero"),
        ("trap", "__trap"),
    ],
)
def test_a_fault_ends_the_launch_with_a_message(kernel: str, message: str, schedule: int) -> None:
    device = EmulatedDevice(schedule)
    with pytest.raises(KernelFault, match=f"{kernel}.*({message})"):
        values(kernel, device)
    np.testing.assert_array_equal(values("right", device), RIGHT["right"])  # and the device lives on


def test_a_copy_that_is_never_waited_for() -> None:
    with pytest.raises(KernelFault, match="never waited"):
        values("never_waited", EmulatedDevice(2))


def test_the_message_says_where(device: EmulatedDevice) -> None:
    code = '#line 7 "steps.cu"\nextern "C" __global__ void k() { if (threadIdx.x == 5) __trap(); }'
    with pytest.raises(KernelFault, match=r"steps\.cu:7, block \(0, 0, 0\), thread \(5, 0, 0\)"):
        device.launch(device.function(code, (), "k"), (2,), (8,), ())


def test_a_write_beside_an_array(device: EmulatedDevice) -> None:
    with pytest.raises(KernelFault, match="outside of an array of 256 bytes"):
        values("beyond_write", device)
    np.testing.assert_array_equal(values("right", device), RIGHT["right"])


@pytest.mark.parametrize(("kernel", "schedule"), [("beyond_read", 0), ("before_read", 1)])
def test_a_read_beside_an_array_gives_nan(kernel: str, schedule: int) -> None:
    # Each thread copies its neighbour: in this order nobody copies on what comes from outside.
    assert np.isnan(values(kernel, EmulatedDevice(schedule))).sum() == 1


# ---- the sanitizers


def test_thread_sanitizer_finds_races_and_nothing_else() -> None:
    races = [
        "no_barrier",
        "no_warp_barrier",
        "write_after_read",
        "same_value",
        "no_atomic",
        "shuffle_is_no_barrier",
        "no_wait",
    ]
    outcome = run_sanitized("thread", [FAULTS, *RIGHT, *races, "divergent_barrier", "right"])
    assert outcome.finished, outcome.text
    assert outcome.status == 66
    for name, reports in outcome.by_case().items():
        assert bool(reports) == (name in races), (name, outcome.text)
        assert all("data race" in r for r in reports)
    assert len(outcome.by_case()) == len(RIGHT) + len(races) + 1  # `right` is there twice


@pytest.mark.parametrize(
    ("kernel", "report"),
    [
        ("beyond_write", "heap-buffer-overflow"),
        ("beyond_read", "heap-buffer-overflow"),
        ("before_read", "heap-buffer-overflow"),
        ("beyond_shared", "global-buffer-overflow|index 64 out of bounds"),
        ("beyond_dynamic", "use-after-poison|global-buffer-overflow"),
        ("misaligned", "misaligned address"),
    ],
)
def test_address_sanitizer_finds_what_is_out_of_bounds(kernel: str, report: str) -> None:
    outcome = run_sanitized("address", [FAULTS, kernel])
    assert not outcome.finished
    assert len(outcome.reports) == 1, outcome.text
    assert any(r in outcome.reports[0] for r in report.split("|")), outcome.text


def test_address_sanitizer_lets_right_kernels_pass() -> None:
    outcome = run_sanitized("address", [FAULTS, *RIGHT, "divergent_barrier", "right"])
    assert outcome.finished, outcome.text
    assert outcome.status == 0
    assert not outcome.reports


# ---- what CUDA offers


def run(
    device: EmulatedDevice, body: str, count: int, parameters: str = "float* o", *arguments: object
) -> np.ndarray:
    """Run a kernel body on one block; return what it wrote to ``o``."""
    dtype = np.dtype({"float": "f4", "double": "f8", "int": "i4"}[parameters.split("*")[0]])
    out = device.empty(count, dtype)
    code = f'extern "C" __global__ void k({parameters}) {{ const int i = threadIdx.x; {body} }}'
    device.launch(device.function(code, (), "k"), (1,), (count,), (out, *arguments))
    return device.download(out)


def test_arithmetic_is_the_devices(device: EmulatedDevice) -> None:
    # min and max prefer the number, as CUDA's do
    np.testing.assert_array_equal(
        run(
            device, 'const float n = nanf(""); o[0] = max(n, 1.f); o[1] = min(2.f, n); o[2] = max(3, 2u);', 3
        ),
        [1, 2, 3],
    )
    # float denormals are zero, as with CuPy's -ftz=true
    tiny = np.float32(1e-40)
    body = "o[i] = x * 1.5f;"
    assert run(device, body, 1, "float* o, float x", tiny) == 0
    assert np.float32(1e-40) > 0  # and NumPy's are not
    # a product and a sum are one fma, unless asked for single steps
    x = np.float32(1 + 2**-12)
    assert run(device, "o[0] = x * x - 1.f;", 1, "float* o, float x", x) == np.float32(2**-11 + 2**-24)
    assert run(device, "o[0] = __fsub_rn(__fmul_rn(x, x), 1.f);", 1, "float* o, float x", x) == 2**-11
    assert run(device, "o[0] = __umulhi(0x80000000u, 6u);", 1, "int* o") == 3


def test_double_is_double(device: EmulatedDevice) -> None:
    third = np.float64(1 / 3)
    body = """double s = x; for (int d = 16; d > 0; d >>= 1) s += __shfl_down_sync(~0u, s, d);
              o[i] = 0; __syncwarp(); if (i == 0) atomicAdd(&o[0], __ldg(&s)); else o[i] = tanh(erf(x));"""
    result = run(device, body, 32, "double* o, double x", third)
    assert result[0] == third * 32  # doublings are exact
    # float would be wrong by 1e-8; two libraries' tanh and erf differ by a few times 1e-16
    import math

    assert abs(result[1] - math.tanh(math.erf(1 / 3))) < 1e-15


def test_shuffles_in_groups(device: EmulatedDevice) -> None:
    lanes = np.arange(32)
    for call, expected in {
        "__shfl_sync(~0u, i, 3, 8)": lanes // 8 * 8 + 3,
        "__shfl_down_sync(~0u, i, 2, 8)": np.where(lanes % 8 < 6, lanes + 2, lanes),
        "__shfl_up_sync(~0u, i, 2, 8)": np.where(lanes % 8 >= 2, lanes - 2, lanes),
        "__shfl_xor_sync(~0u, i, 4, 8)": lanes ^ 4,
        "__shfl_down_sync(~0u, i, 16)": np.where(lanes < 16, lanes + 16, lanes),
        "__popc(__ballot_sync(~0u, i % 3 == 0))": np.full(32, 11),
    }.items():
        np.testing.assert_array_equal(run(device, f"o[i] = {call};", 32, "int* o"), expected, call)


def test_shared_arrays_of_templates(device: EmulatedDevice) -> None:
    code = """
    template <class T, int N> __device__ T total(T x) {
        __shared__ T all[N];
        all[threadIdx.x] = x;
        __syncthreads();
        T sum = 0;
        for (int i = 0; i < N; ++i) sum += all[i];
        return sum;
    }
    extern "C" __global__ void __launch_bounds__(32) k(double* __restrict__ o) {
        o[threadIdx.x] = total<float, 32>(1) + total<double, 32>(0.5);
    }"""
    out = device.empty(32, np.float64)
    device.launch(device.function(code, (), "k"), (1,), (32,), (out,))
    np.testing.assert_array_equal(device.download(out), np.full(32, 48.0))


def test_tensor_core_twin(device: EmulatedDevice) -> None:
    """D = A B with the fragments laid out as in the PTX manual; small integers are exact in tf32."""
    code = """extern "C" __global__ void k(float* d, const float* a, const float* b) {
        const int g = threadIdx.x / 4, t = threadIdx.x % 4;
        unsigned fa[4], fb[2]; float fd[4] = {};
        for (int i = 0; i < 4; ++i) fa[i] = to_tf32(a[(g + 8 * (i % 2)) * 8 + t + 4 * (i / 2)]);
        for (int i = 0; i < 2; ++i) fb[i] = to_tf32(b[(t + 4 * i) * 8 + g]);
        mma_m16n8k8_tf32(fd, fa, fb);
        for (int i = 0; i < 4; ++i) d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = fd[i]; }"""
    rng = np.random.default_rng(0)
    a = rng.integers(-9, 10, (16, 8)).astype(np.float32)
    b = rng.integers(-9, 10, (8, 8)).astype(np.float32)
    d = device.empty((16, 8), np.float32)
    device.launch(device.function(code, (), "k"), (1,), (32,), (d, device.upload(a), device.upload(b)))
    np.testing.assert_array_equal(device.download(d), a @ b)


def test_tf32_rounds_halves_away_from_zero(device: EmulatedDevice) -> None:
    body = (
        "o[i] = __uint_as_float(to_tf32(i == 0 ? x : i == 1 ? -x : i == 2 ? 1.f / (x - x) : x - 0.0000001f));"
    )
    x = np.float32(1 + 2**-11)  # halfway between 1 and the next tf32
    result = run(device, body, 4, "float* o, float x", x)
    np.testing.assert_array_equal(result, [1 + 2**-10, -1 - 2**-10, np.inf, 1])


def test_the_architecture_is_the_devices() -> None:
    device = EmulatedDevice(capability=(7, 5))
    assert run(device, "o[0] = __CUDA_ARCH__;", 1, "int* o") == 750


# ---- the compiler


def test_kernels_are_found_after_preprocessing() -> None:
    code = """
    #define MAKE(T) extern "C" __global__ void \\
        fill_##T(T* o) { o[0] = 1; }
    MAKE(float)
    #ifdef MORE
    MAKE(double)
    #endif
    template <int N> __global__ void not_one() {}
    extern "C" __global__ void __launch_bounds__((4 * (8))) bounded(int n) {}
    """
    assert Module(code).names == ["fill_float", "bounded"]
    assert Module(code, ("-DMORE", "--std=c++17")).names == ["fill_float", "fill_double", "bounded"]
    with pytest.raises(KeyError, match="no kernel fill_double in this source; it has fill_float, bounded"):
        Module(code).function("fill_double")


def test_compiler_errors_and_options() -> None:
    with pytest.raises(ValueError, match=r"broken\.cu:3"):
        Module('#line 3 "broken.cu"\nextern "C" __global__ void k() { nonsense(); }')
    with pytest.raises(ValueError, match="use_fast_math"):
        Module(SOURCE, ("--use_fast_math",))


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    compiler.requirement.cache_clear()
    try:
        assert "needs g++ 11 or later, found none: apt-get install g++" in requirement()
        with pytest.raises(RuntimeError, match="apt-get install g"):
            EmulatedDevice().function(SOURCE, (), "right")
    finally:
        monkeypatch.undo()
        compiler.requirement.cache_clear()
    assert requirement() == ""


# ---- launches


def test_arguments_are_checked(device: EmulatedDevice) -> None:
    code = """struct P { int n; float* p; };
    extern "C" __global__ void k(float* x, const double* y, int n, float f, P p) {
        if (y == nullptr && n == 3 && f == 0.5f && p.n == 4) *p.p = x[0]; }"""
    k = device.function(code, (), "k")
    x, target = device.upload(np.float32([7])), device.zeros(1, np.float32)
    p = np.zeros((), np.dtype([("n", "i4"), ("p", "u8")], align=True))
    p["n"], p["p"] = 4, target.data.ptr
    good = [x, None, np.int32(3), np.float32(0.5), p[()]]
    device.launch(k, (1,), (1,), tuple(good))
    assert float(target[0]) == 7
    for i, bad, message in [
        (0, device.zeros(1, np.float64), "pointer to f4, the array is float64"),
        (0, np.zeros(1, np.float32), "a host array"),
        (0, device.zeros((4, 4), np.float32)[:, 1], "C-contiguous"),
        (0, EmulatedDevice().zeros(1, np.float32), "another device"),
        (2, 3, "NumPy scalar"),
        (2, np.int64(3), "takes i4, given is int64"),
        (2, x, "takes a value"),
        (3, np.float64(0.5), "takes f4, given is float64"),
        (4, np.zeros((), "i4,i4")[()], "a struct of 16 bytes"),
    ]:
        arguments = [*good[:i], bad, *good[i + 1 :]]
        with pytest.raises(BadLaunch, match=f"k, argument {i}: .*{message}"):
            device.launch(k, (1,), (1,), tuple(arguments))
    with pytest.raises(BadLaunch, match="takes 5 arguments, 4 were given"):
        device.launch(k, (1,), (1,), tuple(good[:4]))


def test_sizes_are_checked(device: EmulatedDevice) -> None:
    k = device.function('extern "C" __global__ void k() {}', (), "k")
    for grid, block, shared, message in [
        ((0,), (1,), 0, "grid"),
        ((1, 65536), (1,), 0, "grid"),
        ((1,), (1025,), 0, "block"),
        ((1,), (1, 1, 65), 0, "block"),
        ((1,), (64, 32), 0, "2048 threads"),
        ((1,), (1,), 227 * 1024 + 1, "shared memory"),
    ]:
        with pytest.raises(BadLaunch, match=message):
            device.launch(k, grid, block, (), shared)
    with pytest.raises(BadLaunch, match=r"too many for \(7, 5\)"):
        EmulatedDevice(capability=(7, 5)).launch(k, (1,), (1,), (), 65 * 1024)
    assert not device.launches
    device.launch(k, (2, 2, 2), (8, 8, 2), (), 227 * 1024)
    device.launch(k, (1,), (1,), ())
    assert device.launches == {"k": 2}


# ---- device arrays


def test_device_arrays_do_not_become_host_arrays(device: EmulatedDevice) -> None:
    x, host = device.upload(np.ones((2, 3), np.float32)), np.ones((2, 3), np.float32)
    for implicit in (
        np.asarray,
        np.array,
        np.ascontiguousarray,
        np.isscalar and (lambda v: host.__setitem__(0, v)),
    ):
        with pytest.raises(TypeError, match="implicit conversion"):
            implicit(x)
    for mixed in (
        lambda: x + host,
        lambda: host * x,
        lambda: x == host,
        lambda: np.where(host > 0, x, x),
        lambda: np.stack([x, host]),
        lambda: np.maximum(host, x),
        lambda: x.__iadd__(host),
        lambda: x.__setitem__(slice(None), host),
        lambda: x.reshape(6).clip(host[0], None),
    ):
        with pytest.raises(TypeError, match="mixed with a device array"):
            mixed()
    with pytest.raises(TypeError):
        x[np.array([0, 1])]
    for absent in (lambda: np.linalg.norm(x), lambda: np.heaviside(x, 0.5), lambda: np.add.reduce(x)):
        with pytest.raises(TypeError, match="not offered"):
            absent()
    with pytest.raises(AttributeError):
        x.tofile  # noqa: B018
    with pytest.raises(TypeError, match="already"):
        device.upload(x)
    with pytest.raises(TypeError, match="a device array was expected"):
        device.download(host)


def test_device_arrays_compute(device: EmulatedDevice) -> None:
    host = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
    x = device.upload(host)
    for function in (
        lambda v: v + 1,
        lambda v: 2.0 * v - v / 3,
        lambda v: -(v**2) // 2,
        lambda v: v >= 0,
        lambda v: (v != 1) & ~(v < 0),
        lambda v: np.float32(2) * v,
        lambda v: np.where(v > 0, v, 0),
        lambda v: np.where(v >= 0, np.float32(1), np.float32(-1)),
        lambda v: np.stack([v, v]),
        lambda v: np.concatenate([v, v[:1]]),
        lambda v: np.split(v, 3, axis=1)[1],
        lambda v: np.zeros_like(v),
        lambda v: np.zeros_like(v, shape=(4, 1), dtype=np.int32),
        lambda v: np.ones_like(v),
        lambda v: np.maximum(v, 0),
        lambda v: np.minimum(0, v),
        lambda v: np.sqrt(abs(v)),
        lambda v: np.multiply(v, v),
        lambda v: np.add(v, 1),
        lambda v: np.broadcast_to(v[:, None], (2, 5, 3)),
        lambda v: v.sum(),
        lambda v: v.sum(axis=1, dtype=np.float64),
        lambda v: v.reshape(3, -1).T,
        lambda v: v.astype(np.float64),
        lambda v: v[..., 1:],
        lambda v: v[1, None],
        lambda v: v[v > 0],
        lambda v: v / 0,
        lambda v: v @ v.T,
    ):
        result = function(x)
        assert isinstance(result, DeviceArray)
        with np.errstate(all="ignore"):
            expected = np.asarray(function(host))
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(device.download(result), expected)
    assert (x.ndim, x.size, x.nbytes, len(x)) == (2, 6, 24, 2)
    assert bool((x == x).all())


def test_views_and_copies(device: EmulatedDevice) -> None:
    x = device.upload(np.arange(6, dtype=np.float32).reshape(2, 3))
    x[:, 1] = -1  # slices are views, and can be set
    x[0] += x[1]
    np.testing.assert_array_equal(device.download(x), [[3, -2, 7], [3, -1, 5]])
    row, copy, transposed = x[0], x.copy(), x.T.reshape(6)
    row[...] = 0
    assert float(x.sum()) == 7
    assert float(copy.sum()) == 15
    assert float(transposed.sum()) == 15  # a reshape that cannot be a view is a copy
    host = np.ones(3)
    uploaded, downloaded = device.upload(host), device.download(x)
    host[0], downloaded[...] = 5, 9
    assert float(uploaded[0]) == 1
    assert float(x[1, 2]) == 5


def test_memory(device: EmulatedDevice) -> None:
    assert np.isnan(device.download(device.empty((3, 2), np.float32))).all()
    assert np.isnan(device.download(np.empty_like(device.zeros((3, 2), np.float64)))).all()
    assert device.download(device.empty(2, np.int32)).tolist() == [-1, -1]
    assert device.empty((0, 3), np.float32).shape == (0, 3)
    small = EmulatedDevice(memory=4096)
    before = small.free_memory()
    x = small.zeros(256, np.float32)
    assert small.free_memory() <= before - x.nbytes
    view = x[3:]
    del x
    assert small.free_memory() < before  # the view still needs it
    del view
    assert small.free_memory() == before
    with pytest.raises(BadBackend, match="out of device memory"):
        small.empty(2048, np.float32)


@pytest.mark.parametrize("real", ["float", "double"])
def test_arrays_that_numpy_made_have_bands_too(real: str, device: EmulatedDevice) -> None:
    dtype = np.dtype({"float": "f4", "double": "f8"}[real])
    x = np.concatenate([device.zeros(2, dtype), device.zeros(2, dtype)])
    code = f'extern "C" __global__ void k({real}* x, int i) {{ x[i] += 1; }}'
    for inside in (0, 3):
        device.launch(device.function(code, (), "k"), (1,), (1,), (x, np.int32(inside)))
    for outside in (-1, 4):  # adding to a NaN gives a NaN, and yet it shows
        with pytest.raises(KernelFault, match=f"outside of an array of {4 * dtype.itemsize} bytes"):
            device.launch(device.function(code, (), "k"), (1,), (1,), (x, np.int32(outside)))
    np.testing.assert_array_equal(device.download(x), [1, 0, 0, 1])
