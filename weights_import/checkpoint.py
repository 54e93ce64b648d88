"""Read the weights in a PyTorch checkpoint or a safetensors file, without PyTorch and running no code.

>>> weights = read("vgg16.pth")                                                         # doctest: +SKIP
>>> weights["features.0.weight"].shape, weights["features.0.weight"].dtype              # doctest: +SKIP
((64, 3, 3, 3), dtype('float32'))

A checkpoint has two parts: *which* tensors there are (names, shapes, dtypes: a pickle, explained in
`lrpref.weights_import.pickles`) and their *numbers* (raw bytes, grouped in storages). Several tensors may
view one storage: a transposed weight is the same numbers with the strides exchanged, and tied weights
are two names for one view. Two containers hold these parts.

**Zip**, since PyTorch 1.6. An ordinary archive, whose members are stored and not compressed, so that a
storage lies in the file as it will lie in memory::

    archive/data.pkl     the pickle; each tensor refers to a storage by its key: "0", "1", ...
    archive/byteorder    little or big (missing before PyTorch 2.0: little)
    archive/data/0       the numbers of storage "0", nothing else
    archive/data/1       ...
    archive/version      of the format, 3

**Legacy**, before 1.6; torchvision's VGG-16 and many older files are still shipped in it. Five pickles, one
after the other, then the storages, without any directory::

    0x1950a86a20f9469cfc6c                            the magic number, as a pickle
    1001                                              the protocol version
    {"protocol_version", "little_endian", "type_sizes"}
    the object                                        refers to the storages by their keys
    ["140213", "140214", ...]                         the keys in the order of what follows
    for each key:  int64 number of elements, then the numbers

The legacy container does not say how long an element is: only the pickle does. PyTorch 0.1 wrote
a third one, a tar file; it is refused. **safetensors** is a JSON header and the numbers, and has no pickle
at all.
"""

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from lrpref.errors import BadWeights
from lrpref.weights_import import pickles
from lrpref.weights_import.archive import Archive, mapped
from lrpref.weights_import.pickles import ADVICE, Storage, Tensor, reason_of, shown

STORED = {
    "float64": "f8", "float32": "f4", "float16": "f2",
    "bfloat16": "u2",  # NumPy has no bfloat16: the upper half of a float32's bits
    "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint64": "u8", "uint32": "u4", "uint16": "u2", "uint8": "u1",
    "bool": "u1",  # a byte that may hold any value; 0 is False
}  # fmt: skip
"""The dtypes that are read, and as which NumPy dtype the file stores each."""

SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip

WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params",
)  # fmt: skip
"""Keys under which training scripts keep the state dict, the likeliest first."""

PREFIXES = ("module.", "_orig_mod.")
"""What torch.nn.DataParallel and torch.compile put before every name."""

MAX_GROWTH = 4
SMALL = 64 << 20
"""All arrays together may take MAX_GROWTH times the file's size plus SMALL bytes. Widening bfloat16 doubles,
a transposed twin doubles again; a stride of 0 can claim any size at all."""

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_FOREIGN = {
    b"\x1f\x8b": "is compressed by gzip: gunzip it first",
    b"\x89HDF": "is an HDF5 file",
    b"\x93NUMPY": "is a NumPy file",
    b"version https://git-lfs": "is a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"<": "is a web page: the download failed",
}

Fetch = Callable[[Storage], memoryview]
"""From a storage to its bytes in the file."""


@dataclass(frozen=True, slots=True)
class _Contents:
    """What both containers hold."""

    saved: object  # what torch.save was given, tensors as records
    fetch: Fetch
    byteorder: str  # "<" or ">"


