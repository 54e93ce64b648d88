"""Saved programs are read as PyTorch wrote them, without PyTorch; a hostile one gets one line and nothing else.

tests/data/make_exported.py wrote the real files, and beside them what PyTorch itself computes. The hostile
ones are the real ones with one thing changed.
"""

import copy
import json
import pickle
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
from lrpref.errors import BadNetwork, BadWeights, LrprefError
from lrpref.weights_import import exported

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


def test_weights_are_the_files_own_bytes() -> None:
    network = exported.imported(DATA / "exported-pictures.pt2").network
    weight = network.node("stem.0").layer.weight  # type: ignore[attr-defined]
    assert weight.dtype == np.float32
    formula = (np.arange(108).reshape(4, 3, 3, 3) * 7) % 13 / 8 - 0.75  # as make_exported.py fills the first one
    assert np.array_equal(weight, formula.astype(np.float32))
    assert exported.imported(DATA / "exported-signals.pt2").network.node("down").layer.weight.dtype == np.float64  # type: ignore[attr-defined]
    half = exported.imported(DATA / "exported-half.pt2").network.node("0").layer
    assert isinstance(half, layers.Dense)
    assert half.weight.dtype == np.float32
    assert half.weight.ravel()[:3].tolist() == [-0.75, 0.125, -0.625]  # 0 * 7, 1 * 7 and 2 * 7 modulo 13, / 8 - 0.75


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


# Hostile files


@contextmanager
def in_time() -> Iterator[None]:
    """Whatever the file is: in less than 2 s, as the issue asks."""
    start = time.perf_counter()
    yield
    assert time.perf_counter() - start < 2


@contextmanager
def in_memory() -> Iterator[None]:
    """Whatever the file is: in less than 500 MB, as the issue asks."""
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


def argument(document: Any, operator: str, name: str, value: Any) -> None:
    """Give a call another argument."""
    for each in call(document, operator)["inputs"]:
        if each["name"] == name:
            each["arg"] = value
            return
    call(document, operator)["inputs"].append({"name": name, "arg": value, "kind": 1})


def resized(document: Any, *sizes: int) -> None:
    graph(document)["tensor_values"]["x"]["sizes"] = [{"as_int": size} for size in sizes]


def meta(document: Any, name: str = "head.weight") -> Any:
    return document["config"][name]["tensor_meta"]


def _set(target: Any, **values: Any) -> None:
    target.update(values)


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


