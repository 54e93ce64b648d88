"""Read a program that torch.export.save wrote (`.pt2`), without PyTorch and running no code.

PyTorch's own loader is not used: it can run code of a hostile file (pickled objects, expressions that it
evaluates). The parts that matter are plain. A `.pt2` is a zip archive of stored members::

    archive/models/model.json                             the graph: calls of operators, shapes, which
                                                          values are weights
    archive/data/weights/model_weights_config.json        for each weight: dtype, sizes, strides, and in
    archive/data/weights/weight_0 ...                     which of these files its raw numbers are
    archive/data/constants/model_constants_config.json    likewise for constants and buffers that are
    archive/data/constants/tensor_0 ...                   no part of the state dict
    archive/byteorder                                     little or big

The JSON's fields are those of `torch/_export/serde/schema.py`, version 8, which PyTorch writes so since 2.9.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrpref.errors import BadNetwork, BadWeights
from lrpref.kernels.operations import Array
from lrpref.layers import Shape
from lrpref.network import MAX_AXES
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import.archive import Archive, mapped
from lrpref.weights_import.checkpoint import MAX_GROWTH, SMALL, array
from lrpref.weights_import.pickles import ITEM_SIZE, reason_of, shown
from lrpref.weights_import.program import Call, Imported, Program, Ref, make
from lrpref.weights_import.torch_graph import functional, place, weight_of
from lrpref.weights_import.torch_operators import OPERATORS

SCHEMA = 8
"""The major version of the JSON that is read."""

MAX_JSON = 5 << 20
"""The longest JSON that is read, in bytes; that of DenseNet-201 has 2 MB."""

DTYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64",
    12: "bool", 13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64",
}  # fmt: skip
"""dtypes by their numbers in the schema's `ScalarType`."""

STRIDED = 7
"""The number of an ordinary tensor in the schema's `Layout`."""

AGAIN = "load it with torch.export.load and save it again with PyTorch 2.9 or later"

_SCALARS: dict[str, tuple[type, ...]] = {
    "as_int": (int,), "as_bool": (bool,), "as_string": (str,), "as_float": (float, int, str),
}  # fmt: skip
_LISTS = {"as_ints": "as_int", "as_bools": "as_bool", "as_strings": "as_string", "as_floats": "as_float"}
_UNIONS = {
    "as_sym_int": {"as_name": "name", "as_int": "as_int"},
    "as_sym_float": {"as_name": "name", "as_float": "as_float"},
    "as_sym_bool": {"as_name": "name", "as_bool": "as_bool"},
    "as_optional_tensor": {"as_tensor": "as_tensor", "as_none": "as_none"},
}


def is_exported(path: str | os.PathLike[str]) -> bool:
    """
    Tell whether a file is a program of torch.export, of any version, by its content.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    bool
        False also for what cannot be read.
    """
    try:
        with mapped(Path(path)) as (data, file):
            if bytes(data[:2]) != b"PK":
                return False
            names = Archive(data, file).names
    except BadWeights:
        return False
    return any(name.endswith(("/models/model.json", "serialized_exported_program.json")) for name in names)


def imported(
    path: str | os.PathLike[str],
    *,
    name: str = "",
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> Imported:
    """
    Make a network of a saved program, and say what its nodes are in it.

    Parameters
    ----------
    path : path-like
        A file that torch.export.save wrote.
    name : str
        What the network is called; the file's name where not given.
    classes : sequence of str
        Names of the outputs, or nothing.
    preprocessing : Preprocessing, optional
        How a picture becomes an input.

    Returns
    -------
    Imported
        The network, the program, and which of its values are which nodes. Weights have the file's own dtype
        and bytes; only float16 and bfloat16 are widened, exactly, to float32.

    Raises
    ------
    BadWeights
        If the file cannot be read, or is damaged. One line, which starts with the file's name.
    BadNetwork
        If operators are not supported: all of them in one line, with their nodes.
    """
    path = Path(path)
    with mapped(path) as (data, file):
        program, version = _read(Archive(data, file), len(data))
        provenance = {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "torch": version}
    try:
        return make(
            program,
            OPERATORS,
            name=name or path.stem,
            classes=classes,
            preprocessing=preprocessing,
            provenance=provenance,
        )
    except BadNetwork as error:
        raise BadNetwork(f"{path.name}: {error}") from None


def read(path: str | os.PathLike[str]) -> Program:
    """
    Read a saved program.

    Parameters
    ----------
    path : path-like
        A file that torch.export.save wrote.

    Returns
    -------
    Program
        Its calls.

    Raises
    ------
    BadWeights
        If the file cannot be read, or is damaged.
    """
    with mapped(Path(path)) as (data, file):
        return _read(Archive(data, file), len(data))[0]


def _read(archive: Archive, file_size: int) -> tuple[Program, str]:
    """Read the program, and which PyTorch wrote it."""
    names = [name for name in archive.names if name.endswith(".json")]
    models = [name for name in names if name.endswith("/models/model.json")]
    if "serialized_exported_program.json" in archive.names:
        raise BadWeights(f"is a program as PyTorch before 2.8 saved it: {AGAIN}")
    if len(models) != 1 or models[0].count("/") != 2:
        raise BadWeights("is a zip archive, but no program of torch.export: expected one models/model.json")
    archive.check()
    root = models[0].partition("/")[0]
    try:
        document = _json(archive, f"{root}/models/model.json")
        version = document["schema_version"]["major"]
        if type(version) is not int or version != SCHEMA:
            raise BadWeights(f"its schema has version {shown(version)}, expected {SCHEMA}: {AGAIN}")
        stored = _Stored(archive, root, MAX_GROWTH * file_size + SMALL)
        return _program(document["graph_module"], stored), str(document.get("torch_version", ""))[:50]
    except _DAMAGED as error:
        raise BadWeights(f"its graph is damaged ({type(error).__name__}: {reason_of(error)})") from None


_DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError)
"""What comes of a document that is not built as the schema says."""


