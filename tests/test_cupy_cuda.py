"""The backend `cupy` against the float64 reference: launcher and kernels, on the device of `devices.py`."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from devices import REAL, SCHEDULES, compared, emulated
from devices import device as make_device
from emulator import EmulatedDevice, KernelFault
from strategies import LAYERS, MAPS, Case, dyadic, fixed_cases, lower, rules_of, variants

from lrpref import exact, kernels, relprop
from lrpref.errors import BadBackend
from lrpref.kernels import cupy_cuda, device
from lrpref.kernels.cupy_cuda import Table
from lrpref.kernels.elementwise import FUNCTIONS
from lrpref.kernels.operations import A, Array, Operation, Part, Window
from lrpref.kernels.reference import Reference
from lrpref.kernels.signs import negative, ones_like, positive

host = pytest.mark.skipif(REAL, reason="no kernel runs here")

REFERENCE = Reference()
GATHERS = tuple(name for name in MAPS if name not in cupy_cuda.CONVOLUTIONS)
DTYPES = ("float32", "float64")

# float32 rounds by 6e-8 and the sums here have at most 54 products of both signs, so 54 * 6e-8 = 3e-6 of the
# largest magnitudes; float64 likewise 6e-15. The bounds are those that the backend promises.
CLOSE = {"float32": 1e-5, "float64": 1e-12}
# One division of two exact numbers: half a unit in the last place.
ROUNDED = {"float32": 2.0**-23, "float64": 2.0**-52}


@functools.cache
def table(schedule: int) -> Table:
    return Table(make_device(schedule))


def close(got: Array, want: Array, bound: float) -> bool:
    """No further apart than the bound times the largest magnitude wanted; NaN is never close."""
    assert got.shape == want.shape
    return bool((np.abs(got - want) <= bound * np.abs(want).max(initial=0)).all())


class Values:
    """
    A case of a map with small dyadic numbers, on the host for the reference and on a device for the table.

    Multiples of 1/256 up to 1/4: products are multiples of 2**-16 up to 2**-4, and sums of 54 of them have
    18 bits. So z is exact in float32 too, and exactly 0 in both or in neither.
    """

    def __init__(self, c: Case, t: Table, dtype: str, most: int = 64) -> None:
        self.op, self.t, self.dtype, self.rng = c.op, t, dtype, c.rng
        self.a, self.s = self.drawn(c.a.shape, most), self.drawn(c.s.shape, most)
        self.weights = [self.drawn(c.w.shape, most) for _ in range(4)]
        self.b = None if c.b is None else self.drawn(c.b.shape, most)
        self.R = self.rounded(c.rng.normal(size=c.s.shape))
        self.own = self.drawn(c.s.shape, 2)  # many zeros: a closed gate for both signs

    def drawn(self, shape: tuple[int, ...], most: int) -> Array:
        return dyadic(self.rng, *shape, most=most)

    def rounded(self, x: Array) -> Array:
        """The numbers of a dtype, in float64 for the reference."""
        return np.asarray(x.astype(self.dtype).astype(np.float64))

    def up(self, x: Array | None) -> Any:
        return None if x is None else self.t.upload(x.astype(self.dtype))

    def shares(self) -> Iterator[list[tuple[Any, Array]]]:
        """Terms (p, w) as the rules have them, and some that only a user's rule could have."""
        w, w1, w2, w3 = self.weights
        pixels = self.a.shape[2:]
        low, high = self.drawn((1, *self.a.shape[1:2], *[1] * len(pixels)), 64), self.drawn((1,), 64)
        yield [(A, w)]
        yield [(positive(A), w1), (negative(A), w2)]
        yield [(ones_like(A), w2)]
        yield [(A, w), (low, w1), (high, w2)]  # z-box
        yield [
            (self.drawn(self.a.shape, 64), w),
            (A * 0.5, w1),
        ]  # numbers for each unit; a part without a name
        yield [(self.drawn((*[1] * (self.a.ndim - 1), *self.a.shape[-1:]), 64), w)]  # one row for all
        yield [(A, w), (positive(A), w1), (low, w2), (negative(A), w3)]  # more than a kernel takes

    def there(self, terms: list[tuple[Any, Array]]) -> list[tuple[Any, Any]]:
        """The same terms, where the table computes."""
        return [
            (p if isinstance(p, Part) else self.up(p), self.t.prepare(self.op, w.astype(self.dtype)))
            for p, w in terms
        ]


