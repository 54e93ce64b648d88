"""Backend `cpu` against the float64 reference, and what it promises beside the right numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import MAPS, Case, cases, fixed_cases

from lrpref import exact, kernels
from lrpref.errors import BadBackend
from lrpref.kernels import compiled, cpu, pooling, rows, shifted
from lrpref.kernels.operations import A, Array, Operation, Part, Sums, Window
from lrpref.kernels.signs import negative, ones_like, positive

CPU, REFERENCE = kernels.backend("cpu"), kernels.backend("numpy")

# float32: a sum of n products is wrong by at most n 2**-24 of the sum of their magnitudes, by about its root
# in practice. Here n <= 1200, and that sum is less than 40 times the largest result: 2**-24 40 sqrt(1200)
# = 8e-5 would be the worst luck of all; what was seen is 1e-6, and 1e-5 is promised.
# float64: the same with 2**-53, and a hundred times room.
ERROR = {"float32": 1e-5, "float64": 1e-12}

PARTS: dict[str, Any] = {
    "a": A, "a+": positive(A), "a-": negative(A), "1": ones_like(A), "another": Part("2 a", lambda a: 2 * a),
}  # fmt: skip


def error(got: Array, want: Array, scale: float | None = None) -> float:
    """Largest difference, relative to the largest magnitude wanted, or to another scale."""
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    scale = float(np.abs(want).max(initial=0)) if scale is None else float(scale)
    return float(np.abs(got - want).max(initial=0)) / max(scale, 1e-300)


def typed(c: Case, dtype: str) -> Case:
    a, w, s = (x.astype(dtype) for x in (c.a, c.w, c.s))
    return Case(c.op, a, w, s, None if c.b is None else c.b.astype(dtype), c.rng, c.most)


def wide(x: Any) -> Any:
    """The same numbers in float64, for the reference."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x


def same(got: Array, want: Array) -> bool:
    return got.shape == want.shape and got.dtype == want.dtype and bool((got == want).all())


# What the backend is compared on. Each returns nothing and raises AssertionError.


def compare_maps(c: Case) -> None:
    most = ERROR[str(c.a.dtype)]
    for name, x in (("forward", c.a), ("transpose", c.s)):
        got = getattr(CPU, name)(c.op, x, c.w)
        want = getattr(REFERENCE, name)(c.op, wide(x), wide(c.w))
        assert got.dtype == c.a.dtype
        assert error(got, want) <= most, name


def compare_steps(
    c: Case, terms: list[Any], eps: Array, signed: bool = True, sign: int = 0, q: float = 1
) -> None:
    """All four steps, z known and not, where the stabilizer keeps denominators away from 0."""
    op, dtype = c.op, c.a.dtype
    most = ERROR[str(dtype)]
    R, own = (c.rng.normal(size=c.s.shape).astype(dtype) for _ in range(2))
    terms = [(p.astype(dtype) if isinstance(p, np.ndarray) else p, w.astype(dtype)) for p, w in terms]
    wide_terms = [(wide(p), wide(w)) for p, w in terms]
    z, wanted_z = CPU.preactivation(op, c.a, terms, c.b), None
    wanted_z = REFERENCE.preactivation(op, wide(c.a), wide_terms, wide(c.b))
    assert error(z, wanted_z) <= most, "z"
    gate = (own, sign) if sign else None
    # s = R / z is as wrong as z, times s / z: compared where the reference is given our z
    for known in (None, z):
        s, sums = CPU.quotient(op, c.a, terms, c.b, R, eps, signed, known, gate)
        wanted, wanted_sums = REFERENCE.divide(
            wide(z), wide(c.b), wide(R), wide(eps), signed, gate and (wide(own), sign)
        )
        assert s.dtype == dtype
        assert error(s, wanted) <= most, "s"
        weight = np.abs(wanted).sum() * (1 if c.b is None else np.abs(c.b).max(initial=0)) + np.abs(R).sum()
        for account, got, want in zip(Sums._fields, sums, wanted_sums, strict=True):
            assert got.dtype == np.float64
            assert error(got, want, weight) <= most, account
    R, to_inputs = CPU.redistribute(op, c.a, terms, c.s, q)
    wanted, wanted_sum = REFERENCE.redistribute(op, wide(c.a), wide_terms, wide(c.s), q)
    assert error(R, wanted) <= most, "R"
    assert to_inputs.dtype == np.float64
    assert error(to_inputs, wanted_sum, np.abs(wanted).sum()) <= most, "to inputs"
    # the sum is that of the very numbers that are handed down, to float64's rounding
    assert error(to_inputs, R.astype(np.float64).reshape(len(R), -1).sum(axis=1), np.abs(R).sum()) <= 1e-14


