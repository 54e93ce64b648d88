"""The CUDA ladder of convolutions and dense layers, on the device of `devices.py`: an emulator or a GPU.

Every rung and every step against the float64 reference, under three schedules of a block's threads; and
seeded faults, each of which these same checks must find.

Tolerances. Float32 rounds each of up to 600 products of a sum by 6e-8 of it: 1e-5 of the output's
largest magnitude leaves room for cancellation, and for a division by denominators of at least a quarter
of the RMS of z. Float64: 1e-12, for the same reasons. The ledger's sums must be the float64 sums of the
very numbers written: 1e-12 of the sum of magnitudes.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import devices
import numpy as np
import pytest
from devices import REAL, SCHEDULES, compared, emulated
from devices import device as make_device
from emulator import EmulatedDevice, KernelFault

from lrpref.errors import BadBackend
from lrpref.kernels import backend, cuda, cuda_convolution
from lrpref.kernels.cuda_convolution import Convolution
from lrpref.kernels.operations import Operation, Part, Window, lower

pytestmark = compared

REFERENCE = backend("numpy")
A = lower()
PLUS = Part("a+", lambda a: np.maximum(a, 0))
MINUS = Part("a-", lambda a: np.minimum(a, 0))
ONE = Part("1", lambda a: np.zeros_like(a) + 1)
DOUBLED = Part("twice", lambda a: a * 2)  # a part whose name no kernel knows
CONSTANT = "constant"


@dataclass(frozen=True)
class Case:
    """A layer, and what enters its share."""

    n: int
    c: int
    k: int
    size: tuple[int, int] = ()
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    parts: tuple[object, ...] = (A,)
    sign: int = 0
    multiprocessors: int = 1
    transposed: bool = False

    def operation(self):
        if not self.size:
            return Operation("dense")
        window = Window(self.kernel, self.stride, self.padding, self.dilation)
        name = "conv_transpose2d" if self.transposed else "conv2d"
        return Operation(name, self.size, window, self.groups)

    def shapes(self):
        """Shapes of a, and of w."""
        if not self.size:
            return (self.n, self.c), (self.k, self.c)
        op, (rows, inner) = self.operation(), (self.c, self.k) if self.transposed else (self.k, self.c)
        size = op.window.positions(op.size) if self.transposed else op.size
        return (self.n, self.c, *size), (rows, inner // self.groups, *self.kernel)


CASES = {
    # tails in rows, columns and inner channels; columns of two samples in one tile
    "padded": Case(2, 5, 7, (9, 11), (3, 3), padding=(1, 1, 1, 1)),
    # all at once: stride, asymmetric padding, dilation, the pair of alpha-beta, a gate
    "strided": Case(3, 20, 70, (9, 7), (3, 2), (2, 3), (2, 0, 1, 2), (1, 2), parts=(PLUS, MINUS), sign=1),
    "grouped": Case(
        1, 12, 18, (6, 7), (2, 3), (1, 2), (0, 1, 2, 1), (2, 1), groups=3, parts=(A, CONSTANT, ONE), sign=-1
    ),
    "depthwise": Case(2, 6, 12, (6, 7), (3, 3), (2, 2), (0, 1, 2, 1), groups=6, parts=(PLUS, MINUS)),
    # a stride past the kernel: phases without taps
    "1x1": Case(2, 30, 12, (6, 7), (1, 1), (2, 2), parts=(DOUBLED,)),
    "split": Case(1, 33, 9, (5, 4), (3, 3), padding=(1, 1, 1, 1), parts=(A, ONE), multiprocessors=64),
    "split phases": Case(2, 20, 70, (7, 7), (3, 3), (2, 2), (1, 0, 1, 0), multiprocessors=64),
    "tall": Case(1, 250, 129, (3, 2), parts=(PLUS, MINUS)),  # three low tiles there, two tall ones back
    "picture": Case(2, 3, 6, (5, 6), (3, 3), padding=(1, 1, 1, 1), parts=(A, CONSTANT, CONSTANT)),  # z^B
    # the two directions in each other's place; the window stops short of a row
    "transposed": Case(
        2, 20, 12, (8, 7), (3, 2), (2, 3), (2, -1, 1, 0), (1, 2), groups=2, parts=(PLUS, MINUS), sign=1,
        transposed=True,
    ),
    "transposed split": Case(
        1, 33, 9, (5, 6), (3, 3), (2, 2), (1, 0, 1, 1), multiprocessors=64, transposed=True
    ),
    "dense": Case(9, 131, 21, parts=(A, CONSTANT, ONE), sign=1),
    "dense of fours": Case(3, 132, 150, parts=(PLUS, MINUS)),
}
LADDER = [(rung, np.float32) for rung in (1, 2, 3, 4, None)] + [(rung, np.float64) for rung in (1, 2, None)]


@functools.cache
def problem(name, dtype):
    """Draw the arrays of a case, and what the reference makes of them in float64."""
    case = CASES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    op = case.operation()
    shape, taps = case.shapes()
    a = rng.standard_normal(shape).astype(dtype)
    weights = [rng.standard_normal(taps).astype(dtype) for _ in case.parts]
    parts = [rng.standard_normal(a.shape[1:]).astype(dtype) if p is CONSTANT else p for p in case.parts]
    b = rng.standard_normal((case.k, *(1 for _ in case.size))).astype(dtype)
    terms = [(wide(p), wide(w)) for p, w in zip(parts, weights, strict=True)]
    z = REFERENCE.preactivation(op, wide(a), terms, wide(b))
    R = rng.standard_normal(z.shape).astype(dtype)
    own = rng.standard_normal(z.shape).astype(dtype)
    eps = (np.sqrt(np.mean(z**2)) * np.linspace(0.25, 0.5, case.n)).astype(dtype)  # each sample's own
    gate = (wide(own), case.sign) if case.sign else None
    s, _ = REFERENCE.quotient(op, wide(a), terms, wide(b), wide(R), wide(eps), True, None, gate)
    back, _ = REFERENCE.redistribute(op, wide(a), terms, wide(R), -2.5)
    expected = {
        "z": z,
        "forward": REFERENCE.forward(op, wide(a), terms[0][1]),
        "transpose": REFERENCE.transpose(op, wide(R), terms[0][1]),
        "s": s,
        "R": back,
    }
    return op, a, parts, weights, b, R, own, eps, expected


def wide(x):
    return x if isinstance(x, Part) else x.astype(np.float64)


def per_sample(x):
    return x.reshape(len(x), -1).sum(axis=1)


def check(name, rung, dtype=np.float32, schedule=0):
    """Run all steps of a case on the device and compare them; give the bits of what came out."""
    case = CASES[name]
    op, a, parts, weights, b, R, own, eps, expected = problem(name, dtype)
    z = expected["z"]
    device = make_device(schedule, multiprocessors=case.multiprocessors)
    up, down = device.upload, device.download
    layer = Convolution(device, rung)
    prepared = [layer.prepare(op, w) for w in weights]
    terms = [(p if isinstance(p, Part) else up(p), w) for p, w in zip(parts, prepared, strict=True)]
    gate = (up(own), case.sign) if case.sign else None
    s, booked = layer.quotient(op, up(a), terms, up(b), up(R), up(eps), True, gate)
    back, arrived = layer.redistribute(op, up(a), terms, up(R), -2.5)
    got = {
        "z": layer.preactivation(op, up(a), terms, up(b)),
        "forward": layer.forward(op, up(a), prepared[0]),
        "transpose": layer.transpose(op, up(R), prepared[0]),
        "s": s,
        "R": back,
    }
    got = {step: down(x) for step, x in got.items()}
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for step, x in got.items():
        assert x.dtype == dtype, step
        assert x.shape == expected[step].shape, step
        np.testing.assert_allclose(
            x, expected[step], rtol=0, atol=tolerance * np.abs(expected[step]).max(), err_msg=step
        )
    # The sums: those of the numbers that were written, in float64.
    written = wide(got["s"])
    stabilizer = np.where(z < 0, -1.0, 1.0) * wide(eps).reshape(-1, *[1] * (z.ndim - 1))
    for what, x, terms_of in (
        ("bias", booked.bias, written * b),
        ("stabilizer", booked.stabilizer, written * stabilizer),
        ("dropped", booked.dropped, written * 0),
        ("to_inputs", arrived, wide(got["R"])),
    ):
        x = down(x)
        assert x.dtype == np.float64, what
        bound = 1e-12 * per_sample(np.abs(terms_of)).max()
        np.testing.assert_allclose(x, per_sample(terms_of), rtol=0, atol=bound, err_msg=what)
    everything = [*got.values(), *(down(x) for x in booked), down(arrived)]
    return [x.tobytes() for x in everything], device.launches


# What the launcher chooses is looked at where it is not rung 4 (float32) or 2 (float64) for both directions.
CHOSEN = ("depthwise", "picture", "dense", "dense of fours")


@pytest.mark.parametrize(
    ("name", "rung", "dtype"),
    [(name, rung, dtype) for name in CASES for rung, dtype in LADDER if rung or name in CHOSEN],
)
def test_all_steps_against_the_reference(name, rung, dtype):
    runs = [check(name, rung, dtype, schedule)[0] for schedule in (*SCHEDULES, SCHEDULES[0])]
    assert all(run == runs[0] for run in runs)  # no sum depends on the order of threads or blocks


def test_which_kernels_run():
    def launched(name, rung, dtype=np.float32):
        return {kernel.split("_")[0] for kernel in check(name, rung, dtype)[1]} - {"sum", "finish"}

    assert launched("strided", 1) == {"naive"}
    assert launched("strided", 2) == {"tiled"}
    assert launched("strided", 3) == {"blocked"}
    assert launched("strided", 4) == {"tf32x3"}
    assert launched("strided", None) == {"tf32x3"}
    assert launched("strided", None, np.float64) == {"tiled"}
    assert launched("split", 3) == {"blocked"}
    assert launched("split", 4) == {"tf32x3"}
    for step in ("z", "quotient", "redistribute"):
        assert check("split", 3)[1][f"finish_{step}"]
    assert launched("transposed", 4) == {"tf32x3"}
    assert check("transposed split", 3)[1]["finish_quotient"]
    assert launched("depthwise", None) == {"thin"}
    assert launched("dense", None) == {"dense"}
    assert launched("picture", None) == {"blocked", "thin"}
    assert {"blocked_quotient_64", "blocked_redistribute_128"} <= set(check("tall", 3)[1])
    assert "blocked_quotient_64" in check("padded", 3)[1]


def test_before_ampere_the_default_is_rung_3():
    device = make_device(capability=(7, 5))
    layer = Convolution(device)
    assert layer.rung(np.float32) == 3
    op, a, _, weights, *_, expected = problem("padded", np.float32)
    got = device.download(layer.forward(op, device.upload(a), layer.prepare(op, weights[0])))
    z = expected["forward"]
    np.testing.assert_allclose(got, z, rtol=0, atol=1e-5 * np.abs(z).max())


# Zeros and overflows.


def edge(layer, down, eps, signed=True, overflow=False, a_value=1.0):
    """A 1x1 convolution: z = 0 exactly in channel 0, else 2 or, where a is huge, infinity."""
    op = Operation("conv2d", (2, 3), Window((1, 1)))
    a = np.full((2, 1, 2, 3), a_value, np.float32)
    if overflow:
        a[1, 0, 1, 2] = 3e38
    w = np.array([0, 2, 2], np.float32).reshape(3, 1, 1, 1)
    R = np.arange(1, 37, dtype=np.float32).reshape(2, 3, 2, 3)
    up = layer.device.upload
    s, sums = layer.quotient(
        op, up(a), [(A, layer.prepare(op, w))], None, up(R), up(np.array(eps, np.float32)), signed
    )
    return R, down(s), [down(x) for x in sums]


@pytest.mark.parametrize("rung", [1, 2, 3, 4, None])
def test_exact_zeros_are_dropped_and_count_as_positive(rung):
    device = make_device()
    layer, down = Convolution(device, rung), device.download
    R, s, (bias, stabilizer, dropped) = edge(layer, down, [0, 0])
    assert (s[:, 0] == 0).all()
    assert (s[:, 1:] == R[:, 1:] / 2).all()
    assert (dropped == R[:, 0].sum(axis=(1, 2))).all()  # whole numbers: exact
    assert (bias == 0).all()
    assert (stabilizer == 0).all()
    for a_value in (1.0, -0.0):  # z = -0.0 is no negative number either
        R, s, (_, stabilizer, dropped) = edge(layer, down, [0.5, 0.25], a_value=a_value)
        assert (s[:, 0] == R[:, 0] / np.array([0.5, 0.25]).reshape(2, 1, 1)).all()
        assert (dropped == 0).all()
    R, s, (_, _, dropped) = edge(layer, down, [0.5, -2], signed=False)
    assert (s[1, 1:] == 0).all()  # 2 - 2
    assert dropped.tolist() == [0, R[1, 1:].sum()]


@pytest.mark.parametrize("rung", [1, 2, 3, 4, None])
def test_an_overflown_denominator_gives_nan(rung):
    device = make_device()
    _, s, _ = edge(Convolution(device, rung), device.download, [0.5, 0.5], overflow=True)
    assert np.isnan(s[1, 1:, 1, 2]).all()
    assert np.isnan(s).sum() == 2


@pytest.mark.parametrize("rung", [1, 2, 3, 4, None])
def test_nan_is_not_taken_for_a_number(rung):
    device = make_device()
    layer = Convolution(device, rung)
    op = Operation("conv2d", (1, 4), Window((1, 1)))
    a = np.array([1, np.nan, -1, 2], np.float32).reshape(1, 1, 1, 4)
    w = layer.prepare(op, np.ones((1, 1, 1, 1), np.float32))
    for part, kept in ((PLUS, [1, np.nan, 0, 2]), (MINUS, [0, np.nan, -1, 0])):
        z = device.download(layer.preactivation(op, device.upload(a), [(part, w)], None))
        np.testing.assert_array_equal(z.ravel(), np.array(kept, np.float32))


# One look at a for a pair of terms; one copy of a dense layer's weights.


class Noting(EmulatedDevice):
    """The device, noting the structs Geometry, Terms and Ending of each launch."""

    def launch(self, function, grid, block, arguments, shared=0):
        if len(arguments) == 3:
            self.structs.append(arguments)
        super().launch(function, grid, block, arguments, shared)


@emulated
@pytest.mark.parametrize(
    ("parts", "terms"),
    [((PLUS, MINUS), 1), ((MINUS, ONE, PLUS), 2), ((PLUS, PLUS), 2), ((A, MINUS), 2), ((DOUBLED, PLUS), 2)],
)
@pytest.mark.parametrize(("rung", "groups"), [(1, 1), (2, 1), (None, 4)])
def test_a_pair_takes_one_look(rung, groups, parts, terms):
    device = Noting()
    device.structs = []
    layer, rng = Convolution(device, rung), np.random.default_rng(0)
    op = Operation("conv2d", (4, 5), Window((2, 3)), groups)
    a = rng.standard_normal((2, 4, 4, 5)).astype(np.float32)
    weights = [rng.standard_normal((8, 4 // groups, 2, 3)).astype(np.float32) for _ in parts]
    ready = [(p, layer.prepare(op, w)) for p, w in zip(parts, weights, strict=True)]
    z = device.download(layer.preactivation(op, device.upload(a), ready, None))
    ((_, read, _),) = device.structs
    assert read["count"] == terms
    read = read["term"][:terms]
    assert (read["w"] != read["w_negative"]).sum() == len(parts) - terms
    assert (read["part"][read["w"] != read["w_negative"]] == 0).all()
    want = REFERENCE.preactivation(op, wide(a), list(zip(parts, map(wide, weights), strict=True)), None)
    np.testing.assert_allclose(z, want, rtol=0, atol=1e-5 * np.abs(want).max())


# J, K: whether step 3 can read the weights as they came (multiples of the tile), and whether not.
@pytest.mark.parametrize(("inputs", "outputs", "copies"), [(128, 32, 1), (100, 30, 2)])
def test_dense_weights_lie_once_until_a_large_batch_comes(inputs, outputs, copies):
    device, rng, op = make_device(), np.random.default_rng(0), Operation("dense")
    layer, w = Convolution(device), rng.standard_normal((outputs, inputs)).astype(np.float32)
    ready = layer.prepare(op, w)
    few, many, again = (rng.standard_normal((n, inputs)).astype(np.float32) for n in (32, 33, 40))

    def run(a):
        R = rng.standard_normal((len(a), outputs)).astype(np.float32)
        there = device.download(layer.preactivation(op, device.upload(a), [(A, ready)], None))
        back, _ = layer.redistribute(op, device.upload(a), [(A, ready)], device.upload(R))
        want = REFERENCE.forward(op, wide(a), wide(w))
        np.testing.assert_allclose(there, want, rtol=0, atol=1e-5 * np.abs(want).max())
        want, _ = REFERENCE.redistribute(op, wide(a), [(A, wide(w))], wide(R), 1)
        np.testing.assert_allclose(device.download(back), want, rtol=0, atol=1e-5 * np.abs(want).max())

    run(few)
    assert ready.nbytes == w.nbytes
    assert {name.split("_")[0] for name in device.launches} <= {"dense", "sum"}
    run(many)
    there, back = ready.there, ready.back
    assert (back.w is ready.plain) == (copies == 1)
    padded = sum(x.w.nbytes for x in (there, back)[:copies])
    assert ready.nbytes == w.nbytes + padded + sum(x.taps.nbytes + x.first.nbytes for x in (there, back))
    run(again)
    assert (ready.there, ready.back) == (there, back)


@emulated
def test_dense_reads_a_slice_that_is_not_aligned():
    device = Noting()
    device.structs = []
    layer, op = Convolution(device), Operation("dense")
    rows = device.upload(np.arange(13, dtype=np.float32))[1:].reshape(1, 12)
    z = layer.forward(op, rows, layer.prepare(op, np.ones((2, 12), np.float32)))
    assert device.download(z).tolist() == [[78, 78]]
    ((_, read, _),) = device.structs
    assert read["term"][0]["p"] % 16 == 0  # a GPU reads 16 bytes at a time


# 3xTF32.


def error(layer, op, a, w):
    device = layer.device
    z = device.download(layer.forward(op, device.upload(a), layer.prepare(op, w)))
    expected = REFERENCE.forward(op, wide(a), wide(w))
    return np.sqrt(np.mean((z - expected) ** 2)) / np.abs(expected).max()


def tf32_errors(device):
    """Root mean square errors of rungs 3 and 4 to the output's scale, on mixed and on positive numbers."""
    rng = np.random.default_rng(7)
    op = Operation("conv2d", (6, 6), Window((3, 3), padding=(1, 1, 1, 1)))
    errors = []
    for sign in (np.positive, np.abs):  # positive ones show a rounding that is one-sided
        a = sign(rng.standard_normal((1, 64, 6, 6))).astype(np.float32)
        w = sign(rng.standard_normal((16, 64, 3, 3))).astype(np.float32)
        errors.append([error(Convolution(device(), rung), op, a, w) for rung in (3, 4)])
    return errors