def compare_maps(v: Values) -> None:
    w, s = v.weights[0], v.rounded(v.rng.normal(size=v.s.shape))
    a = v.rounded(v.rng.normal(size=v.a.shape))
    ready = v.t.prepare(v.op, w.astype(v.dtype))
    z, c = v.t.forward(v.op, v.up(a), ready), v.t.transpose(v.op, v.up(s), ready)
    assert z.dtype == c.dtype == v.dtype
    assert close(v.t.download(z), REFERENCE.forward(v.op, a, w), CLOSE[v.dtype])
    assert close(v.t.download(c), REFERENCE.transpose(v.op, s, w), CLOSE[v.dtype])
    again = (
        getattr(v.t, v.op.name)(v.up(a), ready, v.op),
        getattr(v.t, v.op.name + "_transpose")(v.up(s), ready, v.op),
    )
    for x, y in zip(again, (z, c), strict=True):
        assert (v.t.download(x) == v.t.download(y)).all()


def compare_sums(got: Any, want: Any, magnitude: Array, bound: float) -> None:
    assert got.dtype == np.float64
    assert got.shape == want.shape
    # s is rounded to the dtype before it is booked: the bound times the magnitudes of what is added
    assert (np.abs(got - want) <= bound * magnitude).all()


def compare_quotient(v: Values, terms: Any, eps: float, signed: bool, with_z: bool, sign: int) -> None:
    z = REFERENCE.preactivation(v.op, v.a, terms, v.b)
    stabilizer = np.full(len(v.a), eps)
    gate = (v.own, sign) if sign else None
    given = z if with_z else None
    wanted_s, wanted = REFERENCE.quotient(v.op, v.a, terms, v.b, v.R, stabilizer, signed, given, gate)
    there = v.there(terms)
    if not with_z:
        assert (v.t.download(v.t.preactivation(v.op, v.up(v.a), there, v.up(v.b))) == z).all()  # exact
    s, sums = v.t.quotient(
        v.op, v.up(v.a), there, v.up(v.b), v.up(v.R), v.up(stabilizer), signed, v.up(given),
        (v.up(v.own), sign) if sign else None,
    )  # fmt: skip
    s = v.t.download(s)
    assert s.dtype == v.dtype
    assert (np.abs(s - wanted_s) <= ROUNDED[v.dtype] * np.abs(wanted_s)).all()
    most = max(eps, 0 if v.b is None else np.abs(v.b).max(initial=0))
    magnitude = np.abs(wanted_s).reshape(len(s), -1).sum(1) * most + np.abs(v.R).reshape(len(s), -1).sum(1)
    for got, want in zip(sums, wanted, strict=True):
        compare_sums(v.t.download(got), want, magnitude, ROUNDED[v.dtype])


def compare_redistribution(v: Values, terms: Any, coefficient: float) -> None:
    s = v.rounded(v.rng.normal(size=v.s.shape))
    want, wanted_sum = REFERENCE.redistribute(v.op, v.a, terms, s, coefficient)
    R, to_inputs = v.t.redistribute(v.op, v.up(v.a), v.there(terms), v.up(s), coefficient)
    R = v.t.download(R)
    assert R.dtype == v.dtype
    assert close(R, want, CLOSE[v.dtype])
    magnitude = np.abs(want).reshape(len(want), -1).sum(1)
    compare_sums(v.t.download(to_inputs), R.astype(np.float64).reshape(len(R), -1).sum(1), magnitude, 1e-14)
    compare_sums(v.t.download(to_inputs), wanted_sum, np.maximum(magnitude, magnitude.max()), CLOSE[v.dtype])


def compare_steps(v: Values) -> None:
    settings = ((0, True, False, 0), (0.25, True, False, 1), (0.25, False, True, 0), (0.5, True, True, -1))
    for i, terms in enumerate(v.shares()):
        for eps, signed, with_z, sign in settings[i % 2 :: 2]:
            compare_quotient(v, terms, eps, signed, with_z, sign)
        compare_redistribution(v, terms, (2, 1, -0.75)[i % 3])


