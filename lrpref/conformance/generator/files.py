"""Vectors as JSON: every result as a fraction, as the nearest float64, and with its two bounds."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lrpref.conformance.generator import conventions
from lrpref.conformance.generator.case import Case
from lrpref.conformance.generator.formulas import RULES
from lrpref.conformance.generator.geometry import Array
from lrpref.conformance.generator.network import propagate
from lrpref.conformance.generator.numbers import FORMATS, Exact, NoBound, Rounded
from lrpref.conformance.generator.parts import Node
from lrpref.errors import LrprefError

FORMAT = "lrpref-vectors/1"

LONGEST_FRACTION = 40
"""Fractions with more characters are left to their floats."""

WIDTH = 120
"""So long a line may be, but that of an array."""


def document(title: str, sentences: Mapping[str, str], cases: Sequence[Case]) -> dict[str, Any]:
    """
    Compute a family of vectors.

    Parameters
    ----------
    title : str
        What the family is.
    sentences : mapping of str to str
        What each flag means.
    cases : sequence of Case
        Its cases.

    Returns
    -------
    dict
        What its file holds.
    """
    used = {flag for case in cases for flag in case.flags}
    used |= {c.flag for case in cases for c in case.conventions.values()}
    return {
        "format": FORMAT,
        "title": title,
        "flags": {flag: sentence for flag, sentence in sentences.items() if flag in used},
        "vectors": [vector(case) for case in cases],
    }


def vector(case: Case) -> dict[str, Any]:
    """
    Compute a vector.

    Parameters
    ----------
    case : Case
        The case.

    Returns
    -------
    dict
        As the vector files have it.

    Raises
    ------
    NoBound
        If rounding could change its outcome.
    """
    try:
        return _vector(case)
    except (NoBound, AssertionError) as error:
        raise type(error)(f"{case.id}: {error}") from None


def _vector(case: Case) -> dict[str, Any]:
    expected, undefined = _results(case.nodes, case.x, case.R)
    entry: dict[str, Any] = {
        "id": case.id,
        "comment": case.comment,
        "flags": list(case.flags),
        "tags": list(case.tags),
        "source": case.source,
        "nodes": [{key: _given(value) for key, value in node.items()} for node in case.nodes],
        "input": _given(case.x),
        "relevance": _given(case.R),
        "result": "undefined" if undefined else "valid",
        "expected": expected,
    }
    others = {}
    for name, other in case.conventions.items():
        nodes, R = other.nodes or case.nodes, other.R or case.R
        result, _ = _results(nodes, case.x, R, conventions.ALL)
        if result["R"]["hex"] != expected["R"]["hex"]:  # an answer that is the chapter's is no other one
            others[name] = {"used_by": list(other.used_by), "flag": other.flag, "R": result["R"]}
    return entry | ({"result": "convention", "conventions": others} if others else {})


def is_defined(case: Case) -> bool:
    """
    Tell whether the chapter's formulas have a value for a case.

    Parameters
    ----------
    case : Case
        The case.

    Returns
    -------
    bool
        False where a denominator is 0.
    """
    return not any(propagate(Exact(), case.nodes, case.x, case.R)["undefined"].numbers)


def _given(value: Any) -> Any:
    """Write what was given: every number is one of float32, so that no reader rounds it."""
    if not isinstance(value, Array):
        return value
    for x in value.numbers:
        assert x == Fraction(struct.unpack("f", struct.pack("f", float(x)))[0]), f"{x} is no float32"
    return {"shape": list(value.shape), "hex": [hexadecimal(x) for x in value.numbers]}


def _results(
    nodes: Sequence[Node], x: Array, R: Array, rules: Mapping[str, Any] = RULES
) -> tuple[dict[str, Any], bool]:
    """Compute what comes out, with its bounds; and whether the formulas themselves have a value."""
    exact, *bounded = (propagate(n, nodes, x, R, rules) for n in (Exact(), *map(Rounded, FORMATS)))
    undefined = any(exact.pop("undefined").numbers)
    return _merged(exact, *bounded), undefined


def _merged(exact: Any, *bounded: Any) -> Any:
    """Bring the exact result and the bounds together."""
    if isinstance(exact, Mapping):
        return {key: _merged(exact[key], *(b[key] for b in bounded)) for key in exact}
    if not isinstance(exact, Array):
        return [_merged(*parts) for parts in zip(exact, *bounded, strict=True)]
    result: dict[str, Any] = {
        "shape": list(exact.shape),
        "hex": [hexadecimal(x) for x in exact.numbers],
        "exact": [text if len(text := str(x)) <= LONGEST_FRACTION else None for x in exact.numbers],
    }
    for format, numbers in zip(FORMATS, bounded, strict=True):
        assert all(x == b.value for x, b in zip(exact.numbers, numbers.numbers, strict=True))
        result[format.name] = [_bound(x.value, x.error) for x in numbers.numbers]
    return result


def _bound(exact: Fraction, error: float) -> float:
    """Give the bound around the nearest float64, rounded up to two digits."""
    bound = Fraction(error) + abs(exact - Fraction(float(exact)))
    if not bound:
        return 0.0
    digits, exponent = f"{float(bound):.1e}".split("e")
    rounded = float(f"{digits}e{exponent}")
    if Fraction(rounded) < bound:
        rounded = float(f"{float(digits) + 0.1:.1f}e{exponent}")
    return rounded


def hexadecimal(x: Any) -> str:
    """
    Write the nearest float64 in hexadecimal, without trailing zeros.

    Parameters
    ----------
    x : Fraction
        A number.

    Returns
    -------
    str
        Such as 0x1.8p+0, which `float.fromhex` and C's `strtod` read without loss.
    """
    mantissa, exponent = float(x).hex().split("p")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}p{exponent}"


def text(value: Any, indent: int = 0) -> str:
    """
    Write JSON that a person can read: what fits on a line, and every array, stands on a line.

    Parameters
    ----------
    value : object
        Dictionaries, lists, strings, numbers, booleans and None.
    indent : int
        How far the lines are moved in.

    Returns
    -------
    str
        The JSON.

    Raises
    ------
    LrprefError
        If a number is not finite.
    """
    try:
        line = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        raise LrprefError(f"a number is not finite in {str(value)[:80]}") from None
    if not isinstance(value, Mapping | list) or len(line) + indent <= WIDTH or "hex" in value:
        return line
    inner, end = "\n" + " " * (indent + 1), "\n" + " " * indent
    if isinstance(value, Mapping):
        lines = [f"{json.dumps(key)}: {text(entry, indent + 1)}" for key, entry in value.items()]
        return "{" + inner + ("," + inner).join(lines) + end + "}"
    return "[" + inner + ("," + inner).join(text(entry, indent + 1) for entry in value) + end + "]"
