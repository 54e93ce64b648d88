"""Tables of a TOML file or a graph, read as dataclasses: their fields are the keys that a table may have."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TypeVar

from lrpref.errors import BadNetwork

T = TypeVar("T")

_WORDS = {int: "integer", float: "number", bool: "boolean", str: "string", dict: "table"}


def fill(kind: type[T], table: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> T:
    """
    Make a dataclass of a table; lists become tuples.

    Parameters
    ----------
    kind : type
        A dataclass, with annotations of the types that TOML has.
    table : mapping
        Its fields.
    arrays : mapping, optional
        Fields that are arrays.

    Returns
    -------
    kind
        The instance.

    Raises
    ------
    BadNetwork
        If a key is unknown, missing, or holds a value of another type.
    """
    arrays = arrays or {}
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    hints = _hints(typing.cast(Hashable, kind))
    unknown = [key for key in (*table, *arrays) if key not in fields]
    if unknown:
        raise BadNetwork(f"unknown key {unknown[0]!r}; known: {', '.join(fields) or 'none'}")
    for key, value in table.items():
        if not _fits(value, hints[key]):
            raise BadNetwork(f"{key} is {value!r}, wants {_wanted(hints[key])}")
    for name, f in fields.items():
        if name not in table and name not in arrays and f.default is f.default_factory is dataclasses.MISSING:
            raise BadNetwork(f"{name} is missing, wants {_wanted(hints[name])}")
    plain = {key: tuple(value) if type(value) is list else value for key, value in table.items()}
    return kind(**plain, **arrays)


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """
    Put the place in front of an error's text.

    Parameters
    ----------
    where : str
        A file, a table or a node.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    BadNetwork
        The one that came up, with its place.
    """
    try:
        yield
    except BadNetwork as error:
        raise BadNetwork(f"{where}: {error}") from None


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of TOML is of a field's type; an integer is a number, a boolean is not."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return any(_fits(value, option) for option in arguments)
    if kind is tuple:
        if type(value) is not list or (arguments[-1] is not ... and len(value) != len(arguments)):
            return False
        return all(_fits(v, arguments[0]) for v in value)  # ours are all of one type
    if kind is float:
        return type(value) in (int, float) and abs(value) < float("inf")
    return type(value) is kind


def _wanted(hint: Any) -> str:
    """Name a field's type in TOML's words."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (types.UnionType, typing.Union):
        return " or ".join(_wanted(option) for option in arguments if option is not types.NoneType)
    if kind is tuple:
        return f"[{', '.join('...' if option is ... else _wanted(option) for option in arguments)}]"
    return _WORDS[kind]
