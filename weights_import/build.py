"""An architecture and tensors make a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lrpref.errors import BadNetwork, BadWeights
from lrpref.fold import merge_padding
from lrpref.kernels.operations import Array
from lrpref.layers import Shape
from lrpref.network import INPUT, LARGEST, Network, Node
from lrpref.tables import within
from lrpref.weights_import.pickles import shown
from lrpref.weights_import.specification import Architecture

IGNORED = "num_batches_tracked"
"""The training counter of PyTorch's batch norms; nothing at test time depends on it."""

LISTED = 5
"""So many tensors of each fault are listed in an error's line; the rest are counted."""


def expected_tensors(architecture: Architecture) -> dict[str, Shape]:
    """
    List the tensors that a weight file must hold.

    Parameters
    ----------
    architecture : Architecture
        The architecture.

    Returns
    -------
    dict of str to tuple of int
        Shapes by name, in the order of the nodes.

    Raises
    ------
    BadNetwork
        If a shape in the architecture does not fit: the node, the shape it got and the shape it wants.
    """
    expected: dict[str, Shape] = {}

    def note(name: str, shape: Shape) -> Array:
        if expected.setdefault(name, shape) != shape:
            raise BadNetwork(f"wants '{name}' as {shape}, a node before it as {expected[name]}")
        if min(shape) < 1:
            raise BadNetwork(f"'{name}' would be {shape}")
        if math.prod(shape) > LARGEST:
            raise BadNetwork(f"'{name}' would have more than {LARGEST} numbers")
        # a shape without numbers: it takes no memory, and as an object nobody asks whether it is finite
        return np.broadcast_to(np.array(1, dtype=object), shape)

    _assemble(architecture, note, {})
    return expected


def make_network(
    architecture: Architecture, tensors: Mapping[str, Array], provenance: Mapping[str, Any] | None = None
) -> Network:
    """
    Make a network of an architecture and its tensors.

    Parameters
    ----------
    architecture : Architecture
        The architecture.
    tensors : mapping of str to ndarray
        All of its tensors and no others, but for `num_batches_tracked` and what it leaves `unused`.
    provenance : mapping, optional
        Where they come from: plain JSON data.

    Returns
    -------
    Network
        The network. Its weights are the given arrays; only float16 is widened, to float32.

    Raises
    ------
    BadWeights
        If tensors are given twice, missing, unexpected, misshapen, not floating point or not finite: all
        of them in one line.
    """
    expected = expected_tensors(architecture)
    own, twice = _own_names(architecture, tensors)
    read = {n: tensor for n, tensor in own.items() if n in expected or not _unread(architecture, n)}
    faults = [*_listed("given twice", twice), *_faults(expected, read)]
    if faults:
        raise BadWeights(f"does not fit architecture '{architecture.name}': {'; '.join(faults)}")

    def take(name: str, shape: Shape) -> Array:
        tensor = read[name]
        return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor

    try:
        return merge_padding(_assemble(architecture, take, provenance or {}))
    except BadNetwork as error:  # the architecture alone is sound: it is the numbers
        raise BadWeights(str(error)) from None


def _assemble(
    architecture: Architecture, find: Callable[[str, Shape], Array], provenance: Mapping[str, Any]
) -> Network:
    """Lay node upon node; `find` gives the tensor of a name and an expected shape."""
    nodes, shapes = [], {INPUT: architecture.input}
    for place, recipe in architecture.nodes:
        with within(str(place)):
            for name in place.inputs:
                if name not in shapes:
                    raise BadNetwork(f"reads '{name}', which is no node before it")
            inputs = [shapes[name] for name in place.inputs]
            found = {
                part: find(place.tensor(part), shape) for part, shape in recipe.tensors(inputs[0]).items()
            }
            layer = recipe.layer(found)
            shapes[place.name] = layer.output_shape(*inputs)
        nodes.append(Node(place.name, layer, place.inputs))
    return Network(
        tuple(nodes),
        architecture.input,
        architecture.classes,
        architecture.preprocessing,
        architecture.name,
        provenance,
    )


def _own_names(
    architecture: Architecture, tensors: Mapping[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """Name the tensors as the architecture does; and list those that the file has under two names."""
    files: dict[str, list[str]] = {}
    for name in tensors:
        files.setdefault(architecture.spelling(name), []).append(name)
    twice = [" and ".join(shown(name)[1:-1] for name in names) for names in files.values() if len(names) > 1]
    return {own: tensors[names[0]] for own, names in files.items()}, twice


def _unread(architecture: Architecture, name: str) -> bool:
    return name.rpartition(".")[2] == IGNORED or architecture.leaves_out(name)


def _faults(expected: Mapping[str, Shape], tensors: Mapping[str, Array]) -> list[str]:
    """List what is wrong with the tensors, one entry for each kind of fault."""
    both = {name: tensor for name, tensor in tensors.items() if name in expected}
    floats = {name: tensor for name, tensor in both.items() if tensor.dtype.kind == "f"}
    return [
        *_listed("missing", [f"{n} {shape}" for n, shape in expected.items() if n not in tensors]),
        *_listed("unexpected", [f"{shown(n)[1:-1]} {t.shape}" for n, t in tensors.items() if n not in both]),
        *_listed("misshapen", [f"{n} {t.shape} instead of {expected[n]}"
                               for n, t in both.items() if t.shape != expected[n]]),
        *_listed("not floating point", [f"{n} {t.dtype}" for n, t in both.items() if n not in floats]),
        *_listed("not finite", [_not_finite(n, t) for n, t in floats.items() if not np.isfinite(t).all()]),
    ]  # fmt: skip


def _not_finite(name: str, tensor: Array) -> str:
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(tensor))[0])
    return f"{name} holds {tensor[where]} at {where}"


def _listed(fault: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return [f"{len(items)} {fault}: {', '.join(items[:LISTED])}{more}"]