def _json(archive: Archive, name: str) -> Any:
    if name not in archive.names:
        raise BadWeights(f"{shown(name)} is not in the archive: {AGAIN}")
    text = archive.content(name)
    if len(text) > MAX_JSON:
        raise BadWeights(f"{shown(name)} has {len(text)} bytes, expected at most {MAX_JSON}")
    return json.loads(str(text, "utf-8"))


class _Stored:
    """The tensors of an archive, by the folder that they are in."""

    def __init__(self, archive: Archive, root: str, budget: int) -> None:
        self.archive, self.root, self.budget = archive, root, budget
        self.byteorder = archive.byteorder(root)
        self.configurations: dict[str, Mapping[str, Any]] = {}

    def tensor(self, folder: str, name: str) -> Array:
        """Read a tensor; folder is "weights" or "constants"."""
        if folder not in self.configurations:
            path = f"{self.root}/data/{folder}/model_{folder}_config.json"
            self.configurations[folder] = _json(self.archive, path)["config"]
        if name not in self.configurations[folder]:
            raise BadWeights(f"tensor {shown(name)} is not among its {folder}")
        entry = self.configurations[folder][name]
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise BadWeights(f"tensor {shown(name)} is pickled: make it an ordinary tensor before export")
        meta = entry["tensor_meta"]
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None or meta["layout"] != STRIDED:
            raise BadWeights(f"tensor {shown(name)}: its dtype or layout is not read; expected {_listed()}")
        if len(meta["sizes"]) > MAX_AXES:
            raise BadWeights(f"tensor {shown(name)}: it has {len(meta['sizes'])} axes, more than {MAX_AXES}")
        sizes, strides = (tuple(_count(size["as_int"]) for size in meta[key]) for key in ("sizes", "strides"))
        self.budget -= math.prod(sizes) * max(4, ITEM_SIZE[dtype])
        if self.budget < 0:
            raise BadWeights(f"tensor {shown(name)}: with it they take far more memory than the file")
        member = f"{self.root}/data/{folder}/{entry['path_name']}"
        if member not in self.archive.names:
            raise BadWeights(f"tensor {shown(name)}: {shown(entry['path_name'])} is not in the archive")
        raw, offset = self.archive.content(member), _count(meta["storage_offset"]["as_int"])
        made = array(name, dtype, self.byteorder, raw, offset, sizes, strides)
        return made.astype(np.float32) if dtype == "float16" else made


def _listed() -> str:
    return f"dense tensors of {', '.join(DTYPES.values())}"


def _count(value: Any) -> int:
    """Read a size, a step or an offset."""
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise BadWeights(f"the size, stride or offset {shown(value)} is none")
    return value


def _program(module: Mapping[str, Any], stored: _Stored) -> Program:
    graph, signature = module["graph"], module["signature"]
    constants: dict[str, Array] = {}
    paths: dict[str, str] = {}
    inputs: list[Any] = []
    for specification in signature["input_specs"]:
        ((kind, fields),) = specification.items()
        if kind == "user_input":
            inputs.append(fields["arg"])
        elif kind in _TENSORS:
            key, folder = _TENSORS[kind]
            value, path = fields["arg"]["name"], fields[key]
            folder = "constants" if fields.get("persistent") is False else folder
            constants[value] = stored.tensor(folder, path)
            if kind != "tensor_constant":
                paths[value] = path
        elif kind != "constant_input":
            raise BadWeights(f"it has an input that is no tensor ({shown(kind)})")
    outputs = [each["user_output"]["arg"] for each in signature["output_specs"] if "user_output" in each]
    value, output = _only(inputs, "inputs"), _only(outputs, "outputs")
    shapes = _shapes(graph["tensor_values"], value)
    read = [_call(node, paths) for node in graph["nodes"]]
    calls, output = functional(read, constants, output, OPERATORS)
    return Program(value, output, shapes, constants, calls)