def compare_all_steps(t: Table, name: str, dtype: str, count: int) -> None:
    for i, c in enumerate(fixed_cases(name, count)):
        compare_maps(Values(c, t, dtype))
        compare_steps(Values(c, t, dtype, most=(64, 1)[i % 2]))  # with most=1 many z are exactly 0


def compare_pooling(t: Table, dtype: str, count: int) -> None:
    for c in fixed_cases("select2d", count):
        v = Values(c, t, dtype, most=2)  # many ties
        a = v.up(v.a)
        assert (t.download(t.max_pool2d(a, v.op)) == REFERENCE.max_pool2d(v.a, v.op)).all()
        for ties in ("first", "split"):
            want = REFERENCE.max_pool2d_winners(v.a, v.op, ties)
            assert (t.download(t.max_pool2d_winners(a, v.op, ties)) == want).all(), ties


def compare_many_samples(t: Table, dtype: str) -> None:
    """More samples and more cells than one row of blocks: every loop goes round more than once."""
    rng = np.random.default_rng(3)
    for name, w, positions in (("sum_pool2d", (17, 20), (17, 20)), ("scale", (2, 1, 1), (18, 21))):
        op = Operation(name, (18, 21), Window((2, 2)))
        s = (5, 2, *positions)
        b = np.zeros((2, 1, 1)) if name == "sum_pool2d" else None
        c = Case(op, np.zeros((5, 2, 18, 21)), np.zeros(w), np.zeros(s), b, rng, 0)
        v = Values(c, t, dtype, most=1)  # many z are exactly 0
        compare_quotient(v, [(A, v.weights[0])], 0.25, True, False, 1)
        compare_quotient(v, [(A, v.weights[0])], 0, True, True, -1)
        compare_redistribution(v, [(positive(A), v.weights[0]), (A, v.weights[1])], 2)
        compare_totals(t, v.a, dtype)
    big = Case(Operation("select2d", (18, 21), Window((2, 2))), v.a, np.zeros((4, 5, 2, 17, 20)),
               np.zeros((5, 2, 17, 20)), None, rng, 0)  # fmt: skip
    v = Values(big, t, dtype, most=2)
    assert (t.download(t.max_pool2d(v.up(v.a), v.op)) == REFERENCE.max_pool2d(v.a, v.op)).all()
    winners = t.max_pool2d_winners(v.up(v.a), v.op, "first")
    assert (t.download(winners) == REFERENCE.max_pool2d_winners(v.a, v.op, "first")).all()


def compare_totals(t: Table, x: Array, dtype: str) -> None:
    x = x.astype(dtype)
    wide = x.astype(np.float64).reshape(len(x), -1)
    # sums of float64 in two orders
    compare_sums(t.download(t.per_sample(t.upload(x))), wide.sum(1), np.abs(wide).sum(1), 1e-14)
    compare_sums(t.download(t.mean_square(t.upload(x))), (wide**2).mean(1), (wide**2).mean(1), 1e-14)


@compared
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MAPS)
def test_steps_against_the_reference(name: str, dtype: str, schedule: int) -> None:
    compare_all_steps(table(schedule), name, dtype, 6 if name in GATHERS else 3)


@compared
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pooling_and_its_winners(dtype: str, schedule: int) -> None:
    compare_pooling(table(schedule), dtype, 20)


@compared
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_grids_go_round(monkeypatch: pytest.MonkeyPatch, dtype: str, schedule: int) -> None:
    monkeypatch.setattr(cupy_cuda, "MOST_BLOCKS", 2)
    monkeypatch.setattr(cupy_cuda, "MOST_SAMPLES", 2)
    compare_many_samples(table(schedule), dtype)


PARAMETERS = {"leaky_relu": (0.125,), "clip": (-0.5, 6.0), "elu": (1.5,)}


