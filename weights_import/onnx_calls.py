"""How the calls of an ONNX program run: as layers, or as arithmetic where all that they read is constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lrpref.kernels.operations import Array
from lrpref.weights_import.onnx_constants import FOLDABLE, Tensors, folded
from lrpref.weights_import.onnx_operators import TABLE
from lrpref.weights_import.pickles import shown
from lrpref.weights_import.program import Draft, Handler, Table, Unsupported, Value, size

if TYPE_CHECKING:
    import onnx

_COUNTED = frozenset({"BatchNormalization", "Split"})
"""Operators whose meaning depends on how many results are asked for."""

_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
"""Where the value of an attribute is, by its type; no others are read."""


@dataclass(frozen=True)
class Calls:
    """
    Runs the calls of one file.

    Parameters
    ----------
    opset : int
        The version of its operators.
    tensors : Tensors
        Reads the tensors among their attributes, and says how much constants may take.
    """

    opset: int
    tensors: Tensors

    def table(self) -> Table:
        """
        Say what the operators are.

        Returns
        -------
        dict of str to callable
            Handlers, each of which takes a call's node and inputs.
        """
        layers: Table = {name: partial(self._call, TABLE.get(name)) for name in {*TABLE, *FOLDABLE}}
        makers: Table = {"Constant": _constant, "ConstantOfShape": self._constant_of_shape}
        return layers | {name: partial(self._layers, handler) for name, handler in makers.items()}

    def _call(
        self, handler: Handler | None, draft: Draft, *, node: onnx.NodeProto, inputs: Sequence[Any]
    ) -> Any:
        if any(isinstance(x, Value) for x in inputs):
            if handler is None:
                raise Unsupported(f"operator {node.op_type} on values that depend on the input")
            return self._layers(handler, draft, node=node, inputs=inputs)
        if node.op_type not in FOLDABLE:
            raise Unsupported(f"{node.op_type} of constants alone")
        return folded(node, self.opset, inputs, self.tensors.budget)

    def _layers(
        self, handler: Handler, draft: Draft, *, node: onnx.NodeProto, inputs: Sequence[Any]
    ) -> Any:
        attributes = self._attributes(node)
        if node.op_type in _COUNTED:
            attributes["outputs"] = len(node.output)
        return handler(draft, *inputs, **attributes)

    def _attributes(self, node: onnx.NodeProto) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry in node.attribute:
            if entry.ref_attr_name or entry.type not in _FIELDS:
                raise Unsupported(f"{node.op_type} with attribute {shown(entry.name)}, a graph or such")
            if entry.name in found or not entry.name.isidentifier():
                raise Unsupported(f"{node.op_type} with attribute {shown(entry.name)}")
            found[entry.name] = self._plain(getattr(entry, _FIELDS[entry.type]))
        return found

    def _plain(self, value: Any) -> Any:
        """Turn what protobuf gives into a number, a text, a list or an array."""
        if isinstance(value, int | float):
            return value
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return self.tensors.read(value) if hasattr(value, "data_type") else list(value)

    def _constant_of_shape(self, draft: Draft, shape: Any, *, value: Any = None) -> Array:
        """Give a tensor of one number."""
        if isinstance(shape, Value):
            raise Unsupported("ConstantOfShape of values that depend on the input")
        number = np.zeros(1, np.float32) if value is None else value
        sizes = tuple(int(n) for n in shape)
        if min(sizes, default=0) < 0 or number.size != 1 or len(sizes) > 16:
            raise Unsupported("ConstantOfShape with such a shape or value")
        self.tensors.budget.spend(8 * size(sizes), "a ConstantOfShape")
        return np.full(sizes, number.reshape(())[()], number.dtype)


def _constant(draft: Draft, **attributes: Any) -> Array:
    """Give the number, numbers or tensor of a Constant."""
    if len(attributes) != 1:
        raise Unsupported("Constant with several values or none")
    ((name, value),) = attributes.items()
    if name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise Unsupported(f"Constant with {shown(name)}: numbers are read")
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, np.float32 if "float" in name else np.int64)