def compare_exactly(c: Case, count: int, q: float, eps: float, signed: bool, sign: int) -> None:
    """Dyadic numbers in float64: every sum is exact, so no bit may differ; exact zeros are dropped."""
    terms = [(c.a, c.w), *((c.like(c.a), c.like(c.w)) for _ in range(count - 1))]
    R, own = c.like(c.s), c.like(c.s)
    stabilizer, gate = np.full(len(R), eps), (own, sign) if sign else None

    def quotients(table: Any) -> Iterator[Array]:
        for z in (None, REFERENCE.preactivation(c.op, c.a, terms, c.b)):
            s, sums = table.quotient(c.op, c.a, terms, c.b, R, stabilizer, signed, z, gate)
            yield from (s, sums.dropped)

    results = []
    for table in (CPU, REFERENCE):
        results.append([
            table.preactivation(c.op, c.a, terms, c.b),
            *quotients(table),
            *table.redistribute(c.op, c.a, terms, c.s, q),
        ])  # fmt: skip
    for got, want in zip(*results, strict=True):
        assert same(got, want)


def compare_pools(c: Case) -> None:
    assert same(CPU.max_pool2d(c.a, c.op), REFERENCE.max_pool2d(c.a, c.op))
    for ties in ("first", "split"):
        got, want = (t.max_pool2d_winners(c.a, c.op, ties) for t in (CPU, REFERENCE))
        assert same(got, want), ties


# Small cases of every map: odd geometry, groups, windows in the padding.


@pytest.mark.parametrize("name", MAPS)
class TestSmallCases:
    @given(st.data())
    def test_maps_and_transposes(self, name: str, data: st.DataObject) -> None:
        c = data.draw(cases(name)).floats()
        for dtype in ERROR:
            compare_maps(typed(c, dtype))

    @given(
        st.data(), st.integers(1, 2), st.sampled_from([1, 2, -0.5]), st.sampled_from([0.0, 0.5]),
        st.booleans(), st.sampled_from([-1, 0, 1]),
    )  # fmt: skip
    def test_no_bit_differs_where_sums_are_exact(
        self, name: str, data: st.DataObject, count: int, q: float, eps: float, signed: bool, sign: int
    ) -> None:
        compare_exactly(data.draw(cases(name)), count, q, eps, signed, sign)

    @pytest.mark.parametrize("dtype", ERROR)
    @pytest.mark.parametrize("parts", [["a"], ["1"], ["a+", "a-"], ["another", "a-"]], ids=" ".join)
    def test_every_part(self, name: str, parts: list[str], dtype: str) -> None:
        for c in fixed_cases(name, 8):
            c = typed(c.floats(), dtype)
            terms = [(PARTS[part], c.rng.normal(size=c.w.shape)) for part in parts]
            compare_steps(c, terms, np.linspace(1, 2, len(c.a)), q=-0.5)


@given(st.data())
def test_max_pooling_and_its_winners(data: st.DataObject) -> None:
    compare_pools(data.draw(cases("select2d")))


# Convolutions that cross every boundary: of vectors, tiles, channels at once, rows and outputs of a block.