@compared
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation(name: str, dtype: str) -> None:
    t, parameters = table(2), PARAMETERS.get(name, ())
    x = np.concatenate([np.linspace(-12, 12, 999), [0.0, -0.0, -80.0, 80.0, 1e-6, -1e-6]]).astype(dtype)
    want = FUNCTIONS[name][0](x.astype(np.float64), *parameters)
    got = t.download(t.activation(name, t.upload(x), *parameters))
    assert got.dtype == dtype
    # a few roundings each, of numbers no larger than max(1, |g|)
    assert (np.abs(got - want) <= 8 * np.finfo(dtype).eps * np.maximum(1, np.abs(want))).all()
    assert np.isnan(t.download(t.activation(name, t.upload(np.full(3, np.nan, dtype)), *parameters))).all()


@compared
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_float64(dtype: str) -> None:
    x = np.random.default_rng(1).normal(size=(3, 2, 40, 9)).astype(dtype)
    x[0, 0, 0, 0] = 1e30  # its square overflows float32
    compare_totals(table(2), x, dtype)


@compared
@pytest.mark.parametrize("name", LAYERS)
def test_every_rule_on_every_layer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(cupy_cuda, "table", lambda: table(1))
    layer = exact.get("float64").cast(LAYERS[name][0])
    a = lower(name, 1)  # quarters and zeros: z is exact, and some denominators are exactly 0
    R = np.random.default_rng(2).uniform(1, 2, layer.forward(REFERENCE, *a).shape)
    for i, rule in enumerate(rules_of(name)):
        for variant in list(variants(rule))[i % 3 :: 3]:  # stabilizers under one treatment of the bias each
            one, other = relprop(layer, variant, a, R), relprop(layer, variant, a, R, backend="cupy")
            for got, want in zip(other.parts, one.parts, strict=True):
                assert close(got, want, CLOSE["float64"]), variant
            for account in ("to_inputs", "bias", "stabilizer", "dropped"):
                got, want = (np.asarray(getattr(x.ledger, account)) for x in (other, one))
                assert (np.abs(got - want) <= CLOSE["float64"] * np.abs(R).sum()).all(), (variant, account)


@compared
@pytest.mark.parametrize("name", MAPS)
def test_the_same_bits_in_every_run(name: str) -> None:
    # each sum has one order, whatever runs first
    found = set()
    for schedule in SCHEDULES:
        for _ in range(2):
            (c,) = fixed_cases(name, 1)
            v = Values(c, table(schedule), "float32")
            terms = v.there([(A, v.rng.normal(size=c.w.shape))])
            s, sums = v.t.quotient(
                v.op, v.up(v.a), terms, v.up(v.b), v.up(v.R), v.up(np.full(len(v.a), 0.25))
            )
            R, to_inputs = v.t.redistribute(v.op, v.up(v.a), terms, s, 1.5)
            found.add(b"".join(v.t.download(x).tobytes() for x in (s, *sums, R, to_inputs)))
    assert len(found) == 1


@compared
@pytest.mark.parametrize("name", MAPS)
def test_an_empty_batch_gives_empty_results(name: str) -> None:
    t = table(0)
    (c,) = fixed_cases(name, 1)
    a, R = (t.upload(x[:0].astype("float32")) for x in (c.a, c.s))
    w = t.prepare(c.op, c.w[:, :0] if name == "select2d" else c.w)
    w = t.prepare(c.op, (c.w[:, :0] if name == "select2d" else c.w).astype("float32"))
    terms, launched = [(A, w)], dict(t.device.launches)
    s, sums = t.quotient(c.op, a, terms, None, R, np.zeros(0))
    lower, to_inputs = t.redistribute(c.op, a, terms, s)
    for x, shape in (
        (s, R.shape),
        (lower, a.shape),
        (t.forward(c.op, a, w), R.shape),
        (t.transpose(c.op, R, w), a.shape),
    ):
        assert x.shape == shape
        assert x.dtype == np.float32
    assert all(
        x.shape == (0,) and x.dtype == np.float64
        for x in (*sums, to_inputs, t.per_sample(a), t.mean_square(a))
    )
    if name == "select2d":
        assert t.max_pool2d(a, c.op).shape == R.shape
        assert t.max_pool2d_winners(a, c.op, "first").shape == (c.w.shape[0], *R.shape)
    assert t.activation("relu", a).shape == a.shape
    assert t.device.launches == launched, "a GPU refuses an empty grid"


