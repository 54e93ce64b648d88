"""What in an ONNX file no input changes: its tensors, and arithmetic on them.

The numbers of a tensor lie in the file (as raw bytes, or in a list of its type) or in a file beside it. Every
length is compared with what the shape wants before anything is read, so that nothing becomes larger than what
is there. Arithmetic on constants, which exporters leave behind where they computed a shape, is done by onnx's
own reference implementation, for the operators of `FOLDABLE` and within a budget.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref.errors import BadWeights
from lrpref.files import regular
from lrpref.kernels.operations import Array
from lrpref.weights_import.checkpoint import MAX_GROWTH, SMALL
from lrpref.weights_import.pickles import reason_of, shown
from lrpref.weights_import.program import Unsupported

if TYPE_CHECKING:
    import onnx

_STORED = {
    "FLOAT": "<f4", "DOUBLE": "<f8", "FLOAT16": "<f2",
    "BFLOAT16": "<u2",  # the upper half of a float32's bits
    "INT64": "<i8", "INT32": "<i4", "INT16": "<i2", "INT8": "<i1",
    "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2", "UINT8": "<u1",
    "BOOL": "<u1",
}  # fmt: skip
_LISTED = {
    "FLOAT": "float_data", "DOUBLE": "double_data", "INT64": "int64_data",
    "UINT64": "uint64_data", "UINT32": "uint64_data",
}  # fmt: skip
"""In which list of a tensor its numbers are where they are no raw bytes; `int32_data` for all others."""

_MAX_AXES = 16


class Budget:
    """
    Bounds what constants may take that are not simply the file's own bytes.

    Parameters
    ----------
    size : int
        Of the file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._left = MAX_GROWTH * size + SMALL

    def allow(self, size: int) -> None:
        """
        Add a file.

        Parameters
        ----------
        size : int
            Of that file, in bytes.
        """
        self._left += MAX_GROWTH * size

    def spend(self, size: int, what: str) -> None:
        """
        Take from it, before the bytes are there.

        Parameters
        ----------
        size : int
            How many bytes.
        what : str
            What they are for.

        Raises
        ------
        BadWeights
            If there are not so many left.
        """
        self._left -= size
        if self._left < 0:
            raise BadWeights(f"{what} would take more than {MAX_GROWTH} times the file's size: refused")


class Tensors:
    """
    Reads tensors.

    Parameters
    ----------
    folder : Path
        Where the model is: the only place where its numbers may be, too.
    budget : Budget
        What they may take.
    """

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder = Path(os.path.realpath(folder))
        self.budget = budget
        self._beside: set[Path] = set()

    def read(self, tensor: onnx.TensorProto) -> Array:
        """
        Read a tensor.

        Parameters
        ----------
        tensor : onnx.TensorProto
            The tensor.

        Returns
        -------
        ndarray
            Its numbers, with the file's own dtype and bytes; float16 and bfloat16 are widened, exactly, to
            float32.

        Raises
        ------
        BadWeights
            If its dtype is none of numbers, its length is not what its shape wants, or its file is outside
            the model's folder.
        """
        kind = _kind(tensor.data_type)
        stored, count, what = _layout(tensor)
        if tensor.data_location == tensor.EXTERNAL or tensor.HasField("raw_data"):
            numbers = np.frombuffer(self._raw(tensor, what, count * stored.itemsize), stored)
        else:
            numbers = _listed(getattr(tensor, _LISTED.get(kind, "int32_data")), stored, count, what)
        return self._widened(kind, numbers, what).reshape(tuple(tensor.dims))

    def _raw(self, tensor: onnx.TensorProto, what: str, size: int) -> bytes:
        if tensor.data_location == tensor.EXTERNAL:
            return self._external(tensor, what, size)
        _check_length(what, len(tensor.raw_data), size, "bytes")
        return tensor.raw_data

    def _widened(self, kind: str, numbers: Array, what: str) -> Array:
        if kind in ("FLOAT16", "BFLOAT16"):
            self.budget.spend(4 * numbers.size, what)
        if kind == "FLOAT16":
            return numbers.astype(np.float32)
        if kind == "BFLOAT16":
            return (numbers.astype(np.uint32) << 16).view(np.float32)
        return numbers != 0 if kind == "BOOL" else numbers

    def _external(self, tensor: onnx.TensorProto, what: str, size: int) -> bytes:
        """Read the bytes that lie in a file beside the model's."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if not all(isinstance(text, str) for item in entries.items() for text in item):
            raise BadWeights(f"{what}: says in no UTF-8 where its numbers are")
        path = self._inside(entries.get("location", ""), what)
        offset, length = (_count(entries.get(key, default), key, what)
                          for key, default in (("offset", "0"), ("length", str(size))))  # fmt: skip
        _check_length(what, length, size, "bytes")
        there = path.stat().st_size
        if offset + size > there:
            raise BadWeights(f"{what}: ends at byte {offset + size} of {path.name}, which has {there}")
        if path not in self._beside:
            self._beside.add(path)
            self.budget.allow(there)
        self.budget.spend(size, what)
        with path.open("rb") as file:
            file.seek(offset)
            raw = file.read(size)
        _check_length(what, len(raw), size, "bytes")
        return raw

    def _inside(self, location: str, what: str) -> Path:
        """Find the file of a tensor: in the model's folder, whatever links there are."""
        parts = location.split("/")
        if not location or location.startswith("/") or ".." in parts or set(location) & set('\\:\0'):
            raise BadWeights(
                f"{what}: its numbers are in {shown(location)}, expected a file in the model's folder"
            )
        path = Path(os.path.realpath(self.folder / location))
        if not path.is_relative_to(self.folder):
            raise BadWeights(
                f"{what}: its file {shown(location)} is a link out of the model's folder: copy it there"
            )
        return regular(path, BadWeights)