_TENSORS = {
    "parameter": ("parameter_name", "weights"),
    "buffer": ("buffer_name", "weights"),
    "tensor_constant": ("tensor_constant_name", "constants"),
}
"""Inputs of a graph that are tensors of the file: the field with their name, and their folder."""


def _only(arguments: Sequence[Mapping[str, Any]], what: str) -> str:
    names = [argument["as_tensor"]["name"] for argument in arguments if "as_tensor" in argument]
    if len(names) != 1:
        raise BadWeights(f"it has {len(names)} {what}: one tensor is read; wrap it in a module that has one")
    return _text(names[0])


def _shapes(values: Mapping[str, Any], of_input: str) -> dict[str, Shape]:
    """Read the shapes of all values; where the number of samples is open, that of the example, else 1."""
    batch, *sample = values[of_input]["sizes"]
    symbols = {batch["as_expr"]["expr_str"]: _hint(batch, {}) or 1} if "as_expr" in batch else {}
    shapes = {}
    for name, meta in values.items():
        sizes = [_hint(size, symbols) for size in meta["sizes"]]
        if None not in sizes:
            shapes[name] = tuple(size for size in sizes if size is not None)
    if of_input not in shapes or not sample or 0 in shapes[of_input]:
        raise BadWeights("its input has no shape of (N, ...) with known sizes: export it with fixed ones")
    return shapes


def _hint(size: Mapping[str, Any], symbols: Mapping[str, int]) -> int | None:
    """Give a size: the number, that of the example, or what is known of the symbol."""
    if "as_int" in size:
        return _count(size["as_int"])
    hint = (size["as_expr"].get("hint") or {}).get("as_int")
    return symbols.get(size["as_expr"]["expr_str"]) if hint is None else _count(hint)


# Calls


def _call(node: Mapping[str, Any], paths: Mapping[str, str]) -> Call:
    operator = _text(node["target"]).removeprefix("torch.ops.")
    arguments = {_text(each["name"]): _argument(each["arg"]) for each in node["inputs"]}
    results = tuple(name for output in node["outputs"] for name in _names(output))
    modules = [
        (path, kind)
        for entry in node["metadata"].get("nn_module_stack", "").split(";")
        for _, path, kind in [[*entry.split(",", 2), "", ""][:3]]
    ]
    where = place(modules, operator, weight_of(arguments, paths))
    return Call(_text(node.get("name") or (results or [operator])[0]), operator, arguments, results, where)


def _names(output: Mapping[str, Any]) -> list[str]:
    """Name what a call gives: one value, or a list of them."""
    ((kind, fields),) = output.items()
    if kind == "as_tensors":
        return [_text(field["name"]) for field in fields]
    if kind == "as_none":
        return [""]
    return [_text(fields["name" if kind == "as_tensor" else "as_name"])]


def _argument(argument: Mapping[str, Any]) -> Any:
    """Read an argument: the schema says its kind in its one key."""
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return Ref(_text(value["name"]))
    if kind == "as_scalar_type":
        return DTYPES.get(value, "a dtype that is not read")
    if kind in _SCALARS:
        return _scalar(kind, value)
    if kind in _LISTS:
        return [_scalar(_LISTS[kind], item) for item in value]
    if kind in _UNIONS:
        return _either(kind, value)
    if kind == "as_tensors":
        return [Ref(_text(item["name"])) for item in value]
    if kind.removesuffix("s") in _UNIONS:
        return [_either(kind.removesuffix("s"), item) for item in value]
    return kind  # a device, a layout, a graph ...: no operator that is supported reads one


def _either(kind: str, value: Mapping[str, Any]) -> Any:
    """Read one of several kinds: a number, or the name of a value."""
    ((key, item),) = value.items()
    meant = _UNIONS[kind][key]
    return Ref(_text(item)) if meant == "name" else _argument({meant: item})


def _scalar(kind: str, value: Any) -> Any:
    if type(value) not in _SCALARS[kind]:
        raise BadWeights(f"its graph is damaged: {shown(value)} is not {kind}")
    return float(value) if kind == "as_float" else value  # infinity is a string


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadWeights(f"its graph is damaged: {shown(value)} where a name is wanted")
    return value