HIGH_LOW = "                for (int i = 0; i < 2; ++i) mma_m16n8k8_tf32(fresh[i], p_high[i], w_low);"
LOW_HIGH = "                for (int i = 0; i < 2; ++i) mma_m16n8k8_tf32(fresh[i], p_low[i], w_high);"
LEFT_OUT = {"no w low": [HIGH_LOW], "no p low": [LOW_HIGH], "1xTF32": [HIGH_LOW, LOW_HIGH]}


def test_three_products_are_as_accurate_as_float32():
    for plain, tensor in tf32_errors(make_device):
        assert tensor <= (4 if REAL else 2) * plain  # a GPU's tensor cores add with truncation


@emulated
@pytest.mark.parametrize("fault", LEFT_OUT)
def test_fewer_products_are_not(fault, seed):
    seed(fault)
    for plain, tensor in tf32_errors(make_device):
        assert tensor > 20 * plain  # 10 bits instead of 23: some thousand times, less what averages out


# What is refused.


def test_what_cannot_be_served_is_refused():
    device = make_device()
    with pytest.raises(BadBackend, match="no rung 5"):
        Convolution(device, 5)
    with pytest.raises(BadBackend, match=r"rung 4 needs compute capability 8\.0"):
        Convolution(make_device(capability=(7, 5)), 4)
    with pytest.raises(BadBackend, match="float32 only"):
        Convolution(device, 3).rung(np.float64)
    with pytest.raises(BadBackend, match="not int32"):
        Convolution(device).rung(np.int32)
    with pytest.raises(BadBackend, match="not sum_pool2d"):
        Convolution(device).prepare(Operation("sum_pool2d"), np.ones((1, 1, 1, 1), np.float32))
    op, layer = Operation("dense"), Convolution(device)
    w = layer.prepare(op, np.ones((2, 3), np.float32))
    a = device.zeros((1, 3), np.float32)
    with pytest.raises(BadBackend, match="more than 3 terms"):
        layer.preactivation(op, a, [(A, w)] * 4, None)
    with pytest.raises(BadBackend, match="bias of shape"):
        layer.preactivation(op, a, [(A, w)], device.zeros((3,), np.float32))
    with pytest.raises(BadBackend, match="float64 among arrays of float32"):
        layer.quotient(op, a, [(A, w)], None, device.zeros((1, 2), float), device.zeros((1,), np.float32))
    with pytest.raises(BadBackend, match="R has shape"):
        layer.quotient(op, a, [(A, w)], None, a, device.zeros((1,), np.float32))