def read(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read the tensors of a weight file by their names.

    The kind of file is told by its content, not by its suffix. Where a training script kept the state dict
    under one of `WRAPPERS`, that one is returned; whatever else the file holds (epoch, optimizer, arguments)
    is left out. A prefix of `PREFIXES` that all names have is removed. Values are not judged: NaN is read
    like any number.

    Parameters
    ----------
    path : path-like
        A PyTorch file (zip or legacy) or a safetensors file.

    Returns
    -------
    dict of str to ndarray
        In the state dict's order for PyTorch files, sorted by name for safetensors. The arrays are
        C-contiguous, writable, in native byte order and independent of the file. dtype as in the file,
        but bfloat16 becomes float32, exactly. Tied names (the same view of the same storage) share one array.

    Raises
    ------
    BadWeights
        If the file cannot be read; is of another kind, damaged or truncated; holds no tensors by name;
        holds a tensor of a dtype outside `STORED` or one that leaves its storage; or names any code.
        One line, which starts with the file's name.
    """
    with mapped(Path(path)) as (data, file):
        return _strip_prefixes(_read(data, file))


def _read(data: memoryview, file: io.BufferedReader) -> dict[str, NDArray[Any]]:
    start = bytes(data[:512])
    if start[:2] == b"PK":
        return _arrays(_zip(Archive(data, file)), len(data))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= len(data) - 8:
        return _safetensors(file.read())
    if start[:1] == b"\x80":
        return _arrays(_legacy(data), len(data))
    if start[257:262] == b"ustar":
        raise BadWeights("is a tar file, as PyTorch 0.1 wrote; load and save it once with a newer PyTorch")
    for signature, kind in _FOREIGN.items():
        if start.startswith(signature):
            raise BadWeights(kind)
    raise BadWeights(f"is neither a PyTorch nor a safetensors file; it starts with {start[:8]!r}")


# The containers.


def _zip(archive: Archive) -> _Contents:
    """Open the container of PyTorch 1.6 and later."""
    folders = [name.removesuffix("/data.pkl") for name in archive.names if name.endswith("/data.pkl")]
    if len(folders) != 1 or "/" in folders[0]:
        raise BadWeights("is a zip archive, but no checkpoint: expected one member archive/data.pkl")
    (folder,) = folders
    if any(name.startswith((f"{folder}/constants.pkl", f"{folder}/code/")) for name in archive.names):
        raise BadWeights(f"is a TorchScript archive, which holds code; {ADVICE}")
    archive.check()
    byteorder = archive.byteorder(folder)

    program = archive.content(f"{folder}/data.pkl")
    if len(program) > pickles.MAX_BYTES:
        raise BadWeights(f"its pickle is longer than {pickles.MAX_BYTES} bytes; {ADVICE}")
    saved, _ = pickles.load(pickles.Stream(program))

    def fetch(storage: Storage) -> memoryview:
        name = f"{folder}/data/{storage.key}"
        if name not in archive.names:
            raise BadWeights(f"storage {shown(storage.key)} is not in the archive")
        expected = storage.total * pickles.ITEM_SIZE[storage.dtype]
        actual = archive.names[name].file_size
        if actual != expected:
            raise BadWeights(f"storage {shown(storage.key)} has {actual} bytes, expected {expected}")
        return archive.content(name)

    return _Contents(saved, fetch, byteorder)


def _legacy(data: memoryview) -> _Contents:
    """Open the container of PyTorch before 1.6."""
    stream = pickles.Stream(data[: pickles.MAX_BYTES])
    magic, _ = pickles.load(stream)
    if type(magic) is not int or magic != _MAGIC:
        raise BadWeights("is a pickle, but not one that torch.save wrote")
    protocol, _ = pickles.load(stream)
    if type(protocol) is not int or protocol != _PROTOCOL:
        raise BadWeights(f"unknown legacy format {shown(protocol)}, expected {_PROTOCOL}")
    system, _ = pickles.load(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        # Versions of PyTorch differ in which parts they wrote big-endian; the zip container states it.
        raise BadWeights("a legacy file of a big-endian machine; save it again with PyTorch 1.6 or later")
    saved, storages = pickles.load(stream)
    keys, _ = pickles.load(stream)
    if not isinstance(keys, list):
        raise BadWeights(f"expected the list of storage keys, got {shown(keys)}")

    contents: dict[str, memoryview] = {}
    position = stream.tell()
    for key in keys:
        if type(key) is not str or key not in storages or key in contents:
            raise BadWeights(f"storage key {shown(key)} is unknown or comes twice")
        expected = storages[key].total
        count = int.from_bytes(data[position : position + 8], "little")
        start = position + 8
        position = start + expected * pickles.ITEM_SIZE[storages[key].dtype]
        if position > len(data):
            raise BadWeights(f"truncated: storage {shown(key)} ends at byte {position} of {len(data)}")
        if count != expected:
            raise BadWeights(f"storage {shown(key)} has {count} elements, expected {expected}")
        contents[key] = data[start:position]

    def fetch(storage: Storage) -> memoryview:
        if storage.key not in contents:
            raise BadWeights(f"storage {shown(storage.key)} is not in the file")
        return contents[storage.key]

    return _Contents(saved, fetch, "<")


def _safetensors(data: bytes) -> dict[str, NDArray[Any]]:
    """Read a safetensors file; the library checks the header and that the tensors tile the rest."""
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise BadWeights(f"damaged safetensors file: {reason_of(error)}") from None
    entries.sort(key=_name, reverse=True)
    arrays = {}
    while entries:  # each entry is a copy: pop it, so that it ends when its array is made
        name, entry = entries.pop()
        dtype = SAFETENSORS_DTYPES.get(entry["dtype"], entry["dtype"])
        arrays[name] = array(name, dtype, "<", entry["data"], 0, tuple(entry["shape"]), None)
    if not arrays:
        raise BadWeights("holds no tensors")
    return arrays


def _name(entry: tuple[str, Any]) -> str:
    return entry[0]


# From what was saved to arrays.


def _state_dict(level: dict[str, object], depth: int = 2) -> dict[str, Tensor]:
    """The tensors of the first wrapped state dict there is, else those of this level; maybe none."""
    for key in WRAPPERS:
        inner = level.get(key)
        # A hostile dict may contain itself: the depth ends that.
        if depth and isinstance(inner, dict) and (found := _state_dict(inner, depth - 1)):
            return found
    return {name: value for name, value in level.items() if isinstance(value, Tensor)}


def _arrays(contents: _Contents, file_size: int) -> dict[str, NDArray[Any]]:
    """The arrays of the state dict, by name."""
    if not isinstance(contents.saved, dict):
        raise BadWeights(f"holds {shown(contents.saved)}, expected a dict of tensors; {ADVICE}")
    tensors = _state_dict(contents.saved)
    if not tensors:
        keys = ", ".join(map(shown, list(contents.saved)[:5])) or "none"
        raise BadWeights(f"holds no tensors by name; its keys are {keys}; {ADVICE}")
    budget = MAX_GROWTH * file_size + SMALL
    arrays: dict[str, NDArray[Any]] = {}
    views: dict[Tensor, NDArray[Any]] = {}
    for name, tensor in tensors.items():
        if tensor not in views:
            widened = 2 if tensor.dtype == "bfloat16" else 1
            budget -= math.prod(tensor.size) * pickles.ITEM_SIZE[tensor.dtype] * widened
            if budget < 0:
                raise BadWeights(
                    f"tensor {shown(name)}: its view repeats numbers until the tensors take more than "
                    f"{MAX_GROWTH} times the file's size; save tensor.clone() instead"
                )
            views[tensor] = _tensor_array(name, tensor, contents)
        arrays[name] = views[tensor]
    return arrays


def _tensor_array(name: str, tensor: Tensor, contents: _Contents) -> NDArray[Any]:
    """Fetch the storage of a tensor and copy what the tensor views of it."""
    storage = tensor.storage
    item = pickles.ITEM_SIZE[storage.dtype]
    raw = contents.fetch(storage)[storage.start * item : (storage.start + storage.numel) * item]
    return array(name, tensor.dtype, contents.byteorder, raw, tensor.offset, tensor.size, tensor.stride)


def array(
    name: str,
    dtype: str,
    byteorder: str,
    raw: memoryview | bytes,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...] | None,
) -> NDArray[Any]:
    """Copy a strided view of raw bytes into an array of its own.

    Parameters
    ----------
    name : str
        What errors call it.
    dtype : str
        A key of `STORED`.
    byteorder : {"<", ">"}
        Of the bytes: little or big.
    raw : bytes-like
        The storage.
    offset : int
        Its first element; in elements, as all that follows.
    size : tuple of int
        Its shape.
    stride : tuple of int, or None
        Its steps along the axes; None means C-contiguous.

    Returns
    -------
    ndarray
        The numbers; bfloat16 becomes float32, exactly.

    Raises
    ------
    BadWeights
        If the dtype is not read, or the view leaves the storage.
    """
    if dtype not in STORED:
        readable = ", ".join(STORED)
        raise BadWeights(f"tensor {shown(name)}: dtype {dtype} is not read, expected one of {readable}")
    stored = np.dtype(byteorder + STORED[dtype])
    if stride is None:
        stride = tuple(math.prod(size[axis + 1 :]) for axis in range(len(size)))
    # A step along an axis of length 1 is never taken, so its stride may be anything.
    steps = [step if length > 1 else 0 for length, step in zip(size, stride, strict=True)]
    if 0 in size:
        view = np.empty(size, stored)
    else:
        last = offset + sum((length - 1) * step for length, step in zip(size, steps, strict=True))
        there = len(raw) // stored.itemsize
        if last >= there:
            raise BadWeights(f"tensor {shown(name)}: reaches element {last} of a storage of {there}")
        strides = [step * stored.itemsize for step in steps]
        view = np.ndarray(size, stored, raw, offset * stored.itemsize, strides)
    if dtype == "bool":
        return np.asarray(np.not_equal(view, 0, order="C"))
    if dtype == "bfloat16":
        bits = np.array(view, dtype=np.uint32, order="C")
        bits <<= 16
        return bits.view(np.float32)
    return np.array(view, dtype=stored.newbyteorder("="), order="C")


def _strip_prefixes(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Remove what a wrapper around the whole model put before every name."""
    for prefix in PREFIXES * 2:  # a wrapper in a wrapper, either way round
        if all(name.startswith(prefix) for name in arrays):
            arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays
