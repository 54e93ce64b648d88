"""Files of test vectors as plain data, every field of them checked (docs/vectors.md is the format)."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from lrpref.conformance.place import Place
from lrpref.errors import BadVector
from lrpref.files import regular

FORMAT = "lrpref-vectors/1"

LARGEST = sys.float_info.max

RESULTS = ("valid", "undefined", "convention")
STABILIZERS = ("signed", "unsigned", "relative")
BIAS = ("absorb", "ignore", "redistribute")
ACCOUNTS = ("arriving", "to_inputs", "bias", "stabilizer", "dropped", "padding")

HEXADECIMAL = re.compile(r"-?0x[01](\.[0-9a-f]+)?p[+-][0-9]+")
FRACTION = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")

WINDOW = {"stride": list, "padding": list}
POOL = {"kernel": list, **WINDOW, "ceil_mode": bool}
CONVOLUTION = {"weight": dict, "bias": (dict, type(None)), **WINDOW, "dilation": list, "groups": int}

KINDS: dict[str, dict[str, Any]] = {
    "dense": {"weight": dict, "bias": (dict, type(None))},
    "conv2d": CONVOLUTION,
    "conv1d": CONVOLUTION,
    "avgpool2d": {**POOL, "count_include_pad": bool, "divisor": (int, type(None))},
    "sumpool2d": POOL,
    "maxpool2d": POOL,
    "batchnorm": {"scale": dict, "shift": dict},
    "add": {},
    "concat": {"axis": int},
    "flatten": {},
    "pad": {"padding": list, "value": float},
    "relu": {},
    "identity": {},
}
"""The fields of each kind of node, and their types."""

LENGTHS = {"kernel": 2, "stride": 2, "dilation": 2, "padding": 4}
"""How many numbers the lists of an image's layers hold; those of a row's half as many."""

PLAIN = ("concat", "flatten", "pad", "relu", "identity")
"""Kinds that take no rule."""

RULES: dict[str, dict[str, Any]] = {
    "zero": {},
    "epsilon": {"eps": float},
    "gamma": {"gamma": float},
    "generalized-gamma": {"gamma": float},
    "alpha-beta": {"alpha": float, "beta": float},
    "z-plus": {},
    "flat": {},
    "w2": {},
    "z-box": {"low": (float, list), "high": (float, list)},
    "pass": {},
    "winner-take-all": {"ties": str},
}
"""The parameters of each rule, and their types."""


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """
    Read a file of vectors and check every field.

    Parameters
    ----------
    path : path-like
        A JSON file.

    Returns
    -------
    list of dict
        Its vectors.

    Raises
    ------
    BadVector
        If it is none, or is damaged: the file, the vector and the field.
    """
    place = Place(regular(path, BadVector))
    try:
        document = json.loads(place.path.read_text(encoding="utf-8"), parse_constant=place.constant)
    except (OSError, ValueError, RecursionError) as error:
        place.bad(f"cannot be read as JSON ({error})")
    if not isinstance(document, dict):
        place.bad("is no table with a field 'format'")
    if place.get(document, "format", str) != FORMAT:
        place.at("format").bad(f"is {document['format']!r:.60}; this version reads {FORMAT!r}")
    place.get(document, "title", str)
    flags: dict[str, Any] = place.get(document, "flags", dict)
    for flag in flags:
        place.at("flags").get(flags, flag, str)
    vectors: list[dict[str, Any]] = place.get(document, "vectors", list)
    if not vectors:
        place.at("vectors").bad("is empty, wants at least one vector")
    for i, vector in enumerate(vectors):
        here = place.at("vectors").table(i, vector)
        if not here.get(vector, "id", str):
            here.at("id").bad("is empty")
        _check_vector(Place(place.path, here.get(vector, "id", str)), vector, flags)
    return vectors


def _check_vector(place: Place, vector: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
    for name in ("comment", "source"):
        place.get(vector, name, str)
    place.texts(vector, "tags")
    for flag in place.get(vector, "flags", list):
        _check_flag(place.at("flags"), flag, flags)
    names = ["input"]
    nodes = place.get(vector, "nodes", list)
    if not nodes:
        place.at("nodes").bad("is empty, wants at least one node")
    for i, node in enumerate(nodes):
        _check_node(place.at("nodes").table(i, node), node, names)
    check_array(place, vector, "input")
    check_array(place, vector, "relevance")
    result = place.one_of(vector, "result", RESULTS)
    expected, here = place.get(vector, "expected", dict), place.at("expected")
    check_result(here, expected, "R")
    for name, node in here.get(expected, "nodes", dict).items():
        _check_expected(here.at("nodes").table(name, node), node)
    others = place.get(vector, "conventions", dict) if "conventions" in vector else {}
    if bool(others) != (result == "convention"):
        place.at("result").bad(f"is '{result}' with {len(others)} conventions; with any it is 'convention'")
    for name, other in others.items():
        there = place.at("conventions").table(name, other)
        _check_flag(there.at("flag"), there.get(other, "flag", str), flags)
        there.texts(other, "used_by")
        check_result(there, other, "R")


def _check_flag(place: Place, flag: Any, flags: Mapping[str, Any]) -> None:
    if not isinstance(flag, str) or flag not in flags:
        place.bad(f"unknown flag {flag!r:.60}: the file explains {', '.join(flags) or 'none'}")


def _check_node(place: Place, node: Mapping[str, Any], names: list[str]) -> None:
    """Check a node, and add its name to those that later nodes may read."""
    kind = place.one_of(node, "kind", tuple(KINDS))
    name = place.get(node, "name", str)
    if name in names:
        place.at("name").bad(f"there is a node {name!r:.60} already")
    for read_name in place.get(node, "inputs", list):
        if read_name not in names:
            place.at("inputs").bad(f"{read_name!r:.60} is no node before it: there are {', '.join(names)}")
    names.append(name)
    if "module" in node:
        place.get(node, "module", str)
    for field, kinds in KINDS[kind].items():
        value = place.get(node, field, *(kinds if isinstance(kinds, tuple) else (kinds,)))
        if isinstance(value, dict):
            check_array(place, node, field)
        elif isinstance(value, list):
            _check_whole(place.at(field), value, LENGTHS[field] // (2 if kind == "conv1d" else 1))
        elif isinstance(value, float):
            _check_finite(place.at(field), [value])
    rule = place.get(node, "rule", dict, type(None))
    if (rule is not None) == (kind in PLAIN) and kind != "batchnorm":
        place.at("rule").bad(f"is {'a table' if rule else 'null'}, which a {kind} does not take")
    if rule is not None:
        _check_rule(place.at("rule"), rule)


def _check_whole(place: Place, values: Sequence[Any], count: int) -> None:
    if len(values) != count or not all(type(n) is int and n >= 0 for n in values):
        place.bad(f"is {json.dumps(values)[:60]}, wants {count} whole numbers >= 0")


def _check_rule(place: Place, rule: Mapping[str, Any]) -> None:
    for field, kinds in RULES[place.one_of(rule, "name", tuple(RULES))].items():
        value = place.get(rule, field, *(kinds if isinstance(kinds, tuple) else (kinds,)))
        if not isinstance(value, str):
            _check_finite(place.at(field), value if isinstance(value, list) else [value])
    place.one_of(rule, "bias", BIAS)
    stabilizer, there = place.get(rule, "stabilizer", dict), place.at("stabilizer")
    there.one_of(stabilizer, "kind", STABILIZERS)
    value = there.get(stabilizer, "value", float)
    _check_finite(there.at("value"), [value], least=0)
    if rule.get("eps", value) != value:
        place.at("eps").bad(f"is {rule['eps']}, which the stabilizer repeats: its value is {value}")


def _check_expected(place: Place, node: Mapping[str, Any]) -> None:
    check_result(place, node, "z")
    check_result(place, node, "R")
    for i, share in enumerate(place.get(node, "shares", list)):
        here = place.at("shares").table(i, share)
        for name in ("z", "s"):
            check_result(here, share, name)
        for t, c in enumerate(here.get(share, "c", list)):
            check_result(here.at("c"), {str(t): c}, str(t))
    ledger = place.get(node, "ledger", dict)
    for account in ACCOUNTS:
        check_result(place.at("ledger"), ledger, account)


def check_array(place: Place, table: Mapping[str, Any], name: str) -> None:
    """
    Check an array that is given: float32 numbers in hexadecimal.

    Parameters
    ----------
    place : Place
        Where the table is.
    table : mapping
        What holds it.
    name : str
        Its field.

    Raises
    ------
    BadVector
        If it is none.
    """
    numbers, here = _numbers(place, table, name), place.at(name)
    with np.errstate(over="ignore", under="ignore"):
        for i, x in enumerate(numbers):
            if float(np.float32(x)) != x:
                here.at("hex").at(i).bad(f"{x!r} is no float32: a reader would round it")


def check_result(place: Place, table: Mapping[str, Any], name: str) -> None:
    """
    Check a result: numbers, fractions and bounds.

    Parameters
    ----------
    place : Place
        Where the table is.
    table : mapping
        What holds it.
    name : str
        Its field.

    Raises
    ------
    BadVector
        If it is none.
    """
    numbers, here, result = _numbers(place, table, name), place.at(name), table[name]
    for field in ("exact", "float64", "float32"):
        values = here.get(result, field, list)
        if len(values) != len(numbers):
            here.at(field).bad(f"holds {len(values)} entries for {len(numbers)} numbers")
        if field != "exact":
            _check_finite(here.at(field), values, least=0)
    for i, (text, x) in enumerate(zip(result["exact"], numbers, strict=True)):
        if text is None:
            continue
        there = here.at("exact").at(i)
        if not isinstance(text, str) or not FRACTION.fullmatch(text):
            there.bad(f"is {text!r:.60}, wants a fraction such as '3/4', or null")
        if Fraction(text) != x and float(Fraction(text)) != x:
            there.bad(f"is {text:.60}, and hex there is {x!r}: the float nearest to it is wanted")


def _numbers(place: Place, table: Mapping[str, Any], name: str) -> list[float]:
    """Read the hexadecimal numbers of an array whose shape fits them."""
    array, here = place.get(table, name, dict), place.at(name)
    shape, digits = here.get(array, "shape", list), here.get(array, "hex", list)
    if not all(type(n) is int and n > 0 for n in shape):
        here.at("shape").bad(f"is {shape}, wants whole numbers >= 1")
    if math.prod(shape) != len(digits):
        here.bad(f"shape {shape} wants {math.prod(shape)} numbers; hex holds {len(digits)}")
    numbers = []
    for i, text in enumerate(digits):
        try:
            numbers.append(float.fromhex(text))
        except (ValueError, TypeError, OverflowError):
            here.at("hex").at(i).bad(f"is {text!r:.60}, wants a hexadecimal float such as '0x1.8p+0'")
    _check_finite(here.at("hex"), numbers)
    for i, text in enumerate(digits):  # what Python reads besides, such as "1.5", others take for decimal
        if not HEXADECIMAL.fullmatch(text):
            here.at("hex").at(i).bad(f"is {text!r:.60}, wants a hexadecimal float such as '0x1.8p+0'")
    return numbers


def _check_finite(place: Place, values: Sequence[Any], least: float = -math.inf) -> None:
    for i, x in enumerate(values):
        number = isinstance(x, int | float) and not isinstance(x, bool)
        if not number or not abs(x) <= LARGEST or x < least:
            at_least = f" >= {least:g}" if least > -math.inf else ""
            place.at(i).bad(f"is {x!r:.60}, wants a finite number{at_least}")
