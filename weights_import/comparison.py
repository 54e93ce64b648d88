"""Is it the same network? What its nodes give beside what their counterparts give where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrpref import exact
from lrpref.fold import fold
from lrpref.kernels import backend as get_backend
from lrpref.kernels.operations import Array
from lrpref.network import Network
from lrpref.weights_import import origins
from lrpref.weights_import.origins import Origin

BOUNDS = {"float32": 1e-5, "float64": 1e-10}
"""Differences up to here, as shares of a node's largest magnitude, are rounding that has added up on the
way from the input: 3e-6 and 1e-13 were seen. A wrong window or order gives 1e-2 and more, an eps of 1e-4 in
the place of 1e-5 gives 5e-5; what is smaller than the bound goes unseen."""

SEED = 0
"""Of the random inputs."""

STEPS = 3
"""For each kind of input: through the origin, through the network, through its canonical form."""


@dataclass(frozen=True)
class Row:
    """
    One node beside its counterpart.

    Parameters
    ----------
    node, layer : str
        The node, and its layer's name.
    value : str
        What the counterpart is called.
    difference : float
        Largest difference, as a share of the counterpart's largest magnitude.
    """

    node: str
    layer: str
    value: str
    difference: float


@dataclass(frozen=True)
class Comparison:
    """
    A network beside its origin, node by node in the network's order.

    Parameters
    ----------
    origin, dtype : str
        Who ran the origin, and in which numbers both ran.
    inputs : tuple of str
        What they were given.
    rows : tuple of Row
        The nodes that have a counterpart.
    nodes : int
        How many nodes there are.
    folded : float
        Largest difference between the outputs of the network and of its canonical form, as a share of the
        largest magnitude, in float64.
    """

    origin: str
    dtype: str
    inputs: tuple[str, ...]
    rows: tuple[Row, ...]
    nodes: int
    folded: float

    @property
    def bound(self) -> float:
        """Up to here a difference is rounding."""
        return BOUNDS[self.dtype]

    @property
    def worst(self) -> Row:
        """The node with the largest difference."""
        return max(self.rows, key=_badness)

    @property
    def first(self) -> Row | None:
        """The first node that differs; None if none does."""
        return next((row for row in self.rows if not row.difference <= self.bound), None)

    @property
    def holds(self) -> bool:
        """Whether it is the same network, and its canonical form too."""
        return self.first is None and self.folded <= BOUNDS["float64"]

    def __str__(self) -> str:
        tried = f"{self.dtype}; inputs: {', '.join(self.inputs)}"
        found = (
            f"compared with {self.origin} ({tried}): {len(self.rows)} of {self.nodes} nodes have a "
            "counterpart. In shares of the largest magnitude, the output is off by "
            f"{self.rows[-1].difference:.1e}, the worst node, '{self.worst.node}', by "
            f"{self.worst.difference:.1e}, the canonical form by {self.folded:.1e}"
        )
        if self.first is not None:
            where = self.first.value or "the output"
            found += (
                f". THE FIRST THAT DIFFERS is node '{self.first.node}' ({self.first.layer}): off by "
                f"{self.first.difference:.1e} from {where!r} there; rounding is below {self.bound:.0e}"
            )
        return found if self.holds or self.first else f"{found}. THE CANONICAL FORM DIFFERS: please report it"

    def summary(self) -> dict[str, Any]:
        """
        Say for the provenance what was found.

        Returns
        -------
        dict
            Plain JSON data.
        """
        return {
            "with": self.origin,
            "dtype": self.dtype,
            "inputs": list(self.inputs),
            "nodes": f"{len(self.rows)} of {self.nodes}",
            "output": self.rows[-1].difference,
            "worst": {"node": self.worst.node, "difference": self.worst.difference},
            "bound": self.bound,
            "canonical form": self.folded,
        }


def verify(
    network: Network, origin: Any, x: Any = None, *, watch: Callable[[str], None] | None = None
) -> Comparison:
    """
    Compare a network with where it comes from, node by node.

    Parameters
    ----------
    network : Network
        As `load`, `from_torch` or `from_onnx` made it; names and preprocessing may have been added.
    origin : path-like, torch.nn.Module or torch.export.ExportedProgram
        The file or the live module that it was made from. PyTorch's loader of `.pt2` can run code of the
        file: verify files that you trust.
    x : array_like, shape (N, ...), optional
        Real inputs, preprocessed; a live module is traced again with them. Random ones are tried besides.
    watch : callable, optional
        Called with what is done next, `STEPS` times for each kind of input.

    Returns
    -------
    Comparison
        How far each node is off; `first` is the first that differs, `holds` whether none does.

    Raises
    ------
    BadWeights
        If the origin cannot be run: bare weights that are no network of torchvision's.
    BadInput
        If x does not fit the network.
    BadBackend
        If what runs the origin is not installed.
    """
    x = None if x is None else np.asarray(network.check_input(x), np.float64)
    inputs = {"random": random_inputs(network)}
    values, run = origins.find(network, origin, inputs["random"] if x is None else x)
    if x is not None:
        inputs["given"] = x.astype(np.float32).astype(np.float64)
    return compare(network, values, run, inputs, watch)


def compare(
    network: Network,
    values: Mapping[str, str],
    origin: Origin,
    inputs: Mapping[str, Array],
    watch: Callable[[str], None] | None = None,
) -> Comparison:
    """
    Compare a network with its origin, node by node.

    Parameters
    ----------
    network : Network
        The network.
    values : mapping of str to str
        Which of the origin's values its nodes compute.
    origin : Origin
        Where it comes from.
    inputs : mapping of str to ndarray
        Inputs of shape (N, ...) by what they are called.
    watch : callable, optional
        As in `verify`.

    Returns
    -------
    Comparison
        The nodes and how far they are off; of several inputs the worst.
    """
    found: dict[str, Row] = {}
    folded = 0.0
    tell = watch or str  # to nobody
    for name, x in inputs.items():
        tell(f"{name} input through {origin.name}")
        theirs = origin.values(x)
        tell(f"{name} input through the network")
        for row in _rows(network, values, origin.dtype, theirs, x):
            known = found.get(row.node, row)
            found[row.node] = max(known, row, key=_badness)
        tell(f"{name} input through the canonical form")
        off = share(_outputs(fold(network), x), _outputs(network, x))
        folded = max(folded, off, key=_worse)
    order = [found[node.name] for node in network.nodes if node.name in found]
    return Comparison(origin.name, origin.dtype, tuple(inputs), tuple(order), len(network.nodes), folded)


def random_inputs(network: Network, count: int = 2) -> Array:
    """
    Draw inputs.

    Parameters
    ----------
    network : Network
        Whose inputs: pixels at random where it says how a picture becomes an input, else normal numbers.
    count : int
        How many.

    Returns
    -------
    ndarray of float64, shape (count, ...)
        Inputs; each a float32, so that every framework is given the same.
    """
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((count, *network.input_shape))
    if network.preprocessing is not None:
        c, h, w = network.input_shape
        x = network.preprocessing.normalise(rng.integers(0, 256, (count, h, w, c)))
    return x.astype(np.float32).astype(np.float64)


def share(ours: Array, theirs: Array) -> float:
    """
    Measure a difference.

    Parameters
    ----------
    ours, theirs : ndarray
        Arrays of one shape.

    Returns
    -------
    float
        The largest difference, as a share of their largest magnitude; infinite if they are 0 and ours not.
    """
    off, size = float(abs(ours - theirs).max()), float(abs(theirs).max())
    return off / size if size else (float("inf") if off else 0.0)


def _rows(
    network: Network, values: Mapping[str, str], dtype: str, theirs: Mapping[str, Array], x: Array
) -> Sequence[Row]:
    ours = _values(network, x, dtype)
    rows = []
    for node in network.nodes:
        value = values.get(node.name, "")
        if value in theirs or node.name == network.top:  # the output has a counterpart, or differs
            there = np.asarray(theirs.get(value, np.empty(0)), np.float64)
            here = ours[node.name].astype(np.float64)
            off = share(here.reshape(there.shape), there) if here.size == there.size else float("inf")
            rows.append(Row(node.name, node.layer.kind, value, off))
    return rows


def _values(network: Network, x: Array, dtype: str) -> Mapping[str, Array]:
    arithmetic, kernels = exact.get(dtype), get_backend("auto")
    values = network.astype(arithmetic).activations(kernels.upload(arithmetic.array(x)), kernels)
    return {name: kernels.download(value) for name, value in values.items()}


def _outputs(network: Network, x: Array) -> Array:
    return network.forward(x, backend="auto")


def _worse(difference: float) -> float:
    """What is no number is worst."""
    return difference if difference == difference else float("inf")


def _badness(row: Row) -> float:
    return _worse(row.difference)