def _layout(tensor: onnx.TensorProto) -> tuple[np.dtype[Any], int, str]:
    """Say how a tensor's numbers are stored, how many there are, and what to call it."""
    what, shape, kind = f"tensor {shown(tensor.name)}", tuple(tensor.dims), _kind(tensor.data_type)
    if kind not in _STORED:
        raise BadWeights(f"{what}: dtype {kind} is not read, expected one of {', '.join(_STORED)}")
    if len(shape) > _MAX_AXES or any(n < 0 for n in shape):
        raise BadWeights(f"{what}: its shape {shown(str(shape))} is none")
    if tensor.HasField("segment"):
        raise BadWeights(f"{what}: is in segments, which nothing writes: save the model again")
    return np.dtype(_STORED[kind]), math.prod(shape), what


def _kind(data_type: int) -> str:
    from onnx import TensorProto

    try:
        return TensorProto.DataType.Name(data_type)
    except ValueError:
        return str(data_type)


def _count(digits: str, key: str, what: str) -> int:
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        raise BadWeights(f"{what}: its {key} {shown(digits)} is no whole number >= 0")
    return int(digits)


def _check_length(what: str, length: int, expected: int, unit: str) -> None:
    if length != expected:
        raise BadWeights(f"{what}: has {length} {unit}, its shape wants {expected}")


def _listed(numbers: Any, stored: np.dtype[Any], count: int, what: str) -> Array:
    """Read numbers from the list of their type; bits of a float16 are in a list of integers."""
    _check_length(what, len(numbers), count, "numbers")
    if stored.kind == "f" and stored.itemsize > 2:
        return np.array(numbers, stored)
    bits = stored if stored.kind != "f" else np.dtype("<u2")
    wide = np.array(numbers, np.uint64 if bits == np.uint64 else np.int64)
    narrow = wide.astype(bits)
    if (narrow != wide).any():
        raise BadWeights(f"{what}: holds a number that its dtype cannot hold")
    return narrow.view(stored)


# Arithmetic on constants.


def _elementwise(*inputs: Array) -> int:
    return math.prod(np.broadcast_shapes(*(x.shape for x in inputs)))


def _rearranged(*inputs: Array) -> int:
    return sum(x.size for x in inputs)


def _gathered(data: Array, indices: Array) -> int:
    return data.size * indices.size


def _expanded(data: Array, shape: Array) -> int:
    return math.prod(np.broadcast_shapes(data.shape, tuple(int(n) for n in shape)))


def _counted(start: Array, limit: Array, delta: Array) -> int:
    return max(0, math.ceil((limit.item() - start.item()) / delta.item()))


def _tiled(data: Array, repeats: Array) -> int:
    return data.size * math.prod(int(n) for n in repeats)


FOLDABLE: Mapping[str, Callable[..., int]] = {
    **dict.fromkeys(
        ("Abs", "Add", "And", "Cast", "Ceil", "Div", "Equal", "Exp", "Floor", "Greater", "GreaterOrEqual",
         "Identity", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
         "Reciprocal", "Round", "Sqrt", "Sub", "Sum", "Where"),
        _elementwise,
    ),
    **dict.fromkeys(
        ("Concat", "Flatten", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape",
         "Shape", "Size", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
        _rearranged,
    ),
    "Gather": _gathered,
    "Expand": _expanded,
    "Range": _counted,
    "Tile": _tiled,
}  # fmt: skip
"""Operators that are computed where all they read is constant, and how many numbers they give at most."""


def folded(node: onnx.NodeProto, opset: int, inputs: Sequence[Array | None], budget: Budget) -> list[Any]:
    """
    Compute a node whose inputs are all constants.

    Parameters
    ----------
    node : onnx.NodeProto
        The node, of one of the operators of `FOLDABLE`.
    opset : int
        The version of the operators.
    inputs : sequence of ndarray or None
        What it reads; None for what is left out.
    budget : Budget
        What the result may take.

    Returns
    -------
    list of ndarray
        Its results.

    Raises
    ------
    Unsupported
        If it cannot be computed.
    BadWeights
        If the result would be too large.
    """
    if any(attribute.type not in _PLAIN for attribute in node.attribute):
        raise Unsupported(f"{node.op_type} of constants with a tensor or a graph as an attribute")
    given = [x for x in inputs if x is not None]
    try:
        with np.errstate(all="ignore"):
            budget.spend(8 * FOLDABLE[node.op_type](*given), f"node {shown(node.name)} ({node.op_type})")
            results = _reference(node, opset, inputs)
    except BadWeights:
        raise
    except Exception as error:  # of every kind: onnx's reference checks little
        raise Unsupported(f"{node.op_type} of such constants ({reason_of(error)})") from None
    if not all(isinstance(x, np.ndarray) and x.dtype.kind in "fiub" for x in results):
        raise Unsupported(f"{node.op_type} of constants: its result is no array of numbers")
    return [x.astype(np.float32) if x.dtype == np.float16 else x for x in results]


_PLAIN = (1, 2, 3, 6, 7)
"""Types of attributes: a float, an int, a string, floats, ints."""


def _reference(node: onnx.NodeProto, opset: int, inputs: Sequence[Array | None]) -> list[Any]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {name: x for name, x in zip(node.input, inputs, strict=True) if x is not None}
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constants",
        [helper.make_empty_tensor_value_info(name) for name in given],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    results = dict(zip(outputs, ReferenceEvaluator(model).run(None, given), strict=True))
    return [np.asarray(results.get(name, 0)) for name in node.output]
