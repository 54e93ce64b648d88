"""The test vectors as networks, rules and arrays of lrpref.

>>> import lrpref
>>> from lrpref.conformance import suite
>>> vectors = suite.load()
>>> v = vectors[0]
>>> explanation = lrpref.explain(v.network, v.x, v.R, rules=v.rules)
>>> bool((abs(explanation.relevance - v.expected) <= v.bound("float64")).all())
True
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lrpref import layers
from lrpref.conformance import vector_file
from lrpref.conformance.place import Place
from lrpref.errors import BadNetwork, BadVector, LrprefError
from lrpref.kernels.operations import Array
from lrpref.layers import Layer
from lrpref.network import Network, Node
from lrpref.plan import Plan
from lrpref.rules import RULES, Rule, Stabilizer

SHIPPED = Path(__file__).parent / "vectors"
"""The folder of the vectors that come with the package."""


@dataclass(frozen=True)
class Vector:
    """
    One test vector: a network, an input, what arrives at the output, and what is to come out.

    Parameters
    ----------
    raw : dict
        As the file has it.
    family : str
        The file's stem.
    network : Network
        The network. A one-dimensional convolution is a two-dimensional one of height 1 between two reshapes.
    rules : dict of str to Rule
        The rule of every node that takes one.
    """

    raw: Mapping[str, Any]
    family: str
    network: Network
    rules: Mapping[str, Rule]

    def __repr__(self) -> str:
        return f"<Vector {self.id}>"

    @property
    def id(self) -> str:
        """Its name, unique in the suite."""
        return str(self.raw["id"])

    @property
    def comment(self) -> str:
        """What to see in it."""
        return str(self.raw["comment"])

    @property
    def source(self) -> str:
        """Where its rule is defined."""
        return str(self.raw["source"])

    @property
    def result(self) -> str:
        """`valid`, `undefined` (0/0) or `convention` (where the field has several answers)."""
        return str(self.raw["result"])

    @property
    def flags(self) -> list[str]:
        """The dimensions that it isolates."""
        return list(self.raw["flags"])

    @property
    def tags(self) -> list[str]:
        """`tiny`: small enough for slow emulators."""
        return list(self.raw["tags"])

    @property
    def x(self) -> Array:
        """The input, float64 of shape (N, ...), every number a float32."""
        return numbers(self.raw["input"])

    @property
    def R(self) -> Array:  # noqa: N802
        """Relevance that arrives at the output, float64 of shape (N, ...)."""
        return numbers(self.raw["relevance"])

    @property
    def expected(self) -> Array:
        """Relevance of the input, correctly rounded to float64."""
        return numbers(self.raw["expected"]["R"])

    @property
    def fractions(self) -> Array:
        """Relevance of the input as fractions, dtype object; None where a fraction is long."""
        return fractions(self.raw["expected"]["R"])

    @property
    def conventions(self) -> dict[str, Array]:
        """Other answers of the field, by name: relevance of the input, float64."""
        return {name: numbers(other["R"]) for name, other in self.raw.get("conventions", {}).items()}

    def bound(self, dtype: str) -> Array:
        """
        Give what a computation may differ by, whatever its order of summation.

        Parameters
        ----------
        dtype : {"float64", "float32"}
            In which format it was computed.

        Returns
        -------
        ndarray of float64, like `expected`
            Bounds on the absolute error.
        """
        return bounds(self.raw["expected"]["R"], dtype)

    def node(self, name: str) -> dict[str, Any]:
        """
        Give what is to come out at a node.

        Parameters
        ----------
        name : str
            A node that was not folded into another.

        Returns
        -------
        dict
            `z`, `shares`, `R` and `ledger`, as the file has them.
        """
        return dict(self.raw["expected"]["nodes"][name])


def numbers(array: Mapping[str, Any]) -> Array:
    """
    Read the numbers of an array or a result.

    Parameters
    ----------
    array : mapping
        As the file has it.

    Returns
    -------
    ndarray of float64
        The numbers.
    """
    return np.array([float.fromhex(x) for x in array["hex"]]).reshape(array["shape"])


def fractions(result: Mapping[str, Any]) -> Array:
    """
    Read the fractions of a result.

    Parameters
    ----------
    result : mapping
        As the file has it.

    Returns
    -------
    ndarray of object
        `fractions.Fraction`, or None where a fraction is long.
    """
    read = np.empty(len(result["exact"]), dtype=object)
    read[:] = [None if text is None else Fraction(text) for text in result["exact"]]
    return read.reshape(result["shape"])


def bounds(result: Mapping[str, Any], dtype: str) -> Array:
    """
    Read the bounds of a result.

    Parameters
    ----------
    result : mapping
        As the file has it.
    dtype : {"float64", "float32"}
        The format.

    Returns
    -------
    ndarray of float64
        What a computation in that format may differ by.
    """
    return np.array(result[dtype], dtype=np.float64).reshape(result["shape"])


PathLike = str | os.PathLike[str]


def load(paths: PathLike | Iterable[PathLike] | None = None) -> list[Vector]:
    """
    Read test vectors.

    Parameters
    ----------
    paths : path-like or iterable of path-like, optional
        Files, or folders of files; by default the vectors that come with the package.

    Returns
    -------
    list of Vector
        In the order of the files.

    Raises
    ------
    BadVector
        If a file is damaged, or two vectors have one name: the file, the vector and the field.
    """
    vectors: list[Vector] = []
    seen: dict[str, Path] = {}
    paths = SHIPPED if paths is None else paths
    for path in _files([paths] if isinstance(paths, str | os.PathLike) else paths):
        for raw in vector_file.read(path):
            vector = _vector(path, raw)
            if vector.id in seen:
                raise BadVector(
                    f"{path}: vector '{vector.id}': id: there is one already in {seen[vector.id]}"
                )
            seen[vector.id] = path
            vectors.append(vector)
    return vectors


def _files(paths: Iterable[PathLike]) -> Iterable[Path]:
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.glob("*.json") if file.name != "schema.json")
        if not found:
            raise BadVector(f"{path}: holds no vector files (*.json)")
        yield from found


def _vector(path: Path, raw: Mapping[str, Any]) -> Vector:
    place, count = Place(path, raw["id"]), raw["input"]["shape"][0]
    try:
        rules = {node["name"]: rule(node["rule"]) for node in raw["nodes"] if node["rule"] is not None}
        network = Network(tuple(_nodes(raw)), raw["input"]["shape"][1:], name=raw["id"])
        Plan(network, rules=rules)  # refuses a rule that does not fit its layer
    except KeyError as error:
        place.at("expected.nodes").bad(f"there is no node {error}")
    except (LrprefError, ValueError, TypeError) as error:
        place.at("nodes").bad(str(error))
    _check_shape(place, raw, "relevance", count, network.shapes[network.top])
    for field, table in (("expected", raw["expected"]), *raw.get("conventions", {}).items()):
        _check_shape(place.at(field), table, "R", count, network.input_shape)
    _check_outcomes(place.at("expected.nodes"), raw, network)
    return Vector(raw, path.stem, network, rules)


def _check_outcomes(place: Place, raw: Mapping[str, Any], network: Network) -> None:
    """Compare what is expected of the nodes with the nodes; folded batch norms have no entry."""
    outcomes, count = raw["expected"]["nodes"], raw["input"]["shape"][0]
    folded = {node["name"] for node in raw["nodes"] if node["kind"] == "batchnorm" and node["rule"] is None}
    if other := sorted({node["name"] for node in raw["nodes"]} - folded ^ outcomes.keys()):
        place.bad(f"{other[0]!r:.60} is {'no node that has results' if other[0] in outcomes else 'missing'}")
    for name, outcome in outcomes.items():
        here, shape = place.at(name), network.shapes[name]
        for field in ("z", "R"):
            _check_shape(here, outcome, field, count, shape)
        for i, share in enumerate(outcome["shares"]):
            for field in ("z", "s"):
                _check_shape(here.at("shares").at(i), share, field, count, shape)
        for account in outcome["ledger"]:
            _check_shape(here.at("ledger"), outcome["ledger"], account, count, ())


def _check_shape(
    place: Place, table: Mapping[str, Any], field: str, count: int, shape: Sequence[int]
) -> None:
    """Compare a batch's shape with that of one sample; a row (K, L) is an image (K, 1, L) in the network."""
    got = table[field]["shape"]
    wanted = [count, *(shape if len(got) == len(shape) + 1 else (*shape[:1], *shape[2:]))]
    if got != wanted:
        place.at(field).at("shape").bad(f"is {got}, wants {wanted}")