@compared
@pytest.mark.parametrize("name", MAPS)
def test_arrays_that_are_not_contiguous_are_copied(name: str) -> None:
    t = table(0)
    for c in fixed_cases(name, 3):
        v = Values(c, t, "float64")

        def strided(x: Array) -> Any:
            return t.upload(np.repeat(x, 2, axis=-1))[..., ::2]

        def fortran(x: Array) -> Any:
            return t.upload(np.ascontiguousarray(x.T)).T

        w, eps = t.prepare(v.op, np.asfortranarray(v.weights[0])), np.full(len(v.a), 0.25)
        want = REFERENCE.quotient(v.op, v.a, [(A, v.weights[0])], v.b, v.R, eps, True, None, (v.own, 1))
        for made in (strided, fortran):
            b = None if v.b is None else made(v.b)
            s, _ = t.quotient(v.op, made(v.a), [(A, w)], b, made(v.R), eps, True, None, (made(v.own), 1))
            assert close(t.download(s), want[0], CLOSE["float64"])
            lower, _ = t.redistribute(v.op, made(v.a), [(A, w)], made(v.R))
            wanted, _ = REFERENCE.redistribute(v.op, v.a, [(A, v.weights[0])], v.R)
            assert close(t.download(lower), wanted, CLOSE["float64"])
        compare_totals(t, v.a, "float64")
        assert (t.download(t.activation("relu", strided(v.a))) == np.maximum(v.a, 0)).all()


