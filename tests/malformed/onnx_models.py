"""Malformed ONNX models."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from malformed import seeds
from malformed.corpus import Corpus, Maker

CORPUS = Corpus("ONNX models", ".onnx")

BILLION = 1_000_000_000

Change = Callable[[ModelProto], Any]


def edited(change: Change) -> Maker:
    """The seed with something changed."""

    def make(folder: Path) -> bytes:
        model = seeds.onnx_model()
        change(model)
        return model.SerializeToString()

    return make


def change(kind: str, words: str) -> Callable[[Change], Change]:
    """Add a case: the decorated function changes the model."""

    def keep(make: Change) -> Change:
        CORPUS.add(kind, words, make.__name__, edited(make))
        return make

    return keep


def tensor(model: ModelProto, name: str) -> TensorProto:
    """Find a weight."""
    return next(each for each in model.graph.initializer if each.name == name)


def node(model: ModelProto, name: str) -> NodeProto:
    """Find a node."""
    return next(each for each in model.graph.node if each.name == name)


def attributes(kind: str, words: str, name: str, which: str, /, operator: str = "", **given: Any) -> None:
    """Add a case: attributes of a node, and perhaps its operator, changed."""

    def make(model: ModelProto) -> None:
        there = node(model, which)
        there.op_type = operator or there.op_type
        kept = [entry for entry in there.attribute if entry.name not in given]
        del there.attribute[:]
        there.attribute.extend([*kept, *(helper.make_attribute(key, value) for key, value in given.items())])

    CORPUS.add(kind, words, name, edited(make))


def constant(kind: str, words: str, name: str, which: str, array: Any, /) -> None:
    """Add a case: a weight, or a number of the shape arithmetic, replaced."""
    new = numpy_helper.from_array(np.asarray(array), which)
    CORPUS.add(kind, words, name, edited(lambda model: tensor(model, which).CopyFrom(new)))


def computed(kind: str, words: str, name: str, operator: str, *inputs: Any, **given: Any) -> None:
    """Add a case: the weight of the last layer is computed from constants, by one node."""

    def make(model: ModelProto) -> None:
        names = [f"constant{number}" for number in range(len(inputs))]
        arrays = [numpy_helper.from_array(np.asarray(x), key) for key, x in zip(names, inputs, strict=True)]
        model.graph.initializer.extend(arrays)
        model.graph.node.insert(0, helper.make_node(operator, names, ["made"], "bomb", **given))
        node(model, "score").input[1] = "made"

    CORPUS.add(kind, words, name, edited(make))


# Nodes and names.


@change("a cycle", "its graph has a cycle: relu reads relu")
def itself(model: ModelProto) -> None:
    node(model, "relu").input[0] = "relu"


@change("a cycle", "its graph has a cycle: norm reads sum reads relu reads norm|cycle")
def three(model: ModelProto) -> None:
    node(model, "norm").input[0] = "sum"


@change("missing tensors", "conv.weight")
def no_weight(model: ModelProto) -> None:
    model.graph.initializer.remove(tensor(model, "conv.weight"))


@change("a value that nothing gives", "gone")
def gone(model: ModelProto) -> None:
    node(model, "relu").input[0] = "gone"


@change("two values of one name", "two results have the name 'relu'")
def twice(model: ModelProto) -> None:
    node(model, "norm").output[0] = "relu"


@change("two values of one name", "is there already")
def over_a_weight(model: ModelProto) -> None:
    node(model, "relu").output[0] = "conv.weight"


@change("two tensors of one name", "two tensors have the name 'conv.bias'")
def tensors_twice(model: ModelProto) -> None:
    model.graph.initializer.append(tensor(model, "conv.bias"))


@change("an unknown operator", "operator Frobnicate .*relu")
def unknown(model: ModelProto) -> None:
    node(model, "relu").op_type = "Frobnicate"


@change("an unknown operator", r"com.microsoft.FusedConv|conv")
def of_another_domain(model: ModelProto) -> None:
    there = node(model, "conv")
    there.domain, there.op_type = "com.microsoft", "FusedConv"


@change("an unknown operator", "operator")
def no_operator(model: ModelProto) -> None:
    node(model, "relu").op_type = ""


@change("an unknown operator", "operator .*\\.\\.\\.")
def long_operator(model: ModelProto) -> None:
    node(model, "relu").op_type = "x\n\x1b[2J" * 100_000


@change("an unknown operator", "^many_operators.onnx: 200 things")
def many_operators(model: ModelProto) -> None:
    """All are found out at once, and the line stays a line."""
    for number in range(200):
        model.graph.node.append(helper.make_node(f"Op{number}", ["relu"], [f"y{number}"], f"node {number}"))
    model.graph.node.append(helper.make_node("Sum", [f"y{number}" for number in range(200)], ["all"], "all"))
    model.graph.output[0].name = "all"


@change("operators of an unknown version", "opset 9999")
def opset(model: ModelProto) -> None:
    model.opset_import[0].version = 9999


@change("operators of an unknown version", "opset -1")
def negative_opset(model: ModelProto) -> None:
    model.opset_import[0].version = -1


@change("operators of an unknown version", "0 versions")
def no_opset(model: ModelProto) -> None:
    del model.opset_import[:]


@change("a graph of nothing", "0 outputs|no graph|gives its output")
def nothing(model: ModelProto) -> None:
    model.graph.Clear()


@change("a graph of nothing", "no graph")
def no_graph(model: ModelProto) -> None:
    model.ClearField("graph")


@change("too few outputs", "has 0 outputs")
def no_output(model: ModelProto) -> None:
    del model.graph.output[:]


@change("too many outputs", "has 2 outputs")
def two_outputs(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))


@change("an output that nothing gives", "no node gives its output 'gone'")
def other_output(model: ModelProto) -> None:
    model.graph.output[0].name = "gone"


@change("an output that does not depend on the input", "depends on 0 inputs")
def constant_output(model: ModelProto) -> None:
    model.graph.node.append(helper.make_node("Neg", ["conv.bias"], ["y"], "y"))
    model.graph.output[0].name = "y"


@change("too many inputs", "depends on 2 inputs")
def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, 4, 4]))
    node(model, "sum").input[1] = "z"


@change("an input without a shape", "its input 'x' is")
def shapeless(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))


@change("an input without a shape", "shape=")
def open_sides(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"]))


@change("a negative size", "its input 'x' is")
def negative_input(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, -4, -4]))


@change("a size of 2**62", "too large")
def enormous_input(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 1 << 62, 1 << 62])
    )


@change("a size of 2**62", "too large|larger than")
def large_input(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 1 << 20, 1 << 20])
    )


@change("too many axes", "axes|images|x")
def axes(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1] * 100_000))


@change("an input of no numbers", "of another type than")
def words(model: ModelProto) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.STRING, [1, 2, 4, 4]))


@change("a shape that is not what is computed", "where the file says")
def lying(model: ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, [1, 3, 5, 5]))


@change("functions of its own", "functions of its own")
def function(model: ModelProto) -> None:
    relu = helper.make_node("Relu", ["a"], ["b"])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], [relu], opsets))
    node(model, "relu").domain, node(model, "relu").op_type = "own", "F"


@change("sparse tensors", "sparse")
def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.extend([1 << 40])


@change("growth from node to node", "larger than any memory|more than")
def doubled(model: ModelProto) -> None:
    before = "relu"
    for number in range(3_000):
        model.graph.node.append(helper.make_node("Concat", [before] * 2, [f"y{number}"], axis=1))
        before = f"y{number}"
    model.graph.output[0].name = before


@change("more nodes than a network has", "more than")
def many(model: ModelProto) -> None:
    before = "relu"
    for number in range(40_000):
        model.graph.node.append(helper.make_node("Relu", [before], [f"y{number}"]))
        before = f"y{number}"
    model.graph.output[0].name = before


@change("more nodes than a network has", "more than")
def much_arithmetic(model: ModelProto) -> None:
    before = "one"
    for number in range(40_000):
        model.graph.node.append(helper.make_node("Neg", [before], [f"y{number}"]))
        before = f"y{number}"
    node(model, "unsqueeze").input[1] = before


@change("more nodes than a network has", "more than")
def millions(model: ModelProto) -> None:
    for _ in range(500_000):
        model.graph.node.add()


@change("an absurd window", "larger than any memory")
def transposed(model: ModelProto) -> None:
    there = node(model, "conv")
    there.op_type = "ConvTranspose"
    del there.input[2:], there.attribute[:]
    there.attribute.append(helper.make_attribute("strides", [BILLION, BILLION]))
    tensor(model, "conv.weight").dims[:] = [2, 3, 3, 3]


@change("a size of 2**62", "output_padding is")
def transposed_to(model: ModelProto) -> None:
    transposed(model)
    node(model, "conv").attribute.append(helper.make_attribute("output_shape", [1 << 62, 1 << 62]))


# Attributes.

attributes(
    "an absurd window", "wants at least|larger than|weight", "kernel", "conv", kernel_shape=[BILLION, BILLION]
)
attributes("an absurd window", "wants at least", "pool", "pool", kernel_shape=[BILLION, BILLION])
attributes("an absurd window", "larger than any memory", "pads", "conv", pads=[10**12] * 4)
attributes("an absurd window", "half its kernel", "pool-pads", "pool", pads=[10**12] * 4)
attributes("a window of 0", "kernel", "no-kernel", "pool", kernel_shape=[0, 0])
attributes("a stride of 0", "strides?", "no-stride", "conv", strides=[0, 0])
attributes(
    "a stride of 0", "strides?", "no-stride-same", "conv", strides=[0, 0], auto_pad="SAME_UPPER", pads=[0] * 4
)
attributes("a negative stride", "strides?", "negative-stride", "conv", strides=[-1, -1])
attributes("a negative padding", "pads", "negative-pads", "conv", pads=[-1, -1, -1, -1])
attributes("an absurd dilation", "wants at least", "dilation", "conv", dilations=[BILLION, BILLION])
attributes("an absurd dilation", "dilation", "negative-dilation", "conv", dilations=[-1, -1])
attributes("groups of 0", "do not split into 0 groups", "groups", "conv", group=0)
attributes("groups of 0", "do not split into -1 groups", "negative-groups", "conv", group=-1)
attributes("too many numbers", "strides", "many-strides", "conv", strides=[1] * 100_000)
attributes("an unknown attribute", "padding_mode", "attribute", "conv", padding_mode="zeros")
attributes("an unknown attribute", "auto_pad", "auto-pad", "conv", auto_pad="SOMEHOW")
attributes("an attribute of another type", "kernel|sizes", "floats", "pool", kernel_shape=[2.5, 2.5])
attributes("an attribute of another type", "kernel|sizes", "words-kernel", "pool", kernel_shape="2")
attributes(
    "an attribute of another type",
    "transB|arguments",
    "tensor",
    "score",
    transB=numpy_helper.from_array(np.ones(2)),
)
attributes(
    "an attribute of another type", "weight holds -?(inf|nan)", "infinite", "score", alpha=float("inf")
)
attributes("an axis that is not there", "axis 99", "concat", "sum", "Concat", axis=99)
attributes("an axis that is not there", "axis -99", "softmax", "relu", "Softmax", axis=-99)
attributes("an axis that is not there", r"perm", "transpose", "relu", "Transpose", perm=[0, 1, 7, 9])
attributes("an axis that is not there", r"axis 99", "flatten", "relu", "Flatten", axis=99)
attributes("a norm in training", "training", "training", "norm", training_mode=1)

# Constants.

constant("a reshape to nothing", r"Reshape", "zero", "rest", [0])
constant("a reshape to nothing", r"Reshape", "minus", "rest", [-5])
constant("a reshape to nothing", r"Reshape", "two-minus", "rest", [-1, -1])
constant("a reshape to nothing", r"Reshape", "numbers", "rest", [1 << 62, 1 << 62])
constant("a reshape to nothing", r"Reshape|Concat", "endless", "rest", np.ones(100_000, np.int64))
constant("a reshape to nothing", r"sizes .* not whole", "fraction", "rest", np.array([-1.5]))
constant("an axis that is not there", "Gather|index", "gather", "zero", np.array(99))
constant("an axis that is not there", "Unsqueeze|axis", "unsqueeze", "one", np.array([99]))
constant(
    "a variance below 0", r"variance \+ eps is -", "variance", "norm.var", np.array([1, 1, -1], np.float32)
)
constant(
    "numbers that are not finite", "nan", "nan-weight", "score.weight", np.full((2, 12), np.nan, np.float32)
)
constant("numbers that are not finite", "nan|finite", "nan-norm", "norm.var", np.full(3, np.nan, np.float32))
constant("numbers that are not finite", "inf", "infinite-norm", "norm.scale", np.full(3, np.inf, np.float32))
constant(
    "weights of another network",
    "got .*wants",
    "other-weight",
    "conv.weight",
    np.ones((3, 5, 3, 3), np.float32),
)
constant("weights of another network", "bias", "other-bias", "conv.bias", np.ones(7, np.float32))
constant("weights of another network", "weight|axes", "flat-weight", "conv.weight", np.ones(7, np.float32))
constant(
    "weights that are integers", "dtype int8", "quantized", "conv.weight", np.ones((3, 2, 3, 3), np.int8)
)
constant(
    "weights with a 0 in their shape",
    "no 0 in it|wants",
    "empty",
    "conv.weight",
    np.ones((0, 2, 3, 3), np.float32),
)

# Arithmetic on constants that makes something huge of something small.

ONE, HUGE = np.ones(1, np.float32), np.array([1 << 40, 1 << 20])
computed("a bomb in arithmetic", "ConstantOfShape", "constant-of-shape", "ConstantOfShape", HUGE)
computed("a bomb in arithmetic", "ConstantOfShape", "of-negative-shape", "ConstantOfShape", -HUGE)
computed(
    "a bomb in arithmetic", "ConstantOfShape", "of-many-axes", "ConstantOfShape", np.ones(100_000, np.int64)
)
computed(
    "a bomb in arithmetic", "ConstantOfShape", "of-huge-axes", "ConstantOfShape", np.full(100_000, 1 << 62)
)
computed("a bomb in arithmetic", "Expand", "expand", "Expand", ONE, HUGE)
computed("a bomb in arithmetic", "Tile", "tile", "Tile", ONE.reshape(1, 1), HUGE)
computed("a bomb in arithmetic", "Range", "range", "Range", np.array(0), np.array(1 << 50), np.array(1))
computed("a bomb in arithmetic", "Range", "range-by-0", "Range", np.array(0), np.array(10), np.array(0))
computed(
    "a bomb in arithmetic", "Range", "range-by-nan", "Range", np.float32(0), np.float32(10), np.float32("nan")
)
computed(
    "a bomb in arithmetic",
    "Gather",
    "gather-all",
    "Gather",
    np.ones((20_000, 100), np.float32),
    np.zeros(20_000, np.int64),
)
computed(
    "a bomb in arithmetic",
    "Add",
    "outer-sum",
    "Add",
    np.ones((50_000, 1), np.float32),
    np.ones((1, 50_000), np.float32),
)
computed("a bomb in arithmetic", "Pow|dtype|int", "powers", "Pow", np.array([10]), np.array([1 << 40]))
computed("an operator that constants cannot have", "MatMul", "product", "MatMul", ONE, ONE)
computed("an operator that constants cannot have", "RandomNormal", "random", "RandomNormal", shape=[2, 12])
computed("an operator that constants cannot have", "Loop|graph", "loop", "Loop", np.array(1 << 40))
computed("a tensor in a tensor", "Constant", "constant-of-text", "Constant", value_string="12")


@change("a bomb in arithmetic", "more than|Concat|Expand")
def doubled_constants(model: ModelProto) -> None:
    """Sixty nodes, each twice as large as the one before."""
    before = "conv.bias"
    for number in range(60):
        model.graph.node.append(helper.make_node("Concat", [before] * 2, [f"c{number}"], axis=0))
        before = f"c{number}"
    node(model, "conv").input[2] = before


def scaled(model: ModelProto, axes: list[int], times: int) -> None:
    """Nodes that flatten an input and scale it, each with numbers of its own for all that it holds."""
    del model.graph.node[:]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *axes]))
    model.graph.node.append(helper.make_node("Flatten", ["x"], ["y0"]))
    for number in range(times):
        model.graph.node.append(helper.make_node("Relu", [f"y{number}"], [f"z{number}"]))
        model.graph.node.append(helper.make_node("Neg", [f"z{number}"], [f"y{number + 1}"]))
    model.graph.output[0].name = f"y{times}"


@change("a number for each of too many channels", "a constant for 268435456 channels")
def channels(model: ModelProto) -> None:
    scaled(model, [1 << 14, 1 << 14], 1)


@change("a number for each of too many channels", "far more memory")
def channels_again_and_again(model: ModelProto) -> None:
    scaled(model, [1 << 10, 1 << 10], 100)


# Graphs in graphs.


def _nested(depth: int) -> AttributeProto:
    """A graph in a graph in a graph: built from the innermost, so that nothing here recurses."""
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    for _ in range(depth):
        holder = helper.make_node("If", ["x"], ["y"])
        holder.attribute.append(helper.make_attribute("then_branch", inner))
        inner = helper.make_graph([holder], "g", [], [])
    return helper.make_attribute("then_branch", inner)


@change("graphs in graphs", "If")
def branch(model: ModelProto) -> None:
    node(model, "relu").op_type = "If"
    node(model, "relu").attribute.append(_nested(0))


@change("graphs in graphs", "Relu .*then_branch|with an attribute")
def hidden_branch(model: ModelProto) -> None:
    node(model, "relu").attribute.append(_nested(3))


def _message(field: int, content: bytes) -> bytes:
    """A field of a protobuf message: its number, its length, its content."""
    length, digits = len(content), []
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([field << 3 | 2, *digits, length]) + content


def _deep() -> bytes:
    """A model whose graph holds a node with an attribute that is a graph that holds a node ..."""
    content = b""
    for _ in range(3_000):
        content = _message(1, _message(5, _message(6, content)))  # GraphProto.node, .attribute, .g
    return b"\x08\x08" + _message(7, content)  # ir_version 8, graph


CORPUS.add("deep nesting", "no ONNX file, or a damaged one", "deep", _deep())

# Bytes.

WHOLE = seeds.onnx_file()
CORPUS.add("a field longer than the file", "damaged one", "long-field", b"\x08\x08:\xff\xff\xff\xff\x07x")
CORPUS.add("a field of no known type", "damaged one", "no-type", b"\x08\x08\x3f" + WHOLE)
CORPUS.add(
    "a text that is no text", "no UTF-8|damaged", "no-text", WHOLE.replace(b"Relu", b"\xff\xfe\xfd\xfc")
)
CORPUS.add("a file of another kind", "no ONNX file|no graph", "checkpoint", seeds.zip_checkpoint())
CORPUS.add("a file of another kind", "no ONNX file|no graph", "neutral", seeds.neutral())


def weight(kind: str, words: str) -> Callable[[Callable[[TensorProto], Any]], None]:
    """Add a case: the decorated function changes the last weight."""

    def keep(make: Callable[[TensorProto], Any]) -> None:
        CORPUS.add(kind, words, make.__name__, edited(lambda model: make(tensor(model, "score.weight"))))

    return keep


def _dims(there: TensorProto, *dims: int) -> None:
    del there.dims[:]
    there.dims.extend(dims)


@weight("a storage of another length", "has 95 bytes, its shape wants 96")
def short(there: TensorProto) -> None:
    there.raw_data = there.raw_data[:-1]


@weight("a storage of another length", "has 0 numbers, its shape wants 24")
def none(there: TensorProto) -> None:
    there.ClearField("raw_data")


@weight("a tensor larger than its storage", "its shape wants 144")
def larger(there: TensorProto) -> None:
    _dims(there, 3, 12)


@weight("a negative size", "its shape")
def negative(there: TensorProto) -> None:
    _dims(there, -2, -12)


@weight("a shape whose product overflows", "its shape wants")
def overflow(there: TensorProto) -> None:
    """Modulo 2**64 the product is 24."""
    _dims(there, (1 << 61) + 3, 8)


@weight("a size of 2**62", "its shape wants")
def enormous(there: TensorProto) -> None:
    _dims(there, 1 << 62, 1 << 62)


@weight("more axes than there are", "its shape")
def all_ones(there: TensorProto) -> None:
    _dims(there, *[1] * 100_000, 24)


@weight("an unknown dtype", "dtype 99")
def dtype(there: TensorProto) -> None:
    there.data_type = 99


@weight("an unknown dtype", "dtype STRING")
def text(there: TensorProto) -> None:
    there.data_type = TensorProto.STRING


@weight("an unknown dtype", "dtype UNDEFINED")
def undefined(there: TensorProto) -> None:
    there.data_type = TensorProto.UNDEFINED


@weight("a tensor in segments", "segments")
def segment(there: TensorProto) -> None:
    there.segment.begin, there.segment.end = 0, 1 << 40


@weight("numbers that their dtype cannot hold", "cannot hold|dtype int8")
def overflowing(there: TensorProto) -> None:
    there.ClearField("raw_data")
    there.data_type = TensorProto.INT8
    there.int32_data.extend([1000] * 24)


# Numbers in files beside the model's.


def outside(kind: str, words: str, name: str, beside: Callable[[Path], dict[str, str]], /) -> None:
    """Add a case: the last weight is in another file; `beside` makes it, and gives the model's entries."""

    def make(folder: Path) -> bytes:
        entries = beside(folder)

        def move(model: ModelProto) -> None:
            there = tensor(model, "score.weight")
            there.ClearField("raw_data")
            there.data_location = TensorProto.EXTERNAL
            for key, value in entries.items():
                there.external_data.add(key=key, value=value)

        return edited(move)(folder)

    CORPUS.add(kind, words, name, make)