def test_indices_that_do_not_fit_are_refused():
    op = Operation("conv2d", (2**10, 2**10), Window((3, 3), padding=(1, 1, 1, 1)))
    (g, _), _ = cuda_convolution._maps(op, (64, 64, 3, 3))
    cuda_convolution._check_indices(g, 2**10)
    with pytest.raises(BadBackend, match=r"2048 samples .* fewer"):
        cuda_convolution._check_indices(g, 2**11)  # 2^31 pixels
    (g, _), _ = cuda_convolution._maps(op, (64, 2**11, 3, 3))
    with pytest.raises(BadBackend, match=r"1 samples .* fewer"):
        cuda_convolution._check_indices(g, 1)  # 2^31 numbers in one sample


# Seeded faults. One translation unit holds all the faulty units, each in a namespace of its own, and is not
# optimised much: compiling is what takes the time.


class Seeded(EmulatedDevice):
    """The device, with a fault in one unit."""

    fault = ""

    def function(self, source, options, name):
        if source == cuda.source(EVERY_FAULT[self.fault][0]):
            source, name = every_fault(), f"{name}_{list(EVERY_FAULT).index(self.fault)}"
        return super().function(source, options, name)


@functools.cache
def every_fault():
    """Give the text of all faulty units; in kernel k_3 is fault 3."""
    return '#pragma GCC optimize("O1")\n' + "\n".join(
        faulty(i, *fault) for i, fault in enumerate(EVERY_FAULT.values())
    )