@compared
@pytest.mark.parametrize("dtype", ["float16", "int64", "complex64"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    t = table(0)
    a, w, op = (
        t.upload(np.ones((1, 2, 3, 3), dtype)),
        t.upload(np.ones((2, 1, 1), "float32")),
        Operation("scale"),
    )
    for call in (
        lambda: t.forward(op, a, w), lambda: t.per_sample(a), lambda: t.activation("relu", a),
        lambda: t.max_pool2d(a, Operation("select2d", (3, 3))), lambda: t.prepare(op, np.ones(2, dtype)),
        lambda: t.prepare(Operation("dense"), np.ones((2, 2), dtype)),
    ):  # fmt: skip
        with pytest.raises(BadBackend, match=rf"float32 or float64, not (in )?{dtype}"):
            call()


@compared
def test_what_does_not_fit_is_refused() -> None:
    t = table(0)
    a, w = (t.upload(np.ones(shape, "float32")) for shape in ((2, 3, 4, 4), (3, 1, 1)))
    pool = Operation("sum_pool2d", (4, 4), Window((2, 2)))
    for message, call in {
        "float32 is wanted, float64": lambda: t.scale(a, t.upload(np.ones((3, 1, 1))), Operation("scale")),
        "window of .* does not fit": lambda: t.max_pool2d(a, Operation("select2d", (4, 4), Window((5, 5)))),
        "less than 2..31": lambda: cupy_cuda._sizes(Operation("scale"), (1, 2**20, 2**11), (1, 2**20, 2**11)),
        "does not take samples": lambda: t.max_pool2d(a, Operation("select2d", (5, 4), Window((2, 2)))),
        "wants weights of shape": lambda: t.sum_pool2d(a, t.upload(np.ones((4, 3), "float32")), pool),
        "weights of shape .* does not take": lambda: t.dense(
            a.reshape(2, 48), t.upload(np.ones((4, 47), "float32")), Operation("dense")
        ),
        "wants weights": lambda: t.scale(a, t.upload(np.ones((4, 1, 1), "float32")), Operation("scale")),
        "no activation": lambda: t.activation("cosine", a),
        "where .* is wanted": lambda: t.quotient(Operation("scale"), a, [(A, w)], None, a[:1], np.zeros(2)),
        "does not broadcast": lambda: t.preactivation(Operation("scale"), a, [(A, w)], np.ones((2, 1, 1))),
        "gives": lambda: t.redistribute(pool, a, [(A, t.upload(np.ones((3, 3), "float32")))], a),
    }.items():  # fmt: skip
        with pytest.raises(BadBackend, match=message):
            call()


@emulated
def test_out_of_memory_is_one_clear_line() -> None:
    t = Table(EmulatedDevice(memory=40_000))
    with pytest.raises(
        BadBackend, match=r"out of device memory: 0.1 MiB are wanted, 0.0 MiB are free: use a smaller"
    ):
        t.upload(np.zeros(20_000, "float32"))
    with pytest.raises(BadBackend, match="out of device memory"):
        t.prepare(Operation("dense"), np.zeros((100, 200), "float32"))
    a, w = t.upload(np.zeros((1, 1, 80, 80), "float32")), t.upload(np.zeros((79, 79), "float32")[:1, :1])
    with pytest.raises(BadBackend, match="out of device memory"):
        t.scale(a, w[0], Operation("scale"))
    with pytest.raises(BadBackend, match="out of device memory"):
        t.activation("relu", a)


@compared
@pytest.mark.parametrize("name", MAPS)
def test_an_overflow_shows(name: str) -> None:
    t, found = table(0), False
    for c in fixed_cases(name, 6):
        w, R = t.prepare(c.op, np.full(c.w.shape, 1e30, "float32")), t.upload(np.ones(c.s.shape, "float32"))
        a = t.upload(np.full(c.a.shape, 1e30, "float32"))
        z = t.download(t.forward(c.op, a, w))
        s, sums = t.quotient(c.op, a, [(A, w)], None, R, np.zeros(len(c.a)))
        reached = z != 0  # the others: windows in the padding, empty regions
        assert np.isinf(z[reached]).all()
        assert np.isnan(t.download(s)[reached]).all()
        assert np.isnan(t.download(sums.stabilizer)).any() == reached.any(), "the ledger sees it"
        found |= bool(reached.any())
    assert found


@compared
def test_a_negative_zero_counts_as_zero() -> None:
    t = table(0)
    z, R, one = (t.upload(np.full((1, 2), x, "float32")) for x in (-0.0, 3.0, 1.0))
    w = t.upload(np.ones(2, "float32"))
    s, sums = t.quotient(Operation("scale"), one, [(A, w)], None, R, np.array([0.5]), True, z)
    assert t.download(s).tolist() == [[6, 6]]
    s, sums = t.quotient(Operation("scale"), one, [(A, w)], None, R, np.zeros(1), True, z)
    assert t.download(s).tolist() == [[0, 0]]
    assert t.download(sums.dropped).tolist() == [6]


# Faults in the kernels: each must be found by the comparisons above.

FAULTS = {
    "the sign of 0": ("steps", "is_signed && z < 0", "is_signed && z <= 0"),
    "an overflow is lost": ("elementwise", " + (denominator - denominator)", ""),
    "an open gate at 0": ("steps", "gate * own[k] > 0", "gate * own[k] >= 0"),
    "dropped is not booked": ("steps", "books.dropped += R;", ""),
    "no barrier before the warps' sums are read": ("steps", "] = x;\n    __syncthreads();", "] = x;"),
    "no barrier before they are written again": (
        "steps",
        "    __syncthreads();  // thread 0",
        "    // thread 0",
    ),
    "blocks of other samples": ("steps", "(account * sizes.samples + n)", "(account + n)"),
    "q for each term": ("steps", "if (last) received *= q", "received *= q"),
    "samples beyond the grid": ("elementwise", "n += gridDim.y", "n += given.sizes.samples"),
    "cells beyond the grid": ("elementwise", "cell += gridDim.x * THREADS", "cell += cells"),
    "a summand is left out": ("elementwise", "m < sizes.J", "m + 1 < sizes.J"),
    "the sum without q": ("elementwise", "to_inputs += received", "to_inputs += sum"),
    "the first term only": ("elementwise", "int t = 0; t < MOST_TERMS", "int t = 0; t < 1"),
    "a row below the image": ("pooling", "v < g.H ? v", "v <= g.H ? v"),
    "a window between two": ("pooling", "y % g.sy == 0 && ", ""),
    "another channel's winners": ("pooling", "+ n) * sizes.K + k) * sizes.P", "+ n) * sizes.K) * sizes.P"),
    "padding wins": ("pooling", "bool seen = false", "bool seen = true"),
    "a row too many in a region": ("pooling", "v < rows[2 * y + 1]", "v <= rows[2 * y + 1]"),
}


def compare_everything(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if unit == "elementwise":
        test_an_overflow_shows("scale")
    for schedule in SCHEDULES:
        t = Table(EmulatedDevice(schedule=schedule))
        if unit == "pooling":
            compare_pooling(t, "float32", 10)
        for name in GATHERS:
            if cupy_cuda.UNITS[name] == unit or (unit, name) == ("steps", "scale"):
                compare_all_steps(t, name, "float32", 4)
        with monkeypatch.context() as small:
            small.setattr(cupy_cuda, "MOST_BLOCKS", 2)
            small.setattr(cupy_cuda, "MOST_SAMPLES", 2)
            compare_many_samples(t, "float32")


@emulated
@pytest.mark.parametrize("unit", ["steps", "elementwise", "pooling"])
def test_the_right_kernels_pass_where_faults_are_found(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    compare_everything(unit, monkeypatch)


@emulated
@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_found(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    unit, right, wrong = FAULTS[fault]
    original = cupy_cuda.source
    assert right in original(unit)

    def source(name: str) -> str:
        return original(name).replace(right, wrong) if name == unit else original(name)

    monkeypatch.setattr(cupy_cuda, "source", source)
    monkeypatch.setattr(sys.modules[__name__], "table", lambda schedule: Table(EmulatedDevice(schedule)))
    with pytest.raises((AssertionError, KernelFault)):
        compare_everything(unit, monkeypatch)


# The device that CuPy makes, on a CuPy of our own: what is asked of it, and what it says when it cannot.


class RuntimeFailure(RuntimeError):
    """cupy.cuda.runtime.CUDARuntimeError."""


class OutOfMemory(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


class CompileFailure(Exception):
    """cupy.cuda.compiler.CompileException."""


class Kernel:
    def __init__(self, calls: list[Any]) -> None:
        self.calls = calls

    def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int) -> None:
        self.calls.append((grid, block, arguments, shared_mem))


def fake_cupy(**runtime: Callable[..., Any]) -> Any:
    """What `device.py` uses of CuPy; its arrays are NumPy's."""
    cupy: Any = types.ModuleType("cupy")
    cupy.calls, cupy.compiled = [], []

    class RawModule:
        def __init__(self, code: str, options: tuple[str, ...], backend: str) -> None:
            cupy.compiled.append((code, options, backend))

        def get_function(self, name: str) -> Kernel:
            if name == "wrong":
                raise CompileFailure("kernel.cu(3): error: expected a ';'\n1 error detected")
            return Kernel(cupy.calls)

    def empty(shape: Any, dtype: Any = float) -> Array:
        if np.prod(shape) > 1e6:
            raise OutOfMemory("Out of memory allocating 8,000,000,000 bytes (allocated so far: 0 bytes).")
        return np.empty(shape, dtype)

    cupy.empty, cupy.zeros, cupy.array, cupy.asnumpy, cupy.RawModule = (
        empty, np.zeros, np.array, np.array, RawModule,
    )  # fmt: skip
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_bytes=lambda: 1 << 20)
    found = {"name": b"GPU", "major": 9, "minor": 0, "multiProcessorCount": 132}
    functions: dict[str, Any] = {
        "CUDARuntimeError": RuntimeFailure, "getDeviceCount": lambda: 1, "getDevice": lambda: 0,
        "getDeviceProperties": lambda _: found, "memGetInfo": lambda: (7 << 20, 80 << 30),
        "runtimeGetVersion": lambda: 13020, "driverGetVersion": lambda: 13000,
    }  # fmt: skip
    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(**functions | runtime),
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemory),
        compiler=types.SimpleNamespace(CompileException=CompileFailure),
        driver=types.SimpleNamespace(CUDADriverError=RuntimeFailure),
        nvrtc=types.SimpleNamespace(getVersion=lambda: (13, 2)),
        get_current_stream=lambda: types.SimpleNamespace(synchronize=lambda: None),
    )
    return cupy


def install(monkeypatch: pytest.MonkeyPatch, cupy: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def fail(message: str) -> Callable[..., Any]:
    def function(*_: Any) -> Any:
        raise RuntimeFailure(message)

    return function


NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"
UNKNOWN = "cudaErrorUnknown: so it is"
DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"


@host
@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"getDeviceCount": fail(DRIVER), "driverGetVersion": lambda: 0},
         "there is no NVIDIA driver .CUDA 13.2 needs"),
        ({"getDeviceCount": fail(DRIVER), "driverGetVersion": lambda: 12040},
         "too old: it serves CUDA 12.4, CuPy needs 13.2: update the driver, or pip install 'lrpref.cuda12.'"),
        ({"getDeviceCount": fail(NO_DEVICE)}, "finds no CUDA device"),
        ({"getDeviceCount": fail(UNKNOWN)}, "no GPU answers: cudaErrorUnknown: so it is"),
        ({"getDeviceCount": lambda: 0}, "0 CUDA devices"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, runtime: Any, message: str) -> None:
    install(monkeypatch, fake_cupy(**runtime))
    with pytest.raises(BadBackend, match=message) as caught:
        kernels.backend("cupy")
    assert "\n" not in str(caught.value)
    assert kernels.automatic() == "cpu"


@host
def test_without_cupy_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        BadBackend, match=r"not installed: pip install 'lrpref\[cuda13\]' \(or 'lrpref\[cuda12\]'"
    ):
        kernels.backend("cupy")


