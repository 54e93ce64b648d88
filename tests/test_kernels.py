"""The reference against explicit loops, and the loops against the formula."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d
from strategies import (
    BACKENDS,
    EVERY_ID,
    EVERY_RULE_AND_LAYER,
    LAYERS,
    MAPS,
    Case,
    cases,
    dyadic,
    fixed_cases,
    lower,
    variants,
)

from lrpref import exact, kernels, relprop, rules
from lrpref.errors import BadBackend
from lrpref.kernels import loops, reference
from lrpref.kernels.operations import Array, Operation, Window
from lrpref.kernels.reference import REFERENCE

PLAIN, COMPILED = loops.PLAIN, loops.COMPILED
TABLES = {"numpy": REFERENCE, "compiled loops": COMPILED}

# Two float64 sums of the same n products differ by at most n 2**-52 of the sum of their magnitudes.
# Here n <= 54 (6 channels of 3 x 3 taps): 1.2e-14, which leaves a factor of 80 for cancellation.
SUMS = 1e-12


def relative_error(got: Array, want: Array) -> float:
    """Largest difference, relative to the largest magnitude wanted."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    assert np.isfinite(got).all()
    return float(np.abs(got - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-300))


def same(got: Array, want: Array) -> bool:
    return got.shape == want.shape and got.dtype == want.dtype and bool((got == want).all())


# What two tables are compared on. Each returns nothing and raises AssertionError.


def compare_maps(table: Any, c: Case) -> None:
    for name, x in (("forward", c.a), ("transpose", c.s)):
        got, want = (getattr(t, name)(c.op, x, c.w) for t in (table, PLAIN))
        assert same(got, want), name  # dyadic values: every sum is exact


def compare_maps_of_floats(table: Any, c: Case) -> None:
    for name, x in (("forward", c.a), ("transpose", c.s)):
        got, want = (getattr(t, name)(c.op, x, c.w) for t in (table, PLAIN))
        assert relative_error(got, want) <= SUMS, name


def compare_quotients(table: Any, c: Case, eps: float = 0.0, signed: bool = True, count: int = 1) -> None:
    R, own = c.rng.normal(size=c.s.shape), c.like(c.s)
    terms, stabilizer = c.terms(count), np.full(len(R), eps)
    known = PLAIN.preactivation(c.op, c.a, terms, c.b)
    for z, gate in ((None, None), (known, None), (None, (own, 1)), (known, (own, -1))):
        (s, sums), (wanted_s, wanted) = (
            t.quotient(c.op, c.a, terms, c.b, R, stabilizer, signed, z, gate) for t in (table, PLAIN)
        )
        assert same(s, wanted_s)  # z is exact, and + and / round correctly
        weight = np.abs(wanted_s).sum() * max(16, eps) + np.abs(R).sum()  # |b| <= 16
        for account in sums._fields:
            # a sum of at most 600 terms, in any order: 600 2**-53 = 7e-14 of their magnitudes
            difference = np.abs(getattr(sums, account) - getattr(wanted, account))
            assert difference.shape == (len(R),)
            assert (difference <= SUMS * weight).all(), account


def compare_redistributions(table: Any, c: Case, coefficient: float = 1, count: int = 1) -> None:
    terms = c.terms(count)
    got, want = (t.redistribute(c.op, c.a, terms, c.s, coefficient) for t in (table, PLAIN))
    assert same(got[0], want[0])  # multiples of 2**-25 below 2**27: exact
    assert same(got[1], want[1])


def compare_pools(table: Any, c: Case) -> None:
    assert same(table.max_pool2d(c.a, c.op), PLAIN.max_pool2d(c.a, c.op))
    for ties in ("first", "split"):
        got, want = (t.max_pool2d_winners(c.a, c.op, ties) for t in (table, PLAIN))
        assert same(got, want), ties


coefficients = st.sampled_from([1, 2, -1, 0.5])
stabilizers = st.sampled_from([0.0, 1 / 256, 0.5])


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("name", MAPS)
class TestAgainstPlainLoops:
    @given(st.data())
    def test_maps_and_their_transposes(self, name: str, table: Any, data: st.DataObject) -> None:
        c = data.draw(cases(name))
        compare_maps(table, c)
        compare_maps_of_floats(table, c.floats())

    @given(st.data(), stabilizers, st.booleans(), st.integers(1, 3))
    def test_quotient(
        self, name: str, table: Any, data: st.DataObject, eps: float, signed: bool, count: int
    ) -> None:
        compare_quotients(table, data.draw(cases(name)), eps, signed, count)

    @given(st.data(), coefficients, st.integers(1, 3))
    def test_redistribute(
        self, name: str, table: Any, data: st.DataObject, coefficient: float, count: int
    ) -> None:
        compare_redistributions(table, data.draw(cases(name)), coefficient, count)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@given(st.data())