def faulty(i, unit, changes):
    text = cuda.source(unit)
    for right, wrong in changes:
        assert right in text, f"not in {unit}: {right}"
        text = text.replace(right, wrong)
    text = re.sub(
        r"(extern \"C\" __global__ void (?:__launch_bounds__\([^)]*\)\s*)?\w+)\(", rf"\1_{i}(", text
    )
    return f"inline namespace fault_{i} {{\n{text}\n}}"


@pytest.fixture
def seed(monkeypatch):
    """Make every device of this module one with a fault."""

    def with_fault(fault):
        made = type("_", (Seeded,), {"fault": fault})
        monkeypatch.setattr(devices, "EmulatedDevice", made)

    return with_fault


# rung, case, unit, what stands there, what is put in its place
FAULTS = {
    "no barrier after a tile": (
        2, "padded", "convolution_tiled",
        "__syncthreads();  // nobody reads any more", "//",
    ),
    "no barrier before a tile": (
        3, "padded", "convolution_blocked",
        "__syncthreads();  // this tile has come", "//",
    ),
    "no wait for the copies": (3, "padded", "convolution_blocked", "cp_async_wait<0>();", ""),
    "columns past the last": (
        2, "dense", "convolution_tiled",  # one column: a wild write would end the test run itself
        "at.inside = index < g.columns", "at.inside = index <= g.columns",
    ),
    "rows past the last": (
        3, "dense", "convolution_blocked",
        "if (at.inside && row < g.rows)", "if (at.inside)",
    ),
    "inner channels past the last": (
        4, "padded", "convolution_tf32x3",
        "seen && k + slice() < rest", "seen",
    ),
    "wrong row of a fragment": (
        4, "padded", "convolution_tf32x3",
        "i / 4 * 16 + i % 2 * 8", "i / 4 * 16 + i % 2 * 4",
    ),
    "bias forgotten": (
        1, "padded", "convolution_naive",
        "const REAL z = value + b;", "const REAL z = value;",
    ),
    "tap outside of the image": (
        2, "padded", "convolution_tiled",
        "(unsigned)x < (unsigned)g.source_width", "true",
    ),
    "wrong group": (
        3, "grouped", "convolution_blocked",
        "(kept(GROUP) * g.inner + c + slice())", "(c + slice())",
    ),
    "sums of another sample": (
        2, "padded", "convolution_finish",
        "(long long)blockIdx.x * columns_per_sample",
        "(long long)(samples - 1 - blockIdx.x) * columns_per_sample",
    ),
    "sums of half a tile": (
        2, "strided", "convolution_tiled",
        "for (int j = 0; j < SLICES; ++j)", "for (int j = 0; j < SLICES / 2; ++j)",
    ),
    "gate forgotten": (1, "strided", "convolution_naive", "if (e.gate && !", "if (false && !"),
    "a split forgotten": (
        3, "split", "convolution_finish",
        "split < g.splits;", "split + 1 < g.splits;",
    ),
    "a split's end": (
        3, "split", "convolution_blocked",
        "(split + 1) / g.splits) - begin", "(split + 1) / g.splits) - begin - 1",
    ),
    "terms that do not add up": (1, "strided", "convolution_naive", "if (t > 0) R += out[o];", ""),
    "another part": (
        2, "strided", "convolution_tiled",
        "if (part == 2) return a > 0 ? 0 : a;", "",
    ),
    "a phase's pixel": (
        2, "strided", "convolution_tiled",
        "phase_y + g.phases_y * at.y", "g.phases_y * at.y",
    ),
    "a slice forgotten": (
        None, "dense", "dense",
        "for (int i = 0; i < WARPS; ++i) value", "for (int i = 1; i < WARPS; ++i) value",
    ),
    "the end of a row": (None, "dense", "dense", "i < left ? x[i] : (REAL)0", "x[i]"),
    "the weights of a+ for a-": (1, "strided", "convolution_naive", "p < 0 ? w_negative : w", "w"),
    "the other tile": (2, "strided", "convolution_tiled", "p_tile[k][tx] < 0]", "p_tile[k][tx] > 0]"),
    "a+ alone": (None, "depthwise", "convolution_thin", "a < 0 ? negative.x[r] : ", ""),
    "thin tap": (
        None, "depthwise", "convolution_thin",
        "(unsigned)x >= (unsigned)g.source_width", "false",
    ),
}  # fmt: skip