@host
def test_a_cupy_that_does_not_work_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = fake_cupy()
    cupy.cuda.nvrtc.getVersion = fail("libnvrtc.so.13 is not there\nand more")
    install(monkeypatch, cupy)
    assert device.available() == "the GPU does not answer to CuPy: libnvrtc.so.13 is not there"
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    assert "CuPy cannot be imported" in device.available()
    assert "pip install" in device.available()


@host
@pytest.mark.skipif(device.available() == "", reason="a GPU answers here")
def test_without_a_gpu_cupy_is_refused_and_auto_means_cpu() -> None:
    with pytest.raises(BadBackend):
        kernels.backend("cupy")
    assert kernels.automatic() == "cpu"


@host
def test_importing_the_backend_imports_no_cupy() -> None:
    code = "import sys, lrpref.kernels.cupy_cuda; print('cupy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@host
def test_the_cupy_device_compiles_once_and_passes_structs_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = fake_cupy()
    install(monkeypatch, cupy)
    gpu = device.CuPyDevice()
    assert (gpu.name, gpu.capability, gpu.multiprocessors) == ("GPU", (9, 0), 132)
    assert gpu.free_memory() == 8 << 20
    functions = [gpu.function("code", ("-DREAL=float",), name) for name in ("one", "two")]
    gpu.function("code", ("-DREAL=double",), "one")
    assert cupy.compiled == [("code", (f"-DREAL={x}",), "nvrtc") for x in ("float", "double")]
    x, sizes = gpu.upload(np.zeros((2, 3), order="F")), cupy_cuda._sizes(Operation("scale"), (1, 2), (1, 2))
    assert x.flags.c_contiguous
    gpu.launch(functions[0], (1, 2), (256,), (x, None, np.int32(3), sizes), 60_000)
    ((grid, block, arguments, shared),) = cupy.calls
    assert (grid, block, shared) == ((1, 2), (256,), 60_000)
    assert functions[0].max_dynamic_shared_size_bytes == 60_000
    assert arguments[0] is x
    # None would arrive as some other address than 0: https://github.com/cupy/cupy/issues/9046
    assert type(arguments[1]) is np.uint64
    assert arguments[1:3] == (0, 3)
    assert gpu.function("code", ("-DREAL=float",), "one") is functions[0]
    # CuPy takes arrays of size one by value; a scalar of a structured dtype only since version 14
    assert isinstance(arguments[3], np.ndarray)
    assert arguments[3].size == 1
    assert arguments[3].tobytes() == sizes.tobytes()


@host
def test_the_cupy_devices_errors_are_clear_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, fake_cupy())
    gpu = device.CuPyDevice()
    with pytest.raises(
        BadBackend, match=r"out of device memory: 7,629.4 MiB are wanted, 8.0 MiB are free: use a smaller"
    ):
        gpu.empty((10**9,), np.float64)
    with pytest.raises(BadBackend, match=r"refuses a kernel: kernel.cu\(3\): error: expected a ';'"):
        gpu.function("code", (), "wrong")
    gpu._cupy.zeros = fail("cudaErrorIllegalAddress: an illegal memory access was encountered")
    with pytest.raises(BadBackend, match="the GPU reports: cudaErrorIllegalAddress"):
        gpu.zeros((1,), np.float64)
