"""How many digits are right: held against rationals, and against errors that are put in on purpose."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import lrpref
from lrpref import certificate, data, exact
from lrpref.certificate import CAP, certify
from lrpref.cli import app
from lrpref.errors import BadBackend, BadRecord
from lrpref.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU
from lrpref.network import Network, chain
from lrpref.verification import verify

RULES = ("lrp-0", "gamma", "epsilon-plus", "epsilon-alpha2-beta1")


@pytest.fixture(scope="module")
def network() -> Network:
    """A network small enough for rationals; thirds and tenths, so that every format rounds."""
    rng = np.random.default_rng(11)

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(-9, 10, shape) / 10 + 1 / 3

    return chain([
        ("conv", Conv2d(numbers(3, 1, 2, 2), numbers(3))), ("relu", ReLU()), ("pool", MaxPool2d((2, 2))),
        ("flatten", Flatten()), ("hidden", Dense(numbers(5, 12), numbers(5))), ("relu2", ReLU()),
        ("score", Dense(numbers(2, 5), numbers(2))),
    ], input_shape=(1, 5, 5))  # fmt: skip


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(12).uniform(0, 1, (2, 1, 5, 5))


def fractions(e: lrpref.Explanation) -> list[Fraction]:
    return [Fraction(str(v)) for v in e.relevance.flat]


@pytest.mark.parametrize("composite", RULES)
def test_the_digits_are_those_that_rationals_say(network: Network, x: np.ndarray, composite: str) -> None:
    e = lrpref.explain(network, x, 0, composite)
    true = fractions(lrpref.explain(network, x, 0, composite, dtype="exact"))
    made = certify(e)
    assert made.proof, made.why
    assert made.radius < 1e-30
    for run in made.runs:
        R = lrpref.explain(network, x, 0, composite, dtype=run.dtype).relevance
        for value, truth, digits in zip(R.flat, true, run.digits.flat, strict=True):
            off = abs(Fraction(float(value)) - truth)
            if truth == 0 or off == 0:
                assert digits == (CAP if off == 0 else 0)
                continue
            right = min(CAP, max(0.0, -math.log10(off / abs(truth))))
            # proven means: never more than there are. Rounded down to a hundredth: never fewer by more
            # than that (1e-6 for logarithms and bounds in float64)
            assert right - 0.01 - 1e-6 <= digits <= right + 1e-6
        largest = [max(map(abs, sample)) for sample in np.reshape(true, (2, -1)).tolist()]
        worst = max(
            abs(Fraction(float(v)) - t) / largest[i // 25]
            for i, (v, t) in enumerate(zip(R.flat, true, strict=True))
        )
        assert abs(min(CAP, -math.log10(worst)) - run.of_max.min()) <= 0.01 + 1e-6


def test_float32_and_float64_have_the_digits_of_their_formats(network: Network, x: np.ndarray) -> None:
    float32, float64 = certify(lrpref.explain(network, x, 0, "lrp-0")).runs
    assert (float32.dtype, float64.dtype) == ("float32", "float64")
    # a correctly rounded number has at least 7.2 and 15.9 digits; three layers lose one or two of max |R|
    assert 5 < float32.of_max.min() < 9
    assert float64.of_max.min() > 13.5


@pytest.mark.parametrize(("off", "digits"), [(1e-3, 3), (1e-6, 6), (1e-10, 10), (1.0, 0), (7.0, 0)])
def test_an_error_that_is_put_in_is_found(network: Network, x: np.ndarray, off: float, digits: int) -> None:
    e = lrpref.explain(network, x, 0, "lrp-0")
    R = e.relevance.copy()
    i = np.unravel_index(abs(R).argmax(), R.shape)
    R[i] *= 1 + off
    (run,) = certify(replace(e, relevances={**e.relevances, "input": R}), ["float64"]).runs
    assert abs(run.digits[i] - digits) <= 0.011  # rounded down to a hundredth, and R itself is rounded
    assert run.digits.min() == run.digits[i] or digits > 9
    assert (run.digits == certify(e, ["float64"]).runs[0].digits).sum() == R.size - 1


def test_denormals_promise_no_more_digits_than_they_have(network: Network, x: np.ndarray) -> None:
    """The distance to the truth may be below the smallest float64: that is not 0, and not 17 digits."""
    R = np.array([[1e-310, 0], [3e-319, 1e-318]])
    e = lrpref.explain(network, x, R, "lrp-0")
    true = fractions(lrpref.explain(network, x, R, "lrp-0", dtype="exact"))
    (run,) = certify(e, "float64").runs
    assert 0 < abs(e.relevance).max() < np.finfo(np.float64).smallest_normal
    for value, truth, digits in zip(e.relevance.flat, true, run.digits.flat, strict=True):
        off = abs(Fraction(float(value)) - truth)
        # digits d promise that the error is at most 10**-d of the true value
        assert off == 0 or digits == 0 or off <= abs(truth) / Fraction(10.0 ** float(digits))


def test_no_dtype_is_nothing_to_certify(network: Network, x: np.ndarray) -> None:
    e = lrpref.explain(network, x, 0, "lrp-0")
    with pytest.raises(BadBackend, match="nothing could be certified: no dtype is given"):
        certify(e, [])
    with pytest.raises(BadBackend, match="nothing could be certified: float16: unknown dtype 'float16'"):
        certify(e, "float16")


def test_what_a_wrong_sign_is_worth(network: Network, x: np.ndarray) -> None:
    e = lrpref.explain(network, x, 0, "lrp-0")
    (run,) = certify(replace(e, relevances={**e.relevances, "input": -e.relevance}), ["float64"]).runs
    assert (run.digits[e.relevance != 0] == 0).all()


def test_zeros_that_are_exact_are_right(network: Network) -> None:
    e = lrpref.explain(network, np.zeros((1, 1, 5, 5)), 0, "lrp-0")
    assert (e.relevance == 0).all()
    for run in certify(e).runs:
        assert (run.digits == CAP).all()
        assert (run.of_max == CAP).all()


@pytest.mark.parametrize("dtype", ["float32", "longdouble", "exact", "ball"])
def test_an_explanation_in_any_arithmetic(network: Network, x: np.ndarray, dtype: str) -> None:
    e = lrpref.explain(network, x, 0, "epsilon-plus", dtype=dtype)
    same = certify(lrpref.explain(network, x, 0, "epsilon-plus"))
    for run, other in zip(certify(e).runs, same.runs, strict=True):
        assert np.array_equal(run.digits, other.digits)


def test_relevances_of_ones_own_and_log_odds(network: Network, x: np.ndarray) -> None:
    for e in (lrpref.explain(network, x, np.array([[1.0, -2.0], [0.5, 3.0]]), "epsilon-plus"),
              lrpref.explain(network, x, "max", "epsilon-plus", head="log-odds")):  # fmt: skip
        made = certify(e)
        assert made.proof
        assert made.runs[1].of_max.min() > 12, "another quantity was explained"


def test_another_librarys_definitions_are_kept(network: Network, x: np.ndarray) -> None:
    theirs = lrpref.explain(network, x, 0, "epsilon-plus", dialect="captum")
    ours = lrpref.explain(network, x, 0, "epsilon-plus")
    assert abs(theirs.relevance - ours.relevance).max() > 1e-3 * abs(ours.relevance).max()
    assert certify(theirs).runs[1].of_max.min() > 12, "the truth is that of the dialect"


def test_the_backends_own_run_is_certified(network: Network, x: np.ndarray) -> None:
    e = lrpref.explain(network, x, 0, "epsilon-plus", backend="loops", dtype="float32")
    float32, float64 = certify(e).runs
    again = certify(lrpref.explain(network, x, 0, "epsilon-plus", backend="loops")).runs
    assert np.array_equal(float32.digits, again[0].digits)
    assert np.array_equal(float64.digits, again[1].digits)


# Where balls do not reach.


def test_a_tie_that_no_ball_decides_is_named_and_longdouble_taken() -> None:
    net = chain([
        ("mean", AvgPool2d((1, 3), stride=(1, 3))), ("best", MaxPool2d((1, 2))), ("flatten", Flatten()),
        ("score", Dense(np.eye(1), None)),
    ], input_shape=(1, 1, 6))  # fmt: skip
    made = certify(lrpref.explain(net, np.ones((1, 1, 1, 6)), 0, "lrp-0"))  # means of 3: no power of two
    assert not made.proof
    assert made.why.startswith("node 'best': ")
    assert "undecided" in made.why
    assert "proves nothing: node 'best'" in str(made)
    assert [run.dtype for run in made.runs] == ["float32", "float64"]


def test_too_large_is_said_with_the_limit(
    network: Network, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = lrpref.explain(network, x, 0, "lrp-0")
    proven = certify(e)
    # conv, hidden, score, and one for each output of relu, pool, flatten, relu2; two samples
    forward = 2 * (3 * 16 * 4 + 5 * 12 + 2 * 5 + 48 + 12 + 12 + 5)
    monkeypatch.setattr(certificate, "MULTIPLICATIONS", forward)
    assert certify(e).proof
    monkeypatch.setattr(certificate, "MULTIPLICATIONS", forward - 1)
    made = certify(e)
    assert (made.method, made.radius) == ("longdouble", 0)
    assert made.why == f"{forward} multiplications; balls are tried up to {forward - 1}"
    for run, other in zip(made.runs, proven.runs, strict=True):
        # longdouble is off by 2**-63 per step, 2**-11 of float64's: where 15 digits are right or fewer it
        # moves the float's distance by some thousandths; the digits are rounded down to hundredths
        few = other.digits < 15
        assert abs(run.digits - other.digits)[few].max() <= 0.05
    monkeypatch.setattr(certificate, "NUMBERS", 10)
    monkeypatch.setattr(certificate, "MULTIPLICATIONS", forward)
    assert "weights and activations; balls are tried up to 10" in certify(e).why


def test_without_python_flint(network: Network, x: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = certify(lrpref.explain(network, x, 0, "lrp-0"))
    assert not made.proof
    assert "pip install 'lrpref[exact]'" in made.why
    monkeypatch.setattr(np, "longdouble", np.float64)  # as on some machines
    with pytest.raises(BadBackend, match="longdouble is no longer than float64"):
        certify(lrpref.explain(network, x, 0, "lrp-0"))


def test_a_run_that_overflows_is_noted(network: Network, x: np.ndarray) -> None:
    made = certify(lrpref.explain(network, x * 1e40, 0, "lrp-0"))
    assert made.proof
    assert [run.dtype for run in made.runs] == ["float64"]
    (note,) = made.notes
    assert note.startswith("float32: ")


# The record and the command line.


def test_a_certified_record_is_verified(network: Network, x: np.ndarray, tmp_path: Path) -> None:
    e = lrpref.explain(network, x, 0, "epsilon-plus")
    made = certify(e)
    e.save(tmp_path / "out", certificate=made)
    record = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert record["certificate"] == made.to_json()
    assert record["certificate"]["proof"] is True
    assert record["certificate"]["digits"]["float64"]["min"] == made.runs[1].digits.min()
    assert "digits.png" in record["pictures"]
    assert all(finding.ok for finding in verify(tmp_path / "out", lambda entry: network))
    e.save(tmp_path / "out", overwrite=True)  # a certified record is a record of ours
    assert not (tmp_path / "out" / "digits.png").exists()
    assert all(finding.ok for finding in verify(tmp_path / "out", lambda entry: network))


@pytest.mark.parametrize("damage", ["entry", "picture", "gone"])
def test_a_changed_certificate_does_not_stand(
    network: Network, x: np.ndarray, tmp_path: Path, damage: str
) -> None:
    e, out = lrpref.explain(network, x, 0, "epsilon-plus"), tmp_path / "out"
    e.save(out, certificate=certify(e))
    if damage == "entry":
        record = json.loads((out / "audit.json").read_text(encoding="utf-8"))
        record["certificate"]["digits"]["float32"]["min"] = 7.2
        (out / "audit.json").write_text(json.dumps(record), encoding="utf-8")
    elif damage == "picture":
        (out / "digits.png").write_bytes(b"another")
    else:
        (out / "digits.png").unlink()
    failed = [finding.what for finding in verify(out, lambda entry: network) if not finding.ok]
    wanted = {
        "entry": ["audit.json: certificate"],
        "picture": ["digits.png"],
        "gone": ["the files", "digits.png"],
    }
    assert failed == wanted[damage]


def test_an_uncertified_record_has_no_digits(network: Network, x: np.ndarray, tmp_path: Path) -> None:
    e, out = lrpref.explain(network, x, 0, "epsilon-plus"), tmp_path / "out"
    e.save(out)
    (out / "digits.png").write_bytes(b"of nobody")
    failed = [finding.what for finding in verify(out, lambda entry: network) if not finding.ok]
    assert failed == ["the files"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(BadRecord, match="holds other files"):
        e.save(out, overwrite=True)


def test_the_command_prints_and_records(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["explain", "--certify", "--composite", "lrp-0", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "proven by ball arithmetic" in done.output
    for dtype in ("float32", "float64"):
        (line,) = (line for line in done.output.splitlines() if line.split()[:1] == [dtype])
        worst, median = map(float, line.split()[1:3])
        assert 0 < worst < median < CAP
    assert {path.name for path in out.iterdir()} == {
        "audit.json", "relevance.npz", "heatmap.png", "ledger.png", "digits.png",
    }  # fmt: skip
    done = CliRunner().invoke(app, ["verify", str(out)])
    assert done.exit_code == 0, done.output


def test_the_embedded_network_is_proven_on_every_backend_that_computes_here() -> None:
    network = data.embedded()
    e = lrpref.explain(network, network.preprocess(data.image(9)), dtype="ball")
    assert exact.radius(e.relevance).max() < 1e-15 * abs(exact.as_float(e.relevance)).max()
    for backend in ("numpy", "cpu"):
        for run in certify(replace(e, backend=backend)).runs:
            # 15 nodes, sums of at most 3,136 products: a float run keeps two thirds of its format's digits
            assert run.of_max.min() > {"float32": 4.8, "float64": 10.6}[run.dtype]
