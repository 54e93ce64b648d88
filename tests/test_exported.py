"""Saved programs are read as PyTorch wrote them, without PyTorch; a hostile one gets one line, nothing else.

tests/data/make_exported.py wrote the real files, and beside them what PyTorch itself computes. The hostile
ones are the real ones with one thing changed.
"""

import copy
import gc
import json
import pickle
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrpref import layers
from lrpref.errors import BadBackend, BadNetwork, BadWeights, LrprefError
from lrpref.weights_import import exported, live, torch_graph
from lrpref.weights_import.program import Call, Ref
from lrpref.weights_import.torch_operators import OPERATORS

DATA = Path(__file__).parent / "data"

Members = dict[str, bytes]
MODEL, CONFIG = "models/model.json", "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("pictures", 1e-6),  # PyTorch computed in float32
        ("signals", 1e-12),  # in float64
        ("half", 0.0),  # in bfloat16, of numbers that are all short binary fractions
    ],
)
def test_what_pytorch_saved_gives_what_pytorch_computed(name: str, bound: float) -> None:
    with np.load(DATA / "exported.npz") as arrays:
        x, y = arrays[f"{name}.x"], arrays[f"{name}.y"]
    network = exported.imported(DATA / f"exported-{name}.pt2").network
    assert abs(network.forward(x) - y).max() <= bound * abs(y).max()
    assert network.forward(x[:1]).shape == y[:1].shape  # and for another number of samples


def weight(name: str, node: str) -> Any:
    layer = exported.imported(DATA / f"exported-{name}.pt2").network.node(node).layer
    assert isinstance(layer, layers.Weighted)
    return layer.weight


def test_weights_are_the_files_own_bytes() -> None:
    """As make_exported.py fills the first one: (7 i modulo 13) / 8 - 0.75."""
    first = weight("pictures", "stem.0")
    assert first.dtype == np.float32
    assert np.array_equal(first.ravel(), np.arange(108) * 7 % 13 / 8 - 0.75)
    assert weight("signals", "down").dtype == np.float64
    half = weight("half", "0")
    assert half.dtype == np.float32  # it was bfloat16
    assert np.array_equal(half.ravel(), np.arange(6) * 7 % 13 / 8 - 0.75)


def test_names_provenance_and_values() -> None:
    made = exported.imported(DATA / "exported-signals.pt2")
    names = [node.name for node in made.network.nodes]
    assert names == ["down.image", "down", "norm", "gelu", "up", "view", "head"]
    assert made.values == {
        "down": "conv1d", "norm": "batch_norm", "gelu": "gelu", "up": "conv_transpose1d", "view": "view",
        "head": "linear",
    }  # fmt: skip
    assert made.network.name == "exported-signals"
    assert made.network.provenance["file"] == "exported-signals.pt2"
    named = exported.imported(DATA / "exported-half.pt2", name="pair", classes=("a", "b")).network
    assert (named.name, named.classes) == ("pair", ("a", "b"))


def test_is_exported(tmp_path: Path) -> None:
    assert exported.is_exported(DATA / "exported-half.pt2")
    assert not exported.is_exported(DATA / "model.pt")
    assert not exported.is_exported(DATA / "make_exported.py")
    assert not exported.is_exported(tmp_path)
    assert not exported.is_exported(tmp_path / "nothing.pt2")


# Changes in place: what PyTorch's tensors do, in calls written by hand


def functional(*calls: tuple[str, str, str], output: str) -> list[tuple[str, str, list[str]]]:
    """Write (result, operator, what it reads) as calls that change nothing; read back the same of them."""
    made, last = torch_graph.functional(
        [
            Call(name, operator, {str(i): Ref(each) for i, each in enumerate(read.split())}, (name,))
            for name, operator, read in calls
        ],
        ["weight"],
        output,
        OPERATORS,
    )
    return [(call.name, call.operator, sorted(call.reads())) for call in (*made, Call("end", last, {}, ()))]


def test_readers_of_what_changed_read_the_result() -> None:
    """The second `add` reads `conv` by its old name: in PyTorch it has become what `relu_` left there."""
    calls = functional(
        ("conv", "aten.conv2d.default", "x weight"),
        ("early", "aten.add.Tensor", "conv x"),
        ("relu_", "aten.relu_.default", "conv"),
        ("mul_", "aten.mul_.Tensor", "conv early"),
        ("late", "aten.add.Tensor", "conv relu_"),
        ("dropout_", "aten.dropout_.default", "x"),
        output="x",
    )
    assert calls == [
        ("conv", "aten.conv2d.default", ["weight", "x"]),
        ("early", "aten.add.Tensor", ["conv", "x"]),
        ("relu_", "aten.relu.default", ["conv"]),
        ("mul_", "aten.mul.Tensor", ["early", "relu_"]),
        ("late", "aten.add.Tensor", ["mul_"]),
        ("dropout_", "aten.dropout.default", ["x"]),
        ("end", "dropout_", []),
    ]