def rule(entry: Mapping[str, Any]) -> Rule:
    """
    Make a rule.

    Parameters
    ----------
    entry : mapping
        As the file has it.

    Returns
    -------
    Rule
        The rule.

    Raises
    ------
    BadRule
        If a parameter is out of range.
    """
    name = entry["name"]
    stabilizer = Stabilizer(entry["stabilizer"]["kind"], entry["stabilizer"]["value"])
    parameters = {parameter: entry[parameter] for parameter in vector_file.RULES[name]}
    if name == "epsilon":  # its eps is its stabilizer
        return RULES[name](eps=stabilizer, bias=entry["bias"])  # type: ignore[call-arg]
    return RULES[name](**parameters, stabilizer=stabilizer, bias=entry["bias"])


# Layers.


def _nodes(raw: Mapping[str, Any]) -> Iterable[Node]:
    """Make the nodes; two entries with one `module` are one layer, used twice."""
    made: dict[str, Layer] = {}
    rows = {entry["name"] for entry in raw["nodes"] if entry["kind"] == "conv1d"}
    shapes = {name: node["z"]["shape"][1:] for name, node in raw["expected"]["nodes"].items()}
    shapes["input"] = raw["input"]["shape"][1:]
    for entry in raw["nodes"]:
        name, kind = entry["name"], entry["kind"]
        layer = _LAYERS[kind](entry)
        if "module" in entry:
            layer = _same(made.setdefault(entry["module"], layer), layer, name, entry["module"])
        inputs = tuple(f"{read}.row" if read in rows else read for read in entry["inputs"])
        if kind != "conv1d":
            yield Node(name, layer, inputs)
            continue
        if len(shapes[entry["inputs"][0]]) != 2:
            raise BadNetwork(f"node '{name}': got {shapes[entry['inputs'][0]]}, wants (C, L)")
        channels, length = shapes[entry["inputs"][0]]  # a row is an image of height 1
        yield Node(f"{name}.image", layers.Reshape((channels, 1, length)), inputs)
        yield Node(name, layer, (f"{name}.image",))
        yield Node(f"{name}.row", layers.Reshape(tuple(shapes[name])), (name,))