def under_all_schedules(name, rung):
    for schedule in (2, 0, 1):
        check(name, rung, schedule=schedule)


EDGES = {
    "sign of zero": ("e.is_signed && z < 0", "e.is_signed && z <= 0"),
    "dropped": ("sums.sum[2] += R;", "sums.sum[2] += 0;"),
    "overflow": ("denominator - denominator != 0", "false"),
}
EVERY_FAULT = {
    "none": ("convolution_tiled", []),
    **{name: (unit, [change]) for name, (_, _, unit, *change) in FAULTS.items()},
    **{name: ("convolution_naive", [change]) for name, change in EDGES.items()},
    **{name: ("convolution_tf32x3", [(line, ";") for line in lines]) for name, lines in LEFT_OUT.items()},
}


@emulated
def test_without_a_fault_none_is_found(seed):
    seed("none")
    under_all_schedules("padded", 2)


@emulated
@pytest.mark.parametrize("fault", FAULTS)
def test_seeded_faults_are_found(fault, seed):
    rung, name, *_ = FAULTS[fault]
    seed(fault)
    with pytest.raises((AssertionError, KernelFault)):  # one schedule must show it
        under_all_schedules(name, rung)


@emulated
@pytest.mark.parametrize(
    ("fails", "fault"),
    [
        (test_exact_zeros_are_dropped_and_count_as_positive, "sign of zero"),
        (test_exact_zeros_are_dropped_and_count_as_positive, "dropped"),
        (test_an_overflown_denominator_gives_nan, "overflow"),
    ],
)
def test_seeded_faults_of_the_edges_are_found(fails, fault, seed):
    seed(fault)
    with pytest.raises(AssertionError):
        fails(1)


# What the other tests rely on.


@emulated
def test_every_unit_that_is_compiled_is_listed(monkeypatch):
    seen = set()
    function = EmulatedDevice.function
    monkeypatch.setattr(
        EmulatedDevice, "function", lambda self, *what: seen.add(what[:2]) or function(self, *what)
    )
    for rung, dtype in LADDER:
        check("depthwise", rung, dtype)
        check("split", rung, dtype)
        check("dense", rung, dtype)
    ours = [unit for unit in cuda.UNITS if unit.startswith("convolution") or unit == "dense"]
    assert seen == {(cuda.source(unit), options) for unit in ours for options in cuda.UNITS[unit]}