VIEW, CHANGED = ("view", "aten.view.default", "x"), ("changed", "aten.relu_.default", "x")


def reading(names: str) -> tuple[str, str, str]:
    return ("y", "aten.neg.default", names)


@pytest.mark.parametrize(
    "calls",
    [
        [VIEW, ("changed", "aten.relu_.default", "view"), reading("x")],
        [VIEW, CHANGED, reading("view")],
        [("part", "aten.strange.default", "x"), ("changed", "aten.relu_.default", "part"), reading("x")],
        [("what", "mylib.op.default", "x"), reading("x")],  # its result does not tell what else it does
        [("sum", "aten.add.out", "x x x"), reading("x")],
    ],
)
def test_what_cannot_be_known_any_more(calls: list[tuple[str, str, str]]) -> None:
    assert functional(*calls, output="y")[-2] == ("y", torch_graph.IMPOSSIBLE, [])
    name, operator, _ = functional(*calls[:-1], output=calls[-1][2])[-2]  # nor can it be the output
    assert (name, operator) == ("output", torch_graph.IMPOSSIBLE)


@pytest.mark.parametrize(
    "calls",
    [
        [("copy", "aten.clone.default", "x"), ("changed", "aten.relu_.default", "copy"), reading("x")],
        [CHANGED, VIEW, reading("view x")],
        [("twice", "_operator.mul", "x x"), ("check", "aten._assert_scalar.default", "x"), reading("x")],
    ],
)
def test_what_is_still_known(calls: list[tuple[str, str, str]]) -> None:
    assert torch_graph.IMPOSSIBLE not in {operator for _, operator, _ in functional(*calls, output="y")}


# Hostile files


@contextmanager
def in_time() -> Iterator[None]:
    """Whatever the file is: in less than 2 s of a processor; what other tests left behind does not count."""
    gc.collect()
    gc.freeze()
    start = time.process_time()
    try:
        yield
    finally:
        gc.unfreeze()
    assert time.process_time() - start < 2


