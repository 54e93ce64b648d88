"""An architecture: a network without its numbers, read from a document in TOML's types.

The document is a file of the user's, one of the files in `architectures/`, or what a builder there makes::

    name = "small"
    input = [1, 28, 28]         # one sample: [C, H, W] or [J]
    classes = ["cat", "dog"]    # or "imagenet"; may be left out
    unused = ["aux.*"]          # tensors that a file may hold and no node reads; may be left out

    [renamed]                   # parts of tensors' names that a file may spell otherwise; may be left out
    "norm.1" = "norm1"          # what the file has, and what it stands for

    [preprocessing]             # fields of lrpref.preprocessing.Preprocessing; may be left out
    size = [28, 28]
    channels = "L"

    [[node]]                    # in topological order; the last node is the output
    name = "conv"
    layer = "Conv2d"            # a layer of lrpref.layers, and its parameters: as they are there,
    out = 4                     # but where it has weights as in lrpref.weights_import.recipes
    kernel = 3
    inputs = ["input"]          # default: the node before, for the first one "input"
    tensors = "features.0"      # it reads features.0.weight ...; default: the node's name

    [[node]]
    name = "flatten"
    layer = "Flatten"

    [[node]]
    name = "score"
    layer = "Dense"
    out = 2

A list of one-line tables, `node = [{ name = "conv", ... }, ...]`, is the same document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from lrpref import data
from lrpref.errors import BadNetwork
from lrpref.kernels.operations import Array
from lrpref.layers import Shape
from lrpref.network import INPUT, MAX_AXES
from lrpref.preprocessing import Preprocessing
from lrpref.tables import fill, within
from lrpref.weights_import.recipes import Conv2d, Dense, Recipe, recipe

Document = dict[str, Any]
"""Tables, lists, strings, numbers and booleans: what `tomllib` makes of a TOML file."""


@dataclass(frozen=True)
class Place:
    """
    A node in its place; in a document these are the keys of every node.

    Parameters
    ----------
    name : str
        The node's name.
    layer : str
        The layer's name.
    inputs : tuple of str
        The nodes it reads; not given: the node before.
    tensors : str, optional
        What its tensors' names begin with; the node's name where not given.
    """

    name: str
    layer: str
    inputs: tuple[str, ...] = ()
    tensors: str | None = None

    def __str__(self) -> str:
        return f"node '{self.name}' ({self.layer})"

    def tensor(self, part: str) -> str:
        """
        Name a tensor of this node.

        Parameters
        ----------
        part : str
            The last part, like `weight`.

        Returns
        -------
        str
            The name in the weight file.
        """
        prefix = self.name if self.tensors is None else self.tensors
        return f"{prefix}.{part}" if prefix else part


@dataclass(frozen=True)
class Architecture:
    """
    A network without its numbers.

    Parameters
    ----------
    name : str
        What it is called.
    input : tuple of int
        Shape of one sample.
    nodes : tuple of (Place, Recipe)
        In topological order.
    classes : tuple of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.
    unused : tuple of str
        Patterns, with `*`, of tensors that a file may hold and no node reads.
    renamed : mapping of str to str
        Parts of tensors' names, between dots, as a file may spell them, and what they stand for.
    """

    name: str
    input: Shape
    nodes: tuple[tuple[Place, Recipe], ...]
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    unused: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Document) -> Architecture:
        """
        Read a document.

        Parameters
        ----------
        document : dict
            See the head of this module.

        Returns
        -------
        Architecture
            The architecture; whether the shapes fit shows in `lrpref.weights_import.build`.

        Raises
        ------
        BadNetwork
            If a key is unknown, missing or of the wrong type, or there is no such layer: where, and what
            is wanted.
        """
        head = fill(_Head, document)
        if min(head.input, default=0) < 1 or len(head.input) > MAX_AXES:
            raise BadNetwork(f"input is {list(head.input)!s:.60}, wants [J] or [C, H, W]")
        nodes, before = [], INPUT
        for number, table in enumerate(head.node, start=1):
            place, its_recipe = _node(number, table, before)
            nodes.append((place, its_recipe))
            before = place.name
        classes = data.imagenet_classes() if head.classes == "imagenet" else head.classes
        if isinstance(classes, str):
            raise BadNetwork(f"classes is {classes!r}, wants \"imagenet\" or a list of names")
        with within("[preprocessing]"):
            steps = None if head.preprocessing is None else fill(Preprocessing, head.preprocessing)
        return cls(head.name, head.input, tuple(nodes), classes, steps, head.unused, _spellings(head.renamed))

    def spelling(self, name: str) -> str:
        """
        Say how this architecture spells the name of a tensor.

        Parameters
        ----------
        name : str
            The name in a weight file.

        Returns
        -------
        str
            The same, or with what is `renamed` replaced.
        """
        if not self.renamed:
            return name
        parts = "|".join(map(re.escape, self.renamed))
        return re.sub(rf"(?<![^.])({parts})(?![^.])", lambda found: self.renamed[found[0]], name)

    def with_outputs_of(self, tensors: Mapping[str, Array]) -> Architecture:
        """
        Take the number of outputs from a file: of a network that was trained on for other classes.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The file's, as this architecture spells them.

        Returns
        -------
        Architecture
            With as many outputs as the file's last layer has; then without the names of the classes.
        """
        for i, (place, its_recipe) in reversed(list(enumerate(self.nodes))):
            if isinstance(its_recipe, Dense | Conv2d):
                weight = tensors.get(place.tensor("weight"))
                if weight is None or not weight.ndim or len(weight) in (0, its_recipe.out):
                    return self
                scores = (place, replace(its_recipe, out=len(weight)))
                return replace(self, nodes=(*self.nodes[:i], scores, *self.nodes[i + 1 :]), classes=())
        return self

    def leaves_out(self, name: str) -> bool:
        """
        Tell whether a tensor is `unused`.

        Parameters
        ----------
        name : str
            Its name, as this architecture spells it.

        Returns
        -------
        bool
            Whether it is.
        """
        return any(fnmatchcase(name, pattern) for pattern in self.unused)


@dataclass(frozen=True)
class _Head:
    """The keys of a document."""

    name: str
    input: tuple[int, ...]
    node: tuple[dict[str, Any], ...]
    classes: str | tuple[str, ...] = ()
    preprocessing: dict[str, Any] | None = None
    unused: tuple[str, ...] = ()
    renamed: dict[str, Any] = field(default_factory=dict)


def _spellings(renamed: Mapping[str, Any]) -> Mapping[str, str]:
    for old, new in renamed.items():
        if not (isinstance(new, str) and old and new):
            raise BadNetwork(f"renamed: {old!r} is {new!r}, wants a part of a name for a part of a name")
    return renamed


def _node(number: int, table: Mapping[str, Any], before: str) -> tuple[Place, Recipe]:
    common = Place.__dataclass_fields__
    with within(f"node {table.get('name', number)!r}"):
        place = fill(Place, {"inputs": [before]} | {k: v for k, v in table.items() if k in common})
        if not place.inputs:
            raise BadNetwork("inputs is [], wants one or more")
    with within(str(place)):
        return place, recipe(place.layer, {k: v for k, v in table.items() if k not in common})
