"""Where in a file of vectors one is, and the refusal of what is wrong there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lrpref.errors import BadVector

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

    def texts(self, table: Mapping[str, Any], name: str) -> None:
        """
        Check a field that lists texts.

        Parameters
        ----------
        table : mapping
            Where it is in.
        name : str
            The field.
        """
        for i, value in enumerate(self.get(table, name, list)):
            if not isinstance(value, str):
                self.at(name).at(i).bad(f"is {json.dumps(value)[:60]}, wants text")

    def constant(self, name: str) -> NoReturn:
        """
        Refuse what Python reads as a number and JSON has not.

        Parameters
        ----------
        name : str
            NaN, Infinity or -Infinity.
        """
        self.bad(f"holds {name}, which is no number in JSON")

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