def test_max_pooling_and_its_winners(table: Any, data: st.DataObject) -> None:
    compare_pools(table, data.draw(cases("select2d")))


@pytest.mark.parametrize(("name", "rule"), EVERY_RULE_AND_LAYER, ids=EVERY_ID)
def test_every_rule_on_every_layer_with_compiled_loops(name: str, rule: rules.Rule) -> None:
    # terms > 0 keep z away from 0; z is a sum of at most 12 of them, so 12 roundings of 2**-53 per z and as
    # many for c: 1e-12 of max |R| leaves a factor of 400
    layer = exact.get("float64").cast(LAYERS[name][0])
    a = [np.abs(x) + 0.5 for x in lower(name, 1)]
    R = np.random.default_rng(2).uniform(1, 2, layer.forward(REFERENCE, *a).shape)
    rule = rule.with_options(stabilizer=rules.signed(4.0)) if not isinstance(rule, rules.Epsilon) else rule
    one, other = relprop(layer, rule, a, R), relprop(layer, rule, a, R, backend="loops")
    for x, y in zip(one.parts, other.parts, strict=True):
        assert relative_error(y, x) <= 1e-12


# The loops against what is not ours.


@given(st.data())
def test_plain_convolution_is_scipys_correlation(data: st.DataObject) -> None:
    c = data.draw(cases("conv2d"))
    (top, bottom, left, right), (sy, sx), (dy, dx) = (
        c.op.window.padding, c.op.window.stride, c.op.window.dilation,
    )  # fmt: skip
    padded = np.pad(c.a, ((0, 0), (0, 0), (top, bottom), (left, right)))
    outputs, inputs = len(c.w) // c.op.groups, c.w.shape[1]
    z = np.zeros(c.s.shape)
    for n, k in np.ndindex(*z.shape[:2]):
        for j in range(inputs):
            taps = np.zeros(c.op.window.extent())
            taps[::dy, ::dx] = c.w[k, j]
            z[n, k] += correlate2d(padded[n, k // outputs * inputs + j], taps, "valid")[::sy, ::sx]
    assert same(PLAIN.conv2d(c.a, c.w, c.op), z)


@given(st.data())
def test_plain_transposed_convolution_is_scipys_convolution(data: st.DataObject) -> None:
    c = data.draw(cases("conv_transpose2d"))
    (top, _, left, _), (sy, sx), (dy, dx) = c.op.window.padding, c.op.window.stride, c.op.window.dilation
    outputs, inputs = c.w.shape[1], len(c.w) // c.op.groups
    z = np.zeros(c.s.shape)
    for n, k in np.ndindex(*z.shape[:2]):
        for j in range(k // outputs * inputs, (k // outputs + 1) * inputs):
            image, taps = (np.zeros(size) for size in (c.op.window.padded(c.op.size), c.op.window.extent()))
            apart = np.zeros([step * (x - 1) + 1 for step, x in zip((sy, sx), c.a.shape[2:], strict=True)])
            apart[::sy, ::sx], taps[::dy, ::dx] = c.a[n, j], c.w[j, k % outputs]
            spread = convolve2d(apart, taps)
            image[: len(spread), : spread.shape[1]] = spread  # the far rows that no window reaches are 0
            z[n, k] += image[top:, left:][: c.op.size[0], : c.op.size[1]]
    assert same(PLAIN.conv_transpose2d(c.a, c.w, c.op), z)


def matrix(c: Case, table: Any = PLAIN) -> Array:
    """The linear map of one sample as a matrix, column by column from unit vectors."""
    shape, w = c.a.shape[1:], c.w[:, :1] if c.op.name == "select2d" else c.w
    units = np.eye(int(np.prod(shape))).reshape(-1, 1, *shape)
    return np.stack([table.forward(c.op, unit, w)[0].ravel() for unit in units], axis=1)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("table", [*TABLES.values(), PLAIN], ids=[*TABLES, "plain loops"])
@given(data=st.data())
def test_transpose_is_the_transposed_matrix(name: str, table: Any, data: st.DataObject) -> None:
    c = data.draw(cases(name))
    a, w, s = c.a[:1], c.w[:, :1] if name == "select2d" else c.w, c.s[:1]
    M = matrix(c)
    assert same(table.forward(c.op, a, w).ravel(), M @ a.ravel())
    assert same(table.transpose(c.op, s, w).ravel(), s.ravel() @ M)
    # <forward(a, w), s> == <a, transpose(s, w)>: multiples of 2**-24 below 2**29, so the sums are exact
    assert (table.forward(c.op, a, w) * s).sum() == (a * table.transpose(c.op, s, w)).sum()


def test_windows_in_the_padding_are_zero_and_nobody_wins() -> None:
    op = Operation("select2d", (1, 1), Window((1, 1), padding=(1, 1, 1, 1)))
    for table in (*TABLES.values(), PLAIN):
        a = np.array([[[[-5.0]]]])
        z, winners = table.max_pool2d(a, op), table.max_pool2d_winners(a, op, "split")
        assert z.tolist() == [[[[0, 0, 0], [0, -5, 0], [0, 0, 0]]]]
        assert winners.sum() == winners[0, 0, 0, 1, 1] == 1


def test_ties_go_to_the_first_in_row_major_order() -> None:
    op = Operation("select2d", (2, 2), Window((2, 2)))
    for table in (*TABLES.values(), PLAIN):
        a = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
        assert table.max_pool2d_winners(a, op, "first").ravel().tolist() == [0, 1, 0, 0]
        assert table.max_pool2d_winners(a, op, "split").ravel().tolist() == [0, 1, 1, 1]


# The comparisons can fail: each of these faults in the reference is reported.


def _pixel_off(padded: Array, op: Operation) -> Array:
    return np.roll(_original["_crop"](padded, op), 1, axis=3)


def _flipped_kernel(a: Array, w: Array, op: Operation) -> Array:
    return _original["conv2d"](a, w[:, :, ::-1, ::-1], op)


def _groups_shuffled(a: Array, w: Array, op: Operation) -> Array:
    return _original["conv2d"](a[:, ::-1], w, op)


def _flipped_kernel_transposed(a: Array, w: Array, op: Operation) -> Array:
    return _original["conv_transpose2d"](a, w[:, :, ::-1, ::-1], op)


def _groups_shuffled_transposed(a: Array, w: Array, op: Operation) -> Array:
    return _original["conv_transpose2d"](a[:, ::-1], w, op)


def _stride_ignored(a: Array, w: Array, op: Operation) -> Array:
    op = replace(op, window=replace(op.window, stride=(1, 1)))
    near = np.zeros((*a.shape[:2], *op.window.positions(op.size)))
    near[:, :, : a.shape[2], : a.shape[3]] = a
    return _original["conv_transpose2d"](near, w, op)


def _short_of_the_near_side(a: Array, w: Array, op: Operation) -> Array:
    _, bottom, _, right = op.window.padding
    z = _original["conv_transpose2d"](a, w, op)
    return np.roll(z, (max(0, -bottom), max(0, -right)), (2, 3))


def _flipped_sign(s: Array, w: Array, op: Operation) -> Array:
    return -_original["dense_transpose"](s, w, op)


def _no_bias(op: Operation, a: Array, terms: Any, b: Array | None) -> Array:
    return _original["preactivation"](op, a, terms, None)


def _first_term_only(op: Operation, a: Array, terms: Any, b: Array | None) -> Array:
    return _original["preactivation"](op, a, terms[:1], b)


def _stabilizer_of_wrong_sign(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    return _original["divide"](z, b, R, -eps, signed, gate)


def _always_signed(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    return _original["divide"](z, b, R, eps, True, gate)


def _hidden_epsilon(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    return _original["divide"](z + 1e-9, b, R, eps, signed, gate)


def _nothing_dropped(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    s, sums = _original["divide"](z, b, R, eps, signed, gate)
    return s, sums._replace(dropped=sums.dropped * 0)


def _gate_forgotten(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    return _original["divide"](z, b, R, eps, signed, None)


def _bias_not_booked(z: Array, b: Any, R: Array, eps: Array, signed: bool, gate: Any) -> Any:
    s, sums = _original["divide"](z, b, R, eps, signed, gate)
    return s, sums._replace(bias=sums.bias * 0)


def _one_thousandth_more(op: Operation, a: Array, terms: Any, s: Array, coefficient: Any = 1) -> Any:
    R, to_inputs = _original["redistribute"](op, a, terms, s, coefficient)
    return R * 1.001, to_inputs


def _no_coefficient(op: Operation, a: Array, terms: Any, s: Array, coefficient: Any = 1) -> Any:
    return _original["redistribute"](op, a, terms, s)


def _padding_can_win(a: Array, op: Operation) -> Array:
    padded = any(op.window.padding)
    return np.maximum(_original["max_pool2d"](a, op), 0) if padded else _original["max_pool2d"](a, op)


def _all_ties_win(a: Array, op: Operation, ties: str) -> Array:
    return _original["max_pool2d_winners"](a, op, "split")


def _place(name: str) -> Any:
    """Functions that are none of the table's stand in the module."""
    return reference if name.startswith("_") else REFERENCE


FAULTS = {
    "_crop": [_pixel_off],
    "conv2d": [_flipped_kernel, _groups_shuffled],
    "conv_transpose2d": [
        _flipped_kernel_transposed, _groups_shuffled_transposed, _stride_ignored, _short_of_the_near_side,
    ],
    "dense_transpose": [_flipped_sign],
    "preactivation": [_no_bias, _first_term_only],
    "divide": [
        _stabilizer_of_wrong_sign, _always_signed, _hidden_epsilon, _nothing_dropped, _bias_not_booked,
        _gate_forgotten,
    ],
    "redistribute": [_one_thousandth_more, _no_coefficient],
    "max_pool2d": [_padding_can_win],
    "max_pool2d_winners": [_all_ties_win],
}  # fmt: skip
_original = {name: getattr(_place(name), name) for name in FAULTS}


def compare_on_fixed_cases(table: Any) -> None:
    for name in MAPS:
        for c in fixed_cases(name, 6):
            compare_maps(table, c)
            for count in (1, 2):
                for eps, signed in ((0, True), (0.5, True), (0.5, False)):
                    compare_quotients(table, c, eps, signed, count)
                compare_redistributions(table, c, 2, count)
    for c in fixed_cases("select2d", 30):
        compare_pools(table, c)


def test_the_reference_passes_on_the_fixed_cases() -> None:
    compare_on_fixed_cases(REFERENCE)


@pytest.mark.parametrize(("name", "fault"), [(name, f) for name, some in FAULTS.items() for f in some])
def test_a_seeded_fault_is_reported(monkeypatch: pytest.MonkeyPatch, name: str, fault: Any) -> None:
    monkeypatch.setattr(_place(name), name, fault)
    with pytest.raises(AssertionError):
        compare_on_fixed_cases(REFERENCE)


# Compiled and plain lines.


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float64") for name in MAPS), ("dense", "float32"), ("conv2d", "float32")]
)
def test_compiled_lines_give_the_bits_of_plain_ones(name: str, dtype: str) -> None:
    # the same additions in the same order; Numba neither reorders nor fuses them without fastmath
    for c in fixed_cases(name, 4):
        c = c.floats()
        a, w, s, R = (x.astype(dtype) for x in (c.a, c.w, c.s, c.rng.normal(size=c.s.shape)))
        b = None if c.b is None else c.b.astype(dtype)
        eps = np.full(len(a), 0.25, dtype)
        results = []
        for table in (COMPILED, PLAIN):
            quotient, sums = table.quotient(c.op, a, [(a, w), (a, w)], b, R, eps)
            results.append([
                table.forward(c.op, a, w), table.transpose(c.op, s, w), quotient, *sums,
                *table.redistribute(c.op, a, [(a, w)], s, 1.5),
                table.mean_square(a), table.per_sample(a),
            ])  # fmt: skip
        for got, want in zip(*results, strict=True):
            assert same(got, want)
        assert all(x.dtype == np.float64 for x in sums), "the books are kept in float64"


def test_the_number_of_threads_changes_no_bit() -> None:
    code = (
        "from strategies import case; from lrpref.kernels.loops import COMPILED\n"
        "c = case('conv2d', lambda low, high: high).floats()\n"
        "R, to_inputs = COMPILED.redistribute(c.op, c.a, [(c.a, c.w)], c.s)\n"
        "print((R.tobytes() + to_inputs.tobytes()).hex())"
    )
    bits = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"NUMBA_NUM_THREADS": threads}, check=True,
            capture_output=True, cwd=Path(__file__).parent,
        ).stdout
        for threads in ("1", "2", "5")
    }  # fmt: skip
    assert len(bits) == 1
    assert len(bits.pop()) > 1000


@pytest.mark.parametrize("kind", ["Fraction", "longdouble"])
@pytest.mark.parametrize("name", MAPS)
def test_plain_loops_run_on_any_numbers(name: str, kind: str) -> None:
    # dyadic values are exact in each of them, so all agree with the reference
    arithmetic = exact.FRACTIONS if kind == "Fraction" else exact.get("longdouble")
    for c in fixed_cases(name, 2):
        a, w, s = (arithmetic.array(x) for x in (c.a, c.w, c.s))
        b = None if c.b is None else arithmetic.array(c.b)
        R, eps = arithmetic.array(c.like(c.s)), arithmetic.array(np.full(len(a), 0.25))
        for table in (REFERENCE, PLAIN):
            quotient, sums = table.quotient(c.op, a, [(a, w)], b, R, eps)
            assert all(isinstance(x, Fraction | np.longdouble) for x in (*quotient.flat, *sums.bias))
        assert same(PLAIN.forward(c.op, a, w), REFERENCE.forward(c.op, a, w))
        assert same(PLAIN.transpose(c.op, s, w), REFERENCE.transpose(c.op, s, w))
        assert same(PLAIN.quotient(c.op, a, [(a, w)], b, R, eps)[0], quotient)
        got, want = (t.redistribute(c.op, a, [(a, w)], s, 2) for t in (PLAIN, REFERENCE))
        assert same(got[0], want[0])


def test_the_loops_refuse_what_they_cannot_do_right() -> None:
    a, op = np.ones((1, 2)), Operation("dense")
    for dtype in ("longdouble", "exact"):
        x = exact.get(dtype).array(a)
        with pytest.raises(BadBackend, match=r"float32 and float64, not .*: use backend 'numpy'"):
            COMPILED.dense(x, x, op)
    ball = exact.get("ball").array(a)
    with pytest.raises(BadBackend, match="undecided"):
        PLAIN.dense(ball, ball, op)


def test_read_only_and_strided_arrays_are_taken() -> None:
    # a[:, ::2] is strided, a broadcast bound is read-only: both are copied, the result is the same
    a, w = dyadic(np.random.default_rng(1), 2, 6), np.broadcast_to(np.array([0.5, 1.0, 2.0]), (4, 3))
    assert same(COMPILED.dense(a[:, ::2], w, Operation("dense")), a[:, ::2] @ w.T)


def test_compiles_without_a_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    original = numba.njit

    def njit(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(numba, "njit", njit)
    lines = loops.loop(loops._scale.plain)
    z = np.zeros((1, 1, 1))
    lines.compiled(np.full((1, 1, 1), 3.0), np.full(1, 2.0), z)
    assert z == 6


# The function table.


def test_all_backends_have_one_function_table() -> None:
    table = {
        name: function
        for name, function in inspect.getmembers(REFERENCE, inspect.ismethod)
        if not name.startswith("_")
    }
    assert set(MAPS) < set(table)
    for other in (COMPILED, *(kernels.backend(name) for name in BACKENDS)):
        for name, function in table.items():
            if name != "divide":  # steps 2 of the unfused tables alone
                found = inspect.signature(getattr(other, name)).parameters
                assert list(found) == list(inspect.signature(function).parameters), (other, name)


def test_an_unknown_backend_is_refused() -> None:
    assert kernels.backend("numpy") is REFERENCE
    assert kernels.backend("loops") is COMPILED
    with pytest.raises(BadBackend, match="unknown backend 'fortran': there are auto, numpy, loops"):
        kernels.backend("fortran")


def test_numba_is_imported_only_for_the_loops() -> None:
    code = (
        "import sys, lrpref; from lrpref.kernels import backend\n"
        "backend('numpy'); assert 'numba' not in sys.modules\n"
        "backend('loops'); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# A sample's relevance does not depend on what else is in the batch.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "rule"), EVERY_RULE_AND_LAYER, ids=EVERY_ID)
def test_batch_independence(name: str, rule: rules.Rule, backend: str) -> None:
    layer, a = exact.get("float64").cast(LAYERS[name][0]), lower(name, 3, samples=3)
    R = np.random.default_rng(4).normal(size=layer.forward(REFERENCE, *a).shape)
    kinds = list(variants(rule))[::4] if backend == "numpy" else [rule]
    for variant in kinds:
        together = relprop(layer, variant, a, R, backend=backend)
        for n in range(3):
            alone = relprop(layer, variant, [x[n : n + 1] for x in a], R[n : n + 1], backend=backend)
            for part, whole in zip(alone.parts, together.parts, strict=True):
                # quarters and halves: z is exact however BLAS orders it; sums of s w round differently
                assert relative_error(whole[n : n + 1], part) <= 1e-12
            for account in ("arriving", "to_inputs", "bias", "stabilizer", "dropped"):
                x, y = getattr(alone.ledger, account)[0], getattr(together.ledger, account)[n]
                assert abs(x - y) <= 1e-12 * (np.abs(alone.relevance).sum() + np.abs(R[n]).sum())