def _same(first: Layer, layer: Layer, name: str, module: str) -> Layer:
    """Give a module's first layer to all its uses."""
    if type(first) is not type(layer) or any(
        not np.array_equal(value, vars(layer)[field]) for field, value in vars(first).items()
    ):
        raise BadNetwork(f"node '{name}': the module '{module}' has other numbers where it was used before")
    return first


def _dense(entry: Mapping[str, Any]) -> Layer:
    return layers.Dense(numbers(entry["weight"]), _bias(entry))


def _bias(entry: Mapping[str, Any]) -> Array | None:
    return None if entry["bias"] is None else numbers(entry["bias"])


def _conv2d(entry: Mapping[str, Any]) -> Layer:
    return layers.Conv2d(numbers(entry["weight"]), _bias(entry), **_window(entry), groups=entry["groups"])


def _window(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(entry[name]) for name in ("stride", "padding", "dilation")}


def _conv1d(entry: Mapping[str, Any]) -> Layer:
    weight = numbers(entry["weight"])
    (stride,), (left, right), (dilation,) = entry["stride"], entry["padding"], entry["dilation"]
    return layers.Conv2d(
        weight[:, :, None], _bias(entry), (1, stride), (0, 0, left, right), (1, dilation), entry["groups"]
    )


def _pool(entry: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: tuple(entry[name]) for name in ("kernel", "stride", "padding")}
    return {**lists, "ceil_mode": entry["ceil_mode"]}


def _average(entry: Mapping[str, Any]) -> Layer:
    counted = {name: entry[name] for name in ("count_include_pad", "divisor")}
    return layers.AvgPool2d(**_pool(entry), **counted)


def _sum(entry: Mapping[str, Any]) -> Layer:
    return layers.SumPool2d(**_pool(entry))


def _maximum(entry: Mapping[str, Any]) -> Layer:
    return layers.MaxPool2d(**_pool(entry))


def _norm(entry: Mapping[str, Any]) -> Layer:
    return layers.BatchNorm(numbers(entry["scale"]), numbers(entry["shift"]))


def _add(entry: Mapping[str, Any]) -> Layer:
    return layers.Add()


def _concat(entry: Mapping[str, Any]) -> Layer:
    return layers.Concat(entry["axis"])


def _flatten(entry: Mapping[str, Any]) -> Layer:
    return layers.Flatten()


def _pad(entry: Mapping[str, Any]) -> Layer:
    return layers.Pad(tuple(entry["padding"]), entry["value"])


def _relu(entry: Mapping[str, Any]) -> Layer:
    return layers.ReLU()


def _identity(entry: Mapping[str, Any]) -> Layer:
    return layers.Identity()


_LAYERS: dict[str, Callable[[Mapping[str, Any]], Layer]] = {
    "dense": _dense,
    "conv2d": _conv2d,
    "conv1d": _conv1d,
    "avgpool2d": _average,
    "sumpool2d": _sum,
    "maxpool2d": _maximum,
    "batchnorm": _norm,
    "add": _add,
    "concat": _concat,
    "flatten": _flatten,
    "pad": _pad,
    "relu": _relu,
    "identity": _identity,
}
