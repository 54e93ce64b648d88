"""A pickle machine that builds records of tensors, and can build nothing else.

A pickle is a program. Its instructions work on a stack: `BINUNICODE` pushes a string, `TUPLE` folds
what lies above the last `MARK` into a tuple, `GLOBAL` pushes a function or a class *by its name*, and
`REDUCE` calls it. Python's own unpickler imports whatever `GLOBAL` names, so a checkpoint from the
internet that names ``os.system`` runs a command on the reader's machine.

This machine is not Python's with a filter: it is another one. It reads the same instructions (decoded
by `pickletools`, the disassembler of the standard library, so that ``python -m pickletools`` shows a
doubtful file at the very byte that an error names), but

- `GLOBAL` pushes a `Name`, which is text; it imports nothing, and a name outside the closed tables below
  is refused on sight;
- `REDUCE` looks the name up and makes a dict, a `Tensor` record or an `Opaque` value; nothing that
  ever lies on the stack can be called;
- `BUILD` sets no attribute, and the instructions that a checkpoint does not need are refused.

A weight is the expression ``_rebuild_tensor_v2(storage, offset, size, stride, ...)``, where the storage is
a *persistent id*, ``("storage", torch.FloatStorage, key, location, numel)``: the key says where in the
container the numbers are. The machine leaves them there; `lrpref.weights_import.checkpoint` fetches them.

A hostile pickle can also be a bomb. Memory and time stay in proportion to its length: the memo is
a dict, so a huge index costs nothing; a dict keeps string keys only, since to hash a nest of tuples takes
exponential time and integers can be chosen to collide; nothing here recurses.
"""

import io
import math
import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lrpref.errors import BadWeights

MAX_BYTES = 64 << 20
"""The longest pickle that is read. The weights' numbers lie outside it, so real ones are far shorter."""

MAX_OPERATIONS = 2_000_000
"""The most instructions in a pickle; a weight takes about 40."""

ADVICE = "save the weights alone: torch.save(model.state_dict(), path)"

ITEM_SIZE = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1,
    "complex128": 16, "complex64": 8, "complex32": 4,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
    "qint32": 4, "qint8": 1, "quint8": 1, "quint4x2": 1, "quint2x4": 1,
}  # fmt: skip
"""Bytes per element of the dtypes that a file may mention. Not all are read: see `checkpoint.STORED`."""

_STORAGE_CLASSES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128", "ComplexFloatStorage": "complex64",
    "QInt32Storage": "qint32", "QInt8Storage": "qint8", "QUInt8Storage": "quint8",
    "QUInt4x2Storage": "quint4x2", "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",  # plain bytes: the tensor that views them brings its own dtype
}  # fmt: skip

STORAGES = {
    f"{module}.{name}": dtype
    for module in ("torch", "torch.cuda", "torch.storage")
    for name, dtype in _STORAGE_CLASSES.items()
}
"""The storage classes that a persistent id may name, and their element's dtype."""

DTYPES = {f"torch.{dtype}": dtype for dtype in ITEM_SIZE}

TENSOR_CLASSES = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"}

OPAQUE = {
    "torch.Size",
    "torch.device",
    "collections.Counter",  # the milestones of a learning-rate schedule
    "argparse.Namespace",
    "builtins.set",
    "__builtin__.set",
    "_codecs.encode",  # how pickle protocol 2 spells bytes
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
}
"""Plain data that training scripts keep beside the weights: accepted, and never looked into."""