def convolution(
    seed: int, n: int, channels: int, outputs: int, size: tuple[int, int], kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1), padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    dilation: tuple[int, int] = (1, 1), groups: int = 1,
) -> Case:  # fmt: skip
    rng = np.random.default_rng(seed)
    op = Operation("conv2d", size, Window(kernel, stride, padding, dilation), groups)
    a, w = rng.normal(size=(n, channels, *size)), rng.normal(size=(outputs, channels // groups, *kernel))
    s, b = rng.normal(size=(n, outputs, *op.window.positions(size))), rng.normal(size=(outputs, 1, 1))
    return Case(op, a, w, s, b, rng, 1)


LARGER = {
    "3 x 3": convolution(0, 2, 37, 70, (19, 23)),
    "one pixel": convolution(1, 3, 40, 9, (1, 1)),
    "1 x 1": convolution(2, 2, 300, 11, (7, 5), (1, 1), padding=(0, 0, 0, 0)),
    "1 x 1, stride 2": convolution(3, 1, 19, 33, (9, 12), (1, 1), (2, 2), (0, 0, 0, 0)),
    "3 x 3, stride 2": convolution(4, 2, 35, 17, (21, 18), stride=(2, 2)),
    "7 x 7, stride 2": convolution(5, 1, 10, 20, (31, 29), (7, 7), (2, 2), (3, 3, 3, 3)),
    "stride 3 and 1, asymmetric": convolution(6, 2, 9, 10, (17, 20), (2, 4), (3, 1), (0, 2, 3, 1)),
    "stride beyond the kernel": convolution(7, 1, 5, 9, (16, 15), (2, 1), (3, 4), (1, 0, 0, 2)),
    "dilated": convolution(8, 2, 12, 13, (15, 22), padding=(2, 3, 4, 0), dilation=(2, 3)),
    "dilated, stride 2": convolution(
        9, 1, 12, 13, (15, 22), stride=(2, 2), padding=(2, 2, 2, 2), dilation=(2, 3)
    ),
    "groups": convolution(10, 2, 30, 45, (11, 13), groups=5),
    "depthwise": convolution(11, 2, 21, 21, (14, 17), groups=21),
    "depthwise, stride 2": convolution(12, 1, 6, 12, (14, 17), stride=(2, 2), groups=6),
    "mostly padding": convolution(13, 1, 4, 5, (3, 2), (3, 3), padding=(5, 4, 6, 3)),
    "wide": convolution(14, 1, 3, 8, (5, 311)),
    "no padding": convolution(15, 1, 8, 3, (26, 9), (5, 2), padding=(0, 0, 0, 0)),
    "short of the far sides": convolution(16, 1, 5, 9, (16, 15), (2, 3), (3, 4), (1, -2, 0, -1)),
}


def transposed(c: Case) -> Case:
    """The way back: from the positions of a convolution's window to its image."""
    b = c.rng.normal(size=(c.a.shape[1], 1, 1))
    return Case(replace(c.op, name="conv_transpose2d"), c.s, c.w, c.a, b, c.rng, 1)


BACK = ("stride 3 and 1, asymmetric", "short of the far sides", "dilated, stride 2", "groups")
LARGER |= {f"transposed, {name}": transposed(LARGER[name]) for name in BACK}


@pytest.mark.parametrize("cache", [1 << 20, 1 << 12], ids=["large blocks", "small blocks"])
@pytest.mark.parametrize("name", LARGER)
def test_larger_convolutions(monkeypatch: pytest.MonkeyPatch, name: str, cache: int) -> None:
    monkeypatch.setattr(shifted, "_CACHE", cache)
    for dtype in ERROR:
        c = typed(LARGER[name], dtype)
        compare_maps(c)
        compare_steps(c, [(A, c.w)], np.linspace(9, 8, len(c.a)), signed=dtype == "float32", sign=1)


@pytest.mark.parametrize("name", ["3 x 3", "dilated, stride 2", "groups"])
def test_three_terms_with_bounds_as_numbers(name: str) -> None:
    # z-box: the bounds are numbers that broadcast to a
    c = typed(LARGER[name], "float32")
    low, high = (c.rng.normal(size=(c.a.shape[1], 1, 1)) for _ in range(2))
    terms = [(A, c.w), (low, np.minimum(-c.w, 0)), (high, np.minimum(c.w, 0))]
    compare_steps(c, terms, np.full(len(c.a), 5.0), sign=-1)


@pytest.mark.parametrize("samples", [1, 3, 40])  # streamed, and more than are streamed
def test_larger_dense_layers(samples: int) -> None:
    # 4099 inputs: two runs of columns and three left over; 131 outputs: no multiple of 4
    rng = np.random.default_rng(samples)
    a, w, s = (rng.normal(size=shape) for shape in ((samples, 4099), (131, 4099), (samples, 131)))
    for dtype in ERROR:
        c = typed(Case(Operation("dense"), a, w, s, rng.normal(size=131), rng, 1), dtype)
        compare_maps(c)
        compare_steps(c, [(positive(A), c.w), (negative(A), -c.w)], np.linspace(90, 100, samples), sign=1)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 2), (1, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 3)])
def test_larger_pooling(kernel: tuple[int, int], stride: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for padding in ((0, 0, 0, 0), (0, 1, 1, 0)):
        op = Operation("sum_pool2d", (21, 34), Window(kernel, stride, padding))
        s = rng.normal(size=(2, 5, *op.window.positions(op.size)))
        a, w = rng.integers(-3, 4, (2, 5, 21, 34)) / 1.0, rng.uniform(0.1, 1, s.shape[2:])
        compare_pools(Case(op, a, w, s, None, rng, 1))
        for dtype in ERROR:
            c = typed(Case(op, a, w, s, None, rng, 1), dtype)
            compare_maps(c)
            compare_steps(c, [(A, c.w)], np.full(2, 20.0))


# Denominators.


def one_pixel(dtype: str, *values: float) -> tuple[Operation, Array, Array]:
    """A 1 x 1 convolution with weight 1: z is a."""
    a = np.array(values, dtype).reshape(1, 1, 1, -1)
    return Operation("conv2d", a.shape[2:], Window((1, 1))), a, np.ones((1, 1, 1, 1), dtype)


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("known", [False, True])
def test_the_stabilizer_takes_the_sign_of_z_and_zeros_are_dropped(dtype: str, known: bool) -> None:
    op, a, w = one_pixel(dtype, 3.0, -3.0, 0.0, -0.0, -1.0)
    R, z = np.full_like(a, 8), a if known else None
    s, sums = CPU.quotient(op, a, [(A, w)], None, R, np.ones(1), True, z)
    assert s.ravel().tolist() == [2, -2, 8, 8, -4]
    assert sums.stabilizer == 2 + 2 + 8 + 8 + 4
    s, sums = CPU.quotient(op, a, [(A, w)], None, R, np.ones(1), False, z)  # unsigned: -1 + 1 is 0
    assert s.ravel().tolist() == [2, -4, 8, 8, 0]
    assert (sums.stabilizer, sums.dropped) == (2 - 4 + 8 + 8, 8)
    s, sums = CPU.quotient(op, a, [(A, w)], None, R, np.zeros(1), True, z, (np.array(a) + 1, 1))
    assert s.ravel().tolist() == [8 / 3 if dtype == "float64" else np.float32(8) / np.float32(3), 0, 0, 0, 0]
    assert sums.dropped == 16  # z = 0 twice under an open gate; where it is shut, R counts as 0
    assert sums.stabilizer == sums.bias == 0


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_denominator_that_is_not_finite_gives_nan(value: float, dtype: str, known: bool) -> None:
    op, a, w = one_pixel(dtype, 1.0, value, 2.0)
    s, sums = CPU.quotient(op, a, [(A, w)], None, np.ones_like(a), np.ones(1), True, a if known else None)
    assert np.isnan(s.ravel()).tolist() == [False, True, False]
    assert np.isnan(sums.stabilizer)
    R, to_inputs = CPU.redistribute(op, np.ones_like(a), [(A, w)], s)
    assert np.isnan(R.ravel()).tolist() == [False, True, False]
    assert np.isnan(to_inputs)


def test_an_overflow_of_float32_is_not_lost() -> None:
    op, a, w = one_pixel("float32", 1e30, 1.0)
    s, _ = CPU.quotient(op, a, [(A, w * 1e30)], None, np.ones_like(a), np.zeros(1))
    assert np.isnan(s.ravel()[0])


def test_a_window_of_zeros_is_exactly_zero_beside_numbers() -> None:
    # what Winograd's algorithm would not give: its R would explode where this one is dropped
    c = convolution(1, 1, 5, 8, (9, 40))
    c.a[..., 20:] = 0
    for dtype in ERROR:
        a, w, R = (x.astype(dtype) for x in (c.a, c.w, c.s))
        s, sums = CPU.quotient(c.op, a, [(A, w)], None, R, np.zeros(1))
        assert (s[..., 21:] == 0).all()
        assert abs(sums.dropped - R[..., 21:].sum(dtype=np.float64)) <= 1e-12 * np.abs(R).sum()


@pytest.mark.parametrize("shape", [(), (1,), (1, 8, 1, 1), (8, 11, 13), (2, 1, 1, 1)])
def test_a_bias_of_any_shape_is_taken(shape: tuple[int, ...]) -> None:
    c = convolution(3, 2, 5, 8, (11, 13))
    b = c.rng.normal(size=shape)
    c = typed(Case(c.op, c.a, c.w, c.s, b, c.rng, 1), "float64")
    compare_steps(c, [(A, c.w)], np.full(2, 20.0))


@pytest.mark.parametrize("dtype", ERROR)
def test_sums_over_a_sample(dtype: str) -> None:
    # 1e25 squared overflows float32: the sums are float64's
    x = (np.random.default_rng(0).normal(size=(3, 7, 31, 5)) * 1e25).astype(dtype)
    flat = x.astype(np.float64).reshape(3, -1)
    assert error(CPU.per_sample(x), flat.sum(axis=1), np.abs(flat).sum()) <= 1e-14
    assert error(CPU.mean_square(x), (flat**2).mean(axis=1)) <= 1e-14
    assert error(CPU.per_sample(x[:, 0, 0]), x[:, 0, 0].sum(axis=1, dtype=np.float64)) <= 1e-14


def test_relu() -> None:
    x = np.array([[-1.0, 0.0, 2.0, np.nan, np.inf, -np.inf]], np.float32)
    assert CPU.activation("relu", x).tolist()[0][:3] == [0, 0, 2]
    assert np.isnan(CPU.activation("relu", x)[0, 3])
    assert CPU.activation("relu", x).tolist()[0][4:] == [np.inf, 0]
    assert same(CPU.activation("clip", x[:, :3], 0, 1), REFERENCE.activation("clip", x[:, :3], 0, 1))


# Whatever the layout, the batch, the threads: the same numbers, or a clear error.


def results(c: Case, w: Any = None, a: Array | None = None, s: Array | None = None) -> list[Array]:
    a, w, s = c.a if a is None else a, c.w if w is None else w, c.s if s is None else s
    R, eps = np.asarray(np.cos(c.s), c.s.dtype), np.full(len(c.a), 4.0)
    terms = [(positive(A), w)]
    quotient, sums = CPU.quotient(c.op, a, terms, c.b, R, eps)
    return [
        CPU.preactivation(c.op, a, terms, c.b), quotient, *sums, *CPU.redistribute(c.op, a, terms, s),
    ]  # fmt: skip


def every_kind(dtype: str = "float32") -> Iterator[Case]:
    for name in MAPS:
        yield from (typed(c.floats(), dtype) for c in fixed_cases(name, 2))
    yield from (typed(LARGER[name], dtype) for name in ("3 x 3", "7 x 7, stride 2", "groups"))


def test_the_same_call_gives_the_same_bits() -> None:
    for c in every_kind():
        for _ in range(5):
            assert all(map(same, results(c), results(c)))


def test_prepared_weights_give_the_same_bits() -> None:
    for c in every_kind():
        prepared = CPU.prepare(c.op, c.w)
        assert CPU.prepare(c.op, prepared) is prepared
        assert prepared.nbytes >= c.w.nbytes
        assert all(map(same, results(c, prepared), results(c)))


def strided(x: Array) -> Array:
    doubled = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    doubled[..., ::2] = x
    return doubled[..., ::2]


def read_only(x: Array) -> Array:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("layout", [np.asfortranarray, strided, read_only])
def test_the_layout_changes_no_bit(layout: Callable[[Array], Array]) -> None:
    for c in every_kind():
        assert all(map(same, results(c, *map(layout, (c.w, c.a, c.s))), results(c)))


def test_a_sample_does_not_depend_on_its_batch() -> None:
    for c in every_kind("float64"):
        if c.op.name != "select2d":  # whose weights have samples
            alone = Case(c.op, c.a[:1], c.w, c.s[:1], c.b, c.rng, 1)
            for one, all_ in zip(results(alone), results(c), strict=True):
                # float64, dense layers and sums in another order: a few roundings
                assert error(all_[:1], one, max(np.abs(one).max(), 1)) <= 1e-13


@pytest.mark.parametrize("dtype", ERROR)
def test_an_empty_batch_gives_an_empty_result(dtype: str) -> None:
    for name in MAPS:
        c = typed(next(fixed_cases(name, 1)), dtype)
        w = c.w[:, :0] if name == "select2d" else c.w
        empty = Case(c.op, c.a[:0], w, c.s[:0], c.b, c.rng, 1)
        assert [x.shape for x in results(empty)] == [
            c.s[:0].shape, c.s[:0].shape, (0,), (0,), (0,), c.a[:0].shape, (0,),
        ]  # fmt: skip
    op = Operation("select2d", (4, 4), Window((2, 2)))
    assert CPU.max_pool2d(np.ones((0, 3, 4, 4), dtype), op).shape == (0, 3, 3, 3)
    assert CPU.max_pool2d_winners(np.ones((0, 3, 4, 4), dtype), op, "first").shape == (4, 0, 3, 3, 3)
    assert CPU.mean_square(np.ones((0, 3), dtype)).shape == (0,)


BITS = """
import hashlib, numpy as np
from test_cpu import every_kind, results
from lrpref.kernels.compiled import threads
# the sums of a batch are added block by block, and the blocks depend on the threads: only arrays here
found = [x.tobytes() for c in every_kind() for x in results(c) if x.ndim > 1]
print(threads(), len(found), hashlib.sha256(b"".join(found)).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    names, said = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), []
    for count in ("1", "3"):
        child = subprocess.run(
            [sys.executable, "-c", BITS], check=True, capture_output=True, text=True,
            cwd=Path(__file__).parent, env=os.environ | dict.fromkeys(names, count),
        )  # fmt: skip
        said.append(child.stdout.split())
    assert [words[0] for words in said] == ["1", "3"]
    assert said[0][1:] == said[1][1:]


FORK = """
import os, numpy as np
from lrpref.kernels.compiled import share
done = []
share(100, lambda first, end: done.extend(range(first, end)))
child = os.fork()
if child == 0:
    done.clear()
    share(100, lambda first, end: done.extend(range(first, end)))
    os._exit(0 if sorted(done) == list(range(100)) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or sorted(done) != list(range(100)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_threads_work_on_in_a_forked_child() -> None:
    environment = os.environ | {"NUMBA_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, env=environment, timeout=60)


def test_an_error_in_a_thread_is_raised() -> None:
    def work(first: int, end: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compiled.share(8, work)


@pytest.mark.parametrize("dtype", ["exact", "longdouble", "int64", "float16"])
@pytest.mark.parametrize("name", MAPS)
def test_other_numbers_are_refused(name: str, dtype: str) -> None:
    c = next(fixed_cases(name, 1))
    cast = exact.get(dtype).array if dtype in ("exact", "longdouble") else lambda x: x.astype(dtype)
    a, w, s = map(cast, (c.a, c.w, c.s))
    message = r"backend 'cpu' serves float32 and float64, not .*: use backend 'numpy'"
    for work in (
        lambda: CPU.forward(c.op, a, w),
        lambda: CPU.transpose(c.op, s, w),
        lambda: CPU.preactivation(c.op, a, [(A, w)], None),
        lambda: CPU.quotient(c.op, a, [(A, w)], None, s, np.ones(len(a))),
        lambda: CPU.redistribute(c.op, a, [(A, w)], s),
        lambda: CPU.per_sample(a),
        lambda: CPU.mean_square(a),
        lambda: CPU.activation("relu", a),
    ):
        with pytest.raises(BadBackend, match=message):
            work()


@pytest.mark.parametrize("name", MAPS)
def test_two_dtypes_at_once_are_refused(name: str) -> None:
    c = next(fixed_cases(name, 1))
    with pytest.raises(BadBackend, match="one dtype, not float64 beside float32"):
        CPU.forward(c.op, c.a.astype(np.float32), c.w)


def test_compiles_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    original = numba.njit

    def njit(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(numba, "njit", njit)
    x = np.array([1.0, 2.0])
    assert compiled.compiled(rows.scale_row.py_func)(x, 2.0) == 6
    assert x.tolist() == [2, 4]


# The comparisons can fail: each of these faults is reported.

Fault = Callable[[Any], Any]


def _argument(index: int, value: Any) -> Fault:
    """The compiled function gets something else for one argument."""

    def fault(original: Any) -> Any:
        def faulty(*arguments: Any) -> Any:
            changed = list(arguments)
            changed[index] = value(changed[index]) if callable(value) else value
            return original(*changed)

        return faulty

    return fault


def _result(change: Callable[[Any], Any]) -> Fault:
    """The function's result is changed."""

    def fault(original: Any) -> Any:
        return lambda *arguments: change(original(*arguments))

    return fault


def _one_row_up(c: Any) -> Any:
    return c._replace(phases=c.phases - [1, 0])


def _zeros_shared_too_often(c: Any) -> Any:
    return c._replace(pitch=c.pitch - 1) if c.pitch > c.columns else c


def _taps_reversed(c: Any) -> Any:
    return c._replace(taps=c.taps[::-1].copy())


def _last_row_forgotten(c: Any) -> Any:
    return c._replace(rows=max(c.rows - 1, 1))


def _one_phase_for_all(found: Any) -> Any:
    return [c._replace(tap=0) for c in found]


def _weights_missing(layout: Any) -> Any:
    w = layout.w.copy()
    w[:8] = 0
    return layout._replace(w=w)


FAULTS: dict[str, tuple[Any, str, Fault]] = {
    "image a row off": (shifted, "forward_correlation", _result(_one_row_up)),
    "zeros of two rows overlap": (shifted, "forward_correlation", _result(_zeros_shared_too_often)),
    "kernel flipped": (shifted, "forward_correlation", _result(_taps_reversed)),
    "a row is not computed": (shifted, "forward_correlation", _result(_last_row_forgotten)),
    "kernel not flipped": (
        shifted, "transposed_correlations", _result(lambda found: [_taps_reversed(c) for c in found]),
    ),
    "strided taps mixed up": (shifted, "transposed_correlations", _result(_one_phase_for_all)),
    "a weight is missing": (shifted.Kernel, "_laid", _result(_weights_missing)),
    "bias left out": (shifted, "_preactivate", _argument(3, lambda b: b * 0)),
    "bias left out of the quotient": (shifted, "_divide", _argument(3, lambda b: b * 0)),
    "gate ignored": (shifted, "_divide", _argument(6, 0)),
    "one stabilizer for all samples": (shifted, "_divide", _argument(7, lambda eps: eps[::-1].copy())),
    "never signed": (shifted, "_divide", _argument(8, False)),
    "sums of other samples": (shifted, "_of_samples", _result(lambda sums: sums[::-1])),
    "part taken for the whole": (cpu, "known_part", _result(lambda found: (found[0], rows.WHOLE))),
    "coefficient left out": (shifted, "_redistribute", _argument(4, lambda q: q * 0 + 1)),
    "second term left out": (shifted, "_redistribute", _argument(0, lambda terms: terms[:1])),
    "all ties win": (pooling, "winners", _argument(3, False)),
    "sums of the wrong sign": (rows, "PARTS", lambda parts: parts | {"a-": rows.POSITIVE}),
}  # fmt: skip


def compare_on_fixed_cases() -> None:
    for dtype in ("float64",):
        for name in ("3 x 3", "3 x 3, stride 2", "stride 3 and 1, asymmetric", "dilated"):
            c = typed(LARGER[name], dtype)
            compare_maps(c)
            terms = [(positive(A), c.w), (negative(A), -2 * c.w)]
            compare_steps(c, terms, np.linspace(10, 20, len(c.a)), sign=1, q=2)
    for c in fixed_cases("select2d", 30):
        compare_pools(c)


def test_the_fixed_cases_pass() -> None:
    compare_on_fixed_cases()


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_reported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    place, function, fault = FAULTS[name]
    monkeypatch.setattr(place, function, fault(getattr(place, function)))
    with pytest.raises(AssertionError):
        compare_on_fixed_cases()


# The cache on disk.

CACHED = """
import numpy as np
from lrpref.kernels.cpu import table
from lrpref.kernels.operations import A, Operation
t, w = table(), np.arange(6.0).reshape(2, 3)
z = t.preactivation(Operation("dense"), np.ones((1, 3)), [(A, t.prepare(Operation("dense"), w))], None)
assert z.tolist() == [[3.0, 12.0]], z
"""


def test_a_broken_cache_is_compiled_anew(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    for spoil in (None, b"", b"\x80\x04not a pickle"):
        files = [path for path in tmp_path.rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert bool(files) == (spoil is not None)
        for path in files:
            path.write_bytes(spoil or b"")
        subprocess.run([sys.executable, "-c", CACHED], env=environment, check=True)


def test_the_cache_is_tied_to_all_sources() -> None:
    # Numba itself looks at the file of a function only, not at those whose functions it calls
    stamp = cpu._dense._cache._cache_file._source_stamp
    assert stamp[1] == compiled._stamp()
    sources = sorted(Path(compiled.__file__).parent.glob("*.py"))
    assert {"rows.py", "tile.py", "shifted.py", "pooling.py", "cpu.py"} <= {path.name for path in sources}
