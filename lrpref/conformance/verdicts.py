"""What a library's answer to a vector means: the chapter's result, its own dialect's, another's, or nobody's.

A library may be wrong, or mean something else by the same name. So an answer is held against everything
that is known, in this order: the exact result of the chapter's formula; what lrpref computes under the
library's dialect (`lrpref.dialects`); every setting of every dimension, one at a time; the conventions that
the vector names; the dialects of other libraries; and a few slips that many have made (`slips`). The first
that agrees gives the verdict: all are held against it within rounding first, and then more loosely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import lrpref
from lrpref import dialects
from lrpref.conformance.slips import slips
from lrpref.conformance.zeros import divides_by_zero
from lrpref.errors import LrprefError
from lrpref.kernels.operations import Array

if TYPE_CHECKING:
    from lrpref.conformance.adapters.process import Outcome
    from lrpref.conformance.suite import Vector
    from lrpref.dialects import Dialect, Dimension

VERDICTS = {
    "chapter": "agrees with the chapter",
    "dialect": "agrees with the library's own dialect",
    "convention": "agrees with another named convention",
    "differs": "agrees with no definition that is known",
    "undefined": "no verdict: the chapter's formula has no value there",
    "unsupported": "the library has no such rule, parameter or layer",
    "error": "the library raises an error",
    "not-finite": "the library returns NaN or infinity",
    "wrong-shape": "the library returns another shape than the input's",
    "crash": "the library's process ends",
    "timeout": "the library does not come back",
}
"""Every verdict, the best first."""

FAILURES = ("error", "not-finite", "wrong-shape", "crash", "timeout")
"""Verdicts about a library that gave no result."""

ROUNDINGS = 8
"""A result agrees with the chapter's within so many of the vector's float64 bounds. A bound allows for the
rounding of the four steps; a library may take more steps to the same formula, such as a gradient by automatic
differentiation, or a mask for each sign, and rounds a few times more. A wrong formula is off by far more."""

SAME = 1e-9
"""A result agrees with a dialect's within this share of its largest magnitude: both are of floats."""

TOLERANCES = (None, 1e-12, SAME)
"""By which causes are sought, the strictest first; None: within `ROUNDINGS` of the vector's bounds. By `SAME`
alone an eps of 1e-9 in a denominator would be nothing, nor would a wrong number beside a large one."""

CLOSE_ONLY = f"the chapter's result to {SAME:g} of the largest R, but further off than rounding in float64"
"""What is said where no dimension is needed: a coarser computation, or a mistake too small to be found."""

SEVERAL, NONE = "several", "none"
"""The rule of vectors whose nodes have different rules, or no rule at all."""

UNIT = 2.0**-53
"""Unit roundoff of float64."""


@dataclass(frozen=True)
class Finding:
    """
    What was found of one vector.

    Parameters
    ----------
    id, family : str
        The vector, and the file that it is from.
    rule : str
        The rule that the vector is about, `SEVERAL` or `NONE`.
    flags : tuple of str
        The dimensions that the vector isolates.
    verdict : str
        One of `VERDICTS`.
    error : float or None
        Largest difference from the exact result, in units of the vector's float64 bound; None without one.
    dimensions : tuple of str
        The dimensions that explain a difference, such as `("D11",)`.
    why : str
        One sentence: which definition the result follows, or what the library said.
    regression : bool
        Whether the library does not do what its own dialect says.
    settings : str
        What the library could not be asked for as the vector says, and what was taken instead.
    """

    id: str
    family: str
    rule: str
    flags: tuple[str, ...]
    verdict: str
    error: float | None = None
    dimensions: tuple[str, ...] = ()
    why: str = ""
    regression: bool = False
    settings: str = ""

    def plain(self) -> dict[str, Any]:
        """
        Give the finding as JSON data.

        Returns
        -------
        dict
            What is not empty.
        """
        return {name: value for name, value in asdict(self).items() if value or name == "error"}

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Finding:
        """
        Read what `plain` gave.

        Parameters
        ----------
        held : mapping
            JSON data.

        Returns
        -------
        Finding
            The finding.
        """
        lists = {name: tuple(held.get(name, ())) for name in ("flags", "dimensions")}
        return cls(**{**held, **lists})


def own_dialect(library: str) -> Dialect:
    """
    Find the dialect that goes by a library's name.

    Parameters
    ----------
    library : str
        The name, or an adapter's file.

    Returns
    -------
    Dialect
        Its dialect; the chapter's where none is known.
    """
    return dialects.get(library) if library in dialects.NAMES else dialects.CHAPTER


def judge(vector: Vector, outcome: Outcome, dialect: Dialect) -> Finding:
    """
    Say what a library's answer to a vector means.

    Parameters
    ----------
    vector : Vector
        The vector.
    outcome : Outcome
        What the library made of it.
    dialect : Dialect
        What the library is known to mean; `dialects.CHAPTER` where nothing is known.

    Returns
    -------
    Finding
        The verdict, and one sentence why.
    """
    found = partial(Finding, vector.id, vector.family, rule_of(vector), tuple(vector.flags))
    if vector.result == "undefined":
        return found("undefined", why=_told(outcome), settings=outcome.settings)
    if outcome.status == "unsupported":
        return found("unsupported", why=outcome.message)
    predicted = explained(vector, dialect)
    if outcome.status == "not-finite" and divides_by_zero(vector, dialect):
        return found("not-finite", why="NaN or infinity: a denominator is 0")
    if outcome.R is None or outcome.status != "ok":
        return found(outcome.status, why=outcome.message, regression=predicted is not None)
    R = np.asarray(outcome.R, np.float64)
    error = in_bounds(vector, R)
    if error <= ROUNDINGS:
        otherwise = predicted is not None and not same(R, predicted, vector)
        why = f"its dialect as we know it ({dialect.name}) says otherwise" if otherwise else ""
        return found("chapter", error, (), why, otherwise, outcome.settings)
    verdict, dimensions, why = _explanation(vector, R, dialect)
    otherwise = predicted is not None and verdict != "dialect"
    return found(verdict, error, dimensions, why, otherwise, outcome.settings)


def rule_of(vector: Vector) -> str:
    """
    Name the rule that a vector is about.

    Parameters
    ----------
    vector : Vector
        The vector.

    Returns
    -------
    str
        The rule's name, `SEVERAL` or `NONE`.
    """
    names = {node["rule"]["name"] for node in vector.raw["nodes"] if node["rule"]}
    return names.pop() if len(names) == 1 else SEVERAL if names else NONE


def in_bounds(vector: Vector, R: Array) -> float:
    """
    Measure how far a result is from the exact one.

    Parameters
    ----------
    vector : Vector
        The vector.
    R : ndarray of float64
        A result.

    Returns
    -------
    float
        Largest difference in units of the vector's float64 bound, or of one rounding of the result's
        largest magnitude where the bound is smaller: a library may reach a zero by subtraction. Infinity
        where a number is NaN.
    """
    off = np.abs(R - vector.expected) / _unit(vector)
    return float(np.nan_to_num(off, nan=np.inf).max(initial=0.0))


def _unit(vector: Vector) -> Array:
    rounding = UNIT * np.abs(vector.expected).max(initial=0.0)
    return np.maximum(vector.bound("float64"), max(rounding, np.finfo(np.float64).smallest_subnormal))


def same(R: Array, expected: Array, vector: Vector, tolerance: float | None = SAME) -> bool:
    """
    Tell whether a result is another's, but for rounding.

    Parameters
    ----------
    R, expected : ndarray of float64
        Two results.
    vector : Vector
        Whose; where the expected result is 0 everywhere, its relevance gives the scale.
    tolerance : float or None
        A share of the largest magnitude; None: `ROUNDINGS` of the vector's bounds, number by number.

    Returns
    -------
    bool
        Whether they differ by no more.
    """
    scale = np.abs(expected).max(initial=0.0) or np.abs(vector.R).max(initial=0.0)
    allowed = ROUNDINGS * _unit(vector) if tolerance is None else tolerance * scale
    return bool((np.abs(R - expected) <= allowed).all())


def explained(vector: Vector, dialect: Dialect) -> Array | None:
    """
    Compute what a dialect makes of a vector.

    Parameters
    ----------
    vector : Vector
        The vector.
    dialect : Dialect
        The dialect.

    Returns
    -------
    ndarray of float64, or None
        Relevance of the input; None where the dialect has no such rule or layer.
    """
    try:
        made = lrpref.explain(vector.network, vector.x, vector.R, rules=vector.rules, dialect=dialect)
    except LrprefError:
        return None
    return made.relevance


def needed(dialect: Dialect, agrees: Callable[[Dialect], bool]) -> tuple[Dimension, ...]:
    """
    Find which settings of a dialect an agreement rests on.

    One setting after another is put back to the chapter's; it stays there if the agreement does.

    Parameters
    ----------
    dialect : Dialect
        A dialect that agrees.
    agrees : callable
        Tells whether a dialect agrees.

    Returns
    -------
    tuple of Dimension
        None of them can be left out.
    """
    for dimension in dialect.differs():
        without = dialect.with_settings(**{dimension.id: dimension.chapter})
        if agrees(without):
            dialect = without
    return tuple(dialect.differs())


def variations() -> Iterator[tuple[Dimension, Dialect]]:
    """
    Go through every setting of every dimension but the chapter's.

    Yields
    ------
    Dimension, Dialect
        The dimension, and the chapter with this one setting.
    """
    for dimension in dialects.DIMENSIONS.values():
        for option in dimension.options:
            if option != dimension.chapter:
                yield dimension, dialects.CHAPTER.with_settings(**{dimension.id: option})


def _explanation(vector: Vector, R: Array, dialect: Dialect) -> tuple[str, tuple[str, ...], str]:
    """Find the definition that a result follows: verdict, dimensions, and one sentence."""
    for tolerance in TOLERANCES:
        for found in _explanations(vector, R, dialect, tolerance):
            return found
    return "differs", (), _unexplained(vector, dialect)


def _unexplained(vector: Vector, dialect: Dialect) -> str:
    """Say why nothing agrees: the library's dialect may not reach so far."""
    try:
        lrpref.explain(vector.network, vector.x, vector.R, rules=vector.rules, dialect=dialect)
    except LrprefError as error:
        _, _, why = str(error).rpartition("': ")  # whichever node it is, the reason is the same
        return why
    return "no convention that the vector names and no setting of any dimension explains it"


def _explanations(
    vector: Vector, R: Array, dialect: Dialect, tolerance: float | None
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Go through all that is known, the likeliest first, and give what agrees."""
    agrees = partial(_agrees, vector, R, tolerance=tolerance)
    if agrees(dialect):
        dimensions = needed(dialect, agrees)
        yield "dialect", tuple(d.id for d in dimensions), sentence(dialect, dimensions)
    for dimension, tried in variations():
        if agrees(tried):
            yield "convention", (dimension.id,), sentence(tried, [dimension])
    for name, value in vector.conventions.items():
        if same(R, value, vector, tolerance):
            noted = vector.raw["conventions"][name]
            users = ", ".join(noted["used_by"]) or "nobody known"
            yield "convention", (noted["flag"],), f"{noted['flag']}: the convention '{name}', used by {users}"
    for other in map(dialects.get, dialects.NAMES):
        if agrees(other):
            dimensions = needed(other, agrees)
            why = f"As {other.library} does it. {sentence(other, dimensions)}"
            yield "convention", tuple(d.id for d in dimensions), why
    for concerned, slip, value in slips(vector):
        if same(R, value, vector, tolerance):
            yield "differs", concerned, slip


def _agrees(vector: Vector, R: Array, tried: Dialect, tolerance: float | None) -> bool:
    made = explained(vector, tried)
    return made is not None and same(R, made, vector, tolerance)


def sentence(dialect: Dialect, dimensions: Sequence[Dimension]) -> str:
    """
    Say what a dialect does in some dimensions.

    Parameters
    ----------
    dialect : Dialect
        The dialect.
    dimensions : sequence of Dimension
        In which.

    Returns
    -------
    str
        One sentence for each; `CLOSE_ONLY` where there are none.
    """
    told = [f"{d.id} {d.title}: {d.options[dialect.settings[d.id]]}" for d in dimensions]
    return " ".join(told) or CLOSE_ONLY


def _told(outcome: Outcome) -> str:
    """Say what a library gives where nothing is right or wrong."""
    if outcome.R is None:
        return f"{outcome.status}: {outcome.message}"
    values = np.asarray(outcome.R).ravel()
    return f"gives {', '.join(f'{value:.6g}' for value in values[:6])}{', ...' if len(values) > 6 else ''}"