@dataclass(frozen=True, slots=True)
class Name:
    """What `GLOBAL` pushes: the dotted name of a function or class, as text.

    Parameters
    ----------
    text : str
        The name.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value that is no weight and is not needed.

    Parameters
    ----------
    name : str
        What it was.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the container, as a persistent id describes it.

    Parameters
    ----------
    key : str
        Where the container keeps it.
    dtype : str
        The element's dtype, a key of `ITEM_SIZE`.
    total : int
        Elements that the container keeps under `key`.
    start, numel : int
        The part of them that is meant, in elements: all, except in files of PyTorch 0.1 to 0.3.
    """

    key: str
    dtype: str
    total: int
    start: int
    numel: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A strided view of a storage: element (i, j, ...) is number offset + i*stride[0] + j*stride[1] + ...

    The numbers are integers from 0 to 2**63 - 1. Nothing says yet that the view lies inside its storage.

    Parameters
    ----------
    storage : Storage
        What is viewed.
    dtype : str
        The elements' dtype, a key of `ITEM_SIZE`.
    offset : int
        Its first element.
    size, stride : tuple of int
        Per axis, in elements.
    """

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def shown(value: object) -> str:
    """Name a value of the file in an error's one line: quoted, escaped and short.

    Parameters
    ----------
    value : object
        Anything that the machine builds. Only strings and short integers are spelled out; the `repr` of a
        container may be exponentially long.

    Returns
    -------
    str
        Printable, at most about 80 characters.
    """
    if isinstance(value, str):
        return repr(value if len(value) <= 70 else value[:70] + "...")
    if isinstance(value, int) and abs(value) < 1 << 64:
        return str(value)
    return f"a {type(value).__name__}"


def reason_of(error: Exception) -> str:
    """What another library says about a file: one line, short, and printable even if it quotes the file.

    Parameters
    ----------
    error : Exception
        The library's.

    Returns
    -------
    str
        Printable, and the first 300 characters of what the library says.
    """
    line = " ".join(str(error).split())[:300]
    return line if line.isprintable() else ascii(line)[1:-1]


class Stream(io.BytesIO):
    """The bytes of one or several pickles; a line of text in them, which is a name, has no backslash.

    Parameters
    ----------
    initial_bytes : bytes
        The pickles.
    """

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if b"\\" in line:  # pickletools would unescape it, and warn where it cannot
            raise ValueError("a name with a backslash")
        return line


def load(stream: Stream) -> tuple[object, dict[str, Storage]]:
    """Run the pickle at the stream's position.

    Parameters
    ----------
    stream : Stream
        Left just behind the pickle's `STOP`.

    Returns
    -------
    value : object
        Made of dict, list, tuple, str, bytes, int, float, bool, None, `Tensor`, `Storage`, `Name`, `Opaque`.
    storages : dict of str to Storage
        The storages that the pickle refers to, by key.

    Raises
    ------
    BadWeights
        If the pickle is damaged, too long, or names anything but tensors and plain data.
    """
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_OPERATIONS:
                raise BadWeights(f"its pickle has more than {MAX_OPERATIONS} instructions; {ADVICE}")
            operation = _OPERATIONS.get(instruction.name)
            if operation is None:
                raise BadWeights(f"refuses the pickle instruction {instruction.name}: no checkpoint needs it")
            operation(machine, argument)
        (value,) = machine.stack
    except IndexError:
        raise BadWeights(f"damaged pickle before byte {stream.tell()}: its stack is empty") from None
    except KeyError:
        raise BadWeights(f"damaged pickle before byte {stream.tell()}: gets what was never put") from None
    except (ValueError, TypeError) as error:
        # From genops: bytes that are no pickle; from below: a tuple or a call of another length.
        raise BadWeights(f"damaged pickle before byte {stream.tell()}: {reason_of(error)}") from None
    return value, machine.storages


class _Machine:
    """The stack, the marks on it, the memo, and one method per kind of instruction."""

    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, object] = {}
        self.storages: dict[str, Storage] = {}

    def pop_to_mark(self) -> list[object]:
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    # Constants, the stack and the memo.

    def nothing(self, _: object) -> None:
        pass

    def protocol(self, version: int) -> None:
        if version > 5:
            raise BadWeights(f"pickle protocol {version} is unknown; expected 2 to 5")

    def push(self, constant: object) -> None:
        self.stack.append(constant)

    def push_true(self, _: object) -> None:
        self.stack.append(True)

    def push_false(self, _: object) -> None:
        self.stack.append(False)

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def pop(self, _: object) -> None:
        self.stack.pop()

    def pop_mark(self, _: object) -> None:
        self.pop_to_mark()

    def duplicate(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    # Containers.

    def new_list(self, _: object) -> None:
        self.stack.append([])

    def new_dict(self, _: object) -> None:
        self.stack.append({})

    def new_set(self, _: object) -> None:
        self.stack.append(Opaque("set"))

    def tuple_from_mark(self, _: object) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def frozenset_from_mark(self, _: object) -> None:
        self.pop_to_mark()
        self.stack.append(Opaque("frozenset"))

    def tuple0(self, _: object) -> None:
        self.stack.append(())

    def tuple1(self, _: object) -> None:
        self.stack.append((self.stack.pop(),))

    def tuple2(self, _: object) -> None:
        second, first = self.stack.pop(), self.stack.pop()
        self.stack.append((first, second))

    def tuple3(self, _: object) -> None:
        third, second, first = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append((first, second, third))

    def append(self, _: object) -> None:
        item = self.stack.pop()
        self.extend([item])

    def append_from_mark(self, _: object) -> None:
        self.extend(self.pop_to_mark())

    def set_item(self, _: object) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.store([key, value])

    def set_items_from_mark(self, _: object) -> None:
        self.store(self.pop_to_mark())

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise ValueError(f"appends to {shown(target)}")

    def store(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            target.update(_string_keys(zip(items[::2], items[1::2], strict=True)))
        elif not isinstance(target, Opaque):
            raise ValueError(f"stores items in {shown(target)}")

    # Names and calls: what makes Python's own unpickler dangerous.

    def global_name(self, module_and_name: str) -> None:
        self.stack.append(_known(module_and_name.replace(" ", ".", 1)))

    def global_from_stack(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name that is no string")
        self.stack.append(_known(f"{module}.{name}"))

    def instance(self, module_and_name: str) -> None:
        name = module_and_name.replace(" ", ".", 1)
        _known(name)
        raise BadWeights(f"refuses to make an instance of {shown(name)}: {ADVICE}")

    def reduce(self, _: object) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, Name) and isinstance(arguments, tuple)):
            raise ValueError("calls what is no function")
        if function.text in OPAQUE:
            self.stack.append(Opaque(function.text))
        elif function.text in _MAKERS:
            self.stack.append(_MAKERS[function.text](*arguments))
        else:
            raise ValueError(f"calls {shown(function.text)}, which makes no tensor")

    def build(self, _: object) -> None:
        self.stack.pop()  # the state, such as an OrderedDict's _metadata: no weight depends on it
        if not isinstance(self.stack[-1], dict | Opaque):
            raise ValueError(f"sets the state of {shown(self.stack[-1])}")

    def persistent_id(self, _: object) -> None:
        storage = _storage(self.stack.pop())
        known = self.storages.setdefault(storage.key, storage)
        if (known.dtype, known.total) != (storage.dtype, storage.total):
            raise BadWeights(f"describes storage {shown(storage.key)} in two ways")
        self.stack.append(storage)


def _string_keys(items: Iterable[Any]) -> dict[str, object]:
    """The items whose key is a string: hashes of strings are salted, so nobody can make them collide."""
    return {key: value for key, value in items if type(key) is str}


def _known(name: str) -> Name:
    """The name, if it stands in one of the closed tables; else the refusal."""
    if name in _MAKERS or name in STORAGES or name in DTYPES or name in TENSOR_CLASSES or name in OPAQUE:
        return Name(name)
    if name.startswith("torch._utils._rebuild_"):
        raise BadWeights(f"refuses to load {shown(name)}: only dense tensors of plain numbers are read")
    raise BadWeights(
        f"refuses to load {shown(name)}: only tensors are read from a checkpoint, no code; {ADVICE}"
    )


def _counts(what: str, *values: object) -> tuple[int, ...]:
    """The values, if they are integers (no bools) that 63 bits hold and none is negative."""
    counts = []
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 63:
            raise BadWeights(f"{what}: expected an integer from 0 to 2**63 - 1, got {shown(value)}")
        counts.append(value)
    return tuple(counts)


def _storage(identity: object) -> Storage:
    """Read a persistent id; legacy files add a view, (its key, start, numel), or None."""
    expected = "expected a persistent id ('storage', class, key, location, numel)"
    if not (isinstance(identity, tuple) and len(identity) in (5, 6) and identity[0] == "storage"):
        raise BadWeights(f"{expected}, got {shown(identity)}")
    _, kind, key, _, numel, *view = identity
    if not (isinstance(kind, Name) and kind.text in STORAGES and type(key) is str):
        raise BadWeights(f"{expected}, got other fields")
    what = f"storage {shown(key)}"
    (total,) = _counts(what, numel)
    if view in ([], [None]):
        return Storage(key, STORAGES[kind.text], total, 0, total)
    if not (isinstance(view[0], tuple) and len(view[0]) == 3):
        raise BadWeights(f"{what}: expected a view (key, start, numel), got {shown(view[0])}")
    start, length = _counts(what, *view[0][1:])
    if start + length > total:
        raise BadWeights(f"{what}: a view of {length} elements from {start} on leaves its {total}")
    return Storage(key, STORAGES[kind.text], total, start, length)


# What the names in a checkpoint make. The arguments are PyTorch's, and their number is fixed: a tuple of
# a million, written once and called a million times, must not be unpacked.


def _ordered_dict(pairs: object = None) -> dict[str, object]:
    if pairs is None:
        return {}  # Python 3 fills it by SETITEMS
    if not isinstance(pairs, list):
        raise ValueError("an OrderedDict of what is no list of pairs")
    items = _string_keys(pairs)  # Python 2 gives the pairs here
    pairs.clear()  # so that a long list cannot be turned into a dict again and again
    return items


def _tensor(storage: object, offset: object, size: object, stride: object) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 32):
        raise ValueError("a tensor's size and stride must be tuples of one length, at most 32")
    (first,) = _counts("a tensor's offset", offset)
    lengths, strides = _counts("a tensor's size", *size), _counts("a tensor's stride", *stride)
    if math.prod(length for length in lengths if length) >= 1 << 59:  # NumPy counts so even if one is 0
        raise BadWeights("a tensor's size is more than any memory holds")
    return Tensor(storage, storage.dtype, first, lengths, strides)


def _tensor_v2(
    storage: object, offset: object, size: object, stride: object,
    grad: object, hooks: object, flags: object = None,
) -> Tensor:  # fmt: skip
    if flags:  # {"conj": True} or {"neg": True}: the stored numbers are not yet the tensor's
        raise BadWeights("a tensor's negation is still pending; save tensor.resolve_neg() instead")
    return _tensor(storage, offset, size, stride)


def _tensor_v3(
    storage: object, offset: object, size: object, stride: object,
    grad: object, hooks: object, dtype: object, flags: object = None,
) -> Tensor:  # fmt: skip
    plain = _tensor_v2(storage, offset, size, stride, grad, hooks, flags)
    if not (isinstance(dtype, Name) and dtype.text in DTYPES):
        raise ValueError("a tensor of no dtype")
    return Tensor(plain.storage, DTYPES[dtype.text], plain.offset, plain.size, plain.stride)


def _parameter(data: object, grad: object, hooks: object, state: object = None) -> object:
    return data


def _tensor_with_attributes(function: object, kind: object, arguments: object, _: object) -> Tensor:
    if not (isinstance(function, Name) and function.text in _TENSOR_MAKERS and isinstance(arguments, tuple)):
        raise ValueError("a tensor that no known function makes")
    if not (isinstance(kind, Name) and kind.text in TENSOR_CLASSES):
        raise ValueError("a tensor of an unknown class")
    return _TENSOR_MAKERS[function.text](*arguments)


_TENSOR_MAKERS: dict[str, Callable[..., Tensor]] = {
    "torch._utils._rebuild_tensor": _tensor,  # PyTorch 0.1 to 0.3
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,  # the dtype beside an untyped storage: uint16, float8, ...
}

_MAKERS: dict[str, Callable[..., object]] = {
    **_TENSOR_MAKERS,
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
}

_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.nothing,
    "STOP": _Machine.nothing,
    # constants
    **dict.fromkeys(("NONE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.push),
    **dict.fromkeys(("BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _Machine.push),  # the str of Python 2
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NEWTRUE": _Machine.push_true,
    "NEWFALSE": _Machine.push_false,
    # stack and memo
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    # containers
    "EMPTY_LIST": _Machine.new_list,
    "EMPTY_DICT": _Machine.new_dict,
    "EMPTY_SET": _Machine.new_set,
    "EMPTY_TUPLE": _Machine.tuple0,
    "TUPLE": _Machine.tuple_from_mark,
    "TUPLE1": _Machine.tuple1,
    "TUPLE2": _Machine.tuple2,
    "TUPLE3": _Machine.tuple3,
    "FROZENSET": _Machine.frozenset_from_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_from_mark,
    "ADDITEMS": _Machine.append_from_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items_from_mark,
    # names and calls; EXT1 to EXT4, OBJ, NEWOBJ_EX and the text instructions of protocol 0 are left out
    "GLOBAL": _Machine.global_name,
    "STACK_GLOBAL": _Machine.global_from_stack,
    "INST": _Machine.instance,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
