"""Whether what was imported is the same network: the first node that differs is found, and named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import lrpref
from lrpref import cli, weights_import
from lrpref.conformance import adapters
from lrpref.errors import BadInput, BadWeights
from lrpref.layers import BatchNorm, Conv2d, MaxPool2d
from lrpref.network import INPUT, Network, Node
from lrpref.weights_import import comparison

onnx = pytest.importorskip("onnx")
WEIGHTS = np.random.default_rng(5)


def drawn(*shape: int) -> Any:
    return WEIGHTS.normal(0, 0.5, shape).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual network as an ONNX file."""
    h = onnx.helper
    tensors = {
        "w1": drawn(4, 3, 3, 3), "b1": drawn(4), "scale": abs(drawn(4)) + 0.5, "shift": drawn(4),
        "mean": drawn(4), "var": abs(drawn(4)) + 0.5, "w2": drawn(4, 4, 3, 3), "w3": drawn(5, 4 * 4 * 4),
        "b3": drawn(5),
    }  # fmt: skip
    nodes = [
        h.make_node("Conv", ["x", "w1", "b1"], ["z1"], "conv1", pads=[1, 1, 1, 1]),
        h.make_node("BatchNormalization", ["z1", "scale", "shift", "mean", "var"], ["n1"], "bn1"),
        h.make_node("Relu", ["n1"], ["a1"], "relu1"),
        h.make_node("Conv", ["a1", "w2"], ["z2"], "conv2", pads=[1, 1, 1, 1]),
        h.make_node("Add", ["z2", "a1"], ["y"], "add"),
        h.make_node("Relu", ["y"], ["a2"], "relu2"),
        h.make_node("MaxPool", ["a2"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        h.make_node("Flatten", ["p"], ["f"], "flatten"),
        h.make_node("Gemm", ["f", "w3", "b3"], ["score"], "fc", transB=1),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = h.make_graph(
        nodes, "small",
        [h.make_tensor_value_info("x", floats, [1, 3, 8, 8])],
        [h.make_tensor_value_info("score", floats, [1, 5])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def network(model: Path) -> Network:
    return weights_import.from_onnx(model)


def with_layer(network: Network, name: str, change: Callable[[Any], Any]) -> Network:
    nodes = [dataclasses.replace(n, layer=change(n.layer)) if n.name == name else n for n in network.nodes]
    return dataclasses.replace(network, nodes=tuple(nodes))


def test_the_same_network_holds_at_every_node(model: Path, network: Network) -> None:
    found = weights_import.verify(network, model, np.ones((3, 3, 8, 8)))
    assert found.holds
    assert found.first is None
    assert [row.node for row in found.rows] == [node.name for node in network.nodes]
    assert found.inputs == ("random", "given")
    assert found.worst.difference <= 2e-6  # a few roundings of float32, each 6e-8
    assert found.folded <= 1e-14  # of float64, 1e-16


def flip(layer: Conv2d) -> Conv2d:
    return dataclasses.replace(layer, weight=np.ascontiguousarray(layer.weight[..., ::-1, :]))


def one_weight(layer: Conv2d) -> Conv2d:
    weight = layer.weight.copy()
    weight[1, 2, 0, 1] *= np.float32(1.01)
    return dataclasses.replace(layer, weight=weight)


def other_eps(layer: BatchNorm) -> BatchNorm:
    return dataclasses.replace(layer, scale=layer.scale * 1.001)


def other_side(layer: Conv2d) -> Conv2d:
    return dataclasses.replace(layer, padding=(0, 2, 1, 1))


def average(layer: MaxPool2d) -> Any:
    return lrpref.layers.AvgPool2d(2)


FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a kernel upside down": ("conv1", flip),
    "one weight off by a hundredth": ("conv2", one_weight),
    "another eps": ("bn1", other_eps),
    "padding at the other side": ("conv2", other_side),
    "another pooling": ("pool", average),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_node_that_differs_is_named(model: Path, network: Network, fault: str) -> None:
    name, change = FAULTS[fault]
    found = weights_import.verify(with_layer(network, name, change), model)
    assert not found.holds
    assert found.first is not None
    assert found.first.node == name
    assert found.first.difference > found.bound


def renamed(network: Network) -> Network:
    nodes = [
        Node(f"our {n.name}", n.layer, tuple(i if i == INPUT else f"our {i}" for i in n.inputs))
        for n in network.nodes
    ]
    return dataclasses.replace(network, nodes=tuple(nodes))


def test_the_output_is_compared_whatever_it_is_called(model: Path, network: Network) -> None:
    found = weights_import.verify(renamed(network), model)
    assert found.holds
    assert [row.node for row in found.rows] == ["our fc"]
    found = weights_import.verify(renamed(with_layer(network, "conv1", flip)), model)
    assert not found.holds
    assert found.first.node == "our fc"


def test_a_network_that_stops_too_early_differs(model: Path, network: Network) -> None:
    found = weights_import.verify(dataclasses.replace(network, nodes=network.nodes[:-1]), model)
    assert found.first.node == "flatten"


def test_a_number_that_is_none_differs() -> None:
    values = np.array([1.0, np.nan])
    row = comparison.Row("node", "ReLU", "value", comparison.share(values, values))
    found = weights_import.Comparison("nobody", "float64", ("random",), (row,), 1, 0.0)
    assert found.first is row
    assert not found.holds


def test_an_input_of_another_shape(model: Path, network: Network) -> None:
    with pytest.raises(BadInput, match=r"input is \(1, 3, 9, 9\), wants \(N, 3, 8, 8\)"):
        weights_import.verify(network, model, np.ones((1, 3, 9, 9)))


# The command line


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_convert_compares_and_keeps_what_was_found(model: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nbird\nfish\nhorse\n")
    x, there = tmp_path / "x.npy", tmp_path / "small.safetensors"
    np.save(x, np.ones((1, 3, 8, 8)))
    options = ("--verify", "--input", x, "--classes", names, "--preprocessing", "imagenet")
    done = run("convert", model, there, *options)
    assert done.exit_code == 0, done.output
    assert "compared with onnxruntime" in done.output
    network = lrpref.load(there)
    found = network.provenance["verified"]
    assert found["nodes"] == "9 of 9"
    assert found["inputs"] == ["random", "given"]
    assert found["output"] <= found["worst"]["difference"] <= found["bound"]
    assert network.classes == ("cat", "dog", "bird", "fish", "horse")
    assert network.preprocessing.resize == 9  # 8 of 224 pixels as torchvision's 224 are of 256


def test_convert_writes_nothing_where_a_node_differs(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = weights_import.load

    def faulty(*arguments: Any, **options: Any) -> Network:
        return with_layer(load(*arguments, **options), "conv2", one_weight)

    monkeypatch.setattr(weights_import, "load", faulty)
    there = tmp_path / "small.safetensors"
    done = run("convert", model, there, "--verify")
    assert done.exit_code == 1
    assert "THE FIRST THAT DIFFERS is node 'conv2' (Conv2d)" in done.output
    assert not there.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--input", "x.npy"], "--input is what --verify compares on"),
        (["--classes", "nowhere.txt"], "nowhere.txt"),
        (["--preprocessing", "nowhere.toml"], "nowhere.toml"),
        (["--shape", "3,8,x"], "--shape 3,8,x: wanted are whole numbers"),
        (["--shape", "3,9,9"], "9"),
        (["--output", "none of them"], "none of them"),
        (["--architecture", "vgg16"], "small.onnx: brings its own graph; leave the architecture out"),
    ],
)
def test_convert_refuses(model: Path, tmp_path: Path, options: list[str], said: str) -> None:
    there = tmp_path / "small.safetensors"
    done = run("convert", model, there, *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not there.exists()


# PyTorch


@pytest.mark.peers
def test_a_live_module_and_a_saved_program(tmp_path: Path) -> None:
    torch = adapters.require("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5),
    ).eval()  # fmt: skip
    x = torch.randn(2, 3, 8, 8)
    network = weights_import.from_torch(module, x)
    assert weights_import.verify(network, module, x).holds
    assert next(module.parameters()).dtype == torch.float32  # it is not changed
    fault = with_layer(network, "0", flip)
    assert weights_import.verify(fault, module, x).first.node == "0"
    path = tmp_path / "module.pt2"
    torch.export.save(torch.export.export(module, (x,)), path)
    assert weights_import.verify(weights_import.load(path), path).holds
    assert weights_import.verify(fault, path).first.node == "0"


@pytest.mark.peers
def test_dtypes_and_computed_weights_are_no_difference() -> None:
    torch = adapters.require("torch")
    nn = torch.nn

    class Converting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))

        def forward(self, x: Any) -> Any:
            return self.conv(x.to(torch.float32)).float().flatten(1)

    module = Converting().eval()
    network = weights_import.from_torch(module, torch.randn(1, 3, 8, 8))
    assert weights_import.verify(network, module).holds
    program = torch.export.export(module, (torch.randn(1, 3, 8, 8),))
    assert weights_import.verify(network, program, np.ones((2, 3, 8, 8))).holds


@pytest.mark.peers
def test_a_state_dict_beside_torchvisions_module(tmp_path: Path) -> None:
    torch, torchvision = adapters.require("torch"), adapters.require("torchvision")
    torch.manual_seed(0)
    path = tmp_path / "squeezenet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    network = weights_import.load(path, "squeezenet1_1")
    found = weights_import.verify(network, path)
    assert found.holds
    assert len(found.rows) > 50
    fault = with_layer(network, "features.3.expand3x3", flip)
    assert weights_import.verify(fault, path).first.node == "features.3.expand3x3"


def test_bare_weights_of_nobodys_have_no_origin(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"weight": np.ones((2, 3)), "bias": np.ones(2)}, path)
    own = tmp_path / "own.toml"
    node = '{ name = "fc", layer = "Dense", out = 2, tensors = "" }'
    own.write_text(f'name = "own"\ninput = [3]\nnode = [{node}]')
    network = weights_import.load(path, own)
    with pytest.raises(BadWeights, match=r"there is nothing to compare with: .* is none of torchvision's"):
        weights_import.verify(network, path)