def _there(folder: Path, *, size: int = 96, **entries: str) -> dict[str, str]:
    (folder / "weights.bin").write_bytes(bytes(size))
    return {"location": "weights.bin", **entries}


def _secret(folder: Path) -> Path:
    """A file that the model must not reach, of the right length."""
    path = folder.parent / f"{folder.name}-secret"
    path.write_bytes(bytes(96))
    return path


def _linked(folder: Path) -> dict[str, str]:
    (folder / "weights.bin").symlink_to(_secret(folder))
    return {"location": "weights.bin"}


def _linked_folder(folder: Path) -> dict[str, str]:
    name = _secret(folder).name
    (folder / "inner").symlink_to(folder.parent, target_is_directory=True)
    return {"location": f"inner/{name}"}


def _piped(folder: Path) -> dict[str, str]:
    os.mkfifo(folder / "weights.bin")
    return {"location": "weights.bin"}


OUT = "data outside the model's folder"
IN_FOLDER = "expected a file in the model's folder"
outside(OUT, IN_FOLDER, "absolute", lambda folder: {"location": str(_secret(folder))})
outside(OUT, IN_FOLDER, "passwords", lambda folder: {"location": "/etc/passwd", "length": "96"})
outside(OUT, IN_FOLDER, "above", lambda folder: {"location": f"../{_secret(folder).name}"})
outside(OUT, IN_FOLDER, "above-inside", lambda folder: {"location": f"a/../../{_secret(folder).name}"})
outside(OUT, IN_FOLDER, "backslashes", lambda folder: {"location": f"..\\{_secret(folder).name}"})
outside(OUT, IN_FOLDER, "drive", lambda folder: {"location": "C:weights.bin"})
outside(OUT, IN_FOLDER, "null", lambda folder: {"location": "weights.bin\0.txt"})
outside(OUT, IN_FOLDER, "nowhere", lambda folder: {})
outside(OUT, "is a link out of the model's folder", "link", _linked)
outside(OUT, "is a link out of the model's folder", "linked-folder", _linked_folder)
outside("a pipe", "device", "pipe", _piped)
outside("a folder", "folder", "the-folder", lambda folder: {"location": "."})
outside("a storage that is missing", "no such file", "missing", lambda folder: {"location": "weights.bin"})
outside("a storage of another length", "ends at byte 96 of weights.bin, which has 95", "short-file",
        lambda folder: _there(folder, size=95))  # fmt: skip
outside(
    "a storage of another length", "its shape wants 96", "length", lambda folder: _there(folder, length="95")
)
outside(
    "a size of 2**62",
    "no whole number|ends at byte",
    "offset",
    lambda folder: _there(folder, offset=str(1 << 62)),
)
outside("a negative size", "no whole number", "negative-offset", lambda folder: _there(folder, offset="-4"))
outside(
    "a number of a million digits",
    "no whole number",
    "digits",
    lambda folder: _there(folder, offset="9" * 1_000_000),
)
