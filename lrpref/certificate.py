"""How many digits of an explanation are right: floating point against balls that enclose the true value.

The true relevance is the one that the four steps give without any rounding: not of the batch norm's folding,
not of the rule's weights, not of the division. Ball arithmetic encloses it (`lrpref.exact`). A float run is
off by at most the distance to the farthest point of its pixel's ball, so that

    digits_i  >=  -log10( max |R_i - ball_i| / min |ball_i| )

is proven. Where balls are out of reach, the run is compared with longdouble instead: that is no proof, and
the certificate says so, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref import exact
from lrpref.errors import BadBackend, LrprefError
from lrpref.explanation import Explanation, explain
from lrpref.heatmap import draw_digits
from lrpref.kernels.operations import Array
from lrpref.network import Network

MULTIPLICATIONS = 100_000_000
"""Multiplications of a forward pass, all samples together, up to which balls are tried.

A convolution network of 12 million (LeNet-like, 28 x 28) takes 4 to 8 seconds on one core, forth and back,
by the number of shares of its rules: so the limit is about a minute. SqueezeNet has 800 million.
"""

NUMBERS = 10_000_000
"""Weights and activations up to which balls are tried: each takes 100 to 400 bytes, 4 GB in all."""

CAP = 17.0
"""No more digits are told of: 17 decimal digits tell every float64 number from its neighbours."""

LEVELS = (3, 6, 12)
"""The share of pixels with so many right digits is told."""


@dataclass(frozen=True)
class Run:
    """
    How right one floating-point run is.

    Parameters
    ----------
    dtype : str
        Its dtype.
    digits : ndarray of float64, shape (N, ...)
        Right decimal digits of each number of the relevance, relative to its own size; 0 to `CAP`, rounded
        down to a hundredth.
    of_max : ndarray of float64, shape (N, ...)
        The same, relative to max |R| of the sample.
    sum : ndarray of float64, shape (N,)
        Sum of the relevance, in the unit of the explained quantity.
    sum_digits : ndarray of float64, shape (N,)
        Right digits of the sum.
    """

    dtype: str
    digits: Array
    of_max: Array
    sum: Array
    sum_digits: Array

    def summary(self) -> dict[str, Any]:
        """
        Summarize over all pixels and samples.

        Returns
        -------
        dict
            Plain JSON data: the worst pixel's digits, the median, the share of pixels with so many.
        """
        digits = self.digits
        return {
            "min": float(digits.min()),
            "median": float(np.median(digits)),
            **{f"share_with_{level}": float((digits >= level).mean()) for level in LEVELS},
            "min_of_max": float(self.of_max.min()),
            "sum": self.sum.tolist(),
            "sum_digits": self.sum_digits.tolist(),
        }


@dataclass(frozen=True)
class Certificate:
    """
    How many digits of a relevance are right, under each dtype.

    Parameters
    ----------
    method : {"ball", "longdouble"}
        What the runs were held against; only `ball` proves anything.
    why : str
        Why it is no proof; empty if it is one.
    radius : float
        Radius of the widest ball, relative to max |R|; 0 under `longdouble`, which has none.
    sum : tuple of str
        The sum of the true relevance, per sample; of balls, with the radius.
    runs : tuple of Run
        By dtype.
    notes : tuple of str
        Which runs could not be made, and why.
    """

    method: str
    why: str
    radius: float
    sum: tuple[str, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    @property
    def proof(self) -> bool:
        """Whether the digits are proven."""
        return self.method == "ball"

    def __str__(self) -> str:
        if self.proof:
            return f"proven by ball arithmetic; the widest ball is {self.radius:.0e} of max |R|"
        return f"compared with longdouble, which proves nothing: {self.why}"

    def to_json(self) -> dict[str, Any]:
        """
        Give what audit.json holds.

        Returns
        -------
        dict
            Plain JSON data.
        """
        return {
            "method": self.method,
            "proof": self.proof,
            "why": self.why,
            "widest_ball_of_max": self.radius,
            "sum": list(self.sum),
            "digits": {run.dtype: run.summary() for run in self.runs},
            "notes": list(self.notes),
        }

    def picture(self) -> Any:
        """
        Draw the right digits of every pixel of the first sample, one map for each dtype.

        Returns
        -------
        matplotlib.figure.Figure
            Of several channels the worst is shown.
        """
        maps = {run.dtype: run.digits[0] for run in self.runs}
        return draw_digits(maps, "proven" if self.proof else "against longdouble, not proven")


def certify(
    explanation: Explanation,
    dtypes: str | Iterable[str] = ("float32", "float64"),
    watch: Callable[[str], None] | None = None,
) -> Certificate:
    """
    Find out how many digits of an explanation are right.

    Parameters
    ----------
    explanation : Explanation
        What is to be certified. Its own relevance is taken where its dtype is among `dtypes`; the others are
        computed anew on its backend, by the same rules, of the same input and class.
    dtypes : str or iterable of str
        The floating-point formats that are held against the truth.
    watch : callable, optional
        Called with each node's name, as by `explain`, in each of the runs.

    Returns
    -------
    Certificate
        Proven by balls up to `MULTIPLICATIONS` and `NUMBERS`; else against longdouble.

    Raises
    ------
    BadBackend
        If there is neither python-flint nor a longdouble that is longer than float64, or nothing could be
        run at all.
    """
    truth, why = _truth(explanation, watch)
    dtypes = [dtypes] if isinstance(dtypes, str) else dtypes
    runs, notes = [], []
    with exact.precision(truth.dtype, 128):  # the difference of two near numbers wants some bits
        for dtype in dtypes:
            try:
                runs.append(_run(_again(explanation, dtype, watch), truth))
            except LrprefError as error:
                notes.append(f"{dtype}: {error}")
        if not runs:
            raise BadBackend(f"nothing could be certified: {'; '.join(notes) or 'no dtype is given'}")
        radius, totals = _radius(truth.relevance), tuple(map(str, truth.ledger.inputs))
    return Certificate(truth.dtype, why, radius, totals, tuple(runs), tuple(notes))


def _truth(e: Explanation, watch: Callable[[str], None] | None) -> tuple[Explanation, str]:
    """Enclose the truth in balls, or come near it in longdouble: then it is said why."""
    why = _out_of_reach(e.canonical, len(e.x))
    if not why:
        try:
            return _again(e, "ball", watch), ""
        except LrprefError as error:  # no python-flint, or a ball straddles 0: the text names the node
            why = str(error)
    if np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps:
        raise BadBackend(f"no certificate: {why}; and longdouble is no longer than float64 on this machine")
    return _again(e, "longdouble", watch), why


def _again(e: Explanation, dtype: str, watch: Callable[[str], None] | None) -> Explanation:
    """Explain the same in another arithmetic."""
    if e.dtype == dtype:
        return e
    target = exact.as_float(e.relevances[e.canonical.top]) if e.target is None else e.target
    backend = e.backend if dtype in ("float32", "float64") else "numpy"
    return explain(
        e.network, e.x, target, rules=e.rules, backend=backend, dtype=dtype, head=e.head, dialect=e.dialect,
        watch=watch,
    )  # fmt: skip


def _out_of_reach(network: Network, samples: int) -> str:
    """Say why balls are too slow or too large for this network; empty if they are not."""
    multiplications = numbers = 0
    for node in network.nodes:
        size = samples * int(np.prod(network.shapes[node.name]))
        weight = getattr(node.layer, "weight", None)
        fan_in = weight.size // len(weight) if isinstance(weight, np.ndarray) else 1
        multiplications += size * fan_in
        numbers += size + (weight.size if isinstance(weight, np.ndarray) else 0)
    if multiplications > MULTIPLICATIONS:
        return f"{multiplications:,} multiplications; balls are tried up to {MULTIPLICATIONS:,}"
    if numbers > NUMBERS:
        return f"{numbers:,} weights and activations; balls are tried up to {NUMBERS:,}"
    return ""


def _run(e: Explanation, truth: Explanation) -> Run:
    error, size = _error(e.relevance, truth.relevance), _size(truth.relevance)
    rest = tuple(range(1, size.ndim))
    total = exact.as_float(e.ledger.inputs)
    return Run(
        e.dtype,
        _digits(error, size),
        _digits(error, np.broadcast_to(size.max(axis=rest, keepdims=True), size.shape)),
        total,
        _digits(_error(total, truth.ledger.inputs), _size(truth.ledger.inputs)),
    )


def _digits(error: Array, size: Array) -> Array:
    """-log10(error / size), at least 0: at 0 not even the sign is known to be right."""
    digits = np.where(error == 0, CAP, 0.0)
    known = (error > 0) & (size > 0)
    # one part in 2**28 for the roundings of quotient and logarithm to float64
    ratio = error[known] * (1 + 2.0**-28) / size[known]
    digits[known] = np.floor(100 * -np.log10(np.maximum(ratio, 10**-CAP))) / 100
    return np.clip(digits, 0, CAP)


# What is known of the truth: of balls a bound, of longdoubles themselves.


def _error(values: Array, truth: Array) -> Array:
    """Give how far values are from the truth at most."""
    if truth.dtype != object:
        return np.asarray(abs(truth - values.astype(truth.dtype)), np.float64)
    balls = truth - exact.get("ball").array(values)
    return np.array([_rounded_up(ball.abs_upper()) for ball in balls.flat]).reshape(truth.shape)


def _rounded_up(x: Any) -> float:
    """Give a float above a positive number of any precision: the nearest may be 0, or a denormal below it."""
    return math.nextafter(float(x), math.inf) if x != 0 else 0.0


def _size(truth: Array) -> Array:
    """Give how large the truth is at least."""
    if truth.dtype != object:
        return np.asarray(abs(truth), np.float64)
    sizes = [math.nextafter(float(ball.abs_lower()), 0.0) for ball in truth.flat]
    return np.array(sizes).reshape(truth.shape)


def _radius(truth: Array) -> float:
    """Give the radius of the widest ball, relative to max |R|."""
    if truth.dtype != object:
        return 0.0
    return max(float(ball.rad()) for ball in truth.flat) / (float(_size(truth).max()) or 1.0)