GRAPHS: dict[str, tuple[Callable[[Any], Any], type[LrprefError], str]] = {
    "no graph": (lambda d: d.clear(), BadWeights, "its graph is damaged"),
    "newer schema": (lambda d: d["schema_version"].update(major=9), BadWeights, "schema has version 9"),
    "schema is text": (lambda d: d["schema_version"].update(major="8" * 999), BadWeights, "schema has version"),
    "no nodes": (lambda d: graph(d)["nodes"].clear(), BadNetwork, "does not depend on its input"),
    "nodes is a number": (lambda d: graph(d).update(nodes=7), BadWeights, "its graph is damaged"),
    "backwards": (_reversed_order, BadNetwork, "which nothing before it gives"),
    "second input": (_second_input, BadWeights, "2 inputs"),
    "no input": (lambda d: d["graph_module"]["signature"]["input_specs"].clear(), BadWeights, "0 inputs"),
    "unknown input": (
        lambda d: d["graph_module"]["signature"]["input_specs"].append({"custom_obj": {}}), BadWeights, "no tensor",
    ),
    "no output": (lambda d: d["graph_module"]["signature"]["output_specs"].clear(), BadWeights, "0 outputs"),
    "input of no shape": (lambda d: resized(d), BadWeights, "its graph is damaged"),
    "input without samples": (lambda d: resized(d, 3), BadWeights, "no shape of (N, ...)"),
    "no samples": (lambda d: resized(d, 0, 3, 9, 9), BadWeights, "no shape of (N, ...)"),
    "negative size": (lambda d: resized(d, 2, -3, 9, 9), BadWeights, "is none"),
    "huge size": (lambda d: resized(d, 2, 10**30, 9, 9), BadWeights, "is none"),
    "other channels": (lambda d: resized(d, 2, 4, 9, 9), BadNetwork, "constant of shape (3, 1, 1)"),
    "huge image": (lambda d: resized(d, 2, 3, 1 << 47, 1 << 47), BadNetwork, "which is larger"),
    "shape that lies": (
        lambda d: graph(d)["tensor_values"]["relu_"].update(sizes=[{"as_int": 2}, {"as_int": 5}]),
        BadNetwork, "where the file says",
    ),
    "unknown operator": (lambda d: call(d, "relu_").update(target="os.system"), BadNetwork, "operator os.system"),
    "operator is a number": (lambda d: call(d, "relu_").update(target=3), BadWeights, "where a name is wanted"),
    "operator with control characters": (
        lambda d: call(d, "relu_").update(target="a\n\x1b[31m"), BadNetwork, "operator",
    ),
    "custom operator": (_custom_operator, BadNetwork, "changed in place"),
    "training": (lambda d: argument(d, "batch_norm", "training", {"as_bool": True}), BadNetwork, "module.eval()"),
    "unknown argument": (lambda d: argument(d, "relu_", "oops", {"as_int": 1}), BadNetwork, "with such arguments"),
    "unknown kind": (lambda d: argument(d, "relu_", "self", {"as_graph": {}}), BadNetwork, "of a constant"),
    "two kinds": (lambda d: argument(d, "relu_", "self", {"as_int": 1, "as_none": True}), BadWeights, "damaged"),
    "int that is text": (lambda d: argument(d, "chunk", "chunks", {"as_int": "2"}), BadWeights, "is not as_int"),
    "no chunks": (lambda d: argument(d, "chunk", "chunks", {"as_int": 0}), BadNetwork, "with such arguments"),
    "stride 0": (lambda d: argument(d, "conv2d", "stride", {"as_ints": [0, 0]}), BadNetwork, "stride"),
    "huge padding": (
        lambda d: argument(d, "conv2d", "padding", {"as_ints": [1 << 60, 1 << 60]}), BadNetwork, "which is larger",
    ),
    "infinite number": (lambda d: argument(d, "sub", "alpha", {"as_float": "Infinity"}), BadNetwork, "finite"),
    "missing value": (
        lambda d: argument(d, "relu_", "self", {"as_tensor": {"name": "nowhere"}}), BadNetwork, "nothing before it gives",
    ),
    "reads itself": (
        lambda d: argument(d, "avg_pool2d", "self", {"as_tensor": {"name": "avg_pool2d"}}),
        BadNetwork, "nothing before it gives",
    ),
    "writes into a weight": (
        lambda d: argument(d, "relu_", "self", {"as_tensor": {"name": "p_head_bias"}}), BadNetwork, "a weight or constant",
    ),
}  # fmt: skip


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
    "larger than its file": (lambda d: meta(d).update(sizes=[{"as_int": 99}, {"as_int": 6}]), "of a storage of"),
    "far larger": (lambda d: meta(d).update(sizes=[{"as_int": 1 << 40}, {"as_int": 6}]), "far more memory"),
    "repeated": (
        lambda d: meta(d).update(sizes=[{"as_int": 1 << 20}] * 2, strides=[{"as_int": 0}] * 2), "far more memory",
    ),
    "negative stride": (lambda d: meta(d).update(strides=[{"as_int": -6}, {"as_int": 1}]), "is none"),
    "stride is text": (lambda d: meta(d).update(strides=[{"as_int": "6"}, {"as_int": 1}]), "is none"),
    "too few strides": (lambda d: meta(d).update(strides=[{"as_int": 1}]), "damaged"),
    "symbolic size": (lambda d: meta(d).update(sizes=[{"as_expr": {"expr_str": "os"}}]), "damaged"),
    "negative offset": (lambda d: meta(d).update(storage_offset={"as_int": -1}), "is none"),
    "offset beyond": (lambda d: meta(d).update(storage_offset={"as_int": 99}), "of a storage of"),
    "many axes": (
        lambda d: meta(d).update(sizes=[{"as_int": 1}] * 99, strides=[{"as_int": 1}] * 99), "damaged",
    ),
    "complex": (lambda d: meta(d).update(dtype=9), "its dtype or layout is not read"),
    "no dtype": (lambda d: meta(d).update(dtype=[]), "damaged"),
    "sparse": (lambda d: meta(d).update(layout=1), "its dtype or layout is not read"),
    "pickled": (lambda d: d["config"]["head.weight"].update(use_pickle=True), "is pickled"),
    "without meta": (lambda d: d["config"]["head.weight"].update(tensor_meta=None), "is pickled"),
    "outside": (
        lambda d: d["config"]["head.weight"].update(path_name="../../../../etc/passwd"), "is not in the archive",
    ),
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
    "full JSON": (changed(**{MODEL: b"[" + b"[]," * ((5 << 20) // 2) + b"[]]"}), "its graph is damaged"),
    "long number": (changed(**{MODEL: b'{"schema_version": {"major": ' + b"8" * 10**6 + b"}}"}), "is damaged"),
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
        keys = list(level) if isinstance(level, dict) else range(len(level)) if isinstance(level, list) else ()
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
            level, key = all_of_them[data.draw(st.integers(0, len(all_of_them) - 1))] if all_of_them else ({}, 0)
            level[key] = data.draw(JUNK)

    path = written(tmp_path_factory.mktemp("junk") / "junk.pt2", with_json(member, change, name))
    with in_time():
        try:
            exported.imported(path)
        except LrprefError as error:
            assert str(error).isprintable()
