"""The vectors, family by family: one module for each file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrpref.conformance.generator.cases import (
    convolution,
    dense,
    dialects,
    edges,
    graphs,
    networks,
    norms,
    pooling,
    rows,
)
from lrpref.conformance.generator.cases.flags import SENTENCES
from lrpref.conformance.generator.files import document

FAMILIES = (dense, convolution, rows, pooling, norms, graphs, networks, edges, dialects)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Compute all vectors.

    Yields
    ------
    name : str
        A family, and the stem of its file.
    document : dict
        What the file holds.
    """
    for family in FAMILIES:
        yield family.__name__.rpartition(".")[2], document(family.TITLE, SENTENCES, family.cases())