@contextmanager
def in_memory() -> Iterator[None]:
    """Whatever the file is: in less than 500 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 500e6
    finally:
        tracemalloc.stop()


def members(name: str) -> Members:
    with zipfile.ZipFile(DATA / f"exported-{name}.pt2") as archive:
        return {each.partition("/")[2]: archive.read(each) for each in archive.namelist()}


def written(path: Path, files: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name if name.startswith(("/", "..")) else f"root/{name}", content)
    return path


def refused(path: Path, kind: type[LrprefError] = BadWeights) -> str:
    """The one line about a file that must not be read."""
    with in_time(), pytest.raises(kind):
        exported.imported(path)
    with in_memory(), pytest.raises(kind) as caught:  # apart, as counting takes time
        exported.imported(path)
    line = str(caught.value)
    assert line.startswith(f"{path.name}: ")
    assert line.isprintable(), line
    assert len(line) < 5000
    return line


def with_json(member: str, change: Callable[[Any], None], name: str = "pictures") -> Members:
    """The members of a real file, after a change of what one of its JSON documents says."""
    files = members(name)
    document = json.loads(files[member])
    change(document)
    files[member] = json.dumps(document).encode()
    return files


def graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def call(document: Any, operator: str) -> Any:
    """The first call of an operator."""
    return next(node for node in graph(document)["nodes"] if f".{operator}." in node["target"])


def meta(document: Any, name: str = "head.weight") -> Any:
    return document["config"][name]["tensor_meta"]


def _reversed_order(document: Any) -> None:
    graph(document)["nodes"].reverse()


def _many_calls(document: Any) -> None:
    first = call(document, "relu_")
    graph(document)["nodes"][:0] = [copy.deepcopy(first) for _ in range(3000)]


def _second_input(document: Any) -> None:
    specifications = document["graph_module"]["signature"]["input_specs"]
    specifications.append(copy.deepcopy(specifications[-1]))


def _custom_operator(document: Any) -> None:
    """It may write into what it reads, and gives nothing."""
    node = copy.deepcopy(call(document, "relu_"))
    node.update(target="torch.ops.mylib.poke.default", outputs=[])
    nodes = graph(document)["nodes"]
    nodes.insert(nodes.index(call(document, "relu_")), node)


def _unknown_input(document: Any) -> None:
    document["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}})


def _no_signature(which: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["graph_module"]["signature"][which].clear()

    return change


def target(value: Any) -> Callable[[Any], None]:
    """Let a call name another operator."""

    def change(document: Any) -> None:
        call(document, "relu_")["target"] = value

    return change


def sizes(*values: int) -> Callable[[Any], None]:
    """Let the input have another shape."""

    def change(document: Any) -> None:
        graph(document)["tensor_values"]["x"]["sizes"] = [{"as_int": value} for value in values]

    return change


def given_as(operator: str, name: str, value: Any) -> Callable[[Any], None]:
    """Give a call another argument."""

    def change(document: Any) -> None:
        inputs = call(document, operator)["inputs"]
        inputs[:] = [each for each in inputs if each["name"] != name]
        inputs.insert(0 if name == "self" else len(inputs), {"name": name, "arg": value, "kind": 1})

    return change


def tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def _lying(document: Any) -> None:
    graph(document)["tensor_values"]["relu_"]["sizes"] = [{"as_int": 2}, {"as_int": 5}]


GRAPHS: dict[str, tuple[Callable[[Any], Any], type[LrprefError], str]] = {
    "no graph": (lambda d: d.clear(), BadWeights, "its graph is damaged"),
    "newer schema": (lambda d: d["schema_version"].update(major=9), BadWeights, "schema has version 9"),
    "schema is text": (lambda d: d["schema_version"].update(major="8" * 99), BadWeights, "has version"),
    "no nodes": (lambda d: graph(d)["nodes"].clear(), BadNetwork, "does not depend on its input"),
    "nodes is a number": (lambda d: graph(d).update(nodes=7), BadWeights, "its graph is damaged"),
    "backwards": (_reversed_order, BadNetwork, "which nothing before it gives"),
    "second input": (_second_input, BadWeights, "2 inputs"),
    "no input": (_no_signature("input_specs"), BadWeights, "0 inputs"),
    "unknown input": (_unknown_input, BadWeights, "an input that is no tensor"),
    "no output": (_no_signature("output_specs"), BadWeights, "0 outputs"),
    "input of no shape": (sizes(), BadWeights, "its graph is damaged"),
    "input without samples": (sizes(3), BadWeights, "no shape of (N, ...)"),
    "no samples": (sizes(0, 3, 9, 9), BadWeights, "no shape of (N, ...)"),
    "negative size": (sizes(2, -3, 9, 9), BadWeights, "is none"),
    "huge size": (sizes(2, 10**30, 9, 9), BadWeights, "is none"),
    "other channels": (sizes(2, 4, 9, 9), BadNetwork, "constant of shape (3, 1, 1)"),
    "huge image": (sizes(2, 3, 1 << 47, 1 << 47), BadNetwork, "which is larger"),
    "shape that lies": (_lying, BadNetwork, "where the file says"),
    "unknown operator": (target("os.system"), BadNetwork, "operator os.system"),
    "operator is a number": (target(3), BadWeights, "where a name is wanted"),
    "operator with control characters": (target("a\n\x1b[31m"), BadNetwork, "operator a"),
    "custom operator": (_custom_operator, BadNetwork, "changed in place"),
    "training": (given_as("batch_norm", "training", {"as_bool": True}), BadNetwork, "module.eval()"),
    "unknown argument": (given_as("relu_", "oops", {"as_int": 1}), BadNetwork, "with such arguments"),
    "unknown kind": (given_as("relu_", "self", {"as_graph": {}}), BadNetwork, "of a constant"),
    "two kinds": (given_as("relu_", "self", {"as_int": 1, "as_none": True}), BadWeights, "damaged"),
    "int that is text": (given_as("chunk", "chunks", {"as_int": "2"}), BadWeights, "is not as_int"),
    "no chunks": (given_as("chunk", "chunks", {"as_int": 0}), BadNetwork, "with such arguments"),
    "stride 0": (given_as("conv2d", "stride", {"as_ints": [0, 0]}), BadNetwork, "stride"),
    "huge padding": (given_as("conv2d", "padding", {"as_ints": [1 << 60] * 2}), BadNetwork, "is larger"),
    "infinite number": (given_as("sub", "alpha", {"as_float": "Infinity"}), BadNetwork, "finite"),
    "missing value": (given_as("relu_", "self", tensor("nowhere")), BadNetwork, "nothing before it gives"),
    "reads itself": (given_as("avg_pool2d", "self", tensor("avg_pool2d")), BadNetwork, "nothing before it"),
    "writes into a weight": (given_as("relu_", "self", tensor("p_head_bias")), BadNetwork, "a weight or"),
}
"""What is changed in the graph, what comes of it, and words of the line."""


@pytest.mark.parametrize("name", GRAPHS)
def test_damaged_graph(name: str, tmp_path: Path) -> None:
    change, kind, words = GRAPHS[name]
    assert words in refused(written(tmp_path / "hostile.pt2", with_json(MODEL, change)), kind)


def test_many_calls_of_one_name(tmp_path: Path) -> None:
    """Thousands of calls that all give one value are read in time, and the last of them counts."""
    path = written(tmp_path / "hostile.pt2", with_json(MODEL, _many_calls))
    with in_time(), pytest.raises(BadNetwork):
        exported.imported(path)


TENSORS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "missing": (lambda d: d["config"].pop("head.weight"), "'head.weight' is not among its weights"),
    "no configuration": (lambda d: d.clear(), "its graph is damaged"),
    "larger than its file": (lambda d: meta(d).update(sizes=[{"as_int": 99}, {"as_int": 6}]), "of a storage"),
    "far larger": (lambda d: meta(d).update(sizes=[{"as_int": 1 << 40}, {"as_int": 6}]), "far more memory"),
    "repeated": (
        lambda d: meta(d).update(sizes=[{"as_int": 1 << 20}] * 2, strides=[{"as_int": 0}] * 2),
        "far more memory",
    ),
    "negative stride": (lambda d: meta(d).update(strides=[{"as_int": -6}, {"as_int": 1}]), "is none"),
    "stride is text": (lambda d: meta(d).update(strides=[{"as_int": "6"}, {"as_int": 1}]), "is none"),
    "too few strides": (lambda d: meta(d).update(strides=[{"as_int": 1}]), "damaged"),
    "symbolic size": (lambda d: meta(d).update(sizes=[{"as_expr": {"expr_str": "os"}}]), "damaged"),
    "negative offset": (lambda d: meta(d).update(storage_offset={"as_int": -1}), "is none"),
    "offset beyond": (lambda d: meta(d).update(storage_offset={"as_int": 99}), "of a storage of"),
    "many axes": (
        lambda d: meta(d).update(sizes=[{"as_int": 1}] * 99, strides=[{"as_int": 1}] * 99), "99 axes",
    ),
    "complex": (lambda d: meta(d).update(dtype=9), "its dtype or layout is not read"),
    "no dtype": (lambda d: meta(d).update(dtype=[]), "damaged"),
    "sparse": (lambda d: meta(d).update(layout=1), "its dtype or layout is not read"),
    "pickled": (lambda d: d["config"]["head.weight"].update(use_pickle=True), "is pickled"),
    "without meta": (lambda d: d["config"]["head.weight"].update(tensor_meta=None), "is pickled"),
    "outside": (lambda d: d["config"]["head.weight"].update(path_name="../../x"), "is not in the archive"),
    "another's bytes": (lambda d: d["config"]["head.weight"].update(path_name="weight_1"), "of a storage of"),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_damaged_tensor(name: str, tmp_path: Path) -> None:
    change, words = TENSORS[name]
    assert words in refused(written(tmp_path / "hostile.pt2", with_json(CONFIG, change)))


def changed(**files: bytes | None) -> Members:
    """The members of a real file, some replaced or gone; dots stand for slashes."""
    made = members("pictures")
    for name, content in files.items():
        made.pop(name, None)
        if content is not None:
            made[name] = content
    return made


CONTAINERS: dict[str, tuple[Members, str]] = {
    "no model": (changed(**{MODEL: None}), "but no program of torch.export"),
    "two models": (changed(**{"other/models/model.json": b"{}"}), "but no program of torch.export"),
    "older layout": ({"serialized_exported_program.json": b"{}"}, "no program of torch.export"),
    "no configuration": (changed(**{CONFIG: None}), "2.9 or later"),
    "no weight": (changed(**{"data/weights/weight_0": None}), "is not in the archive"),
    "short weight": (changed(**{"data/weights/weight_0": b"\0" * 8}), "of a storage of 2"),
    "no JSON": (changed(**{MODEL: b"\xff\xfe\0"}), "its graph is damaged"),
    "unfinished JSON": (changed(**{MODEL: members("pictures")[MODEL][:-9]}), "its graph is damaged"),
    "deep JSON": (changed(**{MODEL: b"[" * 10**6}), "its graph is damaged"),
    "long JSON": (changed(**{MODEL: b"[" + b"[]," * (3 << 20) + b"[]]"}), "expected at most"),
    "full JSON": (changed(**{MODEL: b"[" + b"[]," * ((5 << 20) // 3 - 9) + b"[]]"}), "its graph is damaged"),
    "long number": (changed(**{MODEL: b'{"schema_version": {"major": ' + b"8" * 10**6 + b"}}"}), "damaged"),
    "byte order": (changed(byteorder=b"middle"), "unknown byte order 'middle'"),
    "outside": (changed(**{"../escape": b""}), "a member outside it"),
    "absolute": (changed(**{"/escape": b""}), "a member outside it"),
    "not a number": (
        changed(**{"data/weights/weight_0": np.full(108, np.nan, np.float32).tobytes()}), "holds nan",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_damaged_container(name: str, tmp_path: Path) -> None:
    files, words = CONTAINERS[name]
    path = written(tmp_path / "hostile.pt2", files)
    assert words in refused(path, BadNetwork if name == "not a number" else BadWeights)


def test_older_layout_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "older.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    assert exported.is_exported(path)
    assert "save it again with PyTorch 2.9 or later" in refused(path)


def test_compressed_member(tmp_path: Path) -> None:
    path = written(tmp_path / "hostile.pt2", members("pictures"), zipfile.ZIP_DEFLATED)
    assert "compressed member" in refused(path)


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = (DATA / "exported-half.pt2").read_bytes()
    path = tmp_path / "truncated.pt2"
    for length in {*range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)


def test_other_files(tmp_path: Path) -> None:
    assert "but no program of torch.export" in refused(DATA / "model.pt")
    assert "not a zip file" in refused(DATA / "make_exported.py")
    assert "is a folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "nothing.pt2")


def test_pickles_in_the_file_are_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The sample inputs are a pickle; a hostile one is not even looked at."""

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("unpickled")

    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, forbidden)
    files = changed(**{"data/sample_inputs/model.pt": b"cos\nsystem\n(S'false'\ntR."})
    assert exported.imported(written(tmp_path / "p.pt2", files)).network.nodes


