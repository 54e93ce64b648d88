"""Files of test vectors as plain data, every field of them checked (docs/vectors.md is the format)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from lrpref.errors import BadVector
from lrpref.files import regular

FORMAT = "lrpref-vectors/1"

RESULTS = ("valid", "undefined", "convention")
STABILIZERS = ("signed", "unsigned", "relative")
BIAS = ("absorb", "ignore", "redistribute")
ACCOUNTS = ("arriving", "to_inputs", "bias", "stabilizer", "dropped", "padding")

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

_TYPES = {
    list: "a list", dict: "a table", str: "text", bool: "true or false", int: "a whole number",
    float: "a number", type(None): "null",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """
    Where in a file one is: for messages.

    Parameters
    ----------
    path : Path
        The file.
    id : str
        The vector, if one is known.
    field : str
        The field, with dots.
    """

    path: Path
    id: str = ""
    field: str = ""

    def at(self, name: Any) -> Place:
        """
        Go to a field.

        Parameters
        ----------
        name : str or int
            The field, or the place in a list.

        Returns
        -------
        Place
            There.
        """
        return Place(self.path, self.id, f"{self.field}.{name}" if self.field else str(name))

    def table(self, name: Any, value: Any) -> Place:
        """
        Go to a field that holds a table.

        Parameters
        ----------
        name : str or int
            The field, or the place in a list.
        value : object
            What it holds.

        Returns
        -------
        Place
            There.
        """
        here = self.at(name)
        if not isinstance(value, dict):
            here.bad(f"is {json.dumps(value)[:60]}, wants a table")
        return here

    def bad(self, what: str) -> NoReturn:
        """
        Refuse what is here.

        Parameters
        ----------
        what : str
            What is wrong, and what would be right.

        Raises
        ------
        BadVector
            Always.
        """
        where = [str(self.path), *([f"vector '{self.id}'"] if self.id else []), *filter(None, [self.field])]
        raise BadVector(f"{': '.join(where)}: {what}")

    def get(self, table: Mapping[str, Any], name: str, *kinds: type) -> Any:
        """
        Take a field.

        Parameters
        ----------
        table : mapping
            Where it is in.
        name : str
            The field.
        *kinds : type
            What it may be.

        Returns
        -------
        object
            Its value.
        """
        if name not in table:
            self.bad(f"field '{name}' is missing")
        value = table[name]
        fits = isinstance(value, (*kinds, int) if float in kinds else kinds)
        if not fits or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(_TYPES[kind] for kind in kinds)
            self.at(name).bad(f"is {json.dumps(value)[:60]}, wants {wanted}")
        return value

    def one_of(self, table: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
        """
        Take a field that names something.

        Parameters
        ----------
        table : mapping
            Where it is in.
        name : str
            The field.
        known : sequence of str
            The names there are.

        Returns
        -------
        str
            The name.
        """
        value: str = self.get(table, name, str)
        if value not in known:
            self.at(name).bad(f"unknown {value!r:.60}: there are {', '.join(known)}")
        return value


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
        document = json.loads(place.path.read_text(encoding="utf-8"), parse_constant=place.bad)
    except (OSError, ValueError, RecursionError) as error:
        place.bad(f"cannot be read as JSON ({error})")
    if not isinstance(document, dict):
        place.bad("is no table with a field 'format'")
    if place.get(document, "format", str) != FORMAT:
        place.at("format").bad(f"is {document['format']!r:.60}; this version reads {FORMAT!r}")
    flags: dict[str, Any] = place.get(document, "flags", dict)
    vectors: list[dict[str, Any]] = place.get(document, "vectors", list)
    for i, vector in enumerate(vectors):
        here = place.at("vectors").table(i, vector)
        _check_vector(Place(place.path, here.get(vector, "id", str)), vector, flags)
    return vectors


def _check_vector(place: Place, vector: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
    for name in ("comment", "source"):
        place.get(vector, name, str)
    place.get(vector, "tags", list)
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
    place.one_of(vector, "result", RESULTS)
    expected, here = place.get(vector, "expected", dict), place.at("expected")
    check_result(here, expected, "R")
    for name, node in here.get(expected, "nodes", dict).items():
        _check_expected(here.at("nodes").table(name, node), node)
    others = place.get(vector, "conventions", dict) if "conventions" in vector else {}
    for name, other in others.items():
        there = place.at("conventions").table(name, other)
        _check_flag(there.at("flag"), there.get(other, "flag", str), flags)
        there.get(other, "used_by", list)
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
    for field, kinds in KINDS[kind].items():
        value = place.get(node, field, *(kinds if isinstance(kinds, tuple) else (kinds,)))
        if isinstance(value, dict):
            check_array(place, node, field)
    rule = place.get(node, "rule", dict, type(None))
    if (rule is not None) == (kind in PLAIN) and kind != "batchnorm":
        place.at("rule").bad(f"is {'a table' if rule else 'null'}, which a {kind} does not take")
    if rule is not None:
        _check_rule(place.at("rule"), rule)


def _check_rule(place: Place, rule: Mapping[str, Any]) -> None:
    for field, kinds in RULES[place.one_of(rule, "name", tuple(RULES))].items():
        value = place.get(rule, field, *(kinds if isinstance(kinds, tuple) else (kinds,)))
        if not isinstance(value, str):
            _check_finite(place.at(field), value if isinstance(value, list) else [value])
    place.one_of(rule, "bias", BIAS)
    stabilizer, there = place.get(rule, "stabilizer", dict), place.at("stabilizer")
    there.one_of(stabilizer, "kind", STABILIZERS)
    _check_finite(there.at("value"), [there.get(stabilizer, "value", float)], least=0)


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
    count, here, result = len(_numbers(place, table, name)), place.at(name), table[name]
    for field in ("exact", "float64", "float32"):
        values = here.get(result, field, list)
        if len(values) != count:
            here.at(field).bad(f"holds {len(values)} entries for {count} numbers")
        if field != "exact":
            _check_finite(here.at(field), values, least=0)
    for i, text in enumerate(result["exact"]):
        parts = text.split("/") if isinstance(text, str) else []
        if text is not None and not (1 <= len(parts) <= 2 and all(p.lstrip("-").isdecimal() for p in parts)):
            here.at("exact").at(i).bad(f"is {text!r:.60}, wants a fraction such as '3/4', or null")


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
    return numbers


def _check_finite(place: Place, values: Sequence[Any], least: float = -math.inf) -> None:
    for i, x in enumerate(values):
        number = isinstance(x, int | float) and not isinstance(x, bool)
        if not number or not math.isfinite(x) or x < least:
            at_least = f" >= {least:g}" if least > -math.inf else ""
            place.at(i).bad(f"is {x!r:.60}, wants a finite number{at_least}")