def test_an_open_number_of_samples_without_an_example(tmp_path: Path) -> None:
    """A symbol of which the file tells no value stands for one sample, and the network is the same."""

    def forget(document: Any) -> None:
        for level, key in places(document):
            if key == "hint":
                level[key] = None

    path = written(tmp_path / "open.pt2", with_json(MODEL, forget, "signals"))
    made = exported.imported(path)
    assert made.program.shapes[made.program.input] == (1, 2, 11)
    assert made.network.digest == exported.imported(DATA / "exported-signals.pt2").network.digest


def test_an_open_size_of_the_image_is_refused(tmp_path: Path) -> None:
    def open_width(document: Any) -> None:
        shape = graph(document)["tensor_values"]["x"]["sizes"]
        shape[3] = {"as_expr": {"expr_str": "Symbol('s1')", "hint": None}}

    path = written(tmp_path / "open.pt2", with_json(MODEL, open_width))
    assert "no shape of (N, ...) with known sizes" in refused(path)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([1 << 31, 1 << 62, 1 << 64, -(1 << 63), 10**400]),
    st.floats(),
    st.sampled_from(["", "x", "relu_", "as_tensor", "torch.ops.aten.zeros.default", "a" * 1000, "\x1b\n"]),
    st.just([]),
    st.just({}),
    st.builds(lambda n: [{"as_int": n}], st.integers(-1, 1 << 40)),
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    found, todo = [], [document]
    while todo:
        level = todo.pop()
        keys = level if isinstance(level, dict) else range(len(level)) if isinstance(level, list) else ()
        found += [(level, key) for key in keys]
        todo += [level[key] for key in keys]
    return found


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_junk_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """With some of its JSON replaced, a file is a network, or one line."""
    member = data.draw(st.sampled_from([MODEL, CONFIG]))
    name = data.draw(st.sampled_from(["pictures", "signals"]))

    def change(document: Any) -> None:
        for _ in range(data.draw(st.integers(1, 3))):
            all_of_them = places(document)
            if all_of_them:
                level, key = all_of_them[data.draw(st.integers(0, len(all_of_them) - 1))]
                level[key] = data.draw(JUNK)

    path = written(tmp_path_factory.mktemp("junk") / "junk.pt2", with_json(member, change, name))
    line = ""
    with in_time():
        try:
            exported.imported(path)
        except LrprefError as error:
            line = str(error)
    assert line.isprintable()


# Without PyTorch


def test_live_modules_need_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BadBackend, match=r"pip install 'lrpref\[torch\]'"):
        live.from_torch(object(), np.ones((1, 3)))


def test_every_operator_says_what_is_supported() -> None:
    """The docs' table is made of these lines."""
    for name, handler in OPERATORS.items():
        first = (handler.__doc__ or "").partition("\n")[0]
        assert first.endswith("."), name
